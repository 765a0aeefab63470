"""Archives come back equal to the byte, on any machine, or not at all."""

import bz2
import gzip
import hashlib
import lzma
import math
import os
import random
import subprocess
import sys
from dataclasses import replace

import pytest
from conftest import PATIENCE
from hypothesis import given
from hypothesis import strategies as st

from seqbook.compression import archive
from seqbook.compression.archive import (
    HEADER_LENGTH,
    DamagedArchiveError,
    compress,
    decode,
    decompress,
    encode,
    read_header,
)
from seqbook.compression.arithmetic_coding import ArithmeticDecoder, ArithmeticEncoder
from seqbook.compression.contexts import CONTEXTS, ContextModel, History
from seqbook.compression.costs import code_lengths
from seqbook.compression.counters import counter_tables
from seqbook.compression.logistic import squash
from seqbook.compression.matching import MatchModel
from seqbook.compression.predictor import SELECTORS, SETTINGS, Predictor
from seqbook.data import read_bytes

ALICE = read_bytes("alice29.txt")
KOREAN = read_bytes("constitution_ko.txt")
RANDOM = random.Random(0).randbytes(2400)  # of which 1 % are more than a header
FILES = {
    "empty": b"",
    "one byte": b"a",
    "one high byte": b"\xff",
    "all bytes": bytes(range(256)),
    "zeros": bytes(700),
    "English": ALICE[1000:1500],
    "Korean": KOREAN[:450],
    "high bytes": bytes(byte | 128 for byte in ALICE[:300]),
    "random": RANDOM[:300],
}
TEXT = ALICE[:400]
CHEAP = ("standard", "full")  # the network has tests of its own
# What every machine must give: the archive of the first 2,000 bytes of Alice.
DIGESTS = {
    "standard": "fcfd5a95999208cbfc544e87443dbe4db633a776d38f69da933390881c01d5e4",
    "full": "e28c4750741aa2459618438a8fca7f94f2b741de58db355ac2e8ee7a966535a1",
}


@pytest.fixture(scope="module")
def packed():
    return compress(TEXT)


@pytest.mark.parametrize("settings", CHEAP)
@pytest.mark.parametrize("name", FILES)
def test_a_file_comes_back(name, settings):
    content = FILES[name]
    found = compress(content, settings=settings)
    assert decompress(found) == content
    assert len(found) <= len(content) + HEADER_LENGTH


@given(st.binary(max_size=40))
def test_any_bytes_come_back(content):
    assert decompress(compress(content)) == content


def test_a_file_of_several_blocks_comes_back(monkeypatch):
    monkeypatch.setattr(archive, "BLOCK", 100)
    done = []
    found = compress(ALICE[:350], progress=done.append)
    assert done == [100, 100, 100, 50]
    assert decompress(found, progress=done.append) == ALICE[:350]
    assert done[4:] == done[:4]


@pytest.mark.parametrize("content", [RANDOM, lzma.compress(ALICE)[:2400]], ids=["random", "xz"])
def test_what_is_compressed_already_grows_by_less_than_one_percent(content):
    assert len(compress(content)) < 1.01 * len(content)


def test_text_becomes_smaller_than_with_other_programs():
    text = ALICE[:3000]
    sizes = [len(compress(text)) for compress in (gzip.compress, lzma.compress, bz2.compress)]
    ours = len(compress(text))
    assert ours < 0.9 * min(sizes)


@pytest.mark.parametrize("settings", CHEAP)
def test_every_machine_gives_the_same_bits(settings):
    found = hashlib.sha256(compress(ALICE[:2000], settings=settings)).hexdigest()
    assert found == DIGESTS[settings]


PROGRAM = """
import sys
from pathlib import Path
from seqbook.compression.archive import compress, decompress
source, target = map(Path, sys.argv[2:])
action = {"compress": compress, "decompress": decompress}[sys.argv[1]]
target.write_bytes(action(source.read_bytes()))
"""
MACHINES = [
    {"ATEN_CPU_CAPABILITY": "default", "OPENBLAS_CORETYPE": "Nehalem", "OMP_NUM_THREADS": "1"},
    {"OMP_NUM_THREADS": "2", "PYTHONHASHSEED": "7"},
]


