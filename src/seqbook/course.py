"""The course of this package, for the grader."""

from __future__ import annotations

from pathlib import Path

from stepgrader.course import Course

__all__ = ["COURSE"]

PACKAGE = Path(__file__).parent
SOURCES = PACKAGE.parents[1] / "exercises"  # in a checkout of the repository

COURSE = Course(
    command="seqbook",
    package=PACKAGE,
    released=PACKAGE / "exercises",
    sources=SOURCES if (SOURCES / "index.json").is_file() else None,
)
