"""Trials that go on beyond the target: of the search under the rule `full`, re-runs where `confirm` says so."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pytest

from bcrit.search_spaces.load import parse_experiment
from bcrit.search_spaces.outcome import Outcome, Stage
from bcrit.search_spaces.target import Direction, Target
from bcrit.tuner.training.trial import Ending, Limits, Trial
from tests.scripted import ExactHyperbola
from tests.simulate import simulate

TARGET = Target(metric="loss", threshold=1.0, direction=Direction.MINIMIZE)
STOPPING = Limits(max_steps=40, capped=False, rungs=(), resolution=0.1)

DATA: dict[str, Any] = {
    "workload": "tests.scripted:ExactHyperbola",
    "batch_sizes": [8, 64],
    "target": "loss < 1",
    "space": {"lr": "log from 0.001 to 10", "momentum": "reverse_log from 0 to 0.99"},
    "budget": {"steps": 500, "examples": 10_000},
    "search": {"protocol": "sobol", "trials": 8},
    "confirm": {"points": 1, "seeds": 2},
    "boundary": {"max_rounds": 0},
}


class Scripted:
    """Falls to 0.5 at step 10, rises to 1.5 at step 20, and then is what the script says."""

    def __init__(self, later: float | Exception) -> None:
        self.later, self.step = later, 0

    def train(self, steps: int) -> None:
        self.step += steps

    def evaluate(self) -> Mapping[str, float]:
        if self.step < 30:
            return {"loss": 5.0 if self.step < 10 else 0.5 if self.step < 20 else 1.5}
        if isinstance(self.later, Exception):
            raise self.later
        return {"loss": self.later}


def ending(later: float | Exception, limits: Limits) -> Ending:
    trial = Trial(lambda: Scripted(later), TARGET, limits)
    while trial.ending is None:
        trial.advance(0)
    return trial.ending


@pytest.mark.parametrize(
    ("later", "steps", "best"),
    [(0.1, 40, 0.1), (float("nan"), 30, 0.5), (1e9, 30, 0.5), (RuntimeError("disk"), 30, 0.5)],
    ids=["trains on", "nan", "diverges", "raises"],
)
def test_what_comes_after_the_target_does_not_undo_it(later: float | Exception, steps: int, best: float) -> None:
    stopped, whole = ending(later, STOPPING), ending(later, replace(STOPPING, stop_at_target=False))
    assert stopped.outcome is whole.outcome is Outcome.REACHED
    assert stopped.crossing == whole.crossing and stopped.steps == 10
    assert whole.best_value == best
    assert steps <= whole.steps < steps + 4  # the evaluation grid


def test_search_trials_train_their_whole_budget_and_re_runs_stop_at_the_target() -> None:
    runs = {}
    for rule in ("none", "full"):
        spec = parse_experiment({**DATA, "search": {**DATA["search"], "stopping": rule}}, "x")
        runs[rule] = simulate(spec, ExactHyperbola(s_min=50, b_crit=64))
        for batch_size, records in runs[rule].items():
            for r in records:
                reached = r.steps_to_target is not None
                whole = r.steps == r.max_steps
                assert r.outcome is (Outcome.REACHED if reached else Outcome.EXHAUSTED) or not r.outcome.feasible
                if rule == "full" and r.stage is Stage.SEARCH and r.outcome.feasible:
                    assert whole and r.max_steps == spec.budget.max_steps(batch_size)
                if reached and (rule == "none" or r.stage is Stage.CONFIRM):
                    assert r.steps == r.steps_to_target
    for batch_size in (8, 64):
        crossings = [[r.steps_to_target for r in runs[rule][batch_size]] for rule in runs]
        assert crossings[0] == crossings[1] and any(crossings[0])


def test_re_runs_train_to_their_horizon_where_confirm_says_so_and_cross_where_they_did() -> None:
    crossings = []
    for beyond in (False, True):
        confirm = {"points": 1, "seeds": 2, "horizon": 1, "beyond_target": beyond}
        spec = parse_experiment({**DATA, "confirm": confirm}, "x")
        made = simulate(spec, ExactHyperbola(s_min=50, b_crit=64))
        again = [r for records in made.values() for r in records if r.stage is Stage.CONFIRM]
        assert len(again) == 4 and all(r.outcome is Outcome.REACHED for r in again)
        ends = [spec.budget.max_steps(r.batch_size) if beyond else r.steps_to_target for r in again]
        assert [r.steps for r in again] == ends
        crossings.append([r.steps_to_target for r in again])
    assert crossings[0] == crossings[1]
