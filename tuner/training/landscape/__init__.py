"""The landscape around trained weights: sharpness, curvature, paths between networks, distance from the start."""

from bcrit.tuner.training.landscape.curvature import Eigenvalues, Trace, eigenvalues, trace
from bcrit.tuner.training.landscape.directions import coordinates, random_directions
from bcrit.tuner.training.landscape.path import Path, PathPoint, interpolate
from bcrit.tuner.training.landscape.sharpness import Search, Sharpness, sharpness
from bcrit.tuner.training.landscape.surface import LossSurface
from bcrit.tuner.training.landscape.weight_distance import WeightDistance, WeightDistances, log_spaced

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
    # along a run (Hoffer et al. 2017)
    "WeightDistance",
    "WeightDistances",
    "log_spaced",
]
