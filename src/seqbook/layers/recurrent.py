"""What recurrent networks share: parameters, checks, stacked layers, directions and padding.

A ``CellSpecification`` says what is special about a network: its gates, the parts of its state, its
step, and its kernel. ``RecurrentCell`` and ``RecurrentLayer`` hold one; ``rnn``, ``lstm`` and
``gru`` define them.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple, TypeVar, cast

import torch
from torch import Tensor, nn

from seqbook.validation import check_choice, check_integer, has_values

__all__ = [
    "CellSpecification",
    "RecurrentCell",
    "RecurrentLayer",
    "Weights",
    "specification_option",
    "unroll",
]

_CACHED_BATCH = 256  # sequences in one run on a CPU: with more, a step's numbers leave the cache
_INTEGERS = {
    *(torch.int8, torch.int16, torch.int32, torch.int64),
    *(torch.uint8, torch.uint16, torch.uint32, torch.uint64),
}

OptionalTensor = TypeVar("OptionalTensor", Tensor, Tensor | None)


class Weights(NamedTuple):
    """The parameters of one direction of one layer, for G gates (G blocks of rows).

    Attributes:
        weight_ih: From the inputs, ``(G * hidden, features)``.
        weight_hh: From the hidden state, ``(G * hidden, hidden)``.
        bias_ih: ``(G * hidden,)``, or None.
        bias_hh: ``(G * hidden,)``, or None. For most gates only the sum of the two biases matters;
            torch's layers have both, and so have these.

    Example:
        >>> weights = Weights(torch.ones(4, 2), torch.eye(4), bias_ih=None, bias_hh=None)  # G = 1
        >>> torch.nn.functional.linear(torch.ones(1, 2), weights.weight_ih, weights.bias_ih)
        tensor([[2., 2., 2., 2.]])
    """

    weight_ih: Tensor
    weight_hh: Tensor
    bias_ih: Tensor | None
    bias_hh: Tensor | None


class CellSpecification(NamedTuple):
    """What distinguishes one kind of recurrent network from another.

    Attributes:
        gates: Number of gates G, blocks of rows in the parameters.
        state: Names of the parts of the state. The first part is the output.
        step: Maps the inputs ``(batch, features)`` of one step, the parts of the state before it,
            each ``(batch, hidden)``, and the weights to the parts of the state after it.
        kernel: Maps the inputs ``(time, batch, features)``, the parts of the initial state and the
            weights, biases included, to each part at every step, ``(time, batch, hidden)``: the
            same function with a backward pass derived by hand.

    Example:
        >>> from seqbook.layers.lstm import LSTM
        >>> specification = LSTM(3, 5).specification
        >>> specification.gates, specification.state
        (4, ('hidden', 'cell'))
    """

    gates: int
    state: tuple[str, ...]
    step: Callable[[Tensor, tuple[Tensor, ...], Weights], tuple[Tensor, ...]]
    kernel: Callable[[Tensor, tuple[Tensor, ...], Weights], tuple[Tensor, ...]]


def specification_option(
    name: str, specify: Callable[[str], CellSpecification], description: str
) -> property:
    """Make a property that reads an option of a network's specification and can change it.

    Args:
        name: Name of the option, a keyword of the specification's ``step``, which is a ``partial``.
        specify: Makes the specification for a value of the option.
        description: The property's docstring.

    Example:
        >>> from seqbook.layers.rnn import RNN
        >>> layer = RNN(1, 1)
        >>> layer.activation = "relu"
        >>> layer.specification.step.keywords["activation"]
        'relu'
    """

    def read(module: _RecurrentModule) -> Any:
        return cast(partial, module.specification.step).keywords[name]

    def change(module: _RecurrentModule, value: str) -> None:
        module.specification = specify(value)

    return property(read, change, doc=description)


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

    Example:
        >>> import torch
        >>> def add(inputs, state):
        ...     return (state[0] + inputs,)
        >>> (sums,) = unroll(add, torch.ones(4, 1, 1), (torch.zeros(1, 1),))
        >>> sums.flatten().tolist()
        [1.0, 2.0, 3.0, 4.0]
    """
    history = []
    for step_inputs in inputs.unbind(0):
        state = step(step_inputs, state)
        history.append(state)
    return tuple(torch.stack(part) for part in zip(*history, strict=True))


