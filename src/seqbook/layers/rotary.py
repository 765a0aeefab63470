"""Rotary positions: queries and keys turn by angles that grow with their position.

This module pairs feature i with feature i + d/2, the convention of Llama in the ``transformers``
library. The paper pairs neighbours, 2i with 2i + 1. The two differ by a fixed order of the
features, which the rows of a learned projection can absorb; trained weights are not
interchangeable between the conventions without this reordering.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from seqbook.layers.transformer import sinusoids

__all__ = ["RotaryPositions", "rotate"]


def rotate(inputs: Tensor, encodings: Tensor) -> Tensor:
    r"""Rotate pairs of features by angles that are proportional to the position.

    .. math:: \begin{pmatrix} y_i \\ y_{i + d/2} \end{pmatrix} =
        \begin{pmatrix} \cos t\omega_i & -\sin t\omega_i \\
                        \sin t\omega_i & \cos t\omega_i \end{pmatrix}
        \begin{pmatrix} x_i \\ x_{i + d/2} \end{pmatrix}, \qquad \omega_i = b^{-2i/d}

    for position t and i from 0 to d/2 - 1. The angles are those of
    ``seqbook.layers.transformer.sinusoids``. With this rotation called :math:`R_t`,

    .. math:: (R_t\, q)^\top (R_s\, k) = q^\top R_{s - t}\, k

    so that the score of a query at t and a key at s depends on the positions through their
    difference alone. Lengths of vectors do not change.

    Args:
        inputs: Queries or keys of one head or many.
        encodings: The ``sinusoids`` of the positions, in at least float32: half precision is
            computed in their type and rounded once, at the end.

    Shape:
        inputs and result ``(..., time, d)``; encodings ``(time, d)``.

    Source: Su et al. (2021), equations 14 to 16, with other pairs of features.

    Example:
        >>> quarter_turn = torch.tensor([[1.0, 0.0]])  # sine and cosine
        >>> rotate(torch.tensor([[3.0, 4.0]]), quarter_turn)
        tensor([[-4.,  3.]])
    """
    sine, cosine = encodings.unflatten(-1, (-1, 2)).unbind(-1)  # (time, d / 2) each
    first, second = inputs.chunk(2, -1)  # (..., time, d / 2) each
    rotated = torch.cat((first * cosine - second * sine, second * cosine + first * sine), -1)
    return rotated.to(inputs.dtype)


class RotaryPositions(nn.Module):
    r"""Rotate queries or keys according to their positions. There is nothing to learn.

    .. math:: y_t = R_t\, x_t

    for the rotation :math:`R_t` of ``rotate``. Attention calls it for queries and keys alike;
    values stay as they are.

    The table of sines and cosines is computed when it is needed, for the device of the inputs. It
    is neither parameter nor buffer, so that a model made on the meta device has it too.

    Args:
        features: Features of one head, d, even.
        base: b; the slowest pair of features needs nearly 2 pi b positions for a turn.

    Raises:
        ValueError: ``features`` is not even and positive, or ``base`` is not positive.

    Source: Su et al. (2021).

    Example:
        >>> positions = RotaryPositions(4)
        >>> query = torch.ones(1, 2, 3, 4)  # (batch, heads, time, features)
        >>> torch.equal(positions(query)[:, :, 2:], positions(query[:, :, 2:], start=2))
        True
    """

    def __init__(self, features: int, *, base: float = 10000.0):
        super().__init__()
        if features < 1 or features % 2:
            raise ValueError(f"features: expected a positive even number, got {features}")
        if not base > 0:
            raise ValueError(f"base: expected a number above 0, got {base}")
        self.features, self.base = features, base
        self._table: Tensor | None = None

    def forward(self, inputs: Tensor, *, start: int = 0) -> Tensor:
        r"""Rotate vectors at the positions from ``start`` on.

        .. math:: y_t = R_{s + t}\, x_t, \qquad t = 0, 1, \dots

        for the position s = ``start``.

        Shape:
            inputs and result ``(..., time, features)``.

        Raises:
            ValueError: The inputs have another number of features.
        """
        if inputs.dim() < 2 or inputs.shape[-1] != self.features:
            raise ValueError(
                f"inputs: expected shape (..., time, {self.features}), got {tuple(inputs.shape)}"
            )
        end = start + inputs.shape[-2]
        return rotate(inputs, self._encodings(end, inputs)[start:end])

    def _encodings(self, end: int, like: Tensor) -> Tensor:
        table = self._table
        device, dtype = like.device, torch.promote_types(like.dtype, torch.float32)
        if table is None or end > len(table) or (table.device, table.dtype) != (device, dtype):
            with torch.inference_mode(False):  # else no gradient could pass it later
                table = sinusoids(
                    max(64, 2 * end), self.features, base=self.base, device=device, dtype=dtype
                )
            # A fake tensor must not outlive the mode that made it.
            self._table = table if type(table) is Tensor else None
        return table

    def extra_repr(self) -> str:
        """Return the settings, which ``print`` shows."""
        return f"{self.features}, base={self.base:g}"
