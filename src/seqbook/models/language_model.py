"""Language models with a memory: a recurrent layer predicts each symbol from those before it.

Like the models of ``seqbook.statistics.markov`` they are scored in bits per symbol and generate
text one symbol at a time. Unlike them they read each symbol once and keep what they need of it in
a state. ``seqbook.training.fit`` trains them.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from seqbook.layers.recurrent import RecurrentLayer
from seqbook.models.ids import as_ids
from seqbook.models.sampling import sampling_distribution

__all__ = ["CharacterModel", "batchify", "bits_per_character", "generate"]


class CharacterModel(nn.Module):
    r"""Predict the next symbol from the state of a recurrent layer.

    .. math:: h_t = \operatorname{layer}(E_{x_t}, h_{t-1}), \qquad
        P(x_{t+1} \mid x_1, \dots, x_t) = \operatorname{softmax}(W h_t + b)

    Row i of the table E, which is learned, stands for symbol i.

    Args:
        layer: A recurrent layer of this package, which reads forwards. The embeddings and the
            readout are made on its device and of its floating type.
        size: Number of symbols V.
        generator: Draws E, standard normal, and W and b, uniform in ``±1/sqrt(H)``; by default
            torch's own.

    Shape:
        E ``(V, input_size)``, W ``(V, H)`` and b ``(V,)`` for a layer with H hidden units.

    Raises:
        ValueError: The layer reads in both directions, or ``size`` is not positive.

    Source: Mikolov et al. (2010), with any recurrent layer.

    Example:
        >>> from seqbook.layers.gru import GRU
        >>> model = CharacterModel(GRU(4, 8), 5)
        >>> logits, state = model(torch.tensor([[0, 3, 1]]))
        >>> logits.shape
        torch.Size([1, 3, 5])
    """

    def __init__(
        self, layer: RecurrentLayer, size: int, *, generator: torch.Generator | None = None
    ):
        super().__init__()
        if layer.bidirectional:
            raise ValueError(
                "layer: expected one that reads forwards only; a bidirectional one reads the very "
                "symbols that it is to predict"
            )
        if size < 1:
            raise ValueError(f"size: expected at least one symbol, got {size}")
        weight = next(layer.parameters())
        options: dict[str, Any] = {"device": weight.device, "dtype": weight.dtype}
        self.size = size
        self.embedding = nn.Embedding(size, layer.input_size, **options)
        self.layer = layer
        self.readout = nn.Linear(layer.hidden_size, size, **options)
        bound = layer.hidden_size**-0.5
        nn.init.normal_(self.embedding.weight, generator=generator)
        nn.init.uniform_(self.readout.weight, -bound, bound, generator=generator)
        nn.init.uniform_(self.readout.bias, -bound, bound, generator=generator)

    def forward(self, ids: Tensor, state: Any = None) -> tuple[Tensor, Any]:
        """Return the logits of the symbol after each one read, and the state after the last.

        Args:
            ids: Integers of any type, ``(batch, time)``.
            state: State of the layer before the first symbol, in the layer's own form; by default
                zero.

        Shape:
            logits ``(batch, time, size)``.

        Raises:
            TypeError: The ids are not integers.
        """
        hidden, state = self.layer(self.embedding(as_ids(ids)), state)
        return self.readout(hidden), state


def batchify(ids: np.ndarray | Tensor | Sequence[int], batch: int) -> tuple[Tensor, Tensor]:
    r"""Cut a long text into ``batch`` contiguous rows, to be read side by side.

    .. math:: \text{inputs}_{b,t} = x_{b n + t}, \qquad \text{targets}_{b,t} = x_{b n + t + 1},
        \qquad n = \left\lfloor \frac{T - 1}{B} \right\rfloor

    for B rows of a text x of length T, all counted from 0.

    Each column continues where the one before it stopped, so that a state may be carried along the
    rows. Up to ``batch`` symbols at the end of the text are left out.

    Args:
        ids: The text, integers of any type, ``(time,)``.
        batch: Number of rows.

    Shape:
        both results int64 ``(batch, (time - 1) // batch)``: the symbols to read, and for each the
        symbol that follows it in the text.

    Raises:
        ValueError: ``batch`` is not positive, or the text is too short for it or not of one
            dimension.
        TypeError: The ids are not integers.

    Example:
        >>> inputs, targets = batchify(range(7), 2)
        >>> inputs.tolist(), targets.tolist()
        ([[0, 1, 2], [3, 4, 5]], [[1, 2, 3], [4, 5, 6]])
    """
    ids = as_ids(ids, dims=1)
    if not 1 <= batch <= len(ids) - 1:
        raise ValueError(
            f"batch: expected 1 to {len(ids) - 1} for a text of {len(ids)} symbols, got {batch}"
        )
    length = (len(ids) - 1) // batch * batch
    return ids[:length].view(batch, -1), ids[1 : length + 1].view(batch, -1)


@torch.no_grad()
def bits_per_character(
    model: CharacterModel,
    ids: np.ndarray | Tensor | Sequence[int],
    *,
    skip: int = 1,
    window: int = 1000,
) -> float:
    r"""Mean cost of a text under a model that reads it once, from its start, with a zero state.

    .. math:: -\frac{1}{T - s} \sum_{t=s+1}^{T} \log_2 P(x_t \mid x_1, \dots, x_{t-1})

    With the same ``skip``, ``seqbook.statistics.markov.bits_per_symbol`` scores the same symbols,
    each given the same past.

    Args:
        model: The model.
        ids: The text, integers of any type, ``(time,)``.
        skip: The first s symbols are context only; at least 1, as the first symbol has no past.
        window: Symbols to hold in memory at once; it does not change the result.

    Returns:
        Bits per symbol.

    Raises:
        ValueError: Nothing is left to score after ``skip``, ``window`` is not positive, or an id is
            not one of the model's.
        TypeError: The ids are not integers.

    Example:
        >>> from seqbook.layers.gru import GRU
        >>> model = CharacterModel(GRU(4, 8), 4)
        >>> _ = torch.nn.init.zeros_(model.readout.weight)
        >>> _ = torch.nn.init.zeros_(model.readout.bias)
        >>> round(bits_per_character(model, [0, 1, 2, 3]), 3)
        2.0
    """
    ids = as_ids(ids, size=model.size, dims=1).to(model.embedding.weight.device)
    if not 1 <= skip < len(ids):
        raise ValueError(f"skip: expected 1 to {len(ids) - 1} for {len(ids)} symbols, got {skip}")
    if window < 1:
        raise ValueError(f"window: expected at least 1 symbol, got {window}")
    nats, state = [], None
    for inputs, targets in zip(ids[:-1].split(window), ids[1:].split(window), strict=True):
        logits, state = model(inputs[None], state)
        nats.append(cross_entropy(logits[0].cpu().double(), targets.cpu(), reduction="none"))
    return torch.cat(nats)[skip - 1 :].mean().item() / math.log(2)


@torch.no_grad()
def generate(
    model: CharacterModel,
    length: int,
    *,
    prompt: np.ndarray | Tensor | Sequence[int],
    generator: torch.Generator,
    temperature: float = 1.0,
    top_k: int | None = None,
    top_p: float = 1.0,
) -> np.ndarray:
    r"""Generate ``length`` symbols, each drawn from the distribution given all those before it.

    .. math:: P_\tau(j) = \frac{\exp(z_j / \tau)}{\sum_k \exp(z_k / \tau)}

    for logits z: the model's own distribution at temperature 1, nearer to its most probable
    symbol below, nearer to uniform above. ``top_k`` and ``top_p`` drop improbable symbols, see
    ``seqbook.models.sampling.sampling_distribution``.

    Args:
        model: The model.
        length: Number of symbols to generate.
        prompt: Symbols that the model reads first, integers of any type, ``(time,)``, at least one.
        generator: Random generator that draws the symbols, on any device.
        temperature: Positive and finite. As it goes to zero, the most probable symbol is drawn.
        top_k: Number of most probable symbols among which to draw, at least 1; None for all.
        top_p: Draw among the smallest number of most probable symbols that together have at least
            this probability; 1 for all.

    Shape:
        result: int64 ``(length,)``, without ``prompt``.

    Raises:
        ValueError: ``length`` is negative, ``temperature``, ``top_k`` or ``top_p`` is out of range,
            or the prompt is empty or has a symbol that is not one of the model's.
        TypeError: The prompt's ids are not integers, or ``top_k`` is not one.

    Source: Fan, Lewis and Dauphin (2018) for top-k; Holtzman et al. (2020) for top-p.

    Example:
        >>> from seqbook.layers.gru import GRU
        >>> model = CharacterModel(GRU(4, 8), 5)
        >>> generate(model, 7, prompt=[0], generator=torch.Generator().manual_seed(0)).shape
        (7,)
    """
    weight = model.embedding.weight
    if length < 0:
        raise ValueError(f"length: expected at least 0, got {length}")
    inputs = as_ids(prompt, size=model.size, dims=1, name="prompt").to(weight.device)
    if len(inputs) == 0:
        raise ValueError("prompt: expected at least one symbol, got none")
    symbols, state = [], None
    dtype = torch.promote_types(weight.dtype, torch.float32)
    options: dict[str, Any] = {"temperature": temperature, "top_k": top_k, "top_p": top_p}
    sampling_distribution(torch.zeros(1), **options)  # refuses options also if length is 0
    for _ in range(length):
        logits, state = model(inputs[None], state)
        probabilities = sampling_distribution(logits[0, -1].to(dtype), **options)
        inputs = torch.multinomial(probabilities.to(generator.device), 1, generator=generator).to(
            weight.device
        )
        symbols.append(inputs.item())
    return np.array(symbols, dtype=np.int64)
