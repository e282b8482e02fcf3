from __future__ import annotations

import math

import pytest
import torch

from bcrit.tuner.training.policy_gradient import Episodes
from tests.tuner.training.policy_gradient.made_up import Counting, Linear

CPU = torch.device("cpu")


def episodes(environments: Counting, steps: int = 100, greedy: bool = False) -> Episodes:
    return Episodes(environments, steps, greedy, CPU)


def test_the_return_is_that_of_the_first_episode_of_each_environment() -> None:
    # Environment i pays 1 + i a step. The short episodes begin anew while the longest goes on.
    assert episodes(Counting(2, 3, 20)).mean_return(Linear()) == (1 * 2 + 2 * 3 + 3 * 20) / 3


def test_a_long_episode_is_cut() -> None:
    environments = Counting(2, 50)
    assert episodes(environments, steps=10).mean_return(Linear()) == (2 + 2 * 10) / 2
    assert len(environments.taken) == 10


def test_it_stops_when_all_episodes_are_over() -> None:
    environments = Counting(2, 7)
    episodes(environments).mean_return(Linear())
    assert len(environments.taken) == 7


def test_every_evaluation_is_the_same() -> None:
    environments = Counting(20, 20)
    one = episodes(environments)
    one.mean_return(Linear())
    one.mean_return(Linear())
    assert environments.taken[:20] == environments.taken[20:]
    assert len(set(environments.seeds)) == 1


def test_actions_are_sampled_or_the_likeliest() -> None:
    sampled, greedy = Counting(200), Counting(200)
    episodes(sampled, 200).mean_return(Linear(second=1.0))
    episodes(greedy, 200, greedy=True).mean_return(Linear(second=1.0))
    share = sum(action for (action,) in sampled.taken) / 200
    assert share == pytest.approx(1 / (1 + math.exp(-1)), abs=0.12)
    assert greedy.taken == [[1]] * 200


@pytest.mark.parametrize(
    "model", [Linear(second=math.nan), Linear(worth=math.nan), Linear(second=math.inf)], ids=["nan", "critic", "inf"]
)
def test_a_model_that_is_no_number_has_no_return(model: Linear) -> None:
    assert math.isnan(episodes(Counting(5)).mean_return(model))


def test_it_leaves_the_global_random_numbers_as_they_were() -> None:
    before = torch.get_rng_state()
    episodes(Counting(5, 6)).mean_return(Linear())
    assert torch.equal(torch.get_rng_state(), before)
