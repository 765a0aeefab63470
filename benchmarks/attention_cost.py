"""What a layer of attention costs against the length of the sequence, beside a recurrent one.

Times a layer of four heads in three forms (the textbook's, which holds all scores; the chunked one
of this book; torch's fused one) and a GRU layer of the same width, forward and in training, at
growing lengths, and finds the peak of memory of each. Writes what it found to
``benchmarks/results/attention_cost.json``, which chapter 7 draws:

    OMP_NUM_THREADS=1 python benchmarks/attention_cost.py

All layers at all lengths take turns within one process, fifteen times, and medians are reported, so
that a busy moment hits all alike. Ratios of these times mean more than the times. Takes some five
minutes on one idle core.
"""

import argparse
import json
import platform
import statistics
import sys
import time
from collections import defaultdict
from collections.abc import Callable
from itertools import product
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn.functional import scaled_dot_product_attention
from torch.profiler import ProfilerActivity, profile

from seqbook.attention import MultiHeadAttention
from seqbook.gru import GRU

RESULT = Path(__file__).parent / "results" / "attention_cost.json"
LENGTHS = (64, 128, 256, 512, 1024, 2048, 4096)
WIDTH, HEADS, BATCH = 256, 4, 1
REPETITIONS = 15


class TorchAttention(MultiHeadAttention):
    """The same layer, with torch's own kernel between the projections."""

    def _heads(self, query: Tensor, keys: Tensor, values: Tensor, mask: Tensor | None) -> Tensor:
        return scaled_dot_product_attention(query, keys, values, attn_mask=mask)


class Outputs(nn.Module):
    """A recurrent layer without its final state."""

    def __init__(self, layer: nn.Module):
        super().__init__()
        self.layer = layer

    def forward(self, inputs: Tensor) -> Tensor:
        """The state at every step."""
        return self.layer(inputs)[0]


def layers() -> dict[str, nn.Module]:
    """The layers to compare, each from (batch, time, width) to the same shape."""
    generator = torch.Generator().manual_seed(0)
    options = {"generator": generator}
    return {
        "textbook": MultiHeadAttention(WIDTH, HEADS, **options),
        "chunked": MultiHeadAttention(WIDTH, HEADS, implementation="chunked", **options),
        "torch": TorchAttention(WIDTH, HEADS, **options),
        "GRU": Outputs(GRU(WIDTH, WIDTH, **options)),
    }


def forward(layer: nn.Module, inputs: Tensor) -> None:
    """Run the layer as in use."""
    with torch.no_grad():
        layer(inputs)


def training(layer: nn.Module, inputs: Tensor) -> None:
    """Run the layer as in training: forward, and back to the inputs and the weights."""
    layer.zero_grad()
    layer(inputs.requires_grad_()).sum().backward()
    inputs.grad = None


def seconds(work: Callable[[], None]) -> float:
    """Time one run."""
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def peak_bytes(work: Callable[[], None]) -> int:
    """Find the peak of what torch's allocator gave out, the kernels' own buffers included."""
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as recorded:
        work()
    events = recorded.profiler.kineto_results.events()
    changes = [(e.start_ns(), e.nbytes()) for e in events if e.name() == "[memory]"]
    now = peak = 0
    for _, change in sorted(changes, key=lambda event: event[0]):
        now += change
        peak = max(peak, now)
    return peak


def write(arguments: argparse.Namespace, lengths: list[int], times: dict, peaks: dict) -> None:
    """Write what was measured, and what it takes to measure it again."""
    command = "OMP_NUM_THREADS=1 python benchmarks/attention_cost.py"
    if arguments.longest != max(LENGTHS):
        command += f" --longest {arguments.longest}"
    if arguments.repetitions != REPETITIONS:
        command += f" --repetitions {arguments.repetitions}"
    runs = []
    for name, length in product(layers(), lengths):
        run = {"layer": name, "length": length}
        for phase in ("forward", "training"):
            low, middle, high = statistics.quantiles(times[name, length, phase], n=4)
            run[f"{phase}_seconds"] = float(f"{middle:.4g}")
            run[f"{phase}_quartiles"] = [float(f"{low:.4g}"), float(f"{high:.4g}")]
            run[f"{phase}_peak_bytes"] = peaks[name, length, phase]
        runs.append(run)
    result = {
        "command": command,
        "versions": {"python": platform.python_version(), "torch": torch.__version__},
        "threads": torch.get_num_threads(),
        "repetitions": arguments.repetitions,
        "settings": {"batch": BATCH, "width": WIDTH, "heads": HEADS, "chunk": 128},
        "runs": runs,
    }
    arguments.result.parent.mkdir(exist_ok=True)
    arguments.result.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")


def main() -> None:
    """Measure the grid."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--longest", type=int, default=max(LENGTHS), help="to try it out")
    parser.add_argument("--repetitions", type=int, default=REPETITIONS, help="at least 2")
    parser.add_argument("--result", type=Path, default=RESULT)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    lengths = [length for length in LENGTHS if length <= arguments.longest]
    generator = torch.Generator().manual_seed(1)
    inputs = {n: torch.randn(BATCH, n, WIDTH, generator=generator) for n in lengths}
    grid = list(product(lengths, layers().items(), (forward, training)))
    peaks, times = {}, defaultdict(list)
    for length, (name, layer), phase in grid:
        phase(layer, inputs[length])  # warm up
        peaks[name, length, phase.__name__] = peak_bytes(lambda: phase(layer, inputs[length]))  # noqa: B023
    for repetition in range(arguments.repetitions):
        for length, (name, layer), phase in grid:
            spent = seconds(lambda: phase(layer, inputs[length]))  # noqa: B023
            times[name, length, phase.__name__].append(spent)
        print(f"repetition {repetition + 1} of {arguments.repetitions}", file=sys.stderr)
    write(arguments, lengths, times, peaks)


if __name__ == "__main__":
    main()
