from __future__ import annotations

import re
import sys
from typing import Any

import pytest

from bcrit.search_spaces.dimensions import Value
from bcrit.search_spaces.problems import InputError
from bcrit.search_spaces.target import Target
from bcrit.tuner.check import check_experiment
from bcrit.tuner.training.settings import Settings
from bcrit.tuner.training.trial import Limits, Trial
from bcrit.tuner.workloads.policy_gradient import PolicyGradient
from bcrit.tuner.workloads.registry import load_workload

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
