"""The built-in workloads by name, and how a workload is found: by that name or by an import path."""

import inspect
import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from bcrit.search_spaces.experiment import Experiment
from bcrit.search_spaces.options import COMMAND
from bcrit.search_spaces.problems import InputError, did_you_mean
from bcrit.tuner.workloads import command
from bcrit.tuner.workloads.function import TrainingFunction, declared
from bcrit.tuner.workloads.places import found, reach
from bcrit.tuner.workloads.protocol import Workload


@dataclass(frozen=True)
class Entry:
    """What is known of a workload before it is imported."""

    path: str  # where the class is, `module:Class`
    description: str
    data: str
    model: str
    metrics: tuple[str, ...]  # names of what can be a target
    target: str  # one that good settings reach in some hundred steps, as an experiment writes it
    unit: str  # what a batch is made of


WORKLOADS: Final = {
    "digits_mlp": Entry(
        path="bcrit.tuner.workloads.digits:DigitsMLP",
        description="Handwritten digits with a small network: real training, a second a run.",
        data="scikit-learn's digits: 1437 images to train, 360 to validate, 8 x 8 pixels, 10 classes",
        model="64-128-10 network with ReLU",
        metrics=("val_loss", "val_accuracy"),
        target="val_loss < 0.15",
        unit="examples",
    ),
    "image_classifier": Entry(
        path="bcrit.tuner.workloads.image_classifier:ImageClassifier",
        description="Images with classes, from files or the Hugging Face hub; the classifiers of Shallue et al. 2018.",
        data="option data: a folder of idx files, Parquet, Arrow or images; or a name (mnist, cifar10, ...)",
        model="option model: fc_1024, simple_cnn_base, resnet_8, resnet_50, vgg_11, ... or {name: ..., sizes}",
        metrics=("val_loss", "val_error", "val_accuracy"),
        target="val_error < 0.1",
        unit="examples",
    ),
    "language_model": Entry(
        path="bcrit.tuner.workloads.language_model:LanguageModel",
        description="Text as characters, bytes or tokens, cut into sequences; loss in nats a token.",
        data="option data: text files, Parquet, Arrow, or a name on the Hugging Face hub (lm1b, ...)",
        model="option model: lstm, transformer_base, transformer_shallow, gpt, ... or {name: ..., sizes}",
        metrics=("val_loss",),
        target="val_loss < 2.4",
        unit="sequences",
    ),
    "autoencoder": Entry(
        path="bcrit.tuner.workloads.autoencoder:AutoencoderWorkload",
        description="Images reconstructed from a short code (McCandlish et al. 2018); loss in nats an image.",
        data="option data: as for image_classifier; labels are not used",
        model="option model: autoencoder, vae, or {name: ..., sizes}",
        metrics=("val_loss", "val_reconstruction", "val_divergence"),
        target="val_loss < 300",
        unit="examples",
    ),
    "policy_gradient": Entry(
        path="bcrit.tuner.workloads.policy_gradient:PolicyGradient",
        description="An actor and a critic learn (A2C) in an environment of gymnasium; batch = environments x steps.",
        data="option environment: an id (CartPole-v1, ALE/Pong-v5, my_module:MyEnvironment-v0); its own frames",
        model="option model: mlp, cnn, or {name: ..., sizes}",
        metrics=("val_return",),
        target="val_return > 150",
        unit="frames",
    ),
    "noisy_quadratic": Entry(
        path="bcrit.tuner.workloads.noisy_quadratic:NoisyQuadratic",
        description="Noisy quadratic model: exact expected risk, nothing sampled, milliseconds a run.",
        data="none: Gaussian gradient noise of variance c_i / batch_size",
        model="1/2 sum_i h_i x_i^2 with h_i = c_i = 1/i, i = 1 ... 1000 (options change it)",
        metrics=("risk",),
        target="risk < 0.01",
        unit="examples",
    ),
}
"""By the name that an experiment gives."""


def load_training(name: str, options: Mapping[str, Any]) -> Workload | TrainingFunction:
    """Find what an experiment trains: a workload, or a training function of the user's.

    The name is one of `WORKLOADS`, or `module:name` for a class or a function, found from the current directory and
    nowhere else unless its module is trusted (`check_place`); the options are keyword arguments of the class, or
    settings that the function is given. Nothing is loaded or trained yet. Where it cannot be found or made, a
    ValueError says why.
    """
    if name == COMMAND:
        return command.declared(options)
    found = _find(name)
    return _made(found, name, options) if isinstance(found, type) else declared(found, name, options)


def workload_of_run(experiment: Experiment, where: str) -> Workload | TrainingFunction:
    """What a run trained, to be trained again; where that was elsewhere, or cannot be loaded, an InputError says so."""
    if experiment.imported is not None:
        raise InputError(where, ["an imported run describes trials of elsewhere, which cannot be trained again here"])
    try:
        return load_training(experiment.workload.name, experiment.workload.options)
    except (Exception, SystemExit) as error:  # a user's module may raise anything
        raise InputError(where, [str(error)]) from error


def is_function(name: str) -> bool:
    """Whether a name is that of a training function, or of a program of the user's."""
    return name == COMMAND or name not in WORKLOADS and not isinstance(_find(name), type)


def load_workload(name: str, options: Mapping[str, Any]) -> Workload:
    """Make a workload; as `load_training`, but of classes only."""
    found = load_training(name, options)
    if isinstance(found, TrainingFunction):
        raise ValueError(f"'{name}' is a function, but a class is needed here")
    return found


def _made(workload_class: type[Any], name: str, options: Mapping[str, Any]) -> Workload:
    parts, absent = [part for part in vars(Workload) if not part.startswith("_")], object()

    def missing(of: object) -> list[str]:
        # Looked up statically, because asking for `n_examples` may load the data.
        return [part for part in parts if inspect.getattr_static(of, part, absent) is absent]

    lacks = missing(workload_class)
    if "begin" not in lacks:  # what cannot be a workload is not called: the other parts may be made then
        try:
            workload: Workload = workload_class(**options)
        except TypeError as error:
            accepted = ", ".join(inspect.signature(workload_class).parameters)
            raise ValueError(
                f"workload '{name}' cannot be made with the options that are given: {error}; "
                + (f"its options are {accepted}" if accepted else "it has no options, remove them")
            ) from error
        if not (lacks := missing(workload)):
            return workload
    raise ValueError(
        f"a workload must have {', '.join(parts)}, but '{name}' lacks {', '.join(lacks)}; "
        "add it to the class, or derive the class from SupervisedWorkload"
    )


def _find(name: str) -> Any:
    """The class or function behind a name; where there is none, or its module cannot be imported, a ValueError."""
    module_name, _, class_name = (WORKLOADS[name].path if name in WORKLOADS else name).partition(":")
    if not (module_name and class_name):
        raise ValueError(
            f"there is no workload '{name}'; {did_you_mean(name, WORKLOADS)}the built-in ones are "
            f"{', '.join(WORKLOADS)}, and a class or function of your own is written module:name"
        )
    if name not in WORKLOADS:
        reach(os.getcwd())
    return found(f"{module_name}:{class_name}", f"workload '{name}'")
