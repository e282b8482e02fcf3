"""Small run folders made of learning curves."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bcrit.analysis.records.run_folder import RunFolder
from bcrit.search_spaces.experiment import Experiment
from bcrit.search_spaces.tables import MEASUREMENTS, TRIALS

Curve = Sequence[tuple[int, float]]
SECONDS = 0.01  # a step


@dataclass(frozen=True)
class Made:
    """One trial: its curve, and how it ended. Ended at the target of the experiment if its last evaluation reached."""

    batch_size: int
    curve: Curve
    outcome: str = "exhausted"
    repeats: str | None = None
    max_steps: int = 1000


def experiment(batch_sizes: Sequence[int], target: str = "loss < 1", **more: Any) -> Experiment:
    space = {"lr": "log from 0.01 to 10", "momentum": 0.9}
    given = {"workload": "toy", "batch_sizes": list(batch_sizes), "target": target, "space": space}
    complete = {"search": {"protocol": "sobol", "trials": 1}, "boundary": {"max_rounds": 0}}  # whatever is made
    return Experiment.model_validate({**given, "budget": {"steps": 1000}, **complete, **more})


def write_run(path: Path, spec: Experiment, runs: Mapping[str, Made], parts: int = 1) -> RunFolder:
    """The folder with these trials; the rows are dealt to the parts in turn, so that trials straddle and interleave."""
    folder = RunFolder.at(path)
    folder.write_experiment(spec)
    rows = sorted(
        (
            {**measurement(name, run, step, value, spec), "_": step}
            for name, run in runs.items()
            for step, value in run.curve
        ),
        key=lambda row: row["_"],
    )
    for part in range(parts):
        size = -(-len(rows) // parts)
        mine = rows[part * size : (part + 1) * size]
        folder.append(MEASUREMENTS, [{k: v for k, v in row.items() if k != "_"} for row in mine], part)
    count = Counter[tuple[int, bool]]()
    made = []
    for name, run in runs.items():
        of = run.batch_size, run.repeats is None
        made.append(trial(name, count[of], run, spec))
        count[of] += 1
    folder.append(TRIALS, made, 0)
    return folder


def measurement(name: str, run: Made, step: int, value: float, spec: Experiment) -> dict[str, Any]:
    seen = {"trial_id": name, "step": step, "examples": step * run.batch_size, "train_seconds": SECONDS * step}
    return {**seen, spec.target.metric: value}


def trial(name: str, number: int, run: Made, spec: Experiment) -> dict[str, Any]:
    crossing = spec.target.first_crossing(run.curve) if run.outcome in ("reached", "exhausted") else None
    steps = run.curve[-1][0]
    values = [value for step, value in run.curve if step > 0]
    best = (min if spec.target.direction == "minimize" else max)(values, default=None)
    return {
        **dict.fromkeys(TRIALS.names),
        "trial_id": name,
        "batch_size": run.batch_size,
        "stage": "search" if run.repeats is None else "confirm",
        "number": number,
        "round": 0,
        "repeats": run.repeats,
        "seed": number,
        "outcome": "reached" if crossing else run.outcome,
        "max_steps": run.max_steps,
        "steps": steps,
        "examples": run.batch_size * steps,
        "steps_to_target": crossing.steps if crossing else None,
        "steps_to_target_low": crossing.steps_low if crossing else None,
        "best_value": best,
        "train_seconds": SECONDS * steps,
        "evaluate_seconds": 0.0,
        "started_at": 0.0,
        "ended_at": float(number),
        "lr": 0.1 + 0.01 * number,
        "momentum": 0.9,
    }
