"""Grade a folder of submissions."""

from __future__ import annotations

import contextlib
import functools
import hashlib
import json
import sys
import tempfile
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from tqdm import tqdm

from stepgrader.atomic_files import write_whole
from stepgrader.cluster import grade_on_cluster
from stepgrader.compiled import (
    AuthoredExercises,
    CompiledExercises,
    ExerciseError,
    grader_digest,
)
from stepgrader.gradebook import find_student
from stepgrader.grader import Graded
from stepgrader.marks import SHARES
from stepgrader.pool import Outcome, grade_in_processes, report_exception
from stepgrader.roster import Roster
from stepgrader.sandbox import CPU_SECONDS, WALL_SECONDS, Sandbox
from stepgrader.submissions import (
    Submission,
    UnreadableError,
    code_of,
    find,
    identify,
    read,
    read_notebook,
)
from stepgrader.tasks import GradingTask

__all__ = ["Result", "grade_folder"]

MAX_NOTEBOOKS = 50
STUDENT_SECONDS = 600  # for all notebooks of one student together; then the others go on
NO_TIME = "earlier notebooks used up the time allowed for one student"


@dataclass(frozen=True)
class Result:
    """The result of one submission.

    Args:
        submission: The file, and whose it is.
        graded: The grade; None if there is none.
        problem: Why there is none.
        grader_fault: Whether that is the fault of the grader, and not of the file.
        before: The stored result, if there was one and the notebook was graded again all the same.

    Example:
        >>> Result(Submission("ada", Path("ada/lstm.ipynb")), None, "it is not JSON").grader_fault
        False
    """

    submission: Submission
    graded: Graded | None
    problem: str | None = None
    grader_fault: bool = False
    before: Outcome | None = None


@dataclass(frozen=True)
class _Readable:
    """A submission that was read: its code, and a digest of what its result depends on."""

    task: GradingTask
    digest: str


def grade_folder(
    folder: Path,
    out: Path,
    exercises: AuthoredExercises,
    *,
    seed: int,
    jobs: int,
    scheduler: str | None = None,
    cpu_seconds: int = CPU_SECONDS,
    wall_seconds: int = WALL_SECONDS,
    hidden: Sequence[Path] = (),
    roster: Roster | None = None,
    marks: str = SHARES,
    regrade: Iterable[str] = (),
) -> list[Result]:
    """Grade all notebooks in a folder, and store each result as soon as it is known.

    A stored result is used again unless the notebook, its exercise, the seed or the grader has
    changed. The result depends on nothing else: not on other submissions, nor on ``jobs``, nor on
    whether a cluster grades. If the process that grades a notebook dies of it, that is stored too,
    so that the notebook is set aside and doesn't stop this batch or the next. A result that the
    clock had a part in is not stored: on a machine that is less busy it may be better.

    The first notebook of every student is graded before the second of any, and a student whose
    notebooks have taken ``STUDENT_SECONDS`` waits no longer for the rest of them.

    Args:
        folder: Folder of submissions, or a zip of it; see ``submissions.find``.
        out: Folder for the results, which are stored in ``results``.
        exercises: The exercises that may be handed in.
        seed: Seed of the hidden cases.
        jobs: Number of sandboxes that run at once. Each takes 0.3 GB, and the code in it at most
            1 GB more; to compare its results takes at most 2 GB.
        scheduler: Address of the scheduler of a Dask cluster, whose workers grade instead of this
            machine; their numbers of threads take the place of ``jobs``.
        cpu_seconds: Processor time for a step, once for the visible cases and once for the hidden.
        wall_seconds: Elapsed time for the same.
        hidden: Folders that no submission may read; see ``Sandbox``.
        roster: Who is in the class; see ``submissions.find``.
        marks: ``marks.SHARES`` or ``marks.ALL_OR_NOTHING``. Stored results serve both.
        regrade: Students whose notebooks are graded again although their results are stored.

    Returns:
        A result for every submission, in their order.

    Raises:
        ExerciseError: An exercise that was handed in can't be compiled.
        NoSandboxError: Submissions can't be run here, or on a worker of the cluster.
        ClusterError: The cluster can't grade.
        ValueError: A student to grade again is not in the class.
        OSError: The folder for the results can't be written to.

    Example:
        >>> from tempfile import TemporaryDirectory
        >>> exercises = AuthoredExercises(Path("exercises"), names=[])
        >>> with TemporaryDirectory() as folder, TemporaryDirectory() as out:
        ...     length = Path(folder, "ada.ipynb").write_text("a text, no notebook")
        ...     results = grade_folder(Path(folder), Path(out), exercises, seed=1, jobs=1)
        >>> results[0].submission.student, results[0].problem
        ('ada', 'it is not valid JSON: not a notebook, or damaged')
    """
    out.mkdir(parents=True, exist_ok=True)
    tempfile.TemporaryFile(dir=out).close()  # or raise before the work, and not after it
    compiled = CompiledExercises(exercises, seed, out / "cases")
    settings = json.dumps([grader_digest(), seed, cpu_seconds, wall_seconds])
    cache = _ResultCache(out / "results")
    submissions = list(find(folder, roster))
    labels = {submission.student: submission.student for submission in submissions}
    try:
        again = {find_student(name, labels, roster) for name in regrade}
    except ValueError as error:
        raise ValueError(f"--regrade: {error}") from None
    before: dict[int, Outcome] = {}
    results: dict[int, Result] = {}
    pending: list[tuple[int, int, _Readable]] = []  # with the number among those of the student
    counts: Counter[str] = Counter()
    seconds: dict[str, float] = defaultdict(float)
    stored = 0
    for number, submission in enumerate(submissions):
        counts[submission.student] += 1
        try:
            if counts[submission.student] > MAX_NOTEBOOKS:  # it would keep the others waiting
                raise UnreadableError(
                    f"only the first {MAX_NOTEBOOKS} notebooks of a student are read"
                )
            readable = _read(submission, compiled, settings)
        except UnreadableError as error:
            results[number] = Result(submission, None, str(error))
            continue
        except ExerciseError:
            raise
        except Exception as error:  # of one submission; the others are graded all the same
            problem = report_exception(error)
            results[number] = Result(submission, None, problem, grader_fault=True)
            continue
        outcome = cache.find(readable)
        if outcome is not None and submission.student in again:
            before[number] = outcome
            pending.append((counts[submission.student], number, readable))
        elif outcome is not None:
            results[number] = _result(submission, outcome)
            stored += 1
        else:
            pending.append((counts[submission.student], number, readable))
    pending.sort(key=lambda item: item[:2])
    if stored:
        print(
            f"{stored} of {len(submissions)} have stored results and were not graded again.",
            file=sys.stderr,
        )
    tasks = [readable.task for _, _, readable in pending]

    def has_no_time(task: int) -> bool:
        return seconds[submissions[pending[task][1]].student] > STUDENT_SECONDS

    if scheduler is None:
        sandbox = functools.partial(
            Sandbox, cpu_seconds=cpu_seconds, wall_seconds=wall_seconds, hidden=hidden
        )
        grading = grade_in_processes(tasks, sandbox, jobs=jobs, skip=has_no_time)
    else:
        grading = grade_on_cluster(
            tasks,
            scheduler,
            cpu_seconds=cpu_seconds,
            wall_seconds=wall_seconds,
            hidden=hidden,
            skip=has_no_time,
        )
    with (
        tqdm(
            total=len(submissions), initial=len(results), unit="notebook", disable=None
        ) as progress_bar,
        contextlib.closing(grading) as outcomes,
    ):
        for task, outcome in outcomes:
            _, number, readable = pending[task]
            seconds[submissions[number].student] += outcome.seconds
            if outcome.killed or (outcome.graded is not None and not outcome.graded.by_clock):
                outcome = cache.store(readable, outcome)
            elif number in before:  # the clock or a fault of the grader had a part in the new one
                outcome = before[number]
            results[number] = _result(submissions[number], outcome)
            progress_bar.update()
    for _, number, _ in pending:
        if number in before:
            results.setdefault(number, _result(submissions[number], before[number]))
        if number not in results:
            results[number] = Result(submissions[number], None, NO_TIME)
    return [
        replace(_marked(results[number], marks), before=_marked_outcome(before.get(number), marks))
        for number in range(len(submissions))
    ]


