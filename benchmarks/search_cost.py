"""What a study costs, and how near it comes to the truth, against Shallue's protocol (100 random full-budget trials).

The noisy quadratic model in one, two, four and six dimensions, and in four small networks on digits (with Adam) and on
Fashion-MNIST. All protocols run on the same workload, batch sizes, space and budget, side by side, with the re-runs
that make their numbers; Optuna's samplers are asked as Ray Tune asks them, a study for each batch size, with ASHA. A
line gives optimizer updates and examples as a share of Shallue's, |log(S / S_true)| over batch sizes and seeds, the
error of b_crit against the fit of the true curve, how many of the studies' 95 % intervals hold it, and how much of the
workers' time is used where an update takes the same time at every batch size. S_true of the quadratic is what fresh
seeds of the best point need, the mean log over the noises of its risk, by differential evolution from the best trial of
all protocols; of a network, the best confirmed number of 200 random trials a batch size, which may be beaten: there the
error has a sign.

    python -m benchmarks.search_cost [PROBLEM,... [SEEDS]]

The problems are 1, 2, 4, 6, digits_adam and fashion_mnist, which reads its four files below data/fashion_mnist.
"""

import math
import sys
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from scipy.optimize import Bounds, differential_evolution
from scipy.special import ndtr

from bcrit.analysis.curve import HyperbolaFit, fit_hyperbola
from bcrit.search_spaces.dimensions import Box
from bcrit.search_spaces.experiment import Experiment
from bcrit.search_spaces.load import parse_experiment
from bcrit.search_spaces.outcome import Stage
from bcrit.search_spaces.space import hyperparameter
from bcrit.tuner.protocol.proposal import TrialRecord, in_updates
from bcrit.tuner.protocol.protocol import resolved
from bcrit.tuner.training.settings import Settings
from bcrit.tuner.workloads.noisy_quadratic import NoisyQuadratic
from bcrit.tuner.workloads.protocol import Workload
from bcrit.tuner.workloads.registry import load_workload
from tests.simulate import searched, simulate

LR, MOMENTUM = "log from 0.0001 to 10", "reverse_log from 0 to 0.99"
LINEAR = {"linear": {"decay_fraction": "log from 0.02 to 1", "end_factor": "log from 0.001 to 1"}}
SCHEDULED = {"lr": LR, "momentum": MOMENTUM, "schedule": LINEAR}
QUADRATIC = {
    "workload": {"name": "noisy_quadratic", "dimensions": 100, "seed_noise": 0.03, "evaluation_noise": 0.02},
    "optimizer": "momentum",
    "batch_sizes": [8, 16, 32, 64, 128, 256, 512, 1024],
    "target": "risk < 0.01",
}
SHORT, LONG = {"steps": 160, "examples": 40_000}, {"steps": 400, "examples": 130_000}
PROBLEMS: dict[str, dict[str, Any]] = {
    "1": {**QUADRATIC, "optimizer": "sgd", "space": {"lr": LR}, "budget": LONG},
    "2": {**QUADRATIC, "space": {"lr": LR, "momentum": MOMENTUM}, "budget": LONG},
    "4": {**QUADRATIC, "space": SCHEDULED, "budget": SHORT},
    "6": {
        **QUADRATIC,
        "space": {**SCHEDULED, "warmup_fraction": "log from 0.005 to 0.5", "weight_decay": "log from 0.000001 to 0.1"},
        "budget": SHORT,
    },
    "digits_adam": {
        "workload": "digits_mlp",
        "optimizer": "adam",
        "batch_sizes": [8, 16, 32, 64, 128, 256],
        "target": "val_loss < 0.15",
        "space": {"lr": LR, "beta1": MOMENTUM, "schedule": LINEAR},
        "budget": {"steps": 150, "examples": 10_000},
    },
    "fashion_mnist": {
        "workload": {
            "name": "image_classifier",
            "data": {"source": "data/fashion_mnist", "validation": 500},
            "model": {"name": "fully_connected", "widths": [64]},
        },
        "optimizer": "momentum",
        "batch_sizes": [16, 32, 64, 128, 256, 512],
        "target": "val_loss < 0.45",
        "space": {**SCHEDULED, "lr": "log from 0.001 to 10"},
        "budget": {"steps": 100, "examples": 60_000},
    },
}
PROTOCOLS: dict[str, dict[str, Any]] = {
    "Shallue: 100 random, full budget": {"protocol": "random", "trials": 100, "stopping": "none"},
    "100 random, ASHA and cap": {"protocol": "random", "trials": 100},
    "Optuna's TPE, 40 trials": {"protocol": "optuna.samplers:TPESampler"},
    "Optuna's GP, 40 trials": {"protocol": "optuna.samplers:GPSampler"},
    "tpe, 40 trials": {"protocol": "tpe"},
    "joint, 14 trials": {"protocol": "joint", "trials": 14},
    "joint, 20 trials": {"protocol": "joint", "trials": 20},
    "joint, 14 trials, 16 workers": {"protocol": "joint", "trials": 14},
    "joint, 18 trials, 64 workers": {"protocol": "joint", "trials": 18},
}
WORKERS = {"joint, 14 trials, 16 workers": 16, "joint, 18 trials, 64 workers": 64}  # elsewhere 8
FAR = 100.0  # a risk from which no run comes back
BEST_OF_200 = {"protocol": "random", "trials": 200, "stopping": "cap"}


