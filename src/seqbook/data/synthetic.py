"""Tasks that only a memory can solve, each with the exact score of a model that has none.

Each function draws a fresh batch, so that nothing can be learned by heart. What a model with too
short a memory can reach is known in closed form: a learning curve that stays there has learned
nothing about the past.
"""

from __future__ import annotations

from math import log
from typing import NamedTuple

import torch
from torch import Tensor

__all__ = ["TaskBatch", "adding", "adding_error", "copying", "copying_loss", "recall"]


class TaskBatch(NamedTuple):
    """Sequences and what is asked about them.

    Attributes:
        inputs: float32 ``(batch, time, features)``.
        targets: One answer for each sequence ``(batch,)``, or for each step ``(batch, time)``.
    """

    inputs: Tensor
    targets: Tensor


def adding(batch: int, *, length: int, generator: torch.Generator) -> TaskBatch:
    """Draw a batch of the adding problem: the sum of the two marked numbers.

    The first feature is uniform in [0, 1]. The second marks one step in each half of the sequence
    with 1, all others with 0. The target is the sum of the two marked numbers.

    Args:
        batch: Number of sequences.
        length: Number of steps, at least 2.
        generator: Source of all randomness.

    Shape:
        inputs ``(batch, length, 2)``; targets float32 ``(batch,)`` in [0, 2].

    Raises:
        ValueError: A size is too small.

    Source: Hochreiter and Schmidhuber (1997), section 5.4, in the form of Arjovsky, Shah and Bengio
    (2016), section 5.2 (fixed length, numbers from [0, 1], one mark in each half).
    """
    _check(batch=(batch, 1), length=(length, 2))
    numbers = torch.rand(batch, length, generator=generator)
    half = length // 2
    first = torch.randint(half, (batch,), generator=generator)
    second = torch.randint(half, length, (batch,), generator=generator)
    marks = torch.zeros(batch, length)
    rows = torch.arange(batch)
    marks[rows, first] = marks[rows, second] = 1
    return TaskBatch(torch.stack([numbers, marks], -1), (numbers * marks).sum(1))


def adding_error(length: int, *, window: int = 0) -> float:
    r"""Return the least mean squared error in ``adding`` of a model that sees a window.

    Each marked number is known if its mark lies among the last ``window`` steps, and otherwise only
    its variance is, 1/12:

    .. math:: \frac{P(\text{first not seen}) + P(\text{second not seen})}{12}

    So a model without memory has an error of 1/6, one that remembers the second half 1/12, and one
    that remembers everything 0.

    Args:
        length: Number of steps, as for ``adding``.
        window: How many of the last steps are seen, 0 to ``length``.

    Raises:
        ValueError: An argument is out of range.
    """
    _check(length=(length, 2), window=(window, 0))
    if window > length:
        raise ValueError(f"window: expected at most length {length}, got {window}")
    half = length // 2
    second_half = length - half
    second_unseen = max(0, second_half - window) / second_half
    first_unseen = min(half, length - window) / half
    return (first_unseen + second_unseen) / 12


def recall(batch: int, *, delay: int, generator: torch.Generator, symbols: int = 8) -> TaskBatch:
    """Draw a batch of delayed recall: name the first symbol after ``delay`` blank steps.

    One-hot inputs; the last feature is the blank. Without memory nothing beats guessing: an
    accuracy of 1 / ``symbols``, a cross-entropy of log ``symbols`` nats.

    Args:
        batch: Number of sequences.
        delay: Blank steps after the symbol.
        generator: Source of all randomness.
        symbols: Size of the alphabet, at least 2.

    Shape:
        inputs ``(batch, delay + 1, symbols + 1)``; targets int64 ``(batch,)``.

    Raises:
        ValueError: A size is too small.

    Source: a minimal form of the long time lag problems of Hochreiter and Schmidhuber (1997).
    """
    _check(batch=(batch, 1), delay=(delay, 0), symbols=(symbols, 2))
    targets = torch.randint(symbols, (batch,), generator=generator)
    inputs = torch.zeros(batch, delay + 1, symbols + 1)
    inputs[torch.arange(batch), 0, targets] = 1
    inputs[:, 1:, symbols] = 1
    return TaskBatch(inputs, targets)


def copying(
    batch: int, *, delay: int, generator: torch.Generator, count: int = 10, symbols: int = 8
) -> TaskBatch:
    """Draw a batch of the copying problem: repeat what was shown, when asked.

    ``count`` symbols, then ``delay`` steps of which the last asks for the answer and the others are
    blank, then ``count`` blanks during which the symbols are to be repeated. The target is the
    blank until then. In the one-hot inputs, and in the targets, the blank is ``symbols``; the
    request is ``symbols + 1``.

    Args:
        batch: Number of sequences.
        delay: Steps between the last symbol shown and the first to be repeated, at least 1.
        generator: Source of all randomness.
        count: How many symbols are to be remembered.
        symbols: Size of the alphabet, at least 2.

    Shape:
        inputs ``(batch, delay + 2 * count, symbols + 2)``; targets int64
        ``(batch, delay + 2 * count)``.

    Raises:
        ValueError: A size is too small.

    Source: Hochreiter and Schmidhuber (1997), in the form of Arjovsky, Shah and Bengio (2016),
    section 5.1.
    """
    _check(batch=(batch, 1), delay=(delay, 1), count=(count, 1), symbols=(symbols, 2))
    shown = torch.randint(symbols, (batch, count), generator=generator)
    ids = torch.full((batch, delay + 2 * count), symbols)
    targets = ids.clone()
    ids[:, :count] = shown
    ids[:, count + delay - 1] = symbols + 1
    targets[:, count + delay :] = shown
    return TaskBatch(torch.nn.functional.one_hot(ids, symbols + 2).float(), targets)


def copying_loss(*, delay: int, count: int = 10, symbols: int = 8) -> float:
    r"""Return the least cross-entropy in ``copying``, nats a step, of a model without memory.

    It knows when to give blanks and guesses the rest:

    .. math:: \frac{n \log K}{T + 2 n}

    for n symbols out of K and a delay T.

    Raises:
        ValueError: A size is too small.

    Source: Arjovsky, Shah and Bengio (2016), section 5.1.
    """
    _check(delay=(delay, 1), count=(count, 1), symbols=(symbols, 2))
    return count * log(symbols) / (delay + 2 * count)


def _check(**sizes: tuple[int, int]) -> None:
    for name, (value, least) in sizes.items():
        if value < least:
            raise ValueError(f"{name}: expected at least {least}, got {value}")
