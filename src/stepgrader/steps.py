"""What an author writes about a step: input cases, a reference answer and known mistakes.

A step is compiled into data: inputs, the outcome that is expected, and the outcome of each known
mistake. Only the data of the visible cases are released, so a student's copy holds no reference.
"""

from __future__ import annotations

import hashlib
import itertools
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from stepgrader.differences import difference
from stepgrader.worker.values import encode

if TYPE_CHECKING:  # what is compiled already is read without torch
    import torch

__all__ = [
    "CaseSampler",
    "CompiledStep",
    "Mistake",
    "ModuleCase",
    "Step",
    "case_request",
    "cell_stem",
    "compile_step",
    "known_mistakes",
    "rounded",
]

VISIBLE_SIZES = (0, 1)
HIDDEN_SIZES = (1, 2, 3)
DIGITS = 8


class CaseSampler:
    """Random inputs of one case. The same seed gives the same inputs.

    Args:
        seed: Any integer.
        size: 0 for the smallest case, which a student may have to read; up to 3 for larger ones.

    Attributes:
        random: The generator, for other distributions.
        size: As given.

    Example:
        >>> sampler = CaseSampler(seed=0, size=0)
        >>> rows, columns = sampler.lengths(2)
        >>> sampler.normal(rows, columns).shape == (rows, columns)
        True
    """

    def __init__(self, seed: int, size: int):
        self.random = np.random.default_rng(seed)
        self.size = size

    def lengths(self, count: int, *, low: int = 2) -> tuple[int, ...]:
        """Return different sizes, at least ``low``, so that swapped axes show in the shape."""
        candidates = np.arange(low, low + count + self.size)
        return tuple(int(n) for n in self.random.permutation(candidates)[:count])

    def normal(self, *shape: int) -> torch.Tensor:
        """Return a float64 tensor ``(*shape,)`` of standard normal numbers with one decimal."""
        import torch

        return torch.from_numpy(self.array(*shape))

    def array(self, *shape: int) -> np.ndarray:
        """Return a float64 array ``(*shape,)`` of standard normal numbers with one decimal."""
        return self.random.normal(size=shape).round(1) + 0.0

    def integers(self, high: int, *shape: int) -> np.ndarray:
        """Return an int64 array ``(*shape,)`` of numbers from 0 to ``high`` - 1."""
        return self.random.integers(high, size=shape)

    def probabilities(self, *shape: int) -> np.ndarray:
        """Return a float64 array ``(*shape,)`` of positive two-decimal numbers; rows sum to one."""
        counts = 1 + self.random.multinomial(
            100 - shape[-1], np.ones(shape[-1]) / shape[-1], size=shape[:-1]
        )
        return counts / 100


@dataclass(frozen=True)
class ModuleCase:
    """A case of a module: how to construct it, the parameters to load, and the inputs of the call.

    Args:
        inputs: Arguments of the call, by name.
        options: Arguments of the constructor, by name. They are passed by position.
        state: Parameters ``(...)`` for ``load_state_dict``, in float64; None to load none.

    Example:
        >>> import torch
        >>> case = ModuleCase(
        ...     inputs={"x": torch.ones(1, 2)},
        ...     options={"in_features": 2, "out_features": 1},
        ...     state={"weight": torch.tensor([[3.0, 4.0]]), "bias": torch.zeros(1)},
        ... )
        >>> layer = torch.nn.Linear(*case.options.values())
        >>> layer.load_state_dict(case.state)
        <All keys matched successfully>
        >>> layer(**{"input": case.inputs["x"]}).item()
        7.0
    """

    inputs: Mapping[str, Any]
    options: Mapping[str, Any]
    state: Mapping[str, torch.Tensor] | None = None


