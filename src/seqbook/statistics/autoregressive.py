"""Linear autoregression: the next value as a weighted sum of the last ``order`` values."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

__all__ = ["LinearAR", "windows"]


def windows(series: np.ndarray, order: int) -> tuple[np.ndarray, np.ndarray]:
    """Cut a series into (past, next) pairs.

    Row t of ``past`` holds the ``order`` values before ``next[t]``, the most recent first, so
    that column k is the series k + 1 steps back.

    Shape:
        series ``(time,)``; past ``(time - order, order)``; next ``(time - order,)``.

    Raises:
        ValueError: ``order`` is negative, or no pair is left.
    """
    series = np.asarray(series, dtype=np.float64)
    if not isinstance(order, (int, np.integer)) or order < 0:
        raise ValueError(f"order: expected an integer of at least 0, got {order!r}")
    if series.ndim != 1 or len(series) <= order:
        raise ValueError(
            f"series: a window of {order} and the value after it need a series of at least "
            f"{order + 1} values, got shape {series.shape}"
        )
    if order == 0:
        return np.empty((len(series), 0)), series
    view = np.lib.stride_tricks.sliding_window_view(series, order + 1)
    return view[:, -2::-1], view[:, -1]


@dataclass(frozen=True, eq=False)
class LinearAR:
    r"""The AR(tau) process with the given weights.

    .. math:: x_t = c + \sum_{k=1}^{\tau} w_k\, x_{t-k} + \varepsilon_t

    Attributes:
        intercept: c, in the units of the series.
        weights: :math:`w_1, \dots, w_\tau`, ``(order,)``; ``weights[0]`` multiplies the most
            recent value.

    Source: Yule (1927); Box, Jenkins, Reinsel and Ljung, Time Series Analysis, chapter 3.
    """

    intercept: float
    weights: np.ndarray

    def __post_init__(self):
        weights = np.asarray(self.weights, dtype=np.float64)
        if weights.ndim != 1:
            raise ValueError(f"weights: expected shape (order,), got {weights.shape}")
        object.__setattr__(self, "weights", weights)
        object.__setattr__(self, "intercept", float(self.intercept))

    @classmethod
    def fit(cls, series: np.ndarray, order: int) -> LinearAR:
        """Fit intercept and weights by least squares on all windows of ``series`` ``(time,)``.

        Raises:
            ValueError: The series has fewer windows than the model has parameters.
        """
        past, following = windows(series, order)
        if len(past) < order + 1:
            raise ValueError(
                f"series: fitting {order + 1} parameters needs at least {2 * order + 1} values, "
                f"got {len(series)}"
            )
        design = np.column_stack([np.ones(len(past)), past])
        solution = np.linalg.lstsq(design, following, rcond=None)[0]
        return cls(solution[0], solution[1:])

    @property
    def order(self) -> int:
        """Number of past values used, tau."""
        return len(self.weights)

    @property
    def roots(self) -> np.ndarray:
        r"""Characteristic roots, complex ``(order,)``, the largest modulus first.

        The zeros of :math:`z^\tau - w_1 z^{\tau-1} - \dots - w_\tau`, which are the eigenvalues of
        the companion matrix: a roll-out is a sum of terms :math:`z^k`, so it contracts if all
        roots lie inside the unit circle and diverges if one lies outside.
        """
        roots = np.roots(np.concatenate([[1.0], -self.weights])).astype(complex)
        return roots[np.argsort(-np.abs(roots), kind="stable")]

    @property
    def spectral_radius(self) -> float:
        """Largest modulus of a characteristic root; below 1 the process is stationary."""
        return float(np.abs(self.roots).max()) if self.order else 0.0

    @property
    def mean(self) -> float:
        r"""Mean of the stationary process, :math:`c / (1 - \sum_k w_k)`.

        Raises:
            ValueError: The process is not stationary and has no mean.
        """
        self._require_stationary("mean")
        return self.intercept / (1 - self.weights.sum())

    def predict(self, series: np.ndarray) -> np.ndarray:
        """One-step predictions of ``series[order:]`` from the true values before each.

        Shape:
            series ``(time,)``; result ``(time - order,)``.
        """
        past, _ = windows(series, self.order)
        return self.intercept + past @ self.weights

    def roll_out(self, history: np.ndarray, steps: int) -> np.ndarray:
        """Forecast ``steps`` values, feeding each forecast back as if it had been observed.

        Shape:
            history ``(time,)`` with ``time >= order``; result ``(steps,)``.

        Raises:
            ValueError: The history is shorter than the order, or ``steps`` is negative.
        """
        history = np.asarray(history, dtype=np.float64)
        if history.ndim != 1 or len(history) < self.order:
            raise ValueError(
                f"history: expected shape (time,) with at least {self.order} values, got "
                f"{history.shape}"
            )
        if steps < 0:
            raise ValueError(f"steps: expected at least 0, got {steps}")
        recent = history[len(history) - self.order :][::-1]
        forecasts = np.empty(steps)
        for t in range(steps):
            forecasts[t] = self.intercept + recent @ self.weights
            recent = np.concatenate([[forecasts[t]], recent])[: self.order]
        return forecasts

    def error_variance(self, steps: int, *, noise_variance: float) -> np.ndarray:
        r"""Variance of the error of a roll-out by a model with the true weights.

        .. math:: \operatorname{Var}(e_k) = \sigma^2 \sum_{j=0}^{k-1} \psi_j^2

        where :math:`\psi_j` is the effect on :math:`x_{t+j}` of a unit shock at t. No forecast
        from the past can do better: this is the noise floor of a k-step forecast.

        Shape:
            result ``(steps,)`` for the horizons 1 to ``steps``.

        Raises:
            ValueError: ``steps`` is negative.

        Source: Box, Jenkins, Reinsel and Ljung, Time Series Analysis, section 5.1.
        """
        if steps < 0:
            raise ValueError(f"steps: expected at least 0, got {steps}")
        unit_shock = np.append(np.zeros(max(self.order - 1, 0)), 1.0)
        response = LinearAR(0.0, self.weights).roll_out(unit_shock, max(steps - 1, 0))
        return noise_variance * np.cumsum(np.append(1.0, response)[:steps] ** 2)

    def simulate(
        self, length: int, *, noise_std: float, generator: np.random.Generator, discard: int = 200
    ) -> np.ndarray:
        """Draw a path with Gaussian noise, started at zero; the first ``discard`` values are cut.

        Shape:
            result ``(length,)``.
        """
        path = np.zeros(self.order + discard + length)
        noise = generator.normal(scale=noise_std, size=len(path))
        for t in range(self.order, len(path)):
            path[t] = self.intercept + path[t - self.order : t][::-1] @ self.weights + noise[t]
        return path[len(path) - length :]

    def _require_stationary(self, what: str) -> None:
        if self.spectral_radius >= 1:
            raise ValueError(
                f"{what}: expected a stationary process, got one with a characteristic root of "
                f"modulus {self.spectral_radius:.4g}"
            )
