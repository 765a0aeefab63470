"""A batch on a Dask cluster: the same results as on one machine, whatever happens to workers."""

import contextlib
import json
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path
from types import SimpleNamespace

import pytest
from conftest import PATIENCE, wait_until
from distributed import Client, LocalCluster
from grading_exercise import answered, solved, source_notebook, write_exercise

from seqbook.cli import main
from stepgrader.cluster import ClusterError, differing_versions
from stepgrader.cluster_worker import Judges

SEED = 5


@pytest.fixture(scope="module")
def exercises(tmp_path_factory):
    return write_exercise(tmp_path_factory.mktemp("sources"))


@pytest.fixture(scope="module")
def cluster(bubblewrap):
    with LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=":0") as cluster:
        yield cluster


@pytest.fixture
def client(cluster):
    with Client(cluster.scheduler_address, set_as_default=False) as client:
        client.wait_for_workers(2, timeout=PATIENCE)
        yield client


@pytest.fixture
def grade(tmp_path, exercises, capsys):
    """Grade what was handed in, and return the exit code and the lines of errors."""

    def call(*options, out="out"):
        command = ["grade", tmp_path / "in", "--out", tmp_path / out, "--exercises", exercises]
        code = main([str(word) for word in (*command, "--seed", SEED, *options)])
        return code, capsys.readouterr().err.splitlines()

    return call


def hand_in(folder, student, **answers):
    notebook = answered(source_notebook(), **answers)
    notebook["cells"][0]["source"] = [f"# Of {student}"]  # or one result would do for several
    path = folder / "in" / student / "tiny.ipynb"
    path.parent.mkdir(parents=True)
    path.write_text(json.dumps(notebook), encoding="utf-8")


def contents(folder):
    """Every file below a folder, except where the error of a broken notebook names the folder."""
    return {
        path.relative_to(folder): path.read_bytes().replace(str(folder).encode(), b"OUT")
        for path in folder.rglob("*")
        if path.is_file()
    }


def workers(cluster):
    """The processes of the workers, by their numbers."""
    return {nanny.pid for nanny in cluster.workers.values()} - {None}


def children(process):
    """The children of a process, of all its threads, without a look at all other processes."""
    with contextlib.suppress(OSError):  # it has ended
        paths = Path(f"/proc/{process}/task").glob("*/children")
        return [int(child) for path in paths for child in path.read_text().split()]
    return []


def judges(cluster):
    """The processes that grade, of all workers."""
    return [judge for worker in workers(cluster) for judge in children(worker)]


def runs_a_step(judge):
    """Whether the sandbox of a process has forked for a step: into a namespace and a session.

    When it starts, the sandbox tries a namespace for a moment, without a session. A process that
    ends then is only started again.
    """

    def forked(process):
        with contextlib.suppress(OSError):  # it has ended
            inside = Path(f"/proc/{process}/comm").read_text().strip() != "bwrap"
            space = os.readlink(f"/proc/{process}/ns/user")
            for child in children(process):
                isolated = inside and os.readlink(f"/proc/{child}/ns/user") != space
                if (isolated and os.getsid(child) == child) or forked(child):
                    return True
        return False

    return any(forked(inner) for child in children(judge) for inner in children(child))


def kill_one_that_grades(cluster):
    """Kill a process that grades, in the middle of a notebook, and wait until it is gone."""
    judge = stop_one_that_grades(cluster)
    os.kill(judge, signal.SIGKILL)
    wait_until(lambda: judge not in judges(cluster))


def stop_one_that_grades(cluster):
    """Return a process that grades, stopped in the middle of a notebook."""
    stopped = []

    def stop():
        for judge in filter(runs_a_step, judges(cluster)):
            os.kill(judge, signal.SIGSTOP)
            if runs_a_step(judge):
                stopped.append(judge)
                return True
            os.kill(judge, signal.SIGCONT)
        return False

    wait_until(stop, seconds=5 * PATIENCE)
    return stopped[0]


@contextlib.contextmanager
def meanwhile(act):
    """Do something in another thread, and raise what it raises."""
    problems = []

    def run():
        try:
            act()
        except BaseException as error:
            problems.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    yield
    thread.join()
    assert problems == []


def test_results_are_the_same_to_the_byte_although_a_worker_and_a_process_are_killed(
    cluster, tmp_path, grade
):
    hand_in(tmp_path, "ann", Affine=f"import time\ntime.sleep(2)\n{solved('Affine')}")
    hand_in(tmp_path, "bob", Affine=f"import time\ntime.sleep(1)\n{solved('Affine')}")
    hand_in(tmp_path, "gil", plus_one="def plus_one(x):\n    return x - 1")
    hand_in(tmp_path, "cem", extremes="def extremes(x):\n    return x.min(), x.missing")
    hand_in(tmp_path, "dan", Affine="class Affine(nn.Module):\n    raise NotImplementedError")
    hand_in(tmp_path, "eve", plus_one="def plus_one(x):\n    import os\n    os.kill(1, 9)")
    (tmp_path / "in" / "fay.ipynb").write_text("no notebook")
    before = workers(cluster)

    def kill():
        judge = stop_one_that_grades(cluster)
        (worker,) = [one for one in workers(cluster) if judge in children(one)]
        os.kill(worker, signal.SIGKILL)
        wait_until(lambda: worker not in workers(cluster))
        kill_one_that_grades(cluster)

    with meanwhile(kill):
        code, errors = grade("--scheduler", cluster.scheduler_address)
    assert code == 3, errors  # fay's can't be read
    assert errors[-1].startswith("fay, fay.ipynb: it is not valid JSON")
    assert len(workers(cluster) & before) == 1
    assert grade("--jobs", 1, out="one")[0] == 3
    found = contents(tmp_path / "out")
    assert len([path for path in found if path.parts[0] == "results"]) == 6
    assert found == contents(tmp_path / "one")


