"""The figure of training: the target's metric against the step, one line for each confirming run."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from bcrit.analysis.report.figure import INK, Figure, Trace, figure, horizontal, label, log_axis, value_axis, viridis
from bcrit.analysis.run import Run
from bcrit.analysis.wording import value_text

_POINTS = 300  # of one curve
_ALL_POINTS = 30_000  # of all curves together: about 0.7 MB of page
_ALL_CURVES = 150  # more lines cannot be told apart; chosen, not studied


def curves_plot(analysis: Run, measurements: pa.Table) -> Figure | None:
    """Draw the confirming runs of each study's point, the search's best trial where there are none.

    Args:
        analysis: of the run.
        measurements: the measurements table of its folder, or of `drawn_runs` alone.

    Returns:
        The figure; None where no run that counts has a measurement of the target's metric.
    """
    target, studies = analysis.experiment.target, analysis.studies
    if target.metric not in measurements.column_names:
        return None
    runs = drawn_runs(analysis)
    frame = measurements.filter(pc.is_in(measurements["trial_id"], pa.array(list(runs), pa.string()))).to_pandas()
    frame = frame[np.isfinite(frame[target.metric].astype(float)) & (frame["step"] > 0)].sort_values("step")
    if frame.empty:
        return None
    curves = frame.groupby("trial_id", sort=True)
    points = max(2, min(_POINTS, _ALL_POINTS // len(curves)))
    order = {batch_size: place / max(1, len(studies) - 1) for place, batch_size in enumerate(studies["batch_size"])}
    data: list[Trace] = []
    in_legend: set[int] = set()
    for trial_id, curve in sorted(curves, key=lambda group: runs[str(group[0])]):
        batch_size, curve = runs[str(trial_id)], _fewer(curve, points)
        data.append(
            {
                "name": f"batch size {value_text(batch_size)}",
                "legendgroup": str(batch_size),
                "showlegend": batch_size not in in_legend,
                "mode": "lines",
                "x": list(curve["step"]),
                "y": [float(f"{value:.4g}") for value in curve[target.metric]],
                "hoverinfo": "x+y+name",
                "line": {"color": viridis(order[batch_size]), "width": 1.3},
                "opacity": 0.75,
            }
        )
        in_legend.add(batch_size)
    shape = horizontal(target.threshold, color=INK, width=1.5, dash="dash")
    note = {
        "xref": "paper",
        "x": 1,
        "y": 1,
        "yref": "paper",
        "xanchor": "right",
        "yanchor": "bottom",
        "showarrow": False,
    }
    words = f"dashed: target {label(target)}"
    if len(runs) < _n_runs(analysis):
        words = f"{len(runs)} of {_n_runs(analysis):,} runs drawn; {words}"
    if (curves.size() > points).any():
        words = f"at most {points} points of a curve drawn; {words}"
    x = log_axis("step", frame["step"], pad=1.05)
    y = value_axis(label(target.metric), [*frame[target.metric], target.threshold], pad=1.05)
    return figure(data, x, y, shapes=[shape], notes=[{**note, "text": words}])


def drawn_runs(analysis: Run) -> dict[str, int]:
    """The trials whose curves are drawn, each with its batch size: those that made the numbers.

    Where they are very many, the first ones of every study.
    """
    found = _runs(analysis)
    each = max(1, _ALL_CURVES // max(1, len(found)))
    return {trial: batch_size for batch_size, trials in found.items() for trial in trials[:each]}


def _n_runs(analysis: Run) -> int:
    return sum(len(trials) for trials in _runs(analysis).values())


def _runs(analysis: Run) -> dict[int, list[str]]:
    """The trials that made a study's number, by batch size."""
    trials, found = analysis.trials, {}
    for row in analysis.studies.to_dict("records"):
        confirm = trials["trial_id"][trials["repeats"] == row["best_trial"]] if row["source"] == "confirm" else []
        own = [row["best_trial"]] if pd.notna(row["best_trial"]) else []
        found[int(row["batch_size"])] = [str(trial) for trial in (list(confirm) or own)]
    return found


def _fewer(curve: pd.DataFrame, points: int) -> pd.DataFrame:
    """At most this many rows, evenly spread in log step, first and last among them."""
    if len(curve) <= points:
        return curve
    step = np.log(curve["step"].to_numpy(dtype=float))
    return curve.iloc[np.unique(np.searchsorted(step, np.linspace(step[0], step[-1], points)))]


__all__ = ["curves_plot", "drawn_runs"]
