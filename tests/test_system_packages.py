"""What `make test` does on a machine that lacks system packages, with fake ones of apt and sudo."""

import io
import os
import shutil
import subprocess
import sys

import pytest
import system_packages
from conftest import ROOT

BY_APT = "env DEBIAN_FRONTEND=noninteractive apt-get -o DPkg::Lock::Timeout=300"
NAMES = "bubblewrap chromium fontconfig fonts-nanum"
INSTALLING = f"make test: installing {NAMES} by apt"
BY_HAND = f"sudo apt-get update && sudo apt-get install -y --no-install-recommends {NAMES}"
WITHOUT = [
    "make test: no sandbox: bubblewrap is not installed. The tests that need it will be skipped.",
    "make test: no browser: SEQBOOK_CHROMIUM is not set, and PATH has no chromium or "
    "chromium-browser or google-chrome or google-chrome-stable. The tests that need it will be "
    "skipped.",
]


class Machine:
    """A machine on whose PATH there is nothing but what a test puts there."""

    def __init__(self, folder, monkeypatch):
        self.programs = folder / "bin"
        self.programs.mkdir()
        self.log = folder / "log"
        self.log.touch()
        self.patch = monkeypatch
        monkeypatch.setenv("PATH", str(self.programs))
        monkeypatch.delenv("SEQBOOK_CHROMIUM", raising=False)
        monkeypatch.setattr(system_packages, "RESTRICTION", folder / "unrestricted")
        monkeypatch.setattr("platform.machine", lambda: "x86_64")
        monkeypatch.setattr("sys.platform", "linux")
        monkeypatch.setattr(system_packages, "has_libatomic", lambda: True)
        self.distribution("debian")
        self.user(0)

    def distribution(self, name):
        self.patch.setattr("platform.freedesktop_os_release", lambda: {"ID": name})

    def user(self, number, *, at_terminal=False):
        self.patch.setattr("os.geteuid", lambda: number)
        terminal = io.StringIO()
        terminal.isatty = lambda: at_terminal
        self.patch.setattr("sys.stdin", terminal)

    def add(self, name, script=""):
        """Add a program that logs how it was called, and then does what the script says."""
        path = self.programs / name
        path.write_text(f'#!/bin/sh\necho "{name} $*" >> {self.log}\n{script}\n')
        path.chmod(0o755)

    def add_apt(self, script=""):
        self.add("apt-get", script)
        (self.programs / "env").symlink_to(shutil.which("env", path=os.defpath))

    @property
    def calls(self):
        return self.log.read_text().splitlines()


@pytest.fixture
def machine(tmp_path, monkeypatch):
    system_packages.why_no_sandbox.cache_clear()
    yield Machine(tmp_path, monkeypatch)
    system_packages.why_no_sandbox.cache_clear()


def prepare(capsys, target="test"):
    """Run the step; return its exit message, if it stopped, and the lines it printed."""
    stopped = None
    try:
        system_packages.main(target)
    except SystemExit as end:
        stopped = str(end)
    return stopped, capsys.readouterr().out.splitlines()


def test_root_installs_what_is_missing_and_says_so_in_a_line(machine, capsys):
    machine.add_apt()
    assert prepare(capsys) == (None, [INSTALLING, *WITHOUT])  # the fake one installs nothing
    options = BY_APT.partition("apt-get ")[2]
    assert machine.calls == [
        f"apt-get {options} update",
        f"apt-get {options} install -y --no-install-recommends {NAMES}",
    ]


def test_sudo_installs_where_it_asks_for_no_password(machine, capsys):
    machine.user(1000)
    machine.add_apt()
    machine.add("sudo", 'shift; [ "$1" = true ] || exec "$@"')
    assert prepare(capsys) == (None, [INSTALLING, *WITHOUT])
    by_sudo = [call for call in machine.calls if call.startswith("sudo")]
    assert by_sudo == [
        "sudo -n true",
        f"sudo -n {BY_APT} update",
        f"sudo -n {BY_APT} install -y --no-install-recommends {NAMES}",
    ]
    assert len(machine.calls) == 5


