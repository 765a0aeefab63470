"""Which code of a cell stays on its page, and which checks its claims."""

import pytest
from checks_in_cells import Cell, CheckError, split_cells


def split(*cells: tuple[str, list[str]]):
    """Split cells, given as source and printed claims, that are named by their numbers."""
    return split_cells(Cell(str(n), source, printed) for n, (source, printed) in enumerate(cells))


def split_one(source: str, *printed: str):
    """Split one cell; return its visible code, and each check as its code and statements."""
    cell = split((source, list(printed)))["0"]
    return cell.visible, [
        (check.code, [claim.statement for claim in check.claims]) for check in cell.checks
    ]


def test_a_check_leaves_the_code_around_it():
    visible, checks = split_one('x = 1\nclaim("One.", x == 1)\ny = 2\nprint(x, y)', "One.")
    assert visible == "x = 1\ny = 2\nprint(x, y)"
    assert checks == [('claim("One.", x == 1)', ["One."])]


def test_a_cell_of_checks_shows_nothing():
    visible, checks = split_one(
        '# How?\nclaim(\n    "One.",\n    True,\n)\nclaim_equal("Two", 2, 2)',
        "One.",
        "Two (equal to 10⁻¹²).",
    )
    assert visible == ""
    assert [code for code, _ in checks] == [
        '# How?\nclaim(\n    "One.",\n    True,\n)',
        'claim_equal("Two", 2, 2)',
    ]


@pytest.mark.parametrize("head", ["for n in (1, 2):", "with bounds() as n:", "while more():"])
def test_a_block_with_a_claim_in_it_is_a_check(head):
    block = f'{head}\n    print(n)\n    claim("{{n}} holds.", n > 0, n=n)'
    visible, checks = split_one(f"{block}\nprint('end')", "1 holds.", "2 holds.")
    assert visible == "print('end')"
    assert checks == [(block, ["1 holds.", "2 holds."])]


def test_an_if_may_print_nothing():
    source = 'if ready:\n    claim("One.", True)'
    assert split_one(f'{source}\nclaim("Two.", True)', "Two.") == (
        "",
        [(f'{source}\nclaim("Two.", True)', ["Two."])],
    )
    assert split((source, [])) == {}


@pytest.mark.parametrize(
    "preparation",
    [
        "y = 2 * x",
        "y: float = 2 * x",
        "y, z = x, x",
        "def y():\n    return x\n\n",
        "with ready():\n    y = 2 * x",
        "y = []\nfor n in range(3):\n    y.append(n)",
        "y = Layer()\ny.load(x.state())",
        "y = Layer()\ny.weight += 1",
        "y = Layer()\nfit(y).backward()",
    ],
)
def test_what_only_a_check_reads_joins_it(preparation):
    checks = f'{preparation}\nclaim("Two.", y)'
    visible, found = split_one(f'x = 1\nclaim("One.", x)\n{checks}', "One.", "Two.")
    assert visible == "x = 1"
    assert found == [('claim("One.", x)', ["One."]), (checks, ["Two."])]


def test_what_follows_the_figure_joins_as_well():
    source = 'figure = draw(x)\nmost = max(x)\nclaim("One.", most)'
    assert split_one(source, "One.") == (
        "figure = draw(x)",
        [('most = max(x)\nclaim("One.", most)', ["One."])],
    )
    assert split((source.replace("claim", "print"), [])) == {}


@pytest.mark.parametrize(
    ("later", "why"),
    [
        ("print(y)", "its value is shown"),
        ("z = y + 1\nprint(z)", "its value is used in code that stays"),
        ("def g():\n    return [y for _ in range(3)]", "a function that stays reads it"),
        ("y += 1\nprint(y)", "it is only increased"),
        ("y.append(1)", "code that stays changes it"),
    ],
)
def test_what_other_code_uses_stays(later, why):
    source = 'claim("One.", True)\ny = f(2)\nclaim("Two.", y)'
    cells = split((source, ["One.", "Two."]), (later, []))
    assert cells["0"].visible == "y = f(2)", why


def test_what_a_function_above_reads_stays():
    cells = split(
        ("def f():\n    return y", []),
        ('claim("One.", 1)\ny = 1\nclaim("Two.", y)', ["One.", "Two."]),
    )
    assert cells["1"].visible == "y = 1"


