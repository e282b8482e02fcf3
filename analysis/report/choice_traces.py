"""The recommended batch sizes as marks, one for each point; choices that agree share a mark."""

from __future__ import annotations

from typing import Final

from bcrit.analysis.recommendation.frontier import FrontierPoint
from bcrit.analysis.recommendation.recommend import Recommendation
from bcrit.analysis.recommendation.sentences import place
from bcrit.analysis.report.figure import ACCENT, GREEN, ORANGE, PURPLE, VERMILLION, Trace, hover, label

CHOICES: Final = {
    "best": "the best under the limits that were given",
    "safe": "the best that keeps the limits with the upper end of its interval too",
    "cheapest": "the least cost (without step times: the fewest examples)",
    "balanced": "the least product of steps and examples (with several kinds of hardware: of time and cost)",
    "fastest": "the shortest time (without step times: the fewest steps)",
}
"""What each choice is, in the order of the report."""

_MARKS: Final = (
    ("star", VERMILLION),
    ("diamond", GREEN),
    ("square", ORANGE),
    ("triangle-down", PURPLE),
    ("hexagon", ACCENT),
)


def choices_by_place(recommendation: Recommendation) -> dict[FrontierPoint, list[str]]:
    """The names of the choices at each chosen batch size and hardware."""
    found: dict[FrontierPoint, list[str]] = {}
    for name in CHOICES:
        if name in recommendation.choices:
            found.setdefault(recommendation.choices[name], []).append(name)
    return found


def choice_traces(
    recommendation: Recommendation, x: str, y: str, y_factor: float = 1.0, x_factor: float = 1.0
) -> list[Trace]:
    """Marks of the choices in a plane of two quantities of the frontier.

    Args:
        recommendation: with its choices.
        x: field of `FrontierPoint`.
        y: likewise.
        y_factor: what `y` is multiplied by for its axis.
        x_factor: likewise for `x`.
    """
    found = []
    for (point, names), (symbol, color) in zip(choices_by_place(recommendation).items(), _MARKS, strict=False):
        on = point.hardware if recommendation.several else ""
        words = label(f"{', '.join(names)}: {place(point.batch_size, on)}")
        # A ring leaves the measurement under it visible.
        marker = {"symbol": f"{symbol}-open", "size": 15, "color": color, "line": {"width": 3}}
        lines = {"choice": ", ".join(names), "batch size": point.batch_size}
        lines |= {"on": on} if on else {}
        lines |= {"steps": point.steps, "examples": point.examples, "hours": point.hours, "cost": point.cost}
        found.append(
            {
                "name": words,
                "mode": "markers",
                "x": [getattr(point, x) * x_factor],
                "y": [getattr(point, y) * y_factor],
                "hovertext": [hover(lines)],
                "marker": marker,
            }
        )
    return found


__all__ = ["CHOICES", "choice_traces", "choices_by_place"]
