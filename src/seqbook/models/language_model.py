"""Language models with a memory: a recurrent layer predicts each symbol from those before it.

Like the models of ``markov`` they are scored in bits per symbol and write text one symbol at a
time. Unlike them they read each symbol once and keep what they need of it in a state.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from seqbook.training.bptt import detach_state
from seqbook.training.loop import train

__all__ = ["CharacterModel", "batchify", "bits_per_character", "fit", "generate"]


class CharacterModel(nn.Module):
    r"""Predict the next symbol from the state of a recurrent layer.

    .. math:: h_t = \operatorname{layer}(E_{x_t}, h_{t-1}), \qquad
        P(x_{t+1} \mid x_1, \dots, x_t) = \operatorname{softmax}(W h_t + b)

    Row i of the table E, which is learned, stands for symbol i.

    Args:
        layer: A recurrent layer of this package.
        size: Number of symbols V.
        generator: Draws E, standard normal, and W and b, uniform in +-1 / sqrt(H); by default
            torch's own.

    Raises:
        ValueError: The layer reads in both directions, or ``size`` is not positive.
    """

    def __init__(self, layer: nn.Module, size: int, *, generator: torch.Generator | None = None):
        super().__init__()
        if layer.bidirectional:
            raise ValueError(
                "layer: expected one that reads forwards only; a bidirectional one reads the very "
                "symbols that it is to predict"
            )
        if size < 1:
            raise ValueError(f"size: expected at least one symbol, got {size}")
        self.size = size
        self.embedding = nn.Embedding(size, layer.input_size)
        self.layer = layer
        self.readout = nn.Linear(layer.hidden_size, size)
        bound = layer.hidden_size**-0.5
        nn.init.normal_(self.embedding.weight, generator=generator)
        nn.init.uniform_(self.readout.weight, -bound, bound, generator=generator)
        nn.init.uniform_(self.readout.bias, -bound, bound, generator=generator)

    def forward(self, ids: Tensor, state=None) -> tuple[Tensor, Tensor | tuple]:
        """The logits of the symbol after each one read, and the state after the last.

        Shape:
            ids, integers, ``(batch, time)``; state as the layer has it, by default zero; logits
            ``(batch, time, size)``.
        """
        hidden, state = self.layer(self.embedding(ids), state)
        return self.readout(hidden), state


def batchify(ids: np.ndarray | Tensor, batch: int) -> tuple[Tensor, Tensor]:
    """Cut a long text into ``batch`` contiguous stripes, to be read side by side.

    Each row goes on where it stood in the text, so that a state may be carried along it. Fewer
    than ``batch`` symbols at the end of the text are left out.

    Shape:
        ids ``(time,)``; both results ``(batch, (time - 1) // batch)``: the symbols to read, and
        for each the symbol that follows it in the text.

    Raises:
        ValueError: ``batch`` is not positive, or the text too short for it.
    """
    ids = torch.as_tensor(ids)
    if not 1 <= batch <= len(ids) - 1:
        raise ValueError(
            f"batch: expected 1 to {len(ids) - 1} for a text of {len(ids)} symbols, got {batch}"
        )
    length = (len(ids) - 1) // batch * batch
    return ids[:length].view(batch, -1), ids[1 : length + 1].view(batch, -1)


def fit(
    model: CharacterModel,
    ids: np.ndarray | Tensor,
    *,
    steps: int,
    batch: int,
    window: int,
    learning_rate: float,
) -> np.ndarray:
    """Train on a text by truncated backpropagation through time, with Adam.

    The text is read in ``batch`` stripes, ``window`` symbols of each a step. The state is carried
    from window to window, the gradient is not; at the stripes' end the next reading begins, with
    a state of zero. The learning rate falls linearly to zero.

    Args:
        model: Its parameters are changed.
        ids: The text, ``(time,)``.
        steps: Number of updates.
        batch: Number of stripes.
        window: Symbols that a step reads of each stripe; the last window may be shorter.
        learning_rate: Adam's first step size.

    Returns:
        Bits per symbol on each window before the update on it, float64 ``(steps,)``.

    Raises:
        ValueError: ``batch`` or ``window`` does not fit, or an id is not one of the model's.
    """
    if window < 1:
        raise ValueError(f"window: expected at least 1 symbol, got {window}")
    inputs, targets = batchify(_checked(ids, model.size), batch)
    state = None

    def windows() -> Iterator[tuple[bool, Tensor, Tensor]]:
        while True:
            for start in range(0, inputs.shape[1], window):
                stop = start + window
                yield start == 0, inputs[:, start:stop], targets[:, start:stop]

    readings = windows()

    def loss(_step: int) -> Tensor:
        nonlocal state
        first, read, following = next(readings)
        logits, state = model(read, None if first else detach_state(state))
        return cross_entropy(logits.flatten(0, 1), following.flatten())

    nats = train(
        model.parameters(),
        loss,
        steps=steps,
        learning_rate=lambda step: learning_rate * (1 - step / steps),
    )
    return nats / np.log(2)


@torch.no_grad()
def bits_per_character(
    model: CharacterModel, ids: np.ndarray | Tensor, *, skip: int = 1, window: int = 1000
) -> float:
    r"""Mean cost of a text under a model that reads it once, from its start, with a zero state.

    .. math:: -\frac{1}{T - s} \sum_{t=s+1}^{T} \log_2 P(x_t \mid x_1, \dots, x_{t-1})

    With the same ``skip``, ``seqbook.statistics.markov.bits_per_symbol`` scores the same symbols,
    each given the same past.

    Args:
        model: The model.
        ids: The text, ``(time,)``.
        skip: The first s symbols are context only; at least 1, as the first symbol has no past.
        window: Symbols to hold in memory at once; it does not change the result.

    Raises:
        ValueError: Nothing is left to score after ``skip``, or an id is not one of the model's.
    """
    ids = _checked(ids, model.size)
    if not 1 <= skip < len(ids):
        raise ValueError(f"skip: expected 1 to {len(ids) - 1} for {len(ids)} symbols, got {skip}")
    nats, state = [], None
    for read, following in zip(ids[:-1].split(window), ids[1:].split(window), strict=True):
        logits, state = model(read[None], state)
        nats.append(cross_entropy(logits[0].double(), following, reduction="none"))
    return torch.cat(nats)[skip - 1 :].mean().item() / np.log(2)


@torch.no_grad()
def generate(
    model: CharacterModel,
    length: int,
    *,
    prompt: np.ndarray | Tensor,
    generator: torch.Generator,
    temperature: float = 1.0,
) -> np.ndarray:
    r"""Write ``length`` symbols, each drawn from the distribution given all those before it.

    .. math:: P_\tau(j) = \frac{\exp(z_j / \tau)}{\sum_k \exp(z_k / \tau)}

    for logits z: the model's own distribution at temperature 1, nearer to its most probable
    symbol below, nearer to uniform above.

    Args:
        model: The model.
        length: Number of symbols to write.
        prompt: What the model reads first, ``(time,)``, at least one symbol.
        generator: The source of chance.
        temperature: Above 0.

    Shape:
        result: int64 ``(length,)``, without ``prompt``.

    Raises:
        ValueError: The temperature is not positive, the prompt empty or not in the model's symbols.
    """
    if not temperature > 0:
        raise ValueError(f"temperature: expected a number above 0, got {temperature}")
    read, state, written = _checked(prompt, model.size), None, []
    if len(read) == 0:
        raise ValueError("prompt: expected at least one symbol, got none")
    for _ in range(length):
        logits, state = model(read[None], state)
        probabilities = torch.softmax(logits[0, -1] / temperature, dim=-1)
        read = torch.multinomial(probabilities, 1, generator=generator)
        written.append(read.item())
    return np.array(written, dtype=np.int64)


def _checked(ids: np.ndarray | Tensor, size: int) -> Tensor:
    ids = torch.as_tensor(ids)
    if ids.dim() != 1:
        raise ValueError(f"ids: expected shape (time,), got {tuple(ids.shape)}")
    outside = ids[(ids < 0) | (ids >= size)]
    if len(outside):
        raise ValueError(f"ids: expected 0 to {size - 1}, got {outside[0].item()}")
    return ids
