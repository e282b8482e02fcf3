"""What the curves of many trials say at once: put in order, without repeated steps, first crossings, best values."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from bcrit.analysis.records.one_pass import Chunk
from bcrit.analysis.targets.crossings import Crossings
from bcrit.search_spaces.target import Direction, Target

Floats = np.ndarray[tuple[int], np.dtype[np.float64]]
Ints = np.ndarray[tuple[int], np.dtype[np.int64]]
Flags = np.ndarray[tuple[int], np.dtype[np.bool_]]


@dataclass(frozen=True)
class Curves:
    """Measurements of whole trials, one trial after the other, in order of step.

    Attributes:
        data: the rows.
        trial_ids: the trials in order of appearance.
        starts: index of each trial's first row.
        repeated: rows left out because their trial was measured at that step before.
    """

    data: pa.Table
    trial_ids: list[str]
    starts: Ints
    repeated: int


@dataclass(frozen=True)
class Summary:
    """One entry a trial, in arrays of equal length.

    Attributes:
        trial_ids: the trials.
        last_step: the last step at which it was measured.
        steps: first step after 0 whose value is strictly better than the threshold; 0 where there is none.
        steps_low: the evaluation before that, 0 where there is none.
        best: best finite value of the metric after step 0; NaN where there is none.
        broken: whether the last value of the metric is NaN or infinite; an empty cell is no value.
        beyond_at_start: trials whose value at step 0 is better than the threshold already.
    """

    trial_ids: list[str]
    last_step: Ints
    steps: Ints
    steps_low: Ints
    best: Floats
    broken: Flags
    beyond_at_start: int


def in_order(data: pa.Table, target: Target) -> Curves:
    """Put the rows of every trial together and in order of step, one row a step.

    Of rows with the same trial and step the one with the best value of the target's metric stays, the first of equal
    ones: it alone decides whether the threshold was crossed there, in the published rule too (Shallue et al. 2018 take
    the first row, in order of step, that is strictly better). A row with a value, be it NaN, goes before one without.

    Args:
        data: measurements of whole trials.
        target: its metric decides between rows of the same step; it need not be among the columns.

    Returns:
        The curves; rows that are in order already are not copied.
    """
    ids = data["trial_id"].combine_chunks()
    if not pa.types.is_dictionary(ids.type):
        ids = pc.dictionary_encode(ids)
    code = ids.indices.to_numpy(zero_copy_only=False)
    step = data["step"].to_numpy()
    names = ids.dictionary.to_pylist()
    begins = np.flatnonzero(np.diff(code, prepend=-1) != 0)
    later = np.ones(len(step), dtype=bool)
    later[1:] = np.diff(step) > 0
    later[begins] = True
    if later.all() and len(begins) == len(np.unique(code[begins])):
        return Curves(data, [names[c] for c in code[begins]], begins, 0)
    place = np.full(len(names), len(names))
    first = code[begins][::-1]
    place[first] = np.arange(len(first))[::-1]  # the last assignment wins: the first appearance
    badness = empty = np.zeros(len(step))
    if target.metric in data.column_names:
        value, empty = data[target.metric].to_numpy(), data[target.metric].is_null().to_numpy()
        badness = value if target.direction is Direction.MINIMIZE else -value
    order = np.lexsort((empty, badness, step, place[code]))  # stable; NaN comes last
    same = (np.diff(code[order]) == 0) & (np.diff(step[order]) == 0)
    kept = order[np.concatenate([[True], ~same])] if len(order) else order
    curves = in_order(data.take(pa.array(kept)), target)
    return Curves(curves.data, curves.trial_ids, curves.starts, len(order) - len(kept))


def summarize(curves: Curves, target: Target) -> Summary:
    """Read every trial's first crossing and best value off its curve, as `Crossings` does for the analysis.

    Args:
        curves: in order.
        target: metric, threshold and direction.

    Returns:
        One entry a trial; no crossing and no best value where the metric is not among the columns.
    """
    starts, data, n = curves.starts, curves.data, len(curves.starts)
    step = data["step"].to_numpy()
    last_step = step[np.append(starts[1:], len(step)) - 1] if n else step
    found, broken, beyond = Crossings.of([target], n), np.zeros(n, dtype=bool), 0
    if target.metric in data.column_names:
        metric = data[target.metric]
        rows = np.flatnonzero(metric.is_valid().to_numpy())
        trial = (np.searchsorted(starts, rows, side="right") - 1).astype(np.int64)
        chunk = _chunk(trial, step[rows], metric.to_numpy()[rows].astype(float))
        if chunk is not None:
            found.take(chunk)
            ends = np.append(chunk.starts[1:], len(rows)) - 1
            broken[trial[ends]] = ~np.isfinite(chunk.value[ends])
            at_start = chunk.value[chunk.starts][chunk.step[chunk.starts] == 0]
            beyond = sum(target.reached(value) for value in at_start)
    steps, low = (np.nan_to_num(of[:, 0]).astype(np.int64) for of in (found.steps, found.steps_low))
    return Summary(curves.trial_ids, last_step, steps, low, found.best, broken, beyond)


def _chunk(trial: Ints, step: Ints, value: Floats) -> Chunk | None:
    """Evaluations in order as a chunk of whole trials; None without any."""
    if not len(trial):
        return None
    starts = np.flatnonzero(np.diff(trial, prepend=-1))
    before = np.concatenate([[0], step[:-1]])
    before[starts] = 0
    return Chunk(trial, starts, step, before, value, None)


def joined(summaries: list[Summary]) -> Summary:
    """The summaries of several tables as one."""
    if not summaries:
        nothing = np.zeros(0, dtype=np.int64)
        return Summary([], nothing, nothing, nothing, np.zeros(0), nothing > 0, 0)
    return Summary(
        trial_ids=[trial_id for s in summaries for trial_id in s.trial_ids],
        last_step=np.concatenate([s.last_step for s in summaries]),
        steps=np.concatenate([s.steps for s in summaries]),
        steps_low=np.concatenate([s.steps_low for s in summaries]),
        best=np.concatenate([s.best for s in summaries]),
        broken=np.concatenate([s.broken for s in summaries]),
        beyond_at_start=sum(s.beyond_at_start for s in summaries),
    )


__all__ = ["Curves", "Summary", "in_order", "joined", "summarize"]
