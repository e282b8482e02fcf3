"""One pass over the measurements for everything that is asked of them, in memory that grows with trials, not with rows.

The measurements are read in chunks in which each trial's rows stand together in order of step. Readers keep what they
need of each trial between chunks, so that a trial may straddle them.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow as pa

from bcrit.analysis.records.run_folder import EXPERIMENT, RunFolder
from bcrit.search_spaces.problems import InputError
from bcrit.search_spaces.tables import MEASUREMENTS

Floats = npt.NDArray[np.float64]
Integers = npt.NDArray[np.int64]

_METRIC = 2  # its column in what is read, behind trial and step
_SORTED_AT_ONCE = 2_000  # trials whose rows are sorted in memory where they do not come in order of step; chosen


@dataclass(frozen=True)
class Chunk:
    """Evaluations, each trial's together and in rising order of step. All arrays but `starts` are (n_rows,).

    A row whose metric is an empty cell is no evaluation of it and is not here; a NaN that training reported is.
    """

    trial: Integers  # place of the trial in the trials table
    starts: Integers  # the first row of every trial in the chunk; (n_trials_here,)
    step: Integers  # optimizer updates made
    before: Integers  # step of the trial's evaluation before this one, in whichever chunk; 0 where there is none
    value: Floats  # the metric
    train_seconds: Floats | None  # time in updates by then; NaN where unknown. None where nobody asked for it.


class Reader(Protocol):
    """What is computed from the pass."""

    def take(self, chunk: Chunk) -> None:
        """Read on."""

    def forget(self, trials: Integers) -> None:
        """Go back to the beginning of these trials; (n,) places in the trials table."""


def read_measurements(
    folder: RunFolder, trial_ids: Sequence[str], metric: str, readers: Sequence[Reader], *, timed: bool = False
) -> None:
    """Show every measurement of these trials to the readers, once.

    The trials are the finished ones in the order of the trials table; rows of others, still in training, are passed
    over. A part that lacks the metric counts as not measured. Trials whose rows do not come in order of step are
    noticed, forgotten, and read again sorted. Two rows of one step, or a table that breaks its schema, are an
    InputError.
    """
    places = pd.Index(trial_ids)
    last = np.full(len(places), -1, dtype=np.int64)
    broken = np.zeros(len(places), dtype=bool)
    columns = ["trial_id", "step", metric, *(["train_seconds"] if timed else [])]
    for batch in folder.scan(MEASUREMENTS, columns):
        chunk = _chunk(_rows(batch, places), last, broken)
        if chunk is not None:
            for reader in readers:
                reader.take(chunk)
    if (last < 0).all() and len(places) and not folder.listed(MEASUREMENTS) and not folder.has_log():
        if folder.has(EXPERIMENT) and folder.read_experiment().imported is None:
            remedy = f"put them back, or `bcrit repair {folder}` and `bcrit resume {folder}` measure again"
            raise InputError(
                str(folder), [f"its trials have ended, but the files of 'measurements' are gone; {remedy}"]
            )
    again = np.flatnonzero(broken)
    for reader in readers if len(again) else ():
        reader.forget(again)
    for first in range(0, len(again), _SORTED_AT_ONCE):
        some = again[first : first + _SORTED_AT_ONCE]
        chunk = _sorted_chunk(folder, columns, places, some)
        if chunk is not None:
            for reader in readers:
                reader.take(chunk)


@dataclass(frozen=True)
class _Rows:
    """Rows as they were read; arrays are (n_rows,). `trial` is negative where nobody asked for the trial."""

    trial: Integers
    step: Integers
    columns: list[Floats]

    def take(self, which: npt.NDArray[Any]) -> _Rows:
        return _Rows(self.trial[which], self.step[which], [column[which] for column in self.columns])


def _rows(batch: pa.RecordBatch, places: pd.Index[str]) -> _Rows:
    if batch.column(_METRIC).null_count:
        batch = batch.filter(batch.column(_METRIC).is_valid())
    names = batch.column(0)
    of_name = places.get_indexer(names.dictionary.to_numpy(zero_copy_only=False)).astype(np.int64)
    step = batch.column(1).to_numpy(zero_copy_only=False)
    columns = [np.asarray(column.to_numpy(zero_copy_only=False), dtype=float) for column in batch.columns[2:]]
    return _Rows(of_name[names.indices.to_numpy(zero_copy_only=False)], step, columns)


def _chunk(rows: _Rows, last: Integers, broken: npt.NDArray[np.bool_]) -> Chunk | None:
    """Rows as a chunk, without those of trials that were found out of order; `last` and `broken` move on."""
    known = (rows.trial >= 0) & ~broken[rows.trial]
    rows = rows if known.all() else rows.take(known)
    if not len(rows.trial):
        return None
    starts = _starts(rows.trial)
    if len(np.unique(rows.trial[starts])) < len(starts):  # trials interleave; a stable sort keeps the order within each
        rows = rows.take(np.argsort(rows.trial, kind="stable"))
        starts = _starts(rows.trial)
    before = np.empty_like(rows.step)
    before[1:] = rows.step[:-1]
    before[starts] = last[rows.trial[starts]]
    falling = rows.step <= before
    if falling.any():
        broken[rows.trial[falling]] = True
        kept = ~broken[rows.trial]
        rows, before = rows.take(kept), before[kept]
        if not len(rows.trial):
            return None
        starts = _starts(rows.trial)
    ends = np.append(starts[1:], len(rows.trial)) - 1
    last[rows.trial[ends]] = rows.step[ends]
    seconds = rows.columns[1] if len(rows.columns) > 1 else None
    return Chunk(rows.trial, starts, rows.step, np.maximum(before, 0), rows.columns[0], seconds)


def _sorted_chunk(folder: RunFolder, columns: Sequence[str], places: pd.Index[str], trials: Integers) -> Chunk | None:
    """All rows of some trials, sorted in memory."""
    parts = [_rows(batch, places) for batch in folder.scan(MEASUREMENTS, columns, set(places[trials]))]
    together = zip(*(part.columns for part in parts), strict=True)
    rows = _Rows(
        np.concatenate([part.trial for part in parts]),
        np.concatenate([part.step for part in parts]),
        [np.concatenate(column) for column in together],
    )
    doubled = np.zeros(len(places), dtype=bool)
    chunk = _chunk(rows.take(np.lexsort((rows.step, rows.trial))), np.full(len(places), -1, dtype=np.int64), doubled)
    if doubled.any():
        rule = f"rows of '{MEASUREMENTS.name}' must differ in {', '.join(MEASUREMENTS.key)}"
        some = f"those of {int(doubled.sum())} trials do not, such as {places[doubled][0]}"
        raise InputError(str(folder), [f"{rule}, but {some}; `bcrit repair {folder}` sets aside what is doubled"])
    return chunk


def _starts(trial: Integers) -> Integers:
    return np.concatenate([[0], np.flatnonzero(trial[1:] != trial[:-1]) + 1])


def curves(folder: RunFolder, trial_ids: Sequence[str], metric: str) -> Iterator[tuple[str, Integers, Floats]]:
    """The whole learning curves of a few trials: (trial, steps, values), only of trials that have any.

    Steps rise after step 0, without evaluations that lack the metric.
    """
    wanted = set(trial_ids)
    batches = list(folder.scan(MEASUREMENTS, ["trial_id", "step", metric], wanted)) if wanted else []
    if not batches:
        return
    frame = pa.Table.from_batches(batches).unify_dictionaries().to_pandas()
    frame = frame[(frame["step"] > 0) & frame[metric].notna()].sort_values(["step"], kind="stable")
    for trial_id, rows in frame.groupby("trial_id", observed=True, sort=True):
        yield str(trial_id), rows["step"].to_numpy(dtype=np.int64), rows[metric].to_numpy(dtype=float)
