"""Write files and never overwrite what somebody has changed since."""

from __future__ import annotations

import hashlib
import json
import os
import threading
from pathlib import Path

__all__ = ["Keeper", "write_whole"]


class Keeper:
    """Writes files into a folder and remembers what it wrote.

    A file is written if it is new, or still as the keeper wrote it the last time; a file that
    was changed, or that the keeper did not write, is left alone.

    Args:
        folder: Made if it is not there. What was written is remembered in it, in ``.written.json``.

    Raises:
        OSError: The folder is something else, or files can't be written there.

    Attributes:
        written: Files that were written.
        same: Files that were there already, just as they should be.
        left: Files that were left alone since they are not as the keeper wrote them.
    """

    def __init__(self, folder: Path):
        there = next(path for path in (folder, *folder.absolute().parents) if path.exists())
        if not there.is_dir():
            raise NotADirectoryError(
                f"{folder}: expected a folder, or the name of a new one; {there} is a file"
            )
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
        found = _digest(path)
        if found == digest:
            self.same.append(path)
        elif found is not None and found != self._digests.get(name):
            self.left.append(path)
            return
        else:
            _write(path, content)
            self.written.append(path)
        if self._digests.get(name) != digest:
            self._digests[name] = digest
            text = json.dumps(self._digests, indent=0, sort_keys=True, ensure_ascii=False)
            _write(self._record, text.encode() + b"\n")


def write_whole(path: Path, content: bytes) -> None:
    """Write a file so that whatever interrupts, it holds all or none of the content."""
    path.parent.mkdir(parents=True, exist_ok=True)
    # Two threads may write the same file, as when two students hand in the same notebook.
    partial = path.with_name(f"{path.name}.{os.getpid()}-{threading.get_ident()}.partial")
    try:
        with open(partial, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.replace(partial, path)
    except BaseException:
        partial.unlink(missing_ok=True)
        raise


def _write(path: Path, content: bytes) -> None:
    try:
        write_whole(path, content)
    except OSError as error:
        raise OSError(f"{path}: can't be written: {error.strerror}") from error


def _digest(path: Path) -> str | None:
    """Return what stands for the content of a file; None if there is nothing of this name."""
    if path.is_file() and not path.is_symlink():
        return hashlib.sha256(path.read_bytes()).hexdigest()
    return "no file" if path.is_symlink() or path.exists() else None
