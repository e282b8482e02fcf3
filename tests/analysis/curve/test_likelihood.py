import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import optimize, stats

from bcrit.analysis.curve.hyperbola import Hyperbola
from bcrit.analysis.curve.likelihood import LEAST, PowerSum, Profile, censored_normal, hazard, minimise, weight

X = np.log(2.0 ** np.arange(3, 11))


def noisy(seed: int, noise: float = 0.1, u: float = math.log(100)) -> Profile:
    rng = np.random.default_rng(seed)
    y = math.log(50) + np.logaddexp(0, u - X) + rng.normal(0, noise, X.size)
    return Profile(X, y, np.ones(X.size, dtype=bool))


@given(st.integers(0, 10_000))
def test_the_profile_agrees_with_a_general_least_squares_solver(seed: int) -> None:
    profile = noisy(seed)
    u = minimise(profile)

    def residuals(parameters: np.ndarray) -> np.ndarray:
        return np.asarray(profile.log_steps - np.logaddexp(parameters[0], parameters[1] - X))

    twin = optimize.least_squares(residuals, [math.log(50), math.log(5000)], xtol=1e-14, ftol=1e-14, gtol=1e-14).x
    curve = profile.curve(u)
    assert [math.log(curve.s_min), math.log(curve.e_min)] == pytest.approx(list(twin), abs=1e-6)


def test_the_slope_is_the_derivative_of_the_censored_deviance() -> None:
    full = noisy(3)
    profile = Profile(X, full.log_steps, np.arange(X.size) > 1)
    u, step = math.log(70), 1e-5
    numeric = float(profile.deviance(u + step) - profile.deviance(u - step)) / (2 * step)
    sigma = float(profile.solve(u)[1])
    assert 2 * profile.slope(u) / sigma**2 == pytest.approx(numeric, rel=1e-5)


def test_one_method_serves_the_limits_of_the_curve() -> None:
    ones = np.ones(X.size, dtype=bool)
    assert minimise(Profile(X, 10 - X, ones)) == math.inf
    assert minimise(Profile(X, 0 * X + 4, ones)) == -math.inf
    assert minimise(Profile(X, 0.3 * X, ones)) == -math.inf


def test_two_straight_lines_are_the_limit_of_ever_sharper_knees() -> None:
    profile = noisy(4)
    corner, sharp = replace(profile, shape=PowerSum(math.inf)), replace(profile, shape=PowerSum(1e4))
    at = np.array([-math.inf, 1.0, 4.5, 9.0, math.inf])
    assert corner.offset(at) == pytest.approx(sharp.offset(at), abs=1e-3)
    assert corner.deviance(at) == pytest.approx(sharp.deviance(at), abs=0.1)


positive = st.floats(1e-6, 1e6)


def test_the_limits_of_the_curve_are_ordinary_curves() -> None:
    perfect, flat = Hyperbola(0, 100), Hyperbola(100, 0)
    assert perfect.b_crit == math.inf
    assert flat.b_crit == 0
    assert perfect.batch_size_for_steps(10) == 10
    assert perfect.batch_size_for_examples(100) == math.inf
    assert perfect.batch_size_for_examples(99) is None
    assert flat.batch_size_for_steps(100) == 0
    assert flat.batch_size_for_steps(99) is None


@given(positive, positive, st.floats(1e-3, 1e3))
def test_steps_and_examples_lie_on_the_time_compute_frontier(s_min: float, e_min: float, ratio: float) -> None:
    curve = Hyperbola(s_min, e_min)
    batch = ratio * curve.b_crit
    assert (curve.steps(batch) / s_min - 1) * (curve.examples(batch) / e_min - 1) == pytest.approx(1)
    assert curve.examples(batch) == pytest.approx(batch * curve.steps(batch))
    assert curve.efficiency(batch) == pytest.approx(1 / (1 + ratio))


@given(positive, positive, positive)
def test_a_budget_is_spent_exactly_at_its_batch_size(s_min: float, e_min: float, batch: float) -> None:
    curve = Hyperbola(s_min, e_min)
    by_steps = curve.batch_size_for_steps(float(curve.steps(batch)) * 1.5)
    by_examples = curve.batch_size_for_examples(float(curve.examples(batch)) * 1.5)
    assert by_steps is not None and by_examples is not None
    assert curve.steps(by_steps) == pytest.approx(curve.steps(batch) * 1.5)
    assert curve.examples(by_examples) == pytest.approx(curve.examples(batch) * 1.5)


