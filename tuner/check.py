"""Whether an experiment can be run at all: what the schema, the workload and its model say before anything runs."""

from collections.abc import Iterator, Mapping
from itertools import chain
from typing import Any

from pydantic import TypeAdapter, ValidationError
from torch import nn

from bcrit.search_spaces.dimensions import Fixed
from bcrit.search_spaces.experiment import Experiment
from bcrit.search_spaces.load import parse_experiment
from bcrit.search_spaces.options import COMMAND, Budget, Execution, WorkloadChoice
from bcrit.search_spaces.presets import AVERAGED, AVERAGING, OPTIMIZERS, OWN, SCHEDULES, WARMUP, Domain, Parameters
from bcrit.search_spaces.problems import InputError, did_you_mean
from bcrit.search_spaces.space import domain_problems, hyperparameter, missing_names, with_natural_limits
from bcrit.search_spaces.tables import MEASUREMENTS
from bcrit.search_spaces.target import Target
from bcrit.tuner.check_model import Note, built, model_problems, not_shared, settings_at, why_no_scale
from bcrit.tuner.protocol.own import own_search_problem
from bcrit.tuner.trackers import missing
from bcrit.tuner.training.micro_batches import division_problem
from bcrit.tuner.training.optimizers import parameters_of
from bcrit.tuner.training.updates import Updates
from bcrit.tuner.workloads.command import problems as command_problems
from bcrit.tuner.workloads.function import OF_THE_TRIAL, TrainingFunction
from bcrit.tuner.workloads.protocol import OpenWorkload, Workload, gives_model, our_loop, says, unfit
from bcrit.tuner.workloads.registry import load_training

Trained = Workload | TrainingFunction


def check_experiment(data: Any, where: str, note: Note = lambda sentence: None) -> Experiment:
    """Validate plain data as an experiment whose workload exists and fits; `where` is the file's name, for messages.

    What only the workload knows is filled in: the unit of a batch, epochs, how long re-runs are. `note` is told what
    can be run, but hardly is what was meant. An InputError names every problem at once, those of the schema and those
    that only the workload shows.
    """
    if isinstance(data, dict) and data.get("imported"):
        raise InputError(where, ["an imported run describes trials of elsewhere and cannot be run; remove 'imported'"])
    problems: list[str] = []
    workload: Trained | None = None
    experiment: Experiment | None = None
    choice: WorkloadChoice | None = _read(WorkloadChoice, data, "workload")
    name = None if choice is None else choice.name
    if choice is not None:
        try:
            workload = load_training(choice.name, choice.options)
        except (Exception, SystemExit) as error:  # a user's module may raise anything when it is imported
            problems = [_raised(choice.name, error)]
    try:
        experiment = parse_experiment(_with_own_optimizer(data, workload, name), where)
    except InputError as error:
        problems = [*error.problems, *problems]
    if name is not None and workload is not None:
        try:
            problems += list(_misfits(workload, name, data))
            if experiment is not None:
                experiment = _with_devices(workload, experiment)
                problems += list(_experiment_problems(workload, experiment, note))
                problems += [] if problems else model_problems(workload, experiment, note)
                problems += [] if problems else probe_problems(workload, experiment)
                problems += [] if problems else filter(None, [own_search_problem(experiment)])
        except (Exception, SystemExit) as error:  # a user's module may raise anything when it is asked
            problems.append(_raised(name, error))
    if problems or experiment is None or workload is None:
        raise InputError(where, problems)
    budget = experiment.budget.resolved(workload.n_examples or 0)
    space = with_natural_limits(experiment.space, getattr(workload, "domains", {}))
    # At `horizon` 1 no re-run is longer than the budget.
    shorter = {"horizon": 1.0} if getattr(workload, "ends_at_budget", False) else {}
    if shorter and "horizon" in experiment.confirm.model_fields_set and experiment.confirm.horizon > 1:
        asked = f"'confirm.horizon' is {experiment.confirm.horizon:g}, but re-runs train no longer than the budget"
        note(f"{asked}, since '{name}' says that it ends there (ends_at_budget)")
    confirm = experiment.confirm.model_copy(update=shorter)
    known = {"unit": workload.unit, "budget": budget, "space": space, "confirm": confirm}
    return experiment.model_copy(update=known)


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


