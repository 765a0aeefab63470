"""The books of a class: tables, corrections by hand, totals and what platforms import."""

import base64
import csv
import io
import json
import re
import zipfile
from pathlib import Path

import pytest

from seqbook.exercises import COURSE
from stepgrader.answers import candidates, fingerprint
from stepgrader.atomic_files import SafeWriter
from stepgrader.batch import Result
from stepgrader.class_settings import ClassSettings
from stepgrader.exercises import Exercise
from stepgrader.exports import Books, export
from stepgrader.gradebook import apply_overrides, counting, read_overrides, share_in_groups
from stepgrader.grader import Graded, GradedStep
from stepgrader.judge import Verdict
from stepgrader.late import LateRule, apply_late_rule
from stepgrader.marks import earned
from stepgrader.open_questions import (
    Criterion,
    collect_open_answers,
    open_answer,
    read_rubric,
    sheet,
)
from stepgrader.reports import write_reports
from stepgrader.roster import Roster
from stepgrader.similarity import similar_pairs, similarity_page
from stepgrader.steps import Step
from stepgrader.submissions import Submission
from stepgrader.totals import Totals, total_rows


def rows(path):
    with open(path, encoding="utf-8-sig", newline="") as file:
        return list(csv.DictReader(file))


def graded(*points, exercise="lstm"):
    """A notebook with a step of 2 points for each number of points."""
    steps = [
        GradedStep(f"step_{number}", f"Step {number}", got, 2, verdict(got))
        for number, got in enumerate(points, start=1)
    ]
    return Graded(exercise, f"Exercise {exercise}", steps)


def exercise(name):
    """The author's version of the exercise of ``graded``: two steps of 2 points each."""
    names = ("step_1", "step_2")
    cells = [{"id": "title", "cell_type": "markdown", "source": f"# Exercise {name}"}]
    for number, step in enumerate(names, start=1):
        stem = step.replace("_", "-")
        solution = "    ### BEGIN SOLUTION\n    pass\n    ### END SOLUTION"
        cells += [
            {"id": f"{stem}-task", "source": f"## {number}. Step (★, 5 minutes, 2 points)"},
            {"id": f"{stem}-answer", "source": f"def {step}():\n{solution}"},
            {"id": f"{stem}-check", "source": f"check({step})"},
        ]
    steps = [Step(step, len, cases={}, mistakes=[], alternatives=[]) for step in names]
    return Exercise(name, {"metadata": {}, "cells": cells}, steps)


EXERCISES = {name: exercise(name) for name in ("lstm", "gru")}


def verdict(points):
    return Verdict("right") if points == 2 else Verdict("wrong", property="a batch of one")


def result(student, *points, exercise="lstm", **facts):
    submission = Submission(student, Path(f"{student}.ipynb"), **facts)
    return Result(submission, graded(*points, exercise=exercise))


# -- tables


def test_halves_of_a_hundredth_are_rounded_up_everywhere(tmp_path):
    path = tmp_path / "overrides.csv"
    path.write_text("student,exercise,step,points\nada,lstm,step_1,0.125\nbob,lstm,,1.005\n")
    given, count, problems = apply_overrides(
        [result("ada", 1, 0), result("bob", 1, 0)], {0, 1}, read_overrides(path), EXERCISES
    )
    assert problems == []
    assert [one.graded.points for one in given] == [0.13, 1.01]
    table = list(total_rows(Totals.of(given, count, EXERCISES)))
    assert [row[4] for row in table[1:]] == [0.0325, 0.2525]
    thirds = Verdict("wrong", properties={"a": True} | dict.fromkeys("bcdefgh", False))
    assert earned(thirds, 1) == 0.13
    rule = LateRule({}, percent_per_day=10)
    assert [rule.points(points, days=1) for points in (0.15, 0.25, 1.15)] == [0.14, 0.23, 1.04]


def test_the_summary_counts_notebooks_and_not_rows(tmp_path):
    def result(student, file, graded=None, **more):
        return Result(Submission(student, Path(file), **more), graded, "it is not JSON")

    step = GradedStep("gate", "A gate", 2, 2, Verdict("right"))
    lstm = Graded("lstm", "The LSTM", [step])
    results = [
        result("ada", "red.ipynb", lstm),
        result("bob", "red.ipynb", lstm, for_group=True),
        result("cem", "cem.ipynb", lstm),
        result("cem", "cem (1).ipynb"),
        result("dan", "notes.pdf"),
        result("eve", "", absent=True),
        result("eve", "", lstm),  # points that the instructor gave
    ]
    write_reports(results, SafeWriter(tmp_path), {0, 1, 2, 6}, ["__MACOSX", ".DS_Store"])
    lines = (tmp_path / "summary.md").read_text(encoding="utf-8").splitlines()
    assert lines[2] == (
        "2 notebooks of 3 students have a grade, 2 files have none, 1 grade was given by hand and "
        "1 student handed in nothing."
    )
    assert lines[4] == (
        "Ignored, because an operating system or a program left it there: "
        "\\_\\_MACOSX, .DS\\_Store."
    )
    assert "4 students, on average 2.0 of 2 points." in lines


def test_the_summary_counts_answers_with_a_hint_apart(tmp_path):
    def wrong(student, **words):
        step = GradedStep("gate", "A gate", 0, 2, Verdict("wrong", property="a batch", **words))
        return Result(Submission(student, Path("x.ipynb")), Graded("lstm", "The LSTM", [step]))

    results = [
        wrong("ada", hint="The result is transposed."),
        wrong("bob", hint="The result is transposed."),
        wrong("cem", diagnosis="You forgot the bias.", mistake=0),
        wrong("dan"),
    ]
    write_reports(results, SafeWriter(tmp_path))
    lines = (tmp_path / "summary.md").read_text(encoding="utf-8").splitlines()
    assert lines[-3:] == [
        "| 2 | gate | hint: The result is transposed. |",
        "| 1 | gate | You forgot the bias. |",
        "| 1 | gate | no known mistake (fails at: a batch) |",
    ]


