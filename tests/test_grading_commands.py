"""The commands of students, authors and instructors, as they call them."""

import csv
import inspect
import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from grading_exercise import POINTS, answered, solved, source_notebook, write_exercise

from seqbook.cli import main
from seqbook.grading.exercises import ORDER, SOLUTION, Exercise, as_text, released
from seqbook.grading.grader import grade_notebook
from seqbook.grading.sandbox import Sandbox

SOURCES = Path(__file__).parents[1] / "exercises"


@pytest.fixture
def run(capsys):
    """Call the command line and return its exit code, its lines and its lines of errors."""

    def call(*arguments):
        code = main([str(argument) for argument in arguments])
        said = capsys.readouterr()
        return code, said.out.splitlines(), said.err.splitlines()

    return call


@pytest.fixture(scope="module")
def exercises(tmp_path_factory):
    return write_exercise(tmp_path_factory.mktemp("sources"))


def hand_in(folder, student, notebook, name="tiny.ipynb"):
    path = folder / student / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(notebook, ensure_ascii=False), encoding="utf-8")
    return path


def rows(path):
    with open(path, encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


# -- start


def test_start_gives_every_exercise_and_keeps_what_a_student_changed(tmp_path, run):
    code, said, _ = run("start", tmp_path / "mine")
    assert code == 0
    assert len([line for line in said if line.endswith(": written")]) == len(ORDER)
    for name in ORDER:
        text = (tmp_path / "mine" / f"{name}.ipynb").read_text(encoding="utf-8")
        assert text == as_text(released(name).notebook)
    (tmp_path / "mine" / "lstm.ipynb").write_text("my work")
    (tmp_path / "mine" / "gru.ipynb").unlink()
    code, said, errors = run("start", tmp_path / "mine")
    assert code == 0
    assert (tmp_path / "mine" / "lstm.ipynb").read_text() == "my work"
    assert f"{tmp_path / 'mine' / 'lstm.ipynb'}: changed by you, and left alone" in errors
    assert f"{tmp_path / 'mine' / 'gru.ipynb'}: written" in said
    assert len([line for line in said if line.endswith(": there already")]) == len(ORDER) - 2


def test_start_refuses_a_file(tmp_path, run):
    (tmp_path / "file").write_text("mine")
    code, _, errors = run("start", tmp_path / "file")
    assert code == 1
    assert errors == [f"seqbook: {tmp_path / 'file'}: expected a folder, or the name of a new one"]
    assert (tmp_path / "file").read_text() == "mine"


# -- check


def solutions(name):
    """The source of an exercise's answers, by the ids of their cells."""
    notebook = json.loads((SOURCES / name / f"{name}.ipynb").read_text(encoding="utf-8"))
    return {
        cell["id"]: "".join(cell["source"])
        for cell in notebook["cells"]
        if cell["id"].endswith("-answer")
    }


def filled(name, **sources):
    """The release of an exercise with these answers filled in."""
    notebook = json.loads(as_text(released(name).notebook))
    for cell in notebook["cells"]:
        if cell["id"] in sources:
            cell["source"] = sources[cell["id"]].splitlines(keepends=True)
    return notebook


def test_check_prints_the_table_of_a_notebook_that_is_half_done(tmp_path, run):
    answers = solutions("lstm")
    wrong = "def forget_gate(*_):\n    while True:\n        pass\n"
    some = {
        "split-gates-answer": answers["split-gates-answer"],
        "forget-gate-answer": wrong,
        "candidate-answer": answers["candidate-answer"].replace("torch.tanh", "torch.sigmoid"),
        "new-cell-answer": "def new_cell(:\n    return 1\n",
    }
    path = hand_in(tmp_path, "me", filled("lstm", **some), "lstm.ipynb")
    before = path.read_bytes()
    code, said, _ = run("check", path)
    assert code == 0
    assert path.read_bytes() == before
    lines = {line.split()[1]: line.strip() for line in said if line.strip()[:1] in "✓✗○"}
    assert lines["split_gates"] == "✓ split_gates     1 of 1"
    assert "did not end in time" in lines["forget_gate"]
    assert lines["candidate"].startswith("✗ candidate       0 of 1  The candidate is no gate")
    assert "line 1 of your cell raised SyntaxError" in lines["new_cell"]
    assert lines["peephole_layer"].endswith("not written yet")
    assert "1 of 11 points" in said


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (b"nothing", "it is not JSON, so it is not a notebook, or damaged"),
        (b'{"cells": []}', "it is none of the exercises: it has none of their answers"),
    ],
)
def test_check_refuses_what_is_no_exercise(tmp_path, run, content, problem):
    (tmp_path / "x.ipynb").write_bytes(content)
    code, said, errors = run("check", tmp_path / "x.ipynb")
    assert (code, said) == (1, [])
    assert errors == [f"seqbook: {tmp_path / 'x.ipynb'}: {problem}"]


# -- release


