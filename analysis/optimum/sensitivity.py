"""How sensitive every study is to its hyperparameters, which matter, and how that moves with the batch size."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal

import numpy as np
import numpy.typing as npt
from scipy import special, stats

from bcrit.analysis.numbers import Estimate, Floats, enumeration, readable, straight_line
from bcrit.analysis.optimum import words
from bcrit.analysis.optimum.coordinates import Coordinate
from bcrit.analysis.optimum.near_optimal import Mask, NearOptimal, NearOptimalSets, evenly
from bcrit.analysis.optimum.space import Importances, importances, near_optimal_share
from bcrit.analysis.records.json_values import plain
from bcrit.search_spaces.target import Target

Kind = Literal["sensitive", "insensitive", "not known"]
Statistic = Callable[[npt.NDArray[Any]], npt.NDArray[Any]]

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

FEWEST_STUDIES: Final = 4
"""Studies below which there is no trend: two degrees of freedom beside the line. Chosen."""

_NEAR = 4  # a random set takes each point from this many places before or after, or an eighth of the search. Chosen.
_DRAWS = 1999  # random sets: the p-value is a multiple of 1/2000, so that one study can pass the overall level
_MOST = 1000  # points that are tested; more are thinned evenly. Chosen.
_BINS, _MANY_BINS, _MANY = 10, 20, 400  # bins of equal scaled width; more for studies of many points. Chosen.


@dataclass(frozen=True)
class Verdict:
    """Whether one hyperparameter matters in one study, or over all."""

    kind: Kind
    # Probability that so many random points of the study lie as close together as the near-optimal ones; None with
    # fewer than two.
    p_value: float | None
    n: int  # near-optimal points
    # Share of the box from the 5th to the 95th percentile of the near-optimal points, or share of the options among
    # them; over all studies its median.
    span: float


def study_verdicts(found: NearOptimal, seed: int = 0) -> dict[str, Verdict]:
    """Judge every hyperparameter of one study; `effective_lr` first where there is one.

    Sensitive: the near-optimal points lie closer together (standard deviation in the scaled coordinate; share of the
    most frequent option) than all but 1 % of equally large random sets do. Such a set has points that were drawn at
    about the same time: comparing with the search and not with the box allows for a search that draws points together.
    Insensitive: that is not so, and the near-optimal points span the box. Not known otherwise: mostly too few points.
    """
    rng, verdicts = np.random.default_rng(seed), dict[str, Verdict]()
    if not found.reached:
        return {}
    for coordinate in found.axes.coordinates:
        unit = coordinate.unit(found.values(coordinate))
        here = evenly(np.flatnonzero(np.isfinite(unit)), _MOST)
        near = unit[here][found.inside[here]]
        span = float(np.subtract(*np.quantile(near, [0.95, 0.05]))) if len(near) else 0.0
        p_value = _p_value(unit[here], found.inside[here], rng, lambda drawn: drawn.std(-1))
        verdicts[coordinate.name] = _verdict(p_value, len(near), span, span >= SPANS)
    for name, options in found.axes.choices.items():
        here = evenly(np.arange(len(found.inside)), _MOST)
        codes = found.codes(name)[here]
        members = codes[found.inside[here]]
        span = len(np.unique(members)) / len(options)
        p_value = _p_value(codes, found.inside[here], rng, _without_the_most_frequent(np.unique(codes)))
        verdicts[name] = _verdict(p_value, len(members), span, span == 1)
    return verdicts


def _without_the_most_frequent(codes: npt.NDArray[np.int64]) -> Statistic:
    return lambda drawn: drawn.shape[-1] - np.max([(drawn == code).sum(-1) for code in codes], axis=0)


def _verdict(p_value: float | None, n: int, span: float, spans: bool) -> Verdict:
    if p_value is not None and p_value < LEVEL:
        return Verdict("sensitive", p_value, n, span)
    return Verdict("insensitive" if n >= FEWEST and spans else "not known", p_value, n, span)


def _p_value(values: npt.NDArray[Any], members: Mask, rng: np.random.Generator, apart: Statistic) -> float | None:
    """How often points of about the same places in the search lie no further `apart` than the near-optimal ones."""
    if members.sum() < 2 or members.all():
        return None
    places, n = np.flatnonzero(members), len(members)
    reach = max(_NEAR, n // 8)
    moved = np.abs(places + rng.integers(-reach, reach, size=(_DRAWS, len(places)), endpoint=True))
    moved = np.where(moved >= n, 2 * (n - 1) - moved, moved)  # reflected at the first and at the last trial
    return float(1 + (apart(values[moved]) <= apart(values[members])).sum()) / (_DRAWS + 1)


def overall_verdicts(by_study: Sequence[Mapping[str, Verdict]]) -> dict[str, Verdict]:
    """Judge every hyperparameter over all studies: p-values combined by Fisher's method.

    Sensitive where the combined p-value is below `LEVEL_OVERALL`; insensitive where it is not and at least half of the
    studies say so; else not known.
    """
    found = {}
    for name in dict.fromkeys(name for verdicts in by_study for name in verdicts):
        mine = [verdicts[name] for verdicts in by_study if name in verdicts]
        values = [verdict.p_value for verdict in mine if verdict.p_value is not None]
        combined = float(special.chdtrc(2 * len(values), -2 * sum(map(math.log, values)))) if values else None
        kind: Kind = "not known"
        if combined is not None and combined < LEVEL_OVERALL:
            kind = "sensitive"
        elif 2 * [verdict.kind for verdict in mine].count("insensitive") >= len(mine):
            kind = "insensitive"
        span = float(np.median([verdict.span for verdict in mine]))
        found[name] = Verdict(kind, combined, sum(verdict.n for verdict in mine), span)
    return found


@dataclass(frozen=True, eq=False)
class Profile:
    """The lower envelope of steps along one hyperparameter: how well a value can do with the others chosen for it."""

    name: str  # the hyperparameter, or `effective_lr`
    low: Floats  # lower end of every bin, in the hyperparameter's unit; (m,)
    high: Floats  # upper end; (m,)
    ratio: Floats  # fewest steps in the bin, relative to the study's best point; NaN where none reached the target
    n: npt.NDArray[np.int64]  # points in the bin; (m,)
    n_reached: npt.NDArray[np.int64]  # those that reached the target; (m,)


def profile(found: NearOptimal, coordinate: Coordinate) -> Profile:
    """Bin the points of a study that reached its target, along one coordinate, over its box."""
    scaled = coordinate.scaled(found.values(coordinate))
    here = np.isfinite(scaled)
    start, end = found.span(coordinate)
    edges = np.linspace(start, end if end > start else start + 1, (_MANY_BINS if here.sum() >= _MANY else _BINS) + 1)
    place = np.clip(np.searchsorted(edges, scaled[here], side="right") - 1, 0, len(edges) - 2)
    steps = found.points.steps[here]
    reached, bins = np.isfinite(steps), len(edges) - 1
    fewest = np.full(bins, np.inf)
    np.minimum.at(fewest, place[reached], steps[reached])
    values = np.array([coordinate.unscaled(edge) for edge in edges])
    return Profile(
        name=coordinate.name,
        low=values[:-1],
        high=values[1:],
        ratio=np.where(np.isfinite(fewest), fewest / found.steps, np.nan),
        n=np.bincount(place, minlength=bins),
        n_reached=np.bincount(place[reached], minlength=bins),
    )


@dataclass(frozen=True)
class Trend:
    """How the near-optimal volume changes with the batch size."""

    kind: Literal["shrinks", "grows", "no trend", "not known"]  # no trend: the interval of the slope holds 0
    slope: Estimate  # of log volume on log batch size
    rank_correlation: float | None  # Spearman's, which assumes no line
    p_value: float | None  # of the rank correlation
    n: int  # studies


def trend(batch_sizes: Sequence[float], volumes: Sequence[float]) -> Trend:
    """Regress log volume, in units of one and the same box, on log batch size, every study weighing alike."""
    n = len(batch_sizes)
    if n < FEWEST_STUDIES:
        return Trend("not known", Estimate(None), None, None, n)
    slope = straight_line(np.log(batch_sizes), np.log(volumes)).slope_within()
    varied = len(set(volumes)) > 1
    rank, p_value = (float(v) for v in stats.spearmanr(batch_sizes, volumes)) if varied else (0.0, 1.0)
    way: Literal["shrinks", "grows"] = "shrinks" if (slope.value or 0.0) < 0 else "grows"
    return Trend("no trend" if slope.holds(0) else way, slope, rank, p_value, n)


@dataclass(frozen=True, eq=False)
class StudySensitivity:
    """One study."""

    found: NearOptimal  # its points and which of them are near-optimal
    share: Estimate  # of the search space that is near-optimal
    # The same relative to the box of the run's first study; None without a share, or where the studies did not search
    # the same hyperparameters.
    volume: float | None
    profiles: tuple[Profile, ...]  # along each hyperparameter; empty where nothing reached the target
    verdicts: Mapping[str, Verdict]  # whether each matters
    importances: Importances  # how much each explains

    @property
    def batch_size(self) -> int:
        """The study."""
        return self.found.batch_size

    @property
    def known(self) -> bool:
        """Whether the interval of the share is worth a sentence: narrower than half of the space. Chosen."""
        low, high = self.share.low, self.share.high
        return self.share.known and low is not None and high is not None and high - low < 0.5


@dataclass(frozen=True, eq=False)
class Sensitivity:
    """What is known of a run's sensitivity."""

    sets: NearOptimalSets
    studies: tuple[StudySensitivity, ...]  # by rising batch size
    verdicts: Mapping[str, Verdict]  # over all studies, by hyperparameter
    trend: Trend  # of the near-optimal volume

    @property
    def reached(self) -> tuple[StudySensitivity, ...]:
        """The studies that reached the target."""
        return tuple(study for study in self.studies if study.found.reached)

    @property
    def sentences(self) -> tuple[str, ...]:
        """What a practitioner has to know, the verdicts first."""
        if not self.reached:
            return ("No study reached the target, so nothing is known of the sensitivity to hyperparameters.",)
        return tuple(said for said in (_matters(self.verdicts), *_shares(self), _trend(self.trend)) if said)

    def to_json(self) -> dict[str, Any]:
        """The object of `bcrit sensitivity --json`: finite numbers or null."""
        slope = self.trend.slope
        content = {
            "studies": [_study_json(study) for study in self.studies],
            "hyperparameters": self.verdicts,
            "trend": {**vars(self.trend), "slope": slope.value, "low": slope.low, "high": slope.high},
            "sentences": self.sentences,
        }
        return {**self.sets.to_json(), **plain(content)}