@pytest.mark.parametrize("name", ["grades.csv", "steps.csv"])
def test_excel_reads_korean_names_in_a_table(tmp_path, name):
    """Excel reads UTF-8 only if the file begins with the byte order mark."""
    write_reports([result("박지호", 2)], SafeWriter(tmp_path))
    content = (tmp_path / name).read_bytes()
    assert content.startswith(b"\xef\xbb\xbf")
    assert not content[3:].startswith(b"\xef\xbb\xbf")
    assert rows(tmp_path / name)[0]["student"] == "박지호"


# -- overrides


def override(folder, results, text, roster=None):
    """Write the reports with these overrides, and return what is wrong with those."""
    path = folder / "overrides.csv"
    path.write_text(text, encoding="utf-8")
    final, count, problems = apply_overrides(
        results, counting(results), read_overrides(path), EXERCISES, roster
    )
    write_reports(final, SafeWriter(folder / "grades"), count)
    return problems


def test_points_of_a_step_and_of_an_exercise_are_overridden_with_a_reason(tmp_path):
    results = [result("ada", 2, 0), result("bob", 0, 0)]
    text = "student,exercise,step,points,reason\n"
    text += "ada,lstm,step_2,1.5,the sign only\nbob,lstm,,3,an oral exam\n"
    assert override(tmp_path, results, text) == []
    ada, bob = rows(tmp_path / "grades" / "grades.csv")
    assert (ada["points"], bob["points"]) == ("3.5", "3")
    remark = "3 points by your instructor's decision instead of 0: an oral exam"
    assert bob["remark"] == remark
    step = rows(tmp_path / "grades" / "steps.csv")[1]
    decision = "1.5 points by your instructor's decision instead of 0: the sign only"
    assert (step["points"], step["remark"]) == ("1.5", decision)
    page = (tmp_path / "grades" / "feedback" / "ada.html").read_text(encoding="utf-8")
    assert "Exercise lstm: 3.5 of 4 points" in page
    assert "Step 2: 1.5 of 2 points" in page
    assert decision.replace("'", "&#x27;") in page
    page = (tmp_path / "grades" / "feedback" / "bob.md").read_text(encoding="utf-8")
    assert "Exercise lstm: 3 of 4 points" in page
    assert remark in page


def test_lower_points_by_decision_do_not_make_another_notebook_count(tmp_path):
    results = [result("ada", 2, 2), result("ada", 2, 0)]
    assert override(tmp_path, results, "student,exercise,points\nada,lstm,1\n") == []
    first, second = rows(tmp_path / "grades" / "grades.csv")
    assert (first["points"], first["counts"], second["counts"][:2]) == ("1", "yes", "no")


def test_a_student_without_a_notebook_can_be_given_points(tmp_path):
    results = [Result(Submission("eve", Path()), None, "nothing was handed in")]
    text = "student,exercise,points,reason\neve,lstm,4,handed in on paper\n"
    assert override(tmp_path, results, text) == []
    _, row = rows(tmp_path / "grades" / "grades.csv")
    assert (row["exercise"], row["points"], row["out_of"]) == ("lstm", "4", "4")


@pytest.mark.parametrize("name", ["7", "ada@school.edu", "Ada Lovelace", "Ada Lovelace (7)"])
def test_an_override_names_a_student_as_the_roster_does(tmp_path, name):
    roster = Roster("id,name,email\n7,Ada Lovelace,ada@school.edu\n")
    results = [result("Ada Lovelace (7)", 0)]
    assert override(tmp_path, results, f"student,exercise,points\n{name},lstm,2\n", roster) == []
    assert rows(tmp_path / "grades" / "grades.csv")[0]["points"] == "2"


@pytest.mark.parametrize(
    ("row", "problem"),
    [
        ("eve,lstm,,1", "row 3: expected a student of the class, got 'eve'"),
        ("ada,rnn,,1", "row 3: expected one of lstm, gru, got 'rnn'"),
        ("ada,lstm,gate,1", "row 3: expected a step of lstm (step_1, step_2), got 'gate'"),
        ("ada,lstm,,4.5", "row 3: expected points from 0 to 4, got '4.5'"),
        ("ada,lstm,step_1,-1", "row 3: expected points from 0 to 2, got '-1'"),
        ("ada,lstm,step_1,nan", "row 3: expected points from 0 to 2, got 'nan'"),
        ("ada,lstm,step_1,", "row 3: expected points from 0 to 2, got ''"),
        ("bob,lstm,,1", "row 3: row 2 sets these points too; expected one row"),
        ("bob,lstm,step_1,1", "row 3: row 2 sets these points too; expected one row"),
    ],
)
def test_a_wrong_override_is_named_by_its_row_and_the_others_apply(tmp_path, row, problem):
    results = [result("ada", 0, 0), result("bob", 0, 0)]
    text = f"student,exercise,step,points\nbob,lstm,,3\n{row}\n"
    assert override(tmp_path, results, text) == [problem]
    points = [row["points"] for row in rows(tmp_path / "grades" / "grades.csv")]
    assert points == ["0", "3"]


