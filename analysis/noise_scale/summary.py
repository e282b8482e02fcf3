"""The noise scales of a run: along training against step and against loss, and at the target beside `b_crit`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from bcrit.analysis.fit.estimate import HyperbolaFit
from bcrit.analysis.noise_scale.pooled import PooledScale, over, pool
from bcrit.analysis.records.json_values import plain
from bcrit.search_spaces.experiment import Experiment

Ratio = tuple[float, float, float]

_BINS = 10  # of the loss, from the start to the target; chosen, not studied
_LOG_FROM = 3.0  # span of a positive metric from which its bins are logarithmic, as the report's axes


@dataclass(frozen=True)
class ScalePoint:
    """Both noise scales at one place of training, pooled over runs.

    Attributes:
        batch_size: of the study; None = pooled over all.
        step: median of the runs, in optimizer updates; None in a bin of the loss.
        value: of the target's metric, median of the measurements.
        simple: tr(Sigma) / |G|^2.
        noise: tr(H Sigma) / (G'HG).
        temperature: lr / (1 - momentum) over the best learning rate of one SGD step at the batch size, lr_max / (1 +
            b_noise / batch_size), from the pooled averages; None over several batch sizes, or where it is not known.
    """

    batch_size: int | None
    step: float | None
    value: float
    simple: PooledScale
    noise: PooledScale
    temperature: float | None


@dataclass(frozen=True)
class NoiseScales:
    """What a run says on gradient noise.

    Attributes:
        unit: of both scales.
        metric: the target's.
        at_target: where runs crossed the target, pooled over all; None where none was measured there.
        studies: the same for each batch size.
        at_start: before the first update, pooled over all; None where that was not measured.
        along_steps: for each batch size and step.
        along_value: in bins of the metric, pooled over all.
        simple_over_b_crit: ratio with its interval at the target; None where either is not known.
        noise_over_b_crit: likewise.
    """

    unit: str
    metric: str
    at_target: ScalePoint | None
    studies: tuple[ScalePoint, ...]
    at_start: ScalePoint | None
    along_steps: tuple[ScalePoint, ...]
    along_value: tuple[ScalePoint, ...]
    simple_over_b_crit: Ratio | None
    noise_over_b_crit: Ratio | None

    def to_json(self) -> dict[str, Any]:
        """The object `noise_scale` of `bcrit analyze --json`; an open end of a ratio's interval is 0 or null."""
        found: dict[str, Any] = plain(
            {
                **{name: getattr(self, name) for name in ("unit", "metric")},
                **{name: _point(getattr(self, name)) for name in ("at_target", "at_start")},
                **{
                    name: [_point(point) for point in getattr(self, name)]
                    for name in ("studies", "along_steps", "along_value")
                },
                "simple_over_b_crit": _ratio(self.simple_over_b_crit),
                "noise_over_b_crit": _ratio(self.noise_over_b_crit),
            }
        )
        return found


def noise_scales(rows: pd.DataFrame, experiment: Experiment, fit: HyperbolaFit | None) -> NoiseScales | None:
    """Pool what was measured.

    Args:
        rows: what `bcrit.analysis.probed.probed` returned.
        experiment: unit and target.
        fit: the curve, for `b_crit`; None where there is none.

    Returns:
        The summary; None where no noise scale was measured.
    """
    measured = rows[rows["g_sq"].notna()]
    if measured.empty:
        return None
    at_target = _at_target(measured)
    whole = _pooled(at_target) if len(at_target) else None
    start = measured[measured["step"] == 0]
    return NoiseScales(
        unit=experiment.unit,
        metric=experiment.target.metric,
        at_target=whole,
        studies=tuple(_pooled(group, int(b)) for b, group in at_target.groupby("batch_size")),  # type: ignore[arg-type]
        at_start=_pooled(start) if len(start) else None,
        along_steps=tuple(_along_steps(measured)),
        along_value=tuple(_along_value(measured)),
        simple_over_b_crit=None if whole is None else _over(whole.simple, fit),
        noise_over_b_crit=None if whole is None else _over(whole.noise, fit),
    )


def _at_target(measured: pd.DataFrame) -> pd.DataFrame:
    """The last measurement of each run up to its crossing: at the run's own target that is the crossing itself."""
    before = measured[(measured["step"] <= measured["crossing"]) & (measured["step"] > 0)]
    return before.groupby("trial_id").tail(1)


def _along_steps(measured: pd.DataFrame) -> list[ScalePoint]:
    """Steps that all runs of a study share, and the target; a run's own crossing alone is no step of the others."""
    found = []
    for batch_size, study in measured.groupby("batch_size"):
        n_runs = study["trial_id"].nunique()
        for _, group in study.groupby("step"):
            if group["trial_id"].nunique() * 2 > n_runs:
                found.append(_pooled(group, int(batch_size)))  # type: ignore[arg-type]
    return found


def _along_value(measured: pd.DataFrame) -> list[ScalePoint]:
    value = measured["value"].to_numpy()
    low, high = np.nanmin(value), np.nanmax(value)
    if not high > low:
        return [_pooled(measured, step=False)]
    scaled, ends = (np.log(value), np.log([low, high])) if low > 0 and high > _LOG_FROM * low else (value, (low, high))
    place = np.clip(((scaled - ends[0]) / (ends[1] - ends[0]) * _BINS).astype(int), 0, _BINS - 1)
    return [_pooled(group, step=False) for _, group in measured.groupby(place)]


def _pooled(rows: pd.DataFrame, batch_size: int | None = None, step: bool = True) -> ScalePoint:
    # Before the first update runs of one seed are one measurement, to the bit, whatever their batch sizes.
    rows = rows.drop_duplicates(subset=["step", "tr_sigma", "g_sq", "tr_h_sigma", "g_h_g"])
    runs, noise = rows["trial_id"], pool(rows["tr_h_sigma"], rows["g_h_g"], rows["trial_id"])
    return ScalePoint(
        batch_size=batch_size,
        step=float(rows["step"].median()) if step else None,
        value=float(rows["value"].median()),
        simple=pool(rows["tr_sigma"], rows["g_sq"], runs),
        noise=noise,
        temperature=_temperature(rows, noise, batch_size),
    )


def _temperature(rows: pd.DataFrame, noise: PooledScale, batch_size: int | None) -> float | None:
    lr, lr_max = float(rows["lr_effective"].mean()), float(rows["g_sq"].mean() / rows["g_h_g"].mean())
    if batch_size is None or noise.value is None or not lr_max > 0 or np.isnan(lr):
        return None
    return lr * (1.0 + noise.value / batch_size) / lr_max


def _over(scale: PooledScale, fit: HyperbolaFit | None) -> Ratio | None:
    if fit is None or not fit.identified["b_crit"]:
        return None
    return over(scale, fit.b_crit, fit.b_crit_low, fit.b_crit_high)


def _point(point: ScalePoint | None) -> Mapping[str, Any] | None:
    if point is None:
        return None
    scales = {"b_simple": point.simple, "b_noise": point.noise}
    named = {"batch_size": point.batch_size, "step": point.step, "value": point.value, "temperature": point.temperature}
    return {**named, **scales}


def _ratio(ratio: Ratio | None) -> Mapping[str, float] | None:
    return None if ratio is None else dict(zip(("ratio", "low", "high"), ratio, strict=True))


__all__ = ["NoiseScales", "ScalePoint", "noise_scales"]
