"""The authors' exercises as a batch needs them: read when asked for, and compiled once.

To compile an exercise takes about a second. So the outcome is stored in the folder of the grades,
and used again by the next batch with the same sources, seed, grader and libraries. It holds the
hidden cases: nobody else may read it, and a file that somebody else could have written is not used.
"""

from __future__ import annotations

import hashlib
import json
import os
import platform
import stat
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

from stepgrader.atomic_files import write_whole
from stepgrader.exercises import Exercise, Released
from stepgrader.steps import CompiledStep

__all__ = [
    "AuthoredExercises",
    "Compiled",
    "CompiledExercises",
    "ExerciseError",
    "grader_digest",
    "versions",
]

LIBRARIES = ("torch", "numpy")  # another version may compute other digits
OTHERS = stat.S_IRWXG | stat.S_IRWXO


class ExerciseError(ValueError):
    """An author's exercise can't be read or compiled, so nothing can be graded with it.

    Example:
        >>> raise ExerciseError("lstm: the reference of forget_gate raises ValueError")
        Traceback (most recent call last):
        ...
        stepgrader.compiled.ExerciseError: lstm: the reference of forget_gate raises ValueError
    """


class AuthoredExercises(Mapping[str, Exercise]):
    """The exercises in an authors' folder by their names, each read when it is asked for.

    Args:
        folder: The folder, with a subfolder for each exercise.
        names: Names of the exercises.
        code: Files and folders of the code that the exercises import, beside libraries.

    Example:
        >>> exercises = AuthoredExercises(Path("exercises"), ["lstm", "gru"])
        >>> "lstm" in exercises, list(exercises)  # nothing was read
        (True, ['lstm', 'gru'])
    """

    def __init__(self, folder: Path, names: Sequence[str], code: Sequence[Path] = ()):
        self._folders = {name: folder / name for name in names}
        self._code = tuple(code)
        self._read: dict[str, Exercise] = {}

    def __getitem__(self, name: str) -> Exercise:
        if name not in self._read:
            folder = self._folders[name]
            try:
                self._read[name] = Exercise.load(folder)
            except Exception as error:
                raise ExerciseError(f"{folder}: {type(error).__name__}: {error}") from error
        return self._read[name]

    def __contains__(self, name: object) -> bool:
        return name in self._folders

    def __iter__(self) -> Iterator[str]:
        return iter(self._folders)

    def __len__(self) -> int:
        return len(self._folders)

    def digest(self, name: str) -> str:
        """Return a digest of the source of an exercise and of the code that it imports."""
        return _digest_of_files([self._folders[name], *self._code])


@dataclass(frozen=True)
class Compiled:
    """An exercise that is compiled with hidden cases.

    Args:
        released: What students have.
        steps: The steps with all cases.
        solutions: The author's code for each step, by its name.
        digest: A digest of all three.

    Example:
        >>> compiled = Compiled.of(Released("lstm", {"cells": []}, []), [], {})
        >>> len(compiled.digest)
        64
    """

    released: Released
    steps: list[CompiledStep]
    solutions: dict[str, str]
    digest: str

    @classmethod
    def of(
        cls, released: Released, steps: list[CompiledStep], solutions: dict[str, str]
    ) -> Compiled:
        """Return an exercise that was just compiled."""
        facts = json.dumps([released.notebook, [asdict(step) for step in steps], solutions])
        return cls(released, steps, solutions, hashlib.sha256(facts.encode()).hexdigest())

    def as_data(self) -> dict[str, Any]:
        """Return the exercise as JSON data."""
        return {
            "name": self.released.name,
            "notebook": self.released.notebook,
            "steps": [asdict(step) for step in self.steps],
            "solutions": self.solutions,
            "digest": self.digest,
        }

    @classmethod
    def from_data(cls, data: Mapping[str, Any]) -> Compiled:
        """Return the exercise that ``as_data`` was called on."""
        steps = [CompiledStep(**step) for step in data["steps"]]
        released = Released(data["name"], data["notebook"], [step.visible for step in steps])
        return cls(released, steps, data["solutions"], data["digest"])