class Mistake:
    """A known wrong answer: edits of the notebook's solution, or a function of its own.

    Args:
        message: What is wrong, for the student, in a sentence or two.
        edits: Pairs of an old and a new text. Each old text must stand exactly once in the
            solution of the step. All pairs replace at the same time, so two texts can be swapped.
            The result runs after the setup cell and the solutions of the earlier steps.
        answer: Instead of edits, the wrong function or class. It must stand on its own: it may use
            the names of the notebook's setup cell and nothing else.

    Attributes:
        message: As given.
        edits: As given.
        answer: The wrong function or class. If there are edits, an ``Exercise`` runs them, and the
            answer is None before that.

    Raises:
        ValueError: There are neither edits nor an answer.

    Example:
        >>> mistake = Mistake("You subtract.", ("x + y", "x - y"))
        >>> mistake.edit("return x + y")
        'return x - y'
        >>> Mistake("You return x as it is.", answer=lambda x: x).answer(5)
        5
    """

    def __init__(
        self, message: str, *edits: tuple[str, str], answer: Callable[..., Any] | None = None
    ):
        if not edits and answer is None:
            raise ValueError(f"the mistake {message!r}: expected edits or an answer, got neither")
        self.message = message
        self.edits = edits
        self.answer = answer

    def edit(self, solution: str) -> str:
        """Return the wrong answer's source, given that of the right one.

        Raises:
            ValueError: An old text does not stand exactly once in the solution, two of them
                overlap, or the edits change nothing.
        """
        places = []
        for old, new in self.edits:
            if (count := solution.count(old)) != 1:
                raise ValueError(f"expected {old!r} once in the solution, found it {count} times")
            start = solution.index(old)
            places.append((start, start + len(old), new))
        places.sort()
        for (_, end, _), (start, next_end, _) in itertools.pairwise(places):
            if start < end:
                raise ValueError(f"the edit of {solution[start:next_end]!r} overlaps another one")
        edited = solution
        for start, end, new in reversed(places):
            edited = edited[:start] + new + edited[end:]
        if edited == solution:
            raise ValueError(f"the edits {list(self.edits)} leave the solution as it is")
        return edited


def known_mistakes(*parts: str | tuple[str, str] | Callable[..., Any]) -> list[Mistake]:
    """Return mistakes that are written one after another, a line for each part.

    Args:
        *parts: Of each mistake first its message, and then its edits or one function or class,
            as in ``Mistake``.

    Raises:
        ValueError: The first part is no message, or a message is not followed by edits or by one
            function or class.

    Example:
        >>> mistakes = known_mistakes(
        ...     "You subtract.",
        ...     ("x + y", "x - y"),
        ...     "You return x as it is.",
        ...     lambda x, y: x,
        ... )
        >>> mistakes[0].message, mistakes[0].edits
        ('You subtract.', (('x + y', 'x - y'),))
        >>> mistakes[1].message, mistakes[1].answer(3, 4)
        ('You return x as it is.', 3)
    """
    grouped: list[tuple[str, list[tuple[str, str]], list[Callable[..., Any]]]] = []
    for part in parts:
        if isinstance(part, str):
            grouped.append((part, [], []))
        elif not grouped:
            raise ValueError(f"expected the message of a mistake first, got {part!r}")
        elif isinstance(part, tuple):
            grouped[-1][1].append(part)
        else:
            grouped[-1][2].append(part)
    for message, edits, answers in grouped:
        if len(answers) > 1 or (edits and answers):
            raise ValueError(
                f"the mistake {message!r}: expected edits or one answer, got {[*edits, *answers]}"
            )
    return [
        Mistake(message, *edits, answer=next(iter(answers), None))
        for message, edits, answers in grouped
    ]


