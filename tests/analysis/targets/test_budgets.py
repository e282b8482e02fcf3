"""Budgets: those that users may give and the default grid, the best within them, who wins, and when nobody does."""

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bcrit.analysis.questions.budgets import within
from bcrit.analysis.records.one_pass import Chunk, read_measurements
from bcrit.analysis.run import Run
from bcrit.analysis.studies import that_count
from bcrit.analysis.targets import measured
from bcrit.analysis.targets.budgets import (
    CLEAR,
    N_BUDGETS,
    BestWithin,
    BudgetTables,
    BudgetVerdict,
    Compared,
    Resource,
    Status,
    budget_tables,
    default_budgets,
    read_budgets,
    verdict_on,
    win_shares,
)
from bcrit.search_spaces.problems import InputError
from bcrit.search_spaces.tables import MEASUREMENTS, TRIALS
from bcrit.search_spaces.target import Direction, Target
from tests.analysis.folders import SECONDS, Made, experiment, write_run
from tests.analysis.targets.test_grid import cut


def trials(*rows: tuple[int, int], seconds: float = 36.0) -> pd.DataFrame:
    frame = pd.DataFrame(rows, columns=["batch_size", "steps"]).assign(stage="search", outcome="exhausted")
    return frame.assign(examples=frame["batch_size"] * frame["steps"], train_seconds=seconds * frame["steps"])


def test_given_budgets_are_sorted_and_only_those() -> None:
    found = read_budgets({Resource.STEPS: [9, 3, 9], Resource.EXAMPLES: [], Resource.HOURS: [0.5]})
    assert found == {Resource.STEPS: (3, 9), Resource.HOURS: (0.5,)}


@pytest.mark.parametrize("value", [0.0, -1.0, math.nan, math.inf])
def test_a_budget_that_is_no_positive_number_is_refused(value: float) -> None:
    with pytest.raises(InputError, match="--hours: a budget is a positive number"):
        read_budgets({Resource.HOURS: [value]})


def test_the_largest_default_budget_is_one_that_every_study_used() -> None:
    table = trials((8, 1600), (8, 100), (16, 800), (32, 400))
    found = default_budgets(table, np.zeros(len(table), dtype=bool))
    assert {resource: budgets[-1] for resource, budgets in found.items()} == {
        "steps": 400,
        "examples": 12_000,
        "hours": 4,
    }
    assert all(len(budgets) == N_BUDGETS and list(budgets) == sorted(budgets) for budgets in found.values())


def test_where_trials_stop_at_the_target_the_second_study_to_reach_ends_the_grid() -> None:
    table = trials((8, 1600), (8, 900), (16, 500), (32, 400))
    found = default_budgets(table, np.array([False, True, True, False]))
    assert found[Resource.STEPS][-1] == 400
    found = default_budgets(table, np.array([False, True, True, True]))
    assert found[Resource.STEPS][-1] == 400 and found[Resource.EXAMPLES][-1] == 8000


def test_re_runs_count_only_where_nothing_was_searched() -> None:
    table = trials((8, 1600), (8, 90), (16, 800), (16, 70), (32, 50))
    table["stage"] = ["search", "confirm", "search", "confirm", "confirm"]
    table["outcome"] = ["reached", "reached", "failed", "reached", "reached"]
    assert that_count(table).tolist() == [True, False, False, True, True]


def test_re_runs_that_stop_at_the_target_do_not_end_the_grid_of_a_search_that_goes_on() -> None:
    table = trials((8, 1600), (8, 90), (16, 800), (16, 70))
    table["stage"] = ["search", "confirm"] * 2
    assert default_budgets(table, np.array([False, True] * 2))[Resource.STEPS][-1] == 800


def test_one_study_or_no_time_has_no_budgets() -> None:
    assert default_budgets(trials((8, 100)), np.array([False])) == {}
    assert Resource.HOURS not in default_budgets(trials((8, 100), (16, 90), seconds=0), np.array([False, False]))


def test_very_few_steps_stay_whole_and_positive() -> None:
    assert default_budgets(trials((8, 2), (16, 3)), np.array([False, False]))[Resource.STEPS] == (1.0, 2.0)


