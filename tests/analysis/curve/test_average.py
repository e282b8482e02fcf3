"""Tests of `bcrit.analysis.curve.average`."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pandas as pd
import pytest
from scipy import stats

from bcrit.analysis.curve import HyperbolaFit, fit_hyperbola
from bcrit.analysis.curve.average import AveragedSteps, averaged_steps

BATCH = 200 * 2.0 ** np.arange(-5, 5)


def fit(steps: npt.NDArray[np.float64], noise: float = 0.05, seed: int = 0) -> HyperbolaFit:
    errors = np.random.default_rng(seed).normal(0, noise, len(BATCH))
    return fit_hyperbola(pd.DataFrame({"batch_size": BATCH, "steps": steps * np.exp(errors)}))


def u_shaped(lowest: float) -> npt.NDArray[np.float64]:
    return np.asarray(1000 * (1 + 200 / BATCH + 200 * lowest / BATCH**2))


def test_a_u_that_does_not_hold_is_not_read_from() -> None:
    found = fit(1000 * (1 + (200 / BATCH) ** 1.4) ** (1 / 1.4))
    assert found.trough is None and {"p_norm", "u_shape"} <= {model.name for model in found.models}
    (only,) = averaged_steps(found).members
    assert only.free and found.p_norm is not None and only.p == found.p_norm.p
    # One curve has its own t-interval.
    log, low, high = averaged_steps(found).log_ratio(BATCH)
    assert low + high == pytest.approx(2 * log) and np.exp(log) == pytest.approx(found.p_norm.steps(BATCH))


def test_a_u_that_holds_is_averaged_with_the_p_norm() -> None:
    found = fit(u_shaped(2.0), noise=0.02, seed=1)
    assert found.trough is not None
    curve = averaged_steps(found)
    assert [member.free for member in curve.members] == [True, False]
    assert sum(member.weight for member in curve.members) == pytest.approx(1)
    # As likely as the marginal likelihood has it, with the degrees of freedom of Student's t: 10 studies less 3.
    free, fitted = curve.members
    assert fitted.weight / free.weight == pytest.approx((free.sigma / fitted.sigma) ** 7)


@pytest.mark.parametrize("other", [None, BATCH / 1.1], ids=["steps", "ratio of steps"])
def test_beyond_each_end_lies_the_same_share_of_the_curves(other: npt.NDArray[np.float64] | None) -> None:
    found = fit(u_shaped(2.0), noise=0.02, seed=1)
    members = averaged_steps(found).members
    # As likely as each other, so that both matter.
    curve = AveragedSteps(tuple(type(m)(**{**vars(m), "weight": 0.5}) for m in members), found.level)
    _, low, high = curve.log_ratio(BATCH, other)
    shares = np.zeros((2, len(BATCH)))
    for member in curve.members:
        alone = AveragedSteps((type(member)(**{**vars(member), "weight": 1.0}),), found.level)
        value, _, end = alone.log_ratio(BATCH, other)
        t = stats.t(member.freedom)
        scale = (end - value) / t.ppf(0.975)
        shares += 0.5 * np.array([t.cdf((low - value) / scale), t.sf((high - value) / scale)])
    assert shares == pytest.approx(np.full_like(shares, 0.025), rel=1e-3)
