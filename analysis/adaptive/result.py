"""What `bcrit adaptive` measured, as it is stored in the run folder and read again for the report."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from bcrit.analysis.records.json_values import plain
from bcrit.analysis.records.run_folder import ADAPTIVE, RunFolder
from bcrit.analysis.stored import read_stored

_FORMAT = 1

Kind = Literal["fixed", "noise", "ramp"]


@dataclass(frozen=True)
class Trained:
    """One training run and what it was made with along the way.

    Attributes:
        schedule: name of its schedule of batch sizes.
        number: which of the seeds, from 0; the same number has the same seed in every schedule.
        seed: of initialisation and data order.
        outcome: how it ended.
        message: why, where the outcome alone does not say it.
        steps: updates to the target; None where it was not reached.
        examples: used by then; None likewise.
        at_steps: updates made, at some of the evaluations; (n,).
        at_examples: used by then; (n,).
        batch_sizes: of the update before; None before the first.
        noise_scales: the running noise scale as it was measured; None where it was not known.
    """

    schedule: str
    number: int
    seed: int
    outcome: str
    message: str | None
    steps: int | None
    examples: int | None
    at_steps: tuple[int, ...]
    at_examples: tuple[int, ...]
    batch_sizes: tuple[int | None, ...]
    noise_scales: tuple[float | None, ...]


@dataclass(frozen=True)
class ScheduleResult:
    """What one schedule of batch sizes needed, beside what fixed batch sizes need.

    Attributes:
        schedule: its name.
        kind: what the batch size follows.
        batch_size: of a fixed one.
        exchange_rate: r of one that follows the noise.
        n_runs: seeds.
        n_reached: that reached the target.
        steps: geometric mean over seeds; None where a seed did not reach.
        examples: likewise.
        ratio: updates over those of the fixed batch size that is its mean one, examples / steps; so both its updates
            and its examples are this many times that one's. None for fixed ones.
        ratio_low: of the interval; None with fewer than three seeds.
        ratio_high: likewise.
        gamma: (S / s_min - 1) (E / e_min - 1).
        gamma_low: likewise.
        gamma_high: likewise.
        gamma_fixed: the same product of that fixed batch size: 1 on a hyperbola.
        gamma_predicted: from the noise scale along these runs.
        ratio_predicted: what it makes of the ratio (`bcrit.analysis.adaptive.gain.ratio_of_gamma`).
        clipped: share of the stored evaluations before which an update had the smallest or largest batch size allowed;
            None for those that do not follow the noise.
        outside: whether that fixed batch size is below or above all that were trained.
    """

    schedule: str
    kind: Kind
    batch_size: int | None
    exchange_rate: float | None
    n_runs: int
    n_reached: int
    steps: float | None
    examples: float | None
    ratio: float | None = None
    ratio_low: float | None = None
    ratio_high: float | None = None
    gamma: float | None = None
    gamma_low: float | None = None
    gamma_high: float | None = None
    gamma_fixed: float | None = None
    gamma_predicted: float | None = None
    ratio_predicted: float | None = None
    clipped: float | None = None
    outside: bool = False


@dataclass(frozen=True)
class Adaptive:
    """All that was measured.

    Attributes:
        target: that the runs were trained to.
        unit: what a batch counts.
        optimizer: of all runs.
        tuned_at: batch sizes whose learning rate was tuned by a study.
        rates: the learning rates there.
        kept: the other hyperparameters, the same in all runs.
        kept_from: batch size of the study that they are of.
        low: smallest batch size that a schedule may choose.
        high: largest.
        micro_batch: examples in a micro-batch; None where the noise is known exactly.
        noise: `b_simple` where it was measured between micro-batches, `b_noise` where it is known exactly.
        factor: what it was multiplied by, so that its mean over progress is the b_crit of the fixed batch sizes.
        n_seeds: of each schedule.
        deterministic: whether every seed would give the same curve.
        s_min: of the hyperbola through the fixed batch sizes.
        e_min: likewise.
        scatter: standard deviation of the logarithm of their steps about the frontier.
        misfit: the part of it that the spread over seeds does not explain: tuning, and the curve's shape.
        resolution: evaluations stand one step apart, or this share of the step.
        frontier_steps: of the curve through the fixed batch sizes, by rising batch size; (n,).
        frontier_examples: there; (n,).
        pooled: ratio, the geometric mean over the schedules that follow the noise.
        pooled_low: of its interval.
        pooled_high: likewise.
        pooled_predicted: the same mean of what the noise scale predicts.
        answers: fixed batch sizes by size, then those that follow the noise by r, then ramps.
        runs: behind them.
        seed: that all seeds come from.
        device: that trained.
        torch: version of PyTorch.
        notes: what to know, a sentence each.
    """

    target: str
    unit: str
    optimizer: str
    tuned_at: tuple[int, ...]
    rates: tuple[float, ...]
    kept: Mapping[str, Any]
    kept_from: int
    low: int
    high: int
    micro_batch: int | None
    noise: Literal["b_simple", "b_noise"]
    factor: float
    n_seeds: int
    deterministic: bool
    s_min: float
    e_min: float
    scatter: float
    misfit: float
    resolution: float
    frontier_steps: tuple[float, ...]
    frontier_examples: tuple[float, ...]
    pooled: float | None
    pooled_low: float | None
    pooled_high: float | None
    pooled_predicted: float | None
    answers: tuple[ScheduleResult, ...]
    runs: tuple[Trained, ...]
    seed: int
    device: str
    torch: str
    notes: tuple[str, ...]

    def of(self, *kinds: Kind) -> list[ScheduleResult]:
        """The answers of some kinds."""
        return [answer for answer in self.answers if answer.kind in kinds]

    def runs_of(self, schedule: str) -> list[Trained]:
        """The runs of a schedule, by seed."""
        return [run for run in self.runs if run.schedule == schedule]

    def to_json(self) -> dict[str, Any]:
        """The object of `bcrit adaptive --json`, less its sentences."""
        found: dict[str, Any] = plain(self)
        return found


def write_adaptive(folder: RunFolder, found: Adaptive) -> None:
    """Store it in the run folder."""
    folder.write_json(ADAPTIVE, {"format": _FORMAT, **found.to_json()})


def read_adaptive(folder: RunFolder) -> Adaptive | None:
    """What was stored; None where nothing was, an InputError where it is damaged or of another version."""
    return read_stored(folder, ADAPTIVE, _FORMAT, _parsed, "bcrit adaptive")


def trained_from(stored: Mapping[str, Any]) -> Trained:
    """A run as it was stored in JSON; what is missing or too much is a TypeError."""
    return Trained(**_tuples(stored))


def _parsed(stored: dict[str, Any]) -> Adaptive:
    answers = tuple(ScheduleResult(**answer) for answer in stored.pop("answers"))
    runs = tuple(map(trained_from, stored.pop("runs")))
    return Adaptive(**_tuples(stored), answers=answers, runs=runs)


def _tuples(facts: Mapping[str, Any]) -> dict[str, Any]:
    return {name: tuple(value) if isinstance(value, list) else value for name, value in facts.items()}


__all__ = ["Adaptive", "ScheduleResult", "Kind", "Trained", "read_adaptive", "trained_from", "write_adaptive"]
