"""An import is a run folder when it is right, and leaves nothing when it is not."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bcrit.analysis.exchange.run import ImportedRun, Notes, trial_row, uniform
from bcrit.analysis.exchange.write import Order, complete, in_order, summarize, write_recorded, write_run, write_runs
from bcrit.analysis.records.arrow_tables import to_arrow
from bcrit.analysis.records.run_folder import RunFolder
from bcrit.analysis.run import Run
from bcrit.search_spaces.experiment import Experiment
from bcrit.search_spaces.problems import InputError
from bcrit.search_spaces.tables import MEASUREMENTS, TRIALS
from bcrit.search_spaces.target import Target

TARGET = Target.model_validate("m < 1")


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


Rows = list[tuple[str, int]]


def recorded_table(rows: Rows) -> pa.Table:
    names, steps = [name for name, _ in rows], [step for _, step in rows]
    zeros = pa.array([0.0] * len(rows), pa.float64())
    columns: dict[str, Any] = {"trial_id": pa.array(names, pa.string()), "step": pa.array(steps, pa.int64())}
    return pa.table({**columns, "examples": columns["step"], "train_seconds": zeros, "loss": zeros})


def recorded(*parts: Rows) -> ImportedRun:
    return replace(run([]), measurements=[recorded_table(part) for part in parts], recorded=True)


@given(st.lists(st.lists(st.tuples(st.sampled_from("abc"), st.integers(0, 6)), min_size=1, max_size=6), max_size=4))
def test_the_order_over_pieces_is_that_of_all_rows_together(parts: list[Rows]) -> None:
    order = Order()
    for part in parts:
        order.take(recorded_table(part))
    broken, last = set(), dict[str, int]()
    for name, step in (row for part in parts for row in part):
        if step <= last.get(name, -1):
            broken.add(name)
        last[name] = step
    assert order.broken == broken and order.last == last


def test_trials_that_straddle_tables_and_interleave_stay_as_they_are(tmp_path: Path) -> None:
    parts: list[Rows] = [[("a", 1), ("b", 4), ("a", 2)], [("b", 3), ("a", 7)]]
    folder = RunFolder.at(tmp_path / "run")
    assert write_recorded(recorded(*parts), folder) == ({"a", "b"}, {"loss"}, 5)
    data = folder.read(MEASUREMENTS)
    assert list(zip(data["trial_id"].to_pylist(), data["step"].to_pylist(), strict=True)) == [*parts[0], *parts[1]]


def test_two_rows_of_one_step_are_refused_and_nothing_stays(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="must differ in trial_id, step, but 1 do not(.|\\n)*trials is 'a'"):
        write_run(recorded([("a", 1), ("b", 1)], [("a", 2), ("a", 1)]), RunFolder.at(tmp_path / "run"))
    assert not (tmp_path / "run").exists()


def test_empty_cells_where_none_may_be_are_refused(tmp_path: Path) -> None:
    broken = recorded_table([("a", 1)]).set_column(1, "step", pa.array([None], pa.int64()))
    with pytest.raises(InputError, match="'measurements.step' must have no empty cells, but 1 are"):
        write_run(replace(recorded(), measurements=[broken]), RunFolder.at(tmp_path / "run"))


VALUES = st.sampled_from([0.0, -0.0, 0.5, 1.0, math.nextafter(1.0, 0.0), 1.5, math.nan, math.inf, -math.inf, None])
Row = tuple[str, int, float | None]
ROWS = st.lists(st.tuples(st.sampled_from(["a", "b", "c"]), st.integers(0, 6), VALUES), min_size=1, max_size=40)


def table(rows: Sequence[Row], encoded: bool = False) -> pa.Table:
    ids, steps, values = (list(column) for column in zip(*rows, strict=True))
    names = pa.array(ids)
    return pa.table(
        {
            "trial_id": names.dictionary_encode() if encoded else names,
            "step": pa.array(steps, pa.int64()),
            "m": pa.array(values, pa.float64()),
        }
    )


@pytest.mark.parametrize("sentence", ["m < 1", "m > 1"], ids=["minimize", "maximize"])
@given(rows=ROWS)
def test_any_rows_give_the_crossings_of_the_slow_rule(sentence: str, rows: list[Row]) -> None:
    target = Target.model_validate(sentence)
    data, starts = in_order(table(rows), target)
    summary = summarize(data, starts, target).to_pylist()
    names = list(dict.fromkeys(name for name, _, _ in rows))
    assert [row["trial_id"] for row in summary] == names
    assert data.num_rows == len({(name, step) for name, step, _ in rows})
    for name, told in zip(names, summary, strict=True):
        own = sorted(((step, value) for n, step, value in rows if n == name), key=lambda row: row[0])
        sign = 1 if sentence == "m < 1" else -1
        kept: dict[int, float | None] = {}
        for step, value in own:
            kept[step] = min(
                [kept.get(step), value], key=lambda v: (v is None, v is None or math.isnan(v), sign * (v or 0))
            )
        crossing, best = target.first_crossing(kept.items()), target.best(kept.items())
        expected = (None, 0) if crossing is None else (crossing.steps, crossing.steps_low)
        assert (told["steps"], told["steps_low"]) == expected
        assert told["last_step"] == own[-1][0] and told["best"] == best
        values = [value for value in kept.values() if value is not None]
        assert told["broken"] == (bool(values) and not math.isfinite(values[-1]))


def test_rows_in_order_are_not_copied() -> None:
    data = table([("b", 0, 2.0), ("b", 5, 0.5), ("a", 1, 0.5)], encoded=True)
    ordered, starts = in_order(data, TARGET)
    assert ordered is data and starts.tolist() == [0, 2]


def test_of_a_repeated_step_the_row_with_the_best_value_stays() -> None:
    data = table([("a", 1, math.nan), ("a", 1, 3.0), ("a", 1, 2.0), ("a", 0, 9.0)])
    assert in_order(data, TARGET)[0]["m"].to_pylist() == [9.0, 2.0]
    assert in_order(data, Target.model_validate("m > 1"))[0]["m"].to_pylist() == [9.0, 3.0]


def test_without_the_metric_nothing_is_reached() -> None:
    target = Target.model_validate("other < 1")
    (told,) = summarize(*in_order(table([("a", 1, 0.5), ("a", 3, 0.5)]), target), target).to_pylist()
    assert (told["steps"], told["last_step"], told["best"], told["broken"]) == (None, 3, None, False)


def test_trials_beyond_the_target_at_the_start_are_told() -> None:
    rows = [("a", 0, 0.5), ("a", 1, 2.0), ("b", 0, 2.0), ("b", 1, 0.5)]
    assert summarize(*in_order(table(rows), TARGET), TARGET)["beyond"].to_pylist() == [True, False]


def ended(values: list[float | None], **known: object) -> dict[str, object]:
    rows = {"trial_id": ["a"] * len(values), "step": range(1, len(values) + 1), "m": pa.array(values, pa.float64())}
    summary = summarize(*in_order(pa.table(rows), TARGET), TARGET)
    return dict(complete(to_arrow(TRIALS, [trial_row("a", 8, number=0, **known)]), summary).to_pylist()[0])


@pytest.mark.parametrize(
    ("values", "outcome"),
    [
        ([3.0, 2.0], "exhausted"),
        ([3.0, math.nan], "diverged"),
        ([math.nan, math.nan], "diverged"),
        ([3.0, math.inf], "diverged"),
        ([math.nan, 3.0], "exhausted"),
        ([3.0, None], "exhausted"),
        ([math.nan, None], "diverged"),
        ([0.5, math.nan], "reached"),
    ],
)
def test_a_last_value_that_is_not_finite_means_divergence_where_nothing_was_reached(
    values: list[float | None], outcome: str
) -> None:
    found = ended(values)
    assert found["outcome"] == outcome
    assert ("not finite" in str(found["message"])) == (outcome == "diverged")


def test_what_the_source_says_of_the_ending_stands() -> None:
    assert ended([3.0, math.nan], outcome="pruned")["outcome"] == "pruned"
    assert ended([3.0, math.nan], steps_to_target=2)["outcome"] == "reached"
    assert ended([3.0, math.nan], outcome="diverged", message="boom")["message"] == "boom"
