"""The messages that students get about an answer, and what authors may rely on."""

import asyncio
import dataclasses
import functools
import json
import math
import os
import subprocess
import sys
from pathlib import Path

import nbformat
import numpy as np
import pytest
import torch
from conftest import PATIENCE
from grading_exercise import SETUP, solved, source_notebook, write_exercise
from hypothesis import given
from hypothesis import strategies as some
from nbclient import NotebookClient
from torch import nn

from seqbook import exercises
from stepgrader import atomic_files
from stepgrader.atomic_files import SafeWriter
from stepgrader.checker import Checker
from stepgrader.exercises import Exercise, as_text, defines, solutions
from stepgrader.judge import judge
from stepgrader.steps import CaseSampler, Mistake, ModuleCase, Step, compile_step, known_mistakes
from stepgrader.worker.calls import run_case
from stepgrader.worker.values import Unsupported, decode, encode


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    return Exercise.load(write_exercise(tmp_path_factory.mktemp("sources")) / "tiny")


# What a check in the notebook says.


@pytest.fixture
def check(tiny):
    return Checker(tiny.release())


@pytest.fixture
def say(check, capsys):
    """What a check prints of an answer, which gets the name that the task gave it."""

    def call(answer, name="plus_one"):
        answer.__name__ = name
        capsys.readouterr()
        check(answer)
        out, err = capsys.readouterr()
        assert err == ""
        return out.splitlines()

    return call


def written(*sources, name):
    """What stands under a name after cells like these were run, each from a file of its own."""
    names = {}
    for number, source in enumerate([SETUP, *sources]):
        exec(compile(source, f"<cell {number}>", "exec"), names)
    return names[name]


def test_a_right_answer_gets_its_points_and_is_told_what_was_tested(say):
    assert say(lambda x: x + 1) == ["✓ plus_one: 1 of 1 point, tested: rows of numbers; zeros"]
    affine = written(solved("Affine"), name="Affine")
    assert say(affine, "Affine") == ["✓ Affine: 3 of 3 points, tested: a small batch"]


def test_a_wrong_answer_is_shown_the_smallest_input(say):
    assert say(lambda x: 3 * x + 1) == [
        "✗ plus_one: 0 of 1 point; first property that fails: rows of numbers",
        "  6 of 6 numbers differ, the first at [0, 0]: expected 2.6, got 5.8",
        "  For rows of numbers: the result is too large by twice the argument x: does it have "
        "the right sign and factor?",
        "  inputs:",
        "    x = [[1.6, -0.6], [0.1, 1.1], [0.8, -1.1]] (3, 2)",
        "  expected [[2.6, 0.4], [1.1, 2.1], [1.8, -0.1]] (3, 2)",
        "  got [[5.8, -0.8], [1.3, 4.3], [3.4, -2.3]] (3, 2)",
        "  it should return check.expected; to try it yourself: plus_one(**check.inputs)",
    ]


@pytest.mark.parametrize(
    ("excess", "finding", "shown"),
    [
        (3e-4, "expected 5.523, got 5.5233", "[5.5233, 5.5233]"),
        (3e-5, "expected 5.523, got 5.52303", "[5.52303, 5.52303]"),
        (1e-11, "expected 5.523, got 5.52300000001", "[5.52300000001, 5.52300000001]"),
    ],
)
def test_numbers_that_differ_are_shown_with_digits_that_differ(excess, finding, shown):
    sample = {"all": lambda sampler: {"x": torch.full((2,), 5.523, dtype=torch.float64)}}
    step = Step("same", lambda x: x * 1, sample, [], [], tolerance=1e-13)
    compiled = compile_step(step)
    verdict = judge(compiled, outcomes(compiled, lambda x: x + excess))
    assert verdict.finding.endswith(finding)
    expected, got = verdict.example.splitlines()[-2:]
    assert (expected, got) == ("expected [5.523, 5.523] (2,)", f"got {shown} (2,)")


def test_of_large_arrays_the_part_that_is_wrong_is_shown():
    """Of the inputs, the same part of those whose axes agree with the result's."""

    def sample(sampler):
        x = torch.arange(120.0).reshape(4, 3, 10)
        return {"x": x, "scale": 2 * torch.ones(30)}

    def answer(x, scale):
        result = 2 * x
        result[2, 1, 3] = -1
        return result, x.sum()

    reference = Step("twice", lambda x, scale: (2 * x, x.sum()), {"all": sample}, [], [])
    compiled = compile_step(reference)
    assert judge(compiled, outcomes(compiled, answer)).example.splitlines() == [
        "inputs:",
        "  x[2, 1] = [70, 71, 72, 73, 74, 75, 76, 77, 78, 79], of float32 (4, 3, 10)",
        "  scale[0:12] = [2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2], of float32 (30,)",
        "expected result[0][2, 1] = "
        "[140, 142, 144, 146, 148, 150, 152, 154, 156, 158], of float32 (4, 3, 10)",
        "got result[0][2, 1] = "
        "[140, 142, 144, -1, 148, 150, 152, 154, 156, 158], of float32 (4, 3, 10)",
    ]


@pytest.mark.parametrize(
    ("place", "shown"),
    [(0, "result[0:12] = [-1, 1, 2,"), (20, "result[14:26] = ["), (39, "result[28:40] = [")],
)
def test_of_a_long_axis_the_numbers_around_the_wrong_one_are_shown(place, shown):
    def answer(x):
        x = x * 1
        x[place] = -1
        return x

    sample = {"all": lambda sampler: {"x": torch.arange(40.0)}}
    compiled = compile_step(Step("same", lambda x: x * 1, sample, [], []))
    got = judge(compiled, outcomes(compiled, answer)).example.splitlines()[-1]
    assert got.startswith(f"got {shown}")
    assert "-1" in got


def test_a_known_mistake_is_told_in_words(say):
    """Words say more than numbers, which stay away; they are at hand all the same."""
    assert say(lambda x: x - 1) == [
        "✗ plus_one: 0 of 1 point; first property that fails: rows of numbers",
        "  You take one away; the task adds it.",
        "  6 of 6 numbers differ, the first at [0, 0]: expected 2.6, got 0.6",
        "  it should return check.expected; to try it yourself: plus_one(**check.inputs)",
    ]


def test_what_equals_a_mistake_in_some_cases_alone_is_not_taken_for_it(say):
    lines = say(lambda x: x - 1 if x.dim() == 2 else x * 1)
    assert not [line for line in lines if "take one away" in line or "as it is" in line]
    assert "  inputs:" in lines


def test_the_first_property_that_fails_is_named(say):
    """Zeros, which come last, are the only ones for which this is wrong."""
    lines = say(lambda x: x + (x / x).detach())
    assert lines[:2] == [
        "✗ plus_one: 0.5 of 1 point; 1 of 2 properties hold; first property that fails: zeros",
        "  2 of 2 numbers differ, the first at [0]: expected 1, got nan",
    ]
    assert lines[-3:-1] == [
        "  properties that hold: rows of numbers",
        "  properties that fail: zeros",
    ]


