"""How far a run is, what its studies say by then, and what is named as the cause where there is no curve."""

import math
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from bcrit.analysis.questions.steps import steps_plot
from bcrit.analysis.report.build import answer, caveats
from bcrit.analysis.run import Run
from bcrit.analysis.studies import study_states
from bcrit.analysis.studies.state import causes, choice_notes, failed_alike, progress, widened_notes
from bcrit.search_spaces.outcome import Outcome
from bcrit.search_spaces.tables import TRIALS
from tests.analysis.folders import Made, experiment, write_run

SIZES = (8, 16, 32)
MISSED = [(1, 10.0), (100, 5.0)]


def reaching(batch_size: int) -> list[tuple[int, float]]:
    return [(1, 10.0), (10 + 800 // batch_size, 0.5)]


def made(path: Path, *runs: Made, trials: int = 4, **more: Any) -> Run:
    given = {"search": {"protocol": "sobol", "trials": trials}, "confirm": {"points": 1, "seeds": 2}, **more}
    spec = experiment(SIZES, **given)
    return Run(write_run(path / "run", spec, {f"t{n}": run for n, run in enumerate(runs)}))


def test_a_run_that_has_begun_is_in_progress_and_bounds_nothing(tmp_path: Path) -> None:
    run = made(tmp_path, *(Made(b, MISSED) for b in SIZES for _ in range(2)))
    assert run.progress is not None
    assert (run.progress.finished, run.progress.expected, run.early) == (6, 18, [8, 16, 32])  # 3 x (4 + 2)
    assert answer(run)[0].startswith("In progress: 6 of about 18 trials have finished. If nothing is running, `bcrit ")
    assert "so far there are 0" in str(run.no_fit) and run.fit is None
    assert not any("not reached" in said for said in caveats(run)) and not steps_plot(run)["data"]
    shown = run.ask("steps").terminal
    assert "not reached yet" in str(shown) and ">" not in str(shown)
    assert run.to_json()["progress"]["early"] == [8, 16, 32]


def test_half_a_search_makes_a_number_and_only_a_whole_one_a_bound(tmp_path: Path) -> None:
    whole = [Made(8, MISSED)] * 4
    half = [Made(16, reaching(16))] * 2 + [Made(32, reaching(32)), Made(32, MISSED)]
    run = made(tmp_path, *half, *whole)
    assert run.early == [] and run.fit is not None and run.fit.n_censored == 1
    assert any("At batch size 16 and 32 the search is not over" in note for note in run.notes)
    # 4 + 2 of each study that may still reach; the third is complete: none of its points can be run again
    assert run.progress is not None and run.progress.expected == 16
    less = made(tmp_path / "less", *half[1:], *whole[1:])
    assert less.early == [8, 16] and less.fit is None


def test_a_complete_run_is_not_in_progress_whatever_it_reached(tmp_path: Path) -> None:
    run = made(tmp_path, *(Made(b, MISSED) for b in SIZES), trials=1)
    assert run.progress is None and run.early == [] and answer(run)[0].startswith("No batch size can be recommended")
    confirmed = [Made(8, reaching(8)), *[Made(8, reaching(8), repeats="t0")] * 2]
    others = [Made(b, MISSED) for b in SIZES[1:]]
    assert made(tmp_path / "again", *confirmed, *others, trials=1).progress is None
    assert made(tmp_path / "one", *confirmed[:2], *others, trials=1).progress is not None


def test_a_column_of_the_table_s_own_makes_no_other_point(tmp_path: Path) -> None:
    reached = (Made(b, reaching(b)) for b in SIZES for _ in range(2))
    run = made(tmp_path, *reached, trials=2, confirm={"points": 2, "seeds": 2})
    same = run.finished.assign(**dict.fromkeys(TRIALS.beside(run.finished.columns), 0.5))
    kept = same.assign(checkpoint_seconds=np.arange(6.0))
    found = [progress(trials, run.declared, study_states(trials, run.declared)) for trials in (same, kept)]
    assert [each and each.expected for each in found] == [12, 12]  # 3 x (2 + 1 point on 2 seeds)


@pytest.mark.parametrize(
    ("bad", "good", "named"), [(3, 1, True), (1, 3, False), (2, 2, False)], ids=["most", "few", "half"]
)
@pytest.mark.parametrize("outcome", ["diverged", "failed"])
def test_a_cause_is_named_only_where_it_is_one(tmp_path: Path, bad: int, good: int, named: bool, outcome: str) -> None:
    runs = [Made(b, MISSED, outcome if n < bad else "exhausted") for b in SIZES for n in range(bad + good)]
    why = str(made(tmp_path, *runs, trials=good).no_fit)
    assert why.startswith("a curve needs 2 batch sizes that reached the target, better 6, but there are 0")
    assert (f"; at batch size 8, 16 and 32 most trials {outcome} (9 in all)" in why) is named
    assert named or why.endswith("are 0")


def test_two_causes_are_named_where_each_is_that_of_half_of_the_batch_sizes(tmp_path: Path) -> None:
    ended = {8: "failed", 16: "diverged"}
    run = made(tmp_path, *(Made(b, MISSED, ended[b]) for b in ended for _ in range(3)))
    said = [f"At batch size {b} most trials {outcome} (3 in all)." for b, outcome in ended.items()]
    assert list(causes(run.trials, set(ended))) == said and not list(causes(run.trials, ()))


FAILED = (Outcome.FAILED, 0, "no")


@pytest.mark.parametrize(
    ("trials", "n_sizes", "alike"),
    [
        ([(8, *FAILED), (16, *FAILED), (32, *FAILED)], 4, "no"),
        ([(8, *FAILED), (16, *FAILED)], 4, None),
        ([(8, *FAILED), (8, *FAILED), (16, *FAILED)], 4, None),  # may be a matter of the sizes
        ([(8, *FAILED), (8, *FAILED), (16, *FAILED)], 2, "no"),
        ([(8, *FAILED)] * 3, 1, "no"),
        (
            [(b, Outcome.FAILED, 0, f"the report at step {b} lacks it") for b in SIZES],
            3,
            "the report at step 8 lacks it",
        ),
        ([(b, Outcome.FAILED, 0, f"lr = {b}") for b in SIZES], 3, None),
        ([(b, Outcome.FAILED, 1, "no") for b in SIZES], 3, None),
        ([*((b, *FAILED) for b in SIZES), (64, Outcome.EXHAUSTED, 9, None)], 4, None),
        ([(b, Outcome.OUT_OF_MEMORY, 0, "no") for b in SIZES], 3, None),
    ],
)
def test_three_equal_failures_where_nothing_trains(
    trials: list[tuple[int, Outcome, int, str | None]], n_sizes: int, alike: str | None
) -> None:
    assert failed_alike(trials, n_sizes) == alike


def test_what_failed_alike_is_the_headline_and_a_study_that_failed_is_told(tmp_path: Path) -> None:
    dead = made(tmp_path, *(Made(b, [(0, 1.0)], "failed") for b in SIZES))
    trials = dead.recorded.assign(message="ValueError: no data")
    assert answer(dead.but(recorded=trials))[0].endswith("their first update. ValueError: no data.")
    again = [Made(8, reaching(8)), *[Made(8, MISSED, "failed", repeats="t0", max_steps=4000)] * 2]
    run = made(tmp_path / "again", *again, *[Made(16, MISSED, "failed")] * 3, Made(32, MISSED), trials=1)
    told = [note for note in run.notes if "failed" in note or "ends_at_budget" in note]
    assert told[0] == "At batch size 8 2 of 2 re-runs failed: no reason is known."
    assert told[1].startswith("Re-runs may train beyond the budget of 1,000 steps at batch size 8.")
    assert told[2] == "At batch size 16 3 of 3 search trials failed: no reason is known."


def test_a_best_point_in_a_part_that_was_searched_little_is_told(tmp_path: Path) -> None:
    trials = made(tmp_path, *[Made(8, reaching(8))] * 6, trials=6).recorded
    lr = [0.1, 0.2, 0.5, 1.0, 0.7, 2.0]
    trials = trials.assign(lr=lr, round=[0, 0, 0, 0, 1, 1])
    edge = {"batch_size": 8, "round": 0, "dimension": "lr", "side": "high", "low": 0.01, "high": 1.0, "widened_to": 3.0}
    boundary = pd.DataFrame([{**edge, "kind": "box", "optimum": 1.0}])
    studies = pd.DataFrame({"batch_size": [8], "best_trial": ["t5"]})
    (told,) = widened_notes(studies, trials, boundary)
    assert told.startswith("At batch size 8 (1 trials there, 4 in the first box) the best point lies in what its box")
    assert not [*widened_notes(studies.assign(best_trial="t3"), trials, boundary)]
    assert not [*widened_notes(studies, trials.assign(lr=[0.1, 0.2, 0.5, 1.0, 1.5, 2.0]), boundary)]


def test_choosing_by_the_seeds_that_make_the_number_is_told_with_its_size(tmp_path: Path) -> None:
    rng, runs = np.random.default_rng(0), dict[str, Made]()
    for b in SIZES:
        runs |= {f"{b}-{point}": Made(b, [(1, 10.0), (1000, 0.5)], max_steps=9000) for point in range(3)}
        for point in range(3):
            for seed in range(6):
                steps = round(1000 * math.exp(0.1 * rng.standard_normal()))
                runs[f"{b}-{point}-{seed}"] = Made(
                    b, [(1, 10.0), (steps - 1, 5.0), (steps, 0.5)], "reached", f"{b}-{point}"
                )
    spec = experiment(SIZES, confirm={"points": 3, "seeds": 6})
    trials = Run(write_run(tmp_path / "run", spec, runs)).recorded
    trials["seed"] = trials["trial_id"].str.rsplit("-").str[-1].astype(int)  # the same seeds for every point
    # Three equal points: the least of three medians of six lies 0.85 x 0.1 x 1.25 / sqrt(6) = 4.3 % below their mean.
    for seeds in (6, 3):
        (said,) = choice_notes(trials[trials["repeats"].isna() | (trials["seed"] < seeds)])
        assert 2 < float(said.split(" by about ")[1].split(" %")[0]) < (8 if seeds == 6 else 12)
    assert not list(choice_notes(trials[trials["repeats"].isna() | (trials["seed"] < 1)]))
    assert list(choice_notes(trials[trials["repeats"].isna() | trials["repeats"].str.endswith("-0")])) == []
