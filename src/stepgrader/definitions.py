"""Decide which code of a notebook belongs to an answer, in a check and in grading alike.

Nothing is run here. The answer to a step is the cell that defines its name. Of the other cells it
takes along what it refers to, directly or through what is taken along: imports, functions, classes
and simple constants. All other code stands in the notebook for the student alone.
"""

from __future__ import annotations

import ast
import builtins
import dis
import re
import sys
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from types import CodeType
from typing import Any

from stepgrader.differences import listed
from stepgrader.worker.cells import new_namespace

__all__ = ["Definitions", "Selection", "complaints", "names_of", "plain_python"]

MAX_MAGICS = 100  # lines of a cell
MAX_READ = 2_000_000  # characters, of a cell that is read again after each of them
TIMING_MAGICS = ("time", "timeit", "capture", "prun", "memit", "mprun")  # they run their cell
MAGIC_LINE = re.compile(r"\s*(?:[\w.,\s]+=\s*)?[%!]|\s*\?|.*\?\s*$")
LEFT_MARGIN = r"^(?:async def|def|class) {}\b|^{}\s*="
GIVEN = frozenset(dir(builtins)) | frozenset(new_namespace())
# What a cell has to be installed for is known of these alone; and of what the setup cell imports.
INSTALLED = (*sys.stdlib_module_names, "torch", "numpy", "matplotlib")
# Functions that a constant may call: quick, without files, and the same in every run.
PURE_CALLS = frozenset(
    [
        *("abs", "all", "any", "arange", "array", "bool", "complex", "device", "dict"),
        *("exp", "eye", "finfo", "float", "frozenset", "full", "iinfo", "int", "len"),
        *("linspace", "list", "log", "max", "min", "namedtuple", "ones", "partial", "pow", "range"),
        *("round", "script", "set", "slice", "sorted", "sqrt", "str", "sum", "tensor"),
        *("tuple", "zeros", "zip"),
    ]
)
Imports = (ast.Import, ast.ImportFrom)
Functions = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)
Assignments = (ast.Assign, ast.AnnAssign)


@dataclass(frozen=True)
class Selection:
    r"""The code that belongs to the answer to one step.

    Args:
        number: Number of the answer's cell.
        source: The code of that cell; lines are numbered as in the notebook.
        lines: On which lines of it those statements begin that the answer refers to.
        helpers: The code that is taken along from other cells.
        foreign: Names that it refers to and that only code which does not count would define.
        modules: Modules that it imports and that may not be installed where it is graded.
        steps: Earlier steps that it refers to.
        others: Whether further cells define the step's name.

    Example:
        >>> cells = [("", "import math"), ("", "def area(r):\n    return math.pi * r**2")]
        >>> Definitions(cells, ["area"], setup="").select("area").helpers
        'import math'
    """

    number: int
    source: str
    lines: frozenset[int] = frozenset()
    helpers: str = ""
    foreign: tuple[str, ...] = ()
    modules: tuple[str, ...] = ()
    steps: tuple[str, ...] = ()
    others: bool = False


@dataclass(frozen=True)
class _Statement:
    node: ast.stmt
    binds: frozenset[str]
    uses: frozenset[str]
    changes: frozenset[str]  # names of which it sets an attribute, an item, or calls a method
    movable: bool  # whether it may be taken along to an answer in another cell
    checks: str | None = None

    @property
    def is_import(self) -> bool:
        return isinstance(self.node, Imports)

    @property
    def is_star(self) -> bool:
        return isinstance(self.node, ast.ImportFrom) and self.node.names[0].name == "*"

    @property
    def is_unwritten(self) -> bool:
        return any(
            isinstance(node, ast.Raise)
            and isinstance(node.exc, ast.Name)
            and node.exc.id == "NotImplementedError"
            for node in ast.walk(self.node)
        )

    def defines(self, name: str) -> bool:
        value = self.node.value if isinstance(self.node, Assignments) else None
        return name in self.binds and not self.is_import and not isinstance(value, ast.Constant)


