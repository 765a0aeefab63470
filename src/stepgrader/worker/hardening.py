"""Hardening of a forked process before it runs a student's code: the inner layer of the sandbox.

The outer layer is bubblewrap: no network, a read-only system, nothing of the course mounted.
In it, one clean process imports torch once and forks for every step of every submission. Each
fork gets user, process and IPC namespaces of its own, so it can neither see nor signal the clean
process or any other submission. It then drops its capabilities and closes, by a seccomp filter,
every way to further processes, to the network, and to memory that its limits don't count.
"""

from __future__ import annotations

import ctypes
import errno
import mmap
import os
import platform
import resource
import signal
import struct
from typing import Any

__all__ = ["address_space", "die_with_parent", "drop_root", "enter_namespaces", "lock_down"]

CLONE_NEWUSER, CLONE_NEWPID, CLONE_NEWIPC = 0x10000000, 0x20000000, 0x08000000
PR_SET_PDEATHSIG = 1
PR_SET_NO_NEW_PRIVS, PR_SET_SECCOMP, SECCOMP_MODE_FILTER = 38, 22, 2
NOBODY = 65534

# System calls that fail with "not permitted", by number on x86-64 and AArch64 (None: not there).
DENIED = {
    # more processes, and other programs
    "clone": (56, 220),
    "clone3": (435, 435),
    "fork": (57, None),
    "vfork": (58, None),
    "execve": (59, 221),
    "execveat": (322, 281),
    # other processes
    "ptrace": (101, 117),
    "process_vm_readv": (310, 270),
    "process_vm_writev": (311, 271),
    "pidfd_open": (434, 434),
    # other namespaces and file systems
    "unshare": (272, 97),
    "setns": (308, 268),
    "mount": (165, 40),
    "umount2": (166, 39),
    "pivot_root": (155, 41),
    "chroot": (161, 51),
    "open_tree": (428, 428),
    "move_mount": (429, 429),
    "fsopen": (430, 430),
    "fsconfig": (431, 431),
    "fsmount": (432, 432),
    "fspick": (433, 433),
    "mount_setattr": (442, 442),
    # memory outside the address space
    "memfd_create": (319, 279),
    "memfd_secret": (447, 447),
    "shmget": (29, 194),
    "semget": (64, 190),
    "msgget": (68, 186),
    "mq_open": (240, 180),
    # connections, and parts of the kernel that no exercise needs or that all share
    "socket": (41, 198),
    "socketpair": (53, 199),
    "io_uring_setup": (425, 425),
    "bpf": (321, 280),
    "perf_event_open": (298, 241),
    "userfaultfd": (323, 282),
    "keyctl": (250, 219),
    "add_key": (248, 217),
    "request_key": (249, 218),
    "personality": (135, 92),
    "syslog": (103, 116),
    "inotify_init": (253, None),
    "inotify_init1": (294, 26),
    "fanotify_init": (300, 262),
    "io_setup": (206, 0),
}
ARCHITECTURES = {"x86_64": (0, 0xC000003E), "aarch64": (1, 0xC00000B7)}
X32_BIT = 0x40000000

_libc = ctypes.CDLL(None, use_errno=True)


def drop_root() -> None:
    """Become nobody if this is root, for whom limits on processes do not hold.

    Example:
        >>> import subprocess, sys
        >>> code = "import os; from stepgrader.worker import hardening; hardening.drop_root(); "
        >>> code += "print(os.getuid() != 0)"
        >>> print(subprocess.check_output([sys.executable, "-c", code], text=True), end="")
        True
    """
    if os.getuid() == 0:
        os.setgroups([])
        os.setresgid(NOBODY, NOBODY, NOBODY)
        os.setresuid(NOBODY, NOBODY, NOBODY)


def die_with_parent() -> None:
    """Let the kernel kill this process when its parent ends, whatever ends it.

    Example:
        >>> import subprocess, sys
        >>> code = '''
        ... import os, time
        ... from stepgrader.worker.hardening import die_with_parent
        ... reader, writer = os.pipe()
        ... if os.fork() == 0:  # the child
        ...     die_with_parent()
        ...     os.write(writer, b"now")
        ...     time.sleep(600)
        ... os.read(reader, 3)  # and the parent ends
        ... '''
        >>> subprocess.check_output([sys.executable, "-c", code])  # waits until both have ended
        b''
    """
    _call(_libc.prctl, PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)


