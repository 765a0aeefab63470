"""How far back can an RNN and an LSTM of equal size learn to remember?

Trains both on the adding problem at growing lengths, three seeds each, and writes what they reach
to ``benchmarks/results/memory_over_lags.json``, which chapter 5 draws:

    OMP_NUM_THREADS=1 python benchmarks/memory_over_lags.py

The LSTM is also trained without the forget bias, and the RNN also with the LSTM's learning rate.
A run stops early once its mean error over 20 batches is below 0.005. The file is written after each
run, so that a broken run leaves what it has. Takes some ten minutes on one idle core.
"""

import sys
import time
from itertools import product
from pathlib import Path
from typing import Any

import torch
from record import benchmark_record, write_record

from seqbook.data.synthetic import adding, adding_error
from seqbook.layers.lstm import LSTM
from seqbook.layers.recurrent import RecurrentLayer
from seqbook.layers.rnn import RNN
from seqbook.models.classification import LastStateReadout
from seqbook.training.loop import training_steps

RESULT = Path(__file__).parent / "results" / "memory_over_lags.json"
LENGTHS = (10, 20, 40, 80)
SEEDS = (0, 1, 2)
STEPS, BATCH, STOP_BELOW = 1500, 64, 0.005
HIDDEN = {"RNN": 66, "LSTM": 32}  # about 4,650 parameters each
NETWORKS: dict[str, dict[str, Any]] = {
    "RNN": {"layer": "RNN", "learning_rate": 0.005},
    "RNN, rate of the LSTM": {"layer": "RNN", "learning_rate": 0.02},
    "LSTM": {"layer": "LSTM", "learning_rate": 0.02, "forget_bias": 1.0},
    "LSTM, no bias": {"layer": "LSTM", "learning_rate": 0.02, "forget_bias": None},
}


def model_of(kind: str, generator: torch.Generator) -> LastStateReadout:
    """The layer with its readout, initialised from ``generator``."""
    layer: RecurrentLayer
    network = NETWORKS[kind]
    if network["layer"] == "RNN":
        layer = RNN(2, HIDDEN["RNN"], generator=generator)
    else:
        bias = network["forget_bias"]
        layer = LSTM(2, HIDDEN["LSTM"], forget_bias=bias, generator=generator)
    return LastStateReadout(layer, 1, generator=generator)


def run(kind: str, length: int, seed: int) -> dict:
    """Train one model and return what it reached."""
    generator = torch.Generator().manual_seed(seed)
    model = model_of(kind, generator)
    history = []

    def loss(_step: int) -> torch.Tensor:
        inputs, targets = adding(BATCH, length=length, generator=generator)
        return (model(inputs)[:, 0] - targets).square().mean()

    start = time.perf_counter()
    for step in training_steps(
        model.parameters(), loss, steps=STEPS, learning_rate=NETWORKS[kind]["learning_rate"]
    ):
        history.append(step.loss)
        if len(history) >= 20 and sum(history[-20:]) / 20 < STOP_BELOW:
            break
    inputs, targets = adding(4000, length=length, generator=torch.Generator().manual_seed(999))
    with torch.no_grad():
        error = (model(inputs)[:, 0] - targets).square().mean().item()
    return {
        "model": kind,
        "parameters": sum(parameter.numel() for parameter in model.parameters()),
        "length": length,
        "seed": seed,
        "steps": len(history),
        "error": round(error, 5),
        "seconds": round(time.perf_counter() - start, 1),
    }


def write(runs: list[dict]) -> None:
    """Write the results, with the settings that repeat the measurement."""
    record = benchmark_record(
        __file__,
        task="adding problem, mean squared error on 4,000 fresh sequences",
        settings={
            "batch": BATCH,
            "steps": STEPS,
            "stop_below": STOP_BELOW,
            "hidden": HIDDEN,
            "networks": NETWORKS,
        },
        no_memory=adding_error(LENGTHS[0]),
        runs=runs,
    )
    write_record(record, RESULT)


def main() -> None:
    """Run the grid."""
    runs = []
    for length, kind, seed in product(LENGTHS, NETWORKS, SEEDS):
        runs.append(run(kind, length, seed))
        print(runs[-1], file=sys.stderr, flush=True)
        write(runs)


if __name__ == "__main__":
    main()
