"""Grade notebooks on the workers of a Dask cluster.

The cluster belongs to the person who grades and runs already; this machine is its client. Each
worker grades as one machine does, with processes and sandboxes of its own (``cluster_worker``). It
gets the exercises once, and then one notebook after another.
"""

from __future__ import annotations

import contextlib
import json
import queue
import sys
import time
import uuid
import zlib
from collections import deque
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from stepgrader.compiled import versions
from stepgrader.pool import Outcome
from stepgrader.sandbox import NoSandboxError
from stepgrader.tasks import GradingTask

if TYPE_CHECKING:
    from distributed import Client, Future

    from stepgrader.cluster_worker import Judges

__all__ = ["ClusterError", "differing_versions", "grade_on_cluster"]

CONNECT_SECONDS = 30
NO_WORKER_SECONDS = 300  # a worker that restarts, or waits for a free machine, may need minutes
CHECK_SECONDS = 5.0  # between two looks at the number of workers
NOTEBOOKS_PER_PLACE = 2  # sent to the cluster for each notebook that it can grade at once
SENDINGS = 3  # attempts to reach all workers, of which some may leave meanwhile
KEPT = "What was graded is kept: run the same command again."


class ClusterError(OSError):
    """The cluster can't grade: no scheduler answers, no worker is left, or versions differ.

    Example:
        >>> raise ClusterError("tcp://10.0.0.1:8786: there has been no worker for 300 s")
        Traceback (most recent call last):
        ...
        stepgrader.cluster.ClusterError: tcp://10.0.0.1:8786: there has been no worker for 300 s
    """


def grade_on_cluster(
    tasks: Sequence[GradingTask],
    scheduler: str,
    *,
    cpu_seconds: int,
    wall_seconds: int,
    hidden: Sequence[Path] = (),
    skip: Callable[[int], bool] = lambda task: False,
) -> Generator[tuple[int, Outcome], None, None]:
    """Grade notebooks on a Dask cluster, and yield each outcome as soon as it is known.

    The outcomes are those of ``pool.grade_in_processes``. If a worker dies, its notebooks are
    graded by others, however often that happens. If only the process dies that grades a notebook,
    the notebook is graded once more, on another worker if there is one: a machine that shuts down
    also ends processes. The second time, the notebook is taken to be the reason.

    Args:
        tasks: The notebooks.
        scheduler: Address of the scheduler, such as ``tcp://10.0.0.1:8786``.
        cpu_seconds: Processor time for a step; see ``Sandbox``.
        wall_seconds: Elapsed time for the same.
        hidden: Folders that no submission may read. If one is a package, it is hidden wherever a
            worker has it installed.
        skip: Says, when it is the turn of the task with this number, whether to leave it out.

    Yields:
        Number of the task, and its outcome.

    Raises:
        ClusterError: The scheduler can't be reached, there is no worker, or versions differ.
        NoSandboxError: Submissions can't be run on a worker.

    Example:
        >>> list(grade_on_cluster([], "tcp://10.0.0.1:8786", cpu_seconds=5, wall_seconds=30))
        []
    """
    if not tasks:
        return
    settings = {
        "cpu_seconds": cpu_seconds,
        "wall_seconds": wall_seconds,
        "hidden": [str(folder.resolve()) for folder in hidden],
        "packages": [folder.name for folder in hidden if (folder / "__init__.py").is_file()],
    }
    exercises = {task.exercise.digest: task.exercise for task in tasks}
    contents = {
        digest: zlib.compress(json.dumps(exercise.as_data()).encode())
        for digest, exercise in exercises.items()
    }
    waiting = deque(range(len(tasks)))
    ended: dict[int, float] = {}  # tasks whose process has ended once, and how long that took
    with _connected(scheduler) as client, _prepared(client, scheduler, contents, settings) as name:
        workers = _Workers(client, scheduler)
        batch = _Batch(client, scheduler, name, tasks)
        try:
            while waiting or batch.running:
                places = NOTEBOOKS_PER_PLACE * max(1, workers.places())
                while waiting and len(batch.running) < places:
                    task = waiting.popleft()
                    if not skip(task):
                        batch.submit(task)
                finished = batch.next() if batch.running else None
                if finished is None:
                    continue
                task, outcome = finished.task, finished.outcome
                if outcome.killed and task not in ended:
                    ended[task] = outcome.seconds
                    batch.submit(task, workers=workers.others(finished.worker))
                else:
                    yield task, replace(outcome, seconds=outcome.seconds + ended.get(task, 0.0))
        finally:
            batch.cancel()


