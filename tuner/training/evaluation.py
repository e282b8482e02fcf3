"""When a trial is evaluated: the one grid that all trials of an experiment share."""

from __future__ import annotations

from collections.abc import Iterator


def next_evaluation(step: int, resolution: float) -> int:
    """The evaluation after the one at `step`.

    Intervals grow with the step: `max(1, floor(resolution x step))`. A crossing at S is then known to one step or to
    the share `resolution` of S, whichever is larger, at every batch size and before anything is known of S. A fixed
    interval for all batch sizes would bias s_min, and with it b_crit.

    Args:
        step: optimizer updates made, at least 0.
        resolution: largest interval as a share of the step.

    Returns:
        Optimizer updates at the next evaluation.
    """
    return step + max(1, int(resolution * step))


def evaluation_steps(max_steps: int, resolution: float) -> Iterator[int]:
    """The grid from 0 up to `max_steps`, which is always its last point."""
    step = 0
    while step < max_steps:
        yield step
        step = next_evaluation(step, resolution)
    yield max_steps


def at_or_after(step: float, resolution: float) -> int:
    """The first point of the grid at or after `step`."""
    point = 0
    while point < step:
        point = next_evaluation(point, resolution)
    return point
