"""The packages keep to the architecture that book/architecture.md shows."""

import ast
import importlib
import re

import architecture
import pytest
from architecture import BESIDE, LAYERS, PICTURE, SOURCE, folder_imports, folder_of, imports
from conftest import ROOT

PAGE = (ROOT / "book" / "architecture.md").read_text(encoding="utf-8")
MODULES = dict(architecture.modules())
BENCHMARKS = dict(architecture.modules(ROOT / "benchmarks"))
NAMEDTUPLE = {"_asdict", "_fields", "_make", "_replace"}  # public in spite of their names
OWN_WORDS = {"os._exit"}  # documented under these names
MOCK = "unittest.mock"
WITHOUT_TORCH = ("validation", "data", "statistics", "plots", "claims", "compression")


def problems_of_order(modules: dict[str, ast.Module]) -> list[str]:
    order = list(LAYERS)
    problems = []
    for module, tree in modules.items():
        importer = folder_of(module)
        for item in imports(module, tree):
            imported = folder_of(item.imported, item.name)
            if importer == imported or imported is None:
                if importer == "stepgrader" and item.imported.split(".")[0] == "seqbook":
                    problems.append(f"{module}, line {item.line}: imports {item.imported}")
                continue
            if importer in LAYERS:
                allowed = set(order[: order.index(importer)])
                allowed |= {"stepgrader"} if importer == "cli" else set()
            else:
                allowed = BESIDE[importer][1] if importer else set()
            if imported not in allowed:
                problems.append(f"{module}, line {item.line}: imports {item.imported}")
    return problems


def private(name: str) -> bool:
    return name.startswith("_") and not name.startswith("__")


def defined(tree: ast.Module) -> set[str]:
    """Names that a module defines, as variables, attributes, functions or classes."""
    names = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            names.add(node.name)
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            names.add(node.id)
        elif isinstance(node, ast.Attribute) and ast.unparse(node.value) in ("self", "cls"):
            names.add(node.attr)
    return names


def problems_of_privacy(modules: dict[str, ast.Module]) -> list[str]:
    problems = []
    for module, tree in modules.items():
        own = defined(tree)
        folder = module.rpartition(".")[0]
        for item in imports(module, tree):
            package, _, last = item.imported.rpartition(".")
            ours = item.imported.split(".")[0] in ("seqbook", "stepgrader")
            foreign = private(last) and package not in (module, folder)
            if ours and (private(item.name) or foreign):
                problems.append(f"{module}, line {item.line}: imports {item.imported} {item.name}")
        for node in ast.walk(tree):
            if not isinstance(node, ast.Attribute) or not private(node.attr):
                continue
            words = ast.unparse(node)
            itself = isinstance(node.value, ast.Name) and node.value.id in ("self", "cls")
            itself |= words.startswith("super().")
            torchs = words.startswith("torch.")
            if not (itself or torchs or node.attr in own | NAMEDTUPLE or words in OWN_WORDS):
                problems.append(f"{module}, line {node.lineno}: uses {words}")
    return problems


def problems_of_patching(modules: dict[str, ast.Module]) -> list[str]:
    """Find what replaces an attribute of something imported, or a private method of a base."""
    problems = []
    for module, tree in modules.items():
        imported = {
            (item.name or item.imported).split(".")[0]
            for item in imports(module, tree)
            if item.imported.split(".")[0] != "__future__"
        }
        problems += [
            f"{module}, line {item.line}: imports {item.imported}"
            for item in imports(module, tree)
            if (item.imported, item.name) == ("unittest", "mock") or item.imported == MOCK
        ]
        for node in ast.walk(tree):
            if isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store):
                root = ast.unparse(node).split(".")[0]
                if root in imported:
                    problems.append(f"{module}, line {node.lineno}: replaces {ast.unparse(node)}")
            elif isinstance(node, ast.Name) and node.id == "setattr":
                problems.append(f"{module}, line {node.lineno}: uses setattr")
            elif isinstance(node, ast.ClassDef):
                bases = {ast.unparse(base).split(".")[0] for base in node.bases} & imported
                problems += [
                    f"{module}, line {item.lineno}: overrides {item.name}"
                    for item in node.body
                    if bases and isinstance(item, ast.FunctionDef) and private(item.name)
                ]
    return problems


