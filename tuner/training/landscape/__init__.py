"""The landscape around trained weights: sharpness, curvature, paths between networks."""

from bcrit.tuner.training.landscape.path import Path, PathPoint, interpolate
from bcrit.tuner.training.landscape.sharpness import Search, Sharpness, coordinates, random_directions, sharpness
from bcrit.tuner.training.landscape.surface import Eigenvalues, LossSurface, Trace, eigenvalues, trace

__all__ = [
    # the loss as a function of the weights
    "LossSurface",
    # how far it rises nearby (Keskar et al. 2016)
    "Search",
    "Sharpness",
    "coordinates",
    "random_directions",
    "sharpness",
    # its second derivative
    "Eigenvalues",
    "Trace",
    "eigenvalues",
    "trace",
    # between two trained networks
    "Path",
    "PathPoint",
    "interpolate",
]
