"""Masks and attention: equal to torch's, the three implementations to each other, and causal."""

import re
import weakref
from contextlib import nullcontext
from functools import partial

import pytest
import torch
from devices import other_device
from hypothesis import given, settings
from hypothesis import strategies as st
from parity import assert_equal, dependence, randomise, values_and_gradients
from torch import nn
from torch._subclasses import FakeTensorMode
from torch.autograd import gradcheck
from torch.nn.functional import scaled_dot_product_attention as torch_attention
from torch.utils._python_dispatch import TorchDispatchMode

from seqbook.layers.attention import (
    IMPLEMENTATIONS,
    KeysAndValues,
    KeyValueCache,
    MultiHeadAttention,
    causal_mask,
    chunked_attention,
    padding_mask,
    recorded_weights,
    scaled_dot_product_attention,
)
from seqbook.training.profiling import count_macs, peak_bytes

dtypes = st.sampled_from([torch.float64, torch.float32])
seeds = st.integers(0, 2**16)
sizes = st.fixed_dictionaries(
    {
        "batch": st.integers(1, 3),
        "heads": st.integers(1, 3),
        "queries": st.integers(1, 6),
        "keys": st.integers(1, 6),
        "features": st.integers(1, 5),
        "width": st.integers(1, 5),
    }
)
# The number of last axes of (batch, heads, queries, keys) that the mask has, and those of size 1.
mask_kinds = st.none() | st.tuples(st.integers(0, 4), st.sets(st.integers(0, 3), max_size=3))


def draw_mask(kind, shape, generator):
    """Draw a mask that broadcasts to ``shape``; now and then it leaves a query nothing."""
    if kind is None:
        return None
    axes, single = kind
    shape = [1 if i in single else size for i, size in enumerate(shape)][len(shape) - axes :]
    return torch.rand(shape, generator=generator) < 0.6


def draw(generator, *shape, dtype=torch.float64):
    return torch.randn(shape, generator=generator, dtype=torch.float64).to(dtype)


def draw_problem(size, dtype, generator):
    """Draw queries, keys and values."""
    lead, n, m = (size["batch"], size["heads"]), size["queries"], size["keys"]
    shapes = ((n, size["features"]), (m, size["features"]), (m, size["width"]))
    return [draw(generator, *lead, *shape, dtype=dtype) for shape in shapes]


def textbook(*inputs, mask=None, causal=False):
    if causal:
        own = causal_mask(inputs[0].shape[-2], inputs[1].shape[-2])
        mask = own if mask is None else mask & own
    return scaled_dot_product_attention(*inputs, mask=mask).output


# Masks


@pytest.mark.parametrize(("queries", "keys"), [(4, None), (4, 4), (2, 5), (1, 3), (0, 2), (0, 0)])
def test_the_last_causal_query_stands_at_the_last_key(queries, keys):
    past = 0 if keys is None else keys - queries
    expected = [[j <= i + past for j in range(queries + past)] for i in range(queries)]
    mask = causal_mask(queries, keys)
    assert mask.dtype == torch.bool
    assert mask.shape == (queries, queries + past)
    assert mask.tolist() == expected


def test_a_padding_mask_lets_attend_to_the_first_keys_and_joins_a_causal_mask():
    padding = padding_mask(torch.tensor([3, 0, 2]), 3)
    assert padding.tolist() == [[[True] * 3], [[False] * 3], [[True, True, False]]]
    joined = padding & causal_mask(2, 3)
    assert joined[2].tolist() == [[True, True, False], [True, True, False]]
    assert joined[0].tolist() == [[True, True, False], [True, True, True]]
    assert padding_mask(torch.tensor([], dtype=torch.int64), 4).shape == (0, 1, 4)


# Scaled dot-product attention


@settings(max_examples=60)
@given(size=sizes, kind=mask_kinds, dtype=dtypes, seed=seeds, scaled=st.booleans())
def test_attention_equals_torchs_and_its_weights_sum_to_one_or_zero(
    size, kind, dtype, seed, scaled
):
    generator = torch.Generator().manual_seed(seed)
    inputs = draw_problem(size, dtype, generator)
    shape = (size["batch"], size["heads"], size["queries"], size["keys"])
    mask = draw_mask(kind, shape, generator)
    whole = None if mask is None else mask.expand(shape)
    ours = values_and_gradients(
        lambda *x: scaled_dot_product_attention(*x, mask=mask, scaled=scaled).output, *inputs
    )
    scale = None if scaled else 1.0
    assert_equal(
        ours,
        values_and_gradients(lambda *x: torch_attention(*x, attn_mask=whole, scale=scale), *inputs),
    )
    output, weights = scaled_dot_product_attention(*inputs, mask=mask, scaled=scaled)
    assert weights.shape == shape
    assert (weights >= 0).all()
    sums = torch.ones(shape[:-1]) if mask is None else whole.any(-1)
    torch.testing.assert_close(weights.sum(-1), sums.to(dtype))
    torch.testing.assert_close(weights @ inputs[2], output)
    if mask is not None:
        assert weights[~whole].eq(0).all()