BUDGETS = {Resource.STEPS: (3.0, 5.0, 9.0), Resource.EXAMPLES: (20.0, 40.0), Resource.HOURS: (4 * SECONDS / 3600, 1.0)}
BATCH = np.array([4.0, 8.0, 16.0])
VALUES = st.one_of(st.floats(-3, 3), st.just(math.nan))


def naive(curve: list[tuple[int, float]], batch_size: float, resource: Resource, budget: float, best: str) -> float:
    per_step = {Resource.STEPS: 1.0, Resource.EXAMPLES: batch_size, Resource.HOURS: SECONDS / 3600}[resource]
    seen = [v for s, v in curve if s > 0 and s * per_step <= budget and not math.isnan(v)]
    return (min if best == "minimize" else max)(seen, default=math.nan)


@settings(max_examples=200)
@given(st.lists(st.lists(VALUES, min_size=1, max_size=11), min_size=1, max_size=3), st.sampled_from(list(Direction)))
def test_the_curve_looked_at_is_the_naive_twin(curves: list[list[float]], direction: Direction) -> None:
    rows = [(trial, step, value) for trial, curve in enumerate(curves) for step, value in enumerate(curve)]
    trial, step, value = (np.array(column) for column in zip(*rows, strict=True))
    starts = np.flatnonzero(np.diff(trial, prepend=-1))
    chunk = Chunk(trial, starts, step, np.maximum(step - 1, 0), value.astype(float), SECONDS * step)
    found = BestWithin.of(BUDGETS, direction, BATCH[: len(curves)])
    found.take(chunk)
    for resource, budgets in BUDGETS.items():
        values = found.value(resource)
        for number, curve in enumerate(curves):
            for place, budget in enumerate(budgets):
                expected = naive(list(enumerate(curve)), BATCH[number], resource, budget, direction)
                assert values[number, place] == pytest.approx(expected, nan_ok=True)


def test_a_budget_is_inside_its_limit_and_trials_may_straddle_parts(tmp_path: Path) -> None:
    runs = {"a": Made(8, [(0, 0.1), (3, 2.0), (5, 1.0)]), "b": Made(8, [(2, 3.0), (4, 4.0), (10, 0.5)])}
    folder = write_run(tmp_path / "run", experiment([8]), runs, parts=4)
    found = BestWithin.of(BUDGETS, Direction.MINIMIZE, np.array([8.0, 8.0]))
    read_measurements(folder, ["a", "b"], "loss", [found], timed=True)
    assert found.value(Resource.STEPS).tolist() == [[2.0, 1.0, 1.0], [3.0, 3.0, 3.0]]
    assert found.value(Resource.EXAMPLES)[0].tolist() == [pytest.approx(math.nan, nan_ok=True), 1.0]
    assert found.value(Resource.HOURS)[1].tolist() == [3.0, 0.5]
    found.forget(np.array([1]))
    assert np.isnan(found.value(Resource.STEPS)[1]).all() and found.value(Resource.STEPS)[0, 0] == 2.0


def test_time_that_was_not_recorded_is_in_no_budget() -> None:
    found = BestWithin.of({Resource.HOURS: (1.0,)}, Direction.MINIMIZE, np.array([8.0]))
    one = np.array([0])
    found.take(Chunk(one, one, np.array([1]), one, np.array([2.0]), np.array([math.nan])))
    assert np.isnan(found.value(Resource.HOURS)).all()
    spent = Resource.HOURS.spent(pd.DataFrame({"train_seconds": [0.0, 7200.0]}))
    assert spent.tolist() == [pytest.approx(math.nan, nan_ok=True), 2.0]


def resampled(values: dict[int, np.ndarray], draws: int, rng: np.random.Generator) -> dict[int, float]:
    """The naive twin."""
    m = min(len(mine) for mine in values.values()) // 2
    best = {b: rng.choice(mine, (draws, m)).min(axis=1) for b, mine in values.items()}
    table = np.stack(list(best.values()))
    wins = table == table.min(axis=0)
    return dict(zip(values, (wins / wins.sum(axis=0)).mean(axis=1).tolist(), strict=True))


def test_the_shares_are_those_of_the_bootstrap() -> None:
    rng = np.random.default_rng(0)
    values = {8: rng.normal(0, 1, 12), 16: rng.normal(0.2, 1, 12), 32: rng.normal(0.5, 1, 30)}
    exact, twin = win_shares(values), resampled(values, 40_000, rng)
    for batch_size in values:
        assert exact[batch_size] == pytest.approx(twin[batch_size], abs=0.012)


