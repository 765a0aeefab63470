"""Grade the same hand-ins on one machine and on a Dask cluster, compare, and measure the parts.

The hand-ins are solved notebooks of all exercises in turn, most of them with known mistakes in some
steps. They are graded by ``seqbook grade --jobs``, and by ``seqbook grade --scheduler`` with a
scheduler and as many workers on this machine, one of which is killed when a third is graded. Every
file that the two write must be the same to the byte. Both have the cases stored from a run before,
as in the second batch of a class. Then each part of the work is measured by itself, for a notebook:

- reading: find and read it, and look for a stored result;
- sending: bring it to a worker, which does nothing with it;
- grading: on a worker, with the sandbox;
- collecting: bring the result back and store it;
- writing: tables, summary and the student's pages.

Reading and writing are measured for all hand-ins and for a third of them: the difference gives what
a notebook costs, and the rest, such as the start of Python, is paid once (``once``). The reckoning
for a large class assumes that the workers grade on other machines, each with a
processor for itself, and that this machine sends and collects while they grade.

Run this on an idle machine. It writes ``benchmarks/results/grading_on_cluster.json``:

    OMP_NUM_THREADS=1 python benchmarks/grading_on_cluster.py
"""

import argparse
import contextlib
import json
import os
import pickle
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import psutil
import torch
from distributed import Client, wait
from record import RESULTS, benchmark_record, write_record

from seqbook.exercises import COURSE
from stepgrader.atomic_files import write_whole
from stepgrader.batch import grade_folder
from stepgrader.cluster import grade_on_cluster
from stepgrader.compiled import AuthoredExercises, CompiledExercises
from stepgrader.exercises import Exercise
from stepgrader.sandbox import CPU_SECONDS, WALL_SECONDS
from stepgrader.submissions import code_of, find, identify, read, read_notebook
from stepgrader.tasks import GradingTask

RESULT = RESULTS / "grading_on_cluster.json"
SOURCES = Path(__file__).parents[1] / "exercises"
SEED = 1
SHARE_OF_MISTAKES = 0.3  # of the steps
SAMPLE = 60  # notebooks that are graded a third time, to measure sending, grading and collecting
CLASS = 10_000
CLUSTERS = (2, 16, 64)  # workers for which to reckon
COMMAND = "import sys; from seqbook.cli import main; sys.exit(main())"


def write_hand_ins(folder: Path, count: int) -> None:
    """Write the notebook of each student, with mistakes drawn at random."""
    exercises = [Exercise.load(SOURCES / name) for name in COURSE.order]
    draw = random.Random(SEED)
    for number in range(count):
        exercise = exercises[number % len(exercises)]
        notebook = json.loads(json.dumps(exercise.notebook))
        cells = {cell["id"]: cell for cell in notebook["cells"]}
        for step in exercise.steps:
            edits = [mistake for mistake in step.mistakes if mistake.edits]
            if edits and draw.random() < SHARE_OF_MISTAKES:
                source = exercise.solution(step, draw.choice(edits))
                cells[f"{step.cell}-answer"]["source"] = source.splitlines(keepends=True)
        cells["setup"]["source"] = [*cells["setup"]["source"], f"\n# of student {number}"]
        path = folder / f"student-{number:05}" / f"{exercise.name}.ipynb"
        path.parent.mkdir(parents=True)
        path.write_text(json.dumps(notebook), encoding="utf-8")


def command(folder: Path, out: str, *options: str) -> list[str]:
    """Return the command that grades the hand-ins into a folder."""
    places = ["--out", str(folder / out), "--exercises", str(SOURCES)]
    start = [sys.executable, "-c", COMMAND, "grade", str(folder / "in")]
    return [*start, *places, "--seed", str(SEED), *options]


def run(words: Sequence[str]) -> float:
    """Run a command and return how long it took."""
    began = time.perf_counter()
    subprocess.run(words, check=True, stdout=subprocess.DEVNULL)
    return time.perf_counter() - began


def run_and_kill(words: Sequence[str], results: Path, count: int, client: Client) -> float:
    """Run a command and kill a worker when so many results are stored; return how long it took."""
    began = time.perf_counter()
    process = subprocess.Popen(words, stdout=subprocess.DEVNULL)
    while process.poll() is None and len(list(results.glob("*.json"))) < count:
        time.sleep(0.1)
    busy = {worker for worker, keys in client.processing().items() if keys}
    worker = next(number for address, number in client.run(os.getpid).items() if address in busy)
    os.kill(worker, signal.SIGKILL)
    print(f"Killed worker {worker} after {count} results.", flush=True)
    if process.wait() != 0:
        raise RuntimeError(f"{words}: exited with {process.returncode}")
    return time.perf_counter() - began


@contextlib.contextmanager
def cluster(folder: Path, workers: int) -> Iterator[Client]:
    """Start a scheduler and workers, as on other machines, and connect to them."""
    file = folder / "scheduler.json"
    scheduler = [sys.executable, "-m", "distributed.cli.dask_scheduler", "--no-dashboard"]
    worker = [sys.executable, "-m", "distributed.cli.dask_worker", "--no-dashboard"]
    worker += ["--nworkers", str(workers), "--nthreads", "1", "--local-directory", str(folder)]
    with open(folder / "dask.log", "w", encoding="utf-8") as log, contextlib.ExitStack() as stack:
        for words in ([*scheduler, "--port", "0"], worker):
            process = psutil.Popen([*words, "--scheduler-file", str(file)], stdout=log, stderr=log)
            stack.callback(process.wait)
            stack.callback(process.terminate)
        while not file.exists():
            time.sleep(0.1)
        client = stack.enter_context(Client(scheduler_file=str(file)))
        client.wait_for_workers(workers)
        yield client


