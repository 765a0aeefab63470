"""Tokens by byte-pair encoding: symbols between bytes and words, learned from a text.

Every text is a sequence of bytes, so no text is unknown. Bytes that often stand side by side
become one token.
"""

from __future__ import annotations

import heapq
import json
import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

from seqbook.validation import check_integer, check_symbols

__all__ = ["BytePairTokenizer", "DamagedTokenizerError", "pieces"]

_PIECE = re.compile(
    r"""
    \ ?[^\W\d_]{1,64}       # letters of any script, with the space before them
    | \ ?\d{1,64}           # digits, likewise
    | \ ?(?:[^\s\w]|_){1,64}  # other signs, likewise
    | \s{1,64}(?!\S)        # white space, without the last one before a sign
    | \s                    # that one, where it is no space
    """,
    re.VERBOSE,
)
_FORMAT = "seqbook byte pairs 1"


class DamagedTokenizerError(ValueError):
    """A description or file does not hold a tokenizer that this version can use.

    Example:
        >>> BytePairTokenizer.from_description({"format": "another"})
        Traceback (most recent call last):
        ...
        seqbook.data.byte_pairs.DamagedTokenizerError: format: expected 'seqbook byte pairs 1', ...
    """


def pieces(text: str) -> list[str]:
    r"""Cut a text into pieces that no token crosses.

    A piece is a run of letters, of digits, or of other signs, each with the space before it, or a
    run of white space without the space that belongs to the next piece. It has at most 64
    characters besides that space. The pieces joined are the text.

    The rule has two reasons. Without it a frequent word would be learned several times, once with
    each sign that follows it. And a word is counted and encoded once, however often it occurs; the
    greatest length bounds the time for a text without spaces.

    Source: Radford et al. (2019), section 2.2, for the idea. Unlike theirs, this rule knows no
    English contractions.

    Example:
        >>> pieces("It's 10 o'clock,  she said.\n")
        ['It', "'", 's', ' 10', ' o', "'", 'clock', ',', ' ', ' she', ' said', '.', '\n']
    """
    return _PIECE.findall(text)


