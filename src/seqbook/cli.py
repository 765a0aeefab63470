"""The command ``seqbook``: models of pairs of sequences, graded exercises, and compression."""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import functools
import io
import json
import os
import shlex
import signal
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import chain, islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tqdm import tqdm

from seqbook.data.pairs import LEVELS, Pair, Split, clean, read_pairs, split
from seqbook.exercises import COURSE
from seqbook.training.recipes import RECIPES, Recipe
from stepgrader.atomic_files import write_whole
from stepgrader.commands import add_commands

if TYPE_CHECKING:
    from seqbook.models.transcriber import Transcriber
    from seqbook.training.runs import Run

__all__ = ["main"]

# Modules that import torch are imported by the commands that need them, so that `--help` and a
# mistyped option answer at once.

BUILT_IN = {  # levels of source and target
    "pronunciations": ("characters", "words"),
    "place_names": ("tagged", "jamo"),
}
SHARES = {"validation": 0.05, "test": 0.1}  # of the rows of a file
MODEL_FILE = "model.safetensors"
ARCHIVE_ENDING = ".sqbk"
COMPRESSION_SETTINGS = ("standard", "full", "network")
LONG = 50_000  # bytes from which compression shows how far it is
INTERRUPTED = 130
BATCH = 256


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; return its exit code.

    Example:
        >>> import contextlib
        >>> from tempfile import TemporaryDirectory
        >>> with TemporaryDirectory() as folder, contextlib.redirect_stdout(io.StringIO()):
        ...     code = main(["start", folder])
        ...     notebooks = sorted(path.name for path in Path(folder).glob("*.ipynb"))
        >>> code, notebooks[0]
        (0, 'attention.ipynb')
    """
    arguments = sys.argv[1:] if arguments is None else arguments
    parser = _parser()
    options, rest = parser.parse_known_args(arguments)
    if hasattr(options, "texts") and not any(text.startswith("-") for text in rest):
        options.texts += rest  # argparse leaves those that stand behind an option
    elif rest:
        parser.error(f"unrecognized arguments: {' '.join(rest)}")
    options.command = shlex.join(["seqbook", *arguments])
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(encoding="utf-8")
    try:
        code = options.run(options)
        sys.stdout.flush()
        return code
    except BrokenPipeError:  # the reader of the results has closed the pipe
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except KeyboardInterrupt:
        print("seqbook: interrupted", file=sys.stderr)
        return INTERRUPTED
    except (OSError, ValueError, ArithmeticError) as error:
        print(f"seqbook: {error}", file=sys.stderr)
        return 1


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="seqbook",
        description="Train and use models of sequences; do and grade the exercises; compress "
        "files.",
    )
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    train = _command(
        commands, "train", _train, "train a model, or resume a run where it was interrupted"
    )
    _add_task(train)
    for part in ("validation", "test"):
        train.add_argument(
            f"--{part}",
            type=Path,
            metavar="FILE",
            help=f"{part} rows in a separate file; then no row of --task is held back unless "
            f"--{part}-share is given",
        )
        train.add_argument(
            f"--{part}-share",
            type=float,
            metavar="X",
            help=f"share of the rows of --task that are held back for the {part} (default "
            f"{SHARES[part]}; 0 if --validation or --test names a file)",
        )
    for side in ("source", "target"):
        train.add_argument(
            f"--{side}-level",
            choices=LEVELS,
            help=f"symbols of a {side}: characters (the default); words, between spaces; jamo, "
            "which are the letters of Hangul syllables; or tagged, a first word and characters",
        )
    train.add_argument(
        "--out", type=Path, required=True, metavar="FOLDER", help="folder of the run"
    )
    train.add_argument("--model", choices=RECIPES, default="transformer")
    for name, kind, text in (
        ("epochs", float, "number of times each example is read"),
        ("batch", int, "examples in a batch"),
        ("learning-rate", float, "largest step size"),
        ("warmup", int, "steps until it is reached"),
        ("label-smoothing", float, "probability spread over all symbols"),
        ("seed", int, "seed of weights, batches and dropout"),
    ):
        train.add_argument(f"--{name}", type=kind, metavar="N", help=text)
    train.add_argument(
        "--option",
        action="append",
        default=[],
        metavar="NAME=VALUE",
        help="option of the model, such as d_model=64 or norm=post; may be repeated",
    )
    train.add_argument(
        "--threads", type=_count, default=1, metavar="N", help="threads of torch (default 1)"
    )
    _add_device(train)

    evaluate = _command(commands, "evaluate", _evaluate, "score a trained model")
    _add_model(evaluate)
    _add_task(evaluate)
    evaluate.add_argument(
        "--part",
        choices=("training", "validation", "test", "all"),
        help="rows to score, split as for training (default: test; or all, if the model was "
        "trained with a test file of its own)",
    )

    transcribe = _command(commands, "transcribe", _transcribe, "write a target for each source")
    _add_model(transcribe)
    transcribe.add_argument(
        "texts", nargs="*", metavar="TEXT", help="a source; by default lines of standard input"
    )
    compress = _command(commands, "compress", _compress, "compress a file without loss")
    compress.add_argument("file", type=Path, metavar="FILE", help="any file")
    compress.add_argument(
        "--settings",
        choices=COMPRESSION_SETTINGS,
        default="standard",
        help="standard (the default); full, more contexts, for smaller archives; or network, also "
        "with a GRU that learns from the file, by far the slowest",
    )
    _add_output(compress, f"default: FILE{ARCHIVE_ENDING}")
    decompress = _command(
        commands, "decompress", _decompress, "get back a file that seqbook has compressed"
    )
    decompress.add_argument("file", type=Path, metavar="FILE", help="the archive")
    _add_output(decompress, f"default: FILE without its ending {ARCHIVE_ENDING}")
    add_commands(COURSE, functools.partial(_command, commands))
    return parser


def _command(commands: Any, name: str, run: Callable, text: str) -> argparse.ArgumentParser:
    command = commands.add_parser(name, help=text, description=text.capitalize() + ".")
    command.set_defaults(run=run)
    return command


def _add_task(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "--task",
        required=True,
        metavar="FILE",
        help="rows of source, tab, target, in UTF-8; or one of the book's: " + ", ".join(BUILT_IN),
    )


def _add_model(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "model", type=Path, metavar="MODEL", help="folder of a run, or its model.safetensors"
    )
    command.add_argument(
        "--beam", type=_count, default=1, metavar="N", help="width of the beam (default 1, greedy)"
    )
    _add_device(command)


def _add_output(command: argparse.ArgumentParser, default: str) -> None:
    command.add_argument("--out", type=Path, metavar="FILE", help=f"file to write ({default})")
    command.add_argument(
        "--force", action="store_true", help="overwrite the output if there is such a file"
    )


def _add_device(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "--device",
        default="cpu",
        metavar="NAME",
        help="device to compute on: cpu (the default), cuda, cuda:1, mps",
    )


def _count(text: str) -> int:
    if not (text.isdecimal() and int(text)):
        raise argparse.ArgumentTypeError(f"expected a whole number of at least 1, got {text!r}")
    return int(text)


def _train(options: argparse.Namespace) -> int:
    import torch

    from seqbook.training.runs import Run

    torch.set_num_threads(options.threads)
    levels = _levels(options)
    parts, data = _parts(options, levels)
    run = Run(
        options.out,
        _recipe(options),
        data,
        task=Path(options.task).name,
        parts=parts,
        device=options.device,
        source_level=levels["source_level"],
        target_level=levels["target_level"],
    )
    before = run.progress
    path = options.out / MODEL_FILE
    if run.finished and path.exists():
        print(f"{path}: finished already, after {before.steps} steps", file=sys.stderr)
        return 0
    _warn(options, data, warmup=run.recipe.warmup, steps=before.steps)
    if before.step:
        print(f"{options.out}: resumes after step {before.step}", file=sys.stderr)
    _train_until_stopped(run)
    if not run.finished:
        print(
            f"interrupted after step {run.progress.step} of {before.steps}; nothing is lost, the "
            "same command resumes from there",
            file=sys.stderr,
        )
        return INTERRUPTED
    transcriber = run.result()
    transcriber.record["command"] = options.command
    transcriber.record["test"] = _scores(transcriber, data.test, widths=(1, 5))
    (options.out / "record.json").write_text(
        json.dumps(transcriber.record, indent=1, ensure_ascii=False) + "\n", encoding="utf-8"
    )
    transcriber.save(path)  # last: with it the run counts as finished
    for line in _score_lines(transcriber.record["test"]):
        print(line)
    print(f"{path}: {transcriber.weights:,} weights, {path.stat().st_size / 1e6:.2f} MB")
    return 0


def _train_until_stopped(run: Run) -> None:
    """Train with a progress bar, to the end or until the user asks to stop."""
    start = run.progress
    scored = len(start.history)
    with (
        _asked_to_stop() as stop,
        tqdm(
            total=start.steps, initial=start.step, unit="step", mininterval=1, smoothing=0.01
        ) as bar,
    ):
        for progress in run:
            bar.set_postfix_str(f"loss {progress.loss:.3f}", refresh=False)
            bar.update(progress.step - bar.n)
            for entry in progress.history[scored:]:
                bar.write(
                    f"step {entry['step']}, {entry['minutes']:.1f} min: validation word error "
                    f"{entry['word']:.2%}, symbol error {entry['symbol']:.2%}",
                    file=sys.stderr,
                )
            scored = len(progress.history)
            if stop():
                run.save()
                break


def _warn(options: argparse.Namespace, data: Split, *, warmup: int, steps: int) -> None:
    """Warn of settings and rows that spoil a run or its scores."""
    if warmup > steps / 2:
        print(
            f"{options.task}: gives {steps} steps in all, of which {warmup} are to warm up; "
            "try more --epochs or a smaller --warmup",
            file=sys.stderr,
        )
    known = {pair.source for pair in data.training}
    for part in ("validation", "test"):
        if path := getattr(options, part):
            pairs = getattr(data, part)
            if shared := sum(pair.source in known for pair in pairs):
                print(
                    f"{path}: {shared} of {len(pairs)} sources are training sources too, so that "
                    "the score is better than on new ones",
                    file=sys.stderr,
                )


def _evaluate(options: argparse.Namespace) -> int:
    transcriber = _load(options)
    levels = {
        "source_level": transcriber.source_level,
        "target_level": transcriber.target_level,
    }
    expected = BUILT_IN.get(options.task)
    if expected and expected != tuple(levels.values()):
        raise ValueError(
            f"--task: the levels of {options.task} are {' and '.join(expected)}, those of the "
            f"model {' and '.join(levels.values())}"
        )
    parts = transcriber.record.get("parts") or SHARES
    separate = {part: name for part, name in parts.items() if isinstance(name, str)}
    part = options.part or ("all" if "test" in separate and not expected else "test")
    if part == "all":
        pairs = _pairs(options.task, levels)
    elif part in separate and not expected:
        raise ValueError(
            f"--part: the {part} rows of this model were in a file of their own, {separate[part]}; "
            "score it with --task FILE --part all"
        )
    elif expected:
        pairs = getattr(_built_in(options.task), part)
    else:
        held_back = {name: 0.0 if name in separate else parts[name] for name in SHARES}
        pairs = getattr(_split(_pairs(options.task, levels), held_back), part)
    if not pairs:
        raise ValueError(f"--part: expected {part} rows, got none: no row was held back for it")
    for line in _score_lines(_scores(transcriber, pairs, widths=(options.beam,))):
        print(line)
    return 0


def _transcribe(options: argparse.Namespace) -> int:
    transcriber = _load(options)
    known = set(transcriber.vocabularies.source.symbols)
    warned: set[str] = set()
    texts = map(clean, options.texts or _lines())
    batch = 1 if not options.texts and sys.stdin.isatty() else BATCH
    while chunk := list(islice(texts, batch)):
        symbols = {symbol for text in chunk for symbol in transcriber.tokenize(text)}
        if unknown := sorted(symbols - known - warned):
            quoted = ", ".join(map(repr, unknown))
            print(f"seqbook: not among the model's symbols: {quoted}", file=sys.stderr)
            warned.update(unknown)
        for text, target in zip(
            chunk, transcriber.transcribe(chunk, beam_width=options.beam), strict=True
        ):
            print(f"{text}\t{target}")
        sys.stdout.flush()
    return 0


def _compress(options: argparse.Namespace) -> int:
    from seqbook.compression.archive import compress

    path = options.out or options.file.with_name(options.file.name + ARCHIVE_ENDING)
    _refuse_to_overwrite(path, options)
    data = options.file.read_bytes()
    with _byte_bar(len(data)) as bar:
        archive = compress(data, settings=options.settings, progress=bar.update)
    write_whole(path, archive)
    share = f", {8 * len(archive) / len(data):.3f} bits per byte" if data else ""
    print(f"{path}: {len(data):,} bytes became {len(archive):,}{share}")
    return 0


def _decompress(options: argparse.Namespace) -> int:
    from seqbook.compression.archive import DamagedArchiveError, decompress, read_header

    path = options.out
    if path is None:
        if options.file.suffix != ARCHIVE_ENDING:
            raise ValueError(
                f"--out: expected a name for the output, as {options.file} does not end in "
                f"{ARCHIVE_ENDING}"
            )
        path = options.file.with_suffix("")
    _refuse_to_overwrite(path, options)
    archive = options.file.read_bytes()
    try:
        with _byte_bar(read_header(archive).length) as bar:
            data = decompress(archive, progress=bar.update)
    except DamagedArchiveError as error:
        raise ValueError(f"{options.file}: {error}; nothing was written") from None
    write_whole(path, data)
    print(f"{path}: {len(archive):,} bytes became {len(data):,}; the checksum is right")
    return 0


def _refuse_to_overwrite(path: Path, options: argparse.Namespace) -> None:
    itself = path.exists() and options.file.exists() and path.samefile(options.file)
    if itself or (path.exists() and not options.force):
        hint = "" if itself else ", or --force to overwrite it"
        raise FileExistsError(f"--out: {path} exists already; give another name{hint}")


def _byte_bar(total: int) -> tqdm:
    """A progress bar, shown if the file takes more than a moment."""
    return tqdm(
        total=total, unit="B", unit_scale=True, mininterval=1, disable=total <= LONG, leave=False
    )


def _lines() -> Iterator[str]:
    """The lines of standard input, in UTF-8 whatever the locale."""
    for number, line in enumerate(sys.stdin.buffer, start=1):
        try:
            text = line.decode("utf-8-sig" if number == 1 else "utf-8")
        except UnicodeDecodeError as error:
            raise ValueError(
                f"standard input, line {number}: expected UTF-8, got byte "
                f"{error.object[error.start]:#04x}"
            ) from None
        yield text.rstrip("\r\n")


def _load(options: argparse.Namespace) -> Transcriber:
    from seqbook.models.transcriber import Transcriber

    path = options.model
    if path.is_dir():
        path = path / MODEL_FILE
        if not path.exists():
            raise ValueError(f"{path}: expected a finished run, this one has no model yet")
    return Transcriber.load(path, device=options.device)


def _levels(options: argparse.Namespace) -> dict[str, str]:
    """Levels of the task's sources and targets."""
    given = {"source_level": options.source_level, "target_level": options.target_level}
    if options.task not in BUILT_IN:
        return {side: level or "characters" for side, level in given.items()}
    fixed = dict(zip(given, BUILT_IN[options.task], strict=True))
    for side, level in given.items():
        if level not in (None, fixed[side]):
            raise ValueError(
                f"--{side.replace('_', '-')}: that of {options.task} is {fixed[side]}, got {level}"
            )
    return fixed


