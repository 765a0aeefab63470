"""The recurrent layers and cells equal torch's, in values and in all gradients."""

import pickle
from copy import deepcopy

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.autograd import gradcheck

from seqbook.kernels.recurrent import GRUFunction, GRUResetBeforeFunction, LSTMFunction, RNNFunction
from seqbook.layers import recurrent
from seqbook.layers.gru import GRU, GRUCell
from seqbook.layers.lstm import LSTM, LSTMCell, LSTMState
from seqbook.layers.rnn import RNN, RNNCell

LAYERS = {
    "tanh": (RNN, nn.RNN, {}, {}),
    "relu": (RNN, nn.RNN, {"activation": "relu"}, {"nonlinearity": "relu"}),
    "lstm": (LSTM, nn.LSTM, {}, {}),
    "gru": (GRU, nn.GRU, {}, {}),
}
CELLS = {
    "tanh": (RNNCell, nn.RNNCell, {}, {}),
    "relu": (RNNCell, nn.RNNCell, {"activation": "relu"}, {"nonlinearity": "relu"}),
    "lstm": (LSTMCell, nn.LSTMCell, {}, {}),
    "gru": (GRUCell, nn.GRUCell, {}, {}),
}
OURS = {
    "tanh": (RNN, {}),
    "relu": (RNN, {"activation": "relu"}),
    "identity": (RNN, {"activation": "identity"}),
    "lstm": (LSTM, {}),
    "gru after": (GRU, {"reset": "after"}),
    "gru before": (GRU, {"reset": "before"}),
}
TOLERANCE = {torch.float64: 1e-10, torch.float32: 1e-5}

shapes = st.fixed_dictionaries(
    {
        "batch": st.integers(1, 4),
        "time": st.integers(1, 6),
        "features": st.integers(1, 5),
        "hidden": st.integers(1, 6),
    }
)
options = st.fixed_dictionaries(
    {"num_layers": st.integers(1, 2), "bidirectional": st.booleans(), "bias": st.booleans()}
)
dtypes = st.sampled_from([torch.float64, torch.float32])
seeds = st.integers(0, 2**16)


def parts(state):
    return (state,) if isinstance(state, torch.Tensor) else tuple(state)


def as_state(values):
    return values[0] if len(values) == 1 else tuple(values)


def outcome(module, inputs, state, seed):
    """Everything a module gives: outputs, final state, and the gradients of a random loss."""
    inputs = inputs.clone().requires_grad_()
    state = None if state is None else [part.clone().requires_grad_() for part in state]
    result = module(inputs, None if state is None else as_state(state))
    values = [value for part in parts(result) for value in parts(part)]
    generator = torch.Generator().manual_seed(seed)
    weights = [torch.randn(v.shape, generator=generator, dtype=torch.float64) for v in values]
    sum((v * w.to(v)).sum() for v, w in zip(values, weights, strict=True)).backward()
    gradients = [inputs.grad, *(part.grad for part in state or ())]
    return values + gradients + [p.grad for p in module.parameters()]


def assert_equal(actual, expected, dtype):
    """Equal within the tolerance, relative to the largest entry where that exceeds one.

    A gradient is a sum over steps and sequences of terms of its own size, so rounding leaves it an
    error in proportion to its largest entries, also where terms cancel to a small sum.
    """
    assert len(actual) == len(expected)
    for a, e in zip(actual, expected, strict=True):
        assert a.dtype == dtype
        assert a.shape == e.shape
        assert (a - e).abs().max() <= TOLERANCE[dtype] * max(1.0, e.abs().max())


def problem(shape, dtype, seed, *, states, runs=None):
    generator = torch.Generator().manual_seed(seed)
    time = () if runs is None else (shape["time"],)
    lead = () if runs is None else (runs,)
    inputs = torch.randn(shape["batch"], *time, shape["features"], generator=generator)
    sizes = (*lead, shape["batch"], shape["hidden"])
    state = [torch.randn(sizes, generator=generator).to(dtype) for _ in range(states)]
    return inputs.to(dtype), state


