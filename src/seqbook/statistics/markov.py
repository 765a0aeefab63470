"""Markov models: the next symbol depends on the last ``order`` symbols and on nothing before.

Order 0 is an i.i.d. model, order 1 a Markov chain; a model of order k over characters is also
called a (k + 1)-gram model.
"""

from __future__ import annotations

import math
import operator
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from typing import Protocol

import numpy as np

from seqbook.validation import (
    check_distributions,
    check_instance,
    check_integer,
    check_number,
    check_symbols,
)

__all__ = [
    "AdditiveMarkov",
    "MarkovChain",
    "SymbolModel",
    "WittenBellMarkov",
    "adaptive_bits",
    "bits_per_symbol",
    "sample",
]


class SymbolModel(Protocol):
    r"""A model that predicts the next symbol from the past.

    .. math:: P(x_t \mid x_1, \dots, x_{t-1}) = P(x_t \mid x_{t-k}, \dots, x_{t-1})

    for a model of order k.

    Attributes:
        order: How many past symbols the prediction depends on.
        size: Number of symbols V.

    Example:
        >>> class Uniform:
        ...     order, size = 0, 4
        ...     def distribution(self, past):
        ...         return np.full(4, 1 / 4)
        >>> bits_per_symbol(Uniform(), [0, 3, 1])
        2.0
    """

    order: int
    size: int

    def distribution(self, past: Sequence[int]) -> np.ndarray:
        """Probabilities of the next symbol after ``past``, float64 ``(size,)``, summing to one."""
        ...


def bits_per_symbol(model: SymbolModel, symbols: np.ndarray, *, skip: int = 0) -> float:
    r"""Cross-entropy of a model on a sequence, in bits per symbol.

    .. math:: -\frac{1}{T - s} \sum_{t=s+1}^{T} \log_2 P(x_t \mid x_1, \dots, x_{t-1})

    Perplexity is two to this power. It is infinite for a sequence to which the model gives
    probability zero.

    Args:
        model: The model.
        symbols: Integer ids from 0 to ``model.size`` - 1, ``(time,)``.
        skip: Number of symbols at the start that serve as context and are not scored. Score models
            of different orders with the same ``skip``, so that they predict the same symbols.

    Raises:
        TypeError: ``symbols`` are not integers, or ``skip`` is not one.
        ValueError: ``symbols`` has another shape or an id outside the model's, or nothing is left
            to score after ``skip``.

    Source: Shannon (1948); the use for language models follows Jelinek et al. (1977).

    Example:
        >>> chain = MarkovChain([0.5, 0.5], [[0.25, 0.75], [0.5, 0.5]])
        >>> bits_per_symbol(chain, [0, 0, 1, 0, 0], skip=2)  # 0.75, 0.5 and 0.25
        1.138...
    """
    ids = check_symbols("symbols", symbols, size=model.size).tolist()
    if not ids:
        raise ValueError("symbols: expected at least one, got none")
    skip = check_integer("skip", skip, minimum=0, maximum=len(ids) - 1)
    order = model.order
    probabilities = np.array(
        [model.distribution(ids[max(0, t - order) : t])[ids[t]] for t in range(skip, len(ids))]
    )
    with np.errstate(divide="ignore"):
        return float(-np.log2(probabilities).mean())


