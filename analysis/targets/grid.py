"""S(B; target) for several targets of one run, the curve at each of them, and how b_crit goes with the target."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from bcrit.analysis.curve import HyperbolaFit, fit_hyperbola
from bcrit.analysis.curve.interval import freedom
from bcrit.analysis.numbers import LEVEL, Estimate, readable, straight_line, t_quantile
from bcrit.analysis.records.json_values import plain
from bcrit.analysis.records.one_pass import Floats, curves
from bcrit.analysis.records.run_folder import RunFolder
from bcrit.analysis.targets.cells import Status, ahead_of, cell, seeds_stand_for, trials_of, winners
from bcrit.analysis.targets.crossings import Crossings
from bcrit.search_spaces.experiment import Experiment
from bcrit.search_spaces.outcome import Outcome
from bcrit.search_spaces.problems import InputError
from bcrit.search_spaces.tables import TARGET_CELLS
from bcrit.search_spaces.target import Direction, Target

FEWEST = 3
"""Identified targets: two parameters and one degree of freedom."""

SPAN = 1.05
"""The loosest threshold must be at least this many times the strictest. Kaplan et al.'s exponent 4.8 turns it into a
factor 1.26 of b_crit, which is hardly seen through the interval of one b_crit. Chosen, not studied."""


@dataclass(frozen=True)
class PowerLaw:
    """b_crit(L) = b_star / L^(1 / alpha) (Kaplan et al. 2020, arXiv 2001.08361, eq. 1.4).

    Fitted as log b_crit = log b_star - exponent log L by least squares, weighted by the inverse squared width of
    each interval of log b_crit. The errors' scale is that of the residuals, and no smaller than what those intervals
    say. The targets share the same runs, so their errors are not independent, and the interval is approximate.
    """

    b_star: float  # b_crit at L = 1, in `unit`
    power: float  # 1 / alpha: per cent by which b_crit grows when the threshold falls by one per cent
    exponent: Estimate  # the same with its t-interval
    unit: str  # what b_crit counts
    n_targets: int  # identified targets
    strictest: float  # smallest threshold used
    loosest: float  # largest threshold used
    rms_log_residual: float  # root mean square of log(b_crit / law)

    @property
    def alpha(self) -> float | None:
        """1 / exponent; None unless the whole interval is above 0."""
        return 1 / self.power if self.power > 0 and not self.exponent.holds(0) else None

    def b_crit(self, threshold: float) -> float:
        """The law at one threshold."""
        return float(self.b_star * threshold**-self.power)

    def to_json(self) -> dict[str, Any]:
        """Its part of `bcrit targets --json`."""
        own = {name: value for name, value in vars(self).items() if name not in ("power", "exponent")}
        return {**own, **self.exponent.flat("exponent"), "alpha": self.alpha, "level": self.exponent.level}

    @property
    def sentence(self) -> str:
        """The verdict."""
        between = f"{self.exponent.interval()}, {self.exponent.level:.0%} interval"
        shared = "The targets share the same runs, so this interval is approximate."
        if self.exponent.holds(0):
            return (
                f"b_crit does not change with the target by more than its uncertainty: as a power of the threshold it "
                f"goes with {readable(-self.power)} (1/alpha = {readable(self.power)}, {between}). {shared}"
            )
        way = "grows" if self.power > 0 else "falls"
        return (
            f"b_crit {way} as the target gets stricter: b_crit = {readable(self.b_star)} {self.unit} / "
            f"L^{readable(self.power)} between {readable(self.strictest)} and {readable(self.loosest)} "
            f"(1/alpha from {between}). {shared}"
        )


def fit_power_law(fits: Sequence[tuple[Target, HyperbolaFit]], level: float = LEVEL) -> PowerLaw | str:
    """Fit the law to the targets, of one metric, whose b_crit is identified; or say in a sentence why there is none."""
    if not fits or fits[0][0].direction is Direction.MAXIMIZE:
        return "The power law b_crit = b_star / L^(1/alpha) is one of a loss: of a metric that is minimised."
    used = [(target.threshold, fit) for target, fit in fits if fit.identified["b_crit"]]
    if any(threshold <= 0 for threshold, _ in used):
        return "The power law needs positive thresholds."
    if len(used) < FEWEST:
        return f"The power law needs {FEWEST} targets with an identified b_crit, but there are {len(used)}."
    thresholds = np.array([threshold for threshold, _ in used])
    span = thresholds.max() / thresholds.min()
    if span < SPAN:
        return f"The power law needs thresholds that span a factor {SPAN:g}, but they span {span:.3g}."
    x, y = -np.log(thresholds), np.log([fit.b_crit for _, fit in used])
    sigma = np.array([_standard_error(fit) for _, fit in used])
    exact = not (sigma > 0).all()  # computed numbers, not measured: every point counts the same
    line = straight_line(x, y, None if exact else sigma**-2.0)
    return PowerLaw(
        b_star=math.exp(line.intercept),
        power=line.slope,
        exponent=line.slope_within(level, 0.0 if exact else 1.0),
        unit=used[0][1].unit,
        n_targets=len(used),
        strictest=float(thresholds.min()),
        loosest=float(thresholds.max()),
        rms_log_residual=float(np.sqrt((line.residuals**2).mean())),
    )


def _standard_error(fit: HyperbolaFit) -> float:
    """Of log b_crit, from its interval, which has its own degrees of freedom (`bcrit.analysis.curve.interval`)."""
    return math.log(fit.b_crit_high / fit.b_crit_low) / (2 * t_quantile(freedom(len(fit.reached)), fit.level))


@dataclass(frozen=True)
class TargetCurve:
    """The curve of steps against batch size at one target."""

    target: Target
    fit: HyperbolaFit | None  # None where there is nothing to fit
    no_fit: str | None  # why there is none, in a sentence
    n_valid: int  # studies whose steps are valid
    n_behind: int  # studies whose steps rest on the judgement that stopped trials were behind
    n_lower: int  # studies that entered as a bound
    n_aside: int  # studies that could not enter

    @property
    def known(self) -> HyperbolaFit | None:
        """The fit, where it says what b_crit is."""
        return self.fit if self.fit is not None and self.fit.identified["b_crit"] else None


@dataclass(frozen=True)
class TargetGrid:
    """What one run says about several targets."""

    own: Target
    unit: str  # what batch sizes count
    cells: pd.DataFrame  # one row a target and batch size, with the columns of `TARGET_CELLS`
    curves: tuple[TargetCurve, ...]  # one a target, the loosest first
    # The own target once more, with the best search trials, where that is the source of other targets but not of this
    # one; the power law then compares like with like.
    own_by_search: TargetCurve | None
    power_law: PowerLaw | None  # b_crit against the target; None where it is not identified
    no_power_law: str | None  # why not, in a sentence
    notes: tuple[str, ...]

    @property
    def targets(self) -> tuple[Target, ...]:
        """The loosest first."""
        return tuple(curve.target for curve in self.curves)

    @property
    def sentences(self) -> tuple[str, ...]:
        """The verdict: how b_crit goes with the target."""
        known = [(line.target, line.known) for line in _of_one_source(self.curves, self.own_by_search) if line.known]
        if not known:
            return (f"At none of {len(self.curves)} targets is b_crit identified.",)
        each = f"b_crit is identified at {len(known)} of {len(self.curves)} targets"
        (loose, easy), (strict, hard) = known[0], known[-1]
        if len(known) == 1:
            return (f"{each}: {readable(easy.b_crit)} {self.unit} at {loose}.",)
        span = f"{readable(easy.b_crit)} {self.unit} at {loose}, {readable(hard.b_crit)} at {strict}"
        seeds = next((line.fit for line in self.curves if line.target == self.own), None)
        if self.own_by_search is not None and strict == self.own and seeds is not None:
            span += f" (both from best search trials; {readable(seeds.b_crit)} from the re-runs on fresh seeds)"
        law = self.power_law.sentence if self.power_law else self.no_power_law
        return (f"{each}: {span}.", law or "")

    def to_json(self) -> dict[str, Any]:
        """The object of `bcrit targets --json`."""
        cells = self.cells.drop(columns="threshold")
        targets = [
            {
                "target": str(curve.target),
                "threshold": curve.target.threshold,
                "own": curve.target == self.own,
                "cells": cells[self.cells["threshold"] == curve.target.threshold].to_dict("records"),
                **{name: getattr(curve, name) for name in ("n_valid", "n_behind", "n_lower", "n_aside", "no_fit")},
                "fit": _numbers(curve),
            }
            for curve in self.curves
        ]
        answer: dict[str, Any] = plain(
            {
                "metric": self.targets[0].metric,
                "direction": self.targets[0].direction.value,
                "unit": self.unit,
                "targets": targets,
                "own_by_search": _numbers(self.own_by_search),
                "power_law": None if self.power_law is None else self.power_law.to_json(),
                "no_power_law": self.no_power_law,
                "notes": self.notes,
            }
        )
        return answer


def _numbers(curve: TargetCurve | None) -> dict[str, Any] | None:
    """The part of a fit that is compared over targets."""
    if curve is None or curve.fit is None:
        return None
    names = ("s_min", "e_min", "b_crit", "b_crit_low", "b_crit_high", "level", "n_rows", "n_censored", "identified")
    whole = curve.fit.to_json()
    return {name: whole[name] for name in (*names, "rms_log_residual", "lack_of_fit")}


def _of_one_source(lines: tuple[TargetCurve, ...], searched: TargetCurve | None) -> list[TargetCurve]:
    return [searched if searched and line.target == searched.target else line for line in lines]


def target_grid(
    folder: RunFolder,
    trials: pd.DataFrame,
    experiment: Experiment,
    crossings: Crossings,
    ran_to: Target | None = None,
    at_edge: Mapping[float, str] | None = None,
) -> TargetGrid:
    """Reduce crossings to studies, fit the curve at every target, and the law over targets.

    `trials` is the table as it was recorded, the folder has the curves of the fastest ones where others were stopped
    before them, `ran_to` is the target that the run was made for: None = that of the experiment. `at_edge` are the
    studies whose box binds, as `fit_hyperbola` takes them; at all targets, since optima move little between them.
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
        return pd.DataFrame(found, columns=TARGET_CELLS.names)

    rows = []
    for column, target in enumerate(crossings.targets):
        # One source for all batch sizes: the luck of the search is larger where seeds differ more.
        near = all(seeds_stand_for(study, column, experiment.boundary.within) for study in studies.values())
        rows.append(row_of(column, by_seeds=near or target == own))
    cells, searched = pd.concat(rows, ignore_index=True), None
    lines = tuple(
        _curve(target, mine, experiment.unit, at_edge) for target, mine in zip(crossings.targets, rows, strict=True)
    )
    if own is not None and (rows[crossings.at(own)]["source"] == "confirm").any() and cells["source"].nunique() > 1:
        searched = _curve(own, row_of(crossings.at(own), by_seeds=False), experiment.unit, at_edge)
    law = fit_power_law([(line.target, line.fit) for line in _of_one_source(lines, searched) if line.fit is not None])
    return TargetGrid(
        own=experiment.target,
        unit=experiment.unit,
        cells=cells,
        curves=lines,
        own_by_search=searched,
        power_law=law if isinstance(law, PowerLaw) else None,
        no_power_law=law if isinstance(law, str) else None,
        notes=_notes(cells, own, adaptive=experiment.imported is None and experiment.search.adaptive),
    )


