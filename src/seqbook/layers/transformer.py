"""The Transformer: layers of attention and position-wise networks, stacked, and nothing recurrent.

Parameters have the names and shapes of ``torch.nn.TransformerEncoderLayer``,
``TransformerDecoderLayer`` and ``Transformer``, so ``load_state_dict`` moves them either way. Masks
follow ``seqbook.layers.attention``: boolean, True = may attend.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple, cast

import torch
from torch import Tensor, nn
from torch.nn.functional import gelu, relu

from seqbook.layers.attention import KeysAndValues, KeyValueCache, MultiHeadAttention
from seqbook.layers.initialization import initialize
from seqbook.validation import check_choice

__all__ = [
    "FEED_FORWARD_ACTIVATIONS",
    "NORMS",
    "Decoder",
    "DecoderLayer",
    "Encoder",
    "EncoderLayer",
    "LayerCache",
    "LearnedPositions",
    "SinusoidalPositions",
    "Transformer",
    "layer_norm",
    "sinusoids",
]

NORMS = ("pre", "post")
"""Where the layer norms stand; see ``EncoderLayer``."""

FEED_FORWARD_ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {"relu": relu, "gelu": gelu}
"""Activation functions of the feed-forward networks, by name."""


def sinusoids(
    time: int,
    d_model: int,
    *,
    base: float = 10000.0,
    device: torch.device | str | None = None,
    dtype: torch.dtype | None = None,
) -> Tensor:
    r"""Encode each position by sines and cosines of geometrically growing wavelengths.

    .. math:: p_{t, 2i} = \sin(t / b^{2i / d}), \qquad p_{t, 2i + 1} = \cos(t / b^{2i / d})

    for positions t from 0. The encoding of t + k is a rotation of that of t by an angle that does
    not depend on t. It is computed in float64 and then rounded.

    Args:
        time: Number of positions.
        d_model: d, even.
        base: b; wavelengths grow from 2 pi to nearly 2 pi b.
        device: Where to return it; by default torch's default device.
        dtype: Type to round to; by default torch's default type.

    Shape:
        result: ``(time, d_model)``.

    Raises:
        ValueError: ``d_model`` is not even and positive, or ``time`` is negative.

    Source: Vaswani et al. (2017), section 3.5.

    Example:
        >>> sinusoids(2, 4)[0].tolist()
        [0.0, 1.0, 0.0, 1.0]
    """
    if d_model < 1 or d_model % 2:
        raise ValueError(f"d_model: expected a positive even number, got {d_model}")
    if time < 0:
        raise ValueError(f"time: expected at least 0 positions, got {time}")
    precise: dict[str, Any] = {"dtype": torch.float64, "device": "cpu"}  # not every device has it
    frequencies = base ** -(torch.arange(0, d_model, 2, **precise) / d_model)
    angles = torch.arange(time, **precise)[:, None] * frequencies  # (time, d_model / 2)
    encodings = torch.stack((angles.sin(), angles.cos()), -1).flatten(1)  # (time, d_model)
    device = torch.get_default_device() if device is None else device
    return encodings.to(device, torch.get_default_dtype() if dtype is None else dtype)


class SinusoidalPositions(nn.Module):
    """Add ``sinusoids`` to a sequence. There is nothing to learn, and no maximal length.

    .. math:: y_t = x_t + p_t

    for the ``sinusoids`` p.

    The table is computed when it is needed, for the device and type of the inputs. It is neither
    parameter nor buffer, so that a model made on the meta device has it too.

    Args:
        d_model: Features of the sequence, even.

    Raises:
        ValueError: ``d_model`` is not even and positive.

    Source: Vaswani et al. (2017), section 3.5.

    Example:
        >>> SinusoidalPositions(4)(torch.zeros(1, 2, 4))[0, 0].tolist()
        [0.0, 1.0, 0.0, 1.0]
    """

    def __init__(self, d_model: int):
        super().__init__()
        sinusoids(0, d_model)  # raises if d_model does not fit
        self.d_model = d_model
        self._table: Tensor | None = None

    def forward(self, inputs: Tensor, *, start: int = 0) -> Tensor:
        r"""Add the encodings of positions from ``start`` on.

        .. math:: y_t = x_t + p_{s + t}, \qquad t = 0, 1, \dots

        for the position s = ``start``.

        Shape:
            inputs and result ``(batch, time, d_model)``.

        Raises:
            ValueError: The inputs have another shape.
        """
        _check_sequence("inputs", inputs, self.d_model)
        end = start + inputs.shape[1]
        table = self._table
        placed = (inputs.device, inputs.dtype)
        if table is None or end > len(table) or (table.device, table.dtype) != placed:
            device, dtype = placed
            table = sinusoids(max(64, 2 * end), self.d_model, device=device, dtype=dtype)
            # A fake tensor must not outlive the mode that made it.
            self._table = table if type(table) is Tensor else None
        return inputs + table[start:end]


class LearnedPositions(nn.Module):
    """Add a learned vector for each position to a sequence.

    .. math:: y_t = x_t + w_t

    for row t of ``weight``, ``(max_length, d_model)``, counted from 0.

    Args:
        d_model: Features of the sequence.
        max_length: Number of positions that have a vector.
        generator: Draws the initial vectors, normal with a standard deviation of 0.02; by default
            torch's own.
        device: Device of the vectors; by default torch's default device.
        dtype: Floating type of the vectors; by default torch's default type.

    Example:
        >>> positions = LearnedPositions(4, 10)
        >>> positions(torch.zeros(2, 3, 4)).shape
        torch.Size([2, 3, 4])
    """

    def __init__(
        self,
        d_model: int,
        max_length: int,
        *,
        generator: torch.Generator | None = None,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ):
        super().__init__()
        self.weight = nn.Parameter(torch.empty(max_length, d_model, device=device, dtype=dtype))
        initialize(self.weight, nn.init.normal_, std=0.02, generator=generator)

    def forward(self, inputs: Tensor, *, start: int = 0) -> Tensor:
        r"""Add the vectors of positions from ``start`` on.

        .. math:: y_t = x_t + w_{s + t}, \qquad t = 0, 1, \dots

        for the position s = ``start``.

        Shape:
            inputs and result ``(batch, time, d_model)``.

        Raises:
            ValueError: A position has no vector, or the inputs have another shape.
        """
        max_length, d_model = self.weight.shape
        _check_sequence("inputs", inputs, d_model)
        end = start + inputs.shape[1]
        if end > max_length:
            raise ValueError(f"inputs: expected at most {max_length} positions, got {end}")
        return inputs + self.weight[start:end]


def layer_norm(inputs: Tensor, weight: Tensor, bias: Tensor, *, epsilon: float = 1e-5) -> Tensor:
    r"""Bring the features of each position to mean 0 and variance 1, then scale and shift them.

    .. math:: y = \frac{x - \mu}{\sqrt{\sigma^2 + \epsilon}} \odot w + b, \qquad
        \sigma^2 = \frac{1}{d} \sum_i (x_i - \mu)^2

    The variance is the biased one, divided by d. The layers use torch's ``nn.LayerNorm``, which
    is this in one kernel.

    Shape:
        inputs and result ``(..., d)``; weight and bias ``(d,)``.

    Source: Ba, Kiros and Hinton (2016), equations 3 and 4.

    Example:
        >>> layer_norm(torch.tensor([1.0, 3.0]), torch.ones(2), torch.zeros(2)).round().tolist()
        [-1.0, 1.0]
    """
    centred = inputs - inputs.mean(-1, keepdim=True)
    variance = centred.square().mean(-1, keepdim=True)
    return centred / (variance + epsilon).sqrt() * weight + bias


class _Layer(nn.Module):
    """What encoder and decoder layers share: self-attention, feed-forward network, residuals."""

    attends_to_memory = False

    def __init__(
        self,
        d_model: int,
        heads: int,
        d_ff: int,
        *,
        norm: str = "pre",
        dropout: float = 0.0,
        activation: str = "relu",
        implementation: str = "fused",
        generator: torch.Generator | None = None,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ):
        super().__init__()
        check_choice("norm", norm, NORMS)
        check_choice("activation", activation, FEED_FORWARD_ACTIVATIONS)
        if d_ff < 1:
            raise ValueError(f"d_ff: expected at least 1, got {d_ff}")
        placed: dict[str, Any] = {"device": device, "dtype": dtype}
        options: dict[str, Any] = {"implementation": implementation, "generator": generator}
        self.norm, self.activation = norm, FEED_FORWARD_ACTIVATIONS[activation]
        self.dropout = nn.Dropout(dropout)
        self.self_attn = MultiHeadAttention(d_model, heads, **options, **placed)
        if self.attends_to_memory:
            self.multihead_attn = MultiHeadAttention(d_model, heads, **options, **placed)
        self.norm1, self.norm2 = (nn.LayerNorm(d_model, **placed) for _ in range(2))
        if self.attends_to_memory:
            self.norm3 = nn.LayerNorm(d_model, **placed)
        self.linear1 = nn.Linear(d_model, d_ff, **placed)
        self.linear2 = nn.Linear(d_ff, d_model, **placed)
        for layer in (self.linear1, self.linear2):
            initialize(layer.weight, nn.init.xavier_uniform_, generator=generator)
            nn.init.zeros_(layer.bias)

    def _residual(
        self, x: Tensor, norm: nn.LayerNorm, sublayer: Callable[[Tensor], Tensor]
    ) -> Tensor:
        if self.norm == "pre":
            return x + self.dropout(sublayer(norm(x)))
        return norm(x + self.dropout(sublayer(x)))

    def _feed_forward(self, x: Tensor) -> Tensor:
        return self.linear2(self.activation(self.linear1(x)))


class EncoderLayer(_Layer):
    r"""Self-attention, then a two-layer network at each position, each with a residual.

    .. math:: \text{pre:}\quad & x + \operatorname{sublayer}(\operatorname{norm}(x)) \\
        \text{post:}\quad & \operatorname{norm}(x + \operatorname{sublayer}(x))

    The two sublayers are multi-head attention of x to itself and, with activation :math:`\phi`,

    .. math:: \operatorname{FFN}(x) = \phi(x W_1 + b_1)\, W_2 + b_2

    Args:
        d_model: Number of features of inputs and outputs.
        heads: Number of attention heads; it must divide ``d_model``.
        d_ff: Hidden units of the feed-forward network.
        norm: Where the layer norms stand: ``"pre"``, inside the residual branch, as in GPT-2 and
            most models since, or ``"post"``, after the sum, as in the original paper.
        dropout: Fraction of units set to zero in training, of what each sub-layer adds, as in the
            paper. (torch's layer also drops attention weights and hidden units.)
        activation: ``"relu"`` or ``"gelu"``.
        implementation: See ``seqbook.layers.attention.MultiHeadAttention``.
        generator: Draws the initial weights, Glorot-uniform; by default torch's own.
        device: Device of the parameters; by default torch's default device.
        dtype: Floating type of the parameters; by default torch's default type.

    Shape:
        In the equation :math:`W_1` is ``(d_model, d_ff)`` and :math:`W_2` ``(d_ff, d_model)``.

    Raises:
        ValueError: A size does not fit or an option is unknown.

    Source: Vaswani et al. (2017), section 3.1; Xiong et al. (2020) on the place of the norms.

    Example:
        >>> layer = EncoderLayer(8, 2, 16)
        >>> layer(torch.ones(3, 5, 8)).shape
        torch.Size([3, 5, 8])
    """

    def forward(self, source: Tensor, *, mask: Tensor | None = None) -> Tensor:
        """Return the sequence after the layer.

        Shape:
            source and result ``(batch, time, d_model)``; mask broadcastable to
            ``(batch, time, time)``, True = may attend.

        Raises:
            ValueError: Shapes do not fit.
            TypeError: The mask is not boolean.
        """
        x = self._residual(source, self.norm1, lambda y: self.self_attn(y, mask=mask))
        return self._residual(x, self.norm2, self._feed_forward)


class LayerCache(NamedTuple):
    """What a decoder layer keeps between two steps.

    Attributes:
        own: Keys and values of its own past positions, ``(batch, heads, time, d_model / heads)``
            each, or None before the first.
        memory: Keys and values of the encoder's output,
            ``(batch, heads, source, d_model / heads)`` each.

    Example:
        >>> decoder = Decoder(1, 8, 2, 16)
        >>> (cache,) = decoder.start(torch.ones(3, 5, 8))
        >>> cache.own is None, cache.memory.keys.shape
        (True, torch.Size([3, 2, 5, 4]))
    """

    own: KeyValueCache | None
    memory: KeysAndValues

    def index_select(self, rows: Tensor) -> LayerCache:
        """Select examples of the batch by their indices.

        Shape:
            rows: integers ``(selected,)``, the batch of the result.
        """
        return LayerCache(self.own and self.own.index_select(rows), self.memory.index_select(rows))


class DecoderLayer(_Layer):
    r"""Self-attention, attention to the encoder's output, then a network at each position.

    .. math:: a &= y + \operatorname{MultiHead}(\operatorname{norm}_1(y)) \\
        b &= a + \operatorname{MultiHead}(\operatorname{norm}_2(a), m, m) \\
        y' &= b + \operatorname{FFN}(\operatorname{norm}_3(b))

    for the encoder's output m and ``norm="pre"``; with ``"post"`` the norms follow the sums.

    Arguments as for ``EncoderLayer``.

    Raises:
        ValueError: As for ``EncoderLayer``.

    Source: Vaswani et al. (2017), section 3.1.

    Example:
        >>> layer = DecoderLayer(8, 2, 16)
        >>> layer(torch.ones(3, 4, 8), memory=torch.ones(3, 5, 8)).shape
        torch.Size([3, 4, 8])
    """

    attends_to_memory = True

    def forward(
        self,
        target: Tensor,
        memory: Tensor,
        *,
        mask: Tensor | None = None,
        memory_mask: Tensor | None = None,
    ) -> Tensor:
        """Return the target sequence after the layer.

        Args:
            target: ``(batch, time, d_model)``.
            memory: The encoder's output, ``(batch, source, d_model)``.
            mask: Mask of the self-attention, broadcastable to ``(batch, time, time)``.
            memory_mask: Mask of the attention to ``memory``, broadcastable to
                ``(batch, time, source)``.

        Shape:
            result: ``(batch, time, d_model)``.

        Raises:
            ValueError: Shapes do not fit.
            TypeError: A mask is not boolean.
        """
        x = self._residual(target, self.norm1, lambda y: self.self_attn(y, mask=mask))
        x = self._residual(
            x, self.norm2, lambda y: self.multihead_attn(y, memory, mask=memory_mask)
        )
        return self._residual(x, self.norm3, self._feed_forward)

    def start(self, memory: Tensor) -> LayerCache:
        """Return the cache before the first step: the projected output of the encoder.

        Shape:
            memory ``(batch, source, d_model)``.

        Raises:
            ValueError: The shape does not fit.
        """
        return LayerCache(None, self.multihead_attn.project_memory(memory))

    def step(
        self, target: Tensor, cache: LayerCache, *, memory_mask: Tensor | None = None
    ) -> tuple[Tensor, LayerCache]:
        """The next position after the layer, equal to ``forward`` with a causal mask.

        Shape:
            target and result ``(batch, 1, d_model)``; memory_mask broadcastable to
            ``(batch, 1, source)``.

        Raises:
            ValueError: There is not exactly one position.
        """
        if target.dim() != 3 or target.shape[1] != 1:
            raise ValueError(
                f"target: expected one position, (batch, 1, d_model), got {tuple(target.shape)}"
            )

        def to_the_past(y: Tensor) -> Tensor:
            nonlocal cache
            query, new = self.self_attn.project(y)
            own = KeyValueCache.of(new) if cache.own is None else cache.own.append(new)
            cache = cache._replace(own=own)
            return self.self_attn.attend(query, own.contents())

        def to_the_memory(y: Tensor) -> Tensor:
            query = self.multihead_attn.project_query(y)
            return self.multihead_attn.attend(query, cache.memory, mask=memory_mask)

        x = self._residual(target, self.norm1, to_the_past)
        x = self._residual(x, self.norm2, to_the_memory)
        return self._residual(x, self.norm3, self._feed_forward), cache


class _Stack(nn.Module):
    """Layers, and a last norm unless the last layer ends with one."""

    layer: type[_Layer]

    def __init__(
        self,
        layers: int,
        d_model: int,
        heads: int,
        d_ff: int,
        *,
        norm: str = "pre",
        final_norm: bool | None = None,
        dropout: float = 0.0,
        activation: str = "relu",
        implementation: str = "fused",
        generator: torch.Generator | None = None,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ):
        super().__init__()
        if layers < 1:
            raise ValueError(f"layers: expected at least 1, got {layers}")
        self.layers = nn.ModuleList(
            self.layer(
                d_model,
                heads,
                d_ff,
                norm=norm,
                dropout=dropout,
                activation=activation,
                implementation=implementation,
                generator=generator,
                device=device,
                dtype=dtype,
            )
            for _ in range(layers)
        )
        final_norm = norm == "pre" if final_norm is None else final_norm
        self.norm = (
            nn.LayerNorm(d_model, device=device, dtype=dtype) if final_norm else nn.Identity()
        )


class Encoder(_Stack):
    r"""Encoder layers, one after the other.

    .. math:: x^{(l)} = \operatorname{layer}_l(x^{(l-1)}), \qquad
        y = \operatorname{norm}(x^{(N)})

    for N layers; the last norm is left out without ``final_norm``.

    Args:
        layers: Number of layers.
        d_model: Number of features of the sequence.
        heads: See ``EncoderLayer``.
        d_ff: See ``EncoderLayer``.
        norm: See ``EncoderLayer``.
        final_norm: Whether a layer norm follows the last layer; by default with ``norm="pre"``,
            where nothing else bounds the sum of the residuals. ``torch.nn.Transformer`` always has
            one.
        dropout: See ``EncoderLayer``.
        activation: See ``EncoderLayer``.
        implementation: See ``seqbook.layers.attention.MultiHeadAttention``.
        generator: Draws the initial weights; by default torch's own.
        device: Device of the parameters; by default torch's default device.
        dtype: Floating type of the parameters; by default torch's default type.

    Raises:
        ValueError: ``layers`` is not positive, or as for ``EncoderLayer``.

    Source: Vaswani et al. (2017), section 3.1.

    Example:
        >>> encoder = Encoder(2, 8, 2, 16)
        >>> encoder(torch.ones(3, 5, 8)).shape
        torch.Size([3, 5, 8])
    """

    layer = EncoderLayer

    def forward(self, source: Tensor, *, mask: Tensor | None = None) -> Tensor:
        """Return the sequence after all layers; see ``EncoderLayer.forward``.

        Shape:
            source and result ``(batch, time, d_model)``; mask as there.
        """
        for layer in self.layers:
            source = layer(source, mask=mask)
        return self.norm(source)


class Decoder(_Stack):
    r"""Decoder layers, one after the other; arguments as for ``Encoder``.

    .. math:: y^{(l)} = \operatorname{layer}_l(y^{(l-1)}, m), \qquad
        z = \operatorname{norm}(y^{(N)})

    for N layers and the encoder's output m; the last norm is that of ``Encoder``.

    Raises:
        ValueError: As for ``Encoder``.

    Source: Vaswani et al. (2017), section 3.1.

    Example:
        >>> decoder = Decoder(2, 8, 2, 16)
        >>> decoder(torch.ones(3, 4, 8), memory=torch.ones(3, 5, 8)).shape
        torch.Size([3, 4, 8])
    """

    layer = DecoderLayer

    def forward(
        self,
        target: Tensor,
        memory: Tensor,
        *,
        mask: Tensor | None = None,
        memory_mask: Tensor | None = None,
    ) -> Tensor:
        """Return the target sequence after all layers; see ``DecoderLayer.forward``.

        Shape:
            target and result ``(batch, time, d_model)``; memory ``(batch, source, d_model)``; masks
            as there.
        """
        for layer in self.layers:
            target = layer(target, memory, mask=mask, memory_mask=memory_mask)
        return self.norm(target)

    def start(self, memory: Tensor) -> list[LayerCache]:
        """Project the encoder's output for each layer; see ``DecoderLayer.start``.

        Shape:
            memory ``(batch, source, d_model)``; one cache for each layer.
        """
        return [cast(DecoderLayer, layer).start(memory) for layer in self.layers]

    def step(
        self, target: Tensor, caches: list[LayerCache], *, memory_mask: Tensor | None = None
    ) -> tuple[Tensor, list[LayerCache]]:
        """The next position after all layers; see ``DecoderLayer.step``.

        Shape:
            target and result ``(batch, 1, d_model)``; one cache for each layer.

        Raises:
            ValueError: There is not exactly one position, or not one cache for each layer.
        """
        updated = []
        for layer, cache in zip(self.layers, caches, strict=True):
            step = cast(DecoderLayer, layer).step
            target, cache = step(target, cache, memory_mask=memory_mask)
            updated.append(cache)
        return self.norm(target), updated


class Transformer(nn.Module):
    r"""Encoder and decoder, from vectors to vectors, as ``torch.nn.Transformer``.

    .. math:: \operatorname{Transformer}(x, y)
        = \operatorname{Decoder}(y, \operatorname{Encoder}(x))

    ``seqbook.models.seq2seq.TransformerSeq2Seq`` puts embeddings before it and a readout after it.

    Args:
        d_model: Number of features of both sequences.
        heads: Number of attention heads; it must divide ``d_model``.
        encoder_layers: Number of encoder layers.
        decoder_layers: Number of decoder layers.
        d_ff: Hidden units of the feed-forward networks.
        norm: See ``EncoderLayer``.
        final_norm: See ``Encoder``.
        dropout: See ``EncoderLayer``.
        activation: See ``EncoderLayer``.
        implementation: See ``seqbook.layers.attention.MultiHeadAttention``.
        generator: Draws the initial weights; by default torch's own.
        device: Device of the parameters; by default torch's default device.
        dtype: Floating type of the parameters; by default torch's default type.

    Raises:
        ValueError: A size does not fit or an option is unknown.

    Source: Vaswani et al. (2017).

    Example:
        >>> model = Transformer(8, 2, encoder_layers=1, decoder_layers=1, d_ff=16)
        >>> model(torch.ones(3, 5, 8), torch.ones(3, 4, 8)).shape  # of the target
        torch.Size([3, 4, 8])
    """

    def __init__(
        self,
        d_model: int,
        heads: int,
        *,
        encoder_layers: int,
        decoder_layers: int,
        d_ff: int,
        norm: str = "pre",
        final_norm: bool | None = None,
        dropout: float = 0.0,
        activation: str = "relu",
        implementation: str = "fused",
        generator: torch.Generator | None = None,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ):
        super().__init__()
        options: dict[str, Any] = {
            "norm": norm,
            "final_norm": final_norm,
            "dropout": dropout,
            "activation": activation,
            "implementation": implementation,
            "generator": generator,
            "device": device,
            "dtype": dtype,
        }
        self.encoder = Encoder(encoder_layers, d_model, heads, d_ff, **options)
        self.decoder = Decoder(decoder_layers, d_model, heads, d_ff, **options)

    def forward(
        self,
        source: Tensor,
        target: Tensor,
        *,
        source_mask: Tensor | None = None,
        target_mask: Tensor | None = None,
        memory_mask: Tensor | None = None,
    ) -> Tensor:
        """Return the target sequence after encoder and decoder.

        Shape:
            source ``(batch, source, d_model)``; target and result ``(batch, time, d_model)``; masks
            broadcastable to ``(batch, queries, keys)``, True = may attend.

        Raises:
            ValueError: Shapes do not fit.
            TypeError: A mask is not boolean.
        """
        memory = self.encoder(source, mask=source_mask)
        return self.decoder(target, memory, mask=target_mask, memory_mask=memory_mask)


def _check_sequence(name: str, tensor: Tensor, d_model: int) -> None:
    if tensor.dim() != 3 or tensor.shape[-1] != d_model:
        raise ValueError(
            f"{name}: expected shape (batch, time, {d_model}), got {tuple(tensor.shape)}"
        )
