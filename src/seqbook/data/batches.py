"""Pairs of sequences as the padded ids that models read."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from seqbook.data.pairs import Pair
from seqbook.data.vocabulary import Vocabulary

__all__ = ["END", "PADDING", "START", "Encoded", "Vocabularies", "encode_pairs"]

PADDING = 0
"""Id of padding, on both sides."""

START = 1
"""Id of the symbol before the first of a target."""

END = 2
"""Id of the symbol after the last of a source or target."""

_SPECIAL = ("<pad>", "<s>", "</s>")


class Vocabularies(NamedTuple):
    """The symbols of both sides; ids 0 to 2 are padding, start and end on both.

    Example:
        >>> vocabularies = Vocabularies.from_pairs([Pair(("a", "b"), (("x",),))])
        >>> vocabularies.source.symbols
        ['<pad>', '<s>', '</s>', 'a', 'b', '<unk>']
    """

    source: Vocabulary
    target: Vocabulary

    @classmethod
    def from_pairs(cls, pairs: Iterable[Pair]) -> Vocabularies:
        """Collect the symbols that occur; any other source symbol will be read as ``<unk>``.

        Raises:
            ValueError: A symbol is one of those that mark padding, start and end.
        """
        pairs = list(pairs)
        source = {symbol for pair in pairs for symbol in pair.source}
        target = {
            symbol for pair in pairs for alternative in pair.targets for symbol in alternative
        }
        if reserved := (source | target) & set(_SPECIAL):
            raise ValueError(
                f"pairs: expected other symbols than {', '.join(_SPECIAL)}, which mark padding, "
                f"start and end, got {min(reserved)}"
            )
        return cls.from_symbols([*_SPECIAL, *sorted(source)], [*_SPECIAL, *sorted(target)])

    @classmethod
    def from_symbols(cls, source: Sequence[str], target: Sequence[str]) -> Vocabularies:
        """Build both vocabularies from their symbols in the order of the ids.

        Raises:
            ValueError: They do not begin with the marks of padding, start and end, or a symbol
                occurs twice.
        """
        for name, symbols in (("source", source), ("target", target)):
            if tuple(symbols[: len(_SPECIAL)]) != _SPECIAL:
                raise ValueError(
                    f"{name}: expected symbols that begin with {', '.join(_SPECIAL)}, got "
                    f"{', '.join(map(str, symbols[: len(_SPECIAL)]))}"
                )
        return cls(Vocabulary(source, unknown="<unk>"), Vocabulary(target))

    def encode_sources(self, sources: Iterable[Sequence[str]]) -> tuple[Tensor, Tensor]:
        """Encode sources, each with an end symbol, as padded ids and lengths.

        Shape:
            results, int64, ``(batch, source time)`` and ``(batch,)``.

        Raises:
            ValueError: There are no sources.
        """
        return _padded([[*self.source.encode(source), END] for source in sources])

    def decode_target(self, ids: Iterable[int]) -> tuple[str, ...]:
        """Decode the ids of a target."""
        return tuple(self.target.decode(ids))


class Encoded(NamedTuple):
    """Examples as padded ids, one for each source and each of its targets.

    Attributes:
        source: Ids, int64 ``(examples, source time)``; each sequence ends with ``END``.
        source_lengths: int64 ``(examples,)``, ``END`` counted.
        target: Ids from ``START`` to ``END``, int64 ``(examples, target time)``.
        target_lengths: int64 ``(examples,)``, both counted.

    Example:
        >>> pairs = [Pair(("a", "b"), (("x",),)), Pair(("b",), (("x", "y"),))]
        >>> examples = encode_pairs(pairs, Vocabularies.from_pairs(pairs))
        >>> examples.source.tolist(), examples.target.tolist()
        ([[3, 4, 2], [4, 2, 0]], [[1, 3, 2, 0], [1, 3, 4, 2]])
    """

    source: Tensor
    source_lengths: Tensor
    target: Tensor
    target_lengths: Tensor

    def to(self, device: torch.device | str) -> Encoded:
        """Return the examples on a device."""
        return Encoded(*(part.to(device) for part in self))

    def rows(self, chosen: Tensor) -> Encoded:
        """Return the examples with the given indices, cut to the longest of them.

        Shape:
            chosen: integers ``(selected,)``; source of the result ``(selected, longest source)``,
            target ``(selected, longest target)``.
        """
        source_lengths, target_lengths = self.source_lengths[chosen], self.target_lengths[chosen]
        return Encoded(
            self.source[chosen, : int(source_lengths.max())],
            source_lengths,
            self.target[chosen, : int(target_lengths.max())],
            target_lengths,
        )

    def batches(self, size: int, *, generator: torch.Generator) -> Iterator[Encoded]:
        """Go through all examples once, in random batches of sequences of similar lengths.

        Args:
            size: Examples in a batch; one batch has fewer if it does not divide their number.
            generator: Random generator, of the CPU, that draws the order. The next call draws
                another one.

        Raises:
            ValueError: ``size`` is not positive.
        """
        if size < 1:
            raise ValueError(f"size: expected at least 1, got {size}")
        order = torch.randperm(len(self.source), generator=generator)
        length = (self.source_lengths + self.target_lengths).cpu()
        batches: list[Tensor] = []
        for pool in order.split(50 * size):
            batches += pool[length[pool].argsort(stable=True)].split(size)
        for i in torch.randperm(len(batches), generator=generator).tolist():
            yield self.rows(batches[i])


def encode_pairs(pairs: Iterable[Pair], vocabularies: Vocabularies) -> Encoded:
    """Encode pairs as examples, one for each target.

    Raises:
        UnknownSymbolError: A target has a symbol that is not in the vocabulary.
        ValueError: There are no pairs.

    Example:
        >>> pairs = [Pair(("a",), (("x",), ("y", "x")))]
        >>> encode_pairs(pairs, Vocabularies.from_pairs(pairs)).target_lengths
        tensor([3, 4])
    """
    sources, targets = [], []
    for pair in pairs:
        source = [*vocabularies.source.encode(pair.source), END]
        for target in pair.targets:
            sources.append(source)
            targets.append([START, *vocabularies.target.encode(target), END])
    return Encoded(*_padded(sources), *_padded(targets))


def _padded(sequences: list[list[int]]) -> tuple[Tensor, Tensor]:
    if not sequences:
        raise ValueError("sequences: expected at least one, got none")
    tensors = [torch.tensor(sequence, dtype=torch.int64) for sequence in sequences]
    lengths = torch.tensor([len(sequence) for sequence in sequences])
    return pad_sequence(tensors, batch_first=True, padding_value=PADDING), lengths
