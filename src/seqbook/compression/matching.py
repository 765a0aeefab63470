"""The match model: find where the last bytes stood before, and predict what came next there."""

from __future__ import annotations

from array import array

from seqbook.compression.contexts import hashed
from seqbook.compression.counters import counter_tables
from seqbook.validation import check_integer

__all__ = ["MatchModel"]

_LONGEST = 64  # longer matches are trusted as much
_LENGTHS = [
    length if length < 16 else 12 + length // 4 if length < 32 else 16 + length // 8
    for length in range(_LONGEST + 1)
]
_CLASSES = [
    0 if length == 0 else 1 if length < 8 else 2 if length < 16 else 3
    for length in range(_LONGEST + 1)
]


class MatchModel:
    r"""Predict the byte that followed the last occurrence of the present context.

    While the bits of the next byte agree with the expected byte, the prediction is

    .. math:: x = \pm \ln \frac{p_L}{1 - p_L}

    with the sign of the expected bit, where :math:`p_L` is a counter's estimate of how often
    matches of length L were right.

    Args:
        minimum: Length of a match to begin with, 3 to 8 bytes.
        symbol_bits: Bits of a byte that are coded, 7 or 8.
        table_bits: The table of positions has :math:`2^m` places.

    Attributes:
        data: The bytes that were read.
        trust: 0 without a match, or where it has failed in this byte; 1 to 3 for matches of less
            than 8 bytes, less than 16 and more.
        expected: The bit that the match predicts, or -1.

    Example:
        >>> model = MatchModel(3, symbol_bits=8, table_bits=12)
        >>> for byte in b"abcdabc":
        ...     model.append(byte)
        >>> bits = f"{ord('d'):08b}"
        >>> model.predict(1) != 0, model.expected == int(bits[0])
        (True, True)
    """

    def __init__(self, minimum: int, *, symbol_bits: int, table_bits: int) -> None:
        self._minimum = check_integer("minimum", minimum, minimum=3, maximum=8)
        self._symbol_bits = check_integer("symbol_bits", symbol_bits, minimum=7, maximum=8)
        self._table_bits = check_integer("table_bits", table_bits, minimum=8, maximum=30)
        self._positions = array("L", bytes(array("L").itemsize << table_bits))
        self._log_odds, self._after = counter_tables()
        self._right = [self._after[1][0]] * len(_LENGTHS)  # counters by length, each right once
        self._pointer = self._length = 0
        self._next = 1 << symbol_bits  # the expected byte after a leading 1
        self.data = bytearray()
        self.trust, self.expected = 0, -1

    def append(self, byte: int) -> None:
        """Take in a byte, and follow the match or look for one."""
        data = self.data
        if self._length and data[self._pointer] == byte:
            self._length = min(self._length + 1, _LONGEST)
            self._pointer += 1
        else:
            self._length = 0
        data.append(byte)
        end = len(data)
        if end < self._minimum:
            return
        place = hashed(int.from_bytes(data[end - self._minimum :], "big"), self._table_bits)
        if not self._length:
            self._pointer = pointer = self._positions[place]
            length = 0
            while (
                length < min(pointer, _LONGEST)
                and data[pointer - 1 - length] == data[end - 1 - length]
            ):
                length += 1
            self._length = length if length >= self._minimum else 0
        self._positions[place] = end
        if self._length:
            self._next = 1 << self._symbol_bits | data[self._pointer]

    def predict(self, prefix: int) -> float:
        """Return the log odds of a 1, or 0.0 if there is no match.

        Args:
            prefix: The bits of the byte that are known, after a leading 1.
        """
        self.trust, self.expected = 0, -1
        if not self._length:
            return 0.0
        left = self._symbol_bits + 1 - prefix.bit_length()
        if self._next >> left != prefix:
            return 0.0
        self.trust = _CLASSES[self._length]
        self.expected = self._next >> (left - 1) & 1
        log_odds = self._log_odds[self._right[_LENGTHS[self._length]]]
        return log_odds if self.expected else -log_odds

    def update(self, bit: int) -> None:
        """Tell the model which bit came."""
        if self.expected >= 0:
            length = _LENGTHS[self._length]
            self._right[length] = self._after[self.expected == bit][self._right[length]]
