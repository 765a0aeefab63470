"""Linear attention and the delta rule: three forms of one computation."""

import math

import pytest
import torch
from devices import other_device
from parity import assert_equal, randomise, values_and_gradients
from torch import Tensor

from seqbook.layers.linear_attention import (
    FORMS,
    DeltaNet,
    LinearAttention,
    delta_rule,
    linear_attention,
)

LAYERS = {
    "LinearAttention": LinearAttention,
    "gated": lambda *sizes, **options: LinearAttention(*sizes, gated=True, **options),
    "DeltaNet": DeltaNet,
}
each_layer = pytest.mark.parametrize("kind", LAYERS)
each_form = pytest.mark.parametrize("form", FORMS)


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def normal(*shape: int, seed: int = 0, dtype: torch.dtype = torch.float64) -> Tensor:
    return torch.randn(shape, dtype=dtype, generator=generator(seed))


def heads(time: int, d_k: int = 4, d_v: int = 3) -> list[Tensor]:
    """Query, key and value of two examples with three heads, and a state to begin with."""
    sizes = (time, d_k), (time, d_k), (time, d_v), (d_k, d_v)
    return [normal(2, 3, *size, seed=seed) / 2 for seed, size in enumerate(sizes)]


def attention_as_a_sum(query: Tensor, key: Tensor, value: Tensor, decay: Tensor, state: Tensor):
    """The outputs as weighted sums over the past, without any recurrence."""
    outputs = []
    for t in range(query.shape[-2]):
        output = decay[..., : t + 1].prod(-1)[..., None] * (query[..., t, None, :] @ state).squeeze(
            -2
        )
        for s in range(t + 1):
            left = decay[..., s + 1 : t + 1].prod(-1)
            weight = left * (query[..., t, :] * key[..., s, :]).sum(-1)
            output = output + weight[..., None] * value[..., s, :]
        outputs.append(output)
    return torch.stack(outputs, -2)


def states_of_the_delta_rule(key: Tensor, value: Tensor, strength: Tensor, state: Tensor):
    """All states, by the matrix that forgets and the matrix that adds."""
    states = []
    for k, v, b in zip(key.unbind(-2), value.unbind(-2), strength.unbind(-1), strict=True):
        b = b[..., None, None]
        forget = torch.eye(k.shape[-1], dtype=k.dtype) - b * k[..., :, None] * k[..., None, :]
        state = forget @ state + b * k[..., :, None] * v[..., None, :]
        states.append(state)
    return torch.stack(states, -3)


@each_form
@pytest.mark.parametrize("time", [1, 2, 7, 8])
def test_every_form_is_the_weighted_sum_over_the_past(form, time):
    query, key, value, state = heads(time)
    logs = -normal(2, 3, time, seed=5).abs()

    def compute(query, key, value, state, logs):
        read = linear_attention(query, key, value, log_decay=logs, state=state, form=form, chunk=3)
        return read.outputs

    def plain(query, key, value, state, logs):
        return attention_as_a_sum(query, key, value, logs.exp(), state)

    inputs = (query, key, value, state, logs)
    assert_equal(values_and_gradients(compute, *inputs), values_and_gradients(plain, *inputs))


@each_form
@pytest.mark.parametrize("time", [1, 2, 7, 8])
def test_every_form_of_the_delta_rule_follows_its_matrices(form, time):
    query, key, value, state = heads(time)
    strength = normal(2, 3, time, seed=5).sigmoid()

    def compute(query, key, value, state, strength):
        return delta_rule(query, key, value, strength, state=state, form=form, chunk=3).outputs

    def plain(query, key, value, state, strength):
        states = states_of_the_delta_rule(key, value, strength, state)
        return (query.unsqueeze(-2) @ states).squeeze(-2)

    inputs = (query, key, value, state, strength)
    assert_equal(values_and_gradients(compute, *inputs), values_and_gradients(plain, *inputs))


