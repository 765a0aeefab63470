import io
import os
import pickle
import random
import zipfile
from pathlib import Path

import pytest
import torch

from seqbook.data.batches import END, Vocabularies
from seqbook.data.pairs import Pair
from seqbook.models.decoding import Hypothesis
from seqbook.models.metrics import error_rates
from seqbook.models.transcriber import (
    MODELS,
    DamagedModelError,
    Transcriber,
    _option_names,
    read_torch_file,
    write_torch_file,
)

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
    return Transcriber(kind, options, Vocabularies.of(PAIRS), generator=generator, **more)


def make_decided(**options):
    """A model in float64 that ends what it writes, after 0 to 3 symbols."""
    made = make(seed=1, **options)
    made.model.double()
    generator = torch.Generator().manual_seed(2)
    with torch.no_grad():
        for parameter in made.model.parameters():
            parameter.normal_(0, 1.5, generator=generator)
        made.model.readout.bias[END] += 1
    return made


def draw_sources(count, seed=0):
    chance = random.Random(seed)
    return [tuple(chance.choices("abc", k=chance.randrange(10))) for _ in range(count)]


def assert_same_weights(a, b):
    a, b = a.model.state_dict(), b.model.state_dict()
    assert a.keys() == b.keys()
    assert all(torch.equal(a[name], b[name]) for name in a)


@pytest.mark.parametrize("kind", MODELS)
def test_every_option_of_a_model_is_known_by_name(kind):
    assert set(_option_names(kind)) == set(OPTIONS[kind])
    made = make(kind)
    assert made.weights == sum(value.numel() for value in made.model.state_dict().values())
    assert all(isinstance(text, str) for text in made.transcribe(["abc", ""]))


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


@pytest.mark.parametrize("side", ["source_units", "target_units"])
def test_unknown_units_are_refused_at_once(side):
    with pytest.raises(ValueError, match=f"{side}: expected 'characters' or"):
        make(**{side: "letters"})


def test_weights_follow_from_the_generator():
    assert_same_weights(make(seed=3), make(seed=3))
    first, other = make(seed=3).model.readout.weight, make(seed=4).model.readout.weight
    assert not torch.equal(first, other)


@pytest.mark.parametrize("width", [1, 3])
def test_what_is_written_stands_in_the_order_of_the_sources(width):
    made, sources = make_decided(), draw_sources(20)
    alone = [made.write([source], width=width)[0] for source in sources]
    assert all(h.complete for h in alone)
    assert len({tuple(h.ids) for h in alone}) > 3  # so that a wrong order is seen
    expected = [h.log_probability for h in alone]
    for batch in (1, 7, 20, 256):
        together = made.write(sources, width=width, batch=batch)
        assert [h.ids for h in together] == [h.ids for h in alone]
        assert [h.log_probability for h in together] == pytest.approx(expected, abs=1e-6)


def test_a_beam_finds_what_is_more_probable():
    made, sources = make_decided(), draw_sources(40)
    greedy, beam = made.write(sources), made.write(sources, width=4)
    assert all(b.log_probability >= g.log_probability for g, b in zip(greedy, beam, strict=True))
    assert [b.ids for b in beam] != [g.ids for g in greedy]


def test_progress_counts_each_source_once():
    counts = []
    make().write(draw_sources(20), batch=8, progress=counts.append)
    assert counts == [8, 8, 4]


@pytest.mark.parametrize("training", [True, False])
def test_writing_leaves_the_mode_of_the_model(training):
    made = make()
    made.model.train(training)
    made.write(draw_sources(3))
    with pytest.raises(TypeError):
        made.write([None, None])
    assert all(module.training == training for module in made.model.modules())


@pytest.mark.parametrize(("name", "value"), [("batch", 0), ("batch", -3), ("width", 0)])
def test_sizes_that_are_not_positive_are_refused(name, value):
    with pytest.raises(ValueError, match=f"{name}: expected at least 1, got {value}"):
        make().write(draw_sources(3), **{name: value})


def test_nothing_is_written_for_nothing():
    assert make().write([]) == []
    assert make().transcribe([]) == []


