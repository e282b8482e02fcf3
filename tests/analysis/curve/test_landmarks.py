"""Every closed form against root finding on the curve, and every interval against what it is carried from."""

import math
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import optimize

from bcrit.analysis.curve import fit_hyperbola
from bcrit.analysis.curve.hyperbola import Hyperbola
from bcrit.analysis.curve.landmarks import (
    Definition,
    Knee,
    Landmark,
    Regime,
    Trough,
    bottom,
    crossing,
    definitions,
    doubling_saves,
    examples_are,
    place,
    regimes,
    regimes_sentence,
    steps_are,
)
from bcrit.analysis.curve.other_curves import PNorm, fit_p_norm
from bcrit.analysis.numbers import Estimate
from bcrit.search_spaces import InputError

Condition = Callable[[PNorm, float], float]
CASES: list[tuple[Landmark, Condition]] = [
    (steps_are(2), lambda c, b: float(c.steps(b)) / c.s_min - 2),
    (steps_are(1.1), lambda c, b: float(c.steps(b)) / c.s_min - 1.1),
    (examples_are(2), lambda c, b: b * float(c.steps(b)) / (c.s_min * c.b_crit) - 2),
    (examples_are(1.2), lambda c, b: b * float(c.steps(b)) / (c.s_min * c.b_crit) - 1.2),
    (doubling_saves(0.1), lambda c, b: float(c.steps(2 * b) / c.steps(b)) - 0.9),
    (doubling_saves(0.25), lambda c, b: float(c.steps(2 * b) / c.steps(b)) - 0.75),
    (crossing, lambda c, b: c.s_min - c.s_min * c.b_crit / b),
]


def ends(found: Estimate) -> tuple[float | None, ...]:
    return found.value, found.low, found.high


@pytest.mark.parametrize("p", [0.4, 1.0, 1.4, 6.0])
@pytest.mark.parametrize(
    ("landmark", "condition"), CASES, ids=["S=2", "S=1.1", "E=2", "E=1.2", "saves-10", "saves-25", "crossing"]
)
def test_the_closed_form_is_where_root_finding_puts_it(landmark: Landmark, condition: Condition, p: float) -> None:
    curve = PNorm(s_min=70, b_crit=123, p=p, rms_log_residual=0)
    root = optimize.brentq(lambda u: condition(curve, math.exp(u)), -20, 30, xtol=1e-12)
    assert 123 * math.exp(landmark(p)) == pytest.approx(math.exp(root), rel=1e-6)


def test_on_the_hyperbola_they_are_the_multiples_that_people_know() -> None:
    assert math.exp(examples_are(1.2)(1)) == pytest.approx(1 / 5)
    assert math.exp(examples_are(1 / 0.8)(1)) == pytest.approx(1 / 4)
    assert math.exp(doubling_saves(0.1)(1)) == pytest.approx(4)
    assert math.exp(doubling_saves(0.25)(1)) == pytest.approx(1)


def test_a_multiple_of_b_crit_has_the_same_multiple_of_its_interval() -> None:
    assert ends(Knee(place(100, 80, 130)).at(doubling_saves(0.1))) == pytest.approx((400, 320, 520))
    bound = Knee(place(None, 80, math.inf)).at(examples_are(1.2))
    assert (bound.value, bound.high) == (None, None)
    assert bound.low == pytest.approx(16)


def test_the_delta_method_agrees_with_the_scatter_of_refits() -> None:
    rng = np.random.default_rng(8)
    x = np.log(2.0 ** np.arange(2, 12))
    truth = np.log(PNorm(70, 123, 1.4, 0).steps(np.exp(x)))
    knees = [
        fitted.knee(0.95)
        for _ in range(200)
        if (fitted := fit_p_norm(x, truth + rng.normal(0, 0.03, x.size))) is not None
    ]
    for landmark in (steps_are(2), examples_are(2), crossing):
        true = 123 * math.exp(landmark(1.4))
        places = [knee.at(landmark) for knee in knees]
        assert 0.90 <= np.mean([found.holds(true) for found in places]) <= 0.99


def test_without_a_covariance_the_ends_are_open() -> None:
    assert Knee(place(100, 0, math.inf), p=2.0).at(crossing) == place(100, 0, math.inf)


KNEE = Knee(place(100.0, 80.0, 125.0))


def by_name(knee: Knee = KNEE, free: Knee | None = None, **options: float) -> dict[str, Definition]:
    return {found.name: found for found in definitions(knee, free, "tokens", **options)}


