"""Read what was handed in, as data: nothing of a notebook is run or believed here."""

from __future__ import annotations

import json
import os
import re
import stat
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from stepgrader.exercises import EXERCISE, Exercise, Released, defines
from stepgrader.steps import cell_stem

__all__ = [
    "Answer",
    "Submission",
    "UnreadableError",
    "find",
    "identify",
    "read_answers",
    "read_notebook",
]

MAX_BYTES = 8 * 2**20
MAX_CELLS = 5_000
MAX_SOURCE = 100_000
DEFINED = re.compile(r"^(?:def|class) (\w+)", re.MULTILINE)


class UnreadableError(ValueError):
    """A file is no notebook that can be graded; the message says why."""


@dataclass(frozen=True)
class Submission:
    """A file that was handed in, and by whom."""

    student: str
    path: Path


@dataclass(frozen=True)
class Answer:
    """The cell that was taken for the answer to a step.

    Args:
        source: Its code; None if there is no such cell.
        note: What the student should know about the choice.
    """

    source: str | None
    note: str | None = None


def find(folder: Path) -> Iterator[Submission]:
    """Yield the notebooks in a folder of submissions, ordered by name.

    A folder in it is a student, and all notebooks below it are theirs; a notebook that lies in it
    is the student's whose name it has. Links are not followed, and what is hidden is passed over.
    A link in the place of a student or a notebook is yielded all the same, and so are whatever is
    named like a notebook and a folder that can't be read: so somebody is told.
    """
    for entry in _sorted(folder):
        if entry.name.endswith(".ipynb") or entry.is_symlink():
            yield Submission(entry.name.removesuffix(".ipynb"), Path(entry.path))
        elif entry.is_dir(follow_symlinks=False):
            for path in _notebooks(Path(entry.path)):
                yield Submission(entry.name, path)


def _notebooks(folder: Path, depth: int = 8) -> Iterator[Path]:
    try:
        entries = _sorted(folder)
    except OSError:
        yield folder
        return
    for entry in entries:
        if entry.name.endswith(".ipynb"):
            yield Path(entry.path)
        elif entry.is_dir(follow_symlinks=False) and depth:
            yield from _notebooks(Path(entry.path), depth - 1)


def _sorted(folder: Path) -> list[os.DirEntry]:
    with os.scandir(folder) as entries:
        return sorted(
            (entry for entry in entries if not entry.name.startswith(".")),
            key=lambda entry: entry.name,
        )


def read_bytes(path: Path) -> bytes:
    """Return the content of an ordinary file of reasonable size.

    Raises:
        UnreadableError: It is something else, or can't be read.
    """
    try:
        found = os.lstat(path)  # before it is opened: to open a device may already do something
        if stat.S_ISLNK(found.st_mode):
            raise UnreadableError("it is a link; hand in the file itself")
        if stat.S_ISDIR(found.st_mode):
            os.scandir(path).close()  # or say why it can't be read
            raise UnreadableError("it is a folder, not a file")
        if not stat.S_ISREG(found.st_mode):
            raise UnreadableError("it is not an ordinary file")
        if found.st_size > MAX_BYTES:
            raise UnreadableError(
                f"it has {found.st_size / 2**20:.0f} MB, at most {MAX_BYTES // 2**20} are read; "
                "clear the outputs of the cells and save it again"
            )
        with open(os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK), "rb") as file:
            content = file.read(MAX_BYTES + 1)
    except OSError as error:
        raise UnreadableError(f"it can't be opened: {error.strerror}") from None
    if len(content) > MAX_BYTES:
        raise UnreadableError("it grew while it was read")
    return content


def read_notebook(content: bytes) -> dict[str, Any]:
    """Return a notebook's JSON if it has the form of one.

    Raises:
        UnreadableError: It has not.
    """
    try:
        notebook = json.loads(content.decode("utf-8-sig"))
    except UnicodeDecodeError:
        raise UnreadableError("it is not UTF-8 text, so it is not a notebook") from None
    except RecursionError:
        raise UnreadableError("it is nested too deeply to be a notebook") from None
    except ValueError:
        raise UnreadableError("it is not JSON, so it is not a notebook, or damaged") from None
    if not isinstance(notebook, dict) or not isinstance(notebook.get("cells"), list):
        raise UnreadableError("it has no list of cells, so it is not a notebook")
    if len(notebook["cells"]) > MAX_CELLS:
        raise UnreadableError(
            f"it has {len(notebook['cells'])} cells, at most {MAX_CELLS} are read"
        )
    return notebook


def identify(
    notebook: Mapping[str, Any], file_name: str, exercises: Mapping[str, Exercise | Released]
) -> str:
    """Return the name of the exercise that a notebook belongs to.

    Its metadata say so, or its file name; or it defines more answers of this one than of others.

    Raises:
        UnreadableError: It belongs to none.
    """
    metadata = notebook.get("metadata")
    stated = metadata.get(EXERCISE) if isinstance(metadata, dict) else None
    stated = stated.get("exercise") if isinstance(stated, dict) else None
    for name in (stated, file_name.removesuffix(".ipynb")):
        if isinstance(name, str) and name in exercises:
            return name
    defined = {
        name
        for _, source in _code(notebook)
        if len(source) <= MAX_SOURCE
        for name in DEFINED.findall(source)
    }
    counts = {
        name: sum(step.name in defined for step in exercise.steps)
        for name, exercise in exercises.items()
    }
    best = max(counts, key=lambda name: counts[name], default=None)
    if best is None or counts[best] == 0:
        raise UnreadableError("it is none of the exercises: it has none of their answers")
    return best


def read_answers(notebook: Mapping[str, Any], exercise: Released) -> dict[str, Answer]:
    """Return the answer to each step: the cell of its id, or another cell that defines its name.

    Of several, the last counts, as it would if the notebook were run.
    """
    cells, too_long = [], set()
    for cell_id, source in _code(notebook):
        if len(source) <= MAX_SOURCE:
            cells.append((cell_id, source))
        else:
            too_long.add(cell_id)
    of_steps = {f"{cell_stem(step.name)}-answer" for step in exercise.steps}
    answers = {}
    for step in exercise.steps:
        own_id = f"{cell_stem(step.name)}-answer"
        own = [source for cell_id, source in cells if cell_id == own_id]
        named = [source for source in own if defines(source, step.name)]
        others = [
            source
            for cell_id, source in cells
            if cell_id not in of_steps and defines(source, step.name)
        ]
        if named:
            note = f"{len(named)} cells answer this step; the last counts" if named[1:] else None
            answers[step.name] = Answer(named[-1], note)
        elif others:
            answers[step.name] = Answer(
                others[-1], f"the cell {own_id} does not define {step.name}; another cell does"
            )
        elif own_id in too_long:
            note = f"the cell {own_id} has more than {MAX_SOURCE} characters and was not read"
            answers[step.name] = Answer(None, note)
        else:
            answers[step.name] = Answer(own[-1] if own else None)
    return answers


def _code(notebook: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Yield id and source of each code cell that has the form of one."""
    for cell in notebook["cells"]:
        if not isinstance(cell, dict) or cell.get("cell_type") != "code":
            continue
        cell_id, source = cell.get("id"), cell.get("source")
        if isinstance(source, list) and all(isinstance(line, str) for line in source):
            source = "".join(source)
        if isinstance(source, str):
            yield (cell_id if isinstance(cell_id, str) else "", source)
