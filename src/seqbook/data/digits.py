"""Handwritten digits: 8 by 8 grey images, read as sequences of pixels or of rows."""

from __future__ import annotations

import io
from typing import NamedTuple

import numpy as np

from seqbook.data._files import read_bytes

__all__ = ["Digits", "Images", "load"]

_TRAINING_COUNT = 1_200


class Images(NamedTuple):
    """Images and their labels.

    Attributes:
        images: Ink from 0 (none) to 1, float64 ``(count, 8, 8)``, rows from top to bottom. A value
            is the fraction of black pixels in a 4 by 4 block of the scan, a multiple of 1/16.
        labels: The digits shown, int64 ``(count,)`` in 0 to 9.

    Example:
        >>> images, labels = load().training
        >>> images.shape, labels[:3].tolist()
        ((1200, 8, 8), [0, 1, 2])
    """

    images: np.ndarray
    labels: np.ndarray


class Digits(NamedTuple):
    """Training and test images, split in the file's order and not shuffled.

    Attributes:
        training: The first 1,200.
        test: The last 597.

    Example:
        >>> [len(part.images) for part in load()]
        [1200, 597]
    """

    training: Images
    test: Images


def load() -> Digits:
    """Load 1,797 handwritten digits.

    Raises:
        FileNotFoundError: The data file is missing.
        DamagedDataError: The data file was altered.

    Source: Alpaydin and Kaynak, "Optical Recognition of Handwritten Digits", UCI Machine Learning
    Repository (1998), its test part as distributed by scikit-learn, CC BY 4.0.

    Example:
        >>> float(load().training.images.max())
        1.0
    """
    with np.load(io.BytesIO(read_bytes("digits_8x8.npz")), allow_pickle=False) as file:
        images, labels = file["images"] / 16, file["labels"].astype(np.int64)
    return Digits(
        Images(images[:_TRAINING_COUNT], labels[:_TRAINING_COUNT]),
        Images(images[_TRAINING_COUNT:], labels[_TRAINING_COUNT:]),
    )
