"""The weights of a network: trained once, then read from the run folder's `checkpoints`."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import nn

from bcrit.analysis.records.run_folder import RunFolder
from bcrit.search_spaces.experiment import Experiment
from bcrit.search_spaces.presets import AVERAGED
from bcrit.tuner.landscape import checkpoint
from bcrit.tuner.landscape.measure import finite
from bcrit.tuner.landscape.wanted import Wanted
from bcrit.tuner.training.settings import Settings
from bcrit.tuner.training.supervised import SupervisedRun
from bcrit.tuner.training.trial import Ending, Limits, Trial
from bcrit.tuner.workloads.protocol import OpenWorkload

_REPORT_SECONDS = 5.0  # between two signs of life of a long training run

Curve = tuple[tuple[int, float], ...]
"""(step, value) of the target's metric, in order of steps."""


@dataclass(frozen=True)
class Trained:
    """A network at the end of its training.

    Attributes:
        model: the network that the target speaks of (the average, where the target is a metric of averaged weights), in
            evaluation mode.
        checkpoint: its file in the run folder.
        outcome: how training ended.
        message: why, where the outcome alone does not say it.
        steps: optimizer updates made.
        n_weights: weights that train.
        curve: of the target's metric.
        metrics: all of the workload's, of these weights; None where one is not finite.
        weight_distance: |w - w_0|.
        weight_norm: |w|.
        read: whether the weights were read rather than trained.
    """

    model: nn.Module
    checkpoint: str
    outcome: str
    message: str | None
    steps: int
    n_weights: int
    curve: Curve
    metrics: Mapping[str, float | None]
    weight_distance: float
    weight_norm: float
    read: bool

    @property
    def whole(self) -> bool:
        """Whether all its weights are numbers."""
        return math.isfinite(self.weight_norm)


def trained(
    wanted: Wanted,
    workload: OpenWorkload,
    experiment: Experiment,
    folder: RunFolder,
    alive: Callable[[int], None] = lambda step: None,
) -> Trained:
    """Have a network: from its checkpoint if there is one of the same settings, else by training it and keeping it.

    Args:
        wanted: which.
        workload: what is trained.
        experiment: target, resolution, and what names the workload.
        folder: the run folder.
        alive: called now and then with the step of a training run.

    Returns:
        The network.
    """
    facts = checkpoint.facts_to_target(wanted.settings, experiment, wanted.max_steps)
    path, key = checkpoint.path_of(wanted.name), checkpoint.key_of(facts)
    fresh = begun_plainly(wanted.settings, workload)
    stored = checkpoint.read(folder, path, key, fresh.model)
    read = stored is not None
    if stored is None:
        stored = checkpoint.write(folder, path, key, _train(wanted, workload, experiment, alive))
    start = flat(fresh.model)
    fresh.model.load_state_dict(stored["weights"])
    end = flat(fresh.model)
    metrics = {name: value for name, value in fresh.evaluate().items() if not name.endswith(AVERAGED)}
    return Trained(
        model=fresh.model.eval(),
        checkpoint=path,
        outcome=stored["outcome"],
        message=stored["message"],
        steps=stored["steps"],
        n_weights=len(end),
        curve=tuple((step, value) for step, value in stored["curve"]),
        metrics={name: finite(value) for name, value in metrics.items()},
        weight_distance=float((end - start).norm()),
        weight_norm=float(end.norm()),
        read=read,
    )


def last_value(curve: Curve) -> float | None:
    """The metric at the end; None where it is no number."""
    return curve[-1][1] if curve and math.isfinite(curve[-1][1]) else None


def difference(made: Curve, recorded: Curve) -> float:
    """The largest relative difference of two curves over the steps that both have; infinite where there is none.

    Equal curves differ by 0, NaN at the same step included.
    """
    theirs, gaps = dict(recorded), []
    for step, value in made:
        if step in theirs:
            other = theirs[step]
            same = value == other or (math.isnan(value) and math.isnan(other))
            gaps.append(0.0 if same else abs(value - other) / max(abs(other), 1e-300))
    return max((math.inf if math.isnan(gap) else gap for gap in gaps), default=math.inf)


_PLAIN = {"compile": False}  # the network that weights are put into is never trained


def begun_plainly(settings: Settings, workload: OpenWorkload) -> SupervisedRun:
    """A run to put weights into: nothing is compiled for it."""
    return workload.begin(replace(settings, execution=settings.execution.model_copy(update=_PLAIN)))


def _train(
    wanted: Wanted, workload: OpenWorkload, experiment: Experiment, alive: Callable[[int], None]
) -> dict[str, Any]:
    begun: list[SupervisedRun] = []

    def begin() -> SupervisedRun:
        begun.append(workload.begin(wanted.settings))
        return begun[0]

    limits = Limits(wanted.max_steps, False, (), experiment.resolution)
    trial = Trial(begin, experiment.target, limits)
    curve: list[tuple[int, float]] = []
    while trial.ending is None:
        curve += [(m.step, m.metrics[experiment.target.metric]) for m in trial.advance(_REPORT_SECONDS)]
        if trial.ending is None and curve:
            alive(curve[-1][0])
    ending: Ending = trial.ending
    if not begun:
        raise ValueError(f"the training run cannot be begun here: {ending.message}")
    run = begun[0]
    average = run.average if experiment.target.metric.endswith(AVERAGED) else None
    model = run.model if average is None else average
    return {
        "weights": checkpoint.weights_of(model),
        "outcome": ending.outcome.value,
        "message": ending.message,
        "steps": ending.steps,
        "curve": [[step, value] for step, value in curve],
    }


def flat(model: nn.Module) -> torch.Tensor:
    """The weights that train, end to end, float64 on the host."""
    return torch.cat([p.detach().cpu().double().reshape(-1) for p in model.parameters() if p.requires_grad])


__all__ = ["Curve", "Trained", "begun_plainly", "difference", "flat", "last_value", "trained"]
