from __future__ import annotations

import math

import pytest

from bcrit.analysis.fit.hyperbola import Hyperbola
from bcrit.analysis.fit.identify import identify

CURVE = Hyperbola(10, 1000)  # b_crit = 100


@pytest.mark.parametrize(
    ("interval", "half_widths", "reached", "expected"),
    [
        pytest.param((80, 120), (0.1, 0.1), (10, 1000), (True, True, True), id="good"),
        pytest.param((80, math.inf), (0.1, 0.1), (10, 1000), (False, True, False), id="open-above"),
        pytest.param((0, 120), (0.1, 0.1), (10, 1000), (True, False, False), id="open-below"),
        pytest.param((80, 120), (1.2, 0.1), (10, 1000), (False, True, False), id="s_min-wide"),
        pytest.param((80, 120), (0.1, 1.2), (10, 1000), (True, False, False), id="e_min-wide"),
        pytest.param((20, 220), (0.1, 0.1), (10, 1000), (True, True, False), id="b_crit-wide"),
        pytest.param((80, 120), (0.1, 0.1), (1, 66), (False, True, False), id="too-short-above"),
        pytest.param((80, 120), (0.1, 0.1), (151, 1000), (True, False, False), id="too-short-below"),
    ],
)
def test_each_rule_denies_what_it_is_about(
    interval: tuple[float, float],
    half_widths: tuple[float, float],
    reached: tuple[float, float],
    expected: tuple[bool, ...],
) -> None:
    assert tuple(identify(CURVE, interval, half_widths, reached).values()) == expected
