"""The guessed scale is the one that people choose, and the same for every reader."""

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
from bcrit.search_spaces.experiment import Experiment
from bcrit.search_spaces.presets import tried_scale

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
BARE = Experiment.model_validate(
    {
        "imported": {"format": "csv", "source": "x.csv"},
        "workload": "toy",
        "batch_sizes": [4],
        "target": "loss < 1",
        "space": {},
        "budget": {"steps": 10},
    }
)


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