@pytest.mark.parametrize("backward", ["manual", "autograd"])
@pytest.mark.parametrize("kind", LAYERS)
@settings(deadline=None, derandomize=True, max_examples=25)
@given(shape=shapes, option=options, dtype=dtypes, seed=seeds, with_state=st.booleans())
def test_a_layer_equals_torchs(kind, backward, shape, option, dtype, seed, with_state):
    ours, theirs, our_options, their_options = LAYERS[kind]
    sizes = shape["features"], shape["hidden"]
    reference = theirs(*sizes, batch_first=True, **option, **their_options).to(dtype)
    layer = ours(*sizes, backward=backward, **option, **our_options).to(dtype)
    layer.load_state_dict(reference.state_dict())
    runs = option["num_layers"] * (1 + option["bidirectional"])
    inputs, state = problem(shape, dtype, seed, states=1 + (kind == "lstm"), runs=runs)
    state = state if with_state else None
    assert_equal(
        outcome(layer, inputs, state, seed), outcome(reference, inputs, state, seed), dtype
    )


@pytest.mark.parametrize("kind", CELLS)
@settings(deadline=None, derandomize=True, max_examples=20)
@given(shape=shapes, bias=st.booleans(), dtype=dtypes, seed=seeds, with_state=st.booleans())
def test_a_cell_equals_torchs(kind, shape, bias, dtype, seed, with_state):
    ours, theirs, our_options, their_options = CELLS[kind]
    sizes = shape["features"], shape["hidden"]
    reference = theirs(*sizes, bias=bias, **their_options).to(dtype)
    cell = ours(*sizes, bias=bias, **our_options).to(dtype)
    cell.load_state_dict(reference.state_dict())
    inputs, state = problem(shape, dtype, seed, states=1 + (kind == "lstm"))
    state = state if with_state else None
    assert_equal(outcome(cell, inputs, state, seed), outcome(reference, inputs, state, seed), dtype)


@pytest.mark.parametrize("kind", OURS)
@settings(deadline=None, derandomize=True, max_examples=15)
@given(shape=shapes, option=options, seed=seeds)
def test_the_derived_backward_equals_autograd(kind, shape, option, seed):
    ours, our_options = OURS[kind]
    layer = ours(shape["features"], shape["hidden"], **option, **our_options).double()
    runs = option["num_layers"] * (1 + option["bidirectional"])
    inputs, state = problem(shape, torch.float64, seed, states=1 + (kind == "lstm"), runs=runs)
    outcomes = []
    for backward in ("manual", "autograd"):
        layer.backward = backward
        layer.zero_grad()
        outcomes.append([value.clone() for value in outcome(layer, inputs, state, seed)])
    assert_equal(*outcomes, torch.float64)


@pytest.mark.parametrize("kind", OURS)
def test_a_batch_computed_in_pieces_equals_the_textbook_loop(kind, monkeypatch):
    layer, option = OURS[kind]
    shape = {"batch": 7, "time": 4, "features": 2, "hidden": 3}
    inputs, state = problem(shape, torch.float64, 0, states=1 + (kind == "lstm"), runs=2)
    layer, textbook = (
        layer(2, 3, bidirectional=True, backward=backward, **option).double()
        for backward in ("manual", "autograd")
    )
    textbook.load_state_dict(layer.state_dict())
    monkeypatch.setattr(recurrent, "_CACHED_BATCH", 3)
    expected = outcome(textbook, inputs, state, 0)
    assert_equal(outcome(layer, inputs, state, 0), expected, torch.float64)


@pytest.mark.parametrize("used", ["outputs", "hidden", "cell"])
def test_the_derived_backward_holds_for_a_loss_on_one_result_of_an_lstm_alone(used):
    layer = LSTM(2, 3, generator=torch.Generator().manual_seed(0)).double()
    inputs = torch.randn(2, 4, 2, dtype=torch.float64)
    gradients = []
    for backward in ("manual", "autograd"):
        layer.backward = backward
        outputs, (hidden, cell) = layer(inputs)
        loss = {"outputs": outputs, "hidden": hidden, "cell": cell}[used].sin().sum()
        gradients.append(torch.autograd.grad(loss, list(layer.parameters())))
    assert_equal(*gradients, torch.float64)


@pytest.mark.parametrize(("batch", "time"), [(2, 3), (1, 1)])
@pytest.mark.parametrize(
    ("run", "gates", "states", "extra"),
    [
        (RNNFunction, 1, 1, ("tanh",)),
        (RNNFunction, 1, 1, ("identity",)),
        (LSTMFunction, 4, 2, ()),
        (GRUFunction, 3, 1, ()),
        (GRUResetBeforeFunction, 3, 1, ()),
    ],
)
def test_the_derived_backward_passes_the_finite_difference_check(
    run, gates, states, extra, batch, time
):
    generator = torch.Generator().manual_seed(0)
    hidden, features = 3, 2
    rows = gates * hidden
    shapes = [(time, batch, features), *[(batch, hidden)] * states]
    shapes += [(rows, features), (rows, hidden), (rows,), (rows,)]
    arguments = [
        torch.randn(shape, generator=generator, dtype=torch.float64).requires_grad_()
        for shape in shapes
    ]
    assert gradcheck(lambda *tensors: run.apply(*tensors, *extra), arguments)


