"""The steps of the exercise "LSTM in PyTorch", with their reference answers and known mistakes.

Mistakes and other right answers must stand alone, so they repeat the cell again and again.
"""

import torch
from torch import nn

from stepgrader.steps import CaseSampler, Mistake, ModuleCase, Step


def _parameters(sampler: CaseSampler, features: int, hidden: int) -> dict:
    """Parameters of a cell, with gains that are not one."""
    rows = 3 * hidden
    return {
        "weight_ih": sampler.normal(rows, features),
        "weight_hh": sampler.normal(rows, hidden),
        "gain_ih": 1 + sampler.normal(rows) / 2,
        "gain_hh": 1 + sampler.normal(rows) / 2,
        "bias": sampler.normal(rows),
    }


def _prefixed(prefix: str, parameters: dict) -> dict:
    return {prefix + name: tensor for name, tensor in parameters.items()}


def _reference_step(inputs, hidden, cell, parameters):
    """A step with each block on its own, normalised by torch's layer_norm."""
    size = hidden.shape[1]
    sums = []
    for block in range(3):
        rows = slice(block * size, (block + 1) * size)
        weight_ih, weight_hh, gain_ih, gain_hh, bias = (
            parameters[name][rows]
            for name in ("weight_ih", "weight_hh", "gain_ih", "gain_hh", "bias")
        )
        normal = nn.functional.layer_norm
        sums.append(
            normal(inputs @ weight_ih.T, [size], gain_ih)
            + normal(hidden @ weight_hh.T, [size], gain_hh)
            + bias
        )
    forget = 1 / (1 + torch.exp(-sums[0]))
    cell = torch.lerp(torch.tanh(sums[1]), cell, forget)
    return torch.tanh(cell) / (1 + torch.exp(-sums[2])), cell, forget


def _reference_layer(inputs, lengths, hidden, cell, parameters):
    """One sequence after the other, each cut to its length."""
    time, results = inputs.shape[1], []
    for row, length in enumerate(lengths.tolist()):
        h, c = hidden[row : row + 1], cell[row : row + 1]
        states, gates = [h[:0]], [h[:0]]
        for x in inputs[row, :length]:
            h, c, f = _reference_step(x[None], h, c, parameters)
            states.append(h)
            gates.append(f)
        padding = h.new_zeros(time - length, h.shape[1])
        states, gates = (torch.cat([*states, padding]), torch.cat([*gates, padding]))
        results.append((states, h[0], c[0], gates))
    return tuple(torch.stack(part) for part in zip(*results, strict=True))


class _Cell(nn.Module):
    def __init__(self, features, units, forget_bias=1.0):
        super().__init__()
        rows = 3 * units
        self.weight_ih = nn.Parameter(torch.rand(rows, features))
        self.weight_hh = nn.Parameter(torch.rand(rows, units))
        self.gain_ih = nn.Parameter(torch.ones(rows))
        self.gain_hh = nn.Parameter(torch.ones(rows))
        blocks = torch.tensor([forget_bias, 0.0, 0.0])
        self.bias = nn.Parameter(blocks.repeat_interleave(units))

    def forward(self, inputs, hidden, cell):
        return _reference_step(inputs, hidden, cell, dict(self.named_parameters()))


class _Layer(nn.Module):
    def __init__(self, features, units):
        super().__init__()
        self.cell = _Cell(features, units)

    def forward(self, inputs, lengths, hidden, cell):
        parameters = dict(self.cell.named_parameters())
        return _reference_layer(inputs, lengths, hidden, cell, parameters)


class _Classifier(nn.Module):
    """One sequence at a time, without padding, so that reversing is a flip."""

    def __init__(self, features, units, layers, classes):
        super().__init__()
        self.layers = nn.ModuleList(
            _Layer(units if layer else features, units) for layer in range(layers)
        )
        self.readout = nn.Linear(units, classes)

    def forward(self, inputs, lengths):
        scores = []
        for sequence, length in zip(inputs, lengths, strict=True):
            states = sequence[None, :length]
            for number, layer in enumerate(self.layers):
                zero = states.new_zeros(1, self.readout.in_features)
                states = states.flip(1) if number % 2 else states
                states, last, _, _ = layer(states, length[None], zero, zero)
                states = states.flip(1) if number % 2 else states
            scores.append(self.readout(last)[0])
        return torch.stack(scores)


# -- 1. normalise_gates


def _sums(sampler: CaseSampler) -> dict:
    batch, hidden = 2 + sampler.size // 2, 3 + sampler.size % 2
    return {"sums": sampler.normal(batch, 3 * hidden), "gain": 1 + sampler.normal(3 * hidden) / 2}


def _tiny_sums(sampler: CaseSampler) -> dict:
    inputs = _sums(sampler)
    return inputs | {"sums": inputs["sums"] / 200}


def _normalise_reference(sums, gain):
    size = len(gain) // 3
    normal = nn.functional.layer_norm
    return torch.cat(
        [
            normal(part, [size], scale)
            for part, scale in zip(sums.split(size, dim=1), gain.split(size), strict=True)
        ],
        dim=1,
    )


