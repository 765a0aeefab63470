"""Answers that attack the grader, and the message each one gets.

Every attack stands where a student writes ``doubled(x)``. One that is stopped reports by an
exception how far it came, so that a slip in the attack itself is not taken for protection.
"""

import base64
import textwrap
import zlib

TIME = "it ran out of time"
ENDED = "the process ended before it returned a result"
UNREADABLE = "can't be read"
MISTAKE = "this returns x as it came"  # what is said of an answer that gained nothing
HIDDEN = "on a hidden input"
DENIED = "PermissionError: [Errno 1] Operation not permitted"


def call(body: str, before: str = "") -> str:
    """Return the source of an answer with this body, which then returns a wrong value."""
    return (
        f"{before}\ndef doubled(x):\n{textwrap.indent(textwrap.dedent(body), '    ')}\n    return x"
    )


def report(body: str) -> str:
    """Return the source of an answer that tells by an exception what it has put into ``came``."""
    return call(f"came = []\n{textwrap.dedent(body)}\nraise RuntimeError(f'came: {{came}}')")


def tell(*lines: str, cases: int = 2) -> str:
    """Return an answer that writes lines of its own to the pipe and exits."""
    data = "".join(f"{line}\n" for line in lines).replace("CASES", str(cases))
    packed = base64.b64encode(zlib.compress(data.encode())).decode()  # long sources are not read
    return call(
        f"import base64, os, zlib\ndata = zlib.decompress(base64.b64decode({packed!r}))\nwhile data:\n    data = data[os.write(3, data):]\nos._exit(0)"
    )


def returned(value: str) -> str:
    """Return an answer that claims, on the pipe, to have returned this JSON for both cases."""
    one = f'{{"returned": {value}, "arguments": {{}}}}'
    return tell(f'{{"outcomes": [{one}, {one}]}}')


# Attacks that a test also runs without isolation, to see that they would do harm.

FORK = report(
    """
    import os, time
    for _ in range(3):
        if os.fork() == 0:
            time.sleep(1)
            os._exit(0)
        came.append("forked")
    """
)
SPAWN = report(
    "import subprocess\ncame.append(subprocess.run(['/bin/sh', '-c', 'exit 7']).returncode)"
)
SOCKET = report("import socket\ncame.append(socket.socket().family)")
THREAD = report("import threading\nthreading.Thread(target=int).start()\ncame.append('a thread')")
MEMORY = report("blocks = [bytes(2**26) for _ in range(60)]\ncame.append(len(blocks))")
DESCRIPTORS = report("import os\ncame += [os.open('/dev/null', os.O_RDONLY) for _ in range(100)]")
SHARED_MEMORY = report("import os\ncame.append(os.memfd_create('x') > 0)")


def write_everywhere(paths: list[str]) -> str:
    """Return an answer that tries to write, to make and to remove files."""
    return report(
        f"""
        import os
        for path in {paths!r}:
            for name, attempt in (
                ("write", lambda: open(path, "a").close()),
                ("link", lambda: os.symlink("/etc/passwd", path + ".link")),
                ("pipe", lambda: os.mkfifo(path + ".pipe")),
                ("folder", lambda: os.mkdir(path + ".folder")),
                ("mode", lambda: os.chmod(path, 0o777)),
                ("remove", lambda: os.remove(path)),
            ):
                try:
                    attempt()
                    came.append((name, path))
                except OSError:
                    pass
        """
    )


def read_everywhere(paths: list[str]) -> str:
    """Return an answer that tries to open files and folders."""
    return report(
        f"""
        import os
        for path in {paths!r}:
            try:
                found = os.listdir(path) if os.path.isdir(path) else open(path, "rb").read(80)
                came += [(path, found)] if found else []
            except OSError:
                pass
        """
    )


def call_the_kernel(numbers: list[int]) -> str:
    """Return an answer that makes system calls by number, and reports what is not forbidden."""
    return report(
        f"""
        import ctypes, errno
        libc = ctypes.CDLL(None, use_errno=True)
        for number in {numbers!r}:
            got = libc.syscall(number, 0, 0, 0, 0, 0, 0)
            if got != -1 or ctypes.get_errno() != errno.EPERM:
                came.append(number)
        """
    )


