"""The sum over the past, truncation and its unbiased version, against autograd."""

import pytest
import torch
from torch.autograd.functional import jacobian
from torch.utils.flop_counter import FlopCounterMode

from seqbook.kernels.recurrent import ACTIVATIONS
from seqbook.layers.gru import GRU
from seqbook.layers.lstm import LSTM, LSTMState
from seqbook.layers.rnn import RNN, rnn_step
from seqbook.training.bptt import (
    bptt_terms,
    detach_state,
    jacobian_products,
    randomised_bptt,
    step_jacobians,
    truncated_bptt,
)


@pytest.fixture
def network():
    """A vanilla RNN's weights, inputs ``(time, features)`` and initial state, in float64."""
    generator = torch.Generator().manual_seed(3)
    return {
        name: torch.randn(shape, generator=generator, dtype=torch.float64)
        for name, shape in {
            "weight_ih": (4, 2),
            "weight_hh": (4, 4),
            "bias_ih": (4,),
            "inputs": (7, 2),
            "initial": (4,),
        }.items()
    }


def states(network, *, activation, **changed):
    weights = {**network, **changed}
    inputs, hidden = weights.pop("inputs"), weights.pop("initial")
    run = []
    for x in inputs:
        hidden = rnn_step(x, hidden, **weights, activation=activation)
        run.append(hidden)
    return torch.stack(run)


@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_the_terms_add_up_to_the_derivative_that_autograd_finds(network, activation):
    run = states(network, activation=activation)
    terms = bptt_terms(run, network["weight_hh"], initial=network["initial"], activation=activation)
    total = jacobian(
        lambda w: states(network, activation=activation, weight_hh=w)[-1], network["weight_hh"]
    )
    scale = max(1.0, total.abs().max())
    assert terms.shape == (7, 4, 4, 4)
    assert (terms.sum(0) - total).abs().max() <= 1e-10 * scale
    assert (terms[1:].sum(0) - total).abs().max() > 1e-10 * scale  # and none may be left out


