"""Layers of chapter 10 in the place of attention, to compare models that differ in nothing else."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from seqbook.layers.linear_attention import DeltaNet
from seqbook.layers.linear_recurrence import LRU, MinGRU
from seqbook.layers.state_space import SelectiveSSM
from seqbook.models.decoder_only import DecoderOnlyModel

HEADS = 4
STATES = 16  # of each feature of the selective state spaces


class Mixer(nn.Module):
    """A recurrent layer between two linear maps; what it does is causal without a mask."""

    def __init__(self, features: int, layer: nn.Module):
        super().__init__()
        self.enter, self.layer = nn.Linear(features, features), layer
        self.leave = nn.Linear(features, features)

    def forward(self, inputs: Tensor, *, mask: Tensor | None = None) -> Tensor:
        """Run the layer over ``(batch, time, features)``; the mask is not looked at."""
        return self.leave(self.layer(self.enter(inputs))[0])


LAYERS: dict[str, Callable[[int, torch.Generator], nn.Module]] = {
    "minGRU": lambda features, generator: MinGRU(features, features, generator=generator),
    "LRU": lambda features, generator: LRU(features, features // 2, generator=generator),
    "selective": lambda features, generator: SelectiveSSM(features, STATES, generator=generator),
    "delta rule": lambda features, generator: DeltaNet(features, HEADS, generator=generator),
}
KINDS = (*LAYERS, "hybrid", "attention")
"""Of ``model_of``; ``"hybrid"`` has one layer of attention, the last one, and else minGRUs."""


def model_of(kind: str, symbols: int, *, seed: int, **sizes: Any) -> DecoderOnlyModel:
    """A model of today's parts whose layers mix over time in one way.

    Attention has rotary positions; the others know the order without positions.

    Args:
        kind: One of ``KINDS``.
        symbols: Number of symbols.
        seed: Draws the initial weights.
        sizes: Other arguments of ``DecoderOnlyModel``.
    """
    generator = torch.Generator().manual_seed(seed)
    model = DecoderOnlyModel(symbols, generator=generator, **sizes)
    if kind == "attention":
        return model
    layer_of = LAYERS["minGRU" if kind == "hybrid" else kind]
    features = model.embed_tokens.embedding_dim
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)  # of the maps around the layers
        for block in list(model.layers)[: -1 if kind == "hybrid" else None]:
            block.self_attn = Mixer(features, layer_of(features, generator))
    return model


def hidden_units(weights: int, weights_at: Callable[[int], int]) -> int:
    """Find the size at which a model has nearly so many weights, if they grow linearly with it."""
    one, two = weights_at(1), weights_at(2)
    return max(1, 1 + round((weights - one) / (two - one)))


def weights_of(model: nn.Module) -> int:
    """Count the parameters."""
    return sum(parameter.numel() for parameter in model.parameters())
