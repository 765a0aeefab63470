"""Dependence between the elements of a sequence: autocorrelation, tests, mutual information.

All functions take arrays of NumPy, or what ``numpy.asarray`` accepts, and compute in float64.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from seqbook.validation import (
    as_array,
    check_distributions,
    check_instance,
    check_integer,
    check_series,
    check_symbols,
)

__all__ = [
    "PermutationTest",
    "autocorrelation",
    "effective_sample_size",
    "entropy",
    "mutual_information",
    "partial_autocorrelation",
    "permutation_test",
    "robust_band",
    "white_noise_band",
]


def autocorrelation(series: np.ndarray, *, max_lag: int) -> np.ndarray:
    r"""Sample autocorrelation at the lags 0 to ``max_lag``.

    .. math:: r_k = \frac{\sum_{t=k+1}^{T} (x_t - \bar x)(x_{t-k} - \bar x)}
                         {\sum_{t=1}^{T} (x_t - \bar x)^2}

    This is the usual estimator: the sum in the numerator has T - k terms and is not rescaled,
    which biases it towards zero at long lags and makes the sequence r positive semidefinite.

    Args:
        series: Finite real numbers, ``(time,)``.
        max_lag: Largest lag, from 0 to T - 1.

    Shape:
        result ``(max_lag + 1,)`` with ``result[0] == 1``.

    Raises:
        TypeError: ``series`` does not hold real numbers, or ``max_lag`` is not an integer.
        ValueError: ``series`` has another shape, is not finite or is constant, or ``max_lag`` does
            not lie in 0 to T - 1.

    Source: Box, Jenkins, Reinsel and Ljung, Time Series Analysis, section 2.1.

    Example:
        >>> autocorrelation([1, -1, 1, -1], max_lag=2)
        array([ 1.  , -0.75,  0.5 ])
    """
    series = check_series("series", series)
    max_lag = check_integer("max_lag", max_lag, minimum=0, maximum=len(series) - 1)
    centered = _scaled_deviations(series)
    total = centered @ centered
    lags = range(max_lag + 1)
    return np.array([centered[k:] @ centered[: len(series) - k] / total for k in lags])


def partial_autocorrelation(series: np.ndarray, *, max_lag: int) -> np.ndarray:
    r"""Sample partial autocorrelation at the lags 0 to ``max_lag``.

    .. math:: \alpha_k = \phi_{k,k}, \qquad
        \sum_{j=1}^{k} r_{|i-j|}\, \phi_{k,j} = r_i \quad (i = 1, \dots, k)

    :math:`\alpha_k` is the weight of the value k steps back in the best linear prediction from the
    last k values, hence what this value adds to the nearer ones. The weights solve the Yule-Walker
    equations of the sample autocorrelations r, one order after the other (Durbin's recursion). A
    regression on the lagged values gives nearly the same, and differs at the ends of the series.

    Args:
        series: Finite real numbers, ``(time,)``.
        max_lag: Largest lag, from 0 to T - 1.

    Shape:
        result ``(max_lag + 1,)`` with ``result[0] == 1``; each entry lies between -1 and 1.

    Raises:
        TypeError: As for ``autocorrelation``.
        ValueError: As for ``autocorrelation``.

    Source: Box, Jenkins, Reinsel and Ljung, Time Series Analysis, section 3.2 and appendix A3.2.

    Example:
        >>> partial_autocorrelation([1, -1, 1, -1], max_lag=2).round(2)
        array([ 1.  , -0.75, -0.14])
    """
    r = autocorrelation(series, max_lag=max_lag)
    partial, weights, unexplained = np.ones(len(r)), np.empty(0), 1.0
    for lag in range(1, len(r)):
        last = (r[lag] - weights @ r[lag - 1 : 0 : -1]) / unexplained
        weights = np.append(weights - last * weights[::-1], last)
        unexplained *= 1 - last**2
        partial[lag] = last
    return partial


def white_noise_band(length: int) -> float:
    r"""Half-width of the 95 % band of the sample autocorrelation of i.i.d. data.

    .. math:: 1.96 / \sqrt{T}

    For i.i.d. data of length T, :math:`r_k` with k > 0 is close to normal with mean 0 and variance
    1 / T. The band is the noise floor of an autocorrelation plot.

    Raises:
        TypeError: ``length`` is not an integer.
        ValueError: ``length`` is not positive.

    Source: Bartlett (1946).

    Example:
        >>> round(white_noise_band(400), 3)
        0.098
    """
    return float(1.96 / np.sqrt(check_integer("length", length, minimum=1)))


def robust_band(series: np.ndarray, *, max_lag: int) -> np.ndarray:
    r"""Half-width of the 95 % band of each autocorrelation of values whose size varies in time.

    .. math:: 1.96\, \frac{\sqrt{\sum_{t=k+1}^{T} (x_t - \bar x)^2 (x_{t-k} - \bar x)^2}}
                           {\sum_{t=1}^{T} (x_t - \bar x)^2}

    for the lags k = 1 to ``max_lag``. Values that are uncorrelated, but large at the same times, as
    the returns of a share in a wild week, have autocorrelations that vary more than
    ``white_noise_band`` says. This band allows for it; for i.i.d. data both are nearly the same.

    Args:
        series: Finite real numbers, ``(time,)``.
        max_lag: Largest lag, from 1 to T - 1.

    Shape:
        result ``(max_lag,)``, beginning with lag 1.

    Raises:
        TypeError: ``series`` does not hold real numbers, or ``max_lag`` is not an integer.
        ValueError: ``series`` has another shape, is not finite or is constant, or ``max_lag`` does
            not lie in 1 to T - 1.

    Source: Lo and MacKinlay (1988).

    Example:
        >>> robust_band([1, -1, 1, -1], max_lag=2).round(2)
        array([0.85, 0.69])
    """
    series = check_series("series", series)
    max_lag = check_integer("max_lag", max_lag, minimum=1, maximum=len(series) - 1)
    squares = _scaled_deviations(series) ** 2
    products = [squares[k:] @ squares[:-k] for k in range(1, max_lag + 1)]
    return 1.96 * np.sqrt(products) / squares.sum()


class PermutationTest(NamedTuple):
    """Result of a permutation test.

    Attributes:
        observed: The statistic of the data in their original order.
        shuffled: The statistic of each random permutation, ``(permutations,)``.
        p_value: Fraction of the orders, the original included, whose statistic is at least as large
            in absolute value; never below ``1 / (permutations + 1)``.

    Example:
        >>> PermutationTest(observed=0.9, shuffled=np.array([0.1, -0.2]), p_value=1 / 3).observed
        0.9
    """

    observed: float
    shuffled: np.ndarray
    p_value: float


def permutation_test(
    series: np.ndarray,
    statistic: Callable[[np.ndarray], float],
    *,
    permutations: int,
    generator: np.random.Generator,
) -> PermutationTest:
    r"""Test the null hypothesis that every order of the series is equally probable (two-sided).

    .. math:: p = \frac{1 + \#\{i : |s_i| \ge |s|\}}{1 + N}

    where s is the statistic of the series and :math:`s_i` that of the i-th of N random
    permutations. The null hypothesis holds for i.i.d. and, more generally, exchangeable data;
    then :math:`P(p \le \alpha) \le \alpha` for every statistic and every :math:`\alpha`.

    Args:
        series: ``(time, ...)``; permuted along the first axis.
        statistic: Maps an array of this shape to a number.
        permutations: Number of random permutations N.
        generator: Random generator.

    Raises:
        TypeError: ``statistic`` can't be called, ``permutations`` is not an integer, or
            ``generator`` is not a ``numpy.random.Generator``.
        ValueError: The series is empty or a scalar, or ``permutations`` is not positive.

    Source: Phipson and Smyth (2010), which count the original order among the permutations.

    Example:
        >>> def lag_one(series):
        ...     return autocorrelation(series, max_lag=1)[1]
        >>> generator = np.random.default_rng(0)
        >>> permutation_test(np.arange(50), lag_one, permutations=99, generator=generator).p_value
        0.01
    """
    permutations = check_integer("permutations", permutations, minimum=1)
    check_instance("generator", generator, np.random.Generator, hint="np.random.default_rng(0)")
    if not callable(statistic):
        raise TypeError(f"statistic: expected a function of an array, got {statistic!r}")
    series = np.asarray(series)
    if series.ndim == 0 or not len(series):
        raise ValueError(f"series: expected shape (time, ...), got shape {series.shape}")
    observed = float(statistic(series))
    shuffled = np.array([statistic(generator.permutation(series)) for _ in range(permutations)])
    rounding = 1e-12 * max(1.0, abs(observed))  # another order sums the same terms differently
    as_large = np.count_nonzero(np.abs(shuffled) >= abs(observed) - rounding)
    return PermutationTest(observed, shuffled, float((1 + as_large) / (1 + permutations)))


def effective_sample_size(autocorrelations: np.ndarray, *, length: int) -> float:
    r"""Size of the i.i.d. sample whose mean has the variance of a correlated sample's mean.

    .. math:: \operatorname{Var}(\bar x) = \frac{\sigma^2}{n_\text{eff}}, \qquad
        n_\text{eff} = \frac{T}{1 + 2 \sum_{k=1}^{T-1} (1 - k/T)\, \rho_k}

    The formula is exact for a stationary process with the autocorrelations rho. Lags past the end
    of ``autocorrelations`` count as zero. Don't pass all T sample autocorrelations: their errors
    add up (they sum to -1/2 for any data). Truncate them at the lag where they have decayed.

    Args:
        autocorrelations: ``(lags + 1,)``, beginning with lag 0.
        length: Size of the sample, T.

    Raises:
        TypeError: ``autocorrelations`` does not hold real numbers, or ``length`` is not an integer.
        ValueError: ``autocorrelations[0]`` is not 1, there are more than ``length``, or no process
            has them (the variance would not be positive).

    Source: Box, Jenkins, Reinsel and Ljung, Time Series Analysis, section 2.1.

    Example:
        >>> round(effective_sample_size(0.5 ** np.arange(100), length=100), 1)  # about T / 3
        33.8
    """
    rho = check_series("autocorrelations", autocorrelations)
    length = check_integer("length", length, minimum=1)
    if not np.isclose(rho[0], 1):
        raise ValueError(f"autocorrelations: expected 1 at lag 0, got {rho[0]:.3g}")
    if len(rho) > length:
        raise ValueError(f"autocorrelations: expected at most length={length}, got {len(rho)}")
    lags = np.arange(1, len(rho))
    inflation = 1 + 2 * np.sum((1 - lags / length) * rho[1:])
    if inflation <= 0:
        raise ValueError(f"autocorrelations: the variance factor is {inflation:.3g}, not positive")
    return float(length / inflation)


def entropy(probabilities: np.ndarray) -> float:
    r"""Entropy of a discrete distribution, in bits.

    .. math:: H = -\sum_i p_i \log_2 p_i

    Args:
        probabilities: A distribution of any shape ``(...)``; a joint distribution is a table.

    Raises:
        TypeError: They are not real numbers.
        ValueError: One is negative, or they don't sum to 1.

    Source: Shannon (1948), section 6.

    Example:
        >>> entropy([0.5, 0.25, 0.25])
        1.5
    """
    table = as_array("probabilities", probabilities)
    p = check_distributions("probabilities", table.ravel())
    p = p[p > 0]
    return float(-(p * np.log2(p)).sum())


def mutual_information(symbols: np.ndarray, *, lag: int) -> float:
    r"""Mutual information of symbols ``lag`` steps apart, in bits (plug-in estimate).

    .. math:: I(X_t; X_{t-k}) = H(X_t) + H(X_{t-k}) - H(X_t, X_{t-k})

    computed from the observed pair frequencies. The estimate is never negative and biased upwards:
    compare it with that of a shuffled sequence, which is the noise floor.

    Args:
        symbols: Integer ids of any type, ``(time,)``.
        lag: Distance in steps, from 1 to T - 1.

    Raises:
        TypeError: ``symbols`` or ``lag`` are not integers.
        ValueError: ``symbols`` has another shape or a negative id, or ``lag`` is out of range.

    Source: Cover and Thomas, Elements of Information Theory, section 2.3.

    Example:
        >>> round(mutual_information([0, 1] * 50, lag=2), 3)  # a cycle of two: one bit
        1.0
    """
    symbols = check_symbols("symbols", symbols)
    if len(symbols) < 2:
        raise ValueError(f"symbols: expected at least 2, got {len(symbols)}")
    lag = check_integer("lag", lag, minimum=1, maximum=len(symbols) - 1)
    symbols = np.unique(symbols, return_inverse=True)[1]  # a table of those that occur
    size = int(symbols.max()) + 1
    pairs = np.bincount(symbols[lag:] * size + symbols[:-lag], minlength=size * size)
    joint = pairs.reshape(size, size) / pairs.sum()
    return entropy(joint.sum(0)) + entropy(joint.sum(1)) - entropy(joint)


def _scaled_deviations(series: np.ndarray) -> np.ndarray:
    """Deviations from the mean times a power of two: their squares don't overflow or underflow."""
    if np.ptp(series) == 0:  # rounding in the mean would hide it from a sum of squares
        raise ValueError("series: expected one that varies, got a constant")
    centered = series - series.mean()
    return np.ldexp(centered, -np.frexp(np.abs(centered).max())[1])  # exact