def test_a_release_changed_by_hand_is_left_alone(tmp_path, run, exercises):
    command = ("release", "tiny", "--exercises", exercises, "--out", tmp_path)
    assert run(*command)[0] == 0
    made = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    assert {"tiny.ipynb", "tiny.json"} <= set(made)
    assert run(*command)[0] == 0
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == made
    (tmp_path / "tiny.ipynb").write_text("changed")
    code, _, errors = run(*command)
    assert code == 3
    assert errors == [f"{tmp_path / 'tiny.ipynb'}: changed by hand, and left alone"]
    assert (tmp_path / "tiny.ipynb").read_text() == "changed"


def test_release_says_which_exercises_there_are(tmp_path, run, exercises):
    code, _, errors = run("release", "large", "--exercises", exercises, "--out", tmp_path)
    assert code == 1
    assert errors == ["seqbook: expected one of tiny, got large"]


# -- grade


@pytest.fixture(scope="module")
def graded(tmp_path_factory, exercises):
    """A class of five, graded once: the folders of submissions and of results."""
    folder = tmp_path_factory.mktemp("class")
    right = source_notebook()
    mistaken = answered(right, plus_one="def plus_one(x):\n    return x - 1")
    hand_in(folder / "in", "ann", right)
    hand_in(folder / "in", "bob", mistaken)
    hand_in(folder / "in", "cem", mistaken)
    half = answered(right, Affine="class Affine(nn.Module):\n    raise NotImplementedError")
    (folder / "in" / "dan.ipynb").write_text(json.dumps(half), encoding="utf-8")
    (folder / "in" / "eve.ipynb").write_text("<b>not a notebook", encoding="utf-8")
    code = main(
        ["grade", str(folder / "in"), "--out", str(folder / "out"), "--exercises", str(exercises)]
    )
    assert code == 0
    return folder


def test_the_grades_stand_in_a_table(graded):
    found = {row["student"]: row for row in rows(graded / "out" / "grades.csv")}
    points = {student: row["points"] for student, row in found.items()}
    # scaled calls plus_one, so that one mistake costs both.
    assert points == {"ann": "7", "bob": "4", "cem": "4", "dan": "4", "eve": "0"}
    assert {row["out_of"] for row in found.values()} == {str(POINTS), ""}
    assert found["eve"]["remark"].startswith("not read: it is not JSON")
    steps = [row for row in rows(graded / "out" / "steps.csv") if row["student"] == "bob"]
    assert [row["status"] for row in steps] == ["wrong", "wrong", "right", "right"]
    assert steps[0]["mistake"] == "You take one away; the task adds it."


def test_each_student_gets_a_page_in_two_forms(graded):
    for ending in ("md", "html"):
        page = (graded / "out" / "feedback" / f"bob.{ending}").read_text(encoding="utf-8")
        assert "Exercises: tiny: 4 of 7 points" in page
        assert "You take one away; the task adds it." in page
        assert "if it calls plus_one, mend that first" in page.lower()
    page = (graded / "out" / "feedback" / "dan.md").read_text(encoding="utf-8")
    assert "not written yet" in page
    page = (graded / "out" / "feedback" / "eve.html").read_text(encoding="utf-8")
    assert "This could not be read: it is not JSON" in page


def test_the_summary_counts_mistakes(graded):
    summary = (graded / "out" / "summary.md").read_text(encoding="utf-8")
    assert "5 notebooks of 5 students, 1 without a grade." in summary
    assert "| 2 | plus_one | You take one away; the task adds it. |" in summary
    assert "| Affine | 3 | 0 | 1 |" in summary


def outcome(folder):
    """What grading came to, without who and where."""
    return {
        path.name: path.read_text(encoding="utf-8")
        for path in [*folder.glob("*.csv"), *folder.glob("*.md"), *folder.glob("feedback/*")]
    }


def test_grades_depend_on_nothing_but_answers_and_seed(graded, tmp_path, run, exercises):
    command = ("grade", graded / "in", "--exercises", exercises, "--out")
    assert run(*command, tmp_path / "one", "--jobs", 1)[0] == 0
    assert outcome(tmp_path / "one") == outcome(graded / "out")
    assert run(*command, tmp_path / "seed", "--seed", 8)[0] == 0
    assert outcome(tmp_path / "seed") == outcome(graded / "out")
    kept = {path.name for path in (tmp_path / "one" / "results").iterdir()}
    assert kept.isdisjoint(path.name for path in (tmp_path / "seed" / "results").iterdir())


def test_grading_again_regrades_nothing_and_keeps_a_comment(graded, run, exercises, monkeypatch):
    page = graded / "out" / "feedback" / "ann.md"
    before = page.read_text(encoding="utf-8")
    page.write_text(before + "\nWell done!\n", encoding="utf-8")
    monkeypatch.setattr("seqbook.grading.batch.grade_notebook", None)  # fails if it is called
    code, _, errors = run("grade", graded / "in", "--out", graded / "out", "--exercises", exercises)
    assert code == 3
    assert f"{page}: changed by hand, and left alone" in errors
    assert page.read_text(encoding="utf-8").endswith("\nWell done!\n")
    page.write_text(before, encoding="utf-8")


