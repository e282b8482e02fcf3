"""The figures of a comparison: curves, both in units of each run's own knee, and the three numbers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import numpy as np
import pandas as pd

from bcrit.analysis.numbers.estimate import Estimate
from bcrit.analysis.questions.compare.sides import NUMBERS, Side
from bcrit.analysis.report.answer import Plot
from bcrit.analysis.report.figure import (
    ACCENT,
    GREEN,
    GREY,
    INK,
    ORANGE,
    PALE,
    PURPLE,
    VERMILLION,
    Figure,
    Trace,
    band,
    figure,
    hover,
    label,
    line,
    log_axis,
    points,
    vertical,
)
from bcrit.analysis.wording import interval_text, value_text

MOST_BANDS: Final = 6
"""Bands of more runs than this would hide each other and are left out; chosen, not studied."""

# Okabe and Ito's colours that show on white (their yellow does not), then grey. The numbers of colours, symbols and
# dashes share no factor, so that there are 280 looks, and no run has to be told by colour alone.
_COLORS: Final = (ACCENT, VERMILLION, GREEN, ORANGE, PURPLE, INK, "#56b4e9", GREY)
_SYMBOLS: Final = ("circle", "square", "diamond", "triangle-up", "cross", "x", "star")
_DASHES: Final = ("solid", "dash", "dot", "dashdot", "longdash")
_GRID: Final = 120  # points of a drawn curve
_OPEN: Final = 3.0  # an open end is drawn as an arrow this factor beyond what is known; its length means nothing
_ROW, _FRAME = 30, 70  # pixels of a run, and of an axis with its title


def look(place: int) -> tuple[str, str, str]:
    """Colour, symbol and dash of the run at this place."""
    return _COLORS[place % len(_COLORS)], _SYMBOLS[place % len(_SYMBOLS)], _DASHES[place % len(_DASHES)]


def plots(all_runs: Sequence[Side]) -> list[Plot]:
    """Figures of all runs; runs whose batch sizes count different things cannot share an axis."""
    parts: list[Plot] = []
    units = list(dict.fromkeys(run.unit for run in all_runs))
    for place, unit in enumerate(units):
        runs = [run for run in all_runs if run.unit == unit]
        bands = "" if len(runs) <= MOST_BANDS else f" With more than {MOST_BANDS} runs the bands are left out."
        of = f" Batch sizes in {unit}." if len(units) > 1 else ""
        curves = (
            "Measured steps to the target with the interval over their seeds, the fitted curves, and the bands that "
            f"hold each curve with 95 %. Click a run in the legend to hide it.{bands}{of}"
        )
        numbers = (
            "The three numbers with their intervals. Hollow and dotted: not identified; a triangle: no end on that "
            f"side.{of}"
        )
        drawn = (("curves", curves_plot(runs, unit), curves), ("numbers", numbers_plot(runs, unit), numbers))
        parts += [Plot(f"{name}-{place}", each, caption) for name, each, caption in drawn if each is not None]
    collapse = collapse_plot(all_runs)
    if collapse is not None:
        words = (
            "Every run in units of its own s_min and b_crit (runs whose b_crit is not identified are left out). Where "
            "the hyperbola holds, all points lie on the line, whatever the run."
        )
        parts.insert(1, Plot("collapse", collapse, words))
    return parts


def curves_plot(runs: Sequence[Side], unit: str) -> Figure | None:
    """Every run's studies and curve with its band, log-log; curves go as far as the run measured."""
    data: list[Trace] = []
    seen: list[float] = []
    sizes = sorted({float(size) for run in runs for size in run.studies["batch_size"]})
    if not sizes:
        return None
    for place, run in enumerate(runs):
        color, symbol, dash = look(place)
        if run.fit is not None and run.range is not None:
            fitted = run.fit.predict(np.geomspace(*run.range, _GRID))
            if len(runs) <= MOST_BANDS and not fitted["steps_low"].isna().any():
                red, green, blue = bytes.fromhex(color[1:])
                x, low, high = (fitted[name].tolist() for name in ("batch_size", "steps_low", "steps_high"))
                data.append(band(x, low, high) | _of(run) | {"fillcolor": f"rgba({red}, {green}, {blue}, 0.12)"})
            x, y = fitted["batch_size"].tolist(), fitted["steps"].tolist()
            hovers = [{"run": run.label, "batch size": b, "steps on the curve": s} for b, s in zip(x, y, strict=True)]
            data.append(line(x, y, hovers, color=color, width=2.2, dash=dash) | _of(run))
        data += _studies(run, color, symbol)
        seen += [*run.studies["steps"], *run.studies["steps_low"], *run.studies["steps_high"]]
        seen += list(run.studies.loc[run.studies["steps"].isna(), "max_steps"])
    x_axis = log_axis(f"batch size ({label(unit)})", sizes, ticks=sizes, pad=1.5)
    return figure(data, x_axis, log_axis("steps to target", seen), height=540)


def _of(run: Side) -> dict[str, Any]:
    return {"legendgroup": run.location, "showlegend": False}


def _studies(run: Side, color: str, symbol: str) -> list[Trace]:
    """Measured studies, then those that did not reach as open triangles at how far they were trained."""
    reached, found = run.reached, []
    if len(reached):
        steps = [interval_text(*ends) for ends in reached[["steps", "steps_low", "steps_high"]].itertuples(index=False)]
        high = reached["steps_high"].fillna(reached["max_steps"].where(reached["steps_low"].notna()))
        found.append(
            _points(run, reached, "steps", steps, color=color, symbol=symbol, low=reached["steps_low"], high=high)
            | {"name": label(run.label)}
        )
    missed = run.studies[run.studies["steps"].isna()]
    if len(missed):
        steps = [f"more than {value_text(bound)}" for bound in missed["max_steps"]]
        trace = _points(run, missed, "max_steps", steps, color=color, symbol="triangle-up-open", size=13)
        trace["marker"]["line"] = {"width": 2}
        found.append(trace | {"name": f"{label(run.label)}: not reached, more than this"})
    return found


