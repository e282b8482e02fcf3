"""Optuna's distributions as dimensions."""

from __future__ import annotations

import pytest
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution

from bcrit.analysis.exchange.optuna_storage import parameter_value, searched
from bcrit.analysis.exchange.run import Notes


@pytest.mark.parametrize(
    ("distributions", "expected"),
    [
        ([FloatDistribution(0.1, 1)], {"scale": "linear", "low": 0.1, "high": 1}),
        ([FloatDistribution(0.1, 1, log=True)], {"scale": "log", "low": 0.1, "high": 1}),
        ([FloatDistribution(0, 1, step=0.25)], {"scale": "linear", "low": 0, "high": 1}),
        ([IntDistribution(1, 8)], {"scale": "integer", "low": 1, "high": 8}),
        ([IntDistribution(1, 8, log=True)], {"scale": "log", "low": 1, "high": 8}),
        ([IntDistribution(1, 4), IntDistribution(3, 9)], {"scale": "integer", "low": 1, "high": 9}),
        ([CategoricalDistribution([16, 64, 256])], {"scale": "log", "low": 16, "high": 256}),
        ([CategoricalDistribution([0.0, 0.5])], {"scale": "linear", "low": 0, "high": 0.5}),
        ([CategoricalDistribution([3])], {"scale": "fixed", "value": 3}),
        ([CategoricalDistribution(["a", None])], {"scale": "choice", "options": {"a": {}, "none": {}}}),
        ([CategoricalDistribution([True, False])], {"scale": "choice", "options": {"true": {}, "false": {}}}),
        ([CategoricalDistribution([0.1, "auto"])], {"scale": "choice", "options": {"0.1": {}, "auto": {}}}),
        (
            [CategoricalDistribution(["a"]), CategoricalDistribution(["b"])],
            {"scale": "choice", "options": {"a": {}, "b": {}}},
        ),
    ],
)
def test_a_distribution_is_a_dimension(distributions: list[BaseDistribution], expected: dict[str, object]) -> None:
    found = searched([{"x": distribution} for distribution in distributions], Notes())["x"]
    assert {k: v for k, v in found.model_dump().items() if v is not None} == expected


def test_a_parameter_that_changed_its_kind_is_no_dimension() -> None:
    notes = Notes()
    kinds = [FloatDistribution(0.1, 1), FloatDistribution(0.1, 1, log=True), FloatDistribution(0.1, 1)]
    assert searched([{"x": kind} for kind in kinds], notes) == {}
    assert notes.sentences() == [
        "Parameters whose distribution changed its kind are left out of the search space (1; x)"
    ]


def test_none_is_a_word() -> None:
    assert parameter_value(None) == "none" and parameter_value(0) == 0
