"""The figure of doubt: how far each study lies from the fitted curve."""

from __future__ import annotations

import math
from typing import Any

from bcrit.analysis.fit.result import HyperbolaFit
from bcrit.analysis.report.figure import (
    ACCENT,
    BAND,
    INK,
    Figure,
    figure,
    horizontal,
    hover,
    label,
    linear_axis,
    log_axis,
)


def residuals_plot(fit: HyperbolaFit) -> Figure:
    """Draw steps / curve - 1 in per cent against the batch size, with one standard deviation of the scatter.

    Args:
        fit: with at least two reached studies.
    """
    rows = [(study, study.log_residual) for study in fit.studies if study.log_residual is not None]
    x = [study.batch_size for study, _ in rows]
    y = [100 * math.expm1(residual) for _, residual in rows]
    texts = [
        hover(
            {
                "batch size": study.batch_size,
                "measured": study.steps,
                "curve": study.fitted_steps,
                "off by": f"{off:+.1f} %",
            }
        )
        for (study, _), off in zip(rows, y, strict=True)
    ]
    shapes: list[Any] = [horizontal(0, color=ACCENT, width=2)]
    if fit.sigma is not None:
        ends = {"y0": 100 * math.expm1(-fit.sigma), "y1": 100 * math.expm1(fit.sigma)}
        area = {"type": "rect", "xref": "paper", "x0": 0, "x1": 1, "layer": "below", "line": {"width": 0}}
        shapes.append({**area, **ends, "fillcolor": BAND})
    # Error bars down to zero are the stems.
    stems = {"type": "data", "symmetric": False, "array": [-off for off in y], "color": INK, "thickness": 1, "width": 0}
    points = {
        "mode": "markers",
        "x": x,
        "y": y,
        "hovertext": texts,
        "marker": {"color": INK, "size": 9},
        "error_y": stems,
    }
    largest = max([5.0, *(1.3 * abs(off) for off in y), *(1.3 * abs(float(s.get("y1", 0))) for s in shapes[1:])])
    return figure(
        [points],
        log_axis(f"batch size ({label(fit.unit)})", x, ticks=x, pad=1.5),
        linear_axis("steps above the curve", ticksuffix=" %", range=[-largest, largest]),
        shapes=shapes,
        height=320,
    )


__all__ = ["residuals_plot"]
