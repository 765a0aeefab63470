"""Figures of the book in one style. They are drawn from numbers and import no models."""

from seqbook.plots.sound import Player
from seqbook.plots.style import COLOURS, use_house_style

__all__ = ["COLOURS", "Player", "use_house_style"]
