"""The proposed experiment is the user's own but for what the pilot changes."""

from __future__ import annotations

from typing import Any

import pytest

from bcrit.analysis.pilot.lr_box import LrBox, Rule
from bcrit.analysis.pilot.proposed import as_text, proposed_data
from bcrit.search_spaces.load import parse_experiment, read_yaml
from bcrit.search_spaces.options import Budget
from tests.analysis.pilot.made_up import DATA

BUDGET = Budget(steps=200, examples=9000)


def box(rule: Rule = "none") -> LrBox:
    return LrBox(0.0021, 2.5, rule, 64, 1.0, 60)


@pytest.mark.parametrize("rule", ["none", "sqrt", "linear"])
def test_it_is_read_back_with_everything_else_as_it_was(rule: Rule) -> None:
    given = {**DATA, "centre": {"rule": "linear", "batch_size": 8}}
    text = as_text(proposed_data(given, (4, 8, 16), box(rule), BUDGET), ["one", "two"])
    assert text.startswith("# one\n# two\n")
    found = parse_experiment(read_yaml(text, "x"), "x")
    assert found.batch_sizes == (4, 8, 16) and (found.budget.steps, found.budget.examples) == (200, 9000)
    assert found.budget.epochs is None and found.budget.regime_adaptation is None
    assert found.centre.rule == rule and found.search.trials == 10
    assert (found.space.box("lr").low, found.space.box("lr").high) == (0.0021, 2.5)
    assert (
        found.space.root["momentum"] == parse_experiment({**DATA, "budget": {"steps": 1}}, "x").space.root["momentum"]
    )


def test_hard_limits_stay() -> None:
    lr: dict[str, Any] = {"scale": "log", "low": 0.01, "high": 1, "hard_low": 0.001, "hard_high": 3}
    given = {**DATA, "space": {"lr": lr, "momentum": 0.9}}
    found = proposed_data(given, (4,), box(), BUDGET)["space"]["lr"]
    assert found == {"scale": "log", "low": 0.0021, "high": 2.5, "hard_low": 0.001, "hard_high": 3}


def test_a_fixed_learning_rate_stays_fixed() -> None:
    given = {**DATA, "space": {"lr": 0.3, "momentum": 0.9}}
    assert proposed_data(given, (4,), None, BUDGET)["space"] == given["space"]


def test_what_was_given_is_not_changed() -> None:
    before = {**DATA, "space": dict(DATA["space"])}
    proposed_data(DATA, (4,), box("sqrt"), BUDGET)
    assert before == DATA