def _with_own_optimizer(data: Any, workload: Trained | None, name: str | None) -> Any:
    """The experiment's data; where a training function has no optimizer named, it makes the updates itself.

    What cannot be had and has an import path, or no name, is taken for a function: it may be one, and to ask for a
    momentum that it does not need would be a second problem where there is one.
    """
    function = workload is None and (name == COMMAND or ":" in (name or ":"))
    if (function or isinstance(workload, TrainingFunction)) and isinstance(data, Mapping) and "optimizer" not in data:
        return {**data, "optimizer": OWN}
    return data


def _misfits(workload: Trained, name: str, data: Mapping[str, Any]) -> Iterator[str]:
    """Where target and batch sizes contradict the workload; each is read on its own, so that all problems show."""
    for metric in sorted(set(workload.metrics) & set(MEASUREMENTS.names)):
        yield f"'workload': the metric '{metric}' of '{name}' is a column of our own; name it otherwise"
    if "unit" in data and data["unit"] != workload.unit:
        yield f"'unit': workload '{name}' counts {workload.unit}, not {data['unit']!r}; remove the key"
    target, budget = _read(Target, data, "target"), _read(Budget, data, "budget")
    if target is not None and not (isinstance(workload, TrainingFunction) and not workload.metrics):
        metrics, space = dict(workload.metrics), data.get("space")
        # Where weights are averaged, each metric is measured at the average too.
        if isinstance(space, Mapping) and set(AVERAGING) & set(space) and says(workload, "averages"):
            metrics |= {f"{metric}{AVERAGED}": direction for metric, direction in metrics.items()}
        direction = metrics.get(target.metric)
        if direction is None:
            known = ", ".join(f"{m} ({d})" for m, d in metrics.items())
            yield f"'target': workload '{name}' has no metric '{target.metric}'; its metrics are {known}"
        elif direction != target.direction:
            sign = "<" if direction == "minimize" else ">"
            yield (
                f"'target': {target.metric} improves by {direction.replace('ize', 'izing')}, but the target is "
                f"'{target}'; write '{target.metric} {sign} {target.threshold:g}'"
            )
    if budget is not None and (why := _budget_problem(budget, workload, name)):
        yield why
    sizes = _read(tuple[int, ...], data, "batch_sizes") or ()
    if workload.n_examples is not None and (too_large := [b for b in sizes if b > workload.n_examples]):
        yield (
            f"'batch_sizes': a batch is at most the training set of {workload.n_examples} {workload.unit}, but "
            f"{', '.join(map(str, too_large))} {'is' if len(too_large) == 1 else 'are'} larger; remove them"
        )
    yield from dict.fromkeys(f"'batch_sizes': {why}" for b in sizes if (why := unfit(workload, b)))


def _budget_problem(budget: Budget, workload: Trained, name: str) -> str | None:
    """Why this workload's epochs are no number of examples, or its reference batch makes no updates."""
    n_examples, reference = workload.n_examples, budget.regime_adaptation
    if budget.epochs is not None and n_examples is None:
        if isinstance(workload, TrainingFunction):
            return (
                f"'budget.epochs': the function '{name}' does not say how large its training set is; set its "
                f"attribute, '{name.rpartition(':')[2]}.n_examples = ...' in its module, or write 'examples' or 'steps'"
            )
        return f"'budget.epochs': workload '{name}' has no training set to pass over; write 'examples' or 'steps'"
    if reference is not None and n_examples is not None and reference > n_examples:
        return (
            f"'budget.regime_adaptation' is a batch size, at most the training set of {n_examples} {workload.unit}, "
            f"but it is {reference}; choose a smaller one, 128 for example"
        )
    try:
        resolved = budget.resolved(n_examples or 0)
    except ValueError as error:
        return f"'budget': {error}"
    if reference is not None and resolved.steps + resolved.examples // reference < 1:
        return (
            f"'budget.regime_adaptation': batches of {reference} make no whole update of {resolved.examples} "
            f"{workload.unit}; choose a smaller one, or a larger budget"
        )
    return None


