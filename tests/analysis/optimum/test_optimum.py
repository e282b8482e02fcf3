from __future__ import annotations

import json
import time
from functools import cache

import numpy as np
import pytest

from bcrit.analysis.optimum.optimum import OptimumLaws, optimum_laws
from bcrit.search_spaces.experiment import Experiment
from tests.analysis.optimum.surface import LR, PLANE, bowl, searched, spec, tables
from tests.analysis.report import runs


def true_lr(batch_size: float) -> float:
    return 0.5 / (1 + 64 / batch_size)


@cache
def plane() -> OptimumLaws:
    experiment = spec(PLANE)
    trials = searched(experiment, bowl(true_lr, others=0.3), np.random.default_rng(0), noise=0.03)
    return optimum_laws(*tables(trials, experiment))


def test_the_law_that_was_put_in_is_found_in_the_effective_learning_rate() -> None:
    found = plane()
    assert [q.name for q in found.quantities] == ["effective_lr", "lr", "1 - momentum"]
    verdict = found.verdicts["effective_lr"]
    assert "saturating" in verdict.supported
    assert not {"none", "linear", "sqrt"} & set(verdict.supported)
    knee = verdict.law("saturating").fit.parameters["B_n"]
    assert knee.low <= 64 <= knee.high
    assert "none" in found.verdicts["1 - momentum"].supported


@pytest.mark.parametrize("batch_size", [1, 24, 4096])
def test_a_law_predicts_where_nothing_was_measured(batch_size: float) -> None:
    found = plane().by_law("effective_lr", batch_size)
    assert found is not None
    assert found.low <= true_lr(batch_size) <= found.high


def test_a_momentum_by_law_stays_possible() -> None:
    found = plane().by_law("momentum", 10**6)
    assert found is not None and 0 <= found.low <= found.value <= found.high < 1


def test_the_object_is_json_and_counts_every_study() -> None:
    content = json.loads(json.dumps(plane().to_json(), allow_nan=False))
    assert [s["batch_size"] for s in content["studies"]] == list(spec(PLANE).batch_sizes)
    for study in content["studies"]:
        assert study["n_near_optimal"] + study["n_worse"] + study["n_not_known"] == 40
    assert content["laws"]["lr"]["laws"][0]["law"] == "none"
    assert len(content["sentences"]) == 3 + len(content["studies"])


def test_with_nothing_reached_one_sentence_says_so() -> None:
    analysis = runs.partly(())
    found = optimum_laws(analysis.trials, analysis.studies, analysis.boundary, analysis.experiment)
    assert found.sentences == ("No study reached the target, so nothing is known of the best hyperparameters.",)
    assert found.by_law("lr", 64) is None
    json.dumps(found.to_json(), allow_nan=False)


def test_two_reached_studies_have_sets_but_no_law() -> None:
    analysis = runs.partly((8, 16))
    found = optimum_laws(analysis.trials, analysis.studies, analysis.boundary, analysis.experiment)
    assert {v.kind for v in found.verdicts.values()} == {"too few"} and len(found.reached) == 2
    assert "needs 4" in found.sentences[0]


def test_a_hyperparameter_that_only_some_best_points_have_is_left_to_those() -> None:
    analysis = runs.usual({**runs.PLANE, "schedule": "choice of constant, linear"})
    found = optimum_laws(analysis.trials, analysis.studies, analysis.boundary, analysis.experiment)
    assert {name for s in found.reached for name in s.ranges} >= {"lr", "momentum", "effective_lr"}
    json.dumps(found.to_json(), allow_nan=False)


def test_an_imported_run_without_a_space_is_read_off_its_trials() -> None:
    experiment = spec(LR)
    trials = searched(experiment, bowl(true_lr), np.random.default_rng(1), noise=0.03, seeds=0)
    imported = Experiment.model_validate(
        {**experiment.to_dict(), "space": {}, "imported": {"format": "csv", "source": "x.csv"}}
    )
    found = optimum_laws(*tables(trials, imported))
    assert "saturating" in found.verdicts["lr"].supported and found.noise.log_sd is None
    assert found.to_json()["studies"][0]["box"] == "range of the trials"


def test_a_study_of_14_000_trials_takes_seconds() -> None:
    analysis = runs.usual(batch_sizes=(8,))
    rng, n = np.random.default_rng(2), 14_000
    trials = analysis.trials.iloc[[-1] * n].reset_index(drop=True)
    trials["stage"], trials["repeats"] = "search", None
    trials["trial_id"] = [f"t{i}" for i in range(n)]
    trials["number"] = np.arange(n)
    trials["lr"], trials["momentum"] = 10 ** rng.uniform(-2, 1, n), 1 - 10 ** rng.uniform(-2, 0, n)
    trials["steps_to_target"] = 100 + 50 * np.log(trials["lr"] / (1 - trials["momentum"]) / 0.5) ** 2
    studies = analysis.studies.assign(steps=100.0, best_trial=trials.sort_values("steps_to_target")["trial_id"].iloc[0])
    began = time.process_time()
    found = optimum_laws(trials, studies, analysis.boundary, analysis.experiment)
    assert time.process_time() - began < 2
    assert found.sets[0].n_inside > 100
