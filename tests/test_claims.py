import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from seqbook.claims import ClaimError, claim, claim_equal, finding, measured


@pytest.mark.parametrize("true", [True, np.bool_(True), np.arange(3).max() == 2])
def test_what_holds_is_one_ticked_line(true, capsys):
    claim("Two is two.", true)
    assert capsys.readouterr().out == "✓ Two is two.\n"


def test_what_does_not_hold_raises_and_shows_nothing(capsys):
    with pytest.raises(ClaimError, match=r"does not hold: One is two\."):
        claim("One is two.", np.bool_(False))
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize("holds", [1, 0.5, "yes", None, np.array([True, True]), torch.tensor(True)])
def test_only_a_single_truth_value_decides_a_claim(holds):
    with pytest.raises(TypeError, match=f"expected True or False .* got {type(holds).__name__}"):
        claim("Something.", holds)


@pytest.mark.parametrize("statement", ["", "  ", True])
def test_a_claim_needs_a_sentence(statement):
    with pytest.raises(TypeError, match="expected a sentence as its first argument, got"):
        claim(statement, True)


@pytest.mark.parametrize(
    ("actual", "expected"),
    [
        (1.0, 1.0 + 1e-13),
        (1e6, 1e6 + 1e-7),  # relative above one
        (1e-20, 0.0),  # absolute below one
        ([[1, 2], [3, 4]], np.array([[1.0, 2.0], [3.0, 4.0]])),
        (torch.ones(3, dtype=torch.float64, requires_grad=True), [1, 1, 1]),
        (np.array([1 + 2j]), [1 + 2j]),
        (torch.tensor([0.5, 2.0], dtype=torch.bfloat16), [0.5, 2.0]),
    ],
)
def test_equal_numbers_are_shown_with_their_tolerance(actual, expected, capsys):
    claim_equal("Both agree", actual, expected)
    assert capsys.readouterr().out == "✓ Both agree (equal to 10⁻¹²).\n"


@pytest.mark.parametrize(
    ("actual", "expected", "message"),
    [
        (1.0, 1.0 + 1e-11, "largest difference 1e-11, allowed 1e-12"),
        (1e6, 1e6 + 1e-5, "largest difference 1e-05"),
        ([1.0, 2.0], [1.0, 3.0], "largest difference 1,"),
        ([np.nan], [np.nan], "does not hold"),
        ([np.inf], [np.inf], "does not hold"),
        ([1.0], 1.0, r"shapes differ, \(1,\) against \(\)"),
        (np.ones((1, 3)), np.ones(3), r"\(1, 3\) against \(3,\)"),
        (np.array([1 + 1j]), np.array([1 + 2j]), "largest difference 1,"),
        ([], [], "does not hold"),  # nothing was compared
    ],
)
@pytest.mark.filterwarnings("ignore:invalid value encountered in subtract:RuntimeWarning")
def test_unequal_numbers_raise(actual, expected, message, capsys):
    with pytest.raises(ClaimError, match=message):
        claim_equal("Both agree", actual, expected)
    assert capsys.readouterr().out == ""


def test_the_tolerance_is_the_authors(capsys):
    claim_equal("Close", 1.0, 1.05, tolerance=0.1)
    claim_equal("Closer", 1.0, 1.001, tolerance=2e-3)
    assert capsys.readouterr().out == "✓ Close (equal to 10⁻¹).\n✓ Closer (equal to 2·10⁻³).\n"


def test_measured_formats_what_is_well_inside_its_digits():
    assert measured(0.9123, ".2f") == "0.91"
    assert measured(np.float64(0.957), ".0%", noise=1e-3) == "96%"
    assert measured(torch.tensor(2.0), ".1f") == "2.0"


@pytest.mark.parametrize(
    ("value", "spec", "noise"), [(0.5, ".0f", 1e-9), (0.9149, ".2f", 1e-3), (0.0, ".1f", 1e-9)]
)
def test_measured_refuses_a_rounding_boundary(value, spec, noise):
    with pytest.raises(ClaimError, match=r"may print as .* or as .* on another machine"):
        measured(value, spec, noise=noise)


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_measured_refuses_values_that_are_not_finite_numbers(value):
    with pytest.raises(ClaimError, match=f"expected a finite number, got {value}"):
        measured(value, ".2f")


