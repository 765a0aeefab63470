"""The commands ``start``, ``check``, ``release`` and ``grade`` of a course."""

from __future__ import annotations

import argparse
import dataclasses
import difflib
import functools
import json
import os
import secrets
import shlex
import shutil
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from stepgrader.atomic_files import SafeWriter, write_whole
from stepgrader.course import INDEX, Course, read_index

if TYPE_CHECKING:
    from stepgrader.batch import Result
    from stepgrader.class_settings import ClassSettings
    from stepgrader.compiled import AuthoredExercises
    from stepgrader.exercises import Exercise
    from stepgrader.gradebook import Override
    from stepgrader.open_questions import Criterion
    from stepgrader.roster import Roster

__all__ = ["add_commands"]

# Modules that import torch are imported by the commands that need them.

EXPORTS = ("canvas", "moodle", "gradescope", "zip")
OVERRIDES = "overrides.csv"  # in the folder for grades, as the next; both are the instructor's
SETTINGS = "class.toml"
ADVICE = "These points are provisional: the mark is based on more cases."
INCOMPLETE = 3  # exit code: something was skipped or could not be graded

Command = Callable[[argparse.Namespace], int]


def add_commands(
    course: Course, add: Callable[[str, Command, str], argparse.ArgumentParser]
) -> None:
    """Add the commands of students, authors and instructors to a command line.

    Args:
        course: The course.
        add: Adds a command, given its name, the function that runs it, and its help.

    Example:
        >>> parser = argparse.ArgumentParser(prog="mycourse")
        >>> commands = parser.add_subparsers()
        >>> def add(name, run, text):
        ...     command = commands.add_parser(name, help=text)
        ...     command.set_defaults(run=run)
        ...     return command
        >>> folder = Path("mycourse")
        >>> add_commands(Course("mycourse", package=folder, released=folder / "exercises"), add)
        >>> sorted(commands.choices)
        ['check', 'grade', 'release', 'start']
        >>> parser.parse_args(["check", "lstm.ipynb"]).notebook.name
        'lstm.ipynb'
    """

    def bind(run: Callable[[Course, argparse.Namespace], int]) -> Command:
        return functools.partial(run, course)

    start = add("start", bind(_start), "copy the exercise notebooks into a folder")
    start.add_argument(
        "folder",
        metavar="FOLDER",
        help="folder for the notebooks, or an exercise, which gets a folder of its own name",
    )
    start.add_argument("names", nargs="*", metavar="NAME", help="exercises (default: all)")

    check = add("check", bind(_check), "check your own notebooks, which run without a sandbox")
    check.add_argument(
        "notebook",
        type=Path,
        metavar="NOTEBOOK",
        help="a notebook, or a folder for a table of all notebooks in it",
    )

    release = add("release", bind(_release), "make the students' version of exercises")
    release.add_argument("names", nargs="*", metavar="NAME", help="exercises (default: all)")
    release.add_argument(
        "--out",
        type=Path,
        metavar="FOLDER",
        help="folder for the release"
        + (f" (default: {_shown(course.released)})" if course.sources else ""),
    )
    _add_exercises(course, release)

    grade = add("grade", bind(_grade), "grade a folder of submissions, each in a sandbox")
    grade.add_argument(
        "submissions",
        type=Path,
        metavar="SUBMISSIONS",
        help="folder, or zip, with a folder, zip or notebook for each student",
    )
    grade.add_argument(
        "--roster",
        type=Path,
        metavar="FILE",
        help="table (CSV) of the class: student id, name, and optionally email, login and lms id",
    )
    grade.add_argument(
        "--out",
        type=Path,
        required=True,
        metavar="FOLDER",
        help="folder for grades, feedback and summary",
    )
    grade.add_argument(
        "--regrade",
        action="append",
        default=[],
        metavar="STUDENT",
        help="grade this student's notebooks again although their results are stored, and log what "
        "changed in regrades.csv; may be given several times",
    )
    grade.add_argument(
        "--export",
        action="append",
        default=[],
        choices=EXPORTS,
        help="also write what this platform imports, or a zip of the feedback; may be given "
        "several times",
    )
    grade.add_argument(
        "--similarity",
        action="store_true",
        help="also write similarity.md, a list of the notebooks that share unusual code",
    )
    grade.add_argument(
        "--seed",
        type=int,
        metavar="S",
        help="seed of the hidden cases (default: the one in seed.txt in the folder for grades, "
        "where a random one is written if there is none)",
    )
    where = grade.add_mutually_exclusive_group()
    where.add_argument(
        "--jobs",
        type=_positive_integer,
        metavar="N",
        help="number of sandboxes at once (default: one for each processor)",
    )
    where.add_argument(
        "--scheduler",
        metavar="ADDRESS",
        help="grade on the Dask cluster with this scheduler, such as tcp://10.0.0.1:8786: one "
        "sandbox for each thread of its workers (needs the package distributed)",
    )
    grade.add_argument(
        "--marks",
        choices=("shares", "all-or-nothing"),
        default="shares",
        help="points for a step: a share for each property that holds, if the first one does "
        "(default), or all for a right answer and none for any other",
    )
    _add_exercises(course, grade)


