"""Reports for students and instructors: tables, feedback pages and a summary."""

from __future__ import annotations

import hashlib
import html
import re
import textwrap
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from stepgrader.answers import candidates, code_lines
from stepgrader.atomic_files import SafeWriter
from stepgrader.differences import listed, printable, quantity
from stepgrader.gradebook import counting
from stepgrader.judge import Verdict
from stepgrader.marks import earned
from stepgrader.tables import as_csv

if TYPE_CHECKING:  # a check in a notebook needs no sandbox, which there is not on every system
    from stepgrader.batch import Result
    from stepgrader.grader import Graded, GradedStep

__all__ = [
    "UNDONE",
    "distinct_files",
    "feedback_html",
    "file_names",
    "no_grade",
    "plain",
    "step_head",
    "step_lines",
    "table",
    "verdict_lines",
    "write_reports",
]

MAX_FILE_NAME = 100  # bytes: beside endings and what is added, a file system takes 255
WIDTH = 100  # of a table
MARKS = {"right": "✓", "wrong": "✗", "open": "○", "missing": "○"}
UNDONE = {"open": "not written yet", "missing": "no cell defines it"}
"""What is said of an answer that is not there, by the status of the verdict."""


def verdict_lines(name: str, verdict: Verdict, points: int, tested: Iterable[str]) -> Iterator[str]:
    """Yield the lines of the report on one step.

    Args:
        name: Name of the step.
        verdict: The verdict on the answer.
        points: Points that a right answer earns.
        tested: The properties that were tested.

    Example:
        >>> list(verdict_lines("gate", Verdict("right"), points=2, tested=["a small batch"]))
        ['✓ gate: 2 of 2 points, tested: a small batch']
    """
    mark = f"{earned(verdict, points)} of {_points(points)}"
    yield f"{MARKS[verdict.status]} {name}: {mark}{_separator(verdict)}{_remark(verdict, tested)}"
    for line in _reasons(verdict):
        yield f"  {line}"
    if verdict.holds() and verdict.status == "wrong" and not verdict.share():
        yield "  the first property must hold for the others to earn points"


def table(graded: Graded) -> Iterator[str]:
    r"""Yield the lines of the table of a notebook's grades.

    Example:
        >>> from stepgrader.grader import Graded, GradedStep
        >>> step = GradedStep("gate", "A gate", 0, 2, Verdict("open"))
        >>> print("\n".join(table(Graded("lstm", "The LSTM", [step]))))
        The LSTM
          ○ gate  0 of 2  not written yet
        0 of 2 points
    """
    width = max(len(step.name) for step in graded.steps)
    digits = max(len(str(step.points)) for step in graded.steps)
    yield graded.title
    for step in graded.steps:
        verdict = step.verdict
        mark = f"{step.points:>{digits}} of {step.out_of}"
        head = f"  {MARKS[verdict.status]} {step.name:{width}}  {mark}"
        reasons = []
        if verdict.status == "wrong":
            reasons = [verdict.diagnosis or verdict.hint or verdict.finding or ""]
            if verdict.share():
                reasons.append(_remark(verdict, ()))
        elif verdict.status != "right":
            reasons = [_undone(verdict)]
        for text in [*reasons, *step.notes] or [""]:
            indent = " " * (len(head) + 2)
            lines = textwrap.wrap(text, WIDTH - len(indent)) or [""]
            yield f"{head}  {lines[0]}".rstrip()
            yield from (indent + line for line in lines[1:])
            head = " " * len(head)
    yield f"{graded.points} of {_points(graded.out_of)}"


