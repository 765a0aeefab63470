import io
import os
import pickle
import random

import pytest
import safetensors.torch
import torch
from devices import other_device

from seqbook.data.batches import END, Vocabularies, encode_pairs
from seqbook.data.pairs import Pair, read_pairs, tokenize
from seqbook.models.decoding import Hypothesis
from seqbook.models.metrics import error_rates
from seqbook.models.storage import DamagedModelError, read_tensors, write_tensors
from seqbook.models.transcriber import MODELS, Transcriber, option_names

PAIRS = [
    Pair(tuple("abc"), (tuple("XYZ"), tuple("XY"))),
    Pair(tuple("b"), (tuple("Y"),)),
    Pair(tuple("cab"), (tuple("ZX"),)),
]
RECURRENT = {
    "embedding_size": 4,
    "hidden_size": 4,
    "num_layers": 1,
    "attention": True,
    "dropout": 0.1,
}
OPTIONS = {
    "transformer": {
        "d_model": 4,
        "heads": 2,
        "d_ff": 4,
        "encoder_layers": 1,
        "decoder_layers": 1,
        "dropout": 0.1,
        "norm": "post",
        "final_norm": True,
        "activation": "gelu",
        "implementation": "loop",
    },
    "rnn": RECURRENT,
    "lstm": RECURRENT,
    "gru": RECURRENT,
}


def make(kind="gru", *, seed=0, options=None, **more):
    options = OPTIONS[kind] if options is None else options
    generator = torch.Generator().manual_seed(seed)
    return Transcriber(kind, options, Vocabularies.from_pairs(PAIRS), generator=generator, **more)


def make_decided(**options):
    """A model in float64 that ends what it writes, after 0 to 3 symbols."""
    model = make(seed=1, **options)
    model.model.double()
    generator = torch.Generator().manual_seed(2)
    with torch.no_grad():
        for parameter in model.model.parameters():
            parameter.normal_(0, 1.5, generator=generator)
        model.model.readout.bias[END] += 1
    return model


def draw_sources(count, seed=0):
    chance = random.Random(seed)
    return [tuple(chance.choices("abc", k=chance.randrange(10))) for _ in range(count)]


def assert_same_weights(a, b):
    a, b = a.model.state_dict(), b.model.state_dict()
    assert a.keys() == b.keys()
    assert all(torch.equal(a[name], b[name]) for name in a)


@pytest.mark.parametrize("kind", MODELS)
def test_every_option_of_a_model_is_known_by_name(kind):
    assert set(option_names(kind)) == set(OPTIONS[kind])
    model = make(kind)
    assert model.weights == sum(value.numel() for value in model.model.state_dict().values())
    assert all(isinstance(text, str) for text in model.transcribe(["abc", ""]))


@pytest.mark.parametrize(
    ("kind", "options", "message"),
    [
        ("gpt", {}, r"kind: expected 'transformer' or .* or 'gru', got 'gpt'"),
        (
            "lstm",
            {"wdith": 4},
            r"options of lstm: expected 'embedding_size' or .* or 'dropout', got 'wdith'",
        ),
        ("transformer", {"layers": 2}, r"options of transformer: .*'norm'.* got 'layers'"),
        ("lstm", {"network": "GRU"}, r"options of lstm: .* got 'network'"),
        ("lstm", {"generator": None}, r"options of lstm: .* got 'generator'"),
        ("lstm", {"embedding_size": 4}, r"options of lstm: .* missing .* 'hidden_size'"),
        ("lstm", {"embedding_size": "wide", "hidden_size": 4}, r"options of lstm: .*'str'"),
        (
            "lstm",
            {"embedding_size": 4, "hidden_size": 5},
            "hidden_size: expected a positive even number, got 5",
        ),
        ("gru", {"embedding_size": 10**12, "hidden_size": 4}, "options of gru: .*memory"),
    ],
)
def test_a_model_that_cannot_be_built_is_refused(kind, options, message):
    with pytest.raises(ValueError, match=message) as caught:
        make(kind, options=options)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("side", ["source_level", "target_level"])
def test_an_unknown_level_is_refused_at_once(side):
    with pytest.raises(ValueError, match=f"{side}: expected 'characters' or"):
        make(**{side: "letters"})


def test_weights_follow_from_the_generator():
    assert_same_weights(make(seed=3), make(seed=3))
    first, other = make(seed=3).model.readout.weight, make(seed=4).model.readout.weight
    assert not torch.equal(first, other)


