"""Read zips as untrusted data: in memory, within limits, and nothing is extracted to disk."""

from __future__ import annotations

import io
import re
import stat
import struct
import zipfile
import zlib
from typing import IO

__all__ = ["MAX_ZIP", "SMALLER", "Archive", "ArchiveError", "too_large"]

MAX_ENTRIES = 5_000
MAX_DIRECTORY = 4 * 2**20  # bytes of the list of entries
MAX_UNPACKED = 512 * 2**20
MAX_ZIP = 256 * 2**20
"""Largest size of a zip that is read, in bytes."""
SMALLER = "clear the outputs of the cells and save it again"
"""What helps with a notebook that is too large."""
END = b"PK\x05\x06"
END_64 = b"PK\x06\x07"


class ArchiveError(ValueError):
    """A zip, or a file in it, can't be read; the message says why.

    Example:
        >>> Archive(io.BytesIO(b"PK"))
        Traceback (most recent call last):
        ...
        stepgrader.archives.ArchiveError: it is not a valid zip file
    """


def too_large(size: int, limit: int, advice: str = "") -> str:
    """Return the message about a file that has too many bytes.

    Example:
        >>> too_large(9 * 2**20, 8 * 2**20)
        'its size is 9 MB; the limit is 8 MB'
    """
    problem = f"its size is {size / 2**20:.0f} MB; the limit is {limit // 2**20} MB"
    return f"{problem}; {advice}" if advice else problem


class Archive:
    """The files in a zip.

    Args:
        file: The zip, open for reading.

    Raises:
        ArchiveError: It is damaged or exceeds a limit.

    Example:
        >>> file = io.BytesIO()
        >>> with zipfile.ZipFile(file, "w") as archive:
        ...     archive.writestr("ada/lstm.ipynb", "{}")
        >>> archive = Archive(file)
        >>> archive.names, archive.read(0, limit=100)
        (['ada/lstm.ipynb'], b'{}')
    """

    def __init__(self, file: IO[bytes]):
        _check_size(file)
        try:
            self._zip = zipfile.ZipFile(file)
        except (zipfile.BadZipFile, ValueError, OSError, struct.error, NotImplementedError):
            raise ArchiveError("it is not a valid zip file") from None
        self._entries = [entry for entry in self._zip.infolist() if not entry.is_dir()]
        unpacked = sum(entry.file_size for entry in self._entries)
        if unpacked > MAX_UNPACKED:
            raise ArchiveError(
                f"its files take {unpacked / 2**20:.0f} MB; the limit is {MAX_UNPACKED // 2**20} MB"
            )
        self.names = [_decoded(entry) for entry in self._entries]

    def read(self, number: int, limit: int) -> bytes:
        """Return the content of a file.

        Args:
            number: Its number among ``names``.
            limit: The most bytes that it may have.

        Raises:
            ArchiveError: It is a link, its path leaves the zip, it is encrypted or damaged, or it
                exceeds the limit.
        """
        entry = self._entries[number]
        name = self.names[number]
        if re.match(r"[/\\]|[A-Za-z]:", name) or ".." in re.split(r"[/\\]", name):
            raise ArchiveError("its path points outside the zip")
        if stat.S_ISLNK(entry.external_attr >> 16):
            raise ArchiveError("it is a link; hand in the file itself")
        if entry.flag_bits & 1:
            raise ArchiveError("it is encrypted; hand it in without a password")
        # The other methods unpack without a limit.
        if entry.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
            raise ArchiveError(
                "its compression method is not supported; create the zip with an ordinary tool"
            )
        if entry.file_size > limit:
            raise ArchiveError(too_large(entry.file_size, limit, SMALLER))
        try:
            with self._zip.open(entry) as file:
                content = file.read(limit + 1)
        except (zipfile.BadZipFile, zlib.error, EOFError, OSError, ValueError, RuntimeError):
            raise ArchiveError("it is damaged inside the zip") from None
        if len(content) > limit:
            raise ArchiveError("it is larger than the zip says")
        return content


def _check_size(file: IO[bytes]) -> None:
    """Refuse a list of entries that is too long, before it is read into memory."""
    size = file.seek(0, io.SEEK_END)
    if size > MAX_ZIP:
        raise ArchiveError(too_large(size, MAX_ZIP))
    file.seek(max(0, size - 2**16 - 42))
    tail = file.read()
    if END_64 in tail:
        raise ArchiveError("the zip is too large")
    for match in re.finditer(re.escape(END), tail):  # any may be taken for the last
        record = tail[match.start() : match.start() + 22]
        if len(record) < 22:
            continue
        entries, directory = struct.unpack("<HI", record[10:16])
        if entries > MAX_ENTRIES or directory > MAX_DIRECTORY:
            raise ArchiveError(
                f"it has more than {MAX_ENTRIES} files, or its list of files is too long"
            )
    file.seek(0)


def _decoded(entry: zipfile.ZipInfo) -> str:
    """Return a name in the encoding in which it was most likely written."""
    if entry.flag_bits & 0x800:
        return entry.filename
    for encoding in ("utf-8", "cp949"):  # macOS and Linux; Windows in Korea
        try:
            return entry.filename.encode("cp437").decode(encoding)
        except ValueError:
            continue
    return entry.filename
