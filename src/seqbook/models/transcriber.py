"""A trained encoder-decoder with what it takes to use it: symbols, units, a file to keep it in."""

from __future__ import annotations

import inspect
import io
import os
import pickle
import tempfile
import textwrap
import zipfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, BinaryIO

import torch
from torch import Tensor

from seqbook.data.batches import Vocabularies
from seqbook.data.pairs import UNITS, Pair, join, symbols
from seqbook.data.vocabulary import Vocabulary
from seqbook.models.decoding import Hypothesis, beam, greedy
from seqbook.models.metrics import ErrorRates, error_rates
from seqbook.models.seq2seq import RecurrentSeq2Seq, Seq2Seq, TransformerSeq2Seq
from seqbook.validation import check_choice

__all__ = [
    "MODELS",
    "DamagedModelError",
    "Transcriber",
    "brief",
    "read_torch_file",
    "write_torch_file",
]

MODELS: dict[str, tuple[type[Seq2Seq], dict[str, Any]]] = {
    "transformer": (TransformerSeq2Seq, {}),
    "rnn": (RecurrentSeq2Seq, {"network": "RNN"}),
    "lstm": (RecurrentSeq2Seq, {"network": "LSTM"}),
    "gru": (RecurrentSeq2Seq, {"network": "GRU"}),
}
_FORMAT = "seqbook transcriber 1"
_CONTENT = {
    "kind": str,
    "options": dict,
    "source_symbols": list,
    "target_symbols": list,
    "source_units": str,
    "target_units": str,
    "record": dict,
    "weights": dict,
}


class DamagedModelError(ValueError):
    """A file does not hold a model that this version can use."""


class Transcriber:
    """A model that maps texts to texts.

    Args:
        kind: A name in ``MODELS``.
        options: Of the model's constructor, without the numbers of symbols.
        vocabularies: Of both sides.
        source_units: How a source text is cut, see ``seqbook.data.pairs.symbols``.
        target_units: How a target text is put together.
        generator: Draws the initial weights; by default torch's own.

    Attributes:
        model: The model.
        record: How it was made and what it reached; numbers, texts, lists and dictionaries.

    Raises:
        ValueError: ``kind`` is unknown or an option does not fit.
    """

    def __init__(
        self,
        kind: str,
        options: dict[str, Any],
        vocabularies: Vocabularies,
        *,
        source_units: str = "characters",
        target_units: str = "characters",
        generator: torch.Generator | None = None,
    ):
        check_choice("kind", kind, MODELS)
        check_choice("source_units", source_units, UNITS)
        check_choice("target_units", target_units, UNITS)
        for name in options:
            check_choice(f"options of {kind}", name, _option_names(kind))
        self.kind, self.options, self.vocabularies = kind, dict(options), vocabularies
        self.source_units, self.target_units = source_units, target_units
        self.record: dict[str, Any] = {}
        build, fixed = MODELS[kind]
        sizes = (len(vocabularies.source), len(vocabularies.target))
        try:
            self.model = build(*sizes, generator=generator, **fixed, **self.options)
        except (TypeError, ArithmeticError, RuntimeError) as error:
            raise ValueError(f"options of {kind}: {brief(error)}") from error

    @property
    def weights(self) -> int:
        """Number of weights."""
        return sum(parameter.numel() for parameter in self.model.parameters())

    def write(
        self,
        sources: Sequence[Sequence[str]],
        *,
        width: int = 1,
        batch: int = 256,
        progress: Callable[[int], object] = lambda _written: None,
    ) -> list[Hypothesis]:
        """Write a target for each source, sequences of similar lengths together.

        Args:
            sources: Sequences of symbols.
            width: Of the beam; 1 is greedy.
            batch: Sources to write for at once.
            progress: Called with the number of sources each time a batch is done.

        Raises:
            ValueError: ``width`` or ``batch`` is not positive.
        """
        if batch < 1:
            raise ValueError(f"batch: expected at least 1, got {batch}")
        search = greedy if width == 1 else lambda *args, **kw: beam(*args, width=width, **kw)
        order = sorted(range(len(sources)), key=lambda i: len(sources[i]))
        written: list[Hypothesis | None] = [None] * len(sources)
        training = self.model.training
        self.model.eval()
        try:
            for start in range(0, len(order), batch):
                chosen = order[start : start + batch]
                ids, lengths = self.vocabularies.read([sources[i] for i in chosen])
                max_length = 10 + 3 * int(lengths.max())
                found = search(self.model, ids, lengths, max_length=max_length)
                for i, hypothesis in zip(chosen, found, strict=True):
                    written[i] = hypothesis
                progress(len(chosen))
        finally:
            self.model.train(training)
        return written

    def transcribe(self, texts: Sequence[str], *, width: int = 1) -> list[str]:
        """Write a text for each text."""
        written = self.write([symbols(text, self.source_units) for text in texts], width=width)
        return [join(self.vocabularies.written(h.ids), self.target_units) for h in written]

    def score(self, pairs: Sequence[Pair], *, width: int = 1, **options: Any) -> ErrorRates:
        """Score what is written for the sources of ``pairs``; options as for ``write``."""
        written = self.write([pair.source for pair in pairs], width=width, **options)
        return error_rates([self.vocabularies.written(h.ids) for h in written], pairs)

    def save(self, path: Path | str) -> None:
        """Write the model to a file, its weights in half precision.

        What stood at ``path`` stays whole until the new file is.

        Raises:
            OSError: The file can't be written, as on a full disk.
            ValueError: A weight is not finite, or too large for half precision.
        """
        weights = {
            name: value.half() if value.is_floating_point() else value
            for name, value in self.model.state_dict().items()
        }
        _check_finite(weights)
        content = {
            "format": _FORMAT,
            "kind": self.kind,
            "options": self.options,
            "source_symbols": self.vocabularies.source.symbols,
            "target_symbols": self.vocabularies.target.symbols,
            "source_units": self.source_units,
            "target_units": self.target_units,
            "record": self.record,
            "weights": weights,
        }
        write_torch_file(content, path)

    @classmethod
    def load(cls, file: Path | str | BinaryIO) -> Transcriber:
        """Read a model from a file, or from an open binary one.

        Nothing in the file is executed: torch reads it with ``weights_only``.

        Raises:
            OSError: The file can't be read.
            DamagedModelError: It is damaged, or of another kind, or its weights do not fit the
                model that it names.
        """
        content = read_torch_file(file)
        if not isinstance(content, dict) or content.get("format") != _FORMAT:
            found = content.get("format") if isinstance(content, dict) else type(content).__name__
            raise DamagedModelError(f"{_name(file)}: expected a {_FORMAT!r} file, got {found!r}")
        for name, kind in _CONTENT.items():
            if not isinstance(content.get(name), kind):
                raise DamagedModelError(
                    f"{_name(file)}: {name}: expected {kind.__name__}, got "
                    f"{type(content.get(name)).__name__}"
                )
        special = Vocabularies.of([]).target.symbols
        for name in ("source_symbols", "target_symbols"):
            found = content[name]
            if found[: len(special)] != special or not all(isinstance(s, str) for s in found):
                raise DamagedModelError(
                    f"{_name(file)}: {name}: expected texts that begin with {', '.join(special)}"
                )
        try:
            with torch.random.fork_rng(devices=[]):
                made = cls(
                    content["kind"],
                    _with_present_names(content["kind"], content["options"]),
                    Vocabularies(
                        Vocabulary(content["source_symbols"], unknown="<unk>"),
                        Vocabulary(content["target_symbols"]),
                    ),
                    source_units=content["source_units"],
                    target_units=content["target_units"],
                )
            _check_finite(content["weights"])
            made.model.load_state_dict(content["weights"])
            made.record = content["record"]
        except (TypeError, ValueError, RuntimeError, AttributeError) as error:
            raise DamagedModelError(
                f"{_name(file)}: its weights do not fit the model it names: {brief(error)}"
            ) from error
        made.model.eval()
        return made


