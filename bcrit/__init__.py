"""Which batch size, with which learning rate, momentum and schedule, and what will it cost?

    >>> import bcrit
    >>> fit = bcrit.fit("steps.csv")  # doctest: +SKIP
    >>> run = bcrit.Run("runs/digits")  # doctest: +SKIP
    >>> run.studies, run.fit.b_crit, run.ask("targets").sentences  # doctest: +SKIP

Nothing is loaded before it is used: `import bcrit` takes no time, and only `tune` and `NoiseScale` need Ray or torch.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from bcrit.analysis.run import Run
    from bcrit.notebook import fit, recommend, tune
    from bcrit.tuner.training.noise_scale import NoiseScale

_FROM = {
    "fit": "bcrit.notebook",
    "recommend": "bcrit.notebook",
    "tune": "bcrit.notebook",
    "Run": "bcrit.analysis.run",
    "NoiseScale": "bcrit.tuner.training.noise_scale",
}

__all__ = [
    # from a table, a run folder, an experiment
    "fit",
    "Run",
    "recommend",
    "tune",
    # in a training loop of your own
    "NoiseScale",
]


def __getattr__(name: str) -> Any:
    if name in _FROM:
        return getattr(import_module(_FROM[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
