"""Numbers as sentences write them; and a number with its interval, the one place with Student's t and the jackknife."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from enum import Enum, StrEnum
from typing import Any, Self

import numpy as np
import numpy.typing as npt
from scipy import special


def readable(number: float) -> str:
    """Three digits, or all digits before the point with thousands marked: 0.0123, 46.2, 4,500.

    A number just below 1 keeps the digits that tell it from 1: a momentum of 0.9999 is possible, one of 1 is not.
    Nearer than 1e-9 is rounding.
    """
    if 0 < number < 1 - 1e-9:
        return next(text for digits in range(3, 18) if (text := f"{number:.{digits}g}") != "1")
    return f"{number:,.0f}" if 100 <= abs(number) < 1e15 else f"{number:.3g}"


def rounded_up(number: float) -> float:
    """To the digits that `readable` shows, upwards, so that a limit that is printed would be enough."""
    if number <= 0:  # no digits to round to; nothing costs less than nothing
        return number
    unit = 1.0 if number >= 100 else 10.0 ** (math.floor(math.log10(number)) - 2)
    return math.ceil(number / unit - 1e-9) * unit


def duration(hours: float, up: bool = False, beside: Sequence[float] = ()) -> str:
    """Hours in the unit that a person would use: 47 µs, 8.1 ms, 0.31 s, 4.2 min, 36 h; `rounded_up` there if asked.

    Those that stand `beside` it have the same unit, that of the shortest, where they are not too far apart for one.
    """
    least, most = min(hours, *beside, math.inf), max(hours, *beside, 0.0)
    unit, an_hour = _unit(least if most <= _FAR_APART * least else hours)
    if up:
        return duration(rounded_up(hours * an_hour) / an_hour, beside=beside)
    return f"{readable(hours * an_hour)} {unit}"


_FAR_APART = 1000  # ratio of two times that a reader wants in two units; chosen


def _unit(hours: float) -> tuple[str, float]:
    """The unit in which `duration` shows so many hours, and how many of it are an hour."""
    for unit, an_hour, least in (("h", 1.0, 1.0), ("min", 60.0, 1.0), ("s", 3600.0, 0.01), ("ms", 3.6e6, 0.1)):
        if hours * an_hour >= least:
            return unit, an_hour
    return ("µs", 3.6e9) if hours > 0 else ("s", 3600.0)


def enumeration(parts: Sequence[str]) -> str:
    """Parts of a sentence, one or more: a; a and b; a, b and c."""
    return " and ".join(filter(None, (", ".join(parts[:-1]), parts[-1])))


def workers_of(number: int) -> str:
    """So many workers."""
    return f"{number} worker{'' if number == 1 else 's'}"


def value_text(value: Any) -> str:
    """A number in three digits, a missing value as a dash, anything else as it is."""
    missing = value is None or type(value).__name__ == "NAType"  # pandas' own, which is not imported for it
    if missing or (isinstance(value, float) and math.isnan(value)):
        return "–"
    if isinstance(value, int | float) and not isinstance(value, bool):
        return readable(value) if math.isfinite(value) else "∞" if value > 0 else "-∞"
    return str(value)


class Told(StrEnum):
    """A word of a table with the sentence that says it to a newcomer."""

    sentence: str

    def __new__(cls, value: str, sentence: str = "") -> Self:
        """A member is (word, sentence)."""
        found = str.__new__(cls, value)
        found._value_, found.sentence = value, sentence
        return found


def pace(seconds: float) -> str:
    """The time of one step, to two digits.

    Example:
        >>> pace(0.00123), pace(2.3)
        ('1.2 ms', '2.3 s')
    """
    return f"{1000 * seconds:.2g} ms" if seconds < 0.1 else f"{seconds:.2g} s"


LEVEL = 0.95
"""Confidence of intervals where nothing else is asked for. Convention."""

_EXACT = 1e-9  # a standard error below this is rounding, not scatter


class Scale(Enum):
    """Where an interval is symmetric, and a standard error is taken."""

    LINEAR = "linear"
    LOG = "log"  # positive numbers: steps, batch sizes, ratios
    LOGIT = "logit"  # shares between 0 and 1

    def to(self, value: float) -> float:
        """The number on this scale."""
        if self is Scale.LOG:
            return math.log(value)
        return math.log(value / (1 - value)) if self is Scale.LOGIT else value

    def back(self, value: float) -> float:
        """The number itself."""
        if self is Scale.LOG:
            return math.exp(min(value, 700.0))  # beyond that it is no float
        return float(special.expit(value)) if self is Scale.LOGIT else value


@dataclass(frozen=True)
class Estimate:
    """A number with its interval. None is the only word for "not known" and for "open"."""

    value: float | None
    low: float | None = None
    high: float | None = None
    level: float = LEVEL
    n: int | None = None  # independent things behind it
    why: str = ""  # why it is not known, or open, in a phrase

    @classmethod
    def t(
        cls,
        value: float,
        error: float,
        freedom: float,
        *,
        scale: Scale = Scale.LINEAR,
        level: float = LEVEL,
        n: int | None = None,
    ) -> Estimate:
        """Student's t interval, value +- t error, on the scale on which it is symmetric.

        An error that is NaN or infinite, or of less than one degree of freedom, leaves both ends open.
        """
        half = t_quantile(freedom, level) * error
        if not math.isfinite(half):
            return cls(value, level=level, n=n)
        middle = scale.to(value)
        return cls(value, scale.back(middle - half), scale.back(middle + half), level, n)

    @classmethod
    def jackknife(
        cls, value: float, without: Sequence[float], *, scale: Scale = Scale.LINEAR, level: float = LEVEL
    ) -> Estimate:
        """From the same number computed without each of n groups in turn: error^2 = (n - 1)/n sum (x_i - mean x)^2.

        The interval is t with n - 1 degrees of freedom (Efron and Tibshirani 1993, ch. 11, for the error; t in place of
        the normal quantile because n is small here).
        """
        at = np.array([scale.to(each) for each in without])
        n = len(at)
        error = math.sqrt((n - 1) / n * float(((at - at.mean()) ** 2).sum())) if n > 1 else math.nan
        return cls.t(value, error, n - 1, scale=scale, level=level, n=n)

    @classmethod
    def at_limits(
        cls, value: float | None, low: float | None, high: float | None, level: float = LEVEL, n: int | None = None
    ) -> Estimate:
        """From the ends of a positive number in which 0, infinity and NaN stand for "open" or "not known"."""
        number, lower, upper = (end if end is not None and 0 < end < math.inf else None for end in (value, low, high))
        return cls(number, lower, upper, level, n)

    @property
    def known(self) -> bool:
        """Whether there is a number."""
        return self.value is not None

    def times(self, factor: float) -> Estimate:
        """In another unit: hours as minutes, shares as per cent."""
        value, low, high = (end if end is None else end * factor for end in (self.value, self.low, self.high))
        return replace(self, value=value, low=low, high=high)

    def holds(self, value: float) -> bool:
        """Whether the interval leaves this value possible."""
        return (self.low is None or self.low <= value) and (self.high is None or value <= self.high)

    def because(self, why: str) -> Estimate:
        """The same with the reason why it is not known or open."""
        return replace(self, why=why)

    def interval(self, shown: Callable[[float], str] = readable) -> str:
        """`70.2 to 114`, `below 114`, `above 70.2`, `no interval`."""
        if self.low is not None and self.high is not None:
            return f"{shown(self.low)} to {shown(self.high)}"
        if self.low is not None:
            return f"above {shown(self.low)}"
        return "no interval" if self.high is None else f"below {shown(self.high)}"

    def text(self, shown: Callable[[float], str] = readable) -> str:
        """`89.5 (70.2 to 114)`; without a number the interval alone."""
        return self.interval(shown) if self.value is None else f"{shown(self.value)} ({self.interval(shown)})"

    def __str__(self) -> str:
        return self.text()

    def json(self) -> dict[str, float | None]:
        """As an object of `--json`."""
        return {"value": self.value, "low": self.low, "high": self.high}

    def flat(self, name: str) -> dict[str, float | None]:
        """The keys of `--json`: `b_crit`, `b_crit_low`, `b_crit_high`."""
        return {name: self.value, f"{name}_low": self.low, f"{name}_high": self.high}


def interval_text(value: float | None, low: float | None, high: float | None) -> str:
    """A number of a table with its interval, whose ends are open as in `at_limits`: `89.5 (70.2 to 114)`."""
    between = Estimate.at_limits(None, low, high).interval()
    return between if value is None else f"{value_text(value)} ({between})"


def t_quantile(freedom: float, level: float = LEVEL) -> float:
    """The two-sided quantile of Student's t; infinite below one degree of freedom."""
    return float(special.stdtrit(freedom, (1 + level) / 2)) if freedom >= 1 else math.inf


