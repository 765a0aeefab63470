"""Processes that grade notebooks, each with a sandbox of its own.

A submission may return values that exhaust the process which compares them. So the batch never
looks at the output of a sandbox: these processes do, under limits, and when one of them dies the
batch learns which notebook it was grading.
"""

from __future__ import annotations

import contextlib
import json
import multiprocessing
import signal
import sys
import time
import traceback
import warnings
from collections import deque
from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass, replace
from multiprocessing.connection import Connection, wait
from typing import Any

from stepgrader.differences import printable
from stepgrader.grader import Graded, SandboxFaultError
from stepgrader.sandbox import NoSandboxError, Sandbox
from stepgrader.worker.hardening import die_with_parent

__all__ = ["Outcome", "grade_in_processes", "report_exception"]

Task = Callable[[Sandbox], Graded]


@dataclass(frozen=True)
class Outcome:
    """The outcome of grading one notebook.

    Args:
        graded: The grade; None if there is none.
        problem: Why there is none.
        killed: Whether the process that graded the notebook died of it.
        seconds: How long it took.

    Example:
        >>> outcome = Outcome(None, "the process that graded it was ended by SIGKILL", killed=True)
        >>> outcome.graded is None
        True
    """

    graded: Graded | None
    problem: str | None = None
    killed: bool = False
    seconds: float = 0.0


def grade_in_processes(
    tasks: Sequence[Task],
    make_sandbox: Callable[[], Sandbox],
    *,
    jobs: int,
    skip: Callable[[int], bool] = lambda task: False,
) -> Generator[tuple[int, Outcome], None, None]:
    """Grade notebooks in several processes, and yield each outcome as soon as it is known.

    Args:
        tasks: For each notebook, a function that grades it in a sandbox.
        make_sandbox: Makes the sandbox of a process.
        jobs: Number of processes.
        skip: Says, when it is the turn of the task with this number, whether to leave it out.

    Yields:
        Number of the task, and its outcome.

    Raises:
        NoSandboxError: Submissions can't be run here.

    Example:
        >>> import functools
        >>> tasks = [lambda sandbox: Graded("lstm", "The LSTM", steps=[])]
        >>> make_sandbox = functools.partial(Sandbox, isolated=False)
        >>> for task, outcome in grade_in_processes(tasks, make_sandbox, jobs=2):
        ...     print(task, outcome.graded.title)
        0 The LSTM
    """
    waiting = deque(range(len(tasks)))
    processes: dict[Any, _Process] = {}  # by their connections

    def start() -> None:
        process = _Process(tasks, make_sandbox)
        processes[process.connection] = process

    try:
        for _ in range(min(jobs, len(tasks))):
            start()
        while processes:
            for connection in wait(list(processes)):
                process = processes[connection]
                outcome = process.receive()
                if outcome is not None and process.task is not None:
                    yield process.task, replace(outcome, seconds=process.seconds)
                while waiting and skip(waiting[0]):
                    waiting.popleft()
                if waiting and (outcome is None or not outcome.killed):
                    process.send(waiting.popleft())
                    continue
                del processes[connection]
                process.stop()
                if waiting:
                    start()
    finally:
        for process in processes.values():
            process.stop()


class _Process:
    """One process, seen from the batch."""

    def __init__(self, tasks: Sequence[Task], make_sandbox: Callable[[], Sandbox]):
        # A fork, so that the exercises need not be compiled again. The child calls no torch.
        context = multiprocessing.get_context("fork")
        self.connection, other = context.Pipe()
        self.task: int | None = None
        self._began = time.monotonic()
        self._process = context.Process(
            target=_serve, args=(other, tasks, make_sandbox), daemon=True
        )
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "This process .* is multi-threaded", Warning)
            self._process.start()
        other.close()

    @property
    def seconds(self) -> float:
        """How long ago the present task began."""
        return time.monotonic() - self._began

    def send(self, task: int) -> None:
        """Let the process grade a notebook."""
        self.task = task
        self._began = time.monotonic()
        with contextlib.suppress(OSError):  # if it has died, receive says so
            self.connection.send_bytes(json.dumps(task).encode())

    def receive(self) -> Outcome | None:
        """Return the outcome of the present task, or None from a process that is ready for one."""
        try:
            message: dict[str, Any] = json.loads(self.connection.recv_bytes())
        except (EOFError, OSError):
            self._process.join()
            if self.task is None:
                raise NoSandboxError(f"a process of the grader {self._end()}") from None
            return Outcome(None, f"the process that graded it {self._end()}", killed=True)
        if "ready" in message:
            return None
        if "no sandbox" in message:
            raise NoSandboxError(message["no sandbox"])
        if message["graded"] is None:
            return Outcome(None, message["problem"])
        return Outcome(Graded.from_data(message["graded"]))

    def stop(self) -> None:
        """End the process, its sandbox, and whatever runs in there."""
        self._process.kill()
        self._process.join()
        self.connection.close()

    def _end(self) -> str:
        code = self._process.exitcode or 0
        return f"was ended by {signal.Signals(-code).name}" if code < 0 else f"exited with {code}"


def _serve(
    connection: Connection, tasks: Sequence[Task], make_sandbox: Callable[[], Sandbox]
) -> None:
    """Grade what is asked for until the batch ends this process."""
    die_with_parent()
    # An interrupt is for the batch, which then ends us. (To ignore it would be inherited.)
    signal.signal(signal.SIGINT, lambda *_: None)

    def send(**message: Any) -> None:
        connection.send_bytes(json.dumps(message).encode())

    try:
        sandbox = make_sandbox()
    except NoSandboxError as error:
        send(**{"no sandbox": str(error)})
        return
    send(ready=True)
    while True:
        task = tasks[json.loads(connection.recv_bytes())]
        graded, problem = None, None
        try:
            graded = task(sandbox).as_data()
        except SandboxFaultError as error:
            problem = str(error)
        except Exception as error:  # of one submission; the others are graded all the same
            problem = report_exception(error)
        send(graded=graded, problem=problem)


def report_exception(error: Exception) -> str:
    r"""Print the traceback of an exception in the grader; return what to call it in a report.

    Example:
        >>> import contextlib, io
        >>> with contextlib.redirect_stderr(io.StringIO()) as written:
        ...     report_exception(ValueError("too large"))
        'ValueError in the grader'
        >>> written.getvalue()
        'ValueError: too large\n'
    """
    lines = "".join(traceback.format_exception(error)).splitlines()
    print(*(printable(line, limit=1000) for line in lines), sep="\n", file=sys.stderr)
    return f"{type(error).__name__} in the grader"
