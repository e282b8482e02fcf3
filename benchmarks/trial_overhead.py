"""What one trial costs beside its training: our engine against a plain Ray Tune function trainable.

Both run trials that train nothing (a scripted curve, three reports for the peer) on the same Ray settings and workers,
one after the other. The share of the peer's time is what counts; both include Ray's own start of workers.

    python -m benchmarks.trial_overhead
"""

from __future__ import annotations

import os
import tempfile
import time
from pathlib import Path

from analysis.run_folder import RunFolder
from search_spaces.load import parse_experiment
from tuner.session import run

WORKERS = 2
PEER_TRIALS = 40
EXPERIMENT = parse_experiment(
    {
        "workload": "tests.scripted:ExactHyperbola",
        "batch_sizes": [8, 16, 32, 64, 128, 256, 512, 1024],
        "target": "loss < 1",
        "space": {"lr": "log from 0.001 to 10", "momentum": "reverse_log from 0 to 0.99"},
        "budget": {"steps": 800, "examples": 10_000},
    },
    "benchmark",
)


def ours(folder: Path) -> float:
    """Seconds a trial of a whole experiment: search, stopping, ledger on disk, confirmation."""
    begun = time.perf_counter()
    result = run(
        RunFolder.at(folder / "run"), EXPERIMENT, new=True, address=None, workers=WORKERS, watch=lambda scheduler: None
    )
    return (time.perf_counter() - begun) / result.n_trials


def peer(folder: Path) -> float:
    """Seconds a trial of a function trainable with Tune's defaults and its own random search."""
    import ray
    from ray import tune

    def train(config: dict[str, float]) -> None:
        for step in range(3):
            tune.report({"loss": config["lr"] / (step + 1)})

    begun = time.perf_counter()
    ray.init(address="local", num_cpus=WORKERS, include_dashboard=False, log_to_driver=False)
    tune.Tuner(
        train,
        param_space={"lr": tune.loguniform(1e-3, 10)},
        tune_config=tune.TuneConfig(num_samples=PEER_TRIALS, metric="loss", mode="min"),
        run_config=tune.RunConfig(storage_path=str(folder), verbose=0),
    ).fit()
    ray.shutdown()
    return (time.perf_counter() - begun) / PEER_TRIALS


def main() -> None:
    """Print both and the ratio."""
    os.environ["RAY_AIR_NEW_OUTPUT"] = "0"
    with tempfile.TemporaryDirectory() as folder:
        own, other = ours(Path(folder)), peer(Path(folder))
    print(f"bcrit: {1000 * own:.0f} ms a trial; plain function trainable: {1000 * other:.0f} ms a trial")
    print(f"ratio: 1/{other / own:.1f}")


if __name__ == "__main__":
    main()
