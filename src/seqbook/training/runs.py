"""Training runs that can be interrupted at any moment and go on as if nothing had been.

A run lives in a folder: ``run.json`` says what is trained and on what, ``checkpoint.pt`` is the
state after the last saved step, ``model.pt`` the result.
"""

from __future__ import annotations

import hashlib
import json
import math
import platform
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field
from itertools import count, islice, takewhile
from pathlib import Path
from typing import Any

import torch
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from seqbook.data.batches import Encoded, Vocabularies, encode
from seqbook.data.pairs import Split
from seqbook.models.transcriber import (
    DamagedModelError,
    Transcriber,
    brief,
    read_torch_file,
    write_torch_file,
)

__all__ = ["RECIPES", "Progress", "Recipe", "Run", "RunMismatchError", "score_steps"]

CHECKPOINT_SECONDS = 60
FIRST_SCORE, SCORE_RATIO = 100, 1.5


@dataclass(frozen=True)
class Recipe:
    r"""What is trained, and how.

    Adam's step size grows linearly over ``warmup`` steps and falls linearly to zero over all:
    at step n of N, counted from 0, it is ``learning_rate`` times
    :math:`\min((n + 1) / \text{warmup}, 1 - n / N)`. What is scored and kept is a mean of the
    weights along the way. It starts as the weights after step 0 and then follows
    :math:`\bar w \leftarrow d \bar w + (1 - d) w` after each step n, with
    :math:`d = \min(\text{average}, (1 + n) / (10 + n))`.

    Attributes:
        model: A name in ``seqbook.models.transcriber.MODELS``.
        options: Of the model's constructor.
        epochs: How often each example is read.
        batch: Examples in a batch.
        learning_rate: The step size that warming up leads to.
        warmup: Steps to warm up.
        label_smoothing: See ``Seq2Seq.loss``.
        average: Weight of the past in the mean of the weights.
        clip_norm: The gradient is scaled down to this Euclidean norm if it is longer.
        seed: Draws the initial weights, the batches and what is dropped.

    Raises:
        ValueError: A number is out of range.
    """

    model: str
    options: dict[str, Any] = field(default_factory=dict)
    epochs: float = 20
    batch: int = 64
    learning_rate: float = 0.002
    warmup: int = 300
    label_smoothing: float = 0.1
    average: float = 0.999
    clip_norm: float = 1.0
    seed: int = 0

    def __post_init__(self):
        for name in ("epochs", "batch", "learning_rate", "warmup", "clip_norm"):
            if not 0 < getattr(self, name) < math.inf:
                raise ValueError(
                    f"{name}: expected a positive finite number, got {getattr(self, name)}"
                )
        for name in ("label_smoothing", "average"):
            if not 0 <= getattr(self, name) < 1:
                raise ValueError(f"{name}: expected 0 to below 1, got {getattr(self, name)}")
        if not 0 <= self.seed < 2**32:
            raise ValueError(f"seed: expected 0 to 2^32 - 1, got {self.seed}")

    def rate(self, step: int, steps: int) -> float:
        """Adam's step size at a step, counted from 0."""
        return self.learning_rate * min((step + 1) / self.warmup, 1 - step / steps)


_RECURRENT = {"embedding_size": 128, "hidden_size": 304, "num_layers": 1, "dropout": 0.3}
# The first two are those of chapter 8's capstone: about as many weights and minutes each.
RECIPES = {
    "transformer": Recipe(
        "transformer",
        {
            "d_model": 128,
            "heads": 4,
            "d_ff": 512,
            "encoder_layers": 3,
            "decoder_layers": 2,
            "dropout": 0.1,
        },
        epochs=20,
        learning_rate=0.002,
        warmup=500,
    ),
    **{
        model: Recipe(model, _RECURRENT, epochs=28, learning_rate=0.004)
        for model in ("lstm", "gru", "rnn")
    },
}


class RunMismatchError(ValueError):
    """A folder holds a run of something else."""


@dataclass(frozen=True)
class Progress:
    """Where a run is.

    Attributes:
        step: Steps done.
        steps: Steps in all.
        loss: Of the last batch, in nats a symbol.
        minutes: Processor time of training so far.
        history: One entry for each time the validation words were scored: ``step``, ``minutes``,
            ``word`` and ``symbol`` error.
    """

    step: int
    steps: int
    loss: float
    minutes: float
    history: list[dict[str, float]]


