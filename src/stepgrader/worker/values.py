"""Values as JSON: how inputs enter the sandbox, and how answers leave it.

Nothing is ever unpickled. A tensor travels as its type, shape and flat list of numbers; ``decode``
believes none of the three and checks them against each other.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

__all__ = ["Unsupported", "decode", "encode"]

DTYPES = ("bool", "uint8", "int32", "int64", "float32", "float64")
MAX_NUMBERS = 1_000_000
MAX_VALUES = 100_000  # without the numbers of tensors and arrays
MAX_DEPTH = 20
MAX_AXES = 16


@dataclass(frozen=True)
class Unsupported:
    """An answer of a type that no step asks for.

    Example:
        >>> decode(encode(print))
        Unsupported(type_name='builtin_function_or_method')
    """

    type_name: str


def encode(value: Any) -> Any:
    """Turn a value into what ``json`` can write.

    Numbers, texts, ``None``, lists, tuples, dictionaries, arrays and tensors are kept; of anything
    else, only the name of its type. Of more values than ``decode`` reads, the first ones are kept
    and ``decode`` refuses them: an answer that is too long is told so before its time is up.

    Example:
        >>> encode((1, np.ones(2), print))  # doctest: +NORMALIZE_WHITESPACE
        {'tuple': [1, {'array': [1.0, 1.0], 'dtype': 'float64', 'shape': [2]},
                   {'unsupported': 'builtin_function_or_method'}]}
    """
    return _Encoder().encode(value)


class _Encoder:
    """One call of ``encode``, which stops soon after as many values as ``decode`` would refuse."""

    def __init__(self) -> None:
        self._remaining = MAX_VALUES

    def encode(self, value: Any) -> Any:
        import torch

        self._remaining -= 1
        if value is None or isinstance(value, (bool, int, float, str)):
            return value
        if isinstance(value, list):
            return self._encode_all(value)
        if isinstance(value, tuple):
            return {"tuple": self._encode_all(value)}
        if isinstance(value, dict):
            values = self._encode_all(value.values())
            return {"dict": {str(name): item for name, item in zip(value, values, strict=False)}}
        if isinstance(value, np.generic):
            return self.encode(value.item())
        if isinstance(value, torch.Tensor):
            if value.dtype == torch.bfloat16 or value.dtype == torch.float16:
                value = value.float()
            return _encode_array("tensor", value.detach().cpu().numpy())
        if isinstance(value, np.ndarray):
            return _encode_array("array", value)
        return {"unsupported": type(value).__name__}

    def _encode_all(self, values: Iterable[Any]) -> list[Any]:
        encoded = []
        for value in values:
            if self._remaining < 0:
                break
            encoded.append(self.encode(value))
        return encoded


def _encode_array(kind: str, array: np.ndarray) -> Any:
    name = str(array.dtype)
    if name not in DTYPES or _extent(array.shape) > MAX_NUMBERS:
        size = f"{array.size} numbers" if array.size else f"shape {array.shape}"
        return {"unsupported": f"{kind} of {name} with {size}"}
    return {kind: array.ravel().tolist(), "dtype": name, "shape": list(array.shape)}


def _extent(shape: Sequence[int]) -> int:
    """Return the product of the axes that are not empty.

    An array with an empty axis holds no numbers, but as nested lists it would still take a list
    for every index of the axes before the empty one.
    """
    return math.prod(size for size in shape if size)


def decode(data: Any, *, tensors: bool = False) -> Any:
    """Return the value that ``encode`` was given.

    Args:
        data: Parsed JSON from an untrusted writer.
        tensors: Whether tensors are returned as tensors or, by default, as arrays.

    Returns:
        The value. Anything that ``encode`` could not encode is an ``Unsupported``.

    Raises:
        ValueError: ``data`` is not what ``encode`` returns, is nested too deeply, or holds too many
            values.

    Example:
        >>> decode({"tuple": [1, {"array": [0.5, 2.0], "dtype": "float64", "shape": [2]}]})
        (1, array([0.5, 2. ]))
    """
    return _Decoder(tensors).decode(data, MAX_DEPTH)


class _Decoder:
    """One call of ``decode``, which counts the values that it has read."""

    def __init__(self, tensors: bool):
        self._tensors = tensors
        self._remaining = MAX_VALUES

    def decode(self, data: Any, levels: int) -> Any:
        self._remaining -= 1
        if self._remaining < 0:
            raise ValueError(f"it holds more than {MAX_VALUES} values")
        if data is None or isinstance(data, (bool, int, float, str)):
            return data
        if levels == 0:
            raise ValueError(f"it is nested more than {MAX_DEPTH} deep")
        if isinstance(data, list):
            return [self.decode(item, levels - 1) for item in data]
        if not isinstance(data, dict):
            raise ValueError(f"expected a value from JSON, got {type(data).__name__}")
        match list(data.items()):
            case [("tuple", list(items))]:
                return tuple(self.decode(item, levels - 1) for item in items)
            case [("dict", dict(items))]:
                return {name: self.decode(item, levels - 1) for name, item in items.items()}
            case [("unsupported", str(name))]:
                return Unsupported(name)
        return self._decode_numbers(data)

    def _decode_numbers(self, data: dict[str, Any]) -> Any:
        for kind in ("array", "tensor"):
            if data.keys() == {kind, "dtype", "shape"}:
                array = _decode_array(data[kind], data["dtype"], data["shape"])
                if kind == "tensor" and self._tensors:
                    import torch

                    return torch.from_numpy(array)
                return array
        raise ValueError(f"expected a tensor, tuple or dict, got an object with {sorted(data)[:5]}")


def _decode_array(numbers: Any, dtype: Any, shape: Any) -> np.ndarray:
    if dtype not in DTYPES:
        raise ValueError(f"dtype: expected one of {DTYPES}")
    if (
        not isinstance(shape, list)
        or len(shape) > MAX_AXES
        or not all(type(n) is int and 0 <= n <= MAX_NUMBERS for n in shape)
        or _extent(shape) > MAX_NUMBERS
    ):
        raise ValueError(
            f"shape: expected at most {MAX_AXES} axes and a product of at most {MAX_NUMBERS}"
        )
    if not isinstance(numbers, list) or len(numbers) > MAX_NUMBERS:
        raise ValueError(f"expected a list of at most {MAX_NUMBERS} numbers")
    if math.prod(shape) != len(numbers):
        raise ValueError(f"shape {shape} does not hold {len(numbers)} numbers")
    kinds = bool if dtype == "bool" else int if "int" in dtype else (int, float)
    if not all(isinstance(number, kinds) for number in numbers):
        raise ValueError(f"expected numbers of {dtype}")
    try:
        return np.array(numbers, dtype).reshape(shape)
    except OverflowError:
        raise ValueError(f"a number does not fit into {dtype}") from None
