from __future__ import annotations

import sys
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import torch

from bcrit.tuner.training.policy_gradient import Rollout, Rollouts
from bcrit.tuner.workloads.environments import make_environments, shapes
from tests.tuner.training.made_up_environments import Linear

pytest.importorskip("gymnasium", reason="the extra 'rl' is not installed")
import gymnasium  # noqa: E402


class Walk(gymnasium.Env[Any, Any]):
    """Counts its steps; at `end` it terminates, if no time limit is sooner."""

    observation_space: gymnasium.Space[Any] = gymnasium.spaces.Box(-100.0, 100.0, (1,), dtype=np.float64)
    action_space: gymnasium.Space[Any] = gymnasium.spaces.Discrete(2)

    def __init__(self, end: int = 100) -> None:
        self.end = end

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        super().reset(seed=seed)
        self.now = 0
        return np.array([0.0]), {}

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        self.now += 1
        return np.array([float(self.now)]), 1.0, self.now == self.end, False, {}


class Continuous(Walk):
    action_space = gymnasium.spaces.Box(-1.0, 1.0, (1,))


class Words(Walk):
    observation_space = gymnasium.spaces.Text(5)


class SameStep(gymnasium.vector.SyncVectorEnv):
    def __init__(self, num_envs: int) -> None:
        super().__init__([Walk] * num_envs, autoreset_mode="SameStep")


@pytest.fixture(autouse=True)
def _registered() -> Iterator[None]:
    kinds: dict[str, Any] = {"Walk": Walk, "Continuous": Continuous, "Words": Words}
    for name, kind in kinds.items():
        gymnasium.register(f"{name}-v0", kind, max_episode_steps=3)
    same_step: Any = SameStep
    gymnasium.register("SameStep-v0", kinds["Walk"], vector_entry_point=same_step)
    yield
    for name in (*kinds, "SameStep"):
        del gymnasium.registry[f"{name}-v0"]


def collected(name: str, options: dict[str, Any], n: int, steps: int) -> Rollout:
    environments = make_environments(name, options, n)
    model = Linear()
    return Rollouts(environments, steps, 0, False, torch.device("cpu")).collect(model)


def test_a_time_limit_truncates_and_shows_the_last_state() -> None:
    found = collected("Walk-v0", {}, n=2, steps=5)
    assert found.observations[:, 0].flatten().tolist() == [0, 1, 2, 3, 0, 1]
    assert found.ended[:, 0].tolist() == [False, False, True, False, False]
    assert not found.terminated.any()
    assert found.frames[:, 0].tolist() == [True, True, True, False, True]
    assert found.rewards[:, 0].tolist() == [1, 1, 1, 0, 1]


def test_an_end_terminates() -> None:
    found = collected("Walk-v0", {"end": 2}, n=1, steps=4)
    assert found.observations.flatten().tolist() == [0, 1, 2, 0, 1]
    assert found.terminated.flatten().tolist() == found.ended.flatten().tolist() == [False, True, False, False]


def test_the_vectorised_cart_pole_marks_its_resets_as_we_read_them() -> None:
    class ByVelocity(torch.nn.Module):  # pushes on in one direction, so that episodes are short
        def forward(self, observations: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
            return torch.tensor([[0.0, 50.0]]).expand(len(observations), 2), observations[:, 0]

    environments = make_environments("CartPole-v1", {"max_episode_steps": 9}, 16)
    rollouts = Rollouts(environments, 40, 0, False, torch.device("cpu"))
    found = rollouts.collect(ByVelocity())
    resets, truncated = ~found.frames, found.ended & ~found.terminated
    assert truncated.any() and found.terminated.any()
    assert torch.equal(resets[1:], found.ended[:-1])
    after = found.observations[1:][resets]  # a cart pole begins within 0.05 of rest in all four numbers
    assert (after.abs() <= 0.05).all()
    assert (found.rewards[resets] == 0).all() and (found.rewards[~resets] == 1).all()
    out = (found.observations[1:, :, 2].abs() > 12 * 2 * np.pi / 360) | (found.observations[1:, :, 0].abs() > 2.4)
    assert torch.equal(out & ~resets, found.terminated)


def test_copies_begin_at_different_places_and_again_at_the_same() -> None:
    first, again = (make_environments("CartPole-v1", {}, 3).reset(seed=5)[0] for _ in range(2))
    assert np.array_equal(first, again)
    assert len(np.unique(first[:, 0])) == 3


def test_the_shapes_are_those_of_the_environment() -> None:
    assert shapes("CartPole-v1", {}) == ((4,), 2)
    assert shapes("Walk-v0", {"end": 5}) == ((1,), 2)


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("CartPol-v1", {}, "environment 'CartPol-v1' cannot be made .*CartPole.*; correct its id"),
        ("nowhere:Own-v0", {}, "cannot be made .*ModuleNotFoundError.*nowhere"),
        ("CartPole-v1", {"gravity": 1}, "cannot be made with the options {'gravity': 1}: TypeError: .*gravity"),
        ("Continuous-v0", {}, r"actions must be numbered from 0 \(Discrete\), but 'Continuous-v0' takes Box"),
        ("Words-v0", {}, r"observations must be arrays of numbers \(Box\), but 'Words-v0' gives Text"),
        ("SameStep-v0", {}, "must reset themselves at the step after .* but 'SameStep-v0' does not"),
    ],
)
def test_what_cannot_be_used_is_refused(name: str, options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        shapes(name, options)


@pytest.mark.parametrize(("module", "extra"), [("gymnasium", "rl"), ("ale_py", "atari")])
def test_a_missing_library_names_the_extra(monkeypatch: pytest.MonkeyPatch, module: str, extra: str) -> None:
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(ValueError, match=rf"needs the library '{module}', .*pip install 'bcrit\[{extra}\]'"):
        make_environments("ALE/Pong-v5", {}, 1)


def test_an_environment_of_a_users_module_is_found(tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "own_environment.py").write_text(
        "import gymnasium\n"
        "gymnasium.register('Own-v0', 'gymnasium.envs.classic_control.cartpole:CartPoleEnv', max_episode_steps=7)\n"
    )
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.setattr(sys, "modules", dict(sys.modules))
    assert shapes("own_environment:Own-v0", {}) == ((4,), 2)
    del gymnasium.registry["Own-v0"]


def test_an_atari_game_comes_as_four_grey_screens_and_again_the_same() -> None:
    pytest.importorskip("ale_py", reason="the extra 'atari' is not installed")
    assert shapes("ALE/Pong-v5", {}) == ((4, 84, 84), 6)
    seen = []
    for threads in (1, 2, 1):
        environments = make_environments("ALE/Breakout-v5", {"num_threads": threads}, 3)
        observations, _ = environments.reset(seed=11)
        played = [observations.copy()]
        actions = np.random.default_rng(0)
        for _ in range(60):
            observations, rewards, *_ = environments.step(actions.integers(4, size=3))
            played.append(observations.copy())
        environments.close()
        seen.append(np.stack(played))
    assert seen[0].dtype == np.uint8 and seen[0].max() > 0
    assert np.array_equal(seen[0], seen[1]) and np.array_equal(seen[0], seen[2])
    assert not np.array_equal(seen[0][:, 0], seen[0][:, 1])
