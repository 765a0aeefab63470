"""How much the order of a sequence matters: autocorrelation, permutation test, information.

All functions work on NumPy arrays in float64.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

__all__ = [
    "PermutationTest",
    "autocorrelation",
    "effective_sample_size",
    "entropy",
    "mutual_information",
    "permutation_test",
    "white_noise_band",
]


def autocorrelation(series: np.ndarray, *, max_lag: int) -> np.ndarray:
    r"""Sample autocorrelation at the lags 0 to ``max_lag``.

    .. math:: r_k = \frac{\sum_{t=k+1}^{T} (x_t - \bar x)(x_{t-k} - \bar x)}
                         {\sum_{t=1}^{T} (x_t - \bar x)^2}

    The sum in the numerator has T - k terms and is not rescaled, the usual estimator: it is
    biased towards zero at long lags, and makes the sequence r positive semidefinite.

    Shape:
        series ``(time,)``; result ``(max_lag + 1,)`` with ``result[0] == 1``.

    Raises:
        ValueError: ``max_lag`` does not lie in 0 to T - 1, or the series is constant.

    Source: Box, Jenkins, Reinsel and Ljung, Time Series Analysis, section 2.1.
    """
    series = _series(series)
    if not 0 <= max_lag < len(series):
        raise ValueError(
            f"max_lag: expected 0 to {len(series) - 1} for a series of length {len(series)}, "
            f"got {max_lag}"
        )
    if np.ptp(series) == 0:  # rounding in the mean would hide it from the sum of squares
        raise ValueError("series: expected one that varies, got a constant")
    deviation = series - series.mean()
    total = deviation @ deviation
    lags = range(max_lag + 1)
    return np.array([deviation[k:] @ deviation[: len(series) - k] / total for k in lags])


def white_noise_band(length: int) -> float:
    r"""Half-width of the band that holds 95 % of the autocorrelations of i.i.d. data.

    For i.i.d. data of length T, r_k is close to normal with mean 0 and variance 1 / T (k > 0), so
    the band is 1.96 / sqrt(T): the noise floor of an autocorrelation plot.

    Source: Bartlett (1946).
    """
    if length < 1:
        raise ValueError(f"length: expected at least 1, got {length}")
    return 1.96 / np.sqrt(length)


class PermutationTest(NamedTuple):
    """Outcome of a permutation test.

    Attributes:
        observed: The statistic of the data in their own order.
        shuffled: The statistic of each random order, ``(permutations,)``.
        p_value: Share of orders, the data's own included, whose statistic is at least as large in
            absolute value; never below ``1 / (permutations + 1)``.
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
    """Test the hypothesis that every order of the series is equally probable.

    i.i.d. data, and more generally exchangeable data, satisfy the hypothesis; then the p-value is
    at most ``a`` with a probability of at most ``a``, whatever the statistic.

    Raises:
        ValueError: ``permutations`` is not positive.

    Source: Phipson and Smyth (2010) for counting the observed order among the permutations.
    """
    if permutations < 1:
        raise ValueError(f"permutations: expected at least 1, got {permutations}")
    series = np.asarray(series)
    observed = float(statistic(series))
    shuffled = np.array([statistic(generator.permutation(series)) for _ in range(permutations)])
    rounding = 1e-12 * max(1.0, abs(observed))  # another order sums the same terms differently
    as_large = np.count_nonzero(np.abs(shuffled) >= abs(observed) - rounding)
    return PermutationTest(observed, shuffled, (1 + as_large) / (1 + permutations))


def effective_sample_size(autocorrelations: np.ndarray, *, length: int) -> float:
    r"""Size of the i.i.d. sample whose mean is as uncertain as the mean of a correlated one.

    .. math:: \operatorname{Var}(\bar x) = \frac{\sigma^2}{n_\text{eff}}, \qquad
        n_\text{eff} = \frac{T}{1 + 2 \sum_{k=1}^{T-1} (1 - k/T)\, \rho_k}

    The formula is exact for a stationary process with the autocorrelations rho. Lags past the end
    of ``autocorrelations`` count as zero. Do not put all T sample autocorrelations in: their
    errors add up (they sum to -1/2 whatever the data); cut them where they have died out.

    Shape:
        autocorrelations ``(lags + 1,)`` with lag 0 first.

    Raises:
        ValueError: ``autocorrelations[0]`` is not 1, there are more than ``length``, or they
            belong to no process (the variance would not be positive).
    """
    rho = _series(autocorrelations)
    if not np.isclose(rho[0], 1):
        raise ValueError(f"autocorrelations: expected 1 at lag 0, got {rho[0]:.3g}")
    if len(rho) > length:
        raise ValueError(f"autocorrelations: expected at most length={length}, got {len(rho)}")
    lags = np.arange(1, len(rho))
    inflation = 1 + 2 * np.sum((1 - lags / length) * rho[1:])
    if inflation <= 0:
        raise ValueError(f"autocorrelations: the variance factor is {inflation:.3g}, not positive")
    return length / inflation


def entropy(probabilities: np.ndarray) -> float:
    r"""Entropy in bits, :math:`H = -\sum p \log_2 p`, over all entries of a table."""
    p = np.asarray(probabilities, dtype=np.float64)
    p = p[p > 0]
    return float(-(p * np.log2(p)).sum())


def mutual_information(symbols: np.ndarray, *, lag: int) -> float:
    r"""Information in bits that the symbol ``lag`` steps back gives about the present one.

    .. math:: I(X_t; X_{t-k}) = H(X_t) + H(X_{t-k}) - H(X_t, X_{t-k})

    computed from the observed pair frequencies. It is never negative and overestimates: compare
    with the value for a shuffled sequence, which is the noise floor.

    Shape:
        symbols: integer ids ``(time,)``.

    Raises:
        ValueError: ``lag`` does not lie in 1 to T - 1.
    """
    symbols = np.asarray(symbols)
    if not 1 <= lag < len(symbols):
        raise ValueError(f"lag: expected 1 to {len(symbols) - 1}, got {lag}")
    size = int(symbols.max()) + 1
    pairs = np.bincount(symbols[lag:] * size + symbols[:-lag], minlength=size * size)
    joint = pairs.reshape(size, size) / pairs.sum()
    return entropy(joint.sum(0)) + entropy(joint.sum(1)) - entropy(joint)


def _series(values: np.ndarray) -> np.ndarray:
    values = np.asarray(values, dtype=np.float64)
    if values.ndim != 1 or len(values) == 0:
        raise ValueError(f"expected a series of shape (time,), got shape {values.shape}")
    return values