@pytest.mark.parametrize("width", [1, 3])
def test_targets_are_in_the_order_of_the_sources(width):
    model, sources = make_decided(), draw_sources(20)
    alone = [model.generate([source], beam_width=width)[0] for source in sources]
    assert all(h.complete for h in alone)
    assert len({tuple(h.ids) for h in alone}) > 3  # so that a wrong order is seen
    expected = [h.log_probability for h in alone]
    for batch in (1, 7, 20, 256):
        together = model.generate(sources, beam_width=width, batch=batch)
        assert [h.ids for h in together] == [h.ids for h in alone]
        assert [h.log_probability for h in together] == pytest.approx(expected, abs=1e-6)


def test_a_beam_finds_more_probable_targets():
    model, sources = make_decided(), draw_sources(40)
    greedy, beam = model.generate(sources), model.generate(sources, beam_width=4)
    assert all(b.log_probability >= g.log_probability for g, b in zip(greedy, beam, strict=True))
    assert [b.ids for b in beam] != [g.ids for g in greedy]


def test_progress_counts_each_source_once():
    counts = []
    make().generate(draw_sources(20), batch=8, progress=counts.append)
    assert counts == [8, 8, 4]


@pytest.mark.parametrize("training", [True, False])
def test_generating_leaves_the_mode_of_each_module(training):
    model = make()
    model.model.train(training)
    model.model.encoder.train(not training)  # a part may be frozen
    before = {name: module.training for name, module in model.model.named_modules()}
    model.generate(draw_sources(3))
    with pytest.raises(TypeError):
        model.generate([None, None])
    assert {name: module.training for name, module in model.model.named_modules()} == before


@pytest.mark.parametrize(("name", "value"), [("batch", 0), ("batch", -3), ("beam_width", 0)])
def test_sizes_that_are_not_positive_are_refused(name, value):
    with pytest.raises(ValueError, match=f"{name}: expected at least 1, got {value}"):
        make().generate(draw_sources(3), **{name: value})


def test_nothing_is_written_for_nothing():
    assert make().generate([]) == []
    assert make().transcribe([]) == []


def test_an_unknown_symbol_reads_as_any_other_unknown_one():
    model = make_decided()
    texts = model.transcribe(["a?b", "a!b", "acb", "?", "é한"])
    assert texts[0] == texts[1]
    assert len(texts) == 5


def test_the_score_is_that_of_the_generated_targets():
    model = make_decided()
    pairs = [Pair(source, (tuple("XY"), tuple("ZZZ"))) for source in draw_sources(30)]
    written = [
        model.vocabularies.decode_target(h.ids) for h in model.generate([p.source for p in pairs])
    ]
    pairs += [Pair(pairs[0].source, (written[0],))]
    expected = error_rates([*written, written[0]], pairs)
    assert model.score(pairs, batch=4) == pytest.approx(expected)
    assert 0 < expected.word < 1
    with pytest.raises(ValueError, match="at least one pair, got 0 for 0"):
        model.score([])


def test_texts_are_tokenized_and_joined_at_their_levels(monkeypatch):
    pairs = [Pair(("JP", *"ab"), (("\u1112", "\u1161", "\u11ab"),))]
    model = Transcriber(
        "gru",
        RECURRENT,
        Vocabularies.from_pairs(pairs),
        source_level="tagged",
        target_level="jamo",
    )
    ids = model.vocabularies.target.encode(pairs[0].targets[0]).tolist()
    seen = []

    def generate(sources, **_options):
        seen.extend(sources)
        return [Hypothesis(ids, 0.0, True)]

    monkeypatch.setattr(model, "generate", generate)
    assert model.transcribe(["JP ab"]) == ["한"]
    assert seen == [("JP", "a", "b")]


@pytest.mark.parametrize("kind", MODELS)
def test_a_saved_model_is_loaded_in_half_precision(tmp_path, kind):
    model = make(kind, source_level="words", target_level="jamo")
    model.record = {"steps": 3, "history": [{"step": 1, "word": 0.5}], "note": "한"}
    model.save(tmp_path / "model.safetensors")
    loaded = Transcriber.load(tmp_path / "model.safetensors")
    with torch.no_grad():
        for parameter in model.model.parameters():
            parameter.copy_(parameter.half())
    assert_same_weights(loaded, model)
    for name in ("kind", "options", "source_level", "target_level", "record"):
        assert getattr(loaded, name) == getattr(model, name)
    for ours, theirs in zip(loaded.vocabularies, model.vocabularies, strict=True):
        assert (ours.symbols, ours.unknown) == (theirs.symbols, theirs.unknown)
    assert not loaded.model.training
    sources = draw_sources(20)
    assert loaded.generate(sources) == model.generate(sources)

    loaded.save(str(tmp_path / "again.safetensors"))
    assert_same_weights(Transcriber.load(str(tmp_path / "again.safetensors")), loaded)


