"""Hardening of a forked process before it runs a student's code: the inner layer of the sandbox.

The outer layer is bubblewrap: no network, a read-only system, nothing of the course mounted.
In it, one clean process imports torch once and forks for every request. Each
fork gets user, process, IPC and mount namespaces of its own, so it can neither see nor signal the
clean process or any other submission. The one place that it can write to is a small file system in
memory, which no other process sees and which ends with it. It then drops its capabilities, and a
seccomp filter leaves it the system calls that computing takes: none for further processes, the
network, locks, the cache of files, or memory that its limits don't count.
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

__all__ = [
    "FILES",
    "FILE_SPACE",
    "address_space",
    "die_with_parent",
    "drop_root",
    "fork_apart",
    "lock_down",
    "mount_files",
    "use_huge_pages",
]

FILES = "/sandbox/files"
"""The folder, in the sandbox, that a fork may write to."""
FILE_SPACE = 2**26
"""Bytes that all files in it take together, and at most one of them."""
FILE_COUNT = 1000

CLONE_NEWUSER, CLONE_NEWPID, CLONE_NEWIPC = 0x10000000, 0x20000000, 0x08000000
CLONE_NEWNS = 0x00020000
MS_NOSUID, MS_NODEV, MS_NOEXEC = 2, 4, 8
HUGE_PAGE, MADV_COLLAPSE = 2**21, 25
PR_SET_PDEATHSIG, PR_SET_DUMPABLE = 1, 4
PR_SET_NO_NEW_PRIVS, PR_SET_SECCOMP, SECCOMP_MODE_FILTER = 38, 22, 2
NOBODY = 65534

# System calls that are allowed, by number on x86-64 and AArch64 (None: not there). All others fail
# with "not permitted".
ALLOWED = {
    # files and folders, which are read-only except for the fork's own
    "open": (2, None),
    "openat": (257, 56),
    "close": (3, 57),
    "close_range": (436, 436),
    "access": (21, None),
    "faccessat": (269, 48),
    "faccessat2": (439, 439),
    "stat": (4, None),
    "fstat": (5, 80),
    "lstat": (6, None),
    "newfstatat": (262, 79),
    "statx": (332, 291),
    "readlink": (89, None),
    "readlinkat": (267, 78),
    "getdents": (78, None),
    "getdents64": (217, 61),
    "getcwd": (79, 17),
    "chdir": (80, 49),
    "mkdir": (83, None),
    "mkdirat": (258, 34),
    "rmdir": (84, None),
    "unlink": (87, None),
    "unlinkat": (263, 35),
    "rename": (82, None),
    "renameat": (264, 38),
    "renameat2": (316, 276),
    "chmod": (90, None),
    "fchmod": (91, 52),
    "fchmodat": (268, 53),
    "truncate": (76, 45),
    "ftruncate": (77, 46),
    "umask": (95, 166),
    "lseek": (8, 62),
    "read": (0, 63),
    "pread64": (17, 67),
    "readv": (19, 65),
    "write": (1, 64),
    "pwrite64": (18, 68),
    "writev": (20, 66),
    "pipe": (22, None),
    "pipe2": (293, 59),
    "dup": (32, 23),
    "dup2": (33, None),
    "dup3": (292, 24),
    "fcntl": (72, 25),
    "ioctl": (16, 29),
    # memory
    "brk": (12, 214),
    "mmap": (9, 222),
    "munmap": (11, 215),
    "mremap": (25, 216),
    "mprotect": (10, 226),
    "madvise": (28, 233),
    "membarrier": (324, 283),
    # time and waiting
    "time": (201, None),
    "gettimeofday": (96, 169),
    "clock_gettime": (228, 113),
    "clock_getres": (229, 114),
    "nanosleep": (35, 101),
    "clock_nanosleep": (230, 115),
    "select": (23, None),
    "pselect6": (270, 72),
    "poll": (7, None),
    "ppoll": (271, 73),
    "pause": (34, None),
    "alarm": (37, None),
    "getitimer": (36, 102),
    "setitimer": (38, 103),
    "sched_yield": (24, 124),
    "futex": (202, 98),
    "restart_syscall": (219, 128),
    # signals
    "kill": (62, 129),
    "tgkill": (234, 131),
    "tkill": (200, 130),
    "rt_sigaction": (13, 134),
    "rt_sigprocmask": (14, 135),
    "rt_sigreturn": (15, 139),
    "rt_sigpending": (127, 136),
    "rt_sigtimedwait": (128, 137),
    "rt_sigsuspend": (130, 133),
    "sigaltstack": (131, 132),
    # the process itself
    "exit": (60, 93),
    "exit_group": (231, 94),
    "getpid": (39, 172),
    "getppid": (110, 173),
    "gettid": (186, 178),
    "getpgrp": (111, None),
    "getpgid": (121, 155),
    "getsid": (124, 156),
    "getuid": (102, 174),
    "geteuid": (107, 175),
    "getgid": (104, 176),
    "getegid": (108, 177),
    "getresuid": (118, 148),
    "getresgid": (120, 150),
    "getgroups": (115, 158),
    "getrlimit": (97, 163),
    "prlimit64": (302, 261),
    "getpriority": (140, 141),
    "setpriority": (141, 140),
    "sched_getaffinity": (204, 123),
    "getcpu": (309, 168),
    "times": (100, 153),
    "uname": (63, 160),
    "wait4": (61, 260),
    "waitid": (247, 95),
    "set_tid_address": (218, 96),
    "set_robust_list": (273, 99),
    "get_robust_list": (274, 100),
    "rseq": (334, 293),
    "getrandom": (318, 278),
}
# Of these, only with some values of an argument: its index and the values.
ARGUMENTS = {
    # F_DUPFD, F_GETFD, F_SETFD, F_GETFL, F_SETFL, F_DUPFD_CLOEXEC: no locks, which others could see
    "fcntl": (1, (0, 1, 2, 3, 4, 1030)),
    # TCGETS and TIOCGWINSZ, which ask for a terminal; FIONREAD, FIONCLEX, FIOCLEX
    "ioctl": (1, (0x5401, 0x5413, 0x541B, 0x5450, 0x5451)),
    # MADV_DONTNEED, MADV_FREE, MADV_HUGEPAGE, MADV_NOHUGEPAGE: none that moves pages of files
    "madvise": (2, (4, 8, 14, 15)),
}
ARCHITECTURES = {"x86_64": (0, 0xC000003E), "aarch64": (1, 0xC00000B7)}
CLONE = {"x86_64": 56, "aarch64": 220}

_libc = ctypes.CDLL(None, use_errno=True)
_locked_libc = ctypes.PyDLL(None, use_errno=True)  # its calls keep Python's lock
_locked_libc.syscall.restype = ctypes.c_long
_locked_libc.syscall.argtypes = [ctypes.c_long] * 6


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
    low, high = 0, 1 << 47 if hard == resource.RLIM_INFINITY else hard
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


def use_huge_pages(*, proc: int) -> None:
    """Move large parts of this process's memory to huge pages, where the kernel can.

    A fork copies the tables of all pages of memory, which for torch takes most of its time, and of
    a huge page that is one entry for 512.

    Args:
        proc: File descriptor of the folder ``/proc``.

    Example:
        >>> import subprocess, sys
        >>> code = '''
        ... import os
        ... from stepgrader.worker.hardening import use_huge_pages
        ... numbers = list(range(10**6))
        ... use_huge_pages(proc=os.open("/proc", os.O_PATH))
        ... print(sum(numbers))
        ... '''
        >>> print(subprocess.check_output([sys.executable, "-c", code], text=True), end="")
        499999500000
    """
    with open(os.open("self/maps", os.O_RDONLY, dir_fd=proc)) as file:
        rows = [line.split() for line in file]
    for span, rights, _, _, file_number, *_ in rows:
        start, end = (int(bound, 16) for bound in span.split("-"))
        start, end = -(-start // HUGE_PAGE) * HUGE_PAGE, end // HUGE_PAGE * HUGE_PAGE
        if start < end and rights == "rw-p" and file_number == "0":
            _libc.madvise(ctypes.c_void_p(start), ctypes.c_size_t(end - start), MADV_COLLAPSE)


def fork_apart() -> int:
    """Fork a child in namespaces of its own; return what ``os.fork`` does.

    They are those of users, processes, IPC and mounts.

    ``unshare`` would need a process between the two, and with it a second copy of the page tables
    of torch, which take most of the time that a step takes. The C library does not learn of this
    fork, so this process may have one thread only, and the child may not start threads.

    Raises:
        OSError: The system allows no such child.

    Example:
        >>> import subprocess, sys
        >>> code = '''
        ... import os
        ... from stepgrader.worker.hardening import fork_apart
        ... if fork_apart() == 0:
        ...     print("the child is process", os.getpid())
        ... else:
        ...     os.wait()
        ... '''
        >>> print(subprocess.check_output([sys.executable, "-c", code], text=True), end="")
        the child is process 1
    """
    number = CLONE[platform.machine()]
    flags = CLONE_NEWUSER | CLONE_NEWPID | CLONE_NEWIPC | CLONE_NEWNS | signal.SIGCHLD
    ctypes.pythonapi.PyOS_BeforeFork()
    child: int = _locked_libc.syscall(number, flags, 0, 0, 0, 0)
    if child == 0:
        ctypes.pythonapi.PyOS_AfterFork_Child()
        return 0
    error = ctypes.get_errno()
    ctypes.pythonapi.PyOS_AfterFork_Parent()
    if child < 0:
        raise OSError(error, f"clone: {os.strerror(error)}")
    return child


def mount_files(folder: str, *, proc: int, uid: int, gid: int) -> None:
    """Give a child of ``fork_apart`` an empty file system of its own, and work in it.

    It lies in memory, nobody else sees it, and it is gone when the process ends. To make files in
    it, the child needs a user in its namespace of users, which it writes to its folder in
    ``/proc``. The sandbox shows no ``/proc``, so the grader passes it open; close it afterwards.

    Args:
        folder: An empty folder.
        proc: File descriptor of the folder ``/proc``.
        uid: User that the process had before the fork.
        gid: Its group.

    Raises:
        OSError: The system allows no such file system.

    Example:
        >>> import subprocess, sys
        >>> code = '''
        ... import os, tempfile
        ... from stepgrader.worker.hardening import drop_root, fork_apart, mount_files
        ... proc, folder = os.open("/proc", os.O_PATH), tempfile.mkdtemp()
        ... os.chmod(folder, 0o755)
        ... drop_root()
        ... uid, gid = os.getuid(), os.getgid()
        ... if fork_apart() == 0:
        ...     mount_files(folder, proc=proc, uid=uid, gid=gid)
        ...     print(open("seen-by-the-child", "w").name, os.listdir(folder))
        ... else:
        ...     os.wait()
        ...     print(os.listdir(folder))
        ... '''
        >>> print(subprocess.check_output([sys.executable, "-c", code], text=True), end="")
        seen-by-the-child ['seen-by-the-child']
        []
    """
    _call(_libc.prctl, PR_SET_DUMPABLE, 1, 0, 0, 0)  # to own its folder in /proc
    lines = {"uid_map": f"{uid} {uid} 1", "setgroups": "deny", "gid_map": f"{gid} {gid} 1"}
    for name, line in lines.items():
        file = os.open(f"self/{name}", os.O_WRONLY, dir_fd=proc)
        os.write(file, line.encode())
        os.close(file)
    _call(_libc.prctl, PR_SET_DUMPABLE, 0, 0, 0, 0)
    options = f"size={FILE_SPACE},nr_inodes={FILE_COUNT},mode=700".encode()
    flags = MS_NOSUID | MS_NODEV | MS_NOEXEC
    _call(_libc.mount, b"files", folder.encode(), b"tmpfs", flags, options)
    os.chdir(folder)


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
        resource.RLIMIT_FSIZE: FILE_SPACE,
        resource.RLIMIT_NOFILE: 64,
        resource.RLIMIT_CORE: 0,
        resource.RLIMIT_MEMLOCK: 0,
        resource.RLIMIT_SIGPENDING: 64,
    }
    for limit, value in limits.items():
        hard = resource.getrlimit(limit)[1]
        lower = value if hard == resource.RLIM_INFINITY else min(value, hard)
        resource.setrlimit(limit, (lower, lower))
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
    numbers = {name: number for name, row in ALLOWED.items() if (number := row[column]) is not None}
    checked = {numbers.pop(name): argument for name, argument in ARGUMENTS.items()}
    load, equal, verdict = 0x20, 0x15, 0x06
    kill, deny, allow = 0x80000000, 0x00050000 | errno.EPERM, 0x7FFF0000
    rows = [
        (load, 0, 0, 4),  # the architecture of the call
        (equal, 1, 0, architecture),
        (verdict, 0, 0, kill),
        (load, 0, 0, 0),  # its number; those of x32 have a bit of their own, so none is equal
    ]
    for number, (index, values) in checked.items():
        count = len(values)
        rows += [
            (equal, 0, count + 3, number),
            (load, 0, 0, 16 + 8 * index),  # the low half of the argument, which the kernel reads
            *((equal, count - i, 0, value) for i, value in enumerate(values)),
            (verdict, 0, 0, deny),
            (verdict, 0, 0, allow),
        ]
    count = len(numbers)
    rows += [
        *((equal, count - i, 0, number) for i, number in enumerate(numbers.values())),
        (verdict, 0, 0, deny),
        (verdict, 0, 0, allow),
    ]
    return b"".join(struct.pack("HBBI", *row) for row in rows)


def _call(function: Any, *arguments: Any) -> None:
    if function(*arguments) != 0:
        number = ctypes.get_errno()
        raise OSError(number, f"{function.__name__}: {os.strerror(number)}")
