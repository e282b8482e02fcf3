"""Multivariate TPE (Optuna), in the coordinates of `tuner.protocol.coordinates`.

The Optuna study is built anew for every proposal, from the finished trials, with the boxes as they are now: nothing
needs saving, and widening a box keeps all earlier trials as evidence.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Mapping, Sequence
from typing import Any

import optuna
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution
from optuna.exceptions import ExperimentalWarning

from search_spaces.dimensions import Box, Choice, Fixed
from search_spaces.space import Point, SearchSpace, hyperparameter
from search_spaces.target import Target
from tuner.protocol.coordinates import couples, shift
from tuner.protocol.proposal import TrialRecord
from tuner.protocol.response import response

# Draws from TPE until one lies inside the box; the box is a parallelogram in TPE's coordinates. Chosen, not studied.
_DRAWS = 8


def tpe_point(space: SearchSpace, optimizer: str, known: Sequence[TrialRecord], target: Target, seed: int) -> Point:
    """Propose the next point of one study.

    Args:
        space: the study's search space as it is now.
        optimizer: whether lr and momentum belong together depends on it.
        known: finished search trials of the study.
        target: what they should have reached.
        seed: of the sampler.

    Returns:
        A point inside the space.
    """
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ExperimentalWarning)
        sampler = optuna.samplers.TPESampler(multivariate=True, group=True, n_startup_trials=1, seed=seed)
    study = optuna.create_study(sampler=sampler)
    coupled = couples(space, optimizer)
    for record in known:
        if space.contains(record.point):
            study.add_trial(
                optuna.trial.create_trial(
                    params=_coordinates(space, record.point, coupled),
                    distributions=_distributions(space, record.point, coupled),
                    value=response(record, target),
                )
            )
    for _ in range(_DRAWS):
        point = _ask(space, study.ask(), coupled)
        if space.contains(point):
            return point
    return space.clip(point)


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