def freedom(share: float, freedoms: tuple[float, float]) -> float:
    """Degrees of freedom of a sum of two estimated variances, of which the first is this share.

    1 / (w^2 / f_1 + (1 - w)^2 / f_2), w being the first one's share of the sum (Welch 1947, "The generalization of
    Student's problem"; Satterthwaite 1946). It lies between the smaller of the two and their sum; each is 1 or more,
    and infinite for a variance that is known.
    """
    inverse = share**2 / freedoms[0] + (1 - share) ** 2 / freedoms[1]
    return 1 / inverse if inverse > 0 else math.inf


def tail(t: float, degrees: float) -> float:
    """P(|T| > t) of Student's t."""
    return 2 * float(special.stdtr(degrees, -abs(t)))


def welch(
    value: float, variances: tuple[float, float], freedoms: tuple[float, float], level: float = LEVEL
) -> tuple[Estimate, float]:
    """Interval and p-value of a difference of two independent estimates, each with its own estimated variance.

    value +- t(nu) sqrt(v_1 + v_2) with the degrees of freedom nu of `freedom`. The two scatters are not pooled: a
    noisier way of training has every right to scatter more. The difference of two exact numbers has no width.
    """
    total = variances[0] + variances[1]
    if math.sqrt(total) < _EXACT:
        return Estimate(value, value, value, level), float(abs(value) < _EXACT)
    degrees = freedom(variances[0] / total, freedoms)
    p_value = tail(value / math.sqrt(total), degrees)
    return Estimate.t(value, math.sqrt(total), degrees, level=level), p_value


