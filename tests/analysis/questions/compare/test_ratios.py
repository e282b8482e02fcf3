"""Ratios of the three numbers: right intervals, few false alarms, and refusals with a reason.

That of b_crit is Welch's where fits are linear, and one-sided where only one end is known.
"""

import math
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from bcrit.analysis.curve import HyperbolaFit, fit_hyperbola
from bcrit.analysis.curve.hyperbola import Hyperbola
from bcrit.analysis.curve.other_curves import PNorm
from bcrit.analysis.numbers import Estimate, tail, welch
from bcrit.analysis.questions.compare.ratios import Ratio, Verdict, b_crit_ratio, obstacle, p_value, ratios, squared
from bcrit.analysis.questions.compare.sides import NUMBERS
from tests.analysis.questions.compare import made_up
from tests.analysis.questions.compare.made_up import fit, labelled, steps_table, table


def of(found: tuple[Ratio, ...], quantity: str) -> Ratio:
    (ratio,) = [ratio for ratio in found if ratio.quantity == quantity]
    return ratio


def verdicts(found: tuple[Ratio, ...]) -> list[Verdict]:
    return [ratio.verdict for ratio in found]


SGD, NESTEROV = labelled("sgd", made_up.SGD), labelled("nesterov", made_up.MOMENTUM)


def test_momentum_extends_perfect_scaling_and_shares_e_min() -> None:
    """Shallue et al. 2018: ResNet-8 on CIFAR-10, plateau 3.1-4.0k (SGD) and .75-.93k steps (Nesterov)."""
    found = ratios([SGD, NESTEROV])
    assert [ratio.quantity for ratio in found] == list(NUMBERS)
    assert verdicts(found) == ["differs", "no difference seen", "differs"]
    for ratio, truth in zip(found, (850 / 3500, 850 * 66 / 3500 / 16, 66 / 16), strict=True):
        size = ratio.size
        assert size.low is not None and size.high is not None and size.value is not None
        assert size.low < truth < size.high and size.low < size.value < size.high
        assert (ratio.run, ratio.baseline) == ("nesterov", "sgd")
    s_min, e_min, b_crit = (of(found, name).size.value or 0.0 for name in NUMBERS)
    assert e_min / s_min == pytest.approx(b_crit)


@pytest.mark.long
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
                covered[ratio.quantity] += ratio.size.holds(truth[ratio.quantity])
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
        low, high = math.log(found.size.low or 0.0), math.log(found.size.high or 0.0)
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
    assert (b_crit.verdict, b_crit.size.value, b_crit.size.high) == ("differs", None, None)
    assert (b_crit.size.low or 0) > 10 and "only bounds are known" in b_crit.reason
    s_min = of(found, "s_min")
    assert s_min.verdict == "not comparable" and s_min.reason == "s_min of scaling is not identified"
    assert s_min.p_value is None and s_min.size.low is None


def test_two_knees_out_of_sight_are_not_compared() -> None:
    pair = [labelled(name, table(name, 1, 1e6, noise=0.03, seed=seed)) for name, seed in (("a", 3), ("b", 4))]
    assert of(ratios(pair), "b_crit").reason == "b_crit of b and a is not identified"


LOSS, LOW = labelled("loss", made_up.run()), labelled("low", made_up.run(target="loss < 0.5"))


def test_other_targets_are_not_divided_unless_asked_for_and_a_table_names_none() -> None:
    assert verdicts(ratios([LOSS, LOW])) == ["not comparable"] * 3
    assert obstacle(LOSS, LOW) == "their targets differ (loss < 1, loss < 0.5)"
    assert obstacle(LOSS, LOW, across_targets=True) is None
    assert "not comparable" not in verdicts(ratios([LOSS, LOW], across_targets=True))
    assert obstacle(LOSS, SGD) is None


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


A, B = fit(100, 64, 0.05, 1), fit(50, 200, 0.08, 2)


def ends(of: Estimate) -> list[float]:
    """Low, value, high, all of which must be known."""
    assert of.low is not None and of.value is not None and of.high is not None
    return [of.low, of.value, of.high]


def variance(of: HyperbolaFit) -> float:
    """Of log b_crit, by what a bend leaves of the scatter, with its degrees of freedom."""
    assert of.covariance is not None
    spread = of.covariance[0][0] + of.covariance[1][1] - 2 * of.covariance[0][1]
    return spread * squared(of).share * of.degrees_of_freedom / squared(of).degrees


def with_grid(noise: float, resolution: float, seed: int = 0) -> HyperbolaFit:
    """Nine batch sizes whose steps are known to an evaluation every `resolution` steps."""
    return fit_hyperbola(steps_table(50, 100, noise, seed).assign(steps_resolution=resolution))


def unreached(p: float) -> HyperbolaFit:
    """Eleven sizes on a knee of this sharpness, of which the smallest did not reach, so that its bend is carried."""
    sizes = 100 * 2.0 ** np.linspace(-4, 3, 11)
    steps = PNorm(100, 100, p, 0).steps(sizes) * np.exp(np.random.default_rng(5).normal(0, 0.02, 11))
    table = {"batch_size": sizes, "steps": np.where(steps > 600, np.nan, steps), "max_steps": 600.0}
    return fit_hyperbola(pd.DataFrame(table))


