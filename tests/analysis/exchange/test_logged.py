"""Logged runs: names, counter, curves, endings, repeats, spaces."""

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bcrit.analysis.exchange import Reading
from bcrit.analysis.exchange.logged import (
    Counters,
    LoggedRun,
    Names,
    curve,
    ending,
    find_names,
    flat,
    import_logged,
    measurements_of,
    stages,
)
from bcrit.analysis.exchange.run import ImportedRun, Notes
from bcrit.search_spaces.outcome import Outcome
from bcrit.search_spaces.problems import InputError
from bcrit.search_spaces.target import Target
from tests.analysis.exchange.made import READING, SIZES, b_crit, evaluations, slow_rule, written

COUNTERS = Counters()
NAMES = Names("batch_size", None, "step")


def found(settings: list[str], logged: list[str], how: Reading = READING, counters: Counters = COUNTERS) -> Names:
    log = pd.DataFrame(dict.fromkeys([*logged, "val_loss"], [1.0]))
    return find_names([LoggedRun("r", dict.fromkeys(settings, 1), log)], how, counters, "there")


def imported(runs: list[LoggedRun], how: Reading = READING) -> ImportedRun:
    return import_logged(runs, how, COUNTERS, "test", "there", Notes())


@pytest.mark.parametrize(
    ("settings", "asked", "expected"),
    [
        (["batch_size", "lr"], None, "batch_size"),
        (["bs", "eval/batch_size"], None, "eval/batch_size"),
        (["train.batch_size"], None, "train.batch_size"),
        (["batch_size", "eval/batch_size"], None, "batch_size"),
        (["global_batch_size", "x"], None, "global_batch_size"),
        (["opt/BS"], None, "opt/BS"),
        (["train/batch_size", "eval/batch_size"], "train/batch_size", "train/batch_size"),
        (["train/size", "eval/batch_size"], "SIZE", "train/size"),
    ],
)
def test_the_batch_size_is_known_by_its_last_word(settings: list[str], asked: str | None, expected: str) -> None:
    assert found(settings, ["step"], replace(READING, batch_size_param=asked)).batch_size == expected


def test_attributes_may_be_the_batch_size_and_the_seed() -> None:
    run = LoggedRun("r", {"lr": 1}, pd.DataFrame({"step": [1.0], "val_loss": [1.0]}), attributes={"bs": 8, "seed": 1})
    assert find_names([run], READING, COUNTERS, "there") == Names("bs", "seed", "step")


def test_the_counter_is_the_first_that_is_there() -> None:
    counters = Counters(updates=("a", "b"), iterations=("epoch",))
    epochs = replace(READING, examples_per_iteration=5.0)
    for logged, how, expected in (
        (["b", "a"], READING, "a"),
        (["b", "epoch"], epochs, "b"),
        (["epoch"], epochs, "epoch"),
    ):
        assert found(["bs"], logged, how, counters).counter == expected
    assert found(["bs"], ["a", "x"], READING, replace(counters, asked="x")).counter == "x"


@pytest.mark.parametrize(
    ("settings", "logged", "how", "counters", "message"),
    [
        (
            ["train/batch_size", "eval/batch_size"],
            ["step"],
            {},
            {},
            "no setting, or more than one, .*--batch-size-param",
        ),
        (["bs"], ["step"], {"batch_size_param": "B"}, {}, "no setting is named 'B'; name it .*; the settings are bs"),
        (["bs"], ["step"], {"seed_param": "s"}, {}, "no setting is named 's'; name it with --seed-param"),
        (
            ["bs"],
            ["epoch"],
            {},
            {"iterations": ("epoch",)},
            "'epoch' need not count .*; name the counter with --step-k",
        ),
        (["bs"], ["x"], {}, {}, "no column that counts updates was logged; .*; what was logged is x, val_loss"),
        (["bs"], ["x"], {}, {"asked": "n"}, "nothing named 'n' was logged; what was logged is x, val_loss"),
        (["bs"], ["step"], {"steps_per_iteration": -1.0}, {}, "--steps-per-iteration must be a positive number"),
        (["bs"], ["step"], {"steps_per_iteration": 1.0, "examples_per_iteration": 1.0}, {}, "give one of the two"),
        (["x"], ["x"], {"target": Target.model_validate("acc > 1")}, {}, "3 problems(.|\n)*'acc' was never logged"),
    ],
    ids=[
        *("two batch sizes", "batch size", "seed", "iteration", "no counter", "counter", "negative", "two factors"),
        "all at once",
    ],
)
def test_what_is_not_there_is_named_with_what_is(
    settings: list[str], logged: list[str], how: dict[str, Any], counters: dict[str, Any], message: str
) -> None:
    with pytest.raises(InputError, match=message):
        found(settings, logged, replace(READING, **how), replace(COUNTERS, **counters))


