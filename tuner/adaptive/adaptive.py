"""Runs at fixed batch sizes and with schedules of them, with one rule for the learning rate and the same seeds."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch

from analysis.adaptive.frontier import Frontier, frontier
from analysis.adaptive.measure import measure
from analysis.adaptive.predicted import first_noise, noise_factor
from analysis.adaptive.result import Adaptive, Answer, Trained
from analysis.run_folder import RunFolder
from search_spaces.experiment import Experiment
from search_spaces.problems import InputError
from search_spaces.tables import TRIALS
from tuner.adaptive.training import Trainable, train
from tuner.adaptive.tuned import Tuned, tuned
from tuner.training.batch_schedule import BatchPlan, ByNoise, Fixed, Ramp, Schedule, TunedRates
from tuner.training.gpu import prepare_gpu
from tuner.training.micro_batches import smallest_piece
from tuner.training.settings import Settings
from tuner.workloads.noisy_quadratic import NoisyQuadratic
from tuner.workloads.registry import load_training
from tuner.workloads.supervised import SupervisedWorkload

Watch = Callable[[str], None]
"""Called with a line whenever something is done."""

SPREAD = (1 / 16, 1 / 4, 1.0, 4.0, 16.0)
"""r over b_crit unless it is given. At a constant noise scale r = B^2 / b_crit, so these stand for b_crit / 4 to
4 b_crit, between which the frontier bends."""

_FARTHER = 4  # times the steps of the fixed batch size in the middle, after which a run has failed; chosen
_STREAM = 1812  # second word of the seed: a stream that nothing else draws from


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


@dataclass
class _Bench:
    """What all runs share."""

    workload: Trainable
    experiment: Experiment
    found: Tuned
    settings: Settings
    micro_batch: int | None
    seeds: Sequence[int]
    watch: Watch

    def runs(self, name: str, schedule: Schedule, max_steps: int) -> list[Trained]:
        """The runs of one schedule, a line for all."""
        plan = BatchPlan(schedule, TunedRates(self.found.batch_sizes, self.found.rates), self.micro_batch)
        made = []
        for number, seed in enumerate(self.seeds):
            settings = replace(self.settings, seed=seed, batches=plan)
            made.append(train(self.workload, self.experiment, settings, name, number, max_steps))
        reached = [run.steps for run in made if run.steps is not None]
        said = f"{name}: {len(reached)} of {len(made)} reached the target"
        if reached:
            said += f", {min(reached):,} to {max(reached):,} steps"
        why = next((run.message for run in made if run.steps is None and run.message is not None), None)
        self.watch(said if why is None else f"{said} ({why})")
        return made


def adaptive(folder: RunFolder, options: Options, watch: Watch = lambda line: None) -> Adaptive:
    """Train and measure; nothing is written.

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
    experiment = folder.read_experiment()
    workload = _workload(experiment, str(folder))
    rows: list[dict[str, Any]] = folder.read(TRIALS).to_pylist()
    found = tuned(rows, experiment, str(folder))
    if problems := _impossible(workload, options.ramps):
        raise InputError("--ramp", problems)
    bench = _bench(folder, workload, experiment, found, options, watch)
    fixed = [Answer(f"B = {b:,}", "fixed", b, None, 0, 0, None, None) for b in found.batch_sizes]
    runs: list[Trained] = []
    for one, steps in zip(fixed, found.steps, strict=True):
        runs += bench.runs(one.schedule, Fixed(one.batch_size or 1), _farther(steps))
    curve = _frontier(fixed, runs, str(folder))
    b_crit = curve.hyperbola.b_crit
    factor, first = _calibrated(runs, found, b_crit, str(folder))
    others: list[Answer] = []
    for r in options.exchange_rates or _rates(b_crit, found):
        name, schedule = _name(r), _by_noise(r, found, bench, factor, first)
        others.append(Answer(name, "noise", None, r, 0, 0, None, None))
        runs += bench.runs(name, schedule, _farther(_steps_at(math.sqrt(r * b_crit), found, curve)))
    for ramp in options.ramps:
        name = _name(ramp)
        others.append(Answer(name, "ramp", None, None, 0, 0, None, None))
        runs += bench.runs(name, ramp, _farther(max(found.steps)))
    measured = measure([*fixed, *others], runs, factor)
    if measured is None:
        raise InputError(str(folder), [_NO_FRONTIER])
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
        deterministic=_is_deterministic(workload),
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
        device="cpu" if not bench.settings.gpus else torch.cuda.get_device_name(),
        torch=torch.__version__,
        notes=found.notes,
    )


_NO_FRONTIER = (
    "the fixed batch sizes give no frontier: fewer than three reached the target on every seed, or they show no s_min "
    "or no e_min; choose batch sizes on both sides of b_crit"
)