@pytest.mark.parametrize(
    "attend",
    [
        lambda *x, mask: scaled_dot_product_attention(*x, mask=mask).output,
        lambda *x, mask: chunked_attention(*x, mask=mask, chunk=2),
        lambda *x, mask: torch_attention(*x, attn_mask=mask),
    ],
    ids=["ours", "chunked", "torch"],
)
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_a_query_that_may_attend_to_nothing_gets_zero_and_no_gradient(attend, dtype):
    generator = torch.Generator().manual_seed(0)
    inputs = [draw(generator, 2, 3, 4, dtype=dtype) for _ in range(3)]
    mask = torch.tensor([[True, True, False], [False] * 3, [False, True, True]])
    result = values_and_gradients(lambda *x: attend(*x, mask=mask), *inputs)
    assert all(x.isfinite().all() for x in result.values())
    assert result["values"][:, 1].eq(0).all()
    assert result["input 0"][:, 1].eq(0).all()
    assert result["values"][:, [0, 2]].ne(0).all()


def test_torchs_multi_head_attention_gives_such_a_query_nan_if_it_returns_weights():
    reference = nn.MultiheadAttention(4, 2, batch_first=True)
    inputs = torch.ones(1, 2, 4)
    mask = torch.tensor([[True, True], [False, False]])
    for need_weights in (True, False):
        output, _ = reference(*[inputs] * 3, attn_mask=~mask, need_weights=need_weights)
        assert output[0, 1].isnan().all() == need_weights
    ours = MultiHeadAttention(4, 2)
    ours.load_state_dict(reference.state_dict())
    torch.testing.assert_close(ours(inputs, mask=mask), output)


@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
@pytest.mark.parametrize("chunk", [1, 2, 8])
def test_scores_of_ten_thousand_stay_finite_and_both_ways_equal(chunk, dtype, masked):
    generator = torch.Generator().manual_seed(0)
    query, key, value = (draw(generator, 4, 6, 2, dtype=dtype) for _ in range(3))
    scores = query @ key.transpose(-2, -1) / 2**0.5
    query = query * 1e4 / scores.abs().max()
    # All but the two lowest are masked: what a mask hides must not decide the softmax.
    mask = scores <= scores.kthvalue(2, keepdim=True).values if masked else None
    result = values_and_gradients(
        lambda *x: chunked_attention(*x, mask=mask, chunk=chunk), query, key, value
    )
    assert all(x.isfinite().all() for x in result.values())
    # Single precision leaves such a score an error of 0.0005, and so the weights one of 0.001.
    assert_equal(
        result,
        values_and_gradients(lambda *x: textbook(*x, mask=mask), query, key, value),
        tolerance={torch.float64: 1e-10, torch.float32: 1e-2},
    )


# Chunked attention


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
@pytest.mark.parametrize("masked", [False, True])
def test_rows_of_moderate_and_of_extreme_scores_may_stand_in_one_call(masked, dtype):
    """The kernel subtracts a row's highest score only where the sums of powers demand it."""
    generator = torch.Generator().manual_seed(4)
    query, key, value = (draw(generator, 1, 2, 12, 4, dtype=dtype) for _ in range(3))
    key[..., 0] = 1.0
    query[:, :, 4:6, 0] -= 400.0  # scores near -200: their powers underflow
    query[:, 0, 8:10, 0] += 400.0  # near 200: they overflow
    query[:, :, 10] *= 1e3  # of both signs, far apart
    mask = torch.rand(12, 12, generator=generator) < 0.7 if masked else None
    ours = values_and_gradients(
        lambda *x: chunked_attention(*x, mask=mask, chunk=2), query, key, value
    )
    theirs = values_and_gradients(lambda *x: textbook(*x, mask=mask), query, key, value)
    # A score of a thousand has an error of a thousand times float32's 6e-8, and so have weights.
    assert_equal(ours, theirs, tolerance={torch.float64: 1e-10, torch.float32: 1e-3})


@pytest.mark.parametrize("kind", [None, "padding", "full"])
@pytest.mark.parametrize("causal", [False, True])
def test_chunks_whose_keys_are_taken_in_parts_equal_the_textbook(kind, causal):
    """A chunk of 600 queries takes 436 of the 1,500 keys at a time, also across the diagonal."""
    generator = torch.Generator().manual_seed(3)
    query = draw(generator, 1, 1, 600, 4)
    key, value = (draw(generator, 1, 1, 1500, 4) for _ in range(2))
    mask = torch.rand(600, 1500, generator=generator) < 0.5 if kind == "full" else None
    if kind == "padding":
        mask = torch.arange(1500) < 1300
    both = causal_mask(600, 1500) if causal else torch.tensor(True)
    both = both if mask is None else both & mask
    ours = values_and_gradients(
        lambda *x: chunked_attention(*x, mask=mask, causal=causal), query, key, value
    )
    assert_equal(ours, values_and_gradients(lambda *x: textbook(*x, mask=both), query, key, value))


@settings(max_examples=100)
@given(
    size=sizes,
    kind=mask_kinds,
    dtype=dtypes,
    seed=seeds,
    chunk=st.integers(1, 7),
    causal=st.booleans(),
    shared=st.sets(st.sampled_from(["query", "key", "value"]), max_size=2),
)
def test_chunked_attention_equals_the_textbooks(size, kind, dtype, seed, chunk, causal, shared):
    generator = torch.Generator().manual_seed(seed)
    if causal:
        size = size | {"keys": size["queries"] + size["keys"] - 1}
    inputs = dict(zip(("query", "key", "value"), draw_problem(size, dtype, generator), strict=True))
    for name in shared:  # one for all heads
        inputs[name] = inputs[name][:, 0].unsqueeze(1)
    shape = (size["batch"], size["heads"], size["queries"], size["keys"])
    mask = draw_mask(kind, shape, generator)
    options = {"mask": mask, "causal": causal}
    assert_equal(
        values_and_gradients(
            lambda *x: chunked_attention(*x, **options, chunk=chunk), *inputs.values()
        ),
        values_and_gradients(lambda *x: textbook(*x, **options), *inputs.values()),
    )


