"""Run mutants of the exercises' solutions, and record those that pass every case.

A mutant is a solution with one small change: another operator, constant, function, variable or
order, a part left out, a result cut off from its gradient, an argument changed in place. Each is
judged on the visible and hidden cases of its step. ``exercises/mutations.json`` counts them and
lists the survivors. For each survivor, either write there why it is a right answer too, or add a
case to the step that it fails, and run the tool again. Reasons stay as long as their survivors do.

Usage: python tools/mutate_exercises.py [EXERCISE ...]
"""

import ast
import dataclasses
import itertools
import json
import operator
import os
import resource
import signal
import sys
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch

from stepgrader.exercises import SOLUTION, Exercise
from stepgrader.judge import judge
from stepgrader.steps import CompiledStep, compile_step
from stepgrader.worker.calls import run_case

FOLDER = Path(__file__).parents[1] / "exercises"
TABLE = FOLDER / "mutations.json"
SEED = 20
CPU_SECONDS, WALL_SECONDS = 5, 120

OPERATORS: list[list[type]] = [  # each may be replaced by all others of its list
    [ast.Add, ast.Sub, ast.Mult, ast.Div],
    [ast.MatMult, ast.Mult],
    [ast.Pow, ast.Mult],
    [ast.FloorDiv, ast.Mod],
    [ast.BitAnd, ast.BitOr],
    [ast.And, ast.Or],
    [ast.Eq, ast.NotEq],
    [ast.Lt, ast.LtE, ast.Gt, ast.GtE],
    [ast.Is, ast.IsNot],
    [ast.In, ast.NotIn],
]
COMMUTATIVE = (ast.Add, ast.Mult, ast.BitAnd, ast.BitOr)
SYMMETRIC = ("max", "min", "maximum", "minimum", "transpose", "swapaxes")
IN_PLACE = {ast.Add: "iadd", ast.Sub: "isub", ast.Mult: "imul", ast.Div: "itruediv"}
NAMES = """sum-mean max-min maximum-minimum argmax-argmin sin-cos tanh-sigmoid zeros-ones any-all
zeros_like-ones_like tril-triu log-log2 cumsum-cumprod ceil-floor float64-int64 exp-exp2"""
SWAPS = {
    pair[i]: pair[1 - i] for pair in map(lambda t: t.split("-"), NAMES.split()) for i in (0, 1)
}


def mutants(
    source: str, lines: range, arrays: set[str], *, gradients: bool
) -> Iterator[tuple[str, str]]:
    """Yield each solution with one change in some lines, and the line that changed."""
    tree = ast.parse(source)
    original = ast.unparse(tree)
    seen = {original}
    for function in [node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)]:
        parameters = [argument.arg for argument in function.args.args if argument.arg != "self"]
        names = [node for node in ast.walk(function) if isinstance(node, ast.Name)]
        stored = dict.fromkeys(name.id for name in names if isinstance(name.ctx, ast.Store))
        scope = [parameters, [name for name in stored if name not in parameters]]
        for holder, place, node in [*places(function)]:
            if getattr(node, "lineno", 0) not in lines:
                continue
            for replacement in replacements(node, scope, arrays & set(parameters), gradients):
                put(holder, place, replacement)
                mutant = ast.unparse(ast.fix_missing_locations(tree))
                put(holder, place, node)
                if mutant not in seen:
                    seen.add(mutant)
                    yield mutant, changed_line(original, mutant)


def places(function: ast.AST) -> Iterator[tuple[Any, Any, ast.AST]]:
    """Yield the place of each node below a function: its parent or list, and the key there."""
    for parent in ast.walk(function):
        for name, value in ast.iter_fields(parent):
            for i, item in enumerate(value if isinstance(value, list) else [value]):
                if isinstance(item, ast.AST):
                    yield (value, i, item) if isinstance(value, list) else (parent, name, item)


