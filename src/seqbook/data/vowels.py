"""Japanese vowels: nine speakers say "ae", as sequences of cepstral coefficients."""

from __future__ import annotations

import io
from typing import NamedTuple

import numpy as np

from seqbook.data._files import read_bytes

__all__ = ["Utterances", "Vowels", "load"]


class Utterances(NamedTuple):
    """Utterances of different lengths and the speaker of each.

    Attributes:
        coefficients: For each utterance, float64 ``(time, 12)``: twelve LPC cepstrum coefficients
            (without unit) of each of 7 to 29 frames of 25.6 ms, one every 6.4 ms.
        speakers: int64 ``(utterances,)`` in 0 to 8.

    Example:
        >>> coefficients, speakers = load().training
        >>> coefficients[0].shape, int(speakers[0])
        ((20, 12), 0)
    """

    coefficients: list[np.ndarray]
    speakers: np.ndarray


class Vowels(NamedTuple):
    """Training and test part, split as the data were published.

    Attributes:
        training: 270 utterances, thirty of each speaker.
        test: 370 utterances of the same speakers, recorded on other occasions, 24 to 88 of each.

    Example:
        >>> [len(part.speakers) for part in load()]
        [270, 370]
    """

    training: Utterances
    test: Utterances


def load() -> Vowels:
    """Load 640 utterances of nine male speakers.

    Raises:
        FileNotFoundError: The data file is missing.
        DamagedDataError: The data file was altered.

    Source: Kudo, Toyama and Shimbo, "Japanese Vowels", UCI Machine Learning Repository (1999), as
    distributed by aeon, CC BY 4.0; stored in thousandths.

    Example:
        >>> lengths = [len(utterance) for utterance in load().training.coefficients]
        >>> min(lengths), max(lengths)
        (7, 26)
    """
    with np.load(io.BytesIO(read_bytes("japanese_vowels_i16.npz")), allow_pickle=False) as file:
        frames, lengths = file["x_milli"] / 1000, file["length"].astype(np.int64)
        speakers, count = file["speaker"].astype(np.int64), int(file["n_train"])
    utterances = np.split(frames, np.cumsum(lengths)[:-1])
    return Vowels(
        Utterances(utterances[:count], speakers[:count]),
        Utterances(utterances[count:], speakers[count:]),
    )
