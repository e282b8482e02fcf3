"""The tables of a run folder: every column with its type, unit and meaning. The one owner of their names."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final, Literal

from bcrit.search_spaces.outcome import Outcome, Stage

MOST = 2**62
"""Whole numbers that count something are smaller, so that a sum of two still fits into 64 bits."""
Kind = Literal["string", "string?", "int", "int?", "float", "float?", "bool"]


@dataclass(frozen=True)
class Column:
    """One column."""

    name: str  # its name in files, frames and plots
    kind: Kind  # `int` and `float` have 64 bit; a row may lack what ends with "?"
    unit: str  # what one unit of it is; "" for names and flags
    description: str  # one sentence
    least: int | None = None  # of a whole number that counts something, which is then below `MOST`
    words: tuple[str, ...] = ()  # the only ones that may stand in it; empty = any

    @property
    def nullable(self) -> bool:
        """Whether a row may lack it."""
        return self.kind.endswith("?")


@dataclass(frozen=True)
class Table:
    """A table's columns, its key, and what columns beyond them mean."""

    name: str  # folder or file stem in the run folder
    columns: tuple[Column, ...]  # the columns that must be there
    key: tuple[str, ...]  # the columns that together name a row; no two rows share them
    others: str  # what any further column is (hyperparameters, metrics)
    # Columns that stand only where something was measured for them, with empty cells elsewhere; they are none of
    # `others`.
    optional: tuple[Column, ...] = ()

    @property
    def names(self) -> list[str]:
        """The columns' names in order, without the optional ones."""
        return [column.name for column in self.columns]

    @property
    def known(self) -> list[str]:
        """The names of all columns that are none of `others`."""
        return [column.name for column in (*self.columns, *self.optional)]

    def beside(self, columns: Iterable[str]) -> list[str]:
        """Those of the columns that are none of the table's own: its `others`."""
        known = set(self.known)
        return [name for name in columns if name not in known]


TRIALS: Final = Table(
    name="trials",
    key=("trial_id",),
    others="hyperparameters",
    optional=(
        Column("checkpoint_seconds", "float?", "s", "Time in writing checkpoints, which is in none of the others."),
    ),
    columns=(
        Column("trial_id", "string", "", "Name of the trial: batch size, stage, number."),
        Column("batch_size", "int", "examples", "The study the trial belongs to.", least=1),
        Column(
            "stage",
            "string",
            "",
            "search or confirm; landscape, warm_start or adaptive beside the study.",
            words=tuple(Stage),
        ),
        Column("number", "int", "", "Place of the trial among those of its study and stage, from 0.", least=0),
        Column("round", "int", "", "How often the study's box had been widened when the trial was proposed.", least=0),
        Column("repeats", "string?", "", "For confirm: the search trial whose point is re-run."),
        Column(
            "seed", "int", "", "Seed of initialisation and data order; the same number has the same seed everywhere."
        ),
        Column("outcome", "string", "", "How the trial ended.", words=tuple(Outcome)),
        Column("message", "string?", "", "Why, in a sentence, where the outcome alone does not say it."),
        Column("max_steps", "int", "steps", "Horizon: optimizer updates the trial was allowed.", least=0),
        Column("steps", "int", "steps", "Optimizer updates made.", least=0),
        Column("examples", "int", "examples", "Training items used: batch_size x steps.", least=0),
        Column("steps_to_target", "int?", "steps", "First evaluation strictly better than the target.", least=0),
        Column("steps_to_target_low", "int?", "steps", "The evaluation before it: the crossing lies between.", least=0),
        Column("best_value", "float?", "metric", "Best value of the target's metric."),
        Column("train_seconds", "float", "s", "Time in optimizer updates, evaluation left out."),
        Column("evaluate_seconds", "float", "s", "Time in evaluation."),
        Column("probe_seconds", "float?", "s", "Time in probes, which is in neither of the two."),
        Column(
            "gradients_per_example",
            "int?",
            "",
            "Gradients of each example that one update takes: 2 with fresh extrapolation, else 1.",
        ),
        Column("micro_batch", "int?", "rows", "Rows computed at a time where a batch was divided, by the end."),
        Column("memory", "int?", "bytes", "Most memory that it held: on the GPU; without one, of its processes."),
        Column("started_at", "float", "s since 1970", "When the trial began."),
        Column("ended_at", "float", "s since 1970", "When the trial ended."),
        Column("host", "string?", "", "Name of the machine where it ran."),
        Column("node", "string?", "", "Ray's id of that machine in the session."),
    ),
)

NOISE_SCALE: Final = (
    Column("b_simple", "float?", "examples", "tr_sigma / g_sq; empty where g_sq is not significantly positive."),
    Column("b_simple_low", "float?", "examples", "Lower end of its 95 % interval, or the 95 % lower bound."),
    Column("b_simple_high", "float?", "examples", "Upper end; empty where b_simple is."),
    Column("tr_sigma", "float?", "loss^2 / weight^2", "tr(Sigma): variance of one example's gradient."),
    Column("g_sq", "float?", "loss^2 / weight^2", "|G|^2: squared norm of the mean gradient, unbiased."),
    Column("b_noise", "float?", "examples", "tr_h_sigma / g_h_g; empty where g_h_g is not significantly positive."),
    Column("b_noise_low", "float?", "examples", "Lower end of its 95 % interval, or the 95 % lower bound."),
    Column("b_noise_high", "float?", "examples", "Upper end; empty where b_noise is."),
    Column("tr_h_sigma", "float?", "loss^3 / weight^4", "tr(H Sigma), with the Hessian H of the mean loss."),
    Column("g_h_g", "float?", "loss^3 / weight^4", "G'HG, unbiased."),
    Column("lr_max", "float?", "", "g_sq / g_h_g: the best learning rate of one SGD step without noise."),
    Column("lr_effective", "float?", "", "lr / (1 - momentum) of the next update; SGD and its momenta only."),
    Column("temperature", "float?", "", "lr_effective over the best learning rate at the batch size."),
)
"""Columns of the probe `noise_scale` (McCandlish et al. 2018, eqs 2.5 to 2.9, app. C); in the batch's unit."""

