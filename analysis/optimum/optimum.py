"""How the best hyperparameters move with the batch size: sets, laws, verdicts and predictions of one run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import pandas as pd

from bcrit.analysis.optimum.coordinates import EFFECTIVE, Coordinate
from bcrit.analysis.optimum.law_fit import Estimate
from bcrit.analysis.optimum.laws import LAWS, PLAIN_LAWS, Law
from bcrit.analysis.optimum.near_optimal import WITHIN, NearOptimal, Range, near_optimal_sets
from bcrit.analysis.optimum.points import SeedNoise
from bcrit.analysis.optimum.sentences import law_sentence, set_sentence
from bcrit.analysis.optimum.verdict import Fitted, LawVerdict, judge
from bcrit.analysis.records.json_values import plain
from bcrit.search_spaces.experiment import Experiment
from bcrit.search_spaces.presets import DOMAINS

_RATES: Final = (EFFECTIVE, "lr")


@dataclass(frozen=True)
class Quantity:
    """A positive number that laws are fitted to: a hyperparameter, or one minus it.

    Attributes:
        name: `effective_lr`, `lr`, `1 - momentum` ...
        coordinate: the hyperparameter.
        one_minus: whether it is 1 minus the hyperparameter.
        laws: which are fitted.
    """

    name: str
    coordinate: str
    one_minus: bool
    laws: tuple[Law, ...]

    def of(self, value: float) -> float:
        """The quantity at a value of the hyperparameter; its own inverse."""
        return 1 - value if self.one_minus else value

    def ends(self, found: Range) -> tuple[float, float]:
        """Low and high of the quantity."""
        low, high = sorted((self.of(found.low), self.of(found.high)))
        return low, high


@dataclass(frozen=True, eq=False)
class OptimumLaws:
    """What is known of the optimum at every batch size, and of the law it follows.

    Attributes:
        within: share of the fewest steps that counts as near-optimal.
        margin: the share that was used: larger where the seed noise is.
        noise: over seeds.
        sets: the near-optimal set of every study, by rising batch size.
        quantities: what laws were fitted to.
        verdicts: by name of the quantity.
    """

    within: float
    margin: float
    noise: SeedNoise
    sets: tuple[NearOptimal, ...]
    quantities: tuple[Quantity, ...]
    verdicts: Mapping[str, LawVerdict]

    @property
    def reached(self) -> tuple[NearOptimal, ...]:
        """The studies that reached the target."""
        return tuple(found for found in self.sets if found.reached)

    def set_at(self, batch_size: float) -> NearOptimal | None:
        """The study at a batch size, if it was measured and reached the target."""
        return next((found for found in self.reached if found.batch_size == batch_size), None)

    def by_law(self, coordinate: str, batch_size: float) -> Estimate | None:
        """A hyperparameter at a batch size by the law that the studies support.

        Where several cannot be told apart the value is that of the best and the interval holds those of all.

        Args:
            coordinate: a hyperparameter or `effective_lr`.
            batch_size: inside or outside of the studies.

        Returns:
            The value with its 95 % interval; None where every law is rejected or too few studies were measured.
        """
        for quantity in self.quantities:
            verdict = self.verdicts[quantity.name]
            if quantity.coordinate == coordinate and verdict.supported:
                found = [verdict.law(name).fit.predict(batch_size) for name in verdict.supported]
                low, high = min(f.low for f in found), max(f.high for f in found)
                ends = sorted((quantity.of(low), quantity.of(high)))
                return Estimate(*(_possible(coordinate, value) for value in (quantity.of(found[0].value), *ends)))
        return None

    @property
    def sentences(self) -> tuple[str, ...]:
        """What a practitioner has to know, the laws first."""
        if not self.reached:
            return ("No study reached the target, so nothing is known of the best hyperparameters.",)
        return (*self.law_sentences, *(set_sentence(s, self.margin) for s in self.reached))

    @property
    def law_sentences(self) -> tuple[str, ...]:
        """The verdict on the laws, one sentence or more for each quantity."""
        return tuple(law_sentence(self.verdicts[q.name], q.name, q.laws) for q in self.quantities)

    def to_json(self) -> dict[str, Any]:
        """The object of `bcrit optimum --json`: finite numbers or null."""
        verdicts = {q.name: _verdict_json(self.verdicts[q.name]) for q in self.quantities}
        content = {
            "within": self.within,
            "margin": self.margin,
            "seed_noise": self.noise,
            "studies": [_set_json(found) for found in self.sets],
            "laws": verdicts,
            "sentences": self.sentences,
        }
        found: dict[str, Any] = plain(content)
        return found


def optimum_laws(
    trials: pd.DataFrame,
    studies: pd.DataFrame,
    boundary: pd.DataFrame,
    experiment: Experiment,
    within: float = WITHIN,
) -> OptimumLaws:
    """Find where the optimum of every study lies and fit the laws of its movement.

    Args:
        trials: the trials table.
        studies: one row a study, as `steps_to_target` gives them.
        boundary: the boundary verdicts.
        experiment: the declared space.
        within: share of the fewest steps that counts as near-optimal.

    Returns:
        Sets and verdicts. Without a reached study all sets are empty and there are no laws.
    """
    sets, noise = near_optimal_sets(trials, studies, boundary, experiment, within)
    reached = [found for found in sets if found.reached]
    quantities = _quantities(reached)
    margin = float(np.expm1(max(np.log1p(within), noise.log_sd or 0.0)))
    return OptimumLaws(within, margin, noise, sets, quantities, {q.name: _judge(q, reached) for q in quantities})


def _possible(name: str, value: float) -> float:
    """The value held within the hyperparameter's natural domain, where that has a closed end."""
    domain = DOMAINS.get(name)
    return max(value, domain.low) if domain is not None and domain.includes_low else value


