r"""Recurrent networks run over whole sequences, with backward passes derived by hand.

Only what depends on the step before is left in the loops: the products with the inputs are one
product before the loop, the gradients of the weights one product after it, and the derivatives of
the activations are computed for all steps at once.

Tensors are time-major, ``(time, batch, features)``, so that each step is one contiguous block; the
layers transpose. Each ``Function`` returns the states of the steps 0 to T, of which state 0 is the
initial one, followed by what its backward pass needs besides. It may be differentiated once.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from itertools import pairwise
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.autograd import Function
from torch.nn.functional import pad

from seqbook.kernels.differentiation import differentiable_once

__all__ = [
    "ACTIVATIONS",
    "Activation",
    "GRUFunction",
    "GRUResetBeforeFunction",
    "LSTMFunction",
    "RNNFunction",
]

_manual = differentiable_once(alternative='backward="autograd"')


class Activation(NamedTuple):
    """An activation function and its derivative, both elementwise for tensors ``(...)``.

    Attributes:
        function: Maps the pre-activation to the output.
        in_place: The same, in place.
        derivative: The derivative, as a function of the *output*.

    Example:
        >>> output = ACTIVATIONS["tanh"].function(torch.tensor(0.5))
        >>> torch.allclose(ACTIVATIONS["tanh"].derivative(output), 1 - output**2)
        True
    """

    function: Callable[[Tensor], Tensor]
    in_place: Callable[[Tensor], Tensor]
    derivative: Callable[[Tensor], Tensor]


def _identity(values: Tensor) -> Tensor:
    return values


def _tanh_derivative(output: Tensor) -> Tensor:
    return torch.addcmul(output.new_ones(()), output, output, value=-1)  # in one pass


def _relu_derivative(output: Tensor) -> Tensor:
    return (output > 0).to(output.dtype)


ACTIVATIONS = {
    "tanh": Activation(torch.tanh, torch.tanh_, _tanh_derivative),
    "relu": Activation(torch.relu, torch.relu_, _relu_derivative),
    "identity": Activation(_identity, _identity, torch.ones_like),
}
"""Activation functions of the vanilla RNN, by name."""


@_manual
class RNNFunction(Function):
    r"""A vanilla RNN over time and its backward pass.

    Forward, for t = 1 to T, with the first two terms computed for all t at once:

    .. math:: h_t = \phi(W_x x_t + b + W_h h_{t-1})

    Backward, with :math:`\delta_t = \partial \ell / \partial a_t` for the pre-activation
    :math:`a_t`, and :math:`g_t = \partial^+ \ell / \partial h_t` the part that does not pass
    through :math:`h_{t+1}`:

    .. math:: \delta_t = (g_t + W_h^\top \delta_{t+1}) \odot \phi'(a_t), \qquad
        \frac{\partial \ell}{\partial W_h} = \sum_t \delta_t h_{t-1}^\top, \qquad
        \frac{\partial \ell}{\partial W_x} = \sum_t \delta_t x_t^\top

    ``RNNFunction.apply(inputs, hidden, weight_ih, weight_hh, bias_ih, bias_hh, activation)``
    returns the states :math:`h_0` to :math:`h_T`.

    Shape:
        inputs ``(time, batch, features)``; hidden ``(batch, hidden)``, the state :math:`h_0`;
        weights and biases as in ``torch.nn.RNN``; result ``(time + 1, batch, hidden)``.

    Raises:
        NotImplementedError: It is differentiated twice, in forward mode or under ``vmap``.

    Source: Werbos (1990).

    Example:
        >>> import torch
        >>> inputs, hidden = torch.zeros(5, 2, 3), torch.ones(2, 4)
        >>> weights = torch.zeros(4, 3), torch.eye(4), torch.zeros(4), torch.zeros(4)
        >>> states = RNNFunction.apply(inputs, hidden, *weights, "tanh")
        >>> states.shape
        torch.Size([6, 2, 4])
        >>> torch.equal(states[1], hidden.tanh())
        True
    """

    @staticmethod
    def forward(
        inputs: Tensor,
        hidden: Tensor,
        weight_ih: Tensor,
        weight_hh: Tensor,
        bias_ih: Tensor,
        bias_hh: Tensor,
        activation: str,
    ) -> Tensor:
        """Compute the states at every step."""
        function_ = ACTIVATIONS[activation].in_place
        states = _states_from(hidden, len(inputs))
        _project(inputs, weight_ih, bias_ih + bias_hh, out=states[1:])
        recurrent = weight_hh.t().contiguous()
        for state_before, state in pairwise(states.unbind(0)):
            function_(state.addmm_(state_before, recurrent))
        return states

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple, output: Tensor) -> None:
        """Save what the backward pass needs."""
        values, _, weight_ih, weight_hh, _, _, ctx.activation = inputs
        ctx.save_for_backward(values, weight_ih, weight_hh, output)

    @staticmethod
    def backward(ctx: Any, grad_states: Tensor) -> tuple[Tensor | None, ...]:
        """Compute the gradients of the inputs, the initial state and the parameters."""
        inputs, weight_ih, weight_hh, states = ctx.saved_tensors
        derivatives = ACTIVATIONS[ctx.activation].derivative(states[1:])
        delta = torch.empty_like(derivatives)
        grad = grad_states[-1].clone()
        for grad_before, delta_now, derivative in _backwards(grad_states[:-1], delta, derivatives):
            torch.mul(grad, derivative, out=delta_now)
            torch.addmm(grad_before, delta_now, weight_hh, out=grad)
        bias = delta.sum((0, 1))
        return (
            _input_gradient(ctx, delta, weight_ih),
            grad,
            _weight_gradient(delta, inputs),
            _weight_gradient(delta, states[:-1]),
            bias,
            bias,
            None,
        )


@_manual
class LSTMFunction(Function):
    r"""An LSTM over time and its backward pass.

    With the gates i, f, o, the candidate :math:`\tilde c_t` (g in the code, as in torch) and
    :math:`c_t = f_t c_{t-1} + i_t \tilde c_t`,
    :math:`h_t = o_t \tanh c_t`, and with the gradients :math:`g^h_t` and :math:`g^c_t` that reach
    the two states from outside the recurrence,

    .. math:: \bar h_t &= g^h_t + W_h^\top \delta_{t+1} \\
        \bar c_t &= g^c_t + \bar c_{t+1} f_{t+1} + \bar h_t\, o_t (1 - \tanh^2 c_t)

    the gradients of the four pre-activations are products of these two and of factors that the
    forward pass has fixed for all steps:

    .. math:: \delta_t = \big(
        \bar c_t \cdot \tilde c_t\, i_t (1 - i_t),\;
        \bar c_t \cdot c_{t-1} f_t (1 - f_t),\;
        \bar c_t \cdot i_t (1 - \tilde c_t^2),\;
        \bar h_t \cdot \tanh(c_t)\, o_t (1 - o_t) \big)

    ``LSTMFunction.apply(inputs, hidden, cell, weight_ih, weight_hh, bias_ih, bias_hh)`` returns the
    hidden states and the cell states of the steps 0 to T, and without gradients the gates and
    :math:`\tanh c_t`.

    Shape:
        inputs ``(time, batch, features)``; hidden and cell ``(batch, hidden)``; weights and biases
        as in ``torch.nn.LSTM``; states ``(time + 1, batch, hidden)``; gates
        ``(time, batch, 4 * hidden)``; tanh of the cell states ``(time, batch, hidden)``.

    Raises:
        NotImplementedError: It is differentiated twice, in forward mode or under ``vmap``.

    Source: Graves and Schmidhuber (2005), appendix A, without peepholes.

    Example:
        >>> import torch
        >>> inputs, state = torch.zeros(5, 2, 3), (torch.zeros(2, 4), torch.ones(2, 4))
        >>> weights = torch.zeros(16, 3), torch.zeros(16, 4), torch.zeros(16), torch.zeros(16)
        >>> hiddens, cells, gates, cells_tanh = LSTMFunction.apply(inputs, *state, *weights)
        >>> hiddens.shape, gates.shape
        (torch.Size([6, 2, 4]), torch.Size([5, 2, 16]))
        >>> cells[:, 0, 0].tolist()  # a forget gate of 1 / 2 halves the cell at each step
        [1.0, 0.5, 0.25, 0.125, 0.0625, 0.03125]
    """

    @staticmethod
    def forward(
        inputs: Tensor,
        hidden: Tensor,
        cell: Tensor,
        weight_ih: Tensor,
        weight_hh: Tensor,
        bias_ih: Tensor,
        bias_hh: Tensor,
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Compute the states at every step, the gates and the tanh of the cell states."""
        size = hidden.shape[-1]
        hiddens, cells = (_states_from(state, len(inputs)) for state in (hidden, cell))
        gates = _project(inputs, weight_ih, bias_ih + bias_hh)  # (time, batch, 4 hidden)
        cells_tanh = torch.empty_like(cells[1:])
        recurrent = weight_hh.t().contiguous()
        for gate, i_f, (i, f, g, o), (h_before, h), (c_before, c), c_tanh in zip(
            gates.unbind(0),
            gates[:, :, : 2 * size].unbind(0),
            zip(*(part.unbind(0) for part in gates.chunk(4, 2)), strict=True),
            pairwise(hiddens.unbind(0)),
            pairwise(cells.unbind(0)),
            cells_tanh.unbind(0),
            strict=True,
        ):
            gate.addmm_(h_before, recurrent)
            i_f.sigmoid_()
            g.tanh_()
            o.sigmoid_()
            torch.mul(f, c_before, out=c).addcmul_(i, g)
            torch.mul(o, torch.tanh(c, out=c_tanh), out=h)
        return hiddens, cells, gates, cells_tanh

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple, output: tuple[Tensor, ...]) -> None:
        """Save what the backward pass needs."""
        values, _, _, weight_ih, weight_hh, _, _ = inputs
        hiddens, cells, gates, cells_tanh = output
        ctx.mark_non_differentiable(gates, cells_tanh)
        ctx.set_materialize_grads(False)  # of the two states, often only one is used
        ctx.save_for_backward(values, weight_ih, weight_hh, hiddens, cells, gates, cells_tanh)

    @staticmethod
    def backward(
        ctx: Any, grad_hiddens: Tensor | None, grad_cells: Tensor | None, *_: None
    ) -> tuple[Tensor | None, ...]:
        """Compute the gradients of the inputs, the initial states and the parameters."""
        inputs, weight_ih, weight_hh, hiddens, cells, gates, cells_tanh = ctx.saved_tensors
        i, f, g, o = gates.chunk(4, 2)
        delta = torch.empty_like(gates)  # first the factors, then times the states' gradients
        delta_i, delta_f, delta_g, delta_o = delta.chunk(4, 2)
        _sigmoid_factor(g, i, out=delta_i)
        _sigmoid_factor(cells[:-1], f, out=delta_f)
        _tanh_factor(i, g, out=delta_g)
        _sigmoid_factor(cells_tanh, o, out=delta_o)
        cell_factors = _tanh_factor(o, cells_tanh, out=torch.empty_like(cells_tanh))
        grad_hiddens = _zero_if_none(grad_hiddens, hiddens)
        grad_cells = _zero_if_none(grad_cells, cells)
        grad_h, grad_c = grad_hiddens[-1].clone(), grad_cells[-1].clone()
        grad_c_by_gate = grad_c.unsqueeze(1)  # the same numbers, with an axis for three gates
        for grad_h_before, grad_c_before, delta_now, d_ifg, d_o, cell_factor, forget in _backwards(
            grad_hiddens[:-1],
            grad_cells[:-1],
            delta,
            delta.unflatten(2, (4, -1))[:, :, :3],
            delta_o,
            cell_factors,
            f,
        ):
            grad_c.addcmul_(grad_h, cell_factor)
            d_ifg.mul_(grad_c_by_gate)
            d_o.mul_(grad_h)
            torch.addcmul(grad_c_before, grad_c, forget, out=grad_c)
            torch.addmm(grad_h_before, delta_now, weight_hh, out=grad_h)
        bias = delta.sum((0, 1))
        return (
            _input_gradient(ctx, delta, weight_ih),
            grad_h,
            grad_c,
            _weight_gradient(delta, inputs),
            _weight_gradient(delta, hiddens[:-1]),
            bias,
            bias,
        )


