"""The frontier returns what was put in, with and without a sharp knee."""

from __future__ import annotations

import pytest

from bcrit.analysis.adaptive.frontier import frontier
from bcrit.analysis.curve.other_curves import PNorm

SIZES = (8, 16, 32, 64, 128, 256, 512)


def test_on_a_hyperbola_fixed_batch_sizes_have_a_gamma_of_one() -> None:
    found = frontier({b: 50 + 5000 / b for b in SIZES})
    assert found is not None
    assert (found.hyperbola.s_min, found.hyperbola.e_min) == pytest.approx((50, 5000), rel=1e-6)
    assert found.gamma(100.0, 10_000.0) == pytest.approx(1.0)
    assert found.steps_at(100.0) == pytest.approx(100.0, rel=1e-4)
    assert found.scatter < 1e-6


def test_a_sharp_knee_is_followed() -> None:
    curve = PNorm(50.0, 100.0, 2.0, 0.0)
    found = frontier({b: float(curve.steps(b)) for b in SIZES})
    assert found is not None
    for batch_size in SIZES:
        assert found.steps_at(batch_size) == pytest.approx(float(curve.steps(batch_size)), rel=1e-3)
    at_the_knee = float(curve.steps(100))
    assert found.gamma(at_the_knee, 100 * at_the_knee) < 0.6  # by the hyperbola alone fixed sizes would seem to gain


def test_three_batch_sizes_have_the_hyperbola() -> None:
    found = frontier({b: 50 + 5000 / b for b in (16, 64, 256)})
    assert found is not None and found.knee is None
    assert found.steps_at(200) == pytest.approx(75)


@pytest.mark.parametrize(
    "steps",
    [{8: 100.0, 16: 60.0}, {8: 800.0, 16: 400.0, 32: 200.0, 64: 100.0}, {8: 50.0, 16: 50.0, 32: 50.0}],
    ids=["two", "perfect scaling", "flat"],
)
def test_what_does_not_bend_has_no_frontier(steps: dict[int, float]) -> None:
    assert frontier(steps) is None


def test_the_curve_ends_where_the_batch_sizes_do() -> None:
    found = frontier({b: 50 + 5000 / b for b in SIZES})
    assert found is not None
    steps, examples = found.curve(9)
    assert (steps[0], steps[-1]) == pytest.approx((675, 59.765625))
    assert list(examples) == sorted(examples) and len(examples) == 9