@each_form
def test_both_go_on_from_a_state(form):
    query, key, value, _ = heads(11)
    strength = normal(2, 3, 11, seed=5).sigmoid()
    for compute in (
        lambda s, steps: linear_attention(
            *(x[..., steps, :] for x in (query, key, value)),
            log_decay=strength[..., steps].log(),
            state=s,
            form=form,
            chunk=4,
        ),
        lambda s, steps: delta_rule(
            *(x[..., steps, :] for x in (query, key, value)),
            strength[..., steps],
            state=s,
            form=form,
            chunk=4,
        ),
    ):
        whole = compute(None, slice(None))
        first = compute(None, slice(0, 5))
        second = compute(first.state, slice(5, None))
        together = torch.cat([first.outputs, second.outputs], -2)
        torch.testing.assert_close(together, whole.outputs, rtol=1e-10, atol=1e-10)
        torch.testing.assert_close(second.state, whole.state, rtol=1e-10, atol=1e-10)


def test_the_delta_rule_replaces_what_linear_attention_adds():
    keys = torch.eye(4)[[0, 1, 0, 2]]  # the first key comes again, with another value
    values = torch.tensor([[1.0], [2.0], [3.0], [4.0]])
    ones = torch.ones(4)
    assert delta_rule(keys, keys, values, ones).state.flatten().tolist() == [3, 2, 4, 0]
    assert linear_attention(keys, keys, values).state.flatten().tolist() == [4, 2, 4, 0]


@pytest.mark.parametrize("form", ["chunked", "parallel"])
def test_strong_decays_overflow_nowhere(form):
    query, key, value, _ = heads(50)
    logs = torch.full((50,), -200.0, dtype=torch.float64, requires_grad=True)
    outputs = linear_attention(query, key, value, log_decay=logs, form=form).outputs
    own = (query * key).sum(-1, keepdim=True) * value  # each step remembers itself alone
    torch.testing.assert_close(outputs, own)
    (gradient,) = torch.autograd.grad(outputs.sum(), logs)
    assert gradient.isfinite().all()


@each_form
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_is_computed_in_float32(form, dtype):
    inputs = [x.to(dtype) for x in heads(300)[:3]]
    outputs, state = linear_attention(*inputs, form=form)
    exact, _ = linear_attention(*(x.double() for x in inputs), form=form)
    assert outputs.dtype == state.dtype == dtype
    # One rounding to the type, in proportion to the largest output.
    error = (outputs.double() - exact).abs().max() / exact.abs().max()
    assert error < torch.finfo(dtype).eps


@pytest.mark.parametrize("function", [linear_attention, delta_rule])
def test_no_steps_leave_the_state(function):
    query, key, value, state = heads(0)
    strength = (torch.zeros(0, dtype=torch.float64),) if function is delta_rule else ()
    read = function(query, key, value, *strength, state=state)
    assert read.outputs.shape == (2, 3, 0, 3)
    assert torch.equal(read.state, state)


@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        ({"key": torch.ones(5, 3)}, ValueError, r"query, key, value: expected .*\(5, 3\)"),
        ({"value": torch.ones(4, 3)}, ValueError, r"query, key, value: expected .*\(4, 3\)"),
        ({"key": [1.0]}, TypeError, "key: expected a tensor, got list"),
        ({"value": torch.ones(5, 3).int()}, TypeError, "value: expected floating-point.*int32"),
        ({"query": torch.ones(4)}, ValueError, r"query: expected shape \(..., time, size\)"),
        ({"state": torch.ones(3, 4)}, ValueError, r"state: expected shape \(..., 4, 3\)"),
        ({"form": "serial"}, ValueError, "form: expected 'recurrent' or 'chunked'"),
        ({"chunk": 0}, ValueError, "chunk: expected an integer of at least 1, got 0"),
        ({"log_decay": torch.ones(7)}, ValueError, r"log_decay: .*\(5,\), got \(7,\)"),
        ({"log_decay": torch.ones(5)}, ValueError, "log_decay: expected finite, at most 0"),
        ({"log_decay": torch.zeros(5).log()}, ValueError, "log_decay: .*got -inf"),
    ],
)
def test_wrong_arguments_are_named(changes, error, message):
    arguments = {"query": torch.ones(5, 4), "key": torch.ones(5, 4), "value": torch.ones(5, 3)}
    with pytest.raises(error, match=message):
        linear_attention(**{**arguments, **changes})


def test_leading_axes_that_do_not_fit_are_named():
    with pytest.raises(ValueError, match=r"leading axes that broadcast, got shapes \(2, 5, 4\)"):
        linear_attention(torch.ones(2, 5, 4), torch.ones(3, 5, 4), torch.ones(5, 3))


