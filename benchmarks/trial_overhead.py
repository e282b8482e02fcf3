"""What a trial costs beside its training: our driver against bare Ray Tune with the same workers and settings.

Both run trials that train nothing. Ours is a whole experiment of ten studies (quasi-random search, so that the
framework is measured and not a sampler: `benchmarks.proposals` has those), with its ledger on disk. The peer is a class
trainable with reused actors and random search, Tune at its leanest: no loggers, no checkpoints, one report a trial.
Each is run in a process of its own for every number of trials.

    python -m benchmarks.trial_overhead [TRIALS ...]
"""

import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from bcrit.analysis.records.run_folder import RunFolder
from bcrit.search_spaces.load import parse_experiment
from bcrit.tuner.cluster import SETTINGS
from bcrit.tuner.session import run

WORKERS = 2
STUDIES = 10
TRIALS = (500, 2000)


def ours(folder: Path, trials: int) -> int:
    """Run an experiment; returns the number of trials."""
    experiment = parse_experiment(
        {
            "workload": "tests.scripted:ExactHyperbola",
            "batch_sizes": [2**k for k in range(3, 3 + STUDIES)],
            "target": "loss < 1",
            "space": {"lr": "log from 0.001 to 10", "momentum": "reverse_log from 0 to 0.99"},
            "budget": {"steps": 800, "examples": 10_000},
            "search": {"protocol": "sobol", "trials": trials // STUDIES, "max_draws": 1},
            "boundary": {"max_rounds": 0},
            "confirm": {"seeds": 0},
        },
        "benchmark",
    )
    run_folder = RunFolder.at(folder / "run")
    return run(run_folder, experiment, new=True, address=None, workers=WORKERS, watch=lambda scheduler: None).n_trials


def peer(folder: Path, trials: int) -> int:
    """Run as many trials of bare Tune."""
    os.environ.update(SETTINGS)
    import ray
    from ray import tune

    class Nothing(tune.Trainable):
        def step(self) -> dict[str, Any]:
            return {"loss": self.config["lr"], "done": True}

        def reset_config(self, new_config: dict[str, Any]) -> bool:
            return True

    ray.init(address="local", num_cpus=WORKERS, include_dashboard=False, log_to_driver=False)
    tune.Tuner(
        Nothing,
        param_space={"lr": tune.loguniform(1e-3, 10)},
        tune_config=tune.TuneConfig(num_samples=trials, metric="loss", mode="min", reuse_actors=True),
        run_config=tune.RunConfig(
            storage_path=str(folder), verbose=0, checkpoint_config=tune.CheckpointConfig(checkpoint_at_end=False)
        ),
    ).fit()
    ray.shutdown()
    return trials


def measured(which: str, trials: int) -> dict[str, float]:
    """Seconds, processor seconds of the driver, and its memory, in a process of its own."""
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.trial_overhead", which, str(trials)],
        capture_output=True,
        text=True,
        check=True,
    )
    found: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return found


def measure(which: str, trials: int) -> None:
    """Run one of the two and print what it took as JSON."""
    with tempfile.TemporaryDirectory() as folder:
        begun, cpu = time.perf_counter(), time.process_time()
        done = (ours if which == "ours" else peer)(Path(folder), trials)
        used = {"seconds": time.perf_counter() - begun, "cpu": time.process_time() - cpu, "trials": done}
    print(json.dumps({**used, "mib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024}))


def main() -> None:
    """Print both for every number of trials, the cost of further trials, and the ratios."""
    if sys.argv[1:2] and sys.argv[1] in ("ours", "peer"):
        measure(sys.argv[1], int(sys.argv[2]))
        return
    numbers = tuple(map(int, sys.argv[1:])) or TRIALS
    print(f"{'trials':>7}  {'':<9}  {'ms a trial':>10}  {'driver ms':>9}  {'MiB':>5}  {'further driver ms':>17}")
    last: dict[str, dict[str, float]] = {}
    for trials in numbers:
        found = {which: measured(which, trials) for which in ("ours", "peer")}
        for which, m in found.items():
            before = last.get(which)
            further = (
                "" if before is None else f"{1000 * (m['cpu'] - before['cpu']) / (m['trials'] - before['trials']):.1f}"
            )
            name = "bcrit" if which == "ours" else "bare Tune"
            wall, cpu = (1000 * m[key] / m["trials"] for key in ("seconds", "cpu"))
            print(f"{m['trials']:>7}  {name:<9}  {wall:>10.1f}  {cpu:>9.1f}  {m['mib']:>5.0f}  {further:>17}")
        last = found
        ratio = found["ours"]["cpu"] / found["ours"]["trials"] / (found["peer"]["cpu"] / found["peer"]["trials"])
        print(f"{'':>7}  ratio of driver time to bare Tune's: {ratio:.2f}")


if __name__ == "__main__":
    main()
