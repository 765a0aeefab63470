"""Spoken digits: ten recordings of one English speaker, 8,000 samples a second."""

from __future__ import annotations

import io
import wave
from typing import NamedTuple

import numpy as np

from seqbook.data._files import read_bytes
from seqbook.validation import check_instance, check_integer, check_series

__all__ = ["Recording", "load", "to_wav"]


class Recording(NamedTuple):
    """Mono recording.

    Attributes:
        samples: Sound pressure relative to full scale, float64 ``(time,)`` in [-1, 1).
        rate: Sampling rate in Hz.

    Example:
        >>> Recording(np.zeros(4), rate=8000).seconds
        array([0.      , 0.000125, 0.00025 , 0.000375])
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
        TypeError: ``digit`` is not an integer.
        ValueError: ``digit`` is not one of the ten.
        FileNotFoundError: The data file is missing.
        DamagedDataError: The data file was altered.

    Source: Allison Smith, Asterisk core sounds, CC BY-SA 3.0.

    Example:
        >>> seven = load(7)
        >>> seven.samples.shape, seven.rate
        ((6561,), 8000)
    """
    digit = check_integer("digit", digit, minimum=0, maximum=9)
    with wave.open(io.BytesIO(read_bytes(f"spoken_digits_en/{digit}.wav"))) as file:
        samples = np.frombuffer(file.readframes(file.getnframes()), dtype="<i2")
        return Recording(samples / 2**15, file.getframerate())


def to_wav(recording: Recording) -> bytes:
    r"""Encode a recording as a 16-bit WAV file, the inverse of ``load``.

    .. math:: k_t = \operatorname{round}(2^{15} x_t)

    for sample x, at most :math:`2^{15} - 1`.

    Shape:
        samples of the recording ``(time,)``.

    Raises:
        TypeError: ``recording`` is not a ``Recording``, its samples are not real numbers, or its
            rate is not an integer.
        ValueError: The samples have another shape than ``(time,)`` or lie outside [-1, 1), or the
            rate is not positive.

    Example:
        >>> len(to_wav(load(7)))  # a header of 44 bytes, then two for each sample
        13166
    """
    check_instance("recording", recording, Recording)
    rate = check_integer("rate", recording.rate, minimum=1, maximum=2**31 - 1)
    samples = check_series("samples", recording.samples, minimum_length=0)
    if samples.size and not (samples.min() >= -1 and samples.max() < 1):
        raise ValueError(
            f"samples: expected values in [-1, 1), got {samples.min():.3g} to {samples.max():.3g}"
        )
    buffer = io.BytesIO()
    with wave.open(buffer, "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(rate)
        frames = np.round(samples * 2**15).clip(-(2**15), 2**15 - 1).astype("<i2")
        file.writeframes(frames.tobytes())
    return buffer.getvalue()
