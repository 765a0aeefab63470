"""The steps of the exercise on sequence data, with their reference answers and known mistakes."""

import math

import numpy as np

from seqbook.statistics.dependence import autocorrelation, effective_sample_size
from stepgrader.steps import CaseSampler, Step, known_mistakes

# -- 1. autocorrelation_at


def _lagged(sampler: CaseSampler) -> dict:
    length = 6 + 2 * sampler.size
    return {"series": 5 + sampler.array(length), "lag": 1 + sampler.size}


def _lag_zero(sampler: CaseSampler) -> dict:
    return {"series": 5 + sampler.array(5 + sampler.size), "lag": 0}


def _long_lag(sampler: CaseSampler) -> dict:
    length = 5 + sampler.size
    return {"series": 5 + sampler.array(length), "lag": length + 2 * sampler.size}


def _last_lag(sampler: CaseSampler) -> dict:
    length = 5 + sampler.size
    return {"series": 5 + sampler.array(length), "lag": length - 1}


def _autocorrelation_reference(series, lag):
    lag = abs(lag)
    return autocorrelation(series, max_lag=lag)[lag] if lag < len(series) else 0.0


def _autocorrelation_by_a_loop(series, lag):
    mean = sum(series) / len(series)
    above = 0.0
    for t in range(abs(lag), len(series)):
        print("term", t)
        above += (series[t] - mean) * (series[t - abs(lag)] - mean)
    return above / sum((x - mean) ** 2 for x in series)


def _autocorrelation_in_float32(series, lag):
    import warnings

    warnings.warn("a warning is no mistake", stacklevel=1)
    x = (series - series.mean()).astype(np.float32)
    padded = np.concatenate([x, np.zeros(abs(lag), dtype=np.float32)])
    return np.dot(padded[abs(lag) :], x) / np.dot(x, x)


def _autocorrelation_by_correlate(series, lag):
    x = series - series.mean()
    every = np.correlate(x, x, "full")  # lags -(T - 1) to T - 1
    place = len(x) - 1 + lag
    return every[place] / every[len(x) - 1] if 0 <= place < len(every) else 0


# -- 2. permutation_p_value


def _test(sampler: CaseSampler) -> dict:
    shuffled = sampler.array(9 + 5 * sampler.size)
    return {"observed": 0.75, "shuffled": shuffled}


def _negative_test(sampler: CaseSampler) -> dict:
    shuffled = sampler.array(9 + 5 * sampler.size)
    return {"observed": -0.65, "shuffled": shuffled}


def _ties(sampler: CaseSampler) -> dict:
    shuffled = sampler.array(7 + sampler.size)
    shuffled[1], shuffled[4] = 0.5, -0.5
    return {"observed": 0.5, "shuffled": shuffled}


def _close(sampler: CaseSampler) -> dict:
    shuffled = sampler.array(7 + sampler.size)
    shuffled[[1, 4, 5]] = 0.4999, -0.4999, -0.5001
    return {"observed": 0.5, "shuffled": shuffled}


def _out_of_reach(sampler: CaseSampler) -> dict:
    return {"observed": 9.5, "shuffled": sampler.array(5 + sampler.size)}


def _p_value_reference(observed, shuffled):
    orders = [observed, *shuffled.tolist()]
    return len([s for s in orders if not abs(s) < abs(observed)]) / len(orders)


def _p_value_by_counting(observed, shuffled):
    count = 1
    for value in shuffled:
        if value >= abs(observed) or value <= -abs(observed):
            count += 1
    return count / (len(shuffled) + 1)


def _p_value_by_mean(observed, shuffled):
    orders = np.append(shuffled, observed)
    return np.float32(np.mean(orders**2 >= observed**2))


# -- 3. shuffle_blocks


def _order(sampler: CaseSampler, blocks: int) -> np.ndarray:
    """Draw an order of at least three blocks that is not its own inverse."""
    while True:
        order = sampler.random.permutation(blocks)
        if not np.array_equal(order[order], np.arange(blocks)):
            return order


