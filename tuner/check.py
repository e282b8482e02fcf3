"""Whether an experiment can be run at all: the schema's problems and the workload's in one message."""

from collections.abc import Mapping
from typing import Any

from pydantic import TypeAdapter, ValidationError
from torch import nn

from bcrit.search_spaces.dimensions import Fixed
from bcrit.search_spaces.experiment import Experiment, WorkloadChoice
from bcrit.search_spaces.load import parse_experiment
from bcrit.search_spaces.options import Budget
from bcrit.search_spaces.presets import (
    AVERAGED,
    AVERAGING,
    OPTIMIZERS,
    OWN,
    SCHEDULES,
    STEPS_OF,
    WARMUP,
    Domain,
    Parameters,
)
from bcrit.search_spaces.problems import InputError
from bcrit.search_spaces.space import hyperparameter
from bcrit.search_spaces.space_rules import domain_problems, missing_names, with_natural_limits
from bcrit.search_spaces.tables import MEASUREMENTS
from bcrit.search_spaces.target import Direction, Target
from bcrit.tuner.check_model import Note, execution_problems, model_problems, probe_problems
from bcrit.tuner.training.optimizers import parameters_of
from bcrit.tuner.training.settings import Settings
from bcrit.tuner.training.stepper import build_stepper
from bcrit.tuner.workloads.function.workload import OF_THE_TRIAL, TrainingFunction
from bcrit.tuner.workloads.protocol import Workload, gives_model, says, unfit
from bcrit.tuner.workloads.registry import load_training


def check_experiment(data: Any, where: str, note: Note = lambda sentence: None) -> Experiment:
    """Validate plain data as an experiment whose workload exists and fits.

    Args:
        data: what `read_yaml` returned.
        where: the file's name, for messages.
        note: is told what can be run, but hardly is what was meant.

    Returns:
        The experiment, with what only the workload knows filled in: the unit of a batch, epochs as examples.

    Raises:
        InputError: names every problem at once, those of the schema and those that only the workload shows.
    """
    if isinstance(data, dict) and data.get("imported"):
        raise InputError(where, ["an imported run describes trials of elsewhere and cannot be run; remove 'imported'"])
    problems: list[str] = []
    experiment = None
    choice = _read(WorkloadChoice, data, "workload")
    workload, unloaded = _load(choice)
    try:
        name = None if choice is None else choice.name
        experiment = parse_experiment(_with_own_optimizer(data, workload, name), where)
    except InputError as error:
        problems += error.problems
    problems += unloaded
    if choice is not None and workload is not None:
        try:
            problems += _misfits(workload, choice.name, data)
            if experiment is not None:
                if isinstance(workload, TrainingFunction):
                    problems += _function_problems(workload, experiment)
                else:
                    problems += _optimizer_problems(workload, choice.name, experiment)
                problems += execution_problems(workload, choice.name, experiment)
                problems += _impossible_values(workload, experiment)
            if experiment is not None and not problems:
                problems += model_problems(workload, choice.name, experiment, note)
            if experiment is not None and not problems:
                problems += probe_problems(workload, choice.name, experiment)
        except (Exception, SystemExit) as error:  # a user's module may raise anything when it is asked
            problems.append(_raised(choice.name, error))
    if problems or experiment is None or workload is None:
        raise InputError(where, problems)
    budget = experiment.budget.resolved(workload.n_examples or 0)
    space = with_natural_limits(experiment.space, _domains(workload))
    return experiment.model_copy(update={"unit": workload.unit, "budget": budget, "space": space})


def _load(choice: WorkloadChoice | None) -> tuple[Workload | TrainingFunction | None, list[str]]:
    """What is trained, or why it cannot be had."""
    if choice is None:
        return None, []
    try:
        return load_training(choice.name, choice.options), []
    except (Exception, SystemExit) as error:  # a user's module may raise anything when it is imported
        return None, [_raised(choice.name, error)]


