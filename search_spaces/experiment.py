"""The experiment: everything that is declared before anything runs. One YAML file, one frozen tree."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, StrictInt, field_validator, model_validator

from search_spaces.dimensions import Box, Choice, Fixed, Integer, Linear
from search_spaces.presets import DOMAINS, OPTIMIZERS, SCHEDULES
from search_spaces.space import SearchSpace, hyperparameter
from search_spaces.tables import MEASUREMENTS, STEPS_TO_TARGET, TRIALS
from search_spaces.target import Target


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class WorkloadChoice(_Frozen):
    """Which workload, by registered name or import path (`my_module:MyWorkload`), and its options.

    `workload: digits_mlp` and `workload: {name: noisy_quadratic, dimensions: 100}` are both read.
    """

    name: str
    options: dict[str, Any] = {}

    @model_validator(mode="before")
    @classmethod
    def _from_short(cls, value: Any) -> Any:
        if isinstance(value, str):
            return {"name": value}
        if isinstance(value, dict) and "options" not in value:
            return {"name": value.get("name"), "options": {k: v for k, v in value.items() if k != "name"}}
        return value

    @field_validator("name", mode="before")
    @classmethod
    def _named(cls, value: Any) -> Any:
        if not isinstance(value, str) or not value:
            raise ValueError("a workload needs a name; `bcrit workloads` lists the built-in ones")
        return value


class Budget(_Frozen):
    """How far a trial may train: `steps + examples / batch_size` optimizer updates.

    The same step budget at every batch size favours large batches, the same example (epoch) budget probes only perfect
    scaling (Shallue et al. 2018, section 4.8); their sum has the shape of the curve itself. Either may be 0.

    Attributes:
        steps: optimizer updates, the same at every batch size.
        examples: training items, the same at every batch size.
    """

    steps: StrictInt = Field(default=0, ge=0, le=10**12)
    examples: StrictInt = Field(default=0, ge=0, le=10**18)

    @model_validator(mode="after")
    def _not_empty(self) -> Self:
        if self.steps == 0 and self.examples == 0:
            raise ValueError("a budget needs 'steps', 'examples' or both, greater than 0")
        return self

    def max_steps(self, batch_size: int) -> int:
        """Optimizer updates that a search trial at this batch size may use."""
        return max(1, self.steps + self.examples // batch_size)


class Stopping(_Frozen):
    """When a search trial ends before its budget. All of it happens inside one study, never across batch sizes.

    Attributes:
        rule: `asha` (rungs and the cap), `cap` (the cap alone), `none` (full budget: Shallue et al. 2018).
        eta: at each rung the best 1/eta of the study's trials go on; rungs are a factor eta apart.
        grace: first rung, as a share of the incumbent's steps-to-target (0.45 or more keeps the winner alive: measured
            on the noisy quadratic model, where a first rung at 0.15 killed it in 17 to 59 % of studies).
        slack: a trial ends as capped when it has passed (1 + slack) x the incumbent's steps.
    """

    rule: Literal["asha", "cap", "none"] = "asha"
    eta: float = Field(default=3.0, gt=1)
    grace: float = Field(default=0.45, gt=0, le=1)
    slack: float = Field(default=0.1, ge=0)

    @model_validator(mode="before")
    @classmethod
    def _from_name(cls, value: Any) -> Any:
        return {"rule": value} if isinstance(value, str) else value


class Search(_Frozen):
    """How each study looks for its best point.

    Attributes:
        protocol: `tpe` (Sobol start, then multivariate TPE and steps around the best point by turns), `sobol`
            or `random`.
        trials: feasible trials a study; diverged ones are drawn again (Shallue et al. 2018).
        start: trials of the scrambled Sobol start (`tpe` only), the same points at every batch size.
        max_draws: at most this many draws for each feasible trial wanted (chosen, not studied; Shallue's worst study
            drew 11 for 1).
        parallel_per_study: trials of one study that may run at once. Proposals wait for all but this many of their
            predecessors, which makes the experiment the same whatever the number of workers.
        stopping: see `Stopping`.
    """

    protocol: Literal["tpe", "sobol", "random"] = "tpe"
    trials: StrictInt = Field(default=40, ge=1, le=100_000)
    start: StrictInt = Field(default=12, ge=1)
    max_draws: float = Field(default=4.0, ge=1, le=1000)
    parallel_per_study: StrictInt = Field(default=2, ge=1)
    stopping: Stopping = Stopping()


class BoundaryRule(_Frozen):
    """When an optimum counts as lying on the edge of its box, and what is done then.

    Attributes:
        margin: share of the box's scaled width that counts as its edge.
        within: trials within this share of the best steps-to-target form the near-optimal cluster.
        max_rounds: how often a study's box may be widened.
        widen: a box is widened by this share of its scaled width.
        trials: feasible trials of the search after each widening; None = half of the search's.
    """

    margin: float = Field(default=0.05, gt=0, lt=0.5)
    within: float = Field(default=0.10, ge=0)
    max_rounds: StrictInt = Field(default=2, ge=0)
    widen: float = Field(default=0.5, gt=0)
    trials: StrictInt | None = Field(default=None, ge=1)


class Confirm(_Frozen):
    """The re-runs that make the number: the best points of a study on fresh seeds, nothing pruned.

    Attributes:
        points: how many of the best points are re-run.
        seeds: fresh seeds for each.
        horizon: a re-run may train this many times the point's steps-to-target (at least the budget), so that a slower
            seed still reaches.
    """

    points: StrictInt = Field(default=3, ge=1, le=100)
    seeds: StrictInt = Field(default=5, ge=0, le=10_000)
    horizon: float = Field(default=4.0, ge=1)


class Centre(_Frozen):
    """Where the box of the learning rate stands at each batch size; a starting point only.

    Attributes:
        rule: `none` (the same box), `linear` (lr ~ B), `sqrt` (lr ~ sqrt B).
        batch_size: where the box is as written.
    """

    rule: Literal["none", "linear", "sqrt"] = "none"
    batch_size: StrictInt | None = Field(default=None, ge=1)

    @model_validator(mode="after")
    def _anchored(self) -> Self:
        if self.rule != "none" and self.batch_size is None:
            raise ValueError(f"rule '{self.rule}' needs 'batch_size': where the box is as written")
        return self

    def factor(self, batch_size: int) -> float:
        """What the box of the learning rate is multiplied by."""
        if self.rule == "none" or self.batch_size is None:
            return 1.0
        return float((batch_size / self.batch_size) ** (1.0 if self.rule == "linear" else 0.5))


class Resources(_Frozen):
    """What one trial occupies.

    Attributes:
        cpus: cores; also PyTorch's thread count.
        gpus: devices, or a share of one.
    """

    cpus: float = Field(default=1, gt=0)
    gpus: float = Field(default=0, ge=0)


_NAME = re.compile(r"^[A-Za-z0-9][A-Za-z0-9_.-]*$")
BatchSize = Annotated[StrictInt, Field(ge=1)]


def _space_with_defaults(value: Any) -> Any:
    """Give every schedule that is named without parameters its default box."""
    if not isinstance(value, Mapping):
        return value
    if not isinstance(value.get("schedule", ""), str | list | Mapping):
        return value
    schedule = value.get("schedule", "constant")
    if isinstance(schedule, str):
        names = [n.strip() for n in schedule.removeprefix("choice of ").split(",")]
        schedule = dict.fromkeys(names)
    elif isinstance(schedule, list):
        schedule = {str(name): None for name in schedule}
    elif "scale" in schedule:
        schedule = schedule.get("options")
        schedule = {str(name): None for name in schedule} if isinstance(schedule, list) else schedule
    if not isinstance(schedule, Mapping) or not all(i is None or isinstance(i, Mapping) for i in schedule.values()):
        return value
    options = {str(n): {**SCHEDULES.get(str(n), {}), **(inner or {})} for n, inner in schedule.items()}
    return {**value, "schedule": {"scale": "choice", "options": options}}


class Experiment(_Frozen):
    """One YAML file: a workload, an optimizer, batch sizes, a search space, a target, a budget.

    Attributes:
        name: name of the run folder unless another is given.
        workload: what is trained.
        optimizer: one of `presets.OPTIMIZERS`.
        batch_sizes: one study for each.
        target: what "reached" means.
        space: what is searched at each batch size.
        budget: how far a search trial may train.
        search: how each study looks for its best point.
        boundary: when and how a box is widened.
        confirm: the re-runs that make the number.
        centre: where the learning rate's box stands at each batch size.
        resolution: evaluations stand at most this share of the current step apart, so that steps-to-target is known to
            this relative error.
        resources: what one trial occupies.
        unit: what a batch counts (examples, tokens, frames); filled in from the workload.
        seed: everything random is derived from it.
    """

    name: str = Field(default="experiment", max_length=100)
    workload: WorkloadChoice
    optimizer: str = "momentum"
    batch_sizes: tuple[BatchSize, ...] = Field(min_length=1)
    target: Target
    space: Annotated[SearchSpace, BeforeValidator(_space_with_defaults)]
    budget: Budget
    search: Search = Search()
    boundary: BoundaryRule = BoundaryRule()
    confirm: Confirm = Confirm()
    centre: Centre = Centre()
    resolution: float = Field(default=0.02, ge=1e-6, le=0.5)
    resources: Resources = Resources()
    unit: str = "examples"
    seed: StrictInt = Field(default=0, ge=0, lt=2**32)

    @field_validator("name")
    @classmethod
    def _plain_name(cls, value: str) -> str:
        if not _NAME.fullmatch(value) or ".." in value:
            raise ValueError("a name has letters, digits, '-', '_' and '.' only, so that it is a folder's name")
        return value

    @field_validator("optimizer")
    @classmethod
    def _known_optimizer(cls, value: str) -> str:
        if value not in OPTIMIZERS:
            raise ValueError(f"the optimizers are {', '.join(OPTIMIZERS)}")
        return value

    @field_validator("batch_sizes")
    @classmethod
    def _sorted_and_different(cls, value: tuple[int, ...]) -> tuple[int, ...]:
        if len(set(value)) < len(value):
            repeated = sorted({b for b in value if value.count(b) > 1})
            raise ValueError(f"batch sizes must differ, but {repeated} stand more than once; keep one of each")
        return tuple(sorted(value))

    @field_validator("space")
    @classmethod
    def _possible_values(cls, space: SearchSpace) -> SearchSpace:
        problems = []
        for name, dimension in space.root.items():
            problems += _domain_problems(name, dimension)
            if "." in name:
                problems.append(f"the name '{name}' has a '.'; a hyperparameter is a plain word")
            if isinstance(dimension, Choice):
                for option, inner in dimension.options.items():
                    if "." in option:
                        problems.append(f"the option '{option}' of '{name}' has a '.'; an option is a plain word")
                    for leaf_name, leaf in inner.items():
                        problems += _domain_problems(leaf_name, leaf)
                        if leaf_name in space.root:
                            problems.append(f"'{leaf_name}' stands both in the space and under {name}.{option}")
        reserved = {column.name for table in (TRIALS, MEASUREMENTS, STEPS_TO_TARGET) for column in table.columns}
        taken = sorted({hyperparameter(a) for a in space.addresses} & (reserved | {"decay_steps"}))
        problems += [f"the name '{name}' is a column of the run folder's tables; choose another" for name in taken]
        schedule = space.root.get("schedule")
        for option, inner in (schedule.options if isinstance(schedule, Choice) else {}).items():
            if option not in SCHEDULES:
                problems.append(f"there is no schedule '{option}'; the schedules are {', '.join(SCHEDULES)}")
            elif unknown := sorted(set(inner) - set(SCHEDULES[option])):
                needs = ", ".join(SCHEDULES[option]) or "no parameters"
                problems.append(f"schedule '{option}' has {needs}, but the space names {', '.join(unknown)}")
        parents: dict[str, set[str]] = {}
        for address in space.addresses:
            parents.setdefault(hyperparameter(address), set()).add(address.split(".")[0])
        for name, choices in parents.items():
            if len(choices - {name}) > 1:
                problems.append(f"'{name}' stands under {' and '.join(sorted(choices))}; give them different names")
        if problems:
            raise ValueError("; ".join(problems))
        return _with_natural_limits(space)

    @model_validator(mode="after")
    def _space_fits_optimizer(self) -> Self:
        needed, given = set(OPTIMIZERS[self.optimizer]), set(self.space.root)
        if missing := sorted(needed - given):
            raise ValueError(
                f"optimizer '{self.optimizer}' needs {', '.join(missing)} in 'space'; add it, searched or fixed"
            )
        for batch_size in self.batch_sizes:
            try:
                self.space_at(batch_size)
            except ValueError as error:
                problem = "'centre' moves the box of lr out of its hard limits"
                raise ValueError(
                    f"{problem} at batch size {batch_size}; widen the limits or change the rule"
                ) from error
        optimizer_words = {name for names in OPTIMIZERS.values() for name in names}
        if extra := sorted((given & optimizer_words) - needed):
            raise ValueError(f"optimizer '{self.optimizer}' has no {', '.join(extra)}; remove it from 'space'")
        return self

    @property
    def later_trials(self) -> int:
        """Feasible trials wanted in each round after the first."""
        return self.boundary.trials or max(1, self.search.trials // 2)

    def space_at(self, batch_size: int) -> SearchSpace:
        """The search space that a study starts with: the learning rate's box centred by the rule."""
        lr = self.space.root.get("lr")
        if self.centre.rule == "none" or not isinstance(lr, Box):
            return self.space
        return self.space.replace("lr", lr.shift(self.centre.factor(batch_size)))

    def to_dict(self) -> dict[str, Any]:
        """The resolved experiment as plain data; `Experiment.model_validate` reads it back."""
        return self.model_dump(mode="json", exclude_none=True)


