"""Floor 2: from tables to fits, recommendations and reports."""

from analysis.fit import fit_hyperbola
from analysis.fit_result import FittedStudy, HyperbolaFit
from analysis.fit_table import read_table
from analysis.frontier import FrontierPoint
from analysis.hyperbola import Hyperbola
from analysis.p_norm import PNorm
from analysis.recommend import Recommendation, recommend
from analysis.step_time import StepTimes, fit_step_times, read_step_times

__all__ = [
    # tables of steps to target
    "read_table",
    # the fit
    "fit_hyperbola",
    "HyperbolaFit",
    "FittedStudy",
    "Hyperbola",
    "PNorm",
    # step times
    "read_step_times",
    "fit_step_times",
    "StepTimes",
    # the recommendation
    "recommend",
    "Recommendation",
    "FrontierPoint",
]
