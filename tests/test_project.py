"""What holds the project together: one version, pinned actions, dependencies, forms, links."""

import re
import tomllib
from importlib.metadata import metadata, version

import pytest
import release_notes
import yaml
from check_links import broken
from conftest import ROOT
from how_to_cite import read_citation
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.version import Version

import seqbook

PYPROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
PROJECT = PYPROJECT["project"]
WORKFLOWS = sorted((ROOT / ".github" / "workflows").glob("*.yml"))
TEMPLATES = sorted((ROOT / ".github" / "ISSUE_TEMPLATE").glob("*.yml"))
FORMS = [path for path in TEMPLATES if path.stem != "config"]
DOCUMENTS = sorted(ROOT.glob("*.md"))


def listed(name: str) -> list[Requirement]:
    """Return what a file of requirements lists."""
    lines = (ROOT / name).read_text(encoding="utf-8").splitlines()
    lines = [line.partition("#")[0].strip() for line in lines]
    return [Requirement(line) for line in lines if line]


# Version and changelog.


def test_the_version_is_stated_in_the_package_and_what_repeats_it_agrees():
    assert "version" in PROJECT["dynamic"]
    assert PYPROJECT["tool"]["setuptools"]["dynamic"]["version"] == {"attr": "seqbook.__version__"}
    assert release_notes.package_version() == seqbook.__version__
    assert read_citation()["version"] == seqbook.__version__


def test_the_changelog_tells_of_this_release_on_its_day():
    releases = release_notes.releases((ROOT / "CHANGELOG.md").read_text(encoding="utf-8"))
    unreleased, latest, *_ = releases
    assert (unreleased, latest) == ("Unreleased", seqbook.__version__)
    assert releases[latest][0] == read_citation()["date-released"]
    assert release_notes.release_notes(f"v{seqbook.__version__}") == releases[latest][1]


def test_a_release_needs_the_tag_of_its_version_and_notes(monkeypatch):
    with pytest.raises(ValueError, match=r"tag: expected v\d+\.\d+\.\d+, .* got v99"):
        release_notes.release_notes("v99")
    monkeypatch.setattr(release_notes, "package_version", lambda: "99.0.0")
    with pytest.raises(ValueError, match=r"expected a dated section \[99\.0\.0\] with text"):
        release_notes.release_notes("v99.0.0")


# Dependencies.


def test_the_dependencies_of_the_package_are_pinned():
    """The package and its extras name what `requirements.in` lists, which all is locked."""
    needed = [*PROJECT["dependencies"]]
    for extra in PROJECT["optional-dependencies"].values():
        needed += extra
    needed = {Requirement(line).name: Requirement(line).specifier for line in needed}
    chosen = {requirement.name: requirement.specifier for requirement in listed("requirements.in")}
    locked = {requirement.name: requirement.specifier for requirement in listed("requirements.txt")}
    assert needed.keys() == chosen.keys() <= locked.keys()
    for name, specifier in locked.items():
        (pin,) = specifier
        assert pin.operator == "=="
        for wider in (needed.get(name), chosen.get(name)):
            assert wider is None or pin.version in wider, name


def test_pinned_releases_support_the_oldest_python():
    oldest = PROJECT["requires-python"].removeprefix(">=") + ".0"
    required = {
        requirement.name: metadata(requirement.name).get("Requires-Python", "")
        for requirement in listed("requirements.txt")
    }
    assert [
        name for name, versions in required.items() if oldest not in SpecifierSet(versions)
    ] == []


def test_torch_is_accepted_from_the_release_that_the_tests_run_with():
    """A release before it would be untested, and later ones must not be forbidden."""
    (torch,) = [Requirement(line) for line in PROJECT["dependencies"] if line.startswith("torch")]
    (bound,) = torch.specifier
    (pin,) = next(one.specifier for one in listed("requirements.txt") if one.name == "torch")
    assert bound.operator == ">="
    assert Version(bound.version) == Version(pin.version)
    assert Version(version("torch")).release == Version(pin.version).release


