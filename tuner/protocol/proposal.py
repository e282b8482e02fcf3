"""What the search protocol reads, in what order of merit, and what it gives: records in, one proposal out."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import TYPE_CHECKING, ClassVar, Literal, Protocol

import numpy as np

from bcrit.search_spaces.outcome import Outcome, Stage
from bcrit.search_spaces.presets import STEPS_OF
from bcrit.search_spaces.space import Point
from bcrit.search_spaces.target import Direction, Target

if TYPE_CHECKING:
    from bcrit.search_spaces.experiment import Experiment
    from bcrit.search_spaces.resources import Resources
    from bcrit.tuner.training.batch_schedule import BatchPlan

_FEWEST = {"decay_steps": 1, "warmup_steps": 0}
# Above the logarithm of any number of steps that a trial can make, so that reached trials come first.
UNREACHED = 50.0
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
    batches: BatchPlan | None = None  # batch sizes that change along it; None = its study's throughout
    start: str | None = None  # the trial whose weights it begins with; None = those of its initialisation
    # its weights at the end are brought back and kept under its name: those that train, or their average
    keep: Literal["weights", "average"] | None = None

    @property
    def hyperparameters(self) -> Point:
        """The point with what is derived from it."""
        return in_updates(self.point, self.budget_steps)


def in_updates(point: Point, budget_steps: int) -> Point:
    """The point with its shares of the study's step budget in optimizer updates, too.

    A decay takes at least one, a warm-up may take none.
    """
    found = dict(point)
    for share, steps in STEPS_OF.items():
        if share in point:
            found[steps] = max(_FEWEST[steps], round(float(point[share]) * budget_steps))
    return found


def warmup_share(point: Point, budget_steps: int) -> float:
    """The length of a point's warm-up as a share of the step budget."""
    return float(point.get("warmup_fraction", 0.0)) + float(point.get("warmup_steps", 0)) / budget_steps


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
    checkpoint_seconds: float | None = field(default=None, compare=False)

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
    return UNREACHED + min(left, 5.0)


def merit(record: TrialRecord, target: Target) -> tuple[float, float, int]:
    """Order of merit in a study: by response, then the value at the crossing, then the earlier trial.

    Evaluations may be too far apart to tell two trials apart by their steps (Shallue et al. 2018 go by trial id alone).
    """
    value = 0.0
    if record.steps_to_target is not None and record.curve:
        value = record.best_until(record.steps_to_target, target.direction)
    return response(record, target), value if target.direction is Direction.MINIMIZE else -value, record.number


def evaluated_rarely(record: TrialRecord) -> str | None:
    """How to do better, where a trial's crossing, or its end, lies between evaluations that are too far apart."""
    from bcrit.analysis.curve.table import is_coarse  # with SciPy, for which no worker that starts has to wait

    steps = [0, *(step for step, _ in record.curve if step > 0)]
    before, last = record.steps_to_target_low, record.steps_to_target
    if before is None or last is None:
        before, last = steps[-2:] if len(steps) > 1 else (0, 0)
    if not is_coarse(last - before, last):
        return None
    return (
        f"a trial was evaluated at steps {before:,} and {last:,} and not between: a crossing there is known to "
        f"{100 * (last - before) / last:.0f} % of its steps only; evaluate more often (a training function: next at "
        "config.next_evaluation(s) after a report at step s)"
    )


def retraining(proposal: Proposal) -> Proposal:
    """A trial beside the study, named by all that decides it: what was trained once is not trained again.

    What is not part of the proposal (workload, optimizer, target, resolution) is frozen with its run.
    """
    facts = {name: value for name, value in asdict(proposal).items() if name != "trial_id"}
    if proposal.batches is not None:  # two kinds of schedule may have equal fields
        facts["schedule"] = type(proposal.batches.schedule).__name__
    digest = hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()[:12]
    return replace(proposal, trial_id=f"b{proposal.batch_size:07d}-{proposal.stage.value}-{digest}")


