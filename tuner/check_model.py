"""Whether an experiment's model can be built, takes its data, can be divided and probed: tried before anything runs."""

import inspect
import math
from collections.abc import Callable, Iterator

import torch
from torch import nn

from bcrit.search_spaces.dimensions import Choice, Integer
from bcrit.search_spaces.experiment import Experiment
from bcrit.search_spaces.options import Execution, Probes
from bcrit.search_spaces.presets import STEPS_OF
from bcrit.search_spaces.space import hyperparameter
from bcrit.search_spaces.tables import MEASUREMENTS
from bcrit.tuner.training.micro_batches import division_problem
from bcrit.tuner.training.noise_scale import mixing_layer
from bcrit.tuner.training.noise_scale.ratio import MIN_BLOCKS
from bcrit.tuner.training.settings import Settings
from bcrit.tuner.workloads.protocol import OpenWorkload, our_loop, says

Note = Callable[[str], None]
"""Takes a sentence on what can be run, but hardly is what was meant."""

_FEW = 2  # examples: one alone hides an axis that is dropped by mistake
_BLOCKS = 2 * MIN_BLOCKS  # examples: as few as the estimator of noise scales takes


def execution_problems(workload: object, name: str, experiment: Experiment) -> list[str]:
    """What is wrong with `execution` and `resources.gpus`.

    A workload that computes its updates itself would not read the section, so one that says anything is refused.
    """
    problems = []
    if experiment.resources.gpus > 1 and says(workload, "one_gpu"):
        problems.append(
            f"'resources.gpus': workload '{name}' trains on one GPU or a share of one, but gpus is "
            f"{experiment.resources.gpus:g}; write 1, and more trials run at once"
        )
    if not our_loop(workload):
        said = [key for key, value in experiment.execution if value != getattr(Execution(), key)]
        return problems + [
            f"'execution.{key}': workload '{name}' computes its updates itself and would not read it; remove it"
            for key in said
        ]
    return problems + _division_problems(workload, experiment)


def _division_problems(workload: OpenWorkload, experiment: Experiment) -> list[str]:
    """Why batches cannot be computed in pieces of `micro_batch` rows; the model is made to see its layers."""
    rows = experiment.execution.micro_batch
    if rows is None:
        return []
    sizes = [workload.rows(batch_size) for batch_size in experiment.batch_sizes]
    if rows >= max(sizes):
        return []
    space = experiment.space
    point = dict.fromkeys(STEPS_OF.values(), 1) | space.from_unit(dict.fromkeys(space.axes, 0.0))
    with torch.random.fork_rng(devices=[]):
        model = workload.model(Settings(experiment.batch_sizes[-1], 0, experiment.optimizer, point))
    problem = division_problem(model, max(sizes), rows, workload.divisible)
    return [] if problem is None else [f"'execution.micro_batch': {problem}"]


def model_problems(workload: object, name: str, experiment: Experiment, note: Note) -> list[str]:
    """What is wrong with the model, which otherwise every trial would fail on.

    It is built at one point of the space, and at every option of the workload's own choices and both ends of its own
    integers, because those decide its layers. It is then given two examples. Nothing is trained. The note is told where
    batch normalisation makes the model another one at every batch size.
    """
    if not our_loop(workload):
        return []
    model = None
    for settings in _settings(workload, experiment):
        doing = "building its model"
        try:
            with torch.random.fork_rng(devices=[]):
                model = workload.model(settings)
                # A model may need the GPU that its trials are given; where this is checked there may be none. Where
                # examples are mixed, two may be too few.
                if not settings.gpus and workload.divisible:
                    doing = f"giving its model {_FEW} examples of the training set"
                    _try(workload, model, settings)
        except Exception as error:  # a user's code may raise anything
            return [_problem(name, doing, error)]
    if model is not None and len(experiment.batch_sizes) > 1 and (layer := _whole_batch_layer(model.train())):
        note(_batch_norm_note(layer, workload, experiment))
    return []


def _settings(workload: OpenWorkload, experiment: Experiment) -> Iterator[Settings]:
    """Settings of the trials that differ in their model's layers."""
    space = experiment.space
    start = dict.fromkeys(space.axes, 0.0)
    places = [start]
    for address, axis in space.axes.items():
        if hyperparameter(address) in workload.hyperparameters:
            if isinstance(axis, Choice):
                places += [{**start, address: axis.to_unit(option)} for option in list(axis.options)[1:]]
            elif isinstance(axis, Integer):
                places.append({**start, address: 1.0})
    rows, gpus = workload.rows(experiment.batch_sizes[0]), experiment.resources.gpus
    for place in places:
        point = dict.fromkeys(STEPS_OF.values(), 1) | space.from_unit(place)
        yield Settings(rows, 0, experiment.optimizer, point, gpus=gpus)


