"""The exercises: every step identifies its mistakes, passes right answers, and leaks nothing."""

import copy
import dataclasses
import functools
import itertools
import json
import re
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import CHAPTERS

from seqbook.exercises import COURSE
from stepgrader.exercises import SOLUTION, Exercise, as_text
from stepgrader.judge import judge
from stepgrader.steps import HIDDEN_SIZES, CaseSampler, ModuleCase, compile_step
from stepgrader.worker.calls import run_case
from stepgrader.worker.values import decode

FOLDER = Path(__file__).parents[1] / "exercises"
SEED = 20


@functools.cache
def load(name):
    return Exercise.load(FOLDER / name)


@functools.cache
def compiled(name, step_name):
    (step,) = [step for step in load(name).steps if step.name == step_name]
    return step, compile_step(step, seed=SEED)


def answer(compiled_step, function):
    return judge(compiled_step, [run_case(function, case) for case in compiled_step.requests])


STEPS = [(name, step.name) for name in COURSE.order for step in load(name).steps]
each_exercise = pytest.mark.parametrize("name", COURSE.order)
each_step = pytest.mark.parametrize(("name", "step_name"), STEPS)


def test_there_is_one_for_every_chapter_and_assignment():
    chapters = {path.stem for path in CHAPTERS}
    assert set(COURSE.order) == chapters | {"lstm_in_pytorch", "attention_in_pytorch"}
    assert {path.parent.name for path in FOLDER.glob("*/*.ipynb")} == set(COURSE.order)
    assert len(STEPS) >= 30


@each_step
def test_mistakes_are_identified(name, step_name):
    """On the visible cases alone, and with the hidden ones, each by its own message."""
    step, with_hidden = compiled(name, step_name)
    visible = compile_step(step)
    assert len(step.mistakes) >= 3
    assert len({mistake.message for mistake in step.mistakes}) == len(step.mistakes)
    for mistake in step.mistakes:
        for checks in (visible, with_hidden):
            verdict = answer(checks, mistake.answer)
            assert verdict.status == "wrong"
            assert verdict.diagnosis == mistake.message


# What hidden cases may hold: larger cases of the kinds that visible ones show, but no new kinds.


def kinds(inputs, options=None):
    """The kinds of sizes, types and numbers in a case, each as a text."""
    numbers, sizes = {}, {}
    for name, value in flattened({**inputs, **(options or {})}):
        if value is None:
            yield f"{name}: None"
            continue
        parts = value if isinstance(value, (list, tuple)) else [value]
        if parts is value:
            yield f"{name}: a list of {few(len(value))}"
        for part in parts:
            if isinstance(part, (list, str)):
                yield f"{name}: a {type(part).__name__} of length {few(len(part))}"
                continue
            array = np.asarray(part)
            yield f"{name}: {array.ndim} axes of {array.dtype}"
            yield from (f"{name}: axis {i} of size {few(n)}" for i, n in enumerate(array.shape))
            yield from (f"{name}: {kind}" for kind in kinds_of_numbers(array))
            if parts is not value and name in inputs:
                sizes |= {f"axis {i} of {name}": n for i, n in enumerate(array.shape)}
                if array.ndim == 0 and array.dtype == np.int64:
                    numbers[name] = int(array)
    for (one, number), (other, size) in itertools.product(numbers.items(), sizes.items()):
        if number != size:  # if they are equal, more is right than if they are not
            yield f"{one} is {'larger' if number > size else 'smaller'} than {other}"


def flattened(values):
    """Name and value of everything in dictionaries of dictionaries."""
    for name, value in values.items():
        if isinstance(value, dict):
            yield from ((f"{name}.{inner}", part) for inner, part in flattened(value))
        else:
            yield name, value


def few(number):
    return f"{max(number, -1)}" if number < 2 else "2 or more"


def kinds_of_numbers(array):
    if array.dtype == bool:
        present = {"True": array, "False": ~array, "a row of False": ~array.any(-1)}
    else:
        size = np.abs(array)
        present = {"NaN": np.isnan(array), "infinity": np.isinf(array)}
        present["all zero"] = np.array(array.dtype.kind == "f" and not size.any())
        present |= {"over 100": size > 100, "over 1000": size > 1000, "over 10000": size > 10000}
        if array.ndim == 0 and array.dtype == np.int64:
            present = {few(int(array)): np.array(True)}
    return [kind for kind, places in present.items() if places.any()]