@pytest.mark.parametrize("at_terminal", [True, False])
def test_sudo_asks_for_a_password_only_at_a_terminal(machine, capsys, at_terminal):
    machine.user(1000, at_terminal=at_terminal)
    machine.add_apt()
    machine.add("sudo", 'if [ "$1" = -n ]; then exit 1; else exec "$@"; fi')
    stopped, printed = prepare(capsys)
    if at_terminal:
        assert stopped is None
        assert printed == [INSTALLING, *WITHOUT]
        assert f"sudo {BY_APT} update" in machine.calls
    else:
        assert stopped.endswith(f"Type: {BY_HAND}")
        assert machine.calls == ["sudo -n true"]


def test_without_the_right_to_install_it_stops_with_the_line_to_type(machine, capsys):
    machine.user(1000)
    machine.add_apt()
    stopped, printed = prepare(capsys)
    assert stopped == f"make test needs {NAMES}, which only root may install. Type: {BY_HAND}"
    assert printed == machine.calls == []


def test_the_output_of_apt_is_shown_if_it_fails(machine, capsys):
    machine.add_apt("echo E: no room on the disk >&2; exit 100")
    stopped, printed = prepare(capsys)
    assert "E: no room on the disk\n" in stopped
    assert stopped.endswith(f"make test: apt could not install {NAMES}. Type: {BY_HAND}")
    assert printed == [INSTALLING]


def test_lists_that_can_not_be_updated_are_no_failure(machine, capsys):
    machine.add_apt('for word; do if [ "$word" = update ]; then exit 100; fi; done')
    assert prepare(capsys) == (None, [INSTALLING, *WITHOUT])


def test_nothing_is_done_or_printed_if_nothing_is_missing(machine, capsys):
    machine.user(1000)
    machine.add_apt()
    for name in ("bwrap", "chromium"):
        machine.add(name)
    machine.add("fc-list", "echo NanumGothic")
    assert prepare(capsys) == (None, [])
    assert not any(call.startswith(("apt-get", "sudo")) for call in machine.calls)


def test_a_browser_without_a_korean_font_gets_one(machine, capsys):
    machine.add_apt()
    for name in ("bwrap", "google-chrome", "fc-list"):
        machine.add(name)
    installing = "make test: installing fontconfig fonts-nanum by apt"
    assert prepare(capsys) == (None, [installing])


def test_a_browser_without_the_library_that_drives_it_gets_it_or_is_not_used(machine, capsys):
    for name in ("bwrap", "chromium"):
        machine.add(name)
    machine.add("fc-list", "echo NanumGothic")
    machine.patch.setattr(system_packages, "has_libatomic", lambda: False)
    reason = "no browser: libatomic.so.1, which Playwright needs, is not installed"
    skipped = f"make test: {reason}. The tests that need it will be skipped."
    assert prepare(capsys) == (None, [skipped])
    machine.add_apt()
    installing = "make test: installing libatomic1 by apt"
    assert prepare(capsys) == (None, [installing, skipped])


def test_the_book_needs_none_of_this_and_gets_pythons_own_part(machine, capsys):
    machine.add_apt()
    assert prepare(capsys, "book") == (None, [])
    machine.patch.setattr("importlib.util.find_spec", lambda name: None)
    package = f"python3.{sys.version_info.minor}-venv"
    assert prepare(capsys, "book") == (None, [f"make book: installing {package} by apt"])
    assert machine.calls[-1].endswith(f"install -y --no-install-recommends {package}")


@pytest.mark.parametrize("system", ["darwin", "linux"])
def test_without_apt_tests_that_need_missing_packages_are_skipped(machine, capsys, system):
    machine.patch.setattr("sys.platform", system)
    no_sandbox, no_browser = WITHOUT
    if system == "darwin":
        no_sandbox = no_sandbox.replace(
            "bubblewrap is not installed", "bubblewrap needs Linux, this is darwin"
        )
    assert prepare(capsys) == (None, [no_sandbox, no_browser])


