"""Trees in the batch_science layout for tests, written with plain Python, and read back the slow obvious way."""

from __future__ import annotations

import csv
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bcrit.search_spaces.target import Target

TARGET = Target.model_validate("val/classification_error < 0.01")
METRICS = ("train/cross_entropy_error", "val/classification_error")
CONFIGS: dict[str, Any] = {
    "learning_rate": {"min_value": 1e-4, "max_value": 10.0, "scale": "LOG_SCALE", "type": "DOUBLE"},
    "momentum": {"min_value": 0.9, "max_value": 0.9999, "scale": "REVERSE_LOG_SCALE", "type": "DOUBLE"},
}
HEADER = ",".join(("step", *METRICS))


@dataclass(frozen=True)
class Tree:
    """A workload folder under `root`."""

    root: Path
    workload: str = "mnist/simple_cnn_base/nesterov_momentum"

    def study(self, batch_size: int, configs: Mapping[str, Any] = CONFIGS, **more: Any) -> Tree:
        dataset, model, optimizer = self.workload.split("/")[-3:]
        content = {
            "batch_size": batch_size,
            "dataset": dataset,
            "early_stopping": False,
            "model": model,
            "optimizer": optimizer,
            "parameter_configs": configs,
            "train_steps": 100,
            **more,
        }
        self.folder(batch_size).mkdir(parents=True, exist_ok=True)
        self.folder(batch_size).joinpath("study.json").write_text(json.dumps(content))
        return self

    def folder(self, batch_size: int, trial: str | int | None = None) -> Path:
        study = self.root / self.workload / str(batch_size)
        return study if trial is None else study / str(trial)

    def trial(
        self,
        batch_size: int,
        trial: str | int,
        curve: Sequence[tuple[Any, Any]] | str | None,
        status: str = "COMPLETE",
        parameters: Mapping[str, Any] | None = None,
        **more: Any,
    ) -> Tree:
        """`curve` is (step, value of the second metric) pairs, or the whole text of the file, or None for no file."""
        folder = self.folder(batch_size, trial)
        folder.mkdir(parents=True)
        content = {
            "_internal_study_name": "s",
            "_internal_trial_id": 7,
            "parameters": {"learning_rate": 0.1, "momentum": 0.95} if parameters is None else parameters,
            "status": status,
            "steps": 100,
            "trial_id": int(trial),
            **more,
        }
        (folder / "metadata.json").write_text(json.dumps(content))
        if curve is not None:
            text = curve if isinstance(curve, str) else rows(curve)
            (folder / "measurements.csv").write_bytes(text.encode())
        return self


def rows(curve: Sequence[tuple[Any, Any]]) -> str:
    return "\n".join([HEADER, *(f"{step},2.5,{value}" for step, value in curve)]) + "\n"


def slow_first_crossing(path: Path, target: Target) -> int | None:
    """The published rule, read with `csv` and `float`: sort by step, take the first row strictly better."""
    with path.open(newline="") as file:
        read = [(float(row["step"]), float(row[target.metric] or "nan")) for row in csv.DictReader(file)]
    good = sorted(step for step, value in read if target.reached(value) and step > 0)
    return int(good[0]) if good else None
