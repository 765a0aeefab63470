"""The steps of the LSTM exercise, with their reference answers and known mistakes."""

import torch

from stepgrader.steps import CaseSampler, Step, known_mistakes


def _sizes(sampler: CaseSampler) -> tuple[int, int, int]:
    return sampler.lengths(3)  # batch, features, hidden


def _weights(sampler: CaseSampler, features: int, hidden: int) -> dict[str, torch.Tensor]:
    return {
        "w": sampler.normal(4 * hidden, features),
        "u": sampler.normal(4 * hidden, hidden),
        "peepholes": sampler.normal(3, hidden),
        "bias": sampler.normal(4 * hidden),
    }


def _states(sampler: CaseSampler, batch: int, hidden: int) -> dict[str, torch.Tensor]:
    return {"hidden": sampler.normal(batch, hidden), "cell": sampler.normal(batch, hidden)}


# -- 1. split_gates


def _matrix(sampler: CaseSampler) -> dict:
    hidden, features = sampler.lengths(2)
    return {"stacked": sampler.normal(4 * hidden, features)}


def _vector(sampler: CaseSampler) -> dict:
    (hidden,) = sampler.lengths(1)
    return {"stacked": sampler.normal(4 * hidden)}


def _split_reference(stacked):
    rows = stacked.shape[0] // 4
    return tuple(stacked[block * rows : (block + 1) * rows] for block in (1, 0, 2, 3))


def _split_by_reshape(stacked):
    blocks = stacked.reshape(4, -1, *stacked.shape[1:])
    return [blocks[k] for k in (1, 0, 2, 3)]


def _split_with_a_loop(stacked):
    import warnings

    warnings.warn("a warning is no mistake", stacklevel=1)
    rows = len(stacked) // 4
    parts = []
    for k in [1, 0, 2, 3]:
        print("block", k)
        parts.append(torch.stack([stacked[k * rows + row] for row in range(rows)]))
    return tuple(parts)


# -- 2. forget_gate


def _one_gate(sampler: CaseSampler) -> dict:
    batch, features, hidden = _sizes(sampler)
    return {
        "inputs": sampler.normal(batch, features),
        **_states(sampler, batch, hidden),
        "w": sampler.normal(hidden, features),
        "u": sampler.normal(hidden, hidden),
        "peephole": sampler.normal(hidden),
        "bias": sampler.normal(hidden),
    }


def _forget_reference(inputs, hidden, cell, w, u, peephole, bias):
    total = torch.einsum("bf,hf->bh", inputs, w) + torch.einsum("bk,hk->bh", hidden, u)
    return 1 / (1 + torch.exp(-(total + peephole * cell + bias)))


def _forget_row_by_row(inputs, hidden, cell, w, u, peephole, bias):
    rows = []
    for x, h, c in zip(inputs, hidden, cell, strict=True):
        rows.append(torch.sigmoid(w @ x + u @ h + peephole * c + bias))
    return torch.stack(rows)


def _forget_joined(inputs, hidden, cell, w, u, peephole, bias):
    joined = torch.cat([inputs, hidden, cell], dim=1)
    weights = torch.cat([w, u, torch.diag(peephole)], dim=1)
    return torch.nn.functional.linear(joined, weights, bias).sigmoid()


# -- 3. input_gate


def _stacked(sampler: CaseSampler) -> dict:
    batch, features, hidden = _sizes(sampler)
    return {
        "inputs": sampler.normal(batch, features),
        **_states(sampler, batch, hidden),
        **_weights(sampler, features, hidden),
    }


def _gates(inputs, hidden, cell, w, u, peepholes, bias):
    """The three gates, the candidate and the new cell state, block by block."""
    rows = hidden.shape[1]

    def total(block):
        part = slice(block * rows, (block + 1) * rows)
        return inputs @ w[part].T + hidden @ u[part].T + bias[part]

    i = torch.sigmoid(total(0) + peepholes[0] * cell)
    f = torch.sigmoid(total(1) + peepholes[1] * cell)
    g = torch.tanh(total(2))
    new = f * cell + i * g
    o = torch.sigmoid(total(3) + peepholes[2] * new)
    return i, f, g, o, new