def naive(values: np.ndarray, reached: np.ndarray, lower: np.ndarray | None = None) -> tuple[float, float]:
    """The same likelihood written out and given to a general minimiser."""

    def loss(parameters: np.ndarray) -> float:
        normal = stats.norm(parameters[0], np.exp(parameters[1]))
        inside = np.zeros(len(values), dtype=bool) if lower is None else reached & (lower < values)
        own = 0.0 if lower is None else np.log(normal.cdf(values[inside]) - normal.cdf(lower[inside])).sum()
        return float(-own - normal.logpdf(values[reached & ~inside]).sum() - normal.logsf(values[~reached]).sum())

    start = [values.mean(), np.log(values.std())]
    found = optimize.minimize(loss, start, method="Nelder-Mead", options={"xatol": 1e-10, "fatol": 1e-12})
    return float(found.x[0]), float(np.exp(found.x[1]))


@pytest.mark.parametrize("seed", range(10))
def test_the_newton_iteration_agrees_with_a_naive_search(seed: int) -> None:
    rng = np.random.default_rng(seed)
    values = rng.normal(5, rng.choice([0.01, 1.0, 30.0]), 8)
    reached = np.arange(8) < rng.integers(3, 8)
    values[~reached] -= rng.exponential(size=(~reached).sum())
    mean, sigma = censored_normal(values, reached)
    assert (float(mean), float(sigma)) == pytest.approx(naive(values, reached), rel=1e-6)


@pytest.mark.parametrize("seed", range(10))
def test_values_between_two_evaluations_enter_as_that(seed: int) -> None:
    rng = np.random.default_rng(seed)
    values = rng.normal(5, 1, 9)
    reached, inside = np.arange(9) < 8, np.arange(9) % 2 == 1
    lower = np.where(inside, values - rng.uniform(0.2, 2, 9), values)
    lower[1] = -14.0  # the first evaluation crossed
    mean, sigma = censored_normal(values, reached, lower)
    assert (float(mean), float(sigma)) == pytest.approx(naive(values, reached, lower), rel=1e-5)
    profile = Profile(X, values[:8] - X, reached[:8], lower=lower[:8] - X)
    u, step = math.log(70), 1e-5
    numeric = float(profile.deviance(u + step) - profile.deviance(u - step)) / (2 * step)
    assert 2 * profile.slope(u) / float(profile.solve(u)[1]) ** 2 == pytest.approx(numeric, rel=1e-4)


def test_intervals_that_one_curve_keeps_have_a_scatter_all_the_same() -> None:
    reached = np.ones(3, dtype=bool)
    for upper in (np.array([1.0, 1.1, 1.2]), np.ones(3)):
        mean, sigma = censored_normal(upper, reached, upper - 0.5)
        assert float(sigma) == pytest.approx(LEAST) and upper.max() - 0.5 < float(mean) < 1.0


COARSE = {
    "at one bound": ([16, 64, 256, 1024, 4096], [138, 69, 69, 69, 69], [69, 1e-6, 1e-6, 1e-6, 1e-6], 0),
    "the least scatter": ([16, 64, 256, 1024], [128, 96, 64, 64], [96, 64, 32, 32], 0),
    "bounds alone": ([16, 64, 256, 1024, 4096], [2663, 2663, 918, 918, 918], [2663, 2663, 1e-6, 1e-6, 1e-6], 2),
}


