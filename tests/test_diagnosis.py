"""What is said of a wrong result that no known mistake explains."""

import functools
from dataclasses import replace

import numpy as np
import pytest
from conftest import ROOT

from stepgrader.diagnosis import Pair, describe, explain
from stepgrader.exercises import Exercise
from stepgrader.judge import judge
from stepgrader.steps import Mistake, Step, compile_step
from stepgrader.worker.calls import run_case

SHAPES = [(3, 4, 2), (2, 5, 3)]
SQUARES = [(2, 3, 3), (2, 4, 4)]
LENGTHS = {(3, 4, 2): [2, 4, 3], (2, 5, 3): [5, 1]}


def arrays(shapes):
    generator = np.random.default_rng(0)
    return [generator.normal(size=shape) for shape in shapes]


def rows(shapes):
    """Probabilities over the last axis."""
    return [np.exp(each) / np.exp(each).sum(-1, keepdims=True) for each in arrays(shapes)]


def said(got, expected=None, **inputs):
    """What is said if ``got`` makes each result of the expected one and the inputs."""
    expected = arrays(SHAPES) if expected is None else expected
    pairs = []
    for array in expected:
        given = {f"the argument {name}": make(array) for name, make in inputs.items()}
        pairs.append(Pair(array, got(array, *given.values()), given))
    return describe(pairs)


def without(array, axis, index):
    return np.delete(array, index, axis)


def changed(array, place, amount=1.5):
    array = array.copy()
    array[place] += amount
    return array


@pytest.mark.parametrize(
    ("got", "words"),
    [
        (lambda e: -e, "the negative of what is expected"),
        (lambda e: 1 - e, "one minus what is expected"),
        (lambda e: 2 * e, "2 times what is expected"),
        (lambda e: e * np.log(2), "0.6931 (ln 2) times what is expected"),
        (lambda e: e + 0.5, "0.5 too large everywhere"),
        (np.square, "the square of what is expected"),
        (np.tanh, "tanh of what is expected"),
        (lambda e: np.where(e > 0, e, np.nan), "right except where it is nan"),
        (lambda e: np.exp(e), "right except for a last step: the logarithm of it is expected"),
        (lambda e: 0 * e, "0 everywhere"),
        (lambda e: e * np.nan, "nan everywhere"),
        (lambda e: e.swapaxes(1, 2), "right but transposed: its axes are in the order 0, 2, 1"),
        (lambda e: e[:, ::-1], "right but in reversed order along axis 1"),
        (
            lambda e: changed(np.roll(e, 1, 1), np.s_[:, 0]),
            "right, but one place too late along axis 1",
        ),
        (
            lambda e: changed(np.roll(e, -1, 1), np.s_[:, -1]),
            "right, but one place too early along axis 1",
        ),
        (lambda e: changed(e, np.s_[:, -1]), "right except for the last entry along axis 1"),
        (lambda e: changed(e, np.s_[:, 2:]), "right except from index 2 along axis 1 on"),
        (lambda e: changed(e, np.s_[:, 0]), "right except for the first entry along axis 1"),
        (lambda e: e[:, 1:], "right except for 1 entry missing at the beginning along axis 1"),
        (
            lambda e: np.concatenate([e, e[:, :2]], 1),
            "right except for 2 entries too many at the end along axis 1",
        ),
        (lambda e: e.mean(1), "the mean along axis 1 of what is expected"),
        (lambda e: e[:, -1], "the last entry along axis 1 of what is expected"),
        (lambda e: e[:, None], "right except for a missing or extra axis of length 1"),
        (
            lambda e: e.reshape(-1),
            "right except for its shape: the numbers are right and in the right order",
        ),
        (lambda e: np.sort(e, 1), "made of the right numbers, but in the wrong places"),
    ],
)
def test_a_relation_is_named(got, words):
    assert said(got) == words