def _input_reference(inputs, hidden, cell, w, u, peepholes, bias):
    return _gates(inputs, hidden, cell, w, u, peepholes, bias)[0]


def _input_sliced(inputs, hidden, cell, w, u, peepholes, bias):
    n = hidden.shape[1]
    total = inputs @ w[:n].T + hidden @ u[:n].T + peepholes[0] * cell + bias[:n]
    return 1 / (1 + (-total).exp())


def _input_einsum(inputs, hidden, cell, w, u, peepholes, bias):
    w = w.reshape(4, -1, w.shape[1])
    u = u.reshape(4, -1, u.shape[1])
    total = torch.einsum("bf,ghf->gbh", inputs, w) + torch.einsum("bk,ghk->gbh", hidden, u)
    return (total[0] + bias.reshape(4, -1)[0] + peepholes[0] * cell).sigmoid()


# -- 4. candidate


def _without_cell(sampler: CaseSampler) -> dict:
    inputs = _stacked(sampler)
    return {name: inputs[name] for name in ("inputs", "hidden", "w", "u", "bias")}


def _candidate_reference(inputs, hidden, w, u, bias):
    n = hidden.shape[1]
    total = inputs @ w[2 * n : 3 * n].T + hidden @ u[2 * n : 3 * n].T + bias[2 * n : 3 * n]
    return 1 - 2 / (1 + torch.exp(2 * total))


def _candidate_chunked(inputs, hidden, w, u, bias):
    return (inputs @ w.T + hidden @ u.T + bias).chunk(4, dim=1)[2].tanh()


def _candidate_row_by_row(inputs, hidden, w, u, bias):
    n = hidden.shape[1]
    rows = [
        torch.tanh(w[2 * n : 3 * n] @ x + u[2 * n : 3 * n] @ h + bias[2 * n : 3 * n])
        for x, h in zip(inputs, hidden, strict=True)
    ]
    return torch.stack(rows)


# -- 5. new_cell


def _belt(sampler: CaseSampler) -> dict:
    batch, hidden = sampler.lengths(2)
    return {
        "forget": torch.from_numpy(sampler.random.uniform(0, 1, (batch, hidden)).round(1)),
        "write": torch.from_numpy(sampler.random.uniform(0, 1, (batch, hidden)).round(1)),
        "proposal": sampler.normal(batch, hidden),
        "cell": sampler.normal(batch, hidden),
    }


def _new_cell_reference(forget, write, proposal, cell):
    return torch.stack([forget, write]).mul(torch.stack([cell, proposal])).sum(0)


def _new_cell_addcmul(forget, write, proposal, cell):
    return torch.addcmul(forget * cell, write, proposal)


def _new_cell_loop(forget, write, proposal, cell):
    new = torch.zeros_like(cell)
    for row in range(cell.shape[0]):
        for unit in range(cell.shape[1]):
            new[row, unit] = (
                forget[row, unit] * cell[row, unit] + write[row, unit] * proposal[row, unit]
            )
    return new


# -- 6. output_gate


def _output_reference(inputs, hidden, cell, w, u, peepholes, bias):
    return _gates(inputs, hidden, cell, w, u, peepholes, bias)[3]


def _output_in_one_go(inputs, hidden, cell, w, u, peepholes, bias):
    i, f, g, o = (inputs @ w.T + hidden @ u.T + bias).chunk(4, dim=1)
    kept = torch.sigmoid(f + peepholes[1] * cell) * cell
    written = torch.sigmoid(i + peepholes[0] * cell) * torch.tanh(g)
    return torch.sigmoid(o + peepholes[2] * (kept + written))


def _output_by_halves(inputs, hidden, cell, w, u, peepholes, bias):
    def squash(x):
        return (1 + torch.tanh(x / 2)) / 2

    total = torch.cat([inputs, hidden], 1) @ torch.cat([w, u], 1).T + bias
    i, f, g, o = total.split(hidden.shape[1], dim=1)
    new = squash(f + peepholes[1] * cell) * cell + squash(i + peepholes[0] * cell) * g.tanh()
    return squash(o + peepholes[2] * new)


# -- 7. peephole_step


def _step_reference(inputs, hidden, cell, w, u, peepholes, bias):
    _, f, _, o, new = _gates(inputs, hidden, cell, w, u, peepholes, bias)
    return o * torch.tanh(new), new, f


