"""What unfolds after a step: right answers open it, nothing else does, and a release hides it."""

import asyncio
import functools
import json
import re
from pathlib import Path

import nbformat
import numpy as np
import pytest
import torch
from bs4 import BeautifulSoup
from conftest import PATIENCE
from grading_exercise import write_exercise
from markdown_it import MarkdownIt
from nbclient import NotebookClient

from seqbook.exercises import COURSE
from stepgrader.after import FILE, folded, lock, read_sections, unlock
from stepgrader.checker import Checker
from stepgrader.exercises import Exercise, Released, as_text
from stepgrader.judge import judge
from stepgrader.steps import Step, compile_step
from stepgrader.worker.calls import run_case

FOLDER = Path(__file__).parents[1] / "exercises"
SECTION = """```python
def {name}({arguments}):
    return another_{name}
```

It is seen in practice.

**Why it matters.** Because of *this*.

**To go further.** Compare the two.
"""
ARGUMENTS = {"plus_one": "x", "scaled": "x, y", "extremes": "x", "Affine": "features, scale"}
PLACEHOLDERS = {name: SECTION.format(name=name, arguments=ARGUMENTS[name]) for name in ARGUMENTS}


def as_file(sections):
    return "# After\n\n" + "\n".join(f"## {name}\n\n{text}" for name, text in sections.items())


@functools.cache
def load(name):
    return Exercise.load(FOLDER / name)


STEPS = [(name, step.name) for name in COURSE.order for step in load(name).steps]
each_exercise = pytest.mark.parametrize("name", COURSE.order)
each_step = pytest.mark.parametrize(("name", "step_name"), STEPS)


def find(name, step_name):
    (step,) = [step for step in load(name).steps if step.name == step_name]
    return step, COURSE.load(name).after[step_name]


# The texts of the course.


@each_step
def test_the_idiom_is_a_right_answer_and_opens_its_own_section(name, step_name):
    exercise, (step, locked) = load(name), find(name, step_name)
    text = exercise.after[step_name]
    code = re.match(r"```python\n(.+?)```\n", text, re.DOTALL)[1]
    names = {"__name__": "__main__"}
    earlier = list(exercise.solutions.values())[: exercise.steps.index(step) + 1]
    for source in (COURSE.load(name).setup, *earlier):
        exec(source, names)
    given = dict(names)
    exec(code, names)
    assert [key for key in given if key in names and names[key] is not given[key]]
    answer = names[step_name]
    compiled = compile_step(step, seed=20)
    verdict = judge(compiled, [run_case(answer, case) for case in compiled.requests])
    assert verdict.status == "right", verdict
    assert unlock(locked, answer) == text


@each_step
def test_other_right_answers_open_a_section_and_wrong_ones_do_not(name, step_name):
    step, locked = find(name, step_name)
    for right in (step.reference, *step.alternatives):
        assert unlock(locked, right) == load(name).after[step_name], right
    assert unlock(locked, shaken(step.reference, step.tolerance)), "errors within the tolerance"
    opened = [mistake for mistake in step.mistakes if unlock(locked, mistake.answer)]
    assert len(opened) < len(step.mistakes)
    for mistake in opened:  # it is right here, but for gradients, roundings or one number in many
        case = locked["cases"][0] | {"gradients": []}
        got, expected = (
            numbers(run_case(answer, case)["returned"])
            for answer in (mistake.answer, step.reference)
        )
        assert np.isclose(got, expected, rtol=1e-2, atol=0.05).mean() > 0.9
    for trivial in (lambda *_: None, lambda *_: 0, lambda *given: given[-1], lambda: 1):
        assert unlock(locked, trivial) is None


def shaken(reference, tolerance):
    """The reference with an error in every number that a check still passes."""
    random = np.random.default_rng(0)

    def shake(value):
        if isinstance(value, dict):
            return {key: shake(item) for key, item in value.items()}
        if isinstance(value, (list, tuple)):
            return [shake(item) for item in value]
        if isinstance(value, torch.Tensor) and value.is_floating_point():
            return torch.as_tensor(shake(value.detach().double().numpy()))
        is_array = isinstance(value, (np.ndarray, np.generic)) and value.dtype.kind == "f"
        if is_array or isinstance(value, float):
            signs = random.choice([-1, 1], np.shape(value))
            return value + 0.99 * tolerance * signs * np.maximum(1, np.abs(value))
        return value

    if not isinstance(reference, type):
        return lambda *arguments: shake(reference(*arguments))

    class Shaken(reference):
        def forward(self, *arguments):
            return shake(super().forward(*arguments))

    return Shaken


