"""The scale of a hyperparameter of which nothing is known but its name and the values that were tried."""

from __future__ import annotations

import math
from typing import Final, Literal

from bcrit.search_spaces.presets import DOMAINS

Scale = Literal["log", "reverse_log", "linear"]

# They average over 1 / (1 - value) steps, which is what is searched (Shallue et al. 2018: REVERSE_LOG for momentum).
_AVERAGES: Final = ("momentum", "beta1", "beta2", "beta_1", "beta_2", "ema_decay")
# Positive values that span this factor were chosen on a logarithmic scale, as learning rates and weight decays are.
# Chosen, not studied.
_WIDE: Final = 10.0


def tried_scale(name: str, low: float, high: float) -> Scale:
    """Guess the scale in which equal distances between values matter equally.

    Momentum and the like are on the scale of log(1 - value), learning rates on that of log(value), other positive
    values on the latter when they span a factor of ten. Shares, whose natural domain is [0, 1], are linear, as is all
    else whose smallest and largest values another scale cannot tell apart.
    """
    if name in _AVERAGES and 0 <= low and high < 1 and math.log1p(-high) < math.log1p(-low):
        return "reverse_log"
    domain = DOMAINS.get(name)
    if low <= 0 or (domain is not None and domain.includes_high):
        return "linear"
    span = math.log(high) - math.log(low)
    return "log" if span > 0 and (name == "lr" or high / low >= _WIDE) else "linear"
