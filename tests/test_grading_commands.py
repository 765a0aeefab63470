"""The commands of students, authors and instructors, as they call them."""

import argparse
import contextlib
import csv
import dataclasses
import errno
import functools
import inspect
import json
import os
import shutil
import signal
import subprocess
import sys
import termios
import zipfile
from pathlib import Path

import pytest
from conftest import PATIENCE, wait_until
from grading_exercise import POINTS, answered, solved, source_notebook, write_exercise

from seqbook.cli import main
from seqbook.exercises import COURSE
from stepgrader.commands import add_commands
from stepgrader.exercises import SOLUTION, Exercise, as_text
from stepgrader.grader import SandboxFaultError, grade_notebook
from stepgrader.sandbox import Sandbox

SOURCES = Path(__file__).parents[1] / "exercises"
load = COURSE.load  # also where a test replaces it


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
    with open(path, encoding="utf-8-sig", newline="") as file:
        return list(csv.DictReader(file))


# -- start


def test_start_gives_every_exercise_and_keeps_what_a_student_changed(tmp_path, run):
    code, said, _ = run("start", tmp_path / "mine")
    assert code == 0
    assert len([line for line in said if line.endswith(": written")]) == len(COURSE.order)
    for name in COURSE.order:
        text = (tmp_path / "mine" / f"{name}.ipynb").read_text(encoding="utf-8")
        assert text == as_text(COURSE.load(name).notebook)
    (tmp_path / "mine" / "lstm.ipynb").write_text("my work")
    (tmp_path / "mine" / "gru.ipynb").unlink()
    code, said, errors = run("start", tmp_path / "mine")
    assert code == 0
    assert (tmp_path / "mine" / "lstm.ipynb").read_text() == "my work"
    assert f"{tmp_path / 'mine' / 'lstm.ipynb'}: skipped, because you changed it" in errors
    assert f"{tmp_path / 'mine' / 'gru.ipynb'}: written" in said
    assert len([line for line in said if line.endswith(": unchanged")]) == len(COURSE.order) - 2
    assert errors[-1] == "For a fresh copy of one of these, rename yours and start again."


def newer(name):
    """A release of an exercise that is newer than the one that was given out."""
    release = load(name)
    notebook = json.loads(as_text(release.notebook))
    notebook["cells"][0]["source"].append("\n\nNewer.")
    return dataclasses.replace(release, notebook=notebook)


def test_a_newer_release_replaces_what_nobody_changed(tmp_path, run, monkeypatch):
    assert run("start", tmp_path)[0] == 0
    (tmp_path / "lstm.ipynb").write_text("my work")
    monkeypatch.setattr("stepgrader.course.Course.load", lambda _, name: newer(name))
    code, said, errors = run("start", tmp_path)
    assert code == 0
    assert len([line for line in said if line.endswith(": written")]) == len(COURSE.order) - 1
    assert errors[0] == f"{tmp_path / 'lstm.ipynb'}: skipped, because you changed it"
    for name in COURSE.order:
        text = (tmp_path / f"{name}.ipynb").read_text(encoding="utf-8")
        assert text == "my work" if name == "lstm" else "Newer." in text


def test_an_interrupted_start_loses_nothing(tmp_path, run, monkeypatch):
    assert run("start", tmp_path)[0] == 0
    (tmp_path / "sequences.ipynb").write_text("my work")
    monkeypatch.setattr("stepgrader.course.Course.load", lambda _, name: newer(name))
    replace, replaced = os.replace, []

    def interrupt_sixth(*paths):
        replaced.append(paths)
        if len(replaced) == 6:
            raise KeyboardInterrupt
        replace(*paths)

    with monkeypatch.context() as patch:
        patch.setattr("stepgrader.atomic_files.os.replace", interrupt_sixth)
        code, _, errors = run("start", tmp_path)
    assert (code, errors) == (130, ["seqbook: interrupted"])
    for path in tmp_path.glob("*.ipynb"):  # each is whole, as it was or as it shall be
        assert path.read_text() == "my work" or json.loads(path.read_text(encoding="utf-8"))
    code, said, errors = run("start", tmp_path)
    assert code == 0
    assert len(errors) == 2
    kept = [line for line in said if line.endswith((": written", ": unchanged"))]
    assert len(kept) == len(COURSE.order) - 1
    assert (tmp_path / "sequences.ipynb").read_text() == "my work"
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        ".written.json",
        *sorted(f"{name}.ipynb" for name in COURSE.order),
    ]


@pytest.mark.parametrize("below", ["file", "file/a"])
def test_start_refuses_a_file(tmp_path, run, below):
    (tmp_path / "file").write_text("mine")
    code, said, errors = run("start", tmp_path / below)
    assert (code, said) == (1, [])
    assert errors == [
        f"seqbook: {tmp_path / below}: expected a folder, or the name of a new one; "
        f"{tmp_path / 'file'} is a file"
    ]
    assert (tmp_path / "file").read_text() == "mine"


def test_start_says_where_it_may_not_write(tmp_path, run, monkeypatch):
    """By a fault that is made up: root, as whom this may run, may write anywhere."""

    def forbid(*_):
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr("stepgrader.atomic_files.os.replace", forbid)
    code, _, errors = run("start", tmp_path)
    assert code == 1
    assert errors == [
        f"seqbook: {tmp_path / 'sequences.ipynb'}: can't be written: Permission denied"
    ]


@pytest.fixture
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


def files_below(folder):
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*.ipynb")}