def test_without_the_first_property_the_others_earn_nothing(say):
    """Which may hold by chance, as for the number one on an input of zeros."""
    lines = say(lambda x: torch.ones_like(x) + x - x.detach())
    assert lines[0] == "✗ plus_one: 0 of 1 point; first property that fails: rows of numbers"
    assert lines[-4:-1] == [
        "  properties that hold: zeros",
        "  properties that fail: rows of numbers",
        "  the first property must hold for the others to earn points",
    ]


def test_a_property_holds_if_it_does_so_on_every_case(tiny):
    (step,) = [one for one in tiny.compile(3) if one.name == "plus_one"]
    sizes = {tuple(case["inputs"]["x"]["shape"]) for case in step.visible.cases}
    verdict = judge(step, outcomes(step, lambda x: x + 1 if tuple(x.shape) in sizes else x))
    assert verdict.properties == {"rows of numbers": False, "zeros": True}
    assert (verdict.holds(), verdict.fails()) == (["zeros"], ["rows of numbers"])


def raise_text(x):
    raise ValueError("first\n\n  second \x1b[31m")


def leave(x):
    sys.exit()


@pytest.mark.parametrize(
    ("answer", "name", "finding"),
    [
        (lambda x: x.T + 1, "plus_one", "expected shape (3, 2), got (2, 3)"),
        (lambda x: 1.5, "plus_one", "expected shape (3, 2), got ()"),
        (
            lambda x: x * 0 + x.mean() + 1,
            "plus_one",
            "6 of 6 numbers differ, the first at [0, 0]: expected 2.6, got 1.317",
        ),
        (
            lambda x: 2 * x - x.detach() + 1,
            "plus_one",
            "the value is right, but the gradient with respect to x is not: 6 of 6 numbers differ, "
            "the first at [0, 0]: expected 0.5403, got 1.081",
        ),
        (
            lambda x: torch.tensor(x.tolist()) + 1,
            "plus_one",
            "no gradient flows back to x: is the graph cut by detach, item, numpy or a new tensor?",
        ),
        (
            lambda x: x.mul_(2) / 2 + 1,
            "plus_one",
            "the call changed its argument x; work on a copy",
        ),
        (
            lambda x: None,
            "plus_one",
            "expected numbers of shape (3, 2), got None: is a return statement missing?",
        ),
        (lambda x: "x", "plus_one", "expected numbers of shape (3, 2), got a str"),
        (lambda x: {}, "plus_one", "expected numbers of shape (3, 2), got a dict with []"),
        (lambda x: object(), "plus_one", "expected numbers of shape (3, 2), got an object"),
        (
            lambda x: [[1.0], [2.0, 3.0]],
            "plus_one",
            "expected numbers of shape (3, 2), got a ragged or mixed list",
        ),
        (lambda x: x > 0, "plus_one", "expected numbers, got Boolean values"),
        (
            lambda x: x.to(torch.complex64),
            "plus_one",
            "expected numbers of shape (3, 2), got a tensor of complex64 with 6 numbers",
        ),
        (
            lambda x: x.sqrt(),
            "plus_one",
            "6 of 6 numbers differ, the first at [0, 0]: expected 2.6, got 1.265",
        ),
        (
            lambda x: x / 0,
            "plus_one",
            "6 of 6 numbers differ, the first at [0, 0]: expected 2.6, got inf",
        ),
        (raise_text, "plus_one", "ValueError: first second  [31m"),
        (leave, "plus_one", "SystemExit"),
        (
            lambda: 1,
            "plus_one",
            "your code raised TypeError: <lambda>() takes 0 positional arguments but 1 was given",
        ),
        (lambda x: x.min(), "extremes", "expected a tuple of 2 values, got a number"),
        (lambda x: (x.min(),), "extremes", "expected 2 values, got 1"),
        (lambda x: [], "extremes", "expected 2 values, got 0"),
        (lambda x: (x.min(), "b"), "extremes", "result[1]: expected a number, got a str"),
        (lambda x: (x.min(), x[0]), "extremes", "result[1]: expected shape (), got (3,)"),
        (lambda x: (x.min(), True), "extremes", "result[1]: expected numbers, got Boolean values"),
        (lambda x: (x.min(), x.min()), "extremes", "result[1]: expected 1.2, got -2.6"),
        (lambda x: (n for n in x), "extremes", "expected a tuple of 2 values, got a generator"),
    ],
)
def test_what_is_wrong_is_said_exactly(say, answer, name, finding):
    head, found, *_, last = say(answer, name)
    assert head.startswith(f"✗ {name}: 0 of 1 point; first property that fails: ")
    if answer in (raise_text, leave):
        line = answer.__code__.co_firstlineno + 1
        assert found == f"  line {line} of your cell raised {finding}"
    else:
        assert found == f"  {finding}"
    assert "to try it yourself: " in last


def quiet(x):
    import warnings

    warnings.warn("a warning is no mistake", stacklevel=1)
    return x + 1


@pytest.mark.parametrize(
    ("answer", "name"),
    [
        (lambda x: [x.min(), x.max()], "extremes"),
        (lambda x: torch.stack([x.min(), x.max()]).tolist(), "extremes"),
        (lambda x: np.array([x.min(), x.max()]).tolist(), "extremes"),
        (lambda x: x.aminmax(), "extremes"),
        (lambda x: (x.min().float(), np.float32(x.max())), "extremes"),
        (lambda x: x.float() + 1, "plus_one"),
        (lambda x: x + 1 + 1e-7, "plus_one"),
        (quiet, "plus_one"),
    ],
)
def test_the_form_of_a_right_answer_does_not_matter(say, answer, name):
    assert say(answer, name)[-1].startswith(f"✓ {name}: 1 of 1 point")


@pytest.mark.parametrize(
    ("before", "after", "finding"),
    [
        ("self.scale *", "3 *", "numbers differ, the first at [0, 0]: "),
        (
            "ones(features)",
            "ones(features + 1)",
            "raised RuntimeError: Error(s) in loading state_dict for Affine: size mismatch",
        ),
        ("self.weight", "self.weights", "Missing key(s) in state_dict"),
        (
            "self.weight * x",
            "self.weight.detach() * x",
            "the value is right, but the gradient with respect to weight is not: ",
        ),
        (
            "def forward(self, x)",
            "def forward(self)",
            "Affine.forward() takes 1 positional argument but 2 were given",
        ),
        ("features, scale", "features", "Affine.__init__() takes 2 positional arguments but 3"),
        ("return self", "return missing", "line 8 of your cell raised NameError: name 'missing"),
    ],
)
def test_what_is_wrong_with_a_module_is_said(say, before, after, finding):
    source = solved("Affine").replace(before, after)
    assert source != solved("Affine")
    head, found, *_ = say(written(source, name="Affine"), "Affine")
    assert head == "✗ Affine: 0 of 3 points; first property that fails: a small batch"
    assert finding in found


