"""The reference of the package, made from its docstrings.

``.. api-reference:: seqbook.layers`` gives a section for each module of the package: its
docstring, and an entry for each name in its ``__all__`` with signature, docstring and source code.
The source is on the page itself, so that it needs no address. On all pages, code such as
``seqbook.layers.lstm.LSTM`` is linked to its entry, and so are ``src/seqbook/layers/lstm.py`` and
the names after it; on the pages of the reference ``LSTM`` is too.
"""

import ast
import dataclasses
import importlib
import inspect
import pkgutil
import textwrap
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import TypeVar

from addresses import ROOT, addresses
from docutils import nodes
from sphinx import addnodes
from sphinx.transforms.post_transforms import SphinxPostTransform
from sphinx.util.docutils import SphinxDirective
from sphinx.util.nodes import make_refnode

FOLDER = "api/"
FOLD = '<details class="source"><summary>Source code</summary>'
PACKAGES = ("seqbook", "stepgrader")


def public_modules(name: str) -> Iterator[ModuleType]:
    """Yield a package or module and the modules in it that say what is public."""
    module = importlib.import_module(name)
    if getattr(module, "__all__", ()):
        yield module
    for module_name in sorted(
        info.name for info in pkgutil.iter_modules(getattr(module, "__path__", ()))
    ):
        if not module_name.startswith("_"):
            yield from public_modules(f"{name}.{module_name}")


def public_objects(module: ModuleType) -> Iterator[tuple[str, object]]:
    """Yield the public objects of a module; what it passes on has its entry where it is defined."""
    for name in module.__all__:
        value = getattr(module, name)
        if inspect.ismodule(value) or (is_constant(value) and hasattr(module, "__path__")):
            continue  # a package passes on the constants of its modules
        home = getattr(value, "__module__", module.__name__)
        own = home == module.__name__ or not home.startswith(PACKAGES)
        if own or home.rpartition(".")[2].startswith("_"):
            yield name, value


def is_constant(value: object) -> bool:
    """Whether an object is neither a class nor a function."""
    return directive(value) == "autodata"


def directive(value: object) -> str:
    """Return the directive of autodoc that documents an object."""
    if inspect.isclass(value):
        return "autoexception" if issubclass(value, BaseException) else "autoclass"
    return "autofunction" if inspect.isroutine(value) else "autodata"


def without_docstrings(source: str) -> str:
    """Return the source of a function or class without the docstrings in it."""
    source = textwrap.dedent(source)
    lines: list[str | None] = list(source.splitlines())
    for node in ast.walk(ast.parse(source)):
        if not isinstance(node, (ast.FunctionDef, ast.ClassDef)) or len(node.body) < 2:
            continue
        if ast.get_docstring(node) is not None:
            first = node.body[0]
            end = first.end_lineno or first.lineno
            if not (lines[end] or "").strip():  # the blank line that separates it
                end += 1
            lines[first.lineno - 1 : end] = [None] * (end - first.lineno + 1)
    return "\n".join(line for line in lines if line is not None)


class ApiReference(SphinxDirective):
    """The sections of a package's modules."""

    required_arguments = 1

    def run(self):
        sections = []
        for module in public_modules(self.arguments[0]):
            self.env.note_dependency(inspect.getsourcefile(module))
            sections += self.parse_text_to_nodes(self._text(module), allow_section_headings=True)
        for section in sections:
            for entry in section.findall(addnodes.desc):
                self._add_source(entry)
        return sections

    def _text(self, module: ModuleType) -> str:
        name = module.__name__
        relative = name.removeprefix(f"{self.arguments[0]}.")
        title = f"``{relative if relative != name else name.rpartition('.')[2]}``"
        members = dict(public_objects(module))
        contents = " · ".join(f":py:obj:`~{name}.{member}`" for member in members)
        lines = [title, "-" * len(title), "", f".. automodule:: {name}", "", contents, ""]
        for member, value in members.items():
            kind = directive(value)
            options = {"autoclass": "   :members:", "autodata": "   :no-value:"}
            if isinstance(value, (int, float, tuple)):
                options["autodata"] = ""  # short enough to be shown
            lines += [f".. {kind}:: {name}.{member}", options.get(kind, ""), ""]
        return "\n".join(lines)

    def _add_source(self, entry: addnodes.desc) -> None:
        signature, content = entry.children[0], entry.children[-1]
        if "." in signature.get("fullname", ".") or entry["objtype"] not in ("class", "function"):
            return
        value = getattr(importlib.import_module(signature["module"]), signature["fullname"])
        lines, number = inspect.getsourcelines(inspect.unwrap(value))
        path = Path(inspect.getfile(inspect.unwrap(value)))
        location = f"{path.relative_to(ROOT).as_posix()}, line {number}"
        source = without_docstrings("".join(lines))
        content += nodes.raw(
            "", '<details class="source"><summary>Source code</summary>', format="html"
        )
        place = nodes.paragraph("", location)
        if repository := addresses().repository:
            target = f"{repository}/blob/{addresses().branch}/{path.relative_to(ROOT)}#L{number}"
            place = nodes.paragraph("", "", nodes.reference("", location, refuri=target))
        content += [place, nodes.literal_block(source, source, language="python")]
        content += nodes.raw("", "</details>", format="html")


