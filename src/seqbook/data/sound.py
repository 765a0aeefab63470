"""Spoken digits: ten recordings of one English speaker, 8,000 samples a second."""

from __future__ import annotations

import io
import wave
from typing import NamedTuple

import numpy as np

from seqbook.data._files import read_bytes


class Recording(NamedTuple):
    """A mono sound.

    Attributes:
        samples: Pressure in units of the format's full scale, float64 ``(time,)`` in [-1, 1).
        rate: Samples per second (Hz).
    """

    samples: np.ndarray
    rate: int

    @property
    def seconds(self) -> np.ndarray:
        """Time of each sample in seconds, ``(time,)``."""
        return np.arange(len(self.samples)) / self.rate


def load(digit: int) -> Recording:
    """Load one spoken digit.

    Args:
        digit: 0 to 9.

    Raises:
        ValueError: ``digit`` is not one of the ten.

    Source: Allison Smith, Asterisk core sounds, CC BY-SA 3.0.
    """
    if digit not in range(10):
        raise ValueError(f"digit: expected an integer from 0 to 9, got {digit!r}")
    with wave.open(io.BytesIO(read_bytes(f"spoken_digits_en/{int(digit)}.wav"))) as file:
        samples = np.frombuffer(file.readframes(file.getnframes()), dtype="<i2")
        return Recording(samples / 2**15, file.getframerate())


def to_wav(recording: Recording) -> bytes:
    """Encode a recording as a 16-bit WAV file, the inverse of ``load``.

    Raises:
        ValueError: A sample lies outside [-1, 1).
    """
    samples = np.asarray(recording.samples)
    if samples.size and not (samples.min() >= -1 and samples.max() < 1):
        raise ValueError(
            f"samples: expected values in [-1, 1), got {samples.min():.3g} to {samples.max():.3g}"
        )
    buffer = io.BytesIO()
    with wave.open(buffer, "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(recording.rate)
        file.writeframes(np.round(samples * 2**15).clip(-(2**15), 2**15 - 1).astype("<i2"))
    return buffer.getvalue()
