from __future__ import annotations

import pytest

from analysis.recommendation.hyperparameters import hyperparameters_at

BEST = {
    16.0: {"lr": 0.1, "momentum": 0.9, "schedule": "linear", "end_factor": 0.0, "warmup": 10},
    64.0: {"lr": 0.4, "momentum": 0.99, "schedule": "linear", "end_factor": 0.5, "warmup": 40},
    256.0: {"lr": 0.8, "momentum": 0.99, "schedule": "constant"},
}


def test_a_studys_own_best_point_is_measured() -> None:
    found = hyperparameters_at(64.0, BEST)
    assert (found.source, found.values, found.studies) == ("measured", BEST[64.0], (64.0,))


def test_between_studies_numbers_are_interpolated_in_the_coordinate_they_are_searched_in() -> None:
    found = hyperparameters_at(32.0, BEST)
    assert (found.source, found.studies) == ("interpolated", (16.0, 64.0))
    expected = {"lr": 0.2, "momentum": 1 - 0.1**1.5, "end_factor": 0.25, "warmup": 20.0}
    assert {name: found.values[name] for name in expected} == pytest.approx(expected)
    assert found.values["schedule"] == "linear"


@pytest.mark.parametrize(("batch_size", "study"), [(100.0, 64.0), (200.0, 256.0), (4.0, 16.0), (1e6, 256.0)])
def test_where_neighbours_differ_or_are_missing_the_nearest_study_is_taken_whole(
    batch_size: float, study: float
) -> None:
    found = hyperparameters_at(batch_size, BEST)
    assert (found.source, found.values) == ("nearest", BEST[study])
