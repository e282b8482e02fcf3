"""A training function of a user's through the whole chain: real Ray, real training, real kills."""

import json
import time
from pathlib import Path

import pytest

from bcrit.analysis.records.run_folder import RunFolder
from bcrit.search_spaces.load import parse_experiment, read_yaml
from bcrit.search_spaces.tables import TRIALS
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
    small = {"batch_sizes": [32, 512], "search": {"trials": 2, "start": 1}, "confirm": {"points": 1, "seeds": 1}}
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


def test_large_batches_train_in_more_ranks_on_workers_of_their_own(tmp_path: Path) -> None:
    data = {
        "workload": {"name": "tests.tuner.workloads.ranked:train", "how": "not"},
        "batch_sizes": [16, 32],
        "target": "loss < 0.3",
        "space": {"lr": 0.05},
        "budget": {"steps": 40},
        "search": {"protocol": "sobol", "trials": 1, "start": 1},
        "confirm": {"seeds": 0},
        "resources": {"devices_by_batch_size": {32: 2}},
    }
    (tmp_path / "ranks.yaml").write_text(json.dumps(data))
    done = bcrit("tune", tmp_path / "ranks.yaml", "--out", tmp_path / "run", "--workers", 2)
    assert done.returncode in (0, 1), done.stderr
    _, curves = tables(tmp_path / "run")
    trials = RunFolder.at(tmp_path / "run").read(TRIALS).to_pandas().set_index("batch_size")
    assert sorted(trials.index) == [16, 32] and set(trials["outcome"]) == {"reached"}, trials["message"]
    ranks = curves[curves["step"] == 0].set_index("trial_id")["local_world_size"]
    assert {str(name)[:8]: n for name, n in ranks.items()} == {"b0000016": -1, "b0000032": 2}
    assert trials["ended_at"][16] < trials["started_at"][32], "they take turns"
