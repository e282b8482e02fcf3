import json
import time
from functools import cache
from pathlib import Path

import numpy as np
import pytest

from bcrit.analysis.numbers import Estimate
from bcrit.analysis.optimum import OptimumLaws, optimum_laws, parameter_text
from bcrit.search_spaces.experiment import Experiment
from tests.analysis.optimum.surface import LR, PLANE, bowl, large_study, searched, sets, spec
from tests.analysis.report import runs
from tests.bcrit.command import bcrit


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


def test_batch_sizes_that_were_not_measured_are_predicted(tmp_path: Path) -> None:
    run = runs.written(tmp_path / "run", reached=True, space={**runs.PLANE, "width": "integer from 4 to 64"}, missed=8)
    done = bcrit("optimum", run, "--at", 48, "--at", 4096)
    assert "At batch size 4,096" in done.stdout and "extrapolated" in done.stdout
    found = json.loads(bcrit("optimum", run, "--at", 64, "--at", 100, "--json").stdout)
    assert [point["batch_size"] for point in found["at"]] == [64, 100]
    for point in found["at"]:  # widths stay whole where another study did not reach
        assert all(isinstance(point[part]["width"], int) for part in ("values", "low", "high"))
