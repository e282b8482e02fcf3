"""The dimensions of a search space, each with a scaled coordinate in [0, 1].

A dimension is searched, sampled, clipped and widened in its *scaled* coordinate, in which equal distances matter
equally: log(value), log(1 - value) for momentum (Shallue et al. 2018, REVERSE_LOG), the value itself, or the place in a
list.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, FiniteFloat, field_validator, model_validator

Value = float | int | str | bool
"""A hyperparameter's value."""

Side = Literal["low", "high"]


class Box(BaseModel):
    """A numeric dimension: an interval that may be widened up to its hard limits."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    low: FiniteFloat  # lower end of the box, in the hyperparameter's own unit
    high: FiniteFloat  # upper end of the box
    hard_low: FiniteFloat | None = None  # the box is never widened below this; None = only the scale limits it
    hard_high: FiniteFloat | None = None  # the box is never widened above this

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        if not self.low < self.high:
            raise ValueError(f"'low < high' must hold, but low={self.low:g} and high={self.high:g}; swap or mend them")
        if self.hard_low is not None and self.low < self.hard_low:
            raise ValueError(f"'hard_low <= low' must hold, but hard_low={self.hard_low:g} and low={self.low:g}")
        if self.hard_high is not None and self.high > self.hard_high:
            raise ValueError(f"'high <= hard_high' must hold, but high={self.high:g} and hard_high={self.hard_high:g}")
        return self

    def scaled(self, value: float) -> float:
        """The coordinate in which equal distances matter equally."""
        return float(value)

    def unscaled(self, coordinate: float) -> float:
        """The inverse of `scaled`."""
        return float(coordinate)

    @property
    def ends(self) -> tuple[float, float]:
        """(scaled coordinate of `low`, scaled coordinate of `high`); the first may be the larger (reverse_log)."""
        return self.scaled(self.low), self.scaled(self.high)

    def to_unit(self, value: float) -> float:
        """Map the box onto [0, 1]; values outside the box map outside."""
        start, end = self.ends
        return (self.scaled(value) - start) / (end - start)

    def from_unit(self, unit: float) -> float:
        """Map [0, 1] onto the box; the result never leaves the box by rounding."""
        start, end = self.ends
        return self.clip(self.unscaled(start + unit * (end - start))) if 0 <= unit <= 1 else self._beyond(unit)

    def _beyond(self, unit: float) -> float:
        start, end = self.ends
        return self.unscaled(start + unit * (end - start))

    def clip(self, value: float) -> float:
        """The nearest value inside the box."""
        return min(max(value, self.low), self.high)

    def contains(self, value: Any) -> bool:
        """Whether a value lies in the box, ends included."""
        return isinstance(value, int | float) and not isinstance(value, bool) and self.low <= value <= self.high

    def at_hard_limit(self, side: Side) -> bool:
        """Whether the box cannot be widened on this side."""
        if side == "low":
            return self.hard_low is not None and self.low <= self.hard_low
        return self.hard_high is not None and self.high >= self.hard_high

    def widen(self, side: Side, share: float) -> Self:
        """The box extended on one side by `share` of its scaled width, up to the hard limit."""
        low, high = (self._beyond(-share), self.high) if side == "low" else (self.low, self._beyond(1 + share))
        return self.model_copy(update=self._limited(low, high))

    def shift(self, factor: float) -> Self:
        """The box with both ends multiplied by `factor` and held within the hard limits."""
        return type(self)(**{**self.model_dump(), **self._limited(self.low * factor, self.high * factor)})

    def _limited(self, low: float, high: float) -> dict[str, float]:
        return {
            "low": low if self.hard_low is None else max(low, self.hard_low),
            "high": high if self.hard_high is None else min(high, self.hard_high),
        }


class Linear(Box):
    """Uniform in the value."""

    scale: Literal["linear"] = "linear"


class Log(Box):
    """Uniform in log(value); for learning rates."""

    scale: Literal["log"] = "log"

    @model_validator(mode="after")
    def _positive(self) -> Self:
        if self.low <= 0:
            raise ValueError(
                f"'low > 0' must hold on a log scale, but low={self.low:g}; use scale: linear to include 0"
            )
        return self

    def scaled(self, value: float) -> float:
        """log(value)."""
        return math.log(value)

    def unscaled(self, coordinate: float) -> float:
        """exp(coordinate)."""
        return math.exp(coordinate)


class ReverseLog(Box):
    """Uniform in log(1 - value); for momentum."""

    scale: Literal["reverse_log"] = "reverse_log"

    @model_validator(mode="after")
    def _below_one(self) -> Self:
        if self.high >= 1:
            raise ValueError(f"'high < 1' must hold on a reverse_log scale, but high={self.high:g}; use 0.999, say")
        return self

    def scaled(self, value: float) -> float:
        """log(1 - value)."""
        return math.log1p(-value)

    def unscaled(self, coordinate: float) -> float:
        """1 - exp(coordinate), and never 1, to which it rounds beyond a coordinate of -37."""
        return min(-math.expm1(coordinate), math.nextafter(1.0, 0.0))


class Integer(Box):
    """Uniform over the integers from low to high, both included."""

    scale: Literal["integer"] = "integer"

    @model_validator(mode="after")
    def _whole(self) -> Self:
        for name in ("low", "high", "hard_low", "hard_high"):
            end = getattr(self, name)
            if end is not None and end != int(end):
                raise ValueError(f"an integer dimension needs whole ends, but {name}={end:g}")
        return self

    @property
    def ends(self) -> tuple[float, float]:
        """Half a unit beyond both ends, so that every integer has the same share of [0, 1]."""
        return self.low - 0.5, self.high + 0.5

    def unscaled(self, coordinate: float) -> int:
        """The nearest integer."""
        return round(coordinate)

    def widen(self, side: Side, share: float) -> Self:
        """The box extended on one side by `share` of its width, at least by one, up to the hard limit."""
        more = max(1, round(share * (self.high - self.low)))
        low, high = (self.low - more, self.high) if side == "low" else (self.low, self.high + more)
        return self.model_copy(update=self._limited(low, high))

    def clip(self, value: float) -> int:
        """The nearest integer inside the box."""
        return int(min(max(round(value), self.low), self.high))

    def contains(self, value: Any) -> bool:
        """Whether a value is a whole number in the box."""
        return super().contains(value) and value == int(value)


class Fixed(BaseModel):
    """A hyperparameter that is not searched. Written in YAML as the bare value."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    scale: Literal["fixed"] = "fixed"
    value: Value

    @field_validator("value")
    @classmethod
    def _fits_a_table(cls, value: Value) -> Value:
        """Tables hold numbers of 64 bits, and their JSON no infinite ones."""
        if isinstance(value, float) and not math.isfinite(value):
            raise ValueError(f"a finite number is needed here, but it is {value:g}")
        if isinstance(value, int) and abs(value) >= 2**63:
            raise ValueError(f"a whole number must be below 2^63 in size, but it is {str(value)[:20]}...")
        return value

    def contains(self, value: Any) -> bool:
        """Whether it is the value."""
        return bool(value == self.value)


