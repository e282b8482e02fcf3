"""The pilot of an experiment: two small experiments, run as any other, and the study that follows from them.

The *search* is for the learning rate alone, at one batch size, and re-runs the best one on fresh seeds with its
gradient noise probed. The *timing* makes some updates at each batch size that its noise suggests: which these are is
known only when the search has ended, so it is a run of its own, inside the folder of the first.
"""

import math
import os
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

import torch

from bcrit.analysis.questions.pilot import Pilot, Proposal
from bcrit.analysis.questions.pilot.runs import measured, spent, timings
from bcrit.analysis.questions.pilot.study import (
    Clock,
    Curve,
    LrBox,
    cost,
    grid,
    hint,
    hint_of_steps,
    lr_box,
    momentum_slack,
    proposed_data,
)
from bcrit.analysis.run import Run
from bcrit.search_spaces.dimensions import Box, Choice, Fixed, Log, Value
from bcrit.search_spaces.experiment import Experiment
from bcrit.search_spaces.load import parse_experiment
from bcrit.search_spaces.outcome import Outcome
from bcrit.search_spaces.problems import InputError
from bcrit.search_spaces.space import Point, SearchSpace, hyperparameter
from bcrit.search_spaces.tables import MEASUREMENTS
from bcrit.tuner.check_model import why_no_scale
from bcrit.tuner.protocol.protocol import protocol_of
from bcrit.tuner.trainable import Worker
from bcrit.tuner.training.settings import evaluation_steps
from bcrit.tuner.workloads.function import TrainingFunction
from bcrit.tuner.workloads.protocol import Workload, our_loop, says, unfit
from bcrit.tuner.workloads.registry import is_function, load_training

_SHARE: Final = 8  # the pilot's batch is at most an eighth of the training set; chosen: far from the whole of it
_MOMENTUM: Final = 0.9  # what is trained with where nobody tunes it (Goyal et al. 2017, He et al. 2015)
_APART: Final = 8.0  # the factor between batch sizes whose steps hint at b_crit: the knee is then most likely inside
_PER_DECADE: Final = 2  # noise scales in each factor ten of steps; chosen: a mean along the run weighs late ones most
# Learning rates that are searched: so many, and so many more in each factor ten of the box. On digits (three decades,
# six seeds) the rate found took 71 steps in the median over fresh seeds with these 10, 75 with 8, 69 with 12; the best
# rate of all takes 60.
_RATES: Final = 4
_RATES_A_DECADE: Final = 2
# Updates that are timed at each batch size; and as many of the pilot's batches more, in examples, because the updates
# of small batches are short. Chosen, not studied.
_TIMED: Final = 16


@dataclass(frozen=True)
class Plan:
    """A pilot that was looked over."""

    given: Experiment  # the user's, checked
    data: Mapping[str, Any]  # what it was read from, which the proposal keeps but for what it changes
    where: str  # its file, for messages
    workload: Workload | TrainingFunction
    point: Point  # at which the pilot trains, but for the learning rate
    no_noise: str  # that gradient noise cannot be measured, and why; empty where it can
    search: Experiment  # what is run first
    batch_size: int  # of the search, or the middle one of several

    def fits(self, batch_size: int) -> bool:
        """Whether the workload can make batches of this size, and local batches divide them."""
        local = self.given.space.root.get("local_batch_size")
        if isinstance(local, Fixed) and batch_size > int(local.value) and batch_size % int(local.value):
            return False
        return unfit(self.workload, batch_size) is None


