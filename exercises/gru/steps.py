"""The steps of the GRU exercise, with their reference answers and known mistakes."""

import torch

from seqbook.layers.gru import gru_step as package_step
from stepgrader.exercises import solutions
from stepgrader.steps import CaseSampler, Step, known_mistakes

(gru_step,) = solutions(__file__, "gru_step")


def _sizes(sampler: CaseSampler) -> tuple[int, int, int]:
    """Batch, features, hidden; few hidden units, so that little is stored."""
    if sampler.size < 2:
        return (3, 4, 2) if sampler.size == 0 else (2, 4, 3)
    return sampler.lengths(3)


def _weights(sampler: CaseSampler, features: int, hidden: int) -> dict[str, torch.Tensor]:
    return {
        "w": sampler.normal(features, 3 * hidden),
        "u": sampler.normal(hidden, 3 * hidden),
        "bias": sampler.normal(2, 3 * hidden),
    }


def _step_inputs(sampler: CaseSampler) -> dict:
    batch, features, hidden = _sizes(sampler)
    return {
        "inputs": sampler.normal(batch, features),
        "hidden": sampler.normal(batch, hidden),
        **_weights(sampler, features, hidden),
    }


def _batch_of_one(sampler: CaseSampler) -> dict:
    _, features, hidden = _sizes(sampler)
    return {
        "inputs": sampler.normal(1, features),
        "hidden": sampler.normal(1, hidden),
        **_weights(sampler, features, hidden),
    }


def _as_torch(w, u, bias):
    """Rows r, z, n, by picking each row's number: an independent layout."""
    size = u.shape[0]
    rows = [*range(size, 2 * size), *range(size), *range(2 * size, 3 * size)]
    return {
        "weight_ih": w.T[rows],
        "weight_hh": u.T[rows],
        "bias_ih": bias[0][rows],
        "bias_hh": bias[1][rows],
    }


def _gates(inputs, hidden, w, u, bias):
    """The update and the reset gate, from the stacked sums."""
    total = torch.einsum("bf,fk->bk", inputs, w) + bias[0]
    total = total + torch.einsum("bh,hk->bk", hidden, u) + bias[1]
    gates = 1 / (1 + torch.exp(-total))
    size = hidden.shape[1]
    return gates[:, :size], gates[:, size : 2 * size]


# -- 1. reset_gate


def _reset_reference(inputs, hidden, w, u, bias):
    return _gates(inputs, hidden, w, u, bias)[1]


def _reset_row_by_row(inputs, hidden, w, u, bias):
    import warnings

    warnings.warn("a warning is no mistake", stacklevel=1)
    size = hidden.shape[1]
    rows = []
    for x, h in zip(inputs, hidden, strict=True):
        sums = w.T @ x + u.T @ h + bias[0] + bias[1]
        rows.append(1 / (1 + torch.exp(-sums[size : 2 * size])))
    return torch.stack(rows)


def _reset_einsum(inputs, hidden, w, u, bias):
    joined = torch.cat([inputs, hidden, torch.ones_like(inputs[:, :2])], dim=1)
    stacked = torch.cat([w, u, bias]).unflatten(1, (3, -1))
    return torch.einsum("bk,kh->bh", joined, stacked[:, 1]).sigmoid()


# -- 2. update_gate


def _update_reference(inputs, hidden, w, u, bias):
    return _gates(inputs, hidden, w, u, bias)[0]


def _update_in_single_precision(inputs, hidden, w, u, bias):
    inputs, hidden, w, u, bias = (part.float() for part in (inputs, hidden, w, u, bias))
    total = inputs @ w + hidden @ u + bias.sum(0)
    return total.split(hidden.shape[1], dim=1)[0].sigmoid()


def _update_by_halves(inputs, hidden, w, u, bias):
    size = u.shape[0]
    columns = []
    for unit in range(size):
        print("unit", unit)
        total = inputs @ w[:, unit] + hidden @ u[:, unit] + bias[:, unit].sum()
        columns.append((1 + torch.tanh(total / 2)) / 2)
    return torch.stack(columns, dim=-1)


# -- 3. candidates


