"""The reference of the package: complete, and with examples that run. `make book` first."""

import doctest
import importlib
import inspect
import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterator

import pytest
import torch
from api_reference import PACKAGES, public_modules, public_objects, without_docstrings
from bs4 import BeautifulSoup
from conftest import HTML, PATIENCE, ROOT
from system_packages import why_no_sandbox

MODULES = [module.__name__ for package in PACKAGES for module in public_modules(package)]
NEED_A_SANDBOX = {  # whose examples make what bubblewrap and the grader's processes need
    "stepgrader.pool",
    "stepgrader.cluster_judge",
    "stepgrader.sandbox",
    "stepgrader.grader",
    "stepgrader.tasks",
    "stepgrader.worker.hardening",
    "stepgrader.worker.runner",
    "stepgrader.worker.server",
}
COMPUTING = (  # modules whose functions and classes are mathematics
    "seqbook.compression.arithmetic_coding",
    "seqbook.compression.costs",
    "seqbook.compression.counters",
    "seqbook.compression.logistic",
    "seqbook.compression.matching",
    "seqbook.compression.mixing",
    "seqbook.compression.online_gru",
    "seqbook.compression.predictor",
    "seqbook.compression.probability_maps",
    "seqbook.data.synthetic",
    "seqbook.kernels.",
    "seqbook.layers.",
    "seqbook.models.classification",
    "seqbook.models.decoder_only",
    "seqbook.models.decoding",
    "seqbook.models.language_model",
    "seqbook.models.metrics",
    "seqbook.models.sampling",
    "seqbook.models.seq2seq",
    "seqbook.statistics.",
    "seqbook.training.bptt",
    "seqbook.training.fit",
    "seqbook.training.loop",
    "seqbook.training.profiling",
    "seqbook.training.recipes",
    "seqbook.training.scoring",
)
WITHOUT_EQUATION = {  # in these modules, and what they do instead
    "seqbook.compression.arithmetic_coding.OutOfDataError": "is an error",
    "seqbook.compression.online_gru.check_arithmetic": "compares a number",
    "seqbook.compression.predictor.Settings": "holds what a model is made of",
    "seqbook.kernels.differentiation.differentiable_once": "decorates a backward pass",
    "seqbook.layers.attention.recorded_weights": "keeps what a layer computes",
    "seqbook.layers.initialization.initialize": "draws by any of torch's initializers",
    "seqbook.layers.linear_recurrence.check_inputs": "checks an argument",
    "seqbook.layers.recurrent.specification_option": "makes a property",
    "seqbook.models.classification.pad": "adds zeros",
    "seqbook.training.bptt.detach_state": "returns the same numbers",
    "seqbook.training.profiling.processor_name": "returns a text",
    "seqbook.training.scoring.score": "rounds what error_rates computes",
}
SHAPE = re.compile(r"``\((\.\.\.|[^`]*,[^`]*)?\)``")  # ``(batch, time)``; ``()`` of a scalar
EQUATION = re.compile(r"\.\. math::|:math:`[^`]*(=|\\leftarrow)")


def objects() -> dict[str, object]:
    """Return all public objects by the full names of their entries."""
    return {
        f"{name}.{member}": value
        for name in MODULES
        for member, value in public_objects(importlib.import_module(name))
    }


@pytest.fixture(scope="module")
def entries() -> dict[str, BeautifulSoup]:
    """Return the entries of the reference by the names of their objects."""
    by_name = {}
    for path in sorted((HTML / "api").glob("*.html")):
        page = BeautifulSoup(path.read_text(encoding="utf-8"), "html.parser")
        by_name |= {tag["id"]: tag.parent for tag in page.select("dl.py > dt[id]")}
    if not by_name:
        pytest.fail(f"no reference in {HTML}: run make book")
    return by_name


def test_every_public_object_has_an_entry(entries):
    assert sorted(set(objects()) - set(entries)) == []


def test_every_entry_says_what_it_is(entries):
    assert [name for name, entry in entries.items() if not entry.dd.get_text(strip=True)] == []


def test_an_object_has_one_entry():
    values = [id(value) for value in objects().values() if not isinstance(value, int | float)]
    assert len(set(values)) == len(values)


def test_every_name_that_a_module_exports_is_defined_by_a_documented_one():
    """A name that is only passed on has its entry where it is defined."""
    documented = {id(value) for value in objects().values()}
    for name in MODULES:
        module = importlib.import_module(name)
        values = {member: getattr(module, member) for member in module.__all__}
        undocumented = [
            member
            for member, value in values.items()
            if not inspect.ismodule(value) and id(value) not in documented
        ]
        assert undocumented == [], name


def test_an_entry_shows_docstring_and_source(entries):
    entry = entries["seqbook.layers.lstm.lstm_step"]
    assert "One step of an LSTM." in entry.get_text()
    assert entry.select_one(".katex-display .katex-html")
    source = entry.select_one("details.source").get_text()
    assert "src/seqbook/layers/lstm.py, line " in source
    assert "def lstm_step(" in source
    assert "One step of an LSTM." not in source
    assert not entry.select("details.source a")  # no address is known


def test_every_class_and_function_shows_its_source(entries):
    lacking = []
    for name, value in objects().items():
        if inspect.isroutine(value) or (
            inspect.isclass(value) and not issubclass(value, BaseException)
        ):
            source = entries[name].select_one("details.source")
            if not (source and source.pre and re.search(r"src/\S+\.py, line \d+", source.p.text)):
                lacking.append(name)
    assert lacking == []