@pytest.mark.parametrize("persistent", [True, False])
def test_a_module_may_keep_buffers_of_its_own(check, say, persistent):
    kept = f"self.register_buffer('mask', torch.ones(features), persistent={persistent})"
    source = solved("Affine").replace("self.scale = scale", f"self.scale = scale\n        {kept}")
    assert say(written(source, name="Affine"), "Affine")[0].startswith("✓ Affine: 3 of 3 points")
    wrong = written(source.replace("self.scale *", "self.mask +"), name="Affine")
    call = say(wrong, "Affine")[-1].partition("to try it yourself: ")[2]
    exec(call, {"check": check, "Affine": wrong})  # raises nothing


@pytest.mark.parametrize(
    "layers", ["[{}]", "({}, None)", "{{'first': {}}}", "[nn.ParameterList([{}])]"]
)
def test_layers_that_torch_does_not_see_are_named(say, layers):
    source = solved("Affine").replace(
        "self.weight = nn.Parameter(torch.ones(features))",
        f"self._parts = {layers.format('nn.Parameter(torch.ones(features))')}",
    )
    finding = say(written(source, name="Affine"), "Affine")[1]
    assert "torch does not see the layers or parameters in self._parts: use nn.Modul" in finding


def unwritten(x):
    raise NotImplementedError


@pytest.mark.parametrize(
    ("answer", "finding"),
    [
        (lambda x: (x + 1, [2]), "result[1]: the values are right, but expected a tensor of int64"),
        (
            lambda x: (x.float() + 1, torch.tensor([2])),
            "expected a tensor of float64, got a tensor",
        ),
        (lambda x: (x.numpy() + 1, torch.tensor([2])), "got an array of float64"),
    ],
)
def test_a_step_may_ask_for_exact_types(answer, finding):
    step = Step(
        "both",
        lambda x: (x + 1, torch.tensor([2])),
        {"a vector": lambda sampler: {"x": sampler.normal(2)}},
        mistakes=[],
        alternatives=[],
        exact_types=True,
    )
    checks = compile_step(step)
    assert finding in verdict_on(checks, answer).finding
    assert verdict_on(checks, lambda x: [1 + x, torch.tensor([2])]).status == "right"
    assert (
        verdict_on(compile_step(dataclasses.replace(step, exact_types=False)), answer).status
        == "right"
    )


@pytest.mark.parametrize(
    "same", [lambda x: x, lambda x: x.view(-1), lambda x: x.numpy(), lambda x: x.numpy()[:]]
)
def test_a_step_may_ask_for_new_results(same):
    step = Step(
        "copied",
        lambda x: [x.clone()],
        {"a vector": lambda sampler: {"x": sampler.normal(2)}},
        mistakes=[Mistake("You return the argument.", answer=lambda x: [x])],
        alternatives=[],
        new_results=True,
    )
    checks = compile_step(step)
    verdict = verdict_on(checks, lambda x: [same(x)])
    assert verdict.finding == "the result shares memory with the argument x; return new tensors"
    assert verdict.diagnosis == "You return the argument."
    assert verdict_on(checks, lambda x: [same(x.clone())]).status == "right"
    assert (
        verdict_on(
            compile_step(dataclasses.replace(step, new_results=False)), lambda x: [same(x)]
        ).status
        == "right"
    )


def verdict_on(checks, answer):
    return judge(checks, [run_case(answer, request) for request in checks.requests])


def test_what_is_not_written_yet_is_no_mistake(say):
    assert say(unwritten) == ["○ plus_one: 0 of 1 point, not written yet"]


def test_what_torch_does_not_implement_is_a_mistake(say):
    source = solved("Affine").replace("forward", "foward")
    first, second, *_ = say(written(source, name="Affine"), "Affine")
    assert first == "✗ Affine: 0 of 3 points; first property that fails: a small batch"
    assert 'NotImplementedError: Module [Affine] is missing the required "forward"' in second


def test_a_step_that_waits_for_another_says_for_which(say):
    earlier = "def plus_one(x):\n    raise NotImplementedError"
    answer = written(earlier, solved("scaled"), name="scaled")
    assert say(answer, "scaled") == [
        "○ scaled: 0 of 2 points, it calls plus_one, which is not written yet"
    ]


def test_an_error_of_an_earlier_step_is_told_from_one_of_this(say):
    earlier = "def plus_one(x):\n    return x + one"
    answer = written(earlier, solved("scaled"), name="scaled")
    assert say(answer, "scaled")[1] == (
        "  line 2 of plus_one, which it calls, raised NameError: name 'one' is not defined"
    )
    answer = written(solved("plus_one"), "def scaled(x, y):\n\n    return x + one", name="scaled")
    assert say(answer, "scaled")[1] == (
        "  line 3 of your cell raised NameError: name 'one' is not defined"
    )


WRONG = "def plus_one(x):\n    return x + 3"
NOTE = "  it calls plus_one, which is wrong, so this step itself may be right"


def test_a_step_that_calls_a_wrong_one_may_be_right(say):
    assert say(written(WRONG, solved("scaled"), name="scaled"), "scaled")[2] == NOTE
    helper = "def helper(x): return plus_one(x)"
    apart = "def scaled(x, y): return x * y * plus_two(x)"
    for sources in ([solved("plus_one"), WRONG.replace("one", "two"), apart], [WRONG, apart]):
        assert NOTE not in say(written(helper, *sources, name="scaled"), "scaled")


def test_a_step_that_makes_a_mistake_of_its_own_is_not_said_to_be_right(say):
    twice = "def scaled(x, y):\n    plus_one(x)\n    return (x + 1) * y * y"
    lines = say(written(WRONG, twice, name="scaled"), "scaled")
    assert lines[1:3] == [
        "  You multiply by y twice.",
        "  it calls plus_one, which is wrong; fix that first",
    ]


def test_a_step_that_calls_a_part_of_a_wrong_one_may_be_right(say):
    """Its own cell calls it through a helper; the wrong cell defines two functions."""
    wrong = "def part(x):\n    return x + 3\n\ndef plus_one(x):\n    return part(x)"
    own = solved("scaled").replace("plus_one", "through")
    assert own != solved("scaled")
    own += "\n\ndef through(x):\n    return part(x)"
    assert NOTE in say(written(wrong, own, name="scaled"), "scaled")
    assert NOTE not in say(written(wrong, own.replace("part", "abs"), name="scaled"), "scaled")


def test_an_interrupt_passes_through(check):
    def plus_one(x):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        check(plus_one)


def test_the_case_that_failed_is_at_hand(check, say):
    assert (check.inputs, check.expected, check.options, check.state) == (None,) * 4
    say(lambda x: x)
    assert list(check.inputs) == ["x"]
    assert isinstance(check.inputs["x"], torch.Tensor)
    torch.testing.assert_close(check.expected, check.inputs["x"] + 1)
    assert (check.options, check.state) == (None, None)
    check.inputs["x"].zero_()
    assert check.inputs["x"].abs().sum() > 1
    say(lambda x: (x.min(), x.min()), "extremes")
    assert isinstance(check.expected, tuple)
    assert check.expected[1] == check.inputs["x"].max()
    say(unwritten)
    assert check.inputs is None
    say(lambda x: x)
    say(lambda x: x + 1)
    assert check.inputs is None


