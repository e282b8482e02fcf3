"""Which run needs fewer steps, and which fewer hours, at which batch sizes: from the curves, where both measured."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations, groupby

import numpy as np
import numpy.typing as npt
from scipy import optimize, special

from bcrit.analysis.comparison.ratios import obstacle
from bcrit.analysis.comparison.source import Side
from bcrit.analysis.comparison.welch import freedom
from bcrit.analysis.curve.fit import HyperbolaFit

Floats = npt.NDArray[np.float64]

_GRID = 257  # batch sizes at which two curves are compared: steps of 2 % over two decades; chosen, not studied


@dataclass(frozen=True)
class Stretch:
    """Batch sizes over which one and the same is true.

    Attributes:
        low: smallest batch size.
        high: largest.
        fewer: label of the run with fewer steps there; None where the curves are not told apart.
        strongest: steps of the run / steps of the baseline where it is farthest from 1.
        strongest_low: lower end of its interval there.
        strongest_high: upper end.
        strongest_at: the batch size there.
    """

    low: float
    high: float
    fewer: str | None
    strongest: float
    strongest_low: float
    strongest_high: float
    strongest_at: float


@dataclass(frozen=True)
class Advantage:
    """Two runs over the batch sizes that both measured.

    Attributes:
        run: label of the numerator of ratios.
        baseline: label of the denominator.
        low: smallest batch size that both measured around.
        high: largest.
        crossing: where the two curves of steps meet between them; None where they do not.
        stretches: by rising batch size; each interval holds for one batch size, not for all at once.
        hours_crossings: where the two curves of training time meet; None where step times are not known.
        faster: (label, smallest, largest batch size) of the run with fewer hours, by rising batch size; no label where
            the two are not told apart, the step times being taken as exact.
    """

    run: str
    baseline: str
    low: float
    high: float
    crossing: float | None
    stretches: tuple[Stretch, ...]
    hours_crossings: tuple[float, ...] | None
    faster: tuple[tuple[str | None, float, float], ...]


@dataclass(frozen=True)
class Fastest:
    """The batch size at which a run trains in the shortest time, within what it measured.

    Attributes:
        run: its label.
        batch_size: where.
        steps: there.
        hours: there, with the step times of the run's own machine.
    """

    run: str
    batch_size: float
    steps: float
    hours: float


def advantages(runs: Sequence[Side], across_targets: bool = False) -> tuple[Advantage, ...]:
    """Compare the fitted curves of every two runs over the batch sizes that both measured; nothing is extrapolated.

    Args:
        runs: with labels.
        across_targets: whether runs to different targets are compared.
    """
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
    """The ratio of two curves with its pointwise interval.

    log S_run - log S_baseline +- t(nu) sqrt(v_run + v_baseline), v being the variance of each curve's log S there.

    Args:
        run: numerator.
        baseline: denominator.
        sizes: batch sizes; (n,).

    Returns:
        (ratio, lower end, upper end), each (n,).
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
    assert run.fit is not None and baseline.fit is not None and run.range is not None and baseline.range is not None
    low, high = max(run.range[0], baseline.range[0]), min(run.range[1], baseline.range[1])
    sizes = np.geomspace(low, high, _GRID) if high > low else np.array([low])
    hours_crossings, faster = _by_hours(run, baseline, sizes)
    return Advantage(
        run.label,
        baseline.label,
        low,
        high,
        crossing=_crossing(run.fit, baseline.fit, low, high),
        stretches=_stretches(run, baseline, sizes),
        hours_crossings=hours_crossings,
        faster=faster,
    )


def _crossing(run: HyperbolaFit, baseline: HyperbolaFit, low: float, high: float) -> float | None:
    """Where s + e / B = s' + e' / B, that is at B = (e - e') / (s' - s), if it lies inside."""
    steps, examples = baseline.s_min - run.s_min, run.e_min - baseline.e_min
    if steps == 0 or not low < examples / steps < high:
        return None
    return examples / steps


def _stretches(run: Side, baseline: Side, sizes: Floats) -> tuple[Stretch, ...]:
    assert run.fit is not None and baseline.fit is not None
    ratio, low, high = curve_ratio(run.fit, baseline.fit, sizes)
    found = []
    for sign, first, last in _ranges(sizes, low, high):
        places = np.flatnonzero((sizes >= first) & (sizes <= last))
        top = places[np.argmax(np.abs(np.log(ratio[places])))]
        fewer = {1: baseline.label, -1: run.label, 0: None}[sign]
        numbers = (float(value) for value in (ratio[top], low[top], high[top], sizes[top]))
        found.append(Stretch(first, last, fewer, *numbers))
    return tuple(found)


def _hours(run: Side, sizes: Floats) -> Floats:
    assert run.fit is not None and run.step_times is not None
    return np.asarray(run.fit.curve.steps(sizes) * run.step_times.seconds(sizes) / 3600)


def _by_hours(
    run: Side, baseline: Side, sizes: Floats
) -> tuple[tuple[float, ...] | None, tuple[tuple[str | None, float, float], ...]]:
    """Where the times cross, and who is faster before and after; the step times are taken as exact."""
    if run.step_times is None or baseline.step_times is None:
        return None, ()

    def log_ratio(log_size: float) -> float:
        size = np.array([math.exp(log_size)])
        return math.log(float(_hours(run, size)[0] / _hours(baseline, size)[0]))

    slower = _hours(run, sizes) > _hours(baseline, sizes)
    changes = [i for i in range(len(sizes) - 1) if slower[i] != slower[i + 1]]
    crossings = tuple(
        math.exp(float(optimize.brentq(log_ratio, math.log(sizes[i]), math.log(sizes[i + 1])))) for i in changes
    )
    assert run.fit is not None and baseline.fit is not None
    _, low, high = curve_ratio(run.fit, baseline.fit, sizes)
    times = run.step_times.seconds(sizes) / baseline.step_times.seconds(sizes)
    names = {1: baseline.label, -1: run.label, 0: None}
    return crossings, tuple((names[sign], a, b) for sign, a, b in _ranges(sizes, low * times, high * times))


def _ranges(sizes: Floats, low: Floats, high: Floats) -> list[tuple[int, float, float]]:
    """Where an interval lies above 1 (1), below it (-1) or holds it (0): (which, smallest, largest batch size)."""
    found = []
    for sign, group in groupby(range(len(sizes)), key=lambda i: int(low[i] > 1) - int(high[i] < 1)):
        places = list(group)
        found.append((sign, float(sizes[places[0]]), float(sizes[places[-1]])))
    return found


__all__ = ["Advantage", "Fastest", "Stretch", "advantages", "curve_ratio", "fastest"]