def _candidate_inputs(sampler: CaseSampler) -> dict:
    inputs = _step_inputs(sampler)
    shape = inputs["hidden"].shape
    reset = torch.from_numpy(sampler.random.uniform(0.1, 0.9, shape).round(1))
    first = ("inputs", "hidden")
    return {
        **{name: inputs[name] for name in first},
        "reset": reset,
        **{name: inputs[name] for name in ("w", "u", "bias")},
    }


def _extreme_reset(sampler: CaseSampler) -> dict:
    inputs = _candidate_inputs(sampler)
    reset = (inputs["reset"] > 0.5).double()
    reset[0, 0], reset[-1, -1] = 0.0, 1.0
    return inputs | {"reset": reset}


def _candidates_reference(inputs, hidden, reset, w, u, bias):
    """Before, the gate scales rows of u; after, it scales columns and bias."""
    size = hidden.shape[1]
    w, u, bias = w[:, 2 * size :], u[:, 2 * size :], bias[:, 2 * size :]
    before, after = [], []
    for x, h, r in zip(inputs, hidden, reset, strict=True):
        outer = x @ w + bias[0]
        before.append(outer + h @ (torch.diag(r) @ u) + bias[1])
        after.append(outer + h @ (u @ torch.diag(r)) + bias[1] * r)
    return tuple(1 - 2 / (1 + torch.exp(2 * torch.stack(n))) for n in (before, after))


def _candidates_with_sums(inputs, hidden, reset, w, u, bias):
    w, u, bias = (part.unflatten(1, (3, -1))[:, 2] for part in (w, u, bias))
    outer = torch.nn.functional.linear(inputs, w.T, bias[0])
    sent = (reset * hidden)[:, :, None] * u
    received = hidden[:, :, None] * u * reset[:, None, :]
    before = outer + sent.sum(1) + bias[1]
    return [before.tanh(), (outer + received.sum(1) + bias[1] * reset).tanh()]


def _candidates_einsum(inputs, hidden, reset, w, u, bias):
    n = hidden.shape[1]
    w, u, bias = w[:, -n:], u[:, -n:], bias[:, -n:]
    outer = inputs @ w + bias[0]
    before = torch.einsum("bs,bs,sr->br", reset, hidden, u) + bias[1]
    after = torch.einsum("bs,sr,br->br", hidden, u, reset) + bias[1] * reset
    return torch.tanh(outer + before), torch.tanh(outer + after)


# -- 4. new_state


def _mix(one_keeps: bool):
    def case(sampler: CaseSampler) -> dict:
        batch, hidden = sampler.lengths(2)
        update = sampler.random.uniform(0, 1, (batch, hidden)).round(1)
        return {
            "update": torch.from_numpy(update),
            "proposal": sampler.normal(batch, hidden),
            "hidden": sampler.normal(batch, hidden),
            "one_keeps": one_keeps,
        }

    return case


def _new_state_reference(update, proposal, hidden, one_keeps):
    """To the last bit as in place, which then differs by its argument alone."""
    kept = update if one_keeps else 1 - update
    parts = torch.stack([hidden, proposal])
    return (torch.stack([kept, 1 - kept]) * parts).sum(0)


def _new_state_as_a_step(update, proposal, hidden, one_keeps):
    if one_keeps:
        return proposal + update * (hidden - proposal)
    return hidden + update * (proposal - hidden)


def _new_state_in_single_precision(update, proposal, hidden, one_keeps):
    pair = [hidden, proposal] if one_keeps else [proposal, hidden]
    shares = torch.stack([update, 1 - update]).float()
    return torch.einsum("kbh,kbh->bh", shares, torch.stack(pair).float())


# -- 5. gru_step


def _combination(reset_after: bool, one_keeps: bool):
    def case(sampler: CaseSampler) -> dict:
        choice = {"reset_after": reset_after, "one_keeps": one_keeps}
        return _step_inputs(sampler) | choice

    return case


def _step_reference(inputs, hidden, w, u, bias, reset_after, one_keeps):
    z, r = _gates(inputs, hidden, w, u, bias)
    weights = _as_torch(w, u, bias)
    if not one_keeps:
        size = hidden.shape[1]
        sign = torch.ones(3 * size, dtype=w.dtype)
        sign[size : 2 * size] = -1
        weights = {name: (part.T * sign).T for name, part in weights.items()}
    reset = "after" if reset_after else "before"
    return package_step(inputs, hidden, **weights, reset=reset), r, z


