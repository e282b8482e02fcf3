"""The learning rate at a step: the one owner of the schedules' formulas."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Final

from search_spaces.dimensions import Value

DECAYED: Final[dict[str, Callable[[float], float]]] = {
    "linear": lambda time: time,
    "cosine": lambda time: (1.0 - math.cos(math.pi * time)) / 2.0,
}
"""The share of the whole decay that is done after a share `time` of the decay steps; both in [0, 1].

`linear` is that of Shallue et al. 2018, `cosine` that of Loshchilov and Hutter 2016 (SGDR) without restarts.
"""


def learning_rate(hyperparameters: Mapping[str, Value], step: int) -> float:
    """The learning rate of the update that follows `step` updates; the first update has step 0.

        lr(t) = lr (1 - (1 - end_factor) d(min(t / decay_steps, 1)))

    with d from `DECAYED`: `linear` falls on a straight line and `cosine` on half a wave, from lr at t = 0 to
    end_factor lr at t = decay_steps, where both stay. `constant` never falls.

    Args:
        hyperparameters: `lr`, `schedule` (constant where missing), and unless that is constant `end_factor` and
            `decay_steps` (optimizer updates).
        step: optimizer updates made before this one.

    Returns:
        The learning rate.

    Raises:
        ValueError: there is no such schedule.
    """
    lr = float(hyperparameters["lr"])
    schedule = str(hyperparameters.get("schedule", "constant"))
    if schedule == "constant":
        return lr
    if schedule not in DECAYED:
        raise ValueError(f"there is no schedule {schedule!r}; choose one of constant, {', '.join(DECAYED)}")
    decay_steps = float(hyperparameters["decay_steps"])
    time = 1.0 if step >= decay_steps else step / decay_steps
    return lr * (1.0 - (1.0 - float(hyperparameters["end_factor"])) * DECAYED[schedule](time))
