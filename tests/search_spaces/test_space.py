"""Spaces with conditional dimensions, and their rules as an experiment file meets them."""

import re
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bcrit.search_spaces.experiment import Experiment
from bcrit.search_spaces.problems import InputError
from bcrit.search_spaces.space import SearchSpace
from tests.search_spaces import declared
from tests.search_spaces.declared import thawed

SPACE = SearchSpace.model_validate(
    {
        "lr": "log from 0.001 to 1",
        "momentum": 0.9,
        "schedule": {"constant": None, "linear": {"end_factor": "linear from 0 to 1", "decay_fraction": 0.5}},
    }
)


def test_the_axes_are_the_searched_dimensions_with_their_addresses() -> None:
    assert list(SPACE.axes) == ["lr", "schedule", "schedule.linear.end_factor"]


@given(seed=st.integers(0, 2**32 - 1))
def test_every_sample_is_contained_and_survives_the_scaled_coordinates(seed: int) -> None:
    point = SPACE.sample(np.random.default_rng(seed))
    assert SPACE.contains(point)
    assert SPACE.clip(point) == point
    again = SPACE.from_unit(SPACE.to_unit(point))
    assert again == pytest.approx(point)


def test_conditional_hyperparameters_exist_only_under_their_option() -> None:
    units = {"lr": 0.5, "schedule.linear.end_factor": 0.25}
    assert set(SPACE.from_unit({**units, "schedule": 0.1})) == {"lr", "momentum", "schedule"}
    linear = SPACE.from_unit({**units, "schedule": 0.9})
    assert (linear["end_factor"], linear["decay_fraction"], linear["momentum"]) == (0.25, 0.5, 0.9)


@pytest.mark.parametrize(
    "point",
    [
        {"lr": 0.1, "momentum": 0.9},
        {"lr": 2.0, "momentum": 0.9, "schedule": "constant"},
        {"lr": 0.1, "momentum": 0.8, "schedule": "constant"},
        {"lr": 0.1, "momentum": 0.9, "schedule": "constant", "end_factor": 0.5},
        {"lr": 0.1, "momentum": 0.9, "schedule": "cosine"},
    ],
    ids=["missing", "outside", "not the fixed value", "of another option", "unknown option"],
)
def test_points_that_are_not_of_the_space_are_not_contained(point: dict[str, object]) -> None:
    assert not SPACE.contains(point)


def test_widening_changes_one_box_and_leaves_the_original_alone() -> None:
    wider = SPACE.widen("lr", "high", 1.0)
    assert wider.box("lr").high == pytest.approx(1000) and SPACE.box("lr").high == 1
    inner = SPACE.widen("schedule.linear.end_factor", "high", 0.5)
    assert inner.box("schedule.linear.end_factor").high == 1.5


def test_a_choice_has_no_box() -> None:
    with pytest.raises(KeyError, match="only numeric dimensions have a box"):
        SPACE.box("schedule")


def parsed(space: dict[str, Any], optimizer: str = "sgd") -> Experiment:
    return declared.parsed(optimizer=optimizer, space={"lr": "log from 0.01 to 1", **space})


@pytest.mark.parametrize("schedule", ["linear", "step", "wsd"])
def test_a_named_schedule_gets_its_default_boxes_and_survives_being_frozen(schedule: str) -> None:
    experiment = parsed({"schedule": schedule})
    assert f"schedule.{schedule}.decay_fraction" in experiment.space.axes
    assert thawed(experiment) == experiment


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
    frozen = thawed(experiment)
    assert frozen.space.from_unit(dict.fromkeys(frozen.space.axes, 0.5))["amsgrad"] is True


