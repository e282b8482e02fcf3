"""The sources of runs from elsewhere: a source is a function that yields runs, and its parameters are its options.

`bcrit import NAME` is made from them: a parameter's `Ask` is its help, the docstring that of the command. Nothing heavy
is loaded before a source is called. (Annotations are evaluated here, for the command line reads them.) A new source is
a reader that gives `run.ImportedRun`s (that of a tracker gives `logged.LoggedRun`s to `import_logged`), a function here
and its entry in `SOURCES`.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final

from bcrit.search_spaces.target import Target

if TYPE_CHECKING:
    from bcrit.analysis.exchange.run import ImportedRun

Runs = Mapping[str, "ImportedRun"]
"""Imported runs by names for their folders."""


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
# What is asked of every tracker (`logged.Reading`).
BatchSize = Annotated[str | None, Ask("Setting that holds the batch size. Default: the one named like it.")]
Seed = Annotated[str | None, Ask("Setting that holds the seed. Default: the one named like it, if any.")]
StepKey = Annotated[str | None, Ask("Logged column that counts progress. Default: the first that is named like steps.")]
Steps = Annotated[float | None, Ask("Optimizer updates in one count. Default: 1.")]
Examples = Annotated[float | None, Ask("Or training examples in one count: an epoch's, if it counts epochs.")]


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
    from bcrit.analysis.exchange.tables import import_table, read_mapping

    curves = None if measurements is None else str(measurements)
    run = import_table(str(trials), curves, target, read_mapping(columns), unit)
    return {run.experiment.name: run}


def csv_runs(source: Exported) -> Runs:
    """Import what `bcrit export csv` wrote: the same run again."""
    from bcrit.analysis.exchange.exports import import_tables

    run = import_tables(source, "csv")
    return {run.experiment.name: run}


def parquet_runs(source: Exported) -> Runs:
    """Import what `bcrit export parquet` wrote: the same run again."""
    from bcrit.analysis.exchange.exports import import_tables

    run = import_tables(source, "parquet")
    return {run.experiment.name: run}


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
    target: Goal,
    study: Annotated[list[str] | None, Ask("Name of a study; repeat it to read several as one run.")] = None,
    batch_size_param: BatchSize = None,
    seed_param: Seed = None,
    steps_attr: Annotated[
        str | None, Ask("User attribute with the step of a trial's final value, if trials do not report.")
    ] = None,
    objective: Annotated[int | None, Ask("Which value of a study with several objectives, from 0.")] = None,
    steps_per_iteration: Steps = None,
    examples_per_iteration: Examples = None,
    unit: Unit = "examples",
) -> Runs:
    """Import studies of an Optuna storage; what trials reported are the measurements.

    Batch size and seed may be parameters, or user attributes of a trial or its study.
    """
    from bcrit.analysis.exchange.logged import Reading
    from bcrit.analysis.exchange.optuna_storage import StudyChoice, import_optuna

    how = Reading(target, batch_size_param, seed_param, None, steps_per_iteration, examples_per_iteration, unit)
    return import_optuna(source, how, StudyChoice(tuple(study or ()), steps_attr, objective))


def ray_runs(
    source: Annotated[Path, Ask("Results folder of a Ray Tune experiment.", "FOLDER")],
    target: Goal,
    batch_size_param: BatchSize = None,
    seed_param: Seed = None,
    step_key: StepKey = None,
    steps_per_iteration: Steps = None,
    examples_per_iteration: Examples = None,
    unit: Unit = "examples",
) -> Runs:
    """Import the results folder of a Ray Tune experiment: params.json, result.json, progress.csv of each trial.

    Nested settings are named with '/', as in optimizer/lr. Where no 'step' or 'global_step' was reported, say what a
    training iteration is with --steps-per-iteration or --examples-per-iteration.
    """
    from bcrit.analysis.exchange.logged import Reading
    from bcrit.analysis.exchange.ray_results import import_ray

    how = Reading(target, batch_size_param, seed_param, step_key, steps_per_iteration, examples_per_iteration, unit)
    return import_ray(source, how)


def wandb_runs(
    source: Annotated[Path, Ask("CSV of the runs (script or project page), or a folder of run folders.", "SOURCE")],
    target: Goal,
    history: Annotated[
        Path | None, Ask("Histories of the runs of a CSV: a file of all, or a folder with a file for each.")
    ] = None,
    batch_size_param: BatchSize = None,
    seed_param: Seed = None,
    param: Annotated[
        list[str] | None, Ask("A setting that is a hyperparameter; repeat it. Default: all settings.")
    ] = None,
    step_key: StepKey = None,
    steps_per_iteration: Steps = None,
    examples_per_iteration: Examples = None,
    unit: Unit = "examples",
) -> Runs:
    """Import an export of Weights & Biases.

    SOURCE is project.csv of the documented export script, the CSV of a project's page, or a folder such as wandb/ with
    run folders (config.yaml, wandb-history.jsonl). '_step' counts calls of log: name it with --step-key if each of them
    was one optimizer update.
    """
    from bcrit.analysis.exchange.logged import Reading
    from bcrit.analysis.exchange.wandb_export import import_wandb

    how = Reading(target, batch_size_param, seed_param, step_key, steps_per_iteration, examples_per_iteration, unit)
    return import_wandb(source, how, history, tuple(param or ()))


SOURCES: Final[Mapping[str, Callable[..., Runs]]] = {
    "batch_science": batch_science_runs,
    "table": table_runs,
    "csv": csv_runs,
    "parquet": parquet_runs,
    "mlperf": mlperf_runs,
    "optuna": optuna_runs,
    "ray": ray_runs,
    "wandb": wandb_runs,
}
