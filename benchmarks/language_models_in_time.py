"""Train language models of nearly equally many weights, each for the same time on one core.

``train_language_models.py`` gives every network the same number of updates. Here every network gets
the same minutes of the processor, so that one whose update is cheap makes more of them. Networks:
RNN, LSTM and GRU as there; decoder-only models of the parts of 2019 and of today; and models of
today's parts in which a layer of chapter 10 stands in the place of attention. All have nearly as
many weights as the GRU there, and read the same texts in as many windows of the same length.

The three recurrent networks carry their state from window to window, in training and in scoring.
The others see one window at a time; scored, a symbol has at least three quarters of a window
before it. The learning rate of each network is the better of ``RATES`` on the validation text after
a quarter of the time, from a seed that is not used again; it warms up in the first twentieth of the
time and falls along a cosine. The test text is scored once, at the end.

Beside the networks stand the n-gram model whose order is best on the validation text, the same
model when it goes on counting while it reads the test text, and bzip2 primed with the training
text. Every score is in bits per byte of the test text without its first character.

Usage:
    OMP_NUM_THREADS=1 python benchmarks/language_models_in_time.py

Progress goes to stderr, and the record is written after each network; a run that it has already is
not repeated. With ``--scale 0.05 --output FILE`` it is a quick trial.
"""

from __future__ import annotations

import argparse
import bz2
import sys
import unicodedata
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from mixers import KINDS, hidden_units, model_of, weights_of
from record import benchmark_record, record_so_far, write_record
from scored import scored_in_time
from torch import nn
from train_language_models import NETWORKS, ORDERS, SETTINGS, hidden_sizes, make
from train_language_models import weights as weights_of_recurrent

from seqbook.data import text
from seqbook.data.vocabulary import Vocabulary
from seqbook.models.decoder_only import windowed_loss
from seqbook.models.language_model import bits_per_character
from seqbook.models.metrics import bits_per_byte
from seqbook.statistics.markov import WittenBellMarkov, adaptive_bits, bits_per_symbol
from seqbook.training.fit import language_model_loss, window_loss

OUTPUT = Path(__file__).parent / "results" / "language_models_in_time.json"
SEEDS = (0, 1, 2)
CHOOSING_SEED = 100
RATES = (0.003, 0.01)
WARMUP = 0.05  # of the time
MINUTES = {"alice": 2.5, "constitution_ko": 1.0}
SCORES = 5
OF_2019: dict[str, Any] = {"norm": "layer", "positions": "learned", "feed_forward": "gelu"}
D_MODEL = {"alice": 56, "constitution_ko": 48}
LAYERS = 2
HEADS = 4


class Parts(NamedTuple):
    """The three parts of a text as ids."""

    training: torch.Tensor
    validation: torch.Tensor
    test: torch.Tensor


class Trial(NamedTuple):
    """A model with what is needed to train and to score it.

    Attributes:
        model: The model.
        loss: For ``training_steps``.
        nats: The mean cost of ids in nats, all but the first.
    """

    model: nn.Module
    loss: Callable[[int], torch.Tensor]
    nats: Callable[[torch.Tensor], float]


def recurrent(name: str, corpus: str, symbols: int, parts: Parts, seed: int) -> Trial:
    """An RNN, LSTM or GRU as in ``train_language_models.py``."""
    settings = SETTINGS[corpus]
    sizes = hidden_sizes(weights_of_recurrent("GRU", settings.hidden, symbols), symbols)
    model = make(name, sizes[name], symbols, seed)
    loss = language_model_loss(model, parts.training, batch=settings.batch, window=settings.window)
    return Trial(model, loss, lambda ids: bits_per_character(model, ids) * float(np.log(2)))