@pytest.mark.parametrize(
    "got",
    [
        lambda e: e + np.cos(3 * e),
        lambda e: -e + 0.01 * np.sin(7 * e),  # nearly the negative
        lambda e: 2 * changed(e, (0, 0, 0)),  # nearly double
        lambda e: changed(changed(e, (0, 0, 0)), (1, 2, 1)),  # no part is wrong as a whole
        lambda e: changed(np.roll(e, 1, 1), (0, 2, 0)),
        lambda e: changed(e.swapaxes(1, 2), (0, 1, 1)),
        lambda e: np.where(e > 5, e, np.cos(9 * e)),
    ],
)
def test_a_near_miss_is_not_named(got):
    assert said(got) is None


@pytest.mark.parametrize(
    ("expected", "got"),
    [
        ([np.array(2.0)], lambda e: 3 * e),  # some factor fits any number
        ([np.array(2.0)], lambda e: -e),
        ([np.array([1.0, -1.0])], lambda e: e[::-1]),  # negated, reversed or rolled?
        ([np.eye(2)], lambda e: np.ones((2, 2)) - e),
        ([np.array([True, False])], lambda e: e[::-1]),
        ([np.zeros((2, 3))], lambda e: e + 1),
    ],
)
def test_of_few_numbers_nothing_is_concluded(expected, got):
    words = said(got, expected)
    assert words is None or words == "1 everywhere"  # which is plain to see


def test_a_factor_close_to_one_is_not_told_as_one():
    numbers = np.array([[1.3, -2.1, 0.7], [3.9, 1.1, -0.4]])
    assert describe([Pair(numbers, 1.00003 * numbers)], 1e-7) == "1.00003 times what is expected"


@pytest.mark.parametrize("seed", range(60))
def test_of_unrelated_numbers_nothing_is_said(seed):
    """Whole numbers from 0 to 3, and real ones, of every shape with at most four in an axis."""
    generator = np.random.default_rng(seed)
    shape = tuple(generator.integers(1, 5, size=seed % 4))
    for make in (generator.normal, lambda size: generator.integers(0, 4, size=size)):
        inputs = {"the argument a": np.asarray(make(size=shape))}
        pairs = [
            Pair(np.asarray(make(size=shape)), np.asarray(make(size=shape)), inputs)
            for _ in range(2)
        ]
        if all((pair.expected != pair.got).any() for pair in pairs):
            assert describe(pairs) is None


def test_a_relation_must_hold_in_every_case():
    first, second = arrays(SHAPES)
    assert describe([Pair(first, -first), Pair(second, second + 1)]) is None


def test_a_factor_that_differs_is_explained_by_a_size():
    assert (
        said(lambda e, x: e / x.shape[1], x=lambda e: np.cos(e))
        == "what is expected divided by the length of the argument x along axis 1"
    )
    assert said(lambda e, d: e * np.sqrt(d), d=lambda e: np.array(e.shape[1])) == (
        "what is expected times the square root of the argument d"
    )
    factors = iter([0.3, 0.7])
    assert said(lambda e: e * next(factors)) == (
        "what is expected times a factor that differs from case to case"
    )


@pytest.mark.parametrize(
    ("got", "words"),
    [
        (lambda e, b: e - b, "too small by exactly the argument b: was it left out"),
        (lambda e, b: e + b, "too large by exactly the argument b: was it added once too often"),
        (lambda e, b: e - 2 * b, "too small by twice the argument b: does it have"),
        (
            lambda e, b: 2 * b - e,
            "right except for a sign: it lies on the other side of the argument",
        ),
        (lambda e, b: e / b, "right when multiplied by the argument b: was it left out"),
        (lambda e, b: np.broadcast_to(b, e.shape).copy(), "just the argument b"),
    ],
)
def test_an_argument_is_named(got, words):
    full = "just" in words
    make = (lambda e: np.cos(e)) if full else (lambda e: np.arange(2.0, 2 + e.shape[-1]))
    assert said(got, b=make).startswith(words)


