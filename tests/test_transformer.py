"""Positions, layers, stacks and the Transformer: equal to torch's, causal, and steps that agree."""

import math
import re
from copy import deepcopy

import pytest
import torch
from devices import other_device
from hypothesis import given, settings
from hypothesis import strategies as st
from parity import TOLERANCE, assert_equal, dependence, randomise, values_and_gradients
from torch import nn
from torch.nn.functional import layer_norm as torch_layer_norm

from seqbook.layers.attention import causal_mask, padding_mask, recorded_weights
from seqbook.layers.transformer import (
    NORMS,
    Decoder,
    DecoderLayer,
    Encoder,
    EncoderLayer,
    LayerCache,
    LearnedPositions,
    SinusoidalPositions,
    Transformer,
    layer_norm,
    sinusoids,
)

dtypes = st.sampled_from([torch.float64, torch.float32])
seeds = st.integers(0, 2**16)
sizes = st.fixed_dictionaries(
    {
        "batch": st.integers(1, 3),
        "source": st.integers(1, 5),
        "target": st.integers(1, 5),
        "heads": st.integers(1, 3),
        "head": st.integers(2, 4),
        "hidden": st.integers(1, 6),
    }
)
options = st.fixed_dictionaries(
    {"norm": st.sampled_from(NORMS), "activation": st.sampled_from(["relu", "gelu"])}
)


def draw(generator, *shape, dtype=torch.float64):
    return torch.randn(shape, generator=generator, dtype=torch.float64).to(dtype)


def as_torchs(options, dtype=torch.float64):
    """What torch's layers call the same options; they drop also what ours do not."""
    return {
        "norm_first": options["norm"] == "pre",
        "activation": options["activation"],
        "dropout": 0.0,
        "batch_first": True,
        "dtype": dtype,
    }


class Problem:
    """Sequences and masks for a layer of the given sizes; every query may attend to something."""

    def __init__(self, size, dtype, seed):
        self.generator = torch.Generator().manual_seed(seed)
        batch, source, target = size["batch"], size["source"], size["target"]
        self.heads, self.width = size["heads"], size["heads"] * size["head"]
        self.source = draw(self.generator, batch, source, self.width, dtype=dtype)
        self.target = draw(self.generator, batch, target, self.width, dtype=dtype)
        self.padding = self._padding(batch, source)
        self.target_padding = self._padding(batch, target)
        self.causal = causal_mask(target)
        self.source_mask = self._random(batch, source, source)
        self.memory_mask = self._random(batch, target, source)

    def inverted(self, mask):
        """The same mask for torch, which wants one for each head and True = may not attend."""
        return ~mask.repeat_interleave(self.heads, 0)

    def _padding(self, batch, time):
        lengths = torch.randint(1, time + 1, (batch,), generator=self.generator)
        return padding_mask(lengths, time)

    def _random(self, *shape):
        mask = torch.rand(shape, generator=self.generator) < 0.5
        mask[..., 0] = True
        return mask


def same_weights(module, reference, generator, dtype):
    """Give both the same random weights, moved from ours to torch's and back."""
    randomise(module.to(dtype), generator)
    reference.load_state_dict(module.state_dict())
    module.load_state_dict(reference.state_dict())


# Equal to torch's


def assert_equals_torchs(module, reference, inputs, ours, theirs):
    """Compare a module with torch's, called with its own masks, in values and all gradients.

    A layer norm divides by a standard deviation that may be small, and so enlarges rounding errors
    without bound. How much it does shows in those of torch itself, measured against float64. In
    400 draws of the sizes below, the errors reached 3e-5 with a median of 7e-7.
    """
    actual = values_and_gradients(lambda *x: module(*x, **ours), *inputs, module=module)
    expected = values_and_gradients(lambda *x: reference(*x, **theirs), *inputs, module=reference)
    tolerance = dict(TOLERANCE)
    if inputs[0].dtype == torch.float32:
        precise = deepcopy(reference).double()
        exact = values_and_gradients(
            lambda *x: precise(*x, **theirs), *(x.double() for x in inputs), module=precise
        )
        rounding = max(
            ((expected[name] - x).abs().max() / x.abs().max().clamp(min=1)).item()
            for name, x in exact.items()
        )
        tolerance[torch.float32] = max(tolerance[torch.float32], 10 * rounding)
    assert_equal(actual, expected, tolerance=tolerance)


