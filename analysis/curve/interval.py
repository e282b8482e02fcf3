"""The interval of b_crit, whether the points bend away from the curve, and which numbers the data determine."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import special

from bcrit.analysis.curve.hyperbola import Hyperbola
from bcrit.analysis.curve.likelihood import EXACT, Matrix, PowerSum, Profile
from bcrit.analysis.curve.table import Study
from bcrit.analysis.numbers import Floats, t_quantile

FALSE_ALARM_RATE = 0.05
"""Share of true hyperbolas that are flagged; measured 3 to 7 % for 5 to 11 studies and 3 or 10 % noise."""

NEGLIGIBLE = 0.005
"""A curve that misses the points by less than this (rms of log S) is never flagged: steps to target are known to about
1 % at best (evaluation interval), so the bend would be real but without consequence. Chosen, not studied."""


@dataclass(frozen=True)
class Bend:
    """The points' departure from the hyperbola in the direction in which its knee sharpens."""

    coefficient: float  # estimate of p - 1 by the linearised p-norm; at a limit of the curve the slope left in log B
    share_left: float  # residual sum of squares with the bend over that without, in [0, 1]
    freedom: int  # degrees of freedom with the bend, at least one

    @property
    def p_value(self) -> float:
        """Upper tail of F(1, f) at F = f (1 - s) / s, s being the share left, without a division by s."""
        return float(special.betainc(self.freedom / 2, 0.5, self.share_left))


def directions(log_batch: Floats, u: float) -> tuple[Floats, Floats]:
    """Derivatives of log S at the hyperbola: with respect to (log s_min, log e_min), and to p of the p-norm."""
    knee = PowerSum()
    share = knee.slope(log_batch, u)
    return np.stack([1 - share, share], axis=-1), knee.bending(log_batch, u)


def bend(log_batch: Floats, residuals: Floats, u: float) -> Bend | None:
    """Regress the residuals on the p-norm's next parameter.

    The derivative of log S with respect to p is freed of those with respect to (log s_min, log e_min). At the limits of
    the curve (flat, or perfect scaling) the added variable is log B: it finds steps that rise with B, or fall faster
    than 1/B.
    """
    model, added = directions(log_batch, u) if math.isfinite(u) else (np.ones((len(log_batch), 1)), log_batch)
    freedom = len(log_batch) - model.shape[1] - 1
    if freedom < 1:
        return None
    # Columns of very different length are one direction only; scaled, they are two.
    basis, _ = np.linalg.qr(model / np.linalg.norm(model, axis=0))
    added, rest = (vector - basis @ (basis.T @ vector) for vector in (added, residuals))
    total, length, along = float(rest @ rest), float(added @ added), float(added @ rest)
    if total * length == 0:
        return Bend(0.0, 1.0, freedom)
    return Bend(along / length, max(1 - along**2 / (total * length), 0.0), freedom)


def lack_of_fit(found: Bend | None, rms_log_residual: float) -> bool:
    """The flag: an added-variable F test of p = 1, at `FALSE_ALARM_RATE`, and a misfit that is not `NEGLIGIBLE`.

    F(1, n - 3) compares what the bend explains with what it leaves. Fitting p and comparing the two sums of squares has
    the same power (0.81 against 0.80 for p = 1.4, six studies, 3 % noise), but this form needs no second search and
    keeps the F distribution where p is hardly determined. Share of 250 simulated curves that is flagged, on 5, 8 and 11
    batch sizes from b_crit / 16 to 8 b_crit:

        truth                                3 % noise          10 % noise
        hyperbola (false alarms)             .06  .06  .04      .07  .06  .05
        p = 1.4                              .55  .97  1.0      .10  .20  .26
        p = 2                                .87  1.0  1.0      .24  .59  .78
        p = 0.6                              .77  1.0  1.0      .16  .36  .56
        steps fall as B^-1.2 at small B      .20  1.0  1.0      .22  .48  .68
        steps rise as B^0.1 at large B       .25  .71  .86      .07  .14  .16

    Unreached studies do not join: their bounds lie far below the curve, which says nothing about its bend.
    """
    return found is not None and found.p_value < FALSE_ALARM_RATE and rms_log_residual > NEGLIGIBLE


BEND_FREEDOM = 2
"""With so many degrees of freedom beside a bend, the scatter is what the bend leaves. With one, Student's t would be
12.7 and the interval of a true hyperbola five times as wide as it must be (simulated; see `interval`)."""


