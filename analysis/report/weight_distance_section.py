"""The section on the movement of the weights: the distance from their start against log step, by batch size."""

from __future__ import annotations

import numpy as np

from bcrit.analysis.diffusion.in_study import WeightMovement
from bcrit.analysis.report.answer import Answer, Plot, Rows, Table, table_of
from bcrit.analysis.report.figure import Figure, Trace, figure, linear_axis, log_axis, viridis
from bcrit.analysis.run import Run
from bcrit.analysis.wording import value_text

_POINTS = 60  # of one line; chosen, not studied


def weight_distance_section(analysis: Run) -> Answer | None:
    """The section.

    Args:
        analysis: of the run.

    Returns:
        None where no distance was measured.
    """
    movement = analysis.weight_distance
    if movement is None:
        return None
    caption = (
        "|w_t - w_0| against the step, the mean over the confirming runs of each batch size as far as all of them "
        "went. On this axis log t is a straight line and sqrt t bends up."
    )
    parts: list[Plot | Rows] = [Plot("weight-distance", _plot(movement), caption)]
    if movement.movements:
        parts.append(Rows("Laws of the movement", _table(movement), folded=True))
    return Answer("movement", "Distance of the weights from their start", movement.sentences, tuple(parts))


def _plot(movement: WeightMovement) -> Figure:
    curves, data = movement.curves, list[Trace]()
    studies = list(curves.groupby("batch_size"))
    for place, (batch_size, study) in enumerate(studies):
        by_step = study.groupby("step")["weight_distance"].agg(["mean", "size"])
        shared = by_step[by_step["size"] == study["trial_id"].nunique()]
        steps = shared.index.to_numpy(dtype=float)
        if not len(steps):
            continue
        wanted = np.geomspace(steps[0], steps[-1], _POINTS)
        kept = shared.iloc[np.unique(np.minimum(np.searchsorted(steps, wanted), len(steps) - 1))]
        line = {"color": viridis(place / max(1, len(studies) - 1)), "width": 1.6}
        data.append(
            {
                "name": f"batch size {value_text(batch_size)}",
                "mode": "lines",
                "x": list(kept.index),
                "y": list(kept["mean"]),
                "hoverinfo": "x+y+name",
                "line": line,
            }
        )
    return figure(data, log_axis("step", curves["step"], pad=1.05), linear_axis("|w_t - w_0|", rangemode="tozero"))


def _table(movement: WeightMovement) -> Table:
    return table_of(
        [
            {
                "batch size": found.batch_size,
                "law": found.law or "not identified",
                "slope in log t": _slope(found.log.slope, found.log.slope_low, found.log.slope_high),
                "slope in sqrt t": _slope(found.sqrt.slope, found.sqrt.slope_low, found.sqrt.slope_high),
                "AIC of sqrt t less log t": found.aic_difference,
                "runs": found.n_runs,
            }
            for found in movement.movements
        ]
    )


def _slope(slope: float, low: float, high: float) -> str:
    return f"{value_text(slope)} ({value_text(low)} to {value_text(high)})"


__all__ = ["weight_distance_section"]
