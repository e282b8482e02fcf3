"""The experiment file: what is read, what is refused, that freezing loses nothing, and how imported ones are free."""

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bcrit.search_spaces.experiment import Experiment
from bcrit.search_spaces.load import parse_experiment, read_yaml
from bcrit.search_spaces.problems import InputError
from tests.search_spaces.declared import parsed, problems, thawed

SPACE = {"lr": "log from 0.01 to 1", "momentum": "reverse_log from 0 to 0.99", "schedule": "choice of constant, linear"}


@pytest.mark.parametrize("path", sorted(Path(__file__).parents[2].glob("examples/**/*.yaml")), ids=lambda p: p.name)
def test_every_example_is_read_and_survives_being_frozen(path: Path) -> None:
    experiment = parse_experiment(read_yaml(path.read_text(), path.name), path.name)
    assert thawed(experiment) == experiment


def test_batch_sizes_are_sorted() -> None:
    assert parsed().batch_sizes == (16, 64)


def test_the_budget_is_steps_plus_examples_over_batch_size() -> None:
    assert [parsed().budget.max_steps(b) for b in (16, 64)] == [500, 200]


def test_a_schedule_choice_in_the_long_form_gets_its_parameters() -> None:
    space = {"lr": 0.1, "momentum": 0.5, "schedule": {"scale": "choice", "options": ["constant", "linear"]}}
    assert "schedule.linear.decay_fraction" in parsed(space=space).space.axes


def test_widening_never_leaves_the_natural_domain() -> None:
    space = parsed(space={"lr": "linear from 0.001 to 1", "momentum": "linear from 0.5 to 0.99"}).space
    for _ in range(5):
        space = space.widen("lr", "low", 0.5).widen("momentum", "high", 0.5)
    assert 0 < space.box("lr").low < 0.001 and 0.99 < space.box("momentum").high < 1


def test_without_a_schedule_it_is_constant() -> None:
    assert parsed().space.sample(np.random.default_rng(0))["schedule"] == "constant"


def test_a_fixed_learning_rate_is_scaled_by_the_rule() -> None:
    experiment = parsed(centre={"rule": "sqrt", "batch_size": 16})
    points = [experiment.space_at(batch_size).from_unit({"schedule": 0.5}) for batch_size in (16, 64)]
    assert [point["lr"] for point in points] == pytest.approx([0.1, 0.2])


def test_the_box_of_the_learning_rate_is_centred_by_the_rule() -> None:
    experiment = parsed(space=SPACE, centre={"rule": "linear", "batch_size": 16})
    assert experiment.space_at(64).box("lr").low == pytest.approx(0.04)
    by_root = parsed(space=SPACE, centre={"rule": "sqrt", "batch_size": 16})
    assert by_root.space_at(64).box("lr").high == pytest.approx(2)
    assert experiment.space_at(64).box("momentum") == experiment.space.box("momentum")


def test_momentum_zero_is_a_natural_limit() -> None:
    assert parsed(space=SPACE).space.box("momentum").at_hard_limit("low")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"batch_sizes": [4, 4]}, r"\[4\] stand more than once"),
        ({"target": "val_loss = 1"}, "METRIC < NUMBER"),
        ({"space": {"lr": 0.1, "momentum": 1.0}}, r"'momentum' lies in \[0, 1\), but value=1.0"),
        ({"space": {"lr": -0.1, "momentum": 0.9}}, r"'lr' lies in \(0, inf\)"),
        ({"space": {"lr": 0.1}}, "'momentum' needs momentum"),
        ({"space": {"lr": 0.1, "momentun": 0.9}}, "in 'space', which has 'momentun'; did you mean 'momentum'. add it"),
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
        ({"name": "../evil"}, "letters, digits"),
        ({"seed": -1}, "must be at least 0"),
        ({"search": {"trials": 0}}, "search.trials"),
        ({"search": {"stopping": "hyperband"}}, "search.stopping.rule"),
        ({"centre": {"rule": "linear"}}, "needs 'batch_size'"),
        (
            {"centre": {"rule": "sqrt", "batch_size": 16}, "optimizer": "own", "space": {"momentum": 0.9}},
            "'centre' moves lr, but 'space' has none",
        ),
        ({"space": [1, 2]}, "space"),
        ({"workload": None}, "workload"),
        ({"name": "abc\n"}, "letters, digits"),
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
    assert re.search(message, "; ".join(problems(**changes))), problems(**changes)


def test_all_problems_come_in_one_message() -> None:
    with pytest.raises(InputError, match="^test.yaml: 4 problems\n  - ") as caught:
        parsed(target="x", budget={}, seed="a", foo=1)
    assert str(caught.value).count("\n  - ") == len(caught.value.problems) == 4


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


def test_an_imported_experiment_has_any_optimizer_and_the_box_of_each_study_that_its_source_tells() -> None:
    experiment = parse_experiment(IMPORTED, "test")
    assert experiment.optimizer == "lars" and experiment.space.axes == experiment.space_at(128).axes == {}
    assert list(experiment.space_at(64).axes) == ["lr", "label_smoothing"]
    assert thawed(experiment) == experiment


@pytest.mark.parametrize("key", ["optimizer", "space"], ids=str)
def test_an_experiment_that_is_not_imported_is_held_to_the_rules(key: str) -> None:
    own = {name: value for name, value in IMPORTED.items() if name != "imported"}
    with pytest.raises(InputError, match=key):
        parse_experiment({**own, **({"optimizer": "sgd"} if key == "space" else {})}, "test")


def with_options(options: str) -> Experiment:
    return parsed(workload=read_yaml(f"{{name: digits_mlp, {options}}}", "x"))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ("a: .nan, b: {c: [.inf]}", r"'a' must be a finite.*; 'b.c\[0\]' must be a finite number"),
        ("clip: .inf", "'clip' must be a finite number, but it is inf; leave it out"),
        ("model: {sizes: [1, -.inf]}", r"'model.sizes\[1\]' must be a finite number, but it is -inf"),
        ("a: [[{b: .nan}]]", r"'a\[0\]\[0\].b' must be a finite number, but it is nan"),
        ("since: 2024-01-31", "'since' must be a number, a word, .* but it is the date 2024-01-31; write it in quotes"),
        ("since: 2024-01-31 12:00:00", "the date and time 2024-01-31 12:00:00"),
        ("kinds: {1: cat}", "'kinds.1': a key must be a word, but it is the int 1; write it in quotes"),
        ("shown: {on: 3}", "'shown.True': a key must be a word, but it is the bool True"),
        ("key: !!binary aGk=", "'key' must be .* but it is the bytes"),
    ],
    ids=str,
)
def test_an_option_that_would_come_back_as_something_else_is_refused(options: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        with_options(options)


def test_options_that_are_plain_come_back_as_they_were() -> None:
    experiment = with_options("a: null, b: [1, 2.5, {c: true}], d: '2024-01-31', e: {f: []}, g: .5e300")
    assert thawed(experiment) == experiment
