"""Scans, linear recurrences and state-space layers: every form computes the same."""

import math

import numpy as np
import pytest
import torch
from devices import other_device
from hypothesis import given
from hypothesis import strategies as st
from parity import assert_equal, randomise, values_and_gradients
from torch import Tensor

from seqbook.kernels.scan import AffineMaps, associative_scan, compose_affine_maps
from seqbook.layers.linear_recurrence import LRU, MinGRU, linear_recurrence, time_constants
from seqbook.layers.state_space import (
    S4D,
    SelectiveSSM,
    causal_convolution,
    discretize,
)

LAYERS = {
    "LRU": lambda **options: LRU(3, 5, **options),
    "MinGRU": lambda **options: MinGRU(3, 5, **options),
    "S4D": lambda **options: S4D(3, 5, **options),
    "SelectiveSSM": lambda **options: SelectiveSSM(3, 5, step_rank=2, **options),
}
each_layer = pytest.mark.parametrize("kind", LAYERS)
lengths = pytest.mark.parametrize("time", [1, 2, 3, 7, 8, 31, 64, 100])


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def normal(*shape: int, dtype: torch.dtype = torch.float64, seed: int = 0) -> Tensor:
    return torch.randn(shape, dtype=dtype, generator=generator(seed))


def plain_states(decay: Tensor, inputs: Tensor, initial: Tensor) -> Tensor:
    """The recurrence as it is written, with what torch does to it by itself."""
    states, state = [], initial
    for t in range(inputs.shape[1]):
        state = decay[:, t] * state + inputs[:, t]
        states.append(state)
    return torch.stack(states, 1)


# Scans


@lengths
def test_a_scan_multiplies_matrices_in_their_order(time):
    matrices = normal(2, time, 3, 3) / 2

    (products,) = associative_scan(lambda first, second: [second[0] @ first[0]], [matrices])

    running = torch.eye(3, dtype=torch.float64)
    for t in range(time):
        running = matrices[:, t] @ running
        torch.testing.assert_close(products[:, t], running, rtol=1e-10, atol=1e-12)


@lengths
def test_a_scan_takes_few_steps_and_little_work(time):
    calls = []

    def add(first: list[Tensor], second: list[Tensor]) -> list[Tensor]:
        calls.append(first[0].shape[1])
        return [first[0] + second[0]]

    (sums,) = associative_scan(add, [torch.ones(1, time)])

    assert sums.tolist() == [[float(t) for t in range(1, time + 1)]]
    assert sum(calls) < 2 * time
    assert len(calls) <= 2 * math.log2(time)


@given(st.lists(st.tuples(*[st.floats(-2, 2)] * 6), min_size=1, max_size=20))
def test_affine_maps_compose_associatively(numbers):
    maps = [AffineMaps(*torch.tensor(numbers, dtype=torch.float64).T[i : i + 2]) for i in (0, 2, 4)]
    first, second, third = maps
    left = compose_affine_maps(compose_affine_maps(first, second), third)
    right = compose_affine_maps(first, compose_affine_maps(second, third))
    torch.testing.assert_close(left, right, rtol=1e-12, atol=1e-12)


def test_a_scan_names_elements_that_do_not_fit():
    with pytest.raises(ValueError, match=r"elements: expected tensors .*got shapes \[\]"):
        associative_scan(lambda first, second: first, [])
    with pytest.raises(ValueError, match=r"elements: expected tensors .*got shapes \[\(3,\)\]"):
        associative_scan(lambda first, second: first, [torch.ones(3)])
    with pytest.raises(ValueError, match=r"elements: expected equal times"):
        associative_scan(lambda first, second: first, [torch.ones(1, 3), torch.ones(1, 4)])


# The recurrence


