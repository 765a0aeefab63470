"""What unfolds after success: another idiom, why the property matters, and a stretch goal.

Beside the notebook of an exercise, ``after.md`` holds a section for each step. Its code is a right
answer, so a release holds it enciphered: the key comes from what a right answer returns on inputs
of its own, coarsely rounded. This only keeps a solution out of sight until there is an answer.
Against an attack it is too weak, and it need not be stronger: the secret is homework.
"""

from __future__ import annotations

import base64
import contextlib
import hashlib
import hmac
import io
import json
import math
import re
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from stepgrader.steps import Step, case_request, rounded
from stepgrader.worker.values import decode

__all__ = ["FILE", "folded", "lock", "read_sections", "unlock"]

FILE = "after.md"
"""Name of the author's file, beside the notebook."""
SECTION = re.compile(
    r"(```python\n.+?\n```\n\n.+?)\n\n"
    r"\*\*Why it matters\.\*\* (.+?)\n\n\*\*To go further\.\*\* (.+)",
    re.DOTALL,
)
EXPECTED = (
    "expected a block ```python, a paragraph on it, and paragraphs that begin with "
    "'**Why it matters.**' and '**To go further.**'"
)
SIZE = 1  # of the cases that the key comes from, as of the larger visible ones
ENOUGH = 8  # numbers or texts; more cases are added while there are fewer
MAX_CASES = 4
MAX_NUMBERS = 64
MARGIN = 5  # times the tolerance: a number so near to a boundary is skipped
TAG = hashlib.sha256().digest_size


def folded(text: str, name: str) -> str:
    r"""Return a section as Markdown with its three parts folded, each under a summary of its own.

    Args:
        text: The section, as ``after.md`` has it.
        name: Name of the step.

    Raises:
        ValueError: A part is missing.

    Example:
        >>> idiom = "```python\ndef double(x):\n    return x + x\n```\n\nIt adds."
        >>> prose = "**Why it matters.** It is linear.\n\n**To go further.** Plot it."
        >>> print(folded(f"{idiom}\n\n{prose}", "double").partition("\n\n</details>")[0])
        <details><summary>Another way to write double</summary>
        <BLANKLINE>
        ```python
        def double(x):
            return x + x
        ```
        <BLANKLINE>
        It adds.
    """
    if (match := SECTION.fullmatch(text)) is None:
        raise ValueError(f"{EXPECTED}, got {text[:300]!r}")
    titles = f"Another way to write {name}", f"Why {name} matters", f"Going further than {name}"
    return "\n\n".join(
        f"<details><summary>{title}</summary>\n\n{part}\n\n</details>"
        for title, part in zip(titles, match.groups(), strict=True)
    )


def read_sections(folder: Path, names: Sequence[str]) -> dict[str, str]:
    """Return the sections of an exercise's ``after.md`` by the names of the steps.

    Args:
        folder: The author's folder of the exercise.
        names: Names of the steps, in order.

    Returns:
        The text of each section; nothing if there is no such file.

    Raises:
        ValueError: The sections are not those of the steps, or one lacks a part.

    Example:
        >>> read_sections(Path("exercises/none"), ["double"])
        {}
    """
    path = folder / FILE
    if not path.exists():
        return {}
    _, *parts = re.split(r"^## (.+)\n", path.read_text(encoding="utf-8"), flags=re.MULTILINE)
    found = dict(zip(parts[::2], map(str.strip, parts[1::2]), strict=True))
    if parts[::2] != list(names):
        raise ValueError(f"{path}: expected the sections {list(names)}, got {parts[::2]}")
    for name, text in found.items():
        try:
            folded(text, name)
        except ValueError as error:
            raise ValueError(f"{path}: {name}: {error}") from None
    return found


