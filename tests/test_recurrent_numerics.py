"""Recurrent layers on inputs of every size, in every floating type and under autocast."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from recurrent_layers import CELLS, LAYERS, as_parts, as_state, initial_state, pair
from torch import nn

from seqbook.layers.attention import MultiHeadAttention
from seqbook.layers.gru import GRU
from seqbook.layers.lstm import LSTM
from seqbook.layers.rnn import RNN

each_kind = pytest.mark.parametrize("kind", LAYERS)
each_backward = pytest.mark.parametrize("backward", ["manual", "autograd"])


def relative_error(actual, expected):
    """The norm of the difference by the norm of what is expected.

    Entries that are a small difference of large numbers have a larger relative error of their own,
    in torch's layers, too.
    """
    difference = (actual.double() - expected.double()).norm().item()
    return difference / expected.double().norm().item() if difference else 0.0


def values_and_gradients(layer, inputs, state, seed):
    inputs = inputs.clone().requires_grad_()
    state = None if state is None else [part.clone().requires_grad_() for part in state]
    outputs, final = layer(inputs, None if state is None else as_state(state))
    values = {"outputs": outputs}
    values |= {f"final {n}": part for n, part in enumerate(as_parts(final))}
    generator = torch.Generator().manual_seed(seed)
    loss = sum((torch.randn(v.shape, generator=generator).to(v) * v).sum() for v in values.values())
    leaves = {"inputs": inputs, **{f"state {n}": part for n, part in enumerate(state or ())}}
    leaves |= dict(layer.named_parameters())
    gradients = torch.autograd.grad(loss, list(leaves.values()))
    names = [f"gradient of {name}" for name in leaves]
    return values | dict(zip(names, gradients, strict=True))


@each_kind
@settings(deadline=None, derandomize=True, max_examples=40)
@given(
    exponent=st.floats(-7, 3),
    state_exponent=st.one_of(st.none(), st.floats(-7, 1)),  # none of these networks reaches more
    bias=st.booleans(),
    time=st.integers(1, 30),
    seed=st.integers(0, 2**16),
)
def test_manual_and_autograd_agree_for_inputs_of_every_size(
    kind, exponent, state_exponent, bias, time, seed
):
    """In float32, to a relative error of 1e-5, that is 80 roundings.

    Where the textbook loop itself is farther than that from float64, since the result is a small
    difference of large terms, the two may differ by ten times its error: both errors are random,
    and in 400 draws of each kind the ratio reached 4.
    """
    generator = torch.Generator().manual_seed(seed)
    layers = pair(kind, 3, 8, bias=bias, generator=generator)
    inputs = 10**exponent * torch.randn(2, time, 3, generator=generator)
    state = None
    if state_exponent is not None:
        shape = (1 + (kind == "lstm"), 1, 2, 8)
        state = 10**state_exponent * torch.randn(shape, generator=generator)
    manual, autograd = (values_and_gradients(layer, inputs, state, seed) for layer in layers)
    double_state = None if state is None else state.double()
    exact = values_and_gradients(layers[1].double(), inputs.double(), double_state, seed)
    for name, expected in autograd.items():
        limit = max(1e-5, 10 * relative_error(expected, exact[name]))
        assert relative_error(manual[name], expected) <= limit, name


@each_kind
def test_an_impulse_decays_as_far_as_in_the_textbook_loop(kind):
    layers = pair(kind, 2, 16, bias=False, generator=torch.Generator().manual_seed(0))
    inputs = torch.zeros(1, 100, 2)
    inputs[:, 0] = 1
    manual, autograd = (layer(inputs)[0][0] for layer in layers)
    exact = layers[1].double()(inputs.double())[0][0]
    assert exact[-1].norm() < 1e-8
    for step, expected in enumerate(exact):
        limit = max(1e-5, 4 * relative_error(autograd[step], expected))
        assert relative_error(manual[step], expected) <= limit, step


@each_kind
def test_zero_in_without_biases_is_zero_out(kind):
    layer = LAYERS[kind](2, 4, bias=False)
    assert layer(torch.zeros(2, 9, 2))[0].abs().max() == 0


@pytest.mark.filterwarnings("ignore:TF32 acceleration")
@pytest.mark.parametrize(("ours", "theirs"), [(RNN, nn.RNN), (LSTM, nn.LSTM), (GRU, nn.GRU)])
def test_the_error_in_bfloat16_is_at_most_one_and_a_half_times_torchs(ours, theirs):
    layer = ours(16, 256, dtype=torch.bfloat16, generator=torch.Generator().manual_seed(1))
    reference = theirs(16, 256, batch_first=True, dtype=torch.bfloat16)
    exact = ours(16, 256, dtype=torch.float64)
    for other in (reference, exact):
        other.load_state_dict(layer.state_dict())
    inputs = torch.randn(4, 30, 16, generator=torch.Generator().manual_seed(0)).bfloat16()
    expected = exact(inputs.double())[0]
    with torch.no_grad(), torch.backends.mkldnn.flags(enabled=False):  # which some processors lack
        allowed = 1.5 * relative_error(reference(inputs)[0], expected)
    assert relative_error(layer(inputs)[0], expected) <= allowed


@each_kind
@each_backward
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_runs_forward_and_backward(kind, backward, dtype):
    """The limit leaves room for tens of roundings; one that switches a ReLU changes gradients."""
    options = {"num_layers": 2, "bidirectional": True, "backward": backward}
    layer = LAYERS[kind](3, 6, **options, generator=torch.Generator().manual_seed(0))
    exact = LAYERS[kind](3, 6, **options, dtype=torch.float64)
    layer = layer.to(dtype)
    exact.load_state_dict(layer.state_dict())
    inputs = torch.randn(2, 5, 3, generator=torch.Generator().manual_seed(0)).to(dtype)
    actual = values_and_gradients(layer, inputs, None, 0)
    for name, expected in values_and_gradients(exact, inputs.double(), None, 0).items():
        assert actual[name].dtype == dtype
        if kind == "relu" and name.startswith("gradient"):
            continue
        assert relative_error(actual[name], expected) <= 0.1, name


class Transposed(nn.Module):
    def __init__(self, module):
        super().__init__()
        self.module = module

    def forward(self, inputs):
        return self.module(inputs.mT).mT


BEFORE = {
    "nothing": nn.Identity,
    "a linear layer": lambda: nn.Linear(4, 4),
    "a convolution": lambda: Transposed(nn.Conv1d(4, 4, 1)),
    "layer norm": lambda: nn.LayerNorm(4),
    "attention": lambda: MultiHeadAttention(4, 2),
}


@each_kind
@each_backward
@pytest.mark.parametrize("before", BEFORE)
def test_a_layer_works_under_autocast_behind_every_module(kind, backward, before):
    torch.manual_seed(0)
    module, layer = BEFORE[before](), LAYERS[kind](4, 5, num_layers=2, backward=backward)
    inputs, lengths = torch.randn(3, 6, 4), torch.tensor([6, 2, 5])
    results = []
    for enabled in (False, True):
        with torch.autocast("cpu", torch.bfloat16, enabled=enabled):
            outputs, final = layer(module(inputs), lengths=lengths)
        loss = outputs.float().square().sum() + sum(part.float().sum() for part in as_parts(final))
        results.append([outputs, *torch.autograd.grad(loss, list(layer.parameters()))])
    expected, actual = results
    assert actual[0].dtype == torch.bfloat16
    assert relative_error(actual[0], expected[0]) <= 0.1
    for gradient, other in zip(actual[1:], expected[1:], strict=True):
        assert gradient.dtype == torch.float32
        if kind != "relu":  # rounding that switches a ReLU changes gradients
            assert relative_error(gradient, other) <= 0.1


@each_kind
@each_backward
def test_the_first_state_may_come_from_a_linear_layer_under_autocast(kind, backward):
    layer, linear = LAYERS[kind](4, 5, backward=backward), nn.Linear(4, 5)
    inputs = torch.randn(2, 3, 4)
    with torch.autocast("cpu", torch.bfloat16):
        part = linear(inputs[:, 0]).unsqueeze(0)
        outputs, _ = layer(inputs, (part, part) if kind == "lstm" else part)
    outputs.float().sum().backward()
    assert linear.weight.grad.abs().max() > 0


@each_kind
def test_backward_under_autocast_gives_the_gradients_of_backward_outside(kind):
    torch.manual_seed(0)
    layer, inputs = LAYERS[kind](4, 5), torch.randn(2, 3, 4)
    outputs, _ = layer(inputs)
    expected = torch.autograd.grad(outputs.sum(), list(layer.parameters()), retain_graph=True)
    with torch.autocast("cpu", torch.bfloat16):
        actual = torch.autograd.grad(outputs.sum(), list(layer.parameters()))
    for gradient, other in zip(actual, expected, strict=True):
        assert torch.equal(gradient, other)


@pytest.mark.parametrize("kind", CELLS)
def test_a_cell_works_under_autocast(kind):
    cell, linear, inputs = CELLS[kind](4, 4), nn.Linear(4, 4), torch.randn(2, 4)
    with torch.autocast("cpu", torch.bfloat16):
        state = cell(inputs, initial_state(kind, 2, 4))
        state = cell(linear(inputs), state)
    assert all(part.dtype == torch.bfloat16 for part in as_parts(state))


def test_autocast_leaves_float64_alone():
    layer, inputs = GRU(4, 5, dtype=torch.float64), torch.randn(2, 3, 4, dtype=torch.float64)
    with torch.autocast("cpu", torch.bfloat16):
        actual, _ = layer(inputs)
    assert torch.equal(actual, layer(inputs)[0])
