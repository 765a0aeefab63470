"""Run steps of submissions where they can do no harm.

The outer wall is bubblewrap. In it there is no network, the system is mounted read-only, there is
no folder that can be written to, and of this package there is ``worker`` alone: neither references
nor cases nor other submissions, wherever they lie: of the system and of Python, only programs and
libraries are mounted. One clean process in it imports torch and forks for every step; what a fork
gives up is in ``worker.hardening``. Measured, a fork costs some 20 ms, where a new sandbox that
imports torch costs 2 s of processor time.
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
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from stepgrader.worker.hardening import ARCHITECTURES

__all__ = ["NoSandboxError", "Reply", "Sandbox"]

CPU_SECONDS = 5
WALL_SECONDS = 30
START_SECONDS = 120
WORKER = Path(__file__).parent / "worker"
SYSTEM = ("/usr", "/usr/local")
MAX_REPLY = 2**23


class NoSandboxError(OSError):
    """Submissions can't be run here without risk, so they are not run at all."""


@dataclass(frozen=True)
class Reply:
    """What came out of a sandbox.

    Args:
        end: ``ended``, by itself; or what stopped the process: ``time`` or ``output``; or
            ``fault``, if the sandbox failed, twice, through no fault that we can name.
        output: What the process wrote. Whoever reads it must believe nothing.
    """

    end: str
    output: bytes


class Sandbox:
    """A sandbox that runs one step after the other.

    Args:
        walled: False runs code without any wall: only for one's own, on one's own machine.
        cpu_seconds: Processor time for a step.
        wall_seconds: Time for a step, for those that wait and use no processor.

    Raises:
        NoSandboxError: Bubblewrap can't be used here.
    """

    def __init__(
        self,
        *,
        walled: bool = True,
        cpu_seconds: int = CPU_SECONDS,
        wall_seconds: int = WALL_SECONDS,
    ):
        self._limits = {"cpu_seconds": cpu_seconds, "wall_seconds": wall_seconds}
        self._command = _walled_command() if walled else _plain_command()
        self._process: subprocess.Popen | None = None
        self._messages: IO[bytes] = tempfile.TemporaryFile()  # noqa: SIM115, closed in close
        self._start()

    def run(self, request: dict[str, Any]) -> Reply:
        """Run one step: ``cells``, pairs of id and source, ``name`` and ``cases``."""
        frame = json.dumps(request | self._limits).encode()
        for _ in range(2):
            with contextlib.suppress(_LostError, BrokenPipeError):
                if self._process is None:
                    self._start()
                return self._exchange(frame)
            self._stop()
        return Reply("fault", b"")

    def close(self) -> None:
        """Stop the sandbox and all that runs in it."""
        self._stop()
        self._messages.close()

    def __enter__(self) -> Sandbox:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _start(self) -> None:
        self._messages.seek(0)
        self._messages.truncate()
        self._process = subprocess.Popen(
            self._command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._messages,
            bufsize=0,
            env=_environment(),
            start_new_session=True,  # an interrupt is for the grader, which then stops us
        )
        try:
            self._read(time.monotonic() + START_SECONDS)
        except _LostError:
            self._stop()
            self._messages.seek(0)
            said = self._messages.read(2000).decode(errors="replace").strip()
            raise NoSandboxError(f"the sandbox does not start: {said}{_advice(said)}") from None

    def _exchange(self, frame: bytes) -> Reply:
        rest = memoryview(len(frame).to_bytes(8) + frame)
        while rest:
            rest = rest[self._process.stdin.write(rest) :]
        header, _, output = self._read(
            time.monotonic() + self._limits["wall_seconds"] + START_SECONDS
        ).partition(b"\n")
        reply = Reply(json.loads(header)["end"], output)
        if reply.end == "fault":
            raise _LostError
        return reply

    def _read(self, deadline: float) -> bytes:
        size = int.from_bytes(self._read_exactly(8, deadline))
        if size > MAX_REPLY:
            raise _LostError
        return self._read_exactly(size, deadline)

    def _read_exactly(self, count: int, deadline: float) -> bytes:
        data = bytearray()
        stream = self._process.stdout
        while len(data) < count:
            ready, _, _ = select.select([stream], [], [], max(0, deadline - time.monotonic()))
            part = stream.read(count - len(data)) if ready else b""
            if not part:
                raise _LostError
            data += part
        return bytes(data)

    def _stop(self) -> None:
        if self._process is not None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self._process.pid, signal.SIGKILL)  # without a wall, there are others
            for stream in (self._process.stdin, self._process.stdout):
                stream.close()
            self._process.wait()
            self._process = None


