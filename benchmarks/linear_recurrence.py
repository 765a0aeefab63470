"""What do linear recurrences remember, and what does a scan save? The recorded runs of chapter 10.

Each part writes a record of its own to ``benchmarks/results``, which the chapter reads:

    OMP_NUM_THREADS=1 python benchmarks/linear_recurrence.py recall
    OMP_NUM_THREADS=1 python benchmarks/linear_recurrence.py adding
    OMP_NUM_THREADS=1 python benchmarks/linear_recurrence.py copying
    OMP_NUM_THREADS=1 python benchmarks/linear_recurrence.py timing

``recall`` trains two-layer networks on associative recall with 4 to 32 pairs at once, and scores
each number of pairs. The state of a layer has 64, 256 or 1,024 numbers; attention keeps a cache
instead, and the hybrid has one layer of each kind. ``adding`` and ``copying`` train networks of
equally many weights on growing lengths. A run stops early once it has solved its task. ``timing``
compares a scan with a loop, forward and backward, in turn.

The learning rate of each network is the better of two in a third of the steps, from a seed that is
not used again. Every record is written after each run; what it has already is not repeated. Seconds
are those of the processor. With ``--tiny`` it is a trial of seconds. Nobody has timed the whole
yet: expect some hours for each of the first three on one core, most of them for the largest states
and lengths.
"""

from __future__ import annotations

import argparse
import math
import statistics
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import torch
from record import RESULTS, benchmark_record, record_so_far, write_record
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, pad, relu

from seqbook.data.synthetic import (
    adding,
    adding_error,
    associative_recall,
    copying,
    copying_loss,
)
from seqbook.layers.attention import MultiHeadAttention, causal_mask
from seqbook.layers.linear_attention import DeltaNet, LinearAttention
from seqbook.layers.linear_recurrence import LRU, MinGRU, linear_recurrence
from seqbook.layers.lstm import LSTM
from seqbook.layers.state_space import SelectiveSSM
from seqbook.training.loop import training_steps

SEEDS = (0, 1, 2)
TRIAL_SEED = 100  # of the runs that choose the learning rate
RATES = (0.003, 0.01)
BATCH = 64
SCORED = 1024  # fresh sequences


class Size(NamedTuple):
    """How large the runs are."""

    seeds: tuple[int, ...] = SEEDS
    steps: int = 2000
    pairs: tuple[int, ...] = (4, 8, 16, 32)
    keys: int = 64
    width: int = 64
    states: tuple[int, ...] = (64, 256, 1024)
    lengths: tuple[int, ...] = (100, 200, 400, 800)
    delays: tuple[int, ...] = (50, 100, 200, 400)
    weights: int = 10_000
    timed: tuple[int, ...] = (64, 256, 1024, 4096, 16384)
    repetitions: int = 21
    scored: int = SCORED


TINY = Size((0,), 6, (2, 3), 6, 16, (16,), (6,), (3,), 2000, (8, 32), 2, 32)
HEADS = 4
LAYERS = 2


# Networks


class First(nn.Module):
    """A layer's outputs without its last state, between two linear maps."""

    def __init__(self, width: int, inner: int, layer: nn.Module, outputs: int | None = None):
        super().__init__()
        self.enter, self.layer = nn.Linear(width, inner), layer
        self.leave = nn.Linear(outputs or inner, width)

    def forward(self, x: Tensor) -> Tensor:  # (batch, time, width)
        """Run the layer over the sequence."""
        return self.leave(self.layer(self.enter(x))[0])


class CausalAttention(nn.Module):
    """Self-attention to the present and the past."""

    def __init__(self, width: int, generator: torch.Generator):
        super().__init__()
        self.attention = MultiHeadAttention(width, HEADS, generator=generator)

    def forward(self, x: Tensor) -> Tensor:  # (batch, time, width)
        """Attend."""
        return self.attention(x, mask=causal_mask(x.shape[1]))


class Block(nn.Module):
    """A mixer over time, then a network at each step, each added to the stream."""

    def __init__(self, width: int, mixer: nn.Module):
        super().__init__()
        self.mixer = mixer
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.widen, self.narrow = nn.Linear(width, 2 * width), nn.Linear(2 * width, width)

    def forward(self, x: Tensor) -> Tensor:  # (batch, time, width)
        """Mix over time, then compute at each step."""
        x = x + self.mixer(self.norm1(x))
        return x + self.narrow(relu(self.widen(self.norm2(x))))