@dataclass(frozen=True)
class Squared:
    """The squared t-statistic of log b_crit: its level sets are the interval, at every level.

    t^2(u) = f / share (exp((deviance(u) - deviance(best)) / m) - 1); with all m studies reached the bracket is RSS(u) /
    RSS(best) - 1. Where unreached studies leave the estimate between `best` and `best` + `shift`, t^2 is 0 on all of
    that stretch and continues from its ends. Beside it stands ((u - best) / least)^2 of the evaluation grid.
    """

    profile: Profile  # the likelihood, with three reached studies or more
    best: float  # its minimum; -inf and inf are the limits of the curve
    degrees: int  # f, of the scatter (`freedom`)
    share: float = 1.0  # of the residual sum of squares that is scatter, the rest being a bend
    shift: float = 0.0  # how far the estimate of all batch sizes may lie from `best` (`carried`)
    # Standard deviation of log b_crit that the evaluation grid leaves at least; 0 where it is not known.
    least: float = 0.0

    @classmethod
    def of(cls, profile: Profile, best: float, bend: Bend | None = None, least: float = 0.0) -> Squared:
        """From what was fitted; the bend counts where there are studies enough for it."""
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
        """The interval; see `interval`."""
        half = float(special.ndtri((1 + level) / 2)) * self.least
        if self.exact:
            return self.best - half, self.best + half
        m, quantile = int(self.profile.reached.sum()), t_quantile(self.degrees, level)
        low, high = self.profile.ends(self.best, m * math.log1p(quantile**2 * self.share / self.degrees))
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
    batch sizes that were tried; other readings of a sharp knee are in `landmarks.definitions`.

    Coverage of 95 % intervals over hyperbola, p-norm (p = 1.4) and noisy quadratic model, 5 to 11 batch sizes from
    b_crit / 16 to 8 b_crit, 3 and 10 % noise (the cells of `benchmarks/coverage.py`, 400 studies each, standard error
    1.1 %): 94.5 to 97.5 % with all reached; with the small batch sizes unreached 94.5 to 99.8 %, above 98 % in four of
    18 cells: 3 % noise and a knee that is no hyperbola's, where the interval is extended on one side (p = 1.4: 99.5,
    98.0 and 98.5 %, noisy quadratic model: 99.8, 95.3 and 99.3 % for 5, 8 and 11 sizes). Without these two rules it was
    92 to 100 and 87 to 100 % (200 studies a cell). The price is paid with five batch sizes, where the degree of freedom
    counts: at 10 % noise their median ratio of the two ends is 2.9 instead of 2.3; at 3 % it is 1.37 instead of 1.28.
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
    """
    if reached.all():
        return 0.0
    model, added = directions(log_batch, u)
    everywhere, where_reached = np.linalg.pinv(model) @ added, np.linalg.pinv(model[reached]) @ added[reached]
    moved = everywhere - where_reached
    return float(moved[1] - moved[0])


def rounding(used: Sequence[Study]) -> float:
    """The least standard deviation that log S can have: a crossing lies anywhere between two evaluations.

    Uniform on an interval of width w, S has the standard deviation w / sqrt(12); the root mean square of its share of S
    over the reached studies is returned, 0 where the table does not say how often was evaluated.
    """
    shares = [(study.resolution or 0.0) / study.steps for study in used if study.steps is not None]
    return math.sqrt(sum(share**2 for share in shares) / len(shares) / 12)


def grid_spread(used: Sequence[Study], covariance: Matrix | None, sigma: float | None) -> float:
    """The least standard deviation that log b_crit = log e_min - log s_min can have, from that of log S (`rounding`).

    Points may lie on a curve by luck; b_crit is no better known than evaluations let S be.
    """
    if covariance is None or not sigma:
        return 0.0
    (ss, se), (_, ee) = covariance
    return rounding(used) * math.sqrt(max(ss + ee - 2 * se, 0.0)) / sigma


WIDEST = 10.0
"""A number whose interval is wider than this ratio is not identified: its decade is unknown. Chosen, not studied."""

REACH = 1.5
"""The batch sizes must come within this factor of b_crit from the side that a number is read from, so that at least two
fifths of S (for s_min) or of E (for e_min) is the number itself and not extrapolation. Chosen by simulation (6 and 8
batch sizes a factor 2 apart, 3 and 10 % noise): of true hyperbolas whose largest batch size is b_crit, 82 to 100 % are
identified; where it is b_crit / 2, 0 to 17 % (28 to 51 % at a factor 2, which is a coin's toss there); where it is
b_crit / 4, 0 to 2 %; where it is b_crit / 8 or less, at most 1.5 % even at 20 % noise."""


def identify(
    curve: Hyperbola,
    b_crit_interval: tuple[float, float],
    log_half_widths: tuple[float, float],
    reached: tuple[float, float],
) -> Mapping[str, bool]:
    """Apply two rules: an interval closed on the side that matters and not too wide, and batch sizes that reach.

    s_min lies beyond the largest batch sizes, e_min beyond the smallest. If b_crit's interval is open above, then
    s_min = 0 (perfect scaling) fits as well; if it is open below, e_min = 0 (flat) does. b_crit = e_min / s_min needs
    both. Half widths are those of the intervals of (log s_min, log e_min), and 0 and inf are open ends.
    """
    low, high = b_crit_interval
    smallest, largest = reached
    widest = math.log(WIDEST)
    s_min = high < math.inf and 2 * log_half_widths[0] < widest and largest * REACH >= curve.b_crit
    e_min = low > 0 and 2 * log_half_widths[1] < widest and smallest <= REACH * curve.b_crit
    return {"s_min": s_min, "e_min": e_min, "b_crit": s_min and e_min and high < WIDEST * low}
