"""Who needs fewer steps or hours where: crossings as in closed form, nothing beyond what both measured."""

import math
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bcrit.analysis.questions.compare.sides import StepsTable
from bcrit.analysis.questions.compare.steps import advantages, at_batch_sizes, curve_ratio, fastest
from bcrit.analysis.recommendation.hardware import StepTimes
from tests.analysis.questions.compare.made_up import SIZES, fit, labelled, steps_table, table

# S = 100 + 6400 / B and 200 + 3200 / B: they meet at B = 32.
FAR = labelled("far", table("far", 100, 64, noise=0.02, seed=1))
NEAR = labelled("near", table("near", 200, 16, noise=0.02, seed=2))


def timed(c0: float, c1: float) -> StepTimes:
    return StepTimes((1.0, 1e4), (c0 + c1, c0 + 1e4 * c1), c0, c1, 0.0)


def test_each_run_leads_on_its_side_of_the_crossing() -> None:
    (found,) = advantages([NEAR, FAR])
    assert found.crossing == pytest.approx(32, rel=0.1)
    assert [stretch.fewer for stretch in found.stretches] == ["near", None, "far"]
    first, middle, last = found.stretches
    assert middle.low < (found.crossing or 0) < middle.high
    assert first.low == 4 and last.high == 1024
    strongest = last.strongest
    assert strongest.value == pytest.approx(106.25 / 203.1, rel=0.1) and last.strongest_at == 1024
    assert strongest.holds(strongest.value or 0) and (strongest.high or 9) < 1 < (first.strongest.low or 0)


@settings(max_examples=50)
@given(e=st.floats(10, 1e5), s=st.floats(1, 1e3), e2=st.floats(10, 1e5), s2=st.floats(1, 1e3))
def test_the_crossing_is_where_both_curves_have_the_same_steps(e: float, s: float, e2: float, s2: float) -> None:
    a, b = (replace(one, fit=replace(SOME, s_min=x, e_min=y)) for one, x, y in ((FAR, s, e), (NEAR, s2, e2)))
    (found,) = advantages([a, b])
    differences = [s + e / size - s2 - e2 / size for size in (4, 1024)]
    if found.crossing is None:
        assert differences[0] * differences[1] >= 0 or 0 in np.round(differences, 9)
    else:
        assert s + e / found.crossing == pytest.approx(s2 + e2 / found.crossing)
        assert 4 < found.crossing < 1024


SOME = fit(100, 64, 0.03)


def test_nothing_is_said_beyond_what_both_measured() -> None:
    upper = labelled("upper", table("upper", 200, 16, noise=0.02, sizes=(64.0, 128.0, 256.0, 512.0, 4096.0)))
    (found,) = advantages([FAR, upper])
    assert (found.low, found.high, found.crossing) == (64, 1024, None)
    assert found.stretches[0].low == 64 and found.stretches[-1].high == 1024


def test_the_ratio_of_curves_is_known_best_in_the_middle() -> None:
    sizes = np.geomspace(4, 1024, 31)
    ratio, low, high = curve_ratio(SOME, fit(50, 64, 0.03, 5), sizes)
    assert np.all((low < ratio) & (ratio < high))
    width = np.log(high / low)
    assert width[15] < min(width[0], width[-1])


def test_step_times_can_turn_the_order() -> None:
    slow, quick = replace(FAR, step_times=timed(3e-3, 0)), replace(NEAR, step_times=timed(1e-3, 0))
    (found,) = advantages([quick, slow])
    assert found.hours_crossings == ()
    assert found.faster == (("near", 4.0, 1024.0),)
    # 1.5 times the time a step: 1.5 (100 + 6400 / B) = 200 + 3200 / B at B = 128.
    slow = replace(FAR, step_times=timed(1.5e-3, 0))
    (found,) = advantages([quick, slow])
    (crossing,) = found.hours_crossings or ()
    assert crossing == pytest.approx((1.5 * 6400 - 3200) / 50, rel=0.3)
    assert [name for name, _, _ in found.faster] == ["near", None, "far"]
    assert found.faster[0][1] == 4 and found.faster[1][1] < crossing < found.faster[1][2] and found.faster[2][2] == 1024


