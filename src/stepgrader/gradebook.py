"""The grades of a class: which notebooks count, for whom, and what the instructor decided."""

from __future__ import annotations

import csv
import io
import math
import re
import unicodedata
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from stepgrader.marks import short
from stepgrader.tables import read_csv

if TYPE_CHECKING:  # a check in a notebook needs none of them
    from stepgrader.batch import Result
    from stepgrader.exercises import Exercise
    from stepgrader.grader import Graded
    from stepgrader.roster import Roster

__all__ = [
    "BEST",
    "LAST",
    "OVERRIDE_COLUMNS",
    "Override",
    "apply_overrides",
    "counting",
    "find_student",
    "read_overrides",
    "share_in_groups",
    "student_labels",
]

LAST = "last"
"""Of several notebooks of one exercise, the last counts."""
BEST = "best"
"""Of several notebooks of one exercise, the one with the most points counts."""
OVERRIDE_COLUMNS = ("student", "exercise", "step", "points", "reason")
"""The columns of the table of overrides."""
OPTIONAL = ("step", "reason")


def counting(results: Sequence[Result], attempts: str = LAST) -> set[int]:
    """Return the numbers of the results that count, one for each student and exercise.

    Args:
        results: The result of every submission.
        attempts: ``LAST`` or ``BEST``. The last is the latest attempt, where a platform states
            attempts, and of several files the last by name, where numbers count as such: "lstm (2)"
            comes after "lstm (1)". A notebook without any answer counts only if there is no other.

    Example:
        >>> from stepgrader.batch import Result
        >>> from stepgrader.grader import Graded, GradedStep
        >>> from stepgrader.judge import Verdict
        >>> from stepgrader.submissions import Submission
        >>> def result(file, points):
        ...     step = GradedStep("gate", "A gate", points, 2, Verdict("wrong"))
        ...     return Result(Submission("ada", Path(file)), Graded("lstm", "", [step]))
        >>> results = [result("a.ipynb", 0), result("a (2).ipynb", 2), result("a (10).ipynb", 1)]
        >>> counting(results), counting(results, BEST)
        ({2}, {1})
    """
    chosen: dict[tuple[str, str], int] = {}
    for number, result in enumerate(results):
        if result.graded is not None:
            key = (result.submission.student, result.graded.exercise)
            if key not in chosen or _rank(result, attempts) > _rank(results[chosen[key]], attempts):
                chosen[key] = number
    return set(chosen.values())


def _rank(result: Result, attempts: str) -> tuple[Any, ...]:
    """Return what orders a student's notebooks of one exercise: the greatest counts."""
    submission, steps = result.submission, result.graded.steps if result.graded else []
    written = any(step.verdict.status in ("right", "wrong") for step in steps)
    worth = result.graded.points if result.graded and attempts == BEST else written
    file = f"{submission.path} {submission.shown}".casefold().replace(".ipynb", "").strip()
    parts = [int(part) if part.isdecimal() else part for part in re.split(r"(\d+)", file)]
    return submission.for_group, worth, submission.attempt, parts


def student_labels(results: Iterable[Result]) -> dict[str, str]:
    """Return all students of a class, by what tables call them.

    Example:
        >>> from stepgrader.batch import Result
        >>> from stepgrader.submissions import Submission
        >>> student_labels([Result(Submission("=ada", Path("ada.ipynb")), None)])
        {'=ada': '=ada'}
    """
    return {_key(result.submission.student): result.submission.student for result in results}


def find_student(name: str, labels: Mapping[str, str], roster: Roster | None = None) -> str:
    """Return the student that a table of the instructor names.

    Args:
        name: What a table calls the student, or anything that the roster says of them.
        labels: The students; see ``student_labels``.
        roster: Who is in the class.

    Raises:
        ValueError: There is nobody of this name, or more than one.

    Example:
        >>> find_student("'=ada", {"=ada": "=ada"})
        '=ada'
    """
    student = labels.get(_key(name)) or (roster.find([name]) if roster else None)
    if student is None:
        raise ValueError(f"expected a student of the class, got {name!r}")
    return student


