"""Contents of the stored notebooks: their order, their cells, their claims, their minutes.

Pages beside the chapters show titles, claims and minutes of the chapters. Such a page is read
again only when one of these has changed, not after every edit of a notebook: with the page,
Sphinx's environment stores a digest of what the page may show of each notebook.

Reading time is counted, not guessed: 200 words of prose a minute and 20 lines of code a minute,
first without the code that a page folds, then with every check and solution opened.
MyST's own count would leave out what stands in directives: 800 to 1,200 words of questions and
exercises in each chapter. Running time is the bound in the notebook's own metadata, which
``make notebooks`` enforces.
"""

import hashlib
import json
import math
import re
from collections.abc import Iterable, Mapping
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

from checks_in_cells import Cell, SplitCell, split_cells

TICK = "✓ "
WORDS_PER_MINUTE = 200
CODE_LINES_PER_MINUTE = 20
HIDDEN = "remove-cell"  # the tag of a cell that is not on the page
FOLDED = {"hide-cell", "hide-input"}  # tags of a cell whose code is seen after a click


class StoredClaim(NamedTuple):
    """A claim in the output of a cell: the place of its sentence, and what it says."""

    anchor: str
    statement: str


class Length(NamedTuple):
    """How much there is to read on a page.

    Args:
        words: Words of prose.
        code_lines: Lines of code in view.
        folded_lines: Lines of code that unfold: checks, solutions of exercises, and the like.
    """

    words: int
    code_lines: int
    folded_lines: int

    @property
    def minutes(self) -> int:
        """The minutes of reading, rounded up to five."""
        return self._minutes(self.code_lines)

    @property
    def minutes_with_checks(self) -> int:
        """The same for a reader who unfolds all code."""
        return self._minutes(self.code_lines + self.folded_lines)

    def _minutes(self, code_lines: int) -> int:
        minutes = self.words / WORDS_PER_MINUTE + code_lines / CODE_LINES_PER_MINUTE
        return 5 * math.ceil(minutes / 5)


class Summary(NamedTuple):
    """What other pages may show of a notebook."""

    title: str
    claims: tuple[StoredClaim, ...]
    kinds: tuple[str, ...]  # of the claims
    reading_minutes: int
    minutes_with_checks: int  # for a reader who unfolds all code
    runs_within_seconds: int

    @property
    def digest(self) -> str:
        """A text that changes when the summary does."""
        return hashlib.sha256(repr(self).encode()).hexdigest()


def read_notebook(path: Path) -> dict:
    return json.loads(path.read_text(encoding="utf-8"))


@lru_cache(maxsize=64)
def read_summary(path: Path, _modified: int) -> Summary:
    """Summarize a notebook as it is since it was last modified."""
    notebook = read_notebook(path)
    split = split_chapter(notebook)
    length = measure_length(notebook, split)
    return Summary(
        title_of(notebook),
        tuple(stored_claims(notebook)),
        tuple(kinds_of_claims(split)),
        length.minutes,
        length.minutes_with_checks,
        notebook["metadata"]["seqbook"]["runs_within_seconds"],
    )


def measure_length(notebook: dict, split: Mapping[str, SplitCell]) -> Length:
    """Count the words of prose and the lines of code that a page shows, in view and folded.

    Args:
        notebook: The stored notebook.
        split: What ``split_chapter`` makes of it.
    """
    words = in_view = folded = 0
    for cell in notebook["cells"]:
        tags = set(cell["metadata"].get("tags", []))
        source = "".join(cell["source"])
        if HIDDEN in tags:
            continue
        if cell["cell_type"] == "markdown":
            words += len(re.findall(r"\w+", source))
            continue
        visible = split[cell["id"]].visible if cell["id"] in split else source
        seen = 0 if tags & FOLDED else _lines(visible)
        in_view += seen
        folded += _lines(source) - seen
    return Length(words, in_view, folded)


def _lines(code: str) -> int:
    return sum(1 for line in code.splitlines() if line.strip())


