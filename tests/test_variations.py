"""Wrong answers that behave like a solution with one small change, and smaller examples of them."""

import json
import shutil
from dataclasses import replace

import numpy as np
import pytest
import torch
from conftest import ROOT
from torch import nn

from stepgrader.checker import Checker
from stepgrader.diagnosis import explain
from stepgrader.exercises import Exercise, Released
from stepgrader.recorded import FILE, as_recorded, read_recorded
from stepgrader.smaller import count_numbers, record_smaller
from stepgrader.steps import Step, compile_step
from stepgrader.variations import record_variations, variations
from stepgrader.worker.calls import run_case

NAMES = {"torch": torch, "nn": nn, "np": np}
FOLDERS = sorted(path.parent for path in (ROOT / "exercises").glob("*/steps.py"))
SOLUTION = '''
def layer(inputs, state, w, u, bias):
    """States (batch, time, hidden) of a padded batch."""
    ### BEGIN SOLUTION
    states = []
    for t in range(inputs.shape[1]):
        summed = inputs[:, t] @ w + state @ u.T + bias
        first, second = summed.chunk(2, dim=1)
        state = torch.sigmoid(first) * torch.tanh(second) + (1 - torch.sigmoid(first)) * state
        states.append(state)
    return torch.stack(states, dim=1)
    ### END SOLUTION
'''


def sampled(sampler):
    batch, time, features, hidden = 3, 4, 2, 2
    return {
        "inputs": sampler.normal(batch, time, features),
        "state": sampler.normal(batch, hidden),
        "w": sampler.normal(features, 2 * hidden),
        "u": sampler.normal(2 * hidden, hidden),
        "bias": sampler.normal(2 * hidden),
    }


def written(source):
    names = dict(NAMES)
    exec(source, names)
    return names["layer"]


def edited(*edits):
    source = SOLUTION
    for old, new in edits:
        assert source.count(old) == 1
        source = source.replace(old, new)
    return written(source)


@pytest.fixture(scope="module")
def step():
    plain = Step("layer", written(SOLUTION), {"a batch": sampled, "a new batch": sampled}, [], [])
    compiled = compile_step(plain, seed=1)
    return replace(compiled, variations=record_variations(compiled, SOLUTION, NAMES))


def said(step, answer):
    return explain(step, [run_case(answer, case) for case in step.requests])


@pytest.mark.parametrize(
    ("edit", "words"),
    [
        ((" + bias", ""), "the term with bias is left out"),
        ((" + state @ u.T", ""), "the term with state and u is left out"),
        (("inputs[:, t] @ w +", "-(inputs[:, t] @ w) +"), "w has the wrong sign"),
        (("torch.tanh(second)", "second"), "tanh is left out"),
        (("torch.tanh(second)", "torch.sigmoid(second)"), "sigmoid stands in place of tanh"),
        (("first, second =", "second, first ="), "two parts of what is split are exchanged"),
        (("range(inputs.shape[1])", "range(1, inputs.shape[1])"), "a loop starts one step late"),
        (
            ("range(inputs.shape[1])", "reversed(range(inputs.shape[1]))"),
            "a loop runs in the other direction",
        ),
        (("1 - torch.sigmoid", "1 + torch.sigmoid"), "a sign is wrong"),
        (("u.T", "u[:4].T.flip(0)"), None),
        (("+ bias", "+ -bias"), "a sign is wrong"),
    ],
)
def test_a_small_change_is_named(step, edit, words):
    if words is None:
        assert "A correct solution" not in (said(step, edited(edit)) or "")
    else:
        assert f"A correct solution gives the same result if {words}" in said(step, edited(edit))


def test_the_answer_may_be_written_in_another_way(step):
    def without_bias(x, h, w, u, bias):
        found = []
        for row in x.transpose(0, 1):
            a, b = (torch.einsum("bf,fh->bh", row, w) + torch.einsum("bh,gh->bg", h, u)).split(2, 1)
            h = h + a.sigmoid() * (b.tanh() - h)
            found.append(h[:, None])
        return torch.cat(found, 1)

    assert (
        said(step, without_bias)
        == "A correct solution gives the same result if the term with bias is left out."
    )


def test_a_change_must_fit_in_all_visible_cases(step):
    right, wrong = written(SOLUTION), edited((" + bias", ""))
    first = step.cases[0]["inputs"]["bias"]["tensor"]

    def sometimes(inputs, state, w, u, bias):
        return (wrong if bias.tolist() == first else right)(inputs, state, w, u, bias)

    assert "A correct solution" not in (said(step, sometimes) or "")


def test_integers_that_python_refuses_to_write_fit_no_change(step):
    assert "A correct solution" not in (said(step, lambda *_: [10**5000]) or "")


def test_hidden_cases_are_not_compared(step):
    """A change that is named must not tell what a hidden case holds."""
    hidden = [{**case, "hidden": True} for case in step.cases]
    assert said(replace(step, cases=hidden), edited((" + bias", ""))) is None