@pytest.mark.parametrize(("n_studies", "most"), [(2, 0.2), (5, 0.05)])
def test_equal_studies_rarely_have_a_clear_winner(n_studies: int, most: float) -> None:
    rng = np.random.default_rng(2)
    named = [max(win_shares({b: rng.normal(0, 1, 20) for b in range(n_studies)}).values()) >= CLEAR for _ in range(200)]
    assert np.mean(named) <= most


def test_equal_values_share() -> None:
    shares = win_shares({8: np.ones(5), 16: np.ones(5), 32: np.full(5, 2.0)})
    assert shares == pytest.approx({8: 0.5, 16: 0.5, 32: 0.0})


@pytest.mark.parametrize("values", [{}, {8: np.ones(5)}, {8: np.ones(5), 16: np.ones(2)}], ids=["none", "one", "few"])
def test_too_little_says_nothing(values: dict[int, np.ndarray]) -> None:
    assert win_shares(values) == {}


@given(st.lists(st.lists(st.floats(-5, 5), min_size=3, max_size=9), min_size=2, max_size=4))
def test_shares_sum_to_one(values: list[list[float]]) -> None:
    shares = win_shares({2**k: np.array(mine) for k, mine in enumerate(values)})
    assert sum(shares.values()) == pytest.approx(1)
    assert all(-1e-12 <= share <= 1 + 1e-12 for share in shares.values())


def test_of_thousands_of_trials_those_that_are_never_best_change_nothing() -> None:
    rng = np.random.default_rng(3)
    values = {b: rng.normal(0.001 * b, 1, 3000) for b in range(4)}
    m = 1500
    whole = {}
    for b, mine in values.items():
        mine = np.sort(mine)
        tail = ((len(mine) - np.arange(len(mine) + 1)) / len(mine)) ** m
        worse = [(1 - np.searchsorted(np.sort(v), mine) / len(v)) ** m for other, v in values.items() if other != b]
        whole[b] = float(((tail[:-1] - tail[1:]) * np.prod(worse, axis=0)).sum())
    total = sum(whole.values())
    assert win_shares(values) == pytest.approx({b: share / total for b, share in whole.items()}, abs=1e-12)


TARGET = Target.model_validate("loss < 1")


def study(best: float, status: Status = Status.COVERED, unfinished: bool = False, n: int = 10) -> Compared:
    return Compared(status, np.asarray(best + 0.01 * np.arange(n)), unfinished, n_reached=2 * TARGET.reached(best))


FIRST, STOPPED = study(2.0), study(0.9, Status.STOPPED)
CUT, NOT_AS_FAR = study(3.0, Status.CUT, unfinished=True), study(3.0, Status.MISSING)
STOP = "batch sizes 8, 16 reach loss < 1 and stop there; which is best is not known."
SO_FAR = "batch size 8 is best so far, but trials at 32 ended before."
BEST = "batch size 8 is best (in 100% of resamples of the trials)."
VERDICTS: dict[str, tuple[dict[int, Compared], int | None, int | None, str]] = {
    "a clear winner": ({8: FIRST, 16: study(3.0)}, 8, 8, BEST),
    "a lead within the spread of the trials": (
        *({8: FIRST, 16: study(2.001), 32: study(5.0)}, None, 8),
        "there is no clear winner among the batch sizes 8, 16.",
    ),
    "reaching beats not reaching": ({8: STOPPED, 16: study(1.01)}, 8, 8, "only batch size 8 reaches loss < 1."),
    "one trial that reaches may be luck": (
        *({8: replace(STOPPED, n_reached=1), 64: study(1.5)}, None, 8),
        "only batch size 8 reaches loss < 1, in one trial: that may be luck.",
    ),
    "two that stopped": ({8: STOPPED, 16: study(0.2, Status.STOPPED), 32: FIRST}, None, None, STOP),
    "one that reached with the last step": ({8: STOPPED, 16: study(0.95)}, None, None, STOP),
    "beside training that ended before": ({8: FIRST, 16: study(2.5), 32: CUT}, None, 8, SO_FAR),
    "beside one that was not trained as far": ({8: FIRST, 16: study(2.5), 32: NOT_AS_FAR}, None, 8, SO_FAR),
    "only reached, beside training that ended before": (
        *({8: STOPPED, 16: CUT}, None, None),
        "batch size 8 reaches loss < 1 and stops there; which is best is not known. 16 were not trained as far.",
    ),
    "trials that were stopped for being behind": ({8: FIRST, 16: study(3.0, Status.CUT)}, 8, 8, BEST),
    "few trials": (
        *({8: study(2.0, n=2), 16: study(3.0)}, None, 8),
        "batch size 8 is best, but with fewer than 3 trials that may be luck.",
    ),
    "one study": (
        *({8: FIRST, 16: NOT_AS_FAR}, None, None),
        "there is nothing to compare: fewer than two batch sizes were trained as far.",
    ),
}