def _normalise_row_by_row(sums, gain):
    import warnings

    warnings.warn("a warning is no mistake", stacklevel=1)
    size = len(gain) // 3
    rows = []
    for row in sums:
        parts = []
        for start in range(0, 3 * size, size):
            part = row[start : start + size]
            mean = part.sum() / size
            variance = ((part - mean) ** 2).sum() / size
            parts.append((part - mean) / torch.sqrt(variance + 1e-5))
        rows.append(torch.cat(parts) * gain)
    return torch.stack(rows)


def _normalise_as_groups(sums, gain):
    return nn.functional.group_norm(sums, 3, gain)


def _normalise_in_single_precision(sums, gain):
    blocks = sums.float().unflatten(1, (3, -1))
    variance, mean = torch.var_mean(blocks, dim=2, correction=0, keepdim=True)
    scaled = (blocks - mean) * torch.rsqrt(variance + 1e-5)
    return torch.einsum("bgk,gk->bgk", scaled, gain.float().reshape(3, -1)).flatten(1)


# -- 2. initial_parameters


def _random(hidden: int | None, forget_bias: float):
    def case(sampler: CaseSampler) -> dict:
        drawn, features = sorted(sampler.lengths(2)) if sampler.size > 1 else (3, 2)
        size = hidden or drawn
        uniform = sampler.random.uniform
        return {
            "random_ih": torch.from_numpy(uniform(0, 1, (3 * size, features)).round(2)),
            "random_hh": torch.from_numpy(uniform(0, 1, (3 * size, size)).round(2)),
            "forget_bias": forget_bias,
        }

    return case


