"""Writing a sequence when only the model's next-symbol distribution is known.

All functions read a batch of sources and return, for each, ids without start and end. They call
the model's ``step``, which for a Transformer keeps the keys and values of what was written;
``cached=False`` computes everything again at each step, and gives the same. Padding and start are
never written: the model's distribution is that over the other symbols. A model that would drop
units at random is refused, since it has no one distribution.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.nn import Dropout

from seqbook.data.batches import END, PADDING, START
from seqbook.models.seq2seq import Memory, Seq2Seq

__all__ = ["Hypothesis", "beam", "greedy", "sample"]


class Hypothesis(NamedTuple):
    """A written sequence.

    Attributes:
        ids: Without start and end.
        log_probability: Of the ids and, if it is ``complete``, the end after them; in nats, of
            the model's own distribution, whatever the temperature.
        complete: Whether the model ended it. If not, the limit did.
    """

    ids: list[int]
    log_probability: float
    complete: bool


@torch.no_grad()
def greedy(
    model: Seq2Seq, source: Tensor, lengths: Tensor, *, max_length: int = 100, cached: bool = True
) -> list[Hypothesis]:
    """Write the most probable symbol at each step.

    Args:
        model: The model.
        source: Ids, ``(batch, source)``.
        lengths: Of the sources, ``(batch,)``.
        max_length: Symbols after which to give up, the end counted.
        cached: Whether to keep what can be kept between steps.

    Raises:
        ValueError: ``max_length`` is not positive, or the model is in training mode with dropout.
    """
    return _one_path(model, source, lengths, max_length, cached, lambda log_p: log_p.argmax(-1))


@torch.no_grad()
def sample(
    model: Seq2Seq,
    source: Tensor,
    lengths: Tensor,
    *,
    generator: torch.Generator,
    temperature: float = 1.0,
    max_length: int = 100,
    cached: bool = True,
) -> list[Hypothesis]:
    """Draw each symbol from the model's distribution, sharpened or flattened by a temperature.

    Args:
        model: The model.
        source: Ids, ``(batch, source)``.
        lengths: Of the sources, ``(batch,)``.
        generator: The source of chance.
        temperature: Above 0; 1 is the model's own distribution.
        max_length: Symbols after which to give up, the end counted.
        cached: Whether to keep what can be kept between steps.

    Raises:
        ValueError: The temperature is not positive and finite, or as for ``greedy``.
    """
    if not 0 < temperature < float("inf"):
        raise ValueError(f"temperature: expected a finite number above 0, got {temperature}")

    def draw(log_p: Tensor) -> Tensor:
        probabilities = (log_p / temperature).softmax(-1)
        return torch.multinomial(probabilities, 1, generator=generator)[:, 0]

    return _one_path(model, source, lengths, max_length, cached, draw)


@torch.no_grad()
def beam(
    model: Seq2Seq,
    source: Tensor,
    lengths: Tensor,
    *,
    width: int,
    max_length: int = 100,
    cached: bool = True,
) -> list[Hypothesis]:
    """Keep the ``width`` most probable beginnings at each step, and return the best end.

    The search may drop the greedy path and end with something less probable. So the greedy result
    is one of those among which the best is chosen: the answer is never less probable than
    ``greedy``'s, and of width 1 it is the same. All others are complete: what the search has not
    ended at the limit is given up.

    Args:
        model: The model.
        source: Ids, ``(batch, source)``.
        lengths: Of the sources, ``(batch,)``.
        width: Number of beginnings to keep.
        max_length: Symbols after which to give up, the end counted.
        cached: Whether to keep what can be kept between steps.

    Raises:
        ValueError: ``width`` is not positive, or as for ``greedy``.
    """
    if width < 1:
        raise ValueError(f"width: expected at least 1, got {width}")
    best = greedy(model, source, lengths, max_length=max_length, cached=cached)
    if width == 1:
        return best
    stepper, memory = _stepper(model, cached), model.encode(source, lengths)
    batch = len(source)
    row = torch.arange(batch).repeat_interleave(width)  # of the source of each beginning
    state = stepper.start(memory).index_select(row)
    first = torch.arange(batch) * width
    written = torch.empty(batch * width, 0, dtype=torch.int64)
    symbol = torch.full((batch * width,), START)
    scores = torch.full((batch, width), -torch.inf)
    scores[:, 0] = 0  # all beginnings are the same at first; only one may go on
    for _ in range(max_length):
        log_p, state = _log_probabilities(stepper, symbol, state)
        symbols = log_p.shape[-1]
        totals = (scores.unsqueeze(-1) + log_p.view(batch, width, symbols)).flatten(1)
        # At most `width` of these end, so that as many are left to go on.
        top, flat = totals.topk(min(2 * width, totals.shape[1]))
        parent, following = flat // symbols + first[:, None], flat % symbols
        ends = following == END
        for i, j in ends.nonzero().tolist():
            if top[i, j] > best[i].log_probability:
                best[i] = Hypothesis(written[parent[i, j]].tolist(), top[i, j].item(), True)
        scores, chosen = top.masked_fill(ends, -torch.inf).topk(width)
        parent, symbol = parent.gather(1, chosen).flatten(), following.gather(1, chosen).flatten()
        written = torch.cat((written[parent], symbol[:, None]), 1)
        state = state.index_select(parent)
        # A longer sequence is never more probable than its beginning.
        if all(best[i].log_probability >= scores[i, 0] for i in range(batch)):
            break
    return best


def _one_path(
    model: Seq2Seq,
    source: Tensor,
    lengths: Tensor,
    max_length: int,
    cached: bool,
    choose: Callable[[Tensor], Tensor],
) -> list[Hypothesis]:
    """Write one symbol after the other as ``choose`` picks them from the log-probabilities."""
    if max_length < 1:
        raise ValueError(f"max_length: expected at least 1, got {max_length}")
    if any(isinstance(m, Dropout) and m.training and m.p for m in model.modules()):
        raise ValueError(
            "model: expected one that drops no units, got one with dropout in training mode; call "
            "model.eval() first"
        )
    stepper, batch = _stepper(model, cached), len(source)
    state = stepper.start(model.encode(source, lengths))
    symbol = torch.full((batch,), START)
    written, total = torch.empty(batch, 0, dtype=torch.int64), torch.zeros(batch)
    ended = torch.zeros(batch, dtype=torch.bool)
    for _ in range(max_length):
        log_p, state = _log_probabilities(stepper, symbol, state)
        symbol = choose(log_p)
        total = total + log_p.gather(1, symbol[:, None])[:, 0].masked_fill(ended, 0)
        written = torch.cat((written, symbol[:, None]), 1)
        ended |= symbol == END
        if ended.all():
            break
    return [
        Hypothesis(ids[: ids.index(END)] if end else ids, score, end)
        for ids, score, end in zip(written.tolist(), total.tolist(), ended.tolist(), strict=True)
    ]


def _log_probabilities(stepper, symbol: Tensor, state: Any) -> tuple[Tensor, Any]:
    """One step; nothing but symbols and the end can be written."""
    logits, state = stepper.step(symbol, state)
    logits[:, [PADDING, START]] = -torch.inf
    return logits.log_softmax(-1), state


def _stepper(model: Seq2Seq, cached: bool) -> Seq2Seq | _Recomputing:
    return model if cached else _Recomputing(model)


class _Prefix(NamedTuple):
    """What a decoder without a cache needs at each step."""

    written: Tensor
    memory: Memory

    def index_select(self, rows: Tensor) -> _Prefix:
        return _Prefix(self.written.index_select(0, rows), self.memory.index_select(rows))


class _Recomputing:
    """A model whose every step reads all that was written again."""

    def __init__(self, model: Seq2Seq):
        self._model = model

    def start(self, memory: Memory) -> _Prefix:
        return _Prefix(torch.empty(len(memory.values), 0, dtype=torch.int64), memory)

    def step(self, symbol: Tensor, state: _Prefix) -> tuple[Tensor, _Prefix]:
        written = torch.cat((state.written, symbol[:, None]), 1)
        return self._model.decode(written, state.memory)[:, -1], _Prefix(written, state.memory)
