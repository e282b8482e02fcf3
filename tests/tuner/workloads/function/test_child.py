from __future__ import annotations

import pytest

from bcrit.search_spaces.dimensions import Value
from bcrit.tuner.training.evaluation import evaluation_steps
from bcrit.tuner.training.schedule import learning_rate
from bcrit.tuner.training.settings import Settings
from bcrit.tuner.workloads.function.child import Config, settings_of

POINT: dict[str, Value] = {"lr": 0.1, "schedule": "linear", "end_factor": 0.5, "decay_fraction": 0.4, "decay_steps": 40}
FACTS = settings_of(Settings(64, 3, "own", POINT), 100, 80, {"width": 8, "optimizer": "mine"})
CONFIG = Config(FACTS, resolution=0.1)


def test_every_setting_is_found_by_name_in_three_ways() -> None:
    trial = {"batch_size": 64, "seed": 3, "budget_steps": 80, "max_steps": 100}
    expected = {**POINT, "width": 8, "optimizer": "mine", **trial}
    assert dict(CONFIG) == expected and len(CONFIG) == len(expected)
    assert all(getattr(CONFIG, name) == CONFIG[name] == value for name, value in expected.items())
    assert CONFIG.get("momentum", 0.9) == 0.9 and "momentum" not in CONFIG


def test_a_hyperparameter_hides_an_option_and_the_trial_hides_both() -> None:
    facts = settings_of(Settings(64, 3, "own", {"optimizer": "adam"}), 100, 80, {"seed": 5, "optimizer": "mine"})
    assert (facts["optimizer"], facts["seed"]) == ("adam", 3)


def test_the_learning_rate_is_that_of_our_own_schedule() -> None:
    assert [CONFIG.lr_at(step) for step in (0, 20, 40, 90)] == [learning_rate(POINT, s) for s in (0, 20, 40, 90)]
    assert CONFIG.lr_at(90) == pytest.approx(0.05)


def test_evaluations_are_on_the_grid_of_all_trials_and_end_at_the_horizon() -> None:
    steps = [0]
    while steps[-1] < 100:
        steps.append(CONFIG.next_evaluation(steps[-1]))
    assert steps == list(evaluation_steps(100, 0.1))


def test_a_setting_that_is_not_there_names_those_that_are() -> None:
    with pytest.raises(AttributeError, match="no setting 'momentum'; the settings are .*lr"):
        _ = CONFIG.momentum
    with pytest.raises(KeyError, match="momentum; the settings are"):
        CONFIG["momentum"]
    with pytest.raises(ValueError, match="no learning rate without 'lr'"):
        Config({"max_steps": 3}).lr_at(0)


def test_settings_cannot_be_changed() -> None:
    with pytest.raises(AttributeError, match="cannot be changed, but 'lr' was set to 3"):
        CONFIG.lr = 3