def test_a_table_of_overrides_without_points_is_refused(tmp_path):
    (tmp_path / "overrides.csv").write_text("student,exercise\nada,lstm\n")
    with pytest.raises(ValueError, match="points is missing"):
        read_overrides(tmp_path / "overrides.csv")


@pytest.mark.parametrize("encoding", ["utf-8-sig", "cp949"])
def test_overrides_as_excel_saves_them(tmp_path, encoding):
    path = tmp_path / "overrides.csv"
    path.write_bytes("student,exercise,points,reason\n박지호,lstm,1,구술 시험\n".encode(encoding))
    [found] = read_overrides(path)
    assert (found.student, found.reason) == ("박지호", "구술 시험")


def test_a_table_that_was_changed_is_renamed_and_written_again(tmp_path):
    write_reports([result("ada", 2)], SafeWriter(tmp_path))
    for number in (1, 2):
        (tmp_path / "grades.csv").write_text(f"edited {number}")
        writer = SafeWriter(tmp_path)
        write_reports([result("ada", 2), result("bob", 0)], writer)
        assert [row["student"] for row in rows(tmp_path / "grades.csv")] == ["ada", "bob"]
        kept = tmp_path / f"grades.edited-{number}.csv"
        assert writer.renamed == {tmp_path / "grades.csv": kept}
        assert kept.read_text() == f"edited {number}"
    assert (tmp_path / "grades.edited-1.csv").read_text() == "edited 1"


# -- totals


def totals(results, assigned=None, order=()):
    """The rows of the table of totals, without the heading."""
    found = Totals.of(results, counting(results), EXERCISES, assigned, order)
    return [list(row) for row in total_rows(found)]


def test_totals_have_a_row_for_each_student_and_a_column_for_each_exercise():
    results = [
        result("bob", 2, 2),
        result("ada", 2, 0.5),
        result("ada", 0, 0),
        result("ada", 2, 1, exercise="gru"),
        Result(Submission("eve", Path(), absent=True), None, "nothing was handed in"),
    ]
    assert totals(results, order=["ada", "bob", "eve"]) == [
        ["student", "lstm", "gru", "total", "out_of", "share", "remark"],
        ["ada", 2.5, 3, 5.5, 8, 0.6875, ""],
        ["bob", 4, 0, 4, 8, 0.5, ""],
        ["eve", 0, 0, 0, 8, 0.0, ""],
    ]


def test_totals_of_fractions_have_two_decimals():
    assert totals([result("ada", 0.1, 0.2)])[1][1:4] == [pytest.approx(0.3), 0.3, 4]


def test_only_assigned_exercises_are_added_up():
    results = [result("ada", 2, 2), result("ada", 2, 1, exercise="gru")]
    assert totals(results[:1])[1] == ["ada", 4, 4, 4, 1.0, ""]
    assert totals(results[:1], assigned=["gru", "lstm"])[1] == ["ada", 0, 4, 4, 8, 0.5, ""]
    assert totals(results, assigned=["gru"])[1] == ["ada", 3, 3, 4, 0.75, ""]


def test_totals_are_open_while_the_grader_failed_on_a_notebook():
    failed = Result(Submission("ada", Path("x.ipynb")), None, "it failed", grader_fault=True)
    [_, row, other] = totals([result("ada", 2, 2), failed, result("bob", 2, 2, exercise="gru")])
    assert row[:-1] == ["ada", 4, "", "", 8, ""]
    assert "could not be graded" in row[-1]
    assert other == ["bob", 0, 4, 4, 8, 0.5, ""]


# -- settings


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("exercises = [", "Invalid"),
        ('exercises = "lstm"', "exercises: expected a list of names, got 'lstm'"),
        ('exercises = ["rnn"]', "exercises: expected one of lstm, gru, got 'rnn'"),
        ('exercises = ["gru", "gru"]', "exercises: expected each name once"),
        ('columns = "LSTM"', "columns: expected a table, got 'LSTM'"),
        ("columns = { lstm = 1 }", "columns.lstm: expected a string, got 1"),
        ('columns = { rnn = "RNN" }', "columns: expected one of lstm, gru, got 'rnn'"),
        ("colour = 1", "expected any of exercises.*, got colour"),
    ],
)
def test_settings_that_can_not_be_used_are_refused(tmp_path, text, problem):
    path = tmp_path / "class.toml"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(ValueError, match=rf"class.toml: {problem}"):
        ClassSettings.read(path, known=EXERCISES)


# -- exports

ROSTER = Roster(
    "id,first name,last name,email,login,lms id,section\n"
    "7,Ada,Lovelace,ada@school.edu,al1,123,A\n"
    "8,지호,박,,,,\n"
)


def books(*results, roster=ROSTER, columns=None, folder=None):
    count = counting(results)
    order = roster.students if roster else ()
    totals = Totals.of(results, count, EXERCISES, order=order)
    pages = write_reports(results, SafeWriter(folder), count) if folder else {}
    return Books(results, count, totals, roster, columns or {}, pages)


def table(text):
    return list(csv.reader(text.removeprefix("\ufeff").splitlines()))


def test_canvas_imports_ids_and_points_possible():
    results = result("Ada Lovelace (7)", 2, 1.25), result("지호 박 (8)", 2, 2, exercise="gru")
    exported = export("canvas", books(*results, columns={"lstm": "LSTM (4711)"}))
    assert table(exported.files["canvas.csv"]) == [
        ["Student", "ID", "SIS User ID", "SIS Login ID", "Section", "LSTM (4711)", "gru"],
        ["    Points Possible", "", "", "", "", "4", "4"],
        ["Ada Lovelace", "123", "7", "al1", "A", "3.25", "0"],
        ["지호 박", "", "8", "", "", "0", "4"],
    ]
    assert exported.problems == []