def plan(
    experiment: Experiment,
    data: Mapping[str, Any],
    where: str,
    batch_size: int | None,
    n_seeds: int,
    several: bool | None = None,
) -> Plan:
    """Look a checked experiment over; that there is not one learning rate to look for is an InputError.

    `batch_size` None = the middle of the experiment's; the best rate is re-run on `n_seeds` seeds. `several` runs at
    smaller and larger batch sizes too, so that their steps hint at b_crit; None = where gradient noise cannot.
    """
    if "lr" not in experiment.space.root:
        rule = "a pilot looks for one learning rate, which must stand in 'space' itself"
        options = any(hyperparameter(address) == "lr" for address in experiment.space.addresses)
        why = "'lr' stands under the options of a choice; fix the choice" if options else "'space' has no 'lr'; add it"
        raise InputError(where, [f"'space': {rule}, but {why}"])
    name = experiment.workload.name
    workload = load_training(name, experiment.workload.options)
    at = batch_size or middle(experiment.batch_sizes, workload.n_examples)
    space, why = experiment.space_at(at), "it computes its updates itself"
    if our_loop(workload):
        why = why_no_scale(workload, experiment, "choose the batch sizes by hand") or ""
    point, lr = pilot_point(space), _rates(space)
    sizes = around(experiment.batch_sizes, at) if (bool(why) if several is None else several) else [at]
    trials = 1
    if isinstance(lr, Box):
        trials = _RATES + math.ceil(_RATES_A_DECADE * math.log10(lr.high / lr.low) - 1e-9)
    probes = {**experiment.probes.model_dump(), "per_decade": _PER_DECADE}
    search = {
        **small(experiment, "pilot", space, {**point, "lr": lr}),
        "batch_sizes": sizes,
        "boundary": {"max_rounds": 0, "margin": 1 / max(_RATES, trials)},  # as far as the rates lie apart
        # A number, so that the pilot does not depend on how many workers there are.
        "search": {"trials": trials, "start": math.ceil(trials / 2), "parallel_per_study": experiment.search.at_once},
        "confirm": {
            "points": 1,
            "seeds": 1 if says(workload, "deterministic") else n_seeds,
            "horizon": experiment.confirm.horizon,
        },
        "probes": {**probes, "measure": () if why else ("noise_scale",)},
    }
    no_noise = f"The gradient noise of '{name}' cannot be measured: {why}" if why else ""
    return Plan(experiment, data, where, workload, point, no_noise, parse_experiment(search, where), at)


def read(of: Plan, run: Run) -> Pilot:
    """What the search has found, without a proposal; that no rate trains is an InputError."""
    space = of.given.space_at(of.batch_size)
    searched = {a for a, axis in space.axes.items() if not (isinstance(axis, Choice) and len(axis.options) == 1)}
    names = {hyperparameter(address) for address in searched} - {"lr"}
    chosen = {name: value for name, value in of.point.items() if name in names}
    found = measured(run, of.where, of.workload.n_examples, chosen, of.no_noise, of.batch_size)
    lies = hint(found.simple, found.noise, of.batch_size)
    if lies.value is None:
        lies = hint_of_steps(run.fit, of.search.batch_sizes, of.batch_size)
    sizes = grid(lies, found.n_examples, of.fits, of.batch_size)
    return Pilot(run.location, found, lies, sizes, None, spent(run))


def timing(of: Plan, found: Pilot) -> Experiment:
    """What is run next: some updates at each batch size of the grid, at the rate that the box has in its middle."""
    box, at = _box(of, found), of.batch_size
    rule = of.given.centre.rule if box is None else box.rule
    # A function or program chooses its evaluations, and tells the time at these alone.
    steps = max(_TIMED, 3 * found.measured.evaluate_every) if isinstance(of.workload, TrainingFunction) else _TIMED
    data = {
        **small(of.given, "pilot-timing", of.given.space, {**of.point, "lr": Fixed(value=found.measured.lr)}),
        "batch_sizes": found.grid.batch_sizes,
        "centre": {"rule": rule, "batch_size": at},
        "budget": {"steps": steps, "examples": _TIMED * at},
        **ONE_TRIAL,
        "resolution": 0.5,  # nobody looks at what is measured
    }
    return parse_experiment(data, of.where)


