from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from seqbook.data import text
from seqbook.data.vocabulary import Vocabulary
from seqbook.statistics.markov import (
    AdditiveMarkov,
    MarkovChain,
    WittenBellMarkov,
    adaptive_bits,
    bits_per_symbol,
    sample,
)

SIZE = 3
MODELS = [WittenBellMarkov, lambda order, size: AdditiveMarkov(order, size, alpha=0.5)]
BY_NAME = {"argnames": "model", "argvalues": MODELS, "ids": ["witten-bell", "additive"]}
ids = st.lists(st.integers(0, SIZE - 1), min_size=5, max_size=40)
pasts = st.lists(st.integers(0, SIZE - 1), min_size=3, max_size=6)
orders = st.integers(0, 3)


@given(ids, pasts, orders, st.sampled_from([0, 0.1, 1]))
def test_distributions_sum_to_one_after_any_past(symbols, past, order, alpha):
    for model in (WittenBellMarkov(order, SIZE), AdditiveMarkov(order, SIZE, alpha=alpha)):
        probabilities = model.fit(symbols).distribution(past)
        assert probabilities.shape == (SIZE,)
        assert probabilities.min() >= 0
        assert probabilities.sum() == pytest.approx(1)


@given(ids, pasts, orders)
def test_the_past_beyond_the_order_does_not_count(symbols, past, order):
    for model in MODELS:
        fitted = model(order, SIZE).fit(symbols)
        recent = past[len(past) - order :]
        assert np.array_equal(fitted.distribution(past), fitted.distribution(recent))


@given(ids, pasts, orders)
def test_witten_bell_is_its_recursion_and_rules_nothing_out(symbols, past, order):
    def by_definition(context):
        starts = range(len(context), len(symbols))
        after = Counter(symbols[t] for t in starts if symbols[t - len(context) : t] == context)
        shorter = by_definition(context[1:]) if context else np.full(SIZE, 1 / SIZE)
        if not after:
            return shorter
        counts = np.array([after[j] for j in range(SIZE)])
        return (counts + len(after) * shorter) / (counts.sum() + len(after))

    probabilities = WittenBellMarkov(order, SIZE).fit(symbols).distribution(past)
    np.testing.assert_allclose(probabilities, by_definition(past[len(past) - order :]), atol=1e-14)
    assert probabilities.min() > 0


@given(ids, orders, st.sampled_from([0, 0.1, 1]))
def test_additive_smoothing_counts_the_following_symbols(symbols, order, alpha):
    model = AdditiveMarkov(order, SIZE, alpha=alpha).fit(symbols)
    context = symbols[:order]
    after = [symbols[t] for t in range(order, len(symbols)) if symbols[t - order : t] == context]
    expected = np.bincount(after, minlength=SIZE) + alpha
    np.testing.assert_allclose(model.distribution(context), expected / expected.sum())


@pytest.mark.parametrize("alpha", [0, 1])
def test_after_an_unseen_context_additive_is_uniform(alpha):
    model = AdditiveMarkov(1, SIZE, alpha=alpha).fit([0, 1, 0, 1])
    np.testing.assert_allclose(model.distribution([2]), np.full(SIZE, 1 / SIZE))


@pytest.mark.parametrize(**BY_NAME)
def test_fitting_again_starts_afresh(model):
    twice = model(1, 2).fit([0, 1, 0, 1])
    twice.distribution([1])
    once = model(1, 2).fit([1, 1, 1])
    assert np.array_equal(twice.fit([1, 1, 1]).distribution([1]), once.distribution([1]))


@given(ids, orders)
def test_bits_are_the_chain_rule(symbols, order):
    model = WittenBellMarkov(order, SIZE).fit(symbols)
    joint = np.prod([model.distribution(symbols[:t])[symbols[t]] for t in range(len(symbols))])
    assert bits_per_symbol(model, symbols) == pytest.approx(-np.log2(joint) / len(symbols))


@given(ids, orders)
def test_maximum_likelihood_costs_the_conditional_entropy(symbols, order):
    def entropy_of_windows(length):
        starts = range(order, len(symbols))
        windows = Counter(tuple(symbols[t - order :][:length]) for t in starts)
        shares = np.array(list(windows.values())) / len(starts)
        return -(shares * np.log2(shares)).sum()

    model = AdditiveMarkov(order, SIZE, alpha=0).fit(symbols)
    expected = entropy_of_windows(order + 1) - entropy_of_windows(order)
    assert bits_per_symbol(model, symbols, skip=order) == pytest.approx(expected, abs=1e-12)


