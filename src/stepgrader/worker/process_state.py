"""What answers share in a process, and how it is reset before one of them is called.

An answer that calls ``torch.set_grad_enabled(False)``, or puts a function of its own in the place
of ``math.sqrt``, would change the results of all later steps. So every case begins with the usual
settings, and every answer finds the functions of libraries as they were.
"""

from __future__ import annotations

import cmath
import contextlib
import functools
import math
import random
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import numpy as np
import torch

__all__ = [
    "Libraries",
    "changed_settings",
    "original_libraries",
    "reset_settings",
    "seed_generators",
    "seeded",
    "usual_settings",
]

ABSENT = object()  # in the place of what a class does not define itself
MODULES: tuple[Any, ...] = (
    *(cmath, math, random, np, np.linalg, np.random, torch, torch.nn),
    *(torch.nn.functional, torch.nn.init, torch.linalg, torch.special),
)


def _default_device() -> str:
    return str(torch.get_default_device())


def _set_default_device(device: str) -> None:
    torch.set_default_device(None if device == "cpu" else device)


def _set_numpy_errors(handling: dict[str, Any]) -> None:
    np.seterr(**handling)


# The name that a student knows, how to ask and how to set, and the usual value.
SETTINGS: list[tuple[str, Callable[[], Any], Callable[[Any], Any], Any]] = [
    ("torch.set_grad_enabled", torch.is_grad_enabled, torch.set_grad_enabled, True),
    ("torch.set_default_dtype", torch.get_default_dtype, torch.set_default_dtype, torch.float32),
    ("torch.set_default_device", _default_device, _set_default_device, "cpu"),
    (
        "torch.use_deterministic_algorithms",
        torch.are_deterministic_algorithms_enabled,
        torch.use_deterministic_algorithms,
        False,
    ),
    (
        "torch.set_float32_matmul_precision",
        torch.get_float32_matmul_precision,
        torch.set_float32_matmul_precision,
        "highest",
    ),
    (
        "torch.autograd.set_detect_anomaly",
        torch.is_anomaly_enabled,
        torch.set_anomaly_enabled,
        False,
    ),
    (
        "numpy.seterr",
        np.geterr,
        _set_numpy_errors,
        {"divide": "warn", "over": "warn", "under": "ignore", "invalid": "warn"},
    ),
]


def changed_settings() -> list[str]:
    """Return the names of the settings that are not the usual ones.

    Example:
        >>> with torch.no_grad():
        ...     changed_settings()
        ['torch.set_grad_enabled']
    """
    return [name for name, ask, _, usual in SETTINGS if ask() != usual]


@contextlib.contextmanager
def usual_settings() -> Iterator[None]:
    """Run code with the usual settings of torch and NumPy, whatever they are outside.

    Example:
        >>> with torch.no_grad():
        ...     with usual_settings():
        ...         print(torch.is_grad_enabled())
        ...     print(torch.is_grad_enabled())
        True
        False
    """
    before = [ask() for _, ask, _, _ in SETTINGS]
    reset_settings()
    try:
        yield
    finally:
        _set(before)


def reset_settings() -> None:
    """Give all settings their usual values.

    Example:
        >>> torch.set_default_dtype(torch.float64)
        >>> reset_settings()
        >>> torch.get_default_dtype()
        torch.float32
    """
    _set([usual for _, _, _, usual in SETTINGS])


def _set(values: Sequence[Any]) -> None:
    for (_, ask, set_value, _), value in zip(SETTINGS, values, strict=True):
        if ask() != value:
            set_value(value)


def seed_generators() -> None:
    """Seed the generators of Python, NumPy and torch that all code shares.

    Example:
        >>> with seeded():
        ...     first = random.random(), np.random.random(), torch.rand(1).item()
        >>> with seeded():
        ...     first == (random.random(), np.random.random(), torch.rand(1).item())
        True
    """
    random.seed(0)
    np.random.seed(0)
    torch.random.default_generator.manual_seed(0)