@pytest.mark.parametrize(
    ("words", "files"),
    [
        (["bptt"], {"bptt/bptt.ipynb"}),
        (["bptt", "gru"], {"bptt/bptt.ipynb", "gru/gru.ipynb"}),
        (["mine", "gru", "bptt", "gru"], {"mine/bptt.ipynb", "mine/gru.ipynb"}),
    ],
)
def test_start_gives_the_exercises_that_are_named(here, run, words, files):
    assert run("start", *words)[0] == 0
    assert files_below(here) == files


def test_start_says_which_command_to_type_next(here, run):
    _, said, _ = run("start", "bptt")
    assert said[-2].endswith("jupyter lab bptt/bptt.ipynb")
    assert said[-1].endswith("seqbook check bptt")
    _, said, _ = run("start", "my work", "gru", "lstm")
    assert said[-2].endswith("jupyter lab 'my work'")
    assert said[-1].endswith("seqbook check 'my work'")
    assert run("check", "my work")[0] == 0


@pytest.mark.parametrize("words", [["bppt"], ["mine", "bppt"], ["bptt", "bppt"]])
def test_start_lists_the_exercises_if_there_is_none_of_a_name(here, run, words):
    code, said, errors = run("start", *words)
    assert (code, said) == (1, [])
    assert ", ".join(COURSE.order) in errors[0]
    assert "bppt" in errors[0]
    assert not list(here.iterdir())


def test_start_writes_into_a_folder_that_is_named_almost_like_an_exercise(here, run):
    (here / "bppt").mkdir()
    assert run("start", "bppt")[0] == 0
    assert files_below(here) == {f"bppt/{name}.ipynb" for name in COURSE.order}


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
    notebook = json.loads(as_text(COURSE.load(name).notebook))
    for cell in notebook["cells"]:
        if cell["id"] in sources:
            cell["source"] = sources[cell["id"]].splitlines(keepends=True)
    return notebook


HALF_DONE = """
Exercises: LSTM, one gate at a time
  ✓ split_gates     1 of 1
  ✗ forget_gate     0 of 1  it ran out of time: does it loop forever, or wait for something?
  ○ input_gate      0 of 1  not written yet
  ✗ candidate       0 of 1  The candidate is not a gate: it may be negative. Use tanh, not sigmoid.
  ✗ new_cell        0 of 1  line 1 of your cell raised SyntaxError: invalid syntax
  ✗ output_gate     0 of 1  expected numbers of shape (4, 2), got None: is a return statement
                            missing?
  ○ peephole_step   0 of 2  not written yet
  ○ peephole_layer  0 of 3  not written yet
1 of 11 points
These points are provisional: the mark is based on more cases.
"""


def test_check_prints_the_table_of_a_notebook_that_is_half_done(tmp_path, run):
    answers = solutions("lstm")
    wrong = "def forget_gate(*_):\n    while True:\n        pass\n"
    some = {
        "split-gates-answer": answers["split-gates-answer"],
        "forget-gate-answer": wrong,
        "candidate-answer": answers["candidate-answer"].replace("torch.tanh", "torch.sigmoid"),
        "new-cell-answer": "def new_cell(:\n    return 1\n",
        "output-gate-answer": "def output_gate(*_):\n    pass\n",
    }
    path = hand_in(tmp_path, "me", filled("lstm", **some), "lstm.ipynb")
    before = path.read_bytes()
    code, said, _ = run("check", path)
    assert code == 0
    assert path.read_bytes() == before
    assert said == HALF_DONE.strip().splitlines()


@pytest.mark.parametrize("called", ["split_gates", "cut"])
def test_check_says_which_wrong_step_a_step_calls(tmp_path, run, called):
    """There is no right version to try; but who only could call it isn't told so."""
    answers = solutions("lstm")
    answers = {cell: text.replace("split_gates(", f"{called}(") for cell, text in answers.items()}
    wrong = {
        "split-gates-answer": "def cut(stacked):\n    return stacked.chunk(4)\n\n"
        "def split_gates(stacked):\n    return cut(stacked)",
        "candidate-answer": "def candidate(inputs, hidden, w, u, bias):\n    return inputs",
    }
    path = hand_in(tmp_path, "me", filled("lstm", **(answers | wrong)), "lstm.ipynb")
    code, said, _ = run("check", path)
    assert code == 0
    notes = " ".join(line.strip() for line in said).partition("output_gate")[0]
    assert notes.count("it calls split_gates, which is wrong; fix that first") == 1
    assert "input_gate 0 of 1" in " ".join(notes.split())


def test_check_sums_the_points_of_a_notebook_that_is_done(tmp_path, run):
    path = hand_in(tmp_path, "me", filled("lstm", **solutions("lstm")), "renamed.ipynb")
    code, said, errors = run("check", path)
    assert (code, errors) == (0, [])
    assert [line.strip()[:1] for line in said[1:-2]] == ["✓"] * 8
    assert said[-2] == "11 of 11 points"


def test_check_says_on_which_systems_it_runs(tmp_path, run, monkeypatch):
    monkeypatch.delattr(os, "fork")
    code, _, errors = run("check", tmp_path / "x.ipynb")
    assert code == 1
    assert errors == [
        "seqbook: check runs on Linux and macOS; in a notebook, check(...) works everywhere; this "
        f"is {sys.platform}"
    ]


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (None, "it can't be opened: No such file or directory"),
        (b"nothing", "it is not valid JSON: not a notebook, or damaged"),
        (
            b'{"cells": []}',
            "it belongs to no exercise: it defines none of their functions or classes",
        ),
    ],
)
def test_check_refuses_what_is_no_exercise(tmp_path, run, content, problem):
    if content is not None:
        (tmp_path / "x.ipynb").write_bytes(content)
    code, said, errors = run("check", tmp_path / "x.ipynb")
    assert (code, said) == (1, [])
    assert errors == [f"seqbook: {tmp_path / 'x.ipynb'}: {problem}"]


