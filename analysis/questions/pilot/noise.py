"""The gradient noise of a pilot's runs, averaged along them: what the theory of the critical batch size asks for.

With N(s) the noise scale along progress s, a run at batch size B takes S = int (1 + N/B) ds updates (McCandlish et al.
2018, app. D). So s_min = int ds, e_min = int N ds, and

    b_crit = e_min / s_min = int N ds / int ds,    ds = dS B / (B + N).

The noise scale at the target alone is the largest of the run and overstates b_crit: on digits with momentum 0.9
B_simple was 5 to 9 times b_crit there, and 1.4 to 2.4 times it in this mean (batch sizes 8 to 64, five seeds each).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from bcrit.analysis.numbers.estimate import Estimate, Scale
from bcrit.analysis.questions.noise_scale import NoiseScales, noise_scales
from bcrit.search_spaces.experiment import Experiment

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class RunNoise:
    """What was measured."""

    scales: NoiseScales | None  # along the runs; None where nothing was measured
    simple: Estimate  # mean of B_simple along the runs
    noise: Estimate  # mean of B_noise
    temperature: float | None  # latest in the runs, of where it is known; None where it nowhere is


def run_noise(rows: Sequence[Mapping[str, Any]], experiment: Experiment, batch_size: int, n_runs: int) -> RunNoise:
    """Pool what the probes found.

    `rows` are measurements with `trial_id`, `batch_size`, `step`, `crossing` (NaN = none), `value` and the columns of
    `bcrit.search_spaces.tables.NOISE_SCALE`.
    """
    frame = pd.DataFrame(rows)
    scales = noise_scales(frame, experiment, None) if "tr_sigma" in frame else None
    if scales is None:
        nothing = Estimate(None, n=n_runs, why="it could not be measured")
        return RunNoise(None, nothing, nothing, None)
    points = [*sorted(scales.along_steps, key=lambda point: point.step or 0.0), *scales.studies]
    known = [point.temperature for point in points if point.temperature is not None and point.step]
    simple = run_mean(frame, "tr_sigma", "g_sq", batch_size)
    noise = run_mean(frame, "tr_h_sigma", "g_h_g", batch_size)
    return RunNoise(scales, simple, noise, known[-1] if known else None)


def run_mean(measured: pd.DataFrame, numerator: str, denominator: str, batch_size: float) -> Estimate:
    """Average a noise scale along runs that differ in their seed alone.

    Both parts are averaged over runs at every step first (a ratio of averages); the ends of the runs, which stand at
    steps of their own, count as one place. Between the places N is taken to be straight. The interval is the
    jackknife's over runs, in the logarithm. It is not resolved where fewer than two places have positive averages, or
    the end has not.
    """
    runs = list(measured["trial_id"].unique())
    value = _mean(measured, numerator, denominator, batch_size)
    if value is None:
        return Estimate(None, n=len(runs), why="noise hides the gradient along the run or at its end")
    if len(runs) < 2:
        return Estimate(value, n=len(runs), why="one run has no interval")
    left_out = [_mean(measured[measured["trial_id"] != r], numerator, denominator, batch_size) for r in runs]
    without = [part for part in left_out if part is not None]
    if len(without) < len(runs):
        return Estimate(value, n=len(runs), why="it hangs on a single run")
    return Estimate.jackknife(value, without, scale=Scale.LOG)


def _mean(measured: pd.DataFrame, numerator: str, denominator: str, batch_size: float) -> float | None:
    steps, scale = _curve(measured, numerator, denominator)
    if len(steps) < 2:
        return None
    middle = (scale[1:] + scale[:-1]) / 2
    progress = np.diff(steps) * batch_size / (batch_size + middle)
    return float(np.sum(middle * progress) / np.sum(progress))


def _curve(measured: pd.DataFrame, numerator: str, denominator: str) -> tuple[Floats, Floats]:
    """Steps and noise scale, where both averages are positive; nothing where they are not at the end."""
    last = measured.groupby("trial_id")["step"].transform("max") == measured["step"]
    place = measured["step"].astype(float).where(~last, float(measured.loc[last, "step"].median()))
    columns = measured[[numerator, denominator]].astype(float)
    # Before the end only places that every run passed, so that the average does not change its members.
    counts = columns.dropna().groupby([place, last]).size()
    averages = columns.dropna().groupby([place, last]).mean()
    at_end = averages.index.get_level_values(1).to_numpy(dtype=bool)
    whole = averages[(counts == counts.max()).to_numpy() | at_end]
    positive = whole[(whole > 0).all(axis=1)]
    ends = positive.index.get_level_values(1).to_numpy(dtype=bool)
    if not ends.any():
        return np.empty(0), np.empty(0)
    steps = positive.index.get_level_values(0).to_numpy(dtype=np.float64)
    kept = ends | (steps < steps[ends][0])
    ratio = (positive[numerator] / positive[denominator]).to_numpy(dtype=np.float64)
    return steps[kept], ratio[kept]
