"""The steps of the compression exercise, with their reference answers and known mistakes."""

import math
from collections import defaultdict
from fractions import Fraction

import numpy as np

from seqbook.compression.arithmetic_coding import (
    ArithmeticDecoder,
    ArithmeticEncoder,
)
from stepgrader.exercises import solutions
from stepgrader.steps import CaseSampler, Step, known_mistakes

mixed, mix_step, narrow, encode, bit_probabilities = solutions(
    __file__, "mixed", "mix_step", "narrow", "encode", "bit_probabilities"
)
LEAST = 2**-12
TOP = 2**32 - 1
EXACT = 1e-12  # integers of 32 bits must be equal


# -- 1. adaptive_bits


def _letters(sampler: CaseSampler, count: int, length: int) -> str:
    """Draw a text of a few letters, which begins with contexts that repeat."""
    letters = sampler.integers(count, length)
    letters[:6] = [0, 1, 0, 0, 1, 0]
    return "".join("abcdefgh"[letter] for letter in letters)


def _read(sampler: CaseSampler, count: int, order: int, alpha: float) -> dict:
    return {
        "text": _letters(sampler, count, 9 + 4 * sampler.size),
        "alphabet": "abcdefgh"[:count],
        "order": order,
        "alpha": alpha,
    }


def _letter_that_never_comes(sampler: CaseSampler) -> dict:
    return _read(sampler, 2, 1, 0.5) | {"alphabet": "abcdefgh"[: 3 + sampler.size]}


