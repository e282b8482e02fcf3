"""The landscape around trained weights: sharpness, curvature, paths between networks."""

from bcrit.tuner.training.landscape.keskar import Path, Sharpness, interpolate, random_directions, sharpness
from bcrit.tuner.training.landscape.surface import Eigenvalues, LossSurface, Trace, eigenvalues, trace

__all__ = [
    # the loss as a function of the weights, and its second derivative
    "LossSurface",
    "Eigenvalues",
    "Trace",
    "eigenvalues",
    "trace",
    # how far it rises nearby, and between two trained networks
    "Sharpness",
    "random_directions",
    "sharpness",
    "Path",
    "interpolate",
]
