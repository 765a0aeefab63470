"""Decide which code of a notebook belongs to an answer, in a check and in grading alike.

Nothing is run here. The answer to a step is the cell that defines its name. Of the other cells it
takes along what it refers to, directly or through what is taken along: imports, modules that a cell
writes, functions, classes with the methods that are assigned to them, and assignments of values
without side effects. All other code stands in the notebook for the student alone.
"""

from __future__ import annotations

import ast
import builtins
import dis
import re
import sys
import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from types import CodeType

from stepgrader.differences import listed
from stepgrader.worker.cells import new_namespace

__all__ = ["Definitions", "Selection", "complaints", "names_of", "plain_python", "remarks"]

MAX_MAGICS = 100  # lines of a cell
MAX_READ = 2_000_000  # characters, of a cell that is read again after each of them
TIMING_MAGICS = ("time", "timeit", "capture", "prun", "memit", "mprun")  # they run their cell
MAGIC_LINE = re.compile(r"\s*(?:[\w.,\s]+=\s*)?[%!]|\s*\?|.*\?\s*$")
LEFT_MARGIN = r"^(?:async def|def|class) {}\b|^{}\s*="
GIVEN = frozenset(dir(builtins)) | frozenset(new_namespace())
# What a cell has to be installed for is known of these alone; and of what the setup cell imports.
INSTALLED = (*sys.stdlib_module_names, "torch", "numpy", "matplotlib")
# Functions that a value may call: quick, without files, and the same in every run.
PURE_CALLS = frozenset(
    [
        *("abs", "all", "any", "arange", "array", "bool", "bytes", "chr", "complex", "Counter"),
        *("defaultdict", "deque", "device", "dict", "divmod", "enumerate", "exp", "eye", "filter"),
        *("finfo", "float", "frozenset", "full", "hasattr", "iinfo", "int", "isinstance", "len"),
        *("linspace", "list", "log", "map", "max", "min", "namedtuple", "ones", "ord", "partial"),
        *("Path", "pow", "range", "repr", "reversed", "round", "script", "set", "slice", "sorted"),
        *("sqrt", "str", "sum", "tensor", "tuple", "type", "zeros", "zip"),
    ]
)
# Methods that leave alone the object that a variable holds.
PURE_METHODS = frozenset(
    [
        *("astype", "clone", "copy", "count", "cpu", "cumsum", "decode", "detach", "difference"),
        *("double", "encode", "endswith", "expand", "find", "flatten", "flip", "float", "format"),
        *("get", "half", "index", "intersection", "item", "items", "join", "keys", "long", "lower"),
        *("lstrip", "mean", "numpy", "permute", "prod", "repeat", "replace", "reshape", "rstrip"),
        *("softmax", "split", "splitlines", "squeeze", "startswith", "std", "strip", "title"),
        *("to", "tolist", "transpose", "tril", "triu", "union", "unsqueeze", "upper", "values"),
        *("var", "view"),
    ]
)
PURE_MODULES = frozenset(
    [
        *("cmath", "collections", "copy", "dataclasses", "decimal", "enum", "fractions"),
        *("functools", "itertools", "math", "numbers", "numpy", "operator", "re", "statistics"),
        *("string", "textwrap", "torch", "types", "typing", "unicodedata"),
    ]
)
# What in them draws random numbers, as layers do for their weights, changes a setting, or reads or
# writes files.
IMPURE = re.compile(
    r"(?:set_|seed|manual_seed|save|load|read|write|open|rand|from_?file|genfromtxt|to_?file|memmap).*|"
    r"seterr|normal|multinomial|bernoulli|poisson|empty.*|dropout.*|compile|hub|backward|"
    r"Linear|Bilinear|Lazy.*|Conv.*|Embedding.*|RNN.*|LSTM.*|GRU.*|MultiheadAttention|Transformer.*"
)
RANDOM_IN_PLACE = re.compile(r"(?:normal|uniform|random|bernoulli|exponential|geometric|cauchy)_")
# Functions that change how the rest of a program computes; see worker.process_state.
SETTERS = frozenset(
    [
        *("set_anomaly_enabled", "set_default_device", "set_default_dtype", "set_detect_anomaly"),
        *("set_default_tensor_type", "set_float32_matmul_precision", "set_grad_enabled"),
        *("seterr", "use_deterministic_algorithms"),
    ]
)
WRITES_FILE = re.compile(
    r"\s*%%(?:writefile|file)[ \t]+(?P<more>-a[ \t]+)?[\"']?(?P<name>\w+)\.py\b"
)
# Libraries whose functions are reset before an answer is called; see worker.process_state.
RESET = frozenset(["cmath", "math", "numpy", "random", "torch"])
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
        files: Modules that cells write and that it imports: their names and sources.
        again: Earlier steps of which it calls a version that is defined after their check.
        changed: Names of the answer's cell that other cells change in a way that does not count.
        altered: Settings and functions of libraries that its cell changes for all other code.

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
    files: tuple[tuple[str, str], ...] = ()
    again: tuple[str, ...] = ()
    changed: tuple[str, ...] = ()
    altered: tuple[str, ...] = ()