def _workload(experiment: Experiment, where: str) -> Trainable:
    """What the run trained, if its batch size can change.

    Raises:
        InputError: it cannot.
    """
    name = experiment.workload.name
    if experiment.imported is not None:
        raise InputError(where, ["an imported run describes trials of elsewhere, which cannot be trained again here"])
    try:
        workload = load_training(name, experiment.workload.options)
    except (Exception, SystemExit) as error:  # a user's module may raise anything
        raise InputError(where, [str(error)]) from error
    if not isinstance(workload, SupervisedWorkload | NoisyQuadratic):
        rule = "batch sizes change along a run in our own loop only: that of a SupervisedWorkload, and noisy_quadratic"
        raise InputError(where, [f"{rule}, but '{name}' is neither; tuner.training.batch_schedule has the parts"])
    return workload


def _impossible(workload: Trainable, ramps: Sequence[Ramp]) -> list[str]:
    """The batch sizes of ramps that the workload cannot make, before hours are spent on the others."""
    if isinstance(workload, NoisyQuadratic):
        return []
    problems = []
    for batch_size in sorted({size for ramp in ramps for _, size in ramp.stages}):
        if workload.n_examples is not None and batch_size > workload.n_examples:
            rule = f"every batch size must be at most the training set of {workload.n_examples} {workload.unit}"
            problems.append(f"{rule}, but one is {batch_size}; choose a smaller one")
            continue
        try:
            workload.rows(batch_size)
        except ValueError as error:
            problems.append(str(error))
    return problems


def _bench(
    folder: RunFolder, workload: Trainable, experiment: Experiment, found: Tuned, options: Options, watch: Watch
) -> _Bench:
    gpus = experiment.resources.gpus if torch.cuda.is_available() else 0.0
    torch.set_num_threads(max(1, int(experiment.resources.cpus)))  # as in its trials
    if gpus:
        prepare_gpu(gpus)
    execution = experiment.execution.model_copy(update={"compile": False})  # a size that changes is compiled anew
    middle = found.batch_sizes[len(found.batch_sizes) // 2]
    settings = Settings(middle, 0, experiment.optimizer, {**found.kept, "lr": found.rates[0]}, execution, gpus)
    seeds = 1 if _is_deterministic(workload) else options.seeds
    drawn = np.random.default_rng((experiment.seed, _STREAM)).integers(2**31, size=seeds)
    micro_batch = None if isinstance(workload, NoisyQuadratic) else _micro_batch(workload, settings, found, str(folder))
    return _Bench(workload, experiment, found, settings, micro_batch, [int(seed) for seed in drawn], watch)


def _micro_batch(workload: SupervisedWorkload, settings: Settings, found: Tuned, where: str) -> int:
    """Half of the smallest batch size, so that all have two; whole ghost batches.

    Raises:
        InputError: the model or its loss mixes the examples of a batch.
    """
    state = torch.get_rng_state()
    model = workload.model(settings)
    torch.set_rng_state(state)
    least = smallest_piece(model) if workload.divisible else None
    if least is None:
        rule = "the noise scale is measured between micro-batches, whose examples must not influence the others'"
        why = "batch normalisation does; set 'ghost_batch_size', or take a model without"
        raise InputError(where, [f"{rule}, but here they do: {why if workload.divisible else 'its loss mixes them'}"])
    item = settings.batch_size / workload.rows(settings.batch_size)
    half = max(1, workload.rows(found.batch_sizes[0]) // 2)
    return round(max(least, half // least * least) * item)


def _is_deterministic(workload: Trainable) -> bool:
    return isinstance(workload, NoisyQuadratic) and workload.evaluation_noise == workload.seed_noise == 0


def _frontier(fixed: Sequence[Answer], runs: Sequence[Trained], where: str) -> Frontier:
    reached: Mapping[int, list[float]] = {
        one.batch_size or 0: [float(r.steps or math.inf) for r in runs if r.schedule == one.schedule] for one in fixed
    }
    means = {b: float(np.exp(np.mean(np.log(s)))) for b, s in reached.items() if all(map(math.isfinite, s))}
    found = frontier(means)
    if found is None:
        raise InputError(where, [_NO_FRONTIER])
    return found


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


def _by_noise(r: float, found: Tuned, bench: _Bench, factor: float, first: float) -> ByNoise:
    low, high = found.batch_sizes[0], found.batch_sizes[-1]
    return ByNoise(r, low, high, first=round(min(max(math.sqrt(r * first), low), high)), factor=factor)


def _steps_at(batch_size: float, found: Tuned, curve: Frontier) -> float:
    within = min(max(batch_size, found.batch_sizes[0]), found.batch_sizes[-1])
    return float(curve.hyperbola.steps(within))


def _farther(steps: float) -> int:
    return math.ceil(_FARTHER * steps) + 10


def _clipped(one: Answer, runs: Sequence[Trained], low: int, high: int) -> float | None:
    """The share of the evaluations at which a batch size that follows the noise stood at an end of its range."""
    sizes = [b for run in runs if run.schedule == one.schedule for b in run.batch_sizes if b is not None]
    if one.kind != "noise" or not sizes:
        return None
    return sum(b <= low or b >= high for b in sizes) / len(sizes)


__all__ = ["SPREAD", "Options", "Watch", "adaptive"]