def test_check_shows_all_notebooks_of_a_folder_and_what_to_do_next(tmp_path, run):
    run("start", tmp_path, "bptt")
    hand_in(tmp_path, "", filled("gru", **solutions("gru")), "gru.ipynb")
    some = {
        "split-gates-answer": solutions("lstm")["split-gates-answer"],
        "forget-gate-answer": "def forget_gate(*_):\n    return 0\n",
    }
    hand_in(tmp_path, "a", filled("lstm", **some), "one.ipynb")
    hand_in(tmp_path, ".ipynb_checkpoints", filled("lstm", **some), "one.ipynb")
    code, said, errors = run("check", tmp_path)
    assert (code, errors) == (0, [])
    table = [line.split("  ") for line in said[:-3]]
    assert [[cell.strip() for cell in line if cell] for line in table] == [
        ["notebook", "points", "done", "wrong", "open", "next"],
        ["bptt.ipynb", "0 of 13", "0", "0", "7", "1. The Jacobian of a step, 10 minutes"],
        ["a/one.ipynb", "1 of 11", "1", "1", "6", "2. The forget gate, 10 minutes (wrong)"],
        ["gru.ipynb", "14 of 14", "8", "0", "0", "all done"],
    ]
    assert said[-3:] == [
        "15 of 38 points",
        "Next: a/one.ipynb, step 2. The forget gate, 10 minutes (wrong)",
        "These points are provisional: the mark is based on more cases.",
    ]


def test_check_names_what_it_skips_in_a_folder(tmp_path, run):
    run("start", tmp_path, "bptt")
    (tmp_path / "broken.ipynb").write_text("nothing")
    code, said, errors = run("check", tmp_path)
    assert code == 3
    assert said[-2] == "Next: bptt.ipynb, step 1. The Jacobian of a step, 10 minutes"
    assert errors == [
        f"{tmp_path / 'broken.ipynb'}: skipped: it is not valid JSON: not a notebook, or damaged"
    ]


def test_check_says_how_to_get_notebooks_if_a_folder_has_none(tmp_path, run):
    code, said, errors = run("check", tmp_path)
    assert (code, said) == (1, [])
    assert errors == [
        f"seqbook: {tmp_path}: expected a notebook of the exercises, or a folder that holds some; "
        "seqbook start writes them"
    ]


# -- release


def test_a_release_replaces_an_older_one_and_nothing_that_somebody_works_on(
    tmp_path, run, exercises
):
    command = ("release", "tiny", "--exercises", exercises, "--out", tmp_path)
    assert run(*command)[0] == 0
    made = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    assert set(made) == {"tiny.ipynb", "tiny.json", "index.json"}
    code, said, _ = run(*command)
    assert (code, [line.rpartition(": ")[2] for line in said]) == (0, ["unchanged"] * 4)
    notebook = json.loads(made["tiny.ipynb"])
    notebook["cells"][0]["source"] = ["# An older release"]
    (tmp_path / "tiny.ipynb").write_text(json.dumps(notebook), encoding="utf-8")
    code, said, _ = run(*command)
    assert (code, said[0]) == (0, f"{tmp_path / 'tiny.ipynb'}: written")
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == made
    notebook["cells"][1]["execution_count"] = 1
    for content in ("text", json.dumps(notebook), json.dumps(source_notebook())):
        (tmp_path / "tiny.ipynb").write_text(content, encoding="utf-8")
        code, _, errors = run(*command)
        skipped = "skipped, because it was edited after its release, or is something else"
        assert (code, errors) == (3, [f"{tmp_path / 'tiny.ipynb'}: {skipped}"])
        assert (tmp_path / "tiny.ipynb").read_text(encoding="utf-8") == content


def test_release_asks_for_a_folder_unless_the_courses_own_exercises_are_meant(run, exercises):
    code, said, errors = run("release", "--exercises", exercises)
    assert (code, said) == (1, [])
    assert errors == ["seqbook: --out: expected a folder for the release of these exercises"]


def test_an_installed_package_names_no_folder_of_its_own(capsys):
    """Only a checkout of the repository has the authors' exercises."""
    installed = dataclasses.replace(COURSE, sources=None)
    for command in (["release", "--out", "out"], ["grade", "in", "--out", "out"]):
        parser = argparse.ArgumentParser()
        commands = parser.add_subparsers()
        add_commands(installed, lambda name, run, text, add=commands.add_parser: add(name))
        with pytest.raises(SystemExit):
            parser.parse_args(command)
        assert "the following arguments are required: --exercises" in capsys.readouterr().err


def test_release_says_which_exercises_there_are(tmp_path, run, exercises):
    code, _, errors = run("release", "large", "--exercises", exercises, "--out", tmp_path)
    assert code == 1
    assert errors == ["seqbook: expected one of tiny, got large"]
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("name", ["steps.py", "tiny.ipynb"])
def test_release_misses_a_file_of_the_source(tmp_path, run, name):
    write_exercise(tmp_path / "sources")
    missing = tmp_path / "sources" / "tiny" / name
    missing.unlink()
    code, _, errors = run("release", "--exercises", tmp_path / "sources", "--out", tmp_path / "out")
    assert (code, errors) == (1, [f"seqbook: {missing}: expected a file, but there is none"])