class _LostError(Exception):
    """The process in the sandbox is gone or does not answer."""


def _environment() -> dict[str, str]:
    single = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")
    return {
        "PATH": os.defpath,
        "LC_ALL": "C.UTF-8",
        "PYTHONHASHSEED": "0",
        "TORCHINDUCTOR_CACHE_DIR": "/",  # torch.optim asks for a folder, and does not write to it
    } | single


def _plain_command() -> list[str]:
    code = f"import sys; sys.path.insert(0, {str(WORKER.parent)!r}); from worker import server; "
    return [sys.executable, "-I", "-c", code + "server.serve(walled=False)"]


def _walled_command() -> list[str]:
    bubblewrap = shutil.which("bwrap")
    if sys.platform != "linux" or os.uname().machine not in ARCHITECTURES or not bubblewrap:
        here = f"{sys.platform} on {os.uname().machine}"
        raise NoSandboxError(
            "submissions are graded in a sandbox made by bubblewrap, on Linux, on x86-64 or "
            f"AArch64; this is {here}, " + ("with" if bubblewrap else "without") + " bubblewrap "
            "(Debian and Ubuntu: apt install bubblewrap). Nothing was run."
        )
    python = [sys.prefix, sys.base_prefix]
    packages = [Path(__file__).parent, Path(__file__).parents[1] / "seqbook"]
    # They are not mounted at all, or hidden if they were installed in `python`.
    hidden = [p for p in packages if any(p.is_relative_to(prefix) for prefix in python)]
    as_root = os.getuid() == 0
    code = "import sys; sys.path.insert(0, '/sandbox'); from worker import hardening; "
    code += "hardening.drop_root(); from worker import server; server.serve(walled=True)"
    return [
        bubblewrap,
        *("--unshare-ipc", "--unshare-pid", "--unshare-net", "--unshare-uts"),
        *("--unshare-cgroup-try", "--die-with-parent", "--new-session"),
        *(
            ("--cap-add", "CAP_SETUID", "--cap-add", "CAP_SETGID")  # to stop being root
            if as_root
            else ("--unshare-user",)
        ),
        *_readable_parents(
            *(f"{prefix}/lib" for prefix in (*SYSTEM, *python)),
            *("/dev/null", "/etc/ld.so.cache", "/proc/cpuinfo", "/sandbox/worker"),
        ),
        *(item for top in ("", *SYSTEM) for item in _libraries(top)),
        *("--ro-bind-try", "/etc/ld.so.cache", "/etc/ld.so.cache"),
        *("--ro-bind-try", "/etc/alternatives", "/etc/alternatives"),
        *("--ro-bind", "/proc/cpuinfo", "/proc/cpuinfo"),
        *("--dev-bind", "/dev/null", "/dev/null"),
        *("--dev-bind", "/dev/urandom", "/dev/urandom"),
        *(item for prefix in python if prefix not in SYSTEM for item in _libraries(prefix)),
        *(item for path in hidden for item in ("--tmpfs", str(path), "--remount-ro", str(path))),
        *("--ro-bind", str(WORKER), "/sandbox/worker"),
        *("--remount-ro", "/", "--chdir", "/"),
        *(sys.executable, "-I", "-B", "-c", code),
    ]


def _libraries(prefix: str) -> Iterator[str]:
    """Yield the options that show programs and libraries as they are here: some are links.

    Nothing else is shown: a course may be kept in ``/usr/src``, or beside Python in a container.
    """
    for path in (f"{prefix}/{name}" for name in ("bin", "lib", "lib32", "lib64", "pyvenv.cfg")):
        if os.path.islink(path):
            yield from ("--symlink", os.readlink(path), path)
        elif os.path.exists(path):
            yield from ("--ro-bind", path, path)


def _readable_parents(*paths: str) -> Iterator[str]:
    """Yield the options that make parents of mounts: bubblewrap makes them for root alone."""
    for parent in dict.fromkeys(p for path in paths for p in reversed(Path(path).parents)):
        yield from ("--perms", "0755", "--dir", str(parent))


def _advice(said: str) -> str:
    if "ermission denied" in said or "not permitted" in said:
        return (
            "\nThe kernel may forbid user namespaces. On Ubuntu 23.10 and newer: "
            "sudo sysctl kernel.apparmor_restrict_unprivileged_userns=0. Nothing was run."
        )
    return ""
