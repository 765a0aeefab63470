"""Attention in chunks of queries, with a backward pass derived by hand.

``seqbook.layers.attention.chunked_attention`` checks its arguments and calls
``ChunkedAttentionFunction``, which this module defines.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.autograd import Function

__all__ = ["SCORES_PER_CHUNK", "ChunkedAttentionFunction"]

SCORES_PER_CHUNK = 2**20
"""Largest number of scores that are held at a time by default, four megabytes in float32."""


class ChunkedAttentionFunction(Function):
    r"""Scaled dot-product attention that holds the scores of a few queries at a time.

    .. math:: P = \operatorname{softmax}\left(\frac{Q K^\top}{\sqrt{d_k}}\right), \qquad O = P V

    Backward, the weights P of a chunk are computed again. With :math:`\bar O` the gradient of the
    output and :math:`\bar P = \bar O V^\top`,

    .. math:: \bar Z = P \odot (\bar P - \operatorname{rowsum}(P \odot \bar P)), \qquad
        \bar V \mathrel{+}= P^\top \bar O, \quad
        \bar Q = \frac{\bar Z K}{\sqrt{d_k}}, \quad
        \bar K \mathrel{+}= \frac{\bar Z^\top Q}{\sqrt{d_k}}

    Where the gradients are themselves to be differentiated (``create_graph=True`` and
    ``torch.func``), they are computed from the whole matrix of weights by operations that autograd
    knows, so that higher derivatives are right; that takes memory quadratic in the length.
    ``torch.func.vmap`` adds its axis to the batch.

    Args:
        query: ``(batch, heads, queries, d_k)``.
        key: ``(batch, heads, keys, d_k)``.
        value: ``(batch, heads, keys, d_v)``.
        mask: Boolean ``(batch, heads, 1 or queries, 1 or keys)``, True = may attend, or None. A
            query that may attend to nothing gets zero and no gradient.
        causal: Whether each query may attend only to keys up to its own, the last query standing
            at the last key. There must be at least as many keys as queries.
        chunk: Queries in a chunk, or None: as many as have 2**20 scores.

    Shape:
        result: ``(batch, heads, queries, d_v)``.

    Source: Rabe and Staats (2021).

    Example:
        >>> query, key, value = torch.randn(3, 1, 2, 6, 4)  # one example, two heads, six positions
        >>> output = ChunkedAttentionFunction.apply(query, key, value, None, True, 3)
        >>> torch.equal(output[0, :, 0], value[0, :, 0])  # the first attends to itself alone
        True
    """

    @staticmethod
    def forward(
        query: Tensor,
        key: Tensor,
        value: Tensor,
        mask: Tensor | None,
        causal: bool,
        chunk: int | None,
    ) -> Tensor:
        """Compute the output block by block."""
        output = value.new_zeros(*query.shape[:3], value.shape[-1])
        plan = _Plan.of(query, key, causal, chunk)
        buffer = plan.buffer(query)
        for block in plan.blocks():
            masking = block.masking(mask, causal, query.device)
            powers, sums = _powers(block.rows(query), block.columns(key), masking, buffer)
            chunk_output = block.rows(output)
            torch.bmm(powers, block.columns(value), out=chunk_output)
            chunk_output.div_(sums)  # fewer numbers than the weights
            if masking.empty is not None:
                chunk_output.masked_fill_(masking.empty, 0)
        return output

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple, output: Tensor) -> None:
        """Keep the inputs, and nothing that the forward pass computed."""
        *tensors, ctx.causal, ctx.chunk = inputs
        ctx.save_for_backward(*tensors)

    @staticmethod
    def backward(ctx: Any, d_output: Tensor) -> tuple[Tensor | None, ...]:
        """Compute the gradients of query, key and value."""
        query, key, value, mask = ctx.saved_tensors
        gradients: tuple[Tensor | None, ...]
        if torch.is_grad_enabled():
            gradients = _differentiable_gradients(query, key, value, mask, ctx.causal, d_output)
        else:
            needed = ctx.needs_input_grad[:3]
            gradients = _gradients(query, key, value, mask, ctx.causal, ctx.chunk, d_output, needed)
        return *gradients, None, None, None

    @staticmethod
    def vmap(info: Any, in_dims: tuple, *inputs: Any) -> tuple[Tensor, int]:
        """Make the mapped axis part of the batch."""

        def together(tensor: Tensor | None, axis: int | None) -> Tensor | None:
            if tensor is None:
                return None
            first = tensor.unsqueeze(0) if axis is None else tensor.movedim(axis, 0)
            return first.expand(info.batch_size, *first.shape[1:]).flatten(0, 1)

        tensors = (
            together(tensor, axis) for tensor, axis in zip(inputs[:4], in_dims, strict=False)
        )
        output = ChunkedAttentionFunction.apply(*tensors, *inputs[4:])
        return output.unflatten(0, (info.batch_size, -1)), 0

    @staticmethod
    def jvp(_ctx: Any, *_tangents: Any) -> Any:
        """Refuse forward-mode differentiation."""
        raise NotImplementedError(
            "chunked attention does not support forward-mode differentiation; use "
            'scaled_dot_product_attention, or implementation="loop" in layers, instead'
        )


class _Masking(NamedTuple):
    """What a block of scores may not hold.

    Attributes:
        blocked: Scores to be ignored, broadcastable to ``(heads, rows, columns)``, or None. At
            least one of each row is kept.
        later: Scores of later keys among the last columns, ``(rows, rows)``, or None.
        empty: Rows that may attend to nothing, broadcastable to ``(heads, rows, 1)``, or None.
    """

    blocked: Tensor | None = None
    later: Tensor | None = None
    empty: Tensor | None = None


class _Block(NamedTuple):
    """Some queries of some heads of one example, and the keys that they may attend to."""

    example: int
    heads: slice
    queries: slice
    keys: slice

    def rows(self, tensor: Tensor) -> Tensor:
        return tensor[self.example, self.heads, self.queries]

    def columns(self, tensor: Tensor) -> Tensor:
        return tensor[self.example, self.heads, self.keys]

    def masking(self, mask: Tensor | None, causal: bool, device: torch.device) -> _Masking:
        later = None
        if causal:
            size = self.queries.stop - self.queries.start
            later = torch.ones(size, size, dtype=torch.bool, device=device).triu(1)
        if mask is None:
            return _Masking(later=later)
        allowed = mask[self.example, self.heads]
        allowed = allowed if allowed.shape[1] == 1 else allowed[:, self.queries]
        allowed = allowed if allowed.shape[2] == 1 else allowed[:, :, self.keys]
        if later is not None:
            size = self.keys.stop
            allowed = allowed & ~_pad_left(later, size)
        empty = ~allowed.any(-1, keepdim=True)
        return _Masking(blocked=~(allowed | empty), empty=empty)


def _pad_left(later: Tensor, columns: int) -> Tensor:
    return torch.nn.functional.pad(later, (columns - later.shape[1], 0))


class _Plan(NamedTuple):
    """How the scores are cut into blocks."""

    batch: int
    heads: int
    queries: int
    keys: int
    causal: bool
    heads_per_block: int
    queries_per_block: int

    @classmethod
    def of(cls, query: Tensor, key: Tensor, causal: bool, chunk: int | None) -> _Plan:
        batch, heads, queries, _ = query.shape
        keys = key.shape[2]
        rows = max(1, SCORES_PER_CHUNK // max(1, keys))  # in a block, of all its heads
        queries_per_block = min(chunk or rows, max(1, queries))
        heads_per_block = max(1, min(rows // queries_per_block, heads))
        return cls(batch, heads, queries, keys, causal, heads_per_block, queries_per_block)

    def buffer(self, like: Tensor) -> Tensor:
        """Room for the scores of any block."""
        return like.new_empty(self.heads_per_block * self.queries_per_block * self.keys)

    def blocks(self) -> Iterator[_Block]:
        """All blocks; without keys there are none."""
        if not self.keys:
            return
        past = self.keys - self.queries
        for example in range(self.batch):
            for heads in _slices(self.heads, self.heads_per_block):
                for queries in _slices(self.queries, self.queries_per_block):
                    keys = slice(0, queries.stop + past if self.causal else self.keys)
                    yield _Block(example, heads, queries, keys)


def _slices(length: int, size: int) -> list[slice]:
    return [slice(start, min(start + size, length)) for start in range(0, length, size)]


def _product(left: Tensor, right: Tensor, buffer: Tensor, *, scale: float = 1.0) -> Tensor:
    """Scaled dot products of rows with rows, written into the first part of a flat buffer."""
    shape = (len(left), left.shape[1], right.shape[1])
    product = buffer[: shape[0] * shape[1] * shape[2]].view(shape)
    return product.baddbmm_(left, right.transpose(1, 2), beta=0, alpha=scale)


def _scale(query: Tensor) -> float:
    return query.shape[-1] ** -0.5


def _powers(query: Tensor, key: Tensor, masking: _Masking, buffer: Tensor) -> tuple[Tensor, Tensor]:
    """Attention weights of a block times their row's sum, and these sums.

    The weights are written into the first part of a flat buffer. They are powers of 2, of scores
    times log2(e): torch computes these in half the time of powers of e.
    """
    scores = _product(query, key, buffer, scale=_scale(query) * math.log2(math.e))
    if masking.later is not None and masking.blocked is None:
        scores[..., scores.shape[2] - scores.shape[1] :].masked_fill_(masking.later, -torch.inf)
    if masking.blocked is not None:
        scores.masked_fill_(masking.blocked, -torch.inf)
    powers = scores.sub_(scores.amax(-1, keepdim=True)).exp2_()
    return powers, powers.sum(-1, keepdim=True)


def _gradients(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    mask: Tensor | None,
    causal: bool,
    chunk: int | None,
    d_output: Tensor,
    needed: tuple[bool, ...],
) -> tuple[Tensor | None, ...]:
    """Gradients of query, key and value, block by block."""
    d_query, d_key, d_value = (
        torch.zeros_like(tensor, memory_format=torch.contiguous_format)
        for tensor in (query, key, value)
    )
    plan = _Plan.of(query, key, causal, chunk)
    buffer, d_buffer = plan.buffer(query), plan.buffer(query)
    for block in plan.blocks():
        masking = block.masking(mask, causal, query.device)
        rows, columns, d_rows = block.rows(query), block.columns(key), block.rows(d_output)
        if masking.empty is not None:
            d_rows = d_rows.masked_fill(masking.empty, 0)
        powers, sums = _powers(rows, columns, masking, buffer)
        weights = powers.div_(sums)
        if needed[2]:
            block.columns(d_value).baddbmm_(weights.transpose(1, 2), d_rows)
        if not any(needed[:2]):
            continue
        d_scores = _product(d_rows, block.columns(value), d_buffer)  # now the weights' gradient
        torch.ops.aten._softmax_backward_data.out(
            d_scores, weights, -1, weights.dtype, grad_input=d_scores
        )
        scale = _scale(query)
        block.rows(d_query).baddbmm_(d_scores, columns, beta=0, alpha=scale)
        block.columns(d_key).baddbmm_(d_scores.transpose(1, 2), rows, alpha=scale)
    return tuple(
        gradient if need else None
        for gradient, need in zip((d_query, d_key, d_value), needed, strict=True)
    )


def _differentiable_gradients(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    mask: Tensor | None,
    causal: bool,
    d_output: Tensor,
) -> tuple[Tensor, Tensor, Tensor]:
    """The same gradients as a differentiable function of all that they depend on."""
    allowed = mask
    if causal:
        queries, keys = query.shape[2], key.shape[2]
        before = torch.ones(queries, keys, dtype=torch.bool, device=query.device)
        before = before.tril(keys - queries)
        allowed = before if mask is None else mask & before
    scores = query @ key.transpose(2, 3) * _scale(query)
    if allowed is not None:
        empty = ~allowed.any(-1, keepdim=True)
        scores = scores.masked_fill(~(allowed | empty), -torch.inf)
        d_output = d_output.masked_fill(empty, 0)
    weights = scores.softmax(-1)
    d_weights = d_output @ value.transpose(2, 3)
    d_scores = weights * (d_weights - (weights * d_weights).sum(-1, keepdim=True)) * _scale(query)
    return (
        d_scores @ key,
        d_scores.transpose(2, 3) @ query,
        weights.transpose(2, 3) @ d_output,
    )
