"""Compare the outcomes of an answer with the expected ones, and describe what is wrong."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any

import numpy as np

from stepgrader.diagnosis import explain, numeric_parts
from stepgrader.differences import (
    difference,
    near,
    printable,
    short_number,
    telling_digits,
    with_article,
)
from stepgrader.steps import CompiledStep, cell_stem
from stepgrader.worker import OWN_CELL
from stepgrader.worker.values import Unsupported, decode
from stepgrader.worker.walls import NO_PROCESS, NO_THREAD

__all__ = ["NOT_SHOWN", "REFUSAL", "SHARES_MEMORY", "Verdict", "judge", "own_cell"]

NOT_SHOWN = "on a hidden input"
"""Where something went wrong, if the case is hidden."""
SHARES_MEMORY = "the result shares memory with an argument"
"""The kind of finding of a result that uses the memory of an argument."""
REFUSAL = "an answer that is graded can't start threads or processes, or use the network"
"""What is said of an error by which the sandbox refuses something."""
REFUSED = (NO_THREAD, NO_PROCESS)  # the messages of such errors
MAX_SHOWN = 12  # numbers or items in an example
MAX_LINE = 1000
# What may be shown of an error on a hidden case. Of all names, or of lines, a student could choose
# one to say what the input was.
COARSE_ERRORS = ("IndexError", "RuntimeError", "TypeError", "ValueError")


@dataclass(frozen=True)
class Verdict:
    """The verdict on an answer.

    Args:
        status: ``right``; ``wrong``; ``open`` if it is not written yet; or ``missing``.
        property: The first property that failed.
        finding: The first thing that is wrong: a shape, a value, a gradient or an argument.
        mistake: Number of the known mistake that the answer makes.
        diagnosis: Message of that mistake.
        hint: If there is none, how the results of the visible cases differ from the expected ones.
        example: The smallest failing input with expected and actual result; None for a hidden case.
        case: Number of the case that failed; None for a hidden case.
        gradient: Name of the input or parameter whose gradient is wrong there.
        argument: Name of the argument that the call changes there, or whose memory the result uses.
        kind: The kind of the finding, without any value.
        properties: For each property that was tested, in order, whether the answer has it.

    Example:
        >>> verdict = Verdict("wrong", property="a batch of one", diagnosis="You drop the batch.")
        >>> verdict.example is None  # of a hidden case, no input is shown
        True
    """

    status: str
    property: str | None = None
    finding: str | None = None
    mistake: int | None = None
    diagnosis: str | None = None
    hint: str | None = None
    example: str | None = None
    case: int | None = None
    gradient: str | None = None
    argument: str | None = None
    kind: str | None = None
    properties: dict[str, bool] = field(default_factory=dict)

    def share(self) -> Fraction:
        """Return the share of the points that an answer earns, if each property earns one.

        The first property is the ordinary case. Without it an answer earns nothing, because what
        it does on special cases, such as empty inputs, may be right by chance.

        Example:
            >>> Verdict("wrong", properties={"a batch": True, "a batch of none": False}).share()
            Fraction(1, 2)
            >>> Verdict("wrong", properties={"a batch": False, "a batch of none": True}).share()
            Fraction(0, 1)
        """
        if self.status == "right":
            return Fraction(1)
        held = list(self.properties.values())
        return Fraction(sum(held), len(held)) if held and held[0] else Fraction(0)

    def holds(self) -> list[str]:
        """Return the properties that the answer has."""
        return [name for name, holds in self.properties.items() if holds]

    def fails(self) -> list[str]:
        """Return the properties that it does not have."""
        return [name for name, holds in self.properties.items() if not holds]


def own_cell(name: str) -> str:
    """Return the file name of the code in the answer cell of a step.

    Example:
        >>> own_cell("forget_gate")
        '<answer forget-gate-answer>'
    """
    return f"{OWN_CELL} {cell_stem(name)}-answer>"


def judge(step: CompiledStep, outcomes: Sequence[dict[str, Any]]) -> Verdict:
    """Judge an answer.

    Args:
        step: The step.
        outcomes: The outcome of each case, in their order, as ``worker.calls.run_case`` returns it.

    Returns:
        The verdict.

    Raises:
        ValueError: The numbers of cases and outcomes differ.

    Example:
        >>> from stepgrader.steps import Mistake, Step, compile_step
        >>> from stepgrader.worker.calls import run_case
        >>> cases = {"a vector": lambda sampler: {"x": sampler.normal(2)}}
        >>> mistakes = [Mistake("You return x as it is.", answer=lambda x: x)]
        >>> step = compile_step(Step("double", lambda x: x + x, cases, mistakes, []))
        >>> verdict = judge(step, [run_case(lambda x: x / 1, case) for case in step.requests])
        >>> verdict.status, verdict.diagnosis
        ('wrong', 'You return x as it is.')
    """
    if len(outcomes) != len(step.cases):
        raise ValueError(f"expected {len(step.cases)} outcomes, got {len(outcomes)}")
    pairs = zip(step.cases, outcomes, strict=True)
    visible = [outcome for case, outcome in pairs if not case["hidden"]]
    if unwritten := [raised for outcome in visible if (raised := _unwritten(outcome))]:
        return Verdict("open", finding=_waits_for(step, unwritten[0]))
    findings = [_finding(step, *pair) for pair in zip(step.cases, outcomes, strict=True)]
    properties: dict[str, bool] = {}
    for case, finding in zip(step.cases, findings, strict=True):
        holds = properties.get(case["property"], True)
        properties[case["property"]] = holds and finding is None
    failures = ((number, finding) for number, finding in enumerate(findings) if finding)
    if (failure := next(failures, None)) is None:
        return Verdict("right", properties=properties)
    number, finding = failure
    case, outcome = step.cases[number], outcomes[number]
    mistake = _known_mistake(step, outcomes)
    return Verdict(
        "wrong",
        property=case["property"],
        finding=_hide(finding) if case["hidden"] else printable(finding.text),
        mistake=mistake,
        diagnosis=None if mistake is None else step.mistakes[mistake],
        hint=explain(step, outcomes) if mistake is None else None,
        example=None if case["hidden"] else _example(case, outcome, finding, step.tolerance),
        case=None if case["hidden"] else number,
        gradient=None if case["hidden"] else finding.gradient,
        argument=None if case["hidden"] else finding.argument,
        kind=finding.kind,
        properties=properties,
    )


def _unwritten(outcome: dict[str, Any]) -> dict[str, Any] | None:
    """Return the error of an answer that is not written yet. Errors of torch have a message."""
    raised = outcome.get("raised") or {}
    is_unwritten = raised.get("type") == "NotImplementedError" and not raised.get("message")
    return raised if is_unwritten else None


def _waits_for(step: CompiledStep, raised: dict[str, Any]) -> str | None:
    called = _called(step, raised)
    return f"it calls {called}, which is not written yet" if called else None


def _called(step: CompiledStep, raised: dict[str, Any]) -> str | None:
    """Return the earlier step that an error came from, which may call others in between."""
    cell, function = raised.get("cell"), raised.get("in")
    if cell == own_cell(step.name):
        return None
    names = [*step.depends_on, *([function] if isinstance(function, str) else [])]
    return next((name for name in names if cell == own_cell(name)), None)


@dataclass(frozen=True)
class _Finding:
    kind: str  # all that may be shown of a hidden case
    text: str
    place: str = "returned"
    name: str | None = None
    gradient: str | None = None
    argument: str | None = None


def _hide(finding: _Finding) -> str:
    return f"{finding.kind}, {NOT_SHOWN}"


def _finding(step: CompiledStep, case: dict[str, Any], outcome: dict[str, Any]) -> _Finding | None:
    """Return the first thing that is wrong with an outcome: shape, value, gradient, arguments."""
    if raised := outcome.get("raised"):
        where = _place_of_error(step, raised)
        kind = raised.get("type")
        reported = kind if kind in COARSE_ERRORS else "an error"
        return _Finding(f"your code raised {reported}", _describe(raised, where))
    expected, tolerance = case["expected"], step.tolerance
    try:
        if different := difference(
            expected["returned"], outcome["returned"], tolerance, exact_types=step.exact_types
        ):
            return _Finding(different.kind, different.text)
        for name, gradient in expected.get("gradients", {}).items():
            got = outcome["gradients"].get(name)
            if got is None:
                return _Finding(
                    "no gradient flows back",
                    f"no gradient flows back to {name}: is the graph cut by detach, item, numpy "
                    "or a new tensor?",
                    gradient=name,
                )
            if different := difference(gradient, got, tolerance):
                text = f"the value is right, but the gradient with respect to {name} is not: "
                return _Finding(
                    "a gradient is wrong", text + different.text, "gradients", name, gradient=name
                )
        for name, argument in case["inputs"].items():
            if difference(argument, outcome["arguments"][name], 0.0):
                text = f"the call changed its argument {name}; work on a copy"
                return _Finding("the call changes its arguments", text, argument=name)
        if step.new_results and outcome.get("shared"):
            name = next(iter(outcome["shared"]))
            text = f"the result shares memory with the argument {name}; return new tensors"
            return _Finding(SHARES_MEMORY, text, argument=name)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        return _Finding("the answer can't be read", f"the answer can't be read: {error}")
    return None


def _known_mistake(step: CompiledStep, outcomes: Sequence[dict[str, Any]]) -> int | None:
    """Return the number of the mistake that has the outcome of the answer in every case."""
    for number in range(len(step.mistakes)):
        if all(
            _equals_mistake(step, case, case["mistakes"][number], outcome)
            for case, outcome in zip(step.cases, outcomes, strict=True)
        ):
            return number
    return None


def _equals_mistake(
    step: CompiledStep, case: dict[str, Any], mistake: dict[str, Any], outcome: dict[str, Any]
) -> bool:
    tolerance = step.tolerance
    if not mistake:
        return _finding(step, case, outcome) is None
    if "raised" in mistake or "raised" in outcome:
        expected, got = ((each.get("raised") or {}).get("type") for each in (mistake, outcome))
        return expected == got
    try:
        (part,) = mistake
        if part == "returned":
            return not difference(
                mistake[part], outcome[part], tolerance, exact_types=step.exact_types
            )
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


def _example(
    case: dict[str, Any], outcome: dict[str, Any], finding: _Finding, tolerance: float
) -> str:
    expected, got = case["expected"][finding.place], outcome.get(finding.place)
    if finding.name is not None and got is not None:
        expected, got = expected[finding.name], got[finding.name]
    label = f"gradient[{finding.name!r}]" if finding.name else "result"
    wrong = None if "raised" in outcome else _first_wrong(expected, got, label, tolerance)
    lines = ["inputs:"]
    for part in ("options", "state", "inputs"):
        for name, value in (case[part] or {}).items():
            lines.append(f"  {name}{_show_part(value, wrong)}")
    digits = {} if wrong is None else {"digits": wrong.digits}
    if wrong is not None and (wrong.name != label or wrong.expected.size > MAX_SHOWN):
        for word, array in (("expected", wrong.expected), ("got", wrong.got)):
            lines.append(f"{word} {wrong.name}{_block(array, wrong.place, **digits)}")
    else:
        label = "gradient " if finding.name else ""
        lines.append(f"expected {label}{_show(expected, **digits)}")
        if "raised" not in outcome:
            lines.append(f"got {label}{_show(got, **digits)}")
    return "\n".join(printable(line, limit=MAX_LINE) for line in lines)


@dataclass(frozen=True)
class _Wrong:
    """The first array of a result with a wrong number, and where in it that is."""

    name: str
    expected: np.ndarray
    got: np.ndarray
    place: tuple[int, ...]
    digits: int  # that show which numbers are wrong


def _first_wrong(expected: Any, got: Any, name: str, tolerance: float) -> _Wrong | None:
    """Return the first wrong number; None if results do not have the expected form before it."""
    try:
        parts = zip(
            numeric_parts(decode(expected), name), numeric_parts(decode(got), name), strict=True
        )
        for (part, right), (other, array) in parts:
            if part != other or right.shape != array.shape:
                return None
            close = near(right.astype(float), array.astype(float), tolerance)
            if not close.all():
                place = tuple(int(i) for i in np.argwhere(~close)[0])
                digits = telling_digits(right[~close], array[~close])
                return _Wrong(part, right, array, place, digits)
    except ValueError:
        pass
    return None


def _show_part(data: Any, wrong: _Wrong | None) -> str:
    """Return an input; of one with many numbers the part that a wrong number may come from."""
    value = decode(data)
    if not isinstance(value, np.ndarray) or value.size <= MAX_SHOWN:
        return f" = {_show(data)}"
    place: tuple[int, ...] = ()
    if wrong is not None:
        shapes = zip(wrong.place, wrong.expected.shape, value.shape, strict=False)
        shared = itertools.takewhile(lambda each: each[1] == each[2], shapes)
        place = tuple(index for index, _, _ in shared)
    return _block(value, place + (0,) * (value.ndim - len(place)))


def _block(array: np.ndarray, place: tuple[int, ...], digits: int = 4) -> str:
    """Return the largest block around a place that can be read, with its index."""
    fixed = next(n for n in range(array.ndim + 1) if array[place[:n]].size <= MAX_SHOWN)
    if fixed == array.ndim > 0:  # the last axis alone has too many numbers
        start = max(0, min(place[-1] - MAX_SHOWN // 2, array.shape[-1] - MAX_SHOWN))
        block = array[place[:-1]][start : start + MAX_SHOWN]
        index = ", ".join([*map(str, place[:-1]), f"{start}:{start + MAX_SHOWN}"])
    else:
        block, index = array[place[:fixed]], ", ".join(map(str, place[:fixed]))
    values = _nested(block.tolist(), digits) if array.dtype.kind == "f" else block.tolist()
    if not index:  # all of it
        return f" = {values} {array.shape}" if array.shape else f" = {values}"
    return f"[{index}] = {values}, of {array.dtype} {array.shape}"


def _show(data: Any, digits: int = 4) -> str:
    try:
        return _plain(decode(data), digits)
    except ValueError:
        return "a value that can't be read"


def _plain(value: Any, digits: int) -> str:
    if isinstance(value, np.ndarray):
        shape = f" {value.shape}" if value.shape else ""
        if value.size > MAX_SHOWN or not value.size:
            return f"{value.dtype}{shape}"
        if value.dtype.kind == "f":
            return f"{_nested(value.tolist(), digits)}{shape}"
        return f"{value.tolist()}{shape}"
    if isinstance(value, (list, tuple)):
        items = ", ".join(_plain(item, digits) for item in value[:MAX_SHOWN])
        more = ", ..." if len(value) > MAX_SHOWN else ""
        return f"[{items}{more}]" if isinstance(value, list) else f"({items}{more})"
    if isinstance(value, dict):
        items = ", ".join(f"{n}: {_plain(item, digits)}" for n, item in list(value.items())[:20])
        return "{" + items + "}"
    if isinstance(value, float):
        return short_number(value, digits)
    if isinstance(value, Unsupported):
        return with_article(printable(value.type_name))
    return printable(repr(value))


def _nested(values: Any, digits: int) -> str:
    if isinstance(values, list):
        return "[" + ", ".join(_nested(value, digits) for value in values) + "]"
    return short_number(values, digits)


def _place_of_error(step: CompiledStep, raised: dict[str, Any]) -> str:
    line = raised.get("line")
    if type(line) is not int or not 0 < line < 10_000:
        return ""
    if raised.get("cell") == own_cell(step.name):
        return f"line {line} of your cell"
    called = _called(step, raised)
    return f"line {line} of {called}, which it calls," if called else ""


def _describe(raised: dict[str, Any], where: str) -> str:
    kind, message = (
        printable(" ".join(str(raised.get(part, "")).split())) for part in ("type", "message")
    )
    text = f"{where or 'your code'} raised {kind}" + (f": {message}" if message else "")
    refused = any(words in message for words in REFUSED)
    return f"{text}: {REFUSAL}" if refused else text
