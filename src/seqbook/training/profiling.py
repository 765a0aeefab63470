"""Costs of a computation, counted instead of timed, so that they are the same on every machine.

Each function runs a computation once and counts multiplications, bytes, or operations that must
wait for each other.
"""

from __future__ import annotations

import math
import platform
import weakref
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Size, Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import FlopCounterMode

__all__ = ["bytes_for_backward", "count_macs", "critical_path", "peak_bytes", "processor_name"]


def count_macs(compute: Callable[[], object]) -> int:
    r"""Count the multiply-accumulate operations of matrix products.

    .. math:: \sum_i n_i\, k_i\, m_i

    over the products of an :math:`n_i \times k_i` with a :math:`k_i \times m_i` matrix.

    Products inside torch's own recurrent layers and fused attention are not seen.

    Args:
        compute: The computation; its result is dropped.

    Example:
        >>> count_macs(lambda: torch.ones(2, 3) @ torch.ones(3, 5))
        30
    """
    in_place = dict.fromkeys((torch.ops.aten.addmm_, torch.ops.aten.baddbmm_), _added_product)
    with FlopCounterMode(display=False, custom_mapping=in_place) as counter:
        compute()
    return counter.get_total_flops() // 2


def peak_bytes(compute: Callable[[], object]) -> int:
    r"""Count the bytes of all tensors that exist at the same time, at their maximum.

    .. math:: \max_t \sum_{i \text{ alive at } t} \text{bytes}_i

    over the operations t and the buffers i of tensors.

    Tensors that existed before do not count, nor does the memory that a kernel needs inside.

    Args:
        compute: The computation; its result counts until the end.

    Example:
        >>> peak_bytes(lambda: torch.ones(1000, dtype=torch.float32) + 1)
        8000
    """
    alive = _Alive()
    with alive:
        result = compute()
    del result
    return alive.peak


def bytes_for_backward(compute: Callable[[], object]) -> int:
    r"""Count the bytes that autograd keeps for the backward pass, each buffer once.

    .. math:: \sum_i \text{bytes}_i

    over the distinct buffers i that hold saved tensors.

    Args:
        compute: The forward pass; its result is dropped.

    Example:
        >>> weight = torch.ones(1000, requires_grad=True)
        >>> bytes_for_backward(lambda: weight.exp())  # keeps its own result
        4000
    """
    buffer_bytes: dict[int, int] = {}

    def record(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        buffer_bytes[storage.data_ptr()] = storage.nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(record, lambda tensor: tensor):
        result = compute()
    del result  # it holds what was noted: only now may the addresses be used again
    return sum(buffer_bytes.values())


def critical_path(output: Tensor) -> int:
    r"""Count the operations that had to wait for each other on the way to ``output``.

    .. math:: \ell(v) = 1 + \max_{u \to v} \ell(u)

    over the operations u whose results v reads; without any, the length is 1.

    It is the longest path through the graph that autograd has recorded: the time that is left
    with any number of processors, if each operation takes one unit.

    Args:
        output: Result of the computation, of any shape ``(...)``.

    Raises:
        ValueError: Autograd has recorded nothing.

    Source: Brent (1974) for the length of the longest chain as the bound of parallel time.

    Example:
        >>> weight = torch.ones(2, requires_grad=True)
        >>> critical_path(weight.exp() + weight.exp().exp())  # weight, exp, exp, sum
        4
    """
    if output.grad_fn is None:
        raise ValueError(
            "output: expected a tensor that requires a gradient, got one that does not"
        )
    length: dict[object, int] = {}
    waiting = [output.grad_fn]
    while waiting:
        node = waiting[-1]
        before = [parent for parent, _ in node.next_functions if parent is not None]
        unknown = [parent for parent in before if parent not in length]
        if unknown:
            waiting += unknown
        else:
            length[node] = 1 + max((length[parent] for parent in before), default=0)
            waiting.pop()
    return length[output.grad_fn]


def processor_name() -> str:
    """Return the model name of the processor, for records of what was timed.

    Example:
        >>> len(processor_name()) > 0
        True
    """
    facts = Path("/proc/cpuinfo")
    if facts.is_file():
        for line in facts.read_text(encoding="utf-8").splitlines():
            name, _, value = line.partition(":")
            if name.strip() == "model name" and value.strip() not in ("", "unknown"):
                return value.strip()
    return platform.processor() or platform.machine()


def _added_product(_into: Size, left: Size, right: Size, **_options: Any) -> int:
    """Operations of ``into += left @ right``, which torch's counter leaves out."""
    return 2 * math.prod(left) * right[-1]


class _Alive(TorchDispatchMode):
    """Follow the storages that operations allocate until they are freed."""

    def __init__(self) -> None:
        super().__init__()
        self.now = self.peak = 0
        self._known: set[int] = set()

    def __torch_dispatch__(
        self, function: Any, types: Any, arguments: tuple = (), options: dict | None = None
    ) -> Any:
        for tensor in tree_leaves((arguments, options)):
            if isinstance(tensor, Tensor):
                self._meet(tensor, size=0)
        result = function(*arguments, **(options or {}))
        for tensor in tree_leaves(result):
            if isinstance(tensor, Tensor):
                self._meet(tensor, size=tensor.untyped_storage().nbytes())
        self.peak = max(self.peak, self.now)
        return result

    def _meet(self, tensor: Tensor, *, size: int) -> None:
        storage = tensor.untyped_storage()
        number = id(storage)
        if number in self._known:
            return
        self._known.add(number)
        self.now += size
        weakref.finalize(storage, self._part, number, size)

    def _part(self, number: int, size: int) -> None:
        self._known.discard(number)
        self.now -= size
