"""Compare the book's layers with torch's and with the textbook's loops, forward and in training.

Every contestant computes the same values from the same weights, which is checked first. All take
turns within one process: each repetition runs everything once, so that a busy moment of the machine
hits all alike. Of each contestant's time the ratio to its reference in the same repetition is
taken, and the median and the quartiles of these ratios are reported. Ratios of one machine mean
something on another; times do not.

    python benchmarks/speed.py                    # all, some ten minutes on an idle core
    python benchmarks/speed.py --only ragged      # one group, printed and not saved
    python benchmarks/speed.py --threads 2 --result two.json

A full run writes ``benchmarks/results/speed.json``, which the book's page on speed and chapter 7
show. The last column is the share of the machine's fastest matrix product that a contestant's
products reach, all the rest of its work included.
"""

import argparse
import gc
import statistics
import sys
from collections.abc import Callable, Iterator
from functools import partial
from itertools import product
from pathlib import Path
from typing import Any, NamedTuple

import torch
from record import benchmark_record, write_record
from torch import Tensor, nn
from torch.nn.functional import linear
from torch.nn.functional import scaled_dot_product_attention as torch_attention
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence
from torch.profiler import ProfilerActivity, profile
from torch.utils.benchmark import timer

from seqbook.layers.attention import (
    KeysAndValues,
    MultiHeadAttention,
    chunked_attention,
    scaled_dot_product_attention,
)
from seqbook.layers.gru import GRU
from seqbook.layers.lstm import LSTM
from seqbook.layers.recurrent import RecurrentLayer, unroll
from seqbook.layers.rnn import RNN
from seqbook.layers.transformer import EncoderLayer
from seqbook.training.profiling import count_macs

RESULT = Path(__file__).parent / "results" / "speed.json"
REPETITIONS = 15
PRODUCTS = {"mm", "addmm", "bmm", "baddbmm"}
VIEWS = {"as_strided", "select", "slice", "t", "transpose", "unbind", "view", "unsqueeze"}
SHORTEST = 0.005  # seconds: what takes less is run several times in a row
PRODUCT = 1024  # rows and columns of the matrix product that is the measure of speed
KINDS: dict[str, tuple[Callable[..., RecurrentLayer], Callable[..., nn.RNNBase]]] = {
    "RNN": (RNN, nn.RNN),
    "LSTM": (LSTM, nn.LSTM),
    "GRU": (GRU, nn.GRU),
}
SIZES = ("batch", "time", "input", "hidden")
RECURRENT = ((32, 35, 32, 64), (64, 100, 128, 256), (16, 512, 64, 128), (1, 1000, 28, 128))
WIDE = (1024, 32, 32, 32)
LENGTHS = (64, 128, 256, 512, 1024, 2048, 4096)
Works = dict[str, Callable[[Tensor], Tensor]]


class Case(NamedTuple):
    """Contestants for the same task.

    Attributes:
        group: What is compared.
        sizes: Name to number.
        reference: The contestant by whose time the others' are divided.
        works: Contestant to a function of the inputs.
        inputs: What all are given.
        memory: Whether to find the peaks of memory, too.
    """

    group: str
    sizes: dict[str, int]
    reference: str
    works: Works
    inputs: Tensor
    memory: bool = False


def recurrent_cases(generator: torch.Generator) -> Iterator[Case]:
    """Whole layers at four sizes, and an LSTM over many short sequences."""
    shapes = [(kind, shape, "torch") for shape, kind in product(RECURRENT, KINDS)]
    for kind, shape, reference in [*shapes, ("LSTM", WIDE, "textbook")]:
        batch, time, features, hidden = shape
        ours, theirs = pair(kind, features, hidden, generator)
        works: Works = {
            "torch": partial(outputs_of, theirs),
            "ours": partial(outputs_of, ours),
            "textbook": partial(textbook_run, ours, kind),
        }
        inputs = torch.randn(batch, time, features, generator=generator)
        group = kind if shape in RECURRENT else f"{kind}, wide batch"
        yield Case(group, dict(zip(SIZES, shape, strict=True)), reference, works, inputs)


