"""Reading of the package's data files, with a checksum for each."""

from __future__ import annotations

import hashlib
from pathlib import Path

FOLDER = Path(__file__).parent / "files"


class DamagedDataError(ValueError):
    """A data file differs from the one that the course was written with.

    Example:
        >>> issubclass(DamagedDataError, ValueError)
        True
    """


def checksums(folder: Path = FOLDER) -> dict[str, str]:
    """Read ``SHA256SUMS``: file name to expected SHA-256 digest."""
    lines = (folder / "SHA256SUMS").read_text(encoding="ascii").splitlines()
    return {name: digest for digest, name in (line.split(maxsplit=1) for line in lines)}


def read_bytes(name: str, *, folder: Path = FOLDER) -> bytes:
    """Return the content of a data file after checking its SHA-256 digest.

    Args:
        name: Path of the file inside ``folder``, such as ``"sunspots.csv"``.
        folder: Folder of the data files and their ``SHA256SUMS``.

    Raises:
        FileNotFoundError: The file is missing.
        DamagedDataError: Its digest differs from the recorded one, or none is recorded.

    Example:
        >>> read_bytes("sunspots.csv").splitlines()[1]
        b'1700,5'
    """
    path = folder / name
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        raise FileNotFoundError(
            f"data file missing: expected {name!r} at {path}; install seqbook again"
        ) from None
    expected, found = checksums(folder).get(name), hashlib.sha256(content).hexdigest()
    if expected is None:
        raise DamagedDataError(f"data file unknown: {path} is not listed in SHA256SUMS beside it")
    if found != expected:
        raise DamagedDataError(
            f"data file damaged: {path} has {len(content):,} bytes with SHA-256 {found[:12]}…, "
            f"expected {expected[:12]}…; install seqbook again"
        )
    return content
