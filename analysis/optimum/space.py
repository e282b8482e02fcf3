"""What share of its search space a study's near-optimal set fills, and how much each hyperparameter explains.

Trials are not spread evenly: the search draws them to where it is good, so that the share of near-optimal trials says
nothing of the space. The Sobol start is even, but twelve points see nothing smaller than a twelfth. So the volume is
read off all points, in two ways that err on opposite sides:

* cells: every place belongs to its nearest point (Voronoi cells). Too large in many dimensions, where the outermost
  near-optimal point owns much of the space behind it;
* surface: log(steps / limit) is interpolated by radial basis functions and the volume below 0 counted. Too small where
  points are few.

On bowls in one, two and four dimensions, with 45 trials of which most are steps around the best so far and none is cut
off, the surface missed the share by 0.005 to 0.12 (root mean square; seed noise 2 and 10 %), the cells by 0.03 to 0.15,
the Sobol start of 12 alone by 0.05 to 0.12 whatever the share. The estimate is the mean of cells and surface; the
interval holds both and the surface's 95 % interval (a jackknife), and covered the truth in 88 to 100 % of 25 runs each.

How much of the variation in steps each hyperparameter explains is functional ANOVA (Hutter et al. 2014), by Optuna.
"""

import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import pandas as pd
from scipy.stats import qmc

from bcrit.analysis.numbers import Estimate, Floats, Scale
from bcrit.analysis.optimum.coordinates import StudyAxes, between
from bcrit.analysis.optimum.near_optimal import Mask, NearOptimal, evenly
from bcrit.search_spaces.target import Target

Codes = npt.NDArray[np.int64]

FEWEST = 8
"""Points of known place below which no share is given; chosen."""

_DRAWS = 512  # places at which the volume is counted; 45 points know it less well than these. Chosen.
_CLIP = (-0.3, 0.5)  # log(steps / limit) beyond these says no more; keeps one bad point from bending the surface
_SMOOTHING = 0.03  # of the surface; 0.01 to 0.1 differ by less than 0.01 in the share
_GROUPS = 8  # of the jackknife
_MOST = 1000  # points used; more are thinned evenly: 14,000 on a bowl still gave its share to 0.01
_ABSENT = 0.5  # a hyperparameter that an option does not have stands in the middle, so that it separates nothing
_APART = 2**-0.5  # one-hot columns of this size put two options as far apart as the two ends of a box


def near_optimal_share(found: NearOptimal) -> Estimate:
    """The near-optimal share of one study's space, in [0, 1]; no value, and 0 to 1, where too little is known.

    Points that were cut off count as worse at its low end; at its high end they are left out, so that what is known
    around them decides.
    """
    known = found.inside | found.worse
    nothing = Estimate(None, 0.0, 1.0)
    if not found.reached or known.sum() < FEWEST:
        return nothing
    points, draws = embed(found, _DRAWS)
    if not points.shape[1]:
        return nothing
    keep = np.asarray(np.isfinite(points).all(-1))
    if (known & keep).sum() < FEWEST:
        return nothing
    heights = _heights(found)
    cut = _estimate(points, draws, heights, found.inside, keep)
    left_out = cut if known[keep].all() else _estimate(points, draws, heights, found.inside, keep & known)
    return Estimate((cut[0] + left_out[0]) / 2, min(cut[1], left_out[1]), max(cut[2], left_out[2]))


def _heights(found: NearOptimal) -> Floats:
    """log(steps / limit) of every point, clipped; the upper clip where it is only known, or taken, to be worse."""
    with np.errstate(invalid="ignore"):
        height = np.log(found.points.steps / found.limit)
    height = np.where(np.isfinite(height), height, _CLIP[1])
    height = np.where(found.inside, np.minimum(height, 0.0), height)
    return np.clip(height, *_CLIP)


