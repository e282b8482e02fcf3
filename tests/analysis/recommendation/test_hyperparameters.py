from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from bcrit.analysis.numbers import Estimate
from bcrit.analysis.optimum import OptimumLaws, optimum_laws
from bcrit.analysis.recommendation.hyperparameters import hyperparameters_at
from tests.analysis.optimum.surface import PLANE, bowl, searched, sets, spec

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


def measured() -> tuple[dict[float, dict[str, Any]], OptimumLaws]:
    experiment = spec(PLANE)
    trials = searched(experiment, bowl(lambda b: 0.5 / (1 + 64 / b), 0.3), np.random.default_rng(0), noise=0.03)
    laws = optimum_laws(sets(trials, experiment))
    return {float(found.batch_size): dict(found.best) for found in laws.sets.reached}, laws


def test_a_measured_point_has_the_intervals_of_its_near_optimal_set() -> None:
    best, laws = measured()
    found = hyperparameters_at(64.0, best, laws)
    near = laws.set_at(64)
    assert near is not None and found.source == "measured" and found.values == best[64.0]
    assert (found.low["lr"], found.high["lr"]) == (near.ranges["lr"].low, near.ranges["lr"].high)
    assert set(found.sources.values()) == {"measured"}


def test_between_studies_a_law_that_passes_gives_the_learning_rate_at_the_advised_momentum() -> None:
    best, laws = measured()
    found = hyperparameters_at(45.0, best, laws)
    assert found.source == "law" and found.sources["lr"] == "law"
    rest = 1 - found.values["momentum"]
    assert found.low["lr"] / rest <= 0.5 / (1 + 64 / 45) <= found.high["lr"] / rest
    assert found.low["lr"] < found.values["lr"] < found.high["lr"]


def test_between_studies_that_chose_different_options_the_nearest_learning_rate_moves_as_the_law_does() -> None:
    best, laws = measured()
    differ = {size: {**point, "schedule": "linear" if size < 50 else "constant"} for size, point in best.items()}
    found, effective = hyperparameters_at(40.0, differ, laws), [laws.by_law("effective_lr", b) for b in (40, 32)]
    assert (found.source, found.studies, found.sources["lr"]) == ("nearest", (32.0,), "law")
    assert effective[0] and effective[1] and effective[0].value and effective[1].value
    moved = best[32.0]["lr"] * effective[0].value / effective[1].value
    assert found.values == {**differ[32.0], "lr": pytest.approx(moved)} and "the learning rate moved" in found.doubt


def test_a_law_that_is_not_known_does_not_take_the_others_with_it() -> None:
    best, laws = measured()

    class OneWide(OptimumLaws):
        def by_law(self, coordinate: str, batch_size: float) -> Estimate | None:
            decay = Estimate(1e-4, 1e-6, 1e-2)  # of four decades
            return decay if coordinate == "weight_decay" else super().by_law(coordinate, batch_size)

    more = {batch_size: {**point, "weight_decay": 2e-4} for batch_size, point in best.items()}
    found = hyperparameters_at(45.0, more, OneWide(**vars(laws)))
    assert (found.sources["lr"], found.sources["weight_decay"], found.values["weight_decay"]) == (
        "law",
        "interpolated",
        2e-4,
    )


def test_outside_of_the_studies_everything_is_marked_extrapolated() -> None:
    best, laws = measured()
    found = hyperparameters_at(5000.0, best, laws)
    assert found.source == "extrapolated" and set(found.sources.values()) == {"extrapolated"}
    effective = found.values["lr"] / (1 - found.values["momentum"])
    assert effective == pytest.approx(0.5 / (1 + 64 / 5000), rel=0.3)


def test_without_a_law_that_passes_the_value_is_interpolated_with_the_neighbours_intervals() -> None:
    best, laws = measured()
    rejected = {name: replace(verdict, kind="none", supported=()) for name, verdict in laws.verdicts.items()}
    none = replace(laws, verdicts=rejected)
    found = hyperparameters_at(45.0, best, none)
    plain = hyperparameters_at(45.0, best)
    assert (found.source, found.values) == ("interpolated", plain.values)
    assert found.low["lr"] < found.values["lr"] < found.high["lr"]
    assert hyperparameters_at(5000.0, best, none).source == "extrapolated"


def test_intervals_stand_in_the_order_of_the_hyperparameters() -> None:
    more = {**PLANE, "width": "log from 1 to 9", "depth": "log from 1 to 9", "decay": "linear from 0 to 1"}
    experiment = spec(more, (16, 64))
    trials = searched(experiment, bowl(lambda b: 0.5), np.random.default_rng(0))
    laws = optimum_laws(sets(trials, experiment))
    best = {float(found.batch_size): dict(found.best) for found in laws.sets.reached}
    found = hyperparameters_at(32.0, best, laws)
    assert list(found.low) == list(found.high) == list(more)  # whatever PYTHONHASHSEED is


class Wide(OptimumLaws):
    """Laws as they are, but known to a factor of 20 only."""

    def by_law(self, coordinate: str, batch_size: float) -> Estimate | None:
        law = super().by_law(coordinate, batch_size)
        return None if law is None or law.value is None else Estimate(law.value, law.value / 5, law.value * 4)


def test_a_law_that_is_known_to_no_decade_or_contradicts_both_neighbours_is_not_used() -> None:
    best, laws = measured()
    assert hyperparameters_at(45.0, best, Wide(**vars(laws))).source == "interpolated"
    elsewhere = {batch_size: {**point, "lr": 8 * point["lr"]} for batch_size, point in best.items()}
    found = hyperparameters_at(45.0, elsewhere, laws)
    assert (found.source, found.values) == ("interpolated", hyperparameters_at(45.0, elsewhere).values)


def test_what_is_whole_in_every_study_stays_whole_at_the_ends_of_its_interval_too() -> None:
    _, laws = measured()
    best = {b: {"lr": 2**k, "momentum": 0.9} for k, b in enumerate((4.0, 8.0, 512.0))}  # lr is made up to be whole
    found = hyperparameters_at(45.0, best, laws)
    assert all(isinstance(numbers["lr"], int) for numbers in (found.values, found.low, found.high))
    assert hyperparameters_at(32.0, {16.0: {"lr": 1}, 64.0: {"lr": 0.25}}).values["lr"] == pytest.approx(0.5)
