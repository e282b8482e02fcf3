from pathlib import Path

import numpy as np
import pytest
import torch

from bcrit.tuner.workloads import digits
from bcrit.tuner.workloads.digits import PARTS, DigitsMLP

WORKLOAD = DigitsMLP()


def test_the_split_is_whole_stratified_and_the_same_each_time() -> None:
    (train_x, train_y), (val_x, val_y) = WORKLOAD.train_data(), WORKLOAD.validation_data()
    assert train_x.shape == (1437, 64)
    assert val_x.shape == (360, 64)
    assert WORKLOAD.n_examples == 1437
    shares = [torch.bincount(classes, minlength=10) / len(classes) for classes in (train_y, val_y)]
    torch.testing.assert_close(shares[0], shares[1], atol=0.003, rtol=0)
    torch.testing.assert_close(DigitsMLP().validation_data(), (val_x, val_y), atol=0, rtol=0)


def test_what_is_stored_is_scikit_learn_s_own() -> None:
    from sklearn.datasets import load_digits
    from sklearn.model_selection import train_test_split

    pixels, classes = load_digits(return_X_y=True)
    expected = train_test_split(pixels, classes, test_size=360, stratify=classes, random_state=0)
    with np.load(Path(digits.__file__).with_name("digits.npz")) as stored:
        found = [stored[f"{part}_{what}"] for what in ("pixels", "classes") for part in PARTS]
    assert all(np.array_equal(a, b) for a, b in zip(found, expected, strict=True))


def test_training_inputs_are_standardised() -> None:
    inputs = WORKLOAD.train_data()[0]
    assert inputs.mean().item() == pytest.approx(0, abs=1e-5)
    assert inputs.std().item() == pytest.approx(1, abs=1e-3)