def test_known_costs():
    assert bits_per_symbol(MarkovChain([0.25] * 4, np.full((4, 4), 0.25)), [0, 3, 1]) == 2
    assert bits_per_symbol(MarkovChain([1, 0], np.eye(2)), [0, 0, 1]) == np.inf


def test_skipped_symbols_are_context_only():
    chain = MarkovChain([0.5, 0.5], [[0.25, 0.75], [0.5, 0.5]])
    assert bits_per_symbol(chain, [0, 0, 1, 0], skip=1) == pytest.approx(
        -np.log2(0.25 * 0.75 * 0.5) / 3
    )


@pytest.mark.parametrize("skip", [-1, 2])
def test_something_must_be_left_to_score(skip):
    with pytest.raises(ValueError, match=f"skip: expected an integer from 0 to 1, got {skip}"):
        bits_per_symbol(MarkovChain([1], [[1]]), [0, 0], skip=skip)


@pytest.mark.parametrize(("order", "bits"), [(1, 3.55), (2, 2.72), (4, 2.30)])
def test_bits_per_character_of_alice(order, bits):
    corpus = text.load("alice")
    vocabulary = Vocabulary.from_sequence(corpus.text)
    model = WittenBellMarkov(order, len(vocabulary)).fit(vocabulary.encode(corpus.training))
    assert bits_per_symbol(model, vocabulary.encode(corpus.test)) == pytest.approx(bits, abs=0.005)


@pytest.mark.parametrize("order", [0, 1, 2])
def test_a_chain_looks_up_its_last_symbols_the_oldest_first(order, generator):
    transition = generator.dirichlet(np.ones(SIZE), size=(SIZE,) * order)
    chain = MarkovChain([0.5, 0.3, 0.2], transition)
    assert chain.order == order
    past = [2, 0, 1]
    context = tuple(past[3 - order :])
    assert np.array_equal(chain.distribution(past), transition[context])
    if order:
        assert chain.distribution(past[: order - 1]).tolist() == [0.5, 0.3, 0.2]


def test_samples_follow_the_chain(generator):
    transition = np.array([[0.1, 0.6, 0.3], [0.5, 0.5, 0.0], [0.2, 0.2, 0.6]])
    symbols = sample(MarkovChain([0, 0, 1], transition), 20_000, generator=generator)
    pairs = np.zeros((3, 3))
    np.add.at(pairs, (symbols[:-1], symbols[1:]), 1)
    assert symbols[0] == 2
    assert pairs[1, 2] == 0
    np.testing.assert_allclose(pairs / pairs.sum(1, keepdims=True), transition, atol=0.02)


class ConstantGenerator(np.random.Generator):
    """A generator whose uniform numbers are all the same."""

    def __init__(self, uniform):
        super().__init__(np.random.PCG64(0))
        self.uniform = uniform

    def random(self):
        return self.uniform


@pytest.mark.parametrize("uniform", [0.0, np.nextafter(1, 0)])
def test_a_symbol_of_probability_zero_is_never_drawn(uniform):
    chain = MarkovChain([0, 0.3, 0.7, 0], np.eye(4))
    symbols = sample(chain, 2, generator=ConstantGenerator(uniform))
    assert symbols.tolist() in ([1, 1], [2, 2])


def test_a_sample_continues_its_past_and_repeats_with_its_seed():
    cycle = AdditiveMarkov(2, 3, alpha=0).fit([0, 1, 2, 0, 1, 2, 0, 1])
    symbols = sample(cycle, 4, generator=np.random.default_rng(0), past=[1, 2])
    assert symbols.tolist() == [0, 1, 2, 0]
    model = WittenBellMarkov(1, 3).fit([0, 1, 2, 0])
    again = [sample(model, 30, generator=np.random.default_rng(5)).tolist() for _ in range(2)]
    assert again[0] == again[1]


