"""A number with its interval: the one place with Student's t, the jackknife, and the text "89.5 (70.2 to 114)"."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from enum import Enum

import numpy as np
from scipy import special

from bcrit.analysis.wording import readable

LEVEL = 0.95
"""Confidence of intervals where nothing else is asked for. Convention."""


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
        """Student's t interval, value +- t error, on a scale.

        Args:
            value: the number itself.
            error: standard error on the scale; NaN or infinite leaves both ends open.
            freedom: degrees of freedom of the error; below 1 leaves both ends open.
            scale: on which the interval is symmetric.
            level: confidence.
            n: independent things behind it.

        Returns:
            The number with its interval.
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
    def at_limits(cls, value: float, low: float, high: float, level: float = LEVEL, n: int | None = None) -> Estimate:
        """From the ends of a positive number in which 0, infinity and NaN stand for "open" or "not known"."""
        number, lower, upper = (end if 0 < end < math.inf else None for end in (value, low, high))
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
        if self.low is None or self.high is None:
            if self.low is not None:
                return f"above {shown(self.low)}"
            return "no interval" if self.high is None else f"below {shown(self.high)}"
        return f"{shown(self.low)} to {shown(self.high)}"

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


def t_quantile(freedom: float, level: float = LEVEL) -> float:
    """The two-sided quantile of Student's t; infinite below one degree of freedom."""
    return float(special.stdtrit(freedom, (1 + level) / 2)) if freedom >= 1 else math.inf
