"""The command ``seqbook``: models of any pairs of sequences, and graded exercises."""

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
from typing import Any

from tqdm import tqdm

from seqbook.course import COURSE
from stepgrader.commands import add_commands

__all__ = ["main"]

# Modules that import torch are imported by the commands that need them, so that `--help` and a
# mistyped option answer at once.

UNITS = ("characters", "words", "jamo", "tagged")
MODELS = ("transformer", "rnn", "lstm", "gru")
BUILT_IN = {  # units of source and target
    "pronunciations": ("characters", "words"),
    "place_names": ("tagged", "jamo"),
}
INTERRUPTED = 130
AT_ONCE = 256


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; return its exit code."""
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
    except BrokenPipeError:  # what reads the results has seen enough
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
        prog="seqbook", description="Train and use models of sequences; do and grade the exercises."
    )
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    train = _command(commands, "train", _train, "train a model, or go on where it was interrupted")
    _add_task(train)
    for side in ("source", "target"):
        train.add_argument(
            f"--{side}-units",
            choices=UNITS,
            help=f"how a {side} is cut: into characters (the default); words, at blanks; jamo, "
            "which are the letters of Hangul syllables; or tagged, a first word and characters",
        )
    train.add_argument("--out", type=Path, required=True, metavar="FOLDER", help="of the run")
    train.add_argument("--model", choices=MODELS, default="transformer")
    for name, kind, text in (
        ("epochs", float, "how often each example is read"),
        ("batch", int, "examples in a batch"),
        ("learning-rate", float, "the largest step size"),
        ("warmup", int, "steps until it is reached"),
        ("label-smoothing", float, "share of probability spread over all symbols"),
        ("seed", int, "of weights, batches and dropout"),
    ):
        train.add_argument(f"--{name}", type=kind, metavar="N", help=text)
    train.add_argument(
        "--option",
        action="append",
        default=[],
        metavar="NAME=VALUE",
        help="of the model, such as d_model=64 or norm=post; may be repeated",
    )
    train.add_argument(
        "--threads", type=_count, default=1, metavar="N", help="of torch (default 1)"
    )

    evaluate = _command(commands, "evaluate", _evaluate, "score a trained model")
    _add_model(evaluate)
    _add_task(evaluate)
    evaluate.add_argument(
        "--part",
        choices=("training", "validation", "test", "all"),
        default="test",
        help="of the rows, as training parts them (default test); all for a file of new rows",
    )

    transcribe = _command(commands, "transcribe", _transcribe, "write a target for each source")
    _add_model(transcribe)
    transcribe.add_argument(
        "texts", nargs="*", metavar="TEXT", help="a source; by default lines of standard input"
    )
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
    command.add_argument("model", type=Path, metavar="MODEL", help="a run's folder or model.pt")
    command.add_argument(
        "--beam", type=_count, default=1, metavar="N", help="width (default 1, greedy)"
    )


def _count(text: str) -> int:
    if not (text.isdecimal() and int(text)):
        raise argparse.ArgumentTypeError(f"expected a whole number of at least 1, got {text!r}")
    return int(text)


def _train(options: argparse.Namespace) -> int:
    import torch

    from seqbook.training.runs import Run

    torch.set_num_threads(options.threads)
    units = _units(options)
    data = _data(options.task, units)
    run = Run(options.out, _recipe(options), data, task=Path(options.task).name, **units)
    before = run.progress
    path = options.out / "model.pt"
    if run.finished and path.exists():
        print(f"{path}: finished already, after {before.steps} steps", file=sys.stderr)
        return 0
    if (warmup := run.recipe.warmup) > before.steps / 2:
        print(
            f"{options.task}: gives {before.steps} steps in all, of which {warmup} are to warm up; "
            "try more --epochs or a smaller --warmup",
            file=sys.stderr,
        )
    if before.step:
        print(f"{options.out}: goes on after step {before.step}", file=sys.stderr)
    with (
        _asked_to_stop() as stop,
        tqdm(
            total=before.steps, initial=before.step, unit="step", mininterval=1, smoothing=0.01
        ) as bar,
    ):
        scored = len(before.history)

        def watch(progress) -> None:
            nonlocal scored
            bar.set_postfix_str(f"loss {progress.loss:.3f}", refresh=False)
            bar.update(progress.step - bar.n)
            for entry in progress.history[scored:]:
                bar.write(
                    f"step {entry['step']}, {entry['minutes']:.1f} min: validation word error "
                    f"{entry['word']:.2%}, symbol error {entry['symbol']:.2%}",
                    file=sys.stderr,
                )
            scored = len(progress.history)

        finished = run.train(watch=watch, stop=stop)
    if not finished:
        print(
            f"interrupted after step {run.progress.step} of {before.steps}; nothing is lost, the "
            "same command goes on from there",
            file=sys.stderr,
        )
        return INTERRUPTED
    made = run.result()
    made.record["command"] = options.command
    made.record["test"] = _scores(made, data.test, widths=(1, 5))
    (options.out / "record.json").write_text(
        json.dumps(made.record, indent=1, ensure_ascii=False) + "\n", encoding="utf-8"
    )
    made.save(path)  # last: with it the run counts as finished
    for line in _score_lines(made.record["test"]):
        print(line)
    print(f"{path}: {made.weights:,} weights, {path.stat().st_size / 1e6:.2f} MB")
    return 0


def _evaluate(options: argparse.Namespace) -> int:
    made = _load(options.model)
    units = {"source_units": made.source_units, "target_units": made.target_units}
    expected = BUILT_IN.get(options.task)
    if expected and expected != tuple(units.values()):
        raise ValueError(
            f"--task: {options.task} is cut into {' and '.join(expected)}, what the model learned "
            f"from into {' and '.join(units.values())}"
        )
    if options.part == "all":
        pairs = _pairs(options.task, units)
    else:
        pairs = getattr(_data(options.task, units), options.part)
    for line in _score_lines(_scores(made, pairs, widths=(options.beam,))):
        print(line)
    return 0


def _transcribe(options: argparse.Namespace) -> int:
    from seqbook.data.pairs import symbols

    made = _load(options.model)
    known, warned = set(made.vocabularies.source.symbols), set()
    texts = iter(options.texts or _lines())
    at_once = 1 if not options.texts and sys.stdin.isatty() else AT_ONCE
    while found := list(islice(texts, at_once)):
        cut = [symbols(text, made.source_units) for text in found]
        if new := sorted(set().union(*cut) - known - warned):
            shown = ", ".join(map(repr, new))
            print(f"seqbook: not among what the model learned from: {shown}", file=sys.stderr)
            warned.update(new)
        written = iter(
            made.transcribe([t for t, c in zip(found, cut, strict=True) if c], width=options.beam)
        )
        for text, some in zip(found, cut, strict=True):
            print(f"{text}\t{next(written) if some else ''}")
        sys.stdout.flush()
    return 0


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


def _load(path: Path) -> Any:
    from seqbook.models.transcriber import Transcriber

    if path.is_dir():
        path = path / "model.pt"
        if not path.exists():
            raise ValueError(f"{path}: expected a finished run, this one has no model yet")
    return Transcriber.load(path)


def _units(options: argparse.Namespace) -> dict[str, str]:
    """How the task's sources and targets are cut."""
    given = {"source_units": options.source_units, "target_units": options.target_units}
    if options.task not in BUILT_IN:
        return {side: units or "characters" for side, units in given.items()}
    fixed = dict(zip(given, BUILT_IN[options.task], strict=True))
    for side, units in given.items():
        if units not in (None, fixed[side]):
            raise ValueError(
                f"--{side.replace('_', '-')}: {options.task} is cut into {fixed[side]}, got {units}"
            )
    return fixed


