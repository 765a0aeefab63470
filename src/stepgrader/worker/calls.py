"""Call an answer on one case and return the outcome."""

from __future__ import annotations

import copy
import warnings
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch

from . import OWN_CELL
from .process_state import reset_settings, usual_settings
from .values import MAX_VALUES, decode, encode

__all__ = ["describe_error", "run_case", "shared_names", "weighted_sum"]

SYNTAX_ERRORS = (SyntaxError, IndentationError, TabError)


def run_case(
    answer: Callable[..., Any], case: dict[str, Any], *, files: Mapping[str, str] | None = None
) -> dict[str, Any]:
    """Call a function, or construct and call a module, and return the outcome as JSON data.

    It is called with the usual settings of torch and NumPy, whatever other code has set.

    Args:
        answer: The function, or the class of a module.
        case: ``inputs``: the arguments by name, encoded; ``gradients``: names of the inputs whose
            gradients are wanted; and for a class ``options``, its arguments by name, and ``state``,
            the parameters to load (or None for neither).
        files: In a notebook kernel, the answers' cells by the file names of their code.

    Returns:
        ``returned``, the encoded result, ``arguments``, the inputs as the call left them, and, if
        there are any, ``shared`` with the names of the inputs whose memory the result uses, and
        ``gradients`` of the sum of all results, each weighted with cos(1), cos(2), ..., with
        respect to the named inputs and to all loaded parameters. Or ``raised``: type, message and
        line of an error.

    Example:
        >>> case = {"inputs": {"x": 1.5}, "gradients": [], "options": None, "state": None}
        >>> run_case(lambda x: 2 * x, case)
        {'returned': 3.0, 'arguments': {'x': 1.5}}
    """
    try:
        with warnings.catch_warnings(), usual_settings():
            warnings.simplefilter("ignore")
            return _run(answer, case)
    except (Exception, SystemExit) as error:
        return {"raised": describe_error(error, files)}


def _run(answer: Callable[..., Any], case: dict[str, Any]) -> dict[str, Any]:
    inputs = {name: decode(value, tensors=True) for name, value in case["inputs"].items()}
    watched = {name: inputs[name].requires_grad_() for name in case["gradients"]}
    # Answers get tensors that are not leaves, so that a change in place shows in the argument and
    # does not raise an error of autograd.
    arguments = {
        name: value * 1 if name in watched else copy.deepcopy(value)
        for name, value in inputs.items()
    }
    if case.get("options") is not None:
        module = answer(*(decode(value, tensors=True) for value in case["options"].values()))
        if case.get("state") is not None:
            module.double()
            state = {name: decode(value, tensors=True) for name, value in case["state"].items()}
            _load(module, state)
            if case["gradients"]:
                watched |= dict(module.named_parameters())
        answer = module
    reset_settings()
    returned = answer(*arguments.values())
    reset_settings()
    outcome = {"returned": encode(returned)}
    if watched:
        outcome["gradients"] = {
            name: encode(gradient) for name, gradient in _gradients(returned, watched).items()
        }
    outcome["arguments"] = {name: encode(value) for name, value in arguments.items()}
    if shared := shared_names(returned, arguments):
        outcome["shared"] = dict.fromkeys(shared, True)
    return outcome


def _load(module: torch.nn.Module, state: Mapping[str, torch.Tensor]) -> None:
    """Load the parameters. Buffers that the module keeps for itself, such as a mask, may stay."""
    own = module.state_dict()
    buffers = {name: own[name] for name, _ in module.named_buffers() if name in own}
    try:
        module.load_state_dict(buffers | dict(state))
    except RuntimeError as error:
        if (name := _plain_collection(module)) is None:
            raise
        raise RuntimeError(
            f"torch does not see the layers or parameters in self.{name}: use nn.ModuleList, "
            f"nn.ModuleDict or nn.ParameterList. {error}"
        ) from error


def _plain_collection(module: torch.nn.Module) -> str | None:
    """Return the name of an attribute that holds layers or parameters in a list, tuple or dict."""
    registered = vars(torch.nn.Module())
    for part in module.modules():
        for name, value in vars(part).items():
            if name in registered or not isinstance(value, (list, tuple, dict)):
                continue
            items = value.values() if isinstance(value, dict) else value
            if any(isinstance(item, (torch.nn.Module, torch.nn.Parameter)) for item in items):
                return name
    return None


