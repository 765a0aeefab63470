"""Train language models on tiny Shakespeare: published settings, equal time, and a longer time.

``published`` follows the README of nanoGPT for a CPU: 4 layers of width 128 with 4 heads, contexts
of 64 characters, 12 of them in a batch, 2,000 updates, no dropout; a validation loss of 1.88 nats a
character in about 3 minutes, of which no seed or spread is stated. ``"GPT-2"`` is that model,
``"Llama"`` the same with RMSNorm, rotary positions and SwiGLU. Both are trained from three seeds.

``equal_time`` trains recurrent networks of nearly as many weights for the minutes of the processor
that the GPT-2 needed (mean of its seeds): LSTM and GRU of one layer, which carry their state
from window to window, and minGRU in the place of the attention of the Llama. The learning rate is
the better of ``RATES`` on the validation text after a quarter of the time, from another seed.

``longer`` trains a larger model for 110 minutes of the processor, one seed each: the Llama, two
layers of LSTM, and minGRU. Here the loss is the lowest on the validation text in the training, as
in the published runs of this length.

The optimizer is that of nanoGPT's configuration for this text: AdamW with betas 0.9 and 0.99 and a
weight decay of 0.1, a warm-up of 100 updates (here a twentieth of the time) to 0.001, then a cosine
down to 0.0001, gradients clipped to norm 1. The loss is the mean over the whole validation text:
read in windows one behind the other, or by a recurrent network that carries its state in one go.

Usage:
    OMP_NUM_THREADS=1 python benchmarks/tiny_shakespeare.py published
    OMP_NUM_THREADS=1 python benchmarks/tiny_shakespeare.py equal_time
    OMP_NUM_THREADS=1 python benchmarks/tiny_shakespeare.py longer [--models LSTM]

All write to one record, after each run; a run that it has already is not repeated. Progress goes to
stderr. With ``--scale 0.05 --output FILE`` it is a quick trial.
"""

from __future__ import annotations

import argparse
import math
import statistics
import sys
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import torch
from mixers import hidden_units, model_of, weights_of
from record import benchmark_record, record_so_far, write_record
from scored import scored, scored_in_time
from torch import Tensor, nn

from seqbook.data import text
from seqbook.data.vocabulary import Vocabulary
from seqbook.layers.gru import GRU
from seqbook.layers.lstm import LSTM
from seqbook.models.decoder_only import windowed_loss
from seqbook.models.language_model import CharacterModel, bits_per_character
from seqbook.training.fit import language_model_loss, window_loss
from seqbook.training.loop import adamw, training_steps, warmup_cosine

OUTPUT = Path(__file__).parent / "results" / "tiny_shakespeare.json"
OF_2019: dict[str, Any] = {"norm": "layer", "positions": "learned", "feed_forward": "gelu"}
OPTIMIZER: dict[str, Any] = {"weight_decay": 0.1, "betas": (0.9, 0.99)}
FINAL = 0.1  # of the learning rate, at the end
STEPS = 2000  # of the published settings
WARMUP = 100  # updates
WARMUP_SHARE = 0.05  # of the time
SEEDS = (0, 1, 2)
CHOOSING_SEED = 100
RATES = (0.001, 0.003)
SIZES: dict[str, dict[str, Any]] = {
    "small": {"d_model": 128, "layers": 4, "heads": 4, "max_length": 64, "dropout": 0.0},
    "large": {"d_model": 192, "layers": 6, "heads": 6, "max_length": 256, "dropout": 0.1},
}
BATCH = {"small": 12, "large": 16}
ROWS = 32  # of text that an LSTM or GRU reads side by side
EMBEDDING = 64
MINUTES = 110.0  # of the longer time
PUBLISHED = {"validation_loss": 1.88, "source": "README of nanoGPT, Andrej Karpathy, 2023"}


