"""One side of a comparison: the facts of a run, or of a table of steps to target from elsewhere."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any, Final

import numpy as np
import pandas as pd

from bcrit.analysis.curve.fit import HyperbolaFit, fit_hyperbola
from bcrit.analysis.recommendation.hardware import StepTimes, fit_step_times
from bcrit.analysis.run import Run
from bcrit.analysis.studies.steps_to_target import median_interval
from bcrit.search_spaces.problems import InputError

NUMBERS: Final = ("s_min", "e_min", "b_crit")
"""What is compared, in the order of tables."""


@dataclass(frozen=True)
class StepsTable:
    """A table of steps to target that belongs to no run.

    Attributes:
        location: where it was read.
        table: as `bcrit.analysis.curve.table.read_table` gives it.
        unit: what its batch sizes count.
    """

    location: str
    table: pd.DataFrame
    unit: str = "examples"


@dataclass(frozen=True)
class Estimate:
    """One number of a fit.

    Attributes:
        value: the estimate; None at a limit of the curve (0 or infinite).
        low: lower end of its interval; None = open.
        high: upper end; None = open.
        identified: whether the data determine it.
    """

    value: float | None
    low: float | None
    high: float | None
    identified: bool


@dataclass(frozen=True)
class Side:
    """One side of the comparison.

    Attributes:
        label: its name in the comparison, unique there; "" until `bcrit.analysis.comparison.names.named` gave it one.
        location: where it lies.
        unit: what its batch sizes count.
        target: what was reached, in words; None for a table, which does not say it.
        analysis: of its run folder; None for a table.
        fit: the hyperbola; None where there is nothing to fit.
        no_fit: why there is no fit, in a sentence; None where there is one.
        studies: one row a batch size: `batch_size`, `steps` (NaN = not reached), `steps_low`, `steps_high`,
            `steps_level`, `max_steps`.
        step_times: seconds a step; None where they are not known at two batch sizes.
    """

    label: str
    location: str
    unit: str
    target: str | None
    analysis: Run | None
    fit: HyperbolaFit | None
    no_fit: str | None
    studies: pd.DataFrame
    step_times: StepTimes | None

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
        """The three numbers with their intervals; empty without a fit."""
        if self.fit is None:
            return {}
        found = {}
        for name in NUMBERS:
            value, low, high = (_finite(end) for end in (getattr(self.fit, name), *self.fit.interval(name)))
            found[name] = Estimate(value, low, high, self.fit.identified[name])
        return found

    def to_json(self) -> dict[str, Any]:
        """The run as `bcrit compare --json` has it."""
        fit, analysis, ends = self.fit, self.analysis, self.range
        return {
            "label": self.label,
            "location": self.location,
            "name": analysis.experiment.name if analysis else None,
            "workload": analysis.experiment.workload.name if analysis else None,
            "optimizer": analysis.experiment.optimizer if analysis else None,
            "target": self.target,
            "unit": self.unit,
            **{name: self.estimates.get(name) for name in NUMBERS},
            "definition": fit.definition if fit else None,
            "level": fit.level if fit else None,
            "batch_sizes": ends,
            "n_studies": len(self.studies),
            "n_reached": len(self.reached),
            "rms_log_residual": fit.rms_log_residual if fit else None,
            "lack_of_fit": fit.lack_of_fit if fit else None,
            "effort": self.effort,
            "no_fit": self.no_fit,
        }


def run_of(source: Run | StepsTable) -> Side:
    """The facts of one side, still without a label.

    Args:
        source: a run's analysis, or a table.

    Returns:
        The run; without a fit where fewer than two batch sizes reached.

    Raises:
        InputError: a table lacks a column, or a cell is not a number.
    """  # noqa: DOC502  (raised by fit_hyperbola's reading of the table)
    if isinstance(source, StepsTable):
        return _of_table(source)
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
        studies=studies[["batch_size", "steps", "steps_low", "steps_high", "steps_level", "max_steps"]],
        step_times=fit_step_times(studies[["batch_size", "step_seconds"]]) if timed else None,
    )


def _of_table(source: StepsTable) -> Side:
    fit, no_fit = None, None
    try:
        fit = fit_hyperbola(source.table, unit=source.unit)
    except InputError as error:
        no_fit = error.problems[0]
    rows = [] if fit is None else [_table_row(source.table, study) for study in fit.studies]
    columns = ["batch_size", "steps", "steps_low", "steps_high", "steps_level", "max_steps"]
    timed = "step_seconds" in source.table and source.table.dropna(subset=["step_seconds"])["batch_size"].nunique() >= 2
    return Side(
        label="",
        location=source.location,
        unit=source.unit,
        target=None,
        analysis=None,
        fit=fit,
        no_fit=no_fit,
        studies=pd.DataFrame(rows, columns=columns, dtype=float),
        step_times=fit_step_times(source.table) if timed else None,
    )


def _table_row(table: pd.DataFrame, study: Any) -> dict[str, float]:
    """A study of a table; its repeats give the median's interval."""
    steps = table.loc[table["batch_size"] == study.batch_size, "steps"].fillna(math.inf)
    low, high, level = median_interval(steps[steps > 0].tolist())
    ends = {"steps_low": low, "steps_high": high if np.isfinite(high) else math.nan, "steps_level": level}
    steps_to_target = math.nan if study.steps is None else study.steps
    max_steps = math.nan if study.max_steps is None else study.max_steps
    return {"batch_size": study.batch_size, "steps": steps_to_target, **ends, "max_steps": max_steps}


def _finite(value: float) -> float | None:
    return value if 0 < value < math.inf else None


__all__ = ["NUMBERS", "Estimate", "Side", "StepsTable", "run_of"]