@lengths
@pytest.mark.parametrize("method", ["scan", "loop"])
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.complex128])
def test_states_and_gradients_are_those_of_the_plain_loop(time, method, dtype):
    decay, inputs = normal(2, time, 3, dtype=dtype), normal(2, time, 3, dtype=dtype, seed=1)
    decay = decay / (1 + decay.abs())  # of every sign, inside the unit circle
    initial = normal(2, 3, dtype=dtype, seed=2)

    def compute(decay: Tensor, inputs: Tensor, initial: Tensor) -> Tensor:
        return real(linear_recurrence(decay, inputs, initial=initial, method=method))

    def plain(decay: Tensor, inputs: Tensor, initial: Tensor) -> Tensor:
        return real(plain_states(decay, inputs, initial))

    found = values_and_gradients(compute, decay, inputs, initial)
    expected = values_and_gradients(plain, decay, inputs, initial)
    tolerance = {torch.float64: 1e-10, torch.complex128: 1e-10, torch.float32: 1e-5}
    assert_equal(found, expected, tolerance=tolerance)


def real(tensor: Tensor) -> Tensor:
    """Real numbers that depend on both parts of complex ones."""
    return torch.view_as_real(tensor) if tensor.is_complex() else tensor


@pytest.mark.parametrize("method", ["scan", "loop"])
@pytest.mark.parametrize("dtype", [torch.float64, torch.complex128])
def test_first_and_second_derivatives_are_right(method, dtype):
    inputs = [normal(1, 5, 2, dtype=dtype, seed=i).requires_grad_() for i in range(2)]
    inputs.append(normal(1, 2, dtype=dtype, seed=2).requires_grad_())

    def compute(decay: Tensor, inputs: Tensor, initial: Tensor) -> Tensor:
        return linear_recurrence(decay, inputs, initial=initial, method=method)

    assert torch.autograd.gradcheck(compute, inputs)
    assert torch.autograd.gradgradcheck(compute, inputs)


def test_functional_transforms_work():
    decay, inputs = normal(4, 2, 6, 3), normal(4, 2, 6, 3, seed=1)

    def loss(decay: Tensor, inputs: Tensor) -> Tensor:
        return linear_recurrence(decay, inputs).square().sum()

    mapped = torch.func.vmap(torch.func.grad(loss))(decay, inputs)
    single = torch.stack([torch.func.grad(loss)(a, b) for a, b in zip(decay, inputs, strict=True)])
    torch.testing.assert_close(mapped, single)
    shared = torch.func.vmap(linear_recurrence, in_dims=(None, 0))(decay[0], inputs)
    torch.testing.assert_close(shared[2], linear_recurrence(decay[0], inputs[2]))


def test_one_decay_can_serve_all_steps():
    inputs = normal(2, 9, 3)
    decay = torch.tensor([0.9, 0.5, 0.0], dtype=torch.float64)
    states = linear_recurrence(decay, inputs)
    torch.testing.assert_close(states, linear_recurrence(decay.expand(2, 9, 3), inputs))
    torch.testing.assert_close(states[..., 2], inputs[..., 2])  # nothing is remembered


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_is_computed_in_float32(dtype):
    decay, inputs = torch.full((1, 4096), 0.999, dtype=dtype), torch.ones(1, 4096, dtype=dtype)
    states = linear_recurrence(decay, inputs)
    exact = linear_recurrence(decay.double(), inputs.double())
    assert states.dtype == dtype
    # One rounding of the result: half a unit in the last place is 2**-11 or 2**-8 of the value.
    assert ((states.double() - exact).abs() / exact).max() < 2**-7.9


def test_long_sequences_lose_nothing_to_underflow():
    inputs = torch.zeros(1, 3000)
    inputs[0, -1] = 1.0
    states = linear_recurrence(torch.tensor(0.1), inputs)  # 0.1 ** 3000 is zero
    assert states[0, -1] == 1
    assert states.isfinite().all()


def test_no_steps_have_no_states():
    assert linear_recurrence(torch.tensor(0.5), torch.zeros(2, 0, 3)).shape == (2, 0, 3)


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        (([0.5], torch.ones(1, 3)), TypeError, "decay: expected a tensor, got list"),
        ((torch.tensor(1), torch.ones(1, 3)), TypeError, "decay: expected floating .*int64"),
        ((torch.tensor(0.5), torch.ones(3)), ValueError, r"inputs: expected shape .*\(3,\)"),
        ((torch.ones(4), torch.ones(1, 3)), ValueError, r"decay: .*\(1, 3\), got \(4,\)"),
    ],
)
def test_wrong_arguments_are_named(arguments, error, message):
    with pytest.raises(error, match=message):
        linear_recurrence(*arguments)