@dataclass(frozen=True)
class _Cell:
    id: str
    source: str
    statements: tuple[_Statement, ...] | None  # None if it can't be parsed

    def defines(self, name: str) -> bool:
        if self.statements is None:
            pattern = LEFT_MARGIN.format(re.escape(name), re.escape(name))
            return bool(re.search(pattern, self.source, re.MULTILINE))
        return any(statement.defines(name) for statement in self.statements)

    def is_unwritten(self, name: str) -> bool:
        definitions = [one for one in self.statements or () if one.defines(name)]
        return bool(definitions) and definitions[-1].is_unwritten

    def checks(self, name: str) -> bool:
        return any(statement.checks == name for statement in self.statements or ())


class Definitions:
    r"""The code cells of a notebook.

    Args:
        cells: Id and source of each code cell, in the order of the notebook, or in the order in
            which a kernel has run them.
        names: Names of the steps, in their order.
        setup: The setup cell of the exercise, which runs before every answer.
        executed: Whether a kernel has run the cells in this order. Then the last definition counts;
            else the last one before the step's check, and a written one before an unwritten one.

    Example:
        >>> cells = [
        ...     ("one-answer", "def one():\n    raise NotImplementedError"),
        ...     ("", "def one():\n    return 1"),
        ...     ("one-check", "check(one)"),
        ... ]
        >>> Definitions(cells, ["one"], setup="").select("one").number
        1
    """

    def __init__(
        self,
        cells: Sequence[tuple[str, str]],
        names: Sequence[str],
        *,
        setup: str,
        executed: bool = False,
    ):
        self._cells = [_Cell(cell_id, *_parse(source)) for cell_id, source in cells]
        self._names = names
        self._executed = executed
        setup_statements = _parse(setup)[1] or ()
        self._setup = frozenset(name for one in setup_statements for name in one.binds)
        setup_code = {ast.dump(one.node) for one in setup_statements}
        kinds = {type(one.node) for one in setup_statements}  # of others there is none to compare
        self._in_setup = {
            (cell_number, number)
            for cell_number, cell in enumerate(self._cells)
            for number, statement in enumerate(cell.statements or ())
            if type(statement.node) in kinds and ast.dump(statement.node) in setup_code
        }
        self._installed = {*INSTALLED, *(m for one in setup_statements for m in _modules(one))}

    def select(self, name: str, own_id: str = "") -> Selection | None:
        """Return the code that belongs to the answer to a step.

        Args:
            name: The step's function or class.
            own_id: Id of the cell that is meant for the answer. It is the answer if no cell
                defines the name.

        Returns:
            The code; None if there is none.
        """
        check = self._check(name)
        defining = [n for n, cell in enumerate(self._cells) if cell.defines(name)]
        before = [n for n in defining if n <= check]
        written = [n for n in defining if not self._cells[n].is_unwritten(name)]
        written_before = [n for n in written if n <= check]
        own = [n for n, cell in enumerate(self._cells) if own_id and cell.id == own_id]
        preferred = [defining] if self._executed else [written_before, written, before, defining]
        number = next((found[-1] for found in (*preferred, own) if found), None)
        if number is None:
            return None
        return self._gather(name, number, others=len(defining) > 1)

    def written(self, name: str) -> bool:
        """Return whether a cell defines a step by more than an error that it isn't written."""
        return any(cell.defines(name) and not cell.is_unwritten(name) for cell in self._cells)

    def _check(self, name: str) -> int:
        """Return the number of the last cell that checks a step."""
        last = len(self._cells) - 1
        if self._executed:
            return last
        return next((n for n in range(last, -1, -1) if self._cells[n].checks(name)), last)

    def _gather(self, name: str, number: int, *, others: bool) -> Selection:
        cell = self._cells[number]
        earlier = self._names[: self._names.index(name)]
        check = self._check(name)
        own: set[int] = set()  # numbers of statements in the answer's cell
        helpers: set[tuple[int, int]] = set()  # cells and statements
        foreign: list[str] = []
        used: list[str] = []
        wanted, seen = [name], {name}
        while wanted:
            current = wanted.pop()
            taken = list(self._in_own_cell(cell, current))
            if taken:
                own.update(taken)
                statements = [(cell.statements or ())[n] for n in taken]
            elif current in earlier:
                used.append(current)
                if (place := self._redefinition(current, number, check)) is None:
                    continue
                helpers.add(place)
                statements = [self._statement(place)]
            elif places := self._elsewhere(current, number, check):
                helpers.update(places)
                statements = [self._statement(place) for place in places]
            else:
                if current not in GIVEN | self._setup and self._is_bound(current, number):
                    foreign.append(current)
                continue
            for statement in statements:
                new = statement.uses - seen
                seen |= new
                wanted += sorted(new)
        taken_statements = [self._statement(place) for place in sorted(helpers)]
        own_statements = [(cell.statements or ())[n] for n in sorted(own)]
        modules = {m for one in (*taken_statements, *own_statements) for m in _modules(one)}
        return Selection(
            number,
            cell.source,
            lines=frozenset(statement.node.lineno for statement in own_statements),
            helpers="\n".join(ast.unparse(statement.node) for statement in taken_statements),
            foreign=tuple(sorted(foreign)),
            modules=tuple(sorted(modules - self._installed)),
            steps=tuple(used),
            others=others,
        )

    def _redefinition(self, name: str, own: int, check: int) -> tuple[int, int] | None:
        """Return where an earlier step is defined again between its own check and another."""
        if self._executed:
            return None  # the step's selection has it
        places = [
            (cell_number, number)
            for cell_number in range(self._check(name) + 1, check + 1)
            for number, statement in enumerate(self._cells[cell_number].statements or ())
            if cell_number != own and statement.defines(name) and statement.movable
        ]
        return places[-1] if places else None

    def _statement(self, place: tuple[int, int]) -> _Statement:
        return (self._cells[place[0]].statements or ())[place[1]]

    def _in_own_cell(self, cell: _Cell, name: str) -> Iterator[int]:
        """Yield the numbers of the statements that bind or change a name in the answer's cell."""
        statements = cell.statements or ()
        if not any(name in statement.binds for statement in statements):
            return
        imported = all(one.is_import for one in statements if name in one.binds)
        for number, statement in enumerate(statements):
            if name in statement.binds or (name in statement.changes and not imported):
                yield number

    def _elsewhere(self, name: str, own: int, check: int) -> list[tuple[int, int]]:
        """Return the places in other cells of what an answer takes along to have a name.

        A name that code which can't be taken along binds or changes has none.
        """
        bound: list[tuple[int, int]] = []
        star: list[tuple[int, int]] = []
        for cell_number, cell in enumerate(self._cells):
            for number, statement in enumerate(cell.statements or ()):
                place = cell_number, number
                if cell_number == own or place in self._in_setup:
                    continue
                if statement.is_star:
                    star.append(place)
                no_module = not all(self._statement(one).is_import for one in bound)
                if name in statement.binds or (name in statement.changes and no_module):
                    bound.append(place)
        if not bound:
            return star if name not in self._setup else []
        imports = [place for place in bound if self._statement(place).is_import]
        if imports == bound:
            return imports
        before = [place for place in bound if place[0] <= check] or bound
        last = before[-1]
        return [last] if self._statement(last).movable else []

    def _is_bound(self, name: str, own: int) -> bool:
        return any(
            name in statement.binds
            for number, cell in enumerate(self._cells)
            if number != own
            for statement in cell.statements or ()
        )


