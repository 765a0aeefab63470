"""Records of benchmarks: the results, with all that is needed to measure them again."""

from __future__ import annotations

import json
import platform
import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from seqbook.training.profiling import processor_name

RESULTS = Path(__file__).parent / "results"


def benchmark_record(script: str, arguments: Sequence[str] = (), **contents: Any) -> dict[str, Any]:
    """Return a record of a measurement: command, machine, versions, threads, then the contents.

    Args:
        script: Path of the benchmark, its ``__file__``.
        arguments: Its command line.
        contents: Settings and results, of what JSON can hold.
    """
    command = shlex.join(["python", f"benchmarks/{Path(script).name}", *arguments])
    return {
        "command": f"OMP_NUM_THREADS={torch.get_num_threads()} {command}",
        "machine": f"{processor_name()}, {torch.backends.cpu.get_cpu_capability()}",
        "versions": {
            "python": platform.python_version(),
            "torch": torch.__version__,
            "numpy": np.__version__,
        },
        "threads": torch.get_num_threads(),
        **contents,
    }


def write_record(record: dict[str, Any], path: Path) -> None:
    """Write a record as JSON, making its folder if there is none."""
    path.parent.mkdir(parents=True, exist_ok=True)
    text = json.dumps(record, indent=1, ensure_ascii=False)
    path.write_text(text + "\n", encoding="utf-8")


def record_so_far(path: Path, settings: dict[str, Any]) -> dict[str, Any]:
    """Return a record that was begun, to go on where it stopped; an empty one if there is none.

    Args:
        path: Where the record is, or will be.
        settings: The settings of all its runs.

    Raises:
        ValueError: The record was made with other settings.
    """
    if not path.exists():
        return {}
    record = json.loads(path.read_text(encoding="utf-8"))
    if record["settings"] != json.loads(json.dumps(settings)):
        raise ValueError(f"{path}: made with other settings; delete it, or choose another --output")
    return record
