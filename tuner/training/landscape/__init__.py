"""The landscape around trained weights: sharpness, curvature, paths between networks, distance from the start."""

from tuner.training.landscape.curvature import Eigenvalues, Trace, eigenvalues, trace
from tuner.training.landscape.directions import coordinates, random_directions
from tuner.training.landscape.path import Path, PathPoint, interpolate
from tuner.training.landscape.sharpness import Search, Sharpness, sharpness
from tuner.training.landscape.surface import LossSurface
from tuner.training.landscape.weight_distance import WeightDistance, WeightDistances, log_spaced

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
