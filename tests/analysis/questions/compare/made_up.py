"""Runs and tables with a known truth, for the tests of comparisons."""

import functools
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd

from bcrit.analysis.curve import HyperbolaFit, fit_hyperbola
from bcrit.analysis.questions.compare import ask
from bcrit.analysis.questions.compare.sides import Side, StepsTable, side_of
from bcrit.analysis.report import Answer
from bcrit.analysis.run import Run
from bcrit.search_spaces.experiment import Experiment
from bcrit.search_spaces.outcome import Outcome
from bcrit.search_spaces.tables import TRIALS
from tests.analysis.report import runs

SIZES = tuple(4.0 * 2**k for k in range(9))
SPACE = {"lr": "log from 0.01 to 10"}
PLANE = {**SPACE, "momentum": "reverse_log from 0 to 0.99"}


def steps_table(
    s_min: float, b_crit: float, noise: float = 0.0, seed: int = 0, sizes: Sequence[float] = SIZES
) -> pd.DataFrame:
    """Steps on a hyperbola with log-normal scatter."""
    size = np.array(sizes)
    scatter = noise * np.random.default_rng(seed).standard_normal(len(size))
    return pd.DataFrame({"batch_size": size, "steps": s_min * (1 + b_crit / size) * np.exp(scatter)})


def table(name: str, s_min: float, b_crit: float, *, unit: str = "examples", **more: Any) -> StepsTable:
    return StepsTable(f"{name}.csv", steps_table(s_min, b_crit, **more), unit)


def fit(s_min: float, b_crit: float, noise: float = 0.0, seed: int = 0, **more: Any) -> HyperbolaFit:
    return fit_hyperbola(steps_table(s_min, b_crit, noise, seed, **more))


def labelled(name: str, source: StepsTable | Run) -> Side:
    return replace(side_of(source), label=name)


def spec(name: str = "made-up", optimizer: str = "sgd", **more: Any) -> Experiment:
    declared = {
        "name": name,
        "workload": "toy",
        "optimizer": optimizer,
        "batch_sizes": [int(size) for size in SIZES],
        "target": "loss < 1",
        "space": SPACE if optimizer == "sgd" else PLANE,
        "budget": {"steps": 4000},
    }
    return Experiment.model_validate(declared | more)


def run(
    name: str = "made-up",
    optimizer: str = "sgd",
    s_min: float = 200.0,
    b_crit: float = 32.0,
    noise: float = 0.04,
    seed: int = 0,
    confirm: bool = True,
    trials: int = 2,
    text: str | None = None,
    **more: Any,
) -> Run:
    """A run on a hyperbola: `trials` search trials a study, the first of them the best, and three re-runs of it."""
    experiment = spec(name, optimizer, **more)
    random = np.random.default_rng(seed)
    rows = []
    for size in experiment.batch_sizes:
        best = s_min * (1 + b_crit / size) * float(np.exp(noise * random.standard_normal()))
        for number in range(trials):
            steps = round(best * (1 + 0.3 * number))
            rows.append(runs.trial(experiment, size, number, Outcome.REACHED, steps))
        point = {key: value for key, value in rows[-trials].items() if key not in TRIALS.names}
        again = {"stage": "confirm", "repeats": rows[-trials]["trial_id"], **point}
        for number in range(3 if confirm else 0):
            steps = round(best * float(np.exp(0.02 * random.standard_normal())))
            rows.append(runs.trial(experiment, size, number, Outcome.REACHED, steps, **again))
    found = runs.analysis_of(experiment, [row | ({"message": text} if text else {}) for row in rows])
    return found.but(location=f"runs/{name}-{optimizer}-{seed}")


PLAIN: dict[str, Any] = {"b_crit": 128.0, "noise": 0.01}
"""A run whose batch sizes, from 4 to 1024, reach from b_crit / 32 to 8 b_crit."""

SGD = table("sgd", 3500, 16, noise=0.03, seed=1)
MOMENTUM = table("momentum", 850, 66, noise=0.03, seed=2)
SCHEDULE = table("schedule", 850, 13, noise=0.03, seed=3)
SLOWER = table("slower", 1700, 66, noise=0.03, seed=4)
AGAIN = table("again", 3500, 16, noise=0.03, seed=11)
SCALING = table("scaling", 1, 1e6, noise=0.03, seed=3)


def missing() -> StepsTable:
    """One that did not reach at its smallest batch size."""
    made = table("missing", 100, 64, noise=0.03, seed=5)
    made.table.loc[0, ["steps", "max_steps"]] = [float("nan"), 900.0]
    return made


def hostile(seed: int) -> Run:
    texts: dict[str, Any] = {
        "workload": {"name": runs.EVIL, "options": {"file": runs.EVIL}},
        "unit": runs.EVIL,
        "target": {"metric": runs.EVIL, "threshold": 1, "direction": "minimize"},
        "text": runs.EVIL,
    }
    return run("a", seed=seed, **texts).but(location=f"{runs.EVIL}{seed}")


