"""The training loop of the book: Adam with a clipped gradient, one step at a time."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator
from typing import NamedTuple

import numpy as np
import torch

__all__ = ["TrainingStep", "adamw", "train", "training_steps", "warmup_cosine"]


class TrainingStep(NamedTuple):
    r"""Record of one update of the parameters.

    Attributes:
        number: Number of the step, counted from 0.
        loss: Loss before the update.
        gradient_norm: Euclidean norm :math:`\lVert g \rVert` of the gradient before it was clipped.

    Example:
        >>> weight = torch.nn.Parameter(torch.tensor(3.0))
        >>> next(training_steps([weight], lambda _: weight**2, steps=1, learning_rate=0.1))
        TrainingStep(number=0, loss=9.0, gradient_norm=6.0)
    """

    number: int
    loss: float
    gradient_norm: float


def training_steps(
    parameters: Iterable[torch.nn.Parameter | torch.Tensor],
    loss: Callable[[int], torch.Tensor],
    *,
    steps: int,
    learning_rate: float | Callable[[int], float],
    clip_norm: float = 1.0,
    optimizer: torch.optim.Optimizer | None = None,
    first_step: int = 0,
) -> Iterator[TrainingStep]:
    r"""Minimise a loss, one update for each turn of the caller's loop.

    .. math:: g = \nabla L(\theta), \qquad
        \theta \leftarrow \theta - \eta \operatorname{Adam}
        \left(g \min\left(1, \frac{c}{\lVert g \rVert}\right)\right)

    for the learning rate :math:`\eta` and the largest norm c. Each turn takes one step and then
    runs the body of the caller's loop, which may validate the model, record the loss, or ``break``
    to stop early::

        for step in training_steps(model.parameters(), loss, steps=1000, learning_rate=0.01):
            if step.number % 100 == 99:
                print(step.number, step.loss, accuracy(model, held_out))

    Args:
        parameters: Parameters to change, of any shapes ``(...)``.
        loss: Function of the step's number that draws a batch and returns a scalar tensor ``()``.
        steps: Number of steps in all.
        learning_rate: Adam's step size, or a function that gives it for each step's number.
        clip_norm: Largest Euclidean norm of the gradient; a longer one is scaled down to it.
        optimizer: Optimizer of ``parameters``; by default Adam with torch's own settings.
        first_step: Number of the first step, to resume where another loop stopped.

    Yields:
        A record of each step, after its update.

    Raises:
        ValueError: ``steps`` or ``first_step`` is negative, or there are no parameters.
        FloatingPointError: The loss or the norm of the gradient is not finite. The parameters
            stay as they were before the step.

    Source: Kingma and Ba (2015), algorithm 1; Pascanu, Mikolov and Bengio (2013), algorithm 1, for
    the clipping.

    Example:
        >>> weight = torch.nn.Parameter(torch.tensor(3.0))
        >>> for step in training_steps([weight], lambda _: weight**2, steps=100, learning_rate=0.1):
        ...     if step.loss < 1e-2:
        ...         break
        >>> step.number < 99, abs(weight.item()) < 0.2
        (True, True)
    """
    parameters = list(parameters)
    for name, value in (("steps", steps), ("first_step", first_step)):
        if value < 0:
            raise ValueError(f"{name}: expected at least 0, got {value}")
    if not parameters:
        raise ValueError("parameters: expected at least one, got none")
    if optimizer is None:  # fused, it updates all parameters in one call
        fused = all(x.device.type in ("cpu", "cuda") and x.is_floating_point() for x in parameters)
        optimizer = torch.optim.Adam(parameters, fused=fused)
    rate = learning_rate if callable(learning_rate) else lambda _step: learning_rate

    def take_steps() -> Iterator[TrainingStep]:
        for number in range(first_step, steps):
            optimizer.zero_grad()
            value = loss(number)
            before = _finite("loss", value.item(), number)
            value.backward()
            gradient = torch.nn.utils.clip_grad_norm_(parameters, clip_norm)
            norm = _finite("gradient norm", gradient.item(), number)
            for group in optimizer.param_groups:
                group["lr"] = rate(number)
            optimizer.step()
            yield TrainingStep(number, before, norm)

    return take_steps()


def train(
    parameters: Iterable[torch.nn.Parameter | torch.Tensor],
    loss: Callable[[int], torch.Tensor],
    *,
    steps: int,
    learning_rate: float | Callable[[int], float],
    clip_norm: float = 1.0,
) -> np.ndarray:
    r"""Run ``training_steps`` to its end; the arguments and errors are the same.

    .. math:: \theta_{s+1} = \theta_s - \eta \operatorname{Adam}
        \left(g_s \min\left(1, \frac{c}{\lVert g_s \rVert}\right)\right), \qquad
        g_s = \nabla L_s(\theta_s)

    Returns:
        The loss before each update, float64 ``(steps,)``.

    Example:
        >>> weight = torch.nn.Parameter(torch.tensor(3.0))
        >>> train([weight], lambda _: weight**2, steps=2, learning_rate=0.1).round(2)
        array([9.  , 8.41])
    """
    loop = training_steps(
        parameters, loss, steps=steps, learning_rate=learning_rate, clip_norm=clip_norm
    )
    return np.array([step.loss for step in loop], dtype=np.float64)


def warmup_cosine(
    learning_rate: float, steps: int, *, warmup: int, final: float = 0.0
) -> Callable[[int], float]:
    r"""Learning rate that grows linearly, then falls along half a period of a cosine.

    .. math:: \eta_n = \begin{cases} \eta\, \frac{n + 1}{w} & n < w \\
        \eta_\text{final} + \frac{1}{2} (\eta - \eta_\text{final})
        \left(1 + \cos \pi \frac{n - w}{N - w}\right) & \text{else} \end{cases}

    for step n of N, counted from 0.

    Args:
        learning_rate: :math:`\eta`, the largest step size, reached after the warm-up.
        steps: N.
        warmup: w, fewer than N.
        final: :math:`\eta_\text{final}`, which the rate approaches at the end.

    Returns:
        A function of the step's number, for ``training_steps``.

    Raises:
        ValueError: ``warmup`` is negative or not below ``steps``, or a rate is negative.

    Source: Loshchilov and Hutter (2017), equation 5, without restarts.

    Example:
        >>> rate = warmup_cosine(0.1, 12, warmup=2, final=0.02)
        >>> [round(rate(step), 3) for step in (0, 1, 2, 7, 12)]
        [0.05, 0.1, 0.1, 0.06, 0.02]
    """
    if not 0 <= warmup < steps:
        raise ValueError(f"warmup: expected 0 to {steps - 1} for {steps} steps, got {warmup}")
    for name, value in (("learning_rate", learning_rate), ("final", final)):
        if not 0 <= value < math.inf:
            raise ValueError(f"{name}: expected a finite number of at least 0, got {value}")

    def rate(step: int) -> float:
        if step < warmup:
            return learning_rate * (step + 1) / warmup
        fallen = (step - warmup) / (steps - warmup)
        return final + (learning_rate - final) * (1 + math.cos(math.pi * fallen)) / 2

    return rate


def adamw(
    model: torch.nn.Module, *, weight_decay: float, betas: tuple[float, float] = (0.9, 0.999)
) -> torch.optim.AdamW:
    r"""AdamW that shrinks matrices, and leaves biases and the weights of norms alone.

    .. math:: W \leftarrow (1 - \eta \lambda)\, W - \eta \operatorname{Adam}(g), \qquad
        w \leftarrow w - \eta \operatorname{Adam}(g)

    for parameters W of two or more axes, those w of fewer, and the weight decay :math:`\lambda`.

    Args:
        model: The model, with parameters of any shapes ``(...)``.
        weight_decay: :math:`\lambda`.
        betas: Decay of Adam's means of the gradient and of its square.

    Returns:
        The optimizer, for ``training_steps``, which sets its learning rate :math:`\eta`.

    Source: Loshchilov and Hutter (2019), algorithm 2.

    Example:
        >>> optimizer = adamw(torch.nn.Linear(2, 3), weight_decay=0.1)
        >>> [group["weight_decay"] for group in optimizer.param_groups]
        [0.1, 0.0]
    """
    parameters = list(model.parameters())
    groups = [
        {"params": [p for p in parameters if p.dim() > 1], "weight_decay": weight_decay},
        {"params": [p for p in parameters if p.dim() <= 1], "weight_decay": 0.0},
    ]
    return torch.optim.AdamW([group for group in groups if group["params"]], betas=betas)


def _finite(name: str, value: float, step: int) -> float:
    if not math.isfinite(value):
        raise FloatingPointError(
            f"{name}: expected a finite number, got {value} at step {step}; "
            "try a smaller learning rate"
        )
    return value
