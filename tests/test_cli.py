import io
import json
import os
import re
import select
import shutil
import signal
import subprocess
import sys
import time
import unicodedata
from itertools import product

import pytest
import torch
from conftest import PATIENCE

from seqbook import cli
from seqbook.cli import INTERRUPTED, main
from seqbook.data import place_names, pronunciations
from seqbook.data.pairs import Split, detokenize, tokenize
from seqbook.models import transcriber
from seqbook.models.seq2seq import Seq2Seq
from seqbook.models.transcriber import Transcriber
from seqbook.training.recipes import RECIPES
from seqbook.training.runs import Run

COMMAND = [sys.executable, "-m", "seqbook.cli"]
SMALL = [
    *(
        "--model",
        "gru",
        "--option",
        "embedding_size=16",
        "--option",
        "hidden_size=32",
        "--option",
        "dropout=0",
    ),
    *("--batch", "32", "--learning-rate", "0.01", "--warmup", "20", "--label-smoothing", "0"),
]
PARTS = ("validation", "test")
WAIT = 5 * PATIENCE  # a command imports torch and trains


@pytest.fixture(autouse=True)
def threads():
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


@pytest.fixture
def run(capsys):
    """Run a command: its exit code, and what it wrote as results and as messages."""

    def call(*arguments):
        capsys.readouterr()
        try:
            code = main([str(argument) for argument in arguments])
        except SystemExit as end:
            code = end.code
        out, err = capsys.readouterr()
        return code, out, err.replace("\r", "\n")

    return call


def refuse(run, *arguments, code=1):
    """What a command says that fails, on its last line."""
    exit_code, out, err = run(*arguments)
    assert (exit_code, out) == (code, "")
    return err.strip().splitlines()[-1]


def rows(columns):
    return "".join(f"{source}\t{target}\n" for source, target in columns)


WORDS = ["".join(word) for n in (1, 2, 3, 4) for word in product("abcd", repeat=n)]
SYLLABLES = {
    i + v + f: unicodedata.normalize("NFC", jamo_i + jamo_v + jamo_f)
    for i, jamo_i in (("g", "\u1100"), ("n", "\u1102"), ("d", "\u1103"))
    for v, jamo_v in (("a", "\u1161"), ("o", "\u1169"))
    for f, jamo_f in (("", ""), ("m", "\u11b7"), ("ng", "\u11bc"))
}
HANGUL = {
    "-".join(word): "".join(SYLLABLES[s] for s in word)
    for n in (1, 2)
    for word in product(SYLLABLES, repeat=n)
}


@pytest.fixture(scope="module")
def letters(tmp_path_factory):
    """A file of pairs, small letters to capitals."""
    path = tmp_path_factory.mktemp("letters") / "letters.tsv"
    path.write_text(rows((word, word.upper()) for word in WORDS), encoding="utf-8")
    return path


@pytest.fixture(scope="module")
def trained(letters, tmp_path_factory):
    """The folder of a finished run."""
    folder = tmp_path_factory.mktemp("trained") / "run"
    assert main(["train", "--task", str(letters), "--out", str(folder), *SMALL]) == 0
    return folder


def test_there_is_a_recipe_for_each_kind_of_model():
    """The command line names the recipes, so that it need not import torch to know them."""
    assert set(transcriber.MODELS) == set(RECIPES)
    assert all(RECIPES[name].model == name for name in RECIPES)


@pytest.mark.parametrize("command", [[], ["train"], ["evaluate"], ["transcribe"]])
def test_help_is_given(run, command):
    code, out, _ = run(*command, "--help")
    assert code == 0
    assert out.startswith(f"usage: {' '.join(['seqbook', *command])}")
    for word in {
        0: ("train", "evaluate", "transcribe"),
        "train": (
            "--task",
            "--out",
            "--option",
            "jamo",
            "tagged",
            "pronunciations",
            "--test-share",
        ),
        "evaluate": ("MODEL", "--task", "--part", "--beam", "--device"),
        "transcribe": ("MODEL", "TEXT", "--beam", "standard input"),
    }[command[0] if command else 0]:
        assert word in out


