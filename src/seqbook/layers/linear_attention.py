"""Linear attention: attention without a softmax, which is a recurrence with a matrix as its state.

``linear_attention`` and ``delta_rule`` compute the same outputs in several forms: from a matrix of
scores, step by step, or in chunks. ``LinearAttention`` and ``DeltaNet`` add the projections.

Heads and batch stand in front: ``(..., time, size)``, as for
``seqbook.layers.attention.scaled_dot_product_attention``. Half-precision inputs are computed in
float32, and results returned in the inputs' type.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.functional import elu, linear, logsigmoid, normalize
from torch.nn.init import xavier_uniform_, zeros_

from seqbook.layers.initialization import initialize
from seqbook.layers.linear_recurrence import check_inputs
from seqbook.validation import check_choice, check_integer, has_values

__all__ = ["FORMS", "DeltaNet", "LinearAttention", "Read", "delta_rule", "linear_attention"]

FORMS = ("recurrent", "chunked", "parallel")
"""How to compute: step by step, chunk by chunk, or with all scores at once."""


class Read(NamedTuple):
    """Outputs of linear attention, and the state that continues it.

    Attributes:
        outputs: ``(..., time, d_v)``.
        state: Matrix from keys to values after the last step, ``(..., d_k, d_v)``.

    Example:
        >>> ones = torch.ones(1, 1)
        >>> linear_attention(ones, ones, 3 * ones)
        Read(outputs=tensor([[3.]]), state=tensor([[3.]]))
    """

    outputs: Tensor
    state: Tensor


def linear_attention(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    *,
    log_decay: Tensor | None = None,
    state: Tensor | None = None,
    form: str = "chunked",
    chunk: int = 64,
) -> Read:
    r"""Causal attention with the product of query and key itself as the weight.

    .. math:: S_t &= a_t S_{t-1} + k_t v_t^\top \\
        o_t &= S_t^\top q_t = \sum_{s \le t} \Big(\prod_{r=s+1}^{t} a_r\Big) (q_t^\top k_s) v_s

    The first line is a recurrence whose state is a matrix; the sum is attention without a softmax
    under a causal mask. The chunked form uses the sum inside a chunk and the state between
    chunks. All forms give the same numbers up to rounding. For time T and sizes d they take about
    :math:`T d^2` products (recurrent), :math:`T^2 d` (parallel) and :math:`T (c d + d^2)` (chunks
    of c).

    Args:
        query: q, ``(..., time, d_k)``.
        key: k, ``(..., time, d_k)``.
        value: v, ``(..., time, d_v)``.
        log_decay: Logarithms of the decays a, not above zero and finite, broadcastable to
            ``(..., time)``; by default zero: nothing is forgotten.
        state: S before the first step, ``(..., d_k, d_v)``, by default zero.
        form: One of ``FORMS``.
        chunk: Steps in a chunk of the chunked form.

    Raises:
        ValueError: A shape or device does not fit, a decay is above one or not above zero,
            ``form`` is unknown or ``chunk`` not positive.
        TypeError: An argument is not a tensor of floating type.

    Source: Katharopoulos et al. (2020), equations 16 to 20; Sun et al. (2023) and Yang et al.
    (2024) for decays and chunks.

    Example:
        >>> generator = torch.Generator().manual_seed(0)
        >>> q, k, v = (torch.randn(2, 9, 4, generator=generator) for _ in range(3))
        >>> outputs = [linear_attention(q, k, v, form=form).outputs for form in FORMS]
        >>> torch.allclose(outputs[0], outputs[2], atol=1e-5)
        True
    """
    inputs = _prepare(query, key, value, state, form, chunk)
    steps = inputs.key.shape[:-1]
    decays = inputs.key.new_zeros(steps)
    if log_decay is not None:
        decays = _per_step("log_decay", log_decay, inputs.key)
        if log_decay.numel() and has_values(decays):
            low, high = map(float, decays.detach().aminmax())
            if not (high <= 0 and low > -torch.inf):
                raise ValueError(f"log_decay: expected finite, at most 0, got {low} to {high}")
    outputs, matrix = [], inputs.state
    for q, k, v, logs in inputs.blocks(form, chunk, decays):
        if form == "recurrent":
            matrix = logs.exp()[..., None] * matrix + k.mT @ v
            outputs.append(q @ matrix)
            continue
        total = logs.cumsum(-1)  # of the decays from the start of the chunk
        causal = torch.ones(q.shape[-2], q.shape[-2], dtype=torch.bool, device=q.device).tril()
        between = (total[..., :, None] - total[..., None, :]).masked_fill(~causal, -torch.inf)
        within = (q @ k.mT * between.exp()) @ v
        outputs.append(within + total.exp()[..., None] * (q @ matrix))
        left = (total[..., -1:] - total).exp()  # of each step's entry at the end of the chunk
        matrix = total[..., -1:, None].exp() * matrix + (left[..., None] * k).mT @ v
    return inputs.result(outputs, matrix)


def delta_rule(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    strength: Tensor,
    *,
    state: Tensor | None = None,
    form: str = "chunked",
    chunk: int = 64,
) -> Read:
    r"""Linear attention that corrects what its state returns for a key, instead of adding to it.

    .. math:: S_t &= S_{t-1} + \beta_t k_t (v_t - S_{t-1}^\top k_t)^\top
            = (I - \beta_t k_t k_t^\top) S_{t-1} + \beta_t k_t v_t^\top \\
        o_t &= S_t^\top q_t

    This is one step of gradient descent on :math:`\frac12 \lVert S^\top k_t - v_t \rVert^2` at the
    rate β. With a key of length one and β = 1, the old value of the key is replaced.

    Inside a chunk that starts from S, the corrections
    :math:`u_t = \beta_t (v_t - S_{t-1}^\top k_t)` solve a triangular system, since
    :math:`S_{t-1} = S + \sum_{s<t} k_s u_s^\top`:

    .. math:: \big(I + \operatorname{tril}(\operatorname{diag}(\beta) K K^\top, -1)\big) U
        = \operatorname{diag}(\beta) (V - K S)

    Args:
        query: q, ``(..., time, d_k)``.
        key: k, ``(..., time, d_k)``; for the state to stay bounded, at most of length one.
        value: v, ``(..., time, d_v)``.
        strength: β, broadcastable to ``(..., time)``, usually between 0 and 1.
        state: S before the first step, ``(..., d_k, d_v)``, by default zero.
        form: One of ``FORMS``.
        chunk: Steps in a chunk of the chunked form.

    Raises:
        ValueError: A shape or device does not fit, ``form`` is unknown or ``chunk`` not positive.
        TypeError: An argument is not a tensor of floating type.

    Source: Widrow and Hoff (1960) for the rule; Schlag et al. (2021), section 4.2; Yang et al.
    (2024b) for chunks.

    Example:
        >>> key = torch.tensor([[1.0, 0.0], [1.0, 0.0]])  # the same key twice
        >>> value = torch.tensor([[5.0], [7.0]])
        >>> delta_rule(key, key, value, torch.ones(2)).outputs.flatten()  # linear attention: 5, 12
        tensor([5., 7.])
    """
    inputs = _prepare(query, key, value, state, form, chunk)
    strengths = _per_step("strength", strength, inputs.key)
    outputs, matrix = [], inputs.state
    for q, k, v, beta in inputs.blocks(form, chunk, strengths):
        wanted = beta[..., None] * (v - k @ matrix)
        if form == "recurrent":
            matrix = matrix + k.mT @ wanted
            outputs.append(q @ matrix)
            continue
        size = q.shape[-2]
        overlap = (beta[..., None] * (k @ k.mT)).tril(-1)
        system = overlap + torch.eye(size, dtype=k.dtype, device=k.device)
        corrections = torch.linalg.solve_triangular(system, wanted, upper=False, unitriangular=True)
        outputs.append(q @ matrix + (q @ k.mT).tril() @ corrections)
        matrix = matrix + k.mT @ corrections
    return inputs.result(outputs, matrix)


class _Inputs(NamedTuple):
    """Inputs of one leading shape and one type in which to compute."""

    query: Tensor
    key: Tensor
    value: Tensor
    state: Tensor
    dtype: torch.dtype  # of the results

    def blocks(self, form: str, chunk: int, extra: Tensor) -> Iterator[tuple[Tensor, ...]]:
        """Split time into single steps, chunks or one chunk."""
        time = self.query.shape[-2]
        size = {"recurrent": 1, "chunked": chunk, "parallel": max(time, 1)}[form]
        for start in range(0, time, size):
            steps = slice(start, start + size)
            per_step = (self.query, self.key, self.value)
            yield *(x[..., steps, :] for x in per_step), extra[..., steps]

    def result(self, outputs: list[Tensor], state: Tensor) -> Read:
        together = torch.cat(outputs, -2) if outputs else torch.zeros_like(self.value)
        return Read(together.to(self.dtype), state.to(self.dtype))


def _prepare(
    query: Tensor, key: Tensor, value: Tensor, state: Tensor | None, form: str, chunk: int
) -> _Inputs:
    """Check what all forms of both functions take."""
    check_choice("form", form, FORMS)
    check_integer("chunk", chunk, minimum=1)
    named = {"query": query, "key": key, "value": value}
    for name, x in named.items() if state is None else {**named, "state": state}.items():
        _check_tensor(name, x, query)
        if x.dim() < 2:
            raise ValueError(f"{name}: expected shape (..., time, size), got {tuple(x.shape)}")
    if query.shape[-2:] != key.shape[-2:] or key.shape[-2] != value.shape[-2]:
        raise ValueError(
            "query, key, value: expected (..., time, d_k), (..., time, d_k) and (..., time, d_v), "
            f"got {', '.join(str(tuple(x.shape)) for x in named.values())}"
        )
    sizes = key.shape[-1], value.shape[-1]
    if state is not None and state.shape[-2:] != sizes:
        raise ValueError(
            f"state: expected shape (..., {sizes[0]}, {sizes[1]}), got {tuple(state.shape)}"
        )
    together = (query, key, value) if state is None else (query, key, value, state)
    try:
        leading = torch.broadcast_shapes(*(x.shape[:-2] for x in together))
    except RuntimeError:
        raise ValueError(
            "query, key, value, state: expected leading axes that broadcast, got shapes "
            f"{', '.join(str(tuple(x.shape)) for x in together)}"
        ) from None
    dtype = together[0].dtype
    for x in together[1:]:
        dtype = torch.promote_types(dtype, x.dtype)
    precise = torch.float32 if dtype in (torch.float16, torch.bfloat16) else dtype
    if state is None:
        state = torch.zeros(sizes, dtype=precise, device=query.device)
    query, key, value, state = (
        x.to(precise).expand(*leading, *x.shape[-2:]) for x in (query, key, value, state)
    )
    return _Inputs(query, key, value, state, dtype)


def _per_step(name: str, values: Tensor, key: Tensor) -> Tensor:
    """One number for each step of each sequence, ``(..., time)``."""
    _check_tensor(name, values, key)
    try:
        return values.to(key.dtype).expand(key.shape[:-1])
    except RuntimeError:
        raise ValueError(
            f"{name}: expected a shape that broadcasts to {tuple(key.shape[:-1])}, got "
            f"{tuple(values.shape)}"
        ) from None


def _check_tensor(name: str, value: object, query: Tensor) -> None:
    if not isinstance(value, Tensor):
        raise TypeError(f"{name}: expected a tensor, got {type(value).__name__}")
    if not value.is_floating_point():
        raise TypeError(f"{name}: expected floating-point numbers, got {value.dtype}")
    if isinstance(query, Tensor) and value.device != query.device:
        raise ValueError(f"{name}: expected device {query.device}, got {value.device}")


class _Heads(nn.Module):
    """Projections of inputs to heads and back, without biases."""

    def __init__(
        self,
        size: int,
        num_heads: int,
        gates: int,
        generator: torch.Generator | None,
        device: torch.device | str | None,
        dtype: torch.dtype | None,
    ) -> None:
        super().__init__()
        check_integer("size", size, minimum=1)
        check_integer("num_heads", num_heads, minimum=1)
        if size % num_heads:
            raise ValueError(f"size: expected a multiple of {num_heads} heads, got {size}")
        self.size, self.num_heads = size, num_heads

        def weight(rows: int) -> nn.Parameter:
            return nn.Parameter(torch.empty(rows, size, device=device, dtype=dtype))

        self.in_proj_weight = weight(3 * size)
        self.out_proj_weight = weight(size)
        for parameter in (*self.in_proj_weight.chunk(3), self.out_proj_weight):
            initialize(parameter, xavier_uniform_, generator=generator)
        if gates:
            self.gate_weight = weight(gates)
            self.gate_bias = nn.Parameter(torch.empty(gates, device=device, dtype=dtype))
            initialize(self.gate_weight, xavier_uniform_, generator=generator)
            zeros_(self.gate_bias)

    def split(self, inputs: Tensor) -> list[Tensor]:
        """Query, key and value, each ``(batch, heads, time, size / heads)``."""
        check_inputs(inputs, self.in_proj_weight)
        projected = linear(inputs, self.in_proj_weight).chunk(3, -1)
        return [x.unflatten(-1, (self.num_heads, -1)).transpose(1, 2) for x in projected]

    def gate(self, inputs: Tensor) -> Tensor:
        """One number for each head and step before its sigmoid, ``(batch, heads, time)``."""
        return linear(inputs, self.gate_weight, self.gate_bias).transpose(1, 2)

    def merge(self, outputs: Tensor) -> Tensor:
        """Outputs of all heads, ``(batch, time, size)``."""
        return linear(outputs.transpose(1, 2).flatten(-2), self.out_proj_weight)

    def extra_repr(self) -> str:
        """Return the sizes, for ``repr``."""
        return f"size={self.size}, num_heads={self.num_heads}"


class LinearAttention(_Heads):
    r"""Multi-head causal attention without a softmax.

    .. math:: o_t = \frac{\sum_{s \le t} A_{ts}\, \phi(q_t)^\top \phi(k_s)\, v_s}
            {\sum_{s \le t} A_{ts}\, \phi(q_t)^\top \phi(k_s)}, \qquad
        \phi(x) = \operatorname{elu}(x) + 1 > 0

    where :math:`A_{ts}` is the product of the decays of steps s + 1 to t, one without gates.
    Gates are :math:`a_t = \sigma(W x_t + b)^{1/16}` for each head. Numerator and denominator have
    one state: the denominator is the output for a value that is always one.

    Args:
        size: Number of features, in and out.
        num_heads: Number of heads.
        gated: Whether the state decays by gates.
        generator: Draws the initial weights, Xavier-uniform; by default torch's own.
        device: Where the parameters are, by default torch's default device.
        dtype: Their floating type, by default torch's default type.

    Shape:
        in_proj_weight ``(3 * size, size)``, rows of queries, keys and values; out_proj_weight
        ``(size, size)``; if gated, gate_weight ``(heads, size)`` and gate_bias ``(heads,)``.

    Raises:
        ValueError: A size is not positive, or ``size`` not a multiple of ``num_heads``.
        TypeError: A size is not an integer.

    Source: Katharopoulos et al. (2020), section 3.4; Yang et al. (2024) for the gates.

    Example:
        >>> outputs, state = LinearAttention(8, 2)(torch.zeros(2, 10, 8))
        >>> outputs.shape, state.shape  # one column more than values: the denominator
        (torch.Size([2, 10, 8]), torch.Size([2, 2, 4, 5]))
    """

    def __init__(
        self,
        size: int,
        num_heads: int,
        *,
        gated: bool = False,
        generator: torch.Generator | None = None,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        gates = num_heads if gated else 0
        super().__init__(size, num_heads, gates, generator, device, dtype)
        self.gated = gated

    def forward(
        self,
        inputs: Tensor,
        state: Tensor | None = None,
        *,
        form: str = "chunked",
        chunk: int = 64,
    ) -> Read:
        """Run over a sequence, or go on with one from the state that it ended in.

        Args:
            inputs: ``(batch, time, size)``.
            state: ``(batch, heads, size / heads, size / heads + 1)``, by default zero.
            form: One of ``FORMS``.
            chunk: Steps in a chunk of the chunked form.

        Shape:
            results: outputs ``(batch, time, size)`` and the last state.

        Raises:
            ValueError: A shape or device does not fit, there are no steps, or an option is
                unknown.
            TypeError: An argument is not a tensor of the parameters' type.
        """
        query, key, value = self.split(inputs)
        value = torch.cat([value, torch.ones_like(value[..., :1])], -1)
        decay = logsigmoid(self.gate(inputs)) / 16 if self.gated else None
        (sums, state) = linear_attention(
            elu(query) + 1,
            elu(key) + 1,
            value,
            log_decay=decay,
            state=state,
            form=form,
            chunk=chunk,
        )
        return Read(self.merge(sums[..., :-1] / sums[..., -1:]), state)


class DeltaNet(_Heads):
    r"""Multi-head delta rule with unit keys and strengths that depend on the input.

    .. math:: S_t = S_{t-1} + \beta_t k_t (v_t - S_{t-1}^\top k_t)^\top, \qquad
        o_t = S_t^\top q_t, \qquad \beta_t = \sigma(W x_t + b)

    for each head. Queries and keys are projections of the input, divided by their lengths.

    Args:
        size: Number of features, in and out.
        num_heads: Number of heads.
        generator: Draws the initial weights, Xavier-uniform; by default torch's own.
        device: Where the parameters are, by default torch's default device.
        dtype: Their floating type, by default torch's default type.

    Shape:
        in_proj_weight ``(3 * size, size)``, rows of queries, keys and values; out_proj_weight
        ``(size, size)``; gate_weight ``(heads, size)`` and gate_bias ``(heads,)``.

    Raises:
        ValueError: A size is not positive, or ``size`` not a multiple of ``num_heads``.
        TypeError: A size is not an integer.

    Source: Schlag et al. (2021), section 4.2; Yang et al. (2024b), section 3.

    Example:
        >>> outputs, state = DeltaNet(8, 2)(torch.zeros(2, 10, 8))
        >>> outputs.shape, state.shape
        (torch.Size([2, 10, 8]), torch.Size([2, 2, 4, 4]))
    """

    def __init__(
        self,
        size: int,
        num_heads: int,
        *,
        generator: torch.Generator | None = None,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__(size, num_heads, num_heads, generator, device, dtype)

    def forward(
        self,
        inputs: Tensor,
        state: Tensor | None = None,
        *,
        form: str = "chunked",
        chunk: int = 64,
    ) -> Read:
        """Run over a sequence, or go on with one from the state that it ended in.

        Args:
            inputs: ``(batch, time, size)``.
            state: ``(batch, heads, size / heads, size / heads)``, by default zero.
            form: One of ``FORMS``.
            chunk: Steps in a chunk of the chunked form.

        Shape:
            results: outputs ``(batch, time, size)`` and the last state.

        Raises:
            ValueError: A shape or device does not fit, there are no steps, or an option is
                unknown.
            TypeError: An argument is not a tensor of the parameters' type.
        """
        query, key, value = self.split(inputs)
        outputs, state = delta_rule(
            normalize(query, dim=-1),
            normalize(key, dim=-1),
            value,
            self.gate(inputs).sigmoid(),
            state=state,
            form=form,
            chunk=chunk,
        )
        return Read(self.merge(outputs), state)