@given(size=sizes, option=options, dtype=dtypes, seed=seeds)
def test_an_encoder_layer_equals_torchs(size, option, dtype, seed):
    problem = Problem(size, dtype, seed)
    sizes = problem.width, problem.heads, size["hidden"]
    layer = EncoderLayer(*sizes, **option)
    reference = nn.TransformerEncoderLayer(*sizes, **as_torchs(option, dtype))
    same_weights(layer, reference, problem.generator, dtype)
    theirs = {
        "src_mask": problem.inverted(problem.source_mask),
        "src_key_padding_mask": ~problem.padding[:, 0],
    }
    ours = {"mask": problem.padding & problem.source_mask}
    assert_equals_torchs(layer, reference, [problem.source], ours, theirs)


def decoder_masks(problem):
    """The masks of a decoder, as ours and as torch's."""
    ours = {
        "mask": problem.causal & problem.target_padding,
        "memory_mask": problem.memory_mask & problem.padding,
    }
    theirs = {
        "tgt_mask": ~problem.causal,
        "tgt_key_padding_mask": ~problem.target_padding[:, 0],
        "memory_mask": problem.inverted(problem.memory_mask),
        "memory_key_padding_mask": ~problem.padding[:, 0],
    }
    return ours, theirs


@given(size=sizes, option=options, dtype=dtypes, seed=seeds)
def test_a_decoder_layer_equals_torchs(size, option, dtype, seed):
    problem = Problem(size, dtype, seed)
    sizes = problem.width, problem.heads, size["hidden"]
    layer = DecoderLayer(*sizes, **option)
    reference = nn.TransformerDecoderLayer(*sizes, **as_torchs(option, dtype))
    same_weights(layer, reference, problem.generator, dtype)
    ours, theirs = decoder_masks(problem)
    assert_equals_torchs(layer, reference, [problem.target, problem.source], ours, theirs)


@settings(max_examples=25)
@given(
    size=sizes,
    option=options,
    dtype=dtypes,
    seed=seeds,
    layers=st.integers(1, 3),
    final_norm=st.booleans(),
)
def test_stacks_equal_torchs(size, option, dtype, seed, layers, final_norm):
    problem = Problem(size, dtype, seed)
    sizes, theirs = (problem.width, problem.heads, size["hidden"]), as_torchs(option, dtype)
    for stack, layer, torchs, inputs, (masks, their_masks) in (
        (
            Encoder,
            nn.TransformerEncoderLayer,
            lambda *x: nn.TransformerEncoder(*x, enable_nested_tensor=False),
            (problem.source,),
            ({"mask": problem.padding}, {"src_key_padding_mask": ~problem.padding[:, 0]}),
        ),
        (
            Decoder,
            nn.TransformerDecoderLayer,
            nn.TransformerDecoder,
            (problem.target, problem.source),
            decoder_masks(problem),
        ),
    ):
        module = stack(layers, *sizes, final_norm=final_norm, **option)
        last = nn.LayerNorm(problem.width, dtype=dtype) if final_norm else None
        reference = torchs(layer(*sizes, **theirs), layers, last)
        same_weights(module, reference, problem.generator, dtype)
        assert_equals_torchs(module, reference, inputs, masks, their_masks)


