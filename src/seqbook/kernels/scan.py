"""Parallel scans: all prefixes of a sequence under an associative operation.

``associative_scan`` works for any such operation. ``LinearRecurrenceFunction`` runs linear
recurrences by it, or by a loop, with a backward pass derived by hand.
``seqbook.layers.linear_recurrence`` checks arguments and calls it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.autograd import Function

__all__ = ["AffineMaps", "LinearRecurrenceFunction", "associative_scan", "compose_affine_maps"]


class AffineMaps(NamedTuple):
    """Maps of a state, h to ``decay * h + shift``, elementwise.

    Attributes:
        decay: Factors, ``(batch, time, ...)``.
        shift: What is added, of the same shape.

    Example:
        >>> AffineMaps(torch.tensor([[0.5]]), torch.tensor([[1.0]])).shift
        tensor([[1.]])
    """

    decay: Tensor
    shift: Tensor


def compose_affine_maps(first: AffineMaps, second: AffineMaps) -> AffineMaps:
    r"""Apply one elementwise affine map after another; this operation is associative.

    .. math:: (a_2, b_2) \circ (a_1, b_1) = (a_2 a_1,\; a_2 b_1 + b_2)

    Shape:
        all: ``(batch, time, ...)``.

    Source: Blelloch (1990), section 1.4.1.

    Example:
        >>> halve_and_add_1 = AffineMaps(torch.tensor(0.5), torch.tensor(1.0))
        >>> compose_affine_maps(halve_and_add_1, halve_and_add_1)  # h / 4 + 3 / 2
        AffineMaps(decay=tensor(0.2500), shift=tensor(1.5000))
    """
    return AffineMaps(second.decay * first.decay, second.decay * first.shift + second.shift)


def associative_scan(
    combine: Callable[[Any, Any], Sequence[Tensor]], elements: Sequence[Tensor]
) -> tuple[Tensor, ...]:
    r"""Combine each element with all elements before it.

    .. math:: y_t = x_t \circ x_{t-1} \circ \dots \circ x_1

    Elements are combined in pairs, the pairs are scanned by the same function, which gives every
    second result, and one more combination gives the results between. A sequence of length T takes
    fewer than 2 T combinations; all that are made in one call of ``combine`` are independent of
    each other, and there are at most :math:`2 \log_2 T` calls one after another.

    Args:
        combine: Returns the combination of two elements, the earlier first, with the type of
            ``elements`` (a named tuple, for instance). It is called with many elements at a time
            along the second axis and must be associative; it need not be commutative.
        elements: Tensors ``(batch, time, ...)`` that together hold one element at each time.

    Shape:
        results: as the elements, ``(batch, time, ...)``.

    Raises:
        ValueError: There are no elements, or their times differ.

    Source: Blelloch (1990), section 1.2, in a form that recurs on the pairs.

    Example:
        >>> numbers = torch.arange(1.0, 7.0).reshape(1, 6)
        >>> associative_scan(lambda first, second: [first[0] + second[0]], [numbers])
        (tensor([[ 1.,  3.,  6., 10., 15., 21.]]),)
    """
    shapes = [tuple(x.shape) for x in elements]
    if not elements or any(len(shape) < 2 for shape in shapes):
        raise ValueError(f"elements: expected tensors (batch, time, ...), got shapes {shapes}")
    if len({shape[1] for shape in shapes}) > 1:
        raise ValueError(f"elements: expected equal times, got shapes {shapes}")
    return tuple(_scan(combine, elements))


def _scan(combine: Callable, elements: Sequence[Tensor]) -> Sequence[Tensor]:
    time = elements[0].shape[1]
    if time < 2:
        return elements

    def at(xs: Sequence[Tensor], times: slice) -> Sequence[Tensor]:
        parts = [x[:, times] for x in xs]
        return type(elements)(*parts) if hasattr(elements, "_fields") else parts

    pairs = combine(at(elements, slice(0, time - 1, 2)), at(elements, slice(1, None, 2)))
    odd = _scan(combine, pairs)  # results at times 1, 3, 5, ...
    first = at(elements, slice(0, 1))
    if time > 2:
        later = combine(at(odd, slice(0, (time - 1) // 2)), at(elements, slice(2, None, 2)))
        even = [torch.cat(xs, 1) for xs in zip(first, later, strict=True)]
    else:
        even = list(first)
    results = [_interleave(x, y) for x, y in zip(even, odd, strict=True)]
    return at(results, slice(None))


def _interleave(even: Tensor, odd: Tensor) -> Tensor:
    """Put the values at even and odd times in order."""
    both = torch.stack([even[:, : odd.shape[1]], odd], 2).flatten(1, 2)
    return torch.cat([both, even[:, -1:]], 1) if even.shape[1] > odd.shape[1] else both


class LinearRecurrenceFunction(Function):
    r"""States of an elementwise linear recurrence.

    .. math:: h_t = a_t h_{t-1} + b_t

    With :math:`\bar h_t` the gradient that comes from the output at time t, the gradient of the
    state obeys a linear recurrence too, which runs backwards in time:

    .. math:: g_t = \bar h_t + a_{t+1}^* g_{t+1}, \qquad \bar b_t = g_t, \quad
        \bar a_t = g_t h_{t-1}^*, \quad \bar h_0 = a_1^* g_1

    (the star is the complex conjugate, as torch defines complex gradients). So no intermediate
    result of the scan is kept. Derivatives of every order are right.

    Args:
        decay: a, ``(batch, time, ...)``.
        inputs: b, of the same shape.
        initial: :math:`h_0`, ``(batch, ...)``.
        parallel: Whether to scan, or to loop over time.

    Shape:
        result: ``(batch, time, ...)``.

    Source: Martin and Cundy (2018), section 2.2.

    Example:
        >>> decay, inputs = torch.full((1, 3), 0.5), torch.ones(1, 3)
        >>> LinearRecurrenceFunction.apply(decay, inputs, torch.zeros(1), True)
        tensor([[1.0000, 1.5000, 1.7500]])
    """

    generate_vmap_rule = True

    @staticmethod
    def forward(decay: Tensor, inputs: Tensor, initial: Tensor, parallel: bool) -> Tensor:
        """Compute the states."""
        if not parallel:
            states, state = [], initial
            for a, b in zip(decay.unbind(1), inputs.unbind(1), strict=True):
                state = a * state + b
                states.append(state)
            return torch.stack(states, 1)
        first = decay[:, :1] * initial.unsqueeze(1) + inputs[:, :1]
        elements = AffineMaps(decay, torch.cat([first, inputs[:, 1:]], 1))
        return associative_scan(compose_affine_maps, elements)[1]

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple, output: Tensor) -> None:
        """Keep the decays, the initial state and the states."""
        decay, _, initial, ctx.parallel = inputs
        ctx.save_for_backward(decay, initial, output)

    @staticmethod
    def backward(ctx: Any, d_states: Tensor) -> tuple[Tensor | None, ...]:
        """Run the recurrence of the gradients from the last time to the first."""
        decay, initial, states = ctx.saved_tensors
        back = decay.conj().roll(-1, 1).flip(1)  # its first entry multiplies the state zero
        zero = torch.zeros_like(initial)
        gradients = LinearRecurrenceFunction.apply(back, d_states.flip(1), zero, ctx.parallel)
        gradients = gradients.flip(1)
        previous = torch.cat([initial.unsqueeze(1), states[:, :-1]], 1)
        return (
            gradients * previous.conj(),
            gradients,
            decay[:, 0].conj() * gradients[:, 0],
            None,
        )
