"""Split the code of a notebook into what its page shows and what checks the notebook's claims.

A top-level statement that calls ``claim``, ``claim_equal`` or ``finding`` is a check, whatever it
is: a call, or a loop with calls in it. A statement after the first check of its cell, or after its
figure, joins the check that follows it if only checks use what it defines or changes. The lines
that the cell printed are matched to the statements by their text, in order. All other code stays
on the page.
"""

import ast
import re
import symtable
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from string import Formatter
from typing import NamedTuple

KINDS = {"finding": "finding", "claim": "measurement", "claim_equal": "identity"}
SHOWS = {"print", "display"}  # what these write is read on the page, and so is their code
UNIT = "[ \u00a0\u202f]?%"  # belongs to the number before it
EQUAL = " (equal to {tolerance})."
HOLE = "\0"  # a part of a text that is known only when the cell runs


class CheckError(ValueError):
    """A cell's printed claims are not those that its statements make."""


class PrintedClaim(NamedTuple):
    """A claim as a cell printed it.

    Args:
        kind: ``finding``, ``measurement`` or ``identity``.
        statement: The whole line without its tick.
        headline: The number that a finding is about, as it was printed.
        tolerance: To which an identity holds, as it was printed.
    """

    kind: str
    statement: str
    headline: str | None = None
    tolerance: str | None = None

    @property
    def sentence(self) -> str:
        """The statement of an identity without its tolerance."""
        return self.statement.removesuffix(EQUAL.format(tolerance=self.tolerance))


class Check(NamedTuple):
    """The code of a check, with what prepares it, and the claims that it printed."""

    code: str
    claims: list[PrintedClaim]


class SplitCell(NamedTuple):
    """The code that stays in view, and the checks in their order."""

    visible: str
    checks: list[Check]

    @property
    def claims(self) -> list[tuple[PrintedClaim, str]]:
        """All claims that the cell printed, each with the code of its check."""
        return [(claim, check.code) for check in self.checks for claim in check.claims]


class Template(NamedTuple):
    """What a call in the source can print."""

    kind: str
    pattern: re.Pattern

    def match(self, line: str) -> PrintedClaim | None:
        found = self.pattern.fullmatch(line)
        return PrintedClaim(self.kind, line, **found.groupdict()) if found else None


@dataclass
class Statement:
    """A top-level statement of a cell: its lines with the comments above, and its names."""

    node: ast.stmt
    code: str
    templates: list[Template]
    reads: set[str]  # including those that its functions read when they are called
    defines: set[str]
    changes: set[str]  # objects that it may modify
    is_check: bool = False
    claims: list[PrintedClaim] = field(default_factory=list)

    @property
    def draws(self) -> bool:
        """Whether it makes the figure of its cell."""
        return "figure" in self.defines

    def match(self, line: str) -> PrintedClaim | None:
        """Return the claim if this statement can have printed the line."""
        return next(filter(None, (each.match(line) for each in self.templates)), None)


class Cell(NamedTuple):
    """A code cell, and what the claims say that it printed."""

    name: str
    source: str
    printed: list[str]


def split_cells(cells: Iterable[Cell]) -> dict[str, SplitCell]:
    """Split the cells of a notebook; return those that make claims, by name.

    Raises:
        CheckError: A cell's printed claims can't be matched to its statements.
    """
    statements = {}
    for cell in cells:
        statements[cell.name] = _statements(cell)
        _match(cell, statements[cell.name])
    _join_preparations(list(statements.values()))
    return {
        name: _split(found)
        for name, found in statements.items()
        if any(statement.claims for statement in found)
    }


def _statements(cell: Cell) -> list[Statement]:
    try:
        tree = ast.parse(cell.source)
    except SyntaxError as error:
        raise CheckError(f"cell {cell.name}: expected Python, got {error}") from None
    lines = cell.source.splitlines()
    groups: list[list[ast.stmt]] = []  # more than one statement only where they share a line
    for node in tree.body:
        if groups and node.lineno <= (groups[-1][-1].end_lineno or 0):
            groups[-1].append(node)
        else:
            groups.append([node])
    found, start = [], 0
    for place, group in enumerate(groups, start=1):
        end = len(lines) if place == len(groups) else group[-1].end_lineno or 0
        code = "\n".join(lines[start:end])
        node = group[0] if len(group) == 1 else ast.With([], group)
        found.append(_statement(node, code))
        start = end
    return found