def _data(task: str, units: dict[str, str]) -> Any:
    """The pairs of a task in three parts."""
    from seqbook.data import place_names, pronunciations
    from seqbook.data.pairs import split

    if task in BUILT_IN:
        return {"pronunciations": pronunciations, "place_names": place_names}[task].load()
    return split(_pairs(task, units))


def _pairs(task: str, units: dict[str, str]) -> list:
    from seqbook.data.pairs import read_pairs

    if task in BUILT_IN:
        return list(chain(*_data(task, units)))
    if not Path(task).exists():
        raise FileNotFoundError(
            f"--task: expected a file or one of {', '.join(BUILT_IN)}, got {task!r}"
        )
    return read_pairs(task, **units)


def _recipe(options: argparse.Namespace) -> Any:
    from seqbook.training.runs import RECIPES

    recipe = RECIPES[options.model]
    changes: dict[str, Any] = {}
    for name in ("epochs", "batch", "learning_rate", "warmup", "label_smoothing", "seed"):
        if (value := getattr(options, name)) is not None:
            changes[name] = value
    model_options = dict(recipe.options)
    for text in options.option:
        name, found, value = text.partition("=")
        if not found:
            raise ValueError(f"--option: expected NAME=VALUE, got {text!r}")
        model_options[name] = _value(value)
    return dataclasses.replace(recipe, options=model_options, **changes)


def _value(text: str) -> Any:
    with contextlib.suppress(json.JSONDecodeError):
        return json.loads(text)
    return text


def _scores(made: Any, pairs: Sequence, *, widths: Sequence[int]) -> list[dict[str, Any]]:
    """Word and symbol error on ``pairs`` for each width of the beam."""
    found = []
    for width in widths:
        with tqdm(total=len(pairs), unit="word", desc=f"beam {width}", leave=False) as bar:
            rates = made.score(pairs, width=width, progress=bar.update)
        entry = {"pairs": len(pairs), "beam": width}
        found.append(entry | {name: round(rate, 5) for name, rate in rates._asdict().items()})
    return found


def _score_lines(scores: Iterable[dict[str, Any]]) -> Iterator[str]:
    for score in scores:
        yield (
            f"{score['pairs']} sources, beam {score['beam']}: word error {score['word']:.2%}, "
            f"symbol error {score['symbol']:.2%}"
        )


@contextlib.contextmanager
def _asked_to_stop() -> Iterator[Callable[[], bool]]:
    """Ctrl-C and a polite kill end training after the step under way; a second one at once."""
    asked = False

    def ask(_number, _frame) -> None:
        nonlocal asked
        asked = True
        for number, handler in handlers.items():
            signal.signal(number, handler)
        os.write(2, b"\nstopping as soon as this step is saved; again stops without saving\n")

    handlers = {number: signal.signal(number, ask) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield lambda: asked
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)


if __name__ == "__main__":
    sys.exit(main())
