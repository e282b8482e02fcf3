"""The recommendation in two sentences that need no other page."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np

from analysis.recommendation.choices import LimitMissed
from analysis.recommendation.frontier import FrontierPoint, Terms, quantities
from analysis.wording import duration, readable

# A stretch of batch sizes is named in which training takes at most this share longer. Chosen, not studied.
_ROOM = 0.1
_GRID = 200


def advised(choices: Mapping[str, FrontierPoint]) -> FrontierPoint:
    """The one choice to recommend.

    `best` where limits are given. Otherwise, with step times, the cheapest, which on fixed hardware is also the
    fastest; and without them the balanced one, because fewer steps then always cost more examples.
    """
    if "best" in choices:
        return choices["best"]
    return choices["balanced"] if choices["cheapest"].hours is None else choices["cheapest"]


def sentences(terms: Terms, choices: Mapping[str, FrontierPoint], infeasible: Sequence[LimitMissed]) -> tuple[str, ...]:
    """Say what to train at and what that takes, and where larger batches stop paying.

    Args:
        terms: the fit and the prices.
        choices: by name.
        infeasible: limits that have to give; empty where all are kept.
    """
    if infeasible:
        return _infeasible(infeasible), _worthwhile(terms)
    point = advised(choices)
    room = "" if "best" in choices else _room(terms, point)  # the stretch may break a limit
    return _train(terms, point) + room, _worthwhile(terms)


def _train(terms: Terms, point: FrontierPoint) -> str:
    spread = ""
    if point.steps_low is not None and point.steps_high is not None:
        level = readable(100 * terms.fit.level)
        spread = f" ({level} % interval {readable(point.steps_low)} to {readable(point.steps_high)})"
    spent = [f"{readable(point.examples)} {terms.fit.unit}"]
    if point.hours is not None and point.cost is not None:
        spent.append(duration(point.hours))
        if terms.price_per_device_hour is not None:
            spent.append(f"at a cost of {readable(point.cost)}")
    steps = f"about {readable(point.steps)} steps{spread}"
    return f"Train at batch size {readable(point.batch_size)}: {steps}, {', '.join(spent)}."


def _room(terms: Terms, point: FrontierPoint) -> str:
    """How far the batch size may be moved for a tenth more time: the optimum is flat, and step times scatter."""
    if point.hours is None or not terms.on_curve:
        return ""
    grid = np.geomspace(min(terms.measured), max(terms.measured), _GRID)
    hours = quantities(terms, grid)["hours"].to_numpy()
    slower = grid[hours > (1 + _ROOM) * point.hours]  # the stretch without a gap around the point
    low = max((b for b in slower if b < point.batch_size), default=grid[0])
    high = min((b for b in slower if b > point.batch_size), default=grid[-1])
    if not low < point.batch_size < high:
        return ""
    ends = f"{readable(math.ceil(low))} to {readable(math.floor(high))}"
    return f" From {ends} it takes at most {readable(100 * _ROOM)} % longer."


def _worthwhile(terms: Terms) -> str:
    fit = terms.fit
    if not terms.on_curve:
        return (
            "How far larger batches pay is not known: the critical batch size is not determined by these measurements."
        )
    ends = f"{readable(fit.b_crit_low)} to {readable(fit.b_crit_high)}"
    # At B = b_crit, S(2B) / S(B) = 1.5 / 2.
    return (
        f"Beyond the critical batch size of {readable(fit.b_crit)} {fit.unit} ({readable(100 * fit.level)} % interval "
        f"{ends}), doubling the batch size saves less than a quarter of the steps."
    )


def _infeasible(missed: Sequence[LimitMissed]) -> str:
    parts = []
    for m in missed:
        shown = duration if m.limit == "max_hours" else readable
        parts.append(f"{m.limit} at least {shown(m.needed)} (given {shown(m.given)})")
    joined = " or ".join(parts) if missed[0].alone else " and ".join(parts)
    return f"No batch size in the measured range keeps the limits; it would take {joined}."
