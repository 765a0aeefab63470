"""Grades in the forms that learning platforms import."""

from __future__ import annotations

import io
import json
import zipfile
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from stepgrader import layouts
from stepgrader.marks import total
from stepgrader.reports import file_names, no_grade, step_head, step_lines
from stepgrader.tables import as_csv

if TYPE_CHECKING:
    from stepgrader.batch import Result
    from stepgrader.roster import Person, Roster
    from stepgrader.totals import Totals

__all__ = ["Books", "Export", "export"]


@dataclass(frozen=True)
class Books:
    """The results of a class after grading.

    Args:
        results: The result of every submission.
        count: The numbers of those that count.
        totals: The points of each student.
        roster: Who is in the class.
        columns: What the platform calls an exercise, where that is not its name.
        pages: The files of each student's feedback page, the one in HTML first.

    Example:
        >>> from stepgrader.totals import Totals
        >>> Books([], set(), Totals({"lstm": 11}, []), columns={"lstm": "LSTM (123)"}).headings
        ['LSTM (123)']
    """

    results: Sequence[Result]
    count: set[int]
    totals: Totals
    roster: Roster | None = None
    columns: Mapping[str, str] = field(default_factory=dict)
    pages: Mapping[str, Sequence[Path]] = field(default_factory=dict)

    @property
    def headings(self) -> list[str]:
        """What the platform calls the exercises."""
        return [self.columns.get(exercise, exercise) for exercise in self.totals.out_of]


@dataclass(frozen=True)
class Export:
    """The files of an export.

    Args:
        files: Content by path, relative to the folder of the grades.
        problems: Who or what is lacking, and why.

    Example:
        >>> Export({"canvas.csv": ""}, ["eve: expected a student of the roster"]).problems
        ['eve: expected a student of the roster']
    """

    files: dict[str, str | bytes]
    problems: list[str]


def export(platform: str, books: Books) -> Export:
    r"""Return the files that a platform imports.

    Args:
        platform: ``canvas`` or ``moodle``, whose gradebooks import a table, and which take a zip of
            feedback pages if the submissions have the names that they gave them; ``gradescope``,
            whose autograders leave a file of results for each student; or ``zip``, for a zip with
            a folder for each student.
        books: What is known of the class.

    Raises:
        ValueError: The platform needs the ids of a roster, and there is none.

    Example:
        >>> from stepgrader.roster import Roster
        >>> from stepgrader.totals import StudentTotal, Totals
        >>> totals = Totals({"lstm": 11}, [StudentTotal("Ada (7)")])
        >>> books = Books([], set(), totals, Roster("id,name,lms id\n7,Ada,123\n"))
        >>> print(export("canvas", books).files["canvas.csv"].removeprefix("\ufeff"), end="")
        Student,ID,SIS User ID,SIS Login ID,Section,lstm
            Points Possible,,,,,11
        Ada,123,7,,,0
    """
    return _EXPORTS[platform](books)


def _canvas(books: Books) -> Export:
    people, problems = _people(books, "canvas")
    rows: list[Sequence[Any]] = [
        ("Student", "ID", "SIS User ID", "SIS Login ID", "Section", *books.headings),
        ("    Points Possible", "", "", "", "", *books.totals.out_of.values()),
    ]
    for person, points in people:
        rows.append((person.name, person.lms, person.id, person.login, person.section, *points))
    pages, lacking = _feedback_zip(books, "Canvas")
    return Export({"canvas.csv": as_csv(rows), **pages}, problems + lacking)


def _moodle(books: Books) -> Export:
    people, problems = _people(books, "moodle")
    rows: list[Sequence[Any]] = [
        ("ID number", "Username", "Email address", "Full name", *books.headings)
    ]
    for person, points in people:
        rows.append((person.id, person.login, person.email, person.name, *points))
    pages, lacking = _feedback_zip(books, "Moodle")
    return Export({"moodle.csv": as_csv(rows), **pages}, problems + lacking)