@given(
    value=st.floats(-1e4, 1e4),
    noise=st.sampled_from([1e-9, 1e-4, 1e-2]),
    share=st.floats(-1, 1),
)
def test_measured_prints_the_same_on_every_machine(value, noise, share):
    try:
        text = measured(value, ".2f", noise=noise)
    except ClaimError:
        return
    assert format(value + share * noise * max(1, abs(value)), ".2f") == text


def test_a_claim_fills_its_numbers_in_through_measured(capsys):
    claim("{share:.0%} of {count:,} {what}.", True, share=0.957, count=1234, what="words")
    assert capsys.readouterr().out == "✓ 96% of 1,234 words.\n"
    with pytest.raises(ClaimError, match=r"may print as 0\.1 or as 0\.2"):
        claim("About {x:.1f}.", True, x=0.15, noise=1e-3)
    with pytest.raises(ClaimError, match=r"expected a format such as '\.2f'"):
        claim("About {x}.", True, x=1 / 3)


def test_a_claim_that_fails_tells_its_numbers():
    with pytest.raises(ClaimError, match=r"does not hold: About \{x:\.1f\}\. .*'x': 0\.7"):
        claim("About {x:.1f}.", False, x=0.7)


@pytest.mark.parametrize(("statement", "numbers"), [("{x:.1f}.", {}), ("Text.", {"x": 1.0})])
def test_a_claims_numbers_and_names_must_match(statement, numbers):
    with pytest.raises(TypeError, match="x"):
        claim(statement, True, **numbers)


def test_a_finding_prints_its_sentence_as_a_claim_does(capsys):
    finding("{n} seeds: {share:.0%}.", np.bool_(True), n=3, share=0.957)
    finding("{n} seeds: {share:.0%}.", True, headline="share", n=3, share=0.957)
    assert capsys.readouterr().out == 2 * "✓ 3 seeds: 96%.\n"
    with pytest.raises(ClaimError, match=r"does not hold: Half: \{x:\.1f\}\. .*'x': 0\.7"):
        finding("Half: {x:.1f}.", False, x=0.7)
    with pytest.raises(ClaimError, match=r"may print as 0\.1 or as 0\.2"):
        finding("About {x:.1f}.", True, x=0.15, noise=1e-3)


def test_a_finding_has_a_number_to_show():
    with pytest.raises(TypeError, match="finding: expected a number in the statement, got none"):
        finding("It works.", True)
    with pytest.raises(TypeError, match=r"headline: expected one of \['x'\], got 'y'"):
        finding("About {x:.1f}.", True, headline="y", x=0.7)
    with pytest.raises(TypeError, match=r"finding: expected True or False .* got float \(0\.7\)"):
        finding("About {x:.1f}.", 0.7, x=0.7)


@pytest.mark.parametrize("statement", ["", " ", None, 3])
def test_a_claim_of_equality_needs_a_sentence(statement):
    with pytest.raises(TypeError, match=r"claim_equal: expected a sentence .*, got"):
        claim_equal(statement, 1, 1)


@pytest.mark.parametrize("wrong", ["1.0", None, ["a"], {}, [None]])
def test_a_claim_of_equality_compares_numbers(wrong):
    for pair in ((wrong, 1.0), (1.0, wrong)):
        with pytest.raises(TypeError, match="claim_equal: expected numbers, got"):
            claim_equal("Equal", *pair)


def test_bounds_are_numbers_and_not_negative():
    for wrong in ("1", None, -1e-9, np.nan):
        with pytest.raises((TypeError, ValueError), match="tolerance: expected a finite number"):
            claim_equal("Equal", 1, 1, tolerance=wrong)
        with pytest.raises((TypeError, ValueError), match="noise: expected a finite number"):
            measured(1.0, ".2f", noise=wrong)
    with pytest.raises(ValueError, match="tolerance: expected a positive number, got 0"):
        claim_equal("Equal", 1, 1, tolerance=0)


@pytest.mark.parametrize("wrong", [None, "a", [1, 2], np.ones(3)])
def test_only_a_number_is_measured(wrong):
    with pytest.raises(TypeError, match="value: expected a number, got"):
        measured(wrong, ".2f")
    with pytest.raises(TypeError, match="spec: expected a str, got 2"):
        measured(1.0, 2)
