"""Read the outcomes that a process in the sandbox wrote, all of which is untrusted."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from stepgrader.judge import NOT_SHOWN, Verdict
from stepgrader.sandbox import PYTHON, Reply
from stepgrader.steps import CompiledStep
from stepgrader.worker import OWN_CELL

__all__ = ["ends", "last_line", "read_outcomes"]

ENDS = (b'{"outcomes"', b'{"failed"', b'{"undefined"')

FAILURES = {
    "time": "it ran out of time: is there an endless loop?",
    "clock": "it ran out of time: does it loop forever, or wait for something?",
    "output": "it wrote too much output",
    "ended": "the process ended before it returned a result: os._exit, a crash, or out of memory",
}


def read_outcomes(
    reply: Reply, step: CompiledStep, cells: Sequence[tuple[str, str]]
) -> list[dict[str, Any]] | Verdict:
    r"""Return the outcomes in a reply, or the verdict on an answer that gave none.

    Args:
        reply: The reply of the sandbox.
        step: The step, with the cases that were sent.
        cells: The cells that were run, as pairs of id and source, the answer's last.

    Example:
        >>> step = CompiledStep("gate", [], tolerance=1e-5, mistakes=[], cases=[{"hidden": False}])
        >>> cells = [("setup", "import math"), ("gate-answer", "def gate(x): return x")]
        >>> right = Reply("ended", b'{"outcomes": [{"returned": 0.5, "arguments": {}}]}\n')
        >>> read_outcomes(right, step, cells)
        [{'returned': 0.5, 'arguments': {}}]
        >>> read_outcomes(Reply("time", b'{"calls": "gate"}\n'), step, cells).finding
        'it ran out of time: is there an endless loop?'
    """
    *earlier, own_cell = [cell_id for cell_id, _ in cells]
    last = last_line(reply.output)
    try:
        if reply.end == "ended" and "outcomes" in last:
            return _validate(last["outcomes"], len(step.cases), dict(cells))
        if reply.end == "ended" and "failed" in last:
            outcomes = [{"raised": last["failed"]}] * len(step.cases)
            return _validate(outcomes, len(step.cases), dict(cells))
    except ValueError:
        return Verdict("wrong", finding="the output of the sandbox can't be read")
    if "undefined" in last:
        return Verdict("wrong", finding=f"the cell {own_cell} does not define {step.name}")
    cell = last.get("at")
    where = f", in {cell}, which runs before it" if cell in earlier else ""
    if any(case["hidden"] for case in step.cases):  # the name of a cell could be a message
        where = f", {NOT_SHOWN}"
    return Verdict("wrong", finding=FAILURES[reply.end] + where)


def ends(output: bytes) -> list[bytes]:
    r"""Return the lines, each whole, with which steps that ran in one process ended.

    Example:
        >>> ends(b'{"calls": "gate"}\n{"outcomes": []}\n{"at": "cell"}\n{"undefined": "layer"}\n')
        [b'{"outcomes": []}\n', b'{"undefined": "layer"}\n']
    """
    lines = output.splitlines(keepends=True)
    return [line for line in lines if line.startswith(ENDS) and line.endswith(b"\n")]


def last_line(output: bytes) -> dict[str, Any]:
    r"""Return the last whole line of an output if it is a JSON object, else an empty one.

    Example:
        >>> last_line(b'{"at": "setup"}\n{"calls": "gate"}\n{"outc')
        {'calls': 'gate'}
    """
    line = output.rpartition(b"\n")[0].rpartition(b"\n")[2]
    try:
        last = json.loads(line)
    except (ValueError, RecursionError):
        return {}
    return last if isinstance(last, dict) else {}


def _validate(outcomes: Any, count: int, cells: Mapping[str, str]) -> list[dict[str, Any]]:
    """Return outcomes that have the form of those of ``run_case``."""
    if not isinstance(outcomes, list) or len(outcomes) != count:
        raise ValueError("expected an outcome for every case")
    for outcome in outcomes:
        if not isinstance(outcome, dict):
            raise ValueError("expected an outcome")
        if "raised" in outcome:
            _validate_error(outcome["raised"], cells)
        elif "returned" not in outcome or not all(
            isinstance(outcome.get(part, {}), dict) for part in ("arguments", "gradients", "shared")
        ):
            raise ValueError("expected a result")
    return outcomes


def _validate_error(raised: Any, cells: Mapping[str, str]) -> None:
    """Validate an error; drop where Python is, and a line number that its cell does not have."""
    match raised:
        case {"type": str(), "message": str()}:
            cell, line, function = (raised.get(part) for part in ("cell", "line", "in"))
        case _:
            raise ValueError("expected an error")
    for prefix in PYTHON:  # often below a home folder, with the name of its owner
        raised["message"] = raised["message"].replace(f"{prefix}/", "")
    texts = isinstance(cell, (str, type(None))) and isinstance(function, (str, type(None)))
    if not texts or type(line) not in (int, type(None)):
        raise ValueError("expected a cell and a line")
    source = cells.get((cell or "").removeprefix(f"{OWN_CELL} ").removesuffix(">"), "")
    if not 0 < (line or 0) <= len(source.splitlines()):
        raised["line"] = None
