"""Layouts of notebooks: each is checked in IPython, as a student does, and graded.

A tick in the notebook must mean points in the mark, unless the line with the tick says that grading
gives none, and why.
"""

import ast
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from grading_exercise import ANSWERS, CHECKER, POINTS, SETUP, cell, solved, stem, write_exercise

from stepgrader.definitions import plain_python
from stepgrader.exercises import Exercise
from stepgrader.grader import grade_notebook
from stepgrader.judge import REFUSAL
from stepgrader.sandbox import Sandbox

STUB = "def plus_one(x):\n    raise NotImplementedError"
SCALED_STUB = "def scaled(x, y):\n    raise NotImplementedError"
ONE = solved("plus_one")
SCRIPTED = "@torch.jit.script\ndef plus_one(x: torch.Tensor):\n    return x + 1"
AFFINE = solved("Affine")


def lay_out(*, setup=SETUP, top=(), below=(), **cells):
    """Return the cells of a notebook, as pairs of id and source.

    Args:
        setup: The setup cell.
        top: Further cells below the checker.
        below: Further cells at the end.
        cells: By the name of a step, its cells above the check, the answer's first; a text is one
            cell. The other steps are solved.
    """
    notebook = [("setup", setup), ("checker", CHECKER), *(("", source) for source in top)]
    for name in ANSWERS:
        sources = cells.get(name, solved(name))
        first, *others = [sources] if isinstance(sources, str) else sources
        notebook.append((f"{stem(name)}-answer", first))
        notebook += [("", source) for source in others]
        notebook.append((f"{stem(name)}-check", f"check({name})"))
    return [*notebook, *(("", source) for source in below)]


def without_ids(cells):
    return [(f"cell-{number}", source) for number, (_, source) in enumerate(cells)]


def without(cells, *ids):
    return [pair for pair in cells if pair[0] not in ids]


def moved(cells, cell_id, to):
    """Return the cells with one of them right above another."""
    (pair,) = [pair for pair in cells if pair[0] == cell_id]
    rest = without(cells, cell_id)
    place = [one for one, _ in rest].index(to)
    return [*rest[:place], pair, *rest[place:]]


TWO_STEPS = "def extremes(x):\n    return scaled(x, x).min(), x.max()"
F = "import torch.nn.functional as F"
WITH_F = "def plus_one(x):\n    return x + F.relu(torch.ones(1))"