class Network(nn.Module):
    """Blocks between a linear map of this input and the last one, and a readout at each step."""

    def __init__(self, features: int, width: int, outputs: int, mixers: list[nn.Module]):
        super().__init__()
        self.embedding = nn.Linear(2 * features, width)
        self.blocks = nn.ModuleList(Block(width, mixer) for mixer in mixers)
        self.norm, self.readout = nn.LayerNorm(width), nn.Linear(width, outputs)

    def forward(self, inputs: Tensor) -> Tensor:  # (batch, time, features)
        """Return the outputs at each step."""
        before = pad(inputs, (0, 0, 1, 0))[:, :-1]
        x = self.embedding(torch.cat([inputs, before], -1))
        for block in self.blocks:
            x = block(x)
        return self.readout(self.norm(x))


def spread_lstm(width: int, hidden: int, longest: int, generator: torch.Generator) -> LSTM:
    """An LSTM whose forget gates begin with time scales up to ``longest``."""
    layer = LSTM(width, hidden, forget_bias=1.0, generator=generator)
    scales = _log_uniform(hidden, longest, generator)
    named = dict(layer.named_parameters())
    with torch.no_grad():
        named["bias_hh_l0"][: 2 * hidden] = 0
        named["bias_ih_l0"][:hidden] = -scales.log()  # input gates
        named["bias_ih_l0"][hidden : 2 * hidden] = scales.log()
    return layer


def spread_min_gru(width: int, hidden: int, longest: int, generator: torch.Generator) -> MinGRU:
    """A minGRU whose gates begin with time scales up to ``longest``."""
    layer = MinGRU(width, hidden, generator=generator)
    with torch.no_grad():
        layer.bias[:hidden] = -_log_uniform(hidden, longest, generator).log()
    return layer


def _log_uniform(count: int, longest: int, generator: torch.Generator) -> Tensor:
    """Time scales from 1 to ``longest``, evenly spread on a logarithmic axis."""
    return (torch.rand(count, generator=generator) * math.log(longest)).exp()


