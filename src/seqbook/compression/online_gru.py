r"""A GRU that learns while it reads, with the same digits on every machine.

A network that trains itself can't be used by a decoder unless each weight comes out the same there.
Two things differ between machines: the last digit of ``exp`` and ``tanh``, and the order in which a
matrix product adds. Here the functions come from the tables of ``logistic``. Before a product, both
factors are rounded to whole multiples of a power of two,

.. math:: Q_k(x) = 2^{-k} \, \mathrm{round}(2^k x)

and kept so small that every partial sum has less than 53 binary digits. Such sums are exact in
float64, so their order doesn't matter, nor do fused multiplications and the number of threads. All
else is arithmetic on single numbers, which IEEE 754 rounds in one way.
"""

from __future__ import annotations

import math
import zlib
from functools import cache
from typing import NamedTuple

import numpy as np

from seqbook.compression.logistic import LIMIT, ONE, STEPS, scaled_exponential, squash_table
from seqbook.validation import check_integer

__all__ = ["GRUSettings", "OnlineGRU", "check_arithmetic", "gradients", "rounded"]

_STATE = (12, 1.0)  # binary digits behind the point, and the largest magnitude
_DROPPED = (12, 4.0)
_WEIGHT = (14, 8.0)
_GRADIENT = (18, 64.0)
_RECORDED = 0xA06C8195  # see check_arithmetic
_SHARE = 1 << 24  # unit of the probabilities


class GRUSettings(NamedTuple):
    """Size and training of the network.

    Attributes:
        hidden: Number of hidden units, at most 512.
        every: Bytes from one update to the next.
        windows: Sequences in an update: the last one, and others drawn from all that was read.
        length: Bytes of a sequence.
        dropout: Probability that a hidden unit is left out in training.
        rate: Learning rate of Adam.
        seed: Seed of the weights, the windows and the dropout.

    Example:
        >>> GRUSettings(hidden=32).windows
        16
    """

    hidden: int = 256
    every: int = 32
    windows: int = 16
    length: int = 64
    dropout: float = 0.4
    rate: float = 0.004
    seed: int = 0


def rounded(values: np.ndarray, digits: int, largest: float) -> np.ndarray:
    r"""Round to multiples of a power of two, and clip.

    .. math:: Q_k(x) = 2^{-k} \, \mathrm{round}(2^k x)

    Args:
        values: Any numbers.
        digits: Binary digits behind the point, k.
        largest: The largest magnitude.

    Shape:
        values and result: ``(...)``.

    Example:
        >>> rounded(np.array([0.3, -20.0]), 2, 8.0)
        array([ 0.25, -8.  ])
    """
    scale = float(1 << digits)
    return np.rint(np.clip(values, -largest, largest) * scale) / scale


@cache
def check_arithmetic() -> None:
    r"""Train a small network and compare the result with the one that every machine must give.

    Raises:
        ArithmeticError: It differs, so that this machine could not read archives of others.

    Example:
        >>> check_arithmetic()
    """
    network = OnlineGRU(16, GRUSettings(hidden=24, every=8, windows=4, length=16))
    for step in range(160):
        network.append(step * step % 11)
    found = zlib.crc32(repr(network.cumulative).encode())
    if found != _RECORDED:
        raise ArithmeticError(
            f"network: this machine's arithmetic differs from IEEE 754: expected {_RECORDED:08x}, "
            f"got {found:08x}; archives with a network can't be written or read here"
        )


