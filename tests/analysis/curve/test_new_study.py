import math
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from bcrit.analysis.curve import HyperbolaFit, fit_hyperbola
from bcrit.analysis.curve.hyperbola import Hyperbola
from bcrit.analysis.curve.new_study import BEYOND, FURTHEST, candidates, next_sentence
from bcrit.search_spaces import InputError

B = 2.0 ** np.arange(4, 10)


def fit(
    batch: np.ndarray, rng: np.random.Generator, b_crit: float = 100.0, noise: float = 0.05, b_opt: float = 0.0
) -> HyperbolaFit:
    steps = Hyperbola(50, 50 * b_crit, b_opt).steps(batch) * np.exp(rng.normal(0, noise, batch.size))
    return fit_hyperbola(pd.DataFrame({"batch_size": batch, "steps": steps}))


@pytest.mark.parametrize("b_opt", [0.0, 40.0], ids=["hyperbola", "u"])
def test_the_expected_variance_is_that_of_the_normal_equations(b_opt: float) -> None:
    found = fit(B, np.random.default_rng(0), b_opt=b_opt, noise=0.02)
    curve = found.curve
    assert (found.b_opt is None) == (b_opt == 0)

    def variance(batch: np.ndarray) -> float:
        rows = curve.jacobian(batch)
        return float(curve.of_b_crit @ np.linalg.inv(rows.T @ rows) @ curve.of_b_crit)

    sizes = candidates(found.reached, ())
    gains = np.array([math.log(variance(B) / variance(np.append(B, size))) for size in sizes])
    for suggestion in found.next_batch_size():
        cost = curve.steps(sizes) * (sizes if suggestion.per == "examples" else 1)
        assert suggestion.batch_size == sizes[int(np.argmax(gains / cost))]
        assert suggestion.ratio_now == pytest.approx(found.b_crit_high / found.b_crit_low)


def test_steps_favour_large_batch_sizes_and_examples_small_ones() -> None:
    by_kind = {s.per: s for s in fit(B, np.random.default_rng(0)).next_batch_size()}
    assert by_kind["steps"].batch_size > B.max()
    assert by_kind["examples"].batch_size < B.min()


def test_seconds_count_what_the_step_time_says() -> None:
    found = fit(B, np.random.default_rng(0))
    flat = {s.per: s for s in found.next_batch_size(lambda size: np.full(np.shape(size), 0.01))}
    linear = {s.per: s for s in found.next_batch_size(lambda size: np.asarray(size, dtype=float))}
    assert flat["seconds"].batch_size == flat["steps"].batch_size
    assert flat["seconds"].cost == pytest.approx(0.01 * flat["steps"].cost)
    assert linear["seconds"].batch_size == linear["examples"].batch_size


def test_candidates_are_new_and_not_too_far_and_not_beyond_what_was_not_reached() -> None:
    found = candidates((16.0, 64.0, 100.0), (8.0, 512.0))
    assert list(found) == [32, 128, 256]
    assert list(candidates((16.0, 64.0), ())) == [4, 8, 32, 128, 256]
    assert max(found) <= 100 * FURTHEST


@pytest.mark.parametrize(
    ("b_crit", "outside"), [(10_000.0, "larger"), (0.3, "smaller")], ids=["before-the-knee", "beyond-the-knee"]
)
def test_where_b_crit_is_not_identified_it_goes_out_on_the_open_side(b_crit: float, outside: str) -> None:
    found = fit(B, np.random.default_rng(1), b_crit)
    assert not found.identified["b_crit"]
    suggestions = found.next_batch_size()
    assert {s.batch_size for s in suggestions} == {B.max() * FURTHEST if outside == "larger" else B.min() / FURTHEST}
    assert all(s.ratio_after is None and s.extrapolated for s in suggestions)
    assert outside in (next_sentence(suggestions, "examples") or "")


def test_computed_numbers_need_no_further_study() -> None:
    assert fit(B, np.random.default_rng(0), noise=0.0).next_batch_size() == ()
    assert next_sentence((), "examples") is None


@pytest.mark.long
def test_following_it_shrinks_the_interval_more_per_cost_than_the_middle_or_a_random_batch_size() -> None:
    rng = np.random.default_rng(4)
    batch = 2.0 ** np.arange(3, 10)
    per_cost: dict[str, list[float]] = {"suggested": [], "middle": [], "random": []}
    for _ in range(50):
        full = 2.0 ** np.arange(1, 12)
        steps = dict(zip(full, 50 * (1 + 64 / full) * np.exp(rng.normal(0, 0.05, full.size)), strict=True))
        have = batch[[0, 1, 3, 5, 6]]
        first = fit_hyperbola(pd.DataFrame({"batch_size": have, "steps": [steps[b] for b in have]}))
        suggested = next(s.batch_size for s in first.next_batch_size() if s.per == "steps")
        choices = {"suggested": suggested, "middle": 32.0, "random": rng.choice(candidates(first.reached, ()))}
        for name, size in choices.items():
            more = np.append(have, size)
            then = fit_hyperbola(pd.DataFrame({"batch_size": more, "steps": [steps[b] for b in more]}))
            gained = math.log(first.b_crit_high / first.b_crit_low) - math.log(then.b_crit_high / then.b_crit_low)
            per_cost[name].append(gained / steps[size])
    means = {name: float(np.mean(gains)) for name, gains in per_cost.items()}
    assert means["suggested"] > 1.2 * max(means["middle"], means["random"])


