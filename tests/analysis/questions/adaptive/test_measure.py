"""The frontier and runs that obey the theory give its numbers back, and intervals hold what they should."""

import math
from dataclasses import replace

import numpy as np
import pytest

from bcrit.analysis.curve.other_curves import PNorm
from bcrit.analysis.questions.adaptive.measure import frontier, measure
from tests.analysis.questions.adaptive.made_up import E_MIN, GAMMA, S_MIN, SCHEDULES, SIZES, measured, run, runs


def test_without_scatter_gamma_is_the_theorys() -> None:
    found = measured(n_seeds=1, spread=0.0)
    for one in found.answers:
        if one.kind == "noise":
            assert one.gamma == pytest.approx(GAMMA, rel=2e-3)
            assert one.gamma_predicted == pytest.approx(GAMMA, rel=2e-3)
            assert one.gamma_fixed == pytest.approx(1.0, rel=2e-3)
            assert one.ratio == pytest.approx(one.ratio_predicted, rel=2e-3)
            assert not one.outside
    assert found.frontier.hyperbola.s_min == pytest.approx(1e6 * S_MIN, rel=1e-3)
    assert found.frontier.hyperbola.e_min == pytest.approx(1e6 * E_MIN, rel=1e-3)


def test_at_the_knee_steps_and_examples_fall_by_half_of_what_the_root_of_gamma_does() -> None:
    middle = next(one for one in measured(1, 0.0).answers if one.schedule == "r = 64")
    # S = s_min (1 + x) and E = e_min (1 + x) with x = sqrt(gamma), where the fixed one has twice both.
    assert middle.ratio == pytest.approx((1 + GAMMA**0.5) / 2, rel=1e-3)


def test_intervals_hold_the_truth_and_widen_with_the_scatter() -> None:
    narrow, wide = (measured(spread=spread) for spread in (0.01, 0.05))
    for found in (narrow, wide):
        for one in found.answers:
            if one.kind == "noise":
                assert one.ratio_low is not None and one.ratio_high is not None and one.ratio is not None
                assert one.ratio_low < one.ratio < one.ratio_high
    assert narrow.pooled["pooled_low"] is not None and narrow.pooled["pooled_high"] is not None
    truth = measured(1, 0.0).pooled["pooled"]
    assert truth is not None and narrow.pooled["pooled_low"] < truth < narrow.pooled["pooled_high"]
    spans = [found.pooled["pooled_high"] / found.pooled["pooled_low"] for found in (narrow, wide)]  # type: ignore[operator]
    assert spans[1] > 2 * spans[0] - 1


def test_the_interval_of_a_ratio_covers() -> None:
    truth = next(one.ratio for one in measured(1, 0.0).answers if one.schedule == "r = 64")
    inside, stream = 0, np.random.default_rng(3)
    few = tuple(one for one in SCHEDULES if one.schedule == "r = 64" or one.batch_size in (8, 32, 128, 512))
    clean = {one.schedule: run(one, 0) for one in few}
    for _ in range(40):
        made = []
        for one in few:
            for number in range(5):
                off = float(np.exp(0.05 * stream.standard_normal()))
                base = clean[one.schedule]
                steps, examples = round((base.steps or 0) * off), round((base.examples or 0) * off)
                made.append(replace(base, number=number, steps=steps, examples=examples))
        found = measure(few, made, 2.0)
        assert found is not None and truth is not None
        one = next(answer for answer in found.answers if answer.kind == "noise")
        assert one.ratio_low is not None and one.ratio_high is not None
        inside += one.ratio_low <= truth <= one.ratio_high
    assert inside >= 34  # of 40: 95 % less four standard errors


def test_what_the_seeds_explain_is_no_misfit() -> None:
    found = measured(spread=0.03)
    assert 0.0 <= found.misfit < found.frontier.scatter
    alone = measured(n_seeds=1, spread=0.03)
    assert alone.misfit == alone.frontier.scatter