def _step_row_by_row(inputs, hidden, w, u, bias, reset_after, one_keeps):
    results = []
    for x, h in zip(inputs, hidden, strict=True):
        x_z, x_r, x_n = (x @ w + bias[0]).reshape(3, -1)
        h_z, h_r, h_n = (h @ u + bias[1]).reshape(3, -1)
        z = 1 / (1 + torch.exp(-x_z - h_z))
        r = 1 / (1 + torch.exp(-x_r - h_r))
        if not reset_after:
            size = len(h)
            inner = (r * h) @ u[:, 2 * size :] + bias[1, 2 * size :]
        else:
            inner = r * h_n
        n = torch.tanh(x_n + inner)
        new = n + z * (h - n) if one_keeps else h + z * (n - h)
        results.append((new, r, z))
    return tuple(torch.stack(part) for part in zip(*results, strict=True))


def _step_with_a_cell(inputs, hidden, w, u, bias, reset_after, one_keeps):
    """Reset after by torch's own cell, called as a function."""
    size = hidden.shape[1]
    sums = inputs @ w + hidden @ u + bias.sum(0)
    z, r = sums[:, : 2 * size].sigmoid().split(size, dim=1)
    if reset_after:
        blocks = [part.split(size, dim=1) for part in (w, u, bias)]
        sign = 1 if one_keeps else -1
        w, u, bias = (torch.cat([b[1], sign * b[0], b[2]], dim=1) for b in blocks)
        new = torch.gru_cell(inputs, hidden, w.T, u.T, bias[0], bias[1])
        return [new, r, z]
    n = inputs @ w[:, 2 * size :] + bias.sum(0)[2 * size :]
    n = (n + torch.mm(hidden * r, u[:, 2 * size :])).tanh()
    old, new = (hidden, n) if one_keeps else (n, hidden)
    return [torch.lerp(new, old, z), r, z]


# -- 6. to_torch


def _translate(one_keeps: bool):
    def case(sampler: CaseSampler) -> dict:
        _, features, hidden = _sizes(sampler)
        return _weights(sampler, features, hidden) | {"one_keeps": one_keeps}

    return case


def _to_torch_reference(w, u, bias, one_keeps):
    parts = tuple(_as_torch(w, u, bias).values())
    size = u.shape[0]
    sign = torch.ones(3 * size, dtype=w.dtype)
    if not one_keeps:
        sign[size : 2 * size] = -1
    return tuple((part.T * sign).T for part in parts)


def _to_torch_by_rolling(w, u, bias, one_keeps):
    size = u.shape[0]
    factors = torch.tensor([1.0, 1.0 if one_keeps else -1.0, 1.0])
    factors = factors.repeat_interleave(size).double()
    results = []
    for part in (w.T, u.T, bias[0], bias[1]):
        gates = part[: 2 * size].roll(size, 0)
        part = torch.cat([gates, part[2 * size :]])
        results.append(factors.reshape(-1, *[1] * (part.ndim - 1)) * part)
    return results


def _to_torch_by_a_matrix(w, u, bias, one_keeps):
    blocks = torch.tensor([[0, 1, 0], [1, 0, 0], [0, 0, 1]], dtype=w.dtype)
    blocks[1, 0] = 1 if one_keeps else -1
    moved = torch.kron(blocks, torch.eye(u.shape[0], dtype=w.dtype))
    return moved @ w.T, moved @ u.T, moved @ bias[0], moved @ bias[1]


# -- 7. gru_layer


def _padded(sampler: CaseSampler) -> dict:
    hidden, batch, time, features = sorted(sampler.lengths(4))
    lengths = torch.from_numpy(1 + sampler.integers(time, batch))
    lengths[:3] = torch.tensor([time, 1, time - 1])
    return {
        "inputs": sampler.normal(batch, time, features),
        "lengths": lengths,
        "hidden": sampler.normal(batch, hidden),
        **_weights(sampler, features, hidden),
    }


