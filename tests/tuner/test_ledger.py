"""The ledger: what is on disk is what is known, whatever was killed when."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from analysis.run_folder import RunFolder
from search_spaces.experiment import Experiment
from search_spaces.load import parse_experiment
from search_spaces.outcome import Outcome, Stage
from search_spaces.space import Point
from search_spaces.tables import MEASUREMENTS, TRIALS
from search_spaces.target import Crossing
from tuner import ledger as ledger_module
from tuner.ledger import Ledger, trial_row
from tuner.protocol.proposal import Proposal
from tuner.training.trial import Ending

EXPERIMENT: Experiment = parse_experiment(
    {
        "workload": "x:Y",
        "batch_sizes": [8],
        "target": "loss < 1",
        "space": {"lr": "log from 0.1 to 1", "momentum": 0.5, "width": "integer from 1 to 9", "schedule": "linear"},
        "budget": {"steps": 100},
    },
    "test",
)


def proposal(number: int) -> Proposal:
    point: Point = {
        "lr": 0.25,
        "momentum": 0.5,
        "width": 4,
        "schedule": "linear",
        "end_factor": 0.1,
        "decay_fraction": 0.333,
    }
    name = f"b0000008-search-{number:04d}"
    return Proposal(name, 8, Stage.SEARCH, number, 0, None, 123, point, budget_steps=100, max_steps=100)


def ending(steps: int) -> Ending:
    return Ending(
        Outcome.REACHED, None, steps, Crossing(steps, steps - 1), 0.9, 1.5, 0.5, float(steps), float(steps + 1)
    )


def measurements(number: int, steps: range) -> list[dict[str, Any]]:
    name = proposal(number).trial_id
    return [{"trial_id": name, "step": s, "examples": 8 * s, "train_seconds": 0.1, "loss": 10.0 - s} for s in steps]


@pytest.fixture
def folder(tmp_path: Path) -> RunFolder:
    return RunFolder.at(tmp_path / "run")


def finish(ledger: Ledger, number: int, steps: int = 9) -> None:
    ledger.measured(measurements(number, range(steps + 1)))
    ledger.finished(trial_row(proposal(number), ending(steps)))


def test_a_finished_trial_is_read_back_as_it_was(folder: RunFolder) -> None:
    ledger = Ledger.open(folder, EXPERIMENT)
    finish(ledger, 0)
    (before,), (after,) = ledger.records[8], Ledger.open(folder, EXPERIMENT).records[8]
    assert before == after and list(before.curve) == list(after.curve)
    assert after.point == proposal(0).point and isinstance(after.point["width"], int)
    assert folder.read(TRIALS)["decay_steps"].to_pylist() == [33]


def test_the_trial_row_has_every_column_of_the_schema_and_the_hyperparameters() -> None:
    row = trial_row(proposal(0), ending(9))
    assert list(row) == [*TRIALS.names, *proposal(0).hyperparameters]


def test_how_a_batch_was_computed_is_recorded(folder: RunFolder) -> None:
    ledger = Ledger.open(folder, EXPERIMENT)
    divided = replace(ending(9), gradients_per_example=2, micro_batch=4)
    for number, end in enumerate((ending(9), divided)):
        ledger.finished(trial_row(proposal(number), end))
    trials = Ledger.open(folder, EXPERIMENT).folder.read(TRIALS)
    assert trials["gradients_per_example"].to_pylist() == [None, 2] and trials["micro_batch"].to_pylist() == [None, 4]


def test_a_finished_trial_is_on_disk_at_once(folder: RunFolder) -> None:
    finish(Ledger.open(folder, EXPERIMENT), 0)  # and never closed: as if it were killed
    assert folder.read(TRIALS).num_rows == 1 and folder.read(MEASUREMENTS).num_rows == 10


def test_a_trial_that_is_run_again_doubles_no_row_and_loses_none(folder: RunFolder) -> None:
    first = Ledger.open(folder, EXPERIMENT)
    first.measured(measurements(0, range(5)))
    first.flush()
    again = Ledger.open(folder, EXPERIMENT)
    assert again.n_finished == 0
    finish(again, 0)
    assert folder.read(MEASUREMENTS)["step"].to_pylist() == list(range(10))


def test_running_trials_reach_the_disk_now_and_then(folder: RunFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    ledger = Ledger.open(folder, EXPERIMENT)
    ledger.measured(measurements(0, range(3)))
    assert folder.read(MEASUREMENTS).num_rows == 0
    monkeypatch.setattr("tuner.ledger.time.monotonic", lambda: 1e12)
    ledger.measured(measurements(0, range(3, 4)))
    assert folder.read(MEASUREMENTS).num_rows == 4


def test_many_parts_are_joined_on_the_way(folder: RunFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ledger_module, "_MANY_PARTS", 10)
    ledger = Ledger.open(folder, EXPERIMENT)
    for number in range(30):
        finish(ledger, number)
    assert len(folder.parts(TRIALS)) <= 10 and folder.read(TRIALS).num_rows == 30
    ledger.close()
    assert len(folder.parts(TRIALS)) == len(folder.parts(MEASUREMENTS)) == 1
    assert Ledger.open(folder, EXPERIMENT).n_finished == 30


def test_numbers_of_parts_are_never_used_twice(folder: RunFolder) -> None:
    for number in range(3):
        finish(Ledger.open(folder, EXPERIMENT), number)
    assert [r.number for r in Ledger.open(folder, EXPERIMENT).records[8]] == [0, 1, 2]