def experiment(problem: str, search: Mapping[str, Any], seed: int) -> Experiment:
    """One experiment; boxes are not widened, so that all protocols search the same."""
    data = {
        "name": problem,
        **PROBLEMS[problem],
        "search": search,
        "confirm": {"points": 3 if search is BEST_OF_200 else 1, "seeds": 5},
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


def true_steps(spec: Experiment, workload: NoisyQuadratic, size: int, start: TrialRecord) -> float:
    """Least steps of fresh seeds (mean log), by differential evolution begun with a trial that reached.

    The risk of a step is its exact value times exp(`seed_noise` z + `evaluation_noise` z_step), with normal z, so that
    the target is missed until then by the product of the steps' misses, in the mean over z (Gauss-Hermite).
    """
    within = math.ceil(1.4 * (start.steps_to_target or spec.budget.max_steps(size)))
    t, quiet = np.arange(1, within + 1), NoisyQuadratic(dimensions=len(workload.spectrum))
    boxes = {a: box for a, box in spec.space.active(start.point).items() if isinstance(box, Box)}
    z, weight = np.polynomial.hermite_e.hermegauss(15)

    def log_steps(units: np.ndarray) -> float:
        numbers = {hyperparameter(a): b.from_unit(u) for (a, b), u in zip(boxes.items(), units, strict=True)}
        point = in_updates({**start.point, **numbers}, spec.budget.max_steps(size))
        run, risks = quiet.begin(Settings(size, 0, spec.optimizer, point)), np.full(within, FAR)
        for step in range(within):
            run.train(1)
            if not (risk := run.evaluate()["risk"]) < FAR:
                break
            risks[step] = risk
        left = np.log(risks / spec.target.threshold)
        missed = ndtr((left + workload.seed_noise * z[:, None]) / workload.evaluation_noise).cumprod(axis=1)
        expected = weight / weight.sum() @ missed @ np.log1p(1 / t)
        return float(expected + max(0, left.min()))  # a slope towards the target where it is not reached

    first = [box.to_unit(float(start.point[hyperparameter(a)])) for a, box in boxes.items()]
    found = differential_evolution(
        log_steps,
        Bounds([0.0] * len(boxes), [1.0] * len(boxes)),
        x0=np.clip(first, 0, 1),
        popsize=25,
        tol=1e-4,
        polish=False,
        rng=0,
    )
    return math.exp(found.fun)


def _truth(spec: Experiment, workload: Workload, runs: Iterable[dict[int, list[TrialRecord]]]) -> dict[int, float]:
    """The least steps at each batch size, as far as they can be known."""
    if not isinstance(workload, NoisyQuadratic):
        found = simulate(experiment(spec.name, BEST_OF_200, 0), workload)
        return {size: number(found[size]) for size in spec.batch_sizes}
    truth = {}
    for size in spec.batch_sizes:
        reached = [r for run in runs for r in searched(run, size) if r.steps_to_target]
        truth[size] = true_steps(
            spec, workload, size, min(reached, key=lambda record: record.steps_to_target or math.inf)
        )
    return truth


def main() -> None:
    """Print the tables."""
    chosen, seeds = sys.argv[1].split(",") if sys.argv[1:] else list(PROBLEMS), int((sys.argv[2:] or ["3"])[0])
    for problem in chosen:
        spec = experiment(problem, {}, 0)
        workload = load_workload(spec.workload.name, spec.workload.options)
        runs = {
            name: [_run(experiment(problem, search, seed), workload, WORKERS.get(name, 8)) for seed in range(seeds)]
            for name, search in PROTOCOLS.items()
        }
        truth = _truth(spec, workload, [run for several in runs.values() for run in several])
        b_crit = _fit(truth).b_crit
        print(f"\n{problem}: {len(truth)} batch sizes, {seeds} seeds; true b_crit {b_crit:.0f}")
        print(
            f"{'protocol':34}{'steps':>8}{'examples':>9}{'|log S/S_true|':>16}{'p90':>7}{'b_crit error':>14}{'none':>6}"
            f"{'busy':>6}{'hold it':>9}"
        )
        base = [_cost(run) for run in next(iter(runs.values()))]
        for name, several in runs.items():
            numbers = [{size: number(run[size]) for size in truth} for run in several]
            errors = np.array([[math.log(n[size] / truth[size]) for size in truth] for n in numbers])
            errors = np.abs(errors) if isinstance(workload, NoisyQuadratic) else errors
            steps, examples = np.mean(base, axis=0) / np.mean([_cost(run) for run in several], axis=0)
            known = errors[np.isfinite(errors)]
            fits = [_fit(n) for n in numbers]
            off = np.median([abs(math.log(fit.b_crit / b_crit)) for fit in fits])
            hold = sum(fit.b_crit_low <= b_crit <= fit.b_crit_high for fit in fits)
            print(
                f"{name:34}{f'1/{steps:.1f}':>8}{f'1/{examples:.1f}':>9}{np.median(known):>16.3f}"
                f"{np.quantile(known, 0.9):>7.3f}{off:>14.3f}{errors.size - known.size:>6}"
                f"{_busy(several, WORKERS.get(name, 8)):>6.0%}{f'{hold} of {seeds}':>9}",
                flush=True,
            )


def _run(spec: Experiment, workload: Workload, workers: int) -> dict[int, list[TrialRecord]]:
    return simulate(resolved(spec, workers), workload, workers=workers, disorder=None)


def _busy(runs: Sequence[Mapping[int, Sequence[TrialRecord]]], workers: int) -> float:
    """Share of the workers' time that is used."""
    ends = [max(record.ended_at for found in run.values() for record in found) for run in runs]
    return float(np.mean([_cost(run)[0] / (workers * end) for run, end in zip(runs, ends, strict=True)]))


def _cost(run: Mapping[int, Sequence[TrialRecord]]) -> tuple[int, int]:
    flat = [record for found in run.values() for record in found]
    return sum(r.steps for r in flat), sum(r.examples for r in flat)


def _fit(steps: Mapping[int, float]) -> HyperbolaFit:
    return fit_hyperbola(pd.DataFrame({"batch_size": list(steps), "steps": list(steps.values())}))


if __name__ == "__main__":
    main()
