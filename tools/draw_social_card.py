"""Draw the preview card of shared links, and the icons for browsers without SVG.

Writes ``social-card.png``, ``favicon.ico`` and ``apple-touch-icon.png`` beside
``book/_static/favicon.svg``, from which the icons are made. Call it after a change of the book's
title or icon.

Usage: python tools/draw_social_card.py [FOLDER]
"""

import io
import sys
from pathlib import Path

import matplotlib.pyplot as plt
import yaml
from chromium import chromium
from PIL import Image

from seqbook.data import sunspots
from seqbook.plots.style import COLOURS, use_house_style

ROOT = Path(__file__).parents[1]
STATIC = ROOT / "book" / "_static"
WIDTH, HEIGHT, DPI = 1200, 630, 100
TOUCH, SMALL = 180, 32
BLUE = COLOURS["held out"]


def card(title: str) -> bytes:
    """Return the card as PNG: the title, the rule of the book, and a sequence."""
    use_house_style()
    size = (WIDTH / DPI, HEIGHT / DPI)
    figure = plt.figure(figsize=size, dpi=DPI, facecolor="white", layout="none")
    first, _, second = title.partition(", ")
    figure.text(0.06, 0.86, first, fontsize=50, fontweight="bold", color=BLUE, va="top")
    figure.text(0.06, 0.70, second, fontsize=33, color="#222222", va="top")
    figure.text(
        0.06,
        0.545,
        "Every formula executed, every claim measured",
        fontsize=22,
        color="#444444",
        va="top",
    )
    axes = figure.add_axes((0, 0, 1, 0.42))
    years, numbers = sunspots.load()
    axes.plot(years, numbers, color=BLUE, linewidth=2.6)
    axes.fill_between(years, numbers, color=BLUE, alpha=0.12, linewidth=0)
    axes.set_xlim(years[0], years[-1])
    axes.set_ylim(0, numbers.max() * 1.08)
    axes.axis("off")
    content = io.BytesIO()
    figure.savefig(content, format="png", dpi=DPI, bbox_inches=None, metadata={"Software": None})
    plt.close(figure)
    return smaller(content.getvalue())


def smaller(picture: bytes, colours: int = 64) -> bytes:
    """Return a PNG with few colours, which is a third as large and looks the same."""
    content = io.BytesIO()
    with Image.open(io.BytesIO(picture)) as image:
        image.convert("RGB").quantize(colours, dither=Image.Dither.NONE).save(
            content, "PNG", optimize=True
        )
    return content.getvalue()


def icon(svg: str, size: int) -> Image.Image:
    """Return the icon as a browser draws it. It fills the square: phones round it themselves."""
    with chromium() as browser:
        page = browser.new_page(viewport={"width": size, "height": size})
        page.set_content(f'<body style="margin:0"><div style="width:{size}px">{svg}</div></body>')
        screenshot = page.screenshot(omit_background=True)
    return Image.open(io.BytesIO(screenshot))


def main(folder: Path = STATIC) -> None:
    """Write the three files."""
    title = yaml.safe_load((ROOT / "_config.yml").read_text(encoding="utf-8"))["title"]
    (folder / "social-card.png").write_bytes(card(title))
    svg = (STATIC / "favicon.svg").read_text(encoding="utf-8")
    icon(svg, SMALL).save(folder / "favicon.ico", sizes=[(SMALL, SMALL)])
    touch = icon(svg.replace('rx="7"', 'rx="0"'), TOUCH)
    touch.convert("RGB").save(folder / "apple-touch-icon.png", optimize=True)


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:2]))
