import unicodedata

import numpy as np
import pytest
import torch
from devices import other_device
from hypothesis import assume, given
from hypothesis import strategies as st

from seqbook.data import place_names
from seqbook.data.batches import END, PADDING, START, Vocabularies, encode_pairs
from seqbook.data.pairs import LEVELS, BadRowError, Pair, detokenize, read_pairs, split, tokenize
from seqbook.data.vocabulary import UnknownSymbolError

SYLLABLES = "".join(map(chr, range(0xAC00, 0xD7A4)))
# Letters with accents in every form, letters of syllables, what composes to something else, spaces.
TRICKY = "ae éé\u0301\u0323\u0338\u212b\u2126ﬁ\u0958한글\u1112\u1161\u11ab\u11a8ㅎ\u2000\u3000\t\n"
texts = st.lists(st.sampled_from(TRICKY) | st.integers(0, 0xD7FF).map(chr)).map("".join)
words = st.text("abcé한글 ", min_size=1, max_size=5).filter(str.strip)


def composed(text):
    return unicodedata.normalize("NFC", text)


def numbered(count):
    return [Pair((str(i),), (("x",),)) for i in range(count)]


def test_every_hangul_syllable_is_decomposed_and_composed():
    jamo = tokenize(SYLLABLES, "jamo")
    assert len(set(jamo)) == 19 + 21 + 27  # the first, middle and last letters of Unicode
    assert detokenize(jamo, "jamo") == SYLLABLES
    for syllable in SYLLABLES:
        index = ord(syllable) - 0xAC00
        last = index % 28  # Unicode, section 3.12: 0 is no last letter
        letters = [0x1100 + index // 588, 0x1161 + index // 28 % 21, *[0x11A7 + last][: bool(last)]]
        assert tokenize(syllable, "jamo") == tuple(map(chr, letters))


@pytest.mark.parametrize("level", ["characters", "jamo"])
@given(text=texts)
def test_detokenized_text_is_in_composed_form(level, text):
    assert detokenize(tokenize(text, level), level) == composed(text)


@given(texts)
def test_words_come_back_with_one_space_between_them(text):
    assert detokenize(tokenize(text, "words"), "words") == " ".join(composed(text).split())


@pytest.mark.parametrize("level", LEVELS)
@given(text=texts)
def test_symbols_survive_joining(level, text):
    cut = tokenize(text, level)
    assert tokenize(detokenize(cut, level), level) == cut


def test_decomposed_text_is_composed_again():
    assert detokenize(tokenize("e\u0301", "characters"), "characters") == "é"
    assert tokenize("e\u0301", "characters") == ("é",)
    assert tokenize("é", "jamo") == ("e", "\u0301")
    assert (
        detokenize(tokenize("\u212b", "characters"), "characters") == "Å"
    )  # the sign of the ångström


@pytest.mark.parametrize("function", [tokenize, detokenize])
def test_an_unknown_level_is_named(function):
    with pytest.raises(ValueError, match=r"level: expected 'characters' or .* or 'tagged', got"):
        function("abc", "letters")


@pytest.fixture
def file(tmp_path):
    def write(content):
        path = tmp_path / "pairs.tsv"
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return path

    return write


PLAIN = [Pair(("a", "b"), (("x",),)), Pair(("c",), (("y", "z"),))]


@pytest.mark.parametrize(
    "content",
    [
        "ab\tx\nc\tyz\n",
        "ab\tx\nc\tyz",
        "ab\tx\r\nc\tyz\r\n",
        "\ufeffab\tx\nc\tyz\n",
        "\n  \nab\tx\n\n \t \nc\tyz\n\n",
        " ab\tx \nc \t yz\n",
        "\u00a0ab\u00a0\tx\nc\t\u3000yz\n",
        "ab\tx\n\ufeffc\tyz \ufeff\n\ufeff \n",
        "ab\tx\nc\tyz\nab\tx\n",
    ],
    ids=[
        "plain",
        "no last newline",
        "Windows",
        "BOM",
        "empty lines",
        "spaces",
        "no-break spaces",
        "BOM inside",
        "row twice",
    ],
)
def test_good_files_are_read(file, content):
    assert read_pairs(file(content)) == PLAIN


def test_a_path_may_be_a_string(file):
    assert read_pairs(str(file("ab\tx\nc\tyz\n"))) == PLAIN


def test_the_rows_of_one_source_are_its_alternatives_in_order(file):
    pairs = read_pairs(file("b\ty\na\tx\nb\tx\nb\ty\nb\tw\n"))
    assert pairs == [Pair(("b",), (("y",), ("x",), ("w",))), Pair(("a",), (("x",),))]


def test_equivalent_spellings_are_one_source(file):
    assert len(read_pairs(file("é\tx\ne\u0301\ty\n"))) == 1


def test_levels_say_how_each_column_is_cut(file):
    path = file("read it\tR IY D\n한글\t각\n")
    assert read_pairs(path, target_level="words") == [
        Pair(tuple("read it"), (("R", "IY", "D"),)),
        Pair(("한", "글"), (("각",),)),
    ]
    assert read_pairs(path, source_level="words", target_level="jamo")[1] == Pair(
        ("한글",), (("\u1100", "\u1161", "\u11a8"),)
    )


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ("lonely", "expected 2 columns, source and target, separated by a tab, got 1: 'lonely'"),
        ("lonely\r", "separated by a tab, got 1: 'lonely'$"),
        ("a\tb\tc", r"separated by a tab, got 3: 'a\\tb\\tc'"),
        ("a\tb\tc\td", r"separated by a tab, got 4: 'a\\tb\\tc\\td'"),
        ("a\tb\t", r"separated by a tab, got 3: 'a\\tb\\t'"),
        ("\tb", r"expected a source, got an empty column: '\\tb'"),
        ("a\t", r"expected a target, got an empty column: 'a\\t'"),
        (" \tb", r"expected a source, got an empty column: ' \\tb'"),
        (b"a\t\xff", "expected UTF-8, got byte 0xff at position 3"),
        (b"\xed\x95\tb", "expected UTF-8, got byte 0xed at position 1"),  # a cut 한
        ("x" * 70, f"got 1: '{'x' * 57}...'$"),
    ],
)
@pytest.mark.parametrize("before", [0, 1, 4])
def test_a_bad_row_is_named_with_file_and_line(file, before, row, message):
    row = row if isinstance(row, bytes) else row.encode()
    path = file(b"good\trow\n" * before + row + b"\nnext\trow\n")
    with pytest.raises(BadRowError, match=message) as caught:
        read_pairs(path)
    assert str(caught.value).startswith(f"{path}, line {before + 1}: ")


