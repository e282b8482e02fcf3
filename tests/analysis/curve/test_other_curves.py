import math

import numpy as np
import pandas as pd
import pytest
from scipy import optimize, special

from bcrit.analysis.curve import HyperbolaFit, fit_hyperbola
from bcrit.analysis.curve.hyperbola import Hyperbola
from bcrit.analysis.curve.likelihood import PowerSum, Profile
from bcrit.analysis.curve.other_curves import CLEARLY, PNorm, UShape, clearly_better, fit_p_norm, fit_u_shape

B = 2.0 ** np.arange(2, 12)


@pytest.mark.parametrize("p", [0.5, 1.0, 1.4, 3.0])
def test_the_curve_that_was_put_in_comes_back(p: float) -> None:
    truth = PNorm(s_min=70, b_crit=123, p=p, rms_log_residual=0)
    found = fit_p_norm(np.log(B), np.log(truth.steps(B)))
    assert found is not None
    assert (found.s_min, found.b_crit, found.p) == pytest.approx((70, 123, p), rel=1e-6)
    assert found.rms_log_residual < 1e-8


def test_three_studies_or_a_knee_out_of_sight_give_none() -> None:
    assert fit_p_norm(np.log(B[:3]), np.log(10 / B[:3])) is None
    assert fit_p_norm(np.log(B), np.log(10 / B)) is None


def naive(x: np.ndarray, y: np.ndarray, reached: np.ndarray) -> float:
    """The smallest deviance by a general minimiser over all four parameters."""

    def deviance(q: np.ndarray) -> float:
        p, sigma = math.exp(q[2]), math.exp(q[3])
        z = (y - q[0] - np.logaddexp(0, p * (q[1] - x)) / p) / sigma
        return float(np.where(reached, 2 * q[3] + z**2, -2 * special.log_ndtr(-z)).sum())

    starts = [np.array([math.log(70), math.log(123), log_p, math.log(0.05)]) for log_p in (0.0, 0.5, 1.0)]
    return min(float(optimize.minimize(deviance, start, method="Powell", tol=1e-12).fun) for start in starts)


@pytest.mark.parametrize("seed", range(4))
def test_bounds_enter_the_likelihood(seed: int) -> None:
    x = np.log(B)
    y = np.log(PNorm(70, 123, 1.4, 0).steps(B)) + np.random.default_rng(seed).normal(0, 0.05, B.size)
    reached = B > 10
    y[~reached] = y[2] + (0.0, 1.0, 2.0, -1.0)[seed]
    found = fit_p_norm(x, y, reached)
    assert found is not None
    profile = Profile(x, y, reached, PowerSum(found.p))
    assert float(profile.deviance(math.log(found.b_crit))) == pytest.approx(naive(x, y, reached), abs=1e-4)


def test_bounds_make_a_sharp_knee_less_uncertain() -> None:
    rng, alone, joined = np.random.default_rng(3), [], []
    x = np.log(B)
    for _ in range(40):
        y = np.log(PNorm(1, 64, 1.4, 0).steps(B)) + rng.normal(0, 0.1, B.size)
        reached = y < math.log(6)
        bounded = np.where(reached, y, math.log(6))
        both = fit_p_norm(x[reached], y[reached]), fit_p_norm(x, bounded, reached)
        if both[0] is not None and both[1] is not None:
            alone.append(math.log(both[0].b_crit / 64))
            joined.append(math.log(both[1].b_crit / 64))
    assert np.std(joined) < np.std(alone)
    assert abs(np.median(joined)) < 0.1


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
        pytest.param(Hyperbola(50, 5000, 20).steps(B), "u_shape", id="u"),
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


# Steps = tokens / (2048 B) of language models of 215 and 429 million parameters to four losses (public, 2025): the
# hyperbola misses them by 0.17 to 0.28 (rms of log S), the U by 0.03 to 0.04.
SEQUENCES = np.array([32, 64, 128, 192, 256, 352, 512, 736, 1024, 2048.0])
TOKENS = {
    178: [14.65, 10.32, 8.72, 8.87, 9.44, 9.97, 10.98, 12.34, 14.78, 21.58],
    250: [33.72, 20.04, 15.83, 14.71, 14.57, 15.61, 16.62, 19.06, 21.93, 32.07],
    286: [49.07, 27.93, 22.50, 20.15, 18.69, 20.10, 20.92, 23.97, 26.89, 38.90],
    271: [44.28, 29.60, 22.54, 21.58, 21.71, 22.63, 24.43, None, 30.32, 37.85],
}


@pytest.mark.parametrize(("b_opt", "tokens"), TOKENS.items())
def test_examples_of_language_models_rise_again_at_small_batch_sizes(b_opt: int, tokens: list[float]) -> None:
    steps = np.array(tokens, dtype=float) * 1e9 / 2048 / SEQUENCES
    found = fit_hyperbola(pd.DataFrame({"batch_size": SEQUENCES, "steps": steps}).dropna())
    assert found.b_opt == pytest.approx(b_opt, abs=0.5)
    assert found.b_opt_low is not None and found.b_opt_high is not None
    assert 0.88 * b_opt < found.b_opt_low < b_opt < found.b_opt_high < 1.13 * b_opt
    assert found.rms_log_residual < 0.05 and all(found.identified.values())
    assert found.e_min == pytest.approx(float(found.curve.examples(found.b_opt or 0)))
    assert 2 * found.e_min == pytest.approx(float(found.curve.examples(found.e_doubles_at or 0)))
    assert 2 * found.s_min == pytest.approx(float(found.curve.steps(found.s_doubles_at or 0)))
    assert any("rise again" in note and "beta2" in note for note in found.notes)


