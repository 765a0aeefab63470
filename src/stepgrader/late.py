"""Late days: how many there are, which are free, and what the others cost."""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta, tzinfo
from fractions import Fraction
from typing import TYPE_CHECKING

from stepgrader.gradebook import find_student, student_labels
from stepgrader.marks import short

if TYPE_CHECKING:
    from stepgrader.batch import Result
    from stepgrader.roster import Roster

__all__ = ["HandIn", "LateRule", "apply_late_rule", "parse_time"]

TIME = re.compile(
    r"(\d{4}-\d\d-\d\d)[ T-](\d\d)[:-](\d\d)[:-](\d\d)(?:\.\d+)? ?(Z|UTC|[+-]\d\d:?\d\d)?"
)
DAY = timedelta(days=1)


@dataclass(frozen=True)
class HandIn:
    """When a student handed in an exercise, as the instructor states it.

    Args:
        student: The student, as in the tables, or by anything in the roster.
        exercise: Name of the exercise.
        time: The time, with its offset from UTC.

    Example:
        >>> HandIn("ada", "lstm", datetime.fromisoformat("2026-12-02T09:00+09:00")).exercise
        'lstm'
    """

    student: str
    exercise: str
    time: datetime


@dataclass(frozen=True)
class LateRule:
    """When exercises are due, and what it costs to be late.

    Args:
        due: When each exercise is due, by its name; times with an offset from UTC.
        free_days: Late days that cost nothing, for each student and all exercises together.
        percent_per_day: What each other day takes off the points of its exercise.
        handed_in: Times that the platform does not state.

    Example:
        >>> LateRule({}, free_days=3, percent_per_day=10).points(8, days=2)
        6.4
    """

    due: Mapping[str, datetime]
    free_days: int = 0
    percent_per_day: float = 0
    handed_in: Sequence[HandIn] = field(default_factory=list)

    def points(self, points: float, days: int) -> float:
        """Return what is left of points after this number of days, none of which is free."""
        percent = max(Fraction(0), 100 - days * Fraction(str(self.percent_per_day)))
        return short(Fraction(str(points)) * percent / 100)


def parse_time(text: str, zone: tzinfo | None) -> datetime | None:
    """Return the time that a platform wrote; None if there is none.

    Args:
        text: The text.
        zone: The zone of a time without one.

    Example:
        >>> from datetime import timezone
        >>> parse_time("2026-11-29-10-00-00", timezone.utc).isoformat()
        '2026-11-29T10:00:00+00:00'
        >>> parse_time("2026-11-29 10:00:00.25 -0800", timezone.utc).isoformat()
        '2026-11-29T10:00:00-08:00'
    """
    match = TIME.fullmatch(text)
    if match is None:
        return None
    day, hour, minute, second, offset = match.groups()
    try:
        time = datetime.fromisoformat(f"{day}T{hour}:{minute}:{second}")
    except ValueError:
        return None
    if offset is None:
        return time.replace(tzinfo=zone)
    offset = "+0000" if offset in ("Z", "UTC") else offset
    return time.replace(tzinfo=datetime.strptime(offset, "%z").tzinfo)


def apply_late_rule(
    results: Sequence[Result], count: set[int], rule: LateRule, roster: Roster | None = None
) -> tuple[list[Result], list[str], int]:
    """Subtract the cost of late days from the points.

    The free days of a student go to the exercises that are due first. An exercise whose points the
    instructor decided is left as it is, and takes no free days. The time is that of the notebook
    that counts: the instructor's statement, or else the platform's. Times of files are those
    of a download or of the student's computer, and are not used.

    Args:
        results: The result of every submission.
        count: The numbers of those that count.
        rule: The rule.
        roster: Who is in the class.

    Returns:
        The results, each late one with a remark; what is wrong or not known; and the number of
        notebooks whose time is not known, and which are taken to be in time.

    Example:
        >>> apply_late_rule([], set(), LateRule({}))
        ([], [], 0)
    """
    problems: list[str] = []
    stated: dict[tuple[str, str], datetime] = {}
    labels = student_labels(results)
    for entry in rule.handed_in:
        try:
            student = find_student(entry.student, labels, roster)
            for member in roster.group(student) if roster else [student]:
                stated[member, entry.exercise] = entry.time
        except ValueError as error:
            problems.append(f"handed_in: {error}")
    changed = list(results)
    free: Counter[str] = Counter()  # free days that a student has used
    unknown = 0

    def due(number: int) -> datetime | None:
        graded = results[number].graded
        return rule.due.get(graded.exercise) if graded is not None else None

    dates = {number: date for number in count if (date := due(number)) is not None}
    for number, date in sorted(dates.items(), key=lambda item: (item[1], item[0])):
        submission, graded = results[number].submission, results[number].graded
        if graded is None or graded.adjusted is not None or submission.path.name == "":
            continue
        time = stated.get((submission.student, graded.exercise))
        time = time or parse_time(submission.handed_in, date.tzinfo)
        if time is None and submission.late:
            problems.append(
                f"{submission.student}, {graded.exercise}: the platform says that it was late, but "
                "not when it was handed in; state the time under handed_in"
            )
        if time is None:
            unknown += submission.late is None
            continue
        days = math.ceil((time - date) / DAY)
        if days <= 0:
            continue
        left = rule.free_days - free[submission.student]
        used = min(days, left)
        free[submission.student] += used
        points = rule.points(graded.points, days - used)
        remark = f"{_days(days)} late, {used} of them free"
        if days > used:
            off = min(100, (days - used) * rule.percent_per_day)
            remark = f"{remark}: {points} points, {off:g} % less than {short(graded.points)}"
        graded = replace(graded, adjusted=points, remarks=[*graded.remarks, remark])
        changed[number] = replace(results[number], graded=graded)
    return changed, problems, unknown


def _days(number: int) -> str:
    return f"{number} day" + ("" if number == 1 else "s")