def test_moodle_imports_points_by_id_number_or_e_mail():
    exported = export("moodle", books(result("Ada Lovelace (7)", 2, 1)))
    assert table(exported.files["moodle.csv"]) == [
        ["ID number", "Username", "Email address", "Full name", "lstm"],
        ["7", "al1", "ada@school.edu", "Ada Lovelace", "3"],
        ["8", "", "", "지호 박", "0"],
    ]


@pytest.mark.parametrize("platform", ["canvas", "moodle"])
def test_who_has_no_id_is_named_and_not_exported(platform):
    exported = export(platform, books(result("mallory", 2, 2)))
    assert exported.problems == ["mallory: has no id: the roster does not list this student"]
    assert "mallory" not in exported.files[f"{platform}.csv"]
    with pytest.raises(ValueError, match=f"--export {platform}: expected a --roster"):
        export(platform, books(result("mallory", 2, 2), roster=None))


@pytest.mark.parametrize("platform", ["canvas", "moodle"])
def test_points_that_the_grader_failed_to_find_are_not_exported_as_0(platform):
    failed = Result(Submission("Ada Lovelace (7)", Path()), None, "it failed", grader_fault=True)
    exported = export(platform, books(failed, result("지호 박 (8)", 2, 2)))
    [ada] = [row for row in table(exported.files[f"{platform}.csv"]) if "Ada Lovelace" in row]
    assert ada[-1] == ""


def test_gradescope_gets_results_for_each_student():
    unread = Result(Submission("eve", Path("eve.ipynb")), None, "it is not JSON")
    failed = Result(Submission("bob", Path()), None, "it failed", grader_fault=True)
    found = books(result("ada", 2, 0), result("ada", 0, 0), unread, failed, roster=None)
    exported = export("gradescope", found)
    assert sorted(exported.files) == [f"gradescope/{one}/results.json" for one in ("ada", "eve")]
    ada, eve = (json.loads(text) for _, text in sorted(exported.files.items()))
    assert ada["score"] == 2
    first, second = ada["tests"]
    assert (first["score"], first["max_score"], first["status"]) == (2, 2, "passed")
    assert (second["score"], second["max_score"], second["status"]) == (0, 2, "failed")
    assert "first property that fails: a batch of one" in second["output"]
    assert second["visibility"] == "visible"
    assert (eve["score"], eve["tests"]) == (0, [])
    assert "it is not JSON" in eve["output"]
    assert exported.problems == ["bob: a notebook could not be graded"]


def test_gradescope_shows_points_by_decision(tmp_path):
    (tmp_path / "overrides.csv").write_text("student,exercise,points,reason\nada,lstm,3,oral\n")
    overrides = read_overrides(tmp_path / "overrides.csv")
    results, *_ = apply_overrides([result("ada", 2, 0)], {0}, overrides, EXERCISES)
    [text] = export("gradescope", books(*results, roster=None)).files.values()
    data = json.loads(text)
    assert data["score"] == 3
    assert "3 points by your instructor's decision instead of 2: oral" in data["output"]


def contents(data):
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        return {name: archive.read(name).decode() for name in archive.namelist()}


@pytest.mark.parametrize(
    ("platform", "tops", "expected"),
    [
        (
            "moodle",
            ("Ada Lovelace_55_assignsubmission_file_", "박지호_56_assignsubmission_file_a.ipynb"),
            (
                "Ada Lovelace_55_assignsubmission_file_/feedback.html",
                "박지호_56_assignsubmission_file_feedback.html",
            ),
        ),
        (
            "canvas",
            ("lovelaceada_LATE_123_456_lstm-1.ipynb", "parkjiho_124_457_lstm.ipynb"),
            ("lovelaceada_LATE_123_456_feedback.html", "parkjiho_124_457_feedback.html"),
        ),
    ],
)
def test_feedback_is_zipped_under_the_names_that_the_platform_gave(
    tmp_path, platform, tops, expected
):
    students = ("Ada Lovelace (7)", "지호 박 (8)")
    results = [result(one, 2, 1, top=top) for one, top in zip(students, tops, strict=True)]
    results.append(result("Ada Lovelace (7)", 0, 0, exercise="gru", top=tops[0]))
    found = books(*results, folder=tmp_path)
    exported = export(platform, found)
    assert exported.problems == []
    files = contents(exported.files[f"{platform}_feedback.zip"])
    assert tuple(files) == expected
    assert "Feedback for Ada Lovelace (7)" in files[expected[0]]
    assert "Exercise gru" in files[expected[0]]
    assert export(platform, found).files == exported.files


def test_a_comment_on_a_page_is_in_the_zip_and_who_has_no_place_in_it_is_named(tmp_path):
    top = "Ada Lovelace_55_assignsubmission_file_"
    results = result("Ada Lovelace (7)", 2, top=top), result("지호 박 (8)", 2, top="jiho.ipynb")
    found = books(*results, folder=tmp_path)
    found.pages["Ada Lovelace (7)"][0].write_text("Well done!", encoding="utf-8")
    exported = export("moodle", found)
    assert contents(exported.files["moodle_feedback.zip"]) == {f"{top}/feedback.html": "Well done!"}
    assert exported.problems == [
        "지호 박 (8): the feedback, because no submission has a name that Moodle gave it"
    ]


