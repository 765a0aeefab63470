"""Steps that call earlier ones: a mistake is charged once, and the right versions stay unseen."""

import dataclasses
import json
from pathlib import Path

import pytest
from grading_exercise import answered, solved, source_notebook, write_exercise

from seqbook.exercises import COURSE
from stepgrader.callees import called_steps, codes_of_source
from stepgrader.exercises import Exercise, as_text
from stepgrader.grader import grade_notebook
from stepgrader.sandbox import Sandbox
from stepgrader.steps import cell_stem

SOURCES = Path(__file__).parents[1] / "exercises"
SEED = 6
EXERCISES = {name: Exercise.load(SOURCES / name) for name in COURSE.order}
DEPENDENT = [
    (name, step.name)
    for name, exercise in EXERCISES.items()
    for step in exercise.steps
    if step.depends_on
]


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    """The small exercise, with a second property of the step that calls another."""
    exercise = Exercise.load(write_exercise(tmp_path_factory.mktemp("sources")) / "tiny")
    plus_one, scaled, *others = exercise.steps
    zeros = {"zeros": lambda sampler: {"x": 0 * sampler.normal(2), "y": sampler.normal(2)}}
    more = dataclasses.replace(scaled, cases={**scaled.cases, **zeros})
    return dataclasses.replace(exercise, steps=[plus_one, more, *others])


@pytest.fixture(scope="module")
def grade(tiny):
    """Grade answers to the small exercise, with the author's solutions at hand."""
    steps = tiny.compile(SEED)
    with Sandbox(isolated=False) as sandbox:

        def call(**answers):
            notebook = answered(source_notebook(), **answers)
            graded = grade_notebook(
                notebook, tiny.release(steps), steps, sandbox, solutions=tiny.solutions
            )
            return {step.name: step for step in graded.steps}

        yield call


@pytest.mark.parametrize(
    "earlier",
    [
        "def plus_one(x):\n    return x + 2",
        "def plus_one(x):\n    raise NotImplementedError",
        "def plus_one(x):\n    raise ValueError('a mistake')",
        "def plus_one(:",
        "import os\ndef plus_one(x):\n    os._exit(0)",
        "x = 5",
    ],
)
def test_a_mistake_is_charged_once(grade, earlier):
    graded = grade(plus_one=earlier)
    assert (graded["plus_one"].points, graded["plus_one"].right_versions) == (0, [])
    assert (graded["scaled"].points, graded["scaled"].right_versions) == (2, ["plus_one"])
    assert graded["scaled"].notes == ["graded with the correct version of plus_one"]


def test_a_mistake_of_its_own_is_charged_and_named(grade):
    wrong = "def plus_one(x):\n    return x + 2"
    own = "def scaled(x, y):\n    return plus_one(x) * y * y"
    scaled = grade(plus_one=wrong, scaled=own)["scaled"]
    assert scaled.points == 0
    assert scaled.verdict.diagnosis == "You multiply by y twice."


def test_the_better_result_counts(grade):
    """Both are wrong, but together they are right."""
    pair = {
        "plus_one": "def plus_one(x, add=2):\n    return x + add",
        "scaled": "def scaled(x, y):\n    return plus_one(x, 1) * y",
    }
    scaled = grade(**pair)["scaled"]
    assert (scaled.points, scaled.right_versions, scaled.notes) == (2, [], [])
    nothing_gained = grade(plus_one=pair["plus_one"], scaled="def scaled(x, y):\n    return y")
    assert nothing_gained["scaled"].points == 0
    assert nothing_gained["scaled"].notes == [
        "it does no better with the correct version of plus_one"
    ]
    assert nothing_gained["scaled"].verdict.example is not None  # of the first run


def test_what_is_not_written_is_not_run_again(grade):
    unwritten = "    raise NotImplementedError"
    graded = grade(
        plus_one=f"def plus_one(x):\n{unwritten}", scaled=f"def scaled(x, y):\n{unwritten}"
    )
    assert (graded["scaled"].verdict.status, graded["scaled"].notes) == ("open", [])


READS = """
import json
def scaled(x, y):
    code = plus_one.__code__
    text = json.dumps([repr(code.co_consts), code.co_code.hex(), list(code.co_names)])
    if x.any():
        return plus_one(x) * y
    {}
"""


@pytest.mark.parametrize(
    "tell",
    [
        "raise ValueError('READ' + text)",
        "raise type('READ', (Exception,), {})(text)",
        "return 'READ' + text",
        "return [float(ord(c)) for c in text]",
        "return {'READ' + text: x}",
    ],
)
def test_a_solution_is_not_told(grade, tell):
    """An answer may read it, but of that run no text and no number is shown."""
    wrong = "def plus_one(x):\n    return x + 2"
    graded = grade(plus_one=wrong, scaled=READS.format(tell))
    assert (graded["scaled"].points, graded["scaled"].verdict.property) == (1, "zeros")
    steps = [dataclasses.asdict(step) for step in graded.values()]
    told = json.dumps([{**step, "source": None} for step in steps])  # the source is the student's
    assert "READ" not in told
    assert "co_consts" not in told
    assert graded["plus_one"].points == 0


def test_a_solution_does_not_earn_the_points_of_its_own_step(grade):
    """Neither by a later answer that puts it in place, nor by one that is called like it."""
    steals = "def plus_one(x):\n    return x\n"
    later = solved("scaled") + "\nplus = plus_one\ndef plus_one(x):\n    return plus(x)"
    graded = grade(plus_one=steals, scaled=later)
    assert graded["plus_one"].points == 0
    assert graded["scaled"].points == 2


@pytest.mark.parametrize("name", COURSE.order)
def test_an_exercise_states_which_steps_a_solution_calls(name):
    exercise = EXERCISES[name]
    for step, released in zip(exercise.steps, COURSE.load(name).steps, strict=True):
        used = called_steps(
            step.name, lambda used: codes_of_source(exercise.solutions.get(used, ""))
        )
        assert used & {other.name for other in exercise.steps} <= {*released.depends_on, step.name}


@pytest.fixture(scope="module")
def sandbox(bubblewrap):
    with Sandbox() as made:
        yield made


@pytest.mark.parametrize(("name", "step_name"), DEPENDENT)
def test_each_step_can_be_earned_with_nothing_before_it(name, step_name, sandbox):
    exercise = EXERCISES[name]
    release = COURSE.load(name)
    (step,) = [step for step in release.steps if step.name == step_name]
    needed = [other for other in release.steps if other.name in step.depends_on]
    notebook = json.loads(as_text(release.notebook))
    (cell,) = [cell for cell in notebook["cells"] if cell["id"] == f"{cell_stem(step_name)}-answer"]
    cell["source"] = exercise.solutions[step_name]
    graded = grade_notebook(
        notebook, release, [*needed, step], sandbox, solutions=exercise.solutions
    )
    *before, last = graded.steps
    assert {step.points for step in before} == {0}
    assert last.points == last.out_of
