"""The formulas of the schedules, and the grids of evaluations."""

import math
import random
import warnings
from bisect import bisect_left
from collections.abc import Callable, Mapping, Sequence
from itertools import pairwise

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from bcrit.search_spaces.dimensions import Value
from bcrit.search_spaces.outcome import Outcome
from bcrit.search_spaces.presets import SCHEDULES, WARMUP
from bcrit.search_spaces.target import Crossing, Direction, Target
from bcrit.tuner.training.settings import (
    DECAYS,
    Settings,
    at_or_after,
    evaluation_steps,
    is_near,
    learning_rate,
    next_evaluation,
)
from bcrit.tuner.training.trial import Ending, Limits, Measurement, Trial
from bcrit.tuner.workloads.digits import DigitsMLP

# Every schedule's own parameters, at values that tell them apart.
OWN: dict[str, dict[str, Value]] = {
    "constant": {},
    "linear": {"end_factor": 0.2, "decay_steps": 100},
    "cosine": {"end_factor": 0.2, "decay_steps": 100},
    "step": {"drop_factor": 0.1, "drops": 3, "first_drop": 0.5, "decay_steps": 100},
    "wsd": {"stable_share": 0.8, "end_factor": 0.2, "decay_steps": 100},
}


def test_every_schedule_of_the_presets_has_a_formula_and_no_other() -> None:
    assert {"constant", *DECAYS} == set(SCHEDULES) == set(OWN)


@pytest.mark.parametrize("schedule", OWN)
def test_the_presets_name_the_parameters_that_a_formula_reads(schedule: str) -> None:
    shares = {"decay_steps": "decay_fraction"}
    assert {shares.get(name, name) for name in OWN[schedule]} == set(SCHEDULES[schedule]) - set(WARMUP)


@pytest.mark.parametrize(
    ("schedule", "rates"),
    [
        ("constant", {1000: 0.5}),
        ("linear", {0: 0.5, 25: 0.5 - 0.8 * 0.5 * 0.25, 100: 0.1, 1000: 0.1}),
        ("cosine", {0: 0.5, 25: 0.5 * (0.2 + 0.8 * (1 + math.cos(math.pi / 4)) / 2), 50: 0.3, 100: 0.1, 1000: 0.1}),
        ("step", {49: 0.5, 50: 0.05, 74: 0.05, 75: 0.005, 100: 0.0005, 1000: 0.0005}),
        ("wsd", {80: 0.5, 90: 0.3, 100: 0.1, 1000: 0.1}),
    ],
)
def test_the_rate_is_the_published_formula(schedule: str, rates: dict[int, float]) -> None:
    hyperparameters: dict[str, Value] = {"lr": 0.5, "schedule": schedule, **OWN[schedule]}
    assert {step: learning_rate(hyperparameters, step) for step in rates} == pytest.approx(rates, rel=1e-14)


@pytest.mark.parametrize("schedule", OWN)
def test_a_warm_up_rises_in_equal_parts_and_the_schedule_begins_after_it(schedule: str) -> None:
    hyperparameters: dict[str, Value] = {"lr": 0.5, "schedule": schedule, **OWN[schedule]}
    warm = {**hyperparameters, "warmup_steps": 4}
    rates = [learning_rate(warm, step) for step in range(200)]
    assert rates[:5] == pytest.approx([0.1, 0.2, 0.3, 0.4, 0.5], rel=1e-14)
    assert rates[4:] == [learning_rate(hyperparameters, step) for step in range(196)]
    assert learning_rate({**warm, "warmup_steps": 0}, 7) == learning_rate(hyperparameters, 7)


def torch_rates(
    make: Callable[[torch.optim.Optimizer], torch.optim.lr_scheduler.LRScheduler], steps: int
) -> list[float]:
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=0.5)
    scheduler = make(optimizer)
    rates = []
    for _ in range(steps):
        rates.append(float(optimizer.param_groups[0]["lr"]))
        optimizer.step()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # SequentialLR calls its own deprecated interface
            scheduler.step()
    return rates


