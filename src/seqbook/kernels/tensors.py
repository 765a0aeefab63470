"""Questions about tensors on which the way of computing depends."""

from __future__ import annotations

from torch import Tensor
from torch._subclasses import FakeTensor

__all__ = ["has_values"]


def has_values(tensor: Tensor) -> bool:
    """Whether there are numbers to look at, which tensors without storage do not have.

    Those of the meta device and fake tensors have only a shape, a type and a device.

    Example:
        >>> import torch
        >>> has_values(torch.zeros(2)), has_values(torch.zeros(2, device="meta"))
        (True, False)
    """
    return not (tensor.is_meta or isinstance(tensor, FakeTensor))