@pytest.mark.parametrize(
    ("space", "optimizer", "message"),
    [
        ({"schedule": {"wsd": {"drops": 2}}}, "sgd", "schedule 'wsd' has warmup_fraction, .* the space names drops"),
        ({"warmup_fraction": 0.1, "schedule": {"linear": {"warmup_steps": 3}}}, "sgd", "exclude each other"),
        ({"warmup_fraction": 1.5}, "sgd", r"'warmup_fraction' lies in \[0, 1\]"),
        ({"schedule": {"wsd": {"stable_share": 1.0}}}, "sgd", r"'stable_share' lies in \[0, 1\)"),
        ({"decay_steps": 3}, "sgd", "'decay_steps' is a column of the run folder's tables"),
        ({"ema_decay": 1.0}, "sgd", r"'ema_decay' lies in \[0, 1\)"),
        ({"ema_decay": 0.9, "ema_examples": 100}, "sgd", "exclude each other"),
        (
            {"schedule": {"constant": {}}, "a": {"b": {"ema_decay": 0.9}}},
            "sgd",
            "'a.b.ema_decay' must stand in the space itself",
        ),
        ({"extrapolation_lr": 0.1}, "sgd", "optimizer 'sgd' has no extrapolation_lr"),
        ({"extrapolation_lr": -0.1}, "extrap_sgd", r"'extrapolation_lr' lies in \[0, inf\)"),
        (
            {"extrapolation_lr": 0.1, "extrapolation": "future"},
            "extrap_sgd",
            "'extrapolation' is one of past, fresh, gaussian, velocity, but it is future",
        ),
        ({"extrapolation_lr": 0.1, "extrapolation": "linear from 0 to 1"}, "extrap_sgd", "but it is a number"),
        (
            {"extrapolation_lr": 0.1, "extrapolation": "choice of past, velocity"},
            "extrap_sgd",
            "use optimizer extrap_momentum",
        ),
        ({"extrapolation_lr": 0.1, "local_batch_size": 24}, "extrap_sgd", "24 does not divide 64; change either"),
        (
            {"extrapolation_lr": 0.1, "local_batch_size": "integer from 1 to 8"},
            "extrap_sgd",
            "must be one whole number",
        ),
    ],
    ids=str,
)
def test_what_cannot_be_is_refused(space: dict[str, Any], optimizer: str, message: str) -> None:
    with pytest.raises(InputError) as caught:
        parsed(space, optimizer)
    assert re.search(message, str(caught.value)), caught.value


@pytest.mark.parametrize(
    ("optimizer", "name", "box", "low", "high"),
    [
        ("rmsprop", "alpha", "linear from 0.5 to 0.99", 0.0, 1.0),
        ("rmsprop", "alpha", "reverse_log from 0 to 0.999", 0.0, 1.0),
        ("adagrad", "initial_accumulator_value", "linear from 0.01 to 1", 0.0, 100.0),
        ("adadelta", "rho", "linear from 0.8 to 0.999", 0.0, 1.0),
        ("muon", "ns_steps", "integer from 2 to 6", 1.0, 100.0),
        ("rprop", "eta2", "linear from 1.1 to 2", 1.0, 100.0),
        ("adafactor", "beta2_decay", "linear from -0.9 to -0.1", -100.0, 0.0),
    ],
)
def test_widening_never_proposes_an_impossible_value(
    optimizer: str, name: str, box: str, low: float, high: float
) -> None:
    made = parsed({name: box}, optimizer)
    space = made.space
    for _ in range(6):
        space = space.widen(name, "low", 0.5).widen(name, "high", 0.5)
    assert low <= space.box(name).low < space.box(name).high <= high
    if name != "ns_steps" and (high == 1.0):
        assert space.box(name).high < 1.0
    assert thawed(made) == made


def test_a_value_outside_is_refused_under_its_own_optimizer_only() -> None:
    with pytest.raises(InputError, match=r"'alpha' lies in \[0, 1\), but high=1.2; choose a value inside"):
        parsed({"alpha": "linear from 0.5 to 1.2"}, "rmsprop")
    assert parsed({"alpha": "linear from 0.5 to 1.2"}, "own").space.box("alpha").hard_high is None
