"""Which targets to look at: the user's own, or a grid chosen from the curves."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from bcrit.analysis.records.one_pass import Floats, Integers
from bcrit.analysis.targets.crossings import in_order
from bcrit.search_spaces.problems import InputError
from bcrit.search_spaces.target import Direction, Target

N_TARGETS = 8
"""Targets of the default grid: enough to see a trend of b_crit, few enough for a table. Chosen, not studied."""

_FEWEST_EVALUATIONS = 4
"""Even the fastest study makes this many evaluations to the loosest target, so that its crossing is known to a quarter;
a tenth of those to the strictest where that is more. Chosen, not studied."""
_SHARE_OF_EVALUATIONS = 0.1

_DIGITS = 3  # of a threshold

Curve = tuple[Integers, Floats]
"""(steps, values) of a run, in order of step and without step 0."""


def read_targets(given: Sequence[str], own: Target) -> tuple[Target, ...]:
    """Read the user's targets: sentences (`val_loss < 0.3`), or numbers, which are thresholds of the run's own metric.

    Args:
        given: as typed.
        own: the experiment's target.

    Returns:
        The targets, the loosest first.

    Raises:
        InputError: one cannot be read, or they are of several metrics or directions.
    """
    found, problems = [], []
    for text in given:
        try:
            found.append(
                own.model_copy(update={"threshold": float(text)}) if _is_number(text) else Target.model_validate(text)
            )
        except ValueError:  # pydantic's own is one
            example = own.model_copy(update={"threshold": float(f"{own.threshold:.2g}")})
            rule = "a target is a number or reads 'METRIC < NUMBER' or 'METRIC > NUMBER'"
            problems.append(f"{rule}, but it is '{text}'; write '{example}', say")
    kinds = {(target.metric, target.direction) for target in found}
    if len(kinds) > 1:
        names = ", ".join(f"'{target}'" for target in found)
        problems.append(f"all targets must be of one metric in one direction, but they are {names}; ask in turn")
    problems += [
        f"'{own.metric}' improves by {own.direction.value[:-1]}ing, but the target is '{target}'; "
        f"write '{target.model_copy(update={'direction': own.direction})}'"
        for target in found
        if target.metric == own.metric and target.direction is not own.direction
    ]
    if problems:
        raise InputError("--target", problems)
    return in_order(found)


def _is_number(text: str) -> bool:
    try:
        return bool(np.isfinite(float(text)))
    except ValueError:
        return False


def default_targets(own: Target, curves: Mapping[int, Curve], stops: bool) -> tuple[Target, ...]:
    """Choose thresholds between an easy one and the strictest that every study can say something about.

    The strictest is the run's own target where runs stop there; where they go on, what the best run of every study
    reached; an error that falls to 0 cannot fall below it, and the last value before takes its place. From there the
    grid goes back to a loose threshold at which even the fastest study still makes a few evaluations. In between, the
    thresholds differ by equal factors. Two of them that most studies cross with the same evaluation would be one target
    under two names; one of them is left out.

    Args:
        own: the run's target.
        curves: by batch size the study's best run; studies without one are left out.
        stops: whether trials end at the run's own target.

    Returns:
        The targets, the loosest first; the own one among them if any study reached it. Only the own one where there is
        nothing to choose from.
    """
    sign = 1.0 if own.direction is Direction.MINIMIZE else -1.0
    # The best value so far, such that smaller is better; runs without a usable value cannot say anything.
    falls = {b: np.minimum.accumulate(np.where(np.isfinite(v), sign * v, np.inf)) for b, (_, v) in curves.items()}
    falls = {b: best for b, best in falls.items() if len(best) and np.isfinite(best[-1])}
    if not falls:
        return (own,)
    goal = sign * own.threshold
    reached_own = {b: best for b, best in falls.items() if best[-1] < goal}
    common = _common(falls)
    strictest = goal if stops and reached_own or reached_own and common >= goal else common
    usable = reached_own if strictest == goal else falls
    # The study with the fewest evaluations until then is the one whose crossings are known worst.
    counts = {
        b: int(np.argmax(best < strictest if strictest == goal else best <= strictest)) for b, best in usable.items()
    }
    fastest = min(counts, key=lambda b: (counts[b], -b))
    values = _between(falls[fastest], counts[fastest], strictest, sign)
    thresholds = {_looser(float(value), own.direction, sign) for value in values if value > strictest}
    if strictest not in (goal, 0):
        thresholds.add(_looser(strictest, own.direction, sign))
    if reached_own:
        thresholds.add(own.threshold)
    kept = _told_apart(sorted(thresholds, key=lambda value: (value != own.threshold, sign * value)), sign, usable)
    return in_order([own.model_copy(update={"threshold": threshold}) for threshold in kept] or [own])


def _common(falls: Mapping[int, Floats]) -> float:
    """What every study reached; where that is 0, the last value before it, as an error cannot fall below 0."""
    common = max(float(best[-1]) for best in falls.values())
    before = [float(value) for best in falls.values() for value in best[np.isfinite(best) & (best > 0)]]
    return min(before) if common == 0 and before else common


def _between(best: Floats, last: int, strictest: float, sign: float) -> Floats:
    """The grid from what a run reached after a few evaluations to the strictest, which it reaches with its `last`."""
    few = max(_FEWEST_EVALUATIONS, int(_SHARE_OF_EVALUATIONS * last)) - 1
    loosest = float(best[min(last, max(few, int(np.argmax(np.isfinite(best)))))])
    positive = min(sign * loosest, sign * strictest) > 0  # then by equal factors, as losses are looked at
    spaced = np.geomspace if positive else np.linspace
    return np.asarray(sign * spaced(sign * loosest, sign * strictest, N_TARGETS))


def _told_apart(thresholds: Sequence[float], sign: float, falls: Mapping[int, Floats]) -> list[float]:
    """The thresholds without those that most studies cross with the same evaluation as one before in the list."""
    kept: dict[float, Integers] = {}
    for threshold in thresholds:
        # How many evaluations each study's best run makes until it crosses; its length where it does not.
        counts = np.array([int(np.searchsorted(-best, -sign * threshold, side="right")) for best in falls.values()])
        if all(2 * int((counts != other).sum()) >= len(counts) for other in kept.values()):
            kept[threshold] = counts
    return list(kept)


def _looser(value: float, direction: Direction, sign: float) -> float:
    """The value rounded to three digits to the looser side, so that it lies strictly within what was reached."""
    raw = sign * value
    if raw == 0:
        return 0.0  # within the grid; its strictest end is not 0
    unit = 10.0 ** (np.floor(np.log10(abs(raw))) - _DIGITS + 1)
    rounded = float(f"{np.round(raw / unit) * unit:.{_DIGITS}g}")
    if not direction.better(raw, rounded):
        rounded = float(f"{rounded + sign * unit:.{_DIGITS + 1}g}")
    return rounded


__all__ = ["N_TARGETS", "Curve", "default_targets", "read_targets"]
