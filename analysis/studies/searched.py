"""The search trials of one study as the boundary rule reads them: in columns, since large studies have thousands."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from bcrit.search_spaces.dimensions import Box
from bcrit.search_spaces.outcome import Outcome
from bcrit.search_spaces.space import SearchSpace, hyperparameter

Floats = npt.NDArray[np.float64]
Flags = npt.NDArray[np.bool_]
Places = npt.NDArray[np.int64]


@dataclass(frozen=True)
class SearchedPoint:
    """What the rule needs of one search trial.

    Attributes:
        point: its hyperparameters.
        steps_to_target: optimizer updates; None if the target was not reached.
        feasible: False if it diverged or did not run.
        shortfall: how far the best value of the target's metric stayed from the threshold; None where it has none.
            Only used while no trial of the study has reached.
    """

    point: Mapping[str, Any]
    steps_to_target: int | None
    feasible: bool
    shortfall: float | None = None


@dataclass(frozen=True)
class SearchedTrials:
    """Search trials in columns; all arrays are (n_trials,).

    Attributes:
        values: hyperparameters by name, as objects; None or NaN where a point lacks one.
        steps: steps to target, NaN where not reached.
        feasible: see `SearchedPoint`.
        shortfall: see `SearchedPoint`; NaN where it has none.
    """

    values: Mapping[str, npt.NDArray[np.object_]]
    steps: Floats
    feasible: Flags
    shortfall: Floats

    @classmethod
    def of(cls, points: Sequence[SearchedPoint]) -> SearchedTrials:
        """The points in columns."""
        names = dict.fromkeys(name for searched in points for name in searched.point)
        return cls(
            {name: np.array([searched.point.get(name) for searched in points], dtype=object) for name in names},
            np.array([searched.steps_to_target for searched in points], dtype=float),
            np.array([searched.feasible for searched in points], dtype=bool),
            np.array([searched.shortfall for searched in points], dtype=float),
        )

    @classmethod
    def in_frame(cls, trials: pd.DataFrame, names: Sequence[str], threshold: float) -> SearchedTrials:
        """The trials of a frame with the columns of `TRIALS`, without those that did not run.

        Args:
            trials: search trials of one study.
            names: of the hyperparameters.
            threshold: of the target.
        """
        trials = trials[~trials["outcome"].isin([outcome for outcome in Outcome if outcome.broken])]
        return cls(
            {name: trials[name].to_numpy(dtype=object) for name in names},
            trials["steps_to_target"].to_numpy(dtype=float, na_value=np.nan),
            trials["outcome"].isin([outcome for outcome in Outcome if outcome.feasible]).to_numpy(dtype=bool),
            np.abs(trials["best_value"].to_numpy(dtype=float, na_value=np.nan) - threshold),
        )

    def point(self, place: int) -> dict[str, Any]:
        """The hyperparameters of one trial."""
        return {name: of[place] for name, of in self.values.items() if not pd.isna(of[place])}

    def on(self, address: str) -> Floats:
        """The values on one numeric axis; NaN where it does not exist."""
        values = self.values.get(hyperparameter(address))
        if values is None:
            return np.full(len(self.steps), np.nan)
        name, *inner = address.split(".")
        exists = self.values[name] == inner[0] if inner else np.ones(len(values), dtype=bool)
        return np.where(exists, values, np.nan).astype(float)

    def best_boxes(self, space: SearchSpace, best: int) -> dict[str, Box]:
        """The numeric axes that exist at one trial's point, by address."""
        point = self.point(best)
        active = space.active(point).items()
        return {address: box for address, box in active if isinstance(box, Box) and hyperparameter(address) in point}

    def near_optimal(self, within: float) -> Places:
        """The trials within this share of the fewest steps, the best first.

        While none has reached, those that came nearest to the target take their place: the nearest tenth, at least one.
        A box that lies wholly beside the optimum is then widened in the right direction.

        Args:
            within: share of the fewest steps.
        """
        reached = np.flatnonzero(~np.isnan(self.steps))
        if len(reached):
            limit = self.steps[reached].min() * (1 + within)
            near = reached[self.steps[reached] <= limit]
            fastest_first: Places = near[np.argsort(self.steps[near], kind="stable")]
            return fastest_first
        known = np.flatnonzero(self.feasible & ~np.isnan(self.shortfall))
        nearest: Places = known[np.argsort(self.shortfall[known], kind="stable")]
        return nearest[: -(-len(known) // 10)]


__all__ = ["SearchedPoint", "SearchedTrials"]