# All points, and ticks without a further word.
RIGHT = {
    "as asked": lay_out(),
    "without ids": without_ids(lay_out()),
    "import in the setup cell": lay_out(setup=f"{SETUP}\n{F}", plus_one=WITH_F),
    "import in a cell at the top": lay_out(top=[F], plus_one=WITH_F),
    "import in the answer of another step": lay_out(
        plus_one=f"{F}\n{ONE}",
        extremes="def extremes(x):\n    return x.min(), x.max() + F.relu(-torch.ones(1)).sum()",
    ),
    "star import": lay_out(
        top=["from torch import *"], plus_one="def plus_one(x):\n    return x + ones_like(x)"
    ),
    "import with a substitute": lay_out(
        top=["try:\n    from missing import one\nexcept ImportError:\n    one = 1"],
        plus_one="def plus_one(x):\n    return x + one",
    ),
    "import of a submodule": lay_out(
        top=["import os.path", "import os"],
        plus_one="def plus_one(x):\n    return x + len(os.path.basename('a/b'))",
    ),
    "import for a type hint": lay_out(
        top=["from torch import Tensor"], plus_one=ONE.replace("(x)", "(x: Tensor) -> Tensor")
    ),
    "answer in a new cell below the stub": lay_out(plus_one=[STUB, ONE]),
    "answer in a new cell, without ids": without_ids(lay_out(plus_one=[STUB, ONE])),
    "answer in a new cell below a wrong one": lay_out(plus_one=[ONE.replace("+", "-"), ONE]),
    "another definition below the check": lay_out(below=["def extremes(x):\n    return 5"]),
    "all answers in one cell": [
        ("setup", SETUP),
        ("checker", CHECKER),
        ("all", "\n\n".join(solved(name) for name in ANSWERS)),
        *((f"{stem(name)}-check", f"check({name})") for name in ANSWERS),
    ],
    "%%time": lay_out(plus_one=f"%%time\n{ONE}"),
    "%%capture": lay_out(plus_one=f"\n%%capture\n{ONE}"),
    "%timeit": lay_out(plus_one=f"{ONE}\n%timeit -n 1 -r 1 plus_one(torch.ones(1))"),
    "%matplotlib": lay_out(plus_one=f"%matplotlib --list\n{ONE}"),
    "magic that assigns": lay_out(plus_one=f"where = %pwd\nfiles = !echo a\n{ONE}"),
    "!command": lay_out(plus_one=f"!echo 'it is\n!echo a \\\n   b\n{ONE}"),
    "question": lay_out(plus_one=f"{ONE}\nplus_one?\n?plus_one"),
    "await": lay_out(plus_one=f"import asyncio\nawait asyncio.sleep(0)\n{ONE}"),
    "%%writefile above the answer": lay_out(plus_one=[STUB, f"%%writefile {os.devnull}\n)", ONE]),
    "a percent sign in a text": lay_out(plus_one=f'{ONE}\ntext = """\n%d\n""" % 5'),
    "check in the answer": lay_out(plus_one=f"{ONE}\n\ncheck(plus_one)"),
    "checker in the answer": lay_out(plus_one=f"{CHECKER}\n\n{ONE}"),
    "inputs of a check in the answer": lay_out(plus_one=f"{ONE}\nprint(check.inputs)"),
    "display in the answer": lay_out(plus_one=f"{ONE}\n\ndisplay(plus_one(torch.ones(1)))"),
    "display in the function": lay_out(
        plus_one="def plus_one(x):\n    display(x.sum())\n    return x + 1"
    ),
    "example with data from elsewhere": lay_out(
        top=["data = torch.randn(3)"],
        plus_one=f"{ONE}\n\nprint(plus_one(data))\nassert len(data) == 3",
    ),
    "an error beside the answer": lay_out(plus_one=f"{ONE}\n\nprint(1 / 0)"),
    "a plot in the answer": lay_out(
        plus_one="import matplotlib\nmatplotlib.use('agg')\nfrom matplotlib import pyplot\n"
        f"pyplot.plot([1])\n{ONE}"
    ),
    "a file in the answer": lay_out(
        plus_one=f"import tempfile\nwith tempfile.TemporaryDirectory() as folder:\n"
        f"    torch.save(torch.ones(1), folder + '/a')\n{ONE}"
    ),
    "a plot in the function": lay_out(
        plus_one="from matplotlib import pyplot\n\ndef plus_one(x):\n    figure, axes = "
        "pyplot.subplots()\n    axes.plot([1])\n    figure.savefig('x.png')\n"
        "    pyplot.close(figure)\n    return x + 1"
    ),
    "a file in the function": lay_out(
        plus_one="import tempfile\n\ndef plus_one(x):\n    torch.save(torch.ones(1), 'one.pt')\n"
        "    with tempfile.TemporaryDirectory() as folder:\n"
        "        torch.save(x.detach(), folder + '/x.pt')\n    return x + torch.load('one.pt')"
    ),
    "helper in a cell": lay_out(
        top=["def add(x, y):\n    return x + y"], plus_one="def plus_one(x):\n    return add(x, 1)"
    ),
    "helpers that need each other": lay_out(
        top=[
            "import math",
            "ONE = math.exp(0)",
            "class Adder:\n    amount = ONE\n"
            "    def __call__(self, x):\n        return add(x, self.amount)",
            "print(1)\ndef add(x, y):\n    return x + y",
        ],
        plus_one="def plus_one(x):\n    return Adder()(x)",
    ),
    "helper in the cell of another step": lay_out(
        plus_one=f"def low(x):\n    return x.min()\n\n{ONE}",
        extremes="def extremes(x):\n    return low(x), x.max()",
    ),
    "helper below the check": moved(
        lay_out(
            plus_one="def plus_one(x):\n    return x + 1 if True else later(x)",
            below=["def later(x):\n    return x"],
        ),
        "setup",
        "checker",
    ),
    "helper that is defined again": lay_out(
        top=["def one():\n    return 5", "def one():\n    return 1"],
        plus_one="def plus_one(x):\n    return x + one()",
        below=["def one():\n    return 7"],
    ),
    "constants": lay_out(
        top=["ONE, TWO = 1.0, 2", "HALF: float = TWO / 4", "T = torch.tensor([HALF])"],
        plus_one="def plus_one(x):\n    return x + T + ONE / TWO",
    ),
    "values without side effects": lay_out(
        setup=f'{SETUP}\ndevice = "cuda" if torch.cuda.is_available() else "cpu"',
        top=[
            "place = torch.device('cpu' if device == 'cuda' else device)",
            "words = 'zero one'.split()\nNUMBERS = {word: n for n, word in enumerate(words)}",
            "import numpy as np\nTABLE = np.linspace(0, 1, 2).astype('float32')",
            "HALF = torch.arange(2).float().mean()",
            "if torch.cuda.is_available():\n    zero = 0.0\nelse:\n    zero = 0",
        ],
        plus_one="def plus_one(x):\n    ones = torch.ones(1, device=place) * NUMBERS['one']\n"
        "    return x + ones * TABLE[1].item() + HALF - 0.5 + zero",
    ),
    "module that a cell writes": lay_out(
        plus_one=[
            STUB,
            "%%writefile adding_one.py\nfrom adding_two import ONE",
            "%%writefile adding_two.py\nONE = 1",
            "%%writefile -a adding_one.py\n\n\ndef add(x):\n    return x + ONE",
            "import adding_one\n\ndef plus_one(x):\n    return adding_one.add(x)",
        ]
    ),
    "class that another cell completes": lay_out(
        Affine=[
            AFFINE.replace("    def forward", "    def other"),
            "def forward(self, x):\n    return self.other(x)\n\nAffine.forward = forward",
        ]
    ),
    "class that another cell completes by setattr": lay_out(
        Affine=[
            AFFINE.replace("    def forward", "    def other"),
            "def forward(self, x):\n    return self.other(x)",
            "setattr(Affine, 'forward', forward)",
        ]
    ),
    "helper class that another cell completes": lay_out(
        top=["class Adder:\n    pass", "Adder.__call__ = lambda self, x: x + 1"],
        plus_one="def plus_one(x):\n    return Adder()(x)",
    ),
    "gradients switched off": lay_out(plus_one=f"torch.set_grad_enabled(False)\n\n{ONE}"),
    "settings changed in a call": lay_out(
        plus_one="import numpy as np\n\ndef plus_one(x):\n    result = x + 1\n"
        "    torch.set_grad_enabled(False)\n    torch.set_default_dtype(torch.float16)\n"
        "    torch.set_default_device('meta')\n    np.seterr(all='raise')\n    return result",
        scaled="def scaled(x, y):\n    assert np.float32(1e-30) ** 2 == 0\n"
        "    return (x + torch.tensor(1.0)) * y",
    ),
    "functions of libraries replaced": lay_out(
        plus_one="import math\nmath.sqrt = abs\ntorch.stack = torch.Tensor.exp = None\n"
        f"nn.Linear.forward = None\n\n{ONE}",
        extremes="def extremes(x):\n    both = torch.stack([x.min(), x.max()])\n"
        "    same = nn.Linear(1, 1)(torch.ones(1)) * 0 + torch.ones(1).exp() / math.e\n"
        "    return tuple(both * math.sqrt(4) / 2 * same)",
    ),
    "lambda": lay_out(plus_one="plus_one = lambda x: x + 1"),
    "partial": lay_out(
        plus_one="from functools import partial\n"
        "def add(y, x):\n    return x + y\nplus_one = partial(add, 1)"
    ),
    "callable object": lay_out(
        plus_one="class Adder:\n    def __call__(self, x):\n        return x + 1\n\n"
        "plus_one = Adder()"
    ),
    "object of a module": lay_out(
        plus_one="class Adder(nn.Module):\n    def forward(self, x):\n        return x + 1\n\n"
        "plus_one = Adder()"
    ),
    "another name": lay_out(plus_one="def mine(x):\n    return x + 1\n\nplus_one = mine"),
    "made by a function": lay_out(
        plus_one="def make(y):\n    def add(x):\n        return x + y\n    return add\n\n"
        "plus_one = make(1)"
    ),
    "decorator without wraps": lay_out(
        plus_one="def traced(function):\n    def inner(*args):\n        return function(*args)\n"
        f"    return inner\n\n@traced\n{ONE}"
    ),
    "decorator in another cell": lay_out(
        top=["import functools", "def plain(f):\n    return functools.wraps(f)(lambda x: f(x))"],
        plus_one=f"@plain\n{ONE}",
    ),
    "decorator of torch": lay_out(
        extremes="@torch.no_grad()\ndef extremes(x):\n    return x.min(), x.max()"
    ),
    "scripted by a decorator": lay_out(plus_one=SCRIPTED),
    "scripted by a call": lay_out(plus_one=f"{ONE}\n\nplus_one = torch.jit.script(plus_one)"),
    "compiled by a decorator": lay_out(plus_one=f"@torch.compile(backend='eager')\n{ONE}"),
    "threads": lay_out(
        plus_one="torch.set_num_threads(2)\n\ndef plus_one(x):\n"
        "    torch.ones(200_000).exp()\n    return x + 1"
    ),
    "class that is made by a function": lay_out(
        Affine=f"def build():\n{''.join('    ' + line for line in AFFINE.splitlines(True))}\n"
        "    return Affine\n\nAffine = build()"
    ),
    "class that is completed below": lay_out(
        Affine=AFFINE.replace("    def forward", "    def other")
        + "\n\ndef forward(self, x):\n    return self.other(x)\n\nAffine.forward = forward"
    ),
    "table that is filled below": lay_out(
        plus_one="TABLE = []\nfor i in range(2):\n    TABLE.append(i)\n\n"
        "def plus_one(x):\n    return x + TABLE[1]"
    ),
    "state of its own": lay_out(
        plus_one="calls = 0\n\ndef plus_one(x):\n    global calls\n    calls += 1\n    return x + 1"
    ),
    "built-in names that are defined again": lay_out(
        top=["def round(x):\n    return x + 1"], plus_one="def plus_one(x):\n    return round(x)"
    ),
    "a local name like one of another cell": lay_out(
        top=["y = torch.randn(3)", "for i in range(3):\n    pass"],
        plus_one="def plus_one(x):\n    y = [i for i in range(2)]\n    return x + y[1]",
    ),
    "answer cell deleted": without(lay_out(plus_one=[STUB, ONE]), "plus-one-answer"),
    "line ends of Windows": [(i, source.replace("\n", "\r\n")) for i, source in lay_out()],
}