def test_lines_are_counted_as_an_editor_counts_them(file):
    with pytest.raises(BadRowError, match="line 5: "):
        read_pairs(file("\ufeffa\tb\r\n\r\n  \r\nc\td\u2028\r\nbad\r\n"))


def test_the_bad_byte_of_a_first_line_with_a_mark_is_the_one_shown(file):
    with pytest.raises(BadRowError, match="line 1: expected UTF-8, got byte 0xff at position 2"):
        read_pairs(file(b"\xef\xbb\xbfa\xff\tb\n"))


@pytest.mark.parametrize("content", ["", "\n", "\ufeff", " \n\t\n"])
def test_a_file_without_rows_is_refused(file, content):
    path = file(content)
    with pytest.raises(BadRowError) as caught:
        read_pairs(path)
    assert str(caught.value) == f"{path}: expected rows of source, tab, target, got none"


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"nowhere\.tsv"):
        read_pairs(tmp_path / "nowhere.tsv")


def test_an_unknown_level_is_not_reported_as_a_bad_row(file):
    with pytest.raises(ValueError, match="source_level: expected") as caught:
        read_pairs(file("a\tb\n"), source_level="letters")
    assert not isinstance(caught.value, BadRowError)


@given(st.lists(st.tuples(words, words), min_size=1))
def test_what_was_written_is_read(tmp_path_factory, rows):
    path = tmp_path_factory.mktemp("rows") / "pairs.tsv"
    path.write_text("".join(f"{a}\t{b}\n" for a, b in rows), encoding="utf-8")
    expected = {}
    for a, b in rows:
        targets = expected.setdefault(a.strip(), [])
        if b.strip() not in targets:
            targets.append(b.strip())
    actual = {"".join(p.source): ["".join(t) for t in p.targets] for p in read_pairs(path)}
    assert actual == expected


