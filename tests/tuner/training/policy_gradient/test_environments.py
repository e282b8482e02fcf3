from __future__ import annotations

import numpy as np
import pytest
import torch

from bcrit.tuner.training.policy_gradient import ACTIONS, ENVIRONMENTS, as_tensor, sampled, stream


def test_actions_are_drawn_with_the_policys_probabilities() -> None:
    policy = torch.tensor([0.5, 0.3, 0.15, 0.05])
    n = 40_000
    drawn = sampled(policy.log().expand(n, 4), torch.Generator().manual_seed(1))
    shares = torch.bincount(drawn, minlength=4) / n
    errors = (policy * (1 - policy) / n).sqrt()
    assert ((shares - policy).abs() < 4 * errors).all()


def test_rows_are_drawn_independently() -> None:
    first, second = sampled(torch.zeros(20_000, 2), torch.Generator().manual_seed(2)).reshape(2, -1)
    assert (first == second).float().mean().item() == pytest.approx(0.5, abs=0.02)


def test_a_policy_that_is_no_number_still_gives_an_action() -> None:
    drawn = sampled(torch.tensor([[float("nan"), 0.0], [0.0, float("inf")]]), torch.Generator())
    assert set(drawn.tolist()) <= {0, 1}


def test_streams_of_neighbouring_seeds_and_uses_do_not_overlap() -> None:
    starts = sorted(stream(seed, which) for seed in range(20) for which in (ACTIONS, ENVIRONMENTS))
    assert min(np.diff(starts)) > 10_000  # environments take consecutive seeds from a start
    assert 0 <= starts[0] and starts[-1] < 2**30


@pytest.mark.parametrize(
    ("kind", "read_as"), [(np.uint8, torch.uint8), (np.float64, torch.float32), (np.int64, torch.float32)]
)
def test_bytes_stay_bytes_and_other_numbers_become_floats(kind: type, read_as: torch.dtype) -> None:
    tensor = as_tensor(np.arange(3, dtype=kind), torch.device("cpu"))
    assert tensor.dtype == read_as
    assert tensor.tolist() == [0, 1, 2]
