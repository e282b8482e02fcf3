"""The figure of the answer: steps to target against the batch size, with the curve and its knee."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from bcrit.analysis.fit.result import HyperbolaFit
from bcrit.analysis.report.figure import (
    ACCENT,
    BAND,
    GREY,
    INK,
    ORANGE,
    VERMILLION,
    Figure,
    Trace,
    figure,
    hover,
    label,
    log_axis,
    vertical,
)
from bcrit.analysis.run import Run
from bcrit.analysis.wording import interval_text, value_text

_GRID = 120  # points of a drawn curve


def steps_plot(analysis: Run) -> Figure:
    """Draw studies, their intervals, the fitted curve with its band, both asymptotes and b_crit, log-log.

    Args:
        analysis: of the run; without a fit only the studies are drawn.
    """
    studies, fit = analysis.studies, analysis.fit
    batch_sizes = [float(b) for b in studies["batch_size"]]
    data = [*_studies(studies)]
    seen = [*studies["steps"], *studies["steps_low"], *studies["steps_high"]]
    seen += list(studies.loc[studies["steps"].isna(), "max_steps"])
    shapes: list[Any] = []
    notes: list[Any] = []
    x = log_axis(f"batch size ({label(analysis.experiment.unit)})", batch_sizes, ticks=batch_sizes, pad=1.5)
    if fit is not None:
        low, high = (10**end for end in x["range"])
        grid = np.geomspace(low, high, _GRID)
        data = [*_curves(fit, grid), *data]
        seen += [float(s) for s in fit.curve.steps(grid)] + [fit.s_min]
        shapes, notes = _critical(fit, low, high)
    return figure(data, x, log_axis("steps to target", seen), shapes=shapes, notes=notes, height=520)


def _studies(studies: pd.DataFrame) -> list[Trace]:
    """One trace for each kind of study: confirmed on fresh seeds, found by the search only, not reached."""
    reached = studies["steps"].notna()
    confirmed = studies["source"] == "confirm"
    hollow = {"color": "#ffffff", "line": {"color": INK, "width": 2}}
    kinds: list[tuple[str, pd.DataFrame, dict[str, Any]]] = [
        ("confirmed: median and interval over seeds", studies[reached & confirmed], {"color": INK}),
        ("search only (its best trial: too good by luck)", studies[reached & ~confirmed], hollow),
    ]
    found = []
    for name, rows, marker in kinds:
        if len(rows):
            # An open upper end (a seed that did not reach) is drawn as far as it was trained; one run has no interval.
            open_end = rows["steps_high"].isna() & rows["steps_low"].notna()
            high = rows["steps_high"].mask(open_end, rows["max_steps"])
            bars = {
                "type": "data",
                "array": list(high - rows["steps"]),
                "arrayminus": list(rows["steps"] - rows["steps_low"]),
                "thickness": 1.5,
                "width": 4,
                "color": INK,
            }
            found.append(_markers(name, rows, rows["steps"], {"size": 9, **marker}) | {"error_y": bars})
    if not reached.all():
        rows = studies[~reached]
        # The triangle points to where the true number lies.
        marker = {"size": 13, "symbol": "triangle-up-open", "color": VERMILLION, "line": {"width": 2}}
        found.append(_markers("not reached: more than this many steps", rows, rows["max_steps"], marker))
    return found


def _markers(name: str, rows: pd.DataFrame, steps: pd.Series[Any], marker: dict[str, Any]) -> Trace:
    texts = [
        hover(
            {
                "batch size": row["batch_size"],
                "steps": interval_text(row["steps"], row["steps_low"], row["steps_high"]),
                "examples": row["examples"],
                "seeds that reached": f"{row['n_reached']} of {row['n_seeds']}",
                "trained up to": f"{value_text(row['max_steps'])} steps",
            }
        )
        for row in rows.to_dict("records")
    ]
    batch_sizes = list(rows["batch_size"])
    return {"name": name, "mode": "markers", "x": batch_sizes, "y": list(steps), "hovertext": texts, "marker": marker}


def _curves(fit: HyperbolaFit, grid: npt.NDArray[np.float64]) -> list[Trace]:
    band = fit.predict(grid)
    x = list(grid)
    found: list[Trace] = []
    if band["steps_low"].notna().all():
        edge = {"mode": "lines", "x": x, "line": {"width": 0}, "hoverinfo": "skip"}
        found = [
            {**edge, "y": list(band["steps_low"]), "showlegend": False},
            {
                **edge,
                "y": list(band["steps_high"]),
                "fill": "tonexty",
                "fillcolor": BAND,
                "name": f"{100 * fit.level:g} % band of the curve",
            },
        ]
    curve = {"mode": "lines", "x": x}
    texts = [hover({"batch size": b, "steps on the curve": s}) for b, s in zip(grid, band["steps"], strict=True)]
    if fit.e_min > 0:
        line = {"color": GREY, "width": 1.5, "dash": "dot"}
        name = "perfect scaling: e_min / B"
        found.append({**curve, "y": list(fit.e_min / grid), "name": name, "line": line, "hoverinfo": "skip"})
    if fit.s_min > 0:
        line = {"color": GREY, "width": 1.5, "dash": "dashdot"}
        name = f"least steps: s_min = {value_text(fit.s_min)}"
        found.append({**curve, "y": [fit.s_min] * len(x), "name": name, "line": line, "hoverinfo": "skip"})
    if fit.lack_of_fit and fit.p_norm is not None:
        line = {"color": ORANGE, "width": 2.5, "dash": "dash"}
        name = f"curve with a free knee (p = {fit.p_norm.p:.2g})"
        found.append({**curve, "y": list(fit.p_norm.steps(grid)), "name": name, "line": line, "hoverinfo": "skip"})
    line = {"color": ACCENT, "width": 2.5}
    name = "fitted hyperbola: s_min + e_min / B"
    found.append({**curve, "y": list(band["steps"]), "name": name, "line": line, "hovertext": texts})
    return found


def _critical(fit: HyperbolaFit, low: float, high: float) -> tuple[list[Any], list[Any]]:
    """The vertical line at b_crit, the area of its interval (open ends reach the frame), and their words above."""
    left, right = max(fit.b_crit_low, low), min(fit.b_crit_high, high)
    known, shapes = fit.identified["b_crit"], []
    if low < left < right or left < right < high:  # an area over everything would say nothing
        area = {"type": "rect", "yref": "paper", "x0": left, "x1": right, "y0": 0, "y1": 1, "layer": "below"}
        shapes.append({**area, "fillcolor": "rgba(213, 94, 0, 0.10)", "line": {"width": 0}})
    if low < fit.b_crit < high:
        shapes.append(vertical(fit.b_crit, color=VERMILLION, width=2 if known else 1, dash="dash" if known else "dot"))
    words = f"b_crit = {interval_text(fit.b_crit, fit.b_crit_low, fit.b_crit_high)}"
    if not known:
        words = f"b_crit not identified: {interval_text(None, fit.b_crit_low, fit.b_crit_high)}"
    middle = min(max(fit.b_crit, low), high)
    share = math.log(middle / low) / math.log(high / low)
    note = {"x": math.log10(middle), "yref": "paper", "y": 1, "yanchor": "bottom", "showarrow": False, "text": words}
    anchor = "left" if share < 0.3 else "right" if share > 0.7 else "center"
    return shapes, [{**note, "xanchor": anchor, "font": {"color": VERMILLION, "size": 13}}]


__all__ = ["steps_plot"]
