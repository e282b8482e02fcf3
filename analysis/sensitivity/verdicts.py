"""Whether a hyperparameter matters: are the near-optimal points closer together in it than the search as a whole?"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Literal

import numpy as np
import numpy.typing as npt
from scipy import special

from bcrit.analysis.optimum.coordinates import values_of
from bcrit.analysis.optimum.near_optimal import NearOptimal

Floats = npt.NDArray[np.float64]
Mask = npt.NDArray[np.bool_]
Kind = Literal["sensitive", "insensitive", "not known"]

LEVEL: Final = 0.01
"""A study's verdict is `sensitive` below this p-value. The search steps around its best point, which draws near-optimal
trials together in what does not matter too: of 100 verdicts on a hyperparameter without any effect 15 fell below 0.05
and 1 below 0.01 (simulated, 40 trials, 10 % seed noise), of those on the learning rate 70."""

LEVEL_OVERALL: Final = 0.001
"""The same for the combined verdict of a run of five studies: without effect 7 of 20 below 0.05, 0 below 0.001."""

SPANS: Final = 0.5
"""Insensitive: near-optimal points lie over this share of the box (5th to 95th percentile) or more, as in the boundary
rule's `flat`."""

FEWEST: Final = 5
"""Near-optimal points below which nothing is called insensitive, as in the boundary rule."""

_NEAR = 4  # a random set takes each point from this many places before or after, or an eighth of the search. Chosen.
_DRAWS = 1999  # random sets: the p-value is a multiple of 1/2000, so that one study can pass the overall level
_MOST = 1000  # points that are tested; more are thinned evenly. Chosen.


@dataclass(frozen=True)
class Verdict:
    """Whether one hyperparameter matters in one study, or over all.

    Attributes:
        kind: sensitive, insensitive or not known.
        p_value: probability that so many random points of the study lie as close together as the near-optimal ones;
            None with fewer than two.
        n: near-optimal points.
        span: share of the box from the 5th to the 95th percentile of the near-optimal points, or share of the options
            among them; over all studies its median.
    """

    kind: Kind
    p_value: float | None
    n: int
    span: float


def study_verdicts(found: NearOptimal, seed: int = 0) -> dict[str, Verdict]:
    """Judge every hyperparameter of one study.

    Sensitive: the near-optimal points lie closer together (standard deviation in the scaled coordinate; share of the
    most frequent option) than all but 1 % of equally large random sets do. Such a set has points that were drawn at
    about the same time: comparing with the search and not with the box allows for a search that draws points together.
    Insensitive: that is not so, and the near-optimal points span the box. Not known otherwise: mostly too few points.

    Args:
        found: the study.
        seed: of the random sets.

    Returns:
        Verdicts by hyperparameter, `effective_lr` first where there is one.
    """
    rng, verdicts = np.random.default_rng(seed), {}
    if not found.reached:
        return {}
    for coordinate in found.axes.coordinates:
        unit = coordinate.unit(values_of(found.points.rows, coordinate.name))
        here = np.flatnonzero(np.isfinite(unit))
        here = here[:: max(1, -(-len(here) // _MOST))]
        members = unit[here][found.inside[here]]
        span = float(np.subtract(*np.quantile(members, [0.95, 0.05]))) if len(members) else 0.0
        verdicts[coordinate.name] = _verdict(_spread_test(unit[here], found.inside[here], rng), len(members), span)
    for name, options in found.axes.choices.items():
        here = np.arange(0, len(found.inside), max(1, -(-len(found.inside) // _MOST)))
        codes = np.array(
            [options.index(o) if o in options else -1 for o in found.points.rows[name].astype(str).iloc[here]]
        )
        members = codes[found.inside[here]]
        span = len(np.unique(members)) / len(options)
        kind = _verdict(_option_test(codes, found.inside[here], rng), len(members), span if span == 1 else 0.0)
        verdicts[name] = Verdict(kind.kind, kind.p_value, kind.n, span)
    return verdicts


def overall_verdicts(by_study: Sequence[Mapping[str, Verdict]]) -> dict[str, Verdict]:
    """Judge every hyperparameter over all studies: p-values combined by Fisher's method.

    Sensitive where the combined p-value is below `LEVEL_OVERALL`; insensitive where it is not and at least half of the
    studies say so; else not known.

    Args:
        by_study: verdicts of each study.

    Returns:
        Verdicts by hyperparameter.
    """
    found = {}
    for name in dict.fromkeys(name for verdicts in by_study for name in verdicts):
        mine = [verdicts[name] for verdicts in by_study if name in verdicts]
        values = [verdict.p_value for verdict in mine if verdict.p_value is not None]
        combined = float(special.chdtrc(2 * len(values), -2 * sum(map(math.log, values)))) if values else None
        most = 2 * [verdict.kind for verdict in mine].count("insensitive") >= len(mine)
        kind: Kind = (
            "sensitive" if combined is not None and combined < LEVEL_OVERALL else "insensitive" if most else "not known"
        )
        span = float(np.median([verdict.span for verdict in mine]))
        found[name] = Verdict(kind, combined, sum(verdict.n for verdict in mine), span)
    return found


def _verdict(p_value: float | None, n: int, span: float) -> Verdict:
    if p_value is not None and p_value < LEVEL:
        return Verdict("sensitive", p_value, n, span)
    return Verdict("insensitive" if n >= FEWEST and span >= SPANS else "not known", p_value, n, span)


def _sets(members: Mask, rng: np.random.Generator) -> npt.NDArray[np.int64]:
    """Random sets of points of about the same places in the search as the near-optimal ones; (draws, size)."""
    places, n = np.flatnonzero(members), len(members)
    reach = max(_NEAR, n // 8)
    moved = places + rng.integers(-reach, reach, size=(_DRAWS, len(places)), endpoint=True)
    moved = np.abs(moved)  # reflected at the first and at the last trial
    return np.asarray(np.where(moved >= n, 2 * (n - 1) - moved, moved))


def _spread_test(unit: Floats, members: Mask, rng: np.random.Generator) -> float | None:
    if members.sum() < 2 or members.all():
        return None
    spreads = unit[_sets(members, rng)].std(-1)
    return float(1 + (spreads <= unit[members].std()).sum()) / (_DRAWS + 1)


def _option_test(codes: npt.NDArray[np.int64], members: Mask, rng: np.random.Generator) -> float | None:
    if members.sum() < 2 or members.all():
        return None
    drawn = codes[_sets(members, rng)]
    options = np.unique(codes)
    most = np.max([(drawn == option).sum(-1) for option in options], axis=0)
    own = max(int((codes[members] == option).sum()) for option in options)
    return float(1 + (most >= own).sum()) / (_DRAWS + 1)


__all__ = ["FEWEST", "LEVEL", "LEVEL_OVERALL", "SPANS", "Verdict", "overall_verdicts", "study_verdicts"]
