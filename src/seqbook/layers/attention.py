"""Attention: each position takes a weighted mean of the positions that it may attend to.

The whole book has one convention for masks: boolean, **True = may attend**, broadcastable to
``(..., queries, keys)``. A query that may attend to nothing gets the value zero, weights of zero
and no gradient. (``torch.nn.functional.scaled_dot_product_attention`` does the same and reads
masks as this module does. In the masks of ``torch.nn.MultiheadAttention`` and
``torch.nn.Transformer`` True means "may not attend", and where they return weights, a query that
may attend to nothing gets NaN.)

Everything works on the device of its inputs. Products and softmax of half-precision inputs are
computed in float32, and results returned in the inputs' type.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.functional import linear
from torch.nn.init import xavier_uniform_

from seqbook.kernels.attention import SCORES_PER_CHUNK, ChunkedAttentionFunction
from seqbook.layers.initialization import initialize
from seqbook.validation import check_choice, has_values

__all__ = [
    "IMPLEMENTATIONS",
    "Attention",
    "AttentionLayer",
    "GroupedQueryAttention",
    "KeyValueCache",
    "KeysAndValues",
    "MultiHeadAttention",
    "causal_mask",
    "chunked_attention",
    "padding_mask",
    "recorded_weights",
    "scaled_dot_product_attention",
]

IMPLEMENTATIONS = ("fused", "loop", "chunked")
"""Values of ``MultiHeadAttention``'s argument ``implementation``."""

_CAPACITY = 64  # positions, at least, of a cache with room for more


def causal_mask(
    queries: int, keys: int | None = None, *, device: torch.device | str | None = None
) -> Tensor:
    r"""Let each query attend to its own position and those before it.

    .. math:: M_{ij} = [\, j \le i + n_k - n_q \,]

    for query i of :math:`n_q` and key j of :math:`n_k`.

    Args:
        queries: Number of queries.
        keys: Number of keys, by default that of the queries. The last query stands at the last
            key, so that new queries can attend to a longer past.
        device: Where to make it; by default torch's default device.

    Shape:
        result: bool ``(queries, keys)``, True = may attend.

    Raises:
        ValueError: There are more queries than keys.

    Example:
        >>> causal_mask(2, 3).int().tolist()
        [[1, 1, 0], [1, 1, 1]]
    """
    keys = queries if keys is None else keys
    if not 0 <= queries <= keys:
        raise ValueError(f"queries: expected 0 to {keys} for {keys} keys, got {queries}")
    return torch.ones(queries, keys, dtype=torch.bool, device=device).tril(keys - queries)


def padding_mask(lengths: Tensor, time: int) -> Tensor:
    r"""Let every query attend to the keys of its own sequence and to no padding.

    .. math:: M_{bj} = [\, j \le \ell_b \,]

    for key j, counted from 1, of sequence b of length :math:`\ell_b`.

    Combine it with a causal mask by ``&``.

    Args:
        lengths: Number of keys of each sequence that are not padding, integers ``(batch,)``.
        time: Number of keys after padding.

    Shape:
        result: bool ``(batch, 1, time)``, True = may attend, on the device of ``lengths``.

    Raises:
        ValueError: A length is not in 0 to ``time``, or ``lengths`` has another shape.
        TypeError: The lengths are not integers.

    Example:
        >>> padding_mask(torch.tensor([3, 1]), 3).int().tolist()
        [[[1, 1, 1]], [[1, 0, 0]]]
    """
    if lengths.dim() != 1:
        raise ValueError(f"lengths: expected shape (batch,), got {tuple(lengths.shape)}")
    if lengths.is_floating_point() or lengths.is_complex() or lengths.dtype == torch.bool:
        raise TypeError(f"lengths: expected integers, got {lengths.dtype}")
    lengths = lengths.to(torch.int64)
    if len(lengths) and has_values(lengths):
        shortest, longest = lengths.aminmax()
        if not 0 <= int(shortest) <= int(longest) <= time:
            raise ValueError(f"lengths: expected 0 to {time}, got {lengths.tolist()}")
    return (torch.arange(time, device=lengths.device) < lengths[:, None]).unsqueeze(1)


class Attention(NamedTuple):
    """Output and weights of an attention layer.

    Attributes:
        output: Weighted means of the values, ``(..., queries, d_v)``.
        weights: How much each query attends to each key, ``(..., queries, keys)``; each row sums
            to one, or to zero where the query may attend to nothing.

    Example:
        >>> query, keys, values = torch.zeros(1, 2), torch.zeros(2, 2), torch.tensor([[1.0], [3.0]])
        >>> scaled_dot_product_attention(query, keys, values)
        Attention(output=tensor([[2.]]), weights=tensor([[0.5000, 0.5000]]))
    """

    output: Tensor
    weights: Tensor


