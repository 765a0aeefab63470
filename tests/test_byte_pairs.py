"""Byte-pair encoding: every byte comes back, and the merges are those of the definition."""

import json
import re
from collections import Counter
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from seqbook.data import text
from seqbook.data.byte_pairs import BytePairTokenizer, DamagedTokenizerError, pieces
from seqbook.data.pairs import tokenize
from seqbook.models.storage import read_tensors, write_tensors
from seqbook.training.checkpoints import load_checkpoint, save_checkpoint

ALICE = text.load("alice").training[:20_000]
texts = st.text(st.sampled_from("ab ab_1²\n\t'.é한글👍🏽\u1112\u0301"), max_size=40) | st.text(
    max_size=20
)
small = st.text(st.sampled_from("abc \n"), max_size=60)


@pytest.fixture(scope="module")
def tokenizer():
    return BytePairTokenizer.train(ALICE + text.load("constitution_ko").training[:5000], 600)


def slowly(content, size):
    """The definition, word for word: count all pairs again after each merge."""
    words = Counter(pieces(content))
    words = {tuple(word.encode()): (list(word.encode()), n) for word, n in words.items()}
    words = list(words.values())
    merges = []
    while 256 + len(merges) < size:
        counts = Counter()
        for word, times in words:
            for pair in pairwise(word):
                counts[pair] += times
        best = min(counts, key=lambda pair: (-counts[pair], pair), default=None)
        if best is None or counts[best] < 2:
            break
        for word, _ in words:
            i = 0
            while i < len(word) - 1:
                if (word[i], word[i + 1]) == best:
                    word[i : i + 2] = [256 + len(merges)]
                i += 1
        merges.append(best)
    return merges


# Pieces


@given(texts)
@example("a  b")
@example(" \n a")
@example("x" * 1000)
@example(" " * 1000)
def test_pieces_joined_are_the_text_and_short(content):
    assert "".join(pieces(content)) == content
    assert all(1 <= len(piece) <= 65 for piece in pieces(content))


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        ("", []),
        ("to be, or not", ["to", " be", ",", " or", " not"]),
        ("don't", ["don", "'", "t"]),
        ("x_1 = 2.5", ["x", "_", "1", " =", " 2", ".", "5"]),
        ("a  b\n\n  c\n", ["a", " ", " b", "\n\n ", " c", "\n"]),
        ("\tx", ["\t", "x"]),
        ("제1조 ①", ["제", "1", "조", " ①"]),
        ("\u1112\u1161\u11ab 글", ["\u1112\u1161\u11ab", " 글"]),
        ("좋아👍🏽!", ["좋아", "👍🏽!"]),
    ],
)
def test_pieces_are_words_numbers_signs_and_space(content, expected):
    assert pieces(content) == expected


# Every byte comes back


@given(texts)
def test_every_text_comes_back(tokenizer, content):
    ids = tokenizer.encode(content)
    assert tokenizer.decode(ids) == content
    assert tokenizer.decode_bytes(ids) == content.encode()
    assert ids.dtype == np.int64
    assert ids.ndim == 1


@given(st.binary(max_size=60) | st.text(max_size=20).map(lambda s: s.encode()[1:]))
@example("한글".encode()[:-1])
@example(bytes(range(256)))
@example(b"\xed\xa0\x80")  # half a surrogate pair, which UTF-8 does not allow
@example(b"")
def test_any_bytes_come_back(tokenizer, content):
    ids = tokenizer.encode(content)
    assert tokenizer.decode_bytes(ids) == content
    assert tokenizer.decode(ids) == content.decode(errors="replace")


@given(texts)
def test_a_text_and_its_bytes_have_the_same_tokens(tokenizer, content):
    assert tokenizer.encode(content).tolist() == tokenizer.encode(content.encode()).tolist()


def test_real_texts_come_back_in_fewer_tokens(tokenizer):
    for name, fewer in (("alice", 1.9), ("constitution_ko", 1.7)):
        part = text.load(name).test
        ids = tokenizer.encode(part)
        assert tokenizer.decode(ids) == part
        assert len(part.encode()) > fewer * len(ids)


def test_a_part_of_a_character_is_replaced():
    untrained = BytePairTokenizer()
    ids = untrained.encode("가")
    assert len(ids) == 3
    assert untrained.decode(ids[:2]) == "\ufffd"
    assert untrained.decode_bytes(ids[:2]) == "가".encode()[:2]


@given(st.lists(st.integers(0, 599), max_size=20))
def test_all_ids_decode_to_the_bytes_of_their_tokens(tokenizer, ids):
    expected = b"".join(tokenizer.tokens[i] for i in ids)
    for kind in ("int16", "uint16", "int64"):
        assert tokenizer.decode_bytes(np.array(ids, dtype=kind)) == expected


# Training


@settings(max_examples=60)
@given(small | texts, st.integers(256, 300))
@example("aaaa aaa aa aaaaa", 260)
@example("abab abab", 260)
@example("aabaab aabaab", 262)
def test_the_merges_are_those_of_the_definition(content, size):
    assert BytePairTokenizer.train(content, size).merges == slowly(content, size)


def test_the_merges_of_a_real_text_are_those_of_the_definition():
    assert BytePairTokenizer.train(ALICE[:5000], 500).merges == slowly(ALICE[:5000], 500)


