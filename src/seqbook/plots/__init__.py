"""The house style and the book's figures; they know numbers, not models."""

from seqbook.plots.sound import Player
from seqbook.plots.style import COLOURS, use_house_style

__all__ = ["COLOURS", "Player", "use_house_style"]
