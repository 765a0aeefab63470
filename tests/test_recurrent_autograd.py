"""Second derivatives, torch.func and outputs changed in place are right or raise a clear error."""

import pytest
import torch
from recurrent_layers import LAYERS, as_parts, initial_state, pair
from torch import nn
from torch.autograd.functional import hessian, hvp
from torch.func import functional_call, grad, jacrev, jvp, vmap

each_kind = pytest.mark.parametrize("kind", LAYERS)
ALTERNATIVE = 'use backward="autograd" instead'


def double_pair(kind, *sizes, **options):
    generator = torch.Generator().manual_seed(0)
    return pair(kind, *sizes, dtype=torch.float64, generator=generator, **options)


def double_inputs(*shape):
    return torch.randn(shape, dtype=torch.float64, generator=torch.Generator().manual_seed(1))


def penalty(layer, inputs):
    """A loss beside a penalty on the norm of the gradient of the inputs."""
    inputs = inputs.clone().requires_grad_()
    outputs, _ = layer(inputs)
    (gradient,) = torch.autograd.grad(outputs.sum(), inputs, create_graph=True)
    (outputs.square().mean() + (gradient.norm() - 1) ** 2).backward()
    return layer.weight_hh_l0.grad


def frozen_weights(layer, inputs):
    """The derivative, with respect to the initial state, of the gradient of the inputs."""
    layer.requires_grad_(False)
    kind = type(layer).__name__.lower()
    state = initial_state(kind, 1, 2, 3, dtype=torch.float64, requires_grad=True)
    inputs = inputs.clone().requires_grad_()
    (gradient,) = torch.autograd.grad(layer(inputs, state)[0].sum(), inputs, create_graph=True)
    if not gradient.requires_grad:  # that of a linear network does not depend on the state
        return torch.zeros(())
    return torch.autograd.grad(gradient.sum(), as_parts(state)[0])[0]


def frozen_readout(layer, inputs):
    readout = nn.Linear(3, 1, dtype=torch.float64).requires_grad_(False)
    nn.init.ones_(readout.weight)
    return hessian(lambda x: readout(layer(x)[0]).sum(), inputs)


TWICE = {
    "Hessian of a linear loss": lambda layer, x: hessian(lambda q: layer(q)[0].sum(), x),
    "Hessian of a quadratic loss": lambda layer, x: hessian(
        lambda q: layer(q)[0].square().sum(), x
    ),
    "Hessian of a final state": lambda layer, x: hessian(
        lambda q: as_parts(layer(q)[1])[-1].sum(), x
    ),
    "product of Hessian and vector": lambda layer, x: hvp(lambda q: layer(q)[0].sum(), x, x)[1],
    "gradient penalty": penalty,
    "frozen readout": frozen_readout,
    "frozen weights, derivative by the initial state": frozen_weights,
}


@each_kind
@pytest.mark.parametrize("use", TWICE)
def test_differentiating_twice_raises_with_the_way_out_and_autograd_does_it(kind, use):
    manual, autograd = double_pair(kind, 2, 3)
    inputs = double_inputs(2, 4, 2)
    with pytest.raises(NotImplementedError, match=f"only once; {ALTERNATIVE}"):
        TWICE[use](manual, inputs)
    assert TWICE[use](autograd, inputs).isfinite().all()


@each_kind
def test_a_gradient_with_a_graph_is_right_as_long_as_nobody_differentiates_it(kind):
    inputs = double_inputs(2, 4, 2).requires_grad_()
    gradients = []
    for layer in double_pair(kind, 2, 3):
        outputs, _ = layer(inputs)
        leaves = [inputs, *layer.parameters()]
        gradients.append(torch.autograd.grad(outputs.square().sum(), leaves, create_graph=True))
    for manual, autograd in zip(*gradients, strict=True):
        torch.testing.assert_close(manual, autograd, rtol=1e-10, atol=1e-10)
        with torch.no_grad():
            manual.mul_(2)  # as clipping does