@pytest.mark.parametrize(
    ("source", "name", "call"),
    [
        ("def plus_one(x):\n    return 2 * x", "plus_one", "plus_one(**check.inputs)"),
        ("def plus_one(n):\n    return 2 * n", "plus_one", "plus_one(*check.inputs.values())"),
        (
            solved("Affine").replace("scale *", "scale +"),
            "Affine",
            "model = Affine(**check.options).double(); model.load_state_dict(check.state); "
            "model(**check.inputs)",
        ),
        (
            solved("Affine").replace("scale", "s").replace("s *", "s +").replace("x", "rows"),
            "Affine",
            "model = Affine(*check.options.values()).double(); model.load_state_dict(check.state); "
            "model(*check.inputs.values())",
        ),
    ],
)
def test_the_call_that_is_shown_repeats_what_failed(check, say, source, name, call):
    answer = written(source, name=name)
    lines = say(answer, name)
    assert lines[-1] == f"  it should return check.expected; to try it yourself: {call}"
    names = {"check": check, name: answer}
    *before, last = call.split("; ")
    exec("\n".join(before), names)
    again = eval(last, names)
    assert lines[-2] == f"  got {shown(again)}"


@pytest.mark.parametrize(
    ("source", "name", "words", "gradient"),
    [
        (
            "def plus_one(x):\n    return 2 * x - x.detach() + 1",
            "plus_one",
            'inputs = check.inputs; check.total(plus_one(**inputs)).backward(); inputs["x"].grad',
            "x",
        ),
        (
            "def plus_one(n):\n    return 2 * n - n.detach() + 1",
            "plus_one",
            "inputs = check.inputs; check.total(plus_one(*inputs.values())).backward(); "
            'inputs["x"].grad',
            "x",
        ),
        (
            solved("Affine").replace(
                "self.weight * x", "(2 * self.weight - self.weight.detach()) * x"
            ),
            "Affine",
            "model = Affine(**check.options).double(); model.load_state_dict(check.state); "
            'check.total(model(**check.inputs)).backward(); model.get_parameter("weight").grad',
            "weight",
        ),
    ],
)
def test_what_is_shown_of_a_gradient_repeats_what_failed(check, say, source, name, words, gradient):
    answer = written(source, name=name)
    *_, got_line, last = say(answer, name)
    assert last == (
        f'  the gradient should be check.gradients["{gradient}"]; to try it yourself: {words}'
    )
    names = {"check": check, name: answer}
    *before, result = words.split("; ")
    exec("\n".join(before), names)
    got = eval(result, names)
    torch.testing.assert_close(got, 2 * check.gradients[gradient])
    assert got_line.startswith("  got gradient")


def test_what_fails_because_of_gradients_fails_again(check, say):
    answer = written("def plus_one(x):\n    return x.numpy() + 1", name="plus_one")
    assert "Can't call numpy() on Tensor that requires grad" in say(answer)[1]
    with pytest.raises(RuntimeError, match=r"Can't call numpy\(\) on Tensor that requires grad"):
        answer(**check.inputs)
    answer = written("def plus_one(x):\n    x += 1\n    return x * 1", name="plus_one")
    assert "The input is overwritten." in say(answer)[1]
    inputs = check.inputs
    before = inputs["x"].tolist()
    torch.testing.assert_close(answer(**inputs), check.expected)
    assert inputs["x"].tolist() != before


def test_an_argument_that_is_changed_is_shown_after_the_call(check, say):
    answer = written("def plus_one(x):\n    x += 1\n    return x * 1", name="plus_one")
    words = 'inputs = check.inputs; plus_one(**inputs); inputs["x"]'
    assert say(answer)[-1] == (
        f'  the argument should still equal check.inputs["x"]; to try it yourself: {words}'
    )
    names = {"check": check, "plus_one": answer}
    *before, last = words.split("; ")
    exec("\n".join(before), names)
    torch.testing.assert_close(eval(last, names), check.inputs["x"] + 1)


def test_a_result_without_gradient_is_refused_when_it_is_tried_again(check, say):
    answer = written("def plus_one(x):\n    return (x + 1).tolist()", name="plus_one")
    assert "no gradient flows back to x" in say(answer)[1]
    with pytest.raises(ValueError, match="no gradient flows back from this result"):
        check.total(answer(**check.inputs))


def shown(tensor):
    numbers = [[f"{number + 0.0:.4g}" for number in row] for row in tensor.tolist()]
    return str(numbers).replace("'", "") + f" {tuple(tensor.shape)}"


@pytest.mark.parametrize(
    ("answer", "problem"),
    [
        ("plus_one", "without quotes, as in check(plus_one); got the string 'plus_one'"),
        ("scaled", "without quotes, as in check(scaled); got the string 'scaled'"),
        ("plus", "without quotes, as in check(plus_one); got the string 'plus'"),
        (torch.ones(2), "without calling it, as in check(plus_one); got its result, Tensor"),
        (None, "without calling it, as in check(plus_one); got its result, NoneType"),
        (
            lambda x: x,
            "under the name that its task gives it, one of plus_one, scaled, extremes, Affine; got "
            "<lambda>",
        ),
        (
            torch.sigmoid,
            "under the name that its task gives it, one of plus_one, scaled, extremes, Affine; got "
            "sigmoid",
        ),
    ],
)
def test_what_is_no_answer_is_refused(check, answer, problem):
    with pytest.raises(
        ValueError, match=r"^check: expected the function or class itself, "
    ) as found:
        check(answer)
    assert str(found.value).endswith(f"itself, {problem}")


@pytest.mark.parametrize(
    "source",
    [
        "lambda x: x + 1",
        "functools.partial(torch.add, 1)",
        "type('Adder', (), {'__call__': lambda self, x: x + 1})()",
        "torch.no_grad()(lambda x: x + 1) and (lambda x: x + 1)",
    ],
)
def test_an_answer_may_have_another_name_than_it_is_bound_to(check, capsys, source):
    names = {"check": check, "torch": torch, "functools": functools}
    exec(f"plus_one = {source}\ncheck(plus_one)", names)
    assert capsys.readouterr().out.startswith("✓ plus_one: 1 of 1 point")


def test_the_name_that_an_answer_is_bound_to_counts(check, capsys):
    """What a decorator returns may have the name of another step."""
    source = "def wrap(f):\n    def scaled(*x):\n        return f(*x)\n    return scaled\n"
    exec(f"{source}@wrap\ndef plus_one(x):\n    return x + 1\ncheck(plus_one)", {"check": check})
    assert capsys.readouterr().out.startswith("✓ plus_one: 1 of 1 point")
    exec("def plus_one(x):\n    return x + 1\nscaled = plus_one\ncheck(plus_one)", {"check": check})
    assert capsys.readouterr().out.startswith("✓ plus_one: 1 of 1 point")


