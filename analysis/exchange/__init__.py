"""The sources of runs from elsewhere: a source is a function that gives runs, and its parameters are its options.

`bcrit import NAME` is made from them: a parameter's `Ask` is its help, the docstring that of the command. Nothing heavy
is loaded before a source is called. (Annotations are evaluated here, for the command line reads them.) A new source is
a reader that gives `run.ImportedRun`s (that of a tracker gives `logged.LoggedRun`s to `import_logged`), a function here
and its entry in `SOURCES`.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final

from bcrit.search_spaces.target import Target

if TYPE_CHECKING:
    from bcrit.analysis.exchange.run import ImportedRun

Runs = list["ImportedRun"]


@dataclass(frozen=True)
class Ask:
    """What a parameter asks of the user: an argument where it has a `metavar`, else an option of its name."""

    help: str
    metavar: str | None = None
    least: int | None = None


class Counted(StrEnum):
    """What one unit of MLPerf's convergence lists is."""

    EPOCHS = "epochs"
    EXAMPLES = "examples"
    TOKENS = "tokens"
    STEPS = "steps"


_TARGET = Ask("What 'reached' means: 'METRIC < NUMBER' or 'METRIC > NUMBER'.")
Goal = Annotated[Target, _TARGET]
OptionalGoal = Annotated[Target | None, _TARGET]
Unit = Annotated[str, Ask("What a batch counts.")]
Exported = Annotated[str, Ask("Folder that the export wrote.", "SOURCE")]
StepKey = Annotated[str | None, Ask("Logged column that counts progress. Default: the first that is named like steps.")]


@dataclass(frozen=True)
class Reading:
    """How the runs of a tracker are to be read: options of each of their commands."""

    target: Goal
    batch_size_param: Annotated[
        str | None, Ask("Setting that holds the batch size. Default: the one named like it.")
    ] = None
    seed_param: Annotated[str | None, Ask("Setting that holds the seed. Default: the one named like it, if any.")] = (
        None
    )
    steps_per_iteration: Annotated[float | None, Ask("Optimizer updates in one count. Default: 1.")] = None
    examples_per_iteration: Annotated[
        float | None, Ask("Or training examples in one count: an epoch's, if it counts epochs.")
    ] = None
    unit: Unit = "examples"

    def steps(self, batch_size: int) -> float:
        """Optimizer updates in one count at a batch size."""
        if self.examples_per_iteration is not None:
            return self.examples_per_iteration / batch_size
        return 1.0 if self.steps_per_iteration is None else self.steps_per_iteration

    @property
    def factor(self) -> str:
        """What one count is, in words."""
        if self.examples_per_iteration is not None:
            return f"{self.examples_per_iteration:,.12g} {self.unit}"
        return "one step" if self.steps_per_iteration in (None, 1) else f"{self.steps_per_iteration:,.12g} steps"


def batch_science_runs(
    source: Annotated[str, Ask("Root of the tree, or a folder in it.", "SOURCE")],
    target: OptionalGoal = None,
    workload: Annotated[
        str | None, Ask("Only workloads that fit this pattern of dataset/model/optimizer: 'mnist/*/sgd'.")
    ] = None,
    first: Annotated[
        int | None, Ask("Only the first N complete trials of each study (the paper: 100 or 50).", least=1)
    ] = None,
) -> Runs:
    """Import a tree of the layout of Shallue et al. 2018: dataset/model/optimizer/batch_size/trial.

    Every dataset/model/optimizer becomes a run folder. Without --target the goals of the paper are taken.
    """
    from bcrit.analysis.exchange.batch_science import import_batch_science

    return import_batch_science(source, target, workload, first)


def table_runs(
    trials: Annotated[Path, Ask("CSV or Parquet file, one row a trial.")],
    target: Goal,
    measurements: Annotated[
        Path | None, Ask("CSV or Parquet file, one row an evaluation: trial_id, step, metrics.")
    ] = None,
    columns: Annotated[
        str | None, Ask("'batch_size=bs,lr=learning_rate,...', or a YAML file. Default: by usual names.")
    ] = None,
    unit: Unit = "examples",
) -> Runs:
    """Import your own tables: trials with their steps to target, or trials and their measurements.

    Needed: batch_size, and steps_to_target (empty = not reached) or the second table. Further columns: trial_id, seed,
    outcome, max_steps, seconds. Any other NAME=COLUMN is a hyperparameter.
    """
    from bcrit.analysis.exchange.columns import read_mapping
    from bcrit.analysis.exchange.tables import import_table

    curves = None if measurements is None else str(measurements)
    return [import_table(str(trials), curves, target, read_mapping(columns), unit)]