def test_of_each_20_one_validates_two_test_and_17_train():
    parts = split(numbered(60))
    positions = [[int(pair.source[0]) for pair in part] for part in parts]
    assert positions[1] == [0, 20, 40]
    assert positions[2] == [1, 2, 21, 22, 41, 42]
    assert positions[0] == [i for i in range(60) if i % 20 > 2]


@given(st.integers(4, 500))
def test_a_split_loses_and_doubles_nothing_and_is_the_same_again(count):
    pairs = numbered(count)
    parts = split(pairs)
    assert sorted(pair for part in parts for pair in part) == sorted(pairs)
    assert parts == split(pairs)
    places = [i % 20 for i in range(count)]
    validation, test = places.count(0), places.count(1) + places.count(2)
    assert [len(part) for part in parts] == [count - validation - test, validation, test]


@given(st.lists(st.integers(0, 60), min_size=4, max_size=200))
def test_equal_keys_stay_together_and_are_counted_once(keys):
    distinct = list(dict.fromkeys(str(key) for key in keys))
    assume(len(distinct) > 3)
    pairs = [Pair((str(i), str(key)), (("x",),)) for i, key in enumerate(keys)]
    parts = split(pairs, key=lambda pair: pair.source[1])
    once = split([Pair((key,), (("x",),)) for key in distinct])
    for part, expected in zip(parts, once, strict=True):
        assert {pair.source[1] for pair in part} == {pair.source[0] for pair in expected}
    assert sum(map(len, parts)) == len(pairs)


def test_too_few_for_three_parts_are_refused():
    with pytest.raises(ValueError, match=r"at least 4 pairs, enough for 3 parts, got 3$"):
        split(numbered(3))
    with pytest.raises(ValueError, match=r"at least 4 pairs of different keys, .* got 2"):
        split(numbered(50), key=lambda pair: int(pair.source[0]) % 2)
    assert [len(part) for part in split(numbered(4))] == [1, 1, 2]


SMALL = [Pair(tuple("ba"), (tuple("xy"), tuple("z"))), Pair(tuple("c"), (tuple("x"),))]


def test_vocabularies_begin_with_padding_start_and_end():
    source, target = Vocabularies.from_pairs(SMALL)
    assert source.symbols == ["<pad>", "<s>", "</s>", "a", "b", "c", "<unk>"]
    assert target.symbols == ["<pad>", "<s>", "</s>", "x", "y", "z"]
    assert (PADDING, START, END) == (0, 1, 2)


def test_examples_run_from_start_to_end_with_one_for_each_target():
    source, source_lengths, target, target_lengths = encode_pairs(
        SMALL, Vocabularies.from_pairs(SMALL)
    )
    assert source.tolist() == [[4, 3, END], [4, 3, END], [5, END, PADDING]]
    assert source_lengths.tolist() == [3, 3, 2]
    assert target.tolist() == [
        [START, 3, 4, END],
        [START, 5, END, PADDING],
        [START, 3, END, PADDING],
    ]
    assert target_lengths.tolist() == [4, 3, 3]
    assert {part.dtype for part in (source, source_lengths, target, target_lengths)} == {
        torch.int64
    }


def test_sources_to_read_are_encoded_as_examples_are():
    vocabularies = Vocabularies.from_pairs(SMALL)
    examples = encode_pairs(SMALL, vocabularies)
    source, lengths = vocabularies.encode_sources([pair.source for pair in SMALL])
    assert torch.equal(source, examples.source[[0, 2]])
    assert torch.equal(lengths, examples.source_lengths[[0, 2]])
    assert vocabularies.decode_target([3, 4]) == ("x", "y")