def _with_recorded(trials: pd.DataFrame, ran_to: Target, crossings: Crossings) -> tuple[Floats, Floats]:
    """The crossings, at the run's own target as the trials table has them: an imported run may lack the curves."""
    steps, steps_low = crossings.steps.copy(), crossings.steps_low.copy()
    if ran_to in crossings.targets:
        steps[:, crossings.at(ran_to)] = trials["steps_to_target"].to_numpy(dtype=float)
        steps_low[:, crossings.at(ran_to)] = trials["steps_to_target_low"].to_numpy(dtype=float)
    return steps, steps_low


def _curve(target: Target, mine: pd.DataFrame, unit: str, at_edge: Mapping[float, str] | None) -> TargetCurve:
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
        fit = fit_hyperbola(table, unit=unit, at_edge=at_edge)
    except InputError as error:
        no_fit = error.problems[0]
    valid, behind = (int((points["status"] == status).sum()) for status in (Status.VALID, Status.UPPER))
    return TargetCurve(target, fit, no_fit, valid, behind, int(lower.sum()), len(mine) - len(points))


def _notes(cells: pd.DataFrame, own: Target | None, adaptive: bool) -> tuple[str, ...]:
    """What to know when reading the grid; `adaptive`: the search went where its own target was reached fast."""
    found = []
    others = cells[cells["threshold"] != own.threshold] if own is not None else cells
    behind = int((others["fits"] & (others["status"] == Status.UPPER)).sum())
    aside = int((~others["fits"] & (others["status"] == Status.UPPER)).sum())
    if behind:
        found.append(
            f"In {behind} of {len(others)} cells at other targets than the run's own some trials were stopped earlier. "
            "All were behind the fastest one then, and the steps are taken as they are, as the search does at its own "
            "target."
        )
    if aside:
        found.append(
            f"{aside} of {len(others)} cells are upper bounds that enter no fit: trials that were stopped earlier were "
            "ahead of the fastest one. Runs that stop at their target say nothing reliable about stricter ones."
        )
    if (others["source"] == "search").any() and (cells["source"] == "confirm").any():
        found.append(
            "Numbers of source 'search' are best search trials, which luck makes too good, more so where seeds differ "
            "more: the points that were re-run on fresh seeds are not the best ones at those targets. Compare such a "
            "b_crit only with others of the same source."
        )
    if len(others) and adaptive:
        found.append(
            "The search looked for points that are fast at its own target. A search at another target may find faster "
            "ones, most of all with schedules that decay."
        )
    return tuple(found)


