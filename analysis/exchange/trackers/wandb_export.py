"""Runs exported from Weights & Biases as an imported run: a table of runs with histories beside it, or run folders."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from bcrit.analysis.exchange.experiment_name import experiment_name
from bcrit.analysis.exchange.imported_run import ImportedRun, Notes
from bcrit.analysis.exchange.trackers.names import Reading, listed
from bcrit.analysis.exchange.trackers.run import LoggedRun
from bcrit.analysis.exchange.trackers.studies import import_logged
from bcrit.analysis.exchange.trackers.wandb_folders import read_folders
from bcrit.analysis.exchange.trackers.wandb_history import read_histories
from bcrit.analysis.exchange.trackers.wandb_runs import read_runs_table, with_history
from bcrit.search_spaces.problems import InputError

# What loggers of optimizer updates call their counter: Lightning's, Hugging Face's, and plain names.
_COUNTERS = ("trainer/global_step", "train/global_step", "global_step", "step")
# `_step` counts calls of `log`, `Step` is the axis of an exported chart; neither need be an optimizer update.
_ITERATIONS = ("_step", "Step", "epoch", "train/epoch")


def import_wandb(
    source: Path, reading: Reading, history: Path | None = None, hyperparameters: Sequence[str] = ()
) -> dict[str, ImportedRun]:
    """Read an export of Weights & Biases.

    Args:
        source: a table of runs as CSV (that of the documented script, with the columns summary, config and name; or
            that of the project's page), or a folder of run folders as the client writes them.
        reading: how to read the runs; its counters are known here.
        history: beside a table of runs, one CSV or Parquet of all runs, or a folder with one a run. None = only the
            last values are known.
        hyperparameters: the settings that are; none = all settings. A table of the project's page does not tell
            settings from results.

    Returns:
        One imported run by the name of its folder.

    Raises:
        InputError: the source is none of these, or is broken, or names what is not there.
    """
    notes = Notes()
    if source.is_dir():
        if history is not None:
            raise InputError(str(source), ["run folders have their histories with them; leave out --history"])
        runs = read_folders(source, notes)
    else:
        runs = with_history(read_runs_table(source, notes), None if history is None else read_histories(history), notes)
    if hyperparameters:
        settings = list(dict.fromkeys(name for run in runs for name in run.settings))
        if unknown := [name for name in hyperparameters if name not in settings]:
            raise InputError(str(source), [f"no setting is named '{unknown[0]}'; the settings are {listed(settings)}"])
        runs = [_only(run, hyperparameters) for run in runs]
    reading = replace(reading, counters=_COUNTERS, iterations=_ITERATIONS)
    name = experiment_name(str(source), "wandb")
    return {name: import_logged(runs, reading, "wandb", str(source), notes, name=name)}


def _only(run: LoggedRun, hyperparameters: Sequence[str]) -> LoggedRun:
    """The run with these settings; the others may still be its batch size or seed."""
    return replace(
        run, settings={n: v for n, v in run.settings.items() if n in hyperparameters}, attributes=dict(run.settings)
    )


__all__ = ["import_wandb"]
