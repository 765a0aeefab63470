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

from seqbook.validation import has_values

__all__ = ["SCORES_PER_CHUNK", "ChunkedAttentionFunction"]

SCORES_PER_CHUNK = 2**20
"""Largest number of scores that are held at a time by default, four megabytes in float32."""
_CACHED_SCORES = 2**18  # one megabyte in float32: the second-level cache of one core holds it
_SMALL = 2.0**-40


class ChunkedAttentionFunction(Function):
    r"""Scaled dot-product attention that holds the scores of a few queries at a time.

    .. math:: P = \operatorname{softmax}\left(\frac{Q K^\top}{\sqrt{d_k}}\right), \qquad O = P V

    Of each row of scores, only the logarithm of its sum of powers is kept. Backward, the weights P
    of a chunk are computed again with its help. With :math:`\bar O` the gradient of the output and
    :math:`\bar P = \bar O V^\top`,

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
        results: ``(batch, heads, queries, d_v)`` and, without a gradient, the logarithms (base 2)
        of the sums of the powers ``(batch, heads, queries, 1)``.

    Source: Rabe and Staats (2021).

    Example:
        >>> query, key, value = torch.randn(3, 1, 2, 6, 4)  # one example, two heads, six positions
        >>> output, _ = ChunkedAttentionFunction.apply(query, key, value, None, True, 3)
        >>> torch.allclose(output[0, :, 0], value[0, :, 0])  # the first attends to itself alone
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
    ) -> tuple[Tensor, Tensor]:
        """Compute the output block by block."""
        # In memory the heads of a query are adjacent, so that to concatenate them copies nothing.
        output = torch.empty_permuted(
            (*query.shape[:3], value.shape[-1]),
            (0, 2, 1, 3),
            dtype=value.dtype,
            device=value.device,
        ).zero_()
        log_sums = query.new_zeros(*query.shape[:3], 1)
        plan = _Plan.of(query, key, causal, chunk)
        buffer = plan.buffer(query)
        moderate = query.device.type == "cpu" and has_values(query)  # a GPU would have to wait
        for group in plan.groups():
            rows, columns, values, allowed = group.select(query, key, value, mask)
            result, logs = group.select(output, log_sums)
            for block in plan.blocks():
                masking = block.masking(allowed, causal, query.device)
                block_output = result[:, block.queries]
                inputs = rows[:, block.queries], columns[:, block.keys], values[:, block.keys]
                sums, subtracted = None, None
                if moderate:
                    sums = _attend_to_moderate_scores(*inputs, masking, buffer, block_output)
                if sums is None:
                    moderate = False
                    sums, subtracted = _attend(*inputs, masking, buffer, block_output)
                block_output.div_(sums)  # fewer numbers than the weights
                if masking.empty is not None:
                    block_output.masked_fill_(masking.empty, 0)
                logarithms = sums.log2_()
                if subtracted is not None:
                    logarithms.add_(subtracted)
                logs[:, block.queries] = logarithms
        return output, log_sums

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple, output: tuple[Tensor, Tensor]) -> None:
        """Keep the inputs and the logarithms; the output may then be changed in place."""
        *tensors, ctx.causal, ctx.chunk = inputs
        ctx.mark_non_differentiable(output[1])
        ctx.save_for_backward(*tensors, output[1])

    @staticmethod
    def backward(ctx: Any, d_output: Tensor, _: Any) -> tuple[Tensor | None, ...]:
        """Compute the gradients of query, key and value."""
        query, key, value, mask, log_sums = ctx.saved_tensors
        gradients: tuple[Tensor | None, ...]
        if torch.is_grad_enabled():
            gradients = _differentiable_gradients(query, key, value, mask, ctx.causal, d_output)
        else:
            needed = ctx.needs_input_grad[:3]
            gradients = _gradients(
                query, key, value, mask, ctx.causal, ctx.chunk, log_sums, d_output, needed
            )
        return *gradients, None, None, None

    @staticmethod
    def vmap(info: Any, in_dims: tuple, *inputs: Any) -> tuple[tuple[Tensor, ...], tuple[int, int]]:
        """Make the mapped axis part of the batch."""

        def together(tensor: Tensor | None, axis: int | None) -> Tensor | None:
            if tensor is None:
                return None
            first = tensor.unsqueeze(0) if axis is None else tensor.movedim(axis, 0)
            return first.expand(info.batch_size, *first.shape[1:]).flatten(0, 1)

        tensors = (
            together(tensor, axis) for tensor, axis in zip(inputs[:4], in_dims, strict=False)
        )
        results = ChunkedAttentionFunction.apply(*tensors, *inputs[4:])
        return tuple(result.unflatten(0, (info.batch_size, -1)) for result in results), (0, 0)

    @staticmethod
    def jvp(_ctx: Any, *_tangents: Any) -> Any:
        """Refuse forward-mode differentiation."""
        raise NotImplementedError(
            "chunked attention does not support forward-mode differentiation; use "
            'scaled_dot_product_attention, or implementation="loop" in layers, instead'
        )


class _Masking(NamedTuple):
    """The masks of a block of scores.

    Attributes:
        blocked: Scores to be ignored, broadcastable to ``(heads, rows, columns)``, or None. At
            least one of each row is kept.
        later: Scores of later keys in the last columns, ``(rows, at most rows)``, or None.
        empty: Rows that may attend to nothing, broadcastable to ``(heads, rows, 1)``, or None.
    """

    blocked: Tensor | None = None
    later: Tensor | None = None
    empty: Tensor | None = None

    def of_keys(self, keys: slice, columns: int) -> _Masking:
        """What some of the block's columns may not hold."""
        blocked, later = self.blocked, self.later
        if blocked is not None and blocked.shape[-1] > 1:
            blocked = blocked[..., keys]
        if later is not None:
            first = columns - len(later)
            later = later[:, max(keys.start - first, 0) : max(keys.stop - first, 0)]
        return _Masking(blocked, later)