class WithDropout(CharacterModel):
    """A recurrent language model with dropout after the embedding and before the readout."""

    def __init__(self, *arguments: Any, dropout: float, **options: Any):
        super().__init__(*arguments, **options)
        self.dropout = nn.Dropout(dropout)

    def forward(self, ids: Tensor, state: Any = None) -> tuple[Tensor, Any]:
        """As in ``CharacterModel``."""
        hidden, state = self.layer(self.dropout(self.embedding(ids)), state)
        return self.readout(self.dropout(hidden)), state


class Trial(NamedTuple):
    """A model, its loss for ``training_steps``, and its mean cost of a text in nats."""

    model: nn.Module
    loss: Callable[[int], Tensor]
    nats: Callable[[Tensor], float]


def trial_of(name: str, size: str, symbols: int, training: Tensor, seed: int) -> Trial:
    """Initialise a model and what draws its batches; all of one size have nearly equal weights."""
    sizes = SIZES[size]
    torch.manual_seed(seed)  # of dropout, and of what takes no generator
    generator = torch.Generator().manual_seed(seed)
    wanted = weights_of(model_of("attention", symbols, seed=seed, **sizes, **OF_2019))
    if name in ("LSTM", "GRU"):
        layers = 1 if size == "small" else 2

        def build(hidden: int) -> WithDropout:
            kind: Any = {"LSTM": partial(LSTM, forget_bias=1.0), "GRU": GRU}[name]
            layer = kind(EMBEDDING, hidden, num_layers=layers, generator=generator)
            return WithDropout(layer, symbols, dropout=sizes["dropout"], generator=generator)

        hidden = min(range(64, 641, 8), key=lambda h: abs(weights_of(build(h)) - wanted))
        generator.manual_seed(seed)
        recurrent = build(hidden)
        loss = language_model_loss(recurrent, training, batch=ROWS, window=sizes["max_length"])

        def nats(ids: Tensor) -> float:
            recurrent.eval()
            try:
                return bits_per_character(recurrent, ids) * math.log(2)
            finally:
                recurrent.train()

        return Trial(recurrent, loss, nats)
    kind = "minGRU" if name == "minGRU" else "attention"
    options = OF_2019 if name == "GPT-2" else {}

    def build_windowed(d_ff: int | None) -> nn.Module:
        return model_of(kind, symbols, seed=seed, d_ff=d_ff, **sizes, **options)

    d_ff = None
    if name != "GPT-2":
        d_ff = hidden_units(wanted, lambda units: weights_of(build_windowed(units)))
    model: Any = build_windowed(d_ff)
    loss = window_loss(model, training, batch=BATCH[size], generator=generator)
    return Trial(model, loss, partial(windowed_loss, model))


def published(name: str, seed: int, parts: dict[str, Tensor], symbols: int, scale: float):
    """Train for the published number of updates."""
    steps = max(WARMUP + 1, round(STEPS * scale))
    trial = trial_of(name, "small", symbols, parts["training"], seed)
    rate = RATES[0]
    training = training_steps(
        trial.model.parameters(),
        trial.loss,
        steps=steps,
        learning_rate=warmup_cosine(rate, steps, warmup=WARMUP, final=FINAL * rate),
        optimizer=adamw(trial.model, **OPTIMIZER),
    )
    scores = scored(
        training, partial(trial.nats, parts["validation"]), every=steps // 4, steps=steps
    )
    return _described(trial, rate, scores, name)


def for_minutes(
    name: str,
    size: str,
    seed: int,
    parts: dict[str, Tensor],
    symbols: int,
    minutes: float,
    rate: float,
    scores: int,
) -> dict[str, Any]:
    """Train for a given time of the processor."""
    trial = trial_of(name, size, symbols, parts["training"], seed)
    found = scored_in_time(
        trial.model.parameters(),
        trial.loss,
        partial(trial.nats, parts["validation"]),
        minutes=minutes,
        scores=scores,
        learning_rate=rate,
        warmup=WARMUP_SHARE,
        final=FINAL * rate,
        optimizer=adamw(trial.model, **OPTIMIZER),
    )
    return _described(trial, rate, found, name)


