"""Where the runs end: the metric after the last update, side by side, and which differences are real.

For settings that are given rather than searched, as in a paper's table: each run trains its budget, and what counts is
what it has got by then, not the steps to a target.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from bcrit.analysis.comparison.welch import holm, welch
from bcrit.analysis.numbers.estimate import t_quantile
from bcrit.analysis.records.json_values import plain
from bcrit.analysis.records.run_folder import RunFolder
from bcrit.analysis.studies.steps_to_target import steps_to_target
from bcrit.analysis.wording import readable
from bcrit.search_spaces.outcome import Stage
from bcrit.search_spaces.problems import InputError
from bcrit.search_spaces.tables import MEASUREMENTS, TRIALS

LEVEL = 0.95
"""Confidence of every interval, and 1 less the level of the tests. The usual one; chosen."""


@dataclass(frozen=True)
class Final:
    """A metric at the end of the re-runs of one study's point.

    Attributes:
        run: where it lies.
        batch_size: of the study.
        steps: optimizer updates that each re-run made.
        examples: that it used.
        n: re-runs that ended there.
        n_lost: re-runs that did not get there: they diverged or failed. They are in no number beside this one.
        mean: over the re-runs.
        low: lower end of its t-interval; None with fewer than two.
        high: upper end.
        values: of the re-runs, in order of seed.
    """

    run: str
    batch_size: int
    steps: int
    examples: int
    n: int
    n_lost: int
    mean: float
    low: float | None
    high: float | None
    values: tuple[float, ...]


@dataclass(frozen=True)
class Gap:
    """The difference of two rows' means.

    Attributes:
        row: place of the row.
        other: place of the row it is compared with: the first one, or the one before it.
        value: mean of the row less mean of the other.
        low: lower end of Welch's interval.
        high: upper end.
        p_adjusted: of "the means are equal", by Holm's method over all differences of the table.
    """

    row: int
    other: int
    value: float
    low: float
    high: float
    p_adjusted: float

    @property
    def real(self) -> bool:
        """Whether it is more than chance."""
        return self.p_adjusted < 1 - LEVEL


@dataclass(frozen=True)
class Finals:
    """The table.

    Attributes:
        metric: at the end.
        rows: by run as given, then by batch size.
        gaps: of every row to the first and to the one before, where both have two re-runs or more.
        sentences: the differences to the row before, in words, and the rows whose re-runs did not all get to the end.
    """

    metric: str
    rows: tuple[Final, ...]
    gaps: tuple[Gap, ...]
    sentences: tuple[str, ...]

    def gap(self, row: int, other: int) -> Gap | None:
        """The difference of these rows, by their places; None where it was not computed."""
        return next((gap for gap in self.gaps if (gap.row, gap.other) == (row, other)), None)

    def to_json(self) -> dict[str, Any]:
        """The object of `bcrit finals --json`."""
        found: dict[str, Any] = plain({name: getattr(self, name) for name in ("metric", "rows", "gaps", "sentences")})
        return found


def finals(folders: Sequence[RunFolder], metric: str | None = None) -> Finals:
    """Read where the re-runs of every study's point ended.

    Args:
        folders: the runs, in the order of the table.
        metric: of the measurements; None = the first run's target's.

    Returns:
        The table.

    Raises:
        InputError: one is no run folder, has no re-runs, they stopped at the target, or the metric was not measured.
    """
    metric = metric or folders[0].read_experiment().target.metric
    rows: list[Final] = []
    problems: list[str] = []
    for folder in folders:
        try:
            rows += _of_run(folder, metric)
        except InputError as error:
            problems += [f"{folder}: {problem}" for problem in error.problems]
    if problems:
        raise InputError("finals", problems)
    gaps = _gaps(rows)
    said = [_sentence(gap, rows, metric) for gap in gaps if gap.other == gap.row - 1]
    return Finals(metric, tuple(rows), gaps, (*said, *_lost(rows)))


def _of_run(folder: RunFolder, metric: str) -> list[Final]:
    experiment, trials = folder.read_experiment(), folder.read(TRIALS).to_pandas()
    studies = steps_to_target(trials, experiment)
    own = trials[(trials["stage"] == Stage.CONFIRM) & trials["repeats"].isin(studies["best_trial"].dropna())]
    if own.empty:
        rule = "the ends that are compared are those of re-runs, but there are none"
        raise InputError(str(folder), [f"{rule}; set 'confirm.seeds' and a target that is easily reached"])
    if not experiment.confirm.beyond_target:
        raise InputError(str(folder), ["re-runs stop at the target here; set 'confirm: {beyond_target: true}'"])
    if metric not in folder.column_names(MEASUREMENTS):
        known = sorted(set(folder.column_names(MEASUREMENTS)) - set(MEASUREMENTS.names))
        rule = f"the metric must be one that was measured, but it is '{metric}'"
        raise InputError(str(folder), [f"{rule}; choose one of {', '.join(known)}"])
    table = folder.select(MEASUREMENTS, ["trial_id", "step", metric], set(own["trial_id"])).to_pandas()
    last = table.sort_values("step").groupby("trial_id").tail(1).set_index("trial_id")
    own = own.sort_values(["batch_size", "number"]).join(
        last.rename(columns={"step": "seen", metric: "end"}), "trial_id"
    )
    return [_final(str(folder), study) for _, study in own.groupby("batch_size")]


def _final(run: str, study: pd.DataFrame) -> Final:
    # What diverged beyond its target has reached it all the same: the last evaluation's step is what decides.
    whole = study[(study["seen"] == study["max_steps"]) & np.isfinite(study["end"].astype(float))]
    values = whole["end"].to_numpy(dtype=float)
    n, steps, batch_size = len(values), int(study["max_steps"].max()), int(study["batch_size"].iloc[0])
    mean = float(values.mean()) if n else math.nan
    half = t_quantile(n - 1, LEVEL) * math.sqrt(_variance(values)) if n > 1 else None
    low, high = (None, None) if half is None else (mean - half, mean + half)
    return Final(run, batch_size, steps, batch_size * steps, n, len(study) - n, mean, low, high, tuple(values.tolist()))


def _variance(values: Sequence[float] | npt.NDArray[np.float64]) -> float:
    """Of the mean."""
    return float(np.var(values, ddof=1)) / len(values)


def _gaps(rows: Sequence[Final]) -> tuple[Gap, ...]:
    pairs = [(row, other) for row in range(1, len(rows)) for other in sorted({0, row - 1})]
    found = []
    for row, other in pairs:
        two = rows[row], rows[other]
        if min(two[0].n, two[1].n) < 2:
            continue
        variances = _variance(two[0].values), _variance(two[1].values)
        gap = welch(two[0].mean - two[1].mean, variances, (two[0].n - 1, two[1].n - 1), LEVEL)
        found.append(Gap(row, other, gap.value, gap.low, gap.high, gap.p_value))
    adjusted = holm([gap.p_adjusted for gap in found])
    return tuple(replace(gap, p_adjusted=p) for gap, p in zip(found, adjusted, strict=True))


def _sentence(gap: Gap, rows: Sequence[Final], metric: str) -> str:
    """The step from one row to the next in words."""
    size = f"{readable(gap.value)} ({readable(gap.low)} to {readable(gap.high)})"
    said = "more than chance" if gap.real else "within chance"
    return f"From row {gap.other + 1} to row {gap.row + 1} {metric} changes by {size}: {said}."


def _lost(rows: Sequence[Final]) -> list[str]:
    """What stands in no mean, which flatters the rows that it is missing from."""
    return [
        f"{row.n_lost} of {row.n + row.n_lost} re-runs of row {place} did not get to step {row.steps:,}: its mean is "
        "of the others."
        for place, row in enumerate(rows, start=1)
        if row.n_lost
    ]


__all__ = ["LEVEL", "Final", "Finals", "Gap", "finals"]
