"""Pairs of sequences to learn a mapping from, such as spelling and pronunciation.

A source may have several correct targets. What is read from files, split and scored are ``Pair``
objects of symbols; what models read are the padded ids of ``seqbook.data.batches.Encoded``.
"""

from __future__ import annotations

import math
import unicodedata
from collections.abc import Callable, Hashable, Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

from seqbook.validation import check_choice

__all__ = [
    "LEVELS",
    "BadRowError",
    "Pair",
    "Split",
    "clean",
    "detokenize",
    "read_pairs",
    "split",
    "tokenize",
]

LEVELS = ("characters", "words", "jamo", "tagged")
"""Levels of tokenization, see ``tokenize``."""


class Pair(NamedTuple):
    """A source sequence and all its correct targets.

    Attributes:
        source: Its symbols.
        targets: At least one sequence of symbols; the first is the preferred one.

    Example:
        >>> Pair(tuple("read"), (("R", "IY", "D"), ("R", "EH", "D"))).targets[0]
        ('R', 'IY', 'D')
    """

    source: tuple[str, ...]
    targets: tuple[tuple[str, ...], ...]


class Split(NamedTuple):
    """Pairs for training, for validation and for the test.

    Example:
        >>> Split([Pair(("a",), (("b",),))], [], []).training[0].source
        ('a',)
    """

    training: list[Pair]
    validation: list[Pair]
    test: list[Pair]


class BadRowError(ValueError):
    r"""Error in a row of a file of pairs.

    Example:
        >>> from tempfile import TemporaryDirectory
        >>> with TemporaryDirectory() as folder:
        ...     path = Path(folder, "pairs.tsv")
        ...     length = path.write_text("ab\tAB\nonly one column\n")
        ...     try:
        ...         read_pairs(path)
        ...     except BadRowError as error:
        ...         print(str(error).removeprefix(folder)[1:])
        pairs.tsv, line 2: expected 2 columns, source and target, separated by a tab, got 1: ...
    """


def clean(text: str) -> str:
    r"""Remove white space and byte order marks from both ends of a text.

    White space is what Unicode calls so: spaces, tabs, line ends, also no-break spaces. Sources
    are cleaned alike in training (``read_pairs``) and in use (``Transcriber.transcribe``).

    Example:
        >>> clean("\ufeff new york\t")
        'new york'
    """
    while text != (text := text.strip().strip("\ufeff")):
        pass
    return text


def tokenize(text: str, level: str) -> tuple[str, ...]:
    r"""Cut a text into symbols.

    Args:
        text: The text.
        level: ``"characters"``, of the composed form (NFC); ``"jamo"``, which decomposes each
            Hangul syllable into its letters, and accented letters into letter and accent (NFD);
            ``"words"``, of the composed form, which white space separates; or ``"tagged"``, the
            first word as one symbol, then the characters after it, as in ``JP osaka``.

    Raises:
        ValueError: ``level`` is none of these.

    Source: Unicode Standard Annex 15 for the normal forms.

    Example:
        >>> tokenize("한글", "jamo") == tuple("\u1112\u1161\u11ab\u1100\u1173\u11af")
        True
        >>> tokenize("JP osaka", "tagged")
        ('JP', 'o', 's', 'a', 'k', 'a')
    """
    check_choice("level", level, LEVELS)
    text = unicodedata.normalize("NFD" if level == "jamo" else "NFC", text)
    if level == "tagged":
        words = text.split(maxsplit=1)
        return (*words[:1], *"".join(words[1:]))
    return tuple(text.split() if level == "words" else text)


def detokenize(sequence: Iterable[str], level: str) -> str:
    """Join symbols to the text they were cut from, in its composed form (NFC).

    A text in this form is restored exactly: every Hangul syllable is, and nearly all text. Other
    text is restored as what Unicode calls equivalent, such as one symbol for a letter and its
    accent. Words are joined with one space, whatever stood between them.

    Args:
        sequence: The symbols.
        level: Level of ``tokenize``.

    Raises:
        ValueError: ``level`` is not one of ``LEVELS``.

    Example:
        >>> detokenize(tokenize("  to be ", "words"), "words")
        'to be'
    """
    check_choice("level", level, LEVELS)
    sequence = list(sequence)
    if level == "tagged":
        sequence.insert(1, " " * (len(sequence) > 1))
    return unicodedata.normalize("NFC", (" " if level == "words" else "").join(sequence))