class _Finished(NamedTuple):
    task: int
    worker: str
    outcome: Outcome


class _Batch:
    """The notebooks that the cluster has at present."""

    def __init__(self, client: Client, scheduler: str, name: str, tasks: Sequence[GradingTask]):
        self.running: dict[Any, tuple[int, Future]] = {}  # tasks, by the keys of their futures
        self._client = client
        self._scheduler = scheduler
        self._name = name
        self._tasks = tasks
        self._done: queue.SimpleQueue[Future] = queue.SimpleQueue()

    def submit(self, task: int, workers: Sequence[str] = ()) -> None:
        """Send a notebook, to one of these workers if that is possible."""
        from stepgrader.cluster_worker import grade

        future = self._client.submit(
            grade,
            self._name,
            self._tasks[task].exercise.digest,
            json.dumps(self._tasks[task].notebook).encode(),
            key=f"{self._name}-{task}-{uuid.uuid4().hex}",
            pure=False,
            workers=list(workers) or None,
            allow_other_workers=bool(workers),
        )
        self.running[future.key] = task, future
        future.add_done_callback(self._done.put)

    def next(self) -> _Finished | None:
        """Wait for the next outcome and return it; None if there is none for some seconds."""
        from distributed import CancelledError, KilledWorker

        try:
            future = self._done.get(timeout=CHECK_SECONDS)
        except queue.Empty:
            return None
        task, _ = self.running[future.key]
        try:
            worker, outcome = future.result(timeout=CHECK_SECONDS)
        except TimeoutError:  # the worker died that had the outcome, and another grades again
            self._done.put(future)
            return None
        except KilledWorker:  # the scheduler's limit, which it has for tasks that end their worker
            print(
                "Several workers died while grading the same notebook, of the exercise "
                f"{self._tasks[task].exercise.released.name}. It is graded again.",
                file=sys.stderr,
            )
            del self.running[future.key]
            self.submit(task)
            return None
        except (ClusterError, NoSandboxError):
            raise
        except CancelledError:
            raise _lost(self._scheduler) from None
        except Exception as error:
            raise ClusterError(
                f"{self._scheduler}: a worker can't grade: {type(error).__name__}: {error}. {KEPT}"
            ) from error
        del self.running[future.key]
        return _Finished(task, worker, outcome)

    def cancel(self) -> None:
        """Take back what was not graded yet."""
        if self.running:
            with contextlib.suppress(Exception):  # the scheduler may be gone
                self._client.cancel([future for _, future in self.running.values()], force=True)


class _Workers:
    """The workers of a cluster, of which some may come and go."""

    def __init__(self, client: Client, scheduler: str):
        self._client = client
        self._scheduler = scheduler
        self._threads: dict[str, int] = {}
        self._looked: float | None = None
        self._last_seen = time.monotonic()

    def places(self) -> int:
        """Return how many notebooks the cluster can grade at once.

        Raises:
            ClusterError: There has been no worker for too long.
        """
        now = time.monotonic()
        if self._looked is None or now - self._looked >= CHECK_SECONDS:
            had_some = bool(self._threads) or self._looked is None
            self._threads = _asked(self._scheduler, self._client.nthreads)
            self._looked = now
            if self._threads:
                self._last_seen = now
            elif now - self._last_seen > NO_WORKER_SECONDS:
                raise ClusterError(
                    f"{self._scheduler}: there has been no worker for {NO_WORKER_SECONDS} s. {KEPT}"
                )
            elif had_some:
                print(
                    f"{self._scheduler}: there is no worker; waiting up to {NO_WORKER_SECONDS} s "
                    "for one.",
                    file=sys.stderr,
                )
        return sum(self._threads.values())

    def others(self, worker: str) -> list[str]:
        """Return the addresses of the workers except one."""
        return [address for address in self._threads if address != worker]


