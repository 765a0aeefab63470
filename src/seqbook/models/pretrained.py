"""Trained models that come with the package."""

from __future__ import annotations

import io

import torch

from seqbook.data import read_bytes
from seqbook.models.transcriber import Transcriber
from seqbook.validation import check_choice

__all__ = ["NAMES", "load"]

NAMES = ("pronunciations-transformer", "pronunciations-lstm")
"""Names of the models."""


def load(name: str, *, device: torch.device | str = "cpu") -> Transcriber:
    """Load a model by its name.

    Both pronounce English words (``seqbook.data.pronunciations``); see chapter 8. The command
    that trained a model, the versions, the learning curve and the scores on the test words are in
    its ``record``.

    Args:
        name: One of ``NAMES``.
        device: Device of the model.

    Raises:
        ValueError: There is no model of this name, or no such device.
        DamagedDataError: The file is not the one that the book was written with.

    Example:
        >>> model = load("pronunciations-lstm")
        >>> model.transcribe(["sequence"])
        ['S IY K W AH N S']
    """
    check_choice("name", name, NAMES)
    return Transcriber.load(io.BytesIO(read_bytes(f"{name}.safetensors")), device=device)
