"""The ledger: our own record of trials and measurements, in memory for the protocol and on disk for good.

A row counts when it is in the log on this machine's disk (`bcrit.analysis.records.parted_tables`), and a trial's row
follows its measurements; so a kill at any moment leaves a finished trial or one that is run again. A trial that is run
again makes the same curve, and the part of it that is recorded already is not written twice. From the log the rows go
to the run folder in the background (`bcrit.tuner.uploader`).
"""

from __future__ import annotations

import math
from array import array
from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields
from typing import Any, overload

import pyarrow as pa
import pyarrow.compute as pc

from bcrit.analysis.records.arrow_tables import to_arrow
from bcrit.analysis.records.repair import ENDS_MEASURED
from bcrit.analysis.records.run_folder import RunFolder
from bcrit.analysis.studies.boundary import study_state
from bcrit.analysis.studies.state import Progress, how_far
from bcrit.search_spaces.experiment import Experiment
from bcrit.search_spaces.outcome import STUDY, Outcome, Stage
from bcrit.search_spaces.presets import derived
from bcrit.search_spaces.problems import InputError
from bcrit.search_spaces.tables import MEASUREMENTS, TRIALS
from bcrit.tuner.protocol.proposal import Proposal, TrialRecord
from bcrit.tuner.training.trial import Ending
from bcrit.tuner.uploader import DELIVERY_PATIENCE, Fence, Uploader

_KNOWN = set(TRIALS.known)
_MEASURED = [column.name for column in TRIALS.optional]
_FACTS = [f.name for f in fields(TrialRecord) if f.name in _KNOWN]


class Curve(Sequence[tuple[int, float]]):
    """The (step, metric) pairs of a trial in order of step, at 16 bytes a pair where tuples in a list take 110."""

    __slots__ = ("steps", "values")

    def __init__(self) -> None:
        self.steps, self.values = array("q"), array("d")

    def add(self, step: int, value: float | None) -> None:
        """Go on to a later step; NaN where the metric was not measured."""
        self.steps.append(step)
        self.values.append(math.nan if value is None else value)

    @overload
    def __getitem__(self, place: int) -> tuple[int, float]: ...
    @overload
    def __getitem__(self, place: slice) -> list[tuple[int, float]]: ...
    def __getitem__(self, place: int | slice) -> tuple[int, float] | list[tuple[int, float]]:
        if isinstance(place, slice):
            return list(zip(self.steps[place], self.values[place], strict=True))
        return self.steps[place], self.values[place]

    def __iter__(self) -> Iterator[tuple[int, float]]:
        return zip(self.steps, self.values, strict=True)

    def __len__(self) -> int:
        return len(self.steps)