class BytePairTokenizer:
    r"""A tokenizer for any bytes: 256 tokens of one byte, and pairs of tokens merged into one.

    Token i is byte i for i below 256. Token 256 + k is the pair ``merges[k]`` joined. To encode,
    each of the ``pieces`` of a text starts as its bytes. As long as it holds a pair of neighbours
    that is among the merges, the earliest such merge is applied to it, from left to right. To
    decode, the bytes of all tokens are joined.

    Args:
        merges: Pairs of token ids. Each may use only tokens before its own.

    Attributes:
        merges: The same, as a list of tuples.
        tokens: The bytes of each token, by its id.

    Raises:
        TypeError: A merge is not a pair of integers.
        ValueError: A merge uses a token that comes later, or two merges are the same.

    Source: Gage (1994); Sennrich, Haddow and Birch (2016), algorithm 1; Radford et al. (2019),
    section 2.2, for bytes.

    Example:
        >>> tokenizer = BytePairTokenizer.train("low lower lowest slow", 258)
        >>> tokenizer.tokens[256:]
        [b'lo', b'low']
        >>> ids = tokenizer.encode("low ☕")
        >>> ids
        array([257,  32, 226, 152, 149])
        >>> tokenizer.decode(ids)
        'low ☕'
    """

    def __init__(self, merges: Iterable[Sequence[int]] = ()):
        self.merges: list[tuple[int, int]] = []
        self.tokens = [bytes([byte]) for byte in range(256)]
        self._ids: dict[tuple[int, int], int] = {}
        self._cache: dict[str, list[int]] = {}
        for number, merge in enumerate(merges):
            name, size = f"merges[{number}]", len(self.tokens)
            if not isinstance(merge, Sequence) or isinstance(merge, str) or len(merge) != 2:
                raise TypeError(f"{name}: expected a pair of token ids, got {merge!r}")
            left, right = (check_integer(name, part, minimum=0, maximum=size - 1) for part in merge)
            if (left, right) in self._ids:
                raise ValueError(f"{name}: expected a new pair, got {(left, right)} again")
            self._ids[left, right] = size
            self.merges.append((left, right))
            self.tokens.append(self.tokens[left] + self.tokens[right])

    @classmethod
    def train(cls, text: str | bytes, size: int) -> BytePairTokenizer:
        """Learn the merges from a text: again and again, the most frequent pair of neighbours.

        Pairs are counted inside the ``pieces`` of the text, also where they overlap. Of pairs that
        are equally frequent, the one with the smallest ids is merged, first by the left id, then
        by the right one. So the result depends on the text alone. Counts are not computed again
        after a merge but updated in the pieces that hold it.

        Args:
            text: The text; bytes need not be UTF-8.
            size: Number of tokens, at least 256. There are fewer if no pair occurs twice any more.

        Raises:
            TypeError: The text is neither ``str`` nor ``bytes``.
            ValueError: ``size`` is below 256, or the text has half a surrogate pair.
        """
        size = check_integer("size", size, minimum=256)
        words = Counter(pieces(_as_text(text)))
        return cls(_learn([(_as_bytes(word), count) for word, count in words.items()], size - 256))

    def __len__(self) -> int:
        return len(self.tokens)

    def encode(self, text: str | bytes) -> np.ndarray:
        """Map a text to token ids.

        Args:
            text: The text; bytes need not be UTF-8.

        Shape:
            result: int64 ``(time,)``.

        Raises:
            TypeError: The text is neither ``str`` nor ``bytes``.
            ValueError: The text has half a surrogate pair, which no bytes stand for.
        """
        ids: list[int] = []
        for piece in pieces(_as_text(text)):
            if piece not in self._cache:
                if len(self._cache) >= 2**16:  # as many different words as a long text has
                    self._cache.clear()
                self._cache[piece] = self._encode_piece(_as_bytes(piece))
            ids += self._cache[piece]
        return np.array(ids, dtype=np.int64)

    def decode_bytes(self, ids: Iterable[int]) -> bytes:
        """Map token ids to the bytes that they stand for.

        Args:
            ids: Integers of any type, ``(time,)``.

        Raises:
            TypeError: The ids are not integers.
            ValueError: An id is not one of the tokenizer's, or the shape is not ``(time,)``.
        """
        array = ids if hasattr(ids, "__array__") else list(ids)
        return b"".join(self.tokens[i] for i in check_symbols("ids", array, size=len(self)))

    def decode(self, ids: Iterable[int]) -> str:
        """Map token ids to a text; bytes that are no UTF-8 become replacement characters.

        A token can end inside a character, so part of a text's tokens may decode to such
        replacements. ``decode_bytes`` gives all bytes back exactly.

        Args:
            ids: Integers of any type, ``(time,)``.

        Raises:
            TypeError: The ids are not integers.
            ValueError: An id is not one of the tokenizer's, or the shape is not ``(time,)``.
        """
        return self.decode_bytes(ids).decode("utf-8", errors="replace")

    def description(self) -> dict[str, Any]:
        """Describe the tokenizer by what JSON can hold, for the description of a model file.

        ``seqbook.models.storage.write_tensors`` and ``seqbook.training.checkpoints`` store it.

        Example:
            >>> BytePairTokenizer([(108, 111)]).description()
            {'format': 'seqbook byte pairs 1', 'merges': [[108, 111]]}
        """
        return {"format": _FORMAT, "merges": [list(merge) for merge in self.merges]}

    @classmethod
    def from_description(cls, description: Any) -> BytePairTokenizer:
        """Make the tokenizer of a ``description``.

        Raises:
            DamagedTokenizerError: It does not describe a tokenizer.
        """
        content = description if isinstance(description, dict) else {}
        if content.get("format") != _FORMAT:
            raise DamagedTokenizerError(
                f"format: expected {_FORMAT!r}, got {content.get('format')!r}"
            )
        if not isinstance(content.get("merges"), list):
            raise DamagedTokenizerError(
                f"merges: expected a list, got {type(content.get('merges')).__name__}"
            )
        try:
            return cls(content["merges"])
        except (TypeError, ValueError) as error:
            raise DamagedTokenizerError(str(error)) from error

    def save(self, path: Path | str) -> None:
        """Write the ``description`` as JSON.

        Raises:
            OSError: The file can't be written.
        """
        Path(path).write_text(json.dumps(self.description()) + "\n", encoding="ascii")

    @classmethod
    def load(cls, path: Path | str) -> BytePairTokenizer:
        """Read a tokenizer that ``save`` wrote; reading never runs code from the file.

        Raises:
            OSError: The file can't be read.
            DamagedTokenizerError: It does not hold a tokenizer.
        """
        try:
            description = json.loads(Path(path).read_bytes())
        except (ValueError, RecursionError) as error:
            raise DamagedTokenizerError(f"{path}: expected JSON, got invalid JSON") from error
        try:
            return cls.from_description(description)
        except DamagedTokenizerError as error:
            raise DamagedTokenizerError(f"{path}: {error}") from error

    def _encode_piece(self, piece: bytes) -> list[int]:
        word = list(piece)
        while len(word) > 1:
            merged = min(self._ids.get(pair, len(self)) for pair in pairwise(word))
            if merged == len(self):
                break
            word = _merge(word, self.merges[merged - 256], merged)
        return word


