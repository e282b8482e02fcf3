"""Small made-up runs for the tests of the report."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa

from bcrit.analysis.recommendation import Recommendation, recommend
from bcrit.analysis.recommendation.hardware import Hardware, fit_step_times
from bcrit.analysis.records.arrow_tables import to_arrow
from bcrit.analysis.records.run_folder import RunFolder
from bcrit.analysis.report import Answer
from bcrit.analysis.run import Run
from bcrit.search_spaces.experiment import Experiment
from bcrit.search_spaces.outcome import Outcome
from bcrit.search_spaces.tables import MEASUREMENTS, TRIALS

B_CRIT, S_MIN = 64.0, 20.0
EVIL = "</script><script>alert(1)</script><b>%{x}"
PLANE = {"lr": "log from 0.01 to 10", "momentum": "reverse_log from 0 to 0.99"}


def experiment(
    space: Mapping[str, Any] = PLANE, batch_sizes: tuple[int, ...] = (8, 16, 32, 64, 128, 256), **more: Any
) -> Experiment:
    return Experiment.model_validate(
        {
            "name": "made-up",
            "workload": "toy",
            "optimizer": "momentum" if "momentum" in space else "sgd",
            "batch_sizes": batch_sizes,
            "target": "loss < 1",
            "space": space,
            "budget": {"steps": 400},
            **more,
        }
    )


def trial(spec: Experiment, batch_size: int, number: int, outcome: Outcome, steps: int, **more: Any) -> dict[str, Any]:
    """One row of the trials table; `point` in (0, 1) places it in every numeric dimension."""
    point = {axis: (0.37 * (number + 1)) % 1 for axis in spec.space.axes}
    stage = more.get("stage", "search")
    reached = outcome is Outcome.REACHED
    return {
        **dict.fromkeys(TRIALS.names),
        "trial_id": f"b{batch_size}-{stage}-{number}",
        "batch_size": batch_size,
        "stage": stage,
        "number": number,
        "round": 0,
        "seed": number,
        "outcome": outcome.value,
        "max_steps": 400,
        "steps": steps,
        "examples": batch_size * steps,
        "steps_to_target": steps if reached else None,
        "steps_to_target_low": steps - 1 if reached else None,
        "best_value": 0.9 if reached else 1.5,
        "train_seconds": steps * (1e-3 + 1e-5 * batch_size),
        "evaluate_seconds": 0.1,
        "started_at": 0.0,
        "ended_at": 1.0,
        **spec.space_at(batch_size).from_unit(point),
        **more,
    }


def study(spec: Experiment, batch_size: int, reached: bool = True, confirm: bool = True) -> list[dict[str, Any]]:
    """Search trials with every outcome, and three re-runs of the best of them."""
    best = round(S_MIN * (1 + B_CRIT / batch_size))
    rows = [
        trial(spec, batch_size, number, outcome, (3 * best if reached else best // 2) if outcome.feasible else number)
        for number, outcome in enumerate(Outcome if reached else list(Outcome)[1:])
    ]
    if not reached:
        return rows
    rows.append(trial(spec, batch_size, len(Outcome), Outcome.REACHED, best))
    point = {name: value for name, value in rows[-1].items() if name not in TRIALS.names}
    confirming = {"stage": "confirm", "repeats": rows[-1]["trial_id"], **point}
    again = [trial(spec, batch_size, seed, Outcome.REACHED, best + seed, **confirming) for seed in range(3)]
    return rows + again if confirm else rows


def analysis_of(spec: Experiment, rows: list[dict[str, Any]], environment: Mapping[str, Any] | None = None) -> Run:
    trials = to_arrow(TRIALS, rows).to_pandas()
    nothing = dict.fromkeys(("targets", "budgets"))
    nothing |= {"unmeasured": "made up", "recommendation": None, "progress": None}
    made = {"location": "runs/made-up", "declared": spec, "environment": [environment] if environment else []}
    return Run(RunFolder.at("runs/made-up"), None, {**made, **nothing, "finished": trials})


def written(place: Path, reached: bool, *, space: Mapping[str, Any] = PLANE, missed: int | None = None) -> Path:
    """A run folder whose studies reached the target, but for the one that missed it."""
    folder, spec = RunFolder.at(place), experiment(space, search={"trials": 3}, boundary={"max_rounds": 0})
    folder.write_experiment(spec)
    folder.append(TRIALS, [row for b in spec.batch_sizes for row in study(spec, b, reached and b != missed)], 0)
    return place


def usual(space: Mapping[str, Any] = PLANE, **more: Any) -> Run:
    spec = experiment(space, **more)
    return analysis_of(spec, [row for b in spec.batch_sizes for row in study(spec, b)])


def recommended(analysis: Run, timed: bool = True, **limits: Any) -> Recommendation:
    assert analysis.fit is not None
    times = fit_step_times(analysis.studies) if timed else None
    return recommend(analysis.fit, times, hyperparameters=analysis.hyperparameters, **limits)


def recommended_on_two(analysis: Run, names: tuple[str, str] = ("big", "small"), **limits: Any) -> Recommendation:
    """A kind of device that is faster and one that is cheaper."""
    assert analysis.fit is not None
    studies = analysis.studies[["batch_size", "step_seconds"]]
    slower = studies.assign(step_seconds=3 * studies["step_seconds"])
    big, small = names
    hardware = [Hardware(fit_step_times(studies), big, 1, 4.0), Hardware(fit_step_times(slower), small, 1, 1.0)]
    return recommend(analysis.fit, hardware, hyperparameters=analysis.hyperparameters, **limits)


def curves(analysis: Run, evaluations: int = 20) -> pa.Table:
    """Losses that fall from 10 to the target."""
    rows = []
    for row in analysis.trials.to_dict("records"):
        for number in range(evaluations + 1):
            step = round(row["steps"] * number / evaluations)
            rows.append((str(row["trial_id"]), number, step, 10.0 ** (1 - number / (evaluations - 0.5))))
    frame = pd.DataFrame(rows, columns=["trial_id", "number", "step", analysis.experiment.target.metric])
    frame = frame.drop_duplicates(["trial_id", "step"])
    records = [{**r, "examples": 0, "train_seconds": 0.0} for r in frame.drop(columns="number").to_dict("records")]
    return to_arrow(MEASUREMENTS, [{str(k): v for k, v in r.items()} for r in records])


def with_curves(analysis: Run) -> Run:
    """The same as if it had been measured."""
    return analysis.but(unmeasured=None, measurements=lambda _: curves(analysis))


def partly(reached: tuple[int, ...], confirm: bool = True, space: Mapping[str, Any] = PLANE) -> Run:
    spec = experiment(space)
    return analysis_of(spec, [row for b in spec.batch_sizes for row in study(spec, b, b in reached, confirm)])


def bent() -> Run:
    """Steps with a knee far sharper than the hyperbola's."""
    spec = experiment(batch_sizes=(4, 8, 16, 32, 64, 128, 256, 512, 1024))
    rows = []
    for batch_size in spec.batch_sizes:
        steps = round(400 * (1 + (64 / batch_size) ** 4) ** 0.25)
        rows.append(trial(spec, batch_size, 0, Outcome.REACHED, steps))
    return analysis_of(spec, rows)