def proposed(of: Plan, found: Pilot, timed: Run, workers: int | None) -> Pilot:
    """The whole, by what both runs say; `workers` None: as many as `bcrit tune` would use on this machine."""
    facts, box, experiment = found.measured, _box(of, found), of.given
    assert facts.steps is not None, "what is not reached cannot be proposed"
    curve, measured_times = Curve(facts.steps, of.batch_size, found.hint), timings(timed)
    data = proposed_data(of.data, found.grid.batch_sizes, box, curve.budget())
    # A function's file need not name its optimizer.
    study = parse_experiment({"optimizer": experiment.optimizer, **data}, "the proposed experiment")
    clock = Clock(
        timings={one.batch_size: one for one in measured_times},
        evaluate_seconds=facts.evaluate_seconds,
        evaluations=lambda n: sum(1 for _ in evaluation_steps(max(1, round(n)), experiment.resolution)),
        beside_seconds=facts.beside_seconds,
        workers=min(workers or _room(experiment), experiment.search.at_once * len(found.grid.batch_sizes)),
    )
    proposal = Proposal(data, study, box, measured_times, cost(study, curve, clock))
    return replace(found, proposal=proposal, spent=found.spent.plus(spent(timed)))


def middle(batch_sizes: Sequence[int], n_examples: int | None) -> int:
    """The batch size nearest to their geometric middle, of those that are at most an eighth of the training set.

    The smallest where all are larger; `n_examples` None = unlimited.

    Example:
        >>> middle([4, 8, 16, 32, 64], n_examples=None), middle([4, 8, 16, 32, 64], n_examples=100)
        (16, 8)
    """
    wanted = math.sqrt(batch_sizes[0] * batch_sizes[-1])
    small = [b for b in batch_sizes if n_examples is None or b * _SHARE <= n_examples] or batch_sizes[:1]
    return min(small, key=lambda b: (round(abs(math.log(b / wanted)), 9), b))


def around(batch_sizes: Sequence[int], at: int) -> list[int]:
    """One of the batch sizes, and those nearest to a factor 8 below and above it.

    Example:
        >>> around([2, 4, 8, 16, 32, 64, 128, 256], at=16), around([8, 64], at=8)
        ([2, 16, 128], [8, 64])
    """
    near = (min(batch_sizes, key=lambda b: abs(math.log(b / wanted))) for wanted in (at / _APART, at, at * _APART))
    return sorted({at, *near})


def pilot_point(space: SearchSpace) -> Point:
    """Everything but the learning rate: momentum 0.9, a constant schedule, else the middle of each box.

    Middle means in the scaled coordinate. Momentum is clipped to its box, and where the schedule cannot be constant it
    is the option in the middle, as for other choices.
    """
    units = dict.fromkeys(space.axes, 0.5)
    schedule, momentum = space.axes.get("schedule"), space.root.get("momentum")
    if isinstance(schedule, Choice) and "constant" in schedule.options:
        units["schedule"] = schedule.to_unit("constant")
    point = space.from_unit(units)
    return point if not isinstance(momentum, Box) else {**point, "momentum": momentum.clip(_MOMENTUM)}


def _rates(space: SearchSpace) -> Log | Fixed:
    """The learning rate's box, on a logarithmic scale whatever the experiment has."""
    lr = space.root["lr"]
    if isinstance(lr, Fixed):
        return lr
    assert isinstance(lr, Box)  # `check_experiment`: a learning rate is a number
    return Log(**lr.model_dump(exclude={"scale"}))


ONE_TRIAL: Final = {
    "search": {"protocol": "random", "trials": 1, "max_draws": 1, "parallel_per_study": 1, "stopping": "full"},
    "confirm": {"seeds": 0},
    "probes": {},
}
"""What an experiment searches that makes one trial at each batch size."""


def small(
    experiment: Experiment, name: str, space: SearchSpace, at: Mapping[str, Value | Log | Fixed]
) -> dict[str, Any]:
    """The experiment's data with everything in the space held at a value, but what is given a dimension."""
    held: dict[str, Any] = {}
    for key, dimension in space.root.items():
        value = at[key]
        if isinstance(dimension, Choice):
            held[key] = Choice(options={str(value): {n: Fixed(value=at[n]) for n in dimension.options[str(value)]}})
        else:
            held[key] = value if isinstance(value, Log | Fixed) else Fixed(value=value)
    small = {
        "name": f"{experiment.name[:80]}-{name}",
        "space": SearchSpace.model_construct(root=held).model_dump(mode="json", exclude_none=True),
        "centre": {},
    }
    return {**experiment.to_dict(), **small}