def _full(sampler: CaseSampler) -> dict:
    inputs = _padded(sampler)
    time = inputs["inputs"].shape[1]
    return inputs | {"lengths": torch.full_like(inputs["lengths"], time)}


def _all_padded(sampler: CaseSampler) -> dict:
    inputs = _full(sampler)
    return inputs | {"lengths": inputs["lengths"] - 1}


def _layer_reference(inputs, lengths, hidden, w, u, bias):
    """One sequence after the other, each cut to its length."""
    time, size = inputs.shape[1], hidden.shape[1]
    states, last, kept = [], [], []
    for sequence, length, h in zip(inputs, lengths.tolist(), hidden, strict=True):
        own, gates = [], []
        h = h[None]
        for x in sequence[:length]:
            h, _, z = _step_reference(x[None], h, w, u, bias, True, True)
            own.append(h)
            gates.append(z)
        own.append(inputs.new_zeros(time - length, size))
        states.append(torch.cat(own))
        last.append(h[0])
        kept.append(torch.cat(gates).mean(0))
    return torch.stack(states), torch.stack(last), torch.stack(kept)


def _layer_by_sequence(inputs, lengths, hidden, w, u, bias):
    results = []
    for sequence, length, h in zip(inputs, lengths, hidden.split(1), strict=True):
        states, gates = [], []
        for x in sequence[:length].split(1):
            h, _, z = gru_step(x, h, w, u, bias, True, True)
            states.append(h)
            gates.append(z)
        padding = (0, 0, 0, len(sequence) - len(states))
        states = torch.nn.functional.pad(torch.cat(states), padding)
        results.append((states, h[0], torch.cat(gates).mean(0)))
    return [torch.stack(part) for part in zip(*results, strict=True)]


def _layer_gathered(inputs, lengths, hidden, w, u, bias):
    """Run on into the padding, then look up what is wanted."""
    from_inputs = torch.einsum("btf,fk->btk", inputs, w) + bias[0]
    states, gates = [hidden], []
    for sums in from_inputs.unbind(1):
        x_z, x_r, x_n = sums.chunk(3, dim=1)
        h_z, h_r, h_n = (states[-1] @ u + bias[1]).chunk(3, dim=1)
        z = torch.sigmoid(x_z + h_z)
        n = torch.tanh(x_n + torch.sigmoid(x_r + h_r) * h_n)
        states.append(n + z * (states[-1] - n))
        gates.append(z)
    states = torch.stack(states[1:], 1)
    last = states[torch.arange(len(inputs)), lengths - 1]
    padding = torch.arange(inputs.shape[1]) >= lengths[:, None]
    states = states.masked_fill(padding[..., None], 0.0)
    gates = torch.stack(gates, 1).masked_fill(padding[..., None], 0.0)
    share = (~padding).double() / lengths[:, None]
    return states, last, torch.einsum("bth,bt->bh", gates, share)


# -- 8. mgu_step


def _mgu_inputs(sampler: CaseSampler) -> dict:
    batch, features, hidden = _sizes(sampler)
    return {
        "inputs": sampler.normal(batch, features),
        "hidden": sampler.normal(batch, hidden),
        "w": sampler.normal(features, 2 * hidden),
        "u": sampler.normal(hidden, 2 * hidden),
        "bias": sampler.normal(2 * hidden),
    }


def _mgu_reference(inputs, hidden, w, u, bias):
    """The package's GRU with both gates alike, and one minus the gate."""
    size = hidden.shape[1]
    f, n = slice(0, size), slice(size, 2 * size)

    def stacked(part):
        return torch.cat([part[f], -part[f], part[n]])

    new = package_step(
        inputs,
        hidden,
        weight_ih=stacked(w.T),
        weight_hh=stacked(u.T),
        bias_ih=stacked(bias),
        reset="before",
    )
    total = torch.einsum("bf,fh->bh", inputs, w[:, f]) + bias[f]
    total = total + torch.einsum("bk,kh->bh", hidden, u[:, f])
    return new, 1 / (1 + torch.exp(-total))


