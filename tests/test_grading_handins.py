"""Submissions as learning platforms export them and as students send them."""

import csv
import io
import json
import os
import stat
import struct
import unicodedata
import zipfile
from pathlib import Path

import pytest

from stepgrader import archives
from stepgrader.archives import Archive, ArchiveError
from stepgrader.atomic_files import SafeWriter
from stepgrader.batch import Result
from stepgrader.gradebook import counting
from stepgrader.grader import Graded, GradedStep
from stepgrader.judge import Verdict
from stepgrader.reports import write_reports
from stepgrader.roster import Roster
from stepgrader.submissions import Submission, UnreadableError, find, find_ignored, read

NOTEBOOK = json.dumps({"cells": []}).encode()


def lay_out(folder, *names, content=NOTEBOOK):
    for name in names:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    return folder


def zipped(files, *, compression=zipfile.ZIP_DEFLATED):
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", compression) as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return file.getvalue()


def students(folder, roster=None):
    """Return student and file of what can be read, and assert that it can."""
    found = list(find(folder, roster))
    assert [read(one) for one in found] == [NOTEBOOK] * len(found)
    return [(one.student, one.file) for one in found]


GRADESCOPE = """---
submission_11:
  :submitters:
  - :name: Ada Lovelace
    :sid: '007'
    :email: ada@school.edu
  :created_at: 2026-11-29 10:00:00
  :results:
    :tests:
    - :name: a test
submission_12:
  :submitters:
  - :name: 박지호
    :sid: '8'
  - :name: Bob
    :sid: '9'
  :created_at: !ruby/object:ActiveSupport::TimeWithZone
    utc: 2026-11-30 08:00:00 Z
"""


def test_canvas(tmp_path):
    lay_out(
        tmp_path,
        "lovelaceada_123_456_lstm.ipynb",
        "lovelaceada_123_460_lstm-1.ipynb",
        "parkjiho_LATE_93847_567_lstm_in_pytorch-1.ipynb",
    )
    assert students(tmp_path) == [
        ("lovelaceada", "lstm.ipynb"),
        ("lovelaceada", "lstm.ipynb"),
        ("parkjiho", "lstm_in_pytorch.ipynb"),
    ]
    assert [one.attempt for one in find(tmp_path)] == ["", "000001", "000001"]
    assert [one.late for one in find(tmp_path)] == [False, False, True]


def test_moodle_with_and_without_folders(tmp_path):
    lay_out(
        tmp_path,
        "Ada Lovelace_12345_assignsubmission_file_/lstm.ipynb",
        "Ada Lovelace_12345_assignsubmission_onlinetext_/onlinetext.html",
        "Bob_Ross_12346_assignsubmission_file_gru.ipynb",
    )
    assert students(tmp_path) == [("Ada Lovelace", "lstm.ipynb"), ("Bob_Ross", "gru.ipynb")]
    assert [one.beside for one in find(tmp_path)] == [("onlinetext.html",), ()]
    assert [one.top for one in find(tmp_path)] == [
        "Ada Lovelace_12345_assignsubmission_file_",
        "Bob_Ross_12346_assignsubmission_file_gru.ipynb",
    ]


def test_blackboard_and_its_receipts(tmp_path):
    head = "Homework_1_ada_attempt_2026-11-29-10-00-0"
    lay_out(tmp_path, f"{head}0_lstm.ipynb", f"{head}5_lstm.ipynb", f"{head}0.txt")
    first, second = find(tmp_path)
    assert (first.student, first.file, second.student) == ("ada", "lstm.ipynb", "ada")
    assert first.attempt < second.attempt
    assert first.beside == (f"{head}0.txt",)
    assert (first.handed_in, first.late) == ("2026-11-29-10-00-00", None)


@pytest.mark.parametrize("wrapper", ["", "assignment_9_export/"])
def test_gradescope_with_its_metadata(tmp_path, wrapper):
    lay_out(tmp_path, f"{wrapper}submission_11/lstm.ipynb", f"{wrapper}submission_12/gru.ipynb")
    lay_out(tmp_path, f"{wrapper}submission_metadata.yml", content=GRADESCOPE.encode())
    assert students(tmp_path) == [
        ("Ada Lovelace", "lstm.ipynb"),
        ("박지호", "gru.ipynb"),
        ("Bob", "gru.ipynb"),
    ]
    times = [one.handed_in for one in find(tmp_path)]
    assert times == ["2026-11-29 10:00:00", "2026-11-30 08:00:00 Z", "2026-11-30 08:00:00 Z"]


def test_a_class_of_nbgrader(tmp_path):
    lay_out(tmp_path, "ada/ps1/lstm.ipynb", "bob/ps1/lstm.ipynb")
    assert students(tmp_path) == [("ada", "lstm.ipynb"), ("bob", "lstm.ipynb")]


