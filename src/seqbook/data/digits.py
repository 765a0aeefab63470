"""Handwritten digits: small grey images, which a model may read pixel by pixel or row by row."""

from __future__ import annotations

import io
from typing import NamedTuple

import numpy as np

from seqbook.data._files import read_bytes

TRAINING = 1_200


class Images(NamedTuple):
    """Images, and the digit that each shows.

    Attributes:
        images: Share of ink, float64 ``(count, 8, 8)`` in [0, 1], rows from top to bottom. Each
            pixel counts the black ones in a 4 by 4 block of the scan: multiples of 1/16.
        labels: int64 ``(count,)`` in 0 to 9.
    """

    images: np.ndarray
    labels: np.ndarray


class Digits(NamedTuple):
    """The images, cut in the file's order so that nothing is shuffled across.

    Attributes:
        training: The first 1,200.
        test: The last 597.
    """

    training: Images
    test: Images


def load() -> Digits:
    """Load the digits.

    Source: Alpaydin and Kaynak, "Optical Recognition of Handwritten Digits", UCI Machine Learning
    Repository (1998), its test part as distributed by scikit-learn, CC BY 4.0.
    """
    with np.load(io.BytesIO(read_bytes("digits_8x8.npz")), allow_pickle=False) as file:
        images, labels = file["images"] / 16, file["labels"].astype(np.int64)
    return Digits(
        Images(images[:TRAINING], labels[:TRAINING]), Images(images[TRAINING:], labels[TRAINING:])
    )
