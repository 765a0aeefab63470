"""Symbols to ids and back."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

__all__ = ["UnknownSymbolError", "Vocabulary"]


class UnknownSymbolError(KeyError):
    """A symbol is not in the vocabulary, which has no ``<unk>`` to stand for it."""

    def __str__(self) -> str:
        return str(self.args[0])


class Vocabulary:
    """A numbered list of distinct symbols.

    Args:
        symbols: The symbols in the order of their ids; a string counts as its characters.
        unknown: The symbol that stands for every other one, such as ``"<unk>"``. It is appended
            if it is not among ``symbols``. Without it an unknown symbol is an error.

    Raises:
        ValueError: There are no symbols, or one occurs twice.
    """

    def __init__(self, symbols: Iterable[str], *, unknown: str | None = None):
        self.symbols = list(symbols)
        if unknown is not None and unknown not in self.symbols:
            self.symbols.append(unknown)
        self.unknown = unknown
        self._ids = {symbol: i for i, symbol in enumerate(self.symbols)}
        if not self.symbols:
            raise ValueError("symbols: expected at least one, got none")
        if len(self._ids) < len(self.symbols):
            twice = next(s for i, s in enumerate(self.symbols) if self._ids[s] != i)
            raise ValueError(f"symbols: expected distinct ones, got {twice!r} twice")

    @classmethod
    def of(cls, sequence: Iterable[str], *, unknown: str | None = None) -> Vocabulary:
        """Collect the symbols that occur in ``sequence``, sorted."""
        return cls(sorted(set(sequence)), unknown=unknown)

    def __len__(self) -> int:
        return len(self.symbols)

    def encode(self, sequence: Iterable[str]) -> np.ndarray:
        """Map symbols to ids, int64 ``(time,)``.

        Raises:
            UnknownSymbolError: A symbol is not in the vocabulary and there is no ``<unk>``.
        """
        sequence = list(sequence)
        fallback = self._ids.get(self.unknown)
        ids = [self._ids.get(symbol, fallback) for symbol in sequence]
        if None in ids:
            position = ids.index(None)
            raise UnknownSymbolError(
                f"unknown symbol {sequence[position]!r} at position {position}: expected one of "
                f"the vocabulary's {len(self)} symbols; build it with unknown='<unk>' for others"
            )
        return np.array(ids, dtype=np.int64)

    def decode(self, ids: Iterable[int]) -> list[str]:
        """Map ids to symbols.

        Raises:
            IndexError: An id is not in ``range(len(vocabulary))``.
        """
        ids = np.asarray(list(ids), dtype=np.int64)
        outside = (ids < 0) | (ids >= len(self))
        if outside.any():
            raise IndexError(f"ids: expected 0 to {len(self) - 1}, got {ids[outside][0]}")
        return [self.symbols[i] for i in ids]
