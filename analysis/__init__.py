"""Floor 2: from tables to fits, recommendations and reports.

The names are loaded when they are first used: the command line says `--help` without pandas, pyarrow and scipy.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from bcrit.analysis.curve import FittedStudy, HyperbolaFit, fit_hyperbola
    from bcrit.analysis.curve.hyperbola import Hyperbola
    from bcrit.analysis.curve.other_curves import PNorm
    from bcrit.analysis.curve.table import read_table
    from bcrit.analysis.recommendation import Recommendation, recommend
    from bcrit.analysis.recommendation.choices import FrontierPoint
    from bcrit.analysis.recommendation.hardware import (
        Hardware,
        StepTimes,
        fit_step_times,
        read_hardware,
        read_step_times,
    )

_MODULES = {
    "bcrit.analysis.curve.table": ("read_table",),
    "bcrit.analysis.curve": ("fit_hyperbola", "HyperbolaFit", "FittedStudy"),
    "bcrit.analysis.curve.hyperbola": ("Hyperbola",),
    "bcrit.analysis.curve.other_curves": ("PNorm",),
    "bcrit.analysis.recommendation.hardware": (
        *("read_step_times", "fit_step_times", "StepTimes", "read_hardware", "Hardware"),
    ),
    "bcrit.analysis.recommendation": ("recommend", "Recommendation"),
    "bcrit.analysis.recommendation.choices": ("FrontierPoint",),
}

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


def __getattr__(name: str) -> Any:
    for module, names in _MODULES.items():
        if name in names:
            return getattr(import_module(module), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
