"""Decoder-only models and the layers that they brought: equations, caches, options, devices."""

import math
import re
from contextlib import nullcontext

import numpy as np
import pytest
import torch
from devices import other_device
from hypothesis import given, settings
from hypothesis import strategies as st
from parity import assert_equal, dependence, randomise, values_and_gradients
from torch import nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.nn.functional import cross_entropy

from seqbook.layers.attention import (
    GroupedQueryAttention,
    KeysAndValues,
    KeyValueCache,
    MultiHeadAttention,
    causal_mask,
    padding_mask,
    recorded_weights,
    scaled_dot_product_attention,
)
from seqbook.layers.feed_forward import FeedForward, SwiGLU
from seqbook.layers.normalization import RMSNorm, rms_norm
from seqbook.layers.rotary import RotaryPositions, rotate
from seqbook.layers.transformer import sinusoids
from seqbook.models.decoder_only import (
    DECODER_NORMS,
    FEED_FORWARDS,
    POSITIONS,
    DecoderOnlyModel,
    windowed_loss,
)
from seqbook.models.storage import read_tensors, write_tensors

SYMBOLS = 7
each_positions = pytest.mark.parametrize("positions", POSITIONS)
# Each option at each of its values, in four models.
FOUR = [
    {"positions": "rotary", "norm": "rms", "feed_forward": "swiglu", "kv_heads": 2},
    {"positions": "learned", "norm": "layer", "feed_forward": "gelu", "bias": True},
    {"positions": "sinusoidal", "norm": "layer", "feed_forward": "swiglu", "tied": False},
    {"positions": "none", "norm": "rms", "feed_forward": "gelu", "kv_heads": 1, "bias": True},
]
each_of_four = pytest.mark.parametrize("options", FOUR, ids=lambda o: o["positions"])
variants = st.fixed_dictionaries(
    {
        "norm": st.sampled_from(DECODER_NORMS),
        "positions": st.sampled_from(POSITIONS),
        "feed_forward": st.sampled_from(FEED_FORWARDS),
        "kv_heads": st.sampled_from([1, 2, 4]),
        "tied": st.booleans(),
        "bias": st.booleans(),
    }
)


def draw(seed, *shape, dtype=torch.float64):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(shape, generator=generator, dtype=torch.float64).to(dtype)


def make(seed=0, *, max_length=16, device=None, dtype=torch.float64, **options):
    """A model whose logits are far from uniform."""
    generator = torch.Generator().manual_seed(seed)
    model = DecoderOnlyModel(
        SYMBOLS,
        16,
        layers=2,
        heads=4,
        max_length=max_length,
        generator=generator,
        device=device,
        dtype=dtype,
        **options,
    )
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.dim() == 2:
                parameter.mul_(15)  # standard deviation 0.3
    return model


def a_text(length=40, seed=0):
    return np.random.default_rng(seed).integers(0, SYMBOLS, length)


# Root mean square normalization


@given(st.integers(1, 9), st.integers(0, 2**16), st.sampled_from([1e-5, 0.1]))
def test_rms_norm_equals_torchs(features, seed, epsilon):
    ours = randomise(RMSNorm(features, epsilon=epsilon).double(), torch.Generator())
    theirs = nn.RMSNorm(features, eps=epsilon, dtype=torch.float64)
    theirs.load_state_dict(ours.state_dict())
    ours.load_state_dict(theirs.state_dict())
    inputs = draw(seed, 2, 3, features)
    assert_equal(
        values_and_gradients(ours, inputs, module=ours),
        values_and_gradients(theirs, inputs, module=theirs),
    )


def test_rms_norm_ignores_the_length_of_a_vector_but_not_its_mean():
    inputs, weight = draw(0, 3, 8), torch.ones(8, dtype=torch.float64)
    normed = rms_norm(inputs, weight, epsilon=0)
    assert_equal({"": rms_norm(5 * inputs, weight, epsilon=0)}, {"": normed})
    assert_equal({"": normed.square().mean(-1)}, {"": torch.ones(3, dtype=torch.float64)})
    assert (rms_norm(inputs + 5, weight, epsilon=0) - normed).abs().max() > 0.1
    assert rms_norm(torch.zeros(1, 8), weight.float()).abs().max() == 0