def test_an_unknown_symbol_reads_as_any_other_unknown_one():
    made = make_decided()
    texts = made.transcribe(["a?b", "a!b", "acb", "?", "é한"])
    assert texts[0] == texts[1]
    assert len(texts) == 5


def test_the_score_is_that_of_what_is_written():
    made = make_decided()
    pairs = [Pair(source, (tuple("XY"), tuple("ZZZ"))) for source in draw_sources(30)]
    written = [made.vocabularies.written(h.ids) for h in made.write([p.source for p in pairs])]
    pairs += [Pair(pairs[0].source, (written[0],))]
    expected = error_rates([*written, written[0]], pairs)
    assert made.score(pairs, batch=4) == pytest.approx(expected)
    assert 0 < expected.word < 1
    with pytest.raises(ValueError, match="at least one pair, got 0 for 0"):
        made.score([])


def test_texts_are_cut_and_put_together_in_their_units(monkeypatch):
    pairs = [Pair(("JP", *"ab"), (("\u1112", "\u1161", "\u11ab"),))]
    made = Transcriber(
        "gru",
        RECURRENT,
        Vocabularies.of(pairs),
        source_units="tagged",
        target_units="jamo",
    )
    ids = made.vocabularies.target.encode(pairs[0].targets[0]).tolist()
    seen = []

    def write(sources, **_options):
        seen.extend(sources)
        return [Hypothesis(ids, 0.0, True)]

    monkeypatch.setattr(made, "write", write)
    assert made.transcribe(["JP ab"]) == ["한"]
    assert seen == [("JP", "a", "b")]


@pytest.mark.parametrize("kind", MODELS)
def test_a_saved_model_comes_back_rounded_to_half_precision(tmp_path, kind):
    made = make(kind, source_units="words", target_units="jamo")
    made.record = {"steps": 3, "history": [{"step": 1, "word": 0.5}], "note": "한"}
    made.save(tmp_path / "model.pt")
    found = Transcriber.load(tmp_path / "model.pt")
    with torch.no_grad():
        for parameter in made.model.parameters():
            parameter.copy_(parameter.half())
    assert_same_weights(found, made)
    for name in ("kind", "options", "source_units", "target_units", "record"):
        assert getattr(found, name) == getattr(made, name)
    for ours, theirs in zip(found.vocabularies, made.vocabularies, strict=True):
        assert (ours.symbols, ours.unknown) == (theirs.symbols, theirs.unknown)
    assert not found.model.training
    sources = draw_sources(20)
    assert found.write(sources) == made.write(sources)

    found.save(str(tmp_path / "again.pt"))
    assert_same_weights(Transcriber.load(str(tmp_path / "again.pt")), found)


def test_a_file_has_two_bytes_a_weight(tmp_path):
    made = make(options={"embedding_size": 64, "hidden_size": 64})
    made.save(tmp_path / "model.pt")
    assert 2 < (tmp_path / "model.pt").stat().st_size / made.weights < 2.5


def test_a_model_is_read_from_an_open_file(tmp_path):
    make().save(tmp_path / "model.pt")
    content = (tmp_path / "model.pt").read_bytes()
    assert_same_weights(
        Transcriber.load(io.BytesIO(content)), Transcriber.load(tmp_path / "model.pt")
    )
    with open(tmp_path / "model.pt", "rb") as file:
        assert_same_weights(Transcriber.load(file), Transcriber.load(tmp_path / "model.pt"))
    with pytest.raises(DamagedModelError):
        Transcriber.load(io.BytesIO(content[:-1]))


def test_reading_a_model_draws_no_lots_of_the_caller(tmp_path):
    make().save(tmp_path / "model.pt")
    before = torch.get_rng_state()
    Transcriber.load(tmp_path / "model.pt")
    assert torch.equal(torch.get_rng_state(), before)


