"""From runs to answers: steps, examples and gamma of every schedule, held against the curve of fixed batch sizes."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bcrit.analysis.curve.hyperbola import Hyperbola
from bcrit.analysis.curve.likelihood import likelihood, minimise
from bcrit.analysis.curve.other_curves import PNorm, fit_p_norm
from bcrit.analysis.numbers import Estimate, Floats, Scale
from bcrit.analysis.questions.adaptive.result import ScheduleResult, Trained, gain_along, ratio_of_gamma

FEWEST = 3
"""Fixed batch sizes that a frontier needs: one more than the hyperbola has parameters."""

_FEWEST_SEEDS = 3  # with two, Student's t has one degree of freedom and is 12.7


@dataclass(frozen=True)
class Frontier:
    """Steps and examples of fixed batch sizes."""

    hyperbola: Hyperbola  # through them, whose s_min and e_min gamma is measured by
    # the same with a knee as sharp as the data's (`curve.other_curves`), where there are four of them or more; a
    # knee that is sharper than a hyperbola's would pass for a gain of whatever is compared with it
    knee: PNorm | None
    smallest: int  # of their batch sizes
    largest: int
    # standard deviation of log steps about the curve with the knee, else about the hyperbola: the root of the squared
    # residuals over the batch sizes less the parameters
    scatter: float

    def steps_at(self, batch_size: float) -> float:
        """Steps of a fixed batch size."""
        return float((self.knee or self.hyperbola).steps(batch_size))

    def gamma(self, steps: float, examples: float) -> float:
        """(S / s_min - 1) (E / e_min - 1) by the hyperbola (McCandlish et al. 2018, eq. D.4)."""
        return (steps / self.hyperbola.s_min - 1.0) * (examples / self.hyperbola.e_min - 1.0)

    def curve(self, points: int = 60) -> tuple[tuple[float, ...], tuple[float, ...]]:
        """Steps and examples along the frontier, as far as there are fixed batch sizes."""
        sizes = [float(b) for b in np.geomspace(self.smallest, self.largest, points)]
        steps = [self.steps_at(b) for b in sizes]
        return tuple(steps), tuple(b * s for b, s in zip(sizes, steps, strict=True))


def frontier(steps: Mapping[int, float]) -> Frontier | None:
    """Fit the frontier to steps by batch size, where the target was reached.

    None with fewer than three, or where they do not bend, so that there is no s_min or no e_min.
    """
    if len(steps) < FEWEST:
        return None
    x, y = (np.log(np.array(values, dtype=float)) for values in (list(steps), list(steps.values())))
    profile = likelihood(x, y, np.ones(len(x), dtype=bool))
    hyperbola = profile.curve(minimise(profile))
    if not (hyperbola.s_min > 0 and hyperbola.e_min > 0):
        return None
    knee = fit_p_norm(x, y)
    rms = knee.rms_log_residual if knee else float(np.sqrt(((y - np.log(hyperbola.steps(np.exp(x)))) ** 2).mean()))
    scatter = rms * math.sqrt(len(x) / (len(x) - (3 if knee else 2)))
    return Frontier(hyperbola, knee, min(steps), max(steps), scatter)


@dataclass(frozen=True)
class Measured:
    """What all schedules needed."""

    frontier: Frontier  # of the fixed batch sizes
    misfit: float  # the part of their scatter about it that the spread over seeds does not explain
    answers: tuple[ScheduleResult, ...]  # complete
    pooled: Mapping[str, float | None]  # fields `pooled`, `pooled_low`, `pooled_high`, `pooled_predicted` of the result


def measure(schedules: Sequence[ScheduleResult], runs: Sequence[Trained], factor: float) -> Measured | None:
    """Hold every schedule, of which kind and batch size or exchange rate are known, against the fixed batch sizes.

    `runs` are those of all of them, with the same seeds, `factor` that on the measured noise scale. None where fixed
    batch sizes give no frontier.

    Numbers are geometric means over seeds, because the crossing of a target scatters by a factor. Intervals are the
    jackknife's: each seed in turn is left out of all schedules (which share its initialisation and data order),
    everything is computed again, frontier included, and the standard error sqrt((n - 1) / n sum (x_i - mean x)^2) is
    taken with Student's t of n - 1 degrees of freedom, on the logarithm for the ratio. A bootstrap's quantiles are too
    narrow with so few seeds (by sqrt((n - 1) / n) and for want of t), and take a hundred times the fits.
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
            ratio = _interval(float(ratios[place]), [there[1][place] for there in whole], n, Scale.LOG)
            gamma = _interval(float(gammas[place]), [there[2][place] for there in whole], n, Scale.LINEAR)
            numbers: dict[str, Any] = {**ratio.flat("ratio"), **gamma.flat("gamma")}
            answer = replace(answer, **numbers, **_theory(answer, found, runs, factor))
        answers.append(answer)
    misfit = _misfit(found, [tables[name] for name in fixed.values()])
    return Measured(found, misfit, tuple(answers), _pooled(answers, ratios, whole, n))


def fixed_frontier(fixed: Mapping[int, str], runs: Sequence[Trained]) -> Frontier | None:
    """The frontier of `measure`, from schedules by their batch size.

    None where the batch sizes at which every seed reached the target give none.
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


def _interval(value: float, without: Sequence[float], n: int, scale: Scale) -> Estimate:
    """The value with its interval from the values without each seed, where all of them have a number."""
    if not math.isfinite(value):
        return Estimate(None)
    if n < _FEWEST_SEEDS or len(without) < n or not np.isfinite(without).all():
        return Estimate(value)
    return Estimate.jackknife(value, without, scale=scale)


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

    pooled = _interval(mean(ratios), [mean(there[1]) for there in without], n, Scale.LOG)
    known = [value for place in places if (value := answers[place].ratio_predicted) is not None]
    predicted = float(np.exp(np.log(known).mean())) if len(known) == len(places) else None
    return {**pooled.flat("pooled"), "pooled_predicted": predicted}
