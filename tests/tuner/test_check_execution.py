"""What an experiment says of execution and GPUs, where nobody would read it or it would change the objective."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from bcrit.search_spaces.problems import InputError
from bcrit.tuner.check import check_experiment
from tests.tuner.workloads.files import write_idx, write_text

DIGITS: dict[str, Any] = {
    "workload": "digits_mlp",
    "batch_sizes": [16, 64],
    "target": "val_loss < 0.15",
    "space": {"lr": "log from 0.01 to 1", "momentum": 0.9},
    "budget": {"steps": 100},
}
QUADRATIC = {**DIGITS, "workload": "noisy_quadratic", "target": "risk < 0.1"}


@pytest.fixture(autouse=True)
def _data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    write_idx(tmp_path / "images", n=80)
    write_text(tmp_path / "text.txt")


def images(**options: Any) -> dict[str, Any]:
    workload = {"name": "image_classifier", "data": "images", "model": "resnet_8", **options}
    return {**DIGITS, "workload": workload, "batch_sizes": [8, 32]}


TEXT = {
    **DIGITS,
    "workload": {"name": "language_model", "data": "text.txt", "model": "gpt", "sequence_length": 8, "unit": "tokens"},
    "batch_sizes": [32, 64],
}


@pytest.mark.parametrize(
    "good",
    [
        {**DIGITS, "execution": {"micro_batch": 10, "precision": "bfloat16", "compile": True}},
        {**DIGITS, "resources": {"gpus": 0.25}},
        {**images(ghost_batch_size=8), "execution": {"micro_batch": 16}},
        {**images(), "execution": {"micro_batch": 32}},
        {**TEXT, "execution": {"micro_batch": 3}},  # sequences
        {**QUADRATIC, "execution": {"precision": "float32"}, "resources": {"gpus": 2}},
    ],
    ids=["all of it", "a share of a GPU", "ghost batches", "never divided", "rows of tokens", "the defaults"],
)
def test_what_fits_is_taken(good: dict[str, Any]) -> None:
    assert check_experiment(good, "x").execution.micro_batch == good.get("execution", {}).get("micro_batch")


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        ({**QUADRATIC, "execution": {"micro_batch": 4}}, r"'execution.micro_batch': .* computes its updates itself"),
        (
            {**QUADRATIC, "execution": {"compile": True}},
            r"'execution.compile': workload 'noisy_quadratic' .* remove it",
        ),
        ({**DIGITS, "resources": {"gpus": 2}}, "trains on one GPU or a share of one, but gpus is 2; write 1"),
        ({**images(), "execution": {"micro_batch": 16}}, "32 rows cannot be computed 16 at a time: its batch normalis"),
        ({**images(ghost_batch_size=8), "execution": {"micro_batch": 12}}, "ghost batches of 8 must stay whole"),
        ({**DIGITS, "execution": {"micro_batch": 0}}, "micro_batch"),
        ({**DIGITS, "execution": {"precision": "float16"}}, "float32.*bfloat16"),
        ({**DIGITS, "execution": {"microbatch": 8}}, "microbatch"),
    ],
    ids=["nobody reads it", "nobody compiles", "two GPUs", "batch norm", "ghost", "0", "float16", "misspelt"],
)
def test_what_does_not_fit_is_refused_with_its_remedy(bad: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError) as caught:
        check_experiment(bad, "x")
    assert re.search(message, str(caught.value), re.DOTALL), caught.value


def test_a_class_with_a_loop_of_its_own_would_not_read_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "own_loop.py").write_text(
        "from bcrit.tuner.workloads.digits import DigitsMLP\n"
        "class Own(DigitsMLP):\n"
        "    def begin(self, settings):\n"
        "        raise NotImplementedError\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(InputError, match="workload 'own_loop:Own' computes its updates itself"):
        check_experiment({**DIGITS, "workload": "own_loop:Own", "execution": {"micro_batch": 8}}, "x")


OWN = """
from bcrit.tuner.workloads.digits import DigitsMLP

class Own:  # a class of one's own, with nothing of SupervisedWorkload but what it declares
    unit, hyperparameters, divisible = "examples", (), True
    gives_model = our_loop = averages = True

    def __init__(self):
        self._digits = DigitsMLP()

    def __getattr__(self, name):
        if name in ("model", "rows", "sample", "loss", "training_loss"):
            return getattr(self._digits, name)
        raise AttributeError(name)

    metrics = property(lambda self: self._digits.metrics)
    n_examples = property(lambda self: self._digits.n_examples)

    def begin(self, settings):
        return self._digits.begin(settings)

class Silent(Own):
    our_loop = averages = False
"""


def test_a_class_of_the_user_s_own_can_offer_what_a_supervised_workload_does(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "declares.py").write_text(OWN)
    monkeypatch.syspath_prepend(tmp_path)
    asked = {"execution": {"micro_batch": 8}, "probes": ["noise_scale"], "target": "val_loss_ema < 0.15"}
    data = {**DIGITS, **asked, "space": {**DIGITS["space"], "ema_decay": 0.9}}
    assert check_experiment({**data, "workload": "declares:Own"}, "x").probes.measure == ("noise_scale",)
    with pytest.raises(InputError) as caught:
        check_experiment({**data, "workload": "declares:Silent"}, "x")
    for problem in ("no metric 'val_loss_ema'", "'space.ema_decay': neither", "'execution.micro_batch': workload"):
        assert problem in str(caught.value)
