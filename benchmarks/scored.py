"""Score a model while it trains, and leave the time of scoring out."""

import time
from collections.abc import Callable, Iterable, Iterator

from seqbook.training.loop import TrainingStep


def scored(
    training: Iterable[TrainingStep], score: Callable[[], float], *, every: int, steps: int
) -> Iterator[tuple[int, float, float]]:
    """Train, and score after some updates and after the last one.

    Args:
        training: The ``training_steps``.
        score: Scores the model as it is.
        every: Updates between two scores.
        steps: Number of updates in all.

    Yields:
        Number of updates, score, and minutes of training until then.
    """
    minutes, start = 0.0, time.monotonic()
    for step in training:
        updates = step.number + 1
        if updates % every == 0 or updates == steps:
            minutes += (time.monotonic() - start) / 60
            yield updates, score(), minutes
            start = time.monotonic()
