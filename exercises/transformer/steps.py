"""The steps of the Transformer exercise, with their reference answers and known mistakes."""

import math
from dataclasses import replace

import numpy as np
import torch
from torch import nn

from seqbook.layers.transformer import sinusoids
from stepgrader.exercises import solutions
from stepgrader.steps import CaseSampler, ModuleCase, Step, known_mistakes

layer_norm, gated_feed_forward = solutions(__file__, "layer_norm", "gated_feed_forward")

# -- 1. position_codes


def _from_zero(sampler: CaseSampler) -> dict:
    time, half = sampler.lengths(2)
    time += 5 * (sampler.size % 2)  # more positions than features
    longest = int(sampler.random.choice([100, 1000]))
    return {"time": time, "width": 2 * half, "longest": longest, "start": 0}


def _from_later(sampler: CaseSampler) -> dict:
    return _from_zero(sampler) | {"start": int(sampler.random.integers(3, 20))}


def _codes_reference(time, width, longest, start):
    """The chapter's codes, drawn apart and cut out of a longer sequence."""
    torch.set_default_dtype(torch.float64)
    codes = sinusoids(start + time, width, base=float(longest))[start:]
    torch.set_default_dtype(torch.float32)
    return torch.cat([codes[:, 1::2], codes[:, 0::2]], 1)


