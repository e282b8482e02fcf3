"""Options of a workload: what would not come back as it was is refused by its place."""

from __future__ import annotations

import pytest

from bcrit.search_spaces.experiment import Experiment
from bcrit.search_spaces.load import dump_experiment, parse_experiment, read_yaml
from bcrit.search_spaces.plain_values import unplain_values
from bcrit.search_spaces.problems import InputError

REST = """
batch_sizes: [16]
target: val_loss < 1
space: {lr: 0.1, momentum: 0.9}
budget: {steps: 10}
"""


def read(workload: str) -> Experiment:
    return parse_experiment(read_yaml(f"workload: {workload}{REST}", "x"), "x")


@pytest.mark.parametrize(
    ("options", "message"),
    [
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
        read(f"{{name: digits_mlp, {options}}}")


def test_all_of_them_come_in_one_message() -> None:
    assert len(unplain_values({"a": float("nan"), "b": {"c": [float("inf")]}})) == 2


def test_everything_else_comes_back_as_it_was() -> None:
    experiment = read("{name: 'm:f', a: null, b: [1, 2.5, {c: true}], d: '2024-01-31', e: {f: []}, g: .5e300}")
    assert parse_experiment(read_yaml(dump_experiment(experiment), "y"), "y") == experiment
