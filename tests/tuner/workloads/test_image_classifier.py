from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from bcrit.search_spaces.dimensions import Value
from bcrit.tuner.training.settings import Settings
from bcrit.tuner.workloads.image_classifier import ImageClassifier
from tests.tuner.workloads.files import write_idx

CNN = {"name": "simple_cnn", "filters": [3, 4], "hidden": 8}


@pytest.fixture
def source(tmp_path: Path) -> dict[str, Any]:
    write_idx(tmp_path / "data", n=72)
    return {"source": str(tmp_path / "data"), "validation": 24, "cache": str(tmp_path / "cache")}


def settings(batch_size: int = 16, lr: float = 0.1, **others: Value) -> Settings:
    return Settings(batch_size, 0, "momentum", {"lr": lr, "momentum": 0.8, **others})


@pytest.mark.parametrize("model", [CNN, "fc_16", {"name": "resnet_8"}], ids=["cnn", "fc", "resnet"])
def test_it_learns(source: dict[str, Any], model: Any) -> None:
    workload = ImageClassifier(source, model)
    assert workload.n_examples == 48
    run = workload.begin(settings())
    before = run.evaluate()
    assert set(before) == set(workload.metrics)
    run.train(60)
    after = run.evaluate()
    assert after["val_loss"] < 0.5 * before["val_loss"]
    assert after["val_error"] == pytest.approx(1 - after["val_accuracy"])


def test_no_data_are_loaded_before_they_are_asked_for() -> None:
    workload = ImageClassifier({"source": "/not/there"})
    with pytest.raises(ValueError, match="there is no file or folder '/not/there'"):
        _ = workload.n_examples


def test_a_new_run_of_the_same_workload_reads_and_copies_no_data(
    source: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    workload = ImageClassifier(source, CNN)
    workload.begin(settings()).train(1)
    monkeypatch.setattr("builtins.open", None)
    monkeypatch.setattr(np, "memmap", None)
    workload.begin(settings()).train(1)
    image = workload._train[0]
    assert image.dtype == torch.uint8
    if not torch.cuda.is_available():  # the very memory of the file
        assert image.data_ptr() == workload._images.train_images.ctypes.data


def test_runs_do_not_change_the_data(source: dict[str, Any]) -> None:
    workload = ImageClassifier(source, CNN)
    before = workload.train_data()[0].clone()
    workload.begin(settings()).train(20)
    assert torch.equal(workload.train_data()[0], before)


def test_the_same_settings_give_the_same_bits_and_the_seed_the_same_start(source: dict[str, Any]) -> None:
    workload = ImageClassifier(source, {**CNN}, train_loss_examples=10)
    curves = []
    for _ in range(2):
        run = workload.begin(settings(dropout=0.2, label_smoothing=0.1))
        run.train(5)
        curves.append(run.evaluate())
    assert curves[0] == curves[1]
    starts = [workload.begin(settings(batch_size)).evaluate() for batch_size in (4, 48)]
    assert starts[0] == starts[1]


def test_label_smoothing_changes_training_and_not_how_runs_are_judged(source: dict[str, Any]) -> None:
    curves = {}
    for name, over, eps in (("none", "all", 0.0), ("all", "all", 0.3), ("others", "others", 0.2)):
        run = ImageClassifier(source, CNN, label_smoothing_over=over).begin(settings(label_smoothing=eps))
        curves[name] = [run.evaluate()["val_loss"]]
        run.train(3)
        curves[name].append(run.evaluate()["val_loss"])
    assert curves["none"][0] == curves["all"][0]
    assert curves["none"][1] != curves["all"][1]
    # With three classes, 0.2 over the others is 0.3 over all.
    assert curves["others"][1] == pytest.approx(curves["all"][1], rel=1e-6)


def test_train_loss_is_the_loss_on_a_fixed_part_of_the_training_set(source: dict[str, Any]) -> None:
    workload = ImageClassifier(source, "fc_16", train_loss_examples=48)
    run = workload.begin(settings())
    run.train(3)
    metrics = run.evaluate()
    inputs, targets = workload._judged
    with torch.no_grad():
        outputs = run._model.eval()(workload._train[0])
    assert metrics["train_loss"] == pytest.approx(workload.loss(outputs, workload._train[1]).item())
    assert metrics["train_loss"] != metrics["val_loss"]
    assert len(inputs) == 24 + 48
    assert sorted(targets[24:].tolist()) == sorted(workload._train[1].tolist())
    plain = ImageClassifier(source, "fc_16").begin(settings())
    plain.train(3)
    assert {name: value for name, value in metrics.items() if name != "train_loss"} == pytest.approx(plain.evaluate())


def test_ghost_batches_are_refused_before_training_where_they_do_not_divide(source: dict[str, Any]) -> None:
    workload = ImageClassifier(source, "resnet_8", ghost_batch_size=8)
    workload.begin(settings(24)).train(1)
    with pytest.raises(ValueError, match="'ghost_batch_size' must divide every batch size, but 8 does not divide 12"):
        workload.begin(settings(12))


def test_hyperparameters_are_those_that_the_model_has() -> None:
    assert ImageClassifier(model="fc_16").hyperparameters == ("label_smoothing", "dropout")
    assert ImageClassifier(model="resnet_8").hyperparameters == ("label_smoothing",)


def test_dropout_comes_from_the_settings_before_the_model(source: dict[str, Any]) -> None:
    model = ImageClassifier(source, "fc_16").model(settings(dropout=0.5))
    assert [layer.p for layer in model.modules() if isinstance(layer, nn.Dropout)] == [0.5]


REFUSED: dict[str, tuple[dict[str, Any], str]] = {
    "smoothing": ({"label_smoothing_over": "some"}, "'label_smoothing_over' is 'some', but must be one of all: eps"),
    "ghosts without normalisation": ({"ghost_batch_size": 8}, "has no batch normalisation; remove 'ghost_batch_size'"),
    "half a ghost": ({"model": "resnet_8", "ghost_batch_size": 4.0}, "must be a whole number from 1, but it is 4.0"),
    "a word": ({"model": "resnet_8", "ghost_batch_size": "four"}, "'ghost_batch_size' must be a whole number from 1"),
    "a list": ({"label_smoothing_over": [1]}, "'label_smoothing_over' is [1], but must be one of all: eps"),
    "no ghosts": ({"model": "resnet_8", "ghost_batch_size": 0}, "'ghost_batch_size' must be a whole number from 1"),
    "model": ({"model": "cnn"}, "there is no model 'cnn'"),
    "data": ({"data": {"sauce": "mnist"}}, "option 'data'"),
}


@pytest.mark.parametrize(("options", "message"), REFUSED.values(), ids=REFUSED)
def test_wrong_options_are_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=re.escape(message)):
        ImageClassifier(**options)
