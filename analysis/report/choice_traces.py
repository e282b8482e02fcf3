"""The recommended batch sizes as marks, one for each point; choices that agree share a mark."""

from __future__ import annotations

from typing import Final

from analysis.recommendation.recommend import Recommendation
from analysis.report.figure import Trace
from analysis.report.labels import hover
from analysis.report.palette import GREEN, ORANGE, PURPLE, VERMILLION

CHOICES: Final = {
    "best": "the best under the limits that were given",
    "cheapest": "the least cost (without step times: the fewest examples)",
    "balanced": "the least product of steps and examples",
    "fastest": "the shortest time (without step times: the fewest steps)",
}
"""What each choice is, in the order of the report."""

_MARKS: Final = (("star", VERMILLION), ("diamond", GREEN), ("square", ORANGE), ("triangle-down", PURPLE))


def choices_by_batch_size(recommendation: Recommendation) -> dict[float, list[str]]:
    """The names of the choices at each chosen batch size."""
    found: dict[float, list[str]] = {}
    for name in CHOICES:
        if name in recommendation.choices:
            found.setdefault(recommendation.choices[name].batch_size, []).append(name)
    return found


def choice_traces(recommendation: Recommendation, x: str, y: str, y_factor: float = 1.0) -> list[Trace]:
    """Marks of the choices in a plane of two quantities of the frontier.

    Args:
        recommendation: with its choices.
        x: field of `FrontierPoint`.
        y: likewise.
        y_factor: what `y` is multiplied by for its axis.
    """
    found = []
    for (batch_size, names), (symbol, color) in zip(
        choices_by_batch_size(recommendation).items(), _MARKS, strict=False
    ):
        point = recommendation.choices[names[0]]
        words = f"{', '.join(names)}: batch size {batch_size:,g}"
        # A ring leaves the measurement under it visible.
        marker = {"symbol": f"{symbol}-open", "size": 15, "color": color, "line": {"width": 3}}
        lines = {words: "", "steps": point.steps, "examples": point.examples, "hours": point.hours, "cost": point.cost}
        found.append(
            {
                "name": words,
                "mode": "markers",
                "x": [getattr(point, x)],
                "y": [getattr(point, y) * y_factor],
                "hovertext": [hover(lines)],
                "marker": marker,
            }
        )
    return found


__all__ = ["CHOICES", "choice_traces", "choices_by_batch_size"]
