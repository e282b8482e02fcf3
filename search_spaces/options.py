"""The parts of an experiment: workload, budget, search, stopping, boundary, confirmation, execution, probes."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping
from typing import Any, Final, Literal, Self, get_args

from pydantic import BaseModel, ConfigDict, Field, StrictInt, ValidationInfo, field_validator, model_validator

MOST = 10**12
"""Nothing that is counted is more; far beyond what is run, and products of two fit into 64 bits or a float."""


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


COMMAND: Final = "command"
"""The workload that is a program of the user's, and the option with its command line."""


class WorkloadChoice(Frozen):
    """Which workload, by registered name or import path (`my_module:MyWorkload`), and its options.

    `workload: digits_mlp`, `workload: {name: noisy_quadratic, dimensions: 100}` and `workload: {command: python
    train.py --batch-size {batch_size}}` are all read.
    """

    name: str
    """The name, where options are given."""
    options: dict[str, Any] = {}
    """Keyword arguments of the class, or what the function finds in `config`; they may also stand beside `name`."""

    @model_validator(mode="before")
    @classmethod
    def _from_short(cls, value: Any) -> Any:
        if isinstance(value, str):
            return {"name": value}
        if isinstance(value, dict) and "options" not in value:
            return {
                "name": value.get("name", COMMAND if COMMAND in value else None),
                "options": {k: v for k, v in value.items() if k != "name"},
            }
        return value

    @field_validator("name", mode="before")
    @classmethod
    def _named(cls, value: Any) -> Any:
        if not isinstance(value, str) or not value:
            raise ValueError("a workload needs a name; `bcrit workloads` lists the built-in ones")
        return value

    @property
    def own(self) -> bool:
        """Whether it is code of the user's, and not a built-in workload."""
        return ":" in self.name or self.name == COMMAND

    @field_validator("options", mode="before")
    @classmethod
    def _plain(cls, value: Any) -> Any:
        if isinstance(value, Mapping) and (problems := list(_unplain(value))):
            raise ValueError("; ".join(problems))
        return value


def _unplain(value: Any, address: str = "") -> Iterator[str]:
    """What in a workload's options, at any depth, would come back from the run folder or arrive at a worker changed.

    Both are written as JSON, where infinity and NaN become null, a date becomes a word, and so does the number of a
    key. YAML reads `.inf`, `2024-01-31` and the keys `1` and `on` as such without being asked.
    """
    if isinstance(value, Mapping):
        for key, inner in value.items():
            name = f"{address}.{key}" if address else str(key)
            if not isinstance(key, str):
                yield f"'{name}': a key must be a word, but it is {_said(key)}; write it in quotes"
            yield from _unplain(inner, name)
    elif isinstance(value, list | tuple):
        for number, inner in enumerate(value):
            yield from _unplain(inner, f"{address}[{number}]")
    elif isinstance(value, float) and not math.isfinite(value):
        yield f"'{address}' must be a finite number, but it is {value:g}; leave it out, or give a number or a word"
    elif value is not None and not isinstance(value, bool | int | float | str):
        yield f"'{address}' must be a number, a word, true or false, but it is {_said(value)}; write it in quotes"


def _said(value: Any) -> str:
    words = {"datetime": "date and time"}
    name = type(value).__name__
    return f"the {words.get(name, name)} {str(value)[:60]}"


