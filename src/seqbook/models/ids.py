"""Symbol ids, from integers of any type."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

__all__ = ["as_ids"]


def as_ids(
    values: np.ndarray | Tensor | Sequence[Any],
    *,
    size: int | None = None,
    dims: int | None = None,
    name: str = "ids",
) -> Tensor:
    """Convert ids to int64, the type that every operation of torch takes.

    Args:
        values: Integers of any type and width, signed or not, and of any shape ``(...)``: a tensor,
            an array, also one that is mapped from a file, or nested sequences.
        size: Number of symbols; ids are then checked to lie in 0 to ``size - 1``.
        dims: Number of dimensions that is expected, 1 or 2.
        name: Name of the argument, for the error.

    Returns:
        The ids, int64 of the same shape, on the device where they are. The tensor itself if it is
        int64 already.

    Raises:
        TypeError: The values are not integers.
        ValueError: There are other dimensions than ``dims``, or an id is not below ``size``.

    Example:
        >>> as_ids(np.array([0, 2, 1], dtype=np.uint16), size=3)
        tensor([0, 2, 1])
    """
    if isinstance(values, Tensor):
        integers = values.dtype in _INTEGERS
    else:
        values = np.asarray(values)
        integers = np.issubdtype(values.dtype, np.integer) or not values.size
    if not integers:
        raise TypeError(f"{name}: expected integers, got {values.dtype}")
    if isinstance(values, Tensor):
        ids = values.to(torch.int64)
    else:
        ids = torch.from_numpy(values.astype(np.int64))  # a copy: mapped files may be read-only
    if dims is not None and ids.dim() != dims:
        shape = "(time,)" if dims == 1 else "(batch, time)"
        raise ValueError(f"{name}: expected shape {shape}, got {tuple(ids.shape)}")
    if size is not None:
        outside = ids[(ids < 0) | (ids >= size)]
        if len(outside):
            raise ValueError(f"{name}: expected 0 to {size - 1}, got {outside[0].item()}")
    return ids


_INTEGERS = {
    torch.uint8,
    torch.uint16,
    torch.uint32,
    torch.uint64,
    torch.int8,
    torch.int16,
    torch.int32,
    torch.int64,
}