def numbers(data):
    """All numbers of an outcome, in order, and the characters of texts as numbers."""
    if isinstance(data, str):
        return [float(ord(character)) for character in data]
    if isinstance(data, dict):
        data = next(
            (data[kind] for kind in ("tuple", "dict", "tensor", "array") if kind in data), data
        )
        data = list(data.values()) if isinstance(data, dict) else data
    if isinstance(data, list):
        return [number for item in data for number in numbers(item)]
    return [float(data)] if isinstance(data, (int, float)) else []


@each_exercise
def test_the_release_holds_no_line_of_a_section(name):
    released = COURSE.load(name)
    text = as_text(released.notebook)
    text += (COURSE.released / f"{name}.json").read_text(encoding="utf-8")
    for line in (FOLDER / name / FILE).read_text(encoding="utf-8").splitlines():
        if len(line) > 24 and line.strip() not in as_text(released.notebook):
            assert json.dumps(line.strip(), ensure_ascii=False)[1:-1] not in text
    code = "\n".join(load(name).after.values())
    own = [line.strip() for line in code.splitlines() if line.strip().startswith("return ")]
    assert own
    assert not [line for line in own if line in text]


@each_exercise
def test_each_key_comes_from_results_and_is_released_without_them(name):
    exercise, released = load(name), COURSE.load(name)
    assert set(released.after) == {step.name for step in exercise.steps}
    for step in exercise.steps:
        locked = released.after[step.name]
        assert locked["cases"], "no results give a key"
        for case in locked["cases"]:
            assert case.keys() == {"inputs", "options", "state", "gradients"}
        made = lock(step, exercise.after[step.name])
        assert made["sealed"] == locked["sealed"], "call seqbook release"


@each_step
def test_three_parts_are_folded_under_summaries_that_say_what_they_hold(name, step_name):
    page = MarkdownIt("commonmark").render(folded(load(name).after[step_name], step_name))
    parts = BeautifulSoup(page, "html.parser").find_all("details", recursive=False)
    titles = [part.find(recursive=False) for part in parts]
    assert [title.name for title in titles] == ["summary"] * 3
    assert [title.get_text() for title in titles] == [
        f"Another way to write {step_name}",
        f"Why {step_name} matters",
        f"Going further than {step_name}",
    ]
    assert not [part for part in parts if part.has_attr("open")]
    assert parts[0].find("code", class_="language-python")
    assert not parts[0].parent.find(["ul", "ol", "h1", "h2"]), "a line begins like a list"
    for part in parts:
        words = " ".join(p.get_text() for p in part.find_all("p")).split()
        assert len(words) >= 12, part


# What a check shows.


@pytest.fixture(scope="module")
def released(tmp_path_factory):
    tmp_path = tmp_path_factory.mktemp("after")
    folder = write_exercise(tmp_path) / "tiny"
    (folder / FILE).write_text(as_file(PLACEHOLDERS), encoding="utf-8")
    exercise = Exercise.load(folder).release()
    for path, text in exercise.files(tmp_path).items():
        path.write_text(text, encoding="utf-8")
    return Released.load(tmp_path, "tiny")


def plus_one(x):
    return x + 1


def test_a_terminal_says_how_to_print_it(released, capsys):
    check = Checker(released)
    check(plus_one)
    assert capsys.readouterr().out.splitlines() == [
        "✓ plus_one: 1 of 1 point, tested: rows of numbers; zeros",
        "  to read on (another way to write it, why it matters, and a stretch goal): "
        'check.after("plus_one")',
    ]
    for step in ("plus_one", plus_one):
        check.after(step)
        assert capsys.readouterr().out == PLACEHOLDERS["plus_one"]


@pytest.mark.parametrize(
    "body", ["return x + 2", "raise NotImplementedError", "return x + 1 if x.any() else x"]
)
def test_only_success_shows_it(released, capsys, body):
    names = {}
    exec(f"def plus_one(x):\n    {body}", names)
    check = Checker(released)
    check(names["plus_one"])
    assert "check.after" not in capsys.readouterr().out
    with pytest.raises(ValueError, match=r"expected that check\(plus_one\) has passed"):
        check.after("plus_one")


def test_what_does_not_open_is_passed_over(released, capsys):
    locked = {
        name: {**one, "cases": [{"inputs": {"x": "no tensor"}, "gradients": []}]}
        for name, one in released.after.items()
    }
    check = Checker(Released("tiny", released.notebook, released.steps, locked))
    check(plus_one)
    assert capsys.readouterr().out.count("\n") == 1


def test_only_steps_can_be_asked_for(released):
    with pytest.raises(ValueError, match=r"expected one of plus_one, scaled, .*, got minus_one"):
        Checker(released).after("minus_one")
    without = Checker(Released("tiny", released.notebook, released.steps))
    with pytest.raises(ValueError, match="nothing to unfold after scaled"):
        without.after("scaled")


def test_an_exercise_without_texts_shows_the_result_alone(tmp_path, capsys):
    exercise = Exercise.load(write_exercise(tmp_path) / "tiny").release()
    assert exercise.after == {}
    Checker(exercise)(plus_one)
    assert capsys.readouterr().out.count("\n") == 1


