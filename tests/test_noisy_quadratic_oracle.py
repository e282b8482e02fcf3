"""The noisy quadratic as the oracle of the whole search: the true S(B) is known, and judges what is found."""

from functools import cache
from typing import Any

import numpy as np
import pytest

from bcrit.analysis.studies.boundary import study_state
from bcrit.search_spaces.experiment import Experiment
from bcrit.search_spaces.load import parse_experiment
from bcrit.tuner.training.settings import Settings
from bcrit.tuner.training.trial import Limits, Trial
from bcrit.tuner.workloads.noisy_quadratic import NoisyQuadratic
from tests.simulate import searched, simulate

OPTIONS = {"dimensions": 100, "spectrum_exponent": 1.0}
WORKLOAD = NoisyQuadratic(dimensions=100, spectrum_exponent=1.0)
BATCH_SIZES = [8, 128, 2048]
LR = np.geomspace(0.02, 2.0, 80)


def experiment(lr: Any, **changes: Any) -> Experiment:
    data = {
        "workload": {"name": "noisy_quadratic", **OPTIONS},
        "optimizer": "sgd",
        "batch_sizes": BATCH_SIZES,
        "target": "risk < 0.01",
        "space": {"lr": lr},
        "budget": {"steps": 1000, "examples": 60_000},
        "search": {"trials": 60},
        "confirm": {"seeds": 0},
        **changes,
    }
    return parse_experiment(data, "test")


@cache
def truth(batch_size: int) -> tuple[int, float]:
    """Steps to target and lr of the best constant learning rate on a fine grid."""
    spec = experiment("log from 0.001 to 10")
    limits = Limits(spec.budget.max_steps(batch_size), False, (), spec.resolution)
    found = []
    for lr in LR:
        settings = Settings(batch_size, 0, "sgd", {"lr": float(lr)})
        trial = Trial(lambda s=settings: WORKLOAD.begin(s), spec.target, limits)  # type: ignore[misc]
        trial.advance(60)
        assert trial.ending is not None
        found.append(trial.ending.crossing.steps if trial.ending.crossing else 10**9)
    return min(found), float(LR[int(np.argmin(found))])


def best_steps(records: Any, batch_size: int) -> int:
    return min(r.steps_to_target or 10**9 for r in searched(records, batch_size))


def test_the_search_finds_the_true_optimum_and_never_beats_it() -> None:
    spec = experiment("log from 0.001 to 10")
    records = simulate(spec, WORKLOAD)
    excess = [best_steps(records, b) / truth(b)[0] - 1 for b in BATCH_SIZES]
    assert min(excess) >= -spec.resolution
    assert np.median(excess) <= 0.05


LONG = [pytest.param(high, marks=pytest.mark.long) for high in (0.1, 0.5)]


@pytest.mark.parametrize("high", [0.25, 0.9, *LONG], ids=str)
def test_a_box_that_ends_short_is_flagged_where_it_binds_and_only_there(high: float) -> None:
    spec = experiment(f"log from 0.0005 to {high}", boundary={"max_rounds": 0})
    records = simulate(spec, WORKLOAD)
    for batch_size in BATCH_SIZES:
        edges = study_state(spec, batch_size, searched(records, batch_size)).edges
        flagged = [(v.touch.dimension, v.touch.side) for v in edges if v.touch.kind == "box"]
        assert flagged == ([("lr", "high")] if truth(batch_size)[1] > high else []), batch_size


def test_widening_mends_a_box_that_ends_short() -> None:
    spec = experiment("log from 0.0005 to 0.5", boundary={"max_rounds": 2})
    records = simulate(spec, WORKLOAD)
    for batch_size in BATCH_SIZES:
        state = study_state(spec, batch_size, searched(records, batch_size))
        assert (state.round > 0) == (truth(batch_size)[1] > 0.5)
        assert state.space.contains({"lr": truth(batch_size)[1], "schedule": "constant"})
        assert [v for v in state.edges if v.round == state.round and v.touch.kind == "box"] == []
        assert best_steps(records, batch_size) <= 1.05 * truth(batch_size)[0]