def test_padding_is_named():
    def beyond(array):
        lengths = np.array(LENGTHS[array.shape])
        return np.arange(array.shape[1]) >= lengths[:, None]

    expected = [np.where(beyond(e)[..., None], 0, e) for e in arrays(SHAPES)]
    given = {"lengths": lambda e: np.array(LENGTHS[e.shape])}
    assert said(lambda e, n: e + 3 * beyond(e)[..., None], expected, **given) == (
        "right except beyond the argument lengths, in the padding; there, 0 is expected"
    )
    assert said(lambda e, n: np.where(beyond(e)[..., None], np.nan, e), expected, **given) == (
        "nan beyond the argument lengths, in the padding"
    )


def test_a_mask_is_named():
    given = {"mask": lambda e: np.indices(e.shape).sum(0) % 3 > 0}
    assert said(lambda e, m: np.where(m, e, np.nan), **given) == (
        "nan where the argument mask is False"
    )
    assert said(lambda e, m: np.where(m, e, e + 1), **given) == (
        "right except where the argument mask is False"
    )


def test_the_axis_of_probabilities_is_named():
    scores = arrays(SQUARES)
    wanted = rows(SQUARES)
    over_columns = [np.exp(each) / np.exp(each).sum(1, keepdims=True) for each in scores]
    assert describe([Pair(*pair) for pair in zip(wanted, over_columns, strict=True)]) == (
        "normalised over the wrong axis: its numbers sum to one over axis 1, the expected ones "
        "over axis 2"
    )
    powers = [np.exp(each) for each in scores]
    assert describe([Pair(*pair) for pair in zip(wanted, powers, strict=True)]) == (
        "right when divided by its sum over axis 2"
    )
    logs = [np.log(each) for each in wanted]
    assert describe([Pair(*pair) for pair in zip(wanted, logs, strict=True)]) == (
        "the logarithm of what is expected"
    )


def test_truth_values_are_compared_as_such():
    masks = [np.tri(*shape[1:], dtype=bool) for shape in SQUARES]
    assert said(lambda e: ~e, masks) == "True where False is expected, and vice versa"
    assert said(lambda e: e.T, masks) == "right but transposed: its axes 0 and 1 are swapped"
    assert said(lambda e: np.tril(e, -1), masks) == "right, but one place too late along axis 0"
    assert (
        said(lambda e: e.astype(int), masks) == "right except for its type: yours contains numbers"
    )


# Of whole answers.


def answered(reference, answer, mistakes=(), **parts):
    cases = {
        name: functools.partial(lambda sampler, size: {"x": sampler.normal(size, 3)}, size=size)
        for name, size in (("a batch", 4), ("a larger batch", 5))
    }
    step = compile_step(Step("double", reference, cases, list(mistakes), [], **parts), seed=1)
    return step, [run_case(answer, case) for case in step.requests]


def test_results_in_another_order_are_named():
    found = explain(*answered(lambda x: (x + 1, 2 * x), lambda x: (2 * x, x + 1)))
    assert found == "Your results are right, but result[0] and result[1] are swapped."
    found = explain(*answered(lambda x: (x, 2 * x, 3 * x), lambda x: (3 * x, x + 0, 2 * x)))
    assert found == (
        "Your results are right, but in another order: result[0] holds what result[2] should, "
        "result[1] holds what result[0] should, result[2] holds what result[1] should."
    )


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (lambda x: (x + 1, -2 * x), "The other results are right; result[1] is the negative of "),
        (lambda x: (x + 1, x.cos()), "result[0] is right; look at result[1]."),
        (lambda x: (x + 1, x + 1), "The other results are right; result[1] is what result[0] "),
        (lambda x: x + 1, "What you return is right, but some of the results are missing."),
        (lambda x: (x + 1, 2 * x, x), "Your results include all that is expected, but you "),
        (lambda x: [[x + 1], [2 * x]], "Your numbers are right, but their form is not"),
    ],
)
def test_one_of_several_results_is_named(answer, words):
    assert explain(*answered(lambda x: (x + 1, 2 * x), answer)).startswith(words)


