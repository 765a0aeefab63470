import math

import numpy as np
import pytest
import torch
from devices import other_device
from seq2seq_models import KINDS, RECURRENT, TRANSFORMERS, alone, make, make_examples
from torch import nn

from seqbook.data import place_names
from seqbook.data.batches import Encoded, Vocabularies, encode_pairs
from seqbook.layers.attention import recorded_weights
from seqbook.models.decoding import greedy
from seqbook.models.metrics import error_rates
from seqbook.models.seq2seq import RecurrentSeq2Seq, Seq2Seq, TransformerSeq2Seq
from seqbook.training.loop import train

LENGTHS = [(3, 2), (6, 1), (1, 5), (0, 0), (4, 4)]
ATTENTIVE = [kind for kind in RECURRENT if "attention" in kind]

kinds = pytest.mark.parametrize("kind", KINDS)


@pytest.fixture
def examples():
    return make_examples(LENGTHS)


def assert_close(actual, expected, tolerance=1e-10):
    torch.testing.assert_close(actual, expected, rtol=tolerance, atol=tolerance)


def recurrent_logits(model, kind, source, target):
    """The equations of ``RecurrentSeq2Seq`` for one sentence, on torch's own layers."""
    network, layers = getattr(nn, RECURRENT[kind]["network"]), RECURRENT[kind]["num_layers"]
    encoder = network(5, 3, layers, batch_first=True, bidirectional=True).double()
    decoder = network(5, 6, layers, batch_first=True).double()
    encoder.load_state_dict(model.encoder.state_dict())
    decoder.load_state_dict(model.decoder.state_dict())
    states, final = encoder(model.source_embedding.weight[source][None])
    final = final if isinstance(final, tuple) else (final,)
    directions = [
        torch.stack([torch.cat((part[2 * i], part[2 * i + 1]), -1) for i in range(layers)])
        for part in final
    ]
    hidden, _ = decoder(
        model.target_embedding.weight[target][None],
        tuple(directions) if len(directions) > 1 else directions[0],
    )
    logits = []
    for h in hidden[0]:
        if model.query is not None:
            scores = [(model.query.weight @ h) @ e / math.sqrt(6) for e in states[0]]
            weights = torch.stack(scores).softmax(0)
            context = sum(w * e for w, e in zip(weights, states[0], strict=True))
            h = torch.cat((context, h))
        read = torch.tanh(model.combine.weight @ h + model.combine.bias)
        logits.append(model.readout.weight @ read + model.readout.bias)
    return torch.stack(logits)


@pytest.mark.parametrize("kind", RECURRENT)
def test_a_recurrent_model_is_its_equations(kind, examples):
    model = make(kind)
    logits = model(examples)
    for row, example in enumerate(alone(examples)):
        expected = recurrent_logits(model, kind, example.source[0], example.target[0, :-1])
        assert_close(logits[row, : len(expected)], expected)


def transformer_logits(model, norm, source, target):
    """Embeddings, positions and readout written out, around torch's own Transformer."""
    reference = nn.Transformer(4, 2, 2, 2, 5, 0.0, batch_first=True, norm_first=norm == "pre")
    if norm == "post":
        reference.encoder.norm = reference.decoder.norm = None
    reference = reference.double()
    reference.load_state_dict(model.transformer.state_dict())

    def embed(ids, embedding):
        rows = []
        for position, symbol in enumerate(ids):
            slow = position / 10000 ** (2 / 4)
            code = [math.sin(position), math.cos(position), math.sin(slow), math.cos(slow)]
            rows.append(2 * embedding.weight[symbol] + torch.tensor(code, dtype=torch.float64))
        return torch.stack(rows)[None]

    hidden = reference(
        embed(source, model.source_embedding),
        embed(target, model.target_embedding),
        tgt_mask=torch.ones(len(target), len(target), dtype=torch.bool).triu(1),  # True = may not
    )
    return hidden[0] @ model.target_embedding.weight.T