def _points(run: Side, rows: pd.DataFrame, column: str, steps: Sequence[str], **style: Any) -> Trace:
    sizes = [float(size) for size in rows["batch_size"]]
    hovers = [{"run": run.label, "batch size": b, "steps": s} for b, s in zip(sizes, steps, strict=True)]
    return points(sizes, rows[column].tolist(), hovers, legendgroup=run.location, **style)


def collapse_plot(runs: Sequence[Side]) -> Figure | None:
    """S / s_min against B / b_crit: all points lie on 1 + b_crit / B where the hyperbola holds."""
    data: list[Trace] = []
    x_seen, y_seen = [0.1, 10.0], [1.0]
    for place, run in enumerate(runs):
        if run.fit is None or not run.fit.identified["b_crit"]:
            continue
        color, symbol, _ = look(place)
        sizes, steps = run.reached["batch_size"], run.reached["steps"]
        x, y = list(sizes / run.fit.b_crit), list(steps / run.fit.s_min)
        hovers = [
            {"run": run.label, "batch size": size, "steps": step, "B / b_crit": across, "S / s_min": up}
            for size, step, across, up in zip(sizes, steps, x, y, strict=True)
        ]
        data.append(points(x, y, hovers, color=color, symbol=symbol) | {"name": label(run.label)})
        x_seen += x
        y_seen += y
    if not data:
        return None
    grid = np.geomspace(min(x_seen) / 1.5, max(x_seen) * 1.5, _GRID)
    curve = line(list(grid), list(1 + 1 / grid), color=GREY, width=2)
    data.insert(0, {**curve, "name": "the hyperbola, 1 + b_crit / B"})
    shapes = [vertical(1.0, color=GREY, width=1, dash="dot")]
    axes = log_axis("batch size / b_crit", x_seen, pad=1.5), log_axis("steps / s_min", y_seen)
    return figure(data, *axes, shapes=shapes)


def numbers_plot(runs: Sequence[Side], unit: str) -> Figure | None:
    """s_min, e_min and b_crit of every run, one below the other; hollow where not identified, an arrow where open."""
    fitted = [(place, run) for place, run in enumerate(runs) if run.fit is not None]
    if not fitted:
        return None
    data: list[Trace] = []
    axes: dict[str, Any] = {}
    units = {"s_min": "steps", "e_min": label(unit), "b_crit": label(unit)}
    height = len(NUMBERS) * (_FRAME + _ROW * len(fitted))
    for place, name in enumerate(NUMBERS):
        number = "" if place == 0 else str(place + 1)
        seen: list[float] = []
        for row, (of_run, run) in enumerate(fitted):
            estimate = run.estimates[name]
            seen += _known(estimate)
            for trace in _dot(estimate, run.label, name, -row, of_run):
                data.append(trace | {"xaxis": f"x{number}", "yaxis": f"y{number}", "showlegend": False})
        axis = log_axis(f"{name} ({units[name]})", seen, pad=1.6, most=7)
        axes[f"xaxis{number}"] = {**axis, "anchor": f"y{number}", "automargin": False}
        top = 1 - place / len(NUMBERS)
        axes[f"yaxis{number}"] = {
            "domain": [top - _ROW * len(fitted) / height, top],
            "anchor": f"x{number}",
            "tickvals": [-row for row in range(len(fitted))],
            "ticktext": [label(run.label) for _, run in fitted],
            "range": [-len(fitted) + 0.4, 0.6],
            "automargin": True,
            "gridcolor": PALE,
            "zeroline": False,
            "linecolor": GREY,
        }
    found = figure(data, axes["xaxis"], axes["yaxis"], height=height)
    found["layout"] |= axes
    found["layout"]["margin"]["b"] = 0
    return found


def _known(estimate: Estimate) -> list[float]:
    return [end for end in (estimate.value, estimate.low, estimate.high) if end is not None]


def _dot(estimate: Estimate, run: str, name: str, y: int, place: int) -> list[Trace]:
    """The interval as a line, the estimate on it."""
    color, symbol, _ = look(place)
    known, hollow = _known(estimate), bool(estimate.why)
    text = hover({"run": run, name: f"not identified: {estimate}" if hollow else str(estimate)})
    found: list[Trace] = []
    if estimate.low is not None or estimate.high is not None:
        low = estimate.low if estimate.low is not None else min(known) / _OPEN
        high = estimate.high if estimate.high is not None else max(known) * _OPEN
        symbols = [
            "triangle-left" if estimate.low is None else "line-ns",
            "triangle-right" if estimate.high is None else "line-ns",
        ]
        marker = {"symbol": symbols, "size": 9, "color": color, "line": {"color": color, "width": 2}}
        drawn = line([low, high], [y, y], color=color, width=2, dash="dot" if hollow else "solid")
        ends = {"mode": "lines+markers", "marker": marker, "hovertext": [text, text], "hoverinfo": "text"}
        found.append(drawn | ends)
    if estimate.value is not None:
        dot = points([estimate.value], [y], color=color, symbol=f"{symbol}-open" if hollow else symbol, size=11)
        dot["marker"]["line"] = {"width": 2 if hollow else 0}
        found.append({**dot, "hovertext": [text]})
    return found
