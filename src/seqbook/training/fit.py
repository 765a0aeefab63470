"""Losses and fits of the models that are trained in one go: language models and classifiers.

The loss functions go into ``seqbook.training.loop.training_steps``, for loops that validate or stop
early; the fits run that loop to its end.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from seqbook.models.classification import LabelledSequences, SequenceClassifier
from seqbook.models.decoder_only import DecoderOnlyModel
from seqbook.models.ids import as_ids
from seqbook.models.language_model import CharacterModel, batchify
from seqbook.training.bptt import detach_state
from seqbook.training.loop import train
from seqbook.validation import check_integer

__all__ = [
    "classifier_loss",
    "fit_classifier",
    "fit_language_model",
    "language_model_loss",
    "window_loss",
]


def language_model_loss(
    model: CharacterModel, ids: np.ndarray | Tensor, *, batch: int, window: int
) -> Callable[[int], Tensor]:
    r"""Loss of a language model on the windows of a text, for truncated backpropagation.

    .. math:: -\frac{1}{B n} \sum_{b=1}^{B} \sum_{t=s+1}^{s+n}
        \log P(x_{b,t+1} \mid x_{b,1}, \dots, x_{b,t})

    for B rows and a window of the n symbols after the first s of a row; what is before the window
    enters through the carried state.

    The text is cut into ``batch`` contiguous rows, of which each call reads the next ``window``
    symbols. The state is carried from window to window, the gradient is not. At the end of the
    rows the next reading starts, with a state of zero.

    Args:
        model: The model.
        ids: The text, integers of any type, ``(time,)``.
        batch: Number of rows.
        window: Symbols of each row that a call reads; the last window may be shorter.

    Returns:
        A function of the step's number, which it ignores, that returns the mean cross-entropy of
        the next window in nats per symbol.

    Shape:
        result of the function: a scalar ``()``.

    Raises:
        ValueError: ``batch`` or ``window`` does not fit, or an id is not one of the model's.
        TypeError: The ids are not integers.

    Example:
        >>> from seqbook.layers.gru import GRU
        >>> model = CharacterModel(GRU(4, 8), 5)
        >>> loss = language_model_loss(model, torch.arange(100) % 5, batch=4, window=6)
        >>> loss(0).shape
        torch.Size([])
    """
    if window < 1:
        raise ValueError(f"window: expected at least 1 symbol, got {window}")
    device = next(model.parameters()).device
    inputs, targets = batchify(as_ids(ids, size=model.size).to(device), batch)
    starts = itertools.cycle(range(0, inputs.shape[1], window))
    state: Any = None

    def loss(_step: int) -> Tensor:
        nonlocal state
        start = next(starts)
        columns = slice(start, start + window)
        logits, state = model(inputs[:, columns], None if start == 0 else detach_state(state))
        return cross_entropy(logits.flatten(0, 1), targets[:, columns].flatten())

    return loss


def fit_language_model(
    model: CharacterModel,
    ids: np.ndarray | Tensor,
    *,
    steps: int,
    batch: int,
    window: int,
    learning_rate: float,
) -> np.ndarray:
    r"""Train a language model on a text by truncated backpropagation through time, with Adam.

    The learning rate falls linearly, in step s of S, counted from 0, to

    .. math:: \eta_s = \eta\, (1 - s / S)

    Args:
        model: Model whose parameters are changed.
        ids: The text, integers of any type, ``(time,)``.
        steps: Number of updates.
        batch: Number of contiguous rows that the text is cut into, see ``language_model_loss``.
        window: Symbols of each row that a step reads.
        learning_rate: Adam's first step size.

    Returns:
        Bits per symbol on each window before the update on it, float64 ``(steps,)``.

    Raises:
        ValueError: ``batch`` or ``window`` does not fit, or an id is not one of the model's.
        TypeError: The ids are not integers.
        FloatingPointError: The loss or the gradient is not finite.

    Source: Williams and Peng (1990) for the truncated gradient.

    Example:
        >>> from seqbook.layers.gru import GRU
        >>> generator = torch.Generator().manual_seed(0)
        >>> layer = GRU(4, 8, generator=generator)
        >>> model = CharacterModel(layer, 5, generator=generator)
        >>> text = torch.arange(200) % 5
        >>> bits = fit_language_model(
        ...     model, text, steps=100, batch=4, window=10, learning_rate=0.05
        ... )
        >>> bits.shape, bool(bits[-1] < 0.1 * bits[0])
        ((100,), True)
    """
    nats = train(
        model.parameters(),
        language_model_loss(model, ids, batch=batch, window=window),
        steps=steps,
        learning_rate=lambda step: learning_rate * (1 - step / steps),
    )
    return nats / np.log(2)


def window_loss(
    model: DecoderOnlyModel,
    ids: np.ndarray | Tensor,
    *,
    batch: int,
    generator: torch.Generator,
    window: int | None = None,
) -> Callable[[int], Tensor]:
    r"""Loss of a decoder-only model on random windows of a text.

    .. math:: -\frac{1}{B n} \sum_{b=1}^{B} \sum_{t=1}^{n}
        \log P(x_{a_b+t+1} \mid x_{a_b+1}, \dots, x_{a_b+t})

    for B windows that start at random places :math:`a_b` of a text x and predict n symbols each.

    Args:
        model: The model.
        ids: The text, integers of any type, ``(time,)``.
        batch: Number B of windows.
        generator: Draws the places, of the CPU.
        window: Symbols n to read and to predict in each window, by default the model's
            ``max_length``.

    Returns:
        A function of the step's number, which it ignores, that returns the mean cross-entropy of
        the next windows in nats per symbol.

    Shape:
        result of the function: a scalar ``()``.

    Raises:
        TypeError: The ids are not integers.
        ValueError: ``batch`` or ``window`` is not positive, the text is too short for a window, or
            an id is not one of the model's.

    Example:
        >>> model = DecoderOnlyModel(5, 8, layers=1, heads=2, max_length=6)
        >>> generator = torch.Generator().manual_seed(0)
        >>> window_loss(model, torch.arange(100) % 5, batch=4, generator=generator)(0).shape
        torch.Size([])
    """
    window = check_integer("window", model.max_length if window is None else window, minimum=1)
    batch = check_integer("batch", batch, minimum=1)
    text = as_ids(ids, size=model.size, dims=1).to(model.embed_tokens.weight.device)
    if len(text) <= window:
        raise ValueError(
            f"ids: expected more than the {window} symbols of a window, got {len(text)}"
        )
    windows = text.unfold(0, window + 1, 1)  # (time - window, window + 1), a view

    def loss(_step: int) -> Tensor:
        starts = torch.randint(len(windows), (batch,), generator=generator)
        return model.loss(windows[starts.to(windows.device)])

    return loss


def classifier_loss(
    model: SequenceClassifier,
    sequences: LabelledSequences,
    *,
    batch: int,
    generator: torch.Generator,
) -> Callable[[int], Tensor]:
    r"""Loss of a classifier on random batches.

    .. math:: -\frac{1}{B} \sum_{n=1}^{B} \log P(c_n \mid x_n)

    for the B sequences x of a batch and their classes c.

    Each epoch goes through the sequences in a new random order; those left over at its end that
    fill no batch are skipped.

    Args:
        model: The classifier.
        sequences: The training data.
        batch: Sequences in a batch.
        generator: Draws the order.

    Returns:
        A function of the step's number, which it ignores, that returns the mean cross-entropy of
        the next batch in nats.

    Shape:
        result of the function: a scalar ``()``.

    Raises:
        ValueError: ``batch`` is not in 1 to the number of sequences.

    Example:
        >>> from seqbook.layers.rnn import RNN
        >>> from seqbook.models.classification import pad
        >>> data = pad([np.ones((3, 2)), np.zeros((5, 2))], [1, 0])
        >>> model = SequenceClassifier(RNN(2, 4), 2)
        >>> generator = torch.Generator().manual_seed(0)
        >>> classifier_loss(model, data, batch=2, generator=generator)(0).shape
        torch.Size([])
    """
    count = len(sequences.labels)
    if not 1 <= batch <= count:
        raise ValueError(f"batch: expected 1 to {count} for {count} sequences, got {batch}")

    def batches() -> Iterator[LabelledSequences]:
        while True:
            order = torch.randperm(count, generator=generator)
            for rows in order.split(batch)[: count // batch]:
                yield sequences.rows(rows)

    stream = batches()
    return lambda _step: model.loss(next(stream))


def fit_classifier(
    model: SequenceClassifier,
    sequences: LabelledSequences,
    *,
    steps: int,
    learning_rate: float,
    batch: int,
    generator: torch.Generator,
) -> np.ndarray:
    r"""Train a classifier with Adam.

    .. math:: \min_\theta\; -\sum_n \log P_\theta(c_n \mid x_n)

    over the sequences x and their classes c, by steps on one batch each.

    Args:
        model: Classifier whose parameters are changed.
        sequences: The training data.
        steps: Number of updates, each on one batch.
        learning_rate: Adam's step size.
        batch: Sequences in a batch, see ``classifier_loss``.
        generator: Draws the order of the sequences.

    Returns:
        The loss of each batch before its update, in nats, float64 ``(steps,)``.

    Raises:
        ValueError: ``batch`` is not in 1 to the number of sequences.
        FloatingPointError: The loss or the gradient is not finite.

    Example:
        >>> from seqbook.layers.rnn import RNN
        >>> from seqbook.models.classification import accuracy, pad
        >>> generator = torch.Generator().manual_seed(0)
        >>> data = pad([np.full((3, 1), sign) for sign in (-1.0, 1.0)], [0, 1])
        >>> model = SequenceClassifier(RNN(1, 8, generator=generator), 2, generator=generator)
        >>> loss = fit_classifier(
        ...     model, data, steps=50, learning_rate=0.05, batch=2, generator=generator
        ... )
        >>> accuracy(model, data)
        1.0
    """
    loss = classifier_loss(model, sequences, batch=batch, generator=generator)
    return train(model.parameters(), loss, steps=steps, learning_rate=learning_rate)