def _box(of: Plan, found: Pilot) -> LrBox | None:
    """The box to propose; None where the experiment fixes the learning rate."""
    experiment, lr = of.given, of.given.space.root["lr"]
    if not isinstance(lr, Box):
        return None
    momentum = of.point.get("momentum", 0.0)
    used = float(momentum) if isinstance(momentum, int | float) else 0.0
    slack = momentum_slack(experiment.optimizer, experiment.space.root.get("momentum"), used)
    scale, sizes = found.hint.middle, found.grid.batch_sizes
    return lr_box(found.measured.lr, of.batch_size, scale, experiment.optimizer, sizes, lr, slack)


def _room(experiment: Experiment) -> int:
    """Trials that fit onto this machine."""
    slots = int((os.cpu_count() or 1) / experiment.resources.cpus)
    if experiment.resources.gpus:
        slots = min(slots, int(torch.cuda.device_count() / experiment.resources.gpus))
    return max(1, slots)


_EVALUATIONS = 2  # after the start: the second tells the time of an update without what the first had to get ready


@dataclass(frozen=True)
class Glance:
    """What the beginning of a trial showed."""

    batch_size: int
    budget_steps: int  # optimizer updates of a search trial
    evaluate_every: int | None  # updates between the last two of these evaluations
    step_seconds: float | None  # of an update; with evaluation where a function or program does not tell it apart
    start_seconds: float | None  # to the first evaluation
    memory: int | None  # bytes that it held at most
    metrics: dict[str, float]  # of the last evaluation
    problem: str | None  # why there are no two evaluations; None where there are


def glance(experiment: Experiment, batch_size: int, waiting: Callable[[float], None] = lambda seconds: None) -> Glance:
    """Train to the second evaluation at the middle of the space: two updates, or what a function or program makes.

    Whatever the training code does wrong comes back as the `problem`, in the words of a trial's outcome. Up to the
    first evaluation, `waiting` is told again and again for how long there was none.
    """
    space = experiment.space_at(batch_size)
    data = {**small(experiment, "check", space, pilot_point(space)), **ONE_TRIAL, "batch_sizes": [batch_size]}
    alone = parse_experiment(data, "check")
    proposal = protocol_of(alone).next_trial({}, ())
    assert proposal is not None, "an experiment has a first trial"
    worker = Worker.__new__(Worker)  # Tune's own beginning looks for Ray
    worker.setup({}, alone.to_dict(), os.getcwd(), is_function(alone.workload.name))
    seen: list[tuple[int, float]] = []  # step, seconds in training by then
    metrics: dict[str, float] = {}
    waited = ending = None
    problem = worker.step()["problem"]
    began = time.perf_counter()
    if problem is None:
        worker.offer(proposal, 0.1)
    while problem is None and ending is None:
        said = worker.step()
        if not seen:
            waiting(time.perf_counter() - began)
        problem, ending = said.get("died"), said.get("ending")
        for row in said.get("rows", ()):
            if sum(step > 0 for step, _ in seen) >= _EVALUATIONS:
                break  # the trial went on until it was told
            waited = time.perf_counter() - began if waited is None else waited
            seen.append((row["step"], row["train_seconds"]))
            metrics = {name: row[name] for name in MEASUREMENTS.beside(row)}
        if sum(step > 0 for step, _ in seen) >= _EVALUATIONS:
            worker.lower(proposal.trial_id, 0)
    worker.cleanup()
    if ending is not None and (ending.outcome is Outcome.DIVERGED or ending.outcome.broken or len(seen) < 2):
        problem = f"{ending.outcome}: {ending.message or ending.outcome.sentence}"
    every = pace = None
    if len(seen) > 1:
        (earlier, since), (step, seconds) = seen[-2:]
        every, pace = step - earlier, (seconds - since) / (step - earlier)
    memory, budget = None if ending is None else ending.memory, experiment.budget.max_steps(batch_size)
    return Glance(batch_size, budget, every, pace, waited, memory, metrics, problem)
