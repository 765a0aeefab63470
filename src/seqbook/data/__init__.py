"""Data sets that come with the package, and the symbols, pairs and batches that models read.

``load`` in each of the modules ``co2``, ``digits``, ``place_names``, ``prices``,
``pronunciations``, ``sound``, ``sunspots``, ``text`` and ``vowels`` returns a data set and
downloads nothing. A data file that is missing or altered raises an error that names it.
``synthetic`` generates tasks; ``vocabulary``, ``byte_pairs``, ``pairs`` and ``batches`` turn
symbols into ids. Only ``synthetic`` and ``batches`` import torch.
"""

from seqbook.data import (
    co2,
    digits,
    place_names,
    prices,
    pronunciations,
    sound,
    sunspots,
    text,
    vowels,
)
from seqbook.data._files import DamagedDataError, read_bytes

__all__ = [
    "DamagedDataError",
    "co2",
    "digits",
    "place_names",
    "prices",
    "pronunciations",
    "read_bytes",
    "sound",
    "sunspots",
    "text",
    "vowels",
]
