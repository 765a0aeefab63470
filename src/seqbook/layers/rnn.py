"""Vanilla recurrent networks: the state is a nonlinear function of the input and the state before.

``rnn_step`` is the mathematics, ``RNNCell`` adds the parameters, ``RNN`` runs over sequences.
"""

from __future__ import annotations

from torch import Tensor
from torch.nn.functional import linear

from seqbook.kernels.recurrent import ACTIVATIONS, RNNFunction
from seqbook.layers.recurrent import Recurrent, RecurrentCell, RecurrentLayer, Weights
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
    """
    check_choice("activation", activation, ACTIVATIONS)
    preactivation = linear(inputs, weight_ih, bias_ih) + linear(hidden, weight_hh, bias_hh)
    return ACTIVATIONS[activation].function(preactivation)


class _Vanilla(Recurrent):
    gates = 1

    def __init__(self, input_size: int, hidden_size: int, *, activation: str = "tanh", **options):
        super().__init__(input_size, hidden_size, **options)
        check_choice("activation", activation, ACTIVATIONS)
        self.activation = activation

    def _step(self, inputs: Tensor, state: tuple, weights: Weights) -> tuple[Tensor, ...]:
        return (rnn_step(inputs, *state, **weights._asdict(), activation=self.activation),)


class RNNCell(_Vanilla, RecurrentCell):
    """``rnn_step`` with its parameters, laid out as in ``torch.nn.RNNCell``.

    Args:
        input_size: Number of input features.
        hidden_size: Number of hidden units.
        activation: ``"tanh"``, ``"relu"`` or ``"identity"`` (a linear network).
        **options: ``bias`` and ``generator``, see ``seqbook.layers.recurrent.RecurrentCell``.

    Raises:
        ValueError: A size is not positive or the activation is unknown.
    """


class RNN(_Vanilla, RecurrentLayer):
    """A vanilla recurrent network over sequences, parameters laid out as in ``torch.nn.RNN``.

    Args:
        input_size: Number of input features.
        hidden_size: Number of hidden units.
        activation: ``"tanh"``, ``"relu"`` or ``"identity"`` (a linear network). The last two have
            no bound: with weights that make the state grow, it overflows after enough steps, and
            steps of padding count.
        **options: ``num_layers``, ``bidirectional``, ``bias``, ``backward`` and ``generator``, see
            ``seqbook.layers.recurrent.RecurrentLayer``.

    Raises:
        ValueError: A size is not positive or an option is unknown.
    """

    def _derived(self, inputs: Tensor, state: tuple, weights: Weights) -> tuple[Tensor, ...]:
        return (RNNFunction.apply(inputs, *state, *weights, self.activation),)
