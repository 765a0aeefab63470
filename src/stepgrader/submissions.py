"""Read submissions as untrusted data: nothing of a notebook is run here."""

from __future__ import annotations

import json
import os
import re
import stat
from collections.abc import Iterator, Mapping, Sequence
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
    "read_bytes",
    "read_notebook",
]

MAX_BYTES = 8 * 2**20
MAX_CELLS = 5_000
MAX_SOURCE = 100_000
DEFINED = re.compile(r"^(?:def|class) (\w+)", re.MULTILINE)


class UnreadableError(ValueError):
    """A file is not a notebook that can be graded; the message says why.

    Example:
        >>> read_notebook(b"a text, no notebook")
        Traceback (most recent call last):
        ...
        stepgrader.submissions.UnreadableError: it is not JSON, so it is not a notebook, or damaged
    """


@dataclass(frozen=True)
class Submission:
    """A file that was handed in.

    Args:
        student: Name of the student, from that of the folder or file.
        path: Path of the file.

    Example:
        >>> Submission("ada", Path("submissions/ada/lstm.ipynb")).student
        'ada'
    """

    student: str
    path: Path


@dataclass(frozen=True)
class Answer:
    """The cell that is graded as the answer to a step.

    Args:
        source: Its code; None if there is no such cell.
        note: A remark for the student on how the cell was chosen.

    Example:
        >>> Answer("def gate(x): return x").note is None, Answer(None).source is None
        (True, True)
    """

    source: str | None
    note: str | None = None


def find(folder: Path) -> Iterator[Submission]:
    """Yield the notebooks in a folder of submissions, ordered by name.

    Each subfolder is a student, with all notebooks below it; a notebook directly in the folder is a
    student of its name. Links are not followed, and hidden files are skipped. A link in the place
    of a student or a notebook, anything else with the name of a notebook, and a folder that can't
    be read are yielded too, so that they are reported.

    Example:
        >>> from tempfile import TemporaryDirectory
        >>> with TemporaryDirectory() as name:
        ...     folder = Path(name)
        ...     (folder / "ada").mkdir()
        ...     for file in ("ada/lstm.ipynb", "ada/notes.txt", "bob.ipynb"):
        ...         (folder / file).touch()
        ...     [(found.student, found.path.name) for found in find(folder)]
        [('ada', 'lstm.ipynb'), ('bob', 'bob.ipynb')]
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


def _sorted(folder: Path) -> list[os.DirEntry[str]]:
    with os.scandir(folder) as entries:
        return sorted(
            (entry for entry in entries if not entry.name.startswith(".")),
            key=lambda entry: entry.name,
        )


def read_bytes(path: Path) -> bytes:
    """Return the content of an ordinary file of limited size.

    Raises:
        UnreadableError: It is something else, is too large, or can't be read.

    Example:
        >>> from tempfile import TemporaryDirectory
        >>> with TemporaryDirectory() as folder:
        ...     read_bytes(Path(folder))
        Traceback (most recent call last):
        ...
        stepgrader.submissions.UnreadableError: it is a folder, not a file
    """
    try:
        status = os.lstat(path)  # before it is opened: to open a device may have an effect
        if stat.S_ISLNK(status.st_mode):
            raise UnreadableError("it is a link; hand in the file itself")
        if stat.S_ISDIR(status.st_mode):
            os.scandir(path).close()  # or say why it can't be read
            raise UnreadableError("it is a folder, not a file")
        if not stat.S_ISREG(status.st_mode):
            raise UnreadableError("it is not an ordinary file")
        if status.st_size > MAX_BYTES:
            raise UnreadableError(
                f"it has {status.st_size / 2**20:.0f} MB, at most {MAX_BYTES // 2**20} are read; "
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
    """Parse a notebook.

    Raises:
        UnreadableError: It is not JSON in the form of a notebook.

    Example:
        >>> read_notebook(b'{"cells": []}')
        {'cells': []}
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
    r"""Return the name of the exercise that a notebook belongs to.

    This is the exercise that its metadata or else its file name states, or else the one of which
    it defines most answers.

    Raises:
        UnreadableError: It defines no answer of any exercise.

    Example:
        >>> from stepgrader.steps import CompiledStep
        >>> step = CompiledStep("gate", [], tolerance=1e-5, mistakes=[], cases=[])
        >>> exercises = {"lstm": Released("lstm", {"cells": []}, [step])}
        >>> answer = {"cell_type": "code", "source": "def gate(x):\n    return x"}
        >>> identify({"cells": [answer]}, "homework.ipynb", exercises)
        'lstm'
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
    r"""Return the answer to each step, by its name.

    An answer is the cell with the step's id if it defines the step's name, or else another cell
    that defines it. Of several, the last counts, as it would if the notebook were run.

    Example:
        >>> from stepgrader.steps import CompiledStep
        >>> step = CompiledStep("gate", [], tolerance=1e-5, mistakes=[], cases=[])
        >>> exercise = Released("lstm", {"cells": []}, [step])
        >>> answer = {"id": "other", "cell_type": "code", "source": "def gate(x):\n    return x"}
        >>> read_answers({"cells": [answer]}, exercise)["gate"].note
        'the cell gate-answer does not define gate; another cell does'
    """
    cells = list(_code(notebook))
    answer_ids = {f"{cell_stem(step.name)}-answer" for step in exercise.steps}
    return {step.name: _read_answer(step.name, cells, answer_ids) for step in exercise.steps}


def _read_answer(name: str, cells: Sequence[tuple[str, str]], answer_ids: set[str]) -> Answer:
    own_id = f"{cell_stem(name)}-answer"
    readable = [(cell_id, source) for cell_id, source in cells if len(source) <= MAX_SOURCE]
    own = [source for cell_id, source in readable if cell_id == own_id]
    own_definitions = [source for source in own if defines(source, name)]
    if own_definitions:
        count = len(own_definitions)
        note = f"{count} cells answer this step; the last counts" if count > 1 else None
        return Answer(own_definitions[-1], note)
    other_definitions = [
        source
        for cell_id, source in readable
        if cell_id not in answer_ids and defines(source, name)
    ]
    if other_definitions:
        note = f"the cell {own_id} does not define {name}; another cell does"
        return Answer(other_definitions[-1], note)
    if any(cell_id == own_id and len(source) > MAX_SOURCE for cell_id, source in cells):
        note = f"the cell {own_id} has more than {MAX_SOURCE} characters and was not read"
        return Answer(None, note)
    return Answer(own[-1] if own else None)


def _code(notebook: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Yield id and source of each valid code cell."""
    for cell in notebook["cells"]:
        if not isinstance(cell, dict) or cell.get("cell_type") != "code":
            continue
        cell_id, source = cell.get("id"), cell.get("source")
        if isinstance(source, list) and all(isinstance(line, str) for line in source):
            source = "".join(source)
        if isinstance(source, str):
            yield (cell_id if isinstance(cell_id, str) else "", source)
