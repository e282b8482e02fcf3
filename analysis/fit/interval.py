"""The interval of log b_crit."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt
from scipy import optimize, special

from analysis.fit.lack_of_fit import Bend, directions
from analysis.fit.profile import EXACT, Profile

Floats = npt.NDArray[np.float64]

BEND_FREEDOM = 2
"""With so many degrees of freedom beside a bend, the scatter is what the bend leaves. With one, Student's t would be
12.7 and the interval of a true hyperbola five times as wide as it must be (simulated; see `interval`)."""


def interval(profile: Profile, best: float, level: float, bend: Bend | None = None) -> tuple[float, float]:
    """Find the ends of { u : deviance(u) - deviance(best) <= m log(1 + t^2 share / f) }.

    t is Student's quantile with f degrees of freedom and m the number of reached studies. With all studies reached the
    rule is RSS(u) <= RSS(best) + t^2 s^2 with s^2 = share RSS(best) / f. It is the profile rather than the Wald
    interval of log b_crit because only the profile says that an end is open where the data hardly reach b_crit.
    Unreached studies add likelihood but no degree of freedom.

    s is the scatter of the points about the curve: the spread over seeds does not show how far each search stayed from
    its optimum (intervals from pure error covered 13 to 74 %, search-cost study, section 3). A knee that is sharper
    than the hyperbola's is no scatter, though: it repeats from study to study. So from five reached studies on
    (f = m - 3, `BEND_FREEDOM`) the share of the residuals that a bend explains is taken out of s; below that, f = m - 2
    and share = 1, which covers 99 to 100 % where the knee is sharp.

    Where studies are unreached, the bend also moves the number itself: the hyperbola through the reached points is not
    the one through all of them (-8 to -16 % where the small batch sizes are missing). The interval is extended to the
    side on which the estimated bend puts the latter, see `carried`. So it is an interval for the hyperbola of *all*
    batch sizes that were tried; other readings of a sharp knee are in `analysis.fit.definitions`.

    Coverage of 95 % intervals over hyperbola, p-norm (p = 1.4) and noisy quadratic model, 5 to 11 batch sizes from
    b_crit / 16 to 8 b_crit, 3 and 10 % noise (`benchmarks/coverage.py`, 200 studies a cell): 93 to 98 % with all
    reached, 94 to 99 % with the small batch sizes unreached. Without these two rules it was 92 to 100 and 87 to 100 %.
    The price is paid with five batch sizes, where the degree of freedom counts: at 10 % noise their median ratio of the
    two ends is 2.8 instead of 2.3; at 3 % it is 1.36 instead of 1.28.

    Args:
        profile: the likelihood.
        best: its minimum.
        level: confidence, in (0, 1).
        bend: of the reached studies; None with too few.

    Returns:
        (low, high) of log b_crit; -inf and inf where an end is open, and both where m < 3.
    """
    m = int(profile.reached.sum())
    if m < 3:
        return -math.inf, math.inf
    if float(profile.solve(best)[1]) < EXACT:
        return best, best
    bent = bend if math.isfinite(best) and freedom(m) == m - 3 else None
    share = 1.0 if bent is None else bent.share_left
    left = m - 2 if bent is None else m - 3
    quantile = float(special.stdtrit(left, (1 + level) / 2))
    low, high = _ends(profile, best, m * math.log1p(quantile**2 * share / left))
    if bent is None:
        return low, high
    shift = bent.coefficient * carried(profile.log_batch, profile.reached, best)
    return low + min(shift, 0.0), high + max(shift, 0.0)


def freedom(m: int) -> int:
    """Degrees of freedom of the interval of b_crit with m reached studies: beside a bend where there are enough."""
    return m - 3 if m - 3 >= BEND_FREEDOM else m - 2


def carried(log_batch: Floats, reached: npt.NDArray[np.bool_], u: float) -> float:
    """How far log b_crit of the fit to all batch sizes lies from that of the reached ones, for a bend of one.

    With log S = J theta + bend q, q being the derivative with respect to p, the fit to some rows gives theta + bend
    (J'J)^-1 J'q of these rows; the difference of the two, read at log e_min - log s_min, is the answer. 0 where all are
    reached.

    Args:
        log_batch: log batch size of all studies; (n,).
        reached: which; (n,).
        u: log b_crit, finite.
    """
    if reached.all():
        return 0.0
    model, added = directions(log_batch, u)
    everywhere, where_reached = np.linalg.pinv(model) @ added, np.linalg.pinv(model[reached]) @ added[reached]
    moved = everywhere - where_reached
    return float(moved[1] - moved[0])


def _ends(profile: Profile, best: float, allowed: float) -> tuple[float, float]:
    """Where the deviance is `allowed` above its minimum, outermost."""
    threshold = float(profile.deviance(best)) + allowed

    def excess(u: float) -> float:
        return float(profile.deviance(u)) - threshold

    grid, deviance = profile.scan
    outside = profile.deviance([-math.inf, best, math.inf])
    points, order = np.unique([-math.inf, best, math.inf, *grid], return_index=True)
    inside = np.flatnonzero(np.concatenate([outside, deviance])[order] <= threshold)
    first, last = int(inside[0]), int(inside[-1])
    # Beyond the grid the curve is its limit, so an end that is not within the grid is open.
    low = -math.inf if first < 2 else float(optimize.brentq(excess, points[first - 1], points[first]))
    high = math.inf if last > len(points) - 3 else float(optimize.brentq(excess, points[last], points[last + 1]))
    return low, high