class OnlineGRU:
    r"""Predict the next byte by a GRU, and train it on what was read.

    .. math::

        r, z &= \sigma(a_{r, z} + g_{r, z}), \qquad n = \tanh(a_n + r \odot g_n) \\
        h_t &= (1 - z) \odot n + z \odot h_{t-1}, \qquad a = E_{x_t}, \qquad g = U h_{t-1} \\
        P(x_{t+1}) &= \mathrm{softmax}(V h_t + c)

    Args:
        symbols: Number of symbols, at most 256.
        settings: Size and training.

    Attributes:
        cumulative: Sums of the probabilities of the next symbol, in units of :math:`2^{-24}`: that
            of symbols i to j - 1 is ``cumulative[j] - cumulative[i]``.

    Source: Cho et al. (2014), in the form whose reset gate stands behind the product, as in torch.

    Example:
        >>> small = GRUSettings(hidden=16, every=4, windows=4, length=8, dropout=0, rate=0.02)
        >>> network = OnlineGRU(4, small)
        >>> for symbol in [0, 1, 2, 3] * 60:
        ...     network.append(symbol)
        >>> shares = np.diff(network.cumulative)
        >>> int(shares.argmax()), bool(shares[0] > 0.9 * shares.sum())
        (0, True)
    """

    def __init__(self, symbols: int, settings: GRUSettings) -> None:
        check_integer("symbols", symbols, minimum=2, maximum=256)
        check_integer("hidden", settings.hidden, minimum=1, maximum=512)
        check_integer(
            "windows x length", settings.windows * settings.length, minimum=1, maximum=2048
        )
        self._settings = settings
        self._generator = np.random.PCG64(settings.seed)
        hidden = settings.hidden
        self._weights = {
            "embedding": self._uniform((symbols, 3 * hidden), 0.5),
            "recurrent": self._uniform((hidden, 3 * hidden), 1 / math.sqrt(hidden)),
            "output": self._uniform((hidden, symbols), 1 / math.sqrt(hidden)),
            "bias": np.zeros(symbols),
        }
        self._means = {name: np.zeros_like(value) for name, value in self._weights.items()}
        self._squares = {name: np.zeros_like(value) for name, value in self._weights.items()}
        self._decays = [1.0, 1.0]
        self._data = bytearray()
        self._state = np.zeros((1, hidden))
        self._round_weights()
        self.cumulative: list[int] = []
        self._predict()

    def append(self, symbol: int) -> None:
        """Take in a symbol; train if it is time; predict the next."""
        self._data.append(symbol)
        settings = self._settings
        enough = len(self._data) > settings.length
        if enough and len(self._data) % settings.every == 0:
            self._train()
        self._state = _step(self._rounded, np.array([symbol]), self._state)[0]
        self._predict()

    def _predict(self) -> None:
        logits = self._state @ self._rounded["output"] + self._rounded["bias"]
        shares = np.rint(_softmax(logits)[0] * _SHARE).astype(np.int64) + 1
        self.cumulative = [0, *np.cumsum(shares).tolist()]

    def _train(self) -> None:
        settings = self._settings
        last = len(self._data) - settings.length - 1
        drawn = self._generator.random_raw(settings.windows - 1) % np.uint64(last + 1)
        starts = np.append(drawn.astype(np.int64), last)
        data = np.frombuffer(bytes(self._data), dtype=np.uint8).astype(np.int64)
        windows = data[starts[:, None] + np.arange(settings.length + 1)]
        keep = self._uniform((settings.length, settings.windows, settings.hidden), 1.0)
        mask = (keep >= 2 * settings.dropout - 1) / (1 - settings.dropout)
        self._move(gradients(self._rounded, windows, mask))

    def _move(self, changes: dict[str, np.ndarray]) -> None:
        """One step of Adam."""
        first, second = 0.9, 0.999
        self._decays = [self._decays[0] * first, self._decays[1] * second]
        count = self._settings.windows * self._settings.length
        for name, weights in self._weights.items():
            gradient = changes[name] / count
            mean, square = self._means[name], self._squares[name]
            mean += (1 - first) * (gradient - mean)
            square += (1 - second) * (gradient * gradient - square)
            size = np.sqrt(square / (1 - self._decays[1])) + 1e-8
            weights -= self._settings.rate * (mean / (1 - self._decays[0])) / size
        self._round_weights()

    def _round_weights(self) -> None:
        self._rounded = {name: rounded(value, *_WEIGHT) for name, value in self._weights.items()}

    def _uniform(self, shape: tuple[int, ...], largest: float) -> np.ndarray:
        raw = self._generator.random_raw(int(np.prod(shape))) >> np.uint64(40)
        return (raw.astype(np.float64) / (1 << 23) - 1.0).reshape(shape) * largest


