"""Which words do the two trained pronunciation models get wrong, and what is wrong with them?

Writes the sounds of all test words greedily with the two models that come with the package, those
of the capstone of chapter 8. It counts, for each model, what kind of error a wrong word holds and
which vowels stand for which, and, for both, how many words only one of them gets right. It writes
them to ``benchmarks/results/pronunciation_errors.json``, which the chapter reads:

    OMP_NUM_THREADS=1 python benchmarks/pronunciation_errors.py

A wrong word is compared with its nearest listed pronunciation. Progress goes to stderr. With
``--every 100`` it is a quick trial. Takes about two minutes on one core.
"""

from __future__ import annotations

import argparse
import sys
from collections import Counter
from collections.abc import Sequence

import torch
from record import RESULTS, benchmark_record, write_record

from seqbook.data import pronunciations
from seqbook.data.pairs import Pair
from seqbook.models import pretrained
from seqbook.models.metrics import edit_distance

OUTPUT = RESULTS / "pronunciation_errors.json"
MODELS = {"LSTM": "pronunciations-lstm", "Transformer": "pronunciations-transformer"}
WORDS_AT_A_TIME = 500
EXAMPLES, CONFUSIONS = 3, 8

Sounds = tuple[str, ...]


def is_vowel(phoneme: str) -> bool:
    """Whether a phoneme of the dictionary is a vowel: only those begin with one."""
    return phoneme[0] in "AEIOU"


def kind_of_error(said: Sounds, right: Sounds) -> str:
    """What is wrong with a word: one sound of which kind, or several.

    Args:
        said: What the model wrote, not equal to ``right``.
        right: The nearest listed pronunciation.
    """
    if edit_distance(said, right) > 1:
        return "several sounds"
    if len(said) != len(right):
        return "one sound missing" if len(said) < len(right) else "one sound too many"
    a, b = replaced(said, right)
    if is_vowel(a) and is_vowel(b):
        return "one vowel for another"
    return "one other sound replaced"


def replaced(said: Sounds, right: Sounds) -> tuple[str, str]:
    """The first pair of sounds that differ, of two equally long pronunciations."""
    return next((a, b) for a, b in zip(said, right, strict=True) if a != b)


def errors(said: Sequence[Sounds], pairs: Sequence[Pair]) -> dict:
    """Count the wrong words by kind, with the first examples of each, and the confusions."""
    kinds: Counter[str] = Counter()
    confusions: Counter[str] = Counter()
    examples: dict[str, list[dict[str, str]]] = {}
    for found, pair in zip(said, pairs, strict=True):
        if found in pair.targets:
            continue
        near = min(pair.targets, key=lambda target: edit_distance(found, target))
        kind = kind_of_error(found, near)
        kinds[kind] += 1
        if kind == "one vowel for another":
            confusions[" for ".join(replaced(found, near))] += 1
        shown = examples.setdefault(kind, [])
        if len(shown) < EXAMPLES:
            texts = {"said": " ".join(found), "right": " ".join(near)}
            shown.append({"word": "".join(pair.source)} | texts)
    return {
        "wrong": kinds.total(),
        "kinds": dict(kinds.most_common()),
        "vowels": dict(confusions.most_common(CONFUSIONS)),
        "vowels_with_ah": sum(n for two, n in confusions.items() if "AH" in two.split()),
        "examples": examples,
    }


def main() -> None:
    """Run both models on the test words, and write the file."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--every", type=int, default=1, help="use every so many test words")
    options = parser.parse_args()
    torch.set_num_threads(1)
    pairs = pronunciations.load().test[:: options.every]
    right, found = {}, {}
    for name, stored in MODELS.items():
        model = pretrained.load(stored)
        said: list[Sounds] = []
        for start in range(0, len(pairs), WORDS_AT_A_TIME):
            sources = [pair.source for pair in pairs[start : start + WORDS_AT_A_TIME]]
            hypotheses = model.generate(sources)
            said += [model.vocabularies.decode_target(one.ids) for one in hypotheses]
            print(name, len(said), "of", len(pairs), file=sys.stderr, flush=True)
        found[name] = errors(said, pairs)
        right[name] = [one in pair.targets for one, pair in zip(said, pairs, strict=True)]
    both = list(zip(*right.values(), strict=True))
    record = benchmark_record(
        __file__,
        sys.argv[1:],
        stored_models=MODELS,
        words=len(pairs),
        vowels=sum(is_vowel(s) for pair in pairs for s in pair.targets[0]),
        phonemes=sum(len(pair.targets[0]) for pair in pairs),
        only_lstm_right=sum(lstm and not other for lstm, other in both),
        only_transformer_right=sum(other and not lstm for lstm, other in both),
        errors=found,
    )
    write_record(record, OUTPUT)


if __name__ == "__main__":
    main()
