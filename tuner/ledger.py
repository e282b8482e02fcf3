"""The ledger: our own record of trials and measurements, in memory for the protocol and on disk for good.

The files are the only truth. A trial counts as finished when its row is on disk, and its row is written after its
measurements; so a kill at any moment leaves either a finished trial or one that is run again. A trial that is run
again makes the same curve, and the part of it that is already on disk is not written twice.
"""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, fields
from typing import Any

import pyarrow.compute as pc

from analysis.run_folder import RunFolder
from search_spaces.experiment import Experiment
from search_spaces.outcome import Outcome, Stage
from search_spaces.presets import derived
from search_spaces.tables import MEASUREMENTS, TRIALS
from tuner.protocol.proposal import Proposal, TrialRecord
from tuner.training.trial import Ending

# Measurements of running trials reach the disk at least this often; those of a finished trial at once.
_FLUSH_SECONDS = 1.0
# More parts than this are joined into one, so that a long run does not drown in small files.
_MANY_PARTS = 64


@dataclass
class Ledger:
    """What has been recorded.

    Attributes:
        folder: where it lies.
        metric: the target's metric, whose curves are kept in memory.
        records: finished trials by batch size.
    """

    folder: RunFolder
    metric: str
    records: dict[int, list[TrialRecord]] = field(default_factory=lambda: defaultdict(list))
    _curves: dict[str, list[tuple[int, float]]] = field(default_factory=lambda: defaultdict(list))
    _rows: list[dict[str, Any]] = field(default_factory=list)
    _number: int = 0
    _parts: int = 0
    _flushed: float = field(default_factory=time.monotonic)

    @classmethod
    def open(cls, folder: RunFolder, experiment: Experiment) -> Ledger:
        """Read what is there, to go on from it; nothing is written.

        Args:
            folder: the run folder.
            experiment: for the target's metric.

        Returns:
            The ledger with all finished trials.
        """
        ledger = cls(folder, experiment.target.metric)
        ledger._number = max(folder.next_number(TRIALS), folder.next_number(MEASUREMENTS))
        measurements = folder.read(MEASUREMENTS)
        if measurements.num_rows:
            table = measurements.select(["trial_id", "step", ledger.metric]).sort_by(
                [("trial_id", "ascending"), ("step", "ascending")]
            )
            columns = (table[name].to_pylist() for name in table.column_names)
            for trial_id, step, value in zip(*columns, strict=True):
                ledger._curves[trial_id].append((step, value))
        trials = folder.read(TRIALS)
        if trials.num_rows:
            trials = trials.take(pc.sort_indices(trials, sort_keys=[("ended_at", "ascending")]))
        for row in trials.to_pylist():
            ledger._remember(row)
        return ledger

    @property
    def n_finished(self) -> int:
        """Number of finished trials."""
        return sum(len(records) for records in self.records.values())

    @property
    def trial_ids(self) -> set[str]:
        """Names of the finished trials."""
        return {record.trial_id for records in self.records.values() for record in records}

    def last_step(self, trial_id: str) -> int:
        """The last step at which a trial was measured; 0 if it never was."""
        curve = self._curves.get(trial_id)
        return curve[-1][0] if curve else 0

    def measured(self, rows: Iterable[Mapping[str, Any]]) -> None:
        """Record measurements; those that the ledger has already are passed over (a trial that is run again)."""
        for row in rows:
            curve = self._curves[row["trial_id"]]
            if not curve or row["step"] > curve[-1][0]:
                curve.append((row["step"], row[self.metric]))
                self._rows.append(dict(row))
        if time.monotonic() - self._flushed >= _FLUSH_SECONDS:
            self.flush()

    def finished(self, row: Mapping[str, Any]) -> None:
        """Record that a trial ended: its measurements reach the disk, then its row."""
        self.flush()
        self.folder.append(TRIALS, [row], self._number)
        self._count_part()
        self._remember(row)

    def flush(self) -> None:
        """Write the measurements that are in memory only."""
        self._flushed = time.monotonic()
        if self._rows:
            self.folder.append(MEASUREMENTS, self._rows, self._number)
            self._rows = []
            self._count_part()

    def close(self) -> None:
        """Write everything and leave one file a table."""
        self.flush()
        for table in (TRIALS, MEASUREMENTS):
            self.folder.compact(table)

    def _count_part(self) -> None:
        self._number += 1
        self._parts += 1
        if self._parts >= _MANY_PARTS:
            self._parts = 0
            for table in (TRIALS, MEASUREMENTS):
                self.folder.compact(table)

    def _remember(self, row: Mapping[str, Any]) -> None:
        known = set(TRIALS.names)
        facts = {f.name: row.get(f.name) for f in fields(TrialRecord) if f.name in known}
        facts["stage"], facts["outcome"] = Stage(row["stage"]), Outcome(row["outcome"])
        point = {k: v for k, v in row.items() if k not in known | derived(row) and v is not None}
        curve = self._curves.get(row["trial_id"], [])
        self.records[row["batch_size"]].append(TrialRecord(**facts, point=point, curve=curve))  # type: ignore[arg-type]


def trial_row(proposal: Proposal, ending: Ending, host: str | None = None, node: str | None = None) -> dict[str, Any]:
    """A finished trial as a row of the trials table.

    Args:
        proposal: what was run.
        ending: how it ended.
        host: name of the machine where it ran, where that is known.
        node: Ray's id of it.

    Returns:
        The row.
    """
    crossing = ending.crossing
    return {
        "trial_id": proposal.trial_id,
        "batch_size": proposal.batch_size,
        "stage": proposal.stage.value,
        "number": proposal.number,
        "round": proposal.round,
        "repeats": proposal.repeats,
        "seed": proposal.seed,
        "outcome": ending.outcome.value,
        "message": ending.message,
        "max_steps": proposal.max_steps,
        "steps": ending.steps,
        "examples": ending.steps * proposal.batch_size,
        "steps_to_target": None if crossing is None else crossing.steps,
        "steps_to_target_low": None if crossing is None else crossing.steps_low,
        "best_value": ending.best_value,
        "train_seconds": ending.train_seconds,
        "evaluate_seconds": ending.evaluate_seconds,
        "probe_seconds": ending.probe_seconds,
        "gradients_per_example": ending.gradients_per_example,
        "micro_batch": ending.micro_batch,
        "started_at": ending.started_at,
        "ended_at": ending.ended_at,
        "host": host,
        "node": node,
        **proposal.hyperparameters,
    }
