"""Files of tensors: written whole or not at all, and refused when they are damaged."""

from __future__ import annotations

import hashlib
import json
import os
import tempfile
import textwrap
from collections.abc import Mapping
from pathlib import Path
from typing import Any, BinaryIO

import safetensors.torch
from torch import Tensor

__all__ = ["DamagedModelError", "brief", "name_of", "read_tensors", "write_file", "write_tensors"]

_KEY = "seqbook"


class DamagedModelError(ValueError):
    """A file does not hold a model or checkpoint that this version can use.

    Example:
        >>> import io
        >>> file = io.BytesIO(b"no tensors")
        >>> file.name = "model.safetensors"
        >>> read_tensors(file)
        Traceback (most recent call last):
        ...
        seqbook.models.storage.DamagedModelError: model.safetensors: expected a model file ...
    """


def write_file(path: Path | str, content: bytes | memoryview) -> None:
    """Write a file; an existing one at ``path`` stays intact until the new content is on disk.

    Raises:
        OSError: The file can't be written, as on a full disk.

    Example:
        >>> from tempfile import TemporaryDirectory
        >>> with TemporaryDirectory() as folder:
        ...     write_file(Path(folder) / "name", b"content")
        ...     (Path(folder) / "name").read_bytes()
        b'content'
    """
    path = Path(path)
    descriptor, partial = tempfile.mkstemp(dir=path.parent, suffix=".partial")
    try:
        with open(descriptor, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(descriptor)
        os.chmod(partial, 0o644)
        os.replace(partial, path)
    except BaseException:
        os.unlink(partial)
        raise


def write_tensors(
    path: Path | str, tensors: Mapping[str, Tensor], description: Mapping[str, Any]
) -> None:
    """Write tensors and a description in the safetensors format.

    The description is stored in the file's metadata as JSON, with a checksum of everything, since
    the format itself has none. The same content gives the same bytes.

    Args:
        path: The file.
        tensors: Tensors by name, of any shape ``(...)`` and on any device.
        description: Texts, numbers, lists and dictionaries.

    Raises:
        OSError: The file can't be written, as on a full disk.
        TypeError: The description has something that JSON can't hold.

    Source: the format is documented with the library, https://github.com/huggingface/safetensors.

    Example:
        >>> import torch
        >>> from tempfile import TemporaryDirectory
        >>> with TemporaryDirectory() as folder:
        ...     write_tensors(Path(folder) / "file", {"weight": torch.ones(2)}, {"steps": 3})
        ...     read_tensors(Path(folder) / "file")
        ({'weight': tensor([1., 1.])}, {'steps': 3})
    """
    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    content = {"sha256": _digest(tensors, description), "description": description}
    # In one entry, since the library writes several in random order.
    metadata = {_KEY: json.dumps(content, ensure_ascii=False)}
    write_file(path, safetensors.torch.save(tensors, metadata))


def read_tensors(file: Path | str | BinaryIO) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Read the tensors, on the CPU, and the description of ``write_tensors``.

    Reading a file never runs code from it.

    Args:
        file: A path, or an open binary file.

    Returns:
        The tensors by name, each of the shape ``(...)`` it was written with, and the description.

    Raises:
        OSError: The file can't be read.
        DamagedModelError: It is damaged, or of another kind.

    Example:
        >>> import io, torch
        >>> from tempfile import TemporaryDirectory
        >>> with TemporaryDirectory() as folder:
        ...     path = Path(folder) / "file"
        ...     write_tensors(path, {"weight": torch.eye(2)}, {"words": ["the", "cat"]})
        ...     tensors, description = read_tensors(path)
        >>> tensors["weight"].shape, description["words"]
        (torch.Size([2, 2]), ['the', 'cat'])
    """
    content = Path(file).read_bytes() if isinstance(file, (str, Path)) else file.read()
    try:
        tensors = safetensors.torch.load(content)
        length = int.from_bytes(content[:8], "little")
        metadata = json.loads(json.loads(content[8 : 8 + length])["__metadata__"][_KEY])
        description, digest = metadata["description"], metadata["sha256"]
    except Exception as error:  # the library raises many kinds at damaged bytes
        raise DamagedModelError(
            f"{name_of(file)}: expected a model file of this package, got one that is damaged or "
            f"of another kind ({brief(error)})"
        ) from error
    if digest != _digest(tensors, description):
        raise DamagedModelError(
            f"{name_of(file)}: expected content with the checksum beside it, got a damaged file"
        )
    return tensors, description


def brief(error: Exception) -> str:
    r"""Return the message of an error on one line of moderate length.

    Example:
        >>> brief(ValueError("on two\nlines")), brief(KeyError())
        ('on two lines', 'KeyError')
    """
    return textwrap.shorten(str(error) or type(error).__name__, 200, placeholder=" …")


def name_of(file: Path | str | BinaryIO) -> str:
    """Return the name of a file, for messages.

    Example:
        >>> name_of(Path("folder") / "model")
        'folder/model'
        >>> with open(os.devnull, "rb") as file:
        ...     name_of(file) == os.devnull
        True
    """
    return str(file if isinstance(file, (str, Path)) else getattr(file, "name", file))


def _digest(tensors: Mapping[str, Tensor], description: Any) -> str:
    digest = hashlib.sha256(json.dumps(description).encode())
    for name, tensor in sorted(tensors.items()):
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        digest.update(tensor.numpy().tobytes())
    return digest.hexdigest()