def hostile() -> Run:
    """Markup wherever a user can put a text."""
    space = {
        **PLANE,
        "flavour": {"scale": "choice", "options": [EVIL, "plain"]},
        "<img src=x onerror=alert(1)>": "log from 1 to 9",
    }
    spec = experiment(
        space,
        workload={"name": EVIL, "options": {"file": EVIL}},
        unit=EVIL,
        target={"metric": EVIL, "threshold": 1, "direction": "minimize"},
    )
    rows = [row | {"message": EVIL, "flavour": EVIL} for b in spec.batch_sizes for row in study(spec, b)]
    return analysis_of(spec, rows, {"host": EVIL, "packages": {EVIL: EVIL}, "devices": [EVIL]})


def widened() -> Run:
    """A study whose best points lie at the upper end of lr, so that its box was widened."""
    spec = experiment(batch_sizes=(8,), search={"trials": 12}, boundary={"trials": 1})
    rows = []
    for number in range(12):
        outcome = Outcome.REACHED if number < 6 else Outcome.CAPPED
        point = {"lr": 9.9 if number < 6 else 0.02 * number, "momentum": 0.5}
        rows.append(trial(spec, 8, number, outcome, 100 + number, **point))
    later = {"round": 1, "lr": 30.0, "momentum": 0.6}
    return analysis_of(spec, [*rows, trial(spec, 8, 12, Outcome.REACHED, 90, **later)])


def stored(found: object, name: str, path: Path) -> Run:
    """The usual run, in whose folder such a result was written."""
    made, folder = usual(), RunFolder.at(path)
    folder.write_result(name, found)
    return Run(folder, known=made.known)


def answered(ask: Callable[[Run], Answer | str], run: Run) -> Answer:
    """What a question answers about a run that can be asked."""
    answer = ask(run)
    assert isinstance(answer, Answer)
    return answer
