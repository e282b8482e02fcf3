from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from bcrit.tuner.training.settings import Settings
from bcrit.tuner.workloads.autoencoder import AutoencoderWorkload
from tests.tuner.workloads.files import write_idx

SIZES = {"filters": [3, 4], "hidden": 16, "code": 4}


@pytest.fixture
def source(tmp_path: Path) -> dict[str, Any]:
    write_idx(tmp_path / "data", n=72)
    return {"source": str(tmp_path / "data"), "validation": 24, "cache": str(tmp_path / "cache")}


@pytest.mark.parametrize("name", ["autoencoder", "vae"])
def test_it_learns_to_reconstruct(source: dict[str, Any], name: str) -> None:
    workload = AutoencoderWorkload(source, {"name": name, **SIZES})
    run = workload.begin(Settings(16, 0, "momentum", {"lr": 0.002, "momentum": 0.9}))
    before = run.evaluate()
    assert set(before) == set(workload.metrics)
    run.train(80)
    after = run.evaluate()
    assert after["val_loss"] < 0.9 * before["val_loss"]
    assert after["val_loss"] == pytest.approx(after["val_reconstruction"] + after["val_divergence"])
    assert (after["val_divergence"] > 0) == (name == "vae")


def test_a_variational_run_repeats_to_the_bit_however_often_it_is_evaluated(source: dict[str, Any]) -> None:
    workload = AutoencoderWorkload(source, {"name": "vae", **SIZES}, train_loss_examples=8)
    curves = []
    for evaluations in (1, 3):
        run = workload.begin(Settings(16, 0, "sgd", {"lr": 0.001}))
        for _ in range(evaluations):
            run.evaluate()
        run.train(3)
        curves.append(run.evaluate())
    assert curves[0] == curves[1]
    assert "train_loss" in curves[0]


def test_it_needs_no_labels(source: dict[str, Any]) -> None:
    (Path(source["source"]) / "train-labels-idx1-ubyte.gz").unlink()
    assert AutoencoderWorkload(source, {"name": "autoencoder", **SIZES}).n_examples == 48
