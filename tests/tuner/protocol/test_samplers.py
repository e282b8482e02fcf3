"""Where the next trial lies: every sampler stays in every space, and is a function of its question alone."""

from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from bcrit.search_spaces.space import SearchSpace
from bcrit.tuner.protocol.known import Known
from bcrit.tuner.protocol.proposal import TrialRecord
from bcrit.tuner.protocol.samplers import SAMPLERS, Incumbent, Question, local_point
from bcrit.tuner.protocol.tpe import couples
from tests.simulate import scripted
from tests.tuner.protocol.records import TARGET, drawn

Floats = npt.NDArray[np.float64]

DECAY = {"end_factor": "linear from 0 to 1", "decay_fraction": "log from 0.05 to 1"}
SPACES: dict[str, dict[str, Any]] = {
    "lr only": {"lr": "log from 0.001 to 1"},
    "lr and momentum": {"lr": "log from 0.001 to 1", "momentum": "reverse_log from 0 to 0.99"},
    "linear scales": {"lr": "linear from 0.001 to 1", "momentum": "linear from 0 to 0.99"},
    "fixed momentum": {"lr": "log from 0.001 to 1", "momentum": 0.9},
    "fixed lr": {"lr": 0.1, "momentum": "reverse_log from 0 to 0.99"},
    "schedules": {"lr": "log from 0.001 to 1", "schedule": {"constant": {}, "linear": DECAY, "cosine": DECAY}},
    "warm-up and decay": {
        "lr": "log from 0.001 to 1",
        "schedule": {"linear": {**DECAY, "warmup_fraction": "linear from 0 to 0.1"}, "wsd": {**DECAY}},
    },
    "fixed decay": {"lr": "log from 0.001 to 1", "schedule": {"linear": {"end_factor": 0.0, "decay_fraction": 0.5}}},
    "integers and choices": {"width": "integer from 1 to 64", "act": "choice of relu, tanh", "lr": 0.1},
    "nothing": {"lr": 0.1},
}


def knowing(records: list[TrialRecord]) -> Known:
    known = Known(TARGET)
    for one in records:
        known.add(one)
    return known


def question(name: str, number: int, known: int) -> Question:
    space = SearchSpace.model_validate(SPACES[name])
    rng = np.random.default_rng(5)
    records = [
        drawn(i, space.sample(rng), 20 + i if i % 3 == 0 else None, [(0, 9.0), (50, 5.0 - i / 9)] if i % 3 < 2 else [])
        for i in range(known)
    ]
    search = {"trials": 30, "start": 4, "parallel_per_study": 2}
    experiment = scripted(seed=3, optimizer="momentum", batch_sizes=[8], budget={"steps": 100}, search=search)
    return Question(experiment, 8, space, knowing(records), number, first=0)


@pytest.mark.parametrize("name", SPACES)
@pytest.mark.parametrize("sampler", SAMPLERS)
def test_every_proposal_is_a_point_of_the_space(name: str, sampler: str) -> None:
    for number in (0, 3, 8, 9, 15, 28, 29):
        asked = question(name, number, known=number // 2)
        point = SAMPLERS[sampler](asked)
        assert asked.space.contains(point), point


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_the_same_question_has_the_same_answer(sampler: str) -> None:
    for number in (2, 10, 11):
        asked = question("schedules", number, known=10)
        np.random.seed(number)  # noqa: NPY002  (the global generator must not matter)
        assert SAMPLERS[sampler](asked) == SAMPLERS[sampler](replace(asked))


def test_a_widened_box_keeps_earlier_trials_as_evidence() -> None:
    asked = question("lr and momentum", 10, known=10)
    wider = replace(asked, space=asked.space.widen("lr", "high", 0.5))
    assert all(wider.space.contains(r.point) for r in wider.known.records)
    assert SAMPLERS["tpe"](wider) != SAMPLERS["tpe"](asked)


def test_a_local_step_stays_near_and_gets_shorter() -> None:
    space = SearchSpace.model_validate(SPACES["lr and momentum"])
    best = Incumbent({"lr": 0.03, "momentum": 0.9, "schedule": "constant"}, 50, 100)
    rng = np.random.default_rng(0)
    space = SearchSpace.model_validate({**SPACES["lr and momentum"], "schedule": {"constant": {}}})

    def spread(progress: float) -> float:
        moves = [space.to_unit(local_point(space, best, True, progress, rng))["momentum"] for _ in range(200)]
        return float(np.std(moves))

    assert spread(1.0) == pytest.approx(0.03, rel=0.3) and spread(1.0) < spread(0.5) < spread(0.0)


def moved_by_local_steps(optimizer: str) -> tuple[Floats, Floats]:
    """log lr and log(1 - momentum) of 300 short steps from one point."""
    space = SearchSpace.model_validate(SPACES["lr and momentum"])
    best, rng = Incumbent({"lr": 0.03, "momentum": 0.9}, 50, 100), np.random.default_rng(0)
    moved = [local_point(space, best, couples(space, optimizer), 1.0, rng) for _ in range(300)]
    return np.log([float(m["lr"]) for m in moved]), np.log1p([-float(m["momentum"]) for m in moved])


def test_a_local_step_moves_the_effective_learning_rate_and_not_lr_alone() -> None:
    log_lr, log_rest = moved_by_local_steps("momentum")
    effective = np.corrcoef(log_lr - log_rest, log_rest)[0, 1]
    assert abs(effective) < 0.15 < np.corrcoef(log_lr, log_rest)[0, 1]


def test_where_there_is_no_effective_learning_rate_lr_moves_alone() -> None:
    log_lr, log_rest = moved_by_local_steps("muon")
    assert abs(np.corrcoef(log_lr, log_rest)[0, 1]) < 0.15 < abs(np.corrcoef(log_lr - log_rest, log_rest)[0, 1])


@pytest.mark.parametrize("warmup", [{"warmup_fraction": 0.2}, {"warmup_steps": 200}], ids=["share", "steps"])
def test_a_tied_decay_ends_just_before_the_incumbent_with_its_warm_up(warmup: dict[str, float]) -> None:
    space = SearchSpace.model_validate(
        {"lr": 0.1, **warmup, "schedule": {"linear": {"end_factor": 0.0, "decay_fraction": "log from 0.01 to 1"}}}
    )
    best = Incumbent({"lr": 0.1, **warmup, "schedule": "linear", "end_factor": 0.0, "decay_fraction": 0.9}, 500, 1000)
    rng = np.random.default_rng(0)
    # From 0.9, a step of the end's width alone stays above 0.7; what is tied ends between 0.75 and 1 of 500 steps.
    drawn = [float(local_point(space, best, False, 1.0, rng)["decay_fraction"]) for _ in range(200)]
    tied = [0.2 + share for share in drawn if share < 0.5]
    assert 60 < len(tied) < 140
    assert 0.375 <= min(tied) < 0.4 and 0.48 < max(tied) <= 0.5
