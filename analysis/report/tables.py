"""The tables of the report, as text: studies, outcomes, edges, choices, the frontier, the environment."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

import pandas as pd

from bcrit.analysis.recommendation.frontier import FrontierPoint
from bcrit.analysis.recommendation.hardware import title
from bcrit.analysis.recommendation.recommend import Recommendation
from bcrit.analysis.report.answer import Table, table_of
from bcrit.analysis.report.choice_traces import choices_by_place
from bcrit.analysis.report.frontier_plot import time_unit
from bcrit.analysis.run import Run
from bcrit.analysis.studies.steps_to_target import outcome_counts
from bcrit.analysis.wording import interval_text, readable, value_text
from bcrit.search_spaces.outcome import Outcome
from bcrit.search_spaces.tables import STEPS_TO_TARGET

EDGES: Final = {
    "box": "The box may bind: a better point may lie outside.",
    "wall": "Beyond it nearly every trial diverged: nothing better lies there.",
    "limit": "The end of what the hyperparameter can be: nothing lies beyond.",
    "flat": "Trials spread over the whole axis do as well: its value hardly matters.",
}
"""What each kind of edge means."""


def study_table(analysis: Run) -> Table:
    """One row a batch size: its number, its spread and where it came from."""
    unit = analysis.experiment.unit
    rows = []
    for row in analysis.studies.to_dict("records"):
        reached = pd.notna(row["steps"])
        steps = interval_text(row["steps"], row["steps_low"], row["steps_high"]) if reached else None
        rows.append(
            {
                "batch size": row["batch_size"],
                "steps to target": steps or f"more than {value_text(row['max_steps'])}",
                f"{unit} to target": row["examples"],
                "seeds reached": f"{row['n_reached']} of {row['n_seeds']}",
                "source": row["source"],
                "search trials": row["n_trials"],
                "best in search": row["search_steps"],
                "ms a step": 1000 * row["step_seconds"],
            }
        )
    return table_of(rows)


def point_table(analysis: Run) -> Table:
    """The best hyperparameters of each study that has any."""
    names = [name for name in analysis.studies.columns if name not in STEPS_TO_TARGET.names]
    rows = analysis.studies[analysis.studies["best_trial"].notna()].to_dict("records")
    return table_of([{"batch size": row["batch_size"], **{name: row[name] for name in names}} for row in rows])


def outcome_table(analysis: Run) -> Table:
    """How the search trials of each study ended; outcomes that never occur are left out."""
    counts = {b: outcome_counts(analysis.trials, int(b)) for b in analysis.studies["batch_size"]}
    occurring = [o.value for o in Outcome if any(count[o.value] for count in counts.values())]
    return table_of([{"batch size": b, **{o: count[o] for o in occurring}} for b, count in counts.items()])


def boundary_table(analysis: Run) -> Table:
    """Every edge that an optimum touched, in every round."""
    rows = [
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
        for edge in analysis.boundary.to_dict("records")
    ]
    return table_of(rows)


def choice_table(recommendation: Recommendation, unit: str) -> Table:
    """The choices with what they take; those that agree share a row."""
    places = choices_by_place(recommendation).items()
    return table_of([{"choice": ", ".join(names), **_taken(point, unit, recommendation)} for point, names in places])


def advice_table(recommendation: Recommendation) -> Table:
    """The hyperparameters to train with at each choice, and where they come from."""
    agreeing = choices_by_place(recommendation).values()
    known = recommendation.hyperparameters
    advised = {", ".join(names): known[names[0]] for names in agreeing if names[0] in known}
    names = list(dict.fromkeys(name for at in advised.values() for name in at.values))
    return table_of(
        [
            {
                "choice": choice,
                "batch size": at.batch_size,
                **{name: at.values.get(name) for name in names},
                "where from": f"{at.source} (batch size {', '.join(value_text(size) for size in at.studies)})",
            }
            for choice, at in advised.items()
        ]
    )


def frontier_table(recommendation: Recommendation, unit: str) -> Table:
    """What a training takes at each batch size."""
    return table_of([_taken(point, unit, recommendation) for point in recommendation.frontier])


def _taken(point: FrontierPoint, unit: str, recommendation: Recommendation) -> dict[str, Any]:
    row: dict[str, Any] = {"batch size": point.batch_size}
    if recommendation.several:
        row["on"] = point.hardware
    row |= {"steps": interval_text(point.steps, point.steps_low, point.steps_high), unit: point.examples}
    row["sample efficiency"] = _percent(point.efficiency, point.efficiency_low, point.efficiency_high)
    if point.hours is not None:
        time, factor = time_unit(recommendation)
        low, high = (end and end * factor for end in (point.hours_low, point.hours_high))
        row |= {time: interval_text(point.hours * factor, low, high)}
        row |= {f"cost ({recommendation.cost_unit})": point.cost}
        row["step time"] = point.step_time_source
    return {**row, "steps measured": "yes" if point.measured else "no"}


def _percent(value: float | None, low: float | None, high: float | None) -> str | None:
    if value is None or low is None or high is None:
        return None
    return f"{readable(100 * value)} % ({readable(100 * low)} to {readable(100 * high)})"


def limit_table(recommendation: Recommendation) -> Table:
    """The limits that have to give, and where what is needed would do."""
    return table_of(
        [
            {
                "limit": missed.limit,
                "given": missed.given,
                "needed": missed.needed,
                "to be safe": missed.needed_high,
                "batch size": missed.batch_size,
                **({"on": title(missed.device, missed.devices)} if recommendation.several else {}),
            }
            for missed in recommendation.infeasible
        ]
    )


def price_table(recommendation: Recommendation) -> Table:
    """At which price another kind of device would be the choice."""
    return table_of(
        [
            {
                "device": entry.device,
                "price now": entry.price_per_device_hour,
                "chosen below": entry.chosen_below if entry.chosen_below is not None else "at no price",
                "devices": entry.devices,
                "batch size": entry.batch_size,
            }
            for entry in recommendation.break_even
        ]
    )


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


__all__ = [
    "advice_table",
    "point_table",
    "EDGES",
    "boundary_table",
    "choice_table",
    "environment_table",
    "frontier_table",
    "limit_table",
    "outcome_table",
    "price_table",
    "study_table",
]
