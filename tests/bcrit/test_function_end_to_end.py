"""A training function of a user's through the whole chain: real Ray, real training, real kills."""

from __future__ import annotations

import json
import subprocess
import time
from pathlib import Path

import pytest

from bcrit.search_spaces.load import read_yaml
from tests.bcrit.command import ROOT, bcrit, process
from tests.bcrit.test_end_to_end import descendants, ends_as, start, tables, until

EXAMPLE = (ROOT / "examples/my_function.yaml").read_text()


@pytest.fixture(scope="module")
def experiment(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The example, with less to search."""
    path = tmp_path_factory.mktemp("function") / "small.yaml"
    data = read_yaml(EXAMPLE, "my_function.yaml")
    small = {"batch_sizes": [32, 512], "search": {"trials": 5, "start": 3}, "confirm": {"points": 1, "seeds": 2}}
    path.write_text(json.dumps({**data, **small}))
    return path


@pytest.fixture(scope="module")
def whole(experiment: Path) -> Path:
    folder = experiment.parent / "whole"
    done = process("tune", experiment, "--out", folder, "--json", "--workers", 2)
    assert done.returncode in (0, 1), done.stderr  # so small a search may leave the curve undetermined
    assert all(study["steps"] is not None for study in json.loads(done.stdout)["studies"]), done.stdout
    return folder


def test_every_command_answers_on_a_function_s_run(whole: Path) -> None:
    assert "val_error" in bcrit("analyze", whole).stdout
    assert bcrit("recommend", whole, "--json", "--max-steps", 10**6).stdout.startswith("{")
    trials, curves = tables(whole)
    assert set(trials["stage"]) == {"search", "confirm"}
    assert {"pruned", "capped", "reached"} & set(trials["outcome"]) >= {"reached"}
    assert set(trials["outcome"]) <= {"pruned", "capped", "reached", "exhausted", "diverged"}, trials["message"]
    assert (curves.groupby("trial_id")["step"].min() == 0).all()


def test_a_killed_run_leaves_no_process_and_ends_with_one_worker_where_an_uninterrupted_one_does(
    whole: Path, experiment: Path
) -> None:
    folder = experiment.parent / "killed"
    driver = start("tune", experiment, "--out", folder, "--workers", 2)
    until(folder, 4, driver)
    below = descendants(driver.pid)
    driver.kill()  # the driver alone: everything else must notice
    driver.wait()
    left, deadline = below, time.monotonic() + 60
    while left and time.monotonic() < deadline:
        listing = subprocess.run(["ps", "-eo", "pid=,stat="], capture_output=True, text=True, check=True).stdout
        left = below & {int(line.split()[0]) for line in listing.splitlines() if "Z" not in line.split()[1]}
        time.sleep(0.05)
    assert not left
    assert process("resume", folder, "--workers", 1).returncode in (0, 1)
    ends_as(whole, folder)
