"""What a published book needs beside its pages, and the book on paper: `make book` first."""

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

import nbformat
import print_book
import pytest
from addresses import addresses
from browser import NARROW, WIDE, visiting
from bs4 import BeautifulSoup
from conftest import HTML, PATIENCE, ROOT
from draw_social_card import HEIGHT, TOUCH, WIDTH
from install_cells import install_text, with_install_cell
from PIL import Image
from publishing import LONGEST, shortened
from pypdf import PdfReader

from stepgrader.exercises import ORDER, as_text, released

PAPER_WIDTH = 665  # pixels of an A4 page between its margins
KNOWN = addresses()
NOTEBOOKS = sorted([*ROOT.glob("book/*.ipynb"), *ROOT.glob("exercises/*/*.ipynb")])
NAMES = [path.relative_to(ROOT).as_posix() for path in NOTEBOOKS]


def soup(path: Path) -> BeautifulSoup:
    return BeautifulSoup(path.read_text(encoding="utf-8"), "html.parser")


@pytest.fixture(scope="module")
def pages() -> dict[str, BeautifulSoup]:
    """Return the pages by name, those of the table of contents and the others."""
    found = {path.name: soup(path) for path in sorted(HTML.glob("*.html"))}
    if "index.html" not in found:
        pytest.fail(f"no pages in {HTML}: run make book")
    return found


