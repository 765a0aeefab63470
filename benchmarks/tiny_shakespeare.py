"""Train decoder-only models on tiny Shakespeare at the CPU settings of nanoGPT's README.

Published there: 4 layers of width 128 with 4 heads, contexts of 64 characters, 12 of them in a
batch, 2,000 updates, no dropout: a validation loss of 1.88 nats a character in about 3 minutes, of
which no seed or spread is stated. The optimizer is that of its configuration for this text: AdamW
with betas 0.9 and 0.99 and a weight decay of 0.1, a warm-up of 100 updates to 0.001, then a cosine
down to 0.0001, gradients clipped to norm 1.

``"GPT-2"`` is that model, ``"Llama"`` the same with RMSNorm, rotary positions and SwiGLU at equally
many weights. The seed draws the initial weights and the order of the data. The loss is the mean
over the whole validation text, read in windows of 64 one behind the other: what the README's mean
over random windows estimates.

Usage:
    python benchmarks/tiny_shakespeare.py [--seeds 0 1 2] [--models GPT-2 Llama] [--scale 1.0]
        [--output benchmarks/results/tiny_shakespeare.json]

Progress goes to stderr. With ``--scale 0.05`` it is a quick trial.
"""

from __future__ import annotations

import argparse
import sys
from functools import partial
from pathlib import Path
from typing import Any

import torch
from record import benchmark_record, write_record
from scored import scored
from torch import Tensor

from seqbook.data import text
from seqbook.data.vocabulary import Vocabulary
from seqbook.models.decoder_only import DecoderOnlyModel, windowed_loss
from seqbook.models.metrics import bits_per_byte
from seqbook.training.fit import window_loss
from seqbook.training.loop import adamw, training_steps, warmup_cosine

OUTPUT = Path(__file__).parent / "results" / "tiny_shakespeare.json"
MODELS: dict[str, dict[str, Any]] = {
    "GPT-2": {"norm": "layer", "positions": "learned", "feed_forward": "gelu"},
    "Llama": {"norm": "rms", "positions": "rotary", "feed_forward": "swiglu"},
}
SIZES: dict[str, Any] = {"d_model": 128, "layers": 4, "heads": 4, "max_length": 64}
BATCH = 12
STEPS = 2000
EVERY = 500  # updates between two scores of the validation text
WARMUP = 100
RATES = {"learning_rate": 1e-3, "final": 1e-4}
OPTIMIZER: dict[str, Any] = {"weight_decay": 0.1, "betas": (0.9, 0.99)}
PUBLISHED = {"validation_loss": 1.88, "source": "README of nanoGPT, Andrej Karpathy, 2023"}


def run(name: str, seed: int, steps: int, parts: dict[str, Tensor], vocabulary: int) -> dict:
    """Train one model from one seed.

    Returns:
        Nats on the validation text by number of updates, and minutes of training without scoring.
    """
    generator = torch.Generator().manual_seed(seed)
    model = DecoderOnlyModel(vocabulary, **SIZES, **MODELS[name], generator=generator)
    training = training_steps(
        model.parameters(),
        window_loss(model, parts["training"], batch=BATCH, generator=generator),
        steps=steps,
        learning_rate=warmup_cosine(steps=steps, warmup=WARMUP, **RATES),
        optimizer=adamw(model, **OPTIMIZER),
    )
    scores, minutes = {}, 0.0
    validation = partial(windowed_loss, model, parts["validation"])
    for updates, loss, minutes in scored(training, validation, every=EVERY, steps=steps):
        scores[str(updates)] = round(loss, 4)
        print(
            f"{name} seed {seed}, {updates} updates: {scores[str(updates)]} nats, "
            f"{minutes:.1f} min",
            file=sys.stderr,
            flush=True,
        )
    predicted = text.load("tinyshakespeare").validation[1:]  # all but the first character
    return {
        "model": name,
        "seed": seed,
        "weights": sum(parameter.numel() for parameter in model.parameters()),
        "validation_loss": scores,
        "final_loss": scores[str(steps)],
        "bits_per_byte": round(
            bits_per_byte(scores[str(steps)], len(predicted), predicted),
            4,
        ),
        "training_minutes": round(minutes, 2),
    }


def main(arguments: list[str]) -> int:
    """Run all trainings and write the file."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--models", nargs="+", choices=MODELS, default=list(MODELS))
    parser.add_argument("--scale", type=float, default=1.0, help="factor on the number of updates")
    parser.add_argument("--output", type=Path, default=OUTPUT)
    options = parser.parse_args(arguments)
    torch.set_num_threads(1)
    corpus = text.load("tinyshakespeare")
    vocabulary = Vocabulary.from_sequence(corpus.training)
    parts = {
        name: torch.from_numpy(vocabulary.encode(getattr(corpus, name)))
        for name in ("training", "validation")
    }
    steps = max(WARMUP + 1, round(STEPS * options.scale))
    record = benchmark_record(
        __file__,
        arguments,
        settings={
            "sizes": SIZES,
            "models": {name: MODELS[name] for name in options.models},
            "batch": BATCH,
            "steps": steps,
            "warmup": WARMUP,
            "rates": RATES,
            "optimizer": OPTIMIZER,
        },
        published=PUBLISHED,
        symbols={"vocabulary": len(vocabulary)} | {k: len(ids) for k, ids in parts.items()},
        seeds=options.seeds,
        runs=[
            run(name, seed, steps, parts, len(vocabulary))
            for name in options.models
            for seed in options.seeds
        ],
    )
    write_record(record, options.output)
    print(f"wrote {options.output}", file=sys.stderr)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
