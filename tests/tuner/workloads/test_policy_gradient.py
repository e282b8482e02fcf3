from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import torch

from bcrit.search_spaces.dimensions import Value
from bcrit.search_spaces.problems import InputError
from bcrit.search_spaces.target import Target
from bcrit.tuner.check import check_experiment
from bcrit.tuner.training.policy_gradient import Rollout, Rollouts
from bcrit.tuner.training.settings import Settings
from bcrit.tuner.training.trial import Limits, Trial
from bcrit.tuner.workloads.policy_gradient import PolicyGradient, Sizes, make_environments, read_actor_critic, shapes
from bcrit.tuner.workloads.registry import load_workload
from tests.tuner.training.made_up_environments import Linear

pytest.importorskip("gymnasium", reason="the extra 'rl' is not installed")

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


def settings(batch_size: int = 16, seed: int = 0, **others: Value) -> Settings:
    return Settings(batch_size, seed, "adam", {"lr": 0.01, **others})


def curve(workload: PolicyGradient, made: Settings, parts: tuple[int, ...] = (5, 5, 5)) -> list[float]:
    run, values = workload.begin(made), []
    for part in parts:
        run.train(part)
        values.append(run.evaluate()["val_return"])
    return values


@pytest.mark.parametrize(("batch_size", "lr"), [(64, 0.02), (512, 0.02)])
def test_the_cart_pole_is_learned(batch_size: int, lr: float) -> None:
    workload = PolicyGradient(model={"name": "mlp", "shared": False}, rollout_length=8, evaluation_steps=200)
    trial = Trial(
        begin=lambda: workload.begin(settings(batch_size, lr=lr)),
        target=Target.model_validate("val_return > 150"),
        limits=Limits(max_steps=300, capped=False, rungs=(), resolution=0.2),
    )
    first = trial.advance(60.0)[0].metrics["val_return"]
    assert first < 50  # random pushing keeps a pole up for some 20 steps
    assert trial.ending is not None
    assert str(trial.ending.outcome) == "reached"


def test_the_same_settings_give_the_same_curve_whatever_ran_between() -> None:
    workload = small()
    first = curve(workload, settings())
    curve(workload, settings(batch_size=32, seed=5))
    assert curve(workload, settings()) == first
    assert curve(small(), settings(), parts=(5, 2, 3, 5))[-1] == first[-1]
    assert curve(workload, settings(seed=1)) != first


def test_a_seed_has_its_own_start_at_every_batch_size() -> None:
    workload = small()
    before = [workload.begin(settings(batch_size, seed=2)).evaluate() for batch_size in (4, 64)]
    assert before[0] == before[1]


def test_a_larger_batch_has_more_environments_and_no_longer_rollouts() -> None:
    workload = small()
    for batch_size in (4, 40):
        run = workload.begin(settings(batch_size))
        rollout = run._rollouts.collect(run._model)
        assert rollout.rewards.shape == (4, batch_size // 4)


@pytest.mark.parametrize("name", PolicyGradient.hyperparameters)
def test_what_may_be_searched_is_the_option_where_it_is_not(name: str) -> None:
    fixed, searched = small(**{name: 0.25}), small()
    with_it = Settings(16, 0, "adam", {"lr": 0.01, name: 0.25})
    assert fixed.begin(settings())._coefficients == searched.begin(with_it)._coefficients
    assert fixed.begin(settings())._coefficients != searched.begin(settings())._coefficients


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"rollout_length": 0}, "'rollout_length' must be a whole number from 1, but it is 0"),
        ({"evaluation_episodes": True}, "'evaluation_episodes' must be a whole number from 1, but it is True"),
        ({"clip_rewards": 1}, "'clip_rewards' must be true or false, but it is 1"),
        ({"gamma": 1.5}, r"'gamma' must lie in \[0, 1\], but it is 1.5"),
        ({"model": "resnet_8"}, "there is no model 'resnet_8'; the models are mlp, cnn"),
        ({"model": {"name": "mlp", "hidden": 3}}, "option 'model': .*hidden"),
        ({"gamma": "x"}, "'gamma' must be a number, but it is 'x'"),
        ({"entropy_coefficient": None}, "'entropy_coefficient' must be a number, but it is None"),
        ({"environment": 3}, "'environment' must be an id such as CartPole-v1, but it is 3"),
        ({"environment_options": [1]}, r"'environment_options' must be a mapping, but it is \[1\]"),
    ],
)
def test_impossible_options_are_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        PolicyGradient(**options)


def test_a_discount_is_never_widened_beyond_1() -> None:
    space = {**EXPERIMENT["space"], "gamma": "linear from 0.9 to 0.999", "gae_lambda": 0.95}
    found = check_experiment({**EXPERIMENT, "space": space}, "x")
    widened = found.space.widen("gamma", "high", 0.5).widen("gamma", "high", 0.5)
    assert widened.box("gamma").high == 1.0
    assert check_experiment(found.to_dict(), "frozen") == found
    with pytest.raises(InputError, match=r"'gae_lambda' lies in \[0, 1\], but value=1.5; choose a value inside"):
        check_experiment({**EXPERIMENT, "space": {**space, "gae_lambda": 1.5}}, "x")