# What two submissions, or two steps of one, could tell each other by: states that all share.
CHANNELS = report(
    """
    import fcntl, mmap, os, torch
    file = os.open(torch.__file__, os.O_RDONLY)
    page = mmap.mmap(file, mmap.PAGESIZE, prot=mmap.PROT_READ)
    for name, attempt in {
        "read from the cache alone": lambda: os.preadv(file, [bytearray(1)], 0, os.RWF_NOWAIT),
        "drop from the cache": lambda: os.posix_fadvise(file, 0, 0, os.POSIX_FADV_DONTNEED),
        "advise on pages of files": lambda: page.madvise(mmap.MADV_WILLNEED),
        "lock by flock": lambda: fcntl.flock(file, fcntl.LOCK_SH),
        "lock by fcntl": lambda: fcntl.lockf(file, fcntl.LOCK_SH),
        "lease": lambda: fcntl.fcntl(file, fcntl.F_SETLEASE, fcntl.F_RDLCK),
        "counts of page faults": lambda: __import__("resource").getrusage(0),
        "free disk": lambda: os.statvfs("/"),
    }.items():
        try:
            attempt()
            came.append(name)
        except OSError:
            pass
    """
)

# Who waits is stopped by the clock, which is set to so short a time in a test of their own alone.
WAITING = {
    "sleep": "import time\ntime.sleep(1e6)",
    "sleep in a call": call("import time\ntime.sleep(1e6)"),
    "wait for nothing": call("import os\nos.read(os.pipe()[0], 1)"),
    "wait for a signal": call("import signal\nsignal.pause()"),
}

ENDING = {
    "loop at import": ("while True: pass", TIME),
    "loop in a call": (call("while True: pass"), TIME),
    "loop without signals": (
        call(
            """
            import signal
            for number in range(1, 65):
                try:
                    signal.signal(number, signal.SIG_IGN)
                except (OSError, ValueError):
                    pass
            while True: pass
            """
        ),
        TIME,
    ),
    "loop in C": (call("9 ** 9 ** 9"), TIME),
    "loop that catches all": (
        call("while True:\n    try:\n        while True: pass\n    except BaseException: pass"),
        TIME,
    ),
    "stop itself": (
        report("import os, signal\nos.kill(os.getpid(), signal.SIGSTOP)\ncame.append('on')"),
        "came: ['on']",
    ),
    "sys.exit at import": ("import sys\nsys.exit(0)", "raised SystemExit"),
    "sys.exit in a call": (call("import sys\nsys.exit(0)"), "raised SystemExit"),
    "os._exit at import": ("import os\nos._exit(0)", ENDED),
    "os._exit in a call": (call("import os\nos._exit(0)"), ENDED),
    "atexit": (call("import atexit, os\natexit.register(os._exit, 0)"), MISTAKE),
    "interrupt": (call("raise KeyboardInterrupt"), "raised KeyboardInterrupt"),
    "abort": (call("import os\nos.abort()"), ENDED),
    "crash": (call("import ctypes\nctypes.string_at(0)"), ENDED),
    "close all": (call("import os, time\nos.closerange(0, 64)\ntime.sleep(1e6)"), ENDED),
    "recursion": (
        call(
            """
            import sys
            sys.setrecursionlimit(10**9)
            nested = []
            for _ in range(10**6):
                nested = [nested]
            repr(nested)
            """
        ),
        ENDED,
    ),
    "kill the first process": (
        report("import os, signal\nos.kill(1, signal.SIGKILL)\ncame.append('on')"),
        "came: ['on']",
    ),
    "kill all": (call("import os, signal\nos.kill(-1, signal.SIGKILL)"), "ProcessLookupError"),
    "kill the group": (
        report("import os, signal\nos.kill(0, signal.SIGKILL)\ncame.append('on')"),
        "came: ['on']",
    ),
    "stop the group": (
        report("import os, signal\nos.kill(0, signal.SIGSTOP)\ncame.append('on')"),
        "came: ['on']",
    ),
    "kill the parent": (
        report(
            """
            import os, signal
            for parent in range(0, 50):
                try:
                    os.kill(parent, signal.SIGKILL)
                    came.append(parent)
                except ProcessLookupError:
                    pass
            """
        ),
        "came: [0, 1]",  # its own group and itself, which the kernel spares
    ),
}

