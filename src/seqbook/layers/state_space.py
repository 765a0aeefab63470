"""State-space layers: linear differential equations, sampled in steps, as sequence layers.

``S4D`` has fixed dynamics, so that it is a recurrence and a convolution at once. In
``SelectiveSSM`` the step, the input and the output matrix depend on the input.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.functional import linear, softplus
from torch.nn.init import normal_, uniform_

from seqbook.layers.initialization import initialize
from seqbook.layers.linear_recurrence import check_inputs, linear_recurrence
from seqbook.validation import check_choice, check_integer, check_number

__all__ = [
    "DISCRETIZATIONS",
    "S4D",
    "Discretized",
    "SelectiveSSM",
    "causal_convolution",
    "discretize",
]

DISCRETIZATIONS = ("zero-order hold", "bilinear", "euler")
"""Names of the rules of ``discretize``."""


class Discretized(NamedTuple):
    """A sampled linear system, ``h_t = decay * h_{t-1} + gain * x_t``.

    Attributes:
        decay: Factor of the state, ``(...)``.
        gain: Factor of the input, ``(...)``.

    Example:
        >>> discretize(torch.tensor(-1.0), torch.tensor(0.5), rule="euler")
        Discretized(decay=tensor(0.5000), gain=tensor(0.5000))
    """

    decay: Tensor
    gain: Tensor


def discretize(rate: Tensor, step: Tensor, *, rule: str = "zero-order hold") -> Discretized:
    r"""Sample the differential equation h' = a h + x in steps of length Δ.

    .. math:: h_t = \bar a h_{t-1} + \bar b x_t, \qquad
        (\bar a, \bar b) = \begin{cases}
            \left(e^{\Delta a},\; (e^{\Delta a} - 1) / a\right) & \text{zero-order hold} \\
            \left(1 + \Delta a / 2,\; \Delta\right) / (1 - \Delta a / 2) & \text{bilinear} \\
            (1 + \Delta a,\; \Delta) & \text{Euler}
        \end{cases}

    Zero-order hold is exact for an input that is constant during each step. With Euler's rule a
    system that decays can explode once :math:`|1 + \Delta a| > 1`.

    Args:
        rate: a, real or complex, ``(...)``, in 1 / time.
        step: Δ, broadcastable with ``rate``, in time.
        rule: One of ``DISCRETIZATIONS``.

    Shape:
        results: that of both arguments broadcast together, ``(...)``.

    Raises:
        ValueError: ``rule`` is unknown.

    Source: Gu et al. (2022), section 2.1.

    Example:
        >>> discretize(torch.tensor(-1.0), torch.tensor(1.0)).decay  # 1 / e
        tensor(0.3679)
    """
    check_choice("rule", rule, DISCRETIZATIONS)
    product = rate * step
    if rule == "euler":
        return Discretized(1 + product, step + torch.zeros_like(product))
    if rule == "bilinear":
        return Discretized((1 + product / 2) / (1 - product / 2), step / (1 - product / 2))
    # expm1 keeps the digits where the step is short; at a rate of zero the gain is the step
    zero = rate == 0
    safe = rate.masked_fill(zero, 1)
    gain = torch.where(zero, step + torch.zeros_like(product), product.expm1() / safe)
    return Discretized(product.exp(), gain)


def causal_convolution(inputs: Tensor, kernel: Tensor) -> Tensor:
    r"""Convolve each feature with its own kernel, over the present and the past.

    .. math:: y_t = \sum_{s=0}^{t-1} k_{s+1} x_{t-s}

    By the fast Fourier transform, in time proportional to :math:`T \log T`.

    Args:
        inputs: x, ``(batch, time, features)``.
        kernel: k, ``(time, features)``.

    Shape:
        result: ``(batch, time, features)``.

    Raises:
        ValueError: The shapes do not fit.

    Source: Gu et al. (2022), section 2.3.

    Example:
        >>> inputs = torch.tensor([1.0, 0.0, 2.0]).reshape(1, 3, 1)
        >>> kernel = torch.tensor([1.0, 0.5, 0.25]).reshape(3, 1)
        >>> causal_convolution(inputs, kernel).flatten().round(decimals=4).abs()
        tensor([1.0000, 0.5000, 2.2500])
    """
    if inputs.dim() != 3 or kernel.shape != inputs.shape[1:]:
        raise ValueError(
            f"kernel: expected shape (time, features) for inputs (batch, time, features), got "
            f"{tuple(kernel.shape)} and {tuple(inputs.shape)}"
        )
    time = inputs.shape[1]
    size = 2 * time  # zeros behind, so that the end does not wrap around to the beginning
    spectrum = torch.fft.rfft(inputs, n=size, dim=1) * torch.fft.rfft(kernel, n=size, dim=0)
    return torch.fft.irfft(spectrum, n=size, dim=1)[:, :time]


class S4D(nn.Module):
    r"""Diagonal state-space layer: each feature drives its own damped oscillations.

    .. math:: h' &= a \odot h + x, \qquad a_n = -\exp(\rho_n) + i \omega_n \\
        y &= 2 \operatorname{Re} \sum_n c_n h_n + d x

    sampled by zero-order hold with a learned step Δ for each feature. Since nothing depends on the
    input, the outputs are also a convolution with the kernel
    :math:`k_{s+1} = 2 \operatorname{Re} \sum_n c_n \bar b_n \bar a_n^s`.

    At the start :math:`a_n = -1/2 + i \pi n` (n from 0), and the steps are spread evenly on a
    logarithmic scale, so that features remember over different times.

    Args:
        features: Number of features, in and out.
        state_size: Number of complex states for each feature; their conjugates are implied.
        shortest_step: Shortest Δ at the start.
        longest_step: Longest.
        generator: Draws the initial parameters; by default torch's own.
        device: Where the parameters are, by default torch's default device.
        dtype: Their real floating type, float32 or float64; by default torch's default type.

    Shape:
        log_step ``(features,)``; log_rate (ρ) and frequency (ω) ``(features, state)``;
        output_weight (c) ``(features, state, 2)``, real and imaginary parts; skip (d)
        ``(features,)``.

    Raises:
        ValueError: A size or step is not positive.
        TypeError: A size is not an integer.

    Source: Gu et al. (2022), S4D-Lin, sections 3 and 4.

    Example:
        >>> outputs, state = S4D(4, 8)(torch.zeros(2, 10, 4))
        >>> outputs.shape, state.shape, state.dtype
        (torch.Size([2, 10, 4]), torch.Size([2, 4, 8]), torch.complex64)
    """

    def __init__(
        self,
        features: int,
        state_size: int,
        *,
        shortest_step: float = 1e-3,
        longest_step: float = 1e-1,
        generator: torch.Generator | None = None,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        check_integer("features", features, minimum=1)
        check_integer("state_size", state_size, minimum=1)
        low, high = _check_steps(shortest_step, longest_step)
        self.features, self.state_size = features, state_size

        def parameter(*shape: int) -> nn.Parameter:
            return nn.Parameter(torch.empty(shape, device=device, dtype=dtype))

        self.log_step = parameter(features)
        self.log_rate = parameter(features, state_size)
        self.frequency = parameter(features, state_size)
        self.output_weight = parameter(features, state_size, 2)
        self.skip = parameter(features)
        initialize(self.log_step, uniform_, generator=generator, a=math.log(low), b=math.log(high))
        initialize(self.output_weight, normal_, generator=generator, std=0.5**0.5)
        initialize(self.skip, normal_, generator=generator)
        with torch.no_grad():
            self.log_rate.fill_(math.log(0.5))
            number = torch.arange(state_size, device=self.frequency.device)
            self.frequency.copy_(math.pi * number.expand(features, -1))

    def sampled(self) -> Discretized:
        """Decays and gains of one step, complex ``(features, state)``."""
        rate = torch.complex(-self.log_rate.exp(), self.frequency)
        return discretize(rate, self.log_step.exp()[:, None])

    def kernel(self, time: int) -> Tensor:
        r"""The response to a single one, without the skip connection.

        .. math:: k_{s+1} = 2 \operatorname{Re} \sum_n c_n \bar b_n \bar a_n^s

        Shape:
            result: ``(time, features)``.
        """
        decay, gain = self.sampled()
        weight = torch.view_as_complex(self.output_weight) * gain
        steps = torch.arange(time, device=decay.device, dtype=self.skip.dtype)
        powers = (decay.log()[..., None] * steps).exp()  # (features, state, time)
        return 2 * (weight[..., None] * powers).sum(1).real.T

    def forward(
        self, inputs: Tensor, state: Tensor | None = None, *, method: str = "scan"
    ) -> tuple[Tensor, Tensor]:
        """Run over a sequence, or go on with one from the state that it ended in.

        Args:
            inputs: ``(batch, time, features)``.
            state: Complex ``(batch, features, state)``, by default zero.
            method: ``"scan"`` or ``"loop"``, see ``linear_recurrence``.

        Shape:
            results: outputs ``(batch, time, features)``, last state ``(batch, features, state)``.

        Raises:
            ValueError: A shape or device does not fit, there are no steps, or ``method`` is
                unknown.
            TypeError: An argument is not a tensor of the parameters' type.
        """
        check_inputs(inputs, self.skip)
        decay, gain = self.sampled()
        driven = inputs[..., None] * gain  # (batch, time, features, state)
        states = linear_recurrence(decay, driven, initial=state, method=method)
        weight = torch.view_as_complex(self.output_weight)
        return 2 * (states * weight).sum(-1).real + self.skip * inputs, states[:, -1]

    def convolve(self, inputs: Tensor) -> Tensor:
        r"""Compute the outputs by a convolution, without any state.

        .. math:: y_t = \sum_{s=0}^{t-1} k_{s+1} x_{t-s} + d x_t

        Shape:
            inputs and result: ``(batch, time, features)``.

        Raises:
            ValueError: A shape or device does not fit, or there are no steps.
            TypeError: The inputs are not a tensor of the parameters' type.
        """
        check_inputs(inputs, self.skip)
        return causal_convolution(inputs, self.kernel(inputs.shape[1])) + self.skip * inputs

    def extra_repr(self) -> str:
        """Return the sizes, for ``repr``."""
        return f"features={self.features}, state_size={self.state_size}"


class SelectiveSSM(nn.Module):
    r"""State-space layer that chooses by its input what to store and what to read (S6).

    .. math:: \Delta_t &= \operatorname{softplus}(W_\Delta x_t + b_\Delta), \qquad
            B_t = W_B x_t, \qquad C_t = W_C x_t \\
        h_t &= \exp(\Delta_t a) \odot h_{t-1} + \Delta_t B_t x_t \\
        y_t &= C_t^\top h_t + d \odot x_t

    with :math:`a = -\exp(\alpha) < 0`. A long step overwrites the state; a step near zero keeps it
    and ignores the input. :math:`W_\Delta` is a product of two matrices of rank ``step_rank``.

    Args:
        features: Number of features, in and out.
        state_size: Number of real states for each feature.
        step_rank: Rank of the map to the steps, by default ``features / 16``, rounded up.
        shortest_step: Shortest Δ at the start, for an input of zero.
        longest_step: Longest.
        generator: Draws the initial parameters; by default torch's own.
        device: Where the parameters are, by default torch's default device.
        dtype: Their floating type, by default torch's default type.

    Shape:
        log_rate (α) ``(features, state)``; select_weight ``(rank + 2 * state, features)``, the
        rows of the first factor of W_Δ, then B, then C; step_weight ``(features, rank)``;
        step_bias and skip (d) ``(features,)``.

    Raises:
        ValueError: A size or step is not positive.
        TypeError: A size is not an integer.

    Source: Gu and Dao (2023), algorithm 2 and section 3.6.

    Example:
        >>> outputs, state = SelectiveSSM(4, 8)(torch.zeros(2, 10, 4))
        >>> outputs.shape, state.shape
        (torch.Size([2, 10, 4]), torch.Size([2, 4, 8]))
    """

    def __init__(
        self,
        features: int,
        state_size: int,
        *,
        step_rank: int | None = None,
        shortest_step: float = 1e-3,
        longest_step: float = 1e-1,
        generator: torch.Generator | None = None,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        check_integer("features", features, minimum=1)
        check_integer("state_size", state_size, minimum=1)
        rank = math.ceil(features / 16) if step_rank is None else step_rank
        check_integer("step_rank", rank, minimum=1)
        low, high = _check_steps(shortest_step, longest_step)
        self.features, self.state_size, self.step_rank = features, state_size, rank

        def parameter(*shape: int) -> nn.Parameter:
            return nn.Parameter(torch.empty(shape, device=device, dtype=dtype))

        self.log_rate = parameter(features, state_size)
        self.select_weight = parameter(rank + 2 * state_size, features)
        self.step_weight = parameter(features, rank)
        self.step_bias = parameter(features)
        self.skip = nn.Parameter(torch.ones(features, device=device, dtype=dtype))
        for weight in (self.select_weight, self.step_weight):
            bound = weight.shape[1] ** -0.5
            initialize(weight, uniform_, generator=generator, a=-bound, b=bound)
        steps = math.log(low), math.log(high)
        initialize(self.step_bias, uniform_, generator=generator, a=steps[0], b=steps[1])
        with torch.no_grad():
            number = torch.arange(1, state_size + 1, device=self.log_rate.device)
            self.log_rate.copy_(number.log().expand(features, -1))
            # the inverse of softplus: x + log(1 - exp(-x))
            step = self.step_bias.exp()
            self.step_bias.copy_(step + (-(-step).expm1()).log())

    def forward(
        self, inputs: Tensor, state: Tensor | None = None, *, method: str = "scan"
    ) -> tuple[Tensor, Tensor]:
        """Run over a sequence, or go on with one from the state that it ended in.

        Args:
            inputs: ``(batch, time, features)``.
            state: ``(batch, features, state)``, by default zero.
            method: ``"scan"`` or ``"loop"``, see ``linear_recurrence``.

        Shape:
            results: outputs ``(batch, time, features)``, last state ``(batch, features, state)``.

        Raises:
            ValueError: A shape or device does not fit, there are no steps, or ``method`` is
                unknown.
            TypeError: An argument is not a tensor of the parameters' type.
        """
        check_inputs(inputs, self.select_weight)
        sizes = [self.step_rank, self.state_size, self.state_size]
        low_rank, write, read = linear(inputs, self.select_weight).split(sizes, -1)
        step = softplus(
            linear(low_rank, self.step_weight, self.step_bias)
        )  # (batch, time, features)
        decay = (-step[..., None] * self.log_rate.exp()).exp()
        driven = (step * inputs)[..., None] * write[:, :, None]  # (batch, time, features, state)
        states = linear_recurrence(decay, driven, initial=state, method=method)
        outputs = (states * read[:, :, None]).sum(-1) + self.skip * inputs
        return outputs, states[:, -1]

    def extra_repr(self) -> str:
        """Return the sizes, for ``repr``."""
        return f"features={self.features}, state_size={self.state_size}, step_rank={self.step_rank}"


def _check_steps(shortest: float, longest: float) -> tuple[float, float]:
    low, high = check_number("shortest_step", shortest), check_number("longest_step", longest)
    if not 0 < low <= high:
        raise ValueError(
            f"shortest_step, longest_step: expected 0 < shortest_step <= longest_step, got {low} "
            f"and {high}"
        )
    return low, high