def _parts(
    options: argparse.Namespace, levels: dict[str, str]
) -> tuple[dict[str, float | str], Split]:
    """Where validation and test rows are from, for the record; and the three parts."""
    files = {part: getattr(options, part) for part in SHARES}
    shares = {part: getattr(options, f"{part}_share") for part in SHARES}
    for part in SHARES:
        if options.task in BUILT_IN and (files[part] or shares[part] is not None):
            raise ValueError(
                f"--{part}{'' if files[part] else '-share'}: {options.task} has its own "
                "validation and test rows"
            )
        if files[part] and shares[part]:
            raise ValueError(f"--{part}-share: expected no share beside a file, --{part}")
    if options.task in BUILT_IN:
        return {}, _built_in(options.task)
    default = dict.fromkeys(SHARES, 0.0) if any(files.values()) else SHARES
    held_back = {part: default[part] if shares[part] is None else shares[part] for part in SHARES}
    data = _split(_pairs(options.task, levels), held_back)
    separate = {part: read_pairs(path, **levels) for part, path in files.items() if path}
    parts = {part: files[part].name if files[part] else held_back[part] for part in SHARES}
    return parts, data._replace(**separate)


def _split(pairs: Sequence[Pair], shares: dict[str, float]) -> Split:
    return split(pairs, validation_share=shares["validation"], test_share=shares["test"])


