"""Read the package's data files, refusing what is missing or damaged."""

from __future__ import annotations

import hashlib
from pathlib import Path

FOLDER = Path(__file__).parent / "files"


class DamagedDataError(ValueError):
    """A data file does not hold the bytes that the course was written with."""


def checksums(folder: Path = FOLDER) -> dict[str, str]:
    """Read ``SHA256SUMS``: file name to expected SHA-256 digest."""
    lines = (folder / "SHA256SUMS").read_text(encoding="ascii").splitlines()
    return {name: digest for digest, name in (line.split(maxsplit=1) for line in lines)}


def read_bytes(name: str, *, folder: Path = FOLDER) -> bytes:
    """Return the content of the data file ``name`` after checking its digest.

    Raises:
        FileNotFoundError: The file is not there.
        DamagedDataError: Its SHA-256 digest is not the recorded one, or none is recorded.
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