def on(studies: dict[int, Compared], metric: str = "loss") -> BudgetVerdict:
    return verdict_on(Resource.STEPS, 100.0, "examples", studies, TARGET, metric)


@pytest.mark.parametrize(("studies", "winner", "leader", "said"), VERDICTS.values(), ids=VERDICTS)
def test_who_wins_within_a_budget(
    studies: dict[int, Compared], winner: int | None, leader: int | None, said: str
) -> None:
    found = on(studies)
    assert (found.winner, found.leader, found.sentence) == (winner, leader, f"Within 100 steps {said}")


def test_of_another_metric_only_those_that_stopped_at_the_target_are_named_and_none_wins() -> None:
    found = on({8: STOPPED, 16: study(3.0)}, "accuracy")
    wanted = "batch size 8 reaches loss < 1 and stops there; which has the best accuracy is not known."
    assert (found.winner, found.sentence) == (None, f"Within 100 steps {wanted}")


def tables(
    path: Path, runs: dict[str, Made], steps: list[float], target: str = "loss < 0.0001", **more: object
) -> BudgetTables:
    sizes = sorted({run.batch_size for run in runs.values()})
    folder = write_run(path / "run", experiment(sizes, target, **more), runs, parts=2)
    return within(Run(folder), {Resource.STEPS: tuple(steps)})


def falling(batch_size: int, scale: float, until: int = 100) -> Made:
    """Loss scale / step: more examples a step are better at equal steps, worse at equal examples."""
    return Made(batch_size, [(s, scale / s / batch_size**0.5) for s in range(1, until + 1)])


def cell(found: BudgetTables, batch_size: int, budget: float) -> dict[str, object]:
    rows = found.cells[(found.cells["batch_size"] == batch_size) & (found.cells["budget"] == budget)]
    return dict(rows.iloc[0])


def test_full_curves_give_full_tables_and_the_textbook_winners(tmp_path: Path) -> None:
    runs = {f"b{b}-{n}": falling(b, 1 + 0.1 * n) for b in (4, 16, 64) for n in range(4)}
    folder = write_run(tmp_path / "run", experiment([4, 16, 64], "loss < 0.0001"), runs)
    found = within(Run(folder), {Resource.STEPS: (100.0,), Resource.EXAMPLES: (400.0,)})
    assert set(found.cells["status"]) == {"covered"}
    steps, examples = found.verdicts
    assert (steps.winner, examples.winner) == (64, 4)  # fixed steps favour large batches, fixed examples small ones
    assert cell(found, 64, 100)["value"] == pytest.approx(1 / 100 / 8)
    assert cell(found, 64, 400)["value"] == pytest.approx(1 / 6 / 8)  # 6 steps of 64 are 384 examples
    assert cell(found, 64, 400)["best_trial"] == "b64-0"
    assert found.notes == ()


def test_a_budget_is_shown_only_where_trials_could_use_it(tmp_path: Path) -> None:
    runs = {f"b{b}-{n}": falling(b, 1 + 0.1 * n, until=40 if b == 64 else 100) for b in (4, 16, 64) for n in range(4)}
    found = tables(tmp_path, runs, [40, 41])
    assert (cell(found, 64, 40)["status"], cell(found, 64, 41)["status"]) == ("covered", "missing")
    assert [verdict.winner for verdict in found.verdicts] == [64, None]
    assert "trials at 64 ended before" in found.verdicts[1].sentence
    assert math.isnan(float(str(cell(found, 64, 41)["value"])))


