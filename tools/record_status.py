"""Run notebooks one after the other and record what the page on their status shows.

The record holds, for each notebook, the seconds that it took, its code cells and the claims that
held, and once for all the machine and the versions. A notebook whose claims are no longer those
that it stores is refused: execute it first.

Usage: python tools/record_status.py [NOTEBOOK ...]

Without notebooks all are run. With some, only their entries are replaced, in a record of the same
machine and versions. A notebook that fails keeps the entry it has.
"""

import datetime
import json
import os
import platform
import sys
from importlib.metadata import version
from pathlib import Path

ROOT = Path(__file__).parents[1]
sys.path.append(str(Path(__file__).parent / "sphinx"))

from execute_notebooks import NotebookError, run  # noqa: E402
from stored_notebooks import code_cells, read_notebook, stored_claims  # noqa: E402

from seqbook.training.profiling import processor_name  # noqa: E402

RECORD = ROOT / "book" / "status.json"
PACKAGES = ("torch", "numpy", "matplotlib")


def notebooks(root: Path = ROOT) -> list[Path]:
    """Return the notebooks that the record covers, chapters first."""
    return [*sorted(root.glob("book/*.ipynb")), *sorted(root.glob("exercises/*/*.ipynb"))]


def surroundings() -> dict:
    """Return what the times depend on besides the notebooks."""
    return {
        "processor": processor_name(),
        "cores": os.cpu_count(),
        "threads": int(os.environ["OMP_NUM_THREADS"]),
        "system": f"{platform.system()} {platform.machine()}",
        "versions": {
            "Python": platform.python_version(),
            **{name: version(name) for name in PACKAGES},
        },
    }


def record(path: Path) -> dict:
    """Run one notebook and return its entry."""
    stored = read_notebook(path)
    executed, seconds = run(path)
    claims = stored_claims(executed)
    if claims != stored_claims(stored):
        raise NotebookError(f"{path}: prints other claims than it stores, run 'make notebooks'")
    return {
        "seconds": round(seconds, 1),
        "bound": stored["metadata"]["seqbook"]["runs_within_seconds"],
        "code_cells": len(code_cells(stored)),
        "claims": len(claims),
        "recorded": datetime.date.today().isoformat(),
    }


def main(arguments: list[str]) -> int:
    """Record some notebooks or all; the exit code is 1 if one of them failed."""
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    entries, current = {}, surroundings()
    if RECORD.is_file():
        before = json.loads(RECORD.read_text(encoding="utf-8"))
        entries = before.pop("notebooks")
        if before != current:
            if arguments:
                print(f"expected a record of {current}, got {before}: record all", file=sys.stderr)
                return 1
            entries = {}
    order = [path.relative_to(ROOT).as_posix() for path in notebooks()]
    failures = 0
    for path in map(Path, arguments) if arguments else notebooks():
        name = path.resolve().relative_to(ROOT).as_posix()
        try:
            entries[name] = record(path)
        except NotebookError as error:
            failures += 1
            print(error, file=sys.stderr)
            continue
        print(name, entries[name], flush=True)
        ordered = {name: entries[name] for name in order if name in entries}
        text = json.dumps({**current, "notebooks": ordered}, indent=1, ensure_ascii=False) + "\n"
        RECORD.write_text(text, encoding="utf-8")
    return min(failures, 1)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