# Ticks at which the notebook says that grading gives no points: notebook, step, words.
SAID = {
    "data from another cell": (
        lay_out(
            top=["one = torch.randn(1) * 0 + 1"], plus_one="def plus_one(x):\n    return x + one"
        ),
        "plus_one",
        "one comes from a cell that is not graded; write it into the cell of the answer",
    ),
    "a file from another cell": (
        lay_out(
            top=["torch.save(torch.ones(1), 'one.pt')"],
            plus_one="def plus_one(x):\n    return x + torch.load('one.pt')",
        ),
        "plus_one",
        "with only the setup cell and the earlier answers, it fails: line 2 of "
        "your cell raised FileNotFoundError",
    ),
    "a layer from another cell": (
        lay_out(
            top=["weight = nn.Linear(1, 1).weight.detach().sum()"],
            plus_one="def plus_one(x):\n    return x + weight / weight",
        ),
        "plus_one",
        "weight comes from a cell that is not graded",
    ),
    "data from two cells": (
        lay_out(
            top=["def load():\n    return 1", "a = load()", "b = load() - 1"],
            plus_one="def plus_one(x):\n    return x + a + b",
        ),
        "plus_one",
        "a and b come from a cell that is not graded; write them into the cell of the answer",
    ),
    "constant that another cell changes": (
        lay_out(top=["one = 0", "one += 1"], plus_one="def plus_one(x):\n    return x + one"),
        "plus_one",
        "one comes from a cell",
    ),
    "table that another cell fills": (
        lay_out(
            top=["table = []", "table.append(1)"],
            plus_one="def plus_one(x):\n    return x + table[0]",
        ),
        "plus_one",
        "table comes from a cell",
    ),
    "helper that needs data": (
        lay_out(
            top=["one = torch.randn(1) * 0 + 1", "def add(x):\n    return x + one"],
            plus_one="def plus_one(x):\n    return add(x)",
        ),
        "plus_one",
        "one comes from a cell",
    ),
    "class that another cell completes in a loop": (
        lay_out(
            Affine=[
                AFFINE.replace("    def forward", "    def other"),
                "for name in ['forward']:\n    setattr(Affine, name, Affine.other)",
            ]
        ),
        "Affine",
        "another cell changes Affine, which is not graded; write that change into the cell of the",
    ),
    "a module beside the notebook": (
        lay_out(
            top=["from pathlib import Path\nlength = Path('beside.py').write_text('one = 1')"],
            plus_one="from beside import one\n\ndef plus_one(x):\n    return x + one",
        ),
        "plus_one",
        "beside may not be installed where it is graded",
    ),
    "a thread": (
        lay_out(
            plus_one="import threading\n\ndef plus_one(x):\n"
            "    thread = threading.Thread(target=int)\n    thread.start()\n"
            "    thread.join()\n    return x + 1"
        ),
        "plus_one",
        f"RuntimeError: can't start new thread: {REFUSAL}",
    ),
    "a pool of threads": (
        lay_out(
            plus_one="from concurrent.futures import ThreadPoolExecutor\n\ndef plus_one(x):\n"
            "    with ThreadPoolExecutor(2) as pool:\n"
            "        return torch.stack(list(pool.map(lambda row: row + 1, x)))"
        ),
        "plus_one",
        f"RuntimeError: can't start new thread: {REFUSAL}",
    ),
    "workers of a data loader": (
        lay_out(
            plus_one="from torch.utils.data import DataLoader\n\ndef plus_one(x):\n"
            "    assert len(list(DataLoader([1], num_workers=1))) == 1\n    return x + 1"
        ),
        "plus_one",
        f"PermissionError: [Errno 1] Operation not permitted: {REFUSAL}",
    ),
    "a command of the system": (
        lay_out(
            plus_one="import os\n\ndef plus_one(x):\n    assert os.system('true') == 0\n"
            "    return x + 1"
        ),
        "plus_one",
        f"PermissionError: [Errno 1] Operation not permitted: {REFUSAL}",
    ),
    "awaited value": (
        lay_out(
            plus_one="import asyncio\none = await asyncio.sleep(0, 1)\n\n"
            "def plus_one(x):\n    return x + one"
        ),
        "plus_one",
        "with only the setup cell and the earlier answers, it fails: ",
    ),
}


