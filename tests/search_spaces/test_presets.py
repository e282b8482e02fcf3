import math

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from optuna.distributions import CategoricalDistribution

from bcrit.analysis.exchange.optuna_storage import searched
from bcrit.analysis.exchange.run import Notes, tried_space
from bcrit.analysis.optimum.coordinates import study_axes
from bcrit.search_spaces.dimensions import Box
from bcrit.search_spaces.presets import (
    AVERAGING,
    DOMAINS,
    EXTRAPOLATED,
    OPTIMIZERS,
    SCHEDULES,
    STEPS_OF,
    WARMUP,
    derived,
    domains_of,
    tried_scale,
)
from bcrit.search_spaces.space import SearchSpace
from tests.analysis.optimum.surface import BARE


@pytest.mark.parametrize("schedule", SCHEDULES)
def test_every_default_box_is_a_dimension_inside_its_domain(schedule: str) -> None:
    space = SearchSpace.model_validate(SCHEDULES[schedule])
    for name, dimension in space.root.items():
        ends = (dimension.low, dimension.high) if hasattr(dimension, "low") else (dimension.value,)  # type: ignore[union-attr]
        assert all(DOMAINS[name].contains(float(end)) for end in ends), name


def test_extrapolating_optimizers_have_all_of_their_base_and_their_own() -> None:
    for name, base in EXTRAPOLATED.items():
        assert set(OPTIMIZERS[name].names) - set(OPTIMIZERS[base].names) == {
            "extrapolation_lr",
            "extrapolation",
            "local_batch_size",
        }
        assert set(OPTIMIZERS[name].needed) == {*OPTIMIZERS[base].needed, "extrapolation_lr"}


def test_names_with_a_meaning_of_ours_have_a_domain() -> None:
    assert {*WARMUP, *AVERAGING, *STEPS_OF} <= set(DOMAINS)


@pytest.mark.parametrize(
    ("point", "found"),
    [
        ({"lr": 0.1}, set()),
        ({"decay_fraction": 0.5, "decay_steps": 7}, {"decay_steps"}),
        ({"decay_fraction": None, "decay_steps": None}, set()),
        ({"decay_fraction": float("nan"), "decay_steps": float("nan")}, set()),
        ({"warmup_steps": 5}, set()),
        ({"warmup_fraction": 0.0, "warmup_steps": 0, "decay_fraction": 0.5}, {"warmup_steps", "decay_steps"}),
    ],
    ids=lambda value: str(value if isinstance(value, dict) else sorted(value)),
)
def test_what_was_computed_from_a_share_is_no_hyperparameter_of_its_own(
    point: dict[str, float | None], found: set[str]
) -> None:
    assert derived(point) == found


def test_a_hyperparameter_of_one_optimizer_alone_has_a_domain_only_there() -> None:
    assert not domains_of("rmsprop")["alpha"].contains(1.0) and domains_of("asgd")["alpha"].contains(1.0)
    assert "alpha" not in domains_of("own") and domains_of("momentum") == DOMAINS
    assert all(set(domains_of(name)) - set(DOMAINS) <= set(OPTIMIZERS[name].names) for name in OPTIMIZERS)


CASES = [
    ("lr", 0.1, 0.4, "log"),
    ("momentum", 0.0, 0.9, "reverse_log"),
    ("beta2", 0.9, 0.999, "reverse_log"),
    ("beta2", 0.9, 1.0, "linear"),
    ("weight_decay", 1e-6, 1e-2, "log"),
    ("weight_decay", 0.0, 1e-2, "linear"),
    ("end_factor", 0.01, 1.0, "linear"),
    ("width", 16.0, 256.5, "log"),
    ("width", 16.0, 96.5, "linear"),
    ("lr", -1.0, 1.0, "linear"),
]


@pytest.mark.parametrize(("name", "low", "high", "scale"), CASES)
def test_every_reader_guesses_the_same_scale(name: str, low: float, high: float, scale: str) -> None:
    assert tried_scale(name, low, high) == scale
    assert tried_space({name: [low, high]}).root[name].model_dump()["scale"] == scale
    assert searched([{name: CategoricalDistribution([low, high])}], Notes())[name].model_dump()["scale"] == scale
    edges = pd.DataFrame(columns=["batch_size", "round", "dimension", "side", "widened_to"])
    (coordinate,) = study_axes(BARE, edges, 4, pd.DataFrame({name: [low, high]})).numeric
    assert coordinate.scale == scale


def test_optuna_s_spelling_of_a_name_counts_as_ours() -> None:
    found = searched([{"learning_rate": CategoricalDistribution([0.1, 0.4])}], Notes())
    assert found["learning_rate"].model_dump()["scale"] == "log"


@given(
    name=st.sampled_from(["lr", "momentum", "weight_decay", "x"]),
    low=st.floats(-2, 2),
    gap=st.floats(0, 3) | st.just(0.0),
)
def test_a_scale_tells_the_ends_apart(name: str, low: float, gap: float) -> None:
    high = max(low + gap, math.nextafter(low, math.inf))
    box = tried_space({name: [low, high]}).root[name]
    assert isinstance(box, Box) and box.to_unit(low) == 0 and box.to_unit(high) == 1
