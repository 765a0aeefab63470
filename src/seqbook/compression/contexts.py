"""Contexts: what each model of a mixture looks at when it predicts the next byte.

A model of order n sees the last n bytes. Others see the word that is being written, skip a byte, or
read the text as if it had neither capitals nor line breaks. A context is a number; the counters of
all contexts share one hash table.
"""

from __future__ import annotations

from array import array
from collections.abc import Callable, Sequence

from seqbook.compression.counters import counter_tables
from seqbook.validation import check_choice, check_integer

__all__ = ["CONTEXTS", "ContextModel", "History", "hashed"]

_WORD_64 = (1 << 64) - 1
_GOLDEN = 0x9E3779B97F4A7C15  # 2^64 divided by the golden ratio, odd
_MIXER = 0xBF58476D1CE4E5B9
_SPREAD = 0x9E3779B1
_SPACE = 32
_UPPER_TO_LOWER = 32


def hashed(value: int, bits: int) -> int:
    r"""Return a hash of an integer, the same on every machine.

    .. math:: h = \lfloor (a v \bmod 2^{64}) / 2^{64 - b} \rfloor

    Args:
        value: Any integer of at least 0.
        bits: Size of the hash b, up to 64.

    Example:
        >>> hashed(1, 16), hashed(2, 16)
        (40503, 15470)
    """
    return (value * _GOLDEN & _WORD_64) >> (64 - bits)


class History:
    """What has been read, as the contexts need it.

    Attributes:
        recent: The last eight bytes as one integer, the last one lowest.
        word: Hash of the letters of the present word, 0 outside words; capitals count as small.
        word_length: Number of these letters.
        previous_word: Hash of the word before.
        earlier_word: Hash of the word before that.
        first_letter: The first letter of the present word, or 0.
        plain: The last eight bytes without capitals, runs of spaces and line ends as one space.
        shape: The last four bytes of the text's shape, where a run of small letters is one ``a``,
            and capitals and digits are ``A`` and ``0``.
        mark: The last byte that was neither letter nor space.
        column: Number of bytes since the line began.
        above: The byte at this column in the line before, or 0.
        followers: For each pair of bytes, the last three bytes that followed it.

    Example:
        >>> history = History()
        >>> for byte in b"Down, down":
        ...     history.append(byte)
        >>> history.word == history.previous_word, history.word_length, chr(history.mark)
        (True, 4, ',')
        >>> history.plain.to_bytes(8, "big")
        b'wn, down'
    """

    def __init__(self) -> None:
        self.recent = 0
        self.word = self.previous_word = self.earlier_word = 0
        self.word_length = self.first_letter = 0
        self.plain = _SPACE
        self.shape = self.mark = 0
        self.column = self.above = 0
        self.followers: dict[int, int] = {}
        self._line, self._line_before = bytearray(), bytearray()

    def append(self, byte: int) -> None:
        """Take in the next byte."""
        pair = self.recent & 0xFFFF
        self.followers[pair] = (self.followers.get(pair, 0) << 8 | byte) & 0xFFFFFF
        self.recent = (self.recent << 8 | byte) & _WORD_64
        self._append_to_word(byte)
        self._append_to_shape(byte)
        self._append_to_line(byte)

    def _append_to_word(self, byte: int) -> None:
        letter = byte + _UPPER_TO_LOWER if 65 <= byte <= 90 else byte
        if 97 <= letter <= 122 or letter >= 128:
            if not self.word_length:
                self.first_letter = letter
            self.word = hashed(self.word + letter + 1, 32)
            self.word_length += 1
        else:
            if self.word_length:
                self.earlier_word, self.previous_word = self.previous_word, self.word
                self.word = self.word_length = self.first_letter = 0
            if letter in b"\r\n":
                letter = _SPACE
            if letter > _SPACE:
                self.mark = letter
        if letter != _SPACE or self.plain & 0xFF != _SPACE:
            self.plain = (self.plain << 8 | letter) & _WORD_64

    def _append_to_shape(self, byte: int) -> None:
        if 97 <= byte <= 122 or byte >= 128:
            if self.shape & 0xFF == 97:
                return
            byte = 97
        elif 65 <= byte <= 90:
            byte = 65
        elif 48 <= byte <= 57:
            byte = 48
        self.shape = (self.shape << 8 | byte) & 0xFFFFFFFF

    def _append_to_line(self, byte: int) -> None:
        if byte == 10:
            self._line, self._line_before = bytearray(), self._line
        else:
            self._line.append(byte)
        self.column = len(self._line)
        before = self._line_before
        self.above = before[self.column] if self.column < len(before) else 0