@pytest.mark.parametrize("here", [0, 1])
def test_another_instruction_set_decompresses(tmp_path, here):
    (tmp_path / "file").write_bytes(ALICE[:1000])
    steps = [("compress", "file", "archive", here), ("decompress", "archive", "back", 1 - here)]
    for action, source, target, machine in steps:
        subprocess.run(
            [sys.executable, "-c", PROGRAM, action, tmp_path / source, tmp_path / target],
            env={**os.environ, **MACHINES[machine]},
            check=True,
            timeout=5 * PATIENCE,
        )
    assert (tmp_path / "back").read_bytes() == ALICE[:1000]


# Damage.


def test_a_changed_byte_is_noticed(packed):
    for position in [*range(HEADER_LENGTH), *range(HEADER_LENGTH, len(packed), 23)]:
        damaged = bytearray(packed)
        damaged[position] ^= 1 << position % 8
        with pytest.raises(DamagedArchiveError, match=r"^archive: "):
            decompress(bytes(damaged))


def test_a_cut_archive_is_noticed(packed):
    for length in [0, 3, 10, HEADER_LENGTH, len(packed) // 2, len(packed) - 1]:
        with pytest.raises(DamagedArchiveError, match=r"expected|cut off"):
            decompress(packed[:length])


def test_bytes_behind_an_archive_are_noticed(packed):
    with pytest.raises(DamagedArchiveError, match="archive: 2 bytes too many at its end"):
        decompress(packed + b"\0\0")


def test_damage_of_a_stored_file_is_noticed():
    stored = compress(RANDOM[:200])
    assert read_header(stored).method == "stored"
    with pytest.raises(DamagedArchiveError, match="expected 200 stored bytes, got 199"):
        decompress(stored[:-1])
    with pytest.raises(DamagedArchiveError, match="the file that came out is wrong: CRC-32"):
        decompress(stored[:-1] + bytes([stored[-1] ^ 1]))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "expected b'SQBK' at its start, got b''"),
        (gzip.compress(TEXT), "expected b'SQBK' at its start, got"),
        (b"SQBK", "expected at least 23 bytes, got 4"),
        (b"SQBK\x09" + bytes(30), "expected version 1, got 9"),
        (b"SQBK\x01" + bytes(30), "the header is damaged"),
    ],
)
def test_what_is_no_archive_is_refused(content, message):
    with pytest.raises(DamagedArchiveError, match=message):
        decompress(content)


def test_a_decoder_with_another_model_notices_it():
    """As if a machine computed other probabilities: no wrong byte leaves the decoder."""
    coded = b"".join(encode(TEXT, model(TEXT), symbol_bits=7))
    other = Predictor(SETTINGS["full"], length=len(TEXT), symbol_bits=7)
    with pytest.raises(DamagedArchiveError):
        list(decode(coded, other, length=len(TEXT), symbol_bits=7))


def model(content, settings="standard"):
    return Predictor(SETTINGS[settings], length=len(content), symbol_bits=7)


def test_arguments_are_checked():
    with pytest.raises(TypeError, match="data: expected a bytes"):
        compress("text")
    with pytest.raises(
        ValueError, match="settings: expected 'standard' or 'full' or 'network', got 'best'"
    ):
        compress(b"", settings="best")
    with pytest.raises(TypeError, match="archive: expected a bytes"):
        decompress("text")
    with pytest.raises(ValueError, match="names: expected 'order 0' or"):
        ContextModel(["order 99"], table_bits=16)


# Parts.


@given(st.lists(st.tuples(st.integers(0, 1), st.integers(1, 65535)), max_size=200))
def test_the_coder_returns_the_bits_at_their_ideal_cost(steps):
    encoder = ArithmeticEncoder()
    for bit, probability in steps:
        encoder.encode(bit, probability)
    encoder.finish()
    decoder = ArithmeticDecoder(bytes(encoder.output))
    assert [decoder.decode(probability) for _, probability in steps] == [bit for bit, _ in steps]
    assert decoder.unread == 0
    ideal = sum(-math.log2(p / 65536 if bit else 1 - p / 65536) for bit, p in steps)
    assert 8 * len(encoder.output) <= 1.01 * ideal + 40  # four bytes and a part of one settle it


