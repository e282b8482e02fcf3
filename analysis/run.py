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

from bcrit.analysis.curve import HyperbolaFit, fit_hyperbola
from bcrit.analysis.optimum import OptimumLaws, optimum_laws
from bcrit.analysis.optimum.coordinates import as_whole, whole_names
from bcrit.analysis.optimum.near_optimal import WITHIN, NearOptimalSets, near_optimal_sets
from bcrit.analysis.optimum.sensitivity import Sensitivity, sensitivity_of
from bcrit.analysis.questions import QUESTIONS, question
from bcrit.analysis.recommendation import Asked, Recommendation, recommend
from bcrit.analysis.recommendation.hardware import trial_hardware, trial_step_times
from bcrit.analysis.records.json_values import plain
from bcrit.analysis.records.one_pass import curves
from bcrit.analysis.records.run_folder import ASKED, RunFolder
from bcrit.analysis.studies import boundary_table, box_edges, outcome_counts, state, steps_to_target, study_states, tied
from bcrit.analysis.studies.boundary import StudyState
from bcrit.analysis.studies.driver import Driver
from bcrit.analysis.targets import measured, refuse_unmeasured, unmeasured
from bcrit.analysis.targets.budgets import BestWithin, BudgetTables, budget_tables
from bcrit.analysis.targets.crossings import Crossings, Noise, noise, noise_notes
from bcrit.analysis.targets.grid import TargetGrid, other_target_notes, retargeted, target_grid
from bcrit.search_spaces.dimensions import Choice
from bcrit.search_spaces.experiment import Experiment
from bcrit.search_spaces.outcome import STUDY
from bcrit.search_spaces.problems import InputError
from bcrit.search_spaces.tables import MEASUREMENTS, NOISE_SCALE, STEPS_TO_TARGET, TRIALS, WEIGHT_DISTANCE
from bcrit.search_spaces.target import Target

