from __future__ import annotations

import json
from functools import cache

import numpy as np
import pytest

from bcrit.analysis.sensitivity.sensitivity import Sensitivity, sensitivity
from bcrit.search_spaces.experiment import Experiment
from tests.analysis.optimum.surface import LR, bowl, searched, spec, tables
from tests.analysis.report import runs


@cache
def found() -> Sensitivity:
    experiment = spec(LR, (4, 16, 64, 256, 1024))

    def narrowing(batch_size: int, point: object) -> float:
        return bowl(lambda b: 0.1, curvature=0.05 * batch_size**0.4)(batch_size, point)  # type: ignore[arg-type]

    trials = searched(experiment, narrowing, np.random.default_rng(0), adaptive=False, early=False)
    return sensitivity(*tables(trials, experiment))


def test_a_region_that_shrinks_is_said_to_shrink() -> None:
    assert found().trend.kind == "shrinks"
    assert found().trend.low <= -0.2 <= found().trend.high  # the share goes like curvature^-1/2
    assert any("shrinks with the batch size" in sentence for sentence in found().sentences)


def test_sentences_speak_of_tuning_and_of_cost() -> None:
    text = " ".join(found().sentences)
    assert "Tune learning rate" in text and "of the search space" in text and "20 % more steps" in text


def test_the_object_is_json_and_has_every_study() -> None:
    content = json.loads(json.dumps(found().to_json(), allow_nan=False))
    assert [study["batch_size"] for study in content["studies"]] == [4, 16, 64, 256, 1024]
    assert content["studies"][0]["profiles"][0]["name"] == "lr"
    assert content["studies"][0]["importances"]["why_not"] is not None


def test_a_wider_tolerance_gives_a_larger_share() -> None:
    experiment = spec(LR, (64,))
    trials = searched(experiment, bowl(lambda b: 0.1), np.random.default_rng(0), adaptive=False, early=False)
    shares = [sensitivity(*tables(trials, experiment), within).studies[0].share.value for within in (0.1, 0.3, 1.0)]
    assert None not in shares and shares == sorted(shares, key=lambda share: share or 0)


def test_nothing_reached_is_one_sentence() -> None:
    analysis = runs.partly(())
    none = sensitivity(analysis.trials, analysis.studies, analysis.boundary, analysis.experiment)
    assert none.sentences == (
        "No study reached the target, so nothing is known of the sensitivity to hyperparameters.",
    )
    json.dumps(none.to_json(), allow_nan=False)


def test_the_share_of_the_range_is_named_so_where_no_space_was_declared() -> None:
    experiment = spec(LR, (4, 64))
    trials = searched(experiment, bowl(lambda b: 0.1), np.random.default_rng(1), adaptive=False, early=False)
    imported = Experiment.model_validate(
        {**experiment.to_dict(), "space": {}, "imported": {"format": "csv", "source": "x.csv"}}
    )
    text = " ".join(sensitivity(*tables(trials, imported)).sentences)
    assert "of the range that was tried" in text


def test_volumes_are_in_units_of_the_first_studys_box() -> None:
    analysis = runs.widened()
    one = sensitivity(analysis.trials, analysis.studies, analysis.boundary, analysis.experiment).studies[0]
    assert one.share.value is not None and one.volume == pytest.approx(one.share.value)
