"""Recurrent networks run over a whole sequence, with backward passes derived by hand.

Only what depends on the step before is left in the loops: the inputs' products are one product
before the loop, the weights' gradients one product after it, and the derivatives of the
activations are computed for all steps at once.

Tensors are time-major, ``(time, batch, features)``, so that each step is one contiguous block; the
layers transpose.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from itertools import pairwise
from typing import NamedTuple

import torch
from torch import Tensor
from torch.autograd import Function
from torch.autograd.function import once_differentiable
from torch.nn.functional import pad

__all__ = [
    "ACTIVATIONS",
    "Activation",
    "GRUFunction",
    "GRUResetBeforeFunction",
    "LSTMFunction",
    "RNNFunction",
]


class Activation(NamedTuple):
    r"""An activation function, its derivative, and a cheaper way to compute it.

    .. math:: \phi(a) = s\, \psi(s a) + 1 - s

    For tanh, :math:`\psi` is the logistic function and s = 2, and that is less than half the work.

    Attributes:
        function: :math:`\phi`, maps the pre-activation to the output.
        slope: The derivative, as a function of the *output*.
        inner_: :math:`\psi`, in place.
        stretch: s.
    """

    function: Callable[[Tensor], Tensor]
    slope: Callable[[Tensor], Tensor]
    inner_: Callable[[Tensor], Tensor]
    stretch: int


ACTIVATIONS = {
    "tanh": Activation(
        torch.tanh,
        lambda output: torch.addcmul(output.new_ones(()), output, output, value=-1),  # in one pass
        torch.sigmoid_,
        2,
    ),
    "relu": Activation(torch.relu, lambda output: (output > 0).to(output.dtype), torch.relu_, 1),
    "identity": Activation(lambda a: a, torch.ones_like, lambda a: a, 1),
}


class RNNFunction(Function):
    r"""A run of a vanilla RNN and its derived backward pass.

    Forward, for t = 1 to T, with the first two summands computed for all t at once:

    .. math:: h_t = \phi(W_x x_t + b + W_h h_{t-1})

    The loop runs on :math:`u_t = (h_t + s - 1) / s`, which takes the cheap function of
    ``Activation``, and weights and biases that undo it:

    .. math:: u_t = \psi\big(s\, (W_x x_t + b + (1 - s) W_h \mathbf 1) + s^2 W_h u_{t-1}\big)

    Backward, with :math:`\delta_t = \partial \ell / \partial a_t` for the pre-activation a_t, and
    :math:`g_t = \partial^+ \ell / \partial h_t` the part that does not pass through h_{t+1}:

    .. math:: \delta_t = (g_t + W_h^\top \delta_{t+1}) \odot \phi'(a_t), \qquad
        \frac{\partial \ell}{\partial W_h} = \sum_t \delta_t h_{t-1}^\top, \qquad
        \frac{\partial \ell}{\partial W_x} = \sum_t \delta_t x_t^\top

    ``RNNFunction.apply(inputs, hidden, weight_ih, weight_hh, bias_ih, bias_hh, activation)``
    gives the states h_1 to h_T. The backward pass leaves the caller's gradients and its own saved
    tensors as they are, so ``retain_graph`` works; differentiating it a second time raises.

    Shape:
        inputs ``(time, batch, features)``; hidden ``(batch, hidden)``, the state h_0; weights and
        biases as in ``torch.nn.RNN``; result ``(time, batch, hidden)``.
    """

    @staticmethod
    def forward(ctx, inputs, hidden, weight_ih, weight_hh, bias_ih, bias_hh, activation):
        """The states at every step."""
        _, _, inner_, s = ACTIVATIONS[activation]
        states = _starting_from((hidden + (s - 1)) / s, len(inputs))
        bias = bias_ih + bias_hh + (1 - s) * weight_hh.sum(1)
        _project(inputs, s * weight_ih, s * bias, out=states[1:])
        recurrent = s * s * weight_hh.t().contiguous()
        for state_before, state in pairwise(states.unbind(0)):
            inner_(state.addmm_(state_before, recurrent))
        states.mul_(s).add_(1 - s)
        ctx.save_for_backward(inputs, weight_ih, weight_hh, states)
        ctx.activation = activation
        return states[1:]

    @staticmethod
    @once_differentiable
    def backward(ctx, grad_states):
        """The gradients of the inputs, the initial states and the parameters."""
        inputs, weight_ih, weight_hh, states = ctx.saved_tensors
        slopes = ACTIVATIONS[ctx.activation].slope(states[1:])
        grad = _arriving(grad_states, states)
        for (grad_before, delta), slope in _backwards(pairwise(grad.unbind(0)), slopes):
            delta.mul_(slope)
            grad_before.addmm_(delta, weight_hh)
        delta = grad[1:]
        bias = delta.sum((0, 1))
        return (
            _input_gradient(ctx, delta, weight_ih),
            grad[0],
            _weight_gradient(delta, inputs),
            _weight_gradient(delta, states[:-1]),
            bias,
            bias,
            None,
        )


class LSTMFunction(Function):
    r"""A run of an LSTM and its derived backward pass.

    With the gates i, f, o, the candidate g and :math:`c_t = f_t c_{t-1} + i_t g_t`,
    :math:`h_t = o_t \tanh c_t`, and with the gradients that arrive at the two states,

    .. math:: \bar h_t &= g^h_t + W_h^\top \delta_{t+1} \\
        \bar c_t &= g^c_t + \bar c_{t+1} f_{t+1} + \bar h_t\, o_t (1 - \tanh^2 c_t)

    the gradients of the four pre-activations are products of what arrives at step t and of
    factors that the forward pass has fixed for all steps:

    .. math:: \delta_t = \big(
        \bar c_t \cdot g_t\, i_t (1 - i_t),\;
        \bar c_t \cdot c_{t-1} f_t (1 - f_t),\;
        \bar c_t \cdot i_t (1 - g_t^2),\;
        \bar h_t \cdot \tanh(c_t)\, o_t (1 - o_t) \big)

    As :math:`\tanh a = 1 - 2 \sigma(-2a)`, the loop computes the candidate with the gates, all four
    by one logistic function, from pre-activations with the candidate's rows times -2.

    ``LSTMFunction.apply(inputs, hidden, cell, weight_ih, weight_hh, bias_ih, bias_hh)`` gives
    the hidden and the cell states of the steps 1 to T. ``retain_graph`` works; differentiating the
    backward pass a second time raises.

    Shape:
        inputs ``(time, batch, features)``; hidden and cell ``(batch, hidden)``; weights and biases
        as in ``torch.nn.LSTM``; results ``(time, batch, hidden)``.
    """

    @staticmethod
    def forward(ctx, inputs, hidden, cell, weight_ih, weight_hh, bias_ih, bias_hh):
        """The states at every step."""
        hiddens, cells = (_starting_from(state, len(inputs)) for state in (hidden, cell))
        scale = _by_block(weight_hh, [1, 1, -2, 1])
        bias = (bias_ih + bias_hh) * scale
        gates = _project(inputs, weight_ih * scale.unsqueeze(1), bias)  # (time, batch, 4 hidden)
        squashed = torch.empty_like(cells[1:])  # tanh of the cell states
        recurrent = weight_hh.t().contiguous() * scale
        for gate, i, f, g, o, (h_before, h), (c_before, c), s in zip(
            gates.unbind(0),
            *(part.unbind(0) for part in gates.chunk(4, 2)),
            pairwise(hiddens.unbind(0)),
            pairwise(cells.unbind(0)),
            squashed.unbind(0),
            strict=True,
        ):
            gate.addmm_(h_before, recurrent).sigmoid_()
            torch.addcmul(i, f, c_before, out=c).addcmul_(i, g, value=-2)  # f c + i (1 - 2 g)
            torch.mul(o, torch.tanh(c, out=s), out=h)
        gates.chunk(4, 2)[2].mul_(-2).add_(1)  # now the candidate itself
        ctx.save_for_backward(inputs, weight_ih, weight_hh, hiddens, cells, gates, squashed)
        ctx.set_materialize_grads(False)  # of the two results, often only one is used
        return hiddens[1:], cells[1:]

    @staticmethod
    @once_differentiable
    def backward(ctx, grad_hiddens, grad_cells):
        """The gradients of the inputs, the initial states and the parameters."""
        inputs, weight_ih, weight_hh, hiddens, cells, gates, squashed = ctx.saved_tensors
        i, f, g, o = gates.chunk(4, 2)
        delta = torch.empty_like(gates)  # first the factors, then times what arrives
        to_i, to_f, to_g, to_o = delta.chunk(4, 2)
        _sigmoid_factor(g, i, out=to_i)
        _sigmoid_factor(cells[:-1], f, out=to_f)
        _tanh_factor(i, g, out=to_g)
        _sigmoid_factor(squashed, o, out=to_o)
        to_cell = _tanh_factor(o, squashed, out=torch.empty_like(squashed))
        grad_h, grad_c = _arriving(grad_hiddens, hiddens), _arriving(grad_cells, cells)
        by_gate = delta.unflatten(2, (4, -1))  # (time, batch, 4, hidden)
        for (h_before, h), (c_before, c), wide, step, d_ifg, d_o, c_factor, forget in _backwards(
            pairwise(grad_h.unbind(0)),
            pairwise(grad_c.unbind(0)),
            grad_c[1:].unsqueeze(2),  # c once more, with an axis for the three gates
            delta,
            by_gate[:, :, :3],
            to_o,
            to_cell,
            f,
        ):
            c.addcmul_(h, c_factor)
            d_ifg.mul_(wide)
            d_o.mul_(h)
            c_before.addcmul_(c, forget)
            h_before.addmm_(step, weight_hh)
        bias = delta.sum((0, 1))
        return (
            _input_gradient(ctx, delta, weight_ih),
            grad_h[0],
            grad_c[0],
            _weight_gradient(delta, inputs),
            _weight_gradient(delta, hiddens[:-1]),
            bias,
            bias,
        )


class GRUFunction(Function):
    r"""A run of a GRU, with the reset gate after the product, and its derived backward pass.

    With :math:`m_t = W_{hn} h_{t-1} + b_{hn}`, :math:`n_t = \tanh(a_t + r_t m_t)` and
    :math:`h_t = (1 - z_t) n_t + z_t h_{t-1}`, everything is a multiple of the gradient
    :math:`\bar h_t` that arrives at step t, by factors that the forward pass has fixed:

    .. math:: \delta_t &= \big(
        \bar h_t \cdot \nu_t m_t\, r_t (1 - r_t),\;
        \bar h_t \cdot (h_{t-1} - n_t)\, z_t (1 - z_t),\;
        \bar h_t \cdot \nu_t r_t \big), \qquad \nu_t = (1 - z_t)(1 - n_t^2) \\
        \bar h_{t-1} &= g_{t-1} + \bar h_t z_t + W_h^\top \delta_t

    The inputs' part of the candidate is not multiplied by r, so there the last factor is
    :math:`\nu_t` alone.

    As :math:`\tanh a = 2 \sigma(2a) - 1`, and as a weighted mean of stretched numbers is the
    stretched mean, the loop runs on :math:`(h_t + 1) / 2` without a tanh.

    ``GRUFunction.apply(inputs, hidden, weight_ih, weight_hh, bias_ih, bias_hh)`` gives the
    states h_1 to h_T. ``retain_graph`` works; differentiating the backward pass raises.

    Shape:
        inputs ``(time, batch, features)``; hidden ``(batch, hidden)``; weights and biases as in
        ``torch.nn.GRU``; result ``(time, batch, hidden)``.
    """

    @staticmethod
    def forward(ctx, inputs, hidden, weight_ih, weight_hh, bias_ih, bias_hh):
        """The states at every step."""
        size = hidden.shape[-1]
        states = _starting_from((hidden + 1) / 2, len(inputs))
        bias_rz, bias_n = (bias_hh - weight_hh.sum(1)).split([2 * size, size])
        scale = _by_block(weight_ih, [1, 1, 2])
        bias = bias_ih * scale + pad(bias_rz, (0, size))
        gates = _project(inputs, weight_ih * scale.unsqueeze(1), bias)
        candidate = torch.empty_like(states[1:]).copy_(bias_n)  # m, before the reset gate
        weight_rz, weight_n = (2 * w.t().contiguous() for w in weight_hh.split([2 * size, size]))
        for (before, state), rz, r, z, n, m in zip(
            pairwise(states.unbind(0)),
            gates[:, :, : 2 * size].unbind(0),
            *(part.unbind(0) for part in gates.chunk(3, 2)),
            candidate.unbind(0),
            strict=True,
        ):
            rz.addmm_(before, weight_rz).sigmoid_()
            n.addcmul_(r, m.addmm_(before, weight_n), value=2).sigmoid_()
            torch.lerp(n, before, z, out=state)
        for stretched in (gates[:, :, 2 * size :], states):
            stretched.mul_(2).sub_(1)  # now the candidate and the states themselves
        ctx.save_for_backward(inputs, weight_ih, weight_hh, states, gates, candidate)
        return states[1:]

    @staticmethod
    @once_differentiable
    def backward(ctx, grad_states):
        """The gradients of the inputs, the initial states and the parameters."""
        inputs, weight_ih, weight_hh, states, gates, candidate = ctx.saved_tensors
        r, z, n = gates.chunk(3, 2)
        delta = torch.empty_like(gates)  # first the factors, then times what arrives
        to_r, to_z, to_n = delta.chunk(3, 2)
        to_input = _tanh_factor(1 - z, n, out=torch.empty_like(candidate))
        _sigmoid_factor(states[:-1] - n, z, out=to_z)
        _sigmoid_factor(to_input * candidate, r, out=to_r)
        torch.mul(to_input, r, out=to_n)
        grad = _arriving(grad_states, states)
        for (grad_before, arrives), wide, step, by_gate, update in _backwards(
            pairwise(grad.unbind(0)),
            grad[1:].unsqueeze(2),  # what arrives once more, with an axis for the three gates
            delta,
            delta.unflatten(2, (3, -1)),
            z,
        ):
            by_gate.mul_(wide)
            grad_before.addcmul_(arrives, update).addmm_(step, weight_hh)
        weight_hh_gradient = _weight_gradient(delta, states[:-1])
        bias_hh_gradient = delta.sum((0, 1))
        torch.mul(to_input, grad[1:], out=to_n)  # from here on for the inputs
        return (
            _input_gradient(ctx, delta, weight_ih),
            grad[0],
            _weight_gradient(delta, inputs),
            weight_hh_gradient,
            delta.sum((0, 1)),
            bias_hh_gradient,
        )


class GRUResetBeforeFunction(Function):
    r"""A run of a GRU with the reset gate before the product, and its derived backward pass.

    Now :math:`n_t = \tanh(a_t + W_{hn} (r_t h_{t-1}))`, and the gradient of the reset gate must
    first come back through :math:`W_{hn}`, which costs a second product in each step:

    .. math:: \delta^n_t &= \bar h_t \cdot (1 - z_t)(1 - n_t^2), \qquad
        \delta^z_t = \bar h_t \cdot (h_{t-1} - n_t)\, z_t (1 - z_t) \\
        k_t &= W_{hn}^\top \delta^n_t, \qquad
        \delta^r_t = k_t \cdot h_{t-1}\, r_t (1 - r_t) \\
        \bar h_{t-1} &= g_{t-1} + \bar h_t z_t + k_t r_t
        + W_{hr}^\top \delta^r_t + W_{hz}^\top \delta^z_t

    Used as ``GRUFunction``, which see for arguments, shapes and limits.
    """

    @staticmethod
    def forward(ctx, inputs, hidden, weight_ih, weight_hh, bias_ih, bias_hh):
        """The states at every step."""
        size = hidden.shape[-1]
        states = _starting_from(hidden, len(inputs))
        gates = _project(inputs, weight_ih, bias_ih + bias_hh)  # (time, batch, 3 hidden)
        kept = torch.empty_like(states[1:])  # r * h, what the reset gate lets through
        weight_rz, weight_n = (w.t().contiguous() for w in weight_hh.split([2 * size, size]))
        for (before, state), rz, r, z, n, k in zip(
            pairwise(states.unbind(0)),
            gates[:, :, : 2 * size].unbind(0),
            *(part.unbind(0) for part in gates.chunk(3, 2)),
            kept.unbind(0),
            strict=True,
        ):
            rz.addmm_(before, weight_rz).sigmoid_()
            n.addmm_(torch.mul(r, before, out=k), weight_n).tanh_()
            torch.lerp(n, before, z, out=state)
        ctx.save_for_backward(inputs, weight_ih, weight_hh, states, gates, kept)
        return states[1:]

    @staticmethod
    @once_differentiable
    def backward(ctx, grad_states):
        """The gradients of the inputs, the initial state and the parameters."""
        inputs, weight_ih, weight_hh, states, gates, kept = ctx.saved_tensors
        size = states.shape[-1]
        r, z, n = gates.chunk(3, 2)
        delta = torch.empty_like(gates)  # first the factors, then times what arrives
        to_r, to_z, to_n = delta.chunk(3, 2)
        _sigmoid_factor(states[:-1], r, out=to_r)
        _sigmoid_factor(states[:-1] - n, z, out=to_z)
        _tanh_factor(1 - z, n, out=to_n)
        to_rz, to_zn = delta[:, :, : 2 * size], delta[:, :, size:].unflatten(2, (2, -1))
        weight_rz, weight_n = weight_hh.split([2 * size, size])
        grad = _arriving(grad_states, states)
        for (grad_before, arrives), wide, d_r, d_n, d_rz, d_zn, reset, update in _backwards(
            pairwise(grad.unbind(0)), grad[1:].unsqueeze(2), to_r, to_n, to_rz, to_zn, r, z
        ):
            d_zn.mul_(wide)
            grad_kept = d_n @ weight_n
            d_r.mul_(grad_kept)
            grad_before.addcmul_(arrives, update).addcmul_(grad_kept, reset)
            grad_before.addmm_(d_rz, weight_rz)
        bias = delta.sum((0, 1))
        return (
            _input_gradient(ctx, delta, weight_ih),
            grad[0],
            _weight_gradient(delta, inputs),
            torch.cat([_weight_gradient(to_rz, states[:-1]), _weight_gradient(to_n, kept)]),
            bias,
            bias,
        )


def _starting_from(state: Tensor, steps: int) -> Tensor:
    """A buffer for the states 0 to ``steps``, ``(steps + 1, batch, hidden)``, state 0 filled in."""
    buffer = state.new_empty(steps + 1, *state.shape)
    buffer[0] = state
    return buffer


def _by_block(weight: Tensor, factors: list[int]) -> Tensor:
    """The factor of each row, given one for each gate's block of rows."""
    return weight.new_tensor(factors).repeat_interleave(len(weight) // len(factors))


def _arriving(grad: Tensor | None, states: Tensor) -> Tensor:
    """A copy of the gradients of the states 1 to T, zero if there are none, after one for state 0.

    Copied, since the backward passes add to it, and the gradients may be the caller's.
    """
    if grad is None:
        return torch.zeros_like(states)
    return torch.cat([torch.zeros_like(grad[:1]), grad])


def _project(inputs: Tensor, weight: Tensor, bias: Tensor, *, out: Tensor | None = None) -> Tensor:
    """W x + b for all steps in one product, ``(time, batch, outputs)``."""
    if out is None:
        out = inputs.new_empty(*inputs.shape[:2], len(weight))
    torch.addmm(bias, inputs.flatten(0, 1), weight.t(), out=out.flatten(0, 1))
    return out


def _input_gradient(ctx, delta: Tensor, weight: Tensor) -> Tensor | None:
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


def _backwards(*steps: Iterable) -> Iterator[tuple]:
    """Go through tensors ``(time, ...)`` or iterables over time together, last step first."""
    by_step = (s.unbind(0) if isinstance(s, Tensor) else s for s in steps)  # faster than iterating
    return reversed(list(zip(*by_step, strict=True)))
