"""What a pilot measured and what follows from it, as `bcrit pilot` gives it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from bcrit.analysis.noise_scale.pooled import PooledScale
from bcrit.analysis.noise_scale.summary import NoiseScales
from bcrit.analysis.pilot.cost import Cost, Timing
from bcrit.analysis.pilot.grid import Grid, Hint
from bcrit.analysis.pilot.lr_box import LrBox
from bcrit.analysis.records.json_values import plain
from bcrit.search_spaces.dimensions import Value
from bcrit.search_spaces.experiment import Experiment
from bcrit.search_spaces.options import Budget
from bcrit.search_spaces.outcome import Outcome


@dataclass(frozen=True)
class Tried:
    """One learning rate of the ladder.

    Attributes:
        lr: it.
        outcome: `pruned` where it was left behind or another was there first.
        message: why, where the outcome does not say it.
        steps: optimizer updates made.
        steps_to_target: None where it was not reached.
        best_value: of the target's metric; None where there is none.
    """

    lr: float
    outcome: Outcome
    message: str | None
    steps: int
    steps_to_target: int | None
    best_value: float | None


@dataclass(frozen=True)
class Spent:
    """What the pilot took.

    Attributes:
        steps: optimizer updates, timed ones included.
        examples: in the unit of a batch.
        seconds: wall-clock time, data loading left out.
        probe_seconds: of those in the noise scale.
    """

    steps: int
    examples: int
    seconds: float
    probe_seconds: float


@dataclass(frozen=True)
class Measured:
    """The pilot's runs.

    Attributes:
        target: that they were trained to.
        unit: what a batch counts.
        n_examples: size of the training set; None = unlimited.
        batch_size: of all of them.
        chosen: hyperparameters that the experiment searches and the pilot held at one value.
        tried: learning rates.
        lr: the best of them.
        edge: which end of the ladder it is; None where it is none, or the experiment fixes it.
        steps: to the target, median over seeds; None where not most of them reached it.
        steps_each: of each seed, None where it did not reach.
        scales: gradient noise; None where it could not be measured.
        simple: mean of B_simple along the runs.
        noise: mean of B_noise.
        temperature: latest in the runs, of where it is known; None where it nowhere is.
        evaluate_seconds: of one evaluation.
    """

    target: str
    unit: str
    n_examples: int | None
    batch_size: int
    chosen: Mapping[str, Value]
    tried: tuple[Tried, ...]
    lr: float
    edge: Literal["low", "high"] | None
    steps: float | None
    steps_each: tuple[int | None, ...]
    scales: NoiseScales | None
    simple: PooledScale
    noise: PooledScale
    temperature: float | None
    evaluate_seconds: float


@dataclass(frozen=True)
class Proposal:
    """The study that should follow.

    Attributes:
        data: its experiment, as its file would say it.
        experiment: the same, validated.
        box: of the learning rate; None where the experiment fixes it.
        budget: of a search trial.
        timings: by batch size.
        cost: of the whole.
    """

    data: Mapping[str, Any]
    experiment: Experiment
    box: LrBox | None
    budget: Budget
    timings: tuple[Timing, ...]
    cost: Cost


@dataclass(frozen=True)
class Pilot:
    """All that a pilot says.

    Attributes:
        measured: by its runs.
        hint: where b_crit may lie.
        grid: batch sizes around it.
        proposal: None where the target was not reached, so that nothing is known of steps.
        spent: what the pilot took.
    """

    measured: Measured
    hint: Hint
    grid: Grid
    proposal: Proposal | None
    spent: Spent

    def to_json(self) -> dict[str, Any]:
        """The object of `bcrit pilot --json`, less its sentences."""
        found: dict[str, Any] = plain({name: getattr(self, name) for name in ("measured", "hint", "grid", "spent")})
        scales = self.measured.scales
        found["measured"]["scales"] = None if scales is None else scales.to_json()
        found["proposal"] = None
        if (proposal := self.proposal) is not None:
            facts = ("data", "box", "timings", "cost")
            found["proposal"] = plain({name: getattr(proposal, name) for name in facts})
            found["proposal"]["budget"] = {"steps": proposal.budget.steps, "examples": proposal.budget.examples}
        return found


__all__ = ["Measured", "Pilot", "Proposal", "Spent", "Tried"]
