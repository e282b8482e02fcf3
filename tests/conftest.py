"""What holds for every test and for the processes that tests begin."""

from __future__ import annotations

import gc
import os
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import hypothesis
import pytest

if TYPE_CHECKING:
    from tests.google_store import GoogleStore
    from tests.object_store import ObjectStore

# Read when numpy and torch are first imported. There are as many workers as cores: a second thread in each only waits
# for the other, and makes tiny products a hundred times slower on a busy machine.
os.environ.setdefault("OMP_NUM_THREADS", "1")
# One small graph is compiled: processes that wait for more, each with an import of torch, cost more than they save.
os.environ.setdefault("TORCHINDUCTOR_COMPILE_THREADS", "1")
# Ray's workers give way to everything else (niceness 15), and then wait minutes beside tests that compute.
os.environ.setdefault("RAY_worker_niceness", "0")

# Millions of objects are made while tests are collected (torch, Ray, SciPy, the tests), and all of them stay: the
# garbage collector looks at them neither then nor later. Where a test calls it, as our own code does when memory ran
# out, it took a second, and while tests were collected half of the time.
gc.disable()


def pytest_collection_finish() -> None:
    gc.freeze()
    gc.enable()


# Nothing is timed here: how long an example takes says how busy the machine is.
hypothesis.settings.register_profile("untimed", deadline=None)
hypothesis.settings.load_profile("untimed")

# The files that take longest are begun first, so that no worker is left with one of them at the end.
LONGEST = (
    *("tuner/test_cluster.py", "bcrit/test_end_to_end.py", "golden/test_goldens.py"),
    *("tuner/workloads/test_launch.py", "bcrit/test_function_end_to_end.py", "tuner/protocol/test_joint.py"),
    *("tuner/workloads/test_misbehaving.py", "bcrit/test_pilot.py", "tuner/test_long_trials.py"),
    *("tuner/workloads/test_scripts.py", "browser/test_report_use.py", "tuner/test_lease.py", "test_wheel.py"),
    *("bcrit/test_supervise.py", "tuner/test_uploader.py", "browser/test_report_opens.py", "bcrit/test_bounds.py"),
    *("tuner/training/test_parallel.py", "tuner/workloads/test_examples.py", "tuner/workloads/test_function.py"),
    *("tuner/test_reused_actors.py", "tuner/training/test_supervised.py", "bcrit/test_retry.py"),
    *("tuner/test_tracking.py", "bcrit/test_measured.py", "analysis/exchange/test_exports.py"),
)
_PLACES = {Path(__file__).parent / name: place for place, name in enumerate(LONGEST)}
assert all(path.is_file() for path in _PLACES), "a file of LONGEST has moved"


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    items.sort(key=lambda item: _PLACES.get(item.path, len(_PLACES)))


@pytest.fixture(scope="module")
def one_ray() -> Iterator[None]:
    """One Ray for all that a file runs in the tests' own process: each start of one takes as long as many trials."""
    from bcrit.tuner import session
    from bcrit.tuner.cluster import OneRay

    with OneRay() as one, pytest.MonkeyPatch.context() as changed:
        changed.setattr(session, "ray_running", one)
        yield


@pytest.fixture(scope="module")
def store() -> Iterator[ObjectStore]:
    from tests.object_store import object_store  # its libraries are no part of the smallest installation

    with object_store() as found:
        yield found


@pytest.fixture(scope="module")
def google() -> Iterator[GoogleStore]:
    from tests.google_store import google_store

    with google_store() as found:
        yield found


@pytest.fixture(params=["s3", "gs"])
def any_store(request: pytest.FixtureRequest) -> ObjectStore | GoogleStore:
    """A store of each kind, one after the other."""
    found: ObjectStore | GoogleStore = request.getfixturevalue("store" if request.param == "s3" else "google")
    return found
