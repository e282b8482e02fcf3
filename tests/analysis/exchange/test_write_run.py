"""An import is a run folder when it is right, and leaves nothing when it is not."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from bcrit.analysis.exchange.run import ImportedRun, Notes, trial_row, uniform
from bcrit.analysis.exchange.write import write_run, write_runs
from bcrit.analysis.run import Run
from bcrit.analysis.run_folder import RunFolder
from bcrit.search_spaces.experiment import Experiment
from bcrit.search_spaces.problems import InputError
from bcrit.search_spaces.tables import MEASUREMENTS, TRIALS


def experiment(**more: Any) -> Experiment:
    return Experiment.model_validate(
        {
            "imported": {"format": "test", "source": "there"},
            "workload": "toy",
            "optimizer": "any",
            "batch_sizes": [4],
            "target": "m < 1",
            "space": {},
            "budget": {"steps": 10},
            **more,
        }
    )


def curve(trial_id: str, *points: tuple[int, float]) -> pa.Table:
    return pa.table(
        {
            "trial_id": [trial_id] * len(points),
            "step": pa.array([step for step, _ in points], pa.int64()),
            "examples": pa.array([4 * step for step, _ in points], pa.int64()),
            "train_seconds": [0.0] * len(points),
            "m": [value for _, value in points],
        }
    )


def run(rows: list[dict[str, Any]], *curves: pa.Table, **more: Any) -> ImportedRun:
    return ImportedRun("test", "there", experiment(), lambda: uniform(rows), curves, Notes(), **more)


def test_a_row_is_completed_from_its_curve(tmp_path: Path) -> None:
    rows = [trial_row("a", 4, number=0, lr=0.1), trial_row("b", 4, number=1, lr=1)]
    rows.append(trial_row("c", 4, number=2, outcome="diverged", lr=2.5))
    rows.append(trial_row("d", 4, number=3, steps_to_target=7, max_steps=20, lr=0.2))
    rows.append(trial_row("e", 4, number=4, outcome="pruned", lr=0.2))
    curves = [curve("a", (0, 3.0), (5, 0.5)), curve("b", (5, 1.0)), curve("c", (5, 0.5)), curve("e", (5, 0.5))]
    folder = RunFolder.at(tmp_path / "run")
    census = write_run(run(rows, *curves), folder)
    told = {row["trial_id"]: row for row in folder.read(TRIALS).to_pylist()}
    names = ("outcome", "steps", "examples", "max_steps", "steps_to_target", "steps_to_target_low", "best_value")
    assert [told["a"][n] for n in names] == ["reached", 5, 20, 5, 5, 0, 0.5]
    assert [told["b"][n] for n in names] == ["exhausted", 5, 20, 5, None, None, 1.0]
    assert [told["c"][n] for n in names] == ["diverged", 5, 20, 5, None, None, 0.5]
    assert [told["d"][n] for n in names] == ["reached", 7, 28, 20, 7, None, None]
    assert [told["e"][n] for n in names] == ["reached", 5, 20, 5, 5, 0, 0.5]
    assert (census.trials, census.measurements, census.reached_by_study) == (5, 5, {4: 3})
    assert Run(folder).studies.iloc[0]["best_trial"] == "a"


def test_an_import_is_a_session_that_names_no_device(tmp_path: Path) -> None:
    folder = RunFolder.at(tmp_path / "run")
    earlier = {"host": "there", "experiment_sha256": "of another file"}
    write_run(run([trial_row("a", 4, number=0)], sessions=[earlier]), folder)
    sessions = folder.read_environment()
    assert sessions[0] == {"host": "there"}
    assert sessions[1]["imported"] == {"format": "test", "source": "there"} and sessions[1]["devices"] == []
    assert folder.read_experiment() == experiment()


def test_an_occupied_place_is_refused_and_stays_as_it_is(tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "mine").write_text("x")
    with pytest.raises(InputError, match="lies there already"):
        write_run(run([trial_row("a", 4, number=0)]), RunFolder.at(tmp_path / "run"))
    assert [path.name for path in (tmp_path / "run").iterdir()] == ["mine"]


OTHER = curve("a", (1, 2.0)).rename_columns([*MEASUREMENTS.names, "n"])


def failing() -> Iterator[pa.Table]:
    yield curve("a", (5, 0.5))
    raise InputError("there", ["the second file is broken"])


@pytest.mark.parametrize(
    ("rows", "curves", "message"),
    [
        ([trial_row("a", 4, number=0)], failing(), "second file is broken"),
        ([], [], "no trial in it"),
        ([trial_row("a", 4, number=0), trial_row("a", 4, number=1)], [], "must differ in trial_id"),
        ([trial_row("a", 4, number=0)], [curve("z", (5, 0.5))], "no row in the trials, such as 'z'"),
        ([trial_row("a", 4, number=0)], [curve("a", (1, 2.0)), curve("a", (2, 0.5))], "stand in several tables"),
        (
            [trial_row("a", 4, number=0)],
            [curve("a", (1, 2.0)).rename_columns([*MEASUREMENTS.names, "n"])],
            "metrics are n",
        ),
        ([trial_row("a", 4, number=0, seed=None)], [], "'trials.seed' must have no empty cells"),
    ],
    ids=["reading fails", "no trial", "doubled", "stranger", "torn apart", "no metric", "empty cell"],
)
@pytest.mark.parametrize("there", [True, False], ids=["an empty folder", "no folder"])
def test_what_fails_leaves_nothing_behind(
    tmp_path: Path, rows: list[dict[str, Any]], curves: Any, message: str, there: bool
) -> None:
    if there:
        (tmp_path / "deep").mkdir()
        (tmp_path / "deep" / "run").mkdir()
    curves = failing() if isinstance(curves, Iterator) else curves
    imported = ImportedRun("test", "there", experiment(), lambda: uniform(rows), curves, Notes())
    with pytest.raises(InputError, match=message):
        write_run(imported, RunFolder.at(tmp_path / "deep" / "run"))
    left = [path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*")]
    assert left == (["deep", "deep/run"] if there else [])


def test_of_several_runs_all_are_written_or_none(tmp_path: Path) -> None:
    good = run([trial_row("a", 4, number=0)])
    places = [RunFolder.at(tmp_path / "runs" / name) for name in ("one", "two")]
    with pytest.raises(InputError, match="no trial in it"):
        write_runs(zip([good, run([])], places, strict=True))
    assert list(tmp_path.iterdir()) == []
    assert [census.trials for census in write_runs(zip([good, good], places, strict=True))] == [1, 1]


def test_notes_add_up_and_keep_the_first_example() -> None:
    notes = Notes()
    notes.add("Rows left out", 2, "a")
    notes.add("Rows left out", 3, "b")
    notes.add("Nothing of it", 0, "c")
    notes.add("Once", 1, "d")
    notes.add("Assumed")
    assert notes.sentences() == ["Rows left out (5; the first: a)", "Once (1; d)", "Assumed"]


def test_a_hyperparameter_that_is_a_number_here_and_a_word_there_is_a_word() -> None:
    rows = [trial_row("a", 4, number=0, x=1, y=1, z=True), trial_row("b", 4, number=1, x="one", y=0.5, z=False)]
    table = uniform(rows)
    assert table["x"].to_pylist() == ["1", "one"] and table["y"].to_pylist() == [1.0, 0.5]
    assert table["z"].to_pylist() == [True, False]