def tracked() -> list[str]:
    listed = subprocess.run(
        ["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=True
    )
    return [name for name in listed.stdout.split("\0") if name and (ROOT / name).is_file()]


# The address.


def test_the_addresses_stand_in_one_place():
    """All else is made from there: cells by a tool, pages by the build, CITATION names none."""
    wanted = re.compile(rb"github\.com/seqbook\b|seqbook\.github\.io")
    found = {name for name in tracked() if wanted.search((ROOT / name).read_bytes())}
    made = {name for name in found if name.endswith(".ipynb")}
    assert found - made == {"_config.yml"}
    install = install_text()
    for name in made:
        cells = json.loads((ROOT / name).read_text(encoding="utf-8"))["cells"]
        sources = ["".join(cell["source"]) for cell in cells if cell["id"] != "install"]
        assert KNOWN.repository in install
        assert not any(wanted.search(source.encode()) for source in sources), name


@pytest.mark.parametrize("name", NAMES)
def test_the_first_code_cell_installs_the_package(name):
    text = (ROOT / name).read_text(encoding="utf-8")
    notebook = nbformat.reads(text, as_version=4)
    first = next(cell for cell in notebook.cells if cell.cell_type == "code")
    assert (first.id, first.source) == ("install", install_text())
    assert (first.metadata, first.outputs) == ({"tags": ["remove-cell"]}, [])
    assert nbformat.writes(with_install_cell(notebook)) + "\n" == text


@pytest.mark.parametrize("name", ORDER)
def test_students_get_the_cell_too(name):
    cells = released(name).notebook["cells"]
    first = next(cell for cell in cells if cell["cell_type"] == "code")
    assert (first["id"], "".join(first["source"])) == ("install", install_text())


def test_no_page_shows_the_cell(pages):
    for name, page in pages.items():
        assert "find_spec" not in page.get_text(), name


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
    local = {"PIP_NO_BUILD_ISOLATION": "0", "PIP_NO_INDEX": "1", "IPYTHONDIR": str(folder / ".ip")}
    done = subprocess.run(
        [python, "-c", RUN_CELL, cell],
        cwd=folder,
        env={**os.environ, **local},
        capture_output=True,
        text=True,
        timeout=5 * PATIENCE,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    lines = done.stdout.splitlines()
    return lines[:-3], dict(line.split(": ") for line in lines[-3:])


def test_the_cell_does_nothing_where_the_package_is(tmp_path):
    printed, found = run_install_cell(Path(sys.executable), tmp_path, install_text())
    assert printed == []
    assert found["folder"] == str(tmp_path.resolve())
    assert sorted(path.name for path in tmp_path.iterdir() if path.name != ".ip") == ["cell.py"]


def test_the_cell_fetches_package_and_results_where_they_are_missing(tmp_path):
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
    machine = tmp_path / "machine"
    venv.create(machine, with_pip=False)
    (here,) = machine.glob("lib/python*/site-packages")
    # All that is installed here but the package itself, whose own .pth file is not read there.
    (here / "others.pth").write_text(os.path.dirname(os.path.dirname(pytest.__file__)) + "\n")
    content = tmp_path / "content"
    content.mkdir()

    source = install_text().replace(KNOWN.repository, repository.as_uri())
    _, found = run_install_cell(machine / "bin" / "python", content, source)
    assert Path(found["package"]).is_relative_to(machine)
    assert found["folder"] == str(content.resolve() / KNOWN.folder / "book")
    assert found["results"] == "True"

    # The notebook's kernel starts again: nothing is fetched, the results are found.
    printed, found = run_install_cell(machine / "bin" / "python", content, source)
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


def test_every_chapter_starts_on_colab_and_binder(pages):
    files = set(tracked())
    for path in ROOT.glob("book/*.ipynb"):
        links = pages[f"{path.stem}.html"].select(".article-header-buttons a[href]")
        named = {link.get_text(strip=True): link["href"] for link in links}
        for name in ("Run on Colab", "Run on Binder"):
            assert files_of(named[name]) == f"book/{path.name}"
        assert f"book/{path.name}" in files
        download = HTML / named["Notebook (.ipynb)"]
        assert download.read_bytes() == path.read_bytes()
        assert named["Whole book (.pdf)"] == KNOWN.published + print_book.PDF_NAME


def test_every_exercise_is_led_to_from_its_chapter(pages):
    """On Colab it is the notebook for students, and so is the one to download."""
    files, led = set(tracked()), set()
    for path in ROOT.glob("book/*.ipynb"):
        for paragraph in pages[f"{path.stem}.html"].select("p.exercise-link"):
            assert paragraph.get_text().startswith("Write it yourself: ")
            colab, download = (link["href"] for link in paragraph.find_all("a")[:2])
            name = Path(files_of(colab)).stem
            assert files_of(colab) == f"src/seqbook/exercises/{name}.ipynb"
            assert files_of(colab) in files
            assert (HTML / download).read_text("utf-8") == as_text(released(name).notebook)
            assert name.startswith(path.stem)
            led.add(name)
    assert led == set(ORDER)


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


def listed() -> list[str]:
    tree = ElementTree.parse(HTML / "sitemap.xml")
    return [place.text for place in tree.iterfind("{*}url/{*}loc")]


def meta(page: BeautifulSoup, name: str) -> str | None:
    tag = page.find("meta", attrs={"name": name}) or page.find("meta", attrs={"property": name})
    return tag and tag["content"]


def test_the_site_map_lists_every_page_and_nothing_else(pages):
    shown = {name for name, page in pages.items() if meta(page, "robots") != "noindex"}
    names = [unquote(place.removeprefix(KNOWN.published)) or "index.html" for place in listed()]
    assert all(place.startswith(KNOWN.published) for place in listed())
    assert sorted(names) == sorted(shown)
    assert {f"{path.stem}.html" for path in ROOT.glob("book/*.ipynb")} < shown
    assert shown.isdisjoint({"404.html", "search.html", "genindex.html"})
    assert (HTML / "robots.txt").read_text().splitlines()[-1] == (
        f"Sitemap: {KNOWN.published}sitemap.xml"
    )


def test_every_page_says_what_a_link_to_it_shows(pages):
    descriptions = []
    for place in listed():
        page = pages[place.removeprefix(KNOWN.published) or "index.html"]
        text = meta(page, "description")
        descriptions.append(text)
        assert 20 <= len(text) <= LONGEST
        assert not re.search(r"[\\$<>{}]", text)
        assert meta(page, "og:description") == text
        assert meta(page, "og:title")
        assert meta(page, "twitter:card") == "summary_large_image"
        assert meta(page, "og:url") == place == page.find("link", rel="canonical")["href"]
        card = meta(page, "og:image").removeprefix(KNOWN.published)
        with Image.open(HTML / card) as picture:
            assert picture.size == (WIDTH, HEIGHT) == (1200, 630)
        size = meta(page, "og:image:width"), meta(page, "og:image:height")
        assert size == (str(WIDTH), str(HEIGHT))
        assert len(meta(page, "og:image:alt")) > 20
    assert len(set(descriptions)) == len(descriptions)


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
def test_a_lost_reader_finds_the_start_from_any_address(browser, site, width, scheme):
    with visiting(browser, site, width=width, scheme=scheme) as visit:
        # The published host, which its links name, is this folder here.
        visit.page.route(
            f"{KNOWN.published}**",
            lambda route: route.fulfill(
                path=HTML
                / (urlsplit(route.request.url.removeprefix(KNOWN.published)).path or "index.html")
            ),
        )
        page = visit.open("deep/down/nowhere.html")
        assert visit.problems[0].startswith("404: ")
        assert visit.requested == [f"{site}deep/down/nowhere.html"]
        assert "not in the book" in page.locator("h1").inner_text()
        assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
        assert visit.axe() == []
        assert [link.get_attribute("href") for link in page.locator("li a").all()] == listed()
        page.get_by_label("Words to look for").fill("forget gate")
        page.keyboard.press("Enter")
        page.wait_for_url(f"{KNOWN.published}search.html?q=forget+gate")
        page.goto(f"{site}deep/down/nowhere.html")
        page.get_by_role("link", name="the start of").click()
        page.wait_for_url(KNOWN.published)
        assert page.locator("h1").first.inner_text().startswith("Sequence Models")


# Paper.


@pytest.mark.parametrize("script", [True, False], ids=["script", "no script"])
def test_paper_shows_what_is_read_and_nothing_else(browser, site, script):
    with visiting(browser, site, width=PAPER_WIDTH, scheme="dark", script=script) as visit:
        page = visit.open("lstm.html")
        folded = page.locator("details.hide")
        assert folded.count() >= 4
        assert not folded.first.locator(".highlight").is_visible()
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
            shown = [found for found in page.locator(menu).all() if found.is_visible()]
            assert shown == [], menu
        assert page.locator("article h1").is_visible()
        for fold in folded.all():
            assert fold.locator(".highlight").bounding_box()["height"] > 15
        assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
        code = "[...document.querySelectorAll('article pre')]"
        assert page.evaluate(f"{code}.every((pre) => pre.scrollWidth <= pre.clientWidth + 1)")
        dark = "getComputedStyle(document.querySelector('article p')).color"
        text = [int(part) for part in re.findall(r"\d+", page.evaluate(dark))][:3]
        assert max(text) < 100, "pale text on white paper"
        page.emulate_media(media="screen")
        if script:
            page.wait_for_function("document.documentElement.dataset.theme === 'dark'")
        assert not folded.first.locator(".highlight").is_visible()


@pytest.fixture(scope="module")
def book(pages, browser, tmp_path_factory) -> PdfReader:
    """Print three pages of the book: its start, a chapter, and one of the back matter."""
    target = tmp_path_factory.mktemp("paper") / "book.pdf"
    command = [sys.executable, ROOT / "tools" / "print_book.py", "--html", HTML, target]
    done = subprocess.run(
        [*command, "--only", "index", "lstm", "data"],
        capture_output=True,
        text=True,
        timeout=5 * PATIENCE,
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert re.search(r": \d+ pages, \d+ links within, ", done.stdout)
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
    shown = soup(HTML / "lstm.html").select("figure img")
    assert len(pictures) >= len([tag for tag in shown if not tag["src"].endswith(".svg")])


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
    assert f"{KNOWN.published}bptt.html" in outside


def test_without_a_built_book_the_tool_says_what_to_do(tmp_path, capsys):
    assert print_book.main(["--html", str(tmp_path)]) == 1
    assert "make book" in capsys.readouterr().err
