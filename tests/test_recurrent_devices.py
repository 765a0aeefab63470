"""Recurrent layers and BPTT follow their inputs' device and type, or name what differs."""

import pytest
import torch
from devices import other_device
from recurrent_layers import CELLS, LAYERS, as_parts, as_state, initial_state
from torch.nn.utils.rnn import pack_padded_sequence

from seqbook.kernels.recurrent import ACTIVATIONS
from seqbook.layers.gru import GRU
from seqbook.layers.lstm import LSTM
from seqbook.layers.rnn import RNN
from seqbook.training.bptt import (
    bptt_terms,
    jacobian_products,
    randomised_bptt,
    step_jacobians,
    truncated_bptt,
)

each_kind = pytest.mark.parametrize("kind", LAYERS)


def all_results(layer, inputs, state, lengths):
    """Outputs, final state and all gradients of a layer, on the CPU."""
    inputs.requires_grad_()
    outputs, final = layer(inputs, state, lengths=lengths)
    values = [outputs, *as_parts(final)]
    leaves = [inputs, *as_parts(state), *layer.parameters()]
    gradients = torch.autograd.grad(sum(v.square().sum() for v in values), leaves)
    assert all(result.device == inputs.device for result in (*values, *gradients))
    return [result.detach().cpu() for result in (*values, *gradients)]


@each_kind
@pytest.mark.parametrize("backward", ["manual", "autograd"])
@pytest.mark.parametrize("padded", [False, True])
@pytest.mark.parametrize("options", [{}, {"num_layers": 2, "bidirectional": True, "bias": False}])
def test_a_layer_on_another_device_computes_the_same_there(kind, backward, padded, options):
    runs = 4 if options else 1
    results = []
    with other_device() as device:
        for place in (torch.device("cpu"), device):
            generator = torch.Generator().manual_seed(0)  # one of the CPU serves every device
            layer = LAYERS[kind](
                2, 3, backward=backward, generator=generator, device=place, **options
            )
            assert all(p.device == place for p in layer.parameters())
            inputs = torch.linspace(-1, 1, 24).reshape(3, 4, 2).to(place)
            state = initial_state(kind, runs, 3, 3, device=place, requires_grad=True)
            lengths = torch.tensor([4, 1, 3]) if padded else None  # on the CPU, as torch's
            results.append(all_results(layer, inputs, state, lengths))
            if padded:
                inputs = inputs.detach()
                again = all_results(layer, inputs, state, lengths.to(place))
                assert all(map(torch.equal, again, results[-1]))
    for on_cpu, on_other in zip(*results, strict=True):
        assert torch.equal(on_cpu, on_other)


@each_kind
def test_a_layer_moves_to_another_device(kind):
    with other_device() as device:
        layer = LAYERS[kind](2, 3).to(device)
        outputs, _ = layer(torch.ones(1, 4, 2, device=device))
        assert outputs.device == device


@pytest.mark.parametrize("kind", CELLS)
def test_a_cell_follows_its_device_and_type(kind):
    with other_device() as device:
        cell = CELLS[kind](2, 3, device=device, dtype=torch.float64)
        state = cell(torch.ones(4, 2, device=device, dtype=torch.float64))
        state = cell(torch.ones(4, 2, device=device, dtype=torch.float64), state)
        for part in as_parts(state):
            assert (part.device, part.dtype) == (device, torch.float64)


@each_kind
def test_a_layer_draws_its_parameters_in_its_type(kind):
    layer = LAYERS[kind](2, 3, dtype=torch.float64)
    assert {p.dtype for p in layer.parameters()} == {torch.float64}
    assert layer(torch.ones(1, 4, 2, dtype=torch.float64))[0].dtype == torch.float64


@each_kind
def test_shapes_can_be_had_from_torchs_meta_device(kind):
    layer = LAYERS[kind](2, 3, device="meta")
    outputs, _ = layer(torch.ones(5, 4, 2, device="meta"))
    padded, _ = layer(
        torch.ones(5, 4, 2, device="meta"), lengths=torch.ones(5, device="meta", dtype=torch.int64)
    )
    assert outputs.shape == padded.shape == (5, 4, 3)


@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_the_derivatives_over_time_are_computed_on_the_states_device(activation):
    hidden = torch.linspace(-1, 1, 12).reshape(4, 3)
    weight = torch.linspace(-1, 1, 9).reshape(3, 3)
    with other_device() as device:
        for place in (device, torch.device("cpu")):
            run, matrix, initial = hidden.to(place), weight.to(place), hidden[0].to(place)
            results = [
                step_jacobians(run, matrix, activation=activation),
                jacobian_products(run, matrix, activation=activation),
                bptt_terms(run, matrix, initial=initial, activation=activation),
            ]
            assert all(result.device == place for result in results)


