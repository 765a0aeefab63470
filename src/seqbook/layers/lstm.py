"""Long short-term memory: a cell state that is kept unless a gate says otherwise.

``lstm_step`` is the mathematics, ``LSTMCell`` adds the parameters, ``LSTM`` runs over sequences.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import linear

from seqbook.kernels.recurrent import LSTMFunction
from seqbook.layers.recurrent import Recurrent, RecurrentCell, RecurrentLayer, Weights

__all__ = ["LSTM", "LSTMCell", "LSTMState", "lstm_step"]


class LSTMState(NamedTuple):
    """The two states of an LSTM, of the same shape.

    Attributes:
        hidden: h, what the step gives to the outside.
        cell: c, what it remembers.
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
        g_t &= \tanh(W_g x_t + U_g h_{t-1} + b_g) \\
        o_t &= \sigma(W_o x_t + U_o h_{t-1} + b_o) \\
        c_t &= f_t \odot c_{t-1} + i_t \odot g_t \\
        h_t &= o_t \odot \tanh(c_t)

    The rows of the weights and biases hold the four gates in this order, as torch orders them.

    Shape:
        inputs ``(batch, features)``; hidden and cell ``(batch, hidden)``; weight_ih
        ``(4 * hidden, features)``; weight_hh ``(4 * hidden, hidden)``; biases ``(4 * hidden,)``.

    Source: Hochreiter and Schmidhuber (1997), with the forget gate of Gers, Schmidhuber and
    Cummins (2000).
    """
    hidden, cell = state
    gates = linear(inputs, weight_ih, bias_ih) + linear(hidden, weight_hh, bias_hh)
    i, f, g, o = gates.chunk(4, dim=-1)
    cell = f.sigmoid() * cell + i.sigmoid() * g.tanh()
    return LSTMState(o.sigmoid() * cell.tanh(), cell)


class _LSTM(Recurrent):
    gates = 4

    def __init__(
        self, input_size: int, hidden_size: int, *, forget_bias: float | None = None, **options
    ):
        super().__init__(input_size, hidden_size, **options)
        if forget_bias is not None:
            self._set_forget_bias(forget_bias)

    @torch.no_grad()
    def _set_forget_bias(self, value: float) -> None:
        if not self.bias:
            raise ValueError(f"forget_bias: expected None without biases, got {value}")
        forget_gate = slice(self.hidden_size, 2 * self.hidden_size)
        for name, parameter in self.named_parameters():
            if name.startswith("bias"):
                parameter[forget_gate] = value if name.startswith("bias_ih") else 0.0

    def _step(self, inputs: Tensor, state: tuple, weights: Weights) -> LSTMState:
        return lstm_step(inputs, LSTMState(*state), **weights._asdict())


class LSTMCell(_LSTM, RecurrentCell):
    """``lstm_step`` with its parameters, laid out as in ``torch.nn.LSTMCell``.

    Args:
        input_size: Number of input features.
        hidden_size: Number of hidden units.
        forget_bias: Initial value of the forget gate's bias, that is of the sum of its two bias
            vectors; by default both are drawn like the other parameters. With a bias b and small
            weights a memory shrinks by the factor sigmoid(b) at each step.
        **options: ``bias`` and ``generator``, see ``seqbook.layers.recurrent.RecurrentCell``.

    Raises:
        ValueError: A size is not positive, or there is a ``forget_bias`` but no bias.
    """

    def forward(self, inputs: Tensor, state: LSTMState | None = None) -> LSTMState:
        """The two states after one step.

        Shape:
            inputs ``(batch, features)``; hidden and cell, by default zero, ``(batch, hidden)``.

        Raises:
            ValueError: A shape does not fit.
            TypeError: ``state`` is not a pair of tensors.
        """
        parts = _named(state).items()
        state = LSTMState(*(self._state(name, part, inputs) for name, part in parts))
        return self._step(inputs, state, self._weights())


class LSTM(_LSTM, RecurrentLayer):
    """An LSTM over sequences, with its parameters laid out as in ``torch.nn.LSTM``.

    Args:
        input_size: Number of input features.
        hidden_size: Number of hidden units.
        forget_bias: As for ``LSTMCell``, in every layer and direction.
        **options: ``num_layers``, ``bidirectional``, ``bias``, ``backward`` and ``generator``, see
            ``seqbook.layers.recurrent.RecurrentLayer``.

    Raises:
        ValueError: A size is not positive, an option is unknown, or there is a ``forget_bias`` but
            no bias.
    """

    def forward(
        self, inputs: Tensor, state: LSTMState | None = None, *, lengths: Tensor | None = None
    ) -> tuple[Tensor, LSTMState]:
        """The hidden states at every step, and both states at the last.

        Shape:
            inputs ``(batch, time, features)``; hidden and cell, by default zero, and in the final
            state, ``(layers * directions, batch, hidden)``; lengths, integers, ``(batch,)``;
            outputs ``(batch, time, directions * hidden)``.

        Raises:
            ValueError: A shape does not fit, or a length is not in 1 to the number of steps.
            TypeError: ``state`` is not a pair of tensors, or ``lengths`` not a tensor of integers.
        """
        outputs, final = self._run(inputs, _named(state), lengths)
        return outputs, LSTMState(*final)

    def _derived(self, inputs: Tensor, state: tuple, weights: Weights) -> tuple[Tensor, ...]:
        return LSTMFunction.apply(inputs, *state, *weights)


def _named(state: LSTMState | None) -> dict[str, Tensor | None]:
    if state is None:
        return dict.fromkeys(LSTMState._fields)
    if not isinstance(state, tuple) or len(state) != 2:
        got = f"shape {tuple(state.shape)}" if isinstance(state, Tensor) else repr(type(state))
        raise TypeError(f"state: expected a pair LSTMState(hidden, cell), got {got}")
    return LSTMState(*state)._asdict()
