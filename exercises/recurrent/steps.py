"""The steps of the recurrent network's exercise, with their reference answers and known mistakes."""

import math

import numpy as np
import torch
from torch import nn

from stepgrader.steps import CaseSampler, Mistake, Step


def _rates(sampler: CaseSampler, *shape: int) -> torch.Tensor:
    """Rates with one decimal, never 0.5, where keeping and taking would be the same."""
    choices = np.array([0.1, 0.2, 0.3, 0.4, 0.6, 0.7, 0.8, 0.9])
    return torch.from_numpy(sampler.random.choice(choices, size=shape))


def _weights(sampler: CaseSampler, features: int, hidden: int) -> dict[str, torch.Tensor]:
    return {
        "w_x": sampler.normal(features, hidden),
        "w_h": sampler.normal(hidden, hidden),
        "b": sampler.normal(hidden),
        "rate": _rates(sampler, hidden),
    }


def _readable(sampler: CaseSampler, small: tuple[int, ...]) -> tuple[int, ...]:
    """These sizes for the smallest case, whose numbers are shown; else all different ones."""
    if sampler.size == 0:
        return small
    *others, features = (2 + sampler.size // 2 + n for n in range(4))
    batch, hidden, time = sampler.random.permutation(others).tolist()
    return batch, features, hidden, time


# -- 1. leaky_step


def _step_inputs(sampler: CaseSampler, batch: int, features: int, hidden: int) -> dict:
    return {
        "inputs": sampler.normal(batch, features),
        "hidden": sampler.normal(batch, hidden),
        **_weights(sampler, features, hidden),
    }


def _one_step(sampler: CaseSampler) -> dict:
    return _step_inputs(sampler, *sampler.lengths(3))


def _one_row(sampler: CaseSampler) -> dict:
    return _step_inputs(sampler, 1, *sampler.lengths(2))


def _leaky_reference(inputs, hidden, w_x, w_h, b, rate):
    return torch.lerp(
        hidden,
        nn.functional.linear(torch.cat([inputs, hidden], 1), torch.cat([w_x, w_h]).T, b).tanh(),
        rate.expand_as(hidden),
    )


def _leaky_swapped(inputs, hidden, w_x, w_h, b, rate):
    candidate = torch.tanh(inputs @ w_x + hidden @ w_h + b)
    return rate * hidden + (1 - rate) * candidate


def _leaky_transposed(inputs, hidden, w_x, w_h, b, rate):
    candidate = torch.tanh(inputs @ w_x + hidden @ w_h.T + b)
    return (1 - rate) * hidden + rate * candidate


def _leaky_without_bias(inputs, hidden, w_x, w_h, b, rate):
    candidate = torch.tanh(inputs @ w_x + hidden @ w_h)
    return (1 - rate) * hidden + rate * candidate


def _leaky_bias_outside(inputs, hidden, w_x, w_h, b, rate):
    candidate = torch.tanh(inputs @ w_x + hidden @ w_h) + b
    return (1 - rate) * hidden + rate * candidate


def _leaky_tanh_around_all(inputs, hidden, w_x, w_h, b, rate):
    total = inputs @ w_x + hidden @ w_h + b
    return torch.tanh((1 - rate) * hidden + rate * total)


def _leaky_with_sigmoid(inputs, hidden, w_x, w_h, b, rate):
    candidate = torch.sigmoid(inputs @ w_x + hidden @ w_h + b)
    return (1 - rate) * hidden + rate * candidate


def _leaky_nothing_lost(inputs, hidden, w_x, w_h, b, rate):
    return hidden + rate * torch.tanh(inputs @ w_x + hidden @ w_h + b)


def _leaky_no_leak(inputs, hidden, w_x, w_h, b, rate):
    return torch.tanh(inputs @ w_x + hidden @ w_h + b)


def _leaky_row_by_row(inputs, hidden, w_x, w_h, b, rate):
    rows = []
    for x, h in zip(inputs, hidden, strict=True):
        new = torch.tanh(w_x.T @ x + w_h.T @ h + b)
        rows.append(h + rate * (new - h))
    return torch.stack(rows)


def _leaky_in_float32(inputs, hidden, w_x, w_h, b, rate):
    x, h, w, u = (value.float() for value in (inputs, hidden, w_x, w_h))
    total = torch.einsum("bf,fh->bh", x, w) + torch.einsum("bk,kh->bh", h, u)
    keep, take = 1 - rate.float(), rate.float()
    return keep * h + take * torch.tanh(total + b.float())


# -- 2. leaky_layer


def _layer_inputs(sampler: CaseSampler, sizes: tuple[int, ...], time: int) -> dict:
    batch, features, hidden = sizes
    return {
        "inputs": sampler.normal(batch, time, features),
        "initial": sampler.normal(batch, hidden),
        **_weights(sampler, features, hidden),
    }


def _several_steps(sampler: CaseSampler) -> dict:
    batch, features, hidden, time = _readable(sampler, small=(2, 2, 2, 3))
    return _layer_inputs(sampler, (batch, features, hidden), time)


def _one_step_only(sampler: CaseSampler) -> dict:
    return _layer_inputs(sampler, sampler.lengths(3), 1)


def _layer_reference(inputs, initial, w_x, w_h, b, rate):
    """Each sequence by itself, in vectors."""
    states, sums = [], []
    for sequence, hidden in zip(inputs, initial, strict=True):
        states.append([])
        sums.append([])
        for x in sequence:
            total = (x[:, None] * w_x).sum(0) + (hidden[:, None] * w_h).sum(0) + b
            hidden = hidden - rate * hidden + rate * (1 - 2 / (1 + torch.exp(2 * total)))
            states[-1].append(hidden)
            sums[-1].append(total)
    return tuple(torch.stack([torch.stack(row) for row in rows]) for rows in (states, sums))


def _layer_time_first(inputs, initial, w_x, w_h, b, rate):
    hidden, states, sums = initial, [], []
    for x in inputs.unbind(1):
        sums.append(x @ w_x + hidden @ w_h + b)
        hidden = (1 - rate) * hidden + rate * torch.tanh(sums[-1])
        states.append(hidden)
    return torch.stack(states), torch.stack(sums)


def _layer_states_before(inputs, initial, w_x, w_h, b, rate):
    hidden, states, sums = initial, [], []
    for x in inputs.unbind(1):
        states.append(hidden)
        sums.append(x @ w_x + hidden @ w_h + b)
        hidden = (1 - rate) * hidden + rate * torch.tanh(sums[-1])
    return torch.stack(states, 1), torch.stack(sums, 1)


def _layer_results_swapped(inputs, initial, w_x, w_h, b, rate):
    hidden, states, sums = initial, [], []
    for x in inputs.unbind(1):
        sums.append(x @ w_x + hidden @ w_h + b)
        hidden = (1 - rate) * hidden + rate * torch.tanh(sums[-1])
        states.append(hidden)
    return torch.stack(sums, 1), torch.stack(states, 1)


def _layer_from_zero(inputs, initial, w_x, w_h, b, rate):
    hidden, states, sums = torch.zeros_like(initial), [], []
    for x in inputs.unbind(1):
        sums.append(x @ w_x + hidden @ w_h + b)
        hidden = (1 - rate) * hidden + rate * torch.tanh(sums[-1])
        states.append(hidden)
    return torch.stack(states, 1), torch.stack(sums, 1)


def _layer_not_carried(inputs, initial, w_x, w_h, b, rate):
    states, sums = [], []
    for x in inputs.unbind(1):
        sums.append(x @ w_x + initial @ w_h + b)
        states.append((1 - rate) * initial + rate * torch.tanh(sums[-1]))
    return torch.stack(states, 1), torch.stack(sums, 1)


def _layer_squashed_sums(inputs, initial, w_x, w_h, b, rate):
    hidden, states, sums = initial, [], []
    for x in inputs.unbind(1):
        sums.append(torch.tanh(x @ w_x + hidden @ w_h + b))
        hidden = (1 - rate) * hidden + rate * sums[-1]
        states.append(hidden)
    return torch.stack(states, 1), torch.stack(sums, 1)


def _layer_sums_of_new_state(inputs, initial, w_x, w_h, b, rate):
    hidden, states, sums = initial, [], []
    for x in inputs.unbind(1):
        new = torch.tanh(x @ w_x + hidden @ w_h + b)
        hidden = (1 - rate) * hidden + rate * new
        states.append(hidden)
        sums.append(x @ w_x + hidden @ w_h + b)
    return torch.stack(states, 1), torch.stack(sums, 1)


def _layer_cut_from_the_past(inputs, initial, w_x, w_h, b, rate):
    hidden, states, sums = initial, [], []
    for x in inputs.unbind(1):
        sums.append(x @ w_x + hidden @ w_h + b)
        new = (1 - rate) * hidden + rate * torch.tanh(sums[-1])
        states.append(new)
        hidden = new.detach()
    return torch.stack(states, 1), torch.stack(sums, 1)


def _layer_products_first(inputs, initial, w_x, w_h, b, rate):
    from_inputs = torch.einsum("btf,fh->tbh", inputs, w_x) + b
    hidden, both = initial, []
    for part in from_inputs:
        total = torch.addmm(part, hidden, w_h)
        hidden = torch.lerp(hidden, total.tanh(), rate.expand_as(hidden))
        both.append(torch.stack([hidden, total]))
    return list(torch.stack(both, 2))


def _layer_filled(inputs, initial, w_x, w_h, b, rate):
    import warnings

    warnings.warn("a warning is no mistake", stacklevel=1)
    batch, time, _ = inputs.shape
    states = inputs.new_zeros(batch, time, len(b))
    sums = torch.zeros_like(states)
    hidden = initial
    for t in range(time):
        print("step", t, "of", time)
        total = inputs[:, t] @ w_x + hidden @ w_h + b
        hidden = hidden - rate * (hidden - torch.tanh(total))
        sums[:, t] = total
        states[:, t] = hidden
    return states, sums


# -- 3. turn_round


def _lengths(sampler: CaseSampler, batch: int, time: int) -> torch.Tensor:
    """One sequence of full length, the others shorter, in any order."""
    lengths = 1 + sampler.integers(time - 1, batch)
    lengths[sampler.random.integers(batch)] = time
    return torch.from_numpy(lengths)


def _sequences(sampler: CaseSampler) -> dict:
    batch, features, time = sorted(sampler.lengths(3)) if sampler.size else (2, 2, 3)
    return {
        "padded": sampler.normal(batch, time, features),
        "lengths": _lengths(sampler, batch, time),
    }


def _nothing_padded(sampler: CaseSampler) -> dict:
    made = _sequences(sampler)
    return made | {"lengths": torch.full_like(made["lengths"], made["padded"].shape[1])}


def _all_padded(sampler: CaseSampler) -> dict:
    made = _sequences(sampler)
    return made | {"lengths": (made["lengths"] - 1).clamp(min=1)}


def _not_a_number(sampler: CaseSampler) -> dict:
    made = _sequences(sampler)
    steps = torch.arange(made["padded"].shape[1])
    beyond = steps >= made["lengths"][:, None]
    return made | {"padded": made["padded"].masked_fill(beyond[..., None], math.nan)}


def _turn_reference(padded, lengths):
    rows = [
        torch.cat([row[:n].flip(0), torch.zeros_like(row[n:])])
        for row, n in zip(padded, lengths.tolist(), strict=True)
    ]
    return torch.stack(rows)


def _turn_with_padding(padded, lengths):
    return padded.flip(1)


def _turn_padding_to_the_front(padded, lengths):
    real = torch.arange(padded.shape[1]) < lengths[:, None]
    return torch.where(real[..., None], padded, 0.0).flip(1)


def _turn_flip_and_cut(padded, lengths):
    real = torch.arange(padded.shape[1]) < lengths[:, None]
    return torch.where(real[..., None], padded.flip(1), 0.0)


def _turn_padding_left(padded, lengths):
    steps = torch.arange(padded.shape[1])
    turned = lengths[:, None] - 1 - steps
    order = torch.where(turned >= 0, turned, steps)
    return padded.gather(1, order[..., None].expand_as(padded))


def _turn_multiplied(padded, lengths):
    steps = torch.arange(padded.shape[1])
    turned = lengths[:, None] - 1 - steps
    order = torch.where(turned >= 0, turned, steps)
    real = (turned >= 0)[..., None].to(padded.dtype)
    return padded.gather(1, order[..., None].expand_as(padded)) * real


def _turn_features(padded, lengths):
    real = torch.arange(padded.shape[1]) < lengths[:, None]
    return torch.where(real[..., None], padded.flip(2), 0.0)


def _turn_in_place(padded, lengths):
    for row, n in enumerate(lengths.tolist()):
        padded[row, :n] = padded[row, :n].flip(0)
        padded[row, n:] = 0
    return padded


def _turn_one_step_short(padded, lengths):
    result = torch.zeros_like(padded)
    for row, n in enumerate(lengths.tolist()):
        result[row, : n - 1] = padded[row, : n - 1].flip(0)
    return result


def _turn_step_by_step(padded, lengths):
    result = torch.zeros_like(padded)
    for row in range(padded.shape[0]):
        n = int(lengths[row])
        for step in range(n):
            result[row, step] = padded[row, n - 1 - step]
    return result


def _turn_by_permutations(padded, lengths):
    steps = torch.arange(padded.shape[1])
    real = (steps < lengths[:, None])[..., None]
    clean = padded.float().masked_fill(~real, 0)
    source = (lengths[:, None] - 1 - steps)[..., None] == steps
    return torch.einsum("bts,bsf->btf", source.float(), clean)


# -- 4. both_directions


def _two_layers(sampler: CaseSampler, lengths) -> dict:
    batch, hidden, time, features = (n + sampler.size // 2 for n in (2, 3, 4, 5))
    if sampler.size == 0:
        batch, hidden, time, features = 2, 1, 3, 2
    made = [_weights(sampler, features, hidden) for _ in range(2)]
    return {
        "padded": sampler.normal(batch, time, features),
        "lengths": lengths(sampler, batch, time),
        **{name: torch.stack([part[name] for part in made]) for name in made[0]},
    }


def _both_padded(sampler: CaseSampler) -> dict:
    return _two_layers(sampler, _lengths)


def _both_full(sampler: CaseSampler) -> dict:
    return _two_layers(sampler, lambda sampler, batch, time: torch.full((batch,), time))


def _both_all_padded(sampler: CaseSampler) -> dict:
    made = _both_padded(sampler)
    return made | {"lengths": (made["lengths"] - 1).clamp(min=1)}


def _both_reference(padded, lengths, w_x, w_h, b, rate):
    """One sequence after the other, each cut to its length."""

    def read(sequence, k):
        hidden, states = sequence.new_zeros(1, w_h.shape[-1]), []
        for x in sequence.split(1):
            hidden = _leaky_reference(x, hidden, w_x[k], w_h[k], b[k], rate[k])
            states.append(hidden)
        return torch.cat(states)

    outputs, final = [], []
    for row, n in zip(padded, lengths.tolist(), strict=True):
        forwards, backwards = read(row[:n], 0), read(row[:n].flip(0), 1)
        both = torch.cat([forwards, backwards.flip(0)], 1)
        outputs.append(nn.functional.pad(both, (0, 0, 0, len(row) - n)))
        final.append(torch.cat([forwards[-1], backwards[-1]]))
    return torch.stack(outputs), torch.stack(final)


def _both_flipped_whole(padded, lengths, w_x, w_h, b, rate):
    def run(inputs, k):
        hidden, states = inputs.new_zeros(len(inputs), w_h.shape[-1]), []
        for x in inputs.unbind(1):
            new = torch.tanh(x @ w_x[k] + hidden @ w_h[k] + b[k])
            hidden = (1 - rate[k]) * hidden + rate[k] * new
            states.append(hidden)
        return torch.stack(states, 1)

    real = (torch.arange(padded.shape[1]) < lengths[:, None])[..., None]
    ahead, back = run(padded, 0), run(padded.flip(1), 1).flip(1)
    final = [ahead[torch.arange(len(padded)), lengths - 1], back[:, 0]]
    return torch.cat([ahead, back], -1) * real, torch.cat(final, -1)


def _both_not_turned_back(padded, lengths, w_x, w_h, b, rate):
    def run(inputs, k):
        hidden, states = inputs.new_zeros(len(inputs), w_h.shape[-1]), []
        for x in inputs.unbind(1):
            new = torch.tanh(x @ w_x[k] + hidden @ w_h[k] + b[k])
            hidden = (1 - rate[k]) * hidden + rate[k] * new
            states.append(hidden)
        return torch.stack(states, 1)

    steps = torch.arange(padded.shape[1])
    order = (lengths[:, None] - 1 - steps).clamp(min=0)[..., None]
    real = (steps < lengths[:, None])[..., None]
    ahead = run(padded, 0)
    back = run(padded.gather(1, order.expand_as(padded)), 1)
    rows = torch.arange(len(padded))
    final = [ahead[rows, lengths - 1], back[rows, lengths - 1]]
    return torch.cat([ahead, back], -1) * real, torch.cat(final, -1)


def _both_padding_not_zero(padded, lengths, w_x, w_h, b, rate):
    def run(inputs, k):
        hidden, states = inputs.new_zeros(len(inputs), w_h.shape[-1]), []
        for x in inputs.unbind(1):
            new = torch.tanh(x @ w_x[k] + hidden @ w_h[k] + b[k])
            hidden = (1 - rate[k]) * hidden + rate[k] * new
            states.append(hidden)
        return torch.stack(states, 1)

    steps = torch.arange(padded.shape[1])
    order = (lengths[:, None] - 1 - steps).clamp(min=0)[..., None]
    real = (steps < lengths[:, None])[..., None]
    ahead = run(padded, 0)
    back = run(padded.gather(1, order.expand_as(padded)) * real, 1)
    back = back.gather(1, order.expand_as(back)) * real
    final = [ahead[torch.arange(len(padded)), lengths - 1], back[:, 0]]
    return torch.cat([ahead, back], -1), torch.cat(final, -1)


def _both_final_at_last_column(padded, lengths, w_x, w_h, b, rate):
    def run(inputs, k):
        hidden, states = inputs.new_zeros(len(inputs), w_h.shape[-1]), []
        for x in inputs.unbind(1):
            new = torch.tanh(x @ w_x[k] + hidden @ w_h[k] + b[k])
            hidden = (1 - rate[k]) * hidden + rate[k] * new
            states.append(hidden)
        return torch.stack(states, 1)

    steps = torch.arange(padded.shape[1])
    order = (lengths[:, None] - 1 - steps).clamp(min=0)[..., None]
    real = (steps < lengths[:, None])[..., None]
    ahead = run(padded, 0)
    back = run(padded.gather(1, order.expand_as(padded)) * real, 1)
    back = back.gather(1, order.expand_as(back))
    outputs = torch.cat([ahead, back], -1) * real
    return outputs, outputs[:, -1]


def _both_final_at_last_symbol(padded, lengths, w_x, w_h, b, rate):
    def run(inputs, k):
        hidden, states = inputs.new_zeros(len(inputs), w_h.shape[-1]), []
        for x in inputs.unbind(1):
            new = torch.tanh(x @ w_x[k] + hidden @ w_h[k] + b[k])
            hidden = (1 - rate[k]) * hidden + rate[k] * new
            states.append(hidden)
        return torch.stack(states, 1)

    steps = torch.arange(padded.shape[1])
    order = (lengths[:, None] - 1 - steps).clamp(min=0)[..., None]
    real = (steps < lengths[:, None])[..., None]
    ahead = run(padded, 0)
    back = run(padded.gather(1, order.expand_as(padded)) * real, 1)
    back = back.gather(1, order.expand_as(back))
    outputs = torch.cat([ahead, back], -1) * real
    return outputs, outputs[torch.arange(len(padded)), lengths - 1]


def _both_forward_final_in_padding(padded, lengths, w_x, w_h, b, rate):
    def run(inputs, k):
        hidden, states = inputs.new_zeros(len(inputs), w_h.shape[-1]), []
        for x in inputs.unbind(1):
            new = torch.tanh(x @ w_x[k] + hidden @ w_h[k] + b[k])
            hidden = (1 - rate[k]) * hidden + rate[k] * new
            states.append(hidden)
        return torch.stack(states, 1)

    steps = torch.arange(padded.shape[1])
    order = (lengths[:, None] - 1 - steps).clamp(min=0)[..., None]
    real = (steps < lengths[:, None])[..., None]
    ahead = run(padded, 0)
    back = run(padded.gather(1, order.expand_as(padded)) * real, 1)
    back = back.gather(1, order.expand_as(back))
    final = torch.cat([ahead[:, -1], back[:, 0]], -1)
    return torch.cat([ahead, back], -1) * real, final


def _both_with_one_layer(padded, lengths, w_x, w_h, b, rate):
    def run(inputs):
        hidden, states = inputs.new_zeros(len(inputs), w_h.shape[-1]), []
        for x in inputs.unbind(1):
            new = torch.tanh(x @ w_x[0] + hidden @ w_h[0] + b[0])
            hidden = (1 - rate[0]) * hidden + rate[0] * new
            states.append(hidden)
        return torch.stack(states, 1)

    steps = torch.arange(padded.shape[1])
    order = (lengths[:, None] - 1 - steps).clamp(min=0)[..., None]
    real = (steps < lengths[:, None])[..., None]
    ahead = run(padded)
    back = run(padded.gather(1, order.expand_as(padded)) * real)
    back = back.gather(1, order.expand_as(back))
    final = [ahead[torch.arange(len(padded)), lengths - 1], back[:, 0]]
    return torch.cat([ahead, back], -1) * real, torch.cat(final, -1)


def _both_backward_first(padded, lengths, w_x, w_h, b, rate):
    def run(inputs, k):
        hidden, states = inputs.new_zeros(len(inputs), w_h.shape[-1]), []
        for x in inputs.unbind(1):
            new = torch.tanh(x @ w_x[k] + hidden @ w_h[k] + b[k])
            hidden = (1 - rate[k]) * hidden + rate[k] * new
            states.append(hidden)
        return torch.stack(states, 1)

    steps = torch.arange(padded.shape[1])
    order = (lengths[:, None] - 1 - steps).clamp(min=0)[..., None]
    real = (steps < lengths[:, None])[..., None]
    ahead = run(padded, 0)
    back = run(padded.gather(1, order.expand_as(padded)) * real, 1)
    back = back.gather(1, order.expand_as(back))
    final = [back[:, 0], ahead[torch.arange(len(padded)), lengths - 1]]
    return torch.cat([back, ahead], -1) * real, torch.cat(final, -1)


def _both_holding_still(padded, lengths, w_x, w_h, b, rate):
    """Steps in the order of the text for both; a state in the padding stays as it is."""
    batch, time, _ = padded.shape
    outputs = padded.new_zeros(2, batch, time, b.shape[1])
    finals = []
    for k, order in enumerate((range(time), reversed(range(time)))):
        hidden = padded.new_zeros(batch, b.shape[1])
        for t in order:
            new = torch.tanh(padded[:, t] @ w_x[k] + hidden @ w_h[k] + b[k])
            new = (1 - rate[k]) * hidden + rate[k] * new
            running = (t < lengths)[:, None]
            hidden = torch.where(running, new, hidden)
            outputs[k, :, t] = torch.where(running, new, 0.0)
        finals.append(hidden)
    return torch.cat([*outputs], -1), torch.cat(finals, -1)


def _both_as_one_batch(padded, lengths, w_x, w_h, b, rate):
    """Both directions side by side in one loop, with a product for each by einsum."""
    steps = torch.arange(padded.shape[1])
    order = (lengths[:, None] - 1 - steps) % padded.shape[1]
    order = order[..., None].expand_as(padded)
    inputs = torch.stack([padded, padded.gather(1, order)])
    hidden = padded.new_zeros(2, len(padded), b.shape[1])
    states = []
    for t in steps.tolist():
        total = torch.einsum("kbf,kfh->kbh", inputs[:, :, t], w_x)
        total = total + torch.einsum("kbg,kgh->kbh", hidden, w_h)
        new = torch.tanh(total + b[:, None])
        hidden = hidden + rate[:, None] * (new - hidden)
        states.append(hidden)
    states = torch.stack(states, 2)
    real = (steps < lengths[:, None])[..., None]
    last = states[:, torch.arange(len(padded)), lengths - 1]
    back = states[1].gather(1, order[..., :1].expand_as(states[1]))
    outputs = torch.cat([states[0], back], -1).masked_fill(~real, 0)
    return [outputs, torch.cat([last[0], last[1]], -1)]


# -- 5. bits_per_symbol


def _scores(sampler: CaseSampler) -> dict:
    made = _no_padding(sampler)
    batch, time = made["targets"].shape
    beyond = torch.arange(time) >= _lengths(sampler, batch, time)[:, None]
    return made | {"targets": made["targets"].masked_fill(beyond, -1)}


def _no_padding(sampler: CaseSampler) -> dict:
    batch, time, symbols = sampler.lengths(3) if sampler.size else (2, 3, 2)
    return {
        "logits": sampler.normal(batch, time, symbols),
        "targets": torch.from_numpy(sampler.integers(symbols, batch, time)),
    }


def _empty_sequence(sampler: CaseSampler) -> dict:
    made = _scores(sampler)
    real = (made["targets"] >= 0).sum(1)
    made["targets"][real.argmin()] = -1
    return made


def _huge_scores(sampler: CaseSampler) -> dict:
    made = _scores(sampler)
    logits = (made["logits"] * 1e4).round()
    # The first symbol that came is far behind another: its probability is 0 in any precision.
    first = made["targets"][0, 0]
    logits[0, 0] = 1e5
    logits[0, 0, first] = -1e5
    return made | {"logits": logits}


def _bits_reference(logits, targets):
    costs = [
        torch.logsumexp(row, 0) - row[target]
        for rows, row_targets in zip(logits, targets.tolist(), strict=True)
        for row, target in zip(rows, row_targets, strict=True)
        if target >= 0
    ]
    return torch.stack(costs).mean() * math.log2(math.e)


def _bits_in_nats(logits, targets):
    real = targets >= 0
    return nn.functional.cross_entropy(logits[real], targets[real])


def _bits_multiplied(logits, targets):
    real = targets >= 0
    return nn.functional.cross_entropy(logits[real], targets[real]) * math.log(2)


def _bits_over_everything(logits, targets):
    costs = nn.functional.cross_entropy(
        logits.transpose(1, 2), targets, ignore_index=-1, reduction="none"
    )
    return costs.mean() / math.log(2)


def _bits_padding_as_last_symbol(logits, targets):
    logs = torch.log_softmax(logits, -1)
    costs = -logs.gather(2, (targets % logits.shape[2])[..., None])
    return costs.mean() / math.log(2)


def _bits_padding_as_first_symbol(logits, targets):
    logs = torch.log_softmax(logits, -1)
    costs = -logs.gather(2, targets.clamp(min=0)[..., None])
    return costs.mean() / math.log(2)


def _bits_softmax_over_time(logits, targets):
    real = targets >= 0
    logs = torch.log_softmax(logits, 1)
    chosen = logs.gather(2, targets.clamp(min=0)[..., None])[..., 0]
    return -chosen[real].mean() / math.log(2)


def _bits_mean_of_means(logits, targets):
    costs = nn.functional.cross_entropy(
        logits.transpose(1, 2), targets, ignore_index=-1, reduction="none"
    )
    return (costs.sum(1) / (targets >= 0).sum(1)).mean() / math.log(2)


def _bits_log_of_softmax(logits, targets):
    real = targets >= 0
    probabilities = torch.softmax(logits[real], -1)
    chosen = probabilities.gather(1, targets[real][:, None])
    return -chosen.log2().mean()


def _bits_overflow(logits, targets):
    real = targets >= 0
    powers = logits[real].exp()
    chosen = powers.gather(1, targets[real][:, None])[:, 0] / powers.sum(1)
    return -chosen.log2().mean()


def _bits_clamped(logits, targets):
    real = targets >= 0
    probabilities = torch.softmax(logits[real], -1)
    chosen = probabilities.gather(1, targets[real][:, None])
    return -(chosen + 1e-12).log2().mean()


def _bits_summed(logits, targets):
    real = targets >= 0
    total = nn.functional.cross_entropy(logits[real], targets[real], reduction="sum")
    return total / math.log(2)


def _bits_ignoring(logits, targets):
    flat = logits.flatten(0, 1).float()
    nats = nn.functional.cross_entropy(flat, targets.flatten(), ignore_index=-1)
    return nats / np.log(2)


def _bits_weighted_by_mask(logits, targets):
    real = (targets >= 0).to(logits.dtype)
    shifted = logits - logits.detach().amax(-1, keepdim=True)
    logs = shifted - shifted.exp().sum(-1, keepdim=True).log()
    observed = nn.functional.one_hot(targets.clamp(min=0), logits.shape[-1])
    total = torch.einsum("bts,bts,bt->", logs, observed.to(logits.dtype), real)
    return -total / real.sum() * np.log2(np.e)


# -- 6. perplexity


def _parts(sampler: CaseSampler) -> dict:
    parts = 3 + sampler.size
    counts = sampler.random.permutation(np.array([2, 5, 9, 20, 30, 50])[:parts])
    bits = sampler.random.permutation(np.array([0.5, 1.5, 2.3, 3.1, 4.6, 5.2])[:parts])
    return {"bits": bits, "counts": counts}


def _one_part(sampler: CaseSampler) -> dict:
    made = _parts(sampler)
    return {name: values[:1] for name, values in made.items()}


def _empty_part(sampler: CaseSampler) -> dict:
    made = _parts(sampler)
    made["bits"][0], made["counts"][0] = 0.0, 0
    return made


def _perplexity_reference(bits, counts):
    shares = [n / sum(counts.tolist()) for n in counts.tolist()]
    return math.prod((2.0**b) ** share for b, share in zip(bits.tolist(), shares, strict=True))


def _perplexity_unweighted(bits, counts):
    return 2 ** bits.mean()


def _perplexity_mean(bits, counts):
    return np.mean(2**bits)


def _perplexity_weighted_mean(bits, counts):
    return np.sum(counts * 2**bits) / counts.sum()


def _perplexity_exp(bits, counts):
    return np.exp(np.sum(bits * counts) / counts.sum())


def _perplexity_bits(bits, counts):
    return np.sum(bits * counts) / counts.sum()


def _perplexity_inverse(bits, counts):
    return 2 ** -(np.sum(bits * counts) / counts.sum())


def _perplexity_with_a_loop(bits, counts):
    total = symbols = 0
    for cost, count in zip(bits, counts, strict=True):
        print(cost, count)
        total += cost * count
        symbols += count
    return math.exp(math.log(2) * total / symbols)


def _perplexity_average(bits, counts):
    return torch.tensor(2.0).pow(float(np.average(bits, weights=counts)))


# -- 7. choose


def _rows(sampler: CaseSampler, temperature: float) -> dict:
    batch, symbols = 3 + sampler.size, 4 + sampler.size
    uniforms = sampler.random.permutation(np.linspace(0.02, 0.97, batch).round(2))
    return {
        "logits": sampler.normal(batch, symbols),
        "temperature": temperature,
        "uniforms": torch.from_numpy(uniforms),
    }


def _at_one(sampler: CaseSampler) -> dict:
    return _rows(sampler, 1.0)


def _cold(sampler: CaseSampler) -> dict:
    return _rows(sampler, 0.4)


def _hot(sampler: CaseSampler) -> dict:
    return _rows(sampler, 5.0)


def _frozen(sampler: CaseSampler) -> dict:
    """Temperature 0, with a tie of the largest in every second row."""
    made = _rows(sampler, 0.0)
    logits = made["logits"]
    order = logits.argsort(1)
    for row in range(0, len(logits), 2):
        logits[row, order[row, -2]] = logits[row, order[row, -1]]
    return made


def _large(sampler: CaseSampler) -> dict:
    made = _rows(sampler, 2.0)
    return made | {
        "logits": made["logits"] + 1e5 * (-1.0) ** torch.arange(len(made["logits"]))[:, None]
    }


def _forbidden(sampler: CaseSampler) -> dict:
    made = _rows(sampler, 1.0)
    logits, uniforms = made["logits"], made["uniforms"]
    logits[:, 0] = -math.inf
    logits[:, 2] = -math.inf
    uniforms[::2] = 0.0
    return made


def _almost_one(sampler: CaseSampler) -> dict:
    """Four equally likely symbols where the number is 1: those sums are rounded nowhere."""
    made = _rows(sampler, 1.0)
    logits = made["logits"]
    logits[::2, :-4] = -math.inf
    logits[::2, -4:] = 0.0
    made["uniforms"][::2] = 1.0
    return made


def _choose_reference(logits, temperature, uniforms):
    chosen = []
    for row, u in zip(logits.tolist(), uniforms.tolist(), strict=True):
        top = max(row)
        if temperature == 0:
            chosen.append(row.index(top))
            continue
        powers = [math.exp((z - top) / temperature) for z in row]
        total, place = 0.0, len(row) - 1
        for symbol, power in enumerate(powers):
            total += power / sum(powers)
            if total > u:
                place = symbol
                break
        chosen.append(place)
    return torch.tensor(chosen)


def _choose_times_temperature(logits, temperature, uniforms):
    if temperature == 0:
        return logits.argmax(-1)
    sums = torch.softmax(logits * temperature, -1).cumsum(-1)
    return (sums <= uniforms[:, None]).sum(-1).clamp(max=logits.shape[1] - 1)


def _choose_temperature_too_late(logits, temperature, uniforms):
    if temperature == 0:
        return logits.argmax(-1)
    sums = (torch.softmax(logits, -1) / temperature).cumsum(-1)
    return (sums <= uniforms[:, None]).sum(-1).clamp(max=logits.shape[1] - 1)


def _choose_no_temperature(logits, temperature, uniforms):
    if temperature == 0:
        return logits.argmax(-1)
    sums = torch.softmax(logits, -1).cumsum(-1)
    return (sums <= uniforms[:, None]).sum(-1).clamp(max=logits.shape[1] - 1)


def _choose_greedily(logits, temperature, uniforms):
    return logits.argmax(-1)


def _choose_divides_by_zero(logits, temperature, uniforms):
    sums = torch.softmax(logits / temperature, -1).cumsum(-1)
    return (sums <= uniforms[:, None]).sum(-1).clamp(max=logits.shape[1] - 1)


def _choose_at_least(logits, temperature, uniforms):
    if temperature == 0:
        return logits.argmax(-1)
    sums = torch.softmax(logits / temperature, -1).cumsum(-1)
    return (sums < uniforms[:, None]).sum(-1).clamp(max=logits.shape[1] - 1)


def _choose_one_place_early(logits, temperature, uniforms):
    if temperature == 0:
        return logits.argmax(-1)
    sums = torch.softmax(logits / temperature, -1).cumsum(-1)
    return ((sums <= uniforms[:, None]).sum(-1) - 1).clamp(min=0)


def _choose_beyond_the_end(logits, temperature, uniforms):
    if temperature == 0:
        return logits.argmax(-1)
    sums = torch.softmax(logits / temperature, -1).cumsum(-1)
    return (sums <= uniforms[:, None]).sum(-1)


def _choose_overflow(logits, temperature, uniforms):
    if temperature == 0:
        return logits.argmax(-1)
    powers = torch.exp(logits / temperature)
    sums = (powers / powers.sum(-1, keepdim=True)).cumsum(-1)
    return (sums <= uniforms[:, None]).sum(-1).clamp(max=logits.shape[1] - 1)


def _choose_from_the_end(logits, temperature, uniforms):
    if temperature == 0:
        return logits.argmax(-1)
    sums = torch.softmax(logits / temperature, -1).flip(-1).cumsum(-1)
    last = logits.shape[1] - 1
    return last - (sums <= uniforms[:, None]).sum(-1).clamp(max=last)


def _choose_by_search(logits, temperature, uniforms):
    z = logits.numpy()
    if temperature == 0:
        return z.argmax(axis=1)
    powers = np.exp((z - z.max(axis=1, keepdims=True)) / temperature)
    sums = np.cumsum(powers / powers.sum(axis=1, keepdims=True), axis=1)
    found = [
        np.searchsorted(row, u, side="right") for row, u in zip(sums, uniforms.numpy(), strict=True)
    ]
    return [min(int(place), z.shape[1] - 1) for place in found]


def _choose_one_by_one(logits, temperature, uniforms):
    chosen = []
    for z, u in zip(logits, uniforms, strict=True):
        if not temperature:
            chosen.append(int((z == z.max()).nonzero()[0, 0]))
            continue
        z = z / temperature
        sums = torch.exp(z - torch.logsumexp(z, 0)).cumsum(0)
        place = 0
        while place < len(z) - 1 and not sums[place] > u:
            place += 1
        chosen.append(place)
    return torch.tensor(chosen, dtype=torch.int32)


STEPS = [
    Step(
        "leaky_step",
        reference=_leaky_reference,
        cases={"a small batch": _one_step, "a batch of one": _one_row},
        mistakes=[
            Mistake(
                "The rate is on the wrong state: it says how much of the new state is taken, and "
                "1 - rate how much of the old one is kept.",
                answer=_leaky_swapped,
            ),
            Mistake(
                "You transpose w_h. Here weights are (from, to), so the state is multiplied by w_h "
                "as it stands.",
                answer=_leaky_transposed,
            ),
            Mistake("The bias is missing in the pre-activation.", answer=_leaky_without_bias),
            Mistake(
                "The bias belongs into the pre-activation, inside the tanh.",
                answer=_leaky_bias_outside,
            ),
            Mistake(
                "Your tanh is around the whole mixture. Squash the pre-activation only; the old state "
                "is kept as it is.",
                answer=_leaky_tanh_around_all,
            ),
            Mistake(
                "Squash with tanh, not with the logistic function.", answer=_leaky_with_sigmoid
            ),
            Mistake(
                "You add to the old state without letting any of it go: it must be scaled by 1 - rate.",
                answer=_leaky_nothing_lost,
            ),
            Mistake(
                "This is the network without a leak: the old state itself must be mixed in.",
                answer=_leaky_no_leak,
            ),
        ],
        alternatives=[_leaky_row_by_row, _leaky_in_float32],
        gradients=["inputs", "hidden", "w_x", "w_h", "b", "rate"],
    ),
    Step(
        "leaky_layer",
        reference=_layer_reference,
        cases={"several steps": _several_steps, "one step only": _one_step_only},
        mistakes=[
            Mistake(
                "Your results are (time, batch, hidden): stack the steps along dimension 1.",
                answer=_layer_time_first,
            ),
            Mistake(
                "You keep each state before its step. The result begins with the state after the first "
                "step and ends with that after the last.",
                answer=_layer_states_before,
            ),
            Mistake(
                "Your two results are swapped: the states come first.",
                answer=_layer_results_swapped,
            ),
            Mistake(
                "You begin with zeros; the first step must start from the given initial state.",
                answer=_layer_from_zero,
            ),
            Mistake(
                "Every step of yours starts from the initial state. The state must be carried on from "
                "step to step.",
                answer=_layer_not_carried,
            ),
            Mistake(
                "Your states are right, but a pre-activation is the sum before the tanh.",
                answer=_layer_squashed_sums,
            ),
            Mistake(
                "Your states are right, but your pre-activations are computed from the state after the "
                "step. They need the one before.",
                answer=_layer_sums_of_new_state,
            ),
            Mistake(
                "Your numbers are right, but each state is cut off from the one before, so that no "
                "gradient reaches the past. Do not detach here.",
                answer=_layer_cut_from_the_past,
            ),
        ],
        alternatives=[_layer_products_first, _layer_filled],
        gradients=["inputs", "initial", "w_x", "w_h", "b", "rate"],
        depends_on=["leaky_step"],
    ),
    Step(
        "turn_round",
        reference=_turn_reference,
        cases={
            "padded sequences": _sequences,
            "no padding": _nothing_padded,
            "padding in every sequence": _all_padded,
            "padding that is not a number": _not_a_number,
        },
        mistakes=[
            Mistake(
                "You flip the whole row, so short sequences begin with their padding. Each must be "
                "reversed within its own length.",
                answer=_turn_with_padding,
            ),
            Mistake(
                "Your padding is zero but has moved to the front. The reversed sequence must begin at "
                "step 0.",
                answer=_turn_padding_to_the_front,
            ),
            Mistake(
                "You flip the whole row and then mask it, so the padding takes the place of real steps, "
                "and those are lost.",
                answer=_turn_flip_and_cut,
            ),
            Mistake(
                "The sequences are right, but the padding stays in your result: beyond the length it "
                "must be zero.",
                answer=_turn_padding_left,
            ),
            Mistake(
                "You multiply by the mask, and nan times 0 is nan. Choose between values instead.",
                answer=_turn_multiplied,
            ),
            Mistake(
                "You flip the features; it is the steps, dimension 1, that must be reversed.",
                answer=_turn_features,
            ),
            Mistake(
                "Your numbers are right, but you write into the argument, which others still need. "
                "Write into a new tensor.",
                answer=_turn_in_place,
            ),
            Mistake(
                "The last real step is lost: a sequence of n steps ends with step n - 1, and all n are "
                "reversed.",
                answer=_turn_one_step_short,
            ),
        ],
        alternatives=[_turn_step_by_step, _turn_by_permutations],
        gradients=["padded"],
    ),
    Step(
        "both_directions",
        reference=_both_reference,
        cases={
            "padded sequences": _both_padded,
            "no padding": _both_full,
            "padding in every sequence": _both_all_padded,
        },
        mistakes=[
            Mistake(
                "Your backward network starts in the padding and carries it into the sequence. Turn "
                "each sequence round within its length.",
                answer=_both_flipped_whole,
            ),
            Mistake(
                "Your backward states stand in the order of reading. Turn them back, so that both "
                "halves of an output belong to the same symbol.",
                answer=_both_not_turned_back,
            ),
            Mistake(
                "Your forward states run on into the padding, where outputs must be zero.",
                answer=_both_padding_not_zero,
            ),
            Mistake(
                "Your final states are the last column of the outputs. In a padded sequence that is "
                "padding, and the backward network is not finished there.",
                answer=_both_final_at_last_column,
            ),
            Mistake(
                "At a sequence's last symbol the backward network has only just begun. Its final state "
                "stands at the first symbol.",
                answer=_both_final_at_last_symbol,
            ),
            Mistake(
                "Your final forward state has read the padding too. Take the one at the last real step.",
                answer=_both_forward_final_in_padding,
            ),
            Mistake(
                "You use the forward parameters for both directions; the backward ones have index 1.",
                answer=_both_with_one_layer,
            ),
            Mistake(
                "The halves are swapped: the forward states stand first.",
                answer=_both_backward_first,
            ),
        ],
        alternatives=[_both_holding_still, _both_as_one_batch],
        gradients=["padded", "w_x", "w_h", "b", "rate"],
        depends_on=["leaky_layer", "turn_round"],
    ),
    Step(
        "bits_per_symbol",
        reference=_bits_reference,
        cases={
            "padded sequences": _scores,
            "no padding": _no_padding,
            "a sequence that is all padding": _empty_sequence,
            "logits of 100,000": _huge_scores,
        },
        mistakes=[
            Mistake(
                "Your cost is in nats, the unit of the natural logarithm: divide by ln 2 to get bits.",
                answer=_bits_in_nats,
            ),
            Mistake(
                "You multiply by ln 2. A bit is ln 2 nats, so there are more bits than nats: divide.",
                answer=_bits_multiplied,
            ),
            Mistake(
                "You divide by the size of the padded batch. Divide by the number of real symbols.",
                answer=_bits_over_everything,
            ),
            Mistake(
                "The padding is scored as if it were the last symbol: -1 counts from the end. Leave it "
                "out.",
                answer=_bits_padding_as_last_symbol,
            ),
            Mistake(
                "The padding is scored as if symbol 0 had come. Leave it out.",
                answer=_bits_padding_as_first_symbol,
            ),
            Mistake(
                "Your probabilities sum to one over the steps; they must over the symbols, the last "
                "dimension.",
                answer=_bits_softmax_over_time,
            ),
            Mistake(
                "You average over each sequence and then over sequences, so symbols of short ones count "
                "more. Every symbol counts the same.",
                answer=_bits_mean_of_means,
            ),
            Mistake(
                "The tiny number that you add inside the logarithm caps the cost of a surprise. Take the "
                "log-softmax in one piece.",
                answer=_bits_clamped,
            ),
            Mistake(
                "Right until a probability is rounded to 0, whose logarithm is infinite. Take the "
                "log-softmax in one piece.",
                answer=_bits_log_of_softmax,
            ),
            Mistake(
                "Right until exp overflows. Subtract the largest logit first, or let log-softmax do it.",
                answer=_bits_overflow,
            ),
            Mistake(
                "This is the cost of all symbols together; the mean is asked for.",
                answer=_bits_summed,
            ),
        ],
        alternatives=[_bits_ignoring, _bits_weighted_by_mask],
        gradients=["logits"],
    ),
    Step(
        "perplexity",
        reference=_perplexity_reference,
        cases={
            "several parts": _parts,
            "one part": _one_part,
            "a part without symbols": _empty_part,
        },
        mistakes=[
            Mistake(
                "Your parts all count the same, whatever their length. Weigh each by its number of "
                "symbols.",
                answer=_perplexity_unweighted,
            ),
            Mistake(
                "You average the perplexities of the parts. Average the bits, weighted by the number of "
                "symbols, and take the power last.",
                answer=_perplexity_mean,
            ),
            Mistake(
                "Your weights are right, but it is bits that are averaged; take the power last.",
                answer=_perplexity_weighted_mean,
            ),
            Mistake("The costs are in bits, so the base is 2, not e.", answer=_perplexity_exp),
            Mistake(
                "These are the bits per symbol; the perplexity is 2 to that.",
                answer=_perplexity_bits,
            ),
            Mistake(
                "This is the (geometric) mean probability of a symbol. The perplexity is its inverse.",
                answer=_perplexity_inverse,
            ),
        ],
        alternatives=[_perplexity_with_a_loop, _perplexity_average],
    ),
    Step(
        "choose",
        reference=_choose_reference,
        cases={
            "temperature 1": _at_one,
            "a low temperature": _cold,
            "a high temperature": _hot,
            "temperature 0": _frozen,
            "large logits": _large,
            "forbidden symbols": _forbidden,
            "uniform numbers of 1": _almost_one,
        },
        mistakes=[
            Mistake(
                "You multiply by the temperature. Logits are divided by it: hot means flat.",
                answer=_choose_times_temperature,
            ),
            Mistake(
                "You divide the probabilities, which then no longer sum to one. Divide the logits, "
                "before the softmax.",
                answer=_choose_temperature_too_late,
            ),
            Mistake("The temperature is not used, except at 0.", answer=_choose_no_temperature),
            Mistake(
                "You always take the largest. That is right at temperature 0; else the uniform number "
                "decides.",
                answer=_choose_greedily,
            ),
            Mistake(
                "At temperature 0 you divide by zero. Take the largest logit there.",
                answer=_choose_divides_by_zero,
            ),
            Mistake(
                "Right, except that a forbidden symbol is drawn at u = 0: the sum must be larger than u, "
                "not just equal.",
                answer=_choose_at_least,
            ),
            Mistake(
                "You are one place early: the symbol at which the sum passes u is drawn, not the one "
                "before it.",
                answer=_choose_one_place_early,
            ),
            Mistake(
                "Where no sum is larger than u, you return a symbol that does not exist. Take the last.",
                answer=_choose_beyond_the_end,
            ),
            Mistake(
                "Right until exp overflows or gives nothing but zeros. Subtract the row's largest logit "
                "first, or use softmax.",
                answer=_choose_overflow,
            ),
            Mistake(
                "You add up from the last symbol; begin with symbol 0.", answer=_choose_from_the_end
            ),
        ],
        alternatives=[_choose_by_search, _choose_one_by_one],
    ),
]
