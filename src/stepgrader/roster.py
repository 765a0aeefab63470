"""The roster of a class: the students' ids and names."""

from __future__ import annotations

import csv
import io
import re
import unicodedata
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, fields
from pathlib import Path

from stepgrader.tables import read_csv

__all__ = ["Person", "Roster"]

COLUMNS = {
    "id": ("id", "student id", "sid", "id number", "학번"),
    "name": ("name", "full name", "student", "이름", "성명"),
    "first": ("first name", "first", "given name"),
    "last": ("last name", "last", "family name", "surname"),
    "email": ("email", "e-mail", "email address", "이메일"),
    "login": ("login", "login id", "sis login id", "username", "user name"),
    "section": ("section", "분반"),
    "group": ("group", "team", "조"),
    "lms": ("lms id", "canvas id", "moodle id", "blackboard id", "participant id", "user id"),
}


@dataclass(frozen=True)
class Person:
    """A student in a roster; what it does not state is empty.

    Args:
        id: The student's id.
        name: The name.
        email: The e-mail address.
        login: The name for logging in.
        lms: The number on the learning platform.
        section: The section of the course.
        group: The group whose members hand in together.

    Example:
        >>> Person("7", "Ada Lovelace").label
        'Ada Lovelace (7)'
    """

    id: str
    name: str
    email: str = ""
    login: str = ""
    lms: str = ""
    section: str = ""
    group: str = ""

    @property
    def label(self) -> str:
        """What all tables call the student."""
        return unicodedata.normalize("NFC", f"{self.name} ({self.id})")


class Roster:
    r"""Who is in a class, by all that a submission may call them.

    Args:
        text: A table in CSV with a heading: a column ``student id`` and a column ``name`` (or
            ``first name`` and ``last name``), and any of ``email``, ``login``, ``lms id``,
            ``section`` and ``group``.

    Attributes:
        people: The students by what the tables call them, in the order of the roster.

    Raises:
        ValueError: A column is missing, or two rows have one id.

    Example:
        >>> roster = Roster("student id,name,login\n7,Ada Lovelace,ada\n8,Bob Ross,bob\n")
        >>> roster.find(["lovelaceada"]), roster.find(["bob"]), roster.find(["eve"])
        ('Ada Lovelace (7)', 'Bob Ross (8)', None)
    """

    def __init__(self, text: str):
        reader = csv.DictReader(io.StringIO(text))
        columns = {_heading(name): name for name in reader.fieldnames or ()}
        known = {
            key: next((columns[name] for name in names if name in columns), None)
            for key, names in COLUMNS.items()
        }
        if known["id"] is None or not (known["name"] or (known["first"] and known["last"])):
            raise ValueError(
                "--roster: expected the columns student id and name, "
                f"got {', '.join(columns) or 'none'}"
            )
        self.people: dict[str, Person] = {}
        self._exact: dict[str, set[str]] = defaultdict(set)
        self._names: dict[str, set[str]] = defaultdict(set)
        ids: set[str] = set()
        for row in reader:
            value = {key: (row.get(name) or "").strip() for key, name in known.items() if name}
            if not any(value.values()):
                continue
            name = value.get("name") or f"{value.get('first', '')} {value.get('last', '')}".strip()
            if not value["id"] or value["id"] in ids:
                problem = f"{value['id']} twice" if value["id"] else "none"
                raise ValueError(
                    f"--roster: line {reader.line_num}: expected a unique id, got {problem}"
                )
            ids.add(value["id"])
            facts = {field.name: value.get(field.name, "") for field in fields(Person)}
            person = Person(**{**facts, "name": name})
            student = person.label
            self.people[student] = person
            for key in ("id", "email", "login", "lms"):
                for word in {value.get(key, ""), value.get(key, "").partition("@")[0]} - {""}:
                    self._exact[_key(word)].add(student)
            words = re.split(r"[\s,]+", name)
            for order in (words, [*words[-1:], *words[:-1]], [*words[1:], words[0]]):
                self._names[_key("".join(order))].add(student)

    @property
    def students(self) -> list[str]:
        """What the tables call the students, in the order of the roster."""
        return list(self.people)

    def group(self, student: str) -> list[str]:
        """Return all who hand in together with a student, the student included."""
        own = self.people[student].group if student in self.people else ""
        members = [label for label, person in self.people.items() if own and person.group == own]
        return members or [student]

    @classmethod
    def read(cls, path: Path) -> Roster:
        """Read a roster in UTF-8, or as Excel saves it in Korea."""
        return cls(read_csv(path))

    def find(self, words: Iterable[str]) -> str | None:
        """Return the one student whom words identify: ids first, then the name.

        None if there is nobody, or more than one.
        """
        words = list(words)
        for table in (self._exact, self._names):
            matches = {student for word in words for student in table.get(_key(word), ())}
            if matches:
                return matches.pop() if len(matches) == 1 else None
        return None


def _heading(text: str) -> str:
    return re.sub(r"[\s_]+", " ", unicodedata.normalize("NFC", text)).strip().casefold()


def _key(text: str) -> str:
    """Return a name for comparison: its letters and digits, without case."""
    return "".join(c for c in unicodedata.normalize("NFC", text).casefold() if c.isalnum())