def test_ubuntu_installs_its_snap_only_where_snaps_are(machine, capsys, tmp_path):
    machine.distribution("ubuntu")
    machine.add_apt()
    machine.add("bwrap")
    machine.add("fc-list", "echo NanumGothic")
    machine.patch.setattr(system_packages, "SNAPD", tmp_path / "snapd.socket")
    assert prepare(capsys) == (None, WITHOUT[1:])
    assert [call for call in machine.calls if call.startswith("apt-get")] == []
    (tmp_path / "snapd.socket").touch()
    installing = "make test: installing chromium-browser by apt"
    assert prepare(capsys) == (None, [installing, *WITHOUT[1:]])


DENIED = "echo setting up uid map: Permission denied >&2; exit 1"


def test_a_kernel_without_user_namespaces_is_a_reason_to_skip(machine, capsys):
    for name in ("chromium", "fc-list"):
        machine.add(name, "echo NanumGothic")
    machine.add("bwrap", DENIED)
    reason = "no sandbox: setting up uid map: Permission denied"
    messages = [f"make test: {reason}. The tests that need it will be skipped."]
    assert prepare(capsys) == (None, messages)
    assert system_packages.why_no_sandbox() == reason


@pytest.mark.parametrize("allowed", [True, False])
def test_ubuntus_restriction_is_lifted_if_permitted(machine, capsys, tmp_path, allowed):
    machine.user(1000)
    restriction = tmp_path / "apparmor_restrict_unprivileged_userns"
    restriction.write_text("1\n")
    machine.patch.setattr(system_packages, "RESTRICTION", restriction)
    for name in ("chromium", "fc-list"):
        machine.add(name, "echo NanumGothic")
    machine.add("bwrap", f'read value < {restriction}; if [ "$value" = 1 ]; then {DENIED}; fi')
    machine.add("sysctl", f"echo 0 > {restriction}")
    if allowed:
        machine.add("sudo", 'shift; [ "$1" = true ] || exec "$@"')
    stopped, printed = prepare(capsys)
    assert stopped is None
    setting = f"kernel.{restriction.name}=0"
    if allowed:
        message = "make test: lifting the restriction of user namespaces until the next boot"
        assert printed == [message]
        assert f"sysctl -w {setting}" in machine.calls
        assert system_packages.why_no_sandbox() is None
    else:
        assert printed[0].endswith(f"To lift that, type: sudo sysctl -w {setting}")
        assert "Permission denied" in printed[1]


def test_make_test_refuses_before_it_makes_an_environment(tmp_path):
    programs = tmp_path / "bin"
    programs.mkdir()
    (tmp_path / "tools").mkdir()
    for name in ("Makefile", "tools/system_packages.py"):
        shutil.copy(ROOT / name, tmp_path / name)
    (programs / "apt-get").touch(0o755)
    (programs / "python3").write_text(
        f"#!{sys.executable}\nimport os, runpy, sys\n"
        "os.geteuid = lambda: 1000  # these tests may be run by root\n"
        "sys.argv = sys.argv[1:]\nrunpy.run_path(sys.argv[0], run_name='__main__')\n"
    )
    (programs / "python3").chmod(0o755)
    before = sorted(tmp_path.rglob("*"))
    process = subprocess.run(
        [shutil.which("make"), "test"],
        cwd=tmp_path,
        env={"PATH": str(programs), "PYTHONDONTWRITEBYTECODE": "1"},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
    )
    refused, by_make = process.stderr.splitlines()
    assert (process.returncode, process.stdout) == (2, "")
    assert refused.endswith(f"Type: {BY_HAND}")
    assert by_make.startswith("make: *** ")
    assert sorted(tmp_path.rglob("*")) == before
