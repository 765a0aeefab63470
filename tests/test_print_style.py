"""What the print style does to folds, on a page as small as can be."""

import io
import shutil
from pathlib import Path

import myst_nb
from browser import visiting
from conftest import ROOT
from hosting import hosting
from pypdf import PdfReader

STATIC = ROOT / "book" / "_static"
FADES_IN = Path(myst_nb.__file__).parent / "static" / "mystnb.css"
PAGE = """<!doctype html>
<link rel="stylesheet" href="mystnb.css"><link rel="stylesheet" href="print.css">
<script type="module" src="print.mjs"></script>
<div class="cell"><details class="hide"><summary>Show</summary><p>a solution</p></details></div>
"""


def test_a_reader_who_prints_a_page_gets_its_folded_solutions(browser, tmp_path):
    """On screen they fade in, and paper is drawn in the moment in which they are opened."""
    for style in (FADES_IN, STATIC / "print.css", STATIC / "print.mjs"):
        shutil.copy(style, tmp_path)
    (tmp_path / "index.html").write_text(PAGE, encoding="utf-8")
    with hosting(tmp_path) as site, visiting(browser, site, folder=tmp_path) as visit:
        page = visit.open("index.html")
        assert not page.get_by_text("a solution").is_visible()
        printed = PdfReader(io.BytesIO(page.pdf()))
    assert "a solution" in printed.pages[0].extract_text()
