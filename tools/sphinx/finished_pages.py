"""Finish the pages that a build writes, and decide which ones it has to write.

A written page is made accessible and light, once. Sphinx writes the pages whose source changed;
all pages are written again only if something changed that any of them may show: a title, a
reference target, a number, a script. After a change of an extension all are read again. The one
style sheet is made from the names that all pages use; what earlier builds found out is kept beside
Sphinx's own records.
"""

import hashlib
import json
from collections.abc import Iterable, Iterator
from pathlib import Path

import code_lines
import lean_pages
import search_entries
import style_sheets
from accessible_pages import accessible

RECORD = "finished-pages.json"
TOOLS = Path(__file__).parents[1]


def shown_elsewhere(env) -> Iterator[str]:
    """Yield what a page may show of other pages, of its scripts, and of the extensions."""
    for name in sorted(env.found_docs):
        yield f"{name}: {env.titles[name]} {env.longtitles[name]}"
    for numbers in (env.toc_secnumbers, env.toc_fignumbers, env.toctree_includes):
        yield json.dumps(numbers, sort_keys=True)
    for name, domain in sorted(env.domains.items()):
        yield from (f"{name}: {entry}" for entry in sorted(domain.get_objects(), key=str))
    yield from sorted(map(str, env.domains["math"].data["objects"].items()))
    if "cite" in env.domains:
        for cited in sorted(env.domains["cite"].citations, key=lambda cited: cited.citation_id):
            label = cited.formatted_entry.label
            yield f"{cited.citation_id} {cited.bibliography_key} {label} {cited.entry!r}"
    for label, entry in sorted(getattr(env, "sphinx_exercise_registry", {}).items()):
        yield f"{label}: {entry['docname']} {entry['node'].attributes} {entry['node'][0]}"
    for page in sorted(env.found_docs):
        for other, figure in env.metadata[page].get("pictures shown", ()):
            yield f"{other}: {env.metadata[other].get('pictures', {}).get(figure)}"
    static = (Path(env.srcdir) / folder for folder in env.config.html_static_path)
    loaded = (path for folder in static for path in folder.rglob("*") if path.is_file())
    yield from _digests(path for path in loaded if path.suffix in {".js", ".mjs", ".css"})


def _digests(paths: Iterable[Path]) -> list[str]:
    return [f"{path}: {_digest(path.read_bytes())}" for path in sorted(paths)]


def _digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