def test_release_and_grade_need_sources(tmp_path, run):
    for command in (("release",), ("grade", tmp_path)):
        code, _, errors = run(*command, "--exercises", tmp_path / "a", "--out", tmp_path / "../out")
        assert code == 1
        assert errors[-1].startswith("seqbook: --exercises: expected a folder with the authors'")


def test_release_makes_all_if_none_is_named(tmp_path, run, exercises):
    code, said, _ = run("release", "--exercises", exercises, "--out", tmp_path)
    assert code == 0
    files = ("tiny.ipynb", "tiny.json", "index.json")
    for_students = [line for line in said if line.startswith(str(tmp_path))]
    assert for_students == [f"{tmp_path / name}: written" for name in files]
    assert json.loads((tmp_path / "index.json").read_text(encoding="utf-8")) == ["tiny"]


# -- grade


@pytest.fixture(scope="module")
def graded(bubblewrap, tmp_path_factory, exercises):
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
    assert code == 3  # eve's can't be read
    return folder


def test_the_grades_stand_in_a_table(graded):
    found = {row["student"]: row for row in rows(graded / "out" / "grades.csv")}
    points = {student: row["points"] for student, row in found.items()}
    # scaled calls plus_one, whose mistake is charged once.
    assert points == {"ann": "7", "bob": "6", "cem": "6", "dan": "4", "eve": "0"}
    assert {row["out_of"] for row in found.values()} == {str(POINTS), ""}
    assert found["eve"]["remark"].startswith("not read: it is not valid JSON")
    steps = [row for row in rows(graded / "out" / "steps.csv") if row["student"] == "bob"]
    assert [row["status"] for row in steps] == ["wrong", "right", "right", "right"]
    assert [row["right_versions"] for row in steps] == ["", "plus_one", "", ""]
    assert steps[0]["mistake"] == "You take one away; the task adds it."


def test_each_student_gets_a_page_in_two_forms(graded):
    for ending in ("md", "html"):
        page = (graded / "out" / "feedback" / f"bob.{ending}").read_text(encoding="utf-8")
        assert "Exercises: tiny: 6 of 7 points" in page
        assert "You take one away; the task adds it." in page
        assert "raded with the correct version of plus_one" in page
    page = (graded / "out" / "feedback" / "dan.md").read_text(encoding="utf-8")
    assert "not written yet" in page
    page = (graded / "out" / "feedback" / "eve.html").read_text(encoding="utf-8")
    assert "This could not be read: it is not valid JSON" in page


def test_points_go_by_property_or_are_all_or_nothing(bubblewrap, tmp_path, run, exercises):
    """Of one and the same result: nothing is graded again."""
    part = answered(
        source_notebook(), plus_one="def plus_one(x):\n    return x + 1 if x.any() else x * 1"
    )
    hand_in(tmp_path / "in", "ann", part)
    command = ("grade", tmp_path / "in", "--exercises", exercises, "--out", tmp_path / "out")

    def grade(*options):
        code, _, errors = run(*command, *options)
        assert code == 0
        (grade,) = rows(tmp_path / "out" / "grades.csv")
        step = rows(tmp_path / "out" / "steps.csv")[0]
        assert (step["holds"], step["fails"]) == ("rows of numbers", "zeros")
        page = (tmp_path / "out" / "feedback" / "ann.md").read_text(encoding="utf-8")
        assert (
            "    properties that hold: rows of numbers\n    properties that fail: zeros\n" in page
        )
        return grade["points"], step["points"], any("not graded again" in line for line in errors)

    assert grade() == ("6.5", "0.5", False)
    summary = (tmp_path / "out" / "summary.md").read_text(encoding="utf-8")
    assert "| plus_one | 0 | 1 | 0 | 0 |" in summary
    assert grade("--marks", "all-or-nothing") == ("6", "0", True)
    assert grade("--marks", "shares") == ("6.5", "0.5", True)


def test_code_that_fails_is_shown_with_its_line_and_gathered_if_no_mistake_is_known(
    bubblewrap, tmp_path, run, exercises
):
    for student, tail in (("ann", ""), ("bob", "  # mine")):
        source = f"def plus_one(x):\n    y = x + 1\n    return y.missing{tail}\n"
        hand_in(tmp_path / "in", student, answered(source_notebook(), plus_one=source))
    hidden = "def plus_one(x):\n    return x + 1 if x.numel() < 7 else x.missing\n"
    hand_in(tmp_path / "in", "cem", answered(source_notebook(), plus_one=hidden))
    command = ("grade", tmp_path / "in", "--out", tmp_path / "out", "--exercises", exercises)
    assert run(*command, "--similarity")[0] == 0
    page = (tmp_path / "out" / "similarity.md").read_text(encoding="utf-8")
    assert "No two notebooks share much." in page  # all but a few lines is the author's
    page = (tmp_path / "out" / "feedback" / "ann.html").read_text(encoding="utf-8")
    assert "<mark>▶  3      return y.missing</mark>" in page
    page = (tmp_path / "out" / "feedback" / "cem.html").read_text(encoding="utf-8")
    assert "x.missing" in page
    assert "<mark>" not in page  # it failed on a hidden case, whose line is not shown
    text = (tmp_path / "out" / "candidates.md").read_text(encoding="utf-8")
    heads = [line for line in text.splitlines() if line.startswith("## tiny, plus_one")]
    assert heads == ["## tiny, plus_one: 2 answers", "## tiny, plus_one: 1 answer"]
    assert "# mine" not in text


def test_the_summary_counts_mistakes(graded):
    summary = (graded / "out" / "summary.md").read_text(encoding="utf-8")
    assert "4 notebooks of 4 students have a grade and 1 file has none." in summary
    assert "| 2 | plus_one | You take one away; the task adds it. |" in summary
    assert "| Affine | 3 | 0 | 0 | 1 |" in summary


