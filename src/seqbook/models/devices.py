"""Devices to compute on."""

from __future__ import annotations

import torch

__all__ = ["available_device"]


def available_device(name: str | torch.device) -> torch.device:
    """Return a device of this machine by its name.

    Args:
        name: ``"cpu"``, ``"cuda"``, ``"cuda:1"``, ``"mps"`` or another of torch's devices that
            holds data.

    Raises:
        ValueError: There is no such device here.

    Example:
        >>> available_device("cpu")
        device(type='cpu')
    """
    try:
        device = torch.device(name)
        if device.type == "meta":
            raise ValueError("it holds no data")
        torch.zeros(1, device=device)
    except (RuntimeError, AssertionError, ValueError) as error:
        available = ["cpu"]
        if torch.accelerator.is_available():
            kind = torch.accelerator.current_accelerator()
            count = torch.accelerator.device_count()
            available += [f"{kind}:{i}" for i in range(count)] if count > 1 else [str(kind)]
        raise ValueError(
            f"device: expected one of this machine ({', '.join(available)}), got {str(name)!r}"
        ) from error
    return device