def test_where_examples_fall_throughout_b_opt_has_an_interval_alone() -> None:
    batch = 2.0 ** np.arange(3, 9)
    found = fit(np.array([16250.0, 7600, 3560, 1680, 820, 405]), batch=batch)
    assert found.b_opt is None and found.trough is not None and not any(found.identified.values())
    assert found.b_opt_low is not None and 32 < found.b_opt_low < 256
    assert any("still fall at batch size 256, so b_opt is not identified" in note for note in found.notes)
    assert {suggestion.batch_size for suggestion in found.next_batch_size()} == {1024}
    assert found.regimes().studies[0][1] == "too small"


def u_shape(x: np.ndarray, y: np.ndarray, reached: np.ndarray) -> UShape:
    found = fit_u_shape(Profile(x, y, reached))
    assert found is not None
    return found


@pytest.mark.parametrize("unreached", [0, 2])
def test_the_region_of_a_u_has_the_ends_of_the_profile(unreached: int) -> None:
    """The naive twin fixes b_opt, seeks the rest with a general minimiser, and looks where the deviance has risen."""
    x, rng = np.log(B), np.random.default_rng(8)
    y = np.log(Hyperbola(50, 4000, 16).steps(B)) + rng.normal(0, 0.05, B.size)
    reached = np.arange(B.size) >= unreached
    y[~reached] -= 0.02
    found = u_shape(x, y, reached)

    def least(v: float) -> float:
        def deviance(q: np.ndarray) -> float:
            z = (y - q[0] - np.logaddexp(np.logaddexp(0, q[1] - x), 2 * (v - x))) / math.exp(q[2])
            return float(np.where(reached, 2 * q[2] + z**2, -2 * special.log_ndtr(-z)).sum())

        start = np.array([math.log(found.curve.s_min), found.u, -3.0])
        return float(
            optimize.minimize(deviance, start, method="Nelder-Mead", options={"xatol": 1e-8, "fatol": 1e-9}).fun
        )

    m = int(reached.sum())
    allowed = m * math.log1p(special.stdtrit(m - 3, 0.975) ** 2 / (m - 3))
    best = math.log(found.curve.b_opt)
    region = [math.log(curve.b_opt) for curve in found.region(0.95, 0.0)]
    for end in (min(region), max(region)):
        assert least(end) - least(best) == pytest.approx(allowed, rel=0.02)


def test_a_scatter_below_that_of_the_evaluation_grid_counts_as_that() -> None:
    x = np.log(B)
    found = u_shape(x, np.log(Hyperbola(50, 4000, 16).steps(B)), np.ones(B.size, dtype=bool))
    exact, coarse = ([c.b_opt for c in found.region(0.95, least)] for least in (0.0, 0.05))
    assert max(exact) / min(exact) == pytest.approx(1, abs=1e-6)
    assert 1.05 < max(coarse) / min(coarse) < 3
    assert found.holds(float(Profile(x, np.log(50 + 4000 / B), np.ones(B.size, dtype=bool)).deviance(0.0)), None, 0.0)
    assert not found.holds(1.0, None, 0.5)  # with so coarse an evaluation nobody sees a rise


@pytest.mark.parametrize(
    ("p", "noise"),
    [
        (1.0, 0.1),
        *(pytest.param(*of, marks=pytest.mark.long) for of in ((1.0, 0.03), (1.4, 0.03), (2.0, 0.1), (0.6, 0.1))),
    ],
)
def test_knees_of_any_sharpness_are_hardly_ever_taken_for_a_u(p: float, noise: float) -> None:
    alarms = [fit(sharp(p), noise, seed).b_opt is not None for seed in range(60)]
    assert sum(alarms) <= 60 * 0.05 + 4  # and two Monte-Carlo standard errors
    kept = fit(sharp(p), noise)
    assert (kept.b_opt, kept.b_opt_low, kept.b_opt_high, kept.trough) == (None, None, None, None)


@pytest.mark.parametrize(
    ("n", "noise", "ratio"),
    [
        (6, 0.08, 16),
        pytest.param(10, 0.03, 16, marks=pytest.mark.long),
        pytest.param(10, 0.08, 64, marks=pytest.mark.long),
    ],
)
def test_both_intervals_of_a_u_cover_at_their_level(n: int, noise: float, ratio: float) -> None:
    """With b_hi / b_lo = `ratio`; 100 draws of each of three cells, a standard error of 2.2 %."""
    truth = Hyperbola(50, 50 * (1 + 2 / math.sqrt(ratio)), 1 / math.sqrt(ratio))
    batch = 2.0 ** np.linspace(-6, 3, n)
    fits = [fit(truth.steps(batch), noise, seed, batch) for seed in range(100)]
    holding = [one for one in fits if one.b_opt_low and one.b_opt_high]
    assert len(holding) >= 50
    for name in ("b_opt", "b_crit"):
        value = getattr(truth, name)
        covered = [getattr(one, f"{name}_low") <= value <= getattr(one, f"{name}_high") for one in holding]
        assert np.mean(covered) >= 0.88, name
    assert np.mean([one.identified["b_crit"] for one in holding]) > 0.9