def test_what_a_count_is_in_words_and_steps() -> None:
    assert (READING.factor, READING.steps(8)) == ("one step", 1.0)
    assert replace(READING, steps_per_iteration=250.0).factor == "250 steps"
    epochs = replace(READING, examples_per_iteration=50_000.0)
    assert (epochs.factor, epochs.steps(100)) == ("50,000 examples", 500.0)


def logged_rows(rows: list[tuple[float | None, float | None]], **more: Any) -> LoggedRun:
    log = pd.DataFrame(rows, columns=["step", "val_loss"], dtype=float)
    return LoggedRun("run", {"batch_size": 8}, log, **more)


Count = st.one_of(st.none(), st.integers(0, 12).map(float))


@settings(deadline=None)
@given(
    rows=st.lists(st.tuples(Count, st.one_of(st.none(), st.floats(0, 1))), max_size=12),
    factor=st.sampled_from([1.0, 0.5, 3.0]),
    epoch=st.booleans(),
)
def test_the_curve_is_what_a_slow_reading_gives(
    rows: list[tuple[float | None, float | None]], factor: float, epoch: bool
) -> None:
    of_epoch = replace(READING, examples_per_iteration=8 * factor)
    how = of_epoch if epoch else replace(READING, steps_per_iteration=factor)
    table = curve(logged_rows(rows), NAMES, how, 8, Notes())
    slow: list[tuple[int, float]] = []
    count = None
    for own, value in rows:
        count = own if own is not None else count
        if count is None or value is None:
            continue
        slow.append((round(count * factor), value))
    assert list(zip(table["step"], table["val_loss"], strict=True)) == list(slow_rule(slow).items())


def test_what_is_left_out_is_noted() -> None:
    notes = Notes()
    rows = [(None, 0.9), (5, 0.8), (10, None), (10, 0.7), (5, 0.6), (math.nan, 0.5)]
    table = curve(logged_rows(rows), NAMES, READING, 8, notes)
    assert list(zip(table["step"], table["val_loss"], strict=True)) == [(5, 0.5)]
    assert notes.sentences() == [
        "Reports before any 'step' were left out (1)",
        "Reports that a later one at the same or an earlier step replaces (3; the first: run)",
        "Reports without a number for 'val_loss' were left out (1)",
    ]
    assert table["train_seconds"].isna().all()


def test_a_column_named_step_beside_the_counter_is_a_metric() -> None:
    log = pd.DataFrame({"epoch": [1.0], "step": [7.0], "val_loss": [0.5]})
    run = LoggedRun("run", {"batch_size": 8}, log)
    table = curve(run, Names("batch_size", None, "epoch"), READING, 8, Notes())
    (measured,) = measurements_of([{"trial_id": "run", "batch_size": 8}], [table])
    assert [measured[name].to_pylist() for name in ("step", "step_in_source", "val_loss")] == [[1], [7.0], [0.5]]
    assert measurements_of([{"trial_id": "run", "batch_size": 8}], [table.iloc[:0]]) == []


