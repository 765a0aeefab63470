"""The answers to open questions, which no program judges: collected on a page, with a rubric."""

from __future__ import annotations

import base64
import binascii
import csv
import html
import io
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from stepgrader.differences import printable
from stepgrader.reports import STYLE
from stepgrader.submissions import UnreadableError, read, read_notebook
from stepgrader.tables import as_csv, read_csv

if TYPE_CHECKING:
    from stepgrader.batch import Result
    from stepgrader.exercises import Exercise

__all__ = ["Criterion", "OpenCell", "collect_open_answers", "open_answer", "read_rubric", "sheet"]

TASK = "open-task"  # id of the cell that asks the question; the answer is all that follows
MAX_CELLS = 100
MAX_LINES = 400  # of a cell or of an output
MAX_COLUMNS = 500
MAX_PICTURE = 2 * 2**20  # bytes
PNG = b"\x89PNG\r\n\x1a\n"


@dataclass(frozen=True)
class OpenCell:
    """A cell of an answer to an open question.

    Args:
        source: Its text or code.
        code: Whether it is code.
        outputs: What it printed.
        pictures: What it drew, in PNG.

    Example:
        >>> OpenCell("Peepholes do help.").code
        False
    """

    source: str
    code: bool = False
    outputs: list[str] = field(default_factory=list)
    pictures: list[bytes] = field(default_factory=list)


@dataclass(frozen=True)
class Criterion:
    """A criterion of a rubric.

    Args:
        text: What is asked.
        points: What it is worth.

    Example:
        >>> Criterion("compares with always answering the mean", 2).points
        2
    """

    text: str
    points: float


def read_rubric(path: Path) -> list[Criterion]:
    r"""Read a rubric; without the file there is none.

    Raises:
        OSError: The file can't be read.
        ValueError: It is not TOML with tables ``criteria`` of ``text`` and ``points``.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     path = Path(folder, "rubric.toml")
        ...     length = path.write_text('[[criteria]]\ntext = "has a baseline"\npoints = 2\n')
        ...     read_rubric(path)
        [Criterion(text='has a baseline', points=2)]
    """
    if not path.exists():
        return []
    try:
        data = tomllib.loads(path.read_text(encoding="utf-8-sig"))
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from None
    criteria = data.pop("criteria", None)
    if data or not isinstance(criteria, list):
        raise ValueError(f"{path}: expected tables [[criteria]] and nothing else")
    for number, entry in enumerate(criteria, start=1):
        match entry:
            case {"text": str(), "points": int() | float(), **rest} if not rest:
                continue
            case _:
                raise ValueError(f"{path}: criterion {number}: expected text and points")
    return [Criterion(entry["text"], entry["points"]) for entry in criteria]


def open_answer(notebook: Mapping[str, Any], given: Mapping[str, Any]) -> list[OpenCell]:
    """Return a student's answer to the open question: what they added after the task.

    Args:
        notebook: The notebook that was handed in; it is untrusted.
        given: The notebook of the exercise.

    Example:
        >>> task = {"id": "open-task", "cell_type": "markdown", "source": "## 9. Open: why?"}
        >>> added = {"cell_type": "markdown", "source": "Because."}
        >>> open_answer({"cells": [task, added]}, {"cells": [task]})
        [OpenCell(source='Because.', code=False, outputs=[], pictures=[])]
    """
    tasks = [cell for cell in given["cells"] if cell.get("id") == TASK]
    if not tasks:
        return []
    task = _text(tasks[0].get("source"))
    heading = task.partition("\n")[0]
    cells = [cell for cell in notebook["cells"] if isinstance(cell, dict)]
    starts = [
        number
        for number, cell in enumerate(cells)
        if cell.get("id") == TASK or _text(cell.get("source")).startswith(heading)
    ]
    if not starts:
        return []
    unchanged = {_text(cell.get("source")).strip() for cell in given["cells"]} | {""}
    answer: list[OpenCell] = []
    for cell in cells[starts[-1] : starts[-1] + MAX_CELLS]:
        source = _text(cell.get("source")).removeprefix(task).strip()  # also below the task
        if source not in unchanged:
            code = cell.get("cell_type") == "code"
            texts, pictures = _outputs(cell) if code else ([], [])
            answer.append(OpenCell(source, code, texts, pictures))
    return answer


def _text(source: Any) -> str:
    if isinstance(source, list) and all(isinstance(line, str) for line in source):
        source = "".join(source)
    return source if isinstance(source, str) else ""


def _outputs(cell: Mapping[str, Any]) -> tuple[list[str], list[bytes]]:
    texts: list[str] = []
    pictures: list[bytes] = []
    outputs = cell.get("outputs")
    for output in outputs if isinstance(outputs, list) else []:
        if not isinstance(output, dict):
            continue
        data = output.get("data")
        data = data if isinstance(data, dict) else {}
        if picture := _picture(data.get("image/png")):
            pictures.append(picture)
        elif text := _text(output.get("text")) or _text(data.get("text/plain")):
            texts.append(text)
    return texts, pictures


def _picture(data: Any) -> bytes | None:
    text = "".join(_text(data).split())
    try:
        picture = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        return None
    return picture if picture.startswith(PNG) and len(picture) <= MAX_PICTURE else None


