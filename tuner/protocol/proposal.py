"""What the search protocol reads, in what order of merit, and what it gives: records in, one proposal out."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from bcrit.search_spaces.outcome import Outcome, Stage
from bcrit.search_spaces.presets import STEPS_OF
from bcrit.search_spaces.space import Point
from bcrit.search_spaces.target import Direction, Target

_FEWEST = {"decay_steps": 1, "warmup_steps": 0}
# Above the logarithm of any number of steps that a trial can make, so that reached trials come first.
_UNREACHED = 50.0
_INFEASIBLE = 60.0


@dataclass(frozen=True)
class Rung:
    """A trial that is not at least as good as `cutoff` when it has made `step` updates ends as pruned."""

    step: int
    cutoff: float


@dataclass(frozen=True)
class Proposal:
    """One trial to run: a point, a seed, and its own horizon and rungs."""

    trial_id: str  # its name, the same whenever it is proposed
    batch_size: int  # its study
    stage: Stage  # what it is for
    number: int  # its place in its study and stage, from 0
    round: int  # how often the study's box had been widened
    repeats: str | None  # for confirm, the search trial whose point it re-runs
    seed: int  # of initialisation and data order
    point: Point  # hyperparameters as searched
    budget_steps: int  # the study's step budget, which `decay_fraction` and `warmup_fraction` are shares of
    max_steps: int  # its horizon in optimizer updates
    capped: bool = False  # whether the horizon is the incumbent's and not the budget's
    rungs: tuple[Rung, ...] = ()  # where it may be pruned, in order of steps
    stop_at_target: bool = True  # whether it ends at the target or goes on to its horizon

    @property
    def hyperparameters(self) -> Point:
        """The point with what is derived from it: shares of the study's step budget in optimizer updates.

        A decay takes at least one, a warm-up may take none.
        """
        found = dict(self.point)
        for share, steps in STEPS_OF.items():
            if share in self.point:
                found[steps] = max(_FEWEST[steps], round(float(self.point[share]) * self.budget_steps))
        return found


@dataclass(frozen=True)
class TrialRecord:
    """One row of the trials table with the curve of the target's metric, as far as it was measured.

    The attributes are the columns of `bcrit.search_spaces.tables.TRIALS`, and two more: `point`, the hyperparameters,
    and `curve`, the (step, metric) pairs of the target's metric in order of step.
    """

    trial_id: str
    batch_size: int
    stage: Stage
    number: int
    round: int
    repeats: str | None
    seed: int
    outcome: Outcome
    message: str | None
    max_steps: int
    steps: int
    examples: int
    steps_to_target: int | None
    steps_to_target_low: int | None
    best_value: float | None
    train_seconds: float
    evaluate_seconds: float
    started_at: float
    ended_at: float
    point: Point
    curve: Sequence[tuple[int, float]] = field(default=(), compare=False)

    def best_until(self, step: int, direction: Direction) -> float:
        """Best metric among evaluations up to `step`; the direction's worst value if there is none."""
        best = direction.worst
        for at, value in self.curve:
            if at > step:
                break
            if direction.better(value, best):
                best = value
        return best


def response(record: TrialRecord, target: Target) -> float:
    """log(steps-to-target) of a trial that reached; an order among those that did not.

    An unreached trial lies above every reached one, the higher the less of the way from its first evaluation to the
    target it made at its best. A diverged one lies above those. Only the order matters: TPE splits by rank.
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


def trial_name(batch_size: int, stage: Stage, number: int) -> str:
    """The name of a trial; it sorts by study, stage and number."""
    return f"b{batch_size:07d}-{stage.value}-{number:04d}"


Records = Mapping[int, Sequence[TrialRecord]]
"""Finished trials by batch size."""
