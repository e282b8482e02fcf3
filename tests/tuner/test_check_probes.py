"""Probes are refused where they cannot be measured, before anything runs."""

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
    "probes": ["noise_scale", "weight_distance"],
}
MODULE = """
import torch
from bcrit.tuner.workloads.digits import DigitsMLP
from bcrit.search_spaces.target import Direction

class Named(DigitsMLP):
    metrics = {"val_loss": Direction.MINIMIZE, "temperature": Direction.MINIMIZE}

class Mixing(DigitsMLP):
    divisible = False

class Once(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        return x.clone()
    @staticmethod
    def backward(ctx, g):
        return g

class Opaque(DigitsMLP):
    def loss(self, outputs, targets):
        return super().loss(Once.apply(outputs), targets)

def train(config, report):
    report(step=1, val_loss=1.0)
"""


@pytest.fixture(autouse=True)
def _data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    write_idx(tmp_path / "images", n=120)
    write_text(tmp_path / "text.txt")
    (tmp_path / "probed_here.py").write_text(MODULE)


def images(**options: Any) -> dict[str, Any]:
    workload = {"name": "image_classifier", "data": "images", **options}
    return {**DIGITS, "workload": workload, "batch_sizes": [8, 32]}


@pytest.mark.parametrize(
    "good",
    [
        DIGITS,
        images(model="simple_cnn"),
        {**images(model="resnet_8"), "probes": ["weight_distance"]},
        {**DIGITS, "workload": "noisy_quadratic", "target": "risk < 0.1", "probes": []},
    ],
    ids=["digits", "images", "distances with batch norm", "no probes"],
)
def test_what_can_be_measured_is_taken(good: dict[str, Any]) -> None:
    assert list(check_experiment(good, "test").probes.measure) == good["probes"]


@pytest.mark.parametrize(
    ("bad", "why"),
    [
        (
            {**DIGITS, "workload": "noisy_quadratic", "target": "risk < 0.1"},
            "'probes': workload 'noisy_quadratic' computes its updates itself, where nothing can be probed; remove it",
        ),
        (
            {**DIGITS, "workload": "probed_here:train"},
            "'probes': workload 'probed_here:train' computes its updates itself",
        ),
        (images(model="resnet_8"), "(BatchNorm) normalises with the statistics of the batch"),
        (images(model="resnet_8", ghost_batch_size=8), "normalises with the statistics of the batch"),
        (
            {**DIGITS, "workload": "probed_here:Mixing"},
            "noise_scale cannot be measured on workload 'probed_here:Mixing': it says that its loss or model mixes",
        ),
        ({**DIGITS, "workload": "probed_here:Opaque"}, "workload 'probed_here:Opaque': RuntimeError: "),
        ({**DIGITS, "workload": "probed_here:Named"}, "the metric 'temperature' of 'probed_here:Named' is a probe's"),
        ({**DIGITS, "confirm": {"seeds": 0}}, "only confirming runs are probed, but 'confirm.seeds' is 0"),
        ({**DIGITS, "probes": ["sharpness"]}, "probes.measure"),
    ],
    ids=["no loop", "function", "batch norm", "ghost", "mixing", "opaque", "name", "unconfirmed", "unknown"],
)
def test_what_cannot_be_measured_is_refused_with_the_reason(bad: dict[str, Any], why: str) -> None:
    with pytest.raises(InputError, match=re.escape(why)):
        check_experiment(bad, "test")