def _built_in(task: str) -> Split:
    from seqbook.data import place_names, pronunciations

    return {"pronunciations": pronunciations, "place_names": place_names}[task].load()


def _pairs(task: str, levels: dict[str, str]) -> list[Pair]:
    """All pairs of a task."""
    if task in BUILT_IN:
        return list(chain(*_built_in(task)))
    if not Path(task).exists():
        raise FileNotFoundError(
            f"--task: expected a file or one of {', '.join(BUILT_IN)}, got {task!r}"
        )
    return read_pairs(task, **levels)


def _recipe(options: argparse.Namespace) -> Recipe:
    recipe = RECIPES[options.model]
    changes: dict[str, Any] = {}
    for name in ("epochs", "batch", "learning_rate", "warmup", "label_smoothing", "seed"):
        if (value := getattr(options, name)) is not None:
            changes[name] = value
    model_options = dict(recipe.options)
    for text in options.option:
        name, separator, value = text.partition("=")
        if not separator:
            raise ValueError(f"--option: expected NAME=VALUE, got {text!r}")
        model_options[name] = _value(value)
    return dataclasses.replace(recipe, options=model_options, **changes)


def _value(text: str) -> Any:
    with contextlib.suppress(json.JSONDecodeError):
        return json.loads(text)
    return text