def _domain_problems(name: str, dimension: Box | Choice | Fixed) -> list[str]:
    domain = DOMAINS.get(name)
    if domain is None:
        return []
    if isinstance(dimension, Choice):
        return [f"'{name}' must be a number or a numeric dimension, but it is a choice"]
    if isinstance(dimension, Box):
        ends = {"low": dimension.low, "high": dimension.high}
    else:
        ends = {"value": dimension.value}  # type: ignore[dict-item]
    problems = []
    for end, value in ends.items():
        if isinstance(value, str | bool) or not domain.contains(value):
            problems.append(f"'{name}' lies in {domain}, but {end}={value}; choose a value inside")
    return problems


def _with_natural_limits(space: SearchSpace) -> SearchSpace:
    """Give every box the hard limits of its natural domain, so that widening never leaves it.

    Where the domain's end is itself impossible (lr 0, momentum 1), a linear box stops a hundredth of the way short of
    it; scales that never reach it need no limit.
    """
    for address, dimension in space.axes.items():
        domain = DOMAINS.get(hyperparameter(address))
        if domain is None or not isinstance(dimension, Box):
            continue
        limits: dict[str, float] = {}
        straight = isinstance(dimension, Linear | Integer)
        if dimension.hard_low is None and (domain.includes_low or straight):
            limits["hard_low"] = domain.low if domain.includes_low else domain.low + (dimension.low - domain.low) / 100
        if dimension.hard_high is None and (domain.includes_high or (straight and math.isfinite(domain.high))):
            room = domain.high - dimension.high
            limits["hard_high"] = domain.high if domain.includes_high else domain.high - room / 100
        space = space.replace(address, dimension.model_copy(update=limits))
    return space