def marks(folder):
    """What each student got for each step, and why, without how the grader came to it."""
    found = {}
    for row in rows(folder / "steps.csv"):
        key = row.pop("student"), row.pop("step")
        found[key] = row
    return found


def test_grades_depend_on_nothing_but_answers_and_seed(graded, tmp_path, run, exercises):
    """Other names, another order, one sandbox, outputs that were kept, and an old file."""
    for path in (graded / "in").rglob("*.ipynb"):
        student = path.stem if path.parent.name == "in" else path.parent.name
        if student == "eve":
            continue
        notebook = json.loads(path.read_text(encoding="utf-8"))
        for number, cell in enumerate(notebook["cells"]):
            if cell["cell_type"] == "code":
                text = {"output_type": "stream", "name": "stdout", "text": [f"{number} of 1 point"]}
                cell |= {"outputs": [text], "execution_count": number}
        copy = hand_in(tmp_path / "in", f"{200 - ord(student[0])} {student}", notebook)
        os.utime(copy, (1, 1))
    seed = (graded / "out" / "seed.txt").read_text().strip()
    command = ("grade", tmp_path / "in", "--exercises", exercises, "--out")
    assert run(*command, tmp_path / "one", "--jobs", 1, "--seed", seed)[0] == 0
    expected = marks(graded / "out")
    found = marks(tmp_path / "one")
    assert {(student.split()[1], step): row for (student, step), row in found.items()} == expected
    order = [row["student"].split()[1] for row in rows(tmp_path / "one" / "grades.csv")]
    assert order == ["dan", "cem", "bob", "ann"]
    assert run(*command, tmp_path / "seed", "--jobs", 2, "--seed", 8)[0] == 0
    assert marks(tmp_path / "seed") == found
    kept = {path.name for path in (tmp_path / "one" / "results").iterdir()}
    assert len(kept) == 3  # bob and cem handed in the same
    assert kept.isdisjoint(path.name for path in (tmp_path / "seed" / "results").iterdir())


def test_a_seed_that_nobody_gave_is_random_and_kept(bubblewrap, tmp_path, run, exercises):
    hand_in(tmp_path / "in", "ann", source_notebook())

    def grade(name, *options):
        command = ("grade", tmp_path / "in", "--exercises", exercises, "--out", tmp_path / name)
        assert run(*command, *options)[0] == 0
        stored = {path.name for path in (tmp_path / name / "results").iterdir()}
        return int((tmp_path / name / "seed.txt").read_text()), stored

    first, again, other = (grade(name) for name in ("one", "one", "other"))
    assert again == first
    assert other[0] != first[0]
    assert not other[1] & first[1]
    assert grade("given", "--seed", first[0]) == first
    assert grade("given") == first
    (tmp_path / "given" / "seed.txt").write_text("many")
    command = ("grade", tmp_path / "in", "--exercises", exercises, "--out", tmp_path / "given")
    code, _, errors = run(*command)
    assert code == 1
    assert "seed.txt: expected a whole number" in errors[-1]


def test_after_a_change_of_the_exercise_all_are_graded_again(graded, tmp_path, run):
    steps = write_exercise(tmp_path / "sources") / "tiny" / "steps.py"
    text = steps.read_text(encoding="utf-8")
    said = "You take one away; the task adds it."
    steps.write_text(text.replace(said, "Subtracted instead of added."), encoding="utf-8")
    shutil.copytree(graded / "out", tmp_path / "out")
    command = ("grade", graded / "in", "--exercises", tmp_path / "sources", "--out")
    code, _, errors = run(*command, tmp_path / "out")
    assert code == 3
    assert not [line for line in errors if "not graded again" in line]
    page = (tmp_path / "out" / "feedback" / "bob.md").read_text(encoding="utf-8")
    assert "Subtracted instead of added." in page
    assert said not in page


def test_what_the_grader_can_not_grade_is_no_mark(
    bubblewrap, tmp_path, run, exercises, monkeypatch
):
    for student in ("ann", "bob"):
        hand_in(tmp_path / "in", student, source_notebook())
    command = ("grade", tmp_path / "in", "--exercises", exercises, "--out", tmp_path / "out")

    def fail(*_, **__):
        raise SandboxFaultError("the sandbox failed on plus_one")

    with monkeypatch.context() as patch:
        patch.setattr("stepgrader.tasks.grade_answers", fail)
        code, _, errors = run(*command, "--jobs", 1)
    assert code == 3
    assert errors[-1] == "seqbook: 2 could not be graded; run the same command again"
    assert {row["points"] for row in rows(tmp_path / "out" / "grades.csv")} == {""}
    page = (tmp_path / "out" / "feedback" / "ann.html").read_text(encoding="utf-8")
    assert "because of a problem in the grader, not in your work" in page
    assert run(*command, "--jobs", 1)[0] == 0
    assert {row["points"] for row in rows(tmp_path / "out" / "grades.csv")} == {str(POINTS)}


def test_grading_again_regrades_nothing_and_keeps_a_comment(graded, run, exercises, monkeypatch):
    page = graded / "out" / "feedback" / "ann.md"
    before = page.read_text(encoding="utf-8")
    page.write_text(before + "\nWell done!\n", encoding="utf-8")
    monkeypatch.setattr("stepgrader.tasks.grade_answers", None)  # fails if it is called
    code, _, errors = run("grade", graded / "in", "--out", graded / "out", "--exercises", exercises)
    assert code == 3
    assert errors == [
        "4 of 5 have stored results and were not graded again.",
        "eve, eve.ipynb: it is not valid JSON: not a notebook, or damaged",
        f"{page}: skipped, because it was changed by hand",
    ]
    assert page.read_text(encoding="utf-8").endswith("\nWell done!\n")
    page.write_text(before, encoding="utf-8")