def test_a_mistake_in_one_of_several_results_is_named():
    cube = Mistake("You take cubes.", answer=lambda x: (x**3, x**3))
    wanted = lambda x: (2 * x, x**2)  # noqa: E731
    found = explain(*answered(wanted, lambda x: (x**3, x**2), [cube]))
    assert found == (
        "result[0] is what a known mistake gives, which may be part of yours: You take cubes."
    )
    assert "cubes" not in explain(*answered(wanted, lambda x: (x**4, x**2), [cube]))


def test_a_mistake_that_agrees_on_the_failing_cases_alone_is_not_named():
    always = Mistake("You forget the cosine.", answer=lambda x: x * 1)
    answer = lambda x: x * 1 if len(x) > 4 else x.cos()  # noqa: E731
    assert explain(*answered(lambda x: x.cos(), answer, [always])) != always.message


def test_a_gradient_is_named():
    found = explain(*answered(lambda x: 3 * x, lambda x: 3 * x.detach() + 0 * x, gradients=["x"]))
    assert found == "The gradient with respect to x is 0 everywhere."


def test_the_first_property_alone_may_be_named():
    def answer(x):
        return -x if len(x) == 4 else x.cos()

    assert explain(*answered(lambda x: x * 1, answer)) == (
        "For a batch: the result is the negative of what is expected."
    )


def test_nothing_is_said_of_hidden_cases():
    """A hint may hold numbers, which hidden cases must not show."""
    step, outcomes = answered(lambda x: x * 1, lambda x: -x)
    hidden = [{**case, "hidden": True} for case in step.cases]
    assert explain(step, outcomes)
    assert explain(replace(step, cases=hidden), outcomes) is None


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (lambda x: x @ x.new_ones(2, 3), "transpose the second matrix?"),
        (lambda x: x[:, [x.shape[1]]], "An index is one too large"),
        (lambda x: x.requires_grad_().numpy(), "stay with torch"),
    ],
)
def test_an_error_is_put_in_words(answer, words):
    assert words in explain(*answered(lambda x: 2 * x, answer))


@pytest.mark.parametrize(
    "returned",
    [
        {"array": [1.0], "dtype": "float64", "shape": [2]},
        {"tuple": [{"array": [], "dtype": "float64", "shape": [0]}]},
        {"dict": {"a": [1, "b", None]}},
        [[1.0], [2.0, 3.0]],
        10**400,
        {"unsupported": "set"},
        [float("nan")] * 12,
        {"array": [0.5] * 12, "dtype": "float64", "shape": [12] + [1] * 15},
    ],
)
def test_no_outcome_stops_the_grader(returned):
    step, outcomes = answered(lambda x: 2 * x, lambda x: x)
    broken = [{**outcome, "returned": returned} for outcome in outcomes]
    assert judge(step, broken).status == "wrong"


# Wrong answers to the exercises that are no known mistakes.