def _marked(result: Result, marks: str) -> Result:
    return result if result.graded is None else replace(result, graded=result.graded.marked(marks))


def _marked_outcome(outcome: Outcome | None, marks: str) -> Outcome | None:
    if outcome is None or outcome.graded is None:
        return outcome
    return replace(outcome, graded=outcome.graded.marked(marks))


def _read(submission: Submission, compiled: CompiledExercises, settings: str) -> _Readable:
    content = read(submission)
    file = submission.file or submission.path.name
    notebook = read_notebook(content)
    exercise = compiled[identify(notebook, file, compiled.exercises)]
    name = file.encode(errors="surrogateescape")
    digest = hashlib.sha256(f"{settings} {exercise.digest} ".encode() + name + b"\0" + content)
    return _Readable(GradingTask(exercise, code_of(notebook)), digest.hexdigest())


def _result(submission: Submission, outcome: Outcome) -> Result:
    return Result(submission, outcome.graded, outcome.problem, grader_fault=outcome.graded is None)


class _ResultCache:
    """Stored outcomes, by the digest of everything that they depend on."""

    def __init__(self, folder: Path):
        self._folder = folder

    def find(self, readable: _Readable) -> Outcome | None:
        """Return the outcome that was stored for a submission; None if there is none."""
        with contextlib.suppress(FileNotFoundError, ValueError, KeyError, TypeError):
            data = json.loads(self._path(readable).read_text(encoding="utf-8"))
            if data["graded"] is None:
                return Outcome(None, str(data["problem"]), killed=True)
            return Outcome(Graded.from_data(data["graded"]))
        return None

    def store(self, readable: _Readable, outcome: Outcome) -> Outcome:
        """Store an outcome, and return it with the word of how to undo that."""
        path = self._path(readable)
        if outcome.graded is not None:
            data: dict[str, Any] = {"graded": outcome.graded.as_data()}
        else:
            problem = f"{outcome.problem}, so it is set aside; to try again, remove {path}"
            outcome = Outcome(None, problem, killed=True)
            data = {"graded": None, "problem": problem}
        write_whole(path, json.dumps(data).encode())
        return outcome

    def _path(self, readable: _Readable) -> Path:
        return self._folder / f"{readable.digest}.json"