@dataclass(frozen=True)
class _Statement:
    node: ast.stmt
    binds: frozenset[str]
    uses: frozenset[str]
    changes: frozenset[str]  # names of which it sets an attribute, an item, or calls a method
    stores: frozenset[str]  # those of which it sets an attribute or an item
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
        self._files = _written_modules([source for _, source in cells])
        self._names = names
        self._executed = executed
        setup_statements = _parse(setup)[1] or ()
        self._setup = frozenset(name for one in setup_statements for name in one.binds)
        self._imported = dict(
            pair
            for one in (*setup_statements, *(o for c in self._cells for o in c.statements or ()))
            for pair in _imported(one)
        )
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
        again: list[str] = []
        completing: set[tuple[int, int]] = set()  # statements that run below the answer's
        changed: list[str] = []
        wanted, seen = [name], {name}
        while wanted:
            current = wanted.pop()
            taken = list(self._in_own_cell(cell, current))
            if taken:
                own.update(taken)
                statements = [(cell.statements or ())[n] for n in taken]
                if not all(statement.is_import for statement in statements):
                    below = self._below(current, number, check)
                    movable = [p for p in below if self._completes(self._statement(p), current)]
                    completing.update(movable)
                    statements += [self._statement(place) for place in movable]
                    changed += [current] if len(movable) < len(below) else []
            elif current in earlier:
                used.append(current)
                if (place := self._redefinition(current, number, check)) is None:
                    continue
                again.append(current)
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
        below_statements = [self._statement(place) for place in sorted(completing)]
        modules = {
            module
            for one in (*taken_statements, *own_statements, *below_statements)
            for module in _modules(one)
        }
        files = self._needed_files(modules)
        modules |= {m for _, text in files for one in _parse(text)[1] or () for m in _modules(one)}
        source = "\n\n".join(
            [cell.source.rstrip(), *(ast.unparse(one.node) for one in below_statements)]
        )
        lines = {statement.node.lineno for statement in own_statements}
        if below_statements:
            first = len(cell.source.rstrip().splitlines())
            lines |= {n.lineno for n in _ast(source) if n.lineno > first}
        return Selection(
            number,
            source if below_statements else cell.source,
            lines=frozenset(lines),
            helpers="\n".join(ast.unparse(statement.node) for statement in taken_statements),
            foreign=tuple(sorted(foreign)),
            modules=tuple(sorted(modules - self._installed - {name for name, _ in files})),
            steps=tuple(used),
            others=others,
            files=tuple(files),
            again=tuple(sorted(again)),
            changed=tuple(sorted(changed)),
            altered=self._altered([*(cell.statements or ()), *taken_statements]),
        )

    def _needed_files(self, modules: set[str]) -> list[tuple[str, str]]:
        """Return name and source of the modules that cells write, if they are imported."""
        needed, pending = set[str](), [name for name in modules if name in self._files]
        while pending:
            name = pending.pop()
            needed.add(name)
            imported = {m for one in _parse(self._files[name])[1] or () for m in _modules(one)}
            pending += [one for one in imported & self._files.keys() if one not in needed]
        return [(name, source) for name, source in self._files.items() if name in needed]

    def _altered(self, statements: Sequence[_Statement]) -> tuple[str, ...]:
        """Return the settings and functions of libraries that statements change."""
        found: set[str] = set()
        for node in (part for one in statements for part in ast.walk(one.node)):
            if isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store):
                path = _path(node)
                module = self._imported.get(path[0], "").partition(".")[0] if path else ""
                if module in RESET and "backends" not in path:
                    found.add(".".join(path))
            elif isinstance(node, ast.Expr) and isinstance(node.value, ast.Call):
                path = _path(node.value.func)
                if path and path[0] in self._imported and path[-1] in SETTERS:
                    found.add(".".join(path))
        return tuple(sorted(found))

    def _below(self, name: str, own: int, check: int) -> list[tuple[int, int]]:
        """Return where cells between an answer and its check change a name of the answer."""
        return [
            (cell_number, number)
            for cell_number in range(own + 1, check + 1)
            for number, statement in enumerate(self._cells[cell_number].statements or ())
            if name in statement.stores and name not in statement.binds
        ]

    def _completes(self, statement: _Statement, name: str) -> bool:
        """Return whether a statement sets an attribute of a name, and does nothing else."""
        match statement.node:
            case ast.Assign(targets=targets, value=value):
                return all(_is_attribute_of(target, name) for target in targets) and (
                    _is_pure(value, self._imported)
                )
            case ast.Expr(ast.Call(func=ast.Name("setattr"), args=[ast.Name(), *values])):
                return all(_is_pure(value, self._imported) for value in values)
        return False

    def _is_movable(self, statement: _Statement) -> bool:
        """Return whether a statement may be taken along to an answer in another cell."""
        return _is_movable(statement.node, self._imported)

    def _redefinition(self, name: str, own: int, check: int) -> tuple[int, int] | None:
        """Return where an earlier step is defined again between its own check and another."""
        if self._executed:
            return None  # the step's selection has it
        places = [
            (cell_number, number)
            for cell_number in range(self._check(name) + 1, check + 1)
            for number, statement in enumerate(self._cells[cell_number].statements or ())
            if cell_number != own and statement.defines(name) and self._is_movable(statement)
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
        binding = [place for place in before if name in self._statement(place).binds]
        if not binding or not self._is_movable(self._statement(binding[-1])):
            return []
        changes = [place for place in before if place > binding[-1]]
        complete = all(self._completes(self._statement(place), name) for place in changes)
        return [binding[-1], *changes] if complete else []

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
    if names := selection.changed:
        problems.append(
            f"another cell changes {listed(names)}, which is not graded; write that change into "
            "the cell of the answer"
        )
    if selection.modules:
        problems.append(f"{listed(selection.modules)} may not be installed where it is graded")
    return problems


def remarks(selection: Selection) -> list[str]:
    r"""Return what a student should know of how an answer is graded, beside what it lacks.

    Example:
        >>> cells = [("", "import math\nmath.sqrt = abs\ndef one(x):\n    return x")]
        >>> remarks(Definitions(cells, ["one"], setup="").select("one"))
        ['math.sqrt is changed for all code, so it is reset before each call of an answer']
    """
    found = []
    if names := selection.again:
        verb, pronoun = ("was", "its") if len(names) == 1 else ("were", "their")
        found.append(
            f"{listed(names)} {verb} defined again after {pronoun} own check; the later version "
            "is called here"
        )
    if names := selection.altered:
        verb, pronoun = ("is", "it is") if len(names) == 1 else ("are", "they are")
        found.append(
            f"{listed(names)} {verb} changed for all code, so {pronoun} reset before each call of "
            "an answer"
        )
    return found


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
        node, frozenset(binds), frozenset(uses), _changes(node), _stores(node), _checks(node)
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


def _stores(node: ast.stmt) -> frozenset[str]:
    """Return the names of which a statement sets an attribute or an item."""
    if isinstance(node, (*Functions, *Imports)):
        return frozenset()
    targets: list[ast.AST] = []
    for part in ast.walk(node):
        if isinstance(part, (ast.Attribute, ast.Subscript)) and isinstance(part.ctx, ast.Store):
            targets.append(part)
        elif isinstance(part, ast.Call):
            match part:
                case ast.Call(func=ast.Name("setattr"), args=[ast.Name() as changed, *_]):
                    targets.append(changed)
    return frozenset(root for target in targets if (root := _root(target)))


def _changes(node: ast.stmt) -> frozenset[str]:
    """Return the names that a statement stores into, or of which it calls a method."""
    if isinstance(node, (*Functions, *Imports)):
        return frozenset()
    calls = (
        part.value.func
        for part in ast.walk(node)
        if isinstance(part, ast.Expr) and isinstance(part.value, ast.Call)
    )
    roots = (_root(called) for called in calls if not isinstance(called, ast.Name))
    return _stores(node) | {root for root in roots if root}


def _root(node: ast.AST) -> str | None:
    while isinstance(node, (ast.Attribute, ast.Subscript)):
        node = node.value
    return node.id if isinstance(node, ast.Name) else None


def _path(node: ast.AST) -> list[str]:
    """Return the names of an attribute, from its root; nothing if the root is no name."""
    names: list[str] = []
    while isinstance(node, ast.Attribute):
        names.insert(0, node.attr)
        node = node.value
    return [node.id, *names] if isinstance(node, ast.Name) else []


def _imported(statement: _Statement) -> Iterator[tuple[str, str]]:
    """Yield the names that a statement imports, each with what it stands for."""
    for node in ast.walk(statement.node):
        if isinstance(node, ast.Import):
            for alias in node.names:
                top = alias.name.partition(".")[0]
                yield (alias.asname, alias.name) if alias.asname else (top, top)
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            yield from ((a.asname or a.name, f"{node.module}.{a.name}") for a in node.names)


def _is_movable(node: ast.stmt, imported: Mapping[str, str]) -> bool:
    match node:
        case ast.Import() | ast.ImportFrom() | ast.Pass():
            return True
        case ast.FunctionDef() | ast.AsyncFunctionDef() | ast.ClassDef():
            return True
        case ast.Assign(targets=targets, value=value):
            plain = all(_is_plain_target(target) for target in targets)
            return plain and _is_pure(value, imported)
        case ast.AnnAssign(target=target, value=ast.expr() as value):
            return _is_plain_target(target) and _is_pure(value, imported)
        case ast.If(body=body, orelse=orelse) | ast.Try(body=body, orelse=orelse, finalbody=[]):
            if isinstance(node, ast.If) and not _is_pure(node.test, imported):
                return False
            handlers = node.handlers if isinstance(node, ast.Try) else []
            inner = [*body, *orelse, *(part for handler in handlers for part in handler.body)]
            return all(_is_movable(part, imported) for part in inner)
    return False


def _is_plain_target(target: ast.expr) -> bool:
    if isinstance(target, (ast.Tuple, ast.List)):
        return all(_is_plain_target(one) for one in target.elts)
    return isinstance(target, ast.Name)


def _is_attribute_of(target: ast.expr, name: str) -> bool:
    match target:
        case ast.Attribute(value=ast.Name(owner)):
            return owner == name
    return False


def _is_pure(value: ast.AST, imported: Mapping[str, str]) -> bool:
    """Return whether a value can be computed again, elsewhere, with the same result.

    Args:
        value: The expression, or a part of it.
        imported: What the names stand for that the notebook imports.
    """
    if isinstance(value, ast.Lambda):
        return True
    if isinstance(value, (ast.Await, ast.Yield, ast.YieldFrom, ast.NamedExpr)):
        return False
    if isinstance(value, ast.Call) and not _is_pure_call(value.func, imported):
        return False
    return all(_is_pure(child, imported) for child in ast.iter_child_nodes(value))


def _is_pure_call(function: ast.expr, imported: Mapping[str, str]) -> bool:
    path = _path(function)
    if not path:  # a method of what the expression has just made
        name = getattr(function, "attr", "")
        return bool(name) and not RANDOM_IN_PLACE.fullmatch(name) and name != "backward"
    if path[0] in imported:
        module, *names = [*imported[path[0]].split("."), *path[1:]]
        if module in PURE_MODULES:
            return bool(names) and not any(IMPURE.fullmatch(part) for part in names)
    return path[-1] in PURE_CALLS or (len(path) > 1 and path[-1] in PURE_METHODS)


def _written_modules(sources: Sequence[str]) -> dict[str, str]:
    """Return the modules that cells write, with their sources."""
    files: dict[str, str] = {}
    for source in sources:
        if match := WRITES_FILE.match(source):
            text = source[match.end() :].partition("\n")[2]
            before = files.pop(match["name"], "") if match["more"] else ""
            files[match["name"]] = f"{before}{text}\n"
    return files


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