def test_the_coder_needs_little_more_than_the_ideal_length():
    lengths = code_lengths(TEXT, model(TEXT))
    assert list(lengths) == [*SETTINGS["standard"].contexts, "match", "mixture"]
    assert lengths["mixture"] < min(lengths[name] for name in lengths if name != "mixture")
    coded = b"".join(encode(TEXT, model(TEXT), symbol_bits=7))
    assert 0 < 8 * len(coded) - lengths["mixture"] <= 16 + 40  # a check, and what settles the bits


def test_the_logistic_function_is_exact_to_its_rounding():
    for step in range(-3 * 256, 12 * 256, 37):
        assert squash(step / 256) == pytest.approx(1 / (1 + math.exp(-step / 256)), abs=2.0**-32)
        assert squash(step / 256) + squash(-step / 256) == 1


def test_a_counter_follows_its_equation():
    """Within the grid: a half step of log odds, 1/256, each time."""
    log_odds, after = counter_tables()
    generator = random.Random(1)
    for chance in (0.02, 0.3, 0.5, 0.97):
        state, estimate = 0, 0.5
        for seen in range(60):
            bit = generator.random() < chance
            estimate = squash(log_odds[state])
            estimate += (bit - estimate) / (min(seen, 31) + 1.2)
            state = after[bit][state]
            expected = min(max(math.log(estimate / (1 - estimate)), -8), 8 - 1 / 128)
            assert log_odds[state] == pytest.approx(expected, abs=1 / 256 + 1e-6)
            assert state >> 11 == min(seen + 1, 31)


def test_counters_treat_both_bits_alike():
    log_odds, after = counter_tables()
    state = mirrored = 0
    for bit in (1, 0, 0, 1, 1, 0, 1, 0, 0, 0, 1):
        state, mirrored = after[bit][state], after[1 - bit][mirrored]
        assert log_odds[state] == -log_odds[mirrored]


def test_every_context_and_selector_is_a_number_in_its_range():
    history = History()
    predicting = Predictor(SETTINGS["full"], length=300, symbol_bits=8)
    for byte in KOREAN[:150] + ALICE[:150]:
        history.append(byte)
        for name, context in CONTEXTS.items():
            assert context(history) >= 0, name
        for shift in range(7, -1, -1):
            predicting.predict()
            for name, (size, select) in SELECTORS.items():
                assert 0 <= select(predicting) < size, name
            predicting.update(byte >> shift & 1)


def test_a_model_may_lack_long_orders_and_have_one_row_of_weights():
    few = replace(
        SETTINGS["standard"],
        contexts=("order 0", "order 1", "order 2", "word"),
        selectors=("always the same",),
    )
    lengths = code_lengths(TEXT, Predictor(few, length=len(TEXT), symbol_bits=7))
    assert lengths["mixture"] < min(lengths["order 0"], lengths["order 2"])
    predictor = Predictor(few, length=len(TEXT), symbol_bits=7)
    for byte in b"aaaaaa":
        for shift in range(6, -1, -1):
            predictor.predict()
            predictor.update(byte >> shift & 1)
    predictor.predict()
    assert predictor.longest_order == 2


def test_words_and_plain_text_ignore_case_and_line_breaks():
    one, other = History(), History()
    for history, text in ((one, b"the White Rabbit"), (other, b"The white\r\n rabbit")):
        for byte in text:
            history.append(byte)
    assert one.word == other.word != 0
    assert one.previous_word == other.previous_word
    assert one.plain == other.plain
    assert one.recent != other.recent


def test_a_match_predicts_what_followed_and_is_trusted_more_when_longer():
    matches = MatchModel(5, symbol_bits=7, table_bits=12)
    phrase = b"a mad tea-party, "
    for byte in phrase + phrase[:9]:
        matches.append(byte)
    prefix = 1
    for shift in range(6, -1, -1):
        bit = phrase[9] >> shift & 1
        assert (matches.predict(prefix) > 0) == bool(bit)
        assert matches.expected == bit
        assert matches.trust == 2
        matches.update(bit)
        prefix = prefix << 1 | bit
    assert matches.predict(1 << 1 | 1 - (phrase[9] >> 6)) == 0  # a bit was wrong
    assert matches.trust == 0
