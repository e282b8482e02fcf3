"""The tables of the report, as text: studies, outcomes, edges, choices, the frontier, the environment."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

import pandas as pd

from bcrit.analysis.report.answer import Table, table_of
from bcrit.analysis.run import Run
from bcrit.analysis.studies.steps_to_target import outcome_counts
from bcrit.analysis.wording import interval_text, value_text
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