USING_UP = {
    "memory": (MEMORY, "raised MemoryError"),
    "memory of torch": (call("torch.ones(2**30)"), "can't allocate memory"),
    "memory that is mapped": (call("import mmap\nmmap.mmap(-1, 2**33)"), "Cannot allocate memory"),
    "memory without a name": (SHARED_MEMORY, DENIED),
    "memory that is shared": (
        call(
            "from multiprocessing import shared_memory as s\ns.SharedMemory(create=True, size=2**20)"
        ),
        "raised",
    ),
    "fork bomb": (FORK.replace("range(3)", "range(300)"), DENIED),
    "fork": (FORK, DENIED),
    "detached process": (
        call("import os\nif os.fork() == 0:\n    os.setsid()\n    os.fork()\n    os._exit(0)"),
        DENIED,
    ),
    "another program": (SPAWN, DENIED),
    "another program in its place": (call("import os\nos.execv('/bin/sh', ['sh'])"), DENIED),
    "another program by posix_spawn": (
        call("import os\nos.posix_spawn('/bin/true', ['true'], {})"),
        "Operation not permitted",
    ),
    "threads": (THREAD, "can't start new thread"),
    "processes of multiprocessing": (
        call("import multiprocessing as m\nm.get_context('fork').Process(target=int).start()"),
        DENIED,
    ),
    "descriptors": (DESCRIPTORS, "Too many open files"),
    "output": (
        call("import os\nwhile True: os.write(3, bytes(2**16))"),
        "it wrote too much output",
    ),
    "output in lines": (
        call("import os\nwhile True: os.write(3, b'1\\n' * 2**15)"),
        "it wrote too much output",
    ),
    "printing": (call("for _ in range(100): print('x' * 2**20)"), MISTAKE),
    "printing gigabytes": (call("while True: print('x' * 2**20)"), TIME),
    "many numbers": (call("return torch.zeros(2_000_000)"), "with 2000000 numbers"),
    "a shape without numbers": (
        call("return torch.zeros(10**6, 10**6, 0)"),
        "with shape (1000000, 1000000, 0)",
    ),
    "a smaller shape without numbers": (
        call("return torch.zeros(20, 10**6, 0)"),
        "with shape (20, 1000000, 0)",
    ),
    "a shape of NumPy without numbers": (
        call("import numpy\nreturn numpy.zeros((10**6, 0, 10**6))"),
        "an array of float64 with shape (1000000, 0, 1000000)",
    ),
    "a shape without numbers in a list": (
        call("return [torch.zeros(10**6, 10**6, 0)] * 2"),
        "ragged or mixed",
    ),
    "a shape without numbers in a dictionary": (
        call("return {'x': (torch.zeros(10**6, 10**6, 0),)}"),
        "got a dict with ['x']",
    ),
    "an argument without numbers": (
        call("x.resize_(10**6, 10**6, 0)\nreturn 2 * x"),
        "with shape (1000000, 1000000, 0)",
    ),
    "many rows without numbers": (
        call("return torch.zeros(10**6, 0)"),
        "got (1000000, 0)",
    ),
    "many shapes without numbers": (
        call("return [torch.zeros(10**6, 0)] * 30_000"),
        "got (30000, 1000000, 0)",
    ),
    "many empty lists": (call("return [[]] * 500_000"), "more than 100000 values"),
    "many lists in lists": (
        call("y = 0\nfor _ in range(5): y = [y] * 12\nreturn y"),
        "more than 100000 values",
    ),
    "many short texts": (call("return ['x'] * 300_000"), "more than 100000 values"),
    "a long list": (call("return [0.123456789] * 400_000"), "more than 100000 values"),
    "a long text": (call("return 'x' * 3_000_000"), "it wrote too much output"),
    "limits": (
        call("import resource as r\nr.setrlimit(r.RLIMIT_CPU, (100, 100))"),
        "not allowed to raise maximum limit",
    ),
}