class CompiledExercises:
    """Exercises with hidden cases, each compiled when it is first asked for, or read from a store.

    Args:
        exercises: The exercises.
        seed: Seed of the hidden cases.
        store: Folder for what was compiled, of which other users see nothing.

    Example:
        >>> compiled = CompiledExercises(AuthoredExercises(Path("e"), []), 1, Path("grades/cases"))
        >>> len(compiled.exercises)
        0
    """

    def __init__(self, exercises: AuthoredExercises, seed: int, store: Path):
        self.exercises = exercises
        self._seed = seed
        self._store = store
        self._compiled: dict[str, Compiled] = {}

    def __getitem__(self, name: str) -> Compiled:
        if name not in self._compiled:
            self._compiled[name] = self._stored(name) or self._compile(name)
        return self._compiled[name]

    def _compile(self, name: str) -> Compiled:
        print(f"Sampling the cases of {name}.", file=sys.stderr)
        exercise = self.exercises[name]
        try:
            steps = exercise.compile(self._seed)
        except Exception as error:
            raise ExerciseError(f"{name}: {type(error).__name__}: {error}") from error
        compiled = Compiled.of(exercise.release(steps), steps, exercise.solutions)
        if _is_private_folder(self._store):
            body = json.dumps(compiled.as_data()).encode()
            content = self._seal(name, body) + b"\n" + body
            write_whole(self._path(name), content, mode=stat.S_IRUSR | stat.S_IWUSR)
        return compiled

    def _stored(self, name: str) -> Compiled | None:
        """Return what was stored for these sources and this seed; None if there is nothing."""
        if not _is_private_folder(self._store):
            return None
        seal, _, body = _read_private(self._path(name)).partition(b"\n")
        if seal != self._seal(name, body):
            return None
        return Compiled.from_data(json.loads(body))

    def _seal(self, name: str, body: bytes) -> bytes:
        """Return a digest of what is stored and of everything that it was made from."""
        facts: list[Any] = [name, self._seed, self.exercises.digest(name), *versions().values()]
        return hashlib.sha256(json.dumps(facts).encode() + body).hexdigest().encode()

    def _path(self, name: str) -> Path:
        return self._store / f"{name}.json"


def versions() -> dict[str, str]:
    """Return the versions of what a result depends on, beside the exercise and the answers.

    Example:
        >>> list(versions())
        ['stepgrader', 'python', 'torch', 'numpy']
    """
    return {
        "stepgrader": grader_digest(),
        "python": platform.python_version(),
        **{name: version(name) for name in LIBRARIES},
    }


def grader_digest() -> str:
    """Return a digest of this package: another version may grade differently.

    Example:
        >>> len(grader_digest())
        64
    """
    return _digest_of_files([Path(__file__).parent])


def _digest_of_files(roots: Sequence[Path]) -> str:
    digest = hashlib.sha256()
    for root in roots:
        for path in sorted(root.rglob("*")) if root.is_dir() else [root]:
            if path.is_file() and "__pycache__" not in path.parts:
                content = hashlib.sha256(path.read_bytes()).digest()
                digest.update(path.relative_to(root).as_posix().encode() + b"\0" + content)
    return digest.hexdigest()


def _is_private_folder(folder: Path) -> bool:
    """Return whether a folder, which is created if it does not exist, is ours alone."""
    folder.mkdir(mode=stat.S_IRWXU, parents=True, exist_ok=True)
    status = folder.lstat()
    return stat.S_ISDIR(status.st_mode) and _is_private(status)


def _read_private(path: Path) -> bytes:
    """Return the content of a file of ours alone; nothing if it is not."""
    try:
        with open(os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK), "rb") as file:
            status = os.fstat(file.fileno())
            return file.read() if stat.S_ISREG(status.st_mode) and _is_private(status) else b""
    except OSError:
        return b""


def _is_private(status: os.stat_result) -> bool:
    return status.st_uid == os.geteuid() and not status.st_mode & OTHERS
