"""The clean process that imports torch once and forks for every request.

It never holds a byte of a request or of an answer, because a later fork could find it in freed
memory, be it a hidden input or another student's code. The child alone reads its request and
writes its answer, on pipes that ``server`` sends for it.
"""

from __future__ import annotations

import gc
import json
import os
import signal
import socket
import sys
import tempfile
import traceback
from typing import Any

import torch

from . import MODULE, OWN_CELL, hardening
from .calls import describe_error, run_case
from .cells import add_module, new_namespace, run_cell
from .process_state import original_libraries, seed_generators, usual_settings
from .server import ENDED, LIMIT
from .walls import build_walls, refuse_silent_failures

__all__ = ["run_forks", "run_step"]

# That an answer may use beside what python and torch take, and beside its files.
MEMORY = 2**30 - hardening.FILE_SPACE


def run_forks(
    control: socket.socket,
    *,
    proc: int | None,
    optimizers: socket.socket | None = None,
    imitated: bool = False,
) -> None:
    """Fork for every pair of pipes that comes, until no more come.

    Args:
        control: Brings the pipes of a step, for the request and for the answer, and then a byte
            when its child is to be killed.
        optimizers: The same for a second clean process, which imports torch's optimizers too. It
            does so when a first byte comes, and then says that it is ready. None if there is none.
        proc: File descriptor of ``/proc``, which isolating a fork takes; None forks without
            isolation, on the machine of its author.
        imitated: Whether, without isolation, Python refuses what isolation would refuse.

    Raises:
        OSError: The system does not allow the isolation.

    Example:
        >>> import subprocess, sys
        >>> ours, theirs = socket.socketpair()
        >>> code = "import socket, sys; from stepgrader.worker.runner import run_forks; "
        >>> code += "run_forks(socket.socket(fileno=int(sys.argv[1])), proc=None)"
        >>> command = [sys.executable, "-c", code, str(theirs.fileno())]
        >>> with theirs, subprocess.Popen(command, pass_fds=[theirs.fileno()]) as process:
        ...     word = ours.recv(5)
        ...     ours.close()
        >>> word, process.returncode
        (b'ready', 0)
    """
    torch.set_num_threads(1)
    torch.set_num_threads = torch.set_num_interop_threads = _keep_one_thread
    torch.compile = _uncompiled
    original_libraries()
    _warm_up_torch()
    _settle_memory(proc)
    if optimizers is not None:
        if os.fork() == 0:
            control.close()
            control = optimizers
            if not control.recv(1):
                return
            _warm_up_optimizers()
            _settle_memory(proc)
        else:
            optimizers.close()
    memory = None if proc is None else hardening.address_space() + MEMORY
    if proc is not None:
        _try_isolation(proc)
    control.sendall(b"ready")
    while True:
        message, pipes, _, _ = socket.recv_fds(control, LIMIT.size, 2)
        if not message:
            return
        child = os.fork() if proc is None else _fork_isolated(proc)
        if child == 0:
            try:
                (cpu_seconds,) = LIMIT.unpack(message)
                _run_child(*pipes, memory=memory, cpu_seconds=cpu_seconds, imitated=imitated)
            finally:
                os._exit(0)
        for pipe in pipes:
            os.close(pipe)
        asked = control.recv(1)
        os.kill(child, signal.SIGKILL)
        _, status, usage = os.wait4(child, 0)
        if not asked:
            return
        control.sendall(ENDED.pack(status, usage.ru_utime + usage.ru_stime))


def _fork_isolated(proc: int) -> int:
    uid, gid = os.getuid(), os.getgid()
    child = hardening.fork_apart()
    if child == 0:
        try:
            hardening.mount_files(hardening.FILES, proc=proc, uid=uid, gid=gid)
            os.close(proc)
        except BaseException:
            traceback.print_exc()
            os._exit(1)
    return child


def _try_isolation(proc: int) -> None:
    """Raise an error now if the system does not allow it, and not with the first answer."""
    child = _fork_isolated(proc)
    if child == 0:
        os._exit(0)
    if os.waitpid(child, 0)[1] != 0:
        sys.exit("an answer's process can't be isolated")