@pytest.mark.filterwarnings("ignore:enable_nested_tensor")
@settings(max_examples=25)
@given(
    size=sizes,
    option=options,
    dtype=dtypes,
    seed=seeds,
    heights=st.tuples(*[st.integers(1, 2)] * 2),
)
def test_the_transformer_equals_torchs(size, option, dtype, seed, heights):
    problem = Problem(size, dtype, seed)
    module = Transformer(
        problem.width,
        problem.heads,
        encoder_layers=heights[0],
        decoder_layers=heights[1],
        d_ff=size["hidden"],
        final_norm=True,
        **option,
    )
    reference = nn.Transformer(
        problem.width, problem.heads, *heights, size["hidden"], **as_torchs(option, dtype)
    )
    same_weights(module, reference, problem.generator, dtype)
    masks, their_masks = decoder_masks(problem)
    ours = {
        "source_mask": problem.source_mask,
        "target_mask": masks["mask"],
        "memory_mask": masks["memory_mask"],
    }
    theirs = {"src_mask": problem.inverted(problem.source_mask), **their_masks}
    assert_equals_torchs(module, reference, [problem.source, problem.target], ours, theirs)


@given(
    shape=st.lists(st.integers(1, 4), max_size=2),
    width=st.integers(1, 6),
    dtype=dtypes,
    epsilon=st.sampled_from([None, 1e-2]),
    seed=seeds,
)
def test_layer_norm_equals_torchs(shape, width, dtype, epsilon, seed):
    generator = torch.Generator().manual_seed(seed)
    inputs = 3 + draw(generator, *shape, width, dtype=dtype)
    weight, bias = (draw(generator, width, dtype=dtype) for _ in range(2))
    own = {} if epsilon is None else {"epsilon": epsilon}
    theirs = () if epsilon is None else (epsilon,)
    # Where features are nearly equal, rounding grows by 1 / sqrt(epsilon), in both alike.
    assert_equal(
        values_and_gradients(lambda *x: layer_norm(*x, **own), inputs, weight, bias),
        values_and_gradients(
            lambda x, w, b: torch_layer_norm(x, (width,), w, b, *theirs), inputs, weight, bias
        ),
        tolerance={torch.float64: 1e-10, torch.float32: 1e-3},
    )


# Who sees whom


@pytest.fixture(params=NORMS)
def encoder(request):
    generator = torch.Generator().manual_seed(0)
    return randomise(Encoder(2, 6, 2, 8, norm=request.param).double(), generator)


@pytest.fixture(params=NORMS)
def decoder(request):
    generator = torch.Generator().manual_seed(0)
    return randomise(Decoder(2, 6, 2, 8, norm=request.param).double(), generator)


@pytest.fixture
def source():
    return draw(torch.Generator().manual_seed(1), 3, 7, 6)


@pytest.fixture
def target():
    return draw(torch.Generator().manual_seed(2), 3, 5, 6)


def test_an_encoder_with_a_causal_mask_depends_on_no_later_input(encoder, source):
    mask = causal_mask(7)
    assert torch.equal(dependence(lambda x: encoder(x, mask=mask), source), mask)
    assert dependence(encoder, source).all()


def test_a_decoder_depends_on_no_later_target_and_on_all_of_the_memory(decoder, source, target):
    mask = causal_mask(5)
    assert torch.equal(dependence(lambda x: decoder(x, source, mask=mask), target), mask)
    assert dependence(lambda x: decoder(x, source), target).all()
    assert dependence(lambda x: decoder(target, x, mask=mask), source).all()
    memory_mask = padding_mask(torch.tensor([4, 4, 4]), 7)
    seen = dependence(lambda x: decoder(target, x, mask=mask, memory_mask=memory_mask), source)
    assert torch.equal(seen, memory_mask[0].expand(5, 7))


def test_an_encoder_does_not_know_the_order_of_its_inputs_until_positions_tell(encoder, source):
    generator = torch.Generator().manual_seed(0)
    order = torch.randperm(7, generator=generator)
    assert_equal({"": encoder(source[:, order])}, {"": encoder(source)[:, order]})
    for positions in (SinusoidalPositions(6), LearnedPositions(6, 7)):
        located = nn.Sequential(randomise(positions, generator).double(), encoder)
        assert (located(source[:, order]) - located(source)[:, order]).abs().max() > 1e-2


