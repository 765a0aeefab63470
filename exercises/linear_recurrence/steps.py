"""The steps of the exercise on linear recurrences, with their reference answers and known mistakes."""

import math

import numpy as np
import torch

from seqbook.kernels.scan import AffineMaps, compose_affine_maps
from seqbook.layers.linear_attention import delta_rule, linear_attention
from seqbook.layers.linear_recurrence import MinGRU, linear_recurrence
from stepgrader.exercises import solutions
from stepgrader.steps import CaseSampler, Step, known_mistakes

compose, one_round, scan = solutions(__file__, "compose", "one_round", "scan")


def _chosen(sampler: CaseSampler, choices: list[float], *shape: int) -> torch.Tensor:
    return torch.from_numpy(sampler.random.choice(choices, size=shape))


def _decays(sampler: CaseSampler, *shape: int) -> torch.Tensor:
    """Decays with one decimal, of both signs, none of them 0."""
    return _chosen(sampler, [-0.8, -0.5, -0.3, 0.2, 0.4, 0.6, 0.7, 0.9], *shape)


def _gates(sampler: CaseSampler, *shape: int) -> torch.Tensor:
    """Gates with one decimal, none of them 0, 0.5 or 1."""
    return _chosen(sampler, [0.1, 0.2, 0.3, 0.4, 0.6, 0.7, 0.8, 0.9], *shape)


def _sizes(sampler: CaseSampler) -> tuple[int, int, int]:
    """Units, batch and time, from the smallest on; the smallest case has one unit."""
    if sampler.size == 0:
        return 1, 2, 4
    units, batch, time = sorted(sampler.lengths(3))
    return units, batch, time + 1


# -- 1. compose


def _two_maps(sampler: CaseSampler) -> dict:
    size, columns = sampler.lengths(2)
    return _maps(sampler, size, columns)


def _batch_of_maps(sampler: CaseSampler) -> dict:
    size, columns, batch = sampler.lengths(3)
    return _maps(sampler, size, columns, batch)


def _maps(sampler: CaseSampler, size: int, columns: int, *batch: int) -> dict:
    return {
        "matrix1": sampler.normal(*batch, size, size),
        "shift1": sampler.normal(*batch, size, columns),
        "matrix2": sampler.normal(*batch, size, size),
        "shift2": sampler.normal(*batch, size, columns),
    }


def _compose_reference(matrix1, shift1, matrix2, shift2):
    """By applying both to zero, which gives the shift, and to each unit vector."""

    def both(h):
        return np.matmul(matrix2, np.matmul(matrix1, h) + shift1) + shift2

    matrix1, shift1, matrix2, shift2 = (x.numpy() for x in (matrix1, shift1, matrix2, shift2))
    shift = both(np.zeros_like(shift1))
    columns = []
    for unit in np.eye(matrix1.shape[-1]):
        h = np.broadcast_to(unit[:, None], shift1.shape)
        columns.append((both(h) - shift)[..., 0])
    return np.stack(columns, -1), shift


def _compose_einsum(matrix1, shift1, matrix2, shift2):
    matrix = torch.einsum("...ij,...jk->...ik", matrix2, matrix1)
    return [
        matrix,
        torch.einsum("...ij,...jk->...ik", matrix2, shift1) + shift2,
    ]


def _compose_in_single_precision(matrix1, shift1, matrix2, shift2):
    import warnings

    warnings.warn("a warning is no mistake", stacklevel=1)

    def block(matrix, shift):
        n, m = shift.shape[-2:]
        lower = torch.cat([torch.zeros(m, n), torch.eye(m)], -1)
        upper = torch.cat([matrix, shift], -1).float()
        return torch.cat([upper, lower.expand(*upper.shape[:-2], m, n + m)], -2)

    n = matrix1.shape[-1]
    product = torch.matmul(block(matrix2, shift2), block(matrix1, shift1))
    return product[..., :n, :n], product[..., :n, n:]


# -- 2. loop


def _packed(sampler: CaseSampler) -> dict:
    units, batch, time = _sizes(sampler)
    return {
        "decay": _decays(sampler, batch, time, units),
        "inputs": sampler.normal(batch, time, units),
        "initial": sampler.normal(batch, units) + 2.0,
        "starts": _starts(sampler, batch, time),
    }


def _starts(sampler: CaseSampler, batch: int, time: int) -> torch.Tensor:
    """Each row has one or two starts after its first step, at other places than the row before."""
    starts = torch.zeros(batch, time, dtype=torch.bool)
    starts[0, 0] = True
    for row in range(batch):
        starts[row, 1 + (row + int(sampler.random.integers(2))) % (time - 1)] = True
        if time > 4:
            starts[row, int(sampler.random.integers(2, time))] = True
    if (starts[0, 1:] == starts[1, 1:]).all():
        starts[1, 1:] = starts[1, 1:].roll(1)
    return starts


def _one_text(sampler: CaseSampler) -> dict:
    made = _packed(sampler)
    starts = torch.zeros_like(made["starts"])
    starts[-1, 0] = True
    return made | {"starts": starts}


def _all_starts(sampler: CaseSampler) -> dict:
    made = _packed(sampler)
    return made | {"starts": torch.ones_like(made["starts"])}


def _loop_reference(decay, inputs, initial, starts):
    """Text by text, each state as a sum over the text's past."""
    a, b, first = decay.numpy(), inputs.numpy(), initial.numpy()
    states = np.zeros_like(b)
    for row in range(len(b)):
        begin = 0
        for t in range(b.shape[1]):
            begin = t if starts[row, t] else begin
            states[row, t] = a[row, begin : t + 1].prod(0) * first[row]
            for s in range(begin, t + 1):
                states[row, t] += a[row, s + 1 : t + 1].prod(0) * b[row, s]
    return states


def _loop_text_by_text(decay, inputs, initial, starts):
    rows = []
    for a, b, h0, start in zip(decay, inputs, initial, starts, strict=True):
        h, row = h0, []
        for t in range(len(b)):
            print("step", t)
            if start[t]:
                h = h0
            h = torch.addcmul(b[t], a[t], h)
            row.append(h)
        rows.append(torch.stack(row))
    return torch.stack(rows)


def _loop_in_single_precision(decay, inputs, initial, starts):
    """A start is a decay of zero, and an input that the initial state is in already."""
    a, b = decay.float(), inputs.float()
    new = starts.unsqueeze(-1).float()
    b = b + new * a * initial.float().unsqueeze(1)
    a = a * (1 - new)
    states = torch.empty_like(b)
    h = initial.float()
    for t in range(b.shape[1]):
        h = a[:, t] * h + b[:, t]
        states[:, t] = h
    return states


# -- 3. one_round


def _steps(sampler: CaseSampler, distance: int) -> dict:
    units, batch, time = _sizes(sampler)
    return {
        "decay": _decays(sampler, batch, time + 1, units),
        "shift": sampler.normal(batch, time + 1, units),
        "distance": distance,
    }


def _too_far(sampler: CaseSampler) -> dict:
    made = _steps(sampler, 1)
    return made | {"distance": made["shift"].shape[1] + int(sampler.random.integers(1, 3))}


def _round_reference(decay, shift, distance):
    """Pair by pair, by the package's composition."""
    pairs = [AffineMaps(decay[:, t], shift[:, t]) for t in range(decay.shape[1])]
    made = [
        compose_affine_maps(pairs[t - distance], pair) if t >= distance else pair
        for t, pair in enumerate(pairs)
    ]
    return tuple(torch.stack(parts, 1) for parts in zip(*made, strict=True))


def _round_with_identities(decay, shift, distance):
    time = decay.shape[1]
    a = torch.nn.functional.pad(decay, (0, 0, distance, 0), value=1.0)[:, :time]
    b = torch.nn.functional.pad(shift, (0, 0, distance, 0))[:, :time]
    return [decay * a, torch.addcmul(shift, decay, b)]


