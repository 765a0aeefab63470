"""The commands ``start``, ``check``, ``release`` and ``grade``."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from seqbook.grading.keeping import Keeper

__all__ = ["add_commands"]

# Modules that import torch are imported by the commands that need them.

NOT_WRITTEN = 1


def add_commands(add: Callable[[str, Callable, str], argparse.ArgumentParser]) -> None:
    """Add the commands of students, authors and instructors to the command line."""
    start = add("start", _start, "get the exercises: their notebooks, into a folder")
    start.add_argument("folder", type=Path, metavar="FOLDER")

    release = add("release", _release, "make the exercises for students from their sources")
    release.add_argument("names", nargs="*", metavar="NAME", help="of exercises; all, if none")
    _add_exercises(release)


def _add_exercises(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "--exercises",
        type=Path,
        default=Path(__file__).parents[3] / "exercises",
        metavar="FOLDER",
        help="with the authors' sources (default: that of the repository)",
    )


def _start(options: argparse.Namespace) -> int:
    from seqbook.grading.exercises import ORDER, as_text, released

    keeper = Keeper(options.folder)
    for name in ORDER:
        keeper.write(options.folder / f"{name}.ipynb", as_text(released(name).notebook))
    _tell(keeper, "yours, and left alone")
    return 0


def _release(options: argparse.Namespace) -> int:
    from seqbook.grading.exercises import ORDER, Exercise

    target = Path(__file__).parent / "released"
    keeper = Keeper(target)
    for name in options.names or ORDER:
        if not (options.exercises / name / "checks.py").is_file():
            raise ValueError(
                f"--exercises: expected {name}/checks.py in {options.exercises}; the sources of "
                "the exercises are in the repository, not in the installed package"
            )
        for path, text in Exercise.load(options.exercises / name).release().files(target).items():
            keeper.write(path, text)
    _tell(keeper, "changed by hand, and left alone")
    return NOT_WRITTEN if keeper.left else 0


def _tell(keeper: Keeper, why_left: str) -> None:
    lines: Iterable[tuple[str, list[Any]]] = (
        ("written", keeper.written),
        ("there already", keeper.same),
        (why_left, keeper.left),
    )
    for what, paths in lines:
        for path in paths:
            print(f"{path}: {what}", file=sys.stderr if paths is keeper.left else sys.stdout)
