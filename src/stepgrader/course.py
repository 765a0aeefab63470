"""A course: the folder of exercises that a package gives to its students."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:  # the command line loads it only where it is needed
    from stepgrader.exercises import Released

__all__ = ["Course", "read_index"]

INDEX = "index.json"  # names of the exercises in a folder, in the order of the course


@dataclass(frozen=True)
class Course:
    """Everything that the grader knows of a course.

    Args:
        command: Name of the command line, for its messages.
        package: Folder of the course's package, which no submission may read.
        released: Folder with the released exercises and their index.
        sources: Folder with the authors' exercises and their index; None in an installation that
            does not have them.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as name:
        ...     folder = Path(name)
        ...     length = (folder / INDEX).write_text('["rnn", "lstm"]')
        ...     course = Course("mycourse", package=folder, released=folder)
        ...     course.order
        ['rnn', 'lstm']
    """

    command: str
    package: Path
    released: Path
    sources: Path | None = None

    @property
    def order(self) -> list[str]:
        """Names of the released exercises, in the order of the course."""
        return read_index(self.released)

    def load(self, name: str) -> Released:
        """Return a released exercise.

        Raises:
            ValueError: There is no exercise of this name.
        """
        from stepgrader.exercises import Released

        order = self.order
        if name not in order:
            expected = " or ".join(map(repr, order))
            raise ValueError(f"exercise: expected {expected}, got {name!r}")
        return Released.load(self.released, name)


def read_index(folder: Path) -> list[str]:
    """Return the names in a folder's index; none if there is no index.

    Raises:
        ValueError: The index is not a list of names.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as name:
        ...     length = Path(name, INDEX).write_text('["rnn", "lstm"]')
        ...     read_index(Path(name))
        ['rnn', 'lstm']
    """
    path = folder / INDEX
    if not path.exists():
        return []
    names = json.loads(path.read_text(encoding="utf-8"))
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise ValueError(f"{path}: expected a list of names")
    return names
