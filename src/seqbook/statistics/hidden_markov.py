"""Hidden Markov models: the simplest latent autoregressive model, with an exact filter."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from seqbook.statistics.markov import _distributions

__all__ = ["Filtered", "HiddenMarkovModel"]


class Filtered(NamedTuple):
    """Beliefs of the filter along sequences.

    Attributes:
        predicted: P(z_t | x_1..x_{t-1}), the belief before seeing x_t, ``(..., time, states)``.
        updated: P(z_t | x_1..x_t), the belief after it, ``(..., time, states)``.
        next_symbol: P(x_t | x_1..x_{t-1}), ``(..., time, symbols)``.
    """

    predicted: np.ndarray
    updated: np.ndarray
    next_symbol: np.ndarray


class HiddenMarkovModel:
    r"""A Markov chain of states z that cannot be seen, each of which emits a symbol x.

    .. math:: P(x, z) = \pi(z_1) B(z_1, x_1) \prod_{t=2}^{T} A(z_{t-1}, z_t)\, B(z_t, x_t)

    Args:
        initial: :math:`\pi`, ``(states,)``.
        transition: ``A[i, j]``, probability of state j after state i, ``(states, states)``.
        emission: ``B[i, x]``, probability of symbol x in state i, ``(states, symbols)``.

    Raises:
        ValueError: The shapes do not fit, or a row is not a probability distribution.

    Source: Rabiner (1989), equations 18 to 20 for the forward recursion.
    """

    def __init__(self, initial: np.ndarray, transition: np.ndarray, emission: np.ndarray):
        self.initial = _distributions(initial, "initial", dimensions=1)
        self.transition = _distributions(transition, "transition", dimensions=2)
        self.emission = _distributions(emission, "emission", dimensions=2)
        states = len(self.initial)
        if self.transition.shape != (states, states) or len(self.emission) != states:
            raise ValueError(
                f"expected transition {(states, states)} and emission ({states}, symbols) to fit "
                f"initial, got {self.transition.shape} and {self.emission.shape}"
            )

    def sample(
        self, length: int, *, generator: np.random.Generator, sequences: int = 1
    ) -> tuple[np.ndarray, np.ndarray]:
        """Draw states and symbols, each int64 ``(sequences, length)``."""
        states = np.empty((sequences, length), dtype=np.int64)
        symbols = np.empty_like(states)
        rows = np.tile(self.initial, (sequences, 1))
        for t in range(length):
            states[:, t] = _draw(rows, generator)
            symbols[:, t] = _draw(self.emission[states[:, t]], generator)
            rows = self.transition[states[:, t]]
        return states, symbols

    def filter(self, symbols: np.ndarray) -> Filtered:
        r"""Follow the belief about the state along a sequence.

        With the belief :math:`h_t = P(z_t \mid x_1..x_t)` each step needs only the step before:

        .. math:: h_t \propto (h_{t-1} A) \odot B(\cdot, x_t)

        Shape:
            symbols ``(time,)`` or ``(sequences, time)``.

        Raises:
            ValueError: A symbol is outside the emission table, or impossible where it occurs.
        """
        symbols = np.asarray(symbols)
        if symbols.size and not 0 <= symbols.min() <= symbols.max() < self.emission.shape[1]:
            raise ValueError(
                f"symbols: expected ids from 0 to {self.emission.shape[1] - 1}, got "
                f"{symbols.min()} to {symbols.max()}"
            )
        predicted = np.empty((*symbols.shape, len(self.initial)))
        updated = np.empty_like(predicted)
        belief = self.initial
        for t in range(symbols.shape[-1]):
            predicted[..., t, :] = belief
            weighted = belief * self.emission.T[symbols[..., t]]
            total = weighted.sum(-1, keepdims=True)
            if (total == 0).any():
                raise ValueError(f"symbols: the one at position {t} has probability zero")
            updated[..., t, :] = weighted / total
            belief = updated[..., t, :] @ self.transition
        return Filtered(predicted, updated, predicted @ self.emission)


def _draw(rows: np.ndarray, generator: np.random.Generator) -> np.ndarray:
    cumulative = np.cumsum(rows, axis=1)
    uniform = generator.random((len(rows), 1)) * cumulative[:, -1:]
    return (uniform >= cumulative).sum(axis=1)
