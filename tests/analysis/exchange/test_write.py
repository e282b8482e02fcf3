"""An import is a run folder when it is right, and leaves nothing when it is not."""

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bcrit.analysis.exchange.run import ImportedRun, Notes, trial_row, uniform
from bcrit.analysis.exchange.steps import in_order
from bcrit.analysis.exchange.write import Order, complete, summarize, write_run, write_runs
from bcrit.analysis.records.run_folder import RunFolder
from bcrit.search_spaces.experiment import Experiment
from bcrit.search_spaces.problems import InputError
from bcrit.search_spaces.tables import MEASUREMENTS, TRIALS
from bcrit.search_spaces.target import Target
from tests.analysis.exchange.made import slow_rule, written

TARGET = Target.model_validate("m < 1")
EXPERIMENT = Experiment.model_validate(
    {
        "imported": {"format": "test", "source": "there"},
        "workload": "toy",
        "optimizer": "any",
        "batch_sizes": [4],
        "target": "m < 1",
        "space": {},
        "budget": {"steps": 10},
    }
)
Point = tuple[str, int, float | None]


def table(points: Sequence[Point], encoded: bool = False, metric: str = "m") -> pa.Table:
    """(trial, step, value) as measurements."""
    ids, steps, values = ([point[i] for point in points] for i in range(3))
    names, step = pa.array(ids, pa.string()), pa.array(steps, pa.int64())
    columns = {"trial_id": names.dictionary_encode() if encoded else names, "step": step, "examples": step}
    return pa.table({**columns, "train_seconds": pa.array([0.0] * len(ids)), metric: pa.array(values, pa.float64())})


def run(rows: list[dict[str, Any]], curves: Iterable[pa.Table] = (), **more: Any) -> ImportedRun:
    return ImportedRun("test", "there", EXPERIMENT, lambda: uniform(rows), lambda: curves, Notes(), **more)


def test_a_row_is_completed_from_its_curve(tmp_path: Path) -> None:
    rows = [trial_row("a", 4, lr=0.1), trial_row("b", 4, lr=1), trial_row("c", 4, outcome="diverged", lr=2.5)]
    rows += [trial_row("d", 4, steps_to_target=7, max_steps=20, lr=0.2), trial_row("e", 4, outcome="pruned", lr=0.2)]
    curves = [[("a", 0, 3.0), ("a", 5, 0.5)], [("b", 5, 1.0)], [("c", 5, 0.5)], [("e", 5, 0.5)]]
    census, analysis = written(run(rows, map(table, curves)), tmp_path / "run")
    told = {row["trial_id"]: row for row in RunFolder.at(tmp_path / "run").read(TRIALS).to_pylist()}
    names = ("outcome", "steps", "examples", "max_steps", "steps_to_target", "steps_to_target_low", "best_value")
    assert {trial: [row[name] for name in names] for trial, row in told.items()} == {
        "a": ["reached", 5, 20, 5, 5, 0, 0.5],
        "b": ["exhausted", 5, 20, 5, None, None, 1.0],
        "c": ["diverged", 5, 20, 5, None, None, 0.5],
        "d": ["reached", 7, 28, 20, 7, None, None],
        "e": ["reached", 5, 20, 5, 5, 0, 0.5],
    }
    assert (census.trials, census.measurements, census.reached_by_study) == (5, 5, {4: 3})
    assert analysis.studies.iloc[0]["best_trial"] == "a"


def test_an_import_is_a_session_that_names_no_device(tmp_path: Path) -> None:
    earlier = {"host": "there", "experiment_sha256": "of another file"}
    written(run([trial_row("a", 4)], sessions=[earlier]), tmp_path / "run")
    sessions = RunFolder.at(tmp_path / "run").read_environment()
    assert sessions[0] == {"host": "there"}
    assert sessions[1]["imported"] == {"format": "test", "source": "there"} and sessions[1]["devices"] == []


def failing() -> Iterator[pa.Table]:
    yield table([("a", 5, 0.5)])
    raise InputError("there", ["the second file is broken"])


A = [trial_row("a", 4)]
EMPTY_STEP = table([("a", 1, 2.0)]).set_column(1, "step", pa.array([None], pa.int64()))