def _quantities(sets: Sequence[NearOptimal]) -> tuple[Quantity, ...]:
    seen: dict[str, Coordinate] = {
        c.name: c for found in sets for c in found.axes.coordinates if c.name in found.ranges
    }
    found = []
    for name, coordinate in seen.items():
        if name in _RATES and coordinate.low > 0:
            found.append(Quantity(name, name, False, LAWS))
        elif coordinate.scale == "reverse_log":
            found.append(Quantity(f"1 - {name}", name, True, PLAIN_LAWS))
        elif coordinate.scale == "log" and not coordinate.conditional:
            found.append(Quantity(name, name, False, PLAIN_LAWS))
    return tuple(found)


def _judge(quantity: Quantity, sets: Sequence[NearOptimal]) -> LawVerdict:
    mine = [(s.batch_size, s.ranges[quantity.coordinate]) for s in sets if quantity.coordinate in s.ranges]
    ends = np.array([quantity.ends(found) for _, found in mine])
    batch_sizes = np.array([b for b, _ in mine], dtype=float)
    values = np.array([quantity.of(found.centre) for _, found in mine])
    spreads = [(found.spread, found.n) for _, found in mine]
    return judge(quantity.laws, batch_sizes, values, ends[:, 0], ends[:, 1], spreads)


def _verdict_json(verdict: LawVerdict) -> dict[str, Any]:
    return {
        "verdict": verdict.kind,
        "supported": verdict.supported,
        "n_studies": len(verdict.batch_sizes),
        "batch_sizes": verdict.batch_sizes,
        "values": verdict.values,
        "log_half_widths": verdict.half_width,
        "laws": [_law_json(fitted) for fitted in verdict.laws],
    }


def _law_json(fitted: Fitted) -> dict[str, Any]:
    fit = fitted.fit
    return {
        "law": fit.law.name,
        "formula": fit.law.formula,
        "source": fit.law.source,
        "parameters": fit.parameters,
        "rms_log_residual": float(np.sqrt((fit.residuals**2).mean())),
        "aicc": fit.aicc,
        "delta_aicc": fitted.delta,
        "p_value": fitted.p_value,
        "rejected": fitted.rejected,
        "misses": fitted.misses,
    }


def _set_json(found: NearOptimal) -> dict[str, Any]:
    return {
        "batch_size": found.batch_size,
        "steps": found.steps,
        "limit": found.limit,
        "best": found.best,
        "n_near_optimal": found.n_inside,
        "n_worse": found.n_worse,
        "n_not_known": found.n_unknown,
        "n_set_aside": found.points.n_set_aside,
        "ranges": found.ranges,
        "options": {
            name: {o: dict(zip(("near_optimal", "worse", "n"), counts, strict=True)) for o, counts in options.items()}
            for name, options in found.options.items()
        },
        "box": "declared" if found.axes.declared else "range of the trials",
    }


__all__ = ["OptimumLaws", "Quantity", "optimum_laws"]
