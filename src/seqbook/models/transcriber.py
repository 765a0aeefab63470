"""A trained encoder-decoder with all it needs: vocabularies, tokenization, a file format."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, BinaryIO

import torch
from torch import Tensor

from seqbook.data.batches import Vocabularies
from seqbook.data.pairs import LEVELS, Pair, clean, detokenize, tokenize
from seqbook.models.decoding import Hypothesis, beam, greedy
from seqbook.models.devices import available_device
from seqbook.models.metrics import ErrorRates, error_rates
from seqbook.models.modes import evaluation_mode
from seqbook.models.seq2seq import RecurrentSeq2Seq, Seq2Seq, TransformerSeq2Seq
from seqbook.models.storage import (
    DamagedModelError,
    brief,
    name_of,
    read_tensors,
    write_tensors,
)
from seqbook.validation import check_choice

__all__ = ["MODELS", "Transcriber"]

MODELS: dict[str, tuple[type[Seq2Seq], dict[str, Any]]] = {
    "transformer": (TransformerSeq2Seq, {}),
    "rnn": (RecurrentSeq2Seq, {"network": "RNN"}),
    "lstm": (RecurrentSeq2Seq, {"network": "LSTM"}),
    "gru": (RecurrentSeq2Seq, {"network": "GRU"}),
}
"""Each kind of model: its class, and the options that the kind implies."""

_FORMAT = "seqbook transcriber 2"
_CONTENT = {
    "kind": str,
    "options": dict,
    "source_symbols": list,
    "target_symbols": list,
    "source_level": str,
    "target_level": str,
    "record": dict,
}


class Transcriber:
    """A model that maps texts to texts.

    Args:
        kind: A name in ``MODELS``.
        options: Options of the model's constructor, without the numbers of symbols.
        vocabularies: Symbols of both sides.
        source_level: Level at which a source text is tokenized, see
            ``seqbook.data.pairs.tokenize``.
        target_level: Level at which a target text is joined.
        generator: Draws the initial weights; by default torch's own.
        device: Device of the model.

    Attributes:
        model: The model.
        record: How it was trained and what it scored: numbers, texts, lists and dictionaries.

    Raises:
        ValueError: ``kind`` is unknown, an option does not fit, or the device is not here.

    Example:
        >>> pairs = [Pair(("a", "b"), (("x",),))]
        >>> options = {"embedding_size": 4, "hidden_size": 4}
        >>> model = Transcriber("gru", options, Vocabularies.from_pairs(pairs))
        >>> model.weights
        328
        >>> len(model.transcribe(["ab", "ba", ""]))
        3
    """

    def __init__(
        self,
        kind: str,
        options: dict[str, Any],
        vocabularies: Vocabularies,
        *,
        source_level: str = "characters",
        target_level: str = "characters",
        generator: torch.Generator | None = None,
        device: torch.device | str = "cpu",
    ):
        check_choice("kind", kind, MODELS)
        check_choice("source_level", source_level, LEVELS)
        check_choice("target_level", target_level, LEVELS)
        for name in options:
            check_choice(f"options of {kind}", name, option_names(kind))
        device = available_device(device)
        self.kind, self.options, self.vocabularies = kind, dict(options), vocabularies
        self.source_level, self.target_level = source_level, target_level
        self.record: dict[str, Any] = {}
        build, fixed = MODELS[kind]
        sizes = (len(vocabularies.source), len(vocabularies.target))
        try:
            model = build(*sizes, generator=generator, **fixed, **self.options)
        except (TypeError, ArithmeticError, RuntimeError) as error:
            raise ValueError(f"options of {kind}: {brief(error)}") from error
        self.model: Seq2Seq = model.to(device)

    @property
    def weights(self) -> int:
        """Number of weights."""
        return sum(parameter.numel() for parameter in self.model.parameters())

    @property
    def device(self) -> torch.device:
        """Device of the model."""
        return next(self.model.parameters()).device

    def tokenize(self, text: str) -> tuple[str, ...]:
        """Clean a source text and cut it into symbols, as for training."""
        return tokenize(clean(text), self.source_level)

    def generate(
        self,
        sources: Sequence[Sequence[str]],
        *,
        beam_width: int = 1,
        batch: int = 256,
        progress: Callable[[int], object] = lambda _count: None,
    ) -> list[Hypothesis]:
        """Generate a target for each source, sources of similar lengths together.

        The model is evaluated without dropout, and its mode is left as it was.

        Args:
            sources: Sequences of symbols.
            beam_width: Width of the beam; 1 is greedy decoding.
            batch: Number of sources to read at once.
            progress: Called with the number of sources each time a batch is done.

        Raises:
            ValueError: ``beam_width`` or ``batch`` is not positive.
        """
        for name, value in (("beam_width", beam_width), ("batch", batch)):
            if value < 1:
                raise ValueError(f"{name}: expected at least 1, got {value}")
        order = sorted(range(len(sources)), key=lambda i: len(sources[i]))
        generated: dict[int, Hypothesis] = {}
        with evaluation_mode(self.model):
            for start in range(0, len(order), batch):
                chosen = order[start : start + batch]
                ids, lengths = self.vocabularies.encode_sources([sources[i] for i in chosen])
                limit = 10 + 3 * lengths  # of each source by its own length
                if beam_width == 1:
                    hypotheses = greedy(self.model, ids, lengths, max_length=limit)
                else:
                    hypotheses = beam(self.model, ids, lengths, width=beam_width, max_length=limit)
                generated.update(zip(chosen, hypotheses, strict=True))
                progress(len(chosen))
        return [generated[i] for i in range(len(sources))]

    def transcribe(self, texts: Sequence[str], *, beam_width: int = 1) -> list[str]:
        """Transcribe each text; an empty one, or white space alone, gives an empty text.

        Args:
            texts: Source texts.
            beam_width: Width of the beam; 1 is greedy decoding.

        Raises:
            ValueError: ``beam_width`` is not positive.
        """
        sources = [self.tokenize(text) for text in texts]
        generated = iter(self.generate([s for s in sources if s], beam_width=beam_width))
        targets = (
            self.vocabularies.decode_target(next(generated).ids) if source else ()
            for source in sources
        )
        return [detokenize(target, self.target_level) for target in targets]

    def score(self, pairs: Sequence[Pair], *, beam_width: int = 1, **options: Any) -> ErrorRates:
        """Score the targets generated for the sources of ``pairs``; options as for ``generate``.

        Rates are fractions, see ``seqbook.models.metrics.error_rates``.

        Raises:
            ValueError: There are no pairs, or as for ``generate``.
        """
        generated = self.generate([pair.source for pair in pairs], beam_width=beam_width, **options)
        return error_rates([self.vocabularies.decode_target(h.ids) for h in generated], pairs)

    def save(self, path: Path | str) -> None:
        """Write the model to a file in the safetensors format, its weights in half precision.

        An existing file at ``path`` stays intact until the new one is on disk.

        Raises:
            OSError: The file can't be written, as on a full disk.
            ValueError: A weight is not finite, or too large for half precision.
        """
        weights = {
            name: value.half() if value.is_floating_point() else value
            for name, value in self.model.state_dict().items()
        }
        _check_finite(weights)
        description = {
            "format": _FORMAT,
            "kind": self.kind,
            "options": self.options,
            "source_symbols": self.vocabularies.source.symbols,
            "target_symbols": self.vocabularies.target.symbols,
            "source_level": self.source_level,
            "target_level": self.target_level,
            "record": self.record,
        }
        write_tensors(path, weights, description)

    @classmethod
    def load(
        cls, file: Path | str | BinaryIO, *, device: torch.device | str = "cpu"
    ) -> Transcriber:
        """Read a model from a path or an open binary file; reading it never runs code from it.

        Args:
            file: The file.
            device: Device of the model.

        Raises:
            OSError: The file can't be read.
            DamagedModelError: It is damaged, or of another kind, or its weights do not fit the
                model that it names.
            ValueError: The device is not here.
        """
        device = available_device(device)
        weights, content = read_tensors(file)
        if not isinstance(content, dict) or content.get("format") != _FORMAT:
            actual = content.get("format") if isinstance(content, dict) else type(content).__name__
            raise DamagedModelError(f"{name_of(file)}: expected a {_FORMAT!r} file, got {actual!r}")
        for name, kind in _CONTENT.items():
            if not isinstance(content.get(name), kind):
                raise DamagedModelError(
                    f"{name_of(file)}: {name}: expected {kind.__name__}, got "
                    f"{type(content.get(name)).__name__}"
                )
        for name in ("source_symbols", "target_symbols"):
            if not all(isinstance(symbol, str) for symbol in content[name]):
                raise DamagedModelError(f"{name_of(file)}: {name}: expected texts")
        try:
            vocabularies = Vocabularies.from_symbols(
                content["source_symbols"], content["target_symbols"]
            )
            with torch.random.fork_rng(devices=[]):
                transcriber = cls(
                    content["kind"],
                    content["options"],
                    vocabularies,
                    source_level=content["source_level"],
                    target_level=content["target_level"],
                )
            _check_finite(weights)
            transcriber.model.load_state_dict(weights)
        except (TypeError, ValueError, RuntimeError, AttributeError) as error:
            raise DamagedModelError(
                f"{name_of(file)}: its weights do not fit the model it names: {brief(error)}"
            ) from error
        transcriber.record = content["record"]
        transcriber.model.to(device).eval()
        return transcriber


def option_names(kind: str) -> list[str]:
    """Return the names of a kind of model's options.

    Example:
        >>> option_names("gru")[:3]
        ['embedding_size', 'hidden_size', 'num_layers']
    """
    build, fixed = MODELS[kind]
    names = list(inspect.signature(build).parameters)[2:]
    return [name for name in names if name not in {*fixed, "generator", "device", "dtype"}]


def _check_finite(weights: dict[str, Tensor]) -> None:
    for name, value in weights.items():
        if not value.isfinite().all():
            raise ValueError(f"{name}: expected finite weights, got some that are not")