@pytest.mark.filterwarnings("ignore:enable_nested_tensor")
@pytest.mark.parametrize("kind", TRANSFORMERS)
def test_a_transformer_is_torchs_between_embeddings_and_the_shared_readout(kind, examples):
    model = make(kind)
    logits = model(examples)
    for row, example in enumerate(alone(examples)):
        norm = TRANSFORMERS[kind]["norm"]
        expected = transformer_logits(model, norm, example.source[0], example.target[0, :-1])
        assert_close(logits[row, : len(expected)], expected)


@kinds
@pytest.mark.parametrize("smoothing", [0.0, 0.3])
def test_the_loss_is_the_chain_rule(kind, smoothing, examples):
    model = make(kind)
    total, symbols = 0.0, 0
    for example in alone(examples):
        memory = model.encode(example.source, example.source_lengths)
        target = example.target[0].tolist()
        for t in range(1, len(target)):
            logits = model.decode(torch.tensor([target[:t]]), memory)[0, -1].tolist()
            log_z = math.log(sum(map(math.exp, logits)))
            total += (1 - smoothing) * (log_z - logits[target[t]])
            total += smoothing * (log_z - sum(logits) / len(logits))
            symbols += 1
    loss = model.loss(examples, label_smoothing=smoothing)
    assert loss.item() == pytest.approx(total / symbols, rel=1e-10)


@kinds
def test_each_sentence_has_the_logits_that_it_has_alone(kind, examples):
    model = make(kind)
    memory = model.encode(examples.source, examples.source_lengths)
    together = model(examples)
    for row, example in enumerate(alone(examples)):
        own = model.encode(example.source, example.source_lengths)
        assert_close(memory.values[row, : example.source.shape[1]], own.values[0])
        for part, own_part in zip(memory.final, own.final, strict=True):
            assert_close(part[:, row], own_part[:, 0])
        assert_close(together[row, : example.target.shape[1] - 1], model(example)[0])


def gradients(model, loss):
    return torch.autograd.grad(loss, list(model.parameters()))


@kinds
def test_each_sentence_gives_the_gradient_that_it_gives_alone(kind, examples):
    model = make(kind)
    together = gradients(model, model.loss(examples))
    symbols = examples.target_lengths - 1
    summed = [torch.zeros_like(p) for p in model.parameters()]
    for example, count in zip(alone(examples), symbols, strict=True):
        for total, gradient in zip(summed, gradients(model, model.loss(example)), strict=True):
            total += gradient * count / symbols.sum()
    for actual, expected in zip(together, summed, strict=True):
        assert_close(actual, expected)


@kinds
def test_nothing_depends_on_what_the_padding_of_the_source_holds(kind, examples):
    model = make(kind)
    filled = examples.source.clone()
    filled[filled == 0] = 5
    other = examples._replace(source=filled)
    assert_close(model(other), model(examples))
    for a, b in zip(
        gradients(model, model.loss(other)), gradients(model, model.loss(examples)), strict=True
    ):
        assert_close(a, b)


@kinds
def test_every_source_symbol_and_no_padding_is_read(kind, examples):
    model, embeddings = make(kind), []
    model.source_embedding.register_forward_hook(lambda *call: embeddings.append(call[-1]))
    loss = model.loss(examples)
    (gradient,) = torch.autograd.grad(loss, embeddings)
    used = torch.arange(examples.source.shape[1]) < examples.source_lengths[:, None]
    assert torch.equal(gradient.abs().sum(-1) > 0, used)


@kinds
def test_teacher_forcing_equals_stepping(kind, examples):
    model = make(kind)
    memory = model.encode(examples.source, examples.source_lengths)
    at_once = model.decode(examples.target, memory)
    state = model.start(memory)
    for t, symbol in enumerate(examples.target.T):
        logits, state = model.step(symbol, state)
        assert_close(logits, at_once[:, t])


@pytest.mark.parametrize("kind", TRANSFORMERS)
def test_stepping_goes_beyond_the_prepared_positions(kind):
    examples = make_examples([(80, 80)])
    model = make(kind)
    memory = model.encode(examples.source, examples.source_lengths)
    state = model.start(memory)
    steps = []
    for symbol in examples.target.T:
        logits, state = model.step(symbol, state)
        steps.append(logits)
    assert_close(torch.stack(steps, 1), model.decode(examples.target, memory))