WEIGHT_DISTANCE: Final = (
    Column("weight_distance", "float?", "weight", "|w_t - w_0| over all weights that train (Hoffer et al. 2017)."),
)
"""The column of the probe `weight_distance`."""

BATCH_PLAN: Final = (
    Column("update_batch_size", "int?", "examples", "Of the update before, where batch sizes change."),
    Column("running_noise_scale", "float?", "examples", "The noise scale that such a run knows so far."),
)
"""The columns of a run whose batch sizes change."""

MEASUREMENTS: Final = Table(
    name="measurements",
    key=("trial_id", "step"),
    others="metrics",
    optional=(*NOISE_SCALE, *WEIGHT_DISTANCE, *BATCH_PLAN),
    columns=(
        Column("trial_id", "string", "", "The trial."),
        Column("step", "int", "steps", "Optimizer updates made when it was evaluated.", least=0),
        Column("examples", "int", "examples", "Training items used by then."),
        Column("train_seconds", "float", "s", "Time in optimizer updates by then, evaluation left out."),
    ),
)

STEPS_TO_TARGET: Final = Table(
    name="steps_to_target",
    key=("batch_size",),
    others="hyperparameters of the best point",
    columns=(
        Column("batch_size", "int", "examples", "The study."),
        Column("steps", "float?", "steps", "Steps to target: median over the seeds of the best point."),
        Column("steps_low", "float?", "steps", "Lower end of its interval."),
        Column("steps_high", "float?", "steps", "Upper end of its interval."),
        Column("steps_level", "float?", "", "Probability with which it covers the median of all seeds."),
        Column("steps_resolution", "float?", "steps", "Width of the interval between evaluations at the crossing."),
        Column("examples", "float?", "examples", "batch_size x steps."),
        Column("source", "string", "", "confirm, or search where nothing was confirmed."),
        Column("n_seeds", "int", "", "Re-runs of the best point."),
        Column("n_reached", "int", "", "Those that reached the target."),
        Column("n_trials", "int", "", "Search trials of the study."),
        Column("search_steps", "int?", "steps", "Steps to target of the best search trial."),
        Column("max_steps", "int", "steps", "How far an unreached study was trained."),
        Column("step_seconds", "float?", "s", "Median time of one optimizer update, evaluation left out."),
        Column("best_trial", "string?", "", "The search trial that found the point."),
    ),
)

BOUNDARY: Final = Table(
    name="boundary",
    key=("batch_size", "round", "dimension", "side"),
    others="none",
    columns=(
        Column("batch_size", "int", "examples", "The study."),
        Column("round", "int", "", "How often the study's box had been widened before."),
        Column("dimension", "string", "", "Address of the dimension."),
        Column("side", "string", "", "low or high."),
        Column("kind", "string", "", "box (binds), wall (of divergence), or limit (nothing lies beyond)."),
        Column("low", "float", "", "Lower end of the box."),
        Column("high", "float", "", "Upper end of the box."),
        Column("optimum", "float", "", "The best trial's value."),
        Column("widened_to", "float?", "", "The new end where the box was widened."),
    ),
)

TARGET_CELLS: Final = Table(
    name="target_cells",
    key=("threshold", "batch_size"),
    others="none",
    columns=(
        Column("threshold", "float", "metric", "The target; metric and direction are the run's."),
        Column("batch_size", "int", "examples", "The study."),
        Column("status", "string", "", "What the steps are: valid, upper (bound), lower (bound) or missing."),
        Column("steps", "float?", "steps", "Steps to target, or the bound."),
        Column("steps_low", "float?", "steps", "Lower end of the interval over seeds."),
        Column("steps_high", "float?", "steps", "Upper end; infinite where too few seeds reached."),
        Column("source", "string", "", "confirm (median over seeds), or search (its best trial)."),
        Column("n", "int", "", "Seeds, or search trials that count."),
        Column("n_reached", "int", "", "Those that reached the target."),
        Column("n_cut", "int", "", "Feasible trials that were stopped earlier."),
        Column("n_ahead", "int", "", "Those among them that were ahead of the fastest when they were stopped."),
        Column("resolution", "float?", "steps", "Width of the interval between evaluations at the crossing."),
        Column("fits", "bool", "", "Whether the cell enters the fit at its target."),
    ),
)

BUDGET_CELLS: Final = Table(
    name="budget_cells",
    key=("resource", "budget", "batch_size"),
    others="none",
    columns=(
        Column("resource", "string", "", "What is limited: steps, examples or hours."),
        Column("budget", "float", "", "The limit, itself included."),
        Column("batch_size", "int", "examples", "The study."),
        Column("status", "string", "", "covered, cut (some trials ended earlier), stopped (at the target) or missing."),
        Column("value", "float?", "metric", "Best value of the metric within the budget."),
        Column("n", "int", "", "Trials that count."),
        Column("n_cut", "int", "", "Feasible trials that ended before the budget did."),
        Column("win_share", "float?", "", "Share of resamples of the trials in which the study is best."),
        Column("best_trial", "string?", "", "The trial with the best value."),
    ),
)
