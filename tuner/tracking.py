"""Trackers that follow a run: Optuna's dashboard, TensorBoard, MLflow, Weights & Biases, trackio; off by default.

They are fed from the ledger, by a thread of its own: the search waits for none of them, and one that fails is said and
left out for the rest of the session, never the run. What a tracker lacks when a session begins, because the one before
was killed or the tracker failed, it is given then; what it has it is not given again. So after a resume nothing is
missing and nothing is doubled.

Each keeps its own files in `RUN/tracking/NAME`; of a run on an object store they lie in the user's cache, since their
formats want a disk.
"""

from __future__ import annotations

import hashlib
import threading
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from queue import SimpleQueue
from types import TracebackType
from typing import Any, Self

from bcrit.analysis.records.run_folder import RunFolder
from bcrit.analysis.records.storage import user_cache
from bcrit.search_spaces.experiment import Experiment
from bcrit.search_spaces.outcome import Outcome
from bcrit.search_spaces.tables import MEASUREMENTS, TRIALS
from bcrit.tuner.dispatch import Row
from bcrit.tuner.protocol.proposal import Proposal
from bcrit.tuner.trackers import TRACKERS, Followed, Tracker

_Recorded = tuple[Followed, Sequence[Row], Mapping[str, Any] | None]
"""A trial, its new measurements, and its row where it has ended."""


class Tracking:
    """Feeds the trackers of an experiment during a session, as a context around it."""

    def __init__(self, experiment: Experiment, folder: RunFolder, note: Callable[[str], None]) -> None:
        """Nothing is written before `with`; `note` tells the user."""
        self._experiment, self._folder, self._note = experiment, folder, note
        self._names: Sequence[str] = experiment.tracking or ()
        self._queue = SimpleQueue[_Recorded | None]()
        self._thread = threading.Thread(target=self._run, name="bcrit-tracking", daemon=True)
        self._open: dict[str, Tracker] = {}
        self._last: dict[str, dict[str, int]] = defaultdict(dict)  # by tracker and trial, the step that it has
        self._known: dict[str, set[str]] = {}
        self._partial: dict[str, list[Row]] = {}  # measurements of trials that an earlier session began

    def __enter__(self) -> Self:
        """Begin to feed; what trackers lack comes first."""
        if self._names:
            self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Wait until all has been taken."""
        self._queue.put(None)
        if self._names:
            self._thread.join()

    def __call__(self, proposal: Proposal, rows: Sequence[Row], ended: Mapping[str, Any] | None) -> None:
        """Take what was just recorded of a trial: measurements, and its row where it has ended."""
        facts = {"stage": proposal.stage.value, "seed": proposal.seed, "number": proposal.number}
        trial = Followed(proposal.trial_id, proposal.batch_size, facts, proposal.hyperparameters)
        if self._names and trial.batch_size in self._experiment.batch_sizes:
            self._queue.put((trial, rows, ended))

    def _run(self) -> None:
        for name in self._names:
            place = self._place(name)
            place.mkdir(parents=True, exist_ok=True)
            self._safely(name, partial(self._begin, name, place))
        if self._open:
            self._safely(None, self._catch_up)
        going = True
        while going:
            told = [self._queue.get()]
            while not self._queue.empty():  # what waits of one trial is given at once
                told.append(self._queue.get())
            going = None not in told
            waiting: dict[str, _Recorded] = {}
            for trial, rows, ended in filter(None, told):
                _, before, _ = waiting.get(trial.name, (trial, (), None))
                waiting[trial.name] = (trial, [*before, *rows], ended)
            for recorded in waiting.values():
                for name in list(self._open):
                    self._safely(name, partial(self._feed, name, *recorded))
        for name in list(self._open):
            self._safely(name, self._open[name].close)

    def _begin(self, name: str, place: Path) -> None:
        self._open[name] = TRACKERS[name][1](self._experiment, place)
        self._known[name] = set(self._open[name].known())

    def _place(self, name: str) -> Path:
        if self._folder.is_local:
            return Path(self._folder.path("tracking"), name)
        return user_cache() / "tracking" / hashlib.sha256(str(self._folder).encode()).hexdigest()[:16] / name

    def _catch_up(self) -> None:
        """Give the trackers what earlier sessions recorded and they lack."""
        trials = {row["trial_id"]: row for row in self._folder.read(TRIALS).to_pylist()}
        lacked = {trial for trial in trials if any(trial not in known for known in self._known.values())}
        begun = {
            trial for ids in self._folder.scan(MEASUREMENTS, ["trial_id"]) for trial in ids[0].unique().to_pylist()
        }
        wanted = lacked | (begun - trials.keys())
        names = self._folder.column_names(MEASUREMENTS) if wanted else []
        rows = defaultdict[str, list[Row]](list)
        for batch in self._folder.scan(MEASUREMENTS, names, wanted) if wanted else ():
            for row in batch.to_pylist():
                rows[row["trial_id"]].append({key: value for key, value in row.items() if value is not None})
        self._partial = {trial: of for trial, of in rows.items() if trial not in trials}
        for trial in sorted(lacked, key=lambda trial: trials[trial]["ended_at"]):
            row = trials[trial]
            if row["batch_size"] in self._experiment.batch_sizes:
                facts = {name: row[name] for name in ("stage", "seed", "number")}
                point = {name: row[name] for name in TRIALS.beside(row) if row[name] is not None}
                followed = Followed(trial, row["batch_size"], facts, point)
                for name in list(self._open):
                    self._safely(name, partial(self._feed, name, followed, rows[trial], row))

    def _feed(self, name: str, trial: Followed, rows: Sequence[Row], ended: Mapping[str, Any] | None) -> None:
        if trial.name in self._known[name]:
            return
        tracker, last = self._open[name], self._last[name]
        if trial.name not in last:
            last[trial.name] = tracker.begin(trial)
            rows = [*self._partial.get(trial.name, ()), *rows]
        new = []
        for row in rows:
            if row["step"] > last[trial.name]:
                last[trial.name] = row["step"]
                new.append((row["step"], _metrics(row)))
        if new:
            tracker.measured(trial, new)
        if ended is not None:
            tracker.ended(trial, Outcome(ended["outcome"]), ended["steps_to_target"])
            self._known[name].add(trial.name)
            del last[trial.name]

    def _safely(self, name: str | None, action: Callable[[], None]) -> None:
        """A tracker's own trouble, or with None that of all, is said, and is no outcome of the run."""
        try:
            action()
        except Exception as error:
            gone = list(self._open) if name is None else [name]
            for each in gone:
                self._open.pop(each, None)
            self._note(
                f"{', '.join(gone)} is not fed any more in this session: {type(error).__name__}: {error}; "
                "the run goes on, and `bcrit resume` brings there what is missing"
            )


def _metrics(row: Row) -> dict[str, float]:
    return {name: float(value) for name, value in row.items() if name not in ("trial_id", "step") and value is not None}
