"""The figure of the regimes: where perfect scaling ends and the plateau begins, and where the batch sizes lie."""

from __future__ import annotations

import math
from typing import Any, Final

from bcrit.analysis.fit.regimes import Regime
from bcrit.analysis.fit.result import HyperbolaFit
from bcrit.analysis.report.figure import (
    ACCENT,
    GREY,
    INK,
    ORANGE,
    Axis,
    Figure,
    figure,
    hover,
    label,
    log_axis,
    vertical,
)

_FILLS: Final = {
    Regime.PERFECT_SCALING: "rgba(0, 158, 115, 0.22)",
    Regime.DIMINISHING_RETURNS: "rgba(230, 159, 0, 0.22)",
    Regime.PLATEAU: "rgba(213, 94, 0, 0.22)",
}
_NO_AXIS: Final[Axis] = {"visible": False, "range": [-1, 1], "fixedrange": True}


def regimes_plot(fit: HyperbolaFit) -> Figure | None:
    """Draw the regimes as bands over the batch size, white where the interval of a boundary lies, and the studies.

    Args:
        fit: of the run.

    Returns:
        The figure; None unless both boundaries are identified with closed intervals.
    """
    found = fit.regimes()
    first, second = found.perfect_scaling_ends, found.plateau_begins
    if first.batch_size is None or second.batch_size is None or min(first.low, second.low) <= 0:
        return None
    sizes = [size for size, _ in found.studies]
    seen = [*sizes, first.low, first.high, second.low, second.high]
    left, right = min(seen) / 2, max(seen) * 2
    bands = {
        Regime.PERFECT_SCALING: (left, first.low),
        Regime.DIMINISHING_RETURNS: (first.high, second.low),
        Regime.PLATEAU: (second.high, right),
    }
    shapes: list[Any] = [
        {
            "type": "rect",
            "yref": "paper",
            "y0": 0,
            "y1": 1,
            "x0": low,
            "x1": high,
            "fillcolor": _FILLS[regime],
            "line": {"width": 0},
            "layer": "below",
        }
        for regime, (low, high) in bands.items()
        if low < high
    ]
    shapes += [vertical(place.batch_size or left, color=ACCENT, width=2) for place in (first, second)]
    names = [_band_name(regime, low, high) for regime, (low, high) in bands.items() if low < high]
    texts = [hover({"batch size": size, "regime": regime.value}) for size, regime in found.studies]
    colors = [ORANGE if regime is Regime.UNCERTAIN else INK for _, regime in found.studies]
    points = {"mode": "markers", "x": sizes, "y": [0] * len(sizes), "hovertext": texts}
    marker = {"size": 11, "color": colors, "line": {"color": "#ffffff", "width": 1}}
    return figure(
        [{**points, "marker": marker}],
        log_axis(f"batch size ({label(fit.unit)})", [left, right], ticks=sizes, pad=1.0),
        _NO_AXIS,
        shapes=shapes,
        notes=names,
        height=190,
    )


def _band_name(regime: Regime, low: float, high: float) -> dict[str, Any]:
    middle = (math.log10(low) + math.log10(high)) / 2  # an annotation on a log axis is placed by its logarithm
    words = regime.value.replace(" ", "<br>")
    place = {"x": middle, "xref": "x", "y": 0.97, "yref": "paper", "yanchor": "top"}
    return {**place, "text": words, "showarrow": False, "font": {"color": GREY, "size": 12}}


__all__ = ["regimes_plot"]
