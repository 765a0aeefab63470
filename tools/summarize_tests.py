"""Sum up in one line what `make test` ran: what passed, and what was skipped for which reason.

Usage: python tools/summarize_tests.py FOLDER

Reads the JUnit reports ``unit.xml``, ``site.xml``, ``nbval.xml`` and ``nbval-portable.xml``.
"""

import sys
from collections import Counter
from pathlib import Path
from xml.etree import ElementTree

REPORTS = {
    "unit": "tests of the package",
    "site": "tests of pages",
    "nbval": "cells of notebooks",
    "nbval-portable": "cells again with portable instructions",
}


def summarize(folder: Path) -> str:
    """Return the summary, one line of text.

    Raises:
        FileNotFoundError: A report is missing.
    """
    passed: list[str] = []
    skipped: Counter[str] = Counter()
    for name, description in REPORTS.items():
        cases = list(ElementTree.parse(folder / f"{name}.xml").iter("testcase"))
        reasons = [mark.get("message", "") for case in cases for mark in case.iter("skipped")]
        skipped.update(" ".join(reason.split()) for reason in reasons)
        passed.append(f"{len(cases) - len(reasons):,} {description}")
    line = f"Passed: {', '.join(passed)}. Skipped: {skipped.total():,}"
    if skipped:
        line += ": " + "; ".join(f"{count:,} ({reason})" for reason, count in skipped.most_common())
    return line


if __name__ == "__main__":
    print(summarize(Path(sys.argv[1])))