NO_SPACE = "No space left on device"

# An answer may write files, in memory, into a folder that its process has for itself.
FILES = {
    "a full disk": (
        call("with open('full', 'wb') as f:\n    while True: f.write(bytes(2**20))"),
        "File too large",
    ),
    "a full disk of several files": (
        call("for n in range(100): open(str(n), 'wb').write(bytes(2**22))"),
        NO_SPACE,
    ),
    "many files": (call("for n in range(10**6): open(str(n), 'w').close()"), NO_SPACE),
    "many folders": (call("import os\nfor n in range(10**6): os.mkdir(str(n))"), NO_SPACE),
    "folders in folders": (
        call("import os\nwhile True:\n    os.mkdir('x' * 250)\n    os.chdir('x' * 250)"),
        NO_SPACE,
    ),
    "a file of sparse size": (
        call("open('sparse', 'wb').truncate(2**40)"),
        "File too large",
    ),
    "holes": (
        call("f = open('holes', 'wb')\nf.seek(2**40)\nf.write(b'x')\nf.flush()"),
        "File too large",
    ),
    "a file in memory that is full": (
        call(
            """
            import mmap
            for name in "ab":
                file = open(name, "w+b")
                file.truncate(2**26)
                page = mmap.mmap(file.fileno(), 2**26)
                for at in range(0, 2**26, mmap.PAGESIZE): page[at] = 1
            """
        ),
        ENDED,
    ),
    "a FIFO": (call("import os\nos.mkfifo('pipe')"), DENIED),
    "a device": (call("import os, stat\nos.mknod('d', stat.S_IFCHR, os.makedev(1, 1))"), DENIED),
    "a hard link": (call("import os\nopen('a', 'w').close()\nos.link('a', 'b')"), DENIED),
    "a link out": (call("import os\nos.symlink('/', 'out')"), DENIED),
    "a program": (
        call(
            """
            import os
            open("program", "w").write("#!/bin/sh")
            os.chmod("program", 0o4755)
            os.execv("program", ["program"])
            """
        ),
        DENIED,
    ),
    "a library": (
        call(
            """
            import _ctypes, ctypes, shutil
            shutil.copy(_ctypes.__file__, "library.so")
            ctypes.CDLL("./library.so")
            """
        ),
        "failed to map segment",
    ),
    "another file system": (
        report(
            """
            import ctypes
            mount = ctypes.CDLL(None).mount
            came.append(mount(b"x", b"/sandbox/files", b"tmpfs", 0, b"size=9999999999"))
            """
        ),
        "came: [-1]",
    ),
}