def test_a_zip_of_feedback_has_a_folder_for_each_student(tmp_path):
    found = books(result("ada", 2), result("박지호", 1), roster=None, folder=tmp_path)
    files = contents(export("zip", found).files["feedback.zip"])
    assert sorted(files) == [
        f"{student}/feedback.{end}" for student in ("ada", "박지호") for end in ("html", "md")
    ]
    assert "Feedback for 박지호" in files["박지호/feedback.md"]


# -- late days

RULE = """
late_days = 2
percent_per_day = 10
[due]
gru = 2026-12-08T23:59:00+09:00
lstm = 2026-12-01T23:59:00+09:00
"""


def late(results, text=RULE, roster=None):
    """Apply the rule that a text states, and return points, remarks, and what is not known."""
    rule = ClassSettings.parse(text, known=EXERCISES).late
    final, problems, unknown = apply_late_rule(results, counting(results), rule, roster)
    return [(one.graded.points, one.graded.remarks) for one in final], problems, unknown


@pytest.mark.parametrize(
    ("time", "points", "remarks"),
    [
        ("2026-12-01 23:59:00 +0900", 4, []),
        ("2026-12-01 14:59:00.5 Z", 4, []),
        ("2026-12-01-23-59-00", 4, []),  # Blackboard's, in the zone of the date
        ("2026-12-01 15:00:00 UTC", 4, ["1 day late, 1 of them free"]),
        ("2026-12-03 10:00:00 +09:00", 4, ["2 days late, 2 of them free"]),
        (
            "2026-12-05 10:00:00 +09:00",
            3.2,
            ["4 days late, 2 of them free: 3.2 points, 20 % less than 4"],
        ),
        (
            "2027-12-01 10:00:00 +09:00",
            0,
            ["365 days late, 2 of them free: 0 points, 100 % less than 4"],
        ),
    ],
)
def test_late_days_beyond_the_free_ones_cost_points(time, points, remarks):
    assert late([result("ada", 2, 2, handed_in=time)]) == ([(points, remarks)], [], 0)


def test_free_days_go_to_what_is_due_first_and_are_those_of_each_student():
    gru, lstm = "2026-12-09 10:00:00 Z", "2026-12-03 10:00:00 Z"  # 1 and 2 days late
    results = [
        result("ada", 2, 2, exercise="gru", handed_in=gru),
        result("ada", 2, 2, handed_in=lstm),
        result("bob", 2, 2, exercise="gru", handed_in=gru),
    ]
    found, *_ = late(results)
    assert [points for points, _ in found] == [3.6, 4, 4]


def test_only_the_notebook_that_counts_is_late():
    results = [
        result("ada", 2, 2, attempt="1", handed_in="2026-12-01 10:00:00 Z"),
        result("ada", 2, 1, attempt="2", handed_in="2026-12-05 10:00:00 Z"),
    ]
    found, *_ = late(results)
    assert [points for points, _ in found] == [4, 2.4]


def test_a_time_that_no_platform_states_is_taken_from_the_settings():
    """Canvas marks what is late, and does not say by how much."""
    results = [
        result("Ada Lovelace (7)", 2, 2, late=True),
        result("지호 박 (8)", 2, 2, late=False),
        result("eve", 2, 2),
        result("zoe", 2, 2, exercise="gru", late=True),
    ]
    stated = '[[handed_in]]\nstudent = "7"\nexercise = "lstm"\ntime = 2026-12-05T10:00:00+09:00\n'
    stated += '[[handed_in]]\nstudent = "mallory"\nexercise = "lstm"\ntime = 2026-12-05T10:00:00Z\n'
    found, problems, unknown = late(results, RULE + stated, ROSTER)
    assert [points for points, _ in found] == [3.2, 4, 4, 4]
    assert problems == [
        "handed_in: expected a student of the class, got 'mallory'",
        "zoe, gru: the platform says that it was late, but not when it was handed in; "
        "state the time under handed_in",
    ]
    assert unknown == 1  # eve's


def test_points_that_the_instructor_decided_are_not_lowered(tmp_path):
    path = tmp_path / "overrides.csv"
    path.write_text("student,exercise,step,points\nada,lstm,,4\nbob,lstm,step_1,2\n")
    time = "2026-12-06 10:00:00 +09:00"  # 3 of 5 days are not free
    results = [result("ada", 0, 2, handed_in=time), result("bob", 0, 2, handed_in=time)]
    results, *_ = apply_overrides(results, {0, 1}, read_overrides(path), EXERCISES)
    found, *_ = late(results)
    assert [points for points, _ in found] == [4, 2.8]


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("due = 2026-12-01", "due: expected a date and time with its offset from UTC, such as"),
        ("due = 2026-12-01T23:59:00", "due: expected a date and time with its offset"),
        ("[due]\nrnn = 2026-12-01T23:59:00Z", "due: expected one of lstm, gru, got 'rnn'"),
        ("late_days = 3", "late_days: expected due as well"),
        ("due = 2026-12-01T23:59:00Z\nlate_days = -1", "late_days: expected a whole number"),
        ('attempts = "first"', 'attempts: expected "last" or "best", got \'first\''),
        ("due = 2026-12-01T23:59:00Z\npercent_per_day = 101", "percent_per_day: expected a number"),
        ("due = 2026-12-01T23:59:00Z\nhanded_in = 1", "handed_in: expected tables"),
        (
            'due = 2026-12-01T23:59:00Z\n[[handed_in]]\nstudent = "7"',
            "handed_in: expected student, exercise and time, got student",
        ),
    ],
)
def test_a_late_rule_that_can_not_be_used_is_refused(text, problem):
    with pytest.raises(ValueError, match=problem):
        ClassSettings.parse(text, known=EXERCISES)


# -- groups

