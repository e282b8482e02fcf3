"""What a study costs against Shallue's protocol (100 random trials a batch size, each trained to its full budget).

The noisy quadratic model, whose true S(B) is known to the grid's resolution for a constant learning rate. Both
protocols run on the same workload, batch sizes, space and budget, side by side; each line gives optimizer updates and
examples as a share of Shallue's, the regret log(S / S_true) over batch sizes, and the error of b_crit against the fit
of the true curve.

    python -m benchmarks.search_cost
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from bcrit.analysis import fit_hyperbola
from bcrit.search_spaces.experiment import Experiment
from bcrit.search_spaces.load import parse_experiment
from bcrit.tuner.training.settings import Settings
from bcrit.tuner.training.trial import Limits, Trial
from bcrit.tuner.workloads.noisy_quadratic import NoisyQuadratic
from tests.simulate import searched, simulate

BATCH_SIZES = [8, 16, 32, 64, 128, 256, 512, 1024]
SEEDS = 3
WORKLOAD = NoisyQuadratic(dimensions=100, spectrum_exponent=1.0)
SPACES: dict[str, tuple[str, dict[str, Any], Any]] = {
    "sgd, lr searched": ("sgd", {"lr": "log from 0.0001 to 10"}, np.geomspace(0.02, 2, 120)),
    "momentum, lr and momentum searched": (
        "momentum",
        {"lr": "log from 0.0001 to 10", "momentum": "reverse_log from 0 to 0.99"},
        None,
    ),
}
PROTOCOLS: dict[str, dict[str, Any]] = {
    "Shallue: 100 random, full budget": {"protocol": "random", "trials": 100, "stopping": "none"},
    "100 random, ASHA and cap": {"protocol": "random", "trials": 100, "stopping": "asha"},
    "bcrit's default: 40 trials": {},
    "20 trials": {"trials": 20},
}


def experiment(optimizer: str, space: dict[str, Any], search: dict[str, Any], seed: int) -> Experiment:
    """One experiment; boxes are not widened, so that all protocols search the same."""
    data = {
        "workload": {"name": "noisy_quadratic", "dimensions": 100, "spectrum_exponent": 1.0},
        "optimizer": optimizer,
        "batch_sizes": BATCH_SIZES,
        "target": "risk < 0.01",
        "space": space,
        "budget": {"steps": 400, "examples": 130_000},
        "search": search,
        "confirm": {"seeds": 0},
        "boundary": {"max_rounds": 0},
        "seed": seed,
    }
    return parse_experiment(data, "benchmark")


def true_steps(spec: Experiment, grid: Any) -> list[float]:
    """Steps of the best constant learning rate on a fine grid."""
    best = []
    for batch_size in BATCH_SIZES:
        limits = Limits(spec.budget.max_steps(batch_size), False, (), spec.resolution)
        found = np.inf
        for lr in grid:
            settings = Settings(batch_size, 0, spec.optimizer, {"lr": float(lr)})
            trial = Trial(lambda s=settings: WORKLOAD.begin(s), spec.target, limits)  # type: ignore[misc]
            trial.advance(600)
            if trial.ending is not None and trial.ending.crossing is not None:
                found = min(found, trial.ending.crossing.steps)
        best.append(found)
    return best


def main() -> None:
    """Print the table."""
    for name, (optimizer, space, grid) in SPACES.items():
        runs: dict[str, list[tuple[int, int, list[float]]]] = {protocol: [] for protocol in PROTOCOLS}
        for protocol, search in PROTOCOLS.items():
            for seed in range(SEEDS):
                records = simulate(experiment(optimizer, space, search, seed), WORKLOAD)
                flat = [record for found in records.values() for record in found]
                steps = [min((r.steps_to_target or np.inf) for r in searched(records, b)) for b in BATCH_SIZES]
                runs[protocol].append((sum(r.steps for r in flat), sum(r.examples for r in flat), steps))
        if grid is not None:
            truth, source = true_steps(experiment(optimizer, space, {}, 0), grid), "a fine grid"
        else:
            found = [steps for several in runs.values() for *_, steps in several]
            truth, source = list(np.min(found, axis=0)), "the best of all runs here"
        curve = fit_hyperbola(pd.DataFrame({"batch_size": BATCH_SIZES, "steps": truth}))
        b_crit, identified = curve.b_crit, curve.identified["b_crit"]
        base_steps, base_examples = (np.mean([run[i] for run in next(iter(runs.values()))]) for i in (0, 1))
        shown = f"b_crit {b_crit:.0f}" if identified else "b_crit beyond them"
        print(f"\n{name}: {len(BATCH_SIZES)} batch sizes, {SEEDS} seeds; truth: {source}, {shown}")
        print(f"{'protocol':36}{'steps':>9}{'examples':>10}{'regret median':>15}{'p90':>7}{'b_crit error':>14}")
        for protocol, several in runs.items():
            regret = np.log([np.divide(steps, truth) for *_, steps in several]).ravel()
            errors = [abs(np.log(_b_crit(steps) / b_crit)) for *_, steps in several]
            error = f"{np.median(errors):.3f}" if identified else "-"
            share_steps = np.mean([run[0] for run in several]) / base_steps
            share_examples = np.mean([run[1] for run in several]) / base_examples
            print(
                f"{protocol:36}{'1/' + format(1 / share_steps, '.1f'):>9}{'1/' + format(1 / share_examples, '.1f'):>10}"
                f"{np.median(regret):>15.3f}{np.quantile(regret, 0.9):>7.3f}{error:>14}"
            )


def _b_crit(steps: list[float]) -> float:
    return fit_hyperbola(pd.DataFrame({"batch_size": BATCH_SIZES, "steps": steps})).b_crit


if __name__ == "__main__":
    main()