class Choice(BaseModel):
    """One of several named options, each of which may bring dimensions of its own.

    `choice of a, b` or a list gives options without dimensions; a mapping gives each option its own.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    scale: Literal["choice"] = "choice"
    options: dict[str, dict[str, Leaf]] = Field(min_length=1)

    @model_validator(mode="before")
    @classmethod
    def _from_list(cls, value: Any) -> Any:
        if isinstance(value, dict) and isinstance(value.get("options"), list | tuple):
            names = [str(option) for option in value["options"]]
            if len(set(names)) < len(names):
                raise ValueError(f"the options of a choice must differ, but they are {names}")
            return {**value, "options": {name: {} for name in names}}
        return value

    def to_unit(self, value: str) -> float:
        """The middle of the option's share of [0, 1]."""
        return (list(self.options).index(value) + 0.5) / len(self.options)

    def from_unit(self, unit: float) -> str:
        """The option whose share of [0, 1] holds `unit`."""
        names = list(self.options)
        return names[min(int(unit * len(names)), len(names) - 1)]

    def contains(self, value: Any) -> bool:
        """Whether it is one of the options."""
        return value in self.options


_SENTENCE = re.compile(r"^(log|linear|reverse_log|integer) from (\S+) to (\S+)$")
_CHOICE = re.compile(r"^choice of (.+)$")


def _read(value: Any) -> Any:
    """Turn YAML's short forms into the long one: sentences, bare values, mappings of options."""
    if isinstance(value, BaseModel):
        return value
    if isinstance(value, str):
        if match := _SENTENCE.match(value.strip()):
            scale, low, high = match.groups()
            return {"scale": scale, "low": low, "high": high}
        if match := _CHOICE.match(value.strip()):
            return {"scale": "choice", "options": [name.strip() for name in match[1].split(",")]}
        if " from " in value or " to " in value:
            raise ValueError(
                "a dimension reads 'SCALE from LOW to HIGH' with scale log, linear, reverse_log or integer, "
                "for example 'log from 0.001 to 1'"
            )
        return {"scale": "fixed", "value": value}
    if isinstance(value, int | float):
        return {"scale": "fixed", "value": value}
    if isinstance(value, Mapping) and "scale" not in value:
        if {"low", "high"} & set(value):
            raise ValueError("a numeric dimension needs 'scale': log, linear, reverse_log or integer")
        return {
            "scale": "choice",
            "options": {str(name): {} if inner is None else inner for name, inner in value.items()},
        }
    return value


Leaf = Annotated[
    Annotated[Linear | Log | ReverseLog | Integer | Fixed, Field(discriminator="scale")], BeforeValidator(_read)
]
Dimension = Annotated[
    Annotated[Linear | Log | ReverseLog | Integer | Fixed | Choice, Field(discriminator="scale")],
    BeforeValidator(_read),
]
Choice.model_rebuild()