def test_an_object_of_a_class_is_refused(check):
    affine = written(solved("Affine"), name="Affine")
    with pytest.raises(ValueError, match=r"as in check\(Affine\); got its result, Affine$"):
        check(affine(2, 3.0))


def test_there_is_no_checker_for_other_names():
    with pytest.raises(ValueError, match=r"exercise: expected 'sequences' or .* got 'lstms'"):
        exercises.Checker("lstms")


def test_in_a_kernel_each_check_says_what_is_wrong_and_the_rest_runs():
    """The released LSTM, half done, as a student runs it from top to bottom."""
    notebook = nbformat.reads(json.dumps(exercises.COURSE.load("lstm").notebook), as_version=4)
    sources = {one["id"]: one for one in notebook.cells}
    sources["forget-gate-answer"].source = (
        "def forget_gate(inputs, hidden, cell, w, u, peephole, bias):\n"
        "    total = inputs @ w.T + hidden @ u\n"
        "    return torch.sigmoid(total + peephole * cell + bais)\n"
    )
    asyncio.run(NotebookClient(notebook, timeout=2 * PATIENCE).async_execute())
    texts = {
        one.id: "".join(output.text for output in one.outputs)
        for one in notebook.cells
        if one.id.endswith("-check")
    }
    assert texts["split-gates-check"] == "○ split_gates: 0 of 1 point, not written yet\n"
    found = texts["forget-gate-check"].splitlines()
    assert found[1] == "  line 3 of your cell raised NameError: name 'bais' is not defined"
    assert found[-1].endswith("to try it yourself: forget_gate(**check.inputs)")
    assert texts["input-gate-check"] == "○ input_gate: 0 of 1 point, not written yet\n"


# What is said of hidden cases.


def outcomes(step, answer):
    return [run_case(answer, request) for request in step.requests]


def test_of_a_hidden_case_nothing_is_shown(tiny):
    (step,) = [one for one in tiny.compile(3) if one.name == "plus_one"]
    public = {json.dumps(case["inputs"]) for case in step.cases if not case["hidden"]}
    seen = []

    def right_where_visible(x):
        seen.append(x)
        is_public = json.dumps({"x": encode(x)}) in public
        return x + 1 if is_public else x * 123.456

    verdict = judge(step, outcomes(step, right_where_visible))
    assert verdict.status == "wrong"
    assert verdict.property == "rows of numbers"
    assert verdict.finding == "a value is wrong, on a hidden input"
    assert (verdict.example, verdict.case) == (None, None)


@pytest.mark.parametrize(
    ("wrong", "finding"),
    [
        (lambda x: x.T + 1, "the shape is wrong"),
        (lambda x: x * torch.nan, "a value is not finite"),
        (lambda x: x.detach() + 1, "no gradient flows back"),
        (lambda x: x + 1 + x - x.detach(), "a gradient is wrong"),
        (lambda x: x.add_(1) * 1, "the call changes its arguments"),
        (lambda x: str(x), "the result has the wrong form"),
        (lambda x: x > 0, "the type of the numbers is wrong"),
        (lambda x: x[1000], "your code raised IndexError"),
    ],
)
def test_of_a_hidden_case_the_kind_of_fault_is_told(tiny, wrong, finding):
    (step,) = [one for one in tiny.compile(3) if one.name == "plus_one"]
    of_hidden = outcomes(step.hidden, wrong)
    # The step has known mistakes; without them, what is said is the kind of fault alone.
    verdict = judge(step, outcomes(step.visible, lambda x: x + 1) + of_hidden)
    assert verdict.finding == f"{finding}, on a hidden input"


def test_an_error_on_a_hidden_case_tells_no_message(tiny):
    def betray(x):
        raise type(f"Leak{x.sum()}", (Exception,), {})(f"the input is {x}")

    (step,) = [one for one in tiny.compile(3) if one.name == "plus_one"]
    verdict = judge(step, outcomes(step.visible, lambda x: x + 1) + outcomes(step.hidden, betray))
    assert verdict.finding == "your code raised an error, on a hidden input"


# Values on their way in and out.

NUMBERS = some.floats(width=32) | some.integers(-(2**53), 2**53) | some.booleans() | some.none()
VALUES = some.recursive(
    NUMBERS | some.text(max_size=5),
    lambda inner: (
        some.lists(inner, max_size=3)
        | some.lists(inner, max_size=3).map(tuple)
        | some.dictionaries(some.text(max_size=3), inner, max_size=3)
    ),
    max_leaves=8,
)


@given(VALUES)
def test_values_travel_unchanged(value):
    back = decode(json.loads(json.dumps(encode(value))))
    assert repr(back) == repr(value)


@pytest.mark.parametrize(
    "tensor",
    [
        torch.arange(6).reshape(2, 3).T,
        torch.tensor([True, False]),
        torch.tensor(2.5),
        torch.zeros(0, 3),
        torch.tensor([float("nan"), float("inf"), -0.0]),
        torch.tensor([1, 2], dtype=torch.int32),
        torch.tensor([0, 255], dtype=torch.uint8),
        torch.ones(2, requires_grad=True) * 3,
    ],
)
def test_tensors_travel_unchanged(tensor):
    data = json.loads(json.dumps(encode(tensor)))
    back = decode(data, tensors=True)
    assert (back.dtype, back.shape) == (tensor.dtype, tensor.shape)
    torch.testing.assert_close(back, tensor.detach(), equal_nan=True, rtol=0, atol=0)
    np.testing.assert_array_equal(decode(data), tensor.detach().numpy())


def test_of_what_is_not_data_the_type_alone_travels():
    assert decode(encode(object())) == Unsupported("object")
    assert decode(encode([{1: torch.nn.Linear(1, 1)}])) == [{"1": Unsupported("Linear")}]
    assert decode(encode(torch.ones(2, dtype=torch.bfloat16))).dtype == np.float32
    assert decode(encode(np.float64(2.5))) == 2.5


@pytest.mark.parametrize("holder", [list, tuple, lambda items: {"a": items[:9], "b": items}])
def test_of_more_values_than_are_read_only_as_many_are_written(holder):
    most = [[]] * 99_999
    assert decode(encode(most)) == most
    too_many = encode(holder([["x", 1.5]] * 500_000))
    assert len(json.dumps(too_many)) < 2_000_000
    with pytest.raises(ValueError, match="more than 100000 values"):
        decode(too_many)


@pytest.mark.parametrize(
    "data",
    [
        {"tensor": [1.0, 2.0], "dtype": "float64", "shape": [3]},
        {"tensor": [1.0], "dtype": "object", "shape": [1]},
        {"tensor": [1.0], "dtype": "float64", "shape": [-1]},
        {"tensor": ["1"], "dtype": "float64", "shape": [1]},
        {"tensor": [1.5], "dtype": "int64", "shape": [1]},
        {"tensor": [2**70], "dtype": "int64", "shape": [1]},
        {"tensor": [1.0], "dtype": "float64"},
        {"other": 1},
        {"tuple": 1},
    ],
)
def test_what_is_no_value_is_refused(data):
    with pytest.raises(ValueError, match=r"expected|does not"):
        decode(data)


