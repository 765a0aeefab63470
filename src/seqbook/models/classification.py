"""Classifiers and regressors of whole sequences: a readout of a recurrent layer's last state."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from seqbook.layers.recurrent import RecurrentLayer
from seqbook.models.ids import as_ids

__all__ = [
    "LabelledSequences",
    "LastStateReadout",
    "SequenceClassifier",
    "accuracy",
    "pad",
]


class LabelledSequences(NamedTuple):
    """Sequences of different lengths, padded with zeros to a common one, and their classes.

    Attributes:
        inputs: ``(sequences, time, features)``.
        lengths: Integers ``(sequences,)``, each 1 to ``time``.
        labels: Integers ``(sequences,)``, the classes counted from 0.

    Example:
        >>> data = pad([np.ones((2, 3)), np.ones((4, 3))], [1, 0])
        >>> data.inputs.shape, data.lengths.tolist(), data.labels.tolist()
        (torch.Size([2, 4, 3]), [2, 4], [1, 0])
    """

    inputs: Tensor
    lengths: Tensor
    labels: Tensor

    def to(self, device: torch.device | str) -> LabelledSequences:
        """Return the sequences on a device."""
        return LabelledSequences(*(part.to(device) for part in self))

    def rows(self, chosen: Tensor) -> LabelledSequences:
        """Return the sequences with the given indices, cut to the longest of them.

        Shape:
            chosen: integers ``(selected,)``; inputs of the result
            ``(selected, longest, features)``.
        """
        lengths = self.lengths[chosen]
        return LabelledSequences(
            self.inputs[chosen, : int(lengths.max())], lengths, self.labels[chosen]
        )


def pad(
    sequences: Sequence[np.ndarray | Tensor], labels: np.ndarray | Tensor | Sequence[int]
) -> LabelledSequences:
    """Pad sequences with zeros to the longest and attach their labels.

    Args:
        sequences: Each ``(time, features)``, with a time of its own.
        labels: Class of each sequence, integers ``(sequences,)``.

    Returns:
        The sequences in float32.

    Raises:
        ValueError: There are no sequences, one is empty or has other features than the first, or
            the number of labels differs.
        TypeError: The labels are not integers.

    Example:
        >>> pad([np.ones((2, 1)), np.ones((3, 1))], [0, 1]).inputs[..., 0]
        tensor([[1., 1., 0.],
                [1., 1., 1.]])
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
        as_ids(labels, dims=1, name="labels"),
    )


class LastStateReadout(nn.Module):
    """A linear map of a recurrent layer's last state of each sequence.

    .. math:: y = W h_T + b

    Here T is the sequence's own last step, not the last step of the padding. A bidirectional layer
    gives two last states side by side: of the forward direction after step T, of the backward one
    after step 1. Only the top layer of a stack is read.

    Args:
        layer: An ``RNN``, ``LSTM`` or ``GRU`` of this package, of any number of layers and either
            or both directions. The readout is made on its device and of its floating type.
        outputs: Number of outputs: one for each class, or one for a number.
        generator: Draws the initial weights, uniform in ``±1/sqrt(inputs)``; by default torch's
            own.

    Shape:
        W ``(outputs, directions * hidden)``; b ``(outputs,)``.

    Raises:
        ValueError: ``outputs`` is not positive.

    Source: Sutskever, Vinyals and Le (2014), section 2, for the last state as a summary of the
    sequence.

    Example:
        >>> from seqbook.layers.lstm import LSTM
        >>> model = LastStateReadout(LSTM(3, 8, bidirectional=True), 2)
        >>> model(torch.ones(5, 7, 3)).shape
        torch.Size([5, 2])
    """

    def __init__(
        self, layer: RecurrentLayer, outputs: int, *, generator: torch.Generator | None = None
    ):
        super().__init__()
        if outputs < 1:
            raise ValueError(f"outputs: expected at least 1, got {outputs}")
        self.layer = layer
        self._directions = 1 + layer.bidirectional
        weight = next(layer.parameters())
        self.readout = nn.Linear(
            self._directions * layer.hidden_size, outputs, device=weight.device, dtype=weight.dtype
        )
        if generator is not None:
            bound = self.readout.in_features**-0.5
            for parameter in self.readout.parameters():
                nn.init.uniform_(parameter, -bound, bound, generator=generator)

    def forward(self, inputs: Tensor, *, lengths: Tensor | None = None) -> Tensor:
        """Return the outputs for each sequence.

        Args:
            inputs: Sequences, ``(batch, time, features)``.
            lengths: Steps of each sequence that are not padding, integers ``(batch,)``, each 1 to
                ``time``; by default ``time``.

        Shape:
            result: ``(batch, outputs)``.

        Raises:
            ValueError: A shape does not fit, or a length is not in 1 to ``time``.
        """
        _, final = self.layer(inputs, lengths=lengths)
        hidden = final if isinstance(final, Tensor) else final.hidden  # (runs, batch, hidden)
        top = hidden[-self._directions :]
        return self.readout(top.transpose(0, 1).flatten(1))


class SequenceClassifier(LastStateReadout):
    r"""A ``LastStateReadout`` with one output, a logit, for each class.

    .. math:: P(c \mid x) = \operatorname{softmax}(W h_T + b)_c

    Example:
        >>> from seqbook.layers.gru import GRU
        >>> model = SequenceClassifier(GRU(1, 4), 3)
        >>> data = pad([np.ones((2, 1)), np.ones((3, 1))], [0, 2])
        >>> model.loss(data).shape, model.predict(data).shape
        (torch.Size([]), torch.Size([2]))
    """

    def loss(self, sequences: LabelledSequences) -> Tensor:
        r"""Return the mean cross-entropy in nats per sequence.

        .. math:: -\frac{1}{N} \sum_n \log P(c_n \mid x_n)

        for N sequences x with the classes c; a scalar ``()``.

        Raises:
            ValueError: A length is not in 1 to ``time``.
            TypeError: The labels are not integers.
        """
        logits = self(sequences.inputs, lengths=sequences.lengths)
        return cross_entropy(logits, as_ids(sequences.labels, name="labels"))

    @torch.no_grad()
    def predict(self, sequences: LabelledSequences) -> Tensor:
        r"""Return the most probable class of each sequence, int64 ``(sequences,)``.

        .. math:: \hat c_n = \operatorname{argmax}_c P(c \mid x_n)

        Raises:
            ValueError: A length is not in 1 to ``time``.
        """
        return self(sequences.inputs, lengths=sequences.lengths).argmax(1)


def accuracy(model: SequenceClassifier, sequences: LabelledSequences) -> float:
    r"""Return the fraction of sequences whose class ``model`` predicts, 0 to 1.

    .. math:: \frac{1}{N} \sum_{n=1}^{N} [\, \hat c_n = c_n \,]

    Args:
        model: The classifier, which predicts :math:`\hat c`.
        sequences: N sequences with the classes c.

    Example:
        >>> from seqbook.layers.gru import GRU
        >>> model = SequenceClassifier(GRU(1, 4), 1)  # one class only
        >>> accuracy(model, pad([np.ones((2, 1))], [0]))
        1.0
    """
    return (model.predict(sequences) == sequences.labels).double().mean().item()