def test_the_fastest_batch_size_minimises_the_time() -> None:
    timed_run = replace(FAR, step_times=timed(1e-3, 1e-5))
    (found,) = fastest([timed_run, NEAR])  # NEAR has no step times
    # sqrt(c0 / c1 b_crit) = sqrt(100 * 64) = 80
    assert found.run == "far" and found.batch_size == pytest.approx(80, rel=0.1)
    assert found.batch_size == round(found.batch_size)
    assert found.hours == pytest.approx(found.steps * (1e-3 + 1e-5 * found.batch_size) / 3600)


A = labelled("a", table("a", 100, 64, noise=0.03, seed=1))
B = labelled("b", table("b", 50, 128, noise=0.03, seed=2))


def test_ratios_are_those_of_the_measured_steps_and_fewer_are_seen_where_there_are_fewer() -> None:
    rows = at_batch_sizes([A, B])
    assert [row.batch_size for row in rows] == list(SIZES)
    for row in rows:
        assert row.steps == B.reached["steps"][row.batch_size]
        assert row.baseline_steps == A.reached["steps"][row.batch_size]
        assert row.ratio.value == (row.steps or 0) / (row.baseline_steps or 1)
        assert (row.ratio.low or 9) < row.ratio.value < (row.ratio.high or 0)
    assert rows[0].fewer is None  # 1650 and 1700 steps
    assert [row.fewer for row in rows[-4:]] == ["b"] * 4
    assert [row.fewer for row in at_batch_sizes([B, A])] == [row.fewer for row in rows]


def test_equal_runs_are_seldom_told_apart() -> None:
    alarms = 0
    for seed in range(15):
        pair = [labelled(str(k), table(str(k), 100, 64, noise=0.05, seed=2 * seed + k)) for k in (0, 1)]
        alarms += any(row.fewer for row in at_batch_sizes(pair))
    assert alarms <= 3  # 5 % of 15 is 0.75


def test_the_scatter_of_both_curves_makes_the_interval() -> None:
    assert A.fit is not None and B.fit is not None and A.fit.sigma and B.fit.sigma
    row = at_batch_sizes([A, B])[3]
    standard_error = math.hypot(A.fit.sigma, B.fit.sigma)
    half = math.log((row.ratio.high or 1) / (row.ratio.low or 1)) / 2
    assert 1.96 * standard_error < half < 2.37 * standard_error  # t with 7 to 14 degrees of freedom


def test_seeds_that_spread_more_than_the_curve_widen_their_row_alone() -> None:
    studies = A.studies.copy()
    studies.loc[3, ["steps_low", "steps_high", "steps_level"]] = [studies["steps"][3] / 2, studies["steps"][3] * 2, 0.9]
    before, after = at_batch_sizes([A, B]), at_batch_sizes([replace(A, studies=studies), B])
    changed = [old.ratio.low != new.ratio.low for old, new in zip(before, after, strict=True)]
    assert changed == [place == 3 for place in range(9)]
    assert math.log((after[3].ratio.high or 1) / (after[3].ratio.low or 1)) / 2 > 2 * math.log(2) / 1.645


@pytest.mark.parametrize("which", ["run", "baseline"])
def test_a_study_that_did_not_reach_is_a_bound(which: str) -> None:
    missing = steps_table(50, 128, 0.03, 2).assign(max_steps=np.nan)
    missing.loc[0, ["steps", "max_steps"]] = [np.nan, 5000]
    partly = labelled("partly", StepsTable("partly.csv", missing))
    row = at_batch_sizes([A, partly] if which == "run" else [partly, A])[0]
    assert row.ratio.value is None and row.fewer is None and row.p_value is None
    assert row.note == "partly did not reach the target in 5,000 steps"
    bound = A.reached["steps"][4] / 5000
    known, open_end = (row.ratio.low, row.ratio.high) if which == "run" else (row.ratio.high, row.ratio.low)
    assert known == pytest.approx(1 / bound if which == "run" else bound) and open_end is None


def test_only_shared_batch_sizes_have_a_row() -> None:
    odd = labelled("odd", table("odd", 100, 64, noise=0.03, sizes=(6.0, 16.0, 64.0, 300.0, 2000.0)))
    assert [row.batch_size for row in at_batch_sizes([A, odd])] == [16, 64]
    nothing = labelled("nothing", StepsTable("n.csv", pd.DataFrame({"batch_size": [8.0], "steps": [3.0]})))
    assert at_batch_sizes([A, nothing]) == ()
