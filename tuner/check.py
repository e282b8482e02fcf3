"""Whether an experiment can be run at all: the schema's problems and the workload's in one message."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic import TypeAdapter, ValidationError

from bcrit.search_spaces.experiment import Experiment, WorkloadChoice
from bcrit.search_spaces.load import parse_experiment
from bcrit.search_spaces.options import Budget
from bcrit.search_spaces.presets import AVERAGED, AVERAGING, Domain
from bcrit.search_spaces.problems import InputError
from bcrit.search_spaces.space import hyperparameter
from bcrit.search_spaces.space_rules import domain_problems, with_natural_limits
from bcrit.search_spaces.tables import MEASUREMENTS
from bcrit.search_spaces.target import Direction, Target
from bcrit.tuner.check_execution import execution_problems
from bcrit.tuner.check_function import function_problems, with_own_optimizer
from bcrit.tuner.check_model import Note, model_problems
from bcrit.tuner.check_optimizer import averages, optimizer_problems
from bcrit.tuner.check_probes import probe_problems
from bcrit.tuner.workloads.function.workload import TrainingFunction
from bcrit.tuner.workloads.policy_gradient import PolicyGradient
from bcrit.tuner.workloads.protocol import Workload
from bcrit.tuner.workloads.registry import load_training
from bcrit.tuner.workloads.supervised import SupervisedWorkload


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
        experiment = parse_experiment(with_own_optimizer(data, workload, name), where)
    except InputError as error:
        problems += error.problems
    problems += unloaded
    if choice is not None and workload is not None:
        try:
            problems += _misfits(workload, choice.name, data)
            if experiment is not None and isinstance(workload, TrainingFunction):
                problems += function_problems(workload, experiment)
            elif experiment is not None and not isinstance(workload, TrainingFunction):
                problems += optimizer_problems(workload, choice.name, experiment)
            if experiment is not None:
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
    if sizes is not None and isinstance(workload, SupervisedWorkload | PolicyGradient):
        problems += list(dict.fromkeys(p for b in sizes if (p := _unfit(workload, b)) is not None))
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


def _unfit(workload: SupervisedWorkload | PolicyGradient, batch_size: int) -> str | None:
    """Why a workload cannot make batches of this size (a ghost batch or a rollout does not divide it), or None."""
    try:
        workload.rows(batch_size)
    except ValueError as error:
        return f"'batch_sizes': {error}"
    return None


def _metrics(workload: Workload | TrainingFunction, data: Mapping[str, Any]) -> Mapping[str, Direction]:
    """What the workload measures with this space: where weights are averaged, each metric at the average too."""
    found, space = dict(workload.metrics), data.get("space")
    if isinstance(space, Mapping) and set(AVERAGING) & set(space) and averages(workload):
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
