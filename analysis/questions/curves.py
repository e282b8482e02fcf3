"""How did the runs behind each number train?"""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from bcrit.analysis.report.answer import Answer, Plot
from bcrit.analysis.report.figure import (
    INK,
    Figure,
    Trace,
    figure,
    horizontal,
    in_turn,
    label,
    line,
    log_axis,
    value_axis,
)
from bcrit.analysis.run import Run
from bcrit.analysis.wording import value_text

_POINTS = 300  # of one curve
_ALL_POINTS = 30_000  # of all curves together: about 0.7 MB of page
_ALL_CURVES = 150  # more lines cannot be told apart; chosen, not studied


def ask(run: Run) -> Answer | str:
    """The target's metric against the step, one line for each confirming run, or the search's best trial."""
    if run.unmeasured is not None:
        return run.unmeasured
    drawn = curves_plot(run, run.measurements(drawn_runs(run)))
    if drawn is None:
        return "no run that counts has a measurement of the target's metric"
    caption = (
        "The runs behind each number: the point of every study, on fresh seeds where it was confirmed. Click a batch "
        "size in the legend to hide it."
    )
    return Answer("curves", "Learning curves", (), (Plot("curves", drawn, caption),))


def curves_plot(run: Run, measurements: pa.Table) -> Figure | None:
    """The curves in a measurements table; None where no run that counts has one."""
    target = run.experiment.target
    if target.metric not in measurements.column_names:
        return None
    runs, every = drawn_runs(run), sum(len(trials) for trials in _runs(run).values())
    frame = measurements.filter(pc.is_in(measurements["trial_id"], pa.array(list(runs), pa.string()))).to_pandas()
    frame = frame[np.isfinite(frame[target.metric].astype(float)) & (frame["step"] > 0)].sort_values("step")
    if frame.empty:
        return None
    curves = frame.groupby("trial_id", sort=True)
    most = max(2, min(_POINTS, _ALL_POINTS // len(curves)))
    colors = in_turn(run.studies["batch_size"])
    data: list[Trace] = []
    in_legend: set[int] = set()
    for trial_id, curve in sorted(curves, key=lambda group: runs[str(group[0])]):
        batch_size, curve = runs[str(trial_id)], _fewer(curve, most)
        values = [float(f"{value:.4g}") for value in curve[target.metric]]
        look: dict[str, Any] = {"hoverinfo": "x+y+name", "opacity": 0.75, "legendgroup": str(batch_size)}
        look |= {"name": f"batch size {value_text(batch_size)}", "showlegend": batch_size not in in_legend}
        data.append(line(list(curve["step"]), values, color=colors[batch_size], width=1.3) | look)
        in_legend.add(batch_size)
    words = f"dashed: target {label(target)}"
    if len(runs) < every:
        words = f"{len(runs)} of {every:,} runs drawn; {words}"
    if (curves.size() > most).any():
        words = f"at most {most} points of a curve drawn; {words}"
    corner = {"xref": "paper", "x": 1, "y": 1, "yref": "paper", "xanchor": "right", "yanchor": "bottom"}
    note = {**corner, "showarrow": False, "text": words}
    x = log_axis("step", frame["step"], pad=1.05)
    y = value_axis(label(target.metric), [*frame[target.metric], target.threshold], pad=1.05)
    shape = horizontal(target.threshold, color=INK, width=1.5, dash="dash")
    return figure(data, x, y, shapes=[shape], notes=[note])


def drawn_runs(run: Run) -> dict[str, int]:
    """The trials whose curves are drawn, each with its batch size: those that made the numbers.

    Where they are very many, the first ones of every study.
    """
    found = _runs(run)
    each = max(1, _ALL_CURVES // max(1, len(found)))
    return {trial: batch_size for batch_size, trials in found.items() for trial in trials[:each]}


def _runs(run: Run) -> dict[int, list[str]]:
    """The trials that made a study's number, by batch size."""
    trials, found = run.trials, {}
    for row in run.studies.to_dict("records"):
        confirm = trials["trial_id"][trials["repeats"] == row["best_trial"]] if row["source"] == "confirm" else []
        own = [row["best_trial"]] if pd.notna(row["best_trial"]) else []
        found[int(row["batch_size"])] = [str(trial) for trial in (list(confirm) or own)]
    return found


def _fewer(curve: pd.DataFrame, most: int) -> pd.DataFrame:
    """At most this many rows, evenly spread in log step, first and last among them."""
    if len(curve) <= most:
        return curve
    step = np.log(curve["step"].to_numpy(dtype=float))
    return curve.iloc[np.unique(np.searchsorted(step, np.linspace(step[0], step[-1], most)))]
