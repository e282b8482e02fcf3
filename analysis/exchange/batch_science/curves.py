"""The measurements of all trials of a workload, read by threads some hundred files at a time."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from bcrit.analysis.exchange.batch_science.csv_curves import STEP, Found, read_curves
from bcrit.analysis.exchange.batch_science.tree import MEASUREMENTS_CSV
from bcrit.analysis.exchange.batch_science.trials import TrialFile
from bcrit.analysis.exchange.imported_run import Notes
from bcrit.analysis.exchange.names import metric_names
from bcrit.search_spaces.outcome import Outcome

# Files that are parsed as one: at the archive's 426 rows a trial about 10 MB, enough that the cost of a call does not
# count and little enough that some of them fit into memory at once. Chosen; from 64 to 1024 it makes no difference.
_FILES = 256
EXAMPLES = "bcrit/examples"
SECONDS = "bcrit/train_seconds"
"""Columns that an export of ours adds to `measurements.csv`."""


class TrialCurves:
    """Iterates over tables of measurements; afterwards `finish` says in the trials' rows what could not be read."""

    def __init__(self, trials: Sequence[TrialFile], types: Mapping[str, pa.DataType], notes: Notes) -> None:
        """Prepare; nothing is read before the first table is asked for.

        Args:
            trials: whose measurements.
            types: of metrics that are not floats.
            notes: receives what was passed over.
        """
        self._trials, self._types, self._notes = trials, types, notes
        self._unreadable: dict[str, str] = {}

    def __iter__(self) -> Iterator[pa.Table]:
        """Read, a few chunks ahead of what is asked for.

        Yields:
            Measurements of whole trials.
        """
        chunks = deque(self._trials[start : start + _FILES] for start in range(0, len(self._trials), _FILES))
        workers = os.cpu_count() or 1
        with ThreadPoolExecutor(workers) as pool:
            running: deque[tuple[Sequence[TrialFile], Future[Found]]] = deque()
            while chunks or running:
                while chunks and len(running) <= workers:
                    chunk = chunks.popleft()
                    paths = [f"{trial.path}/{MEASUREMENTS_CSV}" for trial in chunk]
                    running.append((chunk, pool.submit(read_curves, paths, self._types)))
                trials, found = running.popleft()
                yield from self._tables(trials, found.result())

    def _tables(self, trials: Sequence[TrialFile], found: Found) -> Iterator[pa.Table]:
        for index, why in found.unreadable.items():
            self._unreadable[trials[index].row["trial_id"]] = f"{MEASUREMENTS_CSV} {why}"
        for index, flaws in found.flaws.items():
            for flaw, count in flaws.items():
                self._notes.add(f"{MEASUREMENTS_CSV}: {flaw}, left out", count, trials[index].row["trial_id"])
        ids = pa.array([trial.row["trial_id"] for trial in trials])
        sizes = np.array([trial.row["batch_size"] for trial in trials])
        for data, owner in found.tables:
            step = data[STEP].to_numpy()
            columns = {
                "trial_id": pa.DictionaryArray.from_arrays(pa.array(owner.astype(np.int32)), ids),
                "step": data[STEP],
                "examples": pa.array(step * sizes[owner]),
                "train_seconds": pa.array(np.zeros(len(step))),
            }
            if EXAMPLES in data.column_names:
                columns["examples"] = pc.cast(data[EXAMPLES], pa.int64())
            if SECONDS in data.column_names:
                columns["train_seconds"] = data[SECONDS]
            metrics = [name for name in data.column_names if name not in (STEP, EXAMPLES, SECONDS)]
            yield pa.table(columns | {here: data[there] for there, here in metric_names(metrics).items()})

    def finish(self, trials: pa.Table) -> pa.Table:
        """Mark the trials without measurements: what completed but was never measured cannot count.

        Args:
            trials: rows of the trials table, in any order.

        Returns:
            The table with their outcome and message.
        """
        if not self._unreadable:
            return trials
        rows = zip(*(trials[name].to_pylist() for name in ("trial_id", "outcome", "message")), strict=True)
        outcomes, messages = [], []
        for trial_id, outcome, message in rows:
            why = self._unreadable.get(trial_id)
            if why is not None and outcome is None:
                self._notes.add("Completed trials without measurements stand as failed", 1, f"{trial_id}: {why}")
                outcome, message = Outcome.FAILED.value, f"COMPLETE in the source, but {why}."
            elif why is not None:
                self._notes.add("Trials that did not complete and have no measurements", 1, f"{trial_id}: {why}")
            outcomes.append(outcome)
            messages.append(message)
        for name, values in (("outcome", outcomes), ("message", messages)):
            place = trials.column_names.index(name)
            trials = trials.set_column(place, trials.schema.field(name), pa.array(values, pa.string()))
        return trials


__all__ = ["EXAMPLES", "SECONDS", "TrialCurves"]