def write_reports(
    results: Sequence[Result],
    writer: SafeWriter,
    count: set[int] | None = None,
    ignored: Sequence[str] = (),
) -> dict[str, list[Path]]:
    """Write tables, a summary, and a feedback page for each student.

    These are ``grades.csv``, ``steps.csv``, ``summary.md``, ``candidates.md`` and ``feedback``.

    Args:
        results: The result of every submission.
        writer: Writes the files. It skips a page that was changed by hand; a table is renamed.
        count: The numbers of the results that count (default: see ``gradebook.counting``).
        ignored: What lies among the submissions and is nobody's; see ``find_ignored``.

    Returns:
        The files of each student's feedback page.

    Raises:
        OSError: A file can't be written.

    Example:
        >>> from pathlib import Path
        >>> from tempfile import TemporaryDirectory
        >>> from stepgrader.batch import Result
        >>> from stepgrader.grader import Graded, GradedStep
        >>> from stepgrader.submissions import Submission
        >>> step = GradedStep("gate", "A gate", 2, 2, Verdict("right"))
        >>> graded = Graded("lstm", "The LSTM", [step])
        >>> result = Result(Submission("ada", Path("lstm.ipynb")), graded)
        >>> with TemporaryDirectory() as folder:
        ...     pages = write_reports([result], SafeWriter(Path(folder)))
        ...     print(Path(folder, "grades.csv").read_text(encoding="utf-8-sig"), end="")
        student,exercise,points,out_of,counts,file,remark
        ada,lstm,2,2,yes,lstm.ipynb,
    """
    count = counting(results) if count is None else count
    out = writer.folder
    writer.replace(out / "grades.csv", as_csv(_grade_rows(results, count)))
    writer.replace(out / "steps.csv", as_csv(_step_rows(results, count)))
    handed_in = {  # once, also if it counts for a group
        (result.submission.path, result.submission.members): result.graded
        for result in (results[number] for number in sorted(count))
        if result.graded is not None
    }
    writer.replace(out / "candidates.md", "\n".join(candidates(handed_in.values())))
    writer.replace(out / "summary.md", "\n".join(_summary(results, count, ignored)) + "\n")
    pages: dict[str, list[tuple[Result, bool]]] = defaultdict(list)
    for number, result in enumerate(results):
        pages[result.submission.student].append((result, number in count))
    files: dict[str, list[Path]] = {}
    names = file_names(pages)
    for student, own in pages.items():
        files[student] = [out / "feedback" / f"{names[student]}{end}" for end in (".html", ".md")]
        for path, page in zip(files[student], (feedback_html, _markdown), strict=True):
            writer.write(path, "\n".join(page(student, own)))
    return files


def _counted(results: Sequence[Result], count: set[int]) -> Iterator[tuple[str, Graded]]:
    """Yield student and grade of each result that counts."""
    for number in sorted(count):
        if (graded := results[number].graded) is not None:
            yield results[number].submission.student, graded


def _points(number: float) -> str:
    return quantity(number, "point")


def _remark(verdict: Verdict, tested: Iterable[str]) -> str:
    if verdict.status == "right":
        return f"tested: {'; '.join(dict.fromkeys(tested))}"
    if verdict.status == "wrong":
        if not verdict.property:
            return "it did not finish"
        first = f"first property that fails: {verdict.property}"
        if not verdict.share():
            return first
        return f"{len(verdict.holds())} of {len(verdict.properties)} properties hold; {first}"
    return _undone(verdict)


def _separator(verdict: Verdict) -> str:
    """Return what stands between the points and the remark."""
    return "; " if verdict.status == "wrong" else ", "


def _undone(verdict: Verdict) -> str:
    if verdict.status == "open" and verdict.finding:
        return verdict.finding
    return UNDONE[verdict.status]


def _reasons(verdict: Verdict) -> Iterator[str]:
    if verdict.status == "wrong":
        if verdict.diagnosis:
            yield verdict.diagnosis
        if verdict.finding:
            yield verdict.finding
        if verdict.hint:
            yield verdict.hint
        if verdict.example and not verdict.diagnosis:  # words say more than numbers
            yield from verdict.example.splitlines()
        if verdict.holds():
            yield f"properties that hold: {'; '.join(verdict.holds())}"
            yield f"properties that fail: {'; '.join(verdict.fails())}"


def _name(text: str) -> str:
    """Return a name of a student or file in printable form, different for different names."""
    return "".join(
        c if c.isprintable() and c != "\\" else c.encode("unicode_escape").decode() for c in text
    )