def complaints(selection: Selection) -> list[str]:
    r"""Return messages about names that an answer lacks when it is graded.

    Example:
        >>> cells = [("", "w = train()"), ("", "def one(x):\n    return w * x")]
        >>> complaints(Definitions(cells, ["one"], setup="").select("one"))
        ['w comes from a cell that is not graded; write it into the cell of the answer']
    """
    problems = []
    if names := selection.foreign:
        verb, pronoun = ("comes", "it") if len(names) == 1 else ("come", "them")
        problems.append(
            f"{listed(names)} {verb} from a cell that is not graded; write {pronoun} into the "
            "cell of the answer"
        )
    if selection.modules:
        problems.append(f"{listed(selection.modules)} may not be installed where it is graded")
    return problems


def plain_python(source: str) -> str:
    r"""Return a cell without what only IPython understands. Lines keep their numbers.

    A magic, a shell command or a question is replaced by ``pass``. Of a cell magic that times or
    captures its cell, the cell stays; of any other, such as ``%%bash``, nothing does. Valid Python
    is returned as it is, and so is code that has other errors.

    (IPython's own transformer moves lines, and takes time that grows with the square of the
    number of magics, in a cell that nobody has to trust.)

    Example:
        >>> print(plain_python("%time one()\ndef one():\n    return '''\n%d''' % 1"))
        pass
        def one():
            return '''
        %d''' % 1
        >>> plain_python("%%bash\nls"), plain_python("%%time\none()")
        ('', '\none()')
    """
    lines = re.split(r"\r\n|\r|\n", source)
    for number, line in enumerate(lines):
        if line.strip() and not line.lstrip().startswith("%%"):
            break
        if line.strip():
            name = re.match(r"\s*%%(\w*)", line)
            if name is None or name[1] not in TIMING_MAGICS:
                return ""
        lines[number] = ""
    for _ in range(min(MAX_MAGICS, MAX_READ // (len(source) + 1))):
        problem = _syntax_error("\n".join(lines))
        if problem is None:
            return "\n".join(lines) if lines != re.split(r"\r\n|\r|\n", source) else source
        if not 0 < problem <= len(lines) or not MAGIC_LINE.match(lines[problem - 1]):
            return source
        line = lines[problem - 1]
        lines[problem - 1] = line[: len(line) - len(line.lstrip())] + "pass"
        while line.endswith("\\") and problem < len(lines):  # the command goes on
            line, lines[problem] = lines[problem], ""
            problem += 1
    return source


def _syntax_error(source: str) -> int | None:
    """Return the line of the first error of syntax; 0 if the code can't be read at all."""
    try:
        _ast(source)
    except SyntaxError as error:
        return error.lineno or 0
    except (ValueError, RecursionError, MemoryError):
        return 0
    return None


def _ast(source: str) -> list[ast.stmt]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of doubtful escapes, which are the student's
        return ast.parse(source).body


def _code(node: ast.stmt, flags: int = 0) -> CodeType:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        module = ast.Module([node], [])
        code: CodeType = compile(module, "<cell>", "exec", flags=flags, dont_inherit=True)
        return code


def _parse(source: str) -> tuple[str, tuple[_Statement, ...] | None]:
    """Return a cell as plain Python, without statements that await, and its statements."""
    source = plain_python(source)
    try:
        nodes = _ast(source)
        codes = [_plain_code(node) for node in nodes]
        if None in codes:
            lines = source.splitlines()
            for node in (node for node, code in zip(nodes, codes, strict=True) if code is None):
                count = (node.end_lineno or node.lineno) - node.lineno + 1
                lines[node.lineno - 1 : node.lineno - 1 + count] = ["pass", *[""] * (count - 1)]
            source = "\n".join(lines)
            nodes = _ast(source)
            codes = [_code(node) for node in nodes]
        pairs = zip(nodes, codes, strict=True)
        return source, tuple(_statement(node, code) for node, code in pairs if code is not None)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return source, None


def _plain_code(node: ast.stmt) -> CodeType | None:
    """Return the code of a statement; None if it awaits at the left margin, as IPython allows."""
    try:
        return _code(node)
    except SyntaxError:
        _code(node, ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
        return None


def _statement(node: ast.stmt, code: CodeType) -> _Statement:
    binds, uses = names_of(code)
    return _Statement(
        node, frozenset(binds), frozenset(uses), _changes(node), _is_movable(node), _checks(node)
    )


def names_of(code: CodeType) -> tuple[set[str], set[str]]:
    """Return the names that code binds, and those of the module that it uses.

    Example:
        >>> names_of(compile("def half(x): return x / two", "<cell>", "exec"))
        ({'half'}, {'two'})
    """
    stored: set[str] = set()
    uses: set[str] = set()
    for instruction in dis.get_instructions(code):
        if instruction.opname == "STORE_NAME":
            stored.add(instruction.argval)
        elif instruction.opname in ("LOAD_NAME", "LOAD_GLOBAL", "LOAD_FROM_DICT_OR_GLOBALS"):
            uses.add(instruction.argval)
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            inner_stored, inner_uses = names_of(constant)
            # What is stored by name is an attribute of a class.
            uses |= inner_uses - inner_stored
    return stored, uses


def _changes(node: ast.stmt) -> frozenset[str]:
    targets: list[ast.AST] = []
    for part in ast.walk(node):
        if isinstance(part, (ast.Attribute, ast.Subscript)) and isinstance(part.ctx, ast.Store):
            targets.append(part)
        elif isinstance(part, ast.Expr) and isinstance(part.value, ast.Call):
            targets.append(part.value.func)
    if isinstance(node, (*Functions, *Imports)):
        return frozenset()
    roots = (_root(target) for target in targets if not isinstance(target, ast.Name))
    return frozenset(root for root in roots if root)


def _root(node: ast.AST) -> str | None:
    while isinstance(node, (ast.Attribute, ast.Subscript)):
        node = node.value
    return node.id if isinstance(node, ast.Name) else None


def _is_movable(node: ast.stmt) -> bool:
    match node:
        case ast.Import() | ast.ImportFrom() | ast.Pass():
            return True
        case ast.FunctionDef() | ast.AsyncFunctionDef() | ast.ClassDef():
            return True
        case ast.Assign(targets=targets, value=value):
            return all(_is_plain_target(target) for target in targets) and _is_constant(value)
        case ast.AnnAssign(target=target, value=ast.expr() as value):
            return _is_plain_target(target) and _is_constant(value)
        case ast.If(body=body, orelse=orelse) | ast.Try(body=body, orelse=orelse, finalbody=[]):
            handlers = node.handlers if isinstance(node, ast.Try) else []
            inner = [*body, *orelse, *(part for handler in handlers for part in handler.body)]
            return all(_is_movable(part) for part in inner)
    return False


def _is_plain_target(target: ast.expr) -> bool:
    if isinstance(target, (ast.Tuple, ast.List)):
        return all(_is_plain_target(one) for one in target.elts)
    return isinstance(target, ast.Name)


def _is_constant(value: ast.expr) -> bool:
    if isinstance(value, ast.Lambda):
        return True
    if isinstance(value, (ast.Await, ast.Yield, ast.YieldFrom, ast.NamedExpr)):
        return False
    if isinstance(value, ast.Call):
        function = value.func
        called = getattr(function, "attr", None) or getattr(function, "id", None)
        if called not in PURE_CALLS and _root(function) != "math":
            return False
    children: list[Any] = list(ast.iter_child_nodes(value))
    return all(_is_constant(child) for child in children if isinstance(child, ast.expr)) and all(
        _is_constant(keyword.value) for keyword in children if isinstance(keyword, ast.keyword)
    )


def _checks(node: ast.stmt) -> str | None:
    """Return the name of the step that a statement checks."""
    match node:
        case ast.Expr(ast.Call(func=ast.Name("check"), args=[ast.Name(name)])):
            return name
    return None


def _modules(statement: _Statement) -> Iterator[str]:
    """Yield the names of the modules that a statement imports, without submodules."""
    if isinstance(statement.node, ast.Try):  # it provides for a module that is missing
        return
    for node in ast.walk(statement.node):
        if isinstance(node, ast.Import):
            yield from (alias.name.partition(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield node.module.partition(".")[0]