def sensitivity_of(sets: NearOptimalSets, target: Target) -> Sensitivity:
    """Measure how much of every search space is near-optimal and what matters in it."""
    boxes = _relative_boxes(sets.studies)
    found = tuple(_study(s, box, target) for s, box in zip(sets.studies, boxes, strict=True))
    known = [(s.batch_size, s.volume) for s in found if s.volume and s.known]
    over = trend([b for b, _ in known], [volume for _, volume in known])
    return Sensitivity(sets, found, overall_verdicts([s.verdicts for s in found if s.found.reached]), over)


def _study(found: NearOptimal, box: float | None, target: Target) -> StudySensitivity:
    share = near_optimal_share(found)
    if not found.reached:
        nothing = Importances({}, 0, (), "the study did not reach the target")
        return StudySensitivity(found, share, None, (), {}, nothing)
    volume = None if share.value is None or box is None else share.value * box
    profiles = tuple(profile(found, coordinate) for coordinate in found.axes.coordinates)
    return StudySensitivity(found, share, volume, profiles, study_verdicts(found), importances(found, target))


def _relative_boxes(sets: Sequence[NearOptimal]) -> list[float | None]:
    """The volume of every study's box relative to the first's; None where other hyperparameters were searched."""
    kinds = [([(c.name, c.scale) for c in s.axes.numeric], dict(s.axes.choices)) for s in sets]
    widths = [[end - start for start, end in (c.ends for c in s.axes.numeric)] for s in sets]
    if any(kind != kinds[0] for kind in kinds):
        return [None] * len(sets)
    pairs = [list(zip(mine, widths[0], strict=True)) for mine in widths]
    return [math.prod(own / first if first > 0 else 1.0 for own, first in pair) for pair in pairs]


