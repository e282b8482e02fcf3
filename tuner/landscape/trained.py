"""The weights of a network: trained once, then read from the run folder's `checkpoints`."""

from __future__ import annotations

import hashlib
import io
import json
import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import nn

from analysis.run_folder import CHECKPOINTS, RunFolder
from search_spaces.experiment import Experiment
from search_spaces.presets import AVERAGED
from search_spaces.target import Direction
from tuner.landscape.wanted import Wanted
from tuner.training.supervised import SupervisedRun
from tuner.training.trial import Ending, Limits, Trial
from tuner.workloads.supervised import SupervisedWorkload

_FORMAT = 1
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
    weight_distance: float
    weight_norm: float
    read: bool

    @property
    def whole(self) -> bool:
        """Whether all its weights are numbers."""
        return math.isfinite(self.weight_norm)


def trained(
    wanted: Wanted,
    workload: SupervisedWorkload,
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
    name, key = f"{CHECKPOINTS}/{wanted.name}.pt", _key(wanted, experiment)
    fresh = workload.begin(replace(wanted.settings, execution=wanted.settings.execution.model_copy(update=_PLAIN)))
    stored = _read(folder, name, key, fresh)
    read = stored is not None
    if stored is None:
        stored = _train(wanted, workload, experiment, alive) | {"key": key}
        stored["sha256"] = _digest(stored)
        content = io.BytesIO()
        torch.save(stored, content)
        folder.write_bytes(name, content.getvalue())
    start = _flat(fresh.model)
    fresh.model.load_state_dict(stored["weights"])
    end = _flat(fresh.model)
    return Trained(
        model=fresh.model.eval(),
        checkpoint=name,
        outcome=stored["outcome"],
        message=stored["message"],
        steps=stored["steps"],
        n_weights=len(end),
        curve=tuple((step, value) for step, value in stored["curve"]),
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


def _key(wanted: Wanted, experiment: Experiment) -> str:
    """What a checkpoint is known again by: all that decides the training run, and where it ends."""
    settings = wanted.settings
    facts: dict[str, Any] = {
        "format": _FORMAT,
        "batch_size": settings.batch_size,
        "seed": settings.seed,
        "optimizer": settings.optimizer,
        "hyperparameters": dict(settings.hyperparameters),
        "execution": settings.execution.model_dump(mode="json"),
        "max_steps": wanted.max_steps,
        "workload": experiment.workload.model_dump(mode="json"),
        "target": str(experiment.target),
        "direction": Direction(experiment.target.direction).value,
        "threshold": experiment.target.threshold.hex(),
        "resolution": experiment.resolution,
    }
    return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()


def _digest(stored: dict[str, Any]) -> str:
    """Of all that a checkpoint holds; PyTorch's own check sums are not looked at when it is read."""
    facts = {name: value for name, value in stored.items() if name != "weights"}
    digest = hashlib.sha256(json.dumps(facts, sort_keys=True).encode())
    for name, weight in sorted(stored["weights"].items()):
        digest.update(f"{name} {weight.dtype} {tuple(weight.shape)}".encode())
        digest.update(weight.contiguous().reshape(-1).view(torch.uint8).numpy())
    return digest.hexdigest()


def _read(folder: RunFolder, name: str, key: str, fresh: SupervisedRun) -> dict[str, Any] | None:
    """The checkpoint; None where there is none, it is of other settings, damaged, or of another architecture."""
    if not folder.has(name):
        return None
    try:
        found: dict[str, Any] = torch.load(io.BytesIO(folder.read_bytes(name)), map_location="cpu", weights_only=True)
        shapes = {name: weight.shape for name, weight in found["weights"].items()}
        same = shapes == {name: weight.shape for name, weight in fresh.model.state_dict().items()}
        return found if same and found["key"] == key and found.pop("sha256") == _digest(found) else None
    except Exception:  # whatever a damaged file makes of the unpickler: the weights are made again
        return None


def _train(
    wanted: Wanted, workload: SupervisedWorkload, experiment: Experiment, alive: Callable[[int], None]
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
        "weights": {name: weight.detach().cpu().clone() for name, weight in model.state_dict().items()},
        "outcome": ending.outcome.value,
        "message": ending.message,
        "steps": ending.steps,
        "curve": [[step, value] for step, value in curve],
    }


def _flat(model: nn.Module) -> torch.Tensor:
    return torch.cat([p.detach().cpu().double().reshape(-1) for p in model.parameters() if p.requires_grad])


__all__ = ["Curve", "Trained", "difference", "last_value", "trained"]
