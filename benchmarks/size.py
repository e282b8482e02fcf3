"""What analysis costs on a folder of the size of Shallue et al.'s archive: `python -m benchmarks.size`, 3 minutes.

Makes a run folder with 168,160 trials and 71.6 million measurements (their abstract's numbers) in a temporary place,
measures in processes of their own steps-to-target of all studies for one target and for twenty, and the whole analysis,
and removes it. `--share 0.01` makes a hundredth of it; `--keep FOLDER` leaves it there.
"""

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from bcrit.analysis.records.run_folder import RunFolder
from bcrit.search_spaces.experiment import Experiment
from bcrit.search_spaces.load import parse_experiment
from bcrit.search_spaces.tables import MEASUREMENTS, TRIALS

N_TRIALS, N_MEASUREMENTS = 168_160, 71_638_836  # Shallue et al. 2018, abstract
BATCH_SIZES = tuple(2**k for k in range(4, 20))
S_MIN, B_CRIT = 2_000.0, 1_024.0
EVERY = 500  # steps between evaluations, as in the archive's ImageNet and LM1B studies
PART_TRIALS = 2_400  # about a million rows
LIMIT_SECONDS, LIMIT_GIB, LIMIT_RATIO = 30.0, 4.0, 3.0


def experiment() -> Experiment:
    """An imported run with one target."""
    return parse_experiment(
        {
            "name": "size",
            "imported": {"format": "made-up", "source": "benchmarks/size.py"},
            "workload": "made-up",
            "batch_sizes": list(BATCH_SIZES),
            "target": "val_loss < 3.9",
            "space": {"lr": "log from 0.0001 to 10", "momentum": "reverse_log from 0 to 0.999"},
            "budget": {"steps": 1_000_000},
        },
        "benchmarks/size.py",
    )


def make(folder: RunFolder, share: float, seed: int = 0) -> tuple[int, int]:
    """Write the folder part by part.

    Every trial has a loss that falls as 3 + 4 / (1 + 10 step / (S(B) h))^0.8 with 3 % noise, h >= 1 for its distance
    from the optimum of lr and momentum; a twentieth diverge early.

    Returns:
        Numbers of trials and of measurements.
    """
    spec, rng = experiment(), np.random.default_rng(seed)
    folder.write_experiment(spec)
    n_trials = max(len(BATCH_SIZES), int(N_TRIALS * share))
    per_trial = N_MEASUREMENTS / N_TRIALS
    rows = 0
    for part, first in enumerate(range(0, n_trials, PART_TRIALS)):
        number = np.arange(first, min(first + PART_TRIALS, n_trials))
        data, measured = _part(number, n_trials, per_trial, spec, rng)
        folder.append_table(TRIALS, data, part)
        folder.append_table(MEASUREMENTS, measured, part)
        rows += measured.num_rows
    return n_trials, rows