def scaled_dot_product_attention(
    query: Tensor, key: Tensor, value: Tensor, *, mask: Tensor | None = None, scaled: bool = True
) -> Attention:
    r"""Take for each query the mean of the values, weighted by how well their keys match it.

    .. math:: \operatorname{Attention}(Q, K, V) =
        \operatorname{softmax}\left(\frac{Q K^\top}{\sqrt{d_k}}\right) V

    The softmax runs over the keys that the mask allows.

    Args:
        query: Q, ``(..., queries, d_k)``.
        key: K, ``(..., keys, d_k)``.
        value: V, ``(..., keys, d_v)``.
        mask: Boolean, broadcastable to ``(..., queries, keys)``, True = may attend; by default
            every query may attend to every key. Keys and values must be finite where it is False
            too, for zero times NaN is NaN.
        scaled: Whether to divide by the square root of d_k. Without it the softmax saturates as
            d_k grows.

    Raises:
        ValueError: Shapes or devices do not fit.
        TypeError: The mask is not boolean, or another input is not of floating-point type.

    Source: Vaswani et al. (2017), equation 1.

    Example:
        >>> query, key = torch.zeros(1, 2), torch.zeros(3, 2)  # all keys match equally well
        >>> output, weights = scaled_dot_product_attention(query, key, torch.eye(3))
        >>> [round(weight, 3) for weight in weights[0].tolist()]
        [0.333, 0.333, 0.333]
    """
    _check_inputs(query, key, value, mask)
    dtype, precise = _dtypes(query, key, value)
    if any(tensor.dtype != precise for tensor in (query, key, value)):
        query, key, value = query.to(precise), key.to(precise), value.to(precise)
    with _without_autocast(query.device):
        query = query * query.shape[-1] ** -0.5 if scaled else query
        scores = query @ key.transpose(-2, -1)  # (..., queries, keys)
        if mask is None:
            weights = scores.softmax(-1)
        else:
            # The lowest number instead of -inf keeps a row that may attend to nothing
            # free of NaN; the second fill makes its weights zero, and no others.
            blocked, lowest = ~mask, torch.finfo(scores.dtype).min
            weights = scores.masked_fill(blocked, lowest).softmax(-1).masked_fill(blocked, 0)
        output = weights @ value  # (..., queries, d_v)
    return (
        Attention(output, weights)
        if dtype == precise
        else Attention(output.to(dtype), weights.to(dtype))
    )


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

    .. math:: O_c = \operatorname{softmax}\left(\frac{Q_c K^\top}{\sqrt{d_k}}\right) V

    for each chunk c of the queries.

    The weights of a query need its own row of scores and no other. So a few queries are taken at a
    time, and their weights dropped once their output is computed. The backward pass computes them
    again; its equations are those of ``seqbook.kernels.attention.ChunkedAttentionFunction``. So
    memory grows with the length and not with its square, and what is worked on stays in the
    processor's cache. Values and gradients are those of ``scaled_dot_product_attention``. Higher
    derivatives are right too, but take memory quadratic in the length.

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
        ValueError: Shapes or devices do not fit, ``chunk`` is not positive, or ``causal`` with
            fewer keys than queries.
        TypeError: The mask is not boolean, or another input is not of floating-point type.
        NotImplementedError: It is differentiated in forward mode.

    Source: Rabe and Staats (2021).

    Example:
        >>> generator = torch.Generator().manual_seed(0)
        >>> inputs = [torch.randn(2, 5, 4, generator=generator) for _ in range(3)]
        >>> output = chunked_attention(*inputs, chunk=2)
        >>> torch.allclose(output, scaled_dot_product_attention(*inputs).output, atol=1e-6)
        True
    """
    leading = _check_inputs(query, key, value, mask)
    if chunk is not None and chunk < 1:
        raise ValueError(f"chunk: expected at least 1, got {chunk}")
    if causal and query.shape[-2] > key.shape[-2]:
        raise ValueError(
            f"query: expected at most as many queries as keys for causal attention, got "
            f"{query.shape[-2]} queries and {key.shape[-2]} keys"
        )
    dtype, precise = _dtypes(query, key, value)
    queries, keys = query.shape[-2], key.shape[-2]
    batch, heads = math.prod(leading[:-1]), leading[-1] if leading else 1
    if heads * queries * keys < SCORES_PER_CHUNK // 4:  # several examples fit into a chunk
        batch, heads = 1, batch * heads

    def with_four_axes(tensor: Tensor) -> Tensor:
        tensor = tensor.expand(*leading, *tensor.shape[-2:])
        return tensor.reshape(batch, heads, *tensor.shape[-2:])

    inputs = (with_four_axes(tensor.to(precise)) for tensor in (query, key, value))
    mask = None if mask is None else with_four_axes(torch.atleast_2d(mask))
    output, _ = ChunkedAttentionFunction.apply(*inputs, mask, causal, chunk)
    return output.reshape(*leading, *output.shape[2:]).to(dtype)


class KeysAndValues(NamedTuple):
    """Keys and values of the positions attended to, projected and split into heads.

    Attributes:
        keys: ``(batch, heads, keys, d_model / heads)``.
        values: Values, of the same shape.

    Example:
        >>> cached = KeysAndValues(torch.randn(3, 2, 5, 4), torch.randn(3, 2, 5, 4))
        >>> cached.index_select(torch.tensor([0, 0])).keys.shape  # two copies of the first example
        torch.Size([2, 2, 5, 4])
    """

    keys: Tensor
    values: Tensor

    def index_select(self, rows: Tensor) -> KeysAndValues:
        """Select examples of the batch by their indices.

        Shape:
            rows: integers ``(selected,)``; results ``(selected, heads, keys, d_model / heads)``.
        """
        return KeysAndValues(self.keys.index_select(0, rows), self.values.index_select(0, rows))


@dataclass(frozen=True, eq=False)
class KeyValueCache:
    r"""Keys and values of past positions, in buffers with room for more.

    .. math:: K_{1:t+n} = [K_{1:t},\, K_{t+1:t+n}], \qquad V_{1:t+n} = [V_{1:t},\, V_{t+1:t+n}]

    for n positions after the first t.

    ``append`` writes behind the past and returns a longer cache; this one stays as it was. The two
    share their buffers, which are copied only when they are full, twice as large, or when an
    earlier cache is continued in a second way. While gradients are recorded, ``append`` copies
    instead of writing in place.

    Attributes:
        buffers: Keys and values, ``(batch, heads, capacity, d_model / heads)`` each.
        length: Number of positions held.
        written: Number of positions written into the buffers by all caches that share them, in a
            list of one.

    Example:
        >>> cache = KeyValueCache.of(KeysAndValues(torch.ones(1, 1, 1, 2), torch.ones(1, 1, 1, 2)))
        >>> longer = cache.append(KeysAndValues(torch.zeros(1, 1, 1, 2), torch.zeros(1, 1, 1, 2)))
        >>> longer.contents().keys[0, 0].tolist()
        [[1.0, 1.0], [0.0, 0.0]]
        >>> cache.length, longer.length
        (1, 2)
    """

    buffers: KeysAndValues
    length: int
    written: list[int]

    @classmethod
    def of(cls, contents: KeysAndValues) -> KeyValueCache:
        """Make a cache of these keys and values, with no room for more.

        Shape:
            contents ``(batch, heads, length, d_model / heads)`` each.
        """
        length = contents.keys.shape[2]
        return cls(contents, length, [length])

    @classmethod
    def empty(
        cls,
        batch: int,
        heads: int,
        capacity: int,
        features: int,
        *,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> KeyValueCache:
        """Make a cache of no positions, with room for ``capacity``.

        Args:
            batch: Number of sequences.
            heads: Number of heads of keys and values.
            capacity: Number of positions that are appended before the buffers grow.
            features: Features of one head.
            device: Device of the buffers; by default torch's default device.
            dtype: Floating type of the buffers; by default torch's default type.

        Shape:
            buffers ``(batch, heads, capacity, features)`` each.

        Example:
            >>> cache = KeyValueCache.empty(1, 2, 64, 4)
            >>> cache.length, cache.buffers.keys.shape
            (0, torch.Size([1, 2, 64, 4]))
        """
        shape = (batch, heads, capacity, features)
        keys, values = (torch.zeros(shape, device=device, dtype=dtype) for _ in range(2))
        return cls(KeysAndValues(keys, values), 0, [0])

    def contents(self) -> KeysAndValues:
        """Keys and values of the positions held.

        Shape:
            results ``(batch, heads, length, d_model / heads)``.
        """
        keys, values = self.buffers
        return KeysAndValues(keys.narrow(2, 0, self.length), values.narrow(2, 0, self.length))

    def append(self, later: KeysAndValues) -> KeyValueCache:
        """Append later positions.

        Shape:
            later ``(batch, heads, added, d_model / heads)`` each.
        """
        if torch.is_grad_enabled() and any(x.requires_grad for x in (*self.buffers, *later)):
            pairs = zip(self.contents(), later, strict=True)
            return KeyValueCache.of(KeysAndValues(*(torch.cat(pair, 2) for pair in pairs)))
        added = later.keys.shape[2]
        length = self.length + added
        cache = self
        if length > self.buffers.keys.shape[2] or self.written[0] != self.length:
            cache = self._with_capacity(max(_CAPACITY, 2 * length))
        for buffer, new in zip(cache.buffers, later, strict=True):
            buffer.narrow(2, self.length, added).copy_(new)
        cache.written[0] = length
        return KeyValueCache(cache.buffers, length, cache.written)

    def index_select(self, rows: Tensor) -> KeyValueCache:
        """Select examples of the batch by their indices.

        Shape:
            rows: integers ``(selected,)``; buffers of the result
            ``(selected, heads, capacity, d_model / heads)``.
        """
        return KeyValueCache(self.buffers.index_select(rows), self.length, [self.length])

    def _with_capacity(self, capacity: int) -> KeyValueCache:
        buffers = []
        for part in self.contents():
            batch, heads, length, features = part.shape
            buffer = part.new_empty(batch, heads, capacity, features)
            buffer[:, :, :length] = part
            buffers.append(buffer)
        return KeyValueCache(KeysAndValues(*buffers), self.length, [self.length])


class AttentionLayer(nn.Module):
    r"""Base of the attention layers: what ``recorded_weights`` needs of them.

    .. math:: A = \operatorname{softmax}\left(\frac{Q K^\top}{\sqrt{d_k}}\right)

    A subclass defines ``weights`` with the arguments of its ``forward``, except values.

    Example:
        >>> isinstance(MultiHeadAttention(4, 2), AttentionLayer)
        True
    """

    def weights(self, *inputs: Any, **options: Any) -> Tensor:
        """Compute the attention weights A of each head.

        Shape:
            result ``(batch, heads, queries, keys)``.
        """
        raise NotImplementedError


class MultiHeadAttention(AttentionLayer):
    r"""Attention by several heads, each with its own projection to a part of the features.

    .. math:: \operatorname{head}_i &=
            \operatorname{Attention}(Q W_i^Q, K W_i^K, V W_i^V) \\
        \operatorname{MultiHead}(Q, K, V) &=
            [\operatorname{head}_1, \dots, \operatorname{head}_h] W^O

    each with a bias. The parameters have the names and shapes of ``torch.nn.MultiheadAttention``:
    the projections of all heads stand below each other in ``in_proj_weight``, first of the
    queries, then of the keys, then of the values.

    Args:
        d_model: Number of features of queries, keys, values and outputs.
        heads: Number of heads; it must divide ``d_model``.
        bias: Whether to add biases.
        implementation: ``"fused"`` computes all heads in one product, and by
            ``chunked_attention`` where that would hold more than 2**20 scores; ``"loop"`` one head
            after the other, as in the equation; ``"chunked"`` always by ``chunked_attention``.
            Values and gradients are equal. Chunks do not support forward-mode differentiation.
        generator: Draws the initial weights, Glorot-uniform (over all three projections together,
            as in torch); by default torch's own. Biases start at zero.
        device: Device of the parameters; by default torch's default device.
        dtype: Floating type of the parameters; by default torch's default type.

    Shape:
        in_proj_weight ``(3 * d_model, d_model)``; in_proj_bias ``(3 * d_model,)``; out_proj.weight
        ``(d_model, d_model)``; out_proj.bias ``(d_model,)``. In the equation a projection of one
        head is ``(d_model, d_model / heads)``.

    Raises:
        ValueError: A size is not positive, ``heads`` does not divide ``d_model``, or
            ``implementation`` is none of the three.

    Source: Vaswani et al. (2017), section 3.2.2.

    Example:
        >>> layer = MultiHeadAttention(8, 2, generator=torch.Generator().manual_seed(0))
        >>> inputs = torch.ones(3, 5, 8)  # (batch, time, d_model)
        >>> layer(inputs, mask=causal_mask(5)).shape
        torch.Size([3, 5, 8])
    """

    def __init__(
        self,
        d_model: int,
        heads: int,
        *,
        bias: bool = True,
        implementation: str = "fused",
        generator: torch.Generator | None = None,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ):
        super().__init__()
        if heads < 1 or d_model < 1 or d_model % heads:
            raise ValueError(
                f"heads: expected a positive divisor of a positive d_model, got {heads} heads for "
                f"d_model {d_model}"
            )
        check_choice("implementation", implementation, IMPLEMENTATIONS)
        self.d_model, self.heads, self.implementation = d_model, heads, implementation
        placed: dict[str, Any] = {"device": device, "dtype": dtype}
        self.in_proj_weight = nn.Parameter(torch.empty(3 * d_model, d_model, **placed))
        self.in_proj_bias = nn.Parameter(torch.zeros(3 * d_model, **placed)) if bias else None
        self.out_proj = nn.Linear(d_model, d_model, bias=bias, **placed)
        initialize(self.in_proj_weight, xavier_uniform_, generator=generator)
        initialize(self.out_proj.weight, xavier_uniform_, generator=generator)
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
        """Attend from each query to the keys with all heads, and project the result.

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

    def weights(
        self, query: Tensor, key: Tensor | None = None, *, mask: Tensor | None = None
    ) -> Tensor:
        r"""Compute the attention weights of each head; arguments and errors as for ``forward``.

        .. math:: A_i = \operatorname{softmax}\left(
            \frac{Q W_i^Q (K W_i^K)^\top}{\sqrt{d_k}}\right), \qquad d_k = d_\text{model} / h

        Shape:
            query ``(batch, queries, d_model)``; key ``(batch, keys, d_model)``; result
            ``(batch, heads, queries, keys)``.
        """
        query, (keys, values) = self.project(query, key)
        return scaled_dot_product_attention(query, keys, values, mask=_over_heads(mask)).weights

    def project(
        self, query: Tensor, key: Tensor | None = None, value: Tensor | None = None
    ) -> tuple[Tensor, KeysAndValues]:
        r"""Project and split into heads: the first half of ``forward``.

        .. math:: Q W_i^Q, \qquad K W_i^K, \qquad V W_i^V

        Arguments, and what is raised, as for ``forward``.

        Shape:
            query ``(batch, queries, d_model)``; key and value ``(batch, keys, d_model)``; results
            ``(batch, heads, queries, d_model / heads)`` and, twice,
            ``(batch, heads, keys, d_model / heads)``.
        """
        if key is None and value is None:
            query, keys, values = self._project("query", query, 0, 3)
            return query, KeysAndValues(keys, values)
        key = query if key is None else key
        return self.project_query(query), self.project_memory(key, value)

    def project_query(self, query: Tensor) -> Tensor:
        """Project the queries alone, for keys and values that are known already.

        .. math:: Q W_i^Q

        Shape:
            query ``(batch, queries, d_model)``;
            result ``(batch, heads, queries, d_model / heads)``.

        Raises:
            ValueError: The shape does not fit.
        """
        return self._project("query", query, 0, 1)[0]

    def project_memory(self, key: Tensor, value: Tensor | None = None) -> KeysAndValues:
        r"""Project keys and values alone, to keep them for many queries.

        .. math:: K W_i^K, \qquad V W_i^V

        Args:
            key: ``(batch, keys, d_model)``.
            value: ``(batch, keys, d_model)``, by default the key.

        Shape:
            results ``(batch, heads, keys, d_model / heads)``.

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
        weight: Tensor = self.in_proj_weight
        bias: Tensor | None = self.in_proj_bias
        if stop - start < 3:  # in the backward pass, a slice costs as much as the whole
            rows = slice(start * self.d_model, stop * self.d_model)
            weight, bias = weight[rows], None if bias is None else bias[rows]
        batch, positions, _ = inputs.shape
        projected = linear(inputs, weight, bias).view(
            batch, positions, stop - start, self.heads, self.d_model // self.heads
        )
        return projected.permute(2, 0, 3, 1, 4).unbind()  # each (batch, heads, positions, d_k)

    def attend(
        self, query: Tensor, keys_and_values: KeysAndValues, *, mask: Tensor | None = None
    ) -> Tensor:
        r"""Attend with every head and mix the results: the second half of ``forward``.

        .. math:: [\operatorname{head}_1, \dots, \operatorname{head}_h]\, W^O

        Shape:
            query ``(batch, heads, queries, d_model / heads)``; keys and values
            ``(batch, heads, keys, d_model / heads)``; mask as for ``forward``; result
            ``(batch, queries, d_model)``.

        Raises:
            ValueError: Shapes do not fit.
            TypeError: The mask is not boolean.
        """
        outputs = self._attend(query, *keys_and_values, _over_heads(mask))
        return self.out_proj(outputs.transpose(1, 2).flatten(2))  # (batch, queries, d_model)

    def _attend(self, query: Tensor, keys: Tensor, values: Tensor, mask: Tensor | None) -> Tensor:
        many_scores = query.shape[:-1].numel() * keys.shape[-2] > SCORES_PER_CHUNK
        if self.implementation == "chunked" or (self.implementation == "fused" and many_scores):
            return chunked_attention(query, keys, values, mask=mask)
        if self.implementation == "fused":
            return scaled_dot_product_attention(query, keys, values, mask=mask).output
        _check_inputs(query, keys, values, mask)
        outputs = []
        for head in range(self.heads):
            head_mask = None if mask is None else mask.expand(-1, self.heads, -1, -1)[:, head]
            parts = (x[:, head] for x in (query, keys, values))
            outputs.append(scaled_dot_product_attention(*parts, mask=head_mask).output)
        return torch.stack(outputs, 1)

    def extra_repr(self) -> str:
        """Return the sizes, which ``print`` shows."""
        return f"{self.d_model}, heads={self.heads}"


class GroupedQueryAttention(AttentionLayer):
    r"""Self-attention in which several heads of queries share one head of keys and values.

    .. math:: \operatorname{head}_i = \operatorname{Attention}(R X W_i^Q,\; R X W_{g(i)}^K,\;
            X W_{g(i)}^V), \qquad g(i) = \lfloor i\, h_\text{kv} / h \rfloor

    for h heads of queries and :math:`h_\text{kv}` of keys and values, counted from 0. The results
    of the heads are joined and multiplied by :math:`W^O`, as in ``MultiHeadAttention``. R are the
    rotary positions, if there are any.

    With :math:`h_\text{kv} = h` this is multi-head attention, with 1 it is multi-query attention.
    What a cache keeps of each position shrinks in proportion to :math:`h_\text{kv}`. Names and
    shapes of the parameters are those of Llama in the ``transformers`` library. Half precision
    follows the module's rule: products and softmax in float32.

    Args:
        d_model: Number of features of inputs and outputs.
        heads: Number h of heads of queries; it must divide ``d_model``.
        kv_heads: Number of heads of keys and values, by default h; it must divide ``heads``.
        bias: Whether to add biases.
        rotary: Layer that rotates queries and keys, such as
            ``seqbook.layers.rotary.RotaryPositions``; by default none, so that without a mask the
            order of the positions has no effect.
        generator: Draws the initial weights, Glorot-uniform; by default torch's own. Biases start
            at zero.
        device: Device of the parameters; by default torch's default device.
        dtype: Floating type of the parameters; by default torch's default type.

    Shape:
        q_proj.weight and o_proj.weight ``(d_model, d_model)``; k_proj.weight and v_proj.weight
        ``(kv_heads * d_model / heads, d_model)``.

    Raises:
        ValueError: A size is not positive, ``heads`` does not divide ``d_model``, or ``kv_heads``
            does not divide ``heads``.

    Source: Ainslie et al. (2023); Shazeer (2019) for one head of keys and values.

    Example:
        >>> layer = GroupedQueryAttention(8, 4, kv_heads=2)
        >>> layer(torch.ones(3, 5, 8), mask=causal_mask(5)).shape
        torch.Size([3, 5, 8])
        >>> layer.start(3, 100).buffers.keys.shape  # half of what four heads would need
        torch.Size([3, 2, 100, 2])
    """

    def __init__(
        self,
        d_model: int,
        heads: int,
        *,
        kv_heads: int | None = None,
        bias: bool = False,
        rotary: nn.Module | None = None,
        generator: torch.Generator | None = None,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ):
        super().__init__()
        kv_heads = heads if kv_heads is None else kv_heads
        if heads < 1 or d_model < 1 or d_model % heads:
            raise ValueError(
                f"heads: expected a positive divisor of a positive d_model, got {heads} heads for "
                f"d_model {d_model}"
            )
        if kv_heads < 1 or heads % kv_heads:
            raise ValueError(f"kv_heads: expected a positive divisor of {heads}, got {kv_heads}")
        self.d_model, self.heads, self.kv_heads, self.rotary = d_model, heads, kv_heads, rotary
        self.head_features = d_model // heads
        options: dict[str, Any] = {"bias": bias, "device": device, "dtype": dtype}
        self.q_proj = nn.Linear(d_model, d_model, **options)
        self.k_proj = nn.Linear(d_model, kv_heads * self.head_features, **options)
        self.v_proj = nn.Linear(d_model, kv_heads * self.head_features, **options)
        self.o_proj = nn.Linear(d_model, d_model, **options)
        for layer in (self.q_proj, self.k_proj, self.v_proj, self.o_proj):
            initialize(layer.weight, xavier_uniform_, generator=generator)
            if bias:
                nn.init.zeros_(layer.bias)

    def forward(self, inputs: Tensor, *, mask: Tensor | None = None) -> Tensor:
        """Attend from each position to all, or to those that the mask allows.

        Args:
            inputs: ``(batch, time, d_model)``.
            mask: Boolean, True = may attend, broadcastable to ``(batch, time, time)``.

        Shape:
            result: ``(batch, time, d_model)``.

        Raises:
            ValueError: Shapes do not fit.
            TypeError: The mask is not boolean.
        """
        query, keys_and_values = self.project(inputs)
        return self.attend(query, keys_and_values, mask=mask)

    def weights(self, inputs: Tensor, *, mask: Tensor | None = None) -> Tensor:
        r"""Compute the attention weights of each head of queries; arguments as for ``forward``.

        .. math:: A_i = \operatorname{softmax}\left(
            \frac{R X W_i^Q (R X W_{g(i)}^K)^\top}{\sqrt{d_k}}\right)

        Shape:
            inputs ``(batch, time, d_model)``; result ``(batch, heads, time, time)``.
        """
        query, (keys, values) = self.project(inputs)
        together, mask = self._grouped(query, keys, mask)
        weights = scaled_dot_product_attention(together, keys, values, mask=mask).weights
        return weights.reshape(*query.shape[:3], -1)

    def project(self, inputs: Tensor, *, start: int = 0) -> tuple[Tensor, KeysAndValues]:
        r"""Project, split into heads and rotate: the first half of ``forward``.

        .. math:: R X W_i^Q, \qquad R X W_i^K, \qquad X W_i^V

        Args:
            inputs: ``(batch, time, d_model)``.
            start: Position of the first input.

        Shape:
            results: queries ``(batch, heads, time, d_model / heads)``; keys and values
            ``(batch, kv_heads, time, d_model / heads)``.

        Raises:
            ValueError: The shape does not fit.
        """
        if inputs.dim() != 3 or inputs.shape[-1] != self.d_model:
            raise ValueError(
                f"inputs: expected shape (batch, time, {self.d_model}), got {tuple(inputs.shape)}"
            )
        query, key, value = (
            projection(inputs).unflatten(-1, (-1, self.head_features)).transpose(1, 2)
            for projection in (self.q_proj, self.k_proj, self.v_proj)
        )  # (batch, heads or kv_heads, time, d_k) each
        if self.rotary is not None:
            query, key = self.rotary(query, start=start), self.rotary(key, start=start)
        return query, KeysAndValues(key, value)

    def attend(
        self, query: Tensor, keys_and_values: KeysAndValues, *, mask: Tensor | None = None
    ) -> Tensor:
        r"""Attend with every head and mix the results: the second half of ``forward``.

        .. math:: [\operatorname{head}_1, \dots, \operatorname{head}_h]\, W^O

        Shape:
            query ``(batch, heads, queries, d_model / heads)``; keys and values
            ``(batch, kv_heads, keys, d_model / heads)``; mask broadcastable to
            ``(batch, queries, keys)``; result ``(batch, queries, d_model)``.

        Raises:
            ValueError: Shapes do not fit.
            TypeError: The mask is not boolean.
        """
        keys, values = keys_and_values
        together, mask = self._grouped(query, keys, mask)
        if query.shape[:-1].numel() * keys.shape[2] > SCORES_PER_CHUNK:
            outputs = chunked_attention(together, keys, values, mask=mask)
        else:
            outputs = scaled_dot_product_attention(together, keys, values, mask=mask).output
        outputs = outputs.reshape(query.shape)  # (batch, heads, queries, d_k)
        return self.o_proj(outputs.transpose(1, 2).flatten(2))  # (batch, queries, d_model)

    def start(self, batch: int, capacity: int) -> KeyValueCache:
        """Return an empty cache with room for ``capacity`` positions of ``batch`` sequences.

        Shape:
            buffers ``(batch, kv_heads, capacity, d_model / heads)`` each.
        """
        weight = self.k_proj.weight
        sizes = batch, self.kv_heads, capacity, self.head_features
        return KeyValueCache.empty(*sizes, device=weight.device, dtype=weight.dtype)

    def step(self, inputs: Tensor, cache: KeyValueCache) -> tuple[Tensor, KeyValueCache]:
        """Attend from new positions to themselves and the past, with a causal mask.

        Args:
            inputs: One or more positions that follow those in the cache, ``(batch, time,
                d_model)``.
            cache: Keys and values of the past; it stays as it was.

        Shape:
            result ``(batch, time, d_model)``, equal to the last positions of ``forward``.

        Raises:
            ValueError: Shapes do not fit.
        """
        query, new = self.project(inputs, start=cache.length)
        cache, time = cache.append(new), inputs.shape[1]
        mask = None if time == 1 else causal_mask(time, cache.length, device=inputs.device)
        return self.attend(query, cache.contents(), mask=mask), cache

    def _grouped(
        self, query: Tensor, keys: Tensor, mask: Tensor | None
    ) -> tuple[Tensor, Tensor | None]:
        """Put the queries that share keys behind each other, so that no key is copied.

        Returns:
            Queries ``(batch, kv_heads, heads / kv_heads * queries, d_k)``, and the mask for them.
        """
        group = self.heads // self.kv_heads
        if mask is not None:
            _check_mask(mask, (len(query), query.shape[2], keys.shape[2]), query.device)
        mask = _over_heads(mask)
        if mask is not None and mask.shape[2] > 1:
            mask = mask.repeat(1, 1, group, 1)
        return query.unflatten(1, (self.kv_heads, group)).flatten(2, 3), mask

    def extra_repr(self) -> str:
        """Return the sizes, which ``print`` shows."""
        return f"{self.d_model}, heads={self.heads}, kv_heads={self.kv_heads}"


@contextmanager
def recorded_weights(model: nn.Module) -> Iterator[dict[str, Tensor]]:
    """Record the weights of every attention layer while ``model`` runs inside the block.

    The steps of a decoder that keeps a cache call no whole attention layer and are not recorded.

    Yields:
        Name of the layer in ``model`` to the weights of its last call,
        ``(batch, heads, queries, keys)``; filled as the model runs.

    Example:
        >>> layer = MultiHeadAttention(8, 2)
        >>> with recorded_weights(nn.Sequential(layer)) as weights:
        ...     output = layer(torch.ones(1, 3, 8))
        >>> weights["0"].shape, torch.allclose(weights["0"].sum(-1), torch.ones(()))
        (torch.Size([1, 2, 3, 3]), True)
    """
    recorded: dict[str, Tensor] = {}

    def record(layer_name: str) -> Callable:
        def hook(
            layer: nn.Module, arguments: tuple[Tensor, ...], options: dict[str, Any], _output: Any
        ) -> None:
            assert isinstance(layer, AttentionLayer)
            options = {name: x for name, x in options.items() if name != "value"}
            with torch.no_grad():
                recorded[layer_name] = layer.weights(*arguments[:2], **options)

        return hook

    hooks = [
        layer.register_forward_hook(record(name), with_kwargs=True)
        for name, layer in model.named_modules()
        if isinstance(layer, AttentionLayer)
    ]
    try:
        yield recorded
    finally:
        for hook in hooks:
            hook.remove()


def _over_heads(mask: Tensor | None) -> Tensor | None:
    """Give a mask an axis of heads unless it has one: ``(batch, heads, queries, keys)``."""
    if mask is None or mask.dim() == 4:
        return mask
    mask = mask.reshape((1,) * (3 - mask.dim()) + tuple(mask.shape))
    return mask.unsqueeze(1)


def _dtypes(*tensors: Tensor) -> tuple[torch.dtype, torch.dtype]:
    """Return the common type of the inputs and the one to compute in, at least float32."""
    dtype = tensors[0].dtype
    for tensor in tensors[1:]:
        if tensor.dtype != dtype:
            dtype = torch.promote_types(dtype, tensor.dtype)
    if dtype in (torch.float32, torch.float64):  # a step of decoding is made of small operations
        return dtype, dtype
    return dtype, torch.promote_types(dtype, torch.float32)


def _without_autocast(device: torch.device) -> AbstractContextManager:
    """Keep autocast from rounding the scores, which can exceed the range of float16."""
    kind = device.type
    if torch.amp.is_autocast_available(kind) and torch.is_autocast_enabled(kind):
        return torch.autocast(kind, enabled=False)
    return nullcontext()


def _check_inputs(
    query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None
) -> tuple[int, ...]:
    """Raise unless the inputs fit each other; return their leading axes, broadcast."""
    device = query.device
    for name, tensor in (("query", query), ("key", key), ("value", value)):
        if not tensor.is_floating_point():
            raise TypeError(f"{name}: expected floating-point numbers, got {tensor.dtype}")
        if tensor.device != device:
            raise ValueError(f"{name}: expected the query's {device}, got {tensor.device}")
    shapes = query.shape, key.shape, value.shape
    leading = _broadcast(*(shape[:-2] for shape in shapes))
    if min(map(len, shapes)) < 2:
        problem = "query, key, value: expected (..., positions, features)"
    elif query.shape[-1] < 1:
        problem = "query: expected at least one feature"
    elif query.shape[-1] != key.shape[-1]:
        problem = f"key: expected the queries' {query.shape[-1]} features"
    elif key.shape[-2] != value.shape[-2]:
        problem = f"value: expected one for each of {key.shape[-2]} keys"
    elif leading is None:
        problem = "query, key, value: expected the same leading axes"
    else:
        if mask is not None:
            _check_mask(mask, (*leading, query.shape[-2], key.shape[-2]), device)
        return leading
    names = ("query", "key", "value")
    listed = ", ".join(f"{name} {tuple(shape)}" for name, shape in zip(names, shapes, strict=True))
    raise ValueError(f"{problem}, got {listed}")


def _broadcast(*shapes: torch.Size) -> tuple[int, ...] | None:
    """Return the common shape, or None if there is none."""
    if all(shape == shapes[0] for shape in shapes):  # torch.broadcast_shapes is slow
        return tuple(shapes[0])
    try:
        return tuple(torch.broadcast_shapes(*shapes))
    except RuntimeError:
        return None


def _check_mask(mask: Tensor, scores: tuple[int, ...], device: torch.device) -> None:
    if mask.dtype != torch.bool:
        raise TypeError(f"mask: expected booleans, True = may attend, got {mask.dtype}")
    if mask.device != device:
        raise ValueError(f"mask: expected the query's {device}, got {mask.device}")
    pairs = zip(reversed(mask.shape), reversed(scores), strict=False)
    fits = mask.dim() <= len(scores) and all(size in (1, full) for size, full in pairs)
    if not fits:
        raise ValueError(
            f"mask: expected a shape broadcastable to {scores} (..., queries, keys), got "
            f"{tuple(mask.shape)}"
        )
