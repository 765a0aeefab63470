"""What must hold in every stored notebook, beyond what nbval compares.

nbval re-executes cells and compares text. It is blind to cleared outputs, to skipped cells and
to pictures without words; these rules are not.
"""

import re
from collections.abc import Iterator
from copy import deepcopy
from pathlib import Path

import nbformat
from execute_notebooks import normalise

MAX_CODE_LINES = 25
MAX_SECONDS = 120
IGNORING = "nbval-ignore-output"
TAGS = {"hide-cell", "hide-input", IGNORING}
HIDDEN = "remove-cell"  # of the cell that installs the package, which no page shows

# Cells whose output may differ between machines, for each notebook that has one. A claim must
# stand beside each and say what holds all the same.
IGNORED_OUTPUTS: dict[str, int] = {
    "book/attention.ipynb": 3,
    "book/decoder_only.ipynb": 3,
    "book/recurrent.ipynb": 1,
    "book/transformer.ipynb": 3,
    "exercises/lstm_in_pytorch/lstm_in_pytorch.ipynb": 1,
}

MACHINE_PATH = re.compile(r"(?<![\w.])/(work|home|root|Users|tmp)/|\b[A-Z]:\\")
ADDRESS = re.compile(r"\b0x[0-9a-fA-F]{6,}")
FILE_NAME = re.compile(r"\S+\.(png|svg|jpe?g|gif|webp)", re.IGNORECASE)


def load(path: Path) -> nbformat.NotebookNode:
    return nbformat.read(path, as_version=nbformat.NO_CONVERT)


def violations(notebook: nbformat.NotebookNode, *, ignored_outputs: int = 0) -> list[str]:
    """Return what is wrong with a notebook, each in a sentence that names the cell."""
    if invalid := list(_ids(notebook)) or list(_validity(notebook)):
        return invalid
    return [
        *_metadata(notebook),
        *_execution(notebook),
        *_tags(notebook, ignored_outputs),
        *_pictures(notebook),
        *_text(notebook),
    ]


def _ids(notebook) -> Iterator[str]:
    ids = [cell.get("id", "") for cell in notebook.cells]
    for name in ids:
        if not re.fullmatch(r"[a-z0-9-]+", name):
            yield f"{name!r}: cell id is not of small letters, digits and hyphens"
        if ids.count(name) > 1:
            yield f"{name}: cell id is not unique"


def _validity(notebook) -> Iterator[str]:
    try:
        nbformat.validate(deepcopy(notebook))  # which would repair ids
    except nbformat.ValidationError as error:
        yield f"notebook: not valid: {error.message}"


def _metadata(notebook) -> Iterator[str]:
    if set(notebook.metadata) != {"kernelspec", "language_info", "seqbook"}:
        yield f"notebook: metadata {sorted(notebook.metadata)}"
    bound = notebook.metadata.get("seqbook", {}).get("runs_within_seconds")
    if not isinstance(bound, int) or not 0 < bound <= MAX_SECONDS:
        yield f"notebook: runs_within_seconds is {bound}, expected 1 to {MAX_SECONDS}"
    if normalise(deepcopy(notebook)) != notebook:
        yield "notebook: not in the normal form, run 'make notebooks'"


def _execution(notebook) -> Iterator[str]:
    for count, cell in enumerate(_code(notebook), start=1):
        if cell.execution_count != count:
            yield f"{cell.id}: execution count {cell.execution_count}, expected {count}"
        for output in cell.outputs:
            if output.output_type == "error":
                yield f"{cell.id}: stored error {output.ename}"
            if output.get("name") == "stderr":
                yield f"{cell.id}: stderr {output.text[:60]!r}"
        lines = [line for line in cell.source.splitlines() if line.strip()]
        if len(lines) > MAX_CODE_LINES:
            yield f"{cell.id}: {len(lines)} lines of code, at most {MAX_CODE_LINES}"


def _tags(notebook, ignored_outputs: int) -> Iterator[str]:
    cells = _code(notebook)
    ignoring = [i for i, cell in enumerate(cells) if IGNORING in cell.metadata.get("tags", [])]
    if len(ignoring) > ignored_outputs:
        yield f"notebook: {len(ignoring)} cells tagged {IGNORING}, the budget is {ignored_outputs}"
    for i in ignoring:
        if not any(re.search(r"\b(claim|finding)\(", cell.source) for cell in cells[i : i + 2]):
            yield f"{cells[i].id}: ignores its output without a claim in it or in the next cell"
    for cell in notebook.cells:
        allowed = {HIDDEN} if cell.id == "install" else TAGS
        for tag in set(cell.metadata.get("tags", [])) - allowed:
            yield f"{cell.id}: tag {tag}"
        if re.search(r"#\s*(NBVAL|PYTEST_VALIDATE)_", cell.source):
            yield f"{cell.id}: a comment that steers nbval"


def _pictures(notebook) -> Iterator[str]:
    for cell in _code(notebook):
        if not any("image/png" in output.get("data", {}) for output in cell.outputs):
            continue
        shown = cell.metadata.get("mystnb", {})
        alt = shown.get("image", {}).get("alt", "")
        if len(alt) < 40 or FILE_NAME.fullmatch(alt):
            yield f"{cell.id}: alternative text {alt!r}"
        if not shown.get("figure", {}).get("caption"):
            yield f"{cell.id}: no caption"
        if shown.get("figure", {}).get("name") != cell.id:
            yield f"{cell.id}: the figure's name is not the cell's id"


def _text(notebook) -> Iterator[str]:
    for cell in notebook.cells:
        texts = [
            output_text for output in cell.get("outputs", []) for output_text in _words(output)
        ]
        for text in [cell.source, *texts]:
            if found := MACHINE_PATH.search(text):
                yield f"{cell.id}: path of one machine, {found[0]!r}"
        for text in texts:
            if found := ADDRESS.search(text):
                yield f"{cell.id}: address in memory, {found[0]!r}"


def _words(output) -> Iterator[str]:
    """Yield the texts of an output without pictures and sounds, which are base64."""
    yield output.get("text", "")
    for kind, content in output.get("data", {}).items():
        if not kind.startswith("image/"):
            yield re.sub(r"base64,[\w+/=]+", "", str(content))


def _code(notebook) -> list:
    return [cell for cell in notebook.cells if cell.cell_type == "code"]
