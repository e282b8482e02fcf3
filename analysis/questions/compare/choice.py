"""Which run to choose, at which batch size, and what that saves in hours and money?"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from bcrit.analysis.numbers.wording import duration, readable
from bcrit.analysis.questions.compare.ratios import obstacle
from bcrit.analysis.questions.compare.sides import Side
from bcrit.analysis.recommendation.choices import FrontierPoint


@dataclass(frozen=True)
class _Best:
    """What a run advises by itself."""

    side: Side
    point: FrontierPoint
    hours: float
    half_width: float  # of the interval of log hours; NaN where it is open

    @property
    def told(self) -> str:
        return f"{self.side.label} at batch size {readable(self.point.batch_size)}"


def choice(sides: Sequence[Side], across_targets: bool = False) -> Iterator[str]:
    """Say in one sentence which run trains to the target in the shortest time, each at the batch size that it advises.

    The hours of both runs are taken as independent: half a width of the ratio's logarithm is the root of the sum of
    both squares. Nothing is said where fewer than two runs have step times, or where they cannot be compared.
    """
    found = sorted(filter(None, map(_best, sides)), key=lambda best: best.hours)
    if len(found) < 2 or any(obstacle(best.side, found[0].side, across_targets) for best in found[1:]):
        return
    first, other = found[:2]
    ratio, half = first.hours / other.hours, math.hypot(first.half_width, other.half_width)
    if not half < -math.log(ratio):  # NaN too
        yield (
            f"No run is clearly the one to choose for its time: {first.told} takes {duration(first.hours)} to the "
            f"target, {other.told} {duration(other.hours)}, and the intervals do not tell these apart."
        )
        return
    least, most = (readable(100 * (1 - ratio * math.exp(sign * half))) for sign in (1, -1))
    yield (
        f"Choose {first.told}: {duration(first.hours)} to the target, where {other.told} takes "
        f"{duration(other.hours)}. That saves {duration(other.hours - first.hours)} a training, "
        f"{readable(100 * (1 - ratio))} % ({least} to {most}){_money(first, other)}."
    )


def _best(side: Side) -> _Best | None:
    found = None if side.run is None else side.run.recommendation
    if found is None or found.advised is None:
        return None
    point = found.choices[found.advised]
    if point.hours is None:
        return None
    ends = point.hours_low, point.hours_high
    half = math.nan if ends[0] is None or ends[1] is None else math.log(ends[1] / ends[0]) / 2
    return _Best(side, point, point.hours, half)


def _money(first: _Best, other: _Best) -> str:
    """What it saves where both runs have a price."""
    priced = (best.side.run and best.side.run.recommendation for best in (first, other))
    if first.point.cost is None or other.point.cost is None or any(p and p.cost_unit != "currency" for p in priced):
        return ""
    return f", and {readable(other.point.cost - first.point.cost)} in money"