def test_of_equally_frequent_pairs_the_smallest_is_merged():
    tokenizer = BytePairTokenizer.train("dc dc ba ba bd bd", 300)
    merges = [tuple(tokenizer.tokens[part] for part in merge) for merge in tokenizer.merges]
    # The first occurs four times, the others twice.
    assert merges == [(b" ", b"b"), (b"d", b"c"), (b" b", b"a"), (b" b", b"d")]


@given(small, st.integers(256, 280))
def test_a_token_is_part_of_a_piece(content, size):
    tokenizer = BytePairTokenizer.train(content, size)
    assert len(tokenizer) <= size
    words = [word.encode() for word in pieces(content)]
    for token in tokenizer.tokens[256:]:
        assert sum(word.count(token) for word in words) >= 1
        assert re.fullmatch(rb" ?[abc]+|[ \n]+", token)


def test_training_stops_when_no_pair_occurs_twice():
    assert len(BytePairTokenizer.train("abc", 300)) == 256
    assert len(BytePairTokenizer.train("", 300)) == 256
    assert BytePairTokenizer.train("abc abc", 300).tokens[-1] in (b"abc", b" abc")


def test_tokens_of_jamo_and_of_syllables_are_learned_alike():
    korean = text.load("constitution_ko").training
    jamo = "".join(tokenize(korean, "jamo"))
    for content in (korean, jamo):
        tokenizer = BytePairTokenizer.train(content, 400)
        assert tokenizer.decode(tokenizer.encode(content)) == content
        assert len(tokenizer) == 400


def test_a_long_text_without_spaces_is_encoded_in_linear_time():
    """A megabyte of one letter: quadratic time would be hours."""
    tokenizer = BytePairTokenizer.train("a" * 200, 264)
    ids = tokenizer.encode("a" * 10**6)
    assert tokenizer.decode_bytes(ids) == b"a" * 10**6
    assert len(ids) < 10**6 / 30


# Files


def test_files_and_descriptions_hold_a_tokenizer(tokenizer, tmp_path):
    tokenizer.save(tmp_path / "tokens.json")
    write_tensors(tmp_path / "model", {}, {"tokenizer": tokenizer.description()})
    save_checkpoint({"tokenizer": tokenizer.description()}, tmp_path / "checkpoint")
    descriptions = [
        read_tensors(tmp_path / "model")[1]["tokenizer"],
        load_checkpoint(tmp_path / "checkpoint")["tokenizer"],
    ]
    copies = [BytePairTokenizer.from_description(d) for d in descriptions]
    for copy in (BytePairTokenizer.load(tmp_path / "tokens.json"), *copies):
        assert copy.merges == tokenizer.merges
        assert copy.tokens == tokenizer.tokens
        assert copy.encode(ALICE).tolist() == tokenizer.encode(ALICE).tolist()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "expected JSON, got invalid JSON"),
        ("[" * 100_000, "expected JSON, got invalid JSON"),
        ("[]", "format: expected 'seqbook byte pairs 1', got None"),
        ('{"format": "gpt2"}', "format: expected 'seqbook byte pairs 1', got 'gpt2'"),
        ({"merges": 3}, "merges: expected a list, got int"),
        ({"merges": [[1]]}, r"merges\[0\]: expected a pair of token ids, got \[1\]"),
        ({"merges": ["ab"]}, r"merges\[0\]: expected a pair of token ids, got 'ab'"),
        ({"merges": [[1, 2.5]]}, r"merges\[0\]: expected an integer from 0 to 255, got 2.5"),
        ({"merges": [[1, 256]]}, r"merges\[0\]: expected an integer from 0 to 255, got 256"),
        ({"merges": [[1, 2], [1, 2]]}, r"merges\[1\]: expected a new pair, got \(1, 2\) again"),
    ],
)
def test_a_damaged_file_is_refused(tmp_path, content, message):
    path = tmp_path / "tokens.json"
    if isinstance(content, dict):
        content = json.dumps({"format": "seqbook byte pairs 1"} | content)
    path.write_text(content)
    with pytest.raises(DamagedTokenizerError, match=f"^{re.escape(str(path))}: {message}$"):
        BytePairTokenizer.load(path)


# Errors


@pytest.mark.parametrize(
    ("use", "message"),
    [
        (lambda: BytePairTokenizer.train("a", 255), "size: expected an integer of at least 256"),
        (lambda: BytePairTokenizer.train("a", 256.0), "size: expected an integer of at least 256"),
        (lambda: BytePairTokenizer.train(3, 300), "text: expected str or bytes, got int"),
        (lambda: BytePairTokenizer().encode(None), "text: expected str or bytes, got NoneType"),
        (lambda: BytePairTokenizer().encode("a\ud800"), "text: expected characters, got half a"),
        (lambda: BytePairTokenizer.train("\ud800", 300), "text: expected characters, got half a"),
        (lambda: BytePairTokenizer().decode([256]), "ids: expected ids from 0 to 255, got 256"),
        (lambda: BytePairTokenizer().decode([0.5]), "ids: expected integer ids, got an array of"),
        (lambda: BytePairTokenizer([3]), r"merges\[0\]: expected a pair of token ids, got 3"),
    ],
)
def test_an_error_names_what_came_and_what_was_expected(use, message):
    with pytest.raises((TypeError, ValueError), match=f"^{message}"):
        use()
