"""Long short-term memory: a cell state that is kept as far as a gate lets it.

``lstm_step`` is the mathematics, ``LSTMCell`` adds the parameters, ``LSTM`` runs over sequences.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import linear

from seqbook.kernels.recurrent import LSTMFunction
from seqbook.layers.recurrent import CellSpecification, RecurrentCell, RecurrentLayer, Weights

__all__ = ["LSTM", "LSTMCell", "LSTMState", "lstm_step"]


class LSTMState(NamedTuple):
    """The two states of an LSTM, of the same shape.

    ``(batch, hidden)`` for a cell, ``(layers * directions, batch, hidden)`` for a layer.

    Attributes:
        hidden: h, the output of the step.
        cell: c, its memory.

    Example:
        >>> import torch
        >>> hidden, cell = LSTMState(torch.zeros(2, 4), torch.ones(2, 4))
    """

    hidden: Tensor
    cell: Tensor


def lstm_step(
    inputs: Tensor,
    state: LSTMState,
    *,
    weight_ih: Tensor,
    weight_hh: Tensor,
    bias_ih: Tensor | None = None,
    bias_hh: Tensor | None = None,
) -> LSTMState:
    r"""One step of an LSTM.

    .. math:: i_t &= \sigma(W_i x_t + U_i h_{t-1} + b_i) \\
        f_t &= \sigma(W_f x_t + U_f h_{t-1} + b_f) \\
        \tilde c_t &= \tanh(W_c x_t + U_c h_{t-1} + b_c) \\
        o_t &= \sigma(W_o x_t + U_o h_{t-1} + b_o) \\
        c_t &= f_t \odot c_{t-1} + i_t \odot \tilde c_t \\
        h_t &= o_t \odot \tanh(c_t)

    The rows of the weights and biases hold i, f, :math:`\tilde c` and o in this order, as in torch,
    which calls the candidate g.

    Shape:
        inputs ``(batch, features)``; hidden and cell, before and after the step,
        ``(batch, hidden)``; weight_ih ``(4 * hidden, features)``; weight_hh
        ``(4 * hidden, hidden)``; biases ``(4 * hidden,)``.

    Source: Hochreiter and Schmidhuber (1997), with the forget gate of Gers, Schmidhuber and
    Cummins (2000).

    Example:
        >>> import torch
        >>> weights = {"weight_ih": torch.zeros(4, 2), "weight_hh": torch.zeros(4, 1)}
        >>> state = LSTMState(torch.zeros(1, 1), torch.ones(1, 1))
        >>> lstm_step(torch.ones(1, 2), state, **weights).cell  # f = 1 / 2, g = 0
        tensor([[0.5000]])
    """
    hidden, cell = state
    gates = linear(inputs, weight_ih, bias_ih) + linear(hidden, weight_hh, bias_hh)
    i, f, g, o = gates.chunk(4, dim=-1)
    cell = f.sigmoid() * cell + i.sigmoid() * g.tanh()
    return LSTMState(o.sigmoid() * cell.tanh(), cell)


def _step(inputs: Tensor, state: tuple[Tensor, ...], weights: Weights) -> LSTMState:
    return lstm_step(inputs, LSTMState(*state), **weights._asdict())


def _kernel(inputs: Tensor, state: tuple[Tensor, ...], weights: Weights) -> tuple[Tensor, ...]:
    hiddens, cells, *_ = LSTMFunction.apply(inputs, *state, *weights)
    return hiddens[1:], cells[1:]


_SPECIFICATION = CellSpecification(gates=4, state=LSTMState._fields, step=_step, kernel=_kernel)


class LSTMCell(RecurrentCell):
    r"""``lstm_step`` with its parameters, laid out as in ``torch.nn.LSTMCell``.

    .. math:: i_t, f_t, o_t &= \sigma(W_{ifo} x_t + U_{ifo} h_{t-1} + b_{ifo}) \\
        \tilde c_t &= \tanh(W_c x_t + U_c h_{t-1} + b_c) \\
        c_t &= f_t \odot c_{t-1} + i_t \odot \tilde c_t, \qquad h_t = o_t \odot \tanh(c_t)

    Args:
        input_size: Number of input features.
        hidden_size: Number of hidden units.
        forget_bias: Initial value of the forget gate's bias, that is of the sum of its two bias
            vectors; by default both are drawn like the other parameters. With a bias b and small
            weights a memory shrinks by the factor sigmoid(b) at each step.
        bias: Whether to add biases.
        generator: Draws the initial parameters, uniform in ``±1/sqrt(hidden_size)``; by default
            torch's own.
        device: Where the parameters are, by default torch's default device.
        dtype: Their floating type, by default torch's default type.

    Shape:
        weight_ih ``(4 * hidden, features)``; weight_hh ``(4 * hidden, hidden)``; biases
        ``(4 * hidden,)``.

    Raises:
        ValueError: A size is not positive, or there is a ``forget_bias`` but no bias.
        TypeError: A size is not an integer.

    Source: Hochreiter and Schmidhuber (1997); Gers, Schmidhuber and Cummins (2000).

    Example:
        >>> import torch
        >>> cell = LSTMCell(3, 4)
        >>> state = cell(torch.zeros(2, 3))
        >>> cell(torch.zeros(2, 3), state).hidden.shape
        torch.Size([2, 4])
    """

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        *,
        forget_bias: float | None = None,
        bias: bool = True,
        generator: torch.Generator | None = None,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__(
            _SPECIFICATION,
            input_size,
            hidden_size,
            bias=bias,
            generator=generator,
            device=device,
            dtype=dtype,
        )
        _set_forget_bias(self, forget_bias)

    def forward(self, inputs: Tensor, state: LSTMState | None = None) -> LSTMState:
        """Compute the two states after one step.

        Shape:
            inputs ``(batch, features)``; hidden and cell, by default zero, ``(batch, hidden)``.

        Raises:
            ValueError: A shape or device does not fit.
            TypeError: ``state`` is not a pair, or an argument is not a tensor of the parameters'
                type.
        """
        return LSTMState(*self._step(inputs, _pair(state)))


class LSTM(RecurrentLayer):
    r"""An LSTM over sequences, with its parameters laid out as in ``torch.nn.LSTM``.

    .. math:: \big(h^{(l)}_t, c^{(l)}_t\big) = \operatorname{LSTM}\big(
        h^{(l-1)}_t, (h^{(l)}_{t-1}, c^{(l)}_{t-1})\big), \qquad h^{(0)}_t = x_t

    for one direction of layer l, with the step of ``lstm_step``.

    Args:
        input_size: Number of input features.
        hidden_size: Number of hidden units.
        forget_bias: As for ``LSTMCell``, in every layer and direction.
        num_layers: Number of layers.
        bidirectional: Whether to add a second network that reads from the last step to the first.
        bias: Whether to add biases.
        backward: ``"manual"``, the fast kernel, or ``"autograd"``, the textbook loop, which can be
            differentiated twice; see ``seqbook.layers.recurrent.RecurrentLayer``.
        generator: Draws the initial parameters, uniform in ``±1/sqrt(hidden_size)``; by default
            torch's own.
        device: Where the parameters are, by default torch's default device.
        dtype: Their floating type, by default torch's default type.

    Raises:
        ValueError: A size is not positive, an option is unknown, or there is a ``forget_bias`` but
            no bias.
        TypeError: A size is not an integer.

    Source: Hochreiter and Schmidhuber (1997); Gers, Schmidhuber and Cummins (2000).

    Example:
        >>> import torch
        >>> layer = LSTM(3, 4, forget_bias=1.0)
        >>> outputs, state = layer(torch.zeros(2, 5, 3))
        >>> outputs.shape, state.cell.shape
        (torch.Size([2, 5, 4]), torch.Size([1, 2, 4]))
        >>> outputs, state = layer(torch.zeros(2, 5, 3), state)  # the next five steps
    """

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        *,
        forget_bias: float | None = None,
        num_layers: int = 1,
        bidirectional: bool = False,
        bias: bool = True,
        backward: str = "manual",
        generator: torch.Generator | None = None,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__(
            _SPECIFICATION,
            input_size,
            hidden_size,
            num_layers=num_layers,
            bidirectional=bidirectional,
            bias=bias,
            backward=backward,
            generator=generator,
            device=device,
            dtype=dtype,
        )
        _set_forget_bias(self, forget_bias)

    def forward(
        self, inputs: Tensor, state: LSTMState | None = None, *, lengths: Tensor | None = None
    ) -> tuple[Tensor, LSTMState]:
        """Compute the hidden states at every step, and both states after the last.

        Shape:
            inputs ``(batch, time, features)``; hidden and cell, by default zero, and in the final
            state, ``(layers * directions, batch, hidden)``; lengths of padded sequences, integers,
            ``(batch,)``; outputs ``(batch, time, directions * hidden)``.

        Raises:
            ValueError: A shape or device does not fit, or a length is not in 1 to the number of
                steps.
            TypeError: ``state`` is not a pair, an argument is not a tensor of the parameters' type,
                or ``lengths`` is not one of integers.
        """
        outputs, final = self._run(inputs, _pair(state), lengths)
        return outputs, LSTMState(*final)


@torch.no_grad()
def _set_forget_bias(module: RecurrentCell | RecurrentLayer, value: float | None) -> None:
    if value is None:
        return
    if not module.bias:
        raise ValueError(f"forget_bias: expected None without biases, got {value}")
    forget_gate = slice(module.hidden_size, 2 * module.hidden_size)
    for name, parameter in module.named_parameters():
        if name.startswith("bias"):
            parameter[forget_gate] = value if name.startswith("bias_ih") else 0.0


def _pair(state: LSTMState | None) -> tuple[Tensor | None, ...]:
    if state is None:
        return None, None
    if not isinstance(state, tuple) or len(state) != 2:
        received = f"shape {tuple(state.shape)}" if isinstance(state, Tensor) else repr(type(state))
        raise TypeError(f"state: expected a pair LSTMState(hidden, cell), got {received}")
    return state
