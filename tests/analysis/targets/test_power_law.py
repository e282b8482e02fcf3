"""The power law of b_crit: exact numbers come back, intervals cover, and what cannot be said is refused."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from bcrit.analysis.curve.fit import HyperbolaFit, fit_hyperbola
from bcrit.analysis.targets.power_law import PowerLaw, fit_power_law
from bcrit.search_spaces.target import Target

BATCH = 2.0 ** np.arange(3, 13)


def curve(b_crit: float, noise: float = 0.0, rng: np.random.Generator | None = None) -> HyperbolaFit:
    steps = 100 * (1 + b_crit / BATCH)
    if rng is not None:
        steps = steps * np.exp(noise * rng.normal(size=len(BATCH)))
    return fit_hyperbola(pd.DataFrame({"batch_size": BATCH, "steps": steps}))


def targets(*thresholds: float, sign: str = "<") -> list[Target]:
    return [Target.model_validate(f"loss {sign} {threshold}") for threshold in thresholds]


def law(*thresholds: float, alpha: float = 0.21, b_star: float = 300.0) -> PowerLaw | str:
    fits = [curve(b_star / threshold ** (1 / alpha)) for threshold in thresholds]
    return fit_power_law(list(zip(targets(*thresholds), fits, strict=True)))


def test_exact_curves_give_the_law_that_was_put_in() -> None:
    found = law(1.3, 1.2, 1.1, 1.0)
    assert isinstance(found, PowerLaw)
    assert found.b_star == pytest.approx(300, rel=1e-4) and found.alpha == pytest.approx(0.21, rel=1e-4)
    assert (found.n_targets, found.strictest, found.loosest) == (4, 1.0, 1.3)
    assert found.b_crit(1.1) == pytest.approx(300 / 1.1 ** (1 / 0.21), rel=1e-4)
    assert "grows as the target gets stricter" in found.sentence


def test_the_interval_of_independent_targets_covers_the_exponent() -> None:
    rng, covered = np.random.default_rng(0), []
    for _ in range(40):
        thresholds = [2.0, 1.6, 1.3, 1.1, 0.9]
        fits = [curve(300 / t**1.5, 0.05, rng) for t in thresholds]
        found = fit_power_law(list(zip(targets(*thresholds), fits, strict=True)))
        assert isinstance(found, PowerLaw)
        covered.append(found.exponent.holds(1.5))
    assert np.mean(covered) >= 0.9


def test_no_trend_is_a_verdict() -> None:
    rng = np.random.default_rng(1)
    thresholds = [2.0, 1.6, 1.3]
    fits = [curve(100, 0.1, rng) for _ in thresholds]
    found = fit_power_law(list(zip(targets(*thresholds), fits, strict=True)))
    assert isinstance(found, PowerLaw) and found.alpha is None
    assert found.exponent.holds(0)
    assert "does not change with the target by more than its uncertainty" in found.sentence


def test_a_wide_interval_counts_less() -> None:
    thresholds = [2.0, 1.5, 1.2, 1.0]
    fits = [curve(300 / t, 0.01, np.random.default_rng(int(10 * t))) for t in thresholds]
    outlier = replace(fits[1], b_crit=3 * fits[1].b_crit)
    wide = replace(outlier, b_crit_low=outlier.b_crit / 3, b_crit_high=outlier.b_crit * 3)
    exponents = []
    for second in (outlier, wide):
        found = fit_power_law(list(zip(targets(*thresholds), [fits[0], second, *fits[2:]], strict=True)))
        assert isinstance(found, PowerLaw)
        exponents.append(abs(found.power - 1))
    assert exponents[1] < exponents[0] / 2


@pytest.mark.parametrize(
    ("found", "why"),
    [
        (fit_power_law([]), "minimised"),
        (fit_power_law([(t, curve(50)) for t in targets(0.7, 0.8, 0.9, sign=">")]), "minimised"),
        (fit_power_law([(t, curve(50)) for t in targets(-1, 1, 2)]), "positive thresholds"),
        (fit_power_law([(t, curve(50)) for t in targets(1, 2)]), "needs 3 targets"),
        (fit_power_law([(t, curve(50)) for t in targets(1, 1.01, 1.02)]), "span a factor 1.05, but they span 1.02"),
        (fit_power_law([(t, curve(1e6)) for t in targets(1, 2, 3)]), "but there are 0"),
    ],
    ids=["nothing", "maximised", "not positive", "two targets", "too close", "not identified"],
)
def test_what_cannot_be_said_is_refused_with_the_reason(found: PowerLaw | str, why: str) -> None:
    assert isinstance(found, str) and why in found


def test_the_interval_is_no_smaller_than_the_curves_own_intervals_say() -> None:
    thresholds = [2.0, 1.5, 1.2, 1.0]
    wide = [replace(curve(300 / t, 0.01, np.random.default_rng(0)), b_crit=300 / t) for t in thresholds]
    wide = [replace(f, b_crit_low=f.b_crit / 2, b_crit_high=f.b_crit * 2) for f in wide]
    found = fit_power_law(list(zip(targets(*thresholds), wide, strict=True)))
    assert isinstance(found, PowerLaw) and found.rms_log_residual == pytest.approx(0, abs=1e-9)
    spread = np.std(np.log(thresholds)) * math.sqrt(len(thresholds))
    # b_crit of ten studies has an interval with 10 - 3 degrees of freedom, the law of four targets one with 4 - 2.
    error = math.log(2) / stats.t.ppf(0.975, 7) / spread
    assert (found.exponent.high or 0) - found.power == pytest.approx(stats.t.ppf(0.975, 2) * error)
