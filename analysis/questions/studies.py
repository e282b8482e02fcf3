"""What came out of every study: its number, its best point, how its trials ended, and where its box may bind."""

from __future__ import annotations

from typing import Final

import pandas as pd

from bcrit.analysis.report.answer import Answer, Part, Rows, Text, Words, table_of
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


def ask(run: Run) -> Answer:
    """Tables of every study, and every edge that an optimum touched, in every round."""
    unit, names = run.experiment.unit, [name for name in run.studies.columns if name not in STEPS_TO_TARGET.names]
    results = []
    for row in run.studies.to_dict("records"):
        steps = f"more than {value_text(row['max_steps'])}"
        if pd.notna(row["steps"]):
            steps = interval_text(row["steps"], row["steps_low"], row["steps_high"])
        results.append(
            {
                "batch size": row["batch_size"],
                "steps to target": steps,
                f"{unit} to target": row["examples"],
                "seeds reached": f"{row['n_reached']} of {row['n_seeds']}",
                "source": row["source"],
                "search trials": row["n_trials"],
                "best in search": row["search_steps"],
                "ms a step": 1000 * row["step_seconds"],
            }
        )
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
