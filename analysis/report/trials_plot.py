"""The figures of the search: every trial of every study in the plane of its hyperparameters, one panel a batch size."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import pandas as pd

from bcrit.analysis.report.figure import (
    ACCENT,
    GREY,
    INK,
    ORANGE,
    PURPLE,
    VERMILLION,
    VIRIDIS,
    Axis,
    Figure,
    Trace,
    figure,
    hover,
    label,
    linear_axis,
    log_axis,
    tick_text,
)
from bcrit.analysis.report.shown_trials import shown_trials
from bcrit.analysis.report.trial_axes import Coordinate, columns, coordinates, outline
from bcrit.analysis.run import Run
from bcrit.analysis.studies.steps_to_target import searched_spaces
from bcrit.analysis.wording import value_text
from bcrit.search_spaces.outcome import Outcome, Stage
from bcrit.search_spaces.tables import TRIALS

MARKS: Final = {
    Outcome.REACHED: ("circle", VIRIDIS[3]),
    Outcome.CAPPED: ("triangle-up-open", GREY),
    Outcome.PRUNED: ("square-open", GREY),
    Outcome.EXHAUSTED: ("diamond-open", ORANGE),
    Outcome.DIVERGED: ("x-thin-open", VERMILLION),
    Outcome.OUT_OF_MEMORY: ("asterisk-open", PURPLE),
    Outcome.FAILED: ("cross-thin-open", INK),
}
"""Symbol and colour of every outcome; trials that reached are coloured by their steps."""


@dataclass(frozen=True)
class TrialPanels:
    """The panels and what explains all of them together.

    Attributes:
        panels: (batch size, figure), by rising batch size.
        outcomes: those that occur.
        slowest: the largest steps-to-target relative to the best of its study: the end of the colour scale.
        boxed: whether search boxes are drawn.
        widened: whether any box was widened.
        sentence: what the axes are.
    """

    panels: tuple[tuple[int, Figure], ...]
    outcomes: tuple[Outcome, ...]
    slowest: float
    boxed: bool
    widened: bool
    sentence: str


def trials_plot(analysis: Run) -> TrialPanels:
    """Draw the search trials of each study, its boxes and its best point, on common axes.

    Args:
        analysis: of the run; any search space.
    """
    search = analysis.trials[analysis.trials["stage"] == Stage.SEARCH]
    plane = coordinates(analysis.experiment.space)
    best = search.groupby("batch_size")["steps_to_target"].transform("min")
    slowest = max(1.5, float((search["steps_to_target"] / best).max(skipna=True)) if best.notna().any() else 1.5)
    places, ceiling = _places(search, plane)
    edges, sizes = analysis.boundary, [int(b) for b in analysis.studies["batch_size"]]
    spaces = {b: searched_spaces(analysis.experiment, edges, b) if plane else [] for b in sizes}
    outlines = {b: [outline(space, plane) for space in found] for b, found in spaces.items()}
    axes = [
        _axis(
            coordinate, [*places[number].dropna(), *(v for o in outlines.values() for line in o for v in line[number])]
        )
        for number, coordinate in enumerate(plane)
    ]
    if not plane:
        axes.append(linear_axis("trial"))
    if len(axes) == 1:
        axes.append(log_axis("steps to target", [*search["steps_to_target"].dropna(), ceiling]))
    shown, panels = shown_trials(search), []
    for row in analysis.studies.to_dict("records"):
        batch_size = int(row["batch_size"])
        mine = search["batch_size"] == batch_size
        x, y = (place[mine] for place in places)
        drawn = shown.index[shown["batch_size"] == batch_size]
        data = [*_boxes(outlines[batch_size]), *_trials(search.loc[drawn], x[drawn], y[drawn], slowest)]
        if pd.notna(row["best_trial"]):
            chosen = search["trial_id"][mine] == row["best_trial"]
            marker = {"symbol": "star-open", "size": 20, "color": ACCENT, "line": {"width": 2.5}}
            point = {"name": "point of the study", "x": list(x[chosen]), "y": list(y[chosen]), "hoverinfo": "skip"}
            data.append({**point, "mode": "markers", "marker": marker, "showlegend": False})
        shapes = [] if len(plane) == 2 else _spans(outlines[batch_size])
        panels.append((batch_size, _panel(data, axes, shapes)))
    occurring = tuple(outcome for outcome in Outcome if (search["outcome"] == outcome).any())
    widened = any(len(found) > 1 for found in spaces.values())
    return TrialPanels(
        tuple(panels), occurring, slowest, bool(plane), widened, _sentence(plane, len(shown), len(search))
    )


def _places(search: pd.DataFrame, plane: tuple[Coordinate, ...]) -> tuple[list[pd.Series[float]], float]:
    """X and y of every trial; with fewer than two coordinates y is the steps, and a ceiling where not reached."""
    places = columns(search, plane) if plane else [search["number"].astype(float)]
    steps = search["steps_to_target"].astype(float)
    ceiling = 1.4 * float(steps.max()) if steps.notna().any() else 1.0
    return (places if len(places) == 2 else [*places, steps.fillna(ceiling)]), ceiling


def _axis(coordinate: Coordinate, seen: Sequence[float]) -> Axis:
    title = label(coordinate.title)
    return log_axis(title, seen, pad=1.8, most=6) if coordinate.log else linear_axis(title)


def _panel(data: Sequence[Trace], axes: Sequence[Axis], shapes: Sequence[Any]) -> Figure:
    found = figure(data, axes[0], axes[1], shapes=shapes, height=300)
    found["layout"]["margin"] = {"l": 68, "r": 14, "t": 6, "b": 54}
    found["layout"]["showlegend"] = False
    return found


def _boxes(outlines: Sequence[Sequence[Any]]) -> list[Trace]:
    """The first box as a solid line, wider ones dashed."""
    found: list[Trace] = []
    for number, line in enumerate(outlines):
        if len(line) == 2:
            style = {"color": GREY, "width": 1.5} if number == 0 else {"color": ACCENT, "width": 1.5, "dash": "dash"}
            name = "search box" if number == 0 else f"widened box {number}"
            x, y = (list(values) for values in line)
            found.append({"name": name, "mode": "lines", "x": x, "y": y, "line": style, "hoverinfo": "skip"})
    return found


def _spans(outlines: Sequence[Sequence[Any]]) -> list[Any]:
    """The same boxes where there is one coordinate: areas from end to end."""
    area = {
        "type": "rect",
        "yref": "paper",
        "y0": 0,
        "y1": 1,
        "layer": "below",
        "fillcolor": "rgba(110, 119, 129, 0.08)",
    }
    return [
        {
            **area,
            "x0": min(line[0]),
            "x1": max(line[0]),
            "line": {"color": ACCENT if number else GREY, "width": 1, "dash": "dash" if number else "solid"},
        }
        for number, line in enumerate(outlines)
    ]


def _trials(trials: pd.DataFrame, x: pd.Series[float], y: pd.Series[float], slowest: float) -> list[Trace]:
    """One trace for each outcome, those that reached the target on top."""
    best = trials["steps_to_target"].min()
    found = []
    for outcome in reversed(Outcome):
        mine = trials["outcome"] == outcome
        if not mine.any():
            continue
        symbol, color = MARKS[outcome]
        marker: dict[str, Any] = {"symbol": symbol, "size": 8, "color": color, "line": {"width": 1.3, "color": color}}
        if outcome is Outcome.REACHED:
            ratio = [math.log2(steps / best) for steps in trials["steps_to_target"][mine]]
            scale = [[place / (len(VIRIDIS) - 1), stop] for place, stop in enumerate(VIRIDIS)]
            marker |= {"size": 10, "color": ratio, "colorscale": scale, "cmin": 0, "cmax": math.log2(slowest)}
            marker["line"] = {"width": 1, "color": "#ffffff"}
        texts = [_hover(row, outcome) for row in trials[mine].to_dict("records")]
        points = {"x": list(x[mine]), "y": list(y[mine]), "hovertext": texts, "marker": marker}
        found.append({"name": outcome.value, "mode": "markers", **points})
    return found


def _hover(row: dict[Any, Any], outcome: Outcome) -> str:
    point = {name: value for name, value in row.items() if name not in TRIALS.names and not pd.isna(value)}
    steps = value_text(row["steps_to_target"]) if pd.notna(row["steps_to_target"]) else "not reached"
    lines = {"trial": row["trial_id"], "outcome": outcome.value, "steps to target": steps, "steps made": row["steps"]}
    message = {"message": row["message"]} if pd.notna(row["message"]) else {}
    return hover({**lines, **point, **message})


def _sentence(plane: tuple[Coordinate, ...], shown: int, trials: int) -> str:
    fewer = f" Of {trials:,} trials {shown:,} are drawn, of each outcome evenly from the fastest to the slowest."
    more = fewer if shown < trials else ""
    if len(plane) == 2:
        return f"Each mark is one trial of the search, in the plane of {plane[0].title} and {plane[1].title}.{more}"
    across = plane[0].title if plane else "the order of the search"
    where = f"steps to target against {across}; those not reached stand on top"
    return f"Each mark is one trial of the search, {where}.{more}"


def color_ticks(slowest: float) -> tuple[str, str]:
    """The ends of the colour scale in words."""
    return "fastest of its study", f"{tick_text(float(f'{slowest:.2g}'))} × its steps"


__all__ = ["MARKS", "TrialPanels", "color_ticks", "trials_plot"]