def mixer_of(kind: str, width: int, state: int, longest: int, generator: torch.Generator):
    """A mixer whose state has ``state`` numbers, and how many it really has.

    Args:
        kind: One of ``RECURRENT``, or ``"attention"``.
        width: Features of the stream.
        state: Numbers in the state of one sequence; attention ignores it.
        longest: Time scale in steps up to which decays and gates are spread at the start.
        generator: Draws the initial weights of the layer.
    """
    if kind == "attention":
        return CausalAttention(width, generator), 0
    if kind.startswith("LSTM"):
        hidden = state // 2  # beside as many numbers in the cell
        if kind == "LSTM":
            layer: nn.Module = LSTM(width, hidden, forget_bias=1.0, generator=generator)
        else:
            layer = spread_lstm(width, hidden, longest, generator)
        return First(width, width, layer, hidden), 2 * hidden
    if kind == "minGRU, default":
        return First(width, width, MinGRU(width, state, generator=generator), state), state
    if kind == "minGRU":
        layer = spread_min_gru(width, state, longest, generator)
        return First(width, width, layer, state), state
    if kind == "LRU":
        radius = 1 - 1 / longest
        layer = LRU(width, state // 2, max_radius=radius, generator=generator)
        return First(width, width, layer), 2 * (state // 2)
    if kind == "selective":
        inner = min(16, state)
        shortest = min(0.1, 1 / longest)
        layer = SelectiveSSM(inner, state // inner, shortest_step=shortest, generator=generator)
        return First(width, inner, layer), inner * (state // inner)
    inner = math.isqrt(state)
    if kind == "linear attention":
        layer = LinearAttention(inner, 1, generator=generator)
        return First(width, inner, layer), inner * (inner + 1)  # with the denominators
    layer = DeltaNet(inner, 1, generator=generator)
    return First(width, inner, layer), inner * inner


RECURRENT = (
    "LSTM",
    "LSTM, spread",
    "minGRU, default",
    "minGRU",
    "LRU",
    "selective",
    "linear attention",
    "delta rule",
)


def network_of(
    kind: str, seed: int, *, features: int, outputs: int, width: int, state: int, longest: int
) -> tuple[Network, int]:
    """A network of two blocks drawn from a seed, and the numbers in the state of one block."""
    generator = torch.Generator().manual_seed(seed)
    kinds = ("minGRU", "attention") if kind == "hybrid" else (kind,) * LAYERS
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)  # of the maps around the layers
        mixers, sizes = zip(
            *(mixer_of(each, width, state, longest, generator) for each in kinds), strict=True
        )
        return Network(features, width, outputs, list(mixers)), max(sizes)


def weights_of(model: nn.Module) -> int:
    """The number of parameters."""
    return sum(parameter.numel() for parameter in model.parameters())


# Tasks


class Task(NamedTuple):
    """What one training needs."""

    build: Callable[[int], tuple[Network, int]]  # from a seed
    loss: Callable[[Network, torch.Generator], Tensor]
    solved: float  # a mean loss of 20 steps at which to stop
    score: Callable[[Network], dict[str, Any]]


def trained(task: Task, seed: int, *, rate: float, steps: int) -> tuple[Network, int, list[float]]:
    """Train one network until it has solved the task, at most ``steps`` steps."""
    model, state = task.build(seed)
    generator = torch.Generator().manual_seed(1000 + seed)
    losses: list[float] = []
    for step in training_steps(
        model.parameters(),
        lambda _: task.loss(model, generator),
        steps=steps,
        learning_rate=lambda n: rate * min(1, (n + 1) / 50) * (1 - n / steps),
    ):
        losses.append(step.loss)
        if len(losses) >= 20 and sum(losses[-20:]) / 20 < task.solved:
            break
    return model, state, losses


def best_rate(task: Task, steps: int) -> tuple[float, dict[str, float]]:
    """The rate that ends lower in a third of the steps, and where each rate ends.

    Of two that solve the task the quicker one is taken.
    """
    ends, order = {}, {}
    for rate in RATES:
        try:
            _, _, losses = trained(task, TRIAL_SEED, rate=rate, steps=max(2, steps // 3))
        except FloatingPointError:
            continue
        end = sum(losses[-20:]) / len(losses[-20:])
        ends[str(rate)] = round(end, 5)
        order[rate] = max(end, task.solved), len(losses)
    return min(order, key=lambda rate: order[rate], default=RATES[0]), ends


def runs_of(task: Task, size: Size, found: list[dict], **described: Any) -> Iterator[dict]:
    """Choose a rate, then train from every seed, unless that has been found already."""
    done = [run for run in found if described.items() <= run.items()]
    if len(done) == len(size.seeds):
        return
    found[:] = [run for run in found if run not in done]  # of a rate that is chosen anew
    rate, trial = best_rate(task, size.steps)
    for seed in size.seeds:
        start = time.process_time()
        try:
            model, state, losses = trained(task, seed, rate=rate, steps=size.steps)
        except FloatingPointError as error:  # a result too
            yield {**described, "seed": seed, "learning_rate": rate, "failed": str(error)}
            continue
        seconds = round(time.process_time() - start, 1)
        yield {
            **described,
            "seed": seed,
            "weights": weights_of(model),
            "state": state,
            "learning_rate": rate,
            "loss_of_rates": trial,
            "steps": len(losses),
            "seconds": seconds,
            **task.score(model),
        }


def recall_runs(size: Size, found: list[dict]) -> Iterator[dict]:
    """Associative recall, by number of pairs and size of the state."""
    values = 8
    features = size.keys + values
    configurations = [("attention", 0), ("hybrid", size.states[min(1, len(size.states) - 1)])]
    for state in size.states:
        kinds = ("LSTM", "minGRU", "LRU", "selective", "linear attention", "delta rule")
        # an LSTM of 512 units would take hours
        configurations += [(kind, state) for kind in kinds if kind != "LSTM" or state < 1024]

    def batch(count: int, pairs: int, generator: torch.Generator):
        return associative_recall(
            count, pairs=pairs, keys=size.keys, values=values, generator=generator
        )

    def loss(model: Network, generator: torch.Generator) -> Tensor:
        pairs = size.pairs[int(torch.randint(len(size.pairs), (1,), generator=generator))]
        inputs, targets = batch(BATCH, pairs, generator)
        return cross_entropy(model(inputs)[:, -pairs:].mT, targets)

    @torch.no_grad()
    def score(model: Network) -> dict:
        right = {}
        for pairs in size.pairs:
            inputs, targets = batch(size.scored, pairs, torch.Generator().manual_seed(999))
            answers = model(inputs)[:, -pairs:].argmax(-1)
            right[str(pairs)] = round((answers == targets).double().mean().item(), 4)
        return {"right": right}

    for kind, state in configurations:

        def build(seed: int, kind: str = kind, state: int = state) -> tuple[Network, int]:
            return network_of(
                kind,
                seed,
                features=features,
                outputs=values,
                width=size.width,
                state=state,
                longest=3 * max(size.pairs),
            )

        task = Task(build, loss, 0.01, score)
        yield from runs_of(task, size, found, model=kind, wanted_state=state)


COMPARED = ("LSTM", "LSTM, spread", "minGRU, default", "minGRU", "LRU", "selective")


def width_near(weights: int, weights_at: Callable[[int], int]) -> int:
    """The width at which a network has about so many weights."""
    return min(range(4, 129), key=lambda width: abs(weights_at(width) - weights))


def equal_networks(size: Size, kind: str, longest: int, features: int, outputs: int):
    """A function of the seed that builds a network of about ``size.weights`` weights."""

    def build(seed: int, width: int) -> tuple[Network, int]:
        state = 4 * width if kind == "selective" else width
        if kind.startswith("LSTM"):
            state = 2 * width  # as many units as the others
        return network_of(
            kind,
            seed,
            features=features,
            outputs=outputs,
            width=width,
            state=state,
            longest=longest,
        )

    width = width_near(size.weights, lambda width: weights_of(build(0, width)[0]))
    return lambda seed: build(seed, width)


def adding_runs(size: Size, found: list[dict]) -> Iterator[dict]:
    """The adding problem, by length."""
    for length in size.lengths:

        def loss(model: Network, generator: torch.Generator, length: int = length) -> Tensor:
            inputs, targets = adding(BATCH, length=length, generator=generator)
            return (model(inputs)[:, -1, 0] - targets).square().mean()

        @torch.no_grad()
        def score(model: Network, length: int = length) -> dict:
            generator = torch.Generator().manual_seed(999)
            inputs, targets = adding(size.scored, length=length, generator=generator)
            error = (model(inputs)[:, -1, 0] - targets).square().mean().item()
            return {"error": round(error, 5), "no_memory": adding_error(length)}

        for kind in COMPARED:
            build = equal_networks(size, kind, length, features=2, outputs=1)
            yield from runs_of(
                Task(build, loss, 0.005, score), size, found, model=kind, length=length
            )


def copying_runs(size: Size, found: list[dict]) -> Iterator[dict]:
    """The copying problem, by delay."""
    symbols, count = 8, 10
    for delay in size.delays:

        def loss(model: Network, generator: torch.Generator, delay: int = delay) -> Tensor:
            inputs, targets = copying(BATCH, delay=delay, generator=generator)
            return cross_entropy(model(inputs).mT, targets)

        @torch.no_grad()
        def score(model: Network, delay: int = delay) -> dict:
            generator = torch.Generator().manual_seed(999)
            inputs, targets = copying(size.scored, delay=delay, generator=generator)
            logits = model(inputs)
            right = (logits[:, -count:].argmax(-1) == targets[:, -count:]).double().mean()
            return {
                "loss": round(cross_entropy(logits.mT, targets).item(), 5),
                "no_memory": round(copying_loss(delay=delay), 5),
                "right": round(right.item(), 4),
            }

        for kind in COMPARED:
            build = equal_networks(size, kind, delay, features=symbols + 2, outputs=symbols + 1)
            solved = 0.01 * copying_loss(delay=delay)
            yield from runs_of(
                Task(build, loss, solved, score), size, found, model=kind, delay=delay
            )


def timing_rows(size: Size, found: list[dict]) -> Iterator[dict]:
    """Time of a scan and of a loop, forward and backward, by length."""
    batch, features = 8, 64
    for length in size.timed:
        generator = torch.Generator().manual_seed(0)
        decay = torch.rand(batch, length, features, generator=generator).requires_grad_()
        inputs = torch.randn(batch, length, features, generator=generator).requires_grad_()
        view = torch.randn(batch, length, features, generator=generator)
        times: dict[str, list[float]] = {"scan": [], "loop": []}
        for turn in range(size.repetitions + 1):
            for method, seconds in times.items():
                start = time.perf_counter()
                states = linear_recurrence(decay, inputs, method=method)
                torch.autograd.grad((states * view).sum(), (decay, inputs))
                if turn:  # the first turn warms up
                    seconds.append(time.perf_counter() - start)
        ratios = [a / b for a, b in zip(times["loop"], times["scan"], strict=True)]
        low, middle, high = statistics.quantiles(ratios, n=4)
        yield {
            "length": length,
            "batch": batch,
            "features": features,
            "seconds": {name: statistics.median(each) for name, each in times.items()},
            "loop_over_scan": round(middle, 3),
            "quartiles": [round(low, 3), round(high, 3)],
        }


PARTS: dict[str, Callable[[Size, list[dict]], Iterator[dict]]] = {
    "recall": recall_runs,
    "adding": adding_runs,
    "copying": copying_runs,
    "timing": timing_rows,
}


def main(arguments: list[str]) -> int:
    """Run one part, and write its record after each run."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("part", choices=PARTS)
    parser.add_argument("--tiny", action="store_true", help="a trial of seconds")
    parser.add_argument("--output", type=Path)
    options = parser.parse_args(arguments)
    if options.tiny and options.output is None:
        parser.error("--tiny: expected --output, so that no trial takes a record's place")
    torch.set_num_threads(1)
    size = TINY if options.tiny else Size()
    output = options.output or RESULTS / f"linear_recurrence_{options.part}.json"
    settings = {"batch": BATCH, "rates_tried": RATES, "trial_seed": TRIAL_SEED, **size._asdict()}
    found = [] if options.part == "timing" else record_so_far(output, settings).get("runs", [])
    for row in PARTS[options.part](size, found):
        print(row, file=sys.stderr, flush=True)
        found.append(row)
        contents: dict[str, Any] = {"settings": settings, "runs": found}
        if options.part == "timing":
            contents = {"repetitions": size.repetitions, "rows": found}
        write_record(benchmark_record(__file__, arguments, **contents), output)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
