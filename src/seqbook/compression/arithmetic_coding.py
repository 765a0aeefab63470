r"""Binary arithmetic coding: a sequence of bits, each with its probability, as one number.

The coder keeps an interval of 32-bit integers from ``low`` to ``high`` and divides it at each bit
in proportion to the probability that the model gave:

.. math:: m = l + \left\lfloor \frac{(h - l) \, p}{2^{16}} \right\rfloor

A 1 keeps :math:`[l, m]`, a 0 keeps :math:`[m + 1, h]`. Bytes that ``low`` and ``high`` share at the
front can't change any more and leave the coder. A bit of probability P costs
:math:`-\log_2 P` bits. All of it is integer arithmetic.

Source: Witten, Neal and Cleary, "Arithmetic coding for data compression" (1987); the binary form
without carries is that of Mahoney, "Adaptive weighing of context models for lossless data
compression" (2005).
"""

from __future__ import annotations

__all__ = ["HALF", "PROBABILITY_BITS", "ArithmeticDecoder", "ArithmeticEncoder", "OutOfDataError"]

PROBABILITY_BITS = 16
"""A probability is an integer p from 1 to 65,535 and means :math:`p / 2^{16}`."""

HALF = 1 << (PROBABILITY_BITS - 1)
"""The probability one half."""

_TOP = 0xFFFFFFFF
_FIRST_BYTE = 0xFF000000
_WORD = 4  # bytes of an interval's bound


class OutOfDataError(ValueError):
    """The decoder asked for more bytes than there are.

    Example:
        >>> ArithmeticDecoder(b"abc")
        Traceback (most recent call last):
        seqbook.compression.arithmetic_coding.OutOfDataError: the coded bits end too early
    """


class ArithmeticEncoder:
    r"""Turn bits and their probabilities into bytes.

    .. math:: m = l + \lfloor (h - l) \, p / 2^{16} \rfloor

    Attributes:
        output: The bytes that are settled; all of them after ``finish``.

    Example:
        >>> encoder = ArithmeticEncoder()
        >>> for bit in [1] * 2000:
        ...     encoder.encode(bit, 65000)
        >>> encoder.finish()
        >>> len(encoder.output)  # 250 bytes if every bit cost one bit
        6
    """

    def __init__(self) -> None:
        self.output = bytearray()
        self._low, self._high = 0, _TOP

    def encode(self, bit: int, probability: int) -> None:
        r"""Append a bit.

        Args:
            bit: 0 or 1.
            probability: Of a 1, in units of :math:`2^{-16}`, from 1 to 65,535.
        """
        low, high = self._low, self._high
        middle = low + ((high - low) * probability >> PROBABILITY_BITS)
        if bit:
            high = middle
        else:
            low = middle + 1
        while not (low ^ high) & _FIRST_BYTE:
            self.output.append(high >> 24)
            low = low << 8 & _TOP
            high = high << 8 & _TOP | 0xFF
        self._low, self._high = low, high

    def encode_evenly(self, value: int, bits: int) -> None:
        """Append an integer that no model predicts, its highest bit first."""
        for shift in range(bits - 1, -1, -1):
            self.encode(value >> shift & 1, HALF)

    def finish(self) -> None:
        """Append the four bytes that settle the last bits."""
        self.output += self._low.to_bytes(_WORD, "big")


class ArithmeticDecoder:
    r"""Turn bytes back into bits, given the probabilities that the encoder had.

    With x the next 32 bits of the data, a bit is 1 if :math:`x \le m`, where
    :math:`m = l + \lfloor (h - l) \, p / 2^{16} \rfloor`.

    Args:
        data: What ``ArithmeticEncoder`` wrote.

    Raises:
        OutOfDataError: ``data`` are shorter than four bytes.

    Example:
        >>> encoder = ArithmeticEncoder()
        >>> for bit in (1, 0, 0, 1):
        ...     encoder.encode(bit, 40000)
        >>> encoder.finish()
        >>> decoder = ArithmeticDecoder(bytes(encoder.output))
        >>> [decoder.decode(40000) for _ in range(4)]
        [1, 0, 0, 1]
        >>> decoder.unread
        0
    """

    def __init__(self, data: bytes) -> None:
        if len(data) < _WORD:
            raise OutOfDataError("the coded bits end too early")
        self._data, self._position = data, _WORD
        self._low, self._high = 0, _TOP
        self._code = int.from_bytes(data[:_WORD], "big")

    @property
    def unread(self) -> int:
        """Number of bytes that have not been read: 0 after the last bit."""
        return len(self._data) - self._position

    def decode(self, probability: int) -> int:
        """Return the next bit, given the probability of a 1.

        Raises:
            OutOfDataError: The data have ended.
        """
        low, high = self._low, self._high
        middle = low + ((high - low) * probability >> PROBABILITY_BITS)
        bit = int(self._code <= middle)
        if bit:
            high = middle
        else:
            low = middle + 1
        while not (low ^ high) & _FIRST_BYTE:
            low = low << 8 & _TOP
            high = high << 8 & _TOP | 0xFF
            if self._position == len(self._data):
                raise OutOfDataError("the coded bits end too early")
            self._code = self._code << 8 & _TOP | self._data[self._position]
            self._position += 1
        self._low, self._high = low, high
        return bit

    def decode_evenly(self, bits: int) -> int:
        """Return an integer that ``encode_evenly`` wrote."""
        value = 0
        for _ in range(bits):
            value = value << 1 | self.decode(HALF)
        return value
