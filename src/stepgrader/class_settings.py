"""The settings of a class: the file ``class.toml`` beside the grades."""

from __future__ import annotations

import tomllib
from collections.abc import Callable, Collection
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

__all__ = ["ClassSettings"]


@dataclass(frozen=True)
class ClassSettings:
    """What an instructor states about a class.

    Args:
        exercises: The exercises that were assigned, in the order of the totals; None if those
            count that somebody handed in.
        columns: What the learning platform calls an exercise, by its name.

    Example:
        >>> ClassSettings.parse('exercises = ["lstm", "gru"]', known=["gru", "lstm"]).exercises
        ['lstm', 'gru']
    """

    exercises: list[str] | None = None
    columns: dict[str, str] = field(default_factory=dict)

    @classmethod
    def read(cls, path: Path, known: Collection[str]) -> ClassSettings:
        """Read the settings; without the file there are none.

        Args:
            path: The file.
            known: Names of all exercises.

        Raises:
            OSError: The file can't be read.
            ValueError: It is not TOML, or states something that is not expected.
        """
        if not path.exists():
            return cls()
        try:
            return cls.parse(path.read_text(encoding="utf-8-sig"), known)
        except ValueError as error:  # also of TOML and of Unicode
            raise ValueError(f"{path}: {error}") from None

    @classmethod
    def parse(cls, text: str, known: Collection[str]) -> ClassSettings:
        """Return the settings that a text in TOML states.

        Raises:
            ValueError: It states something that is not expected.
        """
        readers: dict[str, Callable[[Any, Collection[str]], Any]] = {
            "exercises": _exercises,
            "columns": _columns,
        }
        data = tomllib.loads(text)
        if unknown := sorted(set(data) - set(readers)):
            raise ValueError(f"expected any of {', '.join(readers)}, got {unknown[0]}")
        return cls(**{key: readers[key](value, known) for key, value in data.items()})


def _exercises(value: Any, known: Collection[str]) -> list[str]:
    if not isinstance(value, list) or not value:
        raise ValueError(f"exercises: expected a list of names, got {value!r}")
    for name in value:
        _exercise("exercises", name, known)
    if len(set(value)) < len(value):
        raise ValueError("exercises: expected each name once")
    return value


def _columns(value: Any, known: Collection[str]) -> dict[str, str]:
    if not isinstance(value, dict):
        raise ValueError(f"columns: expected a table, got {value!r}")
    for name, heading in value.items():
        _exercise("columns", name, known)
        if not isinstance(heading, str) or not heading.strip():
            raise ValueError(f"columns.{name}: expected a text, got {heading!r}")
    return value


def _exercise(where: str, name: Any, known: Collection[str]) -> str:
    if not isinstance(name, str) or name not in known:
        raise ValueError(f"{where}: expected one of {', '.join(known)}, got {name!r}")
    return name
