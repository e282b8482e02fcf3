"""Floor 2: from tables to fits, recommendations and reports."""

from analysis.fit.estimate import fit_hyperbola
from analysis.fit.hyperbola import Hyperbola
from analysis.fit.p_norm import PNorm
from analysis.fit.result import FittedStudy, HyperbolaFit
from analysis.fit.table import read_table
from analysis.recommendation.frontier import FrontierPoint
from analysis.recommendation.hardware import Hardware
from analysis.recommendation.hardware_table import read_hardware
from analysis.recommendation.recommend import Recommendation, recommend
from analysis.recommendation.step_time import StepTimes, fit_step_times, read_step_times

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
    # what a training may run on
    "read_hardware",
    "Hardware",
    # the recommendation
    "recommend",
    "Recommendation",
    "FrontierPoint",
]
