"""What is wrong in type, shape or value gets the promised error, which names the argument."""

import inspect

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from seqbook.statistics.autoregressive import LinearAR, windows
from seqbook.statistics.dependence import (
    autocorrelation,
    effective_sample_size,
    entropy,
    mutual_information,
    permutation_test,
    robust_band,
    white_noise_band,
)
from seqbook.statistics.hidden_markov import HiddenMarkovModel
from seqbook.statistics.markov import (
    AdditiveMarkov,
    MarkovChain,
    WittenBellMarkov,
    bits_per_symbol,
    sample,
)

RANDOM = np.random.default_rng(0)
CHAIN = MarkovChain([0.5, 0.5], np.full((2, 2), 0.5))
ADDITIVE = AdditiveMarkov(1, 2, alpha=1).fit([0, 1, 0])
HIDDEN = HiddenMarkovModel([0.5, 0.5], np.full((2, 2), 0.5), np.full((2, 2), 0.5))
AR = LinearAR(0.0, [0.5])

RAGGED, NESTED, SCALAR = [[1, 2], [3]], [[0, 1], [1, 0]], np.float64(1)
TEXT, NOTHING, MIXED, COMPLEX = "abcd", None, [0, "a", None], np.array([1j, 2.0, 3.0])
NO_NUMBERS = [TEXT, NOTHING, MIXED, COMPLEX, RAGGED, {}, torch.ones(3, requires_grad=True)]
BROKEN = [[np.nan, 1.0, 2.0], [1.0, np.inf, 2.0]]

# Argument, the calls that take it, and what each of them must refuse.
SERIES = {
    "series": [
        lambda x: autocorrelation(x, max_lag=0),
        lambda x: windows(x, 1),
        lambda x: LinearAR.fit(x, 1),
        AR.predict,
    ],
    "history": [lambda x: AR.roll_out(x, 2)],
    "autocorrelations": [lambda x: effective_sample_size(x, length=9)],
    "weights": [lambda x: LinearAR(0.0, x)],
}
IDS = {
    "symbols": [
        lambda x: mutual_information(x, lag=1),
        lambda x: bits_per_symbol(CHAIN, x),
        ADDITIVE.fit,
        WittenBellMarkov(1, 2).fit,
        HIDDEN.filter,
    ],
    "past": [
        CHAIN.distribution,
        ADDITIVE.distribution,
        lambda x: sample(CHAIN, 2, generator=RANDOM, past=x),
    ],
}
PROBABILITIES = {
    "probabilities": [entropy],
    "initial": [
        lambda x: MarkovChain(x, np.eye(2)),
        lambda x: HiddenMarkovModel(x, np.eye(2), np.eye(2)),
    ],
    "transition": [
        lambda x: MarkovChain([1, 0], x),
        lambda x: HiddenMarkovModel([1, 0], x, np.eye(2)),
    ],
    "emission": [lambda x: HiddenMarkovModel([1, 0], np.eye(2), x)],
}
INTEGERS = {
    "max_lag": [
        lambda n: autocorrelation([1, 2, 4], max_lag=n),
        lambda n: robust_band([1, 2, 4], max_lag=n),
    ],
    "lag": [lambda n: mutual_information([0, 1, 0], lag=n)],
    "length": [
        white_noise_band,
        lambda n: effective_sample_size([1.0], length=n),
        lambda n: sample(CHAIN, n, generator=RANDOM),
        lambda n: HIDDEN.sample(n, generator=RANDOM),
        lambda n: AR.simulate(n, noise_std=1.0, generator=RANDOM),
    ],
    "sequences": [lambda n: HIDDEN.sample(2, sequences=n, generator=RANDOM)],
    "discard": [lambda n: AR.simulate(2, noise_std=1.0, generator=RANDOM, discard=n)],
    "permutations": [lambda n: permutation_test([1, 2], np.mean, permutations=n, generator=RANDOM)],
    "order": [
        lambda n: windows([1, 2, 3], n),
        lambda n: LinearAR.fit([1, 2, 3], n),
        lambda n: AdditiveMarkov(n, 2, alpha=1),
        lambda n: WittenBellMarkov(n, 2),
    ],
    "size": [lambda n: AdditiveMarkov(1, n, alpha=1), lambda n: WittenBellMarkov(1, n)],
    "steps": [
        lambda n: AR.roll_out([1.0], n),
        lambda n: AR.error_variance(n, noise_variance=1.0),
    ],
    "skip": [lambda n: bits_per_symbol(CHAIN, [0, 1], skip=n)],
}
NUMBERS = {
    "alpha": [lambda x: AdditiveMarkov(1, 2, alpha=x)],
    "noise_std": [lambda x: AR.simulate(2, noise_std=x, generator=RANDOM)],
    "noise_variance": [lambda x: AR.error_variance(2, noise_variance=x)],
}
GENERATORS = [
    lambda g: permutation_test([1, 2], np.mean, permutations=2, generator=g),
    lambda g: sample(CHAIN, 2, generator=g),
    lambda g: HIDDEN.sample(2, generator=g),
    lambda g: AR.simulate(2, noise_std=1.0, generator=g),
]


def cases(table, *wrong):
    return [
        pytest.param(call, name, value, id=f"{name}{number}-{value!r:.30}")
        for name, calls in table.items()
        for number, call in enumerate(calls)
        for value in wrong
    ]


