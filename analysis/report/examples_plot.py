"""The figure of the exchange: examples against steps, the time/compute hyperbola."""

from __future__ import annotations

from typing import Any

import numpy as np

from bcrit.analysis.questions.recommend import choice_marks
from bcrit.analysis.recommendation.recommend import Recommendation
from bcrit.analysis.report.figure import (
    ACCENT,
    GREY,
    INK,
    Figure,
    Trace,
    figure,
    horizontal,
    hover,
    label,
    log_axis,
    vertical,
)
from bcrit.analysis.run import Run
from bcrit.analysis.wording import value_text

_GRID = 120  # points of the drawn curve


def examples_plot(analysis: Run, recommendation: Recommendation | None) -> Figure | None:
    """Draw the studies that reached, the hyperbola (S / s_min - 1) (E / e_min - 1) = 1, its asymptotes and the choices.

    Args:
        analysis: of the run.
        recommendation: whose choices are marked.

    Returns:
        The figure; None where no study reached the target.
    """
    studies = analysis.studies[analysis.studies["steps"].notna()]
    if studies.empty:
        return None
    fit, unit = analysis.fit, label(analysis.experiment.unit)
    steps, examples = list(studies["steps"]), list(studies["examples"])
    data: list[Trace] = []
    shapes: list[Any] = []
    if fit is not None:
        grid = np.geomspace(studies["batch_size"].min() / 1.5, studies["batch_size"].max() * 1.5, _GRID)
        on_steps, on_examples = fit.curve.steps(grid), fit.curve.examples(grid)
        texts = [
            hover({"batch size": b, "steps": s, unit: e}) for b, s, e in zip(grid, on_steps, on_examples, strict=True)
        ]
        line = {"color": ACCENT, "width": 2.5}
        curve = {"mode": "lines", "x": list(on_steps), "y": list(on_examples), "hovertext": texts, "line": line}
        data.append({"name": "fitted hyperbola", **curve})
        # A trace of no points is how a shape gets into the legend.
        asymptote = {"color": GREY, "width": 1.5, "dash": "dashdot"}
        if fit.s_min > 0:
            shapes.append(vertical(fit.s_min, **asymptote))
        if fit.e_min > 0:
            shapes.append(horizontal(fit.e_min, **asymptote))
        words = f"asymptotes: s_min = {value_text(fit.s_min)}, e_min = {value_text(fit.e_min)}"
        data.append({"name": words, "mode": "lines", "x": [None], "y": [None], "line": asymptote})
        steps, examples = steps + [fit.s_min, *on_steps], examples + [fit.e_min, *on_examples]
    rows = studies.to_dict("records")
    data.append(
        {
            "name": "measured, labelled with the batch size",
            "mode": "markers+text",
            "x": list(studies["steps"]),
            "y": list(studies["examples"]),
            "text": [value_text(row["batch_size"]) for row in rows],
            "textposition": _sides(analysis),
            "hovertext": [
                hover({"batch size": r["batch_size"], "steps": r["steps"], unit: r["examples"]}) for r in rows
            ],
            "marker": {"color": INK, "size": 9},
            "cliponaxis": False,
        }
    )
    if recommendation is not None:
        data += choice_marks(recommendation, "steps", "examples")
    return figure(data, log_axis("steps to target", steps), log_axis(f"{unit} to target", examples), shapes=shapes)


def _sides(analysis: Run) -> list[str]:
    """Labels stand on the side of their point that is away from the curve."""
    studies, fit = analysis.studies[analysis.studies["steps"].notna()], analysis.fit
    below = [
        fit is not None and steps < fit.curve.steps(b)
        for b, steps in zip(studies["batch_size"], studies["steps"], strict=True)
    ]
    return ["bottom left" if is_below else "top right" for is_below in below]


__all__ = ["examples_plot"]
