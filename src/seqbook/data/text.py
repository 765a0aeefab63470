"""Texts, split in reading order into training, validation and test parts."""

from __future__ import annotations

from typing import NamedTuple

from seqbook.data._files import read_bytes

_FILES = {"alice": "alice29.txt", "constitution_ko": "constitution_ko.txt"}


class Corpus(NamedTuple):
    """A text cut at two points, so that each part comes later than the one before it."""

    training: str
    validation: str
    test: str

    @property
    def text(self) -> str:
        """The whole text, in order."""
        return "".join(self)


def load(name: str) -> Corpus:
    """Load a text, cut 80 / 10 / 10 by position.

    Args:
        name: ``"alice"``, Lewis Carroll, *Alice's Adventures in Wonderland* (1865), English; or
            ``"constitution_ko"``, the Constitution of the Republic of Korea, Korean.

    Raises:
        ValueError: ``name`` is not one of the texts.
    """
    if name not in _FILES:
        raise ValueError(f"name: expected one of {sorted(_FILES)}, got {name!r}")
    text = read_bytes(_FILES[name]).decode("utf-8").replace("\r", "").replace("\x1a", "").strip()
    first, second = len(text) * 8 // 10, len(text) * 9 // 10
    return Corpus(text[:first], text[first:second], text[second:])
