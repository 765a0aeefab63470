"""Small changes of an author's solution, to tell what a wrong answer does otherwise.

Where an answer makes no known mistake, its results may still be those of the solution with one
small change: a term left out, another axis, two arguments exchanged. ``variations`` makes such
changes, and says of each in words what it is, naming nothing but the arguments of the step and
functions of libraries. ``record_variations`` runs them on the visible cases when the exercise is
released. Of each outcome only a mark is kept: a few sums, by which it can be recognised.
"""

from __future__ import annotations

import ast
import copy
import dataclasses
import math
import warnings
import zlib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from stepgrader.differences import as_numbers, difference, listed, numbers_in
from stepgrader.steps import CompiledStep
from stepgrader.worker.values import Unsupported, decode

__all__ = [
    "Variation",
    "matching",
    "record_variations",
    "variations",
]


EVIDENCE = 3  # different wrong whole numbers of a variation that can be told from others
BROKEN = (
    "NameError",
    "UnboundLocalError",
    "AttributeError",
    "TypeError",
)  # a change makes no sense
ERRORS_OF_SHAPES = ("RuntimeError", "ValueError", "IndexError")
MOST_BITS = 1024  # of an integer that a float can hold
ALTERNATIVES = 2  # changes that are named together, if they raise the same errors
Mark = list[Any]


@dataclasses.dataclass(frozen=True)
class Variation:
    """A solution with one small change.

    Args:
        change: What differs, to complete "a right answer in which ...".
        source: The source of the whole cell.

    Example:
        >>> Variation("a minus sign is left out", "def double(x): return 2 * x").change
        'a minus sign is left out'
    """

    change: str
    source: str


# -- Marks


def _mark(step: CompiledStep, case: Mapping[str, Any], outcome: Mapping[str, Any]) -> Mark | None:
    """Return a few numbers by which a wrong outcome can be recognised; None of a right one."""
    if raised := outcome.get("raised"):
        return [f"{raised.get('type')}: {raised.get('message')}"]
    expected = case["expected"]
    exact = step.exact_types
    if difference(expected["returned"], outcome["returned"], step.tolerance, exact_types=exact):
        return _of_value(decode(expected["returned"]), decode(outcome["returned"]))
    if "gradients" not in expected:
        return None
    wanted, got = (_encoded(each, "gradients") for each in (expected, outcome))
    if not difference(wanted, got, step.tolerance):
        return None
    return ["gradients", *_of_value(decode(wanted), decode(got))]


def _of_value(expected: Any, got: Any) -> Mark:
    form, wanted = _form(got), _form(expected)
    numbers = np.array([*numbers_in(got)], dtype=float)
    finite = np.isfinite(numbers)
    if not finite.all():
        odd = np.where(np.isnan(numbers), 3, np.sign(np.where(finite, 0, numbers)))
        form += f" {zlib.crc32(odd.astype('int8').tobytes())}"
        numbers = np.where(finite, numbers, 0)
    places = np.arange(1, len(numbers) + 1)
    sums = [numbers @ np.cos(places), numbers @ np.cos(2.5 * places), np.abs(numbers).sum()]
    return ["" if form == wanted else form, *(float(f"{each:.7g}") for each in sums)]


def _form(value: Any) -> str:
    """Return what a value is made of. Lists, tuples, arrays and tensors are alike."""
    if isinstance(value, dict):
        return "{" + ", ".join(f"{name}: {_form(item)}" for name, item in value.items()) + "}"
    array = None if value is None or isinstance(value, str) else as_numbers(value)
    if array is not None:
        return f"{'truths' if array.dtype == bool else ''}{array.shape}"
    if isinstance(value, (list, tuple)):
        return "[" + ", ".join(map(_form, value)) + "]"
    if isinstance(value, int) and value.bit_length() > MOST_BITS:
        return "a huge integer"  # Python refuses to write those of thousands of digits
    return value.type_name if isinstance(value, Unsupported) else repr(value)