class Budget(Frozen):
    """How far a trial may train: `steps + examples / batch_size` optimizer updates.

    The same step budget at every batch size favours large batches, the same example (epoch) budget probes only perfect
    scaling (Shallue et al. 2018, section 4.8); their sum has the shape of the curve itself. Either may be 0.

    Regime adaptation (Hoffer et al. 2017) takes the number of updates from a small reference batch size instead:
    `steps + examples / regime_adaptation` at every batch size, so that the examples grow with the batch. The lengths of
    a schedule are shares of this number (`decay_fraction`, `warmup_fraction`), so they stay the same in updates too.
    """

    steps: StrictInt = Field(default=0, ge=0, le=MOST)
    """Its part that is the same in optimizer updates at every batch size."""
    examples: StrictInt = Field(default=0, ge=0, le=10**18)
    """Its part that is the same in training items at every batch size."""
    epochs: float | None = Field(default=None, gt=0, le=10**9)
    """Passes over the training set: another way to write `examples`, which it becomes once the workload is known."""
    regime_adaptation: StrictInt | None = Field(default=None, ge=1, le=MOST)
    """A reference batch size whose number of updates holds at every batch size (Hoffer et al. 2017):
    `steps + examples / regime_adaptation`. `null`: every batch size has its own."""

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

    rule: Literal["asha", "cap", "none", "full"] = "asha"
    """`asha` (rungs and the cap), `cap` (the cap alone), `none` (the target or the full budget) or `full` (the full
    budget, also beyond the target, as in Shallue et al. 2018; `bcrit budgets` needs it)."""
    eta: float = Field(default=3.0, gt=1, le=1e6)
    """At a rung the best 1/eta of the study go on; rungs are a factor eta apart."""
    grace: float = Field(default=0.45, ge=1e-6, le=1)
    """The first rung, as a share of the steps of the study's best trial so far. 0.45 or more keeps the winner alive:
    on the noisy quadratic model a first rung at 0.15 killed it in 17 to 59 % of studies."""
    slack: float = Field(default=0.1, ge=0, le=1e6)
    """A trial ends as capped when it has passed (1 + slack) times the steps of the best trial so far."""

    @model_validator(mode="before")
    @classmethod
    def _from_name(cls, value: Any) -> Any:
        return {"rule": value} if isinstance(value, str) else value


class Search(Frozen):
    """How each study looks for its best point."""

    protocol: str = Field(default="auto", max_length=200)
    """`joint` (one model of all batch sizes proposes), `tpe` (at each batch size a Sobol start, then multivariate TPE
    and steps around the best point by turns), `sobol` or `random`. `auto` is `joint` where a built-in workload has at
    least three batch sizes and two numeric dimensions, lr among them; else `tpe`. `module:name` is what makes a
    sampler of Optuna or a search algorithm of Ray Tune when it is called with a `seed`: `optuna.samplers:GPSampler`,
    `ray.tune.search.optuna:OptunaSearch`, or a class or function of your own."""
    trials: StrictInt = Field(default=40, ge=1, le=100_000)
    """Trials of each study, not counting those that diverge or fail, which are drawn again (Shallue et al. 2018).
    With `joint` all count, and it is `14`, or `20` where the space has a choice or fewer than three numeric dimensions
    (14 left one study in three 10 to 40 % off); batch sizes whose step budget is at most half of the middle one's have
    half as many again."""
    start: StrictInt = Field(default=12, ge=1, le=100_000)
    """How many of them are the scrambled Sobol start, the same points at every batch size. With `joint`, `24` more
    trials at the middle batch size alone."""
    max_draws: float = Field(default=4.0, ge=1, le=1000)
    """A study draws at most this many for each trial wanted. Chosen, not studied; Shallue's worst study drew 11 for
    1."""
    parallel_per_study: int | Literal["auto"] = "auto"
    """Trials of one study that may be under way at once. A proposal waits for all but this many of its predecessors,
    so it changes results, and the number of workers does not. `auto` becomes a number when the run begins, which the
    run folder keeps: twice the workers' share of a study, at least 2, at most half of `search.trials`; with `joint`
    that share, at least 1. Workers beyond this many for each batch size wait for re-runs."""
    stopping: Stopping = Stopping()
    """When a search trial ends before its budget. `stopping: cap` is short for `{rule: cap}`."""

    @field_validator("protocol")
    @classmethod
    def _known(cls, value: str) -> str:
        known = ("auto", "joint", "tpe", "sobol", "random")
        if value not in known and not re.fullmatch(r"[\w.]+:\w+", value):
            raise ValueError(f"it must be {', '.join(known)}, or module:name of another search, but it is '{value}'")
        return value

    @field_validator("parallel_per_study", mode="plain")
    @classmethod
    def _number_or_auto(cls, value: Any) -> Any:
        """One sentence where pydantic would have one for the number and another for the word."""
        if value == "auto" or (type(value) is int and 1 <= value <= 100_000):
            return value
        bound = "at most 100000" if type(value) is int and value > 1 else "at least 1"
        raise ValueError(f"it must be 'auto' or a whole number of {bound}, but it is {value!r:.60}")

    @property
    def adaptive(self) -> bool:
        """Whether what a trial is depends on those before it."""
        return self.protocol not in ("sobol", "random")

    @property
    def draws(self) -> float:
        """Draws that are allowed for each trial wanted; a joint search counts those that diverge."""
        return 1.0 if self.protocol == "joint" else self.max_draws

    @property
    def at_once(self) -> int:
        """`parallel_per_study` as a number; `auto` is its fewest, 2, as long as no run has begun."""
        fewest = 1 if self.protocol == "joint" else 2
        return fewest if self.parallel_per_study == "auto" else self.parallel_per_study