class _Group(NamedTuple):
    """Some heads of one example, whose scores are computed together."""

    example: int
    heads: slice

    def select(self, *tensors: Tensor | None) -> list[Any]:
        """The parts of tensors ``(batch, heads, ...)``; None of None."""
        return [None if tensor is None else tensor[self.example, self.heads] for tensor in tensors]


class _Block(NamedTuple):
    """Some queries, and the keys that they may attend to."""

    queries: slice
    keys: slice

    def masking(self, mask: Tensor | None, causal: bool, device: torch.device) -> _Masking:
        """What the block may not hold, by the mask of its heads."""
        later = None
        if causal:
            size = self.queries.stop - self.queries.start
            later = torch.ones(size, size, dtype=torch.bool, device=device).triu(1)
        if mask is None:
            return _Masking(later=later)
        allowed = mask if mask.shape[1] == 1 else mask[:, self.queries]
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
        """Make a buffer for the scores of any block."""
        return like.new_empty(self.heads_per_block * self.queries_per_block * self.keys)

    def groups(self) -> Iterator[_Group]:
        """All heads of all examples."""
        for example in range(self.batch):
            for heads in _slices(self.heads, self.heads_per_block):
                yield _Group(example, heads)

    def blocks(self) -> Iterator[_Block]:
        """All blocks of a group; without keys there are none."""
        if not self.keys:
            return
        past = self.keys - self.queries
        for queries in _slices(self.queries, self.queries_per_block):
            yield _Block(queries, slice(0, queries.stop + past if self.causal else self.keys))


def _slices(length: int, size: int) -> list[slice]:
    return [slice(start, min(start + size, length)) for start in range(0, length, size)]


def _product(left: Tensor, right: Tensor, buffer: Tensor, *, scale: float = 1.0) -> Tensor:
    """Scaled dot products of rows with rows, written into the first part of a flat buffer."""
    shape = (len(left), left.shape[1], right.shape[1])
    product = buffer[: shape[0] * shape[1] * shape[2]].view(shape)
    return product.baddbmm_(left, right.transpose(1, 2), beta=0, alpha=scale)


def _scale(query: Tensor) -> float:
    return query.shape[-1] ** -0.5


