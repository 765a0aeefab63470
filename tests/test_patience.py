"""No test may fail because its machine is busy: how long tests wait is stated in one place.

A test that waits for what must come waits for ``PATIENCE`` or a multiple of it. How long a test
waits for what must *not* end in time is its own affair, but it is no argument named ``timeout``.
"""

import ast
from pathlib import Path
from unittest.mock import MagicMock

import browser
import pytest
from conftest import PATIENCE, wait_until

FILES = sorted(Path(__file__).parent.glob("*.py"))


def impatience(code: str) -> list[str]:
    """Return what a module would wait for less than ``PATIENCE``, with its line."""
    problems = []
    for node in ast.walk(ast.parse(code)):
        if isinstance(node, ast.ImportFrom) and node.module == "playwright.sync_api":
            names = {alias.name for alias in node.names}
            if "expect" in names and "expect.set_options(timeout=1000 * PATIENCE)" not in code:
                problems.append(
                    f"{node.lineno}: import expect from browser, which makes it patient"
                )
        if not isinstance(node, ast.Call):
            continue
        for keyword in node.keywords:
            names = {name.id for name in ast.walk(keyword.value) if isinstance(name, ast.Name)}
            if keyword.arg == "timeout" and not names & {"PATIENCE", "WAIT"}:
                problems.append(f"{node.lineno}: timeout={ast.unparse(keyword.value)}")
        called = node.func.attr if isinstance(node.func, ast.Attribute) else ""
        if called == "wait_for_timeout":
            problems.append(f"{node.lineno}: wait for what must come, not for a time")
        if (
            called in ("new_page", "new_context")
            and "set_default_timeout(1000 * PATIENCE)" not in code
        ):
            problems.append(f"{node.lineno}: open pages by browser.visiting, which is patient")
    return problems


@pytest.mark.parametrize("path", FILES, ids=[path.stem for path in FILES])
def test_a_module_waits_long_enough(path):
    assert impatience(path.read_text(encoding="utf-8")) == []


@pytest.mark.parametrize(
    ("code", "message"),
    [
        ("from playwright.sync_api import Page, expect", "1: import expect from browser"),
        ("page.wait_for_function('x', timeout=5000)", "1: timeout=5000"),
        ("process.communicate(timeout=SHORT)", "1: timeout=SHORT"),
        ("\npage.wait_for_timeout(200)", "2: wait for what must come"),
        ("page = started.new_page()", "1: open pages by browser.visiting"),
    ],
)
def test_impatience_is_found(code, message):
    (problem,) = impatience(code)
    assert problem.startswith(message)


def test_pages_wait_for_half_a_minute_at_least():
    started = MagicMock()
    with browser.visiting(started, "http://127.0.0.1/"):
        pass
    context = started.new_context.return_value
    context.set_default_timeout.assert_called_once_with(1000 * PATIENCE)
    assert PATIENCE >= 30


def test_a_timeout_names_the_condition():
    with pytest.raises(TimeoutError, match=r"expected a condition to hold within 0 s"):
        wait_until(lambda: False, seconds=0)
