"""A training function of the user's, `def train(config, report)`: what is known of it, given to it, and read of it."""

import inspect
import math
import tempfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from bcrit.search_spaces.outcome import Outcome
from bcrit.search_spaces.tables import MEASUREMENTS
from bcrit.search_spaces.target import Direction
from bcrit.tuner.training.reported import Ended, Report
from bcrit.tuner.training.settings import Settings, learning_rate, next_evaluation

OF_THE_TRIAL: Final = ("batch_size", "seed", "budget_steps", "max_steps", "checkpoint")
"""What a `Config` has of every trial, whatever the space and the options are."""

_TOO_MANY: Final = 2**63  # for the tables' 64 bits


@dataclass(frozen=True)
class TrainingFunction:
    """A function `train(config, report)` of the user's.

    What it is trained on and what it measures only the function knows. It may say so in attributes, which are then
    checked before anything runs: `train.unit = "tokens"`, `train.n_examples = 50_000`,
    `train.metrics = {"val_loss": "minimize"}`, `train.ends_at_budget = True`.
    """

    name: str  # `module:function`
    options: Mapping[str, Any]  # settings that are the same in all trials
    unit: str = "examples"  # what a batch is made of
    n_examples: int | None = None  # size of the training set, the largest possible batch; None = unlimited or not known
    metrics: Mapping[str, Direction] = field(default_factory=dict)  # which way each improves; empty = not known
    # whether its schedule ends at `budget_steps`: re-runs end there too, instead of giving a slow seed more steps
    ends_at_budget: bool = False
    hyperparameters: tuple[str, ...] = ()  # not known, and so any name in the space is one


def declared(function: Callable[..., Any], name: str, options: Mapping[str, Any]) -> TrainingFunction:
    """Read what a function says of itself.

    That it cannot be called with a configuration and a report, that calling it would train nothing, or that an
    attribute cannot be, is a ValueError.
    """
    if remedy := _not_called_once(function):
        raise ValueError(f"'{name}' is called once and trains until it returns or is stopped, but it {remedy}")
    try:
        inspect.signature(function).bind("config", "report")
    except TypeError as error:
        raise ValueError(
            f"'{name}' is called as train(config, report), but its signature is {inspect.signature(function)}: "
            f"{error}; give it these two arguments"
        ) from error
    unit, n_examples = getattr(function, "unit", "examples"), getattr(function, "n_examples", None)
    ends = getattr(function, "ends_at_budget", False)
    sized = n_examples is None or (isinstance(n_examples, int) and n_examples > 0)
    if not (isinstance(unit, str) and sized and isinstance(ends, bool)):
        raise ValueError(
            f"the attributes of '{name}' are unit (a word), n_examples (a whole number) and ends_at_budget (True or "
            f"False), but they are {unit!r}, {n_examples!r} and {ends!r}"
        )
    try:
        metrics = {str(metric): Direction(way) for metric, way in getattr(function, "metrics", {}).items()}
    except (AttributeError, ValueError) as error:
        raise ValueError(
            f"the attribute 'metrics' of '{name}' says for each metric 'minimize' or 'maximize': {error}"
        ) from error
    return TrainingFunction(name, dict(options), unit, n_examples, metrics, ends)


def _not_called_once(function: Callable[..., Any]) -> str | None:
    """Why nothing of the function's body would run when it is called, with the remedy; None where it would."""
    for called in (function, getattr(function, "__call__", None)):  # noqa: B004 (an object's own method)
        if inspect.iscoroutinefunction(called):
            return "is 'async'; make it a plain 'def', which may call asyncio.run(...)"
        if inspect.isgeneratorfunction(called) or inspect.isasyncgenfunction(called):
            return "is a generator, which only begins when it is iterated; use report(...) in the place of 'yield'"
    return None