@contextlib.contextmanager
def seeded() -> Iterator[None]:
    """Run code with seeded generators, and leave those outside as they are.

    Example:
        >>> state = random.getstate()
        >>> with seeded():
        ...     number = random.random()
        >>> random.getstate() == state
        True
    """
    before = random.getstate(), np.random.get_state(), torch.random.default_generator.get_state()
    seed_generators()
    try:
        yield
    finally:
        random.setstate(before[0])
        np.random.set_state(before[1])
        torch.random.default_generator.set_state(before[2])


class Libraries:
    """The functions and classes of libraries, as they are when this is made.

    Example:
        >>> libraries = Libraries()
        >>> math.sqrt, square_root = abs, math.sqrt
        >>> libraries.changed()
        ['math.sqrt']
        >>> with libraries.restored():
        ...     math.sqrt(4)
        2.0
        >>> math.sqrt = square_root
    """

    def __init__(self) -> None:
        owners: dict[Any, str] = {module: module.__name__ for module in MODULES}
        owners[torch.Tensor] = "torch.Tensor"
        for name, value in vars(torch.nn).items():
            if isinstance(value, type) and issubclass(value, torch.nn.Module):
                owners.setdefault(value, f"torch.nn.{name}")
        self._known = [
            (owner, name, _functions(owner), _inherited(owner)) for owner, name in owners.items()
        ]

    def changed(self) -> list[str]:
        """Return the names of those in whose place there is something else now."""
        return [f"{name}.{key}" for _, name, key, _ in self._differences()]

    def restore(self) -> None:
        """Put all of them back in their place."""
        _put((owner, key, value) for owner, _, key, value in self._differences())

    @contextlib.contextmanager
    def restored(self) -> Iterator[None]:
        """Run code with all of them in their place."""
        others = [
            (owner, key, vars(owner).get(key, ABSENT)) for owner, _, key, _ in self._differences()
        ]
        self.restore()
        try:
            yield
        finally:
            self.restore()
            _put(others)

    def _differences(self) -> list[tuple[Any, str, str, Any]]:
        """Return owner, its name, key and original of each, which is absent if it was inherited."""
        found: list[tuple[Any, str, str, Any]] = []
        for owner, name, functions, inherited in self._known:
            now = vars(owner)
            found += [
                (owner, name, key, value)
                for key, value in functions.items()
                if (other := now.get(key)) is not value and not _is_wrapped_by_torch(other, value)
            ]
            found += [(owner, name, key, ABSENT) for key in now if key in inherited]
        return found


def _functions(owner: Any) -> dict[str, Any]:
    """Return the functions and classes that a module or class defines."""
    functions = {name: value for name, value in vars(owner).items() if callable(value)}
    functions.pop("Storage", None)  # it follows the default type of torch
    return functions


def _inherited(owner: Any) -> frozenset[str]:
    """Return the names that a class inherits and does not define itself."""
    bases = owner.__mro__[1:] if isinstance(owner, type) else ()
    return frozenset(name for base in bases for name in vars(base) if name not in vars(owner))


def _put(values: Iterable[tuple[Any, str, Any]]) -> None:
    for owner, key, value in list(values):
        if value is not ABSENT:
            setattr(owner, key, value)
        elif key in vars(owner):
            delattr(owner, key)


def _is_wrapped_by_torch(now: Any, before: Any) -> bool:
    """Return whether torch replaced a function of its own, as it does when its compiler loads."""
    module = str(getattr(now, "__globals__", {}).get("__name__", ""))
    return module.startswith("torch.") and getattr(now, "__wrapped__", None) is before


@functools.cache
def original_libraries() -> Libraries:
    """Return the functions of libraries as they were when this was first called.

    Example:
        >>> original_libraries() is original_libraries()
        True
    """
    return Libraries()