def test_beyond_the_target_nothing_is_invented(tmp_path: Path) -> None:
    spec = experiment([4, 16, 64], "loss < 0.01")
    runs = {f"b{b}-{n}": Made(b, cut(list(falling(b, 1 + 0.1 * n).curve), spec)) for b in (4, 16, 64) for n in range(3)}
    found = tables(tmp_path, runs, [10, 20, 40], "loss < 0.01")
    status = {budget: [cell(found, b, budget)["status"] for b in (4, 16, 64)] for budget in (10, 20, 40)}
    assert status == {10: ["covered"] * 3, 20: ["covered", "covered", "stopped"], 40: ["covered", "stopped", "stopped"]}
    assert [verdict.winner for verdict in found.verdicts] == [64, 64, None]
    assert "only batch size 64 reaches loss < 0.01" in found.verdicts[1].sentence
    assert "16, 64 reach loss < 0.01 and stop there" in found.verdicts[2].sentence
    assert any("Trials stop when they reach the run's target" in note for note in found.notes)


def test_pruned_trials_mark_the_cell_and_do_not_block_the_verdict(tmp_path: Path) -> None:
    runs = {f"b{b}-{n}": falling(b, 1 + 0.1 * n) for b in (4, 64) for n in range(4)}
    pruned = falling(64, 3, until=10)
    runs["b64-pruned"] = Made(64, pruned.curve, "pruned")
    found = tables(tmp_path, runs, [100])
    assert (cell(found, 64, 100)["status"], cell(found, 64, 100)["n_cut"]) == ("cut", 1)
    assert found.verdicts[0].winner == 64


def test_a_trial_that_diverged_later_counts_before_and_an_imported_one_does_not(tmp_path: Path) -> None:
    runs = {f"b{b}-{n}": falling(b, 2 + 0.1 * n) for b in (4, 16) for n in range(3)}
    runs["b4-wild"] = Made(4, [*falling(4, 0.1, until=50).curve, (51, 99.0)], "diverged")
    found = tables(tmp_path / "own", runs, [50, 100])
    assert (cell(found, 4, 50)["best_trial"], cell(found, 4, 100)["best_trial"]) == ("b4-wild", "b4-0")
    imported = tables(tmp_path / "imported", runs, [50], imported={"format": "x", "source": "y"})
    assert cell(imported, 4, 50)["best_trial"] == "b4-0"


def test_a_study_without_search_shows_its_seeds(tmp_path: Path) -> None:
    runs = {f"b{b}-{n}": Made(b, falling(b, 1 + 0.1 * n).curve, repeats="p") for b in (4, 16) for n in range(3)}
    assert tables(tmp_path, runs, [50]).verdicts[0].winner == 16


def test_a_metric_to_be_maximised_is_best_where_it_is_largest(tmp_path: Path) -> None:
    runs = {
        f"b{b}-{n}": Made(b, [(s, 1 - v) for s, v in falling(b, 1 + 0.1 * n).curve]) for b in (4, 64) for n in range(3)
    }
    found = tables(tmp_path, runs, [50], "accuracy > 0.9999")
    assert found.verdicts[0].winner == 64 and cell(found, 64, 50)["value"] == pytest.approx(1 - 1 / 50 / 8)


def test_of_another_metric_the_studies_that_reached_are_those_that_did(tmp_path: Path) -> None:
    spec = experiment([16, 64], "loss < 0.01")
    runs = {f"b64-{n}": Made(64, cut(list(falling(64, 1 + 0.1 * n).curve), spec)) for n in range(3)}
    runs |= {f"b16-{n}": falling(16, 9 + n) for n in range(3)}
    folder = write_run(tmp_path / "run", spec, runs)
    rows = folder.read(MEASUREMENTS).to_pylist()
    folder.append(
        MEASUREMENTS, [row | {"loss": None, "error": row["loss"], "step": row["step"] + 1000} for row in rows], 1
    )
    trials = folder.read(TRIALS).to_pandas()
    trials[["steps", "steps_to_target"]] += 1000
    error = Target.model_validate("error < 0.001")
    _, best = measured(folder, trials, error, [error], {Resource.STEPS: (1050.0,)})
    found = budget_tables(trials, spec.model_copy(update={"target": error}), best, spec.target).verdicts[0]
    assert found.winner is None
    assert "batch size 64 reaches loss < 0.01 and stops there; which has the best error is not known" in found.sentence
