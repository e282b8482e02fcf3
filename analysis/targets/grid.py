"""S(B; target) for several targets of one run, the curve at each of them, and how b_crit goes with the target."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import pandas as pd

from bcrit.analysis.curve.fit import HyperbolaFit, fit_hyperbola
from bcrit.analysis.records.json_values import plain
from bcrit.analysis.records.one_pass import Floats, curves
from bcrit.analysis.records.run_folder import RunFolder
from bcrit.analysis.targets.cells import ahead_of, cell, seeds_stand_for, winners
from bcrit.analysis.targets.crossings import Crossings
from bcrit.analysis.targets.notes import grid_notes
from bcrit.analysis.targets.power_law import PowerLaw, fit_power_law
from bcrit.analysis.targets.study_trials import trials_of
from bcrit.analysis.targets.validity import Status
from bcrit.analysis.wording import readable
from bcrit.search_spaces.experiment import Experiment
from bcrit.search_spaces.problems import InputError
from bcrit.search_spaces.tables import TARGET_CELLS
from bcrit.search_spaces.target import Target


@dataclass(frozen=True)
class TargetCurve:
    """The curve of steps against batch size at one target.

    Attributes:
        target: the target.
        fit: the hyperbola; None where there is nothing to fit.
        no_fit: why there is none, in a sentence.
        n_valid: studies whose steps are valid.
        n_behind: studies whose steps rest on the judgement that stopped trials were behind.
        n_lower: studies that entered as a bound.
        n_aside: studies that could not enter.
    """

    target: Target
    fit: HyperbolaFit | None
    no_fit: str | None
    n_valid: int
    n_behind: int
    n_lower: int
    n_aside: int


@dataclass(frozen=True)
class TargetGrid:
    """What one run says about several targets.

    Attributes:
        own: the run's own target.
        unit: what batch sizes count.
        cells: one row a target and batch size, with the columns of `TARGET_CELLS`.
        curves: one a target, the loosest first.
        own_by_search: the own target once more, with the best search trials, where that is the source of other targets
            but not of this one; the power law then compares like with like. Else None.
        power_law: b_crit against the target; None where it is not identified.
        no_power_law: why not, in a sentence.
        notes: what to know when reading it.
    """

    own: Target
    unit: str
    cells: pd.DataFrame
    curves: tuple[TargetCurve, ...]
    own_by_search: TargetCurve | None
    power_law: PowerLaw | None
    no_power_law: str | None
    notes: tuple[str, ...]

    @property
    def targets(self) -> tuple[Target, ...]:
        """The loosest first."""
        return tuple(curve.target for curve in self.curves)

    @property
    def sentences(self) -> tuple[str, ...]:
        """The verdict: how b_crit goes with the target."""
        searched = self.own_by_search
        lines = [searched if searched and line.target == searched.target else line for line in self.curves]
        known = [(line.target, line.fit) for line in lines if line.fit and line.fit.identified["b_crit"]]
        if not known:
            return (f"At none of {len(lines)} targets is b_crit identified.",)
        each = f"b_crit is identified at {len(known)} of {len(lines)} targets"
        if len(known) == 1:
            return (f"{each}: {readable(known[0][1].b_crit)} {self.unit} at {known[0][0]}.",)
        (loose, easy), (strict, hard) = known[0], known[-1]
        span = f"{readable(easy.b_crit)} {self.unit} at {loose}, {readable(hard.b_crit)} at {strict}"
        seeds = next((line.fit for line in self.curves if line.target == self.own), None)
        if searched is not None and strict == searched.target and seeds is not None:
            span += f" (both from best search trials; {readable(seeds.b_crit)} from the re-runs on fresh seeds)"
        law = self.power_law.sentence if self.power_law else self.no_power_law
        return (f"{each}: {span}.", law or "")

    def to_json(self) -> dict[str, Any]:
        """The object of `bcrit targets --json`."""
        found = []
        for curve in self.curves:
            rows = self.cells[self.cells["threshold"] == curve.target.threshold]
            found.append(
                {
                    "target": str(curve.target),
                    "threshold": curve.target.threshold,
                    "own": curve.target == self.own,
                    "cells": rows.drop(columns="threshold").to_dict("records"),
                    **{name: getattr(curve, name) for name in ("n_valid", "n_behind", "n_lower", "n_aside", "no_fit")},
                    "fit": None if curve.fit is None else _numbers(curve.fit),
                }
            )
        searched = (
            None if self.own_by_search is None or self.own_by_search.fit is None else _numbers(self.own_by_search.fit)
        )
        answer: dict[str, Any] = plain(
            {
                "metric": self.targets[0].metric,
                "direction": self.targets[0].direction.value,
                "unit": self.unit,
                "targets": found,
                "own_by_search": searched,
                "power_law": self.power_law,
                "no_power_law": self.no_power_law,
                "notes": self.notes,
            }
        )
        return answer


def _numbers(fit: HyperbolaFit) -> dict[str, Any]:
    """The part of a fit that is compared over targets."""
    names = ("s_min", "e_min", "b_crit", "b_crit_low", "b_crit_high", "level", "n_rows", "n_censored", "identified")
    whole = fit.to_json()
    return {name: whole[name] for name in (*names, "rms_log_residual", "lack_of_fit")}


def target_grid(
    folder: RunFolder, trials: pd.DataFrame, experiment: Experiment, crossings: Crossings, ran_to: Target | None = None
) -> TargetGrid:
    """Reduce crossings to studies, fit the curve at every target, and the law over targets.

    Args:
        folder: the run, for the curves of the fastest trials where others were stopped before them.
        trials: its trials table as it was recorded.
        experiment: batch sizes, unit, rule of near-optimality, and the target of the analysis.
        crossings: of these trials.
        ran_to: the target that the run was made for; None = that of the analysis.

    Returns:
        The grid.
    """
    steps, steps_low = _with_recorded(trials, ran_to or experiment.target, crossings)
    studies = trials_of(trials, steps, steps_low, crossings.best, experiment.imported is not None)
    names = {batch_size: winners(study) for batch_size, study in studies.items()}
    ids = {name for found in names.values() for name in found.values()}
    fastest = {name: (at, values) for name, at, values in curves(folder, sorted(ids), crossings.targets[0].metric)}

    own = experiment.target if experiment.target in crossings.targets else None

    def row_of(column: int, by_seeds: bool) -> pd.DataFrame:
        found, target = [], crossings.targets[column]
        for batch_size in (b for b in experiment.batch_sizes if b in studies):
            study = studies[batch_size]
            ahead = ahead_of(study.search, target.direction, fastest.get(names[batch_size].get(column, "")))
            found.append(cell(batch_size, study, target, column, ahead, by_seeds=by_seeds, own=target == own))
        return pd.DataFrame([asdict(one) for one in found], columns=TARGET_CELLS.names)

    rows = []
    for column, target in enumerate(crossings.targets):
        # One source for all batch sizes: the luck of the search is larger where seeds differ more.
        near = all(seeds_stand_for(study, column, experiment.boundary.within) for study in studies.values())
        rows.append(row_of(column, by_seeds=near or target == own))
    cells, searched = pd.concat(rows, ignore_index=True), None
    lines = tuple(_curve(target, mine, experiment.unit) for target, mine in zip(crossings.targets, rows, strict=True))
    if own is not None and (rows[crossings.at(own)]["source"] == "confirm").any() and cells["source"].nunique() > 1:
        searched = _curve(own, row_of(crossings.at(own), by_seeds=False), experiment.unit)
    compared = [searched if searched and line.target == searched.target else line for line in lines]
    law = fit_power_law([(line.target, line.fit) for line in compared if line.fit is not None])
    return TargetGrid(
        own=experiment.target,
        unit=experiment.unit,
        cells=cells,
        curves=lines,
        own_by_search=searched,
        power_law=law if isinstance(law, PowerLaw) else None,
        no_power_law=law if isinstance(law, str) else None,
        notes=grid_notes(cells, own, adaptive=experiment.imported is None and experiment.search.protocol == "tpe"),
    )


def _with_recorded(trials: pd.DataFrame, ran_to: Target, crossings: Crossings) -> tuple[Floats, Floats]:
    """The crossings, at the run's own target as the trials table has them: an imported run may lack the curves."""
    steps, steps_low = crossings.steps, crossings.steps_low
    if ran_to in crossings.targets:
        own = crossings.at(ran_to)
        steps, steps_low = steps.copy(), steps_low.copy()
        steps[:, own] = trials["steps_to_target"].to_numpy(dtype=float)
        steps_low[:, own] = trials["steps_to_target_low"].to_numpy(dtype=float)
    return steps, steps_low


def _curve(target: Target, mine: pd.DataFrame, unit: str) -> TargetCurve:
    points = mine[mine["fits"]]
    lower = points["status"] == Status.LOWER
    table = pd.DataFrame(
        {
            "batch_size": points["batch_size"],
            "steps": points["steps"].mask(lower),
            "max_steps": points["steps"].where(lower),
            "steps_resolution": points["resolution"].mask(lower),
        }
    )
    fit, no_fit = None, None
    try:
        fit = fit_hyperbola(table, unit=unit)
    except InputError as error:
        no_fit = error.problems[0]
    return TargetCurve(
        target=target,
        fit=fit,
        no_fit=no_fit,
        n_valid=int((points["status"] == Status.VALID).sum()),
        n_behind=int((points["status"] == Status.UPPER).sum()),
        n_lower=int(lower.sum()),
        n_aside=len(mine) - len(points),
    )


__all__ = ["TargetCurve", "TargetGrid", "target_grid"]
