"""The classifiers by parameter counts worked out by hand from the papers' tables, and what is the workload's own."""

import re
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from bcrit.search_spaces.dimensions import Value
from bcrit.tuner.training.settings import Settings
from bcrit.tuner.workloads.image_classifier import ImageClassifier, read_classifier
from bcrit.tuner.workloads.layers import GhostBatchNorm, batch_normalisation

CNN = {"name": "simple_cnn", "filters": [3, 4], "hidden": 8}


def settings(batch_size: int = 16, lr: float = 0.1, **others: Value) -> Settings:
    return Settings(batch_size, 0, "momentum", {"lr": lr, "momentum": 0.8, **others})


def test_a_new_run_of_the_same_workload_reads_and_copies_no_data(
    pictured: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    workload = ImageClassifier(pictured, CNN)
    workload.begin(settings()).train(1)
    monkeypatch.setattr("builtins.open", None)
    monkeypatch.setattr(np, "memmap", None)
    workload.begin(settings()).train(1)
    image = workload._train[0]
    assert image.dtype == torch.uint8
    if not torch.cuda.is_available():  # the very memory of the file
        assert image.data_ptr() == workload._images.train_images.ctypes.data


def test_label_smoothing_means_what_the_option_says(pictured: dict[str, Any]) -> None:
    losses = []
    for over, eps in (("all", 0.3), ("others", 0.2)):  # the same with three classes
        run = ImageClassifier(pictured, CNN, label_smoothing_over=over).begin(settings(label_smoothing=eps))
        run.train(3)
        losses.append(run.evaluate()["val_loss"])
    assert losses[0] == pytest.approx(losses[1], rel=1e-6)


def test_train_loss_is_the_loss_on_a_fixed_part_of_the_training_set(pictured: dict[str, Any]) -> None:
    workload = ImageClassifier(pictured, "fc_16", train_loss_examples=48)
    run = workload.begin(settings())
    run.train(3)
    metrics = run.evaluate()
    inputs, targets = workload._judged
    with torch.no_grad():
        outputs = run.model.eval()(workload._train[0])
    assert metrics["train_loss"] == pytest.approx(workload.loss(outputs, workload._train[1]).item())
    assert metrics["train_loss"] != metrics["val_loss"]
    assert len(inputs) == 24 + 48
    assert sorted(targets[24:].tolist()) == sorted(workload._train[1].tolist())
    plain = ImageClassifier(pictured, "fc_16").begin(settings())
    plain.train(3)
    assert {name: value for name, value in metrics.items() if name != "train_loss"} == pytest.approx(plain.evaluate())


def test_hyperparameters_are_those_that_the_model_has() -> None:
    assert ImageClassifier(model="fc_16").hyperparameters == ("label_smoothing", "dropout")
    assert ImageClassifier(model="resnet_8").hyperparameters == ("label_smoothing",)


MNIST, CIFAR, IMAGENET = (1, 28, 28), (3, 32, 32), (3, 224, 224)


def dense(inputs: int, outputs: int) -> int:
    return inputs * outputs + outputs


def conv(before: int, after: int, size: int, bias: bool = True) -> int:
    return before * after * size**2 + after * bias


def norm(channels: int) -> int:
    return 2 * channels


RESNET_8 = (
    conv(3, 16, 3, bias=False) + norm(16)
    + 2 * (conv(16, 16, 3, bias=False) + norm(16))
    + conv(16, 32, 3, bias=False) + conv(32, 32, 3, bias=False) + 2 * norm(32)
    + conv(32, 64, 3, bias=False) + conv(64, 64, 3, bias=False) + 2 * norm(64)
    + dense(64, 10)
)  # fmt: skip

VGG_11 = (
    sum(conv(before, after, 3) + norm(after) for before, after in pairwise((3, 64, 128, 256, 256, 512, 512, 512, 512)))
    + dense(512 * 7 * 7, 4096) + dense(4096, 4096) + dense(4096, 1000)
)  # fmt: skip

COUNTS: dict[str, tuple[Any, tuple[int, int, int], int, int]] = {
    "fc_1024": ("fc_1024", MNIST, 10, dense(784, 1024) + dense(1024, 10)),
    "fc_1024_1024": ("fc_1024_1024", MNIST, 10, dense(784, 1024) + dense(1024, 1024) + dense(1024, 10)),
    "fc_64^3": ("fc_64_64_64", MNIST, 10, dense(784, 64) + 2 * dense(64, 64) + dense(64, 10)),
    "f1": ("f1", MNIST, 10, dense(784, 512) + 4 * dense(512, 512) + 5 * norm(512) + dense(512, 10)),
    "simple_cnn_base": ("simple_cnn_base", MNIST, 10, 3_274_634),  # 832 + 51,264 + 3,212,288 + 10,250
    "simple_cnn_narrow": (
        "simple_cnn_narrow", MNIST, 10, conv(1, 16, 5) + conv(16, 32, 5) + dense(7 * 7 * 32, 512) + dense(512, 10)
    ),
    "simple_cnn_wide": (
        "simple_cnn_wide", MNIST, 10, conv(1, 64, 5) + conv(64, 128, 5) + dense(7 * 7 * 128, 2048) + dense(2048, 10)
    ),
    "simple_cnn on SVHN": (
        "simple_cnn_base", CIFAR, 10, conv(3, 32, 5) + conv(32, 64, 5) + dense(8 * 8 * 64, 1024) + dense(1024, 10)
    ),
    "a simple_cnn of one's own": (
        {"name": "simple_cnn", "filters": [4, 8], "hidden": 32}, MNIST, 10,
        conv(1, 4, 5) + conv(4, 8, 5) + dense(7 * 7 * 8, 32) + dense(32, 10),
    ),
    "resnet_8": ("resnet_8", CIFAR, 10, RESNET_8),
    "resnet_50": ("resnet_50", IMAGENET, 1000, 25_557_032),  # as He et al.'s released model
    "vgg_11": ("vgg_11", IMAGENET, 1000, VGG_11),
}  # fmt: skip


def build(name: Any, shape: tuple[int, int, int], n_classes: int, ghost: int | None = None) -> nn.Module:
    model = read_classifier(name)
    return model.build(shape, n_classes, model.dropout or 0.0, batch_normalisation(ghost))


@pytest.mark.parametrize(("name", "shape", "n_classes", "count"), COUNTS.values(), ids=COUNTS)
def test_shapes_and_parameter_counts(name: Any, shape: tuple[int, int, int], n_classes: int, count: int) -> None:
    with torch.device("meta"):  # shapes without numbers: ResNet-50 and VGG-11 cost nothing
        model = build(name, shape, n_classes)
        assert model(torch.empty(2, *shape)).shape == (2, n_classes)
    assert sum(parameter.numel() for parameter in model.parameters()) == count


def test_the_counts_by_hand_are_the_known_ones() -> None:
    assert RESNET_8 == 75_290
    assert VGG_11 == 132_868_840


@pytest.mark.parametrize(("name", "layers"), [("resnet_8", 8), ("resnet_50", 50), ("vgg_11", 11)])
def test_the_number_in_the_name_counts_layers_with_weights_outside_of_shortcuts(name: str, layers: int) -> None:
    with torch.device("meta"):
        model = build(name, CIFAR, 10)
    weighted = [
        path for path, layer in model.named_modules()
        if isinstance(layer, nn.Conv2d | nn.Linear) and "shortcut" not in path
    ]  # fmt: skip
    assert len(weighted) == layers


def test_a_residual_block_starts_from_its_shortcut() -> None:
    model = build("resnet_8", CIFAR, 10)
    assert isinstance(model, nn.Sequential)
    block = list(model)[4]  # 16 to 32 channels, stride 2
    for layer in block.modules():
        if isinstance(layer, nn.Conv2d):
            nn.init.zeros_(layer.weight)
    images = torch.rand(2, 16, 8, 8)
    outputs = block(images)
    torch.testing.assert_close(outputs[:, :16], images[:, :, ::2, ::2])
    assert not outputs[:, 16:].any()


@pytest.mark.parametrize("name", ["f1", "resnet_8", "resnet_50", "vgg_11"])
def test_ghost_batch_normalisation_takes_the_place_of_every_layer(name: str) -> None:
    with torch.device("meta"):
        plain, ghost = build(name, CIFAR, 10), build(name, CIFAR, 10, ghost=4)
    n_plain = sum(isinstance(layer, nn.BatchNorm2d) for layer in plain.modules())
    ghosts = [layer for layer in ghost.modules() if isinstance(layer, GhostBatchNorm)]
    assert len(ghosts) == n_plain > 0
    assert {layer.ghost_size for layer in ghosts} == {4}
    assert not any(isinstance(layer, nn.BatchNorm2d) for layer in ghost.modules())


def test_ghost_batches_change_nothing_but_the_groups() -> None:
    torch.manual_seed(0)
    images = torch.rand(8, 3, 8, 8)
    torch.manual_seed(1)
    ghost = build("resnet_8", (3, 8, 8), 10, ghost=4)
    torch.manual_seed(1)
    plain = build("resnet_8", (3, 8, 8), 10)
    expected = torch.cat([plain(half) for half in torch.split(images, 4)])
    torch.testing.assert_close(ghost(images), expected, atol=1e-5, rtol=1e-5)


def test_normalisation_of_vectors_is_pytorchs_own() -> None:
    vectors = torch.randn(6, 3)
    torch.testing.assert_close(batch_normalisation(None)(3)(vectors), nn.BatchNorm1d(3)(vectors))
    with pytest.raises(ValueError, match="expected 4D input"):
        batch_normalisation(None)(3)(torch.randn(6, 3, 5))


@pytest.mark.parametrize("name", ["fc_64", "f1", "simple_cnn_base", "vgg_11"])
def test_dropout_is_where_it_is_asked_for(name: str) -> None:
    with torch.device("meta"):
        model = read_classifier(name).build(CIFAR, 10, 0.25, batch_normalisation(None))
    rates = {layer.p for layer in model.modules() if isinstance(layer, nn.Dropout)}
    assert rates == {0.25}


REFUSED: dict[str, tuple[Any, str]] = {
    "unknown": ("resnet_9", "there is no model 'resnet_9'; did you mean 'resnet_8'? the models are simple_cnn_base"),
    "unknown size": ({"name": "resnet_8", "width": 3}, "option 'model': there is no key 'width'"),
    "bad size": ({"name": "simple_cnn", "filters": [0]}, "option 'model': 'filters.0'"),
    "no size": ("fully_connected", "option 'model': 'widths' is missing; add it"),
    "no name": ({"filters": [1]}, "'model' must be a name or a mapping with 'name'"),
    "a number": (3, "'model' must be a name or a mapping with 'name', but it is 3"),
    "fc of nothing": ("fc_0", "there is no model 'fc_0'"),
}


@pytest.mark.parametrize(("given", "message"), REFUSED.values(), ids=REFUSED)
def test_what_is_no_model_is_refused(given: Any, message: str) -> None:
    with pytest.raises(ValueError, match=re.escape(message)):
        read_classifier(given)


def test_vgg_11_refuses_images_that_are_too_small() -> None:
    with pytest.raises(ValueError, match="at least 32 x 32 pixels, but they have 28 x 28; set 'image_size: 32'"):
        build("vgg_11", MNIST, 10)
