"""The steps of the exercise "LSTM in PyTorch", with their reference answers and known mistakes."""

import copy
import math

import torch
from torch import nn

from stepgrader.exercises import solutions
from stepgrader.steps import CaseSampler, ModuleCase, Step, known_mistakes

loaded, one_epoch, CoupledCell, CoupledLSTM, reverse_padded = solutions(
    __file__, "loaded", "one_epoch", "CoupledCell", "CoupledLSTM", "reverse_padded"
)


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
    """A step with each block on its own, normalized by torch's layer_norm."""
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


# -- The plain LSTM and its training: 1. LSTMCell to 6. fitted


# LSTMCell


def _torch_parameters(sampler: CaseSampler, features: int, hidden: int, suffix: str = "") -> dict:
    """Parameters of a direction of a layer, in the layout of torch."""
    rows = 4 * hidden
    return {
        f"weight_ih{suffix}": sampler.normal(rows, features),
        f"weight_hh{suffix}": sampler.normal(rows, hidden),
        f"bias_ih{suffix}": sampler.normal(rows),
        f"bias_hh{suffix}": sampler.normal(rows),
    }


def _cell_case(sampler: CaseSampler, batch: int, scale: float = 1):
    features, hidden = sampler.lengths(2)
    return ModuleCase(
        inputs={
            "inputs": scale * sampler.normal(batch, features),
            "hidden": sampler.normal(batch, hidden),
            "cell": sampler.normal(batch, hidden),
        },
        options={"features": features, "hidden_size": hidden},
        state=_torch_parameters(sampler, features, hidden),
    )


class _CellReference(nn.LSTMCell):
    def forward(self, inputs, hidden, cell):
        return super().forward(inputs, (hidden, cell))


class _CellOfJoinedWeights(nn.LSTMCell):
    """As in the notes: one product with the hidden state and the inputs, joined."""

    def forward(self, inputs, hidden, cell):
        joined = torch.cat([hidden, inputs], dim=1)
        weight = torch.cat([self.weight_hh, self.weight_ih], dim=1)
        sums = nn.functional.linear(joined, weight, self.bias_ih + self.bias_hh)
        i, f, g, o = sums.unflatten(1, (4, -1)).unbind(1)
        cell = f.sigmoid() * cell + i.sigmoid() * g.tanh()
        return [o.sigmoid() * cell.tanh(), cell]


class _CellGateByGate(nn.Module):
    def __init__(self, features, units):
        super().__init__()
        size = {"ih": features, "hh": units}
        for kind in size:
            weight = torch.empty(4 * units, size[kind])
            self.register_parameter(f"weight_{kind}", nn.Parameter(weight))
            bias = nn.Parameter(torch.zeros(4 * units))
            self.register_parameter(f"bias_{kind}", bias)

    def forward(self, inputs, hidden, cell):
        size = hidden.shape[1]

        def block(number):
            rows = slice(number * size, (number + 1) * size)
            product = torch.einsum("bf,rf->br", inputs, self.weight_ih[rows])
            product = product + torch.einsum("bh,rh->br", hidden, self.weight_hh[rows])
            return product + (self.bias_ih + self.bias_hh)[rows]

        print("hidden units:", size)
        kept = cell * torch.special.expit(block(1))
        cell = kept + torch.special.expit(block(0)) * block(2).tanh()
        return torch.special.expit(block(3)) * cell.tanh(), cell


# LSTM


def _layers_case(
    sampler: CaseSampler,
    layers: int,
    *,
    batch: int = 2,
    time: int = 3,
    features: int = 3,
    hidden: int = 2,
):
    state = {}
    for layer in range(layers):
        parameters = _torch_parameters(sampler, hidden if layer else features, hidden)
        state |= _prefixed(f"cells.{layer}.", parameters)
    return ModuleCase(
        inputs={
            "inputs": sampler.normal(batch, time, features),
            "hidden": sampler.normal(layers, batch, hidden),
            "cell": sampler.normal(layers, batch, hidden),
        },
        options={"features": features, "hidden_size": hidden, "layers": layers},
        state=state,
    )


def _two_layers(sampler: CaseSampler) -> ModuleCase:
    """As many features as units, so that a wrong input fits too."""
    return _layers_case(sampler, 2, features=2, time=3 + sampler.size)


def _three_layers(sampler: CaseSampler) -> ModuleCase:
    """One sequence of one step; larger cases are as long as the batch is large."""
    size = 1 + sampler.size // 2
    return _layers_case(sampler, 3, batch=size, time=size, hidden=1 + size)


class _LayersReference(nn.Module):
    def __init__(self, features, units, layers):
        super().__init__()
        self.cells = nn.ModuleList(
            nn.LSTMCell(units if layer else features, units) for layer in range(layers)
        )

    def forward(self, inputs, hidden, cell):
        layers = len(self.cells)
        names = "weight_ih", "weight_hh", "bias_ih", "bias_hh"
        parameters = [getattr(one, name) for one in self.cells for name in names]
        flags = True, layers, 0.0, False, False, True
        return torch.lstm(inputs, (hidden, cell), parameters, *flags)


class _PlainLayers(nn.Module):
    def __init__(self, features, units, layers):
        super().__init__()
        widths = [features] + [units] * (layers - 1)
        self.cells = nn.ModuleList(nn.LSTMCell(width, units) for width in widths)

    def forward(self, inputs, hidden, cell):
        outputs, last_hidden, last_cell = inputs, [], []
        for layer, step in enumerate(self.cells):
            h, c = hidden[layer], cell[layer]
            states = []
            for x in outputs.unbind(1):
                h, c = step(x, (h, c))
                states.append(h)
            outputs = torch.stack(states, dim=1)
            last_hidden.append(h)
            last_cell.append(c)
        return outputs, torch.stack(last_hidden), torch.stack(last_cell)


class _LayersStepByStep(nn.Module):
    """The outer loop runs over time, and each step goes up through all layers."""

    def __init__(self, features, units, layers):
        super().__init__()
        self.cells = nn.ModuleList(
            [nn.LSTMCell(features, units)] + [nn.LSTMCell(units, units) for _ in range(layers - 1)]
        )

    def forward(self, inputs, hidden, cell):
        states = list(zip(hidden, cell, strict=True))
        top = []
        for t in range(inputs.shape[1]):
            x = inputs[:, t]
            for layer, step in enumerate(self.cells):
                states[layer] = step(x, states[layer])
                x = states[layer][0]
            top.append(x[:, None])
        h, c = zip(*states, strict=True)
        return [torch.cat(top, dim=1), torch.stack(h), torch.stack(c)]


# PackedLSTM. Each function returns lengths and the number of steps after padding.


def _equal_lengths(more: int) -> tuple[list[int], int]:
    return [3] * (2 + more), 3


def _falling_lengths(more: int) -> tuple[list[int], int]:
    return [4, 3, 1][: 2 + more], 4


def _mixed_lengths(more: int) -> tuple[list[int], int]:
    return [1, 4, 2, 3][: 3 + more], 4


def _spare_lengths(more: int) -> tuple[list[int], int]:
    return [2, 3, 1][: 2 + more], 4 + more


