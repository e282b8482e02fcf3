"""The target and the one rule for "reached"."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, model_validator


class Direction(StrEnum):
    """Which way a metric improves."""

    MINIMIZE = "minimize"
    MAXIMIZE = "maximize"

    def better(self, value: float, reference: float) -> bool:
        """Whether `value` is strictly better than `reference`; NaN is never better."""
        return value < reference if self is Direction.MINIMIZE else value > reference

    @property
    def worst(self) -> float:
        """The value that nothing is worse than."""
        return math.inf if self is Direction.MINIMIZE else -math.inf


_SENTENCE = re.compile(r"^\s*([A-Za-z_][\w/.-]*)\s*([<>])\s*([-+]?[\d.]+(?:[eE][-+]?\d+)?)\s*$")


def _number(text: str) -> float | str:
    """The number in a sentence; what is none, like `1.2.3`, stays as it is for the schema to refuse."""
    try:
        return float(text)
    except ValueError:
        return text


class Target(BaseModel):
    """What "reached" means: a metric, a threshold, a direction.

    Written in YAML as a sentence (`val_loss < 0.15`) or as its three keys.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    metric: str
    threshold: Annotated[float, Field(strict=True, allow_inf_nan=False)]
    direction: Direction

    @model_validator(mode="before")
    @classmethod
    def _from_sentence(cls, value: Any) -> Any:
        if not isinstance(value, str):
            return value
        match = _SENTENCE.match(value)
        if match is None:
            raise ValueError("a target reads 'METRIC < NUMBER' or 'METRIC > NUMBER', for example 'val_loss < 0.15'")
        metric, sign, threshold = match.groups()
        direction = Direction.MINIMIZE if sign == "<" else Direction.MAXIMIZE
        return {"metric": metric, "threshold": _number(threshold), "direction": direction}

    def __str__(self) -> str:
        sign = "<" if self.direction is Direction.MINIMIZE else ">"
        return f"{self.metric} {sign} {self.threshold:g}"

    def reached(self, value: float) -> bool:
        """Whether one evaluation is strictly better than the threshold (Shallue et al. 2018, data notebook)."""
        return self.direction.better(value, self.threshold)

    def crosses(self, step: int, value: float) -> bool:
        """Whether an evaluation counts as reaching the target: strictly better, after at least one update."""
        return step > 0 and self.reached(value)

    def first_crossing(self, evaluations: Iterable[tuple[int, float | None]]) -> Crossing | None:
        """Find the first evaluation after the start that is strictly better than the threshold.

        The evaluation before any update (step 0) only bounds the crossing: a run that starts beyond its target has not
        been trained to it. A row without the metric (None, an empty cell) is no evaluation of it and bounds nothing; a
        NaN that training reported is one. Many targets and trials at once: `bcrit.analysis.targets.crossings`.

        Args:
            evaluations: (step, metric) pairs in order of step.

        Returns:
            The crossing with the interval of steps in which it happened, or None if there is none.
        """
        steps_low = 0
        for step, value in evaluations:
            if value is None:
                continue
            if self.crosses(step, value):
                return Crossing(steps=step, steps_low=steps_low)
            steps_low = step
        return None

    def best(self, evaluations: Iterable[tuple[int, float | None]]) -> float | None:
        """Find the best finite value after the start; None if there is none.

        Args:
            evaluations: (step, metric) pairs.
        """
        choose = min if self.direction is Direction.MINIMIZE else max
        found = (value for step, value in evaluations if step > 0 and value is not None and math.isfinite(value))
        return choose(found, default=None)


@dataclass(frozen=True)
class Crossing:
    """The target was crossed in (`steps_low`, `steps`]; both in optimizer updates."""

    steps: int
    steps_low: int