def _agree(one: Mark | None, other: Mark | None, tolerance: float) -> bool:
    """Return whether two marks are of the same outcome."""
    if one is None or other is None:
        return one is other
    texts = [[part for part in each if isinstance(part, str)] for each in (one, other)]
    sums = [[part for part in each if not isinstance(part, str)] for each in (one, other)]
    if texts[0] != texts[1] or len(sums[0]) != len(sums[1]):
        return False
    allowed = tolerance * max([1.0, *map(abs, sums[0])])
    return all(abs(a - b) <= allowed for a, b in zip(*sums, strict=True))


def matching(step: CompiledStep, outcomes: Sequence[Mapping[str, Any]]) -> str | None:
    r"""Return the change of a solution that has the outcomes of an answer in all visible cases.

    Args:
        step: The step, with its variations.
        outcomes: The outcome of each case, in their order.

    Example:
        >>> from stepgrader.steps import Step, compile_step
        >>> from stepgrader.worker.calls import run_case
        >>> cases = {"vectors": lambda s: {"x": s.array(4), "y": s.array(4)}}
        >>> step = compile_step(Step("mean", lambda x, y: (x + y) / 2, cases, [], []))
        >>> made = record_variations(step, "def mean(x, y):\n    return (x + y) / 2", {})
        >>> step = dataclasses.replace(step, variations=made)
        >>> matching(step, [run_case(lambda x, y: 0.5 * y, case) for case in step.requests])
        'the term with x is left out'
    """
    pairs = zip(step.cases, outcomes, strict=True)
    marks = [_mark(step, *pair) for pair in pairs if not pair[0]["hidden"]]
    if not any(marks):
        return None
    for variation in step.variations:
        if _same(marks, variation["marks"], step.tolerance):
            return str(variation["change"])
    return None


# -- Running


def record_variations(
    step: CompiledStep, source: str, names: Mapping[str, Any]
) -> list[dict[str, Any]]:
    r"""Return the changes of a solution, each with its marks on the visible cases.

    Of changes with the same outcomes the first is kept. Those are left out that change nothing, or
    whose results are too few or too plain to be told from others, such as zeros.

    Args:
        step: The step, compiled.
        source: The solution's cell, with its markers.
        names: What the solution may use: the names of the setup cell and of earlier solutions.

    Example:
        >>> from stepgrader.steps import Step, compile_step
        >>> cases = {"vectors": lambda s: {"x": s.array(4), "y": s.array(4)}}
        >>> step = compile_step(Step("mean", lambda x, y: (x + y) / 2, cases, [], []))
        >>> cell = "def mean(x, y):\n    return (x + y) / 2"
        >>> [found["change"] for found in record_variations(step, cell, {})][:2]
        ['a divisor is left out', 'the term with y is left out']
    """
    from stepgrader.worker.calls import run_case

    visible = step.visible
    kept: list[dict[str, Any]] = []
    for variation in variations(source, visible.cases):
        namespace = dict(names)
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                exec(compile(variation.source, "<variation>", "exec", dont_inherit=True), namespace)
        except Exception:
            continue
        pairs = zip(visible.cases, visible.requests, strict=True)
        outcomes = [(case, run_case(namespace[step.name], request)) for case, request in pairs]
        if not _can_be_told(outcomes):
            continue
        marks = [_mark(step, *pair) for pair in outcomes]
        if not any(marks):
            continue
        same = (one for one in kept if _same(marks, one["marks"], step.tolerance))
        if (first := next(same, None)) is None:
            kept.append({"change": [variation.change], "marks": marks})
        elif variation.change not in first["change"] and all("raised" in o for _, o in outcomes):
            first["change"].append(variation.change)
    return [
        {"change": " or if ".join(one["change"]), "marks": one["marks"]}
        for one in kept
        if len(one["change"]) <= ALTERNATIVES
    ]


