"""Write files and never overwrite what somebody has changed since."""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path

__all__ = ["Keeper", "write_whole"]


class Keeper:
    """Writes files into a folder and remembers what it wrote.

    A file is written if it is new, or still as the keeper wrote it the last time; a file that
    was changed, or that the keeper did not write, is left alone.

    Args:
        folder: Made if it is not there. What was written is remembered in it, in ``.written.json``.

    Attributes:
        written: Files that were written.
        same: Files that were there already, just as they should be.
        left: Files that were left alone since they are not as the keeper wrote them.
    """

    def __init__(self, folder: Path):
        self.folder = folder
        self.written: list[Path] = []
        self.same: list[Path] = []
        self.left: list[Path] = []
        self._record = folder / ".written.json"
        try:
            self._digests = dict(json.loads(self._record.read_text(encoding="utf-8")))
        except (FileNotFoundError, ValueError, TypeError):
            self._digests = {}

    def write(self, path: Path, content: str | bytes) -> None:
        """Write a file below the folder, or leave it alone."""
        content = content.encode() if isinstance(content, str) else content
        name = path.relative_to(self.folder).as_posix()
        digest = hashlib.sha256(content).hexdigest()
        if path.is_symlink() or path.exists():
            found = _digest(path)
            if found != digest and found != self._digests.get(name):
                self.left.append(path)
                return
        else:
            found = None
        if found == digest:
            self.same.append(path)
        else:
            write_whole(path, content)
            self.written.append(path)
        if self._digests.get(name) != digest:
            self._digests[name] = digest
            text = json.dumps(self._digests, indent=0, sort_keys=True, ensure_ascii=False)
            write_whole(self._record, text.encode() + b"\n")


def write_whole(path: Path, content: bytes) -> None:
    """Write a file so that whatever interrupts, it holds all or none of the content."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(path.name + ".partial")
    with open(partial, "wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    os.replace(partial, path)


def _digest(path: Path) -> str | None:
    if path.is_symlink() or not path.is_file():
        return None
    return hashlib.sha256(path.read_bytes()).hexdigest()
