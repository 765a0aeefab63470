"""A batch on a Dask cluster: the same results as on one machine, whatever happens to workers."""

import json
import os
import signal
import sys
import threading

import pytest
from conftest import PATIENCE, wait_until
from distributed import LocalCluster
from grading_exercise import answered, solved, source_notebook, write_exercise

from seqbook.cli import main


@pytest.fixture(scope="module")
def cluster(bubblewrap):
    with LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=None) as cluster:
        yield cluster
