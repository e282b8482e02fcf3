"""Which targets to look at, where every trial crosses them, and how early noise makes that."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from scipy import special

from bcrit.analysis.numbers import straight_line
from bcrit.analysis.records.one_pass import Chunk, Floats, Integers
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


@dataclass
class Crossings:
    """Where every trial crossed every target (`bcrit.search_spaces.target`, vectorised); it fills while it is read.

    A target is crossed at the first evaluation after step 0 that is strictly better than the threshold; the evaluation
    before it bounds the crossing from below (`Target.first_crossing`, `Target.best`).

    How: with the thresholds in order of strictness, the *level* of an evaluation is how many of them it passes, and a
    trial crosses the thresholds by which its highest level so far rises. The running maximum of level + (K + 1) x
    (place of the trial in the chunk) is that of each trial alone, so that one `maximum.accumulate` serves all trials
    and the work does not grow with the number of targets.
    """

    targets: tuple[Target, ...]  # of one metric and direction, the loosest first
    steps: Floats  # NaN where not reached; (n_trials, n_targets)
    steps_low: Floats  # the evaluation before; (n_trials, n_targets)
    best: Floats  # best finite value after step 0, NaN where there is none; (n_trials,)
    _level: Integers = field(repr=False)
    _judged: dict[int, Callable[[int, float], float]] = field(default_factory=dict, repr=False)  # of smoothed trials

    @classmethod
    def of(cls, targets: Sequence[Target], n_trials: int) -> Crossings:
        """Nothing is crossed yet; the targets are put in order."""
        ordered = in_order(targets)
        unknown = np.full((n_trials, len(ordered)), np.nan)
        best = np.full(n_trials, np.nan)
        return cls(ordered, unknown, unknown.copy(), best, np.zeros(n_trials, dtype=np.int64))

    def take(self, chunk: Chunk) -> None:
        """Read on."""
        first = chunk.trial[chunk.starts]
        level = self._levels(chunk.step, self._judge(chunk))
        level[chunk.starts] = np.maximum(level[chunk.starts], self._level[first])
        lengths = np.diff(np.append(chunk.starts, len(level)))
        offset = np.repeat(np.arange(len(first)) * (len(self.targets) + 1), lengths)
        reached = np.maximum.accumulate(level + offset) - offset
        before = np.empty_like(reached)
        before[1:] = reached[:-1]
        before[chunk.starts] = self._level[first]
        rows = np.flatnonzero(reached > before)
        risen = (reached - before)[rows]
        # A row may cross several targets at once: before, before + 1, ... reached - 1.
        crossing = np.repeat(rows, risen)
        target = np.arange(len(crossing)) - np.repeat(np.cumsum(risen) - risen, risen) + before[crossing]
        self.steps[chunk.trial[crossing], target] = chunk.step[crossing]
        self.steps_low[chunk.trial[crossing], target] = chunk.before[crossing]
        self._level[first] = reached[np.append(chunk.starts[1:], len(level)) - 1]
        best = np.fmin if self.targets[0].direction is Direction.MINIMIZE else np.fmax
        values = np.where((chunk.step > 0) & np.isfinite(chunk.value), chunk.value, np.nan)
        self.best[first] = best(self.best[first], best.reduceat(values, chunk.starts))

    def _judge(self, chunk: Chunk) -> Floats:
        """What is compared with the thresholds."""
        target = self.targets[0]
        if target.rule is None:
            return chunk.value
        rows = zip(chunk.trial.tolist(), chunk.step.tolist(), chunk.value.tolist(), strict=True)
        judged = self._judged
        return np.array([judged.setdefault(trial, target.judge())(step, value) for trial, step, value in rows])

    def _levels(self, step: Integers, value: Floats) -> Integers:
        """How many targets each evaluation passes."""
        thresholds = np.sort([target.threshold for target in self.targets])
        if self.targets[0].direction is Direction.MINIMIZE:
            level = len(thresholds) - np.searchsorted(thresholds, value, side="right")
        else:
            level = np.searchsorted(thresholds, value, side="left")
            level[np.isnan(value)] = 0  # NaN sorts above everything
        level[step <= 0] = 0
        return np.asarray(level, dtype=np.int64)

    def forget(self, trials: Integers) -> None:
        """Go back to the beginning of these trials."""
        self.steps[trials], self.steps_low[trials], self.best[trials], self._level[trials] = np.nan, np.nan, np.nan, 0
        for trial in trials.tolist():
            self._judged.pop(trial, None)

    def at(self, target: Target) -> int:
        """The column of a target."""
        return self.targets.index(target)


def in_order(targets: Sequence[Target]) -> tuple[Target, ...]:
    """The targets without repeats, the loosest first."""
    return tuple(
        sorted(dict.fromkeys(targets), key=lambda t: t.threshold, reverse=targets[0].direction is Direction.MINIMIZE)
    )


def read_targets(given: Sequence[str], own: Target) -> tuple[Target, ...]:
    """Read the user's targets: sentences (`val_loss < 0.3`), or numbers, which are thresholds of the run's own metric.

    The loosest comes first. One that cannot be read, or several metrics or directions, are an InputError.
    """
    found, problems = [], []
    for text in given:
        try:
            found.append(_read(text, own))
        except ValueError:  # pydantic's own is one
            example = own.model_copy(update={"threshold": float(f"{own.threshold:.2g}")})
            rule = "a target is a number or reads 'METRIC < NUMBER' or 'METRIC > NUMBER'"
            problems.append(f"{rule}, but it is '{text}'; write '{example}', say")
    kinds = {(target.metric, target.direction, target.rule) for target in found}
    if len(kinds) > 1:
        names = ", ".join(f"'{target}'" for target in found)
        rule = "all targets must be of one metric in one direction by one rule"
        problems.append(f"{rule}, but they are {names}; ask in turn")
    problems += [
        f"'{own.metric}' improves by {own.direction.value[:-1]}ing, but the target is '{target}'; "
        f"write '{target.model_copy(update={'direction': own.direction})}'"
        for target in found
        if target.metric == own.metric and target.direction is not own.direction
    ]
    if problems:
        raise InputError("--target", problems)
    return in_order(found)


def _read(text: str, own: Target) -> Target:
    try:
        threshold = float(text)
    except ValueError:
        found = Target.model_validate(text)
        return found if found.rule else found.model_copy(update={"rule": own.rule})
    return Target.model_validate({**own.model_dump(), "threshold": threshold})


def default_targets(own: Target, curves: Mapping[int, Curve], stops: bool) -> tuple[Target, ...]:
    """Choose thresholds between an easy one and the strictest that every study can say something about.

    The strictest is the run's own target where runs stop there; where they go on, what the best run of every study
    reached; an error that falls to 0 cannot fall below it, and the last value before takes its place. From there the
    grid goes back to a loose threshold at which even the fastest study still makes a few evaluations. In between, the
    thresholds differ by equal factors. Two of them that most studies cross with the same evaluation would be one target
    under two names; one of them is left out.

    `curves` has by batch size the study's best run, `stops` says whether trials end at the run's own target. The
    loosest comes first; the own one is among them if any study reached it, and alone where there is nothing to choose
    from.
    """
    sign = own.direction.sign
    # The best value so far, such that smaller is better; runs without a usable value cannot say anything.
    falls = {b: np.minimum.accumulate(np.where(np.isfinite(v), sign * v, np.inf)) for b, (_, v) in curves.items()}
    falls = {b: best for b, best in falls.items() if len(best) and np.isfinite(best[-1])}
    if not falls:
        return (own,)
    goal = sign * own.threshold
    reached_own = {b: best for b, best in falls.items() if best[-1] < goal}
    common = max(float(best[-1]) for best in falls.values())  # what every study reached
    before = [float(value) for best in falls.values() for value in best[np.isfinite(best) & (best > 0)]]
    if common == 0 and before:
        common = min(before)
    strictest = goal if stops and reached_own or reached_own and common >= goal else common
    usable = reached_own if strictest == goal else falls
    # The study with the fewest evaluations until then is the one whose crossings are known worst.
    counts = {
        b: int(np.argmax(best < strictest if strictest == goal else best <= strictest)) for b, best in usable.items()
    }
    fastest = min(counts, key=lambda b: (counts[b], -b))
    values = _between(falls[fastest], counts[fastest], strictest, sign)
    thresholds = {looser(float(value), own.direction) for value in values if value > strictest}
    if strictest not in (goal, 0):
        thresholds.add(looser(strictest, own.direction))
    if reached_own:
        thresholds.add(own.threshold)
    kept = _told_apart(sorted(thresholds, key=lambda value: (value != own.threshold, sign * value)), sign, usable)
    return in_order([own.model_copy(update={"threshold": threshold}) for threshold in kept] or [own])


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


def looser(value: float, direction: Direction) -> float:
    """The value rounded to three digits to the looser side, so that it lies strictly within what was reached."""
    raw = direction.sign * value
    if raw == 0:
        return 0.0  # within the grid; its strictest end is not 0
    unit = 10.0 ** (np.floor(np.log10(abs(raw))) - _DIGITS + 1)
    rounded = float(f"{np.round(raw / unit) * unit:.{_DIGITS}g}")
    if not direction.better(raw, rounded):
        rounded = float(f"{rounded + direction.sign * unit:.{_DIGITS + 1}g}")
    return rounded


_WINDOW = 2.0  # the trend before a crossing is taken from evaluations since this fraction of its step. Chosen.
_FEWEST = 8  # evaluations there; with fewer their noise is not known. Chosen, not studied.
_LITTLE = 0.02  # of the steps, as evaluations let them be known: no word about less
_PHASES = 8  # places of the true crossing between two evaluations, over which is averaged


@dataclass(frozen=True)
class Noise:
    """What is known around the crossing of one run."""

    scatter: float  # standard deviation of an evaluation about its trend, as a share of the value at the crossing
    early: float  # how early the first crossing is on average, as a share of the steps


def noise(steps: Integers, values: Floats, target: Target) -> Noise | None:
    """The noise of a run's evaluations before its first crossing, and how early it makes that.

    The trend is a straight line of the metric in log step, of a loss above 0 of its logarithm. The noise is taken from
    second differences, sqrt(mean(d^2) / 6), which the trend does not enter. None with fewer than `_FEWEST` evaluations,
    or where the metric does not improve.
    """
    sign = target.direction.sign
    crossed = np.flatnonzero(sign * values < sign * target.threshold)
    end = int(crossed[0]) if len(crossed) else len(steps)
    own = np.flatnonzero((steps[:end] > 0) & (steps[:end] >= steps[min(end, len(steps) - 1)] / _WINDOW))
    if len(own) < _FEWEST or not np.isfinite(values[own]).all():
        return None
    x, y, scale = np.log(steps[own]), sign * values[own], abs(target.threshold)
    if min(y.min(), target.threshold * sign) > 0:
        y, scale = np.log(y), 1.0
    slope = straight_line(x, y).slope
    scatter = math.sqrt(float(np.mean(np.diff(y, 2) ** 2)) / 6)
    if slope >= 0 or scale == 0:
        return None
    return Noise(scatter / scale, how_early(scatter / -slope, float(np.diff(x).mean())))


def noise_notes(found: Collection[Noise | None], target: Target) -> Iterator[str]:
    """How early the numbers of a run are, by one run of each study; nothing where that is little."""
    known = [each for each in found if each is not None]
    if not known or float(np.median([each.early for each in known])) < _LITTLE:
        return
    scatter, early = (float(np.median([getattr(each, name) for each in known])) for name in ("scatter", "early"))
    yield (
        f"Evaluations scatter by {100 * scatter:.2g} % about their trend before the target, so that the first one "
        f"beyond it comes early: steps are too few by about {100 * early:.2g} % (median over the batch sizes, a run of "
        f"each). The target '{target.model_copy(update={'rule': 'smoothed'})}' takes most of that away."
    )


def how_early(ratio: float, spacing: float) -> float:
    """The share of the steps by which a first crossing comes too early on average.

    Evaluations stand `spacing` apart in log step. The one at distance d beyond the true crossing lies below the
    threshold with probability Phi(d / ratio), `ratio` being the noise over the slope; so the first one is expected at
    sum_k d_k Phi_k prod_(j < k) (1 - Phi_j), averaged over where the crossing lies between two evaluations. Without
    noise it is half a spacing.
    """
    if ratio <= 0:
        return 0.0
    reach, expected = math.ceil(8 * ratio / spacing) + 4, 0.0
    for phase in (np.arange(_PHASES) + 0.5) / _PHASES:
        d = spacing * (np.arange(-reach, reach + 1) + phase)
        below = special.ndtr(d / ratio)
        expected += float(np.sum(d * below * np.cumprod(np.append(1.0, 1 - below[:-1])))) / _PHASES
    return max(0.0, 1 - math.exp(expected - spacing / 2))