@pytest.fixture(params=["serialising", "writing", "to the disk", "renaming", "interrupt"])
def failing(request, monkeypatch):
    """Let a save fail on the way; the error that comes."""

    def half(_content, file):
        file.write(b"half of it")
        raise OSError(28, "No space left")

    def full(_descriptor):
        raise KeyboardInterrupt if request.param == "interrupt" else OSError(28, "No space left")

    if request.param == "serialising":
        monkeypatch.setattr(torch, "save", half)
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
    path = tmp_path / "model.pt"
    path.write_bytes(b"what was there")
    with pytest.raises(failing):
        make().save(path)
    assert path.read_bytes() == b"what was there"
    assert os.listdir(tmp_path) == ["model.pt"]


def test_a_saved_file_can_be_read_by_others(tmp_path):
    make().save(tmp_path / "model.pt")
    assert (tmp_path / "model.pt").stat().st_mode & 0o777 == 0o644
    assert os.listdir(tmp_path) == ["model.pt"]


def refuse(path, message=None):
    with pytest.raises(DamagedModelError, match=message) as caught:
        Transcriber.load(path)
    assert str(caught.value).startswith(f"{path}: ")
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_a_file_that_cannot_be_read_is_an_os_error(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"nowhere\.pt"):
        Transcriber.load(tmp_path / "nowhere.pt")
    with pytest.raises(IsADirectoryError):
        Transcriber.load(tmp_path)


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"a\tb\n",
        pickle.dumps({"format": "seqbook transcriber 1"}),
        random.Random(0).randbytes(3000),
    ],
    ids=["empty", "text", "pickle", "noise"],
)
def test_a_file_of_another_kind_is_refused(tmp_path, content):
    path = tmp_path / "model.pt"
    path.write_bytes(content)
    refuse(path, "expected a file of tensors written by this package, got one that is damaged or")


def test_an_archive_of_another_kind_is_refused(tmp_path):
    path = tmp_path / "model.pt"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("readme.txt", "hello")
    refuse(path)
    torch.save(torch.zeros(3), path)
    refuse(path, "expected a 'seqbook transcriber 1' file, got 'Tensor'")


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    path = tmp_path_factory.mktemp("whole") / "model.pt"
    make().save(path)
    return path.read_bytes()


def same(a, b):
    if isinstance(a, torch.Tensor):
        return a.dtype == b.dtype and torch.equal(a, b)
    if isinstance(a, dict):
        return list(a) == list(b) and all(same(a[key], b[key]) for key in a)
    return type(a) is type(b) and a == b


def test_a_file_cut_anywhere_is_refused(tmp_path, whole):
    path = tmp_path / "model.pt"
    for length in {*range(0, len(whole), 53), *range(len(whole) - 300, len(whole))}:
        path.write_bytes(whole[:length])
        refuse(path)


def test_a_changed_byte_is_refused_or_changes_nothing(whole):
    expected = read_torch_file(io.BytesIO(whole))
    directory = whole.index(b"PK\x01\x02")
    chance = random.Random(0)
    places = [
        *chance.sample(range(directory), 300),
        *chance.sample(range(directory, len(whole)), 300),
        *range(len(whole) - 22, len(whole)),  # the end of the directory
    ]
    refused = 0
    for place in places:
        changed = bytearray(whole)
        changed[place] ^= chance.randrange(1, 256)
        try:
            found = read_torch_file(io.BytesIO(bytes(changed)))
        except DamagedModelError:
            refused += 1
        else:
            assert same(found, expected), place
    assert refused > len(places) / 3  # the rest stands between the parts of an archive


def test_a_changed_weight_is_refused(whole):
    weight = make().model.state_dict()["readout.weight"].half().numpy().tobytes()
    assert whole.count(weight) == 1
    changed = bytearray(whole)
    changed[whole.index(weight) + 1] ^= 1
    with pytest.raises(DamagedModelError, match=r"Bad CRC-32 for file '.*/data/"):
        read_torch_file(io.BytesIO(bytes(changed)))


def test_no_part_may_be_marked_as_a_folder(whole):
    """What torch would then leave as the memory happened to be."""
    expected = read_torch_file(io.BytesIO(whole))
    start = whole.index(b"PK\x01\x02")
    while (start := whole.find(b"PK\x01\x02", start)) >= 0:
        changed = bytearray(whole)
        changed[start + 38] |= 0x10  # the attributes: a folder
        assert same(read_torch_file(io.BytesIO(bytes(changed))), expected)
        start += 4