@pytest.mark.parametrize(
    ("rows", "broken", "says", "expected"),
    [
        ([(1, 0.5)], False, None, None),
        ([(1, 0.5)], False, Outcome.PRUNED, Outcome.PRUNED),
        ([(1, 0.5)], True, None, Outcome.DIVERGED),
        ([(1, 0.5)], True, Outcome.FAILED, Outcome.DIVERGED),
        ([(1, 0.05)], True, Outcome.FAILED, None),
        ([(1, 0.05)], False, Outcome.FAILED, None),
        ([(0, 0.05)], False, Outcome.FAILED, Outcome.FAILED),
        ([], False, Outcome.FAILED, Outcome.FAILED),
        ([(1, 0.5)], True, Outcome.OUT_OF_MEMORY, Outcome.OUT_OF_MEMORY),
    ],
)
def test_a_run_that_reached_has_reached_and_a_nan_is_divergence(
    rows: list[tuple[float | None, float | None]], broken: bool, says: Outcome | None, expected: Outcome | None
) -> None:
    run = logged_rows(rows, outcome=says, broken=frozenset({"val_loss"} if broken else ()))
    told = ending(run, curve(run, NAMES, READING, 8, Notes()), READING.target, Notes())
    assert told["outcome"] == (None if expected is None else expected.value)
    assert (told["message"] is not None) == (
        broken and says is not Outcome.OUT_OF_MEMORY or (expected is None and says is Outcome.FAILED)
    )


def logged(name: str, batch_size: Any, slower: int = 1, **settings: Any) -> LoggedRun:
    log = pd.DataFrame(evaluations(int(batch_size), slower), columns=["step", "val_loss"], dtype=float)
    return LoggedRun(name, {"batch_size": batch_size, **settings}, log)


def grid(seeds: int = 1, best: float = 0.01) -> list[LoggedRun]:
    return [
        logged(f"{size}-{lr}-{seed}", size, slower, lr=lr, seed=100 + seed)
        for size in SIZES
        for lr, slower in ((0.01, 3), (0.1, 1), (1.0, 2))
        for seed in range(seeds)
        if lr >= best
    ]


def test_a_grid_on_several_seeds_is_a_search_and_its_repeats(tmp_path: Path) -> None:
    _, analysis = written(imported(grid(3)), tmp_path / "run")
    assert b_crit(analysis) == pytest.approx(64.0, rel=1e-6)
    assert (analysis.studies["n_trials"] == 3).all() and (analysis.studies["n_seeds"] == 2).all()
    assert (analysis.studies["lr"] == 0.1).all() and analysis.boundary.empty
    assert set(analysis.trials["seed"]) == {100, 101, 102} and "seed" not in analysis.experiment.space.root
    numbers = analysis.trials.groupby(["batch_size", "stage"])["number"].apply(sorted)
    assert numbers.tolist() == [list(range(6)), list(range(3))] * len(SIZES)
    _, alone = written(imported([run for run in grid(4) if run.settings["lr"] == 0.1]), tmp_path / "alone")
    assert set(alone.trials["stage"]) == {"confirm"} and (alone.studies["n_seeds"] == 4).all()


def test_an_optimum_at_the_smallest_value_tried_lies_on_an_edge(tmp_path: Path) -> None:
    _, analysis = written(imported(grid(best=0.1)), tmp_path / "run")
    assert set(zip(analysis.boundary["dimension"], analysis.boundary["side"], strict=True)) == {("lr", "low")}


def test_batch_sizes_must_be_whole_and_every_bad_one_is_named() -> None:
    bad = {"none": None, "half": 1.5, "true": True, "word": "many", "zero": 0, "nan": float("nan")}
    runs = [replace(logged(name, 16), settings={"batch_size": size}) for name, size in bad.items()]
    with pytest.raises(InputError, match=r"6 problems(.|\n)*run 'none' has None(.|\n)*and 1 runs more"):
        imported([logged("good", 16), *runs])
    assert imported([logged("text", "16")]).experiment.batch_sizes == (16,)


def test_a_target_with_the_wrong_sign_is_refused() -> None:
    wrong = replace(READING, target=Target.model_validate("val_loss > 0.1"))
    with pytest.raises(InputError, match="every run is beyond 'val_loss > 0.1' at its first evaluation; turn the sign"):
        imported(grid(), wrong)
    assert imported([replace(run, log=run.log.iloc[-1:]) for run in grid()]).trials().num_rows == len(grid())