def _part(
    number: np.ndarray, n_trials: int, per_trial: float, spec: Experiment, rng: np.random.Generator
) -> tuple[pa.Table, pa.Table]:
    batch = np.array(BATCH_SIZES)[number * len(BATCH_SIZES) // n_trials]
    lr, momentum = 10 ** rng.uniform(-4, 1, len(number)), 1 - 10 ** rng.uniform(-3, 0, len(number))
    distance = np.log10(lr / (1 - momentum)) - 0.5 * np.log10(batch / 64)
    tempo = S_MIN * (1 + B_CRIT / batch) * np.exp(0.5 * distance**2) / 10
    diverged = rng.random(len(number)) < 0.05
    counts = np.maximum(1, np.where(diverged, 0.1, 1.05) * rng.poisson(per_trial, len(number))).astype(int)
    starts = np.cumsum(counts) - counts
    place = np.arange(counts.sum()) - np.repeat(starts, counts)
    step = (place + 1) * EVERY
    loss = 3 + 4 / (1 + step / np.repeat(tempo, counts)) ** 0.8 * np.exp(0.03 * rng.normal(size=len(step)))
    ids = np.array([f"b{b:07d}-search-{n:06d}" for b, n in zip(batch, number, strict=True)])
    trial = pa.DictionaryArray.from_arrays(np.repeat(np.arange(len(number), dtype=np.int32), counts), ids)
    seconds = 1e-3 * (1 + np.repeat(batch, counts) / 4096) * step
    measured = pa.table(
        {
            "trial_id": trial,
            "step": step,
            "examples": step * np.repeat(batch, counts),
            "train_seconds": seconds,
            "val_loss": loss,
        }
    )
    crossed = loss < spec.target.threshold
    first = np.minimum.reduceat(np.where(crossed, place, counts.max()), starts)
    reached = (first < counts) & ~diverged
    steps, best = counts * EVERY, np.minimum.reduceat(loss, starts)
    n, text = len(number), pa.string()
    trials = {
        "trial_id": ids,
        "batch_size": batch,
        "stage": pa.array(["search"] * n, text),
        "number": number,
        "round": np.zeros(n, int),
        "repeats": pa.nulls(n, text),
        "seed": number,
        "outcome": np.where(diverged, "diverged", np.where(reached, "reached", "exhausted")),
        "message": pa.nulls(n, text),
        "max_steps": steps,
        "steps": steps,
        "examples": steps * batch,
        "steps_to_target": pa.array((first + 1) * EVERY, mask=~reached),
        "steps_to_target_low": pa.array(first * EVERY, mask=~reached),
        "best_value": best,
        "train_seconds": 1e-3 * (1 + batch / 4096) * steps,
        "evaluate_seconds": np.zeros(n),
        "started_at": np.zeros(n),
        "ended_at": np.ones(n),
        "lr": lr,
        "momentum": momentum,
    }
    return pa.table(trials), measured


def steps_to_targets(location: str, n_targets: int) -> dict[str, Any]:
    """Steps to target of all studies; what is measured."""
    from bcrit.analysis.targets import measured
    from bcrit.search_spaces.target import Target

    folder = RunFolder.at(location)
    trials = folder.read(TRIALS).to_pandas()
    own = folder.read_experiment().target
    targets = [
        Target(metric=own.metric, threshold=own.threshold + 0.02 * k, direction=own.direction) for k in range(n_targets)
    ]
    found, _ = measured(folder, trials, own, targets, budgets={})
    strictest = trials["batch_size"].to_frame().assign(steps=found.steps[:, -1])
    wanted = trials["steps_to_target"].to_numpy(dtype=float)
    feasible = (trials["outcome"] != "diverged").to_numpy()
    assert np.array_equal(found.steps[feasible, -1], wanted[feasible], equal_nan=True), "the planted crossings"
    return {"steps": strictest[feasible].groupby("batch_size")["steps"].min().to_dict()}


def whole_analysis(location: str) -> dict[str, Any]:
    """`bcrit analyze` without printing; what is measured."""
    from bcrit.analysis.run import Run

    found = Run(RunFolder.at(location))
    return {"b_crit": None if found.fit is None else found.fit.b_crit}


TASKS = {
    "one target": lambda location: steps_to_targets(location, 1),
    "twenty targets": lambda location: steps_to_targets(location, 20),
    "analyze": whole_analysis,
}


def measured(task: str, location: str, times: int) -> dict[str, float]:
    """The fastest of so many runs of a task, each in a process of its own, imports included; other work disturbs."""
    return min((_measured(task, location) for _ in range(times)), key=lambda values: values["seconds"])


def _measured(task: str, location: str) -> dict[str, float]:
    begun = time.perf_counter()
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.size", "--task", task, "--keep", location], capture_output=True, text=True
    )
    if done.returncode:
        sys.exit(done.stderr)
    return {"seconds": time.perf_counter() - begun, **json.loads(done.stdout)}


def main() -> None:
    """Make the folder, print the table and the ratios against the limits, remove the folder."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--share", type=float, default=1.0, help="share of the archive's size")
    parser.add_argument("--keep", help="folder to use: made if it is not there, and left")
    parser.add_argument("--task", choices=list(TASKS), help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.task:
        TASKS[given.task](given.keep)
        used = resource.getrusage(resource.RUSAGE_SELF)
        print(json.dumps({"gib": used.ru_maxrss / 2**20, "cpu": used.ru_utime + used.ru_stime}))
        return
    with tempfile.TemporaryDirectory() as scratch:
        folder = RunFolder.at(given.keep or Path(scratch) / "run")
        if not folder.occupied():
            begun = time.perf_counter()
            n_trials, n_rows = make(folder, given.share)
            print(f"{n_trials:,} trials, {n_rows:,} measurements, made in {time.perf_counter() - begun:.0f} s")
        found = {task: measured(task, str(folder), 1 if task == "analyze" else 3) for task in TASKS}
    for task, values in found.items():
        print(
            f"{task:>15}: {values['seconds']:6.1f} s ({values['cpu']:.1f} s of computing), peak {values['gib']:.2f} GiB"
        )
    one, twenty = found["one target"], found["twenty targets"]
    print(f"one target against its limit of {LIMIT_SECONDS:.0f} s: {one['seconds'] / LIMIT_SECONDS:.2f}")
    print(f"peak memory against its limit of {LIMIT_GIB:.0f} GiB: {one['gib'] / LIMIT_GIB:.2f}")
    ratio = twenty["seconds"] / one["seconds"]
    print(f"twenty targets take {ratio:.2f} times one, limit {LIMIT_RATIO:.0f}: {ratio / LIMIT_RATIO:.2f}")


if __name__ == "__main__":
    main()