@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("mask_shape", [None, (5,), (4, 1), (2, 4, 5)])
def test_chunked_attention_passes_the_finite_difference_check(mask_shape, causal):
    generator = torch.Generator().manual_seed(1)
    shapes = ((2, 4, 3), (1, 5, 3), (2, 5, 2))
    inputs = [draw(generator, *shape).requires_grad_() for shape in shapes]
    mask = None if mask_shape is None else torch.rand(mask_shape, generator=generator) < 0.6
    assert gradcheck(lambda *x: chunked_attention(*x, mask=mask, causal=causal, chunk=2), inputs)


class Elements(TorchDispatchMode):
    """Count the elements of the tensors made inside, the most held at a time."""

    def __init__(self):
        super().__init__()
        self.peak, self._live = 0, {}

    def __torch_dispatch__(self, operation, types, arguments=(), options=None):
        result = operation(*arguments, **(options or {}))
        for tensor in result if isinstance(result, (tuple, list)) else (result,):
            if not isinstance(tensor, torch.Tensor):
                continue
            storage = tensor.untyped_storage()
            if storage._cdata not in self._live:
                self._live[storage._cdata] = storage.nbytes() // tensor.element_size()
                weakref.finalize(storage, self._live.pop, storage._cdata)
        self.peak = max(self.peak, sum(self._live.values()))
        return result


def elements_of(attend, time):
    inputs = [torch.zeros(2, time, 8, requires_grad=True) for _ in range(3)]
    with Elements() as elements:
        attend(*inputs).sum().backward()
    return elements


@pytest.mark.parametrize("masking", ["none", "causal", "padding"])
def test_the_peak_memory_of_chunked_attention_is_linear_in_the_length(masking):
    def peak(time):
        mask = padding_mask(torch.tensor([time, 3]), time) if masking == "padding" else None
        options = {"mask": mask, "causal": masking == "causal", "chunk": 16}
        return elements_of(partial(chunked_attention, **options), time).peak

    short, long = peak(64), peak(128)
    assert short > 4 * 2 * 64 * 8  # the output and three gradients at least
    assert long < 2.1 * short
    assert elements_of(textbook, 128).peak > 3.5 * elements_of(textbook, 64).peak


def test_a_layer_holds_the_scores_of_one_chunk_at_a_time():
    layer = MultiHeadAttention(8, 4)
    inputs = torch.zeros(2, 800, 8)

    def peak(implementation):
        layer.implementation = implementation
        layer.zero_grad()
        return peak_bytes(lambda: layer(inputs).sum().backward())

    scores = 4 * 2 * 4 * 800 * 800
    assert peak("fused") == peak("chunked") < scores < peak("loop")


def test_causal_chunked_attention_skips_the_blocks_of_the_future():
    inputs = [torch.zeros(2, 64, 8, requires_grad=True) for _ in range(3)]

    def work(causal):
        return count_macs(
            lambda: chunked_attention(*inputs, causal=causal, chunk=8).sum().backward()
        )

    whole = 7 * 2 * 64 * 64 * 8  # two products forward, five backward
    assert work(causal=False) == whole
    assert work(causal=True) == whole * 36 / 64  # of 8 times 8 blocks


def test_chunked_attention_changes_nothing_of_the_callers_and_its_graph_can_be_kept():
    generator = torch.Generator().manual_seed(0)
    inputs = [draw(generator, 2, 5, 3).requires_grad_() for _ in range(3)]
    gradient, mask = draw(generator, 2, 5, 3), causal_mask(5)
    before = [x.detach().clone() for x in (*inputs, gradient, mask)]
    output = chunked_attention(*inputs, mask=mask, chunk=2)
    first = torch.autograd.grad(output, inputs, gradient, retain_graph=True)
    second = torch.autograd.grad(output, inputs, gradient, retain_graph=True)
    assert all(map(torch.equal, first, second))
    assert all(map(torch.equal, (*inputs, gradient, mask), before))
    mask.fill_(True)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        output.backward(gradient)


@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("loss", [torch.sum, lambda y: y.square().sum()], ids=["linear", "square"])
@pytest.mark.parametrize("masked", [False, True])
def test_second_derivatives_of_chunked_attention_are_the_textbooks(masked, loss, causal):
    # A loss that is linear in the output brings a constant gradient: what depends on nothing
    # differentiable still has a derivative in the inputs.
    generator = torch.Generator().manual_seed(0)
    query, key = draw(generator, 2, 4, 3), draw(generator, 2, 5, 3)
    mask = torch.tensor([[True, False, True, True, True], *[[True] * 5] * 2, [False] * 5])
    options = {"mask": mask if masked else None, "causal": causal}

    def hessian(attend):
        return torch.autograd.functional.hessian(
            lambda q, k: loss(attend(q, k, k, **options)), (query, key)
        )

    for ours, theirs in zip(hessian(chunked_attention), hessian(textbook), strict=True):
        for one, other in zip(ours, theirs, strict=True):
            assert other.abs().max() > 1e-3
            torch.testing.assert_close(one, other, rtol=1e-10, atol=1e-10)


def test_a_penalty_on_a_gradient_counts_beside_another_loss():
    def gradient(attend):
        inputs = draw(torch.Generator().manual_seed(0), 2, 5, 3).requires_grad_()
        output = attend(inputs, inputs, inputs)
        (slope,) = torch.autograd.grad(output.sum(), inputs, create_graph=True)
        (output.square().mean() + 10 * (slope.norm() - 1) ** 2).backward()
        return inputs.grad

    torch.testing.assert_close(gradient(chunked_attention), gradient(textbook))