GROUPS = Roster("id,name,group\n1,Ada,red\n2,Bob,red\n3,Cem,red\n4,Dan,\n5,Eve,blue\n")


def test_one_hand_in_counts_for_all_members_of_a_group(tmp_path):
    results = [
        result("Bob (2)", 2, 1),
        result("Ada (1)", 2, 0, handed_in="2026-12-01 10:00:00 Z"),
        result("Ada (1)", 2, 2, exercise="gru"),
        *(
            Result(Submission(student, Path(), absent=True), None, "nothing was handed in")
            for student in ("Cem (3)", "Dan (4)", "Eve (5)")
        ),
    ]
    shared = share_in_groups(results, GROUPS)
    count = counting(shared)
    found = Totals.of(shared, count, EXERCISES, order=GROUPS.students)
    assert [list(row)[:3] for row in total_rows(found)][1:] == [
        ["Ada (1)", 3, 4],
        ["Bob (2)", 3, 4],
        ["Cem (3)", 3, 4],
        ["Dan (4)", 0, 0],
        ["Eve (5)", 0, 0],
    ]
    write_reports(shared, SafeWriter(tmp_path), count)
    counted = [row for row in rows(tmp_path / "grades.csv") if row["counts"] == "yes"]
    remarks = {(row["student"], row["exercise"]): row["remark"] for row in counted}
    assert remarks["Cem (3)", "lstm"] == "handed in by Bob (2) for your group"
    assert remarks["Bob (2)", "lstm"] == ""
    absent = [row for row in rows(tmp_path / "grades.csv") if "nothing" in row["remark"]]
    assert [row["student"] for row in absent] == ["Dan (4)", "Eve (5)"]
    [page] = (tmp_path / "feedback").glob("Cem*.html")
    assert "handed in by Bob (2) for your group" in page.read_text(encoding="utf-8")


def test_a_time_that_is_stated_for_one_member_holds_for_the_group():
    results = [
        result("Bob (2)", 2, 2),
        Result(Submission("Cem (3)", Path(), absent=True), None, "nothing was handed in"),
    ]
    stated = '[[handed_in]]\nstudent = "2"\nexercise = "lstm"\ntime = 2026-12-05T10:00:00+09:00\n'
    found, *_ = late(share_in_groups(results, GROUPS), RULE + stated, GROUPS)
    assert [points for points, _ in found] == [3.2, 3.2]


def test_in_a_group_the_notebook_that_counts_is_one_and_the_same():
    """Otherwise members with equal notebooks could be late by different numbers of days."""
    times = "2026-12-01 10:00:00 Z", "2026-12-05 10:00:00 Z"
    results = [result("Ada (1)", 2, 2, handed_in=times[0])]
    results.append(result("Bob (2)", 2, 2, handed_in=times[1]))
    shared = share_in_groups(results, GROUPS)
    final = [shared[number].submission for number in sorted(counting(shared))]
    assert [(one.student, one.handed_in) for one in final] == [
        ("Ada (1)", times[0]),
        ("Bob (2)", times[0]),
    ]


# -- the code of answers

SQUARE = "def step_1(x):\n    y = x ** 2\n    return '<b>' + y\n"


def failed(source, *, line=None, outcome="a", diagnosis=None, finding="expected 2, got 3"):
    """A notebook with one answer that fails."""
    wrong = Verdict("wrong", property="a batch of one", finding=finding, diagnosis=diagnosis)
    facts = {"source": source, "line": line, "outcome": outcome}
    return Graded("lstm", "Exercise lstm", [GradedStep("step_1", "Step 1", 0, 2, wrong, **facts)])


def test_a_page_shows_the_code_of_a_wrong_answer_with_the_line_that_failed(tmp_path):
    submission = Submission("ada", Path("ada.ipynb"))
    write_reports([Result(submission, failed(SQUARE, line=3))], SafeWriter(tmp_path))
    page = (tmp_path / "feedback" / "ada.html").read_text(encoding="utf-8")
    assert "   2      y = x ** 2\n" in page
    assert "<mark>▶  3      return &#x27;&lt;b&gt;&#x27; + y</mark></pre>" in page
    page = (tmp_path / "feedback" / "ada.md").read_text(encoding="utf-8")
    assert "\n    ▶  3      return '<b>' + y\n" in page


def test_a_page_shows_no_code_of_a_right_answer(tmp_path):
    right = GradedStep("step_1", "Step 1", 2, 2, Verdict("right"), source=SQUARE)
    notebook = Graded("lstm", "Exercise lstm", [right])
    write_reports([Result(Submission("ada", Path("ada.ipynb")), notebook)], SafeWriter(tmp_path))
    for end in ("html", "md"):
        assert "def step_1" not in (tmp_path / "feedback" / f"ada.{end}").read_text("utf-8")


def test_failures_that_nobody_named_are_gathered_by_what_they_return():
    longer = SQUARE + "    # as in the lecture\n"
    notebooks = [
        failed(longer),
        failed("def step_1(x):\n    return x[0]\n", outcome="b", finding="expected a tensor"),
        failed(SQUARE),
        failed(SQUARE, outcome="c", diagnosis="You square."),
        graded(2, 2),
    ]
    page = "\n".join(candidates(notebooks))
    first, second = page.split("\n## ")[1:]
    assert first.startswith("lstm, step_1: 2 answers\n")
    assert "y = x ** 2" in first
    assert "as in the lecture" not in first
    assert second.startswith("lstm, step_1: 1 answer\n")
    assert "    expected a tensor" in second
    assert "Every failed answer makes a known mistake." in "\n".join(candidates([graded(2)]))


