"""Linear autoregressive (AR) models: fitting, characteristic roots, multi-step forecasts."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from seqbook.validation import check_instance, check_integer, check_number, check_series

__all__ = ["LinearAR", "windows"]


def windows(series: np.ndarray, order: int) -> tuple[np.ndarray, np.ndarray]:
    r"""Cut a series into pairs of a window and the value after it.

    .. math:: \text{past}_{t,k} = x_{t + \tau - 1 - k}, \qquad \text{next}_t = x_{t + \tau}

    for the order :math:`\tau`, with t, k and the series x counted from 0.

    Row t of ``past`` holds the ``order`` values before ``next[t]``, the most recent first: column k
    is the series lagged by k + 1 steps.

    Args:
        series: Finite real numbers, ``(time,)`` with ``time > order``.
        order: Length of a window, 0 or more.

    Returns:
        The design matrix ``past`` and the targets ``next``.

    Shape:
        past ``(time - order, order)``; next ``(time - order,)``.

    Raises:
        TypeError: ``series`` does not hold real numbers, or ``order`` is not an integer.
        ValueError: ``series`` has another shape, is not finite or is too short, or ``order`` is
            negative.

    Example:
        >>> past, following = windows([1, 2, 3, 4], 2)
        >>> past
        array([[2., 1.],
               [3., 2.]])
        >>> following
        array([3., 4.])
    """
    order = check_integer("order", order, minimum=0)
    series = check_series("series", series, minimum_length=0)
    if len(series) <= order:
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
    r"""Autoregressive process of order tau, AR(tau).

    .. math:: x_t = c + \sum_{k=1}^{\tau} w_k\, x_{t-k} + \varepsilon_t

    Attributes:
        intercept: c, in the units of the series.
        weights: :math:`w_1, \dots, w_\tau`, ``(order,)``; ``weights[0]`` multiplies the most
            recent value.

    Raises:
        TypeError: An argument does not hold real numbers.
        ValueError: An argument is not finite, or ``weights`` has another shape.

    Source: Yule (1927); Box, Jenkins, Reinsel and Ljung, Time Series Analysis, chapter 3.

    Example:
        >>> model = LinearAR(intercept=1.0, weights=[0.5])
        >>> model.mean, model.spectral_radius
        (2.0, 0.5)
        >>> model.roll_out([4.0], 3)
        array([3.  , 2.5 , 2.25])
    """

    intercept: float
    weights: np.ndarray

    def __post_init__(self) -> None:
        weights = check_series("weights", self.weights, minimum_length=0, axis="order")
        object.__setattr__(self, "weights", weights)
        object.__setattr__(self, "intercept", check_number("intercept", self.intercept))

    @classmethod
    def fit(cls, series: np.ndarray, order: int) -> LinearAR:
        r"""Fit intercept and weights by least squares on all windows of a series.

        .. math:: (\hat c, \hat w) = \operatorname{argmin}_{c, w}
            \sum_{t=\tau+1}^{T} \Big( x_t - c - \sum_{k=1}^{\tau} w_k\, x_{t-k} \Big)^2

        Args:
            series: Finite real numbers, ``(time,)`` with ``time > 2 * order``.
            order: Number of weights, 0 or more.

        Raises:
            TypeError: ``series`` does not hold real numbers, or ``order`` is not an integer.
            ValueError: ``series`` has another shape, is not finite, or has fewer windows than the
                model has parameters, or ``order`` is negative.

        Source: Yule (1927).
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
        """Order tau, the number of past values that a prediction uses."""
        return len(self.weights)

    @property
    def roots(self) -> np.ndarray:
        r"""Characteristic roots, complex ``(order,)``, the largest modulus first.

        The zeros of :math:`z^\tau - w_1 z^{\tau-1} - \dots - w_\tau`, which are the eigenvalues of
        the companion matrix. A multi-step forecast is a sum of terms :math:`z^k`: it converges to
        the mean if all roots lie inside the unit circle, and diverges if one lies outside.
        """
        roots = np.roots(np.concatenate([[1.0], -self.weights])).astype(complex)
        return roots[np.argsort(-np.abs(roots), kind="stable")]

    @property
    def spectral_radius(self) -> float:
        r"""Largest modulus of a characteristic root, :math:`\max_k |z_k|`.

        Below 1 the process is stationary. Of order 0 it is 0.
        """
        return float(np.abs(self.roots).max()) if self.order else 0.0

    @property
    def mean(self) -> float:
        r"""Mean of the stationary process, :math:`c / (1 - \sum_k w_k)`.

        Raises:
            ValueError: The process is not stationary and has no mean.
        """
        self._require_stationary("mean")
        return float(self.intercept / (1 - self.weights.sum()))

    def predict(self, series: np.ndarray) -> np.ndarray:
        r"""One-step predictions of ``series[order:]`` from the true values before each.

        .. math:: \hat x_t = c + \sum_{k=1}^{\tau} w_k\, x_{t-k}, \qquad t = \tau + 1, \dots, T

        Shape:
            series ``(time,)``; result ``(time - order,)``.

        Raises:
            TypeError: ``series`` does not hold real numbers.
            ValueError: ``series`` has another shape, is not finite, or is not longer than the
                order.
        """
        past, _ = windows(series, self.order)
        return self.intercept + past @ self.weights

    def roll_out(self, history: np.ndarray, steps: int) -> np.ndarray:
        r"""Multi-step forecast: each forecast is fed back as the input of the next step.

        .. math:: \hat x_{T+j} = c + \sum_{k=1}^{\tau} w_k\, \hat x_{T+j-k}, \qquad
            \hat x_t = x_t \text{ for } t \le T

        Args:
            history: Finite real numbers, ``(time,)`` with ``time >= order``; the latest is last.
            steps: Number of values to forecast.

        Shape:
            result ``(steps,)``.

        Raises:
            TypeError: ``history`` does not hold real numbers, or ``steps`` is not an integer.
            ValueError: ``history`` has another shape, is not finite or is shorter than the order,
                or ``steps`` is negative.
        """
        history = check_series("history", history, minimum_length=self.order)
        steps = check_integer("steps", steps, minimum=0)
        recent = history[len(history) - self.order :][::-1]
        forecasts = np.empty(steps)
        for t in range(steps):
            forecasts[t] = self.intercept + recent @ self.weights
            recent = np.concatenate([[forecasts[t]], recent])[: self.order]
        return forecasts

    def error_variance(self, steps: int, *, noise_variance: float) -> np.ndarray:
        r"""Error variance of the multi-step forecast of a model with the true weights.

        .. math:: \operatorname{Var}(e_k) = \sigma^2 \sum_{j=0}^{k-1} \psi_j^2

        where :math:`\psi_j` is the effect on :math:`x_{t+j}` of a unit shock at t. No forecast
        from the past has a smaller one: it is the noise floor of a k-step forecast.

        Args:
            steps: Largest horizon.
            noise_variance: :math:`\sigma^2`, in squared units of the series.

        Shape:
            result ``(steps,)`` for the horizons 1 to ``steps``.

        Raises:
            TypeError: ``steps`` is not an integer, or ``noise_variance`` is not a number.
            ValueError: One of them is negative.

        Source: Box, Jenkins, Reinsel and Ljung, Time Series Analysis, section 5.1.
        """
        steps = check_integer("steps", steps, minimum=0)
        noise_variance = check_number("noise_variance", noise_variance, minimum=0)
        unit_shock = np.append(np.zeros(max(self.order - 1, 0)), 1.0)
        response = LinearAR(0.0, self.weights).roll_out(unit_shock, max(steps - 1, 0))
        return noise_variance * np.cumsum(np.append(1.0, response)[:steps] ** 2)

    def simulate(
        self, length: int, *, noise_std: float, generator: np.random.Generator, discard: int = 200
    ) -> np.ndarray:
        r"""Draw a path with Gaussian noise.

        .. math:: x_t = c + \sum_{k=1}^{\tau} w_k\, x_{t-k} + \varepsilon_t, \qquad
            \varepsilon_t \sim \mathcal{N}(0, \sigma^2)

        Args:
            length: Number of values.
            noise_std: Standard deviation :math:`\sigma` of the noise, in the units of the series.
            generator: Random generator.
            discard: Number of values, after a start at zero, that are dropped before the path.

        Shape:
            result ``(length,)``.

        Raises:
            TypeError: ``length`` or ``discard`` is not an integer, ``noise_std`` is not a number,
                or ``generator`` is not a ``numpy.random.Generator``.
            ValueError: One of the numbers is negative.
        """
        length = check_integer("length", length, minimum=0)
        discard = check_integer("discard", discard, minimum=0)
        noise_std = check_number("noise_std", noise_std, minimum=0)
        check_instance("generator", generator, np.random.Generator, hint="np.random.default_rng(0)")
        path = np.zeros(self.order + discard + length)
        noise = generator.normal(scale=noise_std, size=len(path))
        for t in range(self.order, len(path)):
            path[t] = self.intercept + path[t - self.order : t][::-1] @ self.weights + noise[t]
        return path[len(path) - length :]

    def _require_stationary(self, name: str) -> None:
        if self.spectral_radius >= 1:
            raise ValueError(
                f"{name}: expected a stationary process, got one with a characteristic root of "
                f"modulus {self.spectral_radius:.4g}"
            )