def put(holder: Any, place: Any, node: ast.AST) -> None:
    """Put a node into a place that ``places`` yielded."""
    if isinstance(holder, list):
        holder[place] = node
    else:
        setattr(holder, place, node)


def changed_line(original: str, mutant: str) -> str:
    """Return the first line that differs, before and after."""
    pairs = itertools.zip_longest(original.splitlines(), mutant.splitlines(), fillvalue="")
    return next(
        f"{before.strip()}  →  {after.strip()}" for before, after in pairs if before != after
    )


def replacements(
    node: ast.AST, scope: list[list[str]], arrays: set[str], gradients: bool
) -> Iterator[ast.AST]:
    """Yield the possible replacements of a node."""

    def changed(**fields: Any) -> ast.AST:
        return type(node)(**{**dict(ast.iter_fields(node)), **fields})

    def others(op: ast.AST) -> list[ast.AST]:
        groups = [group for group in OPERATORS if type(op) in group]
        return [other() for group in groups for other in group if other is not type(op)]

    match node:
        case ast.BinOp(left, op, right):
            yield from [changed(op=other) for other in others(op)] + [left, right]
            if not isinstance(op, COMMUTATIVE):
                yield changed(left=right, right=left)
            if isinstance(left, ast.Name) and left.id in arrays and type(op) in IN_PLACE:
                yield expression(f"operator.{IN_PLACE[type(op)]}(0, 0)", args=[left, right])
        case ast.Compare(_, [op], _):
            yield from [changed(ops=[other]) for other in others(op)]
            yield from (ast.Constant(True), ast.Constant(False))
        case ast.BoolOp(op, values):
            yield from [changed(op=other) for other in others(op)] + values
        case ast.UnaryOp(_, operand):
            yield operand
        case ast.Constant(bool(value)):
            yield ast.Constant(not value)
        case ast.Constant(int(value)):
            yield from (ast.Constant(value + 1), ast.Constant(value - 1))
        case ast.Constant(float(value)):
            yield from (ast.Constant(value * 2 + (value == 0)), ast.Constant(value / 2))
        case ast.Constant(str(value)) if "->" in value:
            yield ast.Constant(value[: value.index(">") + 1] + value[value.index(">") + 1 :][::-1])
        case ast.Name(name, ast.Load()):
            for group in scope:
                if name in group and len(group) > 1:
                    yield expression(group[group.index(name) - 1])
            if name in SWAPS and not any(name in group for group in scope):
                yield expression(SWAPS[name])
        case ast.Attribute(value, name, ast.Load()):
            if name in SWAPS:
                yield changed(attr=SWAPS[name])
            if name in ("T", "mT"):
                yield value
        case ast.Subscript(value, _, ast.Load()):
            yield value
        case ast.Slice():
            for part in ("lower", "upper", "step"):
                yield changed(**{part: None})
        case ast.IfExp(test, body, orelse):
            yield from (body, orelse, changed(body=orelse, orelse=body))
        case ast.If(test, body, orelse):
            yield from (changed(test=expression("True")), changed(test=expression("False")))
            yield changed(test=ast.UnaryOp(ast.Not(), test))
        case ast.Call(function, given, keywords):
            yield from [function.value] if isinstance(function, ast.Attribute) else []
            yield from given[:1]
            match function:
                case ast.Attribute(ast.Name(name), method) if name in arrays:
                    if hasattr(torch.Tensor, f"{method}_"):
                        in_place = ast.Attribute(function.value, f"{method}_", ast.Load())
                        yield changed(func=in_place)
            plain = not any(isinstance(part, ast.Starred) for part in given)
            if len(given) > 1 and plain and ast.unparse(function).split(".")[-1] not in SYMMETRIC:
                yield changed(args=[given[1], given[0], *given[2:]])
            for i in range(len(keywords)):
                yield changed(keywords=keywords[:i] + keywords[i + 1 :])
        case ast.Tuple([first, second, *rest], ast.Load()):
            yield changed(elts=[second, first, *rest])
        case ast.Assign([target], value):
            yield ast.Pass()
            if gradients and isinstance(target, ast.Name):
                detach = ast.Attribute(value, "detach", ast.Load())
                yield changed(value=ast.Call(detach, [], []))
        case ast.Expr(ast.Call()) | ast.AugAssign() | ast.Continue() | ast.Break():
            yield ast.Pass()


