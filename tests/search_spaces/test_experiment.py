"""The experiment file: what is read, what is refused, and that freezing loses nothing."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bcrit.search_spaces.experiment import Experiment
from bcrit.search_spaces.load import dump_experiment, parse_experiment, read_yaml
from bcrit.search_spaces.problems import InputError

GOOD: dict[str, Any] = {
    "workload": "digits_mlp",
    "batch_sizes": [64, 16],
    "target": "val_loss < 0.15",
    "space": {
        "lr": "log from 0.01 to 1",
        "momentum": "reverse_log from 0 to 0.99",
        "schedule": "choice of constant, linear",
    },
    "budget": {"steps": 100, "examples": 6400},
}


def parsed(**changes: Any) -> Experiment:
    return parse_experiment({**GOOD, **changes}, "test.yaml")


def problems(**changes: Any) -> str:
    with pytest.raises(InputError, match="test.yaml") as caught:
        parsed(**changes)
    return str(caught.value)


@pytest.mark.parametrize("path", sorted(Path(__file__).parents[2].glob("examples/**/*.yaml")), ids=lambda p: p.name)
def test_every_example_is_read_and_survives_being_frozen(path: Path) -> None:
    experiment = parse_experiment(read_yaml(path.read_text(), path.name), path.name)
    assert parse_experiment(read_yaml(dump_experiment(experiment), "frozen"), "frozen") == experiment


def test_batch_sizes_are_sorted() -> None:
    assert parsed().batch_sizes == (16, 64)


def test_the_budget_is_steps_plus_examples_over_batch_size() -> None:
    assert [parsed().budget.max_steps(b) for b in (16, 64)] == [500, 200]


def test_a_schedule_that_is_only_named_gets_its_parameters() -> None:
    assert "schedule.linear.decay_fraction" in parsed().space.axes


def test_a_schedule_choice_in_the_long_form_gets_its_parameters_too() -> None:
    space = {"lr": 0.1, "momentum": 0.5, "schedule": {"scale": "choice", "options": ["constant", "linear"]}}
    assert "schedule.linear.decay_fraction" in parsed(space=space).space.axes


def test_widening_never_leaves_the_natural_domain() -> None:
    space = parsed(space={"lr": "linear from 0.001 to 1", "momentum": "linear from 0.5 to 0.99"}).space
    for _ in range(5):
        space = space.widen("lr", "low", 0.5).widen("momentum", "high", 0.5)
    assert 0 < space.box("lr").low < 0.001 and 0.99 < space.box("momentum").high < 1


def test_without_a_schedule_it_is_constant() -> None:
    space = {"lr": 0.1, "momentum": 0.9}
    assert parsed(space=space).space.sample(np.random.default_rng(0))["schedule"] == "constant"


def test_a_fixed_learning_rate_is_scaled_by_the_rule() -> None:
    experiment = parsed(centre={"rule": "sqrt", "batch_size": 16}, space={"lr": 0.1, "momentum": 0.9})
    points = [experiment.space_at(batch_size).from_unit({"schedule": 0.5}) for batch_size in (16, 64)]
    assert [point["lr"] for point in points] == pytest.approx([0.1, 0.2])


def test_the_box_of_the_learning_rate_is_centred_by_the_rule() -> None:
    experiment = parsed(centre={"rule": "linear", "batch_size": 16})
    assert experiment.space_at(64).box("lr").low == pytest.approx(0.04)
    assert parsed(centre={"rule": "sqrt", "batch_size": 16}).space_at(64).box("lr").high == pytest.approx(2)
    assert experiment.space_at(64).box("momentum") == experiment.space.box("momentum")


def test_momentum_zero_is_a_natural_limit() -> None:
    assert parsed().space.box("momentum").at_hard_limit("low")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"batchsizes": [1]}, "did you mean 'batch_sizes'"),
        ({"batch_sizes": []}, "batch_sizes"),
        ({"batch_sizes": [4, 4]}, r"\[4\] stand more than once"),
        ({"batch_sizes": [0]}, "must be at least 1"),
        ({"batch_sizes": [1.5]}, "batch_sizes.0"),
        ({"target": "val_loss = 1"}, "METRIC < NUMBER"),
        ({"space": {"lr": 0.1, "momentum": 1.0}}, r"'momentum' lies in \[0, 1\), but value=1.0"),
        ({"space": {"lr": -0.1, "momentum": 0.9}}, r"'lr' lies in \(0, inf\)"),
        ({"space": {"lr": 0.1}}, "'momentum' needs momentum"),
        ({"space": {"lr": 0.1, "momentum": 0.5}, "optimizer": "sgd"}, "has no momentum"),
        ({"space": {"lr": 0.1, "momentum": 0.5, "schedule": "stairs"}}, "there is no schedule 'stairs'"),
        ({"space": {"lr": 0.1, "momentum": 0.5, "schedule": {"linear": {"foo": 1}}}}, "names foo"),
        ({"space": {"lr": 0.1, "momentum": 0.5, "seed": 3}}, "is a column of the run folder's tables"),
        ({"optimizer": "adam"}, "optimizer 'adam' has no momentum"),
        (
            {"optimizer": "no such"},
            "an optimizer is one word: sgd, momentum, nesterov, .* another class of torch.optim",
        ),
        ({"optimizer": "radam", "space": {"beta1": 0.9}}, "optimizer 'radam' needs lr"),
        ({"space": {"lr": 0.1, "momentum": 0.5, "weight_decay": -1}}, r"'weight_decay' lies in \[0, inf\)"),
        ({"optimizer": "adamw", "space": {"lr": 0.1, "beta1": 1.0}}, r"'beta1' lies in \[0, 1\)"),
        ({"optimizer": "adamw", "space": {"lr": 0.1, "eps": 0}}, r"'eps' lies in \(0, inf\)"),
        (
            {"space": {"lr": 0.1, "momentum": 0.5, "weight_decay": 0.1, "decoupled_weight_decay": 0.1}},
            "'weight_decay' and 'decoupled_weight_decay' exclude each other",
        ),
        ({"budget": {}}, "greater than 0"),
        ({"name": "../evil"}, "letters, digits"),
        ({"seed": -1}, "must be at least 0"),
        ({"search": {"trials": 0}}, "search.trials"),
        ({"search": {"stopping": "hyperband"}}, "search.stopping.rule"),
        ({"centre": {"rule": "linear"}}, "needs 'batch_size'"),
        (
            {"centre": {"rule": "sqrt", "batch_size": 16}, "optimizer": "own", "space": {"momentum": 0.9}},
            "'centre' moves lr, but 'space' has none",
        ),
        ({"boundary": {"margin": 0.7}}, "boundary.margin"),
        ({"space": [1, 2]}, "space"),
        ({"workload": None}, "workload"),
        ({"name": "abc\n"}, "letters, digits"),
        ({"search": {"max_draws": float("inf")}}, "search.max_draws"),
        ({"search": {"stopping": {"slack": float("inf")}}}, "search.stopping.slack"),
        ({"space": {"lr": 0.1, "momentum": 0.5, "schedule": {"linear": 5}}}, "space.schedule"),
        (
            {"space": {"lr": 0.1, "momentum": 0.5, "arch": {"a": {"steps": 3}}}},
            "is a column of the run folder's tables",
        ),
        ({"space": {"lr": 0.1, "momentum": 0.5, "a": {"x": {"k": 1}}, "b": {"y": {"k": 2}}}}, "under a and b"),
        (
            {
                "space": {"lr": {"scale": "log", "low": 0.01, "high": 1, "hard_high": 2}, "momentum": 0.5},
                "centre": {"rule": "linear", "batch_size": 1},
                "batch_sizes": [1, 4096],
            },
            "'centre' moves the box",
        ),
    ],
    ids=str,
)
def test_what_cannot_be_is_refused_with_rule_name_and_value(changes: dict[str, Any], message: str) -> None:
    assert re.search(message, problems(**changes)), problems(**changes)


def test_all_problems_come_in_one_message() -> None:
    message = problems(target="x", budget={}, seed="a", foo=1)
    assert message.startswith("test.yaml: 4 problems") and message.count("\n  - ") == 4


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a: !!python/object/apply:os.system ['true']", "YAML tags are refused"),
        ("a: [1", "not readable as YAML"),
        ("a: 1\na: 2", "stands twice"),
        ("a: &x 1\nb: *x", "aliases .* are refused"),
        ("[1, 2]: 3", "a key must be a plain word"),
        ("a: {{x}}", "a key must be a plain word"),
    ],
    ids=["tag", "broken", "repeated key", "alias", "list as key", "mapping as key"],
)
def test_yaml_that_is_dangerous_or_ambiguous_is_refused(text: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        read_yaml(text, "x.yaml")


def test_numbers_without_a_dot_are_numbers() -> None:
    assert read_yaml("a: 1e-3\nb: -2E+4\nc: 12\nd: e5", "x") == {"a": 1e-3, "b": -2e4, "c": 12, "d": "e5"}


@pytest.mark.parametrize("data", [None, 3, [], "text"], ids=str)
def test_a_file_that_is_no_mapping_is_refused(data: object) -> None:
    with pytest.raises(InputError, match="is a mapping of keys"):
        parse_experiment(data, "x.yaml")
