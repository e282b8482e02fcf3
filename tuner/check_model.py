"""Whether an experiment's model can be built and takes its data: tried once, before anything runs."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator

import torch
from torch import nn

from bcrit.search_spaces.dimensions import Choice, Integer
from bcrit.search_spaces.experiment import Experiment
from bcrit.search_spaces.presets import STEPS_OF
from bcrit.search_spaces.space import hyperparameter
from bcrit.tuner.check_execution import our_loop
from bcrit.tuner.training.settings import Settings
from bcrit.tuner.workloads.image_classifier import ImageClassifier
from bcrit.tuner.workloads.supervised import SupervisedWorkload

Note = Callable[[str], None]
"""Takes a sentence on what can be run, but hardly is what was meant."""

_FEW = 2  # examples: one alone hides an axis that is dropped by mistake


def model_problems(workload: object, name: str, experiment: Experiment, note: Note) -> list[str]:
    """What is wrong with the model, which otherwise every trial would fail on.

    It is built at one point of the space, and at every option of the workload's own choices and both ends of its own
    integers, because those decide its layers. It is then given two examples. Nothing is trained.

    Args:
        workload: what is trained: a workload, or whatever else the experiment names.
        name: the workload's.
        experiment: valid but for this.
        note: is told where batch normalisation makes the model another one at every batch size.

    Returns:
        One sentence a problem.
    """
    if not our_loop(workload):
        return []
    assert isinstance(workload, SupervisedWorkload)  # says `our_loop`
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


def _settings(workload: SupervisedWorkload, experiment: Experiment) -> Iterator[Settings]:
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


def _try(workload: SupervisedWorkload, model: nn.Module, settings: Settings) -> None:
    """The loss of a few examples, with gradients as in training, but as in evaluation each example by itself.

    Raises:
        ValueError: it is no single number.
    """
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


def _batch_norm_note(layer: str, workload: SupervisedWorkload, experiment: Experiment) -> str:
    common = math.gcd(*(workload.rows(batch_size) for batch_size in experiment.batch_sizes))
    if isinstance(workload, ImageClassifier):
        size = f", {common} for example," if common > 1 else " and batch sizes that are multiples of it"
        remedy = f"set the workload's 'ghost_batch_size'{size} to keep it the same"
    else:
        remedy = "bcrit.tuner.workloads.models.layers.GhostBatchNorm keeps it the same"
    return (
        f"layer {layer} normalises with the statistics of the whole batch, so that what is minimised changes with the "
        f"batch size, and steps with it (Hoffer et al. 2017); {remedy}"
    )
