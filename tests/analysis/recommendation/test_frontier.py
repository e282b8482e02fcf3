"""Points that nothing beats are marked, against the slow rule."""

from __future__ import annotations

from bcrit.analysis.recommendation.frontier import FrontierPoint
from bcrit.analysis.recommendation.recommend import recommend
from tests.analysis.recommendation.offers import ALL, EXACT, H100


def beats(one: FrontierPoint, other: FrontierPoint) -> bool:
    assert one.hours is not None and one.cost is not None and other.hours is not None and other.cost is not None
    return one.hours <= other.hours and one.cost <= other.cost and (one.hours, one.cost) != (other.hours, other.cost)


def test_a_point_is_efficient_where_none_is_better_in_time_or_money_without_being_worse_in_the_other() -> None:
    points = recommend(EXACT, ALL).frontier
    assert len({(point.device, point.devices) for point in points}) == 4
    for point in points:
        assert point.efficient == (not any(beats(other, point) for other in points))
    assert 1 < sum(point.efficient for point in points) <= 4


def test_on_one_hardware_only_the_fastest_is_efficient_and_without_step_times_every_point() -> None:
    found = recommend(EXACT, [H100])
    assert [point for point in found.frontier if point.efficient] == [found.choices["fastest"]]
    assert all(point.efficient for point in recommend(EXACT).frontier)