@pytest.mark.parametrize(
    ("runs", "message"),
    [
        ([], "there is no run in it"),
        (
            [
                LoggedRun("a", {"lr": 0.1}, pd.DataFrame({"step": [], "val_loss": []})),
                LoggedRun("b", {"batch_size": 16}, pd.DataFrame({"step": [1.0]})),
            ],
            "no run can be used: each lacks 'batch_size', or reports of 'val_loss'; name",
        ),
    ],
    ids=["none", "none that can be used"],
)
def test_runs_of_which_none_can_be_used_are_refused(runs: list[LoggedRun], message: str) -> None:
    with pytest.raises(InputError, match=message):
        imported(runs)


def test_failures_without_a_report_stay(tmp_path: Path) -> None:
    failed = LoggedRun("f", {"batch_size": 16, "lr": 9.0}, pd.DataFrame(), outcome=Outcome.FAILED, message="no luck")
    census, analysis = written(
        imported([*grid(), failed, replace(failed, name="mute", outcome=None)]), tmp_path / "run"
    )
    assert census.outcomes["failed"] == 1
    assert list(analysis.trials.set_index("trial_id").loc["f", ["steps", "message"]]) == [0, "no luck"]
    assert "Runs that never reported 'val_loss' were left out (1; mute)" in census.notes


def test_unchanged_settings_of_a_large_configuration_are_left_out() -> None:
    run = imported([replace(r, settings={**r.settings, **{f"s{i}": i for i in range(150)}}) for r in grid()])
    assert "Settings that are the same in every run were left out (150; the first: s0)" in run.notes.sentences()
    assert run.trials().column_names[-1] == "lr"


def test_runs_that_reported_nothing_finite_are_diverged(tmp_path: Path) -> None:
    log = pd.DataFrame({"step": [10.0], "val_loss": [float("nan")]})
    known: dict[str, Any] = {"log": log, "broken": frozenset({"val_loss"})}
    run = imported([LoggedRun(f"{size}", {"batch_size": size, "lr": 9.0}, **known) for size in SIZES])
    assert run.experiment.budget.steps == 1
    _, analysis = written(run, tmp_path / "run")
    assert set(analysis.trials["outcome"]) == {Outcome.DIVERGED} and analysis.fit is None


@settings(deadline=None)
@given(st.lists(st.tuples(st.integers(1, 3), st.integers(0, 2)), max_size=12))
def test_every_repeat_names_the_first_run_of_its_point(points: list[tuple[int, int]]) -> None:
    for i, (stage, first) in enumerate(stages(points)):
        assert first is None or (points[first] == points[i] and points.index(points[i]) == first)
        assert (stage == "confirm") == (first is not None)
        alone = {point for point in points if point[0] == points[i][0]} == {points[i]}
        assert stage == "confirm" or points.index(points[i]) == i
        assert stage == "confirm" or not alone or points.count(points[i]) == 1


def test_seeds_that_are_no_whole_numbers_are_numbered() -> None:
    seeds = [7, "8", "x", None, 2.5, 10**30]
    trials = imported([logged(str(i), 16, lr=0.1, seed=seed) for i, seed in enumerate(seeds)]).trials()
    assert trials["seed"].to_pylist() == [7, 8, 2, 3, 4, 5]


Scalar = st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.text('ab é<"\n', max_size=5))
Keys = st.text(alphabet="abc_", min_size=1, max_size=4)
Nested = st.recursive(Scalar, lambda inner: st.dictionaries(Keys, inner, max_size=3), max_leaves=12)


@settings(deadline=None)
@given(st.dictionaries(Keys, Nested, max_size=4))
def test_every_leaf_is_there_once_under_its_path(nested: dict[str, object]) -> None:
    for name, value in flat(nested).items():
        inner: object = nested
        for part in name.split("/"):
            assert isinstance(inner, dict)
            inner = inner[part]
        assert inner is value
