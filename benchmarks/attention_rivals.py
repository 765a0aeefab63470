"""What do more steps give an encoder-decoder without attention, and how much is a seed worth?

Chapter 7 trains for a few hundred steps in the page. This benchmark repeats both of its trainings
from three seeds: copying phrases without attention, for the chapter's steps and for five times as
many, and names of places without and with attention. It writes the error rates to
``benchmarks/results/attention_rivals.json``, which the chapter reads:

    OMP_NUM_THREADS=1 python benchmarks/attention_rivals.py

Batches, sizes and learning rates are those of the chapter. Takes about ten minutes on one core.
"""

import re
import sys
from collections.abc import Iterator, Sequence
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import torch
from record import benchmark_record, write_record

from seqbook.data import place_names, text
from seqbook.data.batches import Encoded, Vocabularies, encode_pairs
from seqbook.data.pairs import Pair
from seqbook.models.decoding import greedy
from seqbook.models.metrics import error_rates
from seqbook.models.seq2seq import RecurrentSeq2Seq
from seqbook.training.loop import train

RESULT = Path(__file__).parent / "results" / "attention_rivals.json"
SEEDS = (0, 1, 2)
COPYING = {"embedding_size": 32, "hidden_size": 96}
NAMES = {"embedding_size": 64, "hidden_size": 128}
COPYING_STEPS, NAMES_STEPS = (350, 1750), 480
LENGTHS, COUNT = (6, 8, 10, 12, 16, 20), 200
BATCH, RATE, RISE = 64, 0.01, 30


def trained(
    pairs: Sequence[Pair], vocabularies: Vocabularies, *, steps: int, seed: int, **options
) -> RecurrentSeq2Seq:
    """A GRU encoder-decoder that has learned from the pairs, as in the chapter."""
    generator = torch.Generator().manual_seed(seed)
    sizes = (len(vocabularies.source), len(vocabularies.target))
    model = RecurrentSeq2Seq(*sizes, network="GRU", generator=generator, **options)
    examples = encode_pairs(pairs, vocabularies)

    def endless() -> Iterator[Encoded]:
        while True:
            yield from examples.batches(BATCH, generator=generator)

    batches = endless()
    train(
        model.parameters(),
        lambda _: model.loss(next(batches)),
        steps=steps,
        learning_rate=lambda n: RATE * min(1, (n + 1) / RISE) * (1 - n / steps),
    )
    return model


def written(
    model: RecurrentSeq2Seq, sources: Sequence[Sequence[str]], vocabularies: Vocabularies
) -> list[tuple[str, ...]]:
    """What the model writes, always taking the most probable symbol."""
    ids, lengths = vocabularies.encode_sources(sources)
    found = greedy(model, ids, lengths, max_length=40)
    return [vocabularies.decode_target(hypothesis.ids) for hypothesis in found]


def capitals(phrase: str) -> Pair:
    """A phrase in small letters, to be written in capitals."""
    return Pair(tuple(phrase), (tuple(phrase.upper()),))


def phrases(part: str, longest: int) -> list[str]:
    """All different runs of one to four words."""
    words = re.findall(r"[a-z]+", part.lower())
    runs = (" ".join(words[i : i + n]) for i in range(len(words) - 3) for n in (1, 2, 3, 4))
    return [run for run in dict.fromkeys(runs) if len(run) <= longest]


def damaged(unread: list[str]) -> dict[str, list[str]]:
    """New phrases of each length, and eight symbols of each kind of damage."""
    rng = np.random.default_rng(1)

    def some(length: int) -> list[str]:
        fitting = [phrase for phrase in unread if len(phrase) == length]
        return [str(phrase) for phrase in rng.permutation(fitting)[:COUNT]]

    shown = {str(length): some(length) for length in LENGTHS}
    eleven = some(11)
    shown["trimmed"] = [phrase[:8] for phrase in eleven]
    kept = [np.sort(rng.permutation(11)[3:]) for _ in eleven]
    shown["with gaps"] = ["".join(p[i] for i in k) for p, k in zip(eleven, kept, strict=True)]
    shown["permuted"] = ["".join(rng.permutation(list(phrase))) for phrase in shown["8"]]
    return shown


def copying(write) -> None:
    """Train without attention on phrases, and score every length and kind of damage."""
    alice = text.load("alice")
    read = phrases(alice.training, longest=12)
    known = set(read)
    shown = damaged([p for p in phrases(alice.test, longest=20) if p not in known])
    pairs = [capitals(phrase) for phrase in read]
    vocabularies = Vocabularies.from_pairs(pairs)
    for steps, seed in product(COPYING_STEPS, SEEDS):
        model = trained(pairs, vocabularies, steps=steps, seed=seed, attention=False, **COPYING)
        rates = {}
        for name, sources in shown.items():
            found = error_rates(written(model, sources, vocabularies), [*map(capitals, sources)])
            rates[name] = {"phrase": round(found.word, 4), "symbol": round(found.symbol, 4)}
        write({"task": "copying", "steps": steps, "seed": seed, "errors": rates})


def spelling(write) -> None:
    """Train on names of places without and with attention."""
    names = place_names.load()
    jamo = Vocabularies.from_pairs(names.training)
    sources = [pair.source for pair in names.test]
    for seed, attention in product(SEEDS, (False, True)):
        model = trained(
            names.training, jamo, steps=NAMES_STEPS, seed=seed, attention=attention, **NAMES
        )
        spelt = written(model, sources, jamo)
        syllable = error_rates(*place_names.syllables(names.test, spelt)).symbol
        rates = {
            "name": round(error_rates(spelt, names.test).word, 4),
            "syllable": round(syllable, 4),
        }
        run = {"task": "names", "attention": attention, "steps": NAMES_STEPS, "seed": seed}
        write(run | {"errors": rates})


def main() -> None:
    """Run everything, and write the file after each training."""
    torch.set_num_threads(1)
    runs: list[dict] = []

    def write(run: dict) -> None:
        runs.append(run)
        print(run, file=sys.stderr, flush=True)
        settings: dict[str, Any] = {"batch": BATCH, "learning_rate": RATE, "rising_steps": RISE}
        settings |= {"copying": COPYING, "names": NAMES, "phrases_of_each_kind": COUNT}
        write_record(benchmark_record(__file__, settings=settings, runs=runs), RESULT)

    copying(write)
    spelling(write)


if __name__ == "__main__":
    main()
