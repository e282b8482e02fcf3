"""Hyperparameters at any batch size: measured, by a law of the optimum, or read between the studies on either side."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Final, Literal

from bcrit.analysis.curve.interval import WIDEST
from bcrit.analysis.numbers import Estimate, readable
from bcrit.analysis.optimum import OptimumLaws
from bcrit.analysis.optimum.coordinates import EFFECTIVE
from bcrit.search_spaces.presets import DOMAINS, STEPS_OF

Source = Literal["measured", "interpolated", "nearest", "law", "extrapolated"]
Points = Mapping[float, Mapping[str, Any]]  # the best point of each study, by batch size

_NEAR = 2.0  # factor within which a law must agree with its neighbours; chosen, not studied

# Every source as a clause and as a caveat; {at} are the batch sizes of the studies.
_SAID: Final[Mapping[Source, tuple[str, str]]] = {
    "measured": ("the best that was found at this batch size", ""),
    "interpolated": (
        "read between the best at batch sizes {at}, so try them once before the full run",
        "The hyperparameters are interpolated between batch sizes {at}; nothing was trained there.",
    ),
    "law": (
        "the learning rate by the law that all studies support, the rest from batch size {at}, so try them once before "
        "the full run",
        "The learning rate follows the law that the studies support, the rest is read at batch sizes {at}; nothing was "
        "trained there.",
    ),
    "extrapolated": (
        "extrapolated from batch size {at}, so tune them again",
        "The hyperparameters are extrapolated from batch sizes {at}; retune them.",
    ),
    "nearest": (
        "those of the nearest study, at batch size {at}, so tune them again",
        "The hyperparameters are those of the nearest study, at batch size {at}; retune them.",
    ),
}


@dataclass(frozen=True)
class HyperparametersAt:
    """Hyperparameters to train with."""

    batch_size: float  # for which
    values: Mapping[str, Any]  # by name
    # measured (the best point of the study at this batch size), law (the learning rate follows a law that the studies
    # support), interpolated (between the best points of the two neighbours), nearest (the best point of the nearer
    # neighbour, because the two chose different options), or extrapolated (outside of the studies, by a law or from the
    # nearest)
    source: Source
    studies: tuple[float, ...]  # batch sizes of the studies that were used; with a law, the neighbours gave the rest
    sources: Mapping[str, Source] = field(default_factory=dict)  # by name, where values come from different sources
    # Ends by name, as far as they are known: of the near-optimal set where measured, of the law's 95 % prediction
    # interval, or between the neighbours' sets.
    low: Mapping[str, float] = field(default_factory=dict)
    high: Mapping[str, float] = field(default_factory=dict)

    @property
    def listed(self) -> str:
        """`lr = 0.1, momentum = 0.9`; a width that also stands in steps is left out."""
        return ", ".join(
            f"{name} = {readable(value) if _is_number(value) else value}"
            for name, value in self.values.items()
            if value is not None and STEPS_OF.get(name) not in self.values
        )

    @property
    def origin(self) -> str:
        """Where they come from, as the clause of a sentence."""
        return self._said(0)

    @property
    def doubt(self) -> str:
        """What is doubtful about them, in a sentence; empty where nothing is."""
        return self._said(1)

    def _said(self, which: int) -> str:
        at = " and ".join(readable(size) for size in self.studies)
        if self.source == "nearest" and self.sources.get("lr") == "law":
            at += ", the learning rate moved by the law"
        return _SAID[self.source][which].format(at=at)


def hyperparameters_at(batch_size: float, best: Points, laws: OptimumLaws | None = None) -> HyperparametersAt:
    """Read the hyperparameters at one batch size off the studies' best points, or off a law where one is supported.

    Between two studies that chose the same options, numbers are interpolated linearly in log B and in the coordinate
    in which they are searched: log(value), log(1 - value) for momentum, the value itself where it may be 0. This
    assumes that the optimum moves smoothly; nothing was trained there. With laws, the learning rate (and momentum,
    where a law for it is supported) comes from them instead, which uses all studies and not two: the law of
    lr / (1 - momentum) gives lr at the momentum that is advised.

    A width that is whole in every study stays whole, with whole ends.

    A law is used between studies that chose the same options and outside of all; between studies that did not, the
    nearest one's learning rate is moved by as much as the law moves from there. On the digits, re-run with 15 fresh
    seeds between their studies, a law took 0.91 to 1.12 (median 0.92) times the steps of interpolation, but with
    another study's schedule 0.76 to 1.6 (median 1.4) times those of that study's own point: a learning rate belongs to
    its schedule. A law whose interval spans more than a decade, or that lies more than a factor of 2 from what its
    neighbours found, is not used; every law is judged by itself.

    Outside of the studies, without a law, the nearest is taken; without laws there are no intervals.
    """
    found = _between_studies(batch_size, best)
    if laws is not None:
        found = _by_laws(found, laws, outside=not min(best) <= batch_size <= max(best))
    # Widths, or lengths in steps: every number whose values are whole in all studies.
    whole = {name for point in best.values() for name, value in point.items() if _is_number(value)}
    whole -= {name for point in best.values() for name, value in point.items() if not isinstance(value, int)}

    def rounded(numbers: Mapping[str, Any]) -> dict[str, Any]:
        # An end of a law's interval may be infinite.
        return {n: round(x) if n in whole and math.isfinite(x) else x for n, x in numbers.items()}

    return replace(found, values=rounded(found.values), low=rounded(found.low), high=rounded(found.high))


def _between_studies(batch_size: float, best: Points) -> HyperparametersAt:
    if batch_size in best:
        return HyperparametersAt(batch_size, dict(best[batch_size]), "measured", (batch_size,))
    below = max((b for b in best if b < batch_size), default=None)
    above = min((b for b in best if b > batch_size), default=None)
    if below is not None and above is not None and _same_options(best[below], best[above]):
        share = _share(batch_size, below, above)
        values = {name: _between(name, best[below][name], best[above][name], share) for name in best[below]}
        return HyperparametersAt(batch_size, values, "interpolated", (below, above))
    nearest = min(best, key=lambda b: abs(math.log(b / batch_size)))
    return HyperparametersAt(batch_size, dict(best[nearest]), "nearest", (nearest,))


def _by_laws(found: HyperparametersAt, laws: OptimumLaws, outside: bool) -> HyperparametersAt:
    """The same with what laws say, where they are trusted, and with intervals."""
    values = dict(found.values)
    if found.source == "nearest" and not outside:
        # Along lr / (1 - momentum), where there is a law of it, since the momentum stays.
        for name in (EFFECTIVE, "lr") if "momentum" in values else ("lr",):
            here, there = (laws.by_law(name, size) for size in (found.batch_size, *found.studies))
            if here and there and here.value and there.value and "lr" in values:
                values["lr"] *= here.value / there.value
                return replace(found, values=values, sources={**dict.fromkeys(values, found.source), "lr": "law"})
        return found
    base: Source = "extrapolated" if outside else found.source
    sources: dict[str, Source] = dict.fromkeys(values, base)
    if found.source == "measured":
        near = laws.set_at(found.batch_size)
        ranges = {} if near is None else {name: r for name, r in near.ranges.items() if name in values}
        low, high = ({name: getattr(r, end) for name, r in ranges.items()} for end in ("low", "high"))
        return replace(found, sources=sources, low=low, high=high)
    low, high = ({}, {}) if outside else _between_sets(found.batch_size, found.studies, laws)
    by_law = {name: law for name in values if (law := laws.by_law(name, found.batch_size)) is not None}
    effective = laws.by_law(EFFECTIVE, found.batch_size) if {"lr", "momentum"} <= set(values) else None
    trusted = {name for name, law in by_law.items() if name == "momentum" or _trusted(law, values[name], outside)}
    if effective is not None and not _trusted(effective, values["lr"] / (1 - values["momentum"]), outside):
        trusted.discard("momentum")
    elif effective is not None:
        # What matters is lr / (1 - momentum): along it either may move far without harm, so neither is judged alone.
        momentum = by_law["momentum"].value if "momentum" in by_law else values["momentum"]
        by_law["lr"] = effective.times(1 - float(momentum or 0.0))
        trusted.add("lr")
    by: Source = "extrapolated" if outside else "law"
    for name in (name for name in by_law if name in trusted):
        law = by_law[name]
        values[name], sources[name] = law.value, by
        if law.low is not None and law.high is not None:
            low[name], high[name] = law.low, law.high
    used = by if by in sources.values() else base
    return replace(found, values=values, source=used, sources=sources, low=low, high=high)


def _trusted(law: Estimate, value: float, outside: bool) -> bool:
    """Whether a law is known well enough, and between studies does not contradict what they found."""
    known = law.value is not None and law.low and law.high and 0 < law.high <= WIDEST * law.low
    return bool(known) and (outside or value / _NEAR <= (law.value or 0.0) <= value * _NEAR)


def _share(batch_size: float, below: float, above: float) -> float:
    return math.log(batch_size / below) / math.log(above / below)


def _between_sets(
    batch_size: float, studies: tuple[float, ...], laws: OptimumLaws
) -> tuple[dict[str, float], dict[str, float]]:
    """The ends of the neighbours' near-optimal sets, read at the batch size between them."""
    sets = [laws.set_at(b) for b in studies]
    ends: tuple[dict[str, float], dict[str, float]] = ({}, {})
    if len(sets) != 2 or sets[0] is None or sets[1] is None:
        return ends
    share = _share(batch_size, studies[0], studies[1])
    for name in (name for name in sets[0].ranges if name in sets[1].ranges and name != EFFECTIVE):
        for end, found in zip(("low", "high"), ends, strict=True):
            found[name] = _between(name, getattr(sets[0].ranges[name], end), getattr(sets[1].ranges[name], end), share)
    return ends


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _same_options(below: Mapping[str, Any], above: Mapping[str, Any]) -> bool:
    """Whether both have the same hyperparameters and agree in all that are not numbers."""
    return set(below) == set(above) and all(
        (_is_number(below[name]) and _is_number(above[name])) or below[name] == above[name] for name in below
    )


def _between(name: str, low: Any, high: Any, share: float) -> Any:
    if low == high:
        return low
    domain = DOMAINS.get(name)
    if domain is not None and not domain.includes_high and domain.high == 1:
        return -math.expm1((1 - share) * math.log1p(-low) + share * math.log1p(-high))
    if min(low, high) > 0 and not (domain is not None and domain.includes_low):
        return math.exp((1 - share) * math.log(low) + share * math.log(high))
    return (1 - share) * low + share * high
