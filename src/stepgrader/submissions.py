"""Read submissions as untrusted data: nothing of a notebook is run here."""

from __future__ import annotations

import functools
import io
import json
import os
import re
import stat
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from stepgrader import layouts
from stepgrader.archives import MAX_ZIP, SMALLER, Archive, ArchiveError, too_large
from stepgrader.definitions import Definitions, complaints, remarks
from stepgrader.exercises import EXERCISE, Exercise, Released
from stepgrader.roster import Roster
from stepgrader.steps import cell_stem

__all__ = [
    "UNMATCHED",
    "Answer",
    "Submission",
    "UnreadableError",
    "code_of",
    "find",
    "find_ignored",
    "identify",
    "read",
    "read_answers",
    "read_bytes",
    "read_notebook",
]

UNMATCHED = "it matches no student in the roster, or more than one"
"""What is said of a submission that no student, or more than one, can have made."""
MAX_BYTES = 8 * 2**20
MAX_ZIP_IN_ZIP = 64 * 2**20
MAX_DEPTH = 8
MAX_LISTED = 5  # of the files without a grade, by name
MAX_CELLS = 5_000
MAX_SOURCE = 100_000
MAX_CODE = 500_000  # characters of all cells
DEFINED = re.compile(r"^(?:async def |def |class )?(\w+)(?=\s*[(:=])", re.MULTILINE)


class UnreadableError(ValueError):
    """A file is not a notebook that can be graded; the message says why.

    Example:
        >>> read_notebook(b"a text, no notebook")
        Traceback (most recent call last):
        ...
        stepgrader.submissions.UnreadableError: it is not valid JSON: not a notebook, or damaged
    """


@dataclass(frozen=True)
class Submission:
    """A file that was handed in, or why there is none.

    Args:
        student: Name of the student, from the roster or from that of the folder or file.
        path: Path of the file, or of the zip that it is in.
        members: Its number in that zip; two numbers for a zip in a zip.
        file: Name of the file without what a platform or browser added; that of ``path`` if empty.
        shown: Name of the file in reports, with that of the zip; that of ``path`` if empty.
        attempt: Of several attempts, the greatest counts; empty if none is stated.
        problem: Why it can't be graded, if that is known from its name.
        beside: Names of what else the student handed in that is not graded.
        matched: False if there is a roster and nobody, or several, in it can be meant.
        absent: Whether the student is in the roster and handed in nothing.
        top: Name of the folder or file at the top of the submissions, as the platform wrote it.
        handed_in: When it was handed in, as the platform wrote it; empty if that is not stated.
        late: Whether the platform says that it was late; None if it does not say.
        for_group: Whether another member of the student's group handed it in.

    Example:
        >>> Submission("ada", Path("submissions/ada/lstm.ipynb")).name
        'lstm.ipynb'
    """

    student: str
    path: Path
    members: tuple[int, ...] = ()
    file: str = ""
    shown: str = ""
    attempt: str = ""
    problem: str | None = None
    beside: tuple[str, ...] = ()
    matched: bool = True
    absent: bool = False
    top: str = ""
    handed_in: str = ""
    late: bool | None = None
    for_group: bool = False

    @property
    def name(self) -> str:
        """The file's name, for reports."""
        return self.shown or self.path.name

    @property
    def remark(self) -> str:
        """A remark for the table of grades."""
        remarks = []
        if self.beside:
            remarks.append(f"also handed in, not graded: {_listed(self.beside)}")
        if not self.matched:
            remarks.append(UNMATCHED)
        return "; ".join(remarks)


@dataclass(frozen=True)
class Answer:
    """The cell that is graded as the answer to a step.

    Args:
        source: Its code; None if there is no such cell.
        note: Remarks for the student: how the cell was chosen, and what it lacks.
        helpers: The code of other cells that is taken along, and runs before it.
        files: Name and source of the modules that other cells write and that it imports.

    Example:
        >>> Answer("def gate(x): return x").note is None, Answer(None).source is None
        (True, True)
    """

    source: str | None
    note: str | None = None
    helpers: str = ""
    files: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True)
class _File:
    """A file below the submissions, or something in its place that is reported."""

    parts: tuple[str, ...]  # names of folders and zips, and of the file
    path: Path
    members: tuple[int, ...] = ()
    problem: str | None = None
    certain: bool = False  # whether it is reported even if its name isn't a notebook's

    @property
    def name(self) -> str:
        return self.parts[-1]

    def read(self) -> bytes:
        if self.problem:
            raise UnreadableError(self.problem)
        return _read_member(self.path, self.members) if self.members else read_bytes(self.path)


