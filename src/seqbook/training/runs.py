"""Training runs that can be interrupted at any moment and resumed with the same result.

A run lives in a folder: ``run.json`` describes what is trained and on what, ``checkpoint.pt`` is
the state after the last saved step.
"""

from __future__ import annotations

import hashlib
import json
import math
import platform
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from seqbook.data.batches import Encoded, Vocabularies, encode_pairs
from seqbook.data.pairs import Split
from seqbook.models.devices import available_device
from seqbook.models.storage import DamagedModelError, brief, write_file
from seqbook.models.transcriber import Transcriber
from seqbook.training.checkpoints import load_checkpoint, save_checkpoint
from seqbook.training.loop import training_steps
from seqbook.training.recipes import Recipe
from seqbook.training.scoring import score, score_steps

__all__ = ["Progress", "Run", "RunMismatchError"]


class RunMismatchError(ValueError):
    """A folder holds a run with other settings.

    Example:
        >>> from tempfile import TemporaryDirectory
        >>> from seqbook.data.pairs import Pair
        >>> data = Split([Pair(("a",), (("A",),))], [], [])
        >>> sizes = {"embedding_size": 4, "hidden_size": 4}
        >>> recipe = Recipe("gru", sizes, epochs=2, batch=1)
        >>> with TemporaryDirectory() as folder:
        ...     Run(folder, recipe, data, task="letters").save()
        ...     try:
        ...         Run(folder, Recipe("gru", sizes, epochs=3, batch=1), data, task="letters")
        ...     except RunMismatchError as error:
        ...         print(str(error).removeprefix(folder))
        : holds a run with other settings: ...
    """


class Progress(NamedTuple):
    """Progress of a run.

    Attributes:
        step: Number of steps done.
        steps: Number of steps in all.
        loss: Loss of the last batch, in nats per symbol; NaN before the first.
        minutes: Processor time of training so far.
        history: One entry for each time the validation pairs were scored: ``step``, ``minutes``,
            ``word`` and ``symbol`` error.

    Example:
        >>> progress = Progress(step=50, steps=200, loss=1.25, minutes=0.5, history=[])
        >>> f"{progress.step / progress.steps:.0%} done, loss {progress.loss:.2f} nats a symbol"
        '25% done, loss 1.25 nats a symbol'
    """

    step: int
    steps: int
    loss: float
    minutes: float
    history: list[dict[str, float]]


