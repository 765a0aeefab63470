"""Vanilla recurrent networks: the state is a nonlinear function of the input and the last state.

``rnn_step`` is the mathematics, ``RNNCell`` adds the parameters, ``RNN`` runs over sequences.
"""

from __future__ import annotations

from functools import partial

import torch
from torch import Tensor
from torch.nn.functional import linear

from seqbook.kernels.recurrent import ACTIVATIONS, RNNFunction
from seqbook.layers.recurrent import (
    CellSpecification,
    RecurrentCell,
    RecurrentLayer,
    Weights,
    specification_option,
)
from seqbook.validation import check_choice

__all__ = ["RNN", "RNNCell", "rnn_step"]


def rnn_step(
    inputs: Tensor,
    hidden: Tensor,
    *,
    weight_ih: Tensor,
    weight_hh: Tensor,
    bias_ih: Tensor | None = None,
    bias_hh: Tensor | None = None,
    activation: str = "tanh",
) -> Tensor:
    r"""One step of a vanilla recurrent network.

    .. math:: h_t = \phi(W_x x_t + b_x + W_h h_{t-1} + b_h)

    Shape:
        inputs ``(batch, features)``; hidden ``(batch, hidden)``; weight_ih ``(hidden, features)``;
        weight_hh ``(hidden, hidden)``; biases ``(hidden,)``; result ``(batch, hidden)``.

    Raises:
        ValueError: The activation is unknown.

    Source: Elman (1990).

    Example:
        >>> import torch
        >>> inputs, hidden = torch.tensor([[1.0, 2.0]]), torch.tensor([[-1.0]])
        >>> weights = {"weight_ih": torch.tensor([[1.0, 1.0]]), "weight_hh": torch.tensor([[1.0]])}
        >>> rnn_step(inputs, hidden, **weights, activation="relu")
        tensor([[2.]])
    """
    check_choice("activation", activation, ACTIVATIONS)
    preactivation = linear(inputs, weight_ih, bias_ih) + linear(hidden, weight_hh, bias_hh)
    return ACTIVATIONS[activation].function(preactivation)


def _step(
    inputs: Tensor, state: tuple[Tensor, ...], weights: Weights, *, activation: str
) -> tuple[Tensor, ...]:
    return (rnn_step(inputs, *state, **weights._asdict(), activation=activation),)


def _kernel(
    inputs: Tensor, state: tuple[Tensor, ...], weights: Weights, *, activation: str
) -> tuple[Tensor, ...]:
    return (RNNFunction.apply(inputs, *state, *weights, activation)[1:],)


def _specification(activation: str) -> CellSpecification:
    check_choice("activation", activation, ACTIVATIONS)
    return CellSpecification(
        gates=1,
        state=("hidden",),
        step=partial(_step, activation=activation),
        kernel=partial(_kernel, activation=activation),
    )


class RNNCell(RecurrentCell):
    r"""``rnn_step`` with its parameters, laid out as in ``torch.nn.RNNCell``.

    .. math:: h_t = \phi(W_x x_t + b_x + W_h h_{t-1} + b_h)

    Args:
        input_size: Number of input features.
        hidden_size: Number of hidden units.
        activation: ``"tanh"``, ``"relu"`` or ``"identity"`` (a linear network).
        bias: Whether to add biases.
        generator: Draws the initial parameters, uniform in ``±1/sqrt(hidden_size)``; by default
            torch's own.
        device: Where the parameters are, by default torch's default device.
        dtype: Their floating type, by default torch's default type.

    Shape:
        weight_ih ``(hidden, features)``; weight_hh ``(hidden, hidden)``; biases ``(hidden,)``.

    Raises:
        ValueError: A size is not positive or the activation is unknown.
        TypeError: A size is not an integer.

    Source: Elman (1990).

    Example:
        >>> import torch
        >>> cell = RNNCell(3, 4)
        >>> hidden = None
        >>> for inputs in torch.zeros(5, 2, 3):
        ...     hidden = cell(inputs, hidden)
        >>> hidden.shape
        torch.Size([2, 4])
    """

    activation = specification_option(
        "activation", _specification, "The activation function's name."
    )

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        *,
        activation: str = "tanh",
        bias: bool = True,
        generator: torch.Generator | None = None,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__(
            _specification(activation),
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


class RNN(RecurrentLayer):
    r"""A vanilla recurrent network over sequences, parameters laid out as in ``torch.nn.RNN``.

    .. math:: h^{(l)}_t = \phi\big(W^{(l)}_x h^{(l-1)}_t + b^{(l)}_x
        + W^{(l)}_h h^{(l)}_{t-1} + b^{(l)}_h\big), \qquad h^{(0)}_t = x_t

    for one direction of layer l.

    Args:
        input_size: Number of input features.
        hidden_size: Number of hidden units.
        activation: ``"tanh"``, ``"relu"`` or ``"identity"`` (a linear network). The last two have
            no bound: with weights that make the state grow, it overflows after enough steps, and
            steps of padding count.
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

    Source: Elman (1990).

    Example:
        >>> import torch
        >>> layer = RNN(3, 4, num_layers=2, bidirectional=True)
        >>> outputs, final = layer(torch.zeros(2, 5, 3))
        >>> outputs.shape, final.shape
        (torch.Size([2, 5, 8]), torch.Size([4, 2, 4]))
    """

    activation = specification_option(
        "activation", _specification, "The activation function's name."
    )

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        *,
        activation: str = "tanh",
        num_layers: int = 1,
        bidirectional: bool = False,
        bias: bool = True,
        backward: str = "manual",
        generator: torch.Generator | None = None,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__(
            _specification(activation),
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
