"""Dimensions: scaled coordinates, clipping, widening."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import TypeAdapter, ValidationError

from bcrit.search_spaces.dimensions import Box, Choice, Dimension, Fixed, Integer, Linear, Log, ReverseLog

READ = TypeAdapter(Dimension)
BOXES = {
    "linear": Linear(low=-3, high=5),
    "log": Log(low=1e-4, high=10),
    "reverse_log": ReverseLog(low=0.0, high=0.999),
    "integer": Integer(low=2, high=17),
}
units = st.floats(0, 1)


@pytest.mark.parametrize("box", BOXES.values(), ids=BOXES)
class TestEveryBox:
    @given(unit=units)
    def test_a_unit_coordinate_gives_a_value_inside_the_box(self, box: Box, unit: float) -> None:
        assert box.contains(box.from_unit(unit))

    @given(unit=units)
    def test_to_unit_undoes_from_unit(self, box: Box, unit: float) -> None:
        grid = 0.5 / 15 + 1e-9 if isinstance(box, Integer) else 1e-9
        assert box.to_unit(box.from_unit(unit)) == pytest.approx(unit, abs=grid)

    @given(value=st.floats(-100, 100))
    def test_clipping_ends_inside_and_leaves_inner_values_alone(self, box: Box, value: float) -> None:
        assert box.contains(box.clip(value))
        if box.contains(value):
            assert box.clip(value) == value

    @pytest.mark.parametrize("side", ["low", "high"])
    def test_widening_keeps_the_other_end_and_all_old_values(self, box: Box, side: str) -> None:
        wider = box.widen("low" if side == "low" else "high", 0.5)
        assert (wider.low < box.low) == (side == "low") and (wider.high > box.high) == (side == "high")
        assert wider.contains(box.from_unit(0.5))

    def test_the_ends_are_zero_and_one(self, box: Box) -> None:
        half = 0.5 / 16 if isinstance(box, Integer) else 0.0  # an integer stands in the middle of its share
        assert (box.to_unit(box.low), box.to_unit(box.high)) == pytest.approx((half, 1 - half))


def test_integers_are_uniform_and_always_widen() -> None:
    box = Integer(low=0, high=2)
    values = [box.from_unit((i + 0.5) / 300) for i in range(300)]
    assert [values.count(v) for v in (0, 1, 2)] == [100, 100, 100]
    assert Integer(low=1, high=2).widen("high", 0.1).high == 3
    assert Integer(low=1, high=8, hard_low=1).widen("low", 0.5).low == 1


def test_widening_by_half_adds_half_of_the_scaled_width() -> None:
    assert Log(low=1e-2, high=1).widen("high", 0.5).high == pytest.approx(10)
    assert ReverseLog(low=0.0, high=0.99).widen("high", 0.5).high == pytest.approx(0.999)


def test_a_hard_limit_stops_widening() -> None:
    box = Log(low=1e-2, high=1, hard_high=2).widen("high", 0.5)
    assert box.high == 2 and box.at_hard_limit("high") and not box.at_hard_limit("low")


def test_reverse_log_is_uniform_in_the_logarithm_of_one_minus_the_value() -> None:
    assert ReverseLog(low=0.0, high=0.99).from_unit(0.5) == pytest.approx(0.9)


def test_a_choice_gives_each_option_an_equal_share() -> None:
    choice = READ.validate_python("choice of a, b, c")
    assert isinstance(choice, Choice)
    assert [choice.from_unit(u) for u in (0.0, 0.34, 0.99, 1.0)] == ["a", "b", "c", "c"]
    assert all(choice.from_unit(choice.to_unit(name)) == name for name in "abc")


@pytest.mark.parametrize(
    ("given", "read"),
    [
        ("log from 1e-3 to 1", Log(low=1e-3, high=1)),
        ("linear from -1 to 1", Linear(low=-1, high=1)),
        ("reverse_log from 0 to 0.99", ReverseLog(low=0, high=0.99)),
        ("integer from 1 to 8", Integer(low=1, high=8)),
        (0.9, Fixed(value=0.9)),
        ("relu", Fixed(value="relu")),
        ({"scale": "log", "low": 1, "high": 2, "hard_high": 3}, Log(low=1, high=2, hard_high=3)),
    ],
    ids=str,
)
def test_the_short_forms_are_read(given: object, read: object) -> None:
    assert READ.validate_python(given) == read


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ("log from 1 to 0.1", "'low < high' must hold"),
        ("log from 0 to 1", "'low > 0' must hold"),
        ("reverse_log from 0 to 1", "'high < 1' must hold"),
        ("integer from 1.5 to 3", "needs whole ends"),
        ("log of 1 to 2", "a dimension reads"),
        ({"low": 1, "high": 2}, "needs 'scale'"),
        ({"scale": "log", "low": 1, "high": 2, "hard_high": 1.5}, "'high <= hard_high' must hold"),
        ({"scale": "log", "low": float("nan"), "high": 2}, "finite"),
        ({"scale": "choice", "options": ["a", "a"]}, "must differ"),
    ],
    ids=str,
)
def test_impossible_dimensions_are_refused_with_the_rule(given: object, message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        READ.validate_python(given)


def test_a_value_of_the_wrong_kind_is_not_inside() -> None:
    assert not Linear(low=0, high=1).contains("0.5")
    assert not Linear(low=0, high=1).contains(math.nan)
    assert not Integer(low=0, high=4).contains(1.5)