HUGE = {"tensor": [], "dtype": "float64", "shape": [10**6, 10**6, 0]}
WIDE = {"tensor": [], "dtype": "float64", "shape": [10**6, 0]}


@pytest.mark.parametrize(
    "data",
    [
        HUGE,
        {**HUGE, "shape": [20, 10**6, 0]},
        {**HUGE, "shape": [0, 10**6, 10**6]},
        {"array": [], "dtype": "bool", "shape": [1001, 0, 1000]},
        [1.5, {"tuple": [{"dict": {"x": HUGE}}]}],
        [[]] * 100_000,
        [0] * 100_000,
        {"dict": {str(number): 0 for number in range(100_000)}},
    ],
)
def test_what_would_take_much_memory_is_refused(data):
    with pytest.raises(ValueError, match=r"shape: expected at most|more than 100000 values"):
        decode(data)


@pytest.mark.parametrize("shape", [(10**6, 10**6, 0), (20, 10**6, 0), (0, 1001, 1000)])
def test_of_a_huge_shape_without_numbers_the_shape_alone_travels(shape):
    for value in (torch.zeros(shape), np.zeros(shape)):
        kind = "tensor of float32" if isinstance(value, torch.Tensor) else "array of float64"
        assert decode(encode(value)) == Unsupported(f"{kind} with shape {shape}")


@pytest.mark.parametrize("part", ["returned", "gradients", "arguments"])
@pytest.mark.parametrize("value", [HUGE, WIDE, [WIDE] * 3, {"dict": {"x": WIDE}}])
def test_a_shape_without_numbers_is_wrong_wherever_it_stands(tiny, part, value):
    (step,) = [one for one in tiny.release().steps if one.name == "plus_one"]
    forged = outcomes(step, lambda x: x + 1)
    for outcome in forged:
        outcome[part] = value if part == "returned" else {"x": value}
    verdict = judge(step, forged)
    assert verdict.status == "wrong"
    assert len(verdict.finding) + len(verdict.example) < 2000


def test_of_rows_without_numbers_the_shape_alone_is_shown(say):
    assert say(lambda x: torch.zeros(10**6, 0))[-2] == "  got float32 (1000000, 0)"


# Calls.


def request(inputs, **parts):
    names = {"gradients": [], "options": None, "state": None}
    return {"inputs": {name: encode(value) for name, value in inputs.items()}, **names, **parts}


def test_every_call_gets_inputs_of_its_own():
    case = request({"x": torch.ones(2), "numbers": [1, 2]})

    def greedy(x, numbers):
        x.zero_()
        numbers.clear()
        return x

    first, second = run_case(greedy, case), run_case(greedy, case)
    assert first == second
    assert decode(first["arguments"]) if False else decode(first["arguments"]["numbers"]) == []
    assert run_case(lambda x, numbers: x, case)["returned"] == case["inputs"]["x"]


def test_gradients_tell_results_apart_that_have_the_same_sum():
    x = torch.tensor([1.0, 2.0, 4.0], dtype=torch.float64)
    case = request({"x": x}, gradients=["x"])
    plain, turned = (run_case(answer, case) for answer in (lambda x: x * 1, lambda x: x.flip(0)))
    assert plain["gradients"] != turned["gradients"]


def test_an_input_without_effect_has_a_gradient_of_zero():
    case = request({"x": torch.ones(2), "y": torch.ones(2)}, gradients=["x", "y"])
    found = run_case(lambda x, y: x * 2, case)["gradients"]
    assert decode(found["y"]).tolist() == [0, 0]
    found = run_case(lambda x, y: x.detach(), case)["gradients"]
    assert found == {"x": None, "y": None}


# What authors write.


def step(**changes):
    parts = {
        "reference": lambda x: x + 1,
        "cases": {"numbers": lambda sampler: {"x": sampler.normal(2)}},
        "mistakes": [],
        "alternatives": [],
    }
    return Step("plus_one", **{**parts, **changes})


def test_visible_cases_are_always_the_same_and_hidden_ones_follow_the_seed():
    visible, three, again, four = (compile_step(step(), seed=seed) for seed in (None, 3, 3, 4))
    assert [case["hidden"] for case in three.cases] == [False] * 2 + [True] * 3
    assert three.cases[:2] == visible.cases == three.visible.cases == four.visible.cases
    assert three == again
    inputs = [json.dumps(case["inputs"]) for case in [*three.cases, *four.hidden.cases]]
    assert len(set(inputs)) == len(inputs)


def test_a_draw_depends_on_its_seed_alone():
    first, again, other = (CaseSampler(seed, 1).normal(3).tolist() for seed in (5, 5, 6))
    assert first == again != other
    assert all(round(number, 1) == number for number in first)


@given(some.integers(0, 1000), some.integers(0, 3), some.integers(1, 5))
def test_sizes_differ_so_that_no_two_axes_are_mixed_up(seed, size, count):
    sizes = CaseSampler(seed, size).lengths(count)
    assert len(set(sizes)) == count
    assert min(sizes) >= 2


@given(some.integers(0, 1000))
def test_probabilities_sum_to_one(seed):
    rows = CaseSampler(seed, 1).probabilities(4, 3)
    assert rows.min() >= 0.01
    np.testing.assert_allclose(rows.sum(-1), 1)


def test_a_module_may_have_no_options():
    class Twice(nn.Module):
        def forward(self, x):
            return 2 * x

    cases = {"numbers": lambda sampler: ModuleCase(inputs={"x": sampler.normal(2)}, options={})}
    compiled = compile_step(step(reference=Twice, cases=cases))
    assert judge(compiled, outcomes(compiled, Twice)).status == "right"


def test_a_reference_that_fails_is_the_authors_error():
    with pytest.raises(ValueError, match=r"plus_one, 'numbers': the reference raises .*Zero"):
        compile_step(step(reference=lambda x: x + 1 / 0))


def test_where_a_mistake_shows_does_not_hang_on_rounding():
    """What the judge lets pass is right, for a mistake too: other machines round otherwise."""

    def right(x):
        return x + 1 if len(x) < 4 else x * math.nan

    def wrong(x, rounding=1e-6):
        return x - 1 if len(x) == 2 else right(x) + rounding

    cases = {
        f"{count} numbers": lambda sampler, count=count: {"x": sampler.normal(count)}
        for count in (2, 3, 4)
    }
    mistakes = [Mistake("You count down.", answer=wrong)]
    compiled = compile_step(step(reference=right, cases=cases, mistakes=mistakes))
    shown = [case["property"] for case in compiled.cases if case["mistakes"] != [{}]]
    assert shown == ["2 numbers"] * 2
    other_machine = outcomes(compiled, functools.partial(wrong, rounding=-1e-6))
    assert judge(compiled, other_machine).diagnosis == "You count down."


