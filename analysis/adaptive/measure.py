"""From runs to answers: steps, examples and gamma of every schedule, with intervals over seeds."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import special

from bcrit.analysis.adaptive.frontier import Frontier, frontier
from bcrit.analysis.adaptive.gain import ratio_of_gamma
from bcrit.analysis.adaptive.predicted import gain_along
from bcrit.analysis.adaptive.result import ScheduleResult, Trained

Floats = NDArray[np.float64]

LEVEL = 0.95
_FEWEST_SEEDS = 3  # with two, Student's t has one degree of freedom and is 12.7


@dataclass(frozen=True)
class Measured:
    """What all schedules needed.

    Attributes:
        frontier: of the fixed batch sizes.
        misfit: the part of their scatter about it that the spread over seeds does not explain.
        answers: complete.
        pooled: fields `pooled`, `pooled_low`, `pooled_high`, `pooled_predicted` of the result.
    """

    frontier: Frontier
    misfit: float
    answers: tuple[ScheduleResult, ...]
    pooled: Mapping[str, float | None]


def measure(schedules: Sequence[ScheduleResult], runs: Sequence[Trained], factor: float) -> Measured | None:
    """Hold every schedule against the fixed batch sizes.

    Numbers are geometric means over seeds, because the crossing of a target scatters by a factor. Intervals are the
    jackknife's: each seed in turn is left out of all schedules (which share its initialisation and data order),
    everything is computed again, frontier included, and the standard error sqrt((n - 1) / n sum (x_i - mean x)^2) is
    taken with Student's t of n - 1 degrees of freedom, on the logarithm for the ratio. A bootstrap's quantiles are too
    narrow with so few seeds (by sqrt((n - 1) / n) and for want of t), and take a hundred times the fits.

    Args:
        schedules: what is known of each before it is measured: name, kind, batch size or exchange rate.
        runs: of all of them, with the same seeds.
        factor: on the measured noise scale.

    Returns:
        The answers; None where fixed batch sizes give no frontier.
    """
    tables = {one.schedule: _table(one.schedule, runs) for one in schedules}
    fixed = {one.batch_size: one.schedule for one in schedules if one.kind == "fixed" and one.batch_size is not None}
    n = max(len(table) for table in tables.values())
    own = _numbers(np.arange(n), tables, fixed, schedules)
    if own is None:
        return None
    found, ratios, gammas = own
    left = range(n if n >= _FEWEST_SEEDS else 0)
    without = [_numbers(np.delete(np.arange(n), seed), tables, fixed, schedules) for seed in left]
    whole = [there for there in without if there is not None]
    answers = []
    for place, one in enumerate(schedules):
        table = tables[one.schedule]
        complete = bool(len(table)) and bool(np.isfinite(table).all())
        answer = replace(one, n_runs=len(table), n_reached=int(np.isfinite(table).all(axis=1).sum()))
        if complete:
            steps, examples = map(float, _mean(table))
            answer = replace(answer, steps=steps, examples=examples)
        if complete and one.kind != "fixed":
            ratio = _interval(float(ratios[place]), [there[1][place] for there in whole], n, log=True)
            gamma = _interval(float(gammas[place]), [there[2][place] for there in whole], n, log=False)
            facts = {"ratio": ratio, "gamma": gamma}
            numbers: dict[str, Any] = {
                f"{name}{end}": x for name, t in facts.items() for end, x in zip(_ENDS, t, strict=True)
            }
            answer = replace(answer, **numbers, **_theory(answer, found, runs, factor))
        answers.append(answer)
    misfit = _misfit(found, [tables[name] for name in fixed.values()])
    return Measured(found, misfit, tuple(answers), _pooled(answers, ratios, whole, n))


_ENDS = ("", "_low", "_high")


def fixed_frontier(fixed: Mapping[int, str], runs: Sequence[Trained]) -> Frontier | None:
    """The frontier of `measure`.

    Args:
        fixed: schedules by their batch size.
        runs: of theirs, and maybe others.

    Returns:
        It; None where the batch sizes at which every seed reached the target give none.
    """
    return _frontier({b: _mean(_table(name, runs)) for b, name in fixed.items()})


def _frontier(means: Mapping[int, Floats]) -> Frontier | None:
    return frontier({b: float(mean[0]) for b, mean in sorted(means.items()) if math.isfinite(mean[0])})


def _mean(table: Floats) -> Floats:
    """The geometric mean over seeds of steps and examples, infinite where one did not reach; (2,)."""
    return np.asarray(np.exp(np.log(table).mean(axis=0))) if len(table) else np.full(2, math.inf)


def _table(schedule: str, runs: Sequence[Trained]) -> Floats:
    """Steps and examples of each seed, infinite where it did not reach; (n_seeds, 2)."""
    mine = sorted((run for run in runs if run.schedule == schedule), key=lambda run: run.number)
    rows = [(run.steps or math.inf, run.examples or math.inf) for run in mine]
    return np.array(rows, dtype=float).reshape(-1, 2)


def _numbers(
    seeds: NDArray[np.int64],
    tables: Mapping[str, Floats],
    fixed: Mapping[int, str],
    schedules: Sequence[ScheduleResult],
) -> tuple[Frontier, Floats, Floats] | None:
    """The frontier, and every schedule's ratio and gamma, from some seeds; NaN where there is none."""
    means = {name: _mean(table[seeds] if len(table) else table) for name, table in tables.items()}
    found = _frontier({b: means[name] for b, name in fixed.items()})
    if found is None:
        return None
    ratios, gammas = np.full(len(schedules), np.nan), np.full(len(schedules), np.nan)
    for place, one in enumerate(schedules):
        steps, examples = (float(value) for value in means[one.schedule])
        if math.isfinite(steps):
            gammas[place] = found.gamma(steps, examples)
            ratios[place] = steps / found.steps_at(examples / steps)
    return found, ratios, gammas