def _run_child(
    source: int, output: int, *, memory: int | None, cpu_seconds: int, imitated: bool
) -> None:
    os.setsid()  # a signal to its process group reaches beyond its namespace
    with open(source, "rb", closefd=False) as file:
        request = json.loads(file.read())
    for stream in (0, 1):  # the null device
        os.dup2(0, stream)
    os.dup2(output, 3)
    os.closerange(4, 4096)
    if memory is not None:
        refuse_silent_failures()
        hardening.lock_down(bytes_of_memory=memory, cpu_seconds=cpu_seconds)
    else:
        os.chdir(tempfile.mkdtemp())
        if imitated:
            build_walls()
    tempfile.tempdir = os.getcwd()
    os.dup2(0, 2)
    namespace = new_namespace()
    for step in request:
        run_step(step, 3, namespace)


def _uncompiled(model: Any = None, **_options: Any) -> Any:
    """Replace ``torch.compile``: its compiler needs processes and files, which a sandbox lacks.

    A function computes the same without being compiled.
    """
    return model if model is not None else lambda function: function


def _keep_one_thread(nthreads: int) -> None:
    """Replace ``torch.set_num_threads``: a sandbox may start no threads, so torch would crash."""


def _settle_memory(proc: int | None) -> None:
    """Let forks share what there is, and copy little of it."""
    gc.collect()
    gc.freeze()
    if proc is not None:
        hardening.use_huge_pages(proc=proc)


def _warm_up_optimizers() -> None:
    """Let torch load what its optimizers need, which takes about a second."""
    weight = torch.ones(1, requires_grad=True)
    torch.autograd.backward(weight.sum())
    torch.optim.SGD([weight]).step()


def _warm_up_torch() -> None:
    """Let torch load its lazy parts once, and not in every fork.

    Its optimizers are left out: they import much more, which few answers need.
    """
    weight = torch.ones(1, requires_grad=True)
    torch.autograd.backward(weight.tanh().sum())
    torch._check(True)
    repr(weight)


def run_step(request: dict[str, Any], output: int, namespace: dict[str, Any]) -> None:
    """Run the cells and call the answer on every case; write lines of JSON as it goes.

    Every cell begins with the usual settings of torch and NumPy, and so does every call. The answer
    finds the functions of libraries as they were before the first cell. A cell whose id begins with
    ``MODULE`` is a module that the others may import.

    The lines name the cell that begins to run, then the answer that begins to be called. The last
    one holds ``outcomes``, as ``run_case`` returns them; or ``failed``, the error of the answer's
    own cell if it does not come to define the answer; or ``undefined``.

    Args:
        request: The ``cells`` as pairs of id and source, the answer's last; the ``name`` of the
            answer; and the ``cases``, as ``run_case`` takes them.
        output: File descriptor that the lines are written to.
        namespace: The names that earlier cells have defined, to which these add theirs.

    Example:
        >>> reader, writer = os.pipe()
        >>> case = {"inputs": {"x": 1.5}, "gradients": []}
        >>> answer = "def floor(x): return math.floor(x)"
        >>> cells = [("setup", "import math"), ("floor-answer", answer)]
        >>> request = {"cells": cells, "name": "floor", "cases": [case]}
        >>> run_step(request, writer, new_namespace())
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

    error: BaseException | None = None
    for cell_id, source in request["cells"]:  # the last one is the answer's
        write_line(at=cell_id)
        with usual_settings():
            if cell_id.startswith(MODULE):
                add_module(cell_id.removeprefix(MODULE), source)
            else:
                error = run_cell(source, f"{OWN_CELL} {cell_id}>", namespace)
    if request["name"] not in namespace:
        if error is not None:
            write_line(failed=describe_error(error))
        else:
            write_line(undefined=request["name"])
        return
    answer = namespace[request["name"]]
    write_line(calls=request["name"])
    try:
        original_libraries().restore()
        seed_generators()
        outcomes = [run_case(answer, case) for case in request["cases"]]
        written = json.dumps({"outcomes": outcomes}).encode()
    except BaseException as error:  # such as KeyboardInterrupt, or a type whose name raises
        write_line(failed=describe_error(error))
        return
    write_all(written + b"\n")
