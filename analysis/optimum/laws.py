"""Laws by which an optimum may move with the batch size: their fit, which the data allow and which they prefer.

Every law is log y = a + g x(log B; u): a level a, an exponent g that is fixed, bounded or free, and where the law has a
knee its place u = log B_n. At one exponent it is a curve of `bcrit.analysis.curve.likelihood`, whose fit is global; the
knees that it allows give the intervals of every parameter and of the law itself.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, Final, Literal

import numpy as np
import numpy.typing as npt
from scipy import optimize, special

from bcrit.analysis.curve.likelihood import Profile, Shape, minimise
from bcrit.analysis.numbers import Estimate, Floats, straight_line, t_quantile

Kind = Literal["one", "several", "none", "too few"]


REACH: Final = 1e3
"""The knee is sought up to this factor beyond the batch sizes of the data; further out none is seen. Chosen."""

_KNEES, _EXPONENTS = 160, 21  # points of the knee's interval, and exponents between their bounds
_EXACT = 1e-6  # residuals of log y below this are rounding: a law that holds exactly


@dataclass(frozen=True)
class Law:
    """One law."""

    name: str  # its key in tables and JSON
    formula: str  # in words of the glossary, y standing for the hyperparameter
    shape: Literal["power", "saturating", "surge"]  # x(log B; u)
    exponents: tuple[float, float]  # (lowest, highest) g; equal where it is fixed, infinite where it is free
    source: str  # who proposed it
    words: str  # what it says of a hyperparameter

    @property
    def has_knee(self) -> bool:
        """Whether it has a B_n."""
        return self.shape != "power"

    @property
    def free_exponent(self) -> bool:
        """Whether the exponent is fitted."""
        return self.exponents[0] < self.exponents[1]

    @property
    def n_parameters(self) -> int:
        """Level, exponent and knee, as far as they are fitted."""
        return 1 + self.has_knee + self.free_exponent

    def x(self, log_batch: npt.ArrayLike, u: npt.ArrayLike) -> Floats:
        """What the exponent multiplies; shapes broadcast."""
        log_b, knee = np.asarray(log_batch, dtype=float), np.asarray(u, dtype=float)
        if self.shape == "saturating":
            return np.asarray(-np.logaddexp(0, knee - log_b))
        if self.shape == "surge":
            return np.asarray(-np.log(np.cosh((knee - log_b) / 2)))
        return np.asarray(log_b + 0 * knee)


@dataclass(frozen=True)
class _WithKnee(Shape):
    """A law that has a knee, at one exponent."""

    law: Law
    exponent: float
    reach: ClassVar[float] = REACH

    def offset(self, log_batch: Floats, u: npt.ArrayLike) -> Floats:
        return self.exponent * self.law.x(log_batch, np.asarray(u, dtype=float)[..., None])

    def slope(self, log_batch: Floats, u: float) -> Floats:
        z = u - log_batch
        return np.asarray(-special.expit(z) if self.law.shape == "saturating" else -np.tanh(z / 2) / 2) * self.exponent


LAWS: Final = (
    Law("none", "y = a", "power", (0.0, 0.0), "no scaling", "shows no change with the batch size"),
    Law("sqrt", "y = a B^0.5", "power", (0.5, 0.5), "square-root scaling (Krizhevsky 2014; Adam: Malladi et al. 2022)",
        "grows like the square root of the batch size"),
    Law("linear", "y = a B", "power", (1.0, 1.0), "linear scaling (Goyal et al. 2017)",
        "grows in proportion to the batch size"),
    Law("power", "y = a B^g", "power", (-math.inf, math.inf), "any power", "follows a power of the batch size"),
    Law("saturating", "y = y_max / (1 + B_n / B)", "saturating", (1.0, 1.0),
        "McCandlish et al. 2018, eq. 2.5; SGD and momentum",
        "grows in proportion to the batch size and levels off, y_max / (1 + B_n / B)"),
    Law("saturating_sqrt", "y = y_max / (1 + B_n / B)^0.5", "saturating", (0.5, 0.5),
        "McCandlish et al. 2018, eq. 2.5 with Adam's root",
        "grows like the square root of the batch size and levels off, y_max / (1 + B_n / B)^0.5"),
    Law("saturating_free", "y = y_max / (1 + B_n / B)^g", "saturating", (0.5, 1.0), "McCandlish et al. 2018, eq. A.3",
        "grows and levels off, y_max / (1 + B_n / B)^g"),
    Law("surge", "y = 2 y_max / ((B_n / B)^0.5 + (B / B_n)^0.5)", "surge", (1.0, 1.0), "Li et al. 2024, for Adam",
        "rises up to a batch size B_n and falls beyond"),
)  # fmt: skip
"""All laws for learning rates. The surge law rises like B^0.5 up to B_n and falls likewise beyond."""

PLAIN_LAWS: Final = tuple(law for law in LAWS if law.name in ("none", "power"))
"""Those for other hyperparameters."""

REJECT: Final = 0.05
"""A law is rejected where the near-optimal sets miss it with less than this probability."""

WORSE: Final = 0.95
"""A law that passes is set aside where it fits worse than the best-fitting one by more than an F test at this level
allows."""

FEWEST: Final = 4
"""Studies below which nothing is said: a line through three points leaves one degree of freedom. Chosen."""

_NARROWEST = 0.02  # half-width in log below which nothing is resolved: 2 %, the spacing of evaluations by default


@dataclass(frozen=True, eq=False)
class LawFit:
    """A law fitted to the studies of one run."""

    law: Law
    # By name: `y_max` (or `a`), `g`, `B_n`, as far as the law has them free. Without freedom they have no interval; a
    # knee is open where the data do not show it: its low end is then 0, its high end None.
    parameters: dict[str, Estimate]
    residuals: Floats  # log(y / law), one a study; (n,)
    sum_of_squares: float  # of residuals divided by half-widths
    aicc: float | None  # Akaike's criterion, small samples, normal scatter of a fitted scale; None: too few studies
    freedom: int  # studies minus parameters
    knees: Floats  # u of all (u, g, a) that the data allow, the best first; (m,)
    exponents: Floats  # their g; (m,)
    levels: Floats  # their a; (m,)
    slack: Floats  # how far a may be moved there within the interval; (m,)
    scatter: float  # standard deviation of one study about the law, at the median half-width; NaN without freedom

    @property
    def p_value(self) -> float | None:
        """Probability of missing the near-optimal sets by this much if the law holds; None without freedom."""
        return float(special.chdtrc(self.freedom, 3 * self.sum_of_squares)) if self.freedom > 0 else None

    @property
    def rejected(self) -> bool:
        """Whether the sets miss it."""
        return self.p_value is not None and self.p_value < REJECT

    def log_value(self, batch_size: npt.ArrayLike) -> Floats:
        """Log y on the law; shape of `batch_size`."""
        log_b = np.log(np.asarray(batch_size, dtype=float))
        return np.asarray(self.levels[0] + self.exponents[0] * self.law.x(log_b, self.knees[0]))

    def predict(self, batch_size: float) -> Estimate:
        """Y of a new study at a batch size: the law's uncertainty and the scatter of a study about it together.

        The batch size may lie outside of the studies; without freedom there is no interval.
        """
        middle = self.levels + self.exponents * self.law.x(math.log(batch_size), self.knees)
        value = float(middle[0])
        if self.freedom < 1:
            return Estimate(math.exp(value))
        beyond = t_quantile(self.freedom) * self.scatter
        low = value - math.hypot(value - float((middle - self.slack).min()), beyond)
        high = value + math.hypot(float((middle + self.slack).max()) - value, beyond)
        return Estimate(math.exp(value), math.exp(low), math.exp(high))


def fit_law(law: Law, log_batch: Floats, log_value: Floats, half_width: Floats) -> LawFit | None:
    """Fit a law by least squares, each study weighted by the inverse square of the half-width of its near-optimal set.

    The widths say how studies compare, not how far they scatter: that scale is estimated from the residuals, so that
    intervals are t intervals and a run whose best points are known better than their sets are wide is not punished.

    `log_value` is that of the middles of the sets, `half_width` half their width in log, above 0; each (n,). None with
    fewer studies than parameters.
    """
    n = len(log_batch)
    if n < law.n_parameters:
        return None
    weight, freedom = half_width**-2.0, n - law.n_parameters
    # Of the least sum of squares: the t interval's rule.
    allowed = 1 + t_quantile(freedom) ** 2 / freedom if freedom else 1.0

    if law.has_knee:
        u, g = _knees(law, log_batch, log_value, weight, n * math.log(allowed))
    else:
        g = _exponents(law, log_batch, log_value, weight)
        u = np.zeros(len(g))
    rest = log_value - g[:, None] * law.x(log_batch, u[:, None])
    level = (rest * weight).sum(-1) / weight.sum()
    squares = (weight * (rest - level[:, None]) ** 2).sum(-1)
    best = int(np.argmin(squares))
    least = float(squares[best])
    inside = np.flatnonzero(squares <= least * allowed * (1 + 1e-9)) if freedom else np.array([best])
    order = np.concatenate([[best], inside[inside != best]])
    slack = np.sqrt(np.maximum(least * allowed - squares[order], 0) / weight.sum())
    residuals = rest[best] - level[best]
    scatter = math.sqrt(least / freedom) * float(np.median(half_width)) if freedom else math.nan
    allowed_ones = u[order], g[order], level[order], slack
    aicc = _aicc(least, n, law.n_parameters)
    fit = LawFit(law, {}, residuals, least, aicc, freedom, *allowed_ones, scatter)
    fit.parameters.update(_parameters(fit, log_batch))
    return fit


def _exponents(law: Law, log_batch: Floats, log_value: Floats, weight: Floats) -> Floats:
    """The exponent of a power law; a free one and the places about it, out to the ends of its t interval exactly."""
    if not law.free_exponent:
        return np.array([law.exponents[0]])
    line = straight_line(log_batch, log_value, weight)
    if line.freedom < 1:
        return np.array([line.slope])
    reach = t_quantile(line.freedom) * line.slope_error() * (1 - 1e-12)  # the ends stay within the interval
    around = line.slope + np.concatenate([[0.0], np.linspace(-reach, reach, 201)])
    return np.asarray(np.round(around, 12) + 0.0)  # what is beyond is rounding, and minus 0 is 0


def _knees(law: Law, log_batch: Floats, log_value: Floats, weight: Floats, allowed: float) -> tuple[Floats, Floats]:
    """The best (u, g), and those whose deviance is no more than `allowed` above it, u finely at every exponent."""
    everywhere = np.ones(len(log_batch), dtype=bool)

    def at(g: float) -> tuple[float, float, Profile]:
        profile = Profile(log_batch, log_value, everywhere, _WithKnee(law, g), weight)
        u = minimise(profile)
        return float(profile.deviance(u)), u, profile

    exponents = np.linspace(*law.exponents, _EXPONENTS if law.free_exponent else 1)
    found = {float(g): at(float(g)) for g in exponents}
    if law.free_exponent:
        i = int(np.argmin([deviance for deviance, *_ in found.values()]))
        bounds = float(exponents[max(i - 1, 0)]), float(exponents[min(i + 1, len(exponents) - 1)])
        between = optimize.minimize_scalar(lambda g: at(g)[0], bounds=bounds, method="bounded", options={"xatol": 1e-9})
        found[float(between.x)] = at(float(between.x))
    least = min(deviance for deviance, *_ in found.values())
    knees, at_exponents = [], []
    for g, (deviance, u, profile) in found.items():
        grid, _ = profile.scan
        room = least + allowed - deviance
        low, high = profile.ends(u, room) if room > 0 else (u, u)
        knees.append([u, *np.linspace(max(low, grid[0]), min(high, grid[-1]), _KNEES if room > 0 else 1)])
        at_exponents.append(np.full(len(knees[-1]), g))
    return np.concatenate(knees), np.concatenate(at_exponents)


def _aicc(squares: float, n: int, parameters: int) -> float | None:
    """N log(RSS / n) + 2 k + 2 k (k + 1) / (n - k - 1), k counting the scale (Hurvich and Tsai 1989)."""
    k = parameters + 1
    if n - k - 1 < 1:
        return None
    return n * math.log(max(squares / n, _EXACT**2)) + 2 * k + 2 * k * (k + 1) / (n - k - 1)


def _parameters(fit: LawFit, log_batch: Floats) -> dict[str, Estimate]:
    law, log_y = fit.law, (fit.levels[0], (fit.levels - fit.slack).min(), (fit.levels + fit.slack).max())
    start, end = log_batch.min() - math.log(REACH), log_batch.max() + math.log(REACH)
    first, last = fit.knees.min(), fit.knees.max()
    unseen = law.has_knee and last >= end  # beyond the data a knee and a level cannot be told apart
    knee = (fit.knees[0], -math.inf if first <= start else first, math.inf if unseen else last)
    with np.errstate(over="ignore"):
        found = {"y_max" if law.has_knee else "a": np.exp([*log_y[:2], math.inf if unseen else log_y[2]])}
        if law.free_exponent:
            found["g"] = np.array([fit.exponents[0], fit.exponents.min(), fit.exponents.max()])
        if law.has_knee:
            found["B_n"] = np.exp(knee)
    return {name: _known(*ends) if fit.freedom else Estimate(float(ends[0])) for name, ends in found.items()}


def _known(value: float, low: float, high: float) -> Estimate:
    return Estimate(float(value), float(low), None if math.isinf(high) else float(high))


@dataclass(frozen=True, eq=False)
class LawVerdict:
    """What the studies say of the laws for one hyperparameter."""

    batch_sizes: Floats  # of the studies with a near-optimal set; (n,)
    values: Floats  # middles of the sets; (n,)
    half_width: Floats  # half-widths that were used, in log; (n,)
    laws: tuple[LawFit, ...]  # every law that could be fitted
    kind: Kind  # a single law is supported, several cannot be told apart, all are rejected, too few studies
    supported: tuple[str, ...]  # names of the laws that the data allow, the one with the least AICc first

    def law(self, name: str) -> LawFit:
        """A law by name."""
        return next(fit for fit in self.laws if fit.law.name == name)

    def misses(self, fit: LawFit) -> tuple[float, ...]:
        """Batch sizes whose near-optimal set, of the half-width that is used, does not hold the law."""
        return tuple(float(b) for b in self.batch_sizes[np.abs(fit.residuals) > self.half_width])

    def delta(self, fit: LawFit) -> float | None:
        """AICc above the least of the laws that are not rejected; None where it cannot be computed."""
        passing = [each.aicc for each in self.laws if each.aicc is not None and not each.rejected]
        return None if self.kind == "too few" or fit.aicc is None or not passing else fit.aicc - min(passing)


def judge(
    laws: Sequence[Law],
    batch_sizes: Floats,
    values: Floats,
    low: Floats,
    high: Floats,
    spreads: Sequence[tuple[float, int]] = (),
) -> LawVerdict:
    """Fit laws to near-optimal sets, from `low` to `high` with their middles, and judge them; each (n,).

    A law passes if sum over studies of (residual / (half-width / sqrt 3))^2 is no larger than chi^2(n - parameters)
    allows: half-width / sqrt 3 is the standard deviation of a value that may lie anywhere in its set. The half-width of
    a set of few points is itself poorly known, so none is taken to be smaller than the pooled spread of the points
    within sets makes it: `spreads` has (standard deviation in log, points) of each set. Sets that are wide because the
    hyperparameter hardly matters let every law pass: that is what the data say.

    Of the laws that pass, the scatter about them decides: one is set aside where an F test against the law with the
    least scatter says that it fits worse, or where it only generalises one that stays: a free exponent beside the one
    fixed exponent that stays, or a knee that lies beyond the measured batch sizes, where none can be seen. AICc orders
    the others but does not exclude: with six studies its penalty for a second parameter is 10, so that it would declare
    a straight line the only law where a knee is there (in 40 to 60 % of simulated runs). With nine studies that scatter
    by 0.25 in log, the right law is among those that stay in 91 to 99 % of runs, and a zigzag is always rejected.
    """
    log_b, log_y = np.log(batch_sizes), np.log(values)
    width = np.maximum((np.log(high) - np.log(low)) / 2, max(_NARROWEST, math.sqrt(3) * _pooled(spreads)))
    fits = tuple(found for law in laws if (found := fit_law(law, log_b, log_y, width)) is not None)
    if len(batch_sizes) < FEWEST:
        return LawVerdict(batch_sizes, values, width, fits, "too few", ())
    supported = _supported([fit for fit in fits if not fit.rejected and fit.freedom > 0], log_b)
    kind: Kind = "none" if not supported else "one" if len(supported) == 1 else "several"
    return LawVerdict(batch_sizes, values, width, fits, kind, tuple(fit.law.name for fit in supported))


def _supported(passing: list[LawFit], log_b: Floats) -> list[LawFit]:
    """The laws among the passing ones that the scatter allows, without those that only generalise another."""
    if not passing:
        return []
    best = min(passing, key=lambda fit: fit.sum_of_squares / fit.freedom)
    stay = [fit for fit in passing if fit is best or not _is_worse(fit, best)]
    seen = [fit for fit in stay if not fit.law.has_knee or log_b.min() < fit.knees[0] < log_b.max()]
    stay = seen or stay
    for shape in ("power", "saturating"):
        fixed = [fit for fit in stay if fit.law.shape == shape and not fit.law.free_exponent]
        if len(fixed) == 1:
            stay = [fit for fit in stay if fit.law.shape != shape or not fit.law.free_exponent]
    return sorted(stay, key=lambda fit: math.inf if fit.aicc is None else fit.aicc)


def _is_worse(fit: LawFit, best: LawFit) -> bool:
    """An F test of the sums of squares; laws of equally many parameters count as one apart."""
    apart = max(1, fit.freedom - best.freedom)
    mine, least = (max(each.sum_of_squares, len(each.residuals) * _EXACT**2) for each in (fit, best))
    ratio = (mine - least) / apart / (least / best.freedom)
    return float(special.fdtr(apart, best.freedom, max(ratio, 0.0))) > WORSE


def _pooled(spreads: Sequence[tuple[float, int]]) -> float:
    freedom = sum(n - 1 for _, n in spreads)
    return math.sqrt(sum((n - 1) * sd**2 for sd, n in spreads) / freedom) if freedom else 0.0