def gradients(
    weights: dict[str, np.ndarray], windows: np.ndarray, mask: np.ndarray
) -> dict[str, np.ndarray]:
    r"""Gradients of the cost of sequences, by backpropagation through time.

    .. math:: \mathcal{L} = -\sum_{b, t} \ln P(x_{b, t+1} \mid x_{b, 1}, \dots, x_{b, t})

    Args:
        weights: ``embedding`` E, ``recurrent`` U transposed, ``output`` V transposed, ``bias`` c,
            each a multiple of :math:`2^{-14}` of magnitude at most 8.
        windows: Sequences of symbols, each one longer than the steps that are predicted.
        mask: Factors of the hidden units before the output.

    Shape:
        weights: ``(symbols, 3 * hidden)``, ``(hidden, 3 * hidden)``, ``(hidden, symbols)``,
        ``(symbols,)``; the gates in the order r, z, n.

        windows: ``(batch, time + 1)``. mask: ``(time, batch, hidden)``.

        result: as the weights.

    Example:
        >>> zeros = {
        ...     "embedding": np.zeros((2, 3)),
        ...     "recurrent": np.zeros((1, 3)),
        ...     "output": np.zeros((1, 2)),
        ...     "bias": np.zeros(2),
        ... }
        >>> gradients(zeros, np.array([[0, 1, 1]]), np.ones((2, 1, 1)))["bias"]
        array([ 1., -1.])
    """
    inputs, targets = windows[:, :-1].T, windows[:, 1:].T
    length, batch, hidden = mask.shape
    state = np.zeros((batch, hidden))
    kept, states = [], []
    for symbols in inputs:
        state, *gates = _step(weights, symbols, state)
        kept.append(gates)
        states.append(state)
    dropped = rounded(np.stack(states) * mask, *_DROPPED).reshape(-1, hidden)
    errors = _softmax(dropped @ weights["output"] + weights["bias"])
    errors[np.arange(len(errors)), targets.ravel()] -= 1.0
    errors = rounded(errors, *_GRADIENT)
    from_output = (errors @ weights["output"].T).reshape(mask.shape) * mask

    change = np.zeros_like(state)
    to_gates = np.empty((length, batch, 3 * hidden))
    to_products = np.empty_like(to_gates)
    for time in range(length - 1, -1, -1):
        before, reset, update, new, products = kept[time]
        change = change + from_output[time]
        to_new = change * (1 - update) * (1 - new * new)
        to_reset = to_new * products * reset * (1 - reset)
        to_update = change * (before - new) * update * (1 - update)
        both = [to_reset, to_update]
        to_gates[time] = rounded(np.concatenate([*both, to_new], 1), *_GRADIENT)
        to_products[time] = rounded(np.concatenate([*both, to_new * reset], 1), *_GRADIENT)
        change = change * update + to_products[time] @ weights["recurrent"].T
    states_before = np.concatenate([gates[0] for gates in kept])
    which = np.eye(len(weights["bias"]))[inputs.ravel()]
    return {
        "embedding": which.T @ to_gates.reshape(len(which), -1),
        "recurrent": states_before.T @ to_products.reshape(len(which), -1),
        "output": dropped.T @ errors,
        "bias": errors.sum(0),
    }


def _step(
    weights: dict[str, np.ndarray], symbols: np.ndarray, state: np.ndarray
) -> tuple[np.ndarray, ...]:
    """One step: the new state, then what the backward pass needs."""
    hidden = state.shape[1]
    inward = weights["embedding"][symbols]
    products = state @ weights["recurrent"]
    gates = _logistic(inward[:, : 2 * hidden] + products[:, : 2 * hidden], 1)
    reset, update = gates[:, :hidden], gates[:, hidden:]
    of_new = products[:, 2 * hidden :]
    new = 2.0 * _logistic(inward[:, 2 * hidden :] + reset * of_new, 2) - 1.0
    after = rounded(new + update * (state - new), *_STATE)
    return after, state, reset, update, new, of_new


@cache
def _tables() -> tuple[np.ndarray, np.ndarray]:
    return np.array(squash_table()), np.array(scaled_exponential()) / ONE


def _logistic(values: np.ndarray, factor: int) -> np.ndarray:
    """The logistic function of ``factor`` times the values."""
    steps = np.clip(values * (factor * STEPS), -LIMIT * STEPS, LIMIT * STEPS)
    return _tables()[0][np.rint(steps).astype(np.int64) + LIMIT * STEPS]


def _softmax(logits: np.ndarray) -> np.ndarray:
    below = np.clip(logits - logits.max(1, keepdims=True), -LIMIT, 0.0)
    powers = _tables()[1][np.rint(below * STEPS).astype(np.int64) + LIMIT * STEPS]
    return powers / powers.sum(1, keepdims=True)
