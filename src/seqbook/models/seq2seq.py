"""Encoder-decoders: read a whole sequence, then write another, one symbol at a time.

``Seq2Seq`` is what training and decoding know of a model. ``RecurrentSeq2Seq`` and
``TransformerSeq2Seq`` are two such models.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from seqbook.data.batches import PADDING, Encoded
from seqbook.layers.attention import causal_mask, padding_mask, scaled_dot_product_attention
from seqbook.layers.gru import GRU
from seqbook.layers.lstm import LSTM
from seqbook.layers.rnn import RNN
from seqbook.layers.transformer import LayerCache, SinusoidalPositions, Transformer
from seqbook.validation import check_choice

__all__ = ["NETWORKS", "Memory", "RecurrentSeq2Seq", "Seq2Seq", "TransformerSeq2Seq"]

NETWORKS = {"RNN": RNN, "LSTM": LSTM, "GRU": GRU}


class Memory(NamedTuple):
    """What an encoder leaves to the decoder.

    Attributes:
        values: One vector for each source position, ``(batch, source, width)``.
        mask: Which positions are no padding, bool ``(batch, 1, source)``, True = may attend.
        final: The encoder's last recurrent state, if it has one: parts
            ``(num_layers, batch, hidden)``.
    """

    values: Tensor
    mask: Tensor
    final: tuple[Tensor, ...] = ()

    def index_select(self, rows: Tensor) -> Memory:
        """Pick sequences of the batch by their numbers."""
        final = tuple(part.index_select(1, rows) for part in self.final)
        return Memory(self.values.index_select(0, rows), self.mask.index_select(0, rows), final)


class Seq2Seq(nn.Module):
    r"""A model of a target sequence given a source, factorised by the chain rule.

    .. math:: P(y_1, \dots, y_m \mid x) = \prod_t P(y_t \mid y_1, \dots, y_{t-1}, x)

    A subclass says how to ``encode`` a source, how to ``decode`` a whole target at once while it
    is given (teacher forcing), and how to ``start`` and ``step`` when it is not.
    """

    def encode(self, source: Tensor, lengths: Tensor) -> Memory:
        """Read sources, ids ``(batch, source)`` of which the first ``lengths`` are no padding."""
        raise NotImplementedError

    def decode(self, target: Tensor, memory: Memory) -> Tensor:
        """Logits of what follows each target symbol.

        Shape:
            target, ids, ``(batch, time)``; result ``(batch, time, symbols)``.
        """
        raise NotImplementedError

    def start(self, memory: Memory) -> Any:
        """The state before the first target symbol; with a method ``index_select(rows)``."""
        raise NotImplementedError

    def step(self, symbol: Tensor, state: Any) -> tuple[Tensor, Any]:
        """Logits of what follows one more symbol, and the state after it.

        Shape:
            symbol, ids, ``(batch,)``; logits ``(batch, symbols)``.
        """
        raise NotImplementedError

    def forward(self, examples: Encoded) -> Tensor:
        """Logits of every target symbol after the start, given those before it.

        Shape:
            result ``(batch, target time - 1, symbols)``.
        """
        memory = self.encode(examples.source, examples.source_lengths)
        return self.decode(examples.target[:, :-1], memory)

    def loss(self, examples: Encoded, *, label_smoothing: float = 0.0) -> Tensor:
        """Mean cross-entropy of the target symbols, padding left out, in nats.

        Args:
            examples: The batch.
            label_smoothing: Share of each target's probability that is spread over all symbols.
        """
        return cross_entropy(
            self(examples).flatten(0, 1),
            examples.target[:, 1:].flatten(),
            ignore_index=PADDING,
            label_smoothing=label_smoothing,
        )


class RecurrentState(NamedTuple):
    """A recurrent decoder between two steps."""

    parts: tuple[Tensor, ...]  # each (layers, batch, hidden)
    memory: Memory

    def index_select(self, rows: Tensor) -> RecurrentState:
        """Pick sequences of the batch by their numbers."""
        parts = tuple(part.index_select(1, rows) for part in self.parts)
        return RecurrentState(parts, self.memory.index_select(rows))


class RecurrentSeq2Seq(Seq2Seq):
    r"""A recurrent encoder-decoder, with or without attention.

    The encoder reads in both directions; its last state is the decoder's first. With attention
    the decoder's state is also a query to all encoder states:

    .. math:: c_t &= \operatorname{Attention}(W_q h_t, E, E) \\
        \hat h_t &= \tanh(W_c [c_t, h_t] + b_c), \qquad
        P(y_{t+1}) = \operatorname{softmax}(W \hat h_t + b)

    with the encoder states E as keys and values. Without attention :math:`\hat h_t =
    \tanh(W_c h_t + b_c)`: all that the decoder knows of the source went through one vector.

    Args:
        source_symbols: Number of source ids.
        target_symbols: Number of target ids.
        embedding_size: Features of the embeddings.
        hidden_size: Hidden units of the decoder and, both directions together, of the encoder;
            even.
        network: ``"RNN"``, ``"LSTM"`` or ``"GRU"``.
        num_layers: Number of layers of the encoder, and of the decoder.
        attention: Whether the decoder attends to the encoder's states.
        dropout: Fraction of units set to zero in training, of embeddings and of the vector read
            out.
        generator: Draws the initial weights; by default torch's own.

    Raises:
        ValueError: A size does not fit or ``network`` is unknown.

    Source: Sutskever, Vinyals and Le (2014) and Cho et al. (2014) without attention; Luong, Pham
    and Manning (2015), section 3.1, with it, after Bahdanau, Cho and Bengio (2015).
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
    ):
        super().__init__()
        check_choice("network", network, NETWORKS)
        if hidden_size < 2 or hidden_size % 2:
            raise ValueError(f"hidden_size: expected a positive even number, got {hidden_size}")
        kind, options = NETWORKS[network], {"num_layers": num_layers, "generator": generator}
        self.source_embedding = _embedding(source_symbols, embedding_size, generator)
        self.target_embedding = _embedding(target_symbols, embedding_size, generator)
        self.encoder = kind(embedding_size, hidden_size // 2, bidirectional=True, **options)
        self.decoder = kind(embedding_size, hidden_size, **options)
        self.query = nn.Linear(hidden_size, hidden_size, bias=False) if attention else None
        self.combine = nn.Linear((1 + attention) * hidden_size, embedding_size)
        self.readout = nn.Linear(embedding_size, target_symbols)
        for layer in (self.query, self.combine, self.readout):
            _glorot(layer, generator)
        self.dropout = nn.Dropout(dropout)

    def encode(self, source: Tensor, lengths: Tensor) -> Memory:
        """See ``Seq2Seq.encode``."""
        values, final = self.encoder(self.dropout(self.source_embedding(source)), lengths=lengths)
        parts = (final,) if isinstance(final, Tensor) else final
        # (layers * directions, batch, hidden / 2) to (layers, batch, hidden)
        both = tuple(part.unflatten(0, (-1, 2)).transpose(1, 2).flatten(2) for part in parts)
        return Memory(values, padding_mask(lengths, source.shape[1]), both)

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
        """Where the decoder looks as it writes each symbol, ``(batch, target time - 1, source)``.

        Raises:
            ValueError: The model has no attention.
        """
        if self.query is None:
            raise ValueError("attention: expected a model with attention, this one has none")
        memory = self.encode(examples.source, examples.source_lengths)
        embedded = self.target_embedding(examples.target[:, :-1])
        hidden, _ = self.decoder(embedded, self._state(memory.final))
        return self._look(hidden, memory).weights

    def _run(
        self, target: Tensor, parts: tuple[Tensor, ...], memory: Memory
    ) -> tuple[Tensor, tuple[Tensor, ...]]:
        embedded = self.dropout(self.target_embedding(target))
        hidden, final = self.decoder(embedded, self._state(parts))  # (batch, time, hidden)
        if self.query is not None:
            hidden = torch.cat((self._look(hidden, memory).output, hidden), -1)
        logits = self.readout(self.dropout(torch.tanh(self.combine(hidden))))
        return logits, (final,) if isinstance(final, Tensor) else tuple(final)

    def _state(self, parts: tuple[Tensor, ...]) -> Tensor | tuple[Tensor, ...]:
        return parts[0] if len(parts) == 1 else parts

    def _look(self, hidden: Tensor, memory: Memory):
        values, mask, _ = memory
        return scaled_dot_product_attention(self.query(hidden), values, values, mask=mask)


class TransformerState(NamedTuple):
    """A Transformer's decoder between two steps."""

    caches: list[LayerCache]
    memory_mask: Tensor
    position: int

    def index_select(self, rows: Tensor) -> TransformerState:
        """Pick sequences of the batch by their numbers."""
        caches, mask = [cache.index_select(rows) for cache in self.caches], self.memory_mask
        return TransformerState(caches, mask.index_select(0, rows), self.position)


class TransformerSeq2Seq(Seq2Seq):
    r"""A Transformer between embeddings and a readout.

    Embeddings are multiplied by :math:`\sqrt{d}`, codes of the positions are added, and the
    readout's weights are those of the target embedding.

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

    Source: Vaswani et al. (2017), section 3.4; Press and Wolf (2017) for the shared weights.
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
    ):
        super().__init__()
        self.source_embedding = _embedding(source_symbols, d_model, generator)
        self.target_embedding = _embedding(target_symbols, d_model, generator)
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
        )
        self.dropout = nn.Dropout(dropout)

    def encode(self, source: Tensor, lengths: Tensor) -> Memory:
        """See ``Seq2Seq.encode``."""
        mask = padding_mask(lengths, source.shape[1])
        embedded = self._embed(source, self.source_embedding)
        return Memory(self.transformer.encoder(embedded, mask=mask), mask)

    def decode(self, target: Tensor, memory: Memory) -> Tensor:
        """See ``Seq2Seq.decode``."""
        hidden = self.transformer.decoder(
            self._embed(target, self.target_embedding),
            memory.values,
            mask=causal_mask(target.shape[1]).to(target.device),
            memory_mask=memory.mask,
        )
        return self._read_out(hidden)

    def start(self, memory: Memory) -> TransformerState:
        """See ``Seq2Seq.start``."""
        return TransformerState(self.transformer.decoder.start(memory.values), memory.mask, 0)

    def step(self, symbol: Tensor, state: TransformerState) -> tuple[Tensor, TransformerState]:
        """See ``Seq2Seq.step``."""
        caches, mask, position = state
        embedded = self._embed(symbol.unsqueeze(1), self.target_embedding, start=position)
        hidden, caches = self.transformer.decoder.step(embedded, caches, memory_mask=mask)
        return self._read_out(hidden)[:, 0], TransformerState(caches, mask, position + 1)

    def _embed(self, ids: Tensor, embedding: nn.Embedding, *, start: int = 0) -> Tensor:
        embedded = embedding(ids) * embedding.embedding_dim**0.5
        return self.dropout(self.positions(embedded, start=start))

    def _read_out(self, hidden: Tensor) -> Tensor:
        return hidden @ self.target_embedding.weight.T


def _embedding(symbols: int, features: int, generator: torch.Generator | None) -> nn.Embedding:
    for name, size in (("symbols", symbols), ("embedding features", features)):
        if size < 1:
            raise ValueError(f"{name}: expected at least 1, got {size}")
    embedding = nn.Embedding(symbols, features)
    nn.init.normal_(embedding.weight, std=features**-0.5, generator=generator)
    return embedding


def _glorot(layer: nn.Linear | None, generator: torch.Generator | None) -> None:
    if layer is not None:
        nn.init.xavier_uniform_(layer.weight, generator=generator)
        if layer.bias is not None:
            nn.init.zeros_(layer.bias)
