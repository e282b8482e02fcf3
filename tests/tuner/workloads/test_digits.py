from __future__ import annotations

import pytest
import torch

from bcrit.tuner.workloads.digits import DigitsMLP

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
