"""Runs with planted evaluations, as trackers would log them, and trees in the batch_science layout."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bcrit.analysis.exchange import Reading
from bcrit.analysis.exchange.run import ImportedRun
from bcrit.analysis.exchange.write import Census, write_run
from bcrit.analysis.records.run_folder import RunFolder
from bcrit.analysis.run import Run
from bcrit.search_spaces.target import Target

SIZES = (16, 32, 64, 128, 256)
READING = Reading(Target.model_validate("val_loss < 0.1"))
EVIL = "</script><b>'quoted'\nname" + "x" * 300
# Of the trees.
GOAL = Target.model_validate("val/classification_error < 0.01")
HEADER = "step,train/cross_entropy_error,val/classification_error"
CONFIGS: dict[str, Any] = {
    "learning_rate": {"min_value": 1e-4, "max_value": 10.0, "scale": "LOG_SCALE", "type": "DOUBLE"},
    "momentum": {"min_value": 0.9, "max_value": 0.9999, "scale": "REVERSE_LOG_SCALE", "type": "DOUBLE"},
}
Curve = Sequence[tuple[Any, Any]]


def evaluations(batch_size: int, slower: int = 1) -> list[tuple[int, float]]:
    """Five evaluations of a falling loss, the last of which crosses the target at S(B) = 20 (1 + 64 / B)."""
    step = slower * (20 + 1280 // batch_size) // 5
    return [(step * k, 1 - k / 5) for k in range(1, 6)]


def written(run: ImportedRun, place: Path) -> tuple[Census, Run]:
    census = write_run(run, RunFolder.at(place))
    return census, Run(RunFolder.at(place))


def b_crit(run: Run) -> float:
    assert run.fit is not None
    return float(run.fit.to_json()["b_crit"])


def rows(curve: Curve) -> str:
    """A file of measurements; (step, value of the second metric)."""
    return "\n".join([HEADER, *(f"{step},2.5,{value}" for step, value in curve)]) + "\n"


def slow_rule(own: Sequence[tuple[int, float | None]]) -> dict[int, float | None]:
    """The values of one metric that stand, by step, of a trial's rows in the order in which they came."""
    steps = [step for step, value in own if value is not None]
    falls = sum(b < a for a, b in zip(steps, steps[1:], strict=False))
    rises = sum(b > a for a, b in zip(steps, steps[1:], strict=False))
    kept: dict[int, float | None] = {}
    for step, value in own:
        if value is not None and (len(set(steps)) < len(steps) or 3 * falls < rises):
            kept = {s: v for s, v in kept.items() if s < step}
        kept |= {} if value is None else {step: value}
    return dict(sorted(kept.items()))


@dataclass(frozen=True)
class Tree:
    """A workload folder under `root`."""

    root: Path
    workload: str = "mnist/simple_cnn_base/nesterov_momentum"

    def folder(self, batch_size: int, trial: str | int = "") -> Path:
        return self.root / self.workload / str(batch_size) / str(trial)

    def study(self, batch_size: int, configs: Mapping[str, Any] = CONFIGS, **more: Any) -> Tree:
        content = {"batch_size": batch_size, "parameter_configs": configs, "train_steps": 100, **more}
        content |= {"optimizer": self.workload.rpartition("/")[2], "early_stopping": False}
        self.folder(batch_size).mkdir(parents=True, exist_ok=True)
        (self.folder(batch_size) / "study.json").write_text(json.dumps(content))
        return self

    def trial(
        self, batch_size: int, trial: str | int, curve: Curve | str | None, status: str = "COMPLETE", **more: Any
    ) -> Tree:
        """`curve` may be the whole text of the file, or None for no file."""
        folder = self.folder(batch_size, trial)
        folder.mkdir(parents=True)
        content = {"parameters": {"learning_rate": 0.1, "momentum": 0.95}, "status": status, "steps": 100}
        (folder / "metadata.json").write_text(json.dumps({**content, "trial_id": int(trial), **more}))
        if curve is not None:
            (folder / "measurements.csv").write_bytes((curve if isinstance(curve, str) else rows(curve)).encode())
        return self