def _experiment_problems(workload: Trained, experiment: Experiment, note: Note) -> Iterator[str]:
    """All that can be said of a valid experiment without the workload's model."""
    if isinstance(workload, TrainingFunction):
        yield from _function_problems(workload, experiment)
        if workload.name == COMMAND:
            yield from command_problems(experiment, note)
    else:
        yield from _optimizer_problems(workload, experiment)
    yield from _execution_problems(workload, experiment)
    yield from missing(experiment)
    domains: Mapping[str, Domain] = getattr(workload, "domains", {})
    for address, dimension in experiment.space.dimensions.items():
        yield from (f"'space': {problem}" for problem in domain_problems(hyperparameter(address), dimension, domains))


def _function_problems(function: TrainingFunction, experiment: Experiment) -> Iterator[str]:
    """What cannot be meant of a training function."""
    given = {hyperparameter(address) for address in experiment.space.addresses}
    if twice := sorted(given & set(function.options)):
        yield (
            f"'workload': {', '.join(twice)} stands among the options and in 'space'; keep one, which the function gets"
        )
    if taken := sorted(set(OF_THE_TRIAL) & set(function.options)):
        yield f"'workload': the options {', '.join(taken)} are what a trial decides; name them otherwise"
    if taken := sorted(set(OF_THE_TRIAL) & given):
        yield f"'space': {', '.join(taken)} is what a trial decides; name it otherwise"
    if experiment.target.metric in MEASUREMENTS.names:
        yield f"'target': '{experiment.target.metric}' is a column of our own; name the metric otherwise"


def _optimizer_problems(workload: Workload, experiment: Experiment) -> list[str]:
    """What is wrong with the optimizer, and with the names in the space that nobody would read.

    A workload may name the `optimizers` that it supports; then only those, and of them only the hyperparameters that
    they need, because it computes their updates itself.
    """
    optimizer, name, space = experiment.optimizer, experiment.workload.name, experiment.space
    own: tuple[str, ...] | None = getattr(workload, "optimizers", None)
    if own is not None and optimizer not in own:
        return [f"'optimizer': workload '{name}' knows {', '.join(own)}, but not {optimizer}; choose one of them"]
    if own is None and optimizer == OWN:
        choices = ", ".join(OPTIMIZERS)
        return [f"'optimizer': own is for a training function of yours, which '{name}' is not; choose one of {choices}"]
    try:
        if own is None:
            parameters = parameters_of(optimizer)
        else:
            parameters = Parameters(OPTIMIZERS[optimizer].needed if optimizer in OPTIMIZERS else ("lr",))
    except ValueError as error:
        return [f"'optimizer': {error}"]
    # A misspelt name, which nobody would read, must not be searched for days.
    known = {"schedule", *WARMUP, *parameters.names, *workload.hyperparameters, *chain(*SCHEDULES.values())}
    names = {hyperparameter(address) for address in space.addresses}
    if names & set(AVERAGING) and says(workload, "averages"):
        known |= set(AVERAGING)
    problems = [
        f"'space.{unknown}': neither optimizer '{optimizer}' nor workload '{name}' has this hyperparameter; "
        f"{did_you_mean(unknown, known)}those it can have are {', '.join(sorted(known))}"
        for unknown in sorted(names - known)
    ]
    # A local batch may be part of a sequence, or of a ghost batch.
    local = space.root.get("local_batch_size")
    if gives_model(workload) and isinstance(local, Fixed) and int(local.value) < max(experiment.batch_sizes):
        if why := unfit(workload, int(local.value)):
            problems.append(f"'space.local_batch_size': {why}")
    if missing := missing_names(space, parameters.needed):
        problems.append(f"'space': optimizer '{optimizer}' needs {', '.join(missing)}; add it, searched or fixed")
    if not problems and own is None:
        problems += _refused_values(experiment)
    return problems


def _refused_values(experiment: Experiment) -> Iterator[str]:
    """What PyTorch says to the two opposite corners of the space, on a model with two small layers."""
    for corner in (0.0, 1.0):
        places = dict.fromkeys(experiment.space.axes, corner)
        try:
            model = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2))
            Updates(model, settings_at(experiment, experiment.batch_sizes[0], places))
        except (ValueError, TypeError) as error:
            yield f"'space': optimizer '{experiment.optimizer}' refuses a value: {error}"


