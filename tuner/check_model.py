"""Whether the model that trials of an experiment would begin with can be built, trained, shared and measured."""

import inspect
import math
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import nn

from bcrit.search_spaces.dimensions import Choice, Integer
from bcrit.search_spaces.experiment import Experiment
from bcrit.search_spaces.options import Probes
from bcrit.search_spaces.presets import STEPS_OF
from bcrit.search_spaces.space import hyperparameter
from bcrit.tuner.training.noise_scale.per_example import mixing_layer
from bcrit.tuner.training.noise_scale.ratio import MIN_BLOCKS
from bcrit.tuner.training.parallel import Parallel
from bcrit.tuner.training.settings import Settings
from bcrit.tuner.training.supervised import not_even, why_not_shared
from bcrit.tuner.workloads.function import TrainingFunction
from bcrit.tuner.workloads.protocol import OpenWorkload, Workload, our_loop, unfit

Note = Callable[[str], None]
"""Takes a sentence on what can be run, but hardly is what was meant."""

_FEW = 2  # examples: one alone hides an axis that is dropped by mistake
_BLOCKS = 2 * MIN_BLOCKS  # examples: as few as the estimator of noise scales takes


def settings_at(
    experiment: Experiment, batch_size: int, places: Mapping[str, float] | None = None, **others: Any
) -> Settings:
    """Settings of a trial at a place in the space's unit cube, the low corner unless given."""
    space = experiment.space
    point = dict.fromkeys(STEPS_OF.values(), 1) | space.from_unit(places or dict.fromkeys(space.axes, 0.0))
    return Settings(batch_size, 0, experiment.optimizer, point, **others)


def built(workload: OpenWorkload, settings: Settings) -> nn.Module:
    """The workload's model, at which nothing else draws."""
    with torch.random.fork_rng(devices=[]):
        return workload.model(settings)


def not_shared(
    workload: Workload | TrainingFunction, experiment: Experiment, batch_size: int, ranks: int
) -> str | None:
    """Why so many processes of a trial cannot share its batches; None where they can."""
    if not our_loop(workload):
        return not_even(batch_size, ranks) if batch_size % ranks else None
    if ranks == 1 or unfit(workload, batch_size):  # which is said by itself
        return None
    given = {"execution": experiment.execution, "probes": experiment.probes, "parallel": Parallel(0, ranks)}
    settings = settings_at(experiment, workload.rows(batch_size), None, **given)
    return why_not_shared(built(workload, settings), settings, workload.divisible)


def model_problems(workload: object, experiment: Experiment, note: Note) -> list[str]:
    """What is wrong with the model, which otherwise every trial would fail on.

    It is built at one point of the space, and at every option of the workload's own choices and both ends of its own
    integers, because those decide its layers. It is then given two examples. Nothing is trained. The note is told where
    batch normalisation makes the model another one at every batch size.
    """
    if not our_loop(workload):
        return []
    name, start = experiment.workload.name, dict.fromkeys(experiment.space.axes, 0.0)
    places = [start]
    for address, axis in experiment.space.axes.items():
        if hyperparameter(address) in workload.hyperparameters:
            if isinstance(axis, Choice):
                places += [{**start, address: axis.to_unit(option)} for option in list(axis.options)[1:]]
            elif isinstance(axis, Integer):
                places.append({**start, address: 1.0})
    rows, gpus, model = workload.rows(experiment.batch_sizes[0]), experiment.resources.gpus, None
    for place in places:
        settings, doing = settings_at(experiment, rows, place, gpus=gpus), "building its model"
        try:
            with torch.random.fork_rng(devices=[]):
                model = workload.model(settings)
                # A model may need the GPU that its trials are given; where this is checked there may be none. Where
                # examples are mixed, two may be too few.
                if not gpus and workload.divisible:
                    doing = f"giving its model {_FEW} examples of the training set"
                    inputs, targets = workload.sample("train", _FEW, 0)
                    # With gradients as in training, but as in evaluation each example by itself.
                    loss = workload.training_loss(settings)(model.eval()(inputs), targets)
                    if loss.numel() != 1:
                        rule = "the loss must be one number, the mean over the examples"
                        raise ValueError(f"{rule}, but has the shape {[*loss.shape]}")
        except Exception as error:  # a user's code may raise anything
            said = " ".join(str(error).split())[:500]
            if isinstance(error, ValueError):
                return [f"'workload': {doing} failed for '{name}': {said}"]
            kind = type(error).__name__
            return [f"'workload': {doing} failed for '{name}' with {kind}: {said}; mend the class or its options"]
    if model is not None and len(experiment.batch_sizes) > 1:
        for layer, module in model.train().named_modules():
            if isinstance(module, nn.modules.batchnorm._BatchNorm) and module.training:
                note(_batch_norm_note(f"'{layer}' ({type(module).__name__})", workload, experiment))
                break
    return []


def _batch_norm_note(layer: str, workload: OpenWorkload, experiment: Experiment) -> str:
    common = math.gcd(*(workload.rows(batch_size) for batch_size in experiment.batch_sizes))
    if "ghost_batch_size" in inspect.signature(type(workload)).parameters:
        size = f", {common} for example," if common > 1 else " and batch sizes that are multiples of it"
        remedy = f"set the workload's 'ghost_batch_size'{size} to keep it the same"
    else:
        remedy = "bcrit.tuner.workloads.layers.GhostBatchNorm keeps it the same"
    return (
        f"layer {layer} normalises with the statistics of the whole batch, so that what is minimised changes with the "
        f"batch size, and steps with it (Hoffer et al. 2017); {remedy}"
    )


def why_no_scale(workload: OpenWorkload, experiment: Experiment, remedy: str) -> str | None:
    """Why gradient noise cannot be measured on a workload, with what to do without it; None where it can.

    The first batch size of the experiment and the low corner of its space are tried.
    """
    if not workload.divisible:
        return f"it says that its loss or model mixes examples, so one example has no gradient of its own; {remedy}"
    batch_size = experiment.batch_sizes[0]
    layer = mixing_layer(built(workload, settings_at(experiment, batch_size)).train())
    if layer is not None:
        return (
            f"{layer} normalises with the statistics of the batch, so one example has no gradient of its own; choose a "
            f"model without batch normalisation, or {remedy}"
        )
    probes = Probes(measure=("noise_scale",), examples=_BLOCKS)
    try:
        workload.begin(settings_at(experiment, batch_size, probes=probes)).probe(last=True)
    except Exception as error:  # PyTorch has many for what it cannot differentiate twice or for single examples
        return f"{type(error).__name__}: {str(error).partition(chr(10))[0][:200]}; {remedy}"
    return None