def differing_versions(here: Mapping[str, str], there: Mapping[str, str]) -> str:
    """Return which versions differ, in words; nothing if none do.

    Args:
        here: What ``compiled.versions`` returns on this machine.
        there: The same on a worker.

    Example:
        >>> differing_versions({"torch": "2.13.0"}, {"torch": "2.14.0"})
        'torch 2.14.0, and here 2.13.0'
    """
    return "; ".join(
        f"{name} {there.get(name, 'none')[:12]}, and here {version[:12]}"
        for name, version in here.items()
        if there.get(name) != version
    )


@contextlib.contextmanager
def _connected(scheduler: str) -> Iterator[Client]:
    if find_spec("distributed") is None:
        raise ClusterError(
            "grading on a cluster needs the package distributed, which is not installed here: "
            "pip install distributed"
        )
    from distributed import Client

    try:
        client = Client(scheduler, timeout=CONNECT_SECONDS, set_as_default=False)
    except (OSError, ValueError) as error:
        raise ClusterError(
            f"expected the address of a Dask scheduler, such as tcp://10.0.0.1:8786; at "
            f"{scheduler} none answered within {CONNECT_SECONDS} s: {error}"
        ) from None
    try:
        yield client
    finally:
        client.close()


@contextlib.contextmanager
def _prepared(
    client: Client,
    scheduler: str,
    exercises: Mapping[str, bytes],
    settings: Mapping[str, object],
) -> Iterator[str]:
    """Give the exercises to all workers that are there or come later; yield the batch's name.

    Raises:
        ClusterError: The scheduler or a worker lacks the grader, or has another version of it.
    """
    from stepgrader.cluster_worker import Judges

    here = versions()
    try:
        client.run_on_scheduler(versions)
    except ImportError as error:
        raise ClusterError(
            f"{scheduler}: the scheduler needs the same packages as this machine: {error}"
        ) from None
    problems = []
    found = _asked(scheduler, client.run, versions, on_error="return")
    present = _asked(scheduler, client.nthreads)
    for worker, there in found.items():
        if worker not in present:
            continue  # it has left meanwhile
        if isinstance(there, Exception):
            problems.append(f"worker {worker} has no grader like this machine's: {there}")
        elif differing := differing_versions(here, there):
            problems.append(f"worker {worker} has other versions: {differing}")
    if problems:
        raise ClusterError("\n".join([*problems, "Nothing was run."]))
    name = f"stepgrader-{uuid.uuid4().hex}"
    try:
        _send_to_all(client, scheduler, Judges(exercises, settings, here), name)
        yield name
    finally:
        with contextlib.suppress(Exception):  # the scheduler may be gone
            client.unregister_worker_plugin(name)


def _send_to_all(client: Client, scheduler: str, judges: Judges, name: str) -> None:
    """Give all workers what they need; those that come later get it from the scheduler."""
    for _ in range(SENDINGS):
        with contextlib.suppress(OSError):  # of one worker that has left meanwhile
            client.register_plugin(judges, name=name)
            return
    raise _lost(scheduler)


def _asked(scheduler: str, ask: Callable[..., Any], *arguments: Any, **options: Any) -> Any:
    """Ask the scheduler, or through it the workers."""
    try:
        return ask(*arguments, **options)
    except OSError:
        raise _lost(scheduler) from None


def _lost(scheduler: str) -> ClusterError:
    return ClusterError(f"{scheduler}: the connection to the scheduler was lost. {KEPT}")
