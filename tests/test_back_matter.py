"""The pages after the chapters: glossary, references, status of notebooks, how to cite."""

import json
import re
from collections import Counter
from itertools import pairwise

import pytest
import record_status
from conftest import CHAPTERS, ROOT, make_notebook, write
from execute_notebooks import execute
from how_to_cite import bibtex, read_citation
from pybtex.database import parse_file
from stored_notebooks import StoredClaim, code_cells, read_notebook, stored_claims, title_of

BOOK = ROOT / "book"
HANGUL = re.compile("[가-힣]")


def prose(path) -> str:
    """Return what a reader of a page reads as text."""
    if path.suffix == ".md":
        return path.read_text(encoding="utf-8")
    cells = read_notebook(path)["cells"]
    return "\n\n".join("".join(c["source"]) for c in cells if c["cell_type"] == "markdown")


def glossary() -> list[tuple[str, str, str]]:
    """Return each term in English, in Korean, and what is said of it."""
    text = prose(BOOK / "glossary.md")
    body = re.search(r"```\{glossary\}\n(.*?)\n```", text, flags=re.DOTALL)[1]
    return [tuple(entry.split("\n", 2)) for entry in body.split("\n\n")]


def linked_terms(text: str) -> list[str]:
    """Return the terms that a text links to, in small letters."""
    roles = re.findall(r"\{term\}`([^`]+)`", text)
    return [re.sub(r".*<(.+)>", r"\1", role, flags=re.DOTALL).lower() for role in roles]


def test_every_term_has_a_korean_one_and_a_place_where_it_is_introduced():
    for english, korean, meaning in glossary():
        assert not HANGUL.search(english)
        assert HANGUL.search(korean), f"{english}: no Korean term"
        assert re.search(r"\[Chapter \d+: [^]]+\]\(\w+\.ipynb#[\w-]+\)\.$", meaning), english


def test_terms_are_in_the_order_of_the_alphabet_and_none_twice():
    terms = [english.lower() for english, _, _ in glossary()]
    assert all(first < second for first, second in pairwise(terms))


def test_every_term_is_linked_from_a_chapter_and_no_chapter_links_one_twice():
    used = set()
    for path in CHAPTERS:
        counts = Counter(linked_terms(prose(path)))
        assert {term: n for term, n in counts.items() if n > 1} == {}, path.name
        used |= set(counts)
    assert used == {english.lower() for english, _, _ in glossary()}


def test_a_chapter_links_a_term_where_its_name_first_stands():
    """A term is linked no later than the first bold occurrence, which is where it is defined."""
    for path in CHAPTERS:
        text = prose(path)
        for english, _, _ in glossary():
            bold = re.search(rf"\*\*{re.escape(english)}\*\*", text, flags=re.IGNORECASE)
            if bold:
                assert english.lower() in linked_terms(text[: bold.start()]), (path.name, english)


def citations(text: str) -> set[str]:
    roles = re.findall(r"\{cite:[pt]\}`([^`]+)`", text)
    return {key.strip() for role in roles for key in role.split(",")}


def test_every_reference_is_cited_and_every_citation_has_its_reference():
    cited = [citations(prose(path)) for path in CHAPTERS]
    assert all(cited), "a chapter without a paper"
    assert set().union(*cited) == set(parse_file(BOOK / "references.bib").entries)


def test_every_reference_is_complete():
    venue = {"article": "journal", "inproceedings": "booktitle", "misc": "howpublished"}
    for key, entry in parse_file(BOOK / "references.bib").entries.items():
        assert entry.persons.get("author"), key
        assert {"title", "year", venue[entry.type]} <= set(entry.fields), key
        locators = {"doi", "url", "pages"} & set(entry.fields)
        assert locators, f"{key}: nothing by which to find it"
        if entry.type == "article" and "arXiv" not in entry.fields["journal"]:
            assert {"volume", "pages"} <= set(entry.fields), key


def status() -> dict:
    return json.loads((BOOK / "status.json").read_text(encoding="utf-8"))


def test_the_status_lists_exactly_the_notebooks_with_what_they_store():
    notebooks = {
        path.relative_to(ROOT).as_posix(): read_notebook(path) for path in record_status.notebooks()
    }
    entries = status()["notebooks"]
    assert set(entries) == set(notebooks), "run make status"
    for name, notebook in notebooks.items():
        entry = entries[name]
        assert entry["claims"] == len(stored_claims(notebook)), f"{name}: run make status"
        assert entry["code_cells"] == len(code_cells(notebook)), f"{name}: run make status"
        assert entry["bound"] == notebook["metadata"]["seqbook"]["runs_within_seconds"]
        assert 0 < entry["seconds"] <= entry["bound"]