def _equal_and_spare_lengths(more: int) -> tuple[list[int], int]:
    return [2] * (2 + more), 4 + more


def _one_length(more: int) -> tuple[list[int], int]:
    return [3 + more], 3 + more


def _packed_case(lengths_of, layers: int):
    def case(sampler: CaseSampler) -> ModuleCase:
        features, hidden = 2, 2 + sampler.size // 2
        lengths, time = lengths_of(sampler.size // 2)
        state = {}
        for layer in range(layers):
            for direction in ("", "_reverse"):
                width = 2 * hidden if layer else features
                state |= _torch_parameters(sampler, width, hidden, f"_l{layer}{direction}")
        return ModuleCase(
            inputs={
                "inputs": sampler.normal(len(lengths), time, features),
                "lengths": torch.tensor(lengths),
            },
            options={"features": features, "hidden_size": hidden, "layers": layers},
            state=_prefixed("lstm.", state),
        )

    return case


class _PackedReference(nn.Module):
    """One sequence after the other, cut to its length, so that nothing is padded."""

    def __init__(self, features, units, layers):
        super().__init__()
        self.lstm = nn.LSTM(features, units, layers, batch_first=True, bidirectional=True)

    def forward(self, inputs, lengths):
        size, rows, ends = self.lstm.hidden_size, [], []
        for sequence, length in zip(inputs, lengths.tolist(), strict=True):
            states = self.lstm(sequence[None, :length])[0][0]
            rows.append(nn.functional.pad(states, (0, 0, 0, len(sequence) - length)))
            ends.append(torch.cat([states[-1, :size], states[0, size:]]))
        return torch.stack(rows), torch.stack(ends)


class _PackedSorted(nn.Module):
    """Sorted by hand. A packed batch needs no batch_first in the layer itself."""

    def __init__(self, features, units, layers):
        super().__init__()
        self.lstm = nn.LSTM(features, units, layers, bidirectional=True)

    def forward(self, inputs, lengths):
        order = lengths.argsort(descending=True)
        back = order.argsort()
        packed = nn.utils.rnn.pack_padded_sequence(inputs[order].transpose(0, 1), lengths[order])
        outputs, (hidden, _) = self.lstm(packed)
        outputs, _ = nn.utils.rnn.pad_packed_sequence(outputs)
        outputs = outputs.transpose(0, 1)[back]
        missing = inputs.shape[1] - outputs.shape[1]
        outputs = nn.functional.pad(outputs, (0, 0, 0, missing))
        return outputs, hidden[-2:].transpose(0, 1).flatten(1)[back]


class _PackedFromAList(nn.Module):
    def __init__(self, features, units, layers):
        super().__init__()
        self.lstm = nn.LSTM(features, units, num_layers=layers, bidirectional=True)

    def forward(self, inputs, lengths):
        parts = [x[:n] for x, n in zip(inputs, lengths, strict=True)]
        packed = nn.utils.rnn.pack_sequence(parts, enforce_sorted=False)
        outputs = nn.utils.rnn.unpack_sequence(self.lstm(packed)[0])
        size = self.lstm.hidden_size
        padded = torch.zeros(*inputs.shape[:2], 2 * size, dtype=inputs.dtype)
        for row, states in enumerate(outputs):
            padded[row, : len(states)] = states
        ends = [torch.cat([s[-1, :size], s[0, size:]]) for s in outputs]
        return [padded, torch.stack(ends)]


# Classifier


def _classifier_case(lengths_of, layers: int):
    packed = _packed_case(lengths_of, layers)

    def case(sampler: CaseSampler) -> ModuleCase:
        made = packed(sampler)
        classes, width = 3, 2 * made.options["hidden_size"]
        return ModuleCase(
            inputs=made.inputs,
            options=dict(made.options) | {"classes": classes},
            state=_prefixed("encoder.", made.state)
            | {
                "readout.weight": sampler.normal(classes, width),
                "readout.bias": sampler.normal(classes),
            },
        )

    return case


class _ClassifierReference(nn.Module):
    def __init__(self, features, units, layers, classes):
        super().__init__()
        self.encoder = _PackedReference(features, units, layers)
        self.readout = nn.Linear(2 * units, classes)

    def forward(self, inputs, lengths):
        weight, bias = self.readout.weight, self.readout.bias
        return self.encoder(inputs, lengths)[1] @ weight.T + bias


class _PlainClassifier(nn.Module):
    def __init__(self, features, units, layers, classes):
        super().__init__()
        self.encoder = nn.Module()
        self.encoder.lstm = nn.LSTM(features, units, layers, batch_first=True, bidirectional=True)
        self.readout = nn.Linear(2 * units, classes)

    def forward(self, inputs, lengths):
        packed = nn.utils.rnn.pack_padded_sequence(
            inputs, lengths, batch_first=True, enforce_sorted=False
        )
        _, (hidden, _) = self.encoder.lstm(packed)
        return self.readout(hidden[-2:].transpose(0, 1).flatten(1))


class _ClassifierByEinsum(nn.Module):
    def __init__(self, features, units, layers, classes):
        super().__init__()
        lstm = nn.LSTM(features, units, layers, bidirectional=True)
        self.encoder = nn.ModuleDict({"lstm": lstm})
        self.readout = nn.Linear(2 * units, classes)

    def forward(self, inputs, lengths):
        rows = []
        for sequence, length in zip(inputs, lengths, strict=True):
            _, (hidden, _) = self.encoder["lstm"](sequence[:length])
            last = torch.cat([hidden[-2], hidden[-1]])
            rows.append(torch.einsum("h,ch->c", last, self.readout.weight))
        return torch.stack(rows) + self.readout.bias


# one_epoch and fitted


def _data(sampler: CaseSampler, lengths: list[int], features: int, classes: int):
    """Padded sequences, their lengths and their labels."""
    return (
        sampler.normal(len(lengths), max(lengths), features),
        torch.tensor(lengths),
        torch.from_numpy(sampler.integers(classes, len(lengths))),
    )


def _start(sampler: CaseSampler) -> dict:
    """Options and parameters of a small classifier."""
    options = (2, 2, 1, 3)  # features, hidden size, layers, classes
    parameters = {}
    for direction in ("", "_reverse"):
        parameters |= _torch_parameters(sampler, 2, 2, f"_l0{direction}")
    parameters = _prefixed("encoder.lstm.", parameters) | {
        "readout.weight": sampler.normal(3, 4),
        "readout.bias": sampler.normal(3),
    }
    return {"options": options, "parameters": parameters}


def _order(sampler: CaseSampler, count: int) -> torch.Tensor:
    return torch.from_numpy(sampler.random.permutation(count))


def _epoch_case(batches: int, *, missing: int = 0):
    """An epoch of full batches, or with a last batch that is smaller by ``missing``.

    One or two stored sequences are not visited.
    """

    def case(sampler: CaseSampler) -> dict:
        batch_size = 2 + sampler.size // 2
        sequences = batches * batch_size - missing
        stored = sequences + 1 + sampler.size % 2
        data = _data(sampler, [1 + (i % 3) for i in range(stored)], 2, 3)
        order = _order(sampler, stored)[:sequences]
        while order.equal(torch.arange(sequences)):
            order = _order(sampler, stored)[:sequences]
        return _start(sampler) | {
            "learning_rate": 0.1,
            "data": data,
            "order": order,
            "batch_size": batch_size,
        }

    return case


def _loaded_reference(options, parameters):
    model = _ClassifierReference(*options).double()
    model.load_state_dict(parameters)
    return model


def _epoch_reference(options, parameters, learning_rate, data, order, batch_size):
    model = _loaded_reference(options, parameters)
    optimizer = torch.optim.SGD(model.parameters(), lr=learning_rate)
    losses = []
    for rows in order.split(batch_size):
        inputs, lengths, labels = (part[rows] for part in data)
        loss = nn.functional.cross_entropy(model(inputs, lengths), labels, reduction="none")
        optimizer.zero_grad()
        loss.mean().backward()
        optimizer.step()
        losses += loss.tolist()
    return sum(losses) / len(losses), model.state_dict()


def _epoch_without_an_optimizer(options, parameters, learning_rate, data, order, batch_size):
    model, _ = loaded(options, parameters, learning_rate)
    total = 0.0
    for rows in order.split(batch_size):
        inputs, lengths, labels = (part[rows] for part in data)
        loss = nn.functional.nll_loss(model(inputs, lengths).log_softmax(1), labels)
        model.zero_grad()
        loss.backward()
        for parameter in model.parameters():
            parameter.data -= learning_rate * parameter.grad
        total += len(rows) * loss.detach()
    return total / len(order), dict(model.named_parameters())


def _epoch_by_hand(options, parameters, learning_rate, data, order, batch_size):
    """Gradient descent by its equation, with one sequence at a time and no packing."""
    features, units, layers, _ = options
    lstm = nn.LSTM(features, units, layers, bidirectional=True).double()
    values = {name: value.clone().requires_grad_() for name, value in parameters.items()}
    losses = []
    for rows in order.split(batch_size):
        batch = []
        for row in rows.tolist():
            own = {name: values[f"encoder.lstm.{name}"] for name, _ in lstm.named_parameters()}
            inputs = data[0][row, : int(data[1][row])]
            _, (last, _) = torch.func.functional_call(lstm, own, (inputs,))
            scores = values["readout.weight"] @ last.flatten()
            scores = scores + values["readout.bias"]
            batch.append(-scores.log_softmax(0)[data[2][row]])
        wanted = list(values.values())
        gradients = torch.autograd.grad(sum(batch) / len(batch), wanted)
        losses += [loss.item() for loss in batch]
        for name, gradient in zip(values, gradients, strict=True):
            values[name] = values[name].detach() - learning_rate * gradient
            values[name].requires_grad_()
    return [sum(losses) / len(losses), values]


def _fit_case(
    epochs: str, losses: str, patience: int, *, learning_rate: float = 0.2, clear: float = 0.02
):
    """A fit whose epochs are good or bad for the validation loss.

    Args:
        epochs: For each epoch ``g`` or ``b``. The first half of the training sequences are those of
            the validation, the second half are the same with other labels. Good epochs visit the
            first half, bad ones the second.
        losses: The validation loss of each epoch that should run: ``v`` below all those before,
            ``^`` above the lowest, ``~`` above the lowest and below the one before. Drawn until it is
            so by a clear margin.
        patience: As for ``fit``.
        learning_rate: As for ``fitted``.
        clear: The least difference of a loss from the lowest one before.
    """

    def case(sampler: CaseSampler) -> dict:
        pairs = 4 + sampler.size // 2  # one or two more than a batch, which shows in means of means
        while True:
            inputs, lengths, labels = _data(sampler, [2, 3, 1, 2, 3][:pairs], 2, 3)
            training = (
                inputs.repeat(2, 1, 1),
                lengths.repeat(2),
                torch.cat([labels, (labels + 1) % 3]),
            )
            orders = [
                (_order(sampler, 2 * pairs) % pairs) + pairs * (epoch == "b") for epoch in epochs
            ]
            drawn = _start(sampler) | {
                "learning_rate": learning_rate,
                "training": training,
                "validation": (inputs, lengths, labels),
                "orders": torch.stack(orders),
                "batch_size": 3,
                "patience": patience,
            }
            history, _ = _fitted_reference(**drawn)
            found, lowest, before = "", math.inf, math.inf
            for _, loss in history:
                known = lowest == math.inf or abs(loss - lowest) > clear
                higher = "~" if loss < before - clear else "^"
                found += "?" if not known else "v" if loss < lowest else higher
                lowest, before = min(lowest, loss), loss
            if found == losses:
                return drawn

    return case


def _fit_without_progress(sampler: CaseSampler) -> dict:
    """All epochs have the same validation loss, so only the first is a new best."""
    return _fit_case("ggbbgg", "vv^^", 2)(sampler) | {"learning_rate": 0.0}


def _fit_of_huge_losses(sampler: CaseSampler) -> dict:
    """Training changes parameters, but no loss: the first epoch stays the best."""
    drawn = _fit_case("gggg", "vvvv", 2)(sampler)
    bias = drawn["parameters"]["readout.bias"].clone()
    bias[(drawn["validation"][2][0] + 1) % 3] = 1e30
    return drawn | {"parameters": drawn["parameters"] | {"readout.bias": bias}}


def _fitted_reference(
    options, parameters, learning_rate, training, validation, orders, batch_size, patience
):
    """Train for all epochs, keep everything, and choose afterwards."""
    history, states = [], []
    inputs, lengths, labels = validation
    for order in orders:
        loss, parameters = _epoch_reference(
            options, parameters, learning_rate, training, order, batch_size
        )
        with torch.no_grad():
            scores = _loaded_reference(options, parameters)(inputs, lengths)
            validated = nn.functional.cross_entropy(scores, labels).item()
        history.append((loss, validated))
        states.append(parameters)
    best = 0
    for epoch, (_, validated) in enumerate(history):
        if validated < history[best][1]:
            best = epoch
        if epoch - best == patience:
            history = history[: epoch + 1]
            break
    return history, states[best]


def _fit_of_epochs(
    options, parameters, learning_rate, training, validation, orders, batch_size, patience
):
    """Each epoch starts from the parameters that the last one returned."""
    history, states = [], []
    for order in orders:
        loss, parameters = one_epoch(
            options, parameters, learning_rate, training, order, batch_size
        )
        model, _ = loaded(options, parameters, learning_rate)
        losses = nn.functional.cross_entropy(
            model(*validation[:2]), validation[2], reduction="none"
        )
        history.append((loss, losses.mean().item()))
        states.append(parameters)
        validated = [loss for _, loss in history]
        best = validated.index(min(validated))
        if len(history) - best > patience:
            break
    return history, states[best]


def _fit_counting_down(
    options, parameters, learning_rate, training, validation, orders, batch_size, patience
):
    """With a copy of the whole model and a counter."""
    model, optimizer = loaded(options, parameters, learning_rate)

    def losses(data, rows):
        inputs, lengths, labels = (part[rows] for part in data)
        scores = model(inputs, lengths)
        return scores.logsumexp(1) - scores.gather(1, labels[:, None])[:, 0]

    training_losses, validation_losses, left = [], [], patience
    for order in orders:
        seen = []
        for rows in order.split(batch_size):
            model.zero_grad()
            batch = losses(training, rows)
            batch.mean().backward()
            optimizer.step()
            seen.append(batch.detach())
        training_losses.append(torch.cat(seen).mean().item())
        with torch.inference_mode():
            loss = losses(validation, slice(None)).mean().item()
        left -= 1
        if not validation_losses or loss < min(validation_losses):
            kept, left = copy.deepcopy(model), patience
        validation_losses.append(loss)
        if left == 0:
            break
    pairs = zip(training_losses, validation_losses, strict=True)
    return [list(pair) for pair in pairs], dict(kept.named_parameters())


# -- 7. normalize_gates


def _sums(sampler: CaseSampler) -> dict:
    batch, hidden = 2 + sampler.size // 2, 3 + sampler.size % 2
    return {"sums": sampler.normal(batch, 3 * hidden), "gain": 1 + sampler.normal(3 * hidden) / 2}


def _small_sums(sampler: CaseSampler) -> dict:
    inputs = _sums(sampler)
    return inputs | {"sums": inputs["sums"] / 20}


def _normalize_reference(sums, gain):
    size = len(gain) // 3
    normal = nn.functional.layer_norm
    return torch.cat(
        [
            normal(part, [size], scale)
            for part, scale in zip(sums.split(size, dim=1), gain.split(size), strict=True)
        ],
        dim=1,
    )


def _normalize_row_by_row(sums, gain):
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


def _normalize_as_groups(sums, gain):
    return nn.functional.group_norm(sums, 3, gain)


def _normalize_in_single_precision(sums, gain):
    blocks = sums.float().unflatten(1, (3, -1))
    variance, mean = torch.var_mean(blocks, dim=2, correction=0, keepdim=True)
    scaled = (blocks - mean) * torch.rsqrt(variance + 1e-5)
    return torch.einsum("bgk,gk->bgk", scaled, gain.float().reshape(3, -1)).flatten(1)


# -- 8. initial_parameters


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


# -- 9. CoupledCell


def _sizes(sampler: CaseSampler) -> tuple[int, int, int]:
    """Batch, features, hidden; the last at least 4, so that normalizing shows."""
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


# -- 10. CoupledLSTM


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


def _all_padded(sampler: CaseSampler, batch: int, time: int) -> torch.Tensor:
    return torch.full((batch,), time - 1)


def _single(sampler: CaseSampler, batch: int, time: int) -> torch.Tensor:
    return torch.tensor([time, 1, *[2] * batch])[:batch]


def _with_empty(sampler: CaseSampler, batch: int, time: int) -> torch.Tensor:
    lengths = torch.from_numpy(sampler.integers(time + 1, batch))
    lengths[:2] = torch.tensor([0, time - 1])
    return lengths


class _LayerRunsOnAndLooksBack(nn.Module):
    def __init__(self, features, units):
        super().__init__()
        self.cell = CoupledCell(features, units)

    def forward(self, inputs, lengths, hidden, cell):
        """Run through the padding, then look up each last step."""
        states, gates, start = [], [], (hidden, cell)
        for t in range(inputs.shape[1]):
            hidden, cell, f = self.cell(inputs[:, t], hidden, cell)
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
        self.cell = CoupledCell(features, units)

    def forward(self, inputs, lengths, hidden, cell):
        """Each step only for the sequences that are still running."""
        hidden, cell = hidden.clone(), cell.clone()
        states, gates = [], []
        for t in range(inputs.shape[1]):
            rows = (lengths > t).nonzero()[:, 0]
            states.append(torch.zeros_like(hidden))
            gates.append(torch.zeros_like(hidden))
            if len(rows) > 0:
                h, c, f = self.cell(inputs[rows, t], hidden[rows], cell[rows])
                hidden = hidden.index_copy(0, rows, h)
                cell = cell.index_copy(0, rows, c)
                states[-1] = states[-1].index_copy(0, rows, h)
                gates[-1] = gates[-1].index_copy(0, rows, f)
        return [torch.stack(states, 1), hidden, cell, torch.stack(gates, 1)]


# -- 11. reverse_padded


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


def _turn_step_by_step(inputs, lengths):
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


# -- 12. AlternatingClassifier


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
        widths = [features] + [units] * (layers - 1)
        self.layers = nn.ModuleList(CoupledLSTM(width, units) for width in widths)
        self.readout = nn.Linear(units, classes)

    def forward(self, inputs, lengths):
        """Look the last state up among all states, where a backward layer has it at step 0."""
        zeros = inputs.new_zeros(len(inputs), self.readout.in_features)
        for number, layer in enumerate(self.layers):
            if number % 2:
                inputs = reverse_padded(inputs, lengths)
            inputs = layer(inputs, lengths, zeros, zeros)[0]
            if number % 2:
                inputs = reverse_padded(inputs, lengths)
        rows = torch.arange(len(inputs))
        end = torch.zeros_like(lengths) if len(self.layers) % 2 == 0 else lengths - 1
        return torch.einsum("bh,ch->bc", inputs[rows, end], self.readout.weight) + self.readout.bias


class _StackOneByOne(nn.Module):
    def __init__(self, features, units, layers, classes):
        super().__init__()
        widths = [features] + [units] * (layers - 1)
        self.layers = nn.ModuleList(CoupledLSTM(width, units) for width in widths)
        self.readout = nn.Linear(units, classes)

    def forward(self, inputs, lengths):
        scores = []
        zeros = inputs.new_zeros(1, self.readout.in_features)
        for sequence, length in zip(inputs, lengths, strict=True):
            states = sequence[None, :length]
            for number, layer in enumerate(self.layers):
                if number > 0:
                    states = states.flip(1)  # now in the order in which it is read
                states, last, _, _ = layer(states, length[None], zeros, zeros)
            scores.append(last[0])
        return self.readout(torch.stack(scores))


# -- 13. training_step


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


def _training_with_an_optimizer(weight, bias, states, labels, learning_rate, max_norm):
    readout = nn.Linear(*weight.T.shape).double()
    readout.load_state_dict({"weight": weight, "bias": bias})
    optimizer = torch.optim.SGD(readout.parameters(), lr=learning_rate)
    loss = nn.CrossEntropyLoss()(readout(states), labels)
    loss.backward()
    norm = nn.utils.clip_grad_norm_(readout.parameters(), max_norm)
    optimizer.step()
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
        "LSTMCell",
        reference=_CellReference,
        cases={
            "one sequence": lambda sampler: _cell_case(sampler, 1),
            "a batch": lambda sampler: _cell_case(sampler, 2 + sampler.size // 2),
            "sums in the thousands": lambda sampler: _cell_case(sampler, 2, scale=10_000),
        },
        mistakes=known_mistakes(
            "You multiply the candidate by the forget gate. The plain LSTM has an input gate i of "
            "its own.",
            ("i * torch.tanh(g)", "f * torch.tanh(g)"),
            "The output gate and the candidate are swapped: torch stacks the blocks in the order "
            "i, f, g, o.",
            ("i, f, g, o = (", "i, f, o, g = ("),
            "The input gate and the forget gate are swapped: torch stacks the blocks in the order "
            "i, f, g, o.",
            ("i, f, g, o = (", "f, i, g, o = ("),
            "Your blocks are in the order f, g, i, o. torch stacks them in the order i, f, g, o.",
            ("i, f, g, o = (", "f, g, i, o = ("),
            "The second bias, bias_hh, is missing.",
            ("self.weight_hh.T + self.bias_hh", "self.weight_hh.T"),
            "You add bias_ih twice; bias_hh is missing.",
            ("self.weight_hh.T + self.bias_hh", "self.weight_hh.T + self.bias_ih"),
            "The candidate g goes through tanh, not through the logistic function: it may be "
            "negative.",
            ("i * torch.tanh(g)", "i * torch.sigmoid(g)"),
            "The input gate goes through the logistic function, not through tanh: a gate is "
            "between 0 and 1.",
            ("torch.sigmoid(i), torch.sigmoid(f)", "torch.tanh(i), torch.sigmoid(f)"),
            "You multiply the candidate by 1 - f. The plain LSTM has an input gate i of its own.",
            ("i * torch.tanh(g)", "(1 - f) * torch.tanh(g)"),
            "The tanh of the cell state is missing: the hidden state is o * tanh(c).",
            ("o * torch.tanh(cell), cell", "o * cell, cell"),
            "You compute the hidden state from the old cell state; compute it from the new one.",
            (
                "cell = f * cell + i * torch.tanh(g)\n        return o * torch.tanh(cell), cell",
                "new = f * cell + i * torch.tanh(g)\n        return o * torch.tanh(cell), new",
            ),
            "Your results are in the wrong order: first the hidden state, then the cell state.",
            ("o * torch.tanh(cell), cell", "cell, o * torch.tanh(cell)"),
            "The values are right, but the gradient of 1 / (1 + exp(-x)) is NaN where the "
            "exponential overflows. Use torch.sigmoid.",
            (
                "torch.sigmoid(i), torch.sigmoid(f), torch.sigmoid(o)",
                "(1 / (1 + torch.exp(-x)) for x in (i, f, o))",
            ),
        ),
        alternatives=[_CellOfJoinedWeights, _CellGateByGate],
        gradients=["inputs", "hidden", "cell"],
    ),
    Step(
        "LSTM",
        reference=_LayersReference,
        cases={
            "one layer": lambda sampler: _layers_case(sampler, 1, time=3 + sampler.size),
            "two layers": _two_layers,
            "three layers, as many steps as sequences": _three_layers,
        },
        mistakes=known_mistakes(
            "Each of your steps starts from the first states again. Pass the states on from step "
            "to step.",
            ("step(x, h, c)", "step(x, hidden[layer], cell[layer])"),
            "You carry the hidden state from step to step, but not the cell state.",
            ("step(x, h, c)", "step(x, h, cell[layer])"),
            "You start from zeros; start from the states that are given.",
            (
                "h, c = hidden[layer], cell[layer]",
                "h, c = torch.zeros_like(hidden[layer]), torch.zeros_like(cell[layer])",
            ),
            "All your layers start from the states of the first layer; each has its own.",
            ("h, c = hidden[layer], cell[layer]", "h, c = hidden[0], cell[0]"),
            "Your second layer starts from the states in which the first one ended; each layer "
            "starts from its own first states.",
            (
                "h, c = hidden[layer], cell[layer]",
                "h, c = (hidden[0], cell[0]) if layer == 0 else (h, c)",
            ),
            "All your layers read the inputs. From the second on, a layer reads the hidden states "
            "of the layer below.",
            ("outputs.unbind(1)", "inputs.unbind(1)"),
            "You use the first cell for all layers; each layer has its own.",
            ("enumerate(self.cells)", "enumerate([self.cells[0]] * len(self.cells))"),
            "You step along the first axis, which is the batch. Time is the second axis here.",
            ("outputs.unbind(1)", "outputs.unbind(0)"),
            ("torch.stack(states, dim=1)", "torch.stack(states, dim=0)"),
            "Your hidden states are (time, batch, hidden) after stacking; here the batch comes "
            "first.",
            ("torch.stack(states, dim=1)", "torch.stack(states, dim=0)"),
            "Your outputs are the cell states; return the hidden states.",
            ("states.append(h)", "states.append(c)"),
            "You return the last states of the top layer only; return those of all layers, "
            "stacked.",
            ("torch.stack(last_hidden), torch.stack(last_cell)", "h, c"),
        ),
        alternatives=[_PlainLayers, _LayersStepByStep],
        gradients=["inputs", "hidden", "cell"],
        depends_on=["LSTMCell"],
    ),
    Step(
        "PackedLSTM",
        reference=_PackedReference,
        cases={
            "sequences of one length": _packed_case(_equal_lengths, 1),
            "padded sequences, the longest first": _packed_case(_falling_lengths, 1),
            "padded sequences in any order": _packed_case(_mixed_lengths, 1),
            "more padding than the longest needs": _packed_case(_spare_lengths, 1),
            "sequences of one length, all padded": _packed_case(_equal_and_spare_lengths, 1),
            "one sequence, two layers": _packed_case(_one_length, 2),
            "a padded batch, two layers": _packed_case(_mixed_lengths, 2),
        },
        mistakes=known_mistakes(
            "Your layer reads the padding: the backward direction begins there, and the forward "
            "one ends there. Pack the batch.",
            (
                "inputs, lengths, batch_first",
                "inputs, torch.full_like(lengths, inputs.shape[1]), batch_first",
            ),
            "pack_padded_sequence expects the longest sequence first, unless enforce_sorted is "
            "False.",
            (", enforce_sorted=False", ""),
            "Your outputs are as long as the longest sequence; they must have as many steps as "
            "inputs. Set total_length.",
            (", total_length=inputs.shape[1]", ""),
            "Your outputs are (time, batch, features): pad_packed_sequence has an argument "
            "batch_first too.",
            ("outputs, batch_first=True, total", "outputs, total"),
            "The two last states are in the wrong order: that of the forward direction comes "
            "first.",
            ("[hidden[-2], hidden[-1]]", "[hidden[-1], hidden[-2]]"),
            "Your last states are those of the lowest layer. torch lists the layers from the "
            "lowest to the top, each with its two directions.",
            ("[hidden[-2], hidden[-1]]", "[hidden[0], hidden[1]]"),
            "You join the two directions with a reshape alone, which mixes up the sequences. "
            "Concatenate the two states of each sequence.",
            ("torch.cat([hidden[-2], hidden[-1]], dim=1)", "hidden[-2:].reshape(len(inputs), -1)"),
            "You read the last step of the padded outputs, which is zero for all but the longest "
            "sequences.",
            ("torch.cat([hidden[-2], hidden[-1]], dim=1)", "outputs[:, -1]"),
            "You read both directions at the last real step. There the backward direction has "
            "seen one step only; it ends at step 0.",
            (
                "torch.cat([hidden[-2], hidden[-1]], dim=1)",
                "outputs[torch.arange(len(inputs)), lengths - 1]",
            ),
            "Your last states are cell states; return hidden states.",
            ("(hidden, _)", "(_, hidden)"),
        ),
        alternatives=[_PackedSorted, _PackedFromAList],
        gradients=["inputs"],
    ),
    Step(
        "Classifier",
        reference=_ClassifierReference,
        cases={
            "one sequence": _classifier_case(_one_length, 1),
            "a padded batch": _classifier_case(_mixed_lengths, 1),
            "two layers, more padding than the longest needs": _classifier_case(_spare_lengths, 2),
            "sequences of one length, all padded": _classifier_case(_equal_and_spare_lengths, 1),
        },
        mistakes=known_mistakes(
            "Return the scores without a softmax. The loss function applies it, and a network "
            "with two of them learns badly.",
            ("self.readout(last_states)", "self.readout(last_states).softmax(1)"),
            "Return the scores themselves, not their log-softmax.",
            ("self.readout(last_states)", "self.readout(last_states).log_softmax(1)"),
            "You read the last step of the padded outputs; the last states are the encoder's "
            "second result.",
            ("_, last_states =", "outputs, _ ="),
            ("(last_states)", "(outputs[:, -1])"),
            "You read the mean of the outputs, over padding as well; read the last states.",
            ("_, last_states =", "outputs, _ ="),
            ("(last_states)", "(outputs.mean(1))"),
            "You tell the encoder that all sequences are as long as the padded batch; pass it the "
            "lengths.",
            (
                "encoder(inputs, lengths)",
                "encoder(inputs, torch.full_like(lengths, inputs.shape[1]))",
            ),
        ),
        alternatives=[_PlainClassifier, _ClassifierByEinsum],
        gradients=["inputs"],
        depends_on=["PackedLSTM"],
    ),
    Step(
        "one_epoch",
        reference=_epoch_reference,
        cases={
            "one batch": _epoch_case(1),
            "two batches": _epoch_case(2),
            "a last batch that is smaller": _epoch_case(3, missing=1),
        },
        mistakes=known_mistakes(
            "Your steps raise the loss: follow the negative gradient. Did you add a minus sign?",
            ("loss.backward()", "(-loss).backward()"),
            "You divide by the number of stored sequences; divide by the number of those visited.",
            ("total / len(order)", "total / len(labels)"),
            "The gradients of all batches add up: torch adds to .grad until zero_grad is called.",
            ("        optimizer.zero_grad()\n", ""),
            "You step before the backward pass, so each step uses the gradient of the batches "
            "before.",
            (
                "        loss.backward()\n        optimizer.step()\n",
                "        optimizer.step()\n        loss.backward()\n",
            ),
            ("        optimizer.zero_grad()\n", ""),
            "The parameters stay as they were: optimizer.step() is missing, or its gradients were "
            "set to zero before it.",
            ("        optimizer.step()\n", ""),
            "You compute each loss after its batch's step; return it as it was before the step.",
            (
                "loss.item() * len(rows)",
                "len(rows) * nn.functional.cross_entropy(\n"
                "            model(inputs[rows], lengths[rows]), labels[rows]\n"
                "        ).item()",
            ),
            "You count the last batch as if it were full. Multiply the loss of each batch by the "
            "number of its sequences.",
            ("loss.item() * len(rows)", "loss.item() * batch_size"),
            "You return the mean over the batches, in which a sequence of a small last batch "
            "counts more than the others. Return the mean over the sequences.",
            ("loss.item() * len(rows)", "loss.item()"),
            ("total / len(order)", "total / math.ceil(len(order) / batch_size)"),
            "You add up mean losses of batches and divide by the number of sequences: multiply "
            "each by the number of its sequences first.",
            ("loss.item() * len(rows)", "loss.item()"),
            "You return the sum of the losses; return the mean.",
            ("total / len(order)", "total"),
            "You ignore order and visit the sequences as they are stored.",
            ("in order.split", "in torch.arange(len(order)).split"),
            "You leave out the last batch if it is smaller than the others.",
            (
                "order.split(batch_size):\n",
                "order.split(batch_size):\n"
                "        if len(rows) < batch_size:\n"
                "            continue\n",
            ),
            "You train on all sequences at once; take batch_size at a time, with a step after "
            "each batch.",
            ("order.split(batch_size)", "order.split(len(order))"),
            "cross_entropy expects scores and applies the softmax itself; you have applied it "
            "before.",
            ("cross_entropy(scores", "cross_entropy(scores.softmax(1)"),
        ),
        alternatives=[_epoch_without_an_optimizer, _epoch_by_hand],
        depends_on=["Classifier", "PackedLSTM"],
    ),
    Step(
        "fitted",
        reference=_fitted_reference,
        cases={
            "the last epochs get worse": _fit_case("ggbb", "vv^^", 3),
            "patience runs out": _fit_case("ggbbgg", "vv^^", 2),
            "a worse epoch before the best": _fit_case("gbgbbg", "v^v^^", 2),
            "a better epoch after a worse one": _fit_case("gbg", "v^~", 3),
            "a learning rate of zero": _fit_without_progress,
            "epochs that improve by very little": _fit_case(
                "gggg", "vvvv", 2, learning_rate=1e-6, clear=1e-9
            ),
            "huge losses": _fit_of_huge_losses,
        },
        mistakes=known_mistakes(
            "An epoch whose validation loss only equals the lowest one is no new best.",
            ("validated < lowest", "validated <= lowest"),
            "Your model ends with the parameters of the last epoch. Load those of the best one. "
            "If you do: state_dict() shares its tensors with the model, so they change with it "
            "unless you copy them.",
            ("    model.load_state_dict(best)\n", ""),
            "You never stop early.",
            ("        elif epoch - best_epoch == patience:\n            break\n", ""),
            "You stop one epoch too late: stop when patience epochs in a row have brought no new "
            "best.",
            ("epoch - best_epoch == patience", "epoch - best_epoch > patience"),
            "You stop one epoch too early: stop when patience epochs in a row have brought no new "
            "best.",
            ("epoch - best_epoch == patience", "epoch - best_epoch == patience - 1"),
            "You count all epochs without a new best since the start. Start counting again after "
            "each new best.",
            ("lowest = [], math.inf", "lowest, bad = [], math.inf, 0"),
            ("lowest, best_epoch = validated, epoch", "lowest = validated"),
            (
                "        elif epoch - best_epoch == patience:\n            break\n",
                "        else:\n"
                "            bad += 1\n"
                "            if bad == patience:\n"
                "                break\n",
            ),
            "You choose the epoch by the training loss; choose it by the validation loss.",
            ("if validated < lowest", "if loss < lowest"),
            ("best_epoch = validated", "best_epoch = loss"),
            "You compare with the epoch before; compare with the lowest validation loss of all "
            "epochs so far.",
            ("if validated < lowest", "if not history[1:] or validated < history[-2][1]"),
            "You visit the sequences in the same order in every epoch; each epoch has an order of "
            "its own.",
            ("training, order", "training, torch.arange(len(order))"),
            "Your validation loss is a mean of batch means, in which a sequence of a small last "
            "batch counts more than the others. Score all validation sequences in one batch.",
            ("model(*validation[:2])", "[x.split(batch_size) for x in validation]"),
            (
                "nn.functional.cross_entropy(\n                scores, validation[2]\n            )",
                "torch.stack(\n"
                "                [\n"
                "                    nn.functional.cross_entropy(model(x, n), y)\n"
                "                    for x, n, y in zip(*scores, strict=True)\n"
                "                ]\n"
                "            ).mean()",
            ),
            "An epoch whose validation loss is only slightly lower is a new best too; do not ask "
            "for a minimum improvement.",
            ("validated < lowest", "validated < lowest - 1e-3"),
            "You compare the first epoch with a finite number. It is always the best so far, "
            "however high its loss: start from math.inf.",
            (
                "lowest = [], math.inf",
                "lowest, best_epoch, best = [], 1e3, 0, copy.deepcopy(model.state_dict())",
            ),
            "The two losses are swapped: first the training loss of an epoch, then its validation "
            "loss.",
            ("history.append((loss, validated))", "history.append((validated, loss))"),
        ),
        alternatives=[_fit_of_epochs, _fit_counting_down],
        depends_on=["one_epoch", "Classifier", "PackedLSTM"],
    ),
    Step(
        "normalize_gates",
        reference=_normalize_reference,
        cases={"a small batch": _sums, "small sums": _small_sums},
        mistakes=known_mistakes(
            "Your variance divides by one less than the number of values; here it is the mean of "
            "the squared deviations.",
            ("deviations.square().mean(", "blocks.var("),
            "You normalize each row as a whole; normalize each of its three blocks on its own.",
            ("len(sums), 3", "len(sums), 1"),
            "You normalize over the batch; normalize each row on its own.",
            ("blocks.mean(dim=-1", "blocks.mean(dim=0"),
            ("square().mean(dim=-1", "square().mean(dim=0"),
            "The 1e-5 under the square root is missing; without it, you divide by zero where all "
            "numbers of a block are equal.",
            (" + 1e-5", ""),
            "Add the 1e-5 to the variance, under the square root, not to the root itself.",
            ("(variance + 1e-5).sqrt()", "(variance.sqrt() + 1e-5)"),
            "You divide by the variance; divide by its square root.",
            (".sqrt()", ""),
            "You do not subtract the mean: you divide by the root mean square alone.",
            (" - blocks.mean(dim=-1, keepdim=True)", ""),
        ),
        alternatives=[_normalize_row_by_row, _normalize_as_groups, _normalize_in_single_precision],
        gradients=["sums", "gain"],
        tolerance=1e-4,  # in single precision, the gradients of small sums are off by 4e-5
    ),
    Step(
        "initial_parameters",
        reference=_initial_reference,
        cases={"a small cell": _random(None, 1.5), "one hidden unit": _random(1, -2.0)},
        mistakes=known_mistakes(
            "The forget bias is in the second block; in this layout the forget gate comes first.",
            ("[:size]", "[size : 2 * size]"),
            "Your weights are all positive: they must lie between -k and k.",
            ("(2 * random_ih - 1)", "random_ih"),
            ("(2 * random_hh - 1)", "random_hh"),
            "Your weights lie between -k/2 and k/2; scale the random numbers to a range twice as "
            "wide.",
            ("2 * random_ih - 1", "random_ih - 0.5"),
            ("2 * random_hh - 1", "random_hh - 0.5"),
            "k is 1 over the square root of hidden; the root is missing.",
            ("random_ih - 1) / size**0.5", "random_ih - 1) / size"),
            ("random_hh - 1) / size**0.5", "random_hh - 1) / size"),
            "For weight_ih you take the root of the number of features; use the same k for both "
            "matrices.",
            ("random_ih - 1) / size**0.5", "random_ih - 1) / random_ih.shape[1] ** 0.5"),
            "Your numbers are right, but you overwrite the random numbers that you were given. "
            "Make new tensors.",
            ("(2 * random_ih - 1) / size**0.5", "random_ih.mul_(2).sub_(1).div_(size**0.5)"),
            ("(2 * random_hh - 1) / size**0.5", "random_hh.mul_(2).sub_(1).div_(size**0.5)"),
        ),
        alternatives=[_initial_with_a_layer, _initial_in_single_precision],
    ),
    Step(
        "CoupledCell",
        reference=_Cell,
        cases={
            "a small batch": _loaded_cell,
            "the bias of a new cell with a forget bias of 2": _fresh_cell,
        },
        mistakes=known_mistakes(
            "Your whole layout is g, f, o; here the forget gate comes first.",
            (
                "for name, tensor",
                'start["bias"] = start["bias"].roll(hidden_size)\n        for name, tensor',
            ),
            ("f, g, o =", "g, f, o ="),
            "Your last two blocks are swapped: the candidate g comes before the output gate o.",
            ("f, g, o =", "f, o, g ="),
            "Your forget gate is inverted: scale the old cell state by f and the candidate by 1 - "
            "f.",
            ("f * cell + (1 - f) * torch.tanh(g)", "(1 - f) * cell + f * torch.tanh(g)"),
            "You normalize the sum of the two products; normalize each on its own, with its own "
            "gain, and then add.",
            (
                "inputs @ self.weight_ih.T,",
                "inputs @ self.weight_ih.T + hidden @ self.weight_hh.T,",
            ),
            ("from_inputs + from_hidden", "from_inputs"),
            "You normalize the bias with the rest; add it after normalizing.",
            ("@ self.weight_ih.T,", "@ self.weight_ih.T + self.bias,"),
            (" + self.bias)", ")"),
            "The bias is missing.",
            (" + self.bias", ""),
            "The hidden state is o * tanh(c); the tanh is missing.",
            ("torch.tanh(cell)", "cell"),
            "You compute the hidden state from the cell state before the step; compute it from "
            "the new one.",
            ("cell = f *", "old, cell = cell, f *"),
            ("torch.tanh(cell)", "torch.tanh(old)"),
            "The step is right, but the forget bias of a new cell is zero: use initial_parameters.",
            ("forget_bias", "0.0"),
            "You split the blocks in the order g, f, o; they are stacked in the order f, g, o.",
            ("f, g, o =", "g, f, o ="),
            "You multiply the candidate by f. The gates are coupled: multiply it by 1 - f.",
            ("(1 - f) *", "f *"),
            "You add the whole candidate. The gates are coupled: multiply it by 1 - f.",
            ("(1 - f) *", "1 *"),
        ),
        alternatives=[_CellOfLayerNorms, _CellRowByRow],
        gradients=["cell"],
        depends_on=["normalize_gates", "initial_parameters"],
    ),
    Step(
        "CoupledLSTM",
        reference=_Layer,
        cases={
            "sequences of one length": _layer_case(_full),
            "padded sequences": _layer_case(_padded),
            "sequences of one length, all padded": _layer_case(_all_padded),
            "a sequence of length 0": _layer_case(_with_empty),
        },
        mistakes=known_mistakes(
            "Your last states are those after the padding; a sequence that has ended must keep "
            "those after its last real step.",
            ("torch.where(running, new_hidden, hidden)", "new_hidden"),
            ("torch.where(running, new_cell, cell)", "new_cell"),
            "Your layer ignores the lengths: all its results run on into the padding.",
            ("t < lengths", "t < torch.full_like(lengths, inputs.shape[1])"),
            "In the padding you repeat the last hidden state; the hidden states must be zero "
            "there.",
            ("new_hidden * running", "hidden"),
            "Your forget gates are not zero in the padding.",
            ("forget * running", "forget"),
            "Your layer starts from zero states; start from the given ones.",
            (
                "states, gates =",
                "hidden, cell = torch.zeros_like(hidden), torch.zeros_like(cell)\n"
                "        states, gates =",
            ),
            "You run one step too many: steps count from 0, so the last real one is length - 1.",
            ("<", "<="),
            "Your last hidden state is zero for shorter sequences: you take it from the last "
            "step, which is padding there, or multiply it by the mask. Keep that of the last real "
            "step.",
            (", hidden, cell, torch", ", states[-1], cell, torch"),
        ),
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
            "sequences of one length, all padded": _turn_case(_all_padded),
            "a sequence of length 0": _turn_case(_with_empty),
        },
        mistakes=known_mistakes(
            "You reverse the padding as well, so that it comes first; reverse only the real steps.",
            ("inputs.gather(1, source[:, :, None].expand_as(inputs))", "inputs.flip(1)"),
            "You reverse the features; reverse the steps, which are dimension 1.",
            ("inputs.gather(1, source[:, :, None].expand_as(inputs))", "inputs.flip(2)"),
            "The real steps are right, but your padding becomes zero; it must keep its numbers.",
            ("return ", "return (mirrored >= 0)[:, :, None] * "),
            "The real steps are right, but you reverse the padding too; it must stay as it was.",
            ("mirrored, step", "mirrored, mirrored + inputs.shape[1]"),
            "The first step stays where it was; it must go to the end of its sequence.",
            ("- 1 - step", "- step"),
            ("mirrored >= 0", "(mirrored > 0) & (step > 0)"),
            "You reverse one step too many: the last real step is length - 1.",
            ("lengths[:, None]", "(lengths[:, None] + 1).clamp(max=inputs.shape[1])"),
            "Your numbers are right, but you overwrite the input. Work on a copy.",
            _turn_in_place,
        ),
        alternatives=[_turn_step_by_step, _turn_by_matrices],
        gradients=["inputs"],
    ),
    Step(
        "AlternatingClassifier",
        reference=_Classifier,
        cases={
            "two layers, sequences of one length": _stack_case(2, _full),
            "two layers, padded sequences": _stack_case(2, _padded),
            "two layers, sequences of one length, all padded": _stack_case(2, _all_padded),
            "three layers, one of length 1": _stack_case(3, _single),
            "four layers": _stack_case(4, _padded),
        },
        mistakes=known_mistakes(
            "All of your layers read forwards; layers number 1, 3, ... must read backwards.",
            ("enumerate(self.layers):", "enumerate(self.layers):\n            number = 0"),
            "Of your layers only number 1 reads backwards; numbers 3, 5, ... must too.",
            (
                "if number % 2:\n                inputs = reverse_padded(inputs, lengths)\n            inputs,",
                "if number == 1:\n                inputs = reverse_padded(inputs, lengths)\n            inputs,",
            ),
            (
                "if number % 2:\n                inputs = reverse_padded(inputs, lengths)\n        return",
                "if number == 1:\n                inputs = reverse_padded(inputs, lengths)\n        return",
            ),
            "All of your layers but the first read backwards; numbers 2, 4, ... must read "
            "forwards again.",
            (
                "if number % 2:\n                inputs = reverse_padded(inputs, lengths)\n            inputs,",
                "if number:\n                inputs = reverse_padded(inputs, lengths)\n            inputs,",
            ),
            (
                "if number % 2:\n                inputs = reverse_padded(inputs, lengths)\n        return",
                "if number:\n                inputs = reverse_padded(inputs, lengths)\n        return",
            ),
            "Your backward layers reverse the padding too; they must reverse each sequence within "
            "its length.",
            (
                "reverse_padded(inputs, lengths)\n            inputs",
                "inputs.flip(1)\n            inputs",
            ),
            ("reverse_padded(inputs, lengths)\n        return", "inputs.flip(1)\n        return"),
            "Your third layer reads backwards; only every second one does. Is every layer from "
            "the second on reversed, or are a backward layer's states left in reversed order?",
            (
                (
                    "            if number % 2:\n"
                    "                inputs = reverse_padded(inputs, lengths)\n"
                    "        return"
                ),
                "        return",
            ),
            "You read the last step, which for shorter sequences is padding, and for a backward "
            "layer its first state.",
            ("(last)", "(inputs[:, -1])"),
            "You read the state at the last real step; a backward layer ends at the first one.",
            ("(last)", "(inputs[torch.arange(len(inputs)), lengths - 1])"),
            "Your layers ignore the lengths: they run on into the padding.",
            (
                "zeros = inputs",
                "lengths = torch.full_like(lengths, inputs.shape[1])\n        zeros = inputs",
            ),
        ),
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
        mistakes=known_mistakes(
            "You clip weight and bias separately; they share one norm and one factor, which keeps "
            "the direction of the step.",
            (
                "rate * gradient",
                "learning_rate * (max_norm / gradient.norm()).clamp(max=1.0) * gradient",
            ),
            "You clip each number of the gradient, which changes its direction; scale the whole "
            "gradient by one factor.",
            ("rate * gradient", "learning_rate * gradient.clamp(-max_norm, max_norm)"),
            "The gradient is not clipped.",
            (" * (max_norm / norm if norm > max_norm else 1.0)", ""),
            "You scale every gradient to max_norm; leave shorter ones alone.",
            ("(max_norm / norm if norm > max_norm else 1.0)", "max_norm / norm.clamp(min=1e-12)"),
            "Your loss is the sum over the batch; take the mean.",
            ("labels)", 'labels, reduction="sum")'),
            "You return the loss after the step; return the one before.",
            (
                "return ",
                "loss = nn.functional.cross_entropy(states @ new_weight.T + new_bias, labels)\n"
                "    return ",
            ),
            "You return the norm after clipping; return the one before.",
            ("loss.detach(), norm", "loss.detach(), norm.clamp(max=max_norm)"),
            "Your numbers are right, but you overwrite the old weight and bias. Make new tensors.",
            ("part.detach() - rate * gradient", "part.sub_(rate * gradient)"),
            ("zip(old,", "zip((weight, bias),"),
            "You add the norms of the two gradients; the norm of both together is the root of the "
            "sum of their squares.",
            (
                "torch.cat([part.flatten() for part in gradients]).norm()",
                "gradients[0].norm() + gradients[1].norm()",
            ),
            "You add the gradient, so the loss rises. Subtract it.",
            ("part.detach() - rate", "part.detach() + rate"),
            "cross_entropy expects scores and applies the softmax itself; you have applied it "
            "before.",
            ("cross_entropy(scores", "cross_entropy(scores.softmax(-1)"),
        ),
        alternatives=[_training_with_an_optimizer, _training_by_formula],
    ),
]