def _step_joined(inputs, hidden, cell, w, u, peepholes, bias):
    total = torch.cat([inputs, hidden], 1) @ torch.cat([w, u], 1).T + bias
    i, f, g, o = total.split(hidden.shape[1], dim=1)
    i, f = torch.sigmoid(torch.stack([i, f]) + peepholes[:2, None] * cell)
    new = torch.addcmul(f * cell, i, g.tanh())
    return [(o + peepholes[2] * new).sigmoid() * new.tanh(), new, f]


def _step_row_by_row(inputs, hidden, cell, w, u, peepholes, bias):
    results = []
    for x, h, c in zip(inputs, hidden, cell, strict=True):
        i, f, g, o = (w @ x + u @ h + bias).reshape(4, -1)
        i = 1 / (1 + torch.exp(-i - peepholes[0] * c))
        f = 1 / (1 + torch.exp(-f - peepholes[1] * c))
        new = f * c + i * torch.tanh(g)
        o = 1 / (1 + torch.exp(-o - peepholes[2] * new))
        results.append((o * torch.tanh(new), new, f))
    return tuple(torch.stack(part) for part in zip(*results, strict=True))


# -- 8. peephole_layer


def _padded(sampler: CaseSampler) -> dict:
    batch, features, hidden, time = sampler.lengths(4)
    lengths = torch.from_numpy(1 + sampler.integers(time, batch))
    lengths[0], lengths[-1] = time, 1
    return {
        "inputs": sampler.normal(batch, time, features),
        "lengths": lengths,
        **_weights(sampler, features, hidden),
    }


def _full(sampler: CaseSampler) -> dict:
    inputs = _padded(sampler)
    return inputs | {"lengths": torch.full_like(inputs["lengths"], inputs["inputs"].shape[1])}


def _all_padded(sampler: CaseSampler) -> dict:
    inputs = _full(sampler)
    return inputs | {"lengths": inputs["lengths"] - 1}


def _layer_reference(inputs, lengths, w, u, peepholes, bias):
    """One sequence after the other, each cut to its length."""
    time = inputs.shape[1]
    states, cells, gates = [], [], []
    for sequence, length in zip(inputs, lengths.tolist(), strict=True):
        hidden = cell = inputs.new_zeros(1, u.shape[1])
        states.append([])
        gates.append([])
        for t in range(time):
            new = _step_reference(sequence[t : t + 1], hidden, cell, w, u, peepholes, bias)
            if t < length:
                hidden, cell, _ = new
            states[-1].append(hidden[0])
            gates[-1].append(new[2][0])
        cells.append(cell[0])

    def stacked(rows):
        return torch.stack([torch.stack(row) for row in rows])

    return stacked(states), torch.stack(cells), stacked(gates)


def _layer_with_products_first(inputs, lengths, w, u, peepholes, bias):
    sums = torch.einsum("btf,gf->tbg", inputs, w) + bias
    hidden = cell = inputs.new_zeros(inputs.shape[0], u.shape[1])
    states, gates = [], []
    for t, total in enumerate(sums):
        i, f, g, o = (total + hidden @ u.T).chunk(4, dim=-1)
        i = (i + peepholes[0] * cell).sigmoid()
        f = (f + peepholes[1] * cell).sigmoid()
        new = f * cell + i * g.tanh()
        o = (o + peepholes[2] * new).sigmoid()
        running = (t < lengths).to(cell.dtype)[:, None]
        hidden = running * (o * new.tanh()) + (1 - running) * hidden
        cell = running * new + (1 - running) * cell
        states.append(hidden)
        gates.append(f)
    return torch.stack(states, 1), cell, torch.stack(gates, 1)


def _layer_by_sequence(inputs, lengths, w, u, peepholes, bias):
    sequences = []
    for sequence, length in zip(inputs, lengths, strict=True):
        hidden = cell = torch.zeros(u.shape[1], dtype=inputs.dtype)
        states, gates = [], []
        for t, x in enumerate(sequence):
            i, f, g, o = (w @ x + u @ hidden + bias).reshape(4, -1)
            f = torch.sigmoid(f + peepholes[1] * cell)
            if t < length:
                new = f * cell + torch.sigmoid(i + peepholes[0] * cell) * torch.tanh(g)
                hidden = torch.sigmoid(o + peepholes[2] * new) * torch.tanh(new)
                cell = new
            states.append(hidden)
            gates.append(f)
        sequences.append((torch.stack(states), cell, torch.stack(gates)))
    return [torch.stack(part) for part in zip(*sequences, strict=True)]


