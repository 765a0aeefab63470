"""How much faster does a Transformer generate when it caches the keys and values of its output?

Times greedy decoding with the cache and without it, at growing lengths, and writes what it finds
to ``benchmarks/results/cached_decoding.json``, which chapter 8 draws:

    OMP_NUM_THREADS=1 python benchmarks/cached_decoding.py

The weights are random; the embedding of the end symbol is zero, so that its logit never wins and
every run writes the full length. Both ways are timed in turn, so that a busy moment hits both, and
medians are kept. Before that, both must write the same ids, with equal log-probabilities, in
float64. With ``--scale 0.1`` it is a quick trial on a tenth of the lengths. The whole takes some
fifteen minutes on one core.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from pathlib import Path
from typing import Any

import torch
from record import benchmark_record, write_record

from seqbook.data.batches import END
from seqbook.models.decoding import Hypothesis, greedy
from seqbook.models.seq2seq import TransformerSeq2Seq

OUTPUT = Path(__file__).parent / "results" / "cached_decoding.json"
SEEDS = (0, 1, 2)
REPETITIONS = {64: 15, 256: 7, 1024: 3}  # for each seed
SYMBOLS, SOURCE = 64, 64
SIZES: dict[str, Any] = {
    "d_model": 128,
    "heads": 4,
    "d_ff": 512,
    "encoder_layers": 2,
    "decoder_layers": 2,
}
TOLERANCE = 1e-9


def model_of(seed: int) -> TransformerSeq2Seq:
    """A random model that never ends a sequence by itself."""
    generator = torch.Generator().manual_seed(seed)
    model = TransformerSeq2Seq(SYMBOLS, SYMBOLS, generator=generator, **SIZES)
    with torch.no_grad():
        model.target_embedding.weight[END] = 0
    return model.eval()


def written(model: TransformerSeq2Seq, source: torch.Tensor, tokens: int, cached: bool):
    """Write ``tokens`` symbols after one source."""
    lengths = torch.tensor([source.shape[1]])
    (hypothesis,) = greedy(model, source, lengths, max_length=tokens, cached=cached)
    if len(hypothesis.ids) != tokens:
        raise RuntimeError(f"expected {tokens} symbols, got {len(hypothesis.ids)}")
    return hypothesis


def difference(first: Hypothesis, second: Hypothesis) -> float:
    """Difference of the log-probabilities of two equal sequences, per symbol."""
    if first.ids != second.ids:
        raise RuntimeError("expected the same symbols with and without the cache")
    return abs(first.log_probability - second.log_probability) / len(first.ids)


def seconds(*arguments) -> float:
    """Wall-clock time of one decoding."""
    start = time.perf_counter()
    written(*arguments)
    return time.perf_counter() - start


def run(seed: int, tokens: int, repetitions: int) -> dict:
    """Compare both ways at one length."""
    generator = torch.Generator().manual_seed(100 + seed)
    source = torch.randint(END + 1, SYMBOLS, (1, SOURCE), generator=generator)
    model = model_of(seed)
    exact = model_of(seed).double()
    deviation = difference(*(written(exact, source, tokens, cached) for cached in (True, False)))
    if deviation > TOLERANCE:
        raise RuntimeError(f"log-probabilities differ by {deviation} a symbol")
    times: dict[bool, list[float]] = {True: [], False: []}
    for _ in range(repetitions):
        for cached, seconds_taken in times.items():
            seconds_taken.append(seconds(model, source, tokens, cached))
    ratios = [slow / fast for fast, slow in zip(times[True], times[False], strict=True)]
    return {
        "seed": seed,
        "tokens": tokens,
        "repetitions": repetitions,
        "cached_seconds": round(statistics.median(times[True]), 4),
        "recomputed_seconds": round(statistics.median(times[False]), 4),
        "ratio": round(statistics.median(ratios), 2),
        "difference_per_symbol": deviation,
    }


def main(arguments: list[str]) -> int:
    """Run all lengths and seeds and write the file."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--scale", type=float, default=1.0, help="factor on the lengths")
    parser.add_argument("--output", type=Path, default=OUTPUT)
    options = parser.parse_args(arguments)
    torch.set_num_threads(1)
    runs = []
    for tokens, repetitions in REPETITIONS.items():
        for seed in SEEDS:
            runs.append(run(seed, max(1, round(tokens * options.scale)), repetitions))
            print(runs[-1], file=sys.stderr, flush=True)
    record = benchmark_record(
        __file__,
        arguments,
        task="greedy decoding of one sequence, median wall-clock time",
        settings={"symbols": SYMBOLS, "source": SOURCE, **SIZES},
        runs=runs,
    )
    write_record(record, options.output)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