@_manual
class GRUFunction(Function):
    r"""A GRU over time, with the reset gate after the product, and its backward pass.

    With :math:`m_t = W_{hn} h_{t-1} + b_{hn}`, :math:`n_t = \tanh(a_t + r_t m_t)` and
    :math:`h_t = (1 - z_t) n_t + z_t h_{t-1}`, everything is a multiple of the gradient
    :math:`\bar h_t` that reaches step t, by factors that the forward pass has fixed:

    .. math:: \delta_t &= \big(
        \bar h_t \cdot \nu_t m_t\, r_t (1 - r_t),\;
        \bar h_t \cdot (h_{t-1} - n_t)\, z_t (1 - z_t),\;
        \bar h_t \cdot \nu_t r_t \big) \\
        \nu_t &= (1 - z_t)(1 - n_t^2) \\
        \bar h_{t-1} &= g_{t-1} + \bar h_t z_t + W_h^\top \delta_t

    The inputs' part of the candidate is not multiplied by r, so there the last factor is
    :math:`\nu_t` alone.

    ``GRUFunction.apply(inputs, hidden, weight_ih, weight_hh, bias_ih, bias_hh)`` returns the states
    :math:`h_0` to :math:`h_T`, and without gradients the gates r, z, n and the products m.

    Shape:
        inputs ``(time, batch, features)``; hidden ``(batch, hidden)``; weights and biases as in
        ``torch.nn.GRU``; states ``(time + 1, batch, hidden)``; gates
        ``(time, batch, 3 * hidden)``; products ``(time, batch, hidden)``.

    Raises:
        NotImplementedError: It is differentiated twice, in forward mode or under ``vmap``.

    Source: Cho et al. (2014), arXiv:1406.1078v1.

    Example:
        >>> import torch
        >>> inputs, hidden = torch.zeros(3, 2, 3), torch.ones(2, 4)
        >>> weights = torch.zeros(12, 3), torch.zeros(12, 4), torch.zeros(12), torch.zeros(12)
        >>> states, gates, products = GRUFunction.apply(inputs, hidden, *weights)
        >>> states[:, 0, 0].tolist()  # an update gate of 1 / 2 and candidates of 0
        [1.0, 0.5, 0.25, 0.125]
    """

    @staticmethod
    def forward(
        inputs: Tensor,
        hidden: Tensor,
        weight_ih: Tensor,
        weight_hh: Tensor,
        bias_ih: Tensor,
        bias_hh: Tensor,
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Compute the states at every step, the gates, and the products before the reset."""
        size = hidden.shape[-1]
        states = _states_from(hidden, len(inputs))
        bias_rz, bias_n = bias_hh.split([2 * size, size])
        gates = _project(inputs, weight_ih, bias_ih + pad(bias_rz, (0, size)))
        products = torch.empty_like(states[1:]).copy_(bias_n)
        weight_rz, weight_n = (w.t().contiguous() for w in weight_hh.split([2 * size, size]))
        for (before, state), rz, r, z, n, m in zip(
            pairwise(states.unbind(0)),
            gates[:, :, : 2 * size].unbind(0),
            *(part.unbind(0) for part in gates.chunk(3, 2)),
            products.unbind(0),
            strict=True,
        ):
            rz.addmm_(before, weight_rz).sigmoid_()
            n.addcmul_(r, m.addmm_(before, weight_n)).tanh_()
            torch.lerp(n, before, z, out=state)
        return states, gates, products

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple, output: tuple[Tensor, ...]) -> None:
        """Save what the backward pass needs."""
        _save_gru(ctx, inputs, output)

    @staticmethod
    def backward(ctx: Any, grad_states: Tensor | None, *_: None) -> tuple[Tensor | None, ...]:
        """Compute the gradients of the inputs, the initial state and the parameters."""
        inputs, weight_ih, weight_hh, states, gates, products = ctx.saved_tensors
        r, z, n = gates.chunk(3, 2)
        delta = torch.empty_like(gates)  # first the factors, then times the states' gradients
        delta_r, delta_z, delta_n = delta.chunk(3, 2)
        input_factor = _tanh_factor(1 - z, n, out=torch.empty_like(products))
        _sigmoid_factor(states[:-1] - n, z, out=delta_z)
        _sigmoid_factor(input_factor * products, r, out=delta_r)
        torch.mul(input_factor, r, out=delta_n)
        grad_states = _zero_if_none(grad_states, states)
        grad = torch.empty_like(states)  # what reaches each step, all paths together
        grad[-1] = grad_states[-1]
        for grad_given, (before, now), now_by_gate, delta_now, delta_by_gate, update in _backwards(
            grad_states[:-1],
            pairwise(grad.unbind(0)),
            grad[1:].unsqueeze(2),  # the same numbers, with an axis for the three gates
            delta,
            delta.unflatten(2, (3, -1)),
            z,
        ):
            delta_by_gate.mul_(now_by_gate)
            torch.addcmul(grad_given, now, update, out=before).addmm_(delta_now, weight_hh)
        weight_hh_gradient = _weight_gradient(delta, states[:-1])
        bias_hh_gradient = delta.sum((0, 1))
        torch.mul(input_factor, grad[1:], out=delta_n)  # from here on for the inputs
        return (
            _input_gradient(ctx, delta, weight_ih),
            grad[0],
            _weight_gradient(delta, inputs),
            weight_hh_gradient,
            delta.sum((0, 1)),
            bias_hh_gradient,
        )


@_manual
class GRUResetBeforeFunction(Function):
    r"""A GRU over time, with the reset gate before the product, and its backward pass.

    Now :math:`n_t = \tanh(a_t + W_{hn} (r_t h_{t-1}))`, and the gradient of the reset gate must
    first come back through :math:`W_{hn}`, which costs a second product in each step:

    .. math:: \delta^n_t &= \bar h_t \cdot (1 - z_t)(1 - n_t^2), \qquad
        \delta^z_t = \bar h_t \cdot (h_{t-1} - n_t)\, z_t (1 - z_t) \\
        k_t &= W_{hn}^\top \delta^n_t, \qquad
        \delta^r_t = k_t \cdot h_{t-1}\, r_t (1 - r_t) \\
        \bar h_{t-1} &= g_{t-1} + \bar h_t z_t + k_t r_t
        + W_{hr}^\top \delta^r_t + W_{hz}^\top \delta^z_t

    Arguments, results and errors are those of ``GRUFunction``, with :math:`r_t h_{t-1}` in the
    place of the products m.

    Shape:
        inputs ``(time, batch, features)``; hidden ``(batch, hidden)``; weights and biases as in
        ``torch.nn.GRU``; states ``(time + 1, batch, hidden)``; gates
        ``(time, batch, 3 * hidden)``; states after the reset ``(time, batch, hidden)``.

    Source: Cho et al. (2014), equations 5 to 8.

    Example:
        >>> import torch
        >>> inputs, hidden = torch.zeros(3, 2, 3), torch.ones(2, 4)
        >>> weights = torch.zeros(12, 3), torch.zeros(12, 4), torch.zeros(12), torch.zeros(12)
        >>> states, gates, reset_states = GRUResetBeforeFunction.apply(inputs, hidden, *weights)
        >>> torch.equal(reset_states, states[:-1] / 2)  # a reset gate of 1 / 2
        True
    """

    @staticmethod
    def forward(
        inputs: Tensor,
        hidden: Tensor,
        weight_ih: Tensor,
        weight_hh: Tensor,
        bias_ih: Tensor,
        bias_hh: Tensor,
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Compute the states at every step, the gates, and the states after the reset gate."""
        size = hidden.shape[-1]
        states = _states_from(hidden, len(inputs))
        gates = _project(inputs, weight_ih, bias_ih + bias_hh)  # (time, batch, 3 hidden)
        reset_states = torch.empty_like(states[1:])
        weight_rz, weight_n = (w.t().contiguous() for w in weight_hh.split([2 * size, size]))
        for (before, state), rz, r, z, n, reset_state in zip(
            pairwise(states.unbind(0)),
            gates[:, :, : 2 * size].unbind(0),
            *(part.unbind(0) for part in gates.chunk(3, 2)),
            reset_states.unbind(0),
            strict=True,
        ):
            rz.addmm_(before, weight_rz).sigmoid_()
            n.addmm_(torch.mul(r, before, out=reset_state), weight_n).tanh_()
            torch.lerp(n, before, z, out=state)
        return states, gates, reset_states

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple, output: tuple[Tensor, ...]) -> None:
        """Save what the backward pass needs."""
        _save_gru(ctx, inputs, output)

    @staticmethod
    def backward(ctx: Any, grad_states: Tensor | None, *_: None) -> tuple[Tensor | None, ...]:
        """Compute the gradients of the inputs, the initial state and the parameters."""
        inputs, weight_ih, weight_hh, states, gates, reset_states = ctx.saved_tensors
        size = states.shape[-1]
        r, z, n = gates.chunk(3, 2)
        delta = torch.empty_like(gates)  # first the factors, then times the states' gradients
        delta_r, delta_z, delta_n = delta.chunk(3, 2)
        _sigmoid_factor(states[:-1], r, out=delta_r)
        _sigmoid_factor(states[:-1] - n, z, out=delta_z)
        _tanh_factor(1 - z, n, out=delta_n)
        delta_rz, delta_zn = delta[:, :, : 2 * size], delta[:, :, size:].unflatten(2, (2, -1))
        weight_rz, weight_n = weight_hh.split([2 * size, size])
        grad_states = _zero_if_none(grad_states, states)
        grad = grad_states[-1].clone()
        grad_by_gate = grad.unsqueeze(1)  # the same numbers, with an axis for two gates
        for grad_before, d_r, d_n, d_rz, d_zn, reset, update in _backwards(
            grad_states[:-1], delta_r, delta_n, delta_rz, delta_zn, r, z
        ):
            d_zn.mul_(grad_by_gate)
            grad_reset_state = d_n @ weight_n
            d_r.mul_(grad_reset_state)
            torch.addcmul(grad_before, grad, update, out=grad)
            grad.addcmul_(grad_reset_state, reset).addmm_(d_rz, weight_rz)
        bias = delta.sum((0, 1))
        recurrent = _weight_gradient(delta_rz, states[:-1]), _weight_gradient(delta_n, reset_states)
        return (
            _input_gradient(ctx, delta, weight_ih),
            grad,
            _weight_gradient(delta, inputs),
            torch.cat(recurrent),
            bias,
            bias,
        )