def other_target_notes(cells: pd.DataFrame, target: Target, ran_to: Target) -> tuple[str, ...]:
    """What an analysis at another target than the run's own can claim, from the cells of the grid."""
    mine = cells[cells["threshold"] == target.threshold]
    found = [f"The run was made for {ran_to}; this is what its curves say about {target}."]
    ahead, lower = (
        ", ".join(f"{batch_size:,}" for batch_size in mine["batch_size"][chosen])
        for chosen in (mine["n_ahead"] > 0, mine["status"] == Status.LOWER)
    )
    if ahead:
        found.append(
            f"At batch size {ahead} trials that might have been faster were stopped before; the steps there are upper "
            f"bounds, and so is what follows from them. Run again to {target} for numbers to rely on."
        )
    if lower:
        found.append(f"No trial at batch size {lower} went on until {target}.")
    return tuple(found)


def retargeted(trials: pd.DataFrame, crossings: Crossings, target: Target, imported: bool) -> pd.DataFrame:
    """The trials as if another target had been the run's own: the columns that belong to the target are rewritten.

    A trial that crossed is `reached`, whatever became of it later, as it would have stopped there; of an imported one
    that diverged the crossing does not count. A trial that stopped at the run's own target and before this one is
    `exhausted`: its training ended.
    """
    column = crossings.at(target)
    outcome = trials["outcome"].to_numpy(dtype=object)
    crossed = ~np.isnan(crossings.steps[:, column])
    if imported:
        crossed &= outcome != Outcome.DIVERGED.value
    ended = np.where(outcome == Outcome.REACHED.value, Outcome.EXHAUSTED.value, outcome)
    return trials.assign(
        steps_to_target=np.where(crossed, crossings.steps[:, column], np.nan),
        steps_to_target_low=np.where(crossed, crossings.steps_low[:, column], np.nan),
        best_value=crossings.best,
        outcome=np.where(crossed, Outcome.REACHED.value, ended),
    )