def _grade_rows(results: Sequence[Result], count: set[int]) -> Iterator[Sequence[Any]]:
    yield "student", "exercise", "points", "out_of", "counts", "file", "remark"
    several: Counter[tuple[str, str]] = Counter()
    counted: dict[tuple[str, str], str] = {}
    for number, result in enumerate(results):
        if result.graded is not None:
            key = _name(result.submission.student), result.graded.exercise
            several[key] += 1
            if number in count:
                counted[key] = _name(result.submission.name)
    for number, result in enumerate(results):
        student, file = _name(result.submission.student), _name(result.submission.name)
        graded, beside = result.graded, result.submission.remark
        if graded is None:
            remark = f"{'not graded' if result.grader_fault else 'not read'}: {result.problem}"
            if result.submission.absent:
                remark = "nothing was handed in"
            remark = "; ".join(filter(None, (remark, beside)))
            yield student, "", "" if result.grader_fault else 0, "", "", file, remark
        else:
            key = student, graded.exercise
            others = f"one of {several[key]} notebooks of this exercise" if several[key] > 1 else ""
            yield (
                student,
                graded.exercise,
                graded.points,
                graded.out_of,
                "yes" if number in count else f"no, {counted.get(key, 'another')} counts",
                file,
                "; ".join(filter(None, (*graded.remarks, others, beside))),
            )


def _step_rows(results: Sequence[Result], count: set[int]) -> Iterator[Sequence[Any]]:
    columns = ("student", "exercise", "step", "points", "out_of", "status", "property", "mistake")
    yield *columns, "holds", "fails", "right_versions", "remark"
    for student, graded in _counted(results, count):
        for step in graded.steps:
            verdict = step.verdict
            yield (
                _name(student),
                graded.exercise,
                step.name,
                step.points,
                step.out_of,
                verdict.status,
                verdict.property or "",
                verdict.diagnosis or "",
                "; ".join(verdict.holds()),
                "; ".join(verdict.fails()),
                "; ".join(step.right_versions),
                "; ".join(step.notes),
            )


def distinct_files(results: Iterable[Result]) -> int:
    """Return how many files were handed in, each counted once, also if it is several students'.

    Example:
        >>> from pathlib import Path
        >>> from stepgrader.batch import Result
        >>> from stepgrader.submissions import Submission
        >>> pair = [Submission(student, Path("a.ipynb")) for student in ("ada", "bob")]
        >>> distinct_files(Result(submission, None) for submission in pair)
        1
    """
    handed_in = (result.submission for result in results)
    return len({(one.path, one.members) for one in handed_in if one.path != Path()})


def _overall(results: Sequence[Result]) -> str:
    """Return a sentence on how much was handed in."""
    graded = [result for result in results if result.graded and result.submission.path != Path()]
    students = {result.submission.student for result in graded}
    files = distinct_files(graded)
    rest = distinct_files(result for result in results if result.graded is None)
    given = sum(result.graded is not None for result in results) - len(graded)
    absent = sum(result.submission.absent for result in results)
    parts = [
        f"{quantity(files, 'notebook')} of {quantity(len(students), 'student')} "
        f"{'has' if files == 1 else 'have'} a grade",
        f"{quantity(rest, 'file')} {'has' if rest == 1 else 'have'} none",
    ]
    if given:
        parts.append(f"{quantity(given, 'grade')} {'was' if given == 1 else 'were'} given by hand")
    if absent:
        parts.append(f"{quantity(absent, 'student')} handed in nothing")
    return f"{listed(parts)}."


def _summary(
    results: Sequence[Result], count: set[int], ignored: Sequence[str] = ()
) -> Iterator[str]:
    yield "# Summary"
    yield ""
    yield _overall(results)
    if ignored:
        names = ", ".join(plain(_name(name)) for name in ignored)
        yield ""
        yield f"Ignored, because an operating system or a program left it there: {names}."
    unread = [result for result in results if result.graded is None]
    by_exercise: dict[str, list[Graded]] = defaultdict(list)
    for _, notebook in _counted(results, count):
        by_exercise[notebook.exercise].append(notebook)
    for graded in by_exercise.values():
        mean = sum(notebook.points for notebook in graded) / len(graded)
        yield ""
        yield f"## {graded[0].title}"
        yield ""
        average = f"on average {mean:.1f} of {_points(graded[0].out_of)}"
        yield f"{quantity(len(graded), 'student')}, {average}."
        yield ""
        yield "| step | right | partly right | wrong | not written |"
        yield "|---|---:|---:|---:|---:|"
        for steps in zip(*(notebook.steps for notebook in graded), strict=True):
            statuses = Counter(step.verdict.status for step in steps)
            undone = statuses["open"] + statuses["missing"]
            partly = sum(step.verdict.status == "wrong" and step.points > 0 for step in steps)
            counts = (statuses["right"], partly, statuses["wrong"] - partly, undone)
            yield f"| {steps[0].name} | {' | '.join(map(str, counts))} |"
        yield from _mistakes(graded)
    if unread:
        yield ""
        yield "## Without a grade"
        yield ""
        for result in unread:
            yield f"- {plain(_name(result.submission.student))}: {plain(result.problem or '')}"


