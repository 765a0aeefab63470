"""Generate a sequence when only the model's next-symbol distribution is known.

All functions take a batch of sources and return, for each, ids without start and end. They call
the model's ``step``, which for a Transformer keeps the keys and values of past positions;
``cached=False`` computes everything again at each step, and gives the same. Padding and start are
never generated: the model's distribution is that over the other symbols. A model that would drop
units at random is refused, since it has no one distribution.

What is generated for a source depends on that source alone, not on the others of its batch. One
limit remains: products of matrices of another size may round differently, by about 1e-7 of their
values in float32, so that two symbols whose probabilities agree to that digit can change places.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, Protocol

import torch
from torch import Tensor
from torch.nn import Dropout

from seqbook.data.batches import END, PADDING, START
from seqbook.models.ids import as_ids
from seqbook.models.sampling import sampling_distribution
from seqbook.models.seq2seq import Memory, Seq2Seq

__all__ = ["Hypothesis", "beam", "greedy", "sample"]


class Hypothesis(NamedTuple):
    r"""A generated sequence.

    Attributes:
        ids: Without start and end.
        log_probability: Log-probability of the ids y and, if it is ``complete``, the end after
            them, :math:`\sum_t \log P(y_t \mid y_1, \dots, y_{t-1}, x)` for the source x; in nats,
            of the model's own distribution, however it was drawn from.
        complete: Whether the model ended it. If not, ``max_length`` did.

    Example:
        >>> import math
        >>> hypothesis = Hypothesis([5, 7], log_probability=math.log(0.25), complete=True)
        >>> symbols = len(hypothesis.ids) + hypothesis.complete  # the end counts
        >>> round(-hypothesis.log_probability / symbols / math.log(2), 2)  # bits a symbol
        0.67
    """

    ids: list[int]
    log_probability: float
    complete: bool


@torch.inference_mode()
def greedy(
    model: Seq2Seq,
    source: Tensor,
    lengths: Tensor,
    *,
    max_length: int | Tensor | Sequence[int] = 100,
    cached: bool = True,
) -> list[Hypothesis]:
    r"""Generate the most probable symbol at each step.

    .. math:: y_t = \operatorname{argmax}_j P(j \mid y_1, \dots, y_{t-1}, x)

    Args:
        model: The model.
        source: Ids, ``(batch, source)``.
        lengths: Lengths of the sources, ``(batch,)``.
        max_length: Number of symbols after which to stop, the end counted: one for all sources, or
            one for each.
        cached: Whether to keep what can be kept between steps.

    Raises:
        ValueError: A ``max_length`` is not positive, or there is not one for each source, or the
            model is in training mode with dropout.

    Example:
        >>> from seqbook.models.seq2seq import RecurrentSeq2Seq
        >>> generator = torch.Generator().manual_seed(0)
        >>> model = RecurrentSeq2Seq(9, 9, embedding_size=4, hidden_size=4, generator=generator)
        >>> source, lengths = torch.tensor([[5, 6, 2]]), torch.tensor([3])
        >>> (hypothesis,) = greedy(model, source, lengths, max_length=4)
        >>> len(hypothesis.ids) <= 4
        True
    """
    return _decode(
        model, source, lengths, max_length, cached, lambda log_p, _step: log_p.argmax(-1)
    )


@torch.inference_mode()
def sample(
    model: Seq2Seq,
    source: Tensor,
    lengths: Tensor,
    *,
    generator: torch.Generator,
    temperature: float = 1.0,
    top_k: int | None = None,
    top_p: float = 1.0,
    max_length: int | Tensor | Sequence[int] = 100,
    cached: bool = True,
) -> list[Hypothesis]:
    r"""Draw each symbol from the model's distribution, sharpened or flattened by a temperature.

    .. math:: P_T(j) \propto P(j \mid y_1, \dots, y_{t-1}, x)^{1 / T}

    As the temperature T goes to zero, the most probable symbol is drawn. ``top_k`` and ``top_p``
    drop improbable symbols, see ``seqbook.models.sampling.sampling_distribution``; the end is a
    symbol like any other.

    Args:
        model: The model.
        source: Ids, ``(batch, source)``.
        lengths: Lengths of the sources, ``(batch,)``.
        generator: Random generator, of any device. It draws one seed for each source, in order, so
            that what is drawn for a source depends on its place in the batch, but not on the other
            sources.
        temperature: T, above 0; 1 is the model's own distribution.
        top_k: Number of most probable symbols among which to draw, at least 1; None for all.
        top_p: Draw among the smallest number of most probable symbols that together have at least
            this probability; 1 for all.
        max_length: Number of symbols after which to stop, the end counted: one for all sources, or
            one for each.
        cached: Whether to keep what can be kept between steps.

    Raises:
        TypeError: ``top_k`` is not an integer.
        ValueError: ``temperature``, ``top_k`` or ``top_p`` is out of range, or as for ``greedy``.

    Source: Fan, Lewis and Dauphin (2018) for top-k; Holtzman et al. (2020) for top-p.

    Example:
        >>> from seqbook.models.seq2seq import RecurrentSeq2Seq
        >>> generator = torch.Generator().manual_seed(0)
        >>> model = RecurrentSeq2Seq(9, 9, embedding_size=4, hidden_size=4, generator=generator)
        >>> source, lengths = torch.tensor([[5, 6, 2]]), torch.tensor([3])
        >>> (drawn,) = sample(model, source, lengths, generator=generator, max_length=4)
        >>> len(drawn.ids) <= 4
        True
    """
    options: dict[str, Any] = {"temperature": temperature, "top_k": top_k, "top_p": top_p}
    sampling_distribution(torch.zeros(1), **options)  # refuses options also if there is no source
    limits = _limits(max_length, len(source))
    uniform = _uniform(limits, generator)

    def draw(log_p: Tensor, step: int) -> Tensor:
        cumulative = sampling_distribution(log_p.double(), **options).cumsum(-1)
        cumulative = cumulative / cumulative[:, -1:]
        drawn = uniform[step].unsqueeze(1).to(log_p.device)
        # The first symbol that exceeds the drawn number: none of probability 0 does.
        return torch.searchsorted(cumulative, drawn, right=True)[:, 0]

    return _decode(model, source, lengths, limits, cached, draw)


@torch.inference_mode()
def beam(
    model: Seq2Seq,
    source: Tensor,
    lengths: Tensor,
    *,
    width: int,
    max_length: int | Tensor | Sequence[int] = 100,
    cached: bool = True,
) -> list[Hypothesis]:
    r"""Keep the ``width`` most probable prefixes at each step, and return the best complete one.

    .. math:: \log P(y_1, \dots, y_t \mid x)
        = \sum_{s=1}^{t} \log P(y_s \mid y_1, \dots, y_{s-1}, x)

    ranks the prefixes, in nats and not divided by their length.

    The search may drop the greedy path and end with something less probable. So the greedy result
    is one of those among which the best is chosen: the answer is never less probable than
    ``greedy``'s, and of width 1 it is the same. All others are complete: prefixes that have not
    ended within ``max_length`` are dropped.

    Args:
        model: The model.
        source: Ids, ``(batch, source)``.
        lengths: Lengths of the sources, ``(batch,)``.
        width: Number of prefixes to keep.
        max_length: Number of symbols after which to stop, the end counted: one for all sources, or
            one for each.
        cached: Whether to keep what can be kept between steps.

    Raises:
        ValueError: ``width`` is not positive, or as for ``greedy``.

    Source: Sutskever, Vinyals and Le (2014).

    Example:
        >>> from seqbook.models.seq2seq import RecurrentSeq2Seq
        >>> generator = torch.Generator().manual_seed(0)
        >>> model = RecurrentSeq2Seq(9, 9, embedding_size=4, hidden_size=4, generator=generator)
        >>> inputs = torch.tensor([[5, 6, 2]]), torch.tensor([3])
        >>> (best,), (first,) = beam(model, *inputs, width=3), greedy(model, *inputs)
        >>> best.log_probability >= first.log_probability
        True
    """
    if width < 1:
        raise ValueError(f"width: expected at least 1, got {width}")
    limits = _limits(max_length, len(source))
    best = greedy(model, source, lengths, max_length=limits, cached=cached)
    if width == 1 or not best:
        return best
    decoder, memory = _decoder(model, cached), model.encode(source, lengths)
    batch, device = len(source), model.device
    rows = torch.arange(batch, device=device)
    state = decoder.start(memory).index_select(rows.repeat_interleave(width))
    first = rows[:, None] * width  # number of each source's first prefix
    prefixes = torch.empty(batch * width, 0, dtype=torch.int64, device=device)
    symbol = torch.full((batch * width,), START, device=device)
    scores: Tensor | None = None
    for step in range(max(limits)):
        log_p, state = _log_probabilities(decoder, symbol, state)
        if scores is None:  # all prefixes of a source are the same; only one may be continued
            scores = log_p.new_full((batch, width), -torch.inf)
            scores[:, 0] = 0
        symbols = log_p.shape[-1]
        totals = (scores.unsqueeze(-1) + log_p.view(batch, width, symbols)).flatten(1)
        # At most `width` of these end, so that as many are left to be continued.
        top, index = totals.topk(min(2 * width, totals.shape[1]))
        parent, following = index // symbols + first, index % symbols
        ends = following == END
        for i, j in ends.nonzero().tolist():
            score = top[i, j].item()
            if step < limits[i] and score > best[i].log_probability:
                best[i] = Hypothesis(prefixes[parent[i, j]].tolist(), score, True)
        scores, chosen = top.masked_fill(ends, -torch.inf).topk(width)
        parent, symbol = parent.gather(1, chosen).flatten(), following.gather(1, chosen).flatten()
        prefixes = torch.cat((prefixes[parent], symbol[:, None]), 1)
        state = state.index_select(parent)
        # A longer sequence is never more probable than its prefix.
        open_scores = scores[:, 0].tolist()
        if all(
            step + 1 >= limits[i] or best[i].log_probability >= open_scores[i] for i in range(batch)
        ):
            break
    return best


def _decode(
    model: Seq2Seq,
    source: Tensor,
    lengths: Tensor,
    max_length: int | Tensor | Sequence[int],
    cached: bool,
    choose: Callable[[Tensor, int], Tensor],
) -> list[Hypothesis]:
    """Generate one symbol after the other as ``choose`` picks them from the log-probabilities."""
    limits = _limits(max_length, len(source))
    if any(isinstance(m, Dropout) and m.training and m.p for m in model.modules()):
        raise ValueError(
            "model: expected one that drops no units, got one with dropout in training mode; call "
            "model.eval() first"
        )
    decoder, device = _decoder(model, cached), model.device
    state = decoder.start(model.encode(source, lengths))
    symbol = torch.full((len(source),), START, device=device)
    last_step = torch.tensor(limits, device=device) - 1
    done = torch.zeros(len(source), dtype=torch.bool, device=device)
    symbols, scores = [], []
    for step in range(max(limits, default=0)):
        log_p, state = _log_probabilities(decoder, symbol, state)
        symbol = choose(log_p, step)
        symbols.append(symbol)
        scores.append(log_p.gather(1, symbol[:, None])[:, 0].masked_fill(done, 0))
        done = done | (symbol == END) | (last_step <= step)
        if done.all():
            break
    if not symbols:
        return []
    ids, totals = torch.stack(symbols, 1).tolist(), torch.stack(scores, 1).double().sum(1).tolist()
    return [
        _hypothesis(row[:limit], total)
        for row, total, limit in zip(ids, totals, limits, strict=True)
    ]


def _hypothesis(ids: list[int], log_probability: float) -> Hypothesis:
    complete = END in ids
    return Hypothesis(ids[: ids.index(END)] if complete else ids, log_probability, complete)


def _limits(max_length: int | Tensor | Sequence[int], batch: int) -> list[int]:
    """Return the maximal length of each source."""
    if isinstance(max_length, int):
        limits = [max_length] * batch
    else:
        limits = as_ids(max_length, dims=1, name="max_length").tolist()
    if len(limits) != batch:
        raise ValueError(
            f"max_length: expected one, or one for each of {batch} sources, got {len(limits)}"
        )
    if min(limits, default=1) < 1:
        raise ValueError(f"max_length: expected at least 1, got {min(limits)}")
    return limits


def _uniform(limits: list[int], generator: torch.Generator) -> Tensor:
    """Draw a number in 0 to 1 for each step of each source, ``(steps, batch)``.

    Those of a source come from a generator of its own, of which the given one draws the seed.
    """
    seeds = torch.randint(2**62, (len(limits),), generator=generator, device=generator.device)
    uniform = torch.zeros(max(limits, default=0), len(limits), dtype=torch.float64)
    for source, (limit, seed) in enumerate(zip(limits, seeds.tolist(), strict=True)):
        generator_of_source = torch.Generator().manual_seed(seed)
        uniform[:limit, source] = torch.rand(
            limit, dtype=torch.float64, generator=generator_of_source
        )
    return uniform


class _Decoder(Protocol):
    """What a search needs of a model."""

    def start(self, memory: Memory) -> Any: ...

    def step(self, symbol: Tensor, state: Any) -> tuple[Tensor, Any]: ...


def _log_probabilities(decoder: _Decoder, symbol: Tensor, state: Any) -> tuple[Tensor, Any]:
    """Take one step; only the end and symbols after it can be generated."""
    logits, state = decoder.step(symbol, state)
    logits = logits.float() if logits.dtype in (torch.float16, torch.bfloat16) else logits
    logits[:, PADDING] = logits[:, START] = -torch.inf
    return logits.log_softmax(-1), state


def _decoder(model: Seq2Seq, cached: bool) -> _Decoder:
    return model if cached else _Recomputing(model)


class _Prefix(NamedTuple):
    """State of a decoder without a cache."""

    symbols: Tensor
    memory: Memory

    def index_select(self, rows: Tensor) -> _Prefix:
        return _Prefix(self.symbols.index_select(0, rows), self.memory.index_select(rows))


class _Recomputing:
    """A model of which every step decodes the whole prefix again."""

    def __init__(self, model: Seq2Seq):
        self._model = model

    def start(self, memory: Memory) -> _Prefix:
        symbols = torch.empty(len(memory.values), 0, dtype=torch.int64, device=memory.values.device)
        return _Prefix(symbols, memory)

    def step(self, symbol: Tensor, state: _Prefix) -> tuple[Tensor, _Prefix]:
        symbols = torch.cat((state.symbols, symbol[:, None]), 1)
        return self._model.decode(symbols, state.memory)[:, -1], _Prefix(symbols, state.memory)
