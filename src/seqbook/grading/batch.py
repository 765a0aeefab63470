"""Grade a folder of submissions."""

from __future__ import annotations

import contextlib
import hashlib
import json
import queue
import sys
import traceback
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import asdict, dataclass
from pathlib import Path

from tqdm import tqdm

from seqbook import __version__
from seqbook.grading.exercises import Exercise, Released
from seqbook.grading.grader import Graded, SandboxFaultError, grade_notebook
from seqbook.grading.keeping import write_whole
from seqbook.grading.sandbox import Sandbox
from seqbook.grading.steps import CompiledStep
from seqbook.grading.submissions import (
    Handed,
    UnreadableError,
    find,
    read_bytes,
    read_notebook,
    recognise,
)

__all__ = ["Result", "grade_folder"]


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


def grade_folder(
    folder: Path, out: Path, exercises: Iterable[Exercise], *, seed: int, jobs: int
) -> list[Result]:
    """Grade all notebooks in a folder, and keep each result as soon as it is there.

    A result that was kept is not worked out again, unless the notebook, the exercises or the seed
    have changed. The result depends on nothing else: not on other submissions, nor on ``jobs``.

    Args:
        folder: Of the submissions; see ``submissions.find``.
        out: Where results are kept, in ``results``.
        exercises: What may be handed in.
        seed: Of the hidden cases.
        jobs: How many sandboxes to run at once. Each takes 0.3 GB, what runs in it at most 1 GB
            more.

    Raises:
        NoSandboxError: Submissions can't be run here.
    """
    marked = {
        exercise.name: _Marked(exercise.release(), exercise.compile(seed)) for exercise in exercises
    }
    print("The cases are drawn; reading what was handed in.", file=sys.stderr)
    kept = _Kept(out / "results", marked, seed)
    handed = list(find(folder))
    results = {
        number: Result(one, graded)
        for number, one in enumerate(handed)
        if (graded := kept.find(one)) is not None
    }
    left = [number for number in range(len(handed)) if number not in results]
    if results:
        print(f"{len(results)} of {len(handed)} were graded before.", file=sys.stderr)
    with (
        _sandboxes(min(jobs, len(left))) as sandboxes,
        ThreadPoolExecutor(jobs) as pool,
        tqdm(total=len(handed), initial=len(results), unit="notebook", disable=None) as bar,
    ):
        try:
            waiting = {
                pool.submit(_grade, handed[number], marked, kept, sandboxes): number
                for number in left
            }
            for future in as_completed(waiting):
                results[waiting[future]] = future.result()
                bar.update()
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise
    return [results[number] for number in range(len(handed))]


class _Kept:
    """Results by what they depend on."""

    def __init__(self, folder: Path, marked: Mapping[str, _Marked], seed: int):
        self._folder = folder
        facts = {
            name: [one.released.notebook, [asdict(step) for step in one.steps]]
            for name, one in marked.items()
        }
        self._digest = hashlib.sha256(json.dumps([__version__, seed, facts]).encode()).digest()

    def find(self, handed: Handed) -> Graded | None:
        with contextlib.suppress(UnreadableError, FileNotFoundError):
            path = self._path(handed.path.name, read_bytes(handed.path))
            with contextlib.suppress(ValueError, KeyError, TypeError):
                return Graded.from_data(json.loads(path.read_text(encoding="utf-8")))
        return None

    def keep(self, handed: Handed, content: bytes, graded: Graded) -> None:
        path = self._path(handed.path.name, content)
        write_whole(path, json.dumps(graded.as_data()).encode())

    def _path(self, file_name: str, content: bytes) -> Path:
        name = file_name.encode(errors="surrogateescape")
        digest = hashlib.sha256(self._digest + name + b"\0" + content)
        return self._folder / f"{digest.hexdigest()}.json"


def _grade(
    handed: Handed,
    marked: Mapping[str, _Marked],
    kept: _Kept,
    sandboxes: queue.SimpleQueue[Sandbox],
) -> Result:
    try:
        content = read_bytes(handed.path)
        notebook = read_notebook(content)
        known = {name: one.released for name, one in marked.items()}
        one = marked[recognise(notebook, handed.path.name, known)]
        sandbox = sandboxes.get()
        try:
            graded = grade_notebook(notebook, one.released, one.steps, sandbox)
        finally:
            sandboxes.put(sandbox)
        kept.keep(handed, content, graded)
        return Result(handed, graded)
    except UnreadableError as error:
        return Result(handed, None, str(error))
    except SandboxFaultError as error:
        return Result(handed, None, str(error), ours=True)
    except Exception as error:  # of one submission; the others are graded all the same
        traceback.print_exc()
        return Result(handed, None, f"{type(error).__name__} in the grader", ours=True)


@contextlib.contextmanager
def _sandboxes(count: int) -> Iterator[queue.SimpleQueue[Sandbox]]:
    made: list[Sandbox] = []
    ready: queue.SimpleQueue[Sandbox] = queue.SimpleQueue()
    try:
        for _ in range(count):
            made.append(Sandbox())
            ready.put(made[-1])
        yield ready
    finally:
        for sandbox in made:
            sandbox.close()


def counting(results: Sequence[Result]) -> set[int]:
    """Return the numbers of the results that count: of several for one exercise, the best."""
    best: dict[tuple[str, str], int] = {}
    for number, result in enumerate(results):
        if result.graded is not None:
            key = (result.handed.student, result.graded.exercise)
            other = best.get(key)
            if other is None or result.graded.points > results[other].graded.points:
                best[key] = number
    return set(best.values())
