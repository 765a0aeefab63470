"""Compare what it costs to grade a notebook with ``seqbook grade`` and with nbgrader.

Both grade the solved notebooks of all exercises, one after another, and run the same checks:
``seqbook grade`` in its sandbox on visible and hidden cases, ``nbgrader autograde`` in a kernel for
each notebook, with the cells ``check(...)`` as its tests, on the visible cases. Each is run on one
and on two copies of the notebooks, in turns. What the second copy adds is what the notebooks cost;
the rest of the first run is start-up. ``seqbook grade`` has its cases stored from a run before, as
in the second batch of a class.

nbgrader is not among the requirements: install it, and this package, into another environment.
Run this on an idle machine. It writes ``benchmarks/results/grading_throughput.json``:

    OMP_NUM_THREADS=1 python benchmarks/grading_throughput.py --nbgrader OTHER/bin/nbgrader
"""

import argparse
import contextlib
import json
import os
import shutil
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory, TemporaryFile
from typing import Any

import psutil
import torch
from record import RESULTS, benchmark_record, write_record

from seqbook.exercises import COURSE

RESULT = RESULTS / "grading_throughput.json"
SOURCES = Path(__file__).parents[1] / "exercises"
REPETITIONS = 15
INTERVAL = 0.02  # seconds between two readings of the processor time
ASSIGNMENT = "exercises"
STUDENTS = ("ada", "bob")
SEED = 1


def processor_seconds(command: Sequence[str], folder: Path) -> float:
    """Run a command and return the processor time of all its processes.

    A process that is killed, as a sandbox is, never reports its time to its parent, so this looks
    again and again while they run.
    """
    environment = os.environ | {
        "PATH": f"{Path(command[0]).parent}{os.pathsep}{os.environ['PATH']}",  # nbgrader's alembic
        "OMP_NUM_THREADS": "1",
        "OPENBLAS_NUM_THREADS": "1",
    }
    most = 0.0
    with TemporaryFile("w+", encoding="utf-8") as messages:
        root = psutil.Popen(command, cwd=folder, env=environment, stdout=messages, stderr=messages)
        while root.poll() is None:
            most = max(most, _seconds_of(root))
            time.sleep(INTERVAL)
        if root.returncode != 0:
            messages.seek(0)
            raise RuntimeError(f"{command}: exited with {root.returncode}: {messages.read()}")
    return most


def _seconds_of(root: psutil.Process) -> float:
    total = 0.0
    with contextlib.suppress(psutil.NoSuchProcess):
        for process in [root, *root.children(recursive=True)]:
            with contextlib.suppress(psutil.NoSuchProcess):
                times = process.cpu_times()
                total += times.user + times.system + times.children_user + times.children_system
    return total


def solved(name: str) -> dict[str, Any]:
    """Return the solved notebook of an exercise, without what it shows beside the checks."""
    notebook = json.loads((SOURCES / name / f"{name}.ipynb").read_text(encoding="utf-8"))
    graded = ("setup", "checker")
    notebook["cells"] = [
        cell
        for cell in notebook["cells"]
        if cell["cell_type"] == "code"
        and (cell["id"] in graded or cell["id"].endswith(("-answer", "-check")))
    ]
    return notebook


def for_nbgrader(name: str) -> dict[str, Any]:
    """Return the solved notebook with answers and checks marked as nbgrader's."""
    notebook = solved(name)
    for cell in notebook["cells"]:
        kind = cell["id"].rpartition("-")[2]
        if kind in ("answer", "check"):
            cell["metadata"]["nbgrader"] = {
                "schema_version": 3,
                "grade_id": cell["id"],
                "solution": kind == "answer",
                "locked": kind == "check",
                "grade": kind == "check",
                "task": False,
                **({"points": 1} if kind == "check" else {}),
            }
    return notebook


def write_notebooks(folder: Path, make: Callable[[str], dict[str, Any]], student: str) -> None:
    """Write the notebooks of a student, which differ from those of any other."""
    folder.mkdir(parents=True)
    for name in COURSE.order:
        notebook = make(name)
        notebook["metadata"]["student"] = student
        (folder / f"{name}.ipynb").write_text(json.dumps(notebook), encoding="utf-8")


