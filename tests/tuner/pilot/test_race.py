"""Learning rates race to the target: the first wins, the slow stop early, nothing is trained twice."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import pytest

from bcrit.analysis.questions.pilot.answer import Tried
from bcrit.search_spaces.outcome import Outcome
from bcrit.search_spaces.target import Target
from bcrit.tuner.pilot.race import race, winner

TARGET = Target.model_validate("loss < 0.1")
UP = Target.model_validate("score > 0.9")


@dataclass
class Scripted:
    """loss = 2^-(step / halving); a rate beyond 1 diverges."""

    lr: float
    halving: float
    made: int = 0

    def train(self, steps: int) -> None:
        self.made += steps

    def evaluate(self) -> Mapping[str, float]:
        loss = math.nan if self.lr > 1 and self.made else 2.0 ** (-self.made / self.halving)
        return {"loss": loss, "score": 1 - loss}


@dataclass
class Track:
    """Begins runs whose loss halves every 4 / lr steps, and counts what they train."""

    runs: list[Scripted] = field(default_factory=list)

    def __call__(self, lr: float) -> Callable[[], Scripted]:
        def begin() -> Scripted:
            self.runs.append(Scripted(lr, 4 / lr))
            return self.runs[-1]

        return begin

    @property
    def steps(self) -> int:
        return sum(run.made for run in self.runs)


RATES = (0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0)


@pytest.mark.parametrize("target", [TARGET, UP], ids=str)
def test_the_fastest_rate_wins_at_little_more_than_its_own_cost(target: Target) -> None:
    track = Track()
    tried = race(track, RATES, target, horizon=400, resolution=0.02)
    best = winner(tried, target)
    assert best is not None and best.lr == 1.0 and best.outcome is Outcome.REACHED
    assert best.steps_to_target == 14  # 4 log2(10) = 13.3
    assert [one.lr for one in tried] == list(RATES) and [one.steps for one in tried] == [r.made for r in track.runs]
    assert track.steps <= 9 * 14  # it is there before the first rung has halved the field


def test_each_rate_is_begun_once_and_the_worse_half_stops_at_each_rung() -> None:
    track = Track()
    tried = race(track, RATES[:6], TARGET, horizon=64, resolution=0.02)
    assert len(track.runs) == 6
    assert [one.steps for one in tried] == [2, 2, 2, 4, 27, 27]  # rungs at 2, 4, 8, 16, 32; two always stay


def test_without_the_target_the_best_goes_to_the_horizon() -> None:
    tried = race(Track(), RATES[:4], TARGET, horizon=40, resolution=0.02)
    best = winner(tried, TARGET)
    assert best is not None and (best.lr, best.outcome, best.steps) == (0.1, Outcome.EXHAUSTED, 40)
    assert best.steps_to_target is None and best.best_value == pytest.approx(0.5)


def test_where_everything_diverges_nothing_wins() -> None:
    tried = race(Track(), (2.0, 5.0), TARGET, horizon=40, resolution=0.02)
    assert winner(tried, TARGET) is None and all(one.outcome is Outcome.DIVERGED for one in tried)
    assert all(one.message == "loss became nan by step 1" for one in tried)


def test_an_error_of_the_training_code_is_an_outcome() -> None:
    def broken() -> Scripted:
        raise RuntimeError("no such layer")

    [one] = race(lambda lr: broken, (0.1,), TARGET, horizon=10, resolution=0.02)
    assert (one.outcome, one.message) == (Outcome.FAILED, "RuntimeError: no such layer")


def test_equal_steps_are_decided_by_the_metric() -> None:
    tried = [Tried(lr, Outcome.REACHED, None, 9, 9, value) for lr, value in ((0.1, 0.09), (0.2, 0.05))]
    best = winner(tried, TARGET)
    assert best is not None and best.lr == 0.2


def test_no_rates_are_no_race() -> None:
    assert race(Track(), (), TARGET, horizon=10, resolution=0.02) == ()
