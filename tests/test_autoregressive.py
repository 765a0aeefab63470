import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from seqbook.data import sunspots
from seqbook.statistics.autoregressive import LinearAR, windows


@st.composite
def stable_models(draw):
    """Draw models whose characteristic roots all lie within 0.9 of zero."""
    pairs = draw(st.lists(st.tuples(st.floats(0, 0.9), st.floats(0, np.pi)), max_size=2))
    roots = [r * np.exp(sign * 1j * angle) for r, angle in pairs for sign in (1, -1)]
    roots += draw(st.lists(st.floats(-0.9, 0.9), max_size=2))
    return LinearAR(draw(st.floats(-5, 5)), -np.poly(roots).real[1:] if roots else [])


def companion(weights):
    return np.vstack([weights, np.eye(len(weights))[:-1]])


@given(st.lists(st.floats(-9, 9), min_size=6, max_size=12), st.integers(0, 5))
def test_a_window_holds_the_values_before_the_next_most_recent_first(series, order):
    past, following = windows(series, order)
    assert past.shape == (len(series) - order, order)
    assert following.tolist() == series[order:]
    for t in range(len(past)):
        assert past[t].tolist() == series[t : t + order][::-1]


@pytest.mark.parametrize("length", [0, 3])
def test_a_window_longer_than_the_series_is_refused(length):
    message = rf"a window of 3 and the value after it .* at least 4 values, got .*\({length},\)"
    for refuse in (windows, LinearAR.fit):
        with pytest.raises(ValueError, match=message):
            refuse(np.arange(length), 3)
    with pytest.raises(ValueError, match=message):
        LinearAR(0, [1, 1, 1]).predict(np.arange(length))


@pytest.mark.parametrize("order", [-1, 2.0, "2"])
def test_a_negative_or_broken_order_is_named(order):
    message = f"order: expected an integer of at least 0, got {order!r}"
    for refuse in (windows, LinearAR.fit):
        with pytest.raises(ValueError if order == -1 else TypeError, match=message):
            refuse(np.arange(9), order)


def test_order_zero_predicts_the_mean():
    model = LinearAR.fit([1.0, 2.0, 6.0], 0)
    assert (model.order, model.spectral_radius) == (0, 0)
    np.testing.assert_allclose([model.mean, *model.predict([5.0]), *model.roll_out([], 2)], 3)
    np.testing.assert_allclose(model.error_variance(3, noise_variance=2.0), 2)


@pytest.mark.parametrize("order", [1, 2, 3, 4])
def test_least_squares_finds_the_weights_behind_noise_free_data(order):
    roots = [0.97 * np.exp(1j * angle) for angle in (0.6, -0.6, 1.7, -1.7)][:order]
    weights = -np.poly(roots if order % 2 == 0 else [0.9, *roots[: order - 1]]).real[1:]
    truth = LinearAR(2.0, weights)
    start = np.arange(1.0, order + 1) ** 2
    fitted = LinearAR.fit(np.append(start, truth.roll_out(start, 3 * order + 5)), order)
    np.testing.assert_allclose([fitted.intercept, *fitted.weights], [2.0, *weights], atol=1e-8)


def test_least_squares_is_torchs():
    numbers = sunspots.load().numbers
    past = np.stack([numbers[3 - k : len(numbers) - k] for k in (1, 2, 3)], axis=1)
    design = np.column_stack([np.ones(len(past)), past])
    expected = torch.linalg.lstsq(torch.tensor(design), torch.tensor(numbers[3:, None]))
    model = LinearAR.fit(numbers, 3)
    np.testing.assert_allclose(
        [model.intercept, *model.weights], expected.solution[:, 0], rtol=1e-9
    )


def test_yules_weights_of_1927():
    model = LinearAR.fit(sunspots.load().between(1749, 1924).numbers, 2)
    np.testing.assert_allclose(model.weights, [1.34254, -0.65504], atol=0.01)
    assert model.intercept == pytest.approx(13.854, abs=0.2)


@pytest.mark.parametrize(("order", "near", "far"), [(2, 0.185, 0.439), (9, 0.123, 0.342)])
def test_sunspot_errors_over_the_customary_variance(order, near, far):
    record = sunspots.load()
    model = LinearAR.fit(record.between(1700, 1920).numbers, order)

    def error(first, last):
        series = record.between(first - order, last).numbers
        return np.mean((model.predict(series) - series[order:]) ** 2) / 1535

    assert error(1921, 1955) == pytest.approx(near, abs=5e-4)
    assert error(1956, 1979) == pytest.approx(far, abs=5e-4)