@kinds
def test_a_step_leaves_the_state_that_it_started_from(kind, examples):
    model = make(kind)
    memory = model.encode(examples.source, examples.source_lengths)
    _, state = model.step(examples.target[:, 0], model.start(memory))
    first, _ = model.step(examples.target[:, 1], state)
    model.step(examples.target[:, 1].flip(0), state)
    again, _ = model.step(examples.target[:, 1], state)
    assert torch.equal(first, again)


@kinds
def test_rows_of_a_state_go_on_as_they_would(kind, examples):
    model = make(kind)
    memory = model.encode(examples.source, examples.source_lengths)
    rows = torch.tensor([4, 1, 1, 0, 2, 2, 3])
    _, state = model.step(examples.target[:, 0], model.start(memory))
    logits, _ = model.step(examples.target[:, 1], state)
    picked, _ = model.step(examples.target[rows, 1], state.index_select(rows))
    assert_close(picked, logits[rows])
    from_memory, _ = model.step(examples.target[rows, 0], model.start(memory.index_select(rows)))
    assert_close(from_memory, model.decode(examples.target[:, :1], memory)[rows, 0])


@kinds
def test_no_logit_has_a_gradient_from_a_later_target_symbol(kind):
    examples, embeddings = make_examples([(3, 5)]), []
    model = make(kind)
    memory = model.encode(examples.source, examples.source_lengths)
    model.target_embedding.register_forward_hook(lambda *call: embeddings.append(call[-1]))
    logits = model.decode(examples.target, memory)
    for t in range(logits.shape[1]):
        (gradient,) = torch.autograd.grad(logits[0, t].sin().sum(), embeddings, retain_graph=True)
        moves = gradient[0].abs().sum(-1)
        assert (moves[: t + 1] > 0).all()
        assert (moves[t + 1 :] == 0).all()


@kinds
def test_every_parameter_learns(kind, examples):
    model = make(kind)
    actual = gradients(model, model.loss(examples))
    names = [name for name, _ in model.named_parameters()]
    idle = [n for n, gradient in zip(names, actual, strict=True) if gradient.abs().max() < 1e-6]
    assert idle == []


@pytest.mark.parametrize("kind", ["GRU", "LSTM without attention", "Transformer"])
def test_twenty_pairs_are_learnt_by_heart(kind):
    pairs = place_names.load().training[:20]
    vocabularies = Vocabularies.from_pairs(pairs)
    examples = encode_pairs(pairs, vocabularies)
    assert len(examples.source) == 20
    sizes = (len(vocabularies.source), len(vocabularies.target))
    generator = torch.Generator().manual_seed(0)
    if kind == "Transformer":
        layers = {"encoder_layers": 1, "decoder_layers": 1}
        model = TransformerSeq2Seq(
            *sizes, d_model=32, heads=4, d_ff=64, generator=generator, **layers
        )
    else:
        model = RecurrentSeq2Seq(
            *sizes,
            embedding_size=32,
            hidden_size=64,
            network=kind.split()[0],
            attention=kind == "GRU",
            generator=generator,
        )
    history = train(
        model.parameters(), lambda _step: model.loss(examples), steps=80, learning_rate=0.01
    )
    written = greedy(model.eval(), *vocabularies.encode_sources([pair.source for pair in pairs]))
    right = error_rates([vocabularies.decode_target(h.ids) for h in written], pairs)
    assert history[0] > 3
    assert history[-1] < 0.1
    assert right == (0, 0)


@pytest.mark.parametrize("kind", ATTENTIVE)
def test_attention_weights_are_shares_of_the_source(kind, examples):
    model = make(kind)
    weights = model.attention_weights(examples)
    assert weights.shape == (5, examples.target.shape[1] - 1, examples.source.shape[1])
    assert (weights >= 0).all()
    assert_close(weights.sum(-1), torch.ones(weights.shape[:2], dtype=torch.float64))
    padding = torch.arange(weights.shape[-1]) >= examples.source_lengths[:, None]
    assert (weights.transpose(1, 2)[padding] == 0).all()