def test_the_table_of_overrides_beside_the_grades_is_applied_and_kept(
    graded, tmp_path, run, exercises
):
    shutil.copytree(graded / "out", tmp_path / "out")
    path = tmp_path / "out" / "overrides.csv"
    assert path.read_text(encoding="utf-8-sig") == "student,exercise,step,points,reason\n"
    text = "student,exercise,step,points,reason\nbob,tiny,,5,late at night\nzoe,tiny,,1,\n"
    path.write_text(text, encoding="utf-8")
    (tmp_path / "out" / "grades.csv").write_text("edited", encoding="utf-8")
    (tmp_path / "out" / "class.toml").write_text(
        "due = 2026-12-01T23:59:00+09:00\npercent_per_day = 50\n[[handed_in]]\n"
        'student = "cem"\nexercise = "tiny"\ntime = 2026-12-02T10:00:00+09:00\n'
    )
    command = ("grade", graded / "in", "--out", tmp_path / "out", "--exercises", exercises)
    code, _, errors = run(*command)
    assert code == 3
    assert errors[-2:] == [
        f"{path}, row 3: expected a student of the class, got 'zoe'",
        f"{tmp_path / 'out' / 'grades.csv'}: rewritten; your edited version is now "
        "grades.edited-1.csv. To change points, use overrides.csv",
    ]
    assert path.read_text(encoding="utf-8") == text
    found = {row["student"]: row for row in rows(tmp_path / "out" / "grades.csv")}
    assert (found["bob"]["points"], found["ann"]["points"]) == ("5", str(POINTS))
    assert float(found["cem"]["points"]) == 3
    assert "2 hand-ins without a known time count as on time." in errors  # ann and dan
    [total] = [row for row in rows(tmp_path / "out" / "totals.csv") if row["student"] == "cem"]
    assert float(total["total"]) == 3
    assert found["bob"]["remark"].endswith("instead of 6: late at night")


def test_the_settings_say_which_of_several_notebooks_counts(bubblewrap, tmp_path, run, exercises):
    hand_in(tmp_path / "in", "ann", source_notebook(), name="tiny.ipynb")
    worse = answered(source_notebook(), plus_one="def plus_one(x):\n    return x")
    hand_in(tmp_path / "in", "ann", worse, name="tiny (1).ipynb")
    out = tmp_path / "out"
    command = ("grade", tmp_path / "in", "--out", out, "--exercises", exercises)
    for settings, counts in (("", "tiny (1).ipynb"), ('attempts = "best"', "tiny.ipynb")):
        out.mkdir(exist_ok=True)
        (out / "class.toml").write_text(settings)
        assert run(*command)[0] == 0
        found = rows(out / "grades.csv")
        assert [row["file"] for row in found if row["counts"] == "yes"] == [counts]
        assert [row["counts"] for row in found if row["file"] != counts] == [f"no, {counts} counts"]
    [total] = rows(out / "totals.csv")
    assert total["total"] == str(POINTS)


def test_a_regrade_is_logged_and_touches_no_other_student(graded, tmp_path, run, exercises):
    """The stored results of two are wrong here, as if a machine had failed while it graded."""
    shutil.copytree(graded / "out", tmp_path / "out")
    for path in (tmp_path / "out" / "results").iterdir():
        text = path.read_text(encoding="utf-8")
        path.write_text(text.replace('"status": "right"', '"status": "wrong"'), encoding="utf-8")
    command = ("grade", graded / "in", "--out", tmp_path / "out", "--exercises", exercises)
    assert run(*command, "--regrade", "ann")[0] == 3
    assert run(*command, "--regrade", "bob")[0] == 3
    found = {
        (row["student"], row["step"]): row["status"] for row in rows(tmp_path / "out" / "steps.csv")
    }
    assert (found["ann", "extremes"], found["dan", "extremes"]) == ("right", "wrong")
    ann, bob = rows(tmp_path / "out" / "regrades.csv")
    assert (ann["student"], ann["exercise"], ann["file"]) == ("ann", "tiny", "tiny.ipynb")
    steps = ("plus_one", "scaled", "extremes", "Affine")
    assert ann["changes"] == "; ".join(f"{step}: wrong before, now right" for step in steps)
    assert ann["points_after"] == str(POINTS)
    assert bob["student"] == "bob"
    assert run(*command, "--regrade", "ann")[0] == 3
    assert [row["changes"] for row in rows(tmp_path / "out" / "regrades.csv")][2] == "none"


def test_a_regrade_names_a_student_of_the_class(graded, tmp_path, run, exercises):
    command = ("grade", graded / "in", "--out", tmp_path / "out", "--exercises", exercises)
    code, _, errors = run(*command, "--regrade", "zoe")
    assert code == 1
    assert errors == ["seqbook: --regrade: expected a student of the class, got 'zoe'"]


def reports(out):
    """What a batch wrote for people, by the names of the files."""
    paths = [out / "grades.csv", out / "steps.csv", out / "summary.md", *out.glob("feedback/*")]
    return {path.name: path.read_bytes() for path in paths}


def hand_in_two(folder):
    hand_in(folder, "ann", source_notebook())
    hand_in(folder, "bob", answered(source_notebook(), plus_one="def plus_one(x):\n    return x"))


