"""Checkpoints: the whole state of a training run in one file."""

from __future__ import annotations

import io
import pickle
import zipfile
from pathlib import Path
from typing import Any

import torch

from seqbook.models.storage import DamagedModelError, brief, write_file

__all__ = ["load_checkpoint", "save_checkpoint"]


def save_checkpoint(content: Any, path: Path | str) -> None:
    """Write tensors and plain values; an existing file stays intact until the write is complete.

    Raises:
        OSError: The file can't be written, as on a full disk.

    Example:
        >>> from tempfile import TemporaryDirectory
        >>> with TemporaryDirectory() as folder:
        ...     save_checkpoint({"step": 3}, Path(folder) / "checkpoint.pt")
        ...     load_checkpoint(Path(folder) / "checkpoint.pt")
        {'step': 3}
    """
    buffer = io.BytesIO()
    torch.save(content, buffer)
    write_file(path, buffer.getbuffer())


def load_checkpoint(path: Path | str) -> Any:
    """Read tensors, to the CPU, and plain values; reading never runs code from the file.

    Raises:
        OSError: The file can't be read.
        DamagedModelError: It is not such a file, or damaged.

    Example:
        >>> from tempfile import TemporaryDirectory
        >>> with TemporaryDirectory() as folder:
        ...     path = Path(folder) / "checkpoint.pt"
        ...     save_checkpoint({"weight": torch.zeros(3), "history": [1.5, 0.5]}, path)
        ...     load_checkpoint(path)
        {'weight': tensor([0., 0., 0.]), 'history': [1.5, 0.5]}
    """
    content = io.BytesIO(Path(path).read_bytes())
    try:
        # torch does not verify checksums, and leaves memory uninitialised for an entry that is
        # marked as a folder; so it reads a copy of the archive, made of verified entries.
        verified = io.BytesIO()
        with zipfile.ZipFile(content) as archive, zipfile.ZipFile(verified, "w") as copy:
            for name in archive.namelist():
                copy.writestr(name, archive.read(name))
        verified.seek(0)
        return torch.load(verified, weights_only=True, map_location="cpu")
    except pickle.UnpicklingError as error:
        raise DamagedModelError(
            f"{path}: expected tensors and plain values only, got something that could run"
        ) from error
    except Exception as error:  # zipfile and torch raise many kinds at damaged bytes
        raise DamagedModelError(
            f"{path}: expected a checkpoint of this package, got one that is damaged or of another "
            f"kind ({brief(error)})"
        ) from error