class Run:
    """The training of one model on one task, step by step.

    Iterating over a run trains it and yields its progress after each step; the caller may stop
    with ``break``, then ``save``, and iterate again later. The run saves itself from time to time
    and after the last step. All randomness follows from the recipe's seed: other random numbers
    drawn in the same process change nothing, and are not changed.

    Args:
        folder: Folder of the run. If it holds a run of the same recipe on the same data, that one
            is resumed. Nothing is written before the first step or ``save``.
        recipe: Model and hyperparameters.
        data: The pairs. Without validation pairs the run is not scored on its way.
        task: Name of the data, for the record.
        source_level: Level of the sources, see ``seqbook.data.pairs.tokenize``.
        target_level: Level of the targets.
        parts: Where the validation and the test pairs are from: their share of the task's rows, or
            the name of their own file; for the record.
        device: Device to train on. A resumed run repeats an uninterrupted one bit for bit on the
            CPU; other devices may add in another order.
        score_after: Numbers of steps after which the validation pairs are scored; by default
            those of ``score_steps``.
        save_seconds: Time between two checkpoints.

    Raises:
        RunMismatchError: The folder holds another run; the message says how it differs.
        DamagedModelError: The folder's checkpoint or description is damaged.
        ValueError: There are no training pairs, an option does not fit, or the device is not here.

    Example:
        >>> from tempfile import TemporaryDirectory
        >>> from seqbook.data.pairs import Pair
        >>> data = Split([Pair((a,), ((a.upper(),),)) for a in "abcdefgh"], [], [])
        >>> recipe = Recipe("gru", {"embedding_size": 4, "hidden_size": 4}, epochs=4, batch=2)
        >>> with TemporaryDirectory() as folder:
        ...     run = Run(folder, recipe, data, task="letters")
        ...     for progress in run:
        ...         if progress.step == 10:
        ...             break
        ...     run.save()
        ...     resumed = Run(folder, recipe, data, task="letters")
        ...     print("resumes after step", resumed.progress.step, "of", resumed.steps)
        ...     resumed.train()
        resumes after step 10 of 16
        >>> resumed.finished
        True
    """

    def __init__(
        self,
        folder: Path | str,
        recipe: Recipe,
        data: Split,
        *,
        task: str,
        source_level: str = "characters",
        target_level: str = "characters",
        parts: Mapping[str, float | str] | None = None,
        device: torch.device | str = "cpu",
        score_after: Iterable[int] | None = None,
        save_seconds: float = 60,
    ):
        self.folder, self.recipe, self.data = Path(folder), recipe, data
        self._save_seconds, device = save_seconds, available_device(device)
        self._description = {
            "task": task,
            "parts": dict(parts or {}),
            "data": _digest(data),
            "source_level": source_level,
            "target_level": target_level,
            "recipe": asdict(recipe),
        }
        self._check_description()
        if not data.training:
            raise ValueError("data: expected pairs for training, got none")
        with torch.random.fork_rng(devices=[]):
            self.transcriber = Transcriber(
                recipe.model,
                recipe.options,
                Vocabularies.from_pairs(data.training),
                source_level=source_level,
                target_level=target_level,
                generator=torch.Generator().manual_seed(recipe.seed),
                device=device,
            )
        self._generators = _Generators(recipe.seed, device)
        self._examples = encode_pairs(data.training, self.transcriber.vocabularies)
        self._in_epoch = math.ceil(len(self._examples.source) / recipe.batch)
        self.steps = max(1, round(recipe.epochs * self._in_epoch))
        self._score_after = set(score_steps(self.steps) if score_after is None else score_after)
        model = self.transcriber.model
        self._ema = AveragedModel(model, multi_avg_fn=self._average, use_buffers=False)
        self._optimizer = torch.optim.Adam(model.parameters(), betas=(0.9, 0.98), fused=True)
        self._step, self._seconds, self._loss = 0, 0.0, math.nan
        self._history: list[dict[str, float]] = []
        if self._checkpoint.exists():
            self._restore(load_checkpoint(self._checkpoint))

    @property
    def progress(self) -> Progress:
        """Progress of the run."""
        return Progress(self._step, self.steps, self._loss, self._seconds / 60, list(self._history))

    @property
    def finished(self) -> bool:
        """Whether every step is done."""
        return self._step >= self.steps

    def __iter__(self) -> Iterator[Progress]:
        """Train, and yield the progress after each step.

        Raises:
            FloatingPointError: The loss or the gradient is not finite, or the weights are too large
                for half precision. The checkpoint stays as it was.
        """
        recipe, model = self.recipe, self.transcriber.model
        batches = self._batches()

        def loss(_step: int) -> Tensor:
            examples = next(batches).to(self.transcriber.device)
            with self._generators.in_use():
                return model.loss(examples, label_smoothing=recipe.label_smoothing)

        self._write_description()
        saved, start = time.monotonic(), time.process_time()
        for step in training_steps(
            model.parameters(),
            loss,
            steps=self.steps,
            learning_rate=lambda number: recipe.rate(number, self.steps),
            clip_norm=recipe.clip_norm,
            optimizer=self._optimizer,
            first_step=self._step,
        ):
            self._ema.update_parameters(model)
            self._step, self._loss = step.number + 1, step.loss
            self._seconds += time.process_time() - start
            if self._step in self._score_after and self.data.validation:
                self._score()
            if self.finished or time.monotonic() - saved > self._save_seconds:
                self.save()
                saved = time.monotonic()
            yield self.progress
            start = time.process_time()

    def train(self) -> None:
        """Train to the end.

        Raises:
            FloatingPointError: As for iterating.
        """
        for _ in self:
            pass

    def result(self) -> Transcriber:
        """Return the model with the moving average of the weights, in half precision as saved.

        Raises:
            FloatingPointError: A weight is too large for half precision, or not finite.
        """
        weights = {
            name: value.half().to(value.dtype) if value.is_floating_point() else value
            for name, value in self._ema.module.state_dict().items()
        }
        for name, value in weights.items():
            if not value.isfinite().all():
                raise FloatingPointError(
                    f"{name}: expected a finite number in half precision for each weight, got "
                    "some that are not; try a smaller learning rate"
                )
        with torch.random.fork_rng(devices=[]):
            transcriber = Transcriber(
                self.recipe.model,
                self.recipe.options,
                self.transcriber.vocabularies,
                source_level=self.transcriber.source_level,
                target_level=self.transcriber.target_level,
                device=self.transcriber.device,
            )
        transcriber.model.load_state_dict(weights)
        transcriber.model.eval()
        transcriber.record = {
            **self._description,
            "steps": self._step,
            "minutes": round(self._seconds / 60, 2),
            "device": self.transcriber.device.type,
            "threads": torch.get_num_threads(),
            "weights": transcriber.weights,
            "history": self._history,
            "versions": {"python": platform.python_version(), "torch": str(torch.__version__)},
        }
        return transcriber

    def save(self) -> None:
        """Write the checkpoint; the previous one stays intact until the new one is on disk."""
        self._write_description()
        content = {
            "model": self.transcriber.model.state_dict(),
            "ema": self._ema.state_dict(),
            "optimizer": self._optimizer.state_dict(),
            "generators": self._generators.states,
            "step": self._step,
            "seconds": self._seconds,
            "loss": self._loss,
            "history": self._history,
        }
        save_checkpoint(content, self._checkpoint)

    @property
    def _checkpoint(self) -> Path:
        return self.folder / "checkpoint.pt"

    @property
    def _description_file(self) -> Path:
        return self.folder / "run.json"

    def _write_description(self) -> None:
        if not self._description_file.exists():
            self.folder.mkdir(parents=True, exist_ok=True)
            text = json.dumps(self._description, indent=1, ensure_ascii=False) + "\n"
            write_file(self._description_file, text.encode())

    def _check_description(self) -> None:
        path = self._description_file
        if not path.exists():
            if self._checkpoint.exists():
                raise RunMismatchError(f"{self.folder}: expected run.json beside checkpoint.pt")
            return
        try:
            stored = json.loads(path.read_text(encoding="utf-8"))
        except ValueError as error:
            raise DamagedModelError(f"{path}: expected JSON, got invalid JSON: {error}") from error
        if not isinstance(stored, dict):
            raise DamagedModelError(f"{path}: expected a JSON object, got {_short(stored)}")
        current = json.loads(json.dumps(self._description))
        if stored != current:
            differences = "; ".join(_differences(stored, current))
            raise RunMismatchError(
                f"{self.folder}: holds a run with other settings: {differences}. Use its settings "
                "to resume it, or choose another folder"
            )

    def _restore(self, saved: dict[str, Any]) -> None:
        try:
            saved = dict(saved)
            self.transcriber.model.load_state_dict(saved["model"])
            self._ema.load_state_dict(saved["ema"])
            self._optimizer.load_state_dict(saved["optimizer"])
            self._generators.restore(saved["generators"])
            self._step, self._seconds = saved["step"], saved["seconds"]
            self._loss, self._history = saved["loss"], saved["history"]
        except (LookupError, TypeError, ValueError, RuntimeError, AttributeError) as error:
            raise DamagedModelError(
                f"{self._checkpoint}: expected a checkpoint of this run, got something else: "
                f"{brief(error)}"
            ) from error

    def _batches(self) -> Iterator[Encoded]:
        """Yield the batches from the next step on; each epoch has its own order."""
        epoch, read = divmod(self._step, self._in_epoch)
        remaining = self.steps - self._step
        while remaining > 0:
            generator = torch.Generator().manual_seed((self.recipe.seed << 20) + epoch)
            batches = self._examples.batches(self.recipe.batch, generator=generator)
            for examples in islice(batches, read, read + remaining):
                remaining -= 1
                yield examples
            epoch, read = epoch + 1, 0

    def _average(
        self, means: Sequence[Tensor], weights: Sequence[Tensor], updates: Tensor | int
    ) -> None:
        decay = min(self.recipe.ema_decay, (1 + int(updates)) / (10 + int(updates)))
        get_ema_multi_avg_fn(decay)(means, weights, updates)

    def _score(self) -> None:
        entry = {"step": self._step, "minutes": round(self._seconds / 60, 3)}
        self._history.append(entry | score(self.result(), self.data.validation))


