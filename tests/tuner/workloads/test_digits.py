from __future__ import annotations

import pytest
import torch

from bcrit.search_spaces.target import Target
from bcrit.tuner.training.settings import Settings
from bcrit.tuner.workloads.digits import DigitsMLP
from bcrit.tuner.workloads.registry import WORKLOADS

WORKLOAD = DigitsMLP()


def test_the_split_is_whole_stratified_and_the_same_each_time() -> None:
    (train_x, train_y), (val_x, val_y) = WORKLOAD.train_data(), WORKLOAD.validation_data()
    assert train_x.shape == (1437, 64)
    assert val_x.shape == (360, 64)
    assert WORKLOAD.n_examples == 1437
    shares = [torch.bincount(classes, minlength=10) / len(classes) for classes in (train_y, val_y)]
    torch.testing.assert_close(shares[0], shares[1], atol=0.003, rtol=0)
    torch.testing.assert_close(DigitsMLP().validation_data(), (val_x, val_y), atol=0, rtol=0)


def test_training_inputs_are_standardised() -> None:
    inputs = WORKLOAD.train_data()[0]
    assert inputs.mean().item() == pytest.approx(0, abs=1e-5)
    assert inputs.std().item() == pytest.approx(1, abs=1e-3)


@pytest.mark.parametrize(("batch_size", "lr"), [(16, 0.03), (1437, 0.1)])
def test_good_settings_reach_the_default_target(batch_size: int, lr: float) -> None:
    target = Target.model_validate(WORKLOADS["digits_mlp"].target)
    run = WORKLOAD.begin(Settings(batch_size, 0, "momentum", {"lr": lr, "momentum": 0.9}))
    assert not target.reached(run.evaluate()[target.metric])
    run.train(160)
    metrics = run.evaluate()
    assert target.reached(metrics[target.metric])
    assert metrics["val_accuracy"] > 0.95
