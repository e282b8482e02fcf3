"""The noise scales in words: how large they are at the target, how they grew, and at which temperature."""

from __future__ import annotations

import math

from bcrit.analysis.fit.estimate import HyperbolaFit
from bcrit.analysis.noise_scale.pooled import PooledScale
from bcrit.analysis.noise_scale.summary import NoiseScales, Ratio
from bcrit.analysis.wording import readable


def noise_sentences(scales: NoiseScales, fit: HyperbolaFit | None) -> tuple[str, ...]:
    """The verdict first, each a paragraph.

    Args:
        scales: of the run.
        fit: its curve.
    """
    found = [_at_target(scales, fit)]
    if grown := _growth(scales):
        found.append(grown)
    found.append(_temperature(scales))
    found.append(
        "Noise scales are a hint at the order of magnitude of b_crit, which several runs at every batch size measure; "
        "McCandlish et al. 2018 (section 5) found them up to ten times apart."
    )
    return tuple(found)


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


def _at_target(scales: NoiseScales, fit: HyperbolaFit | None) -> str:
    at = scales.at_target
    if at is None:
        return "No confirming run that reached the target has a noise scale there."
    parts = []
    named = (("B_simple", at.simple, scales.simple_over_b_crit), ("B_noise", at.noise, scales.noise_over_b_crit))
    for name, scale, ratio in named:
        if scale.value is None:
            parts.append(f"{name} is not resolved: {scale.reason}")
        else:
            parts.append(f"{name} is {scale_text(scale)} {scales.unit}{_times(ratio)}")
    said = f"At the target {'; '.join(parts)}. Pooled over {at.simple.n_runs} runs"
    said += f" of {len(scales.studies)} batch sizes." if len(scales.studies) > 1 else "."
    if fit is None or not fit.identified["b_crit"]:
        return f"{said} There is no identified b_crit to compare with."
    return f"{said} The fitted b_crit is {readable(fit.b_crit)}."


def scale_text(scale: PooledScale) -> str:
    """`94 (80 to 110)`; without its interval where there is none."""
    if scale.value is None:
        return "not resolved"
    if scale.low is None or scale.high is None:
        return readable(scale.value)
    return f"{readable(scale.value)} ({readable(scale.low)} to {readable(scale.high)})"


def _times(ratio: Ratio | None) -> str:
    if ratio is None:
        return ""
    value, low, high = ratio
    if not (low > 0 and high < math.inf):
        return f", {readable(value)} times b_crit (no interval)"
    return f", {readable(value)} times b_crit ({readable(low)} to {readable(high)})"


def _growth(scales: NoiseScales) -> str | None:
    start, end = scales.at_start, scales.at_target
    if start is None or end is None or start.simple.value is None or end.simple.value is None:
        return None
    factor = end.simple.value / start.simple.value
    return (
        f"B_simple was {scale_text(start.simple)} before the first update and is {readable(factor)} times that at the "
        "target."
    )


__all__ = ["noise_sentences", "scale_text"]
