"""Install by apt what `make book` and `make test` need and pip can't install.

Usage: python3 tools/system_packages.py {book,test}

``book`` needs Python's own ``ensurepip``, which Debian and Ubuntu package apart from Python, and
``test`` also bubblewrap, a browser, a library for the program that drives it, and a Korean font.
If nothing is missing, nothing is done. Packages are installed as root, or by sudo if it needs no
password or a terminal is there to ask for it. Otherwise the command ends at once with the line to
type.

Without apt (macOS, other Linux systems) nothing is installed, and the tests of what is missing are
skipped, as they are where the kernel does not let bubblewrap work.

This runs before there is a virtual environment: standard library only.
"""

from __future__ import annotations  # an older Python reads on to the message about itself

import ctypes
import importlib.util
import os
import platform
import shutil
import subprocess
import sys
from functools import cache
from pathlib import Path

BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
SANDBOXED_MACHINES = ("x86_64", "aarch64")
SNAPD = Path("/run/snapd.socket")
RESTRICTION = Path("/proc/sys/kernel/apparmor_restrict_unprivileged_userns")


def find_browser() -> str | None:
    """Return the path of the browser: SEQBOOK_CHROMIUM if it is set, or the first one on PATH."""
    return os.environ.get("SEQBOOK_CHROMIUM") or next(
        filter(None, map(shutil.which, BROWSERS)), None
    )


def why_no_browser() -> str | None:
    """Say why tests of pages can't run here, or return None if they can."""
    if find_browser() is None:
        return f"no browser: SEQBOOK_CHROMIUM is not set, and PATH has no {' or '.join(BROWSERS)}"
    if not has_libatomic():
        return "no browser: libatomic.so.1, which Playwright needs, is not installed"
    return None


@cache
def why_no_sandbox() -> str | None:
    """Say why tests of the grader's sandbox can't run here, or return None if they can.

    This asks the system and not the grader, so that a fault of the grader is no reason to skip.
    """
    if sys.platform != "linux":
        return f"no sandbox: bubblewrap needs Linux, this is {sys.platform}"
    if platform.machine() not in SANDBOXED_MACHINES:
        return f"no sandbox: no filter of system calls for {platform.machine()}"
    if shutil.which("bwrap") is None:
        return "no sandbox: bubblewrap is not installed"
    attempt = subprocess.run(
        ["bwrap", "--unshare-all", "--ro-bind", "/", "/", sys.executable, "-I", "-S", "-c", ""],
        capture_output=True,
        text=True,
    )
    if attempt.returncode:
        message = attempt.stderr.strip().rstrip(".")
        return f"no sandbox: {message or f'bwrap ended with {attempt.returncode}'}"
    return None


def has_korean_font() -> bool:
    """Whether fontconfig, which the browser asks, knows a font with Hangul."""
    if shutil.which("fc-list") is None:
        return False
    listed = subprocess.run(["fc-list", ":lang=ko", "family"], capture_output=True)
    return bool(listed.stdout.strip())


def has_libatomic() -> bool:
    """Whether the library is there that Playwright's Node.js needs on Linux to drive a browser."""
    if sys.platform != "linux":
        return True
    try:
        ctypes.CDLL("libatomic.so.1")
    except OSError:
        return False
    return True


def missing_packages(target: str) -> list[str]:
    """Return the packages that ``make book`` or ``make test`` lacks, by their names in apt."""
    missing = []
    if importlib.util.find_spec("ensurepip") is None:
        missing.append(f"python3.{sys.version_info.minor}-venv")
    if target == "test":
        if shutil.which("bwrap") is None:
            missing.append("bubblewrap")
        if find_browser() is None and (package := browser_package()):
            missing.append(package)
        if not has_libatomic():
            missing.append("libatomic1")
        if not has_korean_font():
            missing += ["fontconfig", "fonts-nanum"]
    return missing


def browser_package() -> str | None:
    """Return the package of Chromium, or None on an Ubuntu that can't install it.

    Ubuntu's package only fetches a snap, which fails without snapd, as in most containers.
    """
    if not Path("/etc/os-release").is_file() or (
        platform.freedesktop_os_release().get("ID") != "ubuntu"
    ):
        return "chromium"
    return "chromium-browser" if SNAPD.exists() else None


def root_prefix() -> list[str] | None:
    """Return what to write before a command to run it as root, or None if that is not allowed."""
    if os.geteuid() == 0:
        return []
    if shutil.which("sudo") is None:
        return None
    if subprocess.run(["sudo", "-n", "true"], capture_output=True).returncode == 0:
        return ["sudo", "-n"]
    return ["sudo"] if sys.stdin.isatty() else None


def install(target: str, packages: list[str]) -> None:
    """Install packages by apt.

    Raises:
        SystemExit: They can't be installed; the message ends with the line to type.
    """
    names = " ".join(packages)
    by_hand = f"sudo apt-get update && sudo apt-get install -y --no-install-recommends {names}"
    prefix = root_prefix()
    if prefix is None:
        sys.exit(f"make {target} needs {names}, which only root may install. Type: {by_hand}")
    print(f"make {target}: installing {names} by apt", flush=True)
    apt = [*prefix, "env", "DEBIAN_FRONTEND=noninteractive", "apt-get"]
    apt += ["-o", "DPkg::Lock::Timeout=300"]  # a machine that was just started updates itself
    output = ""
    # Old lists may do, so that only a failing install counts.
    for step in (["update"], ["install", "-y", "--no-install-recommends", *packages]):
        process = subprocess.run(
            [*apt, *step], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        )
        output += process.stdout
    if process.returncode:
        last = "\n".join(output.splitlines()[-20:])
        sys.exit(f"{last}\nmake {target}: apt could not install {names}. Type: {by_hand}")


def allow_user_namespaces() -> None:
    """Lift Ubuntu's restriction of user namespaces, which bubblewrap needs, until the next boot."""
    restricted = RESTRICTION.is_file() and RESTRICTION.read_text().strip() == "1"
    if not restricted or os.geteuid() == 0 or why_no_sandbox() is None:
        return
    why_no_sandbox.cache_clear()
    command = ["sysctl", "-w", f"kernel.{RESTRICTION.name}=0"]
    by_hand = " ".join(["sudo", *command])
    prefix = root_prefix()
    if prefix is None:
        print(f"make test: user namespaces are restricted. To lift that, type: {by_hand}")
        return
    print("make test: lifting the restriction of user namespaces until the next boot", flush=True)
    if subprocess.run([*prefix, *command], stdout=subprocess.DEVNULL).returncode:
        print(f"make test: user namespaces are still restricted. Type: {by_hand}")


def main(target: str) -> None:
    """Prepare this machine for ``make book`` or ``make test``."""
    if sys.version_info < (3, 11):  # noqa: UP036, the caller may have an older one
        sys.exit(f"Python 3.11 or newer is needed, this is {sys.version}")
    packages = missing_packages(target)
    if packages and shutil.which("apt-get"):
        install(target, packages)
    if target == "test":
        allow_user_namespaces()
        for reason in filter(None, (why_no_sandbox(), why_no_browser())):
            print(f"make test: {reason}. The tests that need it will be skipped.")


if __name__ == "__main__":
    main(sys.argv[1])
