"""Handwritten digits read row by row and pixel by pixel, by an RNN and an LSTM of equal size.

A third reading has as many steps as there are pixels and shows whole rows: seven blank steps, then
a row, at the step at which its last pixel would be read. Three seeds each; writes
``benchmarks/results/digits_by_pixel.json``, which chapter 5 shows:

    OMP_NUM_THREADS=1 python benchmarks/digits_by_pixel.py

Takes some four minutes on one idle core.
"""

import sys
import time
from itertools import product
from pathlib import Path

import numpy as np
import torch
from record import benchmark_record, write_record

from seqbook.data import digits
from seqbook.layers.lstm import LSTM
from seqbook.layers.recurrent import RecurrentLayer
from seqbook.layers.rnn import RNN
from seqbook.models.classification import SequenceClassifier, accuracy, pad
from seqbook.training.fit import fit_classifier

RESULT = Path(__file__).parent / "results" / "digits_by_pixel.json"
READINGS = {"rows": (8, 8), "rows with pauses": (64, 8), "pixels": (64, 1)}  # steps, features
SEEDS = (0, 1, 2)
STEPS, BATCH = 600, 50
HIDDEN = {"RNN": 66, "LSTM": 32}
LEARNING_RATE = {"RNN": 0.003, "LSTM": 0.01}
FORGET_BIAS = 1.0


def sequences(images: np.ndarray, reading: str) -> list[np.ndarray]:
    """Each image as a sequence ``(steps, features)``."""
    steps, features = READINGS[reading]
    if reading != "rows with pauses":
        return list(images.reshape(-1, steps, features))
    paused = np.zeros((len(images), steps, features), dtype=images.dtype)
    paused[:, 7::8] = images
    return list(paused)


def run(reading: str, kind: str, seed: int) -> dict:
    """Train one classifier and return its accuracy on the test images."""
    training, test = (pad(sequences(part.images, reading), part.labels) for part in digits.load())
    generator = torch.Generator().manual_seed(seed)
    features = READINGS[reading][1]
    layer: RecurrentLayer
    if kind == "RNN":
        layer = RNN(features, HIDDEN[kind], generator=generator)
    else:
        layer = LSTM(features, HIDDEN[kind], forget_bias=FORGET_BIAS, generator=generator)
    model = SequenceClassifier(layer, 10, generator=generator)
    start = time.perf_counter()
    fit_classifier(
        model,
        training,
        steps=STEPS,
        learning_rate=LEARNING_RATE[kind],
        batch=BATCH,
        generator=generator,
    )
    return {
        "reading": reading,
        "model": kind,
        "parameters": sum(parameter.numel() for parameter in model.parameters()),
        "seed": seed,
        "accuracy": round(accuracy(model, test), 4),
        "seconds": round(time.perf_counter() - start, 1),
    }


def write(runs: list[dict]) -> None:
    """Write the results, with the settings that repeat the measurement."""
    settings = {
        "batch": BATCH,
        "steps": STEPS,
        "hidden": HIDDEN,
        "learning_rate": LEARNING_RATE,
        "forget_bias": FORGET_BIAS,
    }
    task = "accuracy on the 597 test images"
    write_record(benchmark_record(__file__, task=task, settings=settings, runs=runs), RESULT)


def main() -> None:
    """Run the grid, writing after each run."""
    runs = []
    for reading, kind, seed in product(READINGS, HIDDEN, SEEDS):
        runs.append(run(reading, kind, seed))
        print(runs[-1], file=sys.stderr, flush=True)
        write(runs)


if __name__ == "__main__":
    main()
