"""What does each part of the compressor save?

Reads the first 20,000 bytes of ``alice29.txt`` with the settings ``standard``, once as they are and
once without each part, and writes the ideal code lengths to
``benchmarks/results/compression_shares.json``, with what each model needs alone:

    OMP_NUM_THREADS=1 python benchmarks/compression_shares.py

It also compresses as many bytes of two other texts, which were not used to choose the settings, and
decompresses them again. What the file of results has already is not repeated, and ``--most`` says
how many runs to make now. A run takes about ten seconds on one idle core.
"""

import argparse
import bz2
import json
import lzma
import sys
import zlib
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from record import benchmark_record, write_record

from seqbook.compression.archive import compress, decompress
from seqbook.compression.costs import code_lengths
from seqbook.compression.logistic import squash
from seqbook.compression.matching import MatchModel
from seqbook.compression.mixing import Mixer
from seqbook.compression.predictor import SETTINGS, Predictor, Settings
from seqbook.compression.probability_maps import ProbabilityMaps
from seqbook.data import read_bytes

RESULT = Path(__file__).parent / "results" / "compression_shares.json"
BYTES = 20_000
TEXTS = ("constitution_ko.txt", "tinyshakespeare.txt")
STANDARD = SETTINGS["standard"]


class NoMatch(MatchModel):
    """A match model that finds nothing."""

    def predict(self, prefix: int) -> float:
        """Return 0.0, the log odds of one half."""
        return 0.0


class SlowMixer(Mixer):
    """A mixer that learns at a tenth of the rate, which suits a single row of weights better."""

    def update(self, bit: int, rate: float) -> None:
        """Learn from the bit that came."""
        super().update(bit, rate / 10)


class NoMaps(ProbabilityMaps):
    """No correction of a probability."""

    def refine(self, log_odds: float, contexts: Sequence[int]) -> float:
        """Return the probability itself."""
        return squash(log_odds)


def _without_contexts(*names: str) -> Settings:
    left = tuple(name for name in STANDARD.contexts if name not in names)
    return replace(STANDARD, contexts=left)


PARTS = {
    "orders 5 and 6": _without_contexts("order 5", "order 6"),
    "orders 3 to 6": _without_contexts("order 3", "order 4", "order 5", "order 6"),
    "word and word pair": _without_contexts("word", "word and word before"),
    "column": _without_contexts("column"),
    "match model": STANDARD,
    "sets of weights": replace(STANDARD, selectors=("always the same",)),
    "sets of weights, a tenth of the rate": replace(STANDARD, selectors=("always the same",)),
    "probability maps": STANDARD,
}


def predictor_without(part: str, length: int) -> Predictor:
    """A new predictor that lacks a part."""
    predictor = Predictor(PARTS.get(part, STANDARD), length=length, symbol_bits=7)
    if part == "match model":
        predictor.matches = NoMatch(STANDARD.match_minimum, symbol_bits=7, table_bits=8)
    if part == "sets of weights, a tenth of the rate":
        weight = STANDARD.initial_weight
        predictor.mixer = SlowMixer(len(STANDARD.contexts) + 2, [1], weight=weight)
    if part == "probability maps":
        predictor.maps = NoMaps(0, rate=0.0)
    return predictor


def run(what: str) -> dict[str, Any]:
    """Measure one part, or one text."""
    if what in TEXTS:
        data = read_bytes(what)[:BYTES]
        archive = compress(data)
        return {
            "text": what,
            "bytes": len(archive),
            "came_back": decompress(archive) == data,
            "zlib": len(zlib.compress(data, 9)),
            "lzma": len(lzma.compress(data, preset=9 | lzma.PRESET_EXTREME)),
            "bz2": len(bz2.compress(data)),
        }
    data = read_bytes("alice29.txt")[:BYTES]
    bits = code_lengths(data, predictor_without(what, len(data)))
    lengths = {name: round(length / 8, 1) for name, length in bits.items()}
    result = {"without": what, "bytes": lengths.pop("mixture")}
    return result | {"alone": lengths} if what == "nothing" else result


def main() -> None:
    """Run what is missing, and write the results after each run."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--most", type=int, default=99, help="number of runs to make now")
    options = parser.parse_args()
    runs = json.loads(RESULT.read_text(encoding="utf-8"))["runs"] if RESULT.exists() else []
    done = {one.get("without", one.get("text")) for one in runs}
    for what in [name for name in ("nothing", *PARTS, *TEXTS) if name not in done][: options.most]:
        runs.append(run(what))
        print(runs[-1], file=sys.stderr, flush=True)
        record = benchmark_record(
            __file__,
            task=f"length in bytes of the first {BYTES:,} bytes, settings standard",
            deterministic="every run gives these lengths",
            text="alice29.txt",
            length=BYTES,
            runs=runs,
        )
        write_record(record, RESULT)


if __name__ == "__main__":
    main()
