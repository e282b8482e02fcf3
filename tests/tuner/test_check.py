"""Bad experiments: all that is wrong with one, in one message, before anything is written."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from bcrit.search_spaces.load import dump_experiment, parse_experiment, read_yaml
from bcrit.search_spaces.problems import InputError
from bcrit.tuner.check import check_experiment
from bcrit.tuner.plan import plan

GOOD: dict[str, Any] = {
    "workload": "digits_mlp",
    "batch_sizes": [16, 64],
    "target": "val_loss < 0.15",
    "space": {"lr": "log from 0.01 to 1", "momentum": 0.9},
    "budget": {"steps": 100, "examples": 6400},
}


def test_a_good_experiment_gets_the_workload_s_unit() -> None:
    assert check_experiment(GOOD, "x").unit == "examples"


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"workload": "digit_mlp"}, "did you mean 'digits_mlp'"),
        ({"workload": "no_such_module:Thing"}, "neither installed nor in"),
        ({"workload": {"name": "digits_mlp", "depth": 3}}, "cannot be made with the options"),
        ({"workload": {"name": "noisy_quadratic", "dimensions": -1}}, "dimensions"),
        ({"batch_sizes": [16, 5000]}, "at most the training set of 1437 examples, but 5000 is larger"),
        ({"target": "val_loss > 0.15"}, "val_loss improves by minimizing.*write 'val_loss < 0.15'"),
        ({"target": "val_accuracy < 0.9"}, "improves by maximizing"),
        ({"target": "loss < 0.15"}, "has no metric 'loss'; its metrics are val_loss"),
        ({"space": {"lr": 0.1, "momentum": 0.9, "learning_rate": 0.1}}, "neither optimizer 'momentum' nor workload"),
        ({"unit": "tokens"}, "counts examples, not 'tokens'"),
    ],
    ids=str,
)
def test_what_the_workload_contradicts_is_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError) as caught:
        check_experiment({**GOOD, **changes}, "x")
    assert re.search(message, str(caught.value)), caught.value


def test_problems_of_the_schema_and_of_the_workload_come_together() -> None:
    bad = {**GOOD, "batch_sizes": [16, 5000], "target": "val_loss > 1", "spase": {}, "budget": {"steps": -1}}
    with pytest.raises(InputError) as caught:
        check_experiment(bad, "x")
    assert len(caught.value.problems) == 4, caught.value


def test_a_workload_module_that_raises_is_one_message(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "broken_workload.py").write_text("raise OSError('no disk')")
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(InputError, match="importing it failed with OSError: no disk"):
        check_experiment({**GOOD, "workload": "broken_workload:Thing"}, "x")


def test_the_plan_bounds_what_a_run_may_cost() -> None:
    small, large = plan(check_experiment({**GOOD, "search": {"trials": 10}, "confirm": {"points": 1, "seeds": 2}}, "x"))
    assert (small.batch_size, small.max_steps, large.max_steps) == (16, 500, 200)
    assert small.steps == 10 * 500 + 2 * 4 * 500
    assert small.most_steps == 4 * (10 + 2 * 5) * 500 + 2 * 4 * 500
    assert small.examples == 16 * small.steps


def test_epochs_are_examples_in_the_frozen_experiment_which_can_be_run_again() -> None:
    experiment = check_experiment({**GOOD, "budget": {"epochs": 2, "regime_adaptation": 32}}, "x")
    assert experiment.budget.examples == 2 * 1437
    assert [study.max_steps for study in plan(experiment)] == [2 * 1437 // 32] * 2
    frozen = read_yaml(dump_experiment(experiment), "frozen")
    assert frozen["budget"] == {"steps": 0, "examples": 2874, "epochs": 2.0, "regime_adaptation": 32}
    assert check_experiment(frozen, "frozen") == experiment == parse_experiment(frozen, "frozen")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"budget": {"epochs": 2, "examples": 100}}, "2 epochs of 1437 are 2874 and examples=100; keep one"),
        (
            {"workload": "noisy_quadratic", "target": "risk < 1", "budget": {"epochs": 2}},
            "'noisy_quadratic' has no training set to pass over; write 'examples' or 'steps'",
        ),
        ({"budget": {"epochs": -1}}, "'budget.epochs' must be greater than 0"),
        (
            {"budget": {"epochs": 9, "regime_adaptation": 2000}},
            "'budget.regime_adaptation' is a batch size, at most the training set of 1437 examples, but it is 2000",
        ),
        ({"budget": {"epochs": 0.5, "regime_adaptation": 1000}}, "of 1000 make no whole update of 718 examples"),
        (
            {"workload": "noisy_quadratic", "target": "risk < 1", "budget": {"examples": 99, "regime_adaptation": 100}},
            "batches of 100 make no whole update of 99 examples; choose a smaller one",
        ),
    ],
    ids=str,
)
def test_budgets_that_the_training_set_makes_no_sense_of_are_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError) as caught:
        check_experiment({**GOOD, **changes}, "x")
    assert message in str(caught.value)


def test_an_imported_run_is_not_continued() -> None:
    with pytest.raises(InputError, match="imported run .* cannot be run; remove 'imported'"):
        check_experiment({**GOOD, "imported": {"format": "table", "source": "a.csv"}}, "x")
