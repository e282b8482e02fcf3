"""Runs and tables with a known truth, for the tests of comparisons."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd

from bcrit.analysis.curve.fit import HyperbolaFit, fit_hyperbola
from bcrit.analysis.questions.compare.sides import Side, StepsTable, side_of
from bcrit.analysis.run import Run
from bcrit.search_spaces.experiment import Experiment
from bcrit.search_spaces.outcome import Outcome
from bcrit.search_spaces.tables import TRIALS
from tests.analysis.report import runs

SIZES = tuple(4.0 * 2**k for k in range(9))
SGD = {"lr": "log from 0.01 to 10"}
MOMENTUM = {**SGD, "momentum": "reverse_log from 0 to 0.99"}


def steps_table(
    s_min: float, b_crit: float, noise: float = 0.0, seed: int = 0, sizes: Sequence[float] = SIZES
) -> pd.DataFrame:
    """Steps on a hyperbola with log-normal scatter."""
    size = np.array(sizes)
    scatter = noise * np.random.default_rng(seed).standard_normal(len(size))
    return pd.DataFrame({"batch_size": size, "steps": s_min * (1 + b_crit / size) * np.exp(scatter)})


def table(name: str, s_min: float, b_crit: float, *, unit: str = "examples", **more: Any) -> StepsTable:
    return StepsTable(f"{name}.csv", steps_table(s_min, b_crit, **more), unit)


def fit(s_min: float, b_crit: float, noise: float = 0.0, seed: int = 0, **more: Any) -> HyperbolaFit:
    return fit_hyperbola(steps_table(s_min, b_crit, noise, seed, **more))


def labelled(name: str, source: StepsTable | Run) -> Side:
    return replace(side_of(source), label=name)


def spec(name: str = "made-up", optimizer: str = "sgd", **more: Any) -> Experiment:
    declared = {
        "name": name,
        "workload": "toy",
        "optimizer": optimizer,
        "batch_sizes": [int(size) for size in SIZES],
        "target": "loss < 1",
        "space": SGD if optimizer == "sgd" else MOMENTUM,
        "budget": {"steps": 4000},
    }
    return Experiment.model_validate(declared | more)


def run(
    name: str = "made-up",
    optimizer: str = "sgd",
    s_min: float = 200.0,
    b_crit: float = 32.0,
    noise: float = 0.04,
    seed: int = 0,
    confirm: bool = True,
    trials: int = 2,
    text: str | None = None,
    **more: Any,
) -> Run:
    """A run on a hyperbola: `trials` search trials a study, the first of them the best, and three re-runs of it."""
    experiment = spec(name, optimizer, **more)
    random = np.random.default_rng(seed)
    rows = []
    for size in experiment.batch_sizes:
        best = s_min * (1 + b_crit / size) * float(np.exp(noise * random.standard_normal()))
        for number in range(trials):
            steps = round(best * (1 + 0.3 * number))
            rows.append(runs.trial(experiment, size, number, Outcome.REACHED, steps))
        point = {key: value for key, value in rows[-trials].items() if key not in TRIALS.names}
        again = {"stage": "confirm", "repeats": rows[-trials]["trial_id"], **point}
        for number in range(3 if confirm else 0):
            steps = round(best * float(np.exp(0.02 * random.standard_normal())))
            rows.append(runs.trial(experiment, size, number, Outcome.REACHED, steps, **again))
    found = runs.analysis_of(experiment, [row | ({"message": text} if text else {}) for row in rows])
    return found.but(location=f"runs/{name}-{optimizer}-{seed}")