@each_step
def test_hidden_cases_enlarge_what_visible_ones_show(name, step_name):
    step, checks = compiled(name, step_name)
    visible_kinds = {
        kind
        for case in checks.visible.cases
        for kind in kinds(
            *(
                {argument: decode(value) for argument, value in (case[part] or {}).items()}
                for part in ("inputs", "options")
            )
        )
    }
    for tested, draw in step.cases.items():
        for size, seed in itertools.product(HIDDEN_SIZES, range(5)):
            case = draw(CaseSampler(seed, size))
            is_module = isinstance(case, ModuleCase)
            hidden_kinds = {*(kinds(case.inputs, case.options) if is_module else kinds(case))}
            new = hidden_kinds - visible_kinds
            assert not new, f"{tested}: hidden cases hold what no visible one shows"


@pytest.mark.parametrize(
    ("visible", "hidden", "new"),
    [
        ({"x": np.ones((1, 3))}, {"x": np.ones((2, 4))}, "x: axis 0 of size 2 or more"),
        ({"x": np.ones(3), "k": 2}, {"x": np.ones(5), "k": 7}, "k is larger than axis 0 of x"),
        ({"x": np.ones(3)}, {"x": np.full(3, -2000.0)}, "x: over 1000"),
        ({"x": [[3, 4]]}, {"x": [[3], []]}, "x: a list of length 0"),
        ({"x": np.eye(2) > 0}, {"x": np.eye(3, 2) > 0}, "x: a row of False"),
        ({"p": {"w": np.eye(1)}}, {"p": {"w": np.eye(3)}}, "p.w: axis 0 of size 2 or more"),
        ({"x": np.ones(3)}, {"x": None}, "x: None"),
    ],
)
def test_a_new_kind_of_case_is_noticed(visible, hidden, new):
    assert new in {*kinds(hidden)} - {*kinds(visible)}


@each_step
def test_right_answers_pass(name, step_name):
    step, checks = compiled(name, step_name)
    assert len(step.alternatives) >= 2
    for right in step.alternatives:
        verdict = answer(checks, right)
        assert verdict.status == "right", (right.__name__, verdict)


SINGLE = [
    (name, step.name, right)
    for name in COURSE.order
    for step in load(name).steps
    for right in step.alternatives
    if right.__name__.endswith("_in_single_precision")
]


@pytest.mark.parametrize(("name", "step_name", "right"), SINGLE)
def test_right_answers_in_single_precision_pass_whatever_is_drawn(name, step_name, right):
    """Rounding must not cost a point in some hidden cases and none in others."""
    (step,) = [step for step in load(name).steps if step.name == step_name]
    for seed in range(40):
        checks = compile_step(dataclasses.replace(step, mistakes=[]), seed=seed)
        verdict = answer(checks, right)
        assert verdict.status == "right", (seed, verdict)


@each_step
def test_a_wrong_form_is_distinguished_from_a_wrong_value(name, step_name):
    """An answer that returns nothing is not taken for a known mistake."""
    _, checks = compiled(name, step_name)
    verdict = answer(checks, lambda *_: None)
    assert (verdict.status, verdict.diagnosis) == ("wrong", None)


def zeros(*arguments):
    return next((x * 0 for x in arguments if hasattr(x, "shape")), 0)


TRIVIAL = {
    "nothing": lambda *_: None,
    "0": lambda *_: 0,
    "1": lambda *_: 1.0,
    "True": lambda *_: True,
    "False": lambda *_: False,
    "an empty list": lambda *_: [],
    "the first input": lambda *arguments: arguments[0],
    "a copy of the first input": lambda *arguments: copy.deepcopy(arguments[0]),
    "the last input": lambda *arguments: arguments[-1],
    "the inputs": lambda *arguments: arguments,
    "zeros": zeros,
    "ones": lambda *arguments: zeros(*arguments) + 1,
}


def trivial_class(function):
    class Trivial(torch.nn.Module):
        def __init__(self, *_):
            super().__init__()

        def load_state_dict(self, *_):
            pass

        def forward(self, *arguments):
            return function(*arguments)

    return Trivial


@each_step
def test_a_trivial_answer_earns_nothing(name, step_name):
    """Not even a share: it may be right on special cases, but not on the first property."""
    _, checks = compiled(name, step_name)
    is_class = checks.cases[0]["options"] is not None
    earned = {
        answer_kind: verdict.holds()
        for answer_kind, function in TRIVIAL.items()
        if (verdict := answer(checks, trivial_class(function) if is_class else function)).share()
    }
    assert earned == {}


def with_a_buffer(module):
    class Buffered(module):
        def __init__(self, *arguments):
            super().__init__(*arguments)
            self.register_buffer("positions", torch.arange(3.0))

    return Buffered


