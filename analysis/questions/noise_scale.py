"""How noisy are the gradients along training, and how does that compare with the fitted b_crit?"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import pandas as pd

from bcrit.analysis import report as draw
from bcrit.analysis.curve import HyperbolaFit
from bcrit.analysis.numbers import LEVEL, Estimate, readable, t_quantile, value_text
from bcrit.analysis.records.json_values import plain
from bcrit.analysis.report import Answer, Plot, Rows, Table, table_of
from bcrit.analysis.run import Run
from bcrit.search_spaces.experiment import Experiment

_BINS: Final = 10  # of the loss, from the start to the target; chosen, not studied
_LOG_FROM: Final = 3.0  # span of a positive metric from which its bins are logarithmic, as the report's axes
_SCALES: Final = (("B_simple", "simple", draw.ACCENT, "circle"), ("B_noise", "noise", draw.ORANGE, "diamond"))


def ask(run: Run) -> Answer | str:
    """Show the gradient noise scales along the confirming runs, beside the fitted b_crit.

    B_simple = tr(Sigma) / |G|^2 and B_noise = tr(H Sigma) / (G'HG) (McCandlish et al. 2018, eq. 2.9 and 2.8), pooled
    over runs, at the target and along training. They are measured where the experiment has 'noise_scale' among its
    'probes.measure'.
    """
    scales = None if run.probed is None else noise_scales(run.probed, run.experiment, run.fit)
    if scales is None:
        return "no noise scale was measured; it takes 'noise_scale' in 'probes.measure' of the experiment"
    b_crit = _b_crit(run.fit)
    band = "" if b_crit is None else " Band: the fitted b_crit with its interval."
    parts: list[Plot | Rows] = []
    if (drawn := _against_value(scales, b_crit, run.experiment.target.threshold)) is not None:
        caption = (
            f"Noise scales against {scales.metric}, pooled over all confirming runs in bins of it, with 95 % "
            f"intervals; training goes towards the dashed target.{band} What is not resolved is not drawn."
        )
        parts.append(Plot("noise_scale-value", drawn, caption))
    if (drawn := _against_step(scales, b_crit)) is not None:
        caption = f"B_simple against the step, one line a batch size, pooled over its runs.{band}"
        parts.append(Plot("noise_scale-step", drawn, caption))
    if at_target := [*scales.studies, *filter(None, [scales.at_target])]:
        parts.append(Rows("Noise scales at the target", _table(at_target, scales), brief=True))
    if scales.along_steps:
        parts.append(Rows("Noise scales along training", _table(scales.along_steps, scales), folded=True))
    said = noise_sentences(scales, b_crit)
    return Answer("noise_scale", "Gradient noise scale", said, tuple(parts), scales.to_json())


@dataclass(frozen=True)
class ScalePoint:
    """Both noise scales at one place of training, pooled over runs."""

    batch_size: int | None  # of the study; None = pooled over all
    step: float | None  # median of the runs, in optimizer updates; None in a bin of the loss
    value: float  # of the target's metric, median of the measurements
    simple: Estimate  # tr(Sigma) / |G|^2
    noise: Estimate  # tr(H Sigma) / (G'HG)
    # lr / (1 - momentum) over the best learning rate of one SGD step at the batch size, lr_max / (1 + b_noise /
    # batch_size), from the pooled averages; None over several batch sizes, or where it is not known
    temperature: float | None

    def to_json(self) -> dict[str, Any]:
        """As `--json` has it."""
        place = {name: getattr(self, name) for name in ("batch_size", "step", "value", "temperature")}
        return {**place, "b_simple": scale_json(self.simple), "b_noise": scale_json(self.noise)}


@dataclass(frozen=True)
class NoiseScales:
    """What a run says on gradient noise."""

    unit: str  # of both scales
    metric: str  # the target's
    at_target: ScalePoint | None  # where runs crossed the target, pooled over all; None where none was measured there
    studies: tuple[ScalePoint, ...]  # the same for each batch size
    at_start: ScalePoint | None  # before the first update, pooled over all; None where that was not measured
    along_steps: tuple[ScalePoint, ...]  # for each batch size and step
    along_value: tuple[ScalePoint, ...]  # in bins of the metric, pooled over all
    simple_over_b_crit: Estimate | None  # at the target; None where either is not known
    noise_over_b_crit: Estimate | None

    def to_json(self) -> dict[str, Any]:
        """The object of `--json`; an open end of a ratio's interval is 0 or null."""
        found: dict[str, Any] = {}
        for name, value in vars(self).items():
            if isinstance(value, ScalePoint):
                found[name] = value.to_json()
            elif isinstance(value, Estimate):
                found[name] = {"ratio": value.value, "low": value.low or 0.0, "high": value.high}
            else:
                found[name] = [point.to_json() for point in value] if isinstance(value, tuple) else value
        answer: dict[str, Any] = plain(found)
        return answer


def noise_scales(rows: pd.DataFrame, experiment: Experiment, fit: HyperbolaFit | None) -> NoiseScales | None:
    """Pool what was measured (`Run.probed`); None where no noise scale was."""
    measured = rows[rows["g_sq"].notna()]
    if measured.empty:
        return None
    # The last measurement of each run up to its crossing: at the run's own target that is the crossing itself.
    before = measured[(measured["step"] <= measured["crossing"]) & (measured["step"] > 0)]
    at_target = before.groupby("trial_id").tail(1)
    whole, b_crit = _pooled(at_target) if len(at_target) else None, _b_crit(fit)
    start = measured[measured["step"] == 0]
    return NoiseScales(
        unit=experiment.unit,
        metric=experiment.target.metric,
        at_target=whole,
        studies=tuple(_pooled(group, int(b)) for b, group in at_target.groupby("batch_size")),  # type: ignore[arg-type]
        at_start=_pooled(start) if len(start) else None,
        along_steps=tuple(_along_steps(measured)),
        along_value=tuple(_along_value(measured)),
        simple_over_b_crit=None if whole is None or b_crit is None else over(whole.simple, b_crit),
        noise_over_b_crit=None if whole is None or b_crit is None else over(whole.noise, b_crit),
    )


def _b_crit(fit: HyperbolaFit | None) -> Estimate | None:
    """None where it is not identified."""
    if fit is None or not fit.identified["b_crit"]:
        return None
    return Estimate.at_limits(fit.b_crit, fit.b_crit_low, fit.b_crit_high)


def _along_steps(measured: pd.DataFrame) -> list[ScalePoint]:
    """Steps that all runs of a study share, and the target; a run's own crossing alone is no step of the others."""
    return [
        _pooled(group, int(batch_size))  # type: ignore[arg-type]
        for batch_size, study in measured.groupby("batch_size")
        for _, group in study.groupby("step")
        if group["trial_id"].nunique() * 2 > study["trial_id"].nunique()
    ]


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
    simple, noise = (
        pool(rows[above], rows[below], rows["trial_id"])
        for above, below in (("tr_sigma", "g_sq"), ("tr_h_sigma", "g_h_g"))
    )
    lr, lr_max = float(rows["lr_effective"].mean()), float(rows["g_sq"].mean() / rows["g_h_g"].mean())
    known = batch_size is not None and noise.value is not None and lr_max > 0 and not np.isnan(lr)
    return ScalePoint(
        batch_size=batch_size,
        step=float(rows["step"].median()) if step else None,
        value=float(rows["value"].median()),
        simple=simple,
        noise=noise,
        temperature=lr * (1.0 + (noise.value or 0.0) / (batch_size or 1)) / lr_max if known else None,
    )


def pool(numerator: npt.ArrayLike, denominator: npt.ArrayLike, runs: npt.ArrayLike, level: float = LEVEL) -> Estimate:
    """A noise scale pooled over runs: a ratio of averages, no average of ratios (McCandlish et al. 2018, app. A.1).

    From tr(Sigma) or tr(H Sigma) of each measurement, |G|^2 or G'HG, and the run that each belongs to; shape (m,), rows
    with NaN are left out. With the sums n_r and d_r of each of R runs, b = sum n_r / sum d_r. Runs have seeds of their
    own and are independent, so the errors are those of e_r = n_r - b d_r,

        var b = R / (R - 1) sum e_r^2 / (sum d_r)^2,    b exp(+- t sqrt(var b) / b),

    with Student's t of R - 1 degrees of freedom, in the logarithm because b spans orders of magnitude. It is not
    resolved where t sqrt(var b) >= b: then the numerator or the denominator may as well be 0.

    Example:
        >>> pool([10.0, 20.0, 30.0], [1.0, 2.0, 3.0], ["a", "b", "c"]).value
        10.0
    """
    above, below = np.asarray(numerator, dtype=np.float64), np.asarray(denominator, dtype=np.float64)
    there = np.isfinite(above) & np.isfinite(below)
    names, place = np.unique(np.asarray(runs)[there], return_inverse=True)
    n_runs = len(names)
    if n_runs == 0:
        return Estimate(None, n=0, why="it was not measured")
    n, d = (np.bincount(place, weights=part[there], minlength=n_runs) for part in (above, below))
    if n.sum() <= 0 or d.sum() <= 0:
        what = "numerator" if n.sum() <= 0 else "denominator"
        return Estimate(None, n=n_runs, why=f"its mean {what} came out negative, so noise hides it")
    value = float(n.sum() / d.sum())
    if n_runs == 1:
        return Estimate(value, n=1, why="one run has no interval")
    error = math.sqrt(n_runs / (n_runs - 1) * float(((n - value * d) ** 2).sum())) / float(d.sum())
    share = t_quantile(n_runs - 1, level) * error / value
    if share >= 1.0:
        return Estimate(None, n=n_runs, why=f"over {n_runs} runs its error is as large as itself")
    factor = math.exp(share)
    return Estimate(value, value / factor, value * factor, level, n_runs)


def over(scale: Estimate, b_crit: Estimate) -> Estimate | None:
    """A noise scale over a critical batch size: both errors add up as squares of logarithms; None: not resolved."""
    if scale.value is None or b_crit.value is None:
        return None
    ratio, low, high = scale.value / b_crit.value, None, None
    if scale.low is not None and b_crit.high is not None:
        low = ratio * math.exp(-math.hypot(math.log(scale.value / scale.low), math.log(b_crit.high / b_crit.value)))
    if scale.high is not None and b_crit.low is not None:
        high = ratio * math.exp(math.hypot(math.log(scale.high / scale.value), math.log(b_crit.value / b_crit.low)))
    return Estimate(ratio, low, high, scale.level)


def noise_sentences(scales: NoiseScales, b_crit: Estimate | None) -> tuple[str, ...]:
    """How large they are at the target, how they grew, and at which temperature."""
    start, end, grown = scales.at_start, scales.at_target, []
    if start is not None and end is not None and start.simple.value is not None and end.simple.value is not None:
        grown = [
            f"B_simple was {scale_text(start.simple)} before the first update and is "
            f"{readable(end.simple.value / start.simple.value)} times that at the target."
        ]
    return (
        _at_target(scales, b_crit),
        *grown,
        _temperature(scales),
        "Noise scales are a hint at the order of magnitude of b_crit, which several runs at every batch size measure; "
        "McCandlish et al. 2018 (section 5) found them up to ten times apart.",
    )


def _at_target(scales: NoiseScales, b_crit: Estimate | None) -> str:
    at, parts = scales.at_target, []
    if at is None:
        return "No confirming run that reached the target has a noise scale there."
    named = (("B_simple", at.simple, scales.simple_over_b_crit), ("B_noise", at.noise, scales.noise_over_b_crit))
    for name, scale, ratio in named:
        if scale.value is None:
            parts.append(f"{name} is not resolved: {scale.why}")
        else:
            times = f", {readable(ratio.value)} times b_crit ({ratio.interval()})" if ratio and ratio.value else ""
            parts.append(f"{name} is {scale_text(scale)} {scales.unit}{times}")
    said = f"At the target {'; '.join(parts)}. Pooled over {at.simple.n} runs"
    said += f" of {len(scales.studies)} batch sizes." if len(scales.studies) > 1 else "."
    if b_crit is None or b_crit.value is None:
        return f"{said} There is no identified b_crit to compare with."
    return f"{said} The fitted b_crit is {readable(b_crit.value)}."


def _temperature(scales: NoiseScales) -> str:
    heat = "lr / (1 - momentum) over the best learning rate of one SGD step at the batch size"
    why = (
        "Noise scales compare only at one temperature: halving it about doubles them (McCandlish et al. 2018, app. C)."
    )
    known = [point.temperature for point in scales.studies if point.temperature is not None]
    if not known:
        return f"At the target the temperature ({heat}) is not known, because it takes a resolved B_noise. {why}"
    between = readable(known[0]) if len(known) == 1 else f"{readable(min(known))} to {readable(max(known))}"
    where = f"at the {len(known)} of {len(scales.studies)} batch sizes where B_noise is resolved"
    return f"The temperature of the tuned settings at the target ({heat}) is {between} {where}. {why}"


def scale_text(scale: Estimate) -> str:
    """`94 (80 to 110)`; without its interval where there is none."""
    if scale.value is None:
        return "not resolved"
    return readable(scale.value) if scale.low is None else scale.text()


def scale_json(scale: Estimate) -> Mapping[str, Any]:
    """As `--json` has it, here and in a pilot."""
    return {"value": scale.value, "low": scale.low, "high": scale.high, "n_runs": scale.n, "reason": scale.why}


def _against_value(scales: NoiseScales, b_crit: Estimate | None, threshold: float) -> draw.Figure | None:
    data, seen = [], list[Estimate]()
    for name, field, color, symbol in _SCALES:
        resolved = [point for point in scales.along_value if getattr(point, field).known]
        if resolved:
            x = [point.value for point in resolved]
            data.append(_trace(name, resolved, field, x, color=color, symbol=symbol) | {"name": name})
            seen += [getattr(point, field) for point in resolved]
    if not data:
        return None
    x_axis = draw.value_axis(draw.label(scales.metric), [*(point.value for point in scales.along_value), threshold])
    return _beside_b_crit(
        data, x_axis, seen, scales.unit, b_crit, [draw.vertical(threshold, color=draw.INK, dash="dash")]
    )


def _against_step(scales: NoiseScales, b_crit: Estimate | None) -> draw.Figure | None:
    resolved = [p for p in scales.along_steps if p.simple.known and p.step]  # a log axis has no step 0
    data = []
    for batch_size, color in draw.in_turn(sorted({p.batch_size for p in resolved if p.batch_size is not None})).items():
        own = [point for point in resolved if point.batch_size == batch_size]
        trace = _trace("B_simple", own, "simple", [point.step or 0.0 for point in own], color=color)
        del trace["error_y"]
        look = {"mode": "lines+markers", "line": {"width": 1.3}}
        data.append(trace | look | {"name": f"batch size {value_text(batch_size)}"})
    if not data:
        return None
    x_axis = draw.log_axis("step", [point.step for point in resolved if point.step])
    return _beside_b_crit(data, x_axis, [Estimate(p.simple.value) for p in resolved], scales.unit, b_crit, [])


def _trace(name: str, at: Sequence[ScalePoint], field: str, x: Sequence[float], **look: Any) -> draw.Trace:
    scales: list[Estimate] = [getattr(point, field) for point in at]
    heats = ({} if point.temperature is None else {"temperature": point.temperature} for point in at)
    hovers = [{name: scale_text(s), **heat, "runs": s.n} for s, heat in zip(scales, heats, strict=True)]
    y = [scale.value or 0.0 for scale in scales]
    low, high = ([getattr(s, end) or s.value or 0.0 for s in scales] for end in ("low", "high"))
    return draw.points(x, y, hovers, size=7, low=low, high=high, **look)


def _beside_b_crit(
    data: list[draw.Trace], x: draw.Axis, seen: list[Estimate], unit: str, b_crit: Estimate | None, shapes: list[Any]
) -> draw.Figure:
    if b_crit is not None and b_crit.value is not None:
        level = draw.horizontal(b_crit.value, color=draw.ACCENT, width=1.5)
        shapes = [*shapes, draw.area(b_crit.low, b_crit.high, draw.BAND, along="y"), level]
        seen = [*seen, Estimate(None, b_crit.low, b_crit.high)]
    ends = [end for each in seen for end in (each.value, each.low, each.high) if end is not None]
    return draw.figure(data, x, draw.log_axis(f"noise scale ({draw.label(unit)})", ends), shapes=shapes)


def _table(at: Sequence[ScalePoint], scales: NoiseScales) -> Table:
    rows = [
        {
            "batch size": "all" if point.batch_size is None else point.batch_size,
            "step": point.step,
            scales.metric: point.value,
            f"B_simple ({scales.unit})": scale_text(point.simple),
            f"B_noise ({scales.unit})": scale_text(point.noise),
            "temperature": point.temperature,
            "runs": point.simple.n,
        }
        for point in at
    ]
    return table_of(rows)