def test_fitting_needs_as_many_windows_as_parameters():
    with pytest.raises(ValueError, match="fitting 4 parameters needs at least 7 values, got 6"):
        LinearAR.fit(np.arange(6), 3)


@given(stable_models(), st.lists(st.floats(-9, 9), min_size=9, max_size=9))
def test_a_roll_out_feeds_each_prediction_back(model, history):
    series = list(history)
    for _ in range(4):
        series.append(model.predict([*series[len(series) - model.order :], 0.0])[0])
    np.testing.assert_allclose(model.roll_out(history, 4), series[9:], atol=1e-9)


@given(stable_models(), st.lists(st.floats(-9, 9), min_size=6, max_size=6))
def test_a_stable_roll_out_contracts_to_the_mean(model, history):
    ahead = model.roll_out(history, 600)
    np.testing.assert_allclose(ahead[-1], model.mean, atol=1e-6 * (1 + abs(model.mean)))


@given(stable_models())
def test_roots_are_the_eigenvalues_of_the_companion_matrix(model):
    roots = model.roots
    assert roots.shape == (model.order,)
    assert np.all(np.diff(np.abs(roots)) <= 1e-12)
    if model.order:
        matrix = companion(model.weights)
        np.testing.assert_allclose(np.poly(roots), np.poly(matrix), atol=1e-9)
        radius = np.abs(np.linalg.eigvals(matrix)).max()
        assert model.spectral_radius == pytest.approx(radius, abs=1e-3)  # double roots


def test_an_unstable_roll_out_grows_by_its_root():
    model = LinearAR(0.0, [1.1])
    np.testing.assert_allclose(model.roll_out([1.0], 5), 1.1 ** np.arange(1, 6))
    assert model.spectral_radius == pytest.approx(1.1)


@pytest.mark.parametrize("weights", [[1.0], [1.5, -0.5], [0.5, 0.7]])
def test_what_is_not_stationary_has_no_mean(weights):
    with pytest.raises(ValueError, match=r"mean: expected a stationary process, .* modulus 1"):
        _ = LinearAR(1.0, weights).mean


def test_error_variance_is_that_of_simulated_futures(generator):
    weights = np.array([1.2, -0.6, 0.1])
    paths = np.zeros((3 + 6, 200_000))
    for t in range(3, 9):  # from a known past, which adds nothing to the error
        paths[t] = weights @ paths[t - 3 : t][::-1] + generator.normal(scale=2.0, size=200_000)
    variance = LinearAR(0.0, weights).error_variance(6, noise_variance=4.0)
    np.testing.assert_allclose(variance, paths[3:].var(axis=1), rtol=0.02)


@given(st.floats(-0.9, 0.9))
def test_error_variance_of_order_one(weight):
    variance = LinearAR(7.0, [weight]).error_variance(200, noise_variance=3.0)
    powers = weight ** (2 * np.arange(1, 201))
    np.testing.assert_allclose(variance, 3 * (1 - powers) / (1 - weight**2))


def test_simulation_has_the_mean_and_variance_of_the_process():
    model = LinearAR(5.0, [0.3, 0.2])
    path = model.simulate(40_000, noise_std=2.0, generator=np.random.default_rng(1))
    assert path.shape == (40_000,)
    assert path.mean() == pytest.approx(10.0, abs=0.1)
    assert path.var() == pytest.approx(model.error_variance(99, noise_variance=4)[-1], rel=0.05)
    again = model.simulate(40_000, noise_std=2.0, generator=np.random.default_rng(1))
    assert np.array_equal(path, again)


def test_simulation_without_noise_is_a_roll_out(generator):
    model = LinearAR(1.0, [0.5, -0.2])
    path = model.simulate(6, noise_std=0.0, generator=generator, discard=0)
    np.testing.assert_allclose(path, model.roll_out([0.0, 0.0], 6))


def test_roll_outs_refuse_an_invalid_start():
    model = LinearAR(0.0, [0.5, 0.2])
    with pytest.raises(ValueError, match=r"history: .* at least 2 values, got shape \(1,\)"):
        model.roll_out([1.0], 3)
    with pytest.raises(ValueError, match="steps: expected an integer of at least 0, got -1"):
        model.roll_out([1.0, 2.0], -1)
    with pytest.raises(ValueError, match="steps: expected an integer of at least 0, got -1"):
        model.error_variance(-1, noise_variance=1.0)


def test_weights_are_one_row():
    with pytest.raises(ValueError, match=r"weights: expected shape \(order,\), got shape \(1, 2\)"):
        LinearAR(0.0, [[1.0, 2.0]])