def test_cases_that_were_stored_give_the_same_marks(bubblewrap, tmp_path, run, exercises):
    hand_in_two(tmp_path / "in")
    out = tmp_path / "out"
    command = ("grade", tmp_path / "in", "--out", out, "--exercises", exercises)
    assert "Sampling the cases of tiny." in run(*command)[2]
    first = reports(out)
    shutil.rmtree(out / "results")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("stepgrader.exercises.Exercise.load", None)  # fails if it is called
        assert "Sampling the cases of tiny." not in run(*command)[2]
    assert reports(out) == first
    for path in (out / "cases", out / "cases" / "tiny.json"):
        assert not path.stat().st_mode & 0o077  # the hidden cases are for nobody else's eyes


def cut(path):
    path.write_bytes(path.read_bytes()[:-100])


def change_a_digit(path):
    path.write_bytes(path.read_bytes()[:-10] + b"x" + path.read_bytes()[-9:])


def replace_by_a_link(path):
    path.rename(path.with_suffix(".moved"))
    path.symlink_to(path.with_suffix(".moved"))


@pytest.mark.parametrize(
    "spoil",
    [
        cut,
        change_a_digit,
        replace_by_a_link,
        lambda path: path.chmod(0o660),
        lambda path: path.parent.chmod(0o777),
        lambda path: path.write_bytes(b""),
    ],
    ids=["cut", "changed", "link", "file of a group", "folder of all", "empty"],
)
def test_stored_cases_that_are_damaged_or_not_ours_are_sampled_again(
    bubblewrap, tmp_path, run, exercises, spoil
):
    hand_in_two(tmp_path / "in")
    out = tmp_path / "out"
    command = ("grade", tmp_path / "in", "--out", out, "--exercises", exercises)
    run(*command)
    first = reports(out)
    spoil(out / "cases" / "tiny.json")
    code, _, errors = run(*command)
    assert code == 0
    assert "Sampling the cases of tiny." in errors
    assert reports(out) == first


@pytest.mark.parametrize("change", ["seed", "steps.py", "tiny.ipynb"])
def test_stored_cases_are_sampled_again_after_a_change(bubblewrap, tmp_path, run, change):
    sources = write_exercise(tmp_path / "sources")
    hand_in_two(tmp_path / "in")
    command = ["grade", tmp_path / "in", "--out", tmp_path / "out", "--exercises", sources]
    run(*command)
    if change == "seed":
        command += ["--seed", 7]
    else:
        path = sources / "tiny" / change
        path.write_text(path.read_text(encoding="utf-8") + "\n", encoding="utf-8")
    assert "Sampling the cases of tiny." in run(*command)[2]
    assert "Sampling the cases of tiny." not in run(*command)[2]


def test_only_exercises_that_were_handed_in_are_sampled(bubblewrap, tmp_path, run):
    sources = write_exercise(tmp_path / "sources")
    shutil.copytree(sources / "tiny", sources / "other")
    (sources / "other" / "tiny.ipynb").rename(sources / "other" / "other.ipynb")
    (sources / "other" / "steps.py").write_text("raise ValueError('this is never read')")
    hand_in_two(tmp_path / "in")
    command = ("grade", tmp_path / "in", "--out", tmp_path / "out", "--exercises", sources)
    code, _, errors = run(*command)
    assert (code, errors[0]) == (0, "Sampling the cases of tiny.")


def test_an_exercise_that_cannot_be_read_ends_the_batch(tmp_path, run):
    sources = write_exercise(tmp_path / "sources")
    (sources / "tiny" / "steps.py").write_text("raise ValueError('a slip of the author')")
    hand_in_two(tmp_path / "in")
    command = ("grade", tmp_path / "in", "--out", tmp_path / "out", "--exercises", sources)
    code, said, errors = run(*command)
    assert (code, said) == (1, [])
    assert errors[-1] == f"seqbook: {sources / 'tiny'}: ValueError: a slip of the author"


def test_an_interrupted_batch_resumes(bubblewrap, tmp_path, exercises):
    """It ends at once, though its code would run for much longer, and the bar resumes too."""
    for student in ("ann", "bob", "cem"):
        notebook = source_notebook()
        notebook["cells"][0]["source"] = [f"# Of {student}"]  # or one result would do for all
        hand_in(tmp_path / "in", student, notebook)
    waiting = f"import time\ntime.sleep(1000)\n{solved('extremes')}"
    path = hand_in(tmp_path / "in", "dan", answered(source_notebook(), extremes=waiting))
    code = "import stepgrader.sandbox as sandbox; sandbox.WALL_SECONDS = 1000; "
    code += "from seqbook.cli import main; import signal, sys; "
    code += "signal.signal(signal.SIGINT, signal.default_int_handler); sys.exit(main())"
    command = [sys.executable, "-c", code, "grade", tmp_path / "in", "--out", tmp_path / "out"]
    command += ["--exercises", exercises, "--jobs", "1"]
    results = tmp_path / "out" / "results"
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    wait_until(
        lambda: process.poll() is not None or len(list(results.glob("*.json"))) >= 3,
        seconds=5 * PATIENCE,
    )
    assert process.poll() is None
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=PATIENCE)
    assert process.returncode == 130
    assert errors.splitlines()[-1] == "seqbook: interrupted"
    assert not list(results.glob("*.partial"))
    assert not (tmp_path / "out" / "grades.csv").exists()
    path.write_text(json.dumps(source_notebook()), encoding="utf-8")
    ours, theirs = os.openpty()
    termios.tcsetwinsize(theirs, (24, 80))
    done = subprocess.run(command, stderr=theirs, check=False)
    os.close(theirs)
    said = b""
    with contextlib.suppress(OSError):  # this is how the end of a terminal is reported
        while part := os.read(ours, 4096):
            said += part
    os.close(ours)
    assert done.returncode == 0
    assert b"3 of 4 have stored results and were not graded again." in said
    assert b"4/4" in said
    assert {row["points"] for row in rows(tmp_path / "out" / "grades.csv")} == {str(POINTS)}


