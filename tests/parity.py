"""Two computations compared in their values and in all their gradients."""

from collections.abc import Callable

import torch
from torch import Tensor, nn

TOLERANCE = {torch.float64: 1e-10, torch.float32: 1e-5}


def values_and_gradients(
    compute: Callable, *inputs: Tensor, module: nn.Module | None = None
) -> dict[str, Tensor]:
    """What ``compute(*inputs)`` gives, and the gradients of a random loss on it."""
    inputs = [x.detach().clone().requires_grad_() for x in inputs]
    values = compute(*inputs)
    parameters = {} if module is None else dict(module.named_parameters())
    generator = torch.Generator().manual_seed(0)
    loss = torch.randn(values.shape, generator=generator, dtype=torch.float64).to(values)
    leaves = {f"input {i}": x for i, x in enumerate(inputs)} | parameters
    gradients = torch.autograd.grad(values, list(leaves.values()), loss)
    return {"values": values.detach(), **dict(zip(leaves, gradients, strict=True))}


def assert_equal(
    actual: dict[str, Tensor], expected: dict[str, Tensor], *, tolerance: dict = TOLERANCE
) -> None:
    """Equal within the tolerance, relative to the largest entry where that exceeds one.

    Rounding leaves a sum an error in proportion to its largest terms, also where they cancel.
    """
    assert actual.keys() == expected.keys()
    for name, b in expected.items():
        a = actual[name]
        assert (a.dtype, a.shape) == (b.dtype, b.shape), name
        limit = tolerance[b.dtype] * max(1.0, b.abs().max().item())
        assert (a - b).abs().max() <= limit, name


def randomise(module: nn.Module, generator: torch.Generator) -> nn.Module:
    """Give every parameter random entries, so that none is a one or a zero that hides a mistake."""
    with torch.no_grad():
        for parameter in module.parameters():
            noise = torch.randn(parameter.shape, generator=generator, dtype=torch.float64)
            parameter.copy_(0.5 * noise + (parameter.dim() == 1))
    return module


def dependence(compute: Callable[[Tensor], Tensor], inputs: Tensor) -> Tensor:
    """Which inputs each output has a gradient of, bool ``(output time, input time)``."""
    inputs = inputs.detach().clone().requires_grad_()
    outputs = compute(inputs)
    generator = torch.Generator().manual_seed(0)
    rows = []
    for output in outputs.unbind(-2):
        loss = torch.randn(output.shape, generator=generator, dtype=torch.float64).to(output)
        (gradient,) = torch.autograd.grad(output, inputs, loss, retain_graph=True)
        rows.append(gradient.ne(0).any(-1).flatten(0, -2).any(0))
    return torch.stack(rows)