def windowed(name: str, corpus: str, symbols: int, parts: Parts, seed: int) -> Trial:
    """A model that reads windows."""
    settings = SETTINGS[corpus]
    sizes: dict[str, Any] = {
        "d_model": D_MODEL[corpus],
        "layers": LAYERS,
        "heads": HEADS,
        "max_length": settings.window,
    }
    kind = "attention" if name.startswith("attention") else name
    if name == "attention, 2019":
        sizes |= OF_2019
    build = partial(model_of, kind, symbols, seed=seed, **sizes)
    wanted = weights_of_recurrent("GRU", settings.hidden, symbols)
    model = build(d_ff=hidden_units(wanted, lambda d_ff: weights_of(build(d_ff=d_ff))))
    generator = torch.Generator().manual_seed(1000 + seed)
    loss = window_loss(model, parts.training, batch=settings.batch, generator=generator)
    return Trial(model, loss, partial(windowed_loss, model, stride=settings.window // 4))


TRIALS: dict[str, Callable[..., Trial]] = (
    dict.fromkeys(NETWORKS, recurrent)
    | dict.fromkeys(("attention, 2019", "attention"), windowed)
    | {kind: windowed for kind in KINDS if kind != "attention"}
)


def train(
    name: str, corpus: str, symbols: int, parts: Parts, *, seed: int, rate: float, minutes: float
) -> tuple[Trial, dict[str, float]]:
    """Train one network; return it, and nats on the validation text by number of updates."""
    trial = TRIALS[name](name, corpus, symbols, parts, seed)
    scores = {}
    for updates, nats, _ in scored_in_time(
        trial.model.parameters(),
        trial.loss,
        lambda: trial.nats(parts.validation),
        minutes=minutes,
        scores=SCORES,
        learning_rate=rate,
        warmup=WARMUP,
    ):
        scores[str(updates)] = nats
    return trial, scores


def runs_of(
    name: str, corpus: str, symbols: int, parts: Parts, texts: dict[str, str], minutes: float
) -> list[dict[str, Any]]:
    """Choose the rate of one network, then train it from every seed."""
    ends = {}
    for rate in RATES:
        _, scores = train(
            name, corpus, symbols, parts, seed=CHOOSING_SEED, rate=rate, minutes=minutes / 4
        )
        ends[rate] = list(scores.values())[-1]
    rate = min(ends, key=ends.__getitem__)
    runs = []
    for seed in SEEDS:
        trial, scores = train(name, corpus, symbols, parts, seed=seed, rate=rate, minutes=minutes)

        def bits(nats: float, part: str) -> float:
            return round(bits_per_byte(nats, len(getattr(parts, part)) - 1, texts[part]), 4)

        runs.append(
            {
                "text": corpus,
                "model": name,
                "seed": seed,
                "weights": weights_of(trial.model),
                "learning_rate": rate,
                "validation_bits": {n: bits(nats, "validation") for n, nats in scores.items()},
                "test_bits": bits(trial.nats(parts.test), "test"),
            }
        )
        print(runs[-1], file=sys.stderr, flush=True)
    return runs


def without_network(symbols: int, parts: Parts, texts: dict[str, str]) -> dict[str, Any]:
    """Score what is not trained by gradients, in bits per byte of the test text."""
    ids = {name: part.numpy() for name, part in parts._asdict().items()}
    models = {k: WittenBellMarkov(k, symbols).fit(ids["training"]) for k in ORDERS}
    order = min(ORDERS, key=lambda k: bits_per_symbol(models[k], ids["validation"], skip=1))

    def bits(per_symbol: float) -> float:
        nats = per_symbol * float(np.log(2))
        return round(bits_per_byte(nats, len(ids["test"]) - 1, texts["test"]), 4)

    adaptive = {
        k: adaptive_bits(models[k], ids["validation"], skip=1)  # does not change the model
        for k in ORDERS
    }
    best = min(ORDERS, key=adaptive.__getitem__)
    training, test = (
        unicodedata.normalize("NFC", part).encode()
        for part in (texts["whole training"], texts["whole test"])
    )
    added = len(bz2.compress(training + test)) - len(bz2.compress(training))
    return {
        "n-gram": {
            "order": order,
            "test_bits": bits(bits_per_symbol(models[order], ids["test"], skip=1)),
        },
        "n-gram, adaptive": {
            "order": best,
            "test_bits": bits(adaptive_bits(models[best], ids["test"], skip=1)),
        },
        "bzip2": {"test_bits": round(8 * added / len(test), 4)},
    }


def main(arguments: list[str]) -> int:
    """Run all trainings; write the record after each network."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--texts", nargs="+", choices=MINUTES, default=list(MINUTES))
    parser.add_argument("--scale", type=float, default=1.0, help="factor on the minutes")
    parser.add_argument("--output", type=Path, default=OUTPUT)
    options = parser.parse_args(arguments)
    torch.set_num_threads(1)
    settings: dict[str, Any] = {
        "minutes": {name: minutes * options.scale for name, minutes in MINUTES.items()},
        "rates_tried": RATES,
        "warmup": WARMUP,
        "windows": {
            name: {"batch": SETTINGS[name].batch, "length": SETTINGS[name].window}
            for name in MINUTES
        },
    }
    runs = record_so_far(options.output, settings).get("runs", [])
    baselines = {}
    for corpus in options.texts:
        whole = text.load(corpus)._asdict()
        written = {
            name: unicodedata.normalize(SETTINGS[corpus].form, part) for name, part in whole.items()
        }
        vocabulary = Vocabulary.from_sequence(written["training"], unknown="<unk>")
        parts = Parts(*(torch.from_numpy(vocabulary.encode(part)) for part in written.values()))
        # what is scored: all but the first symbol, as it is stored
        texts = {name: unicodedata.normalize("NFC", part[1:]) for name, part in written.items()} | {
            "whole training": whole["training"],
            "whole test": whole["test"],
        }
        symbols = len(vocabulary)
        baselines[corpus] = without_network(symbols, parts, texts)
        print(corpus, baselines[corpus], file=sys.stderr, flush=True)
        for name in TRIALS:
            if any((run["text"], run["model"]) == (corpus, name) for run in runs):
                continue
            runs += runs_of(name, corpus, symbols, parts, texts, settings["minutes"][corpus])
            write_record(
                benchmark_record(
                    __file__, settings=settings, seeds=SEEDS, baselines=baselines, runs=runs
                ),
                options.output,
            )
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
