"""Backpropagation through time: the sum over the past, and cutting it short.

The derivative of a recurrence is a sum over all earlier steps, each weighted by a product of
Jacobians: ``bptt_terms`` and ``jacobian_products`` compute both for a vanilla RNN.
``truncated_bptt`` cuts the sum; ``randomised_bptt`` cuts it at random places without bias.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import torch
from torch import Tensor

from seqbook.kernels.recurrent import ACTIVATIONS
from seqbook.validation import check_choice, check_instance, check_integer

__all__ = [
    "bptt_terms",
    "detach_state",
    "jacobian_products",
    "randomised_bptt",
    "step_jacobians",
    "truncated_bptt",
]

State = TypeVar("State", bound=Tensor | tuple)


# 1. The sum over the past


def step_jacobians(hidden: Tensor, weight_hh: Tensor, *, activation: str = "tanh") -> Tensor:
    r"""Jacobian of each step of a vanilla RNN with respect to the state before it.

    .. math:: \frac{\partial h_j}{\partial h_{j-1}} = \operatorname{diag}(\phi'(a_j))\, W_h,
        \qquad h_j = \phi(a_j), \quad a_j = W_x x_j + W_h h_{j-1} + b

    Shape:
        hidden ``(..., time, hidden)``, the states :math:`h_1` to :math:`h_T` of a run; weight_hh
        ``(hidden, hidden)``; result ``(..., time, hidden, hidden)``.

    Raises:
        ValueError: The shapes do not fit, or the activation is unknown.
        TypeError: An argument is not a tensor.

    Source: Pascanu, Mikolov and Bengio (2013), equation 5.

    Example:
        >>> import torch
        >>> states, weights = torch.zeros(4, 3), torch.eye(3)
        >>> step_jacobians(states, weights).shape
        torch.Size([4, 3, 3])
    """
    check_choice("activation", activation, ACTIVATIONS)
    check_instance("hidden", hidden, Tensor)
    check_instance("weight_hh", weight_hh, Tensor)
    size = hidden.shape[-1]
    if hidden.dim() < 2 or weight_hh.shape != (size, size):
        raise ValueError(
            f"expected hidden (..., time, hidden) and weight_hh (hidden, hidden), got shapes "
            f"{tuple(hidden.shape)} and {tuple(weight_hh.shape)}"
        )
    return ACTIVATIONS[activation].derivative(hidden).unsqueeze(-1) * weight_hh


def jacobian_products(hidden: Tensor, weight_hh: Tensor, *, activation: str = "tanh") -> Tensor:
    r"""Norms of the products of Jacobians: what is left of a change of the state after k steps.

    .. math:: \Big\lVert \prod_{j=T-k+1}^{T} \frac{\partial h_j}{\partial h_{j-1}} \Big\rVert_2,
        \qquad k = 0, \dots, T

    the largest factor by which a small change of :math:`h_{T-k}` can reach :math:`h_T`, computed in
    float64.

    Shape:
        hidden ``(..., time, hidden)``, the states :math:`h_1` to :math:`h_T`; weight_hh
        ``(hidden, hidden)``; result ``(..., time + 1)``, by lag, with 1 at lag 0.

    Raises:
        ValueError: The shapes do not fit, or the activation is unknown.
        TypeError: An argument is not a tensor.

    Source: Pascanu, Mikolov and Bengio (2013), equations 5 to 7.

    Example:
        >>> import torch
        >>> jacobian_products(torch.zeros(3, 2), torch.eye(2) / 2)
        tensor([1.0000, 0.5000, 0.2500, 0.1250], dtype=torch.float64)
    """
    check_instance("hidden", hidden, Tensor)
    check_instance("weight_hh", weight_hh, Tensor)
    jacobians = step_jacobians(hidden.double(), weight_hh.double(), activation=activation)
    identity = torch.eye(hidden.shape[-1], dtype=jacobians.dtype, device=jacobians.device)
    product = identity.expand_as(jacobians[..., 0, :, :])
    products = [product]
    for jacobian in reversed(jacobians.unbind(-3)):
        product = product @ jacobian
        products.append(product)
    return torch.linalg.matrix_norm(torch.stack(products, dim=-3), ord=2)


def bptt_terms(
    hidden: Tensor, weight_hh: Tensor, *, initial: Tensor, activation: str = "tanh"
) -> Tensor:
    r"""Terms of the derivative of the last state with respect to the recurrent weights.

    .. math:: \frac{\mathrm{d} h_T}{\mathrm{d} W_h} = \sum_{i=1}^{T}
        \Big( \prod_{j=i+1}^{T} \frac{\partial h_j}{\partial h_{j-1}} \Big)
        \frac{\partial^+ h_i}{\partial W_h}

    The explicit partial derivative, marked +, holds :math:`h_{i-1}` fixed; the total
    derivative on the left does not. Its entries are those of an outer product:

    .. math:: \frac{\partial^+ h_{i,k}}{\partial W_{mn}}
        = [\, k = m \,]\, \phi'(a_{i,m})\, h_{i-1,n}

    Shape:
        hidden ``(time, hidden)``, the states :math:`h_1` to :math:`h_T`; initial ``(hidden,)``, the
        state :math:`h_0`;
        weight_hh ``(hidden, hidden)``; result float64 ``(time, hidden, hidden, hidden)``:
        ``result[i - 1, k, m, n]`` is term i of the derivative of ``h_T[k]`` with respect to
        ``W_h[m, n]``. Its sum over the first axis is the whole derivative.

    Raises:
        ValueError: The shapes do not fit, or the activation is unknown.
        TypeError: An argument is not a tensor.

    Source: Werbos (1990); Pascanu, Mikolov and Bengio (2013), equations 3 to 5.

    Example:
        >>> import torch
        >>> terms = bptt_terms(torch.zeros(4, 1), torch.eye(1) / 2, initial=torch.ones(1))
        >>> terms.flatten().tolist()  # the state was 1 at the start and 0 from then on
        [0.125, 0.0, 0.0, 0.0]
    """
    check_instance("hidden", hidden, Tensor)
    check_instance("weight_hh", weight_hh, Tensor)
    check_instance("initial", initial, Tensor)
    if hidden.dim() != 2 or initial.shape != hidden.shape[1:]:
        raise ValueError(
            f"expected hidden (time, hidden) and initial (hidden,), got shapes "
            f"{tuple(hidden.shape)} and {tuple(initial.shape)}"
        )
    hidden, weight_hh = hidden.double(), weight_hh.double()
    jacobians = step_jacobians(hidden, weight_hh, activation=activation)
    derivatives = ACTIVATIONS[activation].derivative(hidden)
    before = torch.cat([initial.double().unsqueeze(0), hidden[:-1]])  # h_0 .. h_{T-1}
    product = torch.eye(hidden.shape[1], dtype=hidden.dtype, device=hidden.device)
    terms = []
    for i in reversed(range(len(hidden))):
        terms.append(torch.einsum("km,m,n->kmn", product, derivatives[i], before[i]))
        product = product @ jacobians[i]
    return torch.stack(terms[::-1])


# 2. Cutting the sum


def detach_state(state: State) -> State:
    """Return the same state without the graph that made it.

    Args:
        state: A tensor, or a tuple of tensors such as ``LSTMState``, whose type is kept; of any
            shapes ``(...)``.

    Raises:
        TypeError: It is neither.

    Example:
        >>> import torch
        >>> weight = torch.ones(3, requires_grad=True)
        >>> hidden, cell = detach_state((2 * weight, weight + 1))
        >>> hidden.requires_grad
        False
    """
    return _each(Tensor.detach, state)


def truncated_bptt(
    layer: Callable[[Tensor, Any], tuple[Tensor, Any]],
    loss: Callable[[Tensor, Tensor], Tensor],
    *,
    inputs: Tensor,
    targets: Tensor,
    window: int,
    stateful: bool = True,
    state: Tensor | tuple | None = None,
) -> float:
    r"""Add the gradient of a long sequence's loss to ``.grad``, cut every ``window`` steps.

    .. math:: \hat{\bar h}_t = \frac{\partial^+ \ell}{\partial h_t}
        + [\, \tau \nmid t \,]\; J_{t+1}^\top\, \hat{\bar h}_{t+1}, \qquad
        J_{t+1} = \frac{\partial h_{t+1}}{\partial h_t}

    for the window :math:`\tau`: a window ends at each step t that it divides.

    The sequence is run window by window and each window is backpropagated at once, so only one
    window's graph is ever in memory. A ``window`` of the whole length gives the full gradient.

    Args:
        layer: Maps ``(inputs, state)`` to ``(outputs, state)``, as this package's layers do.
        loss: Maps the outputs and targets of some steps to a scalar, a *sum* over the steps.
        inputs: The sequence, ``(batch, time, features)``.
        targets: One target for each step, ``(batch, time, ...)``.
        window: Steps between cuts; the last window may be shorter.
        stateful: Whether a window starts from the value of the state in which the one before
            ended. If not, each starts from zero, which also changes the loss.
        state: The state before the first step, by default zero.

    Returns:
        The loss of the whole sequence.

    Raises:
        ValueError: ``window`` is not positive, or the lengths of inputs and targets differ.
        TypeError: ``window`` is not an integer.

    Source: Williams and Peng (1990), with the window moved by its whole length.

    Example:
        >>> import torch
        >>> layer = torch.nn.RNN(2, 3, batch_first=True)
        >>> loss = truncated_bptt(
        ...     layer,
        ...     torch.nn.MSELoss(reduction="sum"),
        ...     inputs=torch.zeros(1, 100, 2),
        ...     targets=torch.zeros(1, 100, 3),
        ...     window=20,
        ... )
        >>> layer.weight_hh_l0.grad.shape
        torch.Size([3, 3])
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
    layer: Callable[[Tensor, Any], tuple[Tensor, Any]],
    loss: Callable[[Tensor, Tensor], Tensor],
    *,
    inputs: Tensor,
    targets: Tensor,
    keep: float,
    generator: torch.Generator,
    window: int = 1,
    state: Tensor | tuple | None = None,
) -> float:
    r"""Add an unbiased estimate of the full gradient to ``.grad``, from windows of random length.

    At each multiple of ``window`` the graph is cut with probability 1 - p, and otherwise the
    gradient that passes is multiplied by 1 / p, with p = ``keep`` and the Jacobians J of the steps:

    .. math:: \hat{\bar h}_t = \frac{\partial^+ \ell}{\partial h_t}
        + \xi_t\, J_{t+1}^\top\, \hat{\bar h}_{t+1}, \qquad
        \xi_t = \begin{cases} 1/p & \text{with probability } p \\ 0 & \text{else} \end{cases}

    The factors are independent and have mean one, and so has each of their products: the mean
    of the estimate is the full gradient. The price is variance, which grows with every possible
    cut that the gradient passes.

    Args:
        layer: Maps ``(inputs, state)`` to ``(outputs, state)``.
        loss: Maps the outputs and targets of some steps to a scalar, a *sum* over the steps.
        inputs: The sequence, ``(batch, time, features)``.
        targets: One target for each step, ``(batch, time, ...)``.
        keep: Probability p of passing a possible cut; 1 gives the full gradient.
        generator: Decides the cuts, one decision for the whole batch; of the CPU or of another
            device, wherever the inputs are.
        window: Steps between possible cuts; 1 is the published method.
        state: The state before the first step, by default zero.

    Returns:
        The loss of the whole sequence.

    Raises:
        ValueError: ``keep`` is not in (0, 1], ``window`` is not positive, or the lengths of inputs
            and targets differ.
        TypeError: ``window`` is not an integer, or ``generator`` is not a
            ``torch.Generator``.

    Source: Tallec and Ollivier (2017), Unbiasing Truncated Backpropagation Through Time.

    Example:
        >>> import torch
        >>> layer = torch.nn.RNN(2, 3, batch_first=True)
        >>> loss = randomised_bptt(
        ...     layer,
        ...     torch.nn.MSELoss(reduction="sum"),
        ...     inputs=torch.zeros(1, 100, 2),
        ...     targets=torch.zeros(1, 100, 3),
        ...     keep=0.9,
        ...     generator=torch.Generator().manual_seed(0),
        ... )
        >>> layer.weight_hh_l0.grad.shape
        torch.Size([3, 3])
    """
    _check_windows(inputs, targets, window)
    check_instance("generator", generator, torch.Generator, hint="torch.Generator()")
    if not 0 < keep <= 1:
        raise ValueError(f"keep: expected a probability in (0, 1], got {keep}")
    total = 0.0
    pending: Tensor | None = None  # the loss since the last cut
    for x, y in zip(inputs.split(window, 1), targets.split(window, 1), strict=True):
        outputs, state = layer(x, state)
        window_loss = loss(outputs, y)
        pending = window_loss if pending is None else pending + window_loss
        if torch.rand((), generator=generator, device=generator.device) < keep:
            state = _each(lambda part: torch.lerp(part.detach(), part, 1 / keep), state)
        else:
            pending.backward()
            total, pending = total + pending.item(), None
            state = detach_state(state)
    if pending is not None:
        pending.backward()
        total += pending.item()
    return total


def _each(function: Callable[[Tensor], Tensor], state: State) -> State:
    """Apply a function to the parts of a state, and keep the state's type."""
    if isinstance(state, Tensor):
        return function(state)  # type: ignore[return-value]
    if not isinstance(state, tuple) or not all(isinstance(part, Tensor) for part in state):
        raise TypeError(
            f"state: expected a tensor or a tuple of tensors, got {type(state).__name__}"
        )
    make = getattr(type(state), "_make", tuple)  # of a NamedTuple
    return make(map(function, state))  # type: ignore[return-value]


def _check_windows(inputs: Tensor, targets: Tensor, window: int) -> None:
    check_instance("inputs", inputs, Tensor)
    check_instance("targets", targets, Tensor)
    if inputs.shape[:2] != targets.shape[:2]:
        raise ValueError(
            f"expected inputs (batch, time, features) and targets (batch, time, ...) of the same "
            f"batch and time, got shapes {tuple(inputs.shape)} and {tuple(targets.shape)}"
        )
    check_integer("window", window, minimum=1)
