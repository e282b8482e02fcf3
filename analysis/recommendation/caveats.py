"""What a recommendation assumes and what is doubtful about it, in sentences."""

from __future__ import annotations

import math
from collections.abc import Mapping

from analysis.recommendation.choices import LIMITED
from analysis.recommendation.frontier import FrontierPoint, Terms
from analysis.recommendation.hyperparameters import HyperparametersAt
from analysis.recommendation.sentences import advised
from analysis.wording import readable


def caveats(
    terms: Terms,
    choices: Mapping[str, FrontierPoint],
    limits: Mapping[str, float],
    hyperparameters: Mapping[str, HyperparametersAt],
    feasible: bool,
) -> tuple[str, ...]:
    """The sentences, those about the fit first.

    Args:
        terms: the fit, step times, prices.
        choices: by name.
        limits: by name.
        hyperparameters: by name of choice.
        feasible: whether the limits can be kept.
    """
    found = [*_fit(terms), *_limits(terms, choices, limits, feasible), *_time(terms, choices), *_edge(terms, choices)]
    if not hyperparameters:
        return tuple(found)
    point = hyperparameters[next(name for name, choice in choices.items() if choice is advised(choices))]
    between = " and ".join(readable(size) for size in point.studies)
    if point.source == "interpolated":
        found.append(f"The hyperparameters are interpolated between batch sizes {between}; nothing was trained there.")
    if point.source == "nearest":
        found.append(f"The hyperparameters are those of the nearest study, at batch size {between}; retune them.")
    return tuple(found)


def _fit(terms: Terms) -> list[str]:
    fit = terms.fit
    if not terms.on_curve:
        why = next((note for note in fit.notes if "not identified" in note or "nothing is called" in note), "")
        return [f"Only measured batch sizes are offered, with their measured steps and no interval. {why}".rstrip()]
    if not fit.lack_of_fit:
        return []
    worst = max((s for s in fit.studies if s.log_residual is not None), key=lambda s: abs(s.log_residual or 0))
    off = 100 * abs(math.expm1(worst.log_residual or 0))
    return [
        f"The points bend away from the hyperbola: at batch size {readable(worst.batch_size)} the measured steps are "
        f"{readable(off)} % off the curve that is used here."
    ]


def _limits(
    terms: Terms, choices: Mapping[str, FrontierPoint], limits: Mapping[str, float], feasible: bool
) -> list[str]:
    if not feasible:
        return _beyond(terms, limits) if terms.on_curve else []
    found = []
    for name, limit in limits.items():
        high = getattr(choices["best"], f"{LIMITED[name]}_high")
        if high is not None and high > limit:
            found.append(
                f"The best choice keeps {name} = {readable(limit)} by the estimate, but the upper end of its interval "
                f"is {readable(high)}."
            )
    return found


def _beyond(terms: Terms, limits: Mapping[str, float]) -> list[str]:
    """Where the curve would keep a limit that no measured batch size keeps."""
    found, curve = [], terms.fit.curve
    larger = curve.batch_size_for_steps(limits["max_steps"]) if "max_steps" in limits else None
    if larger is not None and larger > max(terms.measured):
        found.append(
            f"The curve would keep max_steps from batch size {readable(larger)} on, beyond the largest measured, "
            f"{readable(max(terms.measured))}; measure there before relying on it."
        )
    smaller = curve.batch_size_for_examples(limits["max_examples"]) if "max_examples" in limits else None
    if smaller is not None and smaller < min(terms.measured):
        found.append(
            f"The curve would keep max_examples up to batch size {readable(smaller)}, below the smallest measured, "
            f"{readable(min(terms.measured))}; measure there before relying on it."
        )
    return found


def _time(terms: Terms, choices: Mapping[str, FrontierPoint]) -> list[str]:
    if terms.step_times is None:
        return [
            "Step times are not known, so there are no hours and no cost: cheapest means fewest examples, fastest "
            "fewest steps."
        ]
    found = ["Hours are steps times the step time on the hardware where it was measured; evaluation is not counted."]
    if choices["cheapest"] == choices["fastest"]:
        found.append("Cheapest and fastest agree, because on a fixed number of devices cost is hours times a constant.")
    if any(point.step_time_source == "extrapolated" for point in choices.values()):
        sizes = terms.step_times.batch_sizes
        ends = f"{readable(sizes[0])} to {readable(sizes[-1])}"
        found.append(f"Step times were measured from batch size {ends} only; a choice outside uses a linear model.")
    return found


def _edge(terms: Terms, choices: Mapping[str, FrontierPoint]) -> list[str]:
    """With step times, an optimum at the end of the measured range may lie beyond it."""
    size = choices["fastest"].batch_size
    if terms.step_times is None:
        return []
    for end, which, further in (
        (max(terms.measured), "largest", "larger"),
        (min(terms.measured), "smallest", "smaller"),
    ):
        if size == end:
            text = f"The fastest choice, {readable(size)}, is the {which} batch size measured"
            return [f"{text}; {further} ones may be faster still."]
    return []
