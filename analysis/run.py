"""A run, read lazily: what a question asks of a run folder is computed when it is first asked for, and kept.

So `bcrit recommend` reads no curves, and the page, which asks everything, reads them once.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd
import pyarrow as pa

from bcrit.analysis.budgets.tables import BudgetTables, budget_tables
from bcrit.analysis.budgets.within import BestWithin
from bcrit.analysis.curve.fit import HyperbolaFit, fit_hyperbola
from bcrit.analysis.measured import measured, refuse_unmeasured, unmeasured
from bcrit.analysis.optimum.coordinates import as_whole, whole_names
from bcrit.analysis.optimum.near_optimal import WITHIN, NearOptimalSets, near_optimal_sets
from bcrit.analysis.optimum.optimum import OptimumLaws, optimum_laws
from bcrit.analysis.questions import question
from bcrit.analysis.recommendation.hardware import trial_step_times
from bcrit.analysis.recommendation.recommend import Recommendation, recommend
from bcrit.analysis.records.json_values import plain
from bcrit.analysis.records.run_folder import RunFolder
from bcrit.analysis.sensitivity.sensitivity import Sensitivity, sensitivity_of
from bcrit.analysis.studies.steps_to_target import boundary_table, outcome_counts, steps_to_target
from bcrit.analysis.targets.crossings import Crossings
from bcrit.analysis.targets.grid import TargetGrid, other_target_notes, retargeted, target_grid
from bcrit.search_spaces.experiment import Experiment
from bcrit.search_spaces.outcome import Outcome
from bcrit.search_spaces.problems import InputError
from bcrit.search_spaces.tables import MEASUREMENTS, NOISE_SCALE, STEPS_TO_TARGET, TRIALS, WEIGHT_DISTANCE
from bcrit.search_spaces.target import Target

if TYPE_CHECKING:
    from bcrit.analysis.report.answer import Answer

_FEWEST_STUDIES = 2  # of the two parameters of the curve


@dataclass(frozen=True, eq=False, init=False)
class Run:
    """A finished or unfinished run at its own target or at another one; nothing is ever written.

    What cannot be read (no run folder, tables that break their schema, no finished trial, no measurements of the other
    target's metric) is an InputError where it is first asked for.
    """

    folder: RunFolder
    target: Target | None
    known: Mapping[str, Any]

    def __init__(
        self,
        folder: RunFolder | str | Path,
        target: Target | None = None,
        known: Mapping[str, Any] | None = None,
    ) -> None:
        """Nothing is read yet.

        Args:
            folder: the run folder, or its path or URI.
            target: another target than the run's own, read from the stored curves.
            known: parts that stand in place of what would be computed.
        """
        parts = known or {}
        own = folder if isinstance(folder, RunFolder) else RunFolder.at(folder)
        self.__dict__.update({"folder": own, "target": target, "known": parts, **parts})

    def but(self, **parts: Any) -> Run:
        """The same with other parts; what follows from them is computed from them, unless it was given too."""
        return Run(self.folder, self.target, {**self.known, **parts})

    def ask(self, name: str, **options: Any) -> Answer:
        """The answer to a question (`bcrit.analysis.questions`); one that this run cannot be asked is an InputError."""
        answer = question(name)(self, **options)
        if isinstance(answer, str):
            raise InputError(self.location, [answer])
        return answer

    @cached_property
    def location(self) -> str:
        """The folder's path or URI."""
        return str(self.folder)

    @cached_property
    def declared(self) -> Experiment:
        """The experiment that ran."""
        return self.folder.read_experiment()

    @cached_property
    def experiment(self) -> Experiment:
        """The same with the target that is asked for."""
        return self.declared if self.target is None else self.declared.model_copy(update={"target": self.target})

    @cached_property
    def environment(self) -> Sequence[Mapping[str, Any]]:
        """Versions, host, devices of each session; empty if the folder has none."""
        return self.folder.read_environment()

    @cached_property
    def recorded(self) -> pd.DataFrame:
        """The trials table as it was recorded."""
        _ = self.declared  # that a folder holds no run is told first
        return finished_trials(self.folder)

    @cached_property
    def trials(self) -> pd.DataFrame:
        """One row a finished trial (columns of `TRIALS`, then hyperparameters), judged at the target."""
        if self.target is None:
            return self.recorded
        refuse_unmeasured(self.folder, self.crossings)
        return retargeted(self.recorded, self.crossings, self.target, self.declared.imported is not None)

    @cached_property
    def studies(self) -> pd.DataFrame:
        """One row a batch size (columns of `STEPS_TO_TARGET`, then the best point's hyperparameters)."""
        return steps_to_target(self.trials, self.experiment)

    @cached_property
    def boundary(self) -> pd.DataFrame:
        """One row a touched edge (columns of `BOUNDARY`)."""
        return boundary_table(self.trials, self.experiment)

    @cached_property
    def _fit(self) -> tuple[HyperbolaFit | None, str | None]:
        try:
            return fit_hyperbola(self.studies, unit=self.experiment.unit), None
        except InputError as error:
            return None, _why_no_fit(self.studies, self.trials) or error.problems[0]

    @cached_property
    def fit(self) -> HyperbolaFit | None:
        """The hyperbola; None where there is nothing to fit."""
        return self._fit[0]

    @cached_property
    def no_fit(self) -> str | None:
        """Why there is no fit, in a sentence; None where there is one."""
        return self._fit[1]

    @cached_property
    def _measured(self) -> tuple[Crossings, BestWithin]:
        """One pass over the measurements, for targets and budgets alike."""
        target, own = self.experiment.target, self.target is None
        return measured(self.folder, self.recorded, target, always=not own)

    @property
    def crossings(self) -> Crossings:
        """Where each trial crossed each of a grid of targets."""
        return self._measured[0]

    def measurements(self, trials: Collection[str]) -> pa.Table:
        """The measurements table of some trials, with the target's metric alone."""
        return self.folder.select(MEASUREMENTS, [*MEASUREMENTS.names, self.experiment.target.metric], trials)

    @cached_property
    def unmeasured(self) -> str | None:
        """Why the metric of the target has no curves; None where it has some."""
        return unmeasured(self.folder, self.crossings)

    @cached_property
    def targets(self) -> TargetGrid | None:
        """Steps to other targets; None where the run has no measurements of the metric."""
        if self.unmeasured is not None:
            return None
        return target_grid(self.folder, self.recorded, self.experiment, self.crossings, self.declared.target)

    @cached_property
    def budgets(self) -> BudgetTables | None:
        """Best results within budgets; None likewise."""
        if self.unmeasured is not None:
            return None
        return budget_tables(self.recorded, self.experiment, self._measured[1], self.declared.target)

    @cached_property
    def notes(self) -> tuple[str, ...]:
        """What to know of an analysis at another target than the run's own."""
        if self.targets is None or self.target in (None, self.declared.target):
            return ()
        return other_target_notes(self.targets.cells, self.experiment.target, self.declared.target)

    @cached_property
    def probed(self) -> pd.DataFrame | None:
        """What probes measured along the confirming runs of each study's point; None where nothing was probed.

        One row an evaluation: `trial_id`, `batch_size`, `step`, `crossing` (step; NaN where the run did not reach the
        target), `value` (the target's metric) and the probes' columns, NaN where nothing was measured.
        """
        if not self.experiment.probes.measure:
            return None
        again = (self.trials["stage"] == "confirm") & self.trials["repeats"].isin(self.studies["best_trial"].dropna())
        own, columns = self.trials[again], [column.name for column in (*NOISE_SCALE, *WEIGHT_DISTANCE)]
        metric = self.experiment.target.metric
        table = self.folder.select(MEASUREMENTS, ["trial_id", "step", metric, *columns], set(own["trial_id"]))
        runs = own.set_index("trial_id")[["batch_size", "steps_to_target"]]
        rows = table.to_pandas().join(runs, on="trial_id")
        rows = rows.rename(columns={metric: "value", "steps_to_target": "crossing"})
        rows = rows.sort_values(["batch_size", "trial_id", "step"], ignore_index=True)
        numbers = [*columns, "value", "crossing"]
        rows[numbers] = rows[numbers].astype(float)
        return rows if rows[columns].notna().to_numpy().any() else None

    @cached_property
    def within(self) -> float:
        """Near-optimal means at most this share more steps than the best, or the seed noise."""
        return WITHIN

    @cached_property
    def sets(self) -> NearOptimalSets:
        """The near-optimal points of every study."""
        return near_optimal_sets(self.trials, self.studies, self.boundary, self.experiment, self.within)

    @cached_property
    def laws(self) -> OptimumLaws:
        """How the best hyperparameters move."""
        return optimum_laws(self.sets)

    @cached_property
    def sensitivity(self) -> Sensitivity:
        """How much of each space does nearly as well as the best, and which hyperparameters matter."""
        return sensitivity_of(self.sets, self.experiment.target)

    @cached_property
    def recommendation(self) -> Recommendation | None:
        """From the run's own step times, without limits; None where there is no curve."""
        return self.recommend() if self.fit is not None else None

    def recommend(self, step_times: Any = None, **limits: Any) -> Recommendation:
        """The recommendation under limits, with step times or kinds of hardware other than those the run measured."""
        assert self.fit is not None, "asked only where there is a curve"
        return recommend(
            self.fit,
            trial_step_times(self.trials) if step_times is None else step_times,
            hyperparameters=self.hyperparameters,
            laws=self.laws,
            target=str(self.experiment.target),
            **limits,
        )

    @cached_property
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
            verdicts = [_edge(edge) for edge in self.last_edges(batch_size).to_dict("records")]
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
            **{name: self._facts(name) for name in ("optimum", "sensitivity", "noise_scale", "weight_distance")},
            **{name: self._facts(name) for name in ("landscape", "adaptive")},
        }

    def _facts(self, name: str) -> Mapping[str, Any] | None:
        answer = question(name)(self)
        return None if isinstance(answer, str) else answer.facts


def finished_trials(folder: RunFolder) -> pd.DataFrame:
    """The trials table; a run without a finished trial is an InputError."""
    trials: pd.DataFrame = folder.read(TRIALS).to_pandas()
    if trials.empty:
        raise InputError(str(folder), ["the run has no finished trial yet; `bcrit resume` goes on with it"])
    return trials


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


def _point(row: Mapping[Any, Any], not_these: list[str]) -> dict[str, Any]:
    return {str(name): value for name, value in row.items() if name not in not_these and not pd.isna(value)}


def _edge(row: Mapping[Any, Any]) -> dict[str, Any]:
    return {str(name): row[name] for name in ("dimension", "side", "kind", "low", "high", "optimum")}