def _save_gru(ctx: Any, inputs: tuple, output: tuple[Tensor, ...]) -> None:
    values, _, weight_ih, weight_hh, _, _ = inputs
    ctx.mark_non_differentiable(*output[1:])
    ctx.set_materialize_grads(False)  # no zeros for the results without gradients
    ctx.save_for_backward(values, weight_ih, weight_hh, *output)


def _states_from(initial: Tensor, steps: int) -> Tensor:
    """A buffer for the states 0 to ``steps``, ``(steps + 1, batch, hidden)``, state 0 filled in."""
    buffer = initial.new_empty(steps + 1, *initial.shape)
    buffer[0] = initial
    return buffer


def _project(inputs: Tensor, weight: Tensor, bias: Tensor, *, out: Tensor | None = None) -> Tensor:
    """W x + b for all steps in one product, ``(time, batch, outputs)``."""
    if out is None:
        out = inputs.new_empty(*inputs.shape[:2], len(weight))
    torch.addmm(bias, inputs.flatten(0, 1), weight.t(), out=out.flatten(0, 1))
    return out


def _zero_if_none(grad: Tensor | None, states: Tensor) -> Tensor:
    """The gradient of the states; zero, stored for one step alone, if there is none."""
    return torch.zeros_like(states[0]).expand_as(states) if grad is None else grad


