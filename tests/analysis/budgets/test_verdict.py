"""Who wins under one budget, and when nobody does."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from bcrit.analysis.budgets.resources import Resource
from bcrit.analysis.budgets.verdict import BudgetVerdict, Compared, Status, verdict_on
from bcrit.search_spaces.target import Target

ASKED = BudgetVerdict(Resource.STEPS, 100.0, None, None, None, "100 steps")
TARGET = Target.model_validate("loss < 1")


def study(best: float, status: Status = Status.COVERED, unfinished: bool = False, n: int = 10) -> Compared:
    return Compared(status, np.asarray(best + 0.01 * np.arange(n)), unfinished, n_reached=2 * TARGET.reached(best))


def judged(**studies: Compared) -> BudgetVerdict:
    return verdict_on(ASKED, {int(name[1:]): mine for name, mine in studies.items()}, TARGET, "loss")[0]


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
    found, _ = verdict_on(ASKED, studies, TARGET, "accuracy")
    assert found.winner is None
    wanted = "batch size 8 reaches loss < 1 and stops there; which has the best accuracy is not known."
    assert found.sentence == f"Within 100 steps {wanted}"
