"""Steps at single batch sizes: the measured ratio, its interval, and what is said where a run did not reach."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from bcrit.analysis.comparison import StepsTable
from bcrit.analysis.comparison.at_batch_sizes import at_batch_sizes
from tests.analysis.comparison.made_up import SIZES, labelled, steps_table, table

A = labelled("a", table("a", 100, 64, noise=0.03, seed=1))
B = labelled("b", table("b", 50, 128, noise=0.03, seed=2))


def test_ratios_are_those_of_the_measured_steps() -> None:
    rows = at_batch_sizes([A, B])
    assert [row.batch_size for row in rows] == list(SIZES)
    for row in rows:
        assert row.steps == B.reached["steps"][row.batch_size]
        assert row.baseline_steps == A.reached["steps"][row.batch_size]
        assert row.ratio == (row.steps or 0) / (row.baseline_steps or 1)
        assert (row.low or 9) < row.ratio < (row.high or 0)


def test_fewer_steps_are_seen_where_there_are_fewer() -> None:
    rows = at_batch_sizes([A, B])
    assert rows[0].fewer is None  # 1650 and 1700 steps
    assert [row.fewer for row in rows[-4:]] == ["b"] * 4
    turned = at_batch_sizes([B, A])
    assert [row.fewer for row in turned] == [row.fewer for row in rows]


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
    half = math.log((row.high or 1) / (row.low or 1)) / 2
    assert 1.96 * standard_error < half < 2.37 * standard_error  # t with 7 to 14 degrees of freedom


def test_seeds_that_spread_more_than_the_curve_widen_their_row_alone() -> None:
    studies = A.studies.copy()
    studies.loc[3, ["steps_low", "steps_high", "steps_level"]] = [studies["steps"][3] / 2, studies["steps"][3] * 2, 0.9]
    before, after = at_batch_sizes([A, B]), at_batch_sizes([replace(A, studies=studies), B])
    changed = [old.low != new.low for old, new in zip(before, after, strict=True)]
    assert changed == [place == 3 for place in range(9)]
    assert math.log((after[3].high or 1) / (after[3].low or 1)) / 2 > 2 * math.log(2) / 1.645


@pytest.mark.parametrize("which", ["run", "baseline"])
def test_a_study_that_did_not_reach_is_a_bound(which: str) -> None:
    missing = steps_table(50, 128, 0.03, 2).assign(max_steps=np.nan)
    missing.loc[0, ["steps", "max_steps"]] = [np.nan, 5000]
    partly = labelled("partly", StepsTable("partly.csv", missing))
    row = at_batch_sizes([A, partly] if which == "run" else [partly, A])[0]
    assert row.ratio is None and row.fewer is None and row.p_value is None
    assert row.note == "partly did not reach the target in 5,000 steps"
    bound = A.reached["steps"][4] / 5000
    known, open_end = (row.low, row.high) if which == "run" else (row.high, row.low)
    assert known == pytest.approx(1 / bound if which == "run" else bound) and open_end is None


def test_only_shared_batch_sizes_have_a_row() -> None:
    odd = labelled("odd", table("odd", 100, 64, noise=0.03, sizes=(6.0, 16.0, 64.0, 300.0, 2000.0)))
    assert [row.batch_size for row in at_batch_sizes([A, odd])] == [16, 64]
    nothing = labelled("nothing", StepsTable("n.csv", pd.DataFrame({"batch_size": [8.0], "steps": [3.0]})))
    assert at_batch_sizes([A, nothing]) == ()