L = torch.optim.lr_scheduler
TWINS: dict[str, tuple[Callable[[torch.optim.Optimizer], torch.optim.lr_scheduler.LRScheduler], int]] = {
    "constant": (lambda o: L.ConstantLR(o, factor=1.0, total_iters=1), 0),
    "linear": (lambda o: L.LinearLR(o, 1.0, 0.2, total_iters=100), 0),
    "cosine": (lambda o: L.CosineAnnealingLR(o, 100, eta_min=0.1), 0),
    "step": (lambda o: L.MultiStepLR(o, [50, 75, 100], gamma=0.1), 0),
    "wsd": (lambda o: L.SequentialLR(o, [L.ConstantLR(o, 1.0, 1), L.LinearLR(o, 1.0, 0.2, 20)], [80]), 0),
    "linear after a warm-up": (
        lambda o: L.SequentialLR(o, [L.LinearLR(o, 1 / 10, 1.0, 9), L.LinearLR(o, 1.0, 0.2, 100)], [9]),
        9,
    ),
}


@pytest.mark.parametrize("name", TWINS)
def test_the_rates_are_those_of_pytorch_s_schedulers(name: str) -> None:
    schedule, (twin, warmup) = name.split()[0], TWINS[name]
    hyperparameters: dict[str, Value] = {"lr": 0.5, "schedule": schedule, **OWN[schedule], "warmup_steps": warmup}
    steps = 101 if schedule == "cosine" else 130  # beyond its end PyTorch's cosine rises again; ours stays
    ours = [learning_rate(hyperparameters, step) for step in range(steps)]
    assert ours == pytest.approx(torch_rates(twin, steps), rel=1e-9)


@given(drops=st.integers(1, 6), first=st.floats(0, 1), decay_steps=st.integers(1, 1000), step=st.integers(0, 1500))
def test_drops_are_counted_one_by_one(drops: int, first: float, decay_steps: int, step: int) -> None:
    hyperparameters: dict[str, Value] = {"lr": 1.0, "schedule": "step", "drop_factor": 0.5, "decay_steps": decay_steps}
    rate = learning_rate({**hyperparameters, "drops": drops, "first_drop": first}, step)
    places = [decay_steps] if drops == 1 else torch.linspace(first, 1, drops, dtype=torch.float64) * decay_steps
    made = sum(1 for place in places if step >= float(place) + 0.51)
    made_at_most = sum(1 for place in places if step >= float(place) - 0.51)
    assert 0.5**made_at_most <= rate <= 0.5**made
    assert math.log2(rate) == round(math.log2(rate))


@given(
    schedule=st.sampled_from(sorted(DECAYS)),
    lr=st.floats(1e-6, 1e3),
    end_factor=st.floats(0, 1),
    decay_steps=st.integers(1, 10_000),
    share=st.floats(0, 0.99),
    step=st.integers(0, 20_000),
)
def test_the_rate_never_rises_nor_leaves_its_ends(
    schedule: str, lr: float, end_factor: float, decay_steps: int, share: float, step: int
) -> None:
    hyperparameters: dict[str, Value] = {"lr": lr, "schedule": schedule, "end_factor": end_factor}
    hyperparameters |= {"decay_steps": decay_steps, "stable_share": share}
    hyperparameters |= {"drops": 1, "first_drop": share, "drop_factor": end_factor}
    now, later = learning_rate(hyperparameters, step), learning_rate(hyperparameters, step + 1)
    slack = 1e-15 * lr
    assert end_factor * lr - slack <= later <= now + slack
    assert now <= lr
    assert learning_rate(hyperparameters, decay_steps) == pytest.approx(end_factor * lr, abs=slack)


def test_an_unknown_schedule_is_refused_with_the_known_ones() -> None:
    with pytest.raises(ValueError, match=r"no schedule 'stairs'; choose one of constant, linear, cosine, step, wsd"):
        learning_rate({"lr": 0.1, "schedule": "stairs"}, 0)


@pytest.mark.parametrize("resolution", [0.01, 0.02, 0.2])
@pytest.mark.parametrize("max_steps", [1, 49, 50, 1234])
def test_the_evaluation_grid_resolves_every_crossing(resolution: float, max_steps: int) -> None:
    grid = list(evaluation_steps(max_steps, resolution))
    assert grid[0] == 0 and grid[-1] == max_steps
    assert all(0 < b - a <= max(1, resolution * b) for a, b in zip(grid, grid[1:], strict=False))


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
        grid.append(next_evaluation(grid[-1], resolution, coarse=True))
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
    found = at_or_after(step, RESOLUTION, coarse=True)
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
            expected = fine[fine.index(step) + 1] if near else next_evaluation(step, RESOLUTION, coarse=True)
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
