"""What recurrent networks have in common: parameters, checks, stacking, directions and padding.

A concrete network, in ``rnn``, ``lstm`` or ``gru``, adds its step and its derived run.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor, nn

from seqbook.validation import check_choice

__all__ = ["Recurrent", "RecurrentCell", "RecurrentLayer", "Weights", "unroll"]

_TOGETHER = 256  # sequences in one derived run: more, and a step's numbers leave the cache
_INTEGERS = (torch.int64, torch.int32, torch.int16, torch.int8, torch.uint8)


class Weights(NamedTuple):
    """The parameters of one direction of one layer, for G gates (G blocks of rows).

    Attributes:
        weight_ih: From the inputs, ``(G * hidden, features)``.
        weight_hh: From the hidden state, ``(G * hidden, hidden)``.
        bias_ih: ``(G * hidden,)``, or None.
        bias_hh: ``(G * hidden,)``, or None. For most gates the sum of the two biases is all that
            matters; torch's layers have both, and so have these.
    """

    weight_ih: Tensor
    weight_hh: Tensor
    bias_ih: Tensor | None
    bias_hh: Tensor | None


def unroll(
    step: Callable[[Tensor, tuple[Tensor, ...]], tuple[Tensor, ...]],
    inputs: Tensor,
    state: tuple[Tensor, ...],
) -> tuple[Tensor, ...]:
    r"""Apply a step to each input in turn: :math:`s_t = f(x_t, s_{t-1})`, the textbook loop.

    Args:
        step: Maps the inputs of one step and the state before it to the state after it.
        inputs: Time-major, ``(time, batch, features)``.
        state: The parts of the state before the first step, each ``(batch, hidden)``.

    Returns:
        Each part of the state after every step, ``(time, batch, hidden)``.
    """
    history = []
    for step_inputs in inputs.unbind(0):
        state = step(step_inputs, state)
        history.append(state)
    return tuple(torch.stack(part) for part in zip(*history, strict=True))


class Recurrent(nn.Module):
    """What a cell and a layer share: sizes, and parameters drawn as torch draws them.

    A concrete network's step and options are a subclass of this one, from which, and from
    ``RecurrentCell`` or ``RecurrentLayer``, its cell and its layer inherit.
    """

    gates: int

    def __init__(self, input_size: int, hidden_size: int, *, bias: bool):
        super().__init__()
        for name, size in (("input_size", input_size), ("hidden_size", hidden_size)):
            if size < 1:
                raise ValueError(f"{name}: expected at least 1, got {size}")
        self.input_size, self.hidden_size, self.bias = input_size, hidden_size, bias

    def _add_weights(
        self, input_size: int, *, suffix: str, generator: torch.Generator | None
    ) -> None:
        rows, bound = self.gates * self.hidden_size, self.hidden_size**-0.5
        biases = (rows,) if self.bias else None
        shapes = Weights((rows, input_size), (rows, self.hidden_size), biases, biases)
        for name, shape in shapes._asdict().items():
            if shape is None:
                self.register_parameter(name + suffix, None)
                continue
            values = torch.empty(shape).uniform_(-bound, bound, generator=generator)
            self.register_parameter(name + suffix, nn.Parameter(values))

    def _weights(self, suffix: str = "") -> Weights:
        return Weights(*(getattr(self, name + suffix) for name in Weights._fields))

    def _step(self, inputs: Tensor, state: tuple, weights: Weights) -> tuple[Tensor, ...]:
        """The parts of the state after one step."""
        raise NotImplementedError

    def extra_repr(self) -> str:
        """The sizes, for ``print``."""
        return f"{self.input_size}, {self.hidden_size}"


class RecurrentCell(Recurrent):
    """One step of a network with its parameters, laid out as torch's cells lay them out.

    Args:
        input_size: Number of input features.
        hidden_size: Number of hidden units H.
        bias: Whether there are biases.
        generator: Draws the initial parameters, uniform in +-1 / sqrt(H); by default torch's own.

    Raises:
        ValueError: A size is not positive.
    """

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        *,
        bias: bool = True,
        generator: torch.Generator | None = None,
    ):
        super().__init__(input_size, hidden_size, bias=bias)
        self._add_weights(input_size, suffix="", generator=generator)

    def forward(self, inputs: Tensor, hidden: Tensor | None = None) -> Tensor:
        """The state after one step.

        Shape:
            inputs ``(batch, features)``; hidden, by default zero, and result ``(batch, hidden)``.

        Raises:
            ValueError: A shape does not fit.
            TypeError: ``hidden`` is not a tensor.
        """
        (hidden,) = self._step(inputs, (self._state("hidden", hidden, inputs),), self._weights())
        return hidden

    def _state(self, name: str, state: Tensor | None, inputs: Tensor) -> Tensor:
        """Check ``inputs`` and the state before the step, by default zero."""
        _check_inputs(inputs, "batch", self.input_size)
        return _initial(name, state, inputs, (len(inputs), self.hidden_size), "(batch, hidden)")


class RecurrentLayer(Recurrent):
    r"""A stack of recurrent layers over whole sequences, in one or both directions.

    Layer l + 1 reads the outputs of layer l. With ``bidirectional``, a second network with its own
    parameters reads each sequence from its last step to its first, and the two outputs stand side
    by side. Parameters have the names and shapes of torch's layers (``weight_ih_l0``,
    ``weight_hh_l0_reverse``, ...), so ``load_state_dict`` moves them either way.

    Sequences of different lengths are padded to a common one and their ``lengths`` given. Then
    nothing depends on the padding, whatever it holds, not even on NaN: outputs past a sequence's
    end are zero, the final state is the one at its own last step, and the backward direction
    starts there.

    Args:
        input_size: Number of input features.
        hidden_size: Number of hidden units H.
        num_layers: Height of the stack.
        bidirectional: Whether to add the backward direction.
        bias: Whether there are biases.
        backward: ``"manual"`` runs the pass of ``seqbook.training.bptt``, derived by hand and fast;
            ``"autograd"`` runs the textbook loop over the step and lets torch differentiate it.
            Values and gradients are equal. Only the second can be differentiated twice.
        generator: Draws the initial parameters, uniform in +-1 / sqrt(H); by default torch's own.

    Raises:
        ValueError: A size is not positive, or ``backward`` is neither of the two.
    """

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        *,
        num_layers: int = 1,
        bidirectional: bool = False,
        bias: bool = True,
        backward: str = "manual",
        generator: torch.Generator | None = None,
    ):
        super().__init__(input_size, hidden_size, bias=bias)
        if num_layers < 1:
            raise ValueError(f"num_layers: expected at least 1, got {num_layers}")
        check_choice("backward", backward, ("manual", "autograd"))
        self.num_layers, self.bidirectional, self.backward = num_layers, bidirectional, backward
        self._suffixes = [
            [f"_l{layer}{direction}" for direction in ("", "_reverse")[: 1 + bidirectional]]
            for layer in range(num_layers)
        ]
        for layer, suffixes in enumerate(self._suffixes):
            features = input_size if layer == 0 else len(suffixes) * hidden_size
            for suffix in suffixes:
                self._add_weights(features, suffix=suffix, generator=generator)

    def forward(
        self, inputs: Tensor, hidden: Tensor | None = None, *, lengths: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """The outputs at every step, and the state at the last.

        Shape:
            inputs ``(batch, time, features)``; hidden, by default zero, and the final state
            ``(layers * directions, batch, hidden)``; lengths, integers, ``(batch,)``; outputs
            ``(batch, time, directions * hidden)``.

        Raises:
            ValueError: A shape does not fit, or a length is not in 1 to the number of steps.
            TypeError: ``hidden`` is not a tensor, or ``lengths`` not a tensor of integers.
        """
        outputs, (final,) = self._run(inputs, {"hidden": hidden}, lengths)
        return outputs, final

    def _derived(self, inputs: Tensor, state: tuple, weights: Weights) -> tuple[Tensor, ...]:
        """The parts of the state after every step, by a run with a derived backward pass."""
        raise NotImplementedError

    def _run(
        self, inputs: Tensor, state: dict[str, Tensor | None], lengths: Tensor | None
    ) -> tuple[Tensor, list[Tensor]]:
        """Run the stack: the outputs, and the parts of the final state in the order of ``state``.

        ``state`` maps the name of each part of the initial state to its value or None.
        """
        _check_inputs(inputs, "batch, time", self.input_size)
        runs = sum(map(len, self._suffixes))
        shape, axes = (runs, len(inputs), self.hidden_size), "(layers * directions, batch, hidden)"
        parts = [_initial(name, part, inputs, shape, axes) for name, part in state.items()]
        initial = zip(*parts, strict=True)  # the parts of each run's initial state
        ends = _CommonEnd() if lengths is None else _OwnEnds(lengths, inputs)
        values = ends.clear(inputs.transpose(0, 1))  # (time, batch, features)
        finals = []
        for suffixes in self._suffixes:
            outputs = []
            for suffix in suffixes:
                reverse = ends.reverse if suffix.endswith("_reverse") else _as_it_is
                history = self._through_time(reverse(values), next(initial), self._weights(suffix))
                outputs.append(reverse(history[0]))
                finals.append([ends.last(part) for part in history])
            values = ends.clear(torch.cat(outputs, -1) if self.bidirectional else outputs[0])
        return values.transpose(0, 1), [torch.stack(part) for part in zip(*finals, strict=True)]

    def _through_time(self, inputs: Tensor, state: tuple, weights: Weights) -> tuple[Tensor, ...]:
        if self.backward == "manual":
            if not self.bias:  # zeros change no value, and the derived passes need not ask
                zeros = inputs.new_zeros(len(weights.weight_ih))
                weights = weights._replace(bias_ih=zeros, bias_hh=zeros)
            parts = zip(*(part.split(_TOGETHER) for part in state), strict=True)
            pieces = zip(inputs.split(_TOGETHER, 1), parts, strict=True)
            runs = [self._derived(some, start, weights) for some, start in pieces]
            if len(runs) == 1:
                return runs[0]
            return tuple(torch.cat(part, 1) for part in zip(*runs, strict=True))
        return unroll(lambda x, before: self._step(x, before, weights), inputs, state)


class _CommonEnd:
    """Sequences that all end at the last step; like ``_OwnEnds`` on time-major tensors."""

    def clear(self, values: Tensor) -> Tensor:
        return values

    def reverse(self, values: Tensor) -> Tensor:
        return values.flip(0)

    def last(self, values: Tensor) -> Tensor:
        return values[-1]


class _OwnEnds:
    """Padded sequences, each with its own last step.

    A state never depends on later inputs, so a forward run needs nothing but its own last state
    picked out, and a backward run its own steps, and only those, turned round.
    """

    def __init__(self, lengths: Tensor, inputs: Tensor):
        _check_lengths(lengths, inputs)
        steps = torch.arange(inputs.shape[1], device=inputs.device).unsqueeze(1)  # (time, 1)
        self._last = lengths.to(inputs.device, torch.int64) - 1
        self._padding = (steps > self._last).unsqueeze(-1)  # (time, batch, 1)
        self._reversed = torch.where(steps > self._last, steps, self._last - steps)
        self._rows = torch.arange(len(inputs), device=inputs.device)

    def clear(self, values: Tensor) -> Tensor:
        """Zero in the padding, whatever was there."""
        return values.masked_fill(self._padding, 0)

    def reverse(self, values: Tensor) -> Tensor:
        """Each sequence from its last step to its first; the padding stays."""
        return values[self._reversed, self._rows]

    def last(self, values: Tensor) -> Tensor:
        """Each sequence's last step, ``(batch, ...)``."""
        return values[self._last, self._rows]