class BoundaryRule(Frozen):
    """When an optimum counts as lying on the edge of its box, and what is done then."""

    margin: float = Field(default=0.05, gt=0, lt=0.5)
    """Share of the box, in its scaled coordinate, that counts as its edge."""
    within: float = Field(default=0.10, ge=0, le=1e6)
    """Trials within this share of the fewest steps count as near the optimum."""
    max_rounds: StrictInt = Field(default=2, ge=0, le=1000)
    """How often a study's box may be widened."""
    widen: float = Field(default=0.5, gt=0, le=100)
    """By what share of its width, in its scaled coordinate."""
    trials: StrictInt | None = Field(default=None, ge=1, le=100_000)
    """Trials of the search after each widening; `null` is half of `search.trials`."""


class Confirm(Frozen):
    """The re-runs that make the number: the best points of a study on fresh seeds, nothing pruned."""

    points: StrictInt = Field(default=3, ge=1, le=100)
    """How many of a study's best points are run again; `1` with a joint search."""
    seeds: StrictInt = Field(default=5, ge=0, le=10_000)
    """On how many fresh seeds each. With 0 the number is the search's own, which luck makes too low."""
    horizon: float = Field(default=4.0, ge=1, le=10_000)
    """A re-run may take this many times the steps that the search found, and at least the budget, so that a slower
    seed still reaches."""
    beyond_target: bool = False
    """Whether a re-run that has reached the target trains on to its horizon, for `bcrit finals` and for probes of a
    whole run."""

    @model_validator(mode="after")
    def _runs_to_go_on(self) -> Self:
        if self.beyond_target and not self.seeds:
            raise ValueError("'beyond_target' lets re-runs train on, but 'seeds' is 0; give it seeds, or remove it")
        return self


class Centre(Frozen):
    """Where the box of the learning rate, or its value if fixed, stands at each batch size: a starting point only."""

    rule: Literal["none", "linear", "sqrt"] = "none"
    """`none`, `linear` (the box moves with B) or `sqrt` (with the root of B)."""
    batch_size: StrictInt | None = Field(default=None, ge=1, le=MOST)
    """Where the box, or the value, is as written; needed by `linear` and `sqrt`."""

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


class Execution(Frozen):
    """How our own training loop computes an update; the batch size is none of its business."""

    micro_batch: StrictInt | None = Field(default=None, ge=1, le=MOST)
    """Rows (examples; whole sequences where a batch counts tokens) computed at a time and added up to the batch's
    gradient; `null` is all. It is halved where memory gives out."""
    precision: Literal["float32", "bfloat16"] = "float32"
    """`bfloat16` trains under autocast; weights, their updates, the loss and evaluation stay float32."""
    compile: bool = False
    """Train through `torch.compile`; compiling is not counted as training time."""
    sharded: bool = False
    """Divide the model among the processes of a trial, its gradients and the optimizer's state too (PyTorch's FSDP2),
    for one that does not fit onto one device. Slower than `false`, where every process has all of it."""


class Probes(Frozen):
    """What is measured on the side along the confirming runs, which train as they would without, bit for bit."""

    measure: tuple[Literal["noise_scale", "weight_distance"], ...] = ()
    """`noise_scale` (McCandlish et al. 2018, before the first update, at evaluations evenly spaced in log step, and
    where the target is reached) and `weight_distance` (from the start, at every evaluation; Hoffer et al. 2017), or
    one of them."""
    examples: StrictInt = Field(default=512, ge=20, le=MOST)
    """Rows of the training set that a noise scale is measured on, drawn anew each time. On digits 512 rows took 0.2 s
    and knew b_simple to a factor 1.2 to 2.5; 256 left it open near the target, 1,024 took 0.4 s for a factor 1.3."""
    per_decade: StrictInt = Field(default=4, ge=1, le=100)
    """Noise scales in each factor ten of steps, as far as evaluations allow. Chosen, not studied."""

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
