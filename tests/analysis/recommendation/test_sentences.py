from __future__ import annotations

import pytest

from bcrit.analysis.recommendation.sentences import hours_up, rounded_up
from bcrit.analysis.wording import duration


@pytest.mark.parametrize("value", [1e-9, 0.0123456, 1.0, 46.21, 99.99, 4500.2])
def test_a_limit_that_is_rounded_up_is_enough_and_hardly_more(value: float) -> None:
    assert value <= rounded_up(value) * (1 + 1e-9) and rounded_up(value) <= 1.02 * value
    assert value <= hours_up(value) * (1 + 1e-9)


@pytest.mark.parametrize("seconds", [2.345678e-6, 0.00234567, 0.1234567])
def test_a_limit_is_enough_as_it_is_printed_in_its_own_unit(seconds: float) -> None:
    number, unit = duration(hours_up(seconds / 3600)).split()
    assert float(number) * {"s": 1, "ms": 1e-3, "µs": 1e-6}[unit] >= seconds


def test_nothing_is_rounded_up_to_nothing() -> None:
    assert rounded_up(0.0) == hours_up(0.0) == 0.0