def expression(text: str, **fields: Any) -> ast.expr:
    """Return an expression, with some fields replaced."""
    node = ast.parse(text, mode="eval").body
    for name, value in fields.items():
        setattr(node, name, value)
    return node


def survives(source: str, names: dict[str, Any], step: CompiledStep) -> bool:
    """Return whether a mutant is right in every case, in a process of its own."""
    if child := os.fork():
        return os.waitpid(child, 0)[1] == 0
    try:
        resource.setrlimit(resource.RLIMIT_CPU, (CPU_SECONDS, CPU_SECONDS))
        resource.setrlimit(resource.RLIMIT_AS, (8 << 30, 8 << 30))
        signal.alarm(WALL_SECONDS)
        warnings.simplefilter("ignore")
        names = names | {"operator": operator, "print": lambda *_: None}
        exec(compile(source, "<mutant>", "exec", dont_inherit=True), names)
        for case in step.cases:
            alone = dataclasses.replace(step, cases=[case])
            verdict = judge(alone, [run_case(names[step.name], alone.requests[0])])
            if verdict.status != "right":
                os._exit(1)
        os._exit(0)
    except BaseException:
        os._exit(1)


def run(exercise: Exercise, recorded: dict[str, Any]) -> dict[str, Any]:
    """Return the table of an exercise, with the reasons that are recorded."""
    names: dict[str, Any] = {"__name__": exercise.name}
    cells = {cell["id"]: "".join(cell["source"]) for cell in exercise.notebook["cells"]}
    exec(cells.get("setup", ""), names)
    table = {}
    for step in exercise.steps:
        source, before = exercise.solution(step), cells[f"{step.cell}-answer"]
        marked = SOLUTION.search(before)
        assert marked  # Exercise has looked for it
        first = before[: marked.start()].count("\n") + 1
        lines = range(first, first + marked["code"].count("\n"))
        checks = compile_step(dataclasses.replace(step, mistakes=[]), seed=SEED)
        inputs = checks.cases[0]["inputs"].items()
        arrays = {name for name, value in inputs if isinstance(value, dict)}
        reasons = recorded.get(step.name, {}).get("survivors", {})
        candidates = [*mutants(source, lines, arrays, gradients=bool(step.gradients))]
        surviving = [line for mutant, line in candidates if survives(mutant, names, checks)]
        survivors = {line: reasons.get(line, "") for line in surviving}
        table[step.name] = {
            "mutants": len(candidates),
            "killed": len(candidates) - len(surviving),
            "survivors": survivors,
        }
        print(
            f"{exercise.name}, {step.name}: {len(surviving)} of {len(candidates)} survive",
            flush=True,
        )
        print(
            "".join(f"    {line}\n" for line, why in survivors.items() if not why),
            end="",
            flush=True,
        )
        exec(source, names)
    return table


def main(chosen: list[str]) -> None:
    """Run the mutants of some exercises, or of all."""
    torch.set_num_threads(1)
    table = json.loads(TABLE.read_text(encoding="utf-8")) if TABLE.exists() else {}
    for path in sorted(FOLDER.glob("*/steps.py")):
        name = path.parent.name
        if not chosen or name in chosen:
            table[name] = run(Exercise.load(path.parent), table.get(name, {}))
            text = json.dumps(dict(sorted(table.items())), indent=1, ensure_ascii=False)
            TABLE.write_text(text + "\n", encoding="utf-8")


if __name__ == "__main__":
    main(sys.argv[1:])
