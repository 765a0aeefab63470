"""What a whole sequence says: a readout of a recurrent layer's last state."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from seqbook.layers.recurrent import RecurrentLayer
from seqbook.training.loop import train

__all__ = [
    "LabelledSequences",
    "LastStateReadout",
    "SequenceClassifier",
    "accuracy",
    "fit",
    "pad",
]


class LabelledSequences(NamedTuple):
    """Sequences of different lengths, padded with zeros to a common one, and their classes.

    Attributes:
        inputs: ``(sequences, time, features)``.
        lengths: int64 ``(sequences,)``, each 1 to ``time``.
        labels: int64 ``(sequences,)``.
    """

    inputs: Tensor
    lengths: Tensor
    labels: Tensor

    def rows(self, chosen: Tensor) -> LabelledSequences:
        """Return the sequences with these numbers, cut to the longest of them."""
        lengths = self.lengths[chosen]
        return LabelledSequences(
            self.inputs[chosen, : int(lengths.max())], lengths, self.labels[chosen]
        )


def pad(sequences: Sequence[np.ndarray], labels: np.ndarray) -> LabelledSequences:
    """Pad sequences with zeros to the longest and attach their labels.

    Args:
        sequences: Each ``(time, features)``, with a time of its own.
        labels: Class of each sequence, integers ``(sequences,)``.

    Raises:
        ValueError: There are no sequences, one is empty or has other features than the first, or
            the number of labels differs.
    """
    if not len(sequences) or len(sequences) != len(labels):
        raise ValueError(
            f"labels: expected one for each of at least one sequence, got {len(labels)} labels for "
            f"{len(sequences)} sequences"
        )
    features = np.shape(sequences[0])[-1]
    for i, sequence in enumerate(sequences):
        if np.ndim(sequence) != 2 or np.shape(sequence)[1] != features or not len(sequence):
            raise ValueError(
                f"sequences: expected shape (time, {features}) with a positive time, got "
                f"{np.shape(sequence)} for number {i}"
            )
    tensors = [torch.as_tensor(sequence, dtype=torch.float32) for sequence in sequences]
    return LabelledSequences(
        nn.utils.rnn.pad_sequence(tensors, batch_first=True),
        torch.tensor([len(sequence) for sequence in sequences]),
        torch.as_tensor(np.asarray(labels), dtype=torch.int64),
    )


class LastStateReadout(nn.Module):
    r"""A linear map of the state in which a recurrent layer leaves each sequence.

    .. math:: y = W h_T + b

    Here T is the sequence's own last step, not the last step of the padding. A bidirectional layer
    gives two last states side by side: of the forward run after step T, of the backward run after
    step 1. Of a stack only the top layer is read.

    Args:
        layer: An ``RNN``, ``LSTM`` or ``GRU`` of this package, of any height and direction.
        outputs: Number of outputs: one for each class, or one for a number.
        generator: Draws the initial weights, uniform in +-1 / sqrt(inputs); by default torch's own.

    Raises:
        ValueError: ``outputs`` is not positive.
    """

    def __init__(
        self, layer: RecurrentLayer, outputs: int, *, generator: torch.Generator | None = None
    ):
        super().__init__()
        if outputs < 1:
            raise ValueError(f"outputs: expected at least 1, got {outputs}")
        self.layer = layer
        self._directions = 1 + layer.bidirectional
        self.readout = nn.Linear(self._directions * layer.hidden_size, outputs)
        if generator is not None:
            bound = self.readout.in_features**-0.5
            for parameter in self.readout.parameters():
                nn.init.uniform_(parameter, -bound, bound, generator=generator)

    def forward(self, inputs: Tensor, *, lengths: Tensor | None = None) -> Tensor:
        """The outputs for each sequence.

        Shape:
            inputs ``(batch, time, features)``; lengths, integers, ``(batch,)``, by default all
            ``time``; result ``(batch, outputs)``.

        Raises:
            ValueError: A shape does not fit, or a length is not in 1 to ``time``.
        """
        _, final = self.layer(inputs, lengths=lengths)
        hidden = final if isinstance(final, Tensor) else final.hidden  # (runs, batch, hidden)
        top = hidden[-self._directions :]
        return self.readout(top.transpose(0, 1).flatten(1))


class SequenceClassifier(LastStateReadout):
    """A ``LastStateReadout`` with one output, a logit, for each class."""

    def loss(self, sequences: LabelledSequences) -> Tensor:
        """Mean cross-entropy, in nats for each sequence."""
        logits = self(sequences.inputs, lengths=sequences.lengths)
        return cross_entropy(logits, sequences.labels)

    @torch.no_grad()
    def predict(self, sequences: LabelledSequences) -> Tensor:
        """Return the most probable class of each sequence, int64 ``(sequences,)``."""
        return self(sequences.inputs, lengths=sequences.lengths).argmax(1)


def accuracy(model: SequenceClassifier, sequences: LabelledSequences) -> float:
    """Return the share of sequences whose class ``model`` predicts."""
    return (model.predict(sequences) == sequences.labels).double().mean().item()


def fit(
    model: SequenceClassifier,
    sequences: LabelledSequences,
    *,
    steps: int,
    learning_rate: float,
    batch: int,
    generator: torch.Generator,
) -> np.ndarray:
    """Train a classifier in place for a budget of ``steps`` batches.

    Each epoch goes through the sequences in a new random order; what is left over at its end and
    fills no batch is skipped.

    Args:
        model: What is trained.
        sequences: The training data.
        steps: Number of batches.
        learning_rate: Adam's step size.
        batch: Sequences in a batch.
        generator: Draws the order.

    Returns:
        The loss of each batch before its update, float64 ``(steps,)``.

    Raises:
        ValueError: ``batch`` is not in 1 to the number of sequences.
    """
    count = len(sequences.labels)
    if not 1 <= batch <= count:
        raise ValueError(f"batch: expected 1 to {count} for {count} sequences, got {batch}")
    in_epoch = count // batch
    order = torch.empty(0)

    def loss(step: int) -> Tensor:
        nonlocal order
        position = step % in_epoch
        if position == 0:
            order = torch.randperm(count, generator=generator)
        return model.loss(sequences.rows(order[position * batch : (position + 1) * batch]))

    return train(model.parameters(), loss, steps=steps, learning_rate=learning_rate)