def share_in_groups(
    results: Sequence[Result], roster: Roster, attempts: str = LAST
) -> list[Result]:
    r"""Give all members of a group what one of them handed in.

    Of several members who hand in an exercise, the latest attempt is shared, and among equal ones
    or those that are not stated, the best.

    Args:
        results: The result of every submission.
        roster: Who is in the class, and in which group.
        attempts: Which of several notebooks of one member counts; see ``counting``.

    Returns:
        The results, with a copy for each other member before their own results.

    Example:
        >>> from stepgrader.batch import Result
        >>> from stepgrader.grader import Graded
        >>> from stepgrader.roster import Roster
        >>> from stepgrader.submissions import Submission
        >>> roster = Roster("id,name,group\n7,Ada,red\n8,Bob,red\n")
        >>> results = [
        ...     Result(Submission("Ada (7)", Path("ada.ipynb")), Graded("lstm", "", [])),
        ...     Result(Submission("Bob (8)", Path(), absent=True), None, "nothing was handed in"),
        ... ]
        >>> [result.submission.student for result in share_in_groups(results, roster)]
        ['Ada (7)', 'Bob (8)']
    """
    groups = {label: person.group for label, person in roster.people.items() if person.group}
    members: dict[str, list[str]] = defaultdict(list)
    for student, group in groups.items():
        members[group].append(student)
    best: dict[tuple[str, str], Result] = {}

    def rank(result: Result) -> tuple[str, float]:
        attempt = result.submission.attempt if attempts == LAST else ""
        return attempt, result.graded.points if result.graded else 0

    for result in (results[number] for number in sorted(counting(results, attempts))):
        student, graded = result.submission.student, result.graded
        if graded is not None and student in groups:
            key = (groups[student], graded.exercise)
            if key not in best or rank(result) > rank(best[key]):
                best[key] = result
    copies: dict[str, list[Result]] = defaultdict(list)
    for (group, _), result in best.items():
        by, graded = result.submission.student, result.graded
        for student in members[group]:
            if student != by and graded is not None:
                remark = f"handed in by {by} for your group"
                copy = replace(
                    result.submission, student=student, beside=(), top="", for_group=True
                )
                remarked = replace(graded, remarks=[*graded.remarks, remark])
                copies[student].append(replace(result, submission=copy, graded=remarked))
    shared: list[Result] = []
    for result in results:
        own = copies.pop(result.submission.student, [])
        shared += own
        if not (own and result.submission.absent):
            shared.append(result)
    return shared


def _key(student: str) -> str:
    """Return a name as tables and people write it, without what keeps it from being a formula."""
    return unicodedata.normalize("NFC", student).strip().removeprefix("'")


@dataclass(frozen=True)
class Override:
    """Points that the instructor gave, as the table states them.

    Args:
        row: Its row in the table; the heading is row 1.
        student: The student, as in the other tables, or by anything in the roster.
        exercise: Name of the exercise.
        step: Name of the step; empty if the points are those of the whole exercise.
        points: The points.
        reason: Why, for the student.

    Example:
        >>> Override(2, "Ada Lovelace", "lstm", "forget_gate", "1", "a slip of the pen").step
        'forget_gate'
    """

    row: int
    student: str
    exercise: str
    step: str
    points: str
    reason: str


def read_overrides(path: Path) -> list[Override]:
    r"""Read the table of overrides; an absent file holds none.

    Raises:
        OSError: The file can't be read.
        ValueError: A column is missing.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     path = Path(folder, "overrides.csv")
        ...     length = path.write_text("student,exercise,points\nada,lstm,7\n")
        ...     read_overrides(path)
        [Override(row=2, student='ada', exercise='lstm', step='', points='7', reason='')]
    """
    if not path.exists():
        return []
    heading, *rows = list(csv.reader(io.StringIO(read_csv(path)))) or [[]]
    columns = [name.strip().casefold() for name in heading]
    if missing := [name for name in OVERRIDE_COLUMNS if name not in (*columns, *OPTIONAL)]:
        raise ValueError(
            f"{path}: expected the columns {', '.join(OVERRIDE_COLUMNS)}; "
            f"{' and '.join(missing)} {'is' if len(missing) == 1 else 'are'} missing"
        )
    overrides: list[Override] = []
    for number, row in enumerate(rows, start=2):
        cells = dict(zip(columns, (cell.strip() for cell in row), strict=False))
        if any(cells.values()):
            values = {name: cells.get(name, "") for name in OVERRIDE_COLUMNS}
            overrides.append(Override(number, **values))
    return overrides


