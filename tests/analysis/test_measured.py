"""One pass answers what `analyze` asks: the default grids, and both answers at once."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest

from bcrit.analysis.budgets.within import Resource
from bcrit.analysis.measured import measured
from bcrit.analysis.questions.targets import at
from bcrit.analysis.records.run_folder import BUDGETS, TARGETS, RunFolder
from bcrit.analysis.run import Run
from bcrit.search_spaces.problems import InputError
from bcrit.search_spaces.tables import BUDGET_CELLS, TARGET_CELLS, TRIALS
from bcrit.search_spaces.target import Target
from tests.analysis.folders import Made, experiment, write_run
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
    from bcrit.analysis.finish import write_analysis

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