@pytest.mark.parametrize("kind", ATTENTIVE)
def test_attention_weights_are_those_that_made_the_logits(kind, examples):
    model, read = make(kind), []
    model.combine.register_forward_pre_hook(lambda _layer, inputs: read.append(inputs[0]))
    model(examples)
    values = model.encode(examples.source, examples.source_lengths).values
    assert_close(model.attention_weights(examples) @ values, read[0][..., :6])


@pytest.mark.parametrize("kind", TRANSFORMERS)
def test_no_head_looks_at_padding_or_ahead(kind, examples):
    model = make(kind)
    with recorded_weights(model) as weights:
        model(examples)
    assert len(weights) == 2 + 2 * 2
    padding = torch.arange(examples.source.shape[1]) >= examples.source_lengths[:, None]
    for name, layer_weights in weights.items():
        assert_close(
            layer_weights.sum(-1), torch.ones(layer_weights.shape[:-1], dtype=torch.float64)
        )
        if "decoder" in name and "self_attn" in name:
            assert (layer_weights.triu(1) == 0).all()
        else:
            assert (layer_weights.permute(0, 3, 1, 2)[padding] == 0).all()


@kinds
@pytest.mark.parametrize("dtype", [torch.int32, torch.int16, torch.uint8, torch.uint16])
def test_ids_and_lengths_may_be_integers_of_any_type(kind, dtype, examples):
    model = make(kind)
    other = examples._replace(**{name: x.to(dtype) for name, x in examples._asdict().items()})
    assert torch.equal(model(other), model(examples))
    assert torch.equal(model.loss(other), model.loss(examples))
    memory = model.encode(other.source, other.source_lengths)
    step, _ = model.step(other.target[:, 0], model.start(memory))
    assert_close(step, model(examples)[:, 0])


@pytest.mark.parametrize("kind", ["GRU with attention, layers: 1", "Transformer pre"])
def test_ids_may_be_mapped_from_a_file(kind, examples, tmp_path):
    path = tmp_path / "source.bin"
    examples.source.numpy().astype("uint16").tofile(path)
    mapped = np.memmap(path, dtype="uint16", mode="r", shape=tuple(examples.source.shape))
    model = make(kind)
    lengths = examples.source_lengths
    assert torch.equal(
        model.encode(mapped, lengths).values, model.encode(examples.source, lengths).values
    )


@pytest.mark.parametrize("kind", ["GRU with attention, layers: 1", "Transformer pre"])
@pytest.mark.parametrize("name", ["source", "source_lengths", "target"])
def test_ids_that_are_no_integers_are_named(kind, name, examples):
    wrong = examples._replace(**{name: getattr(examples, name).double()})
    message = f"^{name.removeprefix('source_')}: expected integers, got torch.float64"
    with pytest.raises(TypeError, match=message):
        make(kind)(wrong)


@pytest.mark.parametrize("kind", ["GRU with attention, layers: 1", "Transformer pre"])
def test_a_length_for_each_source_is_needed(kind, examples):
    with pytest.raises(ValueError, match="lengths: expected one for each of 5 sources, got 4"):
        make(kind).encode(examples.source, examples.source_lengths[:4])


@kinds
def test_a_model_computes_on_its_own_device(kind, examples):
    host = make(kind)
    expected = host(examples), *gradients(host, host.loss(examples))
    with other_device() as device:
        model = make(kind, device=device, dtype=torch.float64)
        model.load_state_dict(host.state_dict())
        assert {p.device for p in model.parameters()} == {device}
        results = model(examples), *gradients(model, model.loss(examples))  # of ids on the CPU
        assert {x.device for x in results} == {device}
        for ours, theirs in zip(results, expected, strict=True):
            assert_close(ours.cpu(), theirs)