def ragged_cases(generator: torch.Generator) -> Iterator[Case]:
    """Sequences of all lengths up to the longest, padded, beside torch's packed ones."""

    def packed(layer: nn.Module, lengths: Tensor, inputs: Tensor) -> Tensor:
        together = pack_padded_sequence(inputs, lengths, batch_first=True, enforce_sorted=False)
        return pad_packed_sequence(layer(together)[0], batch_first=True)[0]

    for shape, kind in product(RECURRENT[:-1], KINDS):
        batch, time, features, hidden = shape
        lengths = torch.linspace(1, time, batch).round().long()
        ours, theirs = pair(kind, features, hidden, generator)
        works: Works = {
            "torch": partial(packed, theirs, lengths),
            "ours": partial(outputs_of, ours, lengths=lengths),
        }
        inputs = torch.randn(batch, time, features, generator=generator)
        sizes = dict(zip(SIZES, shape, strict=True))
        yield Case(f"{kind}, ragged", sizes, "torch", works, inputs)


def attention_cases(generator: torch.Generator) -> Iterator[Case]:
    """Attention alone, by 4 heads of 64 and of 16 features."""
    for features in (64, 16):
        for time in LENGTHS if features == 64 else LENGTHS[-1:]:
            inputs = torch.randn(3, 1, 4, time, features, generator=generator)
            works: Works = {
                "textbook": lambda x: scaled_dot_product_attention(*x.unbind(0)).output,
                "chunks": lambda x: chunked_attention(*x.unbind(0)),
                "torch": fused_attention,
            }
            sizes = {"heads": 4, "time": time, "features": features}
            yield Case("attention", sizes, "textbook", works, inputs, memory=True)


def layer_cases(generator: torch.Generator) -> Iterator[Case]:
    """Layers of attention with their projections, beside a GRU layer of the same width."""
    shapes = [(1, time, 256, 4) for time in LENGTHS]
    for batch, time, width, heads in [*shapes, *((8, time, 128, 8) for time in (64, 256, 1024))]:
        ours = MultiHeadAttention(width, heads, generator=generator)
        textbook = TextbookAttention(width, heads)
        theirs = nn.MultiheadAttention(width, heads, batch_first=True)
        for layer in (textbook, theirs):
            layer.load_state_dict(ours.state_dict())
        works: Works = {
            "torch": partial(attend_to_itself, theirs),
            "ours": ours,
            "textbook": textbook,
        }
        if batch == 1:
            recurrent = GRU(width, width, generator=generator)
            works["GRU"] = partial(outputs_of, recurrent)
        inputs = torch.randn(batch, time, width, generator=generator)
        sizes = {"batch": batch, "time": time, "width": width, "heads": heads}
        yield Case("attention layer", sizes, "torch", works, inputs, memory=True)


def encoder_cases(generator: torch.Generator) -> Iterator[Case]:
    """Layers of a Transformer's encoder."""
    batch, width, heads, hidden = 8, 256, 4, 1024
    for time in (64, 256, 1024):
        ours = EncoderLayer(width, heads, hidden, generator=generator)
        theirs = nn.TransformerEncoderLayer(
            width, heads, hidden, dropout=0.0, batch_first=True, norm_first=True
        ).eval()
        theirs.load_state_dict(ours.state_dict())
        inputs = torch.randn(batch, time, width, generator=generator)
        sizes = {"batch": batch, "time": time, "width": width, "heads": heads, "hidden": hidden}
        yield Case("encoder layer", sizes, "torch", {"torch": theirs, "ours": ours}, inputs)


GROUPS = {
    "recurrent": recurrent_cases,
    "ragged": ragged_cases,
    "attention": attention_cases,
    "layers": layer_cases,
    "encoder": encoder_cases,
}


def pair(
    kind: str, features: int, hidden: int, generator: torch.Generator
) -> tuple[RecurrentLayer, nn.RNNBase]:
    """The book's layer and torch's with the same weights."""
    our_class, torch_class = KINDS[kind]
    ours = our_class(features, hidden, generator=generator)
    theirs = torch_class(features, hidden, batch_first=True)
    theirs.load_state_dict(ours.state_dict())
    return ours, theirs


def outputs_of(layer: nn.Module, inputs: Tensor, **options: Any) -> Tensor:
    """Outputs of a layer that returns its final state too."""
    return layer(inputs, **options)[0]


def fused_attention(inputs: Tensor) -> Tensor:
    """Output of torch's attention, whose queries, keys and values are stacked."""
    query, key, value = inputs.unbind(0)
    return torch_attention(query, key, value)


def attend_to_itself(layer: nn.MultiheadAttention, inputs: Tensor) -> Tensor:
    """Outputs of torch's attention layer as self-attention."""
    return layer(inputs, inputs, inputs, need_weights=False)[0]


