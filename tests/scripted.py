"""A workload whose steps-to-target are an exact hyperbola by construction: what goes in must come out again."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

from bcrit.search_spaces.target import Direction
from bcrit.tuner.training.settings import Settings

START = 10.0
"""The loss before the first update, in every run; the threshold is 1 (both chosen, not studied)."""


@dataclass(frozen=True)
class ExactHyperbola:
    """The target `loss < 1` is first met at step round(steps(settings)), where

        steps(settings) = s_min (1 + b_crit / B) (1 + curvature d)
        d = ln^2(lr of the settings / lr_best(B)) + ln^2((1 - momentum of the settings) / (1 - momentum))
        lr_best(B) = lr / (1 + b_crit / B)                      (McCandlish et al. 2018, equation 2.6)

    so that the best point of every study has exactly s_min (1 + b_crit / B) steps. The loss falls exponentially,
    10^(1 - step / (S - 1/2)) with S the rounded steps: it is above 1 at S - 1 and below at S, and at any step it ranks
    the settings as their S does. Nothing is random; a schedule changes nothing.
    """

    s_min: float = 100.0  # steps at infinite batch size
    b_crit: float = 64.0  # examples
    lr: float = 0.1  # the best at infinite batch size
    momentum: float = 0.9  # the best; plays no part with an optimizer that has none
    curvature: float = 0.5  # how fast the steps grow away from the best point, per squared natural-log distance
    diverges_at: float = 8.0  # at more than this many times lr_best(B) the loss is infinite after the first update

    unit: ClassVar[str] = "examples"
    metrics: ClassVar[Mapping[str, Direction]] = {"loss": Direction.MINIMIZE}
    n_examples: ClassVar[int | None] = None
    hyperparameters: ClassVar[tuple[str, ...]] = ()

    def lr_best(self, batch_size: int) -> float:
        """The best learning rate at a batch size."""
        return self.lr / (1.0 + self.b_crit / batch_size)

    def steps(self, settings: Settings) -> int:
        """Steps to target."""
        distance = math.log(settings.number("lr") / self.lr_best(settings.batch_size)) ** 2
        if "momentum" in settings.hyperparameters:
            distance += math.log((1.0 - settings.number("momentum")) / (1.0 - self.momentum)) ** 2
        best = self.s_min * (1.0 + self.b_crit / settings.batch_size)
        return max(1, round(best * (1.0 + self.curvature * distance)))

    def begin(self, settings: Settings) -> ScriptedRun:
        """Start a run."""
        diverges = settings.number("lr") > self.diverges_at * self.lr_best(settings.batch_size)
        return ScriptedRun(steps_to_target=None if diverges else self.steps(settings))


@dataclass
class ScriptedRun:
    """A run that is at `step` of its script."""

    steps_to_target: int | None  # the first step with loss < 1; None = diverges
    step: int = 0

    def train(self, steps: int) -> None:
        """Make this many updates."""
        self.step += steps

    def evaluate(self) -> Mapping[str, float]:
        """The loss that the script has for the step."""
        if self.steps_to_target is None:
            return {"loss": START if self.step == 0 else math.inf}
        return {"loss": START ** (1.0 - self.step / (self.steps_to_target - 0.5))}
