"""Run the cells of answers as a notebook does."""

from __future__ import annotations

import ast
import linecache
import sys
import types
from collections.abc import Container
from typing import Any

__all__ = ["add_module", "new_namespace", "run_cell"]


def new_namespace() -> dict[str, Any]:
    """Return the names that a notebook has before its first cell runs.

    ``display``, ``check`` and ``get_ipython`` do nothing here, so that an answer may call them.

    Example:
        >>> namespace = new_namespace()
        >>> namespace["check"](print) is None
        True
    """
    functions = dict.fromkeys(("display", "check", "get_ipython"), _do_nothing)
    return {"__name__": "__main__", **functions}


def run_cell(
    source: str,
    file: str,
    namespace: dict[str, Any],
    *,
    lines: Container[int] | None = None,
) -> BaseException | None:
    r"""Run a cell, statement by statement: one that raises an error does not stop the others.

    So a plot or an example that fails beside a definition does not take the definition along.

    Args:
        source: The cell.
        file: Name of the file that errors state, under which ``inspect`` finds the source too.
        namespace: The names that it uses and defines.
        lines: Run only the statements that begin on these lines; None for all.

    Returns:
        The first error, if there is one.

    Example:
        >>> namespace = new_namespace()
        >>> run_cell("print(missing)\ndef one(): return 1", "<cell>", namespace)
        NameError("name 'missing' is not defined")
        >>> namespace["one"]()
        1
    """
    first: BaseException | None = None
    try:
        statements = ast.parse(source, file).body
    except Exception as error:  # of syntax, of an encoding, or of memory
        return error
    linecache.cache[file] = (len(source), None, source.splitlines(keepends=True), file)
    for statement in statements:
        if lines is not None and statement.lineno not in lines:
            continue
        try:
            exec(compile(ast.Module([statement], []), file, "exec"), namespace)
        except BaseException as error:
            first = first or error
    return first


def add_module(name: str, source: str) -> BaseException | None:
    """Make a module that can be imported, as if its file lay beside the notebook.

    Args:
        name: Its name.
        source: Its code.

    Returns:
        The error that its code raised, if there is one; then it can't be imported.

    Example:
        >>> add_module("helper_of_mine", "def one(): return 1")
        >>> import helper_of_mine
        >>> helper_of_mine.one()
        1
        >>> del sys.modules["helper_of_mine"]
    """
    module = types.ModuleType(name)
    file = f"{name}.py"
    linecache.cache[file] = (len(source), None, source.splitlines(keepends=True), file)
    sys.modules[name] = module
    try:
        exec(compile(source, file, "exec"), vars(module))
    except BaseException as error:
        del sys.modules[name]
        return error
    return None


def _do_nothing(*_: Any, **__: Any) -> None:
    pass
