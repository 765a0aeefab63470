"""Linear recurrences: each state is a multiple of the last one, plus an input.

Nothing nonlinear stands between two states. So the steps of a sequence can be composed before the
first state is known, and a scan takes the place of the loop over time.

``linear_recurrence`` is the mathematics. ``LRU`` and ``MinGRU`` are layers: the first with fixed
complex decays, the second with gates that depend on the input.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn.functional import linear
from torch.nn.init import normal_, uniform_

from seqbook.kernels.scan import LinearRecurrenceFunction
from seqbook.layers.initialization import initialize
from seqbook.validation import check_choice, check_integer, check_number

__all__ = ["LRU", "METHODS", "MinGRU", "check_inputs", "linear_recurrence", "time_constants"]

METHODS = ("scan", "loop")
"""How ``linear_recurrence`` can run: in about 2 log2(time) parallel steps, or one by one."""

_HALF = (torch.float16, torch.bfloat16)


def linear_recurrence(
    decay: Tensor, inputs: Tensor, *, initial: Tensor | None = None, method: str = "scan"
) -> Tensor:
    r"""Compute the states of an elementwise linear recurrence.

    .. math:: h_t = a_t \odot h_{t-1} + b_t

    Both methods give the same numbers up to rounding. The loop does T steps one after another. The
    scan does up to twice the arithmetic, in about :math:`2 \log_2 T` operations on long tensors.

    Half-precision inputs are computed in float32, and results returned in the inputs' type.

    Args:
        decay: a, real or complex, broadcastable to the shape of ``inputs``.
        inputs: b, ``(batch, time, ...)``.
        initial: :math:`h_0`, ``(batch, ...)``, by default zero.
        method: ``"scan"`` or ``"loop"``.

    Shape:
        result: :math:`h_1` to :math:`h_T`, ``(batch, time, ...)``.

    Raises:
        ValueError: A shape does not fit, a tensor is on another device, or ``method`` is unknown.
        TypeError: An argument is not a tensor of floating or complex type.

    Source: Blelloch (1990), section 1.4.1; Martin and Cundy (2018).

    Example:
        >>> inputs = torch.tensor([[1.0, 0.0, 0.0, 8.0]])
        >>> linear_recurrence(torch.tensor(0.5), inputs)
        tensor([[1.0000, 0.5000, 0.2500, 8.1250]])
    """
    check_choice("method", method, METHODS)
    _check_tensor("decay", decay, inputs)
    _check_tensor("inputs", inputs, inputs)
    if inputs.dim() < 2:
        raise ValueError(f"inputs: expected shape (batch, time, ...), got {tuple(inputs.shape)}")
    try:
        decay = decay.expand_as(inputs)
    except RuntimeError:
        raise ValueError(
            f"decay: expected a shape that broadcasts to {tuple(inputs.shape)}, got "
            f"{tuple(decay.shape)}"
        ) from None
    state_shape = inputs.shape[:1] + inputs.shape[2:]
    if initial is None:
        initial = inputs.new_zeros(state_shape)
    _check_tensor("initial", initial, inputs)
    if initial.shape != state_shape:
        raise ValueError(
            f"initial: expected shape {tuple(state_shape)}, got {tuple(initial.shape)}"
        )
    dtype = torch.promote_types(torch.promote_types(decay.dtype, inputs.dtype), initial.dtype)
    precise = torch.float32 if dtype in _HALF else dtype
    decay, inputs, initial = (x.to(precise) for x in (decay, inputs, initial))
    if not inputs.shape[1]:
        return inputs.to(dtype)
    return LinearRecurrenceFunction.apply(decay, inputs, initial, method == "scan").to(dtype)


def _check_tensor(name: str, value: object, inputs: Tensor) -> None:
    if not isinstance(value, Tensor):
        raise TypeError(f"{name}: expected a tensor, got {type(value).__name__}")
    if not (value.is_floating_point() or value.is_complex()):
        raise TypeError(f"{name}: expected floating or complex numbers, got {value.dtype}")
    if value.device != inputs.device and value.dim() > 0:
        raise ValueError(f"{name}: expected device {inputs.device}, got {value.device}")


def time_constants(decay: Tensor) -> Tensor:
    r"""Number of steps after which a recurrence has forgotten all but 1/e of an input.

    .. math:: \tau = \frac{-1}{\ln |a|}

    Shape:
        decay, real or complex, and result: ``(...)``, in steps; infinite where :math:`|a| = 1`.

    Example:
        >>> time_constants(torch.tensor([0.0, 0.5, 0.99])).round(decimals=2)
        tensor([ 0.0000,  1.4400, 99.5000])
    """
    return -1 / decay.abs().log()


class LRU(nn.Module):
    r"""Linear recurrent unit: a recurrence with fixed complex decays inside the unit circle.

    .. math:: \lambda &= \exp(-\exp(\nu) + i \exp(\theta)) \\
        h_t &= \lambda \odot h_{t-1} + \exp(\gamma) \odot B x_t \\
        y_t &= \operatorname{Re}(C h_t) + d \odot x_t

    The form of :math:`\lambda` keeps :math:`|\lambda| < 1` whatever training does. At the start
    :math:`\lambda` is uniform in a ring, and :math:`\exp(\gamma) = \sqrt{1 - |\lambda|^2}` gives
    the states of white noise the variance of its products with B, at every decay.

    Args:
        features: Number of input and output features.
        state_size: Number of complex states.
        min_radius: Smallest :math:`|\lambda|` at the start.
        max_radius: Largest.
        max_phase: Largest angle of :math:`\lambda` at the start, in radians.
        generator: Draws the initial parameters; by default torch's own.
        device: Where the parameters are, by default torch's default device.
        dtype: Their real floating type, float32 or float64; by default torch's default type.

    Shape:
        log_rate (:math:`\nu`), log_phase (:math:`\theta`) and log_scale (:math:`\gamma`)
        ``(state,)``; input_weight (B) ``(state, features, 2)`` and output_weight (C)
        ``(features, state, 2)``, real and imaginary parts; skip (d) ``(features,)``.

    Raises:
        ValueError: A size is not positive, or the radii are not 0 <= min < max < 1.
        TypeError: A size is not an integer.

    Source: Orvieto et al. (2023), section 3.4 and appendix A.

    Example:
        >>> outputs, state = LRU(4, 8)(torch.zeros(2, 10, 4))
        >>> outputs.shape, state.shape, state.dtype
        (torch.Size([2, 10, 4]), torch.Size([2, 8]), torch.complex64)
    """

    def __init__(
        self,
        features: int,
        state_size: int,
        *,
        min_radius: float = 0.0,
        max_radius: float = 0.99,
        max_phase: float = 2 * math.pi,
        generator: torch.Generator | None = None,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        check_integer("features", features, minimum=1)
        check_integer("state_size", state_size, minimum=1)
        low, high = check_number("min_radius", min_radius), check_number("max_radius", max_radius)
        if not 0 <= low < high < 1:
            raise ValueError(
                f"min_radius, max_radius: expected 0 <= min_radius < max_radius < 1, got {low} "
                f"and {high}"
            )
        self.features, self.state_size = features, state_size

        def parameter(*shape: int) -> nn.Parameter:
            return nn.Parameter(torch.empty(shape, device=device, dtype=dtype))

        self.log_rate = parameter(state_size)
        self.log_phase = parameter(state_size)
        self.log_scale = parameter(state_size)
        self.input_weight = parameter(state_size, features, 2)
        self.output_weight = parameter(features, state_size, 2)
        self.skip = parameter(features)
        initialize(self.log_rate, uniform_, generator=generator)
        initialize(self.log_phase, uniform_, generator=generator)
        initialize(self.input_weight, normal_, generator=generator, std=(2 * features) ** -0.5)
        initialize(self.output_weight, normal_, generator=generator, std=state_size**-0.5)
        initialize(self.skip, normal_, generator=generator)
        with torch.no_grad():
            # uniform in the area of the ring: the square of the radius is uniform
            squared = low**2 + (high**2 - low**2) * self.log_rate.clamp(min=1e-6)
            self.log_rate.copy_((-0.5 * squared.log()).log())
            self.log_phase.copy_((max_phase * self.log_phase.clamp(min=1e-6)).log())
            self.log_scale.copy_(0.5 * (1 - squared).log())

    @property
    def decay(self) -> Tensor:
        """The complex decays, ``(state,)``."""
        radius, phase = (-self.log_rate.exp()).exp(), self.log_phase.exp()
        return torch.polar(radius, phase)

    def forward(
        self, inputs: Tensor, state: Tensor | None = None, *, method: str = "scan"
    ) -> tuple[Tensor, Tensor]:
        """Run over a sequence, or go on with one from the state that it ended in.

        Args:
            inputs: ``(batch, time, features)``.
            state: Complex ``(batch, state)``, by default zero.
            method: ``"scan"`` or ``"loop"``, see ``linear_recurrence``.

        Shape:
            results: outputs ``(batch, time, features)``, last state ``(batch, state)``.

        Raises:
            ValueError: A shape or device does not fit, there are no steps, or ``method`` is
                unknown.
            TypeError: An argument is not a tensor of the parameters' type.
        """
        check_inputs(inputs, self.skip)
        scale = self.log_scale.exp()
        weight = torch.view_as_complex(self.input_weight) * scale[:, None]
        driven = linear(inputs.to(weight.dtype), weight)  # (batch, time, state)
        states = linear_recurrence(self.decay, driven, initial=state, method=method)
        read = linear(states, torch.view_as_complex(self.output_weight))
        return read.real + self.skip * inputs, states[:, -1]

    def extra_repr(self) -> str:
        """Return the sizes, for ``repr``."""
        return f"features={self.features}, state_size={self.state_size}"


class MinGRU(nn.Module):
    r"""A GRU whose gate and candidate do not see the state, so that a scan can run it.

    .. math:: z_t &= \sigma(W_z x_t + b_z) \\
        n_t &= W_n x_t + b_n \\
        h_t &= (1 - z_t) \odot h_{t-1} + z_t \odot n_t

    Here, as in the paper, z = 1 takes the new value; in ``GRU`` it keeps the old state.

    Args:
        features: Number of input features.
        hidden_size: Number of hidden units.
        generator: Draws the initial parameters, uniform in ``±1/sqrt(features)`` as in
            ``torch.nn.Linear``; by default torch's own.
        device: Where the parameters are, by default torch's default device.
        dtype: Their floating type, by default torch's default type.

    Shape:
        weight ``(2 * hidden, features)`` and bias ``(2 * hidden,)``, the rows of z first.

    Raises:
        ValueError: A size is not positive.
        TypeError: A size is not an integer.

    Source: Feng et al. (2024), section 3.1.

    Example:
        >>> outputs, state = MinGRU(4, 8)(torch.zeros(2, 10, 4))
        >>> outputs.shape, state.shape
        (torch.Size([2, 10, 8]), torch.Size([2, 8]))
    """

    def __init__(
        self,
        features: int,
        hidden_size: int,
        *,
        generator: torch.Generator | None = None,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        check_integer("features", features, minimum=1)
        check_integer("hidden_size", hidden_size, minimum=1)
        self.features, self.hidden_size = features, hidden_size
        options = {"device": device, "dtype": dtype}
        self.weight = nn.Parameter(torch.empty(2 * hidden_size, features, **options))  # type: ignore
        self.bias = nn.Parameter(torch.empty(2 * hidden_size, **options))  # type: ignore
        bound = features**-0.5
        for tensor in (self.weight, self.bias):
            initialize(tensor, uniform_, generator=generator, a=-bound, b=bound)

    def forward(
        self, inputs: Tensor, state: Tensor | None = None, *, method: str = "scan"
    ) -> tuple[Tensor, Tensor]:
        """Run over a sequence, or go on with one from the state that it ended in.

        Args:
            inputs: ``(batch, time, features)``.
            state: ``(batch, hidden)``, by default zero.
            method: ``"scan"`` or ``"loop"``, see ``linear_recurrence``.

        Shape:
            results: states ``(batch, time, hidden)``, the last of them ``(batch, hidden)``.

        Raises:
            ValueError: A shape or device does not fit, there are no steps, or ``method`` is
                unknown.
            TypeError: An argument is not a tensor of the parameters' type.
        """
        check_inputs(inputs, self.weight)
        gate, candidate = linear(inputs, self.weight, self.bias).chunk(2, -1)
        # 1 - sigmoid(x) = sigmoid(-x), without rounding
        decay, new = (-gate).sigmoid(), gate.sigmoid() * candidate
        states = linear_recurrence(decay, new, initial=state, method=method)
        return states, states[:, -1]

    def extra_repr(self) -> str:
        """Return the sizes, for ``repr``."""
        return f"features={self.features}, hidden_size={self.hidden_size}"


def check_inputs(inputs: object, parameter: Tensor) -> None:
    """Check what a layer without a loop is called with.

    Args:
        inputs: What should be a tensor of at least one step, of the parameters' device and type;
            under autocast, of any floating type.
        parameter: One of the layer's parameters, whose last axis is that of the features.

    Shape:
        inputs ``(batch, time, features)``; parameter ``(..., features)``.

    Raises:
        ValueError: The shape or device does not fit.
        TypeError: It is not a tensor of that type.

    Example:
        >>> check_inputs(torch.zeros(2, 3), torch.zeros(4, 3))
        Traceback (most recent call last):
        ValueError: inputs: expected shape (batch, time, 3) with a time of at least 1, got (2, 3)
    """
    if not isinstance(inputs, Tensor):
        raise TypeError(f"inputs: expected a tensor, got {type(inputs).__name__}")
    device = inputs.device.type
    autocast = torch.amp.is_autocast_available(device) and torch.is_autocast_enabled(device)
    if inputs.dtype != parameter.dtype and not (autocast and inputs.is_floating_point()):
        raise TypeError(f"inputs: expected {parameter.dtype}, got {inputs.dtype}")
    features = parameter.shape[-1]
    if inputs.dim() != 3 or inputs.shape[-1] != features or not inputs.shape[1]:
        raise ValueError(
            f"inputs: expected shape (batch, time, {features}) with a time of at least 1, got "
            f"{tuple(inputs.shape)}"
        )
    if inputs.device != parameter.device:
        raise ValueError(f"inputs: expected device {parameter.device}, got {inputs.device}")
