"""A run folder whose confirming runs were probed, with noise scales and a movement that are known."""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from bcrit.analysis.records.run_folder import RunFolder
from bcrit.search_spaces.tables import MEASUREMENTS, TRIALS
from tests.analysis.folders import Made, experiment, measurement, trial

SIZES = (16, 64, 256, 1024)
B_CRIT = 128.0
STEPS = (0, 1, 2, 4, 6, 10, 18, 32, 57, 100)
SEEDS = 4


def steps_at(batch_size: int) -> int:
    """S = 60 (1 + 128 / B)."""
    return round(60 * (1 + B_CRIT / batch_size))


def probed_run(path: Path, measure: Sequence[str] = ("noise_scale", "weight_distance"), **more: Any) -> RunFolder:
    """Losses fall from 10 to the target 1 in `steps_at` steps.

    B_simple is 100 / loss and B_noise half of it, with errors of 10 % in tr(Sigma); lr_max is 4, and lr / (1 -
    momentum) is 1. The weights move by 3 log t.
    """
    spec = experiment(SIZES, probes={"measure": list(measure)}, **more)
    folder, generator = RunFolder.at(path), np.random.default_rng(0)
    folder.write_experiment(spec)
    rows: list[dict[str, Any]] = []
    trials: list[dict[str, Any]] = []
    for batch_size in SIZES:
        best = f"b{batch_size}-search"
        for seed in range(-1, SEEDS):
            end = steps_at(batch_size) + max(0, seed)
            grid = sorted(
                {*range(1, 30), *(s for s in STEPS if 0 < s < end), *np.geomspace(30, end, 30).astype(int), end}
            )
            curve = [(int(step), max(10.0 - 9.01 * step / end, 0.99)) for step in grid]
            run = Made(batch_size, [(0, 10.0), *curve], repeats=None if seed < 0 else best)
            name = best if seed < 0 else f"b{batch_size}-confirm-{seed}"
            trials.append(trial(name, len(trials), run, spec) | {"number": max(seed, 0)})
            for step, loss in run.curve:
                row = measurement(name, run, step, loss, spec)
                if seed >= 0 and "noise_scale" in measure and (step in STEPS or step == end):
                    row |= scales(loss, batch_size, 1 + 0.1 * generator.standard_normal())
                if seed >= 0 and "weight_distance" in measure:
                    row["weight_distance"] = 3.0 * math.log(step) + 1.0 + 0.01 * seed if step else 0.0
                rows.append(row)
    # Two parts, the first of which has no probes' columns at all.
    folder.append(MEASUREMENTS, [row for row in rows if row["trial_id"].endswith("search")], 0)
    folder.append(MEASUREMENTS, [row for row in rows if not row["trial_id"].endswith("search")], 1)
    folder.append(TRIALS, trials, 0)
    return folder


def scales(loss: float, batch_size: int, factor: float) -> dict[str, Any]:
    g_sq, b_simple = 0.1 * loss, 100.0 / loss
    tr_sigma, g_h_g = g_sq * b_simple * factor, g_sq / 4.0
    return {
        "b_simple": tr_sigma / g_sq,
        "tr_sigma": tr_sigma,
        "g_sq": g_sq,
        "b_noise": None,
        "tr_h_sigma": 0.5 * b_simple * factor * g_h_g,
        "g_h_g": g_h_g,
        "lr_effective": 1.0,
    }