def _gradients(returned: Any, watched: dict[str, torch.Tensor]) -> dict[str, torch.Tensor | None]:
    if not any(leaf.requires_grad for leaf in _leaves(returned)):
        return dict.fromkeys(watched)
    total = weighted_sum(returned)
    gradients = torch.autograd.grad(total, list(watched.values()), allow_unused=True)
    return {
        name: torch.zeros_like(value) if gradient is None else gradient
        for (name, value), gradient in zip(watched.items(), gradients, strict=True)
    }


def weighted_sum(returned: Any) -> torch.Tensor:
    r"""Return the sum of all numbers in a result, weighted with cos(1), cos(2), and so on.

    .. math:: \sum_{i=1}^{n} x_i \cos i

    for the n numbers x of all tensors of a floating type, one after the other.

    Shape:
        result: a float64 scalar ``()``.

    Example:
        >>> round(weighted_sum((torch.tensor(1.0), torch.tensor([2.0]))).item(), 4)
        -0.292
    """
    # One sequence of weights for all, so that a list of rows counts like the stacked rows.
    leaves = [torch.zeros(0, dtype=torch.float64), *_leaves(returned)]  # there may be none
    joined = torch.cat([leaf.double().reshape(-1) for leaf in leaves])
    return joined @ torch.arange(1, len(joined) + 1, dtype=torch.float64).cos()


def _leaves(value: Any) -> list[torch.Tensor]:
    if isinstance(value, torch.Tensor):
        return [value] if value.is_floating_point() else []
    if isinstance(value, dict):
        value = list(value.values())
    if isinstance(value, (list, tuple)):
        return [leaf for item in value for leaf in _leaves(item)]
    return []


def shared_names(returned: Any, arguments: Mapping[str, Any]) -> list[str]:
    """Return the names of the arguments whose memory a result uses.

    Example:
        >>> x = np.ones((2, 3))
        >>> shared_names((x[0], x[1]), {"x": x, "y": x + 1})
        ['x']
    """
    used = _memory(returned)
    return [name for name, value in arguments.items() if used & _memory(value)]


def _memory(value: Any) -> set[int]:
    """Return the addresses of the memory that holds the numbers of a value's tensors and arrays."""
    addresses: set[int] = set()
    pending = [value]
    for _ in range(MAX_VALUES):  # a result with more is refused
        if not pending:
            break
        part = pending.pop()
        if isinstance(part, torch.Tensor):
            addresses.add(part.untyped_storage().data_ptr())
        elif isinstance(part, np.ndarray):
            while isinstance(part.base, np.ndarray):
                part = part.base
            addresses.add(part.ctypes.data if part.size else 0)
        elif isinstance(part, (list, tuple, dict)):
            pending.extend(part.values() if isinstance(part, dict) else part)
    return addresses - {0}  # that of no numbers


def describe_error(error: BaseException, files: Mapping[str, str] | None = None) -> dict[str, Any]:
    """Return type and message of an error and, if it came from an answer's cell, where.

    Example:
        >>> describe_error(ValueError("too large"))
        {'type': 'ValueError', 'message': 'too large', 'cell': None, 'line': None, 'in': None}
    """
    cell: str | None = None
    line: int | None = None
    function: str | None = None  # or class
    trace = error.__traceback__
    while trace is not None:
        name = trace.tb_frame.f_code.co_filename
        name = (files or {}).get(name, name)
        if name.startswith(OWN_CELL):
            cell, line = name, trace.tb_lineno
            function = trace.tb_frame.f_code.co_qualname.partition(".")[0][:100]
        trace = trace.tb_next
    if isinstance(error, SyntaxError) and (error.filename or "").startswith(OWN_CELL):
        cell, line = error.filename, error.lineno
    try:
        message = str(error)
        if isinstance(error, SyntaxError) and type(error) in SYNTAX_ERRORS:
            message = str(error.msg)  # without the file and line that the text repeats
        message = message[:500]
    except Exception:
        message = ""
    kind = type(error).__name__[:60]
    return {"type": kind, "message": message, "cell": cell, "line": line, "in": function}