def _described(
    trial: Trial, rate: float, scores: Iterator[tuple[int, float, float]], name: str
) -> dict[str, Any]:
    losses: dict[str, float] = {}
    for updates, loss, minutes in scores:
        losses[str(updates)] = round(loss, 4)
        print(f"{name}: {updates} updates, {loss:.4f} nats, {minutes:.1f} min", file=sys.stderr)
        sys.stderr.flush()
    return {
        "weights": weights_of(trial.model),
        "learning_rate": rate,
        "validation_loss": losses,
        "final_loss": round(loss, 4),
        "lowest_loss": min(losses.values()),
        "training_minutes": round(minutes, 2),
    }


def runs_of(
    part: str, names: list[str], parts: dict[str, Tensor], symbols: int, scale: float, runs: list
) -> Iterator[dict[str, Any]]:
    """Yield the runs of a part that are not there yet."""

    def is_new(name: str, seed: int) -> bool:
        return all((run["part"], run["model"], run["seed"]) != (part, name, seed) for run in runs)

    def described(name: str, seed: int, run: dict[str, Any]) -> dict[str, Any]:
        return {"part": part, "model": name, "seed": seed, **run}

    if part == "published":
        for name in names:
            for seed in filter(partial(is_new, name), SEEDS):
                yield described(name, seed, published(name, seed, parts, symbols, scale))
    elif part == "equal_time":
        minutes = statistics.mean(
            run["training_minutes"]
            for run in runs
            if (run["part"], run["model"]) == ("published", "GPT-2")
        )
        for name in names:
            seeds = list(filter(partial(is_new, name), SEEDS))
            train = partial(for_minutes, name, "small", parts=parts, symbols=symbols)
            short = {}
            for rate in RATES if seeds else ():
                run = train(seed=CHOOSING_SEED, minutes=minutes / 4, rate=rate, scores=1)
                short[rate] = run["final_loss"]
            for seed in seeds:
                rate = min(short, key=short.__getitem__)
                run = train(seed=seed, minutes=minutes, rate=rate, scores=4)
                yield described(name, seed, run)
    else:
        for name in filter(lambda name: is_new(name, 0), names):
            rate = RATES[0]
            run = for_minutes(name, "large", 0, parts, symbols, MINUTES * scale, rate, scores=22)
            yield described(name, 0, run)


NAMES = {
    "published": ["GPT-2", "Llama"],
    "equal_time": ["LSTM", "GRU", "minGRU"],
    "longer": ["Llama", "LSTM", "minGRU"],
}


def main(arguments: list[str]) -> int:
    """Run one part; write the record after each run."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("part", choices=NAMES)
    parser.add_argument("--models", nargs="+", help="of the part, by default all")
    parser.add_argument("--scale", type=float, default=1.0, help="factor on updates and minutes")
    parser.add_argument("--output", type=Path, default=OUTPUT)
    options = parser.parse_args(arguments)
    torch.set_num_threads(1)
    corpus = text.load("tinyshakespeare")
    vocabulary = Vocabulary.from_sequence(corpus.training)
    parts = {
        name: torch.from_numpy(vocabulary.encode(getattr(corpus, name)))
        for name in ("training", "validation")
    }
    settings = {
        "sizes": SIZES,
        "batch": BATCH,
        "rows": ROWS,
        "steps": STEPS,
        "minutes": MINUTES,
        "warmup": {"updates": WARMUP, "share_of_time": WARMUP_SHARE},
        "rates": RATES,
        "final_rate": FINAL,
        "optimizer": OPTIMIZER,
        "scale": options.scale,
    }
    runs = record_so_far(options.output, settings).get("runs", [])
    for run in runs_of(
        options.part,
        options.models or NAMES[options.part],
        parts,
        len(vocabulary),
        options.scale,
        runs,
    ):
        # another process may have written a run of its own part
        runs[:] = [*record_so_far(options.output, settings).get("runs", []), run]
        record = benchmark_record(
            __file__,
            [options.part],
            settings=settings,
            published=PUBLISHED,
            symbols={"vocabulary": len(vocabulary)} | {k: len(ids) for k, ids in parts.items()},
            seeds=SEEDS,
            runs=runs,
        )
        write_record(record, options.output)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