def _same(marks: Sequence[Mark | None], others: Sequence[Mark | None], tolerance: float) -> bool:
    return all(_agree(*pair, tolerance) for pair in zip(marks, others, strict=True))


def _can_be_told(outcomes: Sequence[tuple[Mapping[str, Any], Mapping[str, Any]]]) -> bool:
    """Return whether outcomes hold enough different numbers that are wrong, or errors of shapes.

    A whole number counts half, because it agrees with another by chance more often.
    """
    seen: set[float] = set()
    for case, outcome in outcomes:
        if raised := outcome.get("raised"):
            if raised["type"] in BROKEN:
                return False
            seen.update([0.1, 0.2] if raised["type"] in ERRORS_OF_SHAPES else [])
            continue
        for part in ("returned", "gradients"):
            if part in case["expected"]:
                expected, got = (
                    [*numbers_in(decode(_encoded(each, part)))]
                    for each in (case["expected"], outcome)
                )
                if len(expected) != len(got):
                    seen.update(round(number, 6) for number in got if math.isfinite(number))
                else:
                    pairs = zip(expected, got, strict=True)
                    seen.update(round(a, 6) for a, b in pairs if abs(a - b) > 1e-6)
    return sum(1 if number == round(number) else 2 for number in seen) >= EVIDENCE


def _encoded(outcome: Mapping[str, Any], part: str) -> Any:
    return outcome[part] if part == "returned" else {"dict": outcome[part]}


# -- Changes


def variations(source: str, cases: Sequence[Mapping[str, Any]]) -> Iterator[Variation]:
    r"""Yield the solution with one small change each, those first whose words say most.

    Args:
        source: The solution's cell. Only what stands between the markers is changed.
        cases: Cases of the step, of which the first says what the arguments are.

    Example:
        >>> case = {"inputs": {"x": 1.0}, "options": None, "state": None}
        >>> for variation in variations("def f(x):\n    return -x + 1", [case]):
        ...     print(variation.change)
        a term is left out
        the term with x is left out
        a minus sign is left out
        a sign is wrong: something is subtracted that should be added
        x has the wrong sign
        an index, a bound or another whole number is one too large
        an index, a bound or another whole number is one too small
    """
    tree = ast.parse(source)
    if not cases or any(isinstance(node, ast.While) for node in ast.walk(tree)):
        return  # a loop that is changed might not end
    lines = _marked_lines(source)
    seen = {ast.unparse(tree)}
    found = []
    for function in [node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)]:
        maker = _Maker(function, cases[0])
        for rank, change, holder, key, new in maker.changes(lines):
            old = _put(holder, key, new)
            made = ast.unparse(ast.fix_missing_locations(tree))
            _put(holder, key, old)
            if made not in seen:
                seen.add(made)
                found.append((rank, change, made))
    for _, change, made in sorted(found, key=lambda each: each[0]):
        yield Variation(change, made)


def _marked_lines(source: str) -> range:
    """Return the numbers of the lines between the markers; of all lines if there are none."""
    lines = source.splitlines()
    places = [n for n, line in enumerate(lines, start=1) if line.strip().endswith(" SOLUTION")]
    return range(places[0] + 1, places[-1]) if len(places) == 2 else range(1, len(lines) + 1)


def _put(holder: Any, key: Any, node: Any) -> Any:
    """Put a node in a field or a list, and return what was there."""
    if isinstance(holder, list):
        old, holder[key] = holder[key], node
    else:
        old = getattr(holder, key)
        setattr(holder, key, node)
    return old