def trial_name(batch_size: int, stage: Stage, number: int) -> str:
    """The name of a trial; it sorts by study, stage and number."""
    return f"b{batch_size:07d}-{stage.value}-{number:04d}"


def trial_seed(seed: int, stage: Stage, number: int) -> int:
    """The seed of a trial: the same for the same number at every batch size, fresh for every stage."""
    words = np.random.SeedSequence([seed, list(Stage).index(stage), number]).generate_state(1)
    return int(words[0])


def blank(experiment: Experiment, batch_size: int, stage: Stage, number: int, round: int) -> Proposal:
    """A trial by its place, to its study's budget; its point is still empty."""
    budget = experiment.budget.max_steps(batch_size)
    return Proposal(
        trial_id=trial_name(batch_size, stage, number),
        batch_size=batch_size,
        stage=stage,
        number=number,
        round=round,
        repeats=None,
        seed=trial_seed(experiment.seed, stage, number),
        point={},
        budget_steps=budget,
        max_steps=budget,
    )


Records = Mapping[int, Sequence[TrialRecord]]
"""Finished trials by batch size."""


class Proposals(Protocol):
    """What a session runs: the next trial, by what has finished."""

    @property
    def keeps(self) -> bool:
        """Whether what was chosen for a trial is kept until it begins, so that it can be chosen before."""
        ...

    def next_trial(self, records: Records, running: Collection[str]) -> Proposal | None:
        """The next trial beside those that run; None before one of these ends, or where nothing is left to run."""
        ...

    def revised(self, proposal: Proposal, records: Records, crossings: Iterable[tuple[int, int]] = ()) -> Proposal:
        """The proposal with its horizon as far as it is known by now."""
        ...

    def settled(self, proposal: Proposal, records: Records) -> bool:
        """Whether that horizon is the last."""
        ...


@dataclass(frozen=True)
class Only:
    """What a protocol proposes for workers with some resources, as if others were at the rest and not done yet.

    What has finished decides what is proposed, so it is the same whoever trains it, and in which order.
    """

    protocol: Proposals
    resources: Resources  # of the experiment
    kind: Resources  # of these workers
    # Trials for others; they stay so as long as none of them finishes.
    _elsewhere: set[str] = field(default_factory=set, init=False, repr=False, compare=False)

    @property
    def keeps(self) -> bool:
        """As the protocol says."""
        return self.protocol.keeps

    def next_trial(self, records: Records, running: Collection[str]) -> Proposal | None:
        """The next one for these workers."""
        while True:
            proposal = self.protocol.next_trial(records, self._elsewhere.union(running))
            if proposal is None or self.resources.at(proposal.batch_size) == self.kind:
                return proposal
            self._elsewhere.add(proposal.trial_id)

    def revised(self, proposal: Proposal, records: Records, crossings: Iterable[tuple[int, int]] = ()) -> Proposal:
        """As the protocol says."""
        return self.protocol.revised(proposal, records, crossings)

    def settled(self, proposal: Proposal, records: Records) -> bool:
        """As the protocol says."""
        return self.protocol.settled(proposal, records)


@dataclass(frozen=True)
class Listed:
    """Trials that were named beforehand, in their order."""

    proposals: Sequence[Proposal]
    keeps: ClassVar[bool] = False  # there is nothing to choose

    def next_trial(self, records: Records, running: Collection[str]) -> Proposal | None:
        """The first that has neither finished nor runs."""
        begun = {record.trial_id for of_size in records.values() for record in of_size} | set(running)
        return next((proposal for proposal in self.proposals if proposal.trial_id not in begun), None)

    def revised(self, proposal: Proposal, records: Records, crossings: Iterable[tuple[int, int]] = ()) -> Proposal:
        """As it is."""
        return proposal

    def settled(self, proposal: Proposal, records: Records) -> bool:
        """From the beginning."""
        return True
