"""The books of a class: tables, corrections by hand, totals and what platforms import."""

import csv
from pathlib import Path

import pytest

from stepgrader.atomic_files import SafeWriter
from stepgrader.batch import Result
from stepgrader.grader import Graded, GradedStep
from stepgrader.judge import Verdict
from stepgrader.reports import write_reports
from stepgrader.submissions import Submission


def rows(path):
    with open(path, encoding="utf-8-sig", newline="") as file:
        return list(csv.DictReader(file))


def graded(*points, exercise="lstm"):
    """A notebook with a step of 2 points for each number of points."""
    steps = [
        GradedStep(f"step_{number}", f"Step {number}", earned, 2, verdict(earned))
        for number, earned in enumerate(points, start=1)
    ]
    return Graded(exercise, f"Exercise {exercise}", steps)


def verdict(points):
    return Verdict("right") if points == 2 else Verdict("wrong", property="a batch of one")


def result(student, *points, exercise="lstm", **facts):
    submission = Submission(student, Path(f"{student}.ipynb"), **facts)
    return Result(submission, graded(*points, exercise=exercise))


# -- tables


@pytest.mark.parametrize("name", ["grades.csv", "steps.csv"])
def test_excel_reads_korean_names_in_a_table(tmp_path, name):
    """Excel reads UTF-8 only if the file begins with the byte order mark."""
    write_reports([result("박지호", 2)], SafeWriter(tmp_path))
    content = (tmp_path / name).read_bytes()
    assert content.startswith(b"\xef\xbb\xbf")
    assert not content[3:].startswith(b"\xef\xbb\xbf")
    assert rows(tmp_path / name)[0]["student"] == "박지호"