def _add_exercises(course: Course, command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "--exercises",
        type=Path,
        default=course.sources,
        required=course.sources is None,
        metavar="FOLDER",
        help="folder with the authors' exercises"
        + (f" (default: {_shown(course.sources)})" if course.sources else ""),
    )


def _shown(path: Path) -> str:
    """Return a path as a help text may show it."""
    return _from_here(path).replace("%", "%%")


def _from_here(path: Path) -> str:
    """Return a path relative to where we are if it is below."""
    current = Path.cwd()
    return str(path.relative_to(current) if path.is_relative_to(current) else path)


def _positive_integer(text: str) -> int:
    if not (text.isdecimal() and int(text)):
        raise argparse.ArgumentTypeError(f"expected a whole number of at least 1, got {text!r}")
    return int(text)


def _start(course: Course, options: argparse.Namespace) -> int:
    from stepgrader.exercises import as_text

    folders = _folders_to_start(course, options.folder, options.names)
    skipped: list[Path] = []
    for folder, names in folders.items():
        writer = SafeWriter(folder)
        for name in names:
            writer.write(folder / f"{name}.ipynb", as_text(course.load(name).notebook))
        _report_files(writer.written, writer.unchanged)
        skipped += writer.skipped
    for path in skipped:
        print(f"{path}: skipped, because you changed it", file=sys.stderr)
    if skipped:
        print("For a fresh copy of one of these, rename yours and start again.", file=sys.stderr)
    for folder, names in folders.items():
        opened = folder / f"{names[0]}.ipynb" if len(names) == 1 else folder
        print(f"To work:  {_program('jupyter')} lab {shlex.quote(str(opened))}")
        print(f"To check: {_program(course.command)} check {shlex.quote(str(folder))}")
    return 0


def _folders_to_start(course: Course, first: str, others: Sequence[str]) -> dict[Path, list[str]]:
    """Return which exercises go into which folder, given the words on the command line."""
    order = course.order
    names = [first, *others] if first in order else others
    for name in names:
        if name not in order:
            raise ValueError(
                f"expected one or more of the exercises {', '.join(order)}; got {name}"
            )
    if first in order:
        return {Path(name): [name] for name in dict.fromkeys(names)}
    if not Path(first).exists() and difflib.get_close_matches(first, order, cutoff=0.75):
        raise ValueError(
            f"there is no exercise {first}; the exercises are {', '.join(order)}. If you mean a "
            "folder of this name, create it first"
        )
    return {Path(first): list(dict.fromkeys(names)) or order}


def _program(name: str) -> str:
    """Return what to type to run a program of this environment."""
    beside = Path(sys.executable).with_name(name)
    return name if shutil.which(name) or not beside.exists() else shlex.quote(_from_here(beside))