# Layers


def make(kind: str, dtype: torch.dtype = torch.float64, **options):
    return LAYERS[kind](6, 2, generator=generator(), dtype=dtype, **options)


@each_layer
def test_a_layer_gives_the_same_in_every_form(kind):
    layer = randomise(make(kind), generator(3))
    inputs = normal(2, 9, 6, seed=4)
    results = [
        values_and_gradients(
            lambda x, f=form: layer(x, form=f, chunk=4).outputs, inputs, module=layer
        )
        for form in FORMS
    ]
    assert_equal(results[1], results[0])
    assert_equal(results[2], results[0])


@each_layer
def test_a_layer_goes_on_from_its_state(kind):
    layer = make(kind)
    inputs = normal(2, 9, 6)
    whole = layer(inputs)
    state, parts = None, []
    for part in inputs.split([1, 5, 3], 1):
        outputs, state = layer(part, state)
        parts.append(outputs)
    torch.testing.assert_close(torch.cat(parts, 1), whole.outputs, rtol=1e-10, atol=1e-10)
    torch.testing.assert_close(state, whole.state, rtol=1e-10, atol=1e-10)


def test_linear_attention_is_a_weighted_mean():
    layer = make("LinearAttention")
    with torch.no_grad():
        layer.out_proj_weight.copy_(torch.eye(6))
        layer.in_proj_weight[12:] = 0  # values
        layer.in_proj_weight[12, 0] = 1
    inputs = normal(2, 9, 6)
    inputs[..., 0] = 5.0  # all values are equal, so their mean is too
    outputs = layer(inputs).outputs[..., 0]
    torch.testing.assert_close(outputs, torch.full_like(outputs, 5.0))


def test_a_gated_head_forgets():
    layer = make("gated")
    with torch.no_grad():
        layer.gate_weight.zero_()
        layer.gate_bias.fill_(-30.0)  # decay exp(-30 / 16)
    inputs = normal(1, 3, 6)
    _, state = layer(inputs)
    later, _ = layer(torch.zeros(1, 1, 6, dtype=torch.float64), state)
    _, after = layer(torch.zeros(1, 1, 6, dtype=torch.float64), state)
    one = torch.ones(1, 2, 3, 1, dtype=torch.float64)  # elu(0) + 1 = 1, the new entry
    expected = math.exp(-30 / 16) * state[..., -1:] + one
    torch.testing.assert_close(after[..., -1:], expected, rtol=1e-9, atol=1e-9)
    assert later.isfinite().all()


@each_layer
def test_a_layer_follows_its_device_and_type(kind):
    with other_device() as device:
        layer = make(kind, torch.float32, device=device)
        assert {p.device for p in layer.parameters()} == {device}
        outputs, state = layer(torch.ones(2, 4, 6, device=device))
        outputs, _ = layer(torch.ones(2, 4, 6, device=device), state)
        assert outputs.device == device
    on_cpu = make(kind, torch.float32)
    expected, _ = on_cpu(torch.ones(2, 4, 6), on_cpu(torch.ones(2, 4, 6)).state)
    torch.testing.assert_close(outputs.values, expected)


@each_layer
def test_a_layer_names_what_is_wrong(kind):
    layer = make(kind, torch.float32)
    with pytest.raises(ValueError, match=r"inputs: expected shape \(batch, time, 6\)"):
        layer(torch.ones(2, 4, 5))
    with pytest.raises(TypeError, match=r"inputs: expected torch.float32, got torch.float64"):
        layer(torch.ones(2, 4, 6, dtype=torch.float64))
    with pytest.raises(ValueError, match="size: expected a multiple of 4 heads, got 6"):
        LAYERS[kind](6, 4)
    assert "size=6, num_heads=2" in repr(layer)


@each_layer
def test_a_layer_takes_half_precision_under_autocast(kind):
    layer, inputs = make(kind, torch.float32), normal(2, 9, 6, dtype=torch.float32)
    expected, _ = layer(inputs)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        outputs, _ = layer(inputs.bfloat16())
    # bfloat16 keeps 8 bits; a few products one after another lose two of them.
    assert (outputs - expected).abs().max() < 2**-5 * expected.abs().max()
