"""The book with and without addresses, and the book on paper: `make book` first."""

import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
import venv
from pathlib import Path
from urllib.parse import parse_qs, unquote, urlsplit
from xml.etree import ElementTree

import install_cells
import nbformat
import print_book
import publishing
import pytest
from addresses import addresses
from browser import NARROW, WIDE, visiting
from bs4 import BeautifulSoup
from conftest import HTML, PATIENCE, ROOT, make_notebook
from draw_social_card import HEIGHT, TOUCH, WIDTH
from hosting import hosting
from install_cells import WITH_ADDRESS, WITHOUT_ADDRESS, install_text, with_install_cell
from PIL import Image
from publishing import LONGEST, shortened
from pypdf import PdfReader

from seqbook.exercises import COURSE
from stepgrader.exercises import as_text

PAPER_WIDTH = 665  # pixels of an A4 page between its margins
UNKNOWN = addresses({})
KNOWN = addresses(
    {
        "BOOK_REPOSITORY": "https://github.com/example/sequences",
        "BOOK_BRANCH": "published",
        "BOOK_SITE": "https://example.org/a/sequences",
    }
)
RELEASED = "src/seqbook/exercises"
NOTEBOOKS = sorted([*ROOT.glob("book/*.ipynb"), *ROOT.glob("exercises/*/*.ipynb")])
NAMES = [path.relative_to(ROOT).as_posix() for path in NOTEBOOKS]
SOME_PAGES = """\
format: jb-book
root: index
parts:
  - caption: Chapters
    numbered: true
    chapters: [file: lstm, file: gru]
  - caption: Back matter
    chapters: [file: exercises, file: cite]
"""


def soup(path: Path) -> BeautifulSoup:
    return BeautifulSoup(path.read_text(encoding="utf-8"), "html.parser")


def read_pages(folder: Path) -> dict[str, BeautifulSoup]:
    """Return the pages by name, those of the table of contents and the others."""
    return {
        path.relative_to(folder).as_posix(): soup(path)
        for path in sorted(folder.rglob("*.html"))
        if "_static" not in path.parts
    }


@pytest.fixture(scope="module")
def pages() -> dict[str, BeautifulSoup]:
    """Return the pages of a build without addresses."""
    by_name = read_pages(HTML)
    if "index.html" not in by_name:
        pytest.fail(f"no pages in {HTML}: run make book")
    return by_name


@pytest.fixture(scope="module")
def published(tmp_path_factory) -> Path:
    """Build some pages with addresses, as the workflow does, and return their folder."""
    folder = tmp_path_factory.mktemp("published")
    shutil.copytree(ROOT / "book", folder / "book")
    (folder / "src").symlink_to(ROOT / "src")
    (folder / "book" / "_toc.yml").write_text(SOME_PAGES, encoding="utf-8")
    variables = {
        "BOOK_REPOSITORY": KNOWN.repository,
        "BOOK_BRANCH": KNOWN.branch,
        "BOOK_SITE": KNOWN.site,
    }
    notebooks = sorted(folder.glob("book/*.ipynb"))
    config, beside = ROOT / "_config.yml", Path(sys.executable).parent
    for command in (
        [sys.executable, ROOT / "tools" / "install_cells.py", *notebooks],
        [beside / "jupyter-book", "build", folder / "book", "--config", config, "-q"],
    ):
        process = subprocess.run(
            [*command, *(["--path-output", folder] if "build" in command else [])],
            cwd=ROOT,
            env={**os.environ, **variables},
            capture_output=True,
            text=True,
            timeout=5 * PATIENCE,
        )
        assert process.returncode == 0, process.stderr
    return folder / "_build" / "html"


@pytest.fixture(scope="module")
def published_pages(published) -> dict[str, BeautifulSoup]:
    return read_pages(published)


