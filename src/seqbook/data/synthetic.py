"""Synthetic tasks with long-range dependence: adding, recall and copying.

Each call draws a new batch, so that a model can't memorise the data. The best score of a model with
too short a memory is known in closed form: a learning curve that stays at it has learned nothing
about the past.
"""

from __future__ import annotations

from math import log
from typing import NamedTuple

import torch
from torch import Tensor

from seqbook.validation import check_instance, check_integer

__all__ = [
    "TaskBatch",
    "adding",
    "adding_error",
    "associative_recall",
    "copying",
    "copying_loss",
    "recall",
]


class TaskBatch(NamedTuple):
    """Batch of input sequences and their targets.

    Attributes:
        inputs: ``(batch, time, features)``.
        targets: One for each sequence, ``(batch,)``, or several, ``(batch, time)``.

    Example:
        >>> inputs, targets = recall(2, delay=3, generator=torch.Generator().manual_seed(0))
        >>> inputs.shape, targets.shape
        (torch.Size([2, 4, 9]), torch.Size([2]))
    """

    inputs: Tensor
    targets: Tensor


def adding(
    batch: int,
    *,
    length: int,
    generator: torch.Generator,
    device: torch.device | str | None = None,
    dtype: torch.dtype | None = None,
) -> TaskBatch:
    r"""Draw a batch of the adding problem: the sum of the two marked numbers.

    .. math:: y = \sum_{t=1}^{T} a_t m_t

    for the numbers a and the marks m.

    The first feature is uniform in [0, 1]. The second marks one step in each half of the sequence
    with 1, all others with 0. The target is the sum of the two marked numbers.

    Args:
        batch: Number of sequences.
        length: Number of steps, at least 2.
        generator: Random generator. It draws on its own device, so that the batch depends on its
            seed and not on ``device``.
        device: Device of the batch, by default the generator's.
        dtype: Floating type of the batch, by default torch's default type.

    Shape:
        inputs ``(batch, length, 2)``; targets ``(batch,)`` in [0, 2].

    Raises:
        TypeError: A size is not an integer, ``generator`` is not a ``torch.Generator``, or
            ``dtype`` is not a floating type.
        ValueError: A size is too small.

    Source: Hochreiter and Schmidhuber (1997), section 5.4, in the form of Arjovsky, Shah and Bengio
    (2016), section 5.2 (fixed length, numbers from [0, 1], one mark in each half).

    Example:
        >>> inputs, targets = adding(2, length=6, generator=torch.Generator().manual_seed(0))
        >>> numbers, marks = inputs.unbind(-1)
        >>> torch.equal((numbers * marks).sum(1), targets)
        True
    """
    _check_sizes(batch=(batch, 1), length=(length, 2))
    place, dtype = _placement(generator, device, dtype)
    source = generator.device
    numbers = torch.rand(batch, length, generator=generator, device=source, dtype=torch.float32)
    half = length // 2
    first = torch.randint(half, (batch, 1), generator=generator, device=source)
    second = torch.randint(half, length, (batch, 1), generator=generator, device=source)
    steps = torch.arange(length, device=source)
    marks = (steps == first) | (steps == second)
    inputs = torch.stack([numbers, marks], -1).to(place, dtype)
    return TaskBatch(inputs, inputs.prod(-1).sum(1))


def adding_error(length: int, *, window: int = 0) -> float:
    r"""Least mean squared error in ``adding`` of a model that sees only the last steps.

    A marked number outside the window is best predicted by its mean, at the cost of its variance,
    1/12:

    .. math:: \frac{P(\text{first not seen}) + P(\text{second not seen})}{12}

    A model without memory has an error of 1/6, one that remembers the second half 1/12, and one
    that remembers everything 0.

    Args:
        length: Number of steps, as for ``adding``.
        window: Number of steps at the end that are seen, 0 to ``length``.

    Raises:
        TypeError: An argument is not an integer.
        ValueError: An argument is out of range.

    Example:
        >>> adding_error(100, window=50) * 12
        1.0
    """
    _check_sizes(length=(length, 2))
    check_integer("window", window, minimum=0, maximum=length)
    half = length // 2
    second_half = length - half
    second_unseen = max(0, second_half - window) / second_half
    first_unseen = min(half, length - window) / half
    return (first_unseen + second_unseen) / 12