@given(st.floats(1, 1e5), st.floats(0, 1e5))
def test_twenty_per_cent_over_linear_scaling_is_where_root_finding_puts_it(b_crit: float, start: float) -> None:
    curve = Hyperbola(10, 10 * b_crit)
    found = by_name(Knee(place(b_crit, b_crit, b_crit)), linear_from=start)["20_percent_over_linear"].batch_size

    def over(batch_size: float) -> float:  # S(B) over linear scaling from B0: E(B) / E(B0)
        return float(curve.examples(batch_size) / curve.examples(start)) - 1.2

    assert found == pytest.approx(optimize.brentq(over, 1e-9, 1e7), rel=1e-6)


def test_the_published_conversion_is_kept() -> None:
    # Zhang et al. 2024, plots/chinchilla.ipynb of hlzhang109/critical-batch-size: B* = b / 5 + 1.2 B0 with B0 = 256.
    found = by_name(Knee(place(2000.0, 1500.0, 2600.0)), linear_from=256)["20_percent_over_linear"]
    assert (found.batch_size, found.low, found.high) == pytest.approx((707.2, 607.2, 827.2))


@pytest.mark.parametrize(("efficiency", "expected"), [(0.5, 100), (0.8, 25), (0.9, 100 / 9)])
def test_efficiency_is_the_share_of_examples_that_is_not_wasted(efficiency: float, expected: float) -> None:
    found = by_name(efficiency=efficiency)["efficiency"]
    assert found.batch_size == pytest.approx(expected)
    assert Hyperbola(1, 100).efficiency(found.batch_size or math.nan) == pytest.approx(efficiency)
    assert (found.low, found.high) == pytest.approx((0.8 * expected, 1.25 * expected))


def test_a_sharp_knee_tells_its_own_definitions_apart() -> None:
    curve = PNorm(70, 123, 1.4, 0, ((0.01, 0.002), (0.002, 0.02)), 5)
    found = by_name(free=curve.knee(0.95))
    steps, examples, crossing = (found[name] for name in ("steps_double", "examples_double", "asymptotes_cross"))
    assert steps.batch_size == pytest.approx(curve.s_doubles_at)
    assert examples.batch_size == pytest.approx(curve.e_doubles_at)
    assert crossing.batch_size == pytest.approx(123)
    assert all((entry.low or 0) < (entry.batch_size or 0) < (entry.high or 0) for entry in (steps, examples, crossing))
    assert {entry.curve for entry in (steps, examples, crossing)} == {"p_norm"}
    assert np.sqrt((steps.batch_size or 0) * (examples.batch_size or 0)) == pytest.approx(123)


def test_where_b_crit_is_only_bounded_so_is_everything_that_follows() -> None:
    found = by_name(Knee(place(None, 80.0, math.inf)))
    assert all(entry.batch_size is None and entry.low and entry.high is None for entry in found.values())


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"linear_from": -1.0}, "at least 0"),
        ({"linear_from": math.nan}, "at least 0"),
        ({"efficiency": 1.0}, "between 0 and 1"),
        ({"efficiency": 80.0}, "between 0 and 1"),
    ],
)
def test_options_out_of_range_are_refused(options: dict[str, float], message: str) -> None:
    with pytest.raises(InputError, match=message):
        definitions(KNEE, None, "tokens", **options)


SIZES = (4.0, 18.0, 64.0, 380.0, 1000.0)


def test_every_batch_size_gets_its_regime_and_those_within_an_interval_none() -> None:
    found = regimes(Knee(place(100, 80, 125)), SIZES)
    assert ends(found.perfect_scaling_ends) == pytest.approx((20, 16, 25))
    assert ends(found.plateau_begins) == pytest.approx((400, 320, 500))
    assert [regime for _, regime in found.studies] == [
        Regime.PERFECT_SCALING,
        Regime.UNCERTAIN,
        Regime.DIMINISHING_RETURNS,
        Regime.UNCERTAIN,
        Regime.PLATEAU,
    ]


def test_a_sharper_knee_has_a_narrower_middle() -> None:
    soft, sharp = (regimes(PNorm(70, 100, p, 0).knee(0.95), ()) for p in (1.0, 3.0))
    assert (sharp.perfect_scaling_ends.value or 0) > (soft.perfect_scaling_ends.value or 0)
    assert (sharp.plateau_begins.value or 0) < (soft.plateau_begins.value or 0)