if TYPE_CHECKING:
    from bcrit.analysis.report import Answer


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
        self, folder: RunFolder | str | Path, target: Target | None = None, known: Mapping[str, Any] | None = None
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
        answer = question(name)(self, **options) if options else self.answer(name)
        if isinstance(answer, str):
            raise InputError(self.location, [answer])
        return answer

    def answer(self, name: str) -> Answer | str:
        """The answer without options, or why this run cannot be asked; each question is asked once."""
        if name not in self._answers:
            self._answers[name] = question(name)(self)
        return self._answers[name]

    @cached_property
    def _answers(self) -> dict[str, Answer | str]:
        return {}

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
        """The finished trials of the study as they were recorded, one row each."""
        if self.finished.empty:
            going = f"if nothing is running, `bcrit resume {self.location}` goes on with it"
            raise InputError(self.location, [f"the run has no finished trial yet; {going}"])
        return self.finished

    @cached_property
    def finished(self) -> pd.DataFrame:
        """The same, of a run that may have none yet."""
        _ = self.declared  # that a folder holds no run is told first
        table = self.every_trial
        return table[table["stage"].isin(STUDY)].reset_index(drop=True) if len(table) else table

    @cached_property
    def every_trial(self) -> pd.DataFrame:
        """The finished trials of all stages, those beside the study too."""
        table: pd.DataFrame = self.folder.read(TRIALS).to_pandas()
        return table

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
        return steps_to_target(self.trials, self.experiment, self._at_crossing)

    @cached_property
    def _at_crossing(self) -> dict[str, float]:
        """The value at the crossing of those that share the fewest steps and trained on, by trial."""
        on = tied(self.trials)
        steps = on[on["steps"] > on["steps_to_target"]].set_index("trial_id")["steps_to_target"]
        seen = curves(self.folder, list(steps.index), self.experiment.target.metric)
        return {name: float(values[at == steps[name]][0]) for name, at, values in seen if (at == steps[name]).any()}

    @cached_property
    def boundary(self) -> pd.DataFrame:
        """One row a touched edge (columns of `BOUNDARY`)."""
        own = self._states if self.target is None else None
        return boundary_table(self.trials, self.experiment, own)

    @cached_property
    def _states(self) -> dict[int, StudyState]:
        return study_states(self.finished, self.declared)

    @cached_property
    def so_far(self) -> state.Progress | None:
        """How far the run is, complete or not; None of an imported one."""
        return state.progress(self.finished, self.declared, self._states)

    @cached_property
    def progress(self) -> state.Progress | None:
        """The same; None where it is complete."""
        return None if self.so_far is None or self.so_far.complete else self.so_far

    @cached_property
    def driver(self) -> Driver | None:
        """What the process that ran it told last."""
        return Driver.of(self.folder)

    @cached_property
    def early(self) -> list[int]:
        """Batch sizes whose search has just begun, or has not reached yet: they make neither a point nor a bound."""
        return [] if self.progress is None else self.progress.early(self.studies)

    @cached_property
    def _fit(self) -> tuple[HyperbolaFit | None, str | None]:
        known = self.studies[~self.studies["batch_size"].isin(self.early)]
        try:
            return fit_hyperbola(known, unit=self.experiment.unit, at_edge=self.at_edge), None
        except InputError as error:
            return None, state.why_no_curve(known, self.trials, self.progress) or error.problems[0]

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
        """Steps to other targets; None where the run has no measurements of the metric, or too few trials yet."""
        known = [size for size in self.experiment.batch_sizes if size not in self.early]
        if self.unmeasured is not None or not known:
            return None
        experiment = self.experiment.model_copy(update={"batch_sizes": known})
        own, at_edge = self.declared.target, self.at_edge
        return target_grid(self.folder, self.recorded, experiment, self.crossings, own, at_edge)

    @cached_property
    def budgets(self) -> BudgetTables | None:
        """Best results within budgets; None likewise."""
        if self.unmeasured is not None:
            return None
        return budget_tables(self.recorded, self.experiment, self._measured[1], self.declared.target)

    @cached_property
    def notes(self) -> tuple[str, ...]:
        """What to know of a run that is not complete, of lost re-runs, of another target than the run's own."""
        found = () if self.progress is None or self.fit is None else tuple(self.progress.notes(self.early))
        if self.targets is not None and self.target not in (None, self.declared.target):
            found += other_target_notes(self.targets.cells, self.experiment.target, self.declared.target)
        found += (*state.failures(self.recorded, self.declared), *state.coarse_notes(self.studies, tied(self.trials)))
        found += tuple(state.widened_notes(self.studies, self.trials, self.boundary))
        return (*found, *noise_notes(self._noise, self.experiment.target), *state.choice_notes(self.trials))

    @property
    def how_far(self) -> tuple[str, ...]:
        """The headline of a run that is not complete, or in which nothing ever trained; none of another."""
        return state.headline(self.recorded, self.progress, self.location)

    @cached_property
    def _noise(self) -> list[Noise | None]:
        """Of evaluations around the crossing, in one run of each study's point; none where the rule smooths them."""
        target, best = self.experiment.target, self.studies["best_trial"].dropna()
        if target.rule is not None or target.metric not in self.folder.column_names(MEASUREMENTS):
            return []
        own = self.trials[self.trials["steps_to_target"].notna()].sort_values("stage")  # re-runs first
        own = own[own["repeats"].isin(best) | own["trial_id"].isin(best)].groupby("batch_size").head(1)
        return [
            noise(at, values, target) for _, at, values in curves(self.folder, list(own["trial_id"]), target.metric)
        ]

    @cached_property
    def probed(self) -> pd.DataFrame | None:
        """What probes measured along the confirming runs of each study's point; None where nothing was probed.

        One row an evaluation: `trial_id`, `batch_size`, `step`, `crossing` (step; NaN where the run did not reach the
        target), `value` (the target's metric) and the probes' columns, NaN where nothing was measured.
        """
        told = {"g_sq", "g_h_g"} & set(self.folder.column_names(MEASUREMENTS))  # by a function of the user's
        if not (self.experiment.probes.measure or told):
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
        """On the terms that were kept in the run, else at the price it was begun with; None where there is no curve."""
        if self.fit is None:
            return None
        price = None if self.driver is None else self.driver.price
        begun_with = Asked({} if price is None else {"price_per_device_hour": price})
        asked = self.folder.read_result(ASKED, Asked) or begun_with
        return self.recommend(asked.hardware, **asked.terms)

    def recommend(self, step_times: Any = None, **limits: Any) -> Recommendation:
        """The recommendation under limits, with step times or kinds of hardware other than those the run measured."""
        assert self.fit is not None, "asked only where there is a curve"
        if step_times is None:
            resources = self.experiment.resources
            step_times = trial_hardware(self.trials, resources, limits.get("price_per_device_hour"))
            if step_times is None:
                step_times = trial_step_times(self.trials)
                limits = {"devices": max(1, int(resources.devices)), **limits}
            else:
                limits.pop("price_per_device_hour", None)
        return recommend(
            self.fit,
            step_times,
            hyperparameters=self.hyperparameters,
            laws=self.laws,
            target=str(self.experiment.target),
            **limits,
        )

    @cached_property
    def hyperparameters(self) -> dict[float, dict[str, Any]]:
        """The best point of every study that has one, by batch size.

        Without the schedule where that is constant by default: a training function may have one of its own.
        """
        found, whole = {}, whole_names(self.trials, self.experiment)
        schedule = self.declared.space.root.get("schedule")
        bare = ["schedule"] if isinstance(schedule, Choice) and schedule.options == {"constant": {}} else []
        for row in self.studies.to_dict("records"):
            if pd.notna(row["best_trial"]):
                found[float(row["batch_size"])] = as_whole(point_of(row, [*STEPS_TO_TARGET.names, *bare]), whole)
        return found

    def last_edges(self, batch_size: int) -> pd.DataFrame:
        """The boundary verdicts on a study's box as it was at the end."""
        edges = self.boundary[self.boundary["batch_size"] == batch_size]
        search = self.trials[(self.trials["batch_size"] == batch_size) & (self.trials["stage"] == "search")]
        last: pd.DataFrame = edges[edges["round"] == search["round"].max()]
        return last

    @cached_property
    def at_edge(self) -> dict[float, str]:
        """The studies whose best setting lies at the end of its box at last: batch size -> `lr high, momentum low`."""
        found = {float(size): box_edges(self.last_edges(size)) for size in self.studies["batch_size"]}
        return {size: edges for size, edges in found.items() if edges}

    def _progress(self, so_far: state.Progress) -> dict[str, Any]:
        counts = {"finished": so_far.finished, "expected": so_far.expected}
        return {**counts, "searching": so_far.searching, "early": self.early}

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
                    "best": point_of(row, STEPS_TO_TARGET.names) if pd.notna(row["best_trial"]) else None,
                    "boundary": [edge for edge in verdicts if edge["kind"] == "box"],
                    "other_edges": [edge for edge in verdicts if edge["kind"] != "box"],
                }
            )
        return {
            "run": self.location,
            "target": str(self.experiment.target),
            "progress": None if self.progress is None else self._progress(self.progress),
            "fit": None if self.fit is None else self.fit.to_json(),
            "no_fit": self.no_fit,
            "studies": plain(studies),
            "notes": list(self.notes),
            **{name: _facts(self.answer(name)) for name, line in QUESTIONS.items() if line.analyzed},
        }


def point_of(row: Mapping[Any, Any], not_these: list[str]) -> dict[str, Any]:
    """The hyperparameters in a row of a table: what it has beside these columns."""
    return {str(name): value for name, value in row.items() if name not in not_these and not pd.isna(value)}


def _facts(answer: Answer | str) -> Mapping[str, Any] | None:
    return None if isinstance(answer, str) else answer.facts


def _edge(row: Mapping[Any, Any]) -> dict[str, Any]:
    return {str(name): row[name] for name in ("dimension", "side", "kind", "low", "high", "optimum")}
