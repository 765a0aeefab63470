"""The released exercises of the course, and the checker that their notebooks import."""

from __future__ import annotations

from seqbook.course import COURSE
from stepgrader import checker

__all__ = ["Checker"]


class Checker(checker.Checker):
    """Check answers against the visible test cases of an exercise of this course.

    See ``stepgrader.checker.Checker``.

    Args:
        name: Name of the exercise.

    Raises:
        ValueError: There is no exercise of this name.

    Example:
        >>> check = Checker("lstm")
        >>> check.inputs is None  # until a check fails
        True
    """

    def __init__(self, name: str):
        super().__init__(COURSE.load(name))