def address_space() -> int:
    """Return how many bytes of address space this process uses, to a page.

    The sandbox has no ``/proc`` to read it from, so this lowers the limit until allocations fail.

    Example:
        >>> address_space() > 2**20
        True
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_AS)
    low, high = 0, 1 << 47
    while high - low > mmap.PAGESIZE:
        middle = (low + high) // 2
        try:
            resource.setrlimit(resource.RLIMIT_AS, (middle, hard))
            mmap.mmap(-1, mmap.PAGESIZE).close()
            high = middle
        except (OSError, MemoryError):
            low = middle
        finally:
            resource.setrlimit(resource.RLIMIT_AS, (soft, hard))
    return high


def enter_namespaces() -> None:
    """Give the next child its own user, process and IPC namespaces.

    Example:
        >>> import subprocess, sys
        >>> code = '''
        ... import os
        ... from stepgrader.worker.hardening import enter_namespaces
        ... enter_namespaces()
        ... if os.fork() == 0:
        ...     print("the child is process", os.getpid())
        ... else:
        ...     os.wait()
        ... '''
        >>> print(subprocess.check_output([sys.executable, "-c", code], text=True), end="")
        the child is process 1
    """
    _call(_libc.unshare, CLONE_NEWUSER | CLONE_NEWPID | CLONE_NEWIPC)


def lock_down(*, bytes_of_memory: int, cpu_seconds: int) -> None:
    """Set limits, drop capabilities and filter system calls. There is no way back.

    Example:
        >>> import subprocess, sys
        >>> code = '''
        ... import os
        ... from stepgrader.worker.hardening import lock_down
        ... lock_down(bytes_of_memory=2**32, cpu_seconds=10)
        ... try:
        ...     os.fork()
        ... except PermissionError:
        ...     print("no more processes")
        ... '''
        >>> print(subprocess.check_output([sys.executable, "-c", code], text=True), end="")
        no more processes
    """
    limits = {
        resource.RLIMIT_AS: bytes_of_memory,
        resource.RLIMIT_CPU: cpu_seconds,
        resource.RLIMIT_FSIZE: 0,
        resource.RLIMIT_NOFILE: 64,
        resource.RLIMIT_CORE: 0,
        resource.RLIMIT_MEMLOCK: 0,
        resource.RLIMIT_SIGPENDING: 64,
    }
    for limit, value in limits.items():
        resource.setrlimit(limit, (value, value))
    version_3 = 0x20080522
    _call(_libc.capset, struct.pack("Ii", version_3, 0), bytes(24))
    _call(_libc.prctl, PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
    program = _filter()
    code = ctypes.create_string_buffer(program, len(program))
    pointer = struct.pack("HP", len(program) // 8, ctypes.addressof(code))
    _call(_libc.prctl, PR_SET_SECCOMP, SECCOMP_MODE_FILTER, pointer, 0, 0)


def _filter() -> bytes:
    """Return the seccomp filter, in the kernel's classic BPF."""
    column, architecture = ARCHITECTURES[platform.machine()]
    numbers = [row[column] for row in DENIED.values() if row[column] is not None]
    load, equal, at_least, verdict = 0x20, 0x15, 0x35, 0x06
    kill, deny, allow = 0x80000000, 0x00050000 | errno.EPERM, 0x7FFF0000
    count = len(numbers)
    rows = [
        (load, 0, 0, 4),  # the architecture of the call
        (equal, 1, 0, architecture),
        (verdict, 0, 0, kill),
        (load, 0, 0, 0),  # its number
        (at_least, count + 1, 0, X32_BIT),  # jump to deny
        *((equal, count - i, 0, number) for i, number in enumerate(numbers)),
        (verdict, 0, 0, allow),
        (verdict, 0, 0, deny),
    ]
    return b"".join(struct.pack("HBBI", *row) for row in rows)


def _call(function: Any, *arguments: Any) -> None:
    if function(*arguments) != 0:
        number = ctypes.get_errno()
        raise OSError(number, f"{function.__name__}: {os.strerror(number)}")