class _RecurrentModule(nn.Module):
    """The sizes and parameters of a cell or a layer, initialised as torch initialises them."""

    def __init__(
        self, specification: CellSpecification, input_size: int, hidden_size: int, *, bias: bool
    ) -> None:
        super().__init__()
        input_size = check_integer("input_size", input_size, minimum=1)
        hidden_size = check_integer("hidden_size", hidden_size, minimum=1)
        self.specification = specification
        self.input_size, self.hidden_size, self.bias = input_size, hidden_size, bias

    def _add_weights(
        self,
        input_size: int,
        suffix: str,
        generator: torch.Generator | None,
        device: torch.device | str | None,
        dtype: torch.dtype | None,
    ) -> None:
        rows, bound = self.specification.gates * self.hidden_size, self.hidden_size**-0.5
        drawn_on = device if generator is None else generator.device
        shapes = {
            "weight_ih": (rows, input_size),
            "weight_hh": (rows, self.hidden_size),
            "bias_ih": (rows,),
            "bias_hh": (rows,),
        }
        for name, shape in shapes.items():
            if name.startswith("bias") and not self.bias:
                self.register_parameter(name + suffix, None)
                continue
            values = torch.empty(shape, device=drawn_on, dtype=dtype)
            values.uniform_(-bound, bound, generator=generator)
            self.register_parameter(name + suffix, nn.Parameter(values.to(device)))

    def _weights(self, suffix: str = "", *, dtype: torch.dtype | None) -> Weights:
        """The parameters of one direction of one layer, in autocast's type if there is one."""
        return Weights(*(_cast(getattr(self, name + suffix), dtype) for name in Weights._fields))

    def extra_repr(self) -> str:
        """Return the sizes, for ``print``."""
        return f"{self.input_size}, {self.hidden_size}"