def _shorter_than_the_order(sampler: CaseSampler) -> dict:
    case = _read(sampler, 2, 4 + sampler.size, 0.5)
    return case | {"text": case["text"][: 2 + sampler.size // 2]}


def _adaptive_reference(text, alphabet, order, alpha):
    """Search the text before each character for the places with the same context."""

    def context(t):
        return text[max(0, t - order) : t]

    costs = []
    for t, character in enumerate(text):
        follows = [text[s] for s in range(t) if context(s) == context(t)]
        shares = [follows.count(letter) + alpha for letter in alphabet]
        costs.append(math.log2(sum(shares)) - math.log2(follows.count(character) + alpha))
    return np.array(costs)


def _adaptive_with_pairs(text, alphabet, order, alpha):
    import warnings
    from collections import Counter

    warnings.warn("a warning is no mistake", stacklevel=1)
    pairs, contexts, costs = Counter(), Counter(), np.empty(len(text))
    padded = "-" * order + text
    for t, character in enumerate(text):
        context = padded[t : t + order]
        total = contexts[context] + alpha * len(alphabet)
        costs[t] = np.log2(total / (pairs[context, character] + alpha))
        pairs[context, character] += 1
        contexts[context] += 1
    return costs


def _adaptive_in_single_precision(text, alphabet, order, alpha):
    tables, shares = {}, []
    for t in range(len(text)):
        print("character", t)
        context = text[t - order : t] if t >= order else text[:t]
        if context not in tables:
            tables[context] = np.full(len(alphabet), alpha, dtype=np.float32)
        row, place = tables[context], alphabet.index(text[t])
        shares.append(row[place] / row.sum())
        row[place] += 1
    return -np.log2(np.array(shares, dtype=np.float32))


def _adaptive_of_the_whole_text(text, alphabet, order, alpha):
    def context(t):
        return text[max(0, t - order) : t]

    costs = []
    for t, character in enumerate(text):
        follows = [text[s] for s in range(len(text)) if context(s) == context(t)]
        share = (follows.count(character) + alpha) / (len(follows) + alpha * len(alphabet))
        costs.append(-math.log2(share))
    return costs


# -- 2. bit_probabilities


def _bytes(sampler: CaseSampler, order: int, *, count: int = 2) -> dict:
    text = _letters(sampler, count, 7 + 4 * sampler.size)
    return {"data": list(text.encode()), "order": order}


def _change_of_habit(sampler: CaseSampler) -> dict:
    habit = [ord("a")] * (4 + sampler.size)
    return {"data": habit + [ord("b")] * 2 + habit[2:], "order": sampler.size % 2}


def _korean_bytes(sampler: CaseSampler) -> dict:
    syllables = "".join("가나다"[k] for k in sampler.integers(3, 2 + sampler.size))
    return {"data": list(("가" + syllables).encode()), "order": 1}


def _fewer_bytes_than_the_order(sampler: CaseSampler) -> dict:
    length = 2 + sampler.size // 2
    return {"data": _bytes(sampler, 1)["data"][:length], "order": 3 + sampler.size}


def _said_by_replaying(data, order):
    """Replay all bits that came after the same bits, as texts of zeros and ones."""
    past, said = defaultdict(str), []
    for t, byte in enumerate(data):
        digits = f"{byte:08b}"
        for k, digit in enumerate(digits):
            place = bytes(data[max(0, t - order) : t]), digits[:k]
            seen = {"0": 0, "1": 0}
            for came in past[place]:
                other = "1" if came == "0" else "0"
                seen[came] += 1
                seen[other] = min(seen[other], 2 + max(0, seen[other] - 2) // 2)
            share = Fraction(2 * seen["1"] + 1, 2 * (seen["0"] + seen["1"]) + 2)
            said.append(int(65536 * share))
            past[place] += digit
    return said


def _probabilities_reference(data, order):
    return np.array(_said_by_replaying(data, order))


def _probabilities_by_tables(data, order):
    """A table for each context, with a row for each prefix."""
    tables, said = {}, []
    for t in range(len(data)):
        before = bytes(data[:t])
        context = before[len(before) - order :] if order < t else before
        table = tables.setdefault(context, np.zeros((256, 2)))
        row = 1
        for digit in f"{data[t]:08b}":
            zeros, ones = table[row]
            said.append(math.floor(65536 * (ones + 0.5) / (zeros + ones + 1)))
            bit = int(digit)
            table[row, bit] += 1
            table[row, 1 - bit] = min(table[row, 1 - bit], table[row, 1 - bit] // 2 + 1)
            row = 2 * row + bit
    return np.array(said)


def _probabilities_by_texts(data, order):
    """Contexts and prefixes as one text of bits, and separate counts."""
    zeros, ones, said, read = {}, {}, [], ""
    for byte in data:
        start = max(0, len(read) - 8 * order)
        bits = bin(256 + byte)[3:]
        for k in range(8):
            key = read[start:] + bits[:k]
            n0, n1 = zeros.get(key, 0), ones.get(key, 0)
            said.append(int((2 * n1 + 1) / (2 * n0 + 2 * n1 + 2) * 2**16))
            if bits[k] == "1":
                n0, n1 = (n0 if n0 < 3 else (n0 - 2) // 2 + 2), n1 + 1
            else:
                n0, n1 = n0 + 1, (n1 if n1 < 3 else (n1 - 2) // 2 + 2)
            zeros[key], ones[key] = n0, n1
        read += bits
    return said


# -- 3. mixed


def _chances(sampler: CaseSampler, *shape: int) -> np.ndarray:
    """Draw probabilities with two decimals, none of them extreme."""
    return sampler.random.uniform(0.05, 0.95, shape).round(2)


def _blend(sampler: CaseSampler, models: int) -> dict:
    return {
        "probabilities": _chances(sampler, 4 + 2 * sampler.size, models),
        "weights": sampler.random.uniform(0.1, 0.9, models).round(1),
    }


def _several_models(sampler: CaseSampler) -> dict:
    return _blend(sampler, 2 + sampler.size)


def _certain_models(sampler: CaseSampler) -> dict:
    case = _blend(sampler, 2 + sampler.size)
    case["probabilities"][0, 0], case["probabilities"][1, -1] = 0.0, 1.0
    case["probabilities"][2, :2] = [1.0, 0.0]
    return case | {"weights": case["weights"].clip(0.2, 0.5)}


def _sure_mixture(sampler: CaseSampler) -> dict:
    case = _blend(sampler, 3 + sampler.size)
    case["probabilities"][0], case["probabilities"][1] = 0.97, 0.02
    return case | {"weights": case["weights"].clip(0.7) + 0.5}


def _negative_weight(sampler: CaseSampler) -> dict:
    case = _blend(sampler, 2 + sampler.size)
    case["weights"][-1] *= -1
    return case


def _mixed_reference(probabilities, weights):
    """Odds are multiplied, each to the power of its weight."""
    results = []
    for row in probabilities.tolist():
        odds = 1.0
        for p, weight in zip(row, weights.tolist(), strict=True):
            p = min(max(p, LEAST), 1 - LEAST)
            odds *= (p / (1 - p)) ** weight
        results.append(min(max(odds / (1 + odds), LEAST), 1 - LEAST))
    return np.array(results)


def _mixed_with_tanh(probabilities, weights):
    p = probabilities.clip(LEAST, 1 - LEAST)
    halves = np.einsum("bm,m->b", np.arctanh(2 * p - 1), weights)
    return ((1 + np.tanh(halves)) / 2).clip(LEAST, 1 - LEAST)


def _mixed_in_single_precision(probabilities, weights):
    p = np.clip(probabilities.astype(np.float32), LEAST, 1 - LEAST)
    y = (np.log(p) - np.log1p(-p)) @ weights.astype(np.float32)
    return np.clip(1 / (1 + np.exp(-y)), LEAST, 1 - LEAST)


def _mixed_in_torch(probabilities, weights):
    import torch

    x = torch.logit(torch.from_numpy(probabilities), eps=LEAST)
    return torch.sigmoid(x @ torch.from_numpy(weights)).clamp(LEAST, 1 - LEAST)


# -- 4. mix_step


def _one_bit(bit: int, *, models: int = 2):
    def case(sampler: CaseSampler) -> dict:
        count = models + (sampler.size if models > 1 else 0)
        return {
            "probabilities": _chances(sampler, count),
            "weights": sampler.random.uniform(0.1, 0.9, count).round(1),
            "bit": bit,
            "rate": 0.25 + 0.25 * sampler.size,
        }

    return case


def _certain_step(sampler: CaseSampler) -> dict:
    case = _one_bit(sampler.size % 2)(sampler)
    case["probabilities"][0] = 1.0 - sampler.size % 2
    return case | {"weights": case["weights"].clip(0.2, 0.4)}


def _wrong_and_sure(sampler: CaseSampler) -> dict:
    case = _one_bit(sampler.size % 2, models=3)(sampler)
    wrong = 0.03 if case["bit"] else 0.97
    shape = case["probabilities"].shape
    return case | {
        "probabilities": np.full(shape, wrong),
        "weights": case["weights"].clip(0.7) + 0.5,
    }


def _step_reference(probabilities, weights, bit, rate):
    """The step of each weight in probabilities of what came, not of ones."""
    (one,) = _mixed_reference(probabilities[None], weights)
    sign, came = (1, one) if bit else (-1, 1 - one)
    moved = []
    for p, weight in zip(probabilities.tolist(), weights.tolist(), strict=True):
        p = min(max(p, LEAST), 1 - LEAST)
        moved.append(weight + sign * rate * (1 - came) * (math.log(p) - math.log1p(-p)))
    return -math.log(came) / math.log(2), np.array(moved)


def _step_with_softplus(probabilities, weights, bit, rate):
    limit = math.log((1 - LEAST) / LEAST)
    p = np.minimum(np.maximum(probabilities, LEAST), 1 - LEAST)
    x = -np.log(1 / p - 1)
    y = min(max(np.dot(weights, x), -limit), limit)
    loss = np.logaddexp(0, -y if bit else y)
    slope = 1 / (1 + math.exp(-y)) - bit
    return [loss / math.log(2), weights - rate * slope * x]


def _step_in_single_precision(probabilities, weights, bit, rate):
    p = probabilities.astype(np.float32).clip(LEAST, 1 - LEAST)
    x = np.log(p) - np.log(1 - p)
    one = (1 / (1 + np.exp(-(x @ weights.astype(np.float32))))).clip(LEAST, 1 - LEAST)
    error = 1 - one if bit == 1 else -one
    return -np.log2(1 - abs(error)), weights.astype(np.float32) + np.float32(rate) * error * x


def _step_in_torch(probabilities, weights, bit, rate):
    """The gradient of the loss by autograd, at the limited log odds."""
    import torch

    limit = math.log(1 / LEAST - 1)
    x = torch.logit(torch.from_numpy(probabilities), eps=LEAST)
    y = (x @ torch.from_numpy(weights)).clamp(-limit, limit).requires_grad_()
    target = torch.tensor(float(bit), dtype=torch.float64)
    loss = torch.nn.functional.binary_cross_entropy_with_logits(y, target)
    loss.backward()
    return loss.detach() / math.log(2), torch.from_numpy(weights) - rate * y.grad * x


# -- 5. mix_in_sets


def _sets(sets: int, rows: int):
    def case(sampler: CaseSampler) -> dict:
        count, models = 6 + 4 * sampler.size, 2 + sampler.size // 2
        total = rows if rows == 1 else rows + sampler.size // 2
        number = sets if sets == 1 else sets + sampler.size // 2
        bits = sampler.integers(2, count)
        bits[:4] = [1, 1, 0, 0]
        selectors = sampler.integers(total, count, number)
        if total > 1:
            selectors[:4, 0] = [0, 1, 0, 1]
        if total > 1 and number > 1:
            selectors[:4, 1] = [1, 0, 0, 1]
        return {
            "probabilities": _chances(sampler, count, models),
            "bits": bits,
            "selectors": selectors,
            "weights": sampler.random.uniform(0.1, 0.9, (number, total, models)).round(1),
            "rate": 0.25,
        }

    return case


def _sets_with_certain_models(sampler: CaseSampler) -> dict:
    case = _sets(2, 2)(sampler)
    case["probabilities"][0, 0], case["probabilities"][1, 1] = 1.0, 0.0
    return case | {"rate": 0.125}


def _sets_reference(probabilities, bits, selectors, weights, rate):
    """Plain lists; the average of log odds, not of weights."""
    rows = weights.tolist()
    costs = []
    for models, bit, selected in zip(
        probabilities.tolist(), bits.tolist(), selectors.tolist(), strict=True
    ):
        x = []
        for p in models:
            p = min(max(p, LEAST), 1 - LEAST)
            x.append(math.log(p) - math.log1p(-p))
        total = 0.0
        for number, chosen in enumerate(selected):
            row = rows[number][chosen]
            y = math.fsum(a * b for a, b in zip(row, x, strict=True))
            total += y
            p = min(max(1 / (1 + math.exp(-y)), LEAST), 1 - LEAST)
            rows[number][chosen] = [a + rate * (bit - p) * b for a, b in zip(row, x, strict=True)]
        p = 1 / (1 + math.exp(-total / len(selected)))
        p = min(max(p, LEAST), 1 - LEAST)
        costs.append(-math.log2(p if bit else 1 - p))
    return np.array(costs), np.array(rows)


def _sets_by_einsum(probabilities, bits, selectors, weights, rate):
    p = np.clip(probabilities, LEAST, 1 - LEAST)
    inputs = np.log(p) - np.log1p(-p)
    weights = np.array(weights)
    number, costs = np.arange(weights.shape[0]), np.empty(len(bits))
    limit = math.log(1 / LEAST - 1)
    for t, x in enumerate(inputs):
        chosen = weights[number, selectors[t]]
        y = np.einsum("sm,m->s", chosen, x)
        mean = np.clip(y.mean(), -limit, limit)
        costs[t] = np.logaddexp(0, -mean if bits[t] else mean) / math.log(2)
        errors = bits[t] - 1 / (1 + np.exp(-np.clip(y, -limit, limit)))
        weights[number, selectors[t]] += rate * np.multiply.outer(errors, x)
    return costs, weights


def _sets_with_earlier_steps(probabilities, bits, selectors, weights, rate):
    """One list of rows for each set, replaced row by row."""
    weights = [[row for row in rows] for rows in weights]
    costs = []
    for t in range(len(bits)):
        print("bit", t)
        chosen = [rows[selectors[t, s]] for s, rows in enumerate(weights)]
        mean = sum(chosen) / len(chosen)
        costs.append(mix_step(probabilities[t], mean, bits[t], rate)[0])
        for s, row in enumerate(chosen):
            weights[s][selectors[t, s]] = mix_step(probabilities[t], row, bits[t], rate)[1]
    return [costs, np.array(weights)]


# -- 6. narrow


def _interval(sampler: CaseSampler, *, gap: int) -> tuple[int, int]:
    """Draw ends whose first bytes differ; a small gap if the interval is narrow."""
    first = 1 + int(sampler.integers(200))
    border = (first + 1) << 24
    if gap:
        below, above = (1 + int(n) for n in sampler.random.integers(gap, size=2))
        return border - below, border + above
    low = border - 1 - int(sampler.random.integers(1 << 24))
    high = border + int(sampler.random.integers(1 << 24, 50 << 24))
    return low, high


def _settling(wanted: range, gap: int):
    """A bit after which low and high differ: if they were equal, some mistakes would never end."""

    def case(sampler: CaseSampler) -> dict:
        bit = sampler.size % 2
        while True:
            low, high = _interval(sampler, gap=gap)
            p = int(sampler.random.integers(500, 65000))
            left = (high - low) * (65536 - p) % 65536
            if 2 * left < 65536:  # for the mistake that rounds to the nearest
                continue
            settled, _, _ = _narrow_reference(low, high, p, bit)
            if len(settled) in wanted:
                return {"low": low, "high": high, "p": p, "bit": bit}

    return case


def _whole_interval(sampler: CaseSampler) -> dict:
    p = int(sampler.random.integers(20_000, 40_000))
    return {"low": 0, "high": TOP, "p": p, "bit": (sampler.size + 1) % 2}


def _narrow_reference(low, high, p, bit):
    """Binary digits as texts, and the share of the zeros as a fraction."""
    left = int(Fraction(65536 - p, 65536) * (high - low))
    ends = (low + left + 1, high) if bit == 1 else (low, low + left)
    first, last = (f"{end:032b}" for end in ends)
    count = 0
    while count < 4 and first[: 8 * count + 8] == last[: 8 * count + 8]:
        count += 1
    settled = [int(first[8 * k : 8 * k + 8], 2) for k in range(count)]
    low, high = first[8 * count :].ljust(32, "0"), last[8 * count :].ljust(32, "1")
    return np.array(settled, dtype=int), int(low, 2), int(high, 2)


def _narrow_by_bit_length(low, high, p, bit):
    middle = low + (high - low) * (65536 - p) // 65536
    low, high = (low, middle) if bit == 0 else (middle + 1, high)
    count = (32 - (low ^ high).bit_length()) // 8
    settled = [low >> 24 - 8 * k & 255 for k in range(count)]
    return settled, low << 8 * count & TOP, (high + 1 << 8 * count) - 1 & TOP


def _narrow_by_division(low, high, p, bit):
    middle = low + int((high - low) * (1 - p / 2**16))
    if bit:
        low = middle + 1
    else:
        high = middle
    settled = ()
    while (low ^ high) < 2**24:
        byte, low = divmod(low, 2**24)
        settled, low, high = (*settled, byte), low * 256, high % 2**24 * 256 + 255
    return [np.array(settled), low, high]


# -- 7. encode


def _coin(sampler: CaseSampler, length: int, least: int = 2000, most: int = 63_000) -> dict:
    """Draw probabilities, and bits as they say."""
    p = sampler.random.integers(least, most, length)
    bits = (sampler.random.integers(65536, size=length) < p).astype(int)
    return {"bits": bits.tolist(), "probabilities": p.tolist()}


def _some_bits(sampler: CaseSampler) -> dict:
    case = _coin(sampler, 12 + 20 * sampler.size)
    return case | {"bits": [1, 0, *case["bits"][2:]]}


def _only_zeros(sampler: CaseSampler) -> dict:
    case = _coin(sampler, 6 + 6 * sampler.size)
    return case | {"bits": [0] * len(case["bits"])}


def _expected_bits(sampler: CaseSampler) -> dict:
    case = _coin(sampler, 5 + sampler.size, 64_500, 65_500)
    return case | {"bits": [1] * len(case["bits"])}


def _unexpected_bits(sampler: CaseSampler) -> dict:
    """Ones with small probabilities, of which one settles several bytes at once."""
    while True:
        case = _coin(sampler, 4 + 2 * sampler.size, 2, 200)
        low, high, most = 0, TOP, 0
        for p in case["probabilities"]:
            settled, low, high = _narrow_reference(low, high, p, 1)
            most = max(most, len(settled))
        if most > 1:
            return case | {"bits": [1] * len(case["bits"])}


def _half(sampler: CaseSampler) -> dict:
    """A border that is a multiple of 2 ** 24."""
    return {"bits": [1], "probabilities": [32768 if sampler.size < 2 else 16384]}


def _encode_reference(bits, probabilities):
    """The package's encoder, with the parts of 0 and 1 exchanged."""
    encoder = ArithmeticEncoder()
    for bit, p in zip(bits, probabilities, strict=True):
        encoder.encode(1 - bit, 65536 - p)
    encoder.finish()
    settled, low = encoder.output[:-4], Fraction(int.from_bytes(encoder.output[-4:], "big"))
    return np.array([*settled, math.ceil(low / 2**24)])


def _encode_without_narrow(bits, probabilities):
    low, high, coded = 0, 2**32 - 1, bytearray()
    for k in range(len(bits)):
        part = (high - low) * (65536 - probabilities[k]) // 65536
        if bits[k] == 0:
            high = low + part
        else:
            low = low + part + 1
        while low // 2**24 == high // 2**24:
            coded.append(low // 2**24)
            low, high = low % 2**24 * 256, high % 2**24 * 256 + 255
    last = next(byte for byte in range(256) if low <= byte * 2**24 <= high)
    return np.array([*coded, last], dtype=np.uint8)


def _encode_as_one_number(bits, probabilities):
    """All digits so far in one large integer; no byte leaves before the end."""
    low, high, settled = 0, TOP, 0
    for bit, p in zip(bits, probabilities, strict=True):
        part = (high - low) * (65536 - p) >> 16
        low, high = (low + part + 1, high) if bit else (low, low + part)
        while low >> 24 == high >> 24:
            low, high, settled = low << 8, high << 8 | 255, settled + 1
    return list((-(-low >> 24)).to_bytes(settled + 1, "big"))


# -- 8. decode


def _written(sampler: CaseSampler) -> dict:
    case = _some_bits(sampler)
    coded = _encode_reference(**case).tolist()
    return {"coded": coded, "probabilities": case["probabilities"]}


def _any_bytes(sampler: CaseSampler) -> dict:
    """Every file stands for some bits."""
    p = sampler.random.integers(2000, 63_000, 12 + 8 * sampler.size)
    return {"coded": sampler.integers(256, 5 + sampler.size).tolist(), "probabilities": p.tolist()}


def _one_byte(sampler: CaseSampler) -> dict:
    """More bits than the byte, so that they depend on what follows it."""
    p = sampler.random.integers(20_000, 45_000, 48 + 4 * sampler.size)
    byte = [1, 0, 128, 254][sampler.size]
    return {"coded": [byte], "probabilities": p.tolist()}


def _improbable(sampler: CaseSampler) -> dict:
    """Usual bits after those that settle several bytes at once."""
    first, then = _unexpected_bits(sampler), _some_bits(sampler)
    case = {name: first[name] + then[name] for name in first}
    return {"coded": _encode_reference(**case).tolist(), "probabilities": case["probabilities"]}


def _border(sampler: CaseSampler) -> dict:
    """The last number of the left part, or the first one of the right part."""
    p = sampler.random.integers(2000, 63_000, 2 + sampler.size)
    p[0] = 32768 if sampler.size == 0 else p[0]
    middle = TOP * (65536 - int(p[0])) >> 16
    number = middle + sampler.size % 2
    return {"coded": list(number.to_bytes(4, "big")), "probabilities": p.tolist()}


def _decode_reference(coded, probabilities):
    decoder = ArithmeticDecoder(bytes(coded) + bytes(4 + 4 * len(probabilities)))
    return np.array([1 - decoder.decode(65536 - p) for p in probabilities])


def _decode_by_a_window(coded, probabilities):
    padded = np.array([*coded, *[0] * 4 * (1 + len(probabilities))])
    low, high, start, bits = 0, TOP, 0, []
    for p in probabilities:
        x = int(padded[start : start + 4] @ 256 ** np.arange(3, -1, -1))
        bit = 0 if x <= low + ((high - low) * (65536 - p) >> 16) else 1
        settled, low, high = narrow(low, high, p, bit)
        start += len(settled)
        bits.append(bit)
    return np.array(bits)


def _decode_by_the_distance(coded, probabilities):
    """The width of the interval and the distance of the number from its lower end."""
    rest = list(coded)[::-1]
    low = distance = 0
    for _ in range(4):
        distance = 256 * distance + (rest.pop() if rest else 0)
    width, bits = TOP, []
    for p in probabilities:
        part = width * (65536 - p) // 65536
        bits.append(0 if distance <= part else 1)
        if bits[-1]:
            low, distance, width = low + part + 1, distance - part - 1, width - part - 1
        else:
            width = part
        while low >> 24 == low + width >> 24:
            low, width = low << 8 & TOP, width << 8 | 255
            distance = distance << 8 | (rest.pop() if rest else 0)
    return bits


def _decode_past_the_end(coded, probabilities):
    rest = list(coded)
    low, high, x, bits = 0, 2**32 - 1, 0, []
    for _ in range(4):
        x = x << 8 | rest.pop(0)
    for p in probabilities:
        middle = low + ((high - low) * (65536 - p) >> 16)
        bits.append(int(x > middle))
        low, high = (middle + 1, high) if bits[-1] else (low, middle)
        while low >> 24 == high >> 24:
            low, high = low << 8 & (2**32 - 1), high << 8 & (2**32 - 1) | 255
            x = x << 8 & (2**32 - 1) | rest.pop(0)
    return bits


# -- 9. compress


def _words(sampler: CaseSampler, count: int, *, first: str = "sea") -> str:
    words = ["she", "sells", "sea", "shells", "on", "the", "shore"]
    chosen = sampler.random.choice(words, count)
    return " ".join([first, *chosen])


def _english(order: int):
    first = "sea" if order < 3 else "eels"  # whose first context, e, is not the second one, ee

    def case(sampler: CaseSampler) -> dict:
        return {"text": _words(sampler, 2 + 2 * sampler.size, first=first), "order": order}

    return case


def _korean(sampler: CaseSampler) -> dict:
    words = ["바다", "가", "가다", "바람", "나라"]
    chosen = sampler.random.choice(words, 1 + 2 * sampler.size)
    return {"text": " ".join(["가나", *chosen]), "order": 1}


def _empty(sampler: CaseSampler) -> dict:
    return {"text": "", "order": sampler.size % 2}


def _long(sampler: CaseSampler) -> dict:
    """More bytes than one byte can count."""
    phrase = _words(sampler, 2) + " "
    return {"text": phrase * (256 // len(phrase) + 1 + sampler.size), "order": 2}


def _compress_reference(text, order):
    data = text.encode("utf-8")
    bits = [int(digit) for byte in data for digit in f"{byte:08b}"]
    coded = _encode_reference(bits, _said_by_replaying(data, order))
    return np.array([*len(data).to_bytes(2, "big"), *coded])


def _compress_with_unpackbits(text, order):
    data = np.frombuffer(text.encode("utf-8"), dtype=np.uint8)
    bits = np.unpackbits(data).tolist()
    coded = encode(bits, bit_probabilities(data.tolist(), order))
    return np.concatenate([[len(data) // 256, len(data) % 256], coded])


def _compress_bit_by_bit(text, order):
    """The interval follows the model, with nothing kept for later."""
    data = bytes(text, "utf-8")
    said = iter(bit_probabilities([*data], order))
    low, high, coded = 0, TOP, list(divmod(len(data), 256))
    for byte in data:
        for mask in (128, 64, 32, 16, 8, 4, 2, 1):
            settled, low, high = narrow(low, high, next(said), int(byte & mask > 0))
            coded.extend(settled)
    coded.append(math.ceil(low / (1 << 24)))
    return tuple(coded)


# -- 10. decompress


def _file(draw):
    def case(sampler: CaseSampler) -> dict:
        given = draw(sampler)
        return {"coded": _compress_reference(**given).tolist(), "order": given["order"]}

    return case


def _by_another_encoder(sampler: CaseSampler) -> dict:
    """A file that ends with another number of the last interval: its upper or its lower end."""
    text = _words(sampler, 2 + 2 * sampler.size)
    data = text.encode()
    low, high, coded = 0, TOP, [*len(data).to_bytes(2, "big")]
    digits = "".join(f"{byte:08b}" for byte in data)
    for digit, p in zip(digits, _said_by_replaying(data, 1), strict=True):
        settled, low, high = _narrow_reference(low, high, p, int(digit))
        coded += settled.tolist()
    end = low if sampler.size % 2 else high
    return {"coded": [*coded, *end.to_bytes(4, "big")], "order": 1}


def _decompress_reference(coded, order):
    """The package's decoder, with the parts exchanged, and bits as texts."""
    length = int.from_bytes(bytes(coded[:2]), "big")
    decoder = ArithmeticDecoder(bytes(coded[2:]) + bytes(4 + 32 * length))
    seen, read = defaultdict(lambda: {"0": 0, "1": 0}), ""
    while len(read) < 8 * length:
        start = max(0, 8 * (len(read) // 8 - order))
        place = seen[len(read) // 8 - start // 8, read[start:]]
        ones, total = place["1"], place["0"] + place["1"]
        bit = 1 - decoder.decode(65536 - int(65536 * Fraction(2 * ones + 1, 2 * total + 2)))
        came, other = str(bit), str(1 - bit)
        place[came] += 1
        place[other] = min(place[other], 2 + max(0, place[other] - 2) // 2)
        read += came
    return bytes(int(read[k : k + 8], 2) for k in range(0, len(read), 8)).decode("utf-8")


def _decompress_with_a_generator(coded, order):
    """The model is written once more, as a generator that is told each bit."""

    def model():
        counts, data = {}, []
        while True:
            context, prefix = tuple(data[len(data) - min(order, len(data)) :]), 1
            while prefix < 256:
                n = counts.setdefault((context, prefix), [0, 0])
                bit = yield 65536 * (2 * n[1] + 1) // (2 * n[0] + 2 * n[1] + 2)
                n[bit] += 1
                n[1 - bit] = min(n[1 - bit], n[1 - bit] // 2 + 1)
                prefix = 2 * prefix + bit
            data.append(prefix - 256)

    length = 256 * coded[0] + coded[1]
    padded = [*coded[2:], *[0] * (4 + 32 * length)]
    said = model()
    p, low, high, start, bits = next(said), 0, TOP, 0, []
    for _ in range(8 * length):
        x = int.from_bytes(bytes(padded[start : start + 4]), "big")
        bits.append(int(x > low + ((high - low) * (65536 - p) >> 16)))
        settled, low, high = narrow(low, high, p, bits[-1])
        start += len(settled)
        p = said.send(bits[-1])
    return np.packbits(np.array(bits, dtype=np.uint8)).tobytes().decode()


def _decompress_with_tables(coded, order):
    """A table of counts for each context, and an inner function that reads a bit."""
    rest = iter(coded[2:])
    state = [0, TOP, 0]
    for _ in range(4):
        state[2] = 256 * state[2] + next(rest, 0)

    def next_bit(p):
        low, high, x = state
        bit = int(x - low > (high - low) * (65536 - p) // 65536)
        settled, low, high = narrow(low, high, p, bit)
        for _ in settled:
            x = 256 * x % 2**32 + next(rest, 0)
        state[:] = low, high, x
        return bit

    tables, data = {}, bytearray()
    while len(data) < coded[0] * 256 + coded[1]:
        context = bytes(data[max(0, len(data) - order) :])
        table = tables.setdefault(context, np.zeros((256, 2), dtype=int))
        row = 1
        while row < 256:
            zeros, ones = table[row].tolist()
            bit = next_bit(math.floor(65536 * (ones + 0.5) / (zeros + ones + 1)))
            table[row, bit] += 1
            if table[row, 1 - bit] > 2:
                table[row, 1 - bit] -= (table[row, 1 - bit] - 1) // 2
            row = 2 * row + bit
        data.append(row - 256)
    return data.decode()


STEPS = [
    Step(
        "adaptive_bits",
        reference=_adaptive_reference,
        cases={
            "order 1": lambda sampler: _read(sampler, 3 + sampler.size // 2, 1, 0.5),
            "order 2": lambda sampler: _read(sampler, 2 + sampler.size // 2, 2, 0.25),
            "order 0": lambda sampler: _read(sampler, 3 + sampler.size // 2, 0, 0.5),
            "a letter that never comes": _letter_that_never_comes,
            "a text shorter than the order": _shorter_than_the_order,
        },
        mistakes=known_mistakes(
            "You count the character before you predict it. A decoder does not have it yet: first "
            "the cost, then the count.",
            ("        costs.append", "        known[character] += 1\n        costs.append"),
            ("        known[character] += 1\n    return", "    return"),
            "Your costs are in nats; bits need the logarithm to base 2.",
            ("log2", "log"),
            "The sign is wrong: a cost is minus the logarithm, and never negative.",
            ("-math", "math"),
            "Where nothing has been counted you divide by zero. Each of the V characters gets "
            "alpha, so the denominator grows by alpha times V.",
            ("sum(known.values())", "(sum(known.values()) - alpha * len(alphabet))"),
            "alpha is added to V counts, so the denominator grows by alpha times V, not by alpha.",
            ("sum(known.values())", "(sum(known.values()) - alpha * (len(alphabet) - 1))"),
            "You share the probability among the letters that the text has. A decoder does not "
            "know which these are: V is the size of the alphabet.",
            ("fromkeys(alphabet", "fromkeys(text"),
            "You count the whole text before you predict its first character. Only what stands "
            "before a character may predict it.",
            _adaptive_of_the_whole_text,
            "You divide by all characters so far; divide by how often this context has come.",
            ("sum(known.values())", "(t + alpha * len(alphabet))"),
            "Your contexts are one character too long.",
            ("t - order)", "t - order - 1)"),
            "Your contexts are one character too short.",
            ("t - order)", "t - order + 1)"),
            "Your context holds the very character that you predict; it ends before it.",
            ("text[max(0, t - order) : t]", "text[max(0, t - order + 1) : t + 1]"),
            "Near the start of the text, t - order is negative, and a negative index counts from "
            "the end. Stop at 0.",
            ("max(0, t - order)", "t - order"),
            "At order 0, text[-0:] is the whole text instead of nothing.",
            ("text[max(0, t - order) : t]", "text[:t][-order:]"),
            "The first characters cost something too; their contexts are only shorter.",
            ("return costs", "return costs[order:]"),
            "You return the cost of the whole text; return that of each character.",
            ("return costs", "return sum(costs)"),
        ),
        alternatives=[_adaptive_with_pairs, _adaptive_in_single_precision],
    ),
    Step(
        "bit_probabilities",
        reference=_probabilities_reference,
        cases={
            "order 1": lambda sampler: _bytes(sampler, 1, count=2 + sampler.size // 2),
            "order 2": lambda sampler: _bytes(sampler, 2),
            "order 0": lambda sampler: _bytes(sampler, 0, count=3),
            "a habit that changes": _change_of_habit,
            "bytes over 127": _korean_bytes,
            "fewer bytes than the order": _fewer_bytes_than_the_order,
        },
        mistakes=known_mistakes(
            "You count a bit before you predict it. A decoder does not have it yet.",
            ("            said.append((2 * n[1] + 1) * 65536 // (2 * sum(n) + 2))\n", ""),
            (
                "            prefix = prefix",
                "            said.append((2 * n[1] + 1) * 65536 // (2 * sum(n) + 2))\n"
                "            prefix = prefix",
            ),
            "Your result is 2**16 times the probability of a 0; a 1 is wanted.",
            ("2 * n[1] + 1", "2 * n[0] + 1"),
            "As numbers, the prefixes 0, 00 and 000 are all 0. Begin with a 1, or keep their "
            "lengths too.",
            ("t]), 1", "t]), 0"),
            "All bits of a byte share one counter. Each prefix of the byte has its own.",
            ("(context, prefix)", "context"),
            "You count by the place in the byte. What counts is which bits of it came before.",
            ("(context, prefix)", "(context, shift)"),
            "You begin with the lowest bit of a byte; the highest comes first.",
            ("range(7, -1, -1)", "range(8)"),
            "Your model never learns: no count is used again. Count each bit, and begin the prefix "
            "again with each byte.",
            ("counts, said = {}, []", "counts, said, prefix = {}, [], 1"),
            (
                "context, prefix = tuple(data[max(0, t - order) : t]), 1",
                "context = tuple(data[max(0, t - order) : t])",
            ),
            "Your counters forget nothing: when a bit comes, the count of the other bit shrinks "
            "if it is above 2.",
            ("> 2", "> 10**9"),
            "A count of yours shrinks when its own bit comes; only that of the other bit may shrink.",
            ("n[1 - bit] > 2", "n[bit] > 2"),
            ("n[1 - bit] = n[1 - bit] // 2 + 1", "n[bit] = n[bit] // 2 + 1"),
            "You halve the whole count; only what exceeds 2 is halved.",
            ("n[1 - bit] // 2 + 1", "n[1 - bit] // 2"),
            "You halve the excess and drop the 2: the new count is 2 plus half of the excess.",
            ("n[1 - bit] // 2 + 1", "(n[1 - bit] - 2) // 2"),
            "You round to the nearest whole number; the task rounds down. A decoder that rounds "
            "otherwise than the encoder loses its way.",
            (
                "(2 * n[1] + 1) * 65536 // (2 * sum(n) + 2)",
                "round((2 * n[1] + 1) * 65536 / (2 * sum(n) + 2))",
            ),
            "You return probabilities between 0 and 1; return them times 2**16, rounded down.",
            (" * 65536 //", " /"),
            "The factor is 2**16 = 65,536, not 65,535.",
            ("65536", "65535"),
            "You add 1 to each count; the formula adds one half to each and 1 to their sum.",
            ("(2 * n[1] + 1) * 65536 // (2 * sum(n) + 2)", "(n[1] + 1) * 65536 // (sum(n) + 2)"),
            "Your counters ignore the bytes before: the context is missing.",
            ("(context, prefix)", "prefix"),
            "Your contexts are one byte too long.",
            ("t - order)", "t - order - 1)"),
            "Your contexts are one byte too short.",
            ("t - order)", "t - order + 1)"),
            "Your context holds the very byte that you predict; it ends before it.",
            ("max(0, t - order) : t]", "max(0, t - order + 1) : t + 1]"),
            "Near the start of the data, t - order is negative, and a negative index counts from "
            "the end. Stop at 0.",
            ("max(0, t - order)", "t - order"),
            "At order 0, data[-0:] is all data instead of nothing.",
            ("data[max(0, t - order) : t]", "data[:t][-order:]"),
            "Your numbers are right; return them in one row, not byte by byte.",
            ("return said", "return [said[k : k + 8] for k in range(0, len(said), 8)]"),
        ),
        alternatives=[_probabilities_by_tables, _probabilities_by_texts],
        tolerance=1e-9,
    ),
    Step(
        "mixed",
        reference=_mixed_reference,
        cases={
            "several models": _several_models,
            "a single model": lambda sampler: _blend(sampler, 1),
            "probabilities of 0 and 1": _certain_models,
            "a mixture that is very sure": _sure_mixture,
            "a negative weight": _negative_weight,
        },
        mistakes=known_mistakes(
            "You average the probabilities; add up their log odds, each times its weight.",
            ("1 / (1 + np.exp(-y))", "p @ weights / weights.sum()"),
            "You add up the probabilities; add up their log odds, each times its weight.",
            ("1 / (1 + np.exp(-y))", "p @ weights"),
            "You make the weights sum to one first; use them as they are. Models that agree may "
            "make the mixture surer than each of them.",
            ("@ weights", "@ (weights / weights.sum())"),
            "You take the mean of the weighted log odds; take their sum.",
            ("@ weights", "@ weights / len(weights)"),
            "You take the logarithm of p; the log odds are the logarithm of p / (1 - p).",
            ("np.log(p / (1 - p))", "np.log(p)"),
            "You add up odds; take their logarithm first.",
            ("np.log(p / (1 - p))", "p / (1 - p)"),
            "Your result is the probability of a 0: a sign is wrong in the log odds or in the "
            "logistic function.",
            ("p / (1 - p)", "(1 - p) / p"),
            "Your log odds have base 2, but your logistic function has base e; both need the "
            "same base.",
            ("np.log", "np.log2"),
            "The log odds of 0 and 1 are infinite: keep the probabilities that come in between "
            "LEAST and 1 - LEAST.",
            ("np.clip(probabilities, LEAST, 1 - LEAST)", "probabilities"),
            "Keep the mixture too between LEAST and 1 - LEAST.",
            ("np.clip(1 / (1 + np.exp(-y)), LEAST, 1 - LEAST)", "1 / (1 + np.exp(-y))"),
            "Both bounds are missing: keep the probabilities that come in, and the mixture, between "
            "LEAST and 1 - LEAST.",
            ("np.clip(probabilities, LEAST, 1 - LEAST)", "probabilities"),
            ("np.clip(1 / (1 + np.exp(-y)), LEAST, 1 - LEAST)", "1 / (1 + np.exp(-y))"),
            "You return the log odds of the mixture; turn them into probabilities.",
            ("np.clip(1 / (1 + np.exp(-y)), LEAST, 1 - LEAST)", "y"),
        ),
        alternatives=[_mixed_with_tanh, _mixed_in_single_precision, _mixed_in_torch],
    ),
    Step(
        "mix_step",
        reference=_step_reference,
        cases={
            "a one": _one_bit(1),
            "a zero": _one_bit(0),
            "a single model": _one_bit(1, models=1),
            "a model that is certain": _certain_step,
            "a mixture that is sure and wrong": _wrong_and_sure,
        },
        mistakes=known_mistakes(
            "Your weights move in the wrong direction: the cost of this bit grows. Add rate times "
            "(b - p) x, or subtract rate times (p - b) x.",
            ("(bit - p)", "(p - bit)"),
            "The new weights are right. The cost is in nats; bits need the logarithm to base 2.",
            ("log2", "log"),
            "The cost is that of a 1 in all cases; a 0 has the probability 1 - p.",
            ("p if bit else 1 - p", "p"),
            "Your cost comes from the new weights. Pay first, with the weights that predicted.",
            (
                "cost = -math.log2(p if bit else 1 - p)\n    return cost, weights + rate * (bit - p) * x",
                "weights = weights + rate * (bit - p) * x\n"
                "    p = mixed(probabilities[None], weights)[0]\n"
                "    return -math.log2(p if bit else 1 - p), weights",
            ),
            "Your step follows the cost in bits; the formula has the gradient of the cost in "
            "nats, so divide by no logarithm of 2.",
            ("rate *", "rate / math.log(2) *"),
            "You have a factor p (1 - p) too much. It belongs to the squared error; with the "
            "logarithm it cancels.",
            ("(bit - p) * x", "(bit - p) * p * (1 - p) * x"),
            "You multiply by the models' probabilities; the inputs of the mixer are log odds.",
            ("(bit - p) * x", "(bit - p) * clipped"),
            "Each of your weights learns from the error of its own model; all of them learn from "
            "that of the mixture.",
            ("(bit - p)", "(bit - clipped)"),
            "You learn from what the mixture thinks more probable; learn from the bit that came.",
            ("(bit - p)", "((p > 0.5) - p)"),
            "The cost is right. Return the new weights, not the gradient.",
            ("weights + rate * (bit - p) * x", "(p - bit) * x"),
            "The cost is right. Return the new weights, not only the step.",
            ("weights + rate", "rate"),
            "The log odds of 0 and 1 are infinite: here too, keep the probabilities between LEAST "
            "and 1 - LEAST.",
            ("np.clip(probabilities, LEAST, 1 - LEAST)", "probabilities"),
            "Your mixture may come nearer to 0 or 1 than LEAST; take p from step 3.",
            ("    p = mixed(probabilities[None], weights)[0]\n", ""),
            ("cost =", "p = 1 / (1 + np.exp(-weights @ x))\n    cost ="),
            "Your numbers are right, but you overwrite the weights that you were given. Make a "
            "new array.",
            (
                "return cost, weights + rate * (bit - p) * x",
                "weights += rate * (bit - p) * x\n    return cost, weights",
            ),
        ),
        alternatives=[_step_with_softplus, _step_in_single_precision, _step_in_torch],
        depends_on=["mixed"],
    ),
    Step(
        "mix_in_sets",
        reference=_sets_reference,
        cases={
            "two sets or more": _sets(2, 2),
            "one set": _sets(1, 2),
            "one set of a single row": _sets(1, 1),
            "models that are certain": _sets_with_certain_models,
        },
        mistakes=known_mistakes(
            "Your costs begin right, but each set learns from the error of the average; let it "
            "learn from the error of its own prediction.",
            (
                "mix_step(models, chosen[s], bit, rate)[1]",
                "mix_step(models, chosen.mean(0), bit, rate)[1] + chosen[s] - chosen.mean(0)",
            ),
            "Your steps are too small by the number of sets. Each set learns as if it predicted "
            "alone, at the full rate.",
            ("bit, rate)[1]", "bit, rate / len(sets))[1]"),
            "All rows of a set learn; only the one that was selected may move.",
            (
                "weights[s, row] = mix_step(models, chosen[s], bit, rate)[1]",
                "weights[s] += mix_step(models, chosen[s], bit, rate)[1] - chosen[s]",
            ),
            "All rows of your sets become equal: you put the new row in the place of every row, "
            "not only of the one that was selected.",
            ("weights[s, row] =", "weights[s] ="),
            "All your sets use the selector of the first one; each set has its own column.",
            ("        chosen =", "        rows = rows[:1].repeat(len(sets))\n        chosen ="),
            "You always use row 0; selectors[t, s] is the row of set s.",
            ("        chosen =", "        rows = 0 * rows\n        chosen ="),
            "You select each row one bit late: selectors[t] belongs to bit t.",
            (
                "bits, selectors, strict=True",
                "bits, np.concatenate([selectors[:1], selectors[:-1]]), strict=True",
            ),
            "You add up the log odds of the sets; take their mean.",
            ("chosen.mean(0)", "chosen.sum(0)"),
            "You average the probabilities of the sets; average their log odds.",
            (
                "mixed(models[None], chosen.mean(0))[0]",
                "np.mean([mixed(models[None], row)[0] for row in chosen])",
            ),
            "Only your first set learns.",
            ("enumerate(rows)", "[(0, rows[0])]"),
            "Your sets do not learn: the weights stay as they were.",
            ("weights[s, row] =", "new ="),
            "You learn from a bit before you pay for it: the cost comes from the weights that "
            "predicted.",
            ("        costs.append(-math.log2(p if bit else 1 - p))\n", ""),
            (
                "bit, rate)[1]\n",
                "bit, rate)[1]\n"
                "        p = mixed(models[None], weights[sets, rows].mean(0))[0]\n"
                "        costs.append(-math.log2(p if bit else 1 - p))\n",
            ),
            "Your costs are in nats; bits need the logarithm to base 2.",
            ("log2", "log"),
            "You return the cost of all bits together; return that of each bit.",
            ("return costs,", "return sum(costs),"),
            "Your numbers are right, but you overwrite the weights that you were given. Work on "
            "a copy.",
            ("weights.copy()", "weights"),
        ),
        alternatives=[_sets_by_einsum, _sets_with_earlier_steps],
        depends_on=["mixed", "mix_step"],
    ),
    Step(
        "narrow",
        reference=_narrow_reference,
        cases={
            "no byte is settled": _settling(range(1), gap=0),
            "a byte is settled": _settling(range(1, 2), gap=1 << 20),
            "several bytes are settled at once": _settling(range(2, 4), gap=1 << 12),
            "the whole interval": _whole_interval,
        },
        mistakes=known_mistakes(
            "Your left part is that of a 1; here the 0 has the left part. (The chapter has it the "
            "other way round.)",
            ("65536 - p", "p"),
            ("if bit", "if not bit"),
            "p is the probability of a 1. The left part belongs to the 0, whose share is "
            "2**16 - p.",
            ("65536 - p", "p"),
            "The parts are exchanged: a 0 keeps the left one, a 1 the right one.",
            ("if bit", "if not bit"),
            "Your parts overlap in the number m. It belongs to the 0, so the part of the 1 begins "
            "at m + 1.",
            ("middle + 1", "middle"),
            "The number m belongs to the 0: its part ends at m, and that of the 1 begins at m + 1.",
            ("(low, middle)", "(low, middle - 1)"),
            ("middle + 1", "middle"),
            "The number m is lost: the part of the 0 ends at m, not before it.",
            ("(low, middle)", "(low, middle - 1)"),
            "You settle only one byte. Several may be settled at once: use while, not if.",
            ("while", "if"),
            "You settle no byte although the ends begin with the same one.",
            ("while low >> 24 == high >> 24", "while False"),
            "The upper end is filled up with zeros; fill it up with ones, since it is the last "
            "number that belongs to the interval.",
            (" | 255", ""),
            "A settled byte must leave the ends: keep only the lowest 32 bits, with & TOP.",
            (" & TOP\n        high = high << 8 & TOP", "\n        high = high << 8"),
            "You divide high - low + 1 numbers; the formula of the task has high - low. Encoder "
            "and decoder must do the same.",
            ("(high - low)", "(high - low + 1)"),
            "You round m to the nearest number; the formula rounds down.",
            ("((high - low) * (65536 - p) >> 16)", "round((high - low) * (65536 - p) / 65536)"),
            "The probabilities sum to 2**16 = 65,536, not to 65,535.",
            ("65536 - p", "65535 - p"),
            "You settle single bits; the coder settles whole bytes, eight bits at a time.",
            ("low >> 24 == high >> 24", "low >> 31 == high >> 31"),
            ("append(low >> 24)", "append(low >> 31)"),
            ("low << 8", "low << 1"),
            ("high << 8 & TOP | 255", "high << 1 & TOP | 1"),
            "You keep only the last settled byte; collect all of them.",
            ("settled.append(low >> 24)", "settled = [low >> 24]"),
            "Your settled bytes are in reverse order; the first one comes first.",
            ("settled.append(low >> 24)", "settled.insert(0, low >> 24)"),
        ),
        alternatives=[_narrow_by_bit_length, _narrow_by_division],
        tolerance=EXACT,
    ),
    Step(
        "encode",
        reference=_encode_reference,
        cases={
            "some bits": _some_bits,
            "bits that were expected": _expected_bits,
            "bits that were not expected": _unexpected_bits,
            "only zeros": _only_zeros,
            "a border at a whole byte": _half,
            "no bits": lambda sampler: {"bits": [], "probabilities": []},
        },
        mistakes=known_mistakes(
            "The last byte is missing. Without it the decoder reads a number below your interval.",
            ("[*coded, -(-low >> 24)]", "coded"),
            "Your last byte is the first one of low. Followed by zeros, it is a number below the "
            "interval: round up.",
            ("-(-low >> 24)", "low >> 24"),
            "You write all four bytes of low, as the chapter does. One byte is enough, since the "
            "decoder reads zeros after the end.",
            ("-(-low >> 24)", '*low.to_bytes(4, "big")'),
            "Your last byte lies in the interval, but the smallest one is asked for; yours is the "
            "first byte of high.",
            ("-(-low >> 24)", "high >> 24"),
            "Your last byte lies in the interval, but the smallest one is asked for; yours comes "
            "from its middle.",
            ("-(-low >> 24)", "-(-(low + high) // 2 >> 24)"),
            "You always take the first byte of low plus one. If the rest of low is zero, that "
            "byte itself is the smallest one.",
            ("-(-low >> 24)", "(low >> 24) + 1"),
            "Each of your bits begins with the whole interval; carry low and high on from bit to "
            "bit.",
            ("narrow(low, high, p, bit)", "narrow(0, TOP, p, bit)"),
            "You keep only the bytes that the last bit has settled; collect those of all bits.",
            ("coded += settled", "coded = settled"),
            "The interval has 2**32 numbers from 0 on, so it ends at 2**32 - 1, which is TOP.",
            ("TOP", "TOP + 1"),
            "You encode bits and probabilities from the last to the first; the decoder needs them "
            "from the first on.",
            (
                "zip(bits, probabilities, strict=True)",
                "zip(bits[::-1], probabilities[::-1], strict=True)",
            ),
        ),
        alternatives=[_encode_without_narrow, _encode_as_one_number],
        depends_on=["narrow"],
        tolerance=1e-9,
    ),
    Step(
        "decode",
        reference=_decode_reference,
        cases={
            "what an encoder wrote": _written,
            "any bytes": _any_bytes,
            "a single byte": _one_byte,
            "bits that were not expected": _improbable,
            "a number on the border": _border,
        },
        mistakes=known_mistakes(
            "The number m belongs to the 0: the bit is 1 only if x is larger than m.",
            ("x > middle", "x >= middle"),
            "Your bits are inverted: a number above m means 1.",
            ("x > middle", "x <= middle"),
            "Your m has the share of the 1 on the left; as in step 6, the left part belongs to "
            "the 0 and has the share 2**16 - p.",
            ("65536 - p", "p"),
            "You shift x by one byte for each bit that settles anything; shift it by one byte for "
            "each settled byte.",
            ("for _ in settled:", "if len(settled):"),
            "x never moves on: when a byte is settled, the next byte of the file comes in.",
            ("x = x << 8 & TOP | next(rest, 0)", "pass"),
            "A settled byte must leave x: keep only its lowest 32 bits, with & TOP.",
            (" & TOP", ""),
            "After the end of the file you read other bytes than zeros.",
            ("x = x << 8 | next(rest, 0)", "x = x << 8 | next(rest, 255)"),
            ("x << 8 & TOP | next(rest, 0)", "x << 8 & TOP | next(rest, 255)"),
            "If the file has fewer than four bytes, x is filled up with zeros at its end.",
            ("range(4)", "coded[:4]"),
            "Your decoder wants to read on after the end of the file; zeros follow there.",
            _decode_past_the_end,
            "Your interval stays whole; carry low and high on from bit to bit.",
            ("settled, low, high = narrow", "settled, _, _ = narrow"),
            "You narrow the interval by the more probable bit; use the one that you decoded.",
            ("narrow(low, high, p, bits[-1])", "narrow(low, high, p, int(p > 32768))"),
            "Your bits are right; return them as the numbers 0 and 1.",
            ("int(x > middle)", "x > middle"),
        ),
        alternatives=[_decode_by_a_window, _decode_by_the_distance],
        depends_on=["narrow"],
        tolerance=1e-9,
    ),
    Step(
        "compress",
        reference=_compress_reference,
        cases={
            "a short text": _english(1),
            "order 0": _english(0),
            "order 3": _english(3),
            "Korean": _korean,
            "an empty text": _empty,
            "more than 255 bytes": _long,
        },
        mistakes=known_mistakes(
            "The first two bytes are missing: without them nobody knows where the text ends.",
            ("return header + ", "return "),
            "Your first two bytes count characters; in UTF-8 a character may have several bytes, "
            "and a decoder must know how many bytes come.",
            ("len(data) >> 8, len(data) & 255", "len(text) >> 8, len(text) & 255"),
            "The two bytes of the number are exchanged: the higher one comes first.",
            ("len(data) >> 8, len(data) & 255", "len(data) & 255, len(data) >> 8"),
            "One byte for the number is not enough: the task asks for two.",
            ("len(data) >> 8, len(data) & 255", "len(data) & 255"),
            "You begin with the lowest bit of a byte; the highest comes first, as in step 2.",
            ("range(7, -1, -1)", "range(8)"),
            "The number of a character, which ord gives, may need more than a byte; take the bytes "
            "of the text in UTF-8.",
            ("list(text.encode())", "list(map(ord, text))"),
            "Write the text as UTF-8, so that every character has bytes.",
            ("text.encode()", 'text.encode("latin-1")'),
            "The order is ignored: you always use contexts of order 1.",
            ("(data, order)", "(data, 1)"),
            "Your model has probabilities of one half only; use those of step 2.",
            ("bit_probabilities(data, order)", "[32768] * len(bits)"),
        ),
        alternatives=[_compress_with_unpackbits, _compress_bit_by_bit],
        depends_on=["bit_probabilities", "narrow", "encode"],
        tolerance=1e-9,
    ),
    Step(
        "decompress",
        reference=_decompress_reference,
        cases={
            "a short text": _file(_english(1)),
            "order 0": _file(_english(0)),
            "order 3": _file(_english(3)),
            "Korean": _file(_korean),
            "an empty text": _file(_empty),
            "more than 255 bytes": _file(_long),
            "a file of another encoder": _by_another_encoder,
        },
        mistakes=known_mistakes(
            "The two bytes of the length are exchanged: the higher one comes first.",
            ("coded[0] << 8 | coded[1]", "coded[1] << 8 | coded[0]"),
            "You read one byte of the length; it has two, the higher one first.",
            ("coded[0] << 8 | coded[1]", "coded[1]"),
            "You decode the two bytes of the length as if they were bits of the text; begin after "
            "them.",
            ("coded[2:]", "coded"),
            "Your model never learns: no count is used again. Count each bit that was decoded, and "
            "look the counts up by the last bytes and the prefix of this byte alone.",
            ("n[bit] += 1", "pass"),
            "Your model learns from what it thinks more probable; it must count the bit that was "
            "decoded.",
            ("n[bit] += 1", "n[int(p > 32768)] += 1"),
            "Your model forgets nothing, and so differs from that of the encoder.",
            ("> 2", "> 10**9"),
            "Your p is rounded to the nearest whole number, that of the encoder down. One "
            "difference is enough to lose the way.",
            (
                "(2 * n[1] + 1) * 65536 // (2 * sum(n) + 2)",
                "round((2 * n[1] + 1) * 65536 / (2 * sum(n) + 2))",
            ),
            "Your model has no context: the bytes before are missing.",
            ("tuple(data[max(0, len(data) - order) :])", "()"),
            "At order 0, data[-0:] is all data instead of nothing.",
            ("max(0, len(data) - order)", "-order"),
            "You take each byte for a character. Decode all bytes together, as UTF-8.",
            ('bytes(data).decode(errors="replace")', '"".join(map(chr, data))'),
            "Your bytes are right; return the text that they stand for.",
            ('bytes(data).decode(errors="replace")', "data"),
        ),
        alternatives=[_decompress_with_a_generator, _decompress_with_tables],
        depends_on=["bit_probabilities", "narrow", "decode"],
    ),
]
