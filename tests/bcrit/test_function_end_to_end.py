"""A training function of a user's through the whole chain: real Ray, real training, real kills."""

from __future__ import annotations

import json
import time
from pathlib import Path

import pytest

from bcrit.analysis.records.run_folder import RunFolder
from bcrit.search_spaces.load import parse_experiment, read_yaml
from tests.alike import assert_alike, tables
from tests.bcrit.command import ROOT, bcrit, process
from tests.bcrit.test_end_to_end import start, until
from tests.processes import below
from tests.tuner.stages.small import filled

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
def whole(experiment: Path) -> RunFolder:
    """Its trials one after the other in one process, without Ray."""
    small = parse_experiment(read_yaml(experiment.read_text(), "small"), "small")
    return filled(experiment.parent / "whole", small)


def test_every_command_answers_on_a_function_s_run(whole: RunFolder) -> None:
    assert "val_error" in bcrit("analyze", whole).stdout
    assert bcrit("recommend", whole, "--json", "--max-steps", 10**6).stdout.startswith("{")
    trials, curves = tables(whole)
    assert set(trials["stage"]) == {"search", "confirm"}
    assert {"pruned", "capped", "reached"} & set(trials["outcome"]) >= {"reached"}
    assert set(trials["outcome"]) <= {"pruned", "capped", "reached", "exhausted", "diverged"}, trials["message"]
    assert (curves.groupby("trial_id")["step"].min() == 0).all()


@pytest.mark.long
def test_a_killed_run_leaves_no_process_and_ends_with_one_worker_where_an_uninterrupted_one_does(
    whole: RunFolder, experiment: Path
) -> None:
    folder = experiment.parent / "killed"
    driver = start("tune", experiment, "--out", folder, "--workers", 2)
    until(folder, 4, driver)
    left, deadline = below(driver.pid), time.monotonic() + 60
    driver.kill()  # the driver alone: everything else must notice
    driver.wait()
    while left and time.monotonic() < deadline:
        time.sleep(0.05)
        left = [each for each in left if each.lives]
    assert not left
    assert process("resume", folder, "--workers", 1).returncode in (0, 1)
    assert_alike(tables(whole), folder)
