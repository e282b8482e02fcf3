"""The gradient noise of a pilot's runs: along them, on average, and at which temperature."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd

from bcrit.analysis.noise_scale.pooled import PooledScale
from bcrit.analysis.noise_scale.summary import NoiseScales, noise_scales
from bcrit.analysis.pilot.run_mean import run_mean
from bcrit.search_spaces.experiment import Experiment


@dataclass(frozen=True)
class RunNoise:
    """What was measured.

    Attributes:
        scales: along the runs; None where nothing was measured.
        simple: mean of B_simple along the runs.
        noise: mean of B_noise.
        temperature: latest in the runs, of where it is known; None where it nowhere is.
    """

    scales: NoiseScales | None
    simple: PooledScale
    noise: PooledScale
    temperature: float | None


def run_noise(rows: Sequence[Mapping[str, Any]], experiment: Experiment, batch_size: int, n_runs: int) -> RunNoise:
    """Pool what the probes found.

    Args:
        rows: one a measurement: `trial_id`, `batch_size`, `step`, `crossing` (NaN = none), `value` and the columns of
            `bcrit.search_spaces.tables.NOISE_SCALE`.
        experiment: unit and target.
        batch_size: of the runs.
        n_runs: how many there were.
    """
    frame = pd.DataFrame(rows)
    scales = noise_scales(frame, experiment, None) if "tr_sigma" in frame else None
    if scales is None:
        nothing = PooledScale(None, None, None, n_runs, "it could not be measured")
        return RunNoise(None, nothing, nothing, None)
    simple = run_mean(frame, "tr_sigma", "g_sq", batch_size)
    noise = run_mean(frame, "tr_h_sigma", "g_h_g", batch_size)
    return RunNoise(scales, simple, noise, _temperature(scales))


def _temperature(scales: NoiseScales) -> float | None:
    points = [*sorted(scales.along_steps, key=lambda point: point.step or 0.0), *scales.studies]
    known = [point.temperature for point in points if point.temperature is not None and point.step]
    return known[-1] if known else None


__all__ = ["RunNoise", "run_noise"]
