"""The steps of the exercise on decoder-only models, with their reference answers and known mistakes."""

import math
from collections import Counter
from itertools import pairwise

import numpy as np
import torch
from torch import nn

from seqbook.layers.attention import (
    GroupedQueryAttention,
    KeysAndValues,
    KeyValueCache,
    causal_mask,
    scaled_dot_product_attention,
)
from seqbook.layers.rotary import RotaryPositions
from seqbook.models import metrics, sampling
from seqbook.models.decoder_only import DecoderOnlyModel
from stepgrader.exercises import solutions
from stepgrader.steps import CaseSampler, ModuleCase, Step, known_mistakes

rms_norm, rotate, grouped_attention, CachedAttention, DecoderLayer = solutions(
    __file__, "rms_norm", "rotate", "grouped_attention", "CachedAttention", "DecoderLayer"
)

# -- 1. learn_merge


def _draw_words(sampler: CaseSampler, letters: int, lengths) -> list[list[int]]:
    return [[97 + int(i) for i in sampler.integers(letters, n)] for n in lengths]


def _frequencies(words, counts, pairs=pairwise) -> Counter:
    found: Counter = Counter()
    for word, count in zip(words, counts, strict=True):
        for pair in pairs(word):
            found[pair] += count
    return found


def _apart(word):
    """Pairs of neighbors, of equal pairs only those that do not overlap."""
    taken: dict[tuple[int, int], int] = {}
    for i, pair in enumerate(pairwise(word)):
        if taken.get(pair, -2) < i - 1:
            taken[pair] = i
            yield pair


def _tied(found: Counter) -> list[tuple[int, int]]:
    """The most frequent pairs, in the order in which they occur."""
    return [pair for pair in found if found[pair] == max(found.values())]


def _wrong_counts(words, counts) -> list[Counter]:
    joined = [i for word, count in zip(words, counts, strict=True) for i in word * count]
    return [
        _frequencies(words, [1] * len(words)),
        Counter(pairwise(joined)),
        _frequencies(words, counts, lambda word: set(pairwise(word))),
        _frequencies(words, counts, lambda word: zip(word[::2], word[1::2], strict=False)),
    ]


