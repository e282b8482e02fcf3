"""What `bcrit adaptive` measured, as it is stored in the run folder."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

Kind = Literal["fixed", "noise", "ramp"]


@dataclass(frozen=True)
class Trained:
    """One training run and what it was made with along the way."""

    schedule: str  # name of its schedule of batch sizes
    number: int  # which of the seeds, from 0; the same number has the same seed in every schedule
    seed: int  # of initialisation and data order
    outcome: str  # how it ended
    message: str | None  # why, where the outcome alone does not say it
    steps: int | None  # updates to the target; None where it was not reached
    examples: int | None  # used by then; None likewise
    at_steps: tuple[int, ...]  # updates made, at some of the evaluations; (n,)
    at_examples: tuple[int, ...]  # used by then; (n,)
    batch_sizes: tuple[int | None, ...]  # of the update before; None before the first
    noise_scales: tuple[float | None, ...]  # the running noise scale as it was measured; None where it was not known


@dataclass(frozen=True)
class ScheduleResult:
    """What one schedule of batch sizes needed, beside what fixed batch sizes need."""

    schedule: str  # its name
    kind: Kind  # what the batch size follows
    batch_size: int | None  # of a fixed one
    exchange_rate: float | None  # r of one that follows the noise
    n_runs: int  # seeds
    n_reached: int  # that reached the target
    steps: float | None  # geometric mean over seeds; None where a seed did not reach
    examples: float | None  # likewise
    # updates over those of the fixed batch size that is its mean one, examples / steps; so both its updates and its
    # examples are this many times that one's. None for fixed ones.
    ratio: float | None = None
    ratio_low: float | None = None  # of the interval; None with fewer than three seeds
    ratio_high: float | None = None
    gamma: float | None = None  # (S / s_min - 1) (E / e_min - 1)
    gamma_low: float | None = None
    gamma_high: float | None = None
    gamma_fixed: float | None = None  # the same product of that fixed batch size: 1 on a hyperbola
    gamma_predicted: float | None = None  # from the noise scale along these runs
    ratio_predicted: float | None = None  # what it makes of the ratio (`ratio_of_gamma`)
    # share of the stored evaluations before which an update had the smallest or largest batch size allowed; None for
    # those that do not follow the noise
    clipped: float | None = None
    outside: bool = False  # whether that fixed batch size is below or above all that were trained


@dataclass(frozen=True)
class Adaptive:
    """All that was measured."""

    target: str  # that the runs were trained to
    unit: str  # what a batch counts
    optimizer: str  # of all runs
    tuned_at: tuple[int, ...]  # batch sizes whose learning rate was tuned by a study
    rates: tuple[float, ...]  # the learning rates there
    kept: Mapping[str, Any]  # the other hyperparameters, the same in all runs
    kept_from: int  # batch size of the study that they are of
    low: int  # smallest batch size that a schedule may choose
    high: int  # largest
    micro_batch: int | None  # examples in a micro-batch; None where the noise is known exactly
    noise: Literal["b_simple", "b_noise"]  # measured between micro-batches, or known exactly
    factor: float  # what it was multiplied by, so that its mean over progress is the b_crit of the fixed batch sizes
    n_seeds: int  # of each schedule
    deterministic: bool  # whether every seed would give the same curve
    s_min: float  # of the hyperbola through the fixed batch sizes
    e_min: float
    scatter: float  # standard deviation of the logarithm of their steps about the frontier
    misfit: float  # the part of it that the spread over seeds does not explain: tuning, and the curve's shape
    resolution: float  # evaluations stand one step apart, or this share of the step
    frontier_steps: tuple[float, ...]  # of the curve through the fixed batch sizes, by rising batch size; (n,)
    frontier_examples: tuple[float, ...]  # there; (n,)
    pooled: float | None  # ratio, the geometric mean over the schedules that follow the noise
    pooled_low: float | None  # of its interval
    pooled_high: float | None
    pooled_predicted: float | None  # the same mean of what the noise scale predicts
    answers: tuple[ScheduleResult, ...]  # fixed batch sizes by size, then those that follow the noise by r, then ramps
    runs: tuple[Trained, ...]  # behind them
    seed: int  # that all seeds come from
    device: str  # that trained
    torch: str  # version of PyTorch
    notes: tuple[str, ...]  # what to know, a sentence each

    def of(self, *kinds: Kind) -> list[ScheduleResult]:
        """The answers of some kinds."""
        return [answer for answer in self.answers if answer.kind in kinds]

    def runs_of(self, schedule: str) -> list[Trained]:
        """The runs of a schedule, by seed."""
        return [run for run in self.runs if run.schedule == schedule]
