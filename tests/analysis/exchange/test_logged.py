"""Logged runs: names, counter, curves, endings, repeats, spaces."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bcrit.analysis.exchange.logged import (
    SECONDS,
    LoggedRun,
    Names,
    Reading,
    curve,
    ending,
    find_names,
    flat,
    import_logged,
    measurements_of,
    stages,
)
from bcrit.analysis.exchange.run import Notes, listed
from bcrit.search_spaces.outcome import Outcome
from bcrit.search_spaces.problems import InputError
from bcrit.search_spaces.target import Target
from tests.analysis.exchange.planted import B_CRIT, READING, SIZES, TARGET, evaluations, written


def found(settings: list[str], logged: list[str], reading: Reading = READING) -> Names:
    log = pd.DataFrame(dict.fromkeys([*logged, "val_loss"], [1.0]))
    return find_names([LoggedRun("r", dict.fromkeys(settings, 1), log)], reading, "there")


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        (["batch_size", "lr"], "batch_size"),
        (["bs", "eval/batch_size"], "eval/batch_size"),
        (["train.batch_size"], "train.batch_size"),
        (["batch_size", "eval/batch_size"], "batch_size"),
        (["global_batch_size", "x"], "global_batch_size"),
        (["opt/BS"], "opt/BS"),
    ],
)
def test_the_batch_size_is_known_by_its_last_word(settings: list[str], expected: str) -> None:
    assert found(settings, ["step"]).batch_size == expected


def test_two_likely_names_are_not_guessed_between() -> None:
    with pytest.raises(InputError, match="no setting, or more than one, .*; name it with --batch-size-param"):
        found(["train/batch_size", "eval/batch_size"], ["step"])
    reading = replace(READING, batch_size="train/batch_size")
    assert found(["train/batch_size", "eval/batch_size"], ["step"], reading).batch_size == "train/batch_size"
    assert (
        found(["train/size", "eval/batch_size"], ["step"], replace(READING, batch_size="SIZE")).batch_size
        == "train/size"
    )


def test_attributes_may_be_the_batch_size_and_the_seed() -> None:
    run = LoggedRun("r", {"lr": 1}, pd.DataFrame({"step": [1.0], "val_loss": [1.0]}), attributes={"bs": 8, "seed": 1})
    assert find_names([run], READING, "there") == Names("bs", "seed", "step")


def test_the_counter_is_the_first_that_is_there() -> None:
    reading = replace(READING, counters=("a", "b"), iterations=("epoch",))
    assert found(["bs"], ["b", "a"], reading).counter == "a"
    assert found(["bs"], ["b", "epoch"], reading).counter == "b"
    with pytest.raises(InputError, match="'epoch' need not count optimizer updates"):
        found(["bs"], ["epoch"], reading)
    assert found(["bs"], ["epoch"], replace(reading, examples_per_count=5.0)).counter == "epoch"
    with pytest.raises(InputError, match="no column that counts updates was logged"):
        found(["bs"], [], reading)


def test_all_problems_come_in_one_message() -> None:
    with pytest.raises(InputError, match="3 problems"):
        find_names([LoggedRun("r", {}, pd.DataFrame({"x": [1.0]}))], READING, "there")


def test_what_a_count_is_in_words_and_steps() -> None:
    assert (READING.factor, READING.steps(8)) == ("one step", 1.0)
    assert replace(READING, steps_per_count=250.0).factor == "250 steps"
    epochs = Reading(TARGET, examples_per_count=50_000.0)
    assert (epochs.factor, epochs.steps(100)) == ("50,000 examples", 500.0)


def test_long_lists_of_long_names_stay_readable() -> None:
    assert listed([]) == "nothing"
    text = listed(["x" * 500] * 100)
    assert text.endswith(" and 60 more") and len(text) < 5000


NAMES = Names("batch_size", None, "step")


def logged_rows(rows: list[tuple[float | None, float | None]], **more: object) -> LoggedRun:
    log = pd.DataFrame(rows, columns=["step", "val_loss"], dtype=float)
    return replace(LoggedRun("run", {"batch_size": 8}, log), **more)  # type: ignore[arg-type]


Count = st.one_of(st.none(), st.integers(0, 12).map(float))
Value = st.one_of(st.none(), st.floats(0, 1))


@settings(deadline=None)
@given(rows=st.lists(st.tuples(Count, Value), max_size=12), factor=st.sampled_from([1.0, 0.5, 3.0]))
def test_the_curve_is_what_a_slow_reading_gives(rows: list[tuple[float | None, float | None]], factor: float) -> None:
    found = curve(logged_rows(rows), NAMES, replace(READING, steps_per_count=factor), 8, Notes())
    slow: list[tuple[int, float]] = []
    count = None
    for own, value in rows:
        count = own if own is not None else count
        if count is None or value is None:
            continue
        step = round(count * factor)
        slow = [(s, v) for s, v in slow if s < step] + [(step, value)]
    assert list(zip(found["step"], found["val_loss"], strict=True)) == slow


def test_what_is_left_out_is_noted() -> None:
    notes = Notes()
    rows = [(None, 0.9), (5, 0.8), (10, None), (10, 0.7), (5, 0.6), (math.nan, 0.5)]
    found = curve(logged_rows(rows), NAMES, READING, 8, notes)
    assert list(zip(found["step"], found["val_loss"], strict=True)) == [(5, 0.5)]
    assert notes.sentences() == [
        "Reports without a number for 'val_loss' were left out (1)",
        "Reports before any 'step' were left out (1)",
        "Reports that a later one at the same or an earlier step replaces (3; the first: run)",
    ]
    assert found[SECONDS].isna().all()


def test_examples_become_steps_at_the_run_s_batch_size() -> None:
    reading = replace(READING, examples_per_count=100.0)
    assert curve(logged_rows([(1, 0.9), (2, 0.5)]), NAMES, reading, 8, Notes())["step"].tolist() == [12, 25]


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
    found = ending(run, curve(run, NAMES, READING, 8, Notes()), TARGET, Notes())
    assert found["outcome"] == (None if expected is None else expected.value)
    assert (found["message"] is not None) == (
        broken and says is not Outcome.OUT_OF_MEMORY or (expected is None and says is Outcome.FAILED)
    )


def logged(name: str, batch_size: Any, slower: int = 1, **settings: Any) -> LoggedRun:
    log = pd.DataFrame(evaluations(int(batch_size), slower), columns=["step", "val_loss"], dtype=float)
    return LoggedRun(name, {"batch_size": batch_size, **settings}, log)


def grid(seeds: int) -> list[LoggedRun]:
    return [
        logged(f"{size}-{lr}-{seed}", size, slower, lr=lr, seed=100 + seed)
        for size in SIZES
        for lr, slower in ((0.01, 3), (0.1, 1), (1.0, 2))
        for seed in range(seeds)
    ]


def test_a_grid_on_several_seeds_is_a_search_and_its_repeats(tmp_path: Path) -> None:
    run = import_logged(grid(3), READING, "test", "there", Notes())
    _, analysis = written(run, tmp_path / "run")
    assert analysis.fit is not None and analysis.fit.to_json()["b_crit"] == pytest.approx(B_CRIT, rel=1e-6)
    assert (analysis.studies["n_trials"] == 3).all() and (analysis.studies["n_seeds"] == 2).all()
    assert (analysis.studies["lr"] == 0.1).all() and analysis.boundary.empty
    assert set(analysis.trials["seed"]) == {100, 101, 102} and "seed" not in analysis.experiment.space.root
    assert analysis.trials.groupby(["batch_size", "stage"])["number"].apply(sorted).tolist() == [
        list(range(6)),
        list(range(3)),
    ] * len(SIZES)


def test_an_optimum_at_the_smallest_value_tried_lies_on_an_edge(tmp_path: Path) -> None:
    runs = [r for r in grid(1) if r.settings["lr"] >= 0.1]
    _, analysis = written(import_logged(runs, READING, "test", "there", Notes()), tmp_path / "run")
    assert set(zip(analysis.boundary["dimension"], analysis.boundary["side"], strict=True)) == {("lr", "low")}


def test_one_point_a_study_has_only_repeats(tmp_path: Path) -> None:
    runs = [r for r in grid(4) if r.settings["lr"] == 0.1]
    _, analysis = written(import_logged(runs, READING, "test", "there", Notes()), tmp_path / "run")
    assert set(analysis.trials["stage"]) == {"confirm"} and (analysis.studies["n_seeds"] == 4).all()


def test_batch_sizes_must_be_whole_and_every_bad_one_is_named() -> None:
    runs = [logged("good", 16)] + [
        replace(logged(name, 16), settings={"batch_size": bad})
        for name, bad in (
            ("none", None),
            ("half", 1.5),
            ("true", True),
            ("word", "many"),
            ("zero", 0),
            ("nan", float("nan")),
        )
    ]
    with pytest.raises(InputError, match=r"6 problems(.|\n)*run 'none' has None(.|\n)*and 1 runs more"):
        import_logged(runs, READING, "test", "there", Notes())
    texts = [replace(logged("text", 16), settings={"batch_size": "16"})]
    assert import_logged(texts, READING, "test", "there", Notes()).experiment.batch_sizes == (16,)


def test_a_target_with_the_wrong_sign_is_refused(tmp_path: Path) -> None:
    wrong = replace(READING, target=Target.model_validate("val_loss > 0.1"))
    with pytest.raises(InputError, match="every run is beyond 'val_loss > 0.1' at its first evaluation; turn the sign"):
        import_logged(grid(1), wrong, "test", "there", Notes())
    ends = [replace(run, log=run.log.iloc[-1:]) for run in grid(1)]
    _, analysis = written(import_logged(ends, READING, "test", "there", Notes()), tmp_path / "run")
    assert (analysis.trials["steps_to_target_low"] == 0).all()


def test_no_run_at_all_is_one_message() -> None:
    with pytest.raises(InputError, match="there is no run in it"):
        import_logged([], READING, "test", "there", Notes())


def test_failures_without_a_report_stay(tmp_path: Path) -> None:
    failed = LoggedRun("f", {"batch_size": 16, "lr": 9.0}, pd.DataFrame(), outcome=Outcome.FAILED, message="no luck")
    run = import_logged(
        [*grid(1), failed, replace(failed, name="silent", outcome=None)], READING, "t", "there", Notes()
    )
    census, analysis = written(run, tmp_path / "run")
    assert census.outcomes["failed"] == 1
    assert list(analysis.trials.set_index("trial_id").loc["f", ["steps", "message"]]) == [0, "no luck"]
    assert "Runs that never reported 'val_loss' were left out (1; silent)" in census.notes


def test_unchanged_settings_of_a_large_configuration_are_left_out() -> None:
    runs = [replace(r, settings={**r.settings, **{f"s{i}": i for i in range(150)}}) for r in grid(1)]
    run = import_logged(runs, READING, "test", "there", Notes())
    assert "Settings that are the same in every run were left out (150; the first: s0)" in run.notes.sentences()
    assert run.trials().column_names[-1] == "lr"


def test_runs_that_reported_nothing_finite_are_diverged(tmp_path: Path) -> None:
    log = pd.DataFrame({"step": [10.0], "val_loss": [float("nan")]})
    runs = [
        LoggedRun(f"{size}", {"batch_size": size, "lr": 9.0}, log, broken=frozenset({"val_loss"})) for size in SIZES
    ]
    run = import_logged(runs, READING, "test", "there", Notes())
    assert run.experiment.budget.steps == 1
    _, analysis = written(run, tmp_path / "run")
    assert set(analysis.trials["outcome"]) == {Outcome.DIVERGED} and analysis.fit is None


def test_runs_of_which_none_can_be_used_are_refused() -> None:
    without_size = LoggedRun("a", {"lr": 0.1}, pd.DataFrame({"step": [], "val_loss": []}))
    silent = LoggedRun("b", {"batch_size": 16}, pd.DataFrame({"step": [1.0]}))
    with pytest.raises(InputError, match="no run can be used: each lacks 'batch_size', or reports of 'val_loss'; name"):
        import_logged([without_size, silent], READING, "test", "there", Notes())


@settings(deadline=None)
@given(st.lists(st.tuples(st.integers(1, 3), st.integers(0, 2)), max_size=12))
def test_every_repeat_names_the_first_run_of_its_point(points: list[tuple[int, int]]) -> None:
    found = stages(points)
    for i, (stage, first) in enumerate(found):
        assert first is None or (points[first] == points[i] and points.index(points[i]) == first)
        assert (stage == "confirm") == (first is not None)
        alone = {point for point in points if point[0] == points[i][0]} == {points[i]}
        if stage == "search":
            assert points.index(points[i]) == i
        if alone and points.count(points[i]) > 1:
            assert stage == "confirm"


def test_seeds_that_are_no_whole_numbers_are_numbered() -> None:
    log = pd.DataFrame(evaluations(16), columns=["step", "val_loss"], dtype=float)
    seeds = [7, "8", "x", None, 2.5, 10**30]
    runs = [LoggedRun(str(i), {"batch_size": 16, "lr": 0.1, "seed": seed}, log) for i, seed in enumerate(seeds)]
    trials = import_logged(runs, READING, "test", "there", Notes()).trials()
    assert trials["seed"].to_pylist() == [7, 8, 2, 3, 4, 5]


def test_runs_without_an_evaluation_have_no_table_of_measurements() -> None:
    row = {"trial_id": "a", "batch_size": 4}
    assert measurements_of([row], [pd.DataFrame({"step": [], "train_seconds": []})]) == []


Scalar = st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.text('ab é<"\n', max_size=5))
Keys = st.text(alphabet="abc_", min_size=1, max_size=4)
Nested = st.recursive(Scalar, lambda inner: st.dictionaries(Keys, inner, max_size=3), max_leaves=12)


@settings(deadline=None)
@given(st.dictionaries(Keys, Nested, max_size=4))
def test_every_leaf_is_there_once_under_its_path(nested: dict[str, object]) -> None:
    found = flat(nested)
    for name, value in found.items():
        inner: object = nested
        for part in name.split("/"):
            assert isinstance(inner, dict)
            inner = inner[part]
        assert inner is value


def test_lists_and_objects_become_texts() -> None:
    assert flat({"a": {"b": [1, {"c": 2}], 3: (4,)}, "d": {}}) == {"a/b": "[1, {'c': 2}]", "a/3": "(4,)"}