def _check(course: Course, options: argparse.Namespace) -> int:
    _require_fork("check runs on Linux and macOS; in a notebook, check(...) works everywhere")
    from stepgrader import submissions
    from stepgrader.grader import grade_notebook
    from stepgrader.reports import table
    from stepgrader.sandbox import Sandbox

    path = options.notebook
    if path.is_dir():
        return _check_folder(course, path)
    exercises = {name: course.load(name) for name in course.order}
    try:
        notebook = submissions.read_notebook(submissions.read_bytes(path))
        exercise = exercises[submissions.identify(notebook, path.name, exercises)]
    except submissions.UnreadableError as error:
        raise ValueError(f"{path}: {error}") from None
    # It is the student's own machine.
    with Sandbox(isolated=False, wall_seconds=10) as sandbox:
        graded = grade_notebook(notebook, exercise, exercise.steps, sandbox)
    print("\n".join(table(graded)))
    print(ADVICE)
    return 0


def _check_folder(course: Course, folder: Path) -> int:
    from stepgrader import submissions
    from stepgrader.overview import Progress, grade_visible, notebooks_below, overview
    from stepgrader.sandbox import Sandbox

    exercises = {name: course.load(name) for name in course.order}
    notebooks: list[Progress] = []
    skipped = False
    with Sandbox(isolated=False, wall_seconds=10) as sandbox:
        for path in notebooks_below(folder):
            try:
                notebook = submissions.read_notebook(submissions.read_bytes(path))
                exercise = exercises[submissions.identify(notebook, path.name, exercises)]
            except submissions.UnreadableError as error:
                print(f"{path}: skipped: {error}", file=sys.stderr)
                skipped = True
                continue
            graded = grade_visible(notebook, exercise, sandbox)
            minutes = [heading.minutes for heading in exercise.headings.values()]
            notebooks.append(Progress(path, graded, minutes))
    if not notebooks:
        raise ValueError(
            f"{folder}: expected a notebook of the exercises, or a folder that holds some; "
            f"{course.command} start writes them"
        )
    notebooks.sort(key=lambda progress: course.order.index(progress.graded.exercise))
    print("\n".join(overview(folder, notebooks)))
    print(ADVICE)
    return INCOMPLETE if skipped else 0


def _release(course: Course, options: argparse.Namespace) -> int:
    out = options.out
    if out is None:
        if course.sources is None or options.exercises.resolve() != course.sources.resolve():
            raise ValueError("--out: expected a folder for the release of these exercises")
        out = course.released
    written: list[Path] = []
    unchanged: list[Path] = []
    skipped: list[Path] = []
    for exercise in _authored(options.exercises, options.names).values():
        folder = options.exercises / exercise.name
        exercise, recorded, content = _with_recorded(exercise, folder)
        (written if _write_changed(recorded, content) else unchanged).append(recorded)
        for path, text in exercise.release().files(out).items():
            if not path.exists() or _is_release(path):
                (written if _write_changed(path, text) else unchanged).append(path)
            else:
                skipped.append(path)
    read_index(out)  # or say that a file of this name is something else
    names = [name for name in _names(options.exercises) if (out / f"{name}.json").exists()]
    index = json.dumps(names, indent=1, ensure_ascii=False) + "\n"
    (written if _write_changed(out / INDEX, index) else unchanged).append(out / INDEX)
    _report_files(written, unchanged)
    for path in skipped:
        print(
            f"{path}: skipped, because it was edited after its release, or is something else",
            file=sys.stderr,
        )
    return INCOMPLETE if skipped else 0


def _with_recorded(exercise: Exercise, folder: Path) -> tuple[Exercise, Path, str]:
    """Return an exercise with what is recorded of its present sources, and the file with it."""
    from stepgrader.recorded import FILE, as_recorded, read_recorded

    if read_recorded(folder) is None:
        print(f"Running variations of the solutions of {exercise.name}.", file=sys.stderr)
        exercise = dataclasses.replace(exercise, recorded=exercise.record())
    return exercise, folder / FILE, as_recorded(folder, exercise.recorded)


def _is_release(path: Path) -> bool:
    """Return whether a file was made by a release, and nobody has worked in it since."""
    from stepgrader.exercises import EXERCISE

    try:
        data = json.loads(path.read_text(encoding="utf-8"))
        if path.suffix == ".json":
            return bool(data["steps"])
        return EXERCISE in data["metadata"] and not any(
            cell.get("outputs") or cell.get("execution_count") for cell in data["cells"]
        )
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return False


def _write_changed(path: Path, text: str) -> bool:
    """Write a file unless it has this content, and return whether it was written."""
    if path.exists() and path.read_bytes() == text.encode():
        return False
    write_whole(path, text.encode())
    return True


