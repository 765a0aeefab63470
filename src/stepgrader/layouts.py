"""Names as learning platforms write them into the submissions that they export."""

from __future__ import annotations

import json
import re
import unicodedata
from collections import defaultdict
from dataclasses import dataclass, field

__all__ = [
    "METADATA",
    "Owner",
    "clean_stem",
    "feedback_path",
    "is_export",
    "is_litter",
    "is_notebook_name",
    "owner",
    "submitters",
]

NOTEBOOK = re.compile(r"\.ipynb(?:\.(?:txt|json))?(?: ?\(\d+\))?\s*$", re.IGNORECASE)
COPY = re.compile(r"(?:-Copy\d+| ?\(\d+\))+$")
# What operating systems and programs leave, in lower case; and how such names begin.
LITTER = frozenset(
    [
        *("__macosx", ".ds_store", ".localized", ".appledouble", ".spotlight-v100", ".trashes"),
        *(".fseventsd", ".temporaryitems", ".documentrevisions-v100", ".directory"),
        *("thumbs.db", "desktop.ini", "$recycle.bin", "system volume information"),
        *(".ipynb_checkpoints", ".virtual_documents", "__pycache__", ".cache", ".config", ".venv"),
        *(".git", ".github", ".gitignore", ".gitattributes", ".gitkeep", ".hg", ".svn"),
        *(".idea", ".vscode", ".mypy_cache", ".pytest_cache", ".ruff_cache", ".jupyter"),
    ]
)
LITTER_PREFIXES = ("._", ".~", "~$", ".trash-")
METADATA = "submission_metadata.yml"
"""Name of the file in which Gradescope says who made each submission."""
# What a platform makes of a student's file `lstm.ipynb`. Groups: name or id of the student,
# id of the platform, the file, and what orders attempts.
PATTERNS = {
    # First Last_12345_assignsubmission_file_/lstm.ipynb, or with the file in place of the folder
    "Moodle": r"(?P<name>.+)_(?P<id>\d+)_assignsubmission_(?:file|onlinetext)_?(?P<file>.*)",
    # Homework 1_ada_attempt_2026-11-29-10-00-00_lstm.ipynb; a receipt ends after the time
    "Blackboard": r".+_(?P<name>[^_]+)_attempt_"
    r"(?P<attempt>\d{4}(?:-\d\d){5})(?:_(?P<file>.+)|\.txt)",
    # lovelaceada_LATE_12345_67890_lstm-1.ipynb; -1 marks the first resubmission
    "Canvas": r"(?P<name>.+?)_(?P<late>LATE_)?(?P<id>\d+)_(?P<submission>\d+)_(?P<file>.+\..+)",
    # submission_1234/lstm.ipynb, and submission_metadata.yml beside it
    "Gradescope": r"(?P<name>submission_(?P<id>\d+))",
}


@dataclass(frozen=True)
class Owner:
    """The owner of a file, and what else the platform states about it.

    Args:
        name: Name of the student, or what stands for it.
        ids: What else identifies the student: ids of the platform, an e-mail address.
        file: Name of the file without what the platform added; empty if the name is a folder's.
        attempt: Later attempts compare greater; empty if none is stated.
        time: When it was handed in, as the platform writes it; empty if that is not stated.
        late: Whether the platform says that it was late; None if it does not say.

    Example:
        >>> Owner("ada").ids
        ()
    """

    name: str
    ids: tuple[str, ...] = ()
    file: str = field(default="", compare=False)
    attempt: str = field(default="", compare=False)
    time: str = field(default="", compare=False, repr=False)
    late: bool | None = field(default=None, compare=False, repr=False)


def owner(name: str, *, folder: bool) -> Owner:
    """Return whose a folder or a file at the top of the submissions is.

    Example:
        >>> owner("lovelaceada_LATE_123_456_lstm-2.ipynb", folder=False)
        Owner(name='lovelaceada', ids=('123',), file='lstm.ipynb', attempt='000002')
        >>> owner("Ada Lovelace_77_assignsubmission_file_", folder=True)
        Owner(name='Ada Lovelace', ids=('77',), file='', attempt='')
        >>> owner("ada (1).ipynb", folder=False)
        Owner(name='ada', ids=(), file='ada (1).ipynb', attempt='')
    """
    name = unicodedata.normalize("NFC", name)
    for platform, pattern in PATTERNS.items():
        if (match := re.fullmatch(pattern, name)) is None:
            continue
        groups = match.groupdict()
        file, attempt = groups.get("file") or "", groups.get("attempt") or ""
        if platform == "Canvas":
            resubmission = re.fullmatch(r"(.+)-(\d{1,3})(\.[^.]+)", file)
            if resubmission:
                file = resubmission[1] + resubmission[3]
                attempt = f"{int(resubmission[2]):06}"
        ids = (groups["id"],) if groups.get("id") else ()
        late = bool(groups["late"]) if "late" in groups else None
        return Owner(groups["name"], ids, file, attempt, groups.get("attempt") or "", late)
    return Owner(name if folder else clean_stem(name), file="" if folder else name)


