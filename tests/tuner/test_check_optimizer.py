"""Optimizers that do not exist, do not fit the workload or refuse what the space gives them."""

from __future__ import annotations

import re
from typing import Any

import pytest

from bcrit.search_spaces.problems import InputError
from bcrit.search_spaces.target import Direction
from bcrit.tuner.check import check_experiment
from tests.scripted import ExactHyperbola

GOOD: dict[str, Any] = {
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
    assert check_experiment({**GOOD, **changes}, "x").optimizer == str({**GOOD, **changes}["optimizer"]).lower()


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
        check_experiment({**GOOD, **changes}, "x")
    assert re.search(message, str(caught.value)), caught.value


def test_the_scripted_workload_has_the_metric_that_is_used_here() -> None:
    assert OwnOptimizer().metrics == {"loss": Direction.MINIMIZE}