def _statement(node: ast.stmt, code: str) -> Statement:
    table = symtable.symtable(code, "cell", "exec")
    reads = set(_global_reads(table))
    for part in ast.walk(node):
        if isinstance(part, ast.AugAssign) and isinstance(part.target, ast.Name):
            reads.add(part.target.id)
    changes = set(_changes(node))
    if isinstance(node, ast.For):  # the loop gives its variables their values itself
        own = {name.id for name in ast.walk(node.target) if isinstance(name, ast.Name)}
        reads, changes = reads - own, changes - own
    defines = {
        symbol.get_name()
        for symbol in table.get_symbols()
        if symbol.is_assigned() or symbol.is_imported()
    }
    templates = [_template(call) for call in _claim_calls(node)]
    return Statement(node, code, templates, reads, defines, changes, bool(templates))


def _global_reads(table: symtable.SymbolTable) -> Iterator[str]:
    for symbol in table.get_symbols():
        if symbol.is_referenced() and (table.get_type() == "module" or symbol.is_global()):
            yield symbol.get_name()
    for inner in table.get_children():
        yield from _global_reads(inner)


def _changes(node: ast.stmt) -> Iterator[str]:
    """Yield the names of the objects that a statement may modify when it runs."""
    if isinstance(node, (ast.FunctionDef, ast.ClassDef)):
        return
    for part in ast.walk(node):
        if isinstance(part, (ast.Attribute, ast.Subscript)) and isinstance(part.ctx, ast.Store):
            yield from _roots(part)
        elif isinstance(part, ast.Expr) and isinstance(part.value, ast.Call):
            yield from _roots(part.value)


def _roots(node: ast.expr) -> Iterator[str]:
    """Yield the names at the root of ``a.b[0]``, and of ``a.b(c)`` also those it is called with."""
    if isinstance(node, ast.Name):
        yield node.id
    elif isinstance(node, (ast.Attribute, ast.Subscript)):
        yield from _roots(node.value)
    elif isinstance(node, ast.Call):
        if not isinstance(node.func, ast.Name):
            yield from _roots(node.func)
        for argument in [*node.args, *(keyword.value for keyword in node.keywords)]:
            if not isinstance(argument, ast.Call):
                yield from _roots(argument)


def _claim_calls(node: ast.stmt) -> list[ast.Call]:
    calls = [
        part
        for part in ast.walk(node)
        if isinstance(part, ast.Call) and isinstance(part.func, ast.Name) and part.func.id in KINDS
    ]
    return sorted(calls, key=lambda call: (call.lineno, call.col_offset))


def _template(call: ast.Call) -> Template:
    """Return what a call prints, with its numbers left open."""
    function = ast.unparse(call.func)
    text = _text(call.args[0]) if call.args else HOLE
    if function == "claim_equal":
        literal = f"{re.escape(text)}{re.escape(EQUAL)}"
        pattern = literal.replace(re.escape("{tolerance}"), "(?P<tolerance>.+)")
    else:
        pattern = "".join(_pieces(text, _headline(call, text)))
    return Template(KINDS[function], re.compile(pattern.replace(re.escape(HOLE), ".*?")))


def _text(node: ast.expr) -> str:
    """Return the text of an expression, with holes for what is known only when it runs."""
    if isinstance(node, ast.Constant):
        return str(node.value)
    if isinstance(node, ast.JoinedStr):
        return "".join(map(_text, node.values))
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Add):
        return _text(node.left) + _text(node.right)
    return HOLE


def _headline(call: ast.Call, text: str) -> str | None:
    """Return the name of the number that a finding is about."""
    if ast.unparse(call.func) != "finding":
        return None
    for keyword in call.keywords:
        if keyword.arg == "headline":
            return str(getattr(keyword.value, "value", ""))
    return next((name for _, name, _, _ in Formatter().parse(text) if name is not None), None)