def _blocks(sampler: CaseSampler) -> dict:
    blocks, length = 3 + sampler.size, 2 + sampler.size // 2
    return {
        "series": sampler.array(blocks * length),
        "length": length,
        "order": _order(sampler, blocks),
    }


def _remainder(sampler: CaseSampler) -> dict:
    blocks, length = 3 + sampler.size, 3
    return {
        "series": sampler.array(blocks * length + 2),
        "length": length,
        "order": _order(sampler, blocks),
    }


def _blocks_of_one(sampler: CaseSampler) -> dict:
    count = 4 + sampler.size
    return {"series": sampler.array(count), "length": 1, "order": _order(sampler, count)}


def _one_block(sampler: CaseSampler) -> dict:
    length = 3 + sampler.size
    return {"series": sampler.array(length + 1), "length": length, "order": np.array([0])}


def _no_block(sampler: CaseSampler) -> dict:
    count = 3 + sampler.size
    return {
        "series": sampler.array(count),
        "length": count + 2,
        "order": np.zeros(0, dtype=np.int64),
    }


def _blocks_reference(series, length, order):
    result = series.copy()
    for place, block in enumerate(order):
        for step in range(length):
            result[place * length + step] = series[block * length + step]
    return result


def _blocks_shared_evenly(series, length, order):
    if len(order) == 0:
        return series
    blocks = np.array_split(series, len(order))
    return np.concatenate([blocks[block] for block in order])


def _blocks_overwritten(series, length, order):
    for place, block in enumerate(order):
        moved = series[block * length : (block + 1) * length]
        series[place * length : (place + 1) * length] = moved
    return series


def _blocks_in_a_list(series, length, order):
    result = []
    for block in order:
        print("block", block)
        result += series[block * length : (block + 1) * length].tolist()
    return result + series[len(result) :].tolist()


def _blocks_by_places(series, length, order):
    steps = np.arange(length)
    places = (np.asarray(order)[:, None] * length + steps).ravel()
    rest = np.arange(len(places), len(series))
    return series[np.concatenate([places, rest]).astype(int)]


# -- 4. effective_size


def _with_memory(sampler: CaseSampler, weight: float, length: int, max_lag: int) -> dict:
    """Draw a series whose estimated variance factor is well above zero."""
    while True:
        path = [sampler.array(1)[0]]
        for shock in sampler.array(length - 1):
            path.append(round(weight * path[-1] + shock, 1))
        series = 10 + np.array(path)
        if np.ptp(series) == 0:
            continue
        found = autocorrelation(series, max_lag=max_lag)
        lags = np.arange(1, max_lag + 1)
        factor = 1 + 2 * np.sum((1 - lags / length) * found[1:])
        if factor > 0.3 and not 0.95 < factor < 1.05:
            return {"series": series, "max_lag": max_lag}


def _memory(sampler: CaseSampler) -> dict:
    return _with_memory(sampler, 0.8, 8 + 3 * sampler.size, 2 + sampler.size)


def _alternating(sampler: CaseSampler) -> dict:
    return _with_memory(sampler, -0.6, 8 + 3 * sampler.size, 1)


def _without_lags(sampler: CaseSampler) -> dict:
    return {"series": 10 + sampler.array(5 + sampler.size), "max_lag": 0}


def _effective_reference(series, max_lag):
    found = autocorrelation(series, max_lag=max_lag)
    size = effective_sample_size(found, length=len(series))
    return size, np.std(series) / np.sqrt(size)


def _effective_by_einsum(series, max_lag):
    count = len(series)
    x = np.concatenate([series - series.mean(), np.zeros(max_lag + 1)])
    shifted = np.stack([np.roll(x, lag) for lag in range(1, max_lag + 2)])
    products = np.einsum("kt,t->k", shifted[:max_lag], x)
    weights = 1 - np.arange(1, max_lag + 1) / count
    variance = x @ x / count
    factor = 1 + 2 * (weights @ products) / (count * variance)
    return [count / factor, np.sqrt(variance * factor / count)]


