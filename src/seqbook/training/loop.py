"""One plain training loop."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import numpy as np
import torch

__all__ = ["train"]


def train(
    parameters: Iterable[torch.nn.Parameter],
    loss: Callable[[int], torch.Tensor],
    *,
    steps: int,
    learning_rate: float | Callable[[int], float],
    clip_norm: float = 1.0,
) -> np.ndarray:
    """Minimise a loss with Adam.

    Args:
        parameters: What may change.
        loss: Maps the step's number, 0 to ``steps - 1``, to a scalar tensor; it draws the batch.
        steps: Number of updates.
        learning_rate: Adam's step size, or a function that gives it for each step's number.
        clip_norm: The gradient is scaled down to this Euclidean norm if it is longer.

    Returns:
        The loss before each update, float64 ``(steps,)``.

    Raises:
        FloatingPointError: The loss is not finite.
    """
    parameters = list(parameters)
    optimiser = torch.optim.Adam(parameters)
    rate = learning_rate if callable(learning_rate) else lambda _step: learning_rate
    history = np.empty(steps)
    for step in range(steps):
        optimiser.param_groups[0]["lr"] = rate(step)
        optimiser.zero_grad()
        value = loss(step)
        history[step] = value.item()
        if not np.isfinite(history[step]):
            raise FloatingPointError(f"loss: expected a finite number, got {value} at step {step}")
        value.backward()
        torch.nn.utils.clip_grad_norm_(parameters, clip_norm)
        optimiser.step()
    return history
