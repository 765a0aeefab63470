"""The log of notebooks that were graded again on request."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from stepgrader.atomic_files import write_whole
from stepgrader.tables import as_csv

if TYPE_CHECKING:
    from stepgrader.batch import Result
    from stepgrader.pool import Outcome

__all__ = ["append_regrades"]

COLUMNS = ("time", "student", "exercise", "file", "points_before", "points_after", "changes")


def append_regrades(path: Path, results: Sequence[Result], time: datetime) -> None:
    """Append a row to the log for each result that replaces a stored one.

    Args:
        path: The log, a table in CSV; made if there is none.
        results: The result of every submission.
        time: When they were graded.

    Raises:
        OSError: The log can't be written.

    Example:
        >>> import tempfile
        >>> from stepgrader.batch import Result
        >>> from stepgrader.grader import Graded
        >>> from stepgrader.pool import Outcome
        >>> from stepgrader.submissions import Submission
        >>> graded = Graded("lstm", "The LSTM", [])
        >>> result = Result(Submission("ada", Path("ada.ipynb")), graded, before=Outcome(graded))
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     path = Path(folder, "regrades.csv")
        ...     append_regrades(path, [result], datetime(2026, 12, 1, 10, 0))
        ...     print(path.read_text(encoding="utf-8-sig").splitlines()[-1])
        2026-12-01T10:00:00,ada,lstm,ada.ipynb,0,0,none
    """
    rows = [
        (time.isoformat(timespec="seconds"), *row)
        for result in results
        if result.before is not None
        for row in _row(result, result.before)
    ]
    if not rows:
        return
    table = as_csv([COLUMNS, *rows]).encode()
    if path.exists():
        earlier = path.read_bytes()
        earlier += b"" if earlier.endswith(b"\n") else b"\n"
        table = earlier + table.partition(b"\n")[2]
    write_whole(path, table)


def _row(result: Result, before: Outcome) -> Iterator[Sequence[Any]]:
    old, new = before.graded, result.graded
    graded = new or old
    yield (
        result.submission.student,
        graded.exercise if graded else "",
        result.submission.name,
        old.points if old else "",
        new.points if new else "",
        "; ".join(_changes(before, result)) or "none",
    )


def _changes(before: Outcome, result: Result) -> Iterator[str]:
    was, now = before.graded, result.graded
    if was is None or now is None:
        if was is not now:
            old, new = before.problem or "graded", result.problem or "graded"
            yield f"{old} before, now {new}"
        return
    for old_step, new_step in zip(was.steps, now.steps, strict=True):
        if old_step.verdict != new_step.verdict:
            change = f"{old_step.verdict.status} before, now {new_step.verdict.status}"
            yield f"{new_step.name}: {change}"