def test_a_bound_on_one_side_classifies_only_that_side() -> None:
    above = regimes(Knee(place(None, 1000, math.inf)), (100.0, 300.0, 10_000.0))
    assert [regime for _, regime in above.studies] == [Regime.PERFECT_SCALING, Regime.UNCERTAIN, Regime.UNCERTAIN]
    below = regimes(Knee(place(None, 0, 1000)), (1.0, 3000.0, 10_000.0))
    assert [regime for _, regime in below.studies] == [Regime.UNCERTAIN, Regime.UNCERTAIN, Regime.PLATEAU]
    assert above.perfect_scaling_ends.value is None


def test_a_plateau_that_begins_below_all_that_was_measured_is_said_of_what_was_measured() -> None:
    for steps in ([100.0] * 6, [100.0, 101, 99, 100, 101, 98]):
        rows = pd.DataFrame({"batch_size": [8, 16, 32, 64, 128, 256], "steps": steps})
        found = fit_hyperbola(rows).regimes()
        assert regimes_sentence(found) == "All batch sizes lie on the plateau, from the smallest, 8, on."


def test_steps_that_fall_as_one_over_b_to_rounding_bound_b_crit_by_what_was_measured() -> None:
    rows = pd.DataFrame({"batch_size": [32, 64, 128, 256], "steps": [2048, 1024, 512, 256]})
    found = fit_hyperbola(rows)
    assert found.b_crit_low == pytest.approx(256) and found.b_crit_high == math.inf
    assert regimes_sentence(found.regimes()) == "All batch sizes scale perfectly, up to the largest, 256."
    assert {regime for _, regime in found.regimes().studies} == {Regime.PERFECT_SCALING}
    flat = fit_hyperbola(rows.assign(steps=100))
    assert flat.b_crit_low == 0 and flat.b_crit_high == pytest.approx(32)


@pytest.mark.parametrize(
    ("low", "high", "sizes", "said"),
    [
        (1000.0, math.inf, (10.0, 3000.0), "Perfect scaling at least up to batch size 200;"),
        (1000.0, math.inf, (500.0, 3000.0), None),
        (0.0, 100.0, (10.0, 3000.0), "Plateau at the latest from batch size 400 on;"),
        (0.0, 100.0, (10.0, 300.0), None),
    ],
)
def test_a_bound_outside_of_what_was_measured_is_not_said(
    low: float, high: float, sizes: tuple[float, ...], said: str | None
) -> None:
    sentence = regimes_sentence(regimes(Knee(place(None, low, high)), sizes))
    assert sentence is None if said is None else (sentence or "").startswith(said)


U = Hyperbola(70, 9000, 20)


@pytest.mark.parametrize(
    ("landmark", "condition"),
    [
        (steps_are(2), lambda b: U.steps(b) / U.s_min - 2),
        (examples_are(1.2), lambda b: U.examples(b) / U.e_min - 1.2),
        (doubling_saves(0.1), lambda b: U.steps(2 * b) / U.steps(b) - 0.9),
    ],
    ids=["S=2", "E=1.2", "saves-10"],
)
def test_the_landmarks_of_a_u_are_where_root_finding_puts_them(
    landmark: Landmark, condition: Callable[[float], float]
) -> None:
    root = optimize.brentq(lambda log: float(condition(math.exp(log))), math.log(U.b_opt), 30, xtol=1e-12)
    assert landmark.of_curve(U) == pytest.approx(math.exp(root), rel=1e-9)


def test_batch_sizes_below_b_opt_are_too_small() -> None:
    used = Trough(U, (Hyperbola(70, 9000, 15), Hyperbola(70, 9000, 25)), (1e-3, 1e5), 1e4)
    found = regimes(used, (4.0, 20.0, 40.0, 1e4))
    names = [regime for _, regime in found.studies]
    assert names == [Regime.TOO_SMALL, Regime.UNCERTAIN, Regime.PERFECT_SCALING, Regime.PLATEAU]
    assert found.b_opt is not None and ends(found.b_opt) == (20, 15, 25)
    assert (regimes_sentence(found) or "").startswith("Too small below batch size 20 (15 to 25). Perfect scaling up to")
    unknown = replace(used, known=False)
    assert unknown.b_crit.value is None and unknown.at(bottom).value == 20
    assert replace(used, reach=(18, 22)).at(bottom) == Estimate(20)
    assert replace(used, largest=19).at(bottom) == Estimate(None, 15, 25)
    two_x, linear, _ = definitions(used, None, "tokens", linear_from=64)
    assert two_x.batch_size == U.b_crit and (two_x.curve, "b_opt" in two_x.definition) == ("u_shape", True)
    assert U.examples(linear.batch_size or 0) == pytest.approx(1.2 * U.examples(64))
