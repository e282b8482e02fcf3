"""Runs at fixed batch sizes and with schedules of them, with one rule for the learning rate and the same seeds."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch

from bcrit.analysis.questions.adaptive.gain import first_noise, noise_factor
from bcrit.analysis.questions.adaptive.measure import Frontier, fixed_frontier, measure
from bcrit.analysis.questions.adaptive.result import Adaptive, ScheduleResult, Trained
from bcrit.analysis.records.run_folder import RunFolder
from bcrit.search_spaces.problems import InputError
from bcrit.tuner.adaptive.bench import Watch, prepare
from bcrit.tuner.adaptive.tuned import Tuned
from bcrit.tuner.training.batch_schedule import ByNoise, Fixed, Ramp

SPREAD = (1 / 16, 1 / 4, 1.0, 4.0, 16.0)
"""r over b_crit unless it is given. At a constant noise scale r = B^2 / b_crit, so these stand for b_crit / 4 to
4 b_crit, between which the frontier bends."""

_FARTHER = 4  # times the steps of the fixed batch size in the middle, after which a run has failed; chosen


@dataclass(frozen=True)
class Options:
    """What is trained.

    Attributes:
        exchange_rates: r of the schedules that follow the noise; empty = by `SPREAD`.
        ramps: stages of batch sizes.
        seeds: of every schedule.
    """

    exchange_rates: tuple[float, ...] = ()
    ramps: tuple[Ramp, ...] = ()
    seeds: int = 5

    def __post_init__(self) -> None:
        """Check the values.

        Raises:
            ValueError: one is impossible.
        """
        if self.seeds < 1:
            raise ValueError(f"'seeds' must be at least 1, but it is {self.seeds}; 5, say")
        if not all(0 < r < math.inf for r in self.exchange_rates):
            given = ", ".join(map(str, self.exchange_rates))
            raise ValueError(f"an exchange rate must be positive, but they are {given}; it counts examples a step")
        names = [*map(_name, self.exchange_rates), *map(_name, self.ramps)]
        if again := sorted({name for name in names if names.count(name) > 1}):
            raise ValueError(
                f"every schedule must have a name of its own, but there are several '{again[0]}'; keep one"
            )


def _name(schedule: float | Ramp) -> str:
    """Of an exchange rate, to three digits, or a ramp: what its runs are found by."""
    if isinstance(schedule, Ramp):
        return "ramp " + ", ".join(f"{start}:{b}" for start, b in schedule.stages)
    return f"r = {schedule:.3g}"


def adaptive(folder: RunFolder, options: Options, watch: Watch = lambda line: None) -> Adaptive:
    """Train and measure. Finished runs are kept in the folder's `adaptive`; nothing else is written.

    Args:
        folder: a run with confirmed studies.
        options: what is trained.
        watch: told of the progress.

    Returns:
        What was measured; the same every time, from the experiment's seed.

    Raises:
        InputError: the run cannot be trained again here, its studies do not do, a ramp has an impossible batch size, or
            fixed batch sizes give no frontier.
    """
    bench = prepare(folder, options.ramps, options.seeds, watch)
    experiment, found = bench.experiment, bench.found
    fixed = [ScheduleResult(f"B = {b:,}", "fixed", b, None, 0, 0, None, None) for b in found.batch_sizes]
    runs: list[Trained] = []
    for one, steps in zip(fixed, found.steps, strict=True):
        runs += bench.runs(one.schedule, Fixed(one.batch_size or 1), _farther(steps))
    curve = fixed_frontier({b: one.schedule for b, one in zip(found.batch_sizes, fixed, strict=True)}, runs)
    if curve is None:
        raise InputError(str(folder), [_NO_FRONTIER])
    b_crit = curve.hyperbola.b_crit
    factor, first = _calibrated(runs, found, b_crit, str(folder))
    others: list[ScheduleResult] = []
    for r in options.exchange_rates or _rates(b_crit, found):
        name, schedule = _name(r), _by_noise(r, found, factor, first)
        others.append(ScheduleResult(name, "noise", None, r, 0, 0, None, None))
        runs += bench.runs(name, schedule, _farther(_steps_at(math.sqrt(r * b_crit), found, curve)))
    for ramp in options.ramps:
        name = _name(ramp)
        others.append(ScheduleResult(name, "ramp", None, None, 0, 0, None, None))
        runs += bench.runs(name, ramp, _farther(max(found.steps)))
    measured = measure([*fixed, *others], runs, factor)
    assert measured is not None  # its frontier is `curve`
    low, high = found.batch_sizes[0], found.batch_sizes[-1]
    along = measured.frontier.curve()
    return Adaptive(
        target=str(experiment.target),
        unit=experiment.unit,
        optimizer=experiment.optimizer,
        tuned_at=found.batch_sizes,
        rates=found.rates,
        kept=found.kept,
        kept_from=found.kept_from,
        low=low,
        high=high,
        micro_batch=bench.micro_batch,
        noise="b_noise" if bench.micro_batch is None else "b_simple",
        factor=factor,
        n_seeds=len(bench.seeds),
        deterministic=bench.deterministic,
        s_min=measured.frontier.hyperbola.s_min,
        e_min=measured.frontier.hyperbola.e_min,
        scatter=measured.frontier.scatter,
        misfit=measured.misfit,
        resolution=experiment.resolution,
        frontier_steps=along[0],
        frontier_examples=along[1],
        **measured.pooled,
        answers=tuple(replace(one, clipped=_clipped(one, runs, low, high)) for one in measured.answers),
        runs=tuple(runs),
        seed=experiment.seed,
        device=bench.device,
        torch=torch.__version__,
        notes=found.notes,
    )


_NO_FRONTIER = (
    "the fixed batch sizes give no frontier: fewer than three reached the target on every seed, or they show no s_min "
    "or no e_min; choose batch sizes on both sides of b_crit"
)


def _calibrated(runs: Sequence[Trained], found: Tuned, b_crit: float, where: str) -> tuple[float, float]:
    """The factor on the noise scale, and the noise scale that runs begin with, factor included.

    Raises:
        InputError: no run at a fixed batch size knows its noise scale.
    """
    for batch_size in sorted(found.batch_sizes, key=lambda b: abs(math.log(b / b_crit))):
        mine = [run for run in runs if run.schedule == f"B = {batch_size:,}"]
        factor, first = noise_factor(mine, b_crit), first_noise(mine)
        if factor is not None and first is not None:
            return factor, factor * first
    raise InputError(where, ["no run resolves a gradient noise scale, so nothing can follow it; larger batches may"])


def _rates(b_crit: float, found: Tuned) -> list[float]:
    """The exchange rates of `SPREAD` whose mean batch size is one that was tuned for."""
    sizes = [(share * b_crit, math.sqrt(share) * b_crit) for share in SPREAD]
    inside = [r for r, b in sizes if found.batch_sizes[0] <= b <= found.batch_sizes[-1]]
    return inside or [b_crit]


def _by_noise(r: float, found: Tuned, factor: float, first: float) -> ByNoise:
    low, high = found.batch_sizes[0], found.batch_sizes[-1]
    return ByNoise(r, low, high, first=round(min(max(math.sqrt(r * first), low), high)), factor=factor)


def _steps_at(batch_size: float, found: Tuned, curve: Frontier) -> float:
    within = min(max(batch_size, found.batch_sizes[0]), found.batch_sizes[-1])
    return float(curve.hyperbola.steps(within))


def _farther(steps: float) -> int:
    return math.ceil(_FARTHER * steps) + 10


def _clipped(one: ScheduleResult, runs: Sequence[Trained], low: int, high: int) -> float | None:
    """The share of the evaluations at which a batch size that follows the noise stood at an end of its range."""
    sizes = [b for run in runs if run.schedule == one.schedule for b in run.batch_sizes if b is not None]
    if one.kind != "noise" or not sizes:
        return None
    return sum(b <= low or b >= high for b in sizes) / len(sizes)


__all__ = ["SPREAD", "Options", "Watch", "adaptive"]
