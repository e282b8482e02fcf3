"""Runs look different, in more than colour."""

from __future__ import annotations

from bcrit.analysis.report.comparison.marks import mark


def test_twelve_runs_have_twelve_looks_and_neighbours_share_nothing() -> None:
    looks = [mark(place) for place in range(12)]
    assert len({(look.symbol, look.dash) for look in looks}) == 12  # without colour
    for one, other in zip(looks, looks[1:], strict=False):
        assert one.color != other.color and one.symbol != other.symbol and one.dash != other.dash


def test_areas_have_the_colour_of_the_curve() -> None:
    assert mark(0).color == "#0072b2" and mark(0).pale == "rgba(0, 114, 178, 0.12)"