def test_an_open_interval_with_everything_identified_is_not_computed_with() -> None:
    found = fit(B, np.random.default_rng(0))
    assert replace(found, b_crit_low=0.0, b_crit_high=200.0).next_batch_size() == ()


# Median epochs to target by batch size: MLPerf Training reference convergence points, Apache-2.0,
# github.com/mlcommons/logging, mlperf_logging/rcp_checker (training_2.0.0 and 5.x; steps are epochs / batch size).
REAL = {
    "resnet": (
        [1632, 3264, 4096, 8192, 13056, 32768, 49152, 58880, 65536, 67840],
        [35, 35, 40, 42, 45.5, 56, 68, 80, 85, 86],
    ),
    "bert": (
        [256, 448, 1536, 3072, 4096, 4608, 6144, 6912, 8192, 8704, 12288, 13056, 16384],
        [2.546, 2.408, 2.789, 2.753, 2.839, 2.811, 3.318, 3.622, 4.178, 4.243, 4.443, 4.618, 5.494],
    ),
    "retinanet": ([256, 320, 512, 768, 1024, 1280, 2048, 2560, 4096], [4, 4, 5, 5, 6, 7, 8, 9, 15]),
    "llama31_8b": ([16, 32, 64, 96, 128], [1.597, 1.843, 2.335, 2.724, 3.441]),
}
WIDE = 2.0 ** np.arange(2, 10)


def table(batch: np.ndarray, steps: np.ndarray) -> pd.DataFrame:
    return pd.DataFrame({"batch_size": batch, "steps": steps})


def test_real_studies_that_were_left_out_lie_within_about_as_often_as_they_should() -> None:
    inside = []
    for sizes, epochs in REAL.values():
        batch = np.array(sizes, dtype=float)
        steps = 1e6 * np.array(epochs) / batch
        for i in range(batch.size):
            others = np.arange(batch.size) != i
            (found,) = fit_hyperbola(table(batch[others], steps[others]), level=0.9).predict_studies([batch[i]])
            assert found.steps_low is not None and found.steps_high is not None
            inside.append(found.steps_low <= steps[i] <= found.steps_high)
    assert len(inside) == 37
    assert 0.85 <= np.mean(inside) <= 0.97


@pytest.mark.parametrize("noise", [pytest.param(0.03, marks=pytest.mark.long), 0.1])
def test_new_studies_on_a_true_hyperbola_lie_within_at_the_level(noise: float) -> None:
    rng, inside = np.random.default_rng(9), []
    for _ in range(100):
        errors = rng.normal(0, noise, WIDE.size + 1)
        fit = fit_hyperbola(table(WIDE, 20 * (1 + 64 / WIDE) * np.exp(errors[1:])), level=0.9)
        (found,) = fit.predict_studies([90.0])
        new = 20 * (1 + 64 / 90) * math.exp(errors[0])
        assert found.steps_low is not None and found.steps_high is not None
        inside.append(found.steps_low <= new <= found.steps_high)
    assert 0.81 <= np.mean(inside) <= 0.98  # 0.9 and three Monte-Carlo standard errors


def test_a_new_study_scatters_more_than_the_curve_and_more_so_outside() -> None:
    fit = fit_hyperbola(table(WIDE, 20 * (1 + 64 / WIDE) * np.exp(np.random.default_rng(1).normal(0, 0.05, WIDE.size))))
    inside, outside = fit.predict_studies([64, 65536])
    assert None not in (inside.steps_low, inside.curve_low, inside.curve_high, inside.steps_high)
    assert inside.steps_low < inside.curve_low < inside.steps < inside.curve_high < inside.steps_high  # type: ignore[operator]
    assert (inside.extrapolated, outside.extrapolated) == (False, True)
    assert inside.examples == pytest.approx(64 * inside.steps)
    band = fit.predict([64.0]).iloc[0]
    assert (inside.curve_low, inside.curve_high) == pytest.approx((band["steps_low"], band["steps_high"]))


def test_beyond_the_reached_batch_sizes_every_doubling_widens_it() -> None:
    exact = fit_hyperbola(table(WIDE, Hyperbola(20, 1280).steps(WIDE)), level=0.9)
    beyond = exact.predict_studies([2 * WIDE.max(), 8 * WIDE.max(), WIDE.min() / 4, 100.0])
    halves = [math.log((found.steps_high or 0) / found.steps) for found in beyond]
    assert halves == pytest.approx([1.645 * BEYOND * doublings for doublings in (1, 3, 2, 0)], abs=1e-3)
    (steep,) = fit_hyperbola(table(WIDE, Hyperbola(20, 1280, 16).steps(WIDE))).predict_studies([1.0])
    assert steep.steps == pytest.approx(float(Hyperbola(20, 1280, 16).steps(1.0)))


def test_two_studies_give_a_number_without_interval() -> None:
    (found,) = fit_hyperbola(table(WIDE[[0, 7]], 20 * (1 + 64 / WIDE[[0, 7]]))).predict_studies([64])
    assert found.steps == pytest.approx(40)
    assert found.steps_low is None and found.curve_high is None


@pytest.mark.parametrize("size", [0.0, -4.0, math.nan, math.inf])
def test_a_batch_size_that_is_none_is_refused(size: float) -> None:
    fit = fit_hyperbola(table(WIDE, 20 * (1 + 64 / WIDE)))
    with pytest.raises(InputError, match="must be a positive number"):
        fit.predict_studies([size])