def contents(folder: Path) -> dict[str, bytes]:
    """Return the content of every file below a folder."""
    files = (path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): path.read_bytes() for path in files}


def store_cases(folder: Path) -> None:
    """Sample the cases of all exercises, for both folders of grades."""
    exercises = AuthoredExercises(SOURCES, COURSE.order, [COURSE.package])
    compiled = CompiledExercises(exercises, SEED, folder / "one" / "cases")
    for name in COURSE.order:
        compiled[name]
    shutil.copytree(folder / "one" / "cases", folder / "two" / "cases")


def seconds_to_grade_again(folder: Path, out: str) -> tuple[float, float]:
    """Return the seconds of reading what is graded already, and of the whole command."""
    exercises = AuthoredExercises(SOURCES, COURSE.order, [COURSE.package])
    hidden = (COURSE.package, SOURCES, folder / "in", folder / out)
    began = time.perf_counter()
    grade_folder(folder / "in", folder / out, exercises, seed=SEED, jobs=1, hidden=hidden)
    return time.perf_counter() - began, run(command(folder, out))


def seconds_of_parts(folder: Path, client: Client) -> dict[str, float]:
    """Return the seconds of each part for a notebook, and ``once`` for all; they are graded."""
    exercises = AuthoredExercises(SOURCES, COURSE.order, [COURSE.package])
    hidden = (COURSE.package, SOURCES, folder / "in", folder / "two")
    third = folder / "third"
    students = sorted((folder / "in").iterdir())
    for student in students[::3]:
        shutil.copytree(student, third / "in" / student.name)
    shutil.copytree(folder / "two", third / "two")
    seconds_to_grade_again(third, "two")  # imports everything
    of_all, of_third = (seconds_to_grade_again(place, "two") for place in (folder, third))
    more = len(students) - len(students[::3])
    reading, whole = ((many - few) / more for many, few in zip(of_all, of_third, strict=True))

    compiled = CompiledExercises(exercises, SEED, folder / "two" / "cases")
    tasks: list[GradingTask] = []
    for submission in list(find(folder / "in"))[:: max(1, len(students) // SAMPLE)]:
        notebook = read_notebook(read(submission))
        exercise = compiled[identify(notebook, submission.path.name, exercises)]
        tasks.append(GradingTask(exercise, code_of(notebook)))
    address = client.scheduler_info()["address"]
    graded = grade_on_cluster(
        tasks, address, cpu_seconds=CPU_SECONDS, wall_seconds=WALL_SECONDS, hidden=hidden
    )
    outcomes = [outcome for _, outcome in graded]

    began = time.perf_counter()
    payloads = [json.dumps(task.notebook).encode() for task in tasks]
    client.gather([client.submit(len, payload, pure=False) for payload in payloads])
    sending = time.perf_counter() - began
    futures = [client.submit(pickle.loads, pickle.dumps(one), pure=False) for one in outcomes]
    wait(futures)
    began = time.perf_counter()
    for number, future in enumerate(futures):
        content = json.dumps(future.result().graded.as_data()).encode()
        write_whole(folder / "stored" / f"{number}.json", content)
    collecting = time.perf_counter() - began
    parts = {
        "once": of_all[1] - len(students) * whole,
        "reading": reading,
        "sending": sending / len(tasks),
        "grading": sum(outcome.seconds for outcome in outcomes) / len(tasks),
        "collecting": collecting / len(tasks),
        "writing": whole - reading,
    }
    return {part: round(seconds, 5) for part, seconds in parts.items()}


def reckoned_seconds(parts: dict[str, float], notebooks: int, workers: int) -> float:
    """Return how long a class would take with so many workers."""
    during = max(parts["grading"] / workers, parts["sending"] + parts["collecting"])
    return parts["once"] + notebooks * (parts["reading"] + during + parts["writing"])


def main() -> None:
    """Grade, compare, measure, print and save."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--hand-ins", type=int, default=300)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--result", type=Path, default=RESULT)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    seconds: dict[str, float] = {}
    with TemporaryDirectory() as name:
        folder = Path(name)
        write_hand_ins(folder / "in", arguments.hand_ins)
        store_cases(folder)
        seconds["one machine"] = run(command(folder, "one", "--jobs", str(arguments.workers)))
        print(f"{arguments.hand_ins} hand-ins graded on one machine.", flush=True)
        with cluster(folder, arguments.workers) as client:
            words = command(folder, "two", "--scheduler", client.scheduler_info()["address"])
            third = arguments.hand_ins // 3
            results = folder / "two" / "results"
            seconds["cluster, a worker killed"] = run_and_kill(words, results, third, client)
            one, two = contents(folder / "one"), contents(folder / "two")
            files = len(one)
            if different := {name for name, _ in one.items() ^ two.items()}:
                raise RuntimeError(f"of {files} files, these differ: {sorted(different)}")
            print(f"All {files} files are the same to the byte.", flush=True)
            client.wait_for_workers(arguments.workers)
            parts = seconds_of_parts(folder, client)
    reckoned = {
        f"{workers} workers": round(reckoned_seconds(parts, CLASS, workers)) for workers in CLUSTERS
    }
    print(f"seconds in all: {seconds}")
    print(f"seconds for a notebook, and once: {parts}")
    print(f"seconds reckoned for {CLASS}: {reckoned}")
    measured: dict[str, Any] = {
        "hand_ins": arguments.hand_ins,
        "workers": arguments.workers,
        "files_compared": files,
        "seconds": {part: round(value, 1) for part, value in seconds.items()},
        "seconds_of_parts": parts,
        "seconds_reckoned": {"notebooks": CLASS, **reckoned},
    }
    write_record(benchmark_record(__file__, **measured), arguments.result)


if __name__ == "__main__":
    main()
