"""What is known of the named hyperparameters: their natural domains, which optimizer has them, and default boxes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True)
class Domain:
    """The values that a hyperparameter can have at all: (low, high], [low, high) and so on.

    Nothing lies beyond a natural domain, so an optimum on its edge is a finding and not a fault of the box.
    """

    low: float
    high: float
    includes_low: bool
    includes_high: bool

    def __str__(self) -> str:
        opening, closing = "[" if self.includes_low else "(", "]" if self.includes_high else ")"
        return f"{opening}{self.low:g}, {self.high:g}{closing}"

    def contains(self, value: float) -> bool:
        """Whether a value is possible."""
        above = value >= self.low if self.includes_low else value > self.low
        return above and (value <= self.high if self.includes_high else value < self.high)


DOMAINS: Final = {
    "lr": Domain(0.0, float("inf"), includes_low=False, includes_high=False),
    "momentum": Domain(0.0, 1.0, includes_low=True, includes_high=False),
    "end_factor": Domain(0.0, 1.0, includes_low=True, includes_high=True),
    "decay_fraction": Domain(0.0, float("inf"), includes_low=False, includes_high=False),
}

OPTIMIZERS: Final = {
    "sgd": ("lr",),
    "momentum": ("lr", "momentum"),
    "nesterov": ("lr", "momentum"),
}
"""The hyperparameters that each optimizer needs (names as in Shallue et al. 2018; `momentum` is the heavy ball)."""

SCHEDULES: Final = {
    "constant": {},
    # The end factor reaches down to 0 (a fixed 0.01 costs 4 to 110 % more steps) and the decay length is searched
    # freely as a share of the study's step budget: measured on the noisy quadratic model.
    "linear": {"end_factor": "linear from 0 to 1", "decay_fraction": "log from 0.05 to 1"},
    "cosine": {"end_factor": "linear from 0 to 1", "decay_fraction": "log from 0.05 to 1"},
}
"""The default search space of each schedule's own parameters."""