# Answers that get no points, and no tick.
WRONG = {
    "not written": lay_out(plus_one=STUB, scaled=SCALED_STUB),
    "wrong": lay_out(plus_one=ONE.replace("+", "-"), scaled=SCALED_STUB),
    "wrong below a right one": lay_out(plus_one=[ONE, ONE.replace("+", "-")], scaled=SCALED_STUB),
    "in another language": lay_out(plus_one=f"%%bash\n: {ONE}", scaled=SCALED_STUB),
    "no function": lay_out(plus_one="plus_one = 5", scaled=SCALED_STUB),
    "another precision in the setup cell": lay_out(
        setup=f"{SETUP}\ntorch.set_default_dtype(torch.float64)",
        plus_one="def plus_one(x):\n    return torch.eye(len(x)) @ x + 1",
        scaled=SCALED_STUB,
    ),
    "does not parse": lay_out(plus_one="def plus_one(x:\n    return x + 1", scaled=SCALED_STUB),
}


@pytest.fixture(scope="module")
def exercise(tmp_path_factory):
    return Exercise.load(write_exercise(tmp_path_factory.mktemp("sources")) / "tiny")


@pytest.fixture(scope="module")
def checked(tmp_path_factory, exercise):
    """What each check of each notebook prints in IPython, by the name of the step."""
    folder = tmp_path_factory.mktemp("released")
    for path, text in exercise.release().files(folder).items():
        path.write_text(text, encoding="utf-8")
    (folder / "index.json").write_text('["tiny"]')
    layouts = RIGHT | {name: cells for name, (cells, *_) in SAID.items()} | WRONG
    notebooks = {name: [source for _, source in cells] for name, cells in layouts.items()}
    notebooks |= {name: executed for name, (executed, *_) in {**ORDERS, **UNTICKED}.items()}
    module = "import safetensors as s\n\ndef plus_one(x):\n    return x + bool(s)"
    for body in ("return x + missing", "raise NotImplementedError"):
        earlier = f"def plus_one(x):\n    {body}"
        step = [solved("scaled"), TWO_STEPS, "check(extremes)"]
        notebooks[body] = [SETUP, CHECKER, earlier, *step]
    notebooks["changed since its check"] = [
        *(SETUP, CHECKER, ONE, "check(plus_one)", WRONG_ONE),
        *(solved("scaled"), "check(scaled)"),
    ]
    notebooks["without gradients"] = [
        *(SETUP, CHECKER, "torch.set_grad_enabled(False)", ONE.replace("x + 1", "2 * x")),
        *("check(plus_one)", "print(check.inputs['x'].requires_grad)"),
    ]
    notebooks |= {name: [source for _, source in cells] for name, (cells, _) in HELPED.items()}
    notebooks["a module"] = [
        SETUP,
        CHECKER,
        module,
        "check(plus_one)",
        solved("scaled"),
        "check(scaled)",
    ]
    request = {"released": str(folder), "notebooks": list(notebooks.values())}
    done = subprocess.run(
        [sys.executable, Path(__file__).with_name("run_cells.py")],
        input=json.dumps(request),
        env={**os.environ, "IPYTHONDIR": str(tmp_path_factory.mktemp("ipython"))},
        cwd=tmp_path_factory.mktemp("notebooks"),
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    found = {}
    for (layout, sources), outputs in zip(notebooks.items(), json.loads(done.stdout), strict=True):
        lines = [line for output in outputs for line in output.splitlines()]
        found[layout] = {
            name: next((line for line in reversed(lines) if line[2:].startswith(f"{name}:")), "")
            for name in ANSWERS
        } | {"all": "\n".join(lines)}
        assert len(sources) == len(outputs)
    return found


def grader(exercise, sandbox):
    """Return a function that grades cells and returns the steps by their names."""
    steps = exercise.compile(5)
    release = exercise.release(steps)

    def grade(cells, **options):
        notebook = {"cells": [cell("code", *pair) for pair in cells]}
        graded = grade_notebook(notebook, release, steps, sandbox, **options)
        return {step.name: step for step in graded.steps}

    return grade


@pytest.fixture(scope="module")
def graded(exercise):
    with Sandbox(isolated=False) as sandbox:
        yield grader(exercise, sandbox)


@pytest.fixture(scope="module")
def isolated(bubblewrap, exercise):
    with Sandbox() as sandbox:
        yield grader(exercise, sandbox)


def shown(graded):
    return {name: (step.points, step.verdict.finding, step.notes) for name, step in graded.items()}


@pytest.mark.parametrize("layout", RIGHT)
def test_a_tick_without_a_word_means_points(checked, graded, layout):
    for name in ANSWERS:
        line = checked[layout][name]
        assert line.startswith(f"✓ {name}"), line
        assert "but" not in line
    marks = graded(RIGHT[layout])
    assert all(step.points == step.out_of for step in marks.values()), shown(marks)


@pytest.mark.parametrize(
    "layout",
    [
        "a plot in the answer",
        "a file in the answer",
        "a plot in the function",
        "a file in the function",
        "scripted by a decorator",
        "compiled by a decorator",
        "threads",
        "checker in the answer",
        "helpers that need each other",
    ],
)
def test_the_walls_of_the_sandbox_take_no_points_away(isolated, layout):
    marks = isolated(RIGHT[layout])
    assert all(step.points == step.out_of for step in marks.values()), shown(marks)


@pytest.mark.parametrize("layout", SAID)
def test_where_grading_gives_no_points_the_line_with_the_tick_says_why(checked, graded, layout):
    cells, name, words = SAID[layout]
    line = checked[layout][name]
    assert line.startswith(f"✓ {name}")
    assert "; but grading gives 0: " in line
    assert words in line
    assert graded(cells)[name].points == 0


@pytest.mark.parametrize(
    "layout",
    [
        *("a thread", "a pool of threads", "workers of a data loader", "a command of the system"),
    ],
)
def test_what_the_sandbox_refuses_is_told_in_the_mark(isolated, layout):
    cells, name, words = SAID[layout]
    step = isolated(cells)[name]
    assert (step.points, words in step.verdict.finding) == (0, True), step.verdict.finding


@pytest.mark.parametrize("layout", WRONG)
def test_without_a_tick_there_are_no_points(checked, graded, layout):
    assert not checked[layout]["plus_one"].startswith("✓")
    assert graded(WRONG[layout])["plus_one"].points == 0


# What a kernel has run is not always what the notebook holds from top to bottom.

WRONG_ONE = ONE.replace("+", "-")
ORDERS = {  # what was run, and the notebook that was then handed in
    "an answer that was corrected": (
        [SETUP, CHECKER, WRONG_ONE, "check(plus_one)", ONE, "check(plus_one)"],
        lay_out(),
    ),
    "an import that was run late": (
        [SETUP, CHECKER, WITH_F, "check(plus_one)", F, "check(plus_one)"],
        lay_out(top=[F], plus_one=WITH_F),
    ),
    "an earlier step that was corrected late": (
        [SETUP, CHECKER, STUB, solved("scaled"), "check(scaled)", ONE, "check(plus_one)"],
        lay_out(),
    ),
    "checks that were all run at the end": (
        [SETUP, CHECKER, *map(solved, ANSWERS), *(f"check({name})" for name in ANSWERS)],
        [*lay_out(), *(("", f"check({name})") for name in ANSWERS)],
    ),
    "a cell that stopped with an error": (
        [SETUP, CHECKER, f"{ONE}\n\nprint(missing)", "check(plus_one)"],
        lay_out(plus_one=f"{ONE}\n\nprint(missing)"),
    ),
    "a stub that was run above the answer": (
        [SETUP, CHECKER, STUB, ONE, "check(plus_one)"],
        lay_out(plus_one=[STUB, ONE]),
    ),
}
# No tick, though grading gives the points: what was run, the notebook, and what is said.
UNTICKED = {
    "an answer above the untouched stub": (
        [SETUP, CHECKER, ONE, STUB, "check(plus_one)"],
        [("setup", SETUP), ("", ONE), ("plus-one-answer", STUB), ("", "check(plus_one)")],
        "not written yet; but grading uses a finished definition if the notebook still contains "
        "one",
    ),
}


@pytest.mark.parametrize("order", [*ORDERS, *UNTICKED])
def test_what_a_kernel_has_run_says_what_the_notebook_will_get(checked, graded, order):
    line = checked[order]["plus_one"]
    _, cells, *words = {**ORDERS, **UNTICKED}[order]
    if words:
        assert words[0] in line
    else:
        assert line.startswith("✓ plus_one")
        assert "but" not in line
    assert graded(cells)["plus_one"].points == 1


@pytest.mark.parametrize("body", ["return x + missing", "raise NotImplementedError"])
def test_an_error_two_steps_before_is_told_by_the_name_of_that_step(checked, graded, body):
    says = {
        "return x + missing": "line 2 of plus_one, which it calls, raised NameError",
        "raise NotImplementedError": "it calls plus_one, which is not written yet",
    }
    assert says[body] in checked[body]["all"]
    cells = lay_out(plus_one=f"def plus_one(x):\n    {body}", extremes=TWO_STEPS)
    assert says[body] in graded(cells)["extremes"].verdict.finding


# An earlier answer has points in the kernel alone, so grading calls the correct version of it here.
NEEDS_DATA = "one = torch.randn(1) * 0 + 1"
CORRECT = (
    "; but grading may give other points: plus_one is not right as graded, so grading calls the "
    "correct version of it here"
)
HELPED = {  # and what the line with the tick says of that
    "the kernel has a right version": (
        lay_out(top=[NEEDS_DATA], plus_one="def plus_one(x):\n    return x + one"),
        "",
    ),
    "the kernel has no right version": (
        lay_out(
            top=[NEEDS_DATA],
            plus_one="def plus_one(x):\n    return x + one if x.dim() == 1 else x",
        ),
        CORRECT,
    ),
    "the kernel has one that grading refuses": (SAID["a thread"][0], CORRECT),
}


@pytest.mark.parametrize("layout", HELPED)
def test_a_tick_counts_on_right_versions_of_earlier_steps(checked, graded, exercise, layout):
    cells, words = HELPED[layout]
    line = checked[layout]["scaled"]
    assert line.startswith("✓ scaled: 2 of 2 points")
    assert line.endswith(words or "tested: two vectors")
    marks = graded(cells, solutions=exercise.solutions)
    assert (marks["plus_one"].points, marks["scaled"].points) == (0, 2)


def test_a_step_that_has_changed_since_its_check_is_not_called_wrong_without_saying_so(checked):
    assert checked["changed since its check"]["plus_one"].startswith("✓ plus_one: 1 of 1")
    assert (
        "it calls plus_one, which has changed since its check and is now wrong"
        in checked["changed since its check"]["all"]
    )


def test_settings_that_a_notebook_changed_are_named_and_do_no_harm(checked, graded):
    for layout, setting in (
        ("another precision in the setup cell", "torch.set_default_dtype"),
        ("without gradients", "torch.set_grad_enabled"),
    ):
        assert (
            f"{setting} is changed in this notebook; check and grading reset it before they call"
            in checked[layout]["all"]
        )
    assert checked["without gradients"]["all"].endswith("True")
    marks = graded(RIGHT["functions of libraries replaced"])
    assert marks["plus_one"].notes == [
        "math.sqrt, nn.Linear.forward, torch.Tensor.exp and torch.stack are changed for all code, "
        "so they are reset before each call of an answer"
    ]


@pytest.mark.parametrize(("first", "second"), [(ONE, WRONG_ONE), (WRONG_ONE, ONE)])
def test_a_step_that_is_defined_again_above_another_check_counts_there(graded, first, second):
    cells = lay_out(plus_one=first)
    number = [cell_id for cell_id, _ in cells].index("scaled-answer")
    marks = graded([*cells[:number], ("", second), *cells[number:]])
    assert marks["plus_one"].points == (1 if first == ONE else 0)
    assert marks["scaled"].points == (2 if second == ONE else 0)
    assert marks["scaled"].notes == [
        "plus_one was defined again after its own check; the later version is called here"
    ]


def test_a_module_that_may_be_missing_is_named(checked):
    assert checked["a module"]["scaled"].endswith(
        "; but safetensors may not be installed where it is graded"
    )
    assert checked["a module"]["plus_one"].endswith(
        "; but safetensors may not be installed where it is graded"
    )


def test_what_an_answer_lacks_is_named_on_the_feedback_page(graded):
    cells, name, words = SAID["data from two cells"]
    assert graded(cells)[name].notes == [words]


# Reading cells.


@pytest.mark.parametrize(
    "source",
    [
        "x = 5 %\n2",
        "def f(x:\n  %d",
        "%time )\nx = = 2",
        "\x00",
        "# \ud800",
        "(" * 300 + ")" * 300,
        "",
    ],
)
def test_code_with_other_errors_is_left_as_it_is(source):
    assert plain_python(source) == source


def test_lines_keep_their_numbers():
    lines = ["", "%%time", "!a \\", "  b", "x = 1", "  ", "x?", "y = !c", "%d", "z = 2"]
    plain = plain_python("\n".join(lines)).split("\n")
    assert len(plain) == len(lines)
    assert [(number, line) for number, line in enumerate(plain) if "=" in line] == [
        (4, "x = 1"),
        (9, "z = 2"),
    ]


def test_what_ipython_understands_is_understood():
    """As far as cells without cell magics go, which the table of layouts has."""
    from IPython.core.inputtransformer2 import TransformerManager

    lines = ["%cd a", "!ls", "x = %pwd", "a, b = !ls", "x?", "?x", "x??", "  ", "y = 1  # is it?"]
    for line in lines:
        source = f"def one():\n    return '?'\n{line}\nif True:\n    {line}\n    pass\nz = 5 % 3"
        ast.parse(TransformerManager().transform_cell(source))
        ast.parse(plain_python(source))


def test_a_notebook_with_much_code_is_read_in_part(graded):
    long = f"x = {'1 + ' * 20_000}1"
    marks = graded([*lay_out(), *(("", long) for _ in range(10))])
    assert sum(step.points for step in marks.values()) == POINTS
