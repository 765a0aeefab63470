"""Make the index of the search after an edit the same as that of a full build.

Sphinx stores what it knows before it writes the pages. Only then it collects their index entries,
so that after an edit its search would know only those of the pages that were written again. It
also keeps words that no page has any more. ``finished_pages`` calls these functions.
"""

from collections.abc import Collection
from pathlib import Path

from lean_pages import SEARCH_INDEX
from sphinx.search import js_index


def read(outdir: Path) -> dict:
    """Return the index of the search, which is empty before the first build."""
    path = outdir / SEARCH_INDEX
    return js_index.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}


def complete(outdir: Path, earlier: dict, written: Collection[str]) -> None:
    """Add the earlier entries of pages that were not written again; drop words without a page."""
    index = read(outdir)
    if not earlier or not index:
        return
    for words in ("terms", "titleterms"):
        index[words] = {word: pages for word, pages in index[words].items() if pages != []}
    places = {name: place for place, name in enumerate(index["docnames"]) if name not in written}
    for term, entries in earlier["indexentries"].items():
        names = [earlier["docnames"][place] for place, *_ in entries]
        still_valid = [
            [places[name], *rest]
            for name, (_, *rest) in zip(names, entries, strict=True)
            if name in places
        ]
        if still_valid:
            merged = index["indexentries"].setdefault(term, [])
            merged += [entry for entry in still_valid if entry not in merged]
            merged.sort(key=lambda entry: entry[0])
    (outdir / SEARCH_INDEX).write_text(js_index.dumps(index), encoding="utf-8")