def pad(source, lengths, time):
    """Lengthen sequences to ``time`` and put large numbers behind the end of each."""
    padded = torch.zeros(len(source), time, source.shape[2], dtype=source.dtype)
    padded[:, : source.shape[1]] = source
    beyond = ~padding_mask(lengths, time)[:, 0]
    padded[beyond] = 100 * draw(torch.Generator().manual_seed(3), int(beyond.sum()), 6)
    return padded


def test_an_encoder_does_not_see_the_padding_nor_its_length(encoder, source):
    lengths = torch.tensor([7, 1, 4])
    real, mask = padding_mask(lengths, 7)[:, 0], padding_mask(lengths, 11)
    expected = encoder(source, mask=padding_mask(lengths, 7))[real]
    padded = pad(source, lengths, 11)
    assert_equal({"": encoder(padded, mask=mask)[mask[:, 0]]}, {"": expected})
    assert (encoder(padded)[mask[:, 0]] - expected).abs().max() > 1e-2


def test_a_decoder_does_not_see_the_memorys_padding_nor_its_length(decoder, source, target):
    lengths = torch.tensor([7, 1, 4])
    expected = decoder(target, source, memory_mask=padding_mask(lengths, 7))
    padded = pad(source, lengths, 11)
    output = decoder(target, padded, memory_mask=padding_mask(lengths, 11))
    assert_equal({"": output}, {"": expected})
    assert (decoder(target, padded) - expected).abs().max() > 1e-2


# One step at a time


@given(
    size=sizes,
    option=options,
    dtype=dtypes,
    seed=seeds,
    layers=st.integers(1, 2),
    masked=st.booleans(),
)
def test_steps_equal_a_whole_pass_with_a_causal_mask(size, option, dtype, seed, layers, masked):
    problem = Problem(size, dtype, seed)
    decoder = Decoder(layers, problem.width, problem.heads, size["hidden"], **option).to(dtype)
    randomise(decoder, problem.generator)
    memory_mask = problem.padding if masked else None

    def stepwise(target, memory):
        caches, outputs = decoder.start(memory), []
        for position in target.split(1, 1):
            output, caches = decoder.step(position, caches, memory_mask=memory_mask)
            outputs.append(output)
        return torch.cat(outputs, 1)

    def whole(target, memory):
        return decoder(target, memory, mask=problem.causal, memory_mask=memory_mask)

    inputs = problem.target, problem.source
    assert_equal(
        values_and_gradients(stepwise, *inputs, module=decoder),
        values_and_gradients(whole, *inputs, module=decoder),
    )


@pytest.mark.parametrize("steps", [0, 1, 3])
def test_a_cache_of_some_rows_goes_on_as_those_sequences(decoder, source, target, steps):
    rows = torch.tensor([2, 0, 0, 1])
    caches = decoder.start(source)
    for step in range(steps):
        _, caches = decoder.step(target[:, step : step + 1], caches)
    assert all(isinstance(cache, LayerCache) for cache in caches)
    assert all((cache.own is None) == (steps == 0) for cache in caches)
    picked = [cache.index_select(rows) for cache in caches]
    output, _ = decoder.step(target[rows, steps : steps + 1], picked)
    expected = decoder(target, source, mask=causal_mask(5))[rows, steps : steps + 1]
    assert_equal({"": output}, {"": expected})


def test_a_step_leaves_the_cache_it_was_given_as_it_was(decoder, source, target):
    _, caches = decoder.step(target[:, :1], decoder.start(source))
    first, longer = decoder.step(target[:, 1:2], caches)
    assert [cache.own.length for cache in caches] == [1, 1]
    for before, after in zip(caches, longer, strict=True):
        assert after.own.length == 2
        assert torch.equal(after.own.contents().keys[:, :, :1], before.own.contents().keys)
        assert torch.equal(after.memory.keys, before.memory.keys)
    assert torch.equal(decoder.step(target[:, 1:2], caches)[0], first)


