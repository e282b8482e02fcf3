from __future__ import annotations

import json
import time
from functools import cache

import numpy as np
import pytest

from bcrit.analysis.numbers.estimate import Estimate
from bcrit.analysis.optimum import OptimumLaws, Quantity, law_sentence, optimum_laws, parameter_text
from bcrit.analysis.optimum.laws import LAWS, PLAIN_LAWS, judge
from bcrit.search_spaces.experiment import Experiment
from tests.analysis.optimum.surface import LR, PLANE, bowl, large_study, searched, sets, spec
from tests.analysis.optimum.test_laws import TRUTH, B, verdict
from tests.analysis.report import runs

RATE = Quantity("lr", "lr", False, LAWS)


def true_lr(batch_size: float) -> float:
    return 0.5 / (1 + 64 / batch_size)


@cache
def plane() -> OptimumLaws:
    experiment = spec(PLANE)
    trials = searched(experiment, bowl(true_lr, others=0.3), np.random.default_rng(0), noise=0.03)
    return optimum_laws(sets(trials, experiment))


def test_the_law_that_was_put_in_is_found_in_the_effective_learning_rate() -> None:
    found = plane()
    assert [q.name for q in found.quantities] == ["effective_lr", "lr", "1 - momentum"]
    laws = found.verdicts["effective_lr"]
    assert "saturating" in laws.supported
    assert not {"none", "linear", "sqrt"} & set(laws.supported)
    assert laws.law("saturating").parameters["B_n"].holds(64)
    assert "none" in found.verdicts["1 - momentum"].supported


@pytest.mark.parametrize("batch_size", [1, 24, 4096])
def test_a_law_predicts_where_nothing_was_measured(batch_size: float) -> None:
    found = plane().by_law("effective_lr", batch_size)
    assert found is not None and found.holds(true_lr(batch_size))


def test_a_momentum_by_law_stays_possible() -> None:
    found = plane().by_law("momentum", 10**6)
    assert found is not None and found.value is not None and found.low is not None and found.high is not None
    assert 0 <= found.low <= found.value <= found.high < 1


def test_the_object_is_json_and_counts_every_study() -> None:
    content = json.loads(json.dumps(plane().to_json(), allow_nan=False))
    assert [s["batch_size"] for s in content["studies"]] == list(spec(PLANE).batch_sizes)
    for study in content["studies"]:
        assert study["n_near_optimal"] + study["n_worse"] + study["n_not_known"] == 40
    assert content["laws"]["lr"]["laws"][0]["law"] == "none"
    assert len(content["sentences"]) == 3 + len(content["studies"])


def test_with_nothing_reached_one_sentence_says_so() -> None:
    found = runs.partly(()).laws
    assert found.sentences == ("No study reached the target, so nothing is known of the best hyperparameters.",)
    assert found.by_law("lr", 64) is None
    json.dumps(found.to_json(), allow_nan=False)


def test_two_reached_studies_have_sets_but_no_law() -> None:
    found = runs.partly((8, 16)).laws
    assert {v.kind for v in found.verdicts.values()} == {"too few"} and len(found.sets.reached) == 2
    assert "needs 4" in found.sentences[0]


def test_a_hyperparameter_that_only_some_best_points_have_is_left_to_those() -> None:
    found = runs.usual({**runs.PLANE, "schedule": "choice of constant, linear"}).laws
    assert {name for s in found.sets.reached for name in s.ranges} >= {"lr", "momentum", "effective_lr"}
    json.dumps(found.to_json(), allow_nan=False)


def test_an_imported_run_without_a_space_is_read_off_its_trials() -> None:
    experiment = spec(LR)
    trials = searched(experiment, bowl(true_lr), np.random.default_rng(1), noise=0.03, seeds=0)
    imported = Experiment.model_validate(
        {**experiment.to_dict(), "space": {}, "imported": {"format": "csv", "source": "x.csv"}}
    )
    found = optimum_laws(sets(trials, imported))
    assert "saturating" in found.verdicts["lr"].supported and found.sets.noise.log_sd is None
    assert found.to_json()["studies"][0]["box"] == "range of the trials"


def test_a_study_of_14_000_trials_takes_seconds() -> None:
    run = large_study(2, lambda at: 100 + 50 * np.log(at["lr"] / (1 - at["momentum"]) / 0.5) ** 2)
    began = time.process_time()
    assert run.laws.sets.studies[0].counts[0] > 100
    assert time.process_time() - began < 2


def test_the_sentence_of_no_law_says_what_was_missed_and_what_is_done_instead() -> None:
    zigzag = np.exp(1.2 * (-1.0) ** np.arange(8))
    text = law_sentence(verdict(zigzag), RATE)
    assert text.startswith("None of the laws passes") and "misses those at batch size" in text
    assert "interpolated" in text
    few = judge(PLAIN_LAWS, B, zigzag, zigzag / 1.1, zigzag * 1.1)
    rest = Quantity("1 - momentum", "momentum", True, PLAIN_LAWS)
    assert law_sentence(few, rest).startswith("Neither a constant nor a power")


def test_laws_that_cannot_be_told_apart_are_all_named() -> None:
    found = verdict(TRUTH["sqrt"][:5] * np.exp(0.3 * np.random.default_rng(2).normal(size=5)), 2.0, B[:5])
    text = law_sentence(found, RATE)
    assert "cannot be told apart with 5 studies" in text
    assert all(f"({name})" in text for name in found.supported)


@pytest.mark.parametrize(
    ("estimate", "text"),
    [
        (Estimate(2, 1, 3), "2 (1 to 3)"),
        (Estimate(2), "2 (no interval)"),
        (Estimate(2, 1), "at least 1"),
        (Estimate(2, 0, 3), "at most 3"),
        (Estimate(2, 0), "not identified"),
    ],
)
def test_open_ends_are_words(estimate: Estimate, text: str) -> None:
    assert parameter_text(estimate) == text
