"""The pilot of an experiment: a learning rate found, gradient noise measured at it, and the study that follows."""

from __future__ import annotations

import math
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal

from bcrit.analysis.questions.pilot.answer import Measured, Pilot, Proposal, Spent, Tried
from bcrit.analysis.questions.pilot.noise import run_noise
from bcrit.analysis.questions.pilot.study import (
    Clock,
    Curve,
    Grid,
    Hint,
    cost,
    grid,
    hint,
    lr_box,
    momentum_slack,
    proposed_data,
)
from bcrit.search_spaces.dimensions import Box
from bcrit.search_spaces.experiment import Experiment
from bcrit.search_spaces.load import parse_experiment
from bcrit.search_spaces.options import Probes
from bcrit.search_spaces.outcome import Stage
from bcrit.search_spaces.problems import InputError
from bcrit.tuner.pilot.bench import Bench, prepare
from bcrit.tuner.pilot.point import between, described, ladder
from bcrit.tuner.pilot.race import race, winner
from bcrit.tuner.pilot.seeds import Runs, run_seeds
from bcrit.tuner.pilot.timing import Timed, time_steps, workers
from bcrit.tuner.protocol.protocol import trial_seed
from bcrit.tuner.training.evaluation import evaluation_steps

Watch = Callable[[str], None]
"""Called with a line whenever something is done."""

SEEDS = 5
"""On digits five seeds knew the mean of B_simple to a factor 1.3 to 1.6 (95 %), three to 1.3 to 3.6."""

_PER_DECADE = 2  # noise scales in each factor ten of steps; chosen: their mean along the run weighs late ones most


def pilot(
    experiment: Experiment,
    data: Mapping[str, Any],
    where: str,
    batch_size: int | None = None,
    n_seeds: int = SEEDS,
    watch: Watch = lambda line: None,
) -> Pilot:
    """Run the pilot of an experiment in this process; nothing is written.

    Args:
        experiment: checked.
        data: what it was read from, which the proposal keeps but for what it changes.
        where: its file, for messages.
        batch_size: of the pilot; None = the middle of the experiment's.
        n_seeds: runs with the noise scale.
        watch: told of the progress.

    Returns:
        What was measured, and the proposal where the target was reached. A workload without gradient noise that could
        be measured, or a space in which no learning rate trains, is an InputError.
    """
    bench, begun = prepare(experiment, where, batch_size), time.perf_counter()
    tried, best = _find_rate(bench, where, watch)
    probes = Probes(measure=("noise_scale",), examples=experiment.probes.examples, per_decade=_PER_DECADE)
    horizon = max(bench.horizon, math.ceil(experiment.confirm.horizon * (best.steps_to_target or 0)))
    runs = run_seeds(bench.workload, bench.settings(best.lr, 0, probes), experiment, n_seeds, horizon, watch)
    measured = _measured(bench, tried, best, runs)
    around = hint(measured.simple, measured.noise, bench.batch_size)
    sizes = grid(around, measured.n_examples, bench.fits, bench.batch_size)
    timed, proposal = Timed((), 0, 0), None
    if measured.steps is not None:
        watch(f"timing updates at {len(sizes.batch_sizes)} batch sizes")
        timed = time_steps(bench.workload, bench.settings(best.lr, 0), sizes.batch_sizes)
        proposal = _propose(bench, measured, measured.steps, around, sizes, timed, data)
    steps = sum(one.steps for one in tried) + sum(ending.steps for ending in runs.endings)
    spent = Spent(
        steps=steps + timed.steps,
        examples=steps * bench.batch_size + timed.examples,
        seconds=time.perf_counter() - begun,
        probe_seconds=sum(ending.probe_seconds or 0.0 for ending in runs.endings),
    )
    return Pilot(measured, around, sizes, proposal, spent)