def test_the_status_says_on_what_it_was_recorded():
    recorded = status()
    assert recorded["processor"]
    assert recorded["cores"] >= 1
    pins = (ROOT / "requirements.txt").read_text(encoding="utf-8")
    for package in ("torch", "numpy", "matplotlib"):
        version = recorded["versions"][package].partition("+")[0]
        assert re.search(rf"^{package}=={re.escape(version)}$", pins, flags=re.MULTILINE), package


def make_stored(folder, printed="✓ Two is two."):
    """Store a notebook that claims, and return its path below a book of its own."""
    (folder / "book").mkdir(exist_ok=True)
    notebook = make_notebook(first=f"print({printed!r})", second="1 + 1")
    path = write(notebook, folder / "book" / "page.ipynb")
    execute(path)
    return path


@pytest.fixture
def recorder(tmp_path, monkeypatch):
    monkeypatch.setattr(record_status, "ROOT", tmp_path)
    monkeypatch.setattr(record_status, "RECORD", tmp_path / "book" / "status.json")
    monkeypatch.setattr(record_status, "notebooks", lambda: sorted(tmp_path.glob("book/*.ipynb")))
    return record_status


def test_recording_runs_the_notebook_and_leaves_it_as_it_is(recorder, tmp_path, monkeypatch):
    path = make_stored(tmp_path)
    before = path.read_bytes()
    assert recorder.main([]) == 0
    content = json.loads(recorder.RECORD.read_text(encoding="utf-8"))
    entry = content["notebooks"]["book/page.ipynb"]
    assert (entry["claims"], entry["code_cells"], entry["bound"]) == (1, 2, 60)
    assert 0 < entry["seconds"] < 60
    assert content["versions"]["Python"]
    assert path.read_bytes() == before
    # On another machine one notebook alone would mix times that can't be compared.
    monkeypatch.setattr(recorder, "processor_name", lambda: "another one")
    assert recorder.main([str(path)]) == 1
    assert json.loads(recorder.RECORD.read_text(encoding="utf-8")) == content


def test_a_notebook_that_prints_other_claims_than_it_stores_is_not_recorded(
    recorder, tmp_path, capsys
):
    path = make_stored(tmp_path)
    text = path.read_text(encoding="utf-8")
    path.write_text(text.replace('"✓ Two is two.\\n"', '"✓ Two is three.\\n"'), encoding="utf-8")
    assert recorder.main([]) == 1
    assert "other claims" in capsys.readouterr().err
    assert not recorder.RECORD.exists()


def test_claims_are_counted_within_their_cells():
    notebook = make_notebook(one="", two="")
    output = {"output_type": "stream", "name": "stdout"}
    notebook.cells[1].outputs = [
        {**output, "text": "before\n✓ One.\n✓ Two.\n"},
        {**output, "name": "stderr", "text": "✓ No claim.\n"},
    ]
    notebook.cells[2].outputs = [{**output, "text": "✓ Three.\nnot ✓ one\n"}]
    assert title_of(notebook) == "A page"
    assert stored_claims(notebook) == [
        StoredClaim("claim-one-1", "One."),
        StoredClaim("claim-one-2", "Two."),
        StoredClaim("claim-two-1", "Three."),
    ]


def test_the_citation_names_the_book_as_its_configuration_does():
    citation = read_citation()
    config = (ROOT / "_config.yml").read_text(encoding="utf-8")
    assert f"title: {citation['title']}\n" in config
    assert f"author: {citation['name']}\n" in config
    assert re.fullmatch(r"\d{4}-\d{2}-\d{2}", citation["date-released"])


def test_the_entry_for_bibtex_can_be_read(tmp_path):
    path = tmp_path / "seqbook.bib"
    path.write_text(bibtex(read_citation(), "https://example.org/"), encoding="utf-8")
    (entry,) = parse_file(path).entries.values()
    assert entry.fields["title"] == read_citation()["title"]
    assert entry.fields["url"] == "https://example.org/"
    assert [str(person) for person in entry.persons["author"]] == ["{The seqbook authors}"]