class Run:
    """The training of one model on one task.

    All chance comes from the recipe's seed: what else draws random numbers in the same process
    changes nothing, and is not changed.

    Args:
        folder: Where it is kept; made if it is not there. If it holds a run of the same recipe on
            the same data, that one goes on.
        recipe: What is trained, and how.
        data: The pairs.
        task: Name of the data, for the record.
        source_units: See ``seqbook.data.pairs.symbols``.
        target_units: See ``seqbook.data.pairs.symbols``.

    Raises:
        RunMismatchError: The folder holds another run; the message says in what it differs.
        DamagedModelError: The folder's checkpoint or description is damaged.
        ValueError: There is nothing to train on or to validate by, or an option does not fit.
    """

    def __init__(
        self,
        folder: Path | str,
        recipe: Recipe,
        data: Split,
        *,
        task: str,
        source_units: str = "characters",
        target_units: str = "characters",
    ):
        self.folder, self.recipe, self.data = Path(folder), recipe, data
        self._description = {
            "task": task,
            "data": _digest(data),
            "source_units": source_units,
            "target_units": target_units,
            "recipe": asdict(recipe),
        }
        self._check_description()
        for part in ("training", "validation"):
            if not getattr(data, part):
                raise ValueError(f"data: expected pairs for {part}, got none")
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(recipe.seed)
            self.transcriber = Transcriber(
                recipe.model,
                recipe.options,
                Vocabularies.of(data.training),
                source_units=source_units,
                target_units=target_units,
                generator=torch.Generator().manual_seed(recipe.seed),
            )
            self._random = torch.get_rng_state()  # of torch's own generator, which dropout uses
        self._examples = encode(data.training, self.transcriber.vocabularies)
        self._in_epoch = math.ceil(len(self._examples.source) / recipe.batch)
        self.steps = max(1, round(recipe.epochs * self._in_epoch))
        model = self.transcriber.model
        self._averaged = AveragedModel(model, multi_avg_fn=self._average, use_buffers=False)
        self._optimiser = torch.optim.Adam(model.parameters(), betas=(0.9, 0.98), fused=True)
        self._step, self._seconds, self._loss = 0, 0.0, math.nan
        self._history: list[dict[str, float]] = []
        if self._checkpoint.exists():
            self._restore(read_torch_file(self._checkpoint))
        else:
            self.folder.mkdir(parents=True, exist_ok=True)
            text = json.dumps(self._description, indent=1, ensure_ascii=False)
            self._description_file.write_text(text + "\n", encoding="utf-8")

    @property
    def progress(self) -> Progress:
        """Where the run is."""
        return Progress(self._step, self.steps, self._loss, self._seconds / 60, list(self._history))

    @property
    def finished(self) -> bool:
        """Whether every step is done."""
        return self._step >= self.steps

    def train(
        self,
        *,
        watch: Callable[[Progress], object] = lambda _progress: None,
        stop: Callable[[], bool] = lambda: False,
    ) -> bool:
        """Train to the end, or until told to stop; save in both cases and once a minute.

        Args:
            watch: Called after each step.
            stop: Asked after each step.

        Returns:
            Whether the run is finished.

        Raises:
            FloatingPointError: The loss or the gradient is not finite, or the weights are too large
                to be kept. The checkpoint stays as it was.
        """
        saved, scores = time.monotonic(), set(score_steps(self.steps))
        start = time.process_time()
        for examples in self._batches():
            self._update(examples)
            self._step += 1
            self._seconds += time.process_time() - start
            if self._step in scores:
                self._score()
            if time.monotonic() - saved > CHECKPOINT_SECONDS:
                self.save()
                saved = time.monotonic()
            watch(self.progress)
            if stop():
                break
            start = time.process_time()
        self.save()
        return self.finished

    def result(self) -> Transcriber:
        """The model with the mean of the weights, rounded to what ``save`` keeps.

        Raises:
            FloatingPointError: A weight is too large for that, or not finite.
        """
        kept = {
            name: value.half().to(value.dtype) if value.is_floating_point() else value
            for name, value in self._averaged.module.state_dict().items()
        }
        for name, value in kept.items():
            if not value.isfinite().all():
                raise FloatingPointError(
                    f"{name}: expected a finite number in half precision for each weight, got "
                    "some that are not; try a smaller learning rate"
                )
        with torch.random.fork_rng(devices=[]):
            made = Transcriber(
                self.recipe.model,
                self.recipe.options,
                self.transcriber.vocabularies,
                source_units=self.transcriber.source_units,
                target_units=self.transcriber.target_units,
            )
        made.model.load_state_dict(kept)
        made.model.eval()
        made.record = {
            **self._description,
            "steps": self._step,
            "minutes": round(self._seconds / 60, 2),
            "threads": torch.get_num_threads(),
            "weights": made.weights,
            "history": self._history,
            "versions": {"python": platform.python_version(), "torch": str(torch.__version__)},
        }
        return made

    def save(self) -> None:
        """Write the checkpoint; the one before stays whole until this one is."""
        content = {
            "model": self.transcriber.model.state_dict(),
            "averaged": self._averaged.state_dict(),
            "optimiser": self._optimiser.state_dict(),
            "random": self._random,
            "step": self._step,
            "seconds": self._seconds,
            "loss": self._loss,
            "history": self._history,
        }
        write_torch_file(content, self._checkpoint)

    @property
    def _checkpoint(self) -> Path:
        return self.folder / "checkpoint.pt"

    @property
    def _description_file(self) -> Path:
        return self.folder / "run.json"

    def _check_description(self) -> None:
        path = self._description_file
        if not path.exists():
            if self._checkpoint.exists():
                raise RunMismatchError(f"{self.folder}: expected run.json beside checkpoint.pt")
            return
        try:
            before = json.loads(path.read_text(encoding="utf-8"))
        except ValueError as error:
            raise DamagedModelError(f"{path}: expected JSON, got what is none: {error}") from error
        if not isinstance(before, dict):
            raise DamagedModelError(f"{path}: expected a JSON object, got {_short(before)}")
        now = json.loads(json.dumps(self._description))
        if before != now:
            differences = "; ".join(_differences(before, now))
            raise RunMismatchError(
                f"{self.folder}: holds a run with other settings: {differences}. Go on with the "
                "same ones, or choose another folder"
            )

    def _restore(self, saved: dict[str, Any]) -> None:
        try:
            saved = dict(saved)
            self.transcriber.model.load_state_dict(saved["model"])
            self._averaged.load_state_dict(saved["averaged"])
            self._optimiser.load_state_dict(saved["optimiser"])
            torch.Generator().set_state(saved["random"])
            self._random = saved["random"]
            self._step, self._seconds = saved["step"], saved["seconds"]
            self._loss, self._history = saved["loss"], saved["history"]
        except (LookupError, TypeError, ValueError, RuntimeError, AttributeError) as error:
            raise DamagedModelError(
                f"{self._checkpoint}: expected a checkpoint of this run, got something else: "
                f"{brief(error)}"
            ) from error

    def _batches(self) -> Iterator[Encoded]:
        """The batches from the next step on: each epoch has an order of its own."""
        epoch, done = divmod(self._step, self._in_epoch)
        left = self.steps - self._step
        while left > 0:
            generator = torch.Generator().manual_seed((self.recipe.seed << 20) + epoch)
            batches = self._examples.batches(self.recipe.batch, generator=generator)
            for examples in islice(batches, done, done + left):
                left -= 1
                yield examples
            epoch, done = epoch + 1, 0

    def _update(self, examples: Encoded) -> None:
        recipe, model = self.recipe, self.transcriber.model
        self._optimiser.param_groups[0]["lr"] = recipe.rate(self._step, self.steps)
        self._optimiser.zero_grad()
        with torch.random.fork_rng(devices=[]):
            torch.set_rng_state(self._random)
            loss = model.loss(examples, label_smoothing=recipe.label_smoothing)
            self._random = torch.get_rng_state()
        self._loss = loss.item()
        loss.backward()
        norm = torch.nn.utils.clip_grad_norm_(model.parameters(), recipe.clip_norm).item()
        for name, value in (("loss", self._loss), ("norm of the gradient", norm)):
            if not math.isfinite(value):
                raise FloatingPointError(
                    f"{name}: expected a finite number, got {value} at step {self._step}; "
                    "try a smaller learning rate"
                )
        self._optimiser.step()
        self._averaged.update_parameters(model)

    def _average(self, means, weights, updates):
        updates = int(updates)
        past = min(self.recipe.average, (1 + updates) / (10 + updates))
        get_ema_multi_avg_fn(past)(means, weights, updates)

    def _score(self) -> None:
        rates = self.result().score(self.data.validation)
        entry = {"step": self._step, "minutes": round(self._seconds / 60, 3)}
        self._history.append(entry | {k: round(v, 5) for k, v in rates._asdict().items()})


def score_steps(steps: int) -> list[int]:
    """When a run of so many steps scores: growing by a constant ratio, and at the last."""
    growing = (round(FIRST_SCORE * SCORE_RATIO**i) for i in count())
    return [*takewhile(lambda step: step < steps, growing), steps]


def _digest(data: Split) -> str:
    lines = (repr(tuple(pair)) for part in data for pair in part)
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()


def _differences(before: dict, now: dict, name: str = "") -> Iterator[str]:
    for key in sorted(before.keys() | now.keys()):
        old, new = before.get(key), now.get(key)
        if isinstance(old, dict) and isinstance(new, dict):
            yield from _differences(old, new, f"{name}{key}.")
        elif old != new:
            yield f"{name}{key} is {_short(old)} there, {_short(new)} now"


def _short(value: Any) -> str:
    return repr(value[:12] + "…") if isinstance(value, str) and len(value) > 30 else repr(value)