CHEATING = {
    "patched comparisons": (
        call(
            "return x",
            before="""
import numpy, torch.testing
for place in (torch, torch.testing, numpy, numpy.testing):
    for name in ("allclose", "equal", "isclose", "assert_close", "assert_allclose", "array_equal", "abs"):
        setattr(place, name, lambda *_, **__: True)
torch.Tensor.__eq__ = torch.Tensor.all = torch.Tensor.any = lambda *_: True
""",
        ),
        MISTAKE,
    ),
    "patched encoding": (
        call(
            "return x",
            before="import worker.calls, worker.values\nworker.calls.encode = lambda _: True",
        ),
        "expected shape (2,), got ()",
    ),
    "patched calls": (
        call(
            "return x",
            before="import worker.runner\nworker.runner.run_case = lambda *_: {'returned': None}",
        ),
        "got None",
    ),
    "patched JSON": (
        call("return x", before="import json\njson.dumps = lambda _: '{\"outcomes\": true}'"),
        UNREADABLE,
    ),
    "patched pickling": (
        call("return x", before="import copyreg, pickle\npickle.loads = copyreg.pickle = print"),
        MISTAKE,
    ),
    "an object to unpickle": (
        call("return Trap()", before="class Trap:\n    def __reduce__(self): return (exit, ())"),
        "got a Trap",
    ),
    "always equal": (
        call(
            "return x.as_subclass(Equal)",
            before="""
class Equal(torch.Tensor):
    @classmethod
    def __torch_function__(cls, function, types, arguments=(), options=None):
        if function.__name__ in ("__eq__", "equal", "allclose", "isclose"):
            return True
        return super().__torch_function__(function, types, arguments, options or {})
    def __eq__(self, other): return True
    def __sub__(self, other): return 0
""",
        ),
        MISTAKE,
    ),
    "always equal array": (
        call(
            "return x.numpy().view(Equal)",
            before="import numpy\nclass Equal(numpy.ndarray):\n    __eq__ = __le__ = lambda *_: True",
        ),
        MISTAKE,
    ),
    "always equal object": (
        call("return Equal()", before="class Equal:\n    __eq__ = __le__ = lambda *_: True"),
        "got an Equal",
    ),
    "lying class": (
        call(
            "return Liar()",
            before="class Liar:\n    __class__ = torch.Tensor\n    __eq__ = lambda *_: True",
        ),
        "raised AttributeError",
    ),
    "class without a name": (
        call(
            "return Nameless()",
            before="""
class Meta(type):
    @property
    def __name__(cls): raise SystemExit("no name")
class Nameless(metaclass=Meta): pass
""",
        ),
        "raised SystemExit",
    ),
    "frames": (
        report(
            """
            import sys
            frame = sys._getframe()
            while frame is not None:
                for name, value in {**frame.f_globals, **frame.f_locals}.items():
                    if isinstance(value, (dict, list)) and ("expected" in value or "mistakes" in value):
                        came.append(name)
                frame = frame.f_back
            """
        ),
        "came: []",
    ),
    "garbage collector": (
        report(
            """
            import gc
            gc.unfreeze()
            for one in gc.get_objects():
                if type(one) is dict and "expected" in one and "property" in one:
                    came.append(one)
            """
        ),
        "came: []",
    ),
    "the grader's own modules": (call("import stepgrader"), "No module named 'stepgrader'"),
    "the student's own name": (
        call("return x", before='__name__ = "seqbook"; doubled = 5'),
        MISTAKE,
    ),
    "no function": ("doubled = 5", "TypeError"),
    "not defined": ("if False:\n    doubled = 5", "does not define doubled"),
    "right once": (
        call("global count\ncount += 1\nif count == 1: return 2 * x", before="count = 0"),
        "numbers differ",
    ),
    "a generator": (call("yield 2 * x"), "got a generator"),
    "a lazy object": (
        call(
            "return Lazy()",
            before="class Lazy:\n    def __array__(self, *_, **__): return 0\n    def numpy(self): return 0",
        ),
        "got a Lazy",
    ),
    "its argument": (call("x *= 2"), "the call changed its argument x"),
    "transformers of IPython": (
        "%%bash\ntouch /tmp/x\ndef doubled(x): pass",
        "does not define doubled",
    ),
    "commands of IPython": ("!touch /tmp/x\ndef doubled(x): return x", MISTAKE),
    "IPython itself": (
        "get_ipython().input_transformers_cleanup.append(print)\ndef doubled(x): return x",
        MISTAKE,
    ),
    "no code": ("\x00def doubled(x): return 2 * x", "null bytes"),
    "half a character": ("# \ud800\ndef doubled(x): return 2 * x", "UnicodeEncodeError"),
    "nested too deeply": ("(" * 40_000 + ")" * 40_000 + "\ndef doubled(x): return 2 * x", "raised"),
}

VALUES = {
    "NaN": (call("return x * float('nan')"), "got nan"),
    "infinity": (call("return x * float('inf')"), "got inf"),
    "infinite tolerance": (call("return float('inf')"), "expected shape"),
    "truth": (call("return x > 0"), "expected numbers, got Boolean values"),
    "complex": (call("return 2 * x.to(torch.complex128)"), "complex128"),
    "half": (call("return (2 * x).half()"), "got inf"),
    "text": (call("return str((2 * x).tolist())"), "got a str"),
    "texts": (call("return [str(2 * one) for one in x.tolist()]"), "ragged or mixed"),
    "ragged": (call("return [[1.0, 2.0], [3.0]]"), "ragged or mixed"),
    "nested in itself": (call("y = []\ny.append(y)\nreturn y"), "RecursionError"),
    "nested deeply": (call("y = []\nfor _ in range(200): y = [y]\nreturn y"), "nested more than"),
    "objects": (call("import numpy\nreturn numpy.array([print, 1], dtype=object)"), "object"),
    "sparse": (call("return (2 * x).to_sparse()"), "raised TypeError"),
    "without data": (call("return (2 * x).to('meta')"), "raised NotImplementedError"),
    "wrong shape": (call("return 2 * x[None]"), "expected shape"),
    "nothing": (call("return None"), "None"),
    "huge number": (call("return 10 ** 4000"), "ragged or mixed"),
    "number beyond printing": (call("return 10 ** 5000"), "ValueError"),
}