@dataclass
class Ledger:
    """What has been recorded."""

    folder: RunFolder  # where it lies
    metric: str  # the target's metric, whose curves are kept in memory
    # Says whether this process may write to the run; None where nobody else can be at work in it.
    fence: Fence | None = None
    stages: Collection[Stage] = STUDY  # whose trials are kept in memory
    # Finished trials by batch size.
    records: dict[int, list[TrialRecord]] = field(default_factory=lambda: defaultdict(list))
    _curves: dict[str, Curve] = field(default_factory=lambda: defaultdict(Curve))
    _uploader: Uploader | None = None

    @classmethod
    def open(
        cls, folder: RunFolder, experiment: Experiment, fence: Fence | None = None, stages: Collection[Stage] = STUDY
    ) -> Ledger:
        """Read what is there, to go on from it, with what a session before this one left in the log of this machine.

        Nothing is written.
        """
        ledger = cls(folder, experiment.target.metric, fence, stages)
        trials, measurements = folder.read(TRIALS), folder.read(MEASUREMENTS)
        ours = pc.is_in(trials["stage"], pa.array([stage.value for stage in stages]))
        if measurements.num_rows:
            if ledger.metric not in measurements.column_names:
                problem = f"the files of 'measurements' have no column '{ledger.metric}', which the target is of"
                raise InputError(str(folder), [f"{problem}; put them back as they were"])
            others = trials.filter(pc.invert(ours))["trial_id"]
            if len(others):
                measurements = measurements.filter(
                    pc.invert(pc.is_in(measurements["trial_id"], others.combine_chunks()))
                )
            table = measurements.select(["trial_id", "step", ledger.metric]).sort_by(
                [("trial_id", "ascending"), ("step", "ascending")]
            )
            columns = (table[name].to_pylist() for name in table.column_names)
            for trial_id, step, value in zip(*columns, strict=True):
                ledger._curves[trial_id].add(step, value)
        if trials.num_rows:
            trials = trials.filter(ours)
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

    def check_whole(self) -> None:
        """Refuse finished trials without the evaluations that their rows name, by the rule of `repair`."""
        torn = [of for records in self.records.values() for of in records if _is_torn(of, self._curves[of.trial_id])]
        if torn:
            what = f"{len(torn)} finished trials lack evaluations, such as {torn[0].trial_id}"
            remedy = (
                f"put the lost file of 'measurements' back, or `bcrit repair {self.folder}` sets these trials aside"
            )
            raise InputError(str(self.folder), [f"{what}; {remedy} and `bcrit resume` runs them again"])

    def so_far(self, experiment: Experiment) -> Progress:
        """How far the studies are, as `bcrit status` reads it from the tables."""
        finished = [record for size in experiment.batch_sizes for record in self.records.get(size, ())]
        search = {size: list[TrialRecord]() for size in experiment.batch_sizes}
        for record in finished:
            if record.stage is Stage.SEARCH:
                search[record.batch_size].append(record)
        states = {size: study_state(experiment, size, own) for size, own in search.items()}
        rows = (
            (of.batch_size, of.stage, of.steps_to_target, str(sorted(of.point.items())), of.ended_at - of.started_at)
            for of in finished
        )
        return how_far(experiment, states, rows)

    def last_step(self, trial_id: str) -> int:
        """The last step at which a trial was measured; 0 if it never was."""
        curve = self._curves.get(trial_id)
        return curve.steps[-1] if curve else 0

    def measured(self, rows: Iterable[Mapping[str, Any]]) -> None:
        """Record measurements; those that the ledger has already are passed over (a trial that is run again)."""
        new = []
        for row in rows:
            curve = self._curves[row["trial_id"]]
            if not curve.steps or row["step"] > curve.steps[-1]:
                curve.add(row["step"], row[self.metric])
                new.append(row)
        if new:
            self._recorder().add(MEASUREMENTS, to_arrow(MEASUREMENTS, new))

    def finished(self, row: Mapping[str, Any]) -> None:
        """Record that a trial ended, after all its measurements."""
        self._recorder().add(TRIALS, to_arrow(TRIALS, [row]))
        self._remember(row)

    def keep(self, path: str, content: bytes) -> None:
        """Keep a file of a trial, before its row is recorded."""
        self.folder.write_bytes(path, content, DELIVERY_PATIENCE)

    def flush(self) -> None:
        """Wait until all that is recorded has come to the run folder."""
        if self._uploader is not None:
            self._uploader.flush()

    def close(self) -> None:
        """Bring everything to the run folder, what a session before this one left too, one file a table."""
        if self._uploader is not None or self.folder.has_log():
            recorder = self._recorder()
            self._uploader = None
            recorder.close()

    def _recorder(self) -> Uploader:
        if self._uploader is None:
            self._uploader = Uploader(self.folder, self.fence)
        return self._uploader

    def _remember(self, row: Mapping[str, Any]) -> None:
        self.records[row["batch_size"]].append(record_of(row, self._curves.get(row["trial_id"], ())))


def record_of(row: Mapping[str, Any], curve: Sequence[tuple[int, float]]) -> TrialRecord:
    """A row of the trials table as the protocol reads it."""
    facts = {name: row.get(name) for name in _FACTS}
    facts["stage"], facts["outcome"] = Stage(row["stage"]), Outcome(row["outcome"])
    others = _KNOWN | derived(row)
    point = {name: value for name, value in row.items() if name not in others and value is not None}
    return TrialRecord(**facts, point=point, curve=curve)  # type: ignore[arg-type]


def _is_torn(record: TrialRecord, curve: Curve) -> bool:
    named = [record.steps_to_target, record.steps if record.outcome in ENDS_MEASURED else None]
    return any(step is not None and step > 0 and step not in curve.steps for step in named)


def trial_row(proposal: Proposal, ending: Ending, host: str | None = None, node: str | None = None) -> dict[str, Any]:
    """A finished trial as a row of the trials table, with the machine where it ran and Ray's id of it where known."""
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
        "examples": ending.steps * proposal.batch_size if ending.examples is None else ending.examples,
        "steps_to_target": None if crossing is None else crossing.steps,
        "steps_to_target_low": None if crossing is None else crossing.steps_low,
        "best_value": ending.best_value,
        "train_seconds": ending.train_seconds,
        "evaluate_seconds": ending.evaluate_seconds,
        "probe_seconds": ending.probe_seconds,
        "gradients_per_example": ending.gradients_per_example,
        "micro_batch": ending.micro_batch,
        "memory": ending.memory,
        "started_at": ending.started_at,
        "ended_at": ending.ended_at,
        "host": host,
        "node": node,
        **proposal.hyperparameters,
        **{name: seconds for name in _MEASURED if (seconds := getattr(ending, name)) is not None},
    }
