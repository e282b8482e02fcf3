"""The optimizers by name: those of `bcrit.search_spaces.presets.OPTIMIZERS` and every other class of `torch.optim`."""

from bcrit.tuner.training.optimizers.build import build_optimizer
from bcrit.tuner.training.optimizers.classes import parameters_of
from bcrit.tuner.training.optimizers.step import bare_step

__all__ = ["bare_step", "build_optimizer", "parameters_of"]