def find(folder: Path, roster: Roster | None = None) -> Iterator[Submission]:
    """Yield what was handed in, ordered by name, with at least one submission for each student.

    Each subfolder or zip is a student, with all notebooks below it; a notebook directly in the
    folder is a student of its name. Names that Canvas, Moodle, Blackboard or Gradescope wrote are
    taken apart; see ``layouts``. Names that differ only in their Unicode form are one. Links are
    not followed. What can't be read, and a student who handed in no notebook, are yielded with the
    reason. Only what ``find_ignored`` returns is left out.

    Args:
        folder: The folder, or a zip of it.
        roster: Who is in the class. Who handed in nothing is yielded too, at the end.

    Example:
        >>> from tempfile import TemporaryDirectory
        >>> with TemporaryDirectory() as name:
        ...     folder = Path(name)
        ...     (folder / "ada").mkdir()
        ...     for file in ("ada/lstm.ipynb", "ada/notes.txt", "bob.ipynb", "eve.pdf"):
        ...         (folder / file).touch()
        ...     for found in find(folder):
        ...         print(found.student, found.name, found.problem, found.beside)
        ada lstm.ipynb None ('notes.txt',)
        bob bob.ipynb None ()
        eve eve.pdf no notebook was handed in, only eve.pdf ()
    """
    files, people, _ = _tops(folder)
    groups: dict[Any, list[tuple[layouts.Owner, _File]]] = defaultdict(list)
    labels: dict[Any, str] = {}
    matched: dict[Any, bool] = {}
    for file in files:
        top = file.parts[0]
        in_folder = len(file.parts) > 1 and not top.lower().endswith(".zip")
        by_name = layouts.owner(top, folder=in_folder)
        for person in people.get(top, [by_name]):
            student = roster.find([*person.ids, person.name]) if roster else None
            key = student or person.ids[:1] or person.name
            owner = replace(
                by_name, name=person.name, ids=person.ids, time=person.time or by_name.time
            )
            groups[key].append((owner, file))
            labels[key] = student or person.name
            matched[key] = roster is None or student is not None
    names = Counter(labels.values())
    for key, group in groups.items():
        label = labels[key]
        if names[label] > 1 and isinstance(key, tuple):  # two students of one name
            label = f"{label} ({key[0]})"
        for submission in _of_student(label, group):
            yield replace(submission, matched=matched[key])
    for student in roster.students if roster else ():
        if student not in groups:
            problem = "nothing was handed in"
            yield Submission(student, Path(), problem=problem, absent=True)


def find_ignored(folder: Path) -> list[str]:
    """Return what lies among the submissions and is nobody's, as a system or program left it there.

    Args:
        folder: The folder, or a zip of it.

    Example:
        >>> from tempfile import TemporaryDirectory
        >>> with TemporaryDirectory() as name:
        ...     for file in (".DS_Store", "ada.ipynb", ".bob.ipynb"):
        ...         Path(name, file).touch()
        ...     find_ignored(Path(name)), [found.student for found in find(Path(name))]
        (['.DS_Store'], ['.bob', 'ada'])
    """
    return _tops(folder)[2]


def read(submission: Submission) -> bytes:
    """Return the content of a submission.

    Raises:
        UnreadableError: It has none that can be read.

    Example:
        >>> read(Submission("eve", Path("eve.pdf"), problem="it is no notebook"))
        Traceback (most recent call last):
        ...
        stepgrader.submissions.UnreadableError: it is no notebook
    """
    file = _File((submission.name,), submission.path, submission.members, submission.problem)
    return file.read()


def _of_student(student: str, group: Sequence[tuple[layouts.Owner, _File]]) -> Iterator[Submission]:
    """Yield the notebooks of a student, or one submission that states that there is none."""
    graded: list[tuple[layouts.Owner, _File]] = []
    others: tuple[str, ...] = ()
    for owner, file in group:
        if _is_submission(file):
            graded.append((owner, file))
        else:
            others += (file.name,)
    if not graded:
        file = group[0][1]
        kind = "no notebook was handed in, only "
        problem = kind + _listed(others)
        yield Submission(student, file.path, shown=file.name, problem=problem, top=file.parts[0])
        return
    for number, (owner, file) in enumerate(graded):
        inside = file.parts[-len(file.members) - 1 :] if file.members else ()
        name = owner.file if len(file.parts) == 1 and owner.file else file.name
        yield Submission(
            student,
            file.path,
            file.members,
            file=f"{layouts.clean_stem(name)}.ipynb",
            shown="/".join(inside),
            attempt=owner.attempt,
            problem=file.problem,
            beside=others if number == 0 else (),
            top=file.parts[0],
            handed_in=owner.time,
            late=owner.late,
        )


def _listed(names: Sequence[str]) -> str:
    more = len(names) - MAX_LISTED
    return ", ".join(names[:MAX_LISTED]) + (f" and {more} more" if more > 0 else "")