FORGING = {
    "truth": (returned("true"), "expected shape (2,), got ()"),
    "no cases": (tell('{"outcomes": []}'), UNREADABLE),
    "too many cases": (tell('{"outcomes": [{}, {}, {}]}'), UNREADABLE),
    "no outcomes": (tell('{"outcomes": {"right": true}}'), UNREADABLE),
    "no result": (tell('{"outcomes": [{}, {}]}'), UNREADABLE),
    "a verdict": (tell('{"status": "right", "points": 3}'), ENDED),
    "an end": (tell('{"end": "ended"}', '{"outcomes": null}'), UNREADABLE),
    "a fault": (tell('{"end": "fault"}'), ENDED),
    "null": (tell("null"), ENDED),
    "bytes": (call("import os\nos.write(3, bytes(range(256)) + b'\\n')\nos._exit(0)"), ENDED),
    "half a line": (call("import os\nos.write(3, b'{\"outcomes\": [')\nos._exit(0)"), ENDED),
    "empty lines": (call("import os\nos.write(3, b'\\n' * 2**16)\nos._exit(0)"), ENDED),
    "two answers": (
        call('import os\nos.write(3, b\'{"outcomes": [{"returned": 5}, {"returned": 5}]}\\n\')'),
        MISTAKE,  # the last one counts
    ),
    "huge number": (returned("9" * 4000), "ragged or mixed"),
    "number too huge": (returned("9" * 5000), ENDED),
    "huge number in a tensor": (
        returned('{"tensor": [' + "9" * 4000 + ', 1], "dtype": "float64", "shape": [2]}'),
        "does not fit",
    ),
    "huge shape": (
        returned('{"tensor": [], "dtype": "float64", "shape": [1000000000000000000, 0]}'),
        "shape: expected",
    ),
    "huge shape without numbers": (
        returned('{"tensor": [], "dtype": "float64", "shape": [1000000, 1000000, 0]}'),
        "shape: expected",
    ),
    "shape of huge numbers": (
        returned(
            '{"tensor": [1], "dtype": "float64", "shape": [' + ",".join(["9" * 4000] * 400) + "]}"
        ),
        "shape: expected",
    ),
    "shape below zero": (
        returned('{"tensor": [1], "dtype": "float64", "shape": [-1, -1]}'),
        "shape: expected",
    ),
    "many axes": (
        returned('{"tensor": [1], "dtype": "float64", "shape": [' + ",".join(["1"] * 60) + "]}"),
        "shape: expected",
    ),
    "wrong dtype": (
        returned('{"tensor": [1], "dtype": "object", "shape": [1]}'),
        "dtype: expected",
    ),
    "dtype in a list": (
        returned('{"tensor": [1], "dtype": ["float64"], "shape": [1]}'),
        "dtype: expected",
    ),
    "texts in a tensor": (
        returned('{"tensor": ["1"], "dtype": "float64", "shape": [1]}'),
        "expected numbers of",
    ),
    "not finite": (
        returned('{"tensor": [NaN, Infinity], "dtype": "float64", "shape": [2]}'),
        "got nan",
    ),
    "nested": (returned("[" * 400 + "]" * 400), "nested more than"),
    "nested beyond reading": (returned("[" * 100_000 + "]" * 100_000), ENDED),
    "a long text among many": (
        returned('["' + "x" * 1_500_000 + '"' + ', ""' * 20_000 + "]"),
        "ragged or mixed",
    ),
    "an unknown form": (returned('{"pickle": "gASV"}'), "an object with ['pickle']"),
    "a wrong error": (
        tell('{"failed": {"type": 5, "message": [], "cell": null, "line": null}}'),
        UNREADABLE,
    ),
    "an unwritten answer": (
        tell(
            '{"failed": {"type": "NotImplementedError", "message": "", "cell": null, "line": null}}'
        ),
        "not written yet",
    ),
    "a line that is not there": (
        tell(
            '{"failed": {"type": "E", "message": "m", "cell": "<answer doubled-answer>", "line": 777}}'
        ),
        "your code raised E: m",
    ),
    "a cell": (tell('{"at": ["setup"]}'), ENDED),
}