def _round_backwards_in_place(decay, shift, distance):
    decay, shift = decay.clone(), shift.clone()
    for t in reversed(range(distance, decay.shape[1])):
        shift[:, t] += decay[:, t] * shift[:, t - distance]
        decay[:, t] *= decay[:, t - distance]
    return decay, shift


def _round_in_single_precision(decay, shift, distance):
    a, b = decay.float().numpy(), shift.float().numpy()
    new_a, new_b = a.copy(), b.copy()
    new_a[:, distance:] = a[:, distance:] * a[:, :-distance]
    new_b[:, distance:] += a[:, distance:] * b[:, :-distance]
    return new_a, new_b


def _overwritten_round(decay, shift, distance):
    decay, shift = decay.clone(), shift.clone()
    for t in range(distance, decay.shape[1]):
        shift[:, t] = decay[:, t] * shift[:, t - distance] + shift[:, t]
        decay[:, t] = decay[:, t] * decay[:, t - distance]
    return decay, shift


def _round_with_later_ones(decay, shift, distance):
    earlier, later = decay[:, :-distance], decay[:, distance:]
    both = later * shift[:, :-distance] + shift[:, distance:]
    last = slice(max(0, decay.shape[1] - distance), None)
    return (
        torch.cat([later * earlier, decay[:, last]], dim=1),
        torch.cat([both, shift[:, last]], dim=1),
    )


def _round_that_wraps(decay, shift, distance):
    return decay * decay.roll(distance, 1), decay * shift.roll(distance, 1) + shift


# -- 4. scan


def _to_scan(sampler: CaseSampler, time: int) -> dict:
    units, batch, _ = _sizes(sampler)
    return {
        "decay": _decays(sampler, batch, time, units),
        "inputs": sampler.normal(batch, time, units),
        "initial": sampler.normal(batch, units) + 2.0,
    }


def _with_zeros(sampler: CaseSampler) -> dict:
    made = _to_scan(sampler, 3 + sampler.size)
    decay = made["decay"]
    decay[0, 1] = 0.0
    decay[-1, 0, 0] = 0.0
    return made


def _scan_reference(decay, inputs, initial):
    return linear_recurrence(decay, inputs, initial=initial, method="loop")


def _scan_by_halves(decay, inputs, initial):
    """Both halves by themselves; the second takes in where the first has ended."""

    def prefixes(a, b):
        time = a.shape[1]
        if time == 1:
            return a, b
        half = time // 2
        (a1, b1), (a2, b2) = (
            prefixes(a[:, :half], b[:, :half]),
            prefixes(a[:, half:], b[:, half:]),
        )
        last_a, last_b = a1[:, -1:], b1[:, -1:]
        return torch.cat([a1, a2 * last_a], 1), torch.cat([b1, a2 * last_b + b2], 1)

    products, states = prefixes(decay, inputs)
    return products * initial.unsqueeze(1) + states


def _scan_with_a_state_in_front(decay, inputs, initial):
    """The start is a step as well, with a decay that does not matter."""
    a = torch.cat([torch.ones_like(initial)[:, None], decay], 1)
    b = torch.cat([initial[:, None], inputs], 1)
    distance = 1
    while distance < b.shape[1]:
        a, b = one_round(a, b, distance)
        distance *= 2
    return b[:, 1:]


def _scan_as_a_sum_in_single_precision(decay, inputs, initial):
    """A triangular matrix of products of decays for each unit."""
    a, b = decay.float(), inputs.float()
    time = a.shape[1]
    rows = []
    for t in range(time):
        weights = [a[:, s + 1 : t + 1].prod(1) for s in range(t + 1)]
        weighted = torch.stack(weights, 1) * b[:, : t + 1]
        rows.append(weighted.sum(1) + a[:, : t + 1].prod(1) * initial.float())
    return torch.stack(rows, 1)


def _scan_by_division(decay, inputs, initial):
    products = decay.cumprod(1)
    return products * (initial[:, None] + (inputs / products).cumsum(1))


def _scan_by_logarithms(decay, inputs, initial):
    logs = decay.log().cumsum(1)
    return logs.exp() * (initial[:, None] + (inputs * (-logs).exp()).cumsum(1))


# -- 5. min_gru


def _to_run(sampler: CaseSampler) -> dict:
    hidden, batch, time = _sizes(sampler)
    features = 2 + sampler.size // 2
    return {
        "inputs": sampler.normal(batch, time, features),
        "initial": sampler.normal(batch, hidden) + 2.0,
        "starts": _starts(sampler, batch, time),
        "weight": sampler.normal(2 * hidden, features),
        "bias": sampler.normal(2 * hidden),
    }


def _to_run_one_text(sampler: CaseSampler) -> dict:
    made = _to_run(sampler)
    starts = torch.zeros_like(made["starts"])
    starts[-1, 0] = True
    return made | {"starts": starts}


def _min_gru_reference(inputs, initial, starts, weight, bias):
    """The package's layer by its loop, on each text by itself."""
    layer = MinGRU(inputs.shape[2], initial.shape[1], dtype=inputs.dtype)
    layer.load_state_dict({"weight": weight, "bias": bias})
    rows = []
    for sequence, start, h in zip(inputs, starts.tolist(), initial, strict=True):
        begins = sorted({0, *(t for t, new in enumerate(start) if new)})
        ends = [*begins[1:], len(start)]
        texts = [sequence[None, i:j] for i, j in zip(begins, ends, strict=True)]
        with torch.no_grad():
            states = [layer(text, h[None], method="loop")[0][0] for text in texts]
        rows.append(torch.cat(states))
    return torch.stack(rows)


def _min_gru_step_by_step(inputs, initial, starts, weight, bias):
    size = initial.shape[1]
    hidden, states = initial, []
    for t in range(inputs.shape[1]):
        hidden = torch.where(starts[:, t, None], initial, hidden)
        sums = torch.nn.functional.linear(inputs[:, t], weight, bias)
        z = 1 / (1 + torch.exp(-sums[:, :size]))
        hidden = hidden + z * (sums[:, size:] - hidden)
        states.append(hidden)
    return torch.stack(states, 1)


def _min_gru_in_single_precision(inputs, initial, starts, weight, bias):
    parts = torch.einsum("btf,kf->btk", inputs.float(), weight.float()) + bias.float()
    z, n = parts.tensor_split(2, -1)
    new = starts[..., None].float()
    decay = (-z).sigmoid()
    taken = z.sigmoid() * n + new * decay * initial.float()[:, None]
    return scan(decay * (1 - new), taken, initial.float())


# -- 6. gate_gradients


def _to_go_back(sampler: CaseSampler, time: int | None = None) -> dict:
    units, batch, usual = _sizes(sampler)
    shape = batch, usual - 1 if time is None else time, units
    return {
        "gate": _gates(sampler, *shape),
        "candidates": sampler.normal(*shape),
        "initial": sampler.normal(batch, units) + 1.0,
        "arriving": sampler.normal(*shape),
    }


def _last_state_only(sampler: CaseSampler) -> dict:
    made = _to_go_back(sampler)
    made["arriving"][:, :-1] = 0.0
    return made


def _gradients_reference(gate, candidates, initial, arriving):
    """By autograd, through a loop."""
    leaves = [x.clone().requires_grad_() for x in (gate, candidates, initial)]
    z, n, hidden = leaves
    loss = torch.zeros(())
    for t in range(z.shape[1]):
        hidden = torch.lerp(hidden, n[:, t], z[:, t])
        loss = loss + (hidden * arriving[:, t]).sum()
    return torch.autograd.grad(loss, leaves)


