from __future__ import annotations
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from analysis.fit import HyperbolaFit
from analysis.step_time import StepTimes


@dataclass(frozen=True)
class FrontierPoint:
    batch_size: float
    steps: float
    steps_low: float | None
    steps_high: float | None
    examples: float
    examples_low: float | None
    examples_high: float | None
    hours: float | None
    hours_low: float | None
    hours_high: float | None
    cost: float | None
    cost_low: float | None
    cost_high: float | None
    step_seconds: float | None
    step_time_source: str | None   # measured | interpolated | extrapolated
    measured: bool                 # a study was run at this batch size


@dataclass(frozen=True)
class HyperparametersAt:
    batch_size: float
    values: Mapping[str, Any]
    source: str     # measured | interpolated | nearest
    studies: tuple[float, ...]   # the batch sizes they were taken from


@dataclass(frozen=True)
class LimitMissed:
    limit: str
    given: float
    needed: float | None


@dataclass(frozen=True)
class Recommendation:
    frontier: tuple[FrontierPoint, ...]
    choices: Mapping[str, FrontierPoint]        # cheapest, fastest, balanced, best
    binding: str | None
    feasible: bool
    infeasible: tuple[LimitMissed, ...]
    hyperparameters: Mapping[str, HyperparametersAt]   # by choice
    cost_unit: str | None       # "device-hours" | "currency"
    caveats: tuple[str, ...]
    sentences: tuple[str, str]

    def to_json(self) -> dict[str, Any]: ...


def recommend(fit: HyperbolaFit, step_times: StepTimes | None = None, *, price_per_device_hour: float | None = None,
    devices: int = 1, max_hours: float | None = None, max_cost: float | None = None, max_steps: float | None = None,
    max_examples: float | None = None,
    hyperparameters: Mapping[float, Mapping[str, Any]] | None = None) -> Recommendation: ...
