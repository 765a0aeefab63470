"""Train RNN, LSTM and GRU language models with equally many weights, and record how well they do.

The texts are *Alice*, in characters, and the Korean constitution, in jamo. Every network gets the
same number of steps, windows and weights (see ``SETTINGS``); its learning rate is the best of
``RATES`` on the validation text after a quarter of the steps. The model that is scored on the test
text is the one that was best on the validation text along the way. Beside the networks stand the
n-gram model of ``seqbook.statistics.markov``, its order chosen on the validation text, and bzip2
primed with the training text. Chapter "Gated recurrent unit" draws the results.

Usage:
    python benchmarks/train_language_models.py [--seeds 0 1 2] [--texts alice constitution_ko]
        [--scale 1.0] [--output benchmarks/results/language_models.json]

Progress goes to stderr. With ``--scale 0.05`` it is a quick trial.
"""

from __future__ import annotations

import argparse
import bz2
import copy
import sys
import time
import unicodedata
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
import torch
from record import benchmark_record, write_record
from torch import Tensor

from seqbook.data import text
from seqbook.data.vocabulary import Vocabulary
from seqbook.layers.gru import GRU
from seqbook.layers.lstm import LSTM
from seqbook.layers.rnn import RNN
from seqbook.models.language_model import CharacterModel, bits_per_character, generate
from seqbook.statistics.markov import WittenBellMarkov, bits_per_symbol
from seqbook.training.fit import language_model_loss
from seqbook.training.loop import training_steps

OUTPUT = Path(__file__).parent / "results" / "language_models.json"
NETWORKS = {"RNN": RNN, "LSTM": LSTM, "GRU": GRU}
OPTIONS: dict[str, dict[str, Any]] = {"RNN": {}, "LSTM": {"forget_bias": 1.0}, "GRU": {}}
RATES = (0.003, 0.01)
EMBEDDING = 32
SKIP = 8  # symbols of the test text that are context only, the same for every model
ORDERS = range(2, 8)
TEMPERATURES = (0.5, 0.8, 1.0, 1.3)


class Settings(NamedTuple):
    """How a text is read and for how long.

    Attributes:
        form: Unicode normal form: NFC for composed characters, NFD to take Hangul apart into jamo.
        hidden: Hidden units of the GRU; the others get the size with the nearest weight count.
        batch: Rows of text that are read side by side.
        window: Symbols through which the gradient goes back.
        steps: Number of updates.
        every: Steps between two scores on the validation text.
        prompt: The start of the samples.
    """

    form: Literal["NFC", "NFD"]
    hidden: int
    batch: int
    window: int
    steps: int
    every: int
    prompt: str


SETTINGS = {
    "alice": Settings("NFC", 128, 16, 64, 1400, 140, "Alice "),
    "constitution_ko": Settings("NFD", 96, 8, 48, 700, 70, "대통령은 "),
}


class Encoded(NamedTuple):
    """The three parts of a text as ids, and the symbols they stand for."""

    vocabulary: Vocabulary
    training: np.ndarray
    validation: np.ndarray
    test: np.ndarray


def encode(name: str) -> tuple[Encoded, tuple[str, str, str]]:
    """Load a text and number its symbols; those of the training part are the vocabulary."""
    form = SETTINGS[name].form
    training, validation, test = (unicodedata.normalize(form, part) for part in text.load(name))
    vocabulary = Vocabulary.from_sequence(training, unknown="<unk>")
    parts = training, validation, test
    return Encoded(vocabulary, *(vocabulary.encode(part) for part in parts)), parts


def make(network: str, hidden: int, symbols: int, seed: int) -> CharacterModel:
    """Initialise a model."""
    generator = torch.Generator().manual_seed(seed)
    layer = NETWORKS[network](EMBEDDING, hidden, generator=generator, **OPTIONS[network])
    return CharacterModel(layer, symbols, generator=generator)


def weights(network: str, hidden: int, symbols: int) -> int:
    """Count a model's weights."""
    return sum(p.numel() for p in make(network, hidden, symbols, 0).parameters())


def hidden_sizes(budget: int, symbols: int) -> dict[str, int]:
    """Find the hidden size of each network whose weight count is nearest to ``budget``."""
    return {
        network: min(
            range(8, 512), key=lambda hidden: abs(weights(network, hidden, symbols) - budget)
        )
        for network in NETWORKS
    }