def _as_it_is(values: Tensor) -> Tensor:
    return values


def _check_inputs(inputs: Tensor, axes: str, features: int) -> None:
    if inputs.dim() != axes.count(",") + 2 or inputs.shape[-1] != features:
        raise ValueError(f"inputs: expected shape ({axes}, {features}), got {tuple(inputs.shape)}")
    if 0 in inputs.shape:
        raise ValueError(
            f"inputs: expected at least one step of one sequence, shape ({axes}, {features}), "
            f"got {tuple(inputs.shape)}"
        )


def _initial(name: str, state: Tensor | None, inputs: Tensor, shape: tuple, axes: str) -> Tensor:
    if state is None:
        return inputs.new_zeros(shape)
    if not isinstance(state, Tensor):
        raise TypeError(f"{name}: expected a tensor of shape {shape}, got {type(state).__name__}")
    if state.shape != shape:
        raise ValueError(
            f"{name}: expected shape {shape} {axes} for inputs of shape {tuple(inputs.shape)}, "
            f"got {tuple(state.shape)}"
        )
    return state


def _check_lengths(lengths: Tensor, inputs: Tensor) -> None:
    batch, time = inputs.shape[:2]
    if not isinstance(lengths, Tensor) or lengths.dtype not in _INTEGERS:
        kind = lengths.dtype if isinstance(lengths, Tensor) else type(lengths).__name__
        raise TypeError(f"lengths: expected a tensor of integers, got {kind}")
    if lengths.shape != (batch,):
        raise ValueError(
            f"lengths: expected shape {(batch,)} for inputs of shape {tuple(inputs.shape)}, "
            f"got {tuple(lengths.shape)}"
        )
    if lengths.min() < 1 or lengths.max() > time:
        raise ValueError(
            f"lengths: expected 1 to {time} for inputs of shape {tuple(inputs.shape)}, got "
            f"{lengths.tolist()} of shape {tuple(lengths.shape)}"
        )
