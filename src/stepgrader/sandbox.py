"""Run the code of submissions in a sandbox.

The outer layer is bubblewrap: no network, and a read-only system. Only programs and libraries of
the system and of Python are mounted, and of this package only ``worker``, so that no reference,
hidden case or other submission can be read. In the sandbox, one clean process imports torch and
forks for every request; ``worker.hardening`` says what a fork gives up, and the one folder that it
can write to. A fork was measured to take about 8 ms; a new sandbox that imports torch takes 2 s of
processor time, and 1 s more when the first answer uses an optimizer.
"""

from __future__ import annotations

import contextlib
import json
import os
import select
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from stepgrader.worker.hardening import ARCHITECTURES, FILES

__all__ = ["NoSandboxError", "Reply", "Sandbox"]

CPU_SECONDS = 5
WALL_SECONDS = 30
START_SECONDS = 120
PACKAGE = Path(__file__).parent
WORKER = PACKAGE / "worker"
PYTHON = tuple(dict.fromkeys((sys.prefix, sys.base_prefix)))
SYSTEM = ("/usr", "/usr/local")
MOUNTED = ("bin", "lib", "lib32", "lib64", "pyvenv.cfg")  # of the system and of Python
# Without the current folder and a user's packages. Not -I, which would ignore PYTHONHASHSEED.
SHIELDED = ("-P", "-s")
MAX_REPLY = 2**23
ENVIRONMENT = {  # all that a sandbox has, beside the folders for files
    "PATH": os.defpath,
    "LC_ALL": "C.UTF-8",
    "PYTHONHASHSEED": "0",
    "MPLBACKEND": "agg",
    "OMP_NUM_THREADS": "1",
    "OPENBLAS_NUM_THREADS": "1",
    "MKL_NUM_THREADS": "1",
}


class NoSandboxError(OSError):
    """Submissions can't be run safely on this system, so they are not run at all.

    Example:
        >>> from unittest import mock
        >>> with mock.patch("shutil.which", return_value=None):  # as without bubblewrap
        ...     Sandbox()
        Traceback (most recent call last):
        ...
        stepgrader.sandbox.NoSandboxError: submissions are graded in a sandbox ...
    """


@dataclass(frozen=True)
class Reply:
    r"""The reply of a sandbox.

    Args:
        end: How the process ended: ``ended``, by itself; stopped at the limit of processor
            ``time``, of elapsed time, ``clock``, or of ``output``; or ``fault``, if the sandbox
            failed twice for an unknown reason.
        output: What the process wrote. It is untrusted.

    Example:
        >>> cells = [("wait-answer", "while True: pass")]
        >>> with Sandbox(isolated=False, cpu_seconds=9, wall_seconds=1) as sandbox:
        ...     sandbox.run({"cells": cells, "name": "wait", "cases": []})
        Reply(end='clock', output=b'{"at": "wait-answer"}\n')
    """

    end: str
    output: bytes


