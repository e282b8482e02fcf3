"""Who wins under one budget, when nobody does, and the tables of budgets on made-up runs."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from bcrit.analysis.budgets.tables import (
    BudgetTables,
    BudgetVerdict,
    Compared,
    Status,
    amount,
    budget_tables,
    verdict_on,
)
from bcrit.analysis.budgets.within import Resource
from bcrit.analysis.measured import measured
from bcrit.analysis.questions.budgets import within
from bcrit.analysis.run import Run
from bcrit.search_spaces.tables import MEASUREMENTS, TRIALS
from bcrit.search_spaces.target import Target
from tests.analysis.folders import Made, experiment, write_run
from tests.analysis.targets.test_grid import cut

TARGET = Target.model_validate("loss < 1")


def study(best: float, status: Status = Status.COVERED, unfinished: bool = False, n: int = 10) -> Compared:
    return Compared(status, np.asarray(best + 0.01 * np.arange(n)), unfinished, n_reached=2 * TARGET.reached(best))


def judged(**studies: Compared) -> BudgetVerdict:
    return on({int(name[1:]): mine for name, mine in studies.items()}, "loss")


def on(studies: dict[int, Compared], metric: str) -> BudgetVerdict:
    return verdict_on(Resource.STEPS, 100.0, "examples", studies, TARGET, metric)


def test_a_clear_winner_is_named_with_its_share() -> None:
    found = judged(b8=study(2.0), b16=study(3.0))
    assert (found.winner, found.leader, found.share) == (8, 8, 1.0)
    assert found.sentence == "Within 100 steps batch size 8 is best (in 100% of resamples of the trials)."


def test_a_lead_within_the_spread_of_the_trials_is_no_win() -> None:
    found = judged(b8=study(2.0), b16=study(2.001), b32=study(5.0))
    assert found.winner is None and found.leader == 8 and 0.5 < (found.share or 0) < 0.9
    assert found.sentence == "Within 100 steps there is no clear winner among the batch sizes 8, 16."


def test_reaching_the_target_beats_not_reaching_it() -> None:
    found = judged(b8=study(0.9, Status.STOPPED), b16=study(1.01))
    assert (found.winner, found.sentence) == (8, "Within 100 steps only batch size 8 reaches loss < 1.")


def test_one_trial_that_reaches_the_target_may_be_luck() -> None:
    lucky = replace(study(0.9, Status.STOPPED), n_reached=1)
    found = judged(b8=lucky, b64=study(1.5))
    assert (found.winner, found.leader) == (None, 8)
    assert "in one trial: that may be luck" in found.sentence


def test_two_that_stopped_at_the_target_cannot_be_told_apart() -> None:
    found = judged(b8=study(0.9, Status.STOPPED), b16=study(0.2, Status.STOPPED), b32=study(2.0))
    assert found.winner is None and "8, 16 reach loss < 1 and stop there; which is best is not known" in found.sentence


def test_a_study_that_reaches_with_the_last_step_of_the_budget_has_reached_too() -> None:
    found = judged(b8=study(0.9, Status.STOPPED), b16=study(0.95, Status.COVERED))
    assert found.winner is None


@pytest.mark.parametrize(
    "rival", [study(3.0, Status.CUT, unfinished=True), study(3.0, Status.MISSING)], ids=["unfinished", "not as far"]
)
def test_beside_a_study_whose_training_ended_before_there_is_no_winner(rival: Compared) -> None:
    found = judged(b8=study(2.0), b16=study(2.5), b32=rival)
    assert found.winner is None and found.leader == 8
    assert found.sentence == "Within 100 steps batch size 8 is best so far, but trials at 32 ended before."


def test_only_reached_is_no_win_beside_a_study_whose_training_ended_before() -> None:
    found = judged(b8=study(0.9, Status.STOPPED), b16=study(2.0, Status.CUT, unfinished=True))
    assert found.winner is None and "16 were not trained as far" in found.sentence


def test_trials_that_were_stopped_for_being_behind_do_not_matter() -> None:
    assert judged(b8=study(2.0), b16=study(3.0, Status.CUT)).winner == 8


def test_few_trials_may_be_luck() -> None:
    found = judged(b8=study(2.0, n=2), b16=study(3.0))
    assert found.winner is None and "fewer than 3 trials" in found.sentence


def test_one_study_is_nothing_to_compare() -> None:
    assert "nothing to compare" in judged(b8=study(2.0), b16=study(1.0, Status.MISSING)).sentence


def test_of_another_metric_only_those_that_stopped_at_the_target_are_named_and_none_wins() -> None:
    studies = {8: study(0.9, Status.STOPPED), 16: study(3.0)}
    found = on(studies, "accuracy")
    assert found.winner is None
    wanted = "batch size 8 reaches loss < 1 and stops there; which has the best accuracy is not known."
    assert found.sentence == f"Within 100 steps {wanted}"


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
    assert status == {
        10: ["covered"] * 3,
        20: ["covered", "covered", "stopped"],
        40: ["covered", "stopped", "stopped"],
    }
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


def test_the_tables_are_one_json_object_and_sentences(tmp_path: Path) -> None:
    runs = {f"b{b}-{n}": falling(b, 1 + 0.1 * n) for b in (4, 16) for n in range(3)}
    folder = write_run(tmp_path / "run", experiment([4, 16], "loss < 0.0001"), runs)
    found = Run(folder).budgets
    assert found is not None
    answer = json.loads(json.dumps(found.to_json(), allow_nan=False))
    assert [bool(answer[resource]) for resource in ("steps", "examples", "hours")] == [True] * 3
    assert {c["batch_size"] for c in answer["steps"][0]["cells"]} == {4, 16}
    assert len(found.sentences) == 3 and found.sentences[0].startswith("Steps: batch size 16 clearly wins under")


def test_amounts_are_read_by_people() -> None:
    assert amount(Resource.STEPS, 1100, "tokens") == "1,100 steps"
    assert amount(Resource.EXAMPLES, 1100, "tokens") == "1,100 tokens"
    assert amount(Resource.HOURS, 0.05, "tokens") == "3 min"
    assert all(status.sentence.endswith(".") for status in Status)


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
