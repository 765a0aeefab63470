"""When and how a run is scored."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import count, takewhile
from typing import Any

from seqbook.data.pairs import Pair
from seqbook.models.transcriber import Transcriber
from seqbook.validation import check_integer

__all__ = ["FIRST_SCORE", "SCORE_RATIO", "score", "score_steps"]

FIRST_SCORE = 100
"""Number of steps after which a run is scored first."""

SCORE_RATIO = 1.5
"""Ratio of the number of steps at one score to that at the score before."""


def score_steps(steps: int, *, first: int = FIRST_SCORE, ratio: float = SCORE_RATIO) -> list[int]:
    r"""Return the steps after which a run is scored: growing by a ratio, and the last.

    .. math:: \operatorname{round}(f r^i), \qquad i = 0, 1, \dots

    for f = ``first`` and r = ``ratio``, below the number of steps.

    Args:
        steps: Steps of the run.
        first: First step to score after.
        ratio: Ratio of each to the one before it, above 1.

    Raises:
        ValueError: The first step is below 1, or the ratio is not above 1.

    Example:
        >>> score_steps(500)
        [100, 150, 225, 338, 500]
    """
    check_integer("first", first, minimum=1)
    if not ratio > 1:
        raise ValueError(f"ratio: expected a number above 1, got {ratio}")
    growing = (round(first * ratio**i) for i in count())
    return [*takewhile(lambda step: step < steps, growing), steps]


def score(
    transcriber: Transcriber,
    pairs: Sequence[Pair],
    *,
    beam_width: int = 1,
    progress: Callable[[int], object] = lambda _count: None,
) -> dict[str, Any]:
    """Score a model for a record.

    Args:
        transcriber: The model.
        pairs: Sources and their correct targets.
        beam_width: Width of the beam; 1 is greedy decoding.
        progress: Called with the number of sources each time a batch of them is done.

    Returns:
        ``word`` and ``symbol`` error as fractions, to five digits.

    Example:
        >>> from seqbook.data.batches import Vocabularies
        >>> pairs = [Pair(("a",), (("x",),))]
        >>> options = {"embedding_size": 4, "hidden_size": 4}
        >>> model = Transcriber("gru", options, Vocabularies.from_pairs(pairs))
        >>> sorted(score(model, pairs))
        ['symbol', 'word']
    """
    rates = transcriber.score(pairs, beam_width=beam_width, progress=progress)
    return {name: round(rate, 5) for name, rate in rates._asdict().items()}