def _codes_one_by_one(time, width, longest, start):
    rows = []
    for t in range(start, start + time):
        waves = [t / longest ** (2 * i / width) for i in range(width // 2)]
        rows.append([math.cos(a) for a in waves] + [math.sin(a) for a in waves])
        print("position", t, "has the code", rows[-1])
    return torch.tensor(rows)


def _codes_by_exponentials(time, width, longest, start):
    import numpy as np

    i = np.arange(0, width, 2, dtype=np.float64)
    positions = np.arange(start, start + time, dtype=np.float64)
    angles = np.outer(positions, np.exp(-np.log(longest) * i / width))
    return torch.from_numpy(np.hstack([np.cos(angles), np.sin(angles)]))


def _codes_einsum(time, width, longest, start):
    i = torch.arange(width // 2, dtype=torch.float64)
    positions = start + torch.arange(time, dtype=torch.float64)
    frequencies = 1 / torch.pow(torch.tensor(float(longest)).double(), i * 2 / width)
    waves = torch.polar(
        torch.ones(time, width // 2, dtype=torch.float64),
        torch.einsum("t,i->ti", positions, frequencies),
    )
    return torch.hstack((waves.real, waves.imag))


# -- 2. layer_norm


def _to_norm(sampler: CaseSampler) -> dict:
    batch, time = sampler.lengths(2)
    width = 4 + sampler.size
    return {
        "inputs": sampler.normal(batch, time, width),
        "weight": sampler.normal(width),
        "bias": sampler.normal(width),
        "epsilon": float(sampler.random.choice([0.1, 0.2, 0.5])),
    }


def _to_norm_one_sequence(sampler: CaseSampler) -> dict:
    drawn = _to_norm(sampler)
    return drawn | {"inputs": drawn["inputs"][0]}


def _to_norm_constant(sampler: CaseSampler) -> dict:
    drawn = _to_norm(sampler)
    # Whole numbers, so that their mean is exact and what is left is exactly zero.
    values = sampler.random.permutation(9)[: drawn["inputs"].shape[1]] + 1.0
    inputs = torch.from_numpy(values)[:, None].expand(drawn["inputs"].shape[1:])
    return drawn | {"inputs": inputs.clone()}


def _norm_reference(inputs, weight, bias, epsilon):
    width = inputs.shape[-1]
    normed = nn.functional.layer_norm(inputs, (width,), weight, bias, eps=epsilon)
    mean = inputs.sum(-1, keepdim=True) / width
    spread = torch.var(inputs, -1, correction=0, keepdim=True)
    return normed, mean, torch.sqrt(spread + epsilon)


def _norm_by_var(inputs, weight, bias, epsilon):
    variance, mean = torch.var_mean(inputs, -1, correction=0, keepdim=True)
    scale = torch.rsqrt(variance + epsilon)
    return [torch.addcmul(bias, (inputs - mean) * scale, weight), mean, 1 / scale]


def _norm_in_single_precision(inputs, weight, bias, epsilon):
    import warnings

    warnings.warn("a warning is no mistake", stacklevel=1)
    inputs, weight, bias = inputs.float(), weight.float(), bias.float()
    mean = inputs.mean(-1, keepdim=True)
    divisor = ((inputs - mean).pow(2).mean(-1, keepdim=True) + epsilon) ** 0.5
    return (inputs - mean) / divisor * weight + bias, mean, divisor


def _norm_position_by_position(inputs, weight, bias, epsilon):
    rows, means, divisors = [], [], []
    for row in inputs.reshape(-1, inputs.shape[-1]):
        mean = sum(row) / len(row)
        divisor = torch.sqrt(((row - mean) ** 2).sum() / len(row) + epsilon)
        rows.append((row - mean) / divisor * weight + bias)
        means.append(mean)
        divisors.append(divisor)
    shape = (*inputs.shape[:-1], 1)
    return (
        torch.stack(rows).reshape(inputs.shape),
        torch.stack(means).reshape(shape),
        torch.stack(divisors).reshape(shape),
    )


# -- 3. gated_feed_forward


def _to_feed(sampler: CaseSampler) -> dict:
    batch, time, width, hidden = sampler.lengths(4)
    return {
        "inputs": sampler.normal(batch, time, width),
        "gate": sampler.normal(width, hidden) / 2,
        "up": sampler.normal(width, hidden) / 2,
        "down": sampler.normal(hidden, width) / 2,
    }


def _to_feed_one(sampler: CaseSampler) -> dict:
    drawn = _to_feed(sampler)
    return drawn | {"inputs": drawn["inputs"][:1, :1]}


def _feed_reference(inputs, gate, up, down):
    a = torch.einsum("btw,wh->bth", inputs, gate)
    b = torch.einsum("btw,wh->bth", inputs, up)
    return torch.einsum("bth,hw->btw", a / (1 + torch.exp(-a)) * b, down)


def _feed_joined(inputs, gate, up, down):
    a, b = (inputs @ torch.cat([gate, up], 1)).chunk(2, -1)
    return torch.matmul(a * torch.sigmoid(a) * b, down)


def _feed_position_by_position(inputs, gate, up, down):
    silu = nn.SiLU()
    return torch.stack(
        [
            torch.stack([down.T @ (silu(gate.T @ x) * (up.T @ x)) for x in sequence])
            for sequence in inputs
        ]
    )


def _feed_einsum_in_single_precision(inputs, gate, up, down):
    inputs, gate, up, down = (x.float() for x in (inputs, gate, up, down))
    gates = nn.functional.silu(inputs @ gate)
    return torch.einsum("bth,btw,wh,hv->btv", gates, inputs, up, down)


# -- 4. streams


def _stack(sampler: CaseSampler, layers: int, norm: str) -> dict:
    time, width = 1 + sampler.size % 3, 3 + sampler.size
    return {
        "inputs": sampler.normal(time, width),
        "matrices": sampler.normal(layers, width, width),
        "norm": norm,
    }


def _streams_reference(inputs, matrices, norm):
    def normed(x):
        return nn.functional.layer_norm(x, x.shape[-1:])

    if norm == "pre":
        step = [lambda x, w=w: x + torch.tanh(normed(x) @ w) for w in matrices]
    else:
        step = [lambda x, w=w: normed(x + torch.tanh(x @ w)) for w in matrices]
    result = inputs[None]
    for layer in step:
        result = torch.cat([result, layer(result[-1])[None]])
    return result


def _streams_with_a_module(inputs, matrices, norm):
    normed = nn.LayerNorm(inputs.shape[1], elementwise_affine=False)
    before, after = (normed, nn.Identity()) if norm == "pre" else (nn.Identity(), normed)
    result = [inputs]
    for k in range(len(matrices)):
        branch = torch.einsum("tv,vw->tw", before(result[-1]), matrices[k])
        result.append(after(result[-1] + branch.tanh()))
    return torch.cat([x.unsqueeze(0) for x in result])


def _streams_recursive(inputs, matrices, norm):
    def normed(x):
        return layer_norm(x, 1.0, 0.0, 1e-5)[0]

    def after(layers):
        if layers == 0:
            return [inputs]
        below = after(layers - 1)
        x, matrix = below[-1], matrices[layers - 1]
        new = normed(x + (x @ matrix).tanh())
        if norm == "pre":
            new = x + (normed(x) @ matrix).tanh()
        return [*below, new]

    return torch.stack(after(len(matrices)))


# -- 5. EncoderLayer


def _layer(sampler: CaseSampler, *, padded: bool) -> ModuleCase:
    heads, width, hidden = 2, 4, 3 + sampler.size // 2
    batch, time = ((2, 3), (3, 2), (3, 4), (2, 5))[sampler.size]
    lengths = torch.full((batch,), time)
    if padded:
        lengths[1:] = torch.from_numpy(1 + sampler.integers(time - 1, batch - 1))
        lengths[-1] = 1
    state = {
        "norm1.weight": sampler.normal(width),
        "norm1.bias": sampler.normal(width),
        "norm2.weight": sampler.normal(width),
        "norm2.bias": sampler.normal(width),
        "attention.in_proj_weight": sampler.normal(3 * width, width),
        "attention.in_proj_bias": sampler.normal(3 * width),
        "attention.out_proj.weight": sampler.normal(width, width),
        "attention.out_proj.bias": sampler.normal(width),
        "gate": sampler.normal(width, hidden),
        "up": sampler.normal(width, hidden),
        "down": sampler.normal(hidden, width),
    }
    return ModuleCase(
        inputs={"inputs": sampler.normal(batch, time, width), "lengths": lengths},
        options={"width": width, "heads": heads, "hidden": hidden},
        state=state,
    )


def _layer_all_padded(sampler: CaseSampler) -> ModuleCase:
    case = _layer(sampler, padded=False)
    lengths = case.inputs["lengths"] - 1
    return replace(case, inputs={**case.inputs, "lengths": lengths})


class _LayerReference(nn.Module):
    """Every head and every sequence by itself, cut to its length."""

    def __init__(self, width, heads, units):
        super().__init__()
        self.heads = heads
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.attention = nn.MultiheadAttention(width, heads, batch_first=True)
        self.gate = nn.Parameter(torch.empty(width, units))
        self.up = nn.Parameter(torch.empty(width, units))
        self.down = nn.Parameter(torch.empty(units, width))

    def _attend(self, x, length):
        part = self.attention
        query, key, value = (x @ part.in_proj_weight.T + part.in_proj_bias).chunk(3, -1)
        size = x.shape[1] // self.heads
        results, weights = [], []
        for head in range(self.heads):
            own = slice(head * size, (head + 1) * size)
            scores = query[:, own] @ key[:length, own].T / math.sqrt(size)
            weight = torch.exp(scores) / torch.exp(scores).sum(1, keepdim=True)
            results.append(weight @ value[:length, own])
            weights.append(nn.functional.pad(weight, (0, len(x) - length)))
        return part.out_proj(torch.cat(results, 1)), torch.stack(weights)

    def forward(self, inputs, lengths):
        outputs, weights = [], []
        for x, length in zip(inputs, lengths.tolist(), strict=True):
            attended, weight = self._attend(self.norm1(x), length)
            x = x + attended
            x = x + _feed_reference(self.norm2(x)[None], self.gate, self.up, self.down)[0]
            outputs.append(x)
            weights.append(weight)
        return torch.stack(outputs), torch.stack(weights)


class _LayerByHand(nn.Module):
    def __init__(self, width, heads, units):
        super().__init__()
        self.heads = heads
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.attention = nn.MultiheadAttention(width, heads, batch_first=True)
        self.gate = nn.Parameter(torch.randn(width, units) / width**0.5)
        self.up = nn.Parameter(torch.randn(width, units) / width**0.5)
        self.down = nn.Parameter(torch.randn(units, width) / units**0.5)

    def forward(self, inputs, lengths):
        part = self.attention
        stacked = nn.functional.linear(self.norm1(inputs), part.in_proj_weight, part.in_proj_bias)
        q, k, v = stacked.unflatten(-1, (3, self.heads, -1)).unbind(2)
        scores = torch.einsum("bqhd,bkhd->bhqk", q, k) / q.shape[-1] ** 0.5
        seen = torch.arange(inputs.shape[1]) < lengths[:, None]
        scores = scores.masked_fill(~seen[:, None, None], -1e9)
        weights = scores.softmax(-1)
        found = torch.einsum("bhqk,bkhd->bqhd", weights, v).flatten(2)
        x = inputs + part.out_proj(found)
        y = self.norm2(x)
        gates = nn.functional.silu(y @ self.gate)
        return [x + (gates * (y @ self.up)) @ self.down, weights]


class _LayerAdditiveMask(nn.Module):
    def __init__(self, width, heads, units):
        super().__init__()
        self.heads = heads
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.attention = nn.MultiheadAttention(width, heads)
        self.gate = nn.Parameter(torch.randn(width, units) / width**0.5)
        self.up = nn.Parameter(torch.randn(width, units) / width**0.5)
        self.down = nn.Parameter(torch.randn(units, width) / units**0.5)

    def forward(self, inputs, lengths):
        batch, time, _ = inputs.shape
        mask = inputs.new_zeros(batch, self.heads, time, time)
        for i, length in enumerate(lengths.tolist()):
            mask[i, :, :, length:] = -torch.inf
        x = self.norm1(inputs).transpose(0, 1)
        attended, weights = self.attention(
            x, x, x, attn_mask=mask.flatten(0, 1), average_attn_weights=False
        )
        x = inputs + attended.transpose(0, 1)
        x = x + gated_feed_forward(self.norm2(x), self.gate, self.up, self.down)
        return x, weights.reshape(batch, self.heads, time, time)


# -- 6. teacher_forcing


def _ids(sampler: CaseSampler, *lengths: int) -> dict:
    return {"sequences": [[3 + int(n) for n in sampler.integers(6, k)] for k in lengths]}


def _different_lengths(sampler: CaseSampler) -> dict:
    return _ids(sampler, *sampler.lengths(2 + sampler.size, low=1))


def _with_an_empty_one(sampler: CaseSampler) -> dict:
    lengths = [0, *sampler.lengths(1 + sampler.size)]
    return _ids(sampler, *sampler.random.permutation(lengths))


def _forcing_reference(sequences):
    """Fill two rectangles of padding, symbol by symbol."""
    shape = (len(sequences), max(map(len, sequences)) + 1)
    given, wanted = (torch.zeros(shape, dtype=torch.int64) for _ in range(2))
    for i, ids in enumerate(sequences):
        given[i, 0] = 1
        wanted[i, len(ids)] = 2
        for t, symbol in enumerate(ids):
            given[i, t + 1] = wanted[i, t] = symbol
        if len(ids) + 1 < shape[1]:
            given[i, len(ids) + 1] = 2
    return given, wanted


def _forcing_pad_sequence(sequences):
    rows = nn.utils.rnn.pad_sequence(
        [torch.tensor([1, *ids, 2]) for ids in sequences], batch_first=True
    )
    return rows.narrow(1, 0, rows.shape[1] - 1), rows[:, 1:]


def _forcing_from_lists(sequences):
    given, wanted = [], []
    longest = max(map(len, sequences))
    for ids in sequences:
        row = [1, *ids, 2]
        while len(row) < longest + 2:
            row.append(0)
        given.append(row[:-1])
        wanted.append(row[1:])
    print(given, wanted)
    return [torch.LongTensor(given), torch.LongTensor(wanted)]


# -- 7. smoothed_loss


def _to_smooth(sampler: CaseSampler, *, padded: bool = True) -> dict:
    batch, time, symbols = 2 + sampler.size, 3, 5 + sampler.size
    wanted = 2 + sampler.integers(symbols - 2, batch, time)
    if padded:
        wanted[0, 1:] = 0
        for i in range(2, batch):
            wanted[i, int(sampler.random.integers(1, time + 1)) :] = 0
    return {
        "logits": sampler.normal(batch, time, symbols),
        "wanted": torch.from_numpy(wanted),
        "share": float(sampler.random.choice([0.1, 0.2, 0.3])),
    }


def _to_smooth_huge(sampler: CaseSampler) -> dict:
    drawn = _to_smooth(sampler)
    logits = drawn["logits"]
    # Sure of a symbol that is not the right one.
    sure = (drawn["wanted"] + 1) % logits.shape[-1]
    return drawn | {"logits": logits.scatter(-1, sure[..., None], 2000.0)}


def _loss_reference(logits, wanted, share):
    """Symbol by symbol, with the target's distribution written out."""
    symbols, losses = logits.shape[-1], []
    for row, ids in zip(logits, wanted.tolist(), strict=True):
        for scores, right in zip(row, ids, strict=True):
            if right == 0:
                continue
            surprise = torch.logsumexp(scores, 0) - scores
            target = [0.0, 0.0] + [share / (symbols - 3)] * (symbols - 2)
            target[right] = 1 - share
            losses.append(sum(q * s for q, s in zip(target, surprise, strict=True)))
    return sum(losses) / len(losses)


def _loss_by_table(logits, wanted, share):
    counts = wanted.flatten() > 0
    ids, scores = wanted.flatten()[counts], logits.flatten(0, 1)[counts]
    target = torch.zeros_like(scores)
    target[:, 2:] = share / (scores.shape[1] - 3)
    target[torch.arange(len(ids)), ids] = 1 - share
    return nn.functional.cross_entropy(scores, target)


def _loss_by_halves(logits, wanted, share):
    logits = logits.float()
    surprise = logits.logsumexp(-1, keepdim=True) - logits
    is_right = nn.functional.one_hot(wanted, logits.shape[-1]).bool()
    is_other = ~is_right
    is_other[..., :2] = False
    right = (surprise * is_right).sum(-1)
    others = (surprise * is_other).sum(-1) / (logits.shape[-1] - 3)
    counts = (wanted != 0).float()
    loss = right + share * (others - right)
    return torch.einsum("bt,bt->", loss, counts) / counts.sum()


# -- 8. learning_rates


def _run(sampler: CaseSampler) -> dict:
    return {
        "steps": 8 + sampler.size,
        "warm_up": int(sampler.random.integers(3, 5)),
        "peak": float(sampler.random.integers(4, 9)),
        "floor": float(sampler.random.integers(1, 4)) / 2,
    }


def _run_of_warm_up(sampler: CaseSampler) -> dict:
    drawn = _run(sampler)
    return drawn | {"warm_up": drawn["steps"]}


def _rates_reference(steps, warm_up, peak, floor):
    s = np.arange(1, steps + 1, dtype=float)
    up = peak * s / max(warm_up, 1)
    done = (s - warm_up) / max(steps - warm_up, 1)
    down = floor + (peak - floor) * np.cos(np.pi / 2 * done.clip(0)) ** 2
    return torch.from_numpy(np.where(s <= warm_up, up, down))


def _rates_in_tensors(steps, warm_up, peak, floor):
    s = torch.arange(1.0, steps + 1)
    wave = torch.cos(math.pi * (s[warm_up:] - warm_up) / max(1, steps - warm_up))
    down = peak * (1 + wave) / 2 + floor * (1 - wave) / 2
    return torch.cat([torch.linspace(0, peak, warm_up + 1)[1:], down])


def _rates_as_a_list(steps, warm_up, peak, floor):
    import warnings

    warnings.warn("a warning is no mistake", stacklevel=1)
    up = [peak / warm_up * s for s in range(1, warm_up + 1)]
    left = steps - warm_up
    turns = [math.sin(math.pi * s / left / 2) ** 2 for s in range(1, left + 1)]
    return up + [peak - (peak - floor) * turn for turn in turns]


# -- 9. beam_step


def _prefixes(sampler: CaseSampler, count: int = 3, *, ended=(), wins: bool = True) -> dict:
    """Prefixes, some of which ended at a place, and have a high or a low score."""
    symbols, time = 6 + sampler.size, 1 if count == 1 else 3 + sampler.size % 2
    # Ids that differ from row to row, so that a mix-up of prefixes shows.
    written = 3 + (sampler.integers(3, time) + np.arange(count)[:, None]) % 3
    written[:, 0] = 1
    for i, place in ended:
        written[i, place:] = [2] + [0] * (time - 1 - place)
    going = [i for i in range(count) if i not in dict(ended)]
    while True:
        scores = -sampler.random.uniform(1, 4, count).round(2)
        log_p = -sampler.random.uniform(0.3, 4, (count, symbols)).round(2)
        log_p[:, :2] = -0.02, -0.01  # what is forbidden would be best
        totals = scores[:, None] + log_p
        for i in dict(ended):
            scores[i] = -0.5 - i / 10 if wins else -9.5
        best = np.sort(totals[going, 2:], axis=None)[::-1].round(2)
        if len(set(best)) < best.size:
            continue
        # The best are not one of each prefix, nor all of the first.
        parents = [int(np.argwhere(totals.round(2) == t)[0, 0]) for t in best[:3]]
        if not going or count == 1 or (len(set(parents)) == 2 and parents[0] > 0):
            break
    return {
        "scores": torch.from_numpy(scores),
        "written": torch.from_numpy(written),
        "log_p": torch.from_numpy(log_p),
        "width": 2 if len(going) == 0 else 3,
    }


def _one_has_just_ended(sampler: CaseSampler) -> dict:
    return _prefixes(sampler, ended=[(1, 2 + sampler.size % 2)])


def _one_is_overtaken(sampler: CaseSampler) -> dict:
    return _prefixes(sampler, ended=[(1, 2 + sampler.size % 2)], wins=False)


def _low_scores(sampler: CaseSampler) -> dict:
    """Scores that are far below those of a fill such as -100 or -10,000."""
    drawn = _prefixes(sampler, ended=[(0, 1)], wins=False)
    return drawn | {"scores": drawn["scores"] - 20_000 - 10_000 * sampler.size}


def _wider_than_the_symbols(sampler: CaseSampler) -> dict:
    drawn = _prefixes(sampler, ended=[(1, 2 + sampler.size % 2)])
    return drawn | {"width": drawn["log_p"].shape[1] + 1}


def _all_have_ended(sampler: CaseSampler) -> dict:
    return _prefixes(sampler, ended=[(0, 1), (1, 2 + sampler.size % 2), (2, 2)])


def _beam_reference(scores, written, log_p, width):
    """List all candidates and sort them."""
    found = []
    for score, ids, row in zip(scores.tolist(), written.tolist(), log_p.tolist(), strict=True):
        if 2 in ids:
            found.append((score, [*ids, 0]))
        else:
            found += [(score + row[v], [*ids, v]) for v in range(2, len(row))]
    found.sort(reverse=True)
    best, ids = zip(*found[:width], strict=True)
    return torch.tensor(best, dtype=torch.float64), torch.tensor(ids)


def _beam_by_heap(scores, written, log_p, width):
    import heapq

    candidates = []
    for i, ids in enumerate(written.tolist()):
        if 2 in ids:
            candidates.append((float(scores[i]), [*ids, 0]))
            continue
        for v in range(2, log_p.shape[1]):
            candidates.append((float(scores[i] + log_p[i, v]), [*ids, v]))
    best = heapq.nlargest(width, candidates)
    return [score for score, _ in best], [ids for _, ids in best]


def _beam_in_single_precision(scores, written, log_p, width):
    import numpy as np

    ended = torch.isin(written, torch.tensor([0, 2])).any(1, keepdim=True)
    only_padding = torch.full_like(log_p, -1e9)
    only_padding[:, 0] = 0
    may_go_on = log_p.clone()
    may_go_on[:, :2] = -1e9
    totals = torch.where(ended, only_padding, may_go_on).float() + scores[:, None].float()
    order = totals.reshape(-1).argsort(descending=True)[:width]
    parents, symbols = np.divmod(order.numpy(), log_p.shape[1])
    ids = np.column_stack([written.numpy()[parents], symbols])
    return totals.reshape(-1)[order], torch.from_numpy(ids)


STEPS = [
    Step(
        "position_codes",
        reference=_codes_reference,
        cases={
            "positions from 0": _from_zero,
            "positions from a later start": _from_later,
            "a single position": lambda sampler: _from_later(sampler) | {"time": 1},
        },
        mistakes=known_mistakes(
            "Your cosines and sines alternate; here all cosines come first, then all sines.",
            (
                "torch.cat([angles.cos(), angles.sin()], dim=1)",
                "torch.stack([angles.cos(), angles.sin()], dim=-1).flatten(1)",
            ),
            "These are the chapter's codes, in which sines and cosines alternate; here all "
            "cosines come first, then all sines.",
            (
                "torch.cat([angles.cos(), angles.sin()], dim=1)",
                "torch.stack([angles.sin(), angles.cos()], dim=-1).flatten(1)",
            ),
            "Your halves are swapped: here the cosines come first.",
            ("angles.cos(), angles.sin()", "angles.sin(), angles.cos()"),
            "Your positions count from 0; the first row is the code of position start.",
            ("start, start + time", "time"),
            "Your frequencies fall half as fast as they should: the exponent is -2i/d, and d is "
            "the whole width.",
            ("0, width, 2", "width // 2"),
            "Your sines and cosines have different frequencies. Feature i and feature d/2 + i are "
            "cosine and sine of the same wave.",
            ("0, width, 2", "width"),
            (
                "angles.cos(), angles.sin()",
                "angles[:, : width // 2].cos(), angles[:, width // 2 :].sin()",
            ),
            "You always use 10000; the longest wavelength is set by the argument longest.",
            ("longest **", "10000 **"),
            "Your last frequency is exactly 1/L, as in some libraries: you divide by d/2 - 1. The "
            "exponent in the task is -2i/d.",
            ("torch.arange(0, width, 2) / width", "torch.arange(width // 2) / (width // 2 - 1)"),
        ),
        alternatives=[_codes_one_by_one, _codes_by_exponentials, _codes_einsum],
        tolerance=3e-5,
    ),
    Step(
        "layer_norm",
        reference=_norm_reference,
        cases={
            "a small batch": _to_norm,
            "a single sequence, without a batch": _to_norm_one_sequence,
            "features that are all equal": _to_norm_constant,
        },
        mistakes=known_mistakes(
            "Your variance divides by d - 1; that of layer norm divides by d.",
            ("(inputs - mean).square().mean(", "inputs.var("),
            "You add epsilon to the square root; add it to the variance, under the root.",
            ("(variance + epsilon).sqrt()", "variance.sqrt() + epsilon"),
            "Epsilon is missing: without it, you divide by zero where all features are equal.",
            (" + epsilon", ""),
            "Your norm is right. The third result must be what you divided by, with epsilon under "
            "the root.",
            ("mean, divisor", "mean, variance.sqrt()"),
            "You divide by the variance; divide by its square root, with epsilon under the root.",
            (".sqrt()", ""),
            "Your statistics run over the positions. Each position has its own, over its "
            "features: the last dimension.",
            ("inputs.mean(-1", "inputs.mean(-2"),
            ("square().mean(-1", "square().mean(-2"),
            "You do not subtract the mean. That is RMS norm; layer norm subtracts it first.",
            ("(inputs - mean).square()", "inputs.square()"),
            ("(inputs - mean) / divisor", "inputs / divisor"),
            "Your numbers are right, but mean and divisor must keep a last dimension of size 1.",
            ("mean, divisor", "mean[..., 0], divisor[..., 0]"),
            "Your numbers are right, but you detach mean and variance from the gradient: they "
            "depend on the inputs too.",
            ("inputs.mean(-1, keepdim=True)", "inputs.mean(-1, keepdim=True).detach()"),
            ("square().mean(-1, keepdim=True)", "square().mean(-1, keepdim=True).detach()"),
        ),
        alternatives=[_norm_by_var, _norm_in_single_precision, _norm_position_by_position],
        gradients=["inputs", "weight", "bias"],
    ),
    Step(
        "gated_feed_forward",
        reference=_feed_reference,
        cases={"a small batch": _to_feed, "a single position": _to_feed_one},
        mistakes=known_mistakes(
            "Your gate is a sigmoid; silu(a) is a times the sigmoid of a.",
            ("nn.functional.silu", "torch.sigmoid"),
            "You use relu, as in the chapter's network; here it is silu.",
            ("nn.functional.silu", "torch.relu"),
            "The silu is on the wrong branch: it belongs on the product with gate.",
            ("@ gate", "@ up"),
            ("@ up", "@ gate"),
            "Both branches go through the silu; the product with up stays linear.",
            ("(inputs @ up)", "nn.functional.silu(inputs @ up)"),
            "You apply the silu to the product of both branches; it belongs on the gate's alone.",
            ("silu(inputs @ gate) * (inputs @ up)", "silu((inputs @ gate) * (inputs @ up))"),
            "You add the branches; they are multiplied, element by element.",
            ("* (inputs @ up)", "+ inputs @ up"),
            "The gate is missing: multiply the two products with the inputs, of which one goes "
            "through the silu.",
            ("gate) * (inputs @ up)", "up)"),
            "You add the inputs. The residual is not part of the network; the layer adds it.",
            ("return ", "return inputs + "),
        ),
        alternatives=[_feed_joined, _feed_position_by_position, _feed_einsum_in_single_precision],
        gradients=["inputs", "gate", "up", "down"],
    ),
    Step(
        "streams",
        reference=_streams_reference,
        cases={
            "post-LN": lambda sampler: _stack(sampler, 2 + sampler.size, "post"),
            "pre-LN": lambda sampler: _stack(sampler, 2 + sampler.size, "pre"),
        },
        mistakes=known_mistakes(
            "You always do pre-LN; with norm = 'post' the norm comes after the sum.",
            ('norm == "pre"', "True"),
            "You always do post-LN; with norm = 'pre' the norm is inside the branch.",
            ('norm == "pre"', "False"),
            "Pre and post are swapped: 'pre' is the norm before the sub-layer, inside the branch.",
            ('"pre"', '"post"'),
            "In pre-LN you add the branch to the normalized copy; add it to the stream itself.",
            (
                "x = x + torch.tanh(layer_norm(x, ones, zeros, 1e-5)[0] @ matrix)",
                "x = layer_norm(x, ones, zeros, 1e-5)[0]\n"
                "            x = x + torch.tanh(x @ matrix)",
            ),
            "In post-LN you normalize the output of the sub-layer; normalize the whole sum.",
            ("layer_norm(x + torch", "x + layer_norm(torch"),
            "The residual is missing: add the output of the sub-layer to the stream.",
            ("x + torch.tanh(layer_norm", "torch.tanh(layer_norm"),
            ("x + torch.tanh(x", "torch.tanh(x"),
            "The stream before the first layer is missing: there is one more stream than there "
            "are layers.",
            ("stack(found)", "stack(found[1:])"),
            "You normalize the stream after the last layer; here pre-LN has no final norm.",
            (
                "    return torch",
                (
                    '    if norm == "pre":\n'
                    "        found[-1] = layer_norm(found[-1], ones, zeros, 1e-5)[0]\n"
                    "    return torch"
                ),
            ),
        ),
        alternatives=[_streams_with_a_module, _streams_recursive],
        gradients=["inputs", "matrices"],
        depends_on=["layer_norm"],
    ),
    Step(
        "EncoderLayer",
        reference=_LayerReference,
        cases={
            "padded sequences": lambda sampler: _layer(sampler, padded=True),
            "sequences of one length": lambda sampler: _layer(sampler, padded=False),
            "sequences of one length, all padded": _layer_all_padded,
        },
        mistakes=known_mistakes(
            "Your mask is inverted: for nn.MultiheadAttention, True means may not attend.",
            (">=", "<"),
            "Your layer attends to padding: turn the lengths into a mask for the attention.",
            (", key_padding_mask=unseen", ""),
            "Your layer attends to one position of padding: positions count from 0, so the last "
            "real one is length - 1.",
            (">=", ">"),
            "Your weights are the mean over the heads; return those of each head.",
            (", average_attn_weights=False", ""),
            "This is post-LN; in pre-LN the norms are inside the branches.",
            ("self.norm1(inputs)", "inputs"),
            ("inputs + attended", "self.norm1(inputs + attended)"),
            ("self.norm2(x)", "x"),
            ("return x,", "return self.norm2(x),"),
            "In the second half you add the output of the network to the normalized copy; add it "
            "to the stream.",
            ("inputs + attended", "self.norm2(inputs + attended)"),
            ("self.norm2(x)", "x"),
            "You normalize only the queries; keys and values come from the normalized copy too.",
            ("x, x, x", "x, inputs, inputs"),
            "You use norm1 twice; the feed-forward network has its own norm, norm2.",
            ("norm2", "norm1"),
        ),
        alternatives=[_LayerByHand, _LayerAdditiveMask],
        gradients=["inputs"],
        depends_on=["gated_feed_forward"],
    ),
    Step(
        "teacher_forcing",
        reference=_forcing_reference,
        cases={
            "sequences of different lengths": _different_lengths,
            "an empty sequence": _with_an_empty_one,
            "a single sequence": lambda sampler: _ids(sampler, *sampler.lengths(1)),
        },
        mistakes=known_mistakes(
            "Given and wanted are the same, so the decoder would only repeat what it reads. Shift "
            "wanted by one.",
            ("rows[:, 1:]", "rows[:, :-1]"),
            "Given and wanted are swapped: given begins with start, wanted ends with end.",
            ("rows[:, :-1], rows[:, 1:]", "rows[:, 1:], rows[:, :-1]"),
            "You return whole rows: drop the last column from given and the first from wanted.",
            ("rows[:, :-1], rows[:, 1:]", "rows, rows"),
            "The end symbol is missing: a model that never learns to predict it never stops.",
            (", 2]", "]"),
            "Your rows have padding where the end symbol should be: each row has a 2 before the "
            "padding.",
            (", 2]", "]"),
            ("(longest - len", "(longest + 1 - len"),
            "The start symbol is missing, so the first symbol of a sequence is never wanted.",
            ("1, *ids", "*ids"),
            "Your end symbols come after the padding; put them right after the ids.",
            (", 2]", "]"),
            ("(longest - len(ids))", "(longest - len(ids)) + [2]"),
            "Your padding comes first; here it comes after the end.",
            (
                "[1, *ids, 2] + [0] * (longest - len(ids))",
                "[0] * (longest - len(ids)) + [1, *ids, 2]",
            ),
            "In shorter rows your given lacks the end symbol. A model learns the same from it, "
            "but the task asks for all columns of the rows but the last.",
            ("rows[:, :-1]", "rows[:, :-1] * (rows[:, :-1] != 2)"),
            "You pad with end symbols, so the end is wanted again and again; pad with 0.",
            ("[0]", "[2]"),
            "Your ids are right, but they are floating-point numbers. An embedding and the loss "
            "need int64.",
            ("for ids in sequences]\n", "for ids in sequences], dtype=torch.float32\n"),
            "Your ids are right, but of type int32. The loss needs int64.",
            ("for ids in sequences]\n", "for ids in sequences], dtype=torch.int32\n"),
            "Your ids are right, but in lists. The task asks for two tensors.",
            ("rows[:, :-1], rows[:, 1:]", "rows[:, :-1].tolist(), rows[:, 1:].tolist()"),
        ),
        alternatives=[_forcing_pad_sequence, _forcing_from_lists],
        exact_types=True,
    ),
    Step(
        "smoothed_loss",
        reference=_loss_reference,
        cases={
            "padded sequences": _to_smooth,
            "no padding": lambda sampler: _to_smooth(sampler, padded=False),
            "a share of 0": lambda sampler: _to_smooth(sampler) | {"share": 0.0},
            "logits in the thousands": _to_smooth_huge,
        },
        mistakes=known_mistakes(
            "This is PyTorch's smoothing, over all V symbols. Padding and start get nothing here, "
            "and the right symbol exactly 1 - share.",
            (
                "loss[wanted != 0].mean()",
                (
                    "nn.functional.cross_entropy(\n"
                    "        logits.flatten(0, 1), wanted.flatten(), ignore_index=0, label_smoothing=share\n"
                    "    )"
                ),
            ),
            "Padding and start get a part of the share too; leave them out, and divide by V - 3.",
            ("log_p[..., 2:].sum", "log_p.sum"),
            ("- 3)", "- 1)"),
            "The right symbol gets a part of the share as well; only the V - 3 others get it.",
            ("share / (logits.shape[-1] - 3) * others", "share * log_p[..., 2:].mean(-1)"),
            "Each of the other symbols gets the whole share; they get it together, so divide by V "
            "- 3.",
            (" / (logits.shape[-1] - 3)", ""),
            "This is plain cross-entropy: the share of the other symbols is missing.",
            ("return loss", "return -right"),
            "Padding adds nothing to your sum, but you divide by it too: divide by the number of "
            "wanted symbols.",
            ("loss[wanted != 0].mean()", "(loss * (wanted != 0)).mean()"),
            "Padding counts as if it were wanted; leave out the positions where wanted is 0.",
            ("[wanted != 0]", ""),
            "You return the sum; return the mean.",
            ("mean", "sum"),
            "You take the mean of each sequence first, so that short sequences weigh more. Every "
            "wanted symbol has the same weight.",
            (
                "return loss[wanted != 0].mean()",
                "counts = wanted != 0\n    return ((loss * counts).sum(1) / counts.sum(1)).mean()",
            ),
            "The shares are swapped: the right symbol has 1 - share, the others together share.",
            ("-(1 - share)", "-share"),
            ("share / (", "(1 - share) / ("),
            "Your softmax runs over the positions; it runs over the symbols, the last dimension.",
            ("log_softmax(-1)", "log_softmax(1)"),
            "You use logarithms to base 2; the task uses natural logarithms.",
            ("log_softmax(-1)", "log_softmax(-1) / math.log(2)"),
            "Your softmax rounds small probabilities to 0, and their logarithm is minus infinity. "
            "Compute the logarithms directly from the logits.",
            ("log_softmax(-1)", "softmax(-1).log()"),
            "You apply a softmax before log_softmax, which contains one already.",
            ("logits.log_softmax", "logits.softmax(-1).log_softmax"),
            "The loss uses the logarithms of the probabilities; you use the probabilities "
            "themselves.",
            ("log_softmax", "softmax"),
        ),
        alternatives=[_loss_by_table, _loss_by_halves],
        gradients=["logits"],
    ),
    Step(
        "learning_rates",
        reference=_rates_reference,
        cases={
            "a run with warm-up": _run,
            "a floor of 0": lambda sampler: _run(sampler) | {"floor": 0.0},
            "no warm-up": lambda sampler: _run(sampler) | {"warm_up": 0},
            "nothing but warm-up": _run_of_warm_up,
        },
        mistakes=known_mistakes(
            "Your steps count from 0, so the first rate is 0 and the floor is never reached; "
            "count from 1.",
            ("1, steps + 1", "steps"),
            ("step <= warm_up", "step <= warm_up and warm_up > 0"),
            "You lower the rate in a straight line, as in the chapter; here it follows half a "
            "cosine wave.",
            ("(1 + math.cos(angle)) / 2", "(1 - angle / math.pi)"),
            "Your cosine starts with the run, so the rate jumps after the warm-up; it must start "
            "where the warm-up ends.",
            ("(step - warm_up) / (steps - warm_up)", "step / steps"),
            "Your cosine is stretched over all S steps, so the floor is never reached; it takes S "
            "- w steps.",
            ("(steps - warm_up)", "steps"),
            "You take a quarter of a wave, from 1 to 0; take half of one, from 1 to -1.",
            ("math.pi * ", "math.pi / 2 * "),
            ("(1 + math.cos(angle)) / 2", "math.cos(angle)"),
            "You add the floor to a wave of the whole peak; the wave spans peak - floor.",
            ("(peak - floor)", "peak"),
            "Your rate falls to 0; the last rate is the floor.",
            ("floor + (peak - floor)", "peak"),
            "Your wave falls to 0 and is clipped at the floor; scale the whole wave to lie "
            "between peak and floor.",
            (
                "floor + (peak - floor) * (1 + math.cos(angle)) / 2",
                "max(floor, peak * (1 + math.cos(angle)) / 2)",
            ),
            "Your wave is twice as high: 1 + cos goes from 2 to 0, so halve it.",
            (" / 2", ""),
            "Your warm-up starts at the floor; it is a straight line through zero.",
            ("peak * step / warm_up", "floor + (peak - floor) * step / warm_up"),
            "Your cosine counts the steps after the warm-up from 0 and so is one step late; it "
            "must reach its lowest point at the last step.",
            ("(step - warm_up) /", "(step - warm_up - 1) /"),
        ),
        alternatives=[_rates_in_tensors, _rates_as_a_list],
    ),
    Step(
        "beam_step",
        reference=_beam_reference,
        cases={
            "prefixes that all continue": _prefixes,
            "the first step, with one prefix": lambda sampler: _prefixes(sampler, 1),
            "a prefix that has just ended": _one_has_just_ended,
            "a prefix that ended earlier": lambda sampler: _prefixes(sampler, ended=[(0, 1)]),
            "an ended prefix that is overtaken": _one_is_overtaken,
            "prefixes that have all ended": _all_have_ended,
            "scores far below -10,000": _low_scores,
            "more to keep than there are symbols": _wider_than_the_symbols,
        },
        mistakes=known_mistakes(
            "You rank by the last symbol alone; add the prefix's score.",
            ("scores[:, None] + log_p", "log_p.clone()"),
            "You extend prefixes by padding and start; exclude both for a prefix that continues.",
            ("    totals[:, :2] = -torch.inf\n", ""),
            "You extend prefixes by the start symbol; exclude it as you exclude padding.",
            ("totals[:, :2]", "totals[:, 0]"),
            "You extend a prefix that has ended; keep it as it is, with padding appended and its "
            "score unchanged.",
            ("    totals[ended] = -torch.inf\n    totals[ended, 0] = scores[ended]\n", ""),
            "You drop a prefix that has ended; it remains a candidate, with its old score.",
            ("    totals[ended, 0] = scores[ended]\n", ""),
            "You add the log-probability of padding to the score of a prefix that has ended; "
            "leave that score unchanged.",
            ("= scores[ended]", "= scores[ended] + log_p[ended, 0]"),
            "You look for the end symbol in the last place only. A prefix that ended earlier has "
            "padding there; look in all places.",
            ("(written == 2).any(1)", "written[:, -1] == 2"),
            "You take the best extension of each prefix; several of the best candidates may "
            "extend the same prefix.",
            (
                "best, places = totals.flatten().topk(width)",
                "best, symbols = totals.max(1)\n    best, parents = best.topk(width)",
            ),
            ("    parents, symbols = places // log_p.shape[1], places % log_p.shape[1]\n", ""),
            ("symbols[:, None]", "symbols[parents, None]"),
            "The scores are right, but the symbols are appended to the wrong prefixes: put the "
            "prefixes in the order of the new candidates first.",
            ("written[parents]", "written[:width]"),
            "The right candidates in the wrong order: the best comes first.",
            (
                "totals.flatten().topk(width)",
                "totals.flatten().sort()\n    best, places = best[-width:], places[-width:]",
            ),
            "Where there is no candidate you write a number that is higher than some scores. "
            "Write minus infinity.",
            ("totals[:, :2] = -torch.inf", "totals[:, :2] = -100.0"),
            ("totals[ended] = -torch.inf", "totals[ended] = -100.0"),
            "You keep at most as many candidates as there are symbols. Every prefix has that "
            "many, so width may be larger.",
            ("topk(width)", "topk(min(width, log_p.shape[1]))"),
        ),
        alternatives=[_beam_by_heap, _beam_in_single_precision],
    ),
]
