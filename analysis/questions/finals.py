"""Where do the runs of given settings end, side by side, and which differences are real?

For settings that are given rather than searched, as in a paper's table: each run trains its budget, and what counts is
what it has got by then, not the steps to a target.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Annotated, Any

import numpy as np

from bcrit.analysis.numbers import LEVEL, Estimate, holm, value_text, welch
from bcrit.analysis.records.json_values import plain
from bcrit.analysis.report import Answer, Rows, Table
from bcrit.analysis.run import Run
from bcrit.search_spaces.outcome import Stage
from bcrit.search_spaces.problems import InputError
from bcrit.search_spaces.tables import MEASUREMENTS


@dataclass(frozen=True)
class _Final:
    """A metric at the end of the re-runs of one study's point."""

    run: str  # where it lies
    batch_size: int
    steps: int  # optimizer updates that each re-run made
    n_lost: int  # re-runs that did not get there: they diverged or failed. They are in no number beside this one.
    mean: Estimate  # over the others
    variance: float  # of the mean; NaN with fewer than two
    values: tuple[float, ...]  # in order of seed

    @property
    def n(self) -> int:
        return len(self.values)

    def to_json(self) -> dict[str, Any]:
        steps = {"batch_size": self.batch_size, "steps": self.steps, "examples": self.batch_size * self.steps}
        mean = {"mean": self.mean.value, "low": self.mean.low, "high": self.mean.high}
        return {"run": self.run, **steps, "n": self.n, "n_lost": self.n_lost, **mean, "values": self.values}


@dataclass(frozen=True)
class _Gap:
    """The difference of two rows' means by Welch's t."""

    row: int
    other: int  # the row it is compared with: the first one, or the one before it
    size: Estimate  # mean of the row less mean of the other
    p_adjusted: float  # of "the means are equal", by Holm's method over all differences of the table

    @property
    def real(self) -> bool:
        return self.p_adjusted < 1 - LEVEL

    def to_json(self) -> dict[str, Any]:
        return {"row": self.row, "other": self.other, **self.size.json(), "p_adjusted": self.p_adjusted}


def ask(
    runs: Annotated[Sequence[Run], "Run folders, in the order of the table.", "RUN..."],
    metric: Annotated[str | None, "One of the workload's metrics. Default: that of the first run's target."] = None,
) -> Answer | str:
    """Compare what runs have got after their last step, over seeds: for given settings, as in a paper's table.

    It reads the re-runs of every study's point, which must train on beyond the target: 'confirm: {beyond_target:
    true}'. Means have 95 % t-intervals, which end at 0 where the metric never was below; differences are Welch's, and
    '*' marks those that survive Holm's correction over all of the table.
    """
    metric = metric or runs[0].declared.target.metric
    rows: list[_Final] = []
    problems: list[str] = []
    for run in runs:
        try:
            rows += _ends(run, metric)
        except InputError as error:
            problems += [f"{run.location}: {problem}" for problem in error.problems]
    if problems:
        raise InputError("finals", problems)
    gaps = _gaps(rows)
    sentences = (
        *(
            f"From row {gap.other + 1} to row {gap.row + 1} {metric} changes by {gap.size}: "
            f"{'more than chance' if gap.real else 'within chance'}."
            for gap in gaps
            if gap.other == gap.row - 1
        ),
        *(  # what stands in no mean flatters the rows that it is missing from
            f"{row.n_lost} of {row.n + row.n_lost} re-runs of row {place} did not get to step {row.steps:,}: its mean "
            "is of the others."
            for place, row in enumerate(rows, start=1)
            if row.n_lost
        ),
    )
    parts = [Rows(f"{metric} after the last step", _table(rows, metric), brief=True)]
    parts += [Rows(f"Differences of {metric}", _differences(rows, gaps), brief=True)] if gaps else []
    facts = {"rows": [row.to_json() for row in rows], "gaps": [gap.to_json() for gap in gaps], "sentences": sentences}
    return Answer("finals", "Where the runs end", sentences, tuple(parts), plain({"metric": metric, **facts}))