@pytest.mark.parametrize("jobs", ["0", "-1", "two"])
def test_the_number_of_sandboxes_is_a_number(tmp_path, capsys, jobs):
    with pytest.raises(SystemExit) as end:
        main(["grade", str(tmp_path), "--out", "out", "--jobs", jobs])
    assert end.value.code == 2
    assert f"expected a whole number of at least 1, got '{jobs}'" in capsys.readouterr().err


@pytest.mark.parametrize("inside", ["out", "."])
def test_results_may_not_lie_among_the_submissions(tmp_path, run, inside):
    code, _, errors = run("grade", tmp_path, "--out", tmp_path / inside)
    assert code == 1
    assert errors[-1].startswith("seqbook: --out: expected a folder outside the submissions")


def test_a_zip_of_a_class_is_graded_by_its_roster(bubblewrap, tmp_path, run, exercises):
    right = json.dumps(source_notebook())
    with zipfile.ZipFile(tmp_path / "class.zip", "w") as archive:
        archive.writestr("lovelaceada_1_20_tiny.ipynb", right)
        archive.writestr("malloryeve_9_21_tiny.ipynb", right)
    (tmp_path / "roster.csv").write_text(
        "student id,name,lms id\n7,Ada Lovelace,1\n8,Bob Ross,2\n", encoding="utf-8"
    )
    code, said, errors = run(
        *("grade", tmp_path / "class.zip", "--roster", tmp_path / "roster.csv"),
        *("--out", tmp_path / "out", "--exercises", exercises),
        *("--export", "canvas", "--export", "gradescope"),
    )
    assert code == 3  # malloryeve is not in the roster
    lacking = "malloryeve: has no id: the roster does not list this student"
    assert f"not exported to canvas: {lacking}" in errors
    [_, ada, bob] = rows(tmp_path / "out" / "canvas.csv")
    assert (ada["ID"], ada["tiny"], bob["ID"], bob["tiny"]) == ("1", str(POINTS), "2", "0")
    assert len(list((tmp_path / "out" / "gradescope").glob("*/results.json"))) == 3
    assert "Notebooks: 2 graded, 0 not readable. Students without one: 1." in said
    assert "malloryeve: it matches no student in the roster, or more than one" in errors
    found = {row["student"]: row for row in rows(tmp_path / "out" / "grades.csv")}
    points = found["Ada Lovelace (7)"]["points"]
    assert int(points) > 0
    assert found["malloryeve"]["points"] == points
    absent = found["Bob Ross (8)"]
    assert (absent["points"], absent["remark"]) == ("0", "nothing was handed in")


@pytest.mark.parametrize("platform", ["canvas", "moodle"])
def test_an_export_by_ids_needs_a_roster(tmp_path, run, platform):
    (tmp_path / "in").mkdir()
    command = ("grade", tmp_path / "in", "--out", tmp_path / "out", "--export", platform)
    code, _, errors = run(*command)
    assert code == 1
    assert errors == ["seqbook: --export: expected a --roster, which has the students' ids"]
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("name", ["none", "none.zip"])
def test_a_folder_that_is_not_there_is_refused(tmp_path, run, name):
    code, _, errors = run("grade", tmp_path / name, "--out", tmp_path / "out")
    assert (code, errors) == (
        1,
        [f"seqbook: expected a folder of submissions, got {tmp_path / name}"],
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
def sandbox(bubblewrap):
    with Sandbox() as made:
        yield made


@functools.cache
def drawn(name):
    """An exercise, its release, and its steps with the cases that count."""
    exercise = Exercise.load(SOURCES / name)
    steps = exercise.compile(seed=5)
    return exercise, exercise.release(steps), steps


@pytest.mark.parametrize("name", COURSE.order)
def test_the_release_with_its_solutions_earns_all_points_and_without_none(name, sandbox):
    _, release, steps = drawn(name)
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


@pytest.mark.parametrize("name", COURSE.order)
def test_wrong_and_right_answers_are_told_apart_in_the_sandbox(name, sandbox):
    """Handed in as source code; in the tests of the exercises they are called in this process."""
    exercise, release, compiled = drawn(name)
    earlier = ""  # solutions, which the edited ones call
    for step, checks in zip(exercise.steps, compiled, strict=True):
        answers = [(written(exercise, step, mistake), mistake.message) for mistake in step.mistakes]
        answers += [(named(step, right), None) for right in step.alternatives]
        for source, says in answers:
            notebook = filled(name, **{f"{step.cell}-answer": earlier + source})
            notebook["cells"] = [
                cell for cell in notebook["cells"] if cell["id"] == f"{step.cell}-answer"
            ]
            graded = grade_notebook(notebook, release, [checks], sandbox)
            verdict = graded.steps[0].verdict
            assert verdict.diagnosis == says, source
            assert verdict.status == ("wrong" if says else "right"), source
        earlier += f"{exercise.solution(step)}\n\n\n"


def written(exercise, step, mistake):
    return exercise.solution(step, mistake) if mistake.edits else named(step, mistake.answer)


def named(step, answer):
    """The source of a function or class, under the name of the step."""
    source = f"{inspect.getsource(answer)}\n{step.name} = {answer.__name__}\n"
    return f"{source}\ndef {step.name}_(): 0\n"
