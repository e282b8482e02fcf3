"""The target and the one rule for "reached"."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator


class Direction(StrEnum):
    """Which way a metric improves."""

    MINIMIZE = "minimize"
    MAXIMIZE = "maximize"

    def better(self, value: float, reference: float) -> bool:
        """Whether `value` is strictly better than `reference`; NaN is never better."""
        return value < reference if self is Direction.MINIMIZE else value > reference

    @property
    def sign(self) -> float:
        """What makes less the better: 1, or -1 where more is."""
        return 1.0 if self is Direction.MINIMIZE else -1.0

    @property
    def symbol(self) -> str:
        """As a sentence has it."""
        return "<" if self is Direction.MINIMIZE else ">"

    @property
    def worst(self) -> float:
        """The value that nothing is worse than."""
        return self.sign * math.inf


_BOUND = r"([<>])\s*([-+]?[\d.]+(?:[eE][-+]?\d+)?)\s*(\(smoothed\))?"
# A metric may be called anything (`mAP@50(B)`, `val loss`); in quotes also what would be taken for the sign.
_SENTENCE = re.compile(rf"^\s*(?:([\"'`])(.+)\1|([^<>=\"'`\s](?:[^<>=\"'`\n]*[^<>=\"'`\s])?))\s*{_BOUND}\s*$")


def _number(text: str) -> float | str:
    """The number in a sentence; what is none, like `1.2.3`, stays as it is for the schema to refuse."""
    try:
        return float(text)
    except ValueError:
        return text


class Target(BaseModel):
    """What "reached" means: a metric, a threshold, a direction.

    Written as a sentence (`val_loss < 0.15`, `"mAP@50(B)" > 0.6`, `val_loss < 0.15 (smoothed)`) or as its keys.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    metric: Annotated[str, Field(min_length=1, max_length=1000)]
    """One of the workload's metrics."""
    threshold: Annotated[float, Field(strict=True, allow_inf_nan=False)]
    """A number. Choose one that every batch size can reach."""
    direction: Direction
    """`minimize` or `maximize`."""
    rule: Literal["smoothed"] | None = None
    """What is compared with the threshold: `null` or `first`, each evaluation; `smoothed`, the end of a straight line
    in log step through those since 2/3 of the step. The first of noisy evaluations to cross is early, and `bcrit
    analyze` says by how much; `smoothed` takes most of that away."""

    @model_validator(mode="before")
    @classmethod
    def _from_sentence(cls, value: Any) -> Any:
        if isinstance(value, Mapping) and value.get("rule") == "first":
            return {**value, "rule": None}
        if not isinstance(value, str):
            return value
        match = _SENTENCE.match(value)
        if match is None:
            raise ValueError("a target reads 'METRIC < NUMBER' or 'METRIC > NUMBER', for example 'val_loss < 0.15'")
        _, quoted, bare, sign, threshold, smoothed = match.groups()
        metric, rule = quoted or bare, "smoothed" if smoothed else None
        direction = Direction.MINIMIZE if sign == "<" else Direction.MAXIMIZE
        return {"metric": metric, "threshold": _number(threshold), "direction": direction, "rule": rule}

    def __str__(self) -> str:
        bound = f"{self.direction.symbol} {self.threshold:g}{' (smoothed)' if self.rule else ''}"
        plain = f"{self.metric} {bound}"
        match = _SENTENCE.match(plain)
        if match is not None and match[3] == self.metric:
            return plain
        mark = next((mark for mark in "\"'`" if mark not in self.metric), '"')
        return f"{mark}{self.metric}{mark} {bound}"

    def reached(self, value: float) -> bool:
        """Whether one evaluation is strictly better than the threshold (Shallue et al. 2018, data notebook)."""
        return self.direction.better(value, self.threshold)

    def crosses(self, step: int, value: float) -> bool:
        """Whether an evaluation counts as reaching the target: strictly better, after at least one update."""
        return step > 0 and self.reached(value)

    def first_crossing(self, evaluations: Iterable[tuple[int, float | None]]) -> Crossing | None:
        """The first of (step, metric) pairs, in order of step, after the start that is strictly better.

        The evaluation before any update (step 0) only bounds the crossing: a run that starts beyond its target has not
        been trained to it. A row without the metric (None, an empty cell) is no evaluation of it and bounds nothing; a
        NaN that training reported is one. Many targets and trials at once: `bcrit.analysis.targets.crossings`.
        """
        steps_low, judged = 0, self.judge()
        for step, value in evaluations:
            if value is None:
                continue
            if self.crosses(step, judged(step, value)):
                return Crossing(steps=step, steps_low=steps_low)
            steps_low = step
        return None

    def judge(self) -> Callable[[int, float], float]:
        """What of the (step, metric) pairs of one run, given in order of step, is compared with the threshold."""
        return Smoothed() if self.rule == "smoothed" else lambda step, value: value

    def best(self, evaluations: Iterable[tuple[int, float | None]]) -> float | None:
        """The best finite value of (step, metric) pairs after the start; None if there is none."""
        choose = min if self.direction is Direction.MINIMIZE else max
        found = (value for step, value in evaluations if step > 0 and value is not None and math.isfinite(value))
        return choose(found, default=None)


_WINDOW = math.log(1.5)
_FEWEST = 3  # evaluations that a line is drawn through; with fewer the last one stands as it is


class Smoothed:
    """The end of the least-squares line in log step through the evaluations since 2/3 of the step.

    The first of many noisy evaluations to lie below a threshold is early. At 5 % noise on our grid, where the loss
    falls as t^-1, t^-0.6 and t^-0.3, it is 3, 7 and 17 % early; with the end of the line 1.5, 1.0 and 1.5 % (2,000
    simulated curves each). A mean of the same evaluations would be late by half its window.
    """

    def __init__(self) -> None:
        self._seen: list[tuple[float, float]] = []

    def __call__(self, step: int, value: float) -> float:
        """The smoothed metric at the next step, or at the last one again; (step, metric) come in order of step."""
        if step <= 0:
            return value
        now = math.log(step)
        self._seen = [*((at, seen) for at, seen in self._seen if now - _WINDOW <= at < now), (now, value)]
        if len(self._seen) < _FEWEST:
            return value
        x, y = (sum(pair[k] for pair in self._seen) / len(self._seen) for k in (0, 1))
        slope = sum((at - x) * (seen - y) for at, seen in self._seen) / sum((at - x) ** 2 for at, _ in self._seen)
        return float(y + slope * (now - x))


@dataclass(frozen=True)
class Crossing:
    """The target was crossed in (`steps_low`, `steps`]; both in optimizer updates."""

    steps: int
    steps_low: int
