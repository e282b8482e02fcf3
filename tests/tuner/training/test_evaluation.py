"""The coarse grid of search trials: points of the fine one, and nothing that a recorded curve would not show."""

import random
from bisect import bisect_left
from collections.abc import Mapping, Sequence
from itertools import pairwise

import pytest

from bcrit.search_spaces.outcome import Outcome
from bcrit.search_spaces.target import Crossing, Direction, Target
from bcrit.tuner.training.evaluation import (
    at_or_after,
    coarse_at_or_after,
    evaluation_steps,
    is_near,
    next_coarse_evaluation,
)
from bcrit.tuner.training.settings import Settings
from bcrit.tuner.training.trial import Ending, Limits, Measurement, Trial
from bcrit.tuner.workloads.digits import DigitsMLP

TARGET = Target(metric="loss", threshold=0.2, direction=Direction.MINIMIZE)
RESOLUTION = 0.02
Curve = list[tuple[int, float]]


class Noisy:
    """A loss that falls as a power of the step from 2.3, measured with noise; its curve is its number's alone."""

    def __init__(self, number: int) -> None:
        draw = random.Random(number)
        self._power, self._scale, self._noise = draw.uniform(0.5, 2), draw.uniform(1, 40), draw.choice([0, 0.05, 0.2])
        self._number, self.step = number, 0

    def train(self, steps: int) -> None:
        self.step += steps

    def evaluate(self) -> Mapping[str, float]:
        draw = random.Random(f"{self._number} {self.step}")
        loss = 2.3 * (1 + self.step / self._scale) ** -self._power
        return {"loss": loss * (1 + self._noise * draw.uniform(-1, 1))}


def ran(number: int, limits: Limits) -> tuple[Ending, Curve]:
    trial = Trial(lambda: Noisy(number), TARGET, limits)
    made: list[Measurement] = []
    while trial.ending is None:
        made += trial.advance(60)
    return trial.ending, [(m.step, m.metrics["loss"]) for m in made]


def coarse_grid(last: int, resolution: float = RESOLUTION) -> list[int]:
    grid = [0]
    while grid[-1] < last:
        grid.append(next_coarse_evaluation(grid[-1], resolution))
    return grid


@pytest.mark.parametrize("resolution", [0.005, 0.02, 0.05, 0.15, 0.2, 0.3, 0.5])
def test_the_coarse_grid_keeps_points_of_the_fine_one_a_fifth_apart(resolution: float) -> None:
    coarse = coarse_grid(10_000, resolution)
    fine = list(evaluation_steps(coarse[-1], resolution))
    assert set(coarse) <= set(fine)
    if resolution >= 0.2:
        assert coarse == fine
    for a, b in pairwise(coarse):
        assert b == fine[bisect_left(fine, a + max(1, int(0.2 * a)))]


@pytest.mark.parametrize("step", [0, 0.5, 7, 50.5, 1234.5])
def test_limits_stand_on_the_coarse_grid(step: float) -> None:
    found = coarse_at_or_after(step, RESOLUTION)
    assert found == min(point for point in coarse_grid(2000) if point >= step) >= at_or_after(step, RESOLUTION)


@pytest.mark.parametrize(
    ("target", "first", "best", "near"),
    [
        ("loss < 0.2", 2.3, 0.46, False),
        ("loss < 0.2", 2.3, 0.4, True),
        ("loss < 0.2", 2.3, 0.1, True),
        ("loss < 0.2", 0.1, 0.1, True),
        ("loss < 0.2", 0.2, 0.2, True),
        ("accuracy > 0.9", 0.1, 0.8, False),
        ("accuracy > 0.9", 0.1, 0.83, True),
        ("accuracy > 0.9", 0.95, 0.95, True),
        ("return > 0", -5.0, -1.0, False),
        ("return > 0", -5.0, -0.5, True),
    ],
)
def test_near_is_a_tenth_of_the_way_in_either_direction(target: str, first: float, best: float, near: bool) -> None:
    assert is_near(Target.model_validate(target), first, best) is near


