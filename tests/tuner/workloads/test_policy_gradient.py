import sys
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import torch

from bcrit.search_spaces.dimensions import Value
from bcrit.search_spaces.problems import InputError
from bcrit.tuner.check import check_experiment
from bcrit.tuner.training.policy_gradient import Rollout, Rollouts
from bcrit.tuner.training.settings import Settings
from bcrit.tuner.workloads.policy_gradient import FAMILIES, ActorCritic, PolicyGradient, make_environments, shapes
from bcrit.tuner.workloads.protocol import read_model
from bcrit.tuner.workloads.registry import load_workload
from tests.tuner.training.made_up_environments import Linear

pytest.importorskip("gymnasium", reason="the extra 'rl' is not installed")
import gymnasium  # noqa: E402

EXPERIMENT: dict[str, Any] = {
    "workload": {"name": "policy_gradient", "rollout_length": 8},
    "optimizer": "adam",
    "batch_sizes": [16, 64],
    "target": "val_return > 150",
    "space": {"lr": "log from 0.001 to 0.1"},
    "budget": {"steps": 10},
}


def small(**options: Any) -> PolicyGradient:
    return PolicyGradient(**{"rollout_length": 4, "evaluation_episodes": 4, "evaluation_steps": 60, **options})


def build(given: Any, shape: tuple[int, ...], n_actions: int) -> ActorCritic:
    return read_model(given, FAMILIES, {}).build(shape, n_actions)


def settings(batch_size: int = 16, seed: int = 0, **others: Value) -> Settings:
    return Settings(batch_size, seed, "adam", {"lr": 0.01, **others})


def test_a_larger_batch_has_more_environments_and_no_longer_rollouts() -> None:
    for batch_size in (4, 40):
        run = small().begin(settings(batch_size))
        rollout = run._rollouts.collect(run._model)
        assert rollout.rewards.shape == (4, batch_size // 4)


@pytest.mark.parametrize("name", PolicyGradient.hyperparameters)
def test_what_may_be_searched_is_the_option_where_it_is_not(name: str) -> None:
    fixed, searched = small(**{name: 0.25}), small()
    with_it = Settings(16, 0, "adam", {"lr": 0.01, name: 0.25})
    assert fixed.begin(settings())._coefficients == searched.begin(with_it)._coefficients
    assert fixed.begin(settings())._coefficients != searched.begin(settings())._coefficients


def test_a_discount_is_never_widened_beyond_1() -> None:
    space = {**EXPERIMENT["space"], "gamma": "linear from 0.9 to 0.999", "gae_lambda": 0.95}
    found = check_experiment({**EXPERIMENT, "space": space}, "x")
    widened = found.space.widen("gamma", "high", 0.5).widen("gamma", "high", 0.5)
    assert widened.box("gamma").high == 1.0
    assert check_experiment(found.to_dict(), "frozen") == found
    with pytest.raises(InputError, match=r"'gae_lambda' lies in \[0, 1\], but value=1.5; choose a value inside"):
        check_experiment({**EXPERIMENT, "space": {**space, "gae_lambda": 1.5}}, "x")


@pytest.mark.parametrize(
    ("option", "message"),
    [
        ({"environment": "CartPole-v9"}, "environment 'CartPole-v9' cannot be made"),
        ({"model": "cnn"}, "model 'cnn' takes screens"),
    ],
    ids=str,
)
def test_what_does_not_fit_is_said_before_anything_runs(option: dict[str, Any], message: str) -> None:
    workload = {**EXPERIMENT["workload"], **option}
    with pytest.raises(InputError, match=message):
        check_experiment({**EXPERIMENT, "workload": workload}, "cartpole.yaml")


def test_a_missing_library_is_one_sentence_before_anything_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "gymnasium", None)
    load_workload("policy_gradient", {})  # what lists the workloads needs no library
    with pytest.raises(InputError, match=r"pip install 'bcrit\[rl\]'"):
        check_experiment(EXPERIMENT, "cartpole.yaml")


