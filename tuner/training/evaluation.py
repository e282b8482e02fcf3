"""When a trial is evaluated: the one grid that all trials of an experiment share."""

from collections.abc import Callable, Iterator
from typing import Final

from bcrit.search_spaces.target import Target

_COARSE: Final = 0.2
"""Largest interval of the coarse grid as a share of the step. On the curves of examples/digits.yaml 0.1 keeps 68 % of
the search's evaluations, 0.2 56 % and 0.3 49 %. A trial's limits stand on this grid: the wider it is, the later they
come."""

_NEAR: Final = 0.1
"""Share of the way from the start to the target that is still to go where the fine grid begins. On 171 curves of that
example no crossing moved with 0.1, and two did, by at most 12 % of their steps, with 0.05."""


def next_evaluation(step: int, resolution: float) -> int:
    """The evaluation after the one at `step`.

    Intervals grow with the step: `max(1, floor(resolution x step))`. A crossing at S is then known to one step or to
    the share `resolution` of S, whichever is larger, at every batch size and before anything is known of S. A fixed
    interval for all batch sizes would bias s_min, and with it b_crit.
    """
    return step + max(1, int(resolution * step))


def evaluation_steps(max_steps: int, resolution: float) -> Iterator[int]:
    """The grid from 0 up to `max_steps`, which is always its last point."""
    step = 0
    while step < max_steps:
        yield step
        step = next_evaluation(step, resolution)
    yield max_steps


def next_coarse_evaluation(step: int, resolution: float) -> int:
    """The point of the coarse grid after the one at `step`: where a search trial far from its target is evaluated next.

    It is the first point of the grid that lies 1/5 of `step`, and at least one update, ahead. The coarse grid keeps
    some points of the grid, the same for all trials. Up to step 50 or so the grid has every step, and small models then
    take longer to be evaluated than to be trained; far from the target that buys nothing.
    """
    wanted = next_evaluation(step, _COARSE)
    while step < wanted:
        step = next_evaluation(step, resolution)
    return step


def is_near(target: Target, first: float, best: float) -> bool:
    """Whether a curve has come so near its target that each point of the grid counts: for the rest of the trial.

    `first` is the metric at the start, `best` its best value so far, the start included. This depends on the curve
    alone, neither on the clock nor on the trial's limits. A recorded curve therefore shows all that the trial would
    have done under other limits, as long as these are points of the coarse grid.
    """
    ahead = target.direction.better(target.threshold, best)
    return not ahead or abs(best - target.threshold) <= _NEAR * abs(first - target.threshold)


def at_or_after(step: float, resolution: float) -> int:
    """The first point of the grid at or after `step`."""
    return _at_or_after(step, resolution, next_evaluation)


def coarse_at_or_after(step: float, resolution: float) -> int:
    """The first point of the coarse grid at or after `step`: every trial that comes so far is evaluated there."""
    return _at_or_after(step, resolution, next_coarse_evaluation)


def _at_or_after(step: float, resolution: float, following: Callable[[int, float], int]) -> int:
    point = 0
    while point < step:
        point = following(point, resolution)
    return point
