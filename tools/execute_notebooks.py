"""Re-execute notebooks and write them in their normal form.

The normal form keeps what a reader sees and drops what varies between runs: cells keep their
ids, execution counts start at 1, no timings, no kernel version. Running the tool twice changes
nothing. A notebook with a failing cell, or one slower than the bound that its metadata states
to the reader, is left as it was.

Usage: python tools/execute_notebooks.py NOTEBOOK [NOTEBOOK ...]
"""

import asyncio
import os
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import nbformat
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError, CellTimeoutError, DeadKernelError

CELL_TIMEOUT_SECONDS = 120
KERNEL = {"display_name": "Python 3", "language": "python", "name": "python3"}


class NotebookError(Exception):
    """A notebook could not be brought into its normal form."""


def normalise(notebook: nbformat.NotebookNode) -> nbformat.NotebookNode:
    """Drop from an executed notebook whatever varies between runs, in place."""
    notebook.metadata.kernelspec = KERNEL
    notebook.metadata.language_info = {"name": "python"}
    code_cells = [cell for cell in notebook.cells if cell.cell_type == "code"]
    for count, cell in enumerate(code_cells, start=1):
        cell.execution_count = count
        for name in ("execution", "collapsed", "scrolled", "ExecuteTime"):
            cell.metadata.pop(name, None)
        for output in cell.outputs:
            if "execution_count" in output:
                output.execution_count = count
    return notebook


def run(path: Path) -> tuple[nbformat.NotebookNode, float]:
    """Execute one notebook within the bound it states; return its normal form and the seconds."""
    try:
        notebook = nbformat.reads(path.read_text(encoding="utf-8"), as_version=4)
    except (OSError, nbformat.reader.NotJSONError) as error:
        raise NotebookError(f"{path}: expected a notebook: {error}") from error
    try:
        bound = notebook.metadata["seqbook"]["runs_within_seconds"]
    except KeyError:
        raise NotebookError(
            f'{path}: expected metadata {{"seqbook": {{"runs_within_seconds": N}}}}, found none'
        ) from None
    client = NotebookClient(
        notebook,
        timeout=CELL_TIMEOUT_SECONDS,
        kernel_name=KERNEL["name"],
        resources={"metadata": {"path": str(path.parent)}},
        record_timing=False,
        coalesce_streams=True,  # where the kernel cuts its output depends on the clock
        extra_arguments=["--log-level=40"],  # errors only: the kernel warns about plain TCP
    )
    start = time.monotonic()
    try:
        asyncio.run(client.async_execute())  # `execute` leaves its event loop open
    except (CellExecutionError, CellTimeoutError, DeadKernelError) as error:
        raise NotebookError(f"{path}: {error}") from error
    seconds = time.monotonic() - start
    if seconds > bound:
        raise NotebookError(
            f"{path}: took {seconds:.0f} s, but tells its reader under {bound} s "
            "(metadata seqbook.runs_within_seconds)"
        )
    return normalise(notebook), seconds


def execute(path: Path) -> str:
    """Execute one notebook, write it if its content changed, and return a line that says so."""
    notebook, seconds = run(path)
    after = nbformat.writes(notebook) + "\n"
    if after == path.read_text(encoding="utf-8"):
        return f"{path}: unchanged, {seconds:.0f} s"
    with tempfile.NamedTemporaryFile(
        "w", encoding="utf-8", dir=path.parent, suffix=".partial", delete=False
    ) as file:
        file.write(after)
    Path(file.name).chmod(0o644)
    os.replace(file.name, path)
    return f"{path}: written, {seconds:.0f} s"


def main(arguments: list[str]) -> int:
    """Execute the notebooks in parallel; the exit code is 1 if one of them failed."""
    if not arguments:
        print(__doc__, file=sys.stderr)
        return 2
    os.environ.setdefault("OMP_NUM_THREADS", "1")  # as many kernels as cores: one thread each
    with ThreadPoolExecutor(max_workers=os.cpu_count()) as pool:
        runs = [pool.submit(execute, Path(path)) for path in arguments]
    failures = 0
    for run in runs:
        try:
            print(run.result())
        except NotebookError as error:
            failures += 1
            print(error, file=sys.stderr)
    return min(failures, 1)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