def _grade(course: Course, options: argparse.Namespace) -> int:
    _require_fork("grade runs on Linux")
    from stepgrader.batch import grade_folder
    from stepgrader.class_settings import ClassSettings
    from stepgrader.differences import printable
    from stepgrader.gradebook import read_overrides, share_in_groups
    from stepgrader.open_questions import read_rubric
    from stepgrader.regrades import append_regrades
    from stepgrader.reports import distinct_files
    from stepgrader.roster import Roster
    from stepgrader.submissions import UNMATCHED

    source: Path = options.submissions
    if not (source.is_dir() or (source.is_file() and source.suffix.lower() == ".zip")):
        raise ValueError(f"expected a folder of submissions, got {options.submissions}")
    roster = Roster.read(options.roster) if options.roster else None
    if roster is None and {"canvas", "moodle"} & set(options.export):
        raise ValueError("--export: expected a --roster, which has the students' ids")
    if options.out.resolve().is_relative_to(options.submissions.resolve()):
        raise ValueError(f"--out: expected a folder outside the submissions, got {options.out}")
    writer = SafeWriter(options.out)
    overrides = read_overrides(options.out / OVERRIDES)
    exercises = _authored(options.exercises, code=(course.package,))
    settings = ClassSettings.read(options.out / SETTINGS, known=exercises)
    rubrics = {name: read_rubric(options.exercises / name / "rubric.toml") for name in exercises}
    results = grade_folder(
        options.submissions,
        options.out,
        exercises,
        seed=_stored_seed(options.out, options.seed),
        jobs=options.jobs or os.cpu_count() or 1,
        scheduler=options.scheduler,
        hidden=(course.package, options.exercises, options.submissions, options.out),
        roster=roster,
        marks=options.marks,
        regrade=options.regrade,
    )
    append_regrades(options.out / "regrades.csv", results, datetime.now(UTC))
    shared = share_in_groups(results, roster, settings.attempts) if roster else results
    problems = _write_books(
        writer, shared, exercises, roster, overrides, settings, rubrics, options
    )
    faults = distinct_files(result for result in results if result.grader_fault)
    unreadable = distinct_files(result for result in results if result.graded is None) - faults
    graded = distinct_files(result for result in results if result.graded is not None)
    nobody = {result.submission.student for result in results if not result.submission.matched}
    for result in results:
        if result.graded is None and not (result.grader_fault or result.submission.absent):
            where = f"{result.submission.student}, {result.submission.name}"
            print(printable(f"{where}: {result.problem}", limit=500), file=sys.stderr)
    for student in sorted(nobody):
        print(printable(f"{student}: {UNMATCHED}", limit=500), file=sys.stderr)
    handed = f"Notebooks: {graded} graded, {unreadable} not readable."
    absent = sum(result.submission.absent for result in shared)  # of those without a group's
    print(handed + (f" Students without one: {absent}." if roster else ""))
    print(f"{options.out / 'grades.csv'}, {options.out / 'summary.md'}, {options.out / 'feedback'}")
    for problem in problems:
        print(printable(problem, limit=500), file=sys.stderr)
    for path in writer.skipped:
        print(f"{path}: skipped, because it was changed by hand", file=sys.stderr)
    for path, new in writer.renamed.items():
        print(
            f"{path}: rewritten; your edited version is now {new.name}. To change "
            f"points, use {OVERRIDES}",
            file=sys.stderr,
        )
    if faults:
        print(
            f"{course.command}: {faults} could not be graded; run the same command again",
            file=sys.stderr,
        )
    return INCOMPLETE if faults or unreadable or nobody or writer.skipped or problems else 0


