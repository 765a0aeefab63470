"""Gated recurrent units: two gates and no cell state.

``gru_step`` is the mathematics, ``GRUCell`` adds the parameters, ``GRU`` runs over sequences.
"""

from __future__ import annotations

from functools import partial

import torch
from torch import Tensor
from torch.nn.functional import linear

from seqbook.kernels.recurrent import GRUFunction, GRUResetBeforeFunction
from seqbook.layers.recurrent import (
    CellSpecification,
    RecurrentCell,
    RecurrentLayer,
    Weights,
    specification_option,
)
from seqbook.validation import check_choice

__all__ = ["GRU", "RESETS", "GRUCell", "gru_step"]

RESETS = ("after", "before")
"""Where the reset gate acts: after or before the matrix product; see ``gru_step``."""


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
    :math:`h_t = (1 - z_t) h_{t-1} + z_t n_t`: the same functions, with the opposite sign of z's
    weights and biases.

    The rows of the weights and biases hold r, z and n in this order, as torch orders them.

    Shape:
        inputs ``(batch, features)``; hidden ``(batch, hidden)``; weight_ih
        ``(3 * hidden, features)``; weight_hh ``(3 * hidden, hidden)``; biases ``(3 * hidden,)``;
        result ``(batch, hidden)``.

    Raises:
        ValueError: ``reset`` is neither ``"after"`` nor ``"before"``.

    Source: Cho et al. (2014), equations 5 to 8.

    Example:
        >>> import torch
        >>> weights = {"weight_ih": torch.zeros(3, 2), "weight_hh": torch.zeros(3, 1)}
        >>> gru_step(torch.ones(1, 2), torch.ones(1, 1), **weights)  # z = 1 / 2, n = 0
        tensor([[0.5000]])
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


def _step(
    inputs: Tensor, state: tuple[Tensor, ...], weights: Weights, *, reset: str
) -> tuple[Tensor, ...]:
    return (gru_step(inputs, *state, **weights._asdict(), reset=reset),)


def _kernel(
    inputs: Tensor, state: tuple[Tensor, ...], weights: Weights, *, reset: str
) -> tuple[Tensor, ...]:
    function = GRUFunction if reset == "after" else GRUResetBeforeFunction
    states, *_ = function.apply(inputs, *state, *weights)
    return (states[1:],)


def _specification(reset: str) -> CellSpecification:
    check_choice("reset", reset, RESETS)
    return CellSpecification(
        gates=3,
        state=("hidden",),
        step=partial(_step, reset=reset),
        kernel=partial(_kernel, reset=reset),
    )


class GRUCell(RecurrentCell):
    r"""``gru_step`` with its parameters, laid out as in ``torch.nn.GRUCell``.

    .. math:: r_t, z_t &= \sigma(W_{rz} x_t + U_{rz} h_{t-1} + b_{rz}) \\
        n_t &= \tanh(W_n x_t + b_n + r_t \odot (U_n h_{t-1} + b'_n)) \\
        h_t &= (1 - z_t) \odot n_t + z_t \odot h_{t-1}

    with the reset gate after the matrix product; ``gru_step`` has both forms.

    Args:
        input_size: Number of input features.
        hidden_size: Number of hidden units.
        reset: Whether the reset gate acts ``"after"`` the matrix product, as in torch, or
            ``"before"`` it; see ``gru_step``.
        bias: Whether to add biases.
        generator: Draws the initial parameters, uniform in ``±1/sqrt(hidden_size)``; by default
            torch's own.
        device: Where the parameters are, by default torch's default device.
        dtype: Their floating type, by default torch's default type.

    Shape:
        weight_ih ``(3 * hidden, features)``; weight_hh ``(3 * hidden, hidden)``; biases
        ``(3 * hidden,)``.

    Raises:
        ValueError: A size is not positive or ``reset`` is unknown.
        TypeError: A size is not an integer.

    Source: Cho et al. (2014), equations 5 to 8.

    Example:
        >>> import torch
        >>> GRUCell(3, 4)(torch.zeros(2, 3), torch.zeros(2, 4)).shape
        torch.Size([2, 4])
    """

    reset = specification_option(
        "reset",
        _specification,
        "Whether the reset gate acts ``after`` or ``before`` the matrix product.",
    )

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        *,
        reset: str = "after",
        bias: bool = True,
        generator: torch.Generator | None = None,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__(
            _specification(reset),
            input_size,
            hidden_size,
            bias=bias,
            generator=generator,
            device=device,
            dtype=dtype,
        )

    def forward(self, inputs: Tensor, hidden: Tensor | None = None) -> Tensor:
        """Compute the state after one step.

        Shape:
            inputs ``(batch, features)``; hidden, by default zero, and result ``(batch, hidden)``.

        Raises:
            ValueError: A shape or device does not fit.
            TypeError: An argument is not a tensor of the parameters' type.
        """
        (hidden,) = self._step(inputs, (hidden,))
        return hidden


class GRU(RecurrentLayer):
    r"""A GRU over sequences, with its parameters laid out as in ``torch.nn.GRU``.

    .. math:: h^{(l)}_t = \operatorname{GRU}\big(h^{(l-1)}_t, h^{(l)}_{t-1}\big), \qquad
        h^{(0)}_t = x_t

    for one direction of layer l, with the step of ``gru_step``.

    Args:
        input_size: Number of input features.
        hidden_size: Number of hidden units.
        reset: Whether the reset gate acts ``"after"`` the matrix product, as in torch, or
            ``"before"`` it; see ``gru_step``.
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
        ValueError: A size is not positive or an option is unknown.
        TypeError: A size is not an integer.

    Source: Cho et al. (2014), equations 5 to 8.

    Example:
        >>> import torch
        >>> layer = GRU(3, 4)
        >>> outputs, final = layer(torch.ones(2, 5, 3), lengths=torch.tensor([5, 2]))
        >>> torch.equal(final[0, 1], outputs[1, 1])  # the state at the sequence's own last step
        True
        >>> outputs[1, 2:].abs().max().item()  # zero in the padding
        0.0
    """

    reset = specification_option(
        "reset",
        _specification,
        "Whether the reset gate acts ``after`` or ``before`` the matrix product.",
    )

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        *,
        reset: str = "after",
        num_layers: int = 1,
        bidirectional: bool = False,
        bias: bool = True,
        backward: str = "manual",
        generator: torch.Generator | None = None,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__(
            _specification(reset),
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

    def forward(
        self, inputs: Tensor, hidden: Tensor | None = None, *, lengths: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """Compute the outputs at every step, and the state after the last.

        Shape:
            inputs ``(batch, time, features)``; hidden, by default zero, and the final state
            ``(layers * directions, batch, hidden)``; lengths of padded sequences, integers,
            ``(batch,)``; outputs ``(batch, time, directions * hidden)``.

        Raises:
            ValueError: A shape or device does not fit, or a length is not in 1 to the number of
                steps.
            TypeError: An argument is not a tensor of the parameters' type, or ``lengths`` not one
                of integers.
        """
        outputs, (final,) = self._run(inputs, (hidden,), lengths)
        return outputs, final
