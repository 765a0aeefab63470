"""The steps of the recurrent network's exercise, with their reference answers and known mistakes."""

import math

import numpy as np
import torch
from torch import nn

from stepgrader.steps import CaseSampler, Step, known_mistakes


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


def _leaky_reference(inputs, hidden, w_x, w_h, b, rate):
    return torch.lerp(
        hidden,
        nn.functional.linear(torch.cat([inputs, hidden], 1), torch.cat([w_x, w_h]).T, b).tanh(),
        rate.expand_as(hidden),
    )


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


# -- 3. reverse_sequences


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


def _equally_padded(sampler: CaseSampler) -> dict:
    made = _nothing_padded(sampler)
    return made | {"lengths": made["lengths"] - 1}


def _not_a_number(sampler: CaseSampler) -> dict:
    made = _sequences(sampler)
    steps = torch.arange(made["padded"].shape[1])
    beyond = steps >= made["lengths"][:, None]
    return made | {"padded": made["padded"].masked_fill(beyond[..., None], math.nan)}


def _reversed_reference(padded, lengths):
    rows = [
        torch.cat([row[:n].flip(0), torch.zeros_like(row[n:])])
        for row, n in zip(padded, lengths.tolist(), strict=True)
    ]
    return torch.stack(rows)


def _reversed_in_place(padded, lengths):
    for row, n in enumerate(lengths.tolist()):
        padded[row, :n] = padded[row, :n].flip(0)
        padded[row, n:] = 0
    return padded


def _reversed_step_by_step(padded, lengths):
    result = torch.zeros_like(padded)
    for row in range(padded.shape[0]):
        n = int(lengths[row])
        for step in range(n):
            result[row, step] = padded[row, n - 1 - step]
    return result


def _reversed_by_permutations(padded, lengths):
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


def _both_equally_padded(sampler: CaseSampler) -> dict:
    made = _both_full(sampler)
    return made | {"lengths": made["lengths"] - 1}


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


def _frozen(sampler: CaseSampler) -> dict:
    """Temperature 0, with a tie of the largest in every second row; the others are far below 0."""
    made = _rows(sampler, 0.0)
    logits = made["logits"]
    order = logits.argsort(1)
    for row in range(0, len(logits), 2):
        logits[row, order[row, -2]] = logits[row, order[row, -1]]
    logits[1::2] -= 1e5
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


