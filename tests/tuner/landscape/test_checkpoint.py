"""Checkpoints: what is written is read, and what is not the same run is not."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from bcrit.analysis.records.run_folder import RunFolder
from bcrit.tuner.landscape import checkpoint
from bcrit.tuner.training.settings import Settings
from tests.tuner.landscape.small import experiment

SETTINGS = Settings(4, 7, "sgd", {"lr": 0.5})


def test_what_is_written_is_read_and_the_model_may_go_on(tmp_path: Path) -> None:
    folder, model = RunFolder.at(tmp_path / "run"), nn.Linear(2, 3)
    weights, path = checkpoint.weights_of(model), checkpoint.path_of("one")
    checkpoint.write(folder, path, "key", {"weights": weights, "last": {"val_loss": float("nan")}, "steps": 3})
    with torch.no_grad():
        model.weight.zero_()
    found = checkpoint.read(folder, path, "key", model)
    assert path == "checkpoints/one.pt" and found is not None and found["steps"] == 3
    assert torch.equal(found["weights"]["weight"], weights["weight"]) and weights["weight"].abs().sum() > 0
    assert checkpoint.read(folder, path, "other", model) is None
    assert checkpoint.read(folder, path, "key", nn.Linear(3, 2)) is None
    assert checkpoint.read(folder, checkpoint.path_of("none"), "key", model) is None


@pytest.mark.parametrize(
    "change", [{"batch_size": 5}, {"seed": 8}, {"optimizer": "adam"}, {"hyperparameters": {"lr": 0.4}}], ids=str
)
def test_whatever_decides_the_weights_is_in_the_key(change: dict[str, Any]) -> None:
    spec = experiment()
    facts, other = (checkpoint.run_facts(s, spec) for s in (SETTINGS, dataclasses.replace(SETTINGS, **change)))
    assert checkpoint.key_of(facts) != checkpoint.key_of(other)
    assert checkpoint.key_of(facts) == checkpoint.key_of(checkpoint.run_facts(SETTINGS, experiment()))