def _find_rate(bench: Bench, where: str, watch: Watch) -> tuple[tuple[Tried, ...], Tried]:
    """The ladder, then half a rung on both sides of its best.

    Raises:
        InputError: no rate trains.
    """
    experiment, seed = bench.experiment, trial_seed(bench.experiment.seed, Stage.SEARCH, 0)
    rates = ladder(experiment.space_at(bench.batch_size))
    watch(f"batch size {bench.batch_size:,}: {len(rates)} learning rates from {rates[0]:g} to {rates[-1]:g}")

    def begin(lr: float) -> Callable[[], Any]:
        return lambda: bench.workload.begin(bench.settings(lr, seed))

    tried = race(begin, rates, experiment.target, bench.horizon, experiment.resolution)
    best = winner(tried, experiment.target)
    if best is None:
        why = next((one.message for one in tried if one.message), "no reason is known")
        rule = f"no learning rate from {rates[0]:g} to {rates[-1]:g} trains at batch size {bench.batch_size:,}"
        raise InputError(where, [f"'space.lr': {rule}: {why}; move the box"])
    if best.steps_to_target is not None:
        near = between(best.lr, rates)
        tried += race(begin, near, experiment.target, best.steps_to_target, experiment.resolution)
        best = winner(tried, experiment.target) or best
    took = "target not reached" if best.steps_to_target is None else f"{best.steps_to_target:,} steps to the target"
    watch(f"best learning rate {best.lr:.3g}: {took}")
    return tried, best


def _measured(bench: Bench, tried: tuple[Tried, ...], best: Tried, runs: Runs) -> Measured:
    experiment = bench.experiment
    median = statistics.median(math.inf if steps is None else steps for steps in runs.crossings)
    found = run_noise(runs.rows, experiment, bench.batch_size, len(runs.endings))
    return Measured(
        target=str(experiment.target),
        unit=experiment.unit,
        n_examples=bench.workload.n_examples,
        batch_size=bench.batch_size,
        chosen=described(experiment.space, bench.point),
        tried=tried,
        lr=best.lr,
        edge=_edge(best.lr, [one.lr for one in tried]),
        steps=median if math.isfinite(median) else None,
        steps_each=runs.crossings,
        scales=found.scales,
        simple=found.simple,
        noise=found.noise,
        temperature=found.temperature,
        evaluate_seconds=sum(ending.evaluate_seconds for ending in runs.endings) / max(1, runs.evaluations),
    )


def _propose(
    bench: Bench,
    measured: Measured,
    steps: float,
    around: Hint,
    sizes: Grid,
    timed: Timed,
    data: Mapping[str, Any],
) -> Proposal:
    experiment, lr, box = bench.experiment, bench.experiment.space.root["lr"], None
    if isinstance(lr, Box):
        slack = momentum_slack(experiment.optimizer, experiment.space.root.get("momentum"), bench.momentum)
        scale, at = around.middle, bench.batch_size
        box = lr_box(measured.lr, at, scale, experiment.optimizer, sizes.batch_sizes, lr, slack)
    curve = Curve(steps, bench.batch_size, around)
    given = proposed_data(data, sizes.batch_sizes, box, curve.budget())
    proposed = parse_experiment(given, "the proposed experiment")
    clock = Clock(
        timings={timing.batch_size: timing for timing in timed.timings},
        evaluate_seconds=measured.evaluate_seconds,
        evaluations=lambda n: sum(1 for _ in evaluation_steps(max(1, round(n)), experiment.resolution)),
        workers=workers(experiment, len(sizes.batch_sizes), bench.gpus),
    )
    return Proposal(given, proposed, box, proposed.budget, timed.timings, cost(proposed, curve, clock))


def _edge(lr: float, rates: Sequence[float]) -> Literal["low", "high"] | None:
    if len(rates) < 2 or min(rates) < lr < max(rates):
        return None
    return "low" if lr == min(rates) else "high"


__all__ = ["SEEDS", "Watch", "pilot"]
