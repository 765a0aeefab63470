"""Pairs of sequences as the padded ids that models read."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from seqbook.data.pairs import Pair
from seqbook.data.vocabulary import Vocabulary

__all__ = ["END", "PADDING", "START", "Encoded", "Vocabularies", "encode"]

PADDING, START, END = 0, 1, 2
_SPECIAL = ("<pad>", "<s>", "</s>")


class Vocabularies(NamedTuple):
    """The symbols of both sides; ids 0 to 2 are padding, start and end on both."""

    source: Vocabulary
    target: Vocabulary

    @classmethod
    def of(cls, pairs: Iterable[Pair]) -> Vocabularies:
        """Collect the symbols that occur; a source symbol that does not will read as ``<unk>``.

        Raises:
            ValueError: A symbol is one of those that mark padding, start and end.
        """
        pairs = list(pairs)
        source = {symbol for pair in pairs for symbol in pair.source}
        target = {symbol for pair in pairs for found in pair.targets for symbol in found}
        if reserved := (source | target) & set(_SPECIAL):
            raise ValueError(
                f"pairs: expected other symbols than {', '.join(_SPECIAL)}, which mark padding, "
                f"start and end, got {min(reserved)}"
            )
        return cls(
            Vocabulary([*_SPECIAL, *sorted(source)], unknown="<unk>"),
            Vocabulary([*_SPECIAL, *sorted(target)]),
        )

    def read(self, sources: Sequence[Sequence[str]]) -> tuple[Tensor, Tensor]:
        """Encode sources, each with an end symbol: padded ids and lengths.

        Shape:
            results, int64, ``(batch, source)`` and ``(batch,)``.

        Raises:
            ValueError: There are no sources.
        """
        return _padded([[*self.source.encode(source), END] for source in sources])

    def written(self, ids: Iterable[int]) -> tuple[str, ...]:
        """Decode a target."""
        return tuple(self.target.decode(ids))


class Encoded(NamedTuple):
    """Examples as padded ids, one for each source and each of its targets.

    Attributes:
        source: Ids, int64 ``(examples, source time)``; each sequence ends with ``END``.
        source_lengths: int64 ``(examples,)``, ``END`` counted.
        target: Ids from ``START`` to ``END``, int64 ``(examples, target time)``.
        target_lengths: int64 ``(examples,)``, both counted.
    """

    source: Tensor
    source_lengths: Tensor
    target: Tensor
    target_lengths: Tensor

    def rows(self, chosen: Tensor) -> Encoded:
        """Return the examples with these numbers, cut to the longest of them."""
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
            generator: Draws the order. The next call draws another one.

        Raises:
            ValueError: ``size`` is not positive.
        """
        if size < 1:
            raise ValueError(f"size: expected at least 1, got {size}")
        order = torch.randperm(len(self.source), generator=generator)
        length = self.source_lengths + self.target_lengths
        batches = []
        for pool in order.split(50 * size):
            batches += pool[length[pool].argsort(stable=True)].split(size)
        for i in torch.randperm(len(batches), generator=generator).tolist():
            yield self.rows(batches[i])


def encode(pairs: Iterable[Pair], vocabularies: Vocabularies) -> Encoded:
    """Encode pairs as examples.

    Raises:
        UnknownSymbolError: A target has a symbol that is not in the vocabulary.
        ValueError: There are no pairs.
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
