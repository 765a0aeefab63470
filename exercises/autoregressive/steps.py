"""The steps of the exercise on autoregressive models, with their reference answers and known mistakes."""

import math

import numpy as np

from seqbook.statistics.autoregressive import LinearAR
from seqbook.statistics.hidden_markov import HiddenMarkovModel
from seqbook.statistics.markov import (
    AdditiveMarkov,
    MarkovChain,
    bits_per_symbol,
)
from stepgrader.steps import CaseSampler, Step, known_mistakes


def _distributions(sampler: CaseSampler, *shape: int) -> np.ndarray:
    """Draw uneven distributions along the last axis, with two decimals."""
    shares = 1 + sampler.integers(12, *shape)
    rows = np.maximum((shares / shares.sum(-1, keepdims=True)).round(2), 0.02)
    rows[..., -1] = 1 - rows[..., :-1].sum(-1)
    if rows.min() < 0.02 or np.ptp(rows) < 0.2:
        return _distributions(sampler, *shape)
    return rows.round(2)


# -- 1. transition_table


def _symbols(sampler: CaseSampler, size: int, length: int) -> np.ndarray:
    """Draw symbols with a repeated pair, and not the same backwards."""
    symbols = sampler.integers(size, length)
    symbols[:8] = [0, 1, 1, 0, 1, 0, 0, 0]
    return symbols


def _count(sampler: CaseSampler, size: int, order: int, alpha: float) -> dict:
    return {
        "symbols": _symbols(sampler, size, 10 + 4 * sampler.size),
        "size": size,
        "order": order,
        "alpha": alpha,
    }