class LinkedCode(SphinxPostTransform):
    """Link code that names an object of the reference to its entry."""

    default_priority = 5  # before Sphinx resolves the references that were written as such

    def run(self, **_):
        docname = self.env.docname
        objects = self.env.domains["py"].objects
        sources = {}  # paragraph to the module that its last path names
        for literal in list(self.document.findall(nodes.literal)):
            parent = literal.parent
            if isinstance(parent, (nodes.reference, addnodes.pending_xref, nodes.title)):
                continue
            text = literal.astext().removesuffix("()")
            if text.startswith("src/") and text.endswith(".py"):
                name = sources[parent] = text[len("src/") : -len(".py")].replace("/", ".")
            elif parent in sources and text.isidentifier():
                name = f"{sources[parent]}.{text}"
            else:
                name = self._full_name(text, literal, objects)
            if name is None or name not in objects:
                continue
            entry = objects[name]
            if entry.docname == docname and self._entry_of(literal) == name:
                continue
            link = make_refnode(
                self.app.builder, docname, entry.docname, entry.node_id, literal.deepcopy(), name
            )
            parent.replace(literal, link)

    def _full_name(self, text: str, literal: nodes.literal, objects) -> str | None:
        if text.startswith(tuple(f"{package}." for package in PACKAGES)):
            return text
        words = text.split(".")
        if not self.env.docname.startswith(FOLDER) or not all(map(str.isidentifier, words)):
            return None
        module = self._entry_of(literal).rpartition(".")[0]
        own = f"{module}.{text}"
        if own in objects:
            return own
        named = [name for name in objects if name.endswith(f".{text}")]
        telling = text[:1].isupper() or len(words) > 1
        return named[0] if len(named) == 1 and telling else None

    def _entry_of(self, node: nodes.Node) -> str:
        """Return the full name of the object, or the module and a dot, that a node is part of."""
        name = ""
        while node is not None:
            if isinstance(node, addnodes.desc):
                signature = node.children[0]
                name = f"{signature.get('module')}.{signature.get('fullname')}"
            elif isinstance(node, nodes.section) and not name:
                modules = (i for i in node["ids"] if i.startswith("module-"))
                name = next((f"{i.removeprefix('module-')}." for i in modules), "")
            node = node.parent
        return name


def plain_ids_first(_app, doctree):
    """Let a section be found by its id without dots: Sphinx's search reads dots as CSS classes."""
    for section in doctree.findall(nodes.section):
        section["ids"].sort(key=lambda id_: "." in id_)


def skip_fields(_app, _kind, _name, value, skip, _options):
    """Leave out the fields of named tuples: their class describes them."""
    return True if type(value).__name__ == "_tuplegetter" else skip


def default_values(_app, kind, _name, value, _options, signature, returns):
    """Show the default factories of a data class as calls.

    Sphinx can't read ``<factory>``, which ``inspect`` writes, and would show the types unparsed.
    NumPy's truth value is named in full: in short it reads as Python's.
    """
    if signature is None:
        return None
    if kind == "class" and dataclasses.is_dataclass(value):
        for field in dataclasses.fields(value):
            if field.default_factory is not dataclasses.MISSING:
                call = f"{field.default_factory.__name__}()"
                signature = signature.replace("<factory>", call, 1)
    return signature.replace("~numpy.bool", "numpy.bool"), returns


def plain_text(_app, _env, node, text):
    """Leave type variables and types of other packages as text, and report what else is unknown."""
    if node.get("refdomain") != "py":
        return None
    module, _, name = node["reftarget"].rpartition(".")
    if not module.startswith(PACKAGES):
        return text
    try:  # a build after an edit has imported only the modules of pages that it read
        defined_in = importlib.import_module(module)
    except ImportError:
        return None
    return text if isinstance(getattr(defined_in, name, None), TypeVar) else None


def own_docstring(_app, kind, _name, value, _options, lines):
    """Clear what a constant without a docstring of its own has instead: that of its type."""
    if kind == "data" and lines[:1] == (inspect.getdoc(type(value)) or "").splitlines()[:1]:
        lines.clear()


def setup(app):
    app.setup_extension("sphinx.ext.autodoc")
    app.setup_extension("sphinx.ext.napoleon")
    app.add_directive("api-reference", ApiReference)
    app.add_post_transform(LinkedCode)
    app.connect("autodoc-skip-member", skip_fields)
    app.connect("doctree-read", plain_ids_first, priority=100)  # before the tables of contents
    app.connect("autodoc-process-docstring", own_docstring)
    app.connect("autodoc-process-signature", default_values)
    app.connect("missing-reference", plain_text)
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}
