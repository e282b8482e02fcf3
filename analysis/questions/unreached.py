"""The target was not reached: how near did each batch size come, and should the target give or the budget?"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from bcrit.analysis.numbers import enumeration, readable, value_text
from bcrit.analysis.records.json_values import plain
from bcrit.analysis.records.one_pass import Floats
from bcrit.analysis.report import Answer, Rows, table_of
from bcrit.analysis.run import Run
from bcrit.analysis.studies.boundary import feasible
from bcrit.analysis.studies.state import causes
from bcrit.analysis.targets.crossings import looser
from bcrit.search_spaces.target import Direction, Target

_ENOUGH = 6  # batch sizes that a curve should have (`bcrit.analysis.studies.state`)
_WORTH = 4.0  # a target that is further away than this many times the budget should rather give. Chosen, not studied.


@dataclass(frozen=True)
class _Nearest:
    """The trial of a study that came nearest to the target."""

    batch_size: int
    trial: str
    best: float  # of the target's metric
    steps: int  # that it made
    # How many times as many steps the target takes at least; None where that cannot be told, infinite where the metric
    # has stopped improving.
    factor: float | None


def ask(run: Run) -> Answer | str:
    """Say how near every batch size came to a target that was not reached, and what to change."""
    missed = run.studies[run.studies["steps"].isna() & ~run.studies["batch_size"].isin(run.early)]
    target = run.experiment.target
    if target != run.declared.target:
        return f"the run was made for {run.declared.target}, and its trials stop there"
    if missed.empty:
        return "every batch size that has finished reached the target"
    nearest = _nearest(run, set(missed["batch_size"]))
    if not nearest:
        return f"no trial that did not reach the target has a value of '{target.metric}'"
    common = strictest(run.trials[feasible(run.trials)], target)
    far = [each for each in nearest if each.factor is not None and each.factor > _WORTH]
    near = [each for each in nearest if each.factor is not None and each.factor <= _WORTH]
    # What keeps a run from its curve says these already.
    sentences = [s for s in causes(run.trials, set(missed["batch_size"])) if s[1:-1] not in (run.no_fit or "")]
    if common is not None:
        n, threshold = common
        reads = f"`bcrit analyze {run.location} --target '{threshold}'` reads the curve at it from what was trained"
        sentences.append(f"The strictest target that {n} batch sizes reached is {threshold}: {reads}.")
    if near:
        most = readable(max(each.factor or 1 for each in near))
        sentences.append(
            f"At batch size {_sizes(near)} a larger budget may do: at the pace of the last half of their steps the "
            f"target takes up to {most} times as many, or more where the pace falls."
        )
    if far:
        sentences.append(
            f"At batch size {_sizes(far)} loosen the target rather than raise the budget: at the pace of the last half "
            f"of their steps it takes more than {_WORTH:g} times as many."
        )
    rows = [
        {
            "batch size": each.batch_size,
            f"best {target.metric}": each.best,
            "steps": each.steps,
            "the target takes": _takes(each),
        }
        for each in nearest
    ]
    facts = {
        "best": [vars(each) | {"factor": _finite(each.factor)} for each in nearest],
        "strictest": None if common is None else {"target": str(common[1]), "n": common[0]},
        "sentences": sentences,
    }
    heading = f"Nearest to {target} where it was not reached"
    parts = (Rows(heading, table_of(rows), brief=True),)
    return Answer("unreached", "Where the target was not reached", tuple(sentences), parts, plain(facts))


def _takes(each: _Nearest) -> str:
    if each.factor is None:
        return "–"
    return "no longer improves" if each.factor == math.inf else f"at least {value_text(each.steps * each.factor)}"


def _finite(factor: float | None) -> float | None:
    return factor if factor is not None and math.isfinite(factor) else None


def _sizes(found: Sequence[_Nearest]) -> str:
    return enumeration([f"{each.batch_size:,}" for each in found])


def strictest(trials: pd.DataFrame, target: Target) -> tuple[int, Target] | None:
    """The strictest target of the same metric that six batch sizes reached, or all where there are fewer.

    With how many they are; None where as many reached the target itself, or none has a value. `trials` are those that
    count, with `batch_size` and `best_value`.
    """
    sign = target.direction.sign
    best = np.sort((sign * trials["best_value"].astype(float)).groupby(trials["batch_size"]).min().dropna())
    if not len(best):
        return None
    n = min(_ENOUGH, len(best))
    threshold = looser(float(sign * best[n - 1]), target.direction)
    found = target.model_copy(update={"threshold": threshold})
    return None if target.reached(float(sign * best[n - 1])) else (n, found)


def _nearest(run: Run, missed: set[int]) -> list[_Nearest]:
    """The best trial of each of these studies, with the pace at its end."""
    target, ascending = run.experiment.target, run.experiment.target.direction is Direction.MINIMIZE
    own = run.trials[feasible(run.trials) & run.trials["batch_size"].isin(missed) & run.trials["best_value"].notna()]
    best = own.sort_values(["best_value", "number"], ascending=[ascending, True]).groupby("batch_size").head(1)
    table = run.measurements(set(best["trial_id"])).to_pandas().sort_values("step")
    curves = {str(name): rows for name, rows in table[table["step"] > 0].groupby("trial_id", observed=True)}
    found = []
    for row in best.sort_values("batch_size").to_dict("records"):
        curve, factor = curves.get(row["trial_id"]), None
        if curve is not None:
            at, values = (curve[name].to_numpy(dtype=float) for name in ("step", target.metric))
            factor = times_as_many(at, values, target)
        size, steps = int(row["batch_size"]), int(row["steps"])
        found.append(_Nearest(size, str(row["trial_id"]), float(row["best_value"]), steps, factor))
    return found


def times_as_many(steps: Floats, values: Floats, target: Target) -> float | None:
    """How many times as many steps a run takes to its target, if it keeps the pace of the last half of its steps.

    A loss above 0 is taken to fall as a power of the step (Kaplan et al. 2020, section 1.2), any other metric to
    improve with the logarithm of the step. Both paces fall in the end, so that it is at least as many. None where the
    run has no two evaluations in its last half, or reached; infinite where it did not improve there.
    """
    sign = target.direction.sign
    best = np.fmin.accumulate(np.where(np.isfinite(values), sign * values, np.inf))
    before = int(np.searchsorted(steps, steps[-1] / 2, side="right")) - 1 if len(steps) else -1
    if before < 0 or before > len(steps) - 3 or not np.isfinite(best[before]) or target.reached(sign * float(best[-1])):
        return None
    half, end, goal = float(best[before]), float(best[-1]), sign * target.threshold
    if min(end, goal) > 0:
        half, end, goal = math.log(half), math.log(end), math.log(goal)
    pace = (half - end) / math.log(steps[-1] / steps[before])
    more = (end - goal) / pace if pace > 0 else math.inf
    return math.exp(more) if more < math.log(1e6) else math.inf
