"""The optimizers by name: those of `search_spaces.presets.OPTIMIZERS` and every other class of `torch.optim`."""

from tuner.training.optimizers.build import build_optimizer
from tuner.training.optimizers.classes import parameters_of
from tuner.training.optimizers.step import bare_step

__all__ = ["bare_step", "build_optimizer", "parameters_of"]