def _effective_by_all_pairs(series, max_lag):
    count = len(series)
    deviation = (series - np.mean(series)).tolist()
    square = sum(d * d for d in deviation)
    total = 0.0
    for k in range(-max_lag, max_lag + 1):
        for t in range(abs(k), count):
            share = (count - abs(k)) / count
            total += share * deviation[t] * deviation[t - abs(k)] / square
    return [count / total, np.sqrt(square / count * total / count)]


# -- 5. split_in_time


def _split(sampler: CaseSampler) -> dict:
    return {"series": sampler.array(11 + 5 * sampler.size), "share": 0.25, "gap": 1 + sampler.size}


def _round_down(sampler: CaseSampler) -> dict:
    return {"series": sampler.array(11 + 4 * sampler.size), "share": 0.25, "gap": 1}


def _without_gap(sampler: CaseSampler) -> dict:
    return {"series": sampler.array(9 + sampler.size), "share": 0.375, "gap": 0}


def _vectors(sampler: CaseSampler) -> dict:
    series = sampler.array(9 + sampler.size, 2 + sampler.size)
    return {"series": series, "share": 0.25, "gap": 1}


def _nothing_held_out(sampler: CaseSampler) -> dict:
    return {"series": sampler.array(7), "share": 0.125, "gap": 1 + sampler.size // 2}


def _split_reference(series, share, gap):
    size, parts = math.floor(share * len(series)), ([], [], [])
    for back, value in enumerate(series[::-1]):
        if back < size:
            parts[2].append(value)
        elif size + gap <= back < 2 * size + gap:
            parts[1].append(value)
        elif back >= 2 * (size + gap):
            parts[0].append(value)
    shape = (-1, *series.shape[1:])
    return tuple(np.array(part[::-1]).reshape(shape) for part in parts)


def _split_from_the_front(series, share, gap):
    n = math.floor(len(series) * share)
    train = len(series) - 2 * (n + gap)
    cuts = np.cumsum([train, gap, n, gap])
    pieces = np.split(series, cuts)
    return [pieces[0], pieces[2], pieces[4]]


def _split_by_masks(series, share, gap):
    n = int(len(series) * share // 1)
    back = np.arange(len(series))[::-1]
    held = (back >= n + gap) & (back < 2 * n + gap)
    return (
        series[back >= 2 * n + 2 * gap].astype(np.float32),
        series[held].astype(np.float32),
        series[back < n].astype(np.float32),
    )


# -- 6. sequence_probability


def _distributions(sampler: CaseSampler, *shape: int) -> np.ndarray:
    """Draw uneven distributions along the last axis, with two decimals."""
    shares = 1 + sampler.integers(12, *shape)
    rows = np.maximum((shares / shares.sum(-1, keepdims=True)).round(2), 0.02)
    rows[..., -1] = 1 - rows[..., :-1].sum(-1)
    if rows.min() < 0.02 or np.ptp(rows) < 0.2:
        return _distributions(sampler, *shape)
    return rows.round(2)


def _chain(sampler: CaseSampler, length: int) -> dict:
    size = 2 + min(sampler.size, 2)
    while True:
        symbols = sampler.integers(size, length)
        turned = symbols[::-1]
        if length == 1 or not np.array_equal(symbols, turned):
            break
    return {
        "initial": _distributions(sampler, size),
        "transition": _distributions(sampler, size, size),
        "symbols": symbols,
    }


def _same_symbol(sampler: CaseSampler) -> dict:
    case = _chain(sampler, 3)
    return case | {"symbols": np.full(3, case["symbols"][0])}


def _impossible(sampler: CaseSampler) -> dict:
    case = _chain(sampler, 3)
    before, after = case["symbols"][:2]
    case["transition"][before] = np.eye(len(case["initial"]))[after - 1]
    return case


def _probability_reference(initial, transition, symbols):
    """Look the sequence up in the table of all sequences of its length."""
    joint = np.asarray(initial)
    for _ in symbols[1:]:
        joint = joint[..., None] * transition
    return joint[tuple(symbols)]


def _probability_by_a_loop(initial, transition, symbols):
    probability = float(initial[int(symbols[0])])
    for t in range(1, len(symbols)):
        print("step", t)
        probability *= float(transition[int(symbols[t - 1])][int(symbols[t])])
    return probability


def _probability_by_einsum(initial, transition, symbols):
    kept = np.eye(len(initial))[symbols]
    state = initial * kept[0]
    for one in kept[1:]:
        state = np.einsum("i,ij,j->j", state, transition, one)
    return state.sum()


# -- 7. sequence_bits


def _tables(sampler: CaseSampler, size: int, past: int) -> list:
    return [_distributions(sampler, *[size] * k) for k in range(1, past + 2)]


def _long_sequence(sampler: CaseSampler) -> dict:
    size, past = 2 + sampler.size // 2, 2 + sampler.size % 2
    symbols = sampler.integers(size, 7 + sampler.size)
    symbols[:6] = [0, 1, 0, 0, 1, 1]  # not the same when read backwards
    return {"tables": _tables(sampler, size, past), "symbols": symbols}


def _short_sequence(sampler: CaseSampler) -> dict:
    size = 2 + sampler.size // 2
    return {
        "tables": _tables(sampler, size, 2),
        "symbols": sampler.integers(size, 1 + min(sampler.size, 1)),
    }


def _one_table(sampler: CaseSampler) -> dict:
    size = 3 + sampler.size
    return {
        "tables": _tables(sampler, size, 0),
        "symbols": sampler.integers(size, 5 + sampler.size),
    }


def _rare(sampler: CaseSampler) -> dict:
    tables = _tables(sampler, 2, 1)
    tables[1] = np.array([[0.5, 0.5], [0.999999, 0.000001]])
    return {"tables": tables, "symbols": np.ones(60 + sampler.size, dtype=int)}


def _bits_reference(tables, symbols):
    bits, past = [], len(tables) - 1
    for t, symbol in enumerate(symbols.tolist()):
        recent = symbols[max(0, t - past) : t].tolist()
        table = tables[len(recent)]
        for known in recent:
            table = table[known]
        bits.append(np.log2(table[symbol]))
    return -math.fsum(bits)


def _bits_by_windows(tables, symbols):
    past = len(tables) - 1
    total = np.float32(0)
    for t in range(min(past, len(symbols))):
        total -= np.log2(tables[t][tuple(symbols[: t + 1])])
    if len(symbols) > past:
        windows = np.lib.stride_tricks.sliding_window_view(symbols, past + 1)
        total -= np.log2(tables[past][tuple(windows.T)]).sum()
    return np.float32(total)


def _bits_by_einsum(tables, symbols):
    size, past = len(tables[0]), len(tables) - 1
    bits = []
    for t, symbol in enumerate(symbols):
        row = tables[min(t, past)]
        for known in symbols[max(0, t - past) : t]:
            row = np.einsum("i...,i->...", row, np.eye(size)[known])
        bits.append(math.log(row[symbol]) / math.log(2))
    return -sum(bits)


STEPS = [
    Step(
        "autocorrelation_at",
        reference=_autocorrelation_reference,
        cases={
            "a positive lag": _lagged,
            "a lag of zero": _lag_zero,
            "a negative lag": lambda sampler: _lagged(sampler) | {"lag": -1 - sampler.size},
            "the longest lag with a term": _last_lag,
            "a lag with no term left": _long_lag,
        },
        mistakes=known_mistakes(
            "The mean is not subtracted: multiply deviations from the mean, not the values.",
            (" - series.mean()", ""),
            "You divide each sum by its own number of terms; the formula divides the sums as they are.",
            ("(deviation @ deviation)", "max(len(later), 1) / series.var()"),
            "np.corrcoef subtracts each slice's own mean and divides by its own spread; the "
            "formula uses those of the whole series.",
            (
                "later @ earlier / (deviation @ deviation)",
                "np.corrcoef(later, earlier)[0, 1] if lag < len(series) - 1 else 0.0",
            ),
            "np.roll wraps the end of the series around to its beginning, which adds products "
            "that do not belong in the sum.",
            ("    lag = min(abs(lag), len(series))\n", ""),
            ("later @ earlier", "deviation @ np.roll(deviation, lag)"),
            "This is the autocovariance: divide by the sum of all squared deviations, so that lag 0 gives 1.",
            ("(deviation @ deviation)", "len(series)"),
            "You divide a sum by a mean: the denominator is the sum of the squared deviations, T times the variance.",
            ("(deviation @ deviation)", "series.var()"),
            "At lag 0 your second slice is empty, because values[:-0] is values[:0]. Count its "
            "end from the start of the series.",
            ("min(abs(lag), len(series))", "abs(lag)"),
            ("deviation[: len(series) - lag]", "deviation[:-lag]"),
            "At lag 0 your second slice is empty, because values[:-0] is values[:0], and negative "
            "lags give wrong results. Take the absolute value of the lag first, and count the end "
            "of the slice from the start.",
            ("    lag = min(abs(lag), len(series))\n", ""),
            ("deviation[: len(series) - lag]", "deviation[:-lag]"),
            "Lags from 0 to T are right. Take the absolute value of a negative lag first, and "
            "return 0 for a lag longer than the series; there your slices count from the wrong "
            "end.",
            ("    lag = min(abs(lag), len(series))\n", ""),
            "Negative lags give wrong results: the autocorrelation is the same at k and -k, so "
            "take the absolute value of the lag first.",
            ("abs(lag)", "lag"),
            "A lag longer than the series must give 0; there your slices count from the wrong end.",
            ("min(abs(lag), len(series))", "abs(lag)"),
        ),
        alternatives=[
            _autocorrelation_by_a_loop,
            _autocorrelation_in_float32,
            _autocorrelation_by_correlate,
        ],
    ),
    Step(
        "permutation_p_value",
        reference=_p_value_reference,
        cases={
            "an ordinary test": _test,
            "a negative statistic": _negative_test,
            "shuffles that tie with the data": _ties,
            "shuffles that come close to the data": _close,
            "a statistic that no shuffle reaches": _out_of_reach,
            "a single shuffle": lambda sampler: {"observed": 0.25, "shuffled": sampler.array(1)},
        },
        mistakes=known_mistakes(
            "The data's own order is not counted. It is one of the orders and as extreme as "
            "itself, so no p-value can be 0.",
            ("(1 + as_large.sum()) / (1 + len(shuffled))", "as_large.mean()"),
            "You count the data's own order in the numerator but not in the denominator.",
            ("(1 + len(shuffled))", "len(shuffled)"),
            "You count the data's own order in the denominator but not in the numerator: it is as "
            "extreme as itself.",
            ("(1 + as_large.sum())", "as_large.sum()"),
            "Ties count too: the task asks for 'at least as large', not for 'larger'.",
            (">=", ">"),
            "You count shuffles that are slightly less extreme than the data; count only those that "
            "are at least as extreme.",
            (">= abs(observed)", "> abs(observed) - 1e-3"),
            "You compare signed values; the task asks for absolute values, on both sides.",
            ("np.abs(shuffled) >= abs(observed)", "shuffled >= observed"),
            "The observed statistic needs its absolute value too: it may be negative.",
            ("abs(observed)", "observed"),
            "You count the shuffles that are less extreme; the p-value counts those at least as extreme.",
            (">=", "<="),
        ),
        alternatives=[_p_value_by_counting, _p_value_by_mean],
    ),
    Step(
        "shuffle_blocks",
        reference=_blocks_reference,
        cases={
            "blocks that fill the series": _blocks,
            "a remainder": _remainder,
            "blocks of one value": _blocks_of_one,
            "a single block": _one_block,
            "a series shorter than a block": _no_block,
        },
        mistakes=known_mistakes(
            "You move block i to place order[i]. Place i must get block order[i]; yours is the "
            "inverse permutation.",
            ("blocks[order]", "blocks[np.argsort(order)]"),
            "The values that do not fill a block are lost; they must stay at the end.",
            ("np.concatenate([blocks[order].ravel(), series[whole:]])", "blocks[order].ravel()"),
            "Each of your blocks holds values from all over the series. A block holds neighboring "
            "values, so each block must be a row after reshaping.",
            ("reshape(-1, length)", "reshape(length, -1).T"),
            "You spread the remainder over the blocks. Each block has exactly the given length, "
            "and the remaining values stay at the end.",
            _blocks_shared_evenly,
            "You put the remainder first; it must stay at the end.",
            ("blocks[order].ravel(), series[whole:]", "series[whole:], blocks[order].ravel()"),
            "You reverse the values within each block. Only the blocks move; their values stay in "
            "order.",
            ("blocks[order]", "blocks[order][:, ::-1]"),
            "You overwrite the series while you still read from it, so some blocks are lost. "
            "Write into a new array.",
            _blocks_overwritten,
        ),
        alternatives=[_blocks_in_a_list, _blocks_by_places],
    ),
    Step(
        "effective_size",
        reference=_effective_reference,
        cases={
            "a series with memory": _memory,
            "a series that alternates": _alternating,
            "no lags": _without_lags,
        },
        mistakes=known_mistakes(
            "The weights 1 - k/T are missing from the sum.",
            ("(1 - lag / count) * ", ""),
            "The factor 2 in front of the sum is missing.",
            ("2 * total", "total"),
            "Your sum starts at lag 0, which the 1 in the formula already covers; start at lag 1.",
            ("range(1, max_lag + 1)", "range(max_lag + 1)"),
            "Your sum stops one lag early: it includes max_lag itself.",
            ("max_lag + 1", "max_lag"),
            "The size is right, but for the standard error, divide the squared deviations by T, "
            "not by T - 1.",
            ("var()", "var(ddof=1)"),
            "The size is right, but your standard error is that of independent values: divide the "
            "variance by the effective size, not by T.",
            ("series.var() / size", "series.var() / count"),
            "The size is right, but you return the variance of the mean; the standard error is "
            "its square root.",
            ("math.sqrt(series.var() / size)", "series.var() / size"),
            "Positive autocorrelations must make the effective size smaller: divide T by the "
            "bracket instead of multiplying.",
            ("count / (1", "count * (1"),
        ),
        alternatives=[_effective_by_einsum, _effective_by_all_pairs],
        depends_on=["autocorrelation_at"],
    ),
    Step(
        "split_in_time",
        reference=_split_reference,
        cases={
            "two gaps": _split,
            "a share that is rounded down": _round_down,
            "no gap": _without_gap,
            "a series of vectors": _vectors,
            "a share too small for one value": _nothing_held_out,
        },
        mistakes=known_mistakes(
            "The gaps are missing: the parts must not touch.",
            ("test - gap - size", "test - size"),
            ("validation - gap", "validation"),
            "The gap before the test part is missing: validation must end that much earlier.",
            ("test - gap - size", "test - size"),
            "The gap before the validation part is missing: training must end that much earlier.",
            ("validation - gap", "validation"),
            "You take the gaps from the validation and test parts, which must keep their n "
            "values. Take both gaps from the training part.",
            ("test - gap - size", "test - size"),
            ("validation - gap", "validation"),
            ("series[validation : validation + size]", "series[validation + gap : test]"),
            ("series[test:]", "series[test + gap :]"),
            "If n is 0, a slice counted from the end such as series[-n:] is the whole series. Count from the start.",
            ("validation : validation + size", "-2 * size - gap : -size - gap"),
            ("[test:]", "[-size:]"),
            "Round down, not up.",
            ("int", "math.ceil"),
            "The validation and test parts are swapped: the test part is the last in time, and "
            "the last in the result.",
            ("series[validation : validation + size]", "series[test:]"),
            ("series[test:]", "series[validation : validation + size]"),
            "For a series of vectors, `share` is a fraction of the time steps, not of all "
            "numbers: use len, not size.",
            ("share * len(series)", "share * series.size"),
            "The validation and test parts hold the fraction `share` each, not together.",
            ("int(share * len(series))", "int(share * len(series)) // 2"),
        ),
        alternatives=[_split_from_the_front, _split_by_masks],
    ),
    Step(
        "sequence_probability",
        reference=_probability_reference,
        cases={
            "a short sequence": lambda sampler: _chain(sampler, 3 + min(sampler.size, 2)),
            "a sequence of one symbol": lambda sampler: _chain(sampler, 1),
            "a symbol that repeats": _same_symbol,
            "a transition that is impossible": _impossible,
        },
        mistakes=known_mistakes(
            "Rows and columns are swapped: transition[i, j] is the probability of j after i.",
            ("symbols[:-1], symbols[1:]", "symbols[1:], symbols[:-1]"),
            "Your product leaves out the first symbol; multiply by its initial probability.",
            ("initial[symbols[0]] * ", ""),
            "You treat the symbols as independent; from the second on, each depends on the one before.",
            ("initial[symbols[0]] * steps.prod()", "initial[symbols].prod()"),
            "The last transition is missing: T symbols have T - 1 transitions.",
            ("steps.prod()", "steps[:-1].prod()"),
            "Multiply the probabilities instead of adding them.",
            ("* steps.prod()", "+ steps.sum()"),
            "You return the logarithm of the probability; return the probability itself.",
            (
                "initial[symbols[0]] * steps.prod()",
                "np.log(initial[symbols[0]]) + np.log(steps).sum()",
            ),
        ),
        alternatives=[_probability_by_a_loop, _probability_by_einsum],
        tolerance=1e-6,  # the probabilities are small
    ),
    Step(
        "sequence_bits",
        reference=_bits_reference,
        cases={
            "a sequence longer than the window": _long_sequence,
            "a sequence shorter than the window": _short_sequence,
            "a single table": _one_table,
            "sixty rare symbols": _rare,
        },
        mistakes=known_mistakes(
            "Your cost is in nats; bits need the logarithm to base 2.",
            ("log2", "log"),
            "You divide by the length; return the cost of the whole sequence.",
            ("return bits", "return bits / len(symbols)"),
            "The sign is wrong: the cost is minus the logarithm, and never negative.",
            ("-= ", "+= "),
            "You index the past with the newest symbol first; the oldest symbol goes on the first "
            "axis.",
            ("tuple(symbols[t - known : t + 1])", "(*symbols[t - known : t][::-1], symbols[t])"),
            "Your index starts with the symbol to be predicted; that symbol goes on the last "
            "axis, after the past.",
            ("t + 1]", "t + 1][::-1]"),
            "Your sum leaves out the first symbols; they are predicted by the smaller tables.",
            ("range(len(symbols))", "range(len(tables) - 1, len(symbols))"),
            "Your window is one symbol too short: the last table of the list is never used.",
            ("len(tables) - 1", "max(len(tables) - 2, 0)"),
            "The product of many small probabilities underflows to zero, and a lower limit only "
            "hides that. Sum the bits instead.",
            ("bits = 0.0", "probability = 1.0"),
            ("bits -= math.log2(tables[known][window])", "probability *= tables[known][window]"),
            ("return bits", "return -np.log2(max(probability, 1e-300))"),
            "The product of many small probabilities is rounded to zero before you take its "
            "logarithm. Sum the bits instead.",
            ("bits = 0.0", "probability = 1.0"),
            ("bits -= math.log2(tables[known][window])", "probability *= tables[known][window]"),
            ("return bits", "return -np.log2(probability)"),
            "You use another table for every length of the past. Once K symbols are known, keep "
            "using the last table.",
            ("min(t, len(tables) - 1)", "t"),
        ),
        alternatives=[_bits_by_windows, _bits_by_einsum],
    ),
]