@pytest.mark.parametrize(
    "later",
    [
        "y = 3\nprint(y)",
        "def f(y):\n    return y",
        "for y in range(3):\n    print(y)",
        "print([y for y in range(3)])",
        'claim("Three.", y)',
    ],
)
def test_the_same_name_elsewhere_is_another(later):
    source = 'claim("One.", True)\ny = f(2)\nclaim("Two.", y)'
    printed = ["Three."] if "claim" in later else []
    assert split((source, ["One.", "Two."]), (later, printed))["0"].visible == ""


@pytest.mark.parametrize("statement", ["print(x)", "import math", "display(x)", "x"])
def test_what_shows_something_stays(statement):
    assert split_one(f'claim("One.", True)\n{statement}', "One.")[0] == statement


def test_what_follows_the_last_claim_joins_it():
    source = 'claim("One.", x)\nx += 1'
    assert split_one(source, "One.") == ("", [('claim("One.", x)\nx += 1', ["One."])])


def test_a_function_keeps_the_blank_lines_after_it():
    source = 'def f():\n    return 1\n\n\nclaim("One.", f())\nprint(f())'
    assert split_one(source, "One.")[0] == "def f():\n    return 1\n\n\nprint(f())"


@pytest.mark.parametrize(
    ("call", "line", "kind"),
    [
        (
            'claim("{a:.1f} of {b}, {{c}}.", True, a=a, b=b)',
            "0.5 of x, {c}.",
            "measurement",
        ),
        ('claim(f"{name} has {{a:.2f}}.", True, a=a)', "RNN has 0.25.", "measurement"),
        ("claim(text, True)", "What the variable held.", "measurement"),
        ('claim("One, " + two, True)', "One, two.", "measurement"),
        ('claim_equal("f = {1}", a, b)', "f = {1} (equal to 10⁻¹²).", "identity"),
        (
            'claim_equal(f"{n} passes", a, b, tolerance=2e-5)',
            "3 passes (equal to 2·10⁻⁵).",
            "identity",
        ),
        ('finding("About {a:.0%}.", True, a=a)', "About 91%.", "finding"),
    ],
)
def test_printed_lines_are_matched_by_their_text(call, line, kind):
    ((claim, code),) = split((call, [line]))["0"].claims
    assert (claim.kind, claim.statement, code) == (kind, line, call)


def test_an_identity_is_its_sentence_and_its_tolerance():
    ((claim, _),) = split(('claim_equal("Both agree", 1, 1)', ["Both agree (equal to 10⁻¹²)."]))[
        "0"
    ].claims
    assert (claim.sentence, claim.tolerance) == ("Both agree", "10⁻¹²")


@pytest.mark.parametrize(
    ("call", "line", "headline"),
    [
        ('finding("{a} of {b} %.", True, a=a, b=b)', "3 of 90 %.", "3"),
        ('finding("{a} of {b} %.", True, a=a, b=b, headline="b")', "3 of 90 %.", "90 %"),
        ('finding("{a:.0%} are.", True, a=a)', "91% are.", "91%"),
        ('finding("{a:+.2f}, exactly", True, a=a)', "-1.25, exactly", "-1.25"),
        ('finding("To {a:,}.", True, a=a)', "To 4,687.", "4,687"),
    ],
)
def test_a_finding_has_a_headline(call, line, headline):
    ((claim, _),) = split((call, [line]))["0"].claims
    assert claim.headline == headline


def test_a_loop_takes_as_many_lines_as_leave_one_for_each_later_check():
    loop = 'for name in names:\n    claim(f"{name} holds.", True)'
    last = 'claim("The last holds.", True)'
    lines = ["One holds.", "Two holds.", "The last holds."]
    assert split_one(f"{loop}\n{last}", *lines)[1] == [(loop, lines[:2]), (last, lines[2:])]


@pytest.mark.parametrize(
    ("source", "printed", "problem"),
    [
        ('claim("One.", True)', ["Two."], r"no statement prints 'Two\.'"),
        ('claim("One.", True)', [], r"it printed \[\]"),
        ('claim("One.", True)', ["One.", "One."], r"it printed \['One\.', 'One\.'\]"),
        ('claim("One.", 1)\nclaim("Two.", 2)', ["Two.", "One."], r"it printed \['Two\.', 'One"),
        ("print('✓ One.')", ["One."], r"its checks \[\], in order, but no statement prints 'One"),
        ('for n in []:\n    claim("One.", n)', [], r"it printed \[\]"),
        ("%matplotlib inline", [], "expected Python, got invalid syntax"),
    ],
)
def test_a_mismatch_is_an_error_that_names_the_cell(source, printed, problem):
    with pytest.raises(CheckError, match=rf"cell 0: .*{problem}"):
        split((source, printed))