def apply_overrides(
    results: Sequence[Result],
    count: set[int],
    overrides: Sequence[Override],
    exercises: Mapping[str, Exercise],
    roster: Roster | None = None,
) -> tuple[list[Result], set[int], list[str]]:
    """Give the points that the instructor gave.

    Points of a step replace those that the answer earned. Points of a whole exercise replace their
    sum. A student without a notebook of the exercise can be given points too.

    Args:
        results: The result of every submission.
        count: The numbers of those that count; see ``counting``.
        overrides: The points to give.
        exercises: All exercises, by name.
        roster: Who is in the class.

    Returns:
        The results, each changed one with a remark; the numbers of those that count; and what is
        wrong with the overrides that were not applied.

    Example:
        >>> from stepgrader.batch import Result
        >>> from stepgrader.submissions import Submission
        >>> results = [Result(Submission("ada", Path("ada.ipynb")), None, "it is not JSON")]
        >>> override = Override(2, "eve", "lstm", "", "7", "an oral exam")
        >>> apply_overrides(results, set(), [override], {})[2]
        ["row 2: expected a student of the class, got 'eve'"]
    """
    labels = student_labels(results)
    chosen: dict[tuple[str, str], dict[str, tuple[Override, float]]] = defaultdict(dict)
    problems: list[str] = []
    for override in overrides:
        try:
            student = find_student(override.student, labels, roster)
            points = _points(override, exercises)
            same = chosen[student, override.exercise]
            for step in same:
                if step == override.step or "" in (step, override.step):
                    row = same[step][0].row
                    raise ValueError(f"row {row} sets these points too; expected one row")
            same[override.step] = override, points
        except ValueError as error:
            problems.append(f"row {override.row}: {error}")
    changed, counted = list(results), set(count)
    numbers = {
        (results[number].submission.student, graded.exercise): number
        for number in count
        if (graded := results[number].graded) is not None
    }
    for (student, exercise), steps in chosen.items():
        if not steps:
            continue
        if (student, exercise) not in numbers:
            numbers[student, exercise] = len(changed)
            counted.add(len(changed))
            changed.append(_without_notebook(student, exercises[exercise]))
        number = numbers[student, exercise]
        graded = changed[number].graded
        if graded is not None:
            changed[number] = replace(changed[number], graded=_overridden(graded, steps))
    return changed, counted, problems


def _points(override: Override, exercises: Mapping[str, Exercise]) -> float:
    """Return the points of an override, and raise a ValueError if they can't be given."""
    if override.exercise not in exercises:
        raise ValueError(f"expected one of {', '.join(exercises)}, got {override.exercise!r}")
    headings = exercises[override.exercise].headings
    if override.step and override.step not in headings:
        raise ValueError(
            f"expected a step of {override.exercise} ({', '.join(headings)}), got {override.step!r}"
        )
    steps = [override.step] if override.step else list(headings)
    most = sum(headings[step].points for step in steps)
    try:
        points = float(override.points.replace(",", "."))
    except ValueError:
        points = math.nan
    if not 0 <= points <= most:
        raise ValueError(f"expected points from 0 to {most}, got {override.points!r}")
    return short(points)


def _without_notebook(student: str, exercise: Exercise) -> Result:
    from stepgrader.batch import Result
    from stepgrader.grader import Graded, GradedStep
    from stepgrader.judge import Verdict
    from stepgrader.submissions import Submission

    steps = [
        GradedStep(name, heading.title, 0, heading.points, Verdict("missing"))
        for name, heading in exercise.headings.items()
    ]
    return Result(Submission(student, Path()), Graded(exercise.name, exercise.title, steps))


def _overridden(graded: Graded, overrides: Mapping[str, tuple[Override, float]]) -> Graded:
    steps, remarks = list(graded.steps), list(graded.remarks)
    for number, step in enumerate(steps):
        if step.name in overrides:
            override, points = overrides[step.name]
            note = _remark(override, step.points, points)
            steps[number] = replace(step, points=points, notes=[*step.notes, note])
            remarks.append(f"{step.name}: {note}")
    graded = replace(graded, steps=steps, remarks=remarks)
    if "" not in overrides:
        return graded
    override, points = overrides[""]
    remark = _remark(override, graded.points, points)
    return replace(graded, adjusted=points, remarks=[*remarks, remark])


def _remark(override: Override, before: float, points: float) -> str:
    reason = f": {override.reason}" if override.reason else ""
    return f"{points} points by your instructor's decision instead of {short(before)}{reason}"
