from __future__ import annotations

from typing import Any

import torch

from bcrit.tuner.training.policy_gradient import Rollouts
from tests.tuner.training.policy_gradient.made_up import Counting, Linear

CPU = torch.device("cpu")


def rollouts(environments: Any, steps: int = 4, seed: int = 0, clip: bool = False) -> Rollouts:
    return Rollouts(environments, steps, seed, clip, CPU)


def test_the_step_that_only_resets_is_no_frame() -> None:
    # An episode of 2 steps: 0 -> 1 -> 2, the reset 2 -> 0, then 0 -> 1 of the next episode.
    found = rollouts(Counting(2)).collect(Linear())
    assert found.observations.flatten().tolist() == [0, 1, 2, 0, 1]
    assert found.values.flatten().tolist() == [0, 10, 20, 0, 10]  # that of the episode's last state among them
    assert found.rewards.flatten().tolist() == [1, 1, 0, 1]
    assert found.frames.flatten().tolist() == [True, True, False, True]
    assert found.terminated.flatten().tolist() == found.ended.flatten().tolist() == [False, True, False, False]


def test_a_truncated_episode_has_ended_and_not_terminated() -> None:
    found = rollouts(Counting(3, 3)).collect(Linear())
    assert found.ended[2].tolist() == [True, True]
    assert found.terminated[2].tolist() == [True, False]
    assert found.ended.sum() == 2


def test_episodes_go_on_from_one_rollout_to_the_next() -> None:
    environments = Counting(3, 5, 4)
    cut = rollouts(environments, steps=3)
    first, second = cut.collect(Linear()), cut.collect(Linear())
    whole = rollouts(Counting(3, 5, 4), steps=6).collect(Linear())
    assert torch.equal(torch.cat([first.observations[:-1], second.observations]), whole.observations)
    for part in ("actions", "rewards", "terminated", "ended", "frames"):
        assert torch.equal(torch.cat([getattr(first, part), getattr(second, part)]), getattr(whole, part))
    assert first.ended[2, 0] and not second.frames[0, 0]  # the reset fell into the next rollout
    assert len(environments.seeds) == 1


def test_the_actions_are_those_that_the_environment_took() -> None:
    environments = Counting(9, 9, 9)
    found = rollouts(environments).collect(Linear())
    assert found.actions.tolist() == environments.taken
    certain = rollouts(Counting(9, 9)).collect(Linear(second=50.0))
    assert certain.actions.tolist() == [[1, 1]] * 4


def test_other_seeds_act_and_start_otherwise() -> None:
    several = [Counting(50, 50, 50, 50) for _ in range(3)]
    actions = [
        rollouts(environments, 20, seed).collect(Linear()).actions.tolist()
        for environments, seed in zip(several, (0, 0, 1), strict=True)
    ]
    assert actions[0] == actions[1] != actions[2]
    assert several[0].seeds == several[1].seeds != several[2].seeds


def test_rewards_are_clipped_where_asked() -> None:
    plain, clipped = (rollouts(Counting(9, 9, 9), clip=clip).collect(Linear()).rewards for clip in (False, True))
    assert plain[0].tolist() == [1, 2, 3]
    assert clipped[0].tolist() == [1, 1, 1]


def test_an_environment_may_use_one_array_for_all_its_observations() -> None:
    class InPlace(Counting):
        def _seen(self) -> Any:
            self.array = getattr(self, "array", super()._seen())
            self.array[:] = self.now[:, None]
            return self.array.view()

    plain, in_place = (rollouts(kind(3, 4)) for kind in (Counting, InPlace))
    for _ in range(3):
        assert torch.equal(plain.collect(Linear()).observations, in_place.collect(Linear()).observations)
