from itertools import pairwise, product

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from seqbook.statistics.hidden_markov import HiddenMarkovModel

STATES, SYMBOLS = 3, 2


def random_model(seed):
    draw = np.random.default_rng(seed).dirichlet
    return HiddenMarkovModel(
        draw(np.ones(STATES)),
        draw(np.ones(STATES), size=STATES),
        draw(np.ones(SYMBOLS), size=STATES),
    )


def joint_with_last_state(model, symbols):
    """P(x_1..x_T, z_T) by summing over every path of states, ``(states,)``."""
    joint = np.zeros(STATES)
    for path in product(range(STATES), repeat=len(symbols)):
        probability = model.initial[path[0]]
        for before, after in pairwise(path):
            probability *= model.transition[before, after]
        joint[path[-1]] += probability * np.prod(model.emission[list(path), symbols])
    return joint


@given(st.integers(0, 1000), st.lists(st.integers(0, SYMBOLS - 1), min_size=1, max_size=5))
def test_the_filter_is_the_sum_over_all_paths(seed, symbols):
    model = random_model(seed)
    beliefs = model.filter(symbols)
    joint = joint_with_last_state(model, symbols)
    np.testing.assert_allclose(beliefs.updated[-1], joint / joint.sum(), atol=1e-12)
    likelihood = beliefs.next_symbol[np.arange(len(symbols)), symbols].prod()
    assert likelihood == pytest.approx(joint.sum())
    ahead = model.filter([*symbols, 0]).predicted[-1]
    np.testing.assert_allclose(ahead, beliefs.updated[-1] @ model.transition, atol=1e-12)


@given(st.integers(0, 1000), st.lists(st.integers(0, SYMBOLS - 1), max_size=30))
def test_beliefs_are_distributions_for_any_sequence(seed, symbols):
    for belief in random_model(seed).filter(symbols):
        assert len(belief) == len(symbols)
        assert np.all(belief >= 0)
        np.testing.assert_allclose(belief.sum(1), 1)


def test_many_sequences_are_filtered_as_each_alone(generator):
    model = random_model(2)
    _, symbols = model.sample(7, generator=generator, sequences=4)
    alone = [model.filter(row) for row in symbols]
    for together, separate in zip(model.filter(symbols), zip(*alone, strict=True), strict=True):
        np.testing.assert_allclose(together, separate, atol=1e-14)


def test_states_that_show_themselves_are_known():
    model = HiddenMarkovModel([0.5, 0.5], [[0.9, 0.1], [0.3, 0.7]], np.eye(2))
    symbols = np.array([0, 0, 1, 0])
    beliefs = model.filter(symbols)
    np.testing.assert_allclose(beliefs.updated, np.eye(2)[symbols])
    np.testing.assert_allclose(beliefs.next_symbol[1:], model.transition[symbols[:-1]])


def test_samples_follow_the_tables(generator):
    model = random_model(0)
    states, symbols = model.sample(10, generator=generator, sequences=20_000)
    assert states.shape == symbols.shape == (20_000, 10)
    first = np.bincount(states[:, 0], minlength=STATES) / 20_000
    np.testing.assert_allclose(first, model.initial, atol=0.02)
    for i in range(STATES):
        following = np.bincount(states[:, 1:][states[:, :-1] == i], minlength=STATES)
        np.testing.assert_allclose(following / following.sum(), model.transition[i], atol=0.02)
        counts = np.bincount(symbols[states == i], minlength=SYMBOLS)
        np.testing.assert_allclose(counts / counts.sum(), model.emission[i], atol=0.02)


@pytest.mark.parametrize("uniform", [0.0, np.nextafter(1, 0)])
def test_what_has_probability_zero_is_never_drawn(uniform):
    class ConstantGenerator(np.random.Generator):
        def random(self, size):
            return np.full(size, uniform)

    model = HiddenMarkovModel([0, 0.3, 0.7, 0], np.eye(4), np.eye(4))
    states, symbols = model.sample(2, generator=ConstantGenerator(np.random.PCG64(0)))
    assert {*states.flat, *symbols.flat} <= {1, 2}


def test_samples_repeat_with_their_seed():
    samples = [random_model(1).sample(50, generator=np.random.default_rng(3)) for _ in range(2)]
    assert np.array_equal(samples[0], samples[1])


@pytest.mark.parametrize(
    ("initial", "transition", "emission", "message"),
    [
        ([0.9, 0.2], np.eye(2), np.eye(2), "initial: expected probabilities that sum to 1"),
        ([1, 0], [[1, 0], [1, 1]], np.eye(2), r"transition: .* sums \[1\.0, 2\.0\]"),
        ([1, 0], np.eye(2), [[0.5, 0.4], [1, 0]], r"emission: .* sums \[0\.9, 1\.0\]"),
        ([1, 0], np.eye(3), np.eye(2), r"expected transition \(2, 2\) .* got \(3, 3\)"),
        ([1, 0], np.eye(2), np.eye(3), r"emission \(2, symbols\) .* and \(3, 3\)"),
    ],
)
def test_an_invalid_model_is_refused(initial, transition, emission, message):
    with pytest.raises(ValueError, match=message):
        HiddenMarkovModel(initial, transition, emission)


@pytest.mark.parametrize(
    ("symbols", "message"),
    [
        ([0, 2], "symbols: expected ids from 0 to 1, got 0 to 2"),
        ([-1, 0], "symbols: expected ids from 0 to 1, got -1 to 0"),
        ([0, 1], "symbols: .* at position 1 has probability zero"),
    ],
)
def test_symbols_that_cannot_be_are_named(symbols, message):
    model = HiddenMarkovModel([1, 0], np.eye(2), [[1, 0], [0, 1]])
    with pytest.raises(ValueError, match=message):
        model.filter(symbols)
