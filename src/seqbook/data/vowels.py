"""Japanese vowels: nine men say the vowels "ae", as sequences of cepstral coefficients."""

from __future__ import annotations

import io
from typing import NamedTuple

import numpy as np

from seqbook.data._files import read_bytes


class Utterances(NamedTuple):
    """Recordings of different lengths, and who speaks in each.

    Attributes:
        coefficients: For each utterance, float64 ``(time, 12)``: twelve LPC cepstrum coefficients
            (without unit) of each of 7 to 29 frames of 25.6 ms, one every 6.4 ms.
        speakers: int64 ``(utterances,)`` in 0 to 8.
    """

    coefficients: list[np.ndarray]
    speakers: np.ndarray


class Vowels(NamedTuple):
    """The two parts that the data's makers published.

    Attributes:
        training: 270 utterances, thirty of each speaker.
        test: 370 utterances of the same men, recorded on other occasions, 24 to 88 of each.
    """

    training: Utterances
    test: Utterances


def load() -> Vowels:
    """Load the utterances.

    Source: Kudo, Toyama and Shimbo, "Japanese Vowels", UCI Machine Learning Repository (1999), as
    distributed by aeon, CC BY 4.0; stored in thousandths.
    """
    with np.load(io.BytesIO(read_bytes("japanese_vowels_i16.npz")), allow_pickle=False) as file:
        frames, lengths = file["x_milli"] / 1000, file["length"].astype(np.int64)
        speakers, count = file["speaker"].astype(np.int64), int(file["n_train"])
    utterances = np.split(frames, np.cumsum(lengths)[:-1])
    return Vowels(
        Utterances(utterances[:count], speakers[:count]),
        Utterances(utterances[count:], speakers[count:]),
    )