def _write_books(
    writer: SafeWriter,
    results: Sequence[Result],
    exercises: Mapping[str, Exercise],
    roster: Roster | None,
    overrides: Sequence[Override],
    settings: ClassSettings,
    rubrics: Mapping[str, Sequence[Criterion]],
    options: argparse.Namespace,
) -> list[str]:
    """Apply what the instructor decided, write all reports, and return what could not be done."""
    from stepgrader.differences import quantity
    from stepgrader.exports import Books, export
    from stepgrader.gradebook import OVERRIDE_COLUMNS, apply_overrides, counting
    from stepgrader.late import apply_late_rule
    from stepgrader.open_questions import collect_open_answers, sheet
    from stepgrader.reports import write_reports
    from stepgrader.similarity import similarity_page
    from stepgrader.submissions import find_ignored
    from stepgrader.tables import as_csv
    from stepgrader.totals import Totals, total_rows

    out: Path = options.out
    if not os.path.lexists(out / OVERRIDES):
        write_whole(out / OVERRIDES, as_csv([OVERRIDE_COLUMNS]).encode())
    count = counting(results, settings.attempts)
    final, count, faulty = apply_overrides(results, count, overrides, exercises, roster)
    problems = [f"{out / OVERRIDES}, {problem}" for problem in faulty]
    if settings.late:
        final, faulty, timeless = apply_late_rule(final, count, settings.late, roster)
        problems += [f"{out / SETTINGS}, {problem}" for problem in faulty]
        if timeless:
            verb = "counts" if timeless == 1 else "count"
            print(
                f"{quantity(timeless, 'hand-in')} without a known time {verb} as on time.",
                file=sys.stderr,
            )
    pages = write_reports(final, writer, count, find_ignored(options.submissions))
    for name, (page, answered) in collect_open_answers(final, count, exercises, rubrics).items():
        writer.replace(out / "open" / f"{name}.html", page)
        points = out / "open" / f"{name}.csv"
        if (text := sheet(points, answered, rubrics[name])) is not None:
            write_whole(points, text.encode())
    if options.similarity:
        page = "\n".join(similarity_page(final, count, exercises, roster))
        writer.replace(out / "similarity.md", page)
    students = roster.students if roster else ()
    totals = Totals.of(final, count, exercises, settings.exercises, students)
    writer.replace(out / "totals.csv", as_csv(total_rows(totals)))
    books = Books(final, count, totals, roster, settings.columns, pages)
    for platform in dict.fromkeys(options.export):
        exported = export(platform, books)
        for name, content in exported.files.items():
            writer.replace(out / name, content)
        problems += [f"not exported to {platform}: {problem}" for problem in exported.problems]
    return problems


def _stored_seed(folder: Path, seed: int | None) -> int:
    """Return a seed, by default the stored or else a random one, and store it."""
    path = folder / "seed.txt"
    if seed is None:
        try:
            seed = int(path.read_text(encoding="ascii"))
        except FileNotFoundError:
            seed = secrets.randbits(128)  # nobody who hands in can guess the hidden cases
        except ValueError:
            raise ValueError(f"{path}: expected a whole number") from None
    write_whole(path, f"{seed}\n".encode())
    return seed


def _require_fork(message: str) -> None:
    if not hasattr(os, "fork"):
        raise ValueError(f"{message}; this is {sys.platform}")


def _names(folder: Path) -> list[str]:
    """Return the names of the exercises in an authors' folder, in the order of its index."""
    present = {
        path.parent.name for kind in ("steps.py", "*.ipynb") for path in folder.glob(f"*/{kind}")
    }
    index = read_index(folder)
    return [name for name in index if name in present] + sorted(present - set(index))


def _authored(
    folder: Path, names: Sequence[str] = (), code: Sequence[Path] = ()
) -> AuthoredExercises:
    """Return exercises as their authors have them: those with these names, or all."""
    from stepgrader.compiled import AuthoredExercises

    known = _names(folder)
    if not known:
        raise ValueError(
            f"--exercises: expected a folder with the authors' exercises, got {folder}; they are "
            "in the repository, not in the installed package"
        )
    for name in names or known:
        if name not in known:
            raise ValueError(f"expected one of {', '.join(known)}, got {name}")
    for name in names or known:
        for path in (folder / name / f"{name}.ipynb", folder / name / "steps.py"):
            if not path.is_file():
                raise ValueError(f"{path}: expected a file, but there is none")
    return AuthoredExercises(folder, names or known, code)


def _report_files(written: Iterable[Path], unchanged: Iterable[Path]) -> None:
    for path in written:
        print(f"{path}: written")
    for path in unchanged:
        print(f"{path}: unchanged")