SHOWING = {
    "HTML and escapes": (
        call(
            r"""raise ValueError("</pre><script>alert(1)</script>\x1b[2J\x1b]0;title\x07\r\n"""
            r"""## ✓ doubled: 1 of 1 point\u202e\u0000")"""
        ),
        "</pre><script>alert(1)</script>",
    ),
    "HTML as a type": (
        call("raise type('<img src=x onerror=alert(1)>', (Exception,), {})('\\x9b31m')"),
        "<img src=x onerror=alert(1)>",
    ),
    "HTML as a class": (call("return type('<b>\\x1b[1m', (), {})()"), "<b>"),
    "HTML as names": (call("return {'<script>': 1}"), "got a dict with ['<script>']"),
    "a very long message": (call("raise ValueError('long ' * 10**6)"), "long long"),
    "an error that can't be told": (
        call(
            "raise Mute", before="class Mute(Exception):\n    def __str__(self): raise ValueError"
        ),
        "raised Mute",
    ),
    "an error that exits": (
        call(
            "raise Mute",
            before="import os\nclass Mute(Exception):\n    def __str__(self): os._exit(0)",
        ),
        ENDED,
    ),
    "an error that exits politely": (
        call(
            "raise Mute", before="class Mute(Exception):\n    def __str__(self): raise SystemExit"
        ),
        "raised",
    ),
    "a strange error of syntax": (
        call("error = SyntaxError('odd')\nerror.filename = error.lineno = [5]\nraise error"),
        "raised",
    ),
    "an error like an unwritten answer": (
        call("raise type('NotImplementedError', (BaseException,), {})('x')"),
        "raised NotImplementedError",
    ),
    "where Python is": (
        call("raise ValueError('in ' + torch.__file__)"),
        "raised ValueError: in lib",
    ),
    "a group of errors": (call("raise ExceptionGroup('g', [ValueError('v')])"), "ExceptionGroup"),
}


