from collections import Counter
from itertools import permutations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from seqbook.statistics.autoregressive import LinearAR
from seqbook.statistics.dependence import (
    autocorrelation,
    effective_sample_size,
    entropy,
    mutual_information,
    partial_autocorrelation,
    permutation_test,
    robust_band,
    white_noise_band,
)

varied = hnp.arrays(
    np.float64, st.integers(2, 40), elements=st.floats(-100, 100).map(lambda x: round(x, 2))
).filter(lambda series: np.ptp(series) > 0)


def lag_one(series):
    return autocorrelation(series, max_lag=1)[1]


def toeplitz(first_row):
    lags = np.arange(len(first_row))
    return first_row[np.abs(lags[:, None] - lags)]


@given(varied)
def test_autocorrelation_is_the_transform_of_the_power_spectrum(series):
    deviation = series - series.mean()
    power = np.abs(np.fft.rfft(deviation, 2 * len(series))) ** 2
    expected = np.fft.irfft(power)[: len(series)]
    actual = autocorrelation(series, max_lag=len(series) - 1)
    np.testing.assert_allclose(actual, expected / expected[0], atol=1e-10)


@given(varied)
def test_autocorrelation_is_that_of_a_process(series):
    actual = autocorrelation(series, max_lag=len(series) - 1)
    assert actual[0] == 1
    assert np.abs(actual).max() <= 1 + 1e-12
    assert np.linalg.eigvalsh(toeplitz(actual)).min() > -1e-9
    assert actual[1:].sum() == pytest.approx(-0.5)


@given(varied, st.floats(0.1, 10), st.floats(-50, 50))
def test_autocorrelation_knows_no_units_and_no_direction(series, scale, shift):
    actual = autocorrelation(series, max_lag=1)
    np.testing.assert_allclose(
        autocorrelation(-scale * series + shift, max_lag=1), actual, atol=1e-6
    )
    np.testing.assert_allclose(autocorrelation(series[::-1], max_lag=1), actual, atol=1e-10)


@pytest.mark.parametrize("max_lag", [-1, 3])
def test_a_lag_beyond_the_series_is_refused(max_lag):
    message = f"max_lag: expected an integer from 0 to 2, got {max_lag}"
    with pytest.raises(ValueError, match=message):
        autocorrelation([1, 2, 4], max_lag=max_lag)


@pytest.mark.parametrize("value", [0.0, 3.0, 0.1])
def test_a_constant_has_no_autocorrelation(value):
    with pytest.raises(ValueError, match="expected one that varies, got a constant"):
        autocorrelation(np.full(3, value), max_lag=1)


@pytest.mark.parametrize("shape", [(0,), (2, 2), ()])
def test_only_a_series_has_an_autocorrelation(shape):
    with pytest.raises(ValueError, match="shape"):
        autocorrelation(np.ones(shape), max_lag=0)


def test_the_band_holds_95_percent_of_white_noise(generator):
    noise = generator.normal(size=(200, 400))
    correlations = np.array([autocorrelation(row, max_lag=20)[1:] for row in noise])
    assert np.mean(np.abs(correlations) < white_noise_band(400)) == pytest.approx(0.95, abs=0.015)
    with pytest.raises(ValueError, match="length: expected an integer of at least 1, got 0"):
        white_noise_band(0)


def test_the_robust_band_holds_95_percent_of_uncorrelated_values_of_varying_size(generator):
    steady = generator.normal(size=(300, 500))
    wild = steady * np.tile(np.repeat([1, 6], 10), 25)  # ten quiet days, ten wild ones

    def inside(rows, band):
        """Fraction of the rows whose autocorrelation at lag 1 is in the band."""
        return np.mean([abs(lag_one(row)) < band(row) for row in rows])

    def robust(row):
        return robust_band(row, max_lag=1)[0]

    # 300 draws of 0.95 scatter by 0.013; the white-noise band holds 0.84 of the wild rows.
    assert inside(wild, robust) == pytest.approx(0.95, abs=0.04)
    assert inside(steady, robust) == pytest.approx(0.95, abs=0.04)
    assert inside(wild, lambda row: white_noise_band(len(row))) < 0.9


def test_the_robust_band_is_its_formula_at_each_lag():
    series = [1.0, -1.0, 8.0, -9.0, 1.0]  # of mean zero
    products = np.array([[1, 8, 72, 9], [8, 9, 8, 0], [9, 1, 0, 0]])
    expected = 1.96 * np.sqrt((products**2).sum(1)) / 148
    np.testing.assert_allclose(robust_band(series, max_lag=3), expected, rtol=1e-12)
    np.testing.assert_allclose(  # in any unit
        robust_band(1e200 * np.array(series), max_lag=3), expected, rtol=1e-12
    )
    with pytest.raises(ValueError, match="max_lag: expected an integer from 1 to 4, got 0"):
        robust_band(series, max_lag=0)
    with pytest.raises(ValueError, match="series: expected one that varies, got a constant"):
        robust_band([3.0, 3.0], max_lag=1)


@given(varied, st.data())
def test_partial_autocorrelation_solves_the_yule_walker_equations(series, data):
    max_lag = data.draw(st.integers(0, min(len(series) - 1, 8)))
    actual = partial_autocorrelation(series, max_lag=max_lag)
    r = autocorrelation(series, max_lag=max_lag)
    expected = [np.linalg.solve(toeplitz(r[:k]), r[1 : k + 1])[-1] for k in range(1, max_lag + 1)]
    assert actual[0] == 1
    np.testing.assert_allclose(actual[1:], expected, atol=1e-8)
    assert np.abs(actual).max() <= 1 + 1e-12


