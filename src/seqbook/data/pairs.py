"""Pairs of sequences to learn a mapping from, such as spelling and pronunciation.

A source may have several right targets. What is read from files, split and scored are ``Pair``
objects of symbols; what models read are the padded ids of ``Encoded``.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Callable, Hashable, Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

from seqbook.validation import check_choice

__all__ = [
    "BadRowError",
    "Pair",
    "Split",
    "join",
    "read_pairs",
    "split",
    "symbols",
]

UNITS = ("characters", "words", "jamo", "tagged")


class Pair(NamedTuple):
    """A source sequence and all its right targets.

    Attributes:
        source: Its symbols.
        targets: At least one sequence of symbols; the first is the preferred one.
    """

    source: tuple[str, ...]
    targets: tuple[tuple[str, ...], ...]


class Split(NamedTuple):
    """Pairs to learn from, to choose by, and to report on."""

    training: list[Pair]
    validation: list[Pair]
    test: list[Pair]


class BadRowError(ValueError):
    """A row of a file of pairs can't be read."""


def symbols(text: str, units: str) -> tuple[str, ...]:
    """Cut a text into symbols.

    Args:
        text: The text.
        units: ``"characters"``, of the composed form (NFC); ``"jamo"``, which takes each Hangul
            syllable apart into its letters, and accented letters into letter and accent (NFD);
            ``"words"``, of the composed form, what blanks separate; or ``"tagged"``, the first
            word as one symbol, then the characters after it, as in ``JP osaka``.

    Raises:
        ValueError: ``units`` is none of these.
    """
    check_choice("units", units, UNITS)
    text = unicodedata.normalize("NFD" if units == "jamo" else "NFC", text)
    if units == "tagged":
        words = text.split(maxsplit=1)
        return (*words[:1], *"".join(words[1:]))
    return tuple(text.split() if units == "words" else text)


def join(sequence: Iterable[str], units: str) -> str:
    """Put symbols together to the text they were cut from, in its composed form (NFC).

    A text that is in this form comes back as it was: every Hangul syllable is, and nearly all
    text. Other text comes back as what Unicode calls equivalent, such as one symbol for a letter
    and its accent. Between words there is one blank, whatever there was.
    """
    check_choice("units", units, UNITS)
    sequence = list(sequence)
    if units == "tagged":
        sequence.insert(1, " " * (len(sequence) > 1))
    return unicodedata.normalize("NFC", (" " if units == "words" else "").join(sequence))


def read_pairs(
    path: Path | str, *, source_units: str = "characters", target_units: str = "characters"
) -> list[Pair]:
    """Read a file of two columns, source and target, separated by a tab.

    The file is UTF-8, with or without a byte order mark; lines end as on Unix or Windows. A source
    that stands in several rows has several right targets, in the order of the rows. Blanks around
    a column are dropped, and lines of nothing else are skipped.

    Args:
        path: The file.
        source_units: How to cut the sources, see ``symbols``.
        target_units: How to cut the targets.

    Raises:
        BadRowError: A row has not two columns, an empty one, or is not UTF-8; or the file has no
            rows. The message names file and line.
        OSError: The file can't be read.
    """
    targets: dict[tuple[str, ...], dict[tuple[str, ...], None]] = {}
    for number, line in enumerate(Path(path).read_bytes().split(b"\n"), start=1):
        try:
            text = line.decode("utf-8-sig" if number == 1 else "utf-8").rstrip("\r")
        except UnicodeDecodeError as error:
            raise BadRowError(
                f"{path}, line {number}: expected UTF-8, got byte {error.object[error.start]:#04x} "
                f"at position {error.start + 1}"
            ) from None
        if not text.strip():
            continue
        columns = text.split("\t")
        if len(columns) != 2:
            raise BadRowError(
                f"{path}, line {number}: expected 2 columns, source and target, separated by a "
                f"tab, got {len(columns)}: {_shortened(text)}"
            )
        source = symbols(columns[0].strip(), source_units)
        target = symbols(columns[1].strip(), target_units)
        for name, part in (("source", source), ("target", target)):
            if not part:
                raise BadRowError(
                    f"{path}, line {number}: expected a {name}, got an empty column: "
                    f"{_shortened(text)}"
                )
        targets.setdefault(source, {})[target] = None
    if not targets:
        raise BadRowError(f"{path}: expected rows of source, tab, target, got none")
    return [Pair(source, tuple(found)) for source, found in targets.items()]


def split(pairs: Sequence[Pair], *, key: Callable[[Pair], Hashable] | None = None) -> Split:
    """Split by position: of each 20 in turn, 1 to validate, the next 2 to test, 17 to train.

    Args:
        pairs: In a fixed order.
        key: Pairs with equal keys stay together; what is counted are distinct keys. By default
            each pair is its own.

    Raises:
        ValueError: A part would be empty.
    """
    numbers: dict[Hashable, int] = {}
    parts = Split([], [], [])
    for i, pair in enumerate(pairs):
        number = numbers.setdefault(i if key is None else key(pair), len(numbers))
        parts[(1, 2, 2)[number % 20] if number % 20 < 3 else 0].append(pair)
    if not all(parts):
        kind = "pairs" if key is None else "pairs of different keys"
        raise ValueError(
            f"pairs: expected at least 4 {kind}, enough for three parts, got {len(numbers)}"
        )
    return parts


def _shortened(text: str) -> str:
    return repr(text if len(text) <= 60 else text[:57] + "...")
