"""What the samplers minimise: one number a trial."""

from __future__ import annotations

import math

from bcrit.search_spaces.target import Target
from bcrit.tuner.protocol.proposal import TrialRecord

# Above the logarithm of any number of steps that a trial can make, so that reached trials come first.
_UNREACHED = 50.0
_INFEASIBLE = 60.0


def response(record: TrialRecord, target: Target) -> float:
    """log(steps-to-target) of a trial that reached; an order among those that did not.

    An unreached trial lies above every reached one, the higher the less of the way from its first evaluation to the
    target it made at its best. A diverged one lies above those. Only the order matters: TPE splits by rank.

    Args:
        record: a finished trial.
        target: what it should have reached.

    Returns:
        The number to minimise.
    """
    if record.steps_to_target is not None:
        return math.log(record.steps_to_target)
    if not record.outcome.feasible or not record.curve:
        return _INFEASIBLE
    first = record.curve[0][1]
    way = abs(first - target.threshold)
    best = record.best_until(record.steps, target.direction)
    left = abs(best - target.threshold) / way if way > 0 and math.isfinite(best) else 1.0
    return _UNREACHED + min(left, 5.0)


def merit(record: TrialRecord, target: Target) -> tuple[float, int]:
    """Order of merit in a study: by response, ties to the earlier trial (Shallue et al. 2018: by trial id)."""
    return response(record, target), record.number