def _estimate(points: Floats, draws: Floats, heights: Floats, inside: Mask, keep: Mask) -> tuple[float, float, float]:
    """(mean of both estimates, low, high) from some of the points."""
    use = evenly(np.flatnonzero(keep), _MOST)
    points, heights = points[use], heights[use]
    surface, cells = _surface(points, heights, draws), _cells(points, inside[use], draws)
    group = np.arange(len(use)) % min(_GROUPS, len(use))  # points stand in the order in which they were drawn
    parts = [_surface(points[group != g], heights[group != g], draws) for g in range(group.max() + 1)]
    # Log odds are finite at least half a draw away from none and from all.
    whole, *without = np.clip([surface, *parts], 0.5 / _DRAWS, 1 - 0.5 / _DRAWS).tolist()
    found = Estimate.jackknife(whole, without, scale=Scale.LOGIT)
    low, high = 0.0 if found.low is None else found.low, 1.0 if found.high is None else found.high
    return (surface + cells) / 2, min(low, surface, cells), max(high, surface, cells)


def _cells(points: Floats, inside: Mask, draws: Floats) -> float:
    from scipy.spatial import cKDTree

    _, nearest = cKDTree(points).query(draws)
    return float(inside[nearest].mean())


def _surface(points: Floats, heights: Floats, draws: Floats) -> float:
    from scipy.interpolate import RBFInterpolator

    if len(points) < 2:
        return float((heights <= 0).mean())
    # A linear kernel over a constant is solvable wherever the points lie, on a plane of few options too.
    surface = RBFInterpolator(points, heights, kernel="linear", degree=0, smoothing=_SMOOTHING)
    return float((surface(draws) <= 0).mean())


def embed(found: NearOptimal, n_draws: int, seed: int = 0) -> tuple[Floats, Floats]:
    """A study's points (n, d) and scrambled Sobol draws of its space (m, d) in the same columns of one cube.

    Draws are uniform in the scaled coordinates, every option of a choice equally often; m is a power of 2. A point one
    of whose active hyperparameters is not known has NaN there. There are no columns where nothing was searched.
    """
    axes, n, numeric = found.axes, len(found.points.rows), len(found.axes.numeric)
    uniform = qmc.Sobol(max(1, numeric + len(axes.choices)), rng=np.random.default_rng(seed)).random(n_draws)
    codes = {name: found.codes(name) for name in axes.choices}
    drawn = {
        name: (uniform[:, place] * len(options)).astype(np.int64)
        for place, (name, options) in enumerate(axes.choices.items(), numeric)
    }
    columns, draws = [np.empty((n, 0))], [np.empty((n_draws, 0))]
    for place, coordinate in enumerate(axes.numeric):
        unit, even = coordinate.unit(found.values(coordinate)), uniform[:, place]
        if coordinate.conditional:
            unit = np.where(_active(axes, coordinate.name, codes, n), unit, _ABSENT)
            even = np.where(_active(axes, coordinate.name, drawn, n_draws), even, _ABSENT)
        columns.append(unit[:, None])
        draws.append(even[:, None])
    for name, options in axes.choices.items():
        places = np.arange(len(options))
        columns.append(_APART * (codes[name][:, None] == places))
        draws.append(_APART * (drawn[name][:, None] == places))
    return np.hstack(columns), np.hstack(draws)


def _active(axes: StudyAxes, name: str, codes: dict[str, Codes], n: int) -> Mask:
    choice, under = axes.parents[name]
    places = [place for place, option in enumerate(axes.choices.get(choice, ())) if option in under]
    return np.isin(codes[choice], places) if choice in codes else np.ones(n, dtype=bool)


FEWEST_POINTS: Final = 30
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
_PARTS = 4  # of the jackknife


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
    elif len(places) < FEWEST_POINTS or reached < FEWEST_REACHED:
        needed = f"{FEWEST_POINTS} points, {FEWEST_REACHED} of which reached the target, are needed"
        why = f"{needed}, but there are {len(places)} and {reached}"
    if why is not None:
        return Importances({}, len(places), left_out, why)
    values = _costs(found, target)
    places = _chosen(places, values)
    columns, values, groups = columns.iloc[places], values[places], np.arange(len(places)) % _PARTS
    with _quiet():
        whole = _fanova(columns, distributions, values, seed)
        parts = [_fanova(columns[groups != g], distributions, values[groups != g], seed) for g in range(_PARTS)]
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


def _costs(found: NearOptimal, target: Target) -> Floats:
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