INSTEAD = """sum-mean sum-prod max-min maximum-minimum argmax-argmin tanh-sigmoid zeros-ones any-all
zeros_like-ones_like eye-ones tril-triu log-log2 cumsum-cumprod softmax-log_softmax softmax-sigmoid
square-abs silu-sigmoid silu-gelu silu-relu repeat_interleave-repeat exp-exp2 floor-ceil sin-cos
cat-stack sum-len"""
PAIRS = [tuple(pair.split("-")) for pair in INSTEAD.split()]
BORDERS: dict[type, tuple[type, type]] = {  # with the border, and the reverse
    ast.Lt: (ast.LtE, ast.GtE),
    ast.LtE: (ast.Lt, ast.Gt),
    ast.Gt: (ast.GtE, ast.LtE),
    ast.GtE: (ast.Gt, ast.Lt),
}
REDUCTIONS = {"softmax", "log_softmax", "sum", "mean", "prod", "max", "min", "cumsum", "var"}
REDUCTIONS |= {"argmax", "argmin", "any", "all", "chunk", "split", "cat", "stack", "flip"}
INDEX = "an index or a bound is computed in another way"
SHOWN = 2  # arguments that a description names
Change = tuple[int, str, Any, Any, Any]  # rank, words, and where to put what


class _Maker:
    """Makes the changes of one function."""

    def __init__(self, function: ast.FunctionDef, case: Mapping[str, Any]):
        self.function = function
        self.arguments = [each.arg for each in function.args.args if each.arg != "self"]
        given = {**(case["inputs"] or {}), **(case["state"] or {})}
        self.kinds = {name: _kind(value) for name, value in given.items()}
        self.parameters = {name.split(".")[0] for name in case["state"] or {}}
        self.origins = self._origins()

    def _origins(self) -> dict[str, set[str]]:
        """Return from which arguments each variable is computed."""
        origins = {name: {name} for name in self.arguments}
        for node in ast.walk(self.function):
            if isinstance(node, ast.Assign):
                used = self.used(node.value, origins)
                for target in node.targets:
                    for name in ast.walk(target):
                        if isinstance(name, ast.Name) and name.id not in self.arguments:
                            origins[name.id] = origins.get(name.id, set()) | used
        return origins

    def used(self, node: ast.AST, origins: Mapping[str, set[str]] | None = None) -> set[str]:
        """Return the arguments and parameters that an expression depends on."""
        origins = self.origins if origins is None else origins
        found: set[str] = set()
        for part in ast.walk(node):
            if isinstance(part, ast.Name):
                found |= origins.get(part.id, set())
            elif isinstance(part, ast.Attribute) and part.attr in self.parameters:
                found.add(f"self.{part.attr}")
        return found

    def with_(self, node: ast.AST) -> str:
        """Return the arguments in an expression, and those that alone a variable comes from."""
        plain = {name: made for name, made in self.origins.items() if len(made) == 1}
        names = sorted(self.used(node, plain))
        return f" with {listed(names)}" if 0 < len(names) <= SHOWN else ""

    def the(self, what: str, node: ast.AST) -> str:
        words = self.with_(node)
        return f"the {what}{words}" if words else f"{'an' if what[0] in 'aeiou' else 'a'} {what}"

    def _of(self, what: str, node: ast.AST) -> str:
        words = self.with_(node).removeprefix(" with ")
        return f"the {what} of {words}" if words else f"a {what}"

    def name(self, node: ast.AST) -> str:
        """Return the last name of a function that may be told, or nothing."""
        if isinstance(node, ast.Attribute):
            local = isinstance(node.value, ast.Name) and node.value.id == "self"
            return "" if local and node.attr not in self.parameters else node.attr
        return "" if not isinstance(node, ast.Name) or node.id in self.origins else node.id

    def changes(self, lines: range) -> Iterator[Change]:
        indices = {
            id(part)
            for node in ast.walk(self.function)
            for index in _indices(node)
            for part in ast.walk(index)
        }
        for parent in ast.walk(self.function):
            for field, value in ast.iter_fields(parent):
                items = enumerate(value) if isinstance(value, list) else [(field, value)]
                for key, node in items:
                    if isinstance(node, ast.AST) and getattr(node, "lineno", 0) in lines:
                        holder = value if isinstance(value, list) else parent
                        if isinstance(parent, ast.Attribute) and parent.attr == "shape":
                            continue  # whose name is changed together with it
                        for rank, words, new in self.of(node):
                            is_index = isinstance(node, ast.BinOp) and id(node) in indices
                            yield rank, INDEX if is_index else words, holder, key, new
        code = self.function.body[bool(ast.get_docstring(self.function)) :]
        if all(node.lineno in lines for node in code):
            for words, renamed in self.exchanges():
                yield 4, words, self.function, "body", renamed

    def exchanges(self) -> Iterator[tuple[str, list[ast.stmt]]]:
        """Yield the body with two arguments exchanged, and with one axis in place of another."""
        for number, one in enumerate(self.arguments):
            for other in self.arguments[number + 1 :]:
                if self.kinds.get(one) == self.kinds.get(other):
                    body = copy.deepcopy(self.function.body)
                    for node in (part for line in body for part in ast.walk(line)):
                        if isinstance(node, ast.Name) and node.id in (one, other):
                            node.id = other if node.id == one else one
                    yield f"{one} and {other} are exchanged", body
        for new in (-2, -1, 0, 1, 2):
            body = copy.deepcopy(self.function.body)
            names = set()
            for node in (part for line in body for part in ast.walk(line)):
                if isinstance(node, ast.Call) and (name := self.name(node.func)) in REDUCTIONS:
                    for holder, key in _axes(node):
                        _put(holder, key, _number(new))
                        names.add(name)
            if names:
                yield f"{listed(sorted(names))} runs over another axis", body

    def of(self, node: ast.AST) -> Iterator[tuple[int, str, Any]]:
        """Yield rank, words and replacement for each change of a node."""
        match node:
            case ast.BinOp():
                yield from self._of_operation(node)
            case ast.Compare(_, [operator], _) if type(operator) in BORDERS:
                border, reverse = BORDERS[type(operator)]
                includes = border in (ast.LtE, ast.GtE)
                words = "includes" if includes else "leaves out"
                yield 3, f"a comparison {words} the border", _changed(node, ops=[border()])
                yield 3, "a comparison is the wrong way round", _changed(node, ops=[reverse()])
            case ast.Compare(_, [ast.Eq() | ast.NotEq()], _):
                is_equal = isinstance(node.ops[0], ast.Eq)
                negated = ast.NotEq() if is_equal else ast.Eq()
                yield 3, "a comparison is negated", _changed(node, ops=[negated])
            case ast.UnaryOp(ast.USub(), ast.Constant()):
                pass
            case ast.UnaryOp(operator, operand):
                is_minus = isinstance(operator, ast.USub)
                words = "a minus sign" if is_minus else "a negation, such as ~ or not,"
                yield 1, f"{words} is left out", operand
            case ast.Constant(bool(value)):
                yield 5, f"a setting is {not value} that should be {value}", ast.Constant(not value)
            case ast.Constant(int(value)):
                what = "an index, a bound or another whole number is one too"
                yield 6, f"{what} large", _number(value + 1)
                yield 6, f"{what} small", _number(value - 1)
            case ast.Constant(float(value)):
                yield 6, "a number is twice as large", ast.Constant(2 * value + (value == 0))
                yield 6, "a number is half as large", ast.Constant(value / 2)
            case ast.Name(name, ast.Load()):
                yield from self._of_name(node)
            case ast.Attribute(ast.Name(name), "shape") if name in self.arguments:
                for other in self._alike(name):
                    words = f"a length of {other} is taken in place of one of {name}"
                    yield 3, words, _changed(node, value=ast.Name(other, ast.Load()))
            case ast.Attribute(value, "T" | "mT", ast.Load()):
                yield 2, f"{self._of('transposition', value)} is left out", value
            case ast.Subscript(value, ast.Constant(0), ast.Load()):
                words = "the last entry of something is taken in place of the first"
                yield 3, words, _changed(node, slice=_number(-1))
            case ast.Subscript(value, ast.Slice(None, None, ast.AST()), ast.Load()):
                yield 2, f"{self._of('reversal', value)} is left out", value
            case ast.Subscript(value, part, ast.Load()) if _adds_an_axis(part):
                yield 4, "an axis that is added with None is left out", value
            case ast.Subscript(value, part, ast.Load()) if _has_bounds(part):
                yield 5, "all entries are taken in place of a part of them", value
            case ast.IfExp(_, body, orelse):
                yield 3, "two cases are not told apart", body
                yield 3, "two cases are not told apart", orelse
                yield 3, "two cases are exchanged", _changed(node, body=orelse, orelse=body)
            case ast.If(test, body, orelse):
                yield 3, "two cases are not told apart", _changed(node, test=ast.Constant(True))
                yield 3, "two cases are not told apart", _changed(node, test=ast.Constant(False))
                if orelse:
                    reverse_test = ast.UnaryOp(ast.Not(), test)
                    yield 3, "two cases are exchanged", _changed(node, test=reverse_test)
            case ast.Call():
                yield from self._of_call(node)
            case ast.Tuple(parts, ast.Store()) | ast.List(parts, ast.Load()) if len(parts) > 1:
                splits = isinstance(node, ast.Tuple)
                what = "two parts of what is split" if splits else "two parts of what is joined"
                for i in range(len(parts)):
                    for j in range(i):
                        swapped = [*parts]
                        swapped[i], swapped[j] = parts[j], parts[i]
                        yield 4, f"{what} are exchanged", _changed(node, elts=swapped)
            case ast.For(_, ast.Call(ast.Name("reversed"), [inner])):
                yield 3, "a loop runs in the other direction", _changed(node, iter=inner)
            case ast.For(_, ast.Call(ast.Name("range"))):
                backwards = ast.Call(ast.Name("reversed", ast.Load()), [node.iter], [])
                yield 3, "a loop runs in the other direction", _changed(node, iter=backwards)
            case ast.Assign([ast.Name(name)], value):
                if name in {each.id for each in ast.walk(value) if isinstance(each, ast.Name)}:
                    yield 4, f"what is computed{self.with_(value)} is not updated", ast.Pass()
                detached = ast.Call(ast.Attribute(value, "detach", ast.Load()), [], [])
                yield 4, "something is cut off by detach", _changed(node, value=detached)
            case ast.Assign([ast.Subscript(_, _, ast.Store())], value):
                yield 4, "some entries are not replaced by others", ast.Pass()
            case ast.AugAssign(_, _, value):
                yield 4, f"{self.the('summand', value)} is not added up", ast.Pass()
            case ast.Expr(ast.Call(function)) if name := self.name(function):
                yield 3, f"{name} is not called", ast.Pass()

    def _of_operation(self, node: ast.BinOp) -> Iterator[tuple[int, str, Any]]:
        left, right = node.left, node.right
        match node.op:
            case ast.Add():
                yield 1, f"{self.the('term', right)} is left out", left
                yield 1, f"{self.the('term', left)} is left out", right
                words = "a sign is wrong: something is subtracted that should be added"
                yield 2, words, _changed(node, op=ast.Sub())
            case ast.Sub():
                yield 1, f"{self.the('term', right)} is left out", left
                yield 1, f"{self.the('term', left)} is left out", right
                words = "a sign is wrong: something is added that should be subtracted"
                yield 2, words, _changed(node, op=ast.Add())
                yield (
                    2,
                    "a difference has the wrong sign",
                    _changed(node, left=right, right=left),
                )
            case ast.Mult():
                yield 1, f"{self.the('factor', right)} is left out", left
                yield 1, f"{self.the('factor', left)} is left out", right
                yield 2, "a product is a sum", _changed(node, op=ast.Add())
                yield 2, "a product is a quotient", _changed(node, op=ast.Div())
            case ast.Div() | ast.FloorDiv():
                yield 1, f"{self.the('divisor', right)} is left out", left
                yield 2, "a quotient is a product", _changed(node, op=ast.Mult())
            case ast.MatMult():
                yield 1, f"{self.the('matrix product', right)} is left out", left
                yield 1, f"{self.the('matrix product', left)} is left out", right
                yield (
                    2,
                    "a matrix product has its factors in the wrong order",
                    _changed(node, left=right, right=left),
                )
                words = "a matrix product is a product of single numbers"
                yield 3, words, _changed(node, op=ast.Mult())
                for side, value in (("left", left), ("right", right)):
                    if not isinstance(value, ast.Attribute) or value.attr not in ("T", "mT"):
                        turned = ast.Attribute(value, "mT", ast.Load())
                        words = self.with_(value)
                        what = f"the matrix{words}" if words else "a matrix"
                        yield 2, f"{what} is transposed", _changed(node, **{side: turned})
            case ast.Pow():
                yield 1, f"{self.the('power', right)} is left out", left
            case ast.BitAnd():
                yield 2, f"{self.the('condition', right)} is left out", left
                yield 2, f"{self.the('condition', left)} is left out", right
                yield 3, "or stands in place of and", _changed(node, op=ast.BitOr())

    def _alike(self, name: str) -> list[str]:
        """Return the other arguments with as many axes."""
        kind = self.kinds.get(name)
        return [each for each in self.arguments if each != name and self.kinds.get(each) == kind]

    def _of_name(self, node: ast.Name) -> Iterator[tuple[int, str, Any]]:
        name = node.id
        if name in self.arguments:
            for other in self._alike(name):
                words = f"{other} is used in place of {name}"
                yield 3, words, ast.Name(other, ast.Load())
            if self.kinds.get(name, -1) >= 0:
                yield 3, f"{name} has the wrong sign", ast.UnaryOp(ast.USub(), node)
            if self.kinds.get(name) == 2:
                turned = ast.Attribute(node, "T", ast.Load())
                yield 4, f"{name} is transposed", turned
            if self.kinds.get(name) == 1:
                words = f"{name} is read in reversed order"
                yield 4, words, ast.parse(f"{name}[range(len({name}) - 1, -1, -1)]").body[0].value  # type: ignore[attr-defined]
        elif name in self.origins:
            for origin in sorted(self.origins[name]):
                if not origin.startswith("self.") and self.kinds.get(origin, 0) > 0:
                    words = f"{origin} is used as it was given, where something computed from it"
                    yield 5, f"{words} belongs", ast.Name(origin, ast.Load())

    def _of_call(self, node: ast.Call) -> Iterator[tuple[int, str, Any]]:
        function, given = node.func, node.args
        name = self.name(function)
        is_method = isinstance(function, ast.Attribute) and not _is_module(function.value)
        if name:
            if is_method:
                yield 1, f"{name} is left out", function.value  # type: ignore[attr-defined]
            if given and not isinstance(given[0], ast.Starred):
                yield 1 if not is_method else 5, f"{name} is left out", given[0]
        for one, other in PAIRS:
            if name in (one, other):
                instead = other if name == one else one
                words = f"{instead} stands in place of {name}"
                for renamed in _renamed(node, instead):
                    yield 3, words, renamed
        if name in REDUCTIONS:
            for _, key in _axes(node):
                for new in (-2, -1, 0, 1, 2):
                    other_axis = copy.deepcopy(node)
                    for holder, place in _axes(other_axis):
                        if place == key:
                            _put(holder, place, _number(new))
                    yield 3, f"{name} runs over another axis", other_axis
            if is_method and given and _is_whole(given[0]):
                yield 3, f"{name} runs over all axes", _changed(node, args=[], keywords=[])
        plain = not any(isinstance(part, ast.Starred) for part in given)
        if plain:
            for i in range(1, len(given)):
                swapped = [*given]
                swapped[i - 1], swapped[i] = given[i], given[i - 1]
                words = f"two arguments of {name or 'a function'} are exchanged"
                yield 3, words, _changed(node, args=swapped)
        for number, keyword in enumerate(node.keywords):
            rest = node.keywords[:number] + node.keywords[number + 1 :]
            words = f"{keyword.arg} of {name or 'a function'} is left out"
            yield 3, words, _changed(node, keywords=rest)
        if name == "range" and plain:
            yield from _of_range(given)