def _close_to_a_sum(sampler: CaseSampler) -> dict:
    """Four equally likely symbols, and numbers just below and just above their sums."""
    made = _rows(sampler, 1.0)
    made["logits"][:, :-4] = -math.inf
    made["logits"][:, -4:] = 0.0
    numbers = [0.4999, 0.2501, 0.7499, 0.5001, 0.2499, 0.7501][: len(made["uniforms"])]
    return made | {"uniforms": torch.from_numpy(sampler.random.permutation(numbers))}


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
        cases={
            "a small batch": lambda sampler: _step_inputs(sampler, *sampler.lengths(3)),
            "a batch of one": lambda sampler: _step_inputs(sampler, 1, *sampler.lengths(2)),
        },
        mistakes=known_mistakes(
            "The rate multiplies the wrong state: multiply the new state by rate, and the old one "
            "by 1 - rate.",
            ("(1 - rate)", "rate"),
            ("rate * candidate", "(1 - rate) * candidate"),
            "You transpose w_h. Here weights are (from, to), so multiply the state by w_h as it "
            "is.",
            ("hidden @ w_h", "hidden @ w_h.T"),
            "The bias is missing from the pre-activation.",
            (" + b", ""),
            "The bias belongs in the pre-activation, inside the tanh.",
            (" + b)", ") + b"),
            "You apply tanh to the whole mixture. Apply it to the pre-activation only; the old "
            "state is kept as it is.",
            ("torch.tanh(inputs @ w_x + hidden @ w_h + b)", "inputs @ w_x + hidden @ w_h + b"),
            (
                "(1 - rate) * hidden + rate * candidate",
                "torch.tanh((1 - rate) * hidden + rate * candidate)",
            ),
            "Use tanh, not the logistic function.",
            ("tanh", "sigmoid"),
            "You keep all of the old state: multiply it by 1 - rate.",
            ("(1 - rate) * ", ""),
            "This is the network without a leak: mix in the old state itself.",
            ("(1 - rate) * hidden + rate * candidate", "candidate"),
        ),
        alternatives=[_leaky_row_by_row, _leaky_in_float32],
        gradients=["inputs", "hidden", "w_x", "w_h", "b", "rate"],
    ),
    Step(
        "leaky_layer",
        reference=_layer_reference,
        cases={
            "several steps": _several_steps,
            "one step only": lambda sampler: _layer_inputs(sampler, sampler.lengths(3), 1),
        },
        mistakes=known_mistakes(
            "Your results are (time, batch, hidden): stack the steps along dimension 1.",
            ("states, dim=1", "states"),
            ("sums, dim=1", "sums"),
            "You store each state before its step. The result starts with the state after the "
            "first step and ends with the state after the last.",
            ("torch.stack(states, dim=1)", "torch.stack([initial, *states[:-1]], dim=1)"),
            "Your two results are swapped: the states come first.",
            ("stack(states", "stack(sums"),
            ("stack(sums", "stack(states"),
            "You start from zeros; the first step must start from the given initial state.",
            ("= initial,", "= torch.zeros_like(initial),"),
            "Each of your steps starts from the initial state. Pass the state on from step to "
            "step.",
            ("+ hidden @", "+ initial @"),
            ("inputs[:, t], hidden", "inputs[:, t], initial"),
            "Your states are right, but a pre-activation is the sum before the tanh.",
            (
                "inputs[:, t] @ w_x + hidden @ w_h + b",
                "torch.tanh(inputs[:, t] @ w_x + hidden @ w_h + b)",
            ),
            "Your states are right, but your pre-activations are computed from the state after "
            "the step. They need the one before.",
            ("hidden @ w_h", "leaky_step(inputs[:, t], hidden, w_x, w_h, b, rate) @ w_h"),
            "Your numbers are right, but you detach each state from the one before, so no "
            "gradient reaches the past. Do not detach here.",
            ("states.append(hidden)", "states.append(hidden)\n        hidden = hidden.detach()"),
        ),
        alternatives=[_layer_products_first, _layer_filled],
        gradients=["inputs", "initial", "w_x", "w_h", "b", "rate"],
        depends_on=["leaky_step"],
    ),
    Step(
        "reverse_sequences",
        reference=_reversed_reference,
        cases={
            "padded sequences": _sequences,
            "no padding": _nothing_padded,
            "padding in every sequence": _all_padded,
            "sequences of one length, all padded": _equally_padded,
            "padding that is not a number": _not_a_number,
        },
        mistakes=known_mistakes(
            "You flip the whole row, so short sequences begin with their padding. Each must be "
            "reversed within its own length.",
            ("torch.where(real, padded.gather(1, order), 0.0)", "padded.flip(1)"),
            "Your padding is zero but has moved to the front. The reversed sequence must begin at "
            "step 0.",
            ("padded.gather(1, order), 0.0)", "padded, 0.0).flip(1)"),
            "You flip the whole row and then mask it, so the padding takes the place of real "
            "steps, and those are lost.",
            ("padded.gather(1, order)", "padded.flip(1)"),
            "The sequences are right, but your result keeps the padding: beyond the length it "
            "must be zero.",
            ("0.0", "padded"),
            "You multiply by the mask, and nan times 0 is nan. Select values instead, as "
            "torch.where does.",
            ("source.clamp(min=0)", "torch.where(source >= 0, source, steps)"),
            ("torch.where(real, padded.gather(1, order), 0.0)", "padded.gather(1, order) * real"),
            "You flip the features; reverse the steps, which are dimension 1.",
            ("padded.gather(1, order)", "padded.flip(2)"),
            "Your numbers are right, but you overwrite the argument. Write into a new tensor.",
            _reversed_in_place,
            "You lose the last real step: a sequence of n steps ends with step n - 1, and all n "
            "are reversed.",
            ("- 1 - steps", "- 2 - steps"),
        ),
        alternatives=[_reversed_step_by_step, _reversed_by_permutations],
        gradients=["padded"],
    ),
    Step(
        "both_directions",
        reference=_both_reference,
        cases={
            "padded sequences": _both_padded,
            "no padding": _both_full,
            "padding in every sequence": _both_all_padded,
            "sequences of one length, all padded": _both_equally_padded,
        },
        mistakes=known_mistakes(
            "Your backward network starts in the padding and carries it into the sequence. "
            "Reverse each sequence within its length.",
            ("mirrored = reverse_sequences(padded, lengths)", "mirrored = padded.flip(1)"),
            (
                "reverse_sequences(back, lengths)",
                "reverse_sequences(reverse_sequences(back.flip(1), lengths), lengths)",
            ),
            "Your backward states are in the order of reading. Reverse them again, so that both "
            "halves of an output belong to the same symbol.",
            (
                "reverse_sequences(back, lengths)",
                "reverse_sequences(reverse_sequences(back, lengths), lengths)",
            ),
            ("back[:, 0]", "back[torch.arange(batch), lengths - 1]"),
            "Your forward states run on into the padding, where outputs must be zero.",
            ("    ahead = reverse_sequences(reverse_sequences(ahead, lengths), lengths)\n", ""),
            "You take the final states from the last step of the outputs. In a padded sequence "
            "that step is padding, and the backward network ends at the first step anyway.",
            ("last, back[:, 0]", "ahead[:, -1], back[:, -1]"),
            "At the last symbol of a sequence, the backward network has read that symbol only. "
            "Its final state is the one at the first symbol.",
            ("back[:, 0]", "back[torch.arange(batch), lengths - 1]"),
            "Your final forward state has read the padding too. Take the one at the last real step.",
            ("    ahead = reverse", "    last = ahead[:, -1]\n    ahead = reverse"),
            ("    last = ahead[torch.arange(batch), lengths - 1]\n", ""),
            "You use the forward parameters for both directions; the backward ones have index 1.",
            ("w_x[1], w_h[1], b[1], rate[1]", "w_x[0], w_h[0], b[0], rate[0]"),
            "The halves are swapped: the forward states come first.",
            ("last, back[:, 0]", "back[:, 0], last"),
            ("[ahead, back]", "[back, ahead]"),
        ),
        alternatives=[_both_holding_still, _both_as_one_batch],
        gradients=["padded", "w_x", "w_h", "b", "rate"],
        depends_on=["leaky_layer", "reverse_sequences"],
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
        mistakes=known_mistakes(
            "Your cost is in nats, the unit of the natural logarithm: divide by ln 2 to get bits.",
            (" / math.log(2)", ""),
            "You multiply by ln 2. A bit is ln 2 nats, so there are more bits than nats: divide.",
            ("/ math", "* math"),
            "You divide by the size of the padded batch. Divide by the number of real symbols.",
            ("targets[real])", 'targets[real], reduction="sum") / targets.numel()'),
            "You score the padding as if its target were the last symbol: index -1 counts from "
            "the end. Leave the padding out.",
            (
                "logits[real], targets[real]",
                "logits.flatten(0, 1), (targets % logits.shape[2]).flatten()",
            ),
            "You score the padding as if its target were symbol 0. Leave the padding out.",
            ("logits[real], targets[real]", "logits.flatten(0, 1), targets.clamp(min=0).flatten()"),
            "Your probabilities sum to one over the steps; they must sum to one over the symbols, "
            "the last dimension.",
            ("cross_entropy(logits[real]", "nll_loss(logits.log_softmax(1)[real]"),
            "You average over each sequence and then over the sequences, so symbols of short ones "
            "count more. Every symbol must count the same.",
            (
                "logits[real], targets[real]",
                'logits.transpose(1, 2), targets, ignore_index=-1, reduction="none"',
            ),
            ("nats / math", "(nats.sum(1) / real.sum(1)).mean() / math"),
            "The tiny number that you add inside the logarithm limits what an improbable symbol "
            "costs. Use log_softmax instead of softmax and log.",
            ("cross_entropy(logits[real]", "nll_loss((logits[real].softmax(-1) + 1e-12).log()"),
            "Right until a probability is rounded to 0: the logarithm of 0 is infinite. Use "
            "log_softmax instead of softmax and log.",
            ("cross_entropy(logits[real]", "nll_loss(logits[real].softmax(-1).log()"),
            "Right until exp overflows. Subtract the largest logit first, or let log-softmax do it.",
            (
                "cross_entropy(logits[real]",
                "nll_loss((logits[real].exp() / logits[real].exp().sum(-1, keepdim=True)).log()",
            ),
            "You return the cost of all symbols together; return the mean.",
            ("targets[real])", 'targets[real], reduction="sum")'),
            "cross_entropy expects logits and applies the softmax itself; you have applied it "
            "before.",
            ("cross_entropy(logits[real]", "cross_entropy(logits[real].softmax(-1)"),
        ),
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
        mistakes=known_mistakes(
            "Your parts all count the same, whatever their length. Weight each by its number of "
            "symbols.",
            ("(np.sum(bits * counts) / np.sum(counts))", "np.mean(bits)"),
            "You average the perplexities of the parts. Average the bits, weighted by the number "
            "of symbols, and take the power last.",
            ("2 ** (np.sum(bits * counts) / np.sum(counts))", "np.mean(2**bits)"),
            "Your weights are right, but average the bits, and take the power last.",
            (
                "2 ** (np.sum(bits * counts) / np.sum(counts))",
                "np.sum(2**bits * counts) / np.sum(counts)",
            ),
            "The costs are in bits, so the base is 2, not e.",
            ("2 ** (", "np.exp("),
            "You return the bits per symbol; the perplexity is 2 to that power.",
            ("2 ** ", ""),
            "You return the (geometric) mean probability of a symbol; the perplexity is its "
            "reciprocal.",
            ("2 ** (", "2 ** -("),
        ),
        alternatives=[_perplexity_with_a_loop, _perplexity_average],
    ),
    Step(
        "choose",
        reference=_choose_reference,
        cases={
            "temperature 1": lambda sampler: _rows(sampler, 1.0),
            "a low temperature": lambda sampler: _rows(sampler, 0.4),
            "a high temperature": lambda sampler: _rows(sampler, 5.0),
            "temperature 0": _frozen,
            "large logits": _large,
            "forbidden symbols": _forbidden,
            "uniform numbers of 1": _almost_one,
            "uniform numbers close to a sum": _close_to_a_sum,
        },
        mistakes=known_mistakes(
            "You multiply by the temperature. Divide the logits by it: a higher temperature makes "
            "the distribution flatter.",
            ("logits / temperature", "logits * temperature"),
            "You divide the probabilities, which then no longer sum to one. Divide the logits, "
            "before the softmax.",
            ("logits / temperature, dim=-1)", "logits, dim=-1) / temperature"),
            "You ignore the temperature, except at 0.",
            ("logits / temperature", "logits"),
            "You always take the largest logit. That is right at temperature 0; otherwise the "
            "uniform number decides.",
            ("temperature == 0", "temperature >= 0"),
            "At temperature 0 you divide by zero. Take the largest logit there.",
            ("    if temperature == 0:\n        return logits.argmax(dim=-1)\n", ""),
            "Right, except that a forbidden symbol is drawn at u = 0: the sum must be larger than "
            "u, not just equal.",
            ("<=", "<"),
            "You choose one symbol too early: the right one is that at which the sum exceeds u, "
            "not the one before it.",
            (
                "passed.sum(dim=-1).clamp(max=logits.shape[-1] - 1)",
                "(passed.sum(dim=-1) - 1).clamp(min=0)",
            ),
            "Where no sum is larger than u, you return a symbol that does not exist. Return the "
            "last one.",
            (".clamp(max=logits.shape[-1] - 1)", ""),
            "Right until exp overflows or gives only zeros. Subtract the row's largest logit "
            "first, or use softmax.",
            (
                "torch.softmax(logits / temperature, dim=-1)",
                "torch.exp(logits / temperature)\n"
                "    probabilities = probabilities / probabilities.sum(dim=-1, keepdim=True)",
            ),
            "You sum from the last symbol; start with symbol 0.",
            ("probabilities.cumsum", "probabilities.flip(-1).cumsum"),
            (
                "return passed.sum(dim=-1).clamp(max=logits.shape[-1] - 1)",
                "last = logits.shape[-1] - 1\n    return last - passed.sum(dim=-1).clamp(max=last)",
            ),
        ),
        alternatives=[_choose_by_search, _choose_one_by_one],
    ),
]
