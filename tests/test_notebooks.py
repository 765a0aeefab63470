import os
import re
from copy import deepcopy
from unittest.mock import ANY

import execute_notebooks
import nbformat
import pytest
from conftest import FIGURE, ROOT, SHOWING, make_notebook, write
from nbformat.v4 import new_output
from notebook_rules import IGNORED_OUTPUTS, IGNORING, load, violations

NOTEBOOKS = sorted([*ROOT.glob("book/*.ipynb"), *ROOT.glob("exercises/*/*.ipynb")])
NAMES = [path.relative_to(ROOT).as_posix() for path in NOTEBOOKS]


@pytest.mark.parametrize("name", NAMES)
def test_a_stored_notebook_keeps_the_rules(name):
    assert violations(load(ROOT / name), ignored_outputs=IGNORED_OUTPUTS.get(name, 0)) == []


@pytest.mark.parametrize("name", NAMES)
def test_a_stored_notebook_is_written_as_the_tool_writes_it(name):
    text = (ROOT / name).read_text(encoding="utf-8")
    assert text == nbformat.writes(nbformat.reads(text, as_version=4)) + "\n"


def test_budgets_are_of_notebooks_that_need_them():
    assert set(IGNORED_OUTPUTS) <= set(NAMES)
    for name, budget in IGNORED_OUTPUTS.items():
        assert (
            sum(IGNORING in cell.metadata.get("tags", []) for cell in load(ROOT / name).cells)
            == budget
        )


def test_the_tools_own_output_keeps_the_rules(executed):
    assert violations(executed) == []


# Each spoils one thing in the notebook of the fixture `executed`; its cells are title, printed,
# value, page and fig-point.
SPOILT = {
    "title: cell id is not unique": lambda n: n.cells[2].update(id="title"),
    "'Über 1': cell id is not": lambda n: n.cells[2].update(id="Über 1"),
    "notebook: not valid": lambda n: n.cells[1].pop("outputs"),
    "notebook: metadata": lambda n: n.metadata.update(authors=[]),
    "runs_within_seconds is 121": lambda n: n.metadata.seqbook.update(runs_within_seconds=121),
    "runs_within_seconds is None": lambda n: n.metadata.seqbook.clear(),
    "not in the normal form": lambda n: n.metadata.language_info.update(version="3.11.7"),
    "value: execution count None, expected 2": lambda n: n.cells[2].update(execution_count=None),
    "value: execution count 9, expected 2": lambda n: n.cells[2].update(execution_count=9),
    "printed: stored error ValueError": lambda n: n.cells[1].outputs.append(
        new_output("error", ename="ValueError", evalue="", traceback=[])
    ),
    "printed: stderr 'a warning'": lambda n: n.cells[1].outputs.append(
        new_output("stream", name="stderr", text="a warning")
    ),
    "value: 26 lines of code, at most 25": lambda n: n.cells[2].update(source="6 * 7\n" * 26),
    "value: tag nbval-skip": lambda n: n.cells[2].metadata.update(tags=["nbval-skip"]),
    "value: tag raises-exception": lambda n: n.cells[2].metadata.update(tags=["raises-exception"]),
    "value: a comment that steers nbval": lambda n: n.cells[2].update(source="# NBVAL_SKIP\n6 * 7"),
    "1 cells tagged nbval-ignore-output, the budget is 0": lambda n: n.cells[2].metadata.update(
        tags=[IGNORING]
    ),
    "value: ignores its output without a claim": lambda n: n.cells[2].metadata.update(
        tags=[IGNORING]
    ),
    "fig-point: alternative text ''": lambda n: n.cells[4].metadata.mystnb.pop("image"),
    "fig-point: alternative text 'A point.'": lambda n: n.cells[4].metadata.mystnb.image.update(
        alt="A point."
    ),
    "fig-point: alternative text '0000": lambda n: n.cells[4].metadata.mystnb.image.update(
        alt="0" * 64 + ".png"
    ),
    "fig-point: no caption": lambda n: n.cells[4].metadata.mystnb.figure.pop("caption"),
    "fig-point: the figure's name": lambda n: n.cells[4].metadata.mystnb.figure.update(
        name="fig-x"
    ),
    "value: path of one machine, '/home/'": lambda n: n.cells[2].update(
        source="open('/home/me/x')"
    ),
    "printed: path of one machine, '/work/'": lambda n: (
        n.cells[1].outputs[0].update(text="saved in /work/main")
    ),
    "title: path of one machine, 'C:": lambda n: n.cells[0].update(source=r"In C:\Users\me."),
    "page: address in memory, '0x7f3a2b10'": lambda n: (
        n.cells[3].outputs[0].data.update({"text/html": "&lt;object at 0x7f3a2b10&gt;"})
    ),
}


