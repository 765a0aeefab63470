"""Real data, small enough to live in the package: sound, text, images, prices and sunspots.

Each module's ``load`` returns typed, documented data and downloads nothing. A file that is
missing or was changed is refused by name (see ``DamagedDataError``).
"""

from seqbook.data import digits, prices, sound, sunspots, text, vowels
from seqbook.data._files import DamagedDataError

__all__ = ["DamagedDataError", "digits", "prices", "sound", "sunspots", "text", "vowels"]
