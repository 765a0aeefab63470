"""Activations of a language model's hidden units along a text."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from seqbook.plots.style import WIDTH, panels

__all__ = ["units_on_text"]

_INCHES_PER_ROW, _COLUMNS = 0.2, 56


def units_on_text(text: str, activations: Mapping[str, np.ndarray]) -> Figure:
    """Draw the text once for each unit, every character on a background of the unit's activation.

    Args:
        text: Line breaks are kept; lines of more than 56 characters are broken at a space.
        activations: Title to the unit's activation after each character, -1 (purple) to 1
            (orange), ``(characters,)``.

    Example:
        >>> len(units_on_text("a line", {"unit 7": np.linspace(-1, 1, 6)}).axes)
        1
    """
    rows = list(_rows(text))
    figure, axes = panels(len(activations), height=_INCHES_PER_ROW * len(rows) + 0.4)
    shades: dict[str, Any] = {
        "cmap": "PuOr_r",
        "vmin": -2.2,
        "vmax": 2.2,
    }  # not so dark as to hide the text
    font: dict[str, Any] = {
        "family": "DejaVu Sans Mono",
        "fontsize": _column_font_size(),
        "parse_math": False,
    }
    for panel, (title, values) in zip(axes, activations.items(), strict=True):
        ground = np.full((len(rows), _COLUMNS), np.nan)
        for row, (start, stop) in enumerate(rows):
            ground[row, : stop - start] = values[start:stop]
            for column, character in enumerate(text[start:stop]):
                panel.text(column + 0.5, row + 0.55, character, ha="center", va="center", **font)
        edges = np.arange(_COLUMNS + 1), np.arange(len(rows) + 1)
        panel.pcolormesh(*edges, np.ma.masked_invalid(ground), **shades)
        panel.set(xlim=(0, _COLUMNS), ylim=(len(rows), 0), title=title)
        panel.axis("off")
    return figure


def _rows(text: str) -> Iterator[tuple[int, int]]:
    """Yield the start and the end of each row in the text."""
    start = 0
    for line in text.split("\n"):
        stop = start + len(line)
        while stop - start > _COLUMNS:
            space = text.rfind(" ", start, start + _COLUMNS)
            end = start + _COLUMNS if space < start else space + 1
            yield start, end
            start = end
        yield start, stop
        start = stop + 1  # the newline is a character too


def _column_font_size() -> float:
    """Font size in points at which a monospaced character is as wide as its column."""
    return WIDTH * 72 / _COLUMNS / 0.61
