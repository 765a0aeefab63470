"""Cut the book's fonts to what its pages use, and write them with their style sheet.

    .venv/bin/python -m pip install brotli  # the compressor of woff2
    .venv/bin/python tools/cut_fonts.py

The fonts come from npm in the versions pinned here, so this needs npm and a network. It is run by
hand: pages load what it wrote to ``book/_vendor/fonts``, and a letter that is not there is drawn in
a font of the reader's machine. The licence of both families reserves their names for the unchanged
fonts, so the cut ones have names of their own.
"""

import re
import shutil
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

from fontTools import subset
from fontTools.ttLib import TTFont

ROOT = Path(__file__).parents[1]
FONTS = ROOT / "book" / "_vendor" / "fonts"
SERIF = "@fontsource/source-serif-4@5.3.1"
HANGUL = "pretendard@1.3.9"
LATIN = {*range(0x20, 0x7F), *range(0xA0, 0x100), *range(0x2010, 0x2023), 0x2026, 0x2032, 0x2212}
SYLLABLE = re.compile("[가-힣]")
NAMES = (1, 3, 4, 6, 16)  # entries of a font's table of names that say its family
RULE = """@font-face {{
  font-family: "{family}";
  font-style: {style};
  font-weight: {weight};
  font-display: swap;
  src: url("{file}") format("woff2");
  unicode-range: {letters};
}}
"""


class Face(NamedTuple):
    """A font to cut.

    Args:
        file: What it is called in the book.
        family: What the style sheets call its family.
        weight: Its weight in the style sheets.
        style: ``normal`` or ``italic``.
        package: The npm package it comes from.
        source: Its path in the package.
    """

    file: str
    family: str
    weight: str
    style: str
    package: str
    source: str


_LATIN = "files/source-serif-4-latin-{}.woff2"
_HANGUL = "dist/public/static/Pretendard-{}.otf"
FACES = (
    Face("serif.woff2", "Book Serif", "400", "normal", SERIF, _LATIN.format("400-normal")),
    Face("serif-italic.woff2", "Book Serif", "400", "italic", SERIF, _LATIN.format("400-italic")),
    Face("serif-bold.woff2", "Book Serif", "600 700", "normal", SERIF, _LATIN.format("600-normal")),
    Face("hangul.woff2", "Book Hangul", "400", "normal", HANGUL, _HANGUL.format("Regular")),
    Face(
        "hangul-bold.woff2", "Book Hangul", "600 700", "normal", HANGUL, _HANGUL.format("SemiBold")
    ),
)
LICENCES = {SERIF: "LICENSE", HANGUL: "dist/LICENSE.txt"}


def syllables(book: Path = ROOT / "book") -> set[int]:
    """Return the Hangul syllables in the sources of the pages."""
    sources = [*book.glob("*.md"), *book.glob("*.ipynb")]
    text = "".join(path.read_text(encoding="utf-8") for path in sources)
    return {ord(letter) for letter in SYLLABLE.findall(text)}


def ranges(letters: Iterable[int]) -> str:
    """Write code points as a ``unicode-range``."""
    runs: list[list[int]] = []
    for letter in sorted(letters):
        if runs and letter == runs[-1][1] + 1:
            runs[-1][1] = letter
        else:
            runs.append([letter, letter])
    return ", ".join(f"U+{a:X}" if a == b else f"U+{a:X}-{b:X}" for a, b in runs)


def read_ranges(style: str, family: str) -> set[int]:
    """Return the code points that a style sheet says a family has."""
    (text,) = set(re.findall(rf'"{family}";.*?unicode-range: ([^;]+);', style, re.DOTALL))
    ends = (part.strip().removeprefix("U+").split("-") for part in text.split(","))
    return {letter for a, *b in ends for letter in range(int(a, 16), int((b or [a])[0], 16) + 1)}


def fetch(package: str, folder: Path) -> Path:
    """Unpack an npm package; return its folder."""
    command = ["npm", "pack", "--silent", package]
    packed = subprocess.run(command, cwd=folder, check=True, capture_output=True, text=True)
    target = folder / re.sub(r"\W", "-", package)
    with tarfile.open(folder / packed.stdout.split()[-1]) as archive:
        archive.extractall(target, filter="data")
    return target / "package"


def cut(face: Face, source: Path, letters: set[int]) -> set[int]:
    """Write a font with the letters it has of those wanted; return these."""
    font = TTFont(source, recalcTimestamp=False)
    kept = letters & set(font.getBestCmap())
    options = subset.Options(layout_features=["kern", "liga", "mark", "mkmk", "ccmp", "locl"])
    options.desubroutinize = True
    options.hinting = False
    cutter = subset.Subsetter(options)
    cutter.populate(unicodes=kept)
    cutter.subset(font)
    for entry in font["name"].names:
        if entry.nameID in NAMES:
            entry.string = face.family.replace(" ", "") if entry.nameID == 6 else face.family
    if "CFF " in font:
        top = font["CFF "].cff.topDictIndex[0]
        top.FullName = top.FamilyName = face.family
        font["CFF "].cff.fontNames = [face.family.replace(" ", "")]
    font.flavor = "woff2"
    font.save(FONTS / face.file)
    return kept


def rules(packages: dict[str, Path]) -> Iterator[str]:
    """Cut all fonts; yield a rule of the style sheet for each."""
    hangul = syllables()
    for face in FACES:
        letters = hangul if face.package == HANGUL else LATIN
        kept = cut(face, packages[face.package] / face.source, letters)
        yield RULE.format(**face._asdict(), letters=ranges(kept))


def main() -> None:
    """Write the fonts, their style sheet and their licences."""
    FONTS.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as folder:
        packages = {name: fetch(name, Path(folder)) for name in LICENCES}
        style = "".join(["/* Written by tools/cut_fonts.py. */\n", *rules(packages)])
        (FONTS / "fonts.css").write_text(style, encoding="utf-8")
        for name, path in LICENCES.items():
            family = re.sub(r"\W+", "-", name.rpartition("@")[0]).strip("-")
            shutil.copy(packages[name] / path, FONTS / f"LICENSE-{family}.txt")
    size = sum(path.stat().st_size for path in FONTS.glob("*.woff2"))
    print(
        f"{len(FACES)} fonts, {size / 1000:.0f} kB, in {FONTS.relative_to(ROOT)}", file=sys.stderr
    )


if __name__ == "__main__":
    main()
