"""Random initial weights, the same on every device."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

__all__ = ["initialize"]


def initialize(
    parameter: Tensor,
    initializer: Callable[..., Any],
    *,
    generator: torch.Generator | None = None,
    **options: Any,
) -> None:
    """Fill a parameter by one of torch's initializers, wherever parameter and generator are.

    torch draws only on the generator's own device. So values are drawn there and copied.

    Args:
        parameter: What to fill, of any shape ``(...)``.
        initializer: From ``torch.nn.init``, such as ``xavier_uniform_``.
        generator: Draws the values; by default torch's own of the parameter's device.
        **options: Other arguments of ``initializer``.

    Example:
        >>> weight = torch.nn.Parameter(torch.empty(2, 3, device="meta"))
        >>> generator = torch.Generator().manual_seed(0)
        >>> initialize(weight, torch.nn.init.normal_, generator=generator, std=0.1)
    """
    if generator is None or generator.device == parameter.device:
        initializer(parameter, generator=generator, **options)
        return
    values = torch.empty(parameter.shape, dtype=parameter.dtype, device=generator.device)
    initializer(values, generator=generator, **options)
    with torch.no_grad():
        parameter.copy_(values)