def sample(
    model: SymbolModel, length: int, *, generator: np.random.Generator, past: Sequence[int] = ()
) -> np.ndarray:
    r"""Draw ``length`` symbols one after the other, each from the distribution given those before.

    .. math:: x_t \sim P(\cdot \mid x_1, \dots, x_{t-1})

    Args:
        model: The model.
        length: Number of symbols to draw.
        generator: Random generator.
        past: Ids that the sample continues.

    Shape:
        result: int64 ``(length,)``, without ``past``.

    Raises:
        TypeError: ``generator`` is not a ``numpy.random.Generator``, or ``past`` or ``length`` are
            not integers.
        ValueError: ``length`` is negative, or an id in ``past`` is outside the model's.

    Example:
        >>> alternate = MarkovChain([0.5, 0.5], [[0, 1], [1, 0]])
        >>> sample(alternate, 4, generator=np.random.default_rng(0), past=[1])
        array([0, 1, 0, 1])
    """
    length = check_integer("length", length, minimum=0)
    check_instance("generator", generator, np.random.Generator, hint="np.random.default_rng(0)")
    past = check_symbols("past", past, size=model.size).tolist()
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
        TypeError: An argument does not hold real numbers.
        ValueError: The shapes do not fit, or a row is not a probability distribution.

    Source: Markov (1913), who counted the vowels and consonants of Eugene Onegin.

    Example:
        >>> weather = MarkovChain([0.5, 0.5], [[0.9, 0.1], [0.4, 0.6]])
        >>> weather.order, weather.size
        (1, 2)
        >>> weather.distribution([0, 0, 1])
        array([0.4, 0.6])
    """

    def __init__(self, initial: np.ndarray, transition: np.ndarray):
        self.initial = check_distributions("initial", initial, ndim=1)
        self.transition = check_distributions("transition", transition)
        self.size = len(self.initial)
        self.order = self.transition.ndim - 1
        if set(self.transition.shape) != {self.size}:
            raise ValueError(
                f"transition: expected every axis of length {self.size} to fit initial, got shape "
                f"{self.transition.shape}"
            )

    def distribution(self, past: Sequence[int]) -> np.ndarray:
        r"""Probabilities of the next symbol, ``(size,)``.

        .. math:: A(x_{t-k}, \dots, x_{t-1}, \cdot)

        Depends on the last k symbols of ``past`` alone; before there are k, it is ``initial``.

        Raises:
            TypeError: ``past`` does not hold integers.
            ValueError: An id is outside 0 to ``size`` - 1.
        """
        context = _context(past, self.order, self.size)
        return self.initial if len(context) < self.order else self.transition[context]


class _CountedMarkov:
    """Table of the symbols that followed each context, for the models that learn by counting."""

    def __init__(self, order: int, size: int):
        self.order = check_integer("order", order, minimum=0)
        self.size = check_integer("size", size, minimum=1)
        self.followers: dict[tuple[int, ...], Counter[int]] = defaultdict(Counter)

    def _count(self, symbols: np.ndarray, orders: Iterable[int]) -> None:
        ids = check_symbols("symbols", symbols, size=self.size).tolist()
        if len(ids) <= self.order:
            raise ValueError(
                f"symbols: a model of order {self.order} learns from at least {self.order + 1}, "
                f"got {len(ids)}"
            )
        self.followers.clear()
        for k in orders:
            for t in range(k, len(ids)):
                self.followers[tuple(ids[t - k : t])][ids[t]] += 1

    def _counts(self, context: tuple[int, ...]) -> np.ndarray:
        counts = np.zeros(self.size)
        if followers := self.followers.get(context):
            counts[list(followers)] = list(followers.values())
        return counts


class AdditiveMarkov(_CountedMarkov):
    r"""Markov model estimated by counting, with additive (Laplace) smoothing.

    .. math:: P(j \mid c) = \frac{N(c, j) + \alpha}{N(c) + \alpha V}

    where N(c, j) counts how often symbol j followed the context c of ``order`` symbols. With
    alpha = 0 it is the maximum-likelihood estimate: what never occurred has probability zero, and
    after a context that never occurred the distribution is uniform.

    Args:
        order: Length of the context, 0 or more.
        size: Number of symbols V.
        alpha: Pseudocount added to each count, 0 or more; 1 is Laplace's rule.

    Raises:
        TypeError: ``order`` or ``size`` is not an integer, or ``alpha`` is not a number.
        ValueError: ``order`` or ``alpha`` is negative, or ``size`` is not positive.

    Source: Jurafsky and Martin, Speech and Language Processing, chapter 3.

    Example:
        >>> model = AdditiveMarkov(1, 2, alpha=1).fit([0, 1, 0, 1, 0, 0])
        >>> model.distribution([0])  # (1 + 1) / 5 and (2 + 1) / 5
        array([0.4, 0.6])
    """

    def __init__(self, order: int, size: int, *, alpha: float):
        super().__init__(order, size)
        self.alpha = check_number("alpha", alpha, minimum=0)

    def fit(self, symbols: np.ndarray) -> AdditiveMarkov:
        r"""Count what follows each context, and return the model.

        .. math:: N(c, j) = \sum_{t=k+1}^{T} [\, (x_{t-k}, \dots, x_{t-1}) = c,\; x_t = j \,]

        for contexts c of k = ``order`` symbols.

        Args:
            symbols: Integer ids, ``(time,)`` with ``time > order``.

        Raises:
            TypeError: ``symbols`` are not integers.
            ValueError: There are too few, or an id is outside 0 to ``size`` - 1.
        """
        self._count(symbols, [self.order])
        return self

    def distribution(self, past: Sequence[int]) -> np.ndarray:
        """Probabilities of the next symbol, ``(size,)``.

        Raises:
            TypeError: ``past`` does not hold integers.
            ValueError: ``past`` is shorter than the order, or an id is outside 0 to ``size`` - 1.
        """
        context = _context(past, self.order, self.size)
        if len(context) < self.order:
            raise ValueError(f"past: expected at least {self.order} symbols, got {len(context)}")
        counts = self._counts(context) + self.alpha
        total = counts.sum()
        return counts / total if total > 0 else np.full(self.size, 1 / self.size)


class WittenBellMarkov(_CountedMarkov):
    r"""Markov model with Witten-Bell smoothing: interpolates contexts of all lengths up to order.

    .. math:: P_k(j \mid c) = \frac{N(c, j) + D(c)\, P_{k-1}(j \mid c')}{N(c) + D(c)}

    where N counts, D(c) is the number of distinct symbols seen after c, and c' is c without its
    oldest symbol; below order 0 stands the uniform distribution 1 / V. A context that was often
    followed by something new passes more of its probability to the shorter one.

    Args:
        order: Length of the longest context, 0 or more.
        size: Number of symbols V.

    Raises:
        TypeError: ``order`` or ``size`` is not an integer.
        ValueError: ``order`` is negative or ``size`` is not positive.

    Source: Witten and Bell (1991), in the interpolated form of Chen and Goodman (1999).

    Example:
        >>> model = WittenBellMarkov(1, 2).fit([0, 1, 0, 1, 0, 0])
        >>> model.distribution([0]).round(3)
        array([0.45, 0.55])
    """

    def __init__(self, order: int, size: int):
        super().__init__(order, size)
        self._cache: dict[tuple[int, ...], np.ndarray] = {}

    def fit(self, symbols: np.ndarray) -> WittenBellMarkov:
        r"""Count what follows the contexts of every length, and return the model.

        .. math:: N(c, j) = \sum_{t=k+1}^{T} [\, (x_{t-k}, \dots, x_{t-1}) = c,\; x_t = j \,]

        for contexts c of every length k from 0 to ``order``.

        Args:
            symbols: Integer ids, ``(time,)`` with ``time > order``.

        Raises:
            TypeError: ``symbols`` are not integers.
            ValueError: There are too few, or an id is outside 0 to ``size`` - 1.
        """
        self._count(symbols, range(self.order + 1))
        self._cache.clear()
        return self

    def distribution(self, past: Sequence[int]) -> np.ndarray:
        """Probabilities of the next symbol, ``(size,)``; ``past`` may be shorter than the order.

        Raises:
            TypeError: ``past`` does not hold integers.
            ValueError: An id is outside 0 to ``size`` - 1.
        """
        return self._interpolated(_context(past, self.order, self.size))

    def _interpolated(self, context: tuple[int, ...]) -> np.ndarray:
        if context not in self._cache:
            shorter = (
                self._interpolated(context[1:]) if context else np.full(self.size, 1 / self.size)
            )
            counts = self._counts(context)
            distinct = np.count_nonzero(counts)
            if not distinct:
                return shorter
            probabilities = (counts + distinct * shorter) / (counts.sum() + distinct)
            probabilities.flags.writeable = False  # callers get the cached array itself
            self._cache[context] = probabilities
        return self._cache[context]


def adaptive_bits(model: WittenBellMarkov, symbols: np.ndarray, *, skip: int = 0) -> float:
    r"""Cross-entropy of a model that counts each symbol once it has predicted it.

    .. math:: -\frac{1}{T - s} \sum_{t=s+1}^{T} \log_2 P^{(t-1)}(x_t \mid x_1, \dots, x_{t-1})

    where the counts of :math:`P^{(t)}` are those of ``model`` and of the first t symbols. This is
    how a compressor reads a text: what it has seen of the text itself helps with the rest.

    Args:
        model: The model; its own counts stay as they are.
        symbols: Integer ids from 0 to ``model.size`` - 1, ``(time,)``.
        skip: Number of symbols at the start that are counted and not scored.

    Raises:
        TypeError: ``symbols`` are not integers, or ``skip`` is not one.
        ValueError: ``symbols`` has another shape or an id outside the model's, or nothing is left
            to score after ``skip``.

    Source: Cleary and Witten (1984), for adaptive contexts.

    Example:
        >>> model = WittenBellMarkov(2, 2).fit([0, 0, 0, 0])
        >>> text = [0, 1] * 20
        >>> adaptive_bits(model, text) < 0.5 * bits_per_symbol(model, text)
        True
    """
    ids = check_symbols("symbols", symbols, size=model.size).tolist()
    if not ids:
        raise ValueError("symbols: expected at least one, got none")
    skip = check_integer("skip", skip, minimum=0, maximum=len(ids) - 1)
    own: dict[tuple[int, ...], Counter[int]] = defaultdict(Counter)
    total = 0.0
    for t, symbol in enumerate(ids):
        probability = 1 / model.size
        for k in range(min(model.order, t) + 1):
            context = tuple(ids[t - k : t])
            counts = model.followers.get(context, Counter()) + own[context]
            if counts:
                seen, distinct = counts.total(), len(counts)
                probability = (counts[symbol] + distinct * probability) / (seen + distinct)
            own[context][symbol] += 1
        if t >= skip:
            total -= math.log2(probability)
    return total / (len(ids) - skip)


def _context(past: Sequence[int], order: int, size: int) -> tuple[int, ...]:
    """Return the last ``order`` ids of ``past``, or all if there are fewer."""
    try:
        context = tuple(map(operator.index, past[max(0, len(past) - order) :]))
    except TypeError:
        raise TypeError(f"past: expected a sequence of integer ids, got {past!r}") from None
    if context and not 0 <= min(context) <= max(context) < size:
        raise ValueError(
            f"past: expected ids from 0 to {size - 1}, got {min(context)} to {max(context)}"
        )
    return context