@pytest.mark.parametrize("weights", [[0.8], [1.3, -0.7], [0.3, 0.2, 0.4]])
def test_partial_autocorrelation_cuts_off_after_the_order(weights, generator):
    series = np.zeros(20_500)
    order = len(weights)
    for t in range(order, len(series)):
        series[t] = series[t - order : t] @ weights[::-1] + generator.normal()
    series = series[500:]
    actual = partial_autocorrelation(series, max_lag=12)
    assert actual[order] == pytest.approx(weights[-1], abs=0.03)
    assert np.abs(actual[order + 1 :]).max() < 4 / np.sqrt(len(series))
    assert np.abs(autocorrelation(series, max_lag=12)[order + 1]) > 0.1  # which decays instead


def test_partial_autocorrelation_is_the_last_weight_of_a_regression(generator):
    series = generator.normal(size=5000)
    series = series[1:] + 0.6 * series[:-1]  # a moving average, which does not cut off
    actual = partial_autocorrelation(series, max_lag=6)
    for lag in range(1, 7):
        assert actual[lag] == pytest.approx(LinearAR.fit(series, lag).weights[-1], abs=2e-3)


@pytest.mark.parametrize("max_lag", [-1, 3])
def test_a_partial_lag_beyond_the_series_is_refused(max_lag):
    message = f"max_lag: expected an integer from 0 to 2, got {max_lag}"
    with pytest.raises(ValueError, match=message):
        partial_autocorrelation([1, 2, 4], max_lag=max_lag)


def test_a_constant_has_no_partial_autocorrelation():
    with pytest.raises(ValueError, match="expected one that varies, got a constant"):
        partial_autocorrelation(np.full(4, 0.1), max_lag=1)


@pytest.mark.parametrize("statistic", [np.mean, np.std, lambda x: np.sum(x**2)])
def test_a_statistic_blind_to_order_finds_nothing(statistic, generator):
    series = generator.normal(size=50)
    test = permutation_test(series, statistic, permutations=99, generator=generator)
    assert test.p_value == 1


def test_permutation_test_approaches_the_count_of_all_orders(generator):
    series = np.array([0.0, 1.0, 1.5, 4.0, 3.0, 7.0])
    every = np.abs([lag_one(np.array(order)) for order in permutations(series)])
    exact = np.mean(every >= abs(lag_one(series)) - 1e-12)
    test = permutation_test(series, lag_one, permutations=4000, generator=generator)
    assert test.p_value == pytest.approx(exact, abs=4 * np.sqrt(exact / 4000))
    assert test.observed == lag_one(series)
    assert test.shuffled.shape == (4000,)


def test_order_that_stands_out_has_the_smallest_possible_p_value(generator):
    ramp = np.arange(100.0)
    test = permutation_test(ramp, lag_one, permutations=99, generator=generator)
    assert test.p_value == 1 / 100
    assert np.array_equal(ramp, np.arange(100))  # the caller's data stay in their order


def test_independent_data_are_rarely_rejected(generator):
    def p_value(_):
        return permutation_test(
            generator.normal(size=20), lag_one, permutations=19, generator=generator
        ).p_value

    values = np.array([p_value(i) for i in range(400)])
    assert values.min() >= 1 / 20
    assert np.mean(values <= 0.2) == pytest.approx(0.2, abs=4 * np.sqrt(0.16 / 400))


def test_a_permutation_test_needs_a_permutation(generator):
    with pytest.raises(ValueError, match="permutations: expected an integer of at least 1, got 0"):
        permutation_test(np.arange(3), np.mean, permutations=0, generator=generator)


@given(st.floats(-0.95, 0.95), st.integers(1, 80))
def test_effective_sample_size_is_the_variance_of_the_mean(weight, length):
    rho = weight ** np.arange(length)
    variance_of_mean = toeplitz(rho).sum() / length**2
    assert effective_sample_size(rho, length=length) == pytest.approx(1 / variance_of_mean)


@pytest.mark.parametrize(
    ("rho", "length", "message"),
    [
        ([0.9, 0.5], 10, "expected 1 at lag 0, got 0.9"),
        ([1, 0, 0], 2, "expected at most length=2, got 3"),
        ([1, -0.9, -0.9], 10, "the variance factor is .* not positive"),
    ],
)
def test_invalid_autocorrelations_are_refused(rho, length, message):
    with pytest.raises(ValueError, match=message):
        effective_sample_size(rho, length=length)


def test_entropy_of_known_tables():
    assert entropy(np.full((2, 4), 1 / 8)) == 3
    assert entropy([0.5, 0.25, 0.25, 0]) == 1.5
    assert entropy([1.0, 0.0]) == 0


@given(st.lists(st.integers(0, 3), min_size=3, max_size=60), st.integers(1, 2))
def test_mutual_information_is_the_divergence_from_independence(symbols, lag):
    pairs = Counter(zip(symbols[lag:], symbols[:-lag], strict=True))
    later, earlier = Counter(symbols[lag:]), Counter(symbols[:-lag])
    count = len(symbols) - lag
    expected = sum(
        n / count * np.log2(n * count / (later[i] * earlier[j])) for (i, j), n in pairs.items()
    )
    actual = mutual_information(np.array(symbols), lag=lag)
    assert actual == pytest.approx(expected, abs=1e-12)
    assert actual >= 0


def test_a_cycle_tells_everything_about_itself():
    cycle = np.arange(300) % 3
    assert mutual_information(cycle, lag=3) == pytest.approx(np.log2(3))
    assert mutual_information(cycle, lag=1) == pytest.approx(np.log2(3), abs=1e-4)


@pytest.mark.parametrize("lag", [0, 3])
def test_a_lag_without_pairs_is_refused(lag):
    with pytest.raises(ValueError, match=f"lag: expected an integer from 1 to 2, got {lag}"):
        mutual_information(np.array([0, 1, 0]), lag=lag)
