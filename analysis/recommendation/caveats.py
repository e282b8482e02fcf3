"""What a recommendation assumes and what is doubtful about it, in sentences."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal

from bcrit.analysis.recommendation.choices import LIMITED
from bcrit.analysis.recommendation.frontier import FrontierPoint, terms_at
from bcrit.analysis.recommendation.hardware import Hardware
from bcrit.analysis.recommendation.result import Recommendation
from bcrit.analysis.recommendation.sentences import place
from bcrit.analysis.recommendation.terms import Terms
from bcrit.analysis.wording import readable
from bcrit.search_spaces.presets import EXTRAPOLATIONS


def caveats(found: Recommendation, offers: Sequence[Terms], hardware: Sequence[Hardware]) -> tuple[str, ...]:
    """The sentences, those about the fit first.

    Args:
        found: the recommendation, but for its words.
        offers: the fit and the hardware it was computed from.
        hardware: all that was given, also what is not offered.
    """
    return tuple(
        [
            *_fit(offers[0]),
            *_limits(found, offers[0]),
            *_time(found, offers),
            *_left_out(offers, hardware),
            *_edge(found, offers),
            *_hyperparameters(found),
            *_gradients(found),
        ]
    )


def bend(terms: Terms) -> str | None:
    """How far the curve is off at worst, where the points bend away from it; None where they do not."""
    fit = terms.fit
    if not fit.lack_of_fit or not terms.on_curve:
        return None
    worst = max((s for s in fit.studies if s.log_residual is not None), key=lambda s: abs(s.log_residual or 0))
    off = 100 * abs(math.expm1(worst.log_residual or 0))
    side = "below" if (worst.log_residual or 0) < 0 else "above"
    return (
        f"at batch size {readable(worst.batch_size)} the measured steps are {readable(off)} % {side} the curve that is "
        "used here"
    )


def _fit(terms: Terms) -> list[str]:
    if not terms.on_curve:
        notes = terms.fit.notes
        why = next((note for note in notes if "not identified" in note or "nothing is called" in note), "")
        return [f"Only measured batch sizes are offered, with their measured steps and no interval. {why}".rstrip()]
    bent = bend(terms)
    return [] if bent is None else [f"The points bend away from the hyperbola: {bent}."]


def _limits(found: Recommendation, terms: Terms) -> list[str]:
    if not found.feasible:
        return beyond(found, terms) if terms.on_curve else []
    told = []
    for name, limit in found.limits.items():
        high = getattr(found.choices["best"], f"{LIMITED[name]}_high")
        if high is not None and high > limit:
            told.append(
                f"The best choice keeps {name} = {readable(limit)} by the estimate, but the upper end of its interval "
                f"is {readable(high)}."
            )
    safe = found.choices.get("safe")
    if told and safe is not None:
        told.append(f"The upper ends of the intervals keep the limits at {place(safe.batch_size, safe.hardware)}.")
    if told and safe is None:
        told.append("No choice keeps the limits with the upper ends of its intervals too.")
    return told


def beyond(found: Recommendation, terms: Terms) -> list[str]:
    """Where the curve would keep a limit that no measured batch size keeps."""
    told, curve, limits = [], terms.fit.curve, found.limits
    larger = curve.batch_size_for_steps(limits["max_steps"]) if "max_steps" in limits else None
    if larger is not None and larger > max(terms.measured):
        told.append(
            f"The curve would keep max_steps from batch size {readable(larger)} on, beyond the largest measured, "
            f"{readable(max(terms.measured))}; measure there before relying on it."
        )
    smaller = curve.batch_size_for_examples(limits["max_examples"]) if "max_examples" in limits else None
    if smaller is not None and smaller < min(terms.measured):
        told.append(
            f"The curve would keep max_examples up to batch size {readable(smaller)}, below the smallest measured, "
            f"{readable(min(terms.measured))}; measure there before relying on it."
        )
    return told


def _time(found: Recommendation, offers: Sequence[Terms]) -> list[str]:
    hardware = [terms.hardware for terms in offers if terms.hardware is not None]
    if not hardware:
        return [
            "Step times are not known, so there are no hours and no cost: cheapest means fewest examples, fastest "
            "fewest steps."
        ]
    told = ["Hours are steps times the step time on the hardware where it was measured; evaluation is not counted."]
    bare = [item.title for item in hardware if item.step_times.log_sigma is None]
    if bare:
        which = f" of {', '.join(bare)}" if found.several else ""
        told.append(f"The step times{which} have no repeats, so that their own error is in no interval.")
    if found.several:
        told += _several(found)
    elif found.choices["cheapest"] == found.choices["fastest"]:
        told.append("Cheapest and fastest agree, because on a fixed number of devices cost is hours times a constant.")
    return told + _untimed(found, offers)


def _several(found: Recommendation) -> list[str]:
    told = [
        "Balanced means the least product of hours and cost. Only the numbers of devices that were timed are offered."
    ]
    kinds = {point.device for point in found.frontier}
    if found.cost_unit == "device-hours" and len(kinds) > 1:
        told.append("No prices are given, so an hour of every kind of device counts the same.")
    return told


def _untimed(found: Recommendation, offers: Sequence[Terms]) -> list[str]:
    told = []
    for terms in offers:
        hardware = terms.hardware
        assert hardware is not None  # asked only where step times are known
        mine = [p for p in found.choices.values() if (p.device, p.devices) == (hardware.device, hardware.devices)]
        if all(point.step_time_source != "extrapolated" for point in mine):
            continue
        sizes = hardware.step_times.batch_sizes
        on = f" on {hardware.title}" if hardware.title else ""
        told.append(
            f"Step times{on} were measured from batch size {readable(sizes[0])} to {readable(sizes[-1])} only; a "
            "choice outside uses a linear model, and whether a larger batch fits into memory is not known. Splitting a "
            "step into several passes (gradient accumulation) would not make it faster."
        )
    return told


def _left_out(offers: Sequence[Terms], hardware: Sequence[Hardware]) -> list[str]:
    used = [terms.hardware for terms in offers]
    return [
        f"{item.title} is not offered: it was timed only at batch size {readable(item.step_times.batch_sizes[0])}, and "
        "the steps there are not known."
        for item in hardware
        if item not in used
    ]


def _edge(found: Recommendation, offers: Sequence[Terms]) -> list[str]:
    """With step times, an optimum at the end of the measured range may lie beyond it."""
    fastest = found.choices["fastest"]
    which = None if fastest.hours is None else edge(fastest, terms_at(fastest, offers))
    if which is None:
        return []
    text = f"The fastest choice, {readable(fastest.batch_size)}, is the {which}est batch size measured"
    return [f"{text}; {which}er ones may be faster still."]


def edge(point: FrontierPoint, terms: Terms) -> Literal["larg", "small"] | None:
    """Whether a batch size is the largest or the smallest measured: the stem of the word."""
    if terms.hardware is not None and terms.hardware.step_times.fixed:
        return None
    if point.batch_size == max(terms.measured):
        return "larg"
    return "small" if point.batch_size == min(terms.measured) else None


def _hyperparameters(found: Recommendation) -> list[str]:
    if not found.hyperparameters:
        return []
    point = found.hyperparameters[found.advised or next(iter(found.hyperparameters))]
    between = " and ".join(readable(size) for size in point.studies)
    if point.source == "interpolated":
        return [f"The hyperparameters are interpolated between batch sizes {between}; nothing was trained there."]
    if point.source == "law":
        return [
            f"The learning rate follows the law that the studies support, the rest is read at batch sizes {between}; "
            "nothing was trained there."
        ]
    if point.source == "extrapolated":
        return [f"The hyperparameters are extrapolated from batch sizes {between}; retune them."]
    if point.source == "nearest":
        return [f"The hyperparameters are those of the nearest study, at batch size {between}; retune them."]
    return []


def _gradients(found: Recommendation) -> list[str]:
    """Steps and examples count updates; a gradient that is taken twice shows in neither."""
    kinds = [str(point.values.get("extrapolation", "")) for point in found.hyperparameters.values()]
    count = max((EXTRAPOLATIONS.get(kind, 1) for kind in kinds), default=1)
    if count == 1:
        return []
    times = "twice" if count == 2 else f"{count} times"
    return [
        f"An update takes the gradient of each of its examples {times}, as the extrapolation needs one of its own: "
        f"examples count data, and gradients are {count} times as many."
    ]


__all__ = ["bend", "beyond", "caveats", "edge"]
