"""Models that were trained in full and come with the package."""

from __future__ import annotations

import io

from seqbook.data import read_bytes
from seqbook.models.transcriber import Transcriber
from seqbook.validation import check_choice

__all__ = ["NAMES", "load"]

NAMES = ("pronunciations-transformer", "pronunciations-lstm")


def load(name: str) -> Transcriber:
    """Load a model by its name.

    Both pronounce English words (``seqbook.data.pronunciations``); see chapter 8. The command
    that trained a model, its versions, its curve along training and its scores on the test words
    are in ``record``.

    Raises:
        ValueError: There is no model of this name.
        DamagedDataError: The file is not the one that the book was written with.
    """
    check_choice("name", name, NAMES)
    return Transcriber.load(io.BytesIO(read_bytes(f"{name}.pt")))