def test_a_failure_of_a_group_is_gathered_once(tmp_path):
    results = [Result(Submission("Ada (1)", Path("ada.ipynb")), failed(SQUARE))]
    absent = Submission("Bob (2)", Path(), absent=True)
    results.append(Result(absent, None, "nothing was handed in"))
    write_reports(share_in_groups(results, GROUPS), SafeWriter(tmp_path))
    assert "## lstm, step_1: 1 answer\n" in (tmp_path / "candidates.md").read_text("utf-8")


@pytest.mark.parametrize(
    ("one", "other", "alike"),
    [
        ([{"returned": 0.3}], [{"returned": 0.1 + 0.2}], True),
        ([{"returned": 0.3}], [{"returned": 0.301}], False),
        ([{"returned": {"tensor": [-0.0]}}], [{"returned": {"tensor": [0.0]}}], True),
        ([{"returned": {"tensor": [1.0]}}], [{"returned": {"array": [1.0]}}], False),
        (
            [{"raised": {"type": "ValueError", "message": "a"}}],
            [{"raised": {"type": "ValueError", "message": "b"}}],
            True,
        ),
        (
            [{"raised": {"type": "ValueError", "message": "a"}}],
            [{"raised": {"type": "TypeError", "message": "a"}}],
            False,
        ),
    ],
)
def test_answers_are_alike_if_their_outcomes_are(one, other, alike):
    wrong = Verdict("wrong", property="a batch of one")
    assert (fingerprint(one, wrong) == fingerprint(other, wrong)) is alike


# -- open questions

TASK = "## 3. Open: why? (★★★, 60 minutes, no points)\n\nSay why."
START = "x = 1"
PICTURE = b"\x89PNG\r\n\x1a\n and what follows"


def cell(source, kind="markdown", **facts):
    return {"cell_type": kind, "source": source.splitlines(True)} | facts


OPEN = Exercise(
    "lstm",
    {
        "metadata": {},
        "cells": [
            *EXERCISES["lstm"].notebook["cells"],
            cell(TASK, id="open-task"),
            cell(START, "code", id="open-start"),
        ],
    },
    EXERCISES["lstm"].steps,
)


def hand_in(folder, student, *cells):
    """Write a notebook with these cells, and return its result."""
    path = folder / f"{student}.ipynb"
    path.write_text(json.dumps({"cells": cells}), encoding="utf-8")
    return Result(Submission(student, path), graded(2, 2))


@pytest.mark.parametrize(
    ("cells", "expected"),
    [
        ([cell("before"), cell(TASK), cell(START, "code"), cell("Because.")], ["Because."]),
        ([cell("## My own", id="open-task"), cell("Because.")], ["## My own", "Because."]),
        ([cell(f"{TASK}\n\nBecause.")], ["Because."]),
        ([cell(TASK), cell("x = 2", "code"), cell(" \n")], ["x = 2"]),
        ([cell(TASK), cell(START, "code")], []),
        ([cell("Because.")], []),
        ([cell(TASK), "no cell", {"source": 1}, {"source": [2]}], []),
    ],
)
def test_an_open_answer_is_what_a_student_added_to_the_task(cells, expected):
    found = open_answer({"cells": cells}, OPEN.notebook)
    assert [one.source for one in found] == expected


def test_open_answers_are_collected_with_outputs_and_the_rubric(tmp_path):
    picture = base64.b64encode(PICTURE).decode()
    outputs = [
        {"output_type": "stream", "text": ["0.5 <b>"]},
        {"output_type": "display_data", "data": {"image/png": picture, "text/plain": "Figure"}},
        {"output_type": "display_data", "data": {"image/png": "PHNjcmlwdD4=", "text/html": "<i>"}},
        "no output",
    ]
    code = cell("print(x)", "code", outputs=outputs)
    results = [
        hand_in(tmp_path, "ada", cell(TASK), cell("<script>Because."), code),
        hand_in(tmp_path, "bob", cell(TASK), cell(START, "code")),
    ]
    rubric = [Criterion("gives a reason", 2)]
    pages = collect_open_answers(results, {0, 1}, {"lstm": OPEN}, {"lstm": rubric})
    page, answered = pages["lstm"]
    assert answered == ["ada"]
    assert "<h2>ada</h2>" in page
    assert "&lt;script&gt;Because." in page
    assert "<pre>0.5 &lt;b&gt;</pre>" in page
    assert re.findall('src="([^"]+)"', page) == [f"data:image/png;base64,{picture}"]
    assert "<td>gives a reason</td><td>of 2</td>" in page
    assert "<h2>Without an answer</h2><p>bob</p>" in page
    assert not re.search("<(script|b|i)>", page)


def test_what_was_written_into_the_sheet_of_an_open_question_stays(tmp_path):
    path, rubric = tmp_path / "lstm.csv", [Criterion("gives a reason", 2)]
    path.write_text(sheet(path, ["ada"], rubric), encoding="utf-8")
    assert rows(path) == [{"student": "ada", "gives a reason (2)": "", "comment": ""}]
    path.write_text("student,gives a reason (2),comment\nada,2,고마워요", encoding="cp949")
    assert sheet(path, ["ada"], rubric) is None
    path.write_text(sheet(path, ["ada", "bob"], rubric), encoding="utf-8")
    ada, bob = rows(path)
    assert (ada["gives a reason (2)"], ada["comment"], bob["student"]) == ("2", "고마워요", "bob")


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("criteria = 1", "expected tables"),
        ("[[criteria]]\ntext = 'why'", "criterion 1: expected text and points"),
        ("[[criteria]]\ntext = 'why'\npoints = 'two'", "criterion 1: expected text and points"),
        ("[[criterion]]\ntext = 'why'\npoints = 2", "expected tables"),
        ("[[criteria]", "Expected"),
    ],
)
def test_a_rubric_that_can_not_be_used_is_refused(tmp_path, text, problem):
    (tmp_path / "rubric.toml").write_text(text)
    with pytest.raises(ValueError, match=rf"rubric.toml: .*{problem}"):
        read_rubric(tmp_path / "rubric.toml")