def _order(count: int) -> Callable[[History], int]:
    mask = (1 << 8 * count) - 1
    return lambda history: history.recent & mask


def _plain_order(count: int) -> Callable[[History], int]:
    mask = (1 << 8 * count) - 1
    return lambda history: history.plain & mask


CONTEXTS: dict[str, Callable[[History], int]] = {
    **{f"order {count}": _order(count) for count in range(9)},
    "word": lambda history: history.word << 8 | history.recent & 0xFF,
    "word alone": lambda history: history.word,
    "word and word before": lambda history: (
        (history.word << 32 | history.previous_word) << 8 | history.recent & 0xFF
    ),
    "word and second word before": lambda history: history.word << 32 | history.earlier_word,
    "word and both before": lambda history: (
        (history.word << 32 | history.previous_word) << 32 | history.earlier_word
    ),
    "word and mark": lambda history: history.word << 8 | history.mark,
    "word before": lambda history: history.previous_word << 8 | history.recent & 0xFF,
    "first letter": lambda history: (
        (history.first_letter << 8 | history.word_length) << 8 | history.recent & 0xFF
    ),
    **{f"plain order {count}": _plain_order(count) for count in range(3, 9)},
    "second and third byte": lambda history: history.recent >> 8 & 0xFFFF,
    "first and third byte": lambda history: history.recent & 0xFF00FF,
    "second to fourth byte": lambda history: history.recent >> 8 & 0xFFFFFF,
    "followers of the pair": lambda history: (
        history.followers.get(history.recent & 0xFFFF, 0) << 16 | history.recent & 0xFFFF
    ),
    "byte above": lambda history: history.above << 8 | history.recent & 0xFF,
    "column": lambda history: history.column,
    "word and column": lambda history: history.word << 16 | history.column >> 2,
    "shape": lambda history: history.shape,
}
"""The contexts by name: functions from a history to an integer."""


class ContextModel:
    r"""One counter for each context and each prefix of the next byte, in a hash table.

    The counter of context i at the bits :math:`b_1 \dots b_k` of a byte is at

    .. math:: j = (h_i + s_{1 b_1 \dots b_k}) \bmod 2^m

    where :math:`h_i` is the hash of the context and s a constant of the prefix. Two contexts may
    meet at one place; neither side of the coder minds, since both meet there.

    Args:
        names: Names in ``CONTEXTS``.
        table_bits: The table has :math:`2^m` places of two bytes.

    Attributes:
        states: States of the counters that made the last prediction, one for each name.

    Raises:
        ValueError: A name is not one of ``CONTEXTS``.

    Example:
        >>> model = ContextModel(["order 0", "order 1"], table_bits=16)
        >>> model.begin_byte(History())
        >>> model.predict(1)
        [0.0, 0.0]
        >>> model.update(1)
        >>> model.predict(1)
        [2.3984375, 2.3984375]
    """

    def __init__(self, names: Sequence[str], *, table_bits: int) -> None:
        for name in names:
            check_choice("names", name, CONTEXTS)
        check_integer("table_bits", table_bits, minimum=8, maximum=30)
        self._contexts = [(CONTEXTS[name], index + 1) for index, name in enumerate(names)]
        self._table = array("H", bytes(2 << table_bits))
        self._mask = (1 << table_bits) - 1
        self._log_odds, self._after = counter_tables()
        self._spread = [prefix * _SPREAD & self._mask for prefix in range(256)]
        self._bases: list[int] = []
        self._places: list[int] = []
        self.states: list[int] = []

    def begin_byte(self, history: History) -> None:
        """Look up the contexts of the next byte."""
        bases = []
        for context, salt in self._contexts:
            value = (context(history) * 64 + salt) * _GOLDEN
            value ^= value >> 64
            value = ((value ^ value >> 29) & _WORD_64) * _MIXER
            bases.append((value & _WORD_64) >> 32)
        self._bases = bases

    def predict(self, prefix: int) -> list[float]:
        """Return the log odds of a 1 that each context gives.

        Args:
            prefix: The bits of the byte that are known, after a leading 1.
        """
        offset, mask, table, log_odds = (
            self._spread[prefix],
            self._mask,
            self._table,
            self._log_odds,
        )
        self._places = places = [base + offset & mask for base in self._bases]
        self.states = states = [table[place] for place in places]
        return [log_odds[state] for state in states]

    def update(self, bit: int) -> None:
        """Tell the counters that predicted which bit came."""
        after, table = self._after[bit], self._table
        for place, state in zip(self._places, self.states, strict=True):
            table[place] = after[state]