def _gradients_in_a_loop(gate, candidates, initial, arriving):
    states = [initial]
    for t in range(gate.shape[1]):
        states.append(states[-1] + gate[:, t] * (candidates[:, t] - states[-1]))
    total = torch.zeros_like(initial)
    d_gate, d_candidates = torch.zeros_like(gate), torch.zeros_like(gate)
    for t in range(gate.shape[1] - 1, -1, -1):
        total = total + arriving[:, t]
        d_gate[:, t] = total * (candidates[:, t] - states[t])
        d_candidates[:, t] = total * gate[:, t]
        total = total * (1 - gate[:, t])
    return [d_gate, d_candidates, total]


def _gradients_as_sums_in_single_precision(gate, candidates, initial, arriving):
    """The total gradient as an explicit sum over all later steps."""
    z, n, h, arriving = (x.float() for x in (gate, candidates, initial, arriving))
    kept, time = 1 - z, z.shape[1]
    totals, before = [], []
    for t in range(time):
        total = arriving[:, t]
        for s in range(t + 1, time):
            total = total + kept[:, t + 1 : s + 1].prod(1) * arriving[:, s]
        totals.append(total)
        before.append(h)
        h = kept[:, t] * h + z[:, t] * n[:, t]
    total = torch.stack(totals, 1)
    return (
        total * (n - torch.stack(before, 1)),
        total * z,
        kept[:, 0] * total[:, 0],
    )


# -- 7. zero_order_hold


def _sensors(sampler: CaseSampler) -> dict:
    units, time = (1, 2) if sampler.size == 0 else sampler.lengths(2)
    return {
        "half_life": _chosen(sampler, [1.0, 1.5, 3.0, 4.0, 6.0], units),
        "period": _chosen(sampler, [3.0, 5.0, 6.0, 9.0, 10.0], units),
        "gaps": _chosen(sampler, [0.5, 0.7, 1.5, 2.0, 3.5], time),
    }


def _sensors_that_do_not_turn(sampler: CaseSampler) -> dict:
    made = _sensors(sampler)
    return made | {"period": torch.full_like(made["period"], math.inf)}


def _hold_reference(half_life, period, gaps):
    """The exponential of the matrix that moves state and input together."""
    result = []
    for gap in gaps.tolist():
        row = []
        for half, turn in zip(half_life.tolist(), period.tolist(), strict=True):
            rate = complex(-math.log(2) / half, 2 * math.pi / turn)
            system = torch.tensor([[rate, 1], [0, 0]], dtype=torch.complex128)
            row.append(torch.view_as_real(torch.linalg.matrix_exp(gap * system)[0]))
        result.append(torch.stack(row))
    made = torch.stack(result)  # (time, units, decay and gain, real and imaginary part)
    return made[:, :, 0], made[:, :, 1]


def _hold_by_polar(half_life, period, gaps):
    times = gaps.unsqueeze(1)
    decay = torch.polar(torch.exp2(-times / half_life), 2 * torch.pi * times / period)
    rate = -math.log(2) / half_life + 2j * torch.pi / period
    gain = (decay - 1) * rate.reciprocal()
    return [torch.stack([x.real, x.imag], -1) for x in (decay, gain)]


def _hold_in_real_numbers(half_life, period, gaps):
    decays, gains = [], []
    for gap in gaps.tolist():
        for half, turn in zip(half_life.tolist(), period.tolist(), strict=True):
            r, w = -math.log(2) / half, math.tau / turn
            size = 0.5 ** (gap / half)
            real, imag = size * math.cos(w * gap), size * math.sin(w * gap)
            decays.append((real, imag))
            square = r * r + w * w
            gains.append(
                (
                    ((real - 1) * r + imag * w) / square,
                    (imag * r - (real - 1) * w) / square,
                )
            )
    shape = len(gaps), len(half_life), 2
    return [torch.tensor(x, dtype=torch.float64).reshape(shape) for x in (decays, gains)]


def _hold_in_single_precision(half_life, period, gaps):
    rate = torch.complex(-math.log(2) / half_life, 2 * math.pi / period).to(torch.complex64)
    decay = torch.exp(torch.einsum("t,u->tu", gaps.to(torch.complex64), rate))
    gain = (decay - 1) / rate
    return torch.view_as_real(decay), torch.view_as_real(gain)


# -- 8. real_outputs


def _to_read(sampler: CaseSampler, kind: str = "both") -> dict:
    batch, time = (2, 3) if sampler.size == 0 else sampler.lengths(2, low=3)
    units = 2 + (sampler.size + 1) // 2
    paired = torch.arange(units) % 2 == sampler.size % 2
    if kind != "both":
        paired = torch.full((units,), kind == "pairs")
    radius = _chosen(sampler, [0.5, 0.6, 0.7, 0.8, 0.9], time, units)
    angle = _chosen(sampler, [0.5, 0.8, 1.1, 1.5, 2.0], time, units)
    decay = torch.view_as_real(torch.polar(radius, angle)).round(decimals=2)
    gain, weight = sampler.normal(time, units, 2), sampler.normal(units, 2)
    for part in (decay, gain, weight):
        part[..., 1] = torch.where(paired, part[..., 1], 0.0)
    return {
        "inputs": sampler.normal(batch, time) + 1.0,
        "decay": decay,
        "gain": gain,
        "weight": weight,
        "paired": paired,
    }


def _single_reading(sampler: CaseSampler) -> dict:
    made = _to_read(sampler)
    first = {name: made[name][:1] for name in ("decay", "gain")}
    return made | first | {"inputs": made["inputs"][:, :1]}


def _outputs_reference(inputs, decay, gain, weight, paired):
    """With both units of each pair, so that the imaginary parts cancel."""
    d, g, c = (torch.view_as_complex(x).numpy() for x in (decay, gain, weight))
    both = paired.numpy()
    d, g, c = (np.concatenate([x, x[..., both].conj()], -1) for x in (d, g, c))
    outputs = np.zeros(inputs.shape)
    for row, x in enumerate(inputs.numpy()):
        state = np.zeros(len(c), complex)
        for t in range(len(x)):
            state = d[t] * state + g[t] * x[t]
            outputs[row, t] = (c @ state).real
    return outputs


def _outputs_in_real_numbers(inputs, decay, gain, weight, paired):
    """Real and imaginary parts apart."""
    real = imag = torch.zeros(len(inputs), len(paired), dtype=inputs.dtype)
    factor = paired.double() + 1
    outputs = []
    for t in range(inputs.shape[1]):
        (a, b), (g, e) = decay[t].unbind(-1), gain[t].unbind(-1)
        x = inputs[:, t, None]
        real, imag = a * real - b * imag + g * x, a * imag + b * real + e * x
        outputs.append(((weight[:, 0] * real - weight[:, 1] * imag) * factor).sum(1))
    return torch.stack(outputs, 1)


def _outputs_in_single_precision(inputs, decay, gain, weight, paired):
    d, g, c = (torch.view_as_complex(x.float()) for x in (decay, gain, weight))
    c = torch.where(paired, 2 * c, c)
    state = torch.zeros(len(inputs), len(c), dtype=torch.complex64)
    outputs = []
    for t in range(inputs.shape[1]):
        state = d[t] * state + g[t] * inputs[:, t, None].float()
        outputs.append(torch.einsum("n,bn->b", c, state).real)
    return torch.stack(outputs, -1)


# -- 9. chunked


def _to_cut(sampler: CaseSampler, time: int, size: int, decay: float | None = None) -> dict:
    d_k, d_v = (2, 3) if sampler.size % 2 else (3, 2)
    if decay is None:
        decay = float(sampler.random.choice([0.5, 0.6, 0.8, 0.9]))
    return {
        "query": sampler.normal(time, d_k),
        "key": sampler.normal(time, d_k),
        "value": sampler.normal(time, d_v),
        "decay": decay,
        "state": sampler.normal(d_k, d_v) + 1.0,
        "size": size,
    }