def feedback_path(platform: str, name: str) -> str | None:
    """Return the path that a platform expects of a feedback page in a zip, for a hand-in.

    Args:
        platform: Name of the platform, as in the patterns.
        name: Name of the folder or file at the top of the submissions.

    Returns:
        The path, or None if the name is not one of this platform.

    Example:
        >>> feedback_path("Moodle", "Ada Lovelace_77_assignsubmission_file_")
        'Ada Lovelace_77_assignsubmission_file_/feedback.html'
        >>> feedback_path("Canvas", "lovelaceada_LATE_123_456_lstm-2.ipynb")
        'lovelaceada_LATE_123_456_feedback.html'
    """
    match = re.fullmatch(PATTERNS[platform], name)
    if match is None:
        return None
    head = name[: match.start("file")] if match["file"] else f"{name}/"
    return f"{head}feedback.html"


def clean_stem(name: str) -> str:
    """Return a file's name without its ending and without what marks a copy.

    Example:
        >>> [clean_stem(name) for name in ("lstm (1).IPYNB", "lstm.ipynb.txt", "lstm.ipynb (2)")]
        ['lstm', 'lstm', 'lstm']
    """
    stem = NOTEBOOK.sub("", name)
    if stem == name:
        stem = re.sub(r"(?i)\.(?:json|zip|py|pdf|html?|txt|docx?|hwp)\s*$", "", name)
    return COPY.sub("", stem) or name


def is_notebook_name(name: str) -> bool:
    """Return whether a name ends as a notebook's, in one of the spellings that occur.

    Example:
        >>> is_notebook_name("LSTM.IPYNB"), is_notebook_name("lstm.py")
        (True, False)
    """
    return NOTEBOOK.search(name) is not None


def is_litter(name: str) -> bool:
    """Return whether a system or program left a file, and no student handed it in.

    Example:
        >>> [is_litter(name) for name in ("__MACOSX", "._lstm.ipynb", "lstm.ipynb", ".a.ipynb")]
        [True, True, False, False]
    """
    return name.lower() in LITTER or name.lower().startswith(LITTER_PREFIXES)


def is_export(names: set[str]) -> bool:
    """Return whether names at the top of a folder or zip are a whole class's, not one student's.

    Example:
        >>> is_export({"submission_1", "submission_metadata.yml"}), is_export({"lstm.ipynb"})
        (True, False)
    """
    if METADATA in names:
        return True
    matching = [owner(name, folder=False) for name in names if _matches(name)]
    return len(matching) == len(names) and len({(one.name, one.ids) for one in matching}) > 1


def _matches(name: str) -> bool:
    return any(re.fullmatch(pattern, name) for pattern in PATTERNS.values())


def submitters(metadata: str) -> dict[str, list[Owner]]:
    r"""Return who made each submission, from Gradescope's ``submission_metadata.yml``.

    Example:
        >>> submitters("---\nsubmission_7:\n  :submitters:\n  - :name: Ada\n    :sid: '012'\n")
        {'submission_7': [Owner(name='Ada', ids=('012',), file='', attempt='')]}
    """
    found: dict[str, list[dict[str, str]]] = defaultdict(list)
    times: dict[str, str] = {}
    submission, section = "", ""
    for line in metadata.splitlines():
        if top := re.fullmatch(r"([^\s:#-][^:]*):\s*", line):
            submission, section = top[1], ""
        elif part := re.fullmatch(r"  :(\w+):(.*)", line):
            section = part[1]
            if section == "created_at":
                times[submission] = _scalar(part[2])
        elif section == "created_at" and (utc := re.fullmatch(r"\s+utc: (.*)", line)):
            times[submission] = _scalar(utc[1])
        elif section == "submitters" and (
            item := re.fullmatch(r"\s+(- )?:(name|sid|email):(?: (.*))?", line)
        ):
            if item[1] or not found[submission]:
                found[submission].append({})
            found[submission][-1][item[2]] = _scalar(item[3] or "")
    return {
        submission: [
            Owner(
                unicodedata.normalize("NFC", person.get("name") or submission),
                tuple(person[key] for key in ("sid", "email") if person.get(key)),
                time=times.get(submission, ""),
            )
            for person in people
        ]
        for submission, people in found.items()
    }


def _scalar(text: str) -> str:
    text = text.strip()
    if len(text) > 1 and text[0] == text[-1] == "'":
        return text[1:-1].replace("''", "'")
    if text.startswith('"'):
        try:
            return str(json.loads(text))
        except ValueError:
            return text.strip('"')
    return text
