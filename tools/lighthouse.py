"""Measure the built start page and the heaviest chapter with Lighthouse, on desktop and mobile.

The folder is served as a host serves it, compressed and below a path. Lighthouse comes from npm in
the version pinned here, so this command needs Node 18 or newer and a network at its first run; the
scores of speed depend on the machine, so CI does not run it.

Usage: python tools/lighthouse.py [FOLDER [PAGE ...]]
"""

import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from hosting import hosting, sent
from system_packages import find_browser

LIGHTHOUSE = "lighthouse@12.8.2"
WANTED = {"desktop": 95, "mobile": 90}
CATEGORIES = ("performance", "accessibility", "best-practices", "seo")
RUNS = 3  # the speed varies from run to run: the median counts


def heaviest(folder: Path) -> str:
    """Return the page whose HTML and pictures are the most to send."""

    def weight(path: Path) -> int:
        text = path.read_text(encoding="utf-8")
        pictures = {folder / name for name in re.findall(r'<img\b[^>]*\bsrc="([^"]+)"', text)}
        return len(sent(path)) + sum(len(sent(file)) for file in pictures if file.is_file())

    return max(sorted(folder.glob("*.html")), key=weight).name


def measure(address: str, device: str) -> tuple[dict[str, int], int, list[str]]:
    """Return the scores, the kilobytes sent and the audits that cost points."""
    preset = ["--preset=desktop"] if device == "desktop" else []
    with tempfile.TemporaryDirectory() as folder:
        target = Path(folder) / "report.json"
        command = ["npx", "--yes", LIGHTHOUSE, address, *preset, "--output=json", "--quiet"]
        flags = "--headless=new --no-sandbox --disable-gpu"
        command += [f"--output-path={target}", f"--chrome-flags={flags}"]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
        report = json.loads(target.read_text(encoding="utf-8"))
    scores = {name: round(100 * report["categories"][name]["score"]) for name in CATEGORIES}
    audits = report["audits"]
    costs = [
        f"{audit['id']} {audit['score']:.2f} {audit.get('displayValue', '')}".strip()
        for category in CATEGORIES
        for reference in report["categories"][category]["auditRefs"]
        if (audit := audits[reference["id"]])["score"] is not None
        and audit["score"] < 0.9
        and reference["weight"] > 0
    ]
    return scores, round(audits["total-byte-weight"]["numericValue"] / 1000), costs


def main(folder: str = "_build/html", *pages: str) -> int:
    """Print a table of scores; the exit code is 1 if one is lower than it should be."""
    if not shutil.which("npx"):
        print("expected Node's npx on the path, found none", file=sys.stderr)
        return 2
    if browser := find_browser():
        os.environ.setdefault("CHROME_PATH", browser)
    low = 0
    print(f"{'page':24}{'device':9}" + "".join(f"{name:>16}" for name in CATEGORIES) + "    kB")
    with hosting(Path(folder), below="/book/") as site:
        for page in pages or ("index.html", heaviest(Path(folder))):
            for device, wanted in WANTED.items():
                runs = sorted(
                    (measure(site + page, device) for _ in range(RUNS)),
                    key=lambda run: run[0]["performance"],
                )
                scores, kilobytes, costs = runs[RUNS // 2]
                low += any(score < wanted for score in scores.values())
                numbers = "".join(f"{score:>16}" for score in scores.values())
                print(f"{page:24}{device:9}{numbers}{kilobytes:>6}", flush=True)
                for cost in costs:
                    print(f"    {cost}")
    return min(low, 1)


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
