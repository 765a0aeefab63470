"""Submissions that attack the grader: what is tried, and what must hold all the same.

One batch grades all attacks of ``hostile_answers``, files and notebooks of every bad form, and
honest submissions between them. None gains a point that it has not earned; honest ones get exactly
what they get among themselves; the batch ends; nothing is written outside of its folder, no process
is left; and the student learns what happened, but no hidden input.

The sandbox is bubblewrap, namespaces, limits and a filter of system calls (``stepgrader.sandbox``
and ``stepgrader.worker.hardening``); ``stepgrader.grader`` validates whatever comes out of it.
Where bubblewrap can't work these tests are skipped, and ``make test`` says so in its last line.
To add an attack, add it to a table there, with the words that only a stopped attack earns.
"""

import contextlib
import csv
import errno
import html
import json
import os
import platform
import re
import shutil
import signal
import socket
import stat
import subprocess
import sys
import tempfile
import threading
import uuid
from concurrent.futures import ThreadPoolExecutor
from html.parser import HTMLParser
from pathlib import Path
from unittest import mock

import hostile_answers as hostile
import pytest
from conftest import PATIENCE, wait_until

import stepgrader.batch
import stepgrader.grader
import stepgrader.tasks
from seqbook.exercises import COURSE
from stepgrader import sandbox
from stepgrader.atomic_files import SafeWriter, write_whole
from stepgrader.batch import MAX_NOTEBOOKS, grade_folder
from stepgrader.compiled import AuthoredExercises
from stepgrader.exercises import Exercise
from stepgrader.grader import grade_notebook
from stepgrader.reports import feedback_html, write_reports
from stepgrader.sandbox import NoSandboxError, Sandbox
from stepgrader.worker.hardening import ALLOWED, ARCHITECTURES
from stepgrader.worker.values import decode

SEED = 6021
MARK = uuid.uuid4().hex
SECRET = f"secret-{MARK}"
# On a busy machine all takes long, which must change nothing; so the clock is set wide.
LIMITS = {"cpu_seconds": 2, "wall_seconds": 100}

DOUBLED = "def doubled(x):\n    return 2 * x  # HONEST_MARK"
WEIGHTED = "def weighted(x, y):\n    return (x * y).sum()"
UNWRITTEN = "raise NotImplementedError"
POINTS = 3

# Numbers of nine digits, so that a hidden one is known wherever it turns up.
STEPS_SOURCE = """
import torch

from stepgrader.steps import Mistake, Step


def _numbers(sampler):
    drawn = sampler.random.integers(10**8, 10**9, size=2 + sampler.size)
    return torch.from_numpy(drawn).double()


def _same(x):
    return x


def _sum(x, y):
    return (x + y).sum()


STEPS = [
    Step(
        "doubled",
        lambda x: x + x,
        {"twice as much": lambda sampler: {"x": _numbers(sampler)}},
        [Mistake("this returns x as it came", answer=_same)],
        [],
    ),
    Step(
        "weighted",
        lambda x, y: torch.dot(x, y),
        {"a sum": lambda sampler: {"x": _numbers(sampler), "y": _numbers(sampler)}},
        [Mistake("this is the sum of both", answer=_sum)],
        [],
        gradients=("x",),
    ),
]
"""


def cell(kind, cell_id, source):
    code = {"outputs": [], "execution_count": None} if kind == "code" else {}
    return {"cell_type": kind, "id": cell_id, "metadata": {}, "source": source, **code}


def make_notebook(doubled=DOUBLED, weighted=WEIGHTED):
    return {
        "cells": [
            cell("markdown", "title", "# Guarded"),
            cell("code", "setup", "import torch"),
            cell("markdown", "doubled-task", "## 1. Double (★, 1 minutes, 1 point)"),
            cell("code", "doubled-answer", doubled),
            cell("code", "doubled-check", "check(doubled)"),
            cell("markdown", "weighted-task", "## 2. Weigh (★, 1 minutes, 2 points)"),
            cell("code", "weighted-answer", weighted),
            cell("code", "weighted-check", "check(weighted)"),
        ],
        "metadata": {"stepgrader": {"exercise": "guarded"}},
        "nbformat": 4,
        "nbformat_minor": 5,
    }


@pytest.fixture(scope="module")
def guarded(tmp_path_factory):
    folder = tmp_path_factory.mktemp("sources") / "guarded"
    folder.mkdir()
    marked = {
        name: source.replace("return", "### BEGIN SOLUTION\n    return") + "\n    ### END SOLUTION"
        for name, source in (("doubled", DOUBLED), ("weighted", WEIGHTED))
    }
    (folder / "guarded.ipynb").write_text(json.dumps(make_notebook(**marked)), encoding="utf-8")
    (folder / "steps.py").write_text(STEPS_SOURCE, encoding="utf-8")
    return Exercise.load(folder), folder


def authored(guarded):
    _, folder = guarded
    return AuthoredExercises(folder.parent, [folder.name])


def numbers_of(cases):
    return {
        int(number)
        for case in cases
        for value in case["inputs"].values()
        for number in decode(value)
    }


class Batch:
    """A folder of submissions, what is expected of each, and what was returned."""

    def __init__(self, folder: Path):
        self.folder = folder / "submissions"
        self.out = folder / "out"
        self.victim = folder / "victim"
        self.expected: dict[str, tuple[int | None, str]] = {}  # by student
        self.honest: dict[str, list[int]] = {}
        for made in (self.folder, self.victim):
            made.mkdir(parents=True)
        (self.victim / "marks.csv").write_text("untouched")

    def add(self, student, content, points, says, name="guarded.ipynb"):
        """Add a file; ``content`` is a notebook, or bytes, or makes something at a path."""
        path = self.folder / student / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if callable(content):
            content(path)
        elif isinstance(content, bytes):
            path.write_bytes(content)
        else:
            path.write_text(json.dumps(content), encoding="utf-8")
        self.expected[student] = (points, says)

    def add_honest(self, student, *, wrong=False):
        answers = {"doubled": "def doubled(x):\n    return x"} if wrong else {}
        self.add(student, make_notebook(**answers), 2 if wrong else 3, "Weigh: 2 of 2 points")
        self.honest[student] = [0, 2] if wrong else [1, 2]

    def grade(self, guarded):
        exercises = authored(guarded)
        self.results = grade_folder(self.folder, self.out, exercises, seed=SEED, jobs=2, **LIMITS)
        write_reports(self.results, SafeWriter(self.out))
        rows = csv.reader((self.out / "grades.csv").read_text(encoding="utf-8-sig").splitlines())
        self.header, *self.rows = rows
        return self