@pytest.mark.parametrize("batch", [1, 2])
@pytest.mark.parametrize("kind", OURS)
def test_nothing_of_the_callers_is_changed_and_the_graph_can_be_kept(kind, batch):
    ours, our_options = OURS[kind]
    layer = ours(2, 3, **our_options)
    inputs = torch.randn(batch, 4, 2, requires_grad=True)
    gradient = torch.randn(batch, 4, 3)
    before = inputs.detach().clone(), gradient.clone()
    outputs, _ = layer(inputs)
    values = outputs.detach().clone()
    outputs.backward(gradient, retain_graph=True)
    first, inputs.grad = inputs.grad, None
    outputs.backward(gradient)
    assert torch.equal(inputs.grad, first)
    assert torch.equal(inputs, before[0])
    assert torch.equal(gradient, before[1])
    assert torch.equal(outputs, values)


@pytest.mark.parametrize("kind", LAYERS)
def test_weights_move_both_ways_and_the_same_seed_draws_the_same(kind):
    ours, theirs, our_options, their_options = LAYERS[kind]
    torch.manual_seed(5)
    reference = theirs(3, 4, num_layers=2, bidirectional=True, **their_options)
    layer = ours(
        3,
        4,
        num_layers=2,
        bidirectional=True,
        generator=torch.Generator().manual_seed(5),
        **our_options,
    )
    assert list(layer.state_dict()) == list(reference.state_dict())
    for name, parameter in reference.state_dict().items():
        assert torch.equal(layer.state_dict()[name], parameter)
    reference.load_state_dict(layer.state_dict())


def test_the_two_gru_conventions_differ_exactly_where_the_reset_gate_acts():
    after, before = GRU(2, 3).double(), GRU(2, 3, reset="before").double()
    before.load_state_dict(after.state_dict())
    inputs = torch.randn(4, 5, 2, dtype=torch.float64)
    assert (after(inputs)[0] - before(inputs)[0]).abs().max() > 1e-3

    x, h = torch.randn(2, dtype=torch.float64), torch.randn(3, dtype=torch.float64)
    parts = [p.chunk(3) for p in before.parameters()]
    (W_r, W_z, W_n), (U_r, U_z, U_n), (b_r, b_z, b_n), (c_r, c_z, c_n) = parts  # noqa: N806
    r = torch.sigmoid(W_r @ x + b_r + U_r @ h + c_r)
    z = torch.sigmoid(W_z @ x + b_z + U_z @ h + c_z)
    n = torch.tanh(W_n @ x + b_n + U_n @ (r * h) + c_n)
    _, state = before(x.expand(1, 1, 2), h.expand(1, 1, 3))
    torch.testing.assert_close(state[0, 0], (1 - z) * n + z * h, rtol=0, atol=1e-12)

    with torch.no_grad():  # an open reset gate lets the whole state through in both
        for layer in (after, before):
            layer.bias_ih_l0[:3] = 100.0
    torch.testing.assert_close(after(inputs)[0], before(inputs)[0], rtol=0, atol=1e-12)


@pytest.mark.parametrize(
    "module", [LSTM(3, 4, num_layers=2, forget_bias=3.0), LSTMCell(3, 4, forget_bias=3.0)]
)
def test_the_forget_bias_is_the_sum_of_both_biases_of_that_gate_alone(module):
    biases = {n: p for n, p in module.named_parameters() if n.startswith("bias_ih")}
    for name, bias in biases.items():
        total = bias + module.get_parameter(name.replace("_ih", "_hh"))
        assert torch.equal(total[4:8], torch.full((4,), 3.0))
        assert total[[*range(4), *range(8, 16)]].abs().max() <= 1


