"""Bad experiments: all that is wrong with one, in one message, before anything is written."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from bcrit.search_spaces.load import dump_experiment, parse_experiment, read_yaml
from bcrit.search_spaces.problems import InputError
from bcrit.search_spaces.target import Direction
from bcrit.tuner.check import check_experiment
from bcrit.tuner.plan import plan
from tests.scripted import ExactHyperbola

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


ADAMW: dict[str, Any] = {
    "workload": "digits_mlp",
    "optimizer": "adamw",
    "batch_sizes": [16, 64],
    "target": "val_loss < 0.15",
    "space": {"lr": "log from 1e-4 to 0.1", "beta2": "reverse_log from 0 to 0.999", "weight_decay": 0.1},
    "budget": {"steps": 100},
}
NOISY = {"workload": "noisy_quadratic", "target": "risk < 0.01"}


class OwnOptimizer(ExactHyperbola):
    """A workload that makes its updates itself and says what it can."""

    optimizers = ("shampoo",)
    hyperparameters = ("block",)


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"optimizer": "AdamW"},
        {
            "optimizer": "RAdam",
            "space": {"lr": 0.1, "beta1": "reverse_log from 0 to 0.99", "decoupled_weight_decay": 0.1},
        },
        {"optimizer": "adafactor", "space": {"lr": 0.1, "beta2_decay": -0.8}},
        {"optimizer": "muon", "space": {"lr": 0.1, "nesterov": False, "ns_steps": 4, "adjust_lr_fn": "original"}},
        {"optimizer": "lamb", "space": {"lr": 0.1, "beta1": 0.9, "weight_decay": 0.1}},
        {"target": "val_loss_ema < 0.15", "space": {"lr": 0.1, "ema_decay": "reverse_log from 0.5 to 0.99"}},
        {"space": {"lr": 0.1, "warmup_steps": "integer from 0 to 20", "schedule": "choice of step, wsd"}},
        {"optimizer": "extrap_adamw", "space": {"lr": 0.1, "extrapolation_lr": "log from 0.1 to 1"}},
        {**NOISY, "optimizer": "nesterov", "space": {"lr": 0.1, "momentum": 0.5, "schedule": "wsd"}},
        {
            "workload": f"{__name__}:OwnOptimizer",
            "optimizer": "shampoo",
            "target": "loss < 1",
            "space": {"lr": 1, "block": 2},
        },
    ],
    ids=str,
)
def test_what_fits_is_accepted(changes: dict[str, Any]) -> None:
    assert check_experiment({**ADAMW, **changes}, "x").optimizer == str({**ADAMW, **changes}["optimizer"]).lower()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"optimizer": "adammw"}, "no optimizer 'adammw'; did you mean 'adamw'.*choose one of .*rmsprop"),
        ({"optimizer": "LBFGS", "space": {"lr": 0.1}}, "'lbfgs' cannot be used here: it evaluates the loss many times"),
        ({"optimizer": "sparseadam", "space": {"lr": 0.1}}, "sparse gradients only; choose adam"),
        (
            {"optimizer": "adamax", "space": {"lr": 0.1, "alpha": 0.9}},
            "'space.alpha': neither optimizer 'adamax' nor .*beta1",
        ),
        ({"space": {"lr": 0.1, "beta3": 0.9}}, "'space.beta3': neither optimizer 'adamw' nor"),
        ({"space": {"lr": 0.1, "decoupled_weight_decay": 0.9}}, "optimizer 'adamw' has no decoupled_weight_decay"),
        ({"space": {"lr": 0.1, "amsgrad": "yes"}}, "'amsgrad' is true or false, .* but it is 'yes'"),
        (
            {"optimizer": "muon", "space": {"lr": 0.1, "adjust_lr_fn": "best"}},
            "refuses a value: .*best is not supported",
        ),
        (
            {"optimizer": "rmsprop", "space": {"lr": 0.1, "alpha": "linear from -1 to 0.5"}},
            "'alpha' lies in .*low=-1.0; choose a value inside",
        ),
        ({**NOISY, "space": {"lr": 0.1}}, "'noisy_quadratic' knows sgd, momentum, nesterov, but not adamw; choose one"),
        ({**NOISY, "optimizer": "sgd", "space": {"lr": 0.1, "weight_decay": 0.1}}, "'space.weight_decay': neither"),
        ({**NOISY, "optimizer": "sgd", "space": {"lr": 0.1, "ema_decay": 0.9}}, "'space.ema_decay': neither"),
        (
            {**NOISY, "optimizer": "sgd", "target": "risk_ema < 1", "space": {"lr": 0.1, "ema_decay": 0.9}},
            "no metric 'risk_ema'",
        ),
        ({"target": "val_loss_ema < 0.15"}, "no metric 'val_loss_ema'"),
        ({"target": "val_loss_ema > 0.15", "space": {"lr": 0.1, "ema_decay": 0.9}}, "improves by minimizing"),
        (
            {"workload": f"{__name__}:OwnOptimizer", "target": "loss < 1", "space": {"lr": 1}},
            "knows shampoo, but not adamw",
        ),
    ],
    ids=str,
)
def test_what_does_not_fit_is_refused_with_the_reason(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError) as caught:
        check_experiment({**ADAMW, **changes}, "x")
    assert re.search(message, str(caught.value)), caught.value


def test_the_scripted_workload_has_the_metric_that_is_used_here() -> None:
    assert OwnOptimizer().metrics == {"loss": Direction.MINIMIZE}


FUNCTION: dict[str, Any] = {
    "workload": f"{__name__}:train",
    "batch_sizes": [16, 64],
    "target": "loss < 1",
    "space": {"lr": "log from 0.01 to 1"},
    "budget": {"steps": 100},
}


def train(config: Any, report: Any) -> None:
    pass


def declared(config: Any, report: Any) -> None:
    pass


declared.unit, declared.n_examples, declared.metrics = "tokens", 640, {"loss": "minimize"}  # type: ignore[attr-defined]


def one_argument(config: Any) -> None:
    pass


async def asynchronous(config: Any, report: Any) -> None:
    pass


def generator(config: Any, report: Any) -> Iterator[int]:
    yield 1


class Callable:
    async def __call__(self, config: Any, report: Any) -> None:
        pass


an_object = Callable()


def wrongly_declared(config: Any, report: Any) -> None:
    pass


wrongly_declared.metrics = {"loss": "down"}  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("changes", "optimizer"),
    [
        ({}, "own"),
        ({"optimizer": "adamw"}, "adamw"),
        ({"space": {}}, "own"),
        ({"space": {"width": "integer from 8 to 64"}}, "own"),
        ({"space": {"lr": 0.1, "momentum": "reverse_log from 0 to 0.9", "weight_decay": 0.1, "my_own": 3}}, "own"),
        ({"space": {"lr": 0.1, "optimizer": "choice of sgd, adam"}}, "own"),
        ({"space": {"lr": 0.1, "schedule": "choice of constant, cosine", "ema_decay": 0.9}}, "own"),
    ],
    ids=str,
)
def test_any_name_in_the_space_is_the_function_s(changes: dict[str, Any], optimizer: str) -> None:
    found = check_experiment({**FUNCTION, **changes}, "x")
    assert (found.optimizer, found.unit) == (optimizer, "examples")
    assert check_experiment(found.to_dict(), "again") == found


def test_what_a_function_says_of_itself_is_used() -> None:
    made = {**FUNCTION, "workload": f"{__name__}:declared", "budget": {"epochs": 2}}
    found = check_experiment(made, "x")
    assert (found.unit, found.budget.examples) == ("tokens", 1280)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"workload": f"{__name__}:one_argument"}, r"called as train\(config, report\), but its signature is \(config"),
        ({"workload": f"{__name__}:wrongly_declared"}, "'metrics' of .* says for each metric 'minimize' or 'maximize'"),
        ({"workload": f"{__name__}:asynchronous"}, "called once and trains until .* it is 'async'; make"),
        ({"workload": f"{__name__}:an_object"}, "but it is 'async'"),
        ({"workload": f"{__name__}:generator"}, "but it is a generator, .* use report.* in the place of 'yield'"),
        ({"space": {"lr": 0.1, "budget_steps": 3}}, "'space': budget_steps is what a trial decides"),
        ({"workload": f"{__name__}:trains"}, "has no class or function 'trains'; did you mean 'train'"),
        ({"workload": f"{__name__}:declared", "target": "loss > 1"}, "improves by minimizing"),
        ({"workload": f"{__name__}:declared", "target": "acc > 1"}, "has no metric 'acc'; its metrics are loss"),
        ({"workload": f"{__name__}:declared", "batch_sizes": [641]}, "at most the training set of 640 tokens"),
        ({"workload": {"name": f"{__name__}:train", "lr": 3}}, "lr stands among the options and in 'space'"),
        ({"workload": {"name": f"{__name__}:train", "seed": 3}}, "options seed are what a trial decides"),
        ({"budget": {"epochs": 3}}, "does not say how large .* set its attribute, 'train.n_examples = ...' in its"),
        ({"target": "step < 3"}, "'step' is a column of our own"),
        ({"optimizer": "momentum"}, "optimizer 'momentum' needs momentum"),
        ({"execution": {"micro_batch": 4}}, "computes its updates itself"),
        ({"resources": {"silence_seconds": 0}}, "silence_seconds"),
        ({"workload": "digits_mlp", "target": "val_loss < 1", "optimizer": "own"}, "own is for a training function of"),
    ],
    ids=str,
)
def test_what_cannot_be_meant_is_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError) as caught:
        check_experiment({**FUNCTION, **changes}, "x")
    assert re.search(message, str(caught.value)), caught.value


def test_a_function_that_cannot_be_loaded_is_one_problem() -> None:
    with pytest.raises(InputError) as caught:
        check_experiment({**FUNCTION, "workload": "no_such_module:train"}, "x")
    assert len(caught.value.problems) == 1 and "no_such_module" in str(caught.value)