def _equal_chunks(sampler: CaseSampler, decay: float | None = None) -> dict:
    size = 2 + sampler.size // 2
    return _to_cut(sampler, (2 + sampler.size % 2) * size, size, decay)


def _shorter_last_chunk(sampler: CaseSampler) -> dict:
    size = 3 + sampler.size // 2
    return _to_cut(sampler, 2 * size - 1 - sampler.size % 2, size)


def _longer_chunk(sampler: CaseSampler) -> dict:
    time = 4 + sampler.size
    return _to_cut(sampler, time, time + 2)


def _chunked_reference(query, key, value, decay, state, size):
    """The package's recurrent form, a chunk at a time."""
    outputs, states = [], []
    log_decay = torch.tensor(math.log(decay), dtype=torch.float64)
    for start in range(0, len(query), size):
        part = slice(start, start + size)
        read, state = linear_attention(
            query[part],
            key[part],
            value[part],
            log_decay=log_decay,
            state=state,
            form="recurrent",
        )
        outputs.append(read)
        states.append(state)
    return torch.cat(outputs), torch.stack(states)


def _chunked_step_by_step(query, key, value, decay, state, size):
    outputs, states = [], []
    for t, (q, k, v) in enumerate(zip(query, key, value, strict=True)):
        state = decay * state + k[:, None] * v
        outputs.append(state.T @ q)
        if (t + 1) % size == 0 or t + 1 == len(query):
            states.append(state.clone())
    return torch.stack(outputs), torch.stack(states)


def _chunked_in_single_precision(query, key, value, decay, state, size):
    """Outputs by all scores at once; the states as explicit sums."""
    q, k, v, s = (x.float() for x in (query, key, value, state))
    time = torch.arange(len(q))
    lag = time[:, None] - time
    weights = torch.where(lag >= 0, decay ** lag.clamp(min=0), 0.0)
    outputs = torch.einsum("ij,ij,jd->id", q @ k.mT, weights, v)
    outputs = outputs + torch.einsum("i,ik,kd->id", decay ** (time + 1), q, s)
    ends = [min(end, len(q)) for end in range(size, len(q) + size, size)]
    states = [
        decay**n * s + torch.einsum("j,jk,jd->kd", decay ** (n - 1 - time[:n]), k[:n], v[:n])
        for n in ends
    ]
    return [outputs, torch.stack(states)]


# -- 10. delta_map


def _to_store(sampler: CaseSampler, time: int | None = None) -> dict:
    d_k, d_v = (2, 3) if sampler.size % 2 else (3, 2)
    time = 2 + (sampler.size + 1) // 2 if time is None else time
    return {
        "key": sampler.normal(time, d_k),
        "value": sampler.normal(time, d_v),
        "strength": _gates(sampler, time),
        "decay": _chosen(sampler, [0.5, 0.6, 0.7, 0.8, 0.9], time),
    }


def _without_decay(sampler: CaseSampler) -> dict:
    made = _to_store(sampler)
    return made | {"decay": torch.ones_like(made["decay"])}


def _map_reference(key, value, strength, decay):
    """By reading the text from a memory of zeros, and from each unit vector without values."""

    def read(memory, values):
        for k, v, beta, alpha in zip(
            key.numpy(), values, strength.numpy(), decay.numpy(), strict=True
        ):
            memory = alpha * memory
            memory = memory + beta * np.outer(k, v - memory.T @ k)
        return memory

    d_k, d_v = key.shape[1], value.shape[1]
    return (
        read(np.eye(d_k), np.zeros((len(key), d_k))),
        read(np.zeros((d_k, d_v)), value.numpy()),
    )


def _map_side_by_side(key, value, strength, decay):
    """One memory, whose first columns begin as the identity and are never given a value."""
    size = key.shape[1]
    memory = torch.cat([torch.eye(size), torch.zeros(size, value.shape[1])], 1).to(key)
    wanted = torch.cat([torch.zeros_like(key), value], 1)
    for t in range(len(key)):
        memory = decay[t] * memory
        memory = memory + strength[t] * torch.outer(key[t], wanted[t] - key[t] @ memory)
    return memory.split([size, value.shape[1]], 1)


def _map_from_the_end_in_single_precision(key, value, strength, decay):
    """The product grows at its right end, and carries each value to the end of the text."""
    k, v, beta, alpha = (x.float() for x in (key, value, strength, decay))
    matrix, shift = torch.eye(k.shape[1]), torch.zeros(k.shape[1], v.shape[1])
    for t in range(len(k) - 1, -1, -1):
        shift = shift + beta[t] * (matrix @ k[t])[:, None] * v[t]
        matrix = alpha[t] * (matrix - beta[t] * torch.outer(matrix @ k[t], k[t]))
    return matrix, shift


# -- 11. recall


def _to_ask(sampler: CaseSampler, *, again: bool = True) -> dict:
    """Keys far from parallel, of which one comes twice, and no two scores that are close."""
    pairs, size, questions = (
        4 + sampler.size,
        3 + sampler.size // 2,
        2 + (sampler.size + 1) // 2,
    )
    while True:
        key = sampler.normal(pairs, size)
        symbols = torch.from_numpy(sampler.integers(pairs, pairs))
        if again:
            key[2] = 2 * key[0]
            symbols[2] = (symbols[0] + 1) % pairs
        lengths = key.norm(dim=1)
        if lengths.min() < 0.7 or (lengths - 1).abs().min() < 0.2:
            continue
        asked = 1.5 * key[torch.from_numpy(sampler.random.permutation(pairs)[:questions])]
        asked[0] = 0.5 * key[0]
        strength = float(sampler.random.choice([0.6, 0.8]))
        case = {
            "key": key.round(decimals=2),
            "symbols": symbols,
            "asked": asked.round(decimals=2),
            "count": pairs + 1,
            "strength": strength,
        }
        top = _recall_reference(**case)[1].topk(2, -1).values
        if (top[:, 0] - top[:, 1]).min() > 0.05:
            return case


def _recall_reference(key, symbols, asked, count, strength):
    """The package's rule, in chunks, whose answers are compared one by one."""
    unit = key / key.square().sum(1, keepdim=True).sqrt()
    value = torch.eye(count, dtype=key.dtype)[symbols]
    beta = torch.tensor(strength, dtype=key.dtype)
    memory = delta_rule(unit, unit, value, beta, form="chunked").state
    scores = asked @ memory / asked.square().sum(1, keepdim=True).sqrt()
    answers = [max(range(count), key=row.__getitem__) for row in scores.tolist()]
    return torch.tensor(answers), scores


def _recall_by_a_system(key, symbols, asked, count, strength):
    """All corrections at once, from a triangular system."""
    unit = torch.nn.functional.normalize(key)
    wanted = strength * torch.nn.functional.one_hot(symbols, count).double()
    system = torch.eye(len(key)).double() + (strength * unit @ unit.T).tril(-1)
    corrections = torch.linalg.solve_triangular(system, wanted, upper=False)
    scores = torch.nn.functional.normalize(asked) @ unit.T @ corrections
    return [scores.max(1).indices, scores]


def _recall_in_single_precision(key, symbols, asked, count, strength):
    key, asked = (x.float() / x.float().norm(dim=1, keepdim=True) for x in (key, asked))
    memory = torch.zeros(key.shape[1], count)
    for k, symbol in zip(key, symbols.tolist(), strict=True):
        missed = -(k @ memory)
        missed[symbol] += 1
        memory = memory + strength * torch.outer(k, missed)
    scores = torch.einsum("qd,ds->qs", asked, memory)
    return scores.argmax(1).tolist(), scores.tolist()