def _indices(node: ast.AST) -> list[ast.expr]:
    """Return the expressions in a node that say which entries are meant, or how many."""
    match node:
        case ast.Subscript(_, index):
            return [index]
        case ast.Call(ast.Name("range"), given):
            return given
        case ast.Call(ast.Attribute(_, "arange"), given):
            return given
    return []


def _of_range(bounds: list[ast.expr]) -> Iterator[tuple[int, str, Any]]:
    start, stop = (ast.Constant(0), bounds[0]) if len(bounds) == 1 else bounds[:2]
    for words, first, last in (
        ("starts one step late", 1, 0),
        ("starts one step early", -1, 0),
        ("ends one step early", 0, -1),
        ("ends one step late", 0, 1),
    ):
        moved = [
            ast.BinOp(bound, ast.Add(), _number(by)) if by else bound
            for bound, by in ((start, first), (stop, last))
        ]
        call = ast.Call(ast.Name("range", ast.Load()), [*moved, *bounds[2:]], [])
        yield 2, f"a loop {words}", call


def _renamed(node: ast.Call, name: str) -> Iterator[ast.Call]:
    """Yield a call of another function."""
    if isinstance(node.func, ast.Attribute):
        yield _changed(node, func=_changed(node.func, attr=name))
    if name == "len":
        yield _changed(node, func=ast.Name(name, ast.Load()), keywords=[])