def _misfits(workload: Workload | TrainingFunction, name: str, data: Mapping[str, Any]) -> list[str]:
    """Where target and batch sizes contradict the workload; each is read on its own, so that all problems show."""
    taken = sorted(set(workload.metrics) & set(MEASUREMENTS.names))
    problems = [f"'workload': the metric '{m}' of '{name}' is a column of our own; name it otherwise" for m in taken]
    if "unit" in data and data["unit"] != workload.unit:
        problems.append(f"'unit': workload '{name}' counts {workload.unit}, not {data['unit']!r}; remove the key")
    target = _read(Target, data, "target")
    if target is not None and not (isinstance(workload, TrainingFunction) and not workload.metrics):
        metrics = _metrics(workload, data)
        direction = metrics.get(target.metric)
        if direction is None:
            known = ", ".join(f"{m} ({d})" for m, d in metrics.items())
            problems.append(f"'target': workload '{name}' has no metric '{target.metric}'; its metrics are {known}")
        elif direction != target.direction:
            sign = "<" if direction == "minimize" else ">"
            problems.append(
                f"'target': {target.metric} improves by {direction.replace('ize', 'izing')}, but the target is "
                f"'{target}'; write '{target.metric} {sign} {target.threshold:g}'"
            )
    budget = _read(Budget, data, "budget")
    if budget is not None:
        problems += _budget_problems(budget, workload, name)
    sizes = _read(tuple[int, ...], data, "batch_sizes")
    if sizes is not None and workload.n_examples is not None:
        if too_large := [b for b in sizes if b > workload.n_examples]:
            problems.append(
                f"'batch_sizes': a batch is at most the training set of {workload.n_examples} {workload.unit}, but "
                f"{', '.join(map(str, too_large))} {'is' if len(too_large) == 1 else 'are'} larger; remove them"
            )
    if sizes is not None:
        problems += list(dict.fromkeys(f"'batch_sizes': {why}" for b in sizes if (why := unfit(workload, b))))
    return problems


def _with_own_optimizer(data: Any, workload: Workload | TrainingFunction | None, name: str | None) -> Any:
    """The experiment's data; where a training function has no optimizer named, it makes the updates itself.

    What cannot be had and has an import path, or no name, is taken for a function: it may be one, and to ask for a
    momentum that it does not need would be a second problem where there is one.
    """
    function = workload is None and ":" in (name or ":")
    if (function or isinstance(workload, TrainingFunction)) and isinstance(data, Mapping) and "optimizer" not in data:
        return {**data, "optimizer": OWN}
    return data


def _function_problems(function: TrainingFunction, experiment: Experiment) -> list[str]:
    """What cannot be meant of a training function."""
    problems, given = [], {hyperparameter(address) for address in experiment.space.addresses}
    if twice := sorted(given & set(function.options)):
        problems.append(
            f"'workload': {', '.join(twice)} stands among the options and in 'space'; keep one, which the function gets"
        )
    if taken := sorted(set(OF_THE_TRIAL) & set(function.options)):
        problems.append(f"'workload': the options {', '.join(taken)} are what a trial decides; name them otherwise")
    if taken := sorted(set(OF_THE_TRIAL) & given):
        problems.append(f"'space': {', '.join(taken)} is what a trial decides; name it otherwise")
    if experiment.target.metric in MEASUREMENTS.names:
        problems.append(f"'target': '{experiment.target.metric}' is a column of our own; name the metric otherwise")
    return problems


def _optimizer_problems(workload: Workload, name: str, experiment: Experiment) -> list[str]:
    """What is wrong with the optimizer, and with the names in the space that nobody would read.

    A workload may name the `optimizers` that it supports; then only those, and of them only the hyperparameters that
    they need, because it computes their updates itself.
    """
    optimizer = experiment.optimizer
    own: tuple[str, ...] | None = getattr(workload, "optimizers", None)
    if own is not None and optimizer not in own:
        return [f"'optimizer': workload '{name}' knows {', '.join(own)}, but not {optimizer}; choose one of them"]
    if own is None and optimizer == OWN:
        names = ", ".join(OPTIMIZERS)
        return [f"'optimizer': own is for a training function of yours, which '{name}' is not; choose one of {names}"]
    try:
        parameters = _parameters(optimizer, own)
    except ValueError as error:
        return [f"'optimizer': {error}"]
    problems = _unknown_hyperparameters(workload, name, experiment, parameters)
    problems += _local_batch_problems(workload, experiment)
    if missing := missing_names(experiment.space, parameters.needed):
        problems.append(f"'space': optimizer '{optimizer}' needs {', '.join(missing)}; add it, searched or fixed")
    if not problems and own is None:
        problems += _refused_values(experiment)
    return problems


def _parameters(optimizer: str, own: tuple[str, ...] | None) -> Parameters:
    if own is not None:
        return Parameters(OPTIMIZERS[optimizer].needed if optimizer in OPTIMIZERS else ("lr",))
    return parameters_of(optimizer)


