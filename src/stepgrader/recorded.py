"""What a release records of an author's exercise, because to compute it takes long.

These are the variations of each solution (see ``variations``) and cases that are smaller than the
visible ones (see ``smaller``), in a file beside the exercise's notebook and ``steps.py``. After a
change of these two, the file is not used until the next release, which makes it again.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

__all__ = ["FILE", "as_recorded", "read_recorded"]

FILE = "recorded.json"
"""Name of the file beside ``steps.py``."""
Recorded = Mapping[str, Mapping[str, list[dict[str, Any]]]]


def read_recorded(folder: Path) -> Recorded | None:
    """Return what was recorded of each step of an exercise, by its name.

    Returns:
        None if nothing was, or if it was of another notebook or other steps.

    Raises:
        ValueError: The file holds something else.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as name:
        ...     read_recorded(Path(name)) is None
        True
    """
    path = folder / FILE
    if not path.exists():
        return None
    match json.loads(path.read_text(encoding="utf-8")):
        case {"made_from": str(digest), "steps": dict(recorded)}:
            return recorded if digest == _digest(folder) else None
    raise ValueError(f"{path}: expected made_from and steps; delete the file and release again")


def as_recorded(folder: Path, recorded: Recorded) -> str:
    """Return the text of the file.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as name:
        ...     folder = Path(name, "doubling")
        ...     folder.mkdir()
        ...     for file in ("doubling.ipynb", "steps.py"):
        ...         length = (folder / file).write_text("")
        ...     text = as_recorded(folder, {"double": {"variations": [], "smaller": []}})
        ...     length = (folder / FILE).write_text(text)
        ...     read_recorded(folder)
        {'double': {'variations': [], 'smaller': []}}
    """
    steps = ",\n".join(
        f"{json.dumps(name)}: {json.dumps(parts, ensure_ascii=False, separators=(',', ':'))}"
        for name, parts in recorded.items()
    )
    return f'{{"made_from": "{_digest(folder)}",\n"steps": {{\n{steps}\n}}}}\n'


def _digest(folder: Path) -> str:
    files = folder / f"{folder.name}.ipynb", folder / "steps.py"
    return hashlib.sha256(b"".join(file.read_bytes() for file in files)).hexdigest()