def test_wrong_options_are_named():
    decay, inputs = torch.tensor(0.5), torch.ones(2, 3)
    with pytest.raises(ValueError, match=r"initial: expected shape \(2,\), got \(3,\)"):
        linear_recurrence(decay, inputs, initial=torch.ones(3))
    with pytest.raises(ValueError, match="method: expected 'scan' or 'loop', got 'tree'"):
        linear_recurrence(decay, inputs, method="tree")


def test_an_input_shrinks_to_one_part_in_e_within_a_time_constant():
    decay = torch.tensor([0.5, 0.9, -0.99], dtype=torch.float64)
    left = decay.abs() ** time_constants(decay)
    torch.testing.assert_close(left, torch.full_like(left, math.exp(-1)))
    assert time_constants(torch.ones(1)).isinf().all()


# Layers


def make(kind: str, dtype: torch.dtype = torch.float64, seed: int = 0, **options):
    return LAYERS[kind](generator=generator(seed), dtype=dtype, **options)


@each_layer
def test_a_layer_gives_the_same_by_scan_and_loop(kind):
    layer = randomise(make(kind), generator(3))
    inputs = normal(2, 12, 3, seed=4)
    results = [
        values_and_gradients(lambda x, m=method: layer(x, method=m)[0], inputs, module=layer)
        for method in ("scan", "loop")
    ]
    assert_equal(*results)


@each_layer
def test_a_layer_goes_on_from_its_state(kind):
    layer = make(kind)
    inputs = normal(2, 12, 3)
    whole, last = layer(inputs)
    state, parts = None, []
    for part in inputs.split([1, 6, 5], 1):
        outputs, state = layer(part, state)
        parts.append(outputs)
    torch.testing.assert_close(torch.cat(parts, 1), whole, rtol=1e-10, atol=1e-10)
    torch.testing.assert_close(state, last, rtol=1e-10, atol=1e-10)


@each_layer
def test_a_layer_sees_no_future(kind):
    layer = make(kind)
    inputs = normal(2, 12, 3)
    changed = inputs.clone()
    changed[:, 7:] += 1
    before, after = layer(inputs)[0], layer(changed)[0]
    torch.testing.assert_close(before[:, :7], after[:, :7], rtol=0, atol=1e-12)
    assert (before[:, 7] != after[:, 7]).any(-1).all()


@each_layer
def test_a_layer_follows_its_device_and_type(kind):
    with other_device() as device:
        layer = make(kind, torch.float32, device=device)
        assert {p.device for p in layer.parameters()} == {device}
        outputs, state = layer(torch.ones(2, 4, 3, device=device))
        outputs, _ = layer(torch.ones(2, 4, 3, device=device), state)
        assert outputs.device == device
        assert outputs.dtype == torch.float32
    on_cpu = make(kind, torch.float32)
    expected, state = on_cpu(torch.ones(2, 4, 3))
    expected, _ = on_cpu(torch.ones(2, 4, 3), state)
    torch.testing.assert_close(outputs.values, expected)


@each_layer
def test_a_layer_names_wrong_inputs(kind):
    layer = make(kind, torch.float32)
    with pytest.raises(TypeError, match="inputs: expected a tensor, got list"):
        layer([1.0])
    with pytest.raises(TypeError, match=r"inputs: expected torch.float32, got torch.float64"):
        layer(torch.ones(2, 4, 3, dtype=torch.float64))
    for shape in ((2, 4, 5), (4, 3), (2, 0, 3)):
        with pytest.raises(ValueError, match=r"inputs: expected shape \(batch, time, 3\)"):
            layer(torch.ones(shape))
    with pytest.raises(ValueError, match="initial: expected shape"):
        layer(torch.ones(2, 4, 3), torch.ones(2, 7))


