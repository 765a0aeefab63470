"""Refuse in Python what the sandbox refuses: further processes, threads and the network.

A notebook's kernel, and a check on a student's own machine, have no sandbox. There these refusals
let an answer fail as it will when it is graded. They are no protection: code can get around them.
"""

from __future__ import annotations

import _thread
import contextlib
import errno
import multiprocessing.process
import multiprocessing.synchronize
import os
import socket
import subprocess
import threading
from collections.abc import Callable, Iterator, Sequence
from typing import Any

__all__ = ["NO_PROCESS", "NO_THREAD", "build_walls", "refuse_silent_failures", "walls"]

NO_THREAD = "can't start new thread"
"""The message of Python where no thread can be started."""
NO_PROCESS = "Operation not permitted"
"""The message of the system where it allows no further process and no network."""

PROCESSES = ("fork", "forkpty", "posix_spawn", "posix_spawnp", "execv", "execve")
Refused = tuple[Any, str, Callable[[], Exception]]


def _thread_error() -> Exception:
    return RuntimeError(NO_THREAD)


def _process_error() -> Exception:
    return PermissionError(errno.EPERM, NO_PROCESS)


# What fails in the sandbox without an error, or with one that does not say why.
SILENT: list[Refused] = [
    (os, "system", _process_error),
    (multiprocessing.synchronize.SemLock, "__init__", _process_error),
]
REFUSED: list[Refused] = [
    *SILENT,
    (threading.Thread, "start", _thread_error),
    (_thread, "start_new_thread", _thread_error),
    (multiprocessing.process.BaseProcess, "start", _process_error),
    (subprocess.Popen, "__init__", _process_error),
    (socket.socket, "__init__", _process_error),
    *((os, name, _process_error) for name in PROCESSES if hasattr(os, name)),
]


@contextlib.contextmanager
def walls() -> Iterator[None]:
    """Refuse what the sandbox refuses, to the thread that calls this.

    Example:
        >>> with walls():
        ...     threading.Thread(target=print).start()
        Traceback (most recent call last):
        ...
        RuntimeError: can't start new thread
    """
    own = threading.get_ident()
    before = [(owner, name, vars(owner)[name]) for owner, name, _ in REFUSED]
    try:
        _refuse(REFUSED, lambda: threading.get_ident() == own)
        yield
    finally:
        for owner, name, function in before:
            setattr(owner, name, function)
        del threading.Timer.start


def build_walls() -> None:
    """Refuse what the sandbox refuses, from now on.

    Example:
        >>> import sys
        >>> code = "from stepgrader.worker.walls import build_walls; build_walls(); "
        >>> code += "import os; os.fork()"
        >>> done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
        >>> done.stderr.splitlines()[-1]
        'PermissionError: [Errno 1] Operation not permitted'
    """
    _refuse(REFUSED)


def refuse_silent_failures() -> None:
    """Let what fails in the sandbox raise an error that says why.

    Example:
        >>> import sys
        >>> code = "from stepgrader.worker.walls import refuse_silent_failures as refuse; "
        >>> code += "refuse(); import os; os.system('true')"
        >>> done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
        >>> done.stderr.splitlines()[-1]
        'PermissionError: [Errno 1] Operation not permitted'
    """
    _refuse(SILENT)


def _refuse(functions: Sequence[Refused], applies: Callable[[], bool] = lambda: True) -> None:
    for owner, name, error in functions:
        setattr(owner, name, _refusal(getattr(owner, name), error, applies))
    # matplotlib starts a timer to warn that its first import is slow, which need not fail.
    setattr(threading.Timer, "start", _refusal(threading.Thread.start, None, applies))  # noqa: B010


def _refusal(
    function: Callable[..., Any],
    error: Callable[[], Exception] | None,
    applies: Callable[[], bool],
) -> Callable[..., Any]:
    def refusal(*args: Any, **options: Any) -> Any:
        if not applies():
            return function(*args, **options)
        if error is not None:
            raise error()
        return None

    return refusal
