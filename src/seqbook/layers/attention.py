"""Attention: each position looks at the others it may see and takes a weighted mean of them.

The whole book has one convention for masks: boolean, **True = may attend**, broadcastable to
``(..., queries, keys)``. A query that may attend to nothing gets the value zero, weights of zero
and no gradient. (torch's ``scaled_dot_product_attention`` does the same and reads masks as this
module does. Its ``nn.MultiheadAttention`` and ``nn.Transformer`` read them the other way round, and
where they return weights, a query that may attend to nothing gets NaN.)
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.functional import linear

from seqbook.validation import check_choice

__all__ = [
    "IMPLEMENTATIONS",
    "Attention",
    "KeysAndValues",
    "MultiHeadAttention",
    "causal_mask",
    "chunked_attention",
    "padding_mask",
    "recorded_weights",
    "scaled_dot_product_attention",
]

IMPLEMENTATIONS = ("fused", "loop", "chunked")
_SCORES = 2**20  # in a chunk


def causal_mask(queries: int, keys: int | None = None) -> Tensor:
    """Let each query attend to its own position and those before it.

    Args:
        queries: Number of queries.
        keys: Number of keys, by default that of the queries. The last query stands at the last
            key, so that new queries can be put to a longer past.

    Shape:
        result: bool ``(queries, keys)``, True = may attend.

    Raises:
        ValueError: There are more queries than keys.
    """
    keys = queries if keys is None else keys
    if not 0 <= queries <= keys:
        raise ValueError(f"queries: expected 0 to {keys} for {keys} keys, got {queries}")
    return torch.ones(queries, keys, dtype=torch.bool).tril(keys - queries)


def padding_mask(lengths: Tensor, time: int) -> Tensor:
    """Let every query attend to the keys of its own sequence and to no padding.

    Combine it with a causal mask by ``&``.

    Args:
        lengths: Number of keys of each sequence that are no padding, integers ``(batch,)``.
        time: Number of keys after padding.

    Shape:
        result: bool ``(batch, 1, time)``, True = may attend.

    Raises:
        ValueError: A length is not in 0 to ``time``, or ``lengths`` has another shape.
    """
    if lengths.dim() != 1:
        raise ValueError(f"lengths: expected shape (batch,), got {tuple(lengths.shape)}")
    if len(lengths) and not 0 <= int(lengths.min()) <= int(lengths.max()) <= time:
        raise ValueError(f"lengths: expected 0 to {time}, got {lengths.tolist()}")
    return (torch.arange(time, device=lengths.device) < lengths[:, None]).unsqueeze(1)


class Attention(NamedTuple):
    """Output and weights of an attention layer.

    Attributes:
        output: The weighted means of the values, ``(..., queries, d_v)``.
        weights: Who attended to whom, ``(..., queries, keys)``; each row sums to one, or to zero
            where the query may attend to nothing.
    """

    output: Tensor
    weights: Tensor


def scaled_dot_product_attention(
    query: Tensor, key: Tensor, value: Tensor, *, mask: Tensor | None = None, scaled: bool = True
) -> Attention:
    r"""Attend: each query takes the mean of the values, weighted by how well their keys fit it.

    .. math:: \operatorname{Attention}(Q, K, V) =
        \operatorname{softmax}\left(\frac{Q K^\top}{\sqrt{d_k}}\right) V

    The softmax runs over the keys that the mask allows.

    Args:
        query: ``(..., queries, d_k)``.
        key: ``(..., keys, d_k)``.
        value: ``(..., keys, d_v)``.
        mask: Boolean, broadcastable to ``(..., queries, keys)``, True = may attend; by default
            every query may attend to every key. Keys and values must be finite where it is False
            too, for zero times NaN is NaN.
        scaled: Whether to divide by the square root of d_k. Without it the softmax hardens as d_k
            grows.

    Raises:
        ValueError: Shapes do not fit.
        TypeError: The mask is not boolean.

    Source: Vaswani et al. (2017), equation 1.
    """
    _check_shapes(query, key, value, mask)
    query = query * query.shape[-1] ** -0.5 if scaled else query
    scores = query @ key.transpose(-2, -1)  # (..., queries, keys)
    if mask is None:
        weights = scores.softmax(-1)
    else:
        # The lowest number instead of -inf keeps a row that may attend to nothing
        # free of NaN; the second fill makes its weights zero, and no others.
        lowest = torch.finfo(scores.dtype).min
        weights = scores.masked_fill(~mask, lowest).softmax(-1).masked_fill(~mask, 0)
    return Attention(weights @ value, weights)  # (..., queries, d_v)


def chunked_attention(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    *,
    mask: Tensor | None = None,
    causal: bool = False,
    chunk: int | None = None,
) -> Tensor:
    r"""Attend without ever holding the whole matrix of scores.

    The weights of a query need its own row of scores and no other. So a few queries are taken at a
    time, and their weights forgotten once their output is known. Backward, they are computed
    again. With :math:`P` the weights of a chunk, :math:`\bar O` the gradient of its output and
    :math:`\bar P = \bar O V^\top`,

    .. math:: \bar Z = P \odot (\bar P - \operatorname{rowsum}(P \odot \bar P)), \qquad
        \bar V \mathrel{+}= P^\top \bar O, \quad
        \bar Q = \frac{\bar Z K}{\sqrt{d_k}}, \quad
        \bar K \mathrel{+}= \frac{\bar Z^\top Q}{\sqrt{d_k}}

    So memory grows with the length and not with its square, and what is worked on stays in the
    processor's cache. Values and gradients are those of ``scaled_dot_product_attention``.

    Args:
        query: ``(..., queries, d_k)``.
        key: ``(..., keys, d_k)``.
        value: ``(..., keys, d_v)``.
        mask: As for ``scaled_dot_product_attention``. One that is full in both last axes takes
            quadratic memory itself; padding does not.
        causal: Whether to add a causal mask, which is never held as a whole.
        chunk: Queries in a chunk, by default as many as have 2**20 scores, four megabytes;
            where that is more than there are queries, several heads are taken together.

    Shape:
        result: ``(..., queries, d_v)``.

    Raises:
        ValueError: Shapes do not fit, ``chunk`` is not positive, or ``causal`` with fewer keys
            than queries.
        TypeError: The mask is not boolean.

    Source: Rabe and Staats (2021).
    """
    _check_shapes(query, key, value, mask)
    if chunk is not None and chunk < 1:
        raise ValueError(f"chunk: expected at least 1, got {chunk}")
    if causal and query.shape[-2] > key.shape[-2]:
        raise ValueError(
            f"query: expected at most as many queries as keys for causal attention, got "
            f"{query.shape[-2]} queries and {key.shape[-2]} keys"
        )
    leading = torch.broadcast_shapes(*(x.shape[:-2] for x in (query, key, value)))
    flat = (_on_one_axis(x, leading) for x in (query, key, value))
    if mask is not None:
        mask = torch.atleast_2d(mask)
        mask = mask.expand(*leading, *mask.shape[-2:])
    output = _Chunked.apply(*flat, mask, causal, chunk)
    return output.view(*leading, *output.shape[1:])


class _Chunked(torch.autograd.Function):
    """The forward and backward pass of ``chunked_attention``, for all heads on one axis."""

    @staticmethod
    def forward(ctx, query, key, value, mask, causal, chunk):
        chunks = _Chunks(query, key, mask, causal, chunk)
        scaled = query * query.shape[-1] ** -0.5
        output = value.new_empty(*query.shape[:2], value.shape[-1])
        scores = chunks.buffer(query)
        for rows, columns, allowed in chunks:
            weights = _softmax(scaled[rows], key[columns], allowed, out=scores)
            torch.bmm(weights, value[columns], out=output[rows])
        ctx.save_for_backward(scaled, key, value, mask)
        ctx.chunks = chunks
        return output

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx, gradient):
        scaled, key, value, _ = ctx.saved_tensors  # raises if any was changed, the mask too
        d_query = torch.empty_like(scaled)
        d_key, d_value = torch.zeros_like(key), torch.zeros_like(value)
        scores, d_scores = (ctx.chunks.buffer(scaled) for _ in range(2))
        for rows, columns, allowed in ctx.chunks:
            weights = _softmax(scaled[rows], key[columns], allowed, out=scores)
            d_value[columns].baddbmm_(weights.transpose(1, 2), gradient[rows])
            d_weights = _product(gradient[rows], value[columns], out=d_scores)
            torch.ops.aten._softmax_backward_data.out(
                d_weights, weights, -1, weights.dtype, grad_input=d_weights
            )  # now the gradient of the scores
            torch.bmm(d_weights, key[columns], out=d_query[rows])
            d_key[columns].baddbmm_(d_weights.transpose(1, 2), scaled[rows])
        return d_query.mul_(scaled.shape[-1] ** -0.5), d_key, d_value, None, None, None


class _Chunks:
    """How the scores are cut: for each chunk the queries, the keys, and the mask between them."""

    def __init__(
        self, query: Tensor, key: Tensor, mask: Tensor | None, causal: bool, chunk: int | None
    ):
        self._heads, self._queries, self._keys = *query.shape[:2], key.shape[1]
        self._mask, self._causal = mask, causal
        together = max(1, _SCORES // max(1, self._keys))  # rows of scores
        self._rows = min(chunk or together, max(1, self._queries))
        self._together = max(1, min(together // self._rows, self._heads))

    def buffer(self, like: Tensor) -> Tensor:
        """Room for the scores of any chunk."""
        return like.new_empty(self._together * self._rows * self._keys)

    def __iter__(self) -> Iterator[tuple[tuple, tuple, Tensor | None]]:
        for heads in _slices(self._heads, self._together):
            for rows in _slices(self._queries, self._rows):
                past = self._keys - self._queries
                columns = slice(0, rows.stop + past if self._causal else self._keys)
                yield (heads, rows), (heads, columns), self._allowed(heads, rows, columns)

    def _allowed(self, heads: slice, rows: slice, columns: slice) -> Tensor | None:
        mask = self._mask
        if mask is not None:
            mask = mask if mask.shape[-2] == 1 else mask[..., rows, :]
            mask = mask if mask.shape[-1] == 1 else mask[..., columns]
            if leading := mask.shape[:-2]:
                numbers = torch.arange(heads.start, heads.stop, device=mask.device)
                mask = mask[torch.unravel_index(numbers, leading)]
        if self._causal:
            causal = causal_mask(rows.stop - rows.start, columns.stop)
            mask = causal if mask is None else causal & mask
        return mask


def _on_one_axis(values: Tensor, leading: tuple[int, ...]) -> Tensor:
    """Expand the leading axes to ``leading`` and make them one."""
    values = values.expand(*leading, *values.shape[-2:])
    return values.reshape(math.prod(leading), *values.shape[-2:])


def _product(rows: Tensor, columns: Tensor, *, out: Tensor) -> Tensor:
    """All dot products, written into the beginning of a flat buffer."""
    shape = (len(rows), rows.shape[1], columns.shape[1])
    return torch.bmm(rows, columns.transpose(1, 2), out=out[: math.prod(shape)].view(shape))


def _softmax(query: Tensor, key: Tensor, allowed: Tensor | None, *, out: Tensor) -> Tensor:
    """The weights, written into the beginning of a flat buffer."""
    scores = _product(query, key, out=out)
    if allowed is None:
        return torch.softmax(scores, -1, out=scores)
    scores.masked_fill_(~allowed, torch.finfo(scores.dtype).min)
    return torch.softmax(scores, -1, out=scores).masked_fill_(~allowed, 0)


class KeysAndValues(NamedTuple):
    """What is attended to, once projected and cut into heads.

    Attributes:
        keys: ``(batch, heads, keys, d_model / heads)``.
        values: Of the same shape.
    """

    keys: Tensor
    values: Tensor

    def append(self, later: KeysAndValues) -> KeysAndValues:
        """Append later positions."""
        return KeysAndValues(*(torch.cat(pair, 2) for pair in zip(self, later, strict=True)))

    def index_select(self, rows: Tensor) -> KeysAndValues:
        """Pick sequences of the batch by their numbers."""
        return KeysAndValues(*(part.index_select(0, rows) for part in self))


class MultiHeadAttention(nn.Module):
    r"""Attention by several heads, each with its own projection to a part of the features.

    .. math:: \operatorname{head}_i &=
            \operatorname{Attention}(Q W_i^Q, K W_i^K, V W_i^V) \\
        \operatorname{MultiHead}(Q, K, V) &=
            [\operatorname{head}_1, \dots, \operatorname{head}_h] W^O

    each with a bias. The parameters have the names and shapes of ``torch.nn.MultiheadAttention``:
    the projections of all heads stand below each other in ``in_proj_weight``, first of the
    queries, then of the keys, then of the values.

    Args:
        d_model: Of queries, keys, values and outputs.
        heads: Number of heads; it must divide ``d_model``.
        bias: Whether there are biases.
        implementation: ``"fused"`` computes all heads in one product, and by
            ``chunked_attention`` where that would hold more than 2**20 scores; ``"loop"`` one head
            after the other, as in the equation; ``"chunked"`` always by ``chunked_attention``.
            Values and gradients are equal. Chunks can be differentiated once only.
        generator: Draws the initial weights, Glorot-uniform (over all three projections together,
            as in torch); by default torch's own. Biases start at zero.

    Raises:
        ValueError: A size is not positive, ``heads`` does not divide ``d_model``, or
            ``implementation`` is none of the three.

    Source: Vaswani et al. (2017), section 3.2.2.
    """

    def __init__(
        self,
        d_model: int,
        heads: int,
        *,
        bias: bool = True,
        implementation: str = "fused",
        generator: torch.Generator | None = None,
    ):
        super().__init__()
        if heads < 1 or d_model < 1 or d_model % heads:
            raise ValueError(
                f"heads: expected a positive divisor of a positive d_model, got {heads} heads for "
                f"d_model {d_model}"
            )
        check_choice("implementation", implementation, IMPLEMENTATIONS)
        self.d_model, self.heads, self.implementation = d_model, heads, implementation
        self.in_proj_weight = nn.Parameter(torch.empty(3 * d_model, d_model))
        self.in_proj_bias = nn.Parameter(torch.zeros(3 * d_model)) if bias else None
        self.out_proj = nn.Linear(d_model, d_model, bias=bias)
        nn.init.xavier_uniform_(self.in_proj_weight, generator=generator)
        nn.init.xavier_uniform_(self.out_proj.weight, generator=generator)
        if bias:
            nn.init.zeros_(self.out_proj.bias)

    def forward(
        self,
        query: Tensor,
        key: Tensor | None = None,
        value: Tensor | None = None,
        *,
        mask: Tensor | None = None,
    ) -> Tensor:
        """What each query finds.

        Args:
            query: ``(batch, queries, d_model)``.
            key: ``(batch, keys, d_model)``, by default the query: self-attention.
            value: ``(batch, keys, d_model)``, by default the key.
            mask: Boolean, True = may attend, broadcastable to ``(batch, queries, keys)``, or with
                an axis of heads to ``(batch, heads, queries, keys)``.

        Shape:
            result: ``(batch, queries, d_model)``.

        Raises:
            ValueError: Shapes do not fit.
            TypeError: The mask is not boolean.
        """
        query, keys_and_values = self.project(query, key, value)
        return self.attend(query, keys_and_values, mask=mask)

    def weights(self, query: Tensor, key: Tensor | None = None, *, mask: Tensor | None = None):
        """Who attends to whom, ``(batch, heads, queries, keys)``; arguments as for ``forward``."""
        query, (keys, values) = self.project(query, key)
        return scaled_dot_product_attention(query, keys, values, mask=_over_heads(mask)).weights

    def project(
        self, query: Tensor, key: Tensor | None = None, value: Tensor | None = None
    ) -> tuple[Tensor, KeysAndValues]:
        """Project and cut into heads: the first half of ``forward``.

        Arguments, and what is raised, as for ``forward``.

        Shape:
            results ``(batch, heads, queries or keys, d_model / heads)``.
        """
        if key is None and value is None:
            query, keys, values = self._project("query", query, 0, 3)
            return query, KeysAndValues(keys, values)
        key = query if key is None else key
        return self.project_query(query), self.project_memory(key, value)

    def project_query(self, query: Tensor) -> Tensor:
        """Project the queries alone, for keys and values that are known already.

        Shape:
            query ``(batch, queries, d_model)``;
            result ``(batch, heads, queries, d_model / heads)``.

        Raises:
            ValueError: The shape does not fit.
        """
        return self._project("query", query, 0, 1)[0]

    def project_memory(self, key: Tensor, value: Tensor | None = None) -> KeysAndValues:
        """Project what is attended to alone, to keep it for many queries.

        Args:
            key: ``(batch, keys, d_model)``.
            value: ``(batch, keys, d_model)``, by default the key.

        Raises:
            ValueError: A shape does not fit.
        """
        if value is None:
            return KeysAndValues(*self._project("key", key, 1, 3))
        return KeysAndValues(*self._project("key", key, 1, 2), *self._project("value", value, 2, 3))

    def _project(self, name: str, inputs: Tensor, start: int, stop: int) -> tuple[Tensor, ...]:
        """Apply the projections ``start`` to ``stop`` of the three in one product."""
        if inputs.dim() != 3 or inputs.shape[-1] != self.d_model:
            raise ValueError(
                f"{name}: expected shape (batch, positions, {self.d_model}), got "
                f"{tuple(inputs.shape)}"
            )
        weight, bias = self.in_proj_weight, self.in_proj_bias
        if stop - start < 3:  # a slice costs its whole again in the backward pass
            rows = slice(start * self.d_model, stop * self.d_model)
            weight, bias = weight[rows], None if bias is None else bias[rows]
        projected = linear(inputs, weight, bias)
        return tuple(
            part.unflatten(-1, (self.heads, -1)).transpose(1, 2)
            for part in projected.chunk(stop - start, -1)
        )

    def attend(
        self, query: Tensor, keys_and_values: KeysAndValues, *, mask: Tensor | None = None
    ) -> Tensor:
        """Attend with every head and mix what they find: the second half of ``forward``."""
        found = self._heads(query, *keys_and_values, _over_heads(mask))
        return self.out_proj(found.transpose(1, 2).flatten(2))  # (batch, queries, d_model)

    def _heads(self, query: Tensor, keys: Tensor, values: Tensor, mask: Tensor | None) -> Tensor:
        many = query.shape[:-1].numel() * keys.shape[-2] > _SCORES
        if self.implementation == "chunked" or (self.implementation == "fused" and many):
            return chunked_attention(query, keys, values, mask=mask)
        if self.implementation == "fused":
            return scaled_dot_product_attention(query, keys, values, mask=mask).output
        _check_shapes(query, keys, values, mask)
        found = []
        for head in range(self.heads):
            own = None if mask is None else mask.expand(-1, self.heads, -1, -1)[:, head]
            parts = (x[:, head] for x in (query, keys, values))
            found.append(scaled_dot_product_attention(*parts, mask=own).output)
        return torch.stack(found, 1)

    def extra_repr(self) -> str:
        """The sizes, for ``print``."""
        return f"{self.d_model}, heads={self.heads}"


@contextmanager
def recorded_weights(model: nn.Module) -> Iterator[dict[str, Tensor]]:
    """Record the weights of every attention layer while ``model`` runs inside the block.

    The steps of a decoder that keeps a cache call no whole attention layer and are not recorded.

    Yields:
        Name of the layer in ``model`` to the weights of its last call,
        ``(batch, heads, queries, keys)``; filled as the model runs.
    """
    recorded: dict[str, Tensor] = {}

    def record(layer_name: str) -> Callable:
        def hook(layer, arguments, options, _output) -> None:
            options = {name: x for name, x in options.items() if name != "value"}
            with torch.no_grad():
                recorded[layer_name] = layer.weights(*arguments[:2], **options)

        return hook

    hooks = [
        layer.register_forward_hook(record(name), with_kwargs=True)
        for name, layer in model.named_modules()
        if isinstance(layer, MultiHeadAttention)
    ]
    try:
        yield recorded
    finally:
        for hook in hooks:
            hook.remove()


def _slices(length: int, chunk: int) -> list[slice]:
    return [slice(start, min(start + chunk, length)) for start in range(0, length, chunk)]


def _over_heads(mask: Tensor | None) -> Tensor | None:
    """Give a mask an axis of heads unless it has one: ``(batch, heads, queries, keys)``."""
    if mask is None or mask.dim() == 4:
        return mask
    mask = mask.reshape((1,) * (3 - mask.dim()) + tuple(mask.shape))
    return mask.unsqueeze(1)


def _check_shapes(query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None) -> None:
    shapes = {"query": query.shape, "key": key.shape, "value": value.shape}
    shown = ", ".join(f"{name} {tuple(shape)}" for name, shape in shapes.items())
    if min(map(len, shapes.values())) < 2:
        raise ValueError(f"query, key, value: expected (..., positions, features), got {shown}")
    if query.shape[-1] != key.shape[-1]:
        raise ValueError(f"key: expected the queries' {query.shape[-1]} features, got {shown}")
    if key.shape[-2] != value.shape[-2]:
        raise ValueError(f"value: expected one for each of {key.shape[-2]} keys, got {shown}")
    try:
        leading = torch.broadcast_shapes(*(shape[:-2] for shape in shapes.values()))
    except RuntimeError:
        raise ValueError(
            f"query, key, value: expected the same leading axes, got {shown}"
        ) from None
    if mask is None:
        return
    if mask.dtype != torch.bool:
        raise TypeError(f"mask: expected booleans, True = may attend, got {mask.dtype}")
    scores = (*leading, query.shape[-2], key.shape[-2])
    try:
        fits = torch.broadcast_shapes(mask.shape, scores) == scores
    except RuntimeError:
        fits = False
    if not fits:
        raise ValueError(
            f"mask: expected a shape broadcastable to {scores} (..., queries, keys), got "
            f"{tuple(mask.shape)}"
        )
