from __future__ import annotations

import pytest
import torch
from torch import Tensor

from bcrit.tuner.training.policy_gradient import advantages


def column(*values: float) -> Tensor:
    return torch.tensor(values, dtype=torch.float64)[:, None]


def flags(*values: bool) -> Tensor:
    return torch.tensor(values)[:, None]


NEVER = flags(False, False, False)


def made(seed: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    rewards = torch.randn((7, 4), generator=generator, dtype=torch.float64)
    values = torch.randn((8, 4), generator=generator, dtype=torch.float64)
    terminated, truncated = (torch.rand((7, 4), generator=generator) < 0.2 for _ in range(2))
    return rewards, values, terminated, terminated | truncated


def sum_of_deltas(
    rewards: Tensor, values: Tensor, terminated: Tensor, ended: Tensor, gamma: float, lam: float, t: int, i: int
) -> float:
    """Schulman et al. 2016, eq. 16 as it is written: sum_l (gamma lambda)^l delta_{t+l}, to the episode's end."""
    total = 0.0
    for power, k in enumerate(range(t, len(rewards))):
        after = 0.0 if terminated[k, i] else gamma * float(values[k + 1, i])
        total += (gamma * lam) ** power * (float(rewards[k, i]) + after - float(values[k, i]))
        if ended[k, i]:
            break
    return total


def n_step_return(
    rewards: Tensor, values: Tensor, terminated: Tensor, ended: Tensor, gamma: float, t: int, i: int
) -> float:
    """Mnih et al. 2016: discounted rewards to the end of episode or rollout, and V there unless it terminated."""
    total, discount = 0.0, 1.0
    for k in range(t, len(rewards)):
        total, discount = total + discount * float(rewards[k, i]), discount * gamma
        if ended[k, i]:
            break
    return total if terminated[k, i] else total + discount * float(values[k + 1, i])


@pytest.mark.parametrize("lam", [0.0, 0.7, 1.0])
@pytest.mark.parametrize("seed", [0, 1])
def test_they_are_the_papers_sum(seed: int, lam: float) -> None:
    parts = made(seed)
    assert parts[2].any() and (parts[3] & ~parts[2]).any()
    found = advantages(*parts, gamma=0.9, gae_lambda=lam)
    naive = [[sum_of_deltas(*parts, 0.9, lam, t, i) for i in range(4)] for t in range(7)]
    torch.testing.assert_close(found, torch.tensor(naive, dtype=torch.float64))


def test_at_lambda_one_they_are_n_step_returns_less_the_value() -> None:
    parts = made(3)
    found = advantages(*parts, gamma=0.9, gae_lambda=1.0) + parts[1][:-1]
    naive = [[n_step_return(*parts, 0.9, t, i) for i in range(4)] for t in range(7)]
    torch.testing.assert_close(found, torch.tensor(naive, dtype=torch.float64))


def test_a_rollout_in_the_midst_of_an_episode_goes_on_with_the_last_value() -> None:
    found = advantages(column(1, 1, 1), column(0, 0, 0, 8), NEVER, NEVER, gamma=0.5, gae_lambda=1.0)
    assert found.flatten().tolist() == [1 + 0.5 + 0.25 + 1, 1 + 0.5 + 2, 1 + 4]


def test_a_time_limit_goes_on_with_the_value_of_the_last_state_and_an_end_does_not() -> None:
    ended = flags(False, True, False)
    cut = advantages(column(1, 1, 1), column(0, 0, 6, 0), NEVER, ended, gamma=0.5, gae_lambda=1.0)
    over = advantages(column(1, 1, 1), column(0, 0, 6, 0), ended, ended, gamma=0.5, gae_lambda=1.0)
    assert cut.flatten().tolist()[:2] == [1 + 0.5 * (1 + 0.5 * 6), 1 + 0.5 * 6]
    assert over.flatten().tolist()[:2] == [1 + 0.5, 1]
