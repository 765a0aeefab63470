"""Find where the time of the capstone's training goes: into the model, or around it.

Trains the two models of chapter 8's capstone by their recipes on the full data, a few hundred steps
each, under Python's profiler, which makes what is around the model look rather larger than it is.
The model is the forward pass with its loss, and the backward pass. One scoring on the validation
words counts by how often it happens in the recipe's whole training. Writes
``benchmarks/results/training_step.json``, which the book's page on speed shows:

    OMP_NUM_THREADS=1 python benchmarks/training_step.py
"""

import argparse
import cProfile
import json
import platform
import pstats
import time
from pathlib import Path
from tempfile import TemporaryDirectory

import torch

from seqbook.data.pronunciations import load
from seqbook.runs import RECIPES, Run, score_steps

RESULT = Path(__file__).parent / "results" / "training_step.json"
MODELS = ("transformer", "lstm")
STEPS = 300
# What is around the model, by the file and function that do it.
AROUND = {
    "batches": ("runs.py", "_batches"),
    "clipping": ("clip_grad.py", "clip_grad_norm_"),
    "Adam": ("optimizer.py", "wrapper"),
    "mean of weights": ("swa_utils.py", "update_parameters"),
}
MODEL = (("seq2seq.py", "loss"), ("_tensor.py", "backward"))
SCORING = ("runs.py", "_score")


def profiled(model: str, steps: int) -> dict:
    """Train and find the share of each part."""
    recipe = RECIPES[model]
    with TemporaryDirectory() as folder:
        run = Run(folder, recipe, load(), task="cmudict", target_units="words")
        run.train(stop=lambda: run.progress.step >= 20)  # warm up
        profiler = cProfile.Profile(time.process_time)
        profiler.runcall(run.train, stop=lambda: run.progress.step >= 20 + steps)
        scored = len(run.progress.history)
    spent = {
        (Path(file).name, function): seconds
        for (file, _, function), (_, _, _, seconds, _) in pstats.Stats(profiler).stats.items()
    }
    whole = spent["runs.py", "train"] - spent["runs.py", "save"]
    scoring = spent[SCORING] / scored
    step = (whole - spent[SCORING]) / steps
    times = len(score_steps(run.steps))
    full = step * run.steps + scoring * times
    shares = {"model": sum(spent[part] for part in MODEL) / steps * run.steps / full}
    shares |= {name: spent[part] / steps * run.steps / full for name, part in AROUND.items()}
    shares["scoring"] = scoring * times / full
    return {"model": model, "steps": steps, "of": run.steps, "scorings": times} | {
        "shares": {name: round(share, 4) for name, share in shares.items()}
    }


def main() -> None:
    """Profile both, print and save."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--steps", type=int, default=STEPS)
    parser.add_argument("--result", type=Path, default=RESULT)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    runs = [profiled(model, arguments.steps) for model in MODELS]
    for run in runs:
        shares = ", ".join(f"{name} {share:.1%}" for name, share in run["shares"].items())
        print(f"{run['model']}: {shares}")
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
