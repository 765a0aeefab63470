"""Texts in English and Korean, split by position into training, validation and test parts."""

from __future__ import annotations

from typing import NamedTuple

from seqbook.data._files import read_bytes
from seqbook.validation import check_choice

__all__ = ["Corpus", "load"]

_FILES = {
    "alice": "alice29.txt",
    "constitution_ko": "constitution_ko.txt",
    "tinyshakespeare": "tinyshakespeare.txt",
}


class Corpus(NamedTuple):
    """Text split by position: training, then validation, then test.

    Example:
        >>> corpus = Corpus("abcdefgh", "i", "j")
        >>> corpus.text
        'abcdefghij'
    """

    training: str
    validation: str
    test: str

    @property
    def text(self) -> str:
        """The whole text, in order."""
        return "".join(self)


def load(name: str) -> Corpus:
    """Load a text, split by position.

    The split is 80 / 10 / 10; of ``"tinyshakespeare"`` it is 90 / 10 / 0, as in all publications
    that use it, so its test part is empty.

    Args:
        name: ``"alice"``, Lewis Carroll, *Alice's Adventures in Wonderland* (1865), English;
            ``"constitution_ko"``, the Constitution of the Republic of Korea, Korean; or
            ``"tinyshakespeare"``, a selection of Shakespeare's plays, English.

    Raises:
        ValueError: ``name`` is not one of the texts.
        FileNotFoundError: The data file is missing.
        DamagedDataError: The data file was altered.

    Source: the Canterbury corpus (``"alice"``, public domain), konlpy (``"constitution_ko"``,
    a statute without copyright) and char-rnn (``"tinyshakespeare"``, public domain), with the
    split of Karpathy's nanoGPT.

    Example:
        >>> alice = load("alice")
        >>> alice.training[:32]
        "ALICE'S ADVENTURES IN WONDERLAND"
        >>> len(alice.training), len(alice.validation), len(alice.test)
        (118767, 14846, 14846)
    """
    check_choice("name", name, _FILES)
    if name == "tinyshakespeare":  # character by character what others train on
        text = read_bytes(_FILES[name]).decode("utf-8")
        first = len(text) * 9 // 10
        return Corpus(text[:first], text[first:], "")
    text = read_bytes(_FILES[name]).decode("utf-8").replace("\r", "").replace("\x1a", "").strip()
    first, second = len(text) * 8 // 10, len(text) * 9 // 10
    return Corpus(text[:first], text[first:second], text[second:])
