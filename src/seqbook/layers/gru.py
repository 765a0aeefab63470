"""Gated recurrent units: two gates and no cell state.

``gru_step`` is the mathematics, ``GRUCell`` adds the parameters, ``GRU`` runs over sequences.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import linear

from seqbook.kernels.recurrent import GRUFunction, GRUResetBeforeFunction
from seqbook.layers.recurrent import Recurrent, RecurrentCell, RecurrentLayer, Weights
from seqbook.validation import check_choice

__all__ = ["GRU", "RESETS", "GRUCell", "gru_step"]

RESETS = ("after", "before")


def gru_step(
    inputs: Tensor,
    hidden: Tensor,
    *,
    weight_ih: Tensor,
    weight_hh: Tensor,
    bias_ih: Tensor | None = None,
    bias_hh: Tensor | None = None,
    reset: str = "after",
) -> Tensor:
    r"""One step of a GRU, in either of its two conventions.

    .. math:: r_t &= \sigma(W_r x_t + U_r h_{t-1} + b_r) \\
        z_t &= \sigma(W_z x_t + U_z h_{t-1} + b_z) \\
        n_t &= \begin{cases}
            \tanh(W_n x_t + b_n + r_t \odot (U_n h_{t-1} + b'_n)) & \text{reset after} \\
            \tanh(W_n x_t + b_n + U_n (r_t \odot h_{t-1}) + b'_n) & \text{reset before}
        \end{cases} \\
        h_t &= (1 - z_t) \odot n_t + z_t \odot h_{t-1}

    The reset gate acts *after* the matrix product in ``torch.nn.GRU``, in cuDNN, in Keras by
    default and in the first arXiv version of Cho et al. (1406.1078v1); it acts *before* it in the
    published version (v3) and in Chung et al. (2014). The two are different functions, and weights
    trained for the one are wrong for the other.

    Here, in torch and in Cho et al., z = 1 keeps the old state. Chung et al. write
    :math:`h_t = (1 - z_t) h_{t-1} + z_t n_t`: the same functions, with the sign of z's weights
    and biases turned.

    The rows of the weights and biases hold r, z and n in this order, as torch orders them.

    Shape:
        inputs ``(batch, features)``; hidden ``(batch, hidden)``; weight_ih
        ``(3 * hidden, features)``; weight_hh ``(3 * hidden, hidden)``; biases ``(3 * hidden,)``;
        result ``(batch, hidden)``.

    Raises:
        ValueError: ``reset`` is neither ``"after"`` nor ``"before"``.

    Source: Cho et al. (2014), equations 5 to 8.
    """
    check_choice("reset", reset, RESETS)
    size = hidden.shape[-1]
    x_rz, x_n = linear(inputs, weight_ih, bias_ih).split([2 * size, size], dim=-1)
    weight_rz, weight_n = weight_hh.split([2 * size, size])
    bias_rz, bias_n = (None, None) if bias_hh is None else bias_hh.split([2 * size, size])
    r, z = (x_rz + linear(hidden, weight_rz, bias_rz)).sigmoid().chunk(2, dim=-1)
    if reset == "after":
        n = torch.tanh(x_n + r * linear(hidden, weight_n, bias_n))
    else:
        n = torch.tanh(x_n + linear(r * hidden, weight_n, bias_n))
    return (1 - z) * n + z * hidden


class _GRU(Recurrent):
    gates = 3

    def __init__(self, input_size: int, hidden_size: int, *, reset: str = "after", **options):
        super().__init__(input_size, hidden_size, **options)
        check_choice("reset", reset, RESETS)
        self.reset = reset

    def _step(self, inputs: Tensor, state: tuple, weights: Weights) -> tuple[Tensor, ...]:
        return (gru_step(inputs, *state, **weights._asdict(), reset=self.reset),)


class GRUCell(_GRU, RecurrentCell):
    """``gru_step`` with its parameters, laid out as in ``torch.nn.GRUCell``.

    Args:
        input_size: Number of input features.
        hidden_size: Number of hidden units.
        reset: Whether the reset gate acts ``"after"`` the matrix product, as in torch, or
            ``"before"`` it; see ``gru_step``.
        **options: ``bias`` and ``generator``, see ``seqbook.layers.recurrent.RecurrentCell``.

    Raises:
        ValueError: A size is not positive or ``reset`` is unknown.
    """


class GRU(_GRU, RecurrentLayer):
    """A GRU over sequences, with its parameters laid out as in ``torch.nn.GRU``.

    Args:
        input_size: Number of input features.
        hidden_size: Number of hidden units.
        reset: As for ``GRUCell``.
        **options: ``num_layers``, ``bidirectional``, ``bias``, ``backward`` and ``generator``, see
            ``seqbook.layers.recurrent.RecurrentLayer``.

    Raises:
        ValueError: A size is not positive or an option is unknown.
    """

    def _derived(self, inputs: Tensor, state: tuple, weights: Weights) -> tuple[Tensor, ...]:
        run = GRUFunction if self.reset == "after" else GRUResetBeforeFunction
        return (run.apply(inputs, *state, *weights),)
