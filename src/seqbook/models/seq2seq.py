"""Encoder-decoders: encode a whole sequence, then generate another, one symbol at a time.

``Seq2Seq`` is the interface that training and decoding use. ``RecurrentSeq2Seq`` and
``TransformerSeq2Seq`` are two such models.
"""

from __future__ import annotations

from itertools import chain
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from seqbook.data.batches import PADDING, Encoded
from seqbook.layers.attention import (
    Attention,
    causal_mask,
    padding_mask,
    scaled_dot_product_attention,
)
from seqbook.layers.gru import GRU
from seqbook.layers.initialization import initialize
from seqbook.layers.lstm import LSTM
from seqbook.layers.rnn import RNN
from seqbook.layers.transformer import LayerCache, SinusoidalPositions, Transformer
from seqbook.models.ids import as_ids
from seqbook.validation import check_choice, has_values

__all__ = [
    "NETWORKS",
    "Memory",
    "RecurrentSeq2Seq",
    "RecurrentState",
    "Seq2Seq",
    "TransformerSeq2Seq",
    "TransformerState",
]

NETWORKS = {"RNN": RNN, "LSTM": LSTM, "GRU": GRU}
"""Recurrent layers of ``RecurrentSeq2Seq``, by name."""


class Memory(NamedTuple):
    """Output of an encoder.

    Attributes:
        values: One vector for each source position, ``(batch, source, features)``.
        mask: Which positions are not padding, bool ``(batch, 1, source)``, True = may attend.
        final: The encoder's last recurrent state, if it has one: parts
            ``(num_layers, batch, hidden)``.

    Example:
        >>> mask = torch.tensor([[[True, True, True]], [[True, False, False]]])
        >>> memory = Memory(torch.randn(2, 3, 4), mask)  # the second source has length 1
        >>> memory.index_select(torch.tensor([1, 1])).mask.sum().item()
        2
    """

    values: Tensor
    mask: Tensor
    final: tuple[Tensor, ...] = ()

    def index_select(self, rows: Tensor) -> Memory:
        """Select examples of the batch by their indices.

        Shape:
            rows: integers ``(selected,)``, the batch of the result.
        """
        final = tuple(part.index_select(1, rows) for part in self.final)
        return Memory(self.values.index_select(0, rows), self.mask.index_select(0, rows), final)


class Seq2Seq(nn.Module):
    r"""A model of a target sequence given a source, factorised by the chain rule.

    .. math:: P(y_1, \dots, y_m \mid x) = \prod_t P(y_t \mid y_1, \dots, y_{t-1}, x)

    A subclass defines how to ``encode`` a source, how to ``decode`` a whole target at once while
    it is given (teacher forcing), and how to ``start`` and ``step`` when it is not. Ids may be
    integers of any type and stand on any device; the model moves them to its own.

    Example:
        >>> model = TransformerSeq2Seq(10, 12, d_model=8, heads=2, d_ff=16)
        >>> memory = model.encode(torch.tensor([[5, 6, 2]]), torch.tensor([3]))
        >>> state = model.start(memory)
        >>> logits, state = model.step(torch.tensor([1]), state)
        >>> together = model.decode(torch.tensor([[1]]), memory)  # the target is given
        >>> torch.allclose(logits, together[:, 0], atol=1e-6)
        True
    """

    @property
    def device(self) -> torch.device:
        """Device of the parameters."""
        return next(chain(self.parameters(), self.buffers())).device

    def encode(self, source: Tensor, lengths: Tensor) -> Memory:
        """Encode sources.

        Args:
            source: Ids ``(batch, source)``.
            lengths: Number of ids of each source that are not padding, ``(batch,)``.

        Returns:
            What the decoder reads, with values ``(batch, source, features)``.

        Raises:
            ValueError: There is not one length for each source, or a shape does not fit.
            TypeError: The ids or lengths are not integers.
        """
        raise NotImplementedError

    def decode(self, target: Tensor, memory: Memory) -> Tensor:
        r"""Compute the logits of what follows each target symbol.

        .. math:: P(y_{t+1} \mid y_1, \dots, y_t, x) = \operatorname{softmax}(z_t)

        for the logits z.

        Shape:
            target, ids, ``(batch, time)``; result ``(batch, time, symbols)``.
        """
        raise NotImplementedError

    def start(self, memory: Memory) -> Any:
        """Return the state before the first target symbol; it has a method ``index_select``."""
        raise NotImplementedError

    def step(self, symbol: Tensor, state: Any) -> tuple[Tensor, Any]:
        """Compute the logits of what follows one more symbol, and the state after it.

        Shape:
            symbol, ids, ``(batch,)``; logits ``(batch, symbols)``.
        """
        raise NotImplementedError

    def forward(self, examples: Encoded) -> Tensor:
        """Compute the logits of every target symbol after the start, given those before it.

        Shape:
            result ``(batch, target time - 1, symbols)``.
        """
        memory = self.encode(examples.source, examples.source_lengths)
        return self.decode(examples.target[:, :-1], memory)

    def loss(self, examples: Encoded, *, label_smoothing: float = 0.0) -> Tensor:
        r"""Compute the mean cross-entropy of the target symbols, without padding, in nats.

        .. math:: -\frac{1}{N} \sum_t \Big( (1 - \varepsilon) \log P(y_t)
            + \frac{\varepsilon}{V} \sum_{v=1}^{V} \log P(v) \Big)

        for the N target symbols y of all examples, START left out and END counted, each given those
        before it and the source; V is the number of symbols.

        Args:
            examples: The batch.
            label_smoothing: Fraction :math:`\varepsilon` of each target's probability that is
                spread over all symbols.

        Shape:
            result: a scalar ``()``.

        Source: Szegedy et al. (2016), section 7, for label smoothing.
        """
        target = as_ids(examples.target, dims=2, name="target").to(self.device)
        return cross_entropy(
            self(examples).flatten(0, 1),
            target[:, 1:].flatten(),
            ignore_index=PADDING,
            label_smoothing=label_smoothing,
        )