def _misfit(found: Frontier, fixed: Sequence[Floats]) -> float:
    """The scatter about the frontier less what the means of so many seeds scatter by themselves."""
    whole = [np.log(table[:, 0]) for table in fixed if len(table) > 1 and np.isfinite(table).all()]
    seeds = float(np.mean([steps.var(ddof=1) / len(steps) for steps in whole])) if whole else 0.0
    return math.sqrt(max(found.scatter**2 - seeds, 0.0))


def _interval(
    value: float, without: Sequence[float], n: int, log: bool
) -> tuple[float | None, float | None, float | None]:
    """The value with its interval from the values without each seed; None where one of them has no number."""
    if not math.isfinite(value):
        return None, None, None
    if n < _FEWEST_SEEDS or len(without) < n or not np.isfinite(without).all():
        return value, None, None
    each = np.log(without) if log else np.asarray(without)
    error = math.sqrt((n - 1) / n * float(((each - each.mean()) ** 2).sum()))
    half = error * float(special.stdtrit(n - 1, (1 + LEVEL) / 2))
    return (value, value * math.exp(-half), value * math.exp(half)) if log else (value, value - half, value + half)


def _theory(answer: ScheduleResult, found: Frontier, runs: Sequence[Trained], factor: float) -> dict[str, Any]:
    """What the fixed batch size has in gamma's place, and what the noise scale along the runs predicts."""
    if answer.steps is None or answer.examples is None:
        return {}
    batch_size = answer.examples / answer.steps
    same = found.steps_at(batch_size)
    facts: dict[str, Any] = {
        "outside": not 0.999 * found.smallest <= batch_size <= 1.001 * found.largest,  # a ratio of means is rounded
        "gamma_fixed": found.gamma(same, batch_size * same),
    }
    gains = [g for run in runs if run.schedule == answer.schedule and (g := gain_along(run, factor)) is not None]
    if answer.kind == "noise" and gains:
        predicted = float(np.exp(np.mean([math.log(one.gamma) for one in gains])))
        share = ratio_of_gamma(predicted, batch_size / found.hyperbola.b_crit)
        facts |= {"gamma_predicted": predicted, "ratio_predicted": share}
    return facts


def _pooled(
    answers: Sequence[ScheduleResult], ratios: Floats, without: Sequence[tuple[Frontier, Floats, Floats]], n: int
) -> dict[str, float | None]:
    """The geometric mean of the ratios of all schedules that follow the noise."""
    places = [place for place, one in enumerate(answers) if one.kind == "noise" and one.ratio is not None]
    if not places:
        return dict.fromkeys(("pooled", "pooled_low", "pooled_high", "pooled_predicted"))

    def mean(values: Floats) -> float:
        return float(np.exp(np.log(values[places]).mean()))

    three = _interval(mean(ratios), [mean(there[1]) for there in without], n, log=True)
    known = [value for place in places if (value := answers[place].ratio_predicted) is not None]
    predicted = float(np.exp(np.log(known).mean())) if len(known) == len(places) else None
    return dict(zip(("pooled", "pooled_low", "pooled_high"), three, strict=True)) | {"pooled_predicted": predicted}


__all__ = ["LEVEL", "Measured", "fixed_frontier", "measure"]