def test_a_mistake_may_raise(tiny):
    def wrong(x):
        raise IndexError("of some kind")

    compiled = compile_step(step(mistakes=[Mistake("You look beyond the end.", answer=wrong)]))
    verdict = judge(compiled, outcomes(compiled, lambda x: x[1000]))
    assert verdict.diagnosis == "You look beyond the end."


def break_cell(cell_id, source):
    def change(notebook):
        (found,) = [one for one in notebook["cells"] if one["id"] == cell_id]
        found["source"] = source.splitlines(True)

    return change


def drop_cell(cell_id):
    def change(notebook):
        notebook["cells"] = [one for one in notebook["cells"] if one["id"] != cell_id]

    return change


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (drop_cell("scaled-check"), r"tiny: expected the cells \[.*'scaled-check'"),
        (drop_cell("scaled-answer"), "tiny: scaled-answer: expected one marked solution"),
        (
            break_cell("scaled-answer", "def scaled(x, y):\n    return x"),
            "tiny: scaled-answer: expected one marked solution",
        ),
        (
            break_cell(
                "scaled-answer",
                "def scale(x, y):\n    ### BEGIN SOLUTION\n    pass\n    ### END SOLUTION",
            ),
            "tiny: scaled-answer does not define scaled",
        ),
        (drop_cell("scaled-task"), r"scaled: expected '## 2\. Title \(★, 5 minutes, 1 point\)'"),
        (break_cell("scaled-task", "## 2. Step (2 points)"), "scaled: expected '## 2"),
        (
            break_cell("scaled-task", "## 7. Step (★, 5 minutes, 2 points)"),
            "scaled: expected '## 2",
        ),
    ],
)
def test_a_notebook_that_does_not_fit_its_checks_is_refused(tmp_path, change, message):
    folder = write_exercise(tmp_path) / "tiny"
    notebook = source_notebook()
    change(notebook)
    (folder / "tiny.ipynb").write_text(json.dumps(notebook), encoding="utf-8")
    with pytest.raises(ValueError, match=message):
        Exercise.load(folder)


def test_a_step_may_use_earlier_ones_alone(tiny):
    first, *others = tiny.steps
    dependent = dataclasses.replace(first, depends_on=["scaled"])
    with pytest.raises(ValueError, match=r"plus_one depends on \{'scaled'\}, which are not"):
        Exercise("tiny", tiny.notebook, [dependent, *others])


def with_mistake(tiny, name, mistake):
    steps = [
        dataclasses.replace(step, mistakes=[mistake]) if step.name == name else step
        for step in tiny.steps
    ]
    return Exercise("tiny", tiny.notebook, steps)


def test_a_mistake_may_be_an_edit_of_the_solution_that_calls_an_earlier_step(tiny):
    mistake = Mistake("You add y.", ("plus_one(x) * y", "plus_one(x) + y"))
    exercise = with_mistake(tiny, "scaled", mistake)
    compiled = exercise.compile(seed=3)[1]
    assert judge(compiled, outcomes(compiled, lambda x, y: x + 1 + y)).diagnosis == "You add y."
    assert judge(compiled, outcomes(compiled, lambda x, y: (x + 1) * y)).status == "right"


def test_edits_can_swap_two_texts(tiny):
    mistake = Mistake("The largest is first.", ("x.min()", "x.max()"), ("x.max()", "x.min()"))
    step = with_mistake(tiny, "extremes", mistake).steps[2]
    assert step.mistakes[0].answer(torch.tensor([1.0, 2.0])) == (2, 1)


@pytest.mark.parametrize(
    ("edits", "message"),
    [
        ([("x - 1", "x")], "expected 'x - 1' once in the solution, found it 0 times"),
        ([("def", "class")], "expected 'def' once in the solution, found it 0 times"),
        ([("x.m", "y.m")], "expected 'x.m' once in the solution, found it 2 times"),
        ([("x.min()", "x.min()")], r"\('x.min\(\)', 'x.min\(\)'\).* leave the solution as it is"),
        ([("x.min()", "0"), ("min(), x", "1")], r"the edit of 'min\(\), x' overlaps another one"),
        ([("x.min()", "(x")], "SyntaxError: .*return \\(x, x.max"),
    ],
)
def test_edits_that_do_not_fit_are_refused_with_the_step_and_the_mistake(tiny, edits, message):
    where = "tiny, extremes, the mistake 'It is wrong.'"
    with pytest.raises(ValueError, match=f"(?s){where}: .*{message}"):
        with_mistake(tiny, "extremes", Mistake("It is wrong.", *edits))


def test_a_mistake_without_edits_and_answer_is_refused():
    with pytest.raises(ValueError, match=r"'Wrong\.': expected edits or an answer, got neither"):
        Mistake("Wrong.")


@pytest.mark.parametrize(
    ("parts", "message"),
    [
        (
            [("+", "-"), "You subtract."],
            r"expected the message of a mistake first, got \('\+', '-'\)",
        ),
        (
            ["You subtract.", "You divide.", ("+", "/")],
            r"'You subtract\.': expected edits or an answer",
        ),
        (
            ["Wrong.", ("+", "-"), min],
            r"'Wrong\.': expected edits or one answer, got \[.*'-'\), <.* min>",
        ),
        (
            ["Wrong.", min, max],
            r"'Wrong\.': expected edits or one answer, got \[.* min>, .* max>",
        ),
    ],
)
def test_a_list_of_mistakes_with_a_part_missing_is_refused(parts, message):
    with pytest.raises(ValueError, match=message):
        known_mistakes(*parts)


def test_edits_need_the_notebook():
    unsolved = step(mistakes=[Mistake("You subtract.", ("+", "-"))])
    with pytest.raises(ValueError, match=r"'You subtract\.': its edits need"):
        compile_step(unsolved)


def test_right_answers_can_call_the_solutions_of_the_notebook(tmp_path):
    steps_file = write_exercise(tmp_path) / "tiny" / "steps.py"
    scaled, plus_one = solutions(str(steps_file), "scaled", "plus_one")
    assert (plus_one(1), scaled(1, 5)) == (2, 10)


def test_the_release_holds_no_solution_and_no_output(tmp_path):
    folder = write_exercise(tmp_path) / "tiny"
    notebook = source_notebook()
    for one in notebook["cells"]:
        if one["cell_type"] == "code":
            one["outputs"] = [{"output_type": "stream", "name": "stdout", "text": ["secret"]}]
            one["execution_count"] = 7
    (folder / "tiny.ipynb").write_text(json.dumps(notebook), encoding="utf-8")
    release = Exercise.load(folder).release()
    assert release.cell("plus-one-answer") == "def plus_one(x):\n    raise NotImplementedError"
    assert release.cell("affine-answer").endswith("()\n        raise NotImplementedError")
    assert release.cell("setup") == SETUP
    assert release.title == "Exercises: tiny"
    assert [heading.points for heading in release.headings.values()] == [1, 2, 1, 3]
    texts = release.files(tmp_path).values()
    assert not any(word in text for text in texts for word in ("secret", "SOLUTION", "x + 1"))
    nbformat.validate(json.loads(as_text(release.notebook)))


