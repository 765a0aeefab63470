"""What a worker of a Dask cluster does for the grader.

The worker's own process never looks at what a submission returns: that could end it. It passes each
notebook on to a process that grades (``cluster_judge``), and has as many of them as it grades
notebooks at once. They are programs of their own, not forks, because the worker's process has
threads, and because a worker that a nanny started may have no children of ``multiprocessing``.
"""

from __future__ import annotations

import contextlib
import json
import multiprocessing
import subprocess
import sys
import threading
import time
import zlib
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from distributed import Worker, WorkerPlugin, get_worker

from stepgrader.cluster import ClusterError, differing_versions
from stepgrader.compiled import versions
from stepgrader.pool import EndedEarlyError, GradingProcess, Outcome
from stepgrader.sandbox import NoSandboxError

__all__ = ["Judges", "grade"]

STARTS = 3  # attempts to start a process that grades
PROGRAM = "import sys; from stepgrader.cluster_judge import main; main(int(sys.argv[1]))"


def grade(batch: str, exercise: str, notebook: bytes) -> tuple[str, Outcome]:
    """Grade a notebook on the worker that runs this.

    Args:
        batch: Name under which the worker has the ``Judges`` of the batch.
        exercise: Digest of the notebook's exercise.
        notebook: The notebook, as JSON.

    Returns:
        Address of the worker, and the outcome.

    Example:
        >>> import pickle
        >>> pickle.loads(pickle.dumps(grade)) is grade  # Dask sends it by its name
        True
    """
    judges = get_worker().plugins[batch]
    assert isinstance(judges, Judges)
    return judges.worker, judges.grade(exercise, notebook)


@dataclass
class _Judge:
    """A process that grades, whether it has a sandbox, and the exercises that it has."""

    process: GradingProcess
    program: subprocess.Popen[bytes]
    ready: bool = False
    exercises: set[str] = field(default_factory=set)


class Judges(WorkerPlugin):
    """What a worker has for one batch: the exercises, and processes that grade.

    Args:
        exercises: The exercises as compressed JSON, by their digests.
        settings: The settings of sandboxes, as ``cluster_judge`` takes them.
        expected: The versions of the machine that asks; see ``compiled.versions``.

    Example:
        >>> judges = Judges({}, {"cpu_seconds": 5}, expected={"torch": "2.13.0"})
        >>> judges.worker  # until a worker has it
        ''
    """

    def __init__(
        self,
        exercises: Mapping[str, bytes],
        settings: Mapping[str, Any],
        expected: Mapping[str, str],
    ):
        self.worker = ""
        self._exercises = dict(exercises)
        self._settings = dict(settings)
        self._expected = dict(expected)

    def setup(self, worker: Worker) -> None:
        """Start to grade on a worker."""
        self.worker = worker.address
        self._differing = differing_versions(self._expected, versions())
        self._lock = threading.Lock()
        self._ended = False
        self._idle: list[_Judge] = []
        self._busy: list[_Judge] = []

    def teardown(self, worker: Worker) -> None:
        """End all processes, at the end of the batch or of the worker."""
        with self._lock:
            self._ended = True
            for judge in self._busy:  # the thread that waits for it does the rest
                judge.program.kill()
            while self._idle:
                self._idle.pop().process.stop()

    def grade(self, exercise: str, notebook: bytes) -> Outcome:
        """Grade a notebook, in a thread of the worker.

        Raises:
            ClusterError: The worker has other versions than the machine that asks.
            NoSandboxError: Submissions can't be run on the worker.
        """
        if self._differing:
            raise ClusterError(f"worker {self.worker} has other versions: {self._differing}")
        for _ in range(STARTS - 1):
            with contextlib.suppress(EndedEarlyError):  # somebody may have killed it
                return self._grade(exercise, notebook)
        return self._grade(exercise, notebook)

    def _grade(self, exercise: str, notebook: bytes) -> Outcome:
        judge = self._take()
        try:
            if not judge.ready:
                judge.process.wait_until_ready()
                judge.ready = True
            began = time.monotonic()
            data = None
            if exercise not in judge.exercises:
                data = zlib.decompress(self._exercises[exercise]).decode()
            judge.process.send(
                {"exercise": exercise, "data": data, "notebook": json.loads(notebook)}
            )
            outcome = judge.process.receive()
            judge.exercises.add(exercise)
            return replace(outcome, seconds=time.monotonic() - began)
        except NoSandboxError as error:
            raise type(error)(f"worker {self.worker}: {error}") from None
        finally:
            self._give_back(judge)

    def _take(self) -> _Judge:
        """Return a process that is idle, or else a new one."""
        with self._lock:
            judge = self._idle.pop() if self._idle else self._start()
            if judge.program.poll() is not None:  # it has ended because it was idle for long
                judge.process.stop()
                judge = self._start()
            self._busy.append(judge)
            if self._ended:
                judge.program.kill()
        return judge

    def _give_back(self, judge: _Judge) -> None:
        with self._lock:
            self._busy.remove(judge)
            if not self._ended and judge.program.poll() is None:
                self._idle.append(judge)
                return
        judge.process.stop()

    def _start(self) -> _Judge:
        connection, other = multiprocessing.Pipe()
        program = subprocess.Popen(
            [sys.executable, "-P", "-c", PROGRAM, str(other.fileno())],
            stdin=subprocess.DEVNULL,
            pass_fds=[other.fileno()],
            start_new_session=True,  # an interrupt is for the worker, which then ends this
        )
        other.close()
        judge = _Judge(GradingProcess(connection, kill=program.kill, end=program.wait), program)
        judge.process.send(self._settings)
        return judge