def test_what_is_named_are_arguments_and_functions_of_libraries(step):
    """The solution's own variables and lines would give it away."""
    words = {word.strip(".,") for each in step.variations for word in each["change"].split()}
    assert not words & {"summed", "first,", "second", "states"}
    assert {"bias", "tanh", "stack"} <= words


def test_plain_results_are_not_taken_for_those_of_a_change():
    """Zeros come from too many mistakes."""
    source = "def layer(x):\n    return x * x.sum()"
    cases = {"a vector": lambda sampler: {"x": sampler.integers(2, 3)}}
    compiled = compile_step(Step("layer", lambda x: x * x.sum(), cases, [], []))
    made = record_variations(compiled, source, NAMES)
    assert said(replace(compiled, variations=made), lambda x: 0 * x) is None


def test_an_endless_loop_is_not_risked():
    source = "def layer(n):\n    while n > 1:\n        n = n - 1\n    return n"
    assert list(variations(source, [{"inputs": {"n": 3}, "state": None}])) == []


def test_errors_that_many_changes_raise_are_not_explained():
    source = "def layer(x, a, b):\n    return x @ a @ b"
    shapes = {"x": (2, 3), "a": (3, 4), "b": (4, 5)}
    cases = {"matrices": lambda s: {name: s.normal(*shape) for name, shape in shapes.items()}}
    compiled = compile_step(Step("layer", lambda x, a, b: x @ a @ b, cases, [], []))
    made = record_variations(compiled, source, NAMES)
    assert all(each["change"].count(" or if ") < 2 for each in made)


# Smaller cases.


def step_of_steps(*alternatives):
    """Sums over time of a padded batch."""

    def reference(x, lengths):
        return torch.stack([row[:n].sum(0) for row, n in zip(x, lengths, strict=True)])

    def batch(sampler):
        return {"x": sampler.normal(4, 5, 3), "lengths": torch.tensor([5, 2, 1, 3])}

    return Step("total", reference, {"a padded batch": batch}, [], alternatives)


def masked(x, lengths):
    real = torch.arange(x.shape[1]) < lengths[:, None]
    return (x * real[..., None]).sum(1)


def with_smaller(step, solution=masked):
    compiled = compile_step(step)
    return replace(compiled, smaller=record_smaller(step, compiled, solution))


def test_smaller_cases_are_valid():
    step = with_smaller(step_of_steps(masked))
    sizes = [count_numbers(case) for case in step.smaller]
    assert sizes == sorted(sizes)
    assert sizes[0] == 2  # one number and its length
    for case in step.smaller:
        shape, lengths = case["inputs"]["x"]["shape"], case["inputs"]["lengths"]["tensor"]
        assert len(lengths) == shape[0]
        assert max(lengths) == shape[1]  # the longest fills the steps
        assert min(lengths) >= 1


def test_right_answers_must_agree_on_a_smaller_case():
    def of_several(x, lengths):
        assert min(x.shape[:2]) > 1, "as the task says"
        return masked(x, lengths)

    for case in with_smaller(step_of_steps(of_several)).smaller:
        assert min(case["inputs"]["x"]["shape"][:2]) == 2


def checker(step):
    task = {"id": f"{step.name}-task", "source": "## 1. Add up (★, 5 minutes, 1 point)"}
    return Checker(Released("adding", {"cells": [task]}, [step]))


def test_the_check_shows_the_smallest_case_that_fails_in_the_same_way(capsys):
    check = checker(with_smaller(step_of_steps(masked)))

    def total(x, lengths):
        return masked(x, lengths) + 1

    check(total)
    assert check.inputs["x"].shape == (1, 1, 1)
    assert "1 too large everywhere" in capsys.readouterr().out  # that is said of the larger cases
    torch.testing.assert_close(total(**check.inputs), check.expected + 1)


def test_a_case_that_passes_is_no_example(capsys):
    check = checker(with_smaller(step_of_steps(masked)))

    def total(x, lengths):
        return x.sum(1)  # right without padding

    check(total)
    assert len(check.inputs["x"]) < 4
    assert (total(**check.inputs) - check.expected).abs().max() > 1e-3
    assert "    lengths = [2, 1] (2,)" in capsys.readouterr().out.splitlines()


# What a release records.


@pytest.mark.parametrize("folder", FOLDERS, ids=lambda folder: folder.name)
def test_what_is_recorded_belongs_to_the_sources(folder):
    assert read_recorded(folder) is not None, "run seqbook release"


def test_what_is_recorded_of_other_sources_is_not_used(tmp_path):
    folder = shutil.copytree(ROOT / "exercises" / "sequences", tmp_path / "sequences")
    assert Exercise.load(folder).recorded
    with (folder / "steps.py").open("a") as file:
        file.write("# changed\n")
    assert Exercise.load(folder).recorded == {}
    (folder / FILE).write_text(as_recorded(folder, {"double": {}}))
    assert read_recorded(folder) == {"double": {}}
    (folder / FILE).write_text(json.dumps([1]))
    with pytest.raises(ValueError, match="delete the file and release again"):
        Exercise.load(folder)