STEPS = [
    Step(
        "split_gates",
        reference=_split_reference,
        cases={"a matrix of weights": _matrix, "a vector of biases": _vector},
        mistakes=known_mistakes(
            "Your blocks are in torch's order i, f, g, o; the task asks for f, i, g, o.",
            ("return f, i, g, o", "return i, f, g, o"),
            "Your last two blocks are swapped: the candidate g comes before the output gate o.",
            ("return f, i, g, o", "return f, i, o, g"),
            "You take every fourth row; the rows of a block are next to each other.",
            ("stacked.chunk(4)", "(stacked[start::4] for start in range(4))"),
            "You split the last dimension; the blocks are stacked along the first.",
            ("chunk(4)", "chunk(4, dim=-1)"),
        ),
        alternatives=[_split_by_reshape, _split_with_a_loop],
        gradients=["stacked"],
    ),
    Step(
        "forget_gate",
        reference=_forget_reference,
        cases={"a small batch": _one_gate},
        mistakes=known_mistakes(
            "The peephole is missing: the gate must see the cell state too.",
            (" + peephole * cell", ""),
            "The bias is missing.",
            (" + bias", ""),
            "You multiply the hidden state by u instead of its transpose, so each unit reads a "
            "column of u instead of its row.",
            ("u.T", "u"),
            "A gate lies between 0 and 1: use sigmoid, not tanh.",
            ("sigmoid", "tanh"),
            "Your peephole looks at the hidden state; it must look at the cell state.",
            ("peephole * cell", "peephole * hidden"),
        ),
        alternatives=[_forget_row_by_row, _forget_joined],
        gradients=["inputs", "hidden", "cell", "w", "u", "peephole", "bias"],
    ),
    Step(
        "input_gate",
        reference=_input_reference,
        cases={"a small batch": _stacked},
        mistakes=known_mistakes(
            "These are the forget gate's weights: in torch's order the input gate comes first.",
            ("_, w, _, _", "w, _, _, _"),
            ("_, u, _, _", "u, _, _, _"),
            ("_, bias, _, _", "bias, _, _, _"),
            "You use the forget gate's peephole: peepholes are stacked in the order i, f, o.",
            ("peepholes[0]", "peepholes[1]"),
            "The peephole is missing: the gate must see the cell state too.",
            ("peepholes[0]", "0"),
        ),
        alternatives=[_input_sliced, _input_einsum],
        gradients=["inputs", "hidden", "cell", "w", "u", "peepholes", "bias"],
        depends_on=["split_gates", "forget_gate"],
    ),
    Step(
        "candidate",
        reference=_candidate_reference,
        cases={"a small batch": _without_cell},
        mistakes=known_mistakes(
            "The candidate is not a gate: it may be negative. Use tanh, not sigmoid.",
            ("tanh", "sigmoid"),
            "These are the output gate's weights; g is the third block.",
            ("[2]", "[3]"),
            "The tanh around the sum is missing.",
            (
                "torch.tanh(inputs @ w.T + hidden @ u.T + bias)",
                "inputs @ w.T + hidden @ u.T + bias",
            ),
        ),
        alternatives=[_candidate_chunked, _candidate_row_by_row],
        gradients=["inputs", "hidden", "w", "u", "bias"],
        depends_on=["split_gates"],
    ),
    Step(
        "new_cell",
        reference=_new_cell_reference,
        cases={"a small batch": _belt},
        mistakes=known_mistakes(
            "The gates are swapped: the forget gate scales the old cell state, the input gate the "
            "candidate.",
            ("forget * cell", "forget * proposal"),
            ("write * proposal", "write * cell"),
            "You use 1 - f as the input gate, as a GRU does; the LSTM has an input gate of its "
            "own.",
            ("write * ", "(1 - forget) * "),
            "Your forget gate is inverted: in spite of its name, f = 1 keeps the cell state and f "
            "= 0 erases it.",
            ("forget * ", "(1 - forget) * "),
            "Your numbers are right, but you overwrite the old cell state, which the step before "
            "needs for its gradient. Make a new tensor.",
            ("forget * cell + write * proposal", "cell.mul_(forget).add_(write * proposal)"),
            "You multiply the candidate by the forget gate; multiply it by the input gate.",
            ("write *", "forget *"),
        ),
        alternatives=[_new_cell_addcmul, _new_cell_loop],
        gradients=["forget", "write", "proposal", "cell"],
    ),
    Step(
        "output_gate",
        reference=_output_reference,
        cases={"a small batch": _stacked},
        mistakes=known_mistakes(
            "Your gate sees the cell state before the step; its peephole looks at the new one.",
            ("    cell = new_cell(", "    new_cell("),
            "The peephole is missing: the gate must see the new cell state too.",
            ("peepholes[2]", "0"),
            "Your gate sees tanh of the new cell state; the peephole looks at the cell state itself.",
            (
                "forget_gate(inputs, hidden, cell, w_o",
                "forget_gate(inputs, hidden, torch.tanh(cell), w_o",
            ),
        ),
        alternatives=[_output_in_one_go, _output_by_halves],
        gradients=["inputs", "hidden", "cell", "w", "u", "peepholes", "bias"],
        depends_on=["split_gates", "forget_gate", "input_gate", "candidate", "new_cell"],
    ),
    Step(
        "peephole_step",
        reference=_step_reference,
        cases={"a small batch": _stacked},
        mistakes=known_mistakes(
            "You read the blocks in the order f, i, g, o; torch stacks them as i, f, g, o.",
            ("i, f, g, o =", "f, i, g, o ="),
            "Your output gate sees the cell state before the step; its peephole looks at the new one.",
            ("    cell = f * cell", "    new = f * cell"),
            ("o * torch.tanh(cell), cell, f", "o * torch.tanh(new), new, f"),
            "The hidden state is o * tanh(c); the tanh is missing.",
            ("o * torch.tanh(cell)", "o * cell"),
            "The peepholes are missing in all three gates.",
            (" + peepholes[0] * cell", ""),
            (" + peepholes[1] * cell", ""),
            (" + peepholes[2] * cell", ""),
            "You multiply the candidate by the forget gate; multiply it by the input gate.",
            ("i * torch.tanh(g)", "f * torch.tanh(g)"),
        ),
        alternatives=[_step_joined, _step_row_by_row],
        gradients=["inputs", "hidden", "cell", "w", "u", "peepholes", "bias"],
    ),
    Step(
        "peephole_layer",
        reference=_layer_reference,
        cases={
            "sequences of one length": _full,
            "padded sequences": _padded,
            "sequences of one length, all padded": _all_padded,
        },
        mistakes=known_mistakes(
            "Your states change in the padding: beyond its length, the states of a sequence must "
            "stay as they were.",
            ("t < lengths", "t < torch.full_like(lengths, time)"),
            "Your results are (time, batch, hidden); stack the steps along dimension 1.",
            ("torch.stack(states, 1)", "torch.stack(states)"),
            ("torch.stack(gates, 1)", "torch.stack(gates)"),
            "Beyond its length a sequence's states must stay as they were; yours become zero.",
            ("hidden_after, hidden)", "hidden_after, 0)"),
            ("cell_after, cell)", "cell_after, 0)"),
            "You run one step too many: steps count from 0, so the last real one is length - 1.",
            ("t < lengths", "t <= lengths"),
            "The states are right, but your forget gates stay as they were too; in the padding, "
            "return what the step gives there.",
            (
                "gates.append(gate)",
                "gates.append(torch.where(running, gate, gates[-1] if gates else gate))",
            ),
            "The states are right, but your forget gates are zero in the padding; return what the "
            "step gives there.",
            ("gates.append(gate)", "gates.append(gate * running)"),
        ),
        alternatives=[_layer_with_products_first, _layer_by_sequence],
        gradients=["inputs", "w", "u", "peepholes", "bias"],
        depends_on=["peephole_step"],
    ),
]