def test_a_file_has_two_bytes_a_weight(tmp_path):
    model = make(options={"embedding_size": 64, "hidden_size": 64})
    model.save(tmp_path / "model.safetensors")
    assert 2 < (tmp_path / "model.safetensors").stat().st_size / model.weights < 2.5


def test_a_model_is_read_from_an_open_file(tmp_path):
    make().save(tmp_path / "model.safetensors")
    content = (tmp_path / "model.safetensors").read_bytes()
    assert_same_weights(
        Transcriber.load(io.BytesIO(content)), Transcriber.load(tmp_path / "model.safetensors")
    )
    with open(tmp_path / "model.safetensors", "rb") as file:
        assert_same_weights(
            Transcriber.load(file), Transcriber.load(tmp_path / "model.safetensors")
        )
    with pytest.raises(DamagedModelError):
        Transcriber.load(io.BytesIO(content[:-1]))


def test_reading_a_model_draws_no_lots_of_the_caller(tmp_path):
    make().save(tmp_path / "model.safetensors")
    before = torch.get_rng_state()
    Transcriber.load(tmp_path / "model.safetensors")
    assert torch.equal(torch.get_rng_state(), before)


@pytest.fixture(params=["serialising", "writing", "to the disk", "renaming", "interrupt"])
def failing(request, monkeypatch):
    """Let a save fail on the way; the error that comes."""

    def full(_descriptor):
        raise KeyboardInterrupt if request.param == "interrupt" else OSError(28, "No space left")

    if request.param == "serialising":
        monkeypatch.setattr(safetensors.torch, "save", lambda *_arguments: full(0))
    elif request.param in ("to the disk", "interrupt"):
        monkeypatch.setattr(os, "fsync", full)
    elif request.param == "renaming":
        monkeypatch.setattr(os, "replace", lambda *_names: full(0))
    else:
        resource = pytest.importorskip("resource")
        unlimited = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (1000, unlimited[1]))
    yield KeyboardInterrupt if request.param == "interrupt" else OSError
    if request.param == "writing":
        resource.setrlimit(resource.RLIMIT_FSIZE, unlimited)


def test_a_save_that_fails_leaves_the_old_file_and_no_litter(tmp_path, failing):
    path = tmp_path / "model.safetensors"
    path.write_bytes(b"what was there")
    with pytest.raises(failing):
        make().save(path)
    assert path.read_bytes() == b"what was there"
    assert os.listdir(tmp_path) == ["model.safetensors"]


def test_a_saved_file_can_be_read_by_others(tmp_path):
    make().save(tmp_path / "model.safetensors")
    assert (tmp_path / "model.safetensors").stat().st_mode & 0o777 == 0o644
    assert os.listdir(tmp_path) == ["model.safetensors"]


def refuse(path, message=None):
    with pytest.raises(DamagedModelError, match=message) as caught:
        Transcriber.load(path)
    assert str(caught.value).startswith(f"{path}: ")
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_a_file_that_cannot_be_read_is_an_os_error(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"nowhere\.safetensors"):
        Transcriber.load(tmp_path / "nowhere.safetensors")
    with pytest.raises(IsADirectoryError):
        Transcriber.load(tmp_path)


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"a\tb\n",
        pickle.dumps({"format": "seqbook transcriber 2"}),
        random.Random(0).randbytes(3000),
    ],
    ids=["empty", "text", "pickle", "noise"],
)
def test_a_file_of_another_kind_is_refused(tmp_path, content):
    path = tmp_path / "model.safetensors"
    path.write_bytes(content)
    refuse(path, "expected a model file of this package, got one that is damaged or of another")


def test_a_file_of_tensors_of_another_kind_is_refused(tmp_path):
    path = tmp_path / "model.safetensors"
    path.write_bytes(safetensors.torch.save({"weight": torch.zeros(3)}))
    refuse(path, "expected a model file of this package, got .* another kind")
    torch.save({"weight": torch.zeros(3)}, path)
    refuse(path, "expected a model file of this package, got .* another kind")


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    path = tmp_path_factory.mktemp("whole") / "model.safetensors"
    make().save(path)
    return path.read_bytes()


def same(a, b):
    (tensors, description), (others, other_description) = a, b
    return (
        tensors.keys() == others.keys()
        and all(torch.equal(tensors[name], others[name]) for name in tensors)
        and description == other_description
    )