class RecurrentState(NamedTuple):
    """State of a recurrent decoder between two steps.

    Attributes:
        parts: Parts of the decoder's recurrent state, each ``(num_layers, batch, hidden)``.
        memory: Output of the encoder.

    Example:
        >>> model = RecurrentSeq2Seq(10, 12, embedding_size=4, hidden_size=6, network="LSTM")
        >>> memory = model.encode(torch.tensor([[5, 6, 2]]), torch.tensor([3]))
        >>> state = model.start(memory)
        >>> [tuple(part.shape) for part in state.parts]  # hidden state and cell
        [(1, 1, 6), (1, 1, 6)]
    """

    parts: tuple[Tensor, ...]  # each (num_layers, batch, hidden)
    memory: Memory

    def index_select(self, rows: Tensor) -> RecurrentState:
        """Select examples of the batch by their indices.

        Shape:
            rows: integers ``(selected,)``, the batch of the result.
        """
        parts = tuple(part.index_select(1, rows) for part in self.parts)
        return RecurrentState(parts, self.memory.index_select(rows))


class RecurrentSeq2Seq(Seq2Seq):
    r"""A recurrent encoder-decoder, with or without attention.

    The encoder is bidirectional; its last state is the decoder's first. With attention the
    decoder's state is also a query to all encoder states:

    .. math:: c_t &= \operatorname{Attention}(W_q h_t, E, E) \\
        \hat h_t &= \tanh(W_c [c_t, h_t] + b_c), \qquad
        P(y_{t+1}) = \operatorname{softmax}(W \hat h_t + b)

    with the encoder states E as keys and values. Without attention :math:`\hat h_t =
    \tanh(W_c h_t + b_c)`: all that the decoder knows of the source is one vector.

    Args:
        source_symbols: Number of source ids.
        target_symbols: Number of target ids.
        embedding_size: Features of the embeddings.
        hidden_size: Hidden units of the decoder and, both directions together, of the encoder;
            even.
        network: ``"RNN"``, ``"LSTM"`` or ``"GRU"``.
        num_layers: Number of layers of the encoder, and of the decoder.
        attention: Whether the decoder attends to the encoder's states.
        dropout: Fraction of units set to zero in training, of embeddings and of the input of the
            readout.
        generator: Draws the initial weights; by default torch's own.
        device: Device of the parameters; by default torch's default device.
        dtype: Floating type of the parameters; by default torch's default type.

    Shape:
        E ``(source, hidden)``; :math:`h_t` ``(hidden,)``; :math:`\hat h_t` ``(embedding,)``; the
        probabilities ``(target_symbols,)``.

    Raises:
        ValueError: A size does not fit or ``network`` is unknown.

    Source: Sutskever, Vinyals and Le (2014) and Cho et al. (2014) without attention; Luong, Pham
    and Manning (2015), section 3.1, with it, after Bahdanau, Cho and Bengio (2015).

    Example:
        >>> model = RecurrentSeq2Seq(10, 12, embedding_size=4, hidden_size=6, network="GRU")
        >>> memory = model.encode(torch.tensor([[5, 6, 2]]), torch.tensor([3]))
        >>> model.decode(torch.tensor([[1, 7]]), memory).shape  # (batch, time, target symbols)
        torch.Size([1, 2, 12])
    """

    def __init__(
        self,
        source_symbols: int,
        target_symbols: int,
        *,
        embedding_size: int,
        hidden_size: int,
        network: str = "LSTM",
        num_layers: int = 1,
        attention: bool = True,
        dropout: float = 0.0,
        generator: torch.Generator | None = None,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ):
        super().__init__()
        check_choice("network", network, NETWORKS)
        _check_positive(
            source_symbols=source_symbols,
            target_symbols=target_symbols,
            embedding_size=embedding_size,
        )
        if hidden_size < 2 or hidden_size % 2:
            raise ValueError(f"hidden_size: expected a positive even number, got {hidden_size}")
        placed: dict[str, Any] = {"device": device, "dtype": dtype}
        options: dict[str, Any] = {"num_layers": num_layers, "generator": generator, **placed}
        layer = NETWORKS[network]
        self.source_embedding = _embedding(source_symbols, embedding_size, generator, placed)
        self.target_embedding = _embedding(target_symbols, embedding_size, generator, placed)
        self.encoder = layer(embedding_size, hidden_size // 2, bidirectional=True, **options)
        self.decoder = layer(embedding_size, hidden_size, **options)
        self.query = (
            _linear(hidden_size, hidden_size, generator, placed, bias=False) if attention else None
        )
        self.combine = _linear((1 + attention) * hidden_size, embedding_size, generator, placed)
        self.readout = _linear(embedding_size, target_symbols, generator, placed)
        self.dropout = nn.Dropout(dropout)

    def encode(self, source: Tensor, lengths: Tensor) -> Memory:
        """See ``Seq2Seq.encode``."""
        source, lengths = _on_device(source, lengths, self.device)
        embedded = self.dropout(self.source_embedding(source))
        values, final = self.encoder(embedded, lengths=lengths)
        parts = (final,) if isinstance(final, Tensor) else final
        # (layers * directions, batch, hidden / 2) to (layers, batch, hidden)
        merged = tuple(part.unflatten(0, (-1, 2)).transpose(1, 2).flatten(2) for part in parts)
        return Memory(values, padding_mask(lengths, source.shape[1]), merged)

    def decode(self, target: Tensor, memory: Memory) -> Tensor:
        """See ``Seq2Seq.decode``."""
        return self._run(target, memory.final, memory)[0]

    def start(self, memory: Memory) -> RecurrentState:
        """See ``Seq2Seq.start``."""
        return RecurrentState(memory.final, memory)

    def step(self, symbol: Tensor, state: RecurrentState) -> tuple[Tensor, RecurrentState]:
        """See ``Seq2Seq.step``."""
        logits, parts = self._run(symbol.unsqueeze(1), state.parts, state.memory)
        return logits[:, 0], RecurrentState(parts, state.memory)

    def attention_weights(self, examples: Encoded) -> Tensor:
        r"""Compute the attention weights of each target symbol.

        .. math:: A = \operatorname{softmax}\left(\frac{(H W_q^\top) E^\top}{\sqrt{d}}\right)

        for the decoder's states H and the encoder's states E in rows, and d hidden units; the
        softmax leaves out padding.

        Shape:
            result ``(batch, target time - 1, source)``.

        Raises:
            ValueError: The model has no attention.
        """
        memory = self.encode(examples.source, examples.source_lengths)
        target = as_ids(examples.target, dims=2, name="target").to(self.device)
        embedded = self.target_embedding(target[:, :-1])
        hidden, _ = self.decoder(embedded, self._state(memory.final))
        return self._attend(hidden, memory).weights

    def _run(
        self, target: Tensor, parts: tuple[Tensor, ...], memory: Memory
    ) -> tuple[Tensor, tuple[Tensor, ...]]:
        target = as_ids(target, dims=2, name="target").to(self.target_embedding.weight.device)
        embedded = self.dropout(self.target_embedding(target))
        hidden, final = self.decoder(embedded, self._state(parts))  # (batch, time, hidden)
        if self.query is not None:
            hidden = torch.cat((self._attend(hidden, memory).output, hidden), -1)
        logits = self.readout(self.dropout(torch.tanh(self.combine(hidden))))
        return logits, (final,) if isinstance(final, Tensor) else tuple(final)

    def _state(self, parts: tuple[Tensor, ...]) -> Tensor | tuple[Tensor, ...]:
        return parts[0] if len(parts) == 1 else parts

    def _attend(self, hidden: Tensor, memory: Memory) -> Attention:
        if self.query is None:
            raise ValueError("attention: expected a model with attention, this one has none")
        values, mask, _ = memory
        return scaled_dot_product_attention(self.query(hidden), values, values, mask=mask)


class TransformerState(NamedTuple):
    """State of a Transformer's decoder between two steps.

    Attributes:
        caches: Cache of each decoder layer.
        memory_mask: Which source positions are not padding, bool ``(batch, 1, source)``; None if
            all are.
        position: Number of target symbols read.

    Example:
        >>> model = TransformerSeq2Seq(10, 12, d_model=8, heads=2, d_ff=16)
        >>> memory = model.encode(torch.tensor([[5, 6, 2]]), torch.tensor([3]))
        >>> logits, state = model.step(torch.tensor([1]), model.start(memory))
        >>> state.position, [cache.own.length for cache in state.caches]
        (1, [1, 1])
    """

    caches: list[LayerCache]
    memory_mask: Tensor | None
    position: int

    def index_select(self, rows: Tensor) -> TransformerState:
        """Select examples of the batch by their indices.

        Shape:
            rows: integers ``(selected,)``, the batch of the result.
        """
        caches, mask = [cache.index_select(rows) for cache in self.caches], self.memory_mask
        mask = None if mask is None else mask.index_select(0, rows)
        return TransformerState(caches, mask, self.position)


class TransformerSeq2Seq(Seq2Seq):
    r"""A Transformer between embeddings and a readout.

    .. math:: m = \operatorname{Encoder}(\sqrt{d}\, S_x + p), \qquad
        h = \operatorname{Decoder}(\sqrt{d}\, E_y + p,\, m), \qquad
        P(y_{t+1}) = \operatorname{softmax}(E h_t)

    for the rows :math:`S_x` of the source embedding S, the rows :math:`E_y` of the target
    embedding E, whose weights the readout shares, and the ``sinusoids`` p of the positions.

    Args:
        source_symbols: Number of source ids.
        target_symbols: Number of target ids.
        d_model: d, even.
        heads: Number of attention heads; it must divide ``d_model``.
        d_ff: Hidden units of the feed-forward networks.
        encoder_layers: Number of encoder layers.
        decoder_layers: Number of decoder layers.
        dropout: Fraction of units set to zero in training, of embeddings and in the layers.
        norm: See ``seqbook.layers.transformer.EncoderLayer``.
        final_norm: See ``seqbook.layers.transformer.Encoder``.
        activation: See ``seqbook.layers.transformer.EncoderLayer``.
        implementation: See ``seqbook.layers.attention.MultiHeadAttention``.
        generator: Draws the initial weights; by default torch's own.
        device: Device of the parameters; by default torch's default device.
        dtype: Floating type of the parameters; by default torch's default type.

    Shape:
        S ``(source_symbols, d_model)``; E ``(target_symbols, d_model)``.

    Raises:
        ValueError: A size does not fit or an option is unknown.

    Source: Vaswani et al. (2017), section 3.4; Press and Wolf (2017) for the shared weights.

    Example:
        >>> model = TransformerSeq2Seq(10, 12, d_model=4, heads=2, d_ff=8)
        >>> memory = model.encode(torch.tensor([[5, 6, 2]]), torch.tensor([3]))
        >>> model.decode(torch.tensor([[1, 7]]), memory).shape  # (batch, time, target symbols)
        torch.Size([1, 2, 12])
    """

    def __init__(
        self,
        source_symbols: int,
        target_symbols: int,
        *,
        d_model: int,
        heads: int,
        d_ff: int,
        encoder_layers: int = 2,
        decoder_layers: int = 2,
        dropout: float = 0.0,
        norm: str = "pre",
        final_norm: bool | None = None,
        activation: str = "relu",
        implementation: str = "fused",
        generator: torch.Generator | None = None,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ):
        super().__init__()
        _check_positive(
            source_symbols=source_symbols, target_symbols=target_symbols, d_model=d_model
        )
        placed: dict[str, Any] = {"device": device, "dtype": dtype}
        self.source_embedding = _embedding(source_symbols, d_model, generator, placed)
        self.target_embedding = _embedding(target_symbols, d_model, generator, placed)
        self.positions = SinusoidalPositions(d_model)
        self.transformer = Transformer(
            d_model,
            heads,
            encoder_layers=encoder_layers,
            decoder_layers=decoder_layers,
            d_ff=d_ff,
            norm=norm,
            final_norm=final_norm,
            dropout=dropout,
            activation=activation,
            implementation=implementation,
            generator=generator,
            **placed,
        )
        self.dropout = nn.Dropout(dropout)

    def encode(self, source: Tensor, lengths: Tensor) -> Memory:
        """See ``Seq2Seq.encode``."""
        source, lengths = _on_device(source, lengths, self.device)
        mask = padding_mask(lengths, source.shape[1])
        embedded = self._embed(source, self.source_embedding)
        return Memory(self.transformer.encoder(embedded, mask=mask), mask)

    def decode(self, target: Tensor, memory: Memory) -> Tensor:
        """See ``Seq2Seq.decode``."""
        target = as_ids(target, dims=2, name="target").to(self.target_embedding.weight.device)
        hidden = self.transformer.decoder(
            self._embed(target, self.target_embedding),
            memory.values,
            mask=causal_mask(target.shape[1], device=target.device),
            memory_mask=memory.mask,
        )
        return self._read_out(hidden)

    def start(self, memory: Memory) -> TransformerState:
        """See ``Seq2Seq.start``."""
        mask: Tensor | None = memory.mask
        if has_values(memory.mask) and bool(memory.mask.all()):  # it would hide nothing
            mask = None
        return TransformerState(self.transformer.decoder.start(memory.values), mask, 0)

    def step(self, symbol: Tensor, state: TransformerState) -> tuple[Tensor, TransformerState]:
        """See ``Seq2Seq.step``."""
        caches, mask, position = state
        symbol = as_ids(symbol, dims=1, name="symbol").to(self.target_embedding.weight.device)
        embedded = self._embed(symbol.unsqueeze(1), self.target_embedding, start=position)
        hidden, caches = self.transformer.decoder.step(embedded, caches, memory_mask=mask)
        return self._read_out(hidden)[:, 0], TransformerState(caches, mask, position + 1)

    def _embed(self, ids: Tensor, embedding: nn.Embedding, *, start: int = 0) -> Tensor:
        embedded = embedding(ids) * embedding.embedding_dim**0.5
        return self.dropout(self.positions(embedded, start=start))

    def _read_out(self, hidden: Tensor) -> Tensor:
        return hidden @ self.target_embedding.weight.T


def _check_positive(**sizes: int) -> None:
    for name, size in sizes.items():
        if size < 1:
            raise ValueError(f"{name}: expected at least 1, got {size}")


def _on_device(source: Tensor, lengths: Tensor, device: torch.device) -> tuple[Tensor, Tensor]:
    source = as_ids(source, dims=2, name="source").to(device)
    lengths = as_ids(lengths, dims=1, name="lengths").to(device)
    if len(lengths) != len(source):
        raise ValueError(
            f"lengths: expected one for each of {len(source)} sources, got {len(lengths)}"
        )
    return source, lengths


def _embedding(
    symbols: int, features: int, generator: torch.Generator | None, placed: dict[str, Any]
) -> nn.Embedding:
    embedding = nn.Embedding(symbols, features, **placed)
    initialize(embedding.weight, nn.init.normal_, std=features**-0.5, generator=generator)
    return embedding


def _linear(
    inputs: int,
    outputs: int,
    generator: torch.Generator | None,
    placed: dict[str, Any],
    *,
    bias: bool = True,
) -> nn.Linear:
    layer = nn.Linear(inputs, outputs, bias=bias, **placed)
    initialize(layer.weight, nn.init.xavier_uniform_, generator=generator)
    if bias:
        nn.init.zeros_(layer.bias)
    return layer
