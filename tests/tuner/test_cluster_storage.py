"""A cluster whose run folder lies on an object store: outages, a second driver, a driver's machine that is lost."""

from __future__ import annotations

import getpass
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pandas as pd
import pytest

from bcrit.analysis.records.run_folder import RunFolder
from bcrit.search_spaces.tables import TRIALS
from bcrit.tuner import lease
from tests.machines import machines, need_machines
from tests.object_store import ObjectStore, object_store
from tests.processes import below, kill, of_kind
from tests.tuner.test_cluster import ROOT, Place, ended, tables, until


@pytest.fixture(autouse=True, scope="module")
def _namespaces() -> None:
    need_machines()


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Place:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))  # this process looks on as if on the driver's machine
    return Place(tmp_path)


@pytest.fixture(scope="module")
def store() -> Iterator[ObjectStore]:
    with object_store() as found:
        yield found


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> tuple[pd.DataFrame, pd.DataFrame]:
    alone = Place(tmp_path_factory.mktemp("alone"))
    alone.write(pause=0.0)
    ended(alone.tune(None))
    return tables(alone.run)


def n_finished(run: RunFolder) -> int:
    return run.read(TRIALS).num_rows if run.has("experiment.yaml") else 0


def assert_same(run: RunFolder, undisturbed: tuple[pd.DataFrame, pd.DataFrame]) -> None:
    for ours, expected in zip(tables(str(run)), undisturbed, strict=True):
        pd.testing.assert_frame_equal(ours, expected)


@pytest.mark.parametrize(
    ("kind", "seconds"),
    [
        ("silent", 8),
        pytest.param("silent", 60, marks=pytest.mark.long),
        pytest.param("refuses", 60, marks=pytest.mark.long),
    ],
)
def test_a_store_that_is_away_for_a_while_is_not_noticed(
    kind: str, seconds: int, place: Place, store: ObjectStore, undisturbed: tuple[pd.DataFrame, pd.DataFrame]
) -> None:
    place.write(pause=0.6)
    run = store.folder(f"outage-{kind}-{seconds}")
    with machines(hidden=[place.root], a=2, b=2) as cluster:
        driver = place.start(cluster, "tune", "mine.yaml", "--out", run, "--json")
        until(lambda: n_finished(run) >= 3)
        with store.outage(kind):
            time.sleep(seconds)
        ended(driver)
    assert_same(run, undisturbed)
    assert not run.has_log()


@pytest.mark.long
def test_a_second_driver_is_refused_and_when_the_first_ones_machine_is_lost_another_goes_on(
    place: Place, store: ObjectStore, undisturbed: tuple[pd.DataFrame, pd.DataFrame], tmp_path: Path
) -> None:
    place.write(pause=0.6)
    run = store.folder("two-drivers")
    cache, elsewhere = tmp_path / "cache", tmp_path / "elsewhere"
    elsewhere.mkdir()
    resume = [sys.executable, "-m", "bcrit", "resume", str(run), "--json"]
    other_machine = ["unshare", "--mount", "sh", "-c", 'mount -t tmpfs none "$0" && exec "$@"', str(cache)]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "RAY_AUTH_MODE": "disabled"}
    with machines(hidden=[place.root], a=2, b=2) as cluster:
        first = place.start(cluster, "tune", "mine.yaml", "--out", run, "--json")
        until(lambda: n_finished(run) >= 3)
        workers = [worker for node in cluster.nodes.values() for worker in of_kind("worker", node.pid)]
        for worker in workers:
            kill(worker, signal.SIGSTOP)  # so that the run does not end meanwhile
        second = subprocess.run(
            [*other_machine, *resume, "--address", cluster.address],
            cwd=elsewhere,
            env=environment,
            text=True,
            capture_output=True,
            check=False,
        )
        for worker in workers:
            kill(worker, signal.SIGCONT)
        assert second.returncode == 2 and second.stdout == "", second.stderr
        assert f"running this experiment: {getpass.getuser()} on {socket.gethostname()}" in second.stderr
        assert first.poll() is None
        for process in below(first.pid):
            kill(process, signal.SIGKILL)
        first.communicate()
        shutil.rmtree(cache)
        cache.mkdir()
        shutil.rmtree(place.user)
        begun = time.monotonic()
        ended(place.start(cluster, "resume", run, "--json", cwd=elsewhere))
        assert time.monotonic() - begun > lease._STALE / 2
    assert_same(run, undisturbed)
    assert len(run.read_environment()) == 2