def _scores(query: Tensor, key: Tensor, masking: _Masking, buffer: Tensor) -> Tensor:
    """Scores of a block, -inf where they are masked, in the first part of a flat buffer.

    They are multiplied by log2(e), for powers of 2: torch computes these in half the time of powers
    of e.
    """
    scores = _product(query, key, buffer, scale=_scale(query) * math.log2(math.e))
    if masking.later is not None and masking.blocked is None:
        scores[..., scores.shape[2] - masking.later.shape[1] :].masked_fill_(
            masking.later, -torch.inf
        )
    if masking.blocked is not None:
        scores.masked_fill_(masking.blocked, -torch.inf)
    return scores


def _attend(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    masking: _Masking,
    buffer: Tensor,
    output: Tensor,
) -> tuple[Tensor, Tensor]:
    """Write the sums of the values of a block, each weighted by a power of its score.

    Returns:
        The sum of each row's powers, and what was subtracted from its scores before: the highest,
        so that no power overflows and no row vanishes.
    """
    scores = _scores(query, key, masking, buffer)
    highest = scores.amax(-1, keepdim=True)
    powers = scores.sub_(highest).exp2_()
    torch.bmm(powers, value, out=output)
    return powers.sum(-1, keepdim=True), highest


def _attend_to_moderate_scores(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    masking: _Masking,
    buffer: Tensor,
    output: Tensor,
) -> Tensor | None:
    """Do the same with nothing subtracted, a few keys at a time.

    That spares two passes over the scores, and those of a few keys stay in the processor's cache.

    Returns:
        The sum of each row's powers; None if a sum is so low or high that a power may have vanished
        or overflowed, and the output is not to be used.
    """
    sums = query.new_zeros(*query.shape[:2], 1)
    columns = key.shape[1]
    for keys in _slices(columns, max(1, _CACHED_SCORES // query.shape[:2].numel())):
        some = masking.of_keys(keys, columns)
        powers = _scores(query, key[:, keys], some, buffer).exp2_()
        sums.add_(powers.sum(-1, keepdim=True))
        output.baddbmm_(powers, value[:, keys])
    lowest, highest = sums.aminmax()
    return sums if float(lowest) > _SMALL and float(highest) < 1 / _SMALL else None


def _gradients(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    mask: Tensor | None,
    causal: bool,
    chunk: int | None,
    log_sums: Tensor,
    d_output: Tensor,
    needed: tuple[bool, ...],
) -> tuple[Tensor | None, ...]:
    """Gradients of query, key and value, block by block.

    Those of keys and values are summed in their transposed form: as a product of few rows with
    many columns, for which BLAS was measured to take three quarters of the time.
    """
    d_query = torch.zeros_like(query, memory_format=torch.contiguous_format)
    d_key, d_value = (
        torch.zeros_like(tensor.transpose(2, 3), memory_format=torch.contiguous_format)
        for tensor in (key, value)
    )
    scale = _scale(query)
    plan = _Plan.of(query, key, causal, chunk)
    buffer, d_buffer = plan.buffer(query), plan.buffer(query)
    for group in plan.groups():
        rows, columns, values, allowed, logs = group.select(query, key, value, mask, log_sums)
        d_result, d_rows, d_columns, d_values = group.select(d_output, d_query, d_key, d_value)
        for block in plan.blocks():
            queries, keys = block
            masking = block.masking(allowed, causal, query.device)
            d_block = d_result[:, queries]
            if masking.empty is not None:
                d_block = d_block.masked_fill(masking.empty, 0)
            scores = _scores(rows[:, queries], columns[:, keys], masking, buffer)
            weights = scores.sub_(logs[:, queries]).exp2_()
            if needed[2]:
                d_values[:, :, keys].baddbmm_(d_block.transpose(1, 2), weights)
            if not any(needed[:2]):
                continue
            d_scores = _product(d_block, values[:, keys], d_buffer)  # now the weights' gradient
            torch.ops.aten._softmax_backward_data.out(
                d_scores, weights, -1, weights.dtype, grad_input=d_scores
            )
            d_rows[:, queries].baddbmm_(d_scores, columns[:, keys], beta=0, alpha=scale)
            d_columns[:, :, keys].baddbmm_(rows[:, queries].transpose(1, 2), d_scores, alpha=scale)
    gradients = d_query, d_key.transpose(2, 3), d_value.transpose(2, 3)
    return tuple(
        gradient if need else None for gradient, need in zip(gradients, needed, strict=True)
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