def planted(source: str, module: str) -> dict[str, ast.Module]:
    return {module: ast.parse(source)}


def test_every_folder_has_its_place_in_the_picture():
    folders = {
        path.stem
        for path in (SOURCE / "seqbook").iterdir()
        if path.name not in ("__init__.py", "__pycache__", "exercises")
    }
    packages = {path.name for path in SOURCE.iterdir() if (path / "__init__.py").exists()}
    assert folders | packages - {"seqbook"} == LAYERS.keys() | BESIDE.keys()


def test_a_folder_imports_only_from_those_below_it():
    assert problems_of_order(MODULES) == []


def test_private_names_stay_in_their_modules():
    assert problems_of_privacy(MODULES | BENCHMARKS) == []


def test_benchmarks_replace_nothing():
    assert problems_of_patching(BENCHMARKS) == []


def test_what_needs_no_tensors_imports_no_torch():
    found = [
        f"{module}, line {item.line}"
        for module, tree in MODULES.items()
        if folder_of(module) in WITHOUT_TORCH
        and module not in ("seqbook.data.synthetic", "seqbook.data.batches")
        for item in imports(module, tree)
        if item.imported.split(".")[0] == "torch"
        or item.imported in ("seqbook.data.synthetic", "seqbook.data.batches")
    ]
    assert found == []


@pytest.mark.parametrize(
    ("module", "source"),
    [
        ("seqbook.data.text", "from seqbook.models.metrics import error_rates"),
        ("seqbook.layers.lstm", "import seqbook.training.loop"),
        ("seqbook.models.seq2seq", "def f():\n    from seqbook import cli"),
        ("seqbook.plots.gates", "from seqbook.layers.lstm import LSTM"),
        ("seqbook.claims", "from seqbook.data import text"),
        ("seqbook.training.runs", "import stepgrader"),
        ("stepgrader.judge", "from seqbook.validation import check_choice"),
        ("stepgrader.batch", "from seqbook import __version__"),
        ("seqbook", "from seqbook.data import text"),
    ],
)
def test_an_import_against_the_order_is_found(module, source):
    assert len(problems_of_order(planted(source, module))) == 1


@pytest.mark.parametrize(
    "source",
    [
        "from seqbook.data.batches import _pad",
        "from seqbook.data._files import read_bytes",
        "import seqbook.data._files",
        "from seqbook.training import runs\nruns._score()",
        "model = load()\nmodel._state = 1",
        "f()._hidden",
    ],
)
def test_use_of_a_private_name_is_found(source):
    assert len(problems_of_privacy(planted(source, "seqbook.models.seq2seq"))) == 1


@pytest.mark.parametrize(
    "source",
    [
        "from seqbook.training import runs\nruns.Run.train = None",
        "import torch\nsetattr(torch, 'compile', None)",
        "from unittest.mock import patch",
        "from unittest import mock",
        "from seqbook.layers.lstm import LSTM\nclass Other(LSTM):\n    def _run(self): ...",
    ],
)
def test_a_patch_is_found(source):
    assert len(problems_of_patching(planted(source, "speed"))) == 1


def test_the_picture_is_drawn_from_the_imports():
    drawn = architecture.draw(folder_imports())
    assert PICTURE.read_text("utf-8") == drawn, "run: python tools/architecture.py"


def test_the_page_leads_to_what_exists():
    paths = re.findall(r"`((?:src|book|exercises|tools|tests|benchmarks)\b[\w/.]*)`", PAGE)
    assert len(paths) > 25
    for path in paths:
        assert (ROOT / path).exists(), path
    for path, names in re.findall(r"`src/([\w/]+)\.py`: ((?:`\w+`(?:, )?)+)", PAGE):
        module = importlib.import_module(path.replace("/", "."))
        for name in re.findall(r"\w+", names):
            assert hasattr(module, name), f"{path} has no {name}"


def test_the_picture_is_described_in_words():
    alt = re.search(r"^:alt: (.+)$", PAGE, flags=re.MULTILINE)[1]
    positions = [alt.index(name) for name in [*reversed(LAYERS)]]
    assert positions == sorted(positions)
    for name, about in [*LAYERS.items(), *((name, "") for name in BESIDE)]:
        assert name in alt
        assert about in alt