def _learn(words: list[tuple[bytes, int]], count: int) -> list[tuple[int, int]]:
    """Learn at most ``count`` merges from distinct words and how often each occurs."""
    parts = [list(word) for word, _ in words]
    frequencies: dict[tuple[int, int], int] = defaultdict(int)
    holders: dict[tuple[int, int], set[int]] = defaultdict(set)  # words that hold the pair
    for number, (word, (_, times)) in enumerate(zip(parts, words, strict=True)):
        for pair in pairwise(word):
            frequencies[pair] += times
            holders[pair].add(number)
    # Entries whose frequency has changed since are skipped: the pair has a newer entry.
    queue = [(-times, pair) for pair, times in frequencies.items()]
    heapq.heapify(queue)
    merges: list[tuple[int, int]] = []
    while queue and len(merges) < count:
        negative, best = heapq.heappop(queue)
        if -negative != frequencies.get(best, 0):
            continue
        if -negative < 2:
            break
        token = 256 + len(merges)
        merges.append(best)
        changed: set[tuple[int, int]] = set()
        for number in holders.pop(best):
            times = words[number][1]
            before, parts[number] = parts[number], _merge(parts[number], best, token)
            for pair in pairwise(before):
                frequencies[pair] -= times
            for pair in pairwise(parts[number]):
                frequencies[pair] += times
                holders[pair].add(number)
            changed.update(pairwise(before))
            changed.update(pairwise(parts[number]))
        for pair in changed:
            if frequencies[pair]:
                heapq.heappush(queue, (-frequencies[pair], pair))
            else:
                del frequencies[pair]
    return merges


def _merge(word: list[int], pair: tuple[int, int], token: int) -> list[int]:
    """Replace a pair of neighbours by one token, from left to right."""
    merged: list[int] = []
    i = 0
    while i < len(word):
        if word[i] == pair[0] and i + 1 < len(word) and word[i + 1] == pair[1]:
            merged.append(token)
            i += 2
        else:
            merged.append(word[i])
            i += 1
    return merged


def _as_text(text: str | bytes) -> str:
    if isinstance(text, str):
        return text
    if isinstance(text, bytes):
        return text.decode("utf-8", errors="surrogateescape")
    raise TypeError(f"text: expected str or bytes, got {type(text).__name__}")


def _as_bytes(piece: str) -> bytes:
    try:
        return piece.encode("utf-8", errors="surrogateescape")
    except UnicodeEncodeError as error:
        character = piece[error.start]
        raise ValueError(
            f"text: expected characters, got half a surrogate pair, {character!r}"
        ) from None