def test_a_task_says_what_is_compared(tiny):
    release = tiny.release()
    tasks = [release.cell(f"{step.cell}-task").splitlines()[-1] for step in tiny.steps]
    gradients = "of any precision), gradients with respect to {} (so compute with torch throughout)"
    assert tasks == [
        f"**Compared:** values and shapes ({part}, and that the arguments stay unchanged."
        for part in (
            gradients.format("`x`"),
            gradients.format("`x` and `y`"),
            "lists, arrays and tensors of any precision are alike)",
            gradients.format("`x` and all parameters"),
        )
    ]
    hinted = source_notebook()
    (task,) = [one for one in hinted["cells"] if one["id"] == "scaled-task"]
    task["source"] += ["\n\nDo it.\n\n", "<details>A hint</details>\n"]
    lines = Exercise("tiny", hinted, tiny.steps).release().cell("scaled-task").splitlines()
    assert [line[:9] for line in lines[2:]] == ["Do it.", "", "**Compare", "", "<details>"]


def test_the_release_is_the_same_in_every_process(tmp_path):
    folder = write_exercise(tmp_path) / "tiny"
    code = (
        "import sys, pathlib\nfrom stepgrader.exercises import Exercise\n"
        "made = Exercise.load(pathlib.Path(sys.argv[1])).release().files(pathlib.Path())\n"
        "sys.stdout.buffer.write(repr(made).encode())"
    )
    other = subprocess.run(
        [sys.executable, "-c", code, str(folder)],
        env={**os.environ, "PYTHONHASHSEED": "1"},
        capture_output=True,
        check=True,
    )
    assert other.stdout.decode() == repr(Exercise.load(folder).release().files(Path()))


def test_a_check_in_a_notebook_needs_nothing_of_the_sandbox():
    """Which there is not on every system: Windows has neither of these modules."""
    code = (
        "import sys\nsys.modules.update(resource=None, fcntl=None)\n"
        "from seqbook.exercises import Checker\nChecker('lstm')"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize(
    ("source", "found"),
    [
        ("def f(x):\n    pass", True),
        ("import torch\nclass f:\n    pass", True),
        ("def f2(x):\n    pass", False),
        ("class A:\n    def f(self):\n        pass", False),
        ("f = 3", False),
    ],
)
def test_a_definition_is_found(source, found):
    assert defines(source, "f") is found


# Files that are kept.


def test_files_are_rewritten_as_long_as_nobody_changed_them(tmp_path):
    folder = tmp_path / "new" / "folder"
    first = SafeWriter(folder)
    first.write(folder / "a.txt", "one")
    first.write(folder / "deep" / "b.txt", b"two")
    assert first.written == [folder / "a.txt", folder / "deep" / "b.txt"]
    second = SafeWriter(folder)
    second.write(folder / "a.txt", "newer")
    second.write(folder / "deep" / "b.txt", "two")
    assert (second.written, second.unchanged) == ([folder / "a.txt"], [folder / "deep" / "b.txt"])
    assert (folder / "a.txt").read_text() == "newer"
    assert not first.skipped + second.skipped


def test_a_changed_file_is_left_alone_for_ever(tmp_path):
    path = tmp_path / "a.txt"
    SafeWriter(tmp_path).write(path, "one")
    path.write_text("mine")
    for content in ("one", "newer", "newest"):
        writer = SafeWriter(tmp_path)
        writer.write(path, content)
        assert (writer.skipped, writer.written, path.read_text()) == ([path], [], "mine")
    path.unlink()
    writer = SafeWriter(tmp_path)
    writer.write(path, "newest")
    assert (writer.written, path.read_text()) == ([path], "newest")


def test_what_was_there_before_is_left_alone(tmp_path):
    (tmp_path / "file").write_text("mine")
    (tmp_path / "folder").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "same").write_text("new")
    writer = SafeWriter(tmp_path)
    for name in ("file", "folder", "link", "same"):
        writer.write(tmp_path / name, "new")
    assert [path.name for path in writer.skipped] == ["file", "folder", "link"]
    assert [path.name for path in writer.unchanged] == ["same"]
    assert (tmp_path / "link").is_symlink()
    assert not (tmp_path / "elsewhere").exists()


@pytest.mark.parametrize("record", ["", "{", "5", "[1]", '{"a.txt": 5}'])
def test_without_its_record_a_keeper_changes_nothing(tmp_path, record):
    path = tmp_path / "a.txt"
    SafeWriter(tmp_path).write(path, "one")
    (tmp_path / ".written.json").write_text(record)
    writer = SafeWriter(tmp_path)
    writer.write(path, "newer")
    assert (writer.skipped, path.read_text()) == ([path], "one")


@pytest.mark.parametrize("moment", ["fsync", "replace"])
def test_an_interrupted_write_loses_nothing(tmp_path, monkeypatch, moment):
    def interrupt(*_):
        raise KeyboardInterrupt

    SafeWriter(tmp_path).write(tmp_path / "a.txt", "one")
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):  # noqa: PT012
        patch.setattr(atomic_files.os, moment, interrupt)
        SafeWriter(tmp_path).write(tmp_path / "a.txt", "newer")
    assert (tmp_path / "a.txt").read_text() == "one"
    writer = SafeWriter(tmp_path)
    writer.write(tmp_path / "a.txt", "newer")
    assert (writer.written, (tmp_path / "a.txt").read_text()) == ([tmp_path / "a.txt"], "newer")
    assert sorted(path.name for path in tmp_path.iterdir()) == [".written.json", "a.txt"]


def test_what_was_written_is_known_even_if_it_could_not_be_recorded(tmp_path, monkeypatch):
    """After an interruption between a file and the record, a second start continues."""
    real, calls = os.replace, []

    def interrupt_second(*paths):
        calls.append(paths)
        if len(calls) == 2:
            raise KeyboardInterrupt
        real(*paths)

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):  # noqa: PT012
        patch.setattr(atomic_files.os, "replace", interrupt_second)
        SafeWriter(tmp_path).write(tmp_path / "a.txt", "one")
    for content, kind in (("one", "unchanged"), ("newer", "written")):
        writer = SafeWriter(tmp_path)
        writer.write(tmp_path / "a.txt", content)
        assert getattr(writer, kind) == [tmp_path / "a.txt"]


@pytest.mark.parametrize("below", ["file", "file/a", "file/a/b"])
def test_a_folder_that_is_none_is_refused(tmp_path, below):
    (tmp_path / "file").write_text("mine")
    with pytest.raises(NotADirectoryError, match=r"expected a folder, .*/file is a file$"):
        SafeWriter(tmp_path / below)
    assert (tmp_path / "file").read_text() == "mine"