@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_each_term_is_the_derivative_through_one_step_alone(network, activation):
    """Term i is what autograd finds if only step i uses the weights that are differentiated."""
    run = states(network, activation=activation)
    weight = network["weight_hh"]
    terms = bptt_terms(run, weight, initial=network["initial"], activation=activation)
    for i in range(len(run)):

        def last(at_step_i, i=i):
            hidden = network["initial"]
            for t, x in enumerate(network["inputs"]):
                hidden = rnn_step(
                    x,
                    hidden,
                    weight_ih=network["weight_ih"],
                    weight_hh=at_step_i if t == i else weight,
                    bias_ih=network["bias_ih"],
                    activation=activation,
                )
            return hidden

        torch.testing.assert_close(terms[i], jacobian(last, weight), rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_jacobian_products_equal_the_norms_that_autograd_finds(network, activation):
    run = states(network, activation=activation)
    norms = jacobian_products(run, network["weight_hh"], activation=activation)
    assert norms[0] == 1
    for lag in range(1, 8):
        start = network["initial"] if lag == 7 else run[6 - lag]
        later = network["inputs"][7 - lag :]
        whole = jacobian(
            lambda h, x=later: states(network, activation=activation, inputs=x, initial=h)[-1],
            start,
        )
        torch.testing.assert_close(norms[lag], torch.linalg.matrix_norm(whole, ord=2))


@pytest.mark.parametrize("radius", [0.5, 1.0, 2.0])
def test_without_activation_the_norm_is_a_power_of_the_spectral_radius(radius):
    rotation, _ = torch.linalg.qr(torch.randn(5, 5, generator=torch.Generator().manual_seed(0)))
    hidden = torch.randn(3, 20, 5)  # a batch of three; a linear step does not depend on the state
    norms = jacobian_products(hidden, radius * rotation, activation="identity")
    expected = radius ** torch.arange(21, dtype=torch.float64).expand(3, 21)
    torch.testing.assert_close(norms, expected, rtol=1e-5, atol=0)


def test_wrong_states_and_activations_raise(network):
    run = states(network, activation="tanh")
    with pytest.raises(ValueError, match=r"\(7, 4\) and \(4, 3\)"):
        step_jacobians(run, network["weight_hh"][:, :3])
    with pytest.raises(ValueError, match="activation: expected 'tanh'"):
        step_jacobians(run, network["weight_hh"], activation="gelu")
    with pytest.raises(ValueError, match=r"\(7, 4\) and \(3,\)"):
        bptt_terms(run, network["weight_hh"], initial=network["initial"][:3])


def squared_error(outputs, targets):
    return (outputs - targets).square().sum()


def task(kind, *, time=7, hidden=3):
    generator = torch.Generator().manual_seed(1)
    layer = kind(2, hidden, generator=generator).double()
    with torch.no_grad():  # so that the past matters
        layer.weight_hh_l0.mul_(2)
    inputs = torch.randn(2, time, 2, generator=generator, dtype=torch.float64)
    targets = torch.randn(2, time, hidden, generator=generator, dtype=torch.float64)
    return layer, inputs, targets


def gradient(layer):
    flat = torch.cat([p.grad.flatten() for p in layer.parameters()])
    layer.zero_grad()
    return flat


def full_gradient(layer, inputs, targets):
    loss = squared_error(layer(inputs)[0], targets)
    loss.backward()
    return loss.item(), gradient(layer)


@pytest.mark.parametrize("kind", [RNN, LSTM, GRU])
def test_one_window_of_the_whole_length_gives_the_full_gradient(kind):
    layer, inputs, targets = task(kind)
    loss, full = full_gradient(layer, inputs, targets)
    for window in (7, 100):
        value = truncated_bptt(layer, squared_error, inputs=inputs, targets=targets, window=window)
        assert value == pytest.approx(loss, rel=1e-12)
        torch.testing.assert_close(gradient(layer), full, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("window", [2, 8, 32])
def test_a_window_keeps_its_inputs_its_states_and_the_weights(window):
    """The chapter's formula for the memory of truncated backpropagation."""
    batch, time, features, size = 4, 32, 3, 16
    layer, kept = RNN(features, size), []

    def keep(tensor):
        kept[-1] += tensor.numel()
        return tensor

    def watched(inputs, state):
        kept.append(0)
        with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
            return layer(inputs, state)

    inputs, targets = torch.ones(batch, time, features), torch.ones(batch, time, size)
    truncated_bptt(watched, squared_error, inputs=inputs, targets=targets, window=window)
    states, weights = (window + 1) * batch * size, size * (features + size)
    assert kept == [states + window * batch * features + weights] * (time // window)


def test_truncation_leaves_the_work_nearly_as_it_is():
    layer = RNN(3, 16, backward="autograd")  # whose products the counter sees
    arguments = {"inputs": torch.ones(4, 128, 3), "targets": torch.ones(4, 128, 16)}
    work = []
    for window in (2, 128):
        with FlopCounterMode(display=False) as counter:
            truncated_bptt(layer, squared_error, window=window, **arguments)
        work.append(counter.get_total_flops())
    assert work[0] <= work[1] < 1.2 * work[0]


@pytest.mark.parametrize("kind", [RNN, LSTM, GRU])
def test_stateful_windows_keep_the_loss_and_cut_the_gradient(kind):
    layer, inputs, targets = task(kind)
    loss, full = full_gradient(layer, inputs, targets)
    value = truncated_bptt(layer, squared_error, inputs=inputs, targets=targets, window=3)
    cut = gradient(layer)
    assert value == pytest.approx(loss, rel=1e-12)
    assert (cut - full).abs().max() > 1e-3

    state, total = None, 0.0
    for start, stop in ((0, 3), (3, 6), (6, 7)):
        outputs, state = layer(inputs[:, start:stop], state)
        total = total + squared_error(outputs, targets[:, start:stop])
        state = state.detach() if kind is not LSTM else LSTMState(*(s.detach() for s in state))
    total.backward()
    torch.testing.assert_close(cut, gradient(layer), rtol=1e-10, atol=1e-10)


def test_stateless_windows_are_separate_sequences():
    layer, inputs, targets = task(GRU, time=6)
    value = truncated_bptt(
        layer, squared_error, inputs=inputs, targets=targets, window=3, stateful=False
    )
    cut = gradient(layer)
    folded = torch.cat([inputs[:, :3], inputs[:, 3:]]), torch.cat([targets[:, :3], targets[:, 3:]])
    loss, separate = full_gradient(layer, *folded)
    assert value == pytest.approx(loss, rel=1e-12)
    torch.testing.assert_close(cut, separate, rtol=1e-10, atol=1e-10)
    assert loss != pytest.approx(full_gradient(layer, inputs, targets)[0], rel=1e-3)


def randomised(layer, inputs, targets, *, keep, seed, window=1):
    generator = torch.Generator().manual_seed(seed)
    loss = randomised_bptt(
        layer,
        squared_error,
        inputs=inputs,
        targets=targets,
        keep=keep,
        generator=generator,
        window=window,
    )
    return loss, gradient(layer)


@pytest.mark.parametrize("kind", [RNN, LSTM, GRU])
def test_without_cuts_the_randomised_gradient_is_the_full_one(kind):
    layer, inputs, targets = task(kind)
    loss, full = full_gradient(layer, inputs, targets)
    for window in (1, 3):
        value, randomised_gradient = randomised(
            layer, inputs, targets, keep=1.0, seed=0, window=window
        )
        assert value == pytest.approx(loss, rel=1e-12)
        torch.testing.assert_close(randomised_gradient, full, rtol=1e-10, atol=1e-10)


def test_randomised_truncation_is_unbiased_and_truncation_is_not():
    """Each entry's mean over n seeded runs lies within 5 standard errors of the full gradient.

    The gradient has 21 entries; if each mean is normal, one of them lies farther out with a
    probability of 1.2e-5. Cutting every step, whose error the same yardstick must see, lies much
    farther from the full gradient than that.
    """
    layer, inputs, targets = task(RNN, time=5)
    runs = 800
    loss, full = full_gradient(layer, inputs, targets)
    estimates = []
    for seed in range(runs):
        value, estimate = randomised(layer, inputs, targets, keep=0.6, seed=seed)
        assert value == pytest.approx(loss, rel=1e-12)
        estimates.append(estimate)
    estimates = torch.stack(estimates)
    error = estimates.std(0) / runs**0.5
    assert (error > 0).any()
    assert ((estimates.mean(0) - full).abs() <= 5 * error + 1e-10).all()

    truncated_bptt(layer, squared_error, inputs=inputs, targets=targets, window=1)
    assert ((gradient(layer) - full).abs() > 10 * error).any()


def test_wrong_windows_and_probabilities_raise():
    layer, inputs, targets = task(RNN)
    with pytest.raises(ValueError, match=r"\(2, 7, 2\) and \(2, 6, 3\)"):
        truncated_bptt(layer, squared_error, inputs=inputs, targets=targets[:, :6], window=2)
    with pytest.raises(ValueError, match="window: expected an integer of at least 1, got 0"):
        truncated_bptt(layer, squared_error, inputs=inputs, targets=targets, window=0)
    for keep in (0.0, 1.5):
        with pytest.raises(ValueError, match="keep: expected a probability"):
            randomised(layer, inputs, targets, keep=keep, seed=0)


def test_a_detached_state_keeps_its_type_and_values():
    state = LSTMState(torch.ones(2, requires_grad=True), torch.zeros(2, requires_grad=True))
    cut = detach_state(state)
    assert isinstance(cut, LSTMState)
    assert not cut.hidden.requires_grad
    assert torch.equal(cut.hidden, state.hidden)
    assert not detach_state(state.cell).requires_grad


def test_detach_state_also_detaches_torchs_own_pairs_of_states():
    inputs = torch.randn(2, 3, 4, generator=torch.Generator().manual_seed(0))
    _, state = torch.nn.LSTM(4, 5, batch_first=True)(inputs)
    hidden, cell = detach_state(state)
    assert not hidden.requires_grad
    assert not cell.requires_grad


@pytest.mark.parametrize("wrong", [None, [torch.ones(2)], (torch.ones(2), 1.0)])
def test_an_invalid_state_raises_a_type_error(wrong):
    with pytest.raises(TypeError, match="state: expected a tensor or a tuple of tensors, got"):
        detach_state(wrong)


def test_arguments_of_other_types_raise_a_type_error(network):
    run, weight = states(network, activation="tanh"), network["weight_hh"]
    with pytest.raises(TypeError, match="hidden: expected a Tensor"):
        jacobian_products(run.numpy(), weight)
    with pytest.raises(TypeError, match="weight_hh: expected a Tensor"):
        step_jacobians(run, weight.numpy())
    with pytest.raises(TypeError, match="initial: expected a Tensor"):
        bptt_terms(run, weight, initial=network["initial"].tolist())
    layer, inputs, targets = task(RNN)
    arguments = {"inputs": inputs, "targets": targets}
    with pytest.raises(TypeError, match="window: expected an integer"):
        truncated_bptt(layer, squared_error, window=2.0, **arguments)
    with pytest.raises(TypeError, match="targets: expected a Tensor"):
        truncated_bptt(layer, squared_error, window=2, **(arguments | {"targets": [0.0]}))
    with pytest.raises(TypeError, match="generator: expected a Generator, as from"):
        randomised_bptt(layer, squared_error, keep=0.5, generator=0, **arguments)
