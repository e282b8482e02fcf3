"""The fit of line searches to gains that follow the laws exactly, and what it says where it cannot."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from examples.papers.line_search import LineFit, LineSearch, best_step, fit_line_search

LRS = tuple(1e-4 * 1.5**k for k in range(28))


def search(
    b_noise: float,
    sizes: tuple[int, ...],
    *,
    lrs: tuple[float, ...] = LRS,
    n_examples: int | None = None,
    noise: float = 0,
) -> LineSearch:
    """Gains lr - lr^2/2 (1 + b_noise / B), so that lr_max = 1 and gain_max = 1/2."""
    rng, lr = np.random.default_rng(0), np.array(lrs)
    x = np.array([1 / b - (0 if n_examples is None else 1 / n_examples) for b in sizes])
    factor = 1 + noise * rng.normal(size=(20, len(sizes), 1))
    return LineSearch(sizes, lrs, lr * factor - lr**2 / 2 * (1 + b_noise * x)[:, None], n_examples, 1.0)


@pytest.mark.parametrize("n_examples", [None, 4096])
@pytest.mark.parametrize("b_noise", [3.0, 100.0, 5000.0])
def test_exact_gains_give_the_exact_scale(b_noise: float, n_examples: int | None) -> None:
    found = fit_line_search(search(b_noise, (4, 32, 256, 2048, 4096), n_examples=n_examples))
    for value in (found.b_noise, found.b_noise_of_lr, found.b_noise_of_gain, found.low, found.high):
        assert value == pytest.approx(b_noise, rel=1e-2)
    assert found.lr_max == pytest.approx(1.0, rel=1e-2) and found.gain_max == pytest.approx(0.5, rel=1e-2)
    assert max(map(abs, found.lr_residuals + found.gain_residuals)) < 0.01
    assert str(found).startswith("b_noise = ")


def test_the_best_step_is_the_vertex_of_the_parabola_also_below_the_first_learning_rate() -> None:
    lr = np.array([0.3, 0.5, 0.9])
    best, gain = best_step(lr - lr**2 * 2.0, tuple(lr))  # 1/4 and 1/8
    assert (float(best), float(gain)) == pytest.approx((0.25, 0.125), rel=1e-9)


def test_a_neighbour_that_diverges_leaves_the_best_measured_point() -> None:
    best, gain = best_step(np.array([0.1, 0.2, -np.inf]), (0.1, 0.2, 0.4))
    assert (float(best), float(gain)) == (0.2, 0.2)


def unresolved(found: LineFit, message: str) -> None:
    assert found.b_noise is None and found.low is None
    assert message in found.reason and str(found) == f"b_noise = not resolved: {found.reason}"


def test_a_best_learning_rate_at_the_edge_is_set_aside_with_the_reason() -> None:
    found = fit_line_search(search(100.0, (4, 8, 16, 32, 4096), lrs=tuple(0.01 * 1.3**k for k in range(15))))
    assert list(found.set_aside) == [4096] and "larger ones are needed" in found.set_aside[4096]
    assert found.batch_sizes == (4, 8, 16, 32) and found.b_noise == pytest.approx(100.0, rel=0.02)


def test_a_batch_size_at_which_no_step_gains_is_set_aside() -> None:
    measured = search(100.0, (4, 8, 16, 32))
    gains: NDArray[np.float64] = measured.gains.copy()
    gains[:, 0] = -1.0
    found = fit_line_search(LineSearch(measured.batch_sizes, LRS, gains, None, 1.0))
    assert "no step gains anything" in found.set_aside[4] and found.b_noise is not None


def test_two_batch_sizes_are_too_few() -> None:
    unresolved(fit_line_search(search(100.0, (16, 256))), "2 batch sizes with a best learning rate")


@pytest.mark.parametrize(("b_noise", "side"), [(1e-5, "smaller"), (1e9, "larger")])
def test_laws_that_do_not_bend_say_where_to_look(b_noise: float, side: str) -> None:
    lrs = LRS if b_noise < 1 else tuple(1e-10 * 1.5**k for k in range(40))
    unresolved(fit_line_search(search(b_noise, (16, 64, 256), lrs=lrs)), f"add {side} ones")


def test_the_interval_is_the_jackknifes_over_noise_samples() -> None:
    measured = search(50.0, (4, 16, 64, 256), noise=0.3)
    found = fit_line_search(measured)
    # Without one sample all four batch sizes get nearly the same weights, so refitting is nearly the same jackknife.
    fits = [
        fit_line_search(LineSearch(measured.batch_sizes, LRS, np.delete(measured.gains, k, axis=0), None, 1.0))
        for k in range(20)
    ]
    error = np.sqrt(19 * np.var([np.log(fit.b_noise or np.nan) for fit in fits]))
    assert found.b_noise is not None and found.high is not None and found.low is not None
    assert np.log(found.high / found.b_noise) == pytest.approx(2.093 * error, rel=0.2)
    assert found.low * found.high == pytest.approx(found.b_noise**2)
