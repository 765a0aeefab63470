"""nbval, called as `make nbval` calls it, must notice what a reader would see change."""

import os
import re
import subprocess
import sys
from copy import deepcopy
from pathlib import Path
from xml.etree import ElementTree

from conftest import PATIENCE, ROOT, make_notebook, write
from execute_notebooks import normalise
from nbformat.v4 import new_output
from notebook_rules import violations


def nbval(
    *paths: Path, cell_seconds: int = 2 * PATIENCE, without: str = "\0"
) -> tuple[int, set[str]]:
    """Run the Makefile's own nbval command, but for its timeout.

    Returns:
        Its exit code and the names of the notebooks in which a cell failed.
    """
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8").replace("\\\n", "")
    command = re.search(r"^NBVAL := (.*)$", makefile, flags=re.MULTILINE)[1]
    command, changes = re.subn(r"(--nbval-cell-timeout=)\d+", rf"\g<1>{cell_seconds}", command)
    assert changes == command.count("$(BIN)/pytest ") == command.count(" $(NOTEBOOKS)") == 1
    command = command.replace("$(BIN)/pytest", f"{sys.executable} -m pytest --junit-xml=report.xml")
    command = command.replace("$(NOTEBOOKS)", " ".join(map(str, paths))).replace(without, "")
    folder = paths[0].parent
    environment = {k: v for k, v in os.environ.items() if not k.startswith("PYTEST_")}
    run = subprocess.run(command.split(), cwd=folder, env=environment, capture_output=True)
    cases = ElementTree.parse(folder / "report.xml").iter("testcase")
    failed = {Path(case.get("classname")).stem for case in cases if len(case.findall("failure"))}
    return run.returncode, failed


# Each changes one thing in the fixture `executed`, whose cells are title, printed, value, page
# and fig-point, so that a new execution shows something else than what is stored.
CORRUPTED = {
    "printed": lambda n: n.cells[1].outputs[0].update(text="✓ Two is three.\n"),
    "printed-gone": lambda n: n.cells[1].outputs.clear(),
    "value": lambda n: n.cells[2].outputs[0].data.update({"text/plain": "43"}),
    "page": lambda n: n.cells[3].outputs[0].data.update({"text/html": "<b>italic</b>"}),
    "picture-gone": lambda n: n.cells[4].outputs.clear(),
    "stderr-stored": lambda n: n.cells[2].outputs.append(
        new_output("stream", name="stderr", text="a warning\n")
    ),
    "stderr-new": lambda n: n.cells[1].update(
        source="import sys\n\nprint('✓ Two is two.')\nprint('a warning', file=sys.stderr)"
    ),
}


def clear(notebook):
    for cell in notebook.cells[1:]:
        cell.outputs, cell.execution_count = [], None


def test_what_a_reader_would_see_change_is_red_and_nothing_else(executed, tmp_path):
    paths = []
    for name, change in (CORRUPTED | {"untouched": len, "cleared": clear}).items():
        notebook = deepcopy(executed)
        change(notebook)
        paths.append(write(notebook, tmp_path / f"{name}.ipynb"))
    assert nbval(*paths) == (1, set(CORRUPTED))


def test_a_cell_that_takes_too_long_is_red(executed, tmp_path):
    executed = deepcopy(executed)
    executed.cells[1].source = "import time\n\ntime.sleep(1000)\nprint('✓ Two is two.')"
    assert nbval(write(executed, tmp_path / "slow.ipynb"), cell_seconds=5) == (1, {"slow"})


def test_an_untouched_notebook_is_green(executed, tmp_path):
    assert nbval(write(executed, tmp_path / "untouched.ipynb")) == (0, set())


def test_cleared_outputs_escape_nbval_and_not_our_rules(executed):
    notebook = deepcopy(executed)
    clear(notebook)
    assert "printed: execution count None, expected 1" in violations(notebook)


def test_after_a_timeout_only_runxfail_sees_what_is_wrong(tmp_path):
    """A cell that ends just after its time is no failure to nbval, which then expects others."""
    late = "import time\n\ntry:\n    time.sleep(1000)\nexcept KeyboardInterrupt:\n    pass"
    path = write(normalise(make_notebook(late=late, wrong="6 * 7")), tmp_path / "late.ipynb")
    assert nbval(path, cell_seconds=2) == (1, {"late"})
    assert nbval(path, cell_seconds=2, without="--runxfail") == (0, set())