def test_recorded_weights_have_the_names_of_the_layers_and_obey_the_masks(source, target):
    model = Transformer(6, 2, encoder_layers=1, decoder_layers=2, d_ff=8).double()
    masks = {
        "source_mask": padding_mask(torch.tensor([7, 2, 4]), 7),
        "target_mask": causal_mask(5),
        "memory_mask": padding_mask(torch.tensor([7, 2, 4]), 7),
    }
    with recorded_weights(model) as recorded:
        model(source, target, **masks)
    allowed = {"encoder.layers.0.self_attn": masks["source_mask"].expand(3, 7, 7)}
    for layer in ("decoder.layers.0", "decoder.layers.1"):
        allowed[f"{layer}.self_attn"] = masks["target_mask"].expand(3, 5, 5)
        allowed[f"{layer}.multihead_attn"] = masks["memory_mask"].expand(3, 5, 7)
    assert recorded.keys() == allowed.keys()
    for name, weights in recorded.items():
        assert torch.equal(weights > 0, allowed[name].unsqueeze(1).expand_as(weights))


# Options


@pytest.mark.parametrize("stack", [Encoder, Decoder])
def test_a_last_norm_follows_by_default_where_the_layers_do_not_end_with_one(stack):
    kinds = {
        (norm, final): type(stack(1, 4, 2, 4, norm=norm, final_norm=final).norm)
        for norm in NORMS
        for final in (None, True, False)
    }
    for norm in NORMS:
        assert kinds[norm, True] is nn.LayerNorm
        assert kinds[norm, False] is nn.Identity
    assert kinds["pre", None] is nn.LayerNorm
    assert kinds["post", None] is nn.Identity


@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("layer", [EncoderLayer, DecoderLayer])
def test_dropout_drops_what_each_sublayer_adds_in_training_alone(layer, norm, source):
    inputs = (source,) if layer is EncoderLayer else (source, source)
    dropping = layer(6, 2, 8, norm=norm, dropout=1.0).double()
    alone = source
    if norm == "post":
        for _ in range(2 if layer is EncoderLayer else 3):
            alone = torch_layer_norm(alone, (6,))
    torch.testing.assert_close(dropping(*inputs), alone)
    keeping = layer(6, 2, 8, norm=norm).double()
    keeping.load_state_dict(dropping.state_dict())
    assert torch.equal(dropping.eval()(*inputs), keeping(*inputs))
    assert not torch.allclose(keeping(*inputs), alone)
    half = layer(6, 2, 8, norm=norm, dropout=0.5).double()
    assert not torch.equal(half(*inputs), half(*inputs))


@pytest.mark.parametrize("implementation", ["loop", "chunked"])
def test_the_implementation_reaches_every_attention_layer_and_changes_nothing(
    implementation, source, target
):
    sizes = {"encoder_layers": 2, "decoder_layers": 2, "d_ff": 8}
    fused = Transformer(6, 2, **sizes).double()
    other = Transformer(6, 2, implementation=implementation, **sizes).double()
    other.load_state_dict(fused.state_dict())
    layers = [m for m in other.modules() if hasattr(m, "implementation")]
    assert [layer.implementation for layer in layers] == [implementation] * 6
    mask = {"target_mask": causal_mask(5)}
    assert_equal({"": other(source, target, **mask)}, {"": fused(source, target, **mask)})


def test_the_generator_draws_all_the_weights():
    def build(seed):
        torch.manual_seed(len(built))
        generator = torch.Generator().manual_seed(seed)
        return Transformer(8, 2, encoder_layers=1, decoder_layers=1, d_ff=16, generator=generator)

    built = []
    for seed in (0, 0, 1):
        built.append(build(seed))
    for (name, one), again, other in zip(
        built[0].named_parameters(), built[1].parameters(), built[2].parameters(), strict=True
    ):
        assert torch.equal(one, again), name
        assert torch.equal(one, other) == (one.dim() == 1), name
        if "linear" in name and one.dim() == 2:
            limit = (6 / sum(one.shape)) ** 0.5
            assert 0.9 * limit < one.abs().max() <= limit