@pytest.mark.parametrize("kind", [RNN, LSTM, GRU])
def test_truncated_gradients_are_computed_on_the_layers_device(kind):
    gradients = []
    with other_device() as device:
        for place in (torch.device("cpu"), device):
            layer = kind(2, 3, device=place, generator=torch.Generator().manual_seed(0))
            arguments = {
                "inputs": torch.linspace(-1, 1, 28).reshape(2, 7, 2).to(place),
                "targets": torch.linspace(-1, 1, 42).reshape(2, 7, 3).to(place),
            }
            truncated_bptt(layer, torch.nn.MSELoss(reduction="sum"), window=3, **arguments)
            randomised_bptt(
                layer,
                torch.nn.MSELoss(reduction="sum"),
                keep=0.5,
                generator=torch.Generator().manual_seed(0),
                **arguments,
            )
            assert all(p.grad.device == place for p in layer.parameters())
            gradients.append(torch.cat([p.grad.flatten().cpu() for p in layer.parameters()]))
    assert torch.equal(*gradients)


@each_kind
@pytest.mark.parametrize(
    "dtype", [torch.float64, torch.bfloat16, torch.int64, torch.bool, torch.complex64]
)
def test_inputs_and_states_of_another_type_raise_an_error_that_names_both(kind, dtype):
    layer = LAYERS[kind](2, 3)
    with pytest.raises(TypeError, match=f"inputs: expected torch.float32.*got {dtype}"):
        layer(torch.ones(1, 4, 2).to(dtype))
    with pytest.raises(TypeError, match=f"hidden: expected torch.float32.*got {dtype}"):
        layer(torch.ones(1, 4, 2), initial_state(kind, 1, 1, 3, dtype=dtype))


@pytest.mark.filterwarnings("ignore:Complex modules are a new feature")
def test_a_complex_layer_is_refused():
    layer = RNN(2, 3).to(torch.complex64)
    with pytest.raises(TypeError, match=r"inputs: expected a floating type, got torch.complex64"):
        layer(torch.ones(1, 4, 2, dtype=torch.complex64))


@pytest.mark.parametrize("kind", CELLS)
def test_a_cell_refuses_another_type(kind):
    cell = CELLS[kind](2, 3)
    with pytest.raises(TypeError, match=r"inputs: expected torch.float32.*got torch.int64"):
        cell(torch.ones(4, 2, dtype=torch.int64))
    with pytest.raises(TypeError, match=r"hidden: expected torch.float32.*got torch.float64"):
        cell(torch.ones(4, 2), initial_state(kind, 4, 3, dtype=torch.float64))


@each_kind
def test_tensors_of_two_devices_raise_an_error_that_names_both(kind):
    layer = LAYERS[kind](2, 3)
    with other_device() as device:
        elsewhere = torch.ones(1, 4, 2, device=device)
        with pytest.raises(ValueError, match=r"inputs: expected device cpu.*got meta"):
            layer(elsewhere)
        with pytest.raises(ValueError, match=r"inputs: expected device meta.*got cpu"):
            LAYERS[kind](2, 3, device=device)(torch.ones(1, 4, 2))
        with pytest.raises(ValueError, match=r"hidden: expected device meta.*got cpu"):
            LAYERS[kind](2, 3, device=device)(elsewhere, initial_state(kind, 1, 1, 3))


@each_kind
@pytest.mark.parametrize("wrong", ["text", [[[1.0, 2.0]]], None, "packed"])
def test_inputs_that_are_no_tensor_raise_a_type_error(kind, wrong):
    if wrong == "packed":
        wrong = pack_padded_sequence(torch.ones(1, 4, 2), torch.tensor([4]), batch_first=True)
    with pytest.raises(TypeError, match=r"inputs: expected a tensor of shape \(batch, time, 2\)"):
        LAYERS[kind](2, 3)(wrong)


@each_kind
@pytest.mark.parametrize("wrong", [1.0, [0.0, 0.0, 0.0], "zero"])
def test_a_state_of_another_type_raises_a_type_error(kind, wrong):
    parts = [wrong] * (1 + (kind == "lstm"))
    with pytest.raises(TypeError, match="hidden: expected a tensor of shape"):
        LAYERS[kind](2, 3)(torch.ones(1, 4, 2), as_state(parts) if kind == "lstm" else wrong)


@pytest.mark.parametrize(
    "dtype",
    [
        *(torch.int8, torch.int16, torch.int32, torch.int64),
        *(torch.uint8, torch.uint16, torch.uint32, torch.uint64),
    ],
)
def test_lengths_may_be_integers_of_every_type(dtype):
    layer, inputs = GRU(2, 3), torch.ones(2, 4, 2)
    expected, _ = layer(inputs, lengths=torch.tensor([4, 2]))
    assert torch.equal(layer(inputs, lengths=torch.tensor([4, 2]).to(dtype))[0], expected)
    with pytest.raises(ValueError, match="lengths: expected 1 to 4"):
        layer(inputs, lengths=torch.tensor([5, 2]).to(dtype))


@pytest.mark.parametrize("name", ["input_size", "hidden_size", "num_layers"])
@pytest.mark.parametrize("wrong", [2.0, "2", None])
def test_a_size_of_another_type_raises_a_type_error(name, wrong):
    sizes = {"input_size": 2, "hidden_size": 3, name: wrong}
    with pytest.raises(TypeError, match=f"{name}: expected an integer of at least 1, got"):
        LSTM(**sizes)