def _unseen_symbol(sampler: CaseSampler) -> dict:
    case = _count(sampler, 2, 1, 0.5)
    return case | {"size": 3 + sampler.size // 2}


def _unseen_context(sampler: CaseSampler) -> dict:
    """One context never occurs, and another one once."""
    case = _count(sampler, 2, 1 + sampler.size // 3, 0)
    case["symbols"][8] = 2
    return case | {"size": 4}


def _one_window(sampler: CaseSampler) -> dict:
    order = 1 + sampler.size // 2
    symbols = sampler.integers(2, order + 1)
    return {"symbols": symbols, "size": 2, "order": order, "alpha": 1}


def _table_reference(symbols, size, order, alpha):
    model = AdditiveMarkov(order, size, alpha=alpha).fit(symbols)
    table = np.empty((size,) * (order + 1))
    for context in np.ndindex(table.shape[:-1]):
        table[context] = model.distribution(context)
    return table


def _table_by_bincount(symbols, size, order, alpha):
    import warnings

    warnings.warn("a warning is no mistake", stacklevel=1)
    count = len(symbols) - order
    code = np.zeros(count, dtype=int)
    for k in range(order + 1):
        code = code * size + symbols[k : k + count]
    counts = np.bincount(code, minlength=size ** (order + 1))
    table = (counts + alpha).astype(np.float32).reshape(-1, size)
    table[table.sum(1) == 0] = 1
    table /= table.sum(1, keepdims=True)
    return table.reshape((size,) * (order + 1))


def _table_by_einsum(symbols, size, order, alpha):
    one_hot = np.eye(size)[symbols]
    letters, count = "abcdefgh"[: order + 1], len(symbols) - order
    rule = ",".join("t" + letter for letter in letters) + "->" + letters
    shifted = [one_hot[k : k + count] for k in range(order + 1)]
    smoothed = np.einsum(rule, *shifted) + alpha
    total = np.einsum("...j->...", smoothed)[..., None]
    return np.divide(smoothed, total, out=np.full_like(smoothed, 1 / size), where=total > 0)


# -- 2. held_out_bits


def _scored(
    sampler: CaseSampler, size: int, order: int, skip: int, length: int | None = None
) -> dict:
    return {
        "table": _distributions(sampler, *[size] * (order + 1)),
        "symbols": _symbols(sampler, size, length or 9 + 2 * sampler.size),
        "skip": skip,
    }


def _skip_the_order(sampler: CaseSampler) -> dict:
    return _scored(sampler, 2 + sampler.size // 2, 1, 1)


def _skip_more(sampler: CaseSampler) -> dict:
    return _scored(sampler, 2 + sampler.size // 2, 1, 3)


def _score_one_symbol(sampler: CaseSampler) -> dict:
    return _scored(sampler, 2 + sampler.size // 2, 1, 8, length=9)


def _held_out_reference(table, symbols, skip):
    chain = MarkovChain(np.full(len(table), 1 / len(table)), table)
    bits = bits_per_symbol(chain, symbols, skip=skip)
    return bits, np.exp(bits * np.log(2))


def _held_out_by_windows(table, symbols, skip):
    kept = symbols[skip + 1 - table.ndim :]
    windows = np.lib.stride_tricks.sliding_window_view(kept, table.ndim)
    chosen = np.log2(table.astype(np.float32))[tuple(windows.T)]
    return [-chosen.mean(), np.exp2(-chosen.mean())]


def _held_out_by_product(table, symbols, skip):
    """Perplexity first: the geometric mean of the reciprocals."""
    inverse = 1.0
    for t in range(skip, len(symbols)):
        print("symbol", t)
        row = table
        for known in symbols[t + 1 - table.ndim : t + 1]:
            row = row[known]
        inverse /= row
    perplexity = inverse ** (1 / (len(symbols) - skip))
    return math.log2(perplexity), perplexity


# -- 3. fit_ar


def _recordings(sampler: CaseSampler, lengths: list[int], order: int) -> dict:
    """Draw recordings of a process with memory around a mean of five."""
    recordings = []
    for length in lengths:
        values = [sampler.array(1)[0]]
        for shock in sampler.array(length - 1):
            values.append(round(0.5 * values[-1] + shock, 1))
        recordings.append(5 + np.array(values))
    return {"recordings": recordings, "order": order}


def _two_recordings(sampler: CaseSampler) -> dict:
    lengths = [6 + sampler.size, 5 + 2 * sampler.size]
    return _recordings(sampler, lengths, 1)


def _one_recording(sampler: CaseSampler) -> dict:
    return _recordings(sampler, [9 + 2 * sampler.size], 1 + sampler.size)


def _longer_window(sampler: CaseSampler) -> dict:
    return _recordings(sampler, [7 + sampler.size, 8, 9 + sampler.size], 2)


def _short_recordings(sampler: CaseSampler) -> dict:
    return _recordings(sampler, [1, 8 + sampler.size, 2, 7], 2)


def _fit_reference(recordings, order):
    """Put the recordings in one series, and give each seam's row no weight."""
    joined = np.concatenate(recordings)
    owner = np.repeat(range(len(recordings)), [len(r) for r in recordings])
    times = np.arange(order, len(joined))
    kept = times[owner[times] == owner[times - order]]
    design = np.ones((len(kept), order + 1))
    for k in range(1, order + 1):
        design[:, k] = joined[kept - k]
    q, r = np.linalg.qr(design)
    found = np.linalg.inv(r) @ (q.T @ joined[kept])
    return found[0], found[1:]


def _fit_averaged(recordings, order):
    found = []
    for series in recordings:
        if len(series) > order:
            rows = [
                [1.0, *(series[t - k] for k in range(1, order + 1))]
                for t in range(order, len(series))
            ]
            found.append(np.linalg.lstsq(np.array(rows), series[order:], rcond=None)[0])
    mean = np.mean(found, axis=0)
    return mean[0], mean[1:]


def _fit_by_normal_equations(recordings, order):
    columns, targets = [], []
    for series in recordings:
        if len(series) <= order:
            continue
        n = len(series)
        shifted = [series[order - k : n - k] for k in range(order + 1)]
        targets.append(shifted[0])
        columns.append(np.column_stack([np.ones(n - order), *shifted[1:]]))
    design, target = np.concatenate(columns), np.concatenate(targets)
    square = np.einsum("ti,tj->ij", design, design)
    found = np.linalg.solve(square, np.einsum("ti,t->i", design, target))
    return float(found[0]), found[1:].tolist()


def _fit_by_centering(recordings, order):
    """Center targets and columns, each by its own mean over the rows."""
    pieces = [
        np.lib.stride_tricks.sliding_window_view(series, order + 1)
        for series in recordings
        if len(series) > order
    ]
    windows = np.concatenate(pieces)[:, ::-1]
    mean = windows.mean(0)
    target, past = (windows - mean)[:, 0], (windows - mean)[:, 1:]
    weights = np.linalg.pinv(past) @ target if order else np.zeros(0)
    return [mean[0] - mean[1:] @ weights, weights]


# -- 4. roll_out


def _batch(sampler: CaseSampler, batch: int, time: int, order: int, steps: int) -> dict:
    weights = sampler.array(order)
    while order and (abs(weights).min() < 0.2 or abs(weights).sum() > 1.6):
        weights = sampler.array(order)
    return {
        "intercept": 0.5 + sampler.size,
        "weights": weights,
        "histories": sampler.array(batch, time),
        "steps": steps,
    }


def _small_batch(sampler: CaseSampler) -> dict:
    batch, steps = 2 + sampler.size, 3 + 2 * sampler.size
    return _batch(sampler, batch, 4 + sampler.size, 2 + sampler.size // 3, steps)


def _just_enough(sampler: CaseSampler) -> dict:
    order = 2 + sampler.size // 3
    return _batch(sampler, 3, order, order, 2 + 2 * sampler.size)


def _batch_of_one(sampler: CaseSampler) -> dict:
    return _batch(sampler, 1, 4 + sampler.size, 1, 2 + sampler.size)


def _whole_numbers(sampler: CaseSampler) -> dict:
    case = _batch(sampler, 2, 3 + sampler.size, 2, 4 + sampler.size)
    histories = 1 + sampler.integers(9, *case["histories"].shape)
    return case | {"histories": histories}


def _no_weights(sampler: CaseSampler) -> dict:
    return _batch(sampler, 2, 3 + sampler.size, 0, 2 + 2 * sampler.size)


def _roll_out_reference(intercept, weights, histories, steps):
    model = LinearAR(intercept, weights)
    return np.array([model.roll_out(history, steps) for history in histories])


def _roll_out_by_lists(intercept, weights, histories, steps):
    result = []
    for history in histories.tolist():
        values = list(history)
        for _ in range(steps):
            forecast = float(intercept)
            for k, weight in enumerate(weights, start=1):
                forecast += weight * values[-k]
            values.append(forecast)
        result.append(values[len(history) :])
    return result


def _roll_out_by_companion(intercept, weights, histories, steps):
    """One matrix holds weights, intercept and shift."""
    order, batch = len(weights), len(histories)
    matrix = np.eye(order + 1, k=-1)
    matrix[0] = [*weights, intercept]
    matrix[order] = np.eye(order + 1)[order]
    recent = histories[:, histories.shape[1] - order :][:, ::-1]
    state = np.column_stack([recent, np.ones(batch)])
    forecasts = np.empty((batch, steps))
    for step in range(steps):
        if order == 0:
            forecasts[:, step] = intercept
            continue
        state = np.einsum("ij,bj->bi", matrix, state)
        forecasts[:, step] = state[:, 0]
    return forecasts


# -- 5. long_run


def _linear(sampler: CaseSampler, order: int, wanted) -> dict:
    """Draw weights until the model is as wanted, and no mistake a close call."""
    while True:
        weights = sampler.array(order)
        if weights[-1] == 0:
            continue
        model = LinearAR(0.0, weights)
        total, size = weights.sum(), abs(weights).sum()
        companion = np.vstack([weights, np.eye(order)[:-1]])
        decisive = [
            size,
            total,
            *np.abs(model.roots),
            *np.abs(model.roots.real),
            *np.abs(np.roots([1.0, *weights])),
            np.linalg.norm(companion, 2),
        ]
        close = min(abs(1 - np.array(decisive)))
        if close > 0.02 and abs(total) > 0.1 and wanted(model):
            return {"intercept": 1.5 + sampler.size, "weights": weights}


def _stable(model: LinearAR) -> bool:
    return 0.2 < model.spectral_radius < 0.95


def _unstable(model: LinearAR) -> bool:
    return model.spectral_radius > 1.05


def _turning(model: LinearAR) -> bool:
    return abs(model.roots[0].imag) > 0.2


def _settling(sampler: CaseSampler) -> dict:
    return _linear(sampler, 2 + sampler.size // 2, _stable)


def _settling_in_turns(sampler: CaseSampler) -> dict:
    return _linear(sampler, 2, lambda m: _stable(m) and _turning(m))


def _large_weights(sampler: CaseSampler) -> dict:
    return _linear(sampler, 2, lambda m: _stable(m) and abs(m.weights).sum() > 1.2)


def _exploding(sampler: CaseSampler) -> dict:
    return _linear(sampler, 2 + sampler.size // 2, _unstable)


def _exploding_in_turns(sampler: CaseSampler) -> dict:
    return _linear(
        sampler, 2, lambda m: _unstable(m) and _turning(m) and abs(m.roots[0].real) < 0.9
    )


def _negative_root(sampler: CaseSampler) -> dict:
    return _linear(sampler, 1, lambda m: _unstable(m) and m.weights[0] < 0)


def _random_walk(sampler: CaseSampler) -> dict:
    return {"intercept": 0.5 + sampler.size, "weights": np.array([1.0])}


def _long_run_reference(intercept, weights):
    model = LinearAR(intercept, weights)
    radius = model.spectral_radius
    return radius, model.mean if radius < 1 else None


def _long_run_by_companion(intercept, weights):
    matrix = np.eye(len(weights), k=-1)
    matrix[0] = weights
    values = np.linalg.eigvals(matrix)
    modulus = np.sqrt(np.max(values.real**2 + values.imag**2))
    if modulus < 1:
        print("it settles")
        gap = 1 - np.einsum("k->", weights)
        return [modulus, np.float32(intercept / gap)]
    return [modulus, None]


def _long_run_by_settling(intercept, weights):
    """The end is found by rolling out, and the modulus from the powers."""
    order = len(weights)
    matrix = np.eye(order, k=-1)
    matrix[0] = weights
    modulus = max(abs(z) for z in np.linalg.eigvals(matrix).tolist())
    if modulus >= 1:
        return modulus, None
    recent = np.zeros(order)
    for _ in range(600):
        recent = np.append(intercept + weights @ recent, recent[:-1])
    return modulus, recent[0]


# -- 6. filter_step


def _model(sampler: CaseSampler) -> dict:
    """Draw a hidden Markov model whose states differ and do not last."""
    states, symbols = 2 + sampler.size // 2, 3 + sampler.size // 2
    if sampler.size % 2:
        states, symbols = symbols, states
    while True:
        initial = _distributions(sampler, states)
        transition = _distributions(sampler, states, states)
        emission = _distributions(sampler, states, symbols)
        apart = [
            np.ptp(transition, axis=0).max(),
            np.ptp(emission, axis=0).max(),
            abs(initial @ transition - initial).max(),
        ]
        if min(apart) > 0.2:
            return {"initial": initial, "transition": transition, "emission": emission}


def _one_step(sampler: CaseSampler) -> dict:
    model = _model(sampler)
    return {
        "belief": model["initial"],
        "transition": model["transition"],
        "emission": model["emission"],
        "symbol": int(sampler.integers(model["emission"].shape[1])),
    }


def _certain(sampler: CaseSampler) -> dict:
    case = _one_step(sampler)
    return case | {"belief": np.eye(len(case["belief"]))[1]}


def _telling_symbol(sampler: CaseSampler) -> dict:
    """A symbol that only one state can emit."""
    case = _one_step(sampler)
    case["emission"][:, 0] = 0
    case["emission"] /= case["emission"].sum(1, keepdims=True)
    case["emission"][0] = np.eye(case["emission"].shape[1])[0]
    return case | {"symbol": 0, "emission": case["emission"].round(2)}


def _filter_reference(belief, transition, emission, symbol):
    """Sum over all pairs of a state before and a state after."""
    joint = [
        math.fsum(
            before * transition[i, j] * emission[j, symbol] for i, before in enumerate(belief)
        )
        for j in range(len(belief))
    ]
    total = math.fsum(joint)
    return np.array([weight / total for weight in joint]), total


def _filter_by_matrix(belief, transition, emission, symbol):
    """One matrix for change and symbol, in float32."""
    matrix = transition * emission[:, symbol]
    weighted = belief.astype(np.float32) @ matrix.astype(np.float32)
    return [weighted / weighted.sum(), weighted.sum()]


def _filter_by_einsum(belief, transition, emission, symbol):
    joint = np.einsum("i,ij,jx->jx", belief, transition, emission)
    return joint[:, symbol] / joint.sum(0)[symbol], joint.sum(0)[symbol]


# -- 7. filter_bits


def _observed(sampler: CaseSampler) -> dict:
    model = _model(sampler)
    symbols = sampler.integers(model["emission"].shape[1], 5 + 3 * sampler.size)
    symbols[:3] = [0, 1, 1]
    return model | {"symbols": symbols}


def _first_only(sampler: CaseSampler) -> dict:
    model = _model(sampler)
    return model | {"symbols": sampler.integers(model["emission"].shape[1], 1)}


def _settled_start(sampler: CaseSampler) -> dict:
    """It is known which state comes first, and it does not last."""
    case = _observed(sampler)
    states = len(case["initial"])
    return case | {
        "initial": np.eye(states)[0],
        "transition": np.eye(states)[np.arange(states) - 1],
    }


def _rare_symbols(sampler: CaseSampler) -> dict:
    model = _model(sampler)
    states = len(model["initial"])
    rare = 1e-6 * (1 + np.arange(states))
    return model | {
        "emission": np.column_stack([1 - rare, rare]),
        "symbols": np.ones(60 + sampler.size, dtype=int),
    }


def _filter_bits_reference(initial, transition, emission, symbols):
    filtered = HiddenMarkovModel(initial, transition, emission).filter(symbols)
    steps = filtered.next_symbol[np.arange(len(symbols)), symbols]
    return np.mean(-np.log2(steps))


def _filter_bits_scaled(initial, transition, emission, symbols):
    """Forward weights, rescaled by a power of two before they vanish."""
    weights, halvings = initial * emission[:, symbols[0]], 0
    for symbol in symbols[1:]:
        print("symbol", symbol)
        while weights.max() < 0.5:
            weights, halvings = 2 * weights, halvings + 1
        weights = np.einsum("i,ij,j->j", weights, transition, emission[:, symbol])
    return (halvings - np.log2(weights.sum())) / len(symbols)


def _filter_bits_in_logs(initial, transition, emission, symbols):
    """Forward recursion on logarithms."""
    with np.errstate(divide="ignore"):
        log_change = np.log2(transition)
        log_weights = np.log2(initial) + np.log2(emission[:, symbols[0]])
        for symbol in symbols[1:]:
            sums = np.logaddexp2.reduce(log_weights[:, None] + log_change, axis=0)
            log_weights = sums + np.log2(emission[:, symbol])
    return -np.logaddexp2.reduce(log_weights) / np.float64(len(symbols))


STEPS = [
    Step(
        "transition_table",
        reference=_table_reference,
        cases={
            "order 1": lambda sampler: _count(sampler, 2 + sampler.size // 2, 1, 0.5),
            "order 2": lambda sampler: _count(sampler, 2 + sampler.size // 2, 2, 0.25),
            "order 0": lambda sampler: _count(sampler, 3 + sampler.size // 2, 0, 1),
            "a symbol that never occurs": _unseen_symbol,
            "a context that never occurs, and no smoothing": _unseen_context,
            "a sequence of a single window": _one_window,
        },
        mistakes=known_mistakes(
            "Your counts are not smoothed: add alpha to each of them.",
            ("float(alpha)", "0.0"),
            "You add alpha to the counts but not to their sum, so your rows sum to more than one.",
            ("= table.sum", "= (table - alpha).sum"),
            "alpha is added to V counts, so the denominator grows by alpha times V, not by alpha.",
            ("keepdims=True)", "keepdims=True) - alpha * (size - 1)"),
            "alpha is added to every count, not only to those that are zero.",
            ("float(alpha)", "0.0"),
            ("    totals =", "    table[table == 0] = alpha\n    totals ="),
            "You divide by the sums over the first axis; the probabilities of the next symbol, on the last axis, must sum to one.",
            ("axis=-1", "axis=0"),
            "Your sums have lost their last axis, so each divides a column instead of its row; "
            "keepdims=True keeps that axis. A context that never occurs also needs a special "
            "case.",
            (
                "np.where(totals > 0, table / np.maximum(totals, 1e-300), 1 / size)",
                "table / table.sum(axis=-1)",
            ),
            "Your whole table sums to one, so it holds joint probabilities; each row, given its "
            "context, must sum to one.",
            (
                "np.where(totals > 0, table / np.maximum(totals, 1e-300), 1 / size)",
                "table / table.sum()",
            ),
            "You index the context with the newest symbol first; its oldest symbol goes on the "
            "first axis.",
            ("tuple(symbols[t - order : t + 1])", "(*symbols[t - order : t][::-1], symbols[t])"),
            "Your first axis is the next symbol; the next symbol goes on the last axis, after the "
            "context.",
            ("tuple(symbols[t - order : t + 1])", "(symbols[t], *symbols[t - order : t])"),
            "When you index with arrays, += 1 counts a repeated index only once. Count in a loop, "
            "or with np.add.at.",
            (
                "for t in range(order, len(symbols)):\n"
                "        table[tuple(symbols[t - order : t + 1])] += 1",
                "windows = np.lib.stride_tricks.sliding_window_view(symbols, order + 1)\n"
                "    table[tuple(windows.T)] += 1",
            ),
            "The last window is missing: the last symbol of the sequence follows a context too.",
            ("len(symbols)", "len(symbols) - 1"),
            "Your windows do not overlap; every symbol that has enough symbols before it is counted once as the next one.",
            ("len(symbols)", "len(symbols), order + 1"),
            "A context that never occurs gives 0/0 when alpha is 0; its row must be uniform.",
            (
                "np.where(totals > 0, table / np.maximum(totals, 1e-300), 1 / size)",
                "table / totals",
            ),
            "A context that never occurs has a row of zeros when alpha is 0; it must be uniform, "
            "because every row has to sum to one.",
            (
                "np.where(totals > 0, table / np.maximum(totals, 1e-300), 1 / size)",
                "table / np.maximum(totals, 1e-300)",
            ),
        ),
        alternatives=[_table_by_bincount, _table_by_einsum],
    ),
    Step(
        "held_out_bits",
        reference=_held_out_reference,
        cases={
            "order 1, one symbol skipped": _skip_the_order,
            "more symbols skipped than the order needs": _skip_more,
            "order 2": lambda sampler: _scored(sampler, 2, 2, 3 - min(sampler.size, 1)),
            "order 0, nothing skipped": lambda sampler: _scored(sampler, 3 + sampler.size, 0, 0),
            "a single symbol to score": _score_one_symbol,
        },
        mistakes=known_mistakes(
            "Your perplexity is right, but the cost is in nats; bits need the logarithm to base 2.",
            ("log2", "log"),
            ("2**mean", "math.exp(mean)"),
            "The bits are right. The perplexity is 2**bits, not e**bits.",
            ("2**mean", "math.exp(mean)"),
            "You divide by the length of the sequence; divide by the number of symbols that are scored.",
            ("len(bits)", "len(symbols)"),
            "You return the cost of all scored symbols together; divide by their number.",
            (" / len(bits)", ""),
            "You start scoring as soon as there is a context; the first `skip` symbols are not "
            "scored.",
            ("range(skip", "range(order"),
            "You skip the context in addition to `skip`; the skipped symbols already serve as "
            "context.",
            ("range(skip", "range(skip + order"),
            ("sum(bits) / len(bits)", "np.mean(bits)"),
            "You take the logarithm of the mean probability; take the mean of the logarithms.",
            ("sum(bits) / len(bits)", "-np.log2(np.mean(2.0 ** -np.array(bits)))"),
            "The bits are right. The perplexity is 2**bits, not the mean of 1/P.",
            ("2**mean", "np.mean(2.0 ** np.array(bits))"),
            "You index the context with the newest symbol first; its oldest symbol goes on the "
            "first axis.",
            ("tuple(symbols[t - order : t + 1])", "(*symbols[t - order : t][::-1], symbols[t])"),
            "The sign is wrong: the cost is minus the logarithm, and never negative.",
            ("-math", "math"),
        ),
        alternatives=[_held_out_by_windows, _held_out_by_product],
    ),
    Step(
        "fit_ar",
        reference=_fit_reference,
        cases={
            "two recordings": _two_recordings,
            "a single recording": _one_recording,
            "a longer window": _longer_window,
            "recordings too short for a window": _short_recordings,
            "order 0": lambda sampler: _recordings(sampler, [3, 2 + sampler.size], 0),
        },
        mistakes=known_mistakes(
            "Your weights are in reverse order: the weight of the most recent value comes first.",
            ("*past", "*past[::-1]"),
            "Your windows run from one recording into the next, although the recordings do not "
            "follow each other in time.",
            ("in recordings", "in [np.concatenate(recordings)]"),
            "Your fit has no intercept: add a column of ones.",
            ("[1.0, *past]", "past"),
            ("np.array(rows)", "np.array(rows).reshape(len(rows), order)"),
            ("found[0], found[1:]", "0.0, found"),
            "Subtracting one mean from everything is not quite least squares: inputs and targets "
            "have different means. Fit the intercept with a column of ones.",
            (
                "for series in recordings:",
                "mean = np.concatenate(recordings).mean()\n"
                "    for series in [values - mean for values in recordings]:",
            ),
            ("[1.0, *past]", "past"),
            ("np.array(rows)", "np.array(rows).reshape(len(rows), order)"),
            ("found[0], found[1:]", "mean * (1 - found.sum()), found"),
            "You fit each recording and average the results; fit once, to the rows of all "
            "recordings.",
            _fit_averaged,
            "You fit one recording only; use the rows of all recordings in one fit.",
            ("in recordings", "in [max(recordings, key=len)]"),
            "You never use the last value of a recording as a target.",
            ("len(series)", "len(series) - 1"),
            "Your numbers are right; return the intercept and the weights as a pair.",
            ("found[0], found[1:]", "found"),
        ),
        alternatives=[_fit_by_normal_equations, _fit_by_centering],
    ),
    Step(
        "roll_out",
        reference=_roll_out_reference,
        cases={
            "a small batch": _small_batch,
            "histories just as long as the window": _just_enough,
            "a batch of one": _batch_of_one,
            "histories of whole numbers": _whole_numbers,
            "order 0": _no_weights,
            "no steps": lambda sampler: _batch(sampler, 2, 3 + sampler.size, 2, 0),
        },
        mistakes=known_mistakes(
            "Your window is in the wrong order: the first weight belongs to the most recent "
            "value, which is the last in the history.",
            ("[:, ::-1]", ""),
            "The intercept is missing: it is added at every step.",
            ("intercept + ", ""),
            "Every step predicts from the same history; each forecast must become the most recent value of the next step.",
            ("t - order : t]", "time - order : time]"),
            "You continue from the first values of the histories; the most recent ones are the last.",
            ("histories.shape", "len(histories), len(weights)"),
            ("= histories\n", "= histories[:, :time]\n"),
            "Your result begins with the histories; return the new values only.",
            ("return values[:, time:]", "return values"),
            "At order 0, a window counted from the end, such as values[:, -0:], is the whole "
            "array. Count from the start.",
            ("values[:, t - order : t]", "values[:, :t][:, -order:]"),
            "With no steps, values[:, -0:] is the whole array instead of an empty one. Count from "
            "the start.",
            ("[:, time:]", "[:, -steps:]"),
            "Your result is (steps, batch); it must be (batch, steps).",
            ("[:, time:]", "[:, time:].T"),
            "For histories of whole numbers your forecasts are rounded: an integer array can't hold them.",
            ("(batch, time + steps)", "(batch, time + steps), dtype=histories.dtype"),
        ),
        alternatives=[_roll_out_by_lists, _roll_out_by_companion],
    ),
    Step(
        "long_run",
        reference=_long_run_reference,
        cases={
            "a model that settles": _settling,
            "complex roots inside the unit circle": _settling_in_turns,
            "large weights, yet it settles": _large_weights,
            "a model that explodes": _exploding,
            "complex roots outside the unit circle": _exploding_in_turns,
            "a negative root below -1": _negative_root,
            "a random walk with drift": _random_walk,
        },
        mistakes=known_mistakes(
            "The signs are wrong: after its leading 1, the polynomial has minus the weights.",
            ("-np", "np"),
            "The coefficients are in reverse order: np.roots expects the highest power first, so "
            "your roots are the reciprocals.",
            ("[1.0], -np.asarray(weights)", "-np.asarray(weights)[::-1], [1.0]"),
            "You take the largest real part; compare the roots by their modulus, since a negative "
            "or complex root may be the largest.",
            ("np.abs(roots)", "roots.real"),
            "You drop the imaginary parts; the modulus of a complex root needs both.",
            ("abs(roots)", "abs(roots.real)"),
            "You take the smallest modulus; in the long run the root with the largest modulus "
            "dominates.",
            ("max", "min"),
            "You return the norm of the companion matrix; the roots are its eigenvalues, and the "
            "norm can be larger than all of them.",
            (
                "modulus = np.abs(roots).max()",
                (
                    "matrix = np.eye(len(weights), k=-1)\n"
                    "    matrix[0] = weights\n"
                    "    modulus = np.linalg.norm(matrix, 2)"
                ),
            ),
            "Your modulus is right, but you decide by the sum of the weights: a model can settle "
            "even if their absolute values sum to more than 1.",
            ("modulus < 1", "np.abs(weights).sum() < 1"),
            "The modulus is right. If it is 1 or more, roll-outs do not settle at any value: "
            "return None in its place.",
            (" if modulus < 1 else None", ""),
            "With a modulus of exactly 1, roll-outs do not settle: a random walk with drift grows "
            "without bound.",
            ("<", "<="),
            "Roll-outs end at the mean, not at the intercept: divide the intercept by one minus "
            "the sum of the weights.",
            (" / (1 - sum(weights))", ""),
            "For the mean, subtract the sum of the weights from 1: solve m = c + sum(w) m for m.",
            ("1 - sum", "1 + sum"),
        ),
        alternatives=[_long_run_by_companion, _long_run_by_settling],
    ),
    Step(
        "filter_step",
        reference=_filter_reference,
        cases={
            "one step": _one_step,
            "a belief that is certain": _certain,
            "a symbol that only one state emits": _telling_symbol,
        },
        mistakes=known_mistakes(
            "Rows and columns of the transition table are swapped: transition[i, j] leads from i "
            "to j, so multiply by the belief from the left.",
            ("belief @ transition", "transition @ belief"),
            "You weight by the symbol before the state changes; here the state changes first and "
            "then emits the symbol.",
            ("(belief @ transition)", "belief"),
            ("weighted / probability,", "(weighted / probability) @ transition,"),
            "The change of state is missing: multiply the belief by the transition table first.",
            ("(belief @ transition)", "belief"),
            "You return the belief before the symbol arrived; weight each state by how probable "
            "it makes the symbol.",
            ("weighted / probability,", "belief @ transition,"),
            "Your belief does not sum to one: divide it by its sum.",
            ("weighted / probability,", "weighted,"),
            "The belief is right. The probability is the one before the symbol arrived, so it "
            "must not use the new belief.",
            (", probability", ", (weighted / probability) @ emission[:, symbol]"),
            "The belief is right, but your probability leaves out the change of state.",
            (", probability", ", belief @ emission[:, symbol]"),
            "The belief is right, but your probability is that of the same symbol at the next "
            "step; return the one at this step.",
            (", probability", ", (weighted / probability) @ transition @ emission[:, symbol]"),
            "Divide the weights by their sum; a softmax changes their ratios.",
            (
                "return weighted / probability",
                "powers = np.exp(weighted - weighted.max())\n    return powers / powers.sum()",
            ),
        ),
        alternatives=[_filter_by_matrix, _filter_by_einsum],
    ),
    Step(
        "filter_bits",
        reference=_filter_bits_reference,
        cases={
            "a short sequence": _observed,
            "a single symbol": _first_only,
            "a first state that is known and does not last": _settled_start,
            "sixty rare symbols": _rare_symbols,
        },
        mistakes=known_mistakes(
            "You change the state before the first symbol; `initial` already holds at the time of "
            "that symbol.",
            ("np.eye(len(initial))", "transition"),
            "The first symbol updates your belief but adds nothing to the cost; score it like all "
            "others.",
            ("math.log2(probability)", "math.log2(probability) if change is transition else 0.0"),
            "You ignore the first symbol; it is scored too, and it updates the belief.",
            ("np.eye(len(initial))", "transition"),
            ("in symbols", "in symbols[1:]"),
            "Your cost is in nats; bits need the logarithm to base 2.",
            ("log2", "log"),
            "You return the cost of the whole sequence; divide by the number of symbols.",
            (" / len(symbols)", ""),
            "Your belief never learns from the symbols: update it with each of them.",
            (
                "belief, probability = filter_step(belief, change, emission, symbol)",
                "belief = belief @ change\n        probability = belief @ emission[:, symbol]",
            ),
            "You do not divide the belief by its sum, so each step's cost includes that of all "
            "earlier steps again.",
            (
                "belief, probability = filter_step(belief, change, emission, symbol)",
                "belief = (belief @ change) * emission[:, symbol]",
            ),
            ("math.log2(probability)", "np.log2(belief.sum())"),
            "The probability of a long sequence is rounded to zero before you take its logarithm. Sum the bits step by step.",
            (
                "belief, probability = filter_step(belief, change, emission, symbol)",
                "belief = (belief @ change) * emission[:, symbol]",
            ),
            ("bits -= math.log2(probability)", "bits = -np.log2(belief.sum())"),
            "You continue from the most probable state alone; keep the belief in the other states "
            "too.",
            (
                "change = transition",
                "belief, change = np.eye(len(belief))[belief.argmax()], transition",
            ),
        ),
        alternatives=[_filter_bits_scaled, _filter_bits_in_logs],
        depends_on=["filter_step"],
    ),
]
