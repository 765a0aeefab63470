"""Points of all exercises of a class together."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from typing import TYPE_CHECKING, Any

from stepgrader.marks import short, total

if TYPE_CHECKING:
    from stepgrader.batch import Result
    from stepgrader.exercises import Exercise
    from stepgrader.grader import Graded

__all__ = ["StudentTotal", "Totals", "total_rows"]


@dataclass
class StudentTotal:
    """All that one student earned.

    Args:
        student: The student, as in all tables.
        graded: The grade that counts, by exercise; without those that were not handed in.
        complete: False if something could not be graded, through the fault of the grader.

    Example:
        >>> StudentTotal("ada").complete
        True
    """

    student: str
    graded: dict[str, Graded] = field(default_factory=dict)
    complete: bool = True

    def points(self, exercise: str) -> float | None:
        """Points of an exercise: 0 if it was not handed in, None if that is not sure."""
        if exercise in self.graded:
            return self.graded[exercise].points
        return 0 if self.complete else None


@dataclass
class Totals:
    """The points of every student of a class.

    Args:
        out_of: Points that each exercise can earn, by its name, in the order of the columns.
        students: The students, in the order of the rows.

    Example:
        >>> totals = Totals({"lstm": 11}, [StudentTotal("ada")])
        >>> list(total_rows(totals))[1]
        ('ada', 0, 0, 11, 0, '')
    """

    out_of: dict[str, int]
    students: list[StudentTotal]

    @classmethod
    def of(
        cls,
        results: Sequence[Result],
        count: set[int],
        exercises: Mapping[str, Exercise],
        assigned: Sequence[str] | None = None,
        order: Sequence[str] = (),
    ) -> Totals:
        """Add up the results that count.

        Args:
            results: The result of every submission.
            count: The numbers of those that count.
            exercises: All exercises, by name, in the order of the course.
            assigned: Names of the exercises to add up (default: those that anybody has points for).
            order: The students whose rows come first.
        """
        students = {
            student: StudentTotal(student)
            for student in (*order, *(result.submission.student for result in results))
        }
        for number, result in enumerate(results):
            row = students[result.submission.student]
            if result.grader_fault:
                row.complete = False
            elif result.graded is not None and number in count:
                row.graded[result.graded.exercise] = result.graded
        if assigned is None:
            done = {name for row in students.values() for name in row.graded}
            assigned = [name for name in exercises if name in done]
        out_of = {
            name: sum(heading.points for heading in exercises[name].headings.values())
            for name in assigned
        }
        return cls(out_of, list(students.values()))


def total_rows(totals: Totals) -> Iterator[Sequence[Any]]:
    """Yield the rows of the table of totals, the heading first.

    Where a notebook could not be graded, points are empty instead of too low.

    Example:
        >>> list(total_rows(Totals({"lstm": 11}, [])))
        [('student', 'lstm', 'total', 'out_of', 'share', 'remark')]
    """
    yield "student", *totals.out_of, "total", "out_of", "share", "remark"
    out_of = sum(totals.out_of.values())
    for row in totals.students:
        points = [row.points(exercise) for exercise in totals.out_of]
        known = [number for number in points if number is not None]
        whole = len(known) == len(points) and row.complete
        remarks = [
            f"{exercise}: {remark}"
            for exercise in totals.out_of
            if exercise in row.graded
            for remark in row.graded[exercise].remarks
        ]
        if not row.complete:
            remarks.append("a notebook could not be graded; run the same command again")
        yield (
            row.student,
            *("" if number is None else number for number in points),
            total(known) if whole else "",
            out_of,
            short(Fraction(str(total(known))) / out_of, 4) if whole and out_of else "",
            "; ".join(remarks),
        )
