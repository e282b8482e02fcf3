"""The rules of schedules and of optimizers that extrapolate, as an experiment file meets them."""

from __future__ import annotations

import re
from typing import Any

import pytest

from bcrit.search_spaces.experiment import Experiment
from bcrit.search_spaces.load import dump_experiment, parse_experiment, read_yaml
from bcrit.search_spaces.problems import InputError

GOOD: dict[str, Any] = {
    "workload": "digits_mlp",
    "optimizer": "sgd",
    "batch_sizes": [16, 64],
    "target": "val_loss < 0.15",
    "space": {"lr": "log from 0.01 to 1"},
    "budget": {"steps": 100},
}


def parsed(space: dict[str, Any], **changes: Any) -> Experiment:
    return parse_experiment({**GOOD, **changes, "space": {**GOOD["space"], **space}}, "test.yaml")


@pytest.mark.parametrize("schedule", ["step", "wsd"])
def test_a_named_schedule_gets_its_default_boxes_and_survives_being_frozen(schedule: str) -> None:
    experiment = parsed({"schedule": schedule})
    assert f"schedule.{schedule}.decay_fraction" in experiment.space.axes
    assert parse_experiment(read_yaml(dump_experiment(experiment), "frozen"), "frozen") == experiment


def test_a_warm_up_stands_beside_any_schedule_or_in_the_space_for_all() -> None:
    inside = parsed({"schedule": {"constant": {"warmup_fraction": 0.1}, "cosine": {"warmup_fraction": 0.2}}})
    assert {"schedule.constant.warmup_fraction", "schedule.cosine.warmup_fraction"} <= set(inside.space.addresses)
    assert "warmup_fraction" in parsed({"warmup_fraction": "linear from 0 to 0.2"}).space.axes


@pytest.mark.parametrize("own", [{"warmup_fraction": 0.1}, {"warmup_steps": "integer from 1 to 30"}], ids=str)
def test_a_warm_up_of_the_user_s_takes_the_place_of_wsd_s(own: dict[str, Any]) -> None:
    experiment = parsed({**own, "schedule": "wsd"})
    assert not any("warmup" in address for address in experiment.space.addresses if address.startswith("schedule"))


def test_a_hyperparameter_that_is_needed_may_stand_under_every_option() -> None:
    kinds = {
        "past": {"extrapolation_lr": "log from 0.01 to 1"},
        "gaussian": {"extrapolation_lr": "log from 1e-4 to 0.1"},
    }
    experiment = parsed({"extrapolation": kinds}, optimizer="extrap_sgd")
    assert "extrapolation.past.extrapolation_lr" in experiment.space.axes
    with pytest.raises(InputError, match="'extrap_sgd' needs extrapolation_lr"):
        parsed({"extrapolation": {**kinds, "fresh": {}}}, optimizer="extrap_sgd")


@pytest.mark.parametrize("name", ["AdamW", "RMSprop", "RAdam"])
def test_the_case_of_an_optimizer_s_name_does_not_matter(name: str) -> None:
    assert parsed({}, optimizer=name).optimizer == name.lower()


def test_a_flag_stays_a_flag() -> None:
    experiment = parsed({"amsgrad": True}, optimizer="adam")
    frozen = parse_experiment(read_yaml(dump_experiment(experiment), "frozen"), "frozen")
    assert frozen.space.from_unit(dict.fromkeys(frozen.space.axes, 0.5))["amsgrad"] is True


@pytest.mark.parametrize(
    ("space", "changes", "message"),
    [
        ({"schedule": {"wsd": {"drops": 2}}}, {}, "schedule 'wsd' has warmup_fraction, .* but the space names drops"),
        ({"warmup_fraction": 0.1, "schedule": {"linear": {"warmup_steps": 3}}}, {}, "exclude each other"),
        ({"warmup_fraction": 1.5}, {}, r"'warmup_fraction' lies in \[0, 1\]"),
        ({"schedule": {"wsd": {"stable_share": 1.0}}}, {}, r"'stable_share' lies in \[0, 1\)"),
        ({"decay_steps": 3}, {}, "'decay_steps' is a column of the run folder's tables"),
        ({"ema_decay": 1.0}, {}, r"'ema_decay' lies in \[0, 1\)"),
        ({"ema_decay": 0.9, "ema_examples": 100}, {}, "exclude each other"),
        (
            {"schedule": {"constant": {}}, "a": {"b": {"ema_decay": 0.9}}},
            {},
            "'a.b.ema_decay' must stand in the space itself",
        ),
        ({"extrapolation_lr": 0.1}, {}, "optimizer 'sgd' has no extrapolation_lr"),
        ({"extrapolation_lr": -0.1}, {"optimizer": "extrap_sgd"}, r"'extrapolation_lr' lies in \[0, inf\)"),
        (
            {"extrapolation_lr": 0.1, "extrapolation": "future"},
            {"optimizer": "extrap_sgd"},
            "'extrapolation' is one of past, fresh, gaussian, velocity, but it is future",
        ),
        (
            {"extrapolation_lr": 0.1, "extrapolation": "linear from 0 to 1"},
            {"optimizer": "extrap_sgd"},
            "but it is a number",
        ),
        (
            {"extrapolation_lr": 0.1, "extrapolation": "choice of past, velocity"},
            {"optimizer": "extrap_sgd"},
            "use optimizer extrap_momentum",
        ),
        (
            {"extrapolation_lr": 0.1, "local_batch_size": 24},
            {"optimizer": "extrap_sgd"},
            "24 does not divide 64; change either",
        ),
        (
            {"extrapolation_lr": 0.1, "local_batch_size": "integer from 1 to 8"},
            {"optimizer": "extrap_sgd"},
            "must be one whole number",
        ),
    ],
    ids=str,
)
def test_what_cannot_be_is_refused(space: dict[str, Any], changes: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError) as caught:
        parsed(space, **changes)
    assert re.search(message, str(caught.value)), caught.value
