"""Which run needs fewer steps, and which fewer hours, where: by the curves, and as measured; and which to choose."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import combinations, groupby
from typing import Any, Final

import numpy as np
from scipy import optimize, special

from bcrit.analysis.curve import HyperbolaFit
from bcrit.analysis.numbers import Estimate, Floats, duration, freedom, holm, readable, value_text, welch
from bcrit.analysis.questions.compare.ratios import ALPHA, obstacle, p_text, ratio_text, table_rows, unlogged
from bcrit.analysis.questions.compare.sides import Side
from bcrit.analysis.recommendation.choices import FrontierPoint, Terms, optimum
from bcrit.analysis.recommendation.hardware import Hardware
from bcrit.analysis.report import Answer, Rows, table_of

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
        return {**vars(self), **self.strongest.flat("strongest")}


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
    """The fastest batch size of every run with a curve and step times, as `recommend` finds it."""
    found = []
    for run in (run for run in runs if run.fit is not None and run.step_times is not None):
        assert run.fit is not None and run.step_times is not None
        place = optimum([Terms(run.fit, Hardware(run.step_times))], "hours", {})
        if place is not None:
            found.append(Fastest(run.label, place.batch_size, place.takes["steps"], place.takes["hours"]))
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
    for sign, places in _ranges(lower, upper):
        top = places[np.argmax(np.abs(np.log(ratio[places])))]
        strongest = Estimate(float(ratio[top]), float(lower[top]), float(upper[top]), min(a.level, b.level))
        ends = float(sizes[places[0]]), float(sizes[places[-1]])
        stretches.append(Stretch(*ends, names[sign], strongest, float(sizes[top])))
    # s + e / B = s' + e' / B at B = (e - e') / (s' - s), if it lies inside.
    apart, crossing = b.s_min - a.s_min, None
    if a.trough is b.trough is None and apart != 0 and low < (a.e_min - b.e_min) / apart < high:
        crossing = (a.e_min - b.e_min) / apart
    found = Advantage(run.label, baseline.label, low, high, crossing, tuple(stretches), None, ())
    if run.step_times is None or baseline.step_times is None:
        return found

    def log_ratio(log_size: float) -> float:
        size = np.array([math.exp(log_size)])
        return math.log(float(_hours(run, size)[0] / _hours(baseline, size)[0]))

    slower, logs = _hours(run, sizes) > _hours(baseline, sizes), np.log(sizes)
    changes = np.flatnonzero(slower[1:] != slower[:-1])
    crossings = tuple(math.exp(float(optimize.brentq(log_ratio, logs[i], logs[i + 1]))) for i in changes)
    times = run.step_times.seconds(sizes) / baseline.step_times.seconds(sizes)
    ranges = _ranges(lower * times, upper * times)
    faster = tuple((names[sign], float(sizes[places[0]]), float(sizes[places[-1]])) for sign, places in ranges)
    return replace(found, hours_crossings=crossings, faster=faster)


def _hours(run: Side, sizes: Floats) -> Floats:
    assert run.fit is not None and run.step_times is not None
    return np.asarray(run.fit.curve.steps(sizes) * run.step_times.seconds(sizes) / 3600)


def _ranges(low: Floats, high: Floats) -> list[tuple[int, list[int]]]:
    """Where an interval lies above 1 (1), below it (-1) or holds it (0), and the places of each stretch."""
    groups = groupby(range(len(low)), key=lambda i: int(low[i] > 1) - int(high[i] < 1))
    return [(sign, list(group)) for sign, group in groups]


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


# In words.


def where_sentence(advantage: Advantage) -> str:
    """Who needs fewer steps from where to where, and who fewer hours; no hours where they are told apart nowhere."""
    run, baseline, faster = advantage.run, advantage.baseline, advantage.faster
    parts = [_stretch(stretch, run, baseline) for stretch in advantage.stretches]
    meet = "" if advantage.crossing is None else f" The curves meet at {readable(advantage.crossing)}."
    head = f"{run} and {baseline}, fewer steps by the curves, each batch size for itself"
    found = f"{head}: {'; '.join(parts)}.{meet}"
    if all(name is None for name, _, _ in faster):
        return found
    hours = [f"at batch sizes {readable(a)} to {readable(b)} {name or 'not told apart'}" for name, a, b in faster]
    each = "; ".join(hours) if len(faster) > 1 else f"{faster[0][0]} throughout"
    return f"{found} Fewer hours, with each run's own step times taken as exact: {each}."


def _stretch(stretch: Stretch, run: str, baseline: str) -> str:
    low, high = readable(stretch.low), readable(stretch.high)
    sizes = f"at batch size {low}" if low == high else f"at batch sizes {low} to {high}"
    if stretch.fewer is None:
        return f"{sizes} the two are not told apart"
    ratio, other = stretch.strongest, baseline
    if stretch.fewer == baseline:
        value, least, most = (end and 1 / end for end in (ratio.value, ratio.low, ratio.high))
        ratio, other = Estimate(value, most, least), run
    at = readable(stretch.strongest_at)
    size = f"{readable(ratio.value or math.nan)} times the steps of {other}, {ratio.interval()}"
    return f"{sizes} {stretch.fewer} (at {at} it takes {size})"


# As tables.


def steps_section(
    between: Sequence[Advantage], at_sizes: Sequence[AtBatchSize], quickest: Sequence[Fastest]
) -> list[Answer]:
    """By the curves, as measured, and in hours; empty where no two runs can be compared."""
    if not between:
        return []
    stretches = [
        {
            "run / baseline": f"{advantage.run} / {advantage.baseline}",
            "batch sizes": f"{value_text(stretch.low)} to {value_text(stretch.high)}",
            "fewer steps": stretch.fewer or "not told apart",
            "ratio farthest from 1": str(stretch.strongest),
            "at batch size": stretch.strongest_at,
            "the curves meet at": advantage.crossing,
        }
        for advantage in between
        for stretch in advantage.stretches
    ]
    parts = [Rows("By the curves, where both runs measured", table_of(stretches))]
    if at_sizes:
        parts.append(
            table_rows("As measured, at the batch sizes of both runs", [_at_batch_size(row) for row in at_sizes])
        )
    if quickest:
        shortest = [
            {
                "run": f.run,
                "batch size": f.batch_size,
                "steps": f.steps,
                "time": duration(f.hours, beside=[f.hours for f in quickest]),
            }
            for f in sorted(quickest, key=lambda f: f.hours)
        ]
        parts.append(Rows("Shortest training, on each run's own machine", table_of(shortest)))
    sentence = (
        "The curves tell two runs apart sooner than single batch sizes do, because every study speaks for the whole "
        "curve; the measured steps trust no curve."
    )
    return [Answer("steps", "Which run needs fewer steps, and where", (sentence,), tuple(parts))]


def _at_batch_size(row: AtBatchSize) -> dict[str, Any]:
    return {
        "run / baseline": f"{row.run} / {row.baseline}",
        "batch size": row.batch_size,
        "steps of the run": row.steps,
        "steps of the baseline": row.baseline_steps,
        "ratio (interval)": ratio_text(row.ratio),
        "p after Holm": p_text(row.p_adjusted),
        "fewer steps": row.fewer or ("not told apart" if row.ratio.known else row.note),
    }


# Which to choose, at which batch size, and what that saves in hours and money.


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
    both squares. Nothing is said where fewer than two runs have step times, where they cannot be compared, or where
    targets differ, of which the easier one takes less time however it is trained.
    """
    found = sorted(filter(None, map(_best, sides)), key=lambda best: best.hours)
    if len({best.side.target for best in found} - {None}) > 1:
        return
    if len(found) < 2 or any(obstacle(best.side, found[0].side, across_targets) for best in found[1:]):
        return
    first, other = found[:2]
    ratio, half = first.hours / other.hours, math.hypot(first.half_width, other.half_width)
    shorter, longer = (duration(best.hours, beside=[first.hours, other.hours]) for best in (first, other))
    if not half < -math.log(ratio):  # NaN too
        yield (
            f"No run is clearly the one to choose for its time: {first.told} takes {shorter} to the "
            f"target, {other.told} {longer}, and the intervals do not tell these apart."
        )
        return
    least, most = (readable(100 * (1 - ratio * math.exp(sign * half))) for sign in (1, -1))
    yield (
        f"Choose {first.told}: {shorter} to the target, where {other.told} takes "
        f"{longer}. That saves {duration(other.hours - first.hours, beside=[first.hours, other.hours])} a training, "
        f"{readable(100 * (1 - ratio))} % ({least} to {most}){_money(first, other)}."
    )


def _best(side: Side) -> _Best | None:
    found = side.recommendation
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
    priced = (best.side.recommendation for best in (first, other))
    if first.point.cost is None or other.point.cost is None or any(p and p.cost_unit != "currency" for p in priced):
        return ""
    return f", and {readable(other.point.cost - first.point.cost)} in money"