# Workflows.


@pytest.mark.parametrize("path", WORKFLOWS, ids=[path.stem for path in WORKFLOWS])
def test_actions_are_pinned_by_their_commit_and_say_which_release_it_is(path):
    text = path.read_text(encoding="utf-8")
    for used in re.findall(r"uses: *(.*)", text):
        local = used.startswith("./.github/workflows/")
        assert local or re.fullmatch(r"[\w/-]+@[0-9a-f]{40} # v\d+\.\d+\.\d+", used), used
    assert yaml.safe_load(text)["permissions"] == {"contents": "read"}


def test_an_action_has_one_pin():
    pins = {}
    for path in WORKFLOWS:
        for name, pin in re.findall(r"uses: ([\w/-]+)@(.*)", path.read_text(encoding="utf-8")):
            assert pins.setdefault(name, pin) == pin, (path.name, name)
    assert len(pins) >= 4


def test_ci_tests_the_oldest_and_the_newest_python():
    (path,) = [path for path in WORKFLOWS if path.stem == "book"]
    tested = yaml.safe_load(path.read_text())["jobs"]["test"]["strategy"]["matrix"]["python"]
    named = re.findall(r"Python :: (3\.\d+)", "\n".join(PROJECT["classifiers"]))
    assert PROJECT["requires-python"] == f">={tested[0]}"
    assert [tested[0], tested[-1]] == [named[0], named[-1]]


def test_ci_calls_make_test_and_nothing_else():
    lines = (ROOT / ".ci" / "run").read_text(encoding="utf-8").splitlines()
    commands = [line for line in lines if line and not line.startswith(("#", "set ", "cd "))]
    assert commands == ["make test"]


# Forms and documents.


@pytest.mark.parametrize("path", FORMS, ids=[path.stem for path in FORMS])
def test_a_form_for_issues_asks_for_what_is_needed(path):
    form = yaml.safe_load(path.read_text(encoding="utf-8"))
    assert form["name"]
    assert form["description"]
    fields = [field for field in form["body"] if field["type"] != "markdown"]
    assert all(field["attributes"]["label"] for field in fields)
    assert any(field.get("validations", {}).get("required") for field in fields)
    ids = [field["id"] for field in fields]
    assert len(ids) == len(set(ids))


@pytest.mark.parametrize("path", DOCUMENTS, ids=[path.stem for path in DOCUMENTS])
def test_a_document_links_and_names_existing_files(path):
    text = path.read_text(encoding="utf-8")
    for target in re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", text):
        assert (path.parent / target).exists(), target
    for code in re.findall(r"`((?:tools|tests|benchmarks|\.github|\.ci)/[\w./-]+)`", text):
        assert (ROOT / code).exists(), code


def test_documents_name_only_commands_that_the_makefile_has():
    targets = re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text("utf-8"), flags=re.MULTILINE)
    named = re.findall(r"`make ([a-z-]+)", "\n".join(path.read_text("utf-8") for path in DOCUMENTS))
    assert set(named) <= set(targets)
    assert {"book", "test"} <= set(named)


# Links to other sites.


def test_a_site_that_refuses_robots_is_not_a_broken_link():
    template = '{"filename": "a.md", "lineno": 3, "status": "%s", "uri": "%s", "info": "%s"}'
    record = [
        ("working", "https://a.example/", ""),
        ("broken", "https://b.example/", "403 Client Error: Forbidden for url"),
        ("broken", "https://c.example/403", "404 Client Error: Not Found for url"),
        ("timeout", "https://d.example/", "timed out"),
        ("unchecked", "#here", ""),
    ]
    assert broken("\n".join(template % line for line in record)) == [
        "a.md:3: https://c.example/403: 404 Client Error: Not Found for url",
        "a.md:3: https://d.example/: timed out",
    ]
