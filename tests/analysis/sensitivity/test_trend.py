from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from bcrit.analysis.sensitivity.trend import trend

SIZES = [8, 16, 32, 64, 128, 256]


@pytest.mark.parametrize(("slope", "kind"), [(-0.5, "shrinks"), (0.5, "grows")])
def test_a_trend_is_found_with_its_sign(slope: float, kind: str) -> None:
    noise = np.exp(0.1 * np.random.default_rng(0).normal(size=6))
    found = trend(SIZES, list(0.1 * np.array(SIZES, dtype=float) ** slope * noise))
    assert found.kind == kind and found.low <= slope <= found.high
    assert found.rank_correlation == pytest.approx(np.sign(slope), abs=0.1)


def test_the_interval_is_that_of_the_regression() -> None:
    volumes = [0.2, 0.1, 0.3, 0.15, 0.25, 0.1]
    found = trend(SIZES, volumes)
    line = stats.linregress(np.log(SIZES), np.log(volumes))
    assert found.kind == "no trend" and found.slope == pytest.approx(line.slope)
    assert found.high - found.low == pytest.approx(2 * stats.t.ppf(0.975, 4) * line.stderr)


def test_three_studies_or_equal_volumes_have_no_trend() -> None:
    assert trend(SIZES[:3], [0.1, 0.2, 0.3]).kind == "not known"
    same = trend(SIZES, [0.1] * 6)
    assert (same.kind, same.rank_correlation) == ("no trend", 0.0)