def _mgu_row_by_row(inputs, hidden, w, u, bias):
    rows = []
    size = hidden.shape[1]
    for x, h in zip(inputs, hidden, strict=True):
        f = x @ w[:, :size] + h @ u[:, :size] + bias[:size]
        f = 1 / (1 + torch.exp(-f))
        n = x @ w[:, size:] + (f * h) @ u[:, size:] + bias[size:]
        rows.append(torch.stack([h + f * (n.tanh() - h), f]))
    return tuple(torch.stack(rows, dim=1))


def _mgu_joined(inputs, hidden, w, u, bias):
    w_f, w_n = torch.cat([w, u]).tensor_split(2, dim=1)
    b_f, b_n = bias.reshape(2, -1)
    f = torch.addmm(b_f, torch.cat([inputs, hidden], 1), w_f).sigmoid()
    n = torch.addmm(b_n, torch.cat([inputs, f * hidden], 1), w_n).tanh()
    return [torch.lerp(hidden, n, f), f]


STEPS = [
    Step(
        "reset_gate",
        reference=_reset_reference,
        cases={"a small batch": _step_inputs, "a batch of one": _batch_of_one},
        mistakes=known_mistakes(
            "These are the update gate's weights: in this layout z comes first, then r.",
            ("_, w_r, _", "w_r, _, _"),
            ("_, u_r, _", "u_r, _, _"),
            ("_, bias_r, _", "bias_r, _, _"),
            "You add only the first bias; the gate has two, one for the inputs and one for the "
            "state.",
            ("bias.sum(0)", "bias[0]"),
            "You transpose u, but it is stored transposed already: multiply the state by u as it "
            "is.",
            ("@ u_r", "@ u_r.T"),
            "A gate lies between 0 and 1: use sigmoid, not tanh.",
            ("sigmoid", "tanh"),
            "Both biases are missing.",
            (" + bias_r", ""),
            "You take every third column; the columns of a gate are next to each other, in one "
            "block.",
            (
                "return torch.sigmoid(inputs @ w_r + hidden @ u_r + bias_r)",
                "sums = inputs @ w + hidden @ u + bias.sum(0)\n"
                "    return torch.sigmoid(sums[:, 1::3])",
            ),
        ),
        alternatives=[_reset_row_by_row, _reset_einsum],
        gradients=["inputs", "hidden", "w", "u", "bias"],
    ),
    Step(
        "update_gate",
        reference=_update_reference,
        cases={"a small batch": _step_inputs, "a batch of one": _batch_of_one},
        mistakes=known_mistakes(
            "These are the reset gate's weights: in this layout z comes first.",
            ("w[:, :size]", "w[:, size : 2 * size]"),
            ("bias[0, :size]", "bias[0, size : 2 * size]"),
            ("u[:, :size]", "u[:, size : 2 * size]"),
            ("bias[1, :size]", "bias[1, size : 2 * size]"),
            "You return 1 - z. Return z itself: what z = 1 means is decided only in step 4.",
            ("return ", "return 1 - "),
            "You add only the first bias; the gate has two, one for the inputs and one for the "
            "state.",
            (" + bias[1, :size]", ""),
            "You transpose u, but it is stored transposed already: multiply the state by u as it "
            "is.",
            ("u[:, :size]", "u[:, :size].T"),
            "Your gate does not depend on the state: the product with u is missing.",
            ("hidden @ u[:, :size] + ", ""),
        ),
        alternatives=[_update_in_single_precision, _update_by_halves],
        gradients=["inputs", "hidden", "w", "u", "bias"],
    ),
    Step(
        "candidates",
        reference=_candidates_reference,
        cases={
            "a small batch": _candidate_inputs,
            "a reset gate of zeros and ones": _extreme_reset,
        },
        mistakes=known_mistakes(
            "Your two candidates are in the wrong order: the one with the reset before the "
            "product comes first.",
            ("before, after", "after, before"),
            "Your first candidate is right. In the second, the reset must scale the inner bias "
            "too.",
            ("(hidden @ u_n + bias_n[1])", "(hidden @ u_n) + bias_n[1]"),
            "Your first candidate is right. In the second, the reset also scales what comes from "
            "the inputs; it must scale only what comes from the state.",
            ("outer + reset * (hidden", "reset * (outer + hidden"),
            "The two biases are swapped: the second row of bias is the inner one, which is added "
            "to the product with U.",
            ("outer = inputs", "bias_n = bias_n.flip(0)\n    outer = inputs"),
            "Your reset gate is inverted: r = 1 lets the old state through.",
            ("outer = inputs", "reset = 1 - reset\n    outer = inputs"),
            "A candidate is not a gate: it may be negative. Use tanh, not sigmoid.",
            ("before = torch.tanh", "before = torch.sigmoid"),
            ("after = torch.tanh", "after = torch.sigmoid"),
            "You scale the inner bias in the wrong candidate: only the reset after the product "
            "scales it.",
            ("(reset * hidden) @ u_n +", "(reset * hidden) @ u_n + reset *"),
            ("(hidden @ u_n + bias_n[1])", "(hidden @ u_n) + bias_n[1]"),
        ),
        alternatives=[_candidates_with_sums, _candidates_einsum],
        gradients=["inputs", "hidden", "reset", "w", "u", "bias"],
    ),
    Step(
        "new_state",
        reference=_new_state_reference,
        cases={"one keeps the old state": _mix(True), "one replaces the old state": _mix(False)},
        mistakes=known_mistakes(
            "The two conventions are swapped: if one_keeps is True, z scales the old state.",
            ("if one_keeps", "if not one_keeps"),
            "Right if one_keeps is True, but your function ignores one_keeps.",
            ("update if one_keeps else 1 - update", "update"),
            "Right if one_keeps is False, but your function ignores one_keeps.",
            ("update if one_keeps else 1 - update", "1 - update"),
            "You add the whole candidate; the two weights must sum to one.",
            ("(1 - kept) * ", ""),
            "Your numbers are right, but you overwrite the old state, which the step before needs "
            "for its gradient. Make a new tensor.",
            (
                "kept * hidden + (1 - kept) * proposal",
                "hidden.mul_(kept).add_((1 - kept) * proposal)",
            ),
        ),
        alternatives=[_new_state_as_a_step, _new_state_in_single_precision],
        gradients=["update", "proposal", "hidden"],
    ),
    Step(
        "gru_step",
        reference=_step_reference,
        cases={
            "reset after, one keeps": _combination(True, True),
            "reset before, one keeps": _combination(False, True),
            "reset after, one replaces": _combination(True, False),
            "reset before, one replaces": _combination(False, False),
        },
        mistakes=known_mistakes(
            "The gates are swapped: in this layout the blocks are z, r, n; torch has r, z, n.",
            ("= reset_gate", "= update_gate"),
            ("= update_gate", "= reset_gate"),
            "reset_after is inverted: with True the reset acts after the matrix product.",
            ("if reset_after", "if not reset_after"),
            "Right with the reset after the product, but your step ignores reset_after.",
            ("after if reset_after else before", "after"),
            "Right if one_keeps is True, but your step ignores one_keeps.",
            ("one_keeps", "True"),
            "You mix in the state after the reset. The reset is for the candidate only; keep the "
            "old state itself.",
            ("proposal, hidden,", "proposal, hidden if reset_after else reset * hidden,"),
            "The new state is right, but the gates are in the wrong order: first r, then z.",
            ("), reset, update", "), update, reset"),
        ),
        alternatives=[_step_row_by_row, _step_with_a_cell],
        gradients=["inputs", "hidden", "w", "u", "bias"],
        depends_on=["reset_gate", "update_gate", "candidates", "new_state"],
    ),
    Step(
        "to_torch",
        reference=_to_torch_reference,
        cases={
            "weights whose one keeps": _translate(True),
            "weights whose one replaces": _translate(False),
        },
        mistakes=known_mistakes(
            "The blocks are still in the order z, r, n; torch expects r, z, n.",
            ("[r, sign * z, n]", "[sign * z, r, n]"),
            "Right if one_keeps is True. If it is False, the weights of the update gate must "
            "change sign.",
            ("sign * ", ""),
            "You change the sign in the wrong case: in torch z = 1 keeps the old state, so the "
            "sign changes only if one_keeps is False.",
            ("if one_keeps", "if not one_keeps"),
            "You change the sign of the matrices, but not of the update gate's two biases, which "
            "go into the sigmoid too.",
            ("reordered(stacked)", "reordered(stacked, sign=sign)"),
            ("reordered(bias)", "reordered(bias, sign=1)"),
            "The gate must become 1 - z: change the sign of its weights instead of taking 1 - "
            "weight.",
            ("sign * z", "z if one_keeps else 1 - z"),
            "You change the sign of the reset gate's weights; the conventions differ in the "
            "update gate.",
            ("[r, sign * z, n]", "[sign * r, z, n]"),
            "Keep the two biases separate: the reset gate scales the inner bias of n, so adding "
            "them up gives another function.",
            (
                "bias_ih, bias_hh = reordered(bias)",
                "bias_ih = reordered(bias).sum(0)\n    bias_hh = torch.zeros_like(bias_ih)",
            ),
            "The matrices must be transposed: torch's have one row for each unit of each block.",
            ("reordered(w).T, reordered(u).T", "reordered(w), reordered(u)"),
        ),
        alternatives=[_to_torch_by_rolling, _to_torch_by_a_matrix],
        gradients=["w", "u", "bias"],
    ),
    Step(
        "gru_layer",
        reference=_layer_reference,
        cases={
            "sequences of one length": _full,
            "padded sequences": _padded,
            "sequences of one length, all padded": _all_padded,
        },
        mistakes=known_mistakes(
            "Your last state is the one after the padding; a sequence that has ended must keep "
            "the state after its last real step.",
            ("torch.where(running, new, hidden)", "new"),
            "Your layer ignores the lengths: all three results run on into the padding.",
            ("for t in", "lengths = torch.full_like(lengths, inputs.shape[1])\n    for t in"),
            "Your mean divides by all steps; divide by the number of each sequence's real steps.",
            ("lengths[:, None]\n", "inputs.shape[1]\n"),
            "In the padding you repeat the last state; the states must be zero there.",
            ("new * running", "hidden"),
            "Your layer starts from zeros; start from the given state.",
            (
                "states, total = [], torch.zeros_like(hidden)",
                "states, total, hidden = [], 0, torch.zeros_like(hidden)",
            ),
            "Each of your steps starts from the first state. Pass the state on from step to step.",
            ("for t in", "first = hidden\n    for t in"),
            ("inputs[:, t], hidden", "inputs[:, t], first"),
            "You run one step too many: steps count from 0, so the last real one is length - 1.",
            ("<", "<="),
            "Your last state is zero for shorter sequences: you take it from the last step, which "
            "is padding there, or multiply it by the mask. Keep that of the last real step.",
            ("torch.where(running, new, hidden)", "new"),
            (", hidden, total", ", states[-1], total"),
            "Your update gate is inverted: here z = 1 keeps the old state.",
            ("True, True", "True, False"),
            "You reset before the matrix product; here the reset comes after it.",
            ("True, True", "False, True"),
        ),
        alternatives=[_layer_by_sequence, _layer_gathered],
        gradients=["inputs", "hidden", "w", "u", "bias"],
        depends_on=["gru_step"],
    ),
    Step(
        "mgu_step",
        reference=_mgu_reference,
        cases={"a small batch": _mgu_inputs},
        mistakes=known_mistakes(
            "Your unit keeps the old state where the gate is one; in this unit one replaces it.",
            ("False", "True"),
            "Your gate resets after the matrix product; here it scales the state before the "
            "product.",
            ("(f * hidden) @ u_n", "f * (hidden @ u_n)"),
            "The candidate must use the state scaled by the gate; yours uses all of it.",
            ("(f * hidden)", "hidden"),
            "The blocks are swapped: the gate f comes first, the candidate n second.",
            ("x_f, x_n =", "x_n, x_f ="),
            ("u_f, u_n =", "u_n, u_f ="),
            "You mix in the state after the reset; keep the old state itself.",
            ("n, hidden", "n, f * hidden"),
        ),
        alternatives=[_mgu_row_by_row, _mgu_joined],
        gradients=["inputs", "hidden", "w", "u", "bias"],
        depends_on=["new_state"],
    ),
]
