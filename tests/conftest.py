"""What several test modules share."""

import os
import sys
import time
import warnings
from collections.abc import Callable
from io import StringIO
from pathlib import Path

import matplotlib
import nbformat
import numpy as np
import pytest
import yaml
from hypothesis import settings
from matplotlib.colors import to_rgb
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook
from sphinx.application import Sphinx
from sphinx.util.docutils import docutils_namespace

ROOT = Path(__file__).parents[1]
sys.path[:0] = [str(ROOT / "tools"), str(ROOT / "tools" / "sphinx")]

from chromium import chromium  # noqa: E402
from execute_notebooks import execute  # noqa: E402
from hosting import hosting  # noqa: E402
from system_packages import why_no_browser, why_no_sandbox  # noqa: E402

TABLE = yaml.safe_load((ROOT / "book" / "_toc.yml").read_text(encoding="utf-8"))
CHAPTERS = [
    ROOT / "book" / f"{page['file']}.ipynb"
    for part in TABLE["parts"]
    if part.get("numbered")
    for page in part["chapters"]
]
HTML = Path(os.environ.get("SEQBOOK_HTML", ROOT / "_build" / "html"))  # another build, if named
PATIENCE = 60  # seconds to wait for what must come, on a machine that has much else to do
BELOW = "/a/path/"  # the book must work below a path, as on GitHub Pages

matplotlib.use("agg")
matplotlib.rcParams["figure.max_open_warning"] = 0  # tests draw many
settings.register_profile("seqbook", derandomize=True, deadline=None, max_examples=40)
settings.load_profile("seqbook")


def pytest_collection_modifyitems(items):
    """Run the hostile batch first.

    A process without tests takes the last ones of another's. Behind the hostile tests all others
    wait, so they stay together in one process, and the batch that they share is graded once.
    """
    items.sort(key=lambda item: item.path.name != "test_grading_hostile.py")


@pytest.fixture
def generator():
    return np.random.default_rng(0)


def wait_until(holds: Callable[[], bool], *, seconds: float = PATIENCE) -> None:
    """Wait until a condition holds.

    Raises:
        TimeoutError: It does not hold in time.
    """
    deadline = time.monotonic() + seconds
    while not holds():
        if time.monotonic() > deadline:
            raise TimeoutError(f"expected a condition to hold within {seconds} s: {holds}")
        time.sleep(0.05)


@pytest.fixture(scope="session")
def bubblewrap():
    """Skip what needs the grader's sandbox where bubblewrap can't work."""
    if reason := why_no_sandbox():
        pytest.skip(reason)


@pytest.fixture(scope="module")
def browser():
    if reason := why_no_browser():
        pytest.skip(reason)
    with chromium() as started:
        yield started


@pytest.fixture(scope="module")
def site():
    """Serve the built book, and give its address."""
    if not (HTML / "index.html").is_file():
        pytest.fail(f"no pages in {HTML}: run make book")
    with hosting(HTML, below=BELOW) as address:
        yield address


def contrast(one: str, other: str) -> float:
    """Return the contrast of two colours, from 1 to 21, as WCAG 2.2 defines it."""

    def luminance(colour: str) -> float:
        parts = to_rgb(colour)
        linear = [x / 12.92 if x <= 0.04045 else ((x + 0.055) / 1.055) ** 2.4 for x in parts]
        return float(np.dot([0.2126, 0.7152, 0.0722], linear))

    dark, light = sorted((luminance(one), luminance(other)))
    return (light + 0.05) / (dark + 0.05)


PIXEL = (
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJg"
    "gg=="
)
SHOWING = f'display({{"image/png": "{PIXEL}", "text/plain": "<Figure>"}}, raw=True)'
FIGURE = {
    "mystnb": {
        "image": {"alt": "One grey point on white, which stands for a whole picture."},
        "figure": {"caption": "A point.", "name": "fig-point"},
    }
}


def build_pages(folder: Path, **settings) -> str:
    """Build a folder of sources into its folder ``html``; return the warnings."""
    reported = StringIO()
    paths = folder, None, folder / "html", folder / "doctrees", "html"
    # Extensions add to the dictionary, and that of Sphinx itself would keep it for other builds.
    settings = {"source_suffix": {".rst": "restructuredtext"}} | settings
    with docutils_namespace(), warnings.catch_warnings():  # other builds see nothing of it
        # Libraries may use what their own libraries deprecate. sphinx-external-toc asks every
        # object of the process for its class, and some of torch.distributed warn when asked.
        for category in (FutureWarning, DeprecationWarning, PendingDeprecationWarning):
            warnings.simplefilter("ignore", category)
        Sphinx(*paths, confoverrides=settings, status=None, warning=reported).build()
    return reported.getvalue()


def make_notebook(**sources: str) -> nbformat.NotebookNode:
    """Make a notebook that was not executed yet, with one code cell for each source."""
    cells = [
        new_code_cell(
            source, id=name.replace("_", "-"), metadata=FIGURE if name == "fig_point" else {}
        )
        for name, source in sources.items()
    ]
    return new_notebook(
        cells=[new_markdown_cell("# A page", id="title"), *cells],
        metadata={"seqbook": {"runs_within_seconds": 60}},
    )


def write(notebook: nbformat.NotebookNode, path: Path) -> Path:
    path.write_text(nbformat.writes(notebook) + "\n", encoding="utf-8")
    return path


@pytest.fixture(scope="session")
def executed(tmp_path_factory) -> nbformat.NotebookNode:
    """Return a small notebook as ``make notebooks`` stores it, with an output of each kind."""
    notebook = make_notebook(
        printed="print('✓ Two is two.')",
        value="6 * 7",
        page="from IPython.display import HTML\n\nHTML('<b>bold</b>')",
        fig_point=SHOWING,
    )
    path = write(notebook, tmp_path_factory.mktemp("executed") / "small.ipynb")
    execute(path)
    return nbformat.read(path, as_version=4)
