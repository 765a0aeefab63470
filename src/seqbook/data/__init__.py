"""Real data, small enough for the package: sound, text, images, prices, names, pronunciations.

Each module's ``load`` returns typed, documented data and downloads nothing. A file that is
missing or was changed is refused by name (see ``DamagedDataError``).
"""

from seqbook.data import (
    digits,
    place_names,
    prices,
    pronunciations,
    sound,
    sunspots,
    text,
    vowels,
)
from seqbook.data._files import DamagedDataError

__all__ = [
    "DamagedDataError",
    "digits",
    "place_names",
    "prices",
    "pronunciations",
    "sound",
    "sunspots",
    "text",
    "vowels",
]