def beside(**more: Any) -> list[Run | StepsTable]:
    """A plain run and one that differs in this."""
    return [run("a", **PLAIN), run("b", **{**PLAIN, "seed": 1, **more})]


def other(**parts: Callable[[Run], Any]) -> list[Run | StepsTable]:
    """A plain run, and one with other parts of what was recorded."""
    first, second = run("a", **PLAIN), run("b", **PLAIN, seed=1)
    first = first.but(environment=[{"host": "here", "devices": []}])
    return [first, second.but(**{name: part(second) for name, part in parts.items()})]


def on_an_edge(of: Run) -> pd.DataFrame:
    edge: dict[str, Any] = {
        "batch_size": 8,
        "round": 0,
        "dimension": "lr",
        "side": "high",
        "kind": "box",
        "low": 0.01,
        "high": 10.0,
    }
    boundary = of.boundary.iloc[:0].copy()
    boundary.loc[0] = {**edge, "optimum": 9.9, "widened_to": float("nan")}
    return boundary


CASES: dict[str, Callable[[], list[Run | StepsTable]]] = {
    "two runs": lambda: [run("a", "sgd"), run("b", "momentum", s_min=80, b_crit=90, seed=1)],
    "a run and tables": lambda: [run("a", "sgd"), missing(), SCALING],
    "hostile texts": lambda: [hostile(0), hostile(1), StepsTable(f"{runs.EVIL}.csv", missing().table, runs.EVIL)],
    "two tables": lambda: [missing(), SCALING],
    "two units": lambda: [run("a", "sgd"), table("tokens", 100, 64, noise=0.03, unit="tokens")],
    "without a fit": lambda: [run("a", "sgd"), StepsTable("short.csv", missing().table.iloc[:2])],
    "seven tables": lambda: [table(f"t{k}", 100 + 30 * k, 64, noise=0.03, seed=k) for k in range(7)],
    # what ratios mean
    "momentum extends perfect scaling": lambda: [SGD, MOMENTUM],
    "the same with the other one first": lambda: [MOMENTUM, SGD],
    "a smaller b_crit is not called worse": lambda: [MOMENTUM, SCHEDULE],
    "a constant factor": lambda: [SLOWER, MOMENTUM],
    "equal tables are not called the same": lambda: [SGD, AGAIN],
    "a knee out of sight is a bound": lambda: [SGD, table("scaling", 1, 5.6e4, noise=0.03, seed=3)],
    "and the other bound": lambda: [table("scaling", 1, 5.6e4, noise=0.03, seed=3), SGD],
    "few other pairs": lambda: [SGD, MOMENTUM, SCHEDULE],
    "many other pairs": lambda: [SGD, *(table(f"t{k}", 100 * 3**k, 64, noise=0.02, seed=k) for k in range(4))],
    "an interval leaves out 1 by chance": lambda: [
        StepsTable(f"{k}.csv", steps_table(100, 64, 0.05, 100 + k)) for k in (1, 2, 0)
    ],
    "batch sizes that do not overlap": lambda: [SGD, table("far", 10, 64, noise=0.1, sizes=(1e5, 2e5, 4e5, 8e5))],
    "two studies have no interval": lambda: [SGD, table("two", 10, 64, sizes=(8.0, 64.0))],
    # what qualifies a comparison
    "runs that differ in nothing else": beside,
    "other targets": lambda: beside(target="loss < 0.5"),
    "more trials": lambda: beside(trials=4),
    "not confirmed": lambda: beside(confirm=False),
    "other workload": lambda: beside(workload="other"),
    "other options": lambda: beside(workload={"name": "toy", "width": 8}),
    "other protocol": lambda: beside(search={"protocol": "random"}),
    "other budget": lambda: beside(budget={"steps": 9}, resolution=0.1),
    "other box": lambda: beside(space={"lr": "log from 0.001 to 10"}),
    "another hyperparameter": lambda: beside(optimizer="momentum"),
    "a knee at the end of the batch sizes": lambda: beside(b_crit=900.0),
    "a point on an edge": lambda: other(boundary=on_an_edge),
    "another machine": lambda: other(environment=lambda _: [{"host": "there", "devices": []}]),
    "gradients taken twice": lambda: other(trials=lambda of: of.trials.assign(gradients_per_example=2)),
    "nothing reached": lambda: other(studies=lambda of: of.studies.assign(steps=float("nan"))),
    "nothing confirmed, nothing reached": lambda: [
        run("c", **PLAIN, confirm=False),
        *other(studies=lambda of: of.studies.assign(steps=float("nan"))),
    ],
    "a bend": lambda: [runs.bent(), run("a", **PLAIN)],
}


@functools.cache
def compared(case: str, across_targets: bool = False) -> Answer:
    """The answer in one case, computed once a process."""
    answer = ask(CASES[case](), across_targets)
    assert isinstance(answer, Answer)
    return answer
