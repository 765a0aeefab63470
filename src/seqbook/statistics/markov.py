"""Markov models: the next symbol depends on the last ``order`` symbols and on nothing before.

Order 0 is an i.i.d. model, order 1 a Markov chain; a model of order k over characters is also
called a (k + 1)-gram model.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Sequence
from typing import Protocol

import numpy as np

__all__ = [
    "AdditiveMarkov",
    "MarkovChain",
    "SymbolModel",
    "WittenBellMarkov",
    "bits_per_symbol",
    "sample",
]


class SymbolModel(Protocol):
    """Anything that predicts the next symbol from the past.

    Attributes:
        order: How many past symbols the prediction looks at.
        size: Number of symbols V.
    """

    order: int
    size: int

    def distribution(self, past: Sequence[int]) -> np.ndarray:
        """Probabilities of the next symbol after ``past``, float64 ``(size,)``, summing to one."""
        ...


def bits_per_symbol(model: SymbolModel, symbols: np.ndarray, *, skip: int = 0) -> float:
    r"""Mean cost of a sequence under a model, in bits.

    .. math:: -\frac{1}{T - s} \sum_{t=s+1}^{T} \log_2 P(x_t \mid x_1, \dots, x_{t-1})

    Perplexity is two to this power. A sequence to which the model gives probability zero costs
    infinitely many bits.

    Args:
        model: The model.
        symbols: Ids, ``(time,)``.
        skip: The first symbols that are context only. Score models of different orders with the
            same ``skip``, so that they predict the same symbols.

    Raises:
        ValueError: Nothing is left to score after ``skip``.
    """
    symbols = np.asarray(symbols).tolist()
    if not 0 <= skip < len(symbols):
        raise ValueError(
            f"skip: expected 0 to {len(symbols) - 1} for {len(symbols)} symbols, got {skip}"
        )
    order = model.order
    probabilities = np.array(
        [
            model.distribution(symbols[max(0, t - order) : t])[symbols[t]]
            for t in range(skip, len(symbols))
        ]
    )
    with np.errstate(divide="ignore"):
        return float(-np.log2(probabilities).mean())


def sample(
    model: SymbolModel, length: int, *, generator: np.random.Generator, past: Sequence[int] = ()
) -> np.ndarray:
    """Draw ``length`` symbols one after the other, each from the distribution given those before.

    Shape:
        result: int64 ``(length,)``, without ``past``.
    """
    symbols = list(past)
    for _ in range(length):
        recent = symbols[max(0, len(symbols) - model.order) :]
        cumulative = np.cumsum(model.distribution(recent))
        drawn = generator.random() * cumulative[-1]
        symbols.append(int(np.searchsorted(cumulative, drawn, "right")))
    return np.array(symbols[len(past) :], dtype=np.int64)


class MarkovChain:
    r"""A known Markov process of order k.

    .. math:: P(x_1, \dots, x_T) = \prod_{t=1}^{k} \pi(x_t)
        \prod_{t=k+1}^{T} A(x_{t-k}, \dots, x_{t-1}, x_t)

    Args:
        initial: :math:`\pi`, probabilities of each of the first k symbols, ``(size,)``.
        transition: ``transition[i, ..., j]`` is the probability of ``j`` after the symbols
            ``i, ...``, the oldest first; ``(size, ..., size)`` with k + 1 axes.

    Raises:
        ValueError: The shapes do not fit, or a row is not a probability distribution.
    """

    def __init__(self, initial: np.ndarray, transition: np.ndarray):
        self.initial = _distributions(initial, "initial", dimensions=1)
        self.transition = _distributions(transition, "transition", dimensions=np.ndim(transition))
        self.size = len(self.initial)
        self.order = self.transition.ndim - 1
        if set(self.transition.shape) != {self.size}:
            raise ValueError(
                f"transition: expected every axis of length {self.size} to fit initial, got shape "
                f"{self.transition.shape}"
            )

    def distribution(self, past: Sequence[int]) -> np.ndarray:
        """Probabilities of the next symbol, ``(size,)``; only the last k of ``past`` count."""
        if len(past) < self.order:
            return self.initial
        return self.transition[tuple(past[len(past) - self.order :])]


class _CountedMarkov:
    """What the models that learn by counting share: the table of what followed what."""

    def __init__(self, order: int, size: int):
        if not isinstance(order, (int, np.integer)) or order < 0:
            raise ValueError(f"order: expected an integer of at least 0, got {order!r}")
        if size < 1:
            raise ValueError(f"size: expected at least one symbol, got {size}")
        self.order, self.size = int(order), int(size)
        self.followers: dict[tuple[int, ...], Counter[int]] = defaultdict(Counter)

    def _count(self, symbols: np.ndarray, orders: Sequence[int]) -> None:
        symbols = np.asarray(symbols).tolist()
        if len(symbols) <= self.order:
            raise ValueError(
                f"symbols: a model of order {self.order} learns from at least {self.order + 1}, "
                f"got {len(symbols)}"
            )
        if min(symbols) < 0 or max(symbols) >= self.size:
            raise ValueError(
                f"symbols: expected ids from 0 to {self.size - 1}, got {min(symbols)} to "
                f"{max(symbols)}"
            )
        self.followers.clear()
        for k in orders:
            for t in range(k, len(symbols)):
                self.followers[tuple(symbols[t - k : t])][symbols[t]] += 1

    def _counts(self, context: tuple[int, ...]) -> np.ndarray:
        counts = np.zeros(self.size)
        if followers := self.followers.get(context):
            counts[list(followers)] = list(followers.values())
        return counts


class AdditiveMarkov(_CountedMarkov):
    r"""Markov model learned by counting, with ``alpha`` added to every count.

    .. math:: P(j \mid c) = \frac{N(c, j) + \alpha}{N(c) + \alpha V}

    where N(c, j) counts how often symbol j followed the context c of ``order`` symbols. With
    alpha = 0 it is the maximum-likelihood estimate, which gives probability zero to whatever the
    training data do not hold (and is uniform after a context they do not hold).

    Args:
        order: Length of the context, 0 or more.
        size: Number of symbols V.
        alpha: Added to each count, 0 or more; 1 is Laplace's rule.

    Raises:
        ValueError: ``order`` or ``alpha`` is negative, or ``size`` is not positive.
    """

    def __init__(self, order: int, size: int, *, alpha: float):
        super().__init__(order, size)
        if alpha < 0:
            raise ValueError(f"alpha: expected at least 0, got {alpha}")
        self.alpha = alpha

    def fit(self, symbols: np.ndarray) -> AdditiveMarkov:
        """Count what follows each context in ``symbols`` ``(time,)``; returns the model."""
        self._count(symbols, [self.order])
        return self

    def distribution(self, past: Sequence[int]) -> np.ndarray:
        """Probabilities of the next symbol, ``(size,)``.

        Raises:
            ValueError: ``past`` is shorter than the order.
        """
        if len(past) < self.order:
            raise ValueError(f"past: expected at least {self.order} symbols, got {len(past)}")
        counts = self._counts(tuple(past[len(past) - self.order :])) + self.alpha
        total = counts.sum()
        return counts / total if total > 0 else np.full(self.size, 1 / self.size)


class WittenBellMarkov(_CountedMarkov):
    r"""Markov model that blends the contexts of all lengths up to ``order``.

    .. math:: P_k(j \mid c) = \frac{N(c, j) + D(c)\, P_{k-1}(j \mid c')}{N(c) + D(c)}

    where N counts, D(c) is the number of distinct symbols seen after c, and c' is c without its
    oldest symbol; below order 0 stands the uniform distribution 1 / V. A context that was often
    followed by something new passes more of its probability to the shorter one.

    Args:
        order: Length of the longest context, 0 or more.
        size: Number of symbols V.

    Raises:
        ValueError: ``order`` is negative or ``size`` is not positive.

    Source: Witten and Bell (1991), in the interpolated form of Chen and Goodman (1999).
    """

    def __init__(self, order: int, size: int):
        super().__init__(order, size)
        self._known: dict[tuple[int, ...], np.ndarray] = {}

    def fit(self, symbols: np.ndarray) -> WittenBellMarkov:
        """Count what follows the contexts of every length in ``symbols`` ``(time,)``."""
        self._count(symbols, range(self.order + 1))
        self._known.clear()
        return self

    def distribution(self, past: Sequence[int]) -> np.ndarray:
        """Probabilities of the next symbol, ``(size,)``; ``past`` may be shorter than the order."""
        return self._blend(tuple(past[max(0, len(past) - self.order) :]))

    def _blend(self, context: tuple[int, ...]) -> np.ndarray:
        if context not in self._known:
            shorter = self._blend(context[1:]) if context else np.full(self.size, 1 / self.size)
            counts = self._counts(context)
            distinct = np.count_nonzero(counts)
            if not distinct:
                return shorter
            blend = (counts + distinct * shorter) / (counts.sum() + distinct)
            blend.flags.writeable = False  # it is handed out and kept
            self._known[context] = blend
        return self._known[context]


def _distributions(values: np.ndarray, name: str, *, dimensions: int) -> np.ndarray:
    values = np.array(values, dtype=np.float64)
    if values.ndim != dimensions:
        raise ValueError(f"{name}: expected {dimensions} dimensions, got shape {values.shape}")
    if (values < 0).any() or not np.allclose(values.sum(-1), 1, rtol=0, atol=1e-9):
        raise ValueError(
            f"{name}: expected probabilities that sum to 1 along the last axis, got sums "
            f"{np.round(values.sum(-1), 6).tolist()}"
        )
    values.flags.writeable = False  # its rows are handed out
    return values
