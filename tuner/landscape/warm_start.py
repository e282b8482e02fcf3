"""Large-batch training from the iterates of a small-batch run (Keskar et al. 2016, section 4, Figure 5)."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

from torch import nn

from bcrit.analysis.questions.landscape.result import Kind, WarmStarts, WarmState
from bcrit.analysis.records.run_folder import RunFolder
from bcrit.search_spaces.experiment import Experiment
from bcrit.search_spaces.target import Direction
from bcrit.tuner.landscape import checkpoint
from bcrit.tuner.landscape.measure import Options, Rows, finite, sharpness_alone
from bcrit.tuner.landscape.trained import begun_plainly, flat
from bcrit.tuner.landscape.wanted import Wanted
from bcrit.tuner.training.settings import Settings
from bcrit.tuner.training.supervised import SupervisedRun
from bcrit.tuner.workloads.protocol import OpenWorkload


@dataclass(frozen=True)
class Bench:
    """What everything here is trained and measured with.

    Attributes:
        workload: what is trained.
        experiment: of the run.
        folder: where weights are kept.
        rows: what losses and sharpness are measured on.
        options: how.
    """

    workload: OpenWorkload
    experiment: Experiment
    folder: RunFolder
    rows: Rows
    options: Options


def warm_starts(networks: tuple[Wanted, ...], bench: Bench, watch: Callable[[str], None]) -> WarmStarts | None:
    """Train the small batch, keep some iterates, and go on from each with the large batch.

    The small batch trains for the budget of a search trial with the hyperparameters of its winner, also beyond the
    target, and so does the large batch from every iterate: with its own winner's hyperparameters and, as in the paper,
    with those of the small batch. A budget of 100 epochs is the paper's. Optimizer state, schedule and data order begin
    afresh. Iterate 0 is the initialisation, so its large-batch runs are ordinary ones of full length.

    Args:
        networks: of the run, as `winners` names them.
        bench: what they are trained and measured with.
        watch: told of the progress.

    Returns:
        What was measured; None where the networks are all of one batch size.
    """
    smallest, largest = networks[0].settings.batch_size, networks[-1].settings.batch_size
    if smallest == largest:
        return None
    options, experiment, workload = bench.options, bench.experiment, bench.workload
    small = [n for n in networks if n.tuned and n.settings.batch_size == smallest]
    large = [n for n in networks if n.settings.batch_size == largest]
    per_step = workload.rows(smallest)
    n = workload.n_examples or len(bench.rows.train[0])
    whole, length = (experiment.budget.max_steps(size) for size in (smallest, largest))
    starts = iterates(whole, n // per_step, options.warm_starts)
    states: list[WarmState] = []
    for wanted in small:
        others = [other for other in large if other.number == wanted.number]
        for steps, start in _small(wanted.settings, starts, bench):
            watch(f"warm starts, seed {wanted.number + 1}: {steps:,} updates of batch size {smallest:,}")
            states.append(_state(bench, wanted.settings, start, ("small", wanted.number, steps, 0)))
            for other in others if _whole(start["weights"]) else []:
                kind: Kind = "tuned" if other.tuned else "un-tuned"
                ended = _large(kind, other.settings, steps, start, length, bench)
                states.append(_state(bench, other.settings, ended, (kind, wanted.number, steps, ended["steps"])))
                watch(f"  then {ended['steps']:,} of batch size {largest:,}, {kind}")
    return WarmStarts(
        small=smallest,
        large=largest,
        small_examples_a_step=per_step,
        large_epochs=length * workload.rows(largest) / n,
        n_training_set=n,
        eps=max(options.eps),
        metric=compared_by(workload),
        states=tuple(states),
    )


def compared_by(workload: OpenWorkload) -> str:
    """The first metric that is maximised, as an accuracy is (what Keskar et al. 2016 compare), else the first."""
    rising = (name for name, way in workload.metrics.items() if Direction(way) is Direction.MAXIMIZE)
    return next(rising, next(iter(workload.metrics)))


def iterates(whole: int, epoch: int, count: int) -> list[int]:
    """After how many updates of the small batch the large one starts: 0, and from an epoch to the end in equal factors.

    The paper keeps the iterate of every epoch; what changes early needs the fine steps, and few of them are enough
    later. Where the run is short its first iterate comes before an epoch, so that the factors are 2 at least.

    Args:
        whole: updates of the whole run.
        epoch: updates of an epoch.
        count: how many iterates there are, 2 at least; fewer where the run has not as many updates.

    Returns:
        Rising, from 0 to `whole`.
    """
    first = max(1, min(epoch, whole >> (count - 2)))
    factors = [(whole / first) ** (i / max(1, count - 2)) for i in range(count - 1)]
    return sorted({0, *(round(first * factor) for factor in factors[:-1] if count > 2), whole})


def _small(settings: Settings, starts: list[int], bench: Bench) -> Iterator[tuple[int, dict[str, Any]]]:
    """The iterates of the small batch: updates made, and what is kept of each."""
    run: SupervisedRun | None = None
    names = [f"b{settings.batch_size:07d}-warm-{settings.seed:010d}-{steps:09d}" for steps in starts]
    facts = checkpoint.run_facts(settings, bench.experiment)
    blank = begun_plainly(settings, bench.workload)
    at = 0
    for name, steps in zip(names, starts, strict=True):
        key = checkpoint.key_of({**facts, "updates": steps})
        stored = checkpoint.read(bench.folder, checkpoint.path_of(name), key, blank.model)
        if stored is None:
            run = run or bench.workload.begin(settings)
            run.train(steps - at)
            at = steps
            metrics = _metrics(run, bench.workload)
            found = {"weights": checkpoint.weights_of(run.model), "steps": steps, "last": metrics, "best": metrics}
            stored = checkpoint.write(bench.folder, checkpoint.path_of(name), key, found)
        yield steps, stored


def _large(
    kind: Kind, settings: Settings, small_steps: int, start: Mapping[str, Any], length: int, bench: Bench
) -> dict[str, Any]:
    """The end of a large-batch run from an iterate, evaluated after every epoch; a run whose metric is NaN ends."""
    workload = bench.workload
    name = f"b{settings.batch_size:07d}-warm-{kind}-{settings.seed:010d}-{small_steps:09d}"
    facts = {**checkpoint.run_facts(settings, bench.experiment), "start": start["key"], "updates": length}
    path, key = checkpoint.path_of(name), checkpoint.key_of(facts)
    stored = checkpoint.read(bench.folder, path, key, begun_plainly(settings, workload).model)
    if stored is not None:
        return stored
    run = workload.begin(replace(settings, start=start["weights"]))
    epoch = max(1, (workload.n_examples or 0) // workload.rows(settings.batch_size))
    last = _metrics(run, workload)
    best, steps = last, 0
    while steps < length and not any(math.isnan(value) for value in last.values()):
        more = min(epoch, length - steps)
        run.train(more)
        steps += more
        last = _metrics(run, workload)
        best = {name: _better(workload, name, best[name], value) for name, value in last.items()}
    found = {"weights": checkpoint.weights_of(run.model), "steps": steps, "last": last, "best": best}
    return checkpoint.write(bench.folder, path, key, found)


def _metrics(run: SupervisedRun, workload: OpenWorkload) -> dict[str, float]:
    """Those whose direction is known, of the weights themselves and not of an average."""
    return {name: float(value) for name, value in run.evaluate().items() if name in workload.metrics}


def _better(workload: OpenWorkload, name: str, one: float, other: float) -> float:
    return other if math.isnan(one) or Direction(workload.metrics[name]).better(other, one) else one


def _state(bench: Bench, settings: Settings, stored: Mapping[str, Any], place: tuple[Kind, int, int, int]) -> WarmState:
    """Measure weights."""
    fresh = begun_plainly(settings, bench.workload)
    start = flat(fresh.model)
    model: nn.Module = fresh.model
    model.load_state_dict(stored["weights"])
    distance = float((flat(model) - start).norm())
    measured: dict[str, Any] = (
        sharpness_alone(model.eval(), bench.workload, bench.rows, bench.options, bench.experiment.seed)
        if math.isfinite(distance)
        else {"problem": "its weights are not finite"}
    )
    kind, number, small_steps, large_steps = place
    return WarmState(
        kind=kind,
        number=number,
        small_steps=small_steps,
        large_steps=large_steps,
        last=_finite(stored["last"]),
        best=_finite(stored["best"]),
        train_loss=measured.get("train_loss"),
        sharpness=measured.get("sharpness"),
        weight_distance=finite(distance),
        problem=measured.get("problem"),
    )


def _finite(metrics: Mapping[str, float]) -> dict[str, float | None]:
    return {name: finite(value) for name, value in metrics.items()}


def _whole(weights: checkpoint.Weights) -> bool:
    return all(bool(weight.isfinite().all()) for weight in weights.values() if weight.is_floating_point())


__all__ = ["Bench", "compared_by", "iterates", "warm_starts"]