def test_in_a_notebook_it_is_folded_below_the_result():
    name, step = STEPS[0]
    solution = load(name).solutions[step]
    sources = [
        f"import torch\nfrom seqbook.exercises import Checker\ncheck = Checker({name!r})",
        solution,
        f"check({step})",
    ]
    notebook = nbformat.v4.new_notebook(
        cells=[nbformat.v4.new_code_cell(source) for source in sources],
        metadata={"kernelspec": {"name": "python3", "display_name": "", "language": "python"}},
    )
    asyncio.run(NotebookClient(notebook, timeout=2 * PATIENCE).async_execute())
    result, shown = notebook.cells[-1].outputs
    assert result.text.startswith(f"✓ {step}: ")
    assert "check.after" not in result.text
    assert shown.data["text/markdown"] == folded(load(name).after[step], step)
    assert shown.data["text/plain"].endswith(f'check.after("{step}")')


# Keys.


def locked_by(reference, sample, **settings):
    return lock(Step("step", reference, {"all": sample}, [], [], **settings), "text")


def two(sampler):
    return {"x": sampler.normal(3), "y": sampler.normal(3)}


KINDS = {
    "a tensor": (lambda x, y: x * y, lambda x, y: (y.float() * x.float()).tolist()),
    "an integer": (lambda x, y: int((x > y).sum()), lambda x, y: torch.sum(x > y)),
    "a truth value": (lambda x, y: (x > y).tolist(), lambda x, y: (y < x).numpy()),
    "a number": (lambda x, y: float(x @ y), lambda x, y: np.dot(y.numpy(), x.numpy())),
    "a text": (lambda x, y: f"{x[0]:.1f}", lambda x, y: f"{float(x[0]):.1f}"),
    "a tuple": (lambda x, y: (x.sum(), y.max()), lambda x, y: [sum(reversed(x)), max(y)]),
    "a dictionary": (lambda x, y: {"a": x, "b": y}, lambda x, y: {"b": y.numpy(), "a": x}),
    "infinity": (lambda x, y: x / 0, lambda x, y: x * torch.inf),
    "quarters": (lambda x, y: x.round() / 4, lambda x, y: 0.25 * x.round() + 1e-6),
}


@pytest.mark.parametrize("kind", KINDS)
def test_answers_open_by_what_they_return_and_not_by_how(kind):
    reference, other = KINDS[kind]
    locked = locked_by(reference, two)
    assert locked["cases"]
    assert unlock(locked, other) == "text"
    assert unlock(locked, lambda x, y: x - y) is None


def test_a_module_opens_by_what_its_call_returns(released):
    class Affine(torch.nn.Module):
        def __init__(self, features, scale):
            super().__init__()
            self.weight = torch.nn.Parameter(torch.rand(features))
            self.scale = scale

        def forward(self, x):
            return x @ torch.diag(self.weight) * self.scale

    assert unlock(released.after["Affine"], Affine) == PLACEHOLDERS["Affine"].strip()
    Affine.forward = lambda self, x: x
    assert unlock(released.after["Affine"], Affine) is None


@pytest.mark.parametrize(
    "reference", [lambda x, y: torch.rand(3), lambda x, y: None, lambda x, y: x * 0]
)
def test_results_that_give_no_key_leave_it_to_the_verdict(reference):
    locked = locked_by(reference, two)
    assert locked["cases"] == []
    assert unlock(locked, lambda x, y: x) == "text"
    assert "text" not in locked["sealed"]


def test_a_call_for_the_key_leaves_no_trace(capsys):
    def noisy(x, y):
        print("called")
        return x + 0 * torch.rand(3)

    locked = locked_by(lambda x, y: x, two)
    torch.manual_seed(1)
    expected = torch.rand(2)
    torch.manual_seed(1)
    assert unlock(locked, noisy) == "text"
    assert torch.equal(torch.rand(2), expected)
    assert capsys.readouterr().out == ""


# Mistakes of an author.


@pytest.mark.parametrize(
    ("sections", "message"),
    [
        (
            {"scaled": SECTION, "plus_one": SECTION},
            r"expected the sections \['plus_one', 'scaled'\]",
        ),
        ({"plus_one": SECTION}, r"got \['plus_one'\]"),
        ({"plus_one": SECTION, "scaled": "Text only."}, "scaled: expected a block ```python.*got"),
        ({"plus_one": SECTION, "scaled": SECTION.replace("To go", "Go")}, "To go further"),
    ],
)
def test_a_file_that_is_not_complete_is_refused(tmp_path, sections, message):
    (tmp_path / FILE).write_text(as_file(sections), encoding="utf-8")
    with pytest.raises(ValueError, match=message):
        read_sections(tmp_path, ["plus_one", "scaled"])
