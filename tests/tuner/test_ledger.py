"""The ledger: what is on disk is what is known, whatever was killed when."""

import math
import shutil
import time
from dataclasses import replace
from pathlib import Path
from typing import Any
from unittest.mock import patch

import pyarrow as pa
import pytest

from bcrit.analysis.records.parted_tables import segments
from bcrit.analysis.records.run_folder import RunFolder
from bcrit.search_spaces.experiment import Experiment
from bcrit.search_spaces.load import parse_experiment
from bcrit.search_spaces.outcome import Outcome, Stage
from bcrit.search_spaces.problems import InputError
from bcrit.search_spaces.space import Point
from bcrit.search_spaces.tables import MEASUREMENTS, TRIALS, Table
from bcrit.search_spaces.target import Crossing
from bcrit.tuner import uploader
from bcrit.tuner.ledger import Curve, Ledger, trial_row
from bcrit.tuner.protocol.proposal import Proposal
from bcrit.tuner.training.trial import Ending

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
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> RunFolder:
    # A ledger that a test does not close is as if it had been killed: it delivers nothing any more.
    monkeypatch.setattr(uploader, "_DELIVER_SECONDS", 1e6)
    return RunFolder.at(tmp_path / "run")


def in_parts(folder: RunFolder, table: Table) -> pa.Table:
    """What has come to the folder, without the log."""
    with patch.object(RunFolder, "has_log", return_value=False):
        return folder.read(table)


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


def test_a_finished_trial_is_on_disk_at_once_and_any_reader_sees_it(folder: RunFolder) -> None:
    finish(Ledger.open(folder, EXPERIMENT), 0)  # and never closed: as if it were killed
    assert in_parts(folder, TRIALS).num_rows == 0
    assert folder.read(TRIALS).num_rows == 1 and folder.read(MEASUREMENTS).num_rows == 10


def test_opening_a_ledger_writes_nothing(folder: RunFolder) -> None:
    ledger = Ledger.open(folder, EXPERIMENT)
    ledger.flush()
    ledger.close()
    assert not Path(folder.root).exists()


def test_a_folder_whose_measurements_lack_the_target_s_metric_is_refused(folder: RunFolder) -> None:
    [row] = measurements(0, range(1))
    folder.append(MEASUREMENTS, [{"other" if name == "loss" else name: value for name, value in row.items()}], 0)
    with pytest.raises(InputError, match="'measurements' have no column 'loss', which the target is of; put them back"):
        Ledger.open(folder, EXPERIMENT)


def test_a_trial_that_is_run_again_doubles_no_row_and_loses_none(folder: RunFolder) -> None:
    Ledger.open(folder, EXPERIMENT).measured(measurements(0, range(5)))
    again = Ledger.open(folder, EXPERIMENT)
    assert again.n_finished == 0 and again.last_step(proposal(0).trial_id) == 4
    finish(again, 0)
    again.close()
    assert in_parts(folder, MEASUREMENTS)["step"].to_pylist() == list(range(10))


def test_closing_delivers_what_sessions_before_left_and_leaves_one_part_a_table(folder: RunFolder) -> None:
    for number in range(3):
        finish(Ledger.open(folder, EXPERIMENT), number)
    last = Ledger.open(folder, EXPERIMENT)
    assert [r.number for r in last.records[8]] == [0, 1, 2]
    last.close()  # without a row of its own
    for table, rows in ((TRIALS, 3), (MEASUREMENTS, 30)):
        assert in_parts(folder, table).num_rows == rows and len(folder.parts(table)) == 1
    assert not folder.log.exists()