def test_help_and_mistyped_options_need_no_torch():
    script = (
        "import sys\nfrom seqbook.cli import main\n"
        "for arguments in (['train', '--help'], ['train', '--modell', 'x'], ['fly']):\n"
        "    try:\n        main(arguments)\n    except SystemExit:\n        pass\n"
        "sys.exit('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", script], capture_output=True).returncode == 0


# Train.


def test_training_leaves_a_model_and_a_record(letters, tmp_path, run):
    command = ["train", "--task", letters, "--out", tmp_path / "run", *SMALL, "--epochs", "11"]
    code, out, err = run(*command)
    assert code == 0
    steps = 110
    assert re.fullmatch(
        r"34 sources, beam 1: word error \d+\.\d\d%, symbol error \d+\.\d\d%\n"
        r"34 sources, beam 5: word error \d+\.\d\d%, symbol error \d+\.\d\d%\n"
        rf"{tmp_path}/run/model\.safetensors: [\d,]+ weights, 0\.0\d MB\n",
        out,
    )
    assert f"{steps}/{steps}" in err
    for step in (100, 110):
        assert re.search(
            rf"^step {step}, 0\.\d min: validation word error [\d.]+%, symbol", err, re.M
        )

    model = Transcriber.load(tmp_path / "run" / "model.safetensors")
    record = json.loads((tmp_path / "run" / "record.json").read_text(encoding="utf-8"))
    assert record == model.record
    assert record["command"] == " ".join(["seqbook", *map(str, command)])
    assert record["task"] == "letters.tsv"
    assert record["steps"] == steps
    assert [entry["beam"] for entry in record["test"]] == [1, 5]
    assert record["recipe"]["epochs"] == 11
    assert record["recipe"]["options"]["embedding_size"] == 16
    assert model.kind == "gru"


def test_a_run_that_would_end_while_warming_up_is_warned_of(letters, tmp_path, run):
    command = ["train", "--task", letters, *SMALL, "--epochs", "2", "--warmup"]
    message = f"{letters}: gives 20 steps in all, of which 11 are to warm up; try more --epochs or"
    assert message in run(*command, "11", "--out", tmp_path / "11")[2]
    assert "warm up" not in run(*command, "10", "--out", tmp_path / "10")[2]


def contents(folder):
    return {path.name: (path.read_bytes(), path.stat().st_mtime_ns) for path in folder.iterdir()}


def test_a_finished_run_says_so_and_changes_nothing(letters, trained, run):
    before = contents(trained)
    code, out, err = run("train", "--task", letters, "--out", trained, *SMALL)
    assert (code, out) == (0, "")
    assert err == f"{trained}/model.safetensors: finished already, after 280 steps\n"
    assert contents(trained) == before


def test_the_file_may_be_called_by_another_path(letters, trained, run, monkeypatch):
    monkeypatch.chdir(letters.parent)
    code, _, err = run("train", "--task", f"./{letters.name}", "--out", trained, *SMALL)
    assert code == 0
    assert "finished already" in err


def test_a_run_of_something_else_is_refused(letters, trained, run):
    before = contents(trained)
    message = refuse(run, "train", "--task", letters, "--out", trained, *SMALL, "--seed", 3)
    assert message == (
        f"seqbook: {trained}: holds a run with other settings: recipe.seed is 0 there, 3 now. "
        "Use its settings to resume it, or choose another folder"
    )
    assert contents(trained) == before