@pytest.mark.parametrize(("sizes", "upper", "lower", "n_unreached"), COARSE.values(), ids=COARSE)
def test_the_maximum_is_found_wherever_intervals_leave_it(
    sizes: list[float], upper: list[float], lower: list[float], n_unreached: int
) -> None:
    profile = Profile(np.log(sizes), np.log(upper), np.arange(len(sizes)) >= n_unreached, lower=np.log(np.array(lower)))
    for u in (-math.inf, 0.0, 2.3, 4.0, 7.0, 10.0):
        found = float(profile.deviance(u))

        def of(parameters: np.ndarray, u: float = u) -> float:
            sigma = max(float(np.exp(parameters[1])), LEAST)
            return float(profile.deviance(u, (np.asarray(parameters[0]), np.asarray(sigma))))

        rest = profile.log_steps - profile.offset(u)
        starts = [[level, scatter] for level in (rest.mean(), rest.min()) for scatter in (-3.0, 0.0)]
        best = min(
            optimize.minimize(
                of, start, method="Nelder-Mead", options={"xatol": 1e-9, "fatol": 1e-11, "maxiter": 4000}
            ).fun
            for start in starts
        )
        assert found == pytest.approx(best, abs=1e-5) or found < best


def test_where_intervals_leave_the_likelihood_flat_a_limit_is_taken_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    profile = Profile(np.log([16.0, 64.0]), np.log([250.0, 120.0]), np.ones(2, bool), lower=np.log([1e-6, 90.0]))
    calls: list[float] = []
    slope = Profile.slope

    def counted(self: Profile, u: float) -> float:
        calls.append(u)
        return slope(self, u)

    monkeypatch.setattr(Profile, "slope", counted)
    assert minimise(profile) == -math.inf and len(calls) < 60  # it was 1679


def test_bounds_far_above_the_observations_are_no_trouble() -> None:
    values, reached = np.array([0.0, 1e-3, 2e-3, 50.0]), np.array([True, True, True, False])
    mean, sigma = censored_normal(values, reached)
    assert (float(mean), float(sigma)) == pytest.approx(naive(values, reached), rel=1e-5)


def test_the_hazard_is_right_in_both_tails() -> None:
    assert hazard(np.array([0.0, -50.0, 1e9])) == pytest.approx([np.sqrt(2 / np.pi), 0, 1e9])
    assert weight(np.array([0.0])) == pytest.approx([2 / np.pi])


def test_a_sample_that_differs_by_its_rounding_alone_has_no_spread_to_speak_of() -> None:
    mean, sigma = censored_normal(np.array([1.0, np.nextafter(1.0, 2.0), 0.9]), np.array([True, True, False]))
    assert float(mean) == pytest.approx(1.0) and 0 < float(sigma) < 1e-6


@given(positive, positive, st.floats(1e-3, 1.0), st.floats(1e-3, 1e3))
def test_the_closed_forms_of_a_u_are_those_of_its_curve(s_min: float, b_opt: float, over: float, place: float) -> None:
    u = Hyperbola(s_min, 2 * s_min * b_opt * (1 + over), b_opt)
    e, q, batch = 2 * s_min * b_opt * over, s_min * b_opt**2, b_opt * place
    assert float(u.steps(batch)) == pytest.approx(s_min + e / batch + q / batch**2)
    assert float(u.examples(b_opt)) == pytest.approx(u.e_min) and u.efficiency(b_opt) == pytest.approx(1)
    assert float(u.examples(batch)) >= u.e_min * (1 - 1e-12)
    assert u.batch_size_for_steps(float(u.steps(batch))) == pytest.approx(batch, rel=1e-4)
    assert float(u.examples(u.b_crit)) == pytest.approx(2 * u.e_min) and u.b_crit > b_opt
    assert u.batch_size_for_examples(0.99 * u.e_min) is None
    step = 1e-6
    for place_of, name in enumerate(("s_min", "e_min", "b_opt")):
        up, down = (replace(u, **{name: getattr(u, name) * math.exp(d)}) for d in (step, -step))
        assert u.jacobian(batch)[place_of] == pytest.approx(
            math.log(float(up.steps(batch)) / float(down.steps(batch))) / (2 * step), abs=1e-6
        )
        assert u.of_b_crit[place_of] == pytest.approx(math.log(up.b_crit / down.b_crit) / (2 * step), abs=1e-5)


def test_without_b_opt_it_is_the_hyperbola() -> None:
    curve, limit = Hyperbola(50, 5000), Hyperbola(50, 5000, 1e-9)
    for batch in (1.0, 100.0, 1e4):
        assert float(limit.steps(batch)) == pytest.approx(float(curve.steps(batch)))
    assert limit.b_crit == pytest.approx(curve.b_crit) == 100
    assert limit.of_b_crit[:2] == pytest.approx(curve.of_b_crit)