def code_cells(notebook: dict) -> list[dict]:
    return [cell for cell in notebook["cells"] if cell["cell_type"] == "code"]


def claim_anchor(cell_id: str, number: int) -> str:
    """Return the id that the claim of this number in this cell has in the page."""
    return f"claim-{cell_id}-{number}"


def stored_claims(notebook: dict) -> list[StoredClaim]:
    """Return the claims in the stored outputs, in the order in which they are read."""
    return [
        StoredClaim(claim_anchor(cell["id"], number), statement)
        for cell in code_cells(notebook)
        for number, statement in enumerate(_printed_claims(cell), start=1)
    ]


def split_chapter(notebook: dict) -> dict[str, SplitCell]:
    """Split the cells that make claims into visible code and checks, see ``checks_in_cells``.

    Cells that no page shows are left out: where the book is published, the first holds commands of
    the shell.

    Raises:
        CheckError: The printed claims of a cell are not those that its code makes.
    """
    return split_cells(
        Cell(cell["id"], "".join(cell["source"]), _printed_claims(cell))
        for cell in code_cells(notebook)
        if HIDDEN not in cell["metadata"].get("tags", [])
    )


def kinds_of_claims(split: Mapping[str, SplitCell]) -> list[str]:
    """Return the kind of each claim of a split chapter, in their order."""
    return [claim.kind for cell in split.values() for claim, _ in cell.claims]


def _printed_claims(cell: dict) -> list[str]:
    printed = [
        "".join(output["text"]) for output in cell["outputs"] if output.get("name") == "stdout"
    ]
    lines = "\n".join(printed).splitlines()
    return [line.removeprefix(TICK) for line in lines if line.startswith(TICK)]


def title_of(notebook: dict) -> str:
    """Return the first heading."""
    for cell in notebook["cells"]:
        for line in "".join(cell["source"]).splitlines():
            if cell["cell_type"] == "markdown" and line.startswith("# "):
                return line.removeprefix("# ").strip()
    raise ValueError("title_of: expected a notebook with a heading of the first level, found none")


def chapters(env) -> dict[str, Summary]:
    """Return the notebooks of the numbered part of the table of contents, by their pages' names.

    The page that is being read is made to depend on the summaries, not on the files.
    """
    return summaries(env, numbered_pages(env.config.external_site_map))


def numbered_pages(site_map) -> list[str]:
    """Return the names of the pages in the numbered part of the table of contents."""
    parts = (part for part in site_map.root.subtrees if part.numbered)
    return [str(name) for part in parts for name in part.items]


def all_notebooks(env) -> dict[str, Summary]:
    """Return the notebooks of the whole table of contents, as ``chapters`` does."""
    return summaries(env, env.config.external_site_map)


def summaries(env, names: Iterable[str]) -> dict[str, Summary]:
    """Return those of these pages that are notebooks, summarized, as ``chapters`` does."""
    by_name = {}
    noted = env.metadata[env.docname].setdefault("summaries", {})
    for name in map(str, names):
        path = _path(env, name)
        if path.is_file():
            modified = path.stat().st_mtime_ns
            by_name[name] = read_summary(path, modified)
            noted[name] = modified, by_name[name].digest
    return by_name


def _path(env, name: str) -> Path:
    return Path(env.srcdir) / f"{name}.ipynb"


def outdated_pages(_app, env, _added, _changed, _removed) -> list[str]:
    """Return the pages that show a summary that has changed since they were read."""
    return [
        page
        for page, data in env.metadata.items()
        if any(_changed_since(_path(env, n), *v) for n, v in data.get("summaries", {}).items())
    ]


def _changed_since(path: Path, modified: int, digest: str) -> bool:
    if not path.is_file():
        return True
    current = path.stat().st_mtime_ns
    return current != modified and read_summary(path, current).digest != digest


def setup(app):
    app.connect("env-get-outdated", outdated_pages)
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}