def _initial_reference(random_ih, random_hh, forget_bias):
    rows = len(random_hh)
    bound = (rows / 3) ** -0.5
    first = (torch.arange(rows) < rows // 3).double()
    return {
        "weight_ih": torch.lerp(
            torch.tensor(-bound).double(), torch.tensor(bound).double(), random_ih
        ),
        "weight_hh": torch.lerp(
            torch.tensor(-bound).double(), torch.tensor(bound).double(), random_hh
        ),
        "gain_ih": torch.ones(rows),
        "gain_hh": torch.ones(rows),
        "bias": forget_bias * first,
    }


def _initial_with_a_layer(random_ih, random_hh, forget_bias):
    size = len(random_hh) // 3
    print("hidden units:", size)
    bound = torch.rsqrt(torch.tensor(float(size), dtype=torch.float64))
    gain = nn.LayerNorm(3 * size).weight
    return {
        "bias": torch.cat([torch.full((size,), forget_bias), torch.zeros(2 * size)]),
        "gain_hh": gain,
        "gain_ih": gain,
        "weight_hh": bound * (random_hh + random_hh - 1),
        "weight_ih": bound * (random_ih + random_ih - 1),
    }


def _initial_in_single_precision(random_ih, random_hh, forget_bias):
    rows, size = random_hh.shape
    bound = 1 / size**0.5
    weights = []
    for part in (random_ih, random_hh):
        weights.append(part.float() * (bound - -bound) - bound)
    bias = torch.tensor([forget_bias, 0.0, 0.0]).repeat_interleave(size)
    gains = torch.ones(2, rows)
    return dict(
        weight_ih=weights[0], weight_hh=weights[1], gain_ih=gains[0], gain_hh=gains[1], bias=bias
    )


# -- 3. CoupledCell


def _sizes(sampler: CaseSampler) -> tuple[int, int, int]:
    """Batch, features, hidden; the last at least 4, so that normalising shows."""
    if sampler.size < 2:
        return (2, 3, 4) if sampler.size == 0 else (2, 3, 5)
    return *sampler.lengths(2), 4 + sampler.size % 2


def _loaded_cell(sampler: CaseSampler) -> ModuleCase:
    batch, features, hidden = _sizes(sampler)
    return ModuleCase(
        inputs={
            "inputs": sampler.normal(batch, features),
            "hidden": sampler.normal(batch, hidden),
            "cell": sampler.normal(batch, hidden),
        },
        options={"features": features, "hidden_size": hidden, "forget_bias": 1.0},
        state=_parameters(sampler, features, hidden),
    )


def _fresh_cell(sampler: CaseSampler) -> ModuleCase:
    """With nothing to read, the state after a step shows the initial bias alone."""
    batch, features, hidden = _sizes(sampler)
    return ModuleCase(
        inputs={
            "inputs": torch.zeros(batch, features),
            "hidden": torch.zeros(batch, hidden),
            "cell": sampler.normal(batch, hidden).float(),
        },
        options={"features": features, "hidden_size": hidden, "forget_bias": 2.0},
    )


class _CellOfLayerNorms(nn.Module):
    def __init__(self, features, units, forget_bias=1.0):
        super().__init__()
        rows = 3 * units
        self.bias = nn.Parameter(torch.zeros(rows))
        nn.init.constant_(self.bias.data[:units], forget_bias)
        self.gain_ih = nn.Parameter(torch.ones(rows))
        self.gain_hh = nn.Parameter(torch.ones(rows))
        self.weight_hh = nn.Parameter(torch.randn(rows, units))
        self.weight_ih = nn.Parameter(torch.randn(rows, features))
        self.norm = nn.LayerNorm(units, elementwise_affine=False)

    def forward(self, inputs, hidden, cell):
        x = self.norm((inputs @ self.weight_ih.T).unflatten(1, (3, -1)))
        h = self.norm((hidden @ self.weight_hh.T).unflatten(1, (3, -1)))
        sums = x.flatten(1) * self.gain_ih + h.flatten(1) * self.gain_hh
        f, g, o = (sums + self.bias).unflatten(1, (3, -1)).unbind(1)
        keep, show = f.sigmoid(), o.sigmoid()
        cell = torch.lerp(g.tanh(), cell, keep)
        return [show * cell.tanh(), cell, keep]


class _CellRowByRow(nn.Module):
    def __init__(self, features, units, forget_bias=1.0):
        super().__init__()
        shapes = {"weight_ih": (3 * units, features), "weight_hh": (3 * units, units)}
        for name, shape in shapes.items():
            self.register_parameter(name, nn.Parameter(torch.rand(shape)))
        for name in ("gain_ih", "gain_hh"):
            self.register_parameter(name, nn.Parameter(torch.ones(3 * units)))
        bias = [forget_bias] * units + [0.0] * 2 * units
        self.bias = nn.Parameter(torch.tensor(bias))

    def normal(self, sums, gain):
        blocks = sums.reshape(3, -1)
        blocks = blocks - blocks.mean(1, keepdim=True)
        scale = torch.sqrt((blocks**2).mean(1, keepdim=True) + 1e-5)
        return (blocks / scale).reshape(-1) * gain

    def forward(self, inputs, hidden, cell):
        rows = []
        for x, h, c in zip(inputs, hidden, cell, strict=True):
            sums = self.normal(self.weight_ih @ x, self.gain_ih) + self.bias
            sums = sums + self.normal(self.weight_hh @ h, self.gain_hh)
            f, g, o = sums.reshape(3, -1)
            f = 1 / (1 + torch.exp(-f))
            c = c * f + torch.tanh(g) * (1 - f)
            rows.append((torch.tanh(c) / (1 + torch.exp(-o)), c, f))
        return tuple(torch.stack(part) for part in zip(*rows, strict=True))


# -- 4. CoupledLSTM


def _long_sizes(sampler: CaseSampler) -> tuple[int, int, int, int]:
    """Batch, time, features, hidden; what is stored in the release is small."""
    if sampler.size < 2:
        return 2, 3 + sampler.size, 2, 3
    return 5, 6 + sampler.random.integers(3), 2, 3


def _layer_case(lengths_of):
    def case(sampler: CaseSampler) -> ModuleCase:
        batch, time, features, hidden = _long_sizes(sampler)
        return ModuleCase(
            inputs={
                "inputs": sampler.normal(batch, time, features),
                "lengths": lengths_of(sampler, batch, time),
                "hidden": sampler.normal(batch, hidden),
                "cell": sampler.normal(batch, hidden),
            },
            options={"features": features, "hidden_size": hidden},
            state=_prefixed("cell.", _parameters(sampler, features, hidden)),
        )

    return case


def _full(sampler: CaseSampler, batch: int, time: int) -> torch.Tensor:
    return torch.full((batch,), time)


def _padded(sampler: CaseSampler, batch: int, time: int) -> torch.Tensor:
    lengths = torch.from_numpy(1 + sampler.integers(time, batch))
    lengths[:2] = torch.tensor([time - 2 + sampler.size % 2, time])
    return lengths


def _single(sampler: CaseSampler, batch: int, time: int) -> torch.Tensor:
    return torch.tensor([time, 1, *[2] * batch])[:batch]


def _with_empty(sampler: CaseSampler, batch: int, time: int) -> torch.Tensor:
    lengths = torch.from_numpy(sampler.integers(time + 1, batch))
    lengths[:2] = torch.tensor([0, time - 1])
    return lengths


class _LayerRunsOnAndLooksBack(nn.Module):
    def __init__(self, features, units):
        super().__init__()
        rows = 3 * units
        own = {n: torch.ones(rows) for n in ("gain_ih", "gain_hh", "bias")}
        own["weight_ih"] = torch.rand(rows, features)
        own["weight_hh"] = torch.rand(rows, units)
        self.cell = nn.ParameterDict(own)

    def step(self, x, h, c):
        normal, own = nn.functional.group_norm, self.cell
        sums = normal(x @ own["weight_ih"].T, 3, own["gain_ih"]) + own["bias"]
        sums = sums + normal(h @ own["weight_hh"].T, 3, own["gain_hh"])
        f, g, o = sums.chunk(3, dim=1)
        f = torch.sigmoid(f)
        c = f * c + (1 - f) * torch.tanh(g)
        return torch.sigmoid(o) * torch.tanh(c), c, f

    def forward(self, inputs, lengths, hidden, cell):
        """Run through the padding, then look up each last step."""
        states, gates, start = [], [], (hidden, cell)
        for t in range(inputs.shape[1]):
            hidden, cell, f = self.step(inputs[:, t], hidden, cell)
            states.append((hidden, cell))
            gates.append(f)
        real = torch.arange(inputs.shape[1]) < lengths[:, None]
        hiddens, cells = (torch.stack(part, 1) for part in zip(*states, strict=True))
        last = [
            torch.cat([first[:, None], part], 1)[torch.arange(len(inputs)), lengths]
            for first, part in zip(start, (hiddens, cells), strict=True)
        ]
        hiddens, gates = (
            torch.einsum("bth,bt->bth", part, real.double())
            for part in (hiddens, torch.stack(gates, 1))
        )
        return hiddens, *last, gates


class _LayerShrinks(nn.Module):
    def __init__(self, features, units):
        super().__init__()
        rows = 3 * units
        own = {n: torch.ones(rows) for n in ("gain_ih", "gain_hh", "bias")}
        own["weight_ih"] = torch.rand(rows, features)
        own["weight_hh"] = torch.rand(rows, units)
        self.cell = nn.ParameterDict(own)

    def step(self, x, h, c):
        normal, own = nn.functional.group_norm, self.cell
        sums = normal(x @ own["weight_ih"].T, 3, own["gain_ih"]) + own["bias"]
        sums = sums + normal(h @ own["weight_hh"].T, 3, own["gain_hh"])
        f, g, o = sums.chunk(3, dim=1)
        f = torch.sigmoid(f)
        c = f * c + (1 - f) * torch.tanh(g)
        return torch.sigmoid(o) * torch.tanh(c), c, f

    def forward(self, inputs, lengths, hidden, cell):
        """Each step only for the sequences that are still running."""
        hidden, cell = hidden.clone(), cell.clone()
        states, gates = [], []
        for t in range(inputs.shape[1]):
            rows = (lengths > t).nonzero()[:, 0]
            h, c, f = self.step(inputs[rows, t], hidden[rows], cell[rows])
            hidden = hidden.index_copy(0, rows, h)
            cell = cell.index_copy(0, rows, c)
            states.append(torch.zeros_like(hidden).index_copy(0, rows, h))
            gates.append(torch.zeros_like(hidden).index_copy(0, rows, f))
        return [torch.stack(states, 1), hidden, cell, torch.stack(gates, 1)]


# -- 5. reverse_padded


def _turn_case(lengths_of):
    def case(sampler: CaseSampler) -> dict:
        small = sampler.size < 2
        features, batch, time = (2, 3, 4) if small else sorted(sampler.lengths(3))
        lengths = lengths_of(sampler, batch, time)
        return {"inputs": sampler.normal(batch, time, features), "lengths": lengths}

    return case


def _turn_reference(inputs, lengths):
    rows = []
    for row, length in zip(inputs, lengths.tolist(), strict=True):
        order = [*range(length - 1, -1, -1), *range(length, len(row))]
        rows.append(row[order])
    return torch.stack(rows)


def _turn_in_place(inputs, lengths):
    for row, length in enumerate(lengths.tolist()):
        inputs[row, :length] = inputs[row, :length].flip(0).clone()
    return inputs


def _turn_after_all(inputs, lengths):
    """Flip everything, then roll the padding back to the end, and fix it."""
    result = inputs.clone()
    for row, length in enumerate(lengths.tolist()):
        for t in range(length):
            result[row, t] = inputs[row, length - 1 - t]
    return result


def _turn_by_matrices(inputs, lengths):
    step = torch.arange(inputs.shape[1])
    length = lengths[:, None, None]
    to, source = step[:, None], step[None, :]
    mirrored = (to + source == length - 1) & (to < length)
    kept = (to == source) & (to >= length)
    return torch.einsum("bts,bsf->btf", (mirrored | kept).to(inputs), inputs)


def _turn_with_numbers(inputs, lengths):
    numbers = [
        [length - 1 - t if t < length else t for t in range(inputs.shape[1])]
        for length in lengths.tolist()
    ]
    return inputs[torch.arange(len(inputs))[:, None], torch.tensor(numbers)]


# -- 6. AlternatingClassifier


def _stack_case(layers: int, lengths_of):
    def case(sampler: CaseSampler) -> ModuleCase:
        batch, time, features, hidden = _long_sizes(sampler)
        classes = 4
        state = {}
        for layer in range(layers):
            own = _parameters(sampler, hidden if layer else features, hidden)
            state |= _prefixed(f"layers.{layer}.cell.", own)
        state |= {
            "readout.weight": sampler.normal(classes, hidden),
            "readout.bias": sampler.normal(classes),
        }
        return ModuleCase(
            inputs={
                "inputs": sampler.normal(batch, time, features),
                "lengths": lengths_of(sampler, batch, time),
            },
            options={
                "features": features,
                "hidden_size": hidden,
                "layers": layers,
                "classes": classes,
            },
            state=state,
        )

    return case


class _StackLooksUp(nn.Module):
    def __init__(self, features, units, layers, classes):
        super().__init__()
        self.layers, rows = nn.ModuleList(), 3 * units
        for width in [features] + [units] * (layers - 1):
            own = {n: torch.ones(rows) for n in ("gain_ih", "gain_hh", "bias")}
            own["weight_ih"] = torch.rand(rows, width)
            own["weight_hh"] = torch.rand(rows, units)
            cell = nn.ParameterDict(own)
            self.layers.append(nn.ModuleDict({"cell": cell}))
        self.readout = nn.Linear(units, classes)

    def run(self, own, inputs, lengths):
        normal, states = nn.functional.group_norm, []
        h = c = inputs.new_zeros(len(inputs), self.readout.in_features)
        for t, x in enumerate(inputs.unbind(1)):
            running = (t < lengths)[:, None]
            sums = normal(x @ own["weight_ih"].T, 3, own["gain_ih"])
            sums = sums + normal(h @ own["weight_hh"].T, 3, own["gain_hh"])
            f, g, o = (sums + own["bias"]).chunk(3, dim=1)
            f = torch.sigmoid(f)
            new = f * c + (1 - f) * torch.tanh(g)
            c = torch.where(running, new, c)
            h = torch.where(running, torch.sigmoid(o) * torch.tanh(new), h)
            states.append(h * running)
        return torch.stack(states, 1), h

    def turned(self, inputs, lengths):
        rows = zip(inputs, lengths.tolist(), strict=True)
        return torch.stack([torch.cat([r[:n].flip(0), r[n:]]) for r, n in rows])

    def forward(self, inputs, lengths):
        for number, layer in enumerate(self.layers):
            if number % 2:
                inputs = self.turned(inputs, lengths)
            inputs, _ = self.run(layer["cell"], inputs, lengths)
            if number % 2:
                inputs = self.turned(inputs, lengths)
        rows = torch.arange(len(inputs))
        end = torch.zeros_like(lengths) if len(self.layers) % 2 == 0 else lengths - 1
        return torch.einsum("bh,ch->bc", inputs[rows, end], self.readout.weight) + self.readout.bias


class _StackOneByOne(nn.Module):
    def __init__(self, features, units, layers, classes):
        super().__init__()
        self.layers, rows = nn.ModuleList(), 3 * units
        for width in [features] + [units] * (layers - 1):
            own = {n: torch.ones(rows) for n in ("gain_ih", "gain_hh", "bias")}
            own["weight_ih"] = torch.rand(rows, width)
            own["weight_hh"] = torch.rand(rows, units)
            cell = nn.ParameterDict(own)
            self.layers.append(nn.ModuleDict({"cell": cell}))
        self.readout = nn.Linear(units, classes)

    def run(self, own, inputs, lengths):
        normal, states = nn.functional.group_norm, []
        h = c = inputs.new_zeros(len(inputs), self.readout.in_features)
        for t, x in enumerate(inputs.unbind(1)):
            running = (t < lengths)[:, None]
            sums = normal(x @ own["weight_ih"].T, 3, own["gain_ih"])
            sums = sums + normal(h @ own["weight_hh"].T, 3, own["gain_hh"])
            f, g, o = (sums + own["bias"]).chunk(3, dim=1)
            f = torch.sigmoid(f)
            new = f * c + (1 - f) * torch.tanh(g)
            c = torch.where(running, new, c)
            h = torch.where(running, torch.sigmoid(o) * torch.tanh(new), h)
            states.append(h * running)
        return torch.stack(states, 1), h

    def turned(self, inputs, lengths):
        rows = zip(inputs, lengths.tolist(), strict=True)
        return torch.stack([torch.cat([r[:n].flip(0), r[n:]]) for r, n in rows])

    def forward(self, inputs, lengths):
        scores = []
        for sequence, length in zip(inputs, lengths, strict=True):
            states = sequence[None, :length]
            for number, layer in enumerate(self.layers):
                if number > 0:
                    states = states.flip(1)  # now in the order in which it is read
                states, last = self.run(layer["cell"], states, length[None])
            scores.append(last[0])
        return self.readout(torch.stack(scores))


# -- 7. training_step


def _readout_case(*, max_norm: float, batch_size: int | None = None, scale: float = 1.0):
    def case(sampler: CaseSampler) -> dict:
        small = sampler.size < 2
        hidden, classes, batch = (2, 3, 4) if small else sampler.lengths(3)
        batch = batch_size or batch
        return {
            "weight": sampler.normal(classes, hidden),
            "bias": sampler.normal(classes),
            "states": scale * sampler.normal(batch, hidden),
            "labels": torch.from_numpy(sampler.integers(classes, batch)),
            "learning_rate": 0.5,
            "max_norm": max_norm,
        }

    return case


def _learned(sampler: CaseSampler) -> dict:
    """Scores so far apart that the gradient is zero."""
    inputs = _readout_case(max_norm=0.25)(sampler)
    labels, classes = inputs["labels"], len(inputs["bias"])
    hidden = inputs["states"].shape[1]
    weight = torch.zeros(classes, hidden, dtype=torch.float64)
    weight[:, 0] = 1000.0 * torch.arange(classes)
    states = torch.ones_like(inputs["states"])
    return inputs | {
        "weight": weight,
        "states": states,
        "labels": torch.full_like(labels, classes - 1),
    }


def _training_reference(weight, bias, states, labels, learning_rate, max_norm):
    """With the gradient from its formula: probabilities minus ones."""
    scores = torch.einsum("bh,ch->bc", states, weight) + bias
    logarithms = scores - torch.logsumexp(scores, dim=1, keepdim=True)
    rows = torch.arange(len(states))
    loss = -logarithms[rows, labels].mean()
    errors = logarithms.exp()
    errors[rows, labels] -= 1
    by_weight, by_bias = errors.T @ states / len(states), errors.mean(0)
    norm = (by_weight.square().sum() + by_bias.square().sum()).sqrt()
    scale = max_norm / max(float(norm), max_norm)
    return (
        weight - learning_rate * scale * by_weight,
        bias - learning_rate * scale * by_bias,
        loss,
        norm,
    )


def _training_with_an_optimiser(weight, bias, states, labels, learning_rate, max_norm):
    readout = nn.Linear(*weight.T.shape).double()
    readout.load_state_dict({"weight": weight, "bias": bias})
    optimiser = torch.optim.SGD(readout.parameters(), lr=learning_rate)
    loss = nn.CrossEntropyLoss()(readout(states), labels)
    loss.backward()
    norm = nn.utils.clip_grad_norm_(readout.parameters(), max_norm)
    optimiser.step()
    return [readout.weight, readout.bias, loss.item(), norm]


def _training_by_formula(weight, bias, states, labels, learning_rate, max_norm):
    weight, bias, states = weight.float(), bias.float(), states.float()
    probabilities = (states @ weight.T + bias).softmax(1)
    wanted = nn.functional.one_hot(labels, len(bias))
    loss = nn.functional.cross_entropy(states @ weight.T + bias, labels)
    total = torch.zeros(len(bias), states.shape[1] + 1)
    for p, y, x in zip(probabilities, wanted, states, strict=True):
        total += torch.outer(p - y, torch.cat([x, torch.ones(1)])) / len(states)
    norm = total.square().sum().sqrt()
    if norm > max_norm:
        total *= max_norm / norm
    total *= learning_rate
    return weight - total[:, :-1], bias - total[:, -1], loss, norm


STEPS = [
    Step(
        "normalise_gates",
        reference=_normalise_reference,
        cases={"a small batch": _sums, "tiny sums": _tiny_sums},
        mistakes=[
            Mistake(
                "Your variance divides by one less than the number of values; here it is the mean of "
                "the squared deviations.",
                ("deviations.square().mean(", "blocks.var("),
            ),
            Mistake(
                "You normalise each row as a whole; each of its three blocks must be normalised on its "
                "own.",
                ("len(sums), 3", "len(sums), 1"),
            ),
            Mistake(
                "You normalise over the batch; each row must be normalised without looking at the "
                "others.",
                ("blocks.mean(dim=-1", "blocks.mean(dim=0"),
                ("square().mean(dim=-1", "square().mean(dim=0"),
            ),
            Mistake(
                "The 1e-5 under the root is missing; without it a block of equal numbers is divided by "
                "zero.",
                (" + 1e-5", ""),
            ),
            Mistake(
                "The 1e-5 belongs under the root: it is added to the variance, not to its root.",
                ("(variance + 1e-5).sqrt()", "(variance.sqrt() + 1e-5)"),
            ),
            Mistake("You divide by the variance; divide by its root.", (".sqrt()", "")),
            Mistake(
                "The mean is not subtracted: you divide by the root mean square alone.",
                (" - blocks.mean(dim=-1, keepdim=True)", ""),
            ),
        ],
        alternatives=[_normalise_row_by_row, _normalise_as_groups, _normalise_in_single_precision],
        gradients=["sums", "gain"],
    ),
    Step(
        "initial_parameters",
        reference=_initial_reference,
        cases={"a small cell": _random(None, 1.5), "one hidden unit": _random(1, -2.0)},
        mistakes=[
            Mistake(
                "The forget bias stands in the second block; in this layout the forget gate comes "
                "first.",
                ("[:size]", "[size : 2 * size]"),
            ),
            Mistake(
                "Your weights are all positive: they must lie between -k and k.",
                ("(2 * random_ih - 1)", "random_ih"),
                ("(2 * random_hh - 1)", "random_hh"),
            ),
            Mistake(
                "Your weights lie between -k/2 and k/2; stretch the random numbers to twice the width.",
                ("2 * random_ih - 1", "random_ih - 0.5"),
                ("2 * random_hh - 1", "random_hh - 0.5"),
            ),
            Mistake(
                "k is 1 over the root of hidden; the root is missing.",
                ("random_ih - 1) / size**0.5", "random_ih - 1) / size"),
                ("random_hh - 1) / size**0.5", "random_hh - 1) / size"),
            ),
            Mistake(
                "For weight_ih you take the root of the number of features; k is the same for both "
                "matrices.",
                ("random_ih - 1) / size**0.5", "random_ih - 1) / random_ih.shape[1] ** 0.5"),
            ),
            Mistake(
                "Your numbers are right, but the random numbers that you were given are overwritten: "
                "make new tensors.",
                ("(2 * random_ih - 1) / size**0.5", "random_ih.mul_(2).sub_(1).div_(size**0.5)"),
                ("(2 * random_hh - 1) / size**0.5", "random_hh.mul_(2).sub_(1).div_(size**0.5)"),
            ),
        ],
        alternatives=[_initial_with_a_layer, _initial_in_single_precision],
    ),
    Step(
        "CoupledCell",
        reference=_Cell,
        cases={
            "a small batch": _loaded_cell,
            "the bias of a new cell with a forget bias of 2": _fresh_cell,
        },
        mistakes=[
            Mistake(
                "Your blocks are read in the order g, f, o; here the forget gate comes first.",
                (
                    "for name, tensor",
                    'start["bias"] = start["bias"].roll(hidden_size)\n        for name, tensor',
                ),
                ("f, g, o =", "g, f, o ="),
            ),
            Mistake(
                "Your last two blocks are swapped: the candidate g comes before the output gate o.",
                ("f, g, o =", "f, o, g ="),
            ),
            Mistake(
                "f = 1 keeps the cell state; yours replaces it. Scale the old state by f and the "
                "candidate by 1 - f.",
                ("f * cell + (1 - f) * torch.tanh(g)", "(1 - f) * cell + f * torch.tanh(g)"),
            ),
            Mistake(
                "You normalise the sum of the two products; normalise each on its own, with its own "
                "gain, and then add.",
                (
                    "inputs @ self.weight_ih.T,",
                    "inputs @ self.weight_ih.T + hidden @ self.weight_hh.T,",
                ),
                ("from_inputs + from_hidden", "from_inputs"),
            ),
            Mistake(
                "The bias is normalised with the rest; add it after normalising.",
                ("@ self.weight_ih.T,", "@ self.weight_ih.T + self.bias,"),
                (" + self.bias)", ")"),
            ),
            Mistake("The bias is missing.", (" + self.bias", "")),
            Mistake(
                "The hidden state is o * tanh(c); the tanh is missing.",
                ("torch.tanh(cell)", "cell"),
            ),
            Mistake(
                "Your hidden state shows the cell state before the step; it must show the new one.",
                ("cell = f *", "old, cell = cell, f *"),
                ("torch.tanh(cell)", "torch.tanh(old)"),
            ),
            Mistake(
                "The step is right, but a new cell's forget bias is zero: start from "
                "initial_parameters.",
                ("forget_bias", "0.0"),
            ),
        ],
        alternatives=[_CellOfLayerNorms, _CellRowByRow],
        gradients=["cell"],
        depends_on=["normalise_gates", "initial_parameters"],
    ),
    Step(
        "CoupledLSTM",
        reference=_Layer,
        cases={
            "sequences of one length": _layer_case(_full),
            "padded sequences": _layer_case(_padded),
            "a sequence of length 0": _layer_case(_with_empty),
        },
        mistakes=[
            Mistake(
                "Your last states are those after the padding; a sequence that has ended must keep its "
                "own.",
                ("torch.where(running, new_hidden, hidden)", "new_hidden"),
                ("torch.where(running, new_cell, cell)", "new_cell"),
            ),
            Mistake(
                "Your layer does not use the lengths: all its results run on into the padding.",
                ("t < lengths", "t < torch.full_like(lengths, inputs.shape[1])"),
            ),
            Mistake(
                "In the padding your hidden states repeat the last one; they must be zero there.",
                ("new_hidden * running", "hidden"),
            ),
            Mistake(
                "Your forget gates are not zero in the padding.", ("forget * running", "forget")
            ),
            Mistake(
                "Your layer starts from zero states; it must start from those that it is given.",
                (
                    "states, gates =",
                    "hidden, cell = torch.zeros_like(hidden), torch.zeros_like(cell)\n        states, gates =",
                ),
            ),
            Mistake(
                "You run one step too many: steps count from 0, so the last real one is length - 1.",
                ("<", "<="),
            ),
            Mistake(
                "Your last hidden state is taken from the last column, which for shorter sequences is "
                "padding.",
                (", hidden, cell, torch", ", states[-1], cell, torch"),
            ),
        ],
        alternatives=[_LayerRunsOnAndLooksBack, _LayerShrinks],
        gradients=["inputs", "hidden", "cell"],
        depends_on=["CoupledCell"],
    ),
    Step(
        "reverse_padded",
        reference=_turn_reference,
        cases={
            "sequences of one length": _turn_case(_full),
            "padded sequences": _turn_case(_padded),
            "a sequence of length 0": _turn_case(_with_empty),
        },
        mistakes=[
            Mistake(
                "You reverse the padding as well, so that it comes first; reverse only the real steps.",
                ("inputs.gather(1, source[:, :, None].expand_as(inputs))", "inputs.flip(1)"),
            ),
            Mistake(
                "You reverse the features; reverse the steps, which are dimension 1.",
                ("inputs.gather(1, source[:, :, None].expand_as(inputs))", "inputs.flip(2)"),
            ),
            Mistake(
                "The real steps are right, but the padding must keep its numbers; yours becomes zero.",
                ("return ", "return (mirrored >= 0)[:, :, None] * "),
            ),
            Mistake(
                "The real steps are right, but the padding is reversed too; it must stay as it was.",
                ("mirrored, step", "mirrored, mirrored + inputs.shape[1]"),
            ),
            Mistake(
                "The first step stays where it was; it must go to the end of its sequence.",
                ("- 1 - step", "- step"),
                ("mirrored >= 0", "(mirrored > 0) & (step > 0)"),
            ),
            Mistake(
                "You reverse one step too many: the last real step is length - 1.",
                ("lengths[:, None]", "(lengths[:, None] + 1).clamp(max=inputs.shape[1])"),
            ),
            Mistake(
                "Your numbers are right, but the input is overwritten: work on a copy.",
                answer=_turn_in_place,
            ),
        ],
        alternatives=[_turn_after_all, _turn_by_matrices, _turn_with_numbers],
        gradients=["inputs"],
    ),
    Step(
        "AlternatingClassifier",
        reference=_Classifier,
        cases={
            "two layers, sequences of one length": _stack_case(2, _full),
            "two layers, padded sequences": _stack_case(2, _padded),
            "three layers, one of length 1": _stack_case(3, _single),
            "four layers": _stack_case(4, _padded),
        },
        mistakes=[
            Mistake(
                "All of your layers read forwards; layers number 1, 3, ... must read backwards.",
                ("enumerate(self.layers):", "enumerate(self.layers):\n            number = 0"),
            ),
            Mistake(
                "Of your layers only number 1 reads backwards; 3, 5, ... must too.",
                ("if number % 2:\n                inputs = reverse_padded(inputs, lengths)\n            inputs,",
                 "if number == 1:\n                inputs = reverse_padded(inputs, lengths)\n            inputs,"),
                ("if number % 2:\n                inputs = reverse_padded(inputs, lengths)\n        return",
                 "if number == 1:\n                inputs = reverse_padded(inputs, lengths)\n        return"),
            ),
            Mistake(
                "Of your layers all but the first read backwards; 2, 4, ... must read forwards again.",
                ("if number % 2:\n                inputs = reverse_padded(inputs, lengths)\n            inputs,",
                 "if number:\n                inputs = reverse_padded(inputs, lengths)\n            inputs,"),
                ("if number % 2:\n                inputs = reverse_padded(inputs, lengths)\n        return",
                 "if number:\n                inputs = reverse_padded(inputs, lengths)\n        return"),
            ),
            Mistake(
                "Your backward layers reverse the padding too; they must reverse each sequence within "
                "its length.",
                (
                    "reverse_padded(inputs, lengths)\n            inputs",
                    "inputs.flip(1)\n            inputs",
                ),
                (
                    "reverse_padded(inputs, lengths)\n        return",
                    "inputs.flip(1)\n        return",
                ),
            ),
            Mistake(
                "After a backward layer the hidden states must be put back into the order of time; with "
                "three layers that shows.",
                (
                    (
                        "            if number % 2:\n"
                        "                inputs = reverse_padded(inputs, lengths)\n"
                        "        return"
                    ),
                    "        return",
                ),
            ),
            Mistake(
                "You read the last column, which for shorter sequences is padding, and for a backward "
                "layer its first state.",
                ("(last)", "(inputs[:, -1])"),
            ),
            Mistake(
                "You read the state at the last real step; a backward layer ends at the first one.",
                ("(last)", "(inputs[torch.arange(len(inputs)), lengths - 1])"),
            ),
            Mistake(
                "Your layers run on into the padding: the lengths are not used.",
                (
                    "zeros = inputs",
                    "lengths = torch.full_like(lengths, inputs.shape[1])\n        zeros = inputs",
                ),
            ),
        ],
        alternatives=[_StackLooksUp, _StackOneByOne],
        gradients=["inputs"],
        depends_on=["CoupledLSTM", "reverse_padded"],
    ),
    Step(
        "training_step",
        reference=_training_reference,
        cases={
            "a gradient longer than max_norm": _readout_case(max_norm=0.125),
            "a gradient shorter than max_norm": _readout_case(max_norm=100.0),
            "a batch of one": _readout_case(max_norm=0.25, batch_size=1),
            "scores in the thousands": _readout_case(max_norm=0.25, scale=1000.0),
            "a gradient of zero": _learned,
        },
        mistakes=[
            Mistake(
                "Weight and bias are clipped apart; they share one norm and one factor, so that the "
                "direction of the step is kept.",
                (
                    "rate * gradient",
                    "learning_rate * (max_norm / gradient.norm()).clamp(max=1.0) * gradient",
                ),
            ),
            Mistake(
                "You clip each number of the gradient, which changes its direction; scale the whole "
                "gradient by one factor.",
                ("rate * gradient", "learning_rate * gradient.clamp(-max_norm, max_norm)"),
            ),
            Mistake(
                "The gradient is not clipped.",
                (" * (max_norm / norm if norm > max_norm else 1.0)", ""),
            ),
            Mistake(
                "You scale every gradient to max_norm; one that is shorter must be left alone.",
                (
                    "(max_norm / norm if norm > max_norm else 1.0)",
                    "max_norm / norm.clamp(min=1e-12)",
                ),
            ),
            Mistake(
                "Your loss is the sum over the batch; take the mean.",
                ("labels)", 'labels, reduction="sum")'),
            ),
            Mistake(
                "The loss is that after the step; return the one before.",
                (
                    "return ",
                    "loss = nn.functional.cross_entropy(states @ new_weight.T + new_bias, labels)\n    return ",
                ),
            ),
            Mistake(
                "The norm is that after clipping; return the one before.",
                ("loss.detach(), norm", "loss.detach(), norm.clamp(max=max_norm)"),
            ),
            Mistake(
                "Your numbers are right, but the old weight and bias are overwritten: make new tensors.",
                ("part.detach() - rate * gradient", "part.sub_(rate * gradient)"),
                ("zip(old,", "zip((weight, bias),"),
            ),
            Mistake(
                "You add the norms of the two gradients; the norm of both together is the root of the "
                "sum of their squares.",
                (
                    "torch.cat([part.flatten() for part in gradients]).norm()",
                    "gradients[0].norm() + gradients[1].norm()",
                ),
            ),
        ],
        alternatives=[_training_with_an_optimiser, _training_by_formula],
    ),
]