@each_layer
def test_a_layer_names_wrong_sizes(kind):
    layer = type(make(kind))
    with pytest.raises(ValueError, match="features: expected an integer of at least 1, got 0"):
        layer(0, 4)
    with pytest.raises(TypeError, match=r"expected an integer of at least 1, got 2\.5"):
        layer(3, 2.5)
    repr_of = repr(make(kind))
    assert "features=3" in repr_of


def test_the_decays_of_an_lru_begin_in_their_ring():
    layer = LRU(2, 20_000, min_radius=0.6, max_radius=0.9, generator=generator())
    radius = layer.decay.abs()
    assert 0.6 <= radius.min() < 0.61
    assert 0.89 < radius.max() <= 0.9
    # Uniform in the area: half of it lies inside this radius. 3 standard errors are 0.011.
    inside = (radius < math.sqrt((0.36 + 0.81) / 2)).double().mean()
    assert abs(inside - 0.5) < 0.011


def test_the_states_of_an_lru_keep_the_variance_of_noise():
    layer = LRU(16, 64, min_radius=0.5, max_radius=0.98, generator=generator())
    _, state = layer(normal(4000, 300, 16, dtype=torch.float32))
    driven = torch.view_as_complex(layer.input_weight).abs().square().sum(-1)
    ratio = state.abs().square().mean(0) / driven  # 4,000 samples: standard error about 2 %
    assert (ratio - 1).abs().max() < 0.1


def test_an_lru_keeps_its_decays_inside_the_unit_circle():
    layer = LRU(2, 4)
    with torch.no_grad():
        layer.log_rate.copy_(torch.tensor([-3.0, 0.0, 3.0, 9.0]))
    assert (layer.decay.abs() < 1).all()


@pytest.mark.parametrize(("low", "high"), [(-0.1, 0.5), (0.5, 0.5), (0.9, 1.0)])
def test_an_lru_names_radii_that_do_not_fit(low, high):
    with pytest.raises(ValueError, match=rf"expected 0 <= min_radius .* got {low} and {high}"):
        LRU(2, 4, min_radius=low, max_radius=high)


def test_a_min_gru_mixes_old_and_new_by_its_gate():
    layer = make("MinGRU")
    inputs = normal(2, 6, 3)
    weight, bias = layer.weight.detach().numpy(), layer.bias.detach().numpy()
    state = np.zeros((2, 5))
    for x, output in zip(inputs.unbind(1), layer(inputs)[0].unbind(1), strict=True):
        z, n = np.split(x.numpy() @ weight.T + bias, 2, axis=-1)
        z = 1 / (1 + np.exp(-z))
        state = (1 - z) * state + z * n
        np.testing.assert_allclose(output.detach().numpy(), state, rtol=1e-10)


# Sampling a differential equation


def test_zero_order_hold_solves_the_equation_for_inputs_that_stay():
    """Many short Euler steps approach the solution; the error falls with the step."""
    rate, step, state, value = torch.tensor(-1.3 + 2j), torch.tensor(0.7), 0.4 - 0.2j, 1.5
    decay, gain = discretize(rate, step)
    count = 200_000
    fine = discretize(rate.to(torch.complex128), step.double() / count, rule="euler")
    expected = state
    power = fine.decay**count  # the sum of a geometric series instead of 200,000 steps
    expected = power * state + fine.gain * (1 - power) / (1 - fine.decay) * value
    assert abs(decay * state + gain * value - expected) < 1e-4


@pytest.mark.parametrize("rule", ["zero-order hold", "bilinear", "euler"])
def test_rules_agree_for_short_steps(rule):
    rate = torch.tensor([-2.0, -0.5 + 3j, 0.0], dtype=torch.complex128)
    step = torch.tensor(1e-5, dtype=torch.float64)
    decay, gain = discretize(rate, step, rule=rule)
    torch.testing.assert_close(decay, 1 + rate * step, rtol=0, atol=1e-8)
    torch.testing.assert_close(gain, (step + 0 * rate), rtol=0, atol=1e-8)


def test_long_steps_explode_by_eulers_rule_alone():
    rate, step = torch.tensor(-1.0), torch.tensor(3.0)
    assert discretize(rate, step, rule="euler").decay.abs() > 1
    assert discretize(rate, step, rule="bilinear").decay.abs() < 1
    assert discretize(rate, step).decay.abs() < 1
    with pytest.raises(ValueError, match="rule: expected 'zero-order hold' or"):
        discretize(rate, step, rule="midpoint")