def test_code_is_linked_to_its_entry():
    page = BeautifulSoup((HTML / "api" / "layers.html").read_text("utf-8"), "html.parser")
    cell = page.find(id="seqbook.layers.lstm.LSTMCell").parent
    links = {link.get_text(): link["href"] for link in cell.select("a.reference") if link.code}
    assert links["lstm_step"] == "#seqbook.layers.lstm.lstm_step"
    introduction = page.find(string=re.compile("is the mathematics")).parent
    assert "#seqbook.layers.gru.gru_step" in [link["href"] for link in introduction.find_all("a")]
    training = BeautifulSoup((HTML / "api" / "training.html").read_text("utf-8"), "html.parser")
    links = {link.get_text(): link["href"] for link in training.select("a.reference") if link.code}
    assert links["Seq2Seq.loss"] == "models.html#seqbook.models.seq2seq.Seq2Seq.loss"
    chapter = BeautifulSoup((HTML / "gru.html").read_text("utf-8"), "html.parser")
    targets = {link["href"] for link in chapter.select("article a.reference") if link.code}
    assert "api/layers.html#seqbook.layers.gru.GRU" in targets
    architecture = BeautifulSoup((HTML / "architecture.html").read_text("utf-8"), "html.parser")
    links = {link.get_text(): link["href"] for link in architecture.select("article dd a")}
    assert links["src/seqbook/layers/lstm.py"] == "api/layers.html#module-seqbook.layers.lstm"
    assert links["lstm_step"] == "api/layers.html#seqbook.layers.lstm.lstm_step"


def test_a_type_variable_is_text_in_a_build_that_has_not_imported_its_module():
    """As after an edit of another page."""
    module = "seqbook.training.bptt"
    program = (
        "import sys, api_reference as reference\n"
        f"assert {module!r} not in sys.modules\n"
        "for name in ('State', 'detach_stat'):\n"
        f"    node = {{'refdomain': 'py', 'reftarget': f'{module}.{{name}}'}}\n"
        "    print(reference.plain_text(None, None, node, name))"
    )
    folders = [ROOT / "src", ROOT / "tools", ROOT / "tools" / "sphinx"]
    process = subprocess.run(
        [sys.executable, "-c", program],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(map(str, folders))},
        capture_output=True,
        text=True,
        timeout=PATIENCE,
    )
    assert (process.stdout, process.stderr) == ("State\nNone\n", "")


def test_source_is_shown_without_docstrings():
    source = '''
        class A:
            """Words.

            More.
            """

            def f(self):
                """Only words."""

            def g(self):
                """Words."""
                return "no docstring"
    '''
    assert without_docstrings(source[1:].rstrip()).splitlines() == [
        "class A:",
        "    def f(self):",
        '        """Only words."""',
        "",
        "    def g(self):",
        '        return "no docstring"',
    ]


@pytest.mark.parametrize("name", MODULES)
def test_examples_run(name):
    if name in NEED_A_SANDBOX and (reason := why_no_sandbox()):
        pytest.skip(reason)
    module = importlib.import_module(name)
    finder, flags = doctest.DocTestFinder(exclude_empty=True), doctest.NORMALIZE_WHITESPACE
    runner, output = doctest.DocTestRunner(optionflags=flags | doctest.ELLIPSIS), []
    for example in finder.find(module, name):
        torch.manual_seed(0)
        runner.run(example, out=output.append)
    assert runner.summarize(verbose=False).failed == 0, "".join(output)


def test_public_classes_and_functions_have_examples():
    assert [name for name, value in objects().items() if lacks_example(value)] == []


def lacks_example(value: object) -> bool:
    """Whether a class or function has no example, nor has one of the methods of the class."""
    if not (inspect.isclass(value) or inspect.isroutine(value)):
        return False
    parts = [value, *vars(value).values()] if inspect.isclass(value) else [value]
    return not any(">>> " in (inspect.getdoc(part) or "") for part in parts)


def test_callables_that_take_or_return_tensors_state_shapes():
    documented = dict(callables())
    lacking = []
    for name, value in documented.items():
        text = inspect.getdoc(value) or ""
        if overridden := re.fullmatch(r"See ``(\S+)``\.", text):
            module = name.rsplit(".", 2)[0]
            text = inspect.getdoc(documented[f"{module}.{overridden[1]}"])
        if re.search(r"\b(Tensor|ndarray)\b", annotations(value)) and not SHAPE.search(text):
            lacking.append(name)
    assert lacking == []


def test_what_computes_shows_its_equation():
    """A record (a named tuple) only holds what another entry computes."""
    lacking = [
        name
        for name, value in objects().items()
        if name.startswith(COMPUTING)
        and (inspect.isroutine(value) or (inspect.isclass(value) and not issubclass(value, tuple)))
        and not EQUATION.search(inspect.getdoc(value) or "")
    ]
    assert lacking == sorted(WITHOUT_EQUATION)


def callables() -> Iterator[tuple[str, Callable]]:
    """Yield the public functions, the classes and their public methods and properties."""
    for name, value in objects().items():
        if inspect.isclass(value):
            yield name, value
            if not issubclass(value, torch.autograd.Function):  # torch calls its methods; the class
                for part in filter(lambda part: not part.startswith("_"), vars(value)):  # has them
                    member = getattr(value, part)
                    member = member.fget if isinstance(member, property) else member
                    if inspect.isroutine(member):
                        yield f"{name}.{part}", member
        elif inspect.isroutine(value):
            yield name, value


def annotations(value: Callable) -> str:
    """Return the annotations of all parameters and of the result, as one text."""
    try:
        return str(inspect.signature(value))
    except ValueError:  # a class without a signature of its own
        return ""