def _pieces(text: str, headline: str | None) -> Iterator[str]:
    unit = ""
    for literal, name, _, _ in Formatter().parse(text):
        yield re.escape(literal.removeprefix(unit))
        unit = ""
        if name is not None and name == headline:
            found = re.search(rf"\{{{name}[^}}]*\}}({UNIT})", text)
            unit = found[1] if found else ""
            yield f"(?P<headline>.+?{unit})"
        elif name is not None:
            yield ".+?"


def _match(cell: Cell, statements: list[Statement]) -> None:
    """Give each check the claims that it printed."""
    checks = [statement for statement in statements if statement.is_check]
    found = _share_out(checks, cell.printed)
    if found is None:
        lost = [line for line in cell.printed if not any(check.match(line) for check in checks)]
        made = [ast.unparse(call)[:70] for check in checks for call in _claim_calls(check.node)]
        problem = f"no statement prints {lost[0]!r}" if lost else f"it printed {cell.printed}"
        raise CheckError(
            f"cell {cell.name}: expected a printed line for each of its checks {made}, in order, "
            f"but {problem}; execute the notebook, or write the claim's sentence into the call"
        )
    for check, lines in zip(checks, found, strict=True):
        check.claims = [claim for line in lines if (claim := check.match(line))]


def _share_out(checks: Sequence[Statement], lines: Sequence[str]) -> list[Sequence[str]] | None:
    """Return the lines of each check: one for a call, one or more for a loop, any for an if."""
    if not checks:
        return None if lines else []
    first, *rest = checks
    most = 0
    while most < len(lines) and first.match(lines[most]):
        most += 1
    if isinstance(first.node, ast.Expr):
        most = min(most, 1)
    for count in range(most, -1 if isinstance(first.node, ast.If) else 0, -1):
        if (later := _share_out(rest, lines[count:])) is not None:
            return [lines[:count], *later]
    return None


def _join_preparations(cells: list[list[Statement]]) -> None:
    """Mark the statements that serve checks alone and follow the first check or the figure."""
    candidates = []
    for statements in cells:
        starts = [i for i, each in enumerate(statements) if each.is_check or each.draws]
        has_check = any(each.is_check for each in statements)
        for each in statements[starts[0] + 1 :] if has_check else ():
            is_result = each is statements[-1] and isinstance(each.node, ast.Expr)
            if not each.is_check and not is_result and _can_join(each):
                each.is_check = True
                candidates.append(each)
    everything = [statement for statements in cells for statement in statements]
    changed = True
    while changed:
        changed = False
        for candidate in candidates:
            if candidate.is_check and _is_used(candidate, everything):
                candidate.is_check, changed = False, True


def _can_join(statement: Statement) -> bool:
    is_import = isinstance(statement.node, (ast.Import, ast.ImportFrom))
    return not is_import and not statement.reads & SHOWS


def _is_used(candidate: Statement, statements: list[Statement]) -> bool:
    """Whether code that stays in view uses what a statement defines or changes."""
    place = next(i for i, each in enumerate(statements) if each is candidate)
    before = [
        each
        for each in statements[:place]
        if isinstance(each.node, (ast.FunctionDef, ast.ClassDef)) and not each.is_check
    ]
    names = candidate.defines | candidate.changes
    if any(names & each.reads for each in before):
        return True
    for each in statements[place + 1 :]:
        if each.is_check:
            continue
        if names & (each.reads | each.changes):
            return True
        names = names - each.defines
    return False


def _split(statements: list[Statement]) -> SplitCell:
    visible, waiting = [], []
    checks: list[Check] = []
    for statement in statements:
        if not statement.is_check:
            visible.append(statement.code)
            continue
        waiting.append(statement.code)
        if statement.claims:
            checks.append(Check(_joined(waiting), statement.claims))
            waiting = []
    if waiting and checks:
        code, claims = checks.pop()
        checks.append(Check(_joined([code, *waiting]), claims))
    return SplitCell(_joined(visible), checks)


def _joined(parts: list[str]) -> str:
    """Join pieces of code; a function keeps a blank line after it."""
    text = ""
    for part in parts:
        is_after_body = re.search(r"^(?:def|class|@)", text.rpartition("\n\n")[2], re.M)
        if is_after_body and not part.startswith("\n"):
            text += "\n\n"
        text += f"{part}\n"
    return text.strip("\n")
