"""The point at which a pilot trains: learning rates on a ladder, everything else at one sensible value."""

from __future__ import annotations

import math
from typing import Final

from bcrit.search_spaces.dimensions import Box, Choice, Fixed
from bcrit.search_spaces.experiment import Experiment
from bcrit.search_spaces.outcome import Stage
from bcrit.search_spaces.space import Point, SearchSpace, hyperparameter
from bcrit.tuner.protocol.proposal import Proposal, trial_name

_MOMENTUM: Final = 0.9  # what is trained with where nobody tunes it (Goyal et al. 2017, He et al. 2015)
_A_STEP: Final = 10 ** (1 / 3)  # between learning rates of the ladder; chosen: three a decade
_MOST_DECADES: Final = 6.0  # of a linear box that reaches to 0; chosen, not studied


def pilot_point(space: SearchSpace) -> Point:
    """Everything but the learning rate: momentum 0.9, a constant schedule, else the middle of each box.

    Middle means in the scaled coordinate. Momentum is clipped to its box, and where the schedule cannot be constant it
    is the option in the middle, as for other choices.

    Args:
        space: of the experiment.

    Returns:
        A point of the space.
    """
    units = dict.fromkeys(space.axes, 0.5)
    if "schedule" in space.axes:
        options = getattr(space.axes["schedule"], "options", ())
        if "constant" in options:
            units["schedule"] = (list(options).index("constant") + 0.5) / len(options)
    momentum = space.root.get("momentum")
    point = space.from_unit(units)
    return point if not isinstance(momentum, Box) else {**point, "momentum": momentum.clip(_MOMENTUM)}


def described(space: SearchSpace, point: Point) -> dict[str, float | int | str | bool]:
    """What of the point was chosen by us: searched in the experiment, and not the learning rate."""
    searched = {a for a, axis in space.axes.items() if not (isinstance(axis, Choice) and len(axis.options) == 1)}
    names = {hyperparameter(address) for address in searched} - {"lr"}
    return {name: value for name, value in point.items() if name in names}


def ladder(space: SearchSpace) -> tuple[float, ...]:
    """Learning rates over the experiment's box, evenly in the logarithm, both ends included.

    Args:
        space: at the pilot's batch size.

    Returns:
        Rising; one where the experiment fixes it.
    """
    lr = space.root["lr"]
    if isinstance(lr, Fixed):
        return (float(lr.value),)
    assert isinstance(lr, Box)  # `check_experiment`: a learning rate is a number
    low = lr.low if lr.low > 0 else lr.high / 10**_MOST_DECADES
    n = 1 + max(1, math.ceil(math.log(lr.high / low) / math.log(_A_STEP) - 1e-9))
    return tuple(lr.clip(low * (lr.high / low) ** (k / (n - 1))) for k in range(n))


def between(lr: float, rates: tuple[float, ...]) -> tuple[float, ...]:
    """Half a rung below and above a learning rate of the ladder, inside it."""
    if len(rates) < 2:
        return ()
    half = math.sqrt(rates[1] / rates[0])
    return tuple(rate for rate in (lr / half, lr * half) if rates[0] <= rate <= rates[-1])


def hyperparameters(experiment: Experiment, batch_size: int, point: Point) -> Point:
    """The point with the lengths of its schedule in optimizer updates."""
    budget = experiment.budget.max_steps(batch_size)
    name = trial_name(batch_size, Stage.SEARCH, 0)
    return Proposal(name, batch_size, Stage.SEARCH, 0, 0, None, 0, point, budget, budget).hyperparameters


__all__ = ["between", "described", "hyperparameters", "ladder", "pilot_point"]