def lock(step: Step, text: str) -> dict[str, Any]:
    """Encipher a text so that a right answer to a step opens it.

    Args:
        step: The step. The cases are drawn from its first property.
        text: The text.

    Returns:
        ``cases``, inputs without any result; ``decimals``, to which results are rounded;
        ``skipped``, the places of numbers that a small error would round in another way; and
        ``sealed``, the text. If no cases give a key, because the result is random or holds neither
        numbers nor texts, there are none. Then every answer opens the text, and only the verdict
        of the check says whether it is shown.

    Example:
        >>> cases = {"a vector": lambda sampler: {"x": sampler.normal(2)}}
        >>> locked = lock(Step("double", lambda x: x + x, cases, [], []), "Well done.")
        >>> unlock(locked, lambda x: 2 * x), unlock(locked, lambda x: x)
        ('Well done.', None)
    """
    decimals = round(-math.log10(step.tolerance)) - 3
    cases: list[dict[str, Any]] = []
    values: list[float | str] = []
    while len(values) < ENOUGH and len(cases) < MAX_CASES:
        request = case_request(step, next(iter(step.cases)), SIZE, f"{FILE} {len(cases)}")
        cases.append(rounded(request))
        values = _values(step.reference, cases) or []
    again = _values(step.reference, cases) or []  # it differs if the result is random
    near = [_shifted(values, by * step.tolerance) for by in (-MARGIN, MARGIN)]
    coarse = [
        {_coarse(v, decimals) for v in each} for each in zip(values, again, *near, strict=True)
    ]
    skipped = [place for place, forms in enumerate(coarse) if len(forms) > 1]
    used = [forms for forms in coarse if len(forms) == 1]
    if len(skipped) > len(used) or len(set().union(*used)) < 2:
        cases, values, skipped = [], [], []
    key = _key(values, decimals, skipped)
    data = text.encode()
    tag = hmac.digest(key, data, "sha256")
    sealed = base64.b64encode(tag + _cipher(key, tag, data)).decode()
    return {"cases": cases, "decimals": decimals, "skipped": skipped, "sealed": sealed}


def unlock(locked: dict[str, Any], answer: Callable[..., Any]) -> str | None:
    """Return the text that ``lock`` enciphered; None if the answer does not open it.

    Nothing that the answer prints is shown, and torch's random numbers go on as without the call.

    Example:
        >>> cases = {"a vector": lambda sampler: {"x": sampler.normal(2)}}
        >>> locked = lock(Step("halve", lambda x: x / 2, cases, [], []), "Well done.")
        >>> unlock(locked, lambda x: x * 0.5)
        'Well done.'
    """
    values = _values(answer, locked["cases"])
    if values is None:
        return None
    key = _key(values, locked["decimals"], locked["skipped"])
    sealed = base64.b64decode(locked["sealed"])
    data = _cipher(key, sealed[:TAG], sealed[TAG:])
    right = hmac.compare_digest(hmac.digest(key, data, "sha256"), sealed[:TAG])
    return data.decode() if right else None


def _shifted(values: Sequence[float | str], by: float) -> list[float | str]:
    """Return values that are off by a multiple of what a check tolerates."""
    largest = sys.float_info.max  # instead of an infinite error, which added to -inf gives nan
    return [v if isinstance(v, str) else v + by * min(max(1.0, abs(v)), largest) for v in values]


def _values(
    answer: Callable[..., Any], cases: Sequence[dict[str, Any]]
) -> list[float | str] | None:
    """Return some numbers and texts of what an answer returns; None if it fails."""
    import torch

    from stepgrader.worker.calls import run_case

    values: list[float | str] = []
    silent = contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO())
    with torch.random.fork_rng(devices=[]), silent[0], silent[1]:
        torch.seed()  # so that a result that is random differs from call to call
        for case in cases:
            outcome = run_case(answer, case | {"gradients": []})
            try:
                values += _leaves(decode(outcome["returned"]))
            except (KeyError, ValueError, OverflowError):  # it raised, or can't be read
                return None
    chosen = min(len(values), MAX_NUMBERS)
    return [values[i * len(values) // chosen] for i in range(chosen)]


def _leaves(value: Any) -> Iterator[float | str]:
    """Yield numbers and texts in an order that does not depend on what holds them."""
    if isinstance(value, dict):
        value = [value[name] for name in sorted(value)]
    elif isinstance(value, np.ndarray):
        value = value.ravel().tolist()
    if isinstance(value, (list, tuple)):
        for item in value:
            yield from _leaves(item)
    elif isinstance(value, (int, float)):
        yield float(value)
    elif isinstance(value, str):
        yield value


def _coarse(value: float | str, decimals: int) -> str:
    """Return a text as it is, and a number with few digits.

    The factor keeps simple fractions, such as 1/4, away from the boundaries between two roundings.
    """
    if isinstance(value, str) or not math.isfinite(value):
        return str(value)
    return f"{round(math.sqrt(2) * value, decimals) + 0.0:.2g}"


def _key(values: Sequence[float | str], decimals: int, skipped: Sequence[int]) -> bytes:
    used = [_coarse(v, decimals) for place, v in enumerate(values) if place not in skipped]
    return hashlib.sha256(json.dumps(used).encode()).digest()


def _cipher(key: bytes, tag: bytes, data: bytes) -> bytes:
    """Encipher or decipher, by a stream that key and tag give (as in SIV), so without a nonce."""
    stream = hashlib.shake_256(key + tag).digest(len(data))
    return bytes(a ^ b for a, b in zip(data, stream, strict=True))
