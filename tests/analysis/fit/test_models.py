from __future__ import annotations

import math

import numpy as np
import pandas as pd
import pytest
from scipy import optimize

from bcrit.analysis.fit.estimate import fit_hyperbola
from bcrit.analysis.fit.models import CLEARLY, clearly_better
from bcrit.analysis.fit.p_norm import PNorm
from bcrit.analysis.fit.result import HyperbolaFit

B = 2.0 ** np.arange(2, 12)


def fit(steps: np.ndarray, noise: float = 0.0, seed: int = 0, batch: np.ndarray = B, **more: float) -> HyperbolaFit:
    errors = np.random.default_rng(seed).normal(0, noise, batch.size)
    return fit_hyperbola(pd.DataFrame({"batch_size": batch, "steps": steps * np.exp(errors), **more}))


def sharp(p: float) -> np.ndarray:
    return PNorm(50, 100, p, 0).steps(B)


@pytest.mark.parametrize(
    ("steps", "best"),
    [
        pytest.param(5000 / B, "perfect_scaling", id="perfect"),
        pytest.param(0 * B + 50, "flat", id="flat"),
        pytest.param(sharp(1), "hyperbola", id="hyperbola"),
        pytest.param(sharp(2), "p_norm", id="p-norm"),
        pytest.param(np.maximum(50, 5000 / B), "two_asymptotes", id="corner"),
    ],
)
@pytest.mark.parametrize("noise", [0.0, 0.02])
def test_the_model_that_made_the_points_is_preferred(steps: np.ndarray, best: str, noise: float) -> None:
    found = fit(steps, noise).models
    assert max(found, key=lambda model: model.weight or 0).name == best
    assert sum(model.weight or 0 for model in found) == pytest.approx(1)


def test_the_criterion_is_the_textbooks() -> None:
    hyperbola = next(model for model in fit(sharp(1), 0.05).models if model.name == "hyperbola")
    n, k = B.size, 3
    rss = n * hyperbola.rms_log_residual**2
    # n log(RSS / n) + n is -2 log L without its constant.
    assert hyperbola.aicc == pytest.approx(n * math.log(rss / n) + n + 2 * k + 2 * k * (k + 1) / (n - k - 1))


def test_the_corner_agrees_with_a_brute_force_search() -> None:
    y = np.log(sharp(3)) + np.random.default_rng(2).normal(0, 0.1, B.size)
    model = next(m for m in fit(np.exp(y)).models if m.name == "two_asymptotes")

    def rss(parameters: np.ndarray) -> float:
        return float(((y - np.maximum(parameters[0], parameters[1] - np.log(B))) ** 2).sum())

    twin = min(
        float(optimize.minimize(rss, [math.log(50), math.log(5000) + shift], method="Nelder-Mead").fun)
        for shift in (-1.0, -0.5, 0.0, 0.5, 1.0)
    )
    assert B.size * model.rms_log_residual**2 == pytest.approx(twin, rel=1e-4)


def test_with_few_studies_the_criterion_is_left_out_and_not_made_up() -> None:
    small = B[2:7]
    found = {model.name: model for model in fit(50 * (1 + 100 / small), 0.05, batch=small).models}
    assert found["p_norm"].aicc is None and found["p_norm"].weight is None
    assert found["hyperbola"].aicc is not None
    assert clearly_better(fit(50 * (1 + 100 / small[:3]), 0.05, batch=small[:3]).models) is None


def test_unreached_studies_enter_as_bounds() -> None:
    steps = np.where(sharp(1) > 600, math.nan, sharp(1))
    flat = next(model for model in fit(steps, 0.02, max_steps=600.0).models if model.name == "flat")
    without = next(model for model in fit(steps[2:], 0.02, batch=B[2:]).models if model.name == "flat")
    assert flat.parameters["c"] > without.parameters["c"]


def test_another_model_is_called_better_only_when_it_clearly_is() -> None:
    better = clearly_better(fit(sharp(2), 0.01).models)
    assert better is not None and better[0].name == "p_norm" and better[1] > CLEARLY
    rng = range(60)
    alarms = [clearly_better(fit(sharp(1), 0.05, seed=seed).models) is not None for seed in rng]
    assert np.mean(alarms) <= 0.05
    assert any("AICc" in note for note in fit(np.maximum(50, 5000 / B), 0.01).notes)