def train_and_validate(
    model: CharacterModel, data: Encoded, *, settings: Settings, steps: int, rate: float
) -> tuple[dict[int, float], float, float]:
    """Train; score the validation text every few steps, and the test text with the best model.

    The model is left as it was when it was best.

    Returns:
        Bits on the validation text by number of updates, bits on the test text, minutes.
    """
    validation: dict[int, float] = {}
    best: dict[str, Tensor] = {}

    def score(updates: int) -> None:
        bits = bits_per_character(model, data.validation, skip=SKIP)
        if bits < min(validation.values(), default=np.inf):
            best.update(copy.deepcopy(model.state_dict()))
        validation[updates] = bits

    loss = language_model_loss(model, data.training, batch=settings.batch, window=settings.window)
    start = time.monotonic()
    score(0)
    for step in training_steps(
        model.parameters(),
        loss,
        steps=steps,
        learning_rate=lambda step: rate * (1 - step / steps),
    ):
        updates = step.number + 1
        if updates % settings.every == 0 or updates == steps:
            score(updates)
    minutes = (time.monotonic() - start) / 60
    model.load_state_dict(best)
    return validation, bits_per_character(model, data.test, skip=SKIP), minutes


def baselines(data: Encoded, parts: tuple[str, str, str]) -> dict:
    """Score the n-gram model and bzip2 on the test text."""
    models = {k: WittenBellMarkov(k, len(data.vocabulary)).fit(data.training) for k in ORDERS}
    order = min(ORDERS, key=lambda k: bits_per_symbol(models[k], data.validation, skip=SKIP))
    primed = len(bz2.compress((parts[0] + parts[2]).encode()))
    added = primed - len(bz2.compress(parts[0].encode()))
    return {
        "n-gram": {
            "order": order,
            "test_bits": bits_per_symbol(models[order], data.test, skip=SKIP),
        },
        "bzip2": {"test_bits": 8 * added / len(parts[2])},
    }


def samples(model: CharacterModel, data: Encoded, settings: Settings, seed: int) -> list[dict]:
    """Generate text at several temperatures."""
    ids = data.vocabulary.encode(unicodedata.normalize(settings.form, settings.prompt))
    written = []
    for temperature in TEMPERATURES:
        generator = torch.Generator().manual_seed(seed)
        generated = generate(model, 240, prompt=ids, generator=generator, temperature=temperature)
        sample = settings.prompt + "".join(data.vocabulary.decode(generated))
        written.append(
            {
                "temperature": temperature,
                "seed": seed,
                "text": unicodedata.normalize("NFC", sample),
            }
        )
    return written


def experiment(name: str, seeds: list[int], scale: float) -> dict:
    """Train every network on one text from every seed."""
    settings = SETTINGS[name]
    steps = max(settings.every, round(settings.steps * scale))
    data, parts = encode(name)
    symbols = len(data.vocabulary)
    sizes = hidden_sizes(weights("GRU", settings.hidden, symbols), symbols)
    networks = {}
    for network, hidden in sizes.items():
        short = {}
        for rate in RATES:
            model = make(network, hidden, symbols, seed=100)
            scores, _, _ = train_and_validate(
                model, data, settings=settings, steps=max(1, steps // 4), rate=rate
            )
            short[rate] = min(scores.values())
        rate = min(short, key=short.__getitem__)
        runs = []
        for seed in seeds:
            model = make(network, hidden, symbols, seed)
            scores, test_bits, minutes = train_and_validate(
                model, data, settings=settings, steps=steps, rate=rate
            )
            runs.append(
                {
                    "seed": seed,
                    "validation_bits": {str(step): round(b, 4) for step, b in scores.items()},
                    "best_step": min(scores, key=scores.__getitem__),
                    "test_bits": round(test_bits, 4),
                    "minutes": round(minutes, 2),
                }
            )
            print(
                f"{name} {network} seed {seed}: {test_bits:.3f} bits, {minutes:.1f} min",
                file=sys.stderr,
                flush=True,
            )
            if network == "GRU" and seed == seeds[0]:
                written = samples(model, data, settings, seed)
        networks[network] = {
            "hidden": hidden,
            "weights": weights(network, hidden, symbols),
            "learning_rate": rate,
            "bits_after_short_run": {str(r): round(b, 4) for r, b in short.items()},
            "runs": runs,
        }
    return {
        "settings": settings._asdict() | {"steps": steps},
        "symbols": {"vocabulary": symbols, "training": len(data.training), "test": len(data.test)},
        "symbols_per_character": len(parts[2]) / len(unicodedata.normalize("NFC", parts[2])),
        "networks": networks,
        "baselines": baselines(data, parts),
        "samples": {"network": "GRU", "written": written},
    }


def main(arguments: list[str]) -> int:
    """Run the experiments and write the file."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--texts", nargs="+", choices=SETTINGS, default=list(SETTINGS))
    parser.add_argument("--scale", type=float, default=1.0, help="factor on the number of steps")
    parser.add_argument("--output", type=Path, default=OUTPUT)
    options = parser.parse_args(arguments)
    torch.set_num_threads(1)
    record = benchmark_record(
        __file__,
        arguments,
        seeds=options.seeds,
        embedding=EMBEDDING,
        rates_tried=RATES,
        skip=SKIP,
        texts={name: experiment(name, options.seeds, options.scale) for name in options.texts},
    )
    write_record(record, options.output)
    print(f"wrote {options.output}", file=sys.stderr)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
