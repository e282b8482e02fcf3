"""A run: one pass answers what `analyze` asks, nothing is computed twice, and what is not asked not at all."""

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bcrit.analysis.optimum.near_optimal import near_optimal_sets
from bcrit.analysis.questions.targets import at
from bcrit.analysis.records.run_folder import BUDGETS, RECOMMENDATION, REPORT, TARGETS, RunFolder
from bcrit.analysis.report.build import caveats, finish, write_analysis
from bcrit.analysis.run import Run
from bcrit.analysis.targets import measured
from bcrit.analysis.targets.budgets import Resource
from bcrit.search_spaces.problems import InputError
from bcrit.search_spaces.tables import BUDGET_CELLS, MEASUREMENTS, TARGET_CELLS, TRIALS
from bcrit.search_spaces.target import Target
from tests.analysis.folders import Made, experiment, write_run
from tests.analysis.report import runs
from tests.analysis.report.runs import PLANE, usual, written
from tests.analysis.targets.test_grid import SIZES, stopping


@pytest.fixture
def folder(tmp_path: Path) -> RunFolder:
    spec = experiment(SIZES)
    return write_run(tmp_path / "run", spec, stopping(spec), parts=2)


def test_the_own_target_ends_the_default_grid_and_agrees_with_the_trials_table(folder: RunFolder) -> None:
    trials = folder.read(TRIALS).to_pandas()
    own = folder.read_experiment().target
    crossings, best = measured(folder, trials, own)
    assert crossings.targets[-1] == own and len(crossings.targets) > 3
    np.testing.assert_array_equal(crossings.steps[:, -1], trials["steps_to_target"].to_numpy(dtype=float))
    np.testing.assert_array_equal(crossings.steps_low[:, -1], trials["steps_to_target_low"].to_numpy(dtype=float))
    np.testing.assert_array_equal(crossings.best, trials["best_value"])
    assert set(best.budgets) == set(Resource)


def test_a_search_that_goes_on_beyond_the_target_speaks_beyond_it_and_its_re_runs_that_stop_do_not(
    tmp_path: Path,
) -> None:
    falling = [(step, 20 / step) for step in range(1, 101)]  # below 1 at step 21
    runs = {f"b{b}-{n}": Made(b, falling) for b in SIZES for n in range(3)}
    runs |= {f"b{b}-again-{n}": Made(b, falling[:21], repeats=f"b{b}-0") for b in SIZES for n in range(5)}
    folder = write_run(tmp_path / "run", experiment(SIZES), runs)
    trials = folder.read(TRIALS).to_pandas()
    crossings, best = measured(folder, trials, folder.read_experiment().target)
    assert best.budgets[Resource.STEPS][-1] == 100
    strictest = crossings.targets[-1]
    assert strictest.threshold < 0.25
    cells = at(Run(folder), [str(strictest)]).cells
    assert set(cells["source"]) == {"search"} and set(cells["status"]) == {"valid"}


def test_a_target_that_must_be_there_is_there(folder: RunFolder) -> None:
    trials = folder.read(TRIALS).to_pandas()
    never = Target.model_validate("loss < 0.000001")
    assert never not in measured(folder, trials, never)[0].targets
    assert never in measured(folder, trials, never, always=True)[0].targets


