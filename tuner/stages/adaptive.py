"""Batch sizes that change along a run, and fixed ones beside them: one rule for the learning rate, the same seeds."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch

from bcrit.analysis.curve import fit_hyperbola
from bcrit.analysis.optimum.coordinates import as_whole, whole_names
from bcrit.analysis.questions.adaptive.measure import FEWEST, fixed_frontier, measure
from bcrit.analysis.questions.adaptive.result import (
    Adaptive,
    ScheduleResult,
    Trained,
    first_noise,
    noise_factor,
    thinned,
)
from bcrit.analysis.records.arrow_tables import to_arrow
from bcrit.analysis.records.run_folder import RunFolder
from bcrit.analysis.run import point_of
from bcrit.analysis.studies import steps_to_target
from bcrit.search_spaces.experiment import Experiment
from bcrit.search_spaces.outcome import STUDY, Stage
from bcrit.search_spaces.presets import EXTRAPOLATED, has_effective_lr
from bcrit.search_spaces.problems import InputError
from bcrit.search_spaces.tables import STEPS_TO_TARGET, TRIALS
from bcrit.tuner.check_model import built
from bcrit.tuner.protocol.proposal import Proposal, blank, retraining
from bcrit.tuner.session import Train
from bcrit.tuner.stages import Watch, curves_of, trials_of
from bcrit.tuner.training.batch_schedule import BatchPlan, ByNoise, Fixed, Ramp, Schedule, TunedRates
from bcrit.tuner.training.micro_batches import smallest_piece
from bcrit.tuner.training.settings import Settings
from bcrit.tuner.workloads.function import TrainingFunction
from bcrit.tuner.workloads.protocol import OpenWorkload, Workload, gives_model, our_loop, says, unfit
from bcrit.tuner.workloads.registry import workload_of_run

STAGES = (Stage.ADAPTIVE,)
"""What is trained here."""

SPREAD = (1 / 16, 1 / 4, 1.0, 4.0, 16.0)
"""r over b_crit unless it is given. At a constant noise scale r = B^2 / b_crit, so these stand for b_crit / 4 to
4 b_crit, between which the frontier bends."""

_FARTHER = 4  # times the steps of the fixed batch size in the middle, after which a run has failed; chosen
_STREAM = 1812  # second word of the seed: a stream that nothing else draws from
_MOST_POINTS = 60  # evaluations that are stored of a run; chosen: enough for its curves and integrals


@dataclass(frozen=True)
class Options:
    """What is trained; a value that is impossible is a ValueError."""

    exchange_rates: tuple[float, ...] = ()  # r of the schedules that follow the noise; empty = by `SPREAD`
    ramps: tuple[Ramp, ...] = ()  # stages of batch sizes
    seeds: int = 5  # of every schedule

    def __post_init__(self) -> None:
        if self.seeds < 1:
            raise ValueError(f"'seeds' must be at least 1, but it is {self.seeds}; 5, say")
        if wrong := [r for r in self.exchange_rates if not 0 < r < math.inf]:
            given = ", ".join(map(str, wrong))
            raise ValueError(f"exchange rates must be positive, unlike {given}; they count examples a step")
        names = [*map(_name, self.exchange_rates), *map(_name, self.ramps)]
        if again := sorted({name for name in names if names.count(name) > 1}):
            raise ValueError(
                f"every schedule must have a name of its own, but there are several '{again[0]}'; keep one"
            )


def _name(schedule: float | Schedule) -> str:
    """Of an exchange rate, to three digits, a fixed batch size or a ramp."""
    if isinstance(schedule, Fixed):
        return f"B = {schedule.batch_size:,}"
    if isinstance(schedule, Ramp):
        return "ramp " + ", ".join(f"{start}:{b}" for start, b in schedule.stages)
    return f"r = {schedule.exchange_rate if isinstance(schedule, ByNoise) else schedule:.3g}"


@dataclass(frozen=True)
class _Wanted:
    """One schedule to train on every seed."""

    schedule: Schedule
    max_steps: int
    answer: ScheduleResult  # its name and kind; what it needed is measured later


def adaptive(folder: RunFolder, options: Options, train: Train, watch: Watch = lambda line: None) -> Adaptive:
    """Train and measure: the same every time, from the experiment's seed.

    `train` brings trials into the folder. A run that cannot be trained again here, studies that do not do, a ramp with
    an impossible batch size, and fixed batch sizes that give no frontier are an InputError.
    """
    bench = prepare(folder, options.ramps, options.seeds)
    experiment, found = bench.experiment, bench.found
    low, high = found.batch_sizes[0], found.batch_sizes[-1]
    fixed = [_wanted(Fixed(b), steps) for b, steps in zip(found.batch_sizes, found.steps, strict=True)]
    runs = bench.runs(fixed, train, watch)
    curve = fixed_frontier({one.answer.batch_size or 1: one.answer.schedule for one in fixed}, runs)
    if curve is None:
        raise InputError(str(folder), [_NO_FRONTIER])
    b_crit = curve.hyperbola.b_crit
    factor, first = _calibrated(runs, found, b_crit, str(folder))
    others = []
    for r in options.exchange_rates or _rates(b_crit, found):
        at = min(max(math.sqrt(r * b_crit), low), high)  # what it is at a constant noise scale
        start = round(min(max(math.sqrt(r * first), low), high))
        schedule = ByNoise(r, low, high, first=start, factor=factor)
        others.append(_wanted(schedule, float(curve.hyperbola.steps(at))))
    others += [_wanted(ramp, max(found.steps)) for ramp in options.ramps]
    runs += bench.runs(others, train, watch)
    measured = measure([one.answer for one in (*fixed, *others)], runs, factor)
    assert measured is not None  # its frontier is `curve`
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
        device=torch.cuda.get_device_name() if experiment.resources.gpus and torch.cuda.is_available() else "cpu",
        torch=torch.__version__,
        notes=found.notes,
    )


_NO_FRONTIER = (
    "the fixed batch sizes give no frontier: fewer than three reached the target on every seed, or they show no s_min "
    "or no e_min; choose batch sizes on both sides of b_crit"
)


def _wanted(schedule: Schedule, steps: float) -> _Wanted:
    """A schedule, which a fixed batch size in its middle needs so many steps for."""
    kind: Any = {Fixed: "fixed", ByNoise: "noise", Ramp: "ramp"}[type(schedule)]
    batch_size = schedule.batch_size if isinstance(schedule, Fixed) else None
    rate = schedule.exchange_rate if isinstance(schedule, ByNoise) else None
    answer = ScheduleResult(_name(schedule), kind, batch_size, rate, 0, 0, None, None)
    return _Wanted(schedule, math.ceil(_FARTHER * steps) + 10, answer)


def _calibrated(runs: Sequence[Trained], found: Tuned, b_crit: float, where: str) -> tuple[float, float]:
    """The factor on the noise scale, and the noise scale that runs begin with, factor included.

    That no run at a fixed batch size knows its noise scale is an InputError.
    """
    for batch_size in sorted(found.batch_sizes, key=lambda b: abs(math.log(b / b_crit))):
        mine = [run for run in runs if run.schedule == _name(Fixed(batch_size))]
        factor, first = noise_factor(mine, b_crit), first_noise(mine)
        if factor is not None and first is not None:
            return factor, factor * first
    raise InputError(where, ["no run resolves a gradient noise scale, so nothing can follow it; larger batches may"])


def _rates(b_crit: float, found: Tuned) -> list[float]:
    """The exchange rates of `SPREAD` whose mean batch size is one that was tuned for."""
    sizes = [(share * b_crit, math.sqrt(share) * b_crit) for share in SPREAD]
    inside = [r for r, b in sizes if found.batch_sizes[0] <= b <= found.batch_sizes[-1]]
    return inside or [b_crit]


def _clipped(one: ScheduleResult, runs: Sequence[Trained], low: int, high: int) -> float | None:
    """The share of the evaluations at which a batch size that follows the noise stood at an end of its range."""
    sizes = [b for run in runs if run.schedule == one.schedule for b in run.batch_sizes if b is not None]
    if one.kind != "noise" or not sizes:
        return None
    return sum(b <= low or b >= high for b in sizes) / len(sizes)


@dataclass(frozen=True)
class Bench:
    """What all runs share."""

    folder: RunFolder
    experiment: Experiment
    found: Tuned  # what the studies tuned
    micro_batch: int | None  # examples in a micro-batch; None where the noise is known exactly
    seeds: Sequence[int]  # of every schedule
    deterministic: bool  # whether every seed would give the same curve

    def runs(self, schedules: Sequence[_Wanted], train: Train, watch: Watch) -> list[Trained]:
        """The runs of some schedules, in their order and that of the seeds; a line for every schedule."""
        proposals = {one.answer.schedule: self.proposals(one.schedule, one.max_steps) for one in schedules}
        train([proposal for own in proposals.values() for proposal in own])
        made = _read(self.folder, proposals)
        for name in proposals:
            mine = [run for run in made if run.schedule == name]
            reached = [run.steps for run in mine if run.steps is not None]
            said = f"{name}: {len(reached)} of {len(mine)} reached the target"
            if reached:
                said += f", {min(reached):,} to {max(reached):,} steps"
            why = next((run.message for run in mine if run.steps is None and run.message is not None), None)
            watch(said if why is None else f"{said} ({why})")
        return made

    def proposals(self, schedule: Schedule, max_steps: int) -> list[Proposal]:
        """The runs of a schedule, by seed."""
        found = self.found
        batch_size = schedule.batch_size if isinstance(schedule, Fixed) else found.middle
        plan = BatchPlan(schedule, TunedRates(found.batch_sizes, found.rates), self.micro_batch)
        own = blank(self.experiment, batch_size, Stage.ADAPTIVE, number=0, round=0)
        own = replace(own, point={**found.kept, "lr": found.rates[0]}, max_steps=max_steps, batches=plan)
        return [retraining(replace(own, number=number, seed=seed)) for number, seed in enumerate(self.seeds)]


def _read(folder: RunFolder, proposals: Mapping[str, Sequence[Proposal]]) -> list[Trained]:
    """What the trials were, and what their updates were made with along the way."""
    names = {proposal.trial_id for own in proposals.values() for proposal in own}
    trials = trials_of(folder, names)
    traces = curves_of(folder, ["examples", "update_batch_size", "running_noise_scale"], names)
    found = []
    for schedule, own in proposals.items():
        for proposal in own:
            trial, trace = trials[proposal.trial_id], traces[proposal.trial_id]
            steps = trial["steps_to_target"]
            kept = [trace[place] for place in thinned(len(trace), _MOST_POINTS)] if trace else []
            found.append(
                Trained(
                    schedule=schedule,
                    number=proposal.number,
                    seed=proposal.seed,
                    outcome=trial["outcome"],
                    message=trial["message"],
                    steps=steps,
                    examples=None if steps is None else next(row["examples"] for row in trace if row["step"] == steps),
                    at_steps=tuple(row["step"] for row in kept),
                    at_examples=tuple(row["examples"] for row in kept),
                    batch_sizes=tuple(row["update_batch_size"] for row in kept),
                    noise_scales=tuple(row["running_noise_scale"] for row in kept),
                )
            )
    return found


def prepare(folder: RunFolder, ramps: Sequence[Ramp], seeds: int) -> Bench:
    """Read what the runs share, and refuse (an InputError) what cannot be trained before hours are spent."""
    experiment, where = folder.read_experiment(), str(folder)
    workload = _workload(experiment, where)
    found = tuned([t for t in folder.read(TRIALS).to_pylist() if t["stage"] in STUDY], experiment, where)
    if problems := _impossible(workload, ramps):
        raise InputError("--ramp", problems)
    micro_batch = _micro_batch(workload, experiment, found, where) if gives_model(workload) else None
    deterministic = says(workload, "deterministic")
    drawn = np.random.default_rng((experiment.seed, _STREAM)).integers(2**31, size=1 if deterministic else seeds)
    return Bench(folder, experiment, found, micro_batch, [int(seed) for seed in drawn], deterministic)


def _workload(experiment: Experiment, where: str) -> Workload:
    """What the run trained; where its batch size cannot change, an InputError."""
    name, workload = experiment.workload.name, workload_of_run(experiment, where)
    if (n := max(kind.ranks for kind in experiment.kinds)) > 1 and our_loop(workload):
        rule = "batch sizes change along a run of one process only"
        raise InputError(where, [f"{rule}, but its trials have {n} (resources); run the experiment with one"])
    if isinstance(workload, TrainingFunction) or not says(workload, "batch_plan"):
        rule = "batch sizes change along a run in our own loop only: that of a SupervisedWorkload, and noisy_quadratic"
        raise InputError(where, [f"{rule}, but '{name}' is neither; tuner.training.batch_schedule has the parts"])
    return workload


def _impossible(workload: Workload, ramps: Sequence[Ramp]) -> list[str]:
    """The batch sizes of ramps that the workload cannot make."""
    problems = []
    for batch_size in sorted({size for ramp in ramps for _, size in ramp.stages}):
        if workload.n_examples is not None and batch_size > workload.n_examples:
            rule = f"every batch size must be at most the training set of {workload.n_examples} {workload.unit}"
            problems.append(f"{rule}, but one is {batch_size}; choose a smaller one")
        elif why := unfit(workload, batch_size):
            problems.append(why)
    return problems


def _micro_batch(workload: OpenWorkload, experiment: Experiment, found: Tuned, where: str) -> int:
    """Half of the smallest batch size, so that all have two; whole ghost batches.

    A model or loss that mixes the examples of a batch is an InputError.
    """
    point = {**found.kept, "lr": found.rates[0]}
    settings = Settings(found.middle, 0, experiment.optimizer, point, experiment.execution)
    least = smallest_piece(built(workload, settings)) if workload.divisible else None
    if least is None:
        rule = "the noise scale is measured between micro-batches, whose examples must not influence the others'"
        why = "batch normalisation does; set 'ghost_batch_size', or take a model without"
        raise InputError(where, [f"{rule}, but here they do: {why if workload.divisible else 'its loss mixes them'}"])
    item = found.middle / workload.rows(found.middle)
    half = max(1, workload.rows(found.batch_sizes[0]) // 2)
    return round(max(least, half // least * least) * item)


@dataclass(frozen=True)
class Tuned:
    """What the studies found."""

    batch_sizes: tuple[int, ...]  # of the confirmed studies, rising
    rates: tuple[float, ...]  # learning rate at each
    steps: tuple[float, ...]  # to the target at each
    kept: Mapping[str, Any]  # the other hyperparameters
    kept_from: int  # batch size of the study that they are of: the one nearest to b_crit
    notes: tuple[str, ...]  # what to know, a sentence each

    @property
    def middle(self) -> int:
        """The batch size in the middle."""
        return self.batch_sizes[len(self.batch_sizes) // 2]


def tuned(trials: Sequence[Mapping[str, Any]], experiment: Experiment, where: str) -> Tuned:
    """Read the winners of a run, from the rows of its trials table.

    Where momentum differs between the studies, what is carried over from each is lr / (1 - momentum), at the momentum
    that is kept (Shallue et al. 2018 find that it is what matters), if the optimizer's velocity is a sum; else lr.

    Too few studies that are confirmed, and winners that cannot train with batch sizes that change, are an InputError.
    """
    frame = to_arrow(TRIALS, trials).to_pandas()
    studies = steps_to_target(frame, experiment)
    good = studies[(studies["source"] == Stage.CONFIRM) & studies["steps"].notna()].sort_values("batch_size")
    if len(good) < FEWEST:
        rule = f"a frontier needs {FEWEST} batch sizes whose winner was run again on fresh seeds and reached the target"
        raise InputError(where, [f"{rule}, but there are {len(good)}; `confirm` in an experiment asks for re-runs"])
    whole = whole_names(frame, experiment)
    rows = {int(row["batch_size"]): row for row in good.to_dict("records")}
    points = {b: as_whole(point_of(row, STEPS_TO_TARGET.names), whole) for b, row in rows.items()}
    _refuse(points, experiment.optimizer, where)
    b_crit = fit_hyperbola(good).b_crit
    middle = min(points, key=lambda b: abs(math.log(b / b_crit)) if 0 < b_crit < math.inf else b)
    kept = {name: value for name, value in points[middle].items() if name != "lr"}
    summed = has_effective_lr(experiment.optimizer)

    def rate(point: Mapping[str, Any]) -> float:
        same = not summed or "momentum" not in point or point["momentum"] == kept["momentum"]
        left = 1.0 if same else (1.0 - float(kept["momentum"])) / (1.0 - float(point["momentum"]))
        return float(point["lr"]) * left

    rates = tuple(map(rate, points.values()))
    notes = []
    others = {name for point in points.values() for name in point if point[name] != points[middle].get(name)} - {"lr"}
    if others:
        carried = " (the learning rates keep lr / (1 - momentum))" if summed and "momentum" in others else ""
        notes.append(
            f"The studies also differ in {', '.join(sorted(others))}; all runs here have what was tuned at batch size "
            f"{middle:,}{carried}, so that the fixed batch sizes are not tuned as well as in their studies."
        )
    return Tuned(tuple(points), rates, tuple(float(s) for s in good["steps"]), kept, middle, tuple(notes))


def _refuse(points: Mapping[int, Mapping[str, Any]], optimizer: str, where: str) -> None:
    """Refuse, by an InputError, what has no meaning where the batch size changes."""
    problems = []
    if optimizer in EXTRAPOLATED:
        problems.append(f"optimizer '{optimizer}' has a local batch size of its own; use {EXTRAPOLATED[optimizer]}")
    scheduled = [b for b, point in points.items() if str(point.get("schedule", "constant")) != "constant"]
    warmed = [b for b, point in points.items() if float(point.get("warmup_steps", 0)) > 0]
    for kind, sizes in (("a learning rate schedule", scheduled), ("a warm-up", warmed)):
        if sizes:
            problems.append(
                f"the winners at batch size {', '.join(map(str, sizes))} have {kind}, whose length in updates has no "
                "meaning where the batch size changes; tune with 'schedule: constant' and no warm-up"
            )
    averaged = sorted({name for point in points.values() for name in point if name.startswith("ema_")})
    if averaged:
        problems.append(f"averaged weights ({', '.join(averaged)}) belong to one batch size; tune without them")
    if any("lr" not in point for point in points.values()):
        problems.append("the winners have no learning rate 'lr', which must go with the batch size")
    if problems:
        raise InputError(where, problems)