def test_a_file_cut_anywhere_is_refused(tmp_path, whole):
    path = tmp_path / "model.safetensors"
    for length in {*range(0, len(whole), 53), *range(len(whole) - 300, len(whole))}:
        path.write_bytes(whole[:length])
        refuse(path)


def test_a_changed_byte_is_refused_or_changes_nothing(whole):
    expected = read_tensors(io.BytesIO(whole))
    header = 8 + int.from_bytes(whole[:8], "little")
    chance = random.Random(0)
    refused = 0
    places = [*range(header), *chance.sample(range(header, len(whole)), 300)]
    for place in places:
        changed = bytearray(whole)
        changed[place] ^= chance.randrange(1, 256)
        try:
            loaded = read_tensors(io.BytesIO(bytes(changed)))
        except DamagedModelError:
            refused += 1
        else:
            assert same(loaded, expected), place
    assert refused > 0.99 * len(places)  # the rest is white space of the header


def test_a_changed_weight_is_refused(tmp_path, whole):
    changed = bytearray(whole)
    changed[-1] ^= 1
    path = tmp_path / "model.safetensors"
    path.write_bytes(changed)
    refuse(path, "expected content with the checksum beside it, got a damaged file")


def change(**parts):
    return lambda content: {**content, **parts}


def leave_out(name):
    return lambda content: {key: value for key, value in content.items() if key != name}


class ChangedWeights:
    """A change of the tensors instead of the description."""

    def __init__(self, function):
        self.function = function


