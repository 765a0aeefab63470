"""A second device for tests on a machine that has none.

Its tensors hold their values in the CPU's memory but belong, for all that torch and the tested
code can tell, to the device ``OTHER``. As on a GPU, an operation on tensors of two devices raises
unless one of them is a CPU scalar, so that a tensor made on the wrong device is found. Unlike those
of torch's meta device or its fake tensors, values are there: lengths can be checked and decoding
can branch.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any
from unittest.mock import patch

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode, return_and_correct_aliasing
from torch.utils._pytree import tree_iter, tree_map

OTHER = torch.device("meta")  # of the devices that every build of torch knows


@contextmanager
def other_device() -> Iterator[torch.device]:
    """Let tensors be made on ``OTHER``, by a factory's ``device`` or by ``Tensor.to``.

    Example::

        with other_device() as device:
            layer = GRU(2, 3, device=device)
            outputs, _ = layer(torch.ones(1, 4, 2, device=device))
        assert outputs.device == device
    """
    # Inference mode has no views of tensors like ours. Without gradients the values are the same.
    with patch.object(torch._C, "_InferenceMode", _without_gradients), _Dispatch(), _FromData():
        yield OTHER


def _without_gradients(mode: bool) -> AbstractContextManager:
    return torch.no_grad() if mode else nullcontext()


class _OtherTensor(Tensor):
    """A tensor on the other device."""

    values: Tensor
    is_meta = False

    @staticmethod
    def __new__(cls, values: Tensor) -> _OtherTensor:
        tensor = Tensor._make_wrapper_subclass(
            cls,
            values.shape,
            strides=values.stride(),
            storage_offset=values.storage_offset(),
            dtype=values.dtype,
            device=OTHER,
        )
        tensor.values = values
        return tensor

    @classmethod
    def __torch_dispatch__(
        cls, operation: Any, types: Any, args: tuple = (), kwargs: dict | None = None
    ) -> Any:
        return _dispatch(operation, args, kwargs or {})

    def __repr__(self, **_options: Any) -> str:
        return f"{self.values!r} on another device"

    def tolist(self) -> Any:
        return self.values.tolist()

    def numpy(self, **_options: Any) -> Any:
        raise TypeError("can't convert a tensor of another device to numpy: copy it to the CPU")

    def __array__(self, dtype: Any = None) -> Any:
        return self.numpy()


class _FromData(TorchFunctionMode):
    """Make tensors from Python's numbers on the other device where that is asked for."""

    def __torch_function__(
        self, function: Any, types: Any, args: tuple = (), kwargs: dict | None = None
    ) -> Any:
        kwargs = dict(kwargs or {})
        device = kwargs.get("device")
        if function is Tensor.new_tensor:
            template, *args = args
            kwargs = {"dtype": template.dtype, **kwargs}
            device, function = device or template.device, torch.tensor
        creates = function in (torch.tensor, torch.as_tensor) and device is not None
        if creates and torch.device(device) == OTHER:
            return function(*args, **{**kwargs, "device": "cpu"}).to(OTHER)
        return function(*args, **kwargs)


class _Dispatch(TorchDispatchMode):
    """Make tensors on the other device where a factory is asked to."""

    def __torch_dispatch__(
        self, operation: Any, types: Any, args: tuple = (), kwargs: dict | None = None
    ) -> Any:
        return _dispatch(operation, args, kwargs or {})


def _dispatch(operation: Any, args: tuple, kwargs: dict) -> Any:
    """Run an operation on the values, if all its tensors are on one device."""
    tensors = [x for x in tree_iter((args, kwargs)) if isinstance(x, Tensor)]
    plain = [x for x in tensors if not isinstance(x, _OtherTensor)]
    elsewhere = len(plain) < len(tensors)
    copies = operation in (torch.ops.aten._to_copy.default, torch.ops.aten.copy_.default)
    indexes = operation.overloadpacket in (torch.ops.aten.index, torch.ops.aten.index_put_)
    if elsewhere and not copies and not indexes:
        wrong = [tuple(x.shape) for x in plain if x.dim() > 0]
        if wrong:
            raise RuntimeError(
                f"{operation}: expected all tensors on one device, got those of shape {wrong} on "
                f"the CPU and others on another device"
            )
    device = kwargs.get("device")
    if device is not None:
        elsewhere = torch.device(device) == OTHER
        kwargs = {**kwargs, "device": torch.device("cpu")}
    if operation == torch.ops.aten.copy_.default:
        elsewhere = isinstance(args[0], _OtherTensor)
    if operation in (torch.ops.aten.lift_fresh.default, torch.ops.aten.lift_fresh_copy.default):
        elsewhere = isinstance(args[0], _OtherTensor)

    def unwrap(x: Any) -> Any:
        return x.values if isinstance(x, _OtherTensor) else x

    result = operation(*tree_map(unwrap, args), **tree_map(unwrap, kwargs))
    if not elsewhere:
        return result
    result = tree_map(lambda x: _OtherTensor(x) if isinstance(x, Tensor) else x, result)
    return return_and_correct_aliasing(operation, args, kwargs, result)