class Config(Mapping[str, Any]):
    """A trial's settings by name: `config["lr"]`, `config.lr`, `config.get("momentum", 0.9)`, `dict(config)`.

    It has every hyperparameter of the search space (and `decay_steps`, `warmup_steps` where the space has shares of the
    budget), the workload's options, `optimizer` as the experiment names it, and

    - `batch_size`: training items an optimizer update must use,
    - `seed`: of initialisation and data order,
    - `budget_steps`: optimizer updates of the experiment's `budget` at this batch size, the same in search and re-runs
      of one point: what a schedule of the function's own may take for the length of training. Re-runs may be longer,
      unless the function's attribute `ends_at_budget` is True,
    - `max_steps`: optimizer updates after which the trial is over; a report at this very step counts. It differs
      between search and re-runs of one point, so no schedule may depend on it: use `lr_at`, or `budget_steps`.

    A name that a mapping's method has is found with brackets only.
    """

    def __init__(self, facts: Mapping[str, Any], resolution: float = 0.02, checkpoint: str = "") -> None:
        """Hold settings by name, and the evaluation grid's resolution; to try a function out, `max_steps` is enough."""
        self.__dict__.update(_facts=dict(facts), _resolution=resolution, _checkpoint=checkpoint)

    def __getitem__(self, name: str) -> Any:
        try:
            return self._facts[name]
        except KeyError:
            raise KeyError(f"{name}; the settings are {', '.join(self._facts)}") from None

    def __iter__(self) -> Iterator[str]:
        return iter(self._facts)

    def __len__(self) -> int:
        return len(self._facts)

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__") or name not in self.__dict__.get("_facts", ()):
            raise AttributeError(f"there is no setting '{name}'; the settings are {', '.join(self.__dict__['_facts'])}")
        return self._facts[name]

    def __setattr__(self, name: str, value: Any) -> None:
        raise AttributeError(f"the settings of a trial cannot be changed, but '{name}' was set to {value!r}")

    def __repr__(self) -> str:
        return f"Config({self._facts!r}, resolution={self._resolution})"

    @property
    def checkpoint(self) -> Path:
        """The trial's own folder, for all that it would go on from: empty at its beginning, and after a loss as it was.

        It is copied to the run after a report, every `checkpoint_seconds`; each time all of it, so leave the last state
        alone there. A function that finds something in it goes on from there, to the bit, and reports what follows;
        what it reports a second time is passed over. Where a function is only tried out the folder is a new one.
        """
        if not self._checkpoint:
            self.__dict__["_checkpoint"] = tempfile.mkdtemp(prefix="bcrit-")
        folder = Path(self._checkpoint)
        folder.mkdir(parents=True, exist_ok=True)
        return folder

    def lr_at(self, step: int) -> float:
        """The learning rate of the update after `step` updates; the first update has step 0.

        `lr` times the factor of the space's `schedule` and warm-up (`bcrit.tuner.training.settings.learning_rate`), and
        `lr` itself where there is neither; a space without `lr` is a ValueError.
        """
        if "lr" not in self._facts:
            raise ValueError("there is no learning rate without 'lr'; add it to 'space', searched or fixed")
        return learning_rate(self._facts, step)

    def next_evaluation(self, step: int) -> int:
        """The step of the next evaluation on the grid of all trials, after `step` updates; at most `max_steps`.

        Evaluating there gives every trial and batch size the same relative resolution of steps-to-target. Other steps
        are allowed: a crossing is then known to the interval between two reports.
        """
        return min(next_evaluation(step, self._resolution), int(self._facts["max_steps"]))


def settings_of(settings: Settings, max_steps: int, budget_steps: int, options: Mapping[str, Any]) -> dict[str, Any]:
    """All settings of a trial by name; a hyperparameter hides an option of its name, and the trial's own facts both."""
    own = {"batch_size": settings.batch_size, "seed": settings.seed}
    own |= {"budget_steps": budget_steps, "max_steps": max_steps}
    return {"optimizer": settings.optimizer, **options, **settings.hyperparameters, **own}


class StopTraining(BaseException):
    """Raised by `report` once the trial is over. Let it pass: clean up in `finally`, catch nothing.

    It is no `Exception`, so that a loop that survives errors does not survive its own end.
    """


def read_report(said: Mapping[str, Any], before: Report | None, batch_size: int) -> Report:
    """What a function said, as numbers, or one sentence on what cannot be: that ends its trial.

    `said` has `step`, `examples`, `train_seconds` and `metrics` as the function gave them, anything but a number as
    words or None; and `seconds`, the time between reports so far, of which evaluation takes what the function's own
    `train_seconds` leaves. A report without `examples` has used step x batch_size.
    """
    problem = _problem(said, before, batch_size)
    if problem is not None:
        raise Ended(Outcome.FAILED, f"report(...): {problem}")
    seconds, trained = said["seconds"], said["train_seconds"]
    return Report(
        step=said["step"],
        examples=said["examples"],
        train_seconds=float(seconds if trained is None else trained),
        evaluate_seconds=0.0 if trained is None else max(0.0, seconds - trained),
        metrics={name: float(value) for name, value in said["metrics"].items()},
    )


def _problem(said: Mapping[str, Any], before: Report | None, batch_size: int) -> str | None:
    """The first thing that cannot be; None where all is well."""

    def used(step: int, examples: int | None) -> int:
        return step * batch_size if examples is None else examples

    step, examples, trained = said["step"], said["examples"], said["train_seconds"]
    if not isinstance(step, int) or step < 0:
        return f"'step' must be a whole number of optimizer updates, at least 0, but it is {step}"
    if examples is not None and not (isinstance(examples, int) and 0 <= examples < _TOO_MANY):
        rule = "'examples' must be a whole number of training items, at least 0 and below 2^63"
        return f"{rule}, but it is {examples} at step {step}; or leave it out"
    if before is not None and step > before.step:  # where steps fall, that is what is wrong
        now, least = used(step, examples), used(before.step, before.examples)
        if now < least:
            meant = f"{now} (step x batch_size, because it was left out)" if examples is None else f"{now}"
            rule = f"'examples' must be the training items used so far, at least {least} as before"
            return f"{rule}, but it is {meant} at step {step}; count from the start, in every report or in none"
    train_seconds = 0.0 if before is None else before.train_seconds
    if trained is not None and not (isinstance(trained, int | float) and train_seconds <= trained < math.inf):
        rule = f"'train_seconds' must be the seconds of training so far, at least {train_seconds:g} as before"
        return f"{rule}, but it is {trained} at step {step}; or leave it out"
    for name, value in said["metrics"].items():
        if not isinstance(value, int | float):
            return f"'{name}' must be a number, but it is {value} at step {step}"
        if not name.isprintable():
            return f"the name of a metric must be text that can be printed, but it is {name!a}"
        if name in MEASUREMENTS.names:
            return f"'{name}' is a column of the run folder's tables; give the metric another name"
    return None
