"""The interval of log b_crit, and the statistic behind it."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import optimize, special

from bcrit.analysis.fit.lack_of_fit import Bend, directions
from bcrit.analysis.fit.profile import EXACT, Profile

Floats = npt.NDArray[np.float64]

BEND_FREEDOM = 2
"""With so many degrees of freedom beside a bend, the scatter is what the bend leaves. With one, Student's t would be
12.7 and the interval of a true hyperbola five times as wide as it must be (simulated; see `interval`)."""


@dataclass(frozen=True)
class Squared:
    """The squared t-statistic of log b_crit: its level sets are the interval, at every level.

    t^2(u) = f / share (exp((deviance(u) - deviance(best)) / m) - 1); with all m studies reached the bracket is RSS(u) /
    RSS(best) - 1. Where unreached studies leave the estimate between `best` and `best` + `shift`, t^2 is 0 on all of
    that stretch and continues from its ends. Beside it stands ((u - best) / least)^2 of the evaluation grid.

    Attributes:
        profile: the likelihood, with three reached studies or more.
        best: its minimum; -inf and inf are the limits of the curve.
        degrees: f, of the scatter (`freedom`).
        share: of the residual sum of squares that is scatter, the rest being a bend.
        shift: how far the estimate of all batch sizes may lie from `best` (`carried`).
        least: standard deviation of log b_crit that the evaluation grid leaves at least; 0 where it is not known.
    """

    profile: Profile
    best: float
    degrees: int
    share: float = 1.0
    shift: float = 0.0
    least: float = 0.0

    @classmethod
    def of(cls, profile: Profile, best: float, bend: Bend | None = None, least: float = 0.0) -> Squared:
        """From what was fitted; the bend counts where there are studies enough for it.

        Args:
            profile: the likelihood.
            best: its minimum.
            bend: of the reached studies; None with too few.
            least: as the attribute.
        """
        m = int(profile.reached.sum())
        if not math.isfinite(best):
            return cls(profile, best, m - 2)
        if bend is None or freedom(m) == m - 2:
            return cls(profile, best, m - 2, least=least)
        shift = bend.coefficient * carried(profile.log_batch, profile.reached, best)
        return cls(profile, best, m - 3, bend.share_left, shift, least)

    @property
    def exact(self) -> bool:
        """Whether the points lie on the curve to rounding, so that there is no scatter to compare with."""
        return float(self.profile.solve(self.best)[1]) < EXACT

    def by_scatter(self, u: Floats) -> Floats:
        """t^2 with `degrees` degrees of freedom; shape of `u`."""
        back = np.clip(self.best, u - max(self.shift, 0.0), u - min(self.shift, 0.0))
        rise = self.profile.deviance(back) - float(self.profile.deviance(self.best))
        m = int(self.profile.reached.sum())
        # A bend may explain all: then the least share that a float divides by.
        return self.degrees / max(self.share, 1e-300) * np.expm1(np.clip(rise / m, 0.0, 500.0))

    def by_grid(self, u: Floats) -> Floats:
        """t^2 of the evaluation grid, whose error is known: normal; shape of `u`."""
        return ((u - self.best) / max(self.least, EXACT)) ** 2

    @property
    def forms(self) -> tuple[tuple[Callable[[Floats], Floats], float], ...]:
        """What can be tested, with its degrees of freedom; a value is refused where all refuse it.

        None are left where exact points lie on a limit of the curve: then nothing is known of how far b_crit is.
        """
        scatter = () if self.exact else ((self.by_scatter, float(self.degrees)),)
        grid = math.isfinite(self.best) and (self.exact or self.least > 0)
        return (*scatter, (self.by_grid, math.inf)) if grid else scatter

    def ends(self, level: float) -> tuple[float, float]:
        """The interval; see `interval`.

        Args:
            level: confidence, in (0, 1).
        """
        half = float(special.ndtri((1 + level) / 2)) * self.least
        if self.exact:
            return self.best - half, self.best + half
        m, quantile = int(self.profile.reached.sum()), float(special.stdtrit(self.degrees, (1 + level) / 2))
        low, high = _ends(self.profile, self.best, m * math.log1p(quantile**2 * self.share / self.degrees))
        low, high = low + min(self.shift, 0.0), high + max(self.shift, 0.0)
        return (min(low, self.best - half), max(high, self.best + half)) if half > 0 else (low, high)


def interval(
    profile: Profile, best: float, level: float, bend: Bend | None = None, least: float = 0.0
) -> tuple[float, float]:
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
    batch sizes that were tried; other readings of a sharp knee are in `bcrit.analysis.fit.definitions`.

    Coverage of 95 % intervals over hyperbola, p-norm (p = 1.4) and noisy quadratic model, 5 to 11 batch sizes from
    b_crit / 16 to 8 b_crit, 3 and 10 % noise (the cells of `benchmarks/coverage.py`, 400 studies each, standard error
    1.1 %): 94.5 to 97.5 % with all reached; with the small batch sizes unreached 94.5 to 99.8 %, above 98 % in four of
    18 cells: 3 % noise and a knee that is no hyperbola's, where the interval is extended on one side (p = 1.4: 99.5,
    98.0 and 98.5 %, noisy quadratic model: 99.8, 95.3 and 99.3 % for 5, 8 and 11 sizes). Without these two rules it was
    92 to 100 and 87 to 100 % (200 studies a cell). The price is paid with five batch sizes, where the degree of freedom
    counts: at 10 % noise their median ratio of the two ends is 2.9 instead of 2.3; at 3 % it is 1.37 instead of 1.28.

    Args:
        profile: the likelihood.
        best: its minimum.
        level: confidence, in (0, 1).
        bend: of the reached studies; None with too few.
        least: standard deviation of log b_crit that the evaluation grid leaves at least
            (`bcrit.analysis.fit.estimate.grid_spread`); the interval is never narrower.

    Returns:
        (low, high) of log b_crit; -inf and inf where an end is open, and both where m < 3.
    """
    m = int(profile.reached.sum())
    if m < 3:
        return -math.inf, math.inf
    return Squared.of(profile, best, bend, least).ends(level)


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
