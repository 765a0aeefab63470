"""Grade a folder of submissions."""

from __future__ import annotations

import contextlib
import hashlib
import json
import queue
import sys
import threading
import traceback
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from tqdm import tqdm

from seqbook import __version__
from stepgrader.atomic_files import write_whole
from stepgrader.differences import printable
from stepgrader.exercises import Exercise, Released
from stepgrader.grader import Graded, SandboxFaultError, grade_notebook
from stepgrader.sandbox import CPU_SECONDS, WALL_SECONDS, Sandbox
from stepgrader.steps import CompiledStep
from stepgrader.submissions import (
    Handed,
    UnreadableError,
    find,
    read_bytes,
    read_notebook,
    recognise,
)

__all__ = ["Result", "grade_folder"]

MAX_NOTEBOOKS = 50


@dataclass(frozen=True)
class Result:
    """What came of one file: a grade; or why there is none, and whether that is our fault."""

    handed: Handed
    graded: Graded | None
    problem: str | None = None
    ours: bool = False


@dataclass(frozen=True)
class _Marked:
    released: Released
    steps: list[CompiledStep]
    digest: bytes


class _Marking:
    """What may be handed in; the cases of an exercise are drawn when it is first asked for."""

    def __init__(self, exercises: Iterable[Exercise], seed: int, settings: Any):
        self.exercises = {exercise.name: exercise for exercise in exercises}
        self._seed = seed
        self._settings = [__version__, seed, settings]
        self._drawn: dict[str, _Marked] = {}
        self._lock = threading.Lock()

    def __getitem__(self, name: str) -> _Marked:
        with self._lock:
            if name not in self._drawn:
                print(f"Drawing the cases of {name}.", file=sys.stderr)
                steps = self.exercises[name].compile(self._seed)
                released = self.exercises[name].release(steps)
                facts = [self._settings, released.notebook, [asdict(step) for step in steps]]
                digest = hashlib.sha256(json.dumps(facts).encode()).digest()
                self._drawn[name] = _Marked(released, steps, digest)
            return self._drawn[name]


def grade_folder(
    folder: Path,
    out: Path,
    exercises: Iterable[Exercise],
    *,
    seed: int,
    jobs: int,
    cpu_seconds: int = CPU_SECONDS,
    wall_seconds: int = WALL_SECONDS,
) -> list[Result]:
    """Grade all notebooks in a folder, and keep each result as soon as it is there.

    A result that was kept is not worked out again, unless the notebook, its exercise or the seed
    has changed. The result depends on nothing else: not on other submissions, nor on ``jobs``.

    Args:
        folder: Of the submissions; see ``submissions.find``.
        out: Where results are kept, in ``results``.
        exercises: What may be handed in.
        seed: Of the hidden cases.
        jobs: How many sandboxes to run at once. Each takes 0.3 GB, what runs in it at most 1 GB
            more.
        cpu_seconds: Processor time for a step, once for the visible cases and once for the hidden.
        wall_seconds: Time for the same.

    Raises:
        NoSandboxError: Submissions can't be run here.
    """
    limits = {"cpu_seconds": cpu_seconds, "wall_seconds": wall_seconds}
    marking = _Marking(exercises, seed, limits)
    kept = _Kept(out / "results", marking)
    handed = list(find(folder))
    results = dict(_beyond(handed))
    known = {
        number: Result(one, graded)
        for number, one in enumerate(handed)
        if number not in results and (graded := kept.find(one)) is not None
    }
    results |= known
    left = [number for number in range(len(handed)) if number not in results]
    if known:
        print(f"{len(known)} of {len(handed)} were graded before.", file=sys.stderr)
    with (
        _sandboxes(min(jobs, len(left)), limits) as (sandboxes, abandon),
        ThreadPoolExecutor(jobs) as pool,
        tqdm(total=len(handed), initial=len(results), unit="notebook", disable=None) as bar,
    ):
        try:
            waiting = {
                pool.submit(_grade, handed[number], marking, kept, sandboxes): number
                for number in left
            }
            for future in as_completed(waiting):
                results[waiting[future]] = future.result()
                bar.update()
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            abandon()  # or else the pool waits until what runs has come to its limit
            raise
    return [results[number] for number in range(len(handed))]


def _beyond(handed: Sequence[Handed]) -> Iterator[tuple[int, Result]]:
    """Yield the results of what a student handed in too many of: it would keep others waiting."""
    counts: Counter[str] = Counter()
    for number, one in enumerate(handed):
        counts[one.student] += 1
        if counts[one.student] > MAX_NOTEBOOKS:
            problem = f"of one student, the first {MAX_NOTEBOOKS} notebooks are read"
            yield number, Result(one, None, problem)


class _Kept:
    """Results by what they depend on."""

    def __init__(self, folder: Path, marking: _Marking):
        self._folder = folder
        self._marking = marking

    def find(self, handed: Handed) -> Graded | None:
        try:
            content = read_bytes(handed.path)
            notebook = read_notebook(content)
            exercise = recognise(notebook, handed.path.name, self._marking.exercises)
        except Exception:  # whatever is wrong with a file is told by whoever grades it
            return None
        path = self._path(self._marking[exercise], handed, content)
        with contextlib.suppress(FileNotFoundError, ValueError, KeyError, TypeError):
            return Graded.from_data(json.loads(path.read_text(encoding="utf-8")))
        return None

    def keep(self, marked: _Marked, handed: Handed, content: bytes, graded: Graded) -> None:
        write_whole(self._path(marked, handed, content), json.dumps(graded.as_data()).encode())

    def _path(self, marked: _Marked, handed: Handed, content: bytes) -> Path:
        name = handed.path.name.encode(errors="surrogateescape")
        digest = hashlib.sha256(marked.digest + name + b"\0" + content)
        return self._folder / f"{digest.hexdigest()}.json"


def _grade(
    handed: Handed,
    marking: _Marking,
    kept: _Kept,
    sandboxes: queue.SimpleQueue[Sandbox],
) -> Result:
    try:
        content = read_bytes(handed.path)
        notebook = read_notebook(content)
        one = marking[recognise(notebook, handed.path.name, marking.exercises)]
        sandbox = sandboxes.get()
        try:
            graded = grade_notebook(notebook, one.released, one.steps, sandbox)
        finally:
            sandboxes.put(sandbox)
        kept.keep(one, handed, content, graded)
        return Result(handed, graded)
    except UnreadableError as error:
        return Result(handed, None, str(error))
    except SandboxFaultError as error:
        return Result(handed, None, str(error), ours=True)
    except Exception as error:  # of one submission; the others are graded all the same
        lines = traceback.format_exc().splitlines()
        print(*(printable(line, limit=1000) for line in lines), sep="\n", file=sys.stderr)
        return Result(handed, None, f"{type(error).__name__} in the grader", ours=True)


@contextlib.contextmanager
def _sandboxes(
    count: int, limits: Mapping[str, int]
) -> Iterator[tuple[queue.SimpleQueue[Sandbox], Callable[[], None]]]:
    """Make sandboxes that are free to be used, and what ends whatever runs in any of them."""
    made: list[Sandbox] = []
    ready: queue.SimpleQueue[Sandbox] = queue.SimpleQueue()
    try:
        for _ in range(count):
            made.append(Sandbox(**limits))
            ready.put(made[-1])
        yield ready, lambda: [sandbox.abandon() for sandbox in made]
    finally:
        for sandbox in made:
            sandbox.close()