class Sandbox:
    """A sandbox that runs one step after another.

    Args:
        isolated: False runs code without isolation: only for one's own code, on one's own machine.
        imitated: Whether, without isolation, an answer is refused further processes, threads and
            the network, as it would be with it. Code can get around that.
        cpu_seconds: Limit on a step's processor time.
        wall_seconds: Limit on a step's elapsed time, which also stops one that only waits.
        hidden: Folders that the code must not read, wherever they are installed. This package is
            always hidden.

    Raises:
        NoSandboxError: Bubblewrap can't be used here.

    Example:
        >>> case = {"inputs": {"x": 2.0}, "gradients": [], "options": None, "state": None}
        >>> cells = [("double-answer", "def double(x): return 2 * x")]
        >>> with Sandbox(isolated=False) as sandbox:
        ...     reply = sandbox.run({"cells": cells, "name": "double", "cases": [case]})
        >>> reply.end
        'ended'
    """

    def __init__(
        self,
        *,
        isolated: bool = True,
        imitated: bool = True,
        cpu_seconds: int = CPU_SECONDS,
        wall_seconds: int = WALL_SECONDS,
        hidden: Sequence[Path] = (),
    ):
        self._limits = {"cpu_seconds": cpu_seconds, "wall_seconds": wall_seconds}
        self._isolated = isolated
        self._folder: tempfile.TemporaryDirectory[str] | None = None
        if not isolated:
            self._folder = tempfile.TemporaryDirectory(ignore_cleanup_errors=True)
        self._command = _isolated_command(hidden) if isolated else _plain_command(imitated)
        self._process: subprocess.Popen[bytes] | None = None
        self._messages: IO[bytes] = tempfile.TemporaryFile()  # noqa: SIM115, closed in close
        self._start()

    def run(self, *requests: dict[str, Any], **limits: int) -> Reply:
        """Run one step, or several in one process.

        Args:
            requests: For each step ``cells``: pairs of id and source, the answer's last; ``name``
                of the function or class; and ``cases``, as ``worker.calls.run_case`` takes them.
                The cells of a later step follow those of the earlier ones.
            limits: Other limits than the sandbox's, by their names.

        Returns:
            The reply, which is a ``fault`` if the sandbox failed twice.
        """
        limits = self._limits | limits
        frame = b"\n".join(json.dumps(part).encode() for part in (limits, requests))
        for _ in range(2):
            with contextlib.suppress(_LostError, BrokenPipeError):
                if self._process is None:
                    self._start()
                return self._exchange(frame, limits["wall_seconds"])
            self._stop()
        return Reply("fault", b"")

    def close(self) -> None:
        """Stop the sandbox and all that runs in it."""
        self._stop()
        if self._folder is not None:
            self._folder.cleanup()
        self._messages.close()

    def __enter__(self) -> Sandbox:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _start(self) -> None:
        self._messages.seek(0)
        self._messages.truncate()
        with _open_proc(self._isolated) as proc:
            self._process = subprocess.Popen(
                [*self._command, *map(str, proc)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=self._messages,
                bufsize=0,
                env=ENVIRONMENT | self._folders(),
                pass_fds=proc,
                start_new_session=True,  # an interrupt is for the grader, which then stops this
            )
        try:
            self._read(time.monotonic() + START_SECONDS)
        except _LostError:
            self._stop()
            self._messages.seek(0)
            message = self._messages.read(2000).decode(errors="replace").strip()
            raise NoSandboxError(
                f"the sandbox does not start: {message}{_advice(message)}"
            ) from None

    def _folders(self) -> dict[str, str]:
        """Return, as a part of the environment, the folders in which answers may write files."""
        names = ("TMPDIR", "TORCHINDUCTOR_CACHE_DIR")
        if self._folder is not None:
            return dict.fromkeys(names, self._folder.name)
        own = {"HOME": FILES, "MPLCONFIGDIR": f"{FILES}/.config/matplotlib"}
        return dict.fromkeys(names, FILES) | own

    def _exchange(self, frame: bytes, wall_seconds: int) -> Reply:
        requests, _ = self._pipes()
        rest = memoryview(len(frame).to_bytes(8) + frame)
        while rest:
            rest = rest[requests.write(rest) :]
        deadline = time.monotonic() + wall_seconds + START_SECONDS
        header, _, output = self._read(deadline).partition(b"\n")
        reply = Reply(json.loads(header)["end"], output)
        if reply.end == "fault":
            raise _LostError
        return reply

    def _pipes(self) -> tuple[IO[bytes], IO[bytes]]:
        """Return the pipes to and from the process."""
        process = self._process
        if process is None or process.stdin is None or process.stdout is None:
            raise _LostError
        return process.stdin, process.stdout

    def _read(self, deadline: float) -> bytes:
        size = int.from_bytes(self._read_exactly(8, deadline))
        if size > MAX_REPLY:
            raise _LostError
        return self._read_exactly(size, deadline)

    def _read_exactly(self, count: int, deadline: float) -> bytes:
        data = bytearray()
        _, replies = self._pipes()
        while len(data) < count:
            ready, _, _ = select.select([replies], [], [], max(0, deadline - time.monotonic()))
            part = replies.read(count - len(data)) if ready else b""
            if not part:
                raise _LostError
            data += part
        return bytes(data)

    def _stop(self) -> None:
        if self._process is not None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self._process.pid, signal.SIGKILL)  # without isolation, there are others
            for pipe in self._pipes():
                pipe.close()
            self._process.wait()
            self._process = None


class _LostError(Exception):
    """The process in the sandbox has ended or does not answer."""


@contextlib.contextmanager
def _open_proc(isolated: bool) -> Iterator[list[int]]:
    """Yield what the isolated process is passed open, since the sandbox does not show it."""
    if not isolated:
        yield []
        return
    proc = os.open("/proc", os.O_PATH)
    try:
        yield [proc]
    finally:
        os.close(proc)


def _plain_command(imitated: bool) -> list[str]:
    code = f"import sys; sys.path.insert(0, {str(WORKER.parent)!r}); from worker import server; "
    code += f"server.serve(proc=None, imitated={imitated})"
    return [sys.executable, *SHIELDED, "-c", code]