def _study_json(study: StudySensitivity) -> dict[str, Any]:
    counts = dict(zip(("n_inside", "n_worse", "n_unknown"), study.found.counts, strict=True))
    by_name = {name: value.json() for name, value in study.importances.by_name.items()}
    return {
        "batch_size": study.batch_size,
        "steps": study.found.steps,
        "limit": study.found.limit,
        "share": {**study.share.json(), **counts},
        "volume": study.volume,
        "box": study.found.box,
        "hyperparameters": study.verdicts,
        "profiles": study.profiles,
        "importances": {**vars(study.importances), "by_name": by_name},
    }


_MATTERS: Final = {
    "sensitive": "tune {}: the near-optimal trials lie closer together there than the search as a whole",
    "insensitive": "{} hardly matters: near-optimal trials are spread over its whole range",
    "not known": "whether {} matters is not known: too few trials are near-optimal",
}


def _matters(verdicts: Mapping[str, Verdict]) -> str:
    parts = []
    for kind, text in _MATTERS.items():
        names = [words(name) for name, verdict in verdicts.items() if verdict.kind == kind]
        if len(names) > 1:
            text = text.replace("matters", "matter").replace("its whole range", "their whole ranges")
        if names:
            parts.append(text.format(enumeration(names)))
    sentence = "; ".join(parts)
    return f"{sentence[0].upper()}{sentence[1:]}." if sentence else ""