@dataclass(frozen=True)
class Step:
    """One graded step of an exercise.

    Args:
        name: Name of the function or class that the student writes.
        reference: An independent implementation of the right answer.
        cases: Functions that make inputs, by the property that these test, in the order of
            testing. Each takes a ``CaseSampler`` and returns the arguments by name, or a
            ``ModuleCase``.
        mistakes: Known wrong answers, at least three, as ``known_mistakes`` returns them.
        alternatives: Other right answers, at least two. They may use the names of the notebook's
            setup cell, and earlier steps from ``stepgrader.exercises.solutions``.
        gradients: Names of the inputs with respect to which gradients are compared too; of a
            module with gradients, all parameters are.
        depends_on: Names of earlier steps that a usual answer calls.
        tolerance: An answer is right if it is within ``tolerance * max(1, |expected|)``.
        exact_types: Whether the results must also be of the reference's types: a tensor where it
            returns a tensor, with the same type of numbers.
        new_results: Whether the results must not share memory with the arguments.

    Example:
        >>> double = Step(
        ...     "double",
        ...     reference=lambda x: x + x,
        ...     cases={"a vector": lambda sampler: {"x": sampler.normal(2)}},
        ...     mistakes=[Mistake("You return x as it is.", answer=lambda x: x)],
        ...     alternatives=[lambda x: 2 * x],
        ... )
        >>> compile_step(double).mistakes
        ['You return x as it is.']
    """

    name: str
    reference: Callable[..., Any]
    cases: Mapping[str, Callable[[CaseSampler], Mapping[str, Any] | ModuleCase]]
    mistakes: Sequence[Mistake]
    alternatives: Sequence[Callable[..., Any]]
    gradients: Sequence[str] = ()
    depends_on: Sequence[str] = ()
    tolerance: float = 1e-5
    exact_types: bool = False
    new_results: bool = False

    @property
    def cell(self) -> str:
        """The prefix of the ids of the step's cells."""
        return cell_stem(self.name)


def cell_stem(name: str) -> str:
    """Return the prefix of the ids of a step's cells.

    Example:
        >>> cell_stem("forget_gate")
        'forget-gate'
    """
    return name.lower().replace("_", "-")


@dataclass(frozen=True)
class CompiledStep:
    """A step as data.

    Args:
        name: Name of the function or class.
        depends_on: See ``Step``.
        tolerance: See ``Step``.
        mistakes: The message of each known mistake.
        cases: For each case ``property``, ``hidden``, ``inputs``, ``gradients``, ``options``,
            ``state``, and outcomes as ``run_case`` returns them: ``expected``, and ``mistakes``,
            of which only that is kept by which they differ from the expected one.
        exact_types: See ``Step``.
        new_results: See ``Step``.
        variations: Small changes of the author's solution: ``change`` says in words what differs,
            and ``marks`` tell its outcomes in the visible cases.
        smaller: Cases with smaller inputs than the visible ones, for an example that can be read.

    Example:
        >>> cases = {"a vector": lambda sampler: {"x": sampler.array(2)}}
        >>> step = compile_step(Step("double", lambda x: x + x, cases, [], []))
        >>> case = step.cases[0]
        >>> case["property"], case["expected"]["returned"]["shape"]
        ('a vector', [2])
        >>> sorted(step.requests[0])  # what is sent into the sandbox holds no expected value
        ['gradients', 'inputs', 'options', 'state']
    """

    name: str
    depends_on: list[str]
    tolerance: float
    mistakes: list[str]
    cases: list[dict[str, Any]] = field(repr=False)
    exact_types: bool = False
    new_results: bool = False
    variations: list[dict[str, Any]] = field(default_factory=list, repr=False)
    smaller: list[dict[str, Any]] = field(default_factory=list, repr=False)

    @property
    def visible(self) -> CompiledStep:
        """The step with the cases that students may see."""
        return replace(self, cases=[case for case in self.cases if not case["hidden"]])

    @property
    def hidden(self) -> CompiledStep:
        """The step with the cases that students may not see."""
        return replace(self, cases=[case for case in self.cases if case["hidden"]])

    @property
    def requests(self) -> list[dict[str, Any]]:
        """The part of the cases that is sent into the sandbox."""
        keys = ("inputs", "gradients", "options", "state")
        return [{key: case[key] for key in keys} for case in self.cases]


def compile_step(step: Step, *, seed: int | None = None) -> CompiledStep:
    """Compute the inputs and the expected outcomes of a step.

    Args:
        step: The step.
        seed: None for the visible cases only, which are always the same; or the seed of the
            hidden ones, which then follow the visible ones.

    Returns:
        The step as data.

    Raises:
        ValueError: The reference raises an error on a case, or a mistake has no answer yet.

    Example:
        >>> cases = {"a vector": lambda sampler: {"x": sampler.normal(2)}}
        >>> step = Step("double", lambda x: x + x, cases, mistakes=[], alternatives=[])
        >>> compiled = compile_step(step, seed=1)
        >>> len(compiled.visible.cases), len(compiled.hidden.cases)
        (2, 3)
    """
    plan: list[tuple[str, int, int | None]] = [
        (name, size, None) for name in step.cases for size in VISIBLE_SIZES
    ]
    if seed is not None:
        plan += [(name, size, seed) for name in step.cases for size in HIDDEN_SIZES]
    return CompiledStep(
        name=step.name,
        depends_on=list(step.depends_on),
        tolerance=step.tolerance,
        mistakes=[mistake.message for mistake in step.mistakes],
        cases=[_compile_case(step, *planned) for planned in plan],
        exact_types=step.exact_types,
        new_results=step.new_results,
    )


