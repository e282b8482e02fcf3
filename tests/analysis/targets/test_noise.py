"""How early noise makes a first crossing: what is estimated around it, against simulated curves."""

from __future__ import annotations

import math

import numpy as np
import pytest

from bcrit.analysis.targets.crossings import Noise, how_early, noise, noise_notes
from bcrit.search_spaces.target import Target

LOSS, ACCURACY = Target.model_validate("loss < 1"), Target.model_validate("accuracy > 0.5")


def crossed(rng: np.random.Generator, power: float, scatter: float) -> tuple[np.ndarray, np.ndarray]:
    """Evaluations 2 % of the step apart of a loss that is 1 at step 1,000, up to the first one below."""
    steps = np.unique((100 * 1.02 ** (np.arange(250) + rng.random())).astype(np.int64))
    loss = (steps / 1000) ** -power * np.exp(scatter * rng.standard_normal(len(steps)))
    end = int(np.argmax(loss < 1)) + 1
    return steps[:end], loss[:end]


@pytest.mark.parametrize("power", [1.0, 0.6, 0.3])
def test_what_is_estimated_before_a_crossing_is_how_early_it_was(power: float) -> None:
    rng = np.random.default_rng(0)
    runs = [crossed(rng, power, 0.05) for _ in range(200)]
    found = [each for run in runs if (each := noise(*run, LOSS)) is not None]
    assert len(found) == 200
    truly = 1 - math.exp(np.mean([math.log(steps[-1] / 1000) - 0.01 for steps, _ in runs]))
    assert np.median([each.scatter for each in found]) == pytest.approx(0.05, rel=0.1)
    assert np.median([each.early for each in found]) == pytest.approx(truly, abs=0.025)


def test_the_formula_has_its_limits() -> None:
    assert how_early(0.0, 0.02) == 0 and how_early(1e-9, 0.02) == pytest.approx(0, abs=1e-12)
    assert how_early(0.05, 0.005) > how_early(0.05, 0.02) > how_early(0.05, 0.1)  # a finer grid is worse
    assert [round(how_early(0.05 / power, math.log(1.02)), 3) for power in (1, 0.6, 0.3)] == [0.029, 0.066, 0.172]


def test_a_metric_that_rises_is_read_upside_down_and_too_little_says_nothing() -> None:
    steps = np.arange(50, 150)
    rising = 0.5 + 0.3 * np.log(steps / 120)
    found = noise(steps, rising + 0.01 * np.random.default_rng(0).standard_normal(100), ACCURACY)
    assert found is not None and found.scatter == pytest.approx(0.02, rel=0.3) and found.early > 0.01  # of 0.5
    exact = noise(steps, rising, ACCURACY)
    assert exact is not None and max(exact.scatter, exact.early) < 1e-3
    assert noise(steps[:4], rising[:4], ACCURACY) is None
    assert noise(steps, rising[::-1], ACCURACY) is None  # gets worse
    assert noise(steps, np.full(100, np.nan), ACCURACY) is None


def test_only_what_matters_is_said() -> None:
    assert list(noise_notes([None, Noise(0.01, 0.01)])) == [] == list(noise_notes([]))
    (said,) = noise_notes([Noise(0.05, 0.18), None, Noise(0.07, 0.1)])
    assert "scatter by 6 % about" in said and "too few by about 14 %" in said and "rule: smoothed" in said