# Positions


def test_sinusoids_are_the_published_formula():
    codes = sinusoids(40, 6, base=50.0)
    for t in range(40):
        for i in range(3):
            angle = t / 50.0 ** (2 * i / 6)
            assert codes[t, 2 * i].item() == pytest.approx(math.sin(angle), abs=1e-6)
            assert codes[t, 2 * i + 1].item() == pytest.approx(math.cos(angle), abs=1e-6)
    assert sinusoids(0, 4).shape == (0, 4)
    assert sinusoids(3, 4).dtype == torch.get_default_dtype()
    torch.testing.assert_close(sinusoids(9, 4), sinusoids(9, 4, base=10000.0))


@pytest.mark.parametrize("shift", [1, 7])
def test_a_shift_turns_the_code_of_every_position_by_the_same_rotation(shift):
    width = 8
    codes = sinusoids(30 + shift, width)
    angles = [shift / 10000 ** (2 * i / width) for i in range(width // 2)]
    rotation = torch.block_diag(
        *(torch.tensor([[math.cos(a), math.sin(a)], [-math.sin(a), math.cos(a)]]) for a in angles)
    )
    torch.testing.assert_close(codes[shift:], codes[:30] @ rotation.T, rtol=0, atol=1e-5)


@pytest.mark.parametrize(("time", "start"), [(3, 0), (64, 0), (65, 0), (200, 0), (1, 64), (5, 300)])
def test_sinusoidal_positions_know_no_longest_sequence(time, start):
    positions = SinusoidalPositions(6)
    inputs = draw(torch.Generator().manual_seed(0), 2, time, 6).float()
    expected = inputs + sinusoids(start + time, 6)[start:]
    for _ in range(2):
        assert torch.equal(positions(inputs, start=start), expected)
    assert torch.equal(positions(inputs[:, :2]), inputs[:, :2] + sinusoids(min(time, 2), 6))
    assert positions.state_dict() == {}
    for dtype in (torch.float64, torch.bfloat16):
        assert positions(inputs.to(dtype), start=2 * start).dtype == dtype


def test_learned_positions_add_a_vector_of_their_own_to_each_position():
    build = [LearnedPositions(3, 50, generator=torch.Generator().manual_seed(s)) for s in (0, 0, 1)]
    positions, again, other = build
    assert torch.equal(positions.weight, again.weight)
    assert not torch.equal(positions.weight, other.weight)
    assert positions.weight.std().item() == pytest.approx(0.02, rel=0.2)
    inputs = torch.ones(2, 4, 3)
    assert torch.equal(positions(inputs), 1 + positions.weight[:4].expand(2, 4, 3))
    assert torch.equal(positions(inputs, start=46), 1 + positions.weight[46:].expand(2, 4, 3))
    positions(inputs, start=1).sum().backward()
    assert positions.weight.grad[:6, 0].tolist() == [0, 2, 2, 2, 2, 0]


# Errors


def step_with(shape):
    decoder = Decoder(1, 4, 2, 4)
    return decoder.step(torch.ones(shape), decoder.start(torch.ones(2, 3, 4)))


@pytest.mark.parametrize(
    ("use", "message"),
    [
        (lambda: sinusoids(3, 5), "d_model: expected a positive even number, got 5"),
        (lambda: sinusoids(3, 0), "d_model: expected a positive even number, got 0"),
        (lambda: SinusoidalPositions(7), "d_model: expected a positive even number, got 7"),
        (lambda: sinusoids(-1, 4), "time: expected at least 0 positions, got -1"),
        (
            lambda: LearnedPositions(3, 5)(torch.ones(1, 4, 3), start=2),
            "inputs: expected at most 5 positions, got 6",
        ),
        (lambda: Encoder(0, 4, 2, 4), "layers: expected at least 1, got 0"),
        (lambda: Decoder(-1, 4, 2, 4), "layers: expected at least 1, got -1"),
        (lambda: EncoderLayer(4, 2, 0), "d_ff: expected at least 1, got 0"),
        (lambda: EncoderLayer(4, 2, 4, norm="last"), "norm: expected 'pre' or 'post', got 'last'"),
        (
            lambda: DecoderLayer(4, 2, 4, activation="tanh"),
            "activation: expected 'relu' or 'gelu', got 'tanh'",
        ),
        (
            lambda: Transformer(
                4, 2, encoder_layers=1, decoder_layers=1, d_ff=4, implementation="flash"
            ),
            "implementation: expected 'fused' or 'loop' or 'chunked', got 'flash'",
        ),
        (
            lambda: EncoderLayer(6, 4, 4),
            "heads: expected a positive divisor of a positive d_model, got 4 heads for d_model 6",
        ),
        (
            lambda: DecoderLayer(4, 2, 4)(torch.ones(2, 3, 4), torch.ones(2, 3, 5)),
            "key: expected shape (batch, positions, 4), got (2, 3, 5)",
        ),
        (
            lambda: step_with((2, 2, 4)),
            "target: expected one position, (batch, 1, d_model), got (2, 2, 4)",
        ),
        (
            lambda: step_with((2, 1)),
            "target: expected one position, (batch, 1, d_model), got (2, 1)",
        ),
    ],
)
def test_an_error_names_what_came_and_what_was_expected(use, message):
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        use()


# Devices and types


@pytest.mark.parametrize("norm", NORMS)
def test_layers_compute_where_the_inputs_are(norm, source, target):
    def compute(device=None):
        generator = torch.Generator().manual_seed(0)  # of the CPU
        placed = {"device": device, "dtype": torch.float64}
        sizes = {"encoder_layers": 1, "decoder_layers": 2, "d_ff": 8, "norm": norm}
        model = Transformer(6, 2, **sizes, generator=generator, **placed)
        learned = LearnedPositions(6, 9, generator=generator, **placed)
        inputs, targets = (x.to(device or "cpu") for x in (source, target))
        output = model(SinusoidalPositions(6)(inputs), learned(targets))
        steps, caches = [], model.decoder.start(model.encoder(inputs))
        for position in targets.split(1, 1):
            step, caches = model.decoder.step(position, caches)
            steps.append(step)
        return [output, *steps, sinusoids(3, 4, **placed)]

    expected = compute()
    with other_device() as device:
        results = compute(device)
        assert {x.device for x in results} == {device}
        for ours, theirs in zip(results, expected, strict=True):
            assert_equal({"": ours.cpu()}, {"": theirs})


def test_sinusoids_of_a_double_precision_model_are_exact():
    inputs = torch.zeros(1, 40, 4, dtype=torch.float64)
    encodings = SinusoidalPositions(4)(inputs)[0]
    for t in range(40):
        expected = [f(t / 10000 ** (2 * i / 4)) for i in range(2) for f in (math.sin, math.cos)]
        assert encodings[t].tolist() == pytest.approx(expected, abs=1e-14)


@pytest.mark.parametrize("positions", [SinusoidalPositions(6), LearnedPositions(6, 9)])
@pytest.mark.parametrize("shape", [(2, 3, 1), (2, 3, 5), (3, 6)])
def test_positions_are_not_broadcast_to_other_shapes(positions, shape):
    message = re.escape(f"inputs: expected shape (batch, time, 6), got {shape}")
    with pytest.raises(ValueError, match=message):
        positions(torch.zeros(shape))


def test_a_cache_continued_in_two_ways_keeps_both(decoder, source, target):
    with torch.no_grad():
        _, caches = decoder.step(target[:, :1], decoder.start(source))
        _, one = decoder.step(target[:, 1:2], caches)
        _, other = decoder.step(target[:, 2:3], caches)
        for row, branch in ((1, one), (2, other)):
            output, _ = decoder.step(target[:, 3:4], branch)
            whole = decoder(target[:, [0, row, 3]], source, mask=causal_mask(3))
            assert_equal({"": output}, {"": whole[:, 2:]})
