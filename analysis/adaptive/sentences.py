"""What batch sizes that change along training gained, in sentences."""

from __future__ import annotations

import math
from collections.abc import Sequence

from bcrit.analysis.adaptive.result import Adaptive, ScheduleResult
from bcrit.analysis.wording import readable


def sentences(found: Adaptive) -> tuple[str, ...]:
    """The verdict first, then each schedule, then what it rests on."""
    said = [_pooled(found), *(answer_sentence(found, one) for one in found.of("noise", "ramp"))]
    return (*(sentence for sentence in said if sentence), *_fixed(found), *_rests_on(found), *found.notes)


def answer_sentence(found: Adaptive, one: ScheduleResult) -> str:
    """What one schedule needed."""
    name = f"With {one.schedule}"
    sizes = [b for run in found.runs_of(one.schedule) for b in run.batch_sizes if b is not None]
    if one.kind == "noise" and sizes:
        name += f" (batch sizes {min(sizes):,} to {max(sizes):,} along training)"
    if one.steps is None or one.examples is None:
        return f"{name} {one.n_reached} of {one.n_runs} seeds reached the target, so it has no number."
    text = f"{name} it took {readable(one.steps)} steps and {readable(one.examples)} {found.unit}"
    if one.ratio is None:
        return f"{text}."
    share = (one.ratio, one.ratio_low, one.ratio_high)
    text += f", both {_times(*share)} those of its mean batch size held fixed, {readable(one.examples / one.steps)}"
    if one.kind == "ramp":  # of several exchange rates one would show a gain by chance: their mean has the verdict
        text += f" ({verdict(found, *share, [one.steps])})"
    text += f"; gamma is {_number(one.gamma, one.gamma_low, one.gamma_high)}"
    if one.gamma_fixed is not None:
        text += f", where fixed batch sizes have {readable(one.gamma_fixed)}"
    if one.gamma_predicted is not None:
        text += f" and the noise scale along the runs predicts {readable(one.gamma_predicted)}"
    beyond = " It lies beyond the fixed batch sizes that were trained: extrapolated." if one.outside else ""
    return f"{text}.{beyond}"


def verdict(found: Adaptive, ratio: float, low: float | None, high: float | None, steps: Sequence[float]) -> str:
    """Whether a ratio shows a gain.

    A number shows nothing, whatever its interval over seeds, that is nearer to 1 than two standard deviations of what
    the fixed batch sizes miss their curve by beyond the spread over seeds, or than the distance of two evaluations over
    the root of the seeds.

    Args:
        found: all that was measured.
        ratio: of steps and examples.
        low: of its interval; None where there is none.
        high: likewise.
        steps: of the schedules that it is a mean over.
    """
    grids = [max(1 / s, found.resolution) / math.sqrt(found.n_seeds) for s in steps]
    coarse = abs(math.log(ratio)) <= max(2 * found.misfit, sum(grids) / len(grids))
    if (low is None or high is None) and not found.deterministic:
        return "without an interval, which needs three seeds, neither a gain nor a loss is shown"
    if coarse:
        unsure = low is not None and high is not None and low <= 1 <= high
        why = "" if unsure else ", because what fixed ones need is known no better"
        return f"neither a gain nor a loss is shown{why}"
    if found.deterministic or low is None or high is None:
        return "a gain" if ratio < 1 else "a loss"
    if high < 1:
        return "a gain"
    return "a loss" if low > 1 else "neither a gain nor a loss is shown"


def _pooled(found: Adaptive) -> str:
    if found.pooled is None:
        return "No schedule that follows the noise scale has a number beside that of a fixed batch size."
    steps = [one.steps for one in found.of("noise") if one.ratio is not None and one.steps is not None]
    n = len(steps)
    text = (
        f"Batch sizes that follow the noise scale need {_times(found.pooled, found.pooled_low, found.pooled_high)} the "
        f"steps and {found.unit} of their mean held fixed (mean of {n} exchange rate{'s' if n > 1 else ''}"
        f"{'' if found.deterministic else f', {found.n_seeds} seed' + ('s' if found.n_seeds > 1 else '')}): "
        f"{verdict(found, found.pooled, found.pooled_low, found.pooled_high, steps)}."
    )
    if found.pooled_predicted is not None:
        text += f" The theory predicts {readable(found.pooled_predicted)} from the noise scale along these runs."
    return text


def _fixed(found: Adaptive) -> list[str]:
    scatter = f"{100 * math.expm1(found.scatter):.1f} %"
    gaps = [one.schedule for one in found.of("fixed") if one.steps is None]
    text = (
        f"The fixed batch sizes were trained again with the same learning rates, seeds and code: s_min is "
        f"{readable(found.s_min)} steps, e_min {readable(found.e_min)} {found.unit}, and their steps lie within "
        f"{scatter} of the curve that schedules are compared with ({100 * math.expm1(found.misfit):.1f} % beyond the "
        "spread over seeds)."
    )
    left = [f"Not every seed reached the target at {', '.join(gaps)}: left out of the curve."] if gaps else []
    return [text, *left]


def _rests_on(found: Adaptive) -> list[str]:
    kept = ", ".join(f"{name} {value}" for name, value in found.kept.items())
    kept = f" {kept} as at batch size {found.kept_from:,}." if kept else ""
    source = "known exactly" if found.noise == "b_noise" else "measured between the micro-batches of each update"
    return [
        f"All runs are trained to {found.target}. The learning rate follows the batch size by what the studies tuned "
        f"at fixed ones, on straight lines of log lr between them.{kept}",
        f"The noise scale is {found.noise}, {source}, times {readable(found.factor)}, which makes its mean over "
        "training the b_crit of the fixed batch sizes; r is the examples paid for a step less, and B = sqrt(r N). "
        "The gamma that is measured does not use the factor; the predicted one changes little with it.",
        "The theory (McCandlish et al. 2018, appendix D) takes the best learning rate of every moment for granted, and "
        "small steps; tuned constant rates are neither, so that what it predicts is a guide, not a bound. Where "
        "micro-batches are made one after another time goes with the examples, not with the steps.",
    ]


def _times(value: float, low: float | None, high: float | None) -> str:
    return f"{_number(value, low, high)} times"


def _number(value: float | None, low: float | None, high: float | None) -> str:
    if value is None:
        return "not known"
    if low is None or high is None:
        return readable(value)
    return f"{readable(value)} (95 %: {readable(max(low, 0.0))} to {readable(high)})"


__all__ = ["answer_sentence", "sentences", "verdict"]
