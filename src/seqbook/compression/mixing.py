r"""Logistic mixing: one prediction from many, with weights that are learned from every bit.

Every sum is written out as a loop, whose order fixes the last digit: ``sum`` of Python 3.12 rounds
differently from that of 3.11, and libraries for matrices add in an order that depends on the
processor.

Source: Mahoney, "Adaptive weighing of context models for lossless data compression" (2005);
Mattern, "Mixing strategies in data compression" (2012).
"""

from __future__ import annotations

from collections.abc import Sequence

from seqbook.compression.logistic import LIMIT, STEPS, squash_table
from seqbook.validation import check_integer

__all__ = ["Mixer"]

_OFFSET = LIMIT * STEPS + 0.5


class Mixer:
    r"""Mixtures of the same inputs by several sets of weights.

    Set s holds a row of weights for each value of its selector. The row w that is selected gives

    .. math:: y_s = \sum_i w_i x_i, \qquad p_s = \sigma(y_s)

    and moves against the gradient of the bit's cost :math:`-\ln P(b)` with respect to its
    weights, with learning rate :math:`\eta`:

    .. math:: w_i \leftarrow w_i + \eta \, (b - p_s) \, x_i

    Args:
        inputs: Number of inputs.
        sizes: Number of rows in each set.
        weight: All weights to begin with.

    Example:
        >>> mixer = Mixer(2, [1], weight=0.5)
        >>> mixer.mix([2.0, 1.0], [0])
        [1.5]
        >>> mixer.update(1, 0.1)
        >>> mixer.mix([2.0, 1.0], [0])[0] > 1.5
        True
    """

    def __init__(self, inputs: int, sizes: Sequence[int], *, weight: float) -> None:
        check_integer("inputs", inputs, minimum=1)
        self._sets = [[[weight] * inputs for _ in range(size)] for size in sizes]
        self._squash = squash_table()
        self._inputs: list[float] = []
        self._selected: Sequence[int] = ()
        self._outputs: list[float] = []

    def mix(self, inputs: list[float], selected: Sequence[int]) -> list[float]:
        """Return the log odds that each set gives, between -12 and 12.

        Args:
            inputs: Log odds of the models.
            selected: The row to use in each set.
        """
        outputs = []
        for rows, row in zip(self._sets, selected, strict=True):
            total = 0.0
            for weight, value in zip(rows[row], inputs, strict=True):
                total += weight * value
            outputs.append(12.0 if total > 12.0 else -12.0 if total < -12.0 else total)
        self._inputs, self._selected, self._outputs = inputs, selected, outputs
        return outputs

    def update(self, bit: int, rate: float) -> None:
        """Learn from the bit that came.

        Args:
            bit: 0 or 1.
            rate: The learning rate.
        """
        inputs, squash = self._inputs, self._squash
        for rows, row, output in zip(self._sets, self._selected, self._outputs, strict=True):
            step = rate * (bit - squash[int(output * STEPS + _OFFSET)])
            rows[row] = [
                weight + step * value for weight, value in zip(rows[row], inputs, strict=True)
            ]
