"""The sides of a comparison: the facts of each run or table, and a short name that no two share."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath
from typing import Any, Final

import pandas as pd

from bcrit.analysis.curve.fit import FittedStudy, HyperbolaFit, fit_hyperbola
from bcrit.analysis.curve.table import read_table
from bcrit.analysis.numbers.estimate import Estimate
from bcrit.analysis.recommendation.hardware import StepTimes, fit_step_times
from bcrit.analysis.records.json_values import plain
from bcrit.analysis.run import Run
from bcrit.analysis.studies.steps_to_target import median_interval
from bcrit.search_spaces.problems import InputError

NUMBERS: Final = ("s_min", "e_min", "b_crit")
"""What is compared, in the order of tables."""
_STUDY: Final = ["batch_size", "steps", "steps_low", "steps_high", "steps_level", "max_steps"]


@dataclass(frozen=True, eq=False)
class StepsTable:
    """A table of steps to target that belongs to no run."""

    location: str  # where it was read
    table: pd.DataFrame  # as `bcrit.analysis.curve.table.read_table` gives it
    unit: str | None = None  # what its batch sizes count, where that is known


@dataclass(frozen=True)
class Side:
    """One side of the comparison."""

    label: str  # its name in the comparison, unique there; "" until `named` gave it one
    location: str
    unit: str  # what its batch sizes count
    target: str | None  # what was reached, in words; None for a table, which does not say it
    analysis: Run | None  # None for a table
    fit: HyperbolaFit | None
    no_fit: str | None  # why there is no fit, in a sentence; None where there is one
    studies: pd.DataFrame  # one row a batch size, columns `_STUDY`; steps are NaN where the target was not reached
    step_times: StepTimes | None  # None where they are not known at two batch sizes

    @property
    def reached(self) -> pd.DataFrame:
        """The studies that reached the target, by batch size."""
        found: pd.DataFrame = self.studies[self.studies["steps"].notna()].set_index("batch_size", drop=False)
        return found

    @property
    def range(self) -> tuple[float, float] | None:
        """Smallest and largest batch size that reached the target; None where none did."""
        sizes = self.reached["batch_size"]
        return (float(sizes.min()), float(sizes.max())) if len(sizes) else None

    @property
    def stem(self) -> str:
        """The last part of its location, without the ending of a table's file."""
        name = PurePosixPath(self.location.partition("?")[0].rstrip("/")).name or self.location
        return name.removesuffix(".csv") or self.location

    @property
    def effort(self) -> Mapping[str, int] | None:
        """What was spent: `trials`, `steps`, and search trials a batch size (`fewest`, `most`); None for a table."""
        if self.analysis is None:
            return None
        trials, searched = self.analysis.trials, self.analysis.studies["n_trials"]
        each = {"fewest": int(searched.min()), "most": int(searched.max())} if len(searched) else {}
        return {"trials": len(trials), "steps": int(trials["steps"].sum()), **each}

    @property
    def estimates(self) -> dict[str, Estimate]:
        """The three numbers with their intervals and why one is not identified; empty without a fit."""
        fit = self.fit
        if fit is None:
            return {}
        numbers = {name: Estimate.at_limits(getattr(fit, name), *fit.interval(name), fit.level) for name in NUMBERS}
        return {n: each if fit.identified[n] else each.because("not identified") for n, each in numbers.items()}

    def to_json(self) -> dict[str, Any]:
        """The run as `bcrit compare --json` has it."""
        fit, declared = self.fit, self.analysis.experiment if self.analysis else None
        numbers = {
            name: {"value": each.value, "low": each.low, "high": each.high, "identified": not each.why}
            for name, each in self.estimates.items()
        }
        found: dict[str, Any] = plain(
            {
                "label": self.label,
                "location": self.location,
                "name": declared.name if declared else None,
                "workload": declared.workload.name if declared else None,
                "optimizer": declared.optimizer if declared else None,
                "target": self.target,
                "unit": self.unit,
                **(numbers or dict.fromkeys(NUMBERS)),
                "definition": fit.definition if fit else None,
                "level": fit.level if fit else None,
                "batch_sizes": self.range,
                "n_studies": len(self.studies),
                "n_reached": len(self.reached),
                "rms_log_residual": fit.rms_log_residual if fit else None,
                "lack_of_fit": fit.lack_of_fit if fit else None,
                "effort": self.effort,
                "no_fit": self.no_fit,
            }
        )
        return found