def tracked() -> list[str]:
    listed = subprocess.run(
        ["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=True
    )
    return [name for name in listed.stdout.split("\0") if name and (ROOT / name).is_file()]


# The address.


def test_no_file_holds_an_address_of_the_book():
    """Nobody owns such an address until the book is published, and then anybody could claim it."""
    forbidden = re.compile(rb"github\.com/seqbook\b|seqbook\.github\.io|gitlab\.com/seqbook\b")
    assert [name for name in tracked() if forbidden.search((ROOT / name).read_bytes())] == []


def test_addresses_come_from_the_environment():
    assert UNKNOWN == ("", "main", "")
    assert KNOWN.repository == "https://github.com/example/sequences"
    assert KNOWN.folder == "sequences"
    assert KNOWN.site == "https://example.org/a/sequences/"
    assert KNOWN.on_colab("a.ipynb").endswith("/github/example/sequences/blob/published/a.ipynb")
    elsewhere = addresses({"BOOK_REPOSITORY": "https://git.example.org/a/b/"})
    assert elsewhere.repository == "https://git.example.org/a/b"
    assert elsewhere.on_colab("a.ipynb") == UNKNOWN.on_colab("a.ipynb") == ""
    for wrong in ("example/sequences", "https://", "git@example.org:a/b", "https://a.org/b c"):
        with pytest.raises(ValueError, match="BOOK_SITE: expected an address"):
            addresses({"BOOK_SITE": wrong})


@pytest.mark.parametrize("name", NAMES)
def test_the_first_code_cell_says_how_to_install_the_package(name):
    text = (ROOT / name).read_text(encoding="utf-8")
    notebook = nbformat.reads(text, as_version=4)
    first = next(cell for cell in notebook.cells if cell.cell_type == "code")
    assert (first.id, first.source) == ("install", install_text(UNKNOWN))
    assert (first.metadata, first.outputs) == ({"tags": ["remove-cell"]}, [])
    assert nbformat.writes(with_install_cell(notebook, UNKNOWN)) + "\n" == text


@pytest.mark.parametrize("name", COURSE.order)
def test_students_get_the_cell_too(name):
    notebook = nbformat.from_dict(COURSE.load(name).notebook)
    first = next(cell for cell in notebook.cells if cell.cell_type == "code")
    assert (first.id, "".join(first.source)) == ("install", install_text(UNKNOWN))


@pytest.mark.parametrize("name", ["book/lstm.ipynb", f"{RELEASED}/lstm.ipynb"])
def test_publishing_changes_the_cell_and_nothing_else(name, tmp_path, monkeypatch):
    path = tmp_path / "notebook.ipynb"
    before = (ROOT / name).read_text(encoding="utf-8")
    path.write_text(before, encoding="utf-8")
    monkeypatch.setenv("BOOK_REPOSITORY", KNOWN.repository)
    assert install_cells.main([str(path)]) == 0
    assert KNOWN.repository in path.read_text(encoding="utf-8")
    monkeypatch.delenv("BOOK_REPOSITORY")
    assert install_cells.main([str(path)]) == 0
    assert path.read_text(encoding="utf-8") == before


def test_a_new_notebook_gets_the_cell_before_its_code():
    notebook = with_install_cell(make_notebook(one="1", two="2"), UNKNOWN)
    assert [cell.id for cell in notebook.cells] == ["title", "install", "one", "two"]


def test_no_page_shows_the_cell(pages):
    first_lines = [text.splitlines()[0] for text in (WITHOUT_ADDRESS, WITH_ADDRESS)]
    for name, page in pages.items():
        text = page.get_text()
        assert not any(line in text for line in first_lines), name


RUN_CELL = """
import os, sys
from pathlib import Path
from IPython.core.interactiveshell import InteractiveShell
InteractiveShell.instance().run_cell(Path(sys.argv[1]).read_text()).raise_error()
import seqbook
print("package:", Path(seqbook.__file__).resolve().parent)
print("folder:", Path.cwd().resolve())
print("results:", Path("../benchmarks/results").is_dir())
"""


def run_install_cell(python: Path, folder: Path, source: str) -> tuple[list[str], dict[str, str]]:
    """Run the cell as a notebook in ``folder`` does; return what it printed and what it led to."""
    cell = folder / "cell.py"
    cell.write_text(source, encoding="utf-8")
    local = {
        "PIP_NO_BUILD_ISOLATION": "0",
        "PIP_NO_INDEX": "1",
        "PYTHONPATH": "",
        "IPYTHONDIR": str(folder / ".ip"),
    }
    process = subprocess.run(
        [python, "-c", RUN_CELL, cell],
        cwd=folder,
        env={**os.environ, **local},
        capture_output=True,
        text=True,
        timeout=5 * PATIENCE,
    )
    assert process.returncode == 0, process.stdout + process.stderr
    lines = process.stdout.splitlines()
    return lines[:-3], dict(line.split(": ") for line in lines[-3:])


@pytest.mark.parametrize("known", [UNKNOWN, KNOWN])
def test_the_cell_does_nothing_where_the_package_is(tmp_path, known):
    printed, commands = run_install_cell(Path(sys.executable), tmp_path, install_text(known))
    assert printed == []
    assert commands["folder"] == str(tmp_path.resolve())
    assert sorted(path.name for path in tmp_path.iterdir() if path.name != ".ip") == ["cell.py"]


@pytest.fixture
def machine(tmp_path) -> Path:
    """Return a Python that has all that is installed here but the package itself."""
    folder = tmp_path / "machine"
    venv.create(folder, with_pip=False)
    (site_packages,) = folder.glob("lib/python*/site-packages")
    # The package's own .pth file is not read there.
    (site_packages / "others.pth").write_text(
        os.path.dirname(os.path.dirname(pytest.__file__)) + "\n"
    )
    return folder / "bin" / "python"


def test_without_an_address_the_cell_says_how_to_install(machine, tmp_path):
    cell = tmp_path / "cell.py"
    cell.write_text(install_text(UNKNOWN), encoding="utf-8")
    local = {"IPYTHONDIR": str(tmp_path / ".ip"), "PYTHONPATH": ""}
    process = subprocess.run(
        [machine, "-c", RUN_CELL, cell],
        cwd=tmp_path,
        env={**os.environ, **local},
        capture_output=True,
        text=True,
        timeout=5 * PATIENCE,
    )
    output = " ".join((process.stdout + process.stderr).split())
    assert process.returncode != 0
    assert "This notebook needs the package seqbook." in output
    assert f'"{machine}" -m pip install -e .' in output


def test_the_cell_fetches_package_and_results_where_they_are_missing(machine, tmp_path):
    """As on Colab: torch is there, the package is not, and only the notebook was opened."""
    repository = tmp_path / "published" / KNOWN.folder
    for name in ("pyproject.toml", "README.md", "LICENSE", "src", "benchmarks/results"):
        source, target = ROOT / name, repository / name
        target.parent.mkdir(parents=True, exist_ok=True)
        (shutil.copytree if source.is_dir() else shutil.copy)(source, target)
    (repository / "book").mkdir()
    (repository / "book" / "index.md").touch()
    shutil.rmtree(next(repository.glob("src/*.egg-info"), tmp_path / "none"), ignore_errors=True)
    for command in (
        ["init", "-q", "-b", KNOWN.branch],
        ["add", "."],
        ["-c", "user.name=T", "-c", "user.email=t@example.org", "commit", "-q", "-m", "all"],
    ):
        subprocess.run(["git", *command], cwd=repository, check=True)
    content = tmp_path / "content"
    content.mkdir()

    source = install_text(KNOWN).replace(KNOWN.repository, repository.as_uri())
    _, found = run_install_cell(machine, content, source)
    assert Path(found["package"]).is_relative_to(machine.parents[1])
    assert found["folder"] == str(content.resolve() / KNOWN.folder / "book")
    assert found["results"] == "True"

    # The notebook's kernel starts again: nothing is fetched, the results are found.
    printed, found = run_install_cell(machine, content, source)
    assert [line for line in printed if "Clon" in line or "nstall" in line] == []
    assert found["results"] == "True"


# Buttons and links that start a notebook elsewhere.


def files_of(address: str) -> str:
    """Return the file of the repository that a link to Colab or Binder opens."""
    parts = urlsplit(address)
    where = f"{KNOWN.repository.removeprefix('https://github.com/')}"
    if parts.netloc == "colab.research.google.com":
        start = f"/github/{where}/blob/{KNOWN.branch}/"
        assert parts.path.startswith(start)
        return parts.path.removeprefix(start)
    assert parts.path == f"/v2/gh/{where}/{KNOWN.branch}"
    return parse_qs(parts.query)["urlpath"][0].removeprefix("lab/tree/")


def header_links(page: BeautifulSoup) -> dict[str, str]:
    links = page.select(".article-header-buttons a[href]")
    return {link.get_text(strip=True): link["href"] for link in links}


def test_without_addresses_pages_lead_to_no_address_of_the_book(pages):
    for name, page in pages.items():
        links = header_links(page).values()
        assert [link for link in links if "://" in link] == [], name
        assert not page.find("link", rel="canonical"), name
        assert not [tag for tag in page.find_all("meta") if "://" in tag.get("content", "")], name
        targets = [link["href"] for link in page.find_all("a", href=True)]
        services = ("colab.research", "mybinder", "github.com/executablebooks/jupyter-book")
        assert [link for link in targets if any(part in link for part in services)] == [], name
    assert not [name for name in publishing.FILES if (HTML / name).exists()]


def test_a_published_chapter_starts_on_colab_and_binder(published_pages, published):
    files = set(tracked())
    for name in ("lstm", "gru"):
        named = header_links(published_pages[f"{name}.html"])
        for service in ("Run on Colab", "Run on Binder"):
            assert files_of(named[service]) == f"book/{name}.ipynb"
        assert f"book/{name}.ipynb" in files
        assert named["Repository"] == KNOWN.repository
        assert named["Open issue"].startswith(f"{KNOWN.repository}/issues/")
        assert named["Whole book (.pdf)"] == KNOWN.site + print_book.PDF_NAME
        download = (published / named["Notebook (.ipynb)"]).read_text(encoding="utf-8")
        assert json.dumps(f"{KNOWN.repository}\n")[1:-1] in download


def test_every_notebook_can_be_downloaded(pages):
    for path in ROOT.glob("book/*.ipynb"):
        download = HTML / header_links(pages[f"{path.stem}.html"])["Notebook (.ipynb)"]
        assert download.read_bytes() == path.read_bytes()


def exercise_links(page: BeautifulSoup) -> list[list[str]]:
    paragraphs = page.select("p.exercise-link")
    assert all(part.get_text().startswith("Write it yourself: ") for part in paragraphs)
    return [[link["href"] for link in part.find_all("a")] for part in paragraphs]


def test_every_exercise_is_led_to_from_its_chapter(pages):
    led = set()
    for path in ROOT.glob("book/*.ipynb"):
        for download, *others in exercise_links(pages[f"{path.stem}.html"]):
            name = Path(download).stem
            assert others == ["exercises.html"]
            assert (HTML / download).read_text("utf-8") == as_text(COURSE.load(name).notebook)
            assert name.startswith(path.stem)
            led.add(name)
    assert led == set(COURSE.order)


def test_exercises_open_on_colab_where_they_are_published(published_pages):
    files = set(tracked())
    rows = published_pages["exercises.html"].select_one("table").select("tbody tr")
    of_table = [[link["href"] for link in row.find_all("a")] for row in rows]
    of_chapters = exercise_links(published_pages["lstm.html"])
    assert len(of_chapters) == 2
    for colab, download, *_ in [*of_table, *of_chapters]:
        assert files_of(colab) == f"{RELEASED}/{Path(download).stem}.ipynb"
        assert files_of(colab) in files


def test_the_table_of_exercises_states_what_the_grader_knows(pages):
    rows = pages["exercises.html"].select_one("table").select("tbody tr")
    figures = [[int(cell.get_text()) for cell in row.find_all("td")[1:]] for row in rows]
    headings = [list(COURSE.load(name).headings.values()) for name in COURSE.order]
    assert figures == [
        [len(steps), sum(step.minutes for step in steps), sum(step.points for step in steps)]
        for steps in headings
    ]


def test_binder_finds_pinned_versions():
    folder = ROOT / ".binder"
    lines = (folder / "requirements.txt").read_text(encoding="utf-8").splitlines()
    names = [line for line in lines if line and line[0] not in "#-"]
    pinned = (ROOT / "requirements.txt").read_text(encoding="utf-8")
    assert "-c ../requirements.txt" in lines
    assert all(re.search(rf"^{name}==", pinned, flags=re.MULTILINE) for name in names)
    assert {"torch", "numpy", "matplotlib", "ipykernel"} <= set(names)
    assert os.access(folder / "postBuild", os.X_OK)


# Heads, site map, icons.


def listed(folder: Path) -> list[str]:
    tree = ElementTree.parse(folder / "sitemap.xml")
    return [place.text for place in tree.iterfind("{*}url/{*}loc")]


def meta(page: BeautifulSoup, name: str) -> str | None:
    tag = page.find("meta", attrs={"name": name}) or page.find("meta", attrs={"property": name})
    return tag and tag["content"]


def of_contents(pages: dict[str, BeautifulSoup]) -> dict[str, BeautifulSoup]:
    return {name: page for name, page in pages.items() if meta(page, "robots") != "noindex"}


def test_the_site_map_lists_every_page_and_nothing_else(published_pages, published):
    places = listed(published)
    assert all(place.startswith(KNOWN.site) for place in places)
    names = [unquote(place.removeprefix(KNOWN.site)) or "index.html" for place in places]
    assert names[0] == "index.html"
    assert sorted(names) == sorted(of_contents(published_pages))
    assert set(names).isdisjoint({"404.html", "search.html", "genindex.html"})
    assert (published / "robots.txt").read_text().splitlines()[-1] == (
        f"Sitemap: {KNOWN.site}sitemap.xml"
    )


def test_every_page_has_a_description_of_its_own(pages):
    descriptions = []
    for page in of_contents(pages).values():
        text = meta(page, "description")
        descriptions.append(text)
        assert 20 <= len(text) <= LONGEST
        assert not re.search(r"[\\$<>{}]", text)
        assert meta(page, "og:description") == text
        assert meta(page, "og:title")
    assert len(set(descriptions)) == len(descriptions)


def test_a_published_page_says_what_a_link_to_it_shows(published_pages, published):
    for place in listed(published):
        page = published_pages[place.removeprefix(KNOWN.site) or "index.html"]
        assert meta(page, "twitter:card") == "summary_large_image"
        assert meta(page, "og:url") == place == page.find("link", rel="canonical")["href"]
        card = meta(page, "og:image").removeprefix(KNOWN.site)
        with Image.open(published / card) as picture:
            assert picture.size == (WIDTH, HEIGHT) == (1200, 630)
        size = meta(page, "og:image:width"), meta(page, "og:image:height")
        assert size == (str(WIDTH), str(HEIGHT))
        assert len(meta(page, "og:image:alt")) > 20


def test_the_citation_names_the_site_where_there_is_one(pages, published_pages):
    assert KNOWN.site in published_pages["cite.html"].article.get_text()
    assert "url" not in pages["cite.html"].select_one("pre").get_text()


def test_there_is_an_icon_for_every_browser(pages):
    icons = {tag["href"]: tag for tag in pages["lstm.html"].select('link[rel~="icon"]')}
    assert {Path(name).suffix for name in icons} == {".svg", ".ico"}
    (touch,) = pages["lstm.html"].select('link[rel="apple-touch-icon"]')
    with Image.open(HTML / touch["href"]) as picture:
        assert (picture.size, picture.mode) == ((TOUCH, TOUCH), "RGB")
    assert all((HTML / name).is_file() for name in icons)


@pytest.mark.parametrize(
    ("text", "short"),
    [
        ("One. Two.", "One. Two."),
        (f"{'a' * 120}. {'b ' * 60}", f"{'a' * 120}."),
        (f"Short. {'word ' * 60}", f"Short. {'word ' * 38}".strip() + "…"),
    ],
)
def test_descriptions_end_with_a_sentence_or_a_word(text, short):
    assert shortened(text) == short
    assert len(shortened(text)) <= LONGEST


# A lost reader.


@pytest.mark.parametrize("width", [WIDE, NARROW])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_a_lost_reader_finds_the_start_from_any_address(browser, published, width, scheme):
    with (
        hosting(published, below="/a/path/") as site,
        visiting(browser, site, width=width, scheme=scheme, folder=published) as visit,
    ):
        # The published host, which its links name, is this folder here.
        visit.page.route(
            f"{KNOWN.site}**",
            lambda route: route.fulfill(
                path=published
                / (urlsplit(route.request.url.removeprefix(KNOWN.site)).path or "index.html")
            ),
        )
        page = visit.open("deep/down/nowhere.html")
        assert visit.problems[0].startswith("404: ")
        assert visit.requested == [f"{site}deep/down/nowhere.html"]
        assert "not in the book" in page.locator("h1").inner_text()
        assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
        assert visit.axe() == []
        links = [link.get_attribute("href") for link in page.locator("li a").all()]
        assert links == listed(published)
        page.get_by_label("Words to look for").fill("forget gate")
        page.keyboard.press("Enter")
        page.wait_for_url(f"{KNOWN.site}search.html?q=forget+gate")
        page.goto(f"{site}deep/down/nowhere.html")
        page.get_by_role("link", name="the start of").click()
        page.wait_for_url(KNOWN.site)
        assert page.locator("h1").first.inner_text().startswith("Sequence Models")


# Paper.


@pytest.mark.parametrize("script", [True, False], ids=["script", "no script"])
def test_paper_shows_what_is_read_and_nothing_else(browser, site, script):
    with visiting(browser, site, width=PAPER_WIDTH, scheme="dark", script=script) as visit:
        page = visit.open("lstm.html")
        folded = page.locator("details.hide.above-input")
        assert folded.count() >= 4
        assert not folded.first.locator(".highlight").first.is_visible()
        page.emulate_media(media="print")
        for menu in (
            ".bd-sidebar-primary",
            ".bd-sidebar-secondary",
            ".bd-header-article",
            ".article-header-buttons",
            ".prev-next-footer",
            ".bd-footer",
            ".copybtn",
            ".headerlink",
        ):
            visible = [element for element in page.locator(menu).all() if element.is_visible()]
            assert visible == [], menu
        assert page.locator("article h1").is_visible()
        for fold in folded.all():
            code_of_cell = fold.locator(".highlight:not(.how-checked .highlight)").first
            assert code_of_cell.bounding_box()["height"] > 15
        assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
        code = "[...document.querySelectorAll('article pre')]"
        assert page.evaluate(f"{code}.every((pre) => pre.scrollWidth <= pre.clientWidth + 1)")
        dark = "getComputedStyle(document.querySelector('article p')).color"
        text = [int(part) for part in re.findall(r"\d+", page.evaluate(dark))][:3]
        assert max(text) < 100, "pale text on white paper"
        page.emulate_media(media="screen")
        if script:
            page.wait_for_function("document.documentElement.dataset.theme === 'dark'")
        assert not folded.first.locator(".highlight").first.is_visible()


@pytest.fixture(scope="module")
def book(pages, browser, tmp_path_factory) -> PdfReader:
    """Print three pages of the book: its start, a chapter, and one of the back matter."""
    target = tmp_path_factory.mktemp("paper") / "book.pdf"
    command = [sys.executable, ROOT / "tools" / "print_book.py", "--html", HTML, target]
    process = subprocess.run(
        [*command, "--only", "index", "lstm", "data"],
        env={**os.environ, "BOOK_SITE": KNOWN.site},
        capture_output=True,
        text=True,
        timeout=5 * PATIENCE,
    )
    assert (process.returncode, process.stderr) == (0, "")
    assert re.search(r": \d+ pages, \d+ links within, ", process.stdout)
    assert target.stat().st_size < 10e6
    return PdfReader(target)


def outline(book: PdfReader) -> dict[str, int]:
    flat, items = {}, list(book.outline)
    while items:
        item = items.pop(0)
        if isinstance(item, list):
            items = item + items
        else:
            flat[item.title] = book.get_destination_page_number(item)
    return flat


def test_the_pdf_holds_the_pages_in_their_order_with_bookmarks(book):
    marks = outline(book)
    titles = ["Contents", "5. Long short-term memory", "Data and licences"]
    assert [title for title in marks if title in titles] == titles
    assert 30 < len(book.pages) < 80
    for title in titles:
        assert title in book.pages[marks[title]].extract_text()
    section = next(title for title in marks if title.endswith("Short-term dependencies"))
    assert section in book.pages[marks[section]].extract_text()
    assert marks["5. Long short-term memory"] <= marks[section] < marks["Data and licences"]
    assert book.metadata.title == "Sequence Models, Nothing Taken on Faith"


def test_the_pdf_has_numbers_on_its_pages_and_in_its_contents(book):
    for number, page in enumerate(book.pages):
        foot = page.extract_text().split()
        assert (str(number + 1) in foot[-8:] or str(number + 1) in foot[:8]) == (number > 0)
    marks = outline(book)
    contents = "".join(page.extract_text() for page in book.pages[1:3])
    for title in ("5. Long short-term memory", "Data and licences"):
        assert re.search(rf"{re.escape(title)}\s*{marks[title] + 1}\b", contents)


def test_folded_solutions_and_figures_are_on_paper(book):
    text = "".join(page.extract_text() for page in book.pages)
    for line in ("def coupled_step", "def peephole_step", "alice29.txt"):
        assert line in text
    assert "Show code cell" not in text
    assert "find_spec" not in text
    first = outline(book)["5. Long short-term memory"]
    pictures = {
        hashlib.sha256(image.get_object().get_data()).hexdigest()
        for page in book.pages[first:]
        for image in (page["/Resources"].get("/XObject") or {}).values()
        if image.get_object()["/Subtype"] == "/Image"
    }
    # The figure of the chapter's opening is shown twice.
    sources = {image["src"] for image in soup(HTML / "lstm.html").select("figure img")}
    assert len(pictures) >= len([name for name in sources if not name.endswith(".svg")])


def test_links_of_the_pdf_lead_within_it_or_to_the_published_book(book):
    """None leads to the machine that printed it."""
    within, outside = [], []
    for number, page in enumerate(book.pages):
        for reference in page.get("/Annots", ()):
            annotation = reference.get_object()
            if "/Dest" in annotation:
                within.append((number, annotation["/Dest"][0].idnum))
            else:
                outside.append(annotation["/A"]["/URI"])
    numbers = {page.indirect_reference.idnum: number for number, page in enumerate(book.pages)}
    marks = outline(book)
    front = marks["Sequence Models, Nothing Taken on Faith"]
    of_contents = [numbers[target] for number, target in within if number < front]
    assert of_contents == [number for title, number in marks.items() if title != "Contents"]
    of_text = [numbers[target] for number, target in within if number >= front]
    assert {marks["5. Long short-term memory"], marks["Data and licences"]} <= set(of_text)
    assert not [address for address in outside if "127.0.0.1" in address]
    assert f"{KNOWN.site}bptt.html" in outside


def test_without_a_built_book_the_tool_says_what_to_do(tmp_path, capsys):
    assert print_book.main(["--html", str(tmp_path)]) == 1
    assert "make book" in capsys.readouterr().err
