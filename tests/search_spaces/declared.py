"""An experiment as its file declares it, with changes, and what is said of one that cannot be."""

from typing import Any

import pytest

from bcrit.search_spaces.experiment import Experiment
from bcrit.search_spaces.load import dump_experiment, parse_experiment, read_yaml
from bcrit.search_spaces.problems import InputError

GOOD: dict[str, Any] = {
    "workload": "digits_mlp",
    "batch_sizes": [64, 16],
    "target": "val_loss < 0.15",
    "space": {"lr": 0.1, "momentum": 0.9},
    "budget": {"steps": 100, "examples": 6400},
}


def parsed(**changes: Any) -> Experiment:
    return parse_experiment({**GOOD, **changes}, "test.yaml")


def problems(**changes: Any) -> tuple[str, ...]:
    with pytest.raises(InputError, match="^test.yaml: ") as caught:
        parsed(**changes)
    return caught.value.problems


def thawed(experiment: Experiment) -> Experiment:
    """As it comes back from the file that it was frozen in."""
    return parse_experiment(read_yaml(dump_experiment(experiment), "frozen"), "frozen")