@pytest.mark.parametrize("moment", ["scoring", "saving"])
def test_a_run_can_be_interrupted_after_its_last_step(letters, tmp_path, run, monkeypatch, moment):
    command = ["train", "--task", letters, "--out", tmp_path / "run", *SMALL, "--epochs", "0.5"]

    def interrupt(*_args, **_options):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        if moment == "scoring":
            patch.setattr(cli, "_scores", interrupt)
        else:
            patch.setattr(Transcriber, "save", interrupt)
        code, out, err = run(*command)
    assert (code, out) == (INTERRUPTED, "")
    assert err.endswith("seqbook: interrupted\n")
    assert not (tmp_path / "run" / "model.safetensors").exists()
    assert "no model yet" in refuse(run, "transcribe", tmp_path / "run", "ab")
    assert run(*command)[0] == 0
    assert (tmp_path / "run" / "model.safetensors").exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--option", "wdith=8"], "options of gru: expected 'embedding_size' or .* got 'wdith'"),
        (["--option", "width"], "--option: expected NAME=VALUE, got 'width'"),
        (["--option", "embedding_size=wide"], "options of gru: "),
        (["--option", "hidden_size=7"], "hidden_size: expected a positive even number, got 7"),
        (["--option", "dropout=2"], "dropout probability has to be between 0 and 1"),
        (["--epochs", "0"], "epochs: expected a positive finite number, got 0.0"),
        (["--epochs", "inf"], "epochs: expected a positive finite number, got inf"),
        (["--batch", "-1"], "batch: expected a positive finite number, got -1"),
        (["--label-smoothing", "1"], "label_smoothing: expected 0 to below 1, got 1.0"),
        (["--seed", "-1"], "seed: expected 0 to"),
        (
            ["--learning-rate", "1e30"],
            r"(loss|gradient norm|source_embedding\.weight): expected a finite .* smaller",
        ),
    ],
)
def test_numbers_and_options_that_do_not_fit_are_refused(
    letters, tmp_path, run, arguments, message
):
    printed = refuse(run, "train", "--task", letters, "--out", tmp_path / "run", *SMALL, *arguments)
    assert re.match(f"seqbook: {message}", printed)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--threads", "0"], "argument --threads: expected a whole number of at least 1, got '0'"),
        (["--threads", "two"], "argument --threads: expected a whole number of at least 1"),
        (["--model", "gpt"], "argument --model: invalid choice: 'gpt'"),
        (["--source-level", "letters"], "argument --source-level: invalid choice: 'letters'"),
        (["--epochs", "many"], "argument --epochs: invalid float value: 'many'"),
        (["--widht", "8"], "unrecognized arguments: --widht 8"),
    ],
)
def test_mistyped_arguments_are_refused(letters, tmp_path, run, arguments, message):
    printed = refuse(run, "train", "--task", letters, "--out", tmp_path / "run", *arguments, code=2)
    assert re.match(rf"seqbook( train)?: error: {message}", printed)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("text", "value"),
    [("8", 8), ("0.5", 0.5), ("post", "post"), ("true", True), ("1e-3", 1e-3), ("a=b", "a=b")],
)
def test_an_option_is_a_number_a_truth_or_a_text(text, value):
    parsed = cli._parser().parse_args(
        ["train", "--task", "f", "--out", "o", "--option", f"name={text}", "--option", "heads=1"]
    )
    options = cli._recipe(parsed).options
    assert options["name"] == value
    assert type(options["name"]) is type(value)
    assert options["heads"] == 1
    assert options["d_model"] == RECIPES["transformer"].options["d_model"]
    assert "name" not in RECIPES["transformer"].options


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("a\tb\nlonely\nc\td\n", "line 2: expected 2 columns, .* got 1: 'lonely'"),
        ("a\tb\n\nc\t\n", r"line 3: expected a target, got an empty column: 'c\\t'"),
        (b"a\tb\nc\t\xff\n", "line 2: expected UTF-8, got byte 0xff at position 3"),
        ("", "expected rows of source, tab, target, got none"),
        ("a\tb\nc\td\n", "expected at least 4 pairs, .* got 2"),
    ],
)
@pytest.mark.parametrize("command", ["train", "evaluate"])
def test_a_bad_row_is_named_with_its_line(tmp_path, trained, run, command, content, message):
    path = tmp_path / "pairs.tsv"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    arguments = ["--out", tmp_path / "run", *SMALL] if command == "train" else [trained]
    printed = refuse(run, command, *arguments, "--task", path)
    assert printed.startswith("seqbook: ")
    assert re.search(message, printed)
    if "line" in message:
        assert f"{path}, line" in printed
    assert not (tmp_path / "run").exists()


def test_a_task_that_is_no_file_is_named_with_the_choices(tmp_path, run):
    message = refuse(run, "train", "--task", "pronunciation", "--out", tmp_path / "run")
    assert message == (
        "seqbook: --task: expected a file or one of pronunciations, place_names, got "
        "'pronunciation'"
    )


def test_a_folder_that_cannot_be_made_is_an_error_without_traceback(letters, tmp_path, run):
    (tmp_path / "file").touch()
    message = refuse(run, "train", "--task", letters, "--out", tmp_path / "file" / "run", *SMALL)
    assert str(tmp_path / "file") in message