def side_of(source: Run | Path | StepsTable, unit: str = "examples") -> Side:
    """The facts of a run or a table, still without a label; without a fit where fewer than two batch sizes reached."""
    if isinstance(source, Path):
        source = StepsTable(str(source), read_table(source))
    if isinstance(source, StepsTable):
        return _of_table(source, source.unit or unit)
    experiment, studies = source.experiment, source.studies
    timed = studies["step_seconds"].notna().sum() >= 2  # a line needs two
    return Side(
        label="",
        location=source.location,
        unit=experiment.unit,
        target=str(experiment.target),
        analysis=source,
        fit=source.fit,
        no_fit=source.no_fit,
        studies=studies[_STUDY],
        step_times=fit_step_times(studies[["batch_size", "step_seconds"]]) if timed else None,
    )


def _of_table(source: StepsTable, unit: str) -> Side:
    table, fit, no_fit = source.table, None, None
    try:
        fit = fit_hyperbola(table, unit=unit)
    except InputError as error:
        no_fit = error.problems[0]
    rows = [] if fit is None else [_table_row(table, study) for study in fit.studies]
    timed = "step_seconds" in table and table.dropna(subset=["step_seconds"])["batch_size"].nunique() >= 2
    return Side(
        label="",
        location=source.location,
        unit=unit,
        target=None,
        analysis=None,
        fit=fit,
        no_fit=no_fit,
        studies=pd.DataFrame(rows, columns=_STUDY, dtype=float),
        step_times=fit_step_times(table) if timed else None,
    )


def _table_row(table: pd.DataFrame, study: FittedStudy) -> list[float]:
    """A study of a table; its repeats give the median's interval."""
    steps = table.loc[table["batch_size"] == study.batch_size, "steps"].fillna(math.inf)
    low, high, level = median_interval(steps[steps > 0].tolist())
    median, bound = (math.nan if end is None else end for end in (study.steps, study.max_steps))
    return [study.batch_size, median, low, high if math.isfinite(high) else math.nan, level, bound]


def named(runs: Sequence[Side]) -> tuple[Side, ...]:
    """Give each side its label: workload, optimizer and target where they differ, else the name, else the place.

    Two runs of one workload to one target, one with SGD and one with momentum, are called `sgd` and `momentum`.
    """
    facts = [_facts(run) for run in runs]
    differing = [place for place in range(3) if len({fact[place] for fact in facts if fact[place]}) > 1]
    labels = [", ".join(fact[place] for place in differing if fact[place]) for fact in facts]
    for more in ([fact[3] for fact in facts], [run.stem for run in runs], [run.location for run in runs]):
        count = Counter(labels)
        labels = [
            label if label and count[label] == 1 else ", ".join(dict.fromkeys(filter(None, (label, other))))
            for label, other in zip(labels, more, strict=True)
        ]
    seen: Counter[str] = Counter()
    found = []
    for run, label in zip(runs, labels, strict=True):
        seen[label] += 1
        found.append(replace(run, label=label if seen[label] == 1 else f"{label} #{seen[label]}"))
    return tuple(found)


def _facts(run: Side) -> tuple[str, str, str, str]:
    """Workload, optimizer, target, name; empty where a table does not say them."""
    if run.analysis is None:
        return "", "", "", run.stem
    experiment = run.analysis.experiment
    options = [f"{name} {value}" for name, value in experiment.workload.options.items()]
    return " ".join([experiment.workload.name, *options]), experiment.optimizer, str(run.target), experiment.name