def collect_open_answers(
    results: Sequence[Result],
    count: set[int],
    exercises: Mapping[str, Exercise],
    rubrics: Mapping[str, Sequence[Criterion]],
) -> dict[str, tuple[str, list[str]]]:
    """Return the page with all answers to each open question that has an answer.

    Args:
        results: The result of every submission.
        count: The numbers of those that count.
        exercises: All exercises, by name.
        rubrics: The rubric of each exercise that has one.

    Returns:
        By the name of the exercise, the page in HTML and the students who answered.

    Example:
        >>> collect_open_answers([], set(), {}, {})
        {}
    """
    answers: dict[str, dict[tuple[Path, tuple[int, ...]], list[OpenCell]]] = {}
    students: dict[str, dict[tuple[Path, tuple[int, ...]], list[str]]] = {}
    for number in sorted(count):
        submission, graded = results[number].submission, results[number].graded
        if graded is None or not submission.path.name:
            continue
        file = submission.path, submission.members  # one for all members of a group
        own = answers.setdefault(graded.exercise, {})
        if file not in own:
            try:
                notebook = read_notebook(read(submission))
            except UnreadableError:
                continue
            own[file] = open_answer(notebook, exercises[graded.exercise].notebook)
        students.setdefault(graded.exercise, {}).setdefault(file, []).append(submission.student)
    pages: dict[str, tuple[str, list[str]]] = {}
    for name, own in answers.items():
        answered = [(students[name][file], cells) for file, cells in own.items() if cells]
        silent = [
            student for file, cells in own.items() if not cells for student in students[name][file]
        ]
        if answered:
            lines = _page(exercises[name], rubrics.get(name, ()), answered, silent)
            pages[name] = (
                "\n".join(lines),
                [student for people, _ in answered for student in people],
            )
    return pages


def sheet(path: Path, students: Sequence[str], rubric: Sequence[Criterion]) -> str | None:
    r"""Return the sheet for the points of an open question, with a row for each student.

    What the sheet holds already stays; students that it lacks are added.

    Args:
        path: The sheet, which need not exist.
        students: Who answered.
        rubric: The criteria, each a column.

    Returns:
        The text of the sheet; None if the one that there is needs no change.

    Raises:
        OSError: The sheet can't be read.
        ValueError: It is in an encoding that can't be read.

    Example:
        >>> sheet(Path("none"), ["Ada (7)"], [Criterion("has a baseline", 2)])
        '\ufeffstudent,has a baseline (2),comment\nAda (7),,\n'
    """
    columns = [f"{criterion.text} ({criterion.points:g})" for criterion in rubric] or ["points"]
    heading = ("student", *columns, "comment")
    blank = [""] * (len(heading) - 1)
    if not path.exists():
        return as_csv([heading, *((student, *blank) for student in students)])
    text = read_csv(path)
    listed = {row[0].removeprefix("'") for row in csv.reader(io.StringIO(text)) if row}
    missing = [student for student in students if printable(student) not in listed]
    if not missing:
        return None
    rows = as_csv([heading, *((student, *blank) for student in missing)])
    mark = rows[: rows.index("student")]
    return f"{mark}{text}" + ("" if text.endswith("\n") else "\n") + rows.partition("\n")[2]


def _page(
    exercise: Exercise,
    rubric: Sequence[Criterion],
    answers: Sequence[tuple[Sequence[str], Sequence[OpenCell]]],
    silent: Sequence[str],
) -> Iterator[str]:
    title = html.escape(f"{exercise.title}: the open question")
    [task] = [cell for cell in exercise.notebook["cells"] if cell.get("id") == TASK]
    yield "<!doctype html>"
    yield '<html lang="en"><head><meta charset="utf-8">'
    yield '<meta name="viewport" content="width=device-width, initial-scale=1">'
    yield (
        '<meta http-equiv="Content-Security-Policy" '
        "content=\"default-src 'none'; style-src 'unsafe-inline'; img-src data:\">"
    )
    yield f"<title>{title}</title><style>{STYLE}{PAGE_STYLE}</style></head><body><h1>{title}</h1>"
    yield f"<pre>{_escaped(_text(task.get('source')))}</pre>"
    for students, cells in answers:
        yield f"<h2>{html.escape(printable(', '.join(students)))}</h2>"
        for cell in cells:
            yield f'<pre class="{"code" if cell.code else "text"}">{_escaped(cell.source)}</pre>'
            yield from (f"<pre>{_escaped(text)}</pre>" for text in cell.outputs)
            for picture in cell.pictures:
                data = f"data:image/png;base64,{base64.b64encode(picture).decode()}"
                yield f'<img alt="A picture that the code drew." src="{data}">'
        yield from _rubric_table(rubric)
    if silent:
        yield f"<h2>Without an answer</h2><p>{html.escape(printable(', '.join(silent)))}</p>"
    yield "</body></html>"
    yield ""


PAGE_STYLE = """
.text { border-left: 0; padding-left: 0; font: inherit }
img { max-width: 100%; background: white }
table { border-collapse: collapse; width: 100% }
th, td { border: 1px solid; padding: .3rem; text-align: left }
td:last-child { width: 6rem }
"""


def _rubric_table(rubric: Sequence[Criterion]) -> Iterator[str]:
    yield "<table><tr><th>criterion</th><th>points</th></tr>"
    for criterion in rubric:
        yield f"<tr><td>{html.escape(criterion.text)}</td><td>of {criterion.points:g}</td></tr>"
    yield "<tr><td>comment:</td><td></td></tr></table>"


def _escaped(text: str) -> str:
    lines = text.expandtabs(4).splitlines()
    printed = [printable(line, limit=MAX_COLUMNS) for line in lines[:MAX_LINES]]
    if len(lines) > MAX_LINES:
        printed.append(f"... and {len(lines) - MAX_LINES} more lines")
    return html.escape("\n".join(printed))