def test_a_full_disk_is_an_error_without_traceback(letters, tmp_path, run, monkeypatch):
    def full(_descriptor):
        raise OSError(28, "No space left on device")

    command = ["train", "--task", letters, "--out", tmp_path / "run", *SMALL, "--epochs", "0.3"]
    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full)
        assert refuse(run, *command) == "seqbook: [Errno 28] No space left on device"
    assert run(*command)[0] == 0
    assert sorted(os.listdir(tmp_path / "run")) == [
        "checkpoint.pt",
        "model.safetensors",
        "record.json",
        "run.json",
    ]


# Interrupted from outside.


@pytest.fixture(autouse=True)
def interrupts_are_heard():
    """Hear SIGINT here and in child processes; a job in the background is started deaf to it."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


def begin(command, **options):
    return subprocess.Popen(
        [*COMMAND, *map(str, command)],
        stdout=options.pop("stdout", subprocess.PIPE),
        stderr=subprocess.PIPE,
        **options,
    )


def wait_for(pattern, stream):
    """Read until a pattern occurs; return all that was read."""
    output, end = "", time.monotonic() + WAIT
    while not re.search(pattern, output, re.M):
        ready, _, _ = select.select([stream], [], [], end - time.monotonic())
        assert ready, f"timed out after: {output}"
        read = os.read(stream.fileno(), 4096)
        assert read, f"ended after: {output}"
        output += read.decode().replace("\r", "\n")
    return output


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has other signals")
def test_a_killed_command_resumes_to_the_same_result(letters, tmp_path, run):
    """Each time after a score, the first line that says that steps are being done."""
    command = ["train", "--task", letters, *SMALL, "--epochs", "30", "--option", "dropout=0.2"]
    resumed = [*command, "--out", tmp_path / "killed"]
    step = 0
    for number in (signal.SIGINT, signal.SIGTERM):
        process = begin(resumed)
        reported = wait_for(r"^step \d+, ", process.stderr)
        assert ("resumes after" in reported) == (step > 0)
        process.send_signal(number)
        out, err = process.communicate(timeout=WAIT)
        err = err.decode().replace("\r", "\n")
        assert (process.returncode, out) == (INTERRUPTED, b"")
        assert "stopping as soon as this step is saved" in err
        last = err.strip().splitlines()[-1]
        reported = re.fullmatch(
            r"interrupted after step (\d+) of 300; nothing is lost, the same command resumes from "
            r"there",
            last,
        )
        assert step < int(reported[1]) < 300
        step = int(reported[1])
        assert "Traceback" not in err

    process = begin(resumed)
    reported = wait_for(r"^step \d+, ", process.stderr)
    assert f"{tmp_path / 'killed'}: resumes after step {step}\n" in reported
    process.kill()
    process.communicate(timeout=WAIT)
    assert process.returncode == -signal.SIGKILL
    assert sorted(os.listdir(tmp_path / "killed")) == ["checkpoint.pt", "run.json"]

    code, out, err = run(*resumed)
    assert code == 0
    assert f"resumes after step {step}\n" in err  # what the killed process did is done again
    expected = out.replace("/killed/", "/whole/")
    assert run(*command, "--out", tmp_path / "whole")[:2] == (0, expected)
    killed, whole = (
        Transcriber.load(tmp_path / name / "model.safetensors") for name in ("killed", "whole")
    )
    ours, theirs = killed.model.state_dict(), whole.model.state_dict()
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)
    assert without_times(killed.record) == without_times(whole.record)


def without_times(record):
    history = [{k: v for k, v in entry.items() if k != "minutes"} for entry in record["history"]]
    timeless = {k: v for k, v in record.items() if k not in ("minutes", "command")}
    return {**timeless, "history": history}


def test_a_second_interrupt_stops_at_once(letters, tmp_path, run, monkeypatch):
    def never_ends(*_arguments, **_options):
        signal.raise_signal(signal.SIGINT)
        signal.raise_signal(signal.SIGINT)
        pytest.fail("not interrupted")

    monkeypatch.setattr(Seq2Seq, "loss", never_ends)
    before = signal.getsignal(signal.SIGINT)
    code, out, err = run("train", "--task", letters, "--out", tmp_path / "run", *SMALL)
    assert (code, out) == (INTERRUPTED, "")
    assert err.endswith("seqbook: interrupted\n")
    assert signal.getsignal(signal.SIGINT) is before


def test_the_handlers_of_signals_are_put_back(letters, tmp_path, run):
    before = signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)
    run("train", "--task", letters, "--out", tmp_path / "run", *SMALL, "--epochs", "0.2")
    assert (signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)) == before


@pytest.mark.parametrize("command", ["evaluate", "transcribe"])
def test_an_interrupted_use_says_so(letters, trained, run, monkeypatch, command):
    def interrupt(*_args, **_options):
        raise KeyboardInterrupt

    monkeypatch.setattr(Transcriber, "generate", interrupt)
    rest = ["--task", letters] if command == "evaluate" else ["ab"]
    code, out, err = run(command, trained, *rest)
    assert (code, out) == (INTERRUPTED, "")
    assert err.endswith("seqbook: interrupted\n")


def test_a_terminal_is_answered_line_by_line_until_interrupted(trained):
    pty = pytest.importorskip("pty")
    ours, theirs = pty.openpty()
    process = begin(["transcribe", trained], stdin=theirs)
    for word in ("abc", "db"):
        os.write(ours, f"{word}\n".encode())
        assert wait_for("\n", process.stdout) == f"{word}\t{word.upper()}\n"
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=WAIT)
    os.close(ours)
    os.close(theirs)
    assert (process.returncode, out, err) == (INTERRUPTED, b"", b"seqbook: interrupted\n")


@pytest.mark.parametrize("command", ["evaluate", "transcribe"])
def test_a_reader_that_has_seen_enough_ends_the_command(trained, letters, monkeypatch, command):
    reading, writing = os.pipe()
    os.close(reading)
    rest = ["--task", str(letters)] if command == "evaluate" else ["ab"]
    with open(writing, "w") as out:
        monkeypatch.setattr(sys, "stdout", out)
        assert main([command, str(trained), *rest]) == 0
        out.flush()  # as Python does when it ends, which would complain


# Evaluate.


@pytest.mark.parametrize(
    ("part", "count"), [("test", 34), ("validation", 17), ("training", 289), ("all", 340)]
)
def test_each_part_is_scored(letters, trained, run, part, count):
    code, out, _ = run("evaluate", trained, "--task", letters, "--part", part)
    assert code == 0
    assert out == f"{count} sources, beam 1: word error 0.00%, symbol error 0.00%\n"


def test_a_model_is_found_by_folder_or_file_and_decoded_with_a_beam(letters, trained, run):
    for name in (trained, trained / "model.safetensors"):
        code, out, _ = run("evaluate", name, "--task", letters, "--beam", 3)
        assert code == 0
        assert out == "34 sources, beam 3: word error 0.00%, symbol error 0.00%\n"


def test_new_rows_are_scored_as_a_whole(tmp_path, trained, run):
    path = tmp_path / "new.tsv"
    path.write_text("abab\tABAB\nab\tXYZ!\n")
    _, out, _ = run("evaluate", trained, "--task", path, "--part", "all")
    assert out == "2 sources, beam 1: word error 50.00%, symbol error 50.00%\n"


@pytest.mark.parametrize("width", ["0", "-1", "two", "1.5"])
def test_a_beam_without_width_is_refused(letters, trained, run, width):
    message = refuse(run, "evaluate", trained, "--task", letters, "--beam", width, code=2)
    assert "argument --beam: expected " in message


@pytest.mark.parametrize("command", ["evaluate", "transcribe"])
@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("checkpoint.pt", "checkpoint.pt: expected a model file of this package"),
        ("run.json", "run.json: expected a model file of this package"),
        ("nowhere.safetensors", r"\[Errno 2\] No such file or directory: '.*nowhere.safetensors'"),
    ],
)
def test_a_file_without_a_model_is_refused(letters, trained, run, command, name, message):
    rest = ["--task", letters] if command == "evaluate" else ["ab"]
    assert re.search(message, refuse(run, command, trained / name, *rest))


# Own files for validation and test, and other shares.


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """Files of training, validation and test rows; two test sources are training sources too."""
    folder = tmp_path_factory.mktemp("files")
    for name, words in (("training", WORDS[:300]), ("dev", WORDS[300:320]), ("new", WORDS[298:])):
        columns = ((word, word.upper()) for word in words)
        (folder / f"{name}.tsv").write_text(rows(columns), encoding="utf-8")
    return folder


@pytest.fixture
def split_sizes(monkeypatch):
    """Sizes of the three parts that runs are given."""
    sizes = []
    build = Run.__init__

    def spy(self, folder, recipe, data, **options):
        sizes.append(tuple(map(len, data)))
        build(self, folder, recipe, data, **options)

    monkeypatch.setattr(Run, "__init__", spy)
    return sizes


@pytest.mark.parametrize(
    ("arguments", "sizes", "parts"),
    [
        ([], (255, 15, 30), {"validation": 0.05, "test": 0.1}),
        (
            ["--validation", "dev.tsv", "--test", "new.tsv"],
            (300, 20, 42),
            {"validation": "dev.tsv", "test": "new.tsv"},
        ),
        (["--test", "new.tsv"], (300, 0, 42), {"validation": 0, "test": "new.tsv"}),
        (["--validation", "dev.tsv"], (300, 20, 0), {"validation": "dev.tsv", "test": 0}),
        (
            ["--test", "new.tsv", "--validation-share", "0.1"],
            (270, 30, 42),
            {"validation": 0.1, "test": "new.tsv"},
        ),
        (
            ["--validation-share", "0.2", "--test-share", "0.02"],
            (234, 60, 6),
            {"validation": 0.2, "test": 0.02},
        ),
        (["--validation-share", "0", "--test-share", "0"], (300, 0, 0), dict.fromkeys(PARTS, 0)),
    ],
)
def test_rows_to_validate_and_to_test_are_own_files_or_shares(
    files, tmp_path, run, monkeypatch, split_sizes, arguments, sizes, parts
):
    monkeypatch.chdir(files)
    out = tmp_path / "run"
    command = ["train", "--task", "training.tsv", "--out", out, *SMALL, "--epochs", "0.3"]
    code, _, err = run(*command, *arguments)
    assert code == 0
    assert split_sizes == [sizes]
    record = Transcriber.load(out / "model.safetensors").record
    assert record["parts"] == parts
    assert [entry["pairs"] for entry in record["test"]] == ([sizes[2]] * 2 if sizes[2] else [])
    assert bool(record["history"]) == bool(sizes[1])
    warning = "new.tsv: 2 of 42 sources are training sources too, so that the score is better"
    assert (warning in err) == ("new.tsv" in arguments)

    # What evaluates by default are the test rows, as training split them.
    if parts["test"] == "new.tsv":
        assert run("evaluate", out, "--task", "new.tsv")[1].startswith("42 sources")
        assert refuse(run, "evaluate", out, "--task", "training.tsv", "--part", "test") == (
            "seqbook: --part: the test rows of this model were in a file of their own, new.tsv; "
            "score it with --task FILE --part all"
        )
    elif sizes[2]:
        assert run("evaluate", out, "--task", "training.tsv")[1].startswith(f"{sizes[2]} sources")
    else:
        assert "no row was held back" in refuse(run, "evaluate", out, "--task", "training.tsv")
    training = run("evaluate", out, "--task", "training.tsv", "--part", "training")[1]
    assert training.startswith(f"{sizes[0]} sources")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--test", "new.tsv", "--test-share", "0.1"], "--test-share: expected no share beside a"),
        (["--test-share", "1"], "test_share: expected 0, 0.01, 0.02, ... or 0.99, got 1.0"),
        (["--test", "nowhere.tsv"], r"\[Errno 2\] No such file or directory: 'nowhere.tsv'"),
        (["--validation", "bad.tsv"], "bad.tsv, line 1: expected 2 columns"),
        (
            ["--task", "place_names", "--test", "new.tsv"],
            "--test: place_names has its own validation and test rows",
        ),
        (
            ["--task", "place_names", "--validation-share", "0.1"],
            "--validation-share: place_names has its own validation and test rows",
        ),
    ],
)
def test_parts_that_do_not_fit_are_refused(files, tmp_path, run, monkeypatch, arguments, message):
    monkeypatch.chdir(files)
    (files / "bad.tsv").write_text("lonely\n")
    command = ["train", "--task", "training.tsv", "--out", tmp_path / "run", *SMALL, *arguments]
    assert re.match(f"seqbook: {message}", refuse(run, *command))
    assert not (tmp_path / "run").exists()


def test_another_file_of_test_rows_is_another_run(files, tmp_path, run, monkeypatch):
    monkeypatch.chdir(files)
    command = ["train", "--task", "training.tsv", "--out", tmp_path, *SMALL, "--epochs", "0.3"]
    assert run(*command, "--test", "new.tsv")[0] == 0
    assert "parts.test is 'new.tsv' there, 'dev.tsv' now" in refuse(
        run, *command, "--test", "dev.tsv"
    )


@pytest.mark.parametrize("command", ["train", "evaluate", "transcribe"])
def test_a_device_that_is_not_here_is_refused(letters, trained, tmp_path, run, command):
    arguments = {
        "train": ["--task", letters, "--out", tmp_path / "run", *SMALL],
        "evaluate": [trained, "--task", letters],
        "transcribe": [trained, "ab"],
    }[command]
    for device in ("cuda:99", "gpu", "meta"):
        message = refuse(run, command, *arguments, "--device", device)
        assert re.fullmatch(
            rf"seqbook: device: expected one of this machine \(cpu.*\), got '{device}'", message
        )
    assert not (tmp_path / "run").exists()


# Transcribe.


@pytest.fixture
def typed(monkeypatch):
    """Give bytes as standard input."""

    def give(content):
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(content), encoding="ascii"))

    return give


def test_texts_are_transcribed_in_their_order(trained, run):
    assert run("transcribe", trained, "abca", "d", "cab") == (0, "abca\tABCA\nd\tD\ncab\tCAB\n", "")


@pytest.mark.parametrize("place", range(4))
def test_options_are_accepted_in_any_position(trained, run, place):
    words = [trained, "abca", "d"]
    words[place:place] = ["--beam", 4]
    assert run("transcribe", *words) == (0, "abca\tABCA\nd\tD\n", "")
    message = refuse(run, "transcribe", *words, "--bema", 4, code=2)
    assert re.search("error: unrecognized arguments: .*--bema", message)


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (b"", ""),
        (b"ab\ncd\n", "ab\tAB\ncd\tCD\n"),
        (b"ab\ncd", "ab\tAB\ncd\tCD\n"),
        (b"ab\r\ncd\r\n", "ab\tAB\ncd\tCD\n"),
        (b"\xef\xbb\xbfab\n", "ab\tAB\n"),
        (b"\nab\n\n", "\t\nab\tAB\n\t\n"),
        (
            "ab \n ab\nab\t\n  \t\nab\u00a0\n\ufeffab\n".encode(),
            "ab\tAB\n" * 3 + "\t\n" + "ab\tAB\n" * 2,
        ),
    ],
    ids=["nothing", "lines", "no last newline", "Windows", "BOM", "empty lines", "white space"],
)
def test_lines_of_standard_input_are_transcribed(trained, run, typed, content, expected):
    typed(content)
    assert run("transcribe", trained) == (0, expected, "")


def test_many_lines_keep_their_order(trained, run, typed):
    words = [*WORDS, "", *WORDS[::-1]]
    typed("\n".join(words).encode())
    assert run("transcribe", trained)[1] == rows((word, word.upper()) for word in words)


def test_what_the_model_has_not_seen_is_named_once(trained, run):
    code, out, err = run("transcribe", trained, "a?b", "é?", "ab")
    assert code == 0
    assert [line.split("\t")[0] for line in out.splitlines()] == ["a?b", "é?", "ab"]
    assert err == "seqbook: not among the model's symbols: '?', 'é'\n"


def test_input_that_is_not_utf8_is_named_with_its_line(trained, run, typed):
    typed(b"ab\ncd\xff\n")
    assert refuse(run, "transcribe", trained) == (
        "seqbook: standard input, line 2: expected UTF-8, got byte 0xff"
    )


# Hangul, and the book's tasks.


@pytest.fixture(scope="module", params=["read", "written"])
def hangul(request, tmp_path_factory):
    """The folder of a run that learned to read Hangul or to write it, and its pairs."""
    folder = tmp_path_factory.mktemp(request.param)
    learned = HANGUL.items() if request.param == "written" else map(reversed, HANGUL.items())
    learned = dict(map(tuple, learned))
    (folder / "pairs.tsv").write_text(rows(learned.items()), encoding="utf-8")
    side = "--source-level" if request.param == "read" else "--target-level"
    command = ["train", "--task", str(folder / "pairs.tsv"), "--out", str(folder / "run"), *SMALL]
    assert main([*command, side, "jamo", "--epochs", "25"]) == 0
    return folder, learned


def test_hangul_is_decomposed_and_composed(hangul, run):
    folder, learned = hangul
    texts = [*learned][::7]
    code, out, err = run("transcribe", folder / "run", *texts)
    assert (code, err) == (0, "")
    written = dict(line.split("\t") for line in out.splitlines())
    assert out == unicodedata.normalize("NFC", out)
    wrong = [text for text in texts if written[text] != learned[text]]
    assert len(wrong) < len(texts) / 10, wrong

    decomposed = [unicodedata.normalize("NFD", text) for text in texts]
    again = dict(
        line.split("\t") for line in run("transcribe", folder / "run", *decomposed)[1].splitlines()
    )
    assert [again[text] for text in decomposed] == [written[text] for text in texts]

    code, out, _ = run("evaluate", folder / "run", "--task", folder / "pairs.tsv", "--part", "all")
    assert (code, out.split(",")[0]) == (0, "342 sources")


def test_hangul_is_written_in_utf8_whatever_the_terminal(hangul, monkeypatch, typed):
    folder, learned = hangul
    (text, target), *_ = learned.items()
    out = io.TextIOWrapper(io.BytesIO(), encoding="latin-1")
    monkeypatch.setattr(sys, "stdout", out)
    typed(text.encode())
    assert main(["transcribe", str(folder / "run")]) == 0
    assert out.buffer.getvalue().decode() == f"{text}\t{target}\n"


@pytest.mark.parametrize("task", [place_names, pronunciations])
def test_the_books_tasks_are_tokenized_at_their_levels(task):
    name = task.__name__.rpartition(".")[2]
    source_level, target_level = cli.BUILT_IN[name]
    for pair in task.load().test[:500]:
        assert tokenize(detokenize(pair.source, source_level), source_level) == pair.source
        for target in pair.targets:
            assert tokenize(detokenize(target, target_level), target_level) == target


def test_a_model_of_place_names_reads_country_and_name(tmp_path, run, monkeypatch):
    few = Split(*(part[:60] for part in place_names.load()))
    monkeypatch.setattr(place_names, "load", lambda: few)
    command = ["train", "--task", "place_names", "--out", tmp_path / "run", *SMALL]
    assert run(*command, "--epochs", "30")[0] == 0
    assert Transcriber.load(tmp_path / "run" / "model.safetensors").source_level == "tagged"
    source = detokenize(few.training[0].source, "tagged")
    assert re.fullmatch("[A-Z]{2} .+", source)
    code, out, err = run("transcribe", tmp_path / "run", source)
    assert (code, err) == (0, "")
    assert re.fullmatch(f"{source}\t[가-힣 ]+\n", out)

    assert run("evaluate", tmp_path / "run", "--task", "place_names", "--part", "all")[
        1
    ].startswith("180 sources")
    assert refuse(run, "evaluate", tmp_path / "run", "--task", "pronunciations") == (
        "seqbook: --task: the levels of pronunciations are characters and words, those of the "
        "model tagged and jamo"
    )


def test_the_levels_of_the_books_tasks_are_fixed(tmp_path, run, monkeypatch):
    monkeypatch.setattr(pronunciations, "load", lambda: pytest.fail("not refused"))
    command = ["train", "--task", "pronunciations", "--out", tmp_path / "run"]
    assert refuse(run, *command, "--target-level", "characters") == (
        "seqbook: --target-level: that of pronunciations is words, got characters"
    )
    assert not (tmp_path / "run").exists()


def test_the_command_is_installed():
    assert shutil.which("seqbook", path=os.path.dirname(sys.executable))
