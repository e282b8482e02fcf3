"""Steps of two runs at the batch sizes that both measured, without trust in either curve."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import combinations
from typing import Any

from scipy import special

from bcrit.analysis.comparison.ratios import ALPHA, obstacle
from bcrit.analysis.comparison.source import Side
from bcrit.analysis.comparison.welch import holm, welch
from bcrit.analysis.curve.fit import HyperbolaFit


@dataclass(frozen=True)
class AtBatchSize:
    """Steps to target of two runs at one batch size.

    Attributes:
        batch_size: measured by both.
        run: label of the numerator.
        baseline: label of the denominator.
        steps: of the run; None = not reached.
        baseline_steps: of the baseline; None = not reached.
        ratio: steps / baseline_steps; None unless both reached.
        low: lower end of its interval; where the run did not reach, what the ratio is above after as much training.
        high: upper end; where the baseline did not reach, what the ratio is below. None where an end is open.
        p_value: of "the ratio is 1".
        p_adjusted: by Holm's method over the batch sizes of these two runs.
        fewer: label of the run that needs fewer steps beyond chance; None where neither does.
        note: what qualifies the row; "" where nothing does.
    """

    batch_size: float
    run: str
    baseline: str
    steps: float | None
    baseline_steps: float | None
    ratio: float | None
    low: float | None
    high: float | None
    p_value: float | None
    p_adjusted: float | None
    fewer: str | None
    note: str


def at_batch_sizes(runs: Sequence[Side], across_targets: bool = False) -> tuple[AtBatchSize, ...]:
    """Compare steps at every shared batch size of every two runs.

    The variance of one study's log S is that of the scatter about its run's curve (which contains seeds and tuning
    regret), or what its own seeds say where that is more; not their sum, which would count the seeds twice. The two
    add, with Welch's degrees of freedom. Nothing is smoothed: a ratio is that of the two measured medians.

    Args:
        runs: with labels.
        across_targets: whether runs to different targets are compared.

    Returns:
        One row a batch size and pair, without those that neither reached.
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
        fewer = (row.run if (row.ratio or 1.0) < 1 else row.baseline) if p < ALPHA else None
        rows[place] = replace(row, p_adjusted=p, fewer=fewer)
    return rows


def _row(batch_size: float, run: Side, baseline: Side, mine: dict[Any, Any], theirs: dict[Any, Any]) -> AtBatchSize:
    steps, other = (None if math.isnan(study["steps"]) else float(study["steps"]) for study in (mine, theirs))
    row = AtBatchSize(batch_size, run.label, baseline.label, steps, other, *(None,) * 6, "")
    if steps is None or other is None:
        missing, trained = (run if steps is None else baseline).label, (mine if steps is None else theirs)["max_steps"]
        row = replace(row, note=f"{missing} did not reach the target in {trained:,.0f} steps")
        # Its steps are more than those, so the ratio has a bound on one side.
        if steps is not None and trained > 0:
            return replace(row, high=steps / trained)
        return replace(row, low=trained / other) if other is not None and trained > 0 else row
    assert run.fit is not None and baseline.fit is not None
    variances = _variance(run.fit, mine), _variance(baseline.fit, theirs)
    degrees = run.fit.degrees_of_freedom, baseline.fit.degrees_of_freedom
    found = welch(math.log(steps / other), variances, degrees, min(run.fit.level, baseline.fit.level))
    ends = math.exp(found.low), math.exp(found.high)
    return replace(row, ratio=steps / other, low=ends[0], high=ends[1], p_value=found.p_value)


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


__all__ = ["AtBatchSize", "at_batch_sizes"]
