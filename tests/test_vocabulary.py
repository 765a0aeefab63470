import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from seqbook.data import text
from seqbook.data.vocabulary import UnknownSymbolError, Vocabulary


@given(st.lists(st.text("aé한\n", max_size=2), min_size=1))
def test_decoding_undoes_encoding(sequence):
    vocabulary = Vocabulary.from_sequence(sequence)
    ids = vocabulary.encode(sequence)
    assert vocabulary.decode(ids) == sequence
    assert set(ids) == set(range(len(vocabulary)))  # no id is idle
    assert ids.dtype == np.int64
    assert ids.shape == (len(sequence),)


def test_ids_follow_the_order_of_the_symbols():
    assert Vocabulary("cab").encode("abc").tolist() == [1, 2, 0]
    assert Vocabulary.from_sequence("cabbage").symbols == ["a", "b", "c", "e", "g"]


def test_a_real_text_survives():
    alice = text.load("alice").text
    vocabulary = Vocabulary.from_sequence(alice)
    assert len(vocabulary) == 72
    assert "".join(vocabulary.decode(vocabulary.encode(alice))) == alice


def test_unk_stands_for_every_other_symbol():
    vocabulary = Vocabulary("ab", unknown="<unk>")
    assert len(vocabulary) == 3
    assert vocabulary.decode(vocabulary.encode("azbz")) == ["a", "<unk>", "b", "<unk>"]


def test_unk_may_be_among_the_symbols():
    assert Vocabulary(["<unk>", "a"], unknown="<unk>").encode("za").tolist() == [0, 1]


def test_an_unknown_symbol_without_unk_is_named_with_its_place():
    with pytest.raises(UnknownSymbolError) as caught:
        Vocabulary("abc").encode("abzc")
    assert str(caught.value) == (
        "unknown symbol 'z' at position 2: expected one of the vocabulary's 3 symbols; "
        "build it with unknown='<unk>' for others"
    )
    assert isinstance(caught.value, KeyError)


@pytest.mark.parametrize("wrong", [-1, 3])
def test_an_id_outside_is_named(wrong):
    low, high = sorted([0, wrong])
    with pytest.raises(ValueError, match=f"ids: expected ids from 0 to 2, got {low} to {high}"):
        Vocabulary("abc").decode([0, wrong])


def test_the_empty_sequence_has_no_ids():
    assert Vocabulary("a").encode("").shape == (0,)
    assert Vocabulary("a").decode([]) == []


def test_symbols_are_distinct_and_there_is_one():
    with pytest.raises(ValueError, match="expected distinct ones, got 'b' twice"):
        Vocabulary("abcb")
    with pytest.raises(ValueError, match="expected at least one, got none"):
        Vocabulary("")


@pytest.mark.parametrize("dtype", ["int8", "uint8", "int16", "uint16", "int32", "uint64"])
def test_ids_of_every_integer_type_are_decoded(dtype):
    assert Vocabulary("abc").decode(np.array([2, 0], dtype)) == ["c", "a"]
    assert Vocabulary("abc").decode(iter([2, 0])) == ["c", "a"]


@pytest.mark.parametrize("wrong", ["01", None, 1.0, [1.5], [None], [[0], [1, 2]], [True]])
def test_an_invalid_id_is_refused(wrong):
    with pytest.raises((TypeError, ValueError), match=r"ids: expected .*got"):
        Vocabulary("abc").decode(wrong)


@pytest.mark.parametrize("wrong", [None, 3, ["a", 3], [["a"]], [None]])
@pytest.mark.parametrize(
    "call",
    [Vocabulary, Vocabulary.from_sequence, Vocabulary("abc").encode],
    ids=["Vocabulary", "from_sequence", "encode"],
)
def test_symbols_are_strings(call, wrong):
    with pytest.raises(TypeError, match=r"(symbols|sequence): expected (strings|a sequence), got"):
        call(wrong)


def test_the_unknown_symbol_is_a_string():
    with pytest.raises(TypeError, match="unknown: expected strings, got 0"):
        Vocabulary("abc", unknown=0)
