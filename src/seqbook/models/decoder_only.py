"""Decoder-only language models: a causal Transformer predicts each symbol from those before it.

``DecoderOnlyModel`` has an option for each part that changed between the first of these models
and today's, so that they can be compared one at a time. With its defaults it is a Llama, with
``norm="layer"``, ``positions="learned"`` and ``feed_forward="gelu"`` a GPT-2.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from seqbook.layers.attention import GroupedQueryAttention, KeyValueCache, causal_mask
from seqbook.layers.feed_forward import FeedForward, SwiGLU
from seqbook.layers.initialization import initialize
from seqbook.layers.normalization import RMSNorm
from seqbook.layers.rotary import RotaryPositions
from seqbook.layers.transformer import LearnedPositions, SinusoidalPositions
from seqbook.models.ids import as_ids
from seqbook.models.modes import evaluation_mode
from seqbook.models.sampling import sampling_distribution
from seqbook.validation import check_choice, check_integer

__all__ = [
    "DECODER_NORMS",
    "FEED_FORWARDS",
    "POSITIONS",
    "DecoderOnlyLayer",
    "DecoderOnlyModel",
    "windowed_loss",
]

DECODER_NORMS = ("rms", "layer")
"""Values of ``DecoderOnlyModel``'s argument ``norm``."""

POSITIONS = ("rotary", "learned", "sinusoidal", "none")
"""Values of ``DecoderOnlyModel``'s argument ``positions``."""

FEED_FORWARDS = ("swiglu", "gelu")
"""Values of ``DecoderOnlyModel``'s argument ``feed_forward``."""


class DecoderOnlyLayer(nn.Module):
    r"""Self-attention, then a network at each position, each with a norm and a residual.

    .. math:: a = x + \operatorname{Attention}(\operatorname{norm}_1(x)), \qquad
        y = a + \operatorname{FFN}(\operatorname{norm}_2(a))

    Args:
        attention: The attention layer.
        network: The network that is applied at each position.
        norms: The two norms, in this order.
        dropout: Fraction of units set to zero in training, of what each of the two adds.

    Source: Radford et al. (2019), section 2.3, for the place of the norms.

    Example:
        >>> layer = DecoderOnlyLayer(
        ...     GroupedQueryAttention(8, 2), SwiGLU(8, 21), norms=(RMSNorm(8), RMSNorm(8))
        ... )
        >>> layer(torch.ones(3, 5, 8), mask=causal_mask(5)).shape
        torch.Size([3, 5, 8])
    """

    def __init__(
        self,
        attention: GroupedQueryAttention,
        network: nn.Module,
        *,
        norms: tuple[nn.Module, nn.Module],
        dropout: float = 0.0,
    ):
        super().__init__()
        self.input_layernorm, self.post_attention_layernorm = norms
        self.self_attn, self.mlp = attention, network
        self.dropout = nn.Dropout(dropout)

    def forward(self, inputs: Tensor, *, mask: Tensor | None = None) -> Tensor:
        """Return the sequence after the layer.

        Shape:
            inputs and result ``(batch, time, d_model)``; mask broadcastable to
            ``(batch, time, time)``, True = may attend.
        """
        return self._after(inputs, self.self_attn(self.input_layernorm(inputs), mask=mask))

    def step(self, inputs: Tensor, cache: KeyValueCache) -> tuple[Tensor, KeyValueCache]:
        """Return new positions after the layer, equal to ``forward`` with a causal mask.

        Shape:
            inputs and result ``(batch, time, d_model)``.
        """
        attended, cache = self.self_attn.step(self.input_layernorm(inputs), cache)
        return self._after(inputs, attended), cache

    def _after(self, inputs: Tensor, attended: Tensor) -> Tensor:
        x = inputs + self.dropout(attended)  # (batch, time, d_model)
        return x + self.dropout(self.mlp(self.post_attention_layernorm(x)))


