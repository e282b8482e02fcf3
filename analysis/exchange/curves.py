"""What the curves of many trials say at once: put in order, without repeated steps, first crossings, best values."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from search_spaces.target import Direction, Target

Floats = np.ndarray[tuple[int], np.dtype[np.float64]]
Ints = np.ndarray[tuple[int], np.dtype[np.int64]]


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
        best: best finite value of the metric; NaN where there is none.
        beyond_at_start: trials whose value at step 0 is better than the threshold already.
    """

    trial_ids: list[str]
    last_step: Ints
    steps: Ints
    steps_low: Ints
    best: Floats
    beyond_at_start: int


def in_order(data: pa.Table, target: Target) -> Curves:
    """Put the rows of every trial together and in order of step, one row a step.

    Of rows with the same trial and step the one with the best value of the target's metric stays, the first of equal
    ones: it alone decides whether the threshold was crossed there, in the published rule too (Shallue et al. 2018 take
    the first row, in order of step, that is strictly better).

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
    badness = np.zeros(len(step))
    if target.metric in data.column_names:
        value = data[target.metric].to_numpy()
        badness = value if target.direction is Direction.MINIMIZE else -value
    order = np.lexsort((badness, step, place[code]))  # stable; NaN comes last
    same = (np.diff(code[order]) == 0) & (np.diff(step[order]) == 0)
    kept = order[np.concatenate([[True], ~same])] if len(order) else order
    curves = in_order(data.take(pa.array(kept)), target)
    return Curves(curves.data, curves.trial_ids, curves.starts, len(order) - len(kept))


def summarize(curves: Curves, target: Target) -> Summary:
    """Read every trial's first crossing and best value off its curve; the rule is `Target.first_crossing`.

    Args:
        curves: in order.
        target: metric, threshold and direction.

    Returns:
        One entry a trial; no crossing and no best value where the metric is not among the columns.
    """
    starts, data = curves.starts, curves.data
    step = data["step"].to_numpy()
    if not len(starts):
        nothing = np.zeros(0, dtype=np.int64)
        return Summary([], nothing, nothing, nothing, np.zeros(0), 0)
    ends = np.append(starts[1:], len(step))
    if target.metric not in data.column_names:
        none = np.zeros(len(starts), dtype=np.int64)
        return Summary(curves.trial_ids, step[ends - 1], none, none, np.full(len(starts), np.nan), 0)
    value = data[target.metric].to_numpy()
    sign = 1.0 if target.direction is Direction.MINIMIZE else -1.0
    reached = sign * value < sign * target.threshold
    rows = np.arange(len(step))
    first = np.minimum.reduceat(np.where(reached & (step > 0), rows, len(step)), starts)
    crossed = first < ends
    steps, steps_low = np.zeros(len(starts), dtype=np.int64), np.zeros(len(starts), dtype=np.int64)
    steps[crossed] = step[first[crossed]]
    bounded = crossed & (first > starts)
    steps_low[bounded] = step[first[bounded] - 1]
    best = sign * np.fmin.reduceat(np.where(np.isfinite(value), sign * value, np.nan), starts)
    beyond = int(np.count_nonzero(reached[starts] & (step[starts] == 0)))
    return Summary(curves.trial_ids, step[ends - 1], steps, steps_low, best, beyond)


def joined(summaries: list[Summary]) -> Summary:
    """The summaries of several tables as one."""
    if not summaries:
        nothing = np.zeros(0, dtype=np.int64)
        return Summary([], nothing, nothing, nothing, np.zeros(0), 0)
    return Summary(
        trial_ids=[trial_id for s in summaries for trial_id in s.trial_ids],
        last_step=np.concatenate([s.last_step for s in summaries]),
        steps=np.concatenate([s.steps for s in summaries]),
        steps_low=np.concatenate([s.steps_low for s in summaries]),
        best=np.concatenate([s.best for s in summaries]),
        beyond_at_start=sum(s.beyond_at_start for s in summaries),
    )


__all__ = ["Curves", "Summary", "in_order", "joined", "summarize"]