def test_an_unknown_source_symbol_reads_as_unk_and_an_unknown_target_symbol_is_an_error():
    vocabularies = Vocabularies.from_pairs(SMALL)
    source, _ = vocabularies.encode_sources(["a?c", ""])
    assert source.tolist() == [[3, 6, 5, END], [END, PADDING, PADDING, PADDING]]
    with pytest.raises(UnknownSymbolError, match=r"unknown symbol '\?' at position 1"):
        encode_pairs([Pair(("a",), (("x", "?"),))], vocabularies)


@pytest.mark.parametrize(
    "pair", [Pair(("a", "<s>"), (("x",),)), Pair(("a",), (("x",), ("</s>", "x")))]
)
def test_a_symbol_that_marks_padding_start_or_end_is_refused(pair):
    with pytest.raises(ValueError, match=r"other symbols than <pad>, <s>, </s>, .* got </?s>"):
        Vocabularies.from_pairs([*SMALL, pair])


def test_nothing_to_encode_is_an_error():
    with pytest.raises(ValueError, match="expected at least one, got none"):
        encode_pairs([], Vocabularies.from_pairs(SMALL))
    with pytest.raises(ValueError, match="expected at least one, got none"):
        Vocabularies.from_pairs(SMALL).encode_sources([])


@pytest.fixture(scope="module")
def names():
    training = place_names.load().training
    return encode_pairs(training, Vocabularies.from_pairs(training))


def contents(batch):
    """The examples of a batch without their padding, as hashable rows."""
    return [
        (tuple(s[:n].tolist()), tuple(t[:m].tolist())) for s, n, t, m in zip(*batch, strict=True)
    ]


def draw(examples, size, seed=0):
    return list(examples.batches(size, generator=torch.Generator().manual_seed(seed)))


@pytest.mark.parametrize("size", [1, 7, 64, 10_000])
def test_each_example_comes_once_an_epoch(names, size):
    examples = names.rows(torch.arange(1000))
    batches = draw(examples, size)
    assert sorted(row for batch in batches for row in contents(batch)) == sorted(contents(examples))
    sizes = sorted(len(batch.source) for batch in batches)
    assert sizes[1:] == [min(size, 1000)] * (len(batches) - 1)
    assert sizes[0] == (1000 % size or size)


def test_batches_are_cut_to_their_longest_and_padded_with_padding(names):
    for batch in draw(names, 64):
        for ids, lengths in (batch[:2], batch[2:]):
            assert ids.shape[1] == lengths.max()
            padding = torch.arange(ids.shape[1]) >= lengths[:, None]
            assert torch.equal(ids == PADDING, padding)
            assert (ids.gather(1, lengths[:, None] - 1) == END).all()


def test_batches_follow_from_the_generator(names):
    first, again, other = (draw(names, 64, seed) for seed in (3, 3, 4))
    assert all(torch.equal(a.source, b.source) for a, b in zip(first, again, strict=True))
    assert any(a.source.shape != b.source.shape for a, b in zip(first, other, strict=True))

    generator = torch.Generator().manual_seed(3)
    epochs = [list(names.batches(64, generator=generator)) for _ in range(2)]
    assert contents(epochs[0][0]) != contents(epochs[1][0])


def padding_share(batches):
    used = sum(int(b.source_lengths.sum() + b.target_lengths.sum()) for b in batches)
    return 1 - used / sum(b.source.numel() + b.target.numel() for b in batches)


@pytest.mark.parametrize(("size", "bound"), [(16, 0.15), (64, 0.2), (128, 0.25)])
def test_batches_hold_less_than_half_the_padding_of_random_ones(names, size, bound):
    order = torch.randperm(len(names.source), generator=torch.Generator().manual_seed(0))
    at_random = padding_share([names.rows(rows) for rows in order.split(size)])
    ours = padding_share(draw(names, size))
    assert ours < bound
    assert ours < at_random / 2


def test_batches_of_like_lengths_come_in_no_order_of_length(names):
    widths = [batch.source.shape[1] for batch in draw(names, 64)]
    assert abs(np.corrcoef(widths[1:], widths[:-1])[0, 1]) < 0.3  # 98 pairs: 3 deviations


