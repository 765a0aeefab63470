"""Undo each change since 2017 in a decoder-only model, one at a time, at equally many weights.

The full model, ``"today"``, has RMSNorm, rotary positions, SwiGLU, as many heads of keys as of
queries, and tied weights. Each variant changes one of these; ``"2019"`` undoes norm, positions and
network together. The hidden units of the feed-forward network are chosen for the number of weights
that is nearest to that of ``"today"``, whose own size is chosen for nearly as many weights as the
networks of ``train_language_models.py`` have, so that the bits can be read beside theirs: the same
text, *Alice* in characters, and the same number of updates of as many windows. A recurrent network
carries its state from window to window; these models see at most 64 characters.

The learning rate of each variant is the best of ``RATES`` on the validation text after a quarter of
the steps, from a seed that is not used again. Every score is the mean over all characters but the
first of a text. Windows start every 16 characters, so that all characters but the first 48 have at
least 48 before them.

Usage:
    python benchmarks/decoder_ablation.py [--seeds 0 1 2] [--variants today layer-norm ...]
        [--scale 1.0] [--output benchmarks/results/decoder_ablation.json]

Progress goes to stderr, and the record is written after each variant; a variant that it has already
is not repeated. With ``--scale 0.05 --output FILE`` it is a quick trial.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

import torch
from record import benchmark_record, record_so_far, write_record
from scored import scored
from torch import Tensor

from seqbook.data import text
from seqbook.data.vocabulary import Vocabulary
from seqbook.models.decoder_only import DecoderOnlyModel, windowed_loss
from seqbook.models.metrics import bits_per_byte
from seqbook.training.fit import window_loss
from seqbook.training.loop import training_steps, warmup_cosine

OUTPUT = Path(__file__).parent / "results" / "decoder_ablation.json"
SIZES: dict[str, Any] = {"d_model": 56, "layers": 2, "heads": 4, "max_length": 64}
D_FF = 132  # of "today", for 73,696 weights with 71 symbols
VARIANTS: dict[str, dict[str, Any]] = {
    "today": {},
    "layer norm": {"norm": "layer"},
    "learned positions": {"positions": "learned"},
    "sinusoids": {"positions": "sinusoidal"},
    "no positions": {"positions": "none"},
    "GELU": {"feed_forward": "gelu"},
    "2 heads of keys": {"kv_heads": 2},
    "1 head of keys": {"kv_heads": 1},
    "not tied": {"tied": False},
    "2019": {"norm": "layer", "positions": "learned", "feed_forward": "gelu"},
}
BATCH = 16
STEPS = 1400
EVERY = 140  # updates between two scores of the validation text
WARMUP = 0.1  # of the steps
RATES = (0.002, 0.004, 0.008)
CHOOSING_SEED = 100
STRIDE = 16


def make(name: str, symbols: int, d_ff: int, seed: int) -> DecoderOnlyModel:
    """Initialise one variant."""
    generator = torch.Generator().manual_seed(seed)
    return DecoderOnlyModel(symbols, d_ff=d_ff, **SIZES, **VARIANTS[name], generator=generator)


def weights(name: str, symbols: int, d_ff: int) -> int:
    """Count the weights of one variant."""
    model = DecoderOnlyModel(symbols, d_ff=d_ff, **SIZES, **VARIANTS[name], device="meta")
    return sum(parameter.numel() for parameter in model.parameters())


def hidden_units(name: str, symbols: int) -> int:
    """Find the hidden units that give nearly as many weights as ``"today"`` has."""
    one, two = (weights(name, symbols, d_ff) for d_ff in (1, 2))
    return 1 + round((weights("today", symbols, D_FF) - one) / (two - one))


def bits(model: DecoderOnlyModel, part: str, ids: Tensor) -> float:
    """Score a text in bits per byte."""
    return bits_per_byte(windowed_loss(model, ids, stride=STRIDE), len(ids) - 1, part[1:])


def train_and_validate(
    model: DecoderOnlyModel,
    parts: dict[str, tuple[str, Tensor]],
    *,
    steps: int,
    rate: float,
    seed: int,
) -> tuple[dict[int, float], float]:
    """Train; score the validation text every few steps.

    Returns:
        Bits on the validation text by number of updates, and minutes of training without scoring.
    """
    generator = torch.Generator().manual_seed(1000 + seed)
    validation, minutes = {0: bits(model, *parts["validation"])}, 0.0
    training = training_steps(
        model.parameters(),
        window_loss(model, parts["training"][1], batch=BATCH, generator=generator),
        steps=steps,
        learning_rate=warmup_cosine(rate, steps, warmup=round(WARMUP * steps)),
    )
    scores = scored(training, lambda: bits(model, *parts["validation"]), every=EVERY, steps=steps)
    for updates, found, spent in scores:
        validation[updates], minutes = found, spent
    return validation, minutes


def experiment(
    name: str, parts: dict[str, tuple[str, Tensor]], symbols: int, seeds: list[int], steps: int
) -> dict[str, Any]:
    """Choose the learning rate of one variant, then train it from every seed."""
    d_ff = hidden_units(name, symbols)
    short = {}
    for rate in RATES:
        model = make(name, symbols, d_ff, CHOOSING_SEED)
        scores, _ = train_and_validate(
            model, parts, steps=max(2, steps // 4), rate=rate, seed=CHOOSING_SEED
        )
        short[rate] = scores[max(scores)]
    rate = min(short, key=short.__getitem__)
    runs = []
    for seed in seeds:
        model = make(name, symbols, d_ff, seed)
        scores, minutes = train_and_validate(model, parts, steps=steps, rate=rate, seed=seed)
        test = bits(model, *parts["test"])
        runs.append(
            {
                "seed": seed,
                "validation_bits": {str(n): round(b, 4) for n, b in scores.items()},
                "test_bits": round(test, 4),
                "minutes": round(minutes, 2),
            }
        )
        print(
            f"{name} seed {seed}: {test:.3f} bits, {minutes:.1f} min", file=sys.stderr, flush=True
        )
    return {
        "options": VARIANTS[name],
        "d_ff": d_ff,
        "weights": weights(name, symbols, d_ff),
        "learning_rate": rate,
        "bits_after_short_run": {str(r): round(b, 4) for r, b in short.items()},
        "runs": runs,
    }


def main(arguments: list[str]) -> int:
    """Run all trainings and write the file."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--variants", nargs="+", choices=VARIANTS, default=list(VARIANTS))
    parser.add_argument("--scale", type=float, default=1.0, help="factor on the number of steps")
    parser.add_argument("--output", type=Path, default=OUTPUT)
    options = parser.parse_args(arguments)
    torch.set_num_threads(1)
    corpus = text.load("alice")
    vocabulary = Vocabulary.from_sequence(corpus.training, unknown="<unk>")
    parts = {
        name: (part, torch.from_numpy(vocabulary.encode(part)))
        for name, part in corpus._asdict().items()
    }
    steps = max(8, round(STEPS * options.scale))
    settings = {
        "text": "alice",
        "sizes": SIZES,
        "batch": BATCH,
        "steps": steps,
        "warmup": WARMUP,
        "rates_tried": RATES,
        "stride": STRIDE,
    }
    variants = record_so_far(options.output, settings).get("variants", {})
    for name in options.variants:
        if name not in variants:
            variants[name] = experiment(name, parts, len(vocabulary), options.seeds, steps)
            record = benchmark_record(
                __file__, arguments, settings=settings, seeds=options.seeds, variants=variants
            )
            write_record(record, options.output)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
