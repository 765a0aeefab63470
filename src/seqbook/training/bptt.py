"""Backpropagation through time: the sum over the past, and cutting it short.

The derivative of a recurrence is a sum over all earlier steps, each weighted by a product of
Jacobians: ``bptt_terms`` and ``jacobian_products`` compute both for a vanilla RNN.
``truncated_bptt`` cuts the sum; ``randomised_bptt`` cuts it at random places without bias.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from seqbook.kernels.recurrent import ACTIVATIONS
from seqbook.validation import check_choice

__all__ = [
    "bptt_terms",
    "detach_state",
    "jacobian_products",
    "randomised_bptt",
    "step_jacobians",
    "truncated_bptt",
]


# 1. The sum over the past


def step_jacobians(hidden: Tensor, weight_hh: Tensor, *, activation: str = "tanh") -> Tensor:
    r"""Jacobian of each step of a vanilla RNN with respect to the state before it.

    .. math:: \frac{\partial h_j}{\partial h_{j-1}} = \operatorname{diag}(\phi'(a_j))\, W_h,
        \qquad h_j = \phi(a_j), \quad a_j = W_x x_j + W_h h_{j-1} + b

    Shape:
        hidden ``(..., time, hidden)``, the states h_1 to h_T of a run; weight_hh
        ``(hidden, hidden)``; result ``(..., time, hidden, hidden)``.

    Raises:
        ValueError: The shapes do not fit, or the activation is unknown.

    Source: Pascanu, Mikolov and Bengio (2013), equation 5.
    """
    check_choice("activation", activation, ACTIVATIONS)
    size = hidden.shape[-1]
    if hidden.dim() < 2 or weight_hh.shape != (size, size):
        raise ValueError(
            f"expected hidden (..., time, hidden) and weight_hh (hidden, hidden), got shapes "
            f"{tuple(hidden.shape)} and {tuple(weight_hh.shape)}"
        )
    return ACTIVATIONS[activation].derivative(hidden).unsqueeze(-1) * weight_hh


def jacobian_products(hidden: Tensor, weight_hh: Tensor, *, activation: str = "tanh") -> Tensor:
    r"""How much of a change of the state is left after a number of steps.

    .. math:: \Big\lVert \prod_{j=T-k+1}^{T} \frac{\partial h_j}{\partial h_{j-1}} \Big\rVert_2,
        \qquad k = 0, \dots, T

    the largest factor by which a small change of h_{T-k} can reach h_T, computed in float64.

    Shape:
        hidden ``(..., time, hidden)``, the states h_1 to h_T; weight_hh ``(hidden, hidden)``;
        result ``(..., time + 1)``, by lag, with 1 at lag 0.

    Raises:
        ValueError: The shapes do not fit, or the activation is unknown.

    Source: Pascanu, Mikolov and Bengio (2013), equations 5 to 7.
    """
    jacobians = step_jacobians(hidden.double(), weight_hh.double(), activation=activation)
    product = torch.eye(hidden.shape[-1], dtype=torch.float64).expand_as(jacobians[..., 0, :, :])
    products = [product]
    for jacobian in reversed(jacobians.unbind(-3)):
        product = product @ jacobian
        products.append(product)
    return torch.linalg.matrix_norm(torch.stack(products, dim=-3), ord=2)


def bptt_terms(
    hidden: Tensor, weight_hh: Tensor, *, initial: Tensor, activation: str = "tanh"
) -> Tensor:
    r"""The terms of the derivative of the last state with respect to the recurrent weights.

    .. math:: \frac{\mathrm{d} h_T}{\mathrm{d} W_h} = \sum_{i=1}^{T}
        \Big( \prod_{j=i+1}^{T} \frac{\partial h_j}{\partial h_{j-1}} \Big)
        \frac{\partial^+ h_i}{\partial W_h}

    The explicit partial derivative, marked +, holds h_{i-1} fixed; the total derivative on the
    left does not. Its entries are those of an outer product:

    .. math:: \frac{\partial^+ h_i[k]}{\partial W_h[a, b]}
        = \delta_{ka}\, \phi'(a_i)[a]\, h_{i-1}[b]

    Shape:
        hidden ``(time, hidden)``, the states h_1 to h_T; initial ``(hidden,)``, the state h_0;
        weight_hh ``(hidden, hidden)``; result float64 ``(time, hidden, hidden, hidden)``:
        ``result[i - 1, k, a, b]`` is term i of the derivative of h_T[k] with respect to
        W_h[a, b]. Its sum over the first axis is the whole derivative.

    Raises:
        ValueError: The shapes do not fit, or the activation is unknown.

    Source: Werbos (1990); Pascanu, Mikolov and Bengio (2013), equations 3 to 5.
    """
    if hidden.dim() != 2 or initial.shape != hidden.shape[1:]:
        raise ValueError(
            f"expected hidden (time, hidden) and initial (hidden,), got shapes "
            f"{tuple(hidden.shape)} and {tuple(initial.shape)}"
        )
    hidden, weight_hh = hidden.double(), weight_hh.double()
    jacobians = step_jacobians(hidden, weight_hh, activation=activation)
    derivatives = ACTIVATIONS[activation].derivative(hidden)
    before = torch.cat([initial.double().unsqueeze(0), hidden[:-1]])  # h_0 .. h_{T-1}
    product = torch.eye(hidden.shape[1], dtype=torch.float64)
    terms = []
    for i in reversed(range(len(hidden))):
        terms.append(torch.einsum("ka,a,b->kab", product, derivatives[i], before[i]))
        product = product @ jacobians[i]
    return torch.stack(terms[::-1])


# 2. Cutting the sum


def detach_state(state: Any) -> Any:
    """The same state, cut from the graph that made it: a tensor, or a tuple of them."""
    return _each(Tensor.detach, state)


def truncated_bptt(
    layer: Callable,
    loss: Callable[[Tensor, Tensor], Tensor],
    *,
    inputs: Tensor,
    targets: Tensor,
    window: int,
    stateful: bool = True,
    state: Any = None,
) -> float:
    """Add the gradient of a long sequence's loss to ``.grad``, cut every ``window`` steps.

    The sequence is run window by window and each window is backpropagated at once, so only one
    window's graph is ever in memory. A ``window`` of the whole length gives the full gradient.

    Args:
        layer: Maps ``(inputs, state)`` to ``(outputs, state)``, as this package's layers do.
        loss: Maps the outputs and targets of some steps to a scalar, a *sum* over the steps.
        inputs: The sequence, ``(batch, time, features)``.
        targets: One target for each step, ``(batch, time, ...)``.
        window: Steps between cuts; the last window may be shorter.
        stateful: Whether a window starts from the state in which the one before ended (its value,
            not its history). If not, each starts from zero: that also changes the loss.
        state: The state before the first step, by default zero.

    Returns:
        The loss of the whole sequence.

    Raises:
        ValueError: ``window`` is not positive, or the lengths of inputs and targets differ.

    Source: Williams and Peng (1990), with the window moved by its whole length.
    """
    _check_windows(inputs, targets, window)
    total = 0.0
    for x, y in zip(inputs.split(window, 1), targets.split(window, 1), strict=True):
        outputs, state = layer(x, state)
        value = loss(outputs, y)
        value.backward()
        total += value.item()
        state = detach_state(state) if stateful else None
    return total


def randomised_bptt(
    layer: Callable,
    loss: Callable[[Tensor, Tensor], Tensor],
    *,
    inputs: Tensor,
    targets: Tensor,
    keep: float,
    generator: torch.Generator,
    window: int = 1,
    state: Any = None,
) -> float:
    r"""Add an unbiased estimate of the full gradient to ``.grad``, from windows of random length.

    At each multiple of ``window`` the graph is cut with probability 1 - p, and otherwise the
    gradient that passes is multiplied by 1 / p, with p = ``keep``:

    .. math:: \hat g_t = \frac{\partial^+ \ell}{\partial h_t}
        + \xi_t\, \hat g_{t+1} \frac{\partial h_{t+1}}{\partial h_t}, \qquad
        \xi_t = \begin{cases} 1/p & \text{with probability } p \\ 0 & \text{else} \end{cases}

    The factors are independent and have mean one, and so has each of their products: the mean
    of the estimate is the full gradient. The price is variance, which grows with every kept cut.

    Args:
        layer: Maps ``(inputs, state)`` to ``(outputs, state)``.
        loss: Maps the outputs and targets of some steps to a scalar, a *sum* over the steps.
        inputs: The sequence, ``(batch, time, features)``.
        targets: One target for each step, ``(batch, time, ...)``.
        keep: Probability p of passing a possible cut; 1 gives the full gradient.
        generator: Decides the cuts; one decision holds for the whole batch.
        window: Steps between possible cuts; 1 is the published method.
        state: The state before the first step, by default zero.

    Returns:
        The loss of the whole sequence.

    Raises:
        ValueError: ``keep`` is not in (0, 1], ``window`` is not positive, or the lengths of inputs
            and targets differ.

    Source: Tallec and Ollivier (2017), Unbiasing Truncated Backpropagation Through Time.
    """
    _check_windows(inputs, targets, window)
    if not 0 < keep <= 1:
        raise ValueError(f"keep: expected a probability in (0, 1], got {keep}")
    total = 0.0
    pending: Tensor | None = None  # the loss since the last cut
    for x, y in zip(inputs.split(window, 1), targets.split(window, 1), strict=True):
        outputs, state = layer(x, state)
        value = loss(outputs, y)
        pending = value if pending is None else pending + value
        if torch.rand((), generator=generator) < keep:
            state = _each(lambda part: torch.lerp(part.detach(), part, 1 / keep), state)
        else:
            pending.backward()
            total, pending = total + pending.item(), None
            state = detach_state(state)
    if pending is not None:
        pending.backward()
        total += pending.item()
    return total


def _each(function: Callable[[Tensor], Tensor], state: Any) -> Any:
    if isinstance(state, Tensor):
        return function(state)
    make = getattr(type(state), "_make", tuple)  # a NamedTuple stays what it is
    return make(map(function, state))


def _check_windows(inputs: Tensor, targets: Tensor, window: int) -> None:
    if inputs.shape[:2] != targets.shape[:2]:
        raise ValueError(
            f"expected inputs (batch, time, features) and targets (batch, time, ...) of the same "
            f"batch and time, got shapes {tuple(inputs.shape)} and {tuple(targets.shape)}"
        )
    if window < 1:
        raise ValueError(f"window: expected at least 1, got {window}")