WRONG = {
    "lstm": {
        "split_gates": [("return f, i, g, o", "return o, g, f, i", "in another order: result[0]")],
        "forget_gate": [("torch.sigmoid(", "1 - torch.sigmoid(", "one minus")],
        "peephole_layer": [
            ("cell, torch.stack(gates, 1)", "cell, gates[-1]", "the last entry along axis 1"),
            ("states.append(hidden)", "states.insert(0, hidden)", "reversed order along axis 1"),
            ("gates.append(gate)", "gates.append(1 - gate)", "result[2] is one minus"),
            ("1), cell, torch", "1), hidden, torch", "last entry along axis 1 of result[0]"),
        ],
    },
    "attention": {
        "masked_softmax": [("softmax(-1)", "sigmoid()", "not normalised")],
        "distance_bias": [("position - torch", "position + 1 - torch", "one place too late")],
        "multi_head": [(" + out_bias", "", "too small by exactly the argument out_bias")],
    },
    "recurrent": {
        "leaky_layer": [
            ("initial, [], []", "initial, [initial], []", "1 entry too many at the beginning"),
        ],
        "both_directions": [
            ("[last, back[:, 0]]", "[back[:, 0], last]", "The halves are swapped"),
        ],
        "bits_per_symbol": [("return nats", "return -nats", "the negative")],
        "choose": [("logits.shape[-1] - 1)", "logits.shape[-1] - 1) + 1", "1 too large")],
    },
    "bptt": {
        "weight_gradients": [
            ("deltas.sum(dim=(0, 1))", "deltas.mean(dim=(0, 1))", "You average over steps and"),
            ("bth,btf->hf", "bth,btf->fh", "Your matrices are transposed"),
        ],
        "truncated_gradient": [
            ("loss.detach(), gradient", "loss.detach(), gradient.T", "transposed"),
            ("loss.detach(), gradient", "loss.detach() / len(inputs), gradient", "divided by"),
        ],
    },
    "gru": {
        "gru_layer": [("total / lengths[:, None]", "total", "divided by the argument lengths")],
        "gru_step": [("reset, update\n", "reset, 1 - update\n", "result[2] is one minus")],
    },
    "transformer": {
        "layer_norm": [
            (", mean, divisor", ", divisor, mean", "result[1] and result[2] are swapped"),
            (", mean, divisor", ", mean, 1 / divisor", "result[2] is the inverse"),
        ],
        "streams": [("stack(found)", "stack(found[:-1])", "1 entry missing at the end")],
        "smoothed_loss": [("return loss", "return -loss", "the negative")],
        "learning_rates": [("tensor(rates)", "tensor(rates) / peak", "argument peak")],
    },
    "linear_recurrence": {
        "loop": [("stack(states,", "stack(states[::-1],", "reversed order along axis 1")],
        "scan": [("return shift", "return shift[:, -1]", "the last entry along axis 1")],
        "gate_gradients": [
            ("total * gate, kept", "-total * gate, kept", "result[1] is the negative")
        ],
        "zero_order_hold": [
            ("rate)\n", "rate.conj())\n", "Your units turn in the other direction")
        ],
        "real_outputs": [("return (factor", "return -(factor", "the negative")],
        "chunked": [("stack(handed)", "stack(handed[:-1])", "1 entry missing at the end")],
        "delta_map": [("return matrix, shift", "return shift, matrix", "are swapped")],
        "recall": [("(-1), scores", "(-1), -scores", "result[1] is the negative")],
    },
    "sequences": {
        "effective_size": [("return size, math", "return 1 / size, math", "inverse (1 / x)")],
        "shuffle_blocks": [("blocks[order]", "blocks", "just the argument series")],
    },
    "autoregressive": {
        "held_out_bits": [("mean, 2**mean", "2**mean, mean", "are swapped")],
        "roll_out": [("values[:, time:]", "values[:, time - 1 : -1]", "one place too late")],
        "filter_step": [("/ probability,", "/ weighted.max(),", "divided by its sum over axis 0")],
    },
}


@pytest.mark.parametrize("name", WRONG)
def test_what_is_wrong_with_answers_to_the_exercises_is_named(name):
    exercise = Exercise.load(ROOT / "exercises" / name)
    compiled = {step.name: step for step in exercise.compile()}
    answers = [
        replace(step, mistakes=[Mistake(said, (old, new)) for old, new, said in wrong])
        if (wrong := WRONG[name].get(step.name))
        else replace(step, mistakes=[])
        for step in exercise.steps
    ]
    for step in Exercise(name, exercise.notebook, answers).steps:
        for wrong in step.mistakes:
            requests = compiled[step.name].requests
            outcomes = [run_case(wrong.answer, request) for request in requests]
            verdict = judge(compiled[step.name], outcomes)
            assert verdict.diagnosis is None, (step.name, wrong.edits)
            assert wrong.message in verdict.hint, (step.name, wrong.edits)
