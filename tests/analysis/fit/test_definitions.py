from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import optimize

from bcrit.analysis.fit.definitions import Definition, definitions
from bcrit.analysis.fit.hyperbola import Hyperbola
from bcrit.analysis.fit.landmarks import Knee, Place
from bcrit.analysis.fit.p_norm import PNorm
from bcrit.search_spaces import InputError

KNEE = Knee(Place(100.0, 80.0, 125.0))


def by_name(knee: Knee = KNEE, free: Knee | None = None, **options: float) -> dict[str, Definition]:
    return {found.name: found for found in definitions(knee, free, "tokens", **options)}


@given(st.floats(1, 1e5), st.floats(0, 1e5))
def test_twenty_per_cent_over_linear_scaling_is_where_root_finding_puts_it(b_crit: float, start: float) -> None:
    curve = Hyperbola(10, 10 * b_crit)
    found = by_name(Knee(Place(b_crit, b_crit, b_crit)), linear_from=start)["20_percent_over_linear"].batch_size

    def over(batch_size: float) -> float:  # S(B) over linear scaling from B0: E(B) / E(B0)
        return float(curve.examples(batch_size) / curve.examples(start)) - 1.2

    assert found == pytest.approx(optimize.brentq(over, 1e-9, 1e7), rel=1e-6)


def test_the_published_conversion_is_kept() -> None:
    # Zhang et al. 2024, plots/chinchilla.ipynb of hlzhang109/critical-batch-size: B* = b / 5 + 1.2 B0 with B0 = 256.
    found = by_name(Knee(Place(2000.0, 1500.0, 2600.0)), linear_from=256)["20_percent_over_linear"]
    assert (found.batch_size, found.low, found.high) == pytest.approx((707.2, 607.2, 827.2))


@pytest.mark.parametrize(("efficiency", "expected"), [(0.5, 100), (0.8, 25), (0.9, 100 / 9)])
def test_efficiency_is_the_share_of_examples_that_is_not_wasted(efficiency: float, expected: float) -> None:
    found = by_name(efficiency=efficiency)["efficiency"]
    assert found.batch_size == pytest.approx(expected)
    assert Hyperbola(1, 100).efficiency(found.batch_size or math.nan) == pytest.approx(efficiency)
    assert (found.low, found.high) == pytest.approx((0.8 * expected, 1.25 * expected))


def test_a_sharp_knee_tells_its_own_definitions_apart() -> None:
    curve = PNorm(70, 123, 1.4, 0, ((0.01, 0.002), (0.002, 0.02)), 5)
    found = by_name(free=curve.knee(0.95))
    steps, examples, crossing = (found[name] for name in ("steps_double", "examples_double", "asymptotes_cross"))
    assert steps.batch_size == pytest.approx(curve.s_doubles_at)
    assert examples.batch_size == pytest.approx(curve.e_doubles_at)
    assert crossing.batch_size == pytest.approx(123)
    assert all(entry.low < (entry.batch_size or 0) < entry.high for entry in (steps, examples, crossing))
    assert {entry.curve for entry in (steps, examples, crossing)} == {"p_norm"}
    assert np.sqrt((steps.batch_size or 0) * (examples.batch_size or 0)) == pytest.approx(123)


def test_where_b_crit_is_only_bounded_so_is_everything_that_follows() -> None:
    found = by_name(Knee(Place(None, 80.0, math.inf)))
    assert all(entry.batch_size is None and entry.low > 0 and entry.high == math.inf for entry in found.values())


def test_every_definition_says_what_it_estimates() -> None:
    for entry in by_name(free=PNorm(70, 123, 1.4, 0).knee(0.9), linear_from=256).values():
        assert entry.definition.endswith(".") and len(entry.definition) > 20


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"linear_from": -1.0}, "at least 0"),
        ({"linear_from": math.nan}, "at least 0"),
        ({"efficiency": 1.0}, "between 0 and 1"),
        ({"efficiency": 80.0}, "between 0 and 1"),
    ],
)
def test_options_out_of_range_are_refused(options: dict[str, float], message: str) -> None:
    with pytest.raises(InputError, match=message):
        definitions(KNEE, None, "tokens", **options)
