"""Find where the time of the capstone's training goes: into the model, or around it.

Trains the two models of chapter 8's capstone by their recipes on the full data, a few hundred steps
each, and samples which part of a step is running. The model is the forward pass with its loss, and
the backward pass. One scoring on the validation words counts by how often it happens in the
recipe's whole training. Writes ``benchmarks/results/training_step.json``, which the book's page on
speed shows:

    OMP_NUM_THREADS=1 python benchmarks/training_step.py
"""

import argparse
import inspect
import signal
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from tempfile import TemporaryDirectory
from types import FrameType
from typing import Any

import torch
from record import benchmark_record, write_record
from torch.optim.swa_utils import AveragedModel

from seqbook.data.pronunciations import load
from seqbook.models.seq2seq import Seq2Seq
from seqbook.training.recipes import RECIPES
from seqbook.training.runs import Run
from seqbook.training.scoring import score, score_steps

RESULT = Path(__file__).parent / "results" / "training_step.json"
MODELS = ("transformer", "lstm")
WARM_UP, STEPS = 20, 300
INTERVAL = 0.001  # seconds of processor time between two samples
PARTS: dict[str, Callable[..., Any]] = {
    "forward": Seq2Seq.loss,
    "backward": torch.Tensor.backward,
    "clipping": torch.nn.utils.clip_grad_norm_,
    "Adam": torch.optim.Adam.step,
    "mean of weights": AveragedModel.update_parameters,
    "scoring": score,
}


@contextmanager
def sampled() -> Iterator[dict[str, float]]:
    """Count the processor time that each of ``PARTS`` takes, and "all else", by sampling.

    A timer interrupts the program again and again. The time since the last interruption counts for
    the innermost of the parts that is running. A call into torch is interrupted at its end, so that
    it counts in full for the part that made it.
    """
    names = {inspect.unwrap(function).__code__: name for name, function in PARTS.items()}
    spent: dict[str, float] = defaultdict(float)
    last = time.process_time()

    def sample(_signal: int, frame: FrameType | None) -> None:
        nonlocal last
        now = time.process_time()
        while frame is not None and frame.f_code not in names:
            frame = frame.f_back
        spent["all else" if frame is None else names[frame.f_code]] += now - last
        last = now

    before = signal.signal(signal.SIGPROF, sample)
    signal.setitimer(signal.ITIMER_PROF, INTERVAL, INTERVAL)
    try:
        yield spent
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
        signal.signal(signal.SIGPROF, before)


def shares(model: str, steps: int) -> dict:
    """Train, and find the share of each part in the whole training."""
    with TemporaryDirectory() as folder:
        run = Run(
            folder,
            RECIPES[model],
            load(),
            task="cmudict",
            target_level="words",
            score_after=[WARM_UP + steps],  # once
        )
        consume(run, WARM_UP)
        with sampled() as spent:
            consume(run, steps)
    scorings = len(score_steps(run.steps))
    factors = {"scoring": scorings} | dict.fromkeys(
        (name for name in spent if name != "scoring"), run.steps / steps
    )
    whole = {name: seconds * factors[name] for name, seconds in spent.items()}
    fractions = {name: round(seconds / sum(whole.values()), 4) for name, seconds in whole.items()}
    return {
        "model": model,
        "steps": steps,
        "of": run.steps,
        "scorings": scorings,
        "shares": {name: fractions.get(name, 0.0) for name in [*PARTS, "all else"]},
    }


def consume(run: Run, steps: int) -> None:
    """Train for a number of steps."""
    for _ in islice(run, steps):
        pass


def main() -> None:
    """Measure both, print and save."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--steps", type=int, default=STEPS)
    parser.add_argument("--result", type=Path, default=RESULT)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    runs = [shares(model, arguments.steps) for model in MODELS]
    for run in runs:
        print(run["model"], *(f"{name} {share:.1%}" for name, share in run["shares"].items()))
    given = [] if arguments.steps == STEPS else ["--steps", str(arguments.steps)]
    write_record(benchmark_record(__file__, given, runs=runs), arguments.result)


if __name__ == "__main__":
    main()
