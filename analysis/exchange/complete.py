"""What follows from a trial's curve and is missing in its row: outcome, steps, examples, crossing, best value."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from bcrit.analysis.exchange.curves import Summary
from bcrit.search_spaces.outcome import Outcome


def complete(trials: pa.Table, summary: Summary) -> pa.Table:
    """Fill in what follows from the curves.

    A trial that ended in a way that says nothing against its numbers (`Outcome.feasible`) has reached the target when
    its curve crosses it. A diverged or failed one has not, whatever it crossed before (Shallue et al. 2018 leave out
    INFEASIBLE trials). Where the source tells the steps to target itself, they stand. Where it does not tell how a
    trial ended, one that did not reach and whose last value is not finite has diverged.

    Args:
        trials: columns of `TRIALS` with empty cells, then hyperparameters.
        summary: of the curves.

    Returns:
        The table without empty cells in the columns that must have none.
    """
    at = pc.index_in(trials["trial_id"], value_set=pa.array(summary.trial_ids, pa.string())).to_numpy()
    measured = np.isfinite(at)
    row = np.where(measured, at, 0).astype(np.int64)

    def of(values: np.ndarray, kind: pa.DataType) -> pa.Array:
        found = values[row] if len(values) else np.zeros(len(row), dtype=values.dtype)
        return pa.array(found, kind, mask=~measured)

    infeasible = pa.array([outcome.value for outcome in Outcome if not outcome.feasible])
    feasible = pc.invert(pc.is_in(trials["outcome"], value_set=infeasible))
    crossing = of(summary.steps, pa.int64())
    by_curve = pc.and_(feasible, pc.greater(pc.fill_null(crossing, 0), 0))
    given = pc.is_valid(trials["steps_to_target"])
    reads = pc.and_(by_curve, pc.invert(given))
    nothing = pa.scalar(None, pa.int64())
    steps_to_target = pc.if_else(reads, crossing, trials["steps_to_target"])
    reached = pc.and_(feasible, pc.is_valid(steps_to_target))
    low = pc.if_else(reads, of(summary.steps_low, pa.int64()), trials["steps_to_target_low"])
    diverged = pc.and_(pc.is_null(trials["outcome"]), pc.fill_null(of(summary.broken, pa.bool_()), False))
    diverged = pc.and_(diverged, pc.invert(reached))
    ended = pc.fill_null(trials["outcome"], Outcome.EXHAUSTED.value)
    ended = pc.if_else(diverged, Outcome.DIVERGED.value, ended)
    best = of(np.where(np.isnan(summary.best), 0.0, summary.best), pa.float64())
    unknown = of(np.isnan(summary.best), pa.bool_())
    best = pc.if_else(pc.fill_null(unknown, True), pa.scalar(None, pa.float64()), best)
    steps = pc.max_element_wise(trials["steps"], of(summary.last_step, pa.int64()), steps_to_target)
    steps = pc.fill_null(steps, 0)
    nonfinite = pc.and_(diverged, pc.is_null(trials["message"]))
    changed = {
        "message": pc.if_else(nonfinite, "the last value of the target's metric was not finite", trials["message"]),
        "outcome": pc.if_else(reached, Outcome.REACHED.value, ended),
        "steps": steps,
        "examples": pc.coalesce(trials["examples"], pc.multiply(trials["batch_size"], steps)),
        "max_steps": pc.max_element_wise(trials["max_steps"], steps),
        "steps_to_target": pc.if_else(reached, steps_to_target, nothing),
        "steps_to_target_low": pc.if_else(reached, low, nothing),
        "best_value": pc.coalesce(trials["best_value"], best),
    }
    for name, values in changed.items():
        trials = trials.set_column(trials.column_names.index(name), trials.schema.field(name), values)
    return trials


__all__ = ["complete"]
