"""The parts of an experiment: budget, search, stopping, boundary, confirmation, resources, execution, probes."""

from __future__ import annotations

from typing import Any, Literal, Self, get_args

from pydantic import BaseModel, ConfigDict, Field, StrictInt, ValidationInfo, field_validator, model_validator


class Frozen(BaseModel):
    """A part of an experiment: immutable, without unknown keys, without infinite numbers."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    @field_validator("*", mode="before")
    @classmethod
    def _no_flag_for_a_number(cls, value: Any, info: ValidationInfo) -> Any:
        """Refuse true and false where a number is meant, which pydantic would read as 1 and 0."""
        kind = cls.model_fields[info.field_name or ""].annotation
        if isinstance(value, bool) and float in (kind, *get_args(kind)) and bool not in get_args(kind):
            raise ValueError(f"a number is needed here, but it is {str(value).lower()}")
        return value


class Budget(Frozen):
    """How far a trial may train: `steps + examples / batch_size` optimizer updates.

    The same step budget at every batch size favours large batches, the same example (epoch) budget probes only perfect
    scaling (Shallue et al. 2018, section 4.8); their sum has the shape of the curve itself. Either may be 0.

    Regime adaptation (Hoffer et al. 2017) takes the number of updates from a small reference batch size instead:
    `steps + examples / regime_adaptation` at every batch size, so that the examples grow with the batch. The lengths of
    a schedule are shares of this number (`decay_fraction`, `warmup_fraction`), so they stay the same in updates too.
    """

    steps: StrictInt = Field(default=0, ge=0, le=10**12)  # optimizer updates, the same at every batch size
    examples: StrictInt = Field(default=0, ge=0, le=10**18)  # training items, the same at every batch size
    # Another way to write `examples`, which it is turned into once the workload is known (`resolved`): passes over the
    # training set, of which an epoch of batches may leave out the last few.
    epochs: float | None = Field(default=None, gt=0, le=10**9)
    # The reference batch size; None = every batch size has its own number of updates.
    regime_adaptation: StrictInt | None = Field(default=None, ge=1)

    @model_validator(mode="after")
    def _not_empty(self) -> Self:
        if self.steps == 0 and self.examples == 0 and self.epochs is None:
            raise ValueError("a budget needs 'steps', 'examples' or 'epochs', greater than 0")
        if self.regime_adaptation and self.examples == 0 and self.epochs is None:
            raise ValueError(
                "'regime_adaptation' keeps the updates that 'epochs' or 'examples' are at that batch size, but there "
                "are only 'steps', which are the same at every batch size already; remove it, or give epochs"
            )
        return self

    def resolved(self, n_examples: int) -> Budget:
        """The budget with `epochs` as `examples` too, for a training set of this size in the unit of a batch."""
        if self.epochs is None:
            return self
        examples = max(1, round(self.epochs * n_examples))
        if self.examples not in (0, examples):
            raise ValueError(
                f"'epochs' and 'examples' are one thing, but {self.epochs:g} epochs of {n_examples} are {examples} "
                f"and examples={self.examples}; keep one"
            )
        return self.model_copy(update={"examples": examples})

    def max_steps(self, batch_size: int) -> int:
        """Optimizer updates that a search trial at this batch size may use, at least 1."""
        if self.epochs is not None and self.examples == 0:
            raise ValueError("a budget in epochs has no steps before `resolved` knows the size of the training set")
        return max(1, self.steps + self.examples // (self.regime_adaptation or batch_size))


class Stopping(Frozen):
    """When a search trial ends before its budget. All of it happens inside one study, never across batch sizes."""

    # `asha` (rungs and the cap), `cap` (the cap alone), `none` (the target or the full budget) or `full` (the full
    # budget, also beyond the target: Shallue et al. 2018; what a comparison under budgets needs).
    rule: Literal["asha", "cap", "none", "full"] = "asha"
    # At each rung the best 1/eta of the study's trials go on; rungs are a factor eta apart.
    eta: float = Field(default=3.0, gt=1)
    # First rung, as a share of the incumbent's steps-to-target (0.45 or more keeps the winner alive: measured on the
    # noisy quadratic model, where a first rung at 0.15 killed it in 17 to 59 % of studies).
    grace: float = Field(default=0.45, gt=0, le=1)
    # A trial ends as capped when it has passed (1 + slack) x the incumbent's steps.
    slack: float = Field(default=0.1, ge=0)

    @model_validator(mode="before")
    @classmethod
    def _from_name(cls, value: Any) -> Any:
        return {"rule": value} if isinstance(value, str) else value


class Search(Frozen):
    """How each study looks for its best point."""

    # `tpe` (Sobol start, then multivariate TPE and steps around the best point by turns), `sobol` or `random`.
    protocol: Literal["tpe", "sobol", "random"] = "tpe"
    # Feasible trials a study; diverged ones are drawn again (Shallue et al. 2018).
    trials: StrictInt = Field(default=40, ge=1, le=100_000)
    # Trials of the scrambled Sobol start (`tpe` only), the same points at every batch size.
    start: StrictInt = Field(default=12, ge=1)
    # At most this many draws for each feasible trial wanted (chosen, not studied; Shallue's worst study drew 11 for 1).
    max_draws: float = Field(default=4.0, ge=1, le=1000)
    # Trials of one study that may run at once. Proposals wait for all but this many of their predecessors, which makes
    # the experiment the same whatever the number of workers. `auto` becomes a number when a run begins
    # (`bcrit.tuner.plan.resolved`).
    parallel_per_study: int | Literal["auto"] = "auto"
    stopping: Stopping = Stopping()

    @field_validator("parallel_per_study", mode="plain")
    @classmethod
    def _number_or_auto(cls, value: Any) -> Any:
        """One sentence where pydantic would have one for the number and another for the word."""
        if value == "auto" or (type(value) is int and value >= 1):
            return value
        raise ValueError(f"it must be 'auto' or a whole number of at least 1, but it is {value!r}")

    @property
    def at_once(self) -> int:
        """`parallel_per_study` as a number; `auto` is its fewest, 2, as long as no run has begun."""
        return 2 if self.parallel_per_study == "auto" else self.parallel_per_study


class BoundaryRule(Frozen):
    """When an optimum counts as lying on the edge of its box, and what is done then."""

    margin: float = Field(default=0.05, gt=0, lt=0.5)  # share of the box's scaled width that counts as its edge
    # Trials within this share of the best steps-to-target form the near-optimal cluster.
    within: float = Field(default=0.10, ge=0)
    max_rounds: StrictInt = Field(default=2, ge=0)  # how often a study's box may be widened
    widen: float = Field(default=0.5, gt=0)  # a box is widened by this share of its scaled width
    # Feasible trials of the search after each widening; None = half of the search's.
    trials: StrictInt | None = Field(default=None, ge=1)


class Confirm(Frozen):
    """The re-runs that make the number: the best points of a study on fresh seeds, nothing pruned."""

    points: StrictInt = Field(default=3, ge=1, le=100)  # how many of the best points are re-run
    seeds: StrictInt = Field(default=5, ge=0, le=10_000)  # fresh seeds for each
    # A re-run may train this many times the point's steps-to-target (at least the budget), so that a slower seed still
    # reaches.
    horizon: float = Field(default=4.0, ge=1)
    # Whether a re-run that has reached the target trains on to its horizon: for `bcrit finals`, and for probes of a
    # whole run.
    beyond_target: bool = False

    @model_validator(mode="after")
    def _runs_to_go_on(self) -> Self:
        if self.beyond_target and not self.seeds:
            raise ValueError("'beyond_target' lets re-runs train on, but 'seeds' is 0; give it seeds, or remove it")
        return self


class Centre(Frozen):
    """Where the box of the learning rate, or its value if fixed, stands at each batch size: a starting point only."""

    rule: Literal["none", "linear", "sqrt"] = "none"  # `none` (the same box), `linear` (lr ~ B), `sqrt` (lr ~ sqrt B)
    batch_size: StrictInt | None = Field(default=None, ge=1, le=10**12)  # where the box, or the value, is as written

    @model_validator(mode="after")
    def _anchored(self) -> Self:
        if self.rule != "none" and self.batch_size is None:
            raise ValueError(f"rule '{self.rule}' needs 'batch_size': where the box is as written")
        return self

    def factor(self, batch_size: int) -> float:
        """What the box of the learning rate, or its value, is multiplied by."""
        if self.rule == "none" or self.batch_size is None:
            return 1.0
        return float((batch_size / self.batch_size) ** (1.0 if self.rule == "linear" else 0.5))


class Resources(Frozen):
    """What one trial occupies."""

    cpus: float = Field(default=1, gt=0)  # cores; also PyTorch's thread count
    gpus: float = Field(default=0, ge=0)  # devices, or a share of one
    # A training function that reports nothing for so long is taken to hang. Chosen, not studied.
    silence_seconds: float = Field(default=1800, gt=0)


class Execution(Frozen):
    """How our own training loop computes an update; the batch size is none of its business."""

    # Rows of the training set (examples; whole sequences where a batch counts tokens) that a gradient is computed over
    # at a time, and then summed to the batch's; None = the whole batch. It is halved where memory gives out.
    micro_batch: StrictInt | None = Field(default=None, ge=1)
    # Of the model in training. `bfloat16` is autocast: weights, their gradients and updates, the loss and evaluation
    # stay in float32.
    precision: Literal["float32", "bfloat16"] = "float32"
    compile: bool = False  # whether training runs the model through `torch.compile`


class Probes(Frozen):
    """What is measured on the side along the confirming runs, which train as they would without, bit for bit."""

    # `noise_scale` (the gradient noise scales of McCandlish et al. 2018, before the first update, at evaluations evenly
    # spaced in log step, and where the target is reached) and `weight_distance` (from the start, at every evaluation;
    # Hoffer et al. 2017).
    measure: tuple[Literal["noise_scale", "weight_distance"], ...] = ()
    # Rows of the training set that a noise scale is measured on, drawn anew each time; all of them where there are
    # fewer. On digits one measurement of 512 rows took 0.2 s (0.6 ms an update) and knew b_simple to a factor 1.2 to
    # 2.5; 256 left it open near the target, and 1,024 took 0.4 s for a factor 1.3.
    examples: StrictInt = Field(default=512, ge=20)
    # Noise scales in each factor ten of steps, as far as evaluations allow. Chosen, not studied.
    per_decade: StrictInt = Field(default=4, ge=1, le=100)

    @model_validator(mode="before")
    @classmethod
    def _from_list(cls, value: Any) -> Any:
        return {"measure": value} if isinstance(value, list | tuple) else value

    @field_validator("measure")
    @classmethod
    def _each_once(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        if len(set(value)) < len(value):
            raise ValueError("each probe stands once; remove the repeated one")
        return value