def holm(p_values: Sequence[float]) -> list[float]:
    """Adjust p-values so that the chance of any false "differs" among them stays below the level (Holm 1979).

    The k-th smallest of m is multiplied by m - k + 1, and none may be smaller than those before it. The order stays.

    Example:
        >>> holm([0.01, 0.04, 0.03])
        [0.03, 0.06, 0.06]
    """
    order = sorted(range(len(p_values)), key=lambda i: p_values[i])
    adjusted, largest = [0.0] * len(p_values), 0.0
    for rank, i in enumerate(order):
        largest = max(largest, min(1.0, (len(p_values) - rank) * p_values[i]))
        adjusted[i] = largest
    return adjusted


Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Line:
    """y = intercept + slope x; the errors of y are independent, with variances scale / weight."""

    intercept: float
    slope: float
    residuals: Floats  # y less the line, in the order of the points; (n,)
    squares: float  # sum of weight x residual^2
    spread: float  # sum of weight x (x - mean)^2, the mean being the weighted one

    @property
    def freedom(self) -> int:
        """Degrees of freedom: points less two."""
        return len(self.residuals) - 2

    @property
    def independent(self) -> float:
        """N (1 - rho) / (1 + rho): as many independent points know as much in a first-order autoregression.

        rho is the residuals' correlation from one to the next (0 if negative).
        """
        rho = min(max(float(self.residuals[:-1] @ self.residuals[1:]) / self.squares, 0.0), 0.99)
        return len(self.residuals) * (1 - rho) / (1 + rho)

    def slope_error(self, least: float = 0.0) -> float:
        """Standard error of the slope, sqrt(scale / spread); NaN without freedom.

        The scale is that of the residuals, and no smaller than `least`: 1 where weights are inverse variances.
        """
        return math.sqrt(max(self.squares / self.freedom, least) / self.spread) if self.freedom else math.nan

    def slope_within(self, level: float = LEVEL, least: float = 0.0) -> Estimate:
        """The slope with its t interval."""
        return Estimate.t(self.slope, self.slope_error(least), self.freedom, level=level)


def straight_line(x: Floats, y: Floats, weight: Floats | None = None, rounding: float = 0.0) -> Line:
    """Fit the line to two points or more, not all at one x; without weights all count the same.

    `rounding` is the least root mean square residual, so that exact numbers have a scale too.
    """
    w = np.ones(len(x)) if weight is None else weight
    at, level = float(w @ x / w.sum()), float(w @ y / w.sum())
    spread = float(w @ (x - at) ** 2)
    slope = float((w * (x - at)) @ y) / spread
    residuals = y - level - slope * (x - at)
    squares = max(float(w @ residuals**2), len(x) * rounding**2)
    return Line(level - slope * at, slope, residuals, squares, spread)
