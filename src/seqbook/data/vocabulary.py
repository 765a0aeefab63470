"""Vocabularies: mappings between symbols and integer ids."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from seqbook.validation import check_symbols

__all__ = ["UnknownSymbolError", "Vocabulary"]


class UnknownSymbolError(KeyError):
    """A symbol is not in the vocabulary, and the vocabulary has no symbol for unknown ones.

    Example:
        >>> Vocabulary("ab").encode("abc")
        Traceback (most recent call last):
        seqbook.data.vocabulary.UnknownSymbolError: unknown symbol 'c' at position 2: expected ...
    """

    def __str__(self) -> str:
        return str(self.args[0])


class Vocabulary:
    """Ordered list of distinct symbols; the id of a symbol is its position.

    Args:
        symbols: The symbols in the order of their ids; a string is a sequence of characters.
        unknown: Symbol that represents all others, such as ``"<unk>"``. It is appended if it is
            not among ``symbols``. Without it an unknown symbol is an error.

    Raises:
        TypeError: A symbol is not a string.
        ValueError: There are no symbols, or one occurs twice.

    Example:
        >>> vocabulary = Vocabulary("abc", unknown="<unk>")
        >>> len(vocabulary)
        4
        >>> vocabulary.encode("cabz")
        array([2, 0, 1, 3])
        >>> vocabulary.decode([2, 0, 3])
        ['c', 'a', '<unk>']
    """

    def __init__(self, symbols: Iterable[str], *, unknown: str | None = None):
        self.symbols = _as_symbols("symbols", symbols)
        if unknown is not None and unknown not in self.symbols:
            self.symbols += _as_symbols("unknown", [unknown])
        self.unknown = unknown
        self._ids = {symbol: i for i, symbol in enumerate(self.symbols)}
        if not self.symbols:
            raise ValueError("symbols: expected at least one, got none")
        if len(self._ids) < len(self.symbols):
            duplicate = next(s for i, s in enumerate(self.symbols) if self._ids[s] != i)
            raise ValueError(f"symbols: expected distinct ones, got {duplicate!r} twice")

    @classmethod
    def from_sequence(cls, sequence: Iterable[str], *, unknown: str | None = None) -> Vocabulary:
        """Build the vocabulary of the symbols that occur in a sequence, sorted.

        Args:
            sequence: Symbols; a string is a sequence of characters.
            unknown: Symbol that represents all others, such as ``"<unk>"``.

        Raises:
            TypeError: A symbol is not a string.
            ValueError: The sequence is empty.

        Example:
            >>> Vocabulary.from_sequence("cabbage").symbols
            ['a', 'b', 'c', 'e', 'g']
        """
        return cls(sorted(set(_as_symbols("sequence", sequence))), unknown=unknown)

    def __len__(self) -> int:
        return len(self.symbols)

    def encode(self, sequence: Iterable[str]) -> np.ndarray:
        """Map symbols to ids.

        Args:
            sequence: Symbols; a string is a sequence of characters.

        Shape:
            result: int64 ``(time,)``.

        Raises:
            TypeError: A symbol is not a string.
            UnknownSymbolError: A symbol is not in the vocabulary, which has no ``unknown``.
        """
        symbols = _as_symbols("sequence", sequence)
        fallback = -1 if self.unknown is None else self._ids[self.unknown]
        ids = np.array([self._ids.get(symbol, fallback) for symbol in symbols], dtype=np.int64)
        if (ids < 0).any():
            position = int(np.argmin(ids))
            raise UnknownSymbolError(
                f"unknown symbol {symbols[position]!r} at position {position}: expected one of "
                f"the vocabulary's {len(self)} symbols; build it with unknown='<unk>' for others"
            )
        return ids

    def decode(self, ids: Iterable[int]) -> list[str]:
        """Map ids to symbols.

        Args:
            ids: Integers of any type, ``(time,)``.

        Raises:
            TypeError: ``ids`` are not integers.
            ValueError: An id is not in ``range(len(vocabulary))``, or the shape is not ``(time,)``.
        """
        array = ids if hasattr(ids, "__array__") or isinstance(ids, str) else _as_list("ids", ids)
        return [self.symbols[i] for i in check_symbols("ids", array, size=len(self))]


def _as_symbols(name: str, symbols: Iterable[str]) -> list[str]:
    symbols = _as_list(name, symbols)
    for position, symbol in enumerate(symbols):
        if not isinstance(symbol, str):
            raise TypeError(f"{name}: expected strings, got {symbol!r} at position {position}")
    return symbols


def _as_list(name: str, values: Iterable) -> list:
    try:
        return list(values)
    except TypeError:
        raise TypeError(f"{name}: expected a sequence, got {values!r}") from None