def write_torch_file(content: dict[str, Any], path: Path | str) -> None:
    """Write tensors and plain values; what stood at ``path`` stays whole until the new file is.

    Raises:
        OSError: The file can't be written, as on a full disk.
    """
    path, made = Path(path), io.BytesIO()
    torch.save(content, made)
    descriptor, partial = tempfile.mkstemp(dir=path.parent, suffix=".partial")
    try:
        with open(descriptor, "wb") as file:
            file.write(made.getbuffer())
            file.flush()
            os.fsync(descriptor)
        os.chmod(partial, 0o644)
        os.replace(partial, path)
    except BaseException:
        os.unlink(partial)
        raise


def read_torch_file(file: Path | str | BinaryIO) -> Any:
    """Read tensors and plain values, and nothing that could run.

    Raises:
        OSError: The file can't be read.
        DamagedModelError: It is no such file, or damaged.
    """
    content = io.BytesIO(Path(file).read_bytes() if isinstance(file, (str, Path)) else file.read())
    try:
        # torch checks no sums, and leaves memory as it is for what is marked as a folder: so it
        # gets an archive made anew of parts whose sums are right.
        whole = io.BytesIO()
        with zipfile.ZipFile(content) as archive, zipfile.ZipFile(whole, "w") as made:
            for name in archive.namelist():
                made.writestr(name, archive.read(name))
        whole.seek(0)
        return torch.load(whole, weights_only=True, map_location="cpu")
    except pickle.UnpicklingError as error:
        raise DamagedModelError(
            f"{_name(file)}: expected tensors and plain values only, got something that could run"
        ) from error
    except Exception as error:  # zipfile and torch raise many kinds at damaged bytes
        raise DamagedModelError(
            f"{_name(file)}: expected a file of tensors written by this package, got one that is "
            f"damaged or of another kind ({brief(error)})"
        ) from error


def brief(error: Exception) -> str:
    """What an error says, on one line of moderate length."""
    return textwrap.shorten(str(error) or type(error).__name__, 200, placeholder=" …")


def _check_finite(weights: dict[str, Tensor]) -> None:
    for name, value in weights.items():
        if not value.isfinite().all():
            raise ValueError(f"{name}: expected finite weights, got some that are not")


def _option_names(kind: str) -> list[str]:
    build, fixed = MODELS[kind]
    names = list(inspect.signature(build).parameters)[2:]
    return [n for n in names if n not in {*fixed, "generator", "device", "dtype"}]


def _with_present_names(kind: str, options: dict[str, Any]) -> dict[str, Any]:
    """Rename the options of the two models in the package until their files are converted."""
    names = {"width": "embedding_size", "hidden": "hidden_size", "layers": "num_layers"}
    if kind == "transformer":
        names = {"width": "d_model", "hidden": "d_ff"}
    return {names.get(name, name): value for name, value in options.items()}


def _name(file: Path | str | BinaryIO) -> str:
    return str(getattr(file, "name", file) if not isinstance(file, (str, Path)) else file)