class FinishedPages:
    """The pages of one build, with the record of the build before it."""

    def __init__(self) -> None:
        self.written: set[str] = set()
        self.names: set[str] = set()  # the same pages, as Sphinx names them
        self.search_index: dict = {}
        self.record: dict = {}
        self.fingerprint = ""
        self.tools: list[str] = []

    def start(self, app, env, _added, _changed, _removed) -> set[str]:
        """Return all pages, to be read again, if an extension or template has changed."""
        path = Path(app.doctreedir) / RECORD
        self.record = json.loads(path.read_text("utf-8")) if path.is_file() else {}
        path.unlink(missing_ok=True)  # a build that fails leaves no record
        self.search_index = search_entries.read(Path(app.outdir))
        self.tools = _digests([*TOOLS.glob("*.py"), *TOOLS.glob("sphinx/*.*")])
        return set() if self.record.get("tools") == self.tools else set(env.found_docs)

    def choose(self, _app, env) -> list[str]:
        """Return all pages, to be written, if one may show what changed on another, else none."""
        self.fingerprint = _digest("\n".join(shown_elsewhere(env)).encode())
        unchanged = self.record.get("fingerprint") == self.fingerprint
        return [] if unchanged else sorted(env.found_docs)

    def note(self, app, page, _template, _context, _doctree) -> None:
        """Note that a page is being written."""
        self.names.add(page)
        self.written.add(Path(app.builder.get_outfilename(page)).relative_to(app.outdir).as_posix())

    def finish(self, app, exception) -> None:
        """Finish the written pages and the style sheet, and keep the record."""
        if exception or app.builder.name != "html":
            return
        outdir = Path(app.outdir)
        pages = {name: (outdir / name).read_text(encoding="utf-8") for name in self.written}
        if pages:
            search_entries.complete(outdir, self.search_index, self.names)
            for name in sorted(pages):
                text = lean_pages.fewer_scripts(code_lines.with_lines(accessible(pages[name])))
                pages[name] = lean_pages.lighter_pictures(outdir / name, text)
            self._note_parts(outdir, pages)
            version = self._style_sheet(outdir)
            for name, text in pages.items():
                text = lean_pages.with_one_style_sheet(text, version)
                (outdir / name).write_text(text, encoding="utf-8")
            if version != self.record.get("version"):
                self._update_others(outdir, version)
            self.record["version"] = version
            lean_pages.remove_unused(outdir)
        self.record |= {"fingerprint": self.fingerprint, "tools": self.tools}
        path = Path(app.doctreedir) / RECORD
        path.write_text(json.dumps(self.record), encoding="utf-8")

    def _note_parts(self, outdir: Path, pages: dict[str, str]) -> None:
        """Note what each page loads and which classes and ids it has."""
        recorded = self.record.get("pages", {})
        earlier = {name: parts for name, parts in recorded.items() if (outdir / name).is_file()}
        current = {
            name: {
                "sheets": lean_pages.sheets_of(text),
                "scripts": lean_pages.scripts_of(text),
                "names": sorted(lean_pages.names_of(text)),
            }
            for name, text in pages.items()
        }
        self.record["pages"] = dict(sorted((earlier | current).items()))

    def _style_sheet(self, outdir: Path) -> str:
        """Write the style sheet if another is needed; return its version."""
        parts = self.record["pages"].values()
        static = outdir / "_static"
        sheets = dict.fromkeys(name for part in parts for name in part["sheets"])
        loaded = {outdir / name for part in parts for name in part["scripts"]}
        loaded.discard(outdir / lean_pages.SEARCH_INDEX)
        scripts = [path for path in sorted(loaded | set(static.rglob("*.mjs"))) if path.is_file()]
        files = [*(outdir / name for name in sheets), *scripts]
        sources = _digest("".join(_digest(path.read_bytes()) for path in files).encode())
        names = {name for part in parts for name in part["names"]}
        if sources == self.record.get("sources") and (static / lean_pages.STYLE).is_file():
            named = set(self.record["named"])
            used = (names & named) | set(self.record["in scripts"])
            if sorted(used) == self.record["used"]:
                return self.record["version"]

        def moved(path: Path) -> str:
            return path.relative_to(static).as_posix()

        rules = [rule for name in sheets for rule in style_sheets.read(outdir / name, moved)]
        named = style_sheets.names(rules)
        in_scripts = named & set().union(
            *(lean_pages.words_of(path.read_text(encoding="utf-8")) for path in scripts)
        )
        used = (names & named) | in_scripts
        content = lean_pages.write_style_sheet(rules, used, static)
        self.record |= {
            "sources": sources,
            "named": sorted(named),
            "in scripts": sorted(in_scripts),
            "used": sorted(used),
        }
        return _digest(content)[:8]

    def _update_others(self, outdir: Path, version: str) -> None:
        """Let the pages that this build has not written load the new style sheet."""
        for name in set(self.record["pages"]) - self.written:
            path = outdir / name
            text = lean_pages.with_version(path.read_text(encoding="utf-8"), version)
            path.write_text(text, encoding="utf-8")


def setup(app):
    pages = FinishedPages()
    app.connect("env-get-outdated", pages.start)
    # Last: sections and figures get their numbers on this event too.
    app.connect("env-get-updated", pages.choose, priority=900)
    app.connect("html-page-context", pages.note)
    # Late: the theme writes its colours of code when the build is finished.
    app.connect("build-finished", pages.finish, priority=900)
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": False}
