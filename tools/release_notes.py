"""Print the changelog's section on a release, if its tag is the version of the package.

Usage: python tools/release_notes.py TAG
"""

import re
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]
HEADING = re.compile(
    r"^## \[(?P<version>[^]]+)\](?: - (?P<date>\d{4}-\d{2}-\d{2}))?$", re.MULTILINE
)


def package_version() -> str:
    """Return the version of the package without importing it, which needs an environment."""
    text = (ROOT / "src" / "seqbook" / "__init__.py").read_text(encoding="utf-8")
    (version,) = re.findall(r'^__version__ = "(.+)"$', text, flags=re.MULTILINE)
    return version


def releases(changelog: str) -> dict[str, tuple[str | None, str]]:
    """Return the date and the text of each section of a changelog, by version, newest first."""
    headings = list(HEADING.finditer(changelog))
    ends = [*(heading.start() for heading in headings[1:]), len(changelog)]
    return {
        heading["version"]: (heading["date"], changelog[heading.end() : end].strip())
        for heading, end in zip(headings, ends, strict=True)
    }


def release_notes(tag: str) -> str:
    """Return the notes of the release with this tag.

    Raises:
        ValueError: The tag is not the package's version, or the changelog says nothing of it.
    """
    version = package_version()
    if tag != f"v{version}":
        raise ValueError(f"tag: expected v{version}, the version of the package, got {tag}")
    date, notes = releases((ROOT / "CHANGELOG.md").read_text(encoding="utf-8")).get(
        version, ("", "")
    )
    if not date or not notes:
        raise ValueError(f"CHANGELOG.md: expected a dated section [{version}] with text")
    return notes


if __name__ == "__main__":
    try:
        print(release_notes(sys.argv[1]))
    except ValueError as error:
        sys.exit(str(error))