def _is_submission(file: _File) -> bool:
    if layouts.is_litter(file.name):
        return False
    if file.problem or file.certain or layouts.is_notebook_name(file.name):
        return True
    if not file.name.lower().endswith(".json"):
        return False
    try:
        return bool(read_notebook(file.read()))
    except UnreadableError:
        return False


def _tops(folder: Path) -> tuple[list[_File], dict[str, list[layouts.Owner]], list[str]]:
    """Return all files, each below the name that tells the student, and Gradescope's people.

    The third part is the names of what lies among them and was left by a system or program.
    """
    found = list(_walk(folder) if folder.is_dir() else _unzip(folder, (), ()))
    files = [file for file in found if not layouts.is_litter(file.parts[0])]
    ignored = [file.parts[0] for file in found if layouts.is_litter(file.parts[0])]
    one_top = len({file.parts[0] for file in files}) == 1
    nested = (len(file.parts) > 2 for file in files if not layouts.is_litter(file.name))
    if not folder.is_dir() and one_top and all(nested):
        files = [replace(file, parts=file.parts[1:]) for file in files]
    below: dict[str, set[str]] = defaultdict(set)
    for file in files:
        if len(file.parts) > 1 and not layouts.is_litter(file.parts[1]):
            below[file.parts[0]].add(file.parts[1])
    exports = {top for top, names in below.items() if layouts.is_export(names)}
    files = [
        replace(file, parts=file.parts[1:])
        if file.parts[0] in exports and len(file.parts) > 1
        else file
        for file in files
    ]
    people: dict[str, list[layouts.Owner]] = {}
    for file in files:
        if file.parts == (layouts.METADATA,):
            people |= layouts.submitters(file.read().decode(errors="replace"))
    kept: list[_File] = []
    for file in files:
        if layouts.is_litter(file.parts[0]):
            ignored.append(file.parts[0])
        elif file.parts != (layouts.METADATA,):
            kept.append(file)
    return kept, people, sorted(set(ignored))


def _walk(folder: Path, parts: tuple[str, ...] = ()) -> Iterator[_File]:
    try:
        entries = _sorted(folder)
    except OSError:
        yield _File(parts or (folder.name,), folder, certain=True)
        return
    if not entries and parts:
        yield _File((*parts, "an empty folder"), folder)
    for entry in entries:
        path, inner = Path(entry.path), (*parts, entry.name)
        link = entry.is_symlink()
        if layouts.is_litter(entry.name):
            yield _File(inner, path)
        elif layouts.is_notebook_name(entry.name) or (link and not parts):
            yield _File(inner, path, certain=True)
        elif entry.is_dir(follow_symlinks=False):
            if len(parts) < MAX_DEPTH:
                yield from _walk(path, inner)
            else:
                yield _File(inner, path, problem="its folders are nested too deeply")
        elif entry.name.lower().endswith(".zip"):
            yield from _unzip(path, (), inner)
        else:
            yield _File(inner, path)


def _unzip(path: Path, members: tuple[int, ...], parts: tuple[str, ...]) -> Iterator[_File]:
    """Yield the files in a zip, and in zips in it."""
    own_parts = parts or (path.name,)
    try:
        names = _archive(path, members).names
    except UnreadableError as error:
        yield _File(own_parts, path, members, problem=str(error))
        return
    if not names:
        yield _File((*own_parts, "an empty zip"), path)
    litter: set[tuple[str, ...]] = set()
    for number, name in enumerate(names):
        inner = [part for part in re.split(r"[/\\]", name) if part not in ("", ".", "..")]
        if not inner:
            yield _File((*parts, "a file without a name"), path)
            continue
        left = [place for place, part in enumerate(inner) if layouts.is_litter(part)]
        if left:
            found = (*parts, *inner[: left[0] + 1])
            if found not in litter:
                litter.add(found)
                yield _File(found, path)
            continue
        file = _File((*parts, *inner), path, (*members, number))
        if not file.name.lower().endswith(".zip"):
            yield file
        elif len(members) < 1:
            yield from _unzip(path, file.members, file.parts)
        else:
            yield replace(
                file, problem="it is a zip inside a zip inside a zip; hand in the notebook itself"
            )


def _archive(path: Path, members: tuple[int, ...]) -> Archive:
    try:
        status = os.lstat(path)
    except OSError as error:
        raise UnreadableError(f"it can't be opened: {error.strerror}") from None
    return _open_archive(path, members, status.st_mtime_ns, status.st_size)