def refuses(call, name, value):
    with pytest.raises((TypeError, ValueError), match=rf"^{name}: expected .*got") as caught:
        call(value)
    return caught.type


@pytest.mark.parametrize(
    ("call", "name", "value"),
    cases(SERIES | PROBABILITIES, *NO_NUMBERS, *BROKEN)
    + cases(SERIES, NESTED, SCALAR)
    + cases(PROBABILITIES, [-0.5, 1.5])
    + cases(IDS, *NO_NUMBERS[:-1], [0, 1, -1], [0.0, 1.0, 1.5], *BROKEN),
)
def test_an_array_of_the_wrong_kind_is_refused(call, name, value):
    kind = refuses(call, name, value)
    if value is TEXT or value is NOTHING or value is MIXED:
        assert kind is TypeError


@pytest.mark.parametrize(
    ("call", "name", "value"), cases(INTEGERS, None, "2", 1.0, np.nan, True, [1], -1)
)
def test_an_invalid_integer_is_refused(call, name, value):
    assert refuses(call, name, value) is (ValueError if value == -1 else TypeError)


@pytest.mark.parametrize(
    ("call", "name", "value"), cases(NUMBERS, None, "2", 1j, [1.0], True, -1, np.nan, np.inf)
)
def test_an_invalid_number_is_refused(call, name, value):
    real = isinstance(value, (int, float)) and value is not True
    assert refuses(call, name, value) is (ValueError if real else TypeError)


@pytest.mark.parametrize("wrong", [None, 7, torch.Generator(), np.random.RandomState(0)])
@pytest.mark.parametrize("call", GENERATORS)
def test_an_invalid_generator_is_refused(call, wrong):
    with pytest.raises(TypeError, match=r"generator: expected a Generator, as from .*default_rng"):
        call(wrong)


def test_every_public_function_of_statistics_is_tried():
    tried = {*SERIES, *IDS, *PROBABILITIES, *INTEGERS, *NUMBERS, "generator"}
    free = {"model", "statistic", "self", "intercept"}  # checked in tests of their own
    functions = [
        autocorrelation,
        white_noise_band,
        robust_band,
        permutation_test,
        effective_sample_size,
        entropy,
        mutual_information,
        windows,
        bits_per_symbol,
        sample,
    ]
    for owner in (LinearAR, MarkovChain, AdditiveMarkov, WittenBellMarkov, HiddenMarkovModel):
        functions += [owner.__init__]
        functions += [f for n, f in vars(owner).items() if inspect.isfunction(f) and n[0] != "_"]
    for function in functions:
        assert set(inspect.signature(function).parameters) <= tried | free, function


@pytest.mark.parametrize("dtype", ["int8", "uint8", "int16", "uint16", "int32", "uint32", "uint64"])
@given(symbols=st.lists(st.integers(0, 99), min_size=3, max_size=40))
def test_ids_of_every_integer_type_give_the_same(dtype, symbols):
    size = 100
    chain = MarkovChain(np.full(size, 1 / size), np.full((size, size), 1 / size))
    typed, plain = np.array(symbols, dtype), np.array(symbols)
    assert mutual_information(typed, lag=1) == mutual_information(plain, lag=1)
    assert bits_per_symbol(chain, typed) == bits_per_symbol(chain, plain)
    for model in (AdditiveMarkov(1, size, alpha=1), WittenBellMarkov(1, size)):
        expected = model.fit(plain).distribution(plain)
        assert np.array_equal(model.fit(typed).distribution(typed), expected)
    shared = np.full((size, size), 1 / size)
    hidden = HiddenMarkovModel(np.full(size, 1 / size), shared, shared)
    assert np.array_equal(hidden.filter(typed).updated, hidden.filter(plain).updated)


def test_arrays_mapped_from_a_file_serve_as_ids_and_series(tmp_path):
    ids = np.memmap(tmp_path / "ids", dtype=np.uint16, mode="w+", shape=50)
    ids[:] = np.arange(50) % 3
    assert mutual_information(ids, lag=3) == pytest.approx(np.log2(3), abs=1e-3)
    assert WittenBellMarkov(1, 3).fit(ids).distribution(ids)[2] > 0.5
    series = np.memmap(tmp_path / "series", dtype=np.float32, mode="w+", shape=50)
    series[:] = np.sin(np.arange(50))
    assert autocorrelation(series, max_lag=1)[1] == pytest.approx(np.cos(1), abs=0.05)


def test_the_intercept_and_the_statistic_are_named():
    for wrong in (None, "1", np.nan):
        with pytest.raises((TypeError, ValueError), match="intercept: expected a finite number"):
            LinearAR(wrong, [0.5])
    with pytest.raises(TypeError, match="statistic: expected a function of an array, got 3"):
        permutation_test([1, 2], 3, permutations=2, generator=RANDOM)
    for empty in ([], 5, None):
        with pytest.raises(ValueError, match=r"series: expected shape \(time, ...\), got shape"):
            permutation_test(empty, np.mean, permutations=2, generator=RANDOM)


@pytest.mark.parametrize("scale", [1e-300, 1e-160, 1e160, 1e300])
def test_autocorrelation_is_the_same_at_every_scale(scale):
    series = np.array([1.0, -2.0, 4.0, 0.5, -1.0])
    expected = autocorrelation(series, max_lag=4)
    np.testing.assert_allclose(autocorrelation(scale * series, max_lag=4), expected, rtol=1e-12)