def test_the_lstm_state_has_names():
    _, state = LSTM(2, 3)(torch.randn(1, 4, 2))
    assert isinstance(state, LSTMState)
    assert state.hidden.shape == state.cell.shape == (1, 1, 3)


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: RNN(0, 3), "input_size: expected an integer of at least 1, got 0"),
        (lambda: GRUCell(3, 0), "hidden_size: expected an integer of at least 1, got 0"),
        (lambda: LSTM(3, 3, num_layers=0), "num_layers: expected an integer of at least 1, got 0"),
        (
            lambda: RNN(3, 3, activation="gelu"),
            "expected 'tanh' or 'relu' or 'identity', got 'gelu'",
        ),
        (lambda: GRU(3, 3, reset="never"), "expected 'after' or 'before', got 'never'"),
        (lambda: GRU(3, 3, backward="magic"), "expected 'manual' or 'autograd', got 'magic'"),
        (lambda: LSTM(3, 3, bias=False, forget_bias=1.0), "expected None without biases, got 1.0"),
    ],
)
def test_a_wrong_option_is_named(build, message):
    with pytest.raises(ValueError, match=message):
        build()


@pytest.mark.parametrize(
    ("use", "shapes"),
    [
        (lambda: RNN(5, 3)(torch.ones(2, 7, 4)), ["(batch, time, 5)", "(2, 7, 4)"]),
        (lambda: RNN(5, 3)(torch.ones(7, 5)), ["(batch, time, 5)", "(7, 5)"]),
        (lambda: GRU(5, 3)(torch.ones(2, 0, 5)), ["(batch, time, 5)", "(2, 0, 5)"]),
        (
            lambda: GRU(5, 3)(torch.ones(2, 7, 5), torch.ones(1, 4, 3)),
            ["hidden", "(1, 2, 3)", "(2, 7, 5)", "(1, 4, 3)"],
        ),
        (
            lambda: GRU(5, 3, num_layers=2)(torch.ones(2, 7, 5), torch.ones(1, 2, 3)),
            ["hidden", "(2, 2, 3)", "(1, 2, 3)"],
        ),
        (
            lambda: LSTM(5, 3)(torch.ones(2, 7, 5), (torch.ones(1, 2, 3), torch.ones(1, 2, 4))),
            ["cell", "(1, 2, 3)", "(1, 2, 4)"],
        ),
        (lambda: RNNCell(5, 3)(torch.ones(2, 4)), ["(batch, 5)", "(2, 4)"]),
        (
            lambda: GRUCell(5, 3)(torch.ones(2, 5), torch.ones(4, 3)),
            ["hidden", "(2, 3)", "(2, 5)", "(4, 3)"],
        ),
    ],
)
def test_a_wrong_shape_raises_an_error_with_both_shapes(use, shapes):
    with pytest.raises(ValueError, match="expected") as error:
        use()
    assert all(shape in str(error.value) for shape in shapes)


def test_a_gru_refuses_the_state_of_an_lstm():
    state = LSTMState(torch.ones(1, 2, 3), torch.ones(1, 2, 3))
    with pytest.raises(
        TypeError, match=r"hidden: expected a tensor of shape \(1, 2, 3\), got LSTM"
    ):
        GRU(5, 3)(torch.ones(2, 7, 5), state)


@pytest.mark.parametrize("state", [torch.ones(1, 2, 3), (torch.ones(1, 2, 3),)])
def test_an_lstm_refuses_a_state_that_is_not_a_pair(state):
    with pytest.raises(TypeError, match="expected a pair LSTMState"):
        LSTM(5, 3)(torch.ones(2, 7, 5), state)


@pytest.mark.parametrize("backward", ["manual", "autograd"])
@pytest.mark.parametrize(
    ("build", "option", "value", "wrong"),
    [(GRU, "reset", "before", "never"), (RNN, "activation", "relu", "gelu")],
)
def test_an_option_changed_later_is_the_option_that_counts(build, option, value, wrong, backward):
    layer = build(2, 3, backward=backward)
    expected = build(2, 3, backward=backward, **{option: value})
    expected.load_state_dict(layer.state_dict())
    inputs = torch.randn(4, 5, 2)
    assert not torch.equal(layer(inputs)[0], expected(inputs)[0])
    setattr(layer, option, value)
    assert getattr(layer, option) == value
    assert torch.equal(layer(inputs)[0], expected(inputs)[0])
    with pytest.raises(ValueError, match=f"{option}: expected"):
        setattr(layer, option, wrong)


@pytest.mark.parametrize("kind", OURS)
def test_a_layer_can_be_copied_and_pickled(kind):
    ours, our_options = OURS[kind]
    layer, inputs = ours(2, 3, **our_options), torch.randn(1, 4, 2)
    for copy in (deepcopy(layer), pickle.loads(pickle.dumps(layer))):
        assert torch.equal(copy(inputs)[0], layer(inputs)[0])