class Seqbook:
    """``seqbook grade``, with one sandbox."""

    name = "seqbook"

    def __init__(self, folder: Path):
        self._folder = folder
        for students in (1, 2):
            for student in STUDENTS[:students]:
                write_notebooks(folder / f"in-{students}" / student, solved, student)
            self.grade(students)  # stores the cases

    def grade(self, students: int) -> float:
        """Grade the notebooks of so many students, and return the processor time."""
        out = self._folder / f"out-{students}"
        shutil.rmtree(out / "results", ignore_errors=True)
        code = "import sys; from seqbook.cli import main; sys.exit(main())"
        command = [sys.executable, "-c", code, "grade", f"in-{students}", "--out", str(out)]
        command += ["--jobs", "1", "--seed", str(SEED), "--exercises", str(SOURCES)]
        return processor_seconds(command, self._folder)


class Nbgrader:
    """``nbgrader autograde``, which runs one kernel after another."""

    name = "nbgrader"

    def __init__(self, folder: Path, program: Path):
        self._folder = folder
        self._program = str(program)
        for students in (1, 2):
            course = folder / f"course-{students}"
            write_notebooks(course / "source" / ASSIGNMENT, for_nbgrader, "author")
            (course / "nbgrader_config.py").write_text(
                "c = get_config()\nc.CourseDirectory.root = '.'\n"
                "c.ExecutePreprocessor.timeout = 600\n"
            )
            for student in STUDENTS[:students]:
                write_notebooks(course / "submitted" / student / ASSIGNMENT, for_nbgrader, student)
            command = [self._program, "generate_assignment", ASSIGNMENT, "--create", "--force"]
            processor_seconds(command, course)

    def grade(self, students: int) -> float:
        """Grade the notebooks of so many students, and return the processor time."""
        course = self._folder / f"course-{students}"
        shutil.rmtree(course / "autograded", ignore_errors=True)
        command = [self._program, "autograde", ASSIGNMENT, "--create", "--force"]
        return processor_seconds(command, course)


def main() -> None:
    """Measure both in turns, print and save."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--nbgrader", type=Path, required=True, metavar="PROGRAM")
    parser.add_argument("--repetitions", type=int, default=REPETITIONS)
    parser.add_argument("--result", type=Path, default=RESULT)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    program = arguments.nbgrader.absolute()
    version = subprocess.run([program, "--version"], capture_output=True, text=True, check=True)
    notebooks = len(COURSE.order)
    runs = []
    with TemporaryDirectory() as ours, TemporaryDirectory() as theirs:
        graders: list[Seqbook | Nbgrader] = [
            Seqbook(Path(ours)),
            Nbgrader(Path(theirs), program),
        ]
        for repetition in range(arguments.repetitions):
            for grader in graders if repetition % 2 else reversed(graders):
                one, two = grader.grade(1), grader.grade(2)
                run: dict[str, float | str | int] = {
                    "grader": grader.name,
                    "seconds_per_notebook": round((two - one) / notebooks, 4),
                    "start_seconds": round(2 * one - two, 4),
                }
                print(*run.values(), flush=True)
                runs.append(run)
    medians = {
        grader.name: statistics.median(
            float(run["seconds_per_notebook"]) for run in runs if run["grader"] == grader.name
        )
        for grader in graders
    }
    ratio = medians["nbgrader"] / medians["seqbook"]
    print(f"seconds per notebook: {medians}, {ratio:.1f} times the throughput")
    given = ["--nbgrader", "OTHER/bin/nbgrader"]
    record = benchmark_record(
        __file__,
        given,
        repetitions=arguments.repetitions,
        notebooks=notebooks,
        nbgrader=version.stdout.strip().splitlines()[-1],
        seconds_per_notebook=medians,
        ratio=round(ratio, 2),
        runs=runs,
    )
    write_record(record, arguments.result)


if __name__ == "__main__":
    main()