@pytest.mark.parametrize("size", [0, -1])
def test_a_batch_size_that_is_not_positive_is_refused(names, size):
    with pytest.raises(ValueError, match=f"size: expected at least 1, got {size}"):
        draw(names, size)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("JP osaka", ("JP", *"osaka")),
        ("  US  new york ", ("US", *"new york ")),
        ("US\ta", ("US", "a")),
        ("JP", ("JP",)),
        (" JP ", ("JP",)),
        ("", ()),
        ("한 e\u0301", ("한", "é")),
    ],
)
def test_a_tag_is_one_symbol_before_characters(text, expected):
    assert tokenize(text, "tagged") == expected
    assert tokenize(detokenize(expected, "tagged"), "tagged") == expected


def test_a_tag_is_joined_with_one_space():
    assert detokenize(("JP", *"osaka"), "tagged") == "JP osaka"
    assert detokenize(iter(("US", *"new york")), "tagged") == "US new york"
    assert detokenize(("JP",), "tagged") == "JP"
    assert detokenize((), "tagged") == ""


def test_a_file_may_have_tags(file):
    path = file("JP osaka\t오사카\nJP  osaka\t오오사카\n")
    assert read_pairs(path, source_level="tagged") == [
        Pair(("JP", *"osaka"), (tuple("오사카"), tuple("오오사카")))
    ]


def test_place_names_are_tagged_with_their_country():
    for part in place_names.load():
        for source, _ in part:
            assert len(source[0]) == 2
            assert len(source) > 1
            assert all(len(letter) == 1 for letter in source[1:])
            assert tokenize(detokenize(source, "tagged"), "tagged") == source


@pytest.mark.parametrize(
    ("shares", "period", "validation", "test"),
    [
        ({}, 20, 1, 2),
        ({"validation_share": 0.1}, 10, 1, 1),
        ({"test_share": 0.2}, 20, 1, 4),
        ({"validation_share": 0.07, "test_share": 0.29}, 100, 7, 29),
        ({"validation_share": 0, "test_share": 0.5}, 2, 0, 1),
        ({"validation_share": 0.25, "test_share": 0}, 4, 1, 0),
        ({"validation_share": 0, "test_share": 0}, 1, 0, 0),
    ],
)
def test_shares_may_be_chosen(shares, period, validation, test):
    pairs = numbered(300)
    parts = split(pairs, **shares)
    assert sorted(pair for part in parts for pair in part) == sorted(pairs)
    places = [[int(pair.source[0]) % period for pair in part] for part in parts]
    assert set(places[1]) == set(range(validation))
    assert set(places[2]) == set(range(validation, validation + test))
    assert set(places[0]) == set(range(validation + test, period))


@pytest.mark.parametrize(
    ("shares", "message"),
    [
        ({"validation_share": 1}, "validation_share: expected 0, 0.01, .* or 0.99, got 1"),
        ({"test_share": -0.1}, "test_share: expected 0, 0.01, .*, got -0.1"),
        ({"test_share": 0.125}, "test_share: expected 0, 0.01, .*, got 0.125"),
        ({"test_share": float("nan")}, "test_share: expected 0, 0.01, .*, got nan"),
        ({"validation_share": 0.4, "test_share": 0.6}, "a sum below 1, got 0.4 and 0.6"),
        ({"test_share": 0.13}, "at least 19 pairs, enough for 3 parts, got 10"),
        ({"validation_share": 0, "test_share": 0.99}, "at least 100 pairs, enough for 2 parts"),
    ],
)
def test_shares_that_do_not_fit_are_refused(shares, message):
    with pytest.raises(ValueError, match=message):
        split(numbered(10), **shares)


def test_batches_are_drawn_on_any_device(names):
    examples = names.rows(torch.arange(300))
    expected = draw(examples, 64)
    with other_device() as device:
        batches = draw(examples.to(device), 64)
        assert {part.device for batch in batches for part in batch} == {device}
        for batch, reference in zip(batches, expected, strict=True):
            assert all(
                torch.equal(part.cpu(), other) for part, other in zip(batch, reference, strict=True)
            )
