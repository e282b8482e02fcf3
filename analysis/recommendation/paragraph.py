"""The whole decision as one paragraph in plain words, for a reader of nothing else."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from bcrit.analysis.recommendation.caveats import bend, beyond
from bcrit.analysis.recommendation.certainty import ROOM
from bcrit.analysis.recommendation.choices import LimitMissed
from bcrit.analysis.recommendation.frontier import FrontierPoint, terms_at
from bcrit.analysis.recommendation.hardware import title
from bcrit.analysis.recommendation.reasons import alternatives, limits_kept, what_binds, what_would_change
from bcrit.analysis.recommendation.result import Recommendation
from bcrit.analysis.recommendation.sentences import LIMIT_NAMES, amount, enough, listed, money, place
from bcrit.analysis.recommendation.terms import Terms
from bcrit.analysis.wording import duration, readable

_WIDE = 2.0  # a stretch of batch sizes over this factor leaves the exact size free; chosen, not studied
_GRID = 400  # batch sizes, a step of 1 to 3 %


def paragraph(found: Recommendation, offers: Sequence[Terms], target: str | None = None) -> str:
    """Say what to do, what it takes, what decides, what else could be chosen, what was assumed, what would change it.

    Where b_crit is not identified the first words are not to decide yet, and what to measure first; where the limits
    cannot be kept, not to start, and what would have to give.

    Args:
        found: the recommendation, but for this paragraph.
        offers: the fit and the hardware it was computed from.
        target: what is to be reached.

    Returns:
        Short sentences, one after the other.
    """
    terms = offers[0]
    told = [] if terms.on_curve else [_not_yet(found, terms)]
    if found.advised is None:
        told += _cannot(found, terms)
    else:
        point = found.choices[found.advised]
        terms = terms_at(point, offers)
        told += [*_do(found, point, terms), *what_binds(found, point), *limits_kept(found, point)]
        told += [*alternatives(found, point, terms), *what_would_change(found, point, terms)]
    bent = bend(terms)
    if bent is not None:
        other = _with_a_bend(found, terms)
        told.append(f"Take all this as rough: the measurements bend away from the assumed curve, and {bent}{other}.")
    if terms.on_curve and found.next_measurement is not None:
        told.append(f"To be surer, measure {found.next_measurement} next.")
    return " ".join([*told, _assumed(found, terms, target)])


def is_open(found: Recommendation) -> bool:
    """Whether the fit leaves the choice open: other hardware, or batch sizes at which the choice costs a tenth more."""
    if found.advised is None:
        return False
    sure = found.certainty[found.advised]
    if sure.rivals:
        return True
    known = sure.room_low is not None and sure.batch_size_low is not None
    return known and not (
        (sure.room_low or 0.0) <= (sure.batch_size_low or 0.0)
        and (sure.batch_size_high or math.inf) <= (sure.room_high or math.inf)
    )


def _not_yet(found: Recommendation, terms: Terms) -> str:
    """That it is too early, why, and what to measure first."""
    fit, sizes = terms.fit, sorted(terms.measured)
    smallest, largest = readable(sizes[0]), readable(sizes[-1])
    first = "more batch sizes, and repeat each with more seeds"
    why = "the measurements scatter too much to show where larger batches stop paying off"
    far = f"the measurements, up to batch size {largest}, do not show where larger batches stop paying off"
    near = f"the measurements, down to batch size {smallest}, do not show how little small batches would need"
    if fit.sigma is None:
        why = f"{len(sizes)} batch sizes cannot show where larger batches stop paying off"
        first = "at least four more batch sizes"
    elif not fit.identified["s_min"] and not fit.identified["e_min"]:
        why, first = far, f"batch sizes below {smallest} and above {largest}"
    elif not fit.identified["s_min"]:
        why, first = far, f"batch sizes above {largest}"
    elif not fit.identified["e_min"]:
        why, first = near, f"batch sizes below {smallest}"
        if sizes[0] <= 1:
            why = f"the steps hardly fall from batch size {smallest} on, and there is no smaller one"
            return f"Do not count on larger batches: {why}. Repeat the measurements with more seeds first."
    return f"Do not decide on this yet: {why}. Measure {found.next_measurement or first} first."


def _do(found: Recommendation, point: FrontierPoint, terms: Terms) -> list[str]:
    where = place(point.batch_size, point.hardware)
    told = [f"Train at {where}."]
    if not terms.on_curve:
        told = [f"If training must start before that, use {where}, the best of the batch sizes that were measured."]
    steps = f"about {readable(point.steps)} steps (updates of the model)"
    spent = [steps, f"{readable(point.examples)} {found.unit}"]
    if point.hours is not None and point.cost is not None:
        spent.append(duration(point.hours))
        if found.cost_unit == "currency" or found.several or point.devices != 1:
            spent.append(money(found, point.cost))
    told.append(f"This takes {', '.join(spent[:-1])} and {spent[-1]}{_between(found, point)}.")
    return [*told, *_settings(found), *_how_exact(found)]


def _between(found: Recommendation, point: FrontierPoint) -> str:
    """The interval of what is paid: of the time where it is known, else of the steps."""
    level = f"{readable(100 * found.level)} % interval"
    if point.hours_low is not None and point.hours_high is not None:
        text = f"; the {level} of the time is {duration(point.hours_low)} to {duration(point.hours_high)}"
        if found.cost_unit == "currency" and point.cost_low is not None and point.cost_high is not None:
            text += f", of the cost {readable(point.cost_low)} to {readable(point.cost_high)}"
        return text
    if point.steps_low is not None and point.steps_high is not None:
        return f"; the {level} of the steps is {readable(point.steps_low)} to {readable(point.steps_high)}"
    return ""


def _with_a_bend(found: Recommendation, terms: Terms) -> str:
    """Where the curve with a free knee has its optimum, for a choice without limits."""
    knee = terms.fit.p_norm
    if knee is None or found.advised in (None, "best"):
        return ""
    sizes = terms.sizes(_GRID)
    steps = knee.steps(sizes)
    paid = sizes * steps**2 if terms.hardware is None else steps * terms.hardware.step_times.seconds(sizes)
    return f"; a curve that follows the bend has its best size at {readable(float(sizes[int(np.argmin(paid))]))}"


def _settings(found: Recommendation) -> list[str]:
    if not found.hyperparameters or found.advised is None:
        return []
    at = found.hyperparameters[found.advised]
    values = listed(at.values)
    if not values:
        return []
    between = " and ".join(readable(size) for size in at.studies)
    origin = {
        "measured": "the best that was found at this batch size",
        "interpolated": f"read between the best at batch sizes {between}, so try them once before the full run",
        "law": (
            f"the learning rate by the law that all studies support, the rest from batch size {between}, so try them "
            "once before the full run"
        ),
        "extrapolated": f"extrapolated from batch size {between}, so tune them again",
        "nearest": f"those of batch size {between}, the nearest that was searched, so tune them again",
    }
    told = f"Set {values}: {origin.get(at.source, f'{at.source} from batch sizes {between}, so try them once first')}."
    sure = found.certainty[found.advised]
    if at.source != "measured" and found.advised != "best" and sure.room_low is not None and sure.room_high is not None:
        near = [size for size in at.studies if sure.room_low <= size <= sure.room_high]
        if near:
            longer = f"at most {readable(100 * ROOM)} % longer"
            told += f" Batch size {readable(near[0])} was searched itself and takes {longer}: the safer start."
    return [told]


def _how_exact(found: Recommendation) -> list[str]:
    """Whether the exact size matters, and whether the measurements know it."""
    if found.advised in (None, "best"):  # the stretch may break a limit; what binds is said instead
        return []
    sure = found.certainty[found.advised or ""]
    told = []
    wide = sure.room_low is None or sure.room_high is None
    if sure.room_low is not None and sure.room_high is not None and sure.room_low < sure.room_high:
        ends, longer = f"{readable(sure.room_low)} to {readable(sure.room_high)}", f"{readable(100 * ROOM)} % longer"
        told.append(
            f"The exact size matters little: from {ends} it takes at most {longer}."
            if sure.room_high >= _WIDE * sure.room_low
            else f"Stay close to it: outside of {ends} it takes more than {longer}."
        )
        low, high = sure.batch_size_low or sure.room_low, sure.batch_size_high or sure.room_high
        wide = low < sure.room_low or high > sure.room_high
    if wide and sure.batch_size_low is not None and sure.batch_size_high is not None:
        if sure.batch_size_low < sure.batch_size_high:
            ends = f"{readable(sure.batch_size_low)} to {readable(sure.batch_size_high)}"
            told.append(f"The best size is known to within {ends} ({readable(100 * found.level)} % interval).")
    return told


def _cannot(found: Recommendation, terms: Terms) -> list[str]:
    """That the limits cannot be kept, what comes nearest, and what would have to give."""
    missed = found.infeasible
    anywhere = " on any of the hardware given" if found.several else ""
    told = [f"Do not start under these limits: no batch size in the measured range keeps them{anywhere}."]
    needed = [_needed(found, entry) for entry in missed]
    wheres = [place(m.batch_size, title(m.device, m.devices) if found.several else "") for m in missed]
    if missed[0].alone:
        told.append(f"Allow {', or '.join(f'{n}, at {where}' for n, where in zip(needed, wheres, strict=True))}.")
    else:  # these are all of one place
        told.append(f"It would take {' and '.join(needed)} together, at {wheres[0]}.")
    curve, limits = terms.fit.curve, found.limits
    if terms.on_curve and "max_steps" in limits and curve.batch_size_for_steps(limits["max_steps"]) is None:
        told.append(f"Larger batches cannot help: even the largest takes at least {readable(curve.s_min)} steps.")
    if terms.on_curve and "max_examples" in limits and curve.batch_size_for_examples(limits["max_examples"]) is None:
        told.append(
            f"Smaller batches cannot help: even the smallest takes at least {readable(curve.e_min)} {found.unit}."
        )
    return told + (beyond(found, terms) if terms.on_curve else [])


def _needed(found: Recommendation, missed: LimitMissed) -> str:
    ratio = missed.needed / missed.given
    more = f"{readable(100 * (ratio - 1))} % more" if ratio < 2 else f"{readable(ratio)} times as much"
    if missed.needed_high is not None and missed.needed_high > missed.needed:
        more += f"; {enough(found, missed.limit, missed.needed_high)} to be safe"
    needed, given = enough(found, missed.limit, missed.needed), amount(found, missed.limit, missed.given)
    return f"a {LIMIT_NAMES[missed.limit]} of {needed} instead of {given} ({more})"


def _assumed(found: Recommendation, terms: Terms, target: str | None) -> str:
    parts = ["the hyperparameters are tuned for the batch size that is used"]
    if terms.hardware is not None:
        parts += ["steps take as long as they did when timed", "evaluation takes no time"]
    goal = f"the target ({target})" if target else "the target"
    text = f"Assumed: {', '.join(parts)}, and training stops once {goal} is reached."
    if terms.on_curve and terms.fit.sigma is not None and terms.fit.sigma >= 0.005:
        # Intervals are those of the tuned curve; a single run has its own luck on top.
        text += f" Single runs scatter around these numbers, by {100 * terms.fit.sigma:.2g} % or more."
    return text


__all__ = ["paragraph"]