def _ends(run: Run, metric: str) -> list[_Final]:
    folder = run.folder
    own = run.trials[
        (run.trials["stage"] == Stage.CONFIRM) & run.trials["repeats"].isin(run.studies["best_trial"].dropna())
    ]
    if own.empty:
        rule = "the ends that are compared are those of re-runs, but there are none"
        raise InputError(run.location, [f"{rule}; set 'confirm.seeds' and a target that is easily reached"])
    if not run.declared.confirm.beyond_target:
        raise InputError(run.location, ["re-runs stop at the target here; set 'confirm: {beyond_target: true}'"])
    if metric not in folder.column_names(MEASUREMENTS):
        known = sorted(set(folder.column_names(MEASUREMENTS)) - set(MEASUREMENTS.names))
        rule = f"the metric must be one that was measured, but it is '{metric}'"
        raise InputError(run.location, [f"{rule}; choose one of {', '.join(known)}"])
    table = folder.select(MEASUREMENTS, ["trial_id", "step", metric], set(own["trial_id"])).to_pandas()
    never_below = not (table[metric] < 0).any()  # in no evaluation: it is a loss or a share, which no mean is below
    last = table.sort_values("step").groupby("trial_id").tail(1).set_index("trial_id")
    last = last.rename(columns={"step": "seen", metric: "end"})
    own = own.sort_values(["batch_size", "number"]).join(last, "trial_id")
    found = []
    for _, study in own.groupby("batch_size"):
        # What diverged beyond its target has reached it all the same: the last evaluation's step is what decides.
        whole = study[(study["seen"] == study["max_steps"]) & np.isfinite(study["end"].astype(float))]
        values = whole["end"].to_numpy(dtype=float)
        n, steps = len(values), int(study["max_steps"].max())
        variance = float(np.var(values, ddof=1)) / n if n > 1 else np.nan
        mean = Estimate.t(float(values.mean()), variance**0.5, n - 1, n=n) if n else Estimate(None)
        if mean.low is not None and mean.low < 0 and never_below:
            mean = replace(mean, low=0.0)
        lost = len(study) - n
        found.append(
            _Final(run.location, int(study["batch_size"].iloc[0]), steps, lost, mean, variance, tuple(values.tolist()))
        )
    return found


def _gaps(rows: Sequence[_Final]) -> list[_Gap]:
    """Of every row to the first and to the one before, where both have two re-runs or more."""
    found = []
    for row, other in [(later, before) for later in range(1, len(rows)) for before in sorted({0, later - 1})]:
        one, two = rows[row], rows[other]
        if one.n > 1 and two.n > 1:
            difference = (one.mean.value or 0.0) - (two.mean.value or 0.0)
            found.append(_Gap(row, other, *welch(difference, (one.variance, two.variance), (one.n - 1, two.n - 1))))
    adjusted = holm([gap.p_adjusted for gap in found])
    return [replace(gap, p_adjusted=p) for gap, p in zip(found, adjusted, strict=True)]


def _table(rows: Sequence[_Final], metric: str) -> Table:
    head = ("row", "run", "batch size", "steps", "examples", "seeds", metric)
    cells = []
    for place, row in enumerate(rows, start=1):
        numbers = (f"{number:,}" for number in (row.batch_size, row.steps, row.batch_size * row.steps))
        mean = row.mean.text(value_text) if row.n > 1 else value_text(row.mean.value)
        name = row.run.rstrip("/").rpartition("/")[2]
        cells.append((str(place), name, *numbers, f"{row.n}/{row.n + row.n_lost}", mean))
    return Table(head, tuple(cells))


def _differences(rows: Sequence[_Final], gaps: Sequence[_Gap]) -> Table:
    known = {(gap.row, gap.other): gap for gap in gaps}

    def cell(row: int, other: int) -> str:
        gap = known.get((row, other))
        return "–" if gap is None else f"{value_text(gap.size.value)}{'*' * gap.real} ({gap.size.interval()})"

    places = range(1, len(rows))
    return Table(
        ("row", "to row before", "to row 1"), tuple((str(row + 1), cell(row, row - 1), cell(row, 0)) for row in places)
    )