def test_only_the_gradients_asked_for_are_computed():
    inputs = [torch.zeros(1, 64, 8) for _ in range(3)]
    product = 64 * 64 * 8
    for index, products in ((0, 5), (1, 5), (2, 3)):
        tensors = [x.clone().requires_grad_(i == index) for i, x in enumerate(inputs)]
        work = count_macs(lambda given=tensors: chunked_attention(*given).sum().backward())
        assert work <= (products + 1) * product
    everything = [x.clone().requires_grad_() for x in inputs]
    assert count_macs(lambda: chunked_attention(*everything).sum().backward()) == 7 * product


# torch.func


@pytest.mark.parametrize("time", [16, 1024])
@pytest.mark.parametrize("implementation", IMPLEMENTATIONS)
def test_torch_func_gives_the_gradient_of_each_example(implementation, time):
    generator = torch.Generator().manual_seed(0)
    layer = MultiHeadAttention(4, 2, implementation=implementation, generator=generator).double()
    inputs, lengths = draw(generator, 2, time, 4), torch.tensor([time, 5])
    mask = padding_mask(lengths, time)
    parameters = dict(layer.named_parameters())

    def loss(parameters, example, mask):
        output = torch.func.functional_call(layer, parameters, (example[None],), {"mask": mask})
        return output.square().sum()

    mapped = torch.func.vmap(torch.func.grad(loss), (None, 0, 0))(parameters, inputs, mask)
    for row in range(2):
        alone = torch.autograd.grad(
            layer(inputs[row : row + 1], mask=mask[row]).square().sum(), list(parameters.values())
        )
        for name, expected in zip(parameters, alone, strict=True):
            torch.testing.assert_close(mapped[name][row], expected, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("in_dims", [(0, 0, 0), (1, None, 0), (None, 2, 2), (0, None, None)])
def test_chunked_attention_maps_over_any_axis(in_dims):
    generator = torch.Generator().manual_seed(0)
    shapes = [(2, 4, 3), (2, 5, 3), (2, 5, 2)]
    inputs = [
        draw(generator, *shape) if axis is None else draw(generator, 3, *shape).movedim(0, axis)
        for shape, axis in zip(shapes, in_dims, strict=True)
    ]
    mask = torch.rand(4, 5, generator=generator) < 0.6
    results = [
        torch.func.vmap(lambda *x, f=f: f(*x, mask=mask), in_dims)(*inputs)
        for f in (partial(chunked_attention, chunk=2), textbook)
    ]
    torch.testing.assert_close(*results, rtol=1e-10, atol=1e-10)


@pytest.mark.filterwarnings("ignore:`torch.jit.script` is deprecated")  # used by torch.func.jvp
def test_forward_mode_is_refused_with_the_way_out():
    inputs = torch.ones(1, 3, 4)
    for implementation in ("fused", "loop"):
        layer = MultiHeadAttention(4, 2, implementation=implementation)
        torch.func.jvp(layer, (inputs,), (inputs,))
    layer = MultiHeadAttention(4, 2, implementation="chunked")
    with pytest.raises(NotImplementedError, match=r'use .*, or implementation="loop" in layers'):
        torch.func.jvp(layer, (inputs,), (inputs,))


# Types and devices


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("attend", [textbook, chunked_attention])
def test_half_precision_is_rounded_only_at_the_ends(attend, dtype):
    # Scores to 90,000 and more: float16 ends at 65,504.
    generator = torch.Generator().manual_seed(0)
    inputs = [(300 * draw(generator, 2, 3, 5, 4)).to(dtype) for _ in range(3)]
    (query, key, _), exact = inputs, [x.double() for x in inputs]
    assert (exact[0] @ exact[1].mT).abs().max() > 65504
    mask = causal_mask(5)
    result = values_and_gradients(lambda *x: attend(*x, mask=mask), *inputs)
    assert {x.dtype for x in result.values()} == {dtype}
    assert all(x.isfinite().all() for x in result.values())
    expected = torch_attention(*exact, attn_mask=mask)
    # One rounding of the output; the scores' own error in float32 is below 0.01 in 90,000.
    torch.testing.assert_close(
        result["values"].double(), expected, rtol=3 * torch.finfo(dtype).eps, atol=3
    )
    assert torch_attention(*inputs, attn_mask=mask).isfinite().all()
    assert attend(300 + 0 * query, 300 + 0 * key, key).isfinite().all()


@pytest.mark.parametrize("implementation", IMPLEMENTATIONS)
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_autocast_meets_a_layer_of_attention(implementation, dtype):
    generator = torch.Generator().manual_seed(0)
    layer = MultiHeadAttention(8, 2, implementation=implementation, generator=generator)
    before, inputs = nn.Linear(8, 8), draw(generator, 2, 5, 8, dtype=torch.float32)
    expected = layer(before(inputs), inputs, mask=causal_mask(5))
    with torch.autocast("cpu", dtype):
        output = layer(before(inputs), inputs, mask=causal_mask(5))
        assert output.dtype == dtype
        output.float().sum().backward()
        large = torch.full((1, 1, 2, 4), 300.0)
        assert chunked_attention(large, large, large).isfinite().all()
        assert scaled_dot_product_attention(large, large, large).output.isfinite().all()
    torch.testing.assert_close(output.float(), expected, rtol=0, atol=0.05)
    assert all(p.grad.isfinite().all() and p.grad.dtype == p.dtype for p in layer.parameters())


@pytest.mark.parametrize("attend", [textbook, chunked_attention])
def test_inputs_of_different_types_are_promoted(attend):
    generator = torch.Generator().manual_seed(0)
    inputs = [draw(generator, 2, 3, 4).to(d) for d in (torch.float32, torch.float64, torch.float16)]
    result = values_and_gradients(attend, *inputs)
    expected = values_and_gradients(attend, *(x.double() for x in inputs))
    assert result["values"].dtype == torch.float64
    for i, x in enumerate(inputs):
        assert result[f"input {i}"].dtype == x.dtype
    torch.testing.assert_close(result["values"], expected["values"])


@pytest.mark.parametrize("attend", [textbook, chunked_attention])
@pytest.mark.parametrize(
    "change",
    [lambda y: y.add_(1), lambda y: y[:, 0].zero_(), nn.ReLU(inplace=True)],
    ids=["add", "zero", "relu"],
)
def test_an_output_can_be_changed_in_place(attend, change):
    def changed(attend):
        inputs = [draw(torch.Generator().manual_seed(i), 2, 5, 4) for i in range(3)]

        def compute(*x):
            output = attend(*x)
            change(output)
            return output

        return values_and_gradients(compute, *inputs)

    assert_equal(changed(attend), changed(torch_attention))


@pytest.mark.parametrize("implementation", IMPLEMENTATIONS)
def test_everything_is_computed_where_the_inputs_are(implementation):
    generator = torch.Generator().manual_seed(0)
    host = MultiHeadAttention(4, 2, implementation=implementation, generator=generator)
    values, lengths = torch.randn(2, 5, 4, generator=generator), torch.tensor([5, 3])

    def compute(layer, x, lengths, device=None):
        mask = padding_mask(lengths, 5) & causal_mask(5, device=device)
        output = layer(x, mask=mask)
        output.sum().backward()
        causal = chunked_attention(x, x, x, causal=True, chunk=2)
        return [output, causal, layer.weights(x), *(p.grad for p in layer.parameters())]

    expected = compute(host, values, lengths)
    with other_device() as device:
        generator = torch.Generator().manual_seed(0)  # of the CPU
        layer = MultiHeadAttention(
            4, 2, implementation=implementation, generator=generator, device=device
        )
        results = compute(layer, values.to(device), lengths.to(device), device)
        assert {x.device for x in results} == {device}
        for ours, theirs in zip(results, expected, strict=True):
            torch.testing.assert_close(ours.cpu(), theirs)


@pytest.mark.parametrize("implementation", IMPLEMENTATIONS)
@pytest.mark.parametrize("fake", [False, True])
def test_shapes_are_known_without_values(implementation, fake):
    with FakeTensorMode() if fake else nullcontext():
        device, dtype = "cpu" if fake else "meta", torch.float64
        layer = MultiHeadAttention(4, 2, implementation=implementation, device=device, dtype=dtype)
        inputs = torch.ones(2, 5, 4, device=device, dtype=dtype, requires_grad=True)
        mask = padding_mask(torch.tensor([5, 3], device=device), 5) & causal_mask(5, device=device)
        output = layer(inputs, mask=mask)
        output.sum().backward()
        for tensor in (output, inputs.grad, chunked_attention(inputs, inputs, inputs, causal=True)):
            assert tensor.shape == (2, 5, 4)
            assert (tensor.device.type, tensor.dtype) == (device, dtype)


@pytest.mark.parametrize("dtype", [torch.int32, torch.int16, torch.uint8, torch.uint16])
def test_lengths_may_be_of_any_integer_type(dtype):
    assert torch.equal(
        padding_mask(torch.tensor([3, 0, 2]).to(dtype), 3), padding_mask(torch.tensor([3, 0, 2]), 3)
    )


@pytest.mark.parametrize("attend", [textbook, chunked_attention])
@pytest.mark.parametrize(("queries", "keys"), [(0, 3), (3, 0), (0, 0)])
def test_without_keys_every_query_gets_zero(attend, queries, keys):
    key = torch.ones(2, keys, 4)
    output = attend(torch.ones(2, queries, 4), key, key)
    assert torch.equal(output, torch.zeros(2, queries, 4))


# Causality


@pytest.mark.parametrize("past", [0, 3])
@pytest.mark.parametrize(
    "attend",
    [
        lambda q, k: textbook(q, k, k, causal=True),
        lambda q, k: chunked_attention(q, k, k, causal=True, chunk=2),
        lambda q, k: chunked_attention(q, k, k, causal=True, chunk=3),
    ],
    ids=["textbook", "chunks of 2", "chunks of 3"],
)
def test_causal_attention_depends_on_all_of_the_past_and_on_no_future_key(attend, past):
    generator = torch.Generator().manual_seed(0)
    query, key = draw(generator, 2, 7, 3), draw(generator, 2, 7 + past, 3)
    assert torch.equal(dependence(lambda k: attend(query, k), key), causal_mask(7, 7 + past))


@pytest.mark.parametrize("implementation", IMPLEMENTATIONS)
def test_self_attention_with_a_causal_mask_depends_on_no_later_input(implementation):
    layer = MultiHeadAttention(4, 2, implementation=implementation).double()
    inputs, mask = draw(torch.Generator().manual_seed(0), 2, 6, 4), causal_mask(6)
    assert torch.equal(dependence(lambda x: layer(x, mask=mask), inputs), mask)
    assert dependence(layer, inputs).all()


# Multi-head attention

layers = st.fixed_dictionaries(
    {
        "batch": st.integers(1, 3),
        "heads": st.integers(1, 3),
        "queries": st.integers(1, 5),
        "past": st.integers(0, 3),
        "head": st.integers(1, 4),
        "bias": st.booleans(),
        "seed": seeds,
    }
)
inputs_given = st.sampled_from(["query", "query, key", "query, key, value"])


def draw_layer(size, given_inputs, dtype, implementation="fused"):
    """Draw a layer with random weights and its inputs."""
    generator = torch.Generator().manual_seed(size["seed"])
    width = size["heads"] * size["head"]
    layer = MultiHeadAttention(
        width, size["heads"], bias=size["bias"], implementation=implementation
    ).to(dtype)
    keys = size["queries"] + size["past"]
    times = [size["queries"], keys, keys][: 1 + given_inputs.count(",")]
    inputs = [draw(generator, size["batch"], time, width, dtype=dtype) for time in times]
    return randomise(layer, generator), inputs, generator


@settings(max_examples=60)
@given(
    size=layers,
    given_inputs=inputs_given,
    dtype=dtypes,
    masking=st.sampled_from(["none", "padding", "causal", "both", "of each head"]),
    need_weights=st.booleans(),
)
def test_multi_head_attention_equals_torchs(size, given_inputs, dtype, masking, need_weights):
    layer, inputs, generator = draw_layer(size, given_inputs, dtype)
    reference = nn.MultiheadAttention(
        layer.d_model, layer.heads, bias=size["bias"], batch_first=True, dtype=dtype
    )
    reference.load_state_dict(layer.state_dict())
    batch, queries, keys = size["batch"], size["queries"], inputs[-1].shape[1]
    lengths = torch.randint(1, keys + 1, (batch,), generator=generator)
    padding, causal = padding_mask(lengths, keys), causal_mask(queries, keys)
    each = torch.rand(batch, layer.heads, queries, keys, generator=generator) < 0.5
    each[..., 0] = True  # elsewhere torch gives NaN
    mask, theirs = {
        "none": (None, {}),
        "padding": (padding, {"key_padding_mask": ~padding[:, 0]}),
        "causal": (causal, {"attn_mask": ~causal}),
        "both": (padding & causal, {"key_padding_mask": ~padding[:, 0], "attn_mask": ~causal}),
        "of each head": (each, {"attn_mask": ~each.flatten(0, 1)}),
    }[masking]
    options = {**theirs, "need_weights": need_weights, "average_attn_weights": False}

    def torchs(*x):
        return reference(x[0], x[min(1, len(x) - 1)], x[-1], **options)

    assert_equal(
        values_and_gradients(lambda *x: layer(*x, mask=mask), *inputs, module=layer),
        values_and_gradients(lambda *x: torchs(*x)[0], *inputs, module=reference),
    )
    if need_weights:
        assert_equal(
            {"weights": layer.weights(*inputs[:2], mask=mask)}, {"weights": torchs(*inputs)[1]}
        )


@settings(max_examples=40)
@given(size=layers, given_inputs=inputs_given, kind=mask_kinds, dtype=dtypes)
def test_the_three_implementations_are_equal(size, given_inputs, kind, dtype):
    outcomes = []
    for implementation in IMPLEMENTATIONS:
        layer, inputs, generator = draw_layer(size, given_inputs, dtype, implementation)
        # A mask of three axes has that of the batch and none of heads.
        heads = size["batch"] if kind is not None and kind[0] == 3 else size["heads"]
        shape = (size["batch"], heads, size["queries"], inputs[-1].shape[1])
        mask = draw_mask(kind, shape, generator)
        outcomes.append(
            values_and_gradients(lambda *x: layer(*x, mask=mask), *inputs, module=layer)  # noqa: B023
        )
    fused, loop, chunked = outcomes
    assert_equal(loop, fused)
    assert_equal(chunked, fused)


def test_a_value_without_a_key_is_found_by_the_query_itself():
    generator = torch.Generator().manual_seed(0)
    layer = randomise(MultiHeadAttention(4, 2), generator)
    query, value = draw(generator, 2, 3, 4).float(), draw(generator, 2, 3, 4).float()
    torch.testing.assert_close(layer(query, value=value), layer(query, query, value))
    assert not torch.allclose(layer(query, value=value), layer(query))


@pytest.mark.parametrize("bias", [True, False])
def test_the_initial_weights_are_glorots_and_the_generators_alone(bias):
    layer, again, other = (
        MultiHeadAttention(64, 4, bias=bias, generator=torch.Generator().manual_seed(seed))
        for seed in (0, 0, 1)
    )
    torch.manual_seed(0)
    bound = (6 / (4 * 64)) ** 0.5, (6 / (2 * 64)) ** 0.5
    for weights, limit in zip((layer.in_proj_weight, layer.out_proj.weight), bound, strict=True):
        assert 0.95 * limit < weights.abs().max() <= limit
    names = [name for name, _ in nn.MultiheadAttention(64, 4, bias=bias).named_parameters()]
    assert [name for name, _ in layer.named_parameters()] == names
    for name, parameter in layer.named_parameters():
        assert torch.equal(parameter, again.get_parameter(name))
        if "bias" in name:
            assert parameter.eq(0).all()
        else:
            assert not torch.equal(parameter, other.get_parameter(name))


@pytest.mark.parametrize("implementation", IMPLEMENTATIONS)
def test_self_attention_does_not_know_the_order_of_its_inputs(implementation):
    generator = torch.Generator().manual_seed(0)
    layer = MultiHeadAttention(6, 3, implementation=implementation).double()
    inputs, order = draw(generator, 2, 7, 6), torch.randperm(7, generator=generator)
    assert_equal({"": layer(inputs[:, order])}, {"": layer(inputs)[:, order]})
    mask = causal_mask(7)
    change = layer(inputs[:, order], mask=mask) - layer(inputs, mask=mask)[:, order]
    assert change.abs().max() > 1e-3


@pytest.mark.parametrize("implementation", IMPLEMENTATIONS)
def test_neither_the_padding_nor_its_length_matters(implementation):
    generator = torch.Generator().manual_seed(0)
    layer = MultiHeadAttention(6, 3, implementation=implementation).double()
    inputs, lengths = draw(generator, 3, 5, 6), torch.tensor([5, 1, 3])
    query = draw(generator, 3, 2, 6)
    output = layer(query, inputs, mask=padding_mask(lengths, 5))
    padded = torch.cat((inputs, torch.zeros(3, 4, 6)), 1)
    beyond = ~padding_mask(lengths, 9)[:, 0]
    padded[beyond] = 100 * draw(generator, int(beyond.sum()), 6)
    assert_equal({"": layer(query, padded, mask=padding_mask(lengths, 9))}, {"": output})
    assert (layer(query, padded) - output).abs().max() > 0.1


@given(size=layers, given_inputs=inputs_given)
def test_the_halves_of_the_layer_make_the_whole(size, given_inputs):
    layer, inputs, generator = draw_layer(size, given_inputs, torch.float64)
    query, memory = layer.project(*inputs)
    assert query.shape == (size["batch"], size["heads"], size["queries"], size["head"])
    projected = layer.project_memory(inputs[min(1, len(inputs) - 1)], *inputs[2:])
    assert_equal(
        {"query": layer.project_query(inputs[0]), **projected._asdict()},
        {"query": query, **memory._asdict()},
    )
    assert_equal({"": layer.attend(query, projected)}, {"": layer(*inputs)})
    cut = int(torch.randint(projected.keys.shape[2] + 1, (), generator=generator))
    before, after = (
        KeysAndValues(*(part[:, :, piece] for part in projected))
        for piece in (slice(cut), slice(cut, None))
    )
    assert all(map(torch.equal, KeyValueCache.of(before).append(after).contents(), projected))
    rows = torch.randint(size["batch"], (4,), generator=generator)
    for picked, part in zip(projected.index_select(rows), projected, strict=True):
        assert torch.equal(picked, part[rows])


# Recorded weights


class TwoLayers(nn.Module):
    def __init__(self):
        super().__init__()
        self.own, self.cross = MultiHeadAttention(4, 2), MultiHeadAttention(4, 1)

    def forward(self, x, memory, mask):
        self.own(x)  # only the last call counts
        return self.cross(query=self.own(x, mask=mask), key=memory, value=2 * memory)


def test_recorded_weights_are_those_of_each_layers_last_call():
    generator = torch.Generator().manual_seed(0)
    model = randomise(TwoLayers(), generator)
    x, memory = draw(generator, 2, 3, 4).float(), draw(generator, 2, 5, 4).float()
    mask = causal_mask(3)
    expected = model(x, memory, mask)
    with recorded_weights(model) as recorded:
        assert recorded == {}
        output = model(x, memory, mask)
    assert torch.equal(output, expected)
    assert list(recorded) == ["own", "cross"]
    assert torch.equal(recorded["own"], model.own.weights(x, mask=mask))
    assert torch.equal(recorded["cross"], model.cross.weights(model.own(x, mask=mask), memory))
    assert recorded["cross"].shape == (2, 1, 3, 5)
    assert not any(weights.requires_grad for weights in recorded.values())
    before = dict(recorded)
    model(2 * x, memory, mask)
    assert recorded == before


def test_recording_leaves_no_hooks_behind_also_after_an_error():
    model = TwoLayers()
    x = torch.ones(1, 3, 4)
    with recorded_weights(model):
        assert all(layer._forward_hooks for layer in (model.own, model.cross))
    assert not any(module._forward_hooks for module in model.modules())
    with pytest.raises(ValueError, match="key"), recorded_weights(model):
        model(x, x[..., :2], None)
    assert not any(module._forward_hooks for module in model.modules())


# Errors


def attend_shapes(*shapes, mask=None, attend=scaled_dot_product_attention, **options):
    return attend(*(torch.ones(shape) for shape in shapes), mask=mask, **options)


@pytest.mark.parametrize("attend", [scaled_dot_product_attention, chunked_attention])
@pytest.mark.parametrize(
    ("shapes", "message"),
    [
        (((4,), (3, 4), (3, 4)), "query, key, value: expected (..., positions, features), got "),
        (((2, 4), (3, 5), (3, 4)), "key: expected the queries' 4 features, got "),
        (((2, 4), (3, 4), (2, 4)), "value: expected one for each of 3 keys, got "),
        (((2, 2, 4), (3, 3, 4), (3, 4)), "query, key, value: expected the same leading axes, got "),
    ],
)
def test_shapes_that_do_not_fit_are_all_shown(attend, shapes, message):
    query, key, value = shapes
    with pytest.raises(ValueError, match=re.escape(message)) as error:
        attend_shapes(*shapes, attend=attend)
    assert str(error.value).endswith(f"query {query}, key {key}, value {value}")


def on_another_device(name):
    inputs = dict.fromkeys(("query", "key", "value"), torch.ones(3, 4))
    inputs = inputs | {"mask": torch.ones(3, 3) > 0}
    return chunked_attention(**{**inputs, name: inputs[name].to("meta")})


def project(name, shape):
    layer, right = MultiHeadAttention(4, 2), torch.ones(2, 3, 4)
    return layer(**{"query": right, "key": right, "value": right, name: torch.ones(shape)})


def masked(implementation, shape, dtype=torch.bool):
    layer = MultiHeadAttention(4, 2, implementation=implementation)
    return layer(torch.ones(2, 3, 4), mask=torch.ones(shape, dtype=dtype))


SELF = ((2, 3, 4),) * 3


@pytest.mark.parametrize(
    ("use", "kind", "message"),
    [
        (lambda: causal_mask(3, 2), ValueError, "queries: expected 0 to 2 for 2 keys, got 3"),
        (lambda: causal_mask(-1), ValueError, "queries: expected 0 to -1 for -1 keys, got -1"),
        (
            lambda: padding_mask(torch.tensor([1, 4]), 3),
            ValueError,
            "lengths: expected 0 to 3, got [1, 4]",
        ),
        (
            lambda: padding_mask(torch.tensor([-1, 2]), 3),
            ValueError,
            "lengths: expected 0 to 3, got [-1, 2]",
        ),
        (
            lambda: padding_mask(torch.ones(2, 1), 3),
            ValueError,
            "lengths: expected shape (batch,), got (2, 1)",
        ),
        *(
            (
                lambda attend=attend: attend_shapes(*SELF, mask=torch.zeros(3, 3), attend=attend),
                TypeError,
                "mask: expected booleans, True = may attend, got torch.float32",
            )
            for attend in (scaled_dot_product_attention, chunked_attention)
        ),
        *(
            (
                lambda attend=attend, shape=shape: attend_shapes(
                    *SELF, mask=torch.ones(shape) > 0, attend=attend
                ),
                ValueError,
                "mask: expected a shape broadcastable to (2, 3, 3) (..., queries, keys), got "
                f"{shape}",
            )
            for attend in (scaled_dot_product_attention, chunked_attention)
            for shape in ((3, 2), (3, 3, 3), (1, 2, 3, 3))
        ),
        (
            lambda: attend_shapes(*SELF, attend=chunked_attention, chunk=0),
            ValueError,
            "chunk: expected at least 1, got 0",
        ),
        (
            lambda: attend_shapes((4, 2), (3, 2), (3, 2), attend=chunked_attention, causal=True),
            ValueError,
            "query: expected at most as many queries as keys for causal attention, got 4 queries "
            "and 3 keys",
        ),
        *(
            (
                lambda width=width, heads=heads: MultiHeadAttention(width, heads),
                ValueError,
                "heads: expected a positive divisor of a positive d_model, got "
                f"{heads} heads for d_model {width}",
            )
            for width, heads in ((6, 4), (6, 0), (0, 1))
        ),
        (
            lambda: MultiHeadAttention(4, 2, implementation="flash"),
            ValueError,
            "implementation: expected 'fused' or 'loop' or 'chunked', got 'flash'",
        ),
        *(
            (
                lambda name=name, shape=shape: project(name, shape),
                ValueError,
                f"{name}: expected shape (batch, positions, 4), got {shape}",
            )
            for name in ("query", "key", "value")
            for shape in ((2, 3, 5), (3, 4))
        ),
        (
            lambda: MultiHeadAttention(4, 2).project_query(torch.ones(2, 4)),
            ValueError,
            "query: expected shape (batch, positions, 4), got (2, 4)",
        ),
        (
            lambda: MultiHeadAttention(4, 2).project_memory(torch.ones(2, 4)),
            ValueError,
            "key: expected shape (batch, positions, 4), got (2, 4)",
        ),
        *(
            (
                lambda implementation=implementation, shape=shape: masked(implementation, shape),
                ValueError,
                f"mask: expected a shape broadcastable to (2, 2, 3, 3) (..., queries, keys), got "
                f"{as_seen}",
            )
            for implementation in IMPLEMENTATIONS
            for shape, as_seen in (
                ((3, 2), (1, 1, 3, 2)),
                ((3, 3, 3), (3, 1, 3, 3)),
                ((2, 3, 3, 3), (2, 3, 3, 3)),
            )
        ),
        (
            lambda: attend_shapes((2, 0), (3, 0), (3, 4)),
            ValueError,
            "query: expected at least one feature, got query (2, 0), key (3, 0), value (3, 4)",
        ),
        (
            lambda: padding_mask(torch.tensor([1.0]), 3),
            TypeError,
            "lengths: expected integers, got torch.float32",
        ),
        *(
            (
                lambda attend=attend: attend(*[torch.ones(3, 4, dtype=torch.int64)] * 3),
                TypeError,
                "query: expected floating-point numbers, got torch.int64",
            )
            for attend in (scaled_dot_product_attention, chunked_attention)
        ),
        *(
            (
                lambda name=name: on_another_device(name),
                ValueError,
                f"{name}: expected the query's cpu, got meta",
            )
            for name in ("key", "value", "mask")
        ),
        *(
            (
                lambda implementation=implementation: masked(implementation, (3, 3), torch.int64),
                TypeError,
                "mask: expected booleans, True = may attend, got torch.int64",
            )
            for implementation in IMPLEMENTATIONS
        ),
    ],
)
def test_an_error_names_what_came_and_what_was_expected(use, kind, message):
    with pytest.raises(kind) as error:
        use()
    assert str(error.value) == message