def _execution_problems(workload: object, experiment: Experiment) -> Iterator[str]:
    """What is wrong with `execution` and `resources.gpus`.

    A workload that computes its updates itself would not read the section, so one that says anything is refused. Where
    batches are computed in pieces of `micro_batch` rows, the model is made to see its layers.
    """
    name, rows = experiment.workload.name, experiment.execution.micro_batch
    gpus = max(resources.gpus for resources in experiment.kinds)
    if gpus > 1 and says(workload, "one_gpu"):
        yield (
            f"'resources.gpus': workload '{name}' trains on one GPU or a share of one, but gpus is "
            f"{gpus:g}; write 1, and more trials run at once"
        )
    if gpus > 1 and gpus != int(gpus) and our_loop(workload):
        yield f"'resources.gpus': more than one GPU are whole ones, but gpus is {gpus:g}; write {int(gpus)}"
    elif our_loop(workload):
        yield from _sharing_problems(workload, experiment)
    elif isinstance(workload, TrainingFunction):
        shared = (
            not_shared(workload, experiment, n, experiment.resources.at(n).launched) for n in experiment.batch_sizes
        )
        yield from [f"'batch_sizes': {problem}" for problem in shared if problem][:1]
    elif shared_by := next((of for of in experiment.kinds if of.launched > 1), None):
        key = "nodes" if shared_by.nodes else "processes"
        yield f"'resources.{key}': '{name}' computes its updates itself and cannot share them; remove it"
    if not our_loop(workload):
        itself = f"workload '{name}' computes its updates itself and would not read it; remove it"
        said = (key for key, value in experiment.execution if value != getattr(Execution(), key))
        yield from (f"'execution.{key}': {itself}" for key in said)
    elif rows is not None:
        most = max(workload.rows(batch_size) for batch_size in experiment.batch_sizes)
        if rows < most:
            model = built(workload, settings_at(experiment, experiment.batch_sizes[-1]))
            if problem := division_problem(model, most, rows, workload.divisible):
                yield f"'execution.micro_batch': {problem}"


def _sharing_problems(workload: OpenWorkload, experiment: Experiment) -> Iterator[str]:
    """The first batch size that the processes of a trial cannot share."""
    alone = [size for size in experiment.batch_sizes if experiment.resources.at(size).ranks == 1]
    if experiment.execution.sharded and alone:
        yield (
            "'execution.sharded' divides a model among the processes of a trial, but at batch size "
            f"{alone[0]} a trial has one; give every batch size at least 2 'gpus' (or 'processes') in 'resources'"
        )
        return
    for batch_size in experiment.batch_sizes:
        if problem := not_shared(workload, experiment, batch_size, experiment.resources.at(batch_size).ranks):
            yield f"'batch_sizes': {problem}"
            return


def _with_devices(workload: Trained, experiment: Experiment) -> Experiment:
    """The experiment with numbers where `devices_by_batch_size` says `auto`."""
    resources = experiment.resources.settled(
        experiment.batch_sizes, lambda size, devices: not_shared(workload, experiment, size, devices) is None
    )
    return experiment.model_copy(update={"resources": resources})


def probe_problems(workload: object, experiment: Experiment) -> list[str]:
    """What is wrong with `probes`.

    Where noise scales are wanted, a model is made at a corner of the space and one is measured on few examples: only
    that tells whether PyTorch can take second derivatives of every layer for single examples.
    """
    measured, name = experiment.probes.measure, experiment.workload.name
    if not measured:
        return []
    if not our_loop(workload):
        return [f"'probes': workload '{name}' computes its updates itself, where nothing can be probed; remove it"]
    if taken := sorted(set(workload.metrics) & set(MEASUREMENTS.known)):
        return [
            f"'probes': the metric '{metric}' of '{name}' is a probe's column; name it otherwise" for metric in taken
        ]
    if not experiment.confirm.seeds:
        remedy = "give it seeds, or remove the probes"
        return [f"'probes': only confirming runs are probed, but 'confirm.seeds' is 0; {remedy}"]
    why = why_no_scale(workload, experiment, "remove noise_scale") if "noise_scale" in measured else None
    return [] if why is None else [f"'probes': noise_scale cannot be measured on workload '{name}': {why}"]
