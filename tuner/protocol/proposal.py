"""What the search protocol reads and what it gives: the ledger's records in, one proposal out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from bcrit.search_spaces.outcome import Outcome, Stage
from bcrit.search_spaces.presets import STEPS_OF
from bcrit.search_spaces.space import Point
from bcrit.search_spaces.target import Direction

_FEWEST = {"decay_steps": 1, "warmup_steps": 0}


@dataclass(frozen=True)
class Rung:
    """A trial that is not at least as good as `cutoff` when it has made `step` updates ends as pruned."""

    step: int
    cutoff: float


@dataclass(frozen=True)
class Proposal:
    """One trial to run: a point, a seed, and its own horizon and rungs.

    Attributes:
        trial_id: its name, the same whenever it is proposed.
        batch_size: its study.
        stage: what it is for.
        number: its place in its study and stage, from 0.
        round: how often the study's box had been widened.
        repeats: for confirm, the search trial whose point it re-runs.
        seed: of initialisation and data order.
        point: hyperparameters as searched.
        budget_steps: the study's step budget, which `decay_fraction` and `warmup_fraction` are shares of.
        max_steps: its horizon in optimizer updates.
        capped: whether the horizon is the incumbent's and not the budget's.
        rungs: where it may be pruned, in order of steps.
        stop_at_target: whether it ends at the target or goes on to its horizon.
    """

    trial_id: str
    batch_size: int
    stage: Stage
    number: int
    round: int
    repeats: str | None
    seed: int
    point: Point
    budget_steps: int
    max_steps: int
    capped: bool = False
    rungs: tuple[Rung, ...] = ()
    stop_at_target: bool = True

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


def trial_name(batch_size: int, stage: Stage, number: int) -> str:
    """The name of a trial; it sorts by study, stage and number."""
    return f"b{batch_size:07d}-{stage.value}-{number:04d}"


Records = Mapping[int, Sequence[TrialRecord]]
"""Finished trials by batch size."""