@pytest.mark.parametrize(
    "one",
    [A, fit(100, 64, 0.05, 1, sizes=(8, 32, 128, 512)), unreached(1.4), unreached(0.7), with_grid(0.002, 5)],
    ids=["bend", "too few for a bend", "sharp and unreached", "soft and unreached", "grid"],
)
@pytest.mark.parametrize("level", [0.8, 0.95])
def test_the_level_sets_are_the_fits_own_interval(one: HyperbolaFit, level: float) -> None:
    table = pd.DataFrame([vars(study) for study in one.studies]).rename(columns={"resolution": "steps_resolution"})
    again = fit_hyperbola(table.astype(float), level)
    assert np.exp(squared(one).ends(level)) == pytest.approx([again.b_crit_low, again.b_crit_high])
    for end in (again.b_crit_low, again.b_crit_high):
        tails = [tail(math.sqrt(float(form(np.array(math.log(end))))), degrees) for form, degrees in squared(one).forms]
        assert max(tails) == pytest.approx(1 - level, rel=1e-4)


def test_against_computed_numbers_the_ratio_has_the_interval_of_the_other_fit() -> None:
    (found, _), known = b_crit_ratio(A, fit(50, 128), 0.95), math.log(128)
    ends = math.log(A.b_crit_low) - known, math.log(A.b_crit_high) - known
    assert (found.low, found.high) == pytest.approx(ends, abs=1e-5)


def test_the_ratio_is_no_better_known_than_evaluations_let_steps_be() -> None:
    a, b = with_grid(0.0, 2), fit_hyperbola(steps_table(50, 100.5).assign(steps_resolution=2))
    found, p = b_crit_ratio(b, a, 0.95)
    own = [math.log(one.b_crit_high / one.b_crit_low) / 2 for one in (a, b)]
    assert min(own) > 0.01
    low, value, high = ends(found)
    assert (high - value, value - low) == pytest.approx((math.hypot(*own),) * 2, rel=1e-3)
    assert p > 0.5


def test_a_lucky_fit_against_a_noisy_one_has_the_widths_of_both() -> None:
    lucky, noisy = with_grid(0.0, 5), with_grid(0.01, 1e-3)
    low, _, high = ends(b_crit_ratio(lucky, noisy, 0.95)[0])
    own = [math.log(one.b_crit_high / one.b_crit_low) for one in (lucky, noisy)]
    assert 0.9 < (high - low) / math.hypot(*own) < 1.02


def test_with_little_noise_it_is_welchs_interval() -> None:
    a, b = fit(100, 64, 0.005, 1), fit(50, 200, 0.008, 2)
    found, _ = b_crit_ratio(a, b, 0.95)
    linear, _ = welch(math.log(a.b_crit / b.b_crit), (variance(a), variance(b)), (6, 6))
    assert found.value == pytest.approx(linear.value)
    assert (found.low, found.high) == pytest.approx((linear.low, linear.high), abs=2e-3)


def test_the_ends_are_where_the_test_rejects() -> None:
    low, value, high = ends(b_crit_ratio(A, B, 0.9)[0])
    for end in (low, high):
        assert p_value(squared(A), squared(B), end) == pytest.approx(0.1, abs=1e-4)
    assert p_value(squared(A), squared(B), value) == pytest.approx(1, abs=1e-3)


def test_run_and_baseline_may_change_places() -> None:
    (there, p), (back, q) = b_crit_ratio(A, B, 0.95), b_crit_ratio(B, A, 0.95)
    assert ends(there) == pytest.approx([-end for end in reversed(ends(back))], abs=1e-4)
    assert p == pytest.approx(q, rel=1e-3)


def test_a_fit_against_itself_is_one() -> None:
    found, p = b_crit_ratio(A, A, 0.95)
    low, value, high = ends(found)
    assert low < value == 0 < high and p == pytest.approx(1)


def test_without_a_knee_in_sight_the_ratio_has_a_lower_end_only() -> None:
    scaling = fit(1, 1e6, 0.03, 3)
    assert not scaling.identified["b_crit"]
    found, p = b_crit_ratio(scaling, A, 0.95)
    assert found.high is None and found.low is not None and found.low > math.log(10) and p < 1e-4
    other_way, _ = b_crit_ratio(A, scaling, 0.95)
    assert other_way.low is None and other_way.high == pytest.approx(-found.low, abs=1e-4)


def test_computed_numbers_have_a_ratio_without_width() -> None:
    found, p = b_crit_ratio(fit(100, 64), fit(50, 128), 0.95)
    assert ends(found) == pytest.approx([math.log(0.5)] * 3) and p == 0


def test_a_u_is_compared_by_the_numbers_that_it_has() -> None:
    sizes = 2.0 ** np.arange(1, 11)
    bent = [
        Hyperbola(50, 50 * e, 8.0).steps(sizes) * np.exp(np.random.default_rng(e).normal(0, 0.02, 10))
        for e in (60, 120)
    ]
    u, more = (fit_hyperbola(pd.DataFrame({"batch_size": sizes, "steps": steps})) for steps in bent)
    assert u.b_opt is not None and more.b_opt is not None
    found = ratios([replace(SGD, fit=u), replace(NESTEROV, fit=more)])
    truth = 1.0, 2.0, Hyperbola(1, 120, 8).b_crit / Hyperbola(1, 60, 8).b_crit
    assert all(ratio.size.holds(value) and ratio.size.low for ratio, value in zip(found, truth, strict=True))
    assert verdicts(found) == ["no difference seen", "differs", "differs"]
