"""A small exercise for tests of the grader: four steps, quick to sampler and to run."""

import json
from pathlib import Path

NAME = "tiny"

SETUP = "import torch\nfrom torch import nn"
CHECKER = f'from seqbook.exercises import Checker\n\ncheck = Checker("{NAME}")'

# Name, points, signature, solution. The checks of each follow below, under the same name.
ANSWERS = {
    "plus_one": (1, "def plus_one(x):", "    return x + 1"),
    "scaled": (2, "def scaled(x, y):", "    return plus_one(x) * y"),
    "extremes": (1, "def extremes(x):", "    return x.min(), x.max()"),
    "Affine": (
        3,
        "class Affine(nn.Module):\n"
        "    def __init__(self, features, scale):\n"
        "        super().__init__()",
        "        self.weight = nn.Parameter(torch.ones(features))\n"
        "        self.scale = scale\n"
        "\n"
        "    def forward(self, x):\n"
        "        return self.scale * self.weight * x",
    ),
}
POINTS = sum(points for points, _, _ in ANSWERS.values())

STEPS_SOURCE = """
import torch
from torch import nn

from stepgrader.steps import ModuleCase, CaseSampler, Mistake, Step


def _rows(sampler: CaseSampler) -> dict:
    return {"x": sampler.normal(*sampler.lengths(2))}


def _zero(sampler: CaseSampler) -> dict:
    return {"x": 0 * sampler.normal(2)}


def _two(sampler: CaseSampler) -> dict:
    (count,) = sampler.lengths(1)
    return {"x": sampler.normal(count), "y": sampler.normal(count)}


def _built(sampler: CaseSampler) -> ModuleCase:
    (features,) = sampler.lengths(1)
    return ModuleCase(
        inputs={"x": sampler.normal(3, features)},
        options={"features": features, "scale": 2.0},
        state={"weight": sampler.normal(features)},
    )


def _plus_one(x):
    return torch.stack([x, torch.ones_like(x)]).sum(0)


def _plus_nothing(x):
    return x * 1


def _minus_one(x):
    return x - 1


def _plus_one_in_place(x):
    return x.add_(1)


def _one_plus(x):
    return 1 + x


def _plus_one_twice_half(x):
    return x + 0.5 + 0.5


def _scaled(x, y):
    return x * y + y


def _scaled_first(x, y):
    return x * y + 1


def _scaled_not(x, y):
    return x * y


def _scaled_twice(x, y):
    return (x + 1) * y * y


def _scaled_apart(x, y):
    return y + y * x


def _scaled_by_loop(x, y):
    return torch.stack([(a + 1) * b for a, b in zip(x, y)])


def _extremes(x):
    ordered = x.flatten().sort().values
    return ordered[0], ordered[-1]


def _extremes_swapped(x):
    return x.max(), x.min()


def _extremes_of_columns(x):
    return x.amin(0), x.amax(0)


def _extremes_squared(x):
    return x.square().min(), x.square().max()


def _extremes_listed(x):
    return [x.min(), x.max()]


def _extremes_numbers(x):
    return x.min().item(), x.max().item()


class _Affine(nn.Module):
    def __init__(self, features, scale):
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(features))
        self.scale = scale

    def forward(self, x):
        return torch.einsum("bf,f->bf", x, self.weight) * self.scale


class _AffineUnscaled(nn.Module):
    def __init__(self, features, scale):
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(features))

    def forward(self, x):
        return self.weight * x


class _AffineAdding(nn.Module):
    def __init__(self, features, scale):
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(features))
        self.scale = scale

    def forward(self, x):
        return self.scale * (self.weight + x)


class _AffineSummed(nn.Module):
    def __init__(self, features, scale):
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(features))
        self.scale = scale

    def forward(self, x):
        return (self.scale * self.weight * x).sum(-1)


class _AffineOtherwise(nn.Module):
    def __init__(self, n, factor):
        super().__init__()
        self.register_parameter("weight", nn.Parameter(torch.rand(n)))
        self.factor = factor

    def forward(self, rows):
        return rows @ torch.diag(self.weight) * self.factor


STEPS = [
    Step(
        "plus_one",
        reference=_plus_one,
        cases={"rows of numbers": _rows, "zeros": _zero},
        mistakes=[
            Mistake("You return the input as it is.", answer=_plus_nothing),
            Mistake("You take one away; the task adds it.", answer=_minus_one),
            Mistake("The input is overwritten.", answer=_plus_one_in_place),
        ],
        alternatives=[_one_plus, _plus_one_twice_half],
        gradients=["x"],
    ),
    Step(
        "scaled",
        reference=_scaled,
        cases={"two vectors": _two},
        mistakes=[
            Mistake("You add one after the product; add it before.", answer=_scaled_first),
            Mistake("You forgot to add one | to x.", answer=_scaled_not),
            Mistake("You multiply by y twice.", answer=_scaled_twice),
        ],
        alternatives=[_scaled_apart, _scaled_by_loop],
        gradients=["x", "y"],
        depends_on=["plus_one"],
    ),
    Step(
        "extremes",
        reference=_extremes,
        cases={"a matrix": _rows},
        mistakes=[
            Mistake("You return the largest first.", answer=_extremes_swapped),
            Mistake("You return one for every column.", answer=_extremes_of_columns),
            Mistake("You square the numbers.", answer=_extremes_squared),
        ],
        alternatives=[_extremes_listed, _extremes_numbers],
    ),
    Step(
        "Affine",
        reference=_Affine,
        cases={"a small batch": _built},
        mistakes=[
            Mistake("The scale is missing.", answer=_AffineUnscaled),
            Mistake("You add the weight; multiply by it.", answer=_AffineAdding),
            Mistake("You sum over the features; keep them.", answer=_AffineSummed),
        ],
        alternatives=[_AffineOtherwise, _Affine],
        gradients=["x"],
    ),
]
"""