def _unknown_hyperparameters(
    workload: Workload, name: str, experiment: Experiment, parameters: Parameters
) -> list[str]:
    """Names in the space that nobody would read: a misspelt one must not be searched for days."""
    known = {"schedule", *WARMUP, *parameters.names, *workload.hyperparameters}
    known |= {parameter for schedule in SCHEDULES.values() for parameter in schedule}
    names = {hyperparameter(address) for address in experiment.space.addresses}
    if names & set(AVERAGING) and says(workload, "averages"):
        known |= set(AVERAGING)
    return [
        f"'space.{unknown}': neither optimizer '{experiment.optimizer}' nor workload '{name}' has this hyperparameter; "
        f"those it can have are {', '.join(sorted(known))}"
        for unknown in sorted(names - known)
    ]


def _local_batch_problems(workload: Workload, experiment: Experiment) -> list[str]:
    """Why the workload cannot make local batches of this size (part of a sequence, or of a ghost batch)."""
    local = experiment.space.root.get("local_batch_size")
    if not gives_model(workload) or not isinstance(local, Fixed) or int(local.value) >= max(experiment.batch_sizes):
        return []
    return [f"'space.local_batch_size': {why}"] if (why := unfit(workload, int(local.value))) else []


def _refused_values(experiment: Experiment) -> list[str]:
    """What PyTorch says to the two opposite corners of the space, on a model with two small layers."""
    space, problems = experiment.space, []
    for corner in (0.0, 1.0):
        point = space.from_unit(dict.fromkeys(space.axes, corner))
        settings = Settings(
            experiment.batch_sizes[0], 0, experiment.optimizer, dict.fromkeys(STEPS_OF.values(), 1) | point
        )
        try:
            build_stepper(nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2)), settings)
        except (ValueError, TypeError) as error:
            problems.append(f"'space': optimizer '{experiment.optimizer}' refuses a value: {error}")
    return problems


def _domains(workload: Workload | TrainingFunction) -> Mapping[str, Domain]:
    """The values that hyperparameters of the workload's own can have at all, where it says so in `domains`."""
    return getattr(workload, "domains", {})


def _impossible_values(workload: Workload | TrainingFunction, experiment: Experiment) -> list[str]:
    named = ((hyperparameter(address), dimension) for address, dimension in experiment.space.dimensions.items())
    found = [problem for name, dimension in named for problem in domain_problems(name, dimension, _domains(workload))]
    return [f"'space': {problem}" for problem in found]


def _budget_problems(budget: Budget, workload: Workload | TrainingFunction, name: str) -> list[str]:
    """Why this workload's epochs are no number of examples, or its reference batch makes no updates."""
    n_examples = workload.n_examples
    if budget.epochs is not None and n_examples is None and isinstance(workload, TrainingFunction):
        return [
            f"'budget.epochs': the function '{name}' does not say how large its training set is; set its attribute, "
            f"'{name.rpartition(':')[2]}.n_examples = ...' in its module, or write 'examples' or 'steps'"
        ]
    if budget.epochs is not None and n_examples is None:
        return [f"'budget.epochs': workload '{name}' has no training set to pass over; write 'examples' or 'steps'"]
    reference = budget.regime_adaptation
    if reference is not None and n_examples is not None and reference > n_examples:
        return [
            f"'budget.regime_adaptation' is a batch size, at most the training set of {n_examples} {workload.unit}, "
            f"but it is {reference}; choose a smaller one, 128 for example"
        ]
    try:
        resolved = budget.resolved(n_examples or 0)
    except ValueError as error:
        return [f"'budget': {error}"]
    if reference is not None and resolved.steps + resolved.examples // reference < 1:
        return [
            f"'budget.regime_adaptation': batches of {reference} make no whole update of {resolved.examples} "
            f"{workload.unit}; choose a smaller one, or a larger budget"
        ]
    return []


def _metrics(workload: Workload | TrainingFunction, data: Mapping[str, Any]) -> Mapping[str, Direction]:
    """What the workload measures with this space: where weights are averaged, each metric at the average too."""
    found, space = dict(workload.metrics), data.get("space")
    if isinstance(space, Mapping) and set(AVERAGING) & set(space) and says(workload, "averages"):
        found |= {f"{metric}{AVERAGED}": direction for metric, direction in found.items()}
    return found


def _read(kind: Any, data: Any, key: str) -> Any:
    """One part of the file on its own; None where it is missing or wrong (the schema's message says so)."""
    if not isinstance(data, Mapping) or key not in data:
        return None
    try:
        return TypeAdapter(kind).validate_python(data[key])
    except ValidationError:
        return None


def _raised(name: str, error: BaseException) -> str:
    if isinstance(error, ValueError):
        return f"'workload': {error}"
    return f"'workload': making '{name}' raised {type(error).__name__}: {error}; mend the class or its options"
