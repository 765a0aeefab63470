"""The last line of `make test`, from reports that pytest itself writes."""

import re
import subprocess
import sys

import pytest
from conftest import ROOT
from summarize_tests import REPORTS, summarize

TESTS = """
import pytest

def test_one(): pass

@pytest.mark.parametrize("x", range(3))
def test_page(x): pytest.skip("no browser:\\n  none is on PATH")

@pytest.mark.skipif(True, reason="no sandbox: bubblewrap needs Linux")
def test_sandbox(): pass
"""


@pytest.fixture(scope="module")
def report(tmp_path_factory):
    """The report of those tests."""
    folder = tmp_path_factory.mktemp("tested")
    (folder / "test_it.py").write_text(TESTS)
    command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "--junit-xml=report.xml"]
    subprocess.run(command, cwd=folder, check=True, capture_output=True)
    return (folder / "report.xml").read_text(encoding="utf-8")


@pytest.fixture
def folder(tmp_path, report):
    for name in REPORTS:
        (tmp_path / f"{name}.xml").write_text(report, encoding="utf-8")
    return tmp_path


def test_the_line_counts_what_passed_and_gives_each_reason_to_skip(folder):
    assert summarize(folder) == (
        "Passed: 1 tests of the package, 1 tests of pages, 1 cells of notebooks, "
        "1 cells again with portable instructions. Skipped: 16: "
        "12 (no browser: none is on PATH); 4 (no sandbox: bubblewrap needs Linux)"
    )


def test_where_nothing_is_skipped_the_line_says_so(folder, report):
    passing = re.sub(r"<skipped.*?</skipped>", "", report, flags=re.DOTALL)
    for name in REPORTS:
        (folder / f"{name}.xml").write_text(passing, encoding="utf-8")
    assert summarize(folder).endswith(
        "5 tests of pages, 5 cells of notebooks, "
        "5 cells again with portable instructions. Skipped: 0"
    )


def test_a_missing_report_is_an_error(folder):
    (folder / "site.xml").unlink()
    with pytest.raises(FileNotFoundError):
        summarize(folder)


def test_make_test_sums_up_every_report_that_it_writes_and_nothing_after_it():
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    written = re.findall(r"--junit-xml=\$\(REPORTS\)/([\w-]+)\.xml", makefile)
    assert sorted(written) == sorted(REPORTS)
    recipe = re.search(r"^test:.*\n((?:\t.*\n)+)", makefile, flags=re.MULTILINE)[1]
    assert "tools/summarize_tests.py $(REPORTS)" in recipe.splitlines()[-1]