class DecoderOnlyModel(nn.Module):
    r"""A language model from ids to loss: embeddings, decoder layers, a norm and a readout.

    .. math:: x^{(0)}_t = E_{s_t}, \qquad x^{(l)} = \operatorname{layer}_l(x^{(l-1)}), \qquad
        P(s_{t+1} \mid s_1, \dots, s_t) = \operatorname{softmax}(W \operatorname{norm}(x^{(L)}_t))

    for L layers with a causal mask, row i of the embedding E for symbol i, and W = E if
    the weights are tied. Learned positions are added to :math:`x^{(0)}`; sinusoids are added to
    :math:`\sqrt{d}\, E_{s_t}`, as in the first Transformer; rotary positions act on queries and
    keys in each layer.

    The initial weights are those of GPT-2: normal with a standard deviation of 0.02, divided by
    :math:`\sqrt{2 L}` in the last matrix of each of the 2 L residual branches, so that the sum of
    all branches does not grow with L. Biases are zero and norms one.

    The parameters have the names and shapes of Llama in the ``transformers`` library, without
    its prefix ``model.``, so ``load_state_dict`` moves them either way. (With tied weights that
    library stores E a second time, as ``lm_head.weight``.)

    Args:
        symbols: Number of symbols V.
        d_model: Number of features d.
        layers: Number L of layers.
        heads: Number of heads of queries; it must divide ``d_model``.
        kv_heads: Number of heads of keys and values, by default ``heads``; it must divide them.
        d_ff: Hidden units of the feed-forward networks, by default four times ``d_model`` for
            ``"gelu"`` and two thirds of this, rounded, for ``"swiglu"``, which has equally many
            weights then.
        max_length: Number of symbols that the model is made to read at once. Learned positions
            have no more.
        norm: ``"rms"`` or ``"layer"``.
        positions: ``"rotary"``, ``"learned"``, ``"sinusoidal"`` or ``"none"``.
        feed_forward: ``"swiglu"`` or ``"gelu"``.
        tied: Whether the readout is the embedding.
        bias: Whether layers and layer norms have biases; the readout never has.
        dropout: Fraction of units set to zero in training, of embeddings and of what is added in
            the layers.
        rotary_base: Base b of the rotary positions.
        epsilon: Of the norms.
        generator: Draws the initial weights; by default torch's own.
        device: Device of the parameters; by default torch's default device.
        dtype: Floating type of the parameters; by default torch's default type. In half precision,
            softmax, RMS norms, rotations and the loss are computed in float32.

    Shape:
        E and W ``(V, d)``.

    Raises:
        ValueError: A size does not fit or an option is unknown.

    Source: Radford et al. (2019); Touvron et al. (2023) for the defaults; Press and Wolf (2017)
    for the tied weights.

    Example:
        >>> model = DecoderOnlyModel(11, 8, layers=2, heads=4, kv_heads=2, max_length=16)
        >>> text = torch.tensor([[3, 1, 4, 1, 5, 9, 2, 6]])
        >>> model(text).shape, model.loss(text).shape
        (torch.Size([1, 8, 11]), torch.Size([]))
        >>> model.generate([3, 1, 4], 20).shape  # more than it reads at once
        (20,)
    """

    def __init__(
        self,
        symbols: int,
        d_model: int,
        *,
        layers: int,
        heads: int,
        max_length: int,
        kv_heads: int | None = None,
        d_ff: int | None = None,
        norm: str = "rms",
        positions: str = "rotary",
        feed_forward: str = "swiglu",
        tied: bool = True,
        bias: bool = False,
        dropout: float = 0.0,
        rotary_base: float = 10000.0,
        epsilon: float = 1e-5,
        generator: torch.Generator | None = None,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ):
        super().__init__()
        check_choice("norm", norm, DECODER_NORMS)
        check_choice("positions", positions, POSITIONS)
        check_choice("feed_forward", feed_forward, FEED_FORWARDS)
        sizes = {"symbols": symbols, "d_model": d_model, "layers": layers}
        for name, size in (sizes | {"heads": heads, "max_length": max_length}).items():
            if size < 1:
                raise ValueError(f"{name}: expected at least 1, got {size}")
        placed: dict[str, Any] = {"device": device, "dtype": dtype}
        options: dict[str, Any] = {"bias": bias, **placed}
        gated = feed_forward == "swiglu"
        if d_ff is None:
            d_ff = round(8 * d_model / 3) if gated else 4 * d_model

        def new_norm() -> nn.Module:
            if norm == "rms":
                return RMSNorm(d_model, epsilon=epsilon, **placed)
            return nn.LayerNorm(d_model, eps=epsilon, **options)

        def new_layer() -> DecoderOnlyLayer:
            return DecoderOnlyLayer(
                GroupedQueryAttention(d_model, heads, kv_heads=kv_heads, rotary=rotary, **options),
                (SwiGLU if gated else FeedForward)(d_model, d_ff, **options),
                norms=(new_norm(), new_norm()),
                dropout=dropout,
            )

        rotates = positions == "rotary" and d_model % heads == 0
        rotary = RotaryPositions(d_model // heads, base=rotary_base) if rotates else None
        self.size, self.max_length = symbols, max_length
        self.embed_tokens = nn.Embedding(symbols, d_model, **placed)
        self.scale = d_model**0.5 if positions == "sinusoidal" else 1.0
        self.positions: nn.Module | None = None
        if positions == "learned":
            self.positions = LearnedPositions(d_model, max_length, generator=generator, **placed)
        elif positions == "sinusoidal":
            self.positions = SinusoidalPositions(d_model)
        self.dropout = nn.Dropout(dropout)
        self.layers = nn.ModuleList(new_layer() for _ in range(layers))
        self.norm = new_norm()
        self.lm_head = None if tied else nn.Linear(d_model, symbols, bias=False, **placed)
        for name, parameter in self.named_parameters():
            if parameter.dim() == 2:
                adds = name.endswith(("o_proj.weight", "down_proj.weight"))
                std = 0.02 / (2 * layers) ** 0.5 if adds else 0.02
                initialize(parameter, nn.init.normal_, std=std, generator=generator)

    def forward(self, ids: Tensor) -> Tensor:
        """Compute the logits of the symbol after each one.

        Args:
            ids: Integers of any type, ``(batch, time)``.

        Shape:
            result ``(batch, time, V)``.

        Raises:
            TypeError: The ids are not integers.
            ValueError: The shape does not fit, or there are more symbols than learned positions.
        """
        x = self._embed(ids)  # (batch, time, d)
        mask = causal_mask(x.shape[1], device=x.device)
        for layer in self.layers:
            x = layer(x, mask=mask)
        return self._read_out(x)

    def loss(self, ids: Tensor) -> Tensor:
        r"""Mean cost of each symbol but the first, given those before it.

        .. math:: -\frac{1}{B\, n} \sum_{b=1}^{B} \sum_{t=1}^{n}
            \log P(s_{b,t+1} \mid s_{b,1}, \dots, s_{b,t})

        Args:
            ids: B sequences of n + 1 symbols, integers of any type, ``(batch, time)``.

        Returns:
            Nats per symbol, a scalar ``()``, in at least float32.

        Raises:
            TypeError: The ids are not integers.
            ValueError: There is nothing to predict, or as for ``forward``.
        """
        ids = as_ids(ids, dims=2).to(self.embed_tokens.weight.device)
        if ids.shape[0] < 1 or ids.shape[1] < 2:
            raise ValueError(
                f"ids: expected sequences of at least two symbols, got shape {tuple(ids.shape)}"
            )
        return cross_entropy(_precise(self(ids[:, :-1])).flatten(0, 1), ids[:, 1:].flatten())

    def start(self, batch: int = 1, *, capacity: int | None = None) -> list[KeyValueCache]:
        """Return empty caches, one for each layer.

        Args:
            batch: Number of sequences.
            capacity: Positions to make room for, by default ``max_length``.

        Shape:
            buffers ``(batch, kv_heads, capacity, d / heads)`` each.
        """
        capacity = self.max_length if capacity is None else capacity
        layers = (cast(DecoderOnlyLayer, layer) for layer in self.layers)
        return [layer.self_attn.start(batch, capacity) for layer in layers]

    def step(self, ids: Tensor, caches: list[KeyValueCache]) -> tuple[Tensor, list[KeyValueCache]]:
        """Read one or more symbols after those in the caches; equal to ``forward`` of all.

        Args:
            ids: Integers of any type, ``(batch, time)``.
            caches: One for each layer; they stay as they were.

        Shape:
            logits ``(batch, time, V)``, of what follows each new symbol.

        Raises:
            TypeError: The ids are not integers.
            ValueError: A shape does not fit, there is not one cache for each layer, or there are
                more symbols than learned positions.
        """
        x, updated = self._embed(ids, start=caches[0].length if caches else 0), []
        for layer, cache in zip(self.layers, caches, strict=True):
            x, cache = cast(DecoderOnlyLayer, layer).step(x, cache)
            updated.append(cache)
        return self._read_out(x), updated

    @torch.no_grad()
    def generate(
        self,
        prompt: np.ndarray | Tensor | Sequence[int],
        length: int,
        *,
        generator: torch.Generator | None = None,
        temperature: float = 1.0,
        top_k: int | None = None,
        top_p: float = 1.0,
        cached: bool = True,
    ) -> np.ndarray:
        """Generate symbols, without dropout: the most probable ones, or drawn ones.

        The model never reads more than ``max_length`` symbols. When it has read so many, it
        forgets the older half of them, reads the other half again as the start of a text, and goes
        on.

        Args:
            prompt: Symbols that are read first, integers of any type, ``(time,)``, at least one.
            length: Number of symbols to generate.
            generator: Draws the symbols, on any device. Without it, each is the most probable one.
            temperature: See ``seqbook.models.sampling.sampling_distribution``.
            top_k: See there.
            top_p: See there.
            cached: Whether to keep the keys and values of past symbols. Without a cache, all are
                computed again for each symbol, and the symbols are the same.

        Shape:
            result: int64 ``(length,)``, without ``prompt``.

        Raises:
            TypeError: The prompt's ids are not integers, or ``top_k`` is not one.
            ValueError: The prompt is empty or has a symbol that is not one of the model's,
                ``length`` is negative, or an option is out of range.
        """
        device = self.embed_tokens.weight.device
        context = as_ids(prompt, size=self.size, dims=1, name="prompt").to(device)
        if len(context) == 0:
            raise ValueError("prompt: expected at least one symbol, got none")
        if length < 0:
            raise ValueError(f"length: expected at least 0, got {length}")
        options: dict[str, Any] = {"temperature": temperature, "top_k": top_k, "top_p": top_p}
        sampling_distribution(torch.zeros(1), **options)  # refuses options also if length is 0
        context, caches, symbols = context[-self.max_length :], None, []
        with evaluation_mode(self):
            for _ in range(length):
                if len(context) > self.max_length:
                    context, caches = context[self.max_length // 2 + 1 :], None
                if not cached:
                    logits = self(context[None])
                elif caches is None:
                    logits, caches = self.step(context[None], self.start())
                else:
                    logits, caches = self.step(context[None, -1:], caches)
                logits = _precise(logits[0, -1])  # (V,)
                if generator is None:
                    symbol = logits.argmax(-1, keepdim=True)
                else:
                    probabilities = sampling_distribution(logits, **options).to(generator.device)
                    symbol = torch.multinomial(probabilities, 1, generator=generator).to(device)
                context = torch.cat((context, symbol))
                symbols.append(symbol.item())
        return np.array(symbols, dtype=np.int64)

    def _embed(self, ids: Tensor, *, start: int = 0) -> Tensor:
        ids = as_ids(ids, dims=2).to(self.embed_tokens.weight.device)
        x = self.embed_tokens(ids) * self.scale
        return self.dropout(x if self.positions is None else self.positions(x, start=start))

    def _read_out(self, x: Tensor) -> Tensor:
        x = self.norm(x)
        return x @ self.embed_tokens.weight.T if self.lm_head is None else self.lm_head(x)


@torch.no_grad()
def windowed_loss(
    model: DecoderOnlyModel,
    ids: np.ndarray | Tensor | Sequence[int],
    *,
    stride: int | None = None,
    batch: int = 64,
) -> float:
    r"""Mean cost of a text that is read in windows of the model's ``max_length``, without dropout.

    .. math:: -\frac{1}{T - 1} \sum_{t=2}^{T} \log P(s_t \mid s_{a(t)}, \dots, s_{t-1})

    where a(t) is the start of the window that scores symbol t. Windows start every ``stride``
    symbols, the last one early enough to be whole, and each scores the symbols that none before it
    has scored. With a stride of ``max_length``, the default, every length of context occurs
    equally often, as in training on random windows. With a smaller one, every symbol that far into
    the text has at least ``max_length - stride`` symbols before it; the loss is lower and takes
    longer to compute.

    Args:
        model: The model.
        ids: The text, integers of any type, ``(time,)``, at least two symbols.
        stride: Symbols between the starts of two windows, 1 to ``max_length``.
        batch: Number of windows to read at once; it does not change the result.

    Returns:
        Nats per symbol.

    Raises:
        TypeError: The ids are not integers.
        ValueError: The text is too short, an id is not one of the model's, or ``stride`` or
            ``batch`` is out of range.

    Example:
        >>> model = DecoderOnlyModel(4, 8, layers=1, heads=2, max_length=16)
        >>> _ = torch.nn.init.zeros_(model.embed_tokens.weight)  # it knows nothing
        >>> round(windowed_loss(model, [0, 1, 2, 3] * 20), 3)  # log 4
        1.386
    """
    ids = as_ids(ids, size=model.size, dims=1).to(model.embed_tokens.weight.device)
    if len(ids) < 2:
        raise ValueError(f"ids: expected at least two symbols, got {len(ids)}")
    window = min(model.max_length, len(ids) - 1)
    stride = window if stride is None else stride
    stride = check_integer("stride", stride, minimum=1, maximum=model.max_length)
    batch = check_integer("batch", batch, minimum=1)
    windows = ids.unfold(0, window + 1, 1)  # (T - window, window + 1), a view
    starts = [*range(0, len(windows) - 1, stride), len(windows) - 1]
    total, scored = 0.0, 0  # symbols that have been scored, from the second one on
    with evaluation_mode(model):
        for some in (starts[i : i + batch] for i in range(0, len(starts), batch)):
            read = windows[torch.tensor(some, device=ids.device)]  # (batch, window + 1)
            logits = _precise(model(read[:, :-1]))
            nats = cross_entropy(logits.transpose(1, 2), read[:, 1:], reduction="none")
            for start, row in zip(some, nats.cpu().double(), strict=True):
                total += row[scored - start :].sum().item()
                scored = start + window
    return total / scored


def _precise(tensor: Tensor) -> Tensor:
    return tensor.to(torch.promote_types(tensor.dtype, torch.float32))