def test_the_measurements_are_read_once_beside_the_few_curves(
    folder: RunFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    scans: list[object] = []
    scan = RunFolder.scan

    def counted(self: RunFolder, table: object, columns: object, trial_ids: object = None) -> object:
        scans.append(trial_ids)
        return scan(self, table, columns, trial_ids)  # type: ignore[arg-type]

    monkeypatch.setattr(RunFolder, "scan", counted)
    assert Run(folder).to_json()["budgets"] is not None
    assert [ids for ids in scans if ids is None] == [None]
    assert all(len(ids) <= len(SIZES) for ids in scans if isinstance(ids, set))


def test_what_is_written_has_the_columns_that_are_declared(folder: RunFolder) -> None:
    found = Run(folder)
    assert found.targets is not None and found.budgets is not None
    assert list(found.targets.cells.columns) == TARGET_CELLS.names
    assert list(found.budgets.cells.columns) == BUDGET_CELLS.names
    write_analysis(found)
    assert folder.has(TARGETS) and folder.has(BUDGETS)
    keys = found.targets.cells[list(TARGET_CELLS.key)]
    assert not keys.duplicated().any()
    assert not found.budgets.cells[list(BUDGET_CELLS.key)].duplicated().any()


@pytest.mark.parametrize(
    ("target", "message"),
    [
        ("loss < 0.5", "measurements of 'loss' that are numbers: every value after step 0 is empty, NaN or infinite"),
        ("accuracy > 0.5", "measurements of 'accuracy'; the run's metrics are loss"),
    ],
)
def test_a_metric_without_numbers_is_refused_with_the_reason(tmp_path: Path, target: str, message: str) -> None:
    runs = {f"b{b}": Made(b, [(1, math.nan), (2, math.inf)], "diverged") for b in (8, 16)}
    folder = write_run(tmp_path / "run", experiment([8, 16]), runs)
    with pytest.raises(InputError, match=message):
        _ = Run(folder, Target.model_validate(target)).trials
    with pytest.raises(InputError, match=message):
        at(Run(folder), [target])


def counting(calls: list[str], name: str, function: Callable[..., Any]) -> Callable[..., Any]:
    def counted(*given: Any, **named: Any) -> Any:
        calls.append(name)
        return function(*given, **named)

    return counted


def test_the_near_optimal_sets_and_the_curves_are_read_once_for_all_that_needs_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[str] = []
    monkeypatch.setattr("bcrit.analysis.run.near_optimal_sets", counting(calls, "sets", near_optimal_sets))
    monkeypatch.setattr("bcrit.analysis.run.measured", counting(calls, "curves", measured))
    folder = RunFolder.at(written(tmp_path / "run", reached=True))
    metric = folder.read_experiment().target.metric
    ends = [
        {name: row[name] for name in ("trial_id", "examples")}
        | {"step": row["steps"], "train_seconds": 0.0, metric: row["best_value"]}
        for row in folder.read(TRIALS).to_pylist()
    ]
    folder.append(MEASUREMENTS, ends, 0)
    found = finish(folder)
    assert found.recommendation is not None and folder.has(RECOMMENDATION) and folder.has(REPORT)
    assert sorted(calls) == ["curves", "sets"]


def test_a_recommendation_reads_no_curves(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[str] = []
    monkeypatch.setattr("bcrit.analysis.run.measured", counting(calls, "curves", measured))
    assert Run(RunFolder.at(written(tmp_path / "run", reached=True))).recommendation is not None
    assert calls == []


def test_a_box_that_binds_is_beside_the_number_wherever_it_is_given() -> None:
    """Optima at the upper end of lr from batch size 32 on: `box_that_binds` in small."""
    search = {"protocol": "tpe", "trials": 5}
    spec = runs.experiment({"lr": "log from 0.01 to 10"}, search=search, boundary={"max_rounds": 0})
    ends = {b: 9.9 if b >= 32 else 0.5 for b in spec.batch_sizes}
    rows = [{**row, "lr": ends[row["batch_size"]]} for b in spec.batch_sizes for row in runs.study(spec, b)]
    run = runs.analysis_of(spec, rows)
    assert run.at_edge == dict.fromkeys((32.0, 64.0, 128.0, 256.0), "lr high")
    assert run.fit is not None and not run.fit.identified["b_crit"]
    note = "b_crit is not identified, since the search boxes decide it"
    assert note in run.fit.notes[0]
    assert any(note in line for line in map(str, run.ask("steps").terminal))
    assert any(note in caveat for caveat in runs.recommended(run).caveats)
    assert any(note in caveat for caveat in caveats(run))
    assert note in run.to_json()["fit"]["notes"][0]


@pytest.mark.parametrize("searched", [False, True])
def test_a_schedule_that_was_not_searched_is_no_hyperparameter(searched: bool) -> None:
    """A training function may have one of its own: `schedule = constant` would contradict it."""
    run = usual({**PLANE, "schedule": "choice of constant, linear"} if searched else PLANE)
    assert "schedule" in run.trials and all(("schedule" in point) == searched for point in run.hyperparameters.values())
    assert ("schedule" in run.recommend().paragraph) == searched