def test_rms_norm_squares_half_precision_in_float32():
    inputs = torch.tensor([300.0, 400.0], dtype=torch.float16)  # whose squares float16 can't hold
    result = rms_norm(inputs, torch.ones(2, dtype=torch.float16))
    assert result.dtype == torch.float16
    expected = torch.tensor([0.6, 0.8]) * math.sqrt(2)
    torch.testing.assert_close(result.float(), expected, rtol=2**-10, atol=0)


# Rotary positions


@given(
    features=st.sampled_from([2, 4, 8]),
    time=st.integers(1, 6),
    start=st.integers(0, 70),
    base=st.sampled_from([10000.0, 50.0]),
    seed=st.integers(0, 2**16),
)
def test_a_rotation_multiplies_complex_numbers(features, time, start, base, seed):
    """Feature i is a real part, feature i + d/2 its imaginary part."""
    inputs = draw(seed, 2, 3, time, features)
    numbers = torch.complex(inputs[..., : features // 2], inputs[..., features // 2 :])
    position = torch.arange(start, start + time, dtype=torch.float64)[:, None]
    frequency = base ** -(2 * torch.arange(features // 2, dtype=torch.float64) / features)
    turned = numbers * torch.polar(torch.ones_like(position * frequency), position * frequency)
    result = RotaryPositions(features, base=base)(inputs, start=start)
    assert_equal({"": result}, {"": torch.cat((turned.real, turned.imag), -1)})


def test_the_papers_pairs_of_neighbours_are_the_same_in_another_order():
    """Su et al. turn features 2i and 2i + 1 together."""
    inputs, time, features = draw(0, 5, 8), 5, 8
    expected = torch.empty_like(inputs)
    for t in range(time):
        for i in range(features // 2):
            angle = t * 10000 ** (-2 * i / features)
            x, y = inputs[t, 2 * i].item(), inputs[t, 2 * i + 1].item()
            expected[t, 2 * i] = x * math.cos(angle) - y * math.sin(angle)
            expected[t, 2 * i + 1] = x * math.sin(angle) + y * math.cos(angle)
    order = [*range(0, features, 2), *range(1, features, 2)]
    result = RotaryPositions(features)(inputs[:, order])
    assert_equal({"": result}, {"": expected[:, order]})


@given(
    query=st.integers(0, 60),
    key=st.integers(0, 60),
    shift=st.integers(0, 500),
    seed=st.integers(0, 2**16),
)
def test_a_score_depends_on_the_distance_alone(query, key, shift, seed):
    positions, (q, k) = RotaryPositions(8), draw(seed, 2, 1, 8)

    def score(t, s):
        return (positions(q, start=t) * positions(k, start=s)).sum()

    # An angle of up to 560 is rounded by 6e-14, and so is each of eight products.
    limit = 1e-12 * q.norm() * k.norm()
    first = min(query, key)
    for start in (-first, shift):
        assert (score(query + start, key + start) - score(query, key)).abs() <= limit
    assert (score(query, key + 1) - score(query, key)).abs() > limit


@given(t=st.integers(0, 300), s=st.integers(0, 300))
def test_a_rotation_back_and_one_forwards_are_one_by_the_difference(t, s):
    def rotation(position):
        rows = RotaryPositions(6)(torch.eye(6, dtype=torch.float64)[:, None], start=position)
        return rows[:, 0].T

    t, s = min(t, s), max(t, s)
    assert_equal({"": rotation(t).T @ rotation(s)}, {"": rotation(s - t)})
    assert_equal({"": rotation(s).T @ rotation(t)}, {"": rotation(s - t).T})


def test_a_rotation_keeps_lengths_and_the_first_position():
    inputs = draw(0, 2, 3, 9, 8)
    result = RotaryPositions(8)(inputs)
    assert_equal({"": result.norm(dim=-1)}, {"": inputs.norm(dim=-1)})
    assert torch.equal(result[:, :, 0], inputs[:, :, 0])
    assert (result[:, :, 1:] - inputs[:, :, 1:]).abs().amax(-1).min() > 0.01


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_is_rotated_in_float32_and_rounded_once(dtype):
    inputs = draw(0, 3000, 4, dtype=dtype)
    result = RotaryPositions(4)(inputs)
    assert result.dtype == dtype
    precise = rotate(inputs.double(), sinusoids(3000, 4, dtype=torch.float64))
    rounding = torch.finfo(dtype).eps / 2 * precise.abs() + 2e-6  # the second part of float32
    assert ((result.double() - precise).abs() <= rounding).all()


def test_what_was_generated_in_inference_mode_can_be_trained_later():
    """A table of sines that remembers inference mode would stop the backward pass."""
    positions = RotaryPositions(4)
    with torch.inference_mode():
        positions(torch.ones(3, 4))
    inputs = torch.ones(3, 4, requires_grad=True)
    positions(inputs).sum().backward()
    assert inputs.grad is not None


# Feed-forward networks


@pytest.mark.parametrize("bias", [False, True])
def test_feed_forward_networks_are_their_equations(bias):
    inputs = draw(0, 2, 3, 4)
    for kind in (FeedForward, SwiGLU):
        network = randomise(kind(4, 5, bias=bias).double(), torch.Generator().manual_seed(1))

        def linear(name, x, network=network):
            layer = getattr(network, name)
            return x @ layer.weight.T + (layer.bias if bias else 0)

        def equation(x, kind=kind, linear=linear):
            up = linear("up_proj", x)
            if kind is SwiGLU:
                gate = linear("gate_proj", x)
                return linear("down_proj", gate * torch.sigmoid(gate) * up)
            return linear("down_proj", up * (1 + torch.erf(up / math.sqrt(2))) / 2)

        assert_equal(
            values_and_gradients(network, inputs, module=network),
            values_and_gradients(equation, inputs, module=network),
        )


# Grouped-query attention


def repeated(layer, inputs, mask):
    """The layer's equation, a head at a time, each with its own copy of keys and values."""
    heads, d_k = [], layer.head_features
    for i in range(layer.heads):
        group = i * layer.kv_heads // layer.heads
        own, shared = slice(i * d_k, (i + 1) * d_k), slice(group * d_k, (group + 1) * d_k)
        query = layer.q_proj(inputs)[..., own]
        key, value = layer.k_proj(inputs)[..., shared], layer.v_proj(inputs)[..., shared]
        if layer.rotary is not None:
            query, key = layer.rotary(query), layer.rotary(key)
        heads.append(scaled_dot_product_attention(query, key, value, mask=mask).output)
    return layer.o_proj(torch.cat(heads, -1))


@settings(max_examples=40)
@given(
    kv_heads=st.sampled_from([1, 2, 4]),
    masks=st.sampled_from(["none", "causal", "padding", "both", "one query"]),
    rotary=st.booleans(),
    bias=st.booleans(),
    time=st.integers(1, 6),
    seed=st.integers(0, 2**16),
)
def test_grouped_queries_are_attention_with_repeated_keys(
    kv_heads, masks, rotary, bias, time, seed
):
    positions = RotaryPositions(2) if rotary else None
    layer = GroupedQueryAttention(8, 4, kv_heads=kv_heads, bias=bias, rotary=positions).double()
    randomise(layer, torch.Generator().manual_seed(seed))
    inputs = draw(seed, 3, time, 8)
    padding = padding_mask(torch.tensor([time, 1, (time + 1) // 2]), time)
    mask = {
        "none": None,
        "causal": causal_mask(time),
        "padding": padding,
        "both": padding & causal_mask(time),
        "one query": torch.arange(time) % 2 == 0,
    }[masks]
    assert_equal(
        values_and_gradients(lambda x: layer(x, mask=mask), inputs, module=layer),
        values_and_gradients(lambda x: repeated(layer, x, mask), inputs, module=layer),
    )


def test_as_many_heads_of_keys_as_of_queries_are_multi_head_attention():
    theirs = randomise(MultiHeadAttention(8, 4).double(), torch.Generator().manual_seed(0))
    ours = GroupedQueryAttention(8, 4, bias=True).double()
    rows = zip(theirs.in_proj_weight.chunk(3), theirs.in_proj_bias.chunk(3), strict=True)
    state = {
        f"{name}_proj.{kind}": part
        for name, parts in zip("qkv", rows, strict=True)
        for kind, part in zip(("weight", "bias"), parts, strict=True)
    }
    output = theirs.out_proj
    ours.load_state_dict(state | {"o_proj.weight": output.weight, "o_proj.bias": output.bias})
    inputs, mask = draw(0, 2, 5, 8), causal_mask(5)
    assert_equal({"": ours(inputs, mask=mask)}, {"": theirs(inputs, mask=mask)})
    assert_equal({"": ours.weights(inputs, mask=mask)}, {"": theirs.weights(inputs, mask=mask)})


def test_long_sequences_are_attended_to_in_chunks_with_the_same_result():
    """1200 positions of one head have more scores than are held at once."""
    layer = GroupedQueryAttention(4, 2, kv_heads=1, rotary=RotaryPositions(2)).double()
    inputs, mask = draw(0, 1, 1200, 4), causal_mask(1200)
    assert_equal({"": layer(inputs, mask=mask)}, {"": repeated(layer, inputs, mask)})


def test_the_weights_of_each_head_are_recorded():
    model, ids = make(kv_heads=2), torch.as_tensor(a_text(5))[None]
    with recorded_weights(model) as weights:
        model(ids)
    assert list(weights) == ["layers.0.self_attn", "layers.1.self_attn"]
    for recorded in weights.values():
        assert recorded.shape == (1, 4, 5, 5)
        torch.testing.assert_close(recorded.sum(-1), torch.ones(1, 4, 5, dtype=torch.float64))
        assert torch.equal(recorded > 0, causal_mask(5).expand(1, 4, 5, 5))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_keeps_its_type_and_takes_the_softmax_in_float32(dtype):
    """Scores of up to 3e5 are beyond float16; in bfloat16 those of neighbours are rounded alike."""
    layer = GroupedQueryAttention(4, 2, kv_heads=1).to(dtype)
    with torch.no_grad():
        for projection in (layer.q_proj, layer.k_proj, layer.v_proj, layer.o_proj):
            projection.weight.fill_(0)
            projection.weight.fill_diagonal_(1)
    inputs = torch.tensor([[[500.0, 1.0, 500.0, 1.0], [500.5, 2.0, 500.5, 2.0]]]).to(dtype)
    output = layer(inputs)
    assert output.dtype == dtype
    query = inputs[0].float().unflatten(-1, (2, 2)).transpose(0, 1)
    key = inputs[0, :, :2].float()
    expected = (query @ key.T / math.sqrt(2)).softmax(-1) @ key
    torch.testing.assert_close(
        output[0].float(), expected.transpose(0, 1).flatten(1).to(dtype).float()
    )


def test_an_empty_cache_is_filled_in_place_and_then_grows():
    cache = KeyValueCache.empty(2, 3, 5, 4, dtype=torch.float64)
    assert cache.contents().keys.shape == (2, 3, 0, 4)
    assert cache.buffers.keys.dtype == torch.float64
    steps = [
        KeysAndValues(draw(i, 2, 3, n, 4), draw(9 + i, 2, 3, n, 4))
        for i, n in ((0, 1), (1, 4), (2, 2))
    ]
    full = cache.append(steps[0]).append(steps[1])
    assert full.buffers.keys.data_ptr() == cache.buffers.keys.data_ptr()
    longer = full.append(steps[2])
    assert longer.buffers.keys.shape[2] > 5
    for part in (0, 1):
        expected = torch.cat([step[part] for step in steps], 2)
        assert torch.equal(longer.contents()[part], expected)
        assert torch.equal(full.contents()[part], expected[:, :, :5])


# The model


@settings(max_examples=40)
@given(options=variants, seed=st.integers(0, 2**16), cut=st.integers(0, 8))
def test_steps_equal_a_whole_pass_and_nothing_sees_the_future(options, seed, cut):
    model = make(seed, **options)
    ids = torch.as_tensor(np.stack([a_text(9, seed), a_text(9, seed + 1)]))
    whole = model(ids)
    later = ids.clone()
    later[:, cut + 1 :] = (later[:, cut + 1 :] + 1) % SYMBOLS
    assert_equal({"": model(later)[:, : cut + 1]}, {"": whole[:, : cut + 1]})
    with torch.no_grad():
        caches, parts = model.start(2), []
        for some in ids.split([cut, 1, 8 - cut], 1):
            if some.shape[1]:
                logits, caches = model.step(some, caches)
                parts.append(logits)
    assert [cache.length for cache in caches] == [9, 9]
    assert caches[0].buffers.keys.shape == (2, options["kv_heads"], 16, 4)
    assert_equal({"": torch.cat(parts, 1)}, {"": whole.detach()})


@each_positions
def test_each_position_depends_on_all_before_it(positions):
    model = make(positions=positions)
    layers = nn.Sequential(*model.layers)

    def run(x):
        for layer in layers:
            x = layer(x, mask=causal_mask(6))
        return x

    assert torch.equal(dependence(run, draw(0, 1, 6, 16)), causal_mask(6))


@each_positions
def test_only_positions_tell_the_order_of_the_past(positions):
    """Without them, the last symbol sees the others as a bag."""
    model = make(positions=positions)
    past, swapped = torch.tensor([[0, 1, 2, 3]]), torch.tensor([[1, 2, 0, 3]])
    model.layers = model.layers[:1]  # a second layer sees what the first made of the order
    difference = (model(past)[0, -1] - model(swapped)[0, -1]).abs().max()
    assert (difference < 1e-10) == (positions == "none")


def test_rotary_positions_see_distances_and_learned_ones_places():
    """The same symbols later in a text, read alone, score as if they stood at its start."""
    ids = torch.as_tensor(a_text(6))[None]
    for positions in ("rotary", "learned"):
        model = make(positions=positions)
        with torch.no_grad():
            x = model.embed_tokens(ids)
            layer = model.layers[0]
            scores = []
            for start in (0, 5):
                moved = x if model.positions is None else model.positions(x, start=start)
                query, new = layer.self_attn.project(layer.input_layernorm(moved), start=start)
                scores.append(query @ new.keys.transpose(2, 3))
        same = (scores[0] - scores[1]).abs().max() < 1e-10
        assert same == (positions == "rotary")


def test_the_loss_is_the_mean_cost_of_each_next_symbol():
    model = make()
    ids = torch.as_tensor(np.stack([a_text(6, 0), a_text(6, 1)]))
    costs = [
        cross_entropy(model(ids[b : b + 1, :t])[0, -1], ids[b, t]).item()
        for b in range(2)
        for t in range(1, 6)
    ]
    assert model.loss(ids).item() == pytest.approx(np.mean(costs), rel=1e-12)


def test_tied_weights_are_one_matrix_that_gets_both_gradients():
    tied, untied = make(tied=True), make(tied=False)
    assert (
        sum(p.numel() for p in untied.parameters()) - sum(p.numel() for p in tied.parameters())
        == SYMBOLS * 16
    )
    state = tied.state_dict()
    untied.load_state_dict(state | {"lm_head.weight": state["embed_tokens.weight"]})
    ids = torch.as_tensor(a_text(8))[None]
    for model in (tied, untied):
        model.loss(ids).backward()
    both = untied.embed_tokens.weight.grad + untied.lm_head.weight.grad
    torch.testing.assert_close(tied.embed_tokens.weight.grad, both)


def test_the_initial_weights_are_those_of_gpt2():
    model = DecoderOnlyModel(
        500,
        120,
        layers=8,
        heads=4,
        max_length=300,
        positions="learned",
        norm="layer",
        feed_forward="gelu",
        bias=True,
        generator=torch.Generator().manual_seed(0),
    )
    for name, parameter in model.named_parameters():
        if parameter.dim() == 1:
            assert parameter.eq("norm" in name and name.endswith("weight")).all(), name
            continue
        residual = name.endswith(("o_proj.weight", "down_proj.weight"))
        expected = 0.02 / 4 if residual else 0.02
        # The standard deviation of n numbers is known to about 1 / sqrt(2 n) of itself.
        assert parameter.std().item() == pytest.approx(
            expected, rel=5 / math.sqrt(2 * parameter.numel())
        ), name
    assert model.loss(torch.arange(300)[None]).item() == pytest.approx(math.log(500), abs=0.1)


@given(options=variants)
@settings(max_examples=20)
def test_a_seed_decides_all_weights(options):
    first, again, other = (make(seed, **options) for seed in (0, 0, 1))
    for (name, a), b, c in zip(
        first.named_parameters(), again.parameters(), other.parameters(), strict=True
    ):
        assert torch.equal(a, b), name
        assert torch.equal(a, c) == (a.dim() == 1), name


def test_gated_networks_have_as_many_weights_as_plain_ones():
    sizes = {
        kind: sum(
            p.numel()
            for p in DecoderOnlyModel(
                50, 128, layers=2, heads=4, max_length=8, feed_forward=kind
            ).parameters()
        )
        for kind in FEED_FORWARDS
    }
    assert sizes["swiglu"] == pytest.approx(sizes["gelu"], rel=0.001)


def test_dropout_acts_in_training_alone():
    model, ids = make(dropout=0.5), torch.as_tensor(a_text(8))[None]
    assert not torch.equal(model(ids), model(ids))
    expected = model.eval()(ids)
    assert torch.equal(model(ids), expected)
    model.train()
    assert model.generate([1], 9).tolist() == model.generate([1], 9).tolist()
    assert windowed_loss(model, a_text()) == windowed_loss(model, a_text())
    assert all(module.training for module in model.modules())


def test_a_model_learns_what_only_an_induction_over_the_past_can_tell():
    """Of a random word that is written twice, the second time can be known."""
    generator = torch.Generator().manual_seed(0)
    model = DecoderOnlyModel(
        SYMBOLS, 32, layers=2, heads=4, max_length=11, tied=False, generator=generator
    )
    optimizer = torch.optim.Adam(model.parameters(), lr=0.005)

    def words():
        word = torch.randint(SYMBOLS, (64, 6), generator=generator)
        return torch.cat((word, word), 1)

    for _ in range(300):
        optimizer.zero_grad()
        model.loss(words()).backward()
        optimizer.step()
    ids = words()
    right = model(ids[:, :-1]).argmax(-1) == ids[:, 1:]
    assert right[:, 6:].float().mean() > 0.95
    assert right[:, :5].float().mean() < 0.4  # 1/7 by chance


# Generation and scoring


@each_of_four
@pytest.mark.parametrize("max_length", [1, 2, 7, 100])
def test_generation_is_the_same_without_a_cache(options, max_length):
    model = make(3, max_length=max_length, **options | {"tied": False})
    prompt, written = a_text(5), set()
    for sampling in ({}, {"temperature": 0.8}, {"temperature": 2.0, "top_k": 4, "top_p": 0.9}):
        texts = [
            model.generate(
                prompt,
                30,
                cached=cached,
                generator=torch.Generator().manual_seed(1) if sampling else None,
                **sampling,
            )
            for cached in (True, False)
        ]
        assert texts[0].dtype == np.int64
        assert texts[0].tolist() == texts[1].tolist()
        written.update(texts[0])
    assert len(written) > 2  # else a model that always says the same would pass


def test_generation_forgets_the_older_half_of_a_full_context():
    model = make(3, max_length=6, tied=False)
    text = list(a_text(4))
    written = model.generate(text, 20)
    assert len(set(written)) > 1
    read, step = [], model.step
    model.step = lambda ids, caches: read.append(ids.shape[1]) or step(ids, caches)
    assert model.generate(text, 15).tolist() == written[:15].tolist()
    assert read == [4, 1, 1, 3, 1, 1, 1, 3, 1, 1, 1, 3, 1, 1, 1]
    context = text
    for symbol in written:
        if len(context) > 6:
            context = context[-3:]
        with torch.no_grad():
            assert model(torch.tensor([context]))[0, -1].argmax() == symbol
        context = [*context, symbol]


def test_a_symbol_is_drawn_from_the_distribution_at_a_temperature():
    model, prompt = make(), a_text(4)
    logits = model(torch.as_tensor(prompt)[None])[0, -1].detach()
    for temperature in (0.5, 3.0):
        generator = torch.Generator().manual_seed(0)
        drawn = [
            model.generate(prompt, 1, generator=generator, temperature=temperature)[0]
            for _ in range(300)
        ]
        expected = torch.softmax(logits / temperature, -1).numpy()
        observed = np.bincount(drawn, minlength=SYMBOLS) / len(drawn)
        assert np.abs(observed - expected).max() < 0.12  # four standard errors
    best = logits.argmax()
    generator = torch.Generator().manual_seed(0)
    assert model.generate(prompt, 1, generator=generator, temperature=1e-40) == [best]
    assert model.generate(prompt, 1, generator=generator, top_k=1) == [best]


@pytest.mark.parametrize("stride", [None, 1, 3, 5, 8])
@pytest.mark.parametrize("batch", [1, 2, 64])
@pytest.mark.parametrize("length", [2, 5, 8, 9, 10, 33, 41])
def test_every_symbol_but_the_first_is_scored_once(stride, batch, length):
    model, ids = make(max_length=8), torch.as_tensor(a_text(length))
    window = min(8, length - 1)
    step, costs, start = stride or window, {}, 0
    while len(costs) < length - 1:
        start = min(start, length - 1 - window)
        with torch.no_grad():
            logits = model(ids[None, start : start + window])[0]
        for i, target in enumerate(range(start + 1, start + window + 1)):
            costs.setdefault(target, cross_entropy(logits[i], ids[target]).item())
        start += step
    assert windowed_loss(model, ids, stride=stride, batch=batch) == pytest.approx(
        np.mean(list(costs.values())), rel=1e-12
    )


def test_files_hold_a_model(tmp_path):
    for tied in (True, False):
        model, again = make(0, tied=tied), make(1, tied=tied)
        write_tensors(tmp_path / "file", model.state_dict(), {})
        again.load_state_dict(read_tensors(tmp_path / "file")[0])
        ids = torch.as_tensor(a_text(8))[None]
        assert torch.equal(model(ids), again(ids))


# Devices and types


@each_of_four
def test_everything_is_computed_on_the_device_of_the_model(options):
    def results(device):
        model = make(device=device, **options)
        ids = torch.as_tensor(a_text(16))[None]  # of the CPU
        loss = model.loss(ids)
        gradients = torch.autograd.grad(loss, list(model.parameters()))
        with torch.no_grad():
            logits, caches = model.step(ids[:, :3], model.start())
            again, _ = model.step(ids[:, 3:], caches)
        tensors = [model(ids), loss, *gradients, logits, again]
        generator = torch.Generator().manual_seed(0)
        texts = [model.generate(ids[0, :15], 3), model.generate([1], 3, generator=generator)]
        return tensors, [text.tolist() for text in texts], windowed_loss(model, a_text(30))

    expected, texts, loss = results(None)
    with other_device() as device:
        actual, texts_there, loss_there = results(device)
        assert {x.device for x in actual} == {device}
        for ours, theirs in zip(actual, expected, strict=True):
            assert_equal({"": ours.detach().cpu()}, {"": theirs.detach()})
    assert texts_there == texts
    assert loss_there == pytest.approx(loss, rel=1e-12)


@each_of_four
@pytest.mark.parametrize("fake", [False, True])
def test_shapes_are_known_without_values(options, fake):
    device = "cpu" if fake else "meta"
    with FakeTensorMode() if fake else nullcontext():
        model = make(device=device, **options)
        ids = torch.zeros(2, 9, dtype=torch.int16, device=device)
        logits = model(ids)
        loss = model.loss(ids)
        loss.backward()
        with torch.no_grad():
            stepped, caches = model.step(ids, model.start(2))
        for tensor in (logits, stepped):
            assert tensor.shape == (2, 9, SYMBOLS)
            assert (tensor.device.type, tensor.dtype) == (device, torch.float64)
        assert loss.shape == ()
        assert [cache.length for cache in caches] == [9, 9]
        assert all(p.grad.shape == p.shape for p in model.parameters())
    if fake:  # what a fake tensor left behind must not be met by a real one
        assert make(**options)(torch.zeros(1, 3, dtype=torch.int64)).isfinite().all()


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
@pytest.mark.parametrize("option", [{}, {"norm": "layer", "feed_forward": "gelu", "bias": True}])
@each_positions
def test_lower_precision_is_close_to_double(dtype, option, positions):
    """Eight roundings in a row at most double the error of one, relative to logits of size 1."""
    precise = make(positions=positions, kv_heads=2, **option)
    model = make(positions=positions, kv_heads=2, dtype=dtype, **option)
    model.load_state_dict(precise.state_dict())
    ids = torch.as_tensor(a_text(12))[None]
    logits = model(ids)
    assert logits.dtype == dtype
    scale = precise(ids).abs().max()
    assert (logits.double() - precise(ids)).abs().max() <= 32 * torch.finfo(dtype).eps * scale
    loss = model.loss(ids)
    assert loss.dtype == torch.float32
    loss.backward()
    assert all(p.grad.dtype == dtype and p.grad.isfinite().all() for p in model.parameters())
    assert model.generate([1, 2], 20).shape == (20,)


INTEGERS = ["int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64"]


@pytest.mark.parametrize("kind", INTEGERS)
def test_ids_may_be_integers_of_any_type(kind):
    model, ids = make(), a_text(20)
    typed = torch.from_numpy(ids.astype(kind))
    assert torch.equal(model(typed[None]), model(torch.as_tensor(ids)[None]))
    assert model.generate(typed, 5).tolist() == model.generate(ids, 5).tolist()
    assert windowed_loss(model, ids.astype(kind)) == windowed_loss(model, ids)


# Errors


@pytest.mark.parametrize(
    ("use", "message"),
    [
        (lambda: RMSNorm(0), "d_model: expected at least 1, got 0"),
        (
            lambda: RMSNorm(3)(torch.ones(2, 1)),
            "inputs: expected 3 features in the last axis, got shape (2, 1)",
        ),
        (lambda: RotaryPositions(3), "features: expected a positive even number, got 3"),
        (lambda: RotaryPositions(0), "features: expected a positive even number, got 0"),
        (lambda: RotaryPositions(4, base=0), "base: expected a number above 0, got 0"),
        (
            lambda: RotaryPositions(4)(torch.ones(3, 2)),
            "inputs: expected shape (..., time, 4), got (3, 2)",
        ),
        (lambda: SwiGLU(0, 4), "d_model: expected at least 1, got 0"),
        (lambda: FeedForward(4, 0), "d_ff: expected at least 1, got 0"),
        (
            lambda: GroupedQueryAttention(6, 4),
            "heads: expected a positive divisor of a positive d_model, got 4 heads for d_model 6",
        ),
        (
            lambda: GroupedQueryAttention(8, 4, kv_heads=3),
            "kv_heads: expected a positive divisor of 4, got 3",
        ),
        (
            lambda: GroupedQueryAttention(8, 4)(torch.ones(2, 8)),
            "inputs: expected shape (batch, time, 8), got (2, 8)",
        ),
        (
            lambda: GroupedQueryAttention(8, 4)(torch.ones(2, 3, 8), mask=causal_mask(4)),
            "mask: expected a shape broadcastable to (2, 3, 3) (..., queries, keys), got (4, 4)",
        ),
        (lambda: make(norm="batch"), "norm: expected 'rms' or 'layer', got 'batch'"),
        (
            lambda: make(positions="alibi"),
            "positions: expected 'rotary' or 'learned' or 'sinusoidal' or 'none', got 'alibi'",
        ),
        (
            lambda: make(feed_forward="relu"),
            "feed_forward: expected 'swiglu' or 'gelu', got 'relu'",
        ),
        (lambda: make(max_length=0), "max_length: expected at least 1, got 0"),
        (lambda: make(kv_heads=8), "kv_heads: expected a positive divisor of 4, got 8"),
        (
            lambda: DecoderOnlyModel(5, 6, layers=0, heads=2, max_length=4),
            "layers: expected at least 1, got 0",
        ),
        (
            lambda: DecoderOnlyModel(5, 6, layers=1, heads=2, max_length=4),
            "features: expected a positive even number, got 3",
        ),
        (
            lambda: DecoderOnlyModel(5, 6, layers=1, heads=4, max_length=4),
            "heads: expected a positive divisor of a positive d_model, got 4 heads for d_model 6",
        ),
        (
            lambda: make(positions="learned")(torch.zeros(1, 17, dtype=torch.int64)),
            "inputs: expected at most 16 positions, got 17",
        ),
        (
            lambda: make()(torch.zeros(3, dtype=torch.int64)),
            "ids: expected shape (batch, time), got (3,)",
        ),
        (
            lambda: make().loss(torch.zeros(2, 1, dtype=torch.int64)),
            "ids: expected sequences of at least two symbols, got shape (2, 1)",
        ),
        (lambda: make().generate([], 1), "prompt: expected at least one symbol, got none"),
        (lambda: make().generate([7], 1), "prompt: expected 0 to 6, got 7"),
        (lambda: make().generate([0], -1), "length: expected at least 0, got -1"),
        (
            lambda: make().generate([0], 0, temperature=0),
            "temperature: expected a finite number above 0, got 0",
        ),
        (lambda: windowed_loss(make(), [1]), "ids: expected at least two symbols, got 1"),
        (
            lambda: windowed_loss(make(), a_text(), stride=17),
            "stride: expected an integer from 1 to 16, got 17",
        ),
        (
            lambda: windowed_loss(make(), a_text(), stride=0),
            "stride: expected an integer from 1 to 16, got 0",
        ),
    ],
)
def test_an_error_names_what_came_and_what_was_expected(use, message):
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        use()


def test_other_numbers_than_integers_are_refused():
    model = make()
    with pytest.raises(TypeError, match=r"ids: expected integers, got torch.float32"):
        model(torch.ones(1, 3))
    with pytest.raises(TypeError, match=r"prompt: expected integers, got float64"):
        model.generate([0.5], 1)
    with pytest.raises(TypeError, match=r"mask: expected booleans, True = may attend"):
        GroupedQueryAttention(8, 4)(torch.ones(2, 3, 8), mask=torch.ones(3, 3))
