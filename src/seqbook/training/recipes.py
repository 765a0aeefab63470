"""Recipes: which model is trained, and how. This module needs no torch."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any

__all__ = ["RECIPES", "Recipe"]


@dataclass(frozen=True)
class Recipe:
    r"""Model and hyperparameters of a training run.

    Adam's step size grows linearly over ``warmup`` steps and falls linearly to zero over all:
    at step n of N, counted from 0, it is ``learning_rate`` times
    :math:`\min((n + 1) / \text{warmup}, 1 - n / N)`. The weights that are scored and saved are an
    exponential moving average of those along the way. It starts as the weights after step 0 and
    then follows :math:`\bar w \leftarrow d \bar w + (1 - d) w` after each step n, with
    :math:`d = \min(\text{ema\_decay}, (1 + n) / (10 + n))`.

    Attributes:
        model: A name in ``seqbook.models.transcriber.MODELS``.
        options: Options of the model's constructor.
        epochs: Number of times each example is read; need not be whole.
        batch: Examples in a batch.
        learning_rate: Largest step size, reached at the end of the warm-up.
        warmup: Steps to warm up.
        label_smoothing: Probability spread over all symbols, see ``Seq2Seq.loss``.
        ema_decay: Largest decay of the exponential moving average of the weights.
        clip_norm: The gradient is scaled down to this Euclidean norm if it is longer.
        seed: Seed of the initial weights, the batches and the dropout.

    Raises:
        ValueError: A number is out of range.

    Source: Polyak and Juditsky (1992) for averaging the weights; Szegedy et al. (2016), section 7,
    for label smoothing.

    Example:
        >>> recipe = Recipe("gru", {"embedding_size": 64, "hidden_size": 64}, warmup=100)
        >>> recipe.rate(49, 1000), recipe.rate(500, 1000)
        (0.001, 0.001)
    """

    model: str
    options: dict[str, Any] = field(default_factory=dict)
    epochs: float = 20
    batch: int = 64
    learning_rate: float = 0.002
    warmup: int = 300
    label_smoothing: float = 0.1
    ema_decay: float = 0.999
    clip_norm: float = 1.0
    seed: int = 0

    def __post_init__(self) -> None:
        for name in ("epochs", "batch", "learning_rate", "warmup", "clip_norm"):
            if not 0 < getattr(self, name) < math.inf:
                raise ValueError(
                    f"{name}: expected a positive finite number, got {getattr(self, name)}"
                )
        for name in ("label_smoothing", "ema_decay"):
            if not 0 <= getattr(self, name) < 1:
                raise ValueError(f"{name}: expected 0 to below 1, got {getattr(self, name)}")
        if not 0 <= self.seed < 2**32:
            raise ValueError(f"seed: expected 0 to 2^32 - 1, got {self.seed}")

    def rate(self, step: int, steps: int) -> float:
        r"""Return Adam's step size at a step, counted from 0, of a run of so many steps.

        .. math:: \eta_n = \eta \min\left(\frac{n + 1}{w},\, 1 - \frac{n}{N}\right)

        for step n of N, the ``learning_rate`` :math:`\eta` and w = ``warmup``.
        """
        return self.learning_rate * min((step + 1) / self.warmup, 1 - step / steps)


_RECURRENT = {"embedding_size": 128, "hidden_size": 304, "num_layers": 1, "dropout": 0.3}
# The first two are those of chapter 8's capstone: about as many weights and minutes each.
RECIPES = {
    "transformer": Recipe(
        "transformer",
        {
            "d_model": 128,
            "heads": 4,
            "d_ff": 512,
            "encoder_layers": 3,
            "decoder_layers": 2,
            "dropout": 0.1,
        },
        epochs=20,
        learning_rate=0.002,
        warmup=500,
    ),
    **{
        model: Recipe(model, _RECURRENT, epochs=28, learning_rate=0.004)
        for model in ("lstm", "gru", "rnn")
    },
}
"""Recipes of the command ``seqbook train``, by the name of the model."""
