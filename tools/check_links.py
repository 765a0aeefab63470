"""Check the links of the book to other sites, which needs a network.

Usage: python tools/check_links.py

A site that answers but refuses a robot (status 403, 418 or 429, as publishers do behind DOIs) does
not count as broken. The exit code is 1 if a link is.
"""

import json
import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]
OUT = ROOT / "_build" / "links"
REFUSED = re.compile(r"\b(403|418|429) (Client|Server) Error\b")


def broken(record: str) -> list[str]:
    """Return the broken links in what Sphinx's ``linkcheck`` wrote, one JSON object in a line."""
    links = map(json.loads, record.splitlines())
    return [
        f"{link['filename']}:{link['lineno']}: {link['uri']}: {link['info']}"
        for link in links
        if link["status"] in ("broken", "timeout") and not REFUSED.search(link["info"])
    ]


def main() -> int:
    """Run Sphinx's builder and print what is broken."""
    builder: list[Path | str] = [
        "--builder",
        "custom",
        "--custom-builder",
        "linkcheck",
        "--path-output",
        OUT,
    ]
    command: list[Path | str] = [
        Path(sys.executable).with_name("jupyter-book"),
        "build",
        ROOT / "book",
        *builder,
    ]
    record = OUT / "_build" / "linkcheck" / "output.json"
    record.unlink(missing_ok=True)  # one of an earlier run
    subprocess.run([*command, "--quiet"], stdout=subprocess.DEVNULL)  # it fails if a link does
    failures = broken(record.read_text(encoding="utf-8"))
    print("\n".join(failures or ["No link to another site is broken."]))
    return bool(failures)


if __name__ == "__main__":
    sys.exit(main())
