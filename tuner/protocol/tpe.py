"""Multivariate TPE (Optuna), in coordinates where steps-to-target is simple: log(lr/(1 - momentum)) for log(lr).

At small batch sizes only the effective learning rate lr/(1 - momentum) matters, which makes a diagonal valley in
(lr, momentum) and a straight one here. On the noisy quadratic model the change halved TPE's error at 100 trials. It
holds for optimizers whose velocity is a sum (`has_effective_lr`), and only for them.

One Optuna study serves all proposals from one box: finished trials are added to it as they may be known, and what a
proposal draws is told to it as failed, which its sampler passes over. So nothing but the finished trials decides, as if
the study were built anew each time. A box that is widened begins another Optuna study, with all earlier trials.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Mapping
from typing import Any

import optuna
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution
from optuna.exceptions import ExperimentalWarning
from optuna.trial import TrialState

from bcrit.search_spaces.dimensions import Box, Choice, Fixed, Log, ReverseLog
from bcrit.search_spaces.presets import has_effective_lr
from bcrit.search_spaces.space import Point, SearchSpace, hyperparameter
from bcrit.search_spaces.target import Target
from bcrit.tuner.protocol.proposal import TrialRecord, response

# Draws from TPE until one lies inside the box; the box is a parallelogram in TPE's coordinates. Chosen, not studied.
_DRAWS = 8


def couples(space: SearchSpace, optimizer: str) -> bool:
    """Whether lr and momentum are both searched, on the scales on which the change of coordinates is a shift."""
    searched = isinstance(space.root.get("lr"), Log) and isinstance(space.root.get("momentum"), ReverseLog)
    return searched and has_effective_lr(optimizer)


def shift(address: str, point: Mapping[str, Any], coupled: bool) -> float:
    """Scaled coordinate of an axis minus its search coordinate: log(1 - momentum) for a coupled lr, else 0."""
    return math.log1p(-float(point["momentum"])) if address == "lr" and coupled else 0.0


class TpeStudy:
    """Optuna's view of one study in one box."""

    def __init__(self, space: SearchSpace, optimizer: str, target: Target) -> None:
        optuna.logging.set_verbosity(optuna.logging.ERROR)
        self.space, self.n_known = space, 0
        self._target, self._coupled = target, couples(space, optimizer)
        self._study = optuna.create_study(sampler=_sampler(0))

    def add(self, record: TrialRecord) -> None:
        """One more finished search trial may be known; in order of their numbers."""
        self.n_known += 1
        if self.space.contains(record.point):
            self._study.add_trial(
                optuna.trial.create_trial(
                    params=_coordinates(self.space, record.point, self._coupled),
                    distributions=_distributions(self.space, record.point, self._coupled),
                    value=response(record, self._target),
                )
            )

    def point(self, seed: int) -> Point:
        """The next point of the study, inside the space."""
        self._study.sampler = _sampler(seed)
        drawn = []
        try:
            for _ in range(_DRAWS):
                drawn.append(self._study.ask())
                point = _ask(self.space, drawn[-1], self._coupled)
                if self.space.contains(point):
                    return point
            return self.space.clip(point)
        finally:
            for trial in drawn:
                self._study.tell(trial, state=TrialState.FAIL)


def _sampler(seed: int) -> optuna.samplers.TPESampler:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ExperimentalWarning)
        return optuna.samplers.TPESampler(multivariate=True, group=True, n_startup_trials=1, seed=seed)


def _ask(space: SearchSpace, trial: optuna.Trial, coupled: bool) -> Point:
    """Let TPE choose a value for every axis that exists, the options of choices first."""
    point: Point = {}
    for name, choice in space.root.items():
        if isinstance(choice, Choice):
            point[name] = trial.suggest_categorical(name, list(choice.options))
    for address, dimension in space.active(point).items():
        if isinstance(dimension, Fixed):
            point[hyperparameter(address)] = dimension.value
    boxes = {address: box for address, box in space.active(point).items() if isinstance(box, Box)}
    for address in sorted(boxes, key=lambda a: a == "lr"):  # lr last: it is derived from lr/(1 - momentum)
        low, high = _range(space, address, boxes[address], coupled)
        coordinate = trial.suggest_float(address, low, high)
        point[hyperparameter(address)] = boxes[address].unscaled(coordinate + shift(address, point, coupled))
    return point


def _coordinates(space: SearchSpace, point: Mapping[str, Any], coupled: bool) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for address, dimension in space.active(point).items():
        value = point[hyperparameter(address)]
        if isinstance(dimension, Box):
            low, high = _range(space, address, dimension, coupled)
            found[address] = min(max(dimension.scaled(value) - shift(address, point, coupled), low), high)
        elif isinstance(dimension, Choice):
            found[address] = value
    return found


def _distributions(space: SearchSpace, point: Mapping[str, Any], coupled: bool) -> dict[str, BaseDistribution]:
    found: dict[str, BaseDistribution] = {}
    for address, dimension in space.active(point).items():
        if isinstance(dimension, Box):
            found[address] = FloatDistribution(*_range(space, address, dimension, coupled))
        elif isinstance(dimension, Choice):
            found[address] = CategoricalDistribution(list(dimension.options))
    return found


def _range(space: SearchSpace, address: str, box: Box, coupled: bool) -> tuple[float, float]:
    """The interval of TPE's coordinate: the box's, or its extent along lr/(1 - momentum)."""
    low, high = sorted(box.ends)
    if address == "lr" and coupled:
        momentum = space.box("momentum")
        return low - math.log1p(-momentum.low), high - math.log1p(-momentum.high)
    return low, high