class Trap:
    """What creates a file when it is unpickled."""

    def __init__(self, marker):
        self.marker = marker

    def __reduce__(self):
        return Path.touch, (self.marker,)


def test_nothing_in_a_file_runs(tmp_path, whole):
    path, marker = tmp_path / "model.pt", tmp_path / "ran"
    torch.save({**read_torch_file(io.BytesIO(whole)), "record": Trap(marker)}, path)
    torch.load(path, weights_only=False)
    assert marker.exists()  # the trap works
    marker.unlink()

    refuse(path, "expected tensors and plain values only, got something that could run")
    path.write_bytes(pickle.dumps(Trap(marker)))
    refuse(path)
    assert not marker.exists()


def change(**parts):
    return lambda content: {**content, **parts}


def leave_out(name):
    return lambda content: {key: value for key, value in content.items() if key != name}


def change_weights(function):
    return lambda content: {**content, "weights": function(dict(content["weights"]))}


UNFIT = "its weights do not fit the model it names: "
DAMAGES = {
    "another format": (change(format="seqbook transcriber 9"), "got 'seqbook transcriber 9'"),
    "no format": (leave_out("format"), "expected a 'seqbook transcriber 1' file, got None"),
    "a list": (lambda content: list(content), "expected a 'seqbook .*' file, got 'list'"),
    "a tensor": (lambda content: torch.zeros(3), "got 'Tensor'"),
    **{
        f"no {name}": (leave_out(name), f"{name}: expected {kind}, got NoneType")
        for name, kind in {
            "kind": "str",
            "options": "dict",
            "source_symbols": "list",
            "target_symbols": "list",
            "source_units": "str",
            "target_units": "str",
            "record": "dict",
            "weights": "dict",
        }.items()
    },
    "symbols as text": (change(source_symbols="abc"), "source_symbols: expected list, got str"),
    "record as text": (change(record="good"), "record: expected dict, got str"),
    "unknown kind": (change(kind="gpt"), UNFIT + "kind: expected"),
    "unknown units": (change(target_units="letters"), UNFIT + "target_units: expected"),
    "another kind": (change(kind="lstm"), UNFIT + ".*size mismatch"),
    "unknown option": (change(options={**RECURRENT, "depth": 2}), UNFIT + ".* got 'depth'"),
    "option of no text": (change(options={**RECURRENT, 7: 2}), UNFIT + ".* got 7"),
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
        "target_symbols: expected texts that begin with <pad>, <s>, </s>",
    ),
    "symbols in another order": (
        lambda c: {**c, "source_symbols": c["source_symbols"][::-1]},
        "source_symbols: expected texts that begin with <pad>, <s>, </s>",
    ),
    "a weight missing": (
        change_weights(lambda w: {n: v for n, v in w.items() if n != "readout.bias"}),
        UNFIT + ".*Missing key.*readout.bias",
    ),
    "a weight too many": (
        change_weights(lambda w: {**w, "extra": torch.zeros(3)}),
        UNFIT + ".*Unexpected key.*extra",
    ),
    "a weight of another shape": (
        change_weights(lambda w: {**w, "readout.bias": torch.zeros(99)}),
        UNFIT + ".*size mismatch for readout.bias",
    ),
    "a weight that is none": (change_weights(lambda w: {**w, "readout.bias": "x"}), UNFIT),
    "a weight that is not finite": (
        change_weights(lambda w: {**w, "readout.bias": w["readout.bias"] / 0}),
        "readout.bias: expected finite weights",
    ),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_file_that_does_not_fit_together_is_refused(tmp_path, whole, damage):
    alter, message = DAMAGES[damage]
    path = tmp_path / "model.pt"
    write_torch_file(alter(read_torch_file(io.BytesIO(whole))), path)
    refuse(path, message)


def test_weights_too_large_for_half_precision_are_not_saved(tmp_path):
    made = make()
    with torch.no_grad():
        made.model.readout.bias[0] = 1e5
    with pytest.raises(ValueError, match=r"readout.bias: expected finite weights"):
        made.save(tmp_path / "model.pt")
    assert os.listdir(tmp_path) == []
