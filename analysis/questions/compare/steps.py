"""Which run needs fewer steps, and which fewer hours, where: by the curves, and as measured without trust in either."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import combinations, groupby
from typing import Any, Final

import numpy as np
import numpy.typing as npt
from scipy import optimize, special

from bcrit.analysis.curve.fit import HyperbolaFit
from bcrit.analysis.numbers.estimate import Estimate
from bcrit.analysis.numbers.welch import freedom, holm, welch
from bcrit.analysis.questions.compare.ratios import ALPHA, obstacle, unlogged
from bcrit.analysis.questions.compare.sides import Side

Floats = npt.NDArray[np.float64]

_GRID: Final = 257  # batch sizes at which two curves are compared: steps of 2 % over two decades; chosen, not studied


@dataclass(frozen=True)
class Stretch:
    """Batch sizes over which one and the same is true."""

    low: float  # smallest batch size
    high: float
    fewer: str | None  # label of the run with fewer steps there; None where the curves are not told apart
    strongest: Estimate  # steps of the run / steps of the baseline where it is farthest from 1
    strongest_at: float  # the batch size there

    def to_json(self) -> dict[str, Any]:
        """As `bcrit compare --json` has it."""
        ends = {"low": self.low, "high": self.high, "fewer": self.fewer}
        return {**ends, **self.strongest.flat("strongest"), "strongest_at": self.strongest_at}


@dataclass(frozen=True)
class Advantage:
    """Two runs over the batch sizes that both measured."""

    run: str  # label of the numerator of ratios
    baseline: str  # of the denominator
    low: float  # smallest batch size that both measured around
    high: float
    crossing: float | None  # where the two curves of steps meet between them; None where they do not
    stretches: tuple[Stretch, ...]  # by rising batch size; each interval holds for one batch size, not for all at once
    hours_crossings: tuple[float, ...] | None  # where the curves of training time meet; None without step times
    # (label, smallest, largest batch size) of the run with fewer hours, by rising batch size; no label where the two
    # are not told apart, the step times being taken as exact.
    faster: tuple[tuple[str | None, float, float], ...]

    def to_json(self) -> dict[str, Any]:
        """As `bcrit compare --json` has it."""
        return {**vars(self), "stretches": [stretch.to_json() for stretch in self.stretches]}


@dataclass(frozen=True)
class Fastest:
    """The batch size at which a run trains in the shortest time, within what it measured."""

    run: str
    batch_size: float
    steps: float
    hours: float  # with the step times of the run's own machine


def advantages(runs: Sequence[Side], across_targets: bool = False) -> tuple[Advantage, ...]:
    """Compare the fitted curves of every two runs over the batch sizes that both measured; nothing is extrapolated."""
    return tuple(
        _advantage(run, baseline)
        for baseline, run in combinations(runs, 2)
        if obstacle(run, baseline, across_targets) is None
    )


def fastest(runs: Sequence[Side]) -> tuple[Fastest, ...]:
    """The fastest batch size of every run with a curve and step times."""
    found = []
    for run in runs:
        if run.fit is not None and run.step_times is not None and run.range is not None:
            measured, between = run.reached["batch_size"].to_numpy(dtype=float), np.geomspace(*run.range, _GRID)
            whole = bool(np.all(measured == np.rint(measured)))
            sizes = np.union1d(measured, np.rint(between) if whole else between)
            hours = _hours(run, sizes)
            best = int(np.argmin(hours))
            steps = float(run.fit.curve.steps(sizes[best]))
            found.append(Fastest(run.label, float(sizes[best]), steps, float(hours[best])))
    return tuple(found)


def curve_ratio(run: HyperbolaFit, baseline: HyperbolaFit, sizes: Floats) -> tuple[Floats, Floats, Floats]:
    """The ratio of two curves with the ends of its pointwise interval; each (n,), as the batch sizes.

    log S_run - log S_baseline +- t(nu) sqrt(v_run + v_baseline), v being the variance of each curve's log S there.
    """
    (steps, a), (others, b) = (_log_variance(fit, sizes) for fit in (run, baseline))
    ratio = steps / others
    total = a + b
    share = np.divide(a, total, out=np.full_like(a, 0.5), where=total > 0)
    degrees = np.array([freedom(w, (run.degrees_of_freedom, baseline.degrees_of_freedom)) for w in share])
    half = special.stdtrit(degrees, (1 + min(run.level, baseline.level)) / 2) * np.sqrt(total)
    return ratio, ratio * np.exp(-half), ratio * np.exp(half)


def _log_variance(fit: HyperbolaFit, sizes: Floats) -> tuple[Floats, Floats]:
    """The curve and the variance of its logarithm; each (n,)."""
    band = fit.predict(sizes)
    steps, high = band["steps"].to_numpy(dtype=float), band["steps_high"].to_numpy(dtype=float)
    return steps, (np.log(high / steps) / fit.t) ** 2


def _advantage(run: Side, baseline: Side) -> Advantage:
    a, b = run.fit, baseline.fit
    assert a is not None and b is not None and run.range is not None and baseline.range is not None
    low, high = max(run.range[0], baseline.range[0]), min(run.range[1], baseline.range[1])
    sizes = np.geomspace(low, high, _GRID) if high > low else np.array([low])
    ratio, lower, upper = curve_ratio(a, b, sizes)
    names = {1: baseline.label, -1: run.label, 0: None}
    stretches = []
    for sign, first, last in _ranges(sizes, lower, upper):
        places = np.flatnonzero((sizes >= first) & (sizes <= last))
        top = places[np.argmax(np.abs(np.log(ratio[places])))]
        ends = float(lower[top]), float(upper[top])
        strongest = Estimate(float(ratio[top]), *ends, level=min(a.level, b.level))
        stretches.append(Stretch(first, last, names[sign], strongest, float(sizes[top])))
    crossings: tuple[float, ...] | None = None
    faster: tuple[tuple[str | None, float, float], ...] = ()
    if run.step_times is not None and baseline.step_times is not None:
        crossings = _hours_crossings(run, baseline, sizes)
        times = run.step_times.seconds(sizes) / baseline.step_times.seconds(sizes)
        faster = tuple((names[sign], first, last) for sign, first, last in _ranges(sizes, lower * times, upper * times))
    return Advantage(
        *(run.label, baseline.label, low, high), _crossing(a, b, low, high), tuple(stretches), crossings, faster
    )


def _crossing(run: HyperbolaFit, baseline: HyperbolaFit, low: float, high: float) -> float | None:
    """Where s + e / B = s' + e' / B, that is at B = (e - e') / (s' - s), if it lies inside."""
    steps, examples = baseline.s_min - run.s_min, run.e_min - baseline.e_min
    if steps == 0 or not low < examples / steps < high:
        return None
    return examples / steps


def _hours(run: Side, sizes: Floats) -> Floats:
    assert run.fit is not None and run.step_times is not None
    return np.asarray(run.fit.curve.steps(sizes) * run.step_times.seconds(sizes) / 3600)


def _hours_crossings(run: Side, baseline: Side, sizes: Floats) -> tuple[float, ...]:
    def log_ratio(log_size: float) -> float:
        size = np.array([math.exp(log_size)])
        return math.log(float(_hours(run, size)[0] / _hours(baseline, size)[0]))

    slower = _hours(run, sizes) > _hours(baseline, sizes)
    changes = np.flatnonzero(slower[1:] != slower[:-1])
    logs = np.log(sizes)
    return tuple(math.exp(float(optimize.brentq(log_ratio, logs[i], logs[i + 1]))) for i in changes)


def _ranges(sizes: Floats, low: Floats, high: Floats) -> list[tuple[int, float, float]]:
    """Where an interval lies above 1 (1), below it (-1) or holds it (0): (which, smallest, largest batch size)."""
    found = []
    for sign, group in groupby(range(len(sizes)), key=lambda i: int(low[i] > 1) - int(high[i] < 1)):
        places = list(group)
        found.append((sign, float(sizes[places[0]]), float(sizes[places[-1]])))
    return found


@dataclass(frozen=True)
class AtBatchSize:
    """Steps to target of two runs at one batch size that both measured."""

    batch_size: float
    run: str  # label of the numerator
    baseline: str  # of the denominator
    steps: float | None  # of the run; None = not reached
    baseline_steps: float | None
    # steps / baseline_steps; no value unless both reached. Where the run did not, the ratio is above `low` after as
    # much training; where the baseline did not, it is below `high`.
    ratio: Estimate
    p_value: float | None = None  # of "the ratio is 1"
    p_adjusted: float | None = None  # by Holm's method over the batch sizes of these two runs
    fewer: str | None = None  # label of the run that needs fewer steps beyond chance; None where neither does
    note: str = ""  # what qualifies the row

    def to_json(self) -> dict[str, Any]:
        """As `bcrit compare --json` has it."""
        return {**vars(self), "ratio": self.ratio.value, "low": self.ratio.low, "high": self.ratio.high}


def at_batch_sizes(runs: Sequence[Side], across_targets: bool = False) -> tuple[AtBatchSize, ...]:
    """Compare steps at every shared batch size of every two runs; sizes that neither reached are left out.

    The variance of one study's log S is that of the scatter about its run's curve (which contains seeds and tuning
    regret), or what its own seeds say where that is more; not their sum, which would count the seeds twice. The two
    add, with Welch's degrees of freedom. Nothing is smoothed: a ratio is that of the two measured medians.
    """
    found: list[AtBatchSize] = []
    for baseline, run in combinations(runs, 2):
        if obstacle(run, baseline, across_targets) is None:
            found += _pair(run, baseline)
    return tuple(found)


def _pair(run: Side, baseline: Side) -> list[AtBatchSize]:
    mine, theirs = ({float(s["batch_size"]): s for s in one.studies.to_dict("records")} for one in (run, baseline))
    rows = [_row(b, run, baseline, mine[b], theirs[b]) for b in sorted(mine.keys() & theirs.keys())]
    rows = [row for row in rows if row.steps is not None or row.baseline_steps is not None]
    tested = [place for place, row in enumerate(rows) if row.p_value is not None]
    for place, p in zip(tested, holm([rows[place].p_value or 0.0 for place in tested]), strict=True):
        row = rows[place]
        fewer = (row.run if (row.ratio.value or 1.0) < 1 else row.baseline) if p < ALPHA else None
        rows[place] = replace(row, p_adjusted=p, fewer=fewer)
    return rows


def _row(batch_size: float, run: Side, baseline: Side, mine: dict[Any, Any], theirs: dict[Any, Any]) -> AtBatchSize:
    steps, other = (None if math.isnan(study["steps"]) else float(study["steps"]) for study in (mine, theirs))
    row = AtBatchSize(batch_size, run.label, baseline.label, steps, other, Estimate(None))
    if steps is None or other is None:
        missing, trained = (run if steps is None else baseline).label, (mine if steps is None else theirs)["max_steps"]
        row = replace(row, note=f"{missing} did not reach the target in {trained:,.0f} steps")
        if not trained > 0:
            return row
        # Its steps are more than those, so the ratio has a bound on one side.
        low, high = other and trained / other, steps and steps / trained
        return replace(row, ratio=Estimate(None, low, high))
    assert run.fit is not None and baseline.fit is not None
    variances = _variance(run.fit, mine), _variance(baseline.fit, theirs)
    degrees = run.fit.degrees_of_freedom, baseline.fit.degrees_of_freedom
    found, p_value = welch(math.log(steps / other), variances, degrees, min(run.fit.level, baseline.fit.level))
    return replace(row, ratio=replace(unlogged(found), value=steps / other), p_value=p_value)


def _variance(fit: HyperbolaFit, study: dict[Any, Any]) -> float:
    """Of one study's log S: the scatter about the curve, or its seeds' where they say more."""
    return max((fit.sigma or 0.0) ** 2, _seed_error(study) ** 2)


def _seed_error(study: dict[Any, Any]) -> float:
    """Standard error of the log median: half the log interval over the normal quantile of its coverage; 0 if unknown.

    An end that is open because seeds did not reach is taken to be as far away as the other one.
    """
    steps, low, high, level = (float(study[name]) for name in ("steps", "steps_low", "steps_high", "steps_level"))
    if not 0 < level < 1 or math.isnan(low):
        return 0.0
    quantile = float(special.ndtri((1 + level) / 2))
    half = math.log(steps / low) if math.isnan(high) else math.log(high / low) / 2
    return half / quantile
