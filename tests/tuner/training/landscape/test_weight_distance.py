from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from bcrit.tuner.training.probes import WeightDistance, log_spaced
from tests.tuner.training.landscape.quadratic import assert_untouched, examples, network


def test_distances_are_those_of_copies_that_were_kept_by_hand() -> None:
    model = network()
    optimizer, start = torch.optim.SGD(model.parameters(), lr=0.5), [p.detach().clone() for p in model.parameters()]
    distance, expected = WeightDistance(model), []
    for step in range(1, 6):
        optimizer.zero_grad()
        nn.functional.cross_entropy(model(examples()[0]), examples()[1]).backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        distance.measure(step)
        expected.append([(p - s).norm().item() for p, s in zip(model.parameters(), start, strict=True)])
    read = distance.read()
    assert read.steps == (1, 2, 3, 4, 5) and read.names == ("0.weight", "0.bias", "2.weight", "2.bias")
    np.testing.assert_allclose(read.by_tensor, expected, rtol=1e-6)
    np.testing.assert_allclose(read.total, np.linalg.norm(expected, axis=1), rtol=1e-6)
    assert read.start_norm == pytest.approx(math.sqrt(sum(float(s.norm()) ** 2 for s in start)), rel=1e-6)
    assert (np.diff(read.total) > 0).all()


def test_before_any_movement_it_is_zero_and_before_any_measurement_empty() -> None:
    distance = WeightDistance(network())
    assert distance.read().total.shape == (0,) and distance.read().by_tensor.shape == (0, 4)
    distance.measure(0)
    assert distance.read().total.tolist() == [0.0]


def test_what_does_not_train_is_not_measured() -> None:
    model = network()
    assert isinstance(model, nn.Sequential)
    model[0].requires_grad_(False)
    assert WeightDistance(model).read().names == ("2.weight", "2.bias")


def test_half_precision_weights_are_measured_in_single_precision() -> None:
    model = nn.Linear(300, 300, bias=False, dtype=torch.bfloat16)
    distance = WeightDistance(model)
    with torch.no_grad():
        model.weight.copy_(model.weight + 1)
    distance.measure(1)
    assert distance.read().total[0] == pytest.approx(300, rel=1e-3)


def test_measuring_leaves_the_model_untouched_to_the_bit() -> None:
    model = network(normalised=True).train()
    nn.functional.cross_entropy(model(examples()[0]), examples()[1]).backward()  # type: ignore[no-untyped-call]
    distance = WeightDistance(model)
    assert_untouched(model, lambda: distance.measure(1))


@given(max_steps=st.integers(1, 10**7), per_decade=st.integers(1, 50))
def test_steps_rise_from_1_to_the_last_and_are_even_in_log_t(max_steps: int, per_decade: int) -> None:
    steps = log_spaced(max_steps, per_decade)
    assert steps[0] == 1 and steps[-1] == max_steps
    assert all(a < b for a, b in zip(steps, steps[1:], strict=False))
    # No gap is wider than one part of a decade, up to the rounding of both its ends.
    ratio = 10 ** (1 / per_decade)
    assert all(b == a + 1 or b <= (a + 0.5) * ratio + 0.51 for a, b in zip(steps, steps[1:], strict=False))
    assert len(steps) <= per_decade * math.log10(max_steps) + 2.001


def test_impossible_spacings_are_refused() -> None:
    for numbers in ((0, 10), (10, 0)):
        with pytest.raises(ValueError, match=f"max_steps={numbers[0]} and per_decade={numbers[1]}"):
            log_spaced(*numbers)