def _mistakes(graded: Sequence[Graded]) -> Iterator[str]:
    counts: Counter[tuple[str, str]] = Counter()
    for step in (step for notebook in graded for step in notebook.steps):
        if step.verdict.status == "wrong":
            counts[step.name, _mistake(step)] += 1
    if counts:
        yield ""
        yield "| times | step | mistake |"
        yield "|---:|---|---|"
        for (name, mistake), times in sorted(counts.items(), key=lambda item: (-item[1], item[0])):
            yield f"| {times} | {name} | {mistake.replace('|', '/')} |"


def _mistake(step: GradedStep) -> str:
    if step.verdict.diagnosis:
        return step.verdict.diagnosis
    if step.verdict.hint:
        return f"hint: {step.verdict.hint}"
    return f"no known mistake ({_unknown(step)})"


def _unknown(step: GradedStep) -> str:
    return f"fails at: {step.verdict.property}" if step.verdict.property else "returned nothing"


def file_names(students: Iterable[str]) -> dict[str, str]:
    """Return a unique and safe file name for each student's page.

    A student whose name is safe keeps it, whatever the names of the others.

    Example:
        >>> file_names(["Ada Lovelace (7)", "../bob"])["../bob"].startswith("_bob-")
        True
    """
    names: dict[str, str] = {}
    taken: set[str] = set()
    for student in sorted(students, key=lambda student: _clean(student) != student):
        name = _clean(student)
        if name != student or name.casefold() in taken:
            full = student.encode(errors="surrogateescape")
            name += f"-{hashlib.sha256(full).hexdigest()[:8]}"
        while name.casefold() in taken:
            name += "_"
        taken.add(name.casefold())
        names[student] = name
    return names


def _clean(student: str) -> str:
    name = re.sub(r"[^\w ,.-]", "_", student)
    return name.encode()[:MAX_FILE_NAME].decode(errors="ignore").strip(" .") or "_"


def plain(text: str) -> str:
    r"""Return text with the special characters of Markdown escaped.

    Example:
        >>> print(plain("<b>forget_gate"))
        \<b\>forget\_gate
    """
    return re.sub(r"([\\`*_{}\[\]()#+!|<>~&$-])", r"\\\1", printable(text))


def _markdown(student: str, results: Sequence[tuple[Result, bool]]) -> Iterator[str]:
    yield f"# Feedback for {plain(_name(student))}"
    for result, counts in results:
        yield ""
        graded = result.graded
        if graded is None:
            yield f"## {plain(_name(result.submission.name))}"
            yield ""
            yield plain(no_grade(result))
            continue
        yield f"## {graded.title}: {graded.points} of {_points(graded.out_of)}"
        if not counts:
            yield ""
            yield "Another notebook of this exercise counts."
        for remark in graded.remarks:
            yield ""
            yield f"**{plain(remark)}.**"
        for step in graded.steps:
            yield ""
            yield f"### {step_head(step)}"
            for note in step.notes:
                yield ""
                yield f"{note[:1].upper()}{note[1:]}."
            if lines := list(_reasons(step.verdict)):
                yield ""
                yield from (f"    {line}" for line in lines)
            if _shows_code(step):
                yield ""
                yield "Your code:"
                yield ""
                yield from (f"    {line}" for line, _ in code_lines(step))
    yield ""


def _shows_code(step: GradedStep) -> bool:
    return step.verdict.status == "wrong" and bool(step.source)


