"""Write files atomically, and never overwrite what somebody has changed."""

from __future__ import annotations

import functools
import hashlib
import itertools
import json
import os
import threading
from pathlib import Path

__all__ = ["SafeWriter", "write_whole"]


class SafeWriter:
    """Writes files into a folder and remembers their digests.

    A file is written if it is new, or unchanged since a writer wrote it. A file that somebody
    changed, or that no writer wrote, is skipped or renamed.

    Args:
        folder: Created if it does not exist. The digests are stored in it, in ``.written.json``.

    Raises:
        OSError: The folder is something else, or files can't be written there.

    Attributes:
        written: Files that were written.
        unchanged: Files that had the right content already.
        skipped: Files that somebody changed.
        renamed: New names of files that somebody changed, by the old ones.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as name:
        ...     path = Path(name, "a.txt")
        ...     SafeWriter(Path(name)).write(path, "released")
        ...     length = path.write_text("changed by a student")
        ...     SafeWriter(Path(name)).write(path, "released again")
        ...     print(path.read_text())
        changed by a student
    """

    def __init__(self, folder: Path):
        existing = next(path for path in (folder, *folder.absolute().parents) if path.exists())
        if not existing.is_dir():
            raise NotADirectoryError(
                f"{folder}: expected a folder, or the name of a new one; {existing} is a file"
            )
        self.folder = folder
        self.written: list[Path] = []
        self.unchanged: list[Path] = []
        self.skipped: list[Path] = []
        self.renamed: dict[Path, Path] = {}
        self._record = folder / ".written.json"
        try:
            self._digests = dict(json.loads(self._record.read_text(encoding="utf-8")))
        except (FileNotFoundError, ValueError, TypeError):
            self._digests = {}

    def write(self, path: Path, content: str | bytes) -> None:
        """Write a file below the folder, or skip it if somebody changed it.

        Raises:
            OSError: The file can't be written.
        """
        self._write(path, content, rename=False)

    def replace(self, path: Path, content: str | bytes) -> None:
        """Write a file below the folder. One that somebody changed is renamed before.

        Raises:
            OSError: The file can't be written or renamed.
        """
        self._write(path, content, rename=True)

    def _write(self, path: Path, content: str | bytes, *, rename: bool) -> None:
        content = content.encode() if isinstance(content, str) else content
        name = path.relative_to(self.folder).as_posix()
        digest = hashlib.sha256(content).hexdigest()
        current = _digest(path)
        if current == digest:
            self.unchanged.append(path)
        else:
            if current is not None and current != self._digests.get(name):
                if not rename:
                    self.skipped.append(path)
                    return
                self.renamed[path] = _rename(path)
            _write(path, content)
            self.written.append(path)
        if self._digests.get(name) != digest:
            self._digests[name] = digest
            text = json.dumps(self._digests, indent=0, sort_keys=True, ensure_ascii=False)
            _write(self._record, text.encode() + b"\n")


def write_whole(path: Path, content: bytes, *, mode: int = 0o666) -> None:
    """Write a file so that after any interruption it holds all or none of the content.

    Args:
        path: The file. Its folder is created if it does not exist.
        content: The content.
        mode: Who may do what with the file, unless the process's mask forbids it.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as name:
        ...     write_whole(Path(name, "folder", "a.txt"), b"content")
        ...     print(Path(name, "folder", "a.txt").read_text())
        content
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f"{path.name}.{os.getpid()}-{threading.get_ident()}.partial")
    try:
        with open(partial, "wb", opener=functools.partial(os.open, mode=mode)) as file:
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


def _rename(path: Path) -> Path:
    """Rename a file that somebody edited, and return its new name, which nothing has yet."""
    for number in itertools.count(1):
        new = path.with_name(f"{path.stem}.edited-{number}{path.suffix}")
        if not os.path.lexists(new):
            break
    os.rename(path, new)
    return new


def _digest(path: Path) -> str | None:
    """Return the digest of a file; None if there is nothing of this name."""
    if path.is_file() and not path.is_symlink():
        return hashlib.sha256(path.read_bytes()).hexdigest()
    return "no file" if path.is_symlink() or path.exists() else None