class RecurrentCell(_RecurrentModule):
    """One step of a recurrent network with its parameters, laid out as in torch's cells.

    .. math:: s_t = f(x_t, s_{t-1})

    for the ``step`` f of the specification and the parts s of the state.

    The base class of ``RNNCell``, ``LSTMCell`` and ``GRUCell``.

    Args:
        specification: The kind of network.
        input_size: Number of input features.
        hidden_size: Number of hidden units H.
        bias: Whether to add biases.
        generator: Draws the initial parameters, uniform in ``±1/sqrt(H)``; by default torch's own.
        device: Where the parameters are, by default torch's default device.
        dtype: Their floating type, by default torch's default type.

    Shape:
        weight_ih ``(G * hidden, features)``; weight_hh ``(G * hidden, hidden)``; biases
        ``(G * hidden,)``, for G gates.

    Raises:
        ValueError: A size is not positive.
        TypeError: A size is not an integer.

    Example:
        >>> from seqbook.layers.gru import GRUCell
        >>> cell = GRUCell(3, 5)
        >>> isinstance(cell, RecurrentCell), cell.weight_hh.shape  # three gates of five units
        (True, torch.Size([15, 5]))
        >>> cell.load_state_dict(nn.GRUCell(3, 5).state_dict())
        <All keys matched successfully>
    """

    def __init__(
        self,
        specification: CellSpecification,
        input_size: int,
        hidden_size: int,
        *,
        bias: bool = True,
        generator: torch.Generator | None = None,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__(specification, input_size, hidden_size, bias=bias)
        self._add_weights(input_size, "", generator, device, dtype)

    def _step(self, inputs: Tensor, state: tuple[Tensor | None, ...]) -> tuple[Tensor, ...]:
        """Check the arguments and compute the parts of the state after one step."""
        _check_shape(inputs, "batch", self.input_size)
        dtype = _autocast_dtype(inputs)
        weights = self._weights(dtype=dtype)
        inputs = _cast(inputs, dtype)
        _check_kind("inputs", inputs, weights.weight_ih)
        shape = (len(inputs), self.hidden_size)
        parts = tuple(
            _initial(name, _cast(part, dtype), inputs, shape, "(batch, hidden)")
            for name, part in zip(self.specification.state, state, strict=True)
        )
        return self.specification.step(inputs, parts, weights)


class RecurrentLayer(_RecurrentModule):
    r"""Recurrent layers over whole sequences, one on top of another, in one or both directions.

    .. math:: \overrightarrow{s}^{(l)}_t
        &= f\big(u^{(l-1)}_t, \overrightarrow{s}^{(l)}_{t-1}\big), \qquad
        \overleftarrow{s}^{(l)}_t = f\big(u^{(l-1)}_t, \overleftarrow{s}^{(l)}_{t+1}\big) \\
        u^{(l)}_t &= \big[\overrightarrow{h}^{(l)}_t, \overleftarrow{h}^{(l)}_t\big], \qquad
        u^{(0)}_t = x_t

    for the ``step`` f of the specification, the state s and its first part h. With one direction
    :math:`u_t` is the first half alone.

    The base class of ``RNN``, ``LSTM`` and ``GRU``.

    Layer l + 1 reads the outputs of layer l. With ``bidirectional``, a second network with its own
    parameters reads each sequence from its last step to its first, and the two outputs are
    concatenated. Parameters have the names and shapes of torch's layers (``weight_ih_l0``,
    ``weight_hh_l0_reverse``, ...), so ``load_state_dict`` moves them either way.

    Sequences of different lengths are padded to a common one and their ``lengths`` given. Then
    nothing depends on the padding, whatever it holds, not even on NaN: outputs past a sequence's
    end are zero, the final state is the one at its own last step, and the backward direction
    starts there.

    Under autocast everything is computed in autocast's type, as in torch's layers on a GPU.

    Args:
        specification: The kind of network.
        input_size: Number of input features.
        hidden_size: Number of hidden units H.
        num_layers: Number of layers.
        bidirectional: Whether to add the backward direction.
        bias: Whether to add biases.
        backward: ``"manual"`` runs the kernel, whose backward pass is derived by hand and fast;
            ``"autograd"`` runs the textbook loop over the step and lets torch differentiate it.
            Values and gradients are equal up to rounding. Only the second can be differentiated
            twice, in forward mode or under ``torch.func.vmap``; the first then raises.
        generator: Draws the initial parameters, uniform in ``±1/sqrt(H)``; by default torch's own.
        device: Where the parameters are, by default torch's default device.
        dtype: Their floating type, by default torch's default type.

    Raises:
        ValueError: A size is not positive, or ``backward`` is neither of the two.
        TypeError: A size is not an integer.

    Source: Schuster and Paliwal (1997) for the two directions.

    Example:
        >>> from seqbook.layers.gru import GRU
        >>> layer = GRU(3, 5, num_layers=2, bidirectional=True)
        >>> outputs, final = layer(torch.ones(2, 7, 3), lengths=torch.tensor([7, 4]))
        >>> outputs.shape, outputs[1, 4:].abs().sum().item()  # zero past its end
        (torch.Size([2, 7, 10]), 0.0)
    """

    def __init__(
        self,
        specification: CellSpecification,
        input_size: int,
        hidden_size: int,
        *,
        num_layers: int = 1,
        bidirectional: bool = False,
        bias: bool = True,
        backward: str = "manual",
        generator: torch.Generator | None = None,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__(specification, input_size, hidden_size, bias=bias)
        num_layers = check_integer("num_layers", num_layers, minimum=1)
        check_choice("backward", backward, ("manual", "autograd"))
        self.num_layers, self.bidirectional, self.backward = num_layers, bidirectional, backward
        for layer, suffixes in enumerate(self._suffixes()):
            features = input_size if layer == 0 else len(suffixes) * hidden_size
            for suffix in suffixes:
                self._add_weights(features, suffix, generator, device, dtype)

    def _suffixes(self) -> list[list[str]]:
        """For each layer the endings of its parameters' names, one for each direction."""
        directions = ("", "_reverse") if self.bidirectional else ("",)
        return [
            [f"_l{layer}{direction}" for direction in directions]
            for layer in range(self.num_layers)
        ]

    def _run(
        self, inputs: Tensor, state: tuple[Tensor | None, ...], lengths: Tensor | None
    ) -> tuple[Tensor, tuple[Tensor, ...]]:
        """Check the arguments and run all layers.

        Args:
            inputs: ``(batch, time, features)``.
            state: The parts of the initial state; None is zero.
            lengths: Lengths of the sequences, if they are padded.

        Returns:
            The outputs, ``(batch, time, directions * hidden)``, and the parts of the final state,
            each ``(layers * directions, batch, hidden)``.
        """
        _check_shape(inputs, "batch, time", self.input_size)
        dtype = _autocast_dtype(inputs)
        inputs = _cast(inputs, dtype)
        weights = [
            [self._weights(suffix, dtype=dtype) for suffix in suffixes]
            for suffixes in self._suffixes()
        ]
        _check_kind("inputs", inputs, weights[0][0].weight_ih)
        shape = (sum(map(len, weights)), len(inputs), self.hidden_size)
        parts = [
            _initial(
                name, _cast(part, dtype), inputs, shape, "(layers * directions, batch, hidden)"
            )
            for name, part in zip(self.specification.state, state, strict=True)
        ]
        padding = _Unpadded() if lengths is None else _Padded(lengths, inputs)
        if dtype is None:
            return self._run_layers(inputs, parts, weights, padding)
        with torch.autocast(inputs.device.type, enabled=False):  # everything has its type already
            return self._run_layers(inputs, parts, weights, padding)

    def _run_layers(
        self,
        inputs: Tensor,
        state: list[Tensor],
        weights: list[list[Weights]],
        padding: _Unpadded | _Padded,
    ) -> tuple[Tensor, tuple[Tensor, ...]]:
        initial_states = zip(*state, strict=True)  # for each direction of each layer
        values = padding.zero(inputs.transpose(0, 1))  # (time, batch, features)
        finals = []
        for layer_weights in weights:
            outputs = []
            for direction, direction_weights in enumerate(layer_weights):
                ordered = padding.reverse(values) if direction else values
                history = self._over_time(ordered, next(initial_states), direction_weights)
                outputs.append(padding.reverse(history[0]) if direction else history[0])
                finals.append([padding.last(part) for part in history])
            values = padding.zero(torch.cat(outputs, -1) if len(outputs) > 1 else outputs[0])
        # A copy, since the kernel needs its states for the backward pass, and the caller may change
        # the outputs in place.
        batch_first = values.transpose(0, 1).clone(memory_format=torch.contiguous_format)
        return batch_first, tuple(torch.stack(part) for part in zip(*finals, strict=True))

    def _over_time(
        self, inputs: Tensor, state: tuple[Tensor, ...], weights: Weights
    ) -> tuple[Tensor, ...]:
        """Run one direction of one layer: each part of the state at every step."""
        step, kernel = self.specification.step, self.specification.kernel
        if self.backward == "autograd":
            return unroll(lambda x, before: step(x, before, weights), inputs, state)
        if not self.bias:  # zeros change no value, and the kernels need not ask
            zeros = inputs.new_zeros(len(weights.weight_ih))
            weights = weights._replace(bias_ih=zeros, bias_hh=zeros)
        batch = _CACHED_BATCH if inputs.device.type == "cpu" else inputs.shape[1]
        if inputs.shape[1] <= batch:
            return kernel(inputs, state, weights)
        states = zip(*(part.split(batch) for part in state), strict=True)
        pieces = zip(inputs.split(batch, 1), states, strict=True)
        runs = [kernel(piece, initial, weights) for piece, initial in pieces]
        return tuple(torch.cat(part, 1) for part in zip(*runs, strict=True))


class _Unpadded:
    """Sequences that all end at the last step; like ``_Padded``, for time-major tensors."""

    def zero(self, values: Tensor) -> Tensor:
        return values

    def reverse(self, values: Tensor) -> Tensor:
        return values.flip(0)

    def last(self, values: Tensor) -> Tensor:
        return values[-1]


class _Padded:
    """Padded sequences, each with its own last step.

    A state never depends on later inputs, so the forward direction only needs each sequence's own
    last state picked out, and the backward direction each sequence's own steps reversed.
    """

    def __init__(self, lengths: Tensor, inputs: Tensor) -> None:
        self._last = _checked_lengths(lengths, inputs).to(inputs.device) - 1
        steps = torch.arange(inputs.shape[1], device=inputs.device).unsqueeze(1)  # (time, 1)
        self._padding = (steps > self._last).unsqueeze(-1)  # (time, batch, 1)
        self._reversed = torch.where(steps > self._last, steps, self._last - steps)
        self._rows = torch.arange(len(inputs), device=inputs.device)

    def zero(self, values: Tensor) -> Tensor:
        """Zero in the padding, whatever was there."""
        return values.masked_fill(self._padding, 0)

    def reverse(self, values: Tensor) -> Tensor:
        """Each sequence from its last step to its first; the padding stays."""
        return values[self._reversed, self._rows]

    def last(self, values: Tensor) -> Tensor:
        """Each sequence's last step, ``(batch, ...)``."""
        return values[self._last, self._rows]


def _autocast_dtype(inputs: Tensor) -> torch.dtype | None:
    """The type in which autocast computes on the inputs' device, None where it is off."""
    device = inputs.device.type
    if torch.amp.is_autocast_available(device) and torch.is_autocast_enabled(device):
        return torch.get_autocast_dtype(device)
    return None


def _cast(values: OptionalTensor, dtype: torch.dtype | None) -> OptionalTensor:
    """Cast what autocast would cast: floating types, but not float64."""
    if dtype is None or not isinstance(values, Tensor):
        return values
    return (
        values.to(dtype) if values.is_floating_point() and values.dtype != torch.float64 else values
    )


def _check_shape(inputs: Tensor, axes: str, features: int) -> None:
    expected = f"({axes}, {features})"
    if not isinstance(inputs, Tensor):
        raise TypeError(
            f"inputs: expected a tensor of shape {expected}, got {type(inputs).__name__}"
        )
    shape = tuple(inputs.shape)
    if len(shape) != axes.count(",") + 2 or shape[-1] != features:
        raise ValueError(f"inputs: expected shape {expected}, got {shape}")
    if 0 in shape:
        raise ValueError(
            f"inputs: expected at least one step of one sequence, shape {expected}, got {shape}"
        )


def _check_kind(name: str, values: Tensor, parameter: Tensor) -> None:
    """Raise unless the values have the parameters' type and are on their device."""
    if values.dtype != parameter.dtype:
        raise TypeError(
            f"{name}: expected {parameter.dtype}, the type of the parameters, got {values.dtype}"
        )
    if not values.is_floating_point():
        raise TypeError(f"{name}: expected a floating type, got {values.dtype}")
    if values.device != parameter.device:
        raise ValueError(
            f"{name}: expected device {parameter.device}, that of the parameters, got "
            f"{values.device}"
        )


def _initial(
    name: str, state: Tensor | None, inputs: Tensor, shape: tuple[int, ...], axes: str
) -> Tensor:
    """Check a part of the initial state, by default zero."""
    if state is None:
        return inputs.new_zeros(shape)
    if not isinstance(state, Tensor):
        raise TypeError(f"{name}: expected a tensor of shape {shape}, got {type(state).__name__}")
    if state.shape != shape:
        raise ValueError(
            f"{name}: expected shape {shape} {axes} for inputs of shape {tuple(inputs.shape)}, "
            f"got {tuple(state.shape)}"
        )
    _check_kind(name, state, inputs)
    return state


def _checked_lengths(lengths: Tensor, inputs: Tensor) -> Tensor:
    """Check the lengths of padded sequences; return them as int64."""
    kind = lengths.dtype if isinstance(lengths, Tensor) else type(lengths).__name__
    if kind not in _INTEGERS:
        raise TypeError(f"lengths: expected a tensor of integers, got {kind}")
    batch, time = inputs.shape[:2]
    if lengths.shape != (batch,):
        raise ValueError(
            f"lengths: expected shape {(batch,)} for inputs of shape {tuple(inputs.shape)}, "
            f"got {tuple(lengths.shape)}"
        )
    lengths = lengths.to(torch.int64)
    if has_values(lengths) and not bool(((lengths >= 1) & (lengths <= time)).all()):
        raise ValueError(
            f"lengths: expected 1 to {time} for inputs of shape {tuple(inputs.shape)}, got "
            f"{lengths.tolist()} of shape {tuple(lengths.shape)}"
        )
    return lengths