def leaks(visible: dict[tuple, list]) -> dict[str, tuple[str, str]]:
    """Return answers that know the visible cases by heart and show the others where they can."""
    known = f"import os, sys, warnings\nKNOWN = {visible!r}\n"

    def leak(body: str) -> str:
        body = (
            "if tuple(x.tolist()) in KNOWN: return torch.tensor(KNOWN[tuple(x.tolist())])\n" + body
        )
        return call(body, before=known)

    return {
        "nothing": (leak("return x"), HIDDEN),
        "a message": (
            leak("raise ValueError(repr(x.tolist()))"),
            f"your code raised ValueError, {HIDDEN}",
        ),
        "a message of an unwritten answer": (
            leak("raise NotImplementedError(repr(x.tolist()))"),
            HIDDEN,
        ),
        "the name of an error": (
            leak("raise type(repr(x.tolist()), (Exception,), {})"),
            f"your code raised an error, {HIDDEN}",
        ),
        "the name of a class": (leak("return type(repr(x.tolist()), (), {})()"), HIDDEN),
        "names": (leak("return {repr(one): one for one in x.tolist()}"), HIDDEN),
        "the number of a line": (
            leak(
                "n = int(x[0]) % 9000 + 500\nexec(compile('\\n' * n + '1 / 0', '<answer doubled-answer>', 'exec'))"
            ),
            f"your code raised an error, {HIDDEN}",
        ),
        "the number of an empty line": (
            leak(
                "n = int(x[0]) % 9000 + 500\nexec(compile('\\n' * n + '1 / 0', '<answer doubled-answer>', 'exec'))"
            )
            + "\n" * 10_000,
            f"your code raised an error, {HIDDEN}",
        ),
        "the kind of a built-in error": (
            leak("raise (BufferError, LookupError, MemoryError, OSError)[int(x[0]) % 4]"),
            f"your code raised an error, {HIDDEN}",
        ),
        "an earlier cell": (
            leak('os.write(3, b\'{"at": "setup"}\\n\')\nos._exit(0)'),
            f"out of memory, {HIDDEN}",
        ),
        "an answer that is unwritten at times": (
            leak("raise NotImplementedError"),
            f"your code raised an error, {HIDDEN}",
        ),
        "printing": (
            leak(
                "print(x, file=sys.stderr)\nprint(x.tolist())\nwarnings.warn(repr(x.tolist()))\n"
                "for n in (0, 1, 2):\n    os.write(n, repr(x.tolist()).encode())\n"
                "raise ValueError('printed')"
            ),
            f"your code raised ValueError, {HIDDEN}",
        ),
        "the pipe": (
            leak("os.write(3, repr(x.tolist()).encode() + b'\\n')\nos._exit(0)"),
            ENDED,
        ),
        "a cell": (
            leak(
                "import json\nos.write(3, json.dumps({'at': repr(x.tolist())}).encode() + b'\\n')\nos._exit(0)"
            ),
            ENDED,
        ),
        "a line that nobody wrote": (
            leak(
                "import json\nerror = {'type': 'E', 'message': repr(x.tolist()), 'cell': None, 'line': int(x[0])}\n"
                "os.write(3, json.dumps({'failed': error}).encode() + b'\\n')\nos._exit(0)"
            ),
            f"your code raised an error, {HIDDEN}",
        ),
        "memory of others": (
            report(
                f"""
                import ctypes, re
                libc = ctypes.CDLL(None)
                libc.sbrk.restype = ctypes.c_void_p
                end = libc.sbrk(0)
                heap = ctypes.string_at(end - 8 * 2**20, 8 * 2**20)
                own = {{int(n) for key in {list(visible)!r} for n in key}}
                found = re.findall(rb'[\\[ ]([1-9][0-9]{{8}})\\.0[,\\]]', heap)
                came.append(sorted({{int(n) for n in found}} - own)[:20])
                came.append(heap.count(b'HONEST' + b'_MARK'))
                """
            ),
            "came: [[], 0]",
        ),
    }


def leaving(places: list[str], mark: str) -> dict[str, tuple[str, str]]:
    """Return attacks that leave something for others, in these folders too, or look for it."""
    folders = f"[os.path.expanduser(place) for place in {places!r}] + [tempfile.gettempdir()]"
    return LEAVING | {
        "in files": (
            call(
                f"""
                import os, tempfile
                for place in {folders}:
                    open(place + "/seqbook-{mark}", "w").write("left")
                """
            ),
            MISTAKE,
        ),
        "files of another": (
            report(
                f"""
                import os, tempfile
                for place in {folders}:
                    came += os.listdir(place)
                """
            ),
            "came: []",
        ),
    }


LEAVING = {
    "in modules": (
        call(
            "import builtins, sys\nbuiltins.LEFT = torch.LEFT = sys.LEFT = 1\ntorch.set_default_dtype(torch.half)"
        ),
        MISTAKE,
    ),
    "patched functions": (
        call(
            "torch.tanh = torch.sigmoid = torch.Tensor.tolist = torch.Tensor.numpy = lambda *_: 0"
        ),
        "raised",
    ),
    "in the environment": (
        call("import os\nos.environ['LEFT'] = '1'\nos.nice(5)\nos.umask(0)"),
        MISTAKE,
    ),
    "read by another": (
        report(
            "import builtins, os, sys\ncame += [hasattr(builtins, 'LEFT'), hasattr(torch, 'LEFT'), "
            "hasattr(sys, 'LEFT'), 'LEFT' in os.environ, torch.get_default_dtype()]"
        ),
        "came: [False, False, False, False, torch.float32]",
    ),
}