@pytest.mark.parametrize("time", [1, 2, 9, 50])
def test_s4d_is_a_convolution(time):
    layer = make("S4D")
    inputs = normal(2, time, 3)
    results = [
        values_and_gradients(compute, inputs, module=layer)
        for compute in (lambda x: layer(x)[0], layer.convolve)
    ]
    assert_equal(*results)


def test_a_causal_convolution_adds_what_the_kernel_says():
    inputs, kernel = normal(2, 11, 3).numpy(), normal(11, 3, seed=1).numpy()
    result = causal_convolution(torch.tensor(inputs), torch.tensor(kernel)).numpy()
    for row in range(2):
        for feature in range(3):
            expected = np.convolve(inputs[row, :, feature], kernel[:, feature])[:11]
            np.testing.assert_allclose(result[row, :, feature], expected, atol=1e-12)
    with pytest.raises(ValueError, match=r"kernel: expected shape .*\(10, 3\)"):
        causal_convolution(torch.tensor(inputs), torch.tensor(kernel[:10]))


def test_the_states_of_s4d_begin_at_the_published_rates():
    layer = S4D(2, 4, shortest_step=0.01, longest_step=0.02, generator=generator())
    decay, _ = layer.sampled()
    rate = decay.log() / layer.log_step.exp()[:, None]
    torch.testing.assert_close(rate.real, torch.full((2, 4), -0.5), rtol=1e-4, atol=1e-4)
    expected = torch.pi * torch.arange(4.0).expand(2, -1)
    torch.testing.assert_close(rate.imag, expected, rtol=1e-4, atol=1e-4)
    assert ((layer.log_step.exp() >= 0.01) & (layer.log_step.exp() <= 0.02)).all()


@pytest.mark.parametrize("layer", [S4D, SelectiveSSM])
@pytest.mark.parametrize(("shortest", "longest"), [(0.0, 1.0), (0.2, 0.1)])
def test_steps_that_do_not_fit_are_named(layer, shortest, longest):
    with pytest.raises(ValueError, match=rf"got {shortest} and {longest}"):
        layer(2, 4, shortest_step=shortest, longest_step=longest)


def test_a_selective_layer_computes_what_its_equations_say():
    layer = randomise(make("SelectiveSSM"), generator(5))
    inputs = normal(1, 7, 3)
    p = {name: value.detach().numpy() for name, value in layer.named_parameters()}
    low, write, read = np.split(p["select_weight"], [2, 7])
    state = np.zeros((3, 5))
    for x, output in zip(inputs[0].numpy(), layer(inputs)[0][0], strict=True):
        step = np.log1p(np.exp(p["step_weight"] @ (low @ x) + p["step_bias"]))
        for feature in range(3):
            a = -np.exp(p["log_rate"][feature])
            new = step[feature] * (write @ x) * x[feature]
            state[feature] = np.exp(step[feature] * a) * state[feature] + new
        expected = state @ (read @ x) + p["skip"] * x
        np.testing.assert_allclose(output.detach().numpy(), expected, rtol=1e-9, atol=1e-10)


def test_the_steps_of_a_selective_layer_begin_between_their_limits():
    layer = SelectiveSSM(500, 4, shortest_step=0.01, longest_step=0.2, generator=generator())
    steps = torch.nn.functional.softplus(layer.step_bias)
    assert 0.0099 < steps.min() < 0.012
    assert 0.18 < steps.max() < 0.201
    assert layer.step_rank == 32


@each_layer
def test_a_layer_takes_half_precision_under_autocast(kind):
    layer, inputs = make(kind, torch.float32), normal(2, 9, 3, dtype=torch.float32)
    expected, _ = layer(inputs)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        outputs, _ = layer(inputs.bfloat16())
    # bfloat16 keeps 8 bits; a few products one after another lose two of them.
    assert (outputs - expected).abs().max() < 2**-5 * expected.abs().max()