STEPS = [
    Step(
        "compose",
        reference=_compose_reference,
        cases={"two steps": _two_maps, "a batch of steps": _batch_of_maps},
        mistakes=known_mistakes(
            "Your step does number 2 first; do number 1 first.",
            (
                "matrix2 @ matrix1, matrix2 @ shift1 + shift2",
                "matrix1 @ matrix2, matrix1 @ shift2 + shift1",
            ),
            "Your shift is right, but the matrices are multiplied in the wrong order: the one "
            "that acts first stands on the right.",
            ("matrix2 @ matrix1", "matrix1 @ matrix2"),
            "Your matrix is right, but the shift belongs to the other order: the shift of step 1 "
            "goes through the matrix of step 2.",
            ("matrix2 @ shift1 + shift2", "matrix1 @ shift2 + shift1"),
            "You add the two shifts. What step 1 has added is multiplied by the matrix of step 2.",
            ("matrix2 @ shift1", "shift1"),
            "The shift of step 2 is missing.",
            (" + shift2", ""),
            "You multiply both shifts by the matrix of step 2; its own shift comes after that.",
            ("matrix2 @ shift1 + shift2", "matrix2 @ (shift1 + shift2)"),
            "You multiply the matrices elementwise, which is right for the decays of the chapter. "
            "Here you need the matrix product, @.",
            ("matrix2 @ matrix1", "matrix2 * matrix1"),
            "You multiply the shift of step 1 by both matrices; only the matrix of step 2 acts on it.",
            ("matrix2 @ shift1", "matrix2 @ matrix1 @ shift1"),
        ),
        alternatives=[_compose_einsum, _compose_in_single_precision],
    ),
    Step(
        "loop",
        reference=_loop_reference,
        cases={
            "several texts in a row": _packed,
            "one text in a row": _one_text,
            "texts of one step": _all_starts,
        },
        mistakes=known_mistakes(
            "Your state runs on from one text into the next: at a start, take the initial state.",
            ("torch.where(starts[:, t, None], initial, hidden)", "hidden"),
            "All your texts start from zero; they start from the given initial state.",
            (
                "hidden, states = initial, []",
                "hidden, states = torch.zeros_like(initial), []",
            ),
            ("None], initial,", "None], torch.zeros_like(initial),"),
            "Your first text starts from initial, but those after it start from zero.",
            ("None], initial,", "None], 0.0,"),
            "Your later texts start from initial, but the first one of a row starts from zero.",
            (
                "hidden, states = initial, []",
                "hidden, states = torch.zeros_like(initial), []",
            ),
            "When one row starts a text, you restart all rows of the batch. Choose for each row.",
            ("starts[:, t, None]", "starts[:, t].any()"),
            "Your first state is the first input alone. The first step, too, decays the initial state "
            "and adds the input.",
            (
                "torch.where(starts[:, t, None], initial, hidden)",
                "torch.where(starts[:, t, None], initial, hidden) if t else 0 * initial",
            ),
            "At a start you overwrite the state in place, and with it the last state of the text "
            "before, which you have stored already. Make a new tensor, for instance by torch.where.",
            (
                "hidden, states = initial, []",
                "hidden, states = initial.clone(), []",
            ),
            (
                "before = torch.where(starts[:, t, None], initial, hidden)",
                "hidden[starts[:, t]] = initial[starts[:, t]]\n        before = hidden",
            ),
            "You look at the starts of the first row of the batch only. Choose for each row.",
            ("starts[:, t, None]", "starts[0, t]"),
            "You restart one step too late: choose the state before the step, not after it.",
            ("starts[:, t, None]", "starts[:, t - 1, None]"),
            "At a start your state is the initial one itself. The step must still be done: decay "
            "it and add the input.",
            (
                "hidden = decay[:, t] * before + inputs[:, t]",
                "hidden = decay[:, t] * before + inputs[:, t]\n"
                "        hidden = torch.where(starts[:, t, None], initial, hidden)",
            ),
            "You add the initial state at every step. It is where a text starts, and nothing more.",
            ("+ inputs[:, t]", "+ inputs[:, t] + initial"),
            "You decay the input, too: a * (h + b). The step is a * h + b.",
            (
                "decay[:, t] * before + inputs[:, t]",
                "decay[:, t] * (before + inputs[:, t])",
            ),
            "Each of your steps starts from the initial state; within a text, pass the state on.",
            ("torch.where(starts[:, t, None], initial, hidden)", "initial"),
            "You return the states before the steps; return those after them.",
            ("append(hidden)", "append(before)"),
            "Your numbers are right, but time comes first; put the batch first.",
            ("dim=1", "dim=0"),
        ),
        alternatives=[_loop_text_by_text, _loop_in_single_precision],
    ),
    Step(
        "one_round",
        reference=_round_reference,
        cases={
            "distance 1": lambda sampler: _steps(sampler, 1),
            "a larger distance": lambda sampler: _steps(sampler, 2 + sampler.size // 3),
            "further back than the first step": _too_far,
        },
        mistakes=known_mistakes(
            "You compose in the wrong order: the earlier pair is done first, so its shift is "
            "multiplied by the decay of the later one.",
            (
                "later * shift[:, :-distance] + shift[:, distance:]",
                "earlier * shift[:, distance:] + shift[:, :-distance]",
            ),
            "Your shifts are right, but the decays stay as they were. That of a composed pair is "
            "the product of both.",
            ("later * earlier", "later"),
            "Your decays are right, but you add the shifts as they are. That of the earlier pair "
            "is multiplied by the decay of the later one.",
            ("later * shift[:, :-distance]", "shift[:, :-distance]"),
            "You overwrite pairs that are still to be read, so some pairs are composed with what "
            "this round has made. Use those from before the round.",
            _overwritten_round,
            "You multiply the decays first, and then use the product for the shift. The shift "
            "needs the decay of the later pair alone.",
            ("later * shift", "later * earlier * shift"),
            "You look 2**distance places back; look back distance places.",
            (
                "earlier, later =",
                "distance = 2**distance\n    earlier, later =",
            ),
            "You compose each pair with the one after it; compose it with the one before it.",
            _round_with_later_ones,
            "Your first pairs are composed with the last ones, because roll wraps around. Pairs "
            "with none so far before them stay as they are.",
            _round_that_wraps,
            "You return the composed pairs only. Those with none before them stay in front.",
            (
                "torch.cat([decay[:, :distance], later * earlier], dim=1)",
                "later * earlier",
            ),
            ("torch.cat([shift[:, :distance], both], dim=1)", "both"),
            "The decays of your first pairs become 0: you compose them with (0, 0). The pair that "
            "changes nothing is (1, 0).",
            ("decay[:, :distance],", "0 * decay[:, :distance],"),
            "Your two results are swapped: the decays come first.",
            (
                "        torch.cat([decay[:, :distance], later * earlier], dim=1),\n"
                "        torch.cat([shift[:, :distance], both], dim=1),\n",
                "        torch.cat([shift[:, :distance], both], dim=1),\n"
                "        torch.cat([decay[:, :distance], later * earlier], dim=1),\n",
            ),
            "Your numbers are right, but you overwrite the given tensors. Return new ones.",
            (
                "    return (\n"
                "        torch.cat([decay[:, :distance], later * earlier], dim=1),\n"
                "        torch.cat([shift[:, :distance], both], dim=1),\n"
                "    )\n",
                "    products = later * earlier\n"
                "    decay[:, distance:] = products\n"
                "    shift[:, distance:] = both\n"
                "    return decay, shift\n",
            ),
        ),
        alternatives=[
            _round_with_identities,
            _round_backwards_in_place,
            _round_in_single_precision,
        ],
    ),
    Step(
        "scan",
        reference=_scan_reference,
        cases={
            "any number of steps": lambda sampler: _to_scan(sampler, 3 + 2 * sampler.size),
            "a power of two": lambda sampler: _to_scan(sampler, 4 if sampler.size < 2 else 8),
            "a single step": lambda sampler: _to_scan(sampler, 1),
            "decays of zero": _with_zeros,
        },
        mistakes=known_mistakes(
            "Your scan starts from zero; let the first step take in the initial state.",
            ("decay[:, :1] * initial[:, None] + ", ""),
            "You add the initial state to the first input as it is; it is multiplied by the first "
            "decay.",
            ("decay[:, :1] * initial", "initial"),
            "You add the initial state at every step. Only the first step takes it in; the scan "
            "carries it on.",
            (
                "torch.cat([first, inputs[:, 1:]], dim=1)",
                "inputs + decay * initial[:, None]",
            ),
            "You add the initial state to all results as it is. At each step it has been multiplied "
            "by all decays so far.",
            ("decay[:, :1] * initial[:, None] + ", ""),
            ("return shift", "return shift + initial[:, None]"),
            "You add the initial state times the decay of each step. It has been multiplied by all "
            "decays so far, not by the last one alone.",
            (
                "first = decay[:, :1] * initial[:, None] + inputs[:, :1]",
                "own, first = decay, inputs[:, :1]",
            ),
            ("return shift", "return shift + own * initial[:, None]"),
            "Right if the number of steps is a power of two. For others you need one more round.",
            ("math.ceil(", "math.floor("),
            "Your distances are 1, 2, 3, ...; they must double: 1, 2, 4, ...",
            ("2**i", "i + 1"),
            "All your rounds have distance 1, so pairs overlap, and steps are done more than once. "
            "Double the distance.",
            ("2**i", "1"),
            "You do a single round; double the distance until it is as large as the number of "
            "steps.",
            ("range(math.ceil(math.log2(inputs.shape[1])))", "range(1)"),
            "Your first round has distance 2; the first distance is 1.",
            ("2**i", "2 ** (i + 1)"),
            "Your last round is missing, the one with the largest distance.",
            (
                "range(math.ceil(math.log2(inputs.shape[1])))",
                "range(math.ceil(math.log2(inputs.shape[1])) - 1)",
            ),
            "You return decays and shifts; return the states only.",
            ("return shift", "return decay, shift"),
            "You return the decays; the states are in the shifts.",
            ("return shift", "return decay"),
            "You take logarithms of the decays, which exist for positive ones only. Compose, which "
            "needs products and sums alone.",
            _scan_by_logarithms,
            "Right unless a decay is zero: you divide by products of decays. Compose, and never "
            "divide.",
            _scan_by_division,
        ),
        alternatives=[
            _scan_by_halves,
            _scan_with_a_state_in_front,
            _scan_as_a_sum_in_single_precision,
        ],
        depends_on=["one_round"],
    ),
    Step(
        "min_gru",
        reference=_min_gru_reference,
        cases={
            "several texts in a row": _to_run,
            "one text in a row": _to_run_one_text,
        },
        mistakes=known_mistakes(
            "Your gate is inverted: here z takes the candidate, and 1 - z keeps the old state.",
            (
                "kept, taken = 1 - gate, gate * candidate",
                "kept, taken = gate, (1 - gate) * candidate",
            ),
            "Gate and candidate are swapped: the rows of the gate come first.",
            ("gate, candidate =", "candidate, gate ="),
            "Your candidate goes through a tanh, as in a GRU; in a minGRU it is linear.",
            ("gate * candidate", "gate * candidate.tanh()"),
            "Your candidate enters as it is; multiply it by the gate.",
            ("gate * candidate", "candidate"),
            "The biases are missing.",
            (" + bias", ""),
            "Your gates are not between 0 and 1: the sigmoid is missing.",
            ("gate.sigmoid()", "1 * gate"),
            "Your state runs on from one text into the next: you don't use starts.",
            (
                "torch.where(first, kept * initial[:, None] + taken, taken)",
                "taken",
            ),
            ("kept.masked_fill(first, 0.0)", "kept"),
            "Your later texts start from zero: where the decay becomes 0, add what the initial "
            "state would give.",
            (
                "torch.where(first, kept * initial[:, None] + taken, taken)",
                "taken",
            ),
            "At a start you add the initial state, but the one of the text before still flows on. "
            "Which decay forgets it?",
            ("kept.masked_fill(first, 0.0)", "kept"),
            "At a start you add the initial state as it is; the gate keeps only 1 - z of it.",
            (
                "kept * initial[:, None] + taken, taken",
                "initial[:, None] + taken, taken",
            ),
            "At a start your state is the initial one itself; the step must still be done.",
            (
                "kept * initial[:, None] + taken, taken",
                "initial[:, None], taken",
            ),
            "The first text of a row starts from zero; it starts from initial, too.",
            (
                "scan(kept, taken, initial)",
                "scan(kept, taken, torch.zeros_like(initial))",
            ),
        ),
        alternatives=[_min_gru_step_by_step, _min_gru_in_single_precision],
        depends_on=["scan"],
    ),
    Step(
        "gate_gradients",
        reference=_gradients_reference,
        cases={
            "a small batch": _to_go_back,
            "a loss of the last state": _last_state_only,
            "one step": lambda sampler: _to_go_back(sampler, 1),
        },
        mistakes=known_mistakes(
            "On the way back you use the decay of the same step. From the state of step t + 1 to "
            "that of step t, it is the decay of step t + 1.",
            ("later.flip(1)", "kept.flip(1)"),
            "For the gates you use the state after the step. The gate has multiplied the one "
            "before it.",
            ("candidates - before", "candidates - states"),
            "The gradient of the gates has the wrong sign: the gate takes the candidate and gives "
            "up the old state.",
            ("candidates - before", "before - candidates"),
            "For the gates you see the candidate only. The gate also multiplies the state before "
            "the step, with a minus sign.",
            ("(candidates - before)", "candidates"),
            "Before the first step you take a state of zero; it is the initial state.",
            (
                "[initial[:, None], states",
                "[torch.zeros_like(initial)[:, None], states",
            ),
            "The gradient of the candidates lacks the gate, by which they enter the state.",
            ("total * gate", "total"),
            "The gradient of the candidates has 1 - z in place of z.",
            ("total * gate", "total * kept"),
            "Your third result is the gradient of the state after the first step. Carry it back "
            "one more step, to the initial state.",
            ("kept[:, 0] * total[:, 0]", "total[:, 0]"),
            "Your third result lacks 1 - z: you multiply by the gate of the first step, which "
            "belongs to its candidate.",
            ("kept[:, 0] * total[:, 0]", "gate[:, 0] * total[:, 0]"),
            "You use only the gradients that arrive directly. Add what comes back from the later "
            "steps.",
            ("scan(later.flip(1), arriving.flip(1), zero).flip(1)", "arriving"),
            "At each step you leave out the gradient that arrives there directly.",
            ("zero).flip(1)", "zero).flip(1) - arriving"),
            "You carry the gradient from the first step to the last; carry it from the last to "
            "the first.",
            (
                "scan(later.flip(1), arriving.flip(1), zero).flip(1)",
                "scan(kept, arriving, zero)",
            ),
            "Your gradients of the states are in reversed time: flip them back before you use "
            "them.",
            ("zero).flip(1)", "zero)"),
            "On the way back you multiply by the gate. The state before enters with 1 - z.",
            ("[kept[:, 1:], torch", "[gate[:, 1:], torch"),
            "You return the gradient before the sigmoid; here the gate itself is given.",
            (
                "total * (candidates - before)",
                "total * (candidates - before) * gate * kept",
            ),
            "Your first two results are swapped: the gradient of the gates comes first.",
            (
                "return total * (candidates - before), total * gate,",
                "return total * gate, total * (candidates - before),",
            ),
        ),
        alternatives=[
            _gradients_in_a_loop,
            _gradients_as_sums_in_single_precision,
        ],
        depends_on=["scan"],
    ),
    Step(
        "zero_order_hold",
        reference=_hold_reference,
        cases={
            "units that turn": _sensors,
            "units that do not turn": _sensors_that_do_not_turn,
        },
        mistakes=known_mistakes(
            "You take the half-life for the time constant, after which 1/e is left. Of a "
            "half-life it is a half: multiply by ln 2.",
            ("-math.log(2) / half_life", "-1 / half_life"),
            "A whole turn has an angle of 2 pi; this factor is missing.",
            ("2 * math.pi / period", "1 / period"),
            "You multiply by the period; the longer it is, the slower a unit turns, so divide.",
            ("2 * math.pi / period", "2 * math.pi * period"),
            "Your units grow instead of fading: the real part of the rate is negative.",
            ("-math.log(2)", "math.log(2)"),
            "Your units turn in the other direction: the imaginary part of the rate is positive.",
            ("2 * math.pi / period", "-2 * math.pi / period"),
            "Your decays are right. The gain is not the gap itself, which is near it for short "
            "gaps only.",
            ("(decay - 1) / rate", "gaps[:, None] + 0 * rate"),
            "Your decays are right; divide the gain by the rate.",
            ("(decay - 1) / rate", "decay - 1"),
            "The gain has the wrong sign.",
            ("(decay - 1)", "(1 - decay)"),
            "You divide the gain by the real part of the rate; divide by the complex number.",
            ("/ rate", "/ rate.real"),
            "You divide the gain by the gap, too; it is (decay - 1) / rate.",
            ("/ rate", "/ (gaps[:, None] * rate)"),
            "Your decays are those of Euler's rule, 1 + gap * rate. Zero-order hold has the "
            "exponential.",
            ("torch.exp(gaps[:, None] * rate)", "1 + gaps[:, None] * rate"),
            "Your decays are the same at every step: the rate is multiplied by the gap.",
            ("gaps[:, None] * rate", "torch.ones_like(gaps)[:, None] * rate"),
            "Your two results are swapped: the decays come first.",
            (
                "torch.view_as_real(decay), torch.view_as_real(gain)",
                "torch.view_as_real(gain), torch.view_as_real(decay)",
            ),
            "You return modulus and angle; return the real and the imaginary part.",
            (
                "torch.view_as_real(decay), torch.view_as_real(gain)",
                "tuple(torch.stack([x.abs(), x.angle()], -1) for x in (decay, gain))",
            ),
            "Your numbers are right, but real and imaginary part belong in the last dimension.",
            (
                "torch.view_as_real(decay), torch.view_as_real(gain)",
                "tuple(torch.stack([x.real, x.imag]) for x in (decay, gain))",
            ),
        ),
        alternatives=[
            _hold_by_polar,
            _hold_in_real_numbers,
            _hold_in_single_precision,
        ],
    ),
    Step(
        "real_outputs",
        reference=_outputs_reference,
        cases={
            "pairs and single units": _to_read,
            "pairs only": lambda sampler: _to_read(sampler, "pairs"),
            "single units only": lambda sampler: _to_read(sampler, "single"),
            "a single reading": _single_reading,
        },
        mistakes=known_mistakes(
            "Right for single units. A unit that stands for a pair counts twice.",
            ("torch.where(paired, 2.0, 1.0)", "1.0"),
            "Right for pairs, but a unit that stands alone counts only once.",
            ("torch.where(paired, 2.0, 1.0)", "2.0"),
            "You count single units twice and pairs once; it is the other way round.",
            ("paired, 2.0, 1.0", "paired, 1.0, 2.0"),
            "Your output is the product of the real parts. Multiply the complex numbers, and take "
            "the real part of the product.",
            ("(weight * states).real", "weight.real * states.real"),
            "You multiply by the conjugate of the weight; multiply by the weight itself.",
            ("(weight * states)", "(weight.conj() * states)"),
            "You take the modulus; take the real part.",
            ("(weight * states).real", "(weight * states).abs()"),
            "You take the imaginary part; take the real part.",
            ("(weight * states).real", "(weight * states).imag"),
            "The gains are missing: the input is multiplied by them.",
            ("gain * inputs", "torch.ones_like(gain) * inputs"),
            "Your states don't turn: use the complex decays, not their moduli.",
            (
                "scan(decay.expand_as(driven)",
                "scan((decay.abs() + 0j).expand_as(driven)",
            ),
            "You drop the imaginary part at every step. Keep complex states, and take the real "
            "part of the output only.",
            (
                "scan(decay.expand_as(driven), driven, zero)",
                "scan(decay.real.expand_as(driven), driven.real, zero.real)",
            ),
            "You read the state before the step; read the one after it.",
            (
                "(weight * states)",
                "(weight * torch.cat([zero[:, None], states[:, :-1]], 1))",
            ),
            "You use the first decay at every step. Gaps differ, so the decays do, too.",
            ("decay.expand_as", "decay[:1].expand_as"),
            "You take the mean over the units; take the sum.",
            (".sum(-1)", ".mean(-1)"),
            "You return the part of each unit; add them up.",
            (".sum(-1)", ""),
        ),
        alternatives=[_outputs_in_real_numbers, _outputs_in_single_precision],
        depends_on=["scan"],
    ),
    Step(
        "chunked",
        reference=_chunked_reference,
        cases={
            "chunks of equal length": _equal_chunks,
            "a shorter last chunk": _shorter_last_chunk,
            "chunks of one step": lambda sampler: _to_cut(sampler, 3 + sampler.size // 2, 1),
            "a chunk longer than the text": _longer_chunk,
            "a decay of 1": lambda sampler: _equal_chunks(sampler, 1.0),
        },
        mistakes=known_mistakes(
            "Your outputs see their own chunk only; add what the state before the chunk returns.",
            (" + from_before", ""),
            "Each of your chunks begins with the given state. Begin with that in which the chunk "
            "before has ended.",
            ("        state = decay", "        ended = decay"),
            ("append(state)", "append(ended)"),
            "You begin with a state of zeros; begin with the given one.",
            (
                "outputs, handed = [], []",
                "outputs, handed, state = [], [], 0 * state",
            ),
            "Inside a chunk your outputs see later steps: the causal mask is missing.",
            (".tril()", ""),
            "Your mask leaves out the step itself: an output sees its own key and value, too.",
            (".tril()", ".tril(-1)"),
            "Inside a chunk nothing fades: multiply the score of steps i and j by the decay to the "
            "power i - j.",
            ("decay ** (step - step.T)", "torch.ones_like(q @ k.T)"),
            "What comes from before the chunk has faded once more: step 0 of a chunk sees the "
            "state times the decay.",
            ("decay ** (step + 1)", "decay ** step"),
            "What comes from before the chunk does not fade in your outputs; at step i, multiply "
            "it by the decay to the power i + 1.",
            ("decay ** (step + 1) * ", ""),
            "Nothing fades in your form, which is that of the chapter; here there is a decay.",
            ("decay ** (step - step.T)", "torch.ones_like(q @ k.T)"),
            ("decay ** (step + 1) * ", ""),
            ("decay ** (len(q) - 1 - step)", "torch.ones_like(step)"),
            ("decay ** len(q) * state", "state"),
            "You let the state fade once in each chunk, and nothing else. All pairs fade at every "
            "step, also inside a chunk.",
            ("decay ** (step - step.T)", "torch.ones_like(q @ k.T)"),
            ("decay ** (step + 1) * ", ""),
            ("decay ** (len(q) - 1 - step)", "torch.ones_like(step)"),
            ("decay ** len(q) * state", "decay * state"),
            "Your outputs read the state before the pair of the step is stored; read the one after "
            "it.",
            (
                "(decay ** (step - step.T)).tril()",
                "(decay ** (step - 1 - step.T)).tril(-1)",
            ),
            ("decay ** (step + 1)", "decay**step"),
            "Your new pair fades in the step that stores it. First the old state fades, and then the "
            "pair is added as it is.",
            ("decay ** (step - step.T)", "decay ** (step + 1 - step.T)"),
            ("len(q) - 1 - step", "len(q) - step"),
            "You update the state first, so your outputs count the chunk twice. What comes from before "
            "is read from the state in which the chunk begins.",
            (
                "        fade = (decay ** (step - step.T)).tril()\n",
                "        fade = (decay ** (step - step.T)).tril()\n"
                "        left = decay ** (len(q) - 1 - step)\n"
                "        state = decay ** len(q) * state + (left * k).T @ v\n",
            ),
            (
                "+ from_before)\n"
                "        left = decay ** (len(q) - 1 - step)\n"
                "        state = decay ** len(q) * state + (left * k).T @ v\n",
                "+ from_before)\n",
            ),
            "In the states that you hand on, what was there before the chunk does not fade.",
            ("decay ** len(q) * state", "state"),
            "In the states that you hand on, what was there before the chunk fades once; it fades "
            "at each step of the chunk.",
            ("decay ** len(q) * state", "decay * state"),
            "In the states that you hand on, the pairs of the chunk do not fade: multiply key j of "
            "c by the decay to the power c - 1 - j.",
            ("(left * k).T", "k.T"),
            "In the states that you hand on, the pairs of the chunk have faded once too often: the "
            "last pair does not fade.",
            ("len(q) - 1 - step", "len(q) - step"),
            "In the states that you hand on, the newest pair has faded most. The oldest one must.",
            ("decay ** (len(q) - 1 - step)", "decay**step"),
            "Right for whole chunks. A shorter last one fades over the steps that it has, not over "
            "size steps.",
            ("(len(q) - 1 - step)", "(size - 1 - step)"),
            ("decay ** len(q)", "decay**size"),
            "You leave out the steps after the last whole chunk; the last chunk may be shorter.",
            (
                "        step = torch.arange",
                "        if len(q) < size and handed:\n"
                "            continue\n"
                "        step = torch.arange",
            ),
            "You divide the scores by the square root of d_k, as in attention with a softmax; here "
            "they stay as they are.",
            ("fade * (q @ k.T)", "fade * (q @ k.T) / q.shape[1] ** 0.5"),
            "Your outputs are right, but your states are transposed: keys are their rows.",
            ("torch.stack(handed)", "torch.stack(handed).mT"),
            "Your outputs are right, but you return the states in which the chunks begin; return "
            "those in which they end.",
            (
                "        step = torch.arange",
                "        handed.append(state)\n        step = torch.arange",
            ),
            ("v\n        handed.append(state)", "v"),
            "You return the last state only; return one for each chunk.",
            ("torch.stack(handed)", "state"),
        ),
        alternatives=[_chunked_step_by_step, _chunked_in_single_precision],
    ),
    Step(
        "delta_map",
        reference=_map_reference,
        cases={
            "a short text": _to_store,
            "no decay": _without_decay,
            "one step": lambda sampler: _to_store(sampler, 1),
        },
        mistakes=known_mistakes(
            "You compose in the wrong order: the text so far is done first, and then the next step.",
            (
                "compose(matrix, shift, one, beta * torch.outer(k, v))",
                "compose(one, beta * torch.outer(k, v), matrix, shift)",
            ),
            "The sign is wrong: what the memory returns for the key is taken away, I - beta k k^T.",
            ("identity - beta", "identity + beta"),
            "Your matrix lacks the strength: a correction takes away beta times what is returned.",
            ("identity - beta * torch", "identity - torch"),
            "Your shift lacks the strength: a correction adds beta times what is missed.",
            ("one, beta * torch", "one, torch"),
            "Your memory never fades: the decays are missing.",
            ("one = alpha * (identity", "one = (identity"),
            "Your new values fade in the step that stores them. The memory fades first, and the "
            "correction comes after that.",
            ("one, beta * torch", "one, alpha * beta * torch"),
            "You read the memory before it fades. It fades first, so the correction sees the decay, "
            "too.",
            (
                "alpha * (identity - beta * torch.outer(k, k))",
                "alpha * identity - beta * torch.outer(k, k)",
            ),
            "You take the elementwise square of the key. The product k k^T of a column and a row "
            "is a whole matrix.",
            ("torch.outer(k, k)", "torch.diag(k * k)"),
            "You take the product of the key with itself as a number. The product k k^T of a "
            "column and a row is a matrix.",
            ("torch.outer(k, k)", "(k @ k) * identity"),
            "You add pairs without a correction, which is linear attention. The delta rule first "
            "takes away what the memory returns.",
            (" - beta * torch.outer(k, k)", ""),
            "You bring the keys to length one; here they come as they are.",
            ("one = alpha", "k = normalize(k, dim=0)\n        one = alpha"),
            "You return the last step alone; compose all steps of the text.",
            (
                "compose(matrix, shift, one, beta * torch.outer(k, v))",
                "one, beta * torch.outer(k, v)",
            ),
        ),
        alternatives=[_map_side_by_side, _map_from_the_end_in_single_precision],
        depends_on=["compose"],
    ),
    Step(
        "recall",
        reference=_recall_reference,
        cases={
            "a key that is stored twice": _to_ask,
            "different keys": lambda sampler: _to_ask(sampler, again=False),
            "a strength of 1": lambda sampler: _to_ask(sampler) | {"strength": 1.0},
        },
        mistakes=known_mistakes(
            "Your memory is the plain sum of the pairs. The delta rule corrects what the memory "
            "returns for a key.",
            (
                "_, memory = delta_map(key, value, strength * ones, ones)",
                "memory = strength * key.T @ value",
            ),
            "You bring neither the stored keys nor those that are asked for to length one.",
            ("normalize(key, dim=-1), normalize(asked, dim=-1)", "key, asked"),
            "You store the keys as they are; bring them to length one, too.",
            ("= normalize(key, dim=-1),", "= key,"),
            "You ask with keys as they are; bring them to length one, too.",
            ("normalize(asked, dim=-1)", "asked"),
            "Your keys are normalized over the pairs; each key has a length of its own, over its d "
            "numbers.",
            ("normalize(key, dim=-1)", "normalize(key, dim=0)"),
            ("normalize(asked, dim=-1)", "normalize(asked, dim=0)"),
            "Right for a strength of 1, which you always use; use the given strength.",
            ("strength * ones, ones", "ones, ones"),
            "You use the strength as the decay, too; here nothing fades.",
            ("strength * ones, ones", "strength * ones, strength * ones"),
            "Strength and decay are swapped: the decay is 1 here.",
            ("strength * ones, ones", "ones, strength * ones"),
            "You store the pairs in reversed order, so that old ones win. Store them as they come.",
            ("delta_map(key, value,", "delta_map(key.flip(0), value.flip(0),"),
            "Your scores are right, but you choose the best question for each symbol; choose the "
            "best symbol for each question.",
            ("scores.argmax(-1)", "scores.argmax(0)"),
            "You return the highest score of each question; return the symbol that has it.",
            ("scores.argmax(-1)", "scores.amax(-1)"),
            "Your answers are one too large: symbols count from 0.",
            ("scores.argmax(-1)", "scores.argmax(-1) + 1"),
            "Your scores go through a softmax; return what the memory returns.",
            (
                "scores.argmax(-1), scores",
                "scores.argmax(-1), scores.softmax(-1)",
            ),
            "You ask by attention over all pairs. Only the memory, a matrix, may be asked.",
            ("asked @ memory", "(asked @ key.T).softmax(-1) @ value"),
            "Your two results are swapped: the answers come first.",
            ("scores.argmax(-1), scores", "scores, scores.argmax(-1)"),
        ),
        alternatives=[_recall_by_a_system, _recall_in_single_precision],
        depends_on=["delta_map"],
    ),
]
