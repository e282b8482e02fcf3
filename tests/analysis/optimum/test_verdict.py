from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest

from bcrit.analysis.optimum.laws import LAWS
from bcrit.analysis.optimum.verdict import LawVerdict, judge
from tests.analysis.optimum.test_laws import TRUTH, B

Floats = npt.NDArray[np.float64]


def verdict(values: Floats, half_width: float = 0.5, batch_sizes: Floats = B) -> LawVerdict:
    low, high = values * np.exp(-half_width), values * np.exp(half_width)
    return judge(LAWS, batch_sizes, values, low, high, [(half_width / 2, 3)] * len(values))


@pytest.mark.parametrize("name", [n for n in TRUTH if n != "saturating_free"])
def test_the_right_law_wins_or_ties(name: str) -> None:
    rng, supported = np.random.default_rng(3), 0
    for _ in range(20):
        supported += name in verdict(TRUTH[name] * np.exp(0.1 * rng.normal(size=8))).supported
    assert supported >= 16


def test_a_zigzag_is_no_law() -> None:
    found = verdict(np.exp(1.2 * (-1.0) ** np.arange(8)))
    assert (found.kind, found.supported, found.chosen) == ("none", (), None)
    assert all(fitted.rejected for fitted in found.laws)


def test_wide_sets_let_every_law_pass_and_scatter_lets_none_be_chosen() -> None:
    rng = np.random.default_rng(4)
    found = verdict(np.exp(0.8 * rng.normal(size=6)), half_width=5.0, batch_sizes=B[:6])
    assert not any(fitted.rejected for fitted in found.laws)
    assert found.kind == "several" and "none" in found.supported


def test_three_studies_are_too_few() -> None:
    found = verdict(TRUTH["linear"][:3], batch_sizes=B[:3])
    assert (found.kind, found.supported) == ("too few", ())


def test_a_law_misses_the_studies_whose_set_does_not_hold_it() -> None:
    values = TRUTH["none"].copy()
    values[3] *= 3
    found = verdict(values).law("none")
    assert found.misses == (32.0,)


def test_a_free_exponent_is_not_named_beside_the_fixed_one_that_fits_as_well() -> None:
    found = verdict(TRUTH["linear"] * np.exp(0.02 * np.random.default_rng(5).normal(size=8)))
    assert (found.kind, found.supported) == ("one", ("linear",))