@pytest.mark.parametrize(
    "name",
    [
        "LSTM.IPYNB",
        "lstm.ipynb.txt",
        "lstm.ipynb.json",
        "lstm.json",
        "lstm.ipynb (1)",
        "lstm (1).ipynb",
        "lstm-Copy1.ipynb",
        "lstm.ipynb ",
        "hw.zip",
    ],
)
def test_other_spellings_of_the_ending(tmp_path, name):
    content = zipped({"lstm.ipynb": NOTEBOOK}) if name == "hw.zip" else NOTEBOOK
    lay_out(tmp_path, f"ada/{name}", content=content)
    [(student, file)] = students(tmp_path)
    assert (student, file.lower()) == ("ada", "lstm.ipynb")


@pytest.mark.parametrize("name", ["lstm.py", "lstm.html", "lstm.pdf", ".ipynb_checkpoints/a.ipynb"])
def test_who_hands_in_no_notebook_has_a_row_that_says_so(tmp_path, name):
    lay_out(tmp_path, f"ada/{name}")
    [one] = find(tmp_path)
    assert one.student == "ada"
    with pytest.raises(UnreadableError, match=f"no notebook .*{name.partition('/')[0]}"):
        read(one)


@pytest.mark.parametrize("name", [".ada.ipynb", ".ada/lstm.ipynb", ".ada.zip"])
def test_what_begins_with_a_dot_has_a_row(tmp_path, name):
    content = zipped({"lstm.ipynb": NOTEBOOK}) if name.endswith(".zip") else NOTEBOOK
    lay_out(tmp_path, name, content=content)
    [(student, _)] = students(tmp_path)
    assert student.startswith(".ada")
    assert find_ignored(tmp_path) == []


def test_what_a_system_leaves_is_nobodys_and_is_listed(tmp_path):
    left = ["__MACOSX/ada/._lstm.ipynb", ".DS_Store", "._ada.ipynb", ".git/config", "Thumbs.db"]
    lay_out(tmp_path / "folder", "ada/lstm.ipynb", "ada/.DS_Store", *left)
    files = {name: NOTEBOOK for name in ("ada/lstm.ipynb", *left, "__MACOSX/._ada")}
    (tmp_path / "class.zip").write_bytes(zipped(files))
    (tmp_path / "one-top.zip").write_bytes(zipped({f"all/{name}": NOTEBOOK for name in files}))
    for folder in (tmp_path / "folder", tmp_path / "class.zip", tmp_path / "one-top.zip"):
        assert students(folder) == [("ada", "lstm.ipynb")]
        assert find_ignored(folder) == [".DS_Store", "._ada.ipynb", ".git", "Thumbs.db", "__MACOSX"]
    [submission] = find(tmp_path / "folder")
    assert submission.beside == (".DS_Store",)


def test_an_empty_folder_and_an_empty_zip_have_a_row(tmp_path):
    (tmp_path / "ada").mkdir()
    lay_out(tmp_path, "bob.zip", content=zipped({}))
    assert [(one.student, one.problem) for one in find(tmp_path)] == [
        ("ada", "no notebook was handed in, only an empty folder"),
        ("bob", "no notebook was handed in, only an empty zip"),
    ]


def test_unicode_forms_of_a_name_are_one_student(tmp_path):
    for form, name in (("NFC", "lstm"), ("NFD", "gru")):
        lay_out(tmp_path, f"{unicodedata.normalize(form, '박지호')}/{name}.ipynb")
    assert {student for student, _ in students(tmp_path)} == {"박지호"}


def test_two_students_of_one_name_are_told_apart(tmp_path):
    lay_out(tmp_path, *(f"Kim Min_{i}_assignsubmission_file_/lstm.ipynb" for i in (1, 2)))
    assert [student for student, _ in students(tmp_path)] == ["Kim Min (1)", "Kim Min (2)"]


@pytest.mark.parametrize("top", ["", "submissions/"])
def test_a_whole_class_in_a_zip_with_zips_in_it(tmp_path, top):
    inner = zipped({"lstm.ipynb": NOTEBOOK, "__MACOSX/lstm.ipynb": b"\0"})
    path = tmp_path / "class.zip"
    path.write_bytes(zipped({f"{top}ada/hw.zip": inner, f"{top}bob/gru.ipynb": NOTEBOOK}))
    assert students(path) == [("ada", "lstm.ipynb"), ("bob", "gru.ipynb")]


def test_an_export_that_was_left_zipped_is_a_class(tmp_path):
    names = ("adal_1_10_lstm.ipynb", "bobr_2_11_lstm.ipynb")
    lay_out(tmp_path, "submissions.zip", content=zipped(dict.fromkeys(names, NOTEBOOK)))
    assert [student for student, _ in students(tmp_path)] == ["adal", "bobr"]


