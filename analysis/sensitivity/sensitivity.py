"""How sensitive every study of a run is to its hyperparameters, and how that changes with the batch size."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd

from bcrit.analysis.optimum.near_optimal import WITHIN, NearOptimal, near_optimal_sets
from bcrit.analysis.optimum.points import SeedNoise
from bcrit.analysis.records.json_values import plain
from bcrit.analysis.sensitivity.importances import Importances, importances
from bcrit.analysis.sensitivity.profiles import Profile, profile
from bcrit.analysis.sensitivity.sentences import sentences
from bcrit.analysis.sensitivity.share import Share, near_optimal_share
from bcrit.analysis.sensitivity.trend import Trend, trend
from bcrit.analysis.sensitivity.verdicts import Verdict, overall_verdicts, study_verdicts
from bcrit.search_spaces.experiment import Experiment
from bcrit.search_spaces.target import Target


@dataclass(frozen=True, eq=False)
class StudySensitivity:
    """One study.

    Attributes:
        found: its points and which of them are near-optimal.
        share: of the search space that is near-optimal.
        volume: the same relative to the box of the run's first study; None without a share, or where the studies did
            not search the same hyperparameters.
        profiles: along each hyperparameter; empty where nothing reached the target.
        verdicts: whether each matters.
        importances: how much each explains.
    """

    found: NearOptimal
    share: Share
    volume: float | None
    profiles: tuple[Profile, ...]
    verdicts: Mapping[str, Verdict]
    importances: Importances

    @property
    def batch_size(self) -> int:
        """The study."""
        return self.found.batch_size


@dataclass(frozen=True, eq=False)
class Sensitivity:
    """What is known of a run's sensitivity.

    Attributes:
        within: share of the fewest steps that counts as near-optimal.
        margin: the share that was used: larger where the seed noise is.
        noise: over seeds.
        studies: by rising batch size.
        verdicts: over all studies, by hyperparameter.
        trend: of the near-optimal volume.
    """

    within: float
    margin: float
    noise: SeedNoise
    studies: tuple[StudySensitivity, ...]
    verdicts: Mapping[str, Verdict]
    trend: Trend

    @property
    def reached(self) -> tuple[StudySensitivity, ...]:
        """The studies that reached the target."""
        return tuple(study for study in self.studies if study.found.reached)

    @property
    def sentences(self) -> tuple[str, ...]:
        """What a practitioner has to know."""
        shares = {study.batch_size: study.share for study in self.reached}
        declared = all(study.found.axes.declared for study in self.studies)
        return sentences(shares, self.verdicts, self.trend, self.margin, declared)

    def to_json(self) -> dict[str, Any]:
        """The object of `bcrit sensitivity --json`: finite numbers or null."""
        content = {
            "within": self.within,
            "margin": self.margin,
            "seed_noise": self.noise,
            "studies": [_study_json(study) for study in self.studies],
            "hyperparameters": self.verdicts,
            "trend": self.trend,
            "sentences": self.sentences,
        }
        found: dict[str, Any] = plain(content)
        return found


def sensitivity(
    trials: pd.DataFrame,
    studies: pd.DataFrame,
    boundary: pd.DataFrame,
    experiment: Experiment,
    within: float = WITHIN,
) -> Sensitivity:
    """Measure how much of every search space is near-optimal and what matters in it.

    Args:
        trials: the trials table.
        studies: one row a study, as `steps_to_target` gives them.
        boundary: the boundary verdicts, for the boxes.
        experiment: the declared space.
        within: share of the fewest steps that counts as near-optimal.

    Returns:
        The sensitivity; studies that did not reach the target have no share, no profiles and no verdicts.
    """
    return sensitivity_of(*near_optimal_sets(trials, studies, boundary, experiment, within), experiment.target, within)


def sensitivity_of(
    sets: tuple[NearOptimal, ...], noise: SeedNoise, target: Target, within: float = WITHIN
) -> Sensitivity:
    """The same from near-optimal sets that were found before, as `OptimumLaws` holds them.

    Args:
        sets: one a study, by rising batch size.
        noise: over seeds.
        target: for how near a point came to it.
        within: what the sets were found with.

    Returns:
        The sensitivity.
    """
    boxes = _relative_boxes(sets)
    found = tuple(_study(s, box, target) for s, box in zip(sets, boxes, strict=True))
    margin = math.expm1(max(math.log1p(within), noise.log_sd or 0.0))
    known = [(s.batch_size, s.volume) for s in found if s.volume and s.share.known]
    over = trend([b for b, _ in known], [volume for _, volume in known])
    reached = [study.verdicts for study in found if study.found.reached]
    return Sensitivity(within, margin, noise, found, overall_verdicts(reached), over)


def _study(found: NearOptimal, box: float | None, target: Target) -> StudySensitivity:
    share = near_optimal_share(found)
    volume = None if share.value is None or box is None else share.value * box
    if not found.reached:
        nothing = Importances({}, 0, (), "the study did not reach the target")
        return StudySensitivity(found, share, None, (), {}, nothing)
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
    best = study.found
    return {
        "batch_size": study.batch_size,
        "steps": best.steps,
        "limit": best.limit,
        "share": study.share,
        "volume": study.volume,
        "box": "declared" if best.axes.declared else "range of the trials",
        "hyperparameters": study.verdicts,
        "profiles": study.profiles,
        "importances": study.importances,
    }


__all__ = ["Sensitivity", "StudySensitivity", "sensitivity", "sensitivity_of"]