def test_a_log_whose_rows_arrived_before_the_kill_doubles_nothing(folder: RunFolder) -> None:
    finish(Ledger.open(folder, EXPERIMENT), 0)
    (segment,) = segments(folder.log)
    content = segment.read_bytes()
    finish(closing := Ledger.open(folder, EXPERIMENT), 1)
    closing.close()
    folder.log.mkdir()
    segment.write_bytes(content)  # the kill came between writing the parts and removing the segment
    Ledger.open(folder, EXPERIMENT).close()
    assert sorted(in_parts(folder, TRIALS)["number"].to_pylist()) == [0, 1]
    assert in_parts(folder, MEASUREMENTS).num_rows == 20 and not folder.log.exists()


def test_a_machine_that_loses_its_log_runs_again_what_had_not_arrived(folder: RunFolder) -> None:
    lost = Ledger.open(folder, EXPERIMENT)
    finish(lost, 0)
    lost.measured(measurements(1, range(4)))
    lost.flush()
    lost.measured(measurements(1, range(4, 7)))
    finish(lost, 2)
    shutil.rmtree(folder.log)
    again = Ledger.open(folder, EXPERIMENT)
    assert again.n_finished == 1 and again.last_step(proposal(1).trial_id) == 3
    for number in (1, 2):
        finish(again, number)
    again.close()
    trials = in_parts(folder, TRIALS).sort_by("number")
    curves = in_parts(folder, MEASUREMENTS).sort_by([("trial_id", "ascending"), ("step", "ascending")])
    assert trials["number"].to_pylist() == [0, 1, 2]
    assert curves["loss"].to_pylist() == [10.0 - s for _ in range(3) for s in range(10)]


def test_what_is_recorded_arrives_in_the_background_measurements_first(
    folder: RunFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(uploader, "_DELIVER_SECONDS", 0.01)
    arrived, write = list[str](), RunFolder.write_table

    def watched(self: RunFolder, name: str, data: pa.Table, patience: float = 0) -> None:
        write(self, name, data, patience)
        arrived.append(name.partition("/")[0])

    monkeypatch.setattr(RunFolder, "write_table", watched)
    ledger = Ledger.open(folder, EXPERIMENT)
    finish(ledger, 0)
    until = time.monotonic() + 60
    while len(arrived) < 2:
        assert time.monotonic() < until
        time.sleep(0.01)
    assert arrived == ["measurements", "trials"]
    ledger.close()


def test_many_flushes_make_few_parts_which_closing_joins(folder: RunFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(uploader, "_DELIVER_SECONDS", 0.001)
    ledger = Ledger.open(folder, EXPERIMENT)
    for number in range(40):
        finish(ledger, number)
        ledger.flush()
    until = time.monotonic() + 60
    while len(folder.parts(TRIALS)) > 16:
        assert time.monotonic() < until
        time.sleep(0.01)
    ledger.close()
    assert len(folder.parts(TRIALS)) == len(folder.parts(MEASUREMENTS)) == 1
    assert Ledger.open(folder, EXPERIMENT).n_finished == 40


def test_a_full_disk_under_the_log_ends_the_run_with_one_clear_error(folder: RunFolder) -> None:
    ledger = Ledger.open(folder, EXPERIMENT)
    finish(ledger, 0)
    ledger.flush()
    folder.log.rmdir()
    folder.log.write_bytes(b"")  # nothing can be made in it
    for _ in range(2):
        with pytest.raises(uploader.DeliveryError, match=r"wal cannot be written: .*bcrit resume .*run"):
            finish(ledger, 1)
    with pytest.raises(uploader.DeliveryError, match="wal cannot be written"):
        ledger.close()
    folder.log.unlink()
    assert Ledger.open(folder, EXPERIMENT).n_finished == 1


def test_a_curve_is_read_like_a_list_of_pairs() -> None:
    curve = Curve()
    assert not curve
    curve.add(0, 2.0)
    curve.add(3, None)
    assert curve[0] == (0, 2.0) and curve[-1][0] == 3 and len(curve) == 2 and curve[:1] == [(0, 2.0)]
    assert [step for step, _ in curve] == [0, 3] and math.isnan(curve[1][1])
