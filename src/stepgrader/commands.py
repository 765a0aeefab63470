"""The commands ``start``, ``check``, ``release`` and ``grade``."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

from stepgrader.atomic_files import Keeper

__all__ = ["add_commands"]

# Modules that import torch are imported by the commands that need them.

LEFT_UNDONE = 3


def add_commands(add: Callable[[str, Callable, str], argparse.ArgumentParser]) -> None:
    """Add the commands of students, authors and instructors to the command line."""
    start = add("start", _start, "get the exercises: their notebooks, into a folder")
    start.add_argument("folder", type=Path, metavar="FOLDER")

    check = add("check", _check, "check a notebook against the cases that students may see")
    check.add_argument("notebook", type=Path, metavar="NOTEBOOK")

    release = add("release", _release, "make the exercises for students from their sources")
    release.add_argument("names", nargs="*", metavar="NAME", help="of exercises; all, if none")
    release.add_argument(
        "--out",
        type=Path,
        default=Path(__file__).parents[1] / "seqbook" / "exercises",
        metavar="FOLDER",
        help="for the release (default: the place from which start and check take it)",
    )
    _add_exercises(release)

    grade = add("grade", _grade, "grade a folder of submissions, each in a sandbox")
    grade.add_argument(
        "submissions",
        type=Path,
        metavar="SUBMISSIONS",
        help="a folder with a folder, or a notebook, for each student",
    )
    grade.add_argument(
        "--out", type=Path, required=True, metavar="FOLDER", help="for grades, feedback and summary"
    )
    grade.add_argument(
        "--seed", type=int, default=0, metavar="S", help="of the hidden cases (default 0)"
    )
    grade.add_argument(
        "--jobs",
        type=_at_least_one,
        default=os.cpu_count(),
        metavar="N",
        help="sandboxes at once (default: one for each processor)",
    )
    _add_exercises(grade)


def _add_exercises(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "--exercises",
        type=Path,
        default=Path(__file__).parents[2] / "exercises",
        metavar="FOLDER",
        help="with the authors' sources (default: that of the repository)",
    )


def _at_least_one(text: str) -> int:
    if not (text.isdecimal() and int(text)):
        raise argparse.ArgumentTypeError(f"expected a whole number of at least 1, got {text!r}")
    return int(text)


def _start(options: argparse.Namespace) -> int:
    from stepgrader.exercises import ORDER, as_text, released

    keeper = Keeper(options.folder)
    for name in ORDER:
        keeper.write(options.folder / f"{name}.ipynb", as_text(released(name).notebook))
    _tell(keeper, "changed by you, and left alone")
    if keeper.left:
        print("For a fresh copy of one of these, rename yours and start again.", file=sys.stderr)
    return 0


def _check(options: argparse.Namespace) -> int:
    _needs_forks("check runs on Linux and macOS; in a notebook, check(...) works everywhere")
    from stepgrader import submissions
    from stepgrader.exercises import ORDER, released
    from stepgrader.grader import grade_notebook
    from stepgrader.reports import table
    from stepgrader.sandbox import Sandbox

    path = options.notebook
    try:
        notebook = submissions.read_notebook(submissions.read_bytes(path))
        name = submissions.identify(notebook, path.name, {name: released(name) for name in ORDER})
    except submissions.UnreadableError as error:
        raise ValueError(f"{path}: {error}") from None
    exercise = released(name)
    with Sandbox(walled=False, wall_seconds=10) as sandbox:  # it is the student's own machine
        graded = grade_notebook(notebook, exercise, exercise.steps, sandbox)
    print("\n".join(table(graded)))
    print("The points are advice: the mark comes from more cases.")
    return 0


def _release(options: argparse.Namespace) -> int:
    keeper = Keeper(options.out)
    for exercise in _sources(options.exercises, options.names):
        for path, text in exercise.release().files(options.out).items():
            keeper.write(path, text)
    _tell(keeper, "changed by hand, and left alone")
    return LEFT_UNDONE if keeper.left else 0


def _grade(options: argparse.Namespace) -> int:
    _needs_forks("grade runs on Linux")
    from stepgrader.batch import grade_folder
    from stepgrader.reports import write_reports

    if not options.submissions.is_dir():
        raise ValueError(f"expected a folder of submissions, got {options.submissions}")
    if options.out.resolve().is_relative_to(options.submissions.resolve()):
        raise ValueError(f"--out: expected a folder outside of the submissions, got {options.out}")
    keeper = Keeper(options.out)
    results = grade_folder(
        options.submissions,
        options.out,
        _sources(options.exercises),
        seed=options.seed,
        jobs=options.jobs,
    )
    write_reports(results, keeper)
    unread = sum(result.graded is None and not result.grader_fault for result in results)
    faults = sum(result.grader_fault for result in results)
    graded = len(results) - unread - faults
    print(f"Notebooks: {graded} graded, {unread} not readable.")
    print(f"{options.out / 'grades.csv'}, {options.out / 'summary.md'}, {options.out / 'feedback'}")
    for path in keeper.left:
        print(f"{path}: changed by hand, and left alone", file=sys.stderr)
    if faults:
        print(f"seqbook: {faults} could not be graded; run the same again", file=sys.stderr)
    return LEFT_UNDONE if faults or keeper.left else 0


def _needs_forks(message: str) -> None:
    if not hasattr(os, "fork"):
        raise ValueError(f"{message}; this is {sys.platform}")


def _sources(folder: Path, names: Iterable[str] = ()) -> Iterator[Any]:
    """Yield exercises as their authors have them: those of the names, or all, in their order."""
    from stepgrader.exercises import ORDER, Exercise

    there = {
        path.parent.name for kind in ("checks.py", "*.ipynb") for path in folder.glob(f"*/{kind}")
    }
    if not there:
        raise ValueError(
            f"--exercises: expected a folder with the sources of exercises, got {folder}; they "
            "are in the repository, not in the installed package"
        )
    known = [name for name in ORDER if name in there] + sorted(there - set(ORDER))
    for name in names or known:
        if name not in there:
            raise ValueError(f"expected one of {', '.join(known)}, got {name}")
    for name in names or known:
        for path in (folder / name / f"{name}.ipynb", folder / name / "checks.py"):
            if not path.is_file():
                raise ValueError(f"{path}: expected a file, there is none")
        yield Exercise.load(folder / name)


def _tell(keeper: Keeper, why_left: str) -> None:
    lines: Iterable[tuple[str, list[Any]]] = (
        ("written", keeper.written),
        ("there already", keeper.same),
        (why_left, keeper.left),
    )
    for what, paths in lines:
        for path in paths:
            print(f"{path}: {what}", file=sys.stderr if paths is keeper.left else sys.stdout)
