"""Score a model while it trains, and leave the time of scoring out.

Minutes are those of the processor, so that they mean the same beside other work. Set the number of
threads to one.
"""

import sys
import time
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from seqbook.training.loop import TrainingStep, training_steps, warmup_cosine

FINE = 1_000_000  # parts into which the time of a training is divided for its learning rate


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
    minutes, start = 0.0, time.process_time()
    for step in training:
        updates = step.number + 1
        if updates % every == 0 or updates == steps:
            minutes += (time.process_time() - start) / 60
            yield updates, score(), minutes
            start = time.process_time()


def scored_in_time(
    parameters: Iterable[Any],
    loss: Callable[[int], Any],
    score: Callable[[], float],
    *,
    minutes: float,
    scores: int,
    learning_rate: float,
    warmup: float,
    final: float = 0.0,
    optimizer: Any = None,
) -> Iterator[tuple[int, float, float]]:
    """Train for a given time, and score at equal intervals of it and at its end.

    The learning rate is that of ``warmup_cosine``, by the share of the time that has gone by.

    Args:
        parameters: As for ``training_steps``.
        loss: As for ``training_steps``.
        score: Scores the model as it is.
        minutes: Minutes of training.
        scores: How many times to score.
        learning_rate: The largest learning rate.
        warmup: Share of the time until then.
        final: Learning rate at the end.
        optimizer: As for ``training_steps``.

    Yields:
        Number of updates, score, and minutes of training until then.
    """
    schedule = warmup_cosine(learning_rate, FINE, warmup=round(warmup * FINE), final=final)
    before, start = 0.0, time.process_time()

    def share() -> float:
        return min(1.0, (before + time.process_time() - start) / (60 * minutes))

    training = training_steps(
        parameters,
        loss,
        steps=sys.maxsize,
        learning_rate=lambda _: schedule(round(share() * FINE)),
        optimizer=optimizer,
    )
    due = 1
    for step in training:
        if share() >= due / scores:
            before += time.process_time() - start
            yield step.number + 1, score(), before / 60
            start = time.process_time()
            if share() >= 1:
                return
            due += 1
