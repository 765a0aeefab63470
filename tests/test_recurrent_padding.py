"""A padded sequence gives what it gives alone, whatever the padding holds."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from seqbook.layers.gru import GRU
from seqbook.layers.lstm import LSTM
from seqbook.layers.rnn import RNN

PAIRS = {"rnn": (RNN, nn.RNN), "lstm": (LSTM, nn.LSTM), "gru": (GRU, nn.GRU)}
ENGINES = ["manual", "autograd"]

batches = st.lists(st.integers(1, 6), min_size=1, max_size=4)
options = st.fixed_dictionaries(
    {"num_layers": st.integers(1, 2), "bidirectional": st.booleans(), "bias": st.booleans()}
)


def parts(state):
    return (state,) if isinstance(state, torch.Tensor) else tuple(state)


def as_state(values):
    return values[0] if len(values) == 1 else tuple(values)


def outcome(module, run, inputs):
    """Outputs, final state, and the gradients of a loss on all of them."""
    module.zero_grad()
    inputs = inputs.clone().requires_grad_()
    outputs, state = run(inputs)
    values = [outputs, *parts(state)]
    sum(value.sin().sum() for value in values).backward()
    return [*values, inputs.grad, *(p.grad.clone() for p in module.parameters())]


def assert_equal(actual, expected):
    for a, e in zip(actual, expected, strict=True):
        torch.testing.assert_close(a, e, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("backward", ENGINES)
@pytest.mark.parametrize("kind", PAIRS)
@settings(deadline=None, derandomize=True, max_examples=15)
@given(lengths=batches, extra=st.integers(0, 2), option=options, seed=st.integers(0, 2**16))
def test_a_padded_batch_equals_torchs_packed_sequence(kind, backward, lengths, extra, option, seed):
    ours, theirs = PAIRS[kind]
    torch.manual_seed(seed)
    reference = theirs(3, 4, batch_first=True, **option).double()
    layer = ours(3, 4, backward=backward, **option).double()
    layer.load_state_dict(reference.state_dict())
    time = max(lengths) + extra
    inputs = torch.randn(len(lengths), time, 3, dtype=torch.float64)
    lengths = torch.tensor(lengths)

    def packed(inputs):
        sequences = pack_padded_sequence(inputs, lengths, batch_first=True, enforce_sorted=False)
        outputs, state = reference(sequences)
        return pad_packed_sequence(outputs, batch_first=True, total_length=time)[0], state

    assert_equal(
        outcome(layer, lambda x: layer(x, lengths=lengths), inputs),
        outcome(reference, packed, inputs),
    )


@pytest.mark.parametrize("content", [0.0, 1e300, float("inf"), float("nan")])
@pytest.mark.parametrize("backward", ENGINES)
@pytest.mark.parametrize("kind", PAIRS)
def test_nothing_depends_on_what_the_padding_holds(kind, backward, content):
    layer = PAIRS[kind][0](3, 4, num_layers=2, bidirectional=True, backward=backward).double()
    lengths = torch.tensor([5, 2, 1])
    inputs = torch.randn(3, 5, 3, dtype=torch.float64)
    filled = inputs.clone()
    for row, length in enumerate(lengths):
        filled[row, length:] = content
    expected, actual = (
        outcome(layer, lambda x: layer(x, lengths=lengths), values) for values in (inputs, filled)
    )
    for a, e in zip(actual, expected, strict=True):
        assert torch.equal(a, e)


@pytest.mark.parametrize("backward", ENGINES)
@pytest.mark.parametrize("kind", PAIRS)
def test_each_sequence_gives_the_same_as_alone(kind, backward):
    layer = PAIRS[kind][0](3, 4, num_layers=2, bidirectional=True, backward=backward).double()
    lengths = torch.tensor([2, 6, 1])
    inputs = torch.randn(3, 6, 3, dtype=torch.float64)
    state = [torch.randn(4, 3, 4, dtype=torch.float64) for _ in range(1 + (kind == "lstm"))]
    together, final = layer(inputs, as_state(state), lengths=lengths)
    for row, length in enumerate(lengths.tolist()):
        own = as_state([part[:, row : row + 1] for part in state])
        alone, last = layer(inputs[row : row + 1, :length], own)
        assert_equal([together[row, :length]], [alone[0]])
        assert_equal([p[:, row] for p in parts(final)], [p[:, 0] for p in parts(last)])
        assert not together[row, length:].any()


@pytest.mark.parametrize("backward", ENGINES)
def test_full_lengths_change_nothing(backward):
    layer = LSTM(3, 4, bidirectional=True, backward=backward).double()
    inputs = torch.randn(2, 5, 3, dtype=torch.float64)
    full = torch.tensor([5, 5], dtype=torch.int32)
    assert_equal(
        outcome(layer, lambda x: layer(x, lengths=full), inputs), outcome(layer, layer, inputs)
    )


@pytest.mark.parametrize(
    ("lengths", "message"),
    [
        ([3, 6], r"expected 1 to 5 for inputs of shape \(2, 5, 3\), got \[3, 6\] of shape \(2,\)"),
        ([3, 0], r"expected 1 to 5 for inputs of shape \(2, 5, 3\), got \[3, 0\] of shape \(2,\)"),
        ([3, 4, 5], r"expected shape \(2,\) for inputs of shape \(2, 5, 3\), got \(3,\)"),
        ([[3, 4]], r"expected shape \(2,\) for inputs of shape \(2, 5, 3\), got \(1, 2\)"),
    ],
)
def test_wrong_lengths_raise_an_error_with_both_shapes(lengths, message):
    with pytest.raises(ValueError, match=message):
        RNN(3, 4)(torch.ones(2, 5, 3), lengths=torch.tensor(lengths))


@pytest.mark.parametrize(
    ("lengths", "received"), [(torch.tensor([3.0, 4.0]), "torch.float32"), ([3, 4], "list")]
)
def test_lengths_that_are_not_integers_raise(lengths, received):
    with pytest.raises(TypeError, match=f"expected a tensor of integers, got {received}"):
        RNN(3, 4)(torch.ones(2, 5, 3), lengths=lengths)