def test_with_two_seeds_there_is_no_interval() -> None:
    one = next(answer for answer in measured(n_seeds=2).answers if answer.kind == "noise")
    assert one.ratio is not None and one.ratio_low is None and one.gamma_high is None


def test_a_seed_that_does_not_reach_takes_the_number_of_its_schedule_away() -> None:
    made = [
        replace(one, steps=None, examples=None) if (one.schedule, one.number) in (("r = 64", 2), ("B = 8", 0)) else one
        for one in runs()
    ]
    found = measure(SCHEDULES, made, 2.0)
    assert found is not None
    by_name = {one.schedule: one for one in found.answers}
    assert (by_name["r = 64"].n_reached, by_name["r = 64"].steps, by_name["r = 64"].ratio) == (4, None, None)
    assert by_name["B = 8"].steps is None and by_name["r = 16"].ratio is not None


def test_without_fixed_batch_sizes_that_reach_there_is_no_answer() -> None:
    made = [replace(one, steps=None, examples=None) for one in runs(1)]
    assert measure(SCHEDULES, made, 2.0) is None


def test_the_interval_is_the_jackknifes() -> None:
    """Three seeds; the naive twin leaves each out by hand."""
    made = runs(3)
    found, names = measure(SCHEDULES, made, 2.0), [one.schedule for one in SCHEDULES]
    place = names.index("r = 64")
    logs = []
    for out in range(3):
        rest = [replace(one, number=one.number) for one in made if one.number != out]
        without = measure(SCHEDULES, rest, 2.0)
        assert without is not None
        logs.append(math.log(without.answers[place].ratio or math.nan))
    error = math.sqrt(2 / 3 * sum((x - sum(logs) / 3) ** 2 for x in logs))
    assert found is not None
    one = found.answers[place]
    assert math.log((one.ratio_high or 0) / (one.ratio or 1)) == pytest.approx(4.302653 * error, rel=1e-6)


def test_on_a_hyperbola_fixed_batch_sizes_have_a_gamma_of_one() -> None:
    found = frontier({b: 50 + 5000 / b for b in SIZES})
    assert found is not None
    assert (found.hyperbola.s_min, found.hyperbola.e_min) == pytest.approx((50, 5000), rel=1e-6)
    assert found.gamma(100.0, 10_000.0) == pytest.approx(1.0)
    assert found.steps_at(100.0) == pytest.approx(100.0, rel=1e-4)
    assert found.scatter < 1e-6


def test_a_sharp_knee_is_followed() -> None:
    curve = PNorm(50.0, 100.0, 2.0, 0.0)
    found = frontier({b: float(curve.steps(b)) for b in SIZES})
    assert found is not None
    for batch_size in SIZES:
        assert found.steps_at(batch_size) == pytest.approx(float(curve.steps(batch_size)), rel=1e-3)
    at_the_knee = float(curve.steps(100))
    assert found.gamma(at_the_knee, 100 * at_the_knee) < 0.6  # by the hyperbola alone fixed sizes would seem to gain


def test_three_batch_sizes_have_the_hyperbola() -> None:
    found = frontier({b: 50 + 5000 / b for b in (16, 64, 256)})
    assert found is not None and found.knee is None
    assert found.steps_at(200) == pytest.approx(75)


@pytest.mark.parametrize(
    "steps",
    [{8: 100.0, 16: 60.0}, {8: 800.0, 16: 400.0, 32: 200.0, 64: 100.0}, {8: 50.0, 16: 50.0, 32: 50.0}],
    ids=["two", "perfect scaling", "flat"],
)
def test_what_does_not_bend_has_no_frontier(steps: dict[int, float]) -> None:
    assert frontier(steps) is None


def test_the_curve_ends_where_the_batch_sizes_do() -> None:
    found = frontier({b: 50 + 5000 / b for b in SIZES})
    assert found is not None
    steps, examples = found.curve(9)
    assert (steps[0], steps[-1]) == pytest.approx((675, 59.765625))
    assert list(examples) == sorted(examples) and len(examples) == 9
