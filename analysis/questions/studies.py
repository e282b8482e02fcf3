"""What was run: the experiment and its words, the search at each batch size, and what came out of every study."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import pandas as pd

from bcrit.analysis import report as draw
from bcrit.analysis.numbers import interval_text, value_text
from bcrit.analysis.report import Answer, Key, Panels, Part, Rows, Table, Text, Words, table_of
from bcrit.analysis.run import Run
from bcrit.analysis.studies import outcome_counts, searched_spaces
from bcrit.search_spaces.dimensions import Box, Log, ReverseLog
from bcrit.search_spaces.load import dump_experiment
from bcrit.search_spaces.outcome import Outcome, Stage
from bcrit.search_spaces.space import SearchSpace, hyperparameter
from bcrit.search_spaces.tables import STEPS_TO_TARGET, TRIALS

EDGES: Final = {
    "box": "The box may bind: a better point may lie outside.",
    "wall": "Beyond it nearly every trial diverged: nothing better lies there.",
    "limit": "The end of what the hyperparameter can be: nothing lies beyond.",
    "flat": "Trials spread over the whole axis do as well: its value hardly matters.",
}
"""What each kind of edge means."""

MARKS: Final = {
    Outcome.REACHED: ("circle", draw.VIRIDIS[3]),
    Outcome.CAPPED: ("triangle-up-open", draw.GREY),
    Outcome.PRUNED: ("square-open", draw.GREY),
    Outcome.EXHAUSTED: ("diamond-open", draw.ORANGE),
    Outcome.DIVERGED: ("x-thin-open", draw.VERMILLION),
    Outcome.OUT_OF_MEMORY: ("asterisk-open", draw.PURPLE),
    Outcome.FAILED: ("cross-thin-open", draw.INK),
}
"""Symbol and colour of every outcome; trials that reached are coloured by their steps."""

MOST_MARKS: Final = 6000
"""Of all studies together: about 1 MB of page, most of it what hovering shows; chosen, not studied."""

_LEAST: Final = 20  # of one outcome of one study, so that what is rare stays visible; chosen, not studied
_EDGE = 12  # points on each edge of a drawn box, which is curved where the axes are not its scales


def ask(run: Run) -> Answer:
    """Tables of every study, and every edge that an optimum touched, in every round."""
    names = [name for name in run.studies.columns if name not in STEPS_TO_TARGET.names]
    results = [
        {
            "batch size": row["batch_size"],
            "steps to target": interval_text(row["steps"], row["steps_low"], row["steps_high"])
            if pd.notna(row["steps"])
            else "not reached yet"
            if row["batch_size"] in run.early
            else f"more than {value_text(row['max_steps'])}",
            f"{run.experiment.unit} to target": row["examples"],
            "seeds reached": f"{row['n_reached']} of {row['n_seeds']}",
            "source": row["source"],
            "search trials": row["n_trials"],
            "best in search": row["search_steps"],
            "ms a step": 1000 * row["step_seconds"],
        }
        for row in run.studies.to_dict("records")
    ]
    parts: list[Part] = [Rows("Results", table_of(results))]
    reached = run.studies[run.studies["best_trial"].notna()].to_dict("records")
    if reached:
        best = [{"batch size": row["batch_size"], **{name: row[name] for name in names}} for row in reached]
        parts.append(Rows("Best hyperparameters", table_of(best)))
    counts = {b: outcome_counts(run.trials, int(b)) for b in run.studies["batch_size"]}
    occurring = [o.value for o in Outcome if any(count[o.value] for count in counts.values())]
    if occurring:
        ended = [{"batch size": b, **{o: count[o] for o in occurring}} for b, count in counts.items()]
        parts.append(Rows("How the search trials ended", table_of(ended)))
    heading = "Optima at the edge of their box"
    if run.boundary.empty:
        parts.append(Text("No optimum lies at an edge of its search box.", heading))
    else:
        edges = [
            {
                "batch size": edge["batch_size"],
                "round": edge["round"],
                "dimension": edge["dimension"],
                "side": edge["side"],
                "box": f"{value_text(edge['low'])} to {value_text(edge['high'])}",
                "optimum": edge["optimum"],
                "kind": edge["kind"],
                "widened to": edge["widened_to"],
            }
            for edge in run.boundary.to_dict("records")
        ]
        kinds = {kind: text for kind, text in EDGES.items() if (run.boundary["kind"] == kind).any()}
        parts += [Rows(heading, table_of(edges)), Words(kinds)]
    return Answer("studies", "Studies", (), tuple(parts))


# --- what was run ---


def about(run: Run) -> Answer:
    """The experiment, the environment, the place, and the words of the report."""
    whole = Text(dump_experiment(run.experiment), "Experiment, with all defaults filled in", verbatim=True)
    sessions = [Rows("Environment", environment_table(run.environment))] if run.environment else []
    u_shape = run.fit is not None and run.fit.trough is not None
    words = Words(_glossary(run.experiment.unit, str(run.experiment.target), u_shape), "Words")
    return Answer("studies.about", "What was run", (), (whole, *sessions, Text(f"Run folder: {run.location}"), words))


def environment_table(sessions: Sequence[Mapping[str, Any]]) -> Table:
    """Versions, host and devices; where a later session of the run had others, both."""
    names = dict.fromkeys(name for session in sessions for name in session)
    values = {name: dict.fromkeys(_flat(session.get(name)) for session in sessions) for name in names}
    return table_of([{"what": name, "value": "; then ".join(different)} for name, different in values.items()])


def _flat(value: Any) -> str:
    if isinstance(value, Mapping):
        return ", ".join(f"{name} {_flat(inner)}" for name, inner in value.items())
    if isinstance(value, list | tuple):
        return ", ".join(_flat(inner) for inner in value) or "none"
    return "–" if value is None else str(value)


def _glossary(unit: str, target: str, u_shape: bool) -> dict[str, str]:
    """Symbols first, those of the curve that is used, then how a trial can end, one line each."""
    found = {
        "batch size, B": f"How many {unit} one optimizer update uses.",
        "step": "One optimizer update.",
        "steps, S(B)": "Steps that the best setting at batch size B needs to reach the target: s_min (1 + b_crit / B).",
        f"{unit}, E(B)": f"How many {unit} that takes: B S(B) = e_min (1 + B / b_crit).",
        "target": f"{target}: reached at the first evaluation that is strictly better.",
        "s_min": "Steps that remain however large the batch: the floor of time.",
        "e_min": f"The {unit} that remain however small the batch: the floor of compute.",
        "b_crit": f"e_min / s_min: there steps and {unit} are both twice their minimum (2x definition).",
    }
    if u_shape:
        found["steps, S(B)"] = found["steps, S(B)"].replace("(1 + b_crit / B)", "(1 - b_opt / B)^2 + e_min / B")
        found[f"{unit}, E(B)"] = f"How many {unit} that takes: B S(B), the fewest at b_opt."
        found["e_min"] = f"The fewest {unit}, at b_opt: the floor of compute."
        found["b_crit"] = f"The larger batch size where {unit} are twice their minimum (2x definition)."
        found["b_opt"] = f"The batch size with the fewest {unit}; smaller ones need more again."
    return {
        **found,
        "study": "The search for the best hyperparameters at one batch size.",
        "trial": "One training run at one setting, with one seed.",
        "search, confirm": "The search picks a setting; fresh seeds, none stopped early, make its number.",
        "interval of a study": (
            "Order statistics over its fresh seeds that cover their median with 90 % (their range if few)."
        ),
        **{outcome.value: outcome.sentence for outcome in Outcome},
    }


# --- the search ---


def search(run: Run) -> Answer | str:
    """Every search trial of each study in the plane of its hyperparameters, its boxes and its best point."""
    trials = run.trials[run.trials["stage"] == Stage.SEARCH]
    if trials.empty:
        return "the run has no search"
    plane, shown = coordinates(run.experiment.space), shown_trials(trials)
    best = trials.groupby("batch_size")["steps_to_target"].transform("min")
    # The largest steps-to-target relative to the best of its study: the end of the colour scale.
    slowest = max(1.5, float((trials["steps_to_target"] / best).max(skipna=True)) if best.notna().any() else 1.5)
    sizes = [int(b) for b in run.studies["batch_size"]]
    spaces = {b: searched_spaces(run.experiment, run.boundary, b) if plane else [] for b in sizes}
    ends = ("fastest of its study", f"{draw.tick_text(float(f'{slowest:.2g}'))} × its steps")
    legend = [
        Key(*MARKS[outcome], outcome.value, ends if outcome is Outcome.REACHED else ())
        for outcome in Outcome
        if (trials["outcome"] == outcome).any()
    ]
    legend.append(Key("star-open", draw.ACCENT, "point of the study"))
    legend += [Key("line", draw.GREY, "search box")] if plane else []
    legend += [Key("line-dash", draw.ACCENT, "widened box")] if any(len(found) > 1 for found in spaces.values()) else []
    figures = _panels(run, trials, shown, plane, spaces, slowest)
    fewer = (
        f" Of {len(trials):,} trials {len(shown):,} are drawn, of each outcome evenly from the fastest to the slowest."
    )
    against = plane[0].title if plane else "the order of the search"
    where = f"steps to target against {against}; those not reached stand on top"
    if trials["steps_to_target"].isna().all():
        where = f"best {run.experiment.target.metric} against {against}, as none reached the target"
    if len(plane) == 2:
        where = f"in the plane of {plane[0].title} and {plane[1].title}"
    sentence = f"Each mark is one trial of the search, {where}.{fewer if len(shown) < len(trials) else ''}"
    said = f"{sentence} Hover over a mark for its hyperparameters."
    panels = Panels("trials", "batch size", figures, tuple(legend))
    return Answer("studies.search", "The search at each batch size", (said,), (panels,))


def _panels(
    run: Run,
    search: pd.DataFrame,
    shown: pd.DataFrame,
    plane: tuple[Coordinate, ...],
    spaces: Mapping[int, Sequence[SearchSpace]],
    slowest: float,
) -> dict[int, draw.Figure]:
    """A figure for each study, by its batch size, on common axes."""
    # X and y of every trial; with fewer than two coordinates y is the steps, and a ceiling where not reached.
    places = [each.of(search).astype(float) for each in plane] if plane else [search["number"].astype(float)]
    steps = search["steps_to_target"].astype(float)
    ceiling = 1.4 * float(steps.max()) if steps.notna().any() else 1.0
    outlines = {b: [outline(space, plane) for space in found] for b, found in spaces.items()}
    axes = [] if plane else [draw.linear_axis("trial")]
    for n, coordinate in enumerate(plane):
        seen = [*places[n].dropna(), *(value for edges in outlines.values() for each in edges for value in each[n])]
        title = draw.label(coordinate.title)
        axes.append(draw.log_axis(title, seen, pad=1.8, most=6) if coordinate.log else draw.linear_axis(title))
    if len(places) == 1 and steps.isna().all():
        places.append(search["best_value"].astype(float))
        axes.append(draw.value_axis(draw.label(f"best {run.experiment.target.metric}"), places[-1]))
    elif len(places) == 1:
        places.append(steps.fillna(ceiling))
        axes.append(draw.log_axis("steps to target", [*steps.dropna(), ceiling]))
    panels = {}
    for row in run.studies.to_dict("records"):
        batch_size = int(row["batch_size"])
        mine, drawn = search["batch_size"] == batch_size, shown.index[shown["batch_size"] == batch_size]
        x, y = (place[mine] for place in places)
        boxes, shapes = _boxes(outlines[batch_size])
        data = [*boxes, *_trials(search.loc[drawn], x[drawn], y[drawn], slowest)]
        if pd.notna(row["best_trial"]):
            chosen = search["trial_id"][mine] == row["best_trial"]
            star = draw.points(
                list(x[chosen]), list(y[chosen]), color=draw.ACCENT, symbol="star-open", size=20, hoverinfo="skip"
            )
            star["marker"]["line"] = {"width": 2.5}
            data.append(star | {"name": "point of the study", "showlegend": False})
        panel = draw.figure(data, *axes, shapes=shapes, height=300)
        panel["layout"] |= {"margin": {"l": 68, "r": 14, "t": 6, "b": 54}, "showlegend": False}
        panels[batch_size] = panel
    return panels


def _boxes(outlines: Sequence[Sequence[Any]]) -> tuple[list[draw.Trace], list[Any]]:
    """The first box as a solid line, wider ones dashed; where there is one coordinate, areas from end to end."""
    lines, areas = list[draw.Trace](), list[Any]()
    for number, edges in enumerate(outlines):
        color, dash, name = (
            (draw.ACCENT, "dash", f"widened box {number}") if number else (draw.GREY, None, "search box")
        )
        if len(edges) == 2:
            lines.append(draw.line(list(edges[0]), list(edges[1]), color=color, dash=dash, name=name))
        else:
            span = {"x0": min(edges[0]), "x1": max(edges[0]), "yref": "paper", "y0": 0, "y1": 1, "layer": "below"}
            look = {"color": color, "width": 1, "dash": dash or "solid"}
            areas.append({"type": "rect", **span, "fillcolor": "rgba(110, 119, 129, 0.08)", "line": look})
    return lines, areas


def _trials(trials: pd.DataFrame, x: pd.Series[float], y: pd.Series[float], slowest: float) -> list[draw.Trace]:
    """One trace for each outcome, those that reached the target on top."""
    best = trials["steps_to_target"].min()
    found = []
    for outcome in reversed(Outcome):
        mine = trials["outcome"] == outcome
        if not mine.any():
            continue
        symbol, color = MARKS[outcome]
        told = [_told(row, outcome) for row in trials[mine].to_dict("records")]
        marks = draw.points(list(x[mine]), list(y[mine]), told, color=color, symbol=symbol, size=8)
        marks["marker"]["line"] = {"width": 1.3, "color": color}
        if outcome is Outcome.REACHED:
            ratio = [math.log2(steps / best) for steps in trials["steps_to_target"][mine]]
            scale = [[place / (len(draw.VIRIDIS) - 1), stop] for place, stop in enumerate(draw.VIRIDIS)]
            marks["marker"] |= {"size": 10, "color": ratio, "colorscale": scale, "cmin": 0, "cmax": math.log2(slowest)}
            marks["marker"]["line"] = {"width": 1, "color": "#ffffff"}
        found.append(marks | {"name": outcome.value})
    return found


def _told(row: dict[Any, Any], outcome: Outcome) -> dict[str, Any]:
    point = {name: row[name] for name in TRIALS.beside(row) if not pd.isna(row[name])}
    steps = value_text(row["steps_to_target"]) if pd.notna(row["steps_to_target"]) else "not reached"
    lines = {"trial": row["trial_id"], "outcome": outcome.value, "steps to target": steps, "steps made": row["steps"]}
    return {**lines, **point, **({"message": row["message"]} if pd.notna(row["message"]) else {})}


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

    def own(address: str, log: bool = False) -> Coordinate:
        name, box = hyperparameter(address), boxes[address]
        if log or isinstance(box, ReverseLog):
            return Coordinate(f"1 − {name}", True, lambda at: 1 - at[name], (address,))
        return Coordinate(name, isinstance(box, Log), lambda at: at[name], (address,))

    if "lr" in boxes and "momentum" in boxes:
        both = "lr", "momentum"
        effective = Coordinate("lr / (1 − momentum)", True, lambda at: at["lr"] / (1 - at["momentum"]), both)
        return effective, own("momentum", log=True)
    always = [address for address in boxes if "." not in address] or list(boxes)
    return tuple(own(address) for address in always[:2])


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