def _pieces(sampler: CaseSampler) -> dict:
    """One pair is the most frequent, but not if it is counted in a wrong way."""
    while True:
        lengths = sampler.random.permutation([2, 3, 4, 5, 5, 4][: 4 + sampler.size // 2])
        words = _draw_words(sampler, 3, lengths)
        counts = [int(n) for n in sampler.random.permutation(9)[: len(words)] + 1]
        found = _frequencies(words, counts)
        best = _tied(found)
        wrong = [_tied(each)[0] for each in _wrong_counts(words, counts)]
        if len(best) == 1 and best[0] not in wrong and found == _frequencies(words, counts, _apart):
            return {"words": words, "counts": counts, "new": 256 + sampler.size}


def _ties(sampler: CaseSampler) -> dict:
    """Equally frequent pairs, of which each wrong rule takes another one."""
    while True:
        words = _draw_words(sampler, 4, [2, 2, 2, 2] + [3] * sampler.size)
        counts = [3, 3, 3, 3] + [1] * sampler.size
        tied = _tied(_frequencies(words, counts))
        wrong = {tied[0], max(tied), min(tied, key=lambda pair: pair[::-1])}
        if len(wrong) == 3 and min(tied) not in wrong:
            return {"words": words, "counts": counts, "new": 256 + sampler.size}


def _runs(sampler: CaseSampler) -> dict:
    """A run of one id is most frequent, but not if equal pairs may not overlap."""
    while True:
        run = [97] * (3 + 2 * (sampler.size > 1))
        others = _draw_words(sampler, 3, [3, 4][: 1 + sampler.size // 2])
        words = [others[0], [98, *run], run, *others[1:]]
        counts = [int(n) for n in 1 + sampler.integers(4, len(words))]
        found = _frequencies(words, counts)
        apart = _tied(_frequencies(words, counts, _apart))
        if _tied(found) == [(97, 97)] and (97, 97) not in apart:
            return {"words": words, "counts": counts, "new": 300 + sampler.size}


def _short_pieces(sampler: CaseSampler) -> dict:
    drawn = _pieces(sampler)
    return drawn | {"words": [[99], *drawn["words"]], "counts": [9, *drawn["counts"]]}


def _learn_reference(words, counts, new):
    """As texts: a pair is two characters, which Python finds and replaces."""
    texts = ["".join(map(chr, word)) for word in words]
    pairs = sorted({text[i : i + 2] for text in texts for i in range(len(text) - 1)})

    def frequency(pair):
        return sum(
            count * text.startswith(pair, i)
            for text, count in zip(texts, counts, strict=True)
            for i in range(len(text))
        )

    best = max(pairs, key=frequency)  # the first of the most frequent ones
    replaced = [text.replace(best, chr(new)) for text in texts]
    return np.array([*map(ord, best)]), [np.array([*map(ord, text)]) for text in replaced]


def _learn_with_indices(words, counts, new):
    totals = {}
    for word, count in zip(words, counts, strict=True):
        for i in range(len(word) - 1):
            pair = word[i], word[i + 1]
            totals[pair] = totals.get(pair, 0) + count
    most = max(totals.values())
    best = sorted(pair for pair in totals if totals[pair] == most)[0]
    result = []
    for word in words:
        merged, i = [], 0
        while i < len(word):
            if tuple(word[i : i + 2]) == best:
                merged.append(new)
                i += 2
            else:
                merged.append(word[i])
                i += 1
        result.append(merged)
    print("merged", best)
    return [list(best), result]


def _learn_on_copies(words, counts, new):
    weighted = Counter()
    for word, count in zip(words, counts, strict=True):
        weighted.update(count * [*pairwise(word)])
    (pair, _), *_ = sorted(weighted.items(), key=lambda item: (-item[1], item[0]))
    words = [list(word) for word in words]
    for word in words:
        i = 0
        while i < len(word) - 1:
            if (word[i], word[i + 1]) == pair:
                word[i : i + 2] = [new]
            i += 1
    return pair, words


def _learn_across_pieces(words, counts, new):
    text = [i for word, count in zip(words, counts, strict=True) for i in word * count]
    found = Counter(pairwise(text))
    best = min(found, key=lambda pair: (-found[pair], pair))
    old = "".join(map(chr, best))
    texts = ["".join(map(chr, word)).replace(old, chr(new)) for word in words]
    return best, [[*map(ord, text)] for text in texts]


def _learn_without_overlaps(words, counts, new):
    found = Counter()
    for word, count in zip(words, counts, strict=True):
        text = "".join(map(chr, word))
        for pair in {*pairwise(text)}:
            found["".join(pair)] += count * text.count("".join(pair))
    best = min(found, key=lambda pair: (-found[pair], pair))
    texts = ["".join(map(chr, word)).replace(best, chr(new)) for word in words]
    return [*map(ord, best)], [[*map(ord, text)] for text in texts]


def _learn_the_leftmost_only(words, counts, new):
    found = Counter()
    for word, count in zip(words, counts, strict=True):
        for pair in pairwise(word):
            found[pair] += count
    best = min(found, key=lambda pair: (-found[pair], pair))
    old = "".join(map(chr, best))
    texts = ["".join(map(chr, word)).replace(old, chr(new), 1) for word in words]
    return best, [[*map(ord, text)] for text in texts]


def _learn_without_the_last_id(words, counts, new):
    found = Counter()
    for word, count in zip(words, counts, strict=True):
        for pair in pairwise(word):
            found[pair] += count
    best = min(found, key=lambda pair: (-found[pair], pair))
    result = []
    for word in words:
        merged, i = [], 0
        while i < len(word) - 1:
            is_pair = (word[i], word[i + 1]) == best
            merged.append(new if is_pair else word[i])
            i += 1 + is_pair
        result.append(merged)
    return best, result


def _learn_in_place(words, counts, new):
    found = Counter()
    for word, count in zip(words, counts, strict=True):
        for pair in pairwise(word):
            found[pair] += count
    best = min(found, key=lambda pair: (-found[pair], pair))
    for word in words:
        i = 0
        while i < len(word) - 1:
            if (word[i], word[i + 1]) == best:
                word[i : i + 2] = [new]
            i += 1
    return best, words


# -- 2. encode and 3. decode


def _apply(data, merges) -> list[int]:
    """Ids of some bytes: each merge replaces two characters of a text."""
    text = "".join(map(chr, data))
    for new, (left, right) in enumerate(merges, 256):
        text = text.replace(chr(left) + chr(right), chr(new))
    return [*map(ord, text)]


def _encode_by_longest(data, merges):
    tokens = [bytes([byte]) for byte in range(256)]
    for left, right in merges:
        tokens.append(tokens[left] + tokens[right])
    rest, ids = bytes(data), []
    while rest:
        fitting = [i for i, token in enumerate(tokens) if rest.startswith(token)]
        ids.append(max(fitting, key=lambda i: len(tokens[i])))
        rest = rest[len(tokens[ids[-1]]) :]
    return ids


def _encode_at_one_place(data, merges):
    word = list(data)
    for new, pair in enumerate(merges, 256):
        pairs = [*pairwise(word)]
        if pair in pairs:
            at = pairs.index(pair)
            word[at : at + 2] = [new]
    return word


def _encode_in_one_pass(data, merges):
    ranks = {pair: rank for rank, pair in enumerate(merges)}
    word = []
    for i in data:
        if word and (word[-1], i) in ranks:
            word[-1] = 256 + ranks[word[-1], i]
        else:
            word.append(i)
    return word


def _encode_from_the_last_merge(data, merges):
    text = "".join(map(chr, data))
    for number in range(len(merges))[::-1]:
        text = text.replace("".join(map(chr, merges[number])), chr(256 + number))
    return [*map(ord, text)]


MERGES = ("bc", "ab", "bd", "ef", "fg", "e fg", "h fg")
PARTS = ("abc", "efg", "abd", "hfg", "bd", "bc", "bd")
"""In each, another wrong order of the merges shows. No pair reaches from one into the next."""


def _to_encode(sampler: CaseSampler) -> dict:
    letters = dict(zip("abcdefgh", 97 + sampler.random.permutation(8), strict=True))
    merges, tokens = [], {letter: int(i) for letter, i in letters.items()}
    for merge in MERGES[: 7 if sampler.size else 6]:
        left, right = merge.split() if " " in merge else merge
        tokens[left + right] = 256 + len(merges)
        merges.append((tokens[left], tokens[right]))
    chosen = [*PARTS, *PARTS[: sampler.size - 1]] if sampler.size else PARTS[:2]
    parts = sampler.random.permutation(chosen)
    return {"data": [tokens[letter] for letter in "".join(parts)], "merges": merges}


def _same_letter(sampler: CaseSampler) -> dict:
    data = [97] * (7 + 4 * (sampler.size % 3)) + [98] * (sampler.size > 1)
    return {"data": data, "merges": [(97, 97), (256, 256)]}


def _other_bytes(sampler: CaseSampler) -> dict:
    data = [int(byte) for byte in 128 + sampler.integers(128, 4 + sampler.size)]
    return _to_encode(sampler) | {"data": [0, *data]}


def _encode_reference(data, merges):
    return np.array(_apply(data, merges), dtype=int)


def _encode_in_order(data, merges):
    """Apply every merge once, in the order in which they were learned."""
    word = list(data)
    for new, pair in enumerate(merges, 256):
        merged = []
        for i in word:
            if merged and (merged[-1], i) == tuple(pair):
                merged[-1] = new
            else:
                merged.append(i)
        word = merged
    return word


def _encode_recursively(data, merges):
    ranks = {(left, right): rank for rank, (left, right) in enumerate(merges)}

    def shorten(word):
        found = [
            (ranks[word[i], word[i + 1]], i)
            for i in range(len(word) - 1)
            if (word[i], word[i + 1]) in ranks
        ]
        if not found:
            return word
        rank, i = min(found)
        return shorten((*word[:i], 256 + rank, *word[i + 2 :]))

    print("bytes", len(data))
    return torch.tensor(shorten(tuple(data)), dtype=torch.int64)


SYLLABLES = "가나다라마한글앨리스"


def _hangul(sampler: CaseSampler, count: int) -> list[int]:
    text = "".join(SYLLABLES[int(i)] for i in sampler.random.permutation(len(SYLLABLES))[:count])
    return [*text.encode()]


def _to_decode(sampler: CaseSampler) -> dict:
    drawn = _to_encode(sampler)
    return {"ids": _apply(drawn["data"], drawn["merges"]), "merges": drawn["merges"]}


def _across_characters(sampler: CaseSampler) -> dict:
    """Tokens that hold the end of one character and the start of the next."""
    data = _hangul(sampler, 3 + sampler.size)
    borders = [(data[i - 1], data[i]) for i in range(3, len(data), 3)]
    merges = [*borders[:1], (data[1], 256), *borders[1:2]]
    ids = _apply(data, merges)
    return {"ids": [97, *ids, 98], "merges": merges}


def _half_characters(sampler: CaseSampler) -> dict:
    """Ids that begin inside a character and end inside another one."""
    drawn = _across_characters(sampler)
    return drawn | {"ids": [*drawn["ids"][2:-2], 98]}


def _no_text(sampler: CaseSampler) -> dict:
    drawn = _across_characters(sampler)
    ids = [255, 97, *(int(byte) for byte in 192 + sampler.integers(64, 2 + sampler.size)), 256, 128]
    return drawn | {"ids": ids}


def _decode_reference(ids, merges):
    """From the last merge to the first, each token becomes its two parts again."""
    text = "".join(map(chr, ids))
    for token, pair in reversed([*enumerate(merges, 256)]):
        text = text.replace(chr(token), chr(pair[0]) + chr(pair[1]))
    data = text.encode("latin-1")
    return np.array([*data], dtype=int), str(data, "utf-8", "replace")


def _decode_recursively(ids, merges):
    def expand(i):
        if i < 256:
            return [i]
        left, right = merges[i - 256]
        return expand(left) + expand(right)

    data = [byte for i in ids for byte in expand(i)]
    print("bytes", data)
    return [data, bytes(data).decode(errors="replace")]


def _decode_with_a_stack(ids, merges):
    data, waiting = bytearray(), [int(i) for i in ids][::-1]
    while waiting:
        i = waiting.pop()
        if i < 256:
            data.append(i)
        else:
            waiting.extend(reversed(merges[i - 256]))
    return torch.tensor([*data], dtype=torch.uint8), data.decode("utf-8", "replace")


# -- 4. rms_norm


def _to_norm(sampler: CaseSampler, *leading: int) -> dict:
    width = 3 + sampler.size
    return {
        "x": sampler.normal(*leading, width) + 0.5,
        "weight": sampler.normal(width),
        "epsilon": float(sampler.random.choice([0.1, 0.2, 0.5])),
    }


def _zero_position(sampler: CaseSampler) -> dict:
    drawn = _to_norm(sampler, 2 + sampler.size)
    drawn["x"][1] = 0.0
    return drawn


def _norm_reference(x, weight, epsilon):
    return nn.functional.rms_norm(x, weight.shape, weight, epsilon)


def _norm_by_length(x, weight, epsilon):
    length = torch.linalg.vector_norm(x, dim=-1, keepdim=True)
    width = x.shape[-1]
    return weight * x * width**0.5 * torch.rsqrt(length**2 + width * epsilon)


def _norm_in_single_precision(x, weight, epsilon):
    x, weight = x.float(), weight.float()
    mean_square = torch.einsum("...i,...i->...", x, x) / len(weight)
    return x / torch.sqrt(mean_square + epsilon)[..., None] * weight


def _norm_position_by_position(x, weight, epsilon):
    rows = [
        row * weight / (sum(number**2 for number in row) / len(row) + epsilon) ** 0.5
        for row in x.reshape(-1, len(weight))
    ]
    print("positions", len(rows))
    return torch.stack(rows).reshape(x.shape)


# -- 5. rotate


def _to_rotate(sampler: CaseSampler, *leading: int, start: bool = False) -> dict:
    return {
        "x": sampler.normal(*leading, 3 + sampler.size % 3, 4 + 2 * (sampler.size // 2)),
        "base": float(sampler.random.choice([10, 100, 1000])),
        "start": int(sampler.random.integers(2, 9)) if start else 0,
    }


def _heads_to_rotate(sampler: CaseSampler) -> dict:
    return _to_rotate(sampler, 2, 2 + sampler.size) | {"start": 7 + sampler.size}


def _one_pair(sampler: CaseSampler) -> dict:
    drawn = _to_rotate(sampler, start=True)
    return drawn | {"x": sampler.normal(2 + sampler.size, 2)}


def _rotate_reference(x, base, start):
    return RotaryPositions(x.shape[-1], base=base)(x, start=start)


def _rotate_as_complex_numbers(x, base, start):
    half = x.shape[-1] // 2
    exponents = torch.arange(half, dtype=torch.float64) / half
    positions = torch.arange(start, start + x.shape[-2], dtype=torch.float64)
    angles = torch.outer(positions, 1 / base**exponents)
    first, second = x.split(half, dim=-1)
    turned = torch.complex(first, second) * torch.polar(torch.ones_like(angles), angles)
    return torch.cat((turned.real, turned.imag), -1)


def _rotate_in_single_precision(x, base, start):
    """With the function rotate_half of the transformers library."""
    x, size = x.float(), x.shape[-1]
    inverse = 1.0 / (base ** (torch.arange(0, size, 2).float() / size))
    angles = torch.outer(torch.arange(start, start + x.shape[-2]).float(), inverse)
    angles = torch.cat([angles, angles], -1)
    half = torch.cat([-x[..., size // 2 :], x[..., : size // 2]], -1)
    return x * angles.cos() + half * angles.sin()


def _rotate_by_matrices(x, base, start):
    size, rows = x.shape[-1], []
    for r in range(x.shape[-2]):
        matrix = torch.eye(size, dtype=x.dtype)
        for i in range(size // 2):
            angle = (start + r) * base ** (-2 * i / size)
            matrix[i, i] = matrix[i + size // 2, i + size // 2] = math.cos(angle)
            matrix[i, i + size // 2] = -math.sin(angle)
            matrix[i + size // 2, i] = math.sin(angle)
        rows.append(x[..., r, :] @ matrix.T)
    print("turned", len(rows), "positions")
    return torch.stack(rows, -2)


# -- 6. grouped_attention


def _to_attend(sampler: CaseSampler, heads: int, kv_heads: int, new: int, past: int) -> dict:
    batch, size = (1, 2) if sampler.size == 0 else (2, 2 + sampler.size // 2)
    kept = batch, kv_heads, past + new, size
    return {
        "query": sampler.normal(batch, heads, new, size),
        "keys": sampler.normal(*kept),
        "values": sampler.normal(*kept),
    }


def _attend_reference(query, keys, values):
    """One head after the other, with the package's attention."""
    heads, kv_heads = query.shape[1], keys.shape[1]
    mask = causal_mask(query.shape[2], keys.shape[2])
    found = [
        scaled_dot_product_attention(
            query[:, head],
            keys[:, head * kv_heads // heads],
            values[:, head * kv_heads // heads],
            mask=mask,
        ).output
        for head in range(heads)
    ]
    return torch.stack(found, 1)


def _attend_by_torch(query, keys, values):
    position = torch.arange(keys.shape[2])
    mask = position <= position[-query.shape[2] :, None]
    return nn.functional.scaled_dot_product_attention(
        query, keys, values, attn_mask=mask, enable_gqa=True
    )


def _attend_by_groups_in_single_precision(query, keys, values):
    query, keys, values = query.float(), keys.float(), values.float()
    grouped = query.unflatten(1, (keys.shape[1], -1))
    scores = torch.einsum("bghqs,bgks->bghqk", grouped, keys) / query.shape[-1] ** 0.5
    new, time = scores.shape[-2:]
    scores = scores + torch.full((new, time), -math.inf).triu(time - new + 1)
    return torch.einsum("bghqk,bgks->bghqs", scores.softmax(-1), values).flatten(1, 2)


def _attend_query_by_query(query, keys, values):
    sharing = query.shape[1] // keys.shape[1]
    past = keys.shape[2] - query.shape[2]
    outputs = torch.zeros_like(query)
    for head in range(query.shape[1]):
        for i in range(query.shape[2]):
            seen = past + i + 1
            key, value = keys[:, head // sharing, :seen], values[:, head // sharing, :seen]
            scores = torch.einsum("bs,bks->bk", query[:, head, i], key)
            powers = torch.exp(scores / math.sqrt(query.shape[-1]))
            weights = powers / powers.sum(1, keepdim=True)
            outputs[:, head, i] = torch.einsum("bk,bks->bs", weights, value)
    return outputs


# -- 7. CachedAttention


def _linear(sampler: CaseSampler, name: str, rows: int, columns: int) -> dict:
    return {f"{name}.weight": sampler.normal(rows, columns) / 2}


def _attention_state(sampler: CaseSampler, width: int, kept: int, prefix: str = "") -> dict:
    return {
        **_linear(sampler, f"{prefix}q_proj", width, width),
        **_linear(sampler, f"{prefix}k_proj", kept, width),
        **_linear(sampler, f"{prefix}v_proj", kept, width),
        **_linear(sampler, f"{prefix}o_proj", width, width),
    }


def _stream(
    sampler: CaseSampler, new: int, past: int, heads: int, kv_heads: int, size: int
) -> dict:
    batch = 1 if sampler.size == 0 else 2
    return {
        "x": sampler.normal(batch, new, heads * size),
        "keys": sampler.normal(batch, kv_heads, past, size),
        "values": sampler.normal(batch, kv_heads, past, size),
    }


def _cached(
    sampler: CaseSampler, new: int, past: int, heads: int = 2, kv_heads: int = 1, size: int = 4
) -> ModuleCase:
    width = heads * size
    return ModuleCase(
        inputs=_stream(sampler, new, past, heads, kv_heads, size),
        options={
            "width": width,
            "heads": heads,
            "kv_heads": kv_heads,
            "base": float(sampler.random.choice([10, 100])),
        },
        state=_attention_state(sampler, width, kv_heads * size),
    )


def _nothing_past(sampler: CaseSampler) -> ModuleCase:
    return _cached(sampler, 3 + sampler.size // 2, 0)


def _one_new(sampler: CaseSampler) -> ModuleCase:
    return _cached(sampler, 1, 2 + sampler.size)


def _several_new(sampler: CaseSampler) -> ModuleCase:
    return _cached(sampler, 2 + sampler.size // 2, 2 + sampler.size % 2)


class _CachedReference(GroupedQueryAttention):
    """The package's layer, with the cache put before what it projects."""

    def __init__(self, width, heads, groups, base):
        rotary = RotaryPositions(width // heads, base=base)
        super().__init__(width, heads, kv_heads=groups, rotary=rotary)

    def forward(self, x, keys, values):
        query, new = self.project(x, start=keys.shape[2])
        everything = KeysAndValues(
            torch.cat([keys, new.keys], 2), torch.cat([values, new.values], 2)
        )
        mask = causal_mask(x.shape[1], everything.keys.shape[2])
        return self.attend(query, everything, mask=mask), *everything


class _CachedOneByOne(nn.Module):
    """One new position after the other."""

    def __init__(self, width, heads, groups, base):
        super().__init__()
        self.heads, self.groups, self.base = heads, groups, base
        size = width // heads
        self.q_proj = nn.Linear(width, width, bias=False)
        self.k_proj = nn.Linear(width, groups * size, bias=False)
        self.v_proj = nn.Linear(width, groups * size, bias=False)
        self.o_proj = nn.Linear(width, width, bias=False)

    def forward(self, x, keys, values):
        outputs = []
        for one in x.split(1, dim=1):
            place, batch = keys.shape[2], len(x)
            query = self.q_proj(one).reshape(batch, self.heads, 1, -1)
            key = self.k_proj(one).reshape(batch, self.groups, 1, -1)
            value = self.v_proj(one).reshape(batch, self.groups, 1, -1)
            keys = torch.cat((keys, rotate(key, self.base, place)), 2)
            values = torch.cat((values, value), 2)
            found = grouped_attention(rotate(query, self.base, place), keys, values)
            outputs.append(self.o_proj(found.reshape(batch, 1, -1)))
        return [torch.cat(outputs, 1), keys, values]


class _CachedByTorch(nn.Module):
    """Rotated together, cut apart afterwards, with torch's own attention."""

    def __init__(self, width, heads, groups, base):
        super().__init__()
        self.sizes, self.base = (heads, groups, groups), base
        kept = width // heads * groups
        self.q_proj = nn.Linear(width, width, False)
        self.k_proj = nn.Linear(width, kept, False)
        self.v_proj = nn.Linear(width, kept, False)
        self.o_proj = nn.Linear(width, width, False)

    def forward(self, x, keys, values):
        weights = [part.weight for part in (self.q_proj, self.k_proj, self.v_proj)]
        heads = (x @ torch.cat(weights).T).unflatten(-1, (sum(self.sizes), -1))
        query, key, value = heads.transpose(1, 2).split(self.sizes, dim=1)
        query, key = (rotate(part, self.base, keys.shape[2]) for part in (query, key))
        keys, values = torch.cat([keys, key], 2), torch.cat([values, value], 2)
        place = torch.arange(keys.shape[2])
        mask = place[None] <= place[-x.shape[1] :, None]
        found = nn.functional.scaled_dot_product_attention(
            query, keys, values, attn_mask=mask, enable_gqa=True
        )
        return self.o_proj(torch.cat(found.unbind(1), -1)), keys, values


# -- 8. DecoderLayer


def _clear_of_zero(sampler: CaseSampler, *shape: int) -> torch.Tensor:
    """Features that are not all near zero, where a norm would enlarge errors of rounding."""
    drawn = sampler.normal(*shape)
    return drawn + torch.where(drawn < 0, -0.5, 0.5)


def _layer_state(
    sampler: CaseSampler, width: int, kept: int, hidden: int, prefix: str = ""
) -> dict:
    return {
        f"{prefix}norm1": sampler.normal(width),
        f"{prefix}norm2": sampler.normal(width),
        **_attention_state(sampler, width, kept, f"{prefix}attention."),
        f"{prefix}attention.o_proj.weight": sampler.normal(width, width) / 4,
        **_linear(sampler, f"{prefix}gate_proj", hidden, width),
        **_linear(sampler, f"{prefix}up_proj", hidden, width),
        f"{prefix}down_proj.weight": sampler.normal(width, hidden) / 4,
    }


def _layer(sampler: CaseSampler, new: int, past: int) -> ModuleCase:
    heads, kv_heads, size, hidden = 2, 1, 2 + 2 * (sampler.size // 2), 3 + sampler.size
    width = heads * size
    inputs = _stream(sampler, new, past, heads, kv_heads, size)
    return ModuleCase(
        inputs=inputs | {"x": _clear_of_zero(sampler, *inputs["x"].shape)},
        options={
            "width": width,
            "heads": heads,
            "kv_heads": kv_heads,
            "hidden": hidden,
            "base": 10.0,
        },
        state=_layer_state(sampler, width, kv_heads * size, hidden),
    )


class _LayerReference(nn.Module):
    """With the package's attention, torch's norm, and the network written out."""

    def __init__(self, width, heads, groups, hidden, base):
        super().__init__()
        self.norm1 = nn.Parameter(torch.ones(width))
        self.norm2 = nn.Parameter(torch.ones(width))
        self.attention = _CachedReference(width, heads, groups, base)
        self.gate_proj = nn.Linear(width, hidden, bias=False)
        self.up_proj = nn.Linear(width, hidden, bias=False)
        self.down_proj = nn.Linear(hidden, width, bias=False)

    def forward(self, x, keys, values):
        read = nn.functional.rms_norm(x, self.norm1.shape, self.norm1, 1e-5)
        attended, keys, values = self.attention(read, keys, values)
        stream = x + attended
        read = nn.functional.rms_norm(stream, self.norm2.shape, self.norm2, 1e-5)
        gate = torch.einsum("btw,hw->bth", read, self.gate_proj.weight)
        hidden = gate / (1 + torch.exp(-gate)) * (read @ self.up_proj.weight.T)
        added = torch.einsum("bth,wh->btw", hidden, self.down_proj.weight)
        return stream + added, keys, values


class _LayerInTwoParts(nn.Module):
    def __init__(self, width, heads, groups, hidden, base):
        super().__init__()
        self.norm1 = nn.Parameter(torch.ones(width))
        self.norm2 = nn.Parameter(torch.ones(width))
        self.attention = CachedAttention(width, heads, groups, base)
        self.gate_proj = nn.Linear(width, hidden, bias=False)
        self.up_proj = nn.Linear(width, hidden, bias=False)
        self.down_proj = nn.Linear(hidden, width, bias=False)

    def network(self, x):
        x = rms_norm(x, self.norm2, 1e-5)
        gate = self.gate_proj(x)
        return self.down_proj(self.up_proj(x) * gate * gate.sigmoid())

    def forward(self, x, keys, values):
        added, *cache = self.attention(rms_norm(x, self.norm1, 1e-5), keys, values)
        x = torch.add(x, added)
        return [x + self.network(x), *cache]


class _LayerInPlace(nn.Module):
    def __init__(self, width, heads, groups, hidden, base):
        super().__init__()
        self.norm1 = nn.Parameter(torch.ones(width))
        self.norm2 = nn.Parameter(torch.ones(width))
        self.attention = CachedAttention(width, heads, groups, base)
        self.gate_proj = nn.Linear(width, hidden, bias=False)
        self.up_proj = nn.Linear(width, hidden, bias=False)
        self.down_proj = nn.Linear(hidden, width, bias=False)
        self.act = nn.SiLU()

    def forward(self, x, keys, values):
        residual = x
        x = nn.functional.rms_norm(x, (x.shape[-1],), self.norm1, 1e-5)
        x, keys, values = self.attention(x, keys, values)
        x += residual
        residual = x
        x = nn.functional.rms_norm(x, (x.shape[-1],), self.norm2, 1e-5)
        both = nn.functional.linear(x, torch.cat([self.gate_proj.weight, self.up_proj.weight]))
        gate, up = both.chunk(2, -1)
        return residual + self.down_proj(self.act(gate) * up), keys, values


# -- 9. DecoderOnly


def _model(sampler: CaseSampler, new: int, past: int) -> ModuleCase:
    batch, layers, heads, kv_heads, size = 1 if sampler.size == 0 else 2, 2, 2, 1, 2
    symbols, width, hidden = 5 + sampler.size, heads * size, 3
    state = {"embedding.weight": _clear_of_zero(sampler, symbols, width)}
    for number in range(layers):
        state |= _layer_state(sampler, width, kv_heads * size, hidden, f"layers.{number}.")
    return ModuleCase(
        inputs={
            "ids": torch.from_numpy(sampler.integers(symbols, batch, new)),
            "keys": sampler.normal(layers, batch, kv_heads, past, size),
            "values": sampler.normal(layers, batch, kv_heads, past, size),
        },
        options={
            "symbols": symbols,
            "width": width,
            "layers": layers,
            "heads": heads,
            "kv_heads": kv_heads,
            "hidden": hidden,
        },
        state=state | {"norm": sampler.normal(width)},
    )


class _Renamed(nn.Module):
    """The parameters of a layer of the package, under the names of the exercise."""

    def __init__(self, layer):
        super().__init__()
        self.norm1 = layer.input_layernorm.weight
        self.norm2 = layer.post_attention_layernorm.weight
        self.attention = layer.self_attn
        self.gate_proj, self.up_proj = layer.mlp.gate_proj, layer.mlp.up_proj
        self.down_proj = layer.mlp.down_proj


class _ModelReference(nn.Module):
    """The package's model and its caches."""

    def __init__(self, symbols, width, layers, heads, groups, hidden):
        super().__init__()
        sizes = {"layers": layers, "heads": heads, "kv_heads": groups}
        model = DecoderOnlyModel(symbols, width, **sizes, d_ff=hidden, max_length=8)
        self.embedding, self.norm = model.embed_tokens, model.norm.weight
        self.layers = nn.ModuleList(map(_Renamed, model.layers))
        self.read = lambda ids, caches: model.step(ids, caches)

    def forward(self, ids, keys, values):
        caches = [KeyValueCache.of(KeysAndValues(*each)) for each in zip(keys, values, strict=True)]
        logits, caches = self.read(ids, caches)
        keys, values = zip(*(cache.contents() for cache in caches), strict=True)
        return logits, torch.stack(keys), torch.stack(values)


class _ModelByUnbind(nn.Module):
    def __init__(self, symbols, width, layers, heads, groups, hidden):
        super().__init__()
        self.embedding = nn.Embedding(symbols, width)
        self.layers = nn.ModuleList()
        for _ in range(layers):
            self.layers.append(DecoderLayer(width, heads, groups, hidden, 10_000.0))
        self.norm = nn.Parameter(torch.ones(width))

    def forward(self, ids, keys, values):
        x, caches = self.embedding.weight[ids], []
        for layer, *cache in zip(self.layers, keys.unbind(), values.unbind(), strict=True):
            x, *cache = layer(x, *cache)
            caches.append(cache)
        keys, values = map(torch.stack, zip(*caches, strict=True))
        x = rms_norm(x, self.norm, 1e-5)
        print("read", tuple(ids.shape))
        return [nn.functional.linear(x, self.embedding.weight), keys, values]


class _ModelWithOneHot(nn.Module):
    def __init__(self, symbols, width, layers, heads, groups, hidden):
        super().__init__()
        self.embedding = nn.Embedding(symbols, width)
        layer = [DecoderLayer(width, heads, groups, hidden, 10_000.0) for _ in range(layers)]
        self.layers = nn.Sequential(*layer)
        self.norm = nn.Parameter(torch.ones(width))

    def forward(self, ids, keys, values):
        table = self.embedding.weight
        stream = nn.functional.one_hot(ids, len(table)).to(table.dtype) @ table
        new_keys, new_values = [], []
        for i in range(len(self.layers)):
            stream, key, value = self.layers[i](stream, keys[i], values[i])
            new_keys.append(key[None])
            new_values.append(value[None])
        stream = nn.functional.rms_norm(stream, self.norm.shape, self.norm, 1e-5)
        logits = torch.einsum("btw,vw->btv", stream, table)
        return logits, torch.cat(new_keys), torch.cat(new_values)


# -- 10. bits_per_byte


def _to_score(sampler: CaseSampler, *, rows: int | None = None) -> dict:
    batch, time, symbols = rows or 2 + sampler.size // 2, 2 + sampler.size, 4 + sampler.size
    sizes = sampler.random.permutation(symbols) + 1
    ids = sampler.integers(symbols, batch, time + 1)
    ids[0, 0] = sizes.argmax()  # the longest token is not predicted
    ids[:, 1] = (ids[:, 0] + 1) % symbols
    return {
        "logits": sampler.normal(batch, time, symbols),
        "ids": torch.from_numpy(ids),
        "sizes": torch.from_numpy(sizes),
    }


def _score_huge(sampler: CaseSampler) -> dict:
    drawn = _to_score(sampler)
    logits, wanted = drawn["logits"], drawn["ids"][:, 1:]
    sure = (wanted + 1) % logits.shape[-1]  # sure of another symbol than the one that came
    return drawn | {"logits": logits.scatter(-1, sure[..., None], 2000.0)}


def _score_reference(logits, ids, sizes):
    wanted = ids[:, 1:]
    loss = nn.functional.cross_entropy(logits.flatten(0, 1), wanted.flatten())
    text = bytes(sum(int(sizes[i]) for i in wanted.flatten()))
    return metrics.bits_per_byte(loss, wanted.numel(), text)


def _score_symbol_by_symbol(logits, ids, sizes):
    bits, size = 0.0, 0
    for row, text in zip(logits, ids.tolist(), strict=True):
        for scores, i in zip(row, text[1:], strict=True):
            bits = bits + (scores.logsumexp(0) - scores[i]) / math.log(2)
            size += sizes[i].item()
    print("bytes", size)
    return bits / size


def _score_in_single_precision(logits, ids, sizes):
    wanted = ids[..., 1:, None]
    logits = logits.float()
    nats = logits.logsumexp(-1, keepdim=True) - torch.take_along_dim(logits, wanted, -1)
    lengths = sizes.float()[wanted]
    return nats.mean() / lengths.mean() * math.log2(math.e)


def _score_with_a_loss_layer(logits, ids, sizes):
    loss = nn.CrossEntropyLoss(reduction="sum")(logits.transpose(1, 2), ids[:, 1:])
    number = torch.bincount(ids[:, 1:].flatten(), minlength=len(sizes))
    return (loss / (math.log(2) * (number @ sizes))).reshape(())


# -- 11. sampling_distribution


def _clear(probabilities: np.ndarray, top_p: float) -> bool:
    """Whether rounding can't decide which symbols stay."""
    together = np.sort(probabilities, axis=-1)[..., ::-1].cumsum(-1)
    return bool((np.abs(together - top_p) > 0.02).all())


ALL = 0.999  # keeps every symbol; with 1, rounding would decide what some wrong answers keep


def _to_sample(sampler: CaseSampler, *, k: bool = False, p: bool = False) -> dict:
    """Without ties; top-p keeps two symbols or more and drops some, or it keeps all."""
    batch, symbols = 2 + sampler.size // 2, 5 + sampler.size
    while True:
        logits = np.stack([sampler.random.permutation(21)[:symbols] for _ in range(batch)])
        drawn = {
            "logits": torch.from_numpy((logits - 10) / 5),
            "temperature": float(sampler.random.choice([0.8, 1.25, 2.0])),
            "top_k": int(sampler.random.integers(3, symbols)) if k else symbols,
            "top_p": float(sampler.random.choice([0.6, 0.7, 0.8])) if p else ALL,
        }
        plain = {name: drawn[name] for name in ("logits", "temperature", "top_k")}
        before = sampling.sampling_distribution(**plain).numpy()
        kept = (sampling.sampling_distribution(**drawn).numpy() > 0).sum(-1)
        drops = kept < (before > 0).sum(-1)
        if p and drops.all() and (kept > 1).all() and _clear(before, drawn["top_p"]):
            return drawn
        if not p and before[before > 0].min() > 0.003:
            return drawn


def _all_three(sampler: CaseSampler) -> dict:
    """Where another order of the three, or another scale of top-p, keeps other symbols."""
    while True:
        drawn = _to_sample(sampler, k=True, p=True)
        logits, temperature, top_k, top_p = drawn.values()
        right = sampling.sampling_distribution(**drawn) > 0
        no_k = sampling.sampling_distribution(logits, temperature=temperature, top_p=top_p) > 0
        cool = sampling.sampling_distribution(logits, top_k=top_k, top_p=top_p) > 0
        if (right != no_k).any() and (right != cool).any():
            return drawn


def _with_ties(sampler: CaseSampler) -> dict:
    """Of three equally probable symbols two stay, by top-k or by top-p."""
    symbols = 5 + sampler.size
    while True:
        levels = [0.0, 1.0, 1.0, 1.0, 2.0] + [0.0] * sampler.size
        logits = np.stack([sampler.random.permutation(levels) for _ in range(2)])
        by_k = {"temperature": 1.0, "top_k": 3, "top_p": ALL}
        by_p = {"temperature": 1.0, "top_k": symbols, "top_p": 0.6}
        if not (logits[:, 0] == 1).any():
            return {"logits": torch.from_numpy(logits), **(by_p if sampler.size % 2 else by_k)}


def _one_is_enough(sampler: CaseSampler) -> dict:
    drawn = _to_sample(sampler)
    best = drawn["logits"].argmax(-1, keepdim=True)
    return drawn | {"logits": drawn["logits"].scatter(-1, best, 8.0), "top_p": 0.5}


def _more_than_there_are(sampler: CaseSampler) -> dict:
    drawn = _to_sample(sampler, p=True)
    return drawn | {"top_k": drawn["logits"].shape[-1] + 2 + sampler.size}


def _sample_reference(logits, temperature, top_k, top_p):
    return sampling.sampling_distribution(logits, temperature=temperature, top_k=top_k, top_p=top_p)


def _sample_row_by_row(logits, temperature, top_k, top_p):
    rows = []
    for scores in logits.tolist():
        powers = [math.exp(z / temperature) for z in scores]
        order = sorted(range(len(powers)), key=lambda i: (-powers[i], i))[:top_k]
        total = sum(powers[i] for i in order)
        kept, together = [], 0.0
        for i in order:
            kept.append(i)
            together += powers[i] / total
            if together >= top_p:
                break
        total = sum(powers[i] for i in kept)
        rows.append([powers[i] / total if i in kept else 0.0 for i in range(len(powers))])
    print("rows", len(rows))
    return rows


def _sample_by_masks_in_single_precision(logits, temperature, top_k, top_p):
    scores = logits.float() / temperature
    order = torch.argsort(scores, dim=-1, descending=True, stable=True)
    ranks = order.argsort(-1)  # the place of each symbol in the order
    scores = scores.masked_fill(ranks >= top_k, -math.inf)
    p = scores.softmax(-1)
    ranked = p.gather(-1, order)
    before = (ranked.cumsum(-1) - ranked).gather(-1, ranks)
    return scores.masked_fill((before >= top_p) & (ranks > 0), -math.inf).softmax(-1)


def _sample_in_numpy(logits, temperature, top_k, top_p):
    import numpy as np

    z = logits.numpy()
    order = np.argsort(-z, axis=1, kind="stable")
    ranked = np.exp((np.take_along_axis(z, order, 1) - z.max(1, keepdims=True)) / temperature)
    ranked[:, top_k:] = 0
    together = ranked.cumsum(1)
    short = np.zeros_like(ranked, dtype=bool)
    short[:, 0] = True
    short[:, 1:] = together[:, :-1] < top_p * together[:, -1:]
    ranked = np.where(short, ranked, 0)
    result = np.empty_like(ranked)
    np.put_along_axis(result, order, ranked / ranked.sum(1, keepdims=True), 1)
    return result


def _sample_with_ties_kept(logits, temperature, top_k, top_p):
    ranked, order = logits.sort(dim=-1, descending=True, stable=True)
    p = (ranked / temperature).softmax(-1)
    p = p * (ranked >= ranked[:, min(top_k, p.shape[1]) - 1 :][:, :1])
    p = p / p.sum(-1, keepdim=True)
    p = p * (p.cumsum(-1) - p < top_p)
    p = p / p.sum(-1, keepdim=True)
    return torch.zeros_like(p).scatter(-1, order, p)


def _sample_cooled_last(logits, temperature, top_k, top_p):
    ranked, order = logits.sort(dim=-1, descending=True, stable=True)
    p = ranked.softmax(-1)
    p[:, top_k:] = 0
    p = p / p.sum(-1, keepdim=True)
    kept = (p > 0) & (p.cumsum(-1) - p < top_p)
    p = (ranked / temperature).masked_fill(~kept, -math.inf).softmax(-1)
    return torch.zeros_like(p).scatter(-1, order, p)


STEPS = [
    Step(
        "learn_merge",
        reference=_learn_reference,
        cases={
            "pieces and how often they occur": _pieces,
            "equally frequent pairs": _ties,
            "the same id again and again": _runs,
            "a piece of one id": _short_pieces,
        },
        mistakes=known_mistakes(
            "You count every piece once; a pair counts as often as its piece occurs in the text.",
            ("+= count", "+= 1"),
            "You count pairs that reach from one piece into the next; a pair lies inside one piece.",
            _learn_across_pieces,
            "A pair that stands in a piece twice counts twice; you count it once for each piece.",
            ("pairwise(word)", "set(pairwise(word))"),
            "You leave out places that overlap. The pair (97, 97) stands in [97, 97, 97] at two places.",
            _learn_without_overlaps,
            "You count every second pair of neighbors only. A new pair begins at every id but the last.",
            ("pairwise(word)", "zip(word[::2], word[1::2])"),
            "Of equally frequent pairs you take the one that comes first in the pieces; take the one "
            "with the smallest ids.",
            ("min(totals, key=lambda pair: (-totals[pair], pair))", "max(totals, key=totals.get)"),
            "Of equally frequent pairs you take the one with the largest ids; take the smallest.",
            ("min(totals, key=lambda pair: (-totals", "max(totals, key=lambda pair: (totals"),
            "Of equally frequent pairs you take the one with the smallest right id; the left id "
            "decides first.",
            ("(-totals[pair], pair)", "(-totals[pair], pair[::-1])"),
            "You replace from the right. From left to right [97, 97, 97] becomes [256, 97], not "
            "[97, 256].",
            ("for i in word:", "for i in word[::-1]:"),
            ("(merged[-1], i)", "(i, merged[-1])"),
            ("append(merged)", "append(merged[::-1])"),
            "An id that one replacement has used up is used again by the next one, so that ids get "
            "lost.",
            ("for i in word:", "for k, i in enumerate(word):"),
            ("(merged[-1], i)", "(word[k - 1], i)"),
            "The left id of the pair is still there, before the new one. The new id stands for both.",
            ("merged[-1] = new", "merged.append(new)"),
            "The right id of the pair is still there, after the new one. The new id stands for both.",
            ("merged[-1] = new", "merged[-1:] = [new, i]"),
            "You replace the pair once in each piece; replace it at every place.",
            _learn_the_leftmost_only,
            "The last id of a piece gets lost, if it is not the right one of the pair.",
            _learn_without_the_last_id,
            "The result is right, but you change the pieces that you were given. Make new lists.",
            _learn_in_place,
            "You also replace the two ids in the opposite order, which is another pair.",
            ("(merged[-1], i) == best", "{merged[-1], i} == set(best)"),
        ),
        alternatives=[_learn_with_indices, _learn_on_copies],
    ),
    Step(
        "encode",
        reference=_encode_reference,
        cases={
            "letters and several merges": _to_encode,
            "the same letter again and again": _same_letter,
            "bytes that are in no merge": _other_bytes,
            "no bytes": lambda sampler: _to_encode(sampler) | {"data": []},
        },
        mistakes=known_mistakes(
            "You apply the first known pair from the left. Of all known pairs, the one that was "
            "learned first comes first.",
            ("min(known, key=rank.get)", "known[0]"),
            "You apply the pair that was learned last; the one that was learned first comes first.",
            ("min(known", "max(known"),
            "You go through the merges from the last to the first; begin with the first.",
            _encode_from_the_last_merge,
            "You take the longest token that fits at each place. Apply the merges instead, in the "
            "order in which they were learned.",
            _encode_by_longest,
            "You apply the pair that is the most frequent in this piece. How frequent pairs are "
            "here does not matter, only when they were learned.",
            ("min(known, key=rank.get)", "max(known, key=known.count)"),
            "You go through the bytes once and merge what you meet. Look at all places before you "
            "choose a pair.",
            _encode_in_one_pass,
            "You replace a pair from the right; its leftmost place comes first.",
            ("pairs.index(first)", "len(pairs) - 1 - pairs[::-1].index(first)"),
            "You apply each merge at one place; apply it wherever the pair stands.",
            _encode_at_one_place,
            "You stop after one replacement; go on until no known pair is left.",
            ("[256 + rank[first]]", "[256 + rank[first]]\n        return word"),
            "Your tokens have the ids of bytes; pair number k makes the token 256 + k.",
            ("256 + rank", "rank"),
            "Your ids of tokens are one too high: pairs count from 0, so the first token is 256.",
            ("256 +", "257 +"),
        ),
        alternatives=[_encode_in_order, _encode_recursively],
    ),
    Step(
        "decode",
        reference=_decode_reference,
        cases={
            "letters and several merges": _to_decode,
            "tokens that begin in one character and end in the next": _across_characters,
            "ids that are cut inside a character": _half_characters,
            "bytes that are no text": _no_text,
            "no ids": lambda sampler: _to_decode(sampler) | {"ids": []},
        },
        mistakes=known_mistakes(
            "You decode each token by itself. A character can begin in one token and end in the "
            "next: join all bytes first, and decode once.",
            (
                'data.decode("utf-8", errors="replace")',
                '"".join(tokens[i].decode("utf-8", errors="replace") for i in ids)',
            ),
            "You leave out what is no valid UTF-8; it becomes the character �.",
            ('"replace"', '"ignore"'),
            "You make a character of every byte. In UTF-8, letters such as 한 have several bytes.",
            ('"utf-8"', '"latin-1"'),
            "Bytes that are no valid UTF-8 raise an error; they become the character �.",
            (', errors="replace"', ""),
            "The two parts of your tokens are in the wrong order: first the left id, then the right "
            "one.",
            ("tokens[left] + tokens[right]", "tokens[right] + tokens[left]"),
            "You take the ids of a pair for bytes, but they may be tokens themselves, which stand "
            "for several bytes.",
            ("tokens[left] + tokens[right]", "bytes([left, right])"),
        ),
        alternatives=[_decode_recursively, _decode_with_a_stack],
    ),
    Step(
        "rms_norm",
        reference=_norm_reference,
        cases={
            "a batch of sequences": lambda sampler: _to_norm(sampler, *sampler.lengths(2)),
            "one sequence": lambda sampler: _to_norm(sampler, *sampler.lengths(1)),
            "one position": _to_norm,
            "a position that is all zero": _zero_position,
        },
        mistakes=known_mistakes(
            "You subtract the mean, as layer norm does; RMSNorm only divides.",
            ("x.square()", "(x - x.mean(-1, keepdim=True)).square()"),
            ("return x", "return (x - x.mean(-1, keepdim=True))"),
            "You divide by the standard deviation; take the mean of the squares of x itself.",
            ("x.square()", "(x - x.mean(-1, keepdim=True)).square()"),
            "Epsilon must be under the root: add it to the mean of the squares.",
            ("(mean_square + epsilon).sqrt()", "(mean_square.sqrt() + epsilon)"),
            "Epsilon is missing, so that a position of zeros becomes 0/0.",
            ("mean_square + epsilon", "mean_square"),
            "You use epsilon as the least number to divide by; add it under the root.",
            ("(mean_square + epsilon).sqrt()", "mean_square.sqrt().clamp(min=epsilon)"),
            "The weight is missing: multiply by w at the end.",
            (" * weight", ""),
            "You scale by 1 + w, as some models do; here it is w.",
            ("weight", "(1 + weight)"),
            "You take the root mean square after the scaling by w; take that of x.",
            ("x.square()", "(x * weight).square()"),
            "You take the sum of the squares; take their mean.",
            ("mean(-1", "sum(-1"),
            "The root is missing: you divide by the mean of the squares.",
            (".sqrt()", ""),
            "You use one mean for all positions; each position has its own.",
            ("mean(-1, keepdim=True)", "mean()"),
        ),
        alternatives=[
            _norm_by_length,
            _norm_in_single_precision,
            _norm_position_by_position,
        ],
        gradients=["x", "weight"],
    ),
    Step(
        "rotate",
        reference=_rotate_reference,
        cases={
            "one head": _to_rotate,
            "positions from a later start": lambda sampler: _to_rotate(sampler, start=True),
            "a batch of heads": _heads_to_rotate,
            "a single pair of features": _one_pair,
        },
        mistakes=known_mistakes(
            "You pair neighbors, 2i and 2i + 1, as the paper does. Here feature i is paired with "
            "i + d/2.",
            ("x.chunk(2, -1)", "x[..., ::2], x[..., 1::2]"),
            ("torch.cat", "torch.stack"),
            ("two * cos], -1)", "two * cos], -1).flatten(-2)"),
            "You take neighbors as pairs, but write the results in two halves. Here feature i is "
            "paired with i + d/2.",
            ("x.chunk(2, -1)", "x[..., ::2], x[..., 1::2]"),
            "The results of a pair stand next to each other; those of the first features come in "
            "the first half, those of the second ones in the second half.",
            ("torch.cat", "torch.stack"),
            ("two * cos], -1)", "two * cos], -1).flatten(-2)"),
            "Your exponents are half as large: it is -2i/d, and i counts the pairs.",
            ("torch.arange(0, size, 2)", "torch.arange(size // 2)"),
            "Your exponents are twice as large: divide 2i by the whole d, not by d/2.",
            ("/ size)", "/ (size / 2))"),
            "Your i counts from 1; it counts from 0, so that the first pair turns by one radian for "
            "each position.",
            ("torch.arange(0, size, 2)", "torch.arange(2, size + 2, 2)"),
            "Your later pairs turn faster; the exponent is negative, so that they turn more slowly.",
            ("** -(", "** ("),
            "All your pairs turn equally fast; pair i has the speed b^(-2i/d).",
            ("* speed", "* torch.ones_like(speed)"),
            "Your angles are in degrees; torch's sine and cosine expect radians, and the task does.",
            ("* speed", "* speed * math.pi / 180"),
            "You turn in the opposite direction: the minus belongs to the sine in the first half.",
            (
                "one * cos - two * sin, one * sin + two * cos",
                "one * cos + two * sin, two * cos - one * sin",
            ),
            "This is no rotation, lengths change: one of the two sines has a minus.",
            ("- two * sin", "+ two * sin"),
            "Sine and cosine are swapped: at position 0 nothing is turned.",
            ("angle.cos(), angle.sin()", "angle.sin(), angle.cos()"),
            "Your first row is always position 0; it is position start.",
            ("(start + torch.arange(time))", "torch.arange(time)"),
            "Your positions are one too high: the first row is position start, and positions count "
            "from 0.",
            ("start + torch", "start + 1 + torch"),
        ),
        alternatives=[
            _rotate_as_complex_numbers,
            _rotate_in_single_precision,
            _rotate_by_matrices,
        ],
        gradients=["x"],
    ),
    Step(
        "grouped_attention",
        reference=_attend_reference,
        cases={
            "all positions, four heads on two": lambda sampler: _to_attend(
                sampler, 4, 2, new=3 + sampler.size // 2, past=0
            ),
            "two new positions after others": lambda sampler: _to_attend(
                sampler, 4, 2, new=2, past=2 + sampler.size // 2
            ),
            "one new position": lambda sampler: _to_attend(sampler, 2, 1, new=1, past=3),
            "as many heads of keys as of queries": lambda sampler: _to_attend(
                sampler, 2, 2, new=2, past=1 + sampler.size
            ),
        },
        mistakes=known_mistakes(
            "Your copies alternate, 0 1 0 1; query heads next to each other share a head of keys, "
            "0 0 1 1.",
            ("keys.repeat_interleave(sharing, dim=1)", "keys.repeat(1, sharing, 1, 1)"),
            ("values.repeat_interleave(sharing, dim=1)", "values.repeat(1, sharing, 1, 1)"),
            "All your heads use the first head of keys and values.",
            ("keys.repeat_interleave(sharing, dim=1)", "keys[:, :1]"),
            ("values.repeat_interleave(sharing, dim=1)", "values[:, :1]"),
            "Your mask counts queries from position 0. They are the last ones: query i stands at "
            "time - new + i.",
            ("tril(time - new)", "tril()"),
            "Your queries do not see their own position.",
            ("tril(time - new)", "tril(time - new - 1)"),
            "Your queries see one position of their future.",
            ("tril(time - new)", "tril(time - new + 1)"),
            "The mask is missing: your queries see positions that come after their own.",
            ("scores.masked_fill(~seen, -math.inf)", "scores"),
            "Your mask is inverted: you forbid the past and allow the future.",
            ("~seen", "seen"),
            "You set forbidden weights to zero after the softmax, so that the rest does not sum to "
            "one. Mask the scores before it.",
            ("masked_fill(~seen, -math.inf).softmax(-1)", "softmax(-1) * seen"),
            "You set forbidden scores to 0, which is a score like any other. Set them to minus "
            "infinity.",
            ("-math.inf", "0.0"),
            "The scores are not divided by the root of the size of a head.",
            (" / math.sqrt(query.shape[-1])", ""),
            "You divide the scores by the size of a head; divide by its root.",
            ("math.sqrt(query.shape[-1])", "query.shape[-1]"),
            "You divide by the root of the whole width; a head's queries are only size wide.",
            ("query.shape[-1])", "query.shape[-1] * query.shape[1])"),
            "Your softmax runs over the queries; it runs over the keys, the last axis.",
            ("softmax(-1)", "softmax(-2)"),
        ),
        alternatives=[
            _attend_by_torch,
            _attend_by_groups_in_single_precision,
            _attend_query_by_query,
        ],
        gradients=["query", "keys", "values"],
    ),
    Step(
        "CachedAttention",
        reference=_CachedReference,
        cases={
            "a text from its start": _nothing_past,
            "one new position": _one_new,
            "several new positions": _several_new,
            "four heads on two": lambda sampler: _cached(
                sampler, 2, 1 + sampler.size // 2, heads=4, kv_heads=2, size=2
            ),
        },
        mistakes=known_mistakes(
            "You rotate the new positions as if they were the first; they come after the whole "
            "cache.",
            ("past = keys.shape[2]", "past = 0"),
            "Your positions are one too high: after a cache of n positions, counted from 0, comes "
            "position n.",
            ("keys.shape[2]", "keys.shape[2] + 1"),
            "Your positions are one too low: after a cache of n positions, counted from 0, comes "
            "position n.",
            ("keys.shape[2]", "keys.shape[2] - 1"),
            "You rotate the values too; only queries and keys are rotated.",
            ("[values, value]", "[values, rotate(value, self.base, past)]"),
            "You do not rotate the queries.",
            ("query = rotate(query, self.base, past)", "query = query"),
            "You do not rotate the new keys.",
            ("rotate(key, self.base, past)", "key"),
            "You rotate the keys of the cache a second time.",
            (
                "torch.cat([keys, rotate(key, self.base, past)], dim=2)",
                "rotate(torch.cat([keys, key], dim=2), self.base, 0)",
            ),
            "You return keys that are not rotated, and rotate those of the cache a second time. Keys "
            "are rotated once, before they are kept.",
            (
                "torch.cat([keys, rotate(key, self.base, past)], dim=2)",
                "torch.cat([keys, key], dim=2)",
            ),
            ("(query, keys, values)", "(query, rotate(keys, self.base, 0), values)"),
            "You rotate before you cut into heads, so that each head turns with other speeds.",
            (
                "rotate(query, self.base, past)",
                "rotate(query.transpose(1, 2).flatten(2), self.base, past)"
                ".unflatten(-1, (-1, self.size)).transpose(1, 2)",
            ),
            (
                "rotate(key, self.base, past)",
                "rotate(key.transpose(1, 2).flatten(2), self.base, past)"
                ".unflatten(-1, (-1, self.size)).transpose(1, 2)",
            ),
            "Your angles grow from head to head, not from position to position. Move the heads "
            "before the positions, then rotate.",
            (
                "rotate(query, self.base, past)",
                "rotate(query.transpose(1, 2), self.base, past).transpose(1, 2)",
            ),
            (
                "rotate(key, self.base, past)",
                "rotate(key.transpose(1, 2), self.base, past).transpose(1, 2)",
            ),
            "You put the new keys and values before those of the cache; they come behind them.",
            ("[keys, rotate(key, self.base, past)]", "[rotate(key, self.base, past), keys]"),
            ("[values, value]", "[value, values]"),
            "Your queries see the new positions only; they see those of the cache too.",
            ("(query, keys, values)", "(query, keys[:, :, past:], values[:, :, past:])"),
            "A reshape alone mixes up heads and positions. Cut the features, then move the axis of "
            "the heads.",
            (
                "unflatten(-1, (-1, self.size)).transpose(1, 2)",
                "reshape(len(x), -1, x.shape[1], self.size)",
            ),
            "You join the heads without moving their axis back behind that of the positions.",
            ("found.transpose(1, 2).flatten(2)", "found.reshape(x.shape)"),
            "You return what the heads found; o_proj mixes it.",
            ("self.o_proj(found.transpose(1, 2).flatten(2))", "found.transpose(1, 2).flatten(2)"),
        ),
        alternatives=[_CachedOneByOne, _CachedByTorch],
        gradients=["x", "keys", "values"],
        depends_on=["rotate", "grouped_attention"],
    ),
    Step(
        "DecoderLayer",
        reference=_LayerReference,
        cases={
            "a text from its start": lambda sampler: _layer(sampler, 3, 0),
            "new positions after others": lambda sampler: _layer(sampler, 2, 2 + sampler.size // 2),
        },
        mistakes=known_mistakes(
            "The other product goes through the SiLU: it is applied to x W_g, the gate.",
            ("nn.functional.silu(self.gate_proj(read))", "self.gate_proj(read)"),
            ("self.up_proj(read)", "nn.functional.silu(self.up_proj(read))"),
            "Your gate is a sigmoid, between 0 and 1. SiLU multiplies the sigmoid by its argument.",
            ("nn.functional.silu(", "torch.sigmoid("),
            "Your gate goes through GELU; SwiGLU has SiLU there.",
            ("nn.functional.silu(", "nn.functional.gelu("),
            "Your gate goes through ReLU; SwiGLU has SiLU there.",
            ("nn.functional.silu(", "torch.relu("),
            "You add the gate to the other product; multiply the two.",
            ("gate * self", "gate + self"),
            "There is no gate: the SiLU of one product must multiply the other one.",
            ("gate * self.up_proj(read)", "gate"),
            "Your SiLU is applied to the product of both; apply it to x W_g alone, then multiply.",
            ("nn.functional.silu(self.gate_proj(read))", "self.gate_proj(read)"),
            ("gate * self.up_proj(read)", "nn.functional.silu(gate * self.up_proj(read))"),
            "This is post-LN, with the norms after the sums; here each part reads a normed copy.",
            ("rms_norm(x, self.norm1, 1e-5)", "x"),
            ("x + found", "rms_norm(x + found, self.norm1, 1e-5)"),
            ("rms_norm(x, self.norm2, 1e-5)", "x"),
            ("return x,", "return rms_norm(x, self.norm2, 1e-5),"),
            "The attention reads the stream as it is; it must read a normed copy.",
            ("rms_norm(x, self.norm1, 1e-5)", "x"),
            "The network reads the stream as it is; it must read a normed copy.",
            ("rms_norm(x, self.norm2, 1e-5)", "x"),
            "You use the weight of the first norm twice; the network has a norm of its own, norm2.",
            ("self.norm2", "self.norm1"),
            "The weights of the two norms are swapped.",
            ("self.norm1", "self.norm2"),
            ("self.norm2", "self.norm1"),
            "What the attention found replaces the stream; add it to the stream.",
            ("x + found", "found"),
            "What the network returns replaces the stream; add it to the stream.",
            ("x + self.down_proj", "self.down_proj"),
            "You add what the attention found to the normed copy; add it to the stream itself.",
            ("x + found", "read + found"),
            "You add what the network returns to the normed copy; add it to the stream itself.",
            ("x + self.down_proj", "read + self.down_proj"),
            "You replace the stream by its normed copies. Only the two parts read these; the stream "
            "itself is never normed.",
            ("read = rms_norm(x, self.norm1", "x = read = rms_norm(x, self.norm1"),
            ("read = rms_norm(x, self.norm2", "x = read = rms_norm(x, self.norm2"),
            "Your network reads the stream as it was before the attention; it reads a, to which the "
            "attention has been added.",
            (
                "x = x + found\n        read = rms_norm(x, self.norm2, 1e-5)",
                "read = rms_norm(x, self.norm2, 1e-5)\n        x = x + found",
            ),
            "You return the cache that you were given; return the keys and values of all positions.",
            ("found, keys, values =", "found, _, _ ="),
        ),
        alternatives=[_LayerInTwoParts, _LayerInPlace],
        gradients=["x", "keys", "values"],
        depends_on=["rms_norm", "CachedAttention"],
        tolerance=1e-4,
    ),
    Step(
        "DecoderOnly",
        reference=_ModelReference,
        cases={
            "a text from its start": lambda sampler: _model(sampler, 3, 0),
            "one new id": lambda sampler: _model(sampler, 1, 2 + sampler.size),
            "several new ids": lambda sampler: _model(sampler, 2, 2 + sampler.size // 2),
        },
        mistakes=known_mistakes(
            "The norm after the last layer is missing.",
            ("        x = rms_norm(x, self.norm, 1e-5)\n", ""),
            "You apply the last norm after every layer; it comes once, after the last layer.",
            ("append(cache)\n", "append(cache)\n            x = rms_norm(x, self.norm, 1e-5)\n"),
            ("        x = rms_norm(x, self.norm, 1e-5)\n", ""),
            "You multiply the embeddings by the root of the width, as the first Transformer does; "
            "here they stay as they are.",
            ("self.embedding(ids)", "self.embedding(ids) * len(self.norm) ** 0.5"),
            "You return probabilities; the logits are what a softmax is applied to.",
            ("return logits,", "return logits.softmax(-1),"),
            "You return the logarithms of the probabilities; return the logits as they are.",
            ("return logits,", "return logits.log_softmax(-1),"),
            "You return the logits of the last place only; return those of every place.",
            ("return logits,", "return logits[:, -1:],"),
            "Every layer reads the embeddings; it must read what the layer before it returned.",
            ("layer(x,", "layer(self.embedding(ids),"),
            "All your layers use the cache of the first one; each has its own.",
            ("keys[number], values[number]", "keys[0], values[0]"),
            "You run the first layer again and again, instead of one after the other.",
            ("layer(x,", "self.layers[0](x,"),
            "You return the caches that you were given; return those that the layers returned.",
            ("        keys, values = zip(*caches, strict=True)\n", ""),
            ("torch.stack(keys), torch.stack(values)", "keys, values"),
        ),
        alternatives=[_ModelByUnbind, _ModelWithOneHot],
        gradients=["keys", "values"],
        depends_on=["rms_norm", "DecoderLayer"],
        tolerance=1e-4,
    ),
    Step(
        "bits_per_byte",
        reference=_score_reference,
        cases={
            "several windows": _to_score,
            "one window": lambda sampler: _to_score(sampler, rows=1),
            "logits in the thousands": _score_huge,
        },
        mistakes=known_mistakes(
            "Your result is in nats per byte; divide by ln 2.",
            (" / math.log(2)", ""),
            "You multiply by ln 2; a nat is more than a bit, so divide.",
            ("/ math.log(2)", "* math.log(2)"),
            "This is bits per symbol; divide by the bytes that the predicted ids stand for.",
            ("sizes[wanted].sum()", "wanted.numel()"),
            "This is nats per symbol, the usual cross-entropy. Divide by ln 2, and by the bytes "
            "instead of the number of ids.",
            (" / math.log(2)", ""),
            ("sizes[wanted].sum()", "wanted.numel()"),
            "You divide the mean cost of an id by all the bytes; divide the sum of the costs.",
            ("log_p.sum()", "log_p.mean()"),
            "You divide the cost of each id by its bytes and take the mean, so that an id of one "
            "byte weighs as much as one of many. Divide all bits by all bytes.",
            ("-log_p.sum() / math.log(2)", "-log_p[..., 0] / math.log(2)"),
            ("bits / sizes[wanted].sum()", "(bits / sizes[wanted]).mean()"),
            "You take the mean over the windows of what each has per byte; divide all bits by all "
            "bytes.",
            ("log_p.sum()", "log_p.sum((1, 2))"),
            ("bits / sizes[wanted].sum()", "(bits / sizes[wanted].sum(1)).mean()"),
            "You divide by the mean size of all symbols; the symbols that come are not all symbols "
            "equally often.",
            ("sizes[wanted].sum()", "(sizes.double().mean() * wanted.numel())"),
            "You count the bytes of the first ids too, which are read and not predicted.",
            ("sizes[wanted]", "sizes[ids]"),
            "You leave out the bytes of the last ids and count those of the first ones; count those "
            "that are predicted.",
            ("sizes[wanted]", "sizes[ids[:, :-1]]"),
            "You score the ids that the model has read; the logits at place t are for the id at "
            "place t + 1.",
            ("ids[:, 1:]", "ids[:, :-1]"),
            "The sign is wrong: logarithms of probabilities are negative, costs are not.",
            ("-log_p", "log_p"),
            "Your softmax rounds small probabilities to 0, and their logarithm is minus infinity. "
            "Compute the logarithms directly from the logits.",
            ("log_softmax(-1)", "softmax(-1).log()"),
            "Your softmax runs over the places; it runs over the symbols, the last axis.",
            ("log_softmax(-1)", "log_softmax(1)"),
            "You take the logits for logarithms of probabilities; apply log_softmax to them first.",
            (".log_softmax(-1)", ""),
        ),
        alternatives=[
            _score_symbol_by_symbol,
            _score_in_single_precision,
            _score_with_a_loss_layer,
        ],
        gradients=["logits"],
    ),
    Step(
        "sampling_distribution",
        reference=_sample_reference,
        cases={
            "a temperature": _to_sample,
            "top-k": lambda sampler: _to_sample(sampler, k=True),
            "top-p": lambda sampler: _to_sample(sampler, p=True),
            "top-k, then top-p": _all_three,
            "equally probable symbols": _with_ties,
            "a symbol that is enough for top-p": _one_is_enough,
            "top-k above the number of symbols": _more_than_there_are,
        },
        mistakes=known_mistakes(
            "You drop the symbol that crosses top_p; it is the last one that stays. Where the first "
            "symbol crosses it, nothing is left.",
            ("before < top_p", "p.cumsum(-1) <= top_p"),
            "You drop the symbol that crosses top_p; it is the last one that stays.",
            ("before < top_p", "(p.cumsum(-1) <= top_p) | (before == 0)"),
            "You keep one symbol more than top-p needs.",
            ("before < top_p", "before - p.roll(1, -1) < top_p"),
            "You compare the probability of each symbol with top_p; what counts is how much the "
            "symbols before it have together.",
            ("before < top_p", "p >= top_p"),
            "You multiply by the temperature; divide by it.",
            ("ranked / temperature", "ranked * temperature"),
            "The temperature is missing.",
            ("ranked / temperature", "ranked"),
            "You apply the temperature at the end; it comes first, since it changes which symbols "
            "top-p keeps.",
            _sample_cooled_last,
            "You compare top_p with probabilities among all symbols. It is applied to what top-k has "
            "left, after these sum to one again.",
            ("p[:, top_k:] = 0\n    p = p / p.sum(-1, keepdim=True)\n", "p[:, top_k:] = 0\n"),
            "Your probabilities do not sum to one: divide by their sum again at the end.",
            ("kept = p / p.sum(-1, keepdim=True)", "kept = p"),
            "You keep all symbols that are as probable as number k, so more than k. Of equally "
            "probable ones, those with the smallest ids stay.",
            _sample_with_ties_kept,
            "Of equally probable symbols you take the one with the larger id as the more probable "
            "one; it is the one with the smaller id.",
            (
                "logits.sort(dim=-1, descending=True, stable=True)",
                "(part.flip(-1) for part in logits.sort(dim=-1, stable=True))",
            ),
            "Your probabilities are in the order of their size; return them in the order of the ids.",
            ("torch.zeros_like(kept).scatter(-1, order, kept)", "kept"),
            "You apply the order of the sort a second time instead of undoing it: use scatter, not "
            "gather.",
            ("torch.zeros_like(kept).scatter(-1, order, kept)", "kept.gather(-1, order)"),
            "You keep one symbol too many for top-k: places count from 0.",
            ("top_k:", "top_k + 1 :"),
            "top_k may be larger than the number of symbols; then all stay.",
            ("p[:, top_k:] = 0", "p = p * (p >= p.topk(top_k).values[:, -1:])"),
        ),
        alternatives=[
            _sample_row_by_row,
            _sample_by_masks_in_single_precision,
            _sample_in_numpy,
        ],
    ),
]