def _isolated_command(hidden: Sequence[Path]) -> list[str]:
    bubblewrap = shutil.which("bwrap")
    if sys.platform != "linux" or os.uname().machine not in ARCHITECTURES or not bubblewrap:
        here = f"{sys.platform} on {os.uname().machine}"
        raise NoSandboxError(
            "submissions are graded in a sandbox made by bubblewrap, on Linux, on x86-64 or "
            f"AArch64; this is {here}, " + ("with" if bubblewrap else "without") + " bubblewrap "
            "(Debian and Ubuntu: apt install bubblewrap). Nothing was run."
        )
    as_root = os.getuid() == 0
    code = "import sys; sys.path.insert(0, '/sandbox'); from worker import hardening; "
    code += "hardening.drop_root(); from worker import server; server.serve(proc=int(sys.argv[1]))"
    return [
        bubblewrap,
        *("--unshare-ipc", "--unshare-pid", "--unshare-net", "--unshare-uts"),
        *("--hostname", "sandbox"),
        *("--unshare-cgroup-try", "--die-with-parent", "--new-session"),
        *(
            ("--cap-add", "CAP_SETUID", "--cap-add", "CAP_SETGID")  # to stop being root
            if as_root
            else ("--unshare-user",)
        ),
        *_readable_parents(
            *(f"{prefix}/lib" for prefix in (*SYSTEM, *PYTHON)),
            *("/dev/null", "/etc/ld.so.cache", "/proc/cpuinfo", "/sandbox/worker", f"{FILES}/any"),
        ),
        *_link("/tmp", FILES),
        *(item for top in ("", *SYSTEM) for item in _libraries(top)),
        *("--ro-bind-try", "/etc/ld.so.cache", "/etc/ld.so.cache"),
        *("--ro-bind-try", "/etc/alternatives", "/etc/alternatives"),
        *("--ro-bind", "/proc/cpuinfo", "/proc/cpuinfo"),
        *("--dev-bind", "/dev/null", "/dev/null"),
        *("--dev-bind", "/dev/urandom", "/dev/urandom"),
        *(item for prefix in PYTHON if prefix not in SYSTEM for item in _libraries(prefix)),
        *(option for path in _mounted((PACKAGE, *hidden)) for option in _empty(path)),
        *("--ro-bind", str(WORKER), "/sandbox/worker"),
        *("--remount-ro", "/", "--chdir", "/"),
        *(sys.executable, *SHIELDED, "-B", "-c", code),
    ]


def _link(path: str, target: str) -> tuple[str, ...]:
    """Return the options that make a link, unless Python is mounted there.

    Then there is a read-only folder, with the parents of what is mounted.
    """
    taken = any(Path(prefix).is_relative_to(path) for prefix in PYTHON)
    return () if taken else ("--symlink", target, path)


def _mounted(folders: Iterable[Path]) -> Iterator[str]:
    """Yield where in the sandbox folders would be visible that are installed among libraries."""
    real_paths = dict.fromkeys(folder.resolve() for folder in folders if folder.is_dir())
    for prefix in dict.fromkeys((*SYSTEM, *PYTHON)):
        real_prefix = Path(prefix).resolve()
        for path in real_paths:
            if path.is_relative_to(real_prefix):
                relative = path.relative_to(real_prefix)
                if relative.parts[:1] and relative.parts[0] in MOUNTED:
                    yield str(prefix / relative)


def _empty(path: str) -> tuple[str, ...]:
    """Return the options that show an empty, read-only folder in the place of another."""
    return "--tmpfs", path, "--remount-ro", path


def _libraries(prefix: str) -> Iterator[str]:
    """Yield the options that mount programs and libraries, some of which are links.

    Nothing else is mounted: a course may be in ``/usr/src``, or beside Python in a container.
    """
    for path in (f"{prefix}/{name}" for name in MOUNTED):
        if os.path.islink(path):
            yield from ("--symlink", os.readlink(path), path)
        elif os.path.exists(path):
            yield from ("--ro-bind", path, path)


def _readable_parents(*paths: str) -> Iterator[str]:
    """Yield the options that create parents of mounts, which bubblewrap creates for root alone."""
    for parent in dict.fromkeys(p for path in paths for p in reversed(Path(path).parents)):
        yield from ("--perms", "0755", "--dir", str(parent))


def _advice(message: str) -> str:
    if "ermission denied" in message or "not permitted" in message:
        return (
            "\nThe kernel may forbid user namespaces. On Ubuntu 23.10 and newer: "
            "sudo sysctl kernel.apparmor_restrict_unprivileged_userns=0. Nothing was run."
        )
    return ""
