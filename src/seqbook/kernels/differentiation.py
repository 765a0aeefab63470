"""The limits of a backward pass derived by hand: it can be differentiated once, and in reverse.

``differentiable_once`` decorates an ``autograd.Function`` so that whatever needs more than its
``backward`` raises an error that names the alternative, instead of a wrong or obscure result.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from functools import wraps
from typing import Any, TypeVar

import torch
from torch import Tensor
from torch.autograd import Function

__all__ = ["differentiable_once"]

_TWICE = "can be differentiated only once"
_VMAP = "does not support torch.func.vmap"

Decorated = TypeVar("Decorated", bound=type[Function])


def differentiable_once(*, alternative: str) -> Callable[[Decorated], Decorated]:
    r"""Decorate a ``Function`` whose ``backward`` computes first derivatives alone.

    ``backward`` then runs without recording a graph, so that it may work in place, and in the types
    that the forward pass used, also under autocast. If its
    gradients are to be differentiated (``create_graph=True``), they are correct, and a derivative
    of theirs raises. That holds for every loss, also for one that is linear in the outputs, where
    the incoming gradient is a constant and torch's ``once_differentiable`` notices nothing.
    ``torch.func.vmap`` and derivatives in forward mode raise at once.

    The decorated class must define ``setup_context``, as ``torch.func`` requires, and there save
    all inputs that may require a gradient, or an output: what is saved tells on what the gradients
    depend.

    Args:
        alternative: What to use where more is needed, in the words of the caller's interface, such
            as ``'backward="autograd"'``.

    Raises:
        NotImplementedError: Not here, but where the decorated function is differentiated twice, in
            forward mode or under ``vmap``.

    Example:
        >>> import torch
        >>> @differentiable_once(alternative="torch.square")
        ... class Square(torch.autograd.Function):
        ...     @staticmethod
        ...     def forward(x):
        ...         return x * x
        ...     @staticmethod
        ...     def setup_context(ctx, inputs, output):
        ...         ctx.save_for_backward(*inputs)
        ...     @staticmethod
        ...     def backward(ctx, grad):
        ...         (x,) = ctx.saved_tensors
        ...         return 2 * x * grad
        >>> x = torch.tensor(3.0, requires_grad=True)
        >>> (derivative,) = torch.autograd.grad(Square.apply(x), x, create_graph=True)
        >>> derivative.item()
        6.0
        >>> derivative.backward()
        Traceback (most recent call last):
        NotImplementedError: Square can be differentiated only once; use torch.square instead
    """

    def decorate(function: Decorated) -> Decorated:
        def unsupported(reason: str) -> NotImplementedError:
            return NotImplementedError(f"{function.__name__} {reason}; use {alternative} instead")

        derived = function.backward

        @wraps(derived)
        def backward(ctx: Any, *grad_outputs: Any) -> Any:
            if torch.is_grad_enabled():
                _Guard.apply(unsupported, (), *grad_outputs)  # raises under vmap
            with torch.no_grad(), _autocast_disabled(ctx.saved_tensors[0].device.type):
                gradients = derived(ctx, *grad_outputs)
            if not torch.is_grad_enabled():
                return gradients
            several = isinstance(gradients, tuple)
            guarded = _Guard.apply(
                unsupported,
                gradients if several else (gradients,),
                *ctx.saved_tensors,
                *grad_outputs,
            )
            return guarded if several else guarded[0]

        def vmap(_info: Any, _in_dims: Any, *_arguments: Any) -> Any:
            raise unsupported(_VMAP)

        def jvp(_ctx: Any, *_tangents: Any) -> Any:
            raise unsupported("does not support forward-mode differentiation")

        for method in (backward, vmap, jvp):
            setattr(function, method.__name__, staticmethod(method))
        return function

    return decorate


def _autocast_disabled(device: str) -> AbstractContextManager:
    if torch.amp.is_autocast_available(device) and torch.is_autocast_enabled(device):
        return torch.autocast(device, enabled=False)
    return nullcontext()


class _Guard(Function):
    """Return gradients as a function of all that they depend on, whose derivative raises."""

    @staticmethod
    def forward(
        _unsupported: Callable[[str], Exception],
        gradients: tuple[Tensor | None, ...],
        *_dependencies: Tensor | None,
    ) -> tuple[Tensor | None, ...]:
        # Copies, since the results of a Function must not be views: a caller may scale gradients.
        return tuple(None if gradient is None else gradient.clone() for gradient in gradients)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple, output: tuple) -> None:
        ctx.unsupported = inputs[0]

    @staticmethod
    def backward(ctx: Any, *_grad_outputs: Any) -> Any:
        raise ctx.unsupported(_TWICE)

    @staticmethod
    def vmap(
        _info: Any, _in_dims: Any, unsupported: Callable[[str], Exception], *_arguments: Any
    ) -> Any:
        raise unsupported(_VMAP)

    @staticmethod
    def jvp(ctx: Any, *_tangents: Any) -> Any:
        raise ctx.unsupported(_TWICE)
