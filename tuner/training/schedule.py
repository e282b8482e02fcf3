"""The learning rate at a step: the one owner of the schedules' formulas."""

import math
from collections.abc import Callable, Mapping
from typing import Final

from bcrit.search_spaces.dimensions import Value

Parameters = Mapping[str, Value]


def _linear(steps: float, decay_steps: float, parameters: Parameters) -> float:
    """1 - (1 - end_factor) t, with t = steps / decay_steps (Shallue et al. 2018)."""
    return _towards(parameters, _time(steps, decay_steps))


def _cosine(steps: float, decay_steps: float, parameters: Parameters) -> float:
    """1 - (1 - end_factor) (1 - cos(pi t)) / 2 (Loshchilov and Hutter 2016, SGDR, without restarts)."""
    return _towards(parameters, (1.0 - math.cos(math.pi * _time(steps, decay_steps))) / 2.0)


def _wsd(steps: float, decay_steps: float, parameters: Parameters) -> float:
    """1 until t = stable_share, then on a straight line to end_factor at t = 1 (Haegele et al. 2024, "linear")."""
    stable = float(parameters["stable_share"])
    return _towards(parameters, max(0.0, (_time(steps, decay_steps) - stable) / (1.0 - stable)))


def _step(steps: float, decay_steps: float, parameters: Parameters) -> float:
    """drop_factor^k after k of `drops` drops: the first at first_drop decay_steps, the last at decay_steps.

    The others lie evenly between, each at the nearest whole update; a single drop is the last. With first_drop 1/2,
    three of them stand at 1/2, 3/4 and 1 (the boundaries of He et al. 2015 and, nearly, of Hoffer et al. 2017).
    """
    drops, first = int(parameters["drops"]), float(parameters["first_drop"])
    shares = (1.0 - (1.0 - first) * (drops - k) / max(1, drops - 1) for k in range(1, drops + 1))
    made = sum(steps >= round(share * decay_steps) for share in shares)
    return float(parameters["drop_factor"]) ** made


def _time(steps: float, decay_steps: float) -> float:
    """The share of the decay that is over, in [0, 1]."""
    return 1.0 if steps >= decay_steps else steps / decay_steps


def _towards(parameters: Parameters, done: float) -> float:
    return 1.0 - (1.0 - float(parameters["end_factor"])) * done


DECAYS: Final[dict[str, Callable[[float, float, Parameters], float]]] = {
    "linear": _linear,
    "cosine": _cosine,
    "step": _step,
    "wsd": _wsd,
}
"""By schedule, the rate's factor after `steps` of the `decay_steps` updates; all but `constant`."""


def learning_rate(hyperparameters: Parameters, step: int) -> float:
    """The learning rate of the update that follows `step` updates; the first update has step 0.

        lr(t) = lr (t + 1) / (warmup_steps + 1)              for t < warmup_steps
        lr(t) = lr f(t - warmup_steps, decay_steps)          from then on

    with f from `DECAYS`, which is 1 at 0 and stays where it is at decay_steps; `constant` never falls. A warm-up is
    thus `warmup_steps` updates below lr, the first of which already moves the weights (Goyal et al. 2017 begin above 0
    too), and a decay takes its full length after it.

    Raises:
        ValueError: there is no such schedule.
    """
    lr = float(hyperparameters["lr"])
    warmup = float(hyperparameters.get("warmup_steps", 0))
    schedule = str(hyperparameters.get("schedule", "constant"))
    if schedule != "constant" and schedule not in DECAYS:
        raise ValueError(f"there is no schedule {schedule!r}; choose one of constant, {', '.join(DECAYS)}")
    if step < warmup:
        return lr * (step + 1) / (warmup + 1)
    if schedule == "constant":
        return lr
    return lr * DECAYS[schedule](step - warmup, float(hyperparameters["decay_steps"]), hyperparameters)
