"""What every importer returns: a run that was made elsewhere, in our words, with nothing dropped in silence."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import pyarrow as pa

from bcrit.search_spaces.experiment import Experiment


@dataclass
class Notes:
    """What was assumed or left out, with counts. Grows while the source is read."""

    counts: dict[str, int | None] = field(default_factory=dict)
    examples: dict[str, str] = field(default_factory=dict)

    def add(self, what: str, count: int | None = None, example: str | None = None) -> None:
        """Note something; counts of the same thing add up, and the first example of it is kept.

        Args:
            what: a sentence without its full stop.
            count: how many rows, trials or files it is about; None where counting makes no sense.
            example: the first of them.
        """
        if count == 0:
            return
        before = self.counts.get(what)
        self.counts[what] = before if count is None else (before or 0) + count
        if example is not None:
            self.examples.setdefault(what, example)

    def sentences(self) -> list[str]:
        """One sentence a note."""
        found = []
        for what, count in self.counts.items():
            example = self.examples.get(what)
            facts = [] if count is None else [f"{count:,}"]
            facts += [] if example is None else [example if count in (None, 1) else f"the first: {example}"]
            found.append(f"{what} ({'; '.join(facts)})" if facts else what)
        return found


@dataclass(frozen=True)
class ImportedRun:
    """A run from elsewhere, ready to be written as a run folder.

    Attributes:
        format: what was read, such as `batch_science`.
        source: its place, as the user named it.
        experiment: what was searched, with `imported` set.
        trials: asked for after the last measurements, because reading those may change what is known of a trial.
            Columns of `TRIALS`, then hyperparameters. A row may leave empty what follows from its curve: `outcome`
            (reached or exhausted, as the curve says), `steps`, `examples`, `max_steps`, `steps_to_target`,
            `best_value`.
        measurements: tables with the columns `trial_id`, `step`, `examples`, `train_seconds` and the metrics. Each
            holds whole trials; order and repeated steps are put right by `write_run`. Those of a recorded run hold any
            rows, each once, and stay as they are.
        notes: what was assumed or left out.
        recorded: the trials are complete as they are (a run of ours that comes back); nothing is read off the curves.
        sessions: what the source says of the sessions that made it, for `environment.json`.
    """

    format: str
    source: str
    experiment: Experiment
    trials: Callable[[], pa.Table]
    measurements: Iterable[pa.Table]
    notes: Notes
    recorded: bool = False
    sessions: Sequence[Mapping[str, Any]] = ()


def imported_trial(trial_id: str, batch_size: int, number: int, **known: Any) -> dict[str, Any]:
    """A row of the trials table in which everything that a source may lack has its neutral value.

    Args:
        trial_id: unique in the run.
        batch_size: the study.
        number: place among the trials of its study and stage, from 0; equal steps-to-target go to the smaller one.
        **known: further columns and hyperparameters, which replace the neutral values.

    Returns:
        The row: stage `search`, round 0, seed 0, no seconds, and the rest empty.
    """
    return {
        "trial_id": trial_id,
        "batch_size": batch_size,
        "stage": "search",
        "number": number,
        "round": 0,
        "repeats": None,
        "seed": 0,
        "outcome": None,
        "message": None,
        "max_steps": None,
        "steps": None,
        "examples": None,
        "steps_to_target": None,
        "steps_to_target_low": None,
        "best_value": None,
        "train_seconds": 0.0,
        "evaluate_seconds": 0.0,
        "started_at": 0.0,
        "ended_at": 0.0,
        **known,
    }


__all__ = ["ImportedRun", "Notes", "imported_trial"]