def _people(
    books: Books, platform: str
) -> tuple[list[tuple[Person, list[float | str]]], list[str]]:
    """Return each student of the roster with their points, and who is not in it."""
    if books.roster is None:
        raise ValueError(f"--export {platform}: expected a --roster with the ids of the students")
    people: list[tuple[Person, list[float | str]]] = []
    problems: list[str] = []
    for row in books.totals.students:
        person = books.roster.people.get(row.student)
        if person is None:
            problems.append(f"{row.student}: has no id: the roster does not list this student")
            continue
        points = [row.points(exercise) for exercise in books.totals.out_of]
        people.append((person, ["" if value is None else value for value in points]))
    return people, problems


def _gradescope(books: Books) -> Export:
    own: dict[str, list[int]] = defaultdict(list)
    for number, result in enumerate(books.results):
        own[result.submission.student].append(number)
    names = file_names(own)
    totals = {row.student: row for row in books.totals.students}
    files: dict[str, str | bytes] = {}
    problems: list[str] = []
    for student, numbers in own.items():
        if not totals[student].complete:
            problems.append(f"{student}: a notebook could not be graded")
            continue
        points = [totals[student].points(exercise) or 0 for exercise in books.totals.out_of]
        tests = [
            test
            for number in numbers
            if number in books.count
            for test in _tests(books, books.results[number])
        ]
        texts = [text for number in numbers for text in _texts(books.results[number])]
        data = {
            "score": total(points),
            "output": "\n".join(texts),
            "output_format": "text",
            "visibility": "visible",
            "tests": tests,
        }
        text = json.dumps(data, ensure_ascii=False, indent=1)
        files[f"gradescope/{names[student]}/results.json"] = text + "\n"
    return Export(files, problems)


def _tests(books: Books, result: Result) -> Iterator[dict[str, Any]]:
    graded = result.graded
    if graded is None or graded.exercise not in books.totals.out_of:
        return
    for step in graded.steps:
        yield {
            "name": f"{graded.title}: {step.title}",
            "score": step.points,
            "max_score": step.out_of,
            "status": "passed" if step.verdict.status == "right" else "failed",
            "output": "\n".join([step_head(step), *step_lines(step)]),
            "output_format": "text",
            "visibility": "visible",
        }


def _texts(result: Result) -> Iterator[str]:
    if result.graded is None:
        yield f"{result.submission.name}: {no_grade(result)}"
    else:
        yield from (f"{result.graded.title}: {remark}" for remark in result.graded.remarks)


def _feedback_zip(books: Books, platform: str) -> tuple[dict[str, str | bytes], list[str]]:
    """Return the zip of feedback pages that a platform takes, and for whom it holds none."""
    paths: dict[str, str] = {}
    handed_in: dict[str, None] = {}
    for result in books.results:
        student, top = result.submission.student, result.submission.top
        if top:
            handed_in[student] = None
        if top and student not in paths and (path := layouts.feedback_path(platform, top)):
            paths[student] = path
    if not paths:  # the submissions came in another way
        return {}, []
    content = _zipped({path: books.pages[student][0] for student, path in paths.items()})
    lacking = [
        f"{student}: the feedback, because no submission has a name that {platform} gave it"
        for student in handed_in
        if student not in paths
    ]
    return {f"{platform.lower()}_feedback.zip": content}, lacking


def _zip(books: Books) -> Export:
    files = {
        f"{path.stem}/feedback{path.suffix}": path for own in books.pages.values() for path in own
    }
    return Export({"feedback.zip": _zipped(files)}, [])


def _zipped(files: Mapping[str, Path]) -> bytes:
    """Return a zip of files, by their paths in it. The same files give the same zip."""
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w") as archive:
        for name, path in files.items():
            entry = zipfile.ZipInfo(name)  # of the earliest time
            entry.external_attr = 0o644 << 16
            archive.writestr(entry, path.read_bytes(), zipfile.ZIP_DEFLATED)
    return content.getvalue()


_EXPORTS = {"canvas": _canvas, "moodle": _moodle, "gradescope": _gradescope, "zip": _zip}
