"""How fast a tree in the batch_science layout is imported, against pandas file by file; both in one run.

`python -m benchmarks.import_speed` makes the files (2,000 trials of 400 evaluations unless told otherwise) and times

- the loader published with the data: `json.load` and `pandas.read_csv` a trial, one `pandas.concat` a study, one of the
  studies;
- a loop that grows one frame: `table = concat([table, read_csv(file)])`; its time grows with the square of the trials;
- `bcrit import`: the same files read, checked, every trial's first crossing found, and the run folder written.

pandas only fills memory. CPU seconds are those of all threads, which another program on the machine disturbs less than
it does the clock. Steps to target of the loader and of the import are compared at the end.
"""

import argparse
import json
import os
import shutil
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from bcrit.analysis.exchange.batch_science import import_batch_science
from bcrit.analysis.exchange.write import write_run
from bcrit.analysis.records.run_folder import RunFolder
from bcrit.search_spaces.tables import TRIALS
from bcrit.search_spaces.target import Target

_METRIC = "val/classification_error"
_METRICS = tuple(
    f"{part}/{kind}_error" for part in ("train", "val", "test") for kind in ("cross_entropy", "classification")
)
_TARGET = Target.model_validate(f"{_METRIC} < 0.01")


def make_tree(root: Path, trials: int, evaluations: int) -> Path:
    """Curves of 32-bit floats as the archive has them: six metrics, and a step that starts at 0."""
    rng = np.random.default_rng(0)
    workload = root / "mnist/simple_cnn_base/nesterov_momentum"
    sizes = (8, 64, 512, 4096)
    for place in range(trials):
        batch_size, number = sizes[place % len(sizes)], place // len(sizes) + 1
        folder = workload / str(batch_size) / str(number)
        folder.mkdir(parents=True)
        parameters = {"learning_rate": float(rng.lognormal(-4)), "momentum": float(1 - rng.lognormal(-4))}
        metadata = {"parameters": parameters, "status": "COMPLETE", "steps": 40_000, "trial_id": number}
        (folder / "metadata.json").write_text(json.dumps(metadata, indent=2))
        fall = np.exp(-np.arange(evaluations)[:, None] / evaluations * rng.uniform(1, 8))
        values = (fall * rng.lognormal(0, 0.1, (evaluations, 6))).astype(np.float32)
        lines = [f"{100 * step}," + ",".join(map(str, row)) for step, row in enumerate(values)]
        (folder / "measurements.csv").write_text("\n".join([",".join(("step", *_METRICS)), *lines]) + "\n")
    for batch_size in sizes:
        space = {"learning_rate": {"min_value": 1e-4, "max_value": 10.0, "scale": "LOG_SCALE", "type": "DOUBLE"}}
        study = {"batch_size": batch_size, "parameter_configs": space, "train_steps": 40_000, "optimizer": "nesterov"}
        (workload / str(batch_size) / "study.json").write_text(json.dumps(study))
    return workload


def as_published(workload: Path) -> pd.DataFrame:
    """The published loader's way: a list of frames, joined for each study and then for the workload."""
    studies, sizes = [], []
    for name in sorted(os.listdir(workload), key=int):
        frames, ids = [], []
        for trial in sorted((t for t in os.listdir(workload / name) if t != "study.json"), key=int):
            with open(workload / name / trial / "metadata.json") as file:
                ids.append(json.load(file)["trial_id"])
            frames.append(pd.read_csv(workload / name / trial / "measurements.csv", index_col="step"))
        studies.append(pd.concat(frames, keys=ids, names=["trial_id"]))
        sizes.append(int(name))
    return pd.concat(studies, keys=sizes, names=["batch_size"])


def growing(workload: Path) -> pd.DataFrame:
    """One frame that every file is joined to."""
    table = pd.DataFrame()
    for path in sorted(workload.glob("*/*/measurements.csv")):
        table = pd.concat([table, pd.read_csv(path).assign(trial=str(path.parent))])
    return table


def as_imported(workload: Path, out: Path) -> RunFolder:
    """Read and written as `bcrit import` does."""
    shutil.rmtree(out, ignore_errors=True)
    folder = RunFolder.at(out)
    (run,) = import_batch_science(str(workload), _TARGET)
    write_run(run, folder)
    return folder


def timed(repeats: int, work: Callable[[], Any]) -> tuple[tuple[float, float], Any]:
    """(seconds, CPU seconds) of the fastest of some runs, and the last result."""
    seconds = []
    for _ in range(repeats):
        start, cpu = time.perf_counter(), time.process_time()
        result = work()
        seconds.append((time.perf_counter() - start, time.process_time() - cpu))
    return min(seconds), result


def main() -> None:
    """Make the files, time the three, print a line each."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--trials", type=int, default=2000)
    parser.add_argument("--evaluations", type=int, default=400)
    parser.add_argument("--repeats", type=int, default=3)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as place:
        workload = make_tree(Path(place) / "tree", given.trials, given.evaluations)
        size = sum(path.stat().st_size for path in workload.rglob("*.csv")) / 1e6
        print(f"{given.trials:,} trials of {given.evaluations} evaluations, {size:.0f} MB, {os.cpu_count()} cores")
        own, folder = timed(given.repeats, lambda: as_imported(workload, Path(place) / "run"))
        published, table = timed(given.repeats, lambda: as_published(workload))
        quadratic, _ = timed(1, lambda: growing(workload))
        for name, (wall, cpu) in {
            "published loader": published,
            "growing frame": quadratic,
            "bcrit import": own,
        }.items():
            ratio = f"{wall / own[0]:5.1f} x the import's time, {cpu / own[1]:5.1f} x its CPU time"
            print(f"{name:>17}: {wall:7.2f} s, {wall / given.trials * 1e3:7.3f} ms a trial, {ratio}")
        fewest = table[table[_METRIC] < _TARGET.threshold].reset_index().groupby("batch_size")["step"].min()
        trials = folder.read(TRIALS).to_pandas()
        assert fewest.to_dict() == trials.groupby("batch_size")["steps_to_target"].min().dropna().to_dict()
        print("fewest steps to target agree:", fewest.to_dict())


if __name__ == "__main__":
    main()