@functools.lru_cache(maxsize=2)  # the files of one zip are read one after another
def _open_archive(path: Path, members: tuple[int, ...], *version: int) -> Archive:
    try:
        if members:
            outer = _open_archive(path, members[:-1], *version)
            return Archive(io.BytesIO(outer.read(members[-1], MAX_ZIP_IN_ZIP)))
        return Archive(io.BytesIO(read_bytes(path, MAX_ZIP)))
    except ArchiveError as error:
        raise UnreadableError(str(error)) from None


def _read_member(path: Path, members: tuple[int, ...]) -> bytes:
    try:
        return _archive(path, members[:-1]).read(members[-1], MAX_BYTES)
    except ArchiveError as error:
        raise UnreadableError(str(error)) from None


def _sorted(folder: Path) -> list[os.DirEntry[str]]:
    with os.scandir(folder) as entries:
        return sorted(entries, key=lambda entry: entry.name)


def read_bytes(path: Path, limit: int = MAX_BYTES) -> bytes:
    """Return the content of an ordinary file of limited size.

    Args:
        path: The file.
        limit: The most bytes that it may have.

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
        if status.st_size > limit:
            raise UnreadableError(too_large(status.st_size, limit, SMALLER))
        with open(os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK), "rb") as file:
            content = file.read(limit + 1)
    except OSError as error:
        raise UnreadableError(f"it can't be opened: {error.strerror}") from None
    if len(content) > limit:
        raise UnreadableError("it grew while it was being read")
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
        raise UnreadableError("it is not valid JSON: not a notebook, or damaged") from None
    if not isinstance(notebook, dict) or not isinstance(notebook.get("cells"), list):
        raise UnreadableError("it has no list of cells, so it is not a notebook")
    if len(notebook["cells"]) > MAX_CELLS:
        raise UnreadableError(f"it has {len(notebook['cells'])} cells; the limit is {MAX_CELLS}")
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
        raise UnreadableError(
            "it belongs to no exercise: it defines none of their functions or classes"
        )
    return best


def read_answers(notebook: Mapping[str, Any], exercise: Released) -> dict[str, Answer]:
    r"""Return the answer to each step, by its name; ``Definitions`` says what belongs to it.

    Example:
        >>> from stepgrader.steps import CompiledStep
        >>> step = CompiledStep("gate", [], tolerance=1e-5, mistakes=[], cases=[])
        >>> cells = [{"id": "setup", "source": ""}]
        >>> exercise = Released("lstm", {"cells": cells}, [step])
        >>> sources = {
        ...     "gate-answer": "def gate(x):\n    raise NotImplementedError",
        ...     "other": "def gate(x):\n    return x",
        ... }
        >>> cells = [{"id": i, "cell_type": "code", "source": s} for i, s in sources.items()]
        >>> read_answers({"cells": cells}, exercise)["gate"].note
        'gate is defined in another cell than gate-answer; that one is graded'
    """
    cells = _readable(notebook)
    names = [step.name for step in exercise.steps]
    definitions = Definitions(cells, names, setup=exercise.setup)
    long = {cell_id for cell_id, source in _code(notebook) if len(source) > MAX_SOURCE}
    return {name: _read_answer(name, cells, definitions, long) for name in names}


def _read_answer(
    name: str, cells: Sequence[tuple[str, str]], definitions: Definitions, long: set[str]
) -> Answer:
    own_id = f"{cell_stem(name)}-answer"
    selection = definitions.select(name, own_id)
    if selection is None:
        note = f"the cell {own_id} has more than {MAX_SOURCE} characters and was not read"
        return Answer(None, note if own_id in long else None)
    ids = [cell_id for cell_id, _ in cells]
    notes = []
    if ids[selection.number] != own_id and own_id in ids:
        notes.append(f"{name} is defined in another cell than {own_id}; that one is graded")
    elif selection.others:
        notes.append(f"several cells define {name}; the last one before its check is graded")
    notes += [*complaints(selection), *remarks(selection)]
    return Answer(selection.source, "; ".join(notes) or None, selection.helpers, selection.files)


def code_of(notebook: Mapping[str, Any]) -> dict[str, Any]:
    """Return a notebook with nothing but the code cells that are read.

    Example:
        >>> cell = {"id": "a", "cell_type": "code", "source": ["x = 1"], "outputs": ["much"]}
        >>> code_of({"cells": [cell]})
        {'cells': [{'id': 'a', 'cell_type': 'code', 'source': 'x = 1'}]}
    """
    cells = [{"id": i, "cell_type": "code", "source": source} for i, source in _code(notebook)]
    return {"cells": cells}


def _readable(notebook: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Return id and source of the code cells that are read."""
    cells = []
    remaining = MAX_CODE
    for cell_id, source in _code(notebook):
        if len(source) <= min(MAX_SOURCE, remaining):
            cells.append((cell_id, source))
            remaining -= len(source)
    return cells


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
