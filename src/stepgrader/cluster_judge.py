"""The process that grades notebooks for a worker of a Dask cluster."""

from __future__ import annotations

import functools
import json
from collections.abc import Sequence
from importlib.util import find_spec
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from stepgrader.compiled import Compiled
from stepgrader.pool import serve
from stepgrader.sandbox import Sandbox
from stepgrader.tasks import GradingTask

__all__ = ["installed_folders", "main"]

IDLE_SECONDS = 600  # then it ends: the machine that asked may be gone


def main(descriptor: int) -> None:
    """Grade what the worker sends: first the settings of the sandbox, then notebooks.

    A notebook comes with the digest of its exercise, and the first of an exercise with its data.

    Args:
        descriptor: Descriptor of the connection to the worker.

    Example:
        >>> import multiprocessing, subprocess, sys
        >>> ours, theirs = multiprocessing.Pipe()
        >>> code = f"from stepgrader.cluster_judge import main; main({theirs.fileno()})"
        >>> process = subprocess.Popen([sys.executable, "-c", code], pass_fds=[theirs.fileno()])
        >>> limits = {"cpu_seconds": 5, "wall_seconds": 30}
        >>> ours.send_bytes(json.dumps({**limits, "hidden": [], "packages": []}).encode())
        >>> ours.recv_bytes()
        b'{"ready": true}'
        >>> process.kill()
        >>> process.wait()
        -9
    """
    connection = Connection(descriptor)
    settings = json.loads(connection.recv_bytes())
    hidden = [*map(Path, settings["hidden"]), *installed_folders(settings["packages"])]
    make_sandbox = functools.partial(
        Sandbox,
        cpu_seconds=settings["cpu_seconds"],
        wall_seconds=settings["wall_seconds"],
        hidden=hidden,
    )
    exercises: dict[str, Compiled] = {}

    def find_task(message: Any) -> GradingTask:
        name = message["exercise"]
        if message["data"] is not None:
            exercises[name] = Compiled.from_data(json.loads(message["data"]))
        return GradingTask(exercises[name], message["notebook"])

    serve(connection, find_task, make_sandbox, idle_seconds=IDLE_SECONDS)


def installed_folders(packages: Sequence[str]) -> list[Path]:
    """Return the folders of packages that are installed here; nothing for those that are not.

    Example:
        >>> [folder.name for folder in installed_folders(["stepgrader", "no_such_package"])]
        ['stepgrader']
    """
    specs = [spec for name in packages if (spec := find_spec(name)) is not None]
    return [Path(path) for spec in specs for path in spec.submodule_search_locations or ()]