def case_request(step: Step, name: str, size: int, seed: int | str | None) -> dict[str, Any]:
    """Return the inputs of one case as data, as ``run_case`` takes them.

    Args:
        step: The step.
        name: The property that the case tests.
        size: Size of the case, from 0 to 3.
        seed: As for ``compile_step``; a text for inputs that are neither visible nor hidden ones.

    Example:
        >>> cases = {"a vector": lambda sampler: {"x": sampler.array(2)}}
        >>> step = Step("double", lambda x: x + x, cases, mistakes=[], alternatives=[])
        >>> case_request(step, "a vector", size=0, seed=1)["inputs"]["x"]["shape"]
        [2]
    """
    sampled = step.cases[name](CaseSampler(_seed(step.name, name, size, seed), size))
    is_module = isinstance(sampled, ModuleCase)
    module = sampled if isinstance(sampled, ModuleCase) else ModuleCase(sampled, options={})
    return {
        "inputs": _encode(module.inputs),
        "gradients": list(step.gradients),
        "options": _encode(module.options) if is_module else None,
        "state": _encode(module.state) if module.state is not None else None,
    }


def _compile_case(step: Step, name: str, size: int, seed: int | None) -> dict[str, Any]:
    from stepgrader.worker.calls import run_case

    request = case_request(step, name, size, seed)
    case = {"property": name, "hidden": seed is not None, **request}
    expected = run_case(step.reference, case)
    if "raised" in expected:
        raise ValueError(f"{step.name}, {name!r}: the reference raises {expected['raised']}")
    outcomes = [run_case(answer, case) for answer in _wrong_answers(step)]
    return case | {
        "expected": {
            part: expected[part] for part in ("returned", "gradients") if part in expected
        },
        "mistakes": [_first_difference(step, expected, outcome) for outcome in outcomes],
    }


def _wrong_answers(step: Step) -> Iterator[Callable[..., Any]]:
    for mistake in step.mistakes:
        if mistake.answer is None:
            raise ValueError(
                f"{step.name}, the mistake {mistake.message!r}: its edits need the notebook's "
                "solution; compile the step of an Exercise"
            )
        yield mistake.answer


def _first_difference(
    step: Step, expected: dict[str, Any], outcome: dict[str, Any]
) -> dict[str, Any]:
    if "raised" in outcome:
        return {"raised": {"type": outcome["raised"]["type"]}}
    tolerance = step.tolerance
    if difference(
        expected["returned"], outcome["returned"], tolerance, exact_types=step.exact_types
    ):
        return {"returned": outcome["returned"]}
    for part, allowed in (("gradients", tolerance), ("arguments", 0.0)):
        pairs = ((value, outcome[part][name]) for name, value in expected.get(part, {}).items())
        if any(difference(*pair, allowed) for pair in pairs):
            return {part: outcome[part]}
    if step.new_results and "shared" in outcome:
        return {"shared": outcome["shared"]}
    return {}


def rounded(data: Any) -> Any:
    """Return an outcome with its numbers rounded to the digits that are released.

    Example:
        >>> rounded({"returned": [1 / 3, 2]})
        {'returned': [0.33333333, 2]}
    """
    if isinstance(data, float):
        return float(f"{data:.{DIGITS}g}") + 0.0
    if isinstance(data, list):
        return [rounded(item) for item in data]
    if isinstance(data, dict):
        return {name: rounded(item) for name, item in data.items()}
    return data


def _encode(values: Mapping[str, Any]) -> dict[str, Any]:
    return {name: encode(value) for name, value in values.items()}


def _seed(*parts: Any) -> int:
    return int.from_bytes(hashlib.sha256(json.dumps(parts).encode()).digest()[:8])
