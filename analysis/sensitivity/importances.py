"""How much of the variation in steps each hyperparameter explains: functional ANOVA (Hutter et al. 2014), by Optuna."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import pandas as pd

from bcrit.analysis.numbers.estimate import Estimate
from bcrit.analysis.optimum.coordinates import between
from bcrit.analysis.optimum.near_optimal import NearOptimal
from bcrit.search_spaces.target import Target

Floats = npt.NDArray[np.float64]

FEWEST: Final = 30
"""Points below which no importances are given. Where only lr of three hyperparameters mattered, 30 evenly drawn points
gave it 0.85 to 1, 45 of them 0.96 to 1; 45 points of a search that stops early 0.6 to 0.95: the interval tells."""

FEWEST_REACHED: Final = 5
"""Points that reached the target below which none are given: the rest is ranks only. Chosen."""

MOST: Final = 300
"""Points used, the fastest third and an even choice of the others: the forest's time grows with the square of them."""

_SLOWEST = math.log(4)  # steps beyond four times the best are all bad: they would drown what matters near it. Chosen.
_UNREACHED = math.log(2)  # points that did not reach are ranked over this range above it. Chosen.
# Measured on bowls in five dimensions at 300 points: 16 trees of depth 8 take three times as long as these, Optuna's 64
# of depth 64 nearly thirty times; they differ by 0.02, as seeds of the forest do. Half as many points differ by up to
# 0.1, so it is the trees that are few: a run of many full studies takes half a second for each.
_TREES, _DEPTH = 8, 6
_GROUPS = 4  # of the jackknife


@dataclass(frozen=True)
class Importances:
    """The share of the variance of log steps that each hyperparameter of a study explains on its own."""

    # Of the hyperparameters that every point has, the largest first; in [0, 1], they sum to 1, with 95 % intervals (a
    # jackknife over trials); empty where not given. With momentum searched, `effective_lr` stands in the place of `lr`:
    # near the optimum steps depend on it, and on the two apart only through it.
    by_name: dict[str, Estimate]
    n: int  # points used
    left_out: tuple[str, ...]  # hyperparameters that exist under some options only
    why_not: str | None  # why none are given, in a sentence; None where they are


def importances(found: NearOptimal, target: Target, seed: int = 0) -> Importances:
    """Estimate the importances in one study.

    A point's value is log(steps / best), at most log 4. Points that did not reach the target rank above all that did,
    over a further factor of 2: those whose metric came nearer to the threshold first, diverged ones last. None are
    given with fewer than 30 points, 5 of them reached, or fewer than two hyperparameters.
    """
    columns, distributions = _columns(found)
    left_out = tuple(c.name for c in found.axes.numeric if c.conditional)
    reached = int(np.isfinite(found.points.steps).sum())
    places = np.flatnonzero(columns.notna().all(axis=1))
    why = None
    if len(distributions) < 2:
        why = "fewer than two hyperparameters were searched in every trial"
    elif len(places) < FEWEST or reached < FEWEST_REACHED:
        needed = f"{FEWEST} points, {FEWEST_REACHED} of which reached the target, are needed"
        why = f"{needed}, but there are {len(places)} and {reached}"
    if why is not None:
        return Importances({}, len(places), left_out, why)
    values = _values(found, target)
    places = _chosen(places, values)
    columns, values, groups = columns.iloc[places], values[places], np.arange(len(places)) % _GROUPS
    with _quiet():
        whole = _fanova(columns, distributions, values, seed)
        parts = [_fanova(columns[groups != g], distributions, values[groups != g], seed) for g in range(_GROUPS)]
    by_name = {name: _within_1(Estimate.jackknife(whole[name], [part[name] for part in parts])) for name in whole}
    return Importances(by_name, len(places), left_out, None)


def _within_1(found: Estimate) -> Estimate:
    assert found.low is not None and found.high is not None, "four groups have a spread"
    return replace(found, low=max(0.0, found.low), high=min(1.0, found.high))


def _columns(found: NearOptimal) -> tuple[pd.DataFrame, dict[str, Any]]:
    """Coordinates in [0, 1] and options by name, and their Optuna distributions; conditional ones are left out."""
    from optuna.distributions import CategoricalDistribution, FloatDistribution

    columns, distributions = dict[str, Any](), dict[str, Any]()
    for coordinate in (c for c in found.axes.decoupled if not c.conditional):
        unit = between(coordinate.scaled(found.values(coordinate)), *found.span(coordinate))
        columns[coordinate.name], distributions[coordinate.name] = np.clip(unit, 0, 1), FloatDistribution(0.0, 1.0)
    for name, options in found.axes.choices.items():
        columns[name] = [options[code] if code >= 0 else None for code in found.codes(name)]
        distributions[name] = CategoricalDistribution(options)
    return pd.DataFrame(columns), distributions


def _values(found: NearOptimal, target: Target) -> Floats:
    steps = found.points.steps
    reached = np.isfinite(steps)
    values = np.minimum(np.log(np.where(reached, steps, 1.0) / found.steps), _SLOWEST)
    shortfall = np.abs(found.points.rows["best_value"].to_numpy(dtype=float, na_value=np.nan) - target.threshold)
    far = np.where(np.isinf(found.points.longer_than), np.inf, np.nan_to_num(shortfall, nan=np.inf))
    missed = np.flatnonzero(~reached)
    order = missed[np.argsort(far[missed], kind="stable")]
    values[order] = _SLOWEST + _UNREACHED * (1 + np.arange(len(order))) / max(1, len(order))
    return np.asarray(values)


def _chosen(places: npt.NDArray[np.intp], values: Floats) -> npt.NDArray[np.intp]:
    if len(places) <= MOST:
        return places
    ordered = places[np.argsort(values[places], kind="stable")]
    fast, slow = ordered[: MOST // 3], ordered[MOST // 3 :]
    even = slow[np.linspace(0, len(slow) - 1, MOST - len(fast)).astype(int)]
    return np.sort(np.concatenate([fast, even]))


def _fanova(columns: pd.DataFrame, distributions: dict[str, Any], values: Floats, seed: int) -> dict[str, float]:
    from optuna import create_study, create_trial
    from optuna.importance import FanovaImportanceEvaluator, get_param_importances

    study = create_study()
    for params, value in zip(columns.to_dict("records"), values.tolist(), strict=True):
        named = {str(name): each for name, each in params.items()}
        study.add_trial(create_trial(params=named, distributions=distributions, value=value))
    evaluator = FanovaImportanceEvaluator(n_trees=_TREES, max_depth=_DEPTH, seed=seed)
    found = get_param_importances(study, evaluator=evaluator, params=list(distributions))
    return {name: float(value) for name, value in found.items()}


@contextmanager
def _quiet() -> Iterator[None]:
    """Optuna announces every study that it creates, and warns of zero variance; neither is news here."""
    import warnings

    import optuna

    before = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        optuna.logging.set_verbosity(before)
