"""The commands compress and decompress."""

import os
import subprocess
import sys

import pytest

from seqbook import cli
from seqbook.cli import main
from seqbook.compression.predictor import SETTINGS

TEXT = "나랏말싸미 듕귁에 달아, and a line of English\r\n".encode() * 3 + b"\xff\x00"


@pytest.fixture
def run(capsys):
    """Run a command: its exit code, and what it wrote as results and as messages."""

    def call(*arguments):
        capsys.readouterr()
        code = main([str(argument) for argument in arguments])
        out, err = capsys.readouterr()
        return code, out, err.replace("\r", "\n")

    return call


@pytest.fixture
def text(tmp_path):
    path = tmp_path / "text.txt"
    path.write_bytes(TEXT)
    return path


@pytest.fixture
def packed(text, run):
    """A file whose original is gone."""
    run("compress", text)
    text.unlink()
    return text.with_name("text.txt.sqbk")


@pytest.mark.parametrize("settings", ["standard", "full"])
def test_a_file_is_compressed_and_comes_back(text, run, settings):
    packed = text.with_name("text.txt.sqbk")
    code, out, err = run("compress", text, "--settings", settings)
    size = packed.stat().st_size
    bits = f"{8 * size / len(TEXT):.3f} bits per byte"
    assert (code, err) == (0, "")
    assert out == f"{packed}: {len(TEXT):,} bytes became {size}, {bits}\n"
    assert size < len(TEXT)
    text.unlink()
    code, out, err = run("decompress", packed)
    assert (code, err) == (0, "")
    assert out == f"{text}: {size} bytes became {len(TEXT):,}; the checksum is right\n"
    assert text.read_bytes() == TEXT
    assert sorted(text.parent.iterdir()) == [text, packed]


def test_the_settings_are_those_of_the_package(capsys):
    assert tuple(SETTINGS) == cli.COMPRESSION_SETTINGS
    for command, words in (("compress", [*SETTINGS, "--force"]), ("decompress", ["archive"])):
        with pytest.raises(SystemExit):
            main([command, "--help"])
        out = capsys.readouterr().out
        assert all(word in out for word in [*words, "FILE", "--out"])


def test_an_empty_file_comes_back(tmp_path, run):
    (tmp_path / "empty").touch()
    assert run("compress", tmp_path / "empty")[:2] == (
        0,
        f"{tmp_path / 'empty.sqbk'}: 0 bytes became 23\n",
    )
    assert run("decompress", tmp_path / "empty.sqbk", "--out", tmp_path / "back")[0] == 0
    assert (tmp_path / "back").read_bytes() == b""


def test_an_output_is_not_overwritten_unless_asked(text, run):
    packed = text.with_name("text.txt.sqbk")
    packed.write_bytes(b"of somebody")
    code, out, err = run("compress", text)
    assert (code, out) == (1, "")
    assert f"{packed} exists already; give another name, or --force to overwrite it" in err
    assert packed.read_bytes() == b"of somebody"
    assert run("compress", text, "--force")[0] == 0
    code, out, err = run("decompress", packed)
    assert (code, out) == (1, "")
    assert f"{text} exists already" in err
    text.write_bytes(b"changed since")
    assert run("decompress", packed)[0] == 1
    assert text.read_bytes() == b"changed since"
    assert run("decompress", packed, "--force")[0] == 0
    assert text.read_bytes() == TEXT


def test_a_file_is_never_replaced_by_its_own_archive(text, run):
    code, _, err = run("compress", text, "--out", text, "--force")
    assert code == 1
    assert f"{text} exists already; give another name\n" in err
    assert text.read_bytes() == TEXT


def test_a_name_is_asked_for_where_none_follows(packed, run):
    other = packed.rename(packed.with_name("packed"))
    code, _, err = run("decompress", other)
    assert code == 1
    assert f"--out: expected a name for the output, as {other} does not end in .sqbk" in err
    assert run("decompress", other, "--out", packed.with_name("back"))[0] == 0


@pytest.mark.parametrize("damage", ["changed", "cut", "longer", "another file"])
def test_a_damaged_archive_is_refused_and_nothing_written(packed, run, damage):
    content = packed.read_bytes()
    packed.write_bytes(
        {
            "changed": content[:40] + bytes([content[40] ^ 16]) + content[41:],
            "cut": content[:-3],
            "longer": content + b"\n",
            "another file": TEXT,
        }[damage]
    )
    code, out, err = run("decompress", packed)
    assert (code, out) == (1, "")
    assert err.startswith(f"seqbook: {packed}: archive: ")
    assert err.endswith("; nothing was written\n")
    assert list(packed.parent.iterdir()) == [packed]


def test_a_missing_file_is_an_error_without_traceback(tmp_path, run):
    for command in ("compress", "decompress"):
        code, out, err = run(command, tmp_path / "none.sqbk")
        assert (code, out) == (1, "")
        assert "none.sqbk" in err


def test_a_long_file_shows_how_far_it_is(text, run, monkeypatch):
    monkeypatch.setattr(cli, "LONG", 50)
    code, _, err = run("compress", text)
    assert code == 0
    assert f"/{len(TEXT)}" in err
    _, _, err = run("decompress", text.with_name("text.txt.sqbk"), "--out", text.with_name("back"))
    assert f"/{len(TEXT)}" in err


def test_the_commands_need_no_torch(text):
    program = (
        "import sys; from seqbook.cli import main; code = main(sys.argv[1:]); "
        "sys.exit(code or 'torch' in sys.modules)"
    )
    arguments = [sys.executable, "-c", program, "compress", str(text)]
    assert subprocess.run(arguments, env=os.environ, capture_output=True).returncode == 0
