"""The section on gradient noise: both noise scales along training, beside the fitted `b_crit`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from bcrit.analysis.fit.estimate import HyperbolaFit
from bcrit.analysis.noise_scale.pooled import PooledScale
from bcrit.analysis.noise_scale.sentences import noise_sentences, scale_text
from bcrit.analysis.noise_scale.summary import NoiseScales, ScalePoint
from bcrit.analysis.report.answer import Answer, Plot, Rows, Table, table_of
from bcrit.analysis.report.figure import (
    ACCENT,
    BAND,
    INK,
    ORANGE,
    Figure,
    Trace,
    figure,
    horizontal,
    hover,
    label,
    log_axis,
    value_axis,
    vertical,
    viridis,
)
from bcrit.analysis.run import Run
from bcrit.analysis.wording import value_text

_SCALES: Final = (("B_simple", "simple", ACCENT, "circle"), ("B_noise", "noise", ORANGE, "diamond"))


def noise_scale_section(analysis: Run) -> Answer | None:
    """The section.

    Args:
        analysis: of the run.

    Returns:
        None where no noise scale was measured.
    """
    scales = analysis.noise_scale
    if scales is None:
        return None
    band = _band_words(analysis.fit)
    plots = []
    if (drawn := _against_value(scales, analysis)) is not None:
        caption = (
            f"Noise scales against {scales.metric}, pooled over all confirming runs in bins of it, with 95 % "
            f"intervals; training goes towards the dashed target.{band} What is not resolved is not drawn."
        )
        plots.append(Plot("noise-value", drawn, caption))
    if (drawn := _against_step(scales, analysis.fit)) is not None:
        caption = f"B_simple against the step, one line a batch size, pooled over its runs.{band}"
        plots.append(Plot("noise-step", drawn, caption))
    rows = [*scales.studies, *([scales.at_target] if scales.at_target is not None else [])]
    tables = [
        Rows("Noise scales at the target", _table(rows, scales), folded=False),
        Rows("Noise scales along training", _table(scales.along_steps, scales), folded=True),
    ]
    shown = [table for table in tables if table.table.rows]
    parts: tuple[Plot | Rows, ...] = (*plots, *shown)
    return Answer("noise", "Gradient noise scale", noise_sentences(scales, analysis.fit), parts)


def _band_words(fit: HyperbolaFit | None) -> str:
    return " Band: the fitted b_crit with its interval." if _identified(fit) else ""


def _identified(fit: HyperbolaFit | None) -> bool:
    return fit is not None and fit.identified["b_crit"]


def _against_value(scales: NoiseScales, analysis: Run) -> Figure | None:
    target = analysis.experiment.target
    data, seen = [], []
    for name, field, color, symbol in _SCALES:
        points = [point for point in scales.along_value if getattr(point, field).value is not None]
        if points:
            data.append(_trace(name, points, field, color, symbol, [point.value for point in points]))
            seen += _ends([getattr(point, field) for point in points])
    if not data:
        return None
    x = value_axis(label(scales.metric), [*(point.value for point in scales.along_value), target.threshold])
    return _beside_b_crit(data, x, seen, scales, analysis.fit, [vertical(target.threshold, color=INK, dash="dash")])


def _against_step(scales: NoiseScales, fit: HyperbolaFit | None) -> Figure | None:
    resolved = [p for p in scales.along_steps if p.simple.value is not None and p.step]  # a log axis has no step 0
    sizes = sorted({point.batch_size for point in resolved if point.batch_size is not None})
    data: list[Trace] = []
    for place, batch_size in enumerate(sizes):
        points = [point for point in resolved if point.batch_size == batch_size]
        steps = [float(point.step or 0.0) for point in points]
        color = viridis(place / max(1, len(sizes) - 1))
        trace = _trace(f"batch size {value_text(batch_size)}", points, "simple", color, "circle", steps)
        data.append({**trace, "error_y": {"visible": False}, "mode": "lines+markers", "line": {"width": 1.3}})
    if not data:
        return None
    x = log_axis("step", [point.step for point in resolved if point.step])
    return _beside_b_crit(data, x, [p.simple.value or 0.0 for p in resolved], scales, fit, [])


def _beside_b_crit(
    data: Sequence[Trace], x: Any, seen: list[float], scales: NoiseScales, fit: HyperbolaFit | None, shapes: list[Any]
) -> Figure:
    if fit is not None and _identified(fit):
        box = {"type": "rect", "xref": "paper", "x0": 0, "x1": 1, "y0": fit.b_crit_low, "y1": fit.b_crit_high}
        shapes = [*shapes, {**box, "fillcolor": BAND, "line": {"width": 0}, "layer": "below"}]
        shapes.append(horizontal(fit.b_crit, color=ACCENT, width=1.5))
        seen = [*seen, fit.b_crit_low, fit.b_crit_high]
    return figure(data, x, log_axis(f"noise scale ({label(scales.unit)})", seen), shapes=shapes)


def _trace(name: str, points: Sequence[ScalePoint], field: str, color: str, symbol: str, x: Sequence[float]) -> Trace:
    scales: list[PooledScale] = [getattr(point, field) for point in points]
    y = [scale.value or 0.0 for scale in scales]
    up = [0.0 if s.high is None else s.high - at for s, at in zip(scales, y, strict=True)]
    down = [0.0 if s.low is None else at - s.low for s, at in zip(scales, y, strict=True)]
    texts = []
    for point, scale in zip(points, scales, strict=True):
        heat = {} if point.temperature is None else {"temperature": point.temperature}
        texts.append(hover({name: scale_text(scale), **heat, "runs": scale.n_runs}))
    bars = {"type": "data", "symmetric": False, "array": up, "arrayminus": down, "thickness": 1.2, "color": color}
    marker = {"color": color, "size": 7, "symbol": symbol}
    return {
        "name": name,
        "mode": "markers",
        "x": list(x),
        "y": y,
        "hovertext": texts,
        "marker": marker,
        "error_y": bars,
    }


def _ends(scales: Sequence[PooledScale]) -> list[float]:
    return [end for s in scales for end in (s.value, s.low, s.high) if end is not None]


def _table(points: Sequence[ScalePoint], scales: NoiseScales) -> Table:
    return table_of(
        [
            {
                "batch size": "all" if point.batch_size is None else point.batch_size,
                "step": point.step,
                scales.metric: point.value,
                f"B_simple ({scales.unit})": scale_text(point.simple),
                f"B_noise ({scales.unit})": scale_text(point.noise),
                "temperature": point.temperature,
                "runs": point.simple.n_runs,
            }
            for point in points
        ]
    )


__all__ = ["noise_scale_section"]
