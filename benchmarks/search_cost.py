"""What a study costs, and how near it comes to the truth, against Shallue's protocol (100 random full-budget trials).

The noisy quadratic model in one, two and four dimensions. All protocols run on the same workload, batch sizes, space
and budget, side by side, with the re-runs that make their numbers. Each line gives optimizer updates and examples as a
share of Shallue's, |log(S / S_true)| over batch sizes and seeds, and the error of b_crit against the fit of the true
curve. S_true is that of the best point that any protocol found, improved without noise (Nelder-Mead).

    python -m benchmarks.search_cost [DIMENSIONS] [SEEDS]
"""

from __future__ import annotations

import math
import sys
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from scipy.optimize import minimize

from bcrit.analysis import fit_hyperbola
from bcrit.search_spaces.dimensions import Box
from bcrit.search_spaces.experiment import Experiment
from bcrit.search_spaces.load import parse_experiment
from bcrit.search_spaces.outcome import Stage
from bcrit.search_spaces.space import Point, hyperparameter
from bcrit.tuner.protocol.proposal import TrialRecord, in_updates
from bcrit.tuner.training.settings import Settings
from bcrit.tuner.workloads.noisy_quadratic import NoisyQuadratic
from tests.simulate import searched, simulate

BATCH_SIZES = [8, 16, 32, 64, 128, 256, 512, 1024]
LR, MOMENTUM = "log from 0.0001 to 10", "reverse_log from 0 to 0.99"
SPACES: dict[int, tuple[str, dict[str, Any]]] = {
    1: ("sgd", {"lr": LR}),
    2: ("momentum", {"lr": LR, "momentum": MOMENTUM}),
    4: (
        "momentum",
        {
            "lr": LR,
            "momentum": MOMENTUM,
            "schedule": {
                "linear": {"decay_fraction": "log from 0.02 to 1", "end_factor": "log from 0.001 to 1"},
            },
        },
    ),
}
PROTOCOLS: dict[str, dict[str, Any]] = {
    "Shallue: 100 random, full budget": {"protocol": "random", "trials": 100, "stopping": "none"},
    "100 random, ASHA and cap": {"protocol": "random", "trials": 100, "stopping": "asha"},
    "tpe, 40 trials": {"protocol": "tpe"},
    "joint, 14 trials": {"protocol": "joint", "trials": 14},
    "joint, 20 trials": {"protocol": "joint", "trials": 20},
}


def experiment(dimensions: int, search: Mapping[str, Any], seed: int) -> Experiment:
    """One experiment; boxes are not widened, so that all protocols search the same."""
    optimizer, space = SPACES[dimensions]
    data = {
        "workload": {"name": "noisy_quadratic", "dimensions": 100, "seed_noise": 0.03, "evaluation_noise": 0.02},
        "optimizer": optimizer,
        "batch_sizes": BATCH_SIZES,
        "target": "risk < 0.01",
        "space": space,
        "budget": {"steps": 400, "examples": 130_000} if dimensions < 4 else {"steps": 160, "examples": 40_000},
        "search": search,
        "confirm": {"points": 1, "seeds": 5},
        "boundary": {"max_rounds": 0},
        "seed": seed,
    }
    return parse_experiment(data, "benchmark")


def number(records: Sequence[TrialRecord]) -> float:
    """Steps-to-target of a study: the median of its re-runs."""
    points: dict[str | None, list[float]] = {}
    for record in records:
        if record.stage is Stage.CONFIRM:
            points.setdefault(record.repeats, []).append(record.steps_to_target or math.inf)
    return min((float(np.median(steps)) for steps in points.values()), default=math.inf)


def true_steps(spec: Experiment, size: int, starts: Sequence[Point]) -> float:
    """Steps of the best point without noise, from the best of some points; crossings are interpolated."""
    budget, quiet = spec.budget.max_steps(size), NoisyQuadratic(dimensions=100)
    boxes = {a: box for a, box in spec.space.active(starts[0]).items() if isinstance(box, Box)}

    def log_steps(units: np.ndarray) -> float:
        if (units < 0).any() or (units > 1).any():
            return 99.0
        point = {
            **starts[0],
            **{hyperparameter(a): b.from_unit(u) for (a, b), u in zip(boxes.items(), units, strict=True)},
        }
        run = quiet.begin(Settings(size, 0, spec.optimizer, in_updates(point, budget)))
        last = run.evaluate()["risk"]
        for step in range(1, budget + 1):
            run.train(1)
            risk = run.evaluate()["risk"]
            if not math.isfinite(risk) or risk > 100:
                break
            if risk < spec.target.threshold:
                share = math.log(last / spec.target.threshold) / math.log(last / risk)
                return math.log(step - 1 + share)
            last = risk
        return math.log(budget) + min(10.0, abs(math.log(max(last, 1e-9) / spec.target.threshold)))

    found = []
    for start in starts:
        units = np.array([box.to_unit(float(start[hyperparameter(a)])) for a, box in boxes.items()])
        found.append(minimize(log_steps, np.clip(units, 0, 1), method="Nelder-Mead", options={"maxfev": 150}).fun)
    return math.exp(min(found))


def main() -> None:
    """Print the tables."""
    chosen, seeds = [int(word) for word in sys.argv[1:2]] or list(SPACES), int((sys.argv[2:] or ["3"])[0])
    for dimensions in chosen:
        runs: dict[str, list[dict[int, list[TrialRecord]]]] = {}
        for name, search in PROTOCOLS.items():
            specs = [experiment(dimensions, search, seed) for seed in range(seeds)]
            runs[name] = [
                simulate(spec, NoisyQuadratic(dimensions=100, seed_noise=0.03, evaluation_noise=0.02)) for spec in specs
            ]
        truth = {}
        for size in BATCH_SIZES:
            reached = [r for of in runs.values() for run in of for r in searched(run, size) if r.steps_to_target]
            starts = sorted(reached, key=lambda r: r.steps_to_target or 0)[:3]
            truth[size] = true_steps(specs[0], size, [record.point for record in starts])
        b_crit = _b_crit(truth)
        print(f"\n{dimensions} dimensions: {len(BATCH_SIZES)} batch sizes, {seeds} seeds; true b_crit {b_crit:.0f}")
        print(
            f"{'protocol':34}{'steps':>8}{'examples':>9}{'|log S/S_true|':>16}{'p90':>7}{'b_crit error':>14}{'none':>6}"
        )
        base = [_cost(run) for run in next(iter(runs.values()))]
        for name, several in runs.items():
            numbers = [{size: number(run[size]) for size in BATCH_SIZES} for run in several]
            errors = np.array([[abs(math.log(n[size] / truth[size])) for size in BATCH_SIZES] for n in numbers])
            steps, examples = np.mean(base, axis=0) / np.mean([_cost(run) for run in several], axis=0)
            known = errors[np.isfinite(errors)]
            off = np.median([abs(math.log(_b_crit(n) / b_crit)) for n in numbers])
            print(
                f"{name:34}{f'1/{steps:.1f}':>8}{f'1/{examples:.1f}':>9}{np.median(known):>16.3f}"
                f"{np.quantile(known, 0.9):>7.3f}{off:>14.3f}{errors.size - known.size:>6}"
            )


def _cost(run: Mapping[int, Sequence[TrialRecord]]) -> tuple[int, int]:
    flat = [record for found in run.values() for record in found]
    return sum(r.steps for r in flat), sum(r.examples for r in flat)


def _b_crit(steps: Mapping[int, float]) -> float:
    return fit_hyperbola(pd.DataFrame({"batch_size": list(steps), "steps": list(steps.values())})).b_crit


if __name__ == "__main__":
    main()