def test_an_atari_game_is_trained_on_screens() -> None:
    pytest.importorskip("ale_py", reason="the extra 'atari' is not installed")
    pong = PolicyGradient(
        environment="ALE/Pong-v5",
        model={"name": "cnn", "filters": [4, 8, 8], "hidden": 16},
        clip_rewards=True,
        evaluation_episodes=2,
        evaluation_steps=30,
    )
    returns = []
    for _ in range(2):
        run = pong.begin(settings(batch_size=20))
        run.train(2)
        returns.append(run.evaluate()["val_return"])
    assert -21 <= returns[0] == returns[1] <= 21


HIDDEN = 4 * 64 + 64 + 64 * 64 + 64
# Mnih et al. 2015: 84 x 84 x 4 becomes 20 x 20 x 32, 9 x 9 x 64 and 7 x 7 x 64, then 512 units.
CONVOLUTIONS = 8 * 8 * 4 * 32 + 32 + 4 * 4 * 32 * 64 + 64 + 3 * 3 * 64 * 64 + 64 + 7 * 7 * 64 * 512 + 512


@pytest.mark.parametrize(
    ("given", "shape", "n_actions", "count"),
    [
        ("mlp", (4,), 2, HIDDEN + 64 * 2 + 2 + 64 + 1),
        ({"name": "mlp", "shared": False}, (4,), 2, 2 * HIDDEN + 64 * 2 + 2 + 64 + 1),
        ("cnn", (4, 84, 84), 6, CONVOLUTIONS + 512 * 6 + 6 + 512 + 1),
    ],
    ids=str,
)
def test_parameter_counts_by_hand(given: Any, shape: tuple[int, ...], n_actions: int, count: int) -> None:
    model = build(given, shape, n_actions)
    assert sum(parameter.numel() for parameter in model.parameters()) == count


@pytest.mark.parametrize("shared", [True, False])
@pytest.mark.parametrize(
    ("given", "observations"),
    [
        ({"name": "mlp", "widths": [8]}, torch.randn(5, 2, 3)),
        ({"name": "cnn", "filters": [2, 3, 4], "hidden": 8}, torch.zeros(5, 4, 40, 36, dtype=torch.uint8)),
    ],
    ids=["mlp", "cnn"],
)
def test_it_gives_logits_and_values(given: dict[str, object], observations: torch.Tensor, shared: bool) -> None:
    model = build({**given, "shared": shared}, observations.shape[1:], 3)
    logits, values = model(observations)
    assert logits.shape == (5, 3)
    assert values.shape == (5,)
    values.sum().backward()
    touched = [parameter.grad is not None for parameter in model.policy.parameters()]
    assert all(touched) if shared else not any(touched)


def test_it_begins_with_nearly_equal_actions() -> None:
    logits, _ = build("mlp", (4,), 2)(torch.randn(100, 4))
    torch.testing.assert_close(logits.softmax(dim=1), torch.full((100, 2), 0.5), atol=0.02, rtol=0)


def test_screens_are_divided_by_255() -> None:
    model = build({"name": "cnn", "filters": [2, 2, 2], "hidden": 4}, (1, 36, 36), 2)
    screens = torch.randint(0, 256, (3, 1, 36, 36), dtype=torch.uint8)
    inner = model.policy[1:](screens / 255.0)  # type: ignore[index]
    assert torch.equal(model.policy(screens), inner)


@pytest.mark.parametrize("shape", [(4,), (84, 84, 3), (4, 84, 20)])
def test_what_is_no_stack_of_screens_is_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match=r"model 'cnn' takes screens .* of at least 36 x 36 pixels, but .*; use model"):
        build("cnn", shape, 2)


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


def test_a_time_limit_truncates_and_shows_the_last_state_and_an_end_terminates() -> None:
    found = collected("Walk-v0", {}, n=2, steps=5)
    assert found.observations[:, 0].flatten().tolist() == [0, 1, 2, 3, 0, 1]
    assert found.ended[:, 0].tolist() == [False, False, True, False, False]
    assert not found.terminated.any()
    assert found.frames[:, 0].tolist() == [True, True, True, False, True]
    assert found.rewards[:, 0].tolist() == [1, 1, 1, 0, 1]
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
