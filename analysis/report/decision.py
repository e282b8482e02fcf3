"""The first screen of a report: what the choice takes, how sure it is, its settings to copy, and the curve's zones."""

from __future__ import annotations

import math
import shlex
from collections.abc import Iterator, Mapping
from copy import deepcopy
from dataclasses import dataclass, field
from typing import Any, Final

from bcrit.analysis.numbers.wording import duration, readable
from bcrit.analysis.recommendation import Recommendation
from bcrit.analysis.recommendation.choices import FrontierPoint
from bcrit.analysis.report.figure import VERMILLION, Figure, points
from bcrit.analysis.run import Run

ZONES: Final = (
    ("too small", "rgba(230, 159, 0, 0.16)", "a larger batch saves time for free"),
    ("pays", "rgba(0, 158, 115, 0.14)", "a larger batch saves time and costs some examples"),
    ("wasted", "rgba(110, 119, 129, 0.20)", "a larger batch costs more and saves next to nothing"),
)
"""Where perfect scaling holds, where returns diminish, and the plateau, for somebody who pays for training."""
_DARK: Final = "#a84300"  # vermillion with a contrast of 4.5 and more on white and on the zones

_NAMED: Final = 0.1  # of the axis: a narrower zone has no room for its name. Chosen.


@dataclass(frozen=True)
class Decision:
    """What stands beside the answer's sentences; empty where nothing is advised."""

    taken: tuple[tuple[str, str, str], ...] = ()  # what a training takes: name, number with unit, its interval
    sure: tuple[str, ...] = ()  # what speaks for the numbers, and how far they reach
    copies: Mapping[str, str] = field(default_factory=dict)  # the settings, by the language they are written in
    zones: tuple[tuple[str, str, str, str], ...] = ()  # name, colour, range of batch sizes, meaning


def decision(run: Run) -> Decision:
    """What a manager and whoever starts the training need of a run."""
    zones = tuple((*zone[:2], where, zone[2]) for zone, (where, _, _) in zip(ZONES, _ranges(run), strict=False))
    found = run.recommendation
    if found is None or found.advised is None:
        return Decision(zones=zones)
    point = found.choices[found.advised]
    return Decision(tuple(_taken(found, point)), tuple(_sure(run, point)), _copies(found, point), zones)


def zoned(steps: Figure, run: Run) -> Figure:
    """The figure of steps against the batch size with the zones behind it and the advised batch size on it."""
    drawn = deepcopy(steps)
    for note in drawn["layout"]["annotations"]:
        note["font"] = {**note.get("font", {}), "color": _DARK}
    left, right = (10**end for end in drawn["layout"]["xaxis"]["range"])
    for (name, color, _), (_, low, high) in zip(ZONES, _ranges(run), strict=False):
        low, high = max(low, left), min(high, right)
        if low >= high:
            continue
        area = {"type": "rect", "xref": "x", "yref": "paper", "x0": low, "x1": high, "y0": 0, "y1": 1}
        drawn["layout"]["shapes"].append({**area, "layer": "below", "fillcolor": color, "line": {"width": 0}})
        if math.log(high / low) < _NAMED * math.log(right / left):
            continue  # its name stands in the legend
        middle = {"x": (math.log10(low) + math.log10(high)) / 2, "yref": "paper", "y": 0, "yanchor": "bottom"}
        drawn["layout"]["annotations"].append({**middle, "text": name, "showarrow": False})
    found = run.recommendation
    if found is not None and found.advised is not None:
        point = found.choices[found.advised]
        star = points([point.batch_size], [point.steps], color=VERMILLION, symbol="star", size=17, hoverinfo="skip")
        drawn["data"].append({"type": "scatter", **star, "name": f"advised: batch size {readable(point.batch_size)}"})
        drawn["layout"]["showlegend"] = True
    return drawn


def _ranges(run: Run) -> Iterator[tuple[str, float, float]]:
    """The batch sizes of each zone, in words and numbers; nothing where the curve does not tell them."""
    if run.fit is None or not run.fit.identified["b_crit"]:
        return
    found = run.fit.regimes()
    low, high = found.perfect_scaling_ends.value, found.plateau_begins.value
    if low is None or high is None:
        return
    yield f"below {readable(low)}", 0.0, low
    yield f"{readable(low)} to {readable(high)}", low, high
    yield f"above {readable(high)}", high, math.inf


def _taken(found: Recommendation, point: FrontierPoint) -> Iterator[tuple[str, str, str]]:
    """Steps, examples, hours and cost of one training, with intervals where they are known."""
    level = f"{100 * found.level:g} %"
    yield "steps", readable(point.steps), f"{level}: {point.estimate('steps').interval()}"
    yield found.unit, readable(point.examples), "to the target"
    if point.hours is not None:
        ends = (point.hours_low, point.hours_high)
        known = "" if None in ends else f"{level}: {duration(ends[0] or 0)} to {duration(ends[1] or 0)}"
        yield "time", duration(point.hours), known or "on the devices timed"
    if point.cost is not None and found.cost_unit == "currency":
        yield "cost", readable(point.cost), f"{level}: {point.estimate('cost').interval()}"
    elif point.cost is not None:
        yield "cost", f"{duration(point.cost)} of a device", "no price given"


def _sure(run: Run, point: FrontierPoint) -> Iterator[str]:
    fit, studies = run.fit, run.studies[run.studies["batch_size"] == point.batch_size]
    for row in studies.to_dict("records"):
        if row["source"] == "confirm":
            yield f"{row['n_reached']} of {row['n_seeds']} fresh seeds reached the target at this batch size"
        else:
            yield "not confirmed on fresh seeds at this batch size"
    if fit is not None and fit.identified["b_crit"] and 0 < fit.b_crit_low and math.isfinite(fit.b_crit_high):
        factor = math.sqrt(fit.b_crit_high / fit.b_crit_low)
        yield f"the bend of the curve is known to a factor {readable(factor)} ({len(fit.reached)} batch sizes)"


def _copies(found: Recommendation, point: FrontierPoint) -> dict[str, str]:
    at = found.hyperparameters.get(found.advised or "")
    values: dict[str, Any] = {"batch_size": point.batch_size, **(at.values if at else {})}
    plain = {name: float(f"{v:.6g}") if isinstance(v, float) else v for name, v in values.items()}
    plain = {name: int(v) if isinstance(v, float) and v == int(v) else v for name, v in plain.items()}
    flags = (f"{shlex.quote('--' + name.replace('_', '-'))} {shlex.quote(str(value))}" for name, value in plain.items())
    return {
        "YAML": "".join(f"{name}: {value}\n" for name, value in plain.items()),
        "Python": repr(plain),
        "flags": " ".join(flags),
    }
