"""The experiment: everything that is declared before anything runs. One YAML file, one frozen tree."""

import math
import re
from collections import Counter
from collections.abc import Mapping
from typing import Annotated, Any, Literal, Self

from pydantic import BeforeValidator, Field, StrictInt, ValidationInfo, field_validator, model_validator

from bcrit.search_spaces.dimensions import Box, Choice, Fixed
from bcrit.search_spaces.options import (
    COMMAND,
    MOST,
    BoundaryRule,
    Budget,
    Centre,
    Confirm,
    Execution,
    Frozen,
    Probes,
    Search,
    WorkloadChoice,
)
from bcrit.search_spaces.presets import AVERAGING, DOMAINS, OPTIMIZERS, OWN, STEPS_OF, WARMUP, domains_of
from bcrit.search_spaces.problems import did_you_mean
from bcrit.search_spaces.resources import Resources
from bcrit.search_spaces.space import (
    SearchSpace,
    domain_problems,
    extrapolation_problems,
    hyperparameter,
    missing_names,
    schedule_problems,
    with_default_boxes,
    with_natural_limits,
)
from bcrit.search_spaces.tables import MEASUREMENTS, STEPS_TO_TARGET, TRIALS
from bcrit.search_spaces.target import Target


class Imported(Frozen):
    """Where a run that was not made here came from.

    Its optimizer and hyperparameters are whatever the source used, and each study was searched in one round.
    """

    format: str  # what was read, such as `batch_science`
    source: str  # its place, as the user named it
    spaces: dict[int, SearchSpace] = {}  # the search space of each study by batch size, where the source tells it
    names: dict[str, str] = {}  # hyperparameters that were renamed: name here -> name in the source


_MOST_EVALUATIONS = 1_000_000  # of a trial, whose grid is written out; chosen
_NAME = re.compile(r"^[A-Za-z0-9][A-Za-z0-9_.-]*$")
MOST_BATCH_SIZES = 1_000
"""Of an experiment or a curve; more are no design but a mistake, and `bcrit analyze`, which takes ten seconds for
so many, would take minutes. Chosen."""
BatchSize = Annotated[StrictInt, Field(ge=1, le=MOST)]


def _space_with_defaults(value: Any, info: ValidationInfo) -> Any:
    """Give every schedule that is named without parameters its default box; an imported space stays as it is."""
    if not isinstance(value, Mapping) or info.data.get("imported"):
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
    return {**value, "schedule": {"scale": "choice", "options": with_default_boxes(schedule, set(value))}}


