"""Everything that a run folder says, computed from its tables in one pass: what reports, tables and JSON show."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa

from bcrit.analysis.adaptive.result import Adaptive, read_adaptive
from bcrit.analysis.budgets.tables import BudgetTables, budget_tables
from bcrit.analysis.diffusion.in_study import WeightMovement, weight_movement
from bcrit.analysis.fit.estimate import HyperbolaFit, fit_hyperbola
from bcrit.analysis.json_values import plain
from bcrit.analysis.landscape.result import Landscape, read_landscape
from bcrit.analysis.measured import measured, refuse_unmeasured
from bcrit.analysis.noise_scale.summary import NoiseScales, noise_scales
from bcrit.analysis.optimum.whole_numbers import as_whole, whole_names
from bcrit.analysis.probed import probed
from bcrit.analysis.run_folder import (
    BOUNDARY_FILE,
    BUDGET_CELLS_FILE,
    BUDGETS,
    FIT,
    STEPS_TO_TARGET_FILE,
    TARGET_CELLS_FILE,
    TARGETS,
    RunFolder,
)
from bcrit.analysis.studies.steps_to_target import boundary_table, outcome_counts, steps_to_target
from bcrit.analysis.targets.grid import TargetGrid, target_grid
from bcrit.analysis.targets.notes import other_target_notes
from bcrit.analysis.targets.retarget import retargeted
from bcrit.search_spaces.experiment import Experiment
from bcrit.search_spaces.outcome import Outcome
from bcrit.search_spaces.problems import InputError
from bcrit.search_spaces.tables import STEPS_TO_TARGET, TRIALS
from bcrit.search_spaces.target import Target

_FEWEST_STUDIES = 2  # of the two parameters of the curve


@dataclass(frozen=True)
class RunAnalysis:
    """What a run folder says.

    Attributes:
        location: the run folder.
        experiment: what was declared.
        environment: versions, host, devices of each session; empty if the folder has none.
        trials: one row a finished trial (columns of `TRIALS`, then hyperparameters).
        studies: one row a batch size (columns of `STEPS_TO_TARGET`, then the best point's hyperparameters).
        boundary: one row a touched edge (columns of `BOUNDARY`).
        fit: the hyperbola; None where there is nothing to fit.
        no_fit: why there is no fit, in a sentence; None where there is one.
        targets: steps to other targets; None where the run has no measurements of the metric.
        budgets: best results within budgets; None likewise.
        notes: what to know of an analysis at another target than the run's own.
        landscape: around the winners' weights; None where it was not measured, or at another target.
        noise_scale: gradient noise along the confirming runs; None where it was not probed.
        weight_distance: the weights' movement along them; None where it was not probed.
        adaptive: batch sizes that change along training; None where they were not trained, or at another target.
    """

    location: str
    experiment: Experiment
    environment: Sequence[Mapping[str, Any]]
    trials: pd.DataFrame
    studies: pd.DataFrame
    boundary: pd.DataFrame
    fit: HyperbolaFit | None
    no_fit: str | None
    targets: TargetGrid | None = None
    budgets: BudgetTables | None = None
    notes: tuple[str, ...] = ()
    landscape: Landscape | None = None
    noise_scale: NoiseScales | None = None
    weight_distance: WeightMovement | None = None
    adaptive: Adaptive | None = None

    @property
    def hyperparameters(self) -> dict[float, dict[str, Any]]:
        """The best point of every study that has one, by batch size."""
        found, whole = {}, whole_names(self.trials, self.experiment)
        for row in self.studies.to_dict("records"):
            if pd.notna(row["best_trial"]):
                found[float(row["batch_size"])] = as_whole(_point(row, STEPS_TO_TARGET.names), whole)
        return found

    def last_edges(self, batch_size: int) -> pd.DataFrame:
        """The boundary verdicts on a study's box as it was at the end."""
        edges = self.boundary[self.boundary["batch_size"] == batch_size]
        search = self.trials[(self.trials["batch_size"] == batch_size) & (self.trials["stage"] == "search")]
        last: pd.DataFrame = edges[edges["round"] == search["round"].max()]
        return last

    def to_json(self) -> dict[str, Any]:
        """The object of `bcrit analyze --json`."""
        studies = []
        for row in self.studies.to_dict("records"):
            batch_size = int(row["batch_size"])
            edges = self.last_edges(batch_size)
            verdicts = [_edge(edge) for edge in edges.to_dict("records")]
            studies.append(
                {
                    **{name: row[name] for name in STEPS_TO_TARGET.names},
                    "outcomes": outcome_counts(self.trials, batch_size),
                    "best": _point(row, STEPS_TO_TARGET.names) if pd.notna(row["best_trial"]) else None,
                    "boundary": [edge for edge in verdicts if edge["kind"] == "box"],
                    "other_edges": [edge for edge in verdicts if edge["kind"] != "box"],
                }
            )
        return {
            "run": self.location,
            "target": str(self.experiment.target),
            "fit": None if self.fit is None else self.fit.to_json(),
            "no_fit": self.no_fit,
            "studies": plain(studies),
            "targets": None if self.targets is None else self.targets.to_json(),
            "budgets": None if self.budgets is None else self.budgets.to_json(),
            "notes": list(self.notes),
            "noise_scale": None if self.noise_scale is None else self.noise_scale.to_json(),
            "weight_distance": None if self.weight_distance is None else self.weight_distance.to_json(),
        }


def analyze(folder: RunFolder, target: Target | None = None) -> RunAnalysis:
    """Compute everything from a run folder's tables; nothing is written.

    Args:
        folder: a finished or unfinished run.
        target: another target than the run's own, read from the stored curves; None = the run's own. What the run can
            say about it stands in `notes`.

    Returns:
        The analysis.

    Raises:
        InputError: it is no run folder, its tables break their schema, or it has no measurements of the other target's
            metric.
    """
    experiment = folder.read_experiment()
    ran_to = experiment.target
    trials = recorded = folder.read(TRIALS).to_pandas()
    if trials.empty:
        raise InputError(str(folder), ["the run has no finished trial yet; `bcrit resume` goes on with it"])
    crossings, best = measured(folder, trials, target or ran_to, always=target is not None)
    seen = not np.isnan(crossings.best).all()
    if target is not None:
        refuse_unmeasured(folder, crossings)
        trials = retargeted(trials, crossings, target, experiment.imported is not None)
        experiment = experiment.model_copy(update={"target": target})
    studies = steps_to_target(trials, experiment)
    fit, no_fit = None, None
    try:
        fit = fit_hyperbola(studies, unit=experiment.unit)
    except InputError as error:
        no_fit = _why_no_fit(studies, trials) or error.problems[0]
    grid = target_grid(folder, recorded, experiment, crossings, ran_to) if seen else None
    on_the_side = probed(folder, trials, studies, experiment)
    return RunAnalysis(
        location=str(folder),
        experiment=experiment,
        environment=folder.read_environment(),
        trials=trials,
        studies=studies,
        boundary=boundary_table(trials, experiment),
        fit=fit,
        no_fit=no_fit,
        targets=grid,
        budgets=budget_tables(recorded, experiment, best, ran_to) if seen else None,
        notes=other_target_notes(grid.cells, experiment.target, ran_to)
        if grid is not None and target not in (None, ran_to)
        else (),
        landscape=read_landscape(folder) if target is None else None,
        noise_scale=None if on_the_side is None else noise_scales(on_the_side, experiment, fit),
        weight_distance=None if on_the_side is None else weight_movement(on_the_side, _rates(studies)),
        adaptive=read_adaptive(folder) if target is None else None,
    )


def _rates(studies: pd.DataFrame) -> dict[int, float]:
    """The learning rate of each study's point, where there is one."""
    known = studies[studies["lr"].notna()] if "lr" in studies else studies.head(0)
    return {int(row["batch_size"]): float(row["lr"]) for row in known.to_dict("records")}


def _why_no_fit(studies: pd.DataFrame, trials: pd.DataFrame) -> str | None:
    """What a run without a curve lacks, and what its trials say about it."""
    reached = int(studies["steps"].notna().sum())
    if reached >= _FEWEST_STUDIES:
        return None
    why = f"a curve needs {_FEWEST_STUDIES} batch sizes that reached the target, better 6, but there are {reached}"
    failed = trials[trials["outcome"].isin([outcome for outcome in Outcome if not outcome.feasible])]
    if len(failed):
        why += f"; {len(failed)} of {len(trials)} trials diverged or failed"
        for message, count in failed["message"].value_counts().head(1).items():
            why += f", {count} of them with: {message}"
    return why


def write_analysis(folder: RunFolder, analysis: RunAnalysis) -> None:
    """Write the derived tables and the fit into the run folder."""
    for name, frame in ((STEPS_TO_TARGET_FILE, analysis.studies), (BOUNDARY_FILE, analysis.boundary)):
        folder.write_table(name, pa.Table.from_pandas(frame, preserve_index=False))
    fit = {"no_fit": analysis.no_fit} if analysis.fit is None else analysis.fit.to_json()
    folder.write_json(FIT, fit)
    if analysis.targets is not None:
        folder.write_table(TARGET_CELLS_FILE, pa.Table.from_pandas(analysis.targets.cells, preserve_index=False))
        folder.write_json(TARGETS, analysis.targets.to_json())
    if analysis.budgets is not None:
        folder.write_table(BUDGET_CELLS_FILE, pa.Table.from_pandas(analysis.budgets.cells, preserve_index=False))
        folder.write_json(BUDGETS, analysis.budgets.to_json())


def _point(row: Mapping[Any, Any], not_these: list[str]) -> dict[str, Any]:
    return {str(name): value for name, value in row.items() if name not in not_these and not pd.isna(value)}


def _edge(row: Mapping[Any, Any]) -> dict[str, Any]:
    return {str(name): row[name] for name in ("dimension", "side", "kind", "low", "high", "optimum")}
