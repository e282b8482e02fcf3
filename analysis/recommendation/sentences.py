"""The recommendation in two sentences that need no other page, and the phrases that longer texts share with them."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from bcrit.analysis.fit.result import HyperbolaFit
from bcrit.analysis.recommendation.certainty import ROOM
from bcrit.analysis.recommendation.choices import LimitMissed
from bcrit.analysis.recommendation.frontier import FrontierPoint
from bcrit.analysis.recommendation.hardware import title
from bcrit.analysis.recommendation.result import Recommendation
from bcrit.analysis.wording import duration, readable, unit_of_duration
from bcrit.search_spaces.presets import STEPS_OF


def sentences(found: Recommendation, fit: HyperbolaFit) -> tuple[str, ...]:
    """Say what to train at and what that takes, and where larger batches stop paying.

    Args:
        found: the recommendation, but for its words.
        fit: it was computed from.
    """
    if found.advised is None:
        return _infeasible(found), _worthwhile(fit)
    return _train(found, found.choices[found.advised]) + _room(found), _worthwhile(fit)


def place(batch_size: float, hardware: str) -> str:
    """`batch size 64 on 8 x h100`."""
    return f"batch size {readable(batch_size)}" + (f" on {hardware}" if hardware else "")


def money(found: Recommendation, cost: float) -> str:
    """`a cost of 42`, or `42 device-hours` where no price was given."""
    return f"{readable(cost)} device-hours" if found.cost_unit == "device-hours" else f"a cost of {readable(cost)}"


def enough(found: Recommendation, limit: str, value: float) -> str:
    """The least limit that lets through a value, as it is printed, with its unit."""
    return amount(found, limit, hours_up(value) if limit == "max_hours" else rounded_up(value))


def amount(found: Recommendation, limit: str, value: float) -> str:
    """A value of what is limited, with its unit; money has none."""
    if limit == "max_hours":
        return duration(value)
    if limit == "max_cost":
        return readable(value) + (" device-hours" if found.cost_unit == "device-hours" else "")
    return f"{readable(value)} {'steps' if limit == 'max_steps' else found.unit}"


def rounded_up(value: float) -> float:
    """To the digits that `readable` shows, upwards, so that the limit that is printed would be enough."""
    if value <= 0:  # no digits to round to; nothing costs less than nothing
        return value
    unit = 1.0 if value >= 100 else 10.0 ** (math.floor(math.log10(value)) - 2)
    return math.ceil(value / unit - 1e-9) * unit


def hours_up(hours: float) -> float:
    """`rounded_up` in the unit that `duration` shows."""
    _, scale = unit_of_duration(hours)
    return rounded_up(hours * scale) / scale


LIMIT_NAMES = {"max_hours": "deadline", "max_cost": "budget", "max_steps": "limit", "max_examples": "limit"}
"""What the limits are called in prose; the last two are told apart by their unit."""


def listed(values: Mapping[str, Any]) -> str:
    """`lr = 0.1, momentum = 0.9`; a width that also stands in steps is left out."""
    return ", ".join(
        f"{name} = {readable(value) if isinstance(value, int | float) and not isinstance(value, bool) else value}"
        for name, value in values.items()
        if value is not None and not (name in STEPS_OF and STEPS_OF[name] in values)
    )


def _train(found: Recommendation, point: FrontierPoint) -> str:
    spread = ""
    if point.steps_low is not None and point.steps_high is not None:
        level = readable(100 * found.level)
        spread = f" ({level} % interval {readable(point.steps_low)} to {readable(point.steps_high)})"
    spent = [f"{readable(point.examples)} {found.unit}"]
    if point.hours is not None and point.cost is not None:
        spent.append(duration(point.hours))
        if found.cost_unit == "currency":
            spent.append(f"at a cost of {readable(point.cost)}")
    steps = f"about {readable(point.steps)} steps{spread}"
    return f"Train at {place(point.batch_size, point.hardware)}: {steps}, {', '.join(spent)}."


def _room(found: Recommendation) -> str:
    if found.advised in (None, "best", "balanced"):  # with limits, the stretch may break one
        return ""
    sure = found.certainty[found.advised or ""]
    if sure.room_low is None or sure.room_high is None or sure.room_low == sure.room_high:
        return ""
    ends = f"{readable(sure.room_low)} to {readable(sure.room_high)}"
    return f" From {ends} it takes at most {readable(100 * ROOM)} % longer."


def _worthwhile(fit: HyperbolaFit) -> str:
    if not fit.identified["b_crit"]:
        return (
            "How far larger batches pay is not known: the critical batch size is not determined by these measurements."
        )
    ends = f"{readable(fit.b_crit_low)} to {readable(fit.b_crit_high)}"
    # At B = b_crit, S(2B) / S(B) = 1.5 / 2.
    return (
        f"Beyond the critical batch size of {readable(fit.b_crit)} {fit.unit} ({readable(100 * fit.level)} % interval "
        f"{ends}), doubling the batch size saves less than a quarter of the steps."
    )


def _infeasible(found: Recommendation) -> str:
    missed = found.infeasible
    joined = (" or " if missed[0].alone else " and ").join(_needed(found, entry) for entry in missed)
    return f"No batch size in the measured range keeps the limits; it would take {joined}."


def _needed(found: Recommendation, missed: LimitMissed) -> str:
    shown, up = (duration, hours_up) if missed.limit == "max_hours" else (readable, rounded_up)
    where = f" on {title(missed.device, missed.devices)}" if found.several else ""
    return f"{missed.limit} at least {shown(up(missed.needed))} (given {shown(missed.given)}){where}"


__all__ = ["LIMIT_NAMES", "amount", "enough", "listed", "money", "place", "sentences"]