@pytest.mark.parametrize(
    ("initial", "transition", "message"),
    [
        ([0.5, 0.6], np.eye(2), r"initial: expected probabilities that sum to 1 .* sums 1\.1"),
        ([1, 0], [[0.5, 0.4], [0, 1]], r"transition: .* sum to 1 .* sums \[0\.9, 1\.0\]"),
        ([1, 0], [[1.5, -0.5], [0, 1]], "transition: expected probabilities"),
        ([1, 0], [[np.nan, 1], [0, 1]], "transition: expected probabilities"),
        ([[1, 0]], np.eye(2), r"initial: expected 1 dimensions, got shape \(1, 2\)"),
        ([1], np.eye(2), r"transition: expected every axis of length 1 .* got shape \(2, 2\)"),
    ],
)
def test_an_invalid_chain_is_refused(initial, transition, message):
    with pytest.raises(ValueError, match=message):
        MarkovChain(initial, transition)


@pytest.mark.parametrize("order", [-1, 1.5, "2", None])
@pytest.mark.parametrize(**BY_NAME)
def test_a_negative_or_broken_order_is_named(model, order):
    error = ValueError if order == -1 else TypeError
    with pytest.raises(error, match=f"order: expected an integer of at least 0, got {order!r}"):
        model(order, SIZE)


@pytest.mark.parametrize(**BY_NAME)
def test_order_zero_ignores_the_past(model):
    fitted = model(0, 2).fit([0, 0, 0, 1])
    assert np.array_equal(fitted.distribution([]), fitted.distribution([1, 1]))
    assert fitted.distribution([])[0] > fitted.distribution([])[1]


@pytest.mark.parametrize(
    ("symbols", "message"),
    [
        ([0, 1], "a model of order 2 learns from at least 3, got 2"),
        ([0, 1, 3, 0], "expected ids from 0 to 2, got 0 to 3"),
        ([0, -1, 2], "expected ids from 0 to 2, got -1 to 2"),
    ],
)
@pytest.mark.parametrize(**BY_NAME)
def test_symbols_that_do_not_fit_are_refused(model, symbols, message):
    with pytest.raises(ValueError, match=message):
        model(2, SIZE).fit(symbols)


def test_other_arguments_out_of_range_are_named():
    with pytest.raises(ValueError, match="size: expected an integer of at least 1, got 0"):
        WittenBellMarkov(1, 0)
    with pytest.raises(ValueError, match="alpha: expected a finite number of at least 0, got -1"):
        AdditiveMarkov(1, 2, alpha=-1)
    with pytest.raises(ValueError, match="past: expected at least 2 symbols, got 1"):
        AdditiveMarkov(2, 2, alpha=1).distribution([0])


@pytest.mark.parametrize(
    "model",
    [
        MarkovChain([1, 0], [[0.5, 0.5], [0.2, 0.8]]),
        *(make(1, 2).fit([0, 1, 0, 0]) for make in MODELS),
    ],
    ids=["chain", *BY_NAME["ids"]],
)
def test_a_caller_who_edits_a_distribution_leaves_the_model_alone(model):
    before = model.distribution([0]).copy()
    given_away = model.distribution([0])
    if given_away.flags.writeable:
        given_away[:] = 0
    assert np.array_equal(model.distribution([0]), before)


@given(ids, ids, orders, st.integers(0, 4))
def test_an_adaptive_model_counts_what_it_has_predicted(symbols, text, order, skip):
    model = WittenBellMarkov(order, SIZE).fit(symbols)
    before = {context: dict(counts) for context, counts in model.followers.items()}
    costs = []
    for t, symbol in enumerate(text):
        counting = WittenBellMarkov(order, SIZE).fit(symbols)
        for k in range(order + 1):
            for end in range(k, t):
                counting.followers[tuple(text[end - k : end])][text[end]] += 1
        costs.append(-np.log2(counting.distribution(text[:t])[symbol]))
    assert adaptive_bits(model, text, skip=skip) == pytest.approx(np.mean(costs[skip:]))
    assert before == {context: dict(counts) for context, counts in model.followers.items()}


@pytest.mark.parametrize(
    ("text", "skip", "message"),
    [([], 0, "at least one"), ([0, 3], 0, "3"), ([0, 1], 2, "skip")],
)
def test_an_adaptive_model_refuses_what_it_cannot_score(text, skip, message):
    model = WittenBellMarkov(1, SIZE).fit([0, 1, 2, 0])
    with pytest.raises(ValueError, match=message):
        adaptive_bits(model, text, skip=skip)
