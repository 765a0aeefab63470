"""Networks that are applied at each position by itself: two layers, or gated."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import gelu, silu

from seqbook.layers.initialization import initialize

__all__ = ["FeedForward", "SwiGLU"]


class FeedForward(nn.Module):
    r"""Two linear layers with GELU between them, as in GPT-2.

    .. math:: y = \operatorname{GELU}(x W_\text{up} + b_\text{up})\, W_\text{down} + b_\text{down},
        \qquad \operatorname{GELU}(x) = x\, \Phi(x)

    for the distribution function :math:`\Phi` of the standard normal distribution.

    Args:
        d_model: Features of inputs and outputs.
        d_ff: Hidden units.
        bias: Whether to add biases.
        generator: Draws the initial weights, Glorot-uniform; by default torch's own. Biases start
            at zero.
        device: Device of the parameters; by default torch's default device.
        dtype: Floating type of the parameters; by default torch's default type.

    Shape:
        up_proj.weight ``(d_ff, d_model)``; down_proj.weight ``(d_model, d_ff)``. The equation
        has their transposes.

    Raises:
        ValueError: A size is not positive.

    Source: Vaswani et al. (2017), equation 2; Hendrycks and Gimpel (2016) for GELU. (GPT-2 itself
    has an approximation of it by tanh.)

    Example:
        >>> FeedForward(8, 32)(torch.ones(2, 3, 8)).shape
        torch.Size([2, 3, 8])
    """

    def __init__(
        self,
        d_model: int,
        d_ff: int,
        *,
        bias: bool = False,
        generator: torch.Generator | None = None,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ):
        super().__init__()
        options: dict[str, Any] = {"bias": bias, "device": device, "dtype": dtype}
        self.up_proj = _linear(d_model, d_ff, generator, **options)
        self.down_proj = _linear(d_ff, d_model, generator, **options)

    def forward(self, inputs: Tensor) -> Tensor:
        """Apply the network at each position.

        Shape:
            inputs and result ``(..., d_model)``.
        """
        return self.down_proj(gelu(self.up_proj(inputs)))


class SwiGLU(nn.Module):
    r"""A linear layer gated by another one through SiLU, then a third, as in Llama.

    .. math:: y = \big(\operatorname{SiLU}(x W_\text{gate}) \odot x W_\text{up}\big)\,
        W_\text{down}, \qquad \operatorname{SiLU}(x) = x\, \sigma(x)

    It has three matrices where ``FeedForward`` has two. For equally many weights it takes two
    thirds of the hidden units. Names and shapes of the parameters are those of Llama in the
    ``transformers`` library.

    Args:
        d_model: Features of inputs and outputs.
        d_ff: Hidden units.
        bias: Whether to add biases; the equation has none.
        generator: Draws the initial weights, Glorot-uniform; by default torch's own. Biases start
            at zero.
        device: Device of the parameters; by default torch's default device.
        dtype: Floating type of the parameters; by default torch's default type.

    Shape:
        gate_proj.weight and up_proj.weight ``(d_ff, d_model)``; down_proj.weight
        ``(d_model, d_ff)``. The equation has their transposes.

    Raises:
        ValueError: A size is not positive.

    Source: Shazeer (2020), equation 6.

    Example:
        >>> SwiGLU(8, 21)(torch.ones(2, 3, 8)).shape
        torch.Size([2, 3, 8])
    """

    def __init__(
        self,
        d_model: int,
        d_ff: int,
        *,
        bias: bool = False,
        generator: torch.Generator | None = None,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ):
        super().__init__()
        options: dict[str, Any] = {"bias": bias, "device": device, "dtype": dtype}
        self.gate_proj = _linear(d_model, d_ff, generator, **options)
        self.up_proj = _linear(d_model, d_ff, generator, **options)
        self.down_proj = _linear(d_ff, d_model, generator, **options)

    def forward(self, inputs: Tensor) -> Tensor:
        """Apply the network at each position.

        Shape:
            inputs and result ``(..., d_model)``.
        """
        return self.down_proj(silu(self.gate_proj(inputs)) * self.up_proj(inputs))


def _linear(
    inputs: int, outputs: int, generator: torch.Generator | None, **options: Any
) -> nn.Linear:
    for name, size in (("d_model", inputs), ("d_ff", outputs)):
        if size < 1:
            raise ValueError(f"{name}: expected at least 1, got {size}")
    layer = nn.Linear(inputs, outputs, **options)
    initialize(layer.weight, nn.init.xavier_uniform_, generator=generator)
    if layer.bias is not None:
        nn.init.zeros_(layer.bias)
    return layer