UNFIT = "its weights do not fit the model it names: "
DAMAGES = {
    "another format": (change(format="seqbook transcriber 9"), "got 'seqbook transcriber 9'"),
    "no format": (leave_out("format"), "expected a 'seqbook transcriber 2' file, got None"),
    "a list": (lambda content: list(content), "expected a 'seqbook .*' file, got 'list'"),
    **{
        f"no {name}": (leave_out(name), f"{name}: expected {kind}, got NoneType")
        for name, kind in {
            "kind": "str",
            "options": "dict",
            "source_symbols": "list",
            "target_symbols": "list",
            "source_level": "str",
            "target_level": "str",
            "record": "dict",
        }.items()
    },
    "symbols as text": (change(source_symbols="abc"), "source_symbols: expected list, got str"),
    "record as text": (change(record="good"), "record: expected dict, got str"),
    "unknown kind": (change(kind="gpt"), UNFIT + "kind: expected"),
    "unknown level": (change(target_level="letters"), UNFIT + "target_level: expected"),
    "another kind": (change(kind="lstm"), UNFIT + ".*size mismatch"),
    "unknown option": (change(options={**RECURRENT, "depth": 2}), UNFIT + ".* got 'depth'"),
    "option missing": (change(options={"embedding_size": 4}), UNFIT + ".*'hidden_size'"),
    "option of another type": (change(options={**RECURRENT, "embedding_size": "4"}), UNFIT),
    "option out of range": (change(options={**RECURRENT, "layers": 0}), UNFIT),
    "another size": (change(options={**RECURRENT, "hidden_size": 6}), UNFIT + ".*size mismatch"),
    "a symbol too many": (
        lambda c: {**c, "target_symbols": [*c["target_symbols"], "!"]},
        UNFIT + ".*size mismatch",
    ),
    "a symbol twice": (
        lambda c: {**c, "target_symbols": [*c["target_symbols"][:-1], "X"]},
        UNFIT + ".*'X' twice",
    ),
    "symbols that are numbers": (
        lambda c: {**c, "target_symbols": list(range(len(c["target_symbols"])))},
        "target_symbols: expected texts",
    ),
    "symbols in another order": (
        lambda c: {**c, "source_symbols": c["source_symbols"][::-1]},
        UNFIT + "source: expected symbols that begin with <pad>, <s>, </s>",
    ),
    "a weight missing": (
        ChangedWeights(lambda w: {n: v for n, v in w.items() if n != "readout.bias"}),
        UNFIT + ".*Missing key.*readout.bias",
    ),
    "a weight too many": (
        ChangedWeights(lambda w: {**w, "extra": torch.zeros(3)}),
        UNFIT + ".*Unexpected key.*extra",
    ),
    "a weight of another shape": (
        ChangedWeights(lambda w: {**w, "readout.bias": torch.zeros(99)}),
        UNFIT + ".*size mismatch for readout.bias",
    ),
    "a weight that is not finite": (
        ChangedWeights(lambda w: {**w, "readout.bias": w["readout.bias"] / 0}),
        "readout.bias: expected finite weights",
    ),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_file_that_does_not_fit_together_is_refused(tmp_path, whole, damage):
    alter, message = DAMAGES[damage]
    weights, description = read_tensors(io.BytesIO(whole))
    if isinstance(alter, ChangedWeights):
        weights = alter.function(weights)
    else:
        description = alter(description)
    path = tmp_path / "model.safetensors"
    write_tensors(path, weights, description)
    refuse(path, message)


def test_weights_too_large_for_half_precision_are_not_saved(tmp_path):
    model = make()
    with torch.no_grad():
        model.model.readout.bias[0] = 1e5
    with pytest.raises(ValueError, match=r"readout.bias: expected finite weights"):
        model.save(tmp_path / "model.safetensors")
    assert os.listdir(tmp_path) == []


# What a text is cleaned of.

AROUND = ["{}", "{} ", " {}", "{}\t", "\t{}", "{}\u00a0", "\u3000{}", "\ufeff{}", " \ufeff {}\n"]


@pytest.mark.parametrize("around", AROUND)
@pytest.mark.parametrize("level", ["characters", "words", "jamo", "tagged"])
def test_sources_are_cleaned_alike_in_training_and_in_use(tmp_path, level, around):
    """What stands around a source changes neither what is learned nor what is read."""
    text = "ab c"
    path = tmp_path / "pairs.tsv"
    column = around.format(text).strip("\t\n")  # which end columns and rows
    path.write_text(f"first\trow\n{column}\tx\n", encoding="utf-8")
    _, pair = read_pairs(path, source_level=level)
    model = Transcriber("gru", RECURRENT, Vocabularies.from_pairs([pair]), source_level=level)
    assert pair.source == tokenize(text, level)
    assert model.tokenize(around.format(text)) == pair.source
    assert model.transcribe([around.format(text)]) == model.transcribe([text])


@pytest.mark.parametrize("text", [around.format("") for around in AROUND])
def test_a_blank_text_gives_an_empty_one(text):
    model = make_decided()
    expected = model.transcribe(["a", "b"])
    assert model.transcribe(["a", text, "b"]) == [expected[0], "", expected[1]]


# What a model generates for a source depends on that source alone, and on no device.


def make_undecided(kind):
    """A model in float64 that rarely ends by itself, so that limits decide."""
    model = make(kind, seed=1)
    model.model.double()
    with torch.no_grad():
        if kind == "transformer":
            model.model.target_embedding.weight[END] = 0
        else:
            model.model.readout.bias[END] -= 3
    return model


@pytest.mark.parametrize("beam_width", [1, 3])
@pytest.mark.parametrize("kind", MODELS)
def test_the_score_is_the_same_in_batches_of_any_size(kind, beam_width):
    model = make_undecided(kind)
    sources = draw_sources(40)
    pairs = [Pair(source, (tuple("XYZ"),)) for source in sources]
    generated = model.generate(sources, batch=1)
    assert len({len(h.ids) for h in generated if not h.complete}) > 2  # several limits
    scores = [model.score(pairs, batch=batch, beam_width=beam_width) for batch in (1, 16, 256)]
    assert scores[0] == scores[1] == scores[2]


@pytest.mark.parametrize("beam_width", [1, 3])
@pytest.mark.parametrize("kind", MODELS)
def test_everything_is_computed_on_the_device_of_the_model(kind, beam_width):
    texts = ["".join(source) for source in draw_sources(6)]
    expected = make_undecided(kind).transcribe(texts, beam_width=beam_width)
    with other_device() as device:
        model = make_undecided(kind)
        model.model.to(device)
        assert model.device == device
        assert model.transcribe(texts, beam_width=beam_width) == expected
        examples = encode_pairs(PAIRS, model.vocabularies).to(device)
        assert model.model.loss(examples).device == device


def test_a_model_is_saved_from_any_device_and_loaded_to_one_that_is_here(tmp_path):
    expected = make()
    expected.save(tmp_path / "expected")
    with other_device() as device:
        model = make()
        model.model.to(device)
        model.save(tmp_path / "model")
    assert (tmp_path / "model").read_bytes() == (tmp_path / "expected").read_bytes()
    assert Transcriber.load(tmp_path / "model", device="cpu").device == torch.device("cpu")
    with pytest.raises(ValueError, match=r"device: expected one of this machine \(cpu.*'cuda:99'"):
        Transcriber.load(tmp_path / "model", device="cuda:99")