def _input_gradient(ctx: Any, delta: Tensor, weight: Tensor) -> Tensor | None:
    return delta @ weight if ctx.needs_input_grad[0] else None


def _weight_gradient(delta: Tensor, inputs: Tensor) -> Tensor:
    r"""The sum over all steps and sequences of :math:`\delta x^\top`, in one product."""
    return (inputs.flatten(0, 1).t() @ delta.flatten(0, 1)).t()  # faster than transposing delta


def _sigmoid_factor(factor: Tensor, gate: Tensor, *, out: Tensor) -> Tensor:
    """``factor * gate * (1 - gate)`` in one pass over memory."""
    return torch.ops.aten.sigmoid_backward.grad_input(factor, gate, grad_input=out)


def _tanh_factor(factor: Tensor, output: Tensor, *, out: Tensor) -> Tensor:
    """``factor * (1 - output ** 2)`` in one pass over memory."""
    return torch.ops.aten.tanh_backward.grad_input(factor, output, grad_input=out)


def _backwards(*steps: Tensor | Iterable) -> Iterator[tuple]:
    """Go through tensors ``(time, ...)`` or iterables over time together, last step first."""
    by_step = (s.unbind(0) if isinstance(s, Tensor) else s for s in steps)  # faster than iterating
    return reversed(list(zip(*by_step, strict=True)))
