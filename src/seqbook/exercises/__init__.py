"""The exercises of the course as students get them, and the checker that the notebooks import."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from stepgrader.course import Course

if TYPE_CHECKING:
    import stepgrader.checker

__all__ = ["Checker"]

RELEASED = Path(__file__).parent
SOURCES = RELEASED.parents[2] / "exercises"  # in a checkout of the repository

COURSE = Course(
    command="seqbook",
    package=RELEASED.parent,
    released=RELEASED,
    sources=SOURCES if (SOURCES / "index.json").is_file() else None,
)


def Checker(name: str) -> stepgrader.checker.Checker:  # noqa: N802, it stands for that class
    """Return a checker of answers against the visible test cases of an exercise.

    Args:
        name: Name of the exercise.

    Raises:
        ValueError: There is no exercise of this name.

    Example:
        >>> check = Checker("lstm")
        >>> check.inputs is None  # until a check fails
        True
    """
    from stepgrader import checker  # it imports torch, which the command line loads late

    return checker.Checker(COURSE.load(name))
