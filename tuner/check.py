"""Whether an experiment can be run at all: the schema's problems and the workload's in one message."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic import TypeAdapter, ValidationError

from search_spaces.experiment import Experiment, WorkloadChoice
from search_spaces.load import parse_experiment
from search_spaces.presets import OPTIMIZERS, SCHEDULES
from search_spaces.problems import InputError
from search_spaces.space import hyperparameter
from search_spaces.tables import MEASUREMENTS
from search_spaces.target import Target
from tuner.workloads.protocol import Workload
from tuner.workloads.registry import load_workload


def check_experiment(data: Any, where: str) -> Experiment:
    """Validate plain data as an experiment whose workload exists and fits.

    Args:
        data: what `read_yaml` returned.
        where: the file's name, for messages.

    Returns:
        The experiment, with the unit of a batch filled in from the workload.

    Raises:
        InputError: names every problem at once, those of the schema and those that only the workload shows.
    """
    if isinstance(data, dict) and data.get("imported"):
        raise InputError(where, ["an imported run describes trials of elsewhere and cannot be run; remove 'imported'"])
    problems: list[str] = []
    experiment = None
    try:
        experiment = parse_experiment(data, where)
    except InputError as error:
        problems += error.problems
    workload = None
    choice = _read(WorkloadChoice, data, "workload")
    if choice is not None:
        try:
            workload = load_workload(choice.name, choice.options)
            problems += _misfits(workload, choice.name, data)
            if experiment is not None:
                problems += _unknown_hyperparameters(workload, choice.name, experiment)
        except (Exception, SystemExit) as error:  # a user's module may raise anything when it is imported or asked
            problems.append(f"'workload': {error}" if isinstance(error, ValueError) else _raised(choice.name, error))
    if problems or experiment is None or workload is None:
        raise InputError(where, problems)
    return experiment.model_copy(update={"unit": workload.unit})


def _misfits(workload: Workload, name: str, data: Mapping[str, Any]) -> list[str]:
    """Where target and batch sizes contradict the workload; each is read on its own, so that all problems show."""
    taken = sorted(set(workload.metrics) & set(MEASUREMENTS.names))
    problems = [f"'workload': the metric '{m}' of '{name}' is a column of our own; name it otherwise" for m in taken]
    if "unit" in data and data["unit"] != workload.unit:
        problems.append(f"'unit': workload '{name}' counts {workload.unit}, not {data['unit']!r}; remove the key")
    target = _read(Target, data, "target")
    if target is not None:
        direction = workload.metrics.get(target.metric)
        if direction is None:
            known = ", ".join(f"{m} ({d})" for m, d in workload.metrics.items())
            problems.append(f"'target': workload '{name}' has no metric '{target.metric}'; its metrics are {known}")
        elif direction != target.direction:
            sign = "<" if direction == "minimize" else ">"
            problems.append(
                f"'target': {target.metric} improves by {direction.replace('ize', 'izing')}, but the target is "
                f"'{target}'; write '{target.metric} {sign} {target.threshold:g}'"
            )
    sizes = _read(tuple[int, ...], data, "batch_sizes")
    if sizes is not None and workload.n_examples is not None:
        if too_large := [b for b in sizes if b > workload.n_examples]:
            problems.append(
                f"'batch_sizes': a batch is at most the training set of {workload.n_examples} {workload.unit}, but "
                f"{', '.join(map(str, too_large))} {'is' if len(too_large) == 1 else 'are'} larger; remove them"
            )
    return problems


def _unknown_hyperparameters(workload: Workload, name: str, experiment: Experiment) -> list[str]:
    """Names in the space that nobody would read: a misspelt one must not be searched for days."""
    own = set(workload.hyperparameters)
    schedule = {"schedule"} | {parameter for parameters in SCHEDULES.values() for parameter in parameters}
    known = set(OPTIMIZERS[experiment.optimizer]) | schedule | own
    names = {hyperparameter(address) for address in experiment.space.addresses}
    return [
        f"'space.{unknown}': neither optimizer '{experiment.optimizer}' nor workload '{name}' has this hyperparameter; "
        f"those it can have are {', '.join(sorted(known))}"
        for unknown in sorted(names - known)
    ]


def _read(kind: Any, data: Any, key: str) -> Any:
    """One part of the file on its own; None where it is missing or wrong (the schema's message says so)."""
    if not isinstance(data, Mapping) or key not in data:
        return None
    try:
        return TypeAdapter(kind).validate_python(data[key])
    except ValidationError:
        return None


def _raised(name: str, error: BaseException) -> str:
    return f"'workload': making '{name}' raised {type(error).__name__}: {error}; mend the class or its options"