def recall(
    batch: int,
    *,
    delay: int,
    generator: torch.Generator,
    symbols: int = 8,
    device: torch.device | str | None = None,
    dtype: torch.dtype | None = None,
) -> TaskBatch:
    """Draw a batch of delayed recall: classify the first of ``delay`` + 1 symbols.

    .. math:: y = x_1

    and all other inputs are the blank symbol.

    The inputs are one-hot; the last feature is the blank symbol. A model without memory can only
    guess: an accuracy of 1 / ``symbols``, a cross-entropy of log ``symbols`` nats.

    Args:
        batch: Number of sequences.
        delay: Number of blank symbols after the first.
        generator: Random generator. It draws on its own device, so that the batch depends on its
            seed and not on ``device``.
        symbols: Size of the alphabet, at least 2.
        device: Device of the batch, by default the generator's.
        dtype: Floating type of the inputs, by default torch's default type.

    Shape:
        inputs ``(batch, delay + 1, symbols + 1)``; targets int64 ``(batch,)``.

    Raises:
        TypeError: A size is not an integer, ``generator`` is not a ``torch.Generator``, or
            ``dtype`` is not a floating type.
        ValueError: A size is too small.

    Source: a minimal form of the long time lag problems of Hochreiter and Schmidhuber (1997).

    Example:
        >>> inputs, targets = recall(3, delay=5, generator=torch.Generator().manual_seed(0))
        >>> torch.equal(inputs[:, 0].argmax(-1), targets)
        True
    """
    _check_sizes(batch=(batch, 1), delay=(delay, 0), symbols=(symbols, 2))
    place, dtype = _placement(generator, device, dtype)
    targets = torch.randint(symbols, (batch,), generator=generator, device=generator.device)
    ids = torch.nn.functional.pad(targets[:, None], (0, delay), value=symbols)
    return TaskBatch(_one_hot(ids, symbols + 1).to(place, dtype), targets.to(place))


def associative_recall(
    batch: int,
    *,
    pairs: int,
    generator: torch.Generator,
    keys: int | None = None,
    values: int = 8,
    device: torch.device | str | None = None,
    dtype: torch.dtype | None = None,
) -> TaskBatch:
    r"""Draw a batch of associative recall: return the value that was shown with a key.

    .. math:: k_1, v_1, \dots, k_n, v_n, k_{\pi(1)}, \dots, k_{\pi(n)} \quad\longmapsto\quad
        v_{\pi(1)}, \dots, v_{\pi(n)}

    for n = ``pairs`` different keys and a random order π. Values may repeat. What must be
    remembered grows with n, while the distance to it can be short: the task asks how much a state
    holds, and ``recall`` for how long.

    The inputs are one-hot, the values after the keys. A model without memory is right in one of
    ``values`` answers.

    Args:
        batch: Number of sequences.
        pairs: Number of keys shown, each of which is asked for once.
        generator: Random generator. It draws on its own device, so that the batch depends on its
            seed and not on ``device``.
        keys: Number of keys to draw from, by default twice ``pairs``.
        values: Number of values to draw from, at least 2.
        device: Device of the batch, by default the generator's.
        dtype: Floating type of the inputs, by default torch's default type.

    Shape:
        inputs ``(batch, 3 * pairs, keys + values)``; targets int64 ``(batch, pairs)``, for the
        last ``pairs`` steps.

    Raises:
        TypeError: A size is not an integer, ``generator`` is not a ``torch.Generator``, or
            ``dtype`` is not a floating type.
        ValueError: A size is too small, or there are fewer keys than pairs.

    Source: Arora et al. (2023), section 3.1, with all questions at the end.

    Example:
        >>> generator = torch.Generator().manual_seed(0)
        >>> inputs, targets = associative_recall(1, pairs=2, keys=2, generator=generator)
        >>> ids = inputs.argmax(-1)[0]
        >>> shown = {int(key): int(value) - 2 for key, value in ids[:4].view(2, 2)}
        >>> [shown[int(key)] for key in ids[4:]] == targets[0].tolist()
        True
    """
    _check_sizes(batch=(batch, 1), pairs=(pairs, 1), values=(values, 2))
    keys = 2 * pairs if keys is None else keys
    _check_sizes(keys=(keys, pairs))
    place, dtype = _placement(generator, device, dtype)
    source = generator.device
    order = torch.rand(batch, keys, generator=generator, device=source).argsort(1)
    shown = order[:, :pairs]
    answers = torch.randint(values, (batch, pairs), generator=generator, device=source)
    asked = torch.rand(batch, pairs, generator=generator, device=source).argsort(1)
    context = torch.stack([shown, answers + keys], 2).flatten(1)
    ids = torch.cat([context, shown.gather(1, asked)], 1)
    return TaskBatch(
        _one_hot(ids, keys + values).to(place, dtype), answers.gather(1, asked).to(place)
    )