@pytest.mark.parametrize(
    "name", ["lstm_in_pytorch", "attention_in_pytorch", "transformer", "decoder_only"]
)
def test_extra_buffers_cost_nothing(name):
    """Neither the class that has one nor a later step that loads or returns its parameters."""
    exercise, names, classes = load(name), {"__name__": "__main__"}, set()
    exec(COURSE.load(name).setup, names)
    for step, source in zip(exercise.steps, exercise.solutions.values(), strict=True):
        exec(source, names)
        if isinstance(names[step.name], type):
            names[step.name] = with_a_buffer(names[step.name])
            classes.add(step.name)
        if classes & {step.name, *step.depends_on}:
            verdict = answer(compiled(name, step.name)[1], names[step.name])
            assert verdict.status == "right", (step.name, verdict)
    assert classes


@each_exercise
def test_hints_are_folded_and_each_step_is_explained(name):
    exercise = load(name)
    sources = {cell["id"]: "".join(cell["source"]) for cell in exercise.notebook["cells"]}
    for step in exercise.steps:
        task = sources[f"{step.cell}-task"]
        assert task.count("<details><summary>Hint") == task.count("</details>") >= 1
        assert re.search(r"<details>.*", task, re.DOTALL).start() > 100
        assert sources[f"{step.cell}-check"] == f"check({step.name})"
    headings = exercise.release().headings
    minutes = sum(heading.minutes for heading in headings.values())
    points = sum(heading.points for heading in headings.values())
    assert f"about {minutes} minutes in all, {points} points" in sources["title"]
    assert "(★★★, " in sources["open-task"]
    assert "no points" in sources["open-task"]


@each_exercise
def test_the_release_is_made_from_the_source(name):
    """The notebook exactly; numbers as far as machines agree."""
    released, stored = load(name).release(), COURSE.load(name)
    assert as_text(released.notebook) == as_text(stored.notebook)
    assert as_text(load(name).release().notebook) == as_text(released.notebook)
    assert len(released.steps) == len(stored.steps)
    for ours, theirs in zip(released.steps, stored.steps, strict=True):
        assert (ours.name, ours.mistakes, ours.depends_on) == (
            theirs.name,
            theirs.mistakes,
            theirs.depends_on,
        )
        for part in ("cases", "variations", "smaller"):
            assert_near(getattr(ours, part), getattr(theirs, part))
    assert_near(dict(released.after), dict(stored.after))


def assert_near(ours, theirs):
    if isinstance(ours, dict):
        assert ours.keys() == theirs.keys()
        ours, theirs = list(ours.values()), list(theirs.values())
    if isinstance(ours, (list, tuple)):
        assert len(ours) == len(theirs)
        for pair in zip(ours, theirs, strict=True):
            assert_near(*pair)
    elif isinstance(ours, float):
        assert ours == pytest.approx(theirs, rel=1e-6, abs=1e-6, nan_ok=True)
    else:
        assert ours == theirs


@each_exercise
def test_the_release_leaks_nothing(name):
    """No line of a solution, no output, no hidden case, no source of a reference or a mistake."""
    exercise, released = load(name), COURSE.load(name)
    text = as_text(released.notebook) + json.dumps([step.cases for step in released.steps])
    text += json.dumps(released.after)
    given_cells = {
        line.strip()
        for cell in released.notebook["cells"]
        for line in "".join(cell["source"]).splitlines()
    }
    for cell in exercise.notebook["cells"]:
        source = "".join(cell["source"])
        for solution in SOLUTION.finditer(source):
            lines = [line.strip() for line in solution[0].splitlines()[1:-1]]
            long = [line for line in lines if len(line) > 12]
            assert not [line for line in long if line in given_cells]
            assert not [line for line in long if line in text]
    assert "SOLUTION" not in text
    assert not any(cell.get("outputs") for cell in released.notebook["cells"])
    assert not any(case["hidden"] for step in released.steps for case in step.cases)
    code = (FOLDER / name / "steps.py").read_text(encoding="utf-8")
    for line in code.splitlines():
        if line.strip().startswith(("def _", "return ")) and len(line.strip()) > 20:
            assert line.strip() not in text


def test_every_mutant_that_survives_is_explained():
    table = json.loads((FOLDER / "mutations.json").read_text(encoding="utf-8"))
    assert [(name, step) for name in COURSE.order for step in table[name]] == STEPS
    assert set(table) == set(COURSE.order)
    for name, step in STEPS:
        row = table[name][step]
        assert row["mutants"] - row["killed"] >= len(row["survivors"])
        assert row["mutants"] >= 8, (name, step)
        for change, reason in row["survivors"].items():
            assert len(reason.split()) > 3, f"{name}, {step}: why is this right? {change}"
