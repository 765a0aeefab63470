"""Which encoder-decoder learns to write place names in Hangul best in the same processor time?

Trains a GRU encoder-decoder without and with attention, the Transformer, and the Transformer
without positions, with about equally many weights, from three seeds each, and writes what they
reach to ``benchmarks/results/place_names.json``, which chapter 8 draws:

    OMP_NUM_THREADS=1 python benchmarks/place_names.py

Each model gets the number of steps that fit its budget of processor time, measured beforehand, all
models in turn. Its learning rate and dropout are the best of ``GRID`` on the validation names after
a quarter of these steps. Along the way the validation names are written greedily; the weights that
wrote most of them right then write the test names, greedily and with a beam. Progress goes to
stderr. With ``--budget 5`` it is a quick trial. The whole takes some twenty minutes on one core.
"""

from __future__ import annotations

import argparse
import copy
import sys
import time
from collections.abc import Callable, Iterator
from functools import partial
from itertools import product
from pathlib import Path
from typing import Any, NamedTuple

import torch
from record import benchmark_record, write_record
from torch import Tensor, nn

from seqbook.data import place_names
from seqbook.data.batches import Encoded, Vocabularies, encode_pairs
from seqbook.data.pairs import Pair, Split
from seqbook.models.decoding import beam, greedy
from seqbook.models.metrics import ErrorRates, error_rates
from seqbook.models.modes import evaluation_mode
from seqbook.models.seq2seq import RecurrentSeq2Seq, Seq2Seq, TransformerSeq2Seq
from seqbook.training.loop import train, training_steps

OUTPUT = Path(__file__).parent / "results" / "place_names.json"
SEEDS = (0, 1, 2)
BUDGET = 60.0  # seconds of processor time for each training
GRID = {"learning_rate": (0.002, 0.004), "dropout": (0.1, 0.3)}
BATCH, SMOOTHING, WARM_UP, CLIP = 32, 0.1, 0.1, 1.0
SCORES = 12  # on the validation names along a training
BEAM, MAX_LENGTH = 4, 40
TRANSFORMER = {"d_model": 64, "heads": 4, "d_ff": 256, "encoder_layers": 2, "decoder_layers": 2}
MODELS: dict[str, tuple[type[Seq2Seq], dict[str, Any]]] = {
    "GRU": (
        RecurrentSeq2Seq,
        {"network": "GRU", "embedding_size": 64, "hidden_size": 180, "attention": False},
    ),
    "GRU + attention": (
        RecurrentSeq2Seq,
        {"network": "GRU", "embedding_size": 64, "hidden_size": 162},
    ),
    "Transformer": (TransformerSeq2Seq, TRANSFORMER),
    "without positions": (TransformerSeq2Seq, TRANSFORMER),
}


class NoPositions(nn.Module):
    """Leave a sequence as it is."""

    def forward(self, inputs: Tensor, *, start: int = 0) -> Tensor:
        """Return the inputs."""
        return inputs


class Task(NamedTuple):
    """The data: pairs, vocabularies and encoded training pairs."""

    parts: Split
    vocabularies: Vocabularies
    examples: Encoded


def make(name: str, task: Task, seed: int, dropout: float) -> Seq2Seq:
    """Draw a fresh model; its dropout draws from torch's own generator, set here too."""
    torch.manual_seed(seed)
    kind, sizes = MODELS[name]
    symbols = (len(task.vocabularies.source), len(task.vocabularies.target))
    generator = torch.Generator().manual_seed(seed)
    model = kind(*symbols, dropout=dropout, generator=generator, **sizes)
    if name == "without positions":
        model.positions = NoPositions()
    return model


def write(model: Seq2Seq, task: Task, pairs: list[Pair], decode: Callable) -> list[tuple[str, ...]]:
    """Write the names of ``pairs`` in jamo."""
    sources = task.vocabularies.encode_sources([pair.source for pair in pairs])
    with evaluation_mode(model):
        hypotheses = decode(model, *sources, max_length=MAX_LENGTH)
    return [task.vocabularies.decode_target(hypothesis.ids) for hypothesis in hypotheses]


def beamed(*arguments, **options):
    """Decode with the beam."""
    return beam(*arguments, width=BEAM, **options)


def rates(written: list[tuple[str, ...]], pairs: list[Pair]) -> dict[str, float]:
    """Error rates in words, syllables and jamo."""
    jamo = error_rates(written, pairs)
    syllables: ErrorRates = error_rates(*place_names.syllables(pairs, written))
    values = {"word": jamo.word, "syllable": syllables.symbol, "jamo": jamo.symbol}
    return {name: round(value, 4) for name, value in values.items()}


def batches(task: Task, generator: torch.Generator) -> Iterator[Encoded]:
    """Random batches without end."""
    while True:
        yield from task.examples.batches(BATCH, generator=generator)