@kinds
def test_a_model_without_values_knows_its_shapes_and_can_be_filled(kind, examples):
    host = make(kind)
    empty = make(kind, device="meta")
    logits = empty(Encoded(*(x.to("meta") for x in examples)))
    assert (logits.device.type, logits.dtype) == ("meta", torch.float64)
    assert logits.shape == host(examples).shape
    for assign in (False, True):
        model = make(kind, device="meta")
        if not assign:
            model = model.to_empty(device="cpu")
        model.load_state_dict(host.state_dict(), assign=assign)
        assert torch.equal(model(examples), host(examples))


@kinds
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_autocast_and_lower_types_stay_near_double_precision(kind, dtype, examples):
    expected = make(kind)(examples)
    options = {"rtol": 0, "atol": 1e-5 if dtype == torch.float32 else 0.1}
    lower = make(kind).to(dtype)(examples)
    assert lower.dtype == dtype
    torch.testing.assert_close(lower.double(), expected, **options)
    with torch.autocast("cpu", torch.bfloat16):
        model = make(kind).float()
        loss = model.loss(examples)
        torch.testing.assert_close(model(examples).double(), expected, rtol=0, atol=0.1)
    assert all(gradient.isfinite().all() for gradient in gradients(model, loss))


def test_a_model_without_attention_has_no_weights_to_show(examples):
    with pytest.raises(ValueError, match="expected a model with attention, this one has none"):
        make("GRU, layers: 1").attention_weights(examples)


@kinds
def test_dropout_is_at_work_in_training_only(kind, examples):
    model = make(kind, dropout=0.5)
    assert not torch.equal(model(examples), model(examples))
    assert torch.equal(model.eval()(examples), model(examples))
    assert_close(model(examples), make(kind)(examples))


@kinds
def test_the_generator_decides_all_weights(kind):
    torch.manual_seed(1)
    first = make(kind, seed=3)
    torch.manual_seed(2)
    for a, b, c in zip(
        *(m.parameters() for m in (first, make(kind, seed=3), make(kind, seed=4))), strict=True
    ):
        assert torch.equal(a, b)
        assert not torch.equal(a, c)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"network": "CNN"}, "network: expected 'RNN' or 'LSTM' or 'GRU', got 'CNN'"),
        ({"hidden_size": 5}, "hidden_size: expected a positive even number, got 5"),
        ({"hidden_size": 0}, "hidden_size: expected a positive even number, got 0"),
        ({"embedding_size": 0}, "embedding_size: expected at least 1, got 0"),
        ({"num_layers": 0}, "num_layers: expected .*, got 0"),
    ],
)
def test_invalid_options_of_a_recurrent_model_are_named(options, message):
    with pytest.raises(ValueError, match=message):
        RecurrentSeq2Seq(5, 5, **{"embedding_size": 4, "hidden_size": 4, **options})


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"heads": 3}, "heads: expected a positive divisor of a positive d_model, got 3 heads for"),
        ({"d_model": 5, "heads": 5}, "d_model: expected a positive even number, got 5"),
        ({"norm": "none"}, "norm: expected 'pre' or 'post', got 'none'"),
        ({"d_ff": 0}, "d_ff: expected at least 1, got 0"),
        ({"encoder_layers": 0}, "layers: expected at least 1, got 0"),
    ],
)
def test_invalid_options_of_a_transformer_are_named(options, message):
    with pytest.raises(ValueError, match=message):
        TransformerSeq2Seq(5, 5, **{"d_model": 4, "heads": 2, "d_ff": 4, **options})


@pytest.mark.parametrize("symbols", [(0, 5), (5, 0)])
def test_a_side_without_symbols_is_refused(symbols):
    with pytest.raises(ValueError, match=r"(source|target)_symbols: expected at least 1, got 0"):
        RecurrentSeq2Seq(*symbols, embedding_size=4, hidden_size=4)


def test_a_model_that_says_nothing_is_no_model(examples):
    model = Seq2Seq()
    for call in (
        lambda: model.encode(examples.source, examples.source_lengths),
        lambda: model.decode(examples.target, None),
        lambda: model.start(None),
        lambda: model.step(examples.target[:, 0], None),
    ):
        with pytest.raises(NotImplementedError):
            call()
