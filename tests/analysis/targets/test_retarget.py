"""Another target as if it had been the run's own."""

from __future__ import annotations

from pathlib import Path

import pytest

from bcrit.analysis.run import Run
from bcrit.search_spaces.problems import InputError
from bcrit.search_spaces.tables import MEASUREMENTS
from bcrit.search_spaces.target import Target
from tests.analysis.folders import Made, experiment, measurement, write_run

RUNS = {
    "stops": Made(8, [(10, 3.0), (20, 1.5), (30, 0.9)]),
    "pruned": Made(8, [(10, 1.9), (15, 1.95)], "pruned"),
    "diverged": Made(8, [(12, 1.2), (14, 99.0)], "diverged"),
    "slow": Made(8, [(10, 3.5), (90, 2.2)]),
    "other": Made(16, [(10, 3.0), (16, 0.9)]),
}


def test_columns_of_the_target_are_rewritten(tmp_path: Path) -> None:
    folder = write_run(tmp_path / "run", experiment([8, 16]), RUNS)
    found = Run(folder, Target.model_validate("loss < 2"))
    trials = found.trials.set_index("trial_id")
    assert trials["steps_to_target"].dropna().to_dict() == {"stops": 20, "pruned": 10, "diverged": 12, "other": 16}
    assert trials["steps_to_target_low"].dropna().to_dict() == {"stops": 10, "pruned": 0, "diverged": 0, "other": 10}
    assert trials["outcome"].to_dict() == dict.fromkeys(RUNS, "reached") | {"slow": "exhausted"}
    assert found.experiment.target.threshold == 2
    assert found.studies["steps"].tolist() == [10, 16]
    assert found.notes[0] == "The run was made for loss < 1; this is what its curves say about loss < 2."


def test_of_a_stricter_target_the_notes_say_what_is_missing(tmp_path: Path) -> None:
    found = Run(write_run(tmp_path / "run", experiment([8, 16]), RUNS), Target.model_validate("loss < 0.5"))
    assert found.fit is None
    assert found.trials.set_index("trial_id").loc["stops", "outcome"] == "exhausted"
    assert "No trial at batch size 8, 16 went on until loss < 0.5." in found.notes


def test_the_own_target_again_is_the_plain_analysis(tmp_path: Path) -> None:
    folder = write_run(tmp_path / "run", experiment([8, 16]), RUNS)
    plain, again = Run(folder), Run(folder, Target.model_validate("loss < 1"))
    assert plain.to_json()["studies"] == again.to_json()["studies"] and again.notes == ()


def test_another_metric_is_another_target(tmp_path: Path) -> None:
    spec = experiment([8])
    folder = write_run(tmp_path / "run", spec, {"a": RUNS["stops"]})
    rows = [{**measurement("b", RUNS["stops"], s, 2.0, spec), "accuracy": s / 100} for s in (10, 20, 30)]
    folder.append(MEASUREMENTS, rows, 7)
    with pytest.raises(
        InputError, match="no finished trial has measurements of 'speed'; the run's metrics are loss, accuracy"
    ):
        _ = Run(folder, Target.model_validate("speed > 1")).trials
    with pytest.raises(InputError, match="no finished trial has measurements of 'accuracy'"):
        _ = Run(folder, Target.model_validate("accuracy > 0.15")).trials  # measured, but in no finished trial


def test_whatever_becomes_of_an_imported_trial_that_diverged_is_infeasible(tmp_path: Path) -> None:
    spec = experiment([8, 16], imported={"format": "x", "source": "y"})
    found = Run(write_run(tmp_path / "run", spec, RUNS), Target.model_validate("loss < 2"))
    assert found.trials.set_index("trial_id").loc["diverged", "outcome"] == "diverged"
