"""The command ``seqbook``: train, evaluate and use encoder-decoders on any pairs of sequences."""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import json
import os
import shlex
import signal
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from tqdm import tqdm

__all__ = ["main"]

# Modules that import torch are imported by the commands that need them, so that `--help` and a
# mistyped option answer at once.

UNITS = ("characters", "words", "jamo")
MODELS = ("transformer", "lstm", "gru", "rnn")
BUILT_IN = ("pronunciations", "place_names")
INTERRUPTED = 130


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; return its exit code."""
    arguments = sys.argv[1:] if arguments is None else arguments
    options = _parser().parse_args(arguments)
    options.command = shlex.join(["seqbook", *arguments])
    try:
        return options.run(options)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except (OSError, ValueError, ArithmeticError) as error:
        print(f"seqbook: {error}", file=sys.stderr)
        return 1


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="seqbook", description="Learn to map sequences to sequences, and use what was learned."
    )
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    train = _command(commands, "train", _train, "train a model, or go on where it was interrupted")
    _add_task(train, required=True)
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
        help="of the model, such as width=64 or norm=post; may be repeated",
    )
    train.add_argument("--threads", type=int, default=1, metavar="N", help="of torch (default 1)")

    evaluate = _command(commands, "evaluate", _evaluate, "score a trained model")
    evaluate.add_argument("model", type=Path, help="the file model.pt of a run")
    _add_task(evaluate, required=True)
    evaluate.add_argument(
        "--part", choices=("training", "validation", "test", "all"), default="test"
    )
    evaluate.add_argument("--beam", type=int, default=1, metavar="N", help="width (default 1)")

    transcribe = _command(commands, "transcribe", _transcribe, "write a target for each source")
    transcribe.add_argument("model", type=Path, help="the file model.pt of a run")
    transcribe.add_argument("texts", nargs="*", help="sources; by default lines of standard input")
    transcribe.add_argument("--beam", type=int, default=1, metavar="N", help="width (default 1)")
    return parser


def _command(commands: Any, name: str, run: Callable, text: str) -> argparse.ArgumentParser:
    command = commands.add_parser(name, help=text, description=text.capitalize() + ".")
    command.set_defaults(run=run)
    return command


def _add_task(command: argparse.ArgumentParser, *, required: bool) -> None:
    command.add_argument(
        "--task",
        required=required,
        metavar="FILE",
        help="rows of source, tab, target, in UTF-8; or one of the book's: " + ", ".join(BUILT_IN),
    )
    for side in ("source", "target"):
        command.add_argument(
            f"--{side}-units",
            choices=UNITS,
            help="how a text is cut: into characters (the default), into words at blanks, or "
            "into jamo, which takes Hangul syllables apart",
        )


def _train(options: argparse.Namespace) -> int:
    import torch

    from seqbook.runs import Run

    torch.set_num_threads(options.threads)
    data, units = _data(options)
    run = Run(options.out, _recipe(options), data, task=options.task, **units)
    before = run.progress
    path = options.out / "model.pt"
    if run.finished and path.exists():
        print(f"{path}: finished already, after {before.steps} steps", file=sys.stderr)
        return 0
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
    made.save(path)
    (options.out / "record.json").write_text(
        json.dumps(made.record, indent=1, ensure_ascii=False) + "\n", encoding="utf-8"
    )
    for line in _score_lines(made.record["test"]):
        print(line)
    print(f"{path}: {made.weights:,} weights, {path.stat().st_size / 1e6:.1f} MB")
    return 0


def _evaluate(options: argparse.Namespace) -> int:
    from seqbook.transcriber import Transcriber

    made = Transcriber.load(options.model)
    for side in ("source", "target"):
        if getattr(options, f"{side}_units") is None:
            setattr(options, f"{side}_units", getattr(made, f"{side}_units"))
    if options.part == "all" and options.task not in BUILT_IN:
        pairs = _pairs(options)
    else:
        data, _ = _data(options)
        parts = data if options.part == "all" else (getattr(data, options.part),)
        pairs = [pair for part in parts for pair in part]
    for line in _score_lines(_scores(made, pairs, widths=(options.beam,))):
        print(line)
    return 0


def _transcribe(options: argparse.Namespace) -> int:
    from seqbook.transcriber import Transcriber

    made = Transcriber.load(options.model)
    texts = options.texts or [line.rstrip("\n") for line in sys.stdin]
    for text in texts:
        if not text.strip():
            print(f"{text}\t")
            continue
        (written,) = made.transcribe([text], width=options.beam)
        print(f"{text}\t{written}", flush=True)
    return 0


def _data(options: argparse.Namespace) -> tuple[Any, dict[str, str]]:
    """The pairs of the task in three parts, and the units they are cut into."""
    from seqbook.data import place_names, pronunciations
    from seqbook.pairs import split

    if options.task == "pronunciations":
        return pronunciations.load(), {"source_units": "characters", "target_units": "words"}
    if options.task == "place_names":
        return place_names.load(), {"source_units": "characters", "target_units": "jamo"}
    pairs = _pairs(options)
    return split(pairs), {
        "source_units": options.source_units or "characters",
        "target_units": options.target_units or "characters",
    }


def _pairs(options: argparse.Namespace) -> list:
    from seqbook.pairs import read_pairs

    return read_pairs(
        options.task,
        source_units=options.source_units or "characters",
        target_units=options.target_units or "characters",
    )


def _recipe(options: argparse.Namespace) -> Any:
    from seqbook.runs import RECIPES

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


def _score_lines(scores: Sequence[dict[str, Any]]) -> Iterator[str]:
    for score in scores:
        yield (
            f"{score['pairs']} sources, beam {score['beam']}: word error {score['word']:.2%}, "
            f"symbol error {score['symbol']:.2%}"
        )


@contextlib.contextmanager
def _asked_to_stop() -> Iterator[Callable[[], bool]]:
    """Ctrl-C and a polite kill end training after the step under way, not inside it."""
    asked = False

    def ask(_number, _frame) -> None:
        nonlocal asked
        asked = True

    handlers = {number: signal.signal(number, ask) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield lambda: asked
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)


if __name__ == "__main__":
    sys.exit(main())