def _shares(found: Sensitivity) -> list[str]:
    box = "the search space" if all(s.found.axes.declared for s in found.studies) else "the range that was tried"
    known, vague = ([s for s in found.reached if s.known is wanted] for wanted in (True, False))
    said = [
        f"At batch size {readable(s.batch_size)}, {_percent(s.share.value)} of {box} (95 % interval "
        f"{_percent(s.share.low)} to {_percent(s.share.high)}) costs at most {100 * found.sets.margin:.0f} % more "
        "steps than the best."
        for s in dict.fromkeys((known[0], known[-1]) if known else ())
    ]
    if vague:
        said.append(
            f"At batch size {', '.join(readable(s.batch_size) for s in vague)} the share is hardly known: too many "
            "trials were cut off early, or too few were run."
        )
    return said


def _percent(share: float | None) -> str:
    value = 100 * (share or 0.0)
    return f"{value:.2g} %" if value < 10 else f"{value:.0f} %"


def _trend(over: Trend) -> str:
    if over.slope.value is None:
        return ""
    factor = f"a doubling of the batch size multiplies it by {2**over.slope.value:.2f}"
    if over.slope.low is not None and over.slope.high is not None:
        factor += f" ({2**over.slope.low:.2f} to {2**over.slope.high:.2f})"
    if over.kind == "no trend":
        return f"The near-optimal region shows no clear trend with the batch size over {over.n} studies: {factor}."
    return f"The near-optimal region {over.kind} with the batch size: {factor}, over {over.n} studies."