def test_an_experiment_with_it_is_valid_and_counts_frames() -> None:
    assert check_experiment(EXPERIMENT, "cartpole.yaml").unit == "frames"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            {"batch_sizes": [16, 20, 64]},
            "'batch_sizes': a batch of frames must be whole rollouts, but 20 frames are no multiple of "
            "rollout_length=8; choose batch sizes that are, or another rollout_length",
        ),
        (
            {"workload": {"name": "policy_gradient", "rollout_length": 8, "environment": "CartPole-v9"}},
            "environment 'CartPole-v9' cannot be made",
        ),
        (
            {"workload": {"name": "policy_gradient", "rollout_length": 8, "model": "cnn"}},
            "model 'cnn' takes screens",
        ),
        ({"target": "val_return < 10"}, "val_return improves by maximizing"),
        ({"budget": {"epochs": 2}}, "workload 'policy_gradient' has no training set to pass over"),
        ({"execution": {"micro_batch": 8}}, "'execution.micro_batch': workload 'policy_gradient' computes its updates"),
        ({"resources": {"gpus": 2}}, "'resources.gpus': workload 'policy_gradient' trains on one GPU or a share"),
        ({"space": {"lr": 0.1, "discount": 0.9}}, "'space.discount': neither optimizer 'adam' nor workload"),
    ],
    ids=["rollouts", "environment", "model", "target", "epochs", "micro-batch", "GPUs", "space"],
)
def test_what_does_not_fit_is_said_before_anything_runs(change: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=re.escape(message)):
        check_experiment({**EXPERIMENT, **change}, "cartpole.yaml")


def test_averaged_weights_can_be_the_target() -> None:
    space = {"lr": "log from 0.001 to 0.1", "ema_decay": 0.5, "gamma": "reverse_log from 0.9 to 0.999"}
    checked = check_experiment({**EXPERIMENT, "target": "val_return_ema > 150", "space": space}, "cartpole.yaml")
    assert checked.target.metric == "val_return_ema"
    run = small().begin(settings(ema_decay=0.5))
    run.train(3)
    assert set(run.evaluate()) == {"val_return", "val_return_ema"}


def test_a_missing_library_is_one_sentence_before_anything_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "gymnasium", None)
    load_workload("policy_gradient", {})  # what lists the workloads needs no library
    with pytest.raises(InputError, match=r"pip install 'bcrit\[rl\]'"):
        check_experiment(EXPERIMENT, "cartpole.yaml")


def test_an_atari_game_is_trained_on_screens() -> None:
    pytest.importorskip("ale_py", reason="the extra 'atari' is not installed")
    workload = PolicyGradient(
        environment="ALE/Pong-v5",
        model={"name": "cnn", "filters": [4, 8, 8], "hidden": 16},
        clip_rewards=True,
        evaluation_episodes=2,
        evaluation_steps=30,
    )
    curves = [curve(workload, settings(batch_size=20), parts=(1, 1)) for _ in range(2)]
    assert curves[0] == curves[1]
    assert all(-21 <= value <= 21 for value in curves[0])


def n_parameters(sizes: Sizes, shape: tuple[int, ...], n_actions: int) -> int:
    return sum(parameter.numel() for parameter in sizes.build(shape, n_actions).parameters())


def test_the_small_network_has_the_parameters_of_two_hidden_layers_and_two_heads() -> None:
    hidden = 4 * 64 + 64 + 64 * 64 + 64
    heads = 64 * 2 + 2 + 64 + 1
    assert n_parameters(read_actor_critic("mlp"), (4,), 2) == hidden + heads
    assert n_parameters(read_actor_critic({"name": "mlp", "shared": False}), (4,), 2) == 2 * hidden + heads


def test_the_convolutions_are_those_of_the_paper() -> None:
    # Mnih et al. 2015: 84 x 84 x 4 becomes 20 x 20 x 32, 9 x 9 x 64 and 7 x 7 x 64, then 512 units.
    convolutions = 8 * 8 * 4 * 32 + 32 + 4 * 4 * 32 * 64 + 64 + 3 * 3 * 64 * 64 + 64
    hidden = 7 * 7 * 64 * 512 + 512
    heads = 512 * 6 + 6 + 512 + 1
    assert n_parameters(read_actor_critic("cnn"), (4, 84, 84), 6) == convolutions + hidden + heads


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
    model = read_actor_critic({**given, "shared": shared}).build(observations.shape[1:], 3)
    logits, values = model(observations)
    assert logits.shape == (5, 3)
    assert values.shape == (5,)
    values.sum().backward()
    touched = [parameter.grad is not None for parameter in model.policy.parameters()]
    assert all(touched) if shared else not any(touched)


def test_it_begins_with_nearly_equal_actions() -> None:
    logits, _ = read_actor_critic("mlp").build((4,), 2)(torch.randn(100, 4))
    torch.testing.assert_close(logits.softmax(dim=1), torch.full((100, 2), 0.5), atol=0.02, rtol=0)


def test_screens_are_divided_by_255() -> None:
    model = read_actor_critic({"name": "cnn", "filters": [2, 2, 2], "hidden": 4}).build((1, 36, 36), 2)
    screens = torch.randint(0, 256, (3, 1, 36, 36), dtype=torch.uint8)
    inner = model.policy[1:](screens / 255.0)  # type: ignore[index]
    assert torch.equal(model.policy(screens), inner)


@pytest.mark.parametrize("shape", [(4,), (84, 84, 3), (4, 84, 20)])
def test_what_is_no_stack_of_screens_is_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match=r"model 'cnn' takes screens .* of at least 36 x 36 pixels, but .*; use model"):
        read_actor_critic("cnn").build(shape, 2)


def test_other_names_are_refused() -> None:
    with pytest.raises(ValueError, match="there is no model 'lstm'; the models are mlp, cnn"):
        read_actor_critic("lstm")


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