def _try(workload: OpenWorkload, model: nn.Module, settings: Settings) -> None:
    """The loss of a few examples, with gradients as in training, but as in evaluation each example by itself."""
    inputs, targets = workload.sample("train", _FEW, 0)
    loss = workload.training_loss(settings)(model.eval()(inputs), targets)
    if loss.numel() != 1:
        raise ValueError(f"the loss must be one number, the mean over the examples, but has the shape {[*loss.shape]}")


def _problem(name: str, doing: str, error: Exception) -> str:
    said = " ".join(str(error).split())[:500]
    if isinstance(error, ValueError):
        return f"'workload': {doing} failed for '{name}': {said}"
    return f"'workload': {doing} failed for '{name}' with {type(error).__name__}: {said}; mend the class or its options"


def _whole_batch_layer(model: nn.Module) -> str | None:
    """The first layer that normalises with the statistics of the whole batch, in words."""
    for name, module in model.named_modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm) and module.training:
            return f"'{name}' ({type(module).__name__})"
    return None


def _batch_norm_note(layer: str, workload: OpenWorkload, experiment: Experiment) -> str:
    common = math.gcd(*(workload.rows(batch_size) for batch_size in experiment.batch_sizes))
    if "ghost_batch_size" in inspect.signature(type(workload)).parameters:
        size = f", {common} for example," if common > 1 else " and batch sizes that are multiples of it"
        remedy = f"set the workload's 'ghost_batch_size'{size} to keep it the same"
    else:
        remedy = "bcrit.tuner.workloads.models.layers.GhostBatchNorm keeps it the same"
    return (
        f"layer {layer} normalises with the statistics of the whole batch, so that what is minimised changes with the "
        f"batch size, and steps with it (Hoffer et al. 2017); {remedy}"
    )


def probe_problems(workload: object, name: str, experiment: Experiment) -> list[str]:
    """What is wrong with `probes`.

    Where noise scales are wanted, a model is made at a corner of the space and one is measured on few examples: only
    that tells whether PyTorch can take second derivatives of every layer for single examples.
    """
    probes = experiment.probes
    if not probes.measure:
        return []
    if not our_loop(workload):
        return [f"'probes': workload '{name}' computes its updates itself, where nothing can be probed; remove it"]
    if taken := sorted(set(workload.metrics) & set(MEASUREMENTS.known)):
        return [
            f"'probes': the metric '{metric}' of '{name}' is a probe's column; name it otherwise" for metric in taken
        ]
    if not experiment.confirm.seeds:
        return [
            "'probes': only confirming runs are probed, but 'confirm.seeds' is 0; give it seeds, or remove the probes"
        ]
    why = why_no_scale(workload, experiment, "remove noise_scale") if "noise_scale" in probes.measure else None
    return [] if why is None else [f"'probes': noise_scale cannot be measured on workload '{name}': {why}"]


def why_no_scale(workload: OpenWorkload, experiment: Experiment, remedy: str) -> str | None:
    """Why gradient noise cannot be measured on a workload, with what to do without it; None where it can.

    The first batch size of the experiment and the low corner of its space are tried.
    """
    if not workload.divisible:
        return f"it says that its loss or model mixes examples, so one example has no gradient of its own; {remedy}"
    space, batch_size = experiment.space, experiment.batch_sizes[0]
    point = dict.fromkeys(STEPS_OF.values(), 1) | space.from_unit(dict.fromkeys(space.axes, 0.0))
    settings = Settings(batch_size, 0, experiment.optimizer, point)
    with torch.random.fork_rng(devices=[]):
        layer = mixing_layer(workload.model(settings).train())
    if layer is not None:
        return (
            f"{layer} normalises with the statistics of the batch, so one example has no gradient of its own; choose a "
            f"model without batch normalisation, or {remedy}"
        )
    probes = Probes(measure=("noise_scale",), examples=_BLOCKS)
    try:
        workload.begin(Settings(batch_size, 0, experiment.optimizer, point, probes=probes)).probe(last=True)
    except Exception as error:  # PyTorch has many for what it cannot differentiate twice or for single examples
        return f"{type(error).__name__}: {str(error).partition(chr(10))[0][:200]}; {remedy}"
    return None