def per_example(layer, inputs):
    """The gradients of each example, for all parameters."""
    parameters = {name: p.detach() for name, p in layer.named_parameters()}

    def loss(parameters, example):
        return functional_call(layer, parameters, (example[None],))[0].square().sum()

    return vmap(grad(loss), in_dims=(None, 0))(parameters, inputs)


@each_kind
def test_gradients_of_each_example_by_torch_func(kind):
    manual, autograd = double_pair(kind, 2, 3, num_layers=2)
    inputs = double_inputs(3, 4, 2)
    with pytest.raises(NotImplementedError, match=f"vmap; {ALTERNATIVE}"):
        per_example(manual, inputs)
    together = per_example(autograd, inputs)
    for number, example in enumerate(inputs):
        manual.zero_grad()
        manual(example[None])[0].square().sum().backward()
        for name, parameter in manual.named_parameters():
            torch.testing.assert_close(
                together[name][number], parameter.grad, rtol=1e-10, atol=1e-10
            )


@pytest.mark.filterwarnings("ignore:`torch.jit.script` is deprecated")  # of torch.func itself
@each_kind
def test_forward_mode_and_jacobians_by_torch_func(kind):
    manual, autograd = double_pair(kind, 2, 3)
    inputs = double_inputs(1, 4, 2)
    with pytest.raises(NotImplementedError, match=f"forward-mode differentiation; {ALTERNATIVE}"):
        jvp(lambda x: manual(x)[0], (inputs,), (inputs,))
    with pytest.raises(NotImplementedError, match=f"vmap; {ALTERNATIVE}"):
        jacrev(lambda x: manual(x)[0])(inputs)
    _, forward = jvp(lambda x: autograd(x)[0], (inputs,), (inputs,))
    jacobian = jacrev(lambda x: autograd(x)[0])(inputs)
    torch.testing.assert_close(torch.einsum("btkBTf,BTf->btk", jacobian, inputs), forward)


@each_kind
def test_the_gradient_by_torch_func_is_the_gradient(kind):
    manual, autograd = double_pair(kind, 2, 3)
    inputs = double_inputs(2, 4, 2)
    expected = grad(lambda x: autograd(x)[0].square().sum())(inputs)
    actual = grad(lambda x: manual(x)[0].square().sum())(inputs)
    torch.testing.assert_close(actual, expected, rtol=1e-10, atol=1e-10)
    with pytest.raises(NotImplementedError, match=f"only once; {ALTERNATIVE}"):
        grad(lambda x: grad(lambda q: manual(q)[0].sum())(x).sum())(inputs)


def zero_first_step(outputs):
    outputs[:, 0] = 0


IN_PLACE = {
    "add": lambda outputs: outputs.add_(1),
    "scale": lambda outputs: outputs.mul_(3),
    "zero the first step": zero_first_step,
    "ReLU": nn.ReLU(inplace=True),
    "dropout": nn.Dropout(1 / 2, inplace=True),
}


@each_kind
@pytest.mark.parametrize("change", IN_PLACE)
@pytest.mark.parametrize("options", [{}, {"num_layers": 2, "bidirectional": True}])
@pytest.mark.parametrize("batch", [1, 3])
def test_outputs_and_final_states_can_be_changed_in_place(kind, change, options, batch):
    inputs = double_inputs(batch, 4, 2)
    gradients = []
    for layer in double_pair(kind, 2, 3, **options):
        torch.manual_seed(0)
        outputs, final = layer(inputs)
        IN_PLACE[change](outputs)
        for part in as_parts(final):
            part.mul_(2)
        loss = outputs.square().sum() + sum(part.sum() for part in as_parts(final))
        gradients.append(torch.autograd.grad(loss, list(layer.parameters())))
    for manual, autograd in zip(*gradients, strict=True):
        torch.testing.assert_close(manual, autograd, rtol=1e-10, atol=1e-10)


@each_kind
def test_changing_the_weights_before_the_backward_pass_raises(kind):
    layer = LAYERS[kind](2, 3)
    outputs, _ = layer(torch.randn(2, 4, 2))
    with torch.no_grad():
        layer.weight_hh_l0.mul_(2)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        outputs.sum().backward()