def read_pairs(
    path: Path | str, *, source_level: str = "characters", target_level: str = "characters"
) -> list[Pair]:
    r"""Read a file of two columns, source and target, separated by a tab.

    The file is UTF-8, with or without a byte order mark; lines end as on Unix or Windows. A source
    that stands in several rows has several correct targets, in the order of the rows. Columns are
    cleaned (see ``clean``), and blank lines are skipped.

    Args:
        path: The file.
        source_level: Level at which sources are tokenized, see ``tokenize``.
        target_level: Level at which targets are tokenized.

    Raises:
        BadRowError: A row does not have two columns, has an empty one, or is not UTF-8; or the file
            has no rows. The message names file and line.
        OSError: The file can't be read.
        ValueError: A level is not one of ``LEVELS``.

    Example:
        >>> from tempfile import TemporaryDirectory
        >>> with TemporaryDirectory() as folder:
        ...     path = Path(folder) / "pairs.tsv"
        ...     _ = path.write_text("ab\tx\nab\ty\n")
        ...     read_pairs(path)
        [Pair(source=('a', 'b'), targets=(('x',), ('y',)))]
    """
    check_choice("source_level", source_level, LEVELS)
    check_choice("target_level", target_level, LEVELS)
    targets: dict[tuple[str, ...], dict[tuple[str, ...], None]] = {}
    for number, line in enumerate(Path(path).read_bytes().split(b"\n"), start=1):
        try:
            text = line.decode("utf-8-sig" if number == 1 else "utf-8").rstrip("\r")
        except UnicodeDecodeError as error:
            raise BadRowError(
                f"{path}, line {number}: expected UTF-8, got byte {error.object[error.start]:#04x} "
                f"at position {error.start + 1}"
            ) from None
        if not clean(text):
            continue
        columns = text.split("\t")
        if len(columns) != 2:
            raise BadRowError(
                f"{path}, line {number}: expected 2 columns, source and target, separated by a "
                f"tab, got {len(columns)}: {_shortened(text)}"
            )
        source = tokenize(clean(columns[0]), source_level)
        target = tokenize(clean(columns[1]), target_level)
        for name, part in (("source", source), ("target", target)):
            if not part:
                raise BadRowError(
                    f"{path}, line {number}: expected a {name}, got an empty column: "
                    f"{_shortened(text)}"
                )
        targets.setdefault(source, {})[target] = None
    if not targets:
        raise BadRowError(f"{path}: expected rows of source, tab, target, got none")
    return [Pair(source, tuple(alternatives)) for source, alternatives in targets.items()]


def split(
    pairs: Sequence[Pair],
    *,
    validation_share: float = 0.05,
    test_share: float = 0.1,
    key: Callable[[Pair], Hashable] | None = None,
) -> Split:
    """Split pairs by their position.

    Of each 20 in turn, the first is for validation, the next two are for the test and 17 for
    training; with other shares, of each 100 or of the fewest that can be divided so.

    Args:
        pairs: In a fixed order.
        validation_share: Share of the pairs for validation, in whole hundredths.
        test_share: Share of the pairs for the test, in whole hundredths.
        key: Pairs with equal keys stay together, and distinct keys are counted. By default
            each pair is its own.

    Raises:
        ValueError: A share is out of range, or a part would be empty whose share is not 0.

    Example:
        >>> pairs = [Pair((str(i),), (("x",),)) for i in range(40)]
        >>> [len(part) for part in split(pairs)]
        [34, 2, 4]
        >>> [pair.source[0] for pair in split(pairs, validation_share=0.1, test_share=0).validation]
        ['0', '10', '20', '30']
    """
    hundredths = {}
    for name, share in (("validation_share", validation_share), ("test_share", test_share)):
        if not 0 <= share < 1 or not math.isclose(100 * share, round(100 * share)):
            raise ValueError(f"{name}: expected 0, 0.01, 0.02, ... or 0.99, got {share}")
        hundredths[name] = round(100 * share)
    if sum(hundredths.values()) >= 100:
        raise ValueError(
            "validation_share, test_share: expected a sum below 1, got "
            f"{validation_share} and {test_share}"
        )
    divisor = math.gcd(100, *hundredths.values())
    period, (validation, test) = 100 // divisor, (n // divisor for n in hundredths.values())
    numbers: dict[Hashable, int] = {}
    parts = Split([], [], [])
    for i, pair in enumerate(pairs):
        number = numbers.setdefault(i if key is None else key(pair), len(numbers)) % period
        if number < validation:
            parts.validation.append(pair)
        elif number < validation + test:
            parts.test.append(pair)
        else:
            parts.training.append(pair)
    if len(numbers) <= validation + test:
        kind = "pairs" if key is None else "pairs of different keys"
        raise ValueError(
            f"pairs: expected at least {validation + test + 1} {kind}, enough for "
            f"{1 + (validation > 0) + (test > 0)} parts, got {len(numbers)}"
        )
    return parts


def _shortened(text: str) -> str:
    return repr(text if len(text) <= 60 else text[:57] + "...")