def _scores(
    transcriber: Transcriber, pairs: Sequence[Pair], *, widths: Sequence[int]
) -> list[dict[str, Any]]:
    """Word and symbol error on ``pairs`` for each width of the beam; none for no pairs."""
    from seqbook.training.scoring import score

    scores = []
    for width in widths if pairs else ():
        with tqdm(total=len(pairs), unit="word", desc=f"beam {width}", leave=False) as bar:
            rates = score(transcriber, pairs, beam_width=width, progress=bar.update)
        scores.append({"pairs": len(pairs), "beam": width} | rates)
    return scores


def _score_lines(scores: Iterable[dict[str, Any]]) -> Iterator[str]:
    for score in scores:
        yield (
            f"{score['pairs']} sources, beam {score['beam']}: word error {score['word']:.2%}, "
            f"symbol error {score['symbol']:.2%}"
        )


@contextlib.contextmanager
def _asked_to_stop() -> Iterator[Callable[[], bool]]:
    """End training after the current step on SIGINT or SIGTERM, and at once on a second one."""
    stop_requested = False

    def request_stop(_number: int, _frame: object) -> None:
        nonlocal stop_requested
        stop_requested = True
        for number, handler in handlers.items():
            signal.signal(number, handler)
        os.write(2, b"\nstopping as soon as this step is saved; again stops without saving\n")

    handlers = {
        number: signal.signal(number, request_stop) for number in (signal.SIGINT, signal.SIGTERM)
    }
    try:
        yield lambda: stop_requested
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)


if __name__ == "__main__":
    sys.exit(main())
