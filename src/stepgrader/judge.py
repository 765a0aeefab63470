"""Compare the outcome of an answer with what a step expects, and say in words what is wrong."""

from __future__ import annotations

import builtins
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from stepgrader.differences import difference, printable, short_number, with_article
from stepgrader.steps import CompiledStep, cell_stem
from stepgrader.worker.calls import OWN_CELL
from stepgrader.worker.values import Unsupported, decode

__all__ = ["Verdict", "judge", "own_cell"]

SHOWN_NUMBERS = 12
MAX_LINE = 1000


@dataclass(frozen=True)
class Verdict:
    """What came of one step.

    Args:
        status: ``right``, ``wrong``, or ``open`` if it is not written yet.
        property: The first property that failed.
        finding: What was seen to be wrong, beginning with shapes.
        mistake: Number of the known mistake that the answer equals.
        diagnosis: What that mistake says.
        example: The smallest failing input, what was expected and what came; None for a hidden one.
        case: Number of the case that failed; None for a hidden one.
    """

    status: str
    property: str | None = None
    finding: str | None = None
    mistake: int | None = None
    diagnosis: str | None = None
    example: str | None = None
    case: int | None = None


def own_cell(name: str) -> str:
    """Return what the cell of the answer to a step is called where its code has a file name."""
    return f"{OWN_CELL} {cell_stem(name)}-answer>"


def judge(step: CompiledStep, outcomes: Sequence[dict[str, Any]]) -> Verdict:
    """Judge an answer by its outcomes, one for each case of the step and in their order."""
    if len(outcomes) != len(step.cases):
        raise ValueError(f"expected {len(step.cases)} outcomes, got {len(outcomes)}")
    if unwritten := [raised for outcome in outcomes if (raised := _unwritten(outcome))]:
        return Verdict("open", finding=_waits_for(step, unwritten[0]))
    findings = (_finding(step, *pair) for pair in zip(step.cases, outcomes, strict=True))
    number, finding = next(((n, one) for n, one in enumerate(findings) if one), (None, None))
    if finding is None:
        return Verdict("right")
    case, outcome = step.cases[number], outcomes[number]
    known = _known_mistake(step, outcomes)
    return Verdict(
        "wrong",
        property=case["property"],
        finding=_hide(finding) if case["hidden"] else printable(finding.text),
        mistake=known,
        diagnosis=None if known is None else step.mistakes[known],
        example=None if case["hidden"] else _example(case, outcome, finding),
        case=None if case["hidden"] else number,
    )


def _unwritten(outcome: dict) -> dict | None:
    """Return the error of an answer that is not written. Those of torch have a message."""
    raised = outcome.get("raised") or {}
    is_unwritten = raised.get("type") == "NotImplementedError" and not raised.get("message")
    return raised if is_unwritten else None


def _waits_for(step: CompiledStep, raised: dict) -> str | None:
    waited = [name for name in step.depends_on if raised.get("cell") == own_cell(name)]
    return f"it calls {waited[0]}, which is not written yet" if waited else None


@dataclass(frozen=True)
class _Finding:
    kind: str  # what a hidden case may tell
    text: str
    place: str = "returned"
    name: str | None = None


def _hide(finding: _Finding) -> str:
    return f"{finding.kind}, on an input that is not shown"


def _finding(step: CompiledStep, case: dict, outcome: dict) -> _Finding | None:
    """Return the first thing that is wrong with an outcome: shape, value, gradient, arguments."""
    if raised := outcome.get("raised"):
        where = _place_of_error(step, raised)
        kind = f"{_kind_of_error(raised)}{where and f' in {where}'}"
        return _Finding(f"your code raised {kind}", _describe(raised, where))
    expected, tolerance = case["expected"], step.tolerance
    try:
        if found := difference(expected["returned"], outcome["returned"], tolerance):
            return _Finding(found.kind, found.text)
        for name, gradient in expected.get("gradients", {}).items():
            got = outcome["gradients"].get(name)
            if got is None:
                return _Finding(
                    "no gradient flows back",
                    f"no gradient flows back to {name}: was the result cut off from it, by "
                    "detach, item, numpy or a new tensor?",
                )
            if found := difference(gradient, got, tolerance):
                text = f"the value is right, but the gradient with respect to {name} is not: "
                return _Finding("a gradient is wrong", text + found.text, "gradients", name)
        for name, argument in case["inputs"].items():
            if difference(argument, outcome["arguments"][name], 0.0):
                text = f"the call changed its argument {name}; work on a copy"
                return _Finding("the call changes its arguments", text)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        return _Finding("the answer can't be read", f"the answer can't be read: {error}")
    return None