def stem(name):
    return name.lower().replace("_", "-")


def source_notebook():
    """The author's notebook, as JSON has it."""
    cells = [
        ("markdown", "title", "# Exercises: tiny\n\nFour steps."),
        ("code", "setup", SETUP),
        ("code", "checker", CHECKER),
    ]
    for number, (name, (points, head, body)) in enumerate(ANSWERS.items(), start=1):
        unit = "point" if points == 1 else "points"
        indent = body[: len(body) - len(body.lstrip())]
        marked = f"{indent}### BEGIN SOLUTION\n{body}\n{indent}### END SOLUTION"
        heading = f"## {number}. Step (★, 5 minutes, {points} {unit})"
        cells += [
            ("markdown", f"{stem(name)}-task", heading),
            ("code", f"{stem(name)}-answer", f"{head}\n{marked}"),
            ("code", f"{stem(name)}-check", f"check({name})"),
        ]
    return {
        "cells": [cell(*parts) for parts in cells],
        "metadata": {},
        "nbformat": 4,
        "nbformat_minor": 5,
    }


def cell(kind, cell_id, source):
    made = {"cell_type": kind, "id": cell_id, "metadata": {}, "source": source.splitlines(True)}
    return made | ({"outputs": [], "execution_count": None} if kind == "code" else {})


def write_exercise(folder: Path) -> Path:
    """Write the source of the exercise below a folder of exercises, and return that folder."""
    (folder / NAME).mkdir(parents=True)
    text = json.dumps(source_notebook(), ensure_ascii=False)
    (folder / NAME / f"{NAME}.ipynb").write_text(text, encoding="utf-8")
    (folder / NAME / "steps.py").write_text(STEPS_SOURCE, encoding="utf-8")
    return folder


def answered(notebook, **answers):
    """A copy of a notebook, with other sources in the answer cells of these names."""
    notebook = json.loads(json.dumps(notebook))
    for name, source in answers.items():
        (found,) = [one for one in notebook["cells"] if one["id"] == f"{stem(name)}-answer"]
        found["source"] = source.splitlines(True)
    return notebook


def solved(name):
    """The source of the solution of a step."""
    _, head, body = ANSWERS[name]
    return f"{head}\n{body}"
