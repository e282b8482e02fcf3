"""Logged runs as an imported run: repeats of one point, seeds, names, the space of what was tried."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from bcrit.analysis.exchange.logged import LoggedRun, import_logged
from bcrit.analysis.exchange.run import Notes
from bcrit.search_spaces.outcome import Outcome
from bcrit.search_spaces.problems import InputError
from bcrit.search_spaces.target import Target
from tests.analysis.exchange.planted import B_CRIT, READING, SIZES, curve, written


def logged(name: str, batch_size: Any, slower: int = 1, **settings: Any) -> LoggedRun:
    log = pd.DataFrame(curve(int(batch_size), slower), columns=["step", "val_loss"], dtype=float)
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
