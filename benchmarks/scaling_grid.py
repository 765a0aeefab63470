"""Train decoder-only models of several sizes for several lengths of training on tiny Shakespeare.

The models have today's parts, four sizes from 6,000 to 800,000 weights in the layers, and read
windows of 64 characters, 16 at a time. Every number of updates is a training of its own, whose
learning rate warms up in the first twentieth and falls along a cosine to a tenth. The largest
learning rate of each size is the best of ``RATES`` on the validation text after ``CHOOSING_STEPS``
updates from a seed that is not used again. The loss is the mean over the whole validation text,
read in windows one behind the other. Chapter 9 fits a curve to the grid.

Usage:
    OMP_NUM_THREADS=1 python benchmarks/scaling_grid.py

Progress goes to stderr, and the record is written after each run; a run that it has already is not
repeated. With ``--scale 0.05 --output FILE`` it is a quick trial.
"""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path
from typing import Any

import torch
from mixers import weights_of
from record import benchmark_record, record_so_far, write_record
from torch import Tensor

from seqbook.data import text
from seqbook.data.vocabulary import Vocabulary
from seqbook.models.decoder_only import DecoderOnlyModel, windowed_loss
from seqbook.training.fit import window_loss
from seqbook.training.loop import adamw, training_steps, warmup_cosine

OUTPUT = Path(__file__).parent / "results" / "scaling_grid.json"
SIZES = {16: 2, 32: 2, 64: 3, 128: 4}  # width, and number of layers
HEADS = 4
LENGTH = 64
BATCH = 16
STEPS = (250, 500, 1000, 2000, 4000)
RATES = (0.001, 0.003, 0.01)
CHOOSING_STEPS = 500
CHOOSING_SEED = 100
SEEDS = (0, 1, 2)
WARMUP = 0.05
FINAL = 0.1
WEIGHT_DECAY = 0.1


def run(
    width: int, steps: int, rate: float, seed: int, parts: dict[str, Tensor], symbols: int
) -> dict[str, Any]:
    """Train one model."""
    generator = torch.Generator().manual_seed(seed)
    model = DecoderOnlyModel(
        symbols,
        width,
        layers=SIZES[width],
        heads=HEADS,
        max_length=LENGTH,
        generator=generator,
    )
    start = time.process_time()
    training_loss = train(model, steps, rate, parts["training"], generator)
    minutes = (time.process_time() - start) / 60
    return {
        "width": width,
        "layers": SIZES[width],
        "weights": weights_of(model),
        "weights_in_layers": sum(weights_of(layer) for layer in model.layers),
        "updates": steps,
        "characters": steps * BATCH * LENGTH,
        "learning_rate": rate,
        "seed": seed,
        "training_loss": round(training_loss, 4),
        "validation_loss": round(windowed_loss(model, parts["validation"]), 4),
        "minutes": round(minutes, 2),
    }


def train(
    model: DecoderOnlyModel, steps: int, rate: float, ids: Tensor, generator: torch.Generator
) -> float:
    """Train; return the mean loss of the last tenth of the updates."""
    training = training_steps(
        model.parameters(),
        window_loss(model, ids, batch=BATCH, generator=generator),
        steps=steps,
        learning_rate=warmup_cosine(rate, steps, warmup=round(WARMUP * steps), final=FINAL * rate),
        optimizer=adamw(model, weight_decay=WEIGHT_DECAY, betas=(0.9, 0.99)),
    )
    last = [step.loss for step in training][-max(1, steps // 10) :]
    return sum(last) / len(last)


def main(arguments: list[str]) -> int:
    """Run all trainings that the record lacks; write it after each."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--scale", type=float, default=1.0, help="factor on the updates")
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
        "sizes": [{"width": width, "layers": layers} for width, layers in SIZES.items()],
        "heads": HEADS,
        "length": LENGTH,
        "batch": BATCH,
        "steps": [max(20, round(steps * options.scale)) for steps in STEPS],
        "rates_tried": RATES,
        "choosing_steps": max(20, round(CHOOSING_STEPS * options.scale)),
        "warmup": WARMUP,
        "weight_decay": WEIGHT_DECAY,
    }
    runs = record_so_far(options.output, settings).get("runs", [])

    def finished(run: dict[str, Any]) -> None:
        print(run, file=sys.stderr, flush=True)
        runs.append(run)
        record = benchmark_record(__file__, settings=settings, seeds=SEEDS, runs=runs)
        write_record(record, options.output)

    for width in SIZES:
        for rate in RATES:
            if not _has(runs, width, settings["choosing_steps"], CHOOSING_SEED, rate):
                steps = settings["choosing_steps"]
                finished(run(width, steps, rate, CHOOSING_SEED, parts, len(vocabulary)))
        chosen = [r for r in runs if (r["width"], r["seed"]) == (width, CHOOSING_SEED)]
        rate = min(chosen, key=lambda r: r["validation_loss"])["learning_rate"]
        for seed in SEEDS:
            for steps in settings["steps"]:
                if not _has(runs, width, steps, seed, rate):
                    finished(run(width, steps, rate, seed, parts, len(vocabulary)))
    return 0


def _has(runs: list[dict[str, Any]], width: int, steps: int, seed: int, rate: float) -> bool:
    names = ("width", "updates", "seed", "learning_rate")
    return any(tuple(run[name] for name in names) == (width, steps, seed, rate) for run in runs)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