def copying(
    batch: int,
    *,
    delay: int,
    generator: torch.Generator,
    count: int = 10,
    symbols: int = 8,
    device: torch.device | str | None = None,
    dtype: torch.dtype | None = None,
) -> TaskBatch:
    r"""Draw a batch of the copying problem: repeat a sequence after a delay.

    .. math:: y_{n + T + i} = x_i, \qquad i = 1, \dots, n

    for n = ``count`` symbols and the ``delay`` T; all other targets are the blank symbol.

    The input is ``count`` symbols, ``delay - 1`` blank symbols, a delimiter that asks for the
    answer, and ``count`` blank symbols during which the first symbols are to be repeated. Until
    then the target is the blank symbol. In the one-hot inputs and in the targets the blank symbol
    is number ``symbols``, the delimiter ``symbols + 1``.

    Args:
        batch: Number of sequences.
        delay: Steps from the last symbol shown to the first one repeated, at least 1.
        generator: Random generator. It draws on its own device, so that the batch depends on its
            seed and not on ``device``.
        count: Number of symbols to remember.
        symbols: Size of the alphabet, at least 2.
        device: Device of the batch, by default the generator's.
        dtype: Floating type of the inputs, by default torch's default type.

    Shape:
        inputs ``(batch, delay + 2 * count, symbols + 2)``; targets int64
        ``(batch, delay + 2 * count)``.

    Raises:
        TypeError: A size is not an integer, ``generator`` is not a ``torch.Generator``, or
            ``dtype`` is not a floating type.
        ValueError: A size is too small.

    Source: Hochreiter and Schmidhuber (1997), in the form of Arjovsky, Shah and Bengio (2016),
    section 5.1.

    Example:
        >>> generator = torch.Generator().manual_seed(0)
        >>> inputs, targets = copying(1, delay=2, count=3, symbols=4, generator=generator)
        >>> inputs.argmax(-1)[0, 3:].tolist()  # blank, delimiter, blanks
        [4, 5, 4, 4, 4]
        >>> torch.equal(targets[:, -3:], inputs[:, :3].argmax(-1))
        True
    """
    _check_sizes(batch=(batch, 1), delay=(delay, 1), count=(count, 1), symbols=(symbols, 2))
    place, dtype = _placement(generator, device, dtype)
    source = generator.device
    presented = torch.randint(symbols, (batch, count), generator=generator, device=source)
    ids = torch.full((batch, delay + 2 * count), symbols, device=source)
    targets = ids.clone()
    ids[:, :count] = presented
    ids[:, count + delay - 1] = symbols + 1
    targets[:, count + delay :] = presented
    return TaskBatch(_one_hot(ids, symbols + 2).to(place, dtype), targets.to(place))


def copying_loss(*, delay: int, count: int = 10, symbols: int = 8) -> float:
    r"""Least cross-entropy in ``copying`` of a model without memory, in nats per step.

    It predicts the blank symbols and guesses the symbols:

    .. math:: \frac{n \log K}{T + 2 n}

    for n symbols out of K and a delay T.

    Args:
        delay: As for ``copying``.
        count: As for ``copying``.
        symbols: As for ``copying``.

    Raises:
        TypeError: A size is not an integer.
        ValueError: A size is too small.

    Source: Arjovsky, Shah and Bengio (2016), section 5.1.

    Example:
        >>> round(copying_loss(delay=100), 4)
        0.1733
    """
    _check_sizes(delay=(delay, 1), count=(count, 1), symbols=(symbols, 2))
    return count * log(symbols) / (delay + 2 * count)


def _check_sizes(**sizes: tuple[int, int]) -> None:
    for name, (value, minimum) in sizes.items():
        check_integer(name, value, minimum=minimum)


def _placement(
    generator: torch.Generator, device: torch.device | str | None, dtype: torch.dtype | None
) -> tuple[torch.device | str, torch.dtype]:
    check_instance("generator", generator, torch.Generator, hint="torch.Generator().manual_seed(0)")
    dtype = torch.get_default_dtype() if dtype is None else dtype
    check_instance("dtype", dtype, torch.dtype)
    if not dtype.is_floating_point:
        raise TypeError(f"dtype: expected a floating type, got {dtype}")
    return generator.device if device is None else device, dtype


def _one_hot(ids: Tensor, size: int) -> Tensor:
    return ids[..., None] == torch.arange(size, device=ids.device)
