"""Made-up runs on a known response surface, searched much as the program searches: for tests of what is read off them.

A third of the trials are uniform, the others steps around the best so far; a trial ends at 1.1 times the steps of the
best so far, and two thirds of the slower ones end at 0.45 times them. The best three points are re-run on fresh seeds.
The loss falls exponentially from 10 to the target 1, so that what a trial came to tells how slow it is.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from bcrit.analysis.optimum.near_optimal import WITHIN, NearOptimal, NearOptimalSets, near_optimal_sets
from bcrit.analysis.records.arrow_tables import to_arrow
from bcrit.analysis.run import Run
from bcrit.analysis.studies import boundary_table, steps_to_target
from bcrit.search_spaces.experiment import Experiment
from bcrit.search_spaces.outcome import Outcome
from bcrit.search_spaces.tables import TRIALS
from tests.analysis.report import runs

Steps = Callable[[int, Mapping[str, Any]], float]
"""(batch size, point) -> expected steps to target; infinite where it diverges."""

BATCH_SIZES = (4, 8, 16, 32, 64, 128, 256, 512)
LR = {"lr": "log from 0.001 to 10"}
PLANE = {**LR, "momentum": "reverse_log from 0 to 0.99"}


def bowl(law: Callable[[float], float], others: float = 0.0, curvature: float = 0.3) -> Steps:
    """Steps rise with the squared log distance of lr / (1 - momentum) from a law, and `others` times as fast with the
    distance of the momentum from 0.8."""

    def steps(batch_size: int, point: Mapping[str, Any]) -> float:
        rest = 1 - point.get("momentum", 0.0)
        distance = math.log(point["lr"] / rest / law(batch_size)) ** 2 + others * math.log(rest / 0.2) ** 2
        return 200 * (1 + 64 / batch_size) * (1 + curvature * distance)

    return steps


def spec(space: Mapping[str, Any], batch_sizes: Sequence[int] = BATCH_SIZES, **more: Any) -> Experiment:
    return Experiment.model_validate(
        {
            "workload": "toy",
            "optimizer": "momentum" if "momentum" in space else "sgd",
            "batch_sizes": tuple(batch_sizes),
            "target": "loss < 1",
            "space": space,
            "budget": {"steps": 4000, "examples": 400_000},
            "boundary": {"max_rounds": 0},
            **more,
        }
    )


BARE = spec({}, imported={"format": "csv", "source": "x.csv"})
"""Of runs that were imported without a declared space."""


def searched(
    experiment: Experiment, steps: Steps, rng: np.random.Generator, *, trials: int = 40, noise: float = 0.0,
    seeds: int = 5, adaptive: bool = True, early: bool = True,
) -> pd.DataFrame:  # fmt: skip
    """The trials table of a run."""
    rows: list[dict[str, Any]] = []
    for batch_size in experiment.batch_sizes:
        space, found = experiment.space_at(batch_size), list[tuple[float, dict[str, Any]]]()
        horizon = experiment.budget.max_steps(batch_size)
        for number in range(trials):
            point: dict[str, Any] = space.sample(rng)
            if adaptive and found and number >= trials // 3:
                units = space.to_unit(min(found, key=lambda pair: pair[0])[1])
                width = 0.25 * (1 - number / trials) + 0.03
                moved = {axis: min(1.0, max(0.0, unit + width * rng.normal())) for axis, unit in units.items()}
                point = space.from_unit({axis: moved.get(axis, rng.random()) for axis in space.axes})
            need = steps(batch_size, point) * math.exp(noise * rng.normal())
            best = min((pair[0] for pair in found), default=math.inf)
            cap = min(horizon, 1.1 * best if early else math.inf)
            if early and need > cap and rng.random() < 2 / 3 and math.isfinite(best):
                cap = min(cap, 0.45 * best)
            row = {"number": number, "stage": "search", "repeats": None, **_ending(need, cap, horizon)}
            rows.append(_row(experiment, batch_size, row, point))
            if row["outcome"] == "reached":
                found.append((need, {**point}))
        for place, (_, point) in enumerate(sorted(found, key=lambda pair: pair[0])[:3] if seeds else []):
            same = [r for r in rows if r["batch_size"] == batch_size and r["lr"] == point["lr"]]
            for seed in range(seeds):
                need = steps(batch_size, point) * math.exp(noise * rng.normal())
                number = place * seeds + seed
                ending = _ending(need, 10 * horizon, 10 * horizon)
                again = {"number": number, "stage": "confirm", "repeats": same[0]["trial_id"], **ending}
                rows.append(_row(experiment, batch_size, again, point))
    table: pd.DataFrame = to_arrow(TRIALS, rows).to_pandas()
    return table


def _ending(need: float, cap: float, horizon: float) -> dict[str, Any]:
    if not math.isfinite(need):
        lost = {"steps_to_target": None, "steps_to_target_low": None, "best_value": None}
        return {"outcome": "diverged", "steps": 1, **lost}
    if need <= cap:
        whole = max(1, round(need))
        crossing = {"steps_to_target": whole, "steps_to_target_low": whole - 1, "best_value": 0.99}
        return {"outcome": "reached", "steps": whole, **crossing}
    short = {"steps_to_target": None, "steps_to_target_low": None, "best_value": 10 ** (1 - min(1.0, cap / need))}
    return {"outcome": "exhausted" if cap >= horizon else "capped", "steps": math.ceil(cap), **short}


def _row(experiment: Experiment, batch_size: int, row: dict[str, Any], point: Mapping[str, Any]) -> dict[str, Any]:
    more = {**row, "max_steps": 10**6, "train_seconds": 1.0, **point}
    number, steps = more.pop("number"), more.pop("steps")
    return runs.trial(experiment, batch_size, number, Outcome(more.pop("outcome")), steps, **more)


def sets(trials: pd.DataFrame, experiment: Experiment, within: float = WITHIN) -> NearOptimalSets:
    """The near-optimal sets, which every answer starts from."""
    studies, boundary = steps_to_target(trials, experiment), boundary_table(trials, experiment)
    return near_optimal_sets(trials, studies, boundary, experiment, within)


def one(trials: pd.DataFrame, experiment: Experiment, within: float = WITHIN) -> NearOptimal:
    """That of the only study."""
    (found,) = sets(trials, experiment, within).studies
    return found


def large_study(seed: int, steps: Callable[[pd.DataFrame], Any], n: int = 14_000) -> Run:
    """One study of so many evenly drawn trials, all of which reached the target."""
    run, rng = runs.usual(batch_sizes=(8,)), np.random.default_rng(seed)
    trials = run.trials.iloc[[-1] * n].reset_index(drop=True)
    trials["stage"], trials["repeats"], trials["number"] = "search", None, np.arange(n)
    trials["trial_id"] = [f"t{i}" for i in range(n)]
    trials["lr"], trials["momentum"] = 10 ** rng.uniform(-2, 1, n), 1 - 10 ** rng.uniform(-2, 0, n)
    trials["steps_to_target"] = steps(trials)
    best = f"t{np.argmin(trials['steps_to_target'])}"
    return run.but(trials=trials, studies=run.studies.assign(steps=100.0, best_trial=best), boundary=run.boundary)