def learn(
    model: Seq2Seq, task: Task, *, seed: int, steps: int, rate: float, every: int | None = None
) -> tuple[list[dict], dict]:
    """Train a model; score the validation names every ``every`` steps and at the end.

    Returns:
        Step, processor seconds without the scoring, and word error of each score; and the weights
        of the best.
    """
    stream = batches(task, torch.Generator().manual_seed(seed))
    curve: list[dict] = []
    best: dict[str, Tensor] = {}
    seconds = 0.0

    def schedule(step: int) -> float:
        return rate * min(1, (step + 1) / (WARM_UP * steps), (steps - step) / (0.9 * steps))

    def loss(_: int) -> Tensor:
        return model.loss(next(stream), label_smoothing=SMOOTHING)

    start = time.process_time()
    for step in training_steps(
        model.parameters(), loss, steps=steps, learning_rate=schedule, clip_norm=CLIP
    ):
        seconds += time.process_time() - start
        updates = step.number + 1
        if updates == steps or (every and updates % every == 0):
            pairs = task.parts.validation
            word = error_rates(write(model, task, pairs, greedy), pairs).word
            if word <= min((point["word"] for point in curve), default=1.0):
                best.update(copy.deepcopy(model.state_dict()))
            curve.append({"step": updates, "seconds": round(seconds, 1), "word": round(word, 4)})
        start = time.process_time()
    return curve, best


def _loss_of_next(model: Seq2Seq, stream: Iterator[Encoded], _step: int) -> Tensor:
    return model.loss(next(stream))


def steps_for(names: list[str], task: Task, budget: float, *, trials: int = 12) -> dict[str, int]:
    """How many steps of each model fit the budget, measured ten steps at a time, in turn."""
    models = {name: make(name, task, 0, 0.1) for name in names}
    used: dict[str, list[float]] = {name: [] for name in names}
    for trial, name in product(range(trials), names):
        start = time.process_time()
        stream = batches(task, torch.Generator().manual_seed(trial))
        loss = partial(_loss_of_next, models[name], stream)
        train(models[name].parameters(), loss, steps=10, learning_rate=1e-4)
        used[name].append((time.process_time() - start) / 10)
    return {name: round(budget / sorted(seconds)[trials // 2]) for name, seconds in used.items()}


def experiment(name: str, task: Task, steps: int, seeds: list[int]) -> dict:
    """Choose settings for one model, train it from every seed, and score it."""
    tried = []
    for rate, dropout in product(GRID["learning_rate"], GRID["dropout"]):
        model = make(name, task, 100, dropout)
        curve, _ = learn(model, task, seed=100, steps=max(1, steps // 4), rate=rate)
        tried.append(
            {"learning_rate": rate, "dropout": dropout, "validation_word": curve[-1]["word"]}
        )
        report(name, **tried[-1])
    chosen = min(tried, key=lambda setting: setting["validation_word"])
    runs = []
    for seed in seeds:
        model = make(name, task, seed, chosen["dropout"])
        every = max(1, -(-steps // SCORES))
        curve, best = learn(
            model, task, seed=seed, steps=steps, rate=chosen["learning_rate"], every=every
        )
        model.load_state_dict(best)
        test = {
            search: rates(write(model, task, task.parts.test, decode), task.parts.test)
            for search, decode in (("greedy", greedy), ("beam", beamed))
        }
        runs.append({"seed": seed, "seconds": curve[-1]["seconds"], "test": test, "curve": curve})
        report(name, seed=seed, seconds=curve[-1]["seconds"], **test["greedy"])
    return {
        "settings": MODELS[name][1] | {k: chosen[k] for k in ("learning_rate", "dropout")},
        "weights": sum(p.numel() for p in model.parameters()),
        "steps": steps,
        "tried": tried,
        "runs": runs,
    }


def report(name: str, **numbers: float) -> None:
    """Show progress."""
    shown = ", ".join(f"{key} {value}" for key, value in numbers.items())
    print(f"{name}: {shown}", file=sys.stderr, flush=True)


def main(arguments: list[str]) -> int:
    """Run all models, and write the file after each."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--seeds", type=int, nargs="+", default=list(SEEDS))
    parser.add_argument("--models", nargs="+", choices=MODELS, default=list(MODELS))
    parser.add_argument("--budget", type=float, default=BUDGET, help="processor seconds a training")
    parser.add_argument("--output", type=Path, default=OUTPUT)
    options = parser.parse_args(arguments)
    torch.set_num_threads(1)
    parts = place_names.load()
    vocabularies = Vocabularies.from_pairs(parts.training)
    task = Task(parts, vocabularies, encode_pairs(parts.training, vocabularies))
    steps = steps_for(options.models, task, options.budget)
    report("steps", **steps)
    models = {}
    for name in options.models:
        models[name] = experiment(name, task, steps[name], options.seeds)
        record = benchmark_record(
            __file__,
            arguments,
            seeds=options.seeds,
            names={part: len(pairs) for part, pairs in parts._asdict().items()},
            budget_seconds=options.budget,
            batch=BATCH,
            label_smoothing=SMOOTHING,
            warm_up=WARM_UP,
            beam=BEAM,
            models=models,
        )
        write_record(record, options.output)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