@pytest.mark.parametrize("encoding", ["utf-8", "cp949"])
def test_korean_names_in_zips_without_a_stated_encoding(tmp_path, encoding):
    name = "숙제.ipynb".encode(encoding)
    content = zipped({"x" * len(name): NOTEBOOK}).replace(b"x" * len(name), name)
    lay_out(tmp_path, "ada.zip", content=content)
    assert students(tmp_path) == [("ada", "숙제.ipynb")]


def hostile_zips():
    def changed(name, **attributes):
        file = io.BytesIO()
        with zipfile.ZipFile(file, "w") as archive:
            entry = zipfile.ZipInfo(name)
            for key, value in attributes.items():
                setattr(entry, key, value)
            archive.writestr(entry, NOTEBOOK)
        return file.getvalue()

    deep = zipped({"lstm.ipynb": NOTEBOOK})
    for name in ("a.zip", "b.zip", "c.zip"):
        deep = zipped({name: deep})
    encrypted = bytearray(zipped({"lstm.ipynb": NOTEBOOK}))
    encrypted[6] |= 1
    encrypted[encrypted.index(b"PK\x01\x02") + 8] |= 1
    damaged = zipped({"lstm.ipynb": NOTEBOOK}, compression=zipfile.ZIP_STORED)
    yield "not a zip", b"PK", "not a valid zip"
    yield "cut", deep[:-30], "not a valid zip"
    yield "changed", damaged.replace(b"cells", b"sells"), "damaged inside the zip"
    yield "encrypted", bytes(encrypted), "encrypted"
    yield "parent", changed("../../lstm.ipynb"), "points outside the zip"
    yield "absolute", changed("/etc/lstm.ipynb"), "points outside the zip"
    yield "drive", changed("C:\\lstm.ipynb"), "points outside the zip"
    yield "link", changed("lstm.ipynb", external_attr=(stat.S_IFLNK | 0o777) << 16), "it is a link"
    yield "nested", deep, "a zip inside a zip inside a zip"
    yield "bomb", zipped({"lstm.ipynb": b" " * 9 * 2**20}), "the limit is 8 MB"
    bzip = zipped({"lstm.ipynb": NOTEBOOK}, compression=zipfile.ZIP_BZIP2)
    yield "bzip2", bzip, "compression method is not supported"
    yield "many", zipped({f"{i}.ipynb": b"" for i in range(5_001)}), "more than 5000 files"


@pytest.mark.parametrize(("content", "says"), [case[1:] for case in hostile_zips()])
def test_a_hostile_zip_is_said_and_the_others_are_read(tmp_path, content, says):
    folder = tmp_path / "in"
    lay_out(folder, "ada/lstm.ipynb", "zoe/lstm.ipynb")
    lay_out(folder, "eve/hw.zip", content=content)
    before = sorted(tmp_path.rglob("*"))
    first, eve, last = find(folder)
    assert read(first) == read(last) == NOTEBOOK
    assert eve.student == "eve"
    with pytest.raises(UnreadableError, match=says):
        read(eve)
    assert sorted(tmp_path.rglob("*")) == before


def test_a_zip_that_unpacks_to_too_much_is_refused(monkeypatch):
    monkeypatch.setattr(archives, "MAX_UNPACKED", 2**20)
    with pytest.raises(ArchiveError, match="the limit is 1 MB"):
        Archive(io.BytesIO(zipped({"a": b" " * 2**20, "b": b" " * 2**20})))


def test_a_false_size_unpacks_no_more_than_it_says():
    content = bytearray(zipped({"a": b" " * 2**24}))
    at = content.index(b"PK\x01\x02")
    content[at + 24 : at + 28] = struct.pack("<I", 10)
    with pytest.raises(ArchiveError, match="damaged"):
        Archive(io.BytesIO(bytes(content))).read(0, limit=100)


def test_a_pipe_named_as_a_zip_is_not_opened(tmp_path):
    os.mkfifo(tmp_path / "ada.zip")
    [one] = find(tmp_path)
    assert (one.student, one.problem) == ("ada", "it is not an ordinary file")


def test_a_roster_says_who_is_who(tmp_path):
    roster = Roster(
        "Student ID,Name,Email,Login,LMS ID\n"
        "1,Ada Lovelace,ada@school.edu,al1,123\n"
        "2,박지호,jiho@school.edu,jh2,\n"
        "3,Cy Young,,cy3,\n"
    )
    decomposed = unicodedata.normalize("NFD", "박지호")
    names = ("whoever_123_456_lstm.ipynb", f"{decomposed}.ipynb", "jh2/gru.ipynb", "al1.ipynb")
    lay_out(tmp_path, *names, "mallory/lstm.ipynb")
    found = list(find(tmp_path, roster))
    assert {one.student for one in found if one.matched and not one.absent} == {
        "Ada Lovelace (1)",
        "박지호 (2)",
    }
    assert [one.student for one in found if not one.matched] == ["mallory"]
    assert [one.student for one in found if one.absent] == ["Cy Young (3)"]