class Experiment(Frozen):
    """One YAML file: a workload, an optimizer, batch sizes, a search space, a target, a budget."""

    name: str = Field(default="experiment", max_length=100)
    """Name of the run folder under `runs/`, unless `--out` gives another place."""
    imported: Imported | None = None
    """Written by `bcrit import`: where the run came from. Such an experiment cannot be run."""
    workload: WorkloadChoice
    """What is trained: a name from `bcrit workloads`, or `module:name` for a class or a training function of your
    own. `{name: noisy_quadratic, dimensions: 100}` passes options, `{command: ...}` runs a program of yours."""
    optimizer: str = Field(default="momentum", max_length=200)
    """`sgd`, `momentum` (heavy ball), `nesterov`, `adam`, `adamw`, `rmsprop`, `muon`, `lars`, `lamb`, `extrap_sgd`
    and its relatives (Lin et al. 2020), or any other class of `torch.optim`; case does not matter. `own`: a training
    function of yours makes the updates, which is the default for one."""
    batch_sizes: tuple[BatchSize, ...] = Field(min_length=1, max_length=MOST_BATCH_SIZES)
    """One study for each. Six or more, from 1/16 to 2.5 times the `b_crit` you expect, give a useful fit."""
    target: Target
    """What "reached" means: `val_loss < 0.15`, or the keys below. The first evaluation strictly better than the
    threshold counts."""
    space: Annotated[SearchSpace, BeforeValidator(_space_with_defaults)]
    """What is searched at each batch size; see above."""
    budget: Budget
    """How far a search trial may train: `steps + examples / batch_size` optimizer updates. Steps alone or examples
    alone are the budgets of Shallue et al. 2018."""
    search: Search = Search()
    """How each study looks for its best point."""
    boundary: BoundaryRule = BoundaryRule()
    """When an optimum counts as lying on the edge of its box, and what is done then."""
    confirm: Confirm = Confirm()
    """The re-runs that make the number."""
    centre: Centre = Centre()
    """Where the box of the learning rate starts at each batch size; nothing keeps the optimum there. A fixed `lr` is
    multiplied by the same factor."""
    resolution: float = Field(default=0.02, ge=1e-6, le=0.5)
    """Evaluations stand at most this share of the current step apart, so steps-to-target is known to this relative
    error. Search trials are evaluated up to a fifth of the step apart until a tenth of the way to the target is
    left."""
    resources: Resources = Resources()
    """What one trial occupies."""
    checkpoint_seconds: float | None = Field(default=None, gt=0, le=1e9)
    """Seconds between the checkpoints that a trial goes on from where its worker, node or driver was lost; without it
    300."""
    execution: Execution = Execution()
    """How our training loop computes an update. Workloads with a loop of their own refuse it."""
    probes: Probes = Probes()
    """What is measured on the side along the confirming runs, without changing a bit of them. `probes: [noise_scale]`
    is short for `measure`."""
    tracking: tuple[Literal["optuna", "tensorboard", "mlflow", "wandb", "trackio"], ...] | None = None
    """Trackers that follow the run, one run or study for each batch size; each needs its own package."""
    unit: str = Field(default="examples", max_length=200)
    """What a batch counts (examples, tokens, frames); filled in from the workload."""
    seed: StrictInt = Field(default=0, ge=0, lt=2**32)
    """Everything random is derived from it."""

    @model_validator(mode="before")
    @classmethod
    def _program_updates_itself(cls, value: Any) -> Any:
        workload = value.get("workload") if isinstance(value, Mapping) else None
        if isinstance(workload, Mapping) and COMMAND in workload and "optimizer" not in value:
            return {**value, "optimizer": OWN}
        return value

    @field_validator("name")
    @classmethod
    def _plain_name(cls, value: str) -> str:
        if not _NAME.fullmatch(value) or ".." in value:
            raise ValueError("a name has letters, digits, '-', '_' and '.' only, so that it is a folder's name")
        return value

    @field_validator("optimizer")
    @classmethod
    def _known_optimizer(cls, value: str, info: ValidationInfo) -> str:
        if info.data.get("imported"):
            return value
        if not value.isidentifier():
            raise ValueError(f"an optimizer is one word: {', '.join(OPTIMIZERS)}, or another class of torch.optim")
        return value.lower()

    @field_validator("tracking")
    @classmethod
    def _each_tracker_once(cls, value: tuple[str, ...] | None) -> tuple[str, ...] | None:
        return tuple(dict.fromkeys(value or ())) or None

    @field_validator("batch_sizes")
    @classmethod
    def _sorted_and_different(cls, value: tuple[int, ...]) -> tuple[int, ...]:
        if repeated := sorted(size for size, count in Counter(value).items() if count > 1):
            raise ValueError(f"batch sizes must differ, but {repeated} stand more than once; keep one of each")
        return tuple(sorted(value))

    @field_validator("space")
    @classmethod
    def _possible_values(cls, space: SearchSpace, info: ValidationInfo) -> SearchSpace:
        if info.data.get("imported"):
            return space  # what was, was possible
        problems, domains = [], domains_of(info.data.get("optimizer", ""))
        for name, dimension in space.root.items():
            problems += domain_problems(name, dimension, domains)
            if "." in name:
                problems.append(f"the name '{name}' has a '.'; a hyperparameter is a plain word")
            if isinstance(dimension, Choice):
                for option, inner in dimension.options.items():
                    if "." in option:
                        problems.append(f"the option '{option}' of '{name}' has a '.'; an option is a plain word")
                    for leaf_name, leaf in inner.items():
                        problems += domain_problems(leaf_name, leaf, domains)
                        if leaf_name in space.root:
                            problems.append(f"'{leaf_name}' stands both in the space and under {name}.{option}")
        names = {hyperparameter(address) for address in space.addresses}
        reserved = {name for table in (TRIALS, MEASUREMENTS, STEPS_TO_TARGET) for name in table.known}
        taken = sorted(names & (reserved | set(STEPS_OF.values()) - set(WARMUP)))
        problems += [f"the name '{name}' is a column of the run folder's tables; choose another" for name in taken]
        problems += schedule_problems(space)
        for pair in (WARMUP, AVERAGING, ("weight_decay", "decoupled_weight_decay")):
            if names.issuperset(pair):
                problems.append(f"'{pair[0]}' and '{pair[1]}' exclude each other, but the space names both; keep one")
        parents: dict[str, set[str]] = {}
        for address in space.addresses:
            parents.setdefault(hyperparameter(address), set()).add(address.split(".")[0])
        for name, choices in parents.items():
            if len(choices - {name}) > 1:
                problems.append(f"'{name}' stands under {' and '.join(sorted(choices))}; give them different names")
        if problems:
            raise ValueError("; ".join(problems))
        return with_natural_limits(space, domains)

    @model_validator(mode="after")
    def _space_fits_optimizer(self) -> Self:
        if self.imported:
            return self
        known = OPTIMIZERS.get(self.optimizer)
        needed = known.needed if known else () if self.optimizer == OWN else ("lr",)
        if missing := missing_names(self.space, needed):
            names = [name for name in map(hyperparameter, self.space.addresses) if name not in DOMAINS]
            near = next((name for name in names if did_you_mean(name, missing)), None)  # misspelt, so it is missing
            has = "; " if near is None else f", which has '{near}'; {did_you_mean(near, missing)}"
            needs = f"optimizer '{self.optimizer}' needs {', '.join(missing)} in 'space'"
            raise ValueError(f"{needs}{has}add it, searched or fixed")
        if problems := extrapolation_problems(self.optimizer, self.space, self.batch_sizes):
            raise ValueError("; ".join(problems))
        if self.centre.rule != "none" and "lr" not in self.space.root:
            raise ValueError("'centre' moves lr, but 'space' has none; add 'lr: log from LOW to HIGH', say")
        for batch_size in self.batch_sizes:
            try:
                self.space_at(batch_size)
            except ValueError as error:
                problem = "'centre' moves the box of lr out of its hard limits"
                raise ValueError(
                    f"{problem} at batch size {batch_size}; widen the limits or change the rule"
                ) from error
        # Only names with a domain are an optimizer's beyond doubt: a workload may have an `alpha` of its own.
        words = {name for parameters in OPTIMIZERS.values() for name in parameters.names} & set(DOMAINS)
        given = {hyperparameter(address) for address in self.space.addresses}
        if known and (extra := sorted(given & words - set(known.names))):
            raise ValueError(f"optimizer '{self.optimizer}' has no {', '.join(extra)}; remove it from 'space'")
        return self

    @model_validator(mode="after")
    def _protocol(self) -> Self:
        """Settle what `auto` is, and what a joint search has where nothing else is said."""
        search, confirm = self.search, self.confirm
        if search.protocol == "auto":
            search = search.model_copy(update={"protocol": "joint" if self._worth_joining else "tpe"})
        if search.protocol == "joint":
            choices = any(isinstance(d, Choice) and len(d.options) > 1 for d in self.space.root.values())
            given = search.model_fields_set
            own = {"trials": 20 if choices or len(self._boxes) < 3 else 14, "start": 24}
            search = search.model_copy(update={name: value for name, value in own.items() if name not in given})
            if "points" not in confirm.model_fields_set:
                confirm = confirm.model_copy(update={"points": 1})
        object.__setattr__(self, "search", search)
        object.__setattr__(self, "confirm", confirm)
        return self

    @property
    def _boxes(self) -> set[str]:
        """Numeric hyperparameters that are searched."""
        return {hyperparameter(address) for address, d in self.space.axes.items() if isinstance(d, Box)}

    @property
    def _worth_joining(self) -> bool:
        """Whether one search of all batch sizes is better than one of each.

        A study of one dimension finds its optimum by itself: of the learning rate alone on digits, three studies with
        40 trials came to 4.18 in the mean log of steps, and to 4.20 jointly with 20 (one of them 10 % above). Of it and
        momentum they came to 3.93 by themselves and to 3.87 jointly, for 3/5 of the updates. Code of the user's may
        have a schedule that does not end where its trial does.
        """
        own = self.workload.own or self.imported is not None
        ends = self.search.stopping.rule == "asha"
        return ends and not own and len(self._boxes) >= 2 and "lr" in self._boxes and len(self.batch_sizes) >= 3

    @property
    def kinds(self) -> list[Resources]:
        """What trials occupy: the different resources of the batch sizes, in their order."""
        found: list[Resources] = []
        for batch_size in self.batch_sizes:
            if (resources := self.resources.at(batch_size)) not in found:
                found.append(resources)
        return found

    @property
    def tied(self) -> frozenset[str]:
        """Hyperparameters that follow each trial's horizon, wherever their box ends."""
        return frozenset({"decay_fraction"} if self.search.protocol == "joint" else ())

    @property
    def middle(self) -> int:
        """The batch size that a joint search starts at."""
        return self.batch_sizes[(len(self.batch_sizes) - 1) // 2]

    def trials_at(self, batch_size: int) -> int:
        """Search trials wanted in the first round of a study: feasible ones; of a joint search, any.

        A joint search has half as many again where they are cheap, as the largest batch sizes' are: near the cliff of
        the learning rate half of them miss the target. On the noisy quadratic model |log S / S_true| is .10 at the two
        largest sizes without them and .06 with them, for 1 % more updates and 10 % more examples.
        """
        trials = self.search.trials
        cheap = 2 * self.budget.max_steps(batch_size) <= self.budget.max_steps(self.middle)
        more = round(trials / 2) if self.search.protocol == "joint" and cheap else 0
        return trials + more + self.start_at(batch_size)

    def start_at(self, batch_size: int) -> int:
        """How many of these are the start of a joint search."""
        return self.search.start if self.search.protocol == "joint" and batch_size == self.middle else 0

    @property
    def start_steps(self) -> int:
        """Updates of a trial of a joint search's start at most: half of its budget (chosen; flat on the benchmark)."""
        return max(1, round(self.budget.max_steps(self.middle) / 2))

    @model_validator(mode="after")
    def _so_many_evaluations(self) -> Self:
        if self.imported or (self.budget.epochs is not None and not self.budget.examples):
            return self
        # One a step up to 1 / resolution, then a share of the step apart.
        steps, share = self.budget.max_steps(min(self.batch_sizes)), self.resolution
        count = steps if steps * share <= 1 else (1 + math.log(steps * share)) / share
        if count > _MOST_EVALUATIONS:
            raise ValueError(
                f"a trial is evaluated at most {_MOST_EVALUATIONS:,} times, but a 'resolution' of {share:g} makes "
                f"{count:,.0f} of {steps:,} steps; raise it"
            )
        return self

    @property
    def later_trials(self) -> int:
        """Feasible trials wanted in each round after the first."""
        return self.boundary.trials or max(1, self.search.trials // 2)

    def space_at(self, batch_size: int) -> SearchSpace:
        """The search space that a study starts with: the learning rate's box, or its one value, moved by the rule."""
        if self.imported:
            return self.imported.spaces.get(batch_size, self.space)
        lr = self.space.root.get("lr")
        if self.centre.rule == "none" or not isinstance(lr, Box | Fixed):
            return self.space
        factor = self.centre.factor(batch_size)
        moved = lr.shift(factor) if isinstance(lr, Box) else Fixed(value=float(lr.value) * factor)
        return self.space.replace("lr", moved)

    def to_dict(self) -> dict[str, Any]:
        """The resolved experiment as plain data; `Experiment.model_validate` reads it back."""
        return self.model_dump(mode="json", exclude_none=True)
