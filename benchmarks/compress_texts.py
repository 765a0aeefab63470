"""How small do the settings of ``seqbook compress`` make three texts, and how long does it take?

Compresses each text, decompresses it, compares, and writes sizes and seconds of the processor to
``benchmarks/results/compress_texts.json``, beside what gzip, bzip2 and xz make of it:

    OMP_NUM_THREADS=1 python benchmarks/compress_texts.py --shakespeare tinyshakespeare.txt

The settings were chosen on ``alice29.txt``. The other two texts were first compressed when the
settings were fixed: the first 150,000 bytes of the file that ``--shakespeare`` names, which is left
out if it is not given, and the Korean constitution. A run that the file of results has already is
not repeated; ``--settings`` and ``--text`` choose some. With the network, a run takes about twenty
minutes of one core.
"""

import argparse
import bz2
import dataclasses
import gzip
import hashlib
import json
import lzma
import sys
import time
from pathlib import Path
from typing import Any

from record import benchmark_record, write_record

from seqbook.compression.archive import compress, decompress
from seqbook.compression.predictor import SETTINGS
from seqbook.data import read_bytes

RESULT = Path(__file__).parent / "results" / "compress_texts.json"
SHAKESPEARE_BYTES = 150_000
OTHERS = {
    "gzip": lambda data: gzip.compress(data, 9),
    "bzip2": bz2.compress,
    "xz": lambda data: lzma.compress(data, preset=9 | lzma.PRESET_EXTREME),
}


def texts(shakespeare: Path | None) -> dict[str, bytes]:
    """The texts by name."""
    found = {name: read_bytes(name) for name in ("alice29.txt", "constitution_ko.txt")}
    if shakespeare is not None:
        found["tinyshakespeare.txt"] = shakespeare.read_bytes()[:SHAKESPEARE_BYTES]
    return found


def run(name: str, data: bytes, settings: str) -> dict[str, Any]:
    """Compress and decompress a text; return what it took."""
    seconds = []
    start = time.process_time()
    archive = compress(data, settings=settings)
    seconds.append(round(time.process_time() - start, 1))
    start = time.process_time()
    equal = decompress(archive) == data
    seconds.append(round(time.process_time() - start, 1))
    return {
        "text": name,
        "settings": settings,
        "bytes": len(archive),
        "bits_per_byte": round(8 * len(archive) / len(data), 4),
        "came_back": equal,
        "seconds": dict(zip(("compress", "decompress"), seconds, strict=True)),
        "sha256": hashlib.sha256(archive).hexdigest(),
    }


def main() -> None:
    """Run what is missing, and write the results after each run."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--shakespeare", type=Path, help="file of tiny Shakespeare")
    parser.add_argument("--settings", nargs="+", choices=SETTINGS, default=list(SETTINGS))
    parser.add_argument("--text", nargs="+", help="names of the texts, default all")
    options = parser.parse_args()
    found = texts(options.shakespeare)
    runs = json.loads(RESULT.read_text(encoding="utf-8"))["runs"] if RESULT.exists() else []
    for settings in options.settings:
        for name in options.text or found:
            if any((one["text"], one["settings"]) == (name, settings) for one in runs):
                continue
            runs.append(run(name, found[name], settings))
            print(runs[-1], file=sys.stderr, flush=True)
            record = benchmark_record(
                __file__,
                ["--shakespeare", "tinyshakespeare.txt"],
                task="size of the archive, which comes back equal to the byte",
                reproducible="every run gives these bytes",
                settings={key: dataclasses.asdict(value) for key, value in SETTINGS.items()},
                texts={
                    name: {
                        "bytes": len(data),
                        "others": {other: len(pack(data)) for other, pack in OTHERS.items()},
                    }
                    for name, data in found.items()
                },
                runs=runs,
            )
            write_record(record, RESULT)


if __name__ == "__main__":
    main()
