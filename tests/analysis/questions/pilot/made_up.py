"""A pilot whose numbers are made up."""

from dataclasses import replace
from typing import Any

from bcrit.analysis.numbers import Estimate
from bcrit.analysis.questions.pilot import Measured, Pilot, Proposal, Spent, Tried
from bcrit.analysis.questions.pilot.study import Clock, Curve, Hint, Slack, Timing, cost, grid, lr_box, proposed_data
from bcrit.search_spaces.experiment import Experiment
from bcrit.search_spaces.outcome import Outcome

DATA: dict[str, Any] = {
    "workload": "toy",
    "batch_sizes": [8, 64],
    "target": "val_loss < 0.1",
    "space": {"lr": "log from 0.01 to 1", "momentum": "reverse_log from 0 to 0.99"},
    "budget": {"epochs": 3, "regime_adaptation": 8},
    "search": {"trials": 10},
    "confirm": {"points": 2, "seeds": 3},
}
AROUND = Hint(60, 30, 120)


def measured(**more: Any) -> Measured:
    tried = tuple(Tried(lr, Outcome.PRUNED, None, 9, None, 0.5) for lr in (0.01, 0.1, 1.0))
    found = Measured(
        target="val_loss < 0.1",
        unit="examples",
        n_examples=4000,
        batch_size=64,
        chosen={"momentum": 0.9},
        tried=tried,
        lr=0.1,
        edge=None,
        steps=100.0,
        steps_each=(100, 90, 110),
        no_noise="",
        scales=None,
        simple=Estimate(80.0, 60.0, 110.0, n=3),
        noise=Estimate(45.0, 10.0, 200.0, n=3),
        temperature=2.0,
        evaluate_seconds=0.001,
    )
    return replace(found, **more)


def pilot(around: Hint = AROUND, seconds: float | None = 0.01, n: int | None = 4000, **more: Any) -> Pilot:
    """With a step that takes so many seconds at every batch size."""
    facts = measured(n_examples=n, **more)
    sizes = grid(around, n, lambda b: b != 16)
    spent = Spent(1000, 64_000, 5.0, 3.0)
    if facts.steps is None:
        return Pilot("runs/toy-pilot", facts, around, sizes, None, spent)
    curve = Curve(facts.steps, 64, around)
    box = lr_box(
        facts.lr, 64, 60, "momentum", sizes.batch_sizes, Experiment.model_validate(SPEC).space.box("lr"), Slack()
    )
    data = proposed_data(DATA, sizes.batch_sizes, box, curve.budget())
    experiment = Experiment.model_validate(data)
    timings = tuple(Timing(b, seconds, "" if seconds else "it failed") for b in sizes.batch_sizes)
    clock = Clock({timing.batch_size: timing for timing in timings}, 0.001, lambda steps: 10, workers=2)
    whole = cost(experiment, curve, clock)
    return Pilot("runs/toy-pilot", facts, around, sizes, Proposal(data, experiment, box, timings, whole), spent)


SPEC = {**DATA, "budget": {"steps": 100}}
