"""Every kind of recurrent layer and cell, for tests of what all of them must do."""

from functools import partial

import torch
from torch import Tensor

from seqbook.layers.gru import GRU, GRUCell
from seqbook.layers.lstm import LSTM, LSTMCell
from seqbook.layers.rnn import RNN, RNNCell

LAYERS = {
    "tanh": RNN,
    "relu": partial(RNN, activation="relu"),
    "identity": partial(RNN, activation="identity"),
    "lstm": LSTM,
    "gru after": GRU,
    "gru before": partial(GRU, reset="before"),
}
CELLS = {
    "tanh": RNNCell,
    "relu": partial(RNNCell, activation="relu"),
    "lstm": LSTMCell,
    "gru after": GRUCell,
    "gru before": partial(GRUCell, reset="before"),
}


def as_parts(state: Tensor | tuple) -> tuple[Tensor, ...]:
    return (state,) if isinstance(state, Tensor) else tuple(state)


def as_state(parts: list[Tensor]) -> Tensor | tuple:
    return parts[0] if len(parts) == 1 else tuple(parts)


def initial_state(kind: str, *shape: int, **options) -> Tensor | tuple:
    return as_state([torch.ones(shape, **options) for _ in range(1 + (kind == "lstm"))])


def pair(kind: str, *sizes: int, **options) -> tuple:
    """A layer with the manual backward pass, and one with autograd's and the same weights."""
    manual = LAYERS[kind](*sizes, **options)
    autograd = LAYERS[kind](*sizes, backward="autograd", **options)
    autograd.load_state_dict(manual.state_dict())
    return manual, autograd
