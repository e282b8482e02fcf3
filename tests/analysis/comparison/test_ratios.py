"""Ratios of the three numbers: right intervals, few false alarms, and refusals with a reason."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from bcrit.analysis.comparison.b_crit_ratio import p_value, squared
from bcrit.analysis.comparison.ratios import Ratio, Verdict, obstacle, ratios
from bcrit.analysis.comparison.source import NUMBERS, Side
from bcrit.analysis.curve.fit import HyperbolaFit, fit_hyperbola
from bcrit.analysis.curve.other_curves import PNorm
from tests.analysis.comparison import made_up
from tests.analysis.comparison.made_up import labelled, table


def of(found: tuple[Ratio, ...], quantity: str) -> Ratio:
    (ratio,) = [ratio for ratio in found if ratio.quantity == quantity]
    return ratio


def verdicts(found: tuple[Ratio, ...]) -> list[Verdict]:
    return [ratio.verdict for ratio in found]


SGD = labelled("sgd", table("sgd", 3500, 16, noise=0.03, seed=1))
NESTEROV = labelled("nesterov", table("nesterov", 850, 66, noise=0.03, seed=2))


def test_momentum_extends_perfect_scaling_and_shares_e_min() -> None:
    """Shallue et al. 2018: ResNet-8 on CIFAR-10, plateau 3.1-4.0k (SGD) and .75-.93k steps (Nesterov)."""
    found = ratios([SGD, NESTEROV])
    assert [ratio.quantity for ratio in found] == list(NUMBERS)
    assert verdicts(found) == ["differs", "no difference seen", "differs"]
    for ratio, truth in zip(found, (850 / 3500, 850 * 66 / 3500 / 16, 66 / 16), strict=True):
        assert ratio.low is not None and ratio.high is not None and ratio.ratio is not None
        assert ratio.low < truth < ratio.high and ratio.low < ratio.ratio < ratio.high
        assert (ratio.run, ratio.baseline) == ("nesterov", "sgd")
    product = of(found, "s_min").ratio or 0.0
    assert (of(found, "e_min").ratio or 0.0) / product == pytest.approx(of(found, "b_crit").ratio)


def test_intervals_cover_and_equal_numbers_are_seldom_called_different() -> None:
    """30 draws of each of four cells, a standard error of 2 %; the full measurement stands in `ratios`."""
    truth = {"s_min": 2.0, "e_min": 2 * 64 / 120, "b_crit": 64 / 120}
    covered = dict.fromkeys(NUMBERS, 0)
    cells = [(n, noise, seed) for n in (5, 8) for noise in (0.03, 0.1) for seed in range(30)]
    for n, noise, seed in cells:
        sizes = np.geomspace(4, 1024, n)
        a = made_up.fit(100, 64, noise, 2 * seed, sizes=sizes)
        b = made_up.fit(50, 120, noise, 2 * seed + 1, sizes=sizes)
        covered["b_crit"] += p_value(squared(a), squared(b), math.log(truth["b_crit"])) >= 0.05
        for ratio in ratios([replace(SGD, fit=b), replace(NESTEROV, fit=a)]):
            if ratio.quantity != "b_crit":
                low, high = ratio.low or 0.0, ratio.high or math.inf
                covered[ratio.quantity] += low <= truth[ratio.quantity] <= high
    for name in NUMBERS:
        assert 0.90 <= covered[name] / len(cells) <= 0.995, (name, covered)


def sharp(b_crit: float, noise: float = 0.0, seed: int = 0) -> HyperbolaFit:
    """The hyperbola through eight points of a knee with p = 2."""
    sizes = np.geomspace(4, 1024, 8)
    scatter = np.random.default_rng(seed).normal(0, noise, 8) if noise else np.zeros(8)
    steps = PNorm(100, b_crit, 2.0, 0).steps(sizes) * np.exp(scatter)
    return fit_hyperbola(pd.DataFrame({"batch_size": sizes, "steps": steps}))


def test_fits_of_a_sharp_knee_whose_own_intervals_are_disjoint_are_told_apart() -> None:
    truth = math.log(sharp(100).b_crit / sharp(140).b_crit)
    disjoint, told, covered = 0, 0, 0
    for seed in range(40):
        a, b = sharp(100, 0.03, 2 * seed), sharp(140, 0.03, 2 * seed + 1)
        found = of(ratios([replace(SGD, fit=b), replace(NESTEROV, fit=a)]), "b_crit")
        low, high = math.log(found.low or 0.0), math.log(found.high or 0.0)
        if a.b_crit_high < b.b_crit_low:
            disjoint += 1
            told += found.excludes_one
        own = math.hypot(*(math.log(fit.b_crit_high / fit.b_crit_low) for fit in (a, b)))
        assert 0.8 < (high - low) / own < 1.02  # Student's t of 5 to 10 degrees of freedom over that of 5: 0.87 to 1
        covered += low <= truth <= high
    assert disjoint > 20 and told == disjoint
    assert covered >= 34  # of 40; 0.95 less four standard errors of 0.034 is 32.5


def test_a_family_of_equal_runs_has_few_false_alarms() -> None:
    alarms = 0
    for seed in range(25):
        runs = [labelled(str(k), table(str(k), 100, 64, noise=0.05, seed=3 * seed + k)) for k in range(3)]
        alarms += "differs" in verdicts(ratios(runs))
    assert alarms <= 4  # 5 % of 25 is 1.25; more than 4 has a chance of 0.7 %


def test_only_bounds_are_given_where_one_knee_is_out_of_sight() -> None:
    scaling = labelled("scaling", table("scaling", 1, 1e6, noise=0.03, seed=3))
    found = ratios([SGD, scaling])
    b_crit = of(found, "b_crit")
    assert (b_crit.verdict, b_crit.ratio, b_crit.high) == ("differs", None, None)
    assert (b_crit.low or 0) > 10 and "only bounds are known" in b_crit.reason
    s_min = of(found, "s_min")
    assert s_min.verdict == "not comparable" and s_min.reason == "s_min of scaling is not identified"
    assert s_min.p_value is None and s_min.low is None


def test_two_knees_out_of_sight_are_not_compared() -> None:
    pair = [labelled(name, table(name, 1, 1e6, noise=0.03, seed=seed)) for name, seed in (("a", 3), ("b", 4))]
    assert of(ratios(pair), "b_crit").reason == "b_crit of b and a is not identified"


TWO = labelled("two", table("two", 10, 64, sizes=(8.0, 64.0)))
TOKENS = labelled("tokens", table("tokens", 10, 64, unit="tokens"))
FAR = labelled("far", table("far", 10, 64, noise=0.1, sizes=(1e5, 2e5, 4e5, 8e5)))
LOSS = labelled("loss", made_up.run())
LOW = labelled("low", made_up.run(target="loss < 0.5"))


@pytest.mark.parametrize(
    ("other", "reason"),
    [
        (TWO, "two reached the target at two batch sizes only"),
        (TOKENS, r"count different things (examples, tokens)"),
        (FAR, "do not overlap"),
    ],
    ids=["two", "unit", "range"],
)
def test_what_cannot_be_compared_says_why(other: Side, reason: str) -> None:
    found = ratios([other, SGD] if other is TOKENS else [SGD, other])
    assert verdicts(found) == ["not comparable"] * 3
    assert all(reason in ratio.reason for ratio in found)
    assert obstacle(SGD, other) is not None


def test_other_targets_are_not_divided_unless_asked_for() -> None:
    assert obstacle(LOSS, LOW) == "their targets differ (loss < 1, loss < 0.5)"
    assert obstacle(LOSS, LOW, across_targets=True) is None
    assert verdicts(ratios([LOSS, LOW])) == ["not comparable"] * 3
    assert "not comparable" not in verdicts(ratios([LOSS, LOW], across_targets=True))
    assert obstacle(LOSS, SGD) is None  # a table names no target


def test_an_interval_without_1_can_still_be_chance_among_several() -> None:
    """Three equal runs of which one pair's b_crit seems to differ (seeds found by trying two)."""
    runs = [labelled(str(k), table(str(k), 100, 64, noise=0.05, seed=100 + k)) for k in range(3)]
    (beyond,) = [ratio for ratio in ratios(runs) if ratio.excludes_one]
    assert (beyond.quantity, beyond.verdict) == ("b_crit", "no difference seen")
    assert beyond.reason == "its own interval excludes 1, but among 9 ratios that is not beyond chance"
    assert (beyond.p_value or 1) < 0.05 < (beyond.p_adjusted or 0)


def test_every_run_is_paired_with_every_other() -> None:
    runs = [labelled(str(k), table(str(k), 100 + 40 * k, 64, noise=0.03, seed=k)) for k in range(6)]
    found = ratios(runs)
    assert len({(ratio.run, ratio.baseline) for ratio in found}) == 15
    assert all(int(ratio.baseline) < int(ratio.run) for ratio in found)
