"""`bcrit import` from trackers and benchmarks: MLPerf reference points, Optuna, Ray Tune, Weights & Biases.

`bcrit.cli` registers them beside the commands of `bcrit.exchange`.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from bcrit.analysis.exchange.mlperf.benchmarks import Counted
from bcrit.exchange import Out, TargetSentence, land
from bcrit.runs import AsJson
from bcrit.search_spaces.load import read_target

if TYPE_CHECKING:
    from bcrit.analysis.exchange.trackers.names import Reading

Target = Annotated[
    str,
    typer.Option("--target", help="What 'reached' means: 'METRIC < NUMBER' or 'METRIC > NUMBER'.", show_default=False),
]
BatchSize = Annotated[
    str | None,
    typer.Option("--batch-size-param", help="Setting that holds the batch size. Default: the one named like it."),
]
Seed = Annotated[
    str | None,
    typer.Option("--seed-param", help="Setting that holds the seed. Default: the one named like it, if any."),
]
StepKey = Annotated[
    str | None, typer.Option(help="Logged column that counts progress. Default: the first that is named like steps.")
]
Steps = Annotated[
    float | None, typer.Option("--steps-per-iteration", help="Optimizer updates in one count. Default: 1.")
]
Examples = Annotated[
    float | None,
    typer.Option(
        "--examples-per-iteration", help="Or training examples in one count: an epoch's, if it counts epochs."
    ),
]
Unit = Annotated[str, typer.Option(help="What a batch counts.")]


def import_mlperf(
    source: Annotated[Path, typer.Argument(metavar="FILE", help="rcps_*.json of mlcommons/logging, or a flat CSV.")],
    benchmark: Annotated[str | None, typer.Option(help="Only this benchmark, such as resnet.")] = None,
    version: Annotated[str | None, typer.Option(help="Only this version, such as 5.0.0 or training_5.0.0.")] = None,
    target: TargetSentence = None,
    unit: Annotated[
        Counted | None, typer.Option(help="What the lists to converge count. Default: as known for the benchmark.")
    ] = None,
    examples_per_epoch: Annotated[float | None, typer.Option(help="Training examples in one epoch.")] = None,
    out: Out = None,
    as_json: AsJson = False,
) -> None:
    """Import MLPerf's reference convergence points: a run folder for each benchmark and version.

    Every point is one tuned setting on many seeds, all of which reached the benchmark's quality. Nothing was searched.
    """
    from bcrit.analysis.exchange.mlperf import read as mlperf

    quality = None if target is None else read_target(target, "--target")
    land(mlperf.import_mlperf(source, benchmark, version, quality, unit, examples_per_epoch), out, as_json)


def import_optuna(
    source: Annotated[
        str, typer.Argument(metavar="STORAGE", help="sqlite:///study.db, another URL, or an SQLite or journal file.")
    ],
    target: Target,
    study: Annotated[
        list[str] | None, typer.Option(help="Name of a study; repeat it to read several as one run.")
    ] = None,
    batch_size_param: BatchSize = None,
    seed_param: Seed = None,
    steps_attr: Annotated[
        str | None, typer.Option(help="User attribute with the step of a trial's final value, if trials do not report.")
    ] = None,
    objective: Annotated[
        int | None, typer.Option(help="Which value of a study with several objectives, from 0.")
    ] = None,
    steps_per_iteration: Steps = None,
    examples_per_iteration: Examples = None,
    unit: Unit = "examples",
    out: Out = None,
    as_json: AsJson = False,
) -> None:
    """Import studies of an Optuna storage; what trials reported are the measurements.

    Batch size and seed may be parameters, or user attributes of a trial or its study.
    """
    from bcrit.analysis.exchange.trackers import optuna_storage

    reading = _reading(target, batch_size_param, seed_param, None, steps_per_iteration, examples_per_iteration, unit)
    choice = optuna_storage.StudyChoice(tuple(study or ()), steps_attr, objective)
    land(optuna_storage.import_optuna(source, reading, choice), out, as_json)


def import_ray(
    source: Annotated[Path, typer.Argument(metavar="FOLDER", help="Results folder of a Ray Tune experiment.")],
    target: Target,
    batch_size_param: BatchSize = None,
    seed_param: Seed = None,
    step_key: StepKey = None,
    steps_per_iteration: Steps = None,
    examples_per_iteration: Examples = None,
    unit: Unit = "examples",
    out: Out = None,
    as_json: AsJson = False,
) -> None:
    """Import the results folder of a Ray Tune experiment: params.json, result.json, progress.csv of each trial.

    Nested settings are named with '/', as in optimizer/lr. Where no 'step' or 'global_step' was reported, say what a
    training iteration is with --steps-per-iteration or --examples-per-iteration.
    """
    from bcrit.analysis.exchange.trackers import ray_results

    reading = _reading(
        target, batch_size_param, seed_param, step_key, steps_per_iteration, examples_per_iteration, unit
    )
    land(ray_results.import_ray(source, reading), out, as_json)


def import_wandb(
    source: Annotated[
        Path,
        typer.Argument(metavar="SOURCE", help="CSV of the runs (script or project page), or a folder of run folders."),
    ],
    target: Target,
    history: Annotated[
        Path | None,
        typer.Option(help="Histories of the runs of a CSV: a file of all, or a folder with a file for each."),
    ] = None,
    batch_size_param: BatchSize = None,
    seed_param: Seed = None,
    param: Annotated[
        list[str] | None, typer.Option(help="A setting that is a hyperparameter; repeat it. Default: all settings.")
    ] = None,
    step_key: StepKey = None,
    steps_per_iteration: Steps = None,
    examples_per_iteration: Examples = None,
    unit: Unit = "examples",
    out: Out = None,
    as_json: AsJson = False,
) -> None:
    """Import an export of Weights & Biases.

    SOURCE is project.csv of the documented export script, the CSV of a project's page, or a folder such as wandb/ with
    run folders (config.yaml, wandb-history.jsonl). '_step' counts calls of log: name it with --step-key if each of them
    was one optimizer update.
    """
    from bcrit.analysis.exchange.trackers import wandb_export

    reading = _reading(
        target, batch_size_param, seed_param, step_key, steps_per_iteration, examples_per_iteration, unit
    )
    land(wandb_export.import_wandb(source, reading, history, tuple(param or ())), out, as_json)


def _reading(
    target: str,
    batch_size: str | None,
    seed: str | None,
    counter: str | None,
    steps: float | None,
    examples: float | None,
    unit: str,
) -> Reading:
    from bcrit.analysis.exchange.trackers.names import Reading

    return Reading(
        read_target(target, "--target"),
        batch_size,
        seed,
        counter,
        steps_per_count=steps,
        examples_per_count=examples,
        unit=unit,
    )