def test_a_notebook_whose_process_is_killed_twice_is_set_aside(cluster, tmp_path, grade):
    hand_in(tmp_path, "ann", plus_one=f"import time\ntime.sleep(20)\n{solved('plus_one')}")

    def kill():
        for _ in range(2):
            kill_one_that_grades(cluster)

    with meanwhile(kill):
        code, errors = grade("--scheduler", cluster.scheduler_address)
    assert code == 3, errors
    assert errors[-1] == "seqbook: 1 could not be graded; run the same command again"
    (stored,) = (tmp_path / "out" / "results").iterdir()
    said = json.loads(stored.read_text())["problem"]
    assert said.startswith("the process that graded it was ended by SIGKILL, so it is set aside")


def test_an_interrupt_ends_what_the_cluster_does_for_the_batch(
    cluster, client, tmp_path, exercises
):
    hand_in(tmp_path, "ann", extremes=f"import time\ntime.sleep(1000)\n{solved('extremes')}")
    code = "import signal, sys; from seqbook.cli import main; "
    code += "signal.signal(signal.SIGINT, signal.default_int_handler); sys.exit(main())"
    command = [sys.executable, "-c", code, "grade", tmp_path / "in", "--out", tmp_path / "out"]
    command += ["--exercises", exercises, "--scheduler", cluster.scheduler_address]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    wait_until(lambda: any(map(runs_a_step, judges(cluster))), seconds=5 * PATIENCE)
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=5 * PATIENCE)
    assert process.returncode == 130
    assert errors.splitlines()[-1] == "seqbook: interrupted"
    wait_until(lambda: not judges(cluster) and not any(client.processing().values()))


def test_a_worker_without_bubblewrap_is_named(cluster, client, tmp_path, grade):
    hand_in(tmp_path, "ann")
    before = client.run(os.environ.get, "PATH")
    client.run(os.environ.update, PATH=str(tmp_path))
    try:
        code, errors = grade("--scheduler", cluster.scheduler_address)
    finally:
        for worker, path in before.items():
            client.run(os.environ.update, PATH=path, workers=[worker])
    assert code == 1
    assert errors[-1].startswith("seqbook: worker tcp://")
    assert "without bubblewrap (Debian and Ubuntu: apt install bubblewrap)" in errors[-1]


def test_workers_with_other_versions_are_refused(cluster, client, tmp_path, grade, monkeypatch):
    hand_in(tmp_path, "ann")
    monkeypatch.setattr("stepgrader.compiled.version", lambda name: "0.0")  # on this machine
    code, errors = grade("--scheduler", cluster.scheduler_address)
    assert code == 1
    refused = [line for line in errors if "has other versions: torch 2." in line]
    assert len(refused) == 2
    assert all("and here 0.0" in line for line in refused)
    assert errors[-1] == "Nothing was run."


def test_a_worker_with_other_versions_that_comes_later_is_refused():
    judges = Judges({}, {}, expected={"torch": "0.0"})
    judges.setup(SimpleNamespace(address="tcp://10.0.0.2:1"))
    with pytest.raises(ClusterError, match=r"worker tcp://10\.0\.0\.2:1 has other versions: torch"):
        judges.grade("", b"{}")


def test_versions_that_are_equal_do_not_differ():
    here = {"torch": "2.13.0", "numpy": "2.0"}
    assert differing_versions(here, dict(here)) == ""
    assert differing_versions(here, {"torch": "2.13.0"}) == "numpy none, and here 2.0"


def test_a_cluster_without_workers_is_given_up_after_the_time_that_is_stated(
    bubblewrap, tmp_path, grade, monkeypatch
):
    hand_in(tmp_path, "ann")
    monkeypatch.setattr("stepgrader.cluster.NO_WORKER_SECONDS", 1)
    monkeypatch.setattr("stepgrader.cluster.CHECK_SECONDS", 0.2)
    with LocalCluster(n_workers=0, dashboard_address=":0") as empty:
        code, errors = grade("--scheduler", empty.scheduler_address)
    assert code == 1
    assert f"{empty.scheduler_address}: there is no worker; waiting up to 1 s for one." in errors
    assert "there has been no worker for 1 s. What was graded is kept" in errors[-1]


@pytest.mark.parametrize("address", ["tcp://127.0.0.1:1", "nowhere://127.0.0.1:1"])
def test_a_scheduler_that_does_not_answer_is_named(tmp_path, grade, monkeypatch, address):
    hand_in(tmp_path, "ann")
    monkeypatch.setattr("stepgrader.cluster.CONNECT_SECONDS", 1)
    code, errors = grade("--scheduler", address)
    assert code == 1
    assert "expected the address of a Dask scheduler" in errors[-1]
    assert f"at {address} none answered within 1 s" in errors[-1]


def test_the_package_for_clusters_is_asked_for(tmp_path, grade, monkeypatch):
    hand_in(tmp_path, "ann")
    monkeypatch.setattr("stepgrader.cluster.find_spec", lambda name: None)
    code, errors = grade("--scheduler", "tcp://127.0.0.1:1")
    assert code == 1
    assert errors[-1].endswith("is not installed here: pip install distributed")


def test_jobs_are_those_of_the_cluster(grade, capsys):
    with pytest.raises(SystemExit) as end:
        grade("--scheduler", "tcp://127.0.0.1:1", "--jobs", 2)
    assert end.value.code == 2
    assert "--jobs: not allowed with argument --scheduler" in capsys.readouterr().err