def _known_mistake(step: CompiledStep, outcomes: Sequence[dict]) -> int | None:
    """Return the number of the mistake whose outcome the answer has in every case."""
    for number in range(len(step.mistakes)):
        if all(
            _equals_mistake(step, case, case["mistakes"][number], outcome)
            for case, outcome in zip(step.cases, outcomes, strict=True)
        ):
            return number
    return None


def _equals_mistake(step: CompiledStep, case: dict, mistake: dict, outcome: dict) -> bool:
    tolerance = step.tolerance
    if not mistake:
        return _finding(step, case, outcome) is None
    if "raised" in mistake or "raised" in outcome:
        kinds = [(one.get("raised") or {}).get("type") for one in (mistake, outcome)]
        return kinds[0] == kinds[1]
    try:
        (part,) = mistake
        if part == "returned":
            return not difference(mistake[part], outcome[part], tolerance)
        if difference(case["expected"]["returned"], outcome["returned"], tolerance):
            return False
        return not any(
            value is not outcome[part][name]
            if value is None or outcome[part][name] is None
            else difference(value, outcome[part][name], tolerance)
            for name, value in mistake[part].items()
        )
    except (KeyError, TypeError, ValueError, AttributeError):
        return False


def _example(case: dict, outcome: dict, finding: _Finding) -> str:
    lines = ["inputs:"]
    for part in ("options", "state", "inputs"):
        lines += [f"  {name} = {_show(value)}" for name, value in (case[part] or {}).items()]
    expected, got = case["expected"][finding.place], outcome.get(finding.place)
    if finding.name is not None:
        expected, got = expected[finding.name], got[finding.name]
    what = "gradient " if finding.name else ""
    lines.append(f"expected {what}{_show(expected)}")
    if "raised" not in outcome:
        lines.append(f"got {what}{_show(got)}")
    return "\n".join(printable(line, limit=MAX_LINE) for line in lines)


def _show(data: Any) -> str:
    try:
        return _plain(decode(data))
    except ValueError:
        return "what can't be read"


def _plain(value: Any) -> str:
    if isinstance(value, np.ndarray):
        shape = f" {value.shape}" if value.shape else ""
        if value.size > SHOWN_NUMBERS or not value.size:
            return f"{value.dtype}{shape}"
        if value.dtype.kind == "f":
            return f"{_nested(value.tolist())}{shape}"
        return f"{value.tolist()}{shape}"
    if isinstance(value, (list, tuple)):
        items = ", ".join(_plain(item) for item in value[:SHOWN_NUMBERS])
        more = ", ..." if len(value) > SHOWN_NUMBERS else ""
        return f"[{items}{more}]" if isinstance(value, list) else f"({items}{more})"
    if isinstance(value, dict):
        return "{" + ", ".join(f"{n}: {_plain(v)}" for n, v in list(value.items())[:20]) + "}"
    if isinstance(value, float):
        return short_number(value)
    if isinstance(value, Unsupported):
        return with_article(printable(value.type_name))
    return printable(repr(value))


def _nested(values: Any) -> str:
    if isinstance(values, list):
        return "[" + ", ".join(_nested(value) for value in values) + "]"
    return short_number(values)


def _kind_of_error(raised: dict) -> str:
    """Name an error without repeating what a student's class may be called."""
    name = str(raised.get("type"))
    known = getattr(builtins, name, None)
    return (
        name if isinstance(known, type) and issubclass(known, Exception) else "an error of its own"
    )


def _place_of_error(step: CompiledStep, raised: dict) -> str:
    line = raised.get("line")
    if type(line) is not int or not 0 < line < 10_000:
        return ""
    if raised.get("cell") == own_cell(step.name):
        return f"line {line} of your cell"
    called = [name for name in step.depends_on if raised.get("cell") == own_cell(name)]
    return f"line {line} of {called[0]}, which it calls," if called else ""


def _describe(raised: dict, where: str) -> str:
    kind, message = (
        printable(" ".join(str(raised.get(part, "")).split())) for part in ("type", "message")
    )
    return f"{where or 'your code'} raised {kind}" + (f": {message}" if message else "")
