"""What a finished run knows: the tuned learning rate of every batch size, and what all runs here keep the same."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from bcrit.analysis.curve.fit import fit_hyperbola
from bcrit.analysis.records.arrow_tables import to_arrow
from bcrit.analysis.studies.steps_to_target import steps_to_target
from bcrit.search_spaces.experiment import Experiment
from bcrit.search_spaces.outcome import Stage
from bcrit.search_spaces.presets import EXTRAPOLATED
from bcrit.search_spaces.problems import InputError
from bcrit.search_spaces.space_rules import has_effective_lr
from bcrit.search_spaces.tables import STEPS_TO_TARGET, TRIALS

FEWEST = 3
"""Confirmed studies that are needed: those of `bcrit.analysis.questions.adaptive.measure`."""


@dataclass(frozen=True)
class Tuned:
    """What the studies found.

    Attributes:
        batch_sizes: of the confirmed studies, rising.
        rates: learning rate at each.
        steps: to the target at each.
        kept: the other hyperparameters.
        kept_from: batch size of the study that they are of: the one nearest to b_crit.
        notes: what to know, a sentence each.
    """

    batch_sizes: tuple[int, ...]
    rates: tuple[float, ...]
    steps: tuple[float, ...]
    kept: Mapping[str, Any]
    kept_from: int
    notes: tuple[str, ...]


def tuned(trials: Sequence[Mapping[str, Any]], experiment: Experiment, where: str) -> Tuned:
    """Read the winners of a run.

    Where momentum differs between the studies, what is carried over from each is lr / (1 - momentum), at the momentum
    that is kept (Shallue et al. 2018 find that it is what matters), if the optimizer's velocity is a sum; else lr.

    Args:
        trials: rows of the trials table.
        experiment: that they are of.
        where: the run, for messages.

    Returns:
        The learning rates and the rest.

    Raises:
        InputError: too few studies are confirmed, or their winners cannot train with batch sizes that change.
    """
    frame = to_arrow(TRIALS, trials).to_pandas()
    studies = steps_to_target(frame, experiment)
    good = studies[(studies["source"] == Stage.CONFIRM) & studies["steps"].notna()].sort_values("batch_size")
    if len(good) < FEWEST:
        rule = f"a frontier needs {FEWEST} batch sizes whose winner was run again on fresh seeds and reached the target"
        raise InputError(where, [f"{rule}, but there are {len(good)}; `confirm` in an experiment asks for re-runs"])
    points = {int(row["batch_size"]): _point(row) for row in good.to_dict("records")}
    _refuse(points, experiment.optimizer, where)
    b_crit = fit_hyperbola(good).b_crit
    middle = min(points, key=lambda b: abs(math.log(b / b_crit)) if 0 < b_crit < math.inf else b)
    kept = {name: value for name, value in points[middle].items() if name != "lr"}
    summed = has_effective_lr(experiment.optimizer)
    rates = tuple(_rate(point, kept) if summed else float(point["lr"]) for point in points.values())
    notes = []
    others = {name for point in points.values() for name in point if point[name] != points[middle].get(name)} - {"lr"}
    if others:
        carried = " (the learning rates keep lr / (1 - momentum))" if summed and "momentum" in others else ""
        notes.append(
            f"The studies also differ in {', '.join(sorted(others))}; all runs here have what was tuned at batch size "
            f"{middle:,}{carried}, so that the fixed batch sizes are not tuned as well as in their studies."
        )
    return Tuned(tuple(points), rates, tuple(float(s) for s in good["steps"]), kept, middle, tuple(notes))


def _point(row: Mapping[Any, Any]) -> dict[str, Any]:
    not_these = set(STEPS_TO_TARGET.names)
    return {
        str(name): value
        for name, value in row.items()
        if name not in not_these and value is not None and not (isinstance(value, float) and math.isnan(value))
    }


def _refuse(points: Mapping[int, Mapping[str, Any]], optimizer: str, where: str) -> None:
    """Refuse what has no meaning where the batch size changes.

    Raises:
        InputError: there is such a thing.
    """
    problems = []
    if optimizer in EXTRAPOLATED:
        problems.append(f"optimizer '{optimizer}' has a local batch size of its own; use {EXTRAPOLATED[optimizer]}")
    scheduled = [b for b, point in points.items() if str(point.get("schedule", "constant")) != "constant"]
    warmed = [b for b, point in points.items() if float(point.get("warmup_steps", 0)) > 0]
    for kind, sizes in (("a learning rate schedule", scheduled), ("a warm-up", warmed)):
        if sizes:
            problems.append(
                f"the winners at batch size {', '.join(map(str, sizes))} have {kind}, whose length in updates has no "
                "meaning where the batch size changes; tune with 'schedule: constant' and no warm-up"
            )
    averaged = sorted({name for point in points.values() for name in point if name.startswith("ema_")})
    if averaged:
        problems.append(f"averaged weights ({', '.join(averaged)}) belong to one batch size; tune without them")
    if any("lr" not in point for point in points.values()):
        problems.append("the winners have no learning rate 'lr', which must go with the batch size")
    if problems:
        raise InputError(where, problems)


def _rate(point: Mapping[str, Any], kept: Mapping[str, Any]) -> float:
    rate = float(point["lr"])
    if "momentum" in point and point["momentum"] != kept["momentum"]:
        rate *= (1.0 - float(kept["momentum"])) / (1.0 - float(point["momentum"]))
    return rate


__all__ = ["FEWEST", "Tuned", "tuned"]
