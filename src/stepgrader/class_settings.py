"""The settings of a class: the file ``class.toml`` beside the grades."""

from __future__ import annotations

import tomllib
from collections.abc import Callable, Collection
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

from stepgrader.gradebook import BEST, LAST
from stepgrader.late import HandIn, LateRule

__all__ = ["ClassSettings"]

LATE = {  # what the fields of the rule are called
    "late_days": "free_days",
    "percent_per_day": "percent_per_day",
    "handed_in": "handed_in",
}
TIME = "a date and time with its offset from UTC, such as 2026-12-01T23:59:00+09:00"


@dataclass(frozen=True)
class ClassSettings:
    """What an instructor states about a class.

    Args:
        exercises: The exercises that were assigned, in the order of the totals; None if those
            count that somebody handed in.
        columns: What the learning platform calls an exercise, by its name.
        late: When exercises are due, and what it costs to be late; None if nothing is due.
        attempts: Which of several notebooks of one exercise counts: ``gradebook.LAST`` or ``BEST``.

    Example:
        >>> ClassSettings.parse('exercises = ["lstm", "gru"]', known=["gru", "lstm"]).exercises
        ['lstm', 'gru']
    """

    exercises: list[str] | None = None
    columns: dict[str, str] = field(default_factory=dict)
    late: LateRule | None = None
    attempts: str = LAST

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
            "attempts": _attempts,
            "columns": _columns,
            "due": _due,
            "late_days": _late_days,
            "percent_per_day": _percent,
            "handed_in": _handed_in,
        }
        data = tomllib.loads(text)
        if unknown := sorted(set(data) - set(readers)):
            raise ValueError(f"expected any of {', '.join(readers)}, got {unknown[0]}")
        stated = {key: readers[key](value, known) for key, value in data.items()}
        if "due" not in stated and (without := sorted(set(stated) & set(LATE))):
            raise ValueError(
                f"{without[0]}: expected due as well, the time after which work is late"
            )
        late = {LATE[key]: stated.pop(key) for key in LATE if key in stated}
        due = stated.pop("due", None)
        return cls(**stated, late=None if due is None else LateRule(due, **late))


def _exercises(value: Any, known: Collection[str]) -> list[str]:
    if not isinstance(value, list) or not value:
        raise ValueError(f"exercises: expected a list of names, got {value!r}")
    for name in value:
        _exercise("exercises", name, known)
    if len(set(value)) < len(value):
        raise ValueError("exercises: expected each name once")
    return value


def _attempts(value: Any, _: Collection[str]) -> str:
    if value not in (LAST, BEST):
        raise ValueError(f'attempts: expected "{LAST}" or "{BEST}", got {value!r}')
    return str(value)


def _columns(value: Any, known: Collection[str]) -> dict[str, str]:
    if not isinstance(value, dict):
        raise ValueError(f"columns: expected a table, got {value!r}")
    for name, heading in value.items():
        _exercise("columns", name, known)
        if not isinstance(heading, str) or not heading.strip():
            raise ValueError(f"columns.{name}: expected a string, got {heading!r}")
    return value


def _due(value: Any, known: Collection[str]) -> dict[str, datetime]:
    if isinstance(value, dict):
        return {
            _exercise("due", name, known): _time(f"due.{name}", time)
            for name, time in value.items()
        }
    return dict.fromkeys(known, _time("due", value))


def _late_days(value: Any, _: Collection[str]) -> int:
    if type(value) is not int or value < 0:
        raise ValueError(f"late_days: expected a whole number of days, got {value!r}")
    return value


def _percent(value: Any, _: Collection[str]) -> float:
    if type(value) not in (int, float) or not 0 <= value <= 100:
        raise ValueError(f"percent_per_day: expected a number from 0 to 100, got {value!r}")
    return float(value)


def _handed_in(value: Any, known: Collection[str]) -> list[HandIn]:
    if not isinstance(value, list) or not all(isinstance(entry, dict) for entry in value):
        raise ValueError(f"handed_in: expected tables [[handed_in]], got {value!r}")
    hand_ins: list[HandIn] = []
    for entry in value:
        if set(entry) != {"student", "exercise", "time"}:
            given = ", ".join(entry) or "none"
            raise ValueError(f"handed_in: expected student, exercise and time, got {given}")
        exercise = _exercise("handed_in", entry["exercise"], known)
        time = _time("handed_in", entry["time"])
        hand_ins.append(HandIn(str(entry["student"]), exercise, time))
    return hand_ins


def _time(where: str, value: Any) -> datetime:
    if not isinstance(value, datetime) or value.tzinfo is None:
        raise ValueError(f"{where}: expected {TIME}, got {value}")
    return value


def _exercise(where: str, name: Any, known: Collection[str]) -> str:
    if not isinstance(name, str) or name not in known:
        raise ValueError(f"{where}: expected one of {', '.join(known)}, got {name!r}")
    return name