def step_lines(step: GradedStep) -> list[str]:
    """Return the lines below the head of a step: notes, and why the answer is wrong.

    Example:
        >>> from stepgrader.grader import GradedStep
        >>> verdict = Verdict("wrong", finding="expected 2, got 3")
        >>> step_lines(GradedStep("gate", "A gate", 0, 2, verdict, ["2 cells answer this step"]))
        ['2 cells answer this step', 'expected 2, got 3']
    """
    return [*step.notes, *_reasons(step.verdict)]


def step_head(step: GradedStep) -> str:
    """Return the line with title and points of a step.

    Example:
        >>> from stepgrader.grader import GradedStep
        >>> step_head(GradedStep("gate", "A gate", 2, 2, Verdict("right")))
        '✓ A gate: 2 of 2 points'
    """
    verdict = step.verdict
    head = f"{MARKS[verdict.status]} {step.title}: {step.points} of {_points(step.out_of)}"
    return head if verdict.status == "right" else head + _separator(verdict) + _remark(verdict, ())


def no_grade(result: Result) -> str:
    """Return why a submission has no grade, as a sentence for the student.

    Example:
        >>> from pathlib import Path
        >>> from stepgrader.batch import Result
        >>> from stepgrader.submissions import Submission
        >>> no_grade(Result(Submission("ada", Path("lstm.ipynb")), None, "it is not JSON"))
        'This could not be read: it is not JSON.'
    """
    if result.grader_fault:
        return (
            "This could not be graded because of a problem in the grader, not in your work. Your "
            "instructor has been informed."
        )
    if result.submission.absent:
        return "Nothing was handed in."
    return f"This could not be read: {printable(result.problem or '')}."


STYLE = """
:root { color-scheme: light dark }
body { font: 1rem/1.5 system-ui, sans-serif; max-width: 50rem; margin: 2rem auto; padding: 0 1rem }
h2 { border-top: 1px solid; margin-top: 2rem; padding-top: 1rem }
h3 { font-size: 1rem; margin-bottom: .3rem }
pre { white-space: pre-wrap; overflow-wrap: anywhere; border-left: 3px solid; padding-left: .8rem }
"""


def feedback_html(student: str, results: Sequence[tuple[Result, bool]]) -> Iterator[str]:
    """Yield the lines of a student's feedback page.

    Args:
        student: Name of the student.
        results: Their results, and for each whether it counts.

    Example:
        >>> from pathlib import Path
        >>> from stepgrader.batch import Result
        >>> from stepgrader.submissions import Submission
        >>> result = Result(Submission("<ada>", Path("lstm.ipynb")), None, "it is not JSON")
        >>> print(list(feedback_html("<ada>", [(result, True)]))[-5].partition("<body>")[2])
        <h1>Feedback for &lt;ada&gt;</h1>
    """
    title = html.escape(f"Feedback for {_name(student)}")
    yield "<!doctype html>"
    yield '<html lang="en"><head><meta charset="utf-8">'
    yield '<meta name="viewport" content="width=device-width, initial-scale=1">'
    yield (
        '<meta http-equiv="Content-Security-Policy" '
        "content=\"default-src 'none'; style-src 'unsafe-inline'\">"
    )
    yield f"<title>{title}</title><style>{STYLE}</style></head><body><h1>{title}</h1>"
    for result, counts in results:
        graded = result.graded
        if graded is None:
            yield f"<h2>{html.escape(_name(result.submission.name))}</h2>"
            yield f"<p>{html.escape(no_grade(result))}</p>"
            continue
        yield f"<h2>{html.escape(graded.title)}: {graded.points} of {_points(graded.out_of)}</h2>"
        if not counts:
            yield "<p>Another notebook of this exercise counts.</p>"
        yield from (f"<p><strong>{html.escape(text)}.</strong></p>" for text in graded.remarks)
        for step in graded.steps:
            yield f"<h3>{html.escape(step_head(step))}</h3>"
            yield from (f"<p>{html.escape(note)}</p>" for note in step.notes)
            if lines := list(_reasons(step.verdict)):
                yield f"<pre>{html.escape(chr(10).join(lines))}</pre>"
            if _shows_code(step):
                code = [
                    f"<mark>{html.escape(line)}</mark>" if failed else html.escape(line)
                    for line, failed in code_lines(step)
                ]
                yield f"<p>Your code:</p><pre>{chr(10).join(code)}</pre>"
    yield "</body></html>"
    yield ""