def _back(kind: str, source: Exported) -> Runs:
    from bcrit.analysis.exchange.exports import import_tables

    return [import_tables(source, kind)]


def _exported(kind: str) -> Callable[..., Runs]:
    source = partial(_back, kind)
    source.__doc__ = f"Import what `bcrit export {kind}` wrote: the same run again."
    return source


def mlperf_runs(
    source: Annotated[Path, Ask("rcps_*.json of mlcommons/logging, or a flat CSV.", "FILE")],
    benchmark: Annotated[str | None, Ask("Only this benchmark, such as resnet.")] = None,
    version: Annotated[str | None, Ask("Only this version, such as 5.0.0 or training_5.0.0.")] = None,
    target: OptionalGoal = None,
    unit: Annotated[
        Counted | None, Ask("What the lists to converge count. Default: as known for the benchmark.")
    ] = None,
    examples_per_epoch: Annotated[float | None, Ask("Training examples in one epoch.")] = None,
) -> Runs:
    """Import MLPerf's reference convergence points: a run folder for each benchmark and version.

    Every point is one tuned setting on many seeds, all of which reached the benchmark's quality. Nothing was searched.
    """
    from bcrit.analysis.exchange.mlperf import import_mlperf

    return import_mlperf(source, benchmark, version, target, unit, examples_per_epoch)


def optuna_runs(
    source: Annotated[str, Ask("sqlite:///study.db, another URL, or an SQLite or journal file.", "STORAGE")],
    how: Reading,
    study: Annotated[list[str] | None, Ask("Name of a study; repeat it to read several as one run.")] = None,
    steps_attr: Annotated[
        str | None, Ask("User attribute with the step of a trial's final value, if trials do not report.")
    ] = None,
    objective: Annotated[int | None, Ask("Which value of a study with several objectives, from 0.")] = None,
) -> Runs:
    """Import studies of an Optuna storage; what trials reported are the measurements.

    Batch size and seed may be parameters, or user attributes of a trial or its study.
    """
    from bcrit.analysis.exchange.optuna_storage import import_optuna

    return [import_optuna(source, how, study or (), steps_attr, objective)]


def ray_runs(
    source: Annotated[Path, Ask("Results folder of a Ray Tune experiment.", "FOLDER")],
    how: Reading,
    step_key: StepKey = None,
) -> Runs:
    """Import the results folder of a Ray Tune experiment: params.json, result.json, progress.csv of each trial.

    Nested settings are named with '/', as in optimizer/lr. Where no 'step' or 'global_step' was reported, say what a
    training iteration is with --steps-per-iteration or --examples-per-iteration.
    """
    from bcrit.analysis.exchange.tracker_files import import_ray

    return [import_ray(source, how, step_key)]


def wandb_runs(
    source: Annotated[Path, Ask("CSV of the runs (script or project page), or a folder of run folders.", "SOURCE")],
    how: Reading,
    history: Annotated[
        Path | None, Ask("Histories of the runs of a CSV: a file of all, or a folder with a file for each.")
    ] = None,
    param: Annotated[
        list[str] | None, Ask("A setting that is a hyperparameter; repeat it. Default: all settings.")
    ] = None,
    step_key: StepKey = None,
) -> Runs:
    """Import an export of Weights & Biases.

    SOURCE is project.csv of the documented export script, the CSV of a project's page, or a folder such as wandb/ with
    run folders (run-ID.wandb of offline runs too; config.yaml, wandb-history.jsonl). '_step' counts calls of log: name
    it with --step-key if each of them was one optimizer update.
    """
    from bcrit.analysis.exchange.tracker_files import import_wandb

    return [import_wandb(source, how, step_key, history, param or ())]


SOURCES: Final[Mapping[str, Callable[..., Runs]]] = {
    "batch_science": batch_science_runs,
    "table": table_runs,
    "csv": _exported("csv"),
    "parquet": _exported("parquet"),
    "mlperf": mlperf_runs,
    "optuna": optuna_runs,
    "ray": ray_runs,
    "wandb": wandb_runs,
}
