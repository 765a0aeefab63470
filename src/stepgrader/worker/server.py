"""The process in the sandbox that imports torch once and forks for every step.

Each fork reads a request and answers it, until the input ends. Both are framed: eight bytes of
length, then JSON; in an answer, a line of JSON and after it what the student's process wrote, byte
for byte and unread. The clean process never holds a byte of a request, because a later fork could
find it in freed memory, be it a hidden input or another student's code.
"""

from __future__ import annotations

import gc
import json
import os
import select
import signal
import time
from typing import Any

import torch

from . import OWN_CELL, hardening
from .calls import describe_error, run_case

__all__ = ["run_step", "serve"]

MAX_OUTPUT = 4 * 2**20
MEMORY = 2**30  # that an answer may use beside what python and torch take
NO_MORE = 2


def serve(*, isolated: bool) -> None:
    r"""Answer requests from standard input, on standard output, until there are no more.

    Args:
        isolated: False runs code without isolation, on the machine of whoever wrote it.

    Example:
        >>> import subprocess, sys
        >>> code = "from stepgrader.worker.server import serve; serve(isolated=False)"
        >>> subprocess.check_output([sys.executable, "-c", code], stdin=subprocess.DEVNULL)
        b'\x00\x00\x00\x00\x00\x00\x00\x05ready'
    """
    requests, answers = os.dup(0), os.dup(1)
    null = os.open(os.devnull, os.O_RDWR)
    for stream in (0, 1):
        os.dup2(null, stream)
    torch.set_num_threads(1)
    _warm_up_torch()
    memory = hardening.address_space() + MEMORY if isolated else None
    gc.collect()
    gc.freeze()
    _write(answers, b"ready")
    while True:
        process = os.fork()
        if process == 0:
            try:
                if (request := _read(requests)) is None:
                    os._exit(NO_MORE)
                _write(answers, _supervise(json.loads(request), memory))
                os._exit(0)
            finally:
                os._exit(1)
        _, status = os.waitpid(process, 0)
        if os.WIFEXITED(status) and os.WEXITSTATUS(status) == NO_MORE:
            return
        if status != 0:
            _write(answers, b'{"end": "fault"}\n')


def _warm_up_torch() -> None:
    """Let torch load its lazy parts once, and not in every fork."""
    weight = torch.ones(1, requires_grad=True)
    torch.autograd.backward(weight.tanh().sum())
    torch.optim.SGD([weight], lr=0.1).step()
    repr(weight)


def _supervise(request: dict[str, Any], memory: int | None) -> bytes:
    """Run a step in a child that this process outlives, and return the answer's frame."""
    if memory is not None:
        hardening.enter_namespaces()
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            os.setsid()  # a signal to its process group reaches beyond its namespace
            for stream in (0, 1):  # the null device
                os.dup2(0, stream)
            os.dup2(writer, 3)
            os.closerange(4, 4096)
            if memory is not None:
                hardening.lock_down(bytes_of_memory=memory, cpu_seconds=request["cpu_seconds"])
            os.dup2(0, 2)
            run_step(request, 3)
        finally:
            os._exit(0)
    os.close(writer)
    try:
        output, end = _collect(reader, time.monotonic() + request["wall_seconds"])
    finally:
        os.kill(child, signal.SIGKILL)
    _, status, usage = os.wait4(child, 0)
    if end is None:
        spent = usage.ru_utime + usage.ru_stime
        killed = os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGKILL
        end = "time" if killed and spent > request["cpu_seconds"] - 1 else "ended"
        if not output:  # not even the line that is written before the student's code begins
            end = "fault"
    return json.dumps({"end": end}).encode() + b"\n" + output


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


def run_step(request: dict[str, Any], output: int) -> None:
    """Run the cells and call the answer on every case; write lines of JSON as it goes.

    The lines name the cell that begins to run, then the answer that begins to be called. The last
    one holds ``outcomes``, as ``run_case`` returns them; or ``failed``, the error of the answer's
    own cell; or ``undefined``.

    Example:
        >>> reader, writer = os.pipe()
        >>> case = {"inputs": {"x": 1.5}, "gradients": []}
        >>> answer = "def floor(x): return math.floor(x)"
        >>> cells = [("setup", "import math"), ("floor-answer", answer)]
        >>> run_step({"cells": cells, "name": "floor", "cases": [case]}, writer)
        >>> os.close(writer)
        >>> with open(reader) as file:
        ...     print(file.read(), end="")
        {"at": "setup"}
        {"at": "floor-answer"}
        {"calls": "floor"}
        {"outcomes": [{"returned": 1, "arguments": {"x": 1.5}}]}
    """

    def write_line(**line: Any) -> None:
        os.write(output, json.dumps(line).encode() + b"\n")

    def write_all(data: bytes) -> None:
        while data:
            data = data[os.write(output, data) :]

    namespace: dict[str, Any] = {"__name__": "__main__"}
    *earlier, (own_id, own) = request["cells"]
    for cell_id, source in earlier:
        write_line(at=cell_id)
        try:
            exec(compile(source, f"{OWN_CELL} {cell_id}>", "exec"), namespace)
        except BaseException:  # reported by its own step
            continue
    write_line(at=own_id)
    try:
        exec(compile(own, f"{OWN_CELL} {own_id}>", "exec"), namespace)
    except BaseException as error:
        write_line(failed=describe_error(error))
        return
    if request["name"] not in namespace:
        write_line(undefined=request["name"])
        return
    answer = namespace[request["name"]]
    write_line(calls=request["name"])
    try:
        outcomes = [run_case(answer, case) for case in request["cases"]]
        written = json.dumps({"outcomes": outcomes}).encode()
    except BaseException as error:  # such as KeyboardInterrupt, or a type whose name raises
        write_line(failed=describe_error(error))
        return
    write_all(written + b"\n")


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