def _axes(node: ast.Call) -> list[tuple[Any, Any]]:
    """Return where the axes of a call stand: in which node or list, and under which key."""
    found: list[tuple[Any, Any]] = [
        (node.args, n) for n, part in enumerate(node.args) if _is_whole(part)
    ]
    found += [
        (keyword, "value")
        for keyword in node.keywords
        if keyword.arg in ("dim", "axis") and _is_whole(keyword.value)
    ]
    return found


def _is_whole(node: ast.AST) -> bool:
    match node:
        case ast.Constant(int(value)):
            return not isinstance(value, bool)
        case ast.UnaryOp(ast.USub(), ast.Constant(int())):
            return True
    return False


def _adds_an_axis(part: ast.AST) -> bool:
    return any(isinstance(each, ast.Constant) and each.value is None for each in ast.walk(part))


def _has_bounds(part: ast.AST) -> bool:
    slices = [each for each in ast.walk(part) if isinstance(each, ast.Slice)]
    return any(each.lower or each.upper for each in slices)


def _is_module(node: ast.AST) -> bool:
    """Return whether a function belongs to a library, as in torch.nn.functional.softmax."""
    while isinstance(node, ast.Attribute):
        node = node.value
    return isinstance(node, ast.Name) and node.id in ("torch", "nn", "np", "numpy", "math", "self")


def _number(value: int) -> ast.expr:
    constant = ast.Constant(abs(value))
    return ast.UnaryOp(ast.USub(), constant) if value < 0 else constant


def _changed(node: Any, **fields: Any) -> Any:
    return type(node)(**{**dict(ast.iter_fields(node)), **fields})


def _kind(encoded: Any) -> int:
    """Return the number of axes of an argument; -1 if it is not made of numbers."""
    value = decode(encoded)
    array = None if value is None or isinstance(value, (str, dict)) else as_numbers(value)
    return -1 if array is None else array.ndim
