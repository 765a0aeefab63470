import math
from functools import cache

import pytest
from hypothesis import given
from hypothesis import strategies as st

from seqbook.data.pairs import Pair
from seqbook.models.metrics import ErrorRates, bits_per_byte, edit_distance, error_rates

strings = st.text("abc", max_size=7)


def naive_distance(a, b):
    """The recursion on the first symbols, from the definition."""

    @cache
    def distance(i, j):
        if i == len(a) or j == len(b):
            return len(a) - i + len(b) - j
        return min(
            distance(i + 1, j + 1) + (a[i] != b[j]), distance(i + 1, j) + 1, distance(i, j + 1) + 1
        )

    return distance(0, 0)


@given(strings, strings)
def test_the_distance_is_that_of_the_plain_recursion(a, b):
    assert edit_distance(a, b) == naive_distance(a, b)


@pytest.mark.parametrize(
    ("a", "b", "distance"),
    [
        ("kitten", "sitting", 3),
        ("", "", 0),
        ("", "abc", 3),
        ("abc", "ab", 1),
        ("abc", "bca", 2),
        (("K", "AE", "T"), ["K", "AH", "T"], 1),
        ([1, 2, 3], [3, 2, 1], 2),
    ],
)
def test_known_distances(a, b, distance):
    assert edit_distance(a, b) == distance


@given(strings, strings, strings)
def test_the_distance_is_a_metric(a, b, c):
    assert (edit_distance(a, b) == 0) == (a == b)
    assert edit_distance(a, b) == edit_distance(b, a)
    assert edit_distance(a, c) <= edit_distance(a, b) + edit_distance(b, c)


@given(strings, strings)
def test_the_distance_lies_between_its_bounds(a, b):
    assert abs(len(a) - len(b)) <= edit_distance(a, b) <= max(len(a), len(b))


@given(strings, st.data())
def test_one_edit_is_one_apart(a, data):
    place = data.draw(st.integers(0, len(a)))
    assert edit_distance(a, a[:place] + "x" + a[place:]) == 1
    if a:
        assert edit_distance(a, a[:place] + a[place + 1 :]) == (place < len(a))


def pair(*targets):
    return Pair(("s",), tuple(map(tuple, targets)))


@pytest.mark.parametrize(
    ("written", "pairs", "word", "symbol"),
    [
        (["abc"], [pair("abc")], 0, 0),
        (["abd"], [pair("abc")], 1, 1 / 3),
        ([""], [pair("abc")], 1, 1),
        (["abc", "x"], [pair("abc"), pair("y")], 1 / 2, 1 / 4),  # 4 symbols, not 2 sequences
        (["aaaa"], [pair("b")], 1, 4),  # more than everything
        (["ab"], [pair("xyzw", "ab")], 0, 0),
        (["abcd"], [pair("x", "abce")], 1, 1 / 4),  # of the nearest target, not of the first
        (["ab"], [pair("ax", "abx", "b")], 1, 1 / 1),  # of equally near ones, of the shortest
        (["ab", "abcd"], [pair("xyzw", "ab"), pair("abcx")], 1 / 2, 1 / 6),
        ([["K", "AE", "T"]], [pair(["K", "AE", "T"])], 0, 0),
        (["", "a"], [pair(""), pair("a")], 0, 0),
    ],
)
def test_error_rates_of_small_cases(written, pairs, word, symbol):
    assert error_rates(written, pairs) == pytest.approx(ErrorRates(word, symbol), abs=1e-15)


@given(st.lists(st.tuples(strings, st.lists(strings, min_size=1, max_size=3)), min_size=1))
def test_error_rates_follow_the_definition(rows):
    pairs = [pair("a"), *(pair(*targets) for _, targets in rows)]
    written = ["a", *(text for text, _ in rows)]
    edits = length = wrong = 0
    for text, p in zip(written, pairs, strict=True):
        targets = ["".join(target) for target in p.targets]
        nearest = min(targets, key=lambda target: (naive_distance(text, target), len(target)))
        edits += naive_distance(text, nearest)
        length += len(nearest)
        wrong += text not in targets
    assert error_rates(written, pairs) == pytest.approx((wrong / len(pairs), edits / length))


def test_what_cannot_be_scored_is_refused():
    with pytest.raises(ValueError, match="one sequence for each of at least one pair, got 0 for 0"):
        error_rates([], [])
    with pytest.raises(ValueError, match="got 1 for 2"):
        error_rates(["a"], [pair("a"), pair("b")])
    with pytest.raises(ValueError, match="expected a target with symbols, got empty ones only"):
        error_rates(["a"], [pair("")])


def test_bits_per_byte_do_not_depend_on_the_symbols():
    """A uniform code over 2**k symbols of k bits each, whatever the symbols stand for."""
    assert bits_per_byte(math.log(256), 5, b"bytes") == pytest.approx(8)
    assert bits_per_byte(math.log(256), 5, "bytes") == pytest.approx(8)
    korean = "한글"  # two syllables, six jamo, six bytes
    for symbols in (1, 2, 6):
        loss = 12 * math.log(2) / symbols  # twelve bits in all
        assert bits_per_byte(loss, symbols, korean) == pytest.approx(2)


@pytest.mark.parametrize(
    ("symbols", "text", "message"),
    [
        (1, "", "text: expected at least one byte, got none"),
        (0, "a", "symbols: expected at least 1, got 0"),
    ],
)
def test_nothing_has_no_bits_per_byte(symbols, text, message):
    with pytest.raises(ValueError, match=message):
        bits_per_byte(1.0, symbols, text)