def test_an_interrupted_batch_goes_on_where_it_was(tmp_path, exercises):
    for number in range(12):
        slow = answered(
            source_notebook(), extremes=f"import time\ntime.sleep(0.1)\n{solved('extremes')}"
        )
        slow["cells"][0]["source"] = [f"# Of student {number}"]
        hand_in(tmp_path / "in", f"student{number:02}", slow)
    code = "from seqbook.cli import main; import signal, sys; "
    code += "signal.signal(signal.SIGINT, signal.default_int_handler); sys.exit(main())"
    command = [sys.executable, "-c", code, "grade", tmp_path / "in", "--out", tmp_path / "out"]
    command += ["--exercises", exercises, "--jobs", "1"]
    results = tmp_path / "out" / "results"
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    deadline = time.monotonic() + 120
    while not (results.is_dir() and len(list(results.glob("*.json"))) >= 2):
        assert time.monotonic() < deadline
        assert process.poll() is None
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 130
    assert errors.splitlines()[-1] == "seqbook: interrupted"
    assert not list(results.glob("*.partial"))
    done = subprocess.run(command, stderr=subprocess.PIPE, text=True, check=False)
    assert done.returncode == 0
    assert re.search(r"^\d+ of 12 were graded before", done.stderr, re.MULTILINE)
    assert {row["points"] for row in rows(tmp_path / "out" / "grades.csv")} == {str(POINTS)}


@pytest.mark.parametrize("inside", ["out", "."])
def test_results_may_not_lie_among_the_submissions(tmp_path, run, inside):
    code, _, errors = run("grade", tmp_path, "--out", tmp_path / inside)
    assert code == 1
    assert errors[-1].startswith("seqbook: --out: expected a folder outside of the submissions")


def test_a_folder_that_is_not_there_is_refused(tmp_path, run):
    code, _, errors = run("grade", tmp_path / "none", "--out", tmp_path / "out")
    assert (code, errors) == (
        1,
        [f"seqbook: expected a folder of submissions, got {tmp_path / 'none'}"],
    )


def test_without_bubblewrap_nothing_is_run_and_it_is_said_why(graded, tmp_path, run, exercises):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PATH", os.fspath(tmp_path))
        code, _, errors = run(
            "grade", graded / "in", "--out", tmp_path / "out", "--exercises", exercises
        )
    assert code == 1
    assert "without bubblewrap (Debian and Ubuntu: apt install bubblewrap)" in errors[-1]
    assert errors[-1].endswith("Nothing was run.")


# -- every exercise, through the sandbox


@pytest.fixture(scope="module")
def sandbox():
    with Sandbox() as made:
        yield made


@pytest.mark.parametrize("name", ORDER)
def test_the_release_with_its_solutions_earns_all_points_and_without_none(name, sandbox):
    exercise = Exercise.load(SOURCES / name)
    release, steps = exercise.release(), exercise.compile(seed=5)
    sources = {
        cell_id: SOLUTION.sub(lambda found: inside(found[0]), source)
        for cell_id, source in solutions(name).items()
    }
    full = grade_notebook(filled(name, **sources), release, steps, sandbox)
    assert {step.name: step.verdict.status for step in full.steps} == {
        step.name: "right" for step in steps
    }
    assert full.points == full.out_of > 0
    empty = grade_notebook(release.notebook, release, steps, sandbox)
    assert {step.verdict.status for step in empty.steps} == {"open"}
    assert empty.points == 0


def inside(solution):
    return "\n".join(solution.splitlines()[1:-1])


@pytest.mark.parametrize("name", ORDER)
def test_wrong_and_right_answers_are_told_apart_in_the_sandbox(name, sandbox):
    """Handed in as source code; in the tests of the exercises they are called in this process."""
    exercise = Exercise.load(SOURCES / name)
    release, compiled = exercise.release(), exercise.compile(seed=6)
    for step, checks in zip(exercise.steps, compiled, strict=True):
        answers = [(mistake.answer, mistake.says) for mistake in step.mistakes]
        answers += [(right, None) for right in step.right]
        for answer, says in answers:
            source = f"{inspect.getsource(answer)}\n{step.name} = {answer.__name__}\n"
            notebook = filled(name, **{f"{step.cell}-answer": f"{source}\ndef {step.name}_(): 0\n"})
            notebook["cells"] = [
                cell for cell in notebook["cells"] if cell["id"] == f"{step.cell}-answer"
            ]
            graded = grade_notebook(notebook, release, [checks], sandbox)
            verdict = graded.steps[0].verdict
            assert verdict.diagnosis == says, answer.__name__
            assert verdict.status == ("wrong" if says else "right"), answer.__name__