@pytest.mark.parametrize("name", COURSE.order)
def test_the_open_question_of_each_exercise_has_a_rubric(name):
    criteria = read_rubric(Path(__file__).parents[1] / "exercises" / name / "rubric.toml")
    assert sum(criterion.points for criterion in criteria) == 8  # so that they weigh the same


# -- similar notebooks

MOVING = """
def step_1(x, width):
    # the running mean
    total = torch.zeros(len(x))
    for start in range(len(x) - width):
        part = x[start : start + width]
        total[start] = part.sum().item() / max(width, 1)
    return total.clamp(min=0.5) * 2
"""
RENAMED = """
def step_1(values, size):
    out = torch.zeros(len(values))
    for i in range(len(values) - size):
        window = values[i : i + size]  # my own idea
        out[i] = window.sum().item() / max(size, 2)
    return out.clamp(min=0.25) * 3
"""
OTHER = """
def step_1(x, width):
    windows = x.unfold(0, width, 1).mean(dim=-1)
    padded = torch.cat([windows, windows.new_zeros(width - 1)])
    return torch.where(padded < 0.5, torch.full_like(padded, 0.5), padded).mul(2)
"""


def written(source):
    step = GradedStep("step_1", "Step 1", 2, 2, Verdict("right"), source=source)
    return Graded("lstm", "Exercise lstm", [step])


def test_a_copy_with_other_names_is_found_and_another_solution_is_not():
    notebooks = {"ada": written(MOVING), "bob": written(RENAMED), "cem": written(OTHER)}
    [pair] = similar_pairs(notebooks, given=[])
    assert (pair.one, pair.other, pair.steps) == ("ada", "bob", ["step_1"])
    assert pair.share == 1


HELPERS = """
def first(rows):
    return torch.stack([row.cumsum(0) - row.flip(0) for row in rows if row.numel() > 3])


def second(rows, size):
    return torch.einsum("ij,jk->ik", rows, rows.T).clamp(max=size).log1p()
"""
SHORT = """
def step_1(x, width):
    return (x.view(-1, width).sum(dim=1, keepdim=True) / width).squeeze(1)
"""


def test_a_copy_with_functions_in_another_order_is_found():
    first, second = HELPERS.split("\n\n\n")
    moved = f"{second}\n{OTHER}\n{first}".replace("rows", "m").replace("# ", "#").replace("3", "4")
    notebooks = {"ada": written(HELPERS + OTHER), "bob": written(moved), "cem": written(MOVING)}
    [pair] = similar_pairs(notebooks, given=[])
    assert (pair.one, pair.other) == ("ada", "bob")
    assert pair.share > 0.7


def test_what_few_wrote_comes_before_what_honest_answers_share():
    """A short step is alike in many honest notebooks; only the copy has the rest too."""
    ending = "\n\ndef own_{0}(a):\n    return a.t{0}(1).u{0}(2).v{0}(3).w{0}(4).x{0}(5)\n"
    notebooks = {f"student {n}": written(SHORT + ending.format(n)) for n in range(4)}
    notebooks |= {f"student {n}": written(MOVING + ending.format(n)) for n in range(4, 30)}
    notebooks |= {"ada": written(HELPERS + OTHER), "bob": written(HELPERS + OTHER)}
    first, *others = similar_pairs(notebooks, given=[])
    assert (first.one, first.other) == ("ada", "bob")
    assert all(pair.weight < first.weight for pair in others)
    assert all({pair.one, pair.other} <= {f"student {n}" for n in range(4)} for pair in others)


def test_code_to_which_the_task_leads_is_nobodys_own():
    notebooks = {"ada": written(MOVING), "bob": written(RENAMED)}
    assert similar_pairs(notebooks, given=[MOVING]) == []
    many = {f"student {number}": written(MOVING) for number in range(6)}
    assert similar_pairs(many, given=[]) == []
    few = dict(list(many.items())[:3])
    assert len(similar_pairs(few, given=[])) == 3


def test_members_of_a_group_are_not_compared(tmp_path):
    students = ("Ada (1)", "Bob (2)", "Dan (4)")
    results = [
        Result(Submission(student, Path("x.ipynb")), written(source))
        for student, source in zip(students, (MOVING, RENAMED, RENAMED), strict=True)
    ]
    page = "\n".join(similarity_page(results, {0, 1, 2}, EXERCISES, GROUPS))
    assert [line for line in page.splitlines() if line.startswith("## ")] == [
        "## lstm: Ada \\(1\\) and Dan \\(4\\), 100%",
        "## lstm: Bob \\(2\\) and Dan \\(4\\), 100%",
    ]
    assert "       5      for start in range(len(x) - width):" in page


@pytest.mark.parametrize("source", ["def step_1(:\n  '''", "x = (", "\tx\n  y", "", "\0"])
def test_code_that_is_not_valid_is_compared_as_far_as_it_goes(source):
    notebooks = {"ada": written(MOVING + source), "bob": written(RENAMED), "cem": written(source)}
    assert [(pair.one, pair.other) for pair in similar_pairs(notebooks, [])] == [("ada", "bob")]