@pytest.mark.parametrize(
    ("rows", "curves", "recorded", "message"),
    [
        (A, failing, False, "second file is broken"),
        ([], tuple, False, "no trial in it"),
        (A * 2, tuple, False, "must differ in trial_id"),
        (A, lambda: [table([("z", 5, 0.5)])], False, "no row in the trials, such as 'z'"),
        (A, lambda: [table([("a", 1, 2.0)]), table([("a", 2, 0.5)])], False, "stand in several tables"),
        (A, lambda: [table([("a", 1, 2.0)], metric="n")], False, "'m' is not measured; the metrics are n"),
        ([trial_row("a", 4, round=None)], tuple, False, "'trials.round' must have no empty cells"),
        (A, lambda: [EMPTY_STEP], True, "'measurements.step' must have no empty cells, but 1 are"),
        (
            A,
            lambda: [table([("a", 1, 2.0), ("b", 1, 2.0)]), table([("a", 2, 2.0), ("a", 1, 2.0)])],
            True,
            "must differ in trial_id, step, but 1 do not(.|\n)*trials is 'a'",
        ),
    ],
    ids=[
        *("reading fails", "no trial", "doubled", "stranger", "torn apart", "no metric", "empty cell"),
        *("empty step", "doubled row"),
    ],
)
@pytest.mark.parametrize("there", [True, False], ids=["an empty folder", "no folder"])
def test_what_fails_leaves_nothing_behind(
    tmp_path: Path,
    rows: list[dict[str, Any]],
    curves: Callable[[], Iterable[pa.Table]],
    recorded: bool,
    message: str,
    there: bool,
) -> None:
    if there:
        (tmp_path / "deep" / "run").mkdir(parents=True)
    imported = ImportedRun("test", "there", EXPERIMENT, lambda: uniform(rows), curves, Notes(), recorded)
    with pytest.raises(InputError, match=message):
        write_run(imported, RunFolder.at(tmp_path / "deep" / "run"))
    left = [path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*")]
    assert left == (["deep", "deep/run"] if there else [])


def test_of_several_runs_all_are_written_or_none(tmp_path: Path) -> None:
    places = [RunFolder.at(tmp_path / "runs" / name) for name in ("one", "two")]
    with pytest.raises(InputError, match="no trial in it"):
        write_runs(zip([run(A), run([])], places, strict=True))
    assert list(tmp_path.iterdir()) == []
    assert [census.trials for census in write_runs(zip([run(A), run(A)], places, strict=True))] == [1, 1]


@settings(deadline=None)
@given(st.lists(st.lists(st.tuples(st.sampled_from("abc"), st.integers(0, 6)), min_size=1, max_size=6), max_size=4))
def test_the_order_over_pieces_is_that_of_all_rows_together(parts: list[list[tuple[str, int]]]) -> None:
    order = Order()
    for part in parts:
        order.take(table([(*row, 0.0) for row in part]))
    broken, last = set(), dict[str, int]()
    for name, step in (row for part in parts for row in part):
        if step <= last.get(name, -1):
            broken.add(name)
        last[name] = step
    assert order.broken == broken and order.last == last


def test_trials_that_straddle_tables_and_interleave_stay_as_they_are(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("bcrit.analysis.exchange.write.PART_ROWS", 3)
    parts: list[list[Point]] = [[("a", 1, 2.0), ("b", 4, 2.0), ("a", 2, 2.0)], [("b", 3, 2.0), ("a", 7, 2.0)]]
    rows = [{**trial_row(name, 4), "outcome": "exhausted", "steps": 7, "examples": 28, "max_steps": 7} for name in "ab"]
    census, _ = written(run(rows, map(table, parts), recorded=True), tmp_path / "run")
    data = RunFolder.at(tmp_path / "run").read(MEASUREMENTS)
    assert list(zip(*(data[name].to_pylist() for name in ("trial_id", "step", "m")), strict=True)) == sum(parts, [])
    assert census.measurements == 5 and len(RunFolder.at(tmp_path / "run").parts(MEASUREMENTS)) == 2


VALUES = st.sampled_from([0.0, -0.0, 0.5, 1.0, math.nextafter(1.0, 0.0), 1.5, math.nan, math.inf, -math.inf, None])
ROWS = st.lists(st.tuples(st.sampled_from(["a", "b", "c"]), st.integers(0, 6), VALUES), min_size=1, max_size=40)


@pytest.mark.parametrize("sentence", ["m < 1", "m > 1"], ids=["minimize", "maximize"])
@settings(deadline=None)
@given(rows=ROWS)
def test_any_rows_give_the_crossings_of_the_slow_rule(sentence: str, rows: list[Point]) -> None:
    target = Target.model_validate(sentence)
    data, starts, replaced = in_order(table(rows))
    summary = {row["trial_id"]: row for row in summarize(data, starts, target).to_pylist()}
    assert list(summary) == list(dict.fromkeys(row["trial_id"] for row in data.to_pylist()))
    for name, told in summary.items():
        own = [(step, value) for n, step, value in rows if n == name]
        kept = slow_rule(own)
        steps = set(kept) | {step for step, value in own if value is None}
        assert [(row["step"], row["m"]) for row in data.to_pylist() if row["trial_id"] == name] == [
            (step, pytest.approx(kept.get(step), nan_ok=True)) for step in sorted(steps)
        ]
        crossing, best = target.first_crossing(kept.items()), target.best(kept.items())
        expected = (None, 0) if crossing is None else (crossing.steps, crossing.steps_low)
        assert (told["steps"], told["steps_low"]) == expected
        assert told["last_step"] == max(steps) and told["best"] == best
        values = list(kept.values())
        assert told["broken"] == (bool(values) and not math.isfinite(values[-1] or 0))
        assert told["beyond"] == (0 in kept and target.reached(kept[0] or 0))
    assert replaced <= len(rows) - data.num_rows


def test_rows_in_order_are_not_copied() -> None:
    data = table([("b", 0, 2.0), ("b", 5, 0.5), ("a", 1, 0.5)], encoded=True)
    ordered, starts, replaced = in_order(data)
    assert ordered is data and starts.tolist() == [0, 2] and replaced == 0


Several = Sequence[tuple[int, float | None, float | None]]


@pytest.mark.parametrize(
    ("rows", "expected", "n_replaced"),
    [
        # Training and validation of a step in two rows, or each metric's rows in a block of their own.
        ([(1, 9, None), (1, None, 8), (2, 7, None), (2, None, 6)], [(1, 9, 8), (2, 7, 6)], 0),
        ([(1, 9, None), (2, 7, None), (1, None, 8), (2, None, 6)], [(1, 9, 8), (2, 7, 6)], 0),
        # A run that was resumed, at a step that it had come to or at one between.
        ([(1, 9, 9), (2, 7, 1), (3, 5, 0), (2, 6, 6)], [(1, 9, 9), (2, 6, 6)], 2),
        (
            [(1, 9, 9), (3, 7, 7), (5, 6, 6), (7, 5, 0), (9, 4, 0), (6, 5, 5)],
            [(1, 9, 9), (3, 7, 7), (5, 6, 6), (6, 5, 5)],
            2,
        ),
        # Only validation was measured again: what was logged of training stands.
        ([(1, 9, 9), (2, 7, 1), (2, None, 6)], [(1, 9, 9), (2, 7, 6)], 0),
        # No record of a run at all: the latest first, or any order.
        ([(3, 5, 5), (2, 6, 6), (1, 7, 7)], [(1, 7, 7), (2, 6, 6), (3, 5, 5)], 0),
        ([(3, 5, 5), (1, 7, 7), (2, 6, 6)], [(1, 7, 7), (2, 6, 6), (3, 5, 5)], 0),
    ],
    ids=["two rows", "blocks", "again", "between", "validation again", "backwards", "shuffled"],
)
def test_one_row_a_step(rows: Several, expected: Several, n_replaced: int) -> None:
    steps, train, value = zip(*rows, strict=True)
    data = table([("a", step, v) for step, v in zip(steps, value, strict=True)], metric="value")
    data = data.append_column("train", pa.array(train, pa.float64()))
    found, _, replaced = in_order(data)
    assert list(zip(*(found[n].to_pylist() for n in ("step", "train", "value")), strict=True)) == expected
    assert replaced == n_replaced


def test_without_the_metric_nothing_is_reached() -> None:
    target = Target.model_validate("other < 1")
    (told,) = summarize(*in_order(table([("a", 1, 0.5), ("a", 3, 0.5)]))[:2], target).to_pylist()
    assert (told["steps"], told["last_step"], told["best"], told["broken"]) == (None, 3, None, False)


@pytest.mark.parametrize(
    ("values", "known", "outcome", "message"),
    [
        ([3.0, 2.0], {}, "exhausted", None),
        ([3.0, math.nan], {}, "diverged", "not finite"),
        ([math.nan, math.nan], {}, "diverged", "not finite"),
        ([3.0, math.inf], {}, "diverged", "not finite"),
        ([math.nan, 3.0], {}, "exhausted", None),
        ([3.0, None], {}, "exhausted", None),
        ([math.nan, None], {}, "diverged", "not finite"),
        ([0.5, math.nan], {}, "reached", None),
        ([3.0, math.nan], {"outcome": "pruned"}, "pruned", None),
        ([3.0, math.nan], {"steps_to_target": 2}, "reached", None),
        ([3.0, math.nan], {"outcome": "diverged", "message": "boom"}, "diverged", "boom"),
    ],
)
def test_a_last_value_that_is_not_finite_means_divergence_where_nothing_else_is_said(
    values: list[float | None], known: dict[str, Any], outcome: str, message: str | None
) -> None:
    curve = table([("a", step, value) for step, value in enumerate(values, start=1)])
    summary = summarize(*in_order(curve)[:2], TARGET)
    (found,) = complete(uniform([trial_row("a", 8, **known)]), summary).to_pylist()
    assert found["outcome"] == outcome
    assert found["message"] is None if message is None else message in found["message"]