def attacks(batch, exercise, source_folder):
    visible = exercise.release().steps[0].cases
    known = {
        tuple(decode(case["inputs"]["x"]).tolist()): decode(case["expected"]["returned"]).tolist()
        for case in visible
    }
    column, _ = ARCHITECTURES[platform.machine()]
    # Linux exempts the calls of uprobes from filters, and ends a process that makes them.
    uprobes = {"x86_64": {335, 336}}.get(platform.machine(), set())
    numbers = sorted(set(range(600)) - {row[column] for row in ALLOWED.values()} - uprobes)
    targets = [
        str(batch.victim / "marks.csv"),
        str(batch.out / "grades.csv"),
        str(batch.out / "cases" / "guarded.json"),
        str(batch.folder / "a honest" / "guarded.ipynb"),
        str(source_folder / "steps.py"),
        *(f"{place}/seqbook-{MARK}" for place in ("", "/var/tmp", "/dev", "/dev/shm", "/usr/lib")),
        *(
            f"{place}/seqbook-{MARK}"
            for place in (Path.home(), Path.cwd(), sys.prefix, "/sandbox/worker")
        ),
        *("/sandbox/worker/runner.py", "/etc/passwd", "/proc/cpuinfo"),
    ]
    secrets = [
        *targets[:5],
        *(str(path) for path in (batch.folder, batch.out, source_folder, Path(__file__).parent)),
        *("/proc/self/environ", "/proc/1/mem", "/proc/self/maps", "/proc/self/fd", "/etc/passwd"),
        *(
            "/etc/shadow",
            "/home",
            "/tmp",
            "/var",
            "/sys",
            "/run",
            "/usr/share",
            "/usr/src",
            "/dev/mem",
        ),
    ]
    # Above what is mounted there are folders, of which no more than their names can be read.
    mounted = [Path(prefix).resolve() for prefix in (sys.prefix, sys.base_prefix)]
    secrets = [path for path in secrets if not any(m.is_relative_to(path) for m in mounted)]
    # So the /tmp of a Python that is installed below it is no folder for the answer's files.
    in_tmp = any(Path(prefix).is_relative_to("/tmp") for prefix in sandbox.PYTHON)
    places = [".", "~"] if in_tmp else [".", "~", "/tmp"]
    return {
        "ending": hostile.ENDING,
        "using up": hostile.USING_UP,
        "files": hostile.FILES,
        "cheating": hostile.CHEATING,
        "values": hostile.VALUES,
        "forging": hostile.FORGING,
        "showing": hostile.SHOWING,
        "leaking": hostile.leaks(known),
        # "optim" lets the second clean process run it, which has imported torch's optimizers.
        "leaking beside optimizers": {
            name: (f"# optim\n{source}", says)
            for name, (source, says) in hostile.leaks(known).items()
            if name in ("memory of others", "printing")
        },
        "leaving": hostile.leaving(places, MARK),
        "leaving beside optimizers": {
            name: (f"# optim\n{source}", says)
            for name, (source, says) in hostile.leaving(places, MARK).items()
        },
        "reaching": {
            "files to write": (hostile.write_everywhere(targets), "came: []"),
            "files to read": (hostile.read_everywhere(secrets), "came: []"),
            "processes": (hostile.report("import os\ncame += os.listdir('/proc')"), "['cpuinfo']"),
            "devices": (
                hostile.report("import os\ncame += sorted(os.listdir('/dev'))"),
                "['null', 'urandom']",
            ),
            "other modules": (
                hostile.report(
                    "import os\ncame += sorted(os.listdir('/sandbox')) + sorted(os.listdir('/usr'))"
                ),
                "came: ['files', 'worker', 'bin', 'lib'",
            ),
            "environment": (hostile.report("import os\ncame += sorted(os.environ)"), "came: ['"),
            "system calls": (hostile.call_the_kernel(numbers), "came: []"),
            "channels": (hostile.CHANNELS, "came: []"),
            "system calls beside optimizers": (
                f"# optim\n{hostile.call_the_kernel(numbers)}",
                "came: []",
            ),
            "the host's name": (
                hostile.report("import os\ncame.append(os.uname().nodename)"),
                "came: ['sandbox']",
            ),
            "system calls of another kind": (
                # Of 32 bits, or of x32: they have other numbers, so the filter must know them.
                hostile.report(
                    "import ctypes\ncame.append(ctypes.CDLL(None).syscall(0x40000000 + 57))"
                ),
                "came: [-1]",
            ),
            "network": (hostile.SOCKET, hostile.DENIED),
            "network by name": (
                hostile.call(
                    "import urllib.request as u\nu.urlopen('http://192.0.2.1', timeout=1)"
                ),
                "Operation not permitted",
            ),
            "users": (
                hostile.report(
                    """
                    import os
                    for change in (os.setuid, os.setgid, os.seteuid, lambda n: os.setgroups([n])):
                        try:
                            change(0)
                            came.append("root")
                        except OSError:
                            pass
                    """
                ),
                "came: []",
            ),
        },
    }


