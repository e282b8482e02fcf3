from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from search_spaces.dimensions import Value
from search_spaces.presets import SCHEDULES
from tuner.training.schedule import DECAYED, learning_rate


def test_every_schedule_of_the_presets_has_a_formula_and_no_other() -> None:
    assert {"constant", *DECAYED} == set(SCHEDULES)


@pytest.mark.parametrize(
    ("schedule", "step", "expected"),
    [
        pytest.param("linear", 0, 0.5, id="linear starts at lr"),
        pytest.param("linear", 25, 0.5 - 0.8 * 0.5 * 0.25, id="linear, a quarter of the way"),
        pytest.param("linear", 100, 0.1, id="linear ends at end_factor lr"),
        pytest.param("linear", 1000, 0.1, id="linear stays there"),
        pytest.param("cosine", 0, 0.5, id="cosine starts at lr"),
        pytest.param("cosine", 50, 0.3, id="cosine is half-way at half the time"),
        pytest.param("cosine", 25, 0.5 * (0.2 + 0.8 * (1 + math.cos(math.pi / 4)) / 2), id="cosine, a quarter"),
        pytest.param("cosine", 100, 0.1, id="cosine ends at end_factor lr"),
        pytest.param("cosine", 1000, 0.1, id="cosine stays there"),
        pytest.param("constant", 1000, 0.5, id="constant"),
    ],
)
def test_the_rate_is_the_published_formula(schedule: str, step: int, expected: float) -> None:
    hyperparameters: dict[str, Value] = {"lr": 0.5, "schedule": schedule, "end_factor": 0.2, "decay_steps": 100}
    assert learning_rate(hyperparameters, step) == pytest.approx(expected, rel=1e-14)


def test_without_a_schedule_the_rate_is_constant() -> None:
    assert [learning_rate({"lr": 0.3}, step) for step in (0, 1, 10**9)] == [0.3] * 3


@given(
    schedule=st.sampled_from(sorted(DECAYED)),
    lr=st.floats(1e-6, 1e3),
    end_factor=st.floats(0, 1),
    decay_steps=st.integers(1, 10_000),
    step=st.integers(0, 20_000),
)
def test_the_rate_never_rises_nor_leaves_its_ends(
    schedule: str, lr: float, end_factor: float, decay_steps: int, step: int
) -> None:
    hyperparameters: dict[str, Value] = {"lr": lr, "schedule": schedule, "end_factor": end_factor}
    hyperparameters["decay_steps"] = decay_steps
    now, later = learning_rate(hyperparameters, step), learning_rate(hyperparameters, step + 1)
    slack = 1e-15 * lr
    assert end_factor * lr - slack <= later <= now + slack
    assert now <= lr
    assert learning_rate(hyperparameters, decay_steps) == pytest.approx(end_factor * lr, abs=slack)


def test_an_unknown_schedule_is_refused_with_the_known_ones() -> None:
    with pytest.raises(ValueError, match=r"no schedule 'step'; choose one of constant, linear, cosine"):
        learning_rate({"lr": 0.1, "schedule": "step"}, 0)