@pytest.mark.parametrize("message", SPOILT)
def test_a_spoilt_notebook_breaks_a_rule(executed, message):
    notebook = deepcopy(executed)
    SPOILT[message](notebook)
    assert any(message in violation for violation in violations(notebook))


def test_an_output_that_may_differ_needs_a_budget_and_a_claim(executed):
    notebook = deepcopy(executed)
    notebook.cells[1].metadata.tags = [IGNORING]
    notebook.cells[2].source = "claim('It holds.', True)"
    assert violations(notebook, ignored_outputs=1) == []


def test_normalising_drops_what_varies_between_runs():
    notebook = make_notebook(first="1", fig_point=SHOWING)
    first, figure = notebook.cells[1:]
    first.execution_count = 17
    first.outputs = [new_output("execute_result", {"text/plain": "1"}, execution_count=17)]
    first.metadata.update(
        execution={"iopub.execute_input": "2026-01-01"}, collapsed=False, tags=["hide-cell"]
    )
    notebook.metadata.language_info = {"name": "python", "version": "3.11.7"}

    once = execute_notebooks.normalise(notebook)
    assert (first.execution_count, first.outputs[0].execution_count, figure.execution_count) == (
        1,
        1,
        2,
    )
    assert first.metadata == {"tags": ["hide-cell"]}
    assert figure.metadata == FIGURE
    assert once.metadata == {
        "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
        "language_info": {"name": "python"},
        "seqbook": {"runs_within_seconds": 60},
    }
    assert execute_notebooks.normalise(deepcopy(once)) == once


def test_executing_twice_changes_no_byte(tmp_path):
    path = write(
        make_notebook(
            slow="import time\n\nprint('a')\ntime.sleep(0.5)\nprint('b')", fig_point=SHOWING
        ),
        tmp_path / "page.ipynb",
    )
    assert re.fullmatch(rf"{path}: written, \d+ s", execute_notebooks.execute(path))
    before = path.read_bytes()
    assert [output.text for output in load(path).cells[1].outputs] == ["a\nb\n"]
    assert re.fullmatch(rf"{path}: unchanged, \d+ s", execute_notebooks.execute(path))
    assert path.read_bytes() == before
    assert os.listdir(tmp_path) == ["page.ipynb"]


BROKEN = {
    "ZeroDivisionError": ("1 / 0", 60),
    "timed out": ("import time\n\ntime.sleep(60)", 60),
    "Kernel died": ("import os\n\nos._exit(0)", 60),
    "tells its reader under 0 s": ("print(1)", 0),
    "expected metadata": ("print(1)", None),
}


@pytest.mark.parametrize("reason", BROKEN)
def test_a_notebook_that_breaks_its_promise_is_left_as_it_was(tmp_path, monkeypatch, reason):
    source, bound = BROKEN[reason]
    notebook = make_notebook(first="print('new')", broken=source)
    notebook.metadata = {} if bound is None else {"seqbook": {"runs_within_seconds": bound}}
    path = write(notebook, tmp_path / "page.ipynb")
    before = path.read_bytes()
    if reason == "timed out":
        monkeypatch.setattr(execute_notebooks, "CELL_TIMEOUT_SECONDS", 1)
    with pytest.raises(execute_notebooks.NotebookError, match=rf"(?s)page\.ipynb.*{reason}"):
        execute_notebooks.execute(path)
    assert path.read_bytes() == before
    assert os.listdir(tmp_path) == ["page.ipynb"]


def test_one_failure_is_reported_and_does_not_stop_the_others(tmp_path, capsys):
    good, bad = (tmp_path / f"{name}.ipynb" for name in ("good", "bad"))
    write(make_notebook(first="print(1)"), good)
    write(make_notebook(first="1 / 0"), bad)
    nowhere, broken = tmp_path / "nowhere.ipynb", tmp_path / "broken.ipynb"
    broken.write_text("{")
    assert execute_notebooks.main([*map(str, (bad, nowhere, broken, good))]) == 1
    output = capsys.readouterr()
    assert output.out.startswith(f"{good}: written")
    for path in (bad, nowhere, broken):
        assert str(path) in output.err
    assert load(good).cells[1].outputs == [ANY]


def test_success_and_a_call_without_notebooks_have_their_exit_codes(tmp_path, capsys):
    path = write(make_notebook(first="print(1)"), tmp_path / "page.ipynb")
    assert execute_notebooks.main([str(path)]) == 0
    assert execute_notebooks.main([]) == 2
    assert "Usage:" in capsys.readouterr().err
