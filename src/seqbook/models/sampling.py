"""The distribution from which the next symbol is drawn: temperature, top-k and top-p."""

from __future__ import annotations

import torch
from torch import Tensor

from seqbook.validation import check_integer

__all__ = ["sampling_distribution"]


def sampling_distribution(
    logits: Tensor, *, temperature: float = 1.0, top_k: int | None = None, top_p: float = 1.0
) -> Tensor:
    r"""Probabilities from which to draw, sharpened or flattened, without improbable symbols.

    .. math:: P(j) = \frac{\exp(z_j / T)}{\sum_i \exp(z_i / T)}, \qquad
        \tilde P(j) = \frac{P(j)}{\sum_{i \in S} P(i)} \text{ for } j \in S, \text{ else } 0

    for logits z and the temperature T. S holds all symbols, or

    - top-k: the k most probable symbols;
    - top-p: the smallest number of most probable symbols that together have at least the
      probability p, so that a symbol stays if those before it have less than p.

    If both are given, top-p is taken of the k symbols, whose probabilities then sum to one. Of
    equally probable symbols, the one with the smaller id counts as the more probable one. The most
    probable symbol always stays.

    Args:
        logits: Logits or log-probabilities; -inf for a symbol that can't be drawn.
        temperature: T, positive and finite; 1 is the model's own distribution. As it goes to zero,
            only the most probable symbols are left.
        top_k: k, at least 1; all symbols stay if it is None or not below their number.
        top_p: p, above 0 and at most 1; all symbols stay if it is 1.

    Shape:
        logits and result ``(..., symbols)``.

    Raises:
        TypeError: ``top_k`` is not an integer.
        ValueError: The temperature is not positive and finite, ``top_k`` is below 1, or ``top_p``
            is not above 0 and at most 1.

    Source: Fan, Lewis and Dauphin (2018) for top-k; Holtzman et al. (2020) for top-p.

    Example:
        >>> logits = torch.tensor([0.4, 0.3, 0.2, 0.1]).log()
        >>> sampling_distribution(logits, top_k=2)
        tensor([0.5714, 0.4286, 0.0000, 0.0000])
        >>> sampling_distribution(logits, top_p=0.8)
        tensor([0.4444, 0.3333, 0.2222, 0.0000])
    """
    if not 0 < temperature < float("inf"):
        raise ValueError(f"temperature: expected a finite number above 0, got {temperature}")
    if top_k is not None:
        top_k = check_integer("top_k", top_k, minimum=1)
    if not 0 < top_p <= 1:
        raise ValueError(f"top_p: expected a number above 0 and at most 1, got {top_p}")
    temperature = max(temperature, torch.finfo(logits.dtype).tiny)  # smaller ones may become 0
    # Exactly 0 for the most probable symbol, so that no quotient overflows to infinity.
    relative = logits - logits.amax(-1, keepdim=True)
    probabilities = (relative / temperature).softmax(-1)
    if top_k is None and top_p == 1:
        return probabilities
    ranked, symbols = probabilities.sort(dim=-1, descending=True, stable=True)
    if top_k is not None:
        ranked[..., top_k:] = 0
        ranked = ranked / ranked.sum(-1, keepdim=True)
    if top_p < 1:
        before = torch.zeros_like(ranked)  # together, the more probable ones
        before[..., 1:] = ranked.cumsum(-1)[..., :-1]
        ranked = ranked.masked_fill(before >= top_p, 0)
    kept = torch.zeros_like(ranked).scatter(-1, symbols, ranked)
    return kept / kept.sum(-1, keepdim=True)
