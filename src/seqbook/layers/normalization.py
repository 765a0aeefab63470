"""Root mean square normalization, which most models since Llama use instead of layer norm."""

from __future__ import annotations

import torch
from torch import Tensor, nn

__all__ = ["RMSNorm", "rms_norm"]


def rms_norm(inputs: Tensor, weight: Tensor, *, epsilon: float = 1e-5) -> Tensor:
    r"""Divide the features of each position by their root mean square, then scale them.

    .. math:: y = \frac{x}{\sqrt{\frac{1}{d} \sum_i x_i^2 + \epsilon}} \odot w

    Unlike ``seqbook.layers.transformer.layer_norm`` this subtracts no mean and adds no bias. The
    result does not change if x is multiplied by a positive number, up to :math:`\epsilon`. Half
    precision is computed in float32 and rounded once, at the end.

    Args:
        inputs: x, at least one feature.
        weight: w.
        epsilon: Keeps the quotient finite where all features are zero.

    Shape:
        inputs and result ``(..., d)``; weight ``(d,)``.

    Source: Zhang and Sennrich (2019), equation 4.

    Example:
        >>> rms_norm(torch.tensor([3.0, 4.0]), torch.ones(2)).norm().round(decimals=3)
        tensor(1.4140)
    """
    precise = inputs.to(torch.promote_types(inputs.dtype, torch.float32))
    mean_square = precise.square().mean(-1, keepdim=True)
    return (precise * (mean_square + epsilon).rsqrt() * weight).to(inputs.dtype)


class RMSNorm(nn.Module):
    r"""Layer of ``rms_norm``, with the parameter of ``torch.nn.RMSNorm``.

    .. math:: y = \operatorname{rms\_norm}(x, w)

    Args:
        d_model: Features d of the inputs.
        epsilon: See ``rms_norm``.
        device: Device of the weight; by default torch's default device.
        dtype: Floating type of the weight; by default torch's default type.

    Shape:
        weight ``(d_model,)``, initially one.

    Raises:
        ValueError: ``d_model`` is not positive.

    Source: Zhang and Sennrich (2019).

    Example:
        >>> norm = RMSNorm(4)
        >>> norm(torch.full((1, 2, 4), 5.0))[0, 0].round(decimals=3).tolist()
        [1.0, 1.0, 1.0, 1.0]
    """

    def __init__(
        self,
        d_model: int,
        *,
        epsilon: float = 1e-5,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ):
        super().__init__()
        if d_model < 1:
            raise ValueError(f"d_model: expected at least 1, got {d_model}")
        self.epsilon = epsilon
        self.weight = nn.Parameter(torch.ones(d_model, device=device, dtype=dtype))

    def forward(self, inputs: Tensor) -> Tensor:
        """Normalize each position.

        Shape:
            inputs and result ``(..., d_model)``.

        Raises:
            ValueError: The inputs have another number of features.
        """
        if inputs.dim() < 1 or inputs.shape[-1] != len(self.weight):
            raise ValueError(
                f"inputs: expected {len(self.weight)} features in the last axis, got shape "
                f"{tuple(inputs.shape)}"
            )
        return rms_norm(inputs, self.weight, epsilon=self.epsilon)

    def extra_repr(self) -> str:
        """Return the size, which ``print`` shows."""
        return f"{len(self.weight)}, epsilon={self.epsilon}"
