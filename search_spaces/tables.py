"""The tables of a run folder: every column with its type, unit and meaning. The one owner of their names."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal

Kind = Literal["string", "int", "float", "bool"]


@dataclass(frozen=True)
class Column:
    """One column."""

    name: str  # its name in files, frames and plots
    kind: Kind  # `string`, `int` (64 bit), `float` (64 bit) or `bool`
    unit: str  # what one unit of it is; "" for names and flags
    description: str  # one sentence
    nullable: bool = False  # whether a row may lack it


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


TRIALS: Final = Table(
    name="trials",
    key=("trial_id",),
    others="hyperparameters",
    columns=(
        Column("trial_id", "string", "", "Name of the trial: batch size, stage, number."),
        Column("batch_size", "int", "examples", "The study the trial belongs to."),
        Column("stage", "string", "", "search or confirm."),
        Column("number", "int", "", "Place of the trial among those of its study and stage, from 0."),
        Column("round", "int", "", "How often the study's box had been widened when the trial was proposed."),
        Column("repeats", "string", "", "For confirm: the search trial whose point is re-run.", nullable=True),
        Column(
            "seed", "int", "", "Seed of initialisation and data order; the same number has the same seed everywhere."
        ),
        Column("outcome", "string", "", "How the trial ended."),
        Column("message", "string", "", "Why, in a sentence, where the outcome alone does not say it.", nullable=True),
        Column("max_steps", "int", "steps", "Horizon: optimizer updates the trial was allowed."),
        Column("steps", "int", "steps", "Optimizer updates made."),
        Column("examples", "int", "examples", "Training items used: batch_size x steps."),
        Column("steps_to_target", "int", "steps", "First evaluation strictly better than the target.", nullable=True),
        Column(
            "steps_to_target_low", "int", "steps", "The evaluation before it: the crossing lies between.", nullable=True
        ),
        Column("best_value", "float", "metric", "Best value of the target's metric.", nullable=True),
        Column("train_seconds", "float", "s", "Time in optimizer updates, evaluation left out."),
        Column("evaluate_seconds", "float", "s", "Time in evaluation."),
        Column("probe_seconds", "float", "s", "Time in probes, which is in neither of the two.", nullable=True),
        Column(
            "gradients_per_example",
            "int",
            "",
            "Gradients of each example that one update takes: 2 with fresh extrapolation, else 1.",
            nullable=True,
        ),
        Column(
            "micro_batch",
            "int",
            "rows",
            "Rows computed at a time where a batch was divided, by the end.",
            nullable=True,
        ),
        Column("started_at", "float", "s since 1970", "When the trial began."),
        Column("ended_at", "float", "s since 1970", "When the trial ended."),
        Column("host", "string", "", "Name of the machine where it ran.", nullable=True),
        Column("node", "string", "", "Ray's id of that machine in the session.", nullable=True),
    ),
)

NOISE_SCALE: Final = (
    Column("b_simple", "float", "examples", "tr_sigma / g_sq; empty where g_sq is not significantly positive.", True),
    Column("b_simple_low", "float", "examples", "Lower end of its 95 % interval, or the 95 % lower bound.", True),
    Column("b_simple_high", "float", "examples", "Upper end; empty where b_simple is.", True),
    Column("tr_sigma", "float", "loss^2 / weight^2", "tr(Sigma): variance of one example's gradient.", True),
    Column("g_sq", "float", "loss^2 / weight^2", "|G|^2: squared norm of the mean gradient, unbiased.", True),
    Column(
        "b_noise", "float", "examples", "tr_h_sigma / g_h_g; empty where g_h_g is not significantly positive.", True
    ),
    Column("b_noise_low", "float", "examples", "Lower end of its 95 % interval, or the 95 % lower bound.", True),
    Column("b_noise_high", "float", "examples", "Upper end; empty where b_noise is.", True),
    Column("tr_h_sigma", "float", "loss^3 / weight^4", "tr(H Sigma), with the Hessian H of the mean loss.", True),
    Column("g_h_g", "float", "loss^3 / weight^4", "G'HG, unbiased.", True),
    Column("lr_max", "float", "", "g_sq / g_h_g: the best learning rate of one SGD step without noise.", True),
    Column("lr_effective", "float", "", "lr / (1 - momentum) of the next update; SGD and its momenta only.", True),
    Column("temperature", "float", "", "lr_effective over the best learning rate at the batch size.", True),
)
"""Columns of the probe `noise_scale` (McCandlish et al. 2018, eqs 2.5 to 2.9, app. C); in the batch's unit."""

WEIGHT_DISTANCE: Final = (
    Column("weight_distance", "float", "weight", "|w_t - w_0| over all weights that train (Hoffer et al. 2017).", True),
)
"""The column of the probe `weight_distance`."""

MEASUREMENTS: Final = Table(
    name="measurements",
    key=("trial_id", "step"),
    others="metrics",
    optional=(*NOISE_SCALE, *WEIGHT_DISTANCE),
    columns=(
        Column("trial_id", "string", "", "The trial."),
        Column("step", "int", "steps", "Optimizer updates made when it was evaluated."),
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
        Column("steps", "float", "steps", "Steps to target: median over the seeds of the best point.", nullable=True),
        Column("steps_low", "float", "steps", "Lower end of its interval.", nullable=True),
        Column("steps_high", "float", "steps", "Upper end of its interval.", nullable=True),
        Column("steps_level", "float", "", "Probability with which it covers the median of all seeds.", nullable=True),
        Column(
            "steps_resolution", "float", "steps", "Width of the interval between evaluations at the crossing.", True
        ),
        Column("examples", "float", "examples", "batch_size x steps.", nullable=True),
        Column("source", "string", "", "confirm, or search where nothing was confirmed."),
        Column("n_seeds", "int", "", "Re-runs of the best point."),
        Column("n_reached", "int", "", "Those that reached the target."),
        Column("n_trials", "int", "", "Search trials of the study."),
        Column("search_steps", "int", "steps", "Steps to target of the best search trial.", nullable=True),
        Column("max_steps", "int", "steps", "How far an unreached study was trained."),
        Column(
            "step_seconds", "float", "s", "Median time of one optimizer update, evaluation left out.", nullable=True
        ),
        Column("best_trial", "string", "", "The search trial that found the point.", nullable=True),
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
        Column("widened_to", "float", "", "The new end where the box was widened.", nullable=True),
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
        Column("steps", "float", "steps", "Steps to target, or the bound.", nullable=True),
        Column("steps_low", "float", "steps", "Lower end of the interval over seeds.", nullable=True),
        Column("steps_high", "float", "steps", "Upper end; infinite where too few seeds reached.", nullable=True),
        Column("source", "string", "", "confirm (median over seeds), or search (its best trial)."),
        Column("n", "int", "", "Seeds, or search trials that count."),
        Column("n_reached", "int", "", "Those that reached the target."),
        Column("n_cut", "int", "", "Feasible trials that were stopped earlier."),
        Column("n_ahead", "int", "", "Those among them that were ahead of the fastest when they were stopped."),
        Column("resolution", "float", "steps", "Width of the interval between evaluations at the crossing.", True),
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
        Column("value", "float", "metric", "Best value of the metric within the budget.", nullable=True),
        Column("n", "int", "", "Trials that count."),
        Column("n_cut", "int", "", "Feasible trials that ended before the budget did."),
        Column("win_share", "float", "", "Share of resamples of the trials in which the study is best.", nullable=True),
        Column("best_trial", "string", "", "The trial with the best value.", nullable=True),
    ),
)
