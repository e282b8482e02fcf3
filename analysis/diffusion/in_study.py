"""The movement of the weights in the runs of an experiment: its law at every batch size, and the speeds beside it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from bcrit.analysis.diffusion.movement import Law, Movement, fit_movement
from bcrit.analysis.diffusion.slopes import SlopeLaw, fit_slopes
from bcrit.analysis.diffusion.straight_line import straight_line
from bcrit.analysis.records.json_values import plain
from bcrit.analysis.wording import enumeration, readable


@dataclass(frozen=True)
class WeightMovement:
    """What a run says on how its weights moved.

    Attributes:
        curves: one row an evaluation after step 0: `trial_id`, `batch_size`, `step`, `weight_distance`.
        movements: one a batch size with enough measurements.
        slopes: how the speed goes with the batch size under the law that most follow; None where it is not known.
        sentences: the verdicts in words, the one on all batch sizes first.
    """

    curves: pd.DataFrame
    movements: tuple[Movement, ...]
    slopes: SlopeLaw | None
    sentences: tuple[str, ...]

    def to_json(self) -> dict[str, Any]:
        """The object `weight_distance` of `bcrit analyze --json`."""
        found: dict[str, Any] = plain({name: getattr(self, name) for name in ("movements", "slopes", "sentences")})
        return found


def weight_movement(rows: pd.DataFrame, rates: Mapping[int, float] | None = None) -> WeightMovement | None:
    """Fit the movement of every study, from the first update to the end of its runs.

    Args:
        rows: what `bcrit.analysis.probed.probed` returned.
        rates: the learning rate of the runs by batch size; None = not known.

    Returns:
        The summary; None where no distance was measured.
    """
    measured = rows[rows["weight_distance"].notna() & (rows["step"] > 0)]
    if measured.empty:
        return None
    movements, sentences = [], []
    for batch_size, study in measured.groupby("batch_size"):
        runs = [(run["step"], run["weight_distance"]) for _, run in study.groupby("trial_id")]
        found = fit_movement(int(batch_size), runs)  # type: ignore[arg-type]
        sentences.append(found if isinstance(found, str) else found.reason)
        if not isinstance(found, str):
            movements.append(found)
    laws = Counter(movement.law for movement in movements if movement.law is not None)
    law: Law = laws.most_common(1)[0][0] if laws else "log"
    slopes = fit_slopes(movements, law)
    mean_speed = fit_slopes(movements, all_the_same=True) if isinstance(slopes, str) else slopes
    curves = measured[["trial_id", "batch_size", "step", "weight_distance"]].reset_index(drop=True)
    said = (_laws(laws, len(sentences)), _slope_sentence(slopes, mean_speed, rates or {}), *sentences)
    return WeightMovement(curves, tuple(movements), None if isinstance(slopes, str) else slopes, said)


def _laws(laws: Counter[Law], n: int) -> str:
    if not laws:
        return (
            "At no batch size is it identified whether the weights move away from their start with log t (Hoffer et "
            "al. 2017) or with sqrt t."
        )
    parts = [f"with {law} t at {count} of {n} batch sizes" for law, count in laws.most_common()]
    return (
        f"The weights move away from their start {enumeration(parts)}. Hoffer et al. 2017 found log t; a plain random "
        "walk would go with sqrt t."
    )


def _slope_sentence(slopes: SlopeLaw | str, mean_speed: SlopeLaw | str, rates: Mapping[int, float]) -> str:
    """The speed by batch size; of all batch sizes where too few follow one law."""
    if isinstance(mean_speed, str):
        return mean_speed
    said = f"Under {mean_speed.law} t" if slopes is mean_speed else f"{slopes} Read as log t all the same,"
    return (
        f"{said} their speed goes with the batch size to the power {readable(mean_speed.exponent)} "
        f"({readable(mean_speed.exponent_low)} to {readable(mean_speed.exponent_high)}){_rate_clause(rates)}; "
        "Hoffer et al. 2017 find 0 where lr grows with the root of the batch size, and less where it stays."
    )


def _rate_clause(rates: Mapping[int, float]) -> str:
    """How the runs' learning rate goes with the batch size."""
    if len(rates) < 2:
        return ""
    x, y = (np.log(np.array(list(values), dtype=np.float64)) for values in (rates.keys(), rates.values()))
    if np.ptp(y) < 1e-9:
        return ", lr being the same at all"
    return f", and lr to the power {readable(straight_line(x, y).slope)}"


__all__ = ["WeightMovement", "weight_movement"]
