"""What an experiment knows of a training function, and how a trial of it begins."""

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from bcrit.search_spaces.options import Resources
from bcrit.search_spaces.target import Direction
from bcrit.tuner.training.settings import Settings
from bcrit.tuner.training.trial import Limits, Reported

OF_THE_TRIAL: Final = ("batch_size", "seed", "budget_steps", "max_steps")
"""Settings that every trial has, whatever the space and the options are."""


@dataclass(frozen=True)
class TrainingFunction:
    """A function `train(config, report)` of the user's.

    What it is trained on and what it measures only the function knows. It may say so in attributes, which are then
    checked before anything runs: `train.unit = "tokens"`, `train.n_examples = 50_000`,
    `train.metrics = {"val_loss": "minimize"}`.
    """

    name: str  # `module:function`
    options: Mapping[str, Any]  # settings that are the same in all trials
    unit: str = "examples"  # what a batch is made of
    n_examples: int | None = None  # size of the training set, the largest possible batch; None = unlimited or not known
    metrics: Mapping[str, Direction] = field(default_factory=dict)  # which way each improves; empty = not known
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
    if not isinstance(unit, str) or not (n_examples is None or (isinstance(n_examples, int) and n_examples > 0)):
        raise ValueError(
            f"the attributes of '{name}' are unit (a word) and n_examples (a whole number), but they are {unit!r} and "
            f"{n_examples!r}"
        )
    try:
        metrics = {str(metric): Direction(way) for metric, way in getattr(function, "metrics", {}).items()}
    except (AttributeError, ValueError) as error:
        raise ValueError(
            f"the attribute 'metrics' of '{name}' says for each metric 'minimize' or 'maximize': {error}"
        ) from error
    return TrainingFunction(name, dict(options), unit, n_examples, metrics)


def _not_called_once(function: Callable[..., Any]) -> str | None:
    """Why nothing of the function's body would run when it is called, with the remedy; None where it would."""
    for called in (function, getattr(function, "__call__", None)):  # noqa: B004 (an object's own method)
        if inspect.iscoroutinefunction(called):
            return "is 'async'; make it a plain 'def', which may call asyncio.run(...)"
        if inspect.isgeneratorfunction(called) or inspect.isasyncgenfunction(called):
            return "is a generator, which only begins when it is iterated; use report(...) in the place of 'yield'"
    return None


def start(
    function: TrainingFunction,
    folder: str,
    settings: Settings,
    metric: str,
    limits: Limits,
    resources: Resources,
    budget_steps: int,
) -> Reported:
    """Start a trial of a function, whose module is found in the folder, in a process of its own.

    With GPUs the process begins afresh, because CUDA does not survive a fork. `budget_steps` are optimizer updates of
    the study's budget, the same for search and re-runs.
    """
    from bcrit.tuner.workloads.function.child import Call, settings_of  # it loads PyTorch
    from bcrit.tuner.workloads.function.process import FunctionProcess

    call = Call(
        name=function.name,
        folder=folder,
        settings=settings_of(settings, limits.max_steps, budget_steps, function.options),
        resolution=limits.resolution,
        threads=max(1, int(resources.cpus)),
        gpus=resources.gpus,
        forked=not resources.gpus,
    )
    return Reported(FunctionProcess(call, resources.silence_seconds), metric, limits.max_steps, limits.at_horizon)