@pytest.mark.parametrize("name", ["Ada Mary Lovelace", "Lovelace, Ada Mary"])
@pytest.mark.parametrize("file", ["adamarylovelace", "lovelaceadamary"])
def test_a_family_name_may_stand_first_or_last(tmp_path, name, file):
    lay_out(tmp_path, f"{file}_5_6_lstm.ipynb")
    [(student, _)] = students(tmp_path, Roster(f'id,name\n1,"{name}"\n'))
    assert student == f"{name} (1)"


def test_a_name_that_two_in_the_roster_have_is_nobodys(tmp_path):
    roster = Roster("id,first name,last name\n1,Min,Kim\n2,Min,Kim\n")
    lay_out(tmp_path, "kimmin/lstm.ipynb")
    assert [one.matched for one in find(tmp_path, roster) if not one.absent] == [False]


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "cp949"])
def test_a_roster_as_spreadsheets_save_it(tmp_path, encoding):
    path = tmp_path / "roster.csv"
    path.write_bytes("학번,이름\n1,박지호\n".encode(encoding))
    assert Roster.read(path).students == ["박지호 (1)"]


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("name\nAda\n", "expected the columns student id and name, got name"),
        ("", "got none"),
        ("id,name\n1,Ada\n1,Bob\n", "line 3: expected a unique id, got 1 twice"),
        ("id,name\n,Bob\n", "line 2: expected a unique id, got none"),
    ],
)
def test_a_roster_that_can_not_be_used_is_refused(text, problem):
    with pytest.raises(ValueError, match=problem):
        Roster(text)


def test_the_latest_attempt_counts_even_if_an_earlier_one_is_better(tmp_path):
    results = []
    for attempt, points in (("", 2), ("000001", 0), ("000001", 1)):
        submission = Submission("ada", Path(f"{attempt}-{points}"), attempt=attempt)
        step = GradedStep("gate", "A gate", points, 2, Verdict("open"))
        results.append(Result(submission, Graded("lstm", "The LSTM", [step])))
    write_reports(results, SafeWriter(tmp_path))
    table = csv.DictReader((tmp_path / "grades.csv").read_text(encoding="utf-8-sig").splitlines())
    assert [row["counts"].partition(",")[0] for row in table] == ["no", "no", "yes"]


def handed_in(**files):
    """Results of ada's notebooks, by name: points, or None if nothing is written in it."""
    results = []
    for name, points in files.items():
        verdict = Verdict("open" if points is None else "wrong")
        steps = [GradedStep("gate", "A gate", points or 0, 2, verdict)]
        graded = Graded("lstm", "The LSTM", steps)
        results.append(Result(Submission("ada", Path(f"ada/{name}.ipynb")), graded))
    return results


@pytest.mark.parametrize(
    ("files", "last"),
    [
        ({"lstm": 2, "lstm (1)": 1, "lstm (2)": 0}, "lstm (2)"),
        ({"lstm": 2, "lstm (10)": 1, "lstm (9)": 2}, "lstm (10)"),
        ({"lstm-Copy1": 0, "lstm": 2}, "lstm-Copy1"),
        ({"lstm_v2": 0, "lstm_v1": 2}, "lstm_v2"),
        ({"b/lstm": 0, "a/lstm": 2}, "b/lstm"),
        ({"lstm": 1, "lstm (1)": None}, "lstm"),  # a fresh copy beside the work
        ({"lstm": None, "lstm (1)": None}, "lstm (1)"),
    ],
)
def test_of_several_files_the_last_counts_whatever_the_points(files, last):
    results = handed_in(**files)
    [number] = counting(results)
    assert results[number].submission.path == Path(f"ada/{last}.ipynb")
    [number] = counting(results, "best")
    best = max((points or 0) for points in files.values())
    assert results[number].graded.points == best


def test_each_row_says_which_notebook_counts(tmp_path):
    write_reports(handed_in(**{"lstm": 2, "lstm (1)": 1}), SafeWriter(tmp_path))
    table = csv.DictReader((tmp_path / "grades.csv").read_text(encoding="utf-8-sig").splitlines())
    assert [(row["file"], row["points"], row["counts"], row["remark"]) for row in table] == [
        ("lstm.ipynb", "2", "no, lstm (1).ipynb counts", "one of 2 notebooks of this exercise"),
        ("lstm (1).ipynb", "1", "yes", "one of 2 notebooks of this exercise"),
    ]
    page = (tmp_path / "feedback" / "ada.html").read_text(encoding="utf-8")
    assert page.count("Another notebook of this exercise counts.") == 1