def bad_files(batch):
    """Yield files that are no notebooks, or odd ones: name, content, points, what is said."""
    right = make_notebook()
    text = json.dumps(right)
    elsewhere = batch.victim / "marks.csv"

    def with_cells(change):
        changed = make_notebook()
        changed["cells"] = change(changed["cells"])
        return changed

    def without(*ids):
        return with_cells(lambda cells: [one for one in cells if one["id"] not in ids])

    def with_answer(**changes):
        return with_cells(
            lambda cells: [one | changes if one["id"] == "doubled-answer" else one for one in cells]
        )

    missing = "no cell defines it"
    yield "empty", b"", None, "it is not valid JSON"
    yield "not JSON", b"\\begin{document}", None, "it is not valid JSON"
    yield "half of it", text[: len(text) // 2].encode(), None, "it is not valid JSON"
    yield "not UTF-8", text.encode("utf-16"), None, "it is not UTF-8 text"
    yield "Latin", b'{"cells": ["\xe9"]}', None, "it is not UTF-8 text"
    yield "no cells", {"metadata": {}}, None, "it has no list of cells"
    yield "cells by name", {"cells": {"a": 1}}, None, "it has no list of cells"
    yield "a list", [right], None, "it has no list of cells"
    yield "a number", b"NaN", None, "it has no list of cells"
    yield "digits", b'{"cells": ' + b"9" * 10_000 + b"}", None, "it is not valid JSON"
    yield "nested", b'{"cells": ' + b"[" * 10**6 + b"]" * 10**6 + b"}", None, "nested too deeply"
    yield "50 MB of source", with_answer(source="#" * 50 * 2**20), None, "the limit is 8 MB"
    yield "many cells", {**right, "cells": [{}] * 100_000}, None, "100000 cells; the limit is 5000"
    yield "no cells at all", {"cells": []}, 0, missing
    yield "another exercise", {**right, "metadata": {"stepgrader": {"exercise": "lstm"}}}, 3, ""
    yield "a strange exercise", {**right, "metadata": {"stepgrader": {"exercise": [{}]}}}, 3, ""
    yield "strange metadata", {**right, "metadata": "<script>"}, 3, ""
    yield "NaN", {**right, "metadata": {"stepgrader": float("nan")}}, 3, ""
    yield "deleted cells", without("doubled-answer", "weighted-answer"), 0, missing
    yield "only an answer", {"cells": [cell("code", "x", DOUBLED)]}, 1, missing
    yield "reordered cells", with_cells(lambda cells: cells[::-1]), 3, ""
    yield (
        "duplicated cells",
        with_cells(
            lambda cells: [*cells, cell("code", "doubled-answer", "def doubled(x): return x")]
        ),
        3,
        "several cells define doubled; the last one before its check is graded",
    )
    yield "renamed cells", with_answer(id="my-cell"), 3, ""
    yield "renamed answer", with_answer(source="def twice(x): return 2 * x"), 2, "does not define"
    yield "an answer in Markdown", with_answer(cell_type="markdown"), 2, missing
    yield "a long source", with_answer(source=DOUBLED + "#" * 200_000), 2, "was not read"
    yield "a source of numbers", with_answer(source=[1, 2]), 2, missing
    yield "a number as source", with_answer(source=5), 2, missing
    yield "a list as id", with_answer(id=["doubled-answer"]), 3, ""
    yield "cells in cells", {**right, "cells": [{"cells": right["cells"]}]}, 0, missing
    yield "strange cells", with_cells(lambda cells: [None, 5, [], "x", *cells]), 3, ""
    yield (
        "keys twice",
        text.replace(
            '"metadata": {"stepgrader"', '"cells": [], "metadata": {"stepgrader"'
        ).encode(),
        0,
        missing,
    )
    yield (
        "stored outputs",
        with_cells(lambda cells: [{**one, "outputs": "3 points"} for one in cells]),
        3,
        "",
    )
    yield "a link to a file", lambda path: path.symlink_to(elsewhere), None, "it is a link"
    yield (
        "a link to another's",
        lambda path: path.symlink_to(batch.folder / "a honest" / path.name),
        None,
        "it is a link",
    )
    yield "a link to nothing", lambda path: path.symlink_to("/nowhere"), None, "it is a link"
    yield "a link to itself", lambda path: path.symlink_to(path), None, "it is a link"
    yield "a pipe", os.mkfifo, None, "it is not an ordinary file"
    yield "a folder", Path.mkdir, None, "it is a folder, not a file"
    yield "a socket", bind, None, "it is not an ordinary file"
    yield "a hard link", lambda path: path.hardlink_to(batch.folder / "a honest" / path.name), 3, ""
    if os.getuid() == 0:
        yield (
            "a device",
            lambda path: os.mknod(path, stat.S_IFCHR, os.makedev(1, 5)),
            None,
            "ordinary",
        )
    else:
        yield "no permission", lambda path: path.touch(0), None, "it can't be opened"


def bind(path):
    """Make a socket, whose name may be longer than its call allows."""
    with contextlib.chdir(path.parent), contextlib.closing(socket.socket(socket.AF_UNIX)) as made:
        made.bind(path.name)


NAMES = (
    "=cmd|' C calc'!A0",
    "+1+1",
    "-2+3",
    "@SUM(1)",
    "\t=1",
    "＝1＋1",
    "one;=1+1",
    'two; "=1+1',
    "new\nline",
    "<script>alert(1)<",
    "\x1b[31mred\x1b]0;title\x07",
    "\u202eright to left",
    "not UTF-8 \udcff\udcfe",
    "long " + "x" * 250,
    "𝒳" * 63,
    "ann?",
    "ann*",
    "Ann_",
    'a,b"c',
    "-rf",
    "..twice",
    "CON",
    "`rm` $(rm) & | ; # [a](b) *c* _d_",
    "김민지",
)


@pytest.fixture(scope="module")
def batch(bubblewrap, tmp_path_factory, guarded):
    exercise, source_folder = guarded
    batch = Batch(tmp_path_factory.mktemp("hostile"))
    for student in ("a honest", "ann_", "zz honest"):
        batch.add_honest(student)
    for kind, table in attacks(batch, exercise, source_folder).items():
        batch.add_honest(f"{kind} 0", wrong=True)
        for name, (source, says) in table.items():
            batch.add(f"{kind}, {name}", make_notebook(source, UNWRITTEN), 0, says)
        batch.add_honest(f"{kind}, zz")
    for name, content, points, says in bad_files(batch):
        batch.add(f"file, {name}", content, points, says)
    for name in NAMES:
        batch.add_honest(name if name != "..twice" else "twice..")
    batch.add("spoiling", make_notebook("import os\nos._exit(0)", WEIGHTED), 2, hostile.ENDED)
    batch.add("waiting", make_notebook("while True: pass", WEIGHTED), 2, hostile.TIME)
    for student, target in (("root", "/"), ("another", batch.folder / "a honest"), ("me", ".")):
        (batch.folder / f"link {student}").symlink_to(target)
        batch.expected[f"link {student}"] = (None, "it is a link")
    batch.before = listing(batch.folder.parent)
    with marked_sandboxes() as batch.processes, pytest.MonkeyPatch.context() as patch:
        patch.setenv("SEQBOOK_SECRET", SECRET)
        batch.grade(guarded)
    batch.after = listing(batch.folder.parent)
    return batch


@contextlib.contextmanager
def marked_sandboxes():
    """Give the sandboxes started in this context a mark of their own in their environment.

    Yields:
        A function that returns the folders, in ``/proc``, of the processes that have the mark.
    """
    mark = f"MARK={uuid.uuid4().hex}".encode()

    def processes():
        found = []
        for environment in Path("/proc").glob("[0-9]*/environ"):
            with contextlib.suppress(OSError):
                if mark in environment.read_bytes():
                    found.append(environment.parent)
        return found

    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(sandbox.ENVIRONMENT, *mark.decode().split("="))
        yield processes


def listing(folder):
    """Return all that lies in a folder, and what would show that it was touched."""
    found = {}
    for place, folders, files in os.walk(folder):
        for name in (*folders, *files):
            path = os.path.join(place, name)
            kept = os.lstat(path)
            found[path] = (kept.st_mode, kept.st_size, kept.st_mtime_ns, kept.st_nlink)
    return found


def told(result):
    """Return the words that a student reads."""
    return html.unescape("\n".join(feedback_html(result.submission.student, [(result, True)])))


# On a slow machine these reach their time limit before the other one, and the message says so.
SLOW = [
    "ending, recursion",
    *(f"using up, {name}" for name in ("output", "output in lines", "printing")),
    *(f"using up, {name}" for name in ("memory of torch", "a long list", "a long text")),
]


def test_no_attack_gains_a_point_and_each_is_told_what_happened(batch):
    found = {result.submission.student: result for result in batch.results}
    assert len(found) == len(batch.results)
    assert set(found) == set(batch.expected)
    wrong = {}
    for student, (points, says) in batch.expected.items():
        result = found[student]
        got = None if result.graded is None else result.graded.points
        slow = student in SLOW and hostile.TIME in told(result)
        if got != points or not (says in told(result) or slow) or result.grader_fault:
            wrong[student] = (points, got, says, told(result)[-600:])
    assert wrong == {}, wrong


def test_honest_submissions_get_what_they_get_among_themselves(batch, guarded, tmp_path):
    alone = Batch(tmp_path)
    for student in batch.honest:
        shutil.copytree(batch.folder / student, alone.folder / student)
    alone.grade(guarded)
    graded = {result.submission.student: result.graded for result in batch.results}
    assert len(alone.results) == len(batch.honest) > 30
    for result in alone.results:
        assert result.graded == graded[result.submission.student]
        points = [step.points for step in result.graded.steps]
        assert points == batch.honest[result.submission.student]


def test_nothing_is_left_behind(batch):
    """No process, no file outside of the results, and what was aimed at is as it was."""
    assert (batch.victim / "marks.csv").read_text() == "untouched"
    out = str(batch.out)
    after = {path: kept for path, kept in batch.after.items() if not path.startswith(out)}
    assert after == batch.before
    for place in ("/", "/tmp", "/var/tmp", "/dev", "/dev/shm", Path.home(), Path.cwd(), sys.prefix):
        assert not (Path(place) / f"seqbook-{MARK}").exists()
    wait_until(lambda: not batch.processes())


def test_who_waits_is_stopped_by_the_clock_and_no_process_is_left(bubblewrap):
    case = {"inputs": {"x": 1.0}, "gradients": [], "options": None, "state": None}
    with marked_sandboxes() as processes, Sandbox(cpu_seconds=2, wall_seconds=1) as waited_for:
        assert processes()
        for source in hostile.WAITING.values():
            cells = [("setup", "import torch"), ("doubled-answer", source)]
            reply = waited_for.run({"cells": cells, "name": "doubled", "cases": [case]})
            assert reply.end == "clock"
    wait_until(lambda: not processes())


def test_what_is_too_much_or_closed_is_told_and_the_rest_is_read(
    bubblewrap, guarded, tmp_path, monkeypatch
):
    batch = Batch(tmp_path)
    batch.add("closed", make_notebook(), None, "")
    for number in range(MAX_NOTEBOOKS + 2):  # each takes its time, and others wait
        batch.add("many", b"nothing", None, "", name=f"{number:03}.ipynb")
    batch.add_honest("one")
    scan = os.scandir

    def refuse(path):
        if Path(path).name == "closed":  # permissions do not hold for root, who may run this
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
        return scan(path)

    monkeypatch.setattr(os, "scandir", refuse)
    closed, *many, one = batch.grade(guarded).results
    assert closed.problem == "it can't be opened: Permission denied"
    assert ["JSON" in result.problem for result in many] == [True] * MAX_NOTEBOOKS + [False] * 2
    assert many[-1].problem == f"only the first {MAX_NOTEBOOKS} notebooks of a student are read"
    assert one.graded.points == POINTS


def killing(grade):
    """Grade as before, but let some notebooks kill the process that grades them."""

    def call(answers, *arguments, **options):
        if "KILL" in (answers["doubled"].source or ""):
            os.kill(os.getpid(), signal.SIGKILL)
        return grade(answers, *arguments, **options)

    return call


def test_a_notebook_that_kills_its_judge_is_set_aside_and_reported(guarded, tmp_path, monkeypatch):
    batch = Batch(tmp_path)
    for student in ("ann", "bea", "eve", "fay"):
        batch.add_honest(student)
    for student in ("cem", "dan"):  # as many as there are processes
        batch.add(student, make_notebook(f"# KILL {student}\n{DOUBLED}"), None, "")
    with monkeypatch.context() as patch:
        patch.setattr(stepgrader.tasks, "grade_answers", killing(stepgrader.tasks.grade_answers))
        results = {one.submission.student: one for one in batch.grade(guarded).results}
    monkeypatch.setattr(stepgrader.tasks, "grade_answers", None)  # fails if it is called again
    again = {one.submission.student: one for one in batch.grade(guarded).results}
    assert again == results
    for student, result in results.items():
        if student in batch.honest:
            assert result.graded.points == POINTS
            continue
        assert result.grader_fault
        said, stored = result.problem.split(", so it is set aside; to try again, remove ")
        assert said == "the process that graded it was ended by SIGKILL"
        assert Path(stored).is_file()
        (row,) = [row for row in batch.rows if row[0] == student]
        assert dict(zip(batch.header, row, strict=True))["points"] == ""
        assert "because of a problem in the grader, not in your work" in told(result)


def test_a_result_that_takes_too_much_memory_is_wrong_and_the_batch_goes_on(
    guarded, tmp_path, monkeypatch
):
    def judge(step, outcomes):
        if "got nan" in repr(grader_judge(step, outcomes)):
            bytearray(2 * stepgrader.tasks.JUDGE_MEMORY)
        return grader_judge(step, outcomes)

    grader_judge = stepgrader.grader.judge
    monkeypatch.setattr(stepgrader.grader, "judge", judge)
    batch = Batch(tmp_path)
    batch.add_honest("ann")
    batch.add_honest("bea")
    nan = make_notebook(hostile.call("return x * float('nan')"))
    batch.add("nan", nan, 2, "too much memory")
    for result in batch.grade(guarded).results:
        points, says = batch.expected[result.submission.student]
        assert (result.graded.points, says in told(result)) == (points, True)


def test_no_answer_runs_on_hidden_inputs_before_all_have_run_on_those_that_are_shown(
    guarded, unisolated, tmp_path
):
    left = str(tmp_path / "left")  # stands for whatever a process could leave behind
    notebook = make_notebook(
        f"def doubled(x):\n    open({left!r}, 'a').write(str(x.tolist()))\n    return 2 * x",
        f"def weighted(x, y):\n    raise ValueError(open({left!r}).read()[-60:])",
    )
    steps = guarded[0].compile(SEED)
    graded = grade_notebook(notebook, guarded[0].release(steps), steps, unisolated)
    said, last = graded.steps[1].verdict.finding, steps[0].visible.cases[-1]
    assert [number for number in numbers_of([last]) if str(number) in said]
    assert not [number for number in numbers_of(steps[0].hidden.cases) if str(number) in said]
    assert graded.points == 1
    assert str(max(numbers_of(steps[0].hidden.cases))) in Path(left).read_text()


OPTIMIZED = """
def doubled(x):
    weight = torch.zeros(1, requires_grad=True)
    optimizer = torch.optim.Adam([weight], lr=0.5)
    (weight - 2).square().sum().backward()
    optimizer.step()
    return float(weight.detach())
"""


def test_an_answer_may_use_what_torch_imports_late(bubblewrap):
    case = {"inputs": {"x": 1.0}, "gradients": [], "options": None, "state": None}
    cells = [("setup", "import torch"), ("doubled-answer", OPTIMIZED)]
    with Sandbox() as made:
        reply = made.run({"cells": cells, "name": "doubled", "cases": [case]})
    (outcome,) = json.loads(reply.output.splitlines()[-1])["outcomes"]
    assert outcome["returned"] == pytest.approx(0.5)


USING_FILES = """
import tempfile

def doubled(x):
    found = sorted(os.listdir())
    import matplotlib.pyplot as plt

    with tempfile.NamedTemporaryFile() as file:
        torch.save(x, file.name)
        x = torch.load(file.name)
    with open("x.txt", "w") as file:
        print(x, file=file)
    figure, axes = plt.subplots()
    axes.plot([1, 2], label="$x^2$")
    figure.savefig("x.png")
    os.mkdir("folder")
    os.rename("x.png", "folder/x.png")
    torch.save(x, os.path.expanduser("~/x.pt"))
    return found, sorted(os.listdir()), x
"""


def test_an_answer_may_write_files_and_draw_and_no_other_process_sees_them(bubblewrap, tmp_path):
    case = {"inputs": {"x": 1.0}, "gradients": [], "options": None, "state": None}
    cells = [("setup", "import os, torch"), ("doubled-answer", USING_FILES)]
    with Sandbox() as made:
        for _ in range(2):
            reply = made.run({"cells": cells, "name": "doubled", "cases": [case]})
            (outcome,) = json.loads(reply.output.splitlines()[-1])["outcomes"]
            before, after, x = outcome["returned"]["tuple"]
            assert (before, x) == ([], 1.0)
            assert {"folder", "x.pt", "x.txt"} <= set(after)


USING_TMP = """
import os, tempfile

def doubled(x):
    with open("x", "w"), tempfile.TemporaryFile(), open("/tmp/x", "w"):
        return {name: os.listdir(f"/tmp/{name}") for name in os.listdir("/tmp")}
"""


def test_where_python_lies_in_tmp_only_its_folder_is_seen_there(bubblewrap, monkeypatch):
    case = {"inputs": {"x": 1.0}, "gradients": [], "options": None, "state": None}
    request = {"cells": [("doubled-answer", USING_TMP)], "name": "doubled", "cases": [case]}
    with tempfile.TemporaryDirectory(dir="/tmp") as folder:
        (Path(folder) / "secret").touch()
        monkeypatch.setattr(sandbox, "PYTHON", (*sandbox.PYTHON, f"{folder}/python"))
        with Sandbox() as made:
            wrote = json.loads(made.run(request).output.splitlines()[-1])["outcomes"]
            assert "Read-only file system: '/tmp/x'" in wrote[0]["raised"]["message"]
            request["cells"] = [("doubled-answer", USING_TMP.replace(', open("/tmp/x", "w")', ""))]
            (outcome,) = json.loads(made.run(request).output.splitlines()[-1])["outcomes"]
    assert f"'{Path(folder).name}': ['python']" in str(outcome["returned"])


def test_a_set_of_texts_has_the_same_order_in_every_sandbox(bubblewrap):
    case = {"inputs": {"x": 1.0}, "gradients": [], "options": None, "state": None}
    cells = [("doubled-answer", "def doubled(x): return hash('a text')")]
    replies = []
    for isolated in (True, True, False):
        with Sandbox(isolated=isolated) as made:
            replies.append(made.run({"cells": cells, "name": "doubled", "cases": [case]}))
    assert replies[0].output.count(b"returned") == 1
    assert replies[0] == replies[1] == replies[2]


def test_an_answer_with_an_optimizer_finds_it_imported(bubblewrap):
    case = {"inputs": {"x": 1.0}, "gradients": [], "options": None, "state": None}
    source = "import sys\ndef doubled(x): return 'torch._dynamo' in sys.modules"
    for isolated in (True, False):
        with Sandbox(isolated=isolated) as made:
            for remark, found in (("", False), ("  # torch.optim", True), ("", False)):
                cells = [("setup", "import torch"), ("doubled-answer", source + remark)]
                reply = made.run({"cells": cells, "name": "doubled", "cases": [case]})
                (outcome,) = json.loads(reply.output.splitlines()[-1])["outcomes"]
                assert outcome["returned"] is found


def test_right_answers_take_one_process_for_visible_cases_and_one_for_hidden(
    guarded, unisolated, monkeypatch
):
    requests = []
    run = unisolated.run
    monkeypatch.setattr(unisolated, "run", lambda *r, **o: requests.append(r) or run(*r, **o))
    steps = guarded[0].compile(SEED)
    release = guarded[0].release(steps)
    assert grade_notebook(make_notebook(), release, steps, unisolated).points == 3
    visible, hidden = requests
    names = ["doubled", "weighted"]
    assert [step["name"] for step in visible] == [step["name"] for step in hidden] == names
    for asked, part in ((visible, "visible"), (hidden, "hidden")):
        assert [step["cases"] for step in asked] == [getattr(s, part).requests for s in steps]

    requests.clear()
    wrong = make_notebook(doubled="def doubled(x): return 3 * x")
    assert grade_notebook(wrong, release, steps, unisolated).points == 2
    ran = [(len(steps), steps[0]["name"], len(steps[0]["cases"])) for steps in requests]
    alone = len(steps[0].visible.cases)
    assert ran[:2] == [(2, "doubled", alone), (1, "doubled", alone)]


ALONE = """
calls = []

def doubled(x):
    calls.append(x)
    return 2 * x
"""
FORGING = """
import os

def doubled(x):
    os.write(3, b'{"outcomes": []}\\n')
    return 2 * x
"""
AFTER_CALLS = """
def weighted(x, y):
    return None if calls else (x * y).sum()
"""


@pytest.mark.parametrize(
    ("doubled", "weighted", "points"),
    [
        (ALONE, AFTER_CALLS, 3),  # wrong after the other answer was called: it runs again, alone
        ("import os\ndef doubled(x): os._exit(0)", WEIGHTED, 2),
        ("def doubled(x):\n    while True: pass", WEIGHTED, 2),
        ("import os\nos._exit(0)", WEIGHTED, 2),
        ("def doubled(x): 1 / 0", WEIGHTED, 2),
        ("def other(x): return x", WEIGHTED, 2),
        (FORGING, WEIGHTED, 3),
        (DOUBLED, "def weighted(x, y):\n    while True: pass", 1),
    ],
)
def test_an_answer_takes_no_point_from_one_that_shares_its_process(
    guarded, unisolated, doubled, weighted, points
):
    steps = guarded[0].compile(SEED)
    notebook = make_notebook(doubled, weighted)
    graded = grade_notebook(notebook, guarded[0].release(steps), steps, unisolated)
    assert graded.points == points, graded


def test_a_notebook_that_has_taken_its_time_waits_no_longer(guarded, unisolated, monkeypatch):
    monkeypatch.setattr(stepgrader.grader, "NOTEBOOK_SECONDS", 0)
    steps = guarded[0].compile(SEED)
    graded = grade_notebook(make_notebook(), guarded[0].release(steps), steps, unisolated)
    assert graded.points == 0
    assert [step.verdict.finding for step in graded.steps] == [stepgrader.grader.OUT_OF_TIME] * 2


def test_each_student_has_a_turn_and_a_share_of_the_time(
    bubblewrap, guarded, tmp_path, monkeypatch
):
    batch = Batch(tmp_path)
    for name in ("1.ipynb", "2.ipynb", "3.ipynb"):
        batch.add("ann", make_notebook("def doubled(x):\n    return x"), 2, "", name=name)
    batch.add_honest("bea")

    def grade():
        return grade_folder(batch.folder, batch.out, authored(guarded), seed=SEED, jobs=1, **LIMITS)

    monkeypatch.setattr(stepgrader.batch, "STUDENT_SECONDS", 0)
    first, *others, bea = grade()
    assert (first.graded.points, bea.graded.points) == (2, POINTS)
    assert [one.problem for one in others] == [stepgrader.batch.NO_TIME] * 2
    assert [one.grader_fault for one in others] == [False, False]
    monkeypatch.undo()
    assert [one.graded.points for one in grade()] == [2, 2, 2, POINTS]
    stored = sorted((batch.out / "results").iterdir(), key=lambda path: path.stat().st_mtime_ns)
    points = [
        sum(step["points"] for step in json.loads(path.read_text())["graded"]["steps"])
        for path in stored
    ]
    assert points == [2, POINTS, 2, 2]  # bea is graded before ann's second


def test_what_the_clock_has_stopped_is_graded_again(bubblewrap, guarded, tmp_path):
    batch = Batch(tmp_path)
    batch.add("slow", make_notebook(hostile.WAITING["sleep"], UNWRITTEN), 0, hostile.TIME)
    limits = {"cpu_seconds": 2, "wall_seconds": 1}
    (slow,) = grade_folder(batch.folder, batch.out, authored(guarded), seed=SEED, jobs=1, **limits)
    assert hostile.TIME in told(slow)
    assert not list(batch.out.glob("results/*"))


def test_a_folder_that_cannot_be_written_to_is_told_before_the_work(guarded, tmp_path, monkeypatch):
    batch = Batch(tmp_path)
    batch.add_honest("ann")
    monkeypatch.setattr(stepgrader.batch, "grade_in_processes", None)  # fails if it is called
    with pytest.raises(OSError, match="/proc"):
        grade_folder(batch.folder, Path("/proc/none"), authored(guarded), seed=SEED, jobs=1)


LOWERED = """
import resource
from stepgrader.worker.hardening import address_space, lock_down

resource.setrlimit(resource.RLIMIT_AS, (2**36, 2**36))
print(address_space() < 2**36)
lock_down(bytes_of_memory=2**40, cpu_seconds=10)
print("locked")
"""


def test_a_limit_on_memory_that_holds_already_is_no_obstacle():
    done = subprocess.run([sys.executable, "-c", LOWERED], capture_output=True, text=True)
    assert done.stdout.split() == ["True", "locked"], done.stderr


LIMITED = """
import time
from stepgrader.limits import limited

def allocate():
    try:
        return len(bytearray(2**28))
    except MemoryError:
        return "MemoryError"

with limited(memory=2**27, cpu_seconds=100):
    print(allocate())
print(allocate())
with limited(memory=2**27, cpu_seconds=1):
    print("begins", flush=True)
    while True:
        pass
"""


def test_limits_hold_and_are_lifted():
    done = subprocess.run([sys.executable, "-c", LIMITED], capture_output=True, text=True)
    assert done.stdout.split() == ["MemoryError", str(2**28), "begins"]
    assert done.returncode == -signal.SIGXCPU


def test_the_same_file_may_be_written_twice_at_once(tmp_path, monkeypatch):
    """As when two students hand in the same notebook."""
    both, replace = threading.Barrier(2, timeout=PATIENCE), os.replace

    def wait_and_replace(*paths):
        both.wait()
        replace(*paths)

    monkeypatch.setattr(os, "replace", wait_and_replace)
    with ThreadPoolExecutor(2) as pool:
        for _ in pool.map(write_whole, [tmp_path / "result"] * 2, [b"same"] * 2):
            pass
    assert (tmp_path / "result").read_bytes() == b"same"
    assert [path.name for path in tmp_path.iterdir()] == ["result"]


def test_the_table_has_a_row_for_each_file_and_no_formulas(batch):
    assert len(batch.rows) == len(batch.results)
    for row in batch.rows:
        assert len(row) == len(batch.header)
    text = (batch.out / "grades.csv").read_text(encoding="utf-8-sig")
    for separator in (",", ";"):  # a spreadsheet takes that of its country
        for row in csv.reader(text.splitlines(), delimiter=separator):
            cells = [one.lstrip(' "') for one in row]
            assert not [one for one in cells if one.startswith(("=", "+", "-", "@", "\t", "＝"))]


class Elements(HTMLParser):
    """The elements and attributes of a page."""

    def __init__(self, text):
        super().__init__()
        self.found = set()
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        self.found |= {(tag, name) for name, _ in attributes} or {(tag, None)}


def test_no_page_holds_what_a_student_forged(batch):
    pages = list((batch.out / "feedback").iterdir())
    assert len(pages) == 2 * len({result.submission.student for result in batch.results})
    own = {("html", "lang"), ("meta", "charset"), ("meta", "name"), ("meta", "content")}
    own |= {("meta", "http-equiv")}
    tags = ["head", "title", "style", "body", "h1", "h2", "h3", "p", "pre", "mark"]
    own |= {(tag, None) for tag in tags}
    for page in pages:
        text = page.read_text(encoding="utf-8")
        assert all(character.isprintable() or character == "\n" for character in text), page
        if page.suffix == ".html":
            assert Elements(text).found <= own, page
        else:
            # Markdown passes elements on to the page, save in code, which is indented.
            prose = [line for line in text.splitlines() if not line.startswith("    ")]
            assert not re.search(r"(?<!\\)[<`]", "\n".join(prose)), page


def test_no_hidden_number_and_no_secret_reaches_a_page(batch, guarded):
    hidden = {n for step in guarded[0].compile(SEED) for n in numbers_of(step.hidden.cases)}
    visible = {n for step in guarded[0].release().steps for n in numbers_of(step.cases)}
    assert len(hidden - visible) > 10
    cases = batch.out / "cases"  # for nobody but the grader
    written = [path for path in batch.out.rglob("*") if path.is_file() and path.parent != cases]
    texts = [path.read_text(encoding="utf-8") for path in written]
    for number in hidden - visible:
        # As it was drawn, doubled, and as messages round it.
        for shown in (str(number), str(2 * number), f"{number:.4g}", f"{2 * number:.4g}"):
            assert not [text for text in texts if shown in text], shown
    for secret in (SECRET, f"{sys.prefix}/", socket.gethostname()):
        told = [text for text in texts if secret in text]
        typed = [line for line in own_lines(batch) if secret in line]  # a page shows their code
        for line in typed:
            for shown in (line, html.escape(line), json.dumps(line)[1:-1]):
                told = [text.replace(shown, "") for text in told]
        assert not [text for text in told if secret in text], secret


def own_lines(batch):
    """The lines of code that were handed in and graded."""
    steps = [step for result in batch.results if result.graded for step in result.graded.steps]
    return {line.strip() for step in steps for line in (step.source or "").splitlines()}


HEADERS = {  # of the kernel, from linux-libc-dev
    "x86_64": "x86_64-linux-gnu/asm/unistd_64.h",
    "aarch64": "asm-generic/unistd.h",  # the same numbers on all newer machines
}


@pytest.mark.parametrize("machine", HEADERS)
def test_the_filter_allows_the_calls_that_it_names(machine):
    header = Path("/usr/include") / HEADERS[machine]
    if not header.exists():
        pytest.skip(f"{header} is not installed (Debian and Ubuntu: apt install linux-libc-dev)")
    defined = r"^#define __NR(?:3264)?_(\w+)\s+(\d+)$"
    numbers = {
        name: int(number)
        for name, number in re.findall(defined, header.read_text(encoding="utf-8"), re.MULTILINE)
    }
    if machine == "aarch64":  # which names this one differently in its generic table
        numbers["newfstatat"] = numbers["fstatat"]
    column, _ = ARCHITECTURES[machine]
    ours = {name: row[column] for name, row in ALLOWED.items()}
    assert ours == {name: numbers.get(name) for name in ALLOWED}


def test_on_a_machine_whose_calls_are_not_known_nothing_is_run(monkeypatch):
    monkeypatch.setattr(shutil, "which", lambda name: f"/usr/bin/{name}")
    monkeypatch.setattr(os, "uname", lambda: mock.Mock(machine="riscv64"))
    monkeypatch.setattr(subprocess, "Popen", None)  # fails if it is called
    with pytest.raises(NoSandboxError, match=r"x86-64 or AArch64; this is \w+ on riscv64"):
        Sandbox()


INSTALLED = """
import json, sys
from pathlib import Path

from seqbook.exercises import COURSE
from seqbook.exercises import COURSE
from stepgrader import sandbox

# The folder in which both packages were installed becomes one of Python's, beside the real ones.
prefix = Path(sandbox.__file__).parents[4]
sandbox.PYTHON += (str(prefix),)
source = sys.stdin.read().replace("PACKAGES", str(Path(sandbox.__file__).parents[1]))
case = {"inputs": {"x": 1.0}, "gradients": [], "options": None, "state": None}
request = {"cells": [("doubled-answer", source)], "name": "doubled", "cases": [case]}
with sandbox.Sandbox(hidden=[COURSE.package]) as made:
    print(made.run(request).output.decode())
print(COURSE.sources, COURSE.order[0])
"""


@pytest.mark.parametrize("linked", [False, True])
def test_a_course_that_is_installed_among_the_libraries_is_hidden(tmp_path, linked):
    prefix, packages = tmp_path / "python", "lib/python3/site-packages"
    (prefix / packages / "other").mkdir(parents=True)
    (prefix / packages / "other" / "visible.py").touch()
    for package in (Path(sandbox.__file__).parent, COURSE.package):
        shutil.copytree(package, prefix / packages / package.name)
    if linked:
        prefix = Path(shutil.move(prefix, tmp_path / "elsewhere"))
        (tmp_path / "python").symlink_to(prefix)
        prefix = tmp_path / "python"
    attack = hostile.report(
        """
        import glob
        came += sorted(glob.glob("**", root_dir="PACKAGES", recursive=True))
        """
    )
    done = subprocess.run(
        [sys.executable, "-c", INSTALLED],
        input=attack,
        env={**os.environ, "PYTHONPATH": str(prefix / packages)},
        capture_output=True,
        text=True,
        check=True,
    )
    assert "came: ['other', 'other/visible.py', 'seqbook', 'stepgrader']" in done.stdout
    assert "None sequences" in done.stdout  # it works, and knows of no authors' exercises


@pytest.fixture(scope="module")
def unisolated():
    with Sandbox(isolated=False, imitated=False) as made:
        yield made


def answer_without_isolation(unisolated, attack):
    case = {"inputs": {"x": 1.0}, "gradients": [], "options": None, "state": None}
    cells = [("doubled-answer", attack)]
    return unisolated.run({"cells": cells, "name": "doubled", "cases": [case]}).output


@pytest.mark.parametrize(
    ("attack", "came"),
    [
        (hostile.MEMORY, "came: [60]"),
        (hostile.FORK, "came: ['forked', 'forked', 'forked']"),
        (hostile.SPAWN, "came: [7]"),
        (hostile.SOCKET, "came: [<AddressFamily.AF_INET: 2>]"),
        (hostile.THREAD, "came: ['a thread']"),
        (hostile.DESCRIPTORS, "came: [4, 5, 6, "),
        (hostile.SHARED_MEMORY, "came: [True]"),
    ],
)
def test_without_isolation_the_attack_succeeds(unisolated, attack, came):
    """So it is the sandbox that stops it, and no slip in the attack."""
    assert came.encode() in answer_without_isolation(unisolated, attack)


def test_without_isolation_files_are_read_changed_and_removed(unisolated, tmp_path):
    victim = tmp_path / "marks.csv"
    victim.write_text("untouched")
    assert b"untouched" in answer_without_isolation(
        unisolated, hostile.read_everywhere([str(victim)])
    )
    assert b"remove" in answer_without_isolation(
        unisolated, hostile.write_everywhere([str(victim)])
    )
    assert sorted(path.name.partition(".")[2] for path in tmp_path.iterdir()) == [
        "csv.folder",
        "csv.link",
        "csv.pipe",
    ]


def test_without_isolation_the_kernel_can_be_called(unisolated):
    # inotify_init1 and memfd_create
    numbers = {"x86_64": [294, 319], "aarch64": [26, 279]}[platform.machine()]
    said = answer_without_isolation(unisolated, hostile.call_the_kernel(numbers)).decode()
    assert f"came: {numbers}" in said


def test_without_isolation_the_channels_are_open(unisolated):
    said = answer_without_isolation(unisolated, hostile.CHANNELS).decode()
    assert said.count("', '") >= 4, said  # a file system may refuse some
