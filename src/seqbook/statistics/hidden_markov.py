"""Hidden Markov models: the simplest latent autoregressive model, with an exact filter."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from seqbook.validation import (
    check_distributions,
    check_instance,
    check_integer,
    check_symbols,
)

__all__ = ["Filtered", "HiddenMarkovModel"]


class Filtered(NamedTuple):
    r"""Predictive and filtering distributions along sequences.

    Attributes:
        predicted: :math:`P(z_t \mid x_1, \dots, x_{t-1})`, the belief before :math:`x_t` is
            observed, ``(..., time, states)``.
        updated: :math:`P(z_t \mid x_1, \dots, x_t)`, the belief after it is observed,
            ``(..., time, states)``.
        next_symbol: :math:`P(x_t \mid x_1, \dots, x_{t-1})`, ``(..., time, symbols)``.

    Example:
        >>> fair_or_loaded = HiddenMarkovModel(
        ...     [0.5, 0.5], [[0.9, 0.1], [0.1, 0.9]], [[0.5, 0.5], [0.1, 0.9]]
        ... )
        >>> predicted, updated, next_symbol = fair_or_loaded.filter([1, 1])
        >>> next_symbol[0].round(2)
        array([0.3, 0.7])
    """

    predicted: np.ndarray
    updated: np.ndarray
    next_symbol: np.ndarray


class HiddenMarkovModel:
    r"""Hidden Markov model: a Markov chain of latent states z, each of which emits a symbol x.

    .. math:: P(x, z) = \pi(z_1) B(z_1, x_1) \prod_{t=2}^{T} A(z_{t-1}, z_t)\, B(z_t, x_t)

    Args:
        initial: :math:`\pi`, ``(states,)``.
        transition: ``A[i, j]``, probability of state j after state i, ``(states, states)``.
        emission: ``B[i, x]``, probability of symbol x in state i, ``(states, symbols)``.

    Raises:
        TypeError: An argument does not hold real numbers.
        ValueError: The shapes do not fit, or a row is not a probability distribution.

    Source: Rabiner (1989), equations 18 to 20 for the forward recursion.

    Example:
        >>> fair_or_loaded = HiddenMarkovModel(
        ...     [0.5, 0.5], [[0.9, 0.1], [0.1, 0.9]], [[0.5, 0.5], [0.1, 0.9]]
        ... )
        >>> fair_or_loaded.filter([1, 1, 1]).updated[:, 1].round(3)  # P(loaded)
        array([0.643, 0.741, 0.803])
    """

    def __init__(self, initial: np.ndarray, transition: np.ndarray, emission: np.ndarray):
        self.initial = check_distributions("initial", initial, ndim=1)
        self.transition = check_distributions("transition", transition, ndim=2)
        self.emission = check_distributions("emission", emission, ndim=2)
        states = len(self.initial)
        if self.transition.shape != (states, states) or len(self.emission) != states:
            raise ValueError(
                f"expected transition {(states, states)} and emission ({states}, symbols) to fit "
                f"initial, got {self.transition.shape} and {self.emission.shape}"
            )

    def sample(
        self, length: int, *, generator: np.random.Generator, sequences: int = 1
    ) -> tuple[np.ndarray, np.ndarray]:
        r"""Draw sequences of states and symbols.

        .. math:: z_1 \sim \pi, \qquad z_t \sim A(z_{t-1}, \cdot), \qquad x_t \sim B(z_t, \cdot)

        Args:
            length: Number of steps.
            generator: Random generator.
            sequences: Number of independent sequences.

        Shape:
            results: int64 ``(sequences, length)`` each.

        Raises:
            TypeError: ``generator`` is not a ``numpy.random.Generator``, or a size is not an
                integer.
            ValueError: A size is negative.
        """
        length = check_integer("length", length, minimum=0)
        sequences = check_integer("sequences", sequences, minimum=0)
        check_instance("generator", generator, np.random.Generator, hint="np.random.default_rng(0)")
        states = np.empty((sequences, length), dtype=np.int64)
        symbols = np.empty_like(states)
        rows = np.tile(self.initial, (sequences, 1))
        for t in range(length):
            states[:, t] = _draw(rows, generator)
            symbols[:, t] = _draw(self.emission[states[:, t]], generator)
            rows = self.transition[states[:, t]]
        return states, symbols

    def filter(self, symbols: np.ndarray) -> Filtered:
        r"""Filter: the distribution of the state given the symbols so far, at each step.

        The belief :math:`h_t = P(z_t \mid x_1..x_t)` follows from the previous one alone:

        .. math:: h_t \propto (h_{t-1} A) \odot B(\cdot, x_t), \qquad
            h_1 \propto \pi \odot B(\cdot, x_1)

        Shape:
            symbols: integer ids ``(time,)`` or ``(sequences, time)``.

        Raises:
            TypeError: ``symbols`` are not integers.
            ValueError: ``symbols`` has another shape, an id is outside the emission table, or a
                symbol has probability zero where it occurs.
        """
        symbols = check_symbols("symbols", symbols, size=self.emission.shape[1], ndim=(1, 2))
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
