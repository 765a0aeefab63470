"""Find where the time of the capstone's training goes: into the model, or around it.

Trains the two models of chapter 8's capstone by their recipes on the full data, a few hundred steps
each, with a clock around each part of a step. The model is the forward pass with its loss, and the
backward pass. One scoring on the validation words counts by how often it happens in the recipe's
whole training. Writes ``benchmarks/results/training_step.json``, which the book's page on speed
shows:

    OMP_NUM_THREADS=1 python benchmarks/training_step.py
"""

import argparse
import json
import platform
import time
from collections import Counter
from collections.abc import Callable
from contextlib import ExitStack
from functools import wraps
from pathlib import Path
from tempfile import TemporaryDirectory
from unittest.mock import patch

import torch
from torch.optim.swa_utils import AveragedModel

from seqbook.data.pronunciations import load
from seqbook.models.seq2seq import Seq2Seq
from seqbook.training.runs import RECIPES, Run, score_steps

RESULT = Path(__file__).parent / "results" / "training_step.json"
MODELS = ("transformer", "lstm")
STEPS = 300
PARTS = {
    "forward": (Seq2Seq, "loss"),
    "backward": (torch.Tensor, "backward"),
    "clipping": (torch.nn.utils, "clip_grad_norm_"),
    "Adam": (torch.optim.Adam, "step"),
    "mean of weights": (AveragedModel, "update_parameters"),
    "scoring": (Run, "_score"),
}


def clocked(function: Callable, name: str, spent: Counter) -> Callable:
    """Add the processor time of each call to ``spent[name]``."""

    @wraps(function)
    def call(*arguments, **options):
        start = time.process_time()
        try:
            return function(*arguments, **options)
        finally:
            spent[name] += time.process_time() - start

    return call


def shares(model: str, steps: int) -> dict:
    """Train, and find the share of each part in the whole training."""
    spent: Counter = Counter()
    with TemporaryDirectory() as folder, ExitStack() as patches:
        run = Run(folder, RECIPES[model], load(), task="cmudict", target_level="words")
        run.train(stop=lambda: run.progress.step >= 20)  # warm up
        for name, (owner, function) in PARTS.items():
            timed = clocked(getattr(owner, function), name, spent)
            patches.enter_context(patch.object(owner, function, timed))
        before = run.progress
        run.train(stop=lambda: run.progress.step >= before.step + steps)
        after = run.progress
    spent["all else"] = 60 * (after.minutes - before.minutes) - sum(
        seconds for name, seconds in spent.items() if name != "scoring"
    )
    scorings = len(score_steps(run.steps))
    whole = {
        name: seconds / (len(after.history) if name == "scoring" else steps / run.steps)
        for name, seconds in spent.items()
    }
    whole["scoring"] *= scorings
    found = {name: round(seconds / sum(whole.values()), 4) for name, seconds in whole.items()}
    return {
        "model": model,
        "steps": steps,
        "of": run.steps,
        "scorings": scorings,
        "shares": {name: found[name] for name in [*PARTS, "all else"]},
    }


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
    command = "OMP_NUM_THREADS=1 python benchmarks/training_step.py"
    record = {
        "command": command + ("" if arguments.steps == STEPS else f" --steps {arguments.steps}"),
        "versions": {"python": platform.python_version(), "torch": torch.__version__},
        "threads": 1,
        "runs": runs,
    }
    arguments.result.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
