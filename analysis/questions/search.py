"""What was tried at each batch size, and how did it end?"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import pandas as pd

from bcrit.analysis.report.answer import Answer, Key, Panels
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
    label,
    line,
    linear_axis,
    log_axis,
    points,
    tick_text,
)
from bcrit.analysis.run import Run
from bcrit.analysis.studies.steps_to_target import searched_spaces
from bcrit.analysis.wording import value_text
from bcrit.search_spaces.dimensions import Box, Log, ReverseLog
from bcrit.search_spaces.outcome import Outcome, Stage
from bcrit.search_spaces.space import SearchSpace, hyperparameter
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

MOST_MARKS: Final = 6000
"""Of all studies together: about 1 MB of page, most of it what hovering shows; chosen, not studied."""

_LEAST: Final = 20  # of one outcome of one study, so that what is rare stays visible; chosen, not studied
_EDGE = 12  # points on each edge of a drawn box, which is curved where the axes are not its scales


def ask(run: Run) -> Answer | str:
    """Every search trial of each study in the plane of its hyperparameters, its boxes and its best point."""
    search = run.trials[run.trials["stage"] == Stage.SEARCH]
    if search.empty:
        return "the run has no search"
    plane = coordinates(run.experiment.space)
    shown = shown_trials(search)
    best = search.groupby("batch_size")["steps_to_target"].transform("min")
    # The largest steps-to-target relative to the best of its study: the end of the colour scale.
    slowest = max(1.5, float((search["steps_to_target"] / best).max(skipna=True)) if best.notna().any() else 1.5)
    sizes = [int(b) for b in run.studies["batch_size"]]
    spaces = {b: searched_spaces(run.experiment, run.boundary, b) if plane else [] for b in sizes}
    ends = ("fastest of its study", f"{tick_text(float(f'{slowest:.2g}'))} × its steps")
    legend = [
        Key(*MARKS[outcome], outcome.value, ends if outcome is Outcome.REACHED else ())
        for outcome in Outcome
        if (search["outcome"] == outcome).any()
    ]
    legend.append(Key("star-open", ACCENT, "point of the study"))
    legend += [Key("line", GREY, "search box")] if plane else []
    legend += [Key("line-dash", ACCENT, "widened box")] if any(len(found) > 1 for found in spaces.values()) else []
    panels = Panels("trials", "batch size", panels_of(run, search, shown, plane, spaces, slowest), tuple(legend))
    said = f"{_sentence(plane, len(shown), len(search))} Hover over a mark for its hyperparameters."
    return Answer("search", "The search at each batch size", (said,), (panels,))


def panels_of(
    run: Run,
    search: pd.DataFrame,
    shown: pd.DataFrame,
    plane: tuple[Coordinate, ...],
    spaces: Mapping[int, Sequence[SearchSpace]],
    slowest: float,
) -> dict[int, Figure]:
    """A figure for each study, by its batch size, on common axes."""
    places, ceiling = _places(search, plane)
    outlines = {b: [outline(space, plane) for space in found] for b, found in spaces.items()}
    axes = [
        _axis(coordinate, [*places[n].dropna(), *(v for o in outlines.values() for edges in o for v in edges[n])])
        for n, coordinate in enumerate(plane)
    ]
    if not plane:
        axes.append(linear_axis("trial"))
    if len(axes) == 1:
        axes.append(log_axis("steps to target", [*search["steps_to_target"].dropna(), ceiling]))
    panels = {}
    for row in run.studies.to_dict("records"):
        batch_size = int(row["batch_size"])
        mine = search["batch_size"] == batch_size
        x, y = (place[mine] for place in places)
        drawn = shown.index[shown["batch_size"] == batch_size]
        data = [*_boxes(outlines[batch_size]), *_trials(search.loc[drawn], x[drawn], y[drawn], slowest)]
        if pd.notna(row["best_trial"]):
            chosen = search["trial_id"][mine] == row["best_trial"]
            star = points(list(x[chosen]), list(y[chosen]), color=ACCENT, symbol="star-open", size=20, hoverinfo="skip")
            star["marker"]["line"] = {"width": 2.5}
            data.append(star | {"name": "point of the study", "showlegend": False})
        shapes = [] if len(plane) == 2 else _spans(outlines[batch_size])
        panel = figure(data, *axes, shapes=shapes, height=300)
        panel["layout"] |= {"margin": {"l": 68, "r": 14, "t": 6, "b": 54}, "showlegend": False}
        panels[batch_size] = panel
    return panels


def _places(search: pd.DataFrame, plane: tuple[Coordinate, ...]) -> tuple[list[pd.Series[float]], float]:
    """X and y of every trial; with fewer than two coordinates y is the steps, and a ceiling where not reached."""
    places = [each.of(search).astype(float) for each in plane] if plane else [search["number"].astype(float)]
    steps = search["steps_to_target"].astype(float)
    ceiling = 1.4 * float(steps.max()) if steps.notna().any() else 1.0
    return (places if len(places) == 2 else [*places, steps.fillna(ceiling)]), ceiling


def _axis(coordinate: Coordinate, seen: Sequence[float]) -> Axis:
    title = label(coordinate.title)
    return log_axis(title, seen, pad=1.8, most=6) if coordinate.log else linear_axis(title)


def _boxes(outlines: Sequence[Sequence[Any]]) -> list[Trace]:
    """The first box as a solid line, wider ones dashed."""
    found: list[Trace] = []
    for number, edges in enumerate(outlines):
        if len(edges) == 2:
            x, y = (list(values) for values in edges)
            look: dict[str, Any] = {"color": ACCENT, "dash": "dash"} if number else {"color": GREY}
            found.append(line(x, y, **look, name=f"widened box {number}" if number else "search box"))
    return found


def _spans(outlines: Sequence[Sequence[Any]]) -> list[Any]:
    """The same boxes where there is one coordinate: areas from end to end."""
    area = {"type": "rect", "yref": "paper", "y0": 0, "y1": 1, "layer": "below"}
    return [
        {
            **area,
            "x0": min(edges[0]),
            "x1": max(edges[0]),
            "fillcolor": "rgba(110, 119, 129, 0.08)",
            "line": {"color": ACCENT if number else GREY, "width": 1, "dash": "dash" if number else "solid"},
        }
        for number, edges in enumerate(outlines)
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
        told = [_told(row, outcome) for row in trials[mine].to_dict("records")]
        marks = points(list(x[mine]), list(y[mine]), told, color=color, symbol=symbol, size=8)
        marks["marker"]["line"] = {"width": 1.3, "color": color}
        if outcome is Outcome.REACHED:
            ratio = [math.log2(steps / best) for steps in trials["steps_to_target"][mine]]
            scale = [[place / (len(VIRIDIS) - 1), stop] for place, stop in enumerate(VIRIDIS)]
            marks["marker"] |= {"size": 10, "color": ratio, "colorscale": scale, "cmin": 0, "cmax": math.log2(slowest)}
            marks["marker"]["line"] = {"width": 1, "color": "#ffffff"}
        found.append(marks | {"name": outcome.value})
    return found


def _told(row: dict[Any, Any], outcome: Outcome) -> dict[str, Any]:
    point = {name: value for name, value in row.items() if name not in TRIALS.names and not pd.isna(value)}
    steps = value_text(row["steps_to_target"]) if pd.notna(row["steps_to_target"]) else "not reached"
    lines = {"trial": row["trial_id"], "outcome": outcome.value, "steps to target": steps, "steps made": row["steps"]}
    return {**lines, **point, **({"message": row["message"]} if pd.notna(row["message"]) else {})}


def _sentence(plane: tuple[Coordinate, ...], shown: int, trials: int) -> str:
    fewer = f" Of {trials:,} trials {shown:,} are drawn, of each outcome evenly from the fastest to the slowest."
    more = fewer if shown < trials else ""
    if len(plane) == 2:
        return f"Each mark is one trial of the search, in the plane of {plane[0].title} and {plane[1].title}.{more}"
    across = plane[0].title if plane else "the order of the search"
    where = f"steps to target against {across}; those not reached stand on top"
    return f"Each mark is one trial of the search, {where}.{more}"


@dataclass(frozen=True)
class Coordinate:
    """One axis of the plane."""

    title: str
    log: bool  # whether it is logarithmic
    of: Callable[[Any], Any]  # its value at points given as columns: of a frame, or arrays of equal length
    addresses: tuple[str, ...]  # the dimensions it is computed from


def coordinates(space: SearchSpace) -> tuple[Coordinate, ...]:
    """Choose the axes: (lr / (1 - momentum), 1 - momentum) where both are searched, else the first two numeric ones.

    The optimum moves along lr / (1 - momentum), so the plain plane shows a diagonal band (Shallue et al. 2018).
    Dimensions that exist under one option only count where there are no others.
    There are none, one or two.
    """
    boxes = {address: axis for address, axis in space.axes.items() if isinstance(axis, Box)}
    if "lr" in boxes and "momentum" in boxes:
        effective = Coordinate(
            "lr / (1 − momentum)", True, lambda at: at["lr"] / (1 - at["momentum"]), ("lr", "momentum")
        )
        return effective, _own("momentum", boxes["momentum"], log=True)
    always = [address for address in boxes if "." not in address] or list(boxes)
    return tuple(_own(address, boxes[address]) for address in always[:2])


def _own(address: str, box: Box, log: bool = False) -> Coordinate:
    name = hyperparameter(address)
    if log or isinstance(box, ReverseLog):
        return Coordinate(f"1 − {name}", True, lambda at: 1 - at[name], (address,))
    return Coordinate(name, isinstance(box, Log), lambda at: at[name], (address,))


def outline(space: SearchSpace, plane: tuple[Coordinate, ...]) -> list[Any]:
    """The corners and edges of a box in the plane: one array for each coordinate; a span of two ends on a line."""
    addresses = list(dict.fromkeys(address for coordinate in plane for address in coordinate.addresses))
    up, down = np.linspace(0, 1, _EDGE), np.linspace(1, 0, _EDGE)
    low, high = np.zeros(_EDGE), np.ones(_EDGE)
    around = [[up, high, down, low], [low, up, high, down]] if len(addresses) == 2 else [[np.array([0.0, 1.0])]]
    at: dict[str, Any] = {}
    for address, units in zip(addresses, around, strict=True):
        box = space.box(address)
        at[hyperparameter(address)] = np.array([box.from_unit(unit) for unit in np.concatenate(units)])
    return [coordinate.of(at) for coordinate in plane]


def shown_trials(search: pd.DataFrame, most: int = MOST_MARKS) -> pd.DataFrame:
    """All trials, or of each study and outcome an even selection from the fastest trial to the slowest.

    Every outcome of a study keeps its share, at least 20 trials, and its fastest and slowest, so that the picture stays
    what it would be with all marks, only thinner. The selection is not random: the same run has the same page.

    So many are drawn in all, unless the 20 of every outcome are more.
    """
    if len(search) <= most:
        return search
    share = most / len(search)
    kept: list[pd.Index] = []
    ordered = search.sort_values(["steps_to_target", "steps", "trial_id"])
    for _, alike in ordered.groupby(["batch_size", "outcome"], sort=False):
        count = min(len(alike), max(_LEAST, int(share * len(alike))))
        kept.append(alike.index[np.unique(np.linspace(0, len(alike) - 1, count).round().astype(int))])
    return search.loc[np.sort(np.concatenate(kept))]