def test_a_search_trial_is_evaluated_on_the_coarse_grid_until_it_is_near_and_then_on_the_fine_one() -> None:
    fine = list(evaluation_steps(3000, RESOLUTION))
    saved = 0
    for number in range(40):
        _, curve = ran(number, Limits(3000, False, (), RESOLUTION, coarse=True))
        steps, best = [step for step, _ in curve], curve[0][1]
        for (step, value), (following, _) in pairwise(curve):
            best = min(best, value)
            near = is_near(TARGET, curve[0][1], best)
            expected = fine[fine.index(step) + 1] if near else next_coarse_evaluation(step, RESOLUTION)
            assert following == min(expected, 3000)
        saved += len([s for s in fine if s <= steps[-1]]) - len(steps)
    assert saved > 40 * 20  # or the coarse grid were no saving at all


def test_what_is_measured_and_where_the_target_is_crossed_are_those_of_the_fine_grid() -> None:
    moved = reached = 0
    for number in range(200):
        fine, fine_curve = ran(number, Limits(3000, False, (), RESOLUTION))
        coarse, curve = ran(number, Limits(3000, False, (), RESOLUTION, coarse=True))
        values = dict(fine_curve)
        assert all(values.get(step, value) == value for step, value in curve)
        assert coarse.crossing == TARGET.first_crossing(curve)  # honest also where it moved
        reached += fine.crossing is not None
        moved += fine.crossing != coarse.crossing
    assert reached > 100 and moved <= 0.02 * reached


def replayed(curve: Curve, limits: Limits) -> tuple[Outcome, int, Crossing | None, Curve]:
    """What a trial with these limits would have been, read off the curve of one that had none."""
    last, best = 0, curve[0][1]
    for i, (step, value) in enumerate(curve):
        best = min(best, value)
        if TARGET.crosses(step, value):
            return Outcome.REACHED, step, Crossing(step, last), curve[: i + 1]
        for rung, cutoff in limits.rungs:
            if last < rung <= step and best > cutoff:
                return Outcome.PRUNED, step, None, curve[: i + 1]
        if step >= limits.max_steps:
            return limits.at_horizon, step, None, curve[: i + 1]
        last = step
    raise AssertionError("the curve is shorter than the limits")


def test_a_recorded_curve_shows_what_the_trial_would_have_done_under_tighter_limits() -> None:
    draw, outcomes = random.Random(0), set()
    grid = [step for step in coarse_grid(1000) if 5 < step < 1000]
    for number in range(100):
        _, curve = ran(number, Limits(1000, False, (), RESOLUTION, coarse=True))
        *rungs, cap = sorted(draw.sample(grid, 3))
        limits = Limits(cap, True, tuple((rung, draw.uniform(0.1, 2.5)) for rung in rungs), RESOLUTION, coarse=True)
        ending, shorter = ran(number, limits)
        assert (ending.outcome, ending.steps, ending.crossing, shorter) == replayed(curve, limits)
        outcomes.add(ending.outcome)
    assert outcomes == {Outcome.REACHED, Outcome.PRUNED, Outcome.CAPPED}


def losses(made: Sequence[Measurement]) -> dict[int, Mapping[str, float]]:
    return {m.step: m.metrics for m in made}


def test_a_network_gives_the_same_bits_at_the_points_that_both_grids_have() -> None:
    target, workload = Target.model_validate("val_loss < 0.2"), DigitsMLP()
    settings = Settings(64, 5, "momentum", {"lr": 0.1, "momentum": 0.5})
    fine, coarse = (
        Trial(lambda: workload.begin(settings), target, Limits(400, False, (), RESOLUTION, coarse=coarse))
        for coarse in (False, True)
    )
    every, some = losses(fine.advance(600)), losses(coarse.advance(600))
    assert set(some) < set(every) and all(every[step] == metrics for step, metrics in some.items())
    assert fine.ending is not None and coarse.ending is not None
    assert fine.ending.crossing == coarse.ending.crossing is not None
