"""Let readers find Korean words in the search.

Korean glues particles to nouns (신경망은, 신경망을) and nouns to nouns (순환신경망). So the index
holds, for each run of Hangul, its prefixes and, without a particle, its suffixes; what a reader
types loses its particle too. A loan word finds the term that the book has for it. English words go
the way that Sphinx sends them.
"""

import json
import re
import unicodedata

from sphinx.search import SearchEnglish

# Longest first, so that 에서는 is not taken for 는. A noun of one syllable stays as it is.
TOPICS_AND_CASES = "은 는 이 가 을 를 의 에 에서 에게 에는 에서는 에도 와 과 도 만"
MEANS_AND_LIMITS = "로 으로 로는 으로는 로서 으로서 로써 으로써 부터 까지 보다 처럼 마다"
NAMING = "이나 이란 란 이라는 라는 이다"
PARTICLES = sorted(
    f"{TOPICS_AND_CASES} {MEANS_AND_LIMITS} {NAMING}".split(),
    key=lambda particle: (-len(particle), particle),
)
ALSO_CALLED = {
    "기울기": ["그래디언트", "그라디언트", "경사"],
    "은닉": ["히든"],
    "과적합": ["오버피팅"],
}
HANGUL = re.compile(r"([가-힣]+)")
NOUN_AND_PARTICLE = f"^([가-힣]{{2,}}?)(?:{'|'.join(PARTICLES)})$"


def stem(run: str) -> str:
    """Remove the particle of a run of Hangul that leaves two syllables or more."""
    return re.sub(NOUN_AND_PARTICLE, r"\1", run)


def parts(run: str) -> list[str]:
    """Return what a run of Hangul is found by: its prefixes, and its suffixes without particle."""
    noun = stem(run)
    prefixes = [run[:length] for length in range(min(2, len(run)), len(run) + 1)]
    suffixes = [noun[start:] for start in range(1, len(noun) - 1)]
    others = [other for term in ALSO_CALLED if term in run for other in ALSO_CALLED[term]]
    return [*prefixes, *suffixes, *others]


class SearchEnglishAndKorean(SearchEnglish):
    """The search of English text with Korean words in it."""

    js_splitter_code = f"""
var particles = {json.dumps(PARTICLES, ensure_ascii=False)};
var nounAndParticle = new RegExp({json.dumps(NOUN_AND_PARTICLE, ensure_ascii=False)});
var splitQuery = (query) => query
    .normalize("NFC")
    .split(/[^\\p{{Letter}}\\p{{Number}}_\\p{{Emoji_Presentation}}]+/gu)
    .flatMap((word) => word.split(/([가-힣]+)/))
    .filter((word) => word)
    .filter((word, _, words) => words.length === 1 || !particles.includes(word))
    .map((word) => word.replace(nounAndParticle, "$1"));
"""

    def split(self, text: str) -> list[str]:
        words = super().split(unicodedata.normalize("NFC", text))
        pieces = [piece for word in words for piece in HANGUL.split(word) if piece]
        return [
            part for piece in pieces for part in (parts(piece) if HANGUL.match(piece) else [piece])
        ]


def setup(app):
    app.add_search_language(SearchEnglishAndKorean)
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}
