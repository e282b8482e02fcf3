"""Rungs and the cap, decided from what is known."""

from collections.abc import Sequence

import pytest

from bcrit.search_spaces.options import Stopping
from bcrit.search_spaces.outcome import Outcome, Stage
from bcrit.search_spaces.target import Direction, Target
from bcrit.tuner.protocol.proposal import Proposal, TrialRecord
from bcrit.tuner.protocol.stopping import Stops
from bcrit.tuner.training.settings import at_or_after
from tests.tuner.protocol import records
from tests.tuner.protocol.records import TARGET

ASHA = Stopping()


def record(number: int, curve: list[tuple[int, float]], reached: bool = False, feasible: bool = True) -> TrialRecord:
    outcome = Outcome.REACHED if reached else Outcome.EXHAUSTED if feasible else Outcome.DIVERGED
    return records.record(number, outcome, curve[-1][0], curve)


def plan_stopping(
    known: Sequence[TrialRecord], budget_steps: int, stopping: Stopping, target: Target, resolution: float
) -> Proposal:
    stops = Stops(budget_steps, stopping, target, resolution)
    for each in known:
        stops.add(each)
    return stops.limited(Proposal("", 8, Stage.SEARCH, 0, 0, None, 0, {}, budget_steps, budget_steps))


def straight(number: int, slope: float, until: int, reached: bool = False) -> TrialRecord:
    return record(number, [(s, 10 - slope * s) for s in range(0, until + 1)], reached)


def test_without_any_trial_the_budget_is_the_only_limit() -> None:
    plan = plan_stopping([], 1000, ASHA, TARGET, 0.02)
    assert (plan.max_steps, plan.capped, plan.rungs) == (1000, False, ())


def test_the_cap_is_the_incumbent_with_slack_on_the_coarse_grid() -> None:
    plan = plan_stopping([straight(0, 0.1, 91, reached=True)], 1000, ASHA, TARGET, 0.02)
    assert plan.capped and 1.1 * 91 <= plan.max_steps <= 1.1 * 91 * 1.22
    assert plan.max_steps == at_or_after(plan.max_steps, 0.02, coarse=True)


def test_a_rung_needs_eta_trials_that_came_so_far() -> None:
    known = [straight(i, 0.01 * (i + 1), 1000) for i in range(2)]
    assert plan_stopping(known, 1000, ASHA, TARGET, 0.02).rungs == ()
    known.append(straight(2, 0.005, 1000))
    assert len(plan_stopping(known, 1000, ASHA, TARGET, 0.02).rungs) == 1


def test_the_first_rung_stands_at_the_grace_of_the_incumbent_and_cuts_at_the_best_third() -> None:
    known = [straight(0, 0.1, 91, reached=True), *(straight(i, 0.01 * i, 100) for i in range(1, 7))]
    (rung,) = plan_stopping(known, 1000, ASHA, TARGET, 0.02).rungs
    assert rung.step == at_or_after(0.45 * 91, 0.02, coarse=True)
    values = sorted(trial.best_until(rung.step, Direction.MINIMIZE) for trial in known)
    assert values[1] <= rung.cutoff <= values[2]


def test_diverged_trials_do_not_set_the_cutoff() -> None:
    known = [straight(i, 0.01, 1000) for i in range(3)]
    with_diverged = [*known, record(3, [(0, 1.5), (1000, 1.1)], feasible=False)]
    assert plan_stopping(known, 1000, ASHA, TARGET, 0.02) == plan_stopping(with_diverged, 1000, ASHA, TARGET, 0.02)


def test_a_maximised_metric_cuts_from_below() -> None:
    target = Target(metric="acc", threshold=0.99, direction=Direction.MAXIMIZE)
    known = [record(i, [(s, 0.001 * i * s / 1000) for s in range(0, 1001, 1)]) for i in range(6)]
    (rung,) = plan_stopping(known, 1000, ASHA, target, 0.02).rungs
    assert sum(trial.best_until(rung.step, Direction.MAXIMIZE) >= rung.cutoff for trial in known) == 2


@pytest.mark.parametrize(("rule", "capped", "rungs"), [("none", False, 0), ("cap", True, 0), ("asha", True, 1)])
def test_the_rules_are_options(rule: str, capped: bool, rungs: int) -> None:
    known = [straight(i, 0.1 - 0.01 * i, 91, reached=i == 0) for i in range(5)]
    plan = plan_stopping(known, 1000, Stopping.model_validate(rule), TARGET, 0.02)
    assert (plan.capped, len(plan.rungs)) == (capped, rungs)
