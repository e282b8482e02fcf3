"""An imported experiment describes what was done elsewhere: free names, a box for each study, not to be run."""

from __future__ import annotations

from typing import Any

import pytest

from bcrit.search_spaces import Experiment, InputError, dump_experiment, parse_experiment, read_yaml

IMPORTED: dict[str, Any] = {
    "imported": {
        "format": "batch_science",
        "source": "tree/mnist",
        "spaces": {"64": {"lr": "log from 0.001 to 1", "label_smoothing": "choice of 0, 0.1"}},
        "names": {"lr": "learning_rate"},
    },
    "workload": "mnist/simple_cnn",
    "optimizer": "lars",
    "batch_sizes": [64, 128],
    "target": "validation/error < 0.01",
    "space": {},
    "budget": {"steps": 1000},
}


def experiment() -> Experiment:
    return parse_experiment(IMPORTED, "test")


def test_an_imported_optimizer_and_its_hyperparameters_may_be_any() -> None:
    assert experiment().optimizer == "lars"
    assert experiment().space.axes == {}


def test_each_imported_study_has_the_box_that_its_source_tells() -> None:
    assert list(experiment().space_at(64).axes) == ["lr", "label_smoothing"]
    assert experiment().space_at(128).axes == {}


def test_an_imported_experiment_survives_its_file() -> None:
    assert parse_experiment(read_yaml(dump_experiment(experiment()), "test"), "test") == experiment()


@pytest.mark.parametrize("key", ["optimizer", "space"], ids=str)
def test_an_experiment_that_is_not_imported_is_held_to_the_rules(key: str) -> None:
    own = {name: value for name, value in IMPORTED.items() if name != "imported"}
    with pytest.raises(InputError, match=key):
        parse_experiment({**own, **({"optimizer": "sgd"} if key == "space" else {})}, "test")