class _Generators:
    """States of torch's default generators, which dropout draws from, for one run alone."""

    def __init__(self, seed: int, device: torch.device):
        self._devices = {"cpu": torch.device("cpu"), device.type: device}
        self.states = {
            name: torch.Generator(device).manual_seed(seed).get_state()
            for name, device in self._devices.items()
        }

    def restore(self, states: dict[str, Tensor]) -> None:
        """Take the states of a checkpoint; those of other devices than the run's are left out."""
        states = dict(states)
        for name, device in self._devices.items():
            if name in states:
                torch.Generator(device).set_state(states[name])  # checks it
                self.states[name] = states[name]

    @contextmanager
    def in_use(self) -> Iterator[None]:
        """Let torch draw from the run's states, and restore the process's own afterwards."""
        process_states = self._swap(self.states)
        try:
            yield
        finally:
            self.states = self._swap(process_states)

    def _swap(self, states: dict[str, Tensor]) -> dict[str, Tensor]:
        before = {}
        for name, device in self._devices.items():
            module: Any = torch if name == "cpu" else torch.get_device_module(device)
            devices = () if name in ("cpu", "mps") else (device,)
            before[name] = module.get_rng_state(*devices)
            module.set_rng_state(states[name], *devices)
        return before


def _digest(data: Split) -> str:
    lines = (f"{name} {tuple(pair)!r}" for name, part in data._asdict().items() for pair in part)
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()


def _differences(stored: dict, current: dict, name: str = "") -> Iterator[str]:
    for key in sorted(stored.keys() | current.keys()):
        stored_value, current_value = stored.get(key), current.get(key)
        if isinstance(stored_value, dict) and isinstance(current_value, dict):
            yield from _differences(stored_value, current_value, f"{name}{key}.")
        elif stored_value != current_value:
            yield f"{name}{key} is {_short(stored_value)} there, {_short(current_value)} now"


def _short(value: Any) -> str:
    return repr(value[:12] + "…") if isinstance(value, str) and len(value) > 30 else repr(value)