def textbook_run(layer: RecurrentLayer, kind: str, inputs: Tensor) -> Tensor:
    """A layer written as its equations: two products per gate and step, differentiated by torch."""
    gates = {"RNN": 1, "LSTM": 4, "GRU": 3}[kind]
    names = ("weight_ih_l0", "bias_ih_l0", "weight_hh_l0", "bias_hh_l0")
    w, b, u, c = (getattr(layer, name).chunk(gates) for name in names)
    zero = inputs.new_zeros(len(inputs), layer.hidden_size)

    def products(x: Tensor, hidden: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
        for gate in range(gates):
            yield linear(x, w[gate], b[gate]), linear(hidden, u[gate], c[gate])

    def rnn(x: Tensor, state: tuple) -> tuple:
        ((from_input, from_state),) = products(x, *state)
        return (torch.tanh(from_input + from_state),)

    def lstm(x: Tensor, state: tuple) -> tuple:
        i, f, g, o = (from_input + from_state for from_input, from_state in products(x, state[0]))
        cell = f.sigmoid() * state[1] + i.sigmoid() * g.tanh()
        return o.sigmoid() * cell.tanh(), cell

    def gru(x: Tensor, state: tuple) -> tuple:
        (xr, hr), (xz, hz), (xn, hn) = products(x, *state)
        z = torch.sigmoid(xz + hz)
        return ((1 - z) * torch.tanh(xn + torch.sigmoid(xr + hr) * hn) + z * state[0],)

    step = {"RNN": rnn, "LSTM": lstm, "GRU": gru}[kind]
    state = (zero, zero) if kind == "LSTM" else (zero,)
    return unroll(step, inputs.transpose(0, 1), state)[0].transpose(0, 1)


class TextbookAttention(MultiHeadAttention):
    """The layer with the textbook's form between its projections at every length."""

    def attend(
        self, query: Tensor, keys_and_values: KeysAndValues, *, mask: Tensor | None = None
    ) -> Tensor:
        """Attend with every head and mix the results."""
        output = scaled_dot_product_attention(query, *keys_and_values, mask=mask).output
        return self.out_proj(output.transpose(1, 2).flatten(2))


def forward(work: Callable[[Tensor], Tensor], inputs: Tensor) -> Callable[[], Tensor]:
    """Make a function that runs the work as in use, without gradients."""

    def run() -> Tensor:
        with torch.no_grad():
            return work(inputs)

    return run


def training(work: Callable[[Tensor], Tensor], inputs: Tensor) -> Callable[[], Tensor]:
    """Make a function that runs the work as in training, back to the inputs and the weights."""
    inputs = inputs.clone().requires_grad_()
    gradient = torch.ones_like(work(inputs))

    def run() -> Tensor:
        inputs.grad = None
        work(inputs).backward(gradient)
        assert inputs.grad is not None  # which backward has filled
        return inputs.grad

    return run


PHASES = (forward, training)


class Contest:
    """A case in one phase, with its measurements."""

    def __init__(self, case: Case, phase: Callable):
        self.case, self.phase = case, phase.__name__
        self.runs = {name: phase(work, case.inputs) for name, work in case.works.items()}
        self._check()
        self.multiplications = count_macs(self.runs.get("ours", self.runs[case.reference]))
        self.peaks = {n: peak_bytes(run) for n, run in self.runs.items()} if case.memory else {}
        self.seconds: dict[str, list[float]] = {name: [] for name in self.runs}
        self._times = {name: 1 + int(SHORTEST / seconds(run)) for name, run in self.runs.items()}

    def _check(self) -> None:
        expected = self.runs[self.case.reference]()
        for name, run in self.runs.items():
            if name != "GRU":  # which is another function
                largest = float(expected.abs().max())
                torch.testing.assert_close(run(), expected, rtol=1e-3, atol=1e-4 * largest)

    def repeat(self) -> None:
        """Run every contestant once, or a short one several times."""
        for name, run in self.runs.items():
            self.seconds[name].append(seconds(run, self._times[name]))

    def rows(self, fastest: float) -> Iterator[dict]:
        """Yield the results of each contestant.

        Args:
            fastest: Multiplications in a second of the machine's best matrix product.
        """
        reference = self.seconds[self.case.reference]
        for name, taken in self.seconds.items():
            ratios = [a / b for a, b in zip(taken, reference, strict=True)]
            low, ratio, high = statistics.quantiles(ratios, n=4)
            middle = statistics.median(taken)
            row = {"group": self.case.group, **self.case.sizes, "phase": self.phase, "form": name}
            row |= {"ratio": digits(ratio), "quartiles": [digits(low), digits(high)]}
            row["seconds"] = digits(middle)
            if name != "GRU":
                row["share_of_product"] = digits(self.multiplications / middle / fastest)
            if name in self.peaks:
                row["peak_bytes"] = self.peaks[name]
            yield row


def seconds(run: Callable[[], object], times: int = 1) -> float:
    """Time one run, as the mean of several in a row."""
    start = timer()
    for _ in range(times):
        run()
    return (timer() - start) / times


def peak_bytes(run: Callable[[], object]) -> int:
    """Find the peak of what torch's allocator gave out, the kernels' own buffers included."""
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as recorded:
        run()
    events = recorded.profiler.kineto_results.events()
    changes = [(e.start_ns(), e.nbytes()) for e in events if e.name() == "[memory]"]
    now = peak = 0
    for _, change in sorted(changes, key=lambda event: event[0]):
        now += change
        peak = max(peak, now)
    return peak


def where_time_goes(contest: Contest) -> dict:
    """Shares of the book's form: in matrix products, in other operations, and between them.

    What is between is Python's loop and the making of views. Profiling lengthens it.
    """
    run = contest.runs["ours"]
    gc.collect()
    gc.disable()  # as while times are taken
    with profile(activities=[ProfilerActivity.CPU]) as recorded:
        for _ in range(3):
            run()
    gc.enable()
    spent = {"products": 0.0, "other operations": 0.0, "between operations": 0.0}
    for event in recorded.key_averages():
        name = event.key.removeprefix("aten::")
        if not event.key.startswith("aten::") or name in VIEWS:
            kind = "between operations"
        else:
            kind = "products" if name.strip("_") in PRODUCTS else "other operations"
        spent[kind] += event.self_cpu_time_total
    total = sum(spent.values())
    shares = {kind: digits(time / total) for kind, time in spent.items()}
    return {"group": contest.case.group, **contest.case.sizes, "shares": shares}


def digits(value: float) -> float:
    """Four significant digits."""
    return float(f"{value:.4g}")


def shown(row: dict) -> str:
    """A row of the printed table."""
    low, high = row["quartiles"]
    share = row.get("share_of_product")
    return (
        f"{named(row)}{row['phase']:<10}{row['form']:<10}"
        f"{row['ratio']:>7.2f} ({low:.2f} to {high:.2f})"
        + ("" if share is None else f"{share:>7.0%}")
    )


def shown_shares(profile: dict) -> str:
    """A row of the printed table of profiles."""
    return named(profile) + ", ".join(f"{kind} {x:.0%}" for kind, x in profile["shares"].items())


def named(row: dict) -> str:
    """The first columns of both tables: what was measured."""
    sizes = " ".join(str(row[key]) for key in row if key in {*SIZES, "heads", "features", "width"})
    return f"{row['group']:<18}{sizes:<20}"


def main() -> None:
    """Measure, print and, after a full run, save."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", choices=GROUPS, help="one group, to try it out")
    parser.add_argument("--repetitions", type=int, default=REPETITIONS, help="at least 2")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--result", type=Path, help="where to save, by default after a full run")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    generator = torch.Generator().manual_seed(0)
    groups = [GROUPS[arguments.only]] if arguments.only else GROUPS.values()
    cases = [case for group in groups for case in group(generator)]
    contests = [Contest(case, phase) for case in cases for phase in PHASES]
    square = torch.randn(2, PRODUCT, PRODUCT, generator=generator)
    out = torch.empty(PRODUCT, PRODUCT)
    fastest = []
    for repetition in range(arguments.repetitions):
        fastest.append(PRODUCT**3 / seconds(lambda: torch.mm(*square, out=out)))
        for contest in contests:
            contest.repeat()
        print(f"repetition {repetition + 1} of {arguments.repetitions}", file=sys.stderr)
    rows = [row for c in contests for row in c.rows(statistics.median(fastest))]
    profiles = [where_time_goes(c) for c in contests if "ours" in c.runs and c.phase == "training"]
    print(*map(shown, rows), *map(shown_shares, profiles), sep="\n")
    if arguments.result or not arguments.only:
        write(arguments, rows, profiles)


def write(arguments: argparse.Namespace, rows: list[dict], profiles: list[dict]) -> None:
    """Write the results, with the settings that repeat the measurement."""
    given = [
        word
        for name, default in (("only", None), ("repetitions", REPETITIONS), ("threads", 1))
        if getattr(arguments, name) != default
        for word in (f"--{name}", str(getattr(arguments, name)))
    ]
    results = {"repetitions": arguments.repetitions, "rows": rows, "profiles": profiles}
    write_record(benchmark_record(__file__, given, **results), arguments.result or RESULT)


if __name__ == "__main__":
    main()
