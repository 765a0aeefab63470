"""Find out which earlier steps an answer calls."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from types import CodeType, FunctionType
from typing import Any

from stepgrader.definitions import names_of

__all__ = ["called_steps", "calls_wrong", "codes_of", "codes_of_source"]


def calls_wrong(name: str, diagnosis: str | None, *, again: bool = False) -> str:
    """Return what is said of a wrong answer where there is no right version of what it calls.

    Args:
        name: The earlier step that it calls and that is wrong.
        diagnosis: The known mistake that the answer itself makes; None if it makes none.
        again: Whether the earlier step passed its check, and was then defined again.

    Example:
        >>> calls_wrong("forget_gate", None)
        'it calls forget_gate, which is wrong, so this step itself may be right'
        >>> calls_wrong("forget_gate", "You forgot the bias.", again=True)
        'it calls forget_gate, which has changed since its check and is now wrong; fix that first'
    """
    what = "has changed since its check and is now wrong" if again else "is wrong"
    advice = "; fix that first" if diagnosis else ", so this step itself may be right"
    return f"it calls {name}, which {what}{advice}"


def called_steps(name: str, codes: Callable[[str], Sequence[CodeType]]) -> set[str]:
    """Return the names that an answer uses, itself or through another that it uses.

    Args:
        name: Name of the answer.
        codes: Returns the code under a name; nothing if that is no answer.

    Example:
        >>> sources = {"one": "def one(): return 1", "two": "def two(): return one() + one()"}
        >>> found = called_steps("two", lambda name: codes_of_source(sources.get(name, "")))
        >>> "one" in found
        True
    """
    seen: set[str] = set()
    pending = [name]
    while pending:
        names = {used for code in codes(pending.pop()) for used in names_of(code)[1]}
        pending += names - seen
        seen |= names
    return seen


def codes_of_source(source: str) -> list[CodeType]:
    """Return the code of the functions and classes in a cell; nothing if it is not Python.

    Example:
        >>> len(codes_of_source("def one(): return 1")), codes_of_source("def one(:")
        (1, [])
    """
    try:
        return _inner(compile(source, "<cell>", "exec"))
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return []


def codes_of(value: Any) -> list[CodeType]:
    """Return the code of a function, or that of all methods of a class and its bases.

    Example:
        >>> [code.co_name for code in codes_of(codes_of_source)]
        ['codes_of_source']
    """
    classes = value.__mro__ if isinstance(value, type) else ()
    members = [member for each in classes for member in vars(each).values()] or [value]
    functions = [inspect.unwrap(member) for member in members if callable(member)]
    return [function.__code__ for function in functions if isinstance(function, FunctionType)]


def _inner(code: CodeType) -> list[CodeType]:
    return [inner for inner in code.co_consts if isinstance(inner, CodeType)]
