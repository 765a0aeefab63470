"""The process in the sandbox that takes requests and supervises the code that runs for them.

Requests and answers are framed: eight bytes of length, then the content. A request is a line of
JSON with the limits and after it a JSON list of what ``runner.run_step`` takes; an answer is a line
of JSON and after it what the student's process wrote, byte for byte and unread. This process holds
them and never forks again: ``runner``, which forks for every request, holds none of them. There are
two such processes: at the first request that mentions optimizers, one of them imports torch's.
"""

from __future__ import annotations

import contextlib
import json
import os
import select
import signal
import socket
import struct
import sys
import time
import traceback

__all__ = ["ENDED", "LIMIT", "serve"]

# What a request holds whose code may use torch's optimizers. A wrong guess costs a second.
OPTIMIZERS = b"optim"

MAX_OUTPUT = 4 * 2**20
LIMIT = struct.Struct("I")
"""Message with the pipes of a step: the seconds of processor time that it may use."""
ENDED = struct.Struct("id")
"""Message about a child that ended: its exit status and its processor time in seconds."""


def serve(*, proc: int | None, imitated: bool = False) -> None:
    r"""Answer requests from standard input, on standard output, until there are no more.

    Args:
        proc: File descriptor of ``/proc``, which isolating an answer takes; None runs code without
            isolation, on the machine of its author.
        imitated: Whether, without isolation, Python refuses what isolation would refuse.

    Example:
        >>> import subprocess, sys
        >>> code = "from stepgrader.worker.server import serve; serve(proc=None)"
        >>> subprocess.check_output([sys.executable, "-c", code], stdin=subprocess.DEVNULL)
        b'\x00\x00\x00\x00\x00\x00\x00\x05ready'
    """
    requests, answers = os.dup(0), os.dup(1)
    null = os.open(os.devnull, os.O_RDWR)
    for stream in (0, 1):
        os.dup2(null, stream)
    (plain, other), (optimizers, others) = socket.socketpair(), socket.socketpair()
    if os.fork() == 0:
        for descriptor in (requests, answers, null, plain.detach(), optimizers.detach()):
            os.close(descriptor)
        _be_the_runner(other, others, proc=proc, imitated=imitated)
    other.close()
    others.close()
    if proc is not None:
        os.close(proc)
    _wait_until_ready(plain)
    _write(answers, b"ready")
    started = False
    while (request := _read(requests)) is not None:
        control = optimizers if OPTIMIZERS in request else plain
        if control is optimizers and not started:
            optimizers.sendall(b"s")
            _wait_until_ready(optimizers)
            started = True
        _write(answers, _supervise(control, request))


def _wait_until_ready(control: socket.socket) -> None:
    if control.recv(5) != b"ready":
        sys.exit("the process that runs answers has ended")


def _be_the_runner(
    control: socket.socket, optimizers: socket.socket, *, proc: int | None, imitated: bool
) -> None:
    try:
        from . import runner  # it imports torch

        runner.run_forks(control, proc=proc, optimizers=optimizers, imitated=imitated)
    except BaseException:
        traceback.print_exc()
        os._exit(1)
    os._exit(0)


def _supervise(control: socket.socket, request: bytes) -> bytes:
    """Run a step in a child of the runner, and return the answer's frame."""
    head, _, body = request.partition(b"\n")
    limits = json.loads(head)
    source, feed = os.pipe()
    reader, output = os.pipe()
    socket.send_fds(control, [LIMIT.pack(limits["cpu_seconds"])], [source, output])
    os.close(source)
    os.close(output)
    with contextlib.suppress(BrokenPipeError), open(feed, "wb") as file:
        file.write(body)
    written, end = _collect(reader, time.monotonic() + limits["wall_seconds"])
    os.close(reader)
    control.sendall(b"k")
    status, spent = ENDED.unpack(control.recv(ENDED.size))
    if end is None:
        killed = os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGKILL
        end = "time" if killed and spent > limits["cpu_seconds"] - 1 else "ended"
        if not written:  # not even the line that is written before the student's code begins
            end = "fault"
    return json.dumps({"end": end}).encode() + b"\n" + written


def _collect(reader: int, deadline: float) -> tuple[bytes, str | None]:
    output = bytearray()
    while True:
        ready, _, _ = select.select([reader], [], [], max(0, deadline - time.monotonic()))
        if not ready:
            return bytes(output), "clock"
        part = os.read(reader, 2**16)
        if not part:
            return bytes(output), None
        output += part
        if len(output) > MAX_OUTPUT:
            return b"", "output"


def _read(source: int) -> bytes | None:
    if (header := _read_exactly(source, 8)) is None:
        return None
    return _read_exactly(source, int.from_bytes(header))


def _read_exactly(source: int, count: int) -> bytes | None:
    data = bytearray()
    while len(data) < count:
        part = os.read(source, min(2**20, count - len(data)))
        if not part:
            return None
        data += part
    return bytes(data)


def _write(target: int, content: bytes) -> None:
    data = len(content).to_bytes(8) + content
    while data:
        data = data[os.write(target, data) :]
