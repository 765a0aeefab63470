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

__all__ = [
    "EndedEarlyError",
    "GradingProcess",
    "Outcome",
    "grade_in_processes",
    "report_exception",
    "serve",
]

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
    processes: dict[Any, _Running] = {}  # by their connections

    def start() -> None:
        process = _fork(tasks, make_sandbox)
        processes[process.connection] = _Running(process)

    try:
        for _ in range(min(jobs, len(tasks))):
            start()
        while processes:
            for connection in wait(list(processes)):
                running = processes[connection]
                if running.task is None:
                    running.process.wait_until_ready()
                    died = False
                else:
                    outcome = running.process.receive()
                    seconds = time.monotonic() - running.began
                    yield running.task, replace(outcome, seconds=seconds)
                    died = outcome.killed
                while waiting and skip(waiting[0]):
                    waiting.popleft()
                if waiting and not died:
                    running.task, running.began = waiting.popleft(), time.monotonic()
                    running.process.send(running.task)
                    continue
                del processes[connection]
                running.process.stop()
                if waiting:
                    start()
    finally:
        for running in processes.values():
            running.process.stop()


@dataclass
class _Running:
    """A process of the batch, the task that it works on, and since when."""

    process: GradingProcess
    task: int | None = None
    began: float = 0.0


def _fork(tasks: Sequence[Task], make_sandbox: Callable[[], Sandbox]) -> GradingProcess:
    """Start a process by a fork, so that it has the tasks already. The child calls no torch."""
    context = multiprocessing.get_context("fork")
    connection, other = context.Pipe()
    process = context.Process(
        target=serve, args=(other, tasks.__getitem__, make_sandbox), daemon=True
    )
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "This process .* is multi-threaded", Warning)
        process.start()
    other.close()

    def end() -> int:
        process.join()
        return process.exitcode or 0

    return GradingProcess(connection, kill=process.kill, end=end)


class EndedEarlyError(NoSandboxError):
    """A process of the grader ended before it had a sandbox.

    Example:
        >>> raise EndedEarlyError("a process of the grader was ended by SIGTERM")
        Traceback (most recent call last):
        ...
        stepgrader.pool.EndedEarlyError: a process of the grader was ended by SIGTERM
    """


class GradingProcess:
    """A process that runs ``serve``, seen from the one that started it.

    Args:
        connection: The connection to it.
        kill: Ends the process, if it has not ended.
        end: Waits for its end and returns its exit code, which is negative after a signal.

    Example:
        >>> context = multiprocessing.get_context("fork")
        >>> ours, theirs = context.Pipe()
        >>> theirs.send_bytes(b'{"ready": true}')
        >>> theirs.send_bytes(b'{"graded": null, "problem": "the sandbox failed"}')
        >>> process = GradingProcess(ours, kill=lambda: None, end=lambda: 0)
        >>> process.wait_until_ready()
        >>> process.send({"a": "notebook"})
        >>> process.receive().problem
        'the sandbox failed'
    """

    def __init__(self, connection: Connection, *, kill: Callable[[], None], end: Callable[[], int]):
        self.connection = connection
        self._kill = kill
        self._end = end

    def wait_until_ready(self) -> None:
        """Wait until the process has a sandbox.

        Raises:
            EndedEarlyError: It ended before.
            NoSandboxError: It can have none here.
        """
        try:
            message: dict[str, Any] = json.loads(self.connection.recv_bytes())
        except (EOFError, OSError):
            raise EndedEarlyError(f"a process of the grader {self._how_it_ended()}") from None
        if "no sandbox" in message:
            raise NoSandboxError(message["no sandbox"])

    def send(self, task: Any) -> None:
        """Let the process grade a notebook, given what its ``find_task`` takes."""
        with contextlib.suppress(OSError):  # if it has died, receive says so
            self.connection.send_bytes(json.dumps(task).encode())

    def receive(self) -> Outcome:
        """Wait for the outcome of what was sent, and return it without its time."""
        try:
            message: dict[str, Any] = json.loads(self.connection.recv_bytes())
        except (EOFError, OSError):
            problem = f"the process that graded it {self._how_it_ended()}"
            return Outcome(None, problem, killed=True)
        if message["graded"] is None:
            return Outcome(None, message["problem"])
        return Outcome(Graded.from_data(message["graded"]))

    def stop(self) -> None:
        """End the process, its sandbox, and whatever runs in there."""
        self._kill()
        self._end()
        self.connection.close()

    def _how_it_ended(self) -> str:
        code = self._end()
        return f"was ended by {signal.Signals(-code).name}" if code < 0 else f"exited with {code}"


def serve(
    connection: Connection,
    find_task: Callable[[Any], Task],
    make_sandbox: Callable[[], Sandbox],
    *,
    idle_seconds: float | None = None,
) -> None:
    """Grade what is asked for until the process that started this one ends it.

    Args:
        connection: The connection to that process.
        find_task: Returns the task that a message means.
        make_sandbox: Makes the sandbox of this process.
        idle_seconds: How long to wait for the next task; None to wait without limit.

    Example:
        >>> context = multiprocessing.get_context("fork")
        >>> ours, theirs = context.Pipe()
        >>> import functools
        >>> make_sandbox = functools.partial(Sandbox, isolated=False)
        >>> tasks = [lambda sandbox: Graded("lstm", "The LSTM", steps=[])]
        >>> arguments = theirs, tasks.__getitem__, make_sandbox
        >>> process = context.Process(target=serve, args=arguments)
        >>> process.start()
        >>> ours.recv_bytes()
        b'{"ready": true}'
        >>> ours.send_bytes(b"0")
        >>> json.loads(ours.recv_bytes())["graded"]["title"]
        'The LSTM'
        >>> process.kill()
        >>> process.join()
    """
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
    while connection.poll(idle_seconds):
        message = json.loads(connection.recv_bytes())
        graded, problem = None, None
        try:
            graded = find_task(message)(sandbox).as_data()
        except SandboxFaultError as error:
            problem = str(error)
        except Exception as error:  # of one submission; the others are graded all the same
            problem = report_exception(error)
        send(graded=graded, problem=problem)
    sandbox.close()


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
