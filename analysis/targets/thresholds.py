"""Which targets to look at: the user's own, or a grid chosen from the curves."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from analysis.one_pass import Floats, Integers
from analysis.targets.crossings import in_order
from search_spaces.problems import InputError
from search_spaces.target import Direction, Target

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
    reached. From there the grid goes back to a loose threshold at which even the fastest study still makes a few
    evaluations. In between, the steps of that study grow by equal factors.

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
    common = max(best[-1] for best in falls.values())
    strictest = goal if stops and reached_own or reached_own and common >= goal else common
    usable = reached_own if strictest == goal else falls
    # The study with the fewest evaluations until then is the one whose crossings are known worst.
    counts = {
        b: int(np.argmax(best < strictest if strictest == goal else best <= strictest)) for b, best in usable.items()
    }
    fastest = min(counts, key=lambda b: (counts[b], -b))
    last, best = counts[fastest], falls[fastest]
    first = min(last, max(_FEWEST_EVALUATIONS, int(_SHARE_OF_EVALUATIONS * last)) - 1)
    loosest = float(best[first])
    positive = min(sign * loosest, sign * strictest) > 0  # then by equal factors, as losses are looked at
    between = np.geomspace if positive else np.linspace
    values = sign * between(sign * loosest, sign * strictest, N_TARGETS)
    thresholds = {_looser(float(value), own.direction, sign) for value in values if value > strictest}
    thresholds.add(own.threshold if strictest == goal else _looser(strictest, own.direction, sign))
    if reached_own:
        thresholds.add(own.threshold)
    return in_order([own.model_copy(update={"threshold": threshold}) for threshold in thresholds])


def _looser(value: float, direction: Direction, sign: float) -> float:
    """The value rounded to three digits to the looser side, so that it lies strictly within what was reached."""
    raw = sign * value
    if raw == 0:
        return 0.0
    unit = 10.0 ** (np.floor(np.log10(abs(raw))) - _DIGITS + 1)
    rounded = float(f"{np.round(raw / unit) * unit:.{_DIGITS}g}")
    if not direction.better(raw, rounded):
        rounded = float(f"{rounded + sign * unit:.{_DIGITS + 1}g}")
    return rounded


__all__ = ["N_TARGETS", "Curve", "default_targets", "read_targets"]
