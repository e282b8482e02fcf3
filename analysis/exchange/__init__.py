"""The sources of runs from elsewhere: one function a source, which gives runs, and whose parameters are its options.

`bcrit import NAME` is made from it as a command is from a question: parameters are annotated with their help, and with
a metavar where they are arguments and no options; the docstring is that of the command. A new source is a function
`import_NAME` in a file of this folder, which gives one `run.ImportedRun` or several (that of a tracker hands
`logged.LoggedRun`s to `import_logged`), and its line in `SOURCES`.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib import import_module
from typing import TYPE_CHECKING, Annotated, Final, NamedTuple

from bcrit.search_spaces.target import Target

if TYPE_CHECKING:
    from bcrit.analysis.exchange.run import ImportedRun


_TARGET = "What 'reached' means: 'METRIC < NUMBER' or 'METRIC > NUMBER'."
Goal = Annotated[Target, _TARGET]
OptionalGoal = Annotated[Target | None, _TARGET]
Unit = Annotated[str, "What a batch counts."]
Exported = Annotated[str, "Folder that the export wrote.", "SOURCE"]
StepKey = Annotated[str | None, "Logged column that counts progress. Default: the first that is named like steps."]


@dataclass(frozen=True)
class Reading:
    """How the runs of a tracker are to be read: options of each of their commands."""

    target: Goal
    batch_size_param: Annotated[str | None, "Setting that holds the batch size. Default: the one named like it."] = None
    seed_param: Annotated[str | None, "Setting that holds the seed. Default: the one named like it, if any."] = None
    steps_per_iteration: Annotated[float | None, "Optimizer updates in one count. Default: 1."] = None
    examples_per_iteration: Annotated[
        float | None, "Or training examples in one count: an epoch's, if it counts epochs."
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


class Source(NamedTuple):
    """A source's line in the list."""

    module: str  # of this folder, in which `import_NAME` is
    says: str  # of its command in the list of commands: the first line of the function's docstring


SOURCES: Final[Mapping[str, Source]] = {
    "batch_science": Source(
        "batch_science",
        "Import a tree of the layout of Shallue et al. 2018: dataset/model/optimizer/batch_size/trial.",
    ),
    "table": Source(
        "tables", "Import your own tables: trials with their steps to target, or trials and their measurements."
    ),
    "csv": Source("exports", "Import what `bcrit export csv` wrote: the same run again."),
    "parquet": Source("exports", "Import what `bcrit export parquet` wrote: the same run again."),
    "mlperf": Source(
        "mlperf", "Import MLPerf's reference convergence points: a run folder for each benchmark and version."
    ),
    "optuna": Source(
        "optuna_storage", "Import studies of an Optuna storage; what trials reported are the measurements."
    ),
    "ray": Source(
        "tracker_files",
        "Import the results folder of a Ray Tune experiment: params.json, result.json, progress.csv of each trial.",
    ),
    "wandb": Source("tracker_files", "Import an export of Weights & Biases."),
}


def source(name: str) -> "Callable[..., ImportedRun | list[ImportedRun]]":
    """The function that reads; its module is loaded when it is asked for, so that `bcrit --help` is quick."""
    found: Callable[..., ImportedRun] = getattr(import_module(f"{__name__}.{SOURCES[name].module}"), f"import_{name}")
    return found
